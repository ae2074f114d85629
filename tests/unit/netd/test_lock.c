/* SPDX-License-Identifier: Apache-2.0 */
/* The filter of netd: a process for each act, which ends by SIGSYS or says what it got. */
#include "harness.h"
#include "netd/lock.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static int fine(long rc)
{
    return rc < 0 ? 1 : 0;
}

static int do_open(void)
{
    return fine(open("/etc/hosts", O_RDONLY | O_CLOEXEC));
}
static int do_openat2(void)
{
    return fine(syscall(SYS_openat2, AT_FDCWD, "/", NULL, 0));
}
static int do_unix(void)
{
    return fine(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}
static int do_netlink(void)
{
    return fine(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0));
}
static int do_exec(void)
{
    return fine(execl("/bin/true", "true", (char *)NULL));
}
static int do_fork(void)
{
    return fine(syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0));
}
static int do_exec_memory(void)
{
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED;
}
static int do_mprotect(void)
{
    static _Alignas(4096) char page[4096];
    return fine(mprotect(page, sizeof(page), PROT_READ | PROT_EXEC));
}
static int do_setns(void)
{
    return fine(setns(0, CLONE_NEWNET));
}
static int do_ptrace(void)
{
    return fine(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
}
static int do_prctl(void)
{
    return fine(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}
static int do_kill(void)
{
    return fine(kill(getpid(), 0));
}
static int do_tcp(void)
{
    auto_close int four = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fine(four);
}
static int do_udp6(void)
{
    auto_close int six = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return six < 0 && errno != EAFNOSUPPORT;
}
static int do_memory(void)
{
    auto_free char *large = malloc(8UL << 20);
    if (large == NULL)
        return 1;
    memset(large, 1, 8UL << 20);
    return 0;
}

TEST(nothing_but_sockets)
{
    static const struct {
        const char *name;
        int (*act)(void);
        bool allowed;
    } cases[] = {
        {"open", do_open, false},
        {"openat2", do_openat2, false},
        {"unix socket", do_unix, false},
        {"netlink", do_netlink, false},
        {"exec", do_exec, false},
        {"fork", do_fork, false},
        {"executable memory", do_exec_memory, false},
        {"mprotect", do_mprotect, false},
        {"setns", do_setns, false},
        {"ptrace", do_ptrace, false},
        {"prctl", do_prctl, false},
        {"kill", do_kill, false},
        {"TCP", do_tcp, true},
        {"UDP over IPv6", do_udp6, true},
        {"memory", do_memory, true},
    };
    if (getenv("WH_NETD_NO_FILTER") != NULL)
        SKIP("sanitizers and coverage need files");
    for (size_t i = 0; i < WH_ARRAY_LEN(cases); i++) {
        int status = 0;
        pid_t pid = fork();
        if (pid == 0) {
            if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || wh_netd_lock(NULL) < 0)
                _exit(99);
            _exit(cases[i].act());
        }
        CHECK_INT(waitpid(pid, &status, 0), ==, pid);
        bool ended = WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
        bool worked = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        if (cases[i].allowed ? !worked : !ended)
            wh_test_fail(__FILE__, __LINE__, "%s: status %#x", cases[i].name, (unsigned)status);
    }
}
