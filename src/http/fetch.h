/* SPDX-License-Identifier: Apache-2.0 */
/* An HTTP client for control traffic (API server, webhooks, probes): libcurl's multi interface on our loop.
 * Connections are kept and shared; HTTP/2 where the server offers it over TLS. Redirects are not followed
 * unless asked for. Proxy variables of the environment are ignored. */
#pragma once

#include "base/buf.h"
#include "loop/loop.h"

typedef struct wh_fetcher wh_fetcher;
typedef struct wh_fetch wh_fetch;

int wh_fetcher_new(wh_loop *loop, wh_fetcher **ret, wh_err *err);
/* Cancels what is under way: no callback runs any more. Not inside one of its callbacks. */
void wh_fetcher_free(wh_fetcher *fetcher);

typedef struct wh_fetch_tls { /* PEM text; all may be NULL */
    const char *ca_pem;       /* NULL: the system's */
    const char *cert_pem, *key_pem;
    bool insecure;           /* the server's certificate is not checked */
    const char *server_name; /* checked instead of the URL's host */
} wh_fetch_tls;

/* Everything is copied. */
typedef struct wh_fetch_request {
    const char *method;   /* NULL: GET */
    const char *url;      /* http or https */
    char *const *headers; /* "Name: value"; NULL-terminated; may be NULL */
    const void *body;
    size_t body_bytes;
    const char *unix_socket; /* connect there instead of to the URL's host */
    wh_fetch_tls tls;
    wh_time connect_timeout; /* 0: 10 s */
    wh_time timeout;         /* of everything; 0: 30 s; WH_TIME_NEVER: none (watches) */
    wh_time stall_timeout;   /* no byte for so long ends it; 0: none */
    size_t body_bytes_max;   /* of the answer; 0: 16 MiB. Ignored with on_data. */
    bool fresh;              /* neither take a kept connection nor keep this one (probes) */
    bool http1;              /* do not offer HTTP/2 */
    bool follow;             /* follow up to 10 redirects within the same host (probes); not with on_data */
} wh_fetch_request;

typedef struct wh_fetch_result {
    int status; /* HTTP status; 0 when there was no answer */
    wh_err
        err; /* code 0 when an answer came whole; else what went wrong: -ECONNREFUSED, -ETIMEDOUT, -EPROTO (TLS),
                         -EFBIG, -ECONNRESET, -EHOSTUNREACH, -EIO */
    const char *body; /* NUL-terminated; never NULL; "" with on_data */
    size_t body_bytes;
    wh_time retry_after;      /* of the field Retry-After, in seconds or as a date; -1 when absent */
    const char *content_type; /* never NULL */
    const char *location;     /* never NULL; of a redirect that was not followed */
    bool reused;              /* went over a connection that was kept */
} wh_fetch_result;

typedef struct wh_fetch_callbacks {
    /* The head is there. May be NULL. */
    void (*on_head)(wh_fetch *fetch, int status, void *user);
    /* Streams the body; without it the body is collected for the result. Called for every status. */
    void (*on_data)(wh_fetch *fetch, const void *p, size_t n, void *user);
    /* Once, unless cancelled. The fetch is freed afterwards. Never called inside wh_fetch_start. */
    void (*on_done)(wh_fetch *fetch, const wh_fetch_result *result, void *user);
} wh_fetch_callbacks;

int wh_fetch_start(wh_fetcher *fetcher, const wh_fetch_request *request, const wh_fetch_callbacks *callbacks,
                   void *user, wh_fetch **ret, wh_err *err);
/* Ends it without on_done. May be called in any callback, also in on_done (then it does nothing). NULL is fine. */
void wh_fetch_cancel(wh_fetch *fetch);
