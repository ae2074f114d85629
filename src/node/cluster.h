/* SPDX-License-Identifier: Apache-2.0 */
/* Membership in a cluster: identity (TLS bootstrap and rotation), registration, pods, the kubelet API. */
#pragma once

#include "node/node.h"
#include "node/register.h"

typedef struct wh_cluster wh_cluster;
typedef struct wh_cluster_options {
    const char *kubeconfig;           /* as a node, or NULL */
    const char *bootstrap_kubeconfig; /* with a bootstrap token, or NULL */
    const char *state_dir;            /* certificates go below it */
    const char *listen, *healthz;
    uint64_t api_qps;           /* requests a second to the API server; twice as many in a burst */
    const char *client_ca_file; /* who may sign callers of the kubelet API; NULL: the API server's CA */
    wh_register_options node;
} wh_cluster_options;

int wh_cluster_start(wh_loop *loop, wh_node *node, const wh_cluster_options *options, wh_cluster **ret,
                     wh_err *err);
void wh_cluster_free(wh_cluster *cluster);
