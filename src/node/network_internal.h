/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the shared pod network: netlink, the namespace, who has which address. */
#pragma once

#include "node/network.h"

#include <netinet/in.h>

#define WH_NETWORK_LINK "wherry0" /* our end of the pair */
#define WH_NETWORK_PEER "eth0"    /* the pods' end */
#define WH_NETWORK_GATEWAY4 "169.254.7.1"
#define WH_NETWORK_GATEWAY6 "fe80::1" /* and the pods' end is fe80::2 */
#define WH_NETWORK_PROTOCOL 119       /* tag of the routes that are ours (rtm_protocol) */
#define WH_NETWORK_PODS_MAX 65536     /* addresses of a node */

/* ---- network_link.c: route netlink; each call waits for the kernel's answer ---- */
int wh_link_open(int *ret_fd); /* acts in the namespace that it was opened in, for ever */
int wh_link_up(int nl, const char *name);
int wh_link_index(int nl, const char *name); /* or a negative errno */
/* A pair: `name` here, `peer` in the namespace. */
int wh_link_pair(int nl, const char *name, const char *peer, int namespace_fd);
int wh_link_address(int nl, const char *name, const wh_addr *addr, unsigned prefix);
typedef struct wh_route {
    wh_addr dst; /* of any port */
    unsigned prefix;
    const wh_addr *via;    /* NULL: on the link */
    const wh_addr *source; /* NULL: as the kernel chooses */
    const char *link;
} wh_route;
int wh_link_route(int nl, const wh_route *route); /* replaces */
/* A pod's address: a local route and nothing else. -EEXIST: it is there already. */
int wh_link_local(int nl, const wh_addr *addr, bool add);
/* Each local route that carries our tag. */
int wh_link_locals(int nl, void (*each)(void *user, const wh_addr *addr), void *user);

/* ---- network_ns.c ---- */
/* Makes or finds the namespace that is mounted on `path`; *ret_nl is a netlink socket inside. */
int wh_netns_open(const char *path, int *ret_ns, int *ret_nl, wh_err *err);
/* Link, addresses and routes on both sides. Says what could not be had in *ret_weaker. */
int wh_netns_connect(const wh_network_options *options, int ns, int nl, char **ret_weaker, wh_err *err);

/* ---- network_table.c ---- */
typedef struct wh_addresses wh_addresses;
/* Reads the table that an earlier agent left; a file that cannot be read is an empty one. */
int wh_addresses_open(const char *path, const wh_network_options *options, wh_addresses **ret, wh_err *err);
void wh_addresses_free(wh_addresses *table);
/* The pod's addresses, the ones it had if there is an entry. -EADDRNOTAVAIL. */
int wh_addresses_take(wh_addresses *table, const char *id, wh_addr ret[2], size_t *ret_n, wh_err *err);
void wh_addresses_give(wh_addresses *table, const char *id);
bool wh_addresses_has(const wh_addresses *table, const wh_addr *addr);
/* Gives back what `keep` does not want. */
void wh_addresses_sweep(wh_addresses *table, bool (*keep)(void *user, const char *id), void *user);
void wh_addresses_each(const wh_addresses *table, void (*each)(void *user, const wh_addr *addr), void *user);
