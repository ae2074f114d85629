/* SPDX-License-Identifier: Apache-2.0 */
/* wherry run MANIFEST: an agent for as long as the manifest's pods and jobs need, with state of its own that
 * goes with it. Output is prefixed by container. */
#include "base/file.h"
#include "base/log.h"
#include "base/yaml.h"
#include "cmd/cmd.h"
#include "node/logread.h"
#include "node/manifests.h"
#include "pod/volume.h"

#include <dirent.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/queue.h>
#include <sys/resource.h>

#define TAIL_EVERY (20 * WH_MSEC)
#define OUTPUT_MAX (512UL * 1024)
#define FOLDER_PREFIX "wherry-run-"

typedef struct tail { /* the output of one run of a container */
    TAILQ_ENTRY(tail) link;
    char *uid, *prefix, *dir;
    size_t container;
    unsigned attempt;
    wh_logread *out, *err;
    bool out_open_line, err_open_line;
} tail;

typedef struct row { /* of the summary */
    TAILQ_ENTRY(row) link;
    char *pod, *container, *result;
    unsigned restarts;
    wh_run_report report;
} row;

typedef struct run {
    wh_run_pods_options options;
    wh_loop *loop;
    wh_paths paths;
    wh_node *node;
    wh_manifests *manifests;
    wh_manifest manifest;
    char *folder, *origin; /* of state; of the manifest */
    TAILQ_HEAD(, tail) tails;
    TAILQ_HEAD(, row) rows;
    wh_timer poll, limit;
    int interrupts, single_exit;
    int signal;
    bool failed, timed_out, checking;
} run;

/* ---- reading the manifest ---- */

static bool is_relative(const char *path)
{
    return path != NULL && (wh_starts_with(path, "./") || wh_starts_with(path, "../"));
}

/* Paths beside the manifest become absolute: images that are files, and hostPath volumes. */
static int make_absolute(json_t *holder, const char *key, const char *base, wh_err *err)
{
    const char *path = json_string_value(json_object_get(holder, key));

    if (!is_relative(path))
        return 0;
    auto_free char *joined = wh_path_join(base, path);
    auto_free char *full = realpath(joined, NULL);
    if (full == NULL)
        return wh_fail(err, -errno, "open '%s' (%s: %s)", joined, key, path);
    json_object_set_new(holder, key, json_string(full));
    return 0;
}

static int fix_pod_spec(json_t *spec, const char *base, wh_err *err)
{
    const char *lists[] = {"containers", "initContainers"};
    json_t *entry;
    size_t i;
    int rc = 0;

    for (size_t k = 0; k < WH_ARRAY_LEN(lists); k++)
        json_array_foreach(json_object_get(spec, lists[k]), i, entry) rc =
            rc < 0 ? rc : make_absolute(entry, "image", base, err);
    json_array_foreach(json_object_get(spec, "volumes"), i, entry) rc =
        rc < 0 ? rc : make_absolute(json_object_get(entry, "hostPath"), "path", base, err);
    return rc;
}

static int fix_object(json_t *object, const char *base, wh_err *err)
{
    const char *kind = wh_json_str(object, "kind");
    json_t *item;
    size_t i;
    int rc = 0;

    if (wh_streq(kind, "Pod"))
        return fix_pod_spec(json_object_get(object, "spec"), base, err);
    if (wh_streq(kind, "Job"))
        return fix_pod_spec(wh_json_at(object, "spec.template.spec"), base, err);
    if (wh_streq(kind, "List"))
        json_array_foreach(json_object_get(object, "items"), i, item) rc =
            rc < 0 ? rc : fix_object(item, base, err);
    return rc;
}

/* The documents with their paths made absolute, as JSON again: what a manifest says is judged once, by its parser. */
static int fix_paths(const char *text, size_t n, const char *base, wh_buf *out, wh_err *err)
{
    auto_json json_t *documents = NULL;
    json_t *document;
    size_t i;
    int rc = wh_yaml_parse(text, n, &documents, err);

    json_array_foreach(documents, i, document)
    {
        rc = rc < 0 ? rc : fix_object(document, base, err);
        auto_free char *json = wh_json_dump(document);
        wh_buf_printf(out, "---\n%s\n", json);
    }
    return rc < 0 ? rc : out->failed ? wh_fail(err, -EFBIG, "the manifest is too large") : 0;
}

static int read_manifest(run *r, wh_err *err)
{
    const char *name = r->options.manifest;
    bool from_stdin = strcmp(name, "-") == 0;
    auto_free char *text = NULL;
    auto_free char *copy = wh_xstrdup(name);
    auto_buf wh_buf fixed;
    size_t n = 0;
    int rc = from_stdin ? wh_read_fd(STDIN_FILENO, WH_YAML_BYTES_MAX, &text, &n, err)
                        : wh_read_file(AT_FDCWD, name, WH_YAML_BYTES_MAX, &text, &n, err);

    wh_buf_init(&fixed, WH_YAML_BYTES_MAX);
    r->origin = wh_xstrdup(from_stdin ? "standard input" : name);
    if (rc == 0) {
        rc = fix_paths(text, n, from_stdin ? "." : dirname(copy), &fixed, err);
        if (rc < 0)
            return wh_wrap(err, "%s", r->origin);
    }
    rc = rc < 0 ? rc : wh_manifest_parse(wh_buf_str(&fixed), fixed.len, r->origin, &r->manifest, err);
    if (rc == 0 && json_array_size(r->manifest.pods) + json_array_size(r->manifest.jobs) == 0)
        rc = wh_fail(err, -EINVAL, "%s holds no Pod and no Job: there is nothing to run.", r->origin);
    return rc;
}

/* ---- output ---- */

static void print_lines(FILE *to, const char *prefix, const wh_buf *text, bool *open_line)
{
    const char *p = text->p, *end = text->p + text->len;

    while (p < end) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        size_t n = newline != NULL ? (size_t)(newline - p) + 1 : (size_t)(end - p);
        if (!*open_line)
            fputs(prefix, to);
        fwrite(p, 1, n, to);
        *open_line = newline == NULL;
        p += n;
    }
    fflush(to);
}

static void drain(wh_logread *reader, FILE *to, const char *prefix, bool *open_line)
{
    int rc = 1;

    while (reader != NULL && rc == 1) {
        auto_buf wh_buf text;
        wh_buf_init(&text, OUTPUT_MAX);
        rc = wh_logread_next(reader, &text, NULL);
        print_lines(to, prefix, &text, open_line);
    }
}

static void pump_tail(tail *t)
{
    const wh_logread_options out = {.tail_lines = -1, .limit_bytes = -1, .stream = "stdout"};
    const wh_logread_options err = {.tail_lines = -1, .limit_bytes = -1, .stream = "stderr"};

    if (t->out == NULL && wh_logread_open(t->dir, t->attempt, &out, &t->out, NULL) < 0)
        t->out = NULL;
    if (t->err == NULL && wh_logread_open(t->dir, t->attempt, &err, &t->err, NULL) < 0)
        t->err = NULL;
    drain(t->out, stdout, t->prefix, &t->out_open_line);
    drain(t->err, stderr, t->prefix, &t->err_open_line);
}

static void pump_all(wh_timer *timer)
{
    run *r = timer->user;
    tail *t;

    TAILQ_FOREACH(t, &r->tails, link)
    pump_tail(t);
    wh_timer_start(r->loop, &r->poll, TAIL_EVERY, pump_all, r);
}

static void follow(run *r, wh_worker *w, size_t container, unsigned attempt)
{
    const wh_pod_spec *spec = wh_worker_spec(w);
    tail *t;

    TAILQ_FOREACH(t, &r->tails, link)
    {
        if (wh_streq(t->uid, spec->uid) && t->container == container && t->attempt == attempt)
            return;
    }
    t = wh_xnew(tail);
    t->uid = wh_xstrdup(spec->uid);
    t->container = container;
    t->attempt = attempt;
    t->dir = wh_worker_log_dir(w, container);
    t->prefix = spec->n_containers > 1
                    ? wh_xasprintf("[%s/%s] ", spec->name, spec->containers[container].name)
                    : wh_xasprintf("[%s] ", spec->name);
    TAILQ_INSERT_TAIL(&r->tails, t, link);
}

static void tail_free(tail *t)
{
    wh_logread_free(t->out);
    wh_logread_free(t->err);
    free(t->uid);
    free(t->prefix);
    free(t->dir);
    free(t);
}

/* ---- what happens ---- */

static void end_all(run *r);

/* A node tries for ever; in the foreground somebody waits for the answer. */
static bool is_hopeless(const wh_container_life *life)
{
    static const char *const reasons[] = {
        "ErrImagePull",         "ImagePullBackOff",    "InvalidImageName",          "ErrImageNeverPull",
        "CreateContainerError", "RegistryUnavailable", "CreateContainerConfigError"};

    if (life->state != WH_CONTAINER_WAITING)
        return false;
    for (size_t i = 0; i < WH_ARRAY_LEN(reasons); i++)
        if (wh_streq(life->reason, reasons[i]))
            return true;
    return false;
}

static void give_up(void *user)
{
    run *r = user;

    if (r->interrupts == 0)
        end_all(r);
}

static void on_status(void *user, wh_worker *w)
{
    run *r = user;
    const wh_pod_spec *spec = wh_worker_spec(w);

    for (size_t i = 0; i < spec->n_containers; i++) {
        const wh_container_life *life = wh_lifecycle_container(wh_worker_lifecycle(w), i);
        if (life->state == WH_CONTAINER_RUNNING || life->state == WH_CONTAINER_STARTING)
            follow(r, w, i, life->attempt);
        else if (life->end.set)
            follow(r, w, i, life->end.attempt);
        if (is_hopeless(life) && r->interrupts == 0)
            wh_loop_defer(r->loop, give_up, r);
    }
    wh_manifests_pod_changed(r->manifests, w);
}

static void on_event(void *user, wh_worker *w, const char *container, bool warning, const char *reason,
                     const char *message)
{
    const run *r = user;
    const char *name = wh_worker_spec(w)->name;

    if (warning && !r->options.quiet)
        fprintf(stderr, "wherry: %s%s%s: %s: %s\n", name, container != NULL ? "/" : "",
                container != NULL ? container : "", reason, message);
}

static const char *container_result(const wh_container_life *life, char out[64])
{
    if (life->state == WH_CONTAINER_RUNNING)
        return "running";
    if (!life->end.set) {
        snprintf(out, 64, "%s", life->reason[0] != '\0' ? life->reason : "never ran");
        return out;
    }
    snprintf(out, 64, "%s (%d)", life->end.reason, life->end.exit_code);
    return out;
}

static void add_rows(void *user, wh_worker *w)
{
    run *r = user;
    const wh_pod_spec *spec = wh_worker_spec(w);
    char result[64];

    for (size_t i = 0; i < spec->n_containers; i++) {
        const wh_container_life *life = wh_lifecycle_container(wh_worker_lifecycle(w), i);
        row *line = wh_xnew(row);
        line->pod = wh_xstrdup(spec->name);
        line->container = wh_xstrdup(spec->containers[i].name);
        line->result = wh_xstrdup(container_result(life, result));
        line->restarts = life->end.set ? life->end.attempt : 0;
        line->report = wh_worker_report(w, i);
        TAILQ_INSERT_TAIL(&r->rows, line, link);
        r->single_exit = life->end.set ? life->end.exit_code : 1;
    }
}

static void print_summary(run *r)
{
    row *line;
    char memory[16], start[32];

    fprintf(stderr, "\n%-28s %-16s %-24s %8s %10s %10s\n", "POD", "CONTAINER", "RESULT", "RESTARTS", "START",
            "MEMORY");
    TAILQ_FOREACH(line, &r->rows, link)
    {
        snprintf(start, sizeof(start), "%.1f ms", (double)line->report.start_ns / (double)WH_MSEC);
        fprintf(stderr, "%-28s %-16s %-24s %8u %10s %10s\n", line->pod, line->container, line->result,
                line->restarts, line->report.start_ns != 0 ? start : "-",
                line->report.memory_bytes != 0 ? wh_human_bytes(line->report.memory_bytes, memory) : "-");
    }
}

static void delete_pod(void *user, wh_worker *w)
{
    const run *r = user;

    wh_node_delete(r->node, wh_worker_spec(w)->uid, r->interrupts > 1 ? 0 : -1, r->interrupts > 1);
}

static bool all_down(const run *r)
{
    return wh_node_count(r->node) == 0;
}

/* After each change: done when everything has ended, or, once interrupted, when everything is gone. */
static void check_now(void *user)
{
    run *r = user;
    size_t failed = 0;

    r->checking = false;

    if (r->manifests == NULL)
        return;
    if (r->interrupts > 0) {
        if (all_down(r))
            wh_loop_stop(r->loop, 0);
        return;
    }
    if (!wh_manifests_ended(r->manifests, &failed))
        return;
    r->failed = failed > 0;
    wh_node_each(r->node, add_rows, r);
    r->interrupts = 1; /* from here on the same way out as after an interrupt */
    pump_all(&r->poll);
    wh_node_each(r->node, delete_pod, r);
    if (all_down(r))
        wh_loop_stop(r->loop, 0);
}

static void changed_later(void *user)
{
    run *r = user;

    if (!r->checking) {
        r->checking = true;
        wh_loop_defer(r->loop, check_now, r);
    }
}

static void end_all(run *r)
{
    if (r->interrupts == 0)
        wh_node_each(r->node, add_rows, r);
    r->interrupts++;
    r->failed = true;
    wh_manifests_drop_jobs(r->manifests);
    wh_node_each(r->node, delete_pod, r);
    changed_later(r);
}

static void on_signal(const struct signalfd_siginfo *info, void *user)
{
    run *r = user;

    r->signal = (int)info->ssi_signo;
    if (!r->options.quiet)
        fprintf(stderr, r->interrupts == 0 ? "\nwherry: ending the pods; once more ends them at once\n"
                                           : "\nwherry: at once\n");
    end_all(r);
}

static void too_late(wh_timer *timer)
{
    run *r = timer->user;

    fprintf(stderr, "wherry: the time of --timeout is over\n");
    r->timed_out = true;
    end_all(r);
}

static void on_gone(void *user, wh_worker *w)
{
    run *r = user;

    wh_manifests_pod_gone(r->manifests, w);
    changed_later(r);
}

static void begin(void *user)
{
    run *r = user;
    wh_err err = {0};

    wh_node_observe(
        r->node, "run",
        &(wh_node_observer){.on_status = on_status, .on_event = on_event, .on_gone = on_gone, .user = r});
    r->manifests = wh_manifests_new(r->loop, r->node, "run", changed_later, r);
    if (wh_manifests_apply(r->manifests, r->origin, &r->manifest, &err) < 0) {
        wh_cmd_fail(&err);
        r->failed = true;
    }
    changed_later(r);
}

/* ---- beginning and end ---- */

/* Holds the folder's lock as long as we live; -EWOULDBLOCK when somebody else does. */
static int lock_folder(const char *folder, int flags)
{
    auto_free char *path = wh_path_join(folder, "lock");
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600);

    if (fd < 0)
        return -errno;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    int rc = -errno;
    close(fd);
    return rc;
}

/* What a run that was killed left: secrets on a tmpfs, volumes, logs. */
static void clear_leftover(const char *folder)
{
    auto_free char *pods = wh_path_join(folder, "pods");
    auto_strv wh_strv uids = NULL;
    struct stat st;

    if (lstat(folder, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid())
        return;
    auto_close int lock = lock_folder(folder, 0);
    if (lock < 0)
        return; /* it lives, or is no folder of ours */
    if (wh_volumes_list(pods, &uids, NULL) == 0)
        for (size_t i = 0; i < wh_strv_len(uids); i++)
            wh_volumes_teardown(pods, uids[i], NULL);
    wh_rm_rf(AT_FDCWD, folder, NULL);
}

static void clear_leftovers(const char *tmp)
{
    DIR *d = opendir(tmp);

    if (d == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(d)) != NULL;) {
        auto_free char *folder = wh_path_join(tmp, entry->d_name);
        if (wh_starts_with(entry->d_name, FOLDER_PREFIX))
            clear_leftover(folder);
    }
    closedir(d);
}

static int make_folder(run *r, wh_err *err)
{
    const char *given = getenv("TMPDIR"), *tmp = given != NULL ? given : "/tmp";

    clear_leftovers(tmp);
    r->folder = wh_xasprintf("%s/" FOLDER_PREFIX "XXXXXX", tmp);
    if (mkdtemp(r->folder) == NULL)
        return wh_fail(err, -errno, "make folder '%s'", r->folder);
    int lock = lock_folder(r->folder, O_CREAT | O_EXCL);
    if (lock < 0)
        return wh_fail(err, lock, "lock folder '%s'", r->folder);
    auto_free char *run_dir = wh_path_join(r->folder, "run");
    auto_free char *log_dir = wh_path_join(r->folder, "logs");
    wh_paths shared = {0};
    int rc = wh_paths_init(&shared, wh_cmd_dirs_given.root, wh_cmd_dirs_given.run, log_dir, err);
    rc = rc < 0 ? rc : wh_paths_init(&r->paths, r->folder, run_dir, log_dir, err);
    if (rc == 0) { /* images and code are kept for the next time */
        free(r->paths.images);
        r->paths.images = WH_TAKE(shared.images);
    }
    wh_paths_done(&shared);
    /* Pods with other uids pass through. */
    return rc < 0 || chmod(r->folder, 0711) == 0 ? rc : wh_fail(err, -errno, "chmod '%s'", r->folder);
}

static int start(run *r, wh_err *err)
{
    static wh_node_config config;
    const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    int rc = wh_loop_new(&r->loop, err);

    for (size_t i = 0; rc == 0 && i < WH_ARRAY_LEN(signals); i++)
        rc = wh_loop_signal(r->loop, signals[i], on_signal, r, err);
    config = (wh_node_config){.name = "localhost",
                              .paths = &r->paths,
                              .node_ip = "127.0.0.1",
                              .cgroup_parent = geteuid() == 0 ? "wherry" : NULL,
                              .ephemeral = true,
                              .log_bytes_max = 64UL << 20,
                              .log_files_max = 5};
    rc = rc < 0 ? rc : wh_node_new(r->loop, &config, begin, r, &r->node, err);
    if (rc == 0 && r->options.timeout_ns > 0)
        wh_timer_start(r->loop, &r->limit, r->options.timeout_ns, too_late, r);
    return rc;
}

static void finish(run *r)
{
    tail *t;
    row *line;

    wh_timer_stop(&r->poll);
    wh_timer_stop(&r->limit);
    while ((t = TAILQ_FIRST(&r->tails)) != NULL) {
        pump_tail(t);
        TAILQ_REMOVE(&r->tails, t, link);
        tail_free(t);
    }
    if (r->options.summary)
        print_summary(r);
    while ((line = TAILQ_FIRST(&r->rows)) != NULL) {
        TAILQ_REMOVE(&r->rows, line, link);
        free(line->pod);
        free(line->container);
        free(line->result);
        free(line);
    }
    wh_manifests_free(r->manifests);
    wh_node_free(r->node);
    wh_loop_free(r->loop);
    auto_free char *lock = wh_path_join(r->folder != NULL ? r->folder : "", "lock");
    if (r->options.keep && unlink(lock) == 0) /* without it no later run takes the folder for a leftover */
        fprintf(stderr, "wherry: state and logs are in '%s'\n", r->folder);
    else if (r->folder != NULL)
        wh_rm_rf(AT_FDCWD, r->folder, NULL);
}

static int exit_code(const run *r, size_t pods)
{
    if (r->signal != 0)
        return 128 + r->signal;
    if (r->timed_out)
        return 124;
    if (!r->failed)
        return 0;
    return pods == 1 && r->single_exit != 0 ? r->single_exit : 1;
}

int wh_run_pods(const wh_run_pods_options *options)
{
    run r = {.options = *options};
    wh_err err = {0};
    size_t containers = 0;
    row *line;

    TAILQ_INIT(&r.tails);
    TAILQ_INIT(&r.rows);
    signal(SIGPIPE, SIG_IGN);
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){.rlim_cur = 65536, .rlim_max = 65536});
    if (read_manifest(&r, &err) < 0 || make_folder(&r, &err) < 0 || start(&r, &err) < 0) {
        if (r.folder != NULL)
            wh_rm_rf(AT_FDCWD, r.folder, NULL);
        wh_manifest_done(&r.manifest);
        wh_paths_done(&r.paths);
        free(r.folder);
        free(r.origin);
        return wh_cmd_fail(&err);
    }
    r.poll.user = &r;
    wh_timer_start(r.loop, &r.poll, TAIL_EVERY, pump_all, &r);
    wh_loop_run(r.loop);
    TAILQ_FOREACH(line, &r.rows, link)
    containers++;
    finish(&r);
    int code = exit_code(&r, containers);
    wh_paths_done(&r.paths);
    free(r.folder);
    free(r.origin);
    return code;
}
