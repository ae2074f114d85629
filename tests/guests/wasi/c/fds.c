/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that is done to descriptors. */
#include "wasi.h"

static char buf[256];
static uint32_t n;
static uint64_t at;

static uint32_t open_file(const char *path, int oflags, uint64_t rights, int fdflags)
{
    uint32_t fd = 999;
    int rc = w_path_open(ROOT, 0, path, (uint32_t)strlen(path), oflags, rights, 0, fdflags, &fd);
    printf("open %s %d: %d, descriptor %u\n", path, oflags, rc, fd);
    return fd;
}

static int rd(uint32_t fd, uint32_t want)
{
    iov v = {buf, want};
    n = 0;
    int rc = w_fd_read(fd, &v, 1, &n);
    printf("  read %u from %u: %d, %u bytes '%.*s'\n", want, fd, rc, n, rc == 0 ? (int)n : 0, buf);
    return rc;
}

static int wr(uint32_t fd, const char *s)
{
    iov v = {(char *)s, (uint32_t)strlen(s)};
    n = 0;
    int rc = w_fd_write(fd, &v, 1, &n);
    printf("  write '%s' to %u: %d, %u bytes\n", s, fd, rc, n);
    return rc;
}

static void pos(uint32_t fd)
{
    at = 777;
    int rc = w_fd_tell(fd, &at);
    printf("  tell %u: %d, %llu\n", fd, rc, at);
}

static void seek(uint32_t fd, int64_t offset, int whence)
{
    at = 777;
    int rc = w_fd_seek(fd, offset, whence, &at);
    printf("  seek %u %lld %d: %d, %llu\n", fd, offset, whence, rc, at);
}

static void fdstat(uint32_t fd)
{
    w_fdstat s = {0};
    int rc = w_fd_fdstat_get(fd, &s);
    printf("fdstat %u: %d, type %u flags %u base %llx inheriting %llx\n", fd, rc, s.type, s.flags, s.base,
           s.inheriting);
}

static void stat(uint32_t fd)
{
    w_stat s = {0};
    int rc = w_fd_filestat_get(fd, &s);
    printf("filestat %u: %d, type %u nlink %llu size %llu atim %llu mtim %llu\n", fd, rc, s.type,
           s.type == 3 ? 0 : s.nlink, s.type == 3 ? 0 : s.size, s.atim < 5000000000000ull ? s.atim : 0,
           s.mtim < 5000000000000ull ? s.mtim : 0);
}

static void files(void)
{
    uint32_t fd = open_file("f", CREAT, RW, 0);
    wr(fd, "hello world");
    pos(fd);
    seek(fd, 0, 0);
    rd(fd, 5);
    rd(fd, 100);
    rd(fd, 1);
    rd(fd, 0);
    seek(fd, -3, 2);
    seek(fd, -3, 1);
    seek(fd, -100, 1);
    seek(fd, -100, 2);
    seek(fd, -1, 0);
    seek(fd, 5, 1);
    seek(fd, 1000, 0);
    rd(fd, 10);
    seek(fd, 0, 0);
    iov v = {buf, 4};
    T(w_fd_pread(fd, &v, 1, 6, &n));
    T(w_fd_pread(fd, &v, 1, 600, &n));
    printf("%u\n", n);
    T(w_fd_pwrite(fd, &(iov){"WORLD", 5}, 1, 6, &n));
    pos(fd);
    rd(fd, 100);
    T(w_fd_filestat_set_size(fd, 3));
    stat(fd);
    pos(fd);
    wr(fd, "x");
    stat(fd);
    T(w_fd_filestat_set_times(fd, 1000, 2000, 5));
    stat(fd);
    T(w_fd_filestat_set_times(fd, 0, 0, 3));
    T(w_fd_filestat_set_times(fd, 0, 0, 12));
    T(w_fd_filestat_set_times(fd, 0, 0, 0));
    stat(fd);
    T(w_fd_allocate(fd, 0, 100));
    T(w_fd_filestat_set_size(fd, 4)); /* whoever has it grew the file */
    for (uint32_t advice = 0; advice < 6; advice++)
        T(w_fd_advise(fd, 0, 10, advice));
    T(w_fd_sync(fd));
    T(w_fd_datasync(fd));
    fdstat(fd);
    T(w_fd_fdstat_set_flags(fd, APPEND));
    fdstat(fd);
    seek(fd, 0, 0);
    wr(fd, "end");
    pos(fd);
    T(w_fd_pwrite(fd, &(iov){"more", 4}, 1, 0, &n));
    pos(fd);
    T(w_fd_fdstat_set_flags(fd, NONBLOCK));
    fdstat(fd);
    T(w_fd_fdstat_set_flags(fd, DSYNC));
    T(w_fd_fdstat_set_flags(fd, RSYNC));
    T(w_fd_fdstat_set_flags(fd, SYNC));
    T(w_fd_fdstat_set_rights(fd, READ, 0));
    T(w_fd_close(fd));
    T(w_fd_close(fd));
    rd(fd, 1);
    wr(fd, "x");
    pos(fd);
    stat(fd);
    fdstat(fd);
}

static void directions(void)
{
    uint32_t in = open_file("f", 0, READ, 0), out = open_file("f", 0, WRITE, 0),
             none = open_file("f", 0, 0, 0);
    wr(in, "x");
    rd(out, 1);
    rd(none, 1);
    wr(none, "x");
    fdstat(in);
    fdstat(out);
    fdstat(none);
    T(w_fd_filestat_set_size(in, 1));
    T(w_fd_sync(in));
    T(w_fd_close(in));
    T(w_fd_close(none));
    T(w_fd_close(out));
}

static void folders(void)
{
    T(w_path_create_directory(ROOT, S("d")));
    uint32_t d = open_file("d", DIRECTORY, READ, 0), lazy = open_file("d", 0, READ, 0);
    const uint32_t all[] = {ROOT, d, lazy};
    for (size_t i = 0; i < 3; i++) {
        uint32_t fd = all[i];
        fdstat(fd);
        stat(fd);
        rd(fd, 1);
        wr(fd, "x");
        pos(fd);
        seek(fd, 0, 0);
        T(w_fd_sync(fd));
        T(w_fd_datasync(fd));
        T(w_fd_advise(fd, 0, 0, 0));
        T(w_fd_allocate(fd, 0, 1));
        T(w_fd_filestat_set_size(fd, 1));
        T(w_fd_fdstat_set_flags(fd, 0));
        T(w_fd_pread(fd, &(iov){buf, 1}, 1, 0, &n));
        T(w_fd_pwrite(fd, &(iov){buf, 1}, 1, 0, &n));
        T(w_fd_filestat_set_times(fd, 3000, 4000, 5));
        stat(fd);
    }
    T(w_path_remove_directory(ROOT, S("d")));
}

static void streams(void)
{
    for (uint32_t fd = 0; fd < 3; fd++) {
        fdstat(fd);
        stat(fd);
        pos(fd);
        seek(fd, 0, 1);
        T(w_fd_sync(fd));
        T(w_fd_advise(fd, 0, 0, 0));
        T(w_fd_allocate(fd, 0, 1));
        T(w_fd_filestat_set_size(fd, 1));
        T(w_fd_filestat_set_times(fd, 0, 0, 5));
        T(w_fd_fdstat_set_flags(fd, 0));
        T(w_fd_fdstat_set_rights(fd, 0, 0));
        T(w_fd_pread(fd, &(iov){buf, 1}, 1, 0, &n));
        T(w_fd_pwrite(fd, &(iov){buf, 1}, 1, 0, &n));
        T(w_sock_accept(fd, 0, &n));
        T(w_sock_shutdown(fd, 1));
    }
    rd(1, 1);
    wr(0, "x");
    rd(0, 5);
    rd(0, 100);
    rd(0, 100);
    wr(2, "to standard error\n");
}

static void preopens(void)
{
    uint32_t pre[2];
    for (uint32_t fd = 0; fd < 7; fd++) {
        memset(pre, 0, sizeof(pre));
        memset(buf, 0, sizeof(buf));
        int rc = w_fd_prestat_get(fd, pre);
        int name = w_fd_prestat_dir_name(fd, buf, pre[1]);
        printf("preopen %u: %d %u, %d '%s'\n", fd, rc, pre[1], name, buf);
    }
    T(w_fd_prestat_dir_name(ROOT, buf, 0));
    T(w_fd_prestat_dir_name(RO, buf, 2));
    T(w_fd_prestat_dir_name(RO, buf, 100));
    fdstat(RO);
}

static void numbers(void)
{
    uint32_t fds[6];
    for (int i = 0; i < 6; i++)
        fds[i] = open_file("f", 0, READ, 0);
    T(w_fd_close(fds[1]));
    T(w_fd_close(fds[4]));
    T(w_fd_close(fds[2]));
    for (int i = 0; i < 4; i++)
        open_file("f", 0, READ, 0);
    T(w_fd_renumber(fds[0], 200));
    T(w_fd_renumber(200, fds[0]));
    T(w_fd_renumber(fds[0], fds[0]));
    rd(fds[0], 2);
    T(w_fd_renumber(fds[0], fds[5]));
    pos(fds[5]);
    pos(fds[0]);
    open_file("f", 0, READ, 0);
    T(w_fd_renumber(fds[5], 0));
    pos(0);
    T(w_fd_close(2));
    T(w_fd_renumber(fds[3], 2));
    T(w_fd_close(RO));
    open_file("f", 0, READ, 0);
    T(w_fd_close(4000000000u));
}

int main(void)
{
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    preopens();
    files();
    directions();
    folders();
    streams();
    numbers();
    return 3;
}
