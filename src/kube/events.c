/* SPDX-License-Identifier: Apache-2.0 */
/* The recorder of events, after the rules of client-go's tools/record: equal events are counted (PATCH of the
 * one that exists), more than ten different messages of one kind within ten minutes become "combined from
 * similar events", and an object that goes on is cut off: 25 at once, one more every five minutes. */
#include "kube/events.h"

#include "base/limits.h"
#include "base/log.h"
#include "base/metrics.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/queue.h>
#include <uthash.h>

#define EVENTS_PARALLEL 4
#define SIMILAR_MAX 10
#define SIMILAR_WINDOW (10 * WH_MINUTE)
#define SPAM_BURST 25
#define SPAM_REFILL (5 * WH_MINUTE)
#define MESSAGE_BYTES_MAX 1024
#define ENTRIES_MAX (2 * WH_KUBE_EVENTS_WAITING_MAX)
#define SEND_TRIES 12

static WH_METRIC(dropped_total, WH_COUNTER, "wherry_events_dropped_total",
                 "Events for people that were not sent, because too many waited or one object had too many.",
                 NULL);

typedef struct entry { /* one Event object of the cluster */
    UT_hash_handle hh;
    TAILQ_ENTRY(entry) link; /* while queued */
    char *api_version, *kind, *ns, *name, *uid, *field_path, *object_version;
    const char *type;
    char *reason, *message;
    char *event_name;    /* NULL: not made yet */
    wh_time first, last; /* real time */
    int64_t count;
    unsigned failures;
    bool queued, dirty, sending;
    wh_kube_call *call;
    wh_events *owner;
    char key[];
} entry;
TAILQ_HEAD(entry_list, entry);

typedef struct source { /* all events about one object; for limits */
    UT_hash_handle hh;
    double allowance;
    wh_time refilled, window; /* monotonic */
    unsigned similar;
    char key[];
} source;

struct wh_events {
    wh_loop *loop;
    wh_kube *kube;
    char *component, *host;
    entry *entries;
    source *sources, *kinds; /* by object; by object, type and reason */
    struct entry_list queue;
    size_t n_queued, n_sending;
    uint64_t dropped;
    wh_timer retry;
    wh_backoff backoff;
};

static void send_some(wh_events *ev);

static char *dup_or_null(const char *s)
{
    return s == NULL ? NULL : wh_xstrdup(s);
}

/* ---- limits ---- */

static source *find_source(source **all, const char *key, wh_time now)
{
    source *s = NULL;
    HASH_FIND_STR(*all, key, s);
    if (s != NULL)
        return s;
    if (HASH_COUNT(*all) >= ENTRIES_MAX) { /* the oldest goes: uthash keeps the order of adding */
        source *oldest = *all;
        HASH_DEL(*all, oldest);
        free(oldest);
    }
    size_t n = strlen(key) + 1;
    s = wh_xcalloc(1, sizeof(*s) + n);
    memcpy(s->key, key, n);
    s->allowance = SPAM_BURST;
    s->refilled = s->window = now;
    HASH_ADD_STR(*all, key, s);
    return s;
}

static bool is_spam(wh_events *ev, const char *object_key)
{
    wh_time now = wh_loop_now(ev->loop);
    source *s = find_source(&ev->sources, object_key, now);
    s->allowance += (double)(now - s->refilled) / (double)SPAM_REFILL;
    s->allowance = WH_MIN(s->allowance, (double)SPAM_BURST);
    s->refilled = now;
    if (s->allowance < 1)
        return true;
    s->allowance -= 1;
    return false;
}

/* Counts different messages of one object, type and reason. */
static bool are_too_many(wh_events *ev, const char *kind_key)
{
    wh_time now = wh_loop_now(ev->loop);
    source *s = find_source(&ev->kinds, kind_key, now);
    if (now - s->window > SIMILAR_WINDOW) {
        s->window = now;
        s->similar = 0;
    }
    return ++s->similar > SIMILAR_MAX;
}

static void count_drop(wh_events *ev)
{
    ev->dropped++;
    wh_metric_add(&dropped_total, NULL, 1);
}

/* ---- entries ---- */

static void free_entry(wh_events *ev, entry *e)
{
    HASH_DEL(ev->entries, e);
    if (e->queued) {
        TAILQ_REMOVE(&ev->queue, e, link);
        ev->n_queued--;
    }
    free(e->api_version);
    free(e->kind);
    free(e->ns);
    free(e->name);
    free(e->uid);
    free(e->field_path);
    free(e->object_version);
    free(e->reason);
    free(e->message);
    free(e->event_name);
    free(e);
}

static void make_room(wh_events *ev)
{
    entry *e;
    entry *next;
    if (HASH_COUNT(ev->entries) < ENTRIES_MAX)
        return;
    HASH_ITER(hh, ev->entries, e, next)
    {
        if (!e->queued && !e->sending) {
            free_entry(ev, e);
            return;
        }
    }
}

static void enqueue(wh_events *ev, entry *e)
{
    e->dirty = true;
    if (e->queued || e->sending)
        return;
    e->queued = true;
    TAILQ_INSERT_TAIL(&ev->queue, e, link);
    ev->n_queued++;
    send_some(ev);
}

static entry *new_entry(wh_events *ev, const wh_event_object *o, const char *type, const char *reason,
                        const char *key)
{
    make_room(ev);
    size_t n = strlen(key) + 1;
    entry *e = wh_xcalloc(1, sizeof(*e) + n);
    memcpy(e->key, key, n);
    e->owner = ev;
    e->api_version = dup_or_null(o->api_version);
    e->kind = dup_or_null(o->kind);
    e->ns = dup_or_null(o->namespace_);
    e->name = dup_or_null(o->name);
    e->uid = dup_or_null(o->uid);
    e->field_path = dup_or_null(o->field_path);
    e->object_version = dup_or_null(o->resource_version);
    e->type = type;
    e->reason = wh_xstrdup(reason);
    e->first = wh_real_now();
    HASH_ADD_STR(ev->entries, key, e);
    return e;
}

static void record(wh_events *ev, const wh_event_object *o, wh_event_type type, const char *reason,
                   const char *message)
{
    const char *type_name = type == WH_EVENT_WARNING ? "Warning" : "Normal";
    auto_free char *object_key =
        wh_xasprintf("%s/%s/%s/%s", o->kind, o->namespace_ == NULL ? "" : o->namespace_, o->name,
                     o->uid == NULL ? "" : o->uid);
    auto_free char *kind_key = wh_xasprintf("%s/%s/%s/%s", object_key,
                                            o->field_path == NULL ? "" : o->field_path, type_name, reason);
    auto_free char *key = wh_xasprintf("%s/%s", kind_key, message);
    if (is_spam(ev, object_key)) {
        count_drop(ev);
        return;
    }
    entry *e = NULL;
    auto_free char *combined = NULL;
    HASH_FIND_STR(ev->entries, key, e);
    if (e == NULL && are_too_many(ev, kind_key)) {
        combined = wh_xasprintf("(combined from similar events): %s", message);
        message = combined;
        HASH_FIND_STR(ev->entries, kind_key, e);
    }
    if (e == NULL && ev->n_queued >= WH_KUBE_EVENTS_WAITING_MAX) {
        count_drop(ev);
        return;
    }
    if (e == NULL)
        e = new_entry(ev, o, type_name, reason, combined != NULL ? kind_key : key);
    free(e->message);
    e->message = wh_xstrdup(message);
    e->last = wh_real_now();
    e->count++;
    enqueue(ev, e);
}

/* ---- sending ---- */

static json_t *make_event(entry *e)
{
    char first[WH_RFC3339_LEN];
    char last[WH_RFC3339_LEN];
    const wh_events *ev = e->owner;
    json_t *involved =
        json_pack("{s:s?, s:s?, s:s?}", "apiVersion", e->api_version, "kind", e->kind, "name", e->name);
    wh_assert(involved != NULL);
    if (e->ns != NULL)
        (void)json_object_set_new(involved, "namespace", json_string(e->ns));
    if (e->uid != NULL)
        (void)json_object_set_new(involved, "uid", json_string(e->uid));
    if (e->field_path != NULL)
        (void)json_object_set_new(involved, "fieldPath", json_string(e->field_path));
    if (e->object_version != NULL)
        (void)json_object_set_new(involved, "resourceVersion", json_string(e->object_version));
    json_t *event = json_pack(
        "{s:s, s:s, s:{s:s, s:s}, s:o, s:s, s:s, s:s, s:{s:s, s:s}, s:s, s:s, s:I, s:s, s:s, s:n, s:s}",
        "apiVersion", "v1", "kind", "Event", "metadata", "name", e->event_name, "namespace",
        e->ns == NULL ? "default" : e->ns, "involvedObject", involved, "reason", e->reason, "message",
        e->message, "type", e->type, "source", "component", ev->component, "host", ev->host, "firstTimestamp",
        wh_rfc3339(e->first, 0, first), "lastTimestamp", wh_rfc3339(e->last, 0, last), "count",
        (json_int_t)e->count, "reportingComponent", ev->component, "reportingInstance", ev->host, "eventTime",
        "action", "");
    wh_assert(event != NULL);
    return event;
}

static json_t *make_patch(const entry *e)
{
    char last[WH_RFC3339_LEN];
    json_t *patch = json_pack("{s:I, s:s, s:s}", "count", (json_int_t)e->count, "lastTimestamp",
                              wh_rfc3339(e->last, 0, last), "message", e->message);
    wh_assert(patch != NULL);
    return patch;
}

static void on_retry(wh_timer *timer)
{
    send_some(timer->user);
}

static void on_sent(const wh_kube_result *result, void *user)
{
    entry *e = user;
    wh_events *ev = e->owner;
    e->sending = false;
    e->call = NULL;
    ev->n_sending--;
    if (result->class_ == WH_KUBE_OK) {
        e->failures = 0;
        wh_backoff_reset(&ev->backoff);
    } else if (result->class_ == WH_KUBE_TRANSIENT && ++e->failures < SEND_TRIES) {
        e->dirty = true;
        e->queued = true;
        TAILQ_INSERT_HEAD(&ev->queue, e, link);
        ev->n_queued++;
        wh_timer_start(ev->loop, &ev->retry, wh_backoff_next(&ev->backoff), on_retry, ev);
        return;
    } else if (result->class_ == WH_KUBE_NOT_FOUND && e->event_name != NULL && e->failures++ == 0) {
        free(WH_TAKE(e->event_name)); /* expired meanwhile: made anew */
        e->dirty = true;
    } else {
        /* A namespace that is ending takes no events; nobody is helped by more words about it. */
        wh_log(DEBUG, "event not sent", KV_ERR(&result->err), KV_STR("reason", e->reason));
        count_drop(ev);
        free_entry(ev, e);
        send_some(ev);
        return;
    }
    if (e->dirty)
        enqueue(ev, e);
    send_some(ev);
}

static void send_entry(wh_events *ev, entry *e)
{
    const char *ns = e->ns == NULL ? "default" : e->ns;
    auto_free char *folder = wh_kube_path("/api/v1/namespaces/%s/events", ns);
    bool is_new = e->event_name == NULL;
    if (is_new)
        e->event_name = wh_xasprintf("%s.%llx", e->name, (unsigned long long)(e->first + e->count));
    auto_free char *path = is_new ? NULL : wh_xasprintf("%s/%s", folder, e->event_name);
    auto_json json_t *body = is_new ? make_event(e) : make_patch(e);
    wh_kube_request request = {.method = is_new ? "POST" : "PATCH",
                               .path = is_new ? folder : path,
                               .content_type = is_new ? WH_KUBE_JSON : WH_KUBE_STRATEGIC,
                               .body = body,
                               .tries = 2};
    e->dirty = false;
    e->sending = true;
    ev->n_sending++;
    e->call = wh_kube_do(ev->kube, &request, on_sent, e);
}

static void send_some(wh_events *ev)
{
    while (ev->kube != NULL && ev->retry.loop == NULL && ev->n_sending < EVENTS_PARALLEL &&
           !TAILQ_EMPTY(&ev->queue)) {
        entry *e = TAILQ_FIRST(&ev->queue);
        TAILQ_REMOVE(&ev->queue, e, link);
        ev->n_queued--;
        e->queued = false;
        send_entry(ev, e);
    }
}

/* ---- life and recording ---- */

wh_events *wh_events_new(wh_loop *loop, wh_kube *kube, const char *component, const char *host)
{
    wh_events *ev = wh_xnew(wh_events);
    ev->loop = loop;
    ev->kube = kube;
    ev->component = wh_xstrdup(component);
    ev->host = wh_xstrdup(host);
    TAILQ_INIT(&ev->queue);
    uint64_t seed;
    wh_random(&seed, sizeof(seed));
    wh_backoff_init(&ev->backoff, WH_SEC, 30 * WH_SEC, seed);
    return ev;
}

void wh_events_use(wh_events *events, wh_kube *kube)
{
    events->kube = kube;
    send_some(events);
}

void wh_events_free(wh_events *events)
{
    if (events == NULL)
        return;
    entry *e;
    entry *next;
    HASH_ITER(hh, events->entries, e, next)
    {
        wh_kube_cancel(e->call);
        free_entry(events, e);
    }
    source *s;
    source *next_source;
    HASH_ITER(hh, events->sources, s, next_source)
    {
        HASH_DEL(events->sources, s);
        free(s);
    }
    HASH_ITER(hh, events->kinds, s, next_source)
    {
        HASH_DEL(events->kinds, s);
        free(s);
    }
    wh_timer_stop(&events->retry);
    free(events->component);
    free(events->host);
    free(events);
}

WH_PRINTF(5, 0)
static void vrecord(wh_events *events, const wh_event_object *object, wh_event_type type, const char *reason,
                    const char *fmt, va_list args)
{
    char message[MESSAGE_BYTES_MAX];
    int n = vsnprintf(message, sizeof(message), fmt, args);
    if (n < 0 || object->kind == NULL || object->name == NULL)
        return;
    /* Half a UTF-8 sequence would be no JSON. */
    size_t len = strlen(message);
    while (len > 0 && !wh_utf8_valid(message, len))
        message[--len] = '\0';
    record(events, object, type, reason, message);
}

void wh_event(wh_events *events, const wh_event_object *object, wh_event_type type, const char *reason,
              const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vrecord(events, object, type, reason, fmt, args);
    va_end(args);
}

void wh_event_pod(wh_events *events, const char *ns, const char *name, const char *uid, const char *container,
                  wh_event_type type, const char *reason, const char *fmt, ...)
{
    auto_free char *field = container == NULL ? NULL : wh_xasprintf("spec.containers{%s}", container);
    wh_event_object object = {
        .api_version = "v1", .kind = "Pod", .namespace_ = ns, .name = name, .uid = uid, .field_path = field};
    va_list args;
    va_start(args, fmt);
    vrecord(events, &object, type, reason, fmt, args);
    va_end(args);
}

size_t wh_events_waiting(const wh_events *events)
{
    return events->n_queued + events->n_sending;
}

uint64_t wh_events_dropped(const wh_events *events)
{
    return events->dropped;
}
