/* SPDX-License-Identifier: Apache-2.0 */
/* Makes the runner's filters at build time, as C arrays: libseccomp needs 160 microseconds for each at
 * run time. Anything that this table does not name kills the process. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
/* Filters stack and the stricter answer wins. So the one of phase A lists all that is ever allowed, and that of phase B
 * only takes away what was for loading: half the instructions, which the kernel compiles anew for each
 * process. */
#define LOAD 1       /* phase A only: until the guest begins */
#define BOTH 2       /* phase A and B */
#define LESS 4       /* phase B: taken away under a condition */
#define SERVE 8      /* phase A; and B of what serves HTTP, and of components */
#define COMPONENT 16 /* only in the runner of components, there in both phases */
#define FILES \
    32 /* the same, and in phase B only for a guest with directories; elsewhere answered with `error` */

typedef enum {
    LOAD_CORE,
    GUEST_COMMAND,
    GUEST_SERVE,
    LOAD_COMPONENT,
    GUEST_COMPONENT,
    GUEST_FILES, /* a component with directories */
} filter;

typedef struct rule {
    const char *name;
    unsigned phases;
    int error; /* 0: allowed; KILL; else answered with this errno */
    unsigned n_args;
    struct scmp_arg_cmp args[2];
} rule;

#define KILL -1
#define THREAD_FLAGS                                                                                   \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS | \
     CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)
#define ALLOW(name, phases) \
    {                       \
        name, phases, 0, 0, \
        {                   \
            {               \
                0           \
            }               \
        }                   \
    }
#define REFUSE(name, phases, error) \
    {                               \
        name, phases, error, 0,     \
        {                           \
            {                       \
                0                   \
            }                       \
        }                           \
    }
#define ALLOW_IF(name, phases, ...) \
    {                               \
        name, phases, 0, 1,         \
        {                           \
            __VA_ARGS__             \
        }                           \
    }
#define ALLOW_IF2(name, phases, ...) \
    {                                \
        name, phases, 0, 2,          \
        {                            \
            __VA_ARGS__              \
        }                            \
    }
#define IS(arg, value)                 \
    {                                  \
        (arg), SCMP_CMP_EQ, (value), 0 \
    }
#define LACKS(arg, bit)                     \
    {                                       \
        (arg), SCMP_CMP_MASKED_EQ, (bit), 0 \
    }
#define HAS(arg, bit)                           \
    {                                           \
        (arg), SCMP_CMP_MASKED_EQ, (bit), (bit) \
    }
#define IS_NOT(arg, value)             \
    {                                  \
        (arg), SCMP_CMP_NE, (value), 0 \
    }
#define KILL_IF(name, ...)   \
    {                        \
        name, LESS, KILL, 1, \
        {                    \
            __VA_ARGS__      \
        }                    \
    }

static const rule rules[] = {
    /* Memory. A guest's runner never makes memory executable. */
    ALLOW("brk", BOTH),
    ALLOW("madvise", BOTH),
    ALLOW("mremap", BOTH),
    ALLOW("munmap", BOTH),
    ALLOW("mmap", BOTH),
    ALLOW("mprotect", BOTH),
    KILL_IF("mmap", HAS(2, PROT_EXEC)),
    KILL_IF("mprotect", HAS(2, PROT_EXEC)),

    /* Descriptors that are there. */
    ALLOW("close", BOTH),
    ALLOW("fstat", BOTH),
    ALLOW("lseek", BOTH),
    ALLOW("newfstatat", BOTH),
    ALLOW("pread64", BOTH),
    ALLOW("preadv", BOTH),
    ALLOW("pwrite64", BOTH),
    ALLOW("pwritev", BOTH),
    ALLOW("pwritev2", BOTH),
    ALLOW("preadv2", BOTH),
    ALLOW("read", BOTH),
    ALLOW("readv", BOTH),
    ALLOW("statx", BOTH),
    ALLOW("write", BOTH),
    ALLOW("writev", BOTH),
    ALLOW("epoll_ctl", BOTH),
    ALLOW("epoll_pwait", BOTH),
    ALLOW("epoll_pwait2", BOTH),
    ALLOW("epoll_wait", BOTH),
    ALLOW("poll", BOTH),
    ALLOW("ppoll", BOTH),
    ALLOW("recvmsg", BOTH), /* the control socket */
    ALLOW_IF("fcntl", BOTH, IS(1, F_GETFL)),
    ALLOW_IF("fcntl", BOTH, IS(1, F_SETFL)),
    ALLOW_IF("fcntl", BOTH, IS(1, F_GETFD)),
    ALLOW_IF("fcntl", BOTH, IS(1, F_DUPFD_CLOEXEC)),
    ALLOW_IF("ioctl", BOTH, IS(1, TCGETS)),
    ALLOW_IF("ioctl", BOTH, IS(1, FIONREAD)),

    /* Files below the guest's directories: Landlock and RESOLVE_BENEATH say which. */
    ALLOW("copy_file_range", BOTH),
    ALLOW("fadvise64", BOTH),
    ALLOW("fallocate", BOTH),
    ALLOW("fdatasync", BOTH),
    ALLOW("fsync", BOTH),
    ALLOW("ftruncate", BOTH),
    ALLOW("getdents64", BOTH),
    ALLOW("linkat", BOTH),
    ALLOW("mkdirat", BOTH),
    ALLOW("openat2", BOTH),
    ALLOW("readlinkat", BOTH),
    ALLOW("renameat", BOTH),
    ALLOW("renameat2", BOTH),
    ALLOW("symlinkat", BOTH),
    ALLOW("unlinkat", BOTH),
    ALLOW("utimensat", BOTH),

    /* Sockets that were handed over, connected or listening. Never a new peer: no connect, no addressed
     * sendto. */
    ALLOW("accept4", BOTH),
    ALLOW("getpeername", BOTH),
    ALLOW("getsockname", BOTH),
    ALLOW("getsockopt", BOTH),
    ALLOW("recvfrom", BOTH),
    ALLOW("shutdown", BOTH),
    ALLOW_IF2("sendto", BOTH, IS(4, 0), LACKS(3, MSG_FASTOPEN)),

    /* Of accepted connections, and of those that netd made. */
    ALLOW_IF2("setsockopt", SERVE, IS(1, IPPROTO_TCP), IS(2, TCP_NODELAY)),
    ALLOW_IF2("setsockopt", SERVE, IS(1, SOL_SOCKET), IS(2, SO_KEEPALIVE)),
    ALLOW_IF2("setsockopt", COMPONENT, IS(1, SOL_SOCKET), IS(2, SO_RCVBUF)),
    ALLOW_IF2("setsockopt", COMPONENT, IS(1, SOL_SOCKET), IS(2, SO_SNDBUF)),
    ALLOW_IF2("setsockopt", COMPONENT, IS(1, IPPROTO_TCP), IS(2, TCP_KEEPIDLE)),
    ALLOW_IF2("setsockopt", COMPONENT, IS(1, IPPROTO_TCP), IS(2, TCP_KEEPINTVL)),
    ALLOW_IF2("setsockopt", COMPONENT, IS(1, IPPROTO_TCP), IS(2, TCP_KEEPCNT)),

    /* Threads: those of requests, the clock of deadlines, the engine's for components. Flags exactly as glibc has them,
     * which comes here because clone3 is answered with ENOSYS. */
    ALLOW_IF("clone", SERVE, IS(0, THREAD_FLAGS)),
    ALLOW("rseq", SERVE),
    ALLOW("set_robust_list", SERVE),
    ALLOW_IF("tgkill", SERVE, IS(2, SIGUSR2)), /* ends a guest's wait */

    /* A component's directories are reopened by path for each instance, below Landlock. */
    ALLOW("fchdir", COMPONENT),
    REFUSE("openat", FILES, EPERM),

    /* Time, signals, waiting, the end. */
    ALLOW("clock_getres", BOTH),
    ALLOW("clock_gettime", BOTH),
    ALLOW("clock_nanosleep", BOTH),
    ALLOW("exit", BOTH),
    ALLOW("exit_group", BOTH),
    ALLOW("futex", BOTH),
    ALLOW("getpid", BOTH),
    ALLOW("getrandom", BOTH),
    ALLOW("gettid", BOTH),
    ALLOW("nanosleep", BOTH),
    ALLOW("restart_syscall", BOTH),
    ALLOW("rt_sigprocmask", BOTH),
    ALLOW("rt_sigreturn", BOTH),
    ALLOW("sched_yield", BOTH),
    ALLOW("sigaltstack", BOTH),
    ALLOW("sysinfo", BOTH),             /* qsort() asks how much memory there is; OpenSSL sorts */
    ALLOW_IF("tgkill", BOTH, IS(2, 6)), /* abort() */
    ALLOW("prctl", BOTH),
    KILL_IF("prctl", IS_NOT(0, PR_SET_NAME)),

    /* Only while loading: the locks themselves, handlers, the deadline, the guest's stop descriptor. */
    ALLOW("landlock_add_rule", LOAD),
    ALLOW("landlock_create_ruleset", LOAD),
    ALLOW("landlock_restrict_self", LOAD),
    ALLOW("pipe2", LOAD),
    ALLOW("epoll_create1", BOTH),
    ALLOW("eventfd2", LOAD),
    ALLOW("prlimit64", LOAD),
    ALLOW("rt_sigaction", LOAD),
    ALLOW("sched_getaffinity", LOAD),
    ALLOW("seccomp", LOAD),
    ALLOW("setitimer", BOTH),
    ALLOW("dup3", LOAD),

    /* Libraries probe with these and take no for an answer. */
    REFUSE("clone3", BOTH, ENOSYS),
    REFUSE("open", BOTH, EPERM),
    REFUSE("socket", BOTH, EPERM),
    REFUSE("memfd_create", BOTH, EPERM),
    REFUSE("readlink", BOTH, EPERM),
};

static void die(const char *what, int rc)
{
    fprintf(stderr, "seccomp_gen: %s: %s\n", what, strerror(rc < 0 ? -rc : rc));
    exit(1);
}

static uint32_t action_of(int error)
{
    return error == KILL ? SCMP_ACT_KILL_PROCESS
           : error == 0  ? SCMP_ACT_ALLOW
                         : SCMP_ACT_ERRNO((unsigned)error);
}

static void add(scmp_filter_ctx ctx, const rule *r, int error)
{
    int nr = seccomp_syscall_resolve_name(r->name);
    if (nr == __NR_SCMP_ERROR)
        die(r->name, ENOSYS);
    if (nr < 0) /* not on this architecture */
        return;
    int rc = seccomp_rule_add_array(ctx, action_of(error), nr, r->n_args, r->args);
    if (rc < 0)
        die(r->name, rc);
}

/* mseal, which libseccomp 2.5 does not know by name; its number is the same everywhere. */
static void add_mseal(scmp_filter_ctx ctx, int error)
{
    int rc = seccomp_rule_add_array(ctx, action_of(error), 462, 0, NULL);
    if (rc < 0)
        die("mseal", rc);
}

static void add_to_load(scmp_filter_ctx ctx, const rule *r, filter which)
{
    if (r->phases == FILES)
        add(ctx, r, which == LOAD_COMPONENT ? 0 : r->error);
    else if (r->phases != LESS && (r->phases != COMPONENT || which == LOAD_COMPONENT))
        add(ctx, r, r->error);
}

static void add_to_guest(scmp_filter_ctx ctx, const rule *r, filter which)
{
    if (r->phases == LOAD || r->phases == LESS || (r->phases == SERVE && which == GUEST_COMMAND))
        add(ctx, r, KILL);
    else if (r->phases == FILES && which == GUEST_COMPONENT)
        add(ctx, r, r->error);
}

static scmp_filter_ctx make(filter which)
{
    bool load = which == LOAD_CORE || which == LOAD_COMPONENT;
    scmp_filter_ctx ctx = seccomp_init(load ? SCMP_ACT_KILL_PROCESS : SCMP_ACT_ALLOW);
    if (ctx == NULL)
        die("seccomp_init", ENOMEM);
    int rc = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (rc == 0)
        rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (rc < 0)
        die("attributes", rc);
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        if (load)
            add_to_load(ctx, &rules[i], which);
        else
            add_to_guest(ctx, &rules[i], which);
    }
    add_mseal(ctx, load ? 0 : KILL);
    return ctx;
}

static void print(FILE *out, const char *name, filter which)
{
    static struct sock_filter code[4096];
    scmp_filter_ctx ctx = make(which);
    int fd = memfd_create("filter", MFD_CLOEXEC);
    int rc = fd < 0 ? -errno : seccomp_export_bpf(ctx, fd);
    if (rc < 0)
        die("export", rc);
    ssize_t n = pread(fd, code, sizeof(code), 0);
    if (n <= 0 || (size_t)n >= sizeof(code))
        die("read", n < 0 ? errno : EFBIG);
    fprintf(out, "static const struct sock_filter %s[] = {\n", name);
    for (size_t i = 0; i < (size_t)n / sizeof(code[0]); i++)
        fprintf(out, "    {0x%02x, %u, %u, 0x%08x},\n", (unsigned)code[i].code, (unsigned)code[i].jt,
                (unsigned)code[i].jf, code[i].k);
    fprintf(out, "};\n");
    close(fd);
    seccomp_release(ctx);
}

int main(int argc, char **argv)
{
    FILE *out = argc == 2 ? fopen(argv[1], "we") : NULL;
    if (out == NULL)
        die("usage: seccomp_gen FILE", argc == 2 ? errno : EINVAL);
    fprintf(out, "/* SPDX-License-Identifier: Apache-2.0 */\n/* Generated by src/runner/seccomp_gen.c. */\n");
    print(out, "filter_load_core", LOAD_CORE);
    print(out, "filter_guest_command", GUEST_COMMAND);
    print(out, "filter_guest_serve", GUEST_SERVE);
    print(out, "filter_load_component", LOAD_COMPONENT);
    print(out, "filter_guest_component", GUEST_COMPONENT);
    print(out, "filter_guest_files", GUEST_FILES);
    return fclose(out) == 0 ? 0 : 1;
}
