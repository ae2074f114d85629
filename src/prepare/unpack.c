/* SPDX-License-Identifier: Apache-2.0 */
#include "prepare/unpack.h"

#include "base/file.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <uthash.h>

#define PATH_BYTES_MAX 4096
#define NAME_BYTES_MAX 255
#define DEPTH_MAX 256
#define MODULES_MAX 256
#define RATIO_FLOOR ((uint64_t)1 << 20)
#define BLOCK_BYTES ((size_t)64 * 1024)
#define WHITEOUT ".wh."
#define OPAQUE ".wh..wh..opq"
#define NO_LINKS (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)

typedef struct seen { /* a path that this layer made */
    UT_hash_handle hh;
    char path[];
} seen;

struct wh_unpack {
    int root;
    bool whiteouts;
    wh_unpack_limits limits;
    uint64_t entries, bytes;
    wh_strv modules;
    size_t n_modules;
    /* Of the layer under way: */
    struct archive *archive;
    seen *seen;
    uint64_t layer_bytes;
};

int wh_unpack_new(int root, const wh_unpack_limits *limits, bool whiteouts, wh_unpack **ret, wh_err *err)
{
    (void)err;
    wh_unpack *u = wh_xnew(wh_unpack);
    *u = (wh_unpack){.root = root, .limits = *limits, .whiteouts = whiteouts};
    *ret = u;
    return 0;
}

static void forget_layer(wh_unpack *u)
{
    seen *item, *next;
    HASH_ITER(hh, u->seen, item, next)
    {
        HASH_DEL(u->seen, item);
        free(item);
    }
    archive_read_free(u->archive);
    u->archive = NULL;
    u->layer_bytes = 0;
}

void wh_unpack_free(wh_unpack *u)
{
    if (u == NULL)
        return;
    forget_layer(u);
    wh_strv_free(u->modules);
    free(u);
}

wh_unpack_totals wh_unpack_result(const wh_unpack *u)
{
    return (wh_unpack_totals){.entries = u->entries, .bytes = u->bytes, .modules = u->modules};
}

static bool has_seen(const wh_unpack *u, const char *path)
{
    seen *item;
    HASH_FIND(hh, u->seen, path, strlen(path), item);
    return item != NULL;
}

static int remember(wh_unpack *u, const char *path)
{
    size_t n = strlen(path);
    if (has_seen(u, path))
        return 0;
    seen *item = malloc(sizeof(*item) + n + 1);
    if (item == NULL)
        return -ENOMEM;
    memcpy(item->path, path, n + 1);
    HASH_ADD(hh, u->seen, path, n, item);
    return 0;
}

/* A name without "./" and double slashes; refuses whatever could leave the tree, or has no place in one. */
static int clean_path(const char *raw, char out[PATH_BYTES_MAX + 1], wh_err *err)
{
    size_t n = 0;
    int depth = 0;
    if (raw == NULL)
        return wh_fail(err, -EBADMSG, "an entry has no readable name.");
    if (raw[0] == '/')
        return wh_fail(err, -EPERM, "'%.120s' is an absolute name.", raw);
    for (wh_str rest = wh_str_of(raw), part; wh_str_split(&rest, '/', &part);) {
        if (part.n == 0 || wh_str_eq(part, WH_STR(".")))
            continue;
        if (wh_str_eq(part, WH_STR("..")))
            return wh_fail(err, -EPERM, "'%.120s' has '..' in it.", raw);
        if (part.n > NAME_BYTES_MAX || n + part.n + 1 > PATH_BYTES_MAX || ++depth > DEPTH_MAX)
            return wh_fail(err, -EPERM, "'%.60s...' is too long or too deep.", raw);
        if (n > 0)
            out[n++] = '/';
        memcpy(out + n, part.p, part.n);
        n += part.n;
    }
    out[n] = '\0';
    return 0;
}

static int link_in_the_way(const char *path, int rc, wh_err *err)
{
    if (rc == -ELOOP || rc == -EXDEV)
        return wh_fail(err, -EPERM, "'%.120s' leads through a symbolic link.", path);
    if (rc == -ENOTDIR)
        return wh_fail(err, -EPERM, "'%.120s' leads through a file.", path);
    return wh_fail(err, rc, "make '%.120s'", path);
}

/* The folder `name` in `dir`, made when it is missing. `path` is its full name, of n bytes. */
static int enter_folder(wh_unpack *u, int dir, const char *name, const char *path, size_t n)
{
    int fd = wh_openat2(dir, name, O_RDONLY | O_DIRECTORY, 0, NO_LINKS);
    if (fd != -ENOENT)
        return fd;
    if (mkdirat(dir, name, 0755) < 0)
        return -errno;
    auto_free char *made = wh_xstrndup(path, n);
    if (remember(u, made) < 0)
        return -ENOMEM;
    if (++u->entries > u->limits.entries)
        return -EFBIG;
    return wh_openat2(dir, name, O_RDONLY | O_DIRECTORY, 0, NO_LINKS);
}

/* The folder that holds `path`, made with its parents where it is missing. `ret_name` points into path. */
static int open_parent(wh_unpack *u, const char *path, int *ret, const char **ret_name, wh_err *err)
{
    auto_close int dir = wh_openat2(u->root, ".", O_RDONLY | O_DIRECTORY, 0, NO_LINKS);
    if (dir < 0)
        return wh_fail(err, dir, "open the folder to unpack to");
    const char *rest = path;
    for (const char *slash; (slash = strchr(rest, '/')) != NULL; rest = slash + 1) {
        auto_free char *name = wh_xstrndup(rest, (size_t)(slash - rest));
        int next = enter_folder(u, dir, name, path, (size_t)(slash - path));
        if (next < 0)
            return link_in_the_way(path, next, err);
        close(dir);
        dir = next;
    }
    *ret_name = rest;
    *ret = WH_TAKE_FD(dir);
    return 0;
}

/* An archive that unpacks to much more than it is, or to more than we want. */
static int check_volume(wh_unpack *u, wh_err *err)
{
    int64_t packed = archive_filter_bytes(u->archive, -1), raw = archive_filter_bytes(u->archive, 0);
    uint64_t in = packed < 1 ? 1 : (uint64_t)packed,
             out = WH_MAX(raw < 0 ? 0 : (uint64_t)raw, u->layer_bytes);
    if (u->bytes > u->limits.bytes)
        return wh_fail(err, -EFBIG, "the image unpacks to more than %llu bytes.",
                       (unsigned long long)u->limits.bytes);
    if (out > RATIO_FLOOR && out / u->limits.ratio > in)
        return wh_fail(err, -EFBIG, "the layer unpacks to more than %llu times its size.",
                       (unsigned long long)u->limits.ratio);
    return 0;
}

static int archive_failed(wh_unpack *u, wh_err *err)
{
    const char *why = archive_error_string(u->archive);
    return wh_fail(err, -EBADMSG, "damaged archive: %.150s.", why == NULL ? "unknown reason" : why);
}

static int write_block(int fd, const void *data, size_t n, int64_t offset)
{
    for (const char *p = data; n > 0;) {
        ssize_t written = pwrite(fd, p, n, offset);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return written == 0 ? -EIO : -errno;
        p += written;
        offset += written;
        n -= (size_t)written;
    }
    return 0;
}

static int copy_data(wh_unpack *u, int fd, const char *path, wh_err *err)
{
    const void *block;
    size_t n;
    int64_t offset, end = 0;
    bool wasm = false;
    for (;;) {
        int rc = archive_read_data_block(u->archive, &block, &n, &offset);
        if (rc == ARCHIVE_EOF)
            break;
        if (rc != ARCHIVE_OK)
            return archive_failed(u, err);
        if (n == 0)
            continue;
        if (offset < end || offset > INT64_MAX / 2)
            return wh_fail(err, -EBADMSG, "damaged archive: the data of '%.120s' overlaps.", path);
        if (offset == 0 && n >= 4)
            wasm = memcmp(block, "\0asm", 4) == 0;
        uint64_t grown = (uint64_t)(offset - end) + n; /* a hole counts like data */
        u->bytes += grown;
        u->layer_bytes += grown;
        rc = check_volume(u, err);
        if (rc == 0 && (rc = write_block(fd, block, n, offset)) < 0)
            rc = wh_fail(err, rc, "write '%.120s'", path);
        if (rc < 0)
            return rc;
        end = offset + (int64_t)n;
    }
    if (wasm && u->n_modules < MODULES_MAX) {
        wh_strv_push(&u->modules, path);
        u->n_modules++;
    }
    return 0;
}

/* What an entry replaces goes, unless both are folders. */
static int make_room(int parent, const char *name, bool is_dir, wh_err *err)
{
    struct stat st;
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : wh_fail(err, -errno, "look at '%.120s'", name);
    return is_dir && S_ISDIR(st.st_mode) ? 0 : wh_rm_rf(parent, name, err);
}

static int put_file(wh_unpack *u, int parent, const char *name, const char *path, struct archive_entry *entry,
                    wh_err *err)
{
    auto_close int fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return wh_fail(err, -errno, "make '%.120s'", path);
    if (archive_entry_size_is_set(entry) &&
        (archive_entry_size(entry) < 0 || (uint64_t)archive_entry_size(entry) > u->limits.bytes))
        return wh_fail(err, -EFBIG, "'%.120s' is longer than %llu bytes.", path,
                       (unsigned long long)u->limits.bytes);
    int rc = copy_data(u, fd, path, err);
    if (rc < 0)
        return rc;
    if (archive_entry_size_is_set(entry) &&
        ftruncate(fd, archive_entry_size(entry)) < 0) /* a hole at the end */
        return wh_fail(err, -errno, "write '%.120s'", path);
    bool executable = (archive_entry_perm(entry) & 0111) != 0;
    if (fchmod(fd, executable ? 0555 : 0444) < 0)
        return wh_fail(err, -errno, "set the mode of '%.120s'", path);
    const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, {.tv_sec = archive_entry_mtime(entry)}};
    (void)futimens(fd, times); /* a time that the file system cannot keep is no reason to fail */
    return 0;
}

/* The target is named from the root of the layer; neither it nor the way to it may be a link. */
static int put_hard_link(wh_unpack *u, int parent, const char *name, const char *path, const char *target,
                         wh_err *err)
{
    char clean[PATH_BYTES_MAX + 1];
    struct stat st;
    int rc = clean_path(target, clean, err);
    if (rc < 0)
        return rc;
    const char *slash = strrchr(clean, '/');
    auto_free char *folder = slash == NULL ? wh_xstrdup(".") : wh_xstrndup(clean, (size_t)(slash - clean));
    const char *base = slash == NULL ? clean : slash + 1;
    auto_close int dir = wh_openat2(u->root, folder, O_RDONLY | O_DIRECTORY, 0, NO_LINKS);
    if (dir < 0)
        return wh_fail(err, -EPERM, "'%.80s' is a hard link to '%.80s', which is not in the tree.", path,
                       target);
    if (fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW) < 0 || (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode)))
        return wh_fail(err, -EPERM, "'%.80s' is a hard link to '%.80s', which is no file of the tree.", path,
                       target);
    if (linkat(dir, base, parent, name, 0) < 0)
        return wh_fail(err, -errno, "link '%.120s'", path);
    return 0;
}

static int put_folder(int parent, const char *name, const char *path, wh_err *err)
{
    if (mkdirat(parent, name, 0755) < 0 && errno != EEXIST)
        return wh_fail(err, -errno, "make '%.120s'", path);
    return 0;
}

static int put_symlink(int parent, const char *name, const char *path, const char *target, wh_err *err)
{
    if (target == NULL || strlen(target) > PATH_BYTES_MAX)
        return wh_fail(err, -EBADMSG, "'%.120s' is a link to nowhere.", path);
    if (symlinkat(target, parent, name) < 0)
        return wh_fail(err, -errno, "make the link '%.120s'", path);
    return 0;
}

static int put_entry(wh_unpack *u, const char *path, struct archive_entry *entry, wh_err *err)
{
    const char *name = NULL;
    auto_close int parent = -1;
    const char *hard_link = archive_entry_hardlink(entry);
    unsigned type = archive_entry_filetype(entry);
    if (hard_link == NULL && type != AE_IFREG && type != AE_IFDIR && type != AE_IFLNK)
        return wh_fail(err, -EPERM, "'%.120s' is a device, pipe or socket.", path);
    int rc = open_parent(u, path, &parent, &name, err);
    if (rc == 0)
        rc = make_room(parent, name, hard_link == NULL && type == AE_IFDIR, err);
    if (rc < 0)
        return rc;
    if (hard_link != NULL)
        rc = put_hard_link(u, parent, name, path, hard_link, err);
    else if (type == AE_IFDIR)
        rc = put_folder(parent, name, path, err);
    else if (type == AE_IFREG)
        rc = put_file(u, parent, name, path, entry, err);
    else
        rc = put_symlink(parent, name, path, archive_entry_symlink(entry), err);
    return rc == 0 && remember(u, path) < 0 ? wh_fail(err, -ENOMEM, "unpack") : rc;
}

static int hide_children(wh_unpack *u, int dir, const char *path, wh_err *err);

static int hide_child(wh_unpack *u, int dir, const char *path, const char *name, wh_err *err)
{
    auto_free char *child = *path == '\0' ? wh_xstrdup(name) : wh_path_join(path, name);
    if (!has_seen(u, child))
        return wh_rm_rf(dir, name, err);
    auto_close int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? 0 : hide_children(u, fd, child, err);
}

/* Takes away what lower layers left in a folder, and leaves what this one made. */
static int hide_children(wh_unpack *u, int dir, const char *path, wh_err *err)
{
    int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = again < 0 ? NULL : fdopendir(again);
    if (list == NULL)
        return wh_fail(err, -errno, "list '%.120s'", path);
    const struct dirent *entry;
    int rc = 0;
    while (rc == 0 && (entry = readdir(list)) != NULL)
        if (!wh_streq(entry->d_name, ".") && !wh_streq(entry->d_name, ".."))
            rc = hide_child(u, dir, path, entry->d_name, err);
    closedir(list);
    return rc;
}

static int apply_whiteout(wh_unpack *u, const char *path, const char *name, wh_err *err)
{
    const char *slash = strrchr(path, '/');
    auto_free char *folder = slash == NULL ? wh_xstrdup("") : wh_xstrndup(path, (size_t)(slash - path));
    auto_close int dir =
        wh_openat2(u->root, *folder == '\0' ? "." : folder, O_RDONLY | O_DIRECTORY, 0, NO_LINKS);
    if (dir == -ENOENT)
        return 0;
    if (dir < 0)
        return link_in_the_way(path, dir, err);
    if (wh_streq(name, OPAQUE))
        return hide_children(u, dir, folder, err);
    const char *hidden = name + strlen(WHITEOUT);
    if (*hidden == '\0' || wh_streq(hidden, ".") || wh_streq(hidden, ".."))
        return wh_fail(err, -EPERM, "'%.120s' takes away nothing that has a name.", path);
    auto_free char *target = *folder == '\0' ? wh_xstrdup(hidden) : wh_path_join(folder, hidden);
    return has_seen(u, target) ? 0 : wh_rm_rf(dir, hidden, err);
}

static int next_entry(wh_unpack *u, struct archive_entry *entry, wh_err *err)
{
    char path[PATH_BYTES_MAX + 1];
    const char *raw = archive_entry_pathname(entry);
    int rc = clean_path(raw == NULL ? archive_entry_pathname_utf8(entry) : raw, path, err);
    if (rc < 0)
        return rc;
    if (++u->entries > u->limits.entries)
        return wh_fail(err, -EFBIG, "the image has more than %llu files.",
                       (unsigned long long)u->limits.entries);
    rc = check_volume(u, err);
    if (rc < 0 || *path == '\0')
        return rc;
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;
    if (u->whiteouts && wh_starts_with(name, WHITEOUT))
        return apply_whiteout(u, path, name, err);
    return put_entry(u, path, entry, err);
}

static int open_archive(wh_unpack *u, int fd, wh_err *err)
{
    u->archive = archive_read_new();
    if (u->archive == NULL)
        return wh_fail(err, -ENOMEM, "read an archive");
    if (archive_read_support_filter_gzip(u->archive) != ARCHIVE_OK ||
        archive_read_support_filter_zstd(u->archive) != ARCHIVE_OK ||
        archive_read_support_format_tar(u->archive) != ARCHIVE_OK)
        return wh_fail(err, -ENOTSUP, "this libarchive lacks gzip, zstd or tar.");
    return archive_read_open_fd(u->archive, fd, BLOCK_BYTES) == ARCHIVE_OK ? 0 : archive_failed(u, err);
}

int wh_unpack_layer(wh_unpack *u, int layer_fd, wh_err *err)
{
    int rc = open_archive(u, layer_fd, err);
    while (rc == 0) {
        struct archive_entry *entry;
        int got = archive_read_next_header(u->archive, &entry);
        if (got == ARCHIVE_EOF)
            break;
        rc = got == ARCHIVE_OK || got == ARCHIVE_WARN ? next_entry(u, entry, err) : archive_failed(u, err);
    }
    forget_layer(u);
    return rc;
}
