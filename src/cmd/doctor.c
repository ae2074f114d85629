/* SPDX-License-Identifier: Apache-2.0 */
/* wherry doctor: what this machine offers, what is weaker without it, and the way out. */
#include "base/file.h"
#include "base/landlock.h"
#include "cmd/cmd.h"
#include "keeper/cgroup.h"
#include "node/paths.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>

static int problems, weaknesses;

static const wh_opt options[] = {WH_CMD_DIR_OPTIONS, {0}};

static const wh_opt *doctor_options(void)
{
    return options;
}

typedef enum { GOOD, WEAKER, BROKEN } verdict;

static void say(verdict v, const char *what, const char *found, const char *way_out)
{
    static const char *const marks[] = {"ok  ", "weak", "FAIL"};

    printf("%s  %-22s %s\n", marks[v], what, found);
    if (v != GOOD && way_out != NULL)
        printf("      %-22s -> %s\n", "", way_out);
    weaknesses += v == WEAKER;
    problems += v == BROKEN;
}

static void check_kernel(void)
{
    struct utsname u = {0};
    unsigned major = 0, minor = 0;

    uname(&u);
    /* NOLINTNEXTLINE(cert-err34-c): what is no number counts as old. */
    sscanf(u.release, "%u.%u", &major, &minor);
    bool old = major < 5 || (major == 5 && minor < 10);
    say(old ? BROKEN : GOOD, "kernel", u.release, "Linux 5.10 or newer is needed");
}

static void check_user(void)
{
    say(geteuid() == 0 ? GOOD : WEAKER, "privilege", geteuid() == 0 ? "root" : "a plain user",
        "as root, pods get uids, namespaces and control groups of their own");
}

static void check_openat2(void)
{
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_BENEATH};
    long fd = syscall(SYS_openat2, AT_FDCWD, ".", &how, sizeof(how));

    if (fd >= 0)
        close((int)fd);
    say(fd >= 0 || errno != ENOSYS ? GOOD : WEAKER, "openat2",
        fd >= 0 ? "paths of guests are resolved by the kernel" : "absent: paths are walked step by step",
        "Linux 5.6 or newer; a container's seccomp policy may hide it");
}

static void check_landlock(void)
{
    int abi = wh_landlock_abi();
    auto_free char *text = abi > 0 ? wh_xasprintf("ABI %d", abi) : wh_xstrdup("absent");

    say(abi > 0 ? GOOD : WEAKER, "Landlock", text,
        "boot with lsm=landlock,...; volumes then have one lock less");
}

static void check_seccomp(void)
{
    bool have = prctl(PR_GET_SECCOMP) >= 0;

    say(have ? GOOD : BROKEN, "seccomp", have ? "available" : "absent",
        "a kernel with CONFIG_SECCOMP_FILTER");
}

/* In a child, which would otherwise keep the namespaces. */
static bool can_unshare(int flags)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0)
        _exit(unshare(flags) == 0 ? 0 : 1);
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void check_namespaces(void)
{
    int flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWNET;
    bool have = can_unshare(geteuid() == 0 ? flags : CLONE_NEWUSER | flags);

    say(have ? GOOD : WEAKER, "namespaces", have ? "mount, pid, ipc, net" : "not allowed",
        geteuid() == 0 ? "CAP_SYS_ADMIN is missing"
                       : "sysctl kernel.unprivileged_userns_clone=1, or run as root");
}

static void check_cgroups(void)
{
    wh_cgroups *cgroups = NULL;
    wh_err err = {0};

    if (wh_cgroups_open(NULL, "wherry", &cgroups, &err) < 0) {
        say(WEAKER, "control groups", err.msg,
            "limits are then those of each process alone: memory by RLIMIT_DATA, no CPU shares");
        return;
    }
    bool memory = wh_cgroups_has(cgroups, "memory");
    say(memory ? GOOD : WEAKER, "control groups", wh_cgroups_describe(cgroups),
        "without the memory controller a container's limit is RLIMIT_DATA of its process");
    wh_cgroups_free(cgroups);
}

static void check_programs(void)
{
    wh_paths paths = {0};
    wh_err err = {0};
    struct statvfs fs = {0};
    char free_text[16];

    if (wh_paths_init(&paths, wh_cmd_dirs_given.root, wh_cmd_dirs_given.run, NULL, &err) < 0) {
        say(BROKEN, "installation", err.msg, NULL);
        return;
    }
    say(GOOD, "programs", paths.runner, NULL);
    statvfs(paths.state, &fs);
    uint64_t free_bytes = fs.f_bavail * fs.f_frsize;
    bool low = fs.f_blocks > 0 && fs.f_bavail * 100 / fs.f_blocks < 15;
    auto_free char *text = wh_xasprintf("%s free in %s", wh_human_bytes(free_bytes, free_text), paths.state);
    say(low ? WEAKER : GOOD, "disk", text, "below 15 % images are collected and new ones may be refused");
    wh_paths_done(&paths);
}

static void check_limits(void)
{
    auto_free char *maps = NULL;
    auto_free char *pids = NULL;
    int64_t max_pids = 0;

    if (wh_read_file(AT_FDCWD, "/proc/sys/kernel/pid_max", 64, &pids, NULL, NULL) == 0) {
        pids[strcspn(pids, "\n")] = '\0';
        wh_parse_i64(pids, 0, INT64_MAX, &max_pids);
        say(max_pids >= 32768 ? GOOD : WEAKER, "pid_max", pids,
            "sysctl kernel.pid_max=4194304 for thousands of pods");
    }
    if (wh_read_file(AT_FDCWD, "/proc/sys/vm/overcommit_memory", 64, &maps, NULL, NULL) == 0)
        say(maps[0] != '2' ? GOOD : BROKEN, "overcommit",
            maps[0] != '2' ? "memories can be reserved" : "strict",
            "sysctl vm.overcommit_memory=0: each linear memory reserves several GiB of address space");
}

static int doctor(int argc, char **argv)
{
    (void)argv;
    if (argc != 0)
        return wh_cmd_usage("doctor: takes no arguments");
    check_kernel();
    check_user();
    check_programs();
    check_seccomp();
    check_landlock();
    check_openat2();
    check_namespaces();
    check_cgroups();
    check_limits();
    printf("\n%d weaker, %d missing\n", weaknesses, problems);
    return problems > 0 ? 1 : 0;
}

const wh_verb wh_cmd_doctor = {.name = "doctor",
                               .args = "",
                               .summary = "Say what this machine offers, and what is weaker without it",
                               .options = doctor_options,
                               .run = doctor};
