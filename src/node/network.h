/* SPDX-License-Identifier: Apache-2.0 */
/* The network of this node's pods: addresses, the namespace they live in, netd. */
#pragma once

#include "loop/loop.h"
#include "net/addr.h"
#include "netd/netd.h"

typedef struct wh_network wh_network;

typedef enum {
    WH_NETWORK_HOST,   /* all pods on the host's addresses: rootless, or where no namespace can be had */
    WH_NETWORK_SHARED, /* one namespace for all pods, a local route for each */
} wh_network_mode;

typedef struct wh_network_options {
    wh_network_mode mode;
    wh_addr cidr4, cidr6; /* of pods; len 0: none of that family */
    unsigned prefix4, prefix6;
    /* Networks of the cluster's pods and Services, with commas between: open to pods that are not `closed`, and pods
     * are known there by their own addresses; elsewhere they go as the node. NULL: cidr4 and cidr6 only. */
    const char *cluster_cidrs;
    wh_addr host_address; /* that listeners of pods in HOST mode bind to; len 0: all addresses */
    const char *netd_program;
    uid_t netd_uid;        /* that netd runs as; ignored when we are not root */
    const char *state_dir; /* keeps the namespace's file and the table of addresses */
    /* netd ended and another one serves: channels of runners are dead, wh_network_pod_channel gives new ones. */
    void (*on_restart)(void *user);
    /* What netd did not let a pod do; it is logged already. Both may be NULL. */
    void (*on_refused)(void *user, const char *pod, const char *target, const char *reason);
    void *user;
} wh_network_options;

/* Makes or finds the namespace; routes are compared with the pods later (wh_network_adopt). A mode that cannot be
 * had falls back to HOST. *ret_weaker, the caller's, says that and what else is missing; NULL: nothing. -EINVAL for
 * a CIDR without room. */
int wh_network_new(wh_loop *loop, const wh_network_options *options, wh_network **ret, char **ret_weaker,
                   wh_err *err);
void wh_network_free(wh_network *network); /* pods keep their addresses and listeners */
wh_network_mode wh_network_mode_of(const wh_network *network);

/* Gives the pod its addresses (the ones it had before, if the table knows it) and tells netd its rules;
 * pod->addresses is not read. A known pod gets the new rules. On the host's addresses, without a resolv_conf, the
 * host's is taken. ret_addresses has room for two. -EADDRNOTAVAIL: none is left. */
int wh_network_pod_add(wh_network *network, const wh_netd_pod *pod, bool host_network,
                       wh_addr ret_addresses[2], size_t *ret_n, wh_err *err);
int wh_network_pod_remove(wh_network *network, const char *id, wh_err *err);
/* A runner's channel, and a listener on the pod's own address. */
int wh_network_pod_channel(wh_network *network, const char *id, int *ret_fd, wh_err *err);
int wh_network_pod_listen(wh_network *network, const char *id, uint16_t port, int ret_fds[2], size_t *ret_n,
                          wh_err *err); /* one socket a family */
/* Connects from the node to a pod (probes): non-blocking, under way or done. */
int wh_network_dial(wh_network *network, const wh_addr *peer, int *ret_fd, wh_err *err);
/* All that the node knows, once each was added; whatever else the table, the routes and netd hold is taken away. An
 * id that was not added yet keeps its addresses, and netd keeps what an earlier agent said. */
void wh_network_adopt(wh_network *network, const char *const *ids, size_t n);
