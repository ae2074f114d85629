/* SPDX-License-Identifier: Apache-2.0 */
/* Children by clone(CLONE_VM | CLONE_VFORK | CLONE_PIDFD) on a stack of their own: no page table is copied,
 * and until its exec the child shares our memory, by which it says why that failed. So what runs in the child
 * touches nothing but its arguments, and makes system calls only. */
#include "loop/loop.h"

#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define STACK_BYTES ((size_t)64 * 1024)

typedef struct birth {
    const wh_spawn *spawn;
    const char *path;
    char *const *env;
    int *fds; /* the child's working copy */
    pid_t parent;
    int error; /* positive errno of the child, and what it was doing */
    const char *doing;
} birth;

/* Handlers are code of ours, which the child must not run; ignored signals would stay ignored over exec. */
static void child_reset_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    for (int signo = 1; signo < NSIG; signo++)
        (void)sigaction(signo, &action, NULL); /* EINVAL for those that cannot be caught */
}

/* Places descriptors in two steps, so that none is overwritten before it was copied. */
static int child_place_fds(const birth *b)
{
    int n = (int)b->spawn->n_fds;
    for (int i = 0; i < n; i++) {
        int fd = b->spawn->fds[i] < 0 ? open("/dev/null", O_RDWR | O_CLOEXEC) : b->spawn->fds[i];
        b->fds[i] = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, n);
        if (b->fds[i] < 0)
            return -1;
    }
    for (int i = 0; i < n; i++) {
        if (dup2(b->fds[i], i) < 0)
            return -1;
    }
    return 0;
}

/* close_range(2) is younger (5.9) than what we support. The buffer is small because the stack is. */
static int child_close_from(int first)
{
    if (close_range((unsigned)first, UINT_MAX, 0) == 0)
        return 0;
    if (errno != ENOSYS)
        return -1;
    int dir = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return -1;
    bool found = true;
    while (found) {
        _Alignas(struct dirent64) char buffer[2048];
        found = false;
        if (lseek(dir, 0, SEEK_SET) < 0)
            return -1;
        ssize_t n;
        while ((n = getdents64(dir, buffer, sizeof(buffer))) > 0) {
            for (ssize_t at = 0; at < n;) {
                const struct dirent64 *entry = (const void *)(buffer + at);
                at += entry->d_reclen;
                int fd = 0;
                const char *p = entry->d_name;
                while (*p >= '0' && *p <= '9')
                    fd = fd * 10 + (*p++ - '0');
                if (p == entry->d_name || fd < first || fd == dir)
                    continue;
                found |= close(fd) == 0;
            }
        }
    }
    close(dir);
    return 0;
}

static int child_prepare(birth *b)
{
    const wh_spawn *s = b->spawn;
    b->doing = "start a session for";
    if (s->new_session && setsid() < 0)
        return -1;
    b->doing = "bind to our life";
    if (s->death_signal != 0) {
        if (prctl(PR_SET_PDEATHSIG, s->death_signal, 0, 0, 0) < 0)
            return -1;
        if (getppid() != b->parent) { /* it ended before the line above */
            errno = ESRCH;
            return -1;
        }
    }
    b->doing = "hand descriptors to";
    if (child_place_fds(b) < 0 || child_close_from((int)s->n_fds) < 0)
        return -1;
    b->doing = "start";
    child_reset_signals();
    sigset_t none;
    (void)sigemptyset(&none);
    return sigprocmask(SIG_SETMASK, &none, NULL);
}

static int child_main(void *arg)
{
    birth *b = arg;
    if (child_prepare(b) == 0)
        (void)execve(b->path, b->spawn->argv, b->env);
    b->error = errno;
    _exit(127);
}

/* Where PATH leads; as execvp does, but before there is a child. */
static int find_program(const char *name, char out[PATH_MAX])
{
    const char *dirs = getenv("PATH");
    int code = -ENOENT;
    if (strchr(name, '/') != NULL || *name == '\0') {
        if (strlen(name) >= PATH_MAX)
            return -ENAMETOOLONG;
        memcpy(out, name, strlen(name) + 1);
        return *name == '\0' ? -ENOENT : 0;
    }
    wh_str rest = wh_str_of(dirs == NULL ? "/usr/local/bin:/usr/bin:/bin" : dirs), dir;
    while (wh_str_split(&rest, ':', &dir)) {
        struct stat st;
        auto_free char *head = wh_xstrndup(dir.n == 0 ? "." : dir.p, dir.n == 0 ? 1 : dir.n);
        auto_free char *full = wh_path_join(head, name);
        if (strlen(full) >= PATH_MAX || stat(full, &st) < 0 || !S_ISREG(st.st_mode))
            continue;
        if (faccessat(AT_FDCWD, full, X_OK, AT_EACCESS) < 0) {
            code = -EACCES;
            continue;
        }
        memcpy(out, full, strlen(full) + 1);
        return 0;
    }
    return code;
}

static void reap(pid_t pid)
{
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

/* Blocks every signal around the clone: a handler in the child would run in our memory. */
static int give_birth(birth *b, pid_t *ret_pid, int *ret_pidfd)
{
    void *stack =
        mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED)
        return -errno;
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int pidfd = -1;
    int flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD;
    pid_t pid = clone(child_main, (char *)stack + STACK_BYTES, flags, b, &pidfd);
    int code = pid < 0 ? -errno : -b->error;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)munmap(stack, STACK_BYTES);
    if (pid < 0)
        return code;
    if (code == 0 && pidfd < 0) { /* a kernel, or a sandbox, without CLONE_PIDFD */
        pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        if (pidfd < 0) {
            code = -errno;
            (void)kill(pid, SIGKILL);
        }
    }
    if (code < 0) {
        reap(pid);
        if (pidfd >= 0)
            close(pidfd);
        return code;
    }
    *ret_pid = pid;
    *ret_pidfd = pidfd;
    return 0;
}

static void on_exit_of_child(wh_io *io, uint32_t ready)
{
    (void)ready;
    wh_child *child = io->user;
    siginfo_t info = {0};
    if (waitid(P_PIDFD, (id_t)child->pidfd, &info, WEXITED | WNOHANG) < 0) {
        if (errno == EINTR)
            return;
        info.si_code = CLD_EXITED; /* somebody else reaped it: its end is certain, its code lost */
        info.si_status = 255;
    } else if (info.si_pid == 0) {
        return;
    }
    wh_io_stop(io);
    child->fn(child, info.si_code, info.si_status);
}

int wh_child_start(wh_loop *loop, wh_child *child, const wh_spawn *spawn,
                   void (*fn)(wh_child *, int code, int status), void *user, wh_err *err)
{
    char path[PATH_MAX];
    wh_assert(child->io.loop == NULL);
    wh_assert(spawn->argv != NULL);
    int rc = find_program(spawn->path, path);
    if (rc < 0)
        return wh_fail(err, rc, "start '%s'", spawn->path);
    auto_free int *fds = wh_xcalloc(spawn->n_fds, sizeof(int));
    birth b = {
        .spawn = spawn,
        .path = path,
        .env = spawn->env != NULL ? spawn->env : environ,
        .fds = fds,
        .parent = getpid(),
        .doing = "start",
    };
    pid_t pid = -1;
    auto_close int pidfd = -1;
    rc = give_birth(&b, &pid, &pidfd);
    if (rc < 0)
        return wh_fail(err, rc, "%s '%s'", b.doing, path);
    *child = (wh_child){.pidfd = pidfd, .pid = pid, .fn = fn, .user = user};
    rc = wh_io_start(loop, &child->io, pidfd, EPOLLIN, on_exit_of_child, child);
    if (rc < 0) {
        (void)kill(pid, SIGKILL);
        reap(pid);
        *child = (wh_child){.pidfd = -1};
        return wh_fail(err, rc, "watch '%s'", path);
    }
    (void)WH_TAKE_FD(pidfd);
    return 0;
}

int wh_child_kill(wh_child *child, int signo)
{
    if (child->pid == 0)
        return -ESRCH;
    return syscall(SYS_pidfd_send_signal, child->pidfd, signo, NULL, 0) < 0 ? -errno : 0;
}

void wh_child_done(wh_child *child)
{
    if (child == NULL || child->pid == 0)
        return;
    wh_io_stop(&child->io);
    close(child->pidfd);
    *child = (wh_child){.pidfd = -1};
}
