/* SPDX-License-Identifier: Apache-2.0 */
#include "node/manifests.h"
#include "base/log.h"

#include <sys/queue.h>

typedef struct job_run {
    TAILQ_ENTRY(job_run) link;
    wh_manifests *owner;
    char *origin;
    wh_job *job;
    wh_time started;
    wh_job_pod *pods;
    char **uids; /* of pods, the same positions */
    size_t n_pods;
    int64_t next_serial;
    wh_timer timer;
    wh_job_state state;
    bool said;
} job_run;

typedef struct wanted_pod { /* what a file asks for */
    TAILQ_ENTRY(wanted_pod) link;
    char *origin, *uid;
    json_t *object; /* not taken by the node yet: an older one of that name is still ending */
    bool refused;
} wanted_pod;

struct wh_manifests {
    wh_loop *loop;
    wh_node *node;
    const char *source;
    void (*changed)(void *user);
    void *user;
    TAILQ_HEAD(, job_run) jobs;
    TAILQ_HEAD(, wanted_pod) pods;
    json_t *objects; /* origin -> list of "Kind/ns/name" */
};

static void decide(job_run *run);

wh_manifests *wh_manifests_new(wh_loop *loop, wh_node *node, const char *source, void (*changed)(void *user),
                               void *user)
{
    wh_manifests *m = wh_xnew(wh_manifests);

    m->loop = loop;
    m->node = node;
    m->source = source;
    m->changed = changed;
    m->user = user;
    m->objects = json_object();
    TAILQ_INIT(&m->jobs);
    TAILQ_INIT(&m->pods);
    return m;
}

static void tell(wh_manifests *m)
{
    if (m->changed != NULL)
        m->changed(m->user);
}

/* ---- jobs ---- */

static void job_run_free(job_run *run)
{
    wh_timer_stop(&run->timer);
    for (size_t i = 0; i < run->n_pods; i++)
        free(run->uids[i]);
    free(run->uids);
    free(run->pods);
    wh_job_free(run->job);
    free(run->origin);
    free(run);
}

static void add_job_pod(job_run *run, const char *uid, int64_t index, int64_t serial)
{
    void *pods = reallocarray(run->pods, run->n_pods + 1, sizeof(*run->pods));
    void *uids = pods != NULL ? reallocarray(run->uids, run->n_pods + 1, sizeof(*run->uids)) : NULL;

    wh_assert(pods != NULL);
    wh_assert(uids != NULL);
    run->pods = pods;
    run->uids = uids;
    run->pods[run->n_pods] = (wh_job_pod){.serial = serial, .index = index, .phase = WH_PHASE_PENDING};
    run->uids[run->n_pods++] = wh_xstrdup(uid);
    run->next_serial = WH_MAX(run->next_serial, serial + 1);
}

static int start_job_pod(job_run *run, int64_t index)
{
    wh_manifests *m = run->owner;
    auto_json json_t *object = wh_job_pod_object(run->job, index, run->next_serial);
    const char *uid = wh_json_str(object, "metadata.uid");
    wh_worker *w = NULL;
    wh_err err = {0};

    /* In the list before the node has it: its first changes arrive inside wh_node_put. */
    add_job_pod(run, uid, index, run->next_serial);
    int rc = wh_node_put(m->node, m->source, run->origin, object, NULL, &w, &err);
    if (rc < 0) {
        wh_log(ERROR, "a pod of a job cannot be made", KV_STR("job", run->job->name), KV_ERR(&err));
        run->pods[run->n_pods - 1].phase = WH_PHASE_FAILED;
        run->pods[run->n_pods - 1].finished = wh_real_now();
    }
    return rc;
}

static void look_again(wh_timer *timer)
{
    decide(timer->user);
}

static void decide_later(job_run *run)
{
    wh_timer_start(run->owner->loop, &run->timer, 0, look_again, run);
}

static void decide(job_run *run)
{
    wh_job_decision d = {0};
    wh_time now = wh_real_now();

    wh_job_decide(run->job, run->pods, run->n_pods, run->started, now, &d);
    run->state = d.state;
    for (size_t i = 0; i < d.n_stop; i++) {
        run->pods[d.stop[i]].stopping = true;
        wh_node_delete(run->owner->node, run->uids[d.stop[i]], -1, false);
    }
    for (size_t i = 0; i < d.n_start; i++)
        start_job_pod(run, d.start[i]);
    if (d.state == WH_JOB_FAILED && !run->said) {
        run->said = true;
        wh_log(ERROR, "job failed", KV_STR("job", run->job->name), KV_STR("reason", d.reason));
    }
    if (d.next != WH_TIME_NEVER)
        wh_timer_start(run->owner->loop, &run->timer, WH_MAX((wh_time)0, d.next - now), look_again, run);
    wh_job_decision_done(&d);
    tell(run->owner);
}

/* A pod that an earlier agent made for this job: its place is in its name and annotation. */
typedef struct find_pods {
    job_run *run;
} find_pods;

static void adopt_job_pod(void *user, wh_worker *w)
{
    job_run *run = ((find_pods *)user)->run;
    const wh_pod_spec *spec = wh_worker_spec(w);
    const json_t *owners = wh_json_at(spec->object, "metadata.ownerReferences");
    const json_t *owner;
    size_t i;
    int64_t index = -1, serial = 0;

    json_array_foreach(owners, i, owner)
    {
        if (!wh_streq(wh_json_str(owner, "uid"), run->job->uid))
            continue;
        const char *text =
            json_string_value(json_object_get(spec->annotations, "batch.kubernetes.io/job-completion-index"));
        const char *dash = strrchr(spec->name, '-');
        if (text != NULL)
            wh_parse_i64(text, 0, INT32_MAX, &index);
        if (dash != NULL)
            wh_parse_i64(dash + 1, 0, INT64_MAX, &serial);
        add_job_pod(run, spec->uid, index, serial);
        wh_manifests_pod_changed(run->owner, w);
    }
}

static job_run *find_job(wh_manifests *m, const char *uid)
{
    job_run *run;

    TAILQ_FOREACH(run, &m->jobs, link)
    {
        if (wh_streq(run->job->uid, uid))
            return run;
    }
    return NULL;
}

static int apply_job(wh_manifests *m, const char *origin, json_t *object, wh_err *err)
{
    wh_job *job = NULL;
    int rc = wh_job_parse(object, &job, err);

    if (rc < 0)
        return rc;
    if (find_job(m, job->uid) != NULL) {
        wh_job_free(job);
        return 0;
    }
    job_run *run = wh_xnew(job_run);
    run->owner = m;
    run->origin = wh_xstrdup(origin);
    run->job = job;
    run->started = wh_real_now();
    TAILQ_INSERT_TAIL(&m->jobs, run, link);
    wh_node_each(m->node, adopt_job_pod, &(find_pods){run});
    decide(run);
    return 0;
}

/* ---- pods ---- */

static void wanted_free(wanted_pod *p)
{
    json_decref(p->object);
    free(p->origin);
    free(p->uid);
    free(p);
}

static int try_pod(wh_manifests *m, wanted_pod *p, wh_err *err)
{
    wh_worker *w = NULL;
    wh_err local = {0};
    int rc = wh_node_put(m->node, m->source, p->origin, p->object, NULL, &w, &local);

    if (rc == -EEXIST)
        return 0; /* again when the old one is gone */
    json_decref(p->object);
    p->object = NULL;
    p->refused = rc < 0;
    if (rc < 0 && err != NULL)
        *err = local;
    return rc;
}

static wanted_pod *find_wanted(wh_manifests *m, const char *uid)
{
    wanted_pod *p;

    TAILQ_FOREACH(p, &m->pods, link)
    {
        if (wh_streq(p->uid, uid))
            return p;
    }
    return NULL;
}

static int apply_pod(wh_manifests *m, const char *origin, json_t *object, wh_err *err)
{
    wanted_pod *p;

    if (find_wanted(m, wh_json_str(object, "metadata.uid")) != NULL)
        return 0;
    p = wh_xnew(wanted_pod);
    p->origin = wh_xstrdup(origin);
    p->uid = wh_xstrdup(wh_json_str(object, "metadata.uid"));
    p->object = json_incref(object);
    TAILQ_INSERT_TAIL(&m->pods, p, link);
    return try_pod(m, p, err);
}

static bool says(const json_t *list, const char *uid)
{
    const json_t *object;
    size_t i;

    json_array_foreach(list, i, object)
    {
        if (wh_streq(wh_json_str(object, "metadata.uid"), uid))
            return true;
    }
    return false;
}

typedef struct sweep {
    wh_manifests *m;
    const char *origin;
    const wh_manifest *now; /* NULL: nothing */
} sweep;

/* Pods of this origin that it does not ask for any more, also those that an earlier agent took from it. */
static void sweep_pod(void *user, wh_worker *w)
{
    const sweep *s = user;
    const wh_pod_spec *spec = wh_worker_spec(w);

    if (!wh_streq(wh_worker_source(w), s->m->source) || !wh_streq(wh_worker_origin(w), s->origin))
        return;
    if (s->now != NULL && says(s->now->pods, spec->uid))
        return;
    const json_t *owners = wh_json_at(spec->object, "metadata.ownerReferences");
    const char *owner = wh_json_str(json_array_get(owners, 0), "uid");
    if (s->now != NULL && owner != NULL && says(s->now->jobs, owner))
        return;
    wh_node_delete(s->m->node, spec->uid, -1, false);
}

static void drop_origin(wh_manifests *m, const char *origin, const wh_manifest *now)
{
    wanted_pod *p, *next_p;
    job_run *run, *next_run;

    for (p = TAILQ_FIRST(&m->pods); p != NULL; p = next_p) {
        next_p = TAILQ_NEXT(p, link);
        if (wh_streq(p->origin, origin) && (now == NULL || !says(now->pods, p->uid))) {
            TAILQ_REMOVE(&m->pods, p, link);
            wanted_free(p);
        }
    }
    for (run = TAILQ_FIRST(&m->jobs); run != NULL; run = next_run) {
        next_run = TAILQ_NEXT(run, link);
        if (wh_streq(run->origin, origin) && (now == NULL || !says(now->jobs, run->job->uid))) {
            TAILQ_REMOVE(&m->jobs, run, link);
            job_run_free(run);
        }
    }
    wh_node_each(m->node, sweep_pod, &(sweep){m, origin, now});
}

static void apply_objects(wh_manifests *m, const char *origin, const char *kind, const json_t *list,
                          json_t *names)
{
    json_t *object;
    size_t i;

    (void)origin;
    json_array_foreach(list, i, object)
    {
        const char *ns = wh_json_str(object, "metadata.namespace"),
                   *name = wh_json_str(object, "metadata.name");
        wh_node_object_put(m->node, kind, ns, name, object);
        json_array_append_new(names, json_pack("[s, s, s]", kind, ns, name));
    }
}

/* Objects that an origin had and has no more. */
static void drop_objects(wh_manifests *m, const char *origin, const json_t *kept)
{
    json_t *old = json_object_get(m->objects, origin), *entry, *other;
    size_t i, k;

    json_array_foreach(old, i, entry)
    {
        bool stays = false;
        json_array_foreach(kept, k, other) stays = stays || json_equal(entry, other);
        if (!stays)
            wh_node_object_put(m->node, json_string_value(json_array_get(entry, 0)),
                               json_string_value(json_array_get(entry, 1)),
                               json_string_value(json_array_get(entry, 2)), NULL);
    }
}

int wh_manifests_apply(wh_manifests *m, const char *origin, wh_manifest *manifest, wh_err *err)
{
    auto_manifest wh_manifest now = *manifest;
    json_t *names = json_array(), *object;
    size_t i;
    int rc = 0;
    wh_err later = {0};

    *manifest = (wh_manifest){0};
    apply_objects(m, origin, "ConfigMap", now.config_maps, names);
    apply_objects(m, origin, "Secret", now.secrets, names);
    drop_objects(m, origin, names);
    json_object_set_new(m->objects, origin, names);
    drop_origin(m, origin, &now);
    json_array_foreach(now.pods, i, object)
    {
        int one = apply_pod(m, origin, object, rc == 0 ? err : &later);
        rc = rc == 0 ? one : rc;
    }
    json_array_foreach(now.jobs, i, object)
    {
        int one = apply_job(m, origin, object, rc == 0 ? err : &later);
        rc = rc == 0 ? one : rc;
    }
    tell(m);
    return rc;
}

void wh_manifests_remove(wh_manifests *m, const char *origin)
{
    drop_objects(m, origin, NULL);
    json_object_del(m->objects, origin);
    drop_origin(m, origin, NULL);
    tell(m);
}

void wh_manifests_pod_changed(wh_manifests *m, wh_worker *w)
{
    const wh_lifecycle *lc = wh_worker_lifecycle(w);
    const wh_pod_spec *spec = wh_worker_spec(w);
    job_run *run;

    TAILQ_FOREACH(run, &m->jobs, link)
    {
        for (size_t i = 0; i < run->n_pods; i++) {
            if (!wh_streq(run->uids[i], spec->uid))
                continue;
            wh_job_pod *p = &run->pods[i];
            unsigned restarts = 0;
            for (size_t k = 0; k < spec->n_containers; k++)
                restarts += wh_lifecycle_container(lc, k)->attempt;
            if (p->phase != wh_lifecycle_phase(lc) && wh_lifecycle_terminal(lc))
                p->finished = wh_real_now();
            p->phase = wh_lifecycle_phase(lc);
            p->stopping = wh_lifecycle_stopping(lc);
            p->restarts = restarts;
            decide_later(run);
        }
    }
    tell(m);
}

void wh_manifests_pod_gone(wh_manifests *m, wh_worker *w)
{
    wanted_pod *p;
    wh_err err = {0};

    (void)w;
    TAILQ_FOREACH(p, &m->pods, link)
    {
        if (p->object != NULL && try_pod(m, p, &err) < 0)
            wh_log(ERROR, "a pod of a manifest is refused", KV_STR("file", p->origin), KV_ERR(&err));
    }
    tell(m);
}

bool wh_manifests_ended(const wh_manifests *m, size_t *ret_failed)
{
    const wanted_pod *p;
    const job_run *run;
    size_t failed = 0;

    TAILQ_FOREACH(p, &m->pods, link)
    {
        const wh_worker *w = wh_node_find(m->node, p->uid);
        if (p->object != NULL)
            return false;
        if (w != NULL && !wh_lifecycle_terminal(wh_worker_lifecycle(w)))
            return false;
        failed += p->refused || (w != NULL && wh_lifecycle_phase(wh_worker_lifecycle(w)) == WH_PHASE_FAILED);
    }
    TAILQ_FOREACH(run, &m->jobs, link)
    {
        if (run->state == WH_JOB_ACTIVE)
            return false;
        failed += run->state == WH_JOB_FAILED;
    }
    *ret_failed = failed;
    return true;
}

void wh_manifests_drop_jobs(wh_manifests *m)
{
    job_run *run;

    while ((run = TAILQ_FIRST(&m->jobs)) != NULL) {
        TAILQ_REMOVE(&m->jobs, run, link);
        job_run_free(run);
    }
}

void wh_manifests_free(wh_manifests *m)
{
    wanted_pod *p;

    if (m == NULL)
        return;
    while ((p = TAILQ_FIRST(&m->pods)) != NULL) {
        TAILQ_REMOVE(&m->pods, p, link);
        wanted_free(p);
    }
    wh_manifests_drop_jobs(m);
    json_decref(m->objects);
    free(m);
}
