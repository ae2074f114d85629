/* SPDX-License-Identifier: Apache-2.0 */
/* The set of pods, the keeper's connection, and taking over after a restart of either side. */
#include "node/node.h"
#include "base/file.h"
#include "base/log.h"
#include "base/metrics.h"
#include "node/internal.h"
#include "pod/resources.h"

#include <fcntl.h>
#include <signal.h>

static WH_METRIC(running_pods, WH_GAUGE, "kubelet_running_pods", "Pods that this node has.", NULL);
static WH_METRIC(keeper_lost_metric, WH_COUNTER, "wherry_keeper_lost_total",
                 "Connections to the keeper that broke.", NULL);

static void connect_keeper(wh_node *node);

/* ---- what the keeper says ---- */

static wh_worker *worker_of_id(const wh_node *node, const char *id, size_t *ret_container,
                               unsigned *ret_attempt)
{
    auto_free char *uid = NULL;
    auto_free char *name = NULL;

    if (wh_container_id_parse(id, &uid, &name, ret_attempt) < 0)
        return NULL;
    wh_worker *w = wh_node_find(node, uid);
    int index = w != NULL ? wh_pod_spec_find(w->spec, name) : -ENOENT;
    if (index < 0)
        return NULL;
    *ret_container = (size_t)index;
    return w;
}

static const double start_buckets[] = {0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 0};
static wh_metric start_seconds = {
    .name = "wherry_container_start_seconds",
    .help = "From the decision to start a container to its guest's first instruction.",
    .kind = WH_HISTOGRAM,
    .buckets = start_buckets};

__attribute__((constructor)) static void register_start_seconds(void)
{
    wh_metric_register(&start_seconds);
}

static void post_running(wh_worker *w, size_t container, unsigned attempt, const wh_keeper_event *event)
{
    if (event->note != NULL && event->note[0] != '\0')
        wh_log(WARN, "a runner is confined less than it could be", KV_STR("why", event->note));
    wh_worker_container *c = &w->containers[container];
    if (!c->running_seen && c->start_asked != 0) {
        c->report = (wh_run_report){.start_ns = wh_mono_now() - c->start_asked};
        wh_metric_observe(&start_seconds, NULL, (double)c->report.start_ns / (double)WH_SEC);
    }
    c->running_seen = true;
    wh_worker_post(w, &(wh_pod_event){.type = WH_POD_RUNNING,
                                      .container = container,
                                      .attempt = attempt,
                                      .pid = event->pid,
                                      .started = event->running});
}

static void ignore_answer(void *user, int rc, pid_t pid, const char *error)
{
    (void)user;
    (void)rc;
    (void)pid;
    (void)error;
}

/* A container went dormant or was woken, or could not be. */
static void news_of_rest(wh_worker *w, size_t container, const wh_keeper_event *event)
{
    bool was = w->containers[container].dormant;

    if (!event->rests && !was)
        return;
    wh_worker_set_dormant(w, container, event);
    if (event->error != NULL)
        wh_worker_say(w, container, true, "WakeFailed", event->error);
    else if (event->dormant != was) /* no event: it may happen every minute */
        wh_log(DEBUG, event->dormant ? "a container went dormant" : "a container was woken",
               KV_STR("id", event->id));
}

static void on_keeper_event(void *user, const wh_keeper_event *event)
{
    wh_node *node = user;
    size_t container;
    unsigned attempt;
    wh_worker *w = worker_of_id(node, event->id, &container, &attempt);

    if (w == NULL) { /* of a pod that was forgotten, or one that belongs to none and was ended */
        if (event->exited)
            wh_keeper_reap(node->keeper, event->id, ignore_answer, NULL, NULL);
        return;
    }
    if ((unsigned)wh_lifecycle_container(w->lc, container)->attempt == attempt)
        news_of_rest(w, container, event);
    if (event->exited)
        wh_worker_collect_end(w, container, attempt, event, false);
    else if (event->running != 0 && !event->dormant)
        post_running(w, container, attempt, event);
}

static void retry_keeper(wh_timer *timer)
{
    connect_keeper(timer->user);
}

static void free_keeper(void *user)
{
    wh_keeper_free(user);
}

static void on_keeper_lost(void *user, const wh_err *err)
{
    wh_node *node = user;

    wh_metric_add(&keeper_lost_metric, NULL, 1);
    wh_log(WARN, "the keeper is gone; containers run on, starting a new one", KV_ERR(err));
    wh_loop_defer(node->loop, free_keeper, WH_TAKE(node->keeper));
    wh_timer_start(node->loop, &node->keeper_retry, 10 * WH_MSEC, retry_keeper, node);
}

/* ---- taking over ---- */

/* A container of a pod that nobody knows: ended and forgotten. */
static void clear_stranger(wh_node *node, const wh_keeper_event *event)
{
    wh_log(INFO, "ending a container that belongs to no pod", KV_STR("container", event->id));
    if (event->exited)
        wh_keeper_reap(node->keeper, event->id, ignore_answer, NULL, NULL);
    else
        wh_keeper_signal(node->keeper, event->id, SIGKILL, ignore_answer, NULL, NULL);
}

static wh_cgroup *find_cgroup(wh_worker *w, size_t container, unsigned attempt)
{
    auto_free char *path = wh_container_cgroup_path(w->spec, container, attempt);
    wh_cgroup_limits limits = wh_container_cgroup_limits(w->spec, container);
    wh_cgroup *group = NULL;

    if (w->node->cgroups != NULL)
        wh_cgroup_make(w->node->cgroups, path, &limits, &group, NULL);
    return group;
}

/* One container that the keeper has. Before a pod is taken over this is an ADOPT, afterwards (a new keeper)
 * news. */
static void take_over(void *user, const wh_keeper_event *event)
{
    wh_node *node = user;
    size_t container;
    unsigned attempt;

    if (event->held) {
        if (!wh_node_held(node, event->id))
            wh_keeper_drop(node->keeper, event->id, ignore_answer, NULL, NULL);
        return;
    }
    wh_worker *w = worker_of_id(node, event->id, &container, &attempt);
    if (w == NULL) {
        clear_stranger(node, event);
        return;
    }
    if (w->containers[container].cgroup == NULL)
        w->containers[container].cgroup = find_cgroup(w, container, attempt);
    bool adopting = wh_lifecycle_adopting(w->lc);
    bool current = wh_lifecycle_container(w->lc, container)->attempt == attempt;
    w->containers[container].listed |= current;
    if (w->containers[container].start_unknown && current) {
        w->containers[container].start_unknown = false;
        wh_worker_post(
            w, &(wh_pod_event){
                   .type = WH_POD_STARTED, .container = container, .attempt = attempt, .pid = event->pid});
    }
    if (event->exited) {
        wh_worker_collect_end(w, container, attempt, event, adopting);
        return;
    }
    w->containers[container].running_seen = true;
    wh_worker_set_dormant(w, container, event);
    if (adopting)
        wh_worker_post(w, &(wh_pod_event){.type = WH_POD_ADOPT,
                                          .adopt = WH_ADOPT_RUNNING,
                                          .container = container,
                                          .attempt = attempt,
                                          .pid = event->pid,
                                          .started = event->running != 0 ? event->running : event->started});
    else if (event->running != 0)
        post_running(w, container, attempt, event);
}

/* What the dying keeper may have begun ends with its group; the life cycle tries again. */
static void start_was_lost(wh_worker *w, size_t container, unsigned attempt)
{
    wh_worker_container *c = &w->containers[container];

    if (c->cgroup != NULL) {
        wh_cgroup_kill(c->cgroup, NULL);
        wh_cgroup_remove(c->cgroup, NULL);
        wh_cgroup_free(c->cgroup);
        c->cgroup = NULL;
    }
    wh_worker_post(w, &(wh_pod_event){.type = WH_POD_START_FAILED,
                                      .container = container,
                                      .attempt = attempt,
                                      .reason = "RunContainerError",
                                      .message = "the keeper died while it was starting the container"});
}

/* After a new keeper told what it has: what we believe to run and it does not know has ended unseen. */
static void reconcile(wh_worker *w)
{
    for (size_t i = 0; i < w->spec->n_containers; i++) {
        const wh_container_life *life = wh_lifecycle_container(w->lc, i);
        bool believed =
            life->state == WH_CONTAINER_RUNNING || (life->state == WH_CONTAINER_STARTING && life->pid != 0);
        if (w->containers[i].start_unknown && !w->containers[i].listed) {
            w->containers[i].start_unknown = false;
            start_was_lost(w, i, life->attempt);
            continue;
        }
        if (believed && !w->containers[i].listed)
            wh_worker_collect_end(
                w, i, life->attempt,
                &(wh_keeper_event){.exited = true, .exit_code = -1, .started = life->started}, false);
    }
}

static void listed(void *user, int rc, pid_t pid, const char *error)
{
    wh_node *node = user;
    wh_worker *w, *next;

    (void)pid;
    if (rc < 0) {
        wh_log(ERROR, "the keeper does not say what runs", KV_STR("error", error));
        return;
    }
    if (!node->is_ready)
        wh_node_network_adopt(node);
    HASH_ITER(hh, node->by_uid, w, next)
    {
        if (wh_lifecycle_adopting(w->lc))
            wh_worker_adopted_later(w);
        else
            reconcile(w);
    }
    if (!node->is_ready) {
        node->is_ready = true;
        node->ready(node->ready_user);
    }
}

static void connect_keeper(wh_node *node)
{
    wh_err err = {0};
    wh_worker *w, *next;

    int rc = wh_keeper_connect(node->loop, node->config.paths->run, node->config.paths->keeper,
                               &node->keeper_callbacks, &node->keeper, &err);
    if (rc == 0) {
        HASH_ITER(hh, node->by_uid, w, next)
        for (size_t i = 0; i < w->spec->n_containers; i++) {
            w->containers[i].listed = false;
            w->containers[i].n_held = 0;
        }
        rc = node->config.ephemeral ? wh_keeper_tie(node->keeper, ignore_answer, NULL, &err) : 0;
        rc = rc < 0 ? rc : wh_keeper_list(node->keeper, take_over, listed, node, &err);
    }
    if (rc == 0)
        return;
    wh_log(ERROR, "no keeper; trying again", KV_ERR(&err));
    wh_keeper_free(WH_TAKE(node->keeper));
    wh_timer_start(node->loop, &node->keeper_retry, WH_SEC, retry_keeper, node);
}

/* ---- pods in and out ---- */

wh_worker *wh_node_find(const wh_node *node, const char *uid)
{
    wh_worker *w = NULL;

    HASH_FIND_STR(node->by_uid, uid, w);
    return w;
}

wh_worker *wh_node_find_name(const wh_node *node, const char *ns, const char *name)
{
    wh_worker *w, *next, *best = NULL;

    HASH_ITER(hh, node->by_uid, w, next)
    {
        if (wh_streq(w->spec->name, name) && wh_streq(w->spec->namespace_, ns) &&
            (best == NULL || wh_lifecycle_terminal(best->lc)))
            best = w;
    }
    return best;
}

size_t wh_node_count(const wh_node *node)
{
    return HASH_COUNT(node->by_uid);
}

void wh_node_each(wh_node *node, void (*fn)(void *user, wh_worker *w), void *user)
{
    wh_worker *w, *next;

    HASH_ITER(hh, node->by_uid, w, next)
    fn(user, w);
}

static void insert(wh_node *node, wh_worker *w)
{
    HASH_ADD_KEYPTR(hh, node->by_uid, w->uid, strlen(w->uid), w);
    wh_metric_set(&running_pods, NULL, HASH_COUNT(node->by_uid));
}

/* What the scheduler has promised is checked again: pods also come from elsewhere. */
static bool admit(wh_node *node, wh_worker *w, char **ret_message, const char **ret_reason)
{
    wh_pod_demand sum = wh_pod_demand_of(w->spec), mine = sum;
    size_t pods = 1;
    wh_worker *other, *next;

    HASH_ITER(hh, node->by_uid, other, next)
    {
        if (other == w || wh_lifecycle_terminal(other->lc))
            continue;
        wh_pod_demand d = wh_pod_demand_of(other->spec);
        sum.cpu_millis += d.cpu_millis;
        sum.memory_bytes += d.memory_bytes;
        pods++;
    }
    if (node->config.max_pods > 0 && pods > node->config.max_pods) {
        *ret_reason = "OutOfpods";
        *ret_message = wh_xasprintf("Node has room for %zu pods, all in use", node->config.max_pods);
    } else if (node->config.cpu_millis > 0 && sum.cpu_millis > node->config.cpu_millis &&
               mine.cpu_millis > 0) {
        *ret_reason = "OutOfcpu";
        *ret_message =
            wh_xasprintf("Pod asks for %lldm CPU; %lldm of %lldm are promised", (long long)mine.cpu_millis,
                         (long long)(sum.cpu_millis - mine.cpu_millis), (long long)node->config.cpu_millis);
    } else if (node->config.memory_bytes > 0 && sum.memory_bytes > node->config.memory_bytes &&
               mine.memory_bytes > 0) {
        *ret_reason = "OutOfmemory";
        *ret_message = wh_xasprintf(
            "Pod asks for %lld bytes of memory; %lld of %lld are promised", (long long)mine.memory_bytes,
            (long long)(sum.memory_bytes - mine.memory_bytes), (long long)node->config.memory_bytes);
    } else {
        return true;
    }
    return false;
}

static void begin(wh_node *node, wh_worker *w)
{
    auto_free char *message = NULL;
    const char *reason = NULL;

    if (admit(node, w, &message, &reason))
        wh_worker_post(w, &(wh_pod_event){.type = WH_POD_ADMITTED});
    else
        wh_worker_post(w, &(wh_pod_event){.type = WH_POD_REJECTED, .reason = reason, .message = message});
}

static int remember(wh_node *node, const wh_worker *w, wh_err *err)
{
    auto_json json_t *state = wh_lifecycle_save(w->lc);

    if (node->db == NULL)
        return 0;
    json_object_set_new(state, "run_uid", json_integer((json_int_t)w->run_uid));
    wh_node_flush_soon(node);
    return wh_nodedb_pod_put(node->db,
                             &(wh_nodedb_pod){.uid = w->uid,
                                              .source = w->source,
                                              .origin = w->origin,
                                              .object = w->spec->object,
                                              .state = state},
                             err);
}

/* Names of sources live as long as the program. */
static const char *source_name(const char *source)
{
    const char *known[] = {"api", "dir", "run"};

    for (size_t i = 0; i < WH_ARRAY_LEN(known); i++)
        if (wh_streq(known[i], source))
            return known[i];
    return "run";
}

/* The API server tells of every change, our own status patches included. */
static bool differs(const wh_pod_spec *a, const wh_pod_spec *b)
{
    const char *parts[] = {"spec", "metadata.labels", "metadata.annotations", "metadata.generation"};

    for (size_t i = 0; i < WH_ARRAY_LEN(parts); i++) {
        json_t *x = wh_json_at(a->object, parts[i]), *y = wh_json_at(b->object, parts[i]);
        if (x != y && !json_equal(x, y))
            return true;
    }
    return false;
}

static int update(wh_node *node, wh_worker *w, wh_pod_spec *spec, wh_err *err)
{
    if (!differs(w->spec, spec)) {
        wh_pod_spec_free(spec);
        return 0;
    }
    int rc = wh_worker_set_spec(w, spec, err);

    if (rc < 0)
        return rc;
    wh_worker_post(w, &(wh_pod_event){.type = WH_POD_TICK});
    wh_worker_refresh(w);
    return remember(node, w, err);
}

int wh_node_put(wh_node *node, const char *source, const char *origin, json_t *object, wh_buf *why,
                wh_worker **ret, wh_err *err)
{
    auto_pod_spec wh_pod_spec *spec = NULL;
    int rc = wh_pod_spec_parse(object, &spec, why, err);

    if (rc < 0)
        return rc;
    if (spec->uid == NULL)
        return wh_fail(err, -EINVAL, "pod '%s' has no uid.", spec->name);
    wh_worker *w = wh_node_find(node, spec->uid);
    if (w != NULL) {
        *ret = w;
        rc = update(node, w, spec, err);
        if (rc == 0 || rc == -EIO || rc == -ENOSPC)
            spec = NULL; /* taken over, also when only remembering failed */
        return rc;
    }
    wh_worker *same = wh_node_find_name(node, spec->namespace_, spec->name);
    if (same != NULL && !wh_lifecycle_torn_down(same->lc) &&
        wh_streq(same->source, "api") == wh_streq(source, "api"))
        return wh_fail(err, -EEXIST, "pod '%s/%s' of an earlier time (uid %s) is still ending.",
                       spec->namespace_, spec->name, same->uid);
    w = wh_worker_new(node, source_name(source), origin, spec, NULL, err);
    if (w == NULL) {
        if (why != NULL)
            wh_buf_puts(why, err->msg);
        return -EINVAL;
    }
    spec = NULL;
    insert(node, w);
    rc = remember(node, w, err);
    if (rc < 0) { /* nothing was started yet: what cannot be remembered is not taken */
        HASH_DEL(node->by_uid, w);
        w->gone = true;
        wh_worker_free(w);
        return rc;
    }
    *ret = w;
    begin(node, w);
    return 0;
}

void wh_node_delete(wh_node *node, const char *uid, int64_t grace_s, bool now)
{
    wh_worker *w = wh_node_find(node, uid);

    if (w == NULL)
        return;
    wh_worker_post(w, &(wh_pod_event){.type = now ? WH_POD_DELETE_NOW : WH_POD_DELETE, .grace_s = grace_s});
}

void wh_node_forget(wh_node *node, const char *uid)
{
    wh_worker *w = wh_node_find(node, uid);
    wh_err err = {0};

    if (w == NULL)
        return;
    const wh_node_observer *observer = wh_node_observer_of(node, w->source);
    if (observer->on_gone != NULL)
        observer->on_gone(observer->user, w);
    HASH_DEL(node->by_uid, w);
    wh_metric_set(&running_pods, NULL, HASH_COUNT(node->by_uid));
    if (node->db != NULL &&
        wh_nodedb_pod_forget(node->db, w->uid, &err) < 0) /* ours: `uid` may be gone too */
        wh_log(ERROR, "a pod that ended stays in the database", KV_ERR(&err));
    wh_node_flush_soon(node);
    __atomic_store_n(&w->gone, true, __ATOMIC_RELAXED);
    wh_timer_stop(&w->tick);
    wh_timer_stop(&w->refresh);
    wh_worker_maybe_free(w); /* or when what uses it is over */
}

/* ---- beginning and end ---- */

static int load_pod(void *user, const wh_nodedb_pod *pod)
{
    wh_node *node = user;
    wh_pod_spec *spec = NULL;
    wh_err err = {0};

    if (wh_pod_spec_parse(pod->object, &spec, NULL, &err) < 0) {
        wh_log(ERROR, "a remembered pod cannot be read any more", KV_STR("pod", pod->uid), KV_ERR(&err));
        return 0;
    }
    wh_worker *w = wh_worker_new(node, source_name(pod->source), pod->origin, spec, pod->state, &err);
    if (w == NULL) {
        wh_log(ERROR, "a remembered pod cannot be taken up", KV_STR("pod", pod->uid), KV_ERR(&err));
        wh_pod_spec_free(spec);
        return 0;
    }
    insert(node, w);
    return 0;
}

/* Folders and leases of pods that nobody knows any more. */
static void clear_leftovers(wh_node *node)
{
    auto_strv wh_strv folders = NULL;
    auto_strv wh_strv holders = NULL;
    wh_err err = {0};

    if (wh_volumes_list(node->pods_dir, &folders, &err) == 0)
        for (size_t i = 0; i < wh_strv_len(folders); i++)
            if (wh_node_find(node, folders[i]) == NULL &&
                wh_volumes_teardown(node->pods_dir, folders[i], &err) < 0)
                wh_log(WARN, "a folder of an earlier pod stays", KV_ERR(&err));
    if (wh_store_leases(node->store, &holders, &err) == 0)
        for (size_t i = 0; i < wh_strv_len(holders); i++)
            if (wh_node_find(node, holders[i]) == NULL)
                wh_store_release(node->store, holders[i], NULL);
}

static void open_cgroups(wh_node *node)
{
    wh_err err = {0};

    if (node->config.cgroup_parent == NULL)
        return;
    if (wh_cgroups_open(NULL, node->config.cgroup_parent, &node->cgroups, &err) < 0)
        wh_log(WARN, "no control groups: memory and CPU limits are those of the process alone", KV_ERR(&err));
    else
        wh_log(INFO, "control groups", KV_STR("use", wh_cgroups_describe(node->cgroups)));
}

static int open_all(wh_node *node, wh_err *err)
{
    const wh_paths *paths = node->config.paths;
    int rc = wh_mkdir_p(node->pods_dir, 0711, err);

    rc = rc < 0 ? rc : wh_pool_new(node->loop, 4, 10000, &node->pool, err);
    rc = rc < 0 ? rc : wh_pool_new(node->loop, 4, 10000, &node->pull_pool, err);
    rc = rc < 0 ? rc : wh_store_open(paths->images, paths->prepare, &node->store, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < WH_RUNNERS; i++)
        node->runner_fds[i] = paths->runners[i] == NULL ? -1 : open(paths->runners[i], O_RDONLY | O_CLOEXEC);
    if (node->runner_fds[WH_RUNNER_CORE] < 0)
        return wh_fail(err, -errno, "open '%s'", paths->runner);
    (void)wh_read_file(AT_FDCWD, "/etc/resolv.conf", 64UL * 1024, &node->resolv_conf, NULL, NULL);
    open_cgroups(node);
    rc = wh_node_network_begin(node, err);
    if (rc < 0)
        return rc;
    if (node->config.ephemeral)
        return 0;
    rc = wh_nodedb_open(paths->state, &node->db, err);
    rc = rc < 0 ? rc : wh_nodedb_pods(node->db, load_pod, node, err);
    return rc;
}

int wh_node_new(wh_loop *loop, const wh_node_config *config, void (*ready)(void *user), void *user,
                wh_node **ret, wh_err *err)
{
    wh_node *node = wh_xnew(wh_node);

    node->loop = loop;
    node->config = *config;
    for (size_t i = 0; i < WH_RUNNERS; i++)
        node->runner_fds[i] = -1;
    node->ready = ready;
    node->ready_user = user;
    node->local_objects = json_object();
    node->pods_dir = wh_path_join(config->paths->state, "pods");
    node->real_offset = wh_real_now() - wh_mono_now();
    node->facts = (wh_pod_facts){.node_name = config->name,
                                 .host_ip = config->node_ip,
                                 .pod_ips = {config->node_ip},
                                 .cpu_millis = config->cpu_millis,
                                 .memory_bytes = config->memory_bytes,
                                 .ephemeral_bytes = config->ephemeral_bytes};
    node->keeper_callbacks =
        (wh_keeper_callbacks){.on_event = on_keeper_event, .on_lost = on_keeper_lost, .user = node};
    int rc = open_all(node, err);
    if (rc < 0) {
        wh_node_free(node);
        return rc;
    }
    clear_leftovers(node);
    wh_node_housekeeping_start(node);
    connect_keeper(node);
    *ret = node;
    return 0;
}

void wh_node_free(wh_node *node)
{
    wh_worker *w, *next;

    if (node == NULL)
        return;
    __atomic_store_n(&node->freeing, true, __ATOMIC_RELAXED);
    wh_timer_stop(&node->keeper_retry);
    wh_timer_stop(&node->housekeeping);
    wh_keeper_free(node->keeper);
    node->keeper = NULL;
    wh_pool_free(node->pool);
    wh_pool_free(node->pull_pool);
    wh_worker_flush(node);
    wh_timer_stop(&node->flush);
    HASH_ITER(hh, node->by_uid, w, next)
    {
        HASH_DEL(node->by_uid, w);
        w->gone = true;
        w->job_running = false;
        if (!w->reap_queued) /* else the loop frees it with what it still has to do */
            wh_worker_free(w);
    }
    for (size_t i = 0; i < WH_RUNNERS; i++)
        if (node->runner_fds[i] >= 0)
            close(node->runner_fds[i]);
    wh_timer_stop(&node->network_wait);
    wh_network_free(node->network);
    free(node->resolv_conf);
    wh_nodedb_close(node->db);
    wh_store_close(node->store);
    wh_cgroups_free(node->cgroups);
    json_decref(node->local_objects);
    json_decref(node->services);
    free(node->pods_dir);
    free(node);
}

void wh_node_observe(wh_node *node, const char *source, const wh_node_observer *observer)
{
    wh_assert(node->n_observers < WH_NODE_SOURCES_MAX);
    node->observers[node->n_observers].source = source_name(source);
    node->observers[node->n_observers].observer = *observer;
    node->n_observers++;
}

void wh_node_set_services(wh_node *node, json_t *services)
{
    json_decref(node->services);
    node->services = json_incref(services);
}
