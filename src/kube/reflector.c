/* SPDX-License-Identifier: Apache-2.0 */
/* List and watch as a state machine. Kubernetes API concepts, "Efficient detection of changes"; KEP-3157 for streaming
 * lists. */
#include "kube/reflector.h"

#include "base/limits.h"

#include <stdio.h>
#include <uthash.h>

#define KEY_BYTES_MAX 512

struct wh_reflect_entry {
    UT_hash_handle hh;
    json_t *object;
    uint64_t round;
    char key[];
};

void wh_reflect_init(wh_reflector *r)
{
    *r = (wh_reflector){.phase = WH_REFLECT_STREAM, .round = 1};
}

static void free_entry(wh_reflector *r, wh_reflect_entry *e)
{
    HASH_DEL(r->entries, e);
    r->count--;
    json_decref(e->object);
    free(e);
}

void wh_reflect_done(wh_reflector *r)
{
    wh_reflect_entry *e;
    wh_reflect_entry *next;
    HASH_ITER(hh, r->entries, e, next)
    free_entry(r, e);
    free(r->version);
    free(r->next_page);
    r->version = r->next_page = NULL;
}

/* ---- what to ask ---- */

static void add_param(wh_buf *out, const char *name, const char *value)
{
    if (value == NULL)
        return;
    auto_free char *escaped = wh_kube_path("%s", value);
    (void)wh_buf_printf(out, "%s%s=%s", out->len > 0 ? "&" : "", name, escaped);
}

char *wh_reflect_query(wh_reflector *r, const char *field_selector, const char *label_selector,
                       unsigned seconds)
{
    char limit[16];
    wh_buf out;
    wh_buf_init(&out, 64UL << 10);
    if (r->phase == WH_REFLECT_STREAM && r->no_streaming_list)
        r->phase = WH_REFLECT_LIST;
    r->refreshed = false;
    add_param(&out, "fieldSelector", field_selector);
    add_param(&out, "labelSelector", label_selector);
    (void)snprintf(limit, sizeof(limit), "%u", seconds);
    switch (r->phase) {
    case WH_REFLECT_STREAM:
        r->round++;
        add_param(&out, "watch", "true");
        add_param(&out, "sendInitialEvents", "true");
        add_param(&out, "resourceVersionMatch", "NotOlderThan");
        add_param(&out, "allowWatchBookmarks", "true");
        add_param(&out, "timeoutSeconds", limit);
        break;
    case WH_REFLECT_LIST:
        add_param(&out, "limit", "500");
        if (r->next_page != NULL) {
            add_param(&out, "continue", r->next_page);
        } else {
            r->round++;
            /* "0" may be served from the server's cache; after 410 only the newest will do. */
            add_param(&out, "resourceVersion", r->version == NULL && !r->synced ? "0" : NULL);
        }
        break;
    case WH_REFLECT_WATCH:
    default:
        add_param(&out, "watch", "true");
        add_param(&out, "allowWatchBookmarks", "true");
        add_param(&out, "resourceVersion", r->version);
        add_param(&out, "timeoutSeconds", limit);
        break;
    }
    char *query = wh_buf_take(&out);
    wh_assert(query != NULL);
    return query;
}

/* ---- the objects ---- */

static int key_of(const json_t *object, char key[KEY_BYTES_MAX])
{
    const char *name = wh_json_str(object, "metadata.name");
    const char *ns = wh_json_str(object, "metadata.namespace");
    if (name == NULL || name[0] == '\0')
        return -EBADMSG;
    bool flat = ns == NULL || ns[0] == '\0';
    int n = snprintf(key, KEY_BYTES_MAX, "%s%s%s", flat ? "" : ns, flat ? "" : "/", name);
    return n < 0 || n >= KEY_BYTES_MAX ? -EBADMSG : 0;
}

static void tell(const wh_reflector *r, wh_watch_kind kind, json_t *object)
{
    if (r->on_event != NULL)
        r->on_event(kind, object, r->user);
}

static void drop(wh_reflector *r, wh_reflect_entry *e, json_t *last)
{
    json_t *object = json_incref(last == NULL ? e->object : last);
    free_entry(r, e);
    tell(r, WH_WATCH_DELETED, object);
    json_decref(object);
}

static int upsert(wh_reflector *r, json_t *object, wh_err *err)
{
    char key[KEY_BYTES_MAX];
    if (key_of(object, key) < 0)
        return wh_fail(err, -EBADMSG, "watch: an object without a name came.");
    wh_reflect_entry *e = NULL;
    HASH_FIND_STR(r->entries, key, e);
    if (e != NULL && !wh_streq(wh_json_str(e->object, "metadata.uid"), wh_json_str(object, "metadata.uid"))) {
        drop(r, e, NULL);
        e = NULL;
    }
    if (e != NULL) {
        const char *version = wh_json_str(object, "metadata.resourceVersion");
        bool same = version != NULL && wh_streq(wh_json_str(e->object, "metadata.resourceVersion"), version);
        e->round = r->round;
        if (same)
            return 0;
        json_decref(e->object);
        e->object = json_incref(object);
        tell(r, WH_WATCH_MODIFIED, object);
        return 0;
    }
    if (r->count >= WH_KUBE_OBJECTS_MAX)
        return wh_fail(err, -EFBIG, "watch: more than %d objects; choose fewer by a selector.",
                       WH_KUBE_OBJECTS_MAX);
    size_t n = strlen(key) + 1;
    e = wh_xcalloc(1, sizeof(*e) + n);
    memcpy(e->key, key, n);
    e->object = json_incref(object);
    e->round = r->round;
    HASH_ADD_STR(r->entries, key, e);
    r->count++;
    tell(r, WH_WATCH_ADDED, object);
    return 0;
}

static int remove_object(wh_reflector *r, json_t *object, wh_err *err)
{
    char key[KEY_BYTES_MAX];
    if (key_of(object, key) < 0)
        return wh_fail(err, -EBADMSG, "watch: an object without a name came.");
    wh_reflect_entry *e = NULL;
    HASH_FIND_STR(r->entries, key, e);
    if (e != NULL)
        drop(r, e, object);
    return 0;
}

/* The list is complete: what it did not name is gone. */
static void sweep(wh_reflector *r)
{
    wh_reflect_entry *e;
    wh_reflect_entry *next;
    HASH_ITER(hh, r->entries, e, next)
    {
        if (e->round != r->round)
            drop(r, e, NULL);
    }
    r->synced = true;
    r->phase = WH_REFLECT_WATCH;
    if (r->on_synced != NULL)
        r->on_synced(r->user);
}

static void set_version(wh_reflector *r, const json_t *object)
{
    const char *version = wh_json_str(object, "metadata.resourceVersion");
    if (version == NULL || version[0] == '\0' || wh_streq(version, r->version))
        return;
    free(r->version);
    r->version = wh_xstrdup(version);
}

/* ---- what comes back ---- */

static int error_event(const json_t *status, wh_err *err)
{
    int64_t code = wh_json_int(status, "code", 0);
    const char *message = wh_json_str(status, "message");
    const char *reason = wh_json_str(status, "reason");
    bool stale = code == 410 || wh_streq(reason, "Expired") || wh_streq(reason, "Gone");
    return wh_fail(err, stale ? -ESTALE : -EAGAIN, "watch: the API server ended it: %s",
                   message != NULL  ? message
                   : reason != NULL ? reason
                                    : "no reason given");
}

static void bookmark(wh_reflector *r, const json_t *object)
{
    /* The annotation's name has dots, so it is no path. */
    const json_t *annotations = wh_json_at(object, "metadata.annotations");
    const char *end = json_string_value(json_object_get(annotations, "k8s.io/initial-events-end"));
    set_version(r, object);
    if (r->phase == WH_REFLECT_STREAM && wh_streq(end, "true"))
        sweep(r);
}

int wh_reflect_line(wh_reflector *r, const char *line, size_t n, wh_err *err)
{
    auto_json json_t *event = NULL;
    int rc = wh_json_parse(line, n, &event, err);
    if (rc < 0) {
        (void)wh_wrap(err, "watch: a line is no JSON");
        return rc;
    }
    const char *type = wh_json_str(event, "type");
    json_t *object = json_object_get(event, "object");
    if (type == NULL || !json_is_object(object))
        return wh_fail(err, -EBADMSG, "watch: a line is no watch event.");
    if (strcmp(type, "ERROR") == 0)
        return error_event(object, err);
    if (strcmp(type, "BOOKMARK") == 0)
        bookmark(r, object);
    else if (strcmp(type, "ADDED") == 0 || strcmp(type, "MODIFIED") == 0)
        rc = upsert(r, object, err);
    else if (strcmp(type, "DELETED") == 0)
        rc = remove_object(r, object, err);
    else
        rc = wh_fail(err, -EBADMSG, "watch: an event of the unknown type '%.32s' came.", type);
    if (rc < 0)
        return rc;
    r->refreshed = true;
    if (r->phase == WH_REFLECT_WATCH)
        set_version(r, object);
    return 0;
}

int wh_reflect_page(wh_reflector *r, const json_t *list, wh_err *err)
{
    json_t *items = json_object_get(list, "items");
    if (!json_is_array(items) && !json_is_null(items))
        return wh_fail(err, -EBADMSG, "list: the answer is no list.");
    /* Items of a list carry neither; a watch's objects do. Whoever keeps them need not know the difference. */
    const char *list_kind = wh_json_str(list, "kind");
    const char *version = wh_json_str(list, "apiVersion");
    size_t kind_len = list_kind != NULL && wh_ends_with(list_kind, "List") ? strlen(list_kind) - 4 : 0;
    size_t i;
    json_t *item;
    json_array_foreach(items, i, item)
    {
        if (json_is_object(item) && json_object_get(item, "kind") == NULL && kind_len > 0 &&
            version != NULL) {
            (void)json_object_set_new(item, "kind", json_stringn(list_kind, kind_len));
            (void)json_object_set_new(item, "apiVersion", json_string(version));
        }
        int rc = upsert(r, item, err);
        if (rc < 0)
            return rc;
    }
    r->refreshed = true;
    const char *next = wh_json_str(list, "metadata.continue");
    free(r->next_page);
    r->next_page = next == NULL || next[0] == '\0' ? NULL : wh_xstrdup(next);
    if (r->next_page != NULL)
        return 0;
    set_version(r, list);
    sweep(r);
    return 0;
}

static void begin_anew(wh_reflector *r)
{
    free(r->version);
    free(r->next_page);
    r->version = r->next_page = NULL;
    r->phase = r->no_streaming_list ? WH_REFLECT_LIST : WH_REFLECT_STREAM;
}

wh_reflect_next wh_reflect_end(wh_reflector *r, int status, int code)
{
    bool ok = status == 200 && code == 0;
    if (status == 410 || code == -ESTALE) {
        /* The first time at once; a server that says so again and again is not asked in a loop. */
        bool was_watch = r->phase == WH_REFLECT_WATCH;
        begin_anew(r);
        return was_watch ? WH_REFLECT_NOW : WH_REFLECT_LATER;
    }
    if (r->phase == WH_REFLECT_STREAM && (status == 400 || status == 422)) {
        r->no_streaming_list = true;
        begin_anew(r);
        return WH_REFLECT_NOW;
    }
    if (r->phase == WH_REFLECT_LIST)
        return ok ? WH_REFLECT_NOW : WH_REFLECT_LATER; /* the next page */
    if (r->phase == WH_REFLECT_WATCH && r->version == NULL)
        begin_anew(r);
    return ok && r->refreshed ? WH_REFLECT_NOW : WH_REFLECT_LATER;
}

json_t *wh_reflect_find(const wh_reflector *r, const char *key)
{
    wh_reflect_entry *e = NULL;
    HASH_FIND_STR(r->entries, key, e);
    return e == NULL ? NULL : e->object;
}

void wh_reflect_each(const wh_reflector *r, void (*fn)(const char *key, json_t *object, void *user),
                     void *user)
{
    wh_reflect_entry *e;
    wh_reflect_entry *next;
    HASH_ITER(hh, r->entries, e, next)
    fn(e->key, e->object, user);
}
