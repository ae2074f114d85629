/* SPDX-License-Identifier: Apache-2.0 */
/* The node's heartbeat: Lease kube-node-lease/<node>, 40 s, renewed every 10 s. */
#pragma once

#include "kube/client.h"

typedef struct wh_lease wh_lease;
typedef struct wh_lease_options {
    const char *node_name;
    const char *node_uid;                            /* owner reference, when known; may be NULL */
    wh_time duration;                                /* 0: 40 s */
    wh_time interval;                                /* 0: a quarter of the duration */
    void (*on_renewed)(void *user);                  /* may be NULL */
    void (*on_error)(const wh_err *err, void *user); /* a renewal failed: tried again soon. May be NULL */
    void *user;
} wh_lease_options;

wh_lease *wh_lease_start(wh_kube *kube, const wh_lease_options *options);
void wh_lease_set_node_uid(wh_lease *lease, const char *uid);
wh_time wh_lease_renewed_at(const wh_lease *lease); /* monotonic; 0: never yet */
void wh_lease_free(wh_lease *lease);
