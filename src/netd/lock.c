/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/lock.h"

#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#else
#error "wherry-netd has no list of system calls for this architecture"
#endif

int wh_netd_enter(int namespace_fd, wh_err *err)
{
    if (setns(namespace_fd, CLONE_NEWNET) < 0)
        return wh_fail(err, -errno, "enter the pods' network namespace");
    return 0;
}

/* The bounding set while that is allowed; a plain user has none to give. */
static void drop_bounding_set(void)
{
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        (void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
}

static int drop_capabilities(bool ports)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[2] = {0};
    if (ports && syscall(SYS_capget, &head, caps) < 0)
        return -errno;
    uint32_t kept = caps[0].permitted & (1U << CAP_NET_BIND_SERVICE);
    memset(caps, 0, sizeof(caps));
    caps[0].permitted = caps[0].effective = kept;
    return syscall(SYS_capset, &head, caps) < 0 ? -errno : 0;
}

int wh_netd_drop(uid_t uid, bool ports, wh_err *err)
{
    const struct rlimit no_core = {0};
    drop_bounding_set();
    if (ports && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
        return wh_fail(err, -errno, "keep the right to low ports");
    if (uid != 0 && (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0))
        return wh_fail(err, -errno, "become user and group %u", uid);
    int rc = drop_capabilities(ports);
    if (rc < 0)
        return wh_fail(err, rc, "give up capabilities");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ||
        setrlimit(RLIMIT_CORE, &no_core) < 0)
        return wh_fail(err, -errno, "give up privileges");
    return 0;
}

/* Numbers of calls that are allowed as they are. */
static const int calls[] = {
    SYS_read,         SYS_write,           SYS_writev,
    SYS_close,        SYS_epoll_ctl,       SYS_epoll_pwait,
#ifdef SYS_epoll_wait
    SYS_epoll_wait,
#endif
#ifdef SYS_poll
    SYS_poll,
#endif
    SYS_ppoll,        SYS_recvmsg,         SYS_recvfrom,
    SYS_sendmsg,      SYS_sendto,          SYS_bind,
    SYS_connect,      SYS_listen,          SYS_accept4,
    SYS_getsockopt,   SYS_setsockopt,      SYS_getsockname,
    SYS_getpeername,  SYS_clock_gettime,   SYS_getrandom,
    SYS_gettid,       SYS_getpid,          SYS_futex,
    SYS_brk,          SYS_munmap,          SYS_mremap,
    SYS_madvise,      SYS_rt_sigreturn,    SYS_rt_sigprocmask,
    SYS_rt_sigaction, SYS_restart_syscall, SYS_tgkill,
    SYS_exit,         SYS_exit_group,
};

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, (action))
#define IF_EQ(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), (yes), (no))

static size_t make_filter(struct sock_filter *out)
{
    const struct sock_filter head[] = {
        LOAD(arch),
        IF_EQ(ARCH, 1, 0),
        RETURN(SECCOMP_RET_KILL_PROCESS),
        LOAD(nr),
    };
    /* The x32 calls of x86-64 have a bit of their own, so they match no number. Raw sockets are refused by the
     * kernel: no capability. Anything else of socket, and executable memory, ends us. */
    const struct sock_filter tail[] = {
        IF_EQ(SYS_socket, 2, 0),
        IF_EQ(SYS_mmap, 4, 0),
        IF_EQ(SYS_mprotect, 3, 5),
        LOAD(args[0]), /* of socket */
        IF_EQ(AF_INET, 4, 0),
        IF_EQ(AF_INET6, 3, 2),
        LOAD(args[2]), /* of mmap and mprotect */
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1),
        RETURN(SECCOMP_RET_KILL_PROCESS),
        RETURN(SECCOMP_RET_ALLOW),
    };
    size_t n = 0;
    for (size_t i = 0; i < WH_ARRAY_LEN(head); i++)
        out[n++] = head[i];
    for (size_t i = 0; i < WH_ARRAY_LEN(calls); i++) {
        out[n++] = (struct sock_filter)IF_EQ((uint32_t)calls[i], 0, 1);
        out[n++] = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
    }
    for (size_t i = 0; i < WH_ARRAY_LEN(tail); i++)
        out[n++] = tail[i];
    return n;
}

int wh_netd_lock(wh_err *err)
{
    struct sock_filter code[2 * WH_ARRAY_LEN(calls) + 16];
    const struct sock_fprog program = {.len = (unsigned short)make_filter(code), .filter = code};
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
        return wh_fail(err, -errno, "load the filter of system calls");
    return 0;
}
