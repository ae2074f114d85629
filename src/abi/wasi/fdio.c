/* SPDX-License-Identifier: Apache-2.0 */
/* Reading and writing. One system call each on files; on pipes, terminals and sockets one wait before, which
 * a stop request ends. */
#include "abi/wasi/private.h"

#include <fcntl.h>

static int wait_for(wasi_ctx *c, int fd, short events)
{
    return wasi_wait_for(c, fd, events) == WASI_EXIT ? WASI_ENDED : 0;
}

static bool is_ready(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    return ppoll(&p, 1, &(struct timespec){0}, NULL) != 0;
}

static int until_ready(wasi_ctx *c, const wasi_fd *d, short events)
{
    if (d->nonblock)
        return is_ready(d->fd, events) ? 0 : -EAGAIN;
    return wait_for(c, d->fd, events);
}

/* What errno says after a read or a write: 0 to do it again. */
static int again(wasi_ctx *c, const wasi_fd *d)
{
    if (errno == EINTR)
        return wasi_interrupted(c) ? WASI_ENDED : 0;
    return errno == EAGAIN && !d->nonblock ? 0 : -errno;
}

int wasi_read_waiting(wasi_ctx *c, const wasi_fd *d, const struct iovec *iov, int n, size_t *ret)
{
    bool file = d->kind == KIND_FILE || d->kind == KIND_UNRESOLVED;
    /* Sockets are non-blocking at the host, and a file seldom is anything but a file: these are tried first. */
    bool try_now = d->ready || d->kind == KIND_SOCKET || (file && !d->nonblock);

    for (;; try_now = false) {
        int rc = try_now ? 0 : until_ready(c, d, POLLIN);
        if (rc < 0)
            return rc;
        ssize_t got = readv(d->fd, iov, n);
        if (got >= 0) {
            *ret = (size_t)got;
            return 0;
        }
        rc = again(c, d);
        if (rc < 0)
            return rc;
    }
}

int wasi_write_waiting(wasi_ctx *c, const wasi_fd *d, const struct iovec *iov, int n, size_t *ret)
{
    bool try_now = d->kind != KIND_FILE || !d->nonblock || d->ready;

    for (;; try_now = false) {
        int rc = try_now ? 0 : until_ready(c, d, POLLOUT);
        if (rc < 0)
            return rc;
        ssize_t put = writev(d->fd, iov, n);
        if (put >= 0) {
            *ret = (size_t)put;
            return 0;
        }
        rc = again(c, d);
        if (rc < 0)
            return rc;
    }
}

/* 0, or a host error as what the call returns. */
static int guest_rc(int rc)
{
    return rc == WASI_ENDED ? WASI_EXIT : wasi_errno(-rc);
}

/* What a function of the configuration says: it may end the guest. */
static int own_rc(wasi_ctx *c, int rc)
{
    if (rc != -ECANCELED)
        return rc;
    c->frame->exit_code = WASI_STOPPED_EXIT;
    return WASI_ENDED;
}

static int read_stdin(wasi_ctx *c, const struct iovec *iov, int n, size_t *ret)
{
    const wh_wasi_config *config = &c->w->config;
    if (n == 0)
        return 0;
    ssize_t got = config->read(config->read_user, iov->iov_base, iov->iov_len);
    if (got < 0)
        return guest_rc(own_rc(c, (int)got));
    *ret = (size_t)got;
    return 0;
}

static void claim_stop(wasi_ctx *c, const wasi_fd *d)
{
    if (d->kind == KIND_STOP)
        atomic_store_explicit(&c->w->stop_claimed, true, memory_order_relaxed);
}

static int read_any(wasi_ctx *c, wasi_fd *d, const struct iovec *iov, int n, size_t *ret)
{
    int rc;

    switch ((wasi_kind)d->kind) {
    case KIND_STDIN:
        if (c->w->config.read != NULL)
            return read_stdin(c, iov, n, ret);
        return d->fd < 0 || n == 0 ? 0 : guest_rc(wasi_read_waiting(c, d, iov, n, ret));
    case KIND_STOP:
    case KIND_SOCKET:
        claim_stop(c, d);
        return d->fd < 0 || n == 0 ? 0 : guest_rc(wasi_read_waiting(c, d, iov, n, ret));
    case KIND_FILE:
    case KIND_UNRESOLVED:
        if ((n == 0 || d->nonblock) && wasi_fd_resolve(d) != 0)
            return WASI_BADF;
        if (n == 0)
            return d->kind == KIND_DIR ? WASI_BADF : 0;
        rc = wasi_read_waiting(c, d, iov, n, ret);
        return rc == -EISDIR ? WASI_BADF : guest_rc(rc);
    case KIND_FREE:
    case KIND_STDOUT:
    case KIND_DIR:
    case KIND_LISTENER:
    default:
        return WASI_BADF;
    }
}

int wasi_fd_read(wasi_ctx *c, const wh_slot *a)
{
    struct iovec *iov;
    int n;
    size_t got = 0;
    int rc = wasi_get_iovecs(c, (uint32_t)a[1].i32, (uint32_t)a[2].i32, &iov, &n);
    if (rc != 0)
        return rc;
    wasi_fd *d = wasi_fd_get(c, a[0].i32);
    if (d == NULL)
        return WASI_BADF;
    rc = wasi_fd_allows(d, RIGHT_FD_READ);
    if (rc == 0)
        rc = read_any(c, d, iov, n, &got);
    if (rc != 0)
        return rc;
    return wasi_ret_u32(c, (uint32_t)a[3].i32, (uint32_t)got, "size");
}

static void advance(struct iovec **iov, int *n, size_t done)
{
    while (*n > 0 && done >= (*iov)->iov_len) {
        done -= (*iov)->iov_len;
        ++*iov;
        --*n;
    }
    if (*n > 0) {
        (*iov)->iov_base = (char *)(*iov)->iov_base + done;
        (*iov)->iov_len -= done;
    }
}

/* Streams 1 and 2 take everything, whatever it takes: guests seldom look at the count. */
static int write_stream(wasi_ctx *c, const wasi_fd *d, struct iovec *iov, int n, size_t *ret)
{
    const wh_wasi_config *config = &c->w->config;
    size_t done = 0;

    while (n > 0) {
        size_t put = iov->iov_len;
        int rc = 0;
        if (config->write != NULL)
            rc = own_rc(c, config->write(config->write_user, d->stream, iov->iov_base, put));
        else if (d->fd >= 0)
            rc = wasi_write_waiting(c, d, iov, n, &put);
        if (rc < 0 && (done == 0 || rc == WASI_ENDED))
            return guest_rc(rc);
        if (rc < 0)
            break;
        done += put;
        advance(&iov, &n, put);
    }
    *ret = done;
    return 0;
}

static int append(const wasi_fd *d, const struct iovec *iov, int n, off_t offset, size_t *ret)
{
    /* With offset -1 the position follows; otherwise it stays. */
    ssize_t put = pwritev2(d->fd, iov, n, offset, RWF_APPEND);

    if (put < 0 && (errno == EOPNOTSUPP || errno == ENOSYS)) {
        if (lseek(d->fd, 0, SEEK_END) < 0 && errno != ESPIPE)
            return -errno;
        put = writev(d->fd, iov, n);
    }
    if (put < 0)
        return -errno;
    *ret = (size_t)put;
    return 0;
}

static int write_file(wasi_ctx *c, const wasi_fd *d, const struct iovec *iov, int n, size_t *ret)
{
    if (n == 0)
        return d->writable ? 0 : WASI_BADF;
    if (!d->append)
        return guest_rc(wasi_write_waiting(c, d, iov, n, ret));
    for (;;) {
        int rc = append(d, iov, n, -1, ret);
        if (rc != -EINTR)
            return wasi_errno(-rc);
        if (wasi_interrupted(c))
            return WASI_EXIT;
    }
}

static int write_any(wasi_ctx *c, const wasi_fd *d, struct iovec *iov, int n, size_t *ret)
{
    switch ((wasi_kind)d->kind) {
    case KIND_STDOUT:
        return write_stream(c, d, iov, n, ret);
    case KIND_SOCKET:
        return n == 0 ? 0 : guest_rc(wasi_write_waiting(c, d, iov, n, ret));
    case KIND_FILE:
        return write_file(c, d, iov, n, ret);
    case KIND_FREE:
    case KIND_STDIN:
    case KIND_UNRESOLVED: /* opened for reading */
    case KIND_DIR:
    case KIND_LISTENER:
    case KIND_STOP:
    default:
        return WASI_BADF;
    }
}

int wasi_fd_write(wasi_ctx *c, const wh_slot *a)
{
    struct iovec *iov;
    int n;
    size_t put = 0;
    int rc = wasi_get_iovecs(c, (uint32_t)a[1].i32, (uint32_t)a[2].i32, &iov, &n);
    if (rc != 0)
        return rc;
    const wasi_fd *d = wasi_fd_get(c, a[0].i32);
    if (d == NULL)
        return WASI_BADF;
    rc = wasi_fd_allows(d, RIGHT_FD_WRITE);
    if (rc == 0)
        rc = write_any(c, d, iov, n, &put);
    if (rc != 0)
        return rc;
    return wasi_ret_u32(c, (uint32_t)a[3].i32, (uint32_t)put, "size");
}

/* What fd_pread and fd_pwrite share: the buffers, then the descriptor. Streams cannot be sought. */
static int positioned(wasi_ctx *c, const wh_slot *a, wasi_kind stream, int right, wasi_fd **ret_d,
                      struct iovec **ret_iov, int *ret_n)
{
    int rc = wasi_get_iovecs(c, (uint32_t)a[1].i32, (uint32_t)a[2].i32, ret_iov, ret_n);
    if (rc != 0)
        return rc;
    wasi_fd *d = wasi_fd_get(c, a[0].i32);
    if (d == NULL)
        return WASI_BADF;
    if (d->kind == stream || d->kind == KIND_SOCKET)
        return WASI_SPIPE;
    if (d->kind != KIND_FILE && d->kind != KIND_UNRESOLVED)
        return WASI_BADF;
    *ret_d = d;
    return wasi_fd_allows(d, right);
}

int wasi_fd_pread(wasi_ctx *c, const wh_slot *a)
{
    wasi_fd *d;
    struct iovec *iov;
    int n;
    int rc = positioned(c, a, KIND_STDIN, RIGHT_FD_READ, &d, &iov, &n);
    if (rc != 0)
        return rc;
    ssize_t got = preadv(d->fd, iov, n, (off_t)a[3].i64);
    if (got < 0)
        return errno == EISDIR ? WASI_BADF : wasi_errno(errno);
    return wasi_ret_u32(c, (uint32_t)a[4].i32, (uint32_t)got, "size");
}

int wasi_fd_pwrite(wasi_ctx *c, const wh_slot *a)
{
    wasi_fd *d;
    struct iovec *iov;
    int n;
    size_t put = 0;
    int rc = positioned(c, a, KIND_STDOUT, RIGHT_FD_WRITE, &d, &iov, &n);
    if (rc != 0)
        return rc;
    if (!d->writable)
        return WASI_BADF;
    if (d->append) { /* Linux appends in pwrite too, and so does Wasmtime */
        rc = append(d, iov, n, 0, &put);
        if (rc < 0)
            return wasi_errno(-rc);
    } else {
        ssize_t sent = pwritev(d->fd, iov, n, (off_t)a[3].i64);
        if (sent < 0)
            return wasi_errno(errno);
        put = (size_t)sent;
    }
    return wasi_ret_u32(c, (uint32_t)a[4].i32, (uint32_t)put, "size");
}

static int seekable(wasi_ctx *c, int32_t n, int right, wasi_fd **ret)
{
    const wasi_fd *d = wasi_fd_get(c, n);
    if (d != NULL &&
        (d->kind == KIND_STDIN || d->kind == KIND_STDOUT || d->kind == KIND_SOCKET || d->kind == KIND_STOP))
        return WASI_SPIPE;
    return wasi_fd_file(c, n, right, ret);
}

int wasi_fd_seek(wasi_ctx *c, const wh_slot *a)
{
    static const int whences[2][3] = {{SEEK_SET, SEEK_CUR, SEEK_END}, {SEEK_CUR, SEEK_END, SEEK_SET}};
    wasi_fd *d;
    int rc = seekable(c, a[0].i32, RIGHT_FD_SEEK, &d);
    if (rc != 0)
        return rc;
    off_t at = lseek(d->fd, (off_t)a[1].i64, whences[c->call->p0 ? 1 : 0][a[2].i32]);
    if (at < 0)
        return wasi_errno(errno);
    return wasi_ret_u64(c, (uint32_t)a[3].i32, (uint64_t)at, "filesize");
}

int wasi_fd_tell(wasi_ctx *c, const wh_slot *a)
{
    wasi_fd *d;
    int rc = seekable(c, a[0].i32, RIGHT_FD_TELL, &d);
    if (rc != 0)
        return rc;
    off_t at = lseek(d->fd, 0, SEEK_CUR);
    if (at < 0)
        return wasi_errno(errno);
    return wasi_ret_u64(c, (uint32_t)a[1].i32, (uint64_t)at, "filesize");
}
