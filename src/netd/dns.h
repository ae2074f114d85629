/* SPDX-License-Identifier: Apache-2.0 */
/* What a look-up needs besides sockets: a pod's resolv.conf and hosts file, and messages (RFC 1035) through c-ares.
 * Pure. */
#pragma once

#include "netd/policy.h"

#define WH_DNS_SERVERS_MAX 3 /* as resolv.conf(5) */
#define WH_DNS_SEARCH_MAX 32 /* as Kubernetes */
#define WH_DNS_MESSAGE_MAX 65535
#define WH_DNS_TYPE_A 1
#define WH_DNS_TYPE_AAAA 28

typedef struct wh_dns_conf {
    wh_addr servers[WH_DNS_SERVERS_MAX];
    size_t n_servers;
    char *search[WH_DNS_SEARCH_MAX];
    size_t n_search;
    unsigned ndots, timeout_s, attempts;
} wh_dns_conf;

/* NULL is an empty file. Lines that are not understood are passed over, as everybody does. */
void wh_dns_conf_read(const char *text, wh_dns_conf *ret);
void wh_dns_conf_done(wh_dns_conf *conf);
/* The i-th name to ask for, without a dot at the end; false when there is none. */
bool wh_dns_candidate(const wh_dns_conf *conf, const char *name, size_t i, char out[WH_NETD_NAME_MAX + 1]);
/* Addresses of the name in a hosts file, IPv4 and IPv6 as wanted; how many. */
size_t wh_dns_hosts(const char *text, const char *name, bool want4, bool want6, wh_netd_ip *out, size_t max);

/* A query as it goes over UDP. *ret is freed by wh_dns_free. */
int wh_dns_query(const char *name, int type, uint16_t id, uint8_t **ret, size_t *ret_n);
void wh_dns_free(uint8_t *query);

typedef enum {
    WH_DNS_FOREIGN,   /* no answer to this query: wait on */
    WH_DNS_ADDRESSES, /* maybe none of this type */
    WH_DNS_NO_NAME,
    WH_DNS_TRUNCATED, /* ask again over TCP */
    WH_DNS_FAILED,    /* the server cannot say */
} wh_dns_verdict;
/* Judges what came in and appends its addresses. */
wh_dns_verdict wh_dns_answer(const uint8_t *query, size_t query_n, const uint8_t *data, size_t n, int type,
                             wh_netd_ip *out, size_t max, size_t *n_out);
