/* SPDX-License-Identifier: Apache-2.0 */
/* The Kubernetes API, one call at a time: JSON over HTTP with credentials, a request rate limit (50 a second, bursts of
 * 100, like the kubelet's), and retries where they are safe. Everything runs on one loop. */
#pragma once

#include "base/json.h"
#include "http/fetch.h"
#include "kube/kubeconfig.h"

typedef struct wh_kube wh_kube;
typedef struct wh_kube_call wh_kube_call;

typedef struct wh_kube_options {
    const char *user_agent; /* NULL: "wherry/<version>" */
    double qps, burst;      /* 0: 50 and 100 */
} wh_kube_options;

/* Copies the configuration. options may be NULL. */
int wh_kube_new(wh_loop *loop, const wh_kubeconfig *config, const wh_kube_options *options, wh_kube **ret,
                wh_err *err);
void wh_kube_free(wh_kube *kube); /* cancels all calls without their callbacks; end watches before */
/* New client certificate: used from the next request on; kept connections are left. */
void wh_kube_set_certificate(wh_kube *kube, const char *cert_pem, const char *key_pem);
wh_loop *wh_kube_loop(const wh_kube *kube);
const wh_kubeconfig *wh_kube_config(const wh_kube *kube);

/* What the answer means for the one who asked. */
typedef enum {
    WH_KUBE_OK,
    WH_KUBE_NOT_FOUND,    /* 404 */
    WH_KUBE_CONFLICT,     /* 409: exists already, or somebody else wrote: read again */
    WH_KUBE_GONE,         /* 410: the resource version is too old: list again */
    WH_KUBE_UNAUTHORIZED, /* 401 */
    WH_KUBE_FORBIDDEN,    /* 403 */
    WH_KUBE_REFUSED,      /* other 4xx: the request itself is wrong; saying it again does not help */
    WH_KUBE_TRANSIENT,    /* no answer, 429, 5xx: later again */
} wh_kube_class;
wh_kube_class wh_kube_classify(int status, int code);

#define WH_KUBE_JSON "application/json"
#define WH_KUBE_STRATEGIC "application/strategic-merge-patch+json"
#define WH_KUBE_MERGE "application/merge-patch+json"

typedef struct wh_kube_request {
    const char *method;       /* NULL: GET */
    const char *path;         /* "/api/v1/nodes/a?x=y": ours to have escaped (wh_kube_path) */
    json_t *body;             /* borrowed, serialized at once; or NULL */
    const char *content_type; /* NULL: WH_KUBE_JSON */
    wh_time timeout;          /* of one try; 0: 30 s */
    unsigned tries; /* 0: 5 for GET, PUT, PATCH and DELETE, and for what was answered by 429 or 503 with
                                 Retry-After; 1: once */
} wh_kube_request;

typedef struct wh_kube_result {
    wh_kube_class class_;
    int status;         /* HTTP, 0 without an answer */
    json_t *body;       /* borrowed; NULL when there was none or it was no JSON */
    const char *reason; /* of metav1.Status: "AlreadyExists"; never NULL */
    wh_err err;         /* code 0 when OK; the sentence names method, path, status and the server's message */
    wh_time retry_after; /* -1 when the server did not say */
} wh_kube_result;

/* `done` runs once, later, from the loop; not after a cancel. Never fails at once: errors come to `done`. */
wh_kube_call *wh_kube_do(wh_kube *kube, const wh_kube_request *request,
                         void (*done)(const wh_kube_result *result, void *user), void *user);
void wh_kube_cancel(wh_kube_call *call); /* NULL is fine */

/* printf for paths: each %s argument is percent-encoded, other conversions are not allowed but %d and %%. */
char *wh_kube_path(const char *fmt, ...) WH_PRINTF(1, 2);

/* Seconds between tries: doubles from `first` up to `max`, times 1 to 1.5 at random. Pure but for its generator. */
typedef struct wh_backoff {
    wh_time first, max, next;
    wh_rng rng;
} wh_backoff;
void wh_backoff_init(wh_backoff *b, wh_time first, wh_time max, uint64_t seed);
wh_time wh_backoff_next(wh_backoff *b);
void wh_backoff_reset(wh_backoff *b);
