/* SPDX-License-Identifier: Apache-2.0 */
/* Serves HTTP with guests: each request gets an instance, fresh unless the pod allows reuse. The heart of a runner that
 * serves; also what `wherry run --listen` uses. One thread, one loop. */
#pragma once

#include "base/clock.h"
#include "http/server.h"

typedef enum {
    WH_SERVE_COMPONENT, /* wasi:http, 0.2 or 0.3 */
    WH_SERVE_WAGI,      /* a WASI preview 1 command, CGI style */
    WH_SERVE_STREAM,    /* a WASI preview 1 command: body in, body out */
} wh_serve_mode;

typedef struct wh_serve_limits {
    uint32_t at_once;      /* requests inside guests; 0: 64 */
    uint32_t queue;        /* requests that wait for a place; 0: 128 */
    wh_time queue_time;    /* 0: 5 s; then 503 with Retry-After */
    wh_time request_time;  /* from the head to the end of the answer; 0: 60 s; then 504 or a cut */
    uint32_t reuse;        /* requests per instance; 0, 1: fresh each time */
    wh_time idle_time;     /* no connection with a request for so long: on_idle; 0: never */
    uint64_t memory_bytes; /* of each instance */
    uint64_t body_bytes;   /* of a request; 0: no limit */
} wh_serve_limits;

typedef struct wh_serve wh_serve;

/* What answers one request; a backend (component.c, command.c) owns the exchange from `begin` on. */
typedef struct wh_serve_backend {
    void *user;
    void (*begin)(void *user,
                  wh_http_exchange *x); /* a place is free: it is this request's until wh_serve_over */
} wh_serve_backend;

typedef struct wh_serve_config {
    wh_serve_limits limits;
    const int *listen_fds; /* taken over */
    size_t n_listen;
    wh_tls_server *tls;          /* NULL: plain */
    void (*on_idle)(void *user); /* once; the sockets are no longer accepted from */
    void (*on_drained)(void *user);
    void *user;
} wh_serve_config;

int wh_serve_start(wh_loop *loop, const wh_serve_config *config, const wh_serve_backend *backend,
                   wh_serve **ret, wh_err *err);
/* The backend's request is over; the next one in the queue may begin. */
void wh_serve_over(wh_serve *serve);
/* Stops accepting, lets open requests end for at most `grace`, then on_drained. */
void wh_serve_drain(wh_serve *serve, wh_time grace);
void wh_serve_free(wh_serve *serve);
