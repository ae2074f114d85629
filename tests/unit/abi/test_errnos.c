/* SPDX-License-Identifier: Apache-2.0 */
/* Errors that only the host can cause, each with its own number: limits, permissions, devices, two file systems. */
#include "base/file.h"
#include "guest.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

enum { ENFILE_OR_EMFILE = 33, ENOSPC_ = 51, ENXIO_ = 60, ETXTBSY_ = 74 };

TEST(two_file_systems)
{
    auto_guest *g = guest_new(NULL);
    char other[] = "/dev/shm/wh-wasi-XXXXXX";
    struct stat a, b;
    wh_err err = {0};
    if (mkdtemp(other) == NULL)
        SKIP("no /dev/shm");
    CHECK_INT(stat(other, &a), ==, 0);
    CHECK_INT(fstat(g->dir_fd, &b), ==, 0);
    host_write(g, "f", "x");
    int fd = open(other, O_PATH | O_DIRECTORY | O_CLOEXEC);
    CHECK_OK(wh_wasi_preopen_dir(g->wasi, fd, "/other", false, &err), &err);
    guest_put(g, PATH_AT, "f");
    int link_rc = CALL(g, "path_link", DIR_FD, 0, PATH_AT, 1, 4, PATH_AT, 1);
    int rename_rc = CALL(g, "path_rename", DIR_FD, PATH_AT, 1, 4, PATH_AT, 1);
    CHECK_OK(wh_rm_rf(AT_FDCWD, other, &err), &err);
    if (a.st_dev == b.st_dev)
        SKIP("/tmp and /dev/shm are one file system");
    CHECK_INT(link_rc, ==, EXDEV_);
    CHECK_INT(rename_rc, ==, EXDEV_);
}

TEST(a_file_too_large)
{
    auto_guest *g = guest_new(NULL);
    const struct rlimit limit = {4, 4};
    int fd;
    CHECK_INT(open_at(g, 0, "f", CREAT, RW, 0, &fd), ==, OK);
    signal(SIGXFSZ, SIG_IGN);
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &limit), ==, 0);
    CHECK_INT(write_fd(g, fd, "1234"), ==, OK);
    CHECK_INT(write_fd(g, fd, "5"), ==, EFBIG_);
    CHECK_INT(CALL(g, "fd_filestat_set_size", fd, 5), ==, EFBIG_);
    CHECK_INT(CALL(g, "fd_allocate", fd, 0, 5), ==, EFBIG_);
}

TEST(too_many_files_of_the_host)
{
    auto_guest *g = guest_new(NULL);
    int fd, rc = OK, opened = 0;
    host_write(g, "f", "x");
    int next = dup(0);
    close(next);
    const struct rlimit limit = {(rlim_t)next + 3, (rlim_t)next + 3};
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), ==, 0);
    for (; rc == OK && opened < 10; opened++)
        rc = open_at(g, 0, "f", 0, READ, 0, &fd);
    CHECK_INT(rc, ==, ENFILE_OR_EMFILE);
    CHECK_INT(opened, ==, 4);
    CHECK_INT(CALL(g, "fd_readdir", DIR_FD, BUF_AT, 100, 0, RET_AT), ==, ENFILE_OR_EMFILE);
    CHECK_INT(CALL(g, "fd_close", fd), ==, OK);
    CHECK_INT(open_at(g, 0, "f", 0, READ, 0, &fd), ==, OK);
}

TEST(no_permission)
{
    auto_guest *g = guest_new(NULL);
    int fd;
    host_write(g, "f", "x");
    host_mkdir(g, "d");
    host_write(g, "d/f", "x");
    CHECK_INT(fchmodat(g->dir_fd, "f", 0, 0), ==, 0);
    CHECK_INT(fchmodat(g->dir_fd, "d", 0, 0), ==, 0);
    CHECK_INT(fchmodat(AT_FDCWD, g->dir, 0755, 0), ==, 0);
    bool root = geteuid() == 0;
    if (root)
        CHECK_INT(seteuid(65534), ==, 0);
    int open_rc = open_at(g, 0, "f", 0, READ, 0, &fd);
    int beneath_rc = open_at(g, 0, "d/f", 0, READ, 0, &fd);
    int unlink_rc = path_call(g, "path_unlink_file", "d/f");
    int list_rc = open_at(g, 0, "d", DIRECTORY, READ, 0, &fd);
    int make_rc = path_call(g, "path_create_directory", "new");
    if (root)
        CHECK_INT(seteuid(0), ==, 0);
    CHECK_INT(fchmodat(g->dir_fd, "d", 0755, 0), ==, 0);
    CHECK_INT(open_rc, ==, EACCES_);
    CHECK_INT(beneath_rc, ==, EACCES_);
    CHECK_INT(unlink_rc, ==, EACCES_);
    CHECK_INT(list_rc, ==, EACCES_);
    CHECK_INT(make_rc, ==, root ? EACCES_ : OK);
}

TEST(devices_and_fifos)
{
    auto_guest *g = guest_new(NULL);
    char path[128];
    int fd;
    snprintf(path, sizeof(path), "%s/fifo", g->dir);
    CHECK_INT(mkfifo(path, 0600), ==, 0);
    CHECK_INT(open_at(g, 0, "fifo", 0, WRITE, NONBLOCK, &fd), ==, ENXIO_);
    if (mknodat(g->dir_fd, "full", S_IFCHR | 0666, makedev(1, 7)) < 0)
        SKIP("making a device needs root");
    if (open_at(g, 0, "full", 0, RW, 0, &fd) == EACCES_)
        SKIP("devices are off on this file system");
    CHECK_INT(CALL(g, "fd_fdstat_get", fd, 200), ==, OK);
    CHECK_INT(g->mem[200], ==, 2);
    CHECK_INT(write_fd(g, fd, "x"), ==, ENOSPC_);
}

TEST(a_program_that_runs)
{
    auto_guest *g = guest_new(NULL);
    char path[128];
    int fd;
    snprintf(path, sizeof(path), "%s/sleep", g->dir);
    auto_free char *data = NULL;
    size_t n;
    if (wh_read_file(AT_FDCWD, "/bin/sleep", 1 << 20, &data, &n, NULL) < 0)
        SKIP("no /bin/sleep");
    int out = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    CHECK(out >= 0);
    CHECK_INT(wh_write_all(out, data, n), ==, 0);
    close(out);
    pid_t pid = fork();
    if (pid == 0) {
        execl(path, path, "30", (char *)NULL);
        _exit(1);
    }
    int rc = OK;
    for (int i = 0; i < 2000 && rc == OK; i++) {
        usleep(1000);
        rc = open_at(g, 0, "sleep", 0, RW, 0, &fd);
        if (rc == OK)
            CHECK_INT(CALL(g, "fd_close", fd), ==, OK);
    }
    kill(pid, SIGKILL);
    CHECK_INT(rc, ==, ETXTBSY_);
}
