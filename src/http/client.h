/* SPDX-License-Identifier: Apache-2.0 */
/* An HTTP client for the data path: requests over connections that somebody else makes (a runner has netd), with bodies
 * that stream both ways under back-pressure. HTTP/1.1; connections are kept and reused per (scheme, host, port). For
 * control traffic (API server, registries) there is http/fetch.h.
 *
 * A connection is never used again after an early answer, an unread body on either side, or any doubt about framing. */
#pragma once

#include "http/h1.h"
#include "loop/loop.h"
#include "net/tls_client.h"

typedef struct wh_client wh_client;
typedef struct wh_client_call wh_client_call;

typedef enum { /* why a call failed */
               WH_CLIENT_OK,
               WH_CLIENT_DENIED, /* connecting was refused by policy (-EACCES) */
               WH_CLIENT_DNS,
               WH_CLIENT_REFUSED,
               WH_CLIENT_TIMEOUT,
               WH_CLIENT_TLS,
               WH_CLIENT_TERMINATED, /* broke off before the answer was complete */
               WH_CLIENT_PROTOCOL,   /* the answer breaks RFC 9112, or its framing is ambiguous */
               WH_CLIENT_TOO_LARGE,  /* head or trailers of the answer */
               WH_CLIENT_NO_MEMORY,
} wh_client_error;

/* Makes connected, non-blocking sockets. Each `connect` is answered once by wh_client_connected, or cancelled. */
typedef struct wh_client_connector {
    void *user;
    void (*connect)(void *user, uint64_t token, const char *host, uint16_t port, wh_time timeout);
    void (*cancel)(void *user, uint64_t token);
} wh_client_connector;

typedef struct wh_client_options {
    wh_client_connector connector;
    /* For https: roots, and &wh_tls_client_openssl, which a program without TLS leaves out. NULL: WH_CLIENT_TLS. */
    const char *ca_pem;
    const wh_tls_client_ops *tls;
    size_t idle_max;   /* kept connections; 0: 16 */
    wh_time idle_time; /* 0: 15 s */
} wh_client_options;

typedef struct wh_client_request { /* copied */
    wh_str method, scheme, authority, path_query;
    const wh_h1_field *fields; /* without Host, Expect, framing and connection fields, which are ours */
    size_t n_fields;
    int64_t body_bytes;                                                 /* 0: none; -1: chunked */
    wh_time connect_timeout, first_byte_timeout, between_bytes_timeout; /* 0: 30 s, 60 s, 60 s */
} wh_client_request;

typedef struct
    wh_client_callbacks { /* on the loop, never inside a call of ours; all but on_done may be NULL */
    /* The final answer, without the fields that belong to the connection. */
    void (*on_head)(wh_client_call *call, unsigned status, const wh_h1_field *fields, size_t n, void *user);
    void (*on_data)(wh_client_call *call, const void *p, size_t n, void *user); /* all is taken */
    void (*on_writable)(wh_client_call *call, void *user);                      /* below the low mark again */
    /* Last callback; the call is gone after it. `why` is a sentence for people, "" when all went well. */
    void (*on_done)(wh_client_call *call, wh_client_error error, const char *why, const wh_h1_field *trailers,
                    size_t n, void *user);
} wh_client_callbacks;

int wh_client_new(wh_loop *loop, const wh_client_options *options, wh_client **ret, wh_err *err);
void wh_client_free(wh_client *client); /* open calls end without a callback */
/* The answer of a connector, at any time after its `connect` began; fd is taken over. rc: -EACCES by policy, -ENOENT or
 * -EAGAIN for names, -ETIMEDOUT, or what the kernel said. */
void wh_client_connected(wh_client *client, uint64_t token, int rc, int fd);

/* -EINVAL for what HTTP/1.1 cannot say, -EAGAIN for more than WH_HTTP_CLIENT_CALLS_MAX calls; all else comes by
 * on_done. */
int wh_client_start(wh_client *client, const wh_client_request *request, const wh_client_callbacks *callbacks,
                    void *user, wh_client_call **ret, wh_err *err);
/* Of the request's body. Takes all: 0; -EAGAIN: taken, but wait for on_writable; -ENOBUFS: not taken, as more than
 * WH_HTTP_STREAM_BYTES_MAX wait already; -EMSGSIZE: not taken, more than was declared; -EPIPE: no more is wanted. */
int wh_client_write(wh_client_call *call, const void *p, size_t n);
/* Ends it; without this call only where body_bytes is 0. Before all of a declared length was written, the call fails.
 * -EINVAL, and nothing done, for trailers that a message may not have or that find no place (not chunked). */
int wh_client_end(wh_client_call *call, const wh_h1_field *trailers, size_t n);
void wh_client_pause(wh_client_call *call, bool paused); /* reading the answer's body */
void wh_client_cancel(wh_client_call *call);             /* no further callback; the call is gone */
size_t wh_client_idle(const wh_client *client);          /* connections that are kept */
