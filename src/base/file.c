/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"

#include "base/buf.h"
#include "base/clock.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

#define READ_STEP ((size_t)64 * 1024)
#define RM_DEPTH_MAX 32 /* descriptors that a removal holds; deeper folders are moved up first */

int wh_read_fd(int fd, size_t max, char **ret_data, size_t *ret_len, wh_err *err)
{
    auto_buf wh_buf b;
    struct stat st;
    wh_buf_init(&b, max < SIZE_MAX ? max + 1 : max); /* one more byte tells "too big" from "just full" */
    size_t step = 4096;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0)
        step = WH_MIN((size_t)st.st_size, READ_STEP - 1) + 1;
    for (;;) {
        size_t room = WH_MIN(step, b.max - b.len);
        if (room == 0)
            return wh_fail(err, -EFBIG, "more than %zu bytes, which is the limit.", max);
        if (wh_buf_reserve(&b, room) < 0)
            return wh_fail(err, -ENOMEM, "read: no memory for %zu bytes", b.len + room);
        ssize_t n = read(fd, b.p + b.len, room);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return wh_fail(err, -errno, "read");
        if (n == 0)
            break;
        b.len += (size_t)n;
        b.p[b.len] = '\0';
        step = READ_STEP;
    }
    if (b.len > max)
        return wh_fail(err, -EFBIG, "more than %zu bytes, which is the limit.", max);
    if (ret_len != NULL)
        *ret_len = b.len;
    *ret_data = wh_buf_take(&b);
    return 0;
}

int wh_read_file(int dirfd, const char *path, size_t max, char **ret_data, size_t *ret_len, wh_err *err)
{
    auto_close int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return wh_fail(err, -errno, "open '%s'", path);
    int rc = wh_read_fd(fd, max, ret_data, ret_len, err);
    if (rc < 0)
        (void)wh_wrap(err, "read '%s'", path);
    return rc;
}

int wh_write_all(int fd, const void *data, size_t n)
{
    const char *p = data;
    while (n > 0) {
        ssize_t written = write(fd, p, n);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return -errno;
        if (written == 0)
            return -EIO;
        p += written;
        n -= (size_t)written;
    }
    return 0;
}

/* Opens the folder that holds `path`, or answers with the errno. */
static int open_parent(int dirfd, const char *path)
{
    const char *slash = strrchr(path, '/');
    auto_free char *parent = slash == NULL   ? wh_xstrdup(".")
                             : slash == path ? wh_xstrdup("/")
                                             : wh_xstrndup(path, (size_t)(slash - path));
    int fd = openat(dirfd, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int fill_file(int fd, const void *data, size_t n, mode_t mode)
{
    int rc = wh_write_all(fd, data, n);
    if (rc < 0)
        return rc;
    if (fchmod(fd, mode) < 0 || fsync(fd) < 0)
        return -errno;
    return 0;
}

int wh_write_file(int dirfd, const char *path, const void *data, size_t n, mode_t mode, wh_err *err)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;
    if (*name == '\0' || wh_streq(name, ".") || wh_streq(name, ".."))
        return wh_fail(err, -EISDIR, "write '%s'", path);
    auto_close int parent = open_parent(dirfd, path);
    if (parent < 0)
        return wh_fail(err, parent, "write '%s': open its folder: %s", path, strerrordesc_np(-parent));
    uint64_t salt;
    wh_random(&salt, sizeof(salt));
    auto_free char *temp = wh_xasprintf(".%.200s.%016" PRIx64, name, salt);
    auto_close int fd = openat(parent, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return wh_fail(err, -errno, "write '%s'", path);
    int rc = fill_file(fd, data, n, mode);
    if (rc == 0 && renameat(parent, temp, parent, name) < 0)
        rc = -errno;
    if (rc < 0) {
        (void)unlinkat(parent, temp, 0);
        return wh_fail(err, rc, "write '%s'", path);
    }
    if (fsync(parent) < 0)
        return wh_fail(err, -errno, "write '%s': its folder did not reach the disk", path);
    return 0;
}

static int mkdir_one(const char *path, mode_t mode)
{
    struct stat st;
    if (mkdir(path, mode) == 0)
        return 0;
    int code = -errno;
    /* A read-only or forbidden parent answers so even where the folder is there. */
    if (stat(path, &st) < 0)
        return code;
    return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

int wh_mkdir_p(const char *path, mode_t mode, wh_err *err)
{
    if (*path == '\0')
        return wh_fail(err, -ENOENT, "make folder '%s'", path);
    int rc = mkdir_one(path, mode); /* mostly only the last part is new */
    if (rc == 0)
        return 0;
    auto_free char *partial = wh_xstrdup(path);
    for (char *p = partial + 1; *p != '\0'; p++) {
        if (*p != '/' || p[-1] == '/')
            continue;
        *p = '\0';
        rc = mkdir_one(partial, mode | S_IWUSR | S_IXUSR);
        if (rc < 0)
            return wh_fail(err, rc, "make folder '%s'", partial);
        *p = '/';
    }
    rc = mkdir_one(path, mode);
    return rc < 0 ? wh_fail(err, rc, "make folder '%s'", path) : 0;
}

typedef struct rm_state {
    int top; /* the tree's root */
    dev_t dev;
    uint64_t moved; /* folders moved up to the root so far */
} rm_state;

static int rm_children(rm_state *rm, int fd, int depth);

static int rm_folder(rm_state *rm, int parent, const char *name, int depth)
{
    struct stat st;
    if (depth >= RM_DEPTH_MAX) {
        /* A tree may be deeper than we have descriptors: this part of it becomes a child of the root. */
        char moved[48];
        (void)snprintf(moved, sizeof(moved), ".wh-rm-%" PRIu64, rm->moved++);
        return renameat(parent, name, rm->top, moved) < 0 ? -errno : 0;
    }
    auto_close int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == EACCES && fchmodat(parent, name, 0700, 0) == 0)
        fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (rm->dev == 0)
        rm->dev = st.st_dev;
    if (st.st_dev != rm->dev)
        return -EXDEV;
    if (depth == 0)
        rm->top = fd;
    int rc = rm_children(rm, fd, depth);
    if (rc < 0)
        return rc;
    return unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

static int rm_entry(rm_state *rm, int parent, const char *name, int depth)
{
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -errno;
    int code = -errno;
    int rc = rm_folder(rm, parent, name, depth);
    return rc == -ENOTDIR ? code : rc;
}

/* Empties a folder. Repeats until a pass finds nothing, for what was moved up, or appeared, meanwhile. */
static int rm_children(rm_state *rm, int fd, int depth)
{
    struct stat st;
    if (fstat(fd, &st) == 0 && (st.st_mode & S_IRWXU) != S_IRWXU)
        (void)fchmod(fd, 0700); /* what fails for want of it says so below */
    int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (again < 0)
        return -errno;
    DIR *dir = fdopendir(again);
    if (dir == NULL) {
        int code = -errno;
        close(again);
        return code;
    }
    int rc = 0;
    bool found = true;
    while (rc == 0 && found) {
        const struct dirent *entry;
        found = false;
        rewinddir(dir);
        while (rc == 0 && (entry = readdir(dir)) != NULL) {
            if (wh_streq(entry->d_name, ".") || wh_streq(entry->d_name, ".."))
                continue;
            found = true;
            rc = rm_entry(rm, fd, entry->d_name, depth + 1);
        }
    }
    closedir(dir);
    return rc;
}

int wh_rm_rf(int dirfd, const char *path, wh_err *err)
{
    rm_state rm = {.top = -1};
    auto_free char *trimmed = wh_xstrdup(path);
    for (size_t n = strlen(trimmed); n > 1 && trimmed[n - 1] == '/'; n--)
        trimmed[n - 1] = '\0'; /* "link/" would be followed */
    int rc = rm_entry(&rm, dirfd, trimmed, 0);
    return rc < 0 ? wh_fail(err, rc, "remove '%s'", path) : 0;
}

char *wh_path_join(const char *a, const char *b)
{
    size_t n = strlen(a);
    while (n > 1 && a[n - 1] == '/')
        n--;
    while (*b == '/')
        b++;
    const char *slash = n == 0 || a[n - 1] == '/' ? "" : "/";
    return wh_xasprintf("%.*s%s%s", (int)n, a, slash, b);
}
