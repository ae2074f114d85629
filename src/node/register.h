/* SPDX-License-Identifier: Apache-2.0 */
/* The Node object: made, kept true, and its heartbeat. */
#pragma once

#include "kube/client.h"
#include "node/node.h"

typedef struct wh_register wh_register;
typedef struct wh_register_options {
    const char *name, *ip; /* ip: InternalIP */
    int kubelet_port;
    wh_strv labels; /* "key=value", besides our own */
    wh_strv taints; /* "key=value:Effect"; at creation only */
    size_t max_pods;
    int64_t cpu_millis, memory_bytes, ephemeral_bytes;
} wh_register_options;

int wh_register_start(wh_loop *loop, wh_node *node, wh_kube *kube, const wh_register_options *options,
                      wh_register **ret, wh_err *err);
void wh_register_free(wh_register *reg);
/* Why the node is not ready, or NULL when it is. Borrowed for ever. */
void wh_register_set_ready(wh_register *reg, const char *why_not);
const char *wh_register_node_uid(const wh_register *reg); /* NULL until known */
