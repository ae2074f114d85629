/* SPDX-License-Identifier: Apache-2.0 */
/* One child per forbidden act, in both phases, with the exact outcome. */
#include "harness.h"

#include "base/file.h"
#include "base/landlock.h"
#include "runner/sandbox.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#define KILLED (-SIGSYS) /* an outcome; 0 is success, positive an errno */

static void *page;    /* read and write, made before the filters */
static int sock = -1; /* a listener */
static int udp = -1;
static int dir = -1; /* a folder of ours */
static pid_t parent;

/* Raw results, so that no wrapper hides anything. */
#define ACT(name, expr)            \
    static int name(void)          \
    {                              \
        long rc = (expr);          \
        return rc < 0 ? errno : 0; \
    }

static char *const no_args[] = {NULL};
static struct sockaddr_in loopback = {.sin_family = AF_INET, .sin_port = 0x5000, .sin_addr = {0x0100007f}};
static const struct open_how beneath = {.flags = O_RDONLY, .resolve = RESOLVE_BENEATH};

ACT(act_execve, syscall(SYS_execve, "/bin/true", no_args, no_args))
ACT(act_fork, syscall(SYS_fork))
ACT(act_clone_process, syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0))
ACT(act_clone_thread,
    syscall(SYS_clone, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD, 0, 0, 0, 0))
ACT(act_clone3, syscall(SYS_clone3, NULL, 0))
ACT(act_ptrace, syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0))
ACT(act_bpf, syscall(SYS_bpf, 0, NULL, 0))
ACT(act_io_uring, syscall(SYS_io_uring_setup, 1, NULL))
ACT(act_userfaultfd, syscall(SYS_userfaultfd, 0))
ACT(act_vm_read, syscall(SYS_process_vm_readv, parent, NULL, 0, NULL, 0, 0))
ACT(act_keyctl, syscall(SYS_keyctl, 0, 0, 0, 0, 0))
ACT(act_mount, syscall(SYS_mount, "x", "/", "tmpfs", 0, NULL))
ACT(act_unshare, syscall(SYS_unshare, CLONE_NEWUSER))
ACT(act_setns, syscall(SYS_setns, 0, 0))
ACT(act_perf, syscall(SYS_perf_event_open, NULL, 0, 0, 0, 0))
ACT(act_kill, syscall(SYS_kill, parent, 0))
ACT(act_tgkill, syscall(SYS_tgkill, parent, parent, SIGTERM))
ACT(act_setuid, syscall(SYS_setuid, 0))
ACT(act_chroot, syscall(SYS_chroot, "/"))
ACT(act_pidfd_open, syscall(SYS_pidfd_open, parent, 0))
ACT(act_shmget, syscall(SYS_shmget, 0, 4096, 0600))
ACT(act_mq_open, syscall(SYS_mq_open, "/x", O_RDONLY, 0, NULL))
ACT(act_socket, syscall(SYS_socket, AF_INET, SOCK_STREAM, 0))
ACT(act_bind, syscall(SYS_bind, sock, &loopback, sizeof(loopback)))
ACT(act_connect, syscall(SYS_connect, udp, &loopback, sizeof(loopback)))
ACT(act_listen, syscall(SYS_listen, sock, 1))
ACT(act_sendto_address, syscall(SYS_sendto, udp, "x", 1, 0, &loopback, sizeof(loopback)))
ACT(act_sendto_fastopen, syscall(SYS_sendto, sock, "x", 1, MSG_FASTOPEN, NULL, 0))
ACT(act_sendmsg, syscall(SYS_sendmsg, udp, NULL, 0))
ACT(act_openat, syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY))
ACT(act_memfd, syscall(SYS_memfd_create, "x", 0))
ACT(act_mmap_exec, syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
ACT(act_mprotect_exec, syscall(SYS_mprotect, page, 4096, PROT_READ | PROT_EXEC))
ACT(act_mmap, syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
ACT(act_mprotect, syscall(SYS_mprotect, page, 4096, PROT_READ))
ACT(act_prctl, syscall(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0))
ACT(act_sigaction, syscall(SYS_rt_sigaction, SIGTERM, NULL, NULL, 8))
ACT(act_prlimit, syscall(SYS_prlimit64, 0, 7, NULL, NULL))
ACT(act_seccomp, syscall(SYS_seccomp, 0, 0, NULL))
ACT(act_openat2, syscall(SYS_openat2, dir, ".", &beneath, sizeof(beneath)))
ACT(act_tiocsti, syscall(SYS_ioctl, 0, 0x5412, "x"))
ACT(act_setpgid, syscall(SYS_setpgid, 0, 0))
ACT(act_read, syscall(SYS_read, dir, NULL, 0))
ACT(act_getpid, syscall(SYS_getpid))

static const struct {
    const char *name;
    int (*fn)(void);
    int load, guest; /* outcomes in phase A and B */
} acts[] = {
    {"execve", act_execve, KILLED, KILLED},
    {"fork", act_fork, KILLED, KILLED},
    {"clone of a process", act_clone_process, KILLED, KILLED},
    {"clone of a thread", act_clone_thread, KILLED, KILLED},
    {"clone3", act_clone3, ENOSYS, ENOSYS},
    {"ptrace", act_ptrace, KILLED, KILLED},
    {"bpf", act_bpf, KILLED, KILLED},
    {"io_uring", act_io_uring, KILLED, KILLED},
    {"userfaultfd", act_userfaultfd, KILLED, KILLED},
    {"process_vm_readv", act_vm_read, KILLED, KILLED},
    {"keyctl", act_keyctl, KILLED, KILLED},
    {"mount", act_mount, KILLED, KILLED},
    {"unshare", act_unshare, KILLED, KILLED},
    {"setns", act_setns, KILLED, KILLED},
    {"perf_event_open", act_perf, KILLED, KILLED},
    {"kill", act_kill, KILLED, KILLED},
    {"tgkill of another signal than abort's", act_tgkill, KILLED, KILLED},
    {"setuid", act_setuid, KILLED, KILLED},
    {"chroot", act_chroot, KILLED, KILLED},
    {"pidfd_open", act_pidfd_open, KILLED, KILLED},
    {"shmget", act_shmget, KILLED, KILLED},
    {"mq_open", act_mq_open, KILLED, KILLED},
    {"socket", act_socket, EPERM, EPERM},
    {"bind", act_bind, KILLED, KILLED},
    {"connect", act_connect, KILLED, KILLED},
    {"listen", act_listen, KILLED, KILLED},
    {"sendto with an address", act_sendto_address, KILLED, KILLED},
    {"sendto with fast open", act_sendto_fastopen, KILLED, KILLED},
    {"sendmsg", act_sendmsg, KILLED, KILLED},
    {"openat", act_openat, EPERM, EPERM},
    {"memfd_create", act_memfd, EPERM, EPERM},
    {"mmap of executable memory", act_mmap_exec, 0, KILLED},
    {"mprotect to executable", act_mprotect_exec, 0, KILLED},
    {"mmap", act_mmap, 0, 0},
    {"mprotect", act_mprotect, 0, 0},
    {"prctl", act_prctl, 0, KILLED},
    {"rt_sigaction", act_sigaction, 0, KILLED},
    {"prlimit64", act_prlimit, 0, KILLED},
    {"seccomp", act_seccomp, EINVAL, KILLED},
    {"openat2", act_openat2, 0, 0},
    {"ioctl TIOCSTI", act_tiocsti, KILLED, KILLED},
    {"setpgid", act_setpgid, KILLED, KILLED},
    {"read of a folder", act_read, EISDIR, EISDIR},
    {"getpid", act_getpid, 0, 0},
};

static int outcome(int (*prepare)(void), int (*fn)(void))
{
    int status;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        int rc = prepare();
        _exit(rc != 0 ? 250 : fn());
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    if (WIFSIGNALED(status))
        return -WTERMSIG(status);
    return WEXITSTATUS(status);
}

static int enter_load(void)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    return wh_sandbox_filter_load(false);
}

static int enter_guest(void)
{
    int rc = enter_load();
    return rc < 0 ? rc : wh_sandbox_filter_guest(WH_SANDBOX_COMMAND, false);
}

static void make_things(void)
{
    parent = getpid();
    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    dir = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(page != MAP_FAILED && sock >= 0 && udp >= 0 && dir >= 0);
}

TEST(each_act_has_its_outcome_while_loading)
{
    make_things();
    for (size_t i = 0; i < WH_ARRAY_LEN(acts); i++) {
        int got = outcome(enter_load, acts[i].fn);
        if (got != acts[i].load)
            wh_test_fail(__FILE__, __LINE__, "%s: %d, not %d", acts[i].name, got, acts[i].load);
    }
}

TEST(each_act_has_its_outcome_while_the_guest_runs)
{
    make_things();
    for (size_t i = 0; i < WH_ARRAY_LEN(acts); i++) {
        int got = outcome(enter_guest, acts[i].fn);
        if (got != acts[i].guest)
            wh_test_fail(__FILE__, __LINE__, "%s: %d, not %d", acts[i].name, got, acts[i].guest);
    }
}

/* ------------------------------------------------------------------ locked code */

static int enter_all(void)
{
    wh_sandbox box;
    int rc = wh_sandbox_begin(&box, false, false, NULL);
    if (rc == 0)
        rc = wh_sandbox_files(&box, &(wh_runspec_dir){(char[]){"/t"}, dir, true}, 1, true, NULL);
    return rc < 0 ? rc : wh_sandbox_lock(&box, WH_SANDBOX_COMMAND, NULL);
}

static int enter_without_filters(void)
{
    const int exec_gain = 1;
    return prctl(65 /* PR_SET_MDWE */, exec_gain, 0, 0, 0) < 0 ? -errno : 0;
}

TEST(executable_memory_is_refused_by_the_kernel_too)
{
    make_things();
    if (enter_without_filters() == -EINVAL)
        SKIP("this kernel has no PR_SET_MDWE");
    CHECK_INT(outcome(enter_without_filters, act_mprotect_exec), ==, EACCES);
}

static int act_unseal(void)
{
    uintptr_t code = (uintptr_t)&act_getpid & ~(uintptr_t)4095;
    return syscall(SYS_mprotect, code, 4096, PROT_READ | PROT_WRITE) < 0 ? errno : 0;
}

static int has_mseal(void)
{
    return syscall(462, page, 0, 0) < 0 ? errno : 0;
}

TEST(our_own_code_cannot_be_made_writable)
{
    make_things();
    if (has_mseal() != 0)
        SKIP("this kernel has no mseal");
    CHECK_INT(outcome(enter_all, act_unseal), ==, EPERM);
}

/* ------------------------------------------------------------------ `../`, each lock alone */

static char tree[64]; /* tree/vol is the volume, tree/secret is not */
static int volume = -1;

static void make_tree(void)
{
    char path[96];
    (void)snprintf(tree, sizeof(tree), "/tmp/wherry-test-sandbox-XXXXXX");
    CHECK(mkdtemp(tree) != NULL);
    CHECK(chmod(tree, 0755) == 0);
    (void)snprintf(path, sizeof(path), "%s/secret", tree);
    CHECK_OK(wh_write_file(AT_FDCWD, path, "s", 1, 0666, NULL), NULL);
    (void)snprintf(path, sizeof(path), "%s/vol", tree);
    CHECK(mkdir(path, 0777) == 0);
    volume = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK_OK(wh_write_file(volume, "inside", "i", 1, 0666, NULL), NULL);
    CHECK(symlinkat("../secret", volume, "link") == 0);
}

static int open_at(const char *path, int flags, uint64_t resolve)
{
    const struct open_how how = {
        .flags = (unsigned)flags, .mode = (flags & O_CREAT) != 0 ? 0644ULL : 0, .resolve = resolve};
    return syscall(SYS_openat2, volume, path, &how, sizeof(how)) < 0 ? errno : 0;
}

static int act_escape(void)
{
    return open_at("../secret", O_RDONLY, 0);
}
static int act_escape_link(void)
{
    return open_at("link", O_RDONLY, 0);
}
static int act_escape_beneath(void)
{
    return open_at("../secret", O_RDONLY, RESOLVE_BENEATH);
}
static int act_link_beneath(void)
{
    return open_at("link", O_RDONLY, RESOLVE_BENEATH);
}
static int act_inside(void)
{
    return open_at("inside", O_RDONLY, 0);
}
static int act_write(void)
{
    return open_at("inside", O_WRONLY, 0);
}
static int act_truncate(void)
{
    return open_at("inside", O_RDONLY | O_TRUNC, 0);
}
static int act_create(void)
{
    return open_at("new", O_WRONLY | O_CREAT, 0);
}
ACT(act_rename_out, syscall(SYS_renameat2, volume, "inside", volume, "../stolen", 0))
ACT(act_link_in, syscall(SYS_linkat, volume, "../secret", volume, "mine", 0))
ACT(act_mknod, syscall(SYS_mknodat, volume, "dev", S_IFCHR | 0600, makedev(1, 3)))
ACT(act_unlink, syscall(SYS_unlinkat, volume, "inside", 0))

static int no_lock(void)
{
    return 0;
}

static int landlock(bool read_only)
{
    wh_sandbox box = {.off = false};
    return wh_sandbox_files(&box, &(wh_runspec_dir){(char[]){"/v"}, volume, read_only}, 1, false, NULL);
}
static int landlock_ro(void)
{
    return landlock(true);
}
static int landlock_rw(void)
{
    return landlock(false);
}

TEST(without_a_lock_a_directory_descriptor_leads_out)
{
    make_tree();
    CHECK_INT(outcome(no_lock, act_escape), ==, 0);
    CHECK_INT(outcome(no_lock, act_escape_link), ==, 0);
    CHECK_INT(outcome(no_lock, act_link_in), ==, 0);
    CHECK_OK(wh_rm_rf(AT_FDCWD, tree, NULL), NULL);
}

TEST(landlock_alone_keeps_a_guest_inside)
{
    if (wh_landlock_abi() < 3)
        SKIP("this kernel has no Landlock with truncation");
    make_tree();
    CHECK_INT(outcome(landlock_ro, act_inside), ==, 0);
    CHECK_INT(outcome(landlock_ro, act_escape), ==, EACCES);
    CHECK_INT(outcome(landlock_ro, act_escape_link), ==, EACCES);
    CHECK_INT(outcome(landlock_ro, act_write), ==, EACCES);
    CHECK_INT(outcome(landlock_ro, act_truncate), ==, EACCES);
    CHECK_INT(outcome(landlock_ro, act_create), ==, EACCES);
    CHECK_INT(outcome(landlock_ro, act_unlink), ==, EACCES);
    CHECK_INT(outcome(landlock_ro, act_openat), ==, EACCES);
    CHECK_INT(outcome(landlock_rw, act_create), ==, 0);
    CHECK_INT(outcome(landlock_rw, act_write), ==, 0);
    CHECK_INT(outcome(landlock_rw, act_rename_out), ==, EACCES);
    CHECK_INT(outcome(landlock_rw, act_link_in), ==, EXDEV);
    if (getuid() == 0)
        CHECK_INT(outcome(landlock_rw, act_mknod), ==, EACCES);
    CHECK_OK(wh_rm_rf(AT_FDCWD, tree, NULL), NULL);
}

TEST(resolve_beneath_alone_keeps_a_guest_inside)
{
    make_tree();
    CHECK_INT(outcome(no_lock, act_escape_beneath), ==, EXDEV);
    CHECK_INT(outcome(no_lock, act_link_beneath), ==, EXDEV);
    CHECK_OK(wh_rm_rf(AT_FDCWD, tree, NULL), NULL);
}

static int detached(bool read_only)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC |
                                          (read_only ? MOUNT_ATTR_RDONLY : 0)};
    int fd = (int)syscall(SYS_open_tree, volume, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (fd < 0 || syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
        return -errno;
    volume = fd;
    return 0;
}
static int detached_ro(void)
{
    return detached(true);
}

TEST(a_detached_mount_alone_keeps_a_guest_inside)
{
    if (getuid() != 0)
        SKIP("needs root to make a mount");
    make_tree();
    CHECK_INT(outcome(detached_ro, act_inside), ==, 0);
    CHECK_INT(outcome(detached_ro, act_escape), ==, ENOENT);
    CHECK_INT(outcome(detached_ro, act_create), ==, EROFS);
    CHECK_INT(outcome(detached_ro, act_write), ==, EROFS);
    CHECK_OK(wh_rm_rf(AT_FDCWD, tree, NULL), NULL);
}

ACT(act_signal_parent, syscall(SYS_kill, parent, 0))
ACT(act_bind_tcp, syscall(SYS_bind, sock, &loopback, sizeof(loopback)))

TEST(landlock_forbids_signals_and_ports)
{
    if (wh_landlock_abi() < 6)
        SKIP("this kernel's Landlock has no scopes");
    make_tree();
    make_things();
    CHECK_INT(outcome(landlock_ro, act_signal_parent), ==, EPERM);
    CHECK_INT(outcome(landlock_ro, act_bind_tcp), ==, EACCES);
    CHECK_OK(wh_rm_rf(AT_FDCWD, tree, NULL), NULL);
}
