/* SPDX-License-Identifier: Apache-2.0 */
/* wherry-netd makes sockets for pods: it binds and connects under a pod's own addresses and its egress policy, and
 * hands over the descriptor. One process per network namespace that it serves; no file, no exec, and no capability
 * but that for low ports, on the host only.
 *
 * The channel is the identity: no request names a pod. A *control* channel (the agent's; descriptor 3 of netd) makes
 * pods and hands out *pod* channels; a pod channel is one end of a seqpacket pair, given to a runner.
 *
 * Requests of a pod channel are fixed-size structs (wh_netd_request), each answered by one wh_netd_answer with the
 * same token and at most one descriptor. Never handed over: an unconnected TCP socket that does not listen, an
 * unconnected UDP socket, a raw, netlink or unix socket. */
#pragma once

#include "base/err.h"
#include "loop/loop.h"
#include "net/addr.h"

#define WH_NETD_VERSION 1
#define WH_NETD_NAME_MAX 253 /* of a host name */
#define WH_NETD_ADDRESSES_MAX 16
#define WH_NETD_IN_FLIGHT_MAX 64 /* requests of one channel */
#define WH_NETD_SOCKETS_MAX 1024 /* of one pod that are under way: connects and look-ups */

typedef enum {
    WH_NETD_LISTEN = 1,  /* TCP; address 0 is the pod's */
    WH_NETD_CONNECT,     /* TCP */
    WH_NETD_UDP_CONNECT, /* datagrams to and from one peer */
    WH_NETD_RESOLVE,     /* name */
} wh_netd_op;

typedef struct wh_netd_request {
    uint32_t version, op;
    uint64_t token;
    struct sockaddr_storage address; /* peer, or local for LISTEN */
    int32_t backlog;                 /* of a listener; 0: 1,024 */
    uint32_t timeout_ms;             /* of a connect; 0: 30 s */
    char name[WH_NETD_NAME_MAX + 1]; /* RESOLVE; for CONNECT the name that led to the address, or "" */
} wh_netd_request;

/* rc: 0, -EACCES by policy, -EADDRNOTAVAIL not an address of this pod, -EINVAL, -EAGAIN too many under way or no name
 * server answered, -ENOENT no such name, or what the kernel said: -ECONNREFUSED, -ETIMEDOUT, -EADDRINUSE ... */
typedef struct wh_netd_answer {
    uint32_t version;
    int32_t rc;
    uint64_t token;
    uint32_t n_addresses;
    struct sockaddr_storage addresses[WH_NETD_ADDRESSES_MAX];
} wh_netd_answer;

/* ---- a pod's rules, as the agent says them ---- */
typedef struct wh_egress_rule {
    char *host; /* exact name, or "*.suffix"; NULL: by address */
    wh_addr net;
    unsigned prefix;                /* of net, when host is NULL */
    uint16_t port_first, port_last; /* 0, 0: any */
} wh_egress_rule;
typedef struct wh_netd_pod {
    const char *id;
    const wh_addr *addresses; /* at most one a family; none: the namespace's own (hostNetwork) */
    size_t n_addresses;
    const uint16_t *ports; /* that it may listen on; n 0: any */
    size_t n_ports;
    /* Public addresses are open unless `closed`; private, link-local, loopback, metadata and node addresses only by
     * rule; the node's other pods unless `isolated`. */
    bool closed, isolated;
    /* A rule for the node's own or a metadata address names that one address; for link-local and loopback ranges it
     * stays inside the range. A rule by host opens what the name led to, but for those four. */
    const wh_egress_rule *rules;
    size_t n_rules;
    const char *resolv_conf; /* text; NULL: no name is resolved but those of `hosts` */
    const char *hosts;       /* text of /etc/hosts; NULL: localhost only */
} wh_netd_pod;

/* ---- client of the runner ---- */
typedef struct wh_netd_client wh_netd_client;
/* Once per request, from the loop. fd -1 when there is none; it becomes the callee's. */
typedef void (*wh_netd_done)(void *user, uint64_t token, const wh_netd_answer *answer, int fd);
/* `fd` is the pod channel, taken over. */
int wh_netd_client_new(wh_loop *loop, int fd, wh_netd_done done, void *user, wh_netd_client **ret,
                       wh_err *err);
void wh_netd_client_free(wh_netd_client *client); /* also in its callback; nothing is called back any more */
/* A new channel, taken over, after netd was started again. What was under way on the old one is answered -ENOTCONN. */
int wh_netd_client_set(wh_netd_client *client, int fd, wh_err *err);
/* -EAGAIN: too many in flight; -ENOTCONN: netd is gone (for now). Version is filled in. By send and recvmsg only, as
 * the runner's filter wants it. */
int wh_netd_client_ask(wh_netd_client *client, const wh_netd_request *request);

/* ---- client of the agent ---- */
typedef struct wh_netd wh_netd;
typedef struct wh_netd_options {
    const char *program; /* wherry-netd */
    int namespace_fd;    /* that it is started in; -1: the caller's */
    uid_t uid;           /* that it runs as; the caller's own when the caller is not root */
    /* NULL: netd ends with this control channel. Else a unix socket by which a later agent finds the running netd,
     * which serves its pods meanwhile and ends when neither an agent nor a pod is left. */
    const char *socket_path;
    const wh_addr *node_addresses;
    size_t n_node_addresses;
    void (*on_lost)(void *user); /* it ended; start another one and say all pods again */
    /* What was refused, at most ten a second, and how many more were since; may be NULL. */
    void (*on_refused)(void *user, const char *pod, const char *target, const char *reason, int64_t left_out);
    void *user;
} wh_netd_options;
int wh_netd_start(wh_loop *loop, const wh_netd_options *options, wh_netd **ret, wh_err *err);
void wh_netd_free(wh_netd *netd);
/* These wait for netd's answer: microseconds, bounded by a second. */
int wh_netd_node_set(wh_netd *netd, const wh_addr *addresses, size_t n, wh_err *err); /* all, anew */
int wh_netd_pod_set(wh_netd *netd, const wh_netd_pod *pod, wh_err *err); /* adds, or replaces the rules */
int wh_netd_pod_remove(wh_netd *netd, const char *id, wh_err *err);
/* Removes the pods that this agent has not said: an earlier one's. */
int wh_netd_sweep(wh_netd *netd, wh_err *err);
/* A new channel for one container: the runner's end. */
int wh_netd_pod_channel(wh_netd *netd, const char *id, int *ret_fd, wh_err *err);
/* A listening TCP socket on the pod's address of this family; AF_UNSPEC with a port: its first one. A pod without
 * addresses: as asked, AF_UNSPEC being all addresses of both families. */
int wh_netd_pod_listen(wh_netd *netd, const char *id, const wh_addr *address, int *ret_fd, wh_err *err);
