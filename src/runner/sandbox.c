/* SPDX-License-Identifier: Apache-2.0 */
/* Seccomp, Landlock, sealed and never-writable code. */
#include "runner/sandbox.h"

#include "base/landlock.h"

#include <link.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "seccomp_filters.h"

#define MDWE_REFUSE_EXEC_GAIN 1
#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#endif
#ifndef SYS_mseal
#define SYS_mseal 462
#endif

static void remark(wh_sandbox *box, bool much, const char *what)
{
    size_t n = strlen(box->weaker);
    (void)snprintf(box->weaker + n, sizeof(box->weaker) - n, "%s%s", n > 0 ? ", " : "", what);
    box->weaker_much |= much;
}

static int load_filter(const struct sock_filter *code, size_t n, bool all_threads)
{
    struct sock_filter *borrowed;
    memcpy(&borrowed, &code, sizeof(borrowed)); /* NOLINT(bugprone-sizeof-expression): a pointer's size is
                                                   meant; the kernel's struct lacks the const */
    struct sock_fprog prog = {.len = (unsigned short)n, .filter = borrowed};
    long rc =
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, all_threads ? SECCOMP_FILTER_FLAG_TSYNC : 0, &prog);
    return rc < 0 ? -errno : rc > 0 ? -EAGAIN : 0; /* above 0: the id of a thread that cannot follow */
}

int wh_sandbox_filter_load(bool component)
{
    if (component)
        return load_filter(filter_load_component, WH_ARRAY_LEN(filter_load_component), false);
    return load_filter(filter_load_core, WH_ARRAY_LEN(filter_load_core), false);
}

int wh_sandbox_filter_guest(wh_sandbox_kind kind, bool files)
{
    switch (kind) {
    case WH_SANDBOX_COMMAND:
        return load_filter(filter_guest_command, WH_ARRAY_LEN(filter_guest_command), false);
    case WH_SANDBOX_SERVE:
        return load_filter(filter_guest_serve, WH_ARRAY_LEN(filter_guest_serve), true);
    case WH_SANDBOX_COMPONENT:
        break;
    }
    if (files)
        return load_filter(filter_guest_files, WH_ARRAY_LEN(filter_guest_files), true);
    return load_filter(filter_guest_component, WH_ARRAY_LEN(filter_guest_component), true);
}

int wh_sandbox_begin(wh_sandbox *box, bool component, bool off, wh_err *err)
{
    const struct rlimit none = {0, 0};
    *box = (wh_sandbox){.off = off, .component = component};
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || setrlimit(RLIMIT_CORE, &none) < 0)
        return wh_fail(err, -errno, "sandbox: forbid memory dumps");
    if (off) {
        remark(box, true, "no sandbox, as asked");
        return 0;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return wh_fail(err, -errno, "sandbox: forbid new privileges");
    int rc = wh_sandbox_filter_load(component);
    if (rc < 0)
        return wh_fail(err, rc, "sandbox: load the first system call filter");
    if (getpid() != 1)
        remark(box, false, "no pid namespace");
    return 0;
}

static int enter_landlock(const wh_runspec_dir *dirs, size_t n, wh_err *err)
{
    auto_close int rules = -1;
    int rc = wh_landlock_new(&rules, err);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = wh_landlock_allow(rules, dirs[i].fd,
                               dirs[i].read_only ? WH_LANDLOCK_READ_ONLY : WH_LANDLOCK_READ_WRITE, err);
        if (rc < 0)
            return wh_wrap(err, "directory '%s'", dirs[i].guest_path);
    }
    return rc < 0 ? rc : wh_landlock_restrict(rules, err);
}

int wh_sandbox_files(wh_sandbox *box, const wh_runspec_dir *dirs, size_t n, bool optional, wh_err *err)
{
    box->files = n > 0;
    if (box->off)
        return 0;
    box->landlock_abi = wh_landlock_abi();
    if (box->landlock_abi == 0) {
        if (!optional)
            return wh_fail(err, -EOPNOTSUPP,
                           "sandbox: this kernel has no Landlock; boot it with lsm=landlock, or allow "
                           "running without.");
        remark(box, true, "no Landlock");
        return 0;
    }
    if (box->landlock_abi < 3)
        remark(box, false, "Landlock without truncation");
    if (box->landlock_abi < 6 && getpid() != 1)
        remark(box, false, "Landlock without signal scope");
    int rc = enter_landlock(dirs, n, err);
    return rc < 0 ? wh_wrap(err, "sandbox") : 0;
}

/* Code and constants of our own program, so that no bug makes them writable again. Failures are fine: the
 * filter and MDWE forbid the same. */
static int seal_segments(struct dl_phdr_info *info, WH_UNUSED size_t size, WH_UNUSED void *user)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        if (ph->p_type != PT_LOAD || (ph->p_flags & PF_W) != 0)
            continue;
        uintptr_t from = (info->dlpi_addr + ph->p_vaddr) & ~(page - 1);
        uintptr_t to = (info->dlpi_addr + ph->p_vaddr + ph->p_memsz + page - 1) & ~(page - 1);
        (void)syscall(SYS_mseal, from, to - from, 0);
    }
    return 0;
}

int wh_sandbox_lock(wh_sandbox *box, wh_sandbox_kind kind, wh_err *err)
{
    wh_assert((kind == WH_SANDBOX_COMPONENT) == box->component);
    if (box->off)
        return 0;
    (void)dl_iterate_phdr(seal_segments, NULL);
    if (prctl(PR_SET_MDWE, MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) < 0 && errno != EINVAL)
        return wh_fail(err, -errno, "sandbox: forbid executable memory");
    int rc = wh_sandbox_filter_guest(kind, box->files);
    if (rc < 0)
        return wh_fail(err, rc, "sandbox: load the guest's system call filter");
    return 0;
}
