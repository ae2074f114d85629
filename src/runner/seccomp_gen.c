/* SPDX-License-Identifier: Apache-2.0 */
/* Makes the runner's two filters at build time, as C arrays: libseccomp needs 160 microseconds for each at
 * run time. Anything that this table does not name kills the process. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <seccomp.h>
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
/* Filters stack and the stricter answer wins. So the first lists all that is ever allowed, and the second
 * only takes away what was for loading: half the instructions, which the kernel compiles anew for each
 * process. */
#define LOAD 1 /* phase A only: until the guest begins */
#define BOTH 2 /* phase A and B */
#define LESS 4 /* phase B: taken away under a condition */

typedef struct rule {
    const char *name;
    unsigned phases;
    int error; /* 0: allowed; KILL; else answered with this errno */
    unsigned n_args;
    struct scmp_arg_cmp args[2];
} rule;

#define KILL -1
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
    REFUSE("openat", BOTH, EPERM),
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

static scmp_filter_ctx make(bool guest)
{
    scmp_filter_ctx ctx = seccomp_init(guest ? SCMP_ACT_ALLOW : SCMP_ACT_KILL_PROCESS);
    if (ctx == NULL)
        die("seccomp_init", ENOMEM);
    int rc = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (rc == 0)
        rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (rc < 0)
        die("attributes", rc);
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        const rule *r = &rules[i];
        if (!guest && r->phases != LESS)
            add(ctx, r, r->error);
        else if (guest && r->phases != BOTH)
            add(ctx, r, KILL);
    }
    add_mseal(ctx, guest ? KILL : 0);
    return ctx;
}

static void print(FILE *out, const char *name, bool guest)
{
    static struct sock_filter code[4096];
    scmp_filter_ctx ctx = make(guest);
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
    print(out, "filter_load", false);
    print(out, "filter_guest", true);
    return fclose(out) == 0 ? 0 : 1;
}
