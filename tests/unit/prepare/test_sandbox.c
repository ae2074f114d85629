/* SPDX-License-Identifier: Apache-2.0 */
/* One child per forbidden act: what a prepare process can no longer do. */
#include "base/file.h"
#include "base/landlock.h"
#include "harness.h"
#include "prepare/prepare.h"
#include "prepare/sandbox.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

typedef int (*act)(int dir);

/* Enters the sandbox in a child, and acts: the child's exit code, or 1000 + the signal that ended it. */
static int inside(bool with_folder, act what)
{
    char folder[] = "/tmp/wherry-sandbox-XXXXXX";
    wh_err err = {0};
    CHECK(mkdtemp(folder) != NULL);
    int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK_INT(dir, >=, 0);
    if (geteuid() == 0)
        CHECK_INT(fchown(dir, WH_PREPARE_UID, WH_PREPARE_UID), ==, 0);
    pid_t pid = fork();
    if (pid == 0) {
        const wh_prepare_sandbox s = {.out_dir = with_folder ? dir : -1,
                                      .memory_bytes = (uint64_t)4 << 30,
                                      .file_bytes = 4096,
                                      .cpu_seconds = 5};
        if (wh_prepare_enter(&s, &err) < 0) {
            (void)fprintf(stderr, "%s\n", err.msg);
            _exit(99);
        }
        _exit(what(dir));
    }
    int status;
    CHECK_INT(waitpid(pid, &status, 0), ==, pid);
    CHECK_OK(wh_rm_rf(AT_FDCWD, folder, &err), &err);
    close(dir);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static int nothing(int dir)
{
    (void)dir;
    return 0;
}

static int make_socket(int dir)
{
    (void)dir;
    return socket(AF_INET, SOCK_STREAM, 0) < 0 ? 1 : 0;
}

static int run_program(int dir)
{
    (void)dir;
    execl("/bin/true", "true", NULL);
    return 1;
}

static int fork_child(int dir)
{
    (void)dir;
    return fork() < 0 ? 1 : 0;
}

static int trace_parent(int dir)
{
    (void)dir;
    return ptrace(PTRACE_ATTACH, getppid(), NULL, NULL) < 0 ? 1 : 0;
}

static int signal_parent(int dir)
{
    (void)dir;
    return kill(getppid(), 0) < 0 ? 1 : 0;
}

static int make_device(int dir)
{
    return mknodat(dir, "null", S_IFCHR | 0666, 0x103) < 0 ? 1 : 0;
}

static int mount_something(int dir)
{
    (void)dir;
    return syscall(SYS_mount, "none", "/tmp", "tmpfs", 0, NULL) < 0 ? 1 : 0;
}

/* These two answer with the errno. */
static int open_passwd(int dir)
{
    (void)dir;
    return open("/etc/passwd", O_RDONLY | O_CLOEXEC) < 0 ? errno : 0;
}

static int open_above(int dir)
{
    return openat(dir, "../../etc/passwd", O_RDONLY | O_CLOEXEC) < 0 ? errno : 0;
}

static int write_in_folder(int dir)
{
    int fd = openat(dir, "f", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return fd >= 0 && write(fd, "x", 1) == 1 ? 0 : errno;
}

static int write_too_much(int dir)
{
    int fd = openat(dir, "f", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return fd >= 0 && pwrite(fd, "x", 1, 8192) < 0 ? errno : 0;
}

static int uid_of_file(int dir)
{
    struct stat st;
    return write_in_folder(dir) == 0 && fstatat(dir, "f", &st, 0) == 0 && st.st_uid == WH_PREPARE_UID ? 0 : 1;
}

#define KILLED (1000 + SIGSYS)

TEST(nothing_is_fine)
{
    CHECK_INT(inside(false, nothing), ==, 0);
    CHECK_INT(inside(true, nothing), ==, 0);
}

TEST(forbidden_calls_kill)
{
    static const act acts[] = {make_socket,   run_program, fork_child,     trace_parent,
                               signal_parent, make_device, mount_something};
    if (SANITIZED)
        SKIP("a sanitized build has no filter");
    for (size_t i = 0; i < WH_ARRAY_LEN(acts); i++) {
        CHECK_INT(inside(false, acts[i]), ==, KILLED);
        CHECK_INT(inside(true, acts[i]), ==, KILLED);
    }
}

TEST(files_outside_are_out_of_reach)
{
    if (SANITIZED)
        SKIP("a sanitized build has no filter");
    CHECK_INT(inside(false, open_passwd), ==, EPERM);
    if (wh_landlock_abi() == 0)
        SKIP("this kernel has no Landlock");
    CHECK_INT(inside(true, open_passwd), ==, EACCES);
    CHECK_INT(inside(true, open_above), ==, EACCES);
}

TEST(the_folder_may_be_written_up_to_the_limit)
{
    CHECK_INT(inside(true, write_in_folder), ==, 0);
    CHECK_INT(inside(true, write_too_much), ==, EFBIG);
}

TEST(root_becomes_its_own_user)
{
    if (geteuid() != 0)
        SKIP("not root");
    CHECK_INT(inside(true, uid_of_file), ==, 0);
}

static int read_in(int dir, const char *name, int flags)
{
    auto_close int fd = openat(dir, name, flags | O_CLOEXEC, 0600);
    return fd < 0 ? errno : 0;
}

TEST(landlock_rights)
{
    char ro[] = "/tmp/wherry-ro-XXXXXX", rw[] = "/tmp/wherry-rw-XXXXXX";
    wh_err err = {0};
    if (wh_landlock_abi() == 0)
        SKIP("this kernel has no Landlock");
    CHECK(mkdtemp(ro) != NULL);
    CHECK(mkdtemp(rw) != NULL);
    auto_close int ro_dir = open(ro, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    auto_close int rw_dir = open(rw, O_PATH | O_DIRECTORY | O_CLOEXEC);
    CHECK_OK(wh_write_file(ro_dir, "f", "x", 1, 0644, &err), &err);
    CHECK_OK(wh_write_file(rw_dir, "f", "x", 1, 0644, &err), &err);
    pid_t pid = fork();
    if (pid == 0) {
        int set = -1;
        bool ok = wh_landlock_new(&set, &err) == 0 &&
                  wh_landlock_allow(set, ro_dir, WH_LANDLOCK_READ_ONLY, &err) == 0 &&
                  wh_landlock_allow(set, rw_dir, WH_LANDLOCK_READ_WRITE, &err) == 0 &&
                  wh_landlock_restrict(set, &err) == 0;
        ok = ok && read_in(ro_dir, "f", O_RDONLY) == 0 && read_in(ro_dir, "f", O_WRONLY) == EACCES &&
             read_in(ro_dir, "new", O_WRONLY | O_CREAT) == EACCES && unlinkat(ro_dir, "f", 0) < 0 &&
             errno == EACCES;
        ok = ok && read_in(rw_dir, "f", O_RDWR) == 0 && read_in(rw_dir, "new", O_WRONLY | O_CREAT) == 0 &&
             mkdirat(rw_dir, "d", 0700) == 0 && renameat(rw_dir, "f", rw_dir, "d/f") == 0 &&
             read_in(AT_FDCWD, "/etc/passwd", O_RDONLY) == EACCES;
        _exit(ok ? 0 : 1);
    }
    int status;
    CHECK_INT(waitpid(pid, &status, 0), ==, pid);
    CHECK_OK(wh_rm_rf(AT_FDCWD, ro, NULL), NULL);
    CHECK_OK(wh_rm_rf(AT_FDCWD, rw, NULL), NULL);
    CHECK(WIFEXITED(status));
    CHECK_INT(WEXITSTATUS(status), ==, 0);
}
