/* SPDX-License-Identifier: Apache-2.0 */
/* Components: wasi:http services (0.2 "incoming-handler", 0.3 "handler") and wasi:cli commands, with WASI 0.2 and
 * 0.3 around them. The engine's Rust shim implements this page in the feature set `components`; nothing else links it.
 *
 * One thread: every function below is called on the thread that made the component, and every callback runs on it,
 * inside wh_component_poll (or inside the call that says so); `wake` alone may come from any thread. The engine
 * opens no descriptor, makes no socket and owns none but those handed over: sockets, timers of requests, TLS and HTTP
 * are the caller's.
 *
 * Life of a request: an instance is made for it (or one that may be reused is taken), begin, push the body, end the
 * body; the callbacks give head, body and end of the answer; after on_end the call is gone. After each poll that
 * returned WH_COMPONENT_DEAD the instance must be freed; its open calls have got their on_end. */
#pragma once

#include "base/clock.h"
#include "base/str.h"
#include "engine/engine.h"

#include <sys/socket.h>

typedef struct wh_component wh_component;                   /* compiled code with its imports resolved */
typedef struct wh_component_instance wh_component_instance; /* one store */
typedef struct wh_component_call wh_component_call;         /* one request */

typedef enum {
    WH_COMPONENT_COMMAND = 1, /* wasi:cli/run */
    WH_COMPONENT_HTTP_P2,     /* wasi:http/incoming-handler@0.2.x */
    WH_COMPONENT_HTTP_P3,     /* wasi:http/handler@0.3.x */
} wh_component_kind;

typedef struct wh_component_dir { /* a preopened directory */
    int fd;                       /* borrowed; must outlive the component */
    const char *guest_path;
    bool read_only;
} wh_component_dir;

typedef struct wh_component_field { /* a header; names are lower case and both parts valid per RFC 9110 */
    wh_str name, value;
} wh_component_field;

typedef struct wh_component_head { /* of a request, incoming or outgoing */
    wh_str method, scheme, authority, path_query;
    const wh_component_field *fields;
    size_t n_fields;
    int64_t body_bytes; /* 0: none; -1: unknown */
} wh_component_head;

/* wasi:http's error codes that the host tells a guest about an outgoing request. */
typedef enum {
    WH_EGRESS_OK,
    WH_EGRESS_DENIED,     /* HTTP-request-denied: the policy says no */
    WH_EGRESS_DNS,        /* DNS-error */
    WH_EGRESS_REFUSED,    /* connection-refused */
    WH_EGRESS_TIMEOUT,    /* connection-timeout, or a read or write that took too long */
    WH_EGRESS_TLS,        /* TLS-protocol-error, TLS-certificate-error */
    WH_EGRESS_TERMINATED, /* connection-terminated: broke off in the middle */
    WH_EGRESS_PROTOCOL,   /* HTTP-protocol-error */
    WH_EGRESS_TOO_LARGE,  /* HTTP-response-*-size */
    WH_EGRESS_INTERNAL,
} wh_egress_error;

/* What a guest may reach over the network: TCP, UDP and names. NULL members deny with access-denied. Each request
 * carries a token; its answer comes by wh_component_net_answer, later or inside the call. */
typedef struct wh_component_net {
    void *user;
    /* A connected socket, or a bound one that only this peer's datagrams reach. */
    int (*connect)(void *user, uint64_t token, const struct sockaddr *peer, socklen_t n, bool datagrams);
    int (*listen)(void *user, uint64_t token, const struct sockaddr *local, socklen_t n, int backlog);
    int (*resolve)(void *user, uint64_t token, wh_str name); /* answer: `addresses` */
    /* The descriptor stays the engine's; the answer, once, says that it is ready (or broken). */
    int (*watch)(void *user, uint64_t token, int fd, bool read, bool write);
    void (*cancel)(void *user, uint64_t token); /* nobody waits any more; no answer may follow */
} wh_component_net;

typedef struct wh_component_callbacks {
    /* The answer's head; status 100..199 may come before, without a body. */
    void (*on_head)(void *user, unsigned status, const wh_component_field *fields, size_t n);
    /* Takes all n bytes. false: no more until wh_component_credit. */
    bool (*on_body)(void *user, const void *p, size_t n);
    /* The end of the call. outcome->end WH_END_OK: the answer is complete; without a head before, the guest gave
     * none, and msg says why (its own error code, say): an error to the client. WH_END_TRAP with WH_TRAP_HOST
     * behind a head: the answer's body broke off, or is longer or shorter than its content-length; the instance
     * may live on. Else why the instance died, and what came of the answer is not whole. */
    void (*on_end)(void *user, const wh_outcome *outcome, const wh_component_field *trailers, size_t n);
    /* The instance took some of the request body: less than `queued` bytes wait now. */
    void (*on_taken)(void *user, size_t queued);
    /* Any thread: something can go on; poll `instance_user`'s instance soon. Enqueue and signal, no more. At most
     * once between two polls. None is under way or will come once wh_component_instance_free has returned, so that
     * must not be called under a lock which this takes. */
    void (*wake)(void *instance_user);
} wh_component_callbacks;

/* Outgoing HTTP requests, the one egress point. NULL: all are denied. Timeouts in ns, 0: none given. */
typedef struct wh_component_egress {
    void *user;
    /* Begins; anything but WH_EGRESS_OK is the guest's answer. The strings are valid for the call only. */
    wh_egress_error (*begin)(void *user, uint64_t id, const wh_component_head *head, wh_time connect_timeout,
                             wh_time first_byte_timeout, wh_time between_bytes_timeout);
    bool (*body)(void *user, uint64_t id, const void *p,
                 size_t n); /* false: wait for wh_component_egress_credit */
    void (*body_end)(void *user, uint64_t id, const wh_component_field *trailers, size_t n);
    void (*consumed)(void *user, uint64_t id, size_t n); /* the guest has read n bytes of the answer's body */
    void (*cancel)(void *user, uint64_t id);             /* nobody waits for it any more */
} wh_component_egress;

typedef struct wh_component_config {
    char *const *args, *const *env; /* NULL-terminated; NULL: none */
    const wh_component_dir *dirs;
    size_t n_dirs;
    int stdin_fd; /* -1: at its end. Borrowed; read by a thread of its own, from the guest's first read on */
    /* Output of the guest, streams 1 and 2; NULL: to those descriptors. Takes all: 0, or a negative errno. */
    int (*write)(void *user, int stream, const void *p, size_t n);
    void *write_user;
    const wh_component_net *net;       /* NULL: no sockets, no names */
    const wh_component_egress *egress; /* NULL: no outgoing requests */
    const wh_component_callbacks *callbacks;
    wh_guest_limits limits;
    uint32_t
        deadline_ticks; /* of each stretch of guest code without a wait; 0: none (profile pod). At each tick
                                a guest that computes makes room: its poll returns PENDING, and it is woken */
    uint32_t calls_at_once; /* per instance, 0.3 only; 0: 16 */
} wh_component_config;

/* `fd` is an authenticated file compiled with WH_PROFILE_CM; borrowed. The configuration and all it points to must
 * outlive the component. -ENOENT names an import that nobody offers, -ENOEXEC: exports neither kind, -ESTALE: for
 * another version or profile, -EBADMSG: no such file. Where /proc is not there, the initial memory of the guest is
 * copied once (memfd_create). */
int wh_component_load(wh_engine *engine, int fd, const wh_component_config *config, wh_component **ret,
                      wh_err *err);
void wh_component_free(wh_component *component);
wh_component_kind wh_component_kind_of(const wh_component *component);
/* Does now what the first instance would do (thread start, lazy tables), so that a filter may forbid it after. */
int wh_component_warm(wh_component *component, wh_err *err);

/* ---- instances and requests ---- */
int wh_component_instance_new(wh_component *component, void *instance_user, wh_component_instance **ret,
                              wh_err *err);
void wh_component_instance_free(
    wh_component_instance *instance); /* open calls are dropped without a callback */
/* Takes one more call at this moment: not dying, and below calls_at_once (0.2: none open). */
bool wh_component_instance_free_slot(const wh_component_instance *instance);
uint32_t wh_component_instance_calls(const wh_component_instance *instance);  /* begun so far */
uint64_t wh_component_instance_memory(const wh_component_instance *instance); /* bytes of linear memory */

/* -EINVAL: method, authority or path are none; -EPIPE: the instance has ended. */
int wh_component_begin(wh_component_instance *instance, const wh_component_head *head, void *user,
                       wh_component_call **ret, wh_err *err);
/* Copies n bytes of the request body. Returns how many wait in all: above 64 KiB stop until on_taken. */
size_t wh_component_push(wh_component_call *call, const void *p, size_t n);
void wh_component_push_end(wh_component_call *call, const wh_component_field *trailers, size_t n);
void wh_component_credit(wh_component_call *call); /* after on_body said false */
void wh_component_abort(
    wh_component_call *call); /* the client is gone; no further callback. The instance is spent */

typedef enum { WH_COMPONENT_IDLE, WH_COMPONENT_PENDING, WH_COMPONENT_DEAD } wh_component_state;
/* Runs what can run. IDLE: no call is open, and the guest does nothing any more. PENDING: a call is open, or the guest
 * goes on behind its last answer: the caller decides for how long. DEAD: trapped, deadline, limit: free it. The first
 * poll instantiates; where the pool or the memory is exhausted that is a death with WH_TRAP_OUT_OF_MEMORY. */
wh_component_state wh_component_poll(wh_component_instance *instance);

/* ---- commands ---- */
/* Begins wasi:cli/run; then poll until IDLE or DEAD. The outcome is WH_END_OK, or WH_END_EXIT with the code (0.2 and
 * 0.3 know 0 and 1 only; a guest that exits leaves its instance DEAD), or why it died. */
int wh_component_run(wh_component_instance *instance, wh_err *err);
void wh_component_outcome(const wh_component_instance *instance, wh_outcome *ret);

/* ---- answers of the host ---- */
/* rc: 0 or a negative errno. A descriptor becomes the engine's, also when nobody waits any more. */
void wh_component_net_answer(wh_component *component, uint64_t token, int rc, int fd,
                             const struct sockaddr_storage *addresses, size_t n);
void wh_component_egress_head(wh_component *component, uint64_t id, unsigned status,
                              const wh_component_field *fields, size_t n);
void wh_component_egress_body(wh_component *component, uint64_t id, const void *p, size_t n); /* copies */
void wh_component_egress_credit(wh_component *component, uint64_t id);
void wh_component_egress_end(wh_component *component, uint64_t id, wh_egress_error error,
                             const wh_component_field *trailers, size_t n);
