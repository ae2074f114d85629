/* SPDX-License-Identifier: Apache-2.0 */
/* netd itself: control.c takes what the agent says, server.c what pods ask, resolve.c looks names up. */
#pragma once

#include "loop/loop.h"
#include "netd/policy.h"

#include <sys/queue.h>
#define uthash_fatal(msg) wh_panic(__FILE__, __LINE__, __func__, msg)
#include <uthash.h>

typedef struct wh_netd_server wh_netd_server;
typedef struct netd_pod netd_pod;
typedef struct netd_channel netd_channel;
typedef struct netd_pending netd_pending;
typedef struct netd_lookup netd_lookup;

struct netd_pod {
    UT_hash_handle hh;       /* by id */
    UT_hash_handle hh4, hh6; /* by address */
    char *id;
    wh_netd_server *server;
    wh_netd_policy policy;
    LIST_HEAD(, netd_channel) channels;
    size_t n_channels, n_pending;
    bool said; /* since the agent's hello */
};

typedef struct netd_unsent {
    STAILQ_ENTRY(netd_unsent) link;
    int fd;
    size_t n;
    wh_netd_answer answer;
} netd_unsent;

struct netd_channel {
    LIST_ENTRY(netd_channel) link;
    netd_pod *pod;
    int fd;
    wh_io io;
    LIST_HEAD(, netd_pending) pending;
    STAILQ_HEAD(, netd_unsent) unsent; /* while any waits, nothing is read */
    size_t n_pending;
};

struct netd_pending { /* a request that is not answered yet */
    LIST_ENTRY(netd_pending) link;
    netd_channel *channel;
    uint64_t token;
    int fd; /* that connects; -1: a look-up */
    wh_io io;
    wh_timer timer;
    netd_lookup *lookup;
    char *name;
};

struct wh_netd_server {
    wh_loop *loop;
    int control_fd, listener_fd; /* -1: none */
    uid_t agent_uid;             /* who may come by the listener */
    wh_io control, listener;
    netd_pod *by_id, *by_ip4, *by_ip6;
    size_t n_channels;
    wh_netd_world world;
    wh_time window; /* of told refusals */
    uint32_t told, left_out;
    char *buffer; /* of WH_NETD_MESSAGE_MAX bytes */
    void (*on_end)(void *user);
    void *user;
};

/* Takes over the descriptors. on_end: neither an agent nor a pod is left, or will come. */
int wh_netd_server_new(wh_loop *loop, int control_fd, int listener_fd, uid_t agent_uid,
                       void (*on_end)(void *user), void *user, wh_netd_server **ret, wh_err *err);
void wh_netd_server_free(wh_netd_server *server);
/* One message of the agent; `fd` is taken over. The answer goes to the control channel. */
void wh_netd_server_control(wh_netd_server *server, const void *data, size_t n, int fd);

/* ---- server.c, for control.c and resolve.c ---- */
int netd_channel_add(netd_pod *pod, int fd);
void netd_channel_close(netd_channel *channel);
void netd_pod_free(netd_pod *pod); /* with its channels */
/* One request of a pod, of any bytes. */
void netd_channel_take(netd_channel *channel, const void *data, size_t n);
/* Bound to `source` unless its len is 0; without a port, so that the kernel can share one among peers. */
int netd_socket(const wh_addr *peer, const wh_addr *source, int type, int *ret_fd);
/* The socket for a listener. `both`: an unspecified IPv6 address takes IPv4 too. */
int netd_listen(const wh_addr *addr, int backlog, bool both, int *ret_fd);
/* Ends a request that was under way; `answer` has rc and addresses. */
void netd_pending_done(netd_pending *p, wh_netd_answer *answer);
void netd_pending_free(netd_pending *p);
/* Tells the agent, within limits. */
void netd_refused(wh_netd_server *server, const netd_pod *pod, const char *target, const char *reason);
void netd_maybe_end(wh_netd_server *server);

/* ---- resolve.c ---- */
/* Answers by netd_pending_done, also before it returns. */
void netd_lookup_start(netd_pending *p);
void netd_lookup_free(netd_lookup *lookup);
