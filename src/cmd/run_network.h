/* SPDX-License-Identifier: Apache-2.0 */
/* The network of a guest in the foreground: a wherry-netd of its own, with the caller's rights. */
#pragma once

#include "netd/netd.h"
#include "node/paths.h"

typedef struct wh_run_network {
    wh_netd *netd;
    wh_egress_rule *rules;
    char *resolv_conf, *hosts;
} wh_run_network;

/* Starts netd with what the guest may reach: NULL public addresses, "none" nothing, else these rules and nothing more.
 * *ret_fd is the channel for the runner's spec, the caller's to close. */
int wh_run_network_start(wh_run_network *net, wh_loop *loop, const wh_paths *paths, const char *egress,
                         int *ret_fd, wh_err *err);
void wh_run_network_done(wh_run_network *net);
