/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets and config maps that pods here refer to: each one watched by name while somebody holds a
 * subscription (the node authorizer allows no more). Right after a pod was bound the answer may be 403 for a
 * moment: that is tried again. */
#pragma once

#include "kube/watch.h"

typedef struct wh_objects wh_objects;
typedef struct wh_object_sub wh_object_sub;
typedef enum { WH_OBJECT_CONFIGMAP, WH_OBJECT_SECRET } wh_object_kind;

typedef enum {
    WH_OBJECT_UNKNOWN, /* not asked yet, or the API server is away */
    WH_OBJECT_PRESENT,
    WH_OBJECT_ABSENT, /* asked, and there is none */
    WH_OBJECT_DENIED, /* still 403 after 10 s; goes on trying */
} wh_object_state;

wh_objects *wh_objects_new(wh_kube *kube);
void wh_objects_free(wh_objects *objects); /* subscriptions must be gone */

/* `changed` runs from the loop at the first answer and after each change of state or content; not inside this
 * call, also when the object is known already. */
wh_object_sub *wh_object_subscribe(wh_objects *objects, wh_object_kind kind, const char *ns, const char *name,
                                   void (*changed)(wh_object_sub *sub, void *user), void *user);
void wh_object_unsubscribe(wh_object_sub *sub); /* NULL is fine; allowed in `changed` */
wh_object_state wh_object_state_of(const wh_object_sub *sub);
json_t *wh_object_get(const wh_object_sub *sub);     /* borrowed; NULL unless PRESENT */
const char *wh_object_why(const wh_object_sub *sub); /* a sentence for UNKNOWN, ABSENT and DENIED */
