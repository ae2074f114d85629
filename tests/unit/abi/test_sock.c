/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets: a listener that was passed in, and what it accepts. */
#include "base/clock.h"
#include "guest.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>

typedef struct server {
    guest *g;
    struct sockaddr_in addr;
    int fd; /* the guest's listener */
} server;

static server serve(guest *g)
{
    server s = {.g = g, .addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof(s.addr);
    wh_err err = {0};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK_INT(bind(fd, (struct sockaddr *)&s.addr, n), ==, 0);
    CHECK_INT(listen(fd, 8), ==, 0);
    CHECK_INT(getsockname(fd, (struct sockaddr *)&s.addr, &n), ==, 0);
    CHECK_OK(wh_wasi_preopen_listener(g->wasi, fd, &s.fd, &err), &err);
    return s;
}

static int client(const server *s)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK_INT(connect(fd, (const struct sockaddr *)&s->addr, sizeof(s->addr)), ==, 0);
    return fd;
}

static int accept_one(const server *s, int flags)
{
    CHECK_INT(CALL(s->g, "sock_accept", s->fd, flags, RET_AT), ==, OK);
    return (int)guest_u32(s->g, RET_AT);
}

static void vector(guest *g, uint32_t n)
{
    guest_set32(g, IOV_AT, BUF_AT);
    guest_set32(g, IOV_AT + 4, n);
}

static int recv_some(guest *g, int fd, uint32_t n, int flags)
{
    vector(g, n);
    return CALL(g, "sock_recv", fd, IOV_AT, 1, flags, RET_AT, RET_AT + 4);
}

static int send_some(guest *g, int fd, const char *text)
{
    vector(g, guest_put(g, BUF_AT, text));
    return CALL(g, "sock_send", fd, IOV_AT, 1, 0, RET_AT);
}

TEST(accept_receive_send_shut_down)
{
    auto_guest *g = guest_new(NULL);
    server s = serve(g);
    char text[32];
    uint32_t n;
    int c = client(&s), fd = accept_one(&s, 0);
    CHECK_INT(fd, ==, 5);
    CHECK_INT(CALL(g, "fd_fdstat_get", fd, 200), ==, OK);
    CHECK_INT(g->mem[200], ==, 6);
    CHECK_INT(CALL(g, "fd_filestat_get", fd, 200), ==, OK);
    CHECK_INT(g->mem[216], ==, 6);
    CHECK_INT(write(c, "hello", 5), ==, 5);
    CHECK_INT(recv_some(g, fd, 3, 1), ==, OK); /* a peek */
    CHECK_MEM(g->mem + BUF_AT, "hel", 3);
    CHECK_INT(recv_some(g, fd, 20, 0), ==, OK);
    CHECK_INT(guest_u32(g, RET_AT), ==, 5);
    CHECK_MEM(g->mem + BUF_AT, "hello", 5);
    CHECK_INT(send_some(g, fd, "answer"), ==, OK);
    CHECK_INT(write_fd(g, fd, "!"), ==, OK);
    CHECK_INT(recv(c, text, 7, MSG_WAITALL), ==, 7);
    CHECK_MEM(text, "answer!", 7);
    CHECK_INT(CALL(g, "sock_shutdown", fd, 0), ==, EINVAL_);
    CHECK_INT(CALL(g, "sock_shutdown", fd, 2), ==, OK);
    CHECK_INT(read(c, text, 1), ==, 0);
    CHECK_INT(write(c, "x", 1), ==, 1);
    CHECK_INT(read_fd(g, fd, 4, text, &n), ==, OK);
    CHECK_STR(text, "x");
    close(c);
    CHECK_INT(read_fd(g, fd, 4, text, &n), ==, OK);
    CHECK_INT(n, ==, 0);
    CHECK_INT(CALL(g, "fd_seek", fd, 0, 0, 8), ==, ESPIPE_);
    CHECK_INT(CALL(g, "fd_close", fd), ==, OK);
}

TEST(what_is_not_there_yet_is_waited_for_or_refused)
{
    auto_guest *g = guest_new(NULL);
    server s = serve(g);
    pid_t pid = fork();
    if (pid == 0) {
        usleep(20000);
        int c = client(&s);
        usleep(20000);
        _exit(write(c, "abc", 3) == 3 ? usleep(20000), write(c, "def", 3) == 3 ? 0 : 1 : 1);
    }
    int fd = accept_one(&s, 0);
    CHECK_INT(recv_some(g, fd, 6, 2), ==, OK); /* all of it */
    CHECK_INT(guest_u32(g, RET_AT), ==, 6);
    CHECK_MEM(g->mem + BUF_AT, "abcdef", 6);
    CHECK_INT(CALL(g, "fd_fdstat_set_flags", s.fd, NONBLOCK), ==, OK);
    CHECK_INT(CALL(g, "sock_accept", s.fd, 0, RET_AT), ==, EAGAIN_);
    int c = client(&s);
    fd = accept_one(&s, NONBLOCK);
    CHECK_INT(recv_some(g, fd, 6, 0), ==, EAGAIN_);
    CHECK_INT(recv_some(g, fd, 6, 1), ==, EAGAIN_);
    CHECK_INT(CALL(g, "fd_fdstat_get", fd, 200), ==, OK);
    CHECK_INT(g->mem[202], ==, NONBLOCK);
    int rc = OK;
    vector(g, 30000);
    for (int i = 0; i < 10000 && rc == OK; i++)
        rc = CALL(g, "sock_send", fd, IOV_AT, 1, 0, RET_AT);
    CHECK_INT(rc, ==, EAGAIN_);
    close(c);
}

TEST(sockets_are_asked_for)
{
    auto_guest *g = guest_new(NULL);
    server s = serve(g);
    CHECK_INT(CALL(g, "sock_accept", 0, 0, RET_AT), ==, ENOTSOCK_);
    CHECK_INT(CALL(g, "sock_accept", DIR_FD, 0, RET_AT), ==, ENOTSOCK_);
    CHECK_INT(CALL(g, "sock_accept", 50, 0, RET_AT), ==, EBADF_);
    CHECK_INT(CALL(g, "sock_accept", s.fd, APPEND, RET_AT), ==, EINVAL_);
    CHECK_INT(recv_some(g, 1, 1, 0), ==, ENOTSOCK_);
    CHECK_INT(recv_some(g, s.fd, 1, 0), ==, ENOTCONN_);
    CHECK_INT(send_some(g, s.fd, "x"), ==, ENOTCONN_);
    CHECK_INT(send_some(g, 1, "x"), ==, ENOTSOCK_);
    CHECK_INT(send_some(g, 50, "x"), ==, EBADF_);
    CHECK_INT(CALL(g, "sock_shutdown", 1, 1), ==, ENOTSOCK_);
    CHECK_INT(CALL(g, "sock_shutdown", s.fd, 1), ==, ENOTCONN_);
    CHECK_INT(write_fd(g, s.fd, "x"), ==, EBADF_);
    int c = client(&s), fd = accept_one(&s, 0);
    vector(g, 1);
    CHECK_INT(CALL(g, "sock_send", fd, IOV_AT, 1, 1, RET_AT), ==, EINVAL_);
    CHECK_INT(CALL(g, "sock_accept", fd, 0, RET_AT), ==, EINVAL_);
    signal(SIGPIPE, SIG_IGN);
    close(c);
    int rc = OK;
    for (int i = 0; i < 10 && rc == OK; i++) {
        rc = send_some(g, fd, "x");
        usleep(1000);
    }
    CHECK(rc != OK);
}

TEST(listeners_and_sockets_can_be_polled)
{
    auto_guest *g = guest_new(NULL);
    server s = serve(g);
    memset(g->mem + 2048, 0, 96);
    g->mem[2048 + 8] = 1;
    guest_set32(g, 2048 + 16, (uint32_t)s.fd);
    guest_set32(g, 2096 + 16, 1);
    guest_set64(g, 2096 + 24, 5000000);
    CHECK_INT(CALL(g, "poll_oneoff", 2048, 4096, 2, RET_AT), ==, OK);
    CHECK_INT(g->mem[4096 + 10], ==, 0); /* the clock */
    int c = client(&s);
    guest_set64(g, 2096 + 24, UINT64_C(60) * 1000000000);
    CHECK_INT(CALL(g, "poll_oneoff", 2048, 4096, 2, RET_AT), ==, OK);
    CHECK_INT(g->mem[4096 + 10], ==, 1);
    int fd = accept_one(&s, 0);
    guest_set32(g, 2048 + 16, (uint32_t)fd);
    g->mem[2048 + 8] = 2;
    CHECK_INT(CALL(g, "poll_oneoff", 2048, 4096, 1, RET_AT), ==, OK);
    close(c);
}
