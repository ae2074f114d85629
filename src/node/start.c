/* SPDX-License-Identifier: Apache-2.0 */
/* What a runner is started with: environment, arguments, volumes, log, limits, as descriptors and a run
 * specification. Runs in the job pool. */
#include "base/file.h"
#include "node/internal.h"
#include "runner/spec.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>

int wh_start_plan_add(wh_start_plan *plan, int fd, const char *what, wh_err *err)
{
    if (fd < 0) /* from open(2), or a negative errno whose sentence is there already */
        return fd == -1 ? wh_fail(err, -errno, "open %s", what) : fd;
    if (plan->n_fds >= WH_ARRAY_LEN(plan->fds)) {
        close(fd);
        return wh_fail(err, -E2BIG, "a container has at most %zu volumes.", WH_ARRAY_LEN(plan->fds) - 8);
    }
    plan->fds[plan->n_fds] = fd;
    return (int)plan->n_fds++;
}

/* A wake opens it anew: by then a log may have been rotated, and what is not held costs nothing. */
static void open_again(wh_start_plan *plan, int index, char how, const char *path)
{
    wh_assert(plan->n_opens < WH_ARRAY_LEN(plan->opens));
    char *copy = plan->paths[plan->n_opens] = wh_xstrdup(path);
    plan->opens[plan->n_opens++] = (struct wh_keeper_open){.index = (size_t)index, .how = how, .path = copy};
}

void wh_start_plan_done(wh_start_plan *plan)
{
    for (size_t i = 0; i < plan->n_fds; i++)
        close(plan->fds[i]);
    for (size_t i = 0; i < plan->n_sockets; i++)
        free(plan->sockets[i]);
    for (size_t i = 0; i < plan->n_opens; i++)
        free(plan->paths[i]);
    if (plan->netd_fd > 0)
        close(plan->netd_fd);
    wh_strv_free(plan->cgroup_procs);
    wh_strv_free(plan->group_dirs);
    wh_strv_free(plan->group_settings);
    wh_cgroup_free(plan->cgroup);
    *plan = (wh_start_plan){0};
}

int wh_container_log_open(const wh_worker *w, size_t container, unsigned attempt, wh_err *err)
{
    auto_free char *dir = wh_worker_log_dir(w, container);
    auto_free char *path = wh_xasprintf("%s/%u.log", dir, attempt);
    int rc = wh_mkdir_p(dir, 0755, err);

    if (rc < 0)
        return rc;
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
    return fd < 0 ? wh_fail(err, -errno, "open log '%s'", path) : fd;
}

char *wh_container_end_path(const wh_worker *w, size_t container, unsigned attempt)
{
    return wh_xasprintf("%s/%s/end/%s.%u", w->node->pods_dir, w->uid, w->spec->containers[container].name,
                        attempt);
}

static int open_end(const wh_worker *w, size_t container, unsigned attempt, wh_err *err)
{
    auto_free char *dir = wh_xasprintf("%s/%s/end", w->node->pods_dir, w->uid);
    auto_free char *path = wh_container_end_path(w, container, attempt);
    int rc = wh_mkdir_p(dir, 0700, err);

    if (rc < 0)
        return rc;
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd < 0 ? wh_fail(err, -errno, "open '%s'", path) : fd;
}

/* Writes one small file of a guest's /etc. */
static int put_file(const char *dir, const char *name, const char *text, wh_err *err)
{
    auto_free char *path = wh_path_join(dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    int rc = fd < 0 ? -errno : wh_write_all(fd, text, strlen(text));

    if (fd >= 0)
        close(fd);
    return rc < 0 ? wh_fail(err, rc, "write '%s'", path) : 0;
}

static int put_names(const wh_worker *w, const char *etc, wh_err *err)
{
    auto_free char *hostname = wh_pod_hostname(w->spec);
    auto_free char *line = wh_xasprintf("%s\n", hostname);
    auto_free char *hosts = wh_pod_hosts(w->spec, &w->facts);
    int rc = put_file(etc, "hosts", hosts, err);

    rc = rc < 0 ? rc : put_file(etc, "resolv.conf", w->resolv_conf != NULL ? w->resolv_conf : "", err);
    return rc < 0 ? rc : put_file(etc, "hostname", line, err);
}

/* The guest's "/": a fresh folder with /etc, /tmp and the points where volumes appear. */
static int make_root(const wh_worker *w, size_t container, unsigned attempt, const wh_mount *mounts, size_t n,
                     char **ret, wh_err *err)
{
    auto_free char *roots = wh_xasprintf("%s/%s/root", w->node->pods_dir, w->uid);
    auto_free char *root = wh_xasprintf("%s/%s.%u", roots, w->spec->containers[container].name, attempt);
    auto_free char *etc = wh_path_join(root, "etc");
    auto_free char *tmp = wh_path_join(root, "tmp");
    int rc = wh_rm_rf(AT_FDCWD, root, err);

    rc = rc < 0 ? rc : wh_mkdir_p(etc, 0755, err);
    rc = rc < 0 ? rc : wh_mkdir_p(tmp, 01777, err);
    rc = rc < 0 ? rc : put_names(w, etc, err);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        auto_free char *point = wh_path_join(root, mounts[i].guest_path);
        if (strstr(mounts[i].guest_path, "..") == NULL)
            rc = wh_mkdir_p(point, 0755, err);
    }
    if (rc == 0 && geteuid() == 0 &&
        (chown(root, w->run_uid, w->run_gid) < 0 || chown(tmp, w->run_uid, w->run_gid) < 0))
        rc = wh_fail(err, -errno, "give '%s' to the container", root);
    if (rc == 0)
        *ret = WH_TAKE(root);
    return rc;
}

static int add_dir(wh_runspec *spec, wh_start_plan *plan, const char *guest_path, int fd, bool read_only,
                   wh_err *err)
{
    int number = wh_start_plan_add(plan, fd, guest_path, err);

    if (number < 0)
        return number;
    spec->dirs[spec->n_dirs++] =
        (wh_runspec_dir){.guest_path = wh_xstrdup(guest_path), .fd = number, .read_only = read_only};
    return 0;
}

/* Root folder first: libc takes the longest match, so the order does not matter to guests, but people expect
 * it. */
static int add_dirs(wh_worker *w, size_t container, unsigned attempt, char *const *env, wh_runspec *spec,
                    wh_start_plan *plan, const char **ret_reason, wh_err *err)
{
    const wh_container_spec *c = &w->spec->containers[container];
    const wh_image *image = w->containers[container].image;
    auto_free char *root = NULL;
    wh_mount *mounts = NULL;
    size_t n = 0;
    int rc = wh_volumes_container(w->volumes, container, env, &mounts, &n, err);

    if (rc <
        0) { /* a subPathExpr that makes no path: the kubelet's word for what the pod's author has to mend */
        *ret_reason = "CreateContainerConfigError";
        return rc;
    }
    spec->dirs = wh_xcalloc(n + 2, sizeof(*spec->dirs));
    rc = make_root(w, container, attempt, mounts, n, &root, err);
    if (rc == 0 && image->form == WH_IMAGE_ROOTFS) {
        auto_free char *tmp = wh_path_join(root, "tmp");
        rc = add_dir(spec, plan, "/", open(image->rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC), true, err);
        rc = rc < 0 ? rc
                    : add_dir(spec, plan, "/tmp", open(tmp, O_PATH | O_DIRECTORY | O_CLOEXEC), false, err);
    } else if (rc == 0) {
        rc = add_dir(spec, plan, "/", open(root, O_PATH | O_DIRECTORY | O_CLOEXEC), c->read_only_root, err);
        if (rc == 0 && plan->rest)
            open_again(plan, spec->dirs[0].fd, 'd', root);
    }
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = add_dir(spec, plan, mounts[i].guest_path, WH_TAKE_FD(mounts[i].fd), mounts[i].read_only, err);
    }
    wh_mounts_free(mounts, n);
    return rc;
}

/* The group of the pod, then the container's own below it; without controllers a limit of the process stands
 * in. */
static int add_cgroup(wh_worker *w, size_t container, unsigned attempt, wh_start_plan *plan, wh_err *err)
{
    auto_free char *pod_path = wh_pod_cgroup_path(w->spec);
    auto_free char *path = wh_container_cgroup_path(w->spec, container, attempt);
    wh_cgroup_limits pod_limits = wh_pod_cgroup_limits(w->spec);
    wh_cgroup_limits limits = wh_container_cgroup_limits(w->spec, container);
    int rc = 0;

    plan->oom_score_adj = wh_container_oom_score_adj(w->spec, container, w->node->config.memory_bytes);
    if (w->node->cgroups == NULL || !wh_cgroups_has(w->node->cgroups, "memory")) {
        plan->rlimit_data = limits.memory_max;
        if (w->node->cgroups == NULL)
            return 0;
    }
    if (w->cgroup == NULL)
        rc = wh_cgroup_make(w->node->cgroups, pod_path, &pod_limits, &w->cgroup, err);
    rc = rc < 0 ? rc : wh_cgroup_make(w->node->cgroups, path, &limits, &plan->cgroup, err);
    if (rc == 0)
        plan->cgroup_procs = wh_strv_copy(wh_cgroup_procs(plan->cgroup));
    if (rc == 0 && plan->rest) {
        wh_cgroup_recipe(w->cgroup, &plan->group_dirs, &plan->group_settings);
        wh_cgroup_recipe(plan->cgroup, &plan->group_dirs, &plan->group_settings);
    }
    return rc;
}

static int fill_environment(wh_worker *w, size_t container, wh_runspec *spec, const char **ret_reason,
                            wh_err *err)
{
    const wh_container_spec *c = &w->spec->containers[container];
    const wh_image *image = w->containers[container].image;
    auto_strv wh_strv argv = NULL;
    auto_free char *hostname = wh_pod_hostname(w->spec);
    wh_env_input in = {.spec = w->spec,
                       .container = container,
                       .facts = &w->facts,
                       .resolver = &w->resolver,
                       .services = json_object_get(w->snapshot, " services"),
                       .image_env = image->env};
    int rc = wh_env_build(&in, &spec->env, err);

    rc = rc < 0 ? rc : wh_env_argv(c, spec->env, image->entrypoint, image->cmd, &argv, err);
    if (rc < 0) {
        *ret_reason = "CreateContainerConfigError";
        return rc;
    }
    wh_strv_push_take(&spec->env, wh_xasprintf("HOSTNAME=%s", hostname));
    /* A single module's argv[0] is its title unless the pod gives a command. */
    if (image->form == WH_IMAGE_MODULE && c->command == NULL && wh_strv_len(image->entrypoint) == 0)
        wh_strv_push(&spec->args, image->title != NULL ? image->title : c->name);
    for (size_t i = 0; i < wh_strv_len(argv); i++)
        wh_strv_push(&spec->args, argv[i]);
    return 0;
}

static int null_fd(void)
{
    return open("/dev/null", O_RDWR | O_CLOEXEC);
}

static int add_log_and_end(const wh_worker *w, size_t container, unsigned attempt, wh_runspec *spec,
                           wh_start_plan *plan, wh_err *err)
{
    auto_free char *dir = wh_worker_log_dir(w, container);
    auto_free char *log = wh_xasprintf("%s/%u.log", dir, attempt);
    auto_free char *end = wh_container_end_path(w, container, attempt);
    int rc = spec->log_fd =
        wh_start_plan_add(plan, wh_container_log_open(w, container, attempt, err), "the log", err);

    if (rc >= 0)
        rc = spec->end_fd =
            wh_start_plan_add(plan, open_end(w, container, attempt, err), "the end record", err);
    if (rc >= 0 && plan->rest) {
        open_again(plan, spec->log_fd, 'a', log);
        open_again(plan, spec->end_fd, 't', end);
    }
    return rc < 0 ? rc : 0;
}

/* Descriptors 0 to 2 are nothing, 3 is the specification, written last. */
static int fill_spec(wh_worker *w, size_t container, unsigned attempt, wh_runspec *spec, wh_start_plan *plan,
                     const char **ret_reason, wh_err *err)
{
    const wh_container_spec *c = &w->spec->containers[container];
    const wh_code *code = &w->containers[container].code;
    char id[WH_CONTAINER_ID_LEN];
    int rc = fill_environment(w, container, spec, ret_reason, err);

    for (int i = 0; rc >= 0 && i < 4; i++)
        rc = wh_start_plan_add(plan, null_fd(), "/dev/null", err);
    if (rc < 0)
        return rc;
    *ret_reason = "CreateContainerError";
    spec->id = wh_xstrdup(wh_container_id(w->spec, container, attempt, id));
    spec->name = wh_xstrdup(c->name);
    spec->profile = code->profile;
    spec->stop_signal = c->stop_signal != 0 ? c->stop_signal : SIGTERM;
    spec->landlock_optional = geteuid() != 0 || w->node->config.ephemeral;
    spec->memory_bytes_max = wh_container_cgroup_limits(w->spec, container).memory_max;
    rc = spec->code_fd =
        wh_start_plan_add(plan, fcntl(code->fd, F_DUPFD_CLOEXEC, 3), "the compiled module", err);
    rc = rc < 0 ? rc : add_log_and_end(w, container, attempt, spec, plan, err);
    rc = rc < 0 ? rc : add_dirs(w, container, attempt, spec->env, spec, plan, ret_reason, err);
    rc = rc < 0 ? rc : wh_worker_serve_spec(w, container, spec, plan, err);
    rc = rc < 0 ? rc : add_cgroup(w, container, attempt, plan, err);
    /* Behind ours the keeper puts the listening sockets, then the control socket. */
    spec->listen_fds = wh_xcalloc(plan->n_sockets + 1, sizeof(*spec->listen_fds));
    for (; spec->n_listen < plan->n_sockets; spec->n_listen++)
        spec->listen_fds[spec->n_listen] = (int)(plan->n_fds + spec->n_listen);
    spec->control_fd = (int)(plan->n_fds + plan->n_sockets);
    return rc < 0 ? rc : 0;
}

int wh_start_plan_make(wh_worker *w, size_t container, unsigned attempt, wh_start_plan *plan,
                       const char **ret_reason, wh_err *err)
{
    auto_runspec wh_runspec *spec = wh_xnew(wh_runspec);
    wh_start_plan p = *plan; /* what was prepared on the loop */

    *plan = (wh_start_plan){.netd_fd = -1};

    spec->code_fd = spec->log_fd = spec->end_fd = spec->control_fd = -1;
    if (w->containers[container].image == NULL || w->containers[container].code.fd < 0) {
        *ret_reason = "CreateContainerError";
        wh_start_plan_done(&p);
        return wh_fail(err, -ENOENT, "the image of container '%s' is not ready.",
                       w->spec->containers[container].name);
    }
    wh_volumes_termination_reset(w->volumes, container);
    int rc = fill_spec(w, container, attempt, spec, &p, ret_reason, err);
    int memfd = rc < 0 ? rc : wh_runspec_memfd(spec, err);
    if (memfd < 0) {
        wh_start_plan_done(&p);
        return memfd;
    }
    close(p.fds[WH_RUNSPEC_FD]);
    p.fds[WH_RUNSPEC_FD] = memfd;
    *plan = p;
    return 0;
}
