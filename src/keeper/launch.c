/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/launch.h"

#include "base/file.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE (1U << 1)
#endif
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif
#define SECUREBITS                                                                                    \
    (SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED | \
     SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED)
#define KEEPER_NICE (-10)
#define STACK_BYTES (64UL * 1024)
#define FDS_MAX 256
#define WINDOW_FDS 160 /* a runner's, its program and the empty root */
#define WINDOW_END 1024

/* ------------------------------------------------------------------ once, when the keeper starts */

static int write_text(const char *path, const char *text)
{
    auto_close int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd < 0 ? -errno : wh_write_all(fd, text, strlen(text));
}

/* Root inside is us outside, and nobody else exists. */
static int enter_user_ns(uid_t uid, gid_t gid)
{
    char map[64];
    if (unshare(CLONE_NEWUSER) < 0)
        return -errno;
    (void)snprintf(map, sizeof(map), "0 %u 1\n", uid);
    int rc = write_text("/proc/self/uid_map", map);
    if (rc == 0)
        rc = write_text("/proc/self/setgroups", "deny");
    (void)snprintf(map, sizeof(map), "0 %u 1\n", gid);
    return rc < 0 ? rc : write_text("/proc/self/gid_map", map);
}

/* Runs in a process of its own, whose mount namespace the keeper takes a descriptor of. */
static int make_empty_root(void)
{
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("wherry", "/proc", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,nr_inodes=2,mode=555") <
            0 ||
        chdir("/proc") < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 ||
        mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        return -errno;
    return 0;
}

static int open_empty_root(int *ret, wh_err *err)
{
    int ready[2];
    if (pipe2(ready, O_CLOEXEC) < 0)
        return wh_fail(err, -errno, "make the empty root");
    pid_t pid = fork();
    if (pid == 0) {
        int rc = make_empty_root();
        (void)!write(ready[1], &rc, sizeof(rc));
        for (;;)
            pause();
    }
    int rc = pid < 0 ? -errno : -EIO;
    auto_close int ns = -1;
    if (pid > 0 && read(ready[0], &rc, sizeof(rc)) == sizeof(rc) && rc == 0) {
        char path[64];
        (void)snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)pid);
        ns = open(path, O_RDONLY | O_CLOEXEC);
        rc = ns < 0 ? -errno : 0;
    }
    if (pid > 0) {
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
    }
    close(ready[0]);
    close(ready[1]);
    if (rc < 0)
        return wh_fail(err, rc, "make the empty root");
    *ret = WH_TAKE_FD(ns);
    return 0;
}

/* Children begin with an empty bounding set, at no cost for each. We keep our own rights, also over an exec
 * of the keeper's next version: as inheritable ones, which a child gives up. */
static int drop_bounding_set(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[2];
    if (syscall(SYS_capget, &head, caps) < 0)
        return -errno;
    caps[0].inheritable = caps[0].permitted;
    caps[1].inheritable = caps[1].permitted;
    if (syscall(SYS_capset, &head, caps) < 0)
        return -errno;
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            return -errno;
    }
    return 0;
}

int wh_jail_init(wh_jail *jail, wh_err *err)
{
    *jail = (wh_jail){.outer_uid = getuid(), .mount_ns = -1};
    /* A pod that shall start does not wait behind those that run. */
    errno = 0;
    if (getpriority(PRIO_PROCESS, 0) == 0 && errno == 0)
        jail->raised = setpriority(PRIO_PROCESS, 0, KEEPER_NICE) == 0;
    auto_free char *adj = NULL;
    if (wh_read_file(AT_FDCWD, "/proc/self/oom_score_adj", 32, &adj, NULL, NULL) == 0)
        jail->oom_score_adj = (int)strtol(adj, NULL, 10);
    gid_t gid = getgid();
    if (unshare(CLONE_NEWNET) < 0) {
        if (enter_user_ns(jail->outer_uid, gid) < 0)
            return 0;
        jail->user_ns = true;
        if (unshare(CLONE_NEWNET) < 0)
            return 0;
    }
    if (open_empty_root(&jail->mount_ns, err) < 0)
        return 0;
    int rc = drop_bounding_set();
    if (rc < 0)
        return wh_fail(err, rc, "drop the bounding set");
    jail->namespaces = true;
    return 0;
}

/* ------------------------------------------------------------------ for each runner */

/* Low numbers that are kept free. A keeper of many dormant containers has tens of thousands of descriptors, and to copy
 * and close them all costs each start milliseconds; so what a child needs is put below all others, and it takes along
 * nothing but what lies there. */
static struct window {
    int numbers[WINDOW_FDS];
    int null, end; /* end 0: none; what lies there or above stays behind */
    bool tried;
} window;

static void reserve_window(void)
{
    window.tried = true;
    window.null = open("/dev/null", O_PATH | O_CLOEXEC);
    int end = 0;
    for (size_t i = 0; i < WINDOW_FDS && window.null >= 0; i++) {
        window.numbers[i] = fcntl(window.null, F_DUPFD_CLOEXEC, 3);
        if (window.numbers[i] < 0 || window.numbers[i] >= WINDOW_END)
            return; /* full already: children copy all */
        end = WH_MAX(end, window.numbers[i] + 1);
    }
    window.end = window.null < 0 ? 0 : end;
}

/* Moves the child's descriptors there; how many. */
static size_t fill_window(int *fds, size_t n, int *exec_fd, int *mount_ns)
{
    if (!window.tried)
        reserve_window();
    if (window.end == 0 || n + 2 > WINDOW_FDS)
        return 0;
    for (size_t i = 0; i < n + 2; i++) {
        int *fd = i < n ? &fds[i] : i == n ? exec_fd : mount_ns;
        if (*fd >= 0 && dup3(*fd, window.numbers[i], O_CLOEXEC) >= 0)
            *fd = window.numbers[i];
    }
    return n + 2;
}

static void empty_window(size_t n)
{
    for (size_t i = 0; i < n; i++)
        (void)dup3(window.null, window.numbers[i], O_CLOEXEC);
}

typedef struct child {
    const wh_jail *jail;
    const wh_launch *launch;
    int fds[FDS_MAX];
    int stay_behind;       /* descriptors from here on are not ours to take along; 0: all come */
    int exec_fd, mount_ns; /* our own: moved out of the way of the numbers that the runner gets */
    const char *step;      /* what failed, told through the shared memory */
    int error;
} child;

/* Runs on the keeper's memory while that stands still: system calls only. */
static int set_ids(const child *c)
{
    const wh_launch *l = c->launch;
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct none[2] = {{0}};
    if (c->jail->namespaces && prctl(PR_SET_SECUREBITS, SECUREBITS, 0, 0, 0) < 0)
        return -errno;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    if (l->uid != c->jail->outer_uid || (!c->jail->user_ns && l->uid == 0 && l->n_groups > 0)) {
        if (syscall(SYS_setgroups, l->n_groups, l->groups) < 0 ||
            syscall(SYS_setresgid, l->gid, l->gid, l->gid) < 0 ||
            syscall(SYS_setresuid, l->uid, l->uid, l->uid) < 0)
            return -errno;
    }
    return syscall(SYS_capset, &head, none) < 0 ? -errno : 0;
}

static int set_limits(const wh_launch *l)
{
    struct rlimit data = {l->rlimit_data, l->rlimit_data}, files = {l->nofile, l->nofile};
    if (l->rlimit_data > 0 && setrlimit(RLIMIT_DATA, &data) < 0)
        return -errno;
    if (l->nofile > 0 && setrlimit(RLIMIT_NOFILE, &files) < 0)
        return -errno;
    return 0;
}

static int write_once(const char *path, const char *text, size_t n)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = write(fd, text, n) < 0 ? -errno : 0;
    close(fd);
    return rc;
}

static int set_oom_score(const child *c)
{
    char text[16];
    size_t at = sizeof(text);
    int adj = c->launch->oom_score_adj;
    unsigned v = adj < 0 ? 0U - (unsigned)adj : (unsigned)adj;
    if (adj == c->jail->oom_score_adj)
        return 0;
    do {
        text[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    if (adj < 0)
        text[--at] = '-';
    int rc = write_once("/proc/self/oom_score_adj", text + at, sizeof(text) - at);
    return rc == -EACCES ? 0 : rc; /* below our own value, without the right to: the kernel's limit for us */
}

static int join_cgroups(const wh_launch *l)
{
    for (char *const *p = l->cgroup_procs; p != NULL && *p != NULL; p++) {
        int rc = write_once(*p, "0", 1);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Descriptors to 0 .. n-1: first those out of the way that lie there. */
static int place_fds(child *c)
{
    int n = (int)c->launch->n_fds;
    for (int i = 0; i < n; i++) {
        if (c->fds[i] < n && c->fds[i] != i && (c->fds[i] = fcntl(c->fds[i], F_DUPFD_CLOEXEC, n)) < 0)
            return -errno;
    }
    if (c->exec_fd < n && (c->exec_fd = fcntl(c->exec_fd, F_DUPFD_CLOEXEC, n)) < 0)
        return -errno;
    if (c->mount_ns >= 0 && c->mount_ns < n && (c->mount_ns = fcntl(c->mount_ns, F_DUPFD_CLOEXEC, n)) < 0)
        return -errno;
    for (int i = 0; i < n; i++) {
        int rc = c->fds[i] == i ? fcntl(i, F_SETFD, 0) : dup3(c->fds[i], i, 0);
        if (rc < 0)
            return -errno;
    }
    return syscall(SYS_close_range, n, ~0U, CLOSE_RANGE_CLOEXEC) < 0 ? -errno : 0;
}

static int become_runner(child *c, const char **ret_step)
{
    const wh_launch *l = c->launch;
    *ret_step = "leave the keeper's descriptors";
    if (c->stay_behind > 0 && syscall(SYS_close_range, c->stay_behind, ~0U, CLOSE_RANGE_UNSHARE) < 0 &&
        unshare(CLONE_FILES) < 0)
        return -errno;
    *ret_step = "join its control groups";
    int rc = join_cgroups(l);
    if (rc < 0)
        return rc;
    *ret_step = "set its OOM score";
    if ((rc = set_oom_score(c)) < 0)
        return rc;
    *ret_step = "place its descriptors";
    if ((rc = place_fds(c)) < 0)
        return rc;
    *ret_step = "enter the empty root";
    if (l->namespaces && c->jail->namespaces && setns(c->mount_ns, CLONE_NEWNS) < 0)
        return -errno;
    *ret_step = "set its limits";
    if ((rc = set_limits(l)) < 0)
        return rc;
    *ret_step = "set its ids";
    if ((rc = set_ids(c)) < 0)
        return rc;
    (void)setsid();
    if (c->jail->raised)
        (void)setpriority(PRIO_PROCESS, 0, 0);
    char name[] = "wherry-runner";
    char *argv[] = {name, NULL}, *env[] = {NULL};
    *ret_step = "execute its program";
    (void)syscall(SYS_execveat, c->exec_fd, "", argv, env, AT_EMPTY_PATH);
    return -errno;
}

static int child_main(void *arg)
{
    child *c = arg;
    const char *step = "start";
    c->error = become_runner(c, &step);
    c->step = step;
    _exit(127);
}

int wh_launch_run(const wh_jail *jail, const wh_launch *launch, pid_t *ret_pid, int *ret_pidfd, wh_err *err)
{
    static char stack[STACK_BYTES] __attribute__((aligned(16)));
    child c = {.jail = jail, .launch = launch, .exec_fd = launch->exec_fd, .mount_ns = jail->mount_ns};
    int pidfd = -1;
    wh_assert(launch->n_fds <= FDS_MAX);
    if (jail->user_ns && launch->uid != jail->outer_uid)
        return wh_fail(err, -EPERM,
                       "user %u was asked for, but a keeper without privileges has its own only (%u).",
                       launch->uid, jail->outer_uid);
    memcpy(c.fds, launch->fds, launch->n_fds * sizeof(int));
    /* vfork semantics on a stack of its own: no page is copied, and a failing step is known here at once. */
    int flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD;
    size_t moved = fill_window(c.fds, launch->n_fds, &c.exec_fd, &c.mount_ns);
    if (moved > 0) {
        c.stay_behind = window.end;
        flags |= CLONE_FILES;
    }
    if (launch->namespaces && jail->namespaces)
        flags |= CLONE_NEWPID | CLONE_NEWIPC;
    pid_t pid = clone(child_main, stack + sizeof(stack), flags, &c, &pidfd);
    int error = errno;
    empty_window(moved);
    if (pid < 0)
        return wh_fail(err, -error, "make a process");
    if (c.error < 0) {
        siginfo_t info;
        (void)waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED);
        close(pidfd);
        return wh_fail(err, c.error, "the new process could not %s", c.step);
    }
    *ret_pid = pid;
    *ret_pidfd = pidfd;
    return 0;
}
