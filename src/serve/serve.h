/* SPDX-License-Identifier: Apache-2.0 */
/* Serves HTTP with guests: each request gets an instance, fresh unless the pod allows reuse. The heart of a runner
 * that serves. One loop; a request waits here for a place, and is the backend's from `begin` to wh_serve_over. */
#pragma once

#include "base/clock.h"
#include "base/limits.h"
#include "http/server.h"

typedef enum {
    WH_SERVE_COMPONENT, /* wasi:http, 0.2 or 0.3 */
    WH_SERVE_WAGI,      /* a WASI preview 1 command, CGI style */
    WH_SERVE_STREAM,    /* a WASI preview 1 command: body in, body out */
} wh_serve_mode;

#define WH_SERVE_AT_ONCE 64
#define WH_SERVE_QUEUE 128

typedef struct wh_serve_limits {
    uint32_t at_once;      /* requests inside guests; 0: 64 */
    uint32_t queue;        /* requests that wait for a place; 0: 128 */
    wh_time queue_time;    /* 0: 5 s; then 503 with Retry-After */
    wh_time request_time;  /* from the head to the end of the answer; 0: 60 s; then 504 or a cut */
    uint32_t reuse;        /* requests per instance; 0, 1: fresh each time */
    wh_time idle_time;     /* no request for so long: on_idle; 0: never */
    uint64_t memory_bytes; /* of each instance; 0: what 32 bits address */
    uint64_t body_bytes;   /* of a request; 0: no limit */
} wh_serve_limits;

typedef struct wh_serve wh_serve;

/* A request that has its place. */
typedef struct wh_serve_request {
    wh_serve *serve;
    wh_http_exchange *x;
    wh_time began, deadline;      /* monotonic */
    void *user;                   /* the backend's */
    char id[WH_SERVE_ID_MAX + 1]; /* X-Call-Id as it came, or made for it */
} wh_serve_request;

/* What answers requests: component.c, command.c. */
typedef struct wh_serve_backend {
    void *user;
    /* The exchange is the backend's from here on, and so is the deadline. Never inside a call of wh_serve_*. */
    void (*begin)(void *user, wh_serve_request *request);
} wh_serve_backend;

typedef struct wh_serve_config {
    wh_serve_limits limits;
    const int *listen_fds; /* taken over on success */
    size_t n_listen;
    wh_tls_server *tls;          /* NULL: plain */
    void (*on_idle)(void *user); /* once; nothing is accepted any more and no connection is left */
    void (*on_drained)(void *user);
    void (*log)(void *user,
                const char *line); /* for the person who reads the container's log; ends in '\n' */
    void *user;
    bool access_log; /* one line per request */
} wh_serve_config;

int wh_serve_start(wh_loop *loop, const wh_serve_config *config, const wh_serve_backend *backend,
                   wh_serve **ret, wh_err *err);
/* Says how the request was answered, right before the backend ends the exchange (which is not touched here any more
 * after this). `status` is what the client saw, 0 for an answer that was cut or never began; `why` NULL, or what went
 * wrong, for the log. */
void wh_serve_answered(wh_serve_request *request, int status, const char *why);
/* Answers with an error and a short text that names the call, while nothing of the answer is out, and ends the
 * exchange; wh_serve_answered is part of it. `why` goes to the log only. */
void wh_serve_fail(wh_serve_request *request, int status, const char *why);
/* The guest is through with the request: its place is free. After wh_serve_answered; frees the request. */
void wh_serve_over(wh_serve_request *request);
/* Stops accepting, lets open requests end for at most `grace`, then on_drained. */
void wh_serve_drain(wh_serve *serve, wh_time grace);
/* Requests that the backend has must be over. */
void wh_serve_free(wh_serve *serve);

typedef struct wh_serve_stats {
    uint64_t requests, failed, refused; /* begun; of those 5xx or cut; refused before their beginning */
    uint32_t running, waiting;
} wh_serve_stats;
void wh_serve_stats_get(const wh_serve *serve, wh_serve_stats *ret);
int wh_serve_port(const wh_serve *serve); /* of the first socket */
