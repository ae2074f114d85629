/* SPDX-License-Identifier: Apache-2.0 */
/* batch/v1 Job for one machine: the rules of the job controller that people see (completions, parallelism,
 * indexes, back-off, deadline), as a function of the pods that there are. */
#include "pod/manifest.h"
#include "pod/spec_read.h"

#include <stdio.h>

#define PARALLELISM_MAX 1000
#define COMPLETIONS_MAX 100000
#define FAILURE_DELAY_MIN (10 * WH_SEC)
#define FAILURE_DELAY_MAX (6 * WH_MINUTE)
#define NAME_BYTES_MAX 63 /* a pod's name is its host name as well */

static void read_job(reader *r, wh_job *job)
{
    static const char *const modes[] = {"NonIndexed", "Indexed", NULL};
    static const char *const refused[] = {"backoffLimitPerIndex", "podFailurePolicy", "successPolicy",
                                          "managedBy"};
    at root = {.v = job->object}, metadata = read_object(r, &root, "metadata"),
       spec = read_object(r, &root, "spec");
    at template = read_object(r, &spec, "template"), pod = read_object(r, &template, "spec");
    at policy = at_key(&pod, "restartPolicy"), completions = at_key(&spec, "completions");
    bool work_queue = completions.v == NULL && at_key(&spec, "parallelism").v != NULL;
    job->name = read_required(r, &metadata, "name");
    job->namespace_ = read_str(r, &metadata, "namespace", "default");
    job->uid = read_str(r, &metadata, "uid", "");
    job->parallelism = read_int(r, &spec, "parallelism", 0, PARALLELISM_MAX, 1);
    job->completions = read_int(r, &spec, "completions", 0, COMPLETIONS_MAX, work_queue ? -1 : 1);
    job->backoff_limit = read_int(r, &spec, "backoffLimit", 0, INT32_MAX, 6);
    job->active_deadline_s = read_int(r, &spec, "activeDeadlineSeconds", 1, INT32_MAX, 0);
    job->indexed = read_word(r, &spec, "completionMode", modes, 0) == 1;
    job->suspend = read_bool(r, &spec, "suspend", false);
    if (pod.v == NULL)
        read_fail(r, &pod, "is required");
    const char *restart = read_str(r, &pod, "restartPolicy", "");
    if (r->rc == 0 && strcmp(restart, "OnFailure") != 0 && strcmp(restart, "Never") != 0)
        read_fail(r, &policy, "a job needs OnFailure or Never");
    if (r->rc == 0 && job->indexed && completions.v == NULL)
        read_fail(r, &completions, "is required with completionMode Indexed");
    for (size_t i = 0; i < WH_ARRAY_LEN(refused); i++) {
        at place = at_key(&spec, refused[i]);
        if (place.v != NULL)
            read_refuse(r, &place, NULL);
    }
}

int wh_job_parse(json_t *object, wh_job **ret, wh_err *err)
{
    auto_job wh_job *job = wh_xnew(wh_job);
    reader r = {.err = err};
    wh_buf_init(&r.refused, 1024);
    job->object = json_incref(object);
    read_job(&r, job);
    if (r.rc == 0 && r.refused.len > 0)
        r.rc = wh_fail(err, -EOPNOTSUPP, "on one machine a job cannot have: %s: take it out.",
                       wh_buf_str(&r.refused));
    wh_buf_done(&r.refused);
    wh_strv_free(r.remarks);
    if (r.rc < 0)
        return r.rc;
    *ret = WH_TAKE(job);
    return 0;
}

void wh_job_free(wh_job *job)
{
    if (job == NULL)
        return;
    json_decref(job->object);
    free(job);
}

void wh_job_decision_done(wh_job_decision *decision)
{
    free(decision->start);
    free(decision->stop);
    *decision = (wh_job_decision){0};
}

/* ---- decisions ---- */

static bool is_active(const wh_job_pod *p)
{
    return !p->stopping && (p->phase == WH_PHASE_PENDING || p->phase == WH_PHASE_RUNNING);
}

static bool occupies_index(const wh_job_pod *p)
{
    return p->phase == WH_PHASE_PENDING || p->phase == WH_PHASE_RUNNING;
}

/* Succeeded pods; each index counts once. */
static void tally(const wh_job *job, const wh_job_pod *pods, size_t n, bool *done, wh_job_decision *d)
{
    for (size_t i = 0; i < n; i++) {
        const wh_job_pod *p = &pods[i];
        bool in_range = p->index >= 0 && p->index < job->completions;
        d->active += is_active(p);
        d->failed += p->phase == WH_PHASE_FAILED && !p->stopping;
        if (p->phase != WH_PHASE_SUCCEEDED || (job->indexed && (!in_range || done[p->index])))
            continue;
        d->succeeded++;
        if (job->indexed)
            done[p->index] = true;
    }
}

static bool past_limit(const wh_job *job, const wh_job_pod *pods, size_t n, int64_t failed)
{
    int64_t restarts = 0;
    for (size_t i = 0; i < n; i++)
        restarts += is_active(&pods[i]) ? pods[i].restarts : 0;
    if (failed > job->backoff_limit)
        return true;
    return restarts > 0 && restarts >= job->backoff_limit;
}

/* When the next pod may be made after those that failed since the last success. */
static wh_time after_failures(const wh_job_pod *pods, size_t n)
{
    wh_time success = 0, last = 0, delay = FAILURE_DELAY_MIN;
    size_t failures = 0;
    for (size_t i = 0; i < n; i++)
        if (pods[i].phase == WH_PHASE_SUCCEEDED)
            success = WH_MAX(success, pods[i].finished);
    for (size_t i = 0; i < n; i++) {
        if (pods[i].phase != WH_PHASE_FAILED || pods[i].stopping || pods[i].finished < success)
            continue;
        last = WH_MAX(last, pods[i].finished);
        failures++;
    }
    for (size_t i = 1; i < failures && delay < FAILURE_DELAY_MAX; i++)
        delay *= 2;
    return failures == 0 ? 0 : last + WH_MIN(delay, FAILURE_DELAY_MAX);
}

/* Stops active pods from the youngest on, `count` of them. */
static void stop_some(const wh_job_pod *pods, size_t n, int64_t count, wh_job_decision *d)
{
    d->stop = wh_xcalloc(n + 1, sizeof(*d->stop));
    for (size_t i = n; i > 0 && count > 0; i--) {
        if (!is_active(&pods[i - 1]))
            continue;
        d->stop[d->n_stop++] = i - 1;
        count--;
    }
}

static void start_some(const wh_job *job, const wh_job_pod *pods, size_t n, bool *done, int64_t count,
                       wh_time now, wh_job_decision *d)
{
    wh_time earliest = after_failures(pods, n);
    if (count <= 0)
        return;
    if (earliest > now) {
        d->next = WH_MIN(d->next, earliest);
        return;
    }
    d->start = wh_xcalloc((size_t)count, sizeof(*d->start));
    for (size_t i = 0; job->indexed && i < n; i++)
        if (occupies_index(&pods[i]) && pods[i].index >= 0 && pods[i].index < job->completions)
            done[pods[i].index] = true;
    int64_t index = 0;
    while ((int64_t)d->n_start < count) {
        while (job->indexed && index < job->completions && done[index])
            index++;
        if (job->indexed && index >= job->completions)
            return;
        d->start[d->n_start++] = job->indexed ? index++ : -1;
    }
}

static bool is_complete(const wh_job *job, const wh_job_decision *d)
{
    if (job->completions < 0)
        return d->succeeded > 0 && d->active == 0;
    return d->succeeded >= job->completions;
}

static int64_t wanted(const wh_job *job, const wh_job_decision *d)
{
    if (job->completions < 0)
        return d->succeeded > 0 ? WH_MIN(d->active, job->parallelism) : job->parallelism;
    return WH_MIN(job->parallelism, job->completions - d->succeeded);
}

void wh_job_decide(const wh_job *job, const wh_job_pod *pods, size_t n, wh_time started, wh_time now,
                   wh_job_decision *ret)
{
    wh_job_decision d = {.state = WH_JOB_ACTIVE, .next = WH_TIME_NEVER};
    wh_time deadline = job->active_deadline_s > 0 ? started + job->active_deadline_s * WH_SEC : WH_TIME_NEVER;
    auto_free bool *done = wh_xcalloc(job->indexed ? (size_t)job->completions + 1 : 1, sizeof(*done));
    tally(job, pods, n, done, &d);
    if (is_complete(job, &d))
        d.state = WH_JOB_COMPLETE;
    else if (past_limit(job, pods, n, d.failed)) {
        d.state = WH_JOB_FAILED;
        d.reason = "BackoffLimitExceeded";
    } else if (!job->suspend && deadline <= now) {
        d.state = WH_JOB_FAILED;
        d.reason = "DeadlineExceeded";
    } else if (job->suspend)
        d.state = WH_JOB_SUSPENDED;
    if (d.state != WH_JOB_ACTIVE)
        stop_some(pods, n, d.active, &d);
    else {
        int64_t want = wanted(job, &d);
        d.next = deadline;
        stop_some(pods, n, d.active - want, &d);
        start_some(job, pods, n, done, want - d.active, now, &d);
    }
    *ret = d;
}

/* ---- a pod of the job ---- */

static json_t *sub_object(json_t *o, const char *key)
{
    json_t *value = json_object_get(o, key);
    if (json_is_object(value))
        return value;
    json_object_set_new(o, key, json_object());
    return json_object_get(o, key);
}

static void add_index_variable(json_t *containers, int64_t index)
{
    size_t i, k;
    json_t *c, *variable;
    char text[24];
    snprintf(text, sizeof(text), "%lld", (long long)index);
    json_array_foreach(containers, i, c)
    {
        json_t *env = json_object_get(c, "env");
        bool has = false;
        if (!json_is_object(c))
            continue;
        if (!json_is_array(env)) {
            json_object_set_new(c, "env", json_array());
            env = json_object_get(c, "env");
        }
        json_array_foreach(env, k, variable)
        {
            has |= wh_streq(wh_json_str(variable, "name"), "JOB_COMPLETION_INDEX");
        }
        if (!has)
            json_array_append_new(env,
                                  json_pack("{s:s, s:s}", "name", "JOB_COMPLETION_INDEX", "value", text));
    }
}

static void set_str(json_t *o, const char *key, const char *value)
{
    json_object_set_new(o, key, wh_json_string(value));
}

/* "<job>-<index>-<serial>" with the job's name cut so that all of it fits. */
static char *pod_name(const wh_job *job, int64_t index, int64_t serial)
{
    char suffix[48];
    size_t n = strlen(job->name);
    if (index >= 0)
        snprintf(suffix, sizeof(suffix), "-%lld-%lld", (long long)index, (long long)serial);
    else
        snprintf(suffix, sizeof(suffix), "-%lld", (long long)serial);
    n = WH_MIN(n, NAME_BYTES_MAX - strlen(suffix));
    while (n > 1 && (job->name[n - 1] == '-' || job->name[n - 1] == '.'))
        n--;
    return wh_xasprintf("%.*s%s", (int)n, job->name, suffix);
}

json_t *wh_job_pod_object(const wh_job *job, int64_t index, int64_t serial)
{
    json_t *pod = json_deep_copy(wh_json_at(job->object, "spec.template"));
    json_t *metadata = sub_object(pod, "metadata"), *spec = sub_object(pod, "spec");
    json_t *labels = sub_object(metadata, "labels"), *annotations = sub_object(metadata, "annotations");
    auto_free char *name = pod_name(job, index, serial);
    auto_free char *identity = wh_xasprintf("%s %s %s", job->namespace_, job->uid, name);
    char uid[37], number[24];
    set_str(pod, "apiVersion", "v1");
    set_str(pod, "kind", "Pod");
    set_str(metadata, "name", name);
    set_str(metadata, "namespace", job->namespace_);
    set_str(metadata, "uid", wh_manifest_uid(identity, strlen(identity), uid));
    set_str(labels, "job-name", job->name);
    set_str(labels, "batch.kubernetes.io/job-name", job->name);
    set_str(labels, "batch.kubernetes.io/controller-uid", job->uid);
    json_object_set_new(metadata, "ownerReferences",
                        json_pack("[{s:s, s:s, s:s, s:s, s:b}]", "apiVersion", "batch/v1", "kind", "Job",
                                  "name", job->name, "uid", job->uid, "controller", 1));
    if (index >= 0) {
        snprintf(number, sizeof(number), "%lld", (long long)index);
        set_str(annotations, "batch.kubernetes.io/job-completion-index", number);
        set_str(labels, "batch.kubernetes.io/job-completion-index", number);
        add_index_variable(json_object_get(spec, "containers"), index);
        add_index_variable(json_object_get(spec, "initContainers"), index);
        if (json_object_get(spec, "hostname") == NULL) {
            auto_free char *hostname = wh_xasprintf("%.50s-%s", job->name, number);
            set_str(spec, "hostname", hostname);
        }
    }
    return pod;
}
