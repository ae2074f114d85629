/* SPDX-License-Identifier: Apache-2.0 */
/* What a pod needs done off the loop: volumes, images, starts, ends. Jobs that touch a pod's volumes run one
 * at a time; pulls run beside them. A job's `run` reads the worker, its `done` on the loop changes it. */
#include "base/file.h"
#include "base/log.h"
#include "engine/engine.h"
#include "node/internal.h"
#include "runner/spec.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

typedef enum {
    JOB_MOUNT,
    JOB_START,
    JOB_END,
    JOB_TEARDOWN,
    JOB_REFRESH,
    JOB_ADOPTED,
    JOB_USAGE,
    JOB_PULL
} job_kind;

typedef struct wh_job_item {
    TAILQ_ENTRY(wh_job_item) link;
    wh_worker *w;
    job_kind kind;
    size_t container;
    unsigned attempt;
    int rc;
    wh_err err;
    const char *reason;
    wh_start_plan plan; /* START */
    wh_image *image;    /* PULL */
    wh_code code;       /* PULL */
    wh_credential *credentials;
    size_t n_credentials;
    wh_pull_policy policy;
    char *text;             /* PULL: the Pulled event; END: termination message */
    bool adopt, has_record; /* END */
    wh_keeper_event exit;   /* END: numbers only */
    wh_end_record record;
    uint64_t oom_kills;
    wh_time next_refresh;
} wh_job_item;

static void next_job(wh_worker *w);

static void job_free(wh_job_item *job)
{
    wh_start_plan_done(&job->plan);
    wh_image_free(job->image);
    wh_code_done(&job->code);
    wh_credentials_free(job->credentials, job->n_credentials);
    free(job->text);
    free(job);
}

static wh_job_item *job_new(wh_worker *w, job_kind kind, size_t container, unsigned attempt)
{
    wh_job_item *job = wh_xnew(wh_job_item);

    job->w = w;
    job->kind = kind;
    job->container = container;
    job->attempt = attempt;
    job->code.fd = -1;
    job->plan.netd_fd = -1;
    return job;
}

/* ---- the work itself, in the pool ---- */

static void run_start(wh_job_item *job)
{
    job->reason = "CreateContainerError";
    job->rc = wh_start_plan_make(job->w, job->container, job->attempt, &job->plan, &job->reason, &job->err);
}

static void run_end(wh_job_item *job)
{
    wh_worker *w = job->w;
    auto_free char *path = wh_container_end_path(w, job->container, job->attempt);
    auto_free char *dir = wh_worker_log_dir(w, job->container);
    auto_free char *log = wh_xasprintf("%s/%u.log", dir, job->attempt);
    wh_cgroup_usage usage = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    job->has_record = fd >= 0 && wh_end_record_read(fd, &job->record, NULL) == 0;
    if (fd >= 0)
        close(fd);
    if (w->containers[job->container].cgroup != NULL &&
        wh_cgroup_usage_get(w->containers[job->container].cgroup, &usage, NULL) == 0)
        job->oom_kills = usage.oom_kills;
    bool failed = !job->has_record || job->record.exit_code != 0;
    job->text = wh_volumes_termination_message(w->volumes, job->container, failed, log);
    auto_free char *root = wh_xasprintf("%s/%s/root/%s.%u", w->node->pods_dir, w->uid,
                                        w->spec->containers[job->container].name, job->attempt);
    wh_rm_rf(AT_FDCWD, root, NULL);
}

static void run_teardown(wh_job_item *job)
{
    wh_worker *w = job->w;

    job->rc = wh_volumes_teardown(w->node->pods_dir, w->uid, &job->err);
    if (job->rc == 0)
        job->rc = wh_store_release(w->node->store, w->uid, &job->err);
}

static void run_job(void *user)
{
    wh_job_item *job = user;

    switch (job->kind) {
    case JOB_MOUNT:
        job->rc = wh_volumes_mount(job->w->volumes, wh_real_now(), &job->err);
        break;
    case JOB_START:
        run_start(job);
        break;
    case JOB_END:
        run_end(job);
        break;
    case JOB_TEARDOWN:
        run_teardown(job);
        break;
    case JOB_REFRESH:
        job->next_refresh = WH_TIME_NEVER;
        job->rc = wh_volumes_refresh(job->w->volumes, wh_real_now(), &job->next_refresh, &job->err);
        break;
    case JOB_USAGE: {
        uint64_t bytes = 0;
        job->rc = wh_volumes_check_usage(job->w->volumes, &bytes, &job->err);
        break;
    }
    case JOB_ADOPTED:
    case JOB_PULL:
        break;
    }
}

/* ---- what came of it, on the loop ---- */

static void start_done(void *user, int rc, pid_t pid, const char *error)
{
    wh_job_item *job = user;
    wh_worker *w = job->w;

    if (rc == -ECONNRESET) { /* started or not: the next keeper knows */
        w->containers[job->container].start_unknown = true;
        wh_cgroup_free(w->containers[job->container].cgroup);
        w->containers[job->container].cgroup = WH_TAKE(job->plan.cgroup);
    } else if (rc < 0) {
        if (job->plan.cgroup != NULL)
            wh_cgroup_remove(job->plan.cgroup, NULL);
        wh_worker_post(w, &(wh_pod_event){.type = WH_POD_START_FAILED,
                                          .container = job->container,
                                          .attempt = job->attempt,
                                          .reason = "RunContainerError",
                                          .message = error != NULL ? error : strerror(-rc)});
    } else {
        wh_cgroup_free(w->containers[job->container].cgroup);
        w->containers[job->container].cgroup = WH_TAKE(job->plan.cgroup);
        wh_worker_post(
            w, &(wh_pod_event){
                   .type = WH_POD_STARTED, .container = job->container, .attempt = job->attempt, .pid = pid});
    }
    job_free(job);
    w->job_running = false;
    next_job(w);
}

/* The job ends when the keeper has answered: then the descriptors may be closed. */
static bool begin_start(wh_job_item *job)
{
    wh_worker *w = job->w;
    char id[WH_CONTAINER_ID_LEN];
    wh_keeper_start start = {.id = wh_container_id(w->spec, job->container, job->attempt, id),
                             .uid = w->run_uid,
                             .gid = w->run_gid,
                             .cgroup_procs = job->plan.cgroup_procs,
                             .oom_score_adj = job->plan.oom_score_adj,
                             .rlimit_data = job->plan.rlimit_data,
                             .nofile = 4096,
                             .namespaces = true,
                             .fds = job->plan.fds,
                             .n_fds = job->plan.n_fds,
                             .exec_fd = job->plan.program,
                             .sockets = (const char *const *)job->plan.sockets,
                             .n_sockets = job->plan.n_sockets,
                             .rest = job->plan.rest,
                             .open = job->plan.opens,
                             .n_open = job->plan.n_opens,
                             .group_dirs = job->plan.group_dirs,
                             .group_settings = job->plan.group_settings};
    if (w->node->keeper == NULL)
        job->rc = wh_fail(&job->err, -ENOTCONN, "the keeper is away; it is being started again.");
    else
        job->rc = wh_keeper_start_runner(w->node->keeper, &start, start_done, job, &job->err);
    return job->rc == 0;
}

static void post_failed_start(wh_job_item *job)
{
    wh_worker_post(job->w, &(wh_pod_event){.type = WH_POD_START_FAILED,
                                           .container = job->container,
                                           .attempt = job->attempt,
                                           .reason = job->reason,
                                           .message = job->err.msg});
}

static void reaped(void *user, int rc, pid_t pid, const char *error)
{
    (void)user;
    (void)rc;
    (void)pid;
    (void)error;
}

/* A container's end in the words of its status: the runner's own record first, then what the kernel says.
 * complexity: the cases of one table. */
static wh_pod_end describe_end(const wh_job_item *job)
{
    const wh_keeper_event *exit = &job->exit;
    wh_pod_end end = {.signal = exit->signal,
                      .started = exit->running != 0 ? exit->running : exit->started,
                      .finished = exit->finished != 0 ? exit->finished : wh_real_now()};

    if (job->has_record) {
        end.exit_code = job->record.exit_code;
        end.reason = job->record.reason;
        end.signal = 0;
        if (wh_streq(end.reason, "OutOfMemory"))
            end.reason = "OOMKilled";
        else if (wh_streq(end.reason, "Stopped"))
            end.reason = end.exit_code == 0 ? "Completed" : "Error";
        if (job->record.end != 0)
            end.finished = job->record.end;
        if (job->record.guest_start != 0)
            end.started = job->record.guest_start;
    } else if (exit->signal != 0) {
        end.exit_code = 128 + exit->signal;
        end.reason = job->oom_kills > 0 ? "OOMKilled" : "Error";
    } else if (exit->exited && exit->exit_code >= 0) {
        end.exit_code = exit->exit_code;
    } else {
        end.lost = true;
    }
    end.message = job->text;
    if (end.message == NULL && job->has_record && job->record.message[0] != '\0')
        end.message = job->record.message;
    return end;
}

static void finish_end(wh_job_item *job)
{
    wh_worker *w = job->w;
    wh_worker_container *c = &w->containers[job->container];
    char id[WH_CONTAINER_ID_LEN];
    auto_free char *end_path = wh_container_end_path(w, job->container, job->attempt);

    wh_container_id(w->spec, job->container, job->attempt, id);
    wh_worker_post(w, &(wh_pod_event){.type = job->adopt ? WH_POD_ADOPT : WH_POD_EXITED,
                                      .adopt = WH_ADOPT_ENDED,
                                      .container = job->container,
                                      .attempt = job->attempt,
                                      .end = describe_end(job)});
    if (c->cgroup != NULL) {
        wh_cgroup_kill(c->cgroup, NULL);
        if (wh_cgroup_remove(c->cgroup, NULL) == 0) {
            wh_cgroup_free(c->cgroup);
            c->cgroup = NULL;
        }
    }
    c->running_seen = false;
    if (job->has_record)
        c->report.memory_bytes = job->record.memory_bytes;
    unlink(end_path);
    if (w->node->keeper != NULL)
        wh_keeper_reap(w->node->keeper, id, reaped, NULL, NULL);
}

static void refresh_due(wh_timer *timer)
{
    wh_worker_refresh(timer->user);
}

static void finish_refresh(wh_job_item *job)
{
    wh_worker *w = job->w;
    wh_time wait = WH_MINUTE;

    if (job->rc < 0 && job->rc != -EAGAIN)
        wh_log(WARN, "volumes were not refreshed", KV_STR("pod", w->spec->name), KV_ERR(&job->err));
    if (job->next_refresh != WH_TIME_NEVER)
        wait = WH_MIN(wait, WH_MAX(WH_SEC, job->next_refresh - wh_real_now()));
    wh_timer_start(w->node->loop, &w->refresh, wait, refresh_due, w);
}

static void finish_mount(wh_job_item *job)
{
    wh_worker *w = job->w;

    if (job->rc == 0) {
        wh_timer_start(w->node->loop, &w->refresh, WH_MINUTE, refresh_due, w);
        wh_worker_post(w, &(wh_pod_event){.type = WH_POD_VOLUMES_READY});
        return;
    }
    wh_worker_post(w, &(wh_pod_event){.type = WH_POD_VOLUMES_FAILED,
                                      .reason = job->rc == -EAGAIN ? NULL : "FailedMount",
                                      .message = job->err.msg});
}

static void finish_teardown(wh_job_item *job)
{
    wh_worker *w = job->w;

    if (job->rc < 0) /* said, and left to the next start of the agent, which clears what no pod owns */
        wh_log(ERROR, "cleaning up after a pod failed", KV_STR("pod", w->spec->name), KV_ERR(&job->err));
    wh_timer_stop(&w->refresh);
    auto_free char *pod_group = wh_pod_cgroup_path(w->spec);
    if (w->cgroup == NULL && w->node->cgroups != NULL) /* of an earlier agent, or of one that went dormant */
        (void)wh_cgroup_make(w->node->cgroups, pod_group, &(wh_cgroup_limits){0}, &w->cgroup, NULL);
    if (w->cgroup != NULL) {
        wh_cgroup_remove(w->cgroup, NULL);
        wh_cgroup_free(w->cgroup);
        w->cgroup = NULL;
    }
    wh_worker_network_down(w);
    wh_worker_post(w, &(wh_pod_event){.type = WH_POD_TORN_DOWN});
}

static void job_done(void *user, bool cancelled)
{
    wh_job_item *job = user;
    wh_worker *w = job->w;

    if (!cancelled && !w->gone) {
        switch (job->kind) {
        case JOB_MOUNT:
            finish_mount(job);
            break;
        case JOB_START:
            if (job->rc == 0 && begin_start(job))
                return;
            post_failed_start(job);
            break;
        case JOB_END:
            finish_end(job);
            break;
        case JOB_TEARDOWN:
            finish_teardown(job);
            break;
        case JOB_REFRESH:
            finish_refresh(job);
            break;
        case JOB_USAGE:
            if (job->rc == -EDQUOT)
                wh_worker_post(
                    w, &(wh_pod_event){.type = WH_POD_EVICT, .reason = "Evicted", .message = job->err.msg});
            break;
        case JOB_ADOPTED:
            wh_worker_post(w, &(wh_pod_event){.type = WH_POD_ADOPTED});
            break;
        case JOB_PULL:
            break;
        }
    }
    job_free(job);
    w->job_running = false;
    next_job(w);
}

static void next_job(wh_worker *w)
{
    wh_job_item *job = TAILQ_FIRST(&w->jobs);

    if (w->job_running)
        return;
    if (job == NULL || w->node->freeing) {
        wh_worker_maybe_free(w);
        return;
    }
    TAILQ_REMOVE(&w->jobs, job, link);
    json_decref(w->snapshot);
    w->snapshot = wh_worker_snapshot(w);
    if (w->node->services != NULL)
        json_object_set_new(w->snapshot, " services", json_deep_copy(w->node->services));
    w->job_running = true;
    if (wh_pool_submit(w->node->pool, run_job, job_done, job) < 0) {
        run_job(job); /* the queue is full: slow down rather than fail */
        job_done(job, false);
    }
}

static void enqueue(wh_job_item *job)
{
    TAILQ_INSERT_TAIL(&job->w->jobs, job, link);
    next_job(job->w);
}

void wh_worker_mount(wh_worker *w)
{
    wh_err err = {0};

    int rc = wh_worker_network_up(w, &err);
    if (rc < 0) {
        wh_worker_post(w, &(wh_pod_event){.type = WH_POD_VOLUMES_FAILED,
                                          .reason = rc == -EAGAIN ? NULL : "FailedCreatePodSandBox",
                                          .message = err.msg});
        return;
    }
    enqueue(job_new(w, JOB_MOUNT, 0, 0));
}

void wh_worker_start(wh_worker *w, size_t container, unsigned attempt)
{
    wh_job_item *job = job_new(w, JOB_START, container, attempt);

    w->containers[container].start_asked = wh_mono_now();
    if (wh_worker_serve_prepare(w, container, &job->plan, &job->reason, &job->err) < 0) {
        post_failed_start(job);
        job_free(job);
        return;
    }
    enqueue(job);
}

void wh_worker_teardown(wh_worker *w)
{
    enqueue(job_new(w, JOB_TEARDOWN, 0, 0));
}

void wh_worker_adopted_later(wh_worker *w)
{
    enqueue(job_new(w, JOB_ADOPTED, 0, 0));
}

void wh_worker_refresh(wh_worker *w)
{
    wh_job_item *job;

    if (w->gone || wh_lifecycle_torn_down(w->lc) || w->refresh.loop == NULL)
        return; /* not mounted yet, or not any more */
    TAILQ_FOREACH(job, &w->jobs, link)
    {
        if (job->kind == JOB_REFRESH)
            return;
    }
    enqueue(job_new(w, JOB_REFRESH, 0, 0));
}

void wh_worker_collect_end(wh_worker *w, size_t container, unsigned attempt, const wh_keeper_event *event,
                           bool adopt)
{
    wh_job_item *job = job_new(w, JOB_END, container, attempt);

    job->adopt = adopt;
    job->exit = *event;
    job->exit.id = job->exit.note = NULL;
    enqueue(job);
}

void wh_worker_check_usage(wh_worker *w)
{
    bool limited = false;

    for (size_t i = 0; i < w->spec->n_volumes; i++)
        limited = limited ||
                  (w->spec->volumes[i].kind == WH_VOLUME_EMPTY_DIR && w->spec->volumes[i].size_limit.set);
    if (limited && !w->gone && w->refresh.loop != NULL && TAILQ_EMPTY(&w->jobs))
        enqueue(job_new(w, JOB_USAGE, 0, 0));
}

/* ---- images ---- */

static bool pull_cancelled(void *user, uint64_t done, uint64_t total, const char *what)
{
    const wh_job_item *job = user;

    (void)done;
    (void)total;
    (void)what;
    return __atomic_load_n(&job->w->node->freeing, __ATOMIC_RELAXED) ||
           __atomic_load_n(&job->w->gone, __ATOMIC_RELAXED);
}

/* The first word of what a container runs: the same choice as wh_env_argv's. NULL: nobody says. */
static const char *program_of(const wh_container_spec *c, const wh_image *image)
{
    if (c->command != NULL)
        return c->command[0];
    if (wh_strv_len(image->entrypoint) > 0)
        return image->entrypoint[0];
    return c->args != NULL ? c->args[0] : image->cmd != NULL ? image->cmd[0] : NULL;
}

static void run_pull(void *user)
{
    wh_job_item *job = user;
    wh_node *node = job->w->node;
    const wh_container_spec *c = &job->w->spec->containers[job->container];
    wh_pull_options options = {.policy = job->policy,
                               .credentials = job->credentials,
                               .n_credentials = job->n_credentials,
                               .auth_file = node->config.auth_file,
                               .registries = node->config.registries,
                               .progress = pull_cancelled,
                               .user = job};
    wh_image_error failure = {0};
    wh_time began = wh_mono_now();

    job->rc = wh_image_pull(node->store, c->image, &options, &job->image, &failure);
    wh_time pulled = wh_mono_now();
    if (job->rc == 0)
        job->rc = wh_store_lease(node->store, job->w->uid, job->image, &failure.err);
    if (job->rc == 0)
        job->rc = wh_image_code(node->store, job->image, program_of(c, job->image),
                                wh_worker_code_profile(job->w, job->container), &job->code, &failure);
    job->err = failure.err;
    job->reason = failure.reason != NULL ? failure.reason : "ErrImagePull";
    if (job->rc == 0)
        job->text = wh_xasprintf("Image \"%s\" is ready: fetched in %lld ms, code: %s", c->image,
                                 (long long)((pulled - began) / WH_MSEC), job->code.cached);
}

static void pull_done(void *user, bool cancelled)
{
    wh_job_item *job = user;
    wh_worker *w = job->w;
    wh_worker_container *c = &w->containers[job->container];

    w->pulls_running--;
    if (!cancelled && !w->gone && job->rc == 0) {
        wh_image_free(c->image);
        wh_code_done(&c->code);
        c->image = WH_TAKE(job->image);
        c->code = job->code;
        job->code = (wh_code){.fd = -1};
        wh_worker_post(w, &(wh_pod_event){.type = WH_POD_IMAGE_READY,
                                          .container = job->container,
                                          .image_id = c->image->image_id,
                                          .message = job->text});
    } else if (!cancelled && !w->gone) {
        wh_worker_post(w, &(wh_pod_event){.type = WH_POD_IMAGE_FAILED,
                                          .container = job->container,
                                          .reason = job->reason,
                                          .message = job->err.msg});
    }
    job_free(job);
    wh_worker_maybe_free(w);
}

static void add_pull_secret(wh_worker *w, const char *name, wh_job_item *job)
{
    auto_free char *key = wh_xasprintf("Secret/%s/%s", w->spec->namespace_, name);
    auto_json json_t *snapshot = wh_worker_snapshot(w);
    const json_t *secret = json_object_get(snapshot, key);
    const char *keys[] = {".dockerconfigjson", ".dockercfg"};

    for (size_t i = 0; secret != NULL && i < WH_ARRAY_LEN(keys); i++) {
        auto_free char *text = NULL;
        size_t n = 0;
        wh_err err = {0};
        if (wh_object_key(secret, keys[i], &text, &n, NULL) == 0 &&
            wh_credentials_parse(text, n, &job->credentials, &job->n_credentials, &err) < 0)
            wh_log(WARN, "a pull secret cannot be read", KV_STR("secret", name), KV_ERR(&err));
    }
}

void wh_worker_pull(wh_worker *w, size_t container)
{
    wh_job_item *job = job_new(w, JOB_PULL, container, 0);

    for (size_t i = 0; w->spec->pull_secrets != NULL && w->spec->pull_secrets[i] != NULL; i++)
        add_pull_secret(w, w->spec->pull_secrets[i], job);
    switch (w->spec->containers[container].pull_policy) {
    case WH_PULL_POLICY_ALWAYS:
        job->policy = WH_PULL_ALWAYS;
        break;
    case WH_PULL_POLICY_NEVER:
        job->policy = WH_PULL_NEVER;
        break;
    case WH_PULL_POLICY_IF_NOT_PRESENT:
        job->policy = WH_PULL_IF_NOT_PRESENT;
        break;
    }
    w->pulls_running++;
    if (wh_pool_submit(w->node->pull_pool, run_pull, pull_done, job) < 0) {
        job->rc = wh_fail(&job->err, -EAGAIN, "too many images are being pulled; this one waits its turn.");
        job->reason = "ErrImagePull";
        pull_done(job, false);
    }
}
