/* SPDX-License-Identifier: Apache-2.0 */
/* Collecting what nobody uses. Decisions and removals happen inside one transaction; a crash between the two
 * leaves rows without files, which readers treat as absent. */
#include "base/file.h"
#include "image/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/statvfs.h>

#define STRAY_AGE WH_HOUR /* a file that young may be about to count */

static int take_digest(void *user, sqlite3_stmt *row)
{
    wh_strv_push_take(user, wh_db_text(row, 0));
    return 0;
}

static int used_percent(const wh_store *store, unsigned *ret, wh_err *err)
{
    struct statvfs fs;
    if (fstatvfs(store->dirfd, &fs) < 0)
        return wh_fail(err, -errno, "ask how full '%s' is", store->dir);
    uint64_t used = fs.f_blocks - fs.f_bfree, all = used + fs.f_bavail;
    *ret = all == 0 ? 0 : (unsigned)((used * 100 + all - 1) / all);
    return 0;
}

static uint64_t tree_bytes(int dirfd, const char *path, int depth)
{
    struct stat st;
    if (fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    uint64_t total = (uint64_t)st.st_blocks * 512;
    if (!S_ISDIR(st.st_mode) || depth == 0)
        return total;
    int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL)
        if (!wh_streq(entry->d_name, ".") && !wh_streq(entry->d_name, ".."))
            total += tree_bytes(fd, entry->d_name, depth - 1);
    if (dir != NULL)
        closedir(dir);
    return total;
}

static int remove_file(wh_store *store, const char *path, uint64_t *freed, wh_err *err)
{
    uint64_t bytes = tree_bytes(store->dirfd, path, 256);
    int rc = wh_rm_rf(store->dirfd, path, err);
    if (rc == 0)
        *freed += bytes;
    return rc;
}

/* An image's own rows and its tree; its blobs become orphans. */
static int drop_image(wh_store *store, const char *digest, uint64_t *freed, wh_err *err)
{
    static const char *const statements[] = {
        "DELETE FROM ref WHERE image=?1",     "DELETE FROM image_blob WHERE image=?1",
        "DELETE FROM program WHERE image=?1", "DELETE FROM access WHERE image=?1",
        "DELETE FROM image WHERE digest=?1",
    };
    int rc = 0;
    for (size_t i = 0; rc >= 0 && i < WH_ARRAY_LEN(statements); i++)
        rc = wh_db_run(store, err, NULL, NULL, statements[i], "s", digest);
    if (rc < 0)
        return rc;
    auto_free char *tree = wh_store_rootfs_path(digest);
    return remove_file(store, tree, freed, err);
}

static int drop_orphan_blobs(wh_store *store, wh_time before, uint64_t *freed, wh_err *err)
{
    auto_strv wh_strv digests = NULL;
    int rc =
        wh_db_run(store, err, take_digest, &digests,
                  "SELECT digest FROM blob WHERE used<=?1 AND digest NOT IN (SELECT digest FROM image_blob)",
                  "i", before);
    for (size_t i = 0; rc >= 0 && i < wh_strv_len(digests); i++) {
        auto_free char *path = wh_store_blob_path(digests[i]);
        rc = remove_file(store, path, freed, err);
        if (rc >= 0)
            rc = wh_db_run(store, err, NULL, NULL, "DELETE FROM blob WHERE digest=?1", "s", digests[i]);
    }
    return WH_MIN(rc, 0);
}

/* Code of modules that no image has any more. */
static int drop_orphan_code(wh_store *store, wh_time before, uint64_t *freed, wh_err *err)
{
    auto_strv wh_strv keys = NULL;
    int rc = wh_db_run(
        store, err, take_digest, &keys,
        "SELECT key FROM code WHERE used<=?1 AND module NOT IN (SELECT module FROM image WHERE module IS NOT"
        " NULL) AND module NOT IN (SELECT module FROM program)",
        "i", before);
    for (size_t i = 0; rc >= 0 && i < wh_strv_len(keys); i++) {
        auto_free char *path = wh_xasprintf("code/%s.cwasm", keys[i]);
        rc = remove_file(store, path, freed, err);
        if (rc >= 0)
            rc = wh_db_run(store, err, NULL, NULL, "DELETE FROM code WHERE key=?1", "s", keys[i]);
    }
    return WH_MIN(rc, 0);
}

static int drop_orphans(wh_store *store, wh_time before, uint64_t *freed, wh_err *err)
{
    int rc = drop_orphan_blobs(store, before, freed, err);
    return rc < 0 ? rc : drop_orphan_code(store, before, freed, err);
}

static int drop_images(wh_store *store, wh_strv digests, uint64_t *freed, wh_err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < wh_strv_len(digests); i++)
        rc = drop_image(store, digests[i], freed, err);
    return rc;
}

/* Images that no reference names, and those that were not used for too long. */
static int drop_stale(wh_store *store, const wh_gc_policy *policy, wh_time now, uint64_t *freed, wh_err *err)
{
    auto_strv wh_strv digests = NULL;
    wh_time old = policy->max_age > 0 ? now - policy->max_age : -1;
    int rc = wh_db_run(store, err, take_digest, &digests,
                       "SELECT digest FROM image WHERE digest NOT IN (SELECT image FROM lease) AND"
                       " (used<=?2 OR (used<=?1 AND digest NOT IN (SELECT image FROM ref)))",
                       "ii", now - policy->min_age, old);
    return rc < 0 ? rc : drop_images(store, digests, freed, err);
}

/* Oldest unused first, until the file system is below the low mark. */
static int drop_by_pressure(wh_store *store, const wh_gc_policy *policy, wh_time now, uint64_t *freed,
                            wh_err *err)
{
    auto_strv wh_strv digests = NULL;
    unsigned percent;
    int rc = used_percent(store, &percent, err);
    if (rc < 0 || percent <= policy->high_percent)
        return rc;
    rc = wh_db_run(
        store, err, take_digest, &digests,
        "SELECT digest FROM image WHERE used<=?1 AND digest NOT IN (SELECT image FROM lease) ORDER BY used",
        "i", now - policy->min_age);
    for (size_t i = 0; rc >= 0 && i < wh_strv_len(digests) && percent > policy->low_percent; i++) {
        rc = drop_image(store, digests[i], freed, err);
        if (rc >= 0)
            rc = drop_orphans(store, now - policy->min_age, freed, err);
        if (rc >= 0)
            rc = used_percent(store, &percent, err);
    }
    return WH_MIN(rc, 0);
}

/* ---- what a crash left behind ---- */

static int take_true(void *user, sqlite3_stmt *row)
{
    (void)row;
    *(bool *)user = true;
    return 0;
}

static const struct {
    const char *folder;
    const char *prefix; /* in front of the file's name, as the database has it */
    const char *suffix; /* of the file, which the database does not have */
    const char *known;  /* finds one row when the file counts */
} strays[] = {
    {"blobs/sha256", "sha256:", "", "SELECT 1 FROM blob WHERE digest=?1"},
    {"blobs/sha512", "sha512:", "", "SELECT 1 FROM blob WHERE digest=?1"},
    {"code", "", ".cwasm", "SELECT 1 FROM code WHERE key=?1"},
    {"rootfs", "", "", "SELECT 1 FROM image WHERE replace(digest, ':', '-')=?1"},
};

static int drop_stray(wh_store *store, size_t kind, int dirfd, const char *file, time_t before,
                      uint64_t *freed, wh_err *err)
{
    struct stat st;
    bool known = false;
    if (fstatat(dirfd, file, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_ctim.tv_sec > before)
        return 0;
    size_t n = strlen(file), cut = wh_ends_with(file, strays[kind].suffix) ? strlen(strays[kind].suffix) : 0;
    auto_free char *name = wh_xasprintf("%s%.*s", strays[kind].prefix, (int)(n - cut), file);
    int rc = wh_db_run(store, err, take_true, &known, strays[kind].known, "s", name);
    if (rc < 0 || known)
        return WH_MIN(rc, 0);
    auto_free char *path = wh_path_join(strays[kind].folder, file);
    return remove_file(store, path, freed, err);
}

/* Files that a crash left between their rename and the database's commit. */
static int drop_strays(wh_store *store, wh_time before, uint64_t *freed, wh_err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < WH_ARRAY_LEN(strays); i++) {
        int fd = openat(store->dirfd, strays[i].folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        const struct dirent *entry;
        while (rc == 0 && dir != NULL && (entry = readdir(dir)) != NULL)
            if (entry->d_name[0] != '.')
                rc = drop_stray(store, i, fd, entry->d_name, (time_t)(before / WH_SEC), freed, err);
        if (dir != NULL)
            closedir(dir);
    }
    return rc;
}

/* Lock files that nobody holds. Whoever waits for one sees that it is gone, and makes another. */
static void drop_locks(const wh_store *store)
{
    int fd = openat(store->dirfd, "locks", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        auto_close int lock = openat(fd, entry->d_name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
        if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0)
            (void)unlinkat(fd, entry->d_name, 0); /* the next round tries again */
    }
    if (dir != NULL)
        closedir(dir);
}

int wh_store_gc(wh_store *store, const wh_gc_policy *policy, uint64_t *ret_freed, wh_err *err)
{
    uint64_t freed = 0;
    wh_time now = wh_real_now();
    wh_gc_policy p = *policy;
    int rc = wh_db_begin(store, true, err);
    if (rc < 0)
        return rc;
    rc = drop_stale(store, &p, now, &freed, err);
    if (rc == 0)
        rc = drop_by_pressure(store, &p, now, &freed, err);
    if (rc == 0) /* a blob without an image may belong to a pull under way */
        rc = drop_orphans(store, now - WH_MAX(p.min_age, WH_STORE_GRACE), &freed, err);
    if (rc == 0)
        rc = drop_strays(store, now - (p.stray_age > 0 ? p.stray_age : STRAY_AGE), &freed, err);
    rc = wh_db_end(store, rc, err);
    if (rc < 0)
        return rc;
    drop_locks(store);
    *ret_freed = freed;
    return 0;
}
