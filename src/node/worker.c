/* SPDX-License-Identifier: Apache-2.0 */
/* One pod: feeds its life cycle with events and carries out the actions. Decides nothing itself. */
#include "base/log.h"
#include "base/metrics.h"
#include "node/internal.h"

#include <signal.h>

static WH_METRIC(pod_events_metric, WH_COUNTER, "wherry_pod_events_total", "Events about pods, by reason.",
                 "reason");
static WH_METRIC(container_starts_metric, WH_COUNTER, "wherry_container_starts_total",
                 "Runners that were started.", NULL);

typedef struct wh_queued_event {
    TAILQ_ENTRY(wh_queued_event) link;
    wh_pod_event event;
} wh_queued_event;

struct wh_old_spec {
    TAILQ_ENTRY(wh_old_spec) link;
    wh_pod_spec *spec;
};

wh_time wh_node_now(const wh_node *node)
{
    return node->real_offset + wh_mono_now();
}

const wh_node_observer *wh_node_observer_of(const wh_node *node, const char *source)
{
    static const wh_node_observer none;

    for (size_t i = 0; i < node->n_observers; i++)
        if (wh_streq(node->observers[i].source, source))
            return &node->observers[i].observer;
    return &none;
}

/* ---- events in ---- */

static wh_queued_event *queue_copy(const wh_pod_event *event)
{
    wh_queued_event *q = wh_xnew(wh_queued_event);

    q->event = *event;
    q->event.reason = event->reason != NULL ? wh_xstrdup(event->reason) : NULL;
    q->event.message = event->message != NULL ? wh_xstrdup(event->message) : NULL;
    q->event.image_id = event->image_id != NULL ? wh_xstrdup(event->image_id) : NULL;
    q->event.end.reason = event->end.reason != NULL ? wh_xstrdup(event->end.reason) : NULL;
    q->event.end.message = event->end.message != NULL ? wh_xstrdup(event->end.message) : NULL;
    return q;
}

static void queue_free(wh_queued_event *q)
{
    free((void *)(uintptr_t)q->event.reason);
    free((void *)(uintptr_t)q->event.message);
    free((void *)(uintptr_t)q->event.image_id);
    free((void *)(uintptr_t)q->event.end.reason);
    free((void *)(uintptr_t)q->event.end.message);
    free(q);
}

static void tick(wh_timer *timer)
{
    wh_worker_post(timer->user, &(wh_pod_event){.type = WH_POD_TICK});
}

/* ---- actions out ---- */

void wh_worker_say(wh_worker *w, size_t container, bool warning, const char *reason, const char *message)
{
    const wh_node_observer *observer = wh_node_observer_of(w->node, w->source);
    const char *name = container == WH_POD_ITSELF ? NULL : w->spec->containers[container].name;
    char time[WH_RFC3339_LEN];

    wh_metric_add(&pod_events_metric, reason, 1);
    while (json_array_size(w->events) >= WH_WORKER_EVENTS_MAX)
        json_array_remove(w->events, 0);
    json_array_append_new(w->events, json_pack("{s:s, s:s, s:s, s:s, s:s?}", "time",
                                               wh_rfc3339(wh_node_now(w->node), 0, time), "type",
                                               warning ? "Warning" : "Normal", "reason", reason, "message",
                                               message, "container", name));
    wh_log(INFO, "pod event", KV_STR("namespace", w->spec->namespace_), KV_STR("pod", w->spec->name),
           KV_STR("container", name), KV_STR("reason", reason), KV_STR("message", message));
    if (observer->on_event != NULL)
        observer->on_event(observer->user, w, name, warning, reason, message);
}

static void signal_done(void *user, int rc, pid_t pid, const char *error)
{
    (void)user;
    (void)pid;
    if (rc < 0 && rc != -ESRCH && rc != -ENOENT)
        wh_log(WARN, "signalling a container failed", KV_STR("error", error));
}

static void signal_container(wh_worker *w, size_t container, unsigned attempt, int signo)
{
    char id[WH_CONTAINER_ID_LEN];
    wh_err err = {0};

    wh_container_id(w->spec, container, attempt, id);
    if (w->node->keeper == NULL || wh_keeper_signal(w->node->keeper, id, signo, signal_done, NULL, &err) < 0)
        wh_log(WARN, "signal waits for the keeper", KV_STR("container", id), KV_ERR(&err));
    if (signo == SIGKILL && w->containers[container].cgroup != NULL)
        wh_cgroup_kill(w->containers[container].cgroup, NULL);
}

static void finish(wh_worker *w)
{
    const wh_node_observer *observer = wh_node_observer_of(w->node, w->source);

    if (observer->on_finished != NULL)
        observer->on_finished(observer->user, w);
    else
        wh_node_forget(w->node, w->uid);
}

static void act(wh_worker *w, const wh_pod_action *a)
{
    const wh_node_observer *observer = wh_node_observer_of(w->node, w->source);

    switch (a->type) {
    case WH_DO_MOUNT:
        wh_worker_mount(w);
        break;
    case WH_DO_PULL:
        wh_worker_pull(w, a->container);
        break;
    case WH_DO_START:
        wh_metric_add(&container_starts_metric, NULL, 1);
        wh_worker_start(w, a->container, a->attempt);
        break;
    case WH_DO_STOP:
        signal_container(w, a->container, a->attempt, a->signal);
        break;
    case WH_DO_KILL:
        signal_container(w, a->container, a->attempt, SIGKILL);
        break;
    case WH_DO_TEARDOWN:
        wh_worker_teardown(w);
        break;
    case WH_DO_STATUS:
        if (observer->on_status != NULL)
            observer->on_status(observer->user, w);
        break;
    case WH_DO_EVENT:
        wh_worker_say(w, a->container, a->warning, a->reason, a->message);
        break;
    case WH_DO_FINISHED:
        finish(w);
        break;
    }
}

static void step(wh_worker *w, const wh_pod_event *event)
{
    auto_pod_actions wh_pod_actions actions = {0};
    wh_time now = wh_node_now(w->node);

    wh_lifecycle_step(w->lc, event, now, &actions);
    wh_worker_save(w);
    for (size_t i = 0; i < actions.n && !w->gone; i++)
        act(w, &actions.list[i]);
    if (w->gone || actions.next == WH_TIME_NEVER)
        wh_timer_stop(&w->tick);
    else
        wh_timer_start(w->node->loop, &w->tick, WH_MAX((wh_time)0, actions.next - now), tick, w);
}

void wh_worker_post(wh_worker *w, const wh_pod_event *event)
{
    wh_queued_event *q = queue_copy(event);

    TAILQ_INSERT_TAIL(&w->queue, q, link);
    if (w->stepping)
        return;
    w->stepping = true;
    while ((q = TAILQ_FIRST(&w->queue)) != NULL) {
        TAILQ_REMOVE(&w->queue, q, link);
        if (!w->gone)
            step(w, &q->event);
        queue_free(q);
    }
    if (!w->gone)
        wh_worker_probe(w);
    w->stepping = false;
    wh_worker_maybe_free(w);
}

/* ---- memory ---- */

static void flush_due(wh_timer *timer)
{
    wh_worker_flush(timer->user);
}

void wh_worker_flush(wh_node *node)
{
    wh_worker *w, *next;
    wh_err err = {0};
    int rc = 0;

    if (node->db == NULL)
        return;

    HASH_ITER(hh, node->by_uid, w, next)
    {
        if (rc < 0 || !w->dirty)
            continue;
        auto_json json_t *state = wh_lifecycle_save(w->lc);
        json_object_set_new(state, "run_uid", json_integer((json_int_t)w->run_uid));
        rc = wh_nodedb_pod_state(node->db, w->uid, state, &err);
        w->dirty = rc < 0;
    }
    rc = rc < 0 ? rc : wh_nodedb_commit(node->db, &err);
    node->flush_due = rc < 0;
    if (rc < 0) { /* a full disk: what runs goes on, and is remembered as soon as there is room */
        wh_log(ERROR, "the state of pods cannot be written; trying again", KV_ERR(&err));
        wh_timer_start(node->loop, &node->flush, WH_SEC, flush_due, node);
    }
}

/* Changes of many pods become durable together, a moment later. An agent that dies before finds its
 * containers at the keeper; what only a power failure could lose, the source says again. */
void wh_worker_save(wh_worker *w)
{
    w->dirty = true;
    wh_node_flush_soon(w->node);
}

void wh_node_flush_soon(wh_node *node)
{
    if (node->db == NULL || node->flush_due)
        return;
    node->flush_due = true;
    wh_timer_start(node->loop, &node->flush, 20 * WH_MSEC, flush_due, node);
}

/* The uid under which the pod's runners run: its own wish, one of its own, or ours. */
static void choose_uid(wh_worker *w, const json_t *saved)
{
    int64_t before = saved != NULL ? wh_json_int(saved, "run_uid", -1) : -1;
    wh_node *node = w->node;

    w->run_uid = geteuid();
    w->run_gid = getegid();
    if (geteuid() != 0)
        return;
    if (w->spec->run_as_user >= 0) {
        w->run_uid = (uid_t)w->spec->run_as_user;
    } else if (before >= 0) {
        w->run_uid = (uid_t)before;
    } else if (node->config.own_uids) {
        w->run_uid = WH_NODE_UID_FIRST + node->next_uid;
        node->next_uid = (node->next_uid + 1) % WH_NODE_UID_COUNT;
    }
    w->run_gid = w->spec->run_as_group >= 0 ? (gid_t)w->spec->run_as_group : (gid_t)w->run_uid;
    if (w->run_uid >= WH_NODE_UID_FIRST && w->run_uid < WH_NODE_UID_FIRST + WH_NODE_UID_COUNT && before >= 0)
        node->next_uid = (w->run_uid - WH_NODE_UID_FIRST + 1) % WH_NODE_UID_COUNT;
}

static int make_lifecycle(wh_worker *w, const json_t *saved, wh_err *err)
{
    if (saved == NULL || json_object_size(saved) == 0) {
        w->lc = wh_lifecycle_new(w->spec, wh_node_now(w->node));
        return 0;
    }
    return wh_lifecycle_load(w->spec, saved, wh_node_now(w->node), &w->lc, err);
}

wh_worker *wh_worker_new(wh_node *node, const char *source, const char *origin, wh_pod_spec *spec,
                         const json_t *saved, wh_err *err)
{
    wh_worker *w = wh_xnew(wh_worker);

    w->node = node;
    w->uid = wh_xstrdup(spec->uid);
    w->origin = wh_xstrdup(origin != NULL ? origin : "");
    w->source = source;
    w->spec = spec;
    w->events = json_array();
    w->containers = wh_xcalloc(spec->n_containers, sizeof(*w->containers));
    for (size_t i = 0; i < spec->n_containers; i++)
        w->containers[i] = (wh_worker_container){.code = {.fd = -1}, .probed_attempt = -1, .worker = w};
    TAILQ_INIT(&w->jobs);
    TAILQ_INIT(&w->queue);
    TAILQ_INIT(&w->old_specs);
    pthread_mutex_init(&w->token_lock, NULL);
    choose_uid(w, saved);
    w->resolver = (wh_resolver){.get = wh_snapshot_get, .user = w};
    if (wh_worker_serve_init(w, err) < 0 || make_lifecycle(w, saved, err) < 0) {
        w->spec = NULL; /* stays the caller's */
        w->gone = true;
        wh_worker_free(w);
        return NULL;
    }
    w->volumes = wh_volumes_new(&(wh_volumes_config){.root = node->pods_dir,
                                                     .facts = &w->facts,
                                                     .resolver = &w->resolver,
                                                     .token = wh_worker_token_get,
                                                     .token_user = w,
                                                     .privileged = geteuid() == 0,
                                                     .uid = w->run_uid,
                                                     .gid = w->run_gid},
                                spec);
    wh_worker_subscribe(w);
    return w;
}

int wh_worker_set_spec(wh_worker *w, wh_pod_spec *spec, wh_err *err)
{
    int rc = wh_lifecycle_set_spec(w->lc, spec, err);

    if (rc < 0)
        return rc;
    struct wh_old_spec *old = wh_xnew(struct wh_old_spec);
    old->spec = w->spec;
    TAILQ_INSERT_TAIL(&w->old_specs, old, link); /* jobs may still read it */
    w->spec = spec;
    for (size_t i = 0; i < spec->n_containers; i++)
        if (w->containers[i].probes.specs != NULL)
            w->containers[i].probes.specs = spec->containers[i].probes;
    wh_volumes_set_spec(w->volumes, spec);
    return 0;
}

static void free_old_specs(wh_worker *w)
{
    struct wh_old_spec *old;

    while ((old = TAILQ_FIRST(&w->old_specs)) != NULL) {
        TAILQ_REMOVE(&w->old_specs, old, link);
        wh_pod_spec_free(old->spec);
        free(old);
    }
}

static bool is_busy(const wh_worker *w)
{
    return w->job_running || w->pulls_running > 0 || w->stepping;
}

static void reap(void *user)
{
    wh_worker *w = user;

    w->reap_queued = false;
    if (is_busy(w))
        return; /* asked again when that is over */
    if (w->gone)
        wh_worker_free(w);
    else
        free_old_specs(w);
}

/* Frees a worker that is gone, once no job and no event uses it: behind the callbacks of this round, so that whoever
 * called may go on using it. */
void wh_worker_maybe_free(wh_worker *w)
{
    if (is_busy(w) || w->reap_queued || (!w->gone && TAILQ_EMPTY(&w->old_specs)))
        return;
    w->reap_queued = true;
    wh_loop_defer(w->node->loop, reap, w);
}

void wh_worker_free(wh_worker *w)
{
    wh_queued_event *q;

    if (w == NULL)
        return;
    wh_assert(w->gone);
    while ((q = TAILQ_FIRST(&w->queue)) != NULL) {
        TAILQ_REMOVE(&w->queue, q, link);
        queue_free(q);
    }
    wh_worker_unsubscribe(w);
    wh_worker_probe_done(w);
    wh_worker_serve_done(w);
    for (size_t i = 0; w->containers != NULL && w->spec != NULL && i < w->spec->n_containers; i++) {
        wh_image_free(w->containers[i].image);
        wh_code_done(&w->containers[i].code);
        wh_cgroup_free(w->containers[i].cgroup);
    }
    wh_timer_stop(&w->tick);
    wh_timer_stop(&w->refresh);
    wh_cgroup_free(w->cgroup);
    wh_volumes_free(w->volumes);
    wh_lifecycle_free(w->lc);
    free_old_specs(w);
    wh_pod_spec_free(w->spec);
    for (size_t i = 0; i < WH_WORKER_TOKENS_MAX; i++) {
        free(w->tokens[i].audience);
        free(w->tokens[i].token);
    }
    pthread_mutex_destroy(&w->token_lock);
    json_decref(w->events);
    json_decref(w->snapshot);
    free(w->containers);
    free(w->origin);
    free(w->uid);
    free(w);
}

/* ---- what others see ---- */

const wh_pod_spec *wh_worker_spec(const wh_worker *w)
{
    return w->spec;
}

const wh_lifecycle *wh_worker_lifecycle(const wh_worker *w)
{
    return w->lc;
}

const char *wh_worker_source(const wh_worker *w)
{
    return w->source;
}

const char *wh_worker_origin(const wh_worker *w)
{
    return w->origin;
}

json_t *wh_worker_status_patch(const wh_worker *w)
{
    return wh_status_patch(w->lc, &w->facts);
}

json_t *wh_worker_pod(const wh_worker *w)
{
    return wh_status_pod(w->lc, &w->facts);
}

json_t *wh_worker_events(const wh_worker *w)
{
    return json_incref(w->events);
}

char *wh_worker_log_dir(const wh_worker *w, size_t container)
{
    return wh_xasprintf("%s/%s_%s_%s/%s", w->node->config.paths->logs, w->spec->namespace_, w->spec->name,
                        w->spec->uid, w->spec->containers[container].name);
}

int wh_worker_usage(const wh_worker *w, size_t container, wh_usage *ret)
{
    const wh_container_life *life = wh_lifecycle_container(w->lc, container);
    wh_cgroup_usage usage = {0};

    if (life->state != WH_CONTAINER_RUNNING)
        return -ENOENT;
    if (w->containers[container].cgroup != NULL)
        wh_cgroup_usage_get(w->containers[container].cgroup, &usage, NULL);
    *ret = (wh_usage){.cpu_ns = usage.cpu_ns,
                      .memory_bytes = usage.memory_bytes,
                      .working_set_bytes = usage.working_set_bytes,
                      .started = life->started};
    return 0;
}

wh_run_report wh_worker_report(const wh_worker *w, size_t container)
{
    return w->containers[container].report;
}
