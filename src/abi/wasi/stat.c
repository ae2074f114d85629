/* SPDX-License-Identifier: Apache-2.0 */
/* Attributes of descriptors, and what else works on the descriptor itself. */
#include "abi/wasi/private.h"

#include <fcntl.h>

int wasi_fd_fdstat_get(wasi_ctx *c, const wh_slot *a)
{
    uint32_t at = (uint32_t)a[1].i32;
    uint64_t base, inheriting;
    wasi_fd *d = wasi_fd_get(c, a[0].i32);
    if (d == NULL)
        return WASI_BADF;
    int rc = wasi_fd_resolve(d);
    if (rc != 0)
        return rc;
    wasi_fd_rights(d, &base, &inheriting);
    uint16_t flags =
        (uint16_t)((d->append ? WASI_FDFLAG_APPEND : 0) | (d->nonblock ? WASI_FDFLAG_NONBLOCK : 0));
    c->writing = "fdstat";
    if (wasi_put_u8(c, at, d->filetype) < 0 || wasi_put_u16(c, (uint64_t)at + 2, flags) < 0 ||
        wasi_put_u64(c, (uint64_t)at + 8, base) < 0)
        return WASI_TRAP;
    return wasi_put_u64(c, (uint64_t)at + 16, inheriting);
}

int wasi_fd_fdstat_set_flags(wasi_ctx *c, const wh_slot *a)
{
    uint32_t flags = (uint32_t)a[1].i32;
    wasi_fd *d = wasi_fd_get(c, a[0].i32);
    if (d == NULL)
        return WASI_BADF;
    int rc = wasi_fd_resolve(d);
    if (rc != 0)
        return rc;
    if (d->kind != KIND_FILE && d->kind != KIND_SOCKET && d->kind != KIND_LISTENER && d->kind != KIND_STOP)
        return WASI_BADF;
    rc = wasi_fd_allows(d, RIGHT_FD_FDSTAT_SET_FLAGS);
    if (rc != 0)
        return rc;
    if ((flags & (WASI_FDFLAG_DSYNC | WASI_FDFLAG_RSYNC | WASI_FDFLAG_SYNC)) != 0)
        return WASI_INVAL;
    d->append = d->kind == KIND_FILE && (flags & WASI_FDFLAG_APPEND) != 0;
    d->nonblock = (flags & WASI_FDFLAG_NONBLOCK) != 0;
    return WASI_SUCCESS;
}

/* Rights can be given up and never come back, as the specification has it (Wasmtime: ENOTSUP). */
int wasi_fd_fdstat_set_rights(wasi_ctx *c, const wh_slot *a)
{
    uint64_t base, inheriting;
    uint64_t want_base = (uint64_t)a[1].i64, want_inheriting = (uint64_t)a[2].i64;
    wasi_fd *d = wasi_fd_get(c, a[0].i32);
    if (d == NULL || d->kind == KIND_STDIN || d->kind == KIND_STDOUT)
        return WASI_BADF;
    int rc = wasi_fd_resolve(d);
    if (rc != 0)
        return rc;
    wasi_fd_rights(d, &base, &inheriting);
    if ((want_base & ~base) != 0 || (want_inheriting & ~inheriting) != 0)
        return WASI_NOTCAPABLE;
    d->dropped = WASI_RIGHTS_ALL & ~want_base;
    d->dropped_inheriting = WASI_RIGHTS_ALL & ~want_inheriting;
    return WASI_SUCCESS;
}

static uint64_t ns_of(struct timespec ts)
{
    return ts.tv_sec < 0 ? 0 : (uint64_t)ts.tv_sec * WH_SEC + (uint64_t)ts.tv_nsec;
}

int wasi_ret_filestat(wasi_ctx *c, uint32_t at32, const struct stat *st)
{
    uint64_t at = at32;

    c->writing = "filestat";
    if (wasi_put_u64(c, at, st->st_dev) < 0 || wasi_put_u64(c, at + 8, st->st_ino) < 0 ||
        wasi_put_u8(c, at + 16, (uint8_t)wasi_filetype_of(st->st_mode)) < 0)
        return WASI_TRAP;
    if (c->call->p0 ? wasi_put_u32(c, at + 20, (uint32_t)st->st_nlink) < 0
                    : wasi_put_u64(c, at + 24, st->st_nlink) < 0)
        return WASI_TRAP;
    at += c->call->p0 ? 24 : 32;
    if (wasi_put_u64(c, at, (uint64_t)st->st_size) < 0 || wasi_put_u64(c, at + 8, ns_of(st->st_atim)) < 0 ||
        wasi_put_u64(c, at + 16, ns_of(st->st_mtim)) < 0)
        return WASI_TRAP;
    return wasi_put_u64(c, at + 24, ns_of(st->st_ctim));
}

/* Of streams the guest learns only whether they are terminals; of sockets, that they are. */
static struct stat plain_stat(const wasi_fd *d)
{
    static const mode_t modes[] = {[WASI_FILETYPE_CHAR] = S_IFCHR, [WASI_FILETYPE_STREAM] = 0};
    return (struct stat){.st_mode = d->filetype < WH_ARRAY_LEN(modes) ? modes[d->filetype] : 0};
}

int wasi_fd_filestat_get(wasi_ctx *c, const wh_slot *a)
{
    struct stat st;
    uint32_t at = (uint32_t)a[1].i32;
    const wasi_fd *d = wasi_fd_get(c, a[0].i32);
    if (d == NULL)
        return WASI_BADF;
    int rc = wasi_fd_allows(d, RIGHT_FD_FILESTAT_GET);
    if (rc != 0 && d->kind != KIND_STDIN && d->kind != KIND_STDOUT)
        return rc;
    if (d->kind != KIND_DIR && d->kind != KIND_FILE && d->kind != KIND_UNRESOLVED) {
        st = plain_stat(d);
        rc = wasi_ret_filestat(c, at, &st);
        if (rc == 0 && d->filetype == WASI_FILETYPE_STREAM)
            rc = wasi_put_u8(c, (uint64_t)at + 16, WASI_FILETYPE_STREAM);
        return rc;
    }
    if (fstat(d->fd, &st) < 0)
        return wasi_errno(errno);
    return wasi_ret_filestat(c, at, &st);
}

int wasi_fd_filestat_set_size(wasi_ctx *c, const wh_slot *a)
{
    wasi_fd *d;
    int rc = wasi_fd_file(c, a[0].i32, RIGHT_FD_FILESTAT_SET_SIZE, &d);
    if (rc != 0)
        return rc;
    if (d->read_only)
        return WASI_PERM;
    return ftruncate(d->fd, (off_t)a[1].i64) < 0 ? wasi_errno(errno) : WASI_SUCCESS;
}

static int one_time(uint64_t ns, bool set, bool now, struct timespec *ret)
{
    if (set && now)
        return WASI_INVAL;
    *ret = (struct timespec){.tv_nsec = now ? UTIME_NOW : UTIME_OMIT};
    if (set)
        *ret = (struct timespec){.tv_sec = (time_t)(ns / WH_SEC), .tv_nsec = (long)(ns % WH_SEC)};
    return 0;
}

int wasi_times(const wh_slot *atim, const wh_slot *mtim, uint32_t flags, struct timespec ret[2])
{
    int rc = one_time((uint64_t)atim->i64, (flags & 1) != 0, (flags & 2) != 0, &ret[0]);
    return rc != 0 ? rc : one_time((uint64_t)mtim->i64, (flags & 4) != 0, (flags & 8) != 0, &ret[1]);
}

int wasi_set_times(int fd, const struct timespec times[2])
{
    if (utimensat(fd, "", times, AT_EMPTY_PATH) == 0 || futimens(fd, times) == 0)
        return WASI_SUCCESS;
    return wasi_errno(errno);
}

int wasi_fd_filestat_set_times(wasi_ctx *c, const wh_slot *a)
{
    struct timespec times[2];
    int rc = wasi_times(&a[1], &a[2], (uint32_t)a[3].i32, times);
    if (rc != 0)
        return rc;
    const wasi_fd *d = wasi_fd_get(c, a[0].i32);
    if (d == NULL || (d->kind != KIND_FILE && d->kind != KIND_UNRESOLVED && d->kind != KIND_DIR))
        return WASI_BADF;
    rc = wasi_fd_allows(d, RIGHT_FD_FILESTAT_SET_TIMES);
    if (rc != 0)
        return rc;
    return d->read_only ? WASI_PERM : wasi_set_times(d->fd, times);
}

int wasi_fd_advise(wasi_ctx *c, const wh_slot *a)
{
    static const int advices[] = {POSIX_FADV_NORMAL,   POSIX_FADV_SEQUENTIAL, POSIX_FADV_RANDOM,
                                  POSIX_FADV_WILLNEED, POSIX_FADV_DONTNEED,   POSIX_FADV_NOREUSE};
    wasi_fd *d;
    int rc = wasi_fd_file(c, a[0].i32, RIGHT_FD_ADVISE, &d);
    if (rc != 0)
        return rc;
    return wasi_errno(posix_fadvise(d->fd, (off_t)a[1].i64, (off_t)a[2].i64, advices[a[3].i32]));
}

int wasi_fd_allocate(wasi_ctx *c, const wh_slot *a)
{
    wasi_fd *d;
    int rc = wasi_fd_file(c, a[0].i32, RIGHT_FD_ALLOCATE, &d);
    if (rc != 0)
        return rc;
    if (d->read_only)
        return WASI_PERM;
    if (!d->writable)
        return WASI_BADF;
    /* Not posix_fallocate: that one writes a byte per block where the file system cannot do it. */
    return fallocate(d->fd, 0, (off_t)a[1].i64, (off_t)a[2].i64) < 0 ? wasi_errno(errno) : WASI_SUCCESS;
}

int wasi_fd_sync(wasi_ctx *c, const wh_slot *a)
{
    wasi_fd *d;
    int rc = wasi_fd_file(c, a[0].i32, RIGHT_FD_SYNC, &d);
    if (rc != 0)
        return rc;
    return fsync(d->fd) < 0 ? wasi_errno(errno) : WASI_SUCCESS;
}

int wasi_fd_datasync(wasi_ctx *c, const wh_slot *a)
{
    wasi_fd *d;
    int rc = wasi_fd_file(c, a[0].i32, RIGHT_FD_DATASYNC, &d);
    if (rc != 0)
        return rc;
    return fdatasync(d->fd) < 0 ? wasi_errno(errno) : WASI_SUCCESS;
}

int wasi_fd_close(wasi_ctx *c, const wh_slot *a)
{
    if (wasi_fd_get(c, a[0].i32) == NULL)
        return WASI_BADF;
    wasi_fd_shut(c->w, a[0].i32);
    return WASI_SUCCESS;
}

int wasi_fd_renumber(wasi_ctx *c, const wh_slot *a)
{
    wasi_fd *from = wasi_fd_get(c, a[0].i32), *to = wasi_fd_get(c, a[1].i32);

    if (from == NULL || to == NULL)
        return WASI_BADF;
    if (from == to)
        return WASI_SUCCESS;
    wasi_fd_shut(c->w, a[1].i32);
    wasi_fd_take(c->w, a[1].i32);
    *to = *from;
    wasi_fd_unreserve(c->w, a[0].i32);
    return WASI_SUCCESS;
}

int wasi_fd_prestat_get(wasi_ctx *c, const wh_slot *a)
{
    uint32_t at = (uint32_t)a[1].i32;
    const wasi_fd *d = wasi_fd_get(c, a[0].i32);
    if (d == NULL || d->preopen == NULL)
        return WASI_BADF;
    c->writing = "prestat";
    if (wasi_put_u8(c, at, 0) < 0)
        return WASI_TRAP;
    return wasi_put_u32(c, (uint64_t)at + 4, (uint32_t)strlen(d->preopen));
}

int wasi_fd_prestat_dir_name(wasi_ctx *c, const wh_slot *a)
{
    const wasi_fd *d = wasi_fd_get(c, a[0].i32);
    if (d == NULL)
        return WASI_BADF;
    if (d->preopen == NULL)
        return WASI_NOTDIR;
    size_t n = strlen(d->preopen);
    if (n > (uint32_t)a[2].i32)
        return WASI_NAMETOOLONG;
    return wasi_put_bytes(c, (uint32_t)a[1].i32, d->preopen, n);
}
