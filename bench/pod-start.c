/* SPDX-License-Identifier: Apache-2.0 */
/* A pod's start as the agent does it: a control group in every hierarchy, the real keeper, namespaces, own
 * user, the whole sandbox. Latency is from the request to the guest's first instruction; the rate counts all
 * from the group's making to its removal. The peer is runc with a static C program, doing the same, in the
 * same run. */
#include "bench.h"

#include "base/file.h"
#include "keeper/cgroup.h"
#include "keeper/keeper.h"
#include "runner/spec.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define PODS_MAX 4096
#define AT_ONCE 16 /* starts in flight while the rate is measured */

typedef struct pod {
    char id[24];
    wh_cgroup *group;
    wh_time asked, first; /* real time */
    bool exited, reaped;
} pod;

typedef struct run {
    wh_loop *loop;
    wh_keeper *keeper;
    wh_cgroups *cgroups;
    char dir[64];
    const char *code, *runner;
    pod pods[PODS_MAX];
    int begun, running, finished;
    bool failed;
} run;

static run r;

__attribute__((noreturn)) static void die(const char *what, const wh_err *err)
{
    fprintf(stderr, "pod-start: %s: %s\n", what, err == NULL ? "failed" : err->msg);
    exit(1);
}

static void on_reaped(void *user, WH_UNUSED int rc, WH_UNUSED pid_t pid, WH_UNUSED const char *error)
{
    pod *p = user;
    p->reaped = true;
    (void)wh_cgroup_remove(p->group, NULL);
    wh_cgroup_free(WH_TAKE(p->group));
    r.finished++;
}

static void on_event(WH_UNUSED void *user, const wh_keeper_event *e)
{
    int i = atoi(e->id + 1); /* "p17" */
    pod *p = &r.pods[i];
    if (e->running > 0 && p->first == 0) {
        p->first = e->running;
        r.running++;
    }
    if (e->exited && !p->exited) {
        p->exited = true;
        if (e->exit_code != 0)
            r.failed = true;
        (void)wh_keeper_reap(r.keeper, p->id, on_reaped, p, NULL);
    }
}

static void on_lost(WH_UNUSED void *user, const wh_err *err)
{
    die("keeper", err);
}

static void on_started(WH_UNUSED void *user, int rc, WH_UNUSED pid_t pid, const char *error)
{
    if (rc < 0) {
        fprintf(stderr, "pod-start: %s\n", error);
        exit(1);
    }
}

static void make_group(pod *p)
{
    wh_err err = {0};
    const wh_cgroup_limits limits = {.memory_max = 64 << 20, .cpu_shares = 102, .pids_max = 64};
    if (wh_cgroup_make(r.cgroups, p->id, &limits, &p->group, &err) < 0)
        die("control group", &err);
}

static void start(pod *p)
{
    wh_err err = {0};
    char arg[] = "hello";
    char *args[] = {arg, NULL};
    wh_runspec spec = {.id = p->id,
                       .code_fd = 4,
                       .end_fd = 5,
                       .log_fd = 6,
                       .control_fd = 7,
                       .stop_signal = SIGTERM,
                       .memory_bytes_max = 32 << 20,
                       .args = args};
    auto_close int null = open("/dev/null", O_RDWR | O_CLOEXEC), code = open(r.code, O_RDONLY | O_CLOEXEC);
    auto_close int end = memfd_create("end", MFD_CLOEXEC), log = memfd_create("log", MFD_CLOEXEC);
    auto_close int program = open(r.runner, O_PATH | O_CLOEXEC), spec_fd = wh_runspec_memfd(&spec, &err);
    const int fds[] = {null, null, null, spec_fd, code, end, log};
    const uid_t uid = getuid() == 0 ? 165536 : getuid();
    const wh_keeper_start request = {.id = p->id,
                                     .uid = uid,
                                     .gid = uid,
                                     .cgroup_procs = wh_cgroup_procs(p->group),
                                     .oom_score_adj = 1000,
                                     .nofile = 1024,
                                     .namespaces = true,
                                     .fds = fds,
                                     .n_fds = WH_ARRAY_LEN(fds),
                                     .exec_fd = program};
    p->asked = wh_real_now();
    if (spec_fd < 0 || wh_keeper_start_runner(r.keeper, &request, on_started, NULL, &err) < 0)
        die("start", &err);
}

static pod *next_pod(void)
{
    pod *p = &r.pods[r.begun];
    (void)snprintf(p->id, sizeof(p->id), "p%d", r.begun++);
    make_group(p);
    return p;
}

static int by_time(const void *a, const void *b)
{
    const wh_time *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static void latency(int n, double *ret_p50, double *ret_p99)
{
    static wh_time took[PODS_MAX];
    for (int i = 0; i < n; i++) {
        pod *p = next_pod();
        start(p);
        while (!p->reaped)
            wh_loop_once(r.loop, WH_SEC);
        took[i] = p->first - p->asked;
    }
    qsort(took, (size_t)n, sizeof(took[0]), by_time);
    *ret_p50 = (double)took[n / 2] / 1e6;
    *ret_p99 = (double)took[n * 99 / 100] / 1e6;
}

static double rate(int n)
{
    int first = r.begun, before = r.finished;
    wh_time begin = wh_mono_now();
    while (r.finished - before < n) {
        while (r.begun - first < n && r.begun - first - (r.finished - before) < AT_ONCE)
            start(next_pod());
        wh_loop_once(r.loop, WH_SEC);
    }
    return n / ((double)(wh_mono_now() - begin) / 1e9);
}

/* ------------------------------------------------------------------ the peer */

static const char bundle_config[] =
    "{\"ociVersion\":\"1.0.2\",\"process\":{\"terminal\":false,\"user\":{\"uid\":65534,\"gid\":65534},"
    "\"args\":[\"/hello\"],\"env\":[],\"cwd\":\"/\",\"noNewPrivileges\":true,\"capabilities\":{}},"
    "\"root\":{\"path\":\"rootfs\",\"readonly\":true},\"hostname\":\"x\","
    "\"mounts\":[{\"destination\":\"/proc\",\"type\":\"proc\",\"source\":\"proc\"}],"
    "\"linux\":{\"cgroupsPath\":\"/wherry-bench-runc/%d\",\"resources\":{\"memory\":{\"limit\":67108864},"
    "\"cpu\":{\"shares\":102},\"pids\":{\"limit\":64}},"
    "\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"ipc\"},{\"type\":\"mount\"},"
    "{\"type\":\"network\"},{\"type\":\"uts\"}]}}";

static pid_t spawn_runc(const char *bench_dir, int i)
{
    auto_free char *state = wh_xasprintf("%s/runc", r.dir), *bundle = wh_xasprintf("%s/bundle%d", r.dir, i);
    auto_free char *rootfs = wh_xasprintf("%s/rootfs", bundle), *hello = wh_xasprintf("%s/hello", rootfs);
    auto_free char *config = wh_xasprintf("%s/config.json", bundle), *text = wh_xasprintf(bundle_config, i);
    auto_free char *program = wh_xasprintf("%s/hello_program", bench_dir),
                   *id = wh_xasprintf("wherry-bench-%d", i);
    auto_free char *proc = wh_xasprintf("%s/proc", rootfs);
    char *argv[] = {
        (char[]){"runc"}, (char[]){"--root"}, state, (char[]){"run"}, (char[]){"-b"}, bundle, id, NULL};
    posix_spawn_file_actions_t actions;
    wh_err err = {0};
    pid_t pid;
    if (access(config, F_OK) < 0) {
        auto_free char *elf = NULL;
        size_t n;
        if (wh_mkdir_p(proc, 0755, &err) < 0 ||
            wh_read_file(AT_FDCWD, program, 64 << 20, &elf, &n, &err) < 0 ||
            wh_write_file(AT_FDCWD, hello, elf, n, 0755, &err) < 0 ||
            wh_write_file(AT_FDCWD, config, text, strlen(text), 0644, &err) < 0)
            die("runc's bundle", &err);
    }
    posix_spawn_file_actions_init(&actions);
    for (int fd = 0; fd < 2; fd++)
        posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
    int rc = posix_spawnp(&pid, "runc", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return rc == 0 ? pid : -1;
}

/* One at a time for the latency, two for the rate: its best on two cores. False without runc. */
static bool runc(const char *bench_dir, int n, double *ret_p50_ms, double *ret_rate)
{
    static wh_time took[PODS_MAX];
    int status, running = 0, begun = 0;
    for (int i = 0; i < n; i++) {
        wh_time begin = wh_mono_now();
        pid_t pid = spawn_runc(bench_dir, i);
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
            return false;
        took[i] = wh_mono_now() - begin;
    }
    qsort(took, (size_t)n, sizeof(took[0]), by_time);
    *ret_p50_ms = (double)took[n / 2] / 1e6;
    wh_time begin = wh_mono_now();
    for (int done = 0; done < n; done++) {
        for (; running < 2 && begun < n; running++)
            (void)spawn_runc(bench_dir, begun++);
        if (wait(&status) < 0)
            return false;
        running--;
    }
    *ret_rate = n / ((double)(wh_mono_now() - begin) / 1e9);
    for (const char *h[] = {"memory", "cpu", "cpuacct", "pids", "blkio", "freezer", "devices", "cpuset",
                            "systemd", "unified", NULL},
                    **p = h;
         *p != NULL; p++) {
        auto_free char *group = wh_xasprintf("/sys/fs/cgroup/%s/wherry-bench-runc", *p);
        (void)rmdir(group);
    }
    return true;
}

/* The groups above the pods'. */
static void remove_parents(void)
{
    wh_cgroup *g;
    if (wh_cgroup_make(r.cgroups, "last", &(wh_cgroup_limits){0}, &g, NULL) < 0)
        return;
    (void)wh_cgroup_remove(g, NULL);
    for (char *const *p = wh_cgroup_procs(g); *p != NULL; p++) {
        auto_free char *dir = wh_xstrdup(*p);
        for (int up = 0; up < 2; up++)
            *strrchr(dir, '/') = '\0';
        (void)rmdir(dir);
    }
    wh_cgroup_free(g);
}

static void stop_keeper(void)
{
    auto_free char *lock = wh_xasprintf("%s/keeper.lock", r.dir), *text = NULL;
    wh_keeper_free(r.keeper);
    if (wh_read_file(AT_FDCWD, lock, 32, &text, NULL, NULL) == 0)
        (void)kill((pid_t)atoi(text), SIGTERM);
}

int main(int argc, char **argv)
{
    const char *bench_dir = getenv("BENCH_DIR");
    const wh_keeper_callbacks callbacks = {on_event, on_lost, NULL};
    double p50, p99, per_second, runc_p50 = 0, runc_rate = 0;
    wh_err err = {0};
    if (bench_dir == NULL || getuid() != 0) {
        fprintf(stderr, "pod-start: needs root and BENCH_DIR (start it by bench/run)\n");
        return 77;
    }
    auto_free char *keeper = wh_xasprintf("%s/../src/keeper/wherry-keeper", bench_dir);
    auto_free char *runner = wh_xasprintf("%s/../src/runner/wherry-runner", bench_dir);
    auto_free char *code = wh_xasprintf("%s/once.cwasm", bench_dir);
    r.runner = runner;
    r.code = code;
    /* State lies in memory, as /run does. */
    (void)snprintf(r.dir, sizeof(r.dir), "%s/wherry-bench-XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (mkdtemp(r.dir) == NULL || wh_loop_new(&r.loop, &err) < 0 ||
        wh_cgroups_open(NULL, "wherry-bench", &r.cgroups, &err) < 0 ||
        wh_keeper_connect(r.loop, r.dir, keeper, &callbacks, &r.keeper, &err) < 0)
        die("set-up", &err);
    latency(20, &p50, &p99); /* warm: the image is cached */
    latency(bench_rounds(argc, argv, 1000), &p50, &p99);
    per_second = rate(bench_rounds(argc, argv, 2000));
    bool peer = runc(bench_dir, bench_rounds(argc, argv, 60), &runc_p50, &runc_rate);
    bench_report("pod_start_p50_ms", p50, "ms", peer ? "runc, static C" : NULL, runc_p50, 2);
    bench_report("pod_start_p99_ms", p99, "ms", NULL, 0, 10);
    bench_report("pod_starts_per_s", per_second, "1/s", peer ? "runc, static C" : NULL, runc_rate, 400);
    stop_keeper();
    remove_parents();
    wh_loop_free(r.loop);
    wh_cgroups_free(r.cgroups);
    (void)wh_rm_rf(AT_FDCWD, r.dir, NULL);
    if (r.failed)
        fprintf(stderr, "pod-start: a guest failed\n");
    return r.failed ? 1 : 0;
}
