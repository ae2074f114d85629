/* SPDX-License-Identifier: Apache-2.0 */
/* What a pod may reach and where it may listen. Pure: no clock, no socket. */
#pragma once

#include "netd/protocol.h"

/* An address without its port, as a key. IPv4 in IPv6 clothes is IPv4. */
typedef struct wh_netd_ip {
    uint8_t family; /* 4, 6; 0: none */
    uint8_t bytes[16];
} wh_netd_ip;

typedef enum {
    WH_TARGET_PUBLIC,
    WH_TARGET_PRIVATE,
    WH_TARGET_LINK_LOCAL,
    WH_TARGET_LOOPBACK,
    WH_TARGET_METADATA, /* of clouds: answers with credentials */
    WH_TARGET_NEVER,    /* multicast, broadcast, reserved */
} wh_netd_class;

typedef struct wh_netd_known {
    wh_netd_ip ip;
    char *name; /* lower case */
} wh_netd_known;

typedef struct wh_netd_policy {
    wh_netd_ip own4, own6;
    uint16_t *ports;
    size_t n_ports;
    bool closed, isolated;
    wh_egress_rule *rules; /* hosts in lower case */
    size_t n_rules;
    char *resolv_conf, *hosts;
    wh_netd_known *known; /* a ring */
    size_t n_known, next_known;
} wh_netd_policy;

/* What is true for all pods. */
typedef struct wh_netd_world {
    wh_netd_ip node[WH_NETD_NODE_ADDRESSES_MAX];
    size_t n_node;
    bool (*is_pod)(void *user, const wh_netd_ip *ip);
    void *user;
} wh_netd_world;

/* -EAFNOSUPPORT unless it is IPv4 or IPv6; -EINVAL with an IPv6 scope. */
int wh_netd_ip_of(const struct sockaddr_storage *addr, wh_netd_ip *ret);
bool wh_netd_ip_eq(const wh_netd_ip *a, const wh_netd_ip *b);
bool wh_netd_ip_is_any(const wh_netd_ip *ip);
void wh_netd_ip_addr(const wh_netd_ip *ip, uint16_t port, wh_addr *ret);
bool wh_netd_ip_in(const wh_netd_ip *ip, const wh_netd_ip *net, unsigned prefix);
/* By the address alone. NAT64 and 6to4 addresses are of the class of the IPv4 address inside. */
wh_netd_class wh_netd_classify(const wh_netd_ip *ip);

/* From a control message. -EBADMSG, -E2BIG; *ret is untouched then. */
int wh_netd_policy_read(const void *record, size_t n, wh_netd_policy *ret, wh_err *err);
void wh_netd_policy_done(wh_netd_policy *policy);

/* Where a pod's listener binds. -EADDRNOTAVAIL: not its address; -EACCES: not its port. */
int wh_netd_policy_listen(const wh_netd_policy *policy, const struct sockaddr_storage *asked, wh_addr *ret,
                          const char **ret_reason);
/* Where a connect goes and from where (source->len 0: as the kernel chooses). -EACCES, -ENETUNREACH when the pod has
 * no address of that family, -EINVAL. *ret_reason is set with every failure. */
int wh_netd_policy_connect(const wh_netd_policy *policy, const wh_netd_world *world,
                           const struct sockaddr_storage *asked, wh_addr *ret, wh_addr *ret_source,
                           const char **ret_reason);
/* A look-up of the pod for `name` yielded this. Remembered when a rule by host asks for it. */
void wh_netd_policy_learn(wh_netd_policy *policy, const char *name, const wh_netd_ip *ip);
/* A host name: letters, digits, '-', '_' and '.', labels of 1 to 63 bytes; one dot at the end is fine. */
bool wh_netd_name_ok(const char *name);

/* The fixed-size request, byte by byte. -EPROTO: another version; -EINVAL, -EMSGSIZE. */
int wh_netd_request_check(const void *data, size_t n);
