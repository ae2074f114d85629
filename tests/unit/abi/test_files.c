/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors of files and folders: every fd_ function and what it refuses. */
#include "base/clock.h"
#include "base/limits.h"
#include "guest.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

static int set_vector(guest *g, uint32_t i, uint32_t at, uint32_t n)
{
    guest_set32(g, IOV_AT + 8 * i, at);
    guest_set32(g, IOV_AT + 8 * i + 4, n);
    return 0;
}

TEST(write_seek_read_tell)
{
    auto_guest *g = guest_new(NULL);
    char text[64];
    uint32_t n;
    int fd;
    CHECK_INT(open_at(g, 0, "f", CREAT, RW, 0, &fd), ==, OK);
    CHECK_INT(fd, ==, 4);
    CHECK_INT(write_fd(g, fd, "hello world"), ==, OK);
    CHECK_INT(CALL(g, "fd_tell", fd, 8), ==, OK);
    CHECK_INT(guest_u64(g, 8), ==, 11);
    CHECK_INT(CALL(g, "fd_seek", fd, 6, 0, 8), ==, OK);
    CHECK_INT(read_fd(g, fd, 63, text, &n), ==, OK);
    CHECK_STR(text, "world");
    CHECK_INT(read_fd(g, fd, 63, text, &n), ==, OK);
    CHECK_INT(n, ==, 0);
    CHECK_INT(CALL(g, "fd_seek", fd, -5, 2, 8), ==, OK);
    CHECK_INT(guest_u64(g, 8), ==, 6);
    CHECK_INT(CALL(g, "fd_seek", fd, -7, 1, 8), ==, EINVAL_);
    CHECK_INT(CALL(g, "fd_seek", fd, -1, 0, 8), ==, EINVAL_);
    CHECK_INT(CALL(g, "fd_seek", fd, 1, 1, 8), ==, OK);
    CHECK_INT(guest_u64(g, 8), ==, 7);
    CHECK_INT(CALL(g, "fd_close", fd), ==, OK);
    CHECK_INT(CALL(g, "fd_close", fd), ==, EBADF_);
}

TEST(vectors_go_in_one_call)
{
    auto_guest *g = guest_new(NULL);
    int fd;
    CHECK_INT(open_at(g, 0, "f", CREAT, RW, 0, &fd), ==, OK);
    guest_put(g, BUF_AT, "abcdef");
    set_vector(g, 0, BUF_AT, 2);
    set_vector(g, 1, 0, 0);
    set_vector(g, 2, BUF_AT + 2, 4);
    CHECK_INT(CALL(g, "fd_write", fd, IOV_AT, 3, RET_AT), ==, OK);
    CHECK_INT(guest_u32(g, RET_AT), ==, 6);
    CHECK_INT(CALL(g, "fd_pread", fd, IOV_AT, 3, INT64_C(1), RET_AT), ==, OK);
    CHECK_INT(guest_u32(g, RET_AT), ==, 5);
    CHECK_MEM(g->mem + BUF_AT, "bcdef", 5);
}

TEST(vectors_are_cut_at_the_limit)
{
    auto_guest *g = guest_new(NULL);
    int fd;
    uint32_t at = 30000;
    CHECK_INT(open_at(g, 0, "f", CREAT, RW, 0, &fd), ==, OK);
    for (uint32_t i = 0; i <= WH_GUEST_IOVECS_MAX; i++) {
        guest_set32(g, at + 8 * i, BUF_AT);
        guest_set32(g, at + 8 * i + 4, 1);
    }
    CHECK_INT(CALL(g, "fd_write", fd, at, WH_GUEST_IOVECS_MAX, RET_AT), ==, OK);
    CHECK_INT(guest_u32(g, RET_AT), ==, WH_GUEST_IOVECS_MAX);
    CHECK_INT(CALL(g, "fd_write", fd, at, WH_GUEST_IOVECS_MAX + 1, RET_AT), ==, OK);
    CHECK_INT(guest_u32(g, RET_AT), ==, WH_GUEST_IOVECS_MAX);
}

TEST(positioned_io_leaves_the_position)
{
    auto_guest *g = guest_new(NULL);
    int fd;
    CHECK_INT(open_at(g, 0, "f", CREAT, RW, 0, &fd), ==, OK);
    CHECK_INT(write_fd(g, fd, "0123456789"), ==, OK);
    guest_put(g, BUF_AT, "XY");
    set_vector(g, 0, BUF_AT, 2);
    CHECK_INT(CALL(g, "fd_pwrite", fd, IOV_AT, 1, INT64_C(3), RET_AT), ==, OK);
    CHECK_INT(CALL(g, "fd_tell", fd, 8), ==, OK);
    CHECK_INT(guest_u64(g, 8), ==, 10);
    auto_free char *text = host_read(g, "f");
    CHECK_STR(text, "012XY56789");
    CHECK_INT(CALL(g, "fd_pwrite", fd, IOV_AT, 1, INT64_C(-1), RET_AT), ==, EINVAL_);
    CHECK_INT(CALL(g, "fd_pread", fd, IOV_AT, 1, INT64_MIN, RET_AT), ==, EINVAL_);
    CHECK_INT(CALL(g, "fd_pread", fd, IOV_AT, 1, INT64_C(100), RET_AT), ==, OK);
    CHECK_INT(guest_u32(g, RET_AT), ==, 0);
}

TEST(append_goes_to_the_end_and_the_position_follows)
{
    auto_guest *g = guest_new(NULL);
    int fd;
    host_write(g, "f", "12345");
    CHECK_INT(open_at(g, 0, "f", 0, RW, APPEND, &fd), ==, OK);
    CHECK_INT(write_fd(g, fd, "ab"), ==, OK);
    CHECK_INT(CALL(g, "fd_tell", fd, 8), ==, OK);
    CHECK_INT(guest_u64(g, 8), ==, 7);
    CHECK_INT(CALL(g, "fd_fdstat_get", fd, 200), ==, OK);
    CHECK_INT(g->mem[202], ==, APPEND);
    guest_put(g, BUF_AT, "cd");
    set_vector(g, 0, BUF_AT, 2);
    CHECK_INT(CALL(g, "fd_pwrite", fd, IOV_AT, 1, INT64_C(0), RET_AT), ==, OK);
    CHECK_INT(CALL(g, "fd_fdstat_set_flags", fd, 0), ==, OK);
    CHECK_INT(CALL(g, "fd_pwrite", fd, IOV_AT, 1, INT64_C(0), RET_AT), ==, OK);
    auto_free char *text = host_read(g, "f");
    CHECK_STR(text, "cd345abcd");
    CHECK_INT(CALL(g, "fd_fdstat_set_flags", fd, APPEND | NONBLOCK), ==, OK);
    CHECK_INT(CALL(g, "fd_fdstat_get", fd, 200), ==, OK);
    CHECK_INT(g->mem[202], ==, APPEND | NONBLOCK);
    CHECK_INT(CALL(g, "fd_fdstat_set_flags", fd, SYNC), ==, EINVAL_);
    CHECK_INT(CALL(g, "fd_fdstat_set_flags", fd, DSYNC), ==, EINVAL_);
    CHECK_INT(CALL(g, "fd_fdstat_set_flags", fd, RSYNC), ==, EINVAL_);
    CHECK_INT(CALL(g, "fd_fdstat_set_flags", DIR_FD, 0), ==, EBADF_);
    CHECK_INT(CALL(g, "fd_fdstat_set_flags", 0, 0), ==, EBADF_);
    CHECK_INT(CALL(g, "fd_fdstat_set_flags", 99, 0), ==, EBADF_);
}

TEST(the_direction_of_a_descriptor_holds)
{
    auto_guest *g = guest_new(NULL);
    char text[8];
    uint32_t n;
    int in, out;
    host_write(g, "f", "x");
    CHECK_INT(open_at(g, 0, "f", 0, READ, 0, &in), ==, OK);
    CHECK_INT(open_at(g, 0, "f", 0, WRITE, 0, &out), ==, OK);
    CHECK_INT(write_fd(g, in, "y"), ==, EBADF_);
    CHECK_INT(write_fd(g, in, ""), ==, EBADF_);
    CHECK_INT(read_fd(g, out, 4, text, &n), ==, EBADF_);
    set_vector(g, 0, BUF_AT, 1);
    CHECK_INT(CALL(g, "fd_pwrite", in, IOV_AT, 1, INT64_C(0), RET_AT), ==, EBADF_);
    CHECK_INT(CALL(g, "fd_pread", out, IOV_AT, 1, INT64_C(0), RET_AT), ==, EBADF_);
    CHECK_INT(CALL(g, "fd_filestat_set_size", in, INT64_C(0)), ==, EINVAL_);
    CHECK_INT(CALL(g, "fd_allocate", in, INT64_C(0), INT64_C(10)), ==, EBADF_);
}

TEST(folders_are_no_files)
{
    auto_guest *g = guest_new(NULL);
    char text[8];
    uint32_t n;
    int fd, lazy;
    host_mkdir(g, "d");
    CHECK_INT(open_at(g, 0, "d", DIRECTORY, READ, 0, &fd), ==, OK);
    CHECK_INT(open_at(g, 0, "d", 0, READ, 0, &lazy), ==, OK); /* nobody said that it is one */
    int fds[] = {DIR_FD, fd, lazy};
    for (size_t i = 0; i < WH_ARRAY_LEN(fds); i++) {
        set_vector(g, 0, BUF_AT, 1);
        CHECK_INT(read_fd(g, fds[i], 1, text, &n), ==, EBADF_);
        CHECK_INT(read_fd(g, fds[i], 0, text, &n), ==, EBADF_);
        CHECK_INT(write_fd(g, fds[i], "x"), ==, EBADF_);
        set_vector(g, 0, BUF_AT, 1);
        CHECK_INT(CALL(g, "fd_pread", fds[i], IOV_AT, 1, INT64_C(0), RET_AT), ==, EBADF_);
        CHECK_INT(CALL(g, "fd_pwrite", fds[i], IOV_AT, 1, INT64_C(0), RET_AT), ==, EBADF_);
        CHECK_INT(CALL(g, "fd_seek", fds[i], 0, 0, 8), ==, EBADF_);
        CHECK_INT(CALL(g, "fd_tell", fds[i], 8), ==, EBADF_);
        CHECK_INT(CALL(g, "fd_sync", fds[i]), ==, EBADF_);
        CHECK_INT(CALL(g, "fd_datasync", fds[i]), ==, EBADF_);
        CHECK_INT(CALL(g, "fd_advise", fds[i], 0, 0, 0), ==, EBADF_);
        CHECK_INT(CALL(g, "fd_allocate", fds[i], 0, 1), ==, EBADF_);
        CHECK_INT(CALL(g, "fd_filestat_set_size", fds[i], 0), ==, EBADF_);
    }
    CHECK_INT(CALL(g, "fd_seek", 77, 0, 0, 8), ==, EBADF_);
}

TEST(files_are_no_folders)
{
    auto_guest *g = guest_new(NULL);
    int fd;
    host_write(g, "f", "x");
    CHECK_INT(open_at(g, 0, "f", 0, READ, 0, &fd), ==, OK);
    CHECK_INT(CALL(g, "fd_readdir", fd, BUF_AT, 100, INT64_C(0), RET_AT), ==, EBADF_);
    guest_put(g, PATH_AT, "x");
    CHECK_INT(CALL(g, "path_open", fd, 0, PATH_AT, 1, 0, 0, 0, 0, RET_AT), ==, ENOTDIR_);
    CHECK_INT(CALL(g, "path_open", 0, 0, PATH_AT, 1, 0, 0, 0, 0, RET_AT), ==, EBADF_);
    CHECK_INT(CALL(g, "path_unlink_file", fd, PATH_AT, 1), ==, EBADF_);
    CHECK_INT(CALL(g, "path_filestat_get", fd, 0, PATH_AT, 1, 200), ==, EBADF_);
    CHECK_INT(CALL(g, "fd_prestat_get", fd, 200), ==, EBADF_);
    CHECK_INT(CALL(g, "fd_prestat_dir_name", fd, 200, 10), ==, ENOTDIR_);
}

TEST(prestat_tells_the_preopens)
{
    auto_guest *g = guest_new(NULL);
    CHECK_INT(CALL(g, "fd_prestat_get", DIR_FD, 200), ==, OK);
    CHECK_INT(g->mem[200], ==, 0);
    CHECK_INT(guest_u32(g, 204), ==, 1);
    CHECK_INT(CALL(g, "fd_prestat_dir_name", DIR_FD, 300, 1), ==, OK);
    CHECK_INT(g->mem[300], ==, '/');
    CHECK_INT(CALL(g, "fd_prestat_dir_name", DIR_FD, 300, 0), ==, ENAMETOOLONG_);
    CHECK_INT(CALL(g, "fd_prestat_get", 4, 200), ==, EBADF_);
    CHECK_INT(CALL(g, "fd_prestat_get", 0, 200), ==, EBADF_);
    CHECK_INT(CALL(g, "fd_prestat_dir_name", 44, 200, 10), ==, EBADF_);
}

TEST(filestat_of_files_folders_and_streams)
{
    auto_guest *g = guest_new(NULL);
    struct stat st;
    int fd;
    host_write(g, "f", "12345");
    CHECK_INT(open_at(g, 0, "f", 0, RW, 0, &fd), ==, OK);
    CHECK_INT(CALL(g, "fd_filestat_get", fd, 200), ==, OK);
    CHECK_INT(fstatat(g->dir_fd, "f", &st, 0), ==, 0);
    CHECK_INT(guest_u64(g, 200), ==, st.st_dev);
    CHECK_INT(guest_u64(g, 208), ==, st.st_ino);
    CHECK_INT(g->mem[216], ==, 4);
    CHECK_INT(guest_u64(g, 224), ==, 1);
    CHECK_INT(guest_u64(g, 232), ==, 5);
    CHECK_INT(guest_u64(g, 248), ==, st.st_mtim.tv_sec * WH_SEC + st.st_mtim.tv_nsec);
    CHECK_INT(CALL(g, "fd_filestat_get", DIR_FD, 200), ==, OK);
    CHECK_INT(g->mem[216], ==, 3);
    CHECK_INT(CALL(g, "fd_filestat_get", 1, 200), ==, OK);
    CHECK_INT(g->mem[216], ==, 0);
    CHECK_INT(guest_u64(g, 208), ==, 0);
    CHECK_INT(CALL(g, "fd_filestat_get", 50, 200), ==, EBADF_);
}

TEST(sizes_and_times_are_set)
{
    auto_guest *g = guest_new(NULL);
    int fd;
    host_write(g, "f", "12345");
    CHECK_INT(open_at(g, 0, "f", 0, RW, 0, &fd), ==, OK);
    CHECK_INT(CALL(g, "fd_filestat_set_size", fd, INT64_C(3)), ==, OK);
    CHECK_INT(CALL(g, "fd_allocate", fd, INT64_C(0), INT64_C(10)), ==, OK);
    CHECK_INT(CALL(g, "fd_filestat_set_size", fd, INT64_C(-1)), ==, EINVAL_);
    CHECK_INT(CALL(g, "fd_allocate", fd, INT64_C(0), INT64_C(0)), ==, EINVAL_);
    CHECK_INT(CALL(g, "fd_filestat_set_times", fd, INT64_C(1000000001), INT64_C(2000000002), 1 | 4), ==, OK);
    CHECK_INT(CALL(g, "fd_filestat_get", fd, 200), ==, OK);
    CHECK_INT(guest_u64(g, 232), ==, 10);
    CHECK_INT(guest_u64(g, 240), ==, 1000000001);
    CHECK_INT(guest_u64(g, 248), ==, 2000000002);
    CHECK_INT(CALL(g, "fd_filestat_set_times", fd, INT64_C(0), INT64_C(0), 8), ==, OK);
    CHECK_INT(CALL(g, "fd_filestat_get", fd, 200), ==, OK);
    CHECK_INT(guest_u64(g, 240), ==, 1000000001);
    CHECK_INT(guest_u64(g, 248), >, INT64_C(1700000000) * 1000000000);
    CHECK_INT(CALL(g, "fd_filestat_set_times", fd, INT64_C(0), INT64_C(0), 3), ==, EINVAL_);
    CHECK_INT(CALL(g, "fd_filestat_set_times", fd, INT64_C(0), INT64_C(0), 12), ==, EINVAL_);
    CHECK_INT(CALL(g, "fd_filestat_set_times", DIR_FD, INT64_C(5), INT64_C(6), 5), ==, OK);
    CHECK_INT(CALL(g, "fd_filestat_get", DIR_FD, 200), ==, OK);
    CHECK_INT(guest_u64(g, 248), ==, 6);
    CHECK_INT(CALL(g, "fd_filestat_set_times", 0, INT64_C(5), INT64_C(6), 5), ==, EBADF_);
}

TEST(advise_and_sync)
{
    auto_guest *g = guest_new(NULL);
    int fd;
    CHECK_INT(open_at(g, 0, "f", CREAT, RW, 0, &fd), ==, OK);
    for (int advice = 0; advice <= 5; advice++)
        CHECK_INT(CALL(g, "fd_advise", fd, INT64_C(0), INT64_C(0), advice), ==, OK);
    CHECK_INT(CALL(g, "fd_advise", fd, INT64_C(0), INT64_C(-1), 0), ==, EINVAL_);
    CHECK_INT(CALL(g, "fd_sync", fd), ==, OK);
    CHECK_INT(CALL(g, "fd_datasync", fd), ==, OK);
    CHECK_INT(CALL(g, "fd_sync", 0), ==, EBADF_);
    CHECK_INT(CALL(g, "fd_datasync", 33), ==, EBADF_);
}

TEST(rights_can_only_be_given_up)
{
    auto_guest *g = guest_new(NULL);
    int fd, child;
    uint64_t base;
    CHECK_INT(open_at(g, 0, "f", CREAT, RW, 0, &fd), ==, OK);
    CHECK_INT(CALL(g, "fd_fdstat_get", fd, 200), ==, OK);
    CHECK_INT(g->mem[200], ==, 4);
    base = guest_u64(g, 208);
    CHECK_INT(base, ==, (1 << 30) - 1);
    CHECK_INT(CALL(g, "fd_fdstat_set_rights", fd, (int64_t)(base & ~(uint64_t)WRITE), INT64_C(0)), ==, OK);
    CHECK_INT(write_fd(g, fd, "x"), ==, ENOTCAPABLE_);
    CHECK_INT(CALL(g, "fd_fdstat_set_rights", fd, (int64_t)base, INT64_C(0)), ==, ENOTCAPABLE_);
    CHECK_INT(CALL(g, "fd_fdstat_get", fd, 200), ==, OK);
    CHECK_INT(guest_u64(g, 208), ==, base & ~(uint64_t)WRITE);
    CHECK_INT(guest_u64(g, 216), ==, 0);
    CHECK_INT(CALL(g, "fd_fdstat_set_rights", 0, INT64_C(0), INT64_C(0)), ==, EBADF_);
    CHECK_INT(CALL(g, "fd_fdstat_set_rights", 55, INT64_C(0), INT64_C(0)), ==, EBADF_);
    /* What a folder's descriptor gave up for what lies beneath stays given up there. */
    CHECK_INT(CALL(g, "fd_fdstat_get", DIR_FD, 200), ==, OK);
    CHECK_INT(CALL(g, "fd_fdstat_set_rights", DIR_FD, (int64_t)guest_u64(g, 208), WRITE), ==, OK);
    CHECK_INT(open_at(g, 0, "f", 0, RW, 0, &child), ==, OK);
    CHECK_INT(CALL(g, "fd_tell", child, 8), ==, ENOTCAPABLE_);
    CHECK_INT(write_fd(g, child, "x"), ==, OK);
    const int64_t open_only = 1 << 13;
    CHECK_INT(CALL(g, "fd_fdstat_set_rights", DIR_FD, open_only, 0), ==, OK);
    CHECK_INT(open_at(g, 0, "f", 0, READ, 0, &child), ==, OK);
    CHECK_INT(open_at(g, 0, "f", CREAT, RW, 0, &child), ==, ENOTCAPABLE_);
    CHECK_INT(path_call(g, "path_unlink_file", "f"), ==, ENOTCAPABLE_);
    CHECK_INT(path_call(g, "path_create_directory", "d"), ==, ENOTCAPABLE_);
    CHECK_INT(CALL(g, "fd_readdir", DIR_FD, BUF_AT, 100, 0, RET_AT), ==, ENOTCAPABLE_);
    CHECK_INT(CALL(g, "fd_fdstat_set_rights", DIR_FD, 0, 0), ==, OK);
    CHECK_INT(open_at(g, 0, "f", 0, READ, 0, &child), ==, ENOTCAPABLE_);
}

TEST(fdstat_of_what_was_opened)
{
    auto_guest *g = guest_new(NULL);
    int fd;
    host_write(g, "f", "x");
    host_mkdir(g, "d");
    CHECK_INT(open_at(g, 0, "f", 0, READ, 0, &fd), ==, OK);
    CHECK_INT(CALL(g, "fd_fdstat_get", fd, 200), ==, OK);
    CHECK_INT(g->mem[200], ==, 4);
    CHECK_INT(guest_u64(g, 208) & RW, ==, READ);
    CHECK_INT(open_at(g, 0, "d", 0, READ, 0, &fd), ==, OK);
    CHECK_INT(CALL(g, "fd_fdstat_get", fd, 200), ==, OK);
    CHECK_INT(g->mem[200], ==, 3);
    CHECK_INT(guest_u64(g, 208) & WRITE, ==, 0);
    CHECK(guest_u64(g, 216) & WRITE); /* wasi-libc asks for no more than this beneath it */
    CHECK_INT(CALL(g, "fd_fdstat_get", DIR_FD, 200), ==, OK);
    CHECK_INT(guest_u64(g, 208), ==, 0x7b7fe00);
    CHECK_INT(CALL(g, "fd_fdstat_get", 0, 200), ==, OK);
    CHECK_INT(guest_u64(g, 208), ==, READ);
    CHECK_INT(CALL(g, "fd_fdstat_get", 2, 200), ==, OK);
    CHECK_INT(guest_u64(g, 208), ==, WRITE);
    CHECK_INT(CALL(g, "fd_fdstat_get", 20, 200), ==, EBADF_);
}

TEST(numbers_are_given_out_as_wasmtime_does)
{
    auto_guest *g = guest_new(NULL);
    int fd[5];
    for (int i = 0; i < 5; i++)
        CHECK_INT(open_at(g, 0, "f", CREAT, RW, 0, &fd[i]), ==, OK);
    CHECK_INT(fd[4], ==, 8);
    CHECK_INT(CALL(g, "fd_close", 5), ==, OK);
    CHECK_INT(CALL(g, "fd_close", 7), ==, OK);
    CHECK_INT(open_at(g, 0, "f", 0, RW, 0, &fd[0]), ==, OK);
    CHECK_INT(fd[0], ==, 7);
    CHECK_INT(open_at(g, 0, "f", 0, RW, 0, &fd[0]), ==, OK);
    CHECK_INT(fd[0], ==, 5);
    CHECK_INT(open_at(g, 0, "f", 0, RW, 0, &fd[0]), ==, OK);
    CHECK_INT(fd[0], ==, 9);
}

TEST(renumber)
{
    auto_guest *g = guest_new(NULL);
    char text[8];
    uint32_t n;
    int a, b;
    host_write(g, "a", "A");
    host_write(g, "b", "B");
    CHECK_INT(open_at(g, 0, "a", 0, READ, 0, &a), ==, OK);
    CHECK_INT(open_at(g, 0, "b", 0, READ, 0, &b), ==, OK);
    CHECK_INT(CALL(g, "fd_renumber", a, 99), ==, EBADF_);
    CHECK_INT(CALL(g, "fd_renumber", 99, a), ==, EBADF_);
    CHECK_INT(CALL(g, "fd_renumber", a, a), ==, OK);
    CHECK_INT(CALL(g, "fd_renumber", a, b), ==, OK);
    CHECK_INT(CALL(g, "fd_tell", a, 8), ==, EBADF_);
    CHECK_INT(read_fd(g, b, 7, text, &n), ==, OK);
    CHECK_STR(text, "A");
    CHECK_INT(CALL(g, "fd_renumber", b, 0), ==, OK); /* over a stream, too */
    CHECK_INT(CALL(g, "fd_seek", 0, 0, 0, 8), ==, OK);
    CHECK_INT(open_at(g, 0, "b", 0, READ, 0, &b), ==, OK);
    CHECK_INT(b, ==, 5);
}

TEST(descriptors_have_a_limit)
{
    auto_guest *g = guest_new(NULL);
    int fd = 0;
    host_write(g, "f", "x");
    for (int i = 4; i < WH_GUEST_FDS_MAX; i++)
        CHECK_INT(open_at(g, 0, "f", 0, READ, 0, &fd), ==, OK);
    CHECK_INT(fd, ==, WH_GUEST_FDS_MAX - 1);
    CHECK_INT(open_at(g, 0, "f", 0, READ, 0, &fd), ==, EMFILE_);
    wh_err err = {0};
    CHECK_ERR(wh_wasi_preopen_dir(g->wasi, dup(g->dir_fd), "/x", false, &err), -EMFILE, &err, "at most 1024");
    CHECK_INT(CALL(g, "fd_close", 500), ==, OK);
    CHECK_INT(open_at(g, 0, "f", 0, READ, 0, &fd), ==, OK);
    CHECK_INT(fd, ==, 500);
    CHECK_INT(open_at(g, 0, "missing", 0, READ, 0, &fd), ==, EMFILE_);
    CHECK_INT(CALL(g, "fd_close", 500), ==, OK);
    CHECK_INT(open_at(g, 0, "missing", 0, READ, 0, &fd), ==, ENOENT_);
    CHECK_INT(open_at(g, 0, "f", 0, READ, 0, &fd), ==, OK); /* the number came back */
}

typedef struct listing {
    unsigned seen[2000]; /* how often each "nNNN" came */
    unsigned dots, entries;
    uint64_t last;
} listing;

/* Takes the whole entries out of the buffer; the next cookie is the last whole one's. */
static void take_entries(const guest *g, uint32_t used, listing *l)
{
    uint32_t at = BUF_AT, end = BUF_AT + used;
    while (end - at >= 24) {
        uint32_t n = guest_u32(g, at + 16);
        unsigned number;
        char name[256] = "";
        if (end - at - 24 < n)
            break;
        CHECK_INT(n, <, 256);
        memcpy(name, g->mem + at + 24, n);
        if (sscanf(name, "n%u", &number) == 1 && number < WH_ARRAY_LEN(l->seen)) {
            l->seen[number]++;
            CHECK_INT(g->mem[at + 20], ==, 4);
        } else {
            CHECK(name[0] == '.');
            CHECK_INT(g->mem[at + 20], ==, 3);
            l->dots++;
        }
        CHECK_INT(g->mem[at + 21] | g->mem[at + 22] | g->mem[at + 23], ==, 0);
        l->entries++;
        l->last = guest_u64(g, at);
        at += 24 + n;
    }
}

static void list_all(guest *g, int fd, uint32_t room, listing *l)
{
    for (;;) {
        unsigned before = l->entries;
        CHECK_INT(CALL(g, "fd_readdir", fd, BUF_AT, room, (int64_t)l->last, RET_AT), ==, OK);
        uint32_t used = guest_u32(g, RET_AT);
        CHECK(used <= room);
        take_entries(g, used, l);
        if (used < room)
            return;
        CHECK(l->entries > before);
    }
}

static void fill(const guest *g, unsigned n)
{
    char name[32];
    for (unsigned i = 0; i < n; i++) {
        snprintf(name, sizeof(name), "n%u", i);
        host_write(g, name, "");
    }
}

TEST(readdir_gives_every_entry_once_whatever_the_buffer)
{
    static const uint32_t rooms[] = {64, 100, 333, 4096, 40000};
    auto_guest *g = guest_new(NULL);
    fill(g, 700);
    int opened;
    CHECK_INT(open_at(g, 0, ".", DIRECTORY, READ, 0, &opened), ==, OK);
    for (size_t i = 0; i < 2 * WH_ARRAY_LEN(rooms); i++) {
        listing *l = wh_xnew(listing);
        list_all(g, i % 2 == 0 ? DIR_FD : opened, rooms[i / 2], l);
        CHECK_INT(l->dots, ==, 2);
        CHECK_INT(l->entries, ==, 702);
        for (unsigned k = 0; k < 700; k++)
            CHECK_INT(l->seen[k], ==, 1);
        free(l);
    }
}

TEST(readdir_survives_removal_between_calls)
{
    auto_guest *g = guest_new(NULL);
    fill(g, 600);
    listing *l = wh_xnew(listing);
    char name[32];
    for (;;) { /* rm -r: what was listed is removed before the next call */
        CHECK_INT(CALL(g, "fd_readdir", DIR_FD, BUF_AT, 500, (int64_t)l->last, RET_AT), ==, OK);
        uint32_t used = guest_u32(g, RET_AT);
        take_entries(g, used, l);
        for (unsigned k = 0; k < 600; k++) {
            snprintf(name, sizeof(name), "n%u", k);
            if (l->seen[k] > 0 && host_exists(g, name))
                CHECK_INT(path_call(g, "path_unlink_file", name), ==, OK);
        }
        if (used < 500)
            break;
    }
    for (unsigned k = 0; k < 600; k++)
        CHECK_INT(l->seen[k], ==, 1);
    free(l);
    listing *again = wh_xnew(listing);
    list_all(g, DIR_FD, 500, again); /* from 0 means anew */
    CHECK_INT(again->entries, ==, 2);
    free(again);
}

TEST(readdir_refuses)
{
    auto_guest *g = guest_new(NULL);
    CHECK_INT(CALL(g, "fd_readdir", 0, BUF_AT, 100, INT64_C(0), RET_AT), ==, EBADF_);
    CHECK_INT(CALL(g, "fd_readdir", DIR_FD, 65535, 100, INT64_C(0), RET_AT), ==, TRAPPED);
    CHECK_INT(CALL(g, "fd_readdir", DIR_FD, BUF_AT, 0, INT64_C(0), RET_AT), ==, OK);
    CHECK_INT(guest_u32(g, RET_AT), ==, 0);
    CHECK_INT(CALL(g, "fd_readdir", DIR_FD, BUF_AT, 10, INT64_C(0), RET_AT), ==, OK);
    CHECK_INT(guest_u32(g, RET_AT), ==, 10); /* half an entry */
    CHECK_INT(CALL(g, "fd_readdir", DIR_FD, BUF_AT, 100, INT64_C(-5), RET_AT), ==, EINVAL_);
    host_write(g, "bad\xff", "");
    int rc = CALL(g, "fd_readdir", DIR_FD, BUF_AT, 4096, INT64_C(0), RET_AT);
    if (rc == OK) { /* what came before it is told first */
        listing *l = wh_xnew(listing);
        take_entries(g, guest_u32(g, RET_AT), l);
        rc = CALL(g, "fd_readdir", DIR_FD, BUF_AT, 4096, (int64_t)l->last, RET_AT);
        free(l);
    }
    CHECK_INT(rc, ==, EILSEQ_);
}

TEST(the_first_wasi_had_other_layouts)
{
    auto_guest *g = guest_new(NULL);
    int fd;
    host_write(g, "f", "12345");
    CHECK_INT(open_at(g, 0, "f", 0, RW, 0, &fd), ==, OK);
    g->module = "wasi_unstable";
    CHECK_INT(CALL(g, "fd_seek", fd, 2, 2, 8), ==, OK); /* 2 is SET there */
    CHECK_INT(guest_u64(g, 8), ==, 2);
    CHECK_INT(CALL(g, "fd_seek", fd, 0, 1, 8), ==, OK); /* 1 is END */
    CHECK_INT(guest_u64(g, 8), ==, 5);
    CHECK_INT(CALL(g, "fd_filestat_get", fd, 200), ==, OK);
    CHECK_INT(guest_u32(g, 220), ==, 1); /* nlink has 32 bits */
    CHECK_INT(guest_u64(g, 224), ==, 5);
}
