/* SPDX-License-Identifier: Apache-2.0 */
/* A reflector: knows all objects of a list and each change, whatever happens to the API server meanwhile.
 * Begins by a streaming list (KEP-3157: sendInitialEvents), or by list and watch where the server does not
 * know that; resumes from the last resource version (bookmarks), lists again after 410, waits 0.8 to 30 s
 * with jitter between failures. */
#pragma once

#include "kube/client.h"

typedef enum {
    WH_WATCH_ADDED,
    WH_WATCH_MODIFIED,
    WH_WATCH_DELETED, /* with the last known state */
} wh_watch_kind;

typedef struct wh_watch_callbacks {
    /* One change. The object is borrowed: json_incref keeps it, unchanged from then on. After an outage only
     * what really differs is told (by resourceVersion and uid), and DELETED for what is gone; an object that
     * was replaced by one of another uid is DELETED, then ADDED. */
    void (*on_event)(wh_watch_kind kind, json_t *object, void *user);
    /* The list is complete; again after each new list. May be NULL. */
    void (*on_synced)(void *user);
    /* Something failed and is tried again; for logs and conditions. May be NULL. */
    void (*on_error)(const wh_kube_result *result, void *user);
} wh_watch_callbacks;

typedef struct wh_watch_options {
    const char *path;           /* "/api/v1/pods" */
    const char *field_selector; /* "spec.nodeName=n1", or NULL */
    const char *label_selector;
    wh_time first_delay;         /* back-off after a failure; 0: 0.8 s */
    wh_time silence_max;         /* a stream without a byte for so long is begun anew; 0: 150 s */
    bool forbidden_is_transient; /* 403 right after a pod was bound is tried again quickly: by-name watches */
    bool no_streaming_list;      /* begin by list and watch at once */
} wh_watch_options;

typedef struct wh_watch wh_watch;
int wh_watch_start(wh_kube *kube, const wh_watch_options *options, const wh_watch_callbacks *callbacks,
                   void *user, wh_watch **ret, wh_err *err);
void wh_watch_free(wh_watch *watch);
bool wh_watch_is_synced(const wh_watch *watch);
/* By "namespace/name" ("name" for cluster-wide kinds); borrowed, NULL when unknown. */
json_t *wh_watch_find(const wh_watch *watch, const char *key);
size_t wh_watch_count(const wh_watch *watch);
/* Calls fn for every object. fn must not free the watch. */
void wh_watch_each(const wh_watch *watch, void (*fn)(const char *key, json_t *object, void *user),
                   void *user);
wh_time wh_watch_last_contact(const wh_watch *watch); /* monotonic; 0: never */
