/* SPDX-License-Identifier: Apache-2.0 */
#include "prepare/sandbox.h"

#include "base/landlock.h"
#include "base/str.h"
#include "prepare/prepare.h"

#include <fcntl.h>
#include <grp.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

/* Sanitizers reserve terabytes and call what a compiler never would. */
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#else
/* Looking for leaks needs /proc, which is gone by then. */
const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}
#endif

static int limit(int resource, uint64_t value, const char *name, wh_err *err)
{
    struct rlimit old, wanted = {.rlim_cur = value, .rlim_max = value};
    if (getrlimit((__rlimit_resource_t)resource, &old) == 0 && old.rlim_max < value)
        wanted.rlim_cur = wanted.rlim_max = old.rlim_max;
    if (setrlimit((__rlimit_resource_t)resource, &wanted) < 0)
        return wh_fail(err, -errno, "limit %s", name);
    return 0;
}

static int set_limits(const wh_prepare_sandbox *s, wh_err *err)
{
    int rc = limit(RLIMIT_CORE, 0, "core files", err);
    if (rc == 0 && s->memory_bytes > 0 && !SANITIZED)
        rc = limit(RLIMIT_AS, s->memory_bytes, "memory", err);
    if (rc == 0)
        rc = limit(RLIMIT_FSIZE, s->file_bytes, "file size", err);
    if (rc == 0 && s->cpu_seconds > 0)
        rc = limit(RLIMIT_CPU, s->cpu_seconds, "processor time", err);
    (void)signal(SIGXFSZ, SIG_IGN); /* a write past the limit is an error like a full disk */
    return rc;
}

/* Root becomes a user that owns nothing else. In a user namespace without that uid the other locks must do.
 */
static int drop_user(wh_err *err)
{
    if (geteuid() != 0)
        return 0;
    if (setgroups(0, NULL) < 0 && errno != EPERM)
        return wh_fail(err, -errno, "drop groups");
    if (setresgid(WH_PREPARE_UID, WH_PREPARE_UID, WH_PREPARE_UID) < 0 && errno != EPERM && errno != EINVAL)
        return wh_fail(err, -errno, "change group");
    if (setresuid(WH_PREPARE_UID, WH_PREPARE_UID, WH_PREPARE_UID) < 0 && errno != EPERM && errno != EINVAL)
        return wh_fail(err, -errno, "change user");
    return 0;
}

static int enter_landlock(int out_dir, wh_err *err)
{
    auto_close int ruleset = -1;
    if (wh_landlock_abi() == 0)
        return 0; /* the filter and the uid are there on every kernel */
    int rc = wh_landlock_new(&ruleset, err);
    if (rc == 0 && out_dir >= 0)
        rc = wh_landlock_allow(ruleset, out_dir, WH_LANDLOCK_READ_WRITE, err);
    return rc == 0 ? wh_landlock_restrict(ruleset, err) : rc;
}

static const int always[] = {
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(pread64),
    SCMP_SYS(pwrite64),
    SCMP_SYS(readv),
    SCMP_SYS(writev),
    SCMP_SYS(lseek),
    SCMP_SYS(close),
    SCMP_SYS(fstat),
    SCMP_SYS(fcntl),
    SCMP_SYS(ftruncate),
    SCMP_SYS(mmap),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(mprotect),
    SCMP_SYS(madvise),
    SCMP_SYS(brk),
    SCMP_SYS(futex),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(getrandom),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(tgkill),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(membarrier),
};

/* What unpacking needs besides: files below the folder that Landlock left. */
static const int with_folder[] = {
    SCMP_SYS(openat),     SCMP_SYS(openat2),    SCMP_SYS(newfstatat), SCMP_SYS(statx),
    SCMP_SYS(mkdirat),    SCMP_SYS(symlinkat),  SCMP_SYS(linkat),     SCMP_SYS(unlinkat),
    SCMP_SYS(renameat),   SCMP_SYS(fchmod),     SCMP_SYS(fchmodat),   SCMP_SYS(utimensat),
    SCMP_SYS(getdents64), SCMP_SYS(readlinkat), SCMP_SYS(fsync),      SCMP_SYS(syncfs),
};

static int allow_all(scmp_filter_ctx filter, const int *calls, size_t n)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
    return rc;
}

static int enter_filter(bool with_files, wh_err *err)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (filter == NULL)
        return wh_fail(err, -ENOMEM, "make a system-call filter");
    int rc = allow_all(filter, always, WH_ARRAY_LEN(always));
    if (rc == 0 && with_files)
        rc = allow_all(filter, with_folder, WH_ARRAY_LEN(with_folder));
    /* Asked for by allocators and the standard library of Rust; "no" is a fine answer. */
    static const int refused[] = {SCMP_SYS(openat),    SCMP_SYS(readlink), SCMP_SYS(prctl),
                                  SCMP_SYS(prlimit64), SCMP_SYS(sysinfo),  SCMP_SYS(sched_setaffinity),
                                  SCMP_SYS(ioctl)};
    for (size_t i = 0; rc == 0 && i < WH_ARRAY_LEN(refused); i++)
        if (!with_files || refused[i] != SCMP_SYS(openat))
            rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), refused[i], 0);
    if (rc == 0 && !with_files) /* glibc's fstat is newfstatat of an empty path */
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(newfstatat), 1,
                              SCMP_A3(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH));
    if (rc == 0)
        rc = seccomp_load(filter);
    seccomp_release(filter);
    return rc < 0 ? wh_fail(err, rc, "enter the system-call filter") : 0;
}

int wh_prepare_enter(const wh_prepare_sandbox *s, wh_err *err)
{
    int rc = set_limits(s, err);
    if (rc == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        rc = wh_fail(err, -errno, "set no_new_privs");
    if (rc == 0)
        rc = drop_user(err);
    if (rc == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        rc = wh_fail(err, -errno, "become undumpable");
    /* A change of user clears it, so it is set behind that. Who waits for us does so in the thread that
     * started us. */
    if (rc == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        rc = wh_fail(err, -errno, "die with the parent");
    if (rc == 0)
        rc = enter_landlock(s->out_dir, err);
    return rc == 0 && !SANITIZED ? enter_filter(s->out_dir >= 0, err) : rc;
}
