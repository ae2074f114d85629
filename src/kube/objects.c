/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/objects.h"

#include <stdio.h>
#include <sys/queue.h>
#include <uthash.h>

#define DENIED_AFTER (10 * WH_SEC)

typedef struct watched {
    UT_hash_handle hh;
    wh_objects *owner;
    wh_watch *watch;
    wh_object_state state;
    json_t *object;
    wh_time forbidden_since; /* monotonic; 0: it is not */
    char why[256];
    LIST_HEAD(, wh_object_sub) subs;
    char key[]; /* "secrets/ns/name" */
} watched;

struct wh_object_sub {
    LIST_ENTRY(wh_object_sub) link;
    watched *of;
    void (*changed)(wh_object_sub *sub, void *user);
    void *user;
    wh_timer timer; /* a change is to be told */
};

struct wh_objects {
    wh_kube *kube;
    watched *all;
};

wh_objects *wh_objects_new(wh_kube *kube)
{
    wh_objects *objects = wh_xnew(wh_objects);
    objects->kube = kube;
    return objects;
}

void wh_objects_free(wh_objects *objects)
{
    if (objects == NULL)
        return;
    wh_assert(objects->all == NULL);
    free(objects);
}

static void on_tell(wh_timer *timer)
{
    wh_object_sub *sub = timer->user;
    sub->changed(sub, sub->user);
}

static void tell(wh_object_sub *sub)
{
    wh_timer_start(wh_kube_loop(sub->of->owner->kube), &sub->timer, 0, on_tell, sub);
}

static void set_state(watched *w, wh_object_state state, json_t *object, const char *why)
{
    (void)snprintf(w->why, sizeof(w->why), "%s", why);
    if (w->state == state && w->object == object)
        return;
    w->state = state;
    json_incref(object);
    json_decref(w->object);
    w->object = object;
    wh_object_sub *sub;
    LIST_FOREACH(sub, &w->subs, link)
    tell(sub);
}

static void on_event(wh_watch_kind kind, json_t *object, void *user)
{
    watched *w = user;
    w->forbidden_since = 0;
    if (kind == WH_WATCH_DELETED)
        set_state(w, WH_OBJECT_ABSENT, NULL, "it was deleted");
    else
        set_state(w, WH_OBJECT_PRESENT, object, "");
}

static void on_synced(void *user)
{
    watched *w = user;
    w->forbidden_since = 0;
    if (w->object == NULL)
        set_state(w, WH_OBJECT_ABSENT, NULL, "not found");
}

static void on_error(const wh_kube_result *result, void *user)
{
    watched *w = user;
    wh_time now = wh_loop_now(wh_kube_loop(w->owner->kube));
    if (result->class_ != WH_KUBE_FORBIDDEN) {
        w->forbidden_since = 0;
        if (w->state == WH_OBJECT_UNKNOWN)
            set_state(w, WH_OBJECT_UNKNOWN, NULL, result->err.msg);
        return; /* what we know stays true until we hear otherwise */
    }
    if (w->forbidden_since == 0)
        w->forbidden_since = now;
    if (w->state != WH_OBJECT_PRESENT)
        set_state(w, now - w->forbidden_since >= DENIED_AFTER ? WH_OBJECT_DENIED : w->state, NULL,
                  result->err.msg);
}

static watched *find_or_watch(wh_objects *objects, wh_object_kind kind, const char *ns, const char *name)
{
    static const wh_watch_callbacks callbacks = {
        .on_event = on_event, .on_synced = on_synced, .on_error = on_error};
    const char *resource = kind == WH_OBJECT_SECRET ? "secrets" : "configmaps";
    auto_free char *key = wh_xasprintf("%s/%s/%s", resource, ns, name);
    watched *w = NULL;
    HASH_FIND_STR(objects->all, key, w);
    if (w != NULL)
        return w;
    size_t n = strlen(key) + 1;
    w = wh_xcalloc(1, sizeof(*w) + n);
    memcpy(w->key, key, n);
    w->owner = objects;
    LIST_INIT(&w->subs);
    (void)snprintf(w->why, sizeof(w->why), "not asked yet");
    auto_free char *path = wh_kube_path(
        kind == WH_OBJECT_SECRET ? "/api/v1/namespaces/%s/secrets" : "/api/v1/namespaces/%s/configmaps", ns);
    auto_free char *selector = wh_xasprintf("metadata.name=%s", name);
    wh_watch_options options = {.path = path, .field_selector = selector, .forbidden_is_transient = true};
    wh_assert(wh_watch_start(objects->kube, &options, &callbacks, w, &w->watch, NULL) == 0);
    HASH_ADD_STR(objects->all, key, w);
    return w;
}

wh_object_sub *wh_object_subscribe(wh_objects *objects, wh_object_kind kind, const char *ns, const char *name,
                                   void (*changed)(wh_object_sub *sub, void *user), void *user)
{
    wh_object_sub *sub = wh_xnew(wh_object_sub);
    sub->of = find_or_watch(objects, kind, ns, name);
    sub->changed = changed;
    sub->user = user;
    LIST_INSERT_HEAD(&sub->of->subs, sub, link);
    if (sub->of->state != WH_OBJECT_UNKNOWN)
        tell(sub);
    return sub;
}

void wh_object_unsubscribe(wh_object_sub *sub)
{
    if (sub == NULL)
        return;
    watched *w = sub->of;
    LIST_REMOVE(sub, link);
    wh_timer_stop(&sub->timer);
    free(sub);
    if (!LIST_EMPTY(&w->subs))
        return;
    HASH_DEL(w->owner->all, w);
    wh_watch_free(w->watch);
    json_decref(w->object);
    free(w);
}

wh_object_state wh_object_state_of(const wh_object_sub *sub)
{
    return sub->of->state;
}

json_t *wh_object_get(const wh_object_sub *sub)
{
    return sub->of->object;
}

const char *wh_object_why(const wh_object_sub *sub)
{
    return sub->of->why;
}
