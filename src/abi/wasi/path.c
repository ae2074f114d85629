/* SPDX-License-Identifier: Apache-2.0 */
/* Paths. Each is resolved beneath its folder by openat2(RESOLVE_BENEATH): the folder that holds the last
 * component is opened so, and the call itself then sees one name without a slash. What leads outside is
 * EPERM, as in Wasmtime. */
#include "abi/wasi/private.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>

#define BENEATH (RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)

/* EXDEV is the kernel's word for an escape here; elsewhere it means two file systems. */
static int resolve_errno(int rc)
{
    return rc == -EXDEV ? WASI_PERM : wasi_errno(-rc);
}

typedef struct parent {
    int fd;
    bool opened;
    char *base; /* one component, "." at the least */
} parent;

static void parent_done(const parent *p)
{
    if (p->opened)
        close(p->fd);
}
#define auto_parent __attribute__((cleanup(parent_done)))

static void strip_slashes(char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        path[--n] = '\0';
}

/* "a/", "a/.", "a/..", ".." and "/" name a folder by what is in it: the call gets ".". */
static bool wants_whole(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *last = slash == NULL ? path : slash + 1;
    return *last == '\0' || wh_streq(last, "..") || (slash != NULL && wh_streq(last, "."));
}

/* Splits `path` in place. */
static int parent_open(const wasi_fd *dir, char *path, parent *ret)
{
    static char dot[] = ".";
    char *slash = strrchr(path, '/');

    if (wants_whole(path)) {
        ret->base = dot;
    } else if (slash == NULL) {
        *ret = (parent){.fd = dir->fd, .base = path};
        return 0;
    } else if (slash == path) {
        return WASI_PERM; /* "/name" begins outside */
    } else {
        ret->base = slash + 1;
        *slash = '\0';
    }
    int fd = wh_openat2(dir->fd, path, O_PATH | O_DIRECTORY, 0, BENEATH);
    if (fd < 0)
        return resolve_errno(fd);
    ret->fd = fd;
    ret->opened = true;
    return 0;
}

/* The folder and the path of a call, in Wasmtime's order. */
static int dir_and_path(wasi_ctx *c, const wh_slot *a, int right, int buffer, const wh_slot *path,
                        wasi_fd **ret_dir, char **ret_path)
{
    int rc = wasi_fd_dir(c, a->i32, right, ret_dir);
    return rc != 0 ? rc : wasi_get_path(c, (uint32_t)path[0].i32, (uint32_t)path[1].i32, buffer, ret_path);
}

static int host_rc(int rc)
{
    return rc < 0 ? wasi_errno(errno) : WASI_SUCCESS;
}

int wasi_path_create_directory(wasi_ctx *c, const wh_slot *a)
{
    wasi_fd *dir;
    char *path;
    auto_parent parent p = {0};
    int rc = dir_and_path(c, &a[0], RIGHT_PATH_CREATE_DIRECTORY, 0, &a[1], &dir, &path);
    if (rc != 0)
        return rc;
    if (dir->read_only)
        return WASI_PERM;
    strip_slashes(path);
    rc = parent_open(dir, path, &p);
    return rc != 0 ? rc : host_rc(mkdirat(p.fd, p.base, 0777));
}

int wasi_path_remove_directory(wasi_ctx *c, const wh_slot *a)
{
    wasi_fd *dir;
    char *path;
    auto_parent parent p = {0};
    int rc = dir_and_path(c, &a[0], RIGHT_PATH_REMOVE_DIRECTORY, 0, &a[1], &dir, &path);
    if (rc != 0)
        return rc;
    if (dir->read_only)
        return WASI_PERM;
    strip_slashes(path); /* a link is no folder, with or without a slash behind it */
    rc = parent_open(dir, path, &p);
    return rc != 0 ? rc : host_rc(unlinkat(p.fd, p.base, AT_REMOVEDIR));
}

int wasi_path_unlink_file(wasi_ctx *c, const wh_slot *a)
{
    wasi_fd *dir;
    char *path;
    auto_parent parent p = {0};
    int rc = dir_and_path(c, &a[0], RIGHT_PATH_UNLINK_FILE, 0, &a[1], &dir, &path);
    if (rc != 0)
        return rc;
    if (dir->read_only)
        return WASI_PERM;
    rc = parent_open(dir, path, &p);
    return rc != 0 ? rc : host_rc(unlinkat(p.fd, p.base, 0));
}

static bool is_one_name(const char *path)
{
    return strchr(path, '/') == NULL && !wh_streq(path, "..");
}

int wasi_path_filestat_get(wasi_ctx *c, const wh_slot *a)
{
    wasi_fd *dir;
    char *path;
    struct stat st;
    bool follow = (a[1].i32 & WASI_LOOKUP_FOLLOW) != 0;
    int rc = dir_and_path(c, &a[0], RIGHT_PATH_FILESTAT_GET, 0, &a[2], &dir, &path);
    if (rc != 0)
        return rc;
    /* One name needs no walk, unless it is a link that is to be followed. */
    if (is_one_name(path)) {
        if (fstatat(dir->fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
            return wasi_errno(errno);
        if (!follow || !S_ISLNK(st.st_mode))
            return wasi_ret_filestat(c, (uint32_t)a[4].i32, &st);
    }
    auto_close int fd = wh_openat2(dir->fd, path, O_PATH | (follow ? 0 : O_NOFOLLOW), 0, BENEATH);
    if (fd < 0)
        return resolve_errno(fd);
    if (fstat(fd, &st) < 0)
        return wasi_errno(errno);
    return wasi_ret_filestat(c, (uint32_t)a[4].i32, &st);
}

int wasi_path_filestat_set_times(wasi_ctx *c, const wh_slot *a)
{
    wasi_fd *dir;
    char *path;
    struct timespec times[2];
    int rc = wasi_times(&a[4], &a[5], (uint32_t)a[6].i32, times);
    if (rc == 0)
        rc = dir_and_path(c, &a[0], RIGHT_PATH_FILESTAT_SET_TIMES, 0, &a[2], &dir, &path);
    if (rc != 0)
        return rc;
    if (dir->read_only)
        return WASI_PERM;
    if ((a[1].i32 & WASI_LOOKUP_FOLLOW) != 0) {
        auto_close int fd = wh_openat2(dir->fd, path, O_PATH, 0, BENEATH);
        return fd < 0 ? resolve_errno(fd) : wasi_set_times(fd, times);
    }
    auto_parent parent p = {0};
    rc = parent_open(dir, path, &p);
    return rc != 0 ? rc : host_rc(utimensat(p.fd, p.base, times, AT_SYMLINK_NOFOLLOW));
}

/* Both folders and both paths of path_link and path_rename. Nothing moves between a read-only tree and
 * another: a second name would carry the rights of the tree it stands in. */
static int two_paths(wasi_ctx *c, const wh_slot *from, const wh_slot *from_path, int from_right,
                     const wh_slot *to, int to_right, wasi_fd *ret_dirs[2], char *ret_paths[2])
{
    int rc = wasi_fd_dir(c, from->i32, from_right, &ret_dirs[0]);
    if (rc == 0)
        rc = wasi_fd_dir(c, to->i32, to_right, &ret_dirs[1]);
    if (rc == 0)
        rc = wasi_get_path(c, (uint32_t)from_path[0].i32, (uint32_t)from_path[1].i32, 0, &ret_paths[0]);
    if (rc == 0)
        rc = wasi_get_path(c, (uint32_t)to[1].i32, (uint32_t)to[2].i32, 1, &ret_paths[1]);
    if (rc == 0 && (ret_dirs[0]->read_only || ret_dirs[1]->read_only))
        rc = WASI_PERM;
    return rc;
}

int wasi_path_link(wasi_ctx *c, const wh_slot *a)
{
    wasi_fd *dirs[2];
    char *paths[2];
    auto_parent parent from = {0};
    auto_parent parent to = {0};
    int rc = two_paths(c, &a[0], &a[2], RIGHT_PATH_LINK_SOURCE, &a[4], RIGHT_PATH_LINK_TARGET, dirs, paths);
    if (rc != 0)
        return rc;
    if ((a[1].i32 & WASI_LOOKUP_FOLLOW) != 0)
        return WASI_INVAL;
    rc = parent_open(dirs[0], paths[0], &from);
    if (rc == 0)
        rc = parent_open(dirs[1], paths[1], &to);
    return rc != 0 ? rc : host_rc(linkat(from.fd, from.base, to.fd, to.base, 0));
}

int wasi_path_rename(wasi_ctx *c, const wh_slot *a)
{
    wasi_fd *dirs[2];
    char *paths[2];
    auto_parent parent from = {0};
    auto_parent parent to = {0};
    int rc =
        two_paths(c, &a[0], &a[1], RIGHT_PATH_RENAME_SOURCE, &a[3], RIGHT_PATH_RENAME_TARGET, dirs, paths);
    if (rc != 0)
        return rc;
    bool must_be_dir = wh_ends_with(paths[0], "/");
    strip_slashes(paths[0]);
    strip_slashes(paths[1]);
    rc = parent_open(dirs[0], paths[0], &from);
    if (rc == 0)
        rc = parent_open(dirs[1], paths[1], &to);
    if (rc != 0)
        return rc;
    /* The kernel takes a slash behind the old name as "a folder, not a link to one"; the buffer has room for
     * it. */
    if (must_be_dir && from.base[0] != '.')
        memcpy(from.base + strlen(from.base), "/", 2);
    return host_rc(renameat(from.fd, from.base, to.fd, to.base));
}

int wasi_path_symlink(wasi_ctx *c, const wh_slot *a)
{
    wasi_fd *dir;
    char *target, *path;
    auto_parent parent p = {0};
    int rc = wasi_fd_dir(c, a[2].i32, RIGHT_PATH_SYMLINK, &dir);
    if (rc == 0)
        rc = wasi_get_path(c, (uint32_t)a[0].i32, (uint32_t)a[1].i32, 0, &target);
    if (rc == 0)
        rc = wasi_get_path(c, (uint32_t)a[3].i32, (uint32_t)a[4].i32, 1, &path);
    if (rc != 0)
        return rc;
    if (dir->read_only)
        return WASI_PERM;
    /* No call of ours would follow it, but another program on the same volume might. */
    if (target[0] == '/')
        return WASI_PERM;
    rc = parent_open(dir, path, &p);
    return rc != 0 ? rc : host_rc(symlinkat(target, p.fd, p.base));
}

int wasi_path_readlink(wasi_ctx *c, const wh_slot *a)
{
    wasi_fd *dir;
    char *path;
    auto_parent parent p = {0};
    int rc = dir_and_path(c, &a[0], RIGHT_PATH_READLINK, 0, &a[1], &dir, &path);
    if (rc == 0)
        rc = parent_open(dir, path, &p);
    if (rc != 0)
        return rc;
    char *target = c->w->path[1];
    ssize_t n = readlinkat(p.fd, p.base, target, PATH_MAX);
    if (n < 0)
        return wasi_errno(errno);
    if (n > 0 && target[0] == '/')
        return WASI_PERM; /* where the host's tree is, is not the guest's to know */
    if (!wh_utf8_valid(target, (size_t)n))
        return WASI_ILSEQ;
    uint32_t room = (uint32_t)a[4].i32, used = WH_MIN((uint32_t)n, room);
    rc = wasi_put_bytes(c, (uint32_t)a[3].i32, target, used);
    return rc < 0 ? rc : wasi_ret_u32(c, (uint32_t)a[5].i32, used, "size");
}

/* What preview 2 lets through of the flags of preview 1, and what both make of them. */
static int open_flags(uint32_t oflags, uint64_t rights, uint32_t fdflags, int *ret, wasi_fd *d)
{
    bool read = (rights & WASI_RIGHT(RIGHT_FD_READ)) != 0;
    bool write = (rights & WASI_RIGHT(RIGHT_FD_WRITE)) != 0;
    int flags = O_CLOEXEC | O_NOCTTY;

    d->readable = read || !write; /* neither: the kernel wants one */
    if ((oflags & WASI_OFLAG_CREAT) != 0) {
        write = true;
        flags |= O_CREAT | ((oflags & WASI_OFLAG_EXCL) != 0 ? O_EXCL : 0);
    }
    if ((oflags & WASI_OFLAG_TRUNC) != 0) {
        write = true;
        if ((flags & O_EXCL) == 0)
            flags |= O_TRUNC;
    }
    if ((fdflags & (WASI_FDFLAG_SYNC | WASI_FDFLAG_DSYNC | WASI_FDFLAG_RSYNC)) != 0)
        return WASI_NOTSUP;
    if ((oflags & WASI_OFLAG_DIRECTORY) != 0) {
        if ((oflags & (WASI_OFLAG_CREAT | WASI_OFLAG_EXCL | WASI_OFLAG_TRUNC)) != 0)
            return WASI_INVAL;
        flags |= O_DIRECTORY;
    }
    d->writable = write;
    d->append = (fdflags & WASI_FDFLAG_APPEND) != 0;
    d->nonblock = (fdflags & WASI_FDFLAG_NONBLOCK) != 0;
    flags |= write ? (d->readable ? O_RDWR : O_WRONLY) : O_RDONLY;
    *ret = flags | (d->nonblock ? O_NONBLOCK : 0);
    return 0;
}

/* O_DIRECTORY|O_NOFOLLOW on a link is ENOTDIR for the kernel; the guest is told ELOOP, as it is without
 * O_DIRECTORY. */
static int open_error(const wasi_fd *dir, const char *path, int flags, int rc)
{
    struct stat st;

    if (rc == -ENOTDIR && (flags & O_DIRECTORY) != 0 && (flags & O_NOFOLLOW) != 0) {
        auto_close int fd = wh_openat2(dir->fd, path, O_PATH | O_NOFOLLOW, 0, BENEATH);
        if (fd >= 0 && fstat(fd, &st) == 0 && S_ISLNK(st.st_mode))
            return WASI_LOOP;
    }
    return resolve_errno(rc);
}

static int open_dir_of(const wasi_ctx *c, int32_t n, uint32_t oflags, wasi_fd **ret)
{
    wasi_fd *d = wasi_fd_get(c, n);

    if (d == NULL)
        return WASI_BADF;
    int rc = wasi_fd_resolve(d);
    if (rc != 0)
        return rc;
    if (d->kind != KIND_DIR)
        return d->kind == KIND_FILE ? WASI_NOTDIR : WASI_BADF;
    *ret = d;
    rc = wasi_fd_allows(d, RIGHT_PATH_OPEN);
    if (rc == 0 && (oflags & WASI_OFLAG_CREAT) != 0)
        rc = wasi_fd_allows(d, RIGHT_PATH_CREATE_FILE);
    return rc;
}

int wasi_path_open(wasi_ctx *c, const wh_slot *a)
{
    wasi_fd *dir;
    wasi_fd d = {.filetype = WASI_FILETYPE_UNRESOLVED};
    char *path;
    int flags;
    uint32_t oflags = (uint32_t)a[4].i32;
    int rc = wasi_get_path(c, (uint32_t)a[2].i32, (uint32_t)a[3].i32, 0, &path);
    int path_rc = rc;
    if (rc == WASI_TRAP || rc == WASI_ILSEQ || rc == WASI_NOMEM)
        return rc;
    rc = open_dir_of(c, a[0].i32, oflags, &dir);
    if (rc == 0)
        rc = open_flags(oflags, (uint64_t)a[5].i64, (uint32_t)a[7].i32, &flags, &d);
    if (rc == 0 && d.writable && dir->read_only)
        rc = WASI_PERM;
    if (rc == 0)
        rc = path_rc;
    if (rc != 0)
        return rc;
    if ((a[1].i32 & WASI_LOOKUP_FOLLOW) == 0)
        flags |= O_NOFOLLOW;
    int32_t number = wasi_fd_reserve(c->w);
    if (number < 0)
        return WASI_MFILE;
    dir = wasi_fd_get(c, a[0].i32); /* the table may have moved */
    d.fd = wh_openat2(dir->fd, path, flags, 0666, BENEATH);
    if (d.fd < 0) {
        wasi_fd_unreserve(c->w, number);
        return open_error(dir, path, flags, d.fd);
    }
    d.kind = d.writable ? KIND_FILE : KIND_UNRESOLVED;
    if ((flags & O_DIRECTORY) != 0) {
        d.kind = KIND_DIR;
        d.filetype = WASI_FILETYPE_DIR;
    }
    d.read_only = dir->read_only;
    d.dropped = d.dropped_inheriting = dir->dropped_inheriting;
    c->w->fds[number] = d;
    return wasi_ret_u32(c, (uint32_t)a[8].i32, (uint32_t)number, "fd");
}
