/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets: accept on listeners that were passed in, and talk on what they gave. Wasmtime has none of it in
 * preview 1; the meaning is POSIX's. No sendmsg and no recvmsg: a runner's seccomp filter has neither. */
#include "abi/wasi/private.h"

#include <sys/socket.h>

enum { RECV_PEEK = 1, RECV_WAITALL = 2 };

static int socket_of(wasi_ctx *c, int32_t n, wasi_kind kind, int right, wasi_fd **ret)
{
    wasi_fd *d = wasi_fd_get(c, n);
    if (d == NULL)
        return WASI_BADF;
    if (d->kind != KIND_SOCKET && d->kind != KIND_LISTENER)
        return WASI_NOTSOCK;
    if (d->kind != kind)
        return kind == KIND_LISTENER ? WASI_INVAL : WASI_NOTCONN;
    *ret = d;
    return wasi_fd_allows(d, right);
}

static int accept_waiting(wasi_ctx *c, const wasi_fd *d, int *ret)
{
    for (;;) {
        int fd = accept4(d->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            *ret = fd;
            return 0;
        }
        if (errno == EAGAIN && !d->nonblock) {
            if (wasi_wait_for(c, d->fd, POLLIN) == WASI_EXIT)
                return WASI_EXIT;
        } else if (errno == EINTR) {
            if (wasi_interrupted(c))
                return WASI_EXIT;
        } else if (errno != ECONNABORTED || d->nonblock) {
            return wasi_errno(errno);
        }
    }
}

int wasi_sock_accept(wasi_ctx *c, const wh_slot *a)
{
    wasi_fd *d;
    int fd;
    uint32_t flags = (uint32_t)a[1].i32;
    int rc = socket_of(c, a[0].i32, KIND_LISTENER, RIGHT_SOCK_ACCEPT, &d);
    if (rc != 0)
        return rc;
    if ((flags & ~(uint32_t)WASI_FDFLAG_NONBLOCK) != 0)
        return WASI_INVAL;
    int32_t number = wasi_fd_reserve(c->w);
    if (number < 0)
        return WASI_MFILE;
    d = wasi_fd_get(c, a[0].i32); /* the table may have moved */
    rc = accept_waiting(c, d, &fd);
    if (rc != 0) {
        wasi_fd_unreserve(c->w, number);
        return rc;
    }
    c->w->fds[number] = (wasi_fd){
        .kind = KIND_SOCKET,
        .filetype = WASI_FILETYPE_STREAM,
        .fd = fd,
        .readable = true,
        .writable = true,
        .nonblock = (flags & WASI_FDFLAG_NONBLOCK) != 0,
        .dropped = d->dropped_inheriting,
    };
    return wasi_ret_u32(c, (uint32_t)a[2].i32, (uint32_t)number, "fd");
}

static int peek(wasi_ctx *c, const wasi_fd *d, const struct iovec *iov, size_t *ret)
{
    for (;;) {
        ssize_t n = recv(d->fd, iov->iov_base, iov->iov_len, MSG_PEEK);
        if (n >= 0) {
            *ret = (size_t)n;
            return 0;
        }
        if (errno == EAGAIN && !d->nonblock) {
            if (wasi_wait_for(c, d->fd, POLLIN) == WASI_EXIT)
                return WASI_EXIT;
        } else if (errno != EINTR) {
            return wasi_errno(errno);
        } else if (wasi_interrupted(c)) {
            return WASI_EXIT;
        }
    }
}

/* One read, or with RECV_WAITALL as many as fill the first buffer. */
static int receive(wasi_ctx *c, const wasi_fd *d, struct iovec *iov, int n, bool all, size_t *ret)
{
    size_t done = 0;

    do {
        size_t got = 0;
        int rc = wasi_read_waiting(c, d, iov, all ? 1 : n, &got);
        if (rc == WASI_ENDED)
            return WASI_EXIT;
        if (rc < 0 && done == 0)
            return wasi_errno(-rc);
        if (rc < 0 || got == 0)
            break;
        done += got;
        if (all) {
            iov->iov_base = (char *)iov->iov_base + got;
            iov->iov_len -= got;
        }
    } while (all && iov->iov_len > 0);
    *ret = done;
    return 0;
}

int wasi_sock_recv(wasi_ctx *c, const wh_slot *a)
{
    wasi_fd *d;
    struct iovec *iov;
    int n = 0;
    size_t got = 0;
    uint32_t flags = (uint32_t)a[3].i32;
    int rc = socket_of(c, a[0].i32, KIND_SOCKET, RIGHT_FD_READ, &d);
    if (rc == 0)
        rc = wasi_get_iovecs(c, (uint32_t)a[1].i32, (uint32_t)a[2].i32, &iov, &n);
    if (rc == 0 && n > 0)
        rc = (flags & RECV_PEEK) != 0 ? peek(c, d, iov, &got)
                                      : receive(c, d, iov, n, (flags & RECV_WAITALL) != 0, &got);
    if (rc != 0)
        return rc;
    rc = wasi_ret_u32(c, (uint32_t)a[4].i32, (uint32_t)got, "size");
    c->writing = "roflags";
    return rc < 0 ? rc : wasi_put_u16(c, (uint32_t)a[5].i32, 0);
}

int wasi_sock_send(wasi_ctx *c, const wh_slot *a)
{
    wasi_fd *d;
    struct iovec *iov;
    int n = 0;
    size_t put = 0;
    int rc = socket_of(c, a[0].i32, KIND_SOCKET, RIGHT_FD_WRITE, &d);
    if (rc == 0)
        rc = wasi_get_iovecs(c, (uint32_t)a[1].i32, (uint32_t)a[2].i32, &iov, &n);
    if (rc == 0 && a[3].i32 != 0)
        rc = WASI_INVAL; /* no flag is defined */
    if (rc == 0 && n > 0) {
        rc = wasi_write_waiting(c, d, iov, n, &put);
        rc = rc == WASI_ENDED ? WASI_EXIT : wasi_errno(-rc);
    }
    return rc != 0 ? rc : wasi_ret_u32(c, (uint32_t)a[4].i32, (uint32_t)put, "size");
}

int wasi_sock_shutdown(wasi_ctx *c, const wh_slot *a)
{
    static const int hows[] = {-1, SHUT_RD, SHUT_WR, SHUT_RDWR};
    wasi_fd *d;
    int rc = socket_of(c, a[0].i32, KIND_SOCKET, RIGHT_SOCK_SHUTDOWN, &d);
    if (rc != 0)
        return rc;
    if (a[1].i32 == 0)
        return WASI_INVAL;
    return shutdown(d->fd, hows[a[1].i32]) < 0 ? wasi_errno(errno) : WASI_SUCCESS;
}
