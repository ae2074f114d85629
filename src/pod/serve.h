/* SPDX-License-Identifier: Apache-2.0 */
/* What a pod's annotations say about serving: wherry.dev/serve and its like. */
#pragma once

#include "pod/spec.h"

typedef enum {
    WH_POD_SERVE_AUTO, /* as the image says: an HTTP component serves, anything else runs to its end */
    WH_POD_SERVE_RUN,  /* "run": never serve */
    WH_POD_SERVE_WAGI,
    WH_POD_SERVE_STREAM,
} wh_pod_serve_mode;

typedef struct wh_pod_serve {
    wh_pod_serve_mode mode;   /* wherry.dev/serve: wagi | stream | run */
    uint32_t reuse;           /* wherry.dev/reuse: "128"; 1: fresh per request */
    wh_time idle;             /* wherry.dev/idle: 30s; 0: never dormant */
    uint32_t at_once, queue;  /* wherry.dev/concurrency, wherry.dev/queue */
    wh_time queue_time, time; /* wherry.dev/queue-timeout, wherry.dev/timeout */
    const char *tls_secret;   /* wherry.dev/tls-secret: a kubernetes.io/tls Secret; NULL: plain */
    bool isolated;            /* wherry.dev/network: isolated */
    const char *egress; /* wherry.dev/egress: "api.example.org:443, 10.0.0.0/8:5432"; NULL: the default */
} wh_pod_serve;

/* -EINVAL names the annotation, what it holds and what it may hold. */
int wh_pod_serve_parse(const wh_pod_spec *spec, wh_pod_serve *ret, wh_err *err);
