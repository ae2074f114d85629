/* SPDX-License-Identifier: Apache-2.0 */
/* An HTTP server: HTTP/1.1 and HTTP/2 (by ALPN, or by prior knowledge on plain sockets), for our own APIs and for what
 * guests serve. An exchange is one request and its answer, whatever the protocol. Without `streaming` a request's body
 * is read whole before the handler runs; with it the handler runs at the head, and the body comes by on_data.
 *
 * Life of an exchange: the handler gets it and owns it until it calls wh_http_reply, wh_http_end or
 * wh_http_abort, now or later, exactly once; whatever happens to the client or the server meanwhile, the
 * pointer stays valid until then. */
#pragma once

#include "http/h1.h"
#include "loop/loop.h"
#include "net/addr.h"
#include "net/tls.h"

typedef struct wh_http_server wh_http_server;
typedef struct wh_http_exchange wh_http_exchange;

typedef struct wh_http_param {
    char *name, *value; /* decoded */
} wh_http_param;

typedef struct wh_http_request { /* valid as long as the exchange */
    const char *method;
    const char *path; /* decoded, dot segments refused, begins with '/'; an encoded slash is refused, or stays
                              encoded when streaming */
    const char *target;          /* path and query as sent */
    const char *authority;       /* Host or :authority; "" when HTTP/1.0 sent none */
    const char *scheme;          /* "http" or "https" */
    int version;                 /* 10, 11 or 20 */
    int64_t length;              /* of the body: declared; 0 none; -1 not known beforehand */
    const char *query;           /* as sent, without '?'; "" when there is none */
    const wh_http_param *params; /* none when streaming: the query is the guest's matter */
    size_t n_params;
    const wh_h1_field *fields;
    size_t n_fields;
    const char *body; /* NUL-terminated behind body_bytes; never NULL */
    size_t body_bytes;
    const wh_tls_peer *peer;  /* verified client certificate, or NULL */
    const wh_addr *peer_addr; /* of TCP, or an unnamed unix address */
    bool is_unix, is_tls;
    uid_t peer_uid; /* of a unix socket's client; (uid_t)-1 elsewhere */
    pid_t peer_pid;
} wh_http_request;

typedef void (*wh_http_handler)(wh_http_exchange *x, const wh_http_request *request, void *user);

typedef struct wh_http_server_options {
    int listen_fd;      /* listening, non-blocking; the server owns it from success on */
    wh_tls_server *tls; /* NULL: plain. Borrowed: outlives the server */
    wh_http_handler handler;
    void *user;
    const char *name;        /* for logs and metrics: "kubelet" */
    uint64_t body_bytes_max; /* 0: WH_HTTP_BODY_BYTES_MAX */
    size_t connections_max;  /* 0: WH_HTTP_CONNECTIONS_MAX; beyond it accepting pauses */
    bool streaming;          /* the handler runs at the head */
    bool h2;                 /* offer HTTP/2 too */
    wh_time head_timeout;    /* first byte (or handshake) to end of head; 0: 10 s -> 408 */
    wh_time body_timeout;    /* between two reads of a body, or two writes of an answer; 0: 60 s */
    wh_time idle_timeout;    /* between requests; 0: 60 s */
} wh_http_server_options;

int wh_http_server_start(wh_loop *loop, const wh_http_server_options *options, wh_http_server **ret,
                         wh_err *err);
/* Stops accepting and closes idle connections; `done` runs when the last exchange is over or `grace` has passed and the
 * rest was cut. Once. */
void wh_http_server_drain(wh_http_server *server, wh_time grace, void (*done)(void *user), void *user);
/* Cuts every connection. Exchanges that are still owned by handlers stay valid, and are gone. */
void wh_http_server_free(wh_http_server *server);
size_t wh_http_server_connections(const wh_http_server *server);
int wh_http_server_port(const wh_http_server *server); /* of TCP; 0 for unix sockets */

/* ---- reading the request ---- */
const wh_http_request *wh_http_request_of(const wh_http_exchange *x);
const char *wh_http_param_get(const wh_http_request *request,
                              const char *name);                            /* first one; NULL when absent */
wh_str wh_http_field_get(const wh_http_request *request, const char *name); /* lower-case name */
/* The token of "Authorization: Bearer X", or {NULL, 0}. */
wh_str wh_http_bearer(const wh_http_request *request);

/* ---- answering ---- */
/* A field of the answer; before the first of the functions below. -EINVAL for what RFC 9110 does not allow, and for
 * fields that are ours: Date, Connection, Content-Length, framing. */
int wh_http_header(wh_http_exchange *x, const char *name, const char *value);
int wh_http_header_n(wh_http_exchange *x, wh_str name, wh_str value);
/* The request's trailers, once on_data said 0 bytes; valid until the exchange ends. */
const wh_h1_field *wh_http_trailers(const wh_http_exchange *x, size_t *ret_n);
/* An interim answer, 102 to 199, without fields; 100 is ours: sent when the body of an `Expect: 100-continue` is first
 * waited for. */
void wh_http_info(wh_http_exchange *x, int status);
/* The whole answer at once; the status is one of 200 to 999. content_type may be NULL when there is no body, or was set
 * by wh_http_header. Ends the exchange. */
void wh_http_reply(wh_http_exchange *x, int status, const char *content_type, const void *body, size_t n);
void wh_http_replyf(wh_http_exchange *x, int status, const char *fmt, ...) WH_PRINTF(3, 4); /* text/plain */

typedef struct
    wh_http_stream_callbacks { /* all may be NULL; called from the loop, never inside a call of ours */
    void (*on_writable)(wh_http_exchange *x, void *user); /* what was waiting is below the low mark again */
    void (*on_gone)(wh_http_exchange *x,
                    void *user); /* the client left or the server ended; still call wh_http_end */
    /* Of a streaming server's requests, and after wh_http_upgrade: bytes from the client, all to be taken (pause with
     * wh_http_pause); n == 0: it will send no more, and the request's trailers are there. */
    void (*on_data)(wh_http_exchange *x, const void *p, size_t n, void *user);
} wh_http_stream_callbacks;
/* May be set at any time before the answer ends, also before it begins (to notice a client that leaves). NULL: none
 * any more. */
void wh_http_watch(wh_http_exchange *x, const wh_http_stream_callbacks *callbacks, void *user);
/* Begins a streamed answer: chunked, or until close towards HTTP/1.0. */
void wh_http_begin(wh_http_exchange *x, int status, const char *content_type);
/* The same with a known length: exactly that many bytes must follow, else the client sees a broken answer. */
void wh_http_begin_length(wh_http_exchange *x, int status, const char *content_type, uint64_t bytes);
/* A field behind the body, before wh_http_end; dropped where the protocol has no place for it. -EINVAL as above, and
 * for fields that frame or route. */
int wh_http_trailer(wh_http_exchange *x, wh_str name, wh_str value);
/* Takes all n bytes. 0: go on; -EAGAIN: taken, but wait for on_writable before writing more; -ENOBUFS: not
 * taken, as more than WH_HTTP_STREAM_BYTES_MAX wait already; -EPIPE: the client is gone. */
int wh_http_write(wh_http_exchange *x, const void *p, size_t n);
/* Ends a streamed answer or an upgraded connection (after what waits was sent). */
void wh_http_end(wh_http_exchange *x);
/* Cuts the connection: the client sees that the answer is not complete. Ends the exchange. */
void wh_http_abort(wh_http_exchange *x);
bool wh_http_is_gone(const wh_http_exchange *x);
/* 101 Switching Protocols with "Upgrade: protocol" and the fields set before; the connection is then raw
 * bytes both ways until wh_http_end. No idle timeout applies. */
void wh_http_upgrade(wh_http_exchange *x, const char *protocol);
/* Stops or goes on reading the request's body or an upgraded connection: what the client may still send is bounded by
 * one window. */
void wh_http_pause(wh_http_exchange *x, bool paused);
