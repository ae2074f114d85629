/* SPDX-License-Identifier: Apache-2.0 */
/* Files of the store. */
#include "base/file.h"
#include "image/store.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/file.h>

static char *temp_name(void)
{
    uint64_t salt[2];
    wh_random(salt, sizeof(salt));
    return wh_xasprintf("tmp/%016" PRIx64 "%016" PRIx64, salt[0], salt[1]);
}

int wh_store_temp(wh_store *store, char **ret_name, int *ret_fd, wh_err *err)
{
    auto_free char *name = temp_name();
    int fd = openat(store->dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return wh_fail(err, -errno, "make a file in '%s/tmp'", store->dir);
    *ret_name = WH_TAKE(name);
    *ret_fd = fd;
    return 0;
}

int wh_store_temp_dir(wh_store *store, char **ret_name, int *ret_fd, wh_err *err)
{
    auto_free char *name = temp_name();
    if (mkdirat(store->dirfd, name, 0755) < 0)
        return wh_fail(err, -errno, "make a folder in '%s/tmp'", store->dir);
    int fd = openat(store->dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return wh_fail(err, -errno, "open a folder in '%s/tmp'", store->dir);
    *ret_name = WH_TAKE(name);
    *ret_fd = fd;
    return 0;
}

static int sync_folder_of(wh_store *store, const char *place, wh_err *err)
{
    const char *slash = strrchr(place, '/');
    wh_assert(slash != NULL);
    auto_free char *folder = wh_xstrndup(place, (size_t)(slash - place));
    auto_close int fd = openat(store->dirfd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return wh_fail(err, -errno, "bring '%s/%s' to the disk", store->dir, folder);
    return 0;
}

int wh_store_place(wh_store *store, const char *temp, int fd, const char *place, wh_err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return wh_fail(err, -errno, "place '%s'", place);
    bool is_dir = S_ISDIR(st.st_mode);
    if ((!is_dir && fchmod(fd, 0444) < 0) || (is_dir ? syncfs(fd) : fsync(fd)) < 0)
        return wh_fail(err, -errno, "bring '%s/%s' to the disk", store->dir, place);
    if (renameat(store->dirfd, temp, store->dirfd, place) < 0) {
        if (!is_dir || (errno != ENOTEMPTY && errno != EEXIST))
            return wh_fail(err, -errno, "place '%s/%s'", store->dir, place);
        /* A tree that the database does not know: what an earlier crash left. */
        int rc = wh_rm_rf(store->dirfd, place, err);
        if (rc < 0)
            return rc;
        if (renameat(store->dirfd, temp, store->dirfd, place) < 0)
            return wh_fail(err, -errno, "place '%s/%s'", store->dir, place);
    }
    return sync_folder_of(store, place, err);
}

char *wh_store_blob_path(const char *digest)
{
    return wh_xasprintf("blobs/%.6s/%s", digest, wh_digest_hex(digest));
}

char *wh_store_rootfs_path(const char *digest)
{
    return wh_xasprintf("rootfs/%.6s-%s", digest, wh_digest_hex(digest));
}

typedef struct blob_row {
    bool found;
    int64_t bytes, used;
} blob_row;

static int take_blob(void *user, sqlite3_stmt *row)
{
    *(blob_row *)user = (blob_row){true, sqlite3_column_int64(row, 0), sqlite3_column_int64(row, 1)};
    return 0;
}

/* How long the blob is, -1 when there is none; from now on it counts as used. */
static int touch_blob(wh_store *store, const char *digest, int64_t *ret_bytes, wh_err *err)
{
    blob_row row = {0};
    wh_time now = wh_real_now();
    int rc = wh_db_begin(store, true, err);
    if (rc < 0)
        return rc;
    rc = wh_db_run(store, err, take_blob, &row, "SELECT bytes, used FROM blob WHERE digest=?1", "s", digest);
    if (rc >= 0 && row.found && (row.used < now - WH_STORE_TOUCH || row.used > now))
        rc = wh_db_run(store, err, NULL, NULL, "UPDATE blob SET used=?1 WHERE digest=?2", "is", now, digest);
    *ret_bytes = row.found ? row.bytes : -1;
    return wh_db_end(store, rc, err);
}

int wh_store_blob_open(wh_store *store, const char *digest, int *ret, uint64_t *ret_bytes, wh_err *err)
{
    struct stat st;
    int64_t bytes;
    auto_free char *path = wh_store_blob_path(digest);
    int rc = touch_blob(store, digest, &bytes, err);
    if (rc < 0)
        return rc;
    auto_close int fd = bytes < 0 ? -1 : openat(store->dirfd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (bytes < 0 || (fd < 0 && errno == ENOENT))
        return wh_fail(err, -ENOENT, "blob %s is not in the store.", digest);
    if (fd < 0 || fstat(fd, &st) < 0)
        return wh_fail(err, -errno, "open '%s/%s'", store->dir, path);
    if (!S_ISREG(st.st_mode) || st.st_size != bytes) /* someone has been here: it is fetched again */
        return wh_fail(err, -ENOENT, "blob %s in the store has another length than when it was stored.",
                       digest);
    *ret_bytes = (uint64_t)bytes;
    *ret = WH_TAKE_FD(fd);
    return 0;
}

int wh_store_blob_add(wh_store *store, const char *temp, int fd, const char *digest, wh_err *err)
{
    struct stat st;
    auto_free char *path = wh_store_blob_path(digest);
    if (fstat(fd, &st) < 0)
        return wh_fail(err, -errno, "store blob %s", digest);
    int rc = wh_store_place(store, temp, fd, path, err);
    if (rc < 0)
        return rc;
    rc = wh_db_begin(store, true, err);
    if (rc < 0)
        return rc;
    rc = wh_db_run(store, err, NULL, NULL,
                   "INSERT OR REPLACE INTO blob(digest, bytes, used) VALUES(?1, ?2, ?3)", "sii", digest,
                   (int64_t)st.st_size, wh_real_now());
    return wh_db_end(store, rc, err);
}

int wh_store_blob_put(wh_store *store, const char *digest, const void *data, size_t n, wh_err *err)
{
    auto_free char *temp = NULL;
    auto_close int fd = -1;
    int rc = wh_store_temp(store, &temp, &fd, err);
    if (rc < 0)
        return rc;
    rc = wh_write_all(fd, data, n);
    if (rc < 0)
        rc = wh_fail(err, rc, "write '%s/%s'", store->dir, temp);
    else
        rc = wh_store_blob_add(store, temp, fd, digest, err);
    if (rc < 0)
        (void)unlinkat(store->dirfd, temp, 0);
    return rc;
}

int wh_store_lock(wh_store *store, const char *name, int *ret, wh_err *err)
{
    auto_free char *path = wh_xasprintf("locks/%s", name);
    for (;;) {
        struct stat held, there;
        auto_close int fd = openat(store->dirfd, path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
            return wh_fail(err, -errno, "lock '%s/%s'", store->dir, path);
        while (flock(fd, LOCK_EX) < 0)
            if (errno != EINTR)
                return wh_fail(err, -errno, "lock '%s/%s'", store->dir, path);
        /* The collector removes lock files that nobody holds: ours must still be the one that others find. */
        if (fstat(fd, &held) == 0 && fstatat(store->dirfd, path, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
            held.st_ino == there.st_ino) {
            *ret = WH_TAKE_FD(fd);
            return 0;
        }
    }
}
