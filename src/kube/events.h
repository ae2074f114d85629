/* SPDX-License-Identifier: Apache-2.0 */
/* Events for people (`kubectl describe`). Repeats are counted in one event, floods about one object become
 * one summary and then stop; the queue is bounded, and recording never waits and never fails. */
#pragma once

#include "kube/client.h"

typedef struct wh_events wh_events;

/* component: "kubelet"; host: the node's name. kube may be NULL until wh_events_use: what is recorded waits. */
wh_events *wh_events_new(wh_loop *loop, wh_kube *kube, const char *component, const char *host);
void wh_events_use(wh_events *events, wh_kube *kube);
void wh_events_free(wh_events *events); /* drops what was not sent */

typedef struct wh_event_object { /* copied */
    const char *api_version, *kind, *namespace_, *name, *uid;
    const char *field_path;       /* "spec.containers{app}", or NULL */
    const char *resource_version; /* or NULL */
} wh_event_object;

typedef enum { WH_EVENT_NORMAL, WH_EVENT_WARNING } wh_event_type;
void wh_event(wh_events *events, const wh_event_object *object, wh_event_type type, const char *reason,
              const char *fmt, ...) WH_PRINTF(5, 6);
/* What a kubelet says: kind Pod, API version v1. */
void wh_event_pod(wh_events *events, const char *ns, const char *name, const char *uid, const char *container,
                  wh_event_type type, const char *reason, const char *fmt, ...) WH_PRINTF(8, 9);
size_t wh_events_waiting(const wh_events *events);
uint64_t wh_events_dropped(const wh_events *events);
