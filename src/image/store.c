/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a store, and what it knows of images. */
#include "image/store.h"

#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/random.h>
#include <time.h>

#define TEMP_AGE_S 3600 /* what is older in tmp/ was left by a crash */
#define LIST_MAX 100000

static const char *const folders[] = {"blobs", "blobs/sha256", "blobs/sha512", "rootfs",
                                      "code",  "locks",        "tmp"};

/* Makes the key once; whoever comes second finds the first one's. */
static int load_node_key(wh_store *store, wh_err *err)
{
    uint8_t fresh[WH_NODE_KEY_BYTES];
    auto_free char *key = NULL;
    auto_close int lock = -1;
    size_t n;
    int rc = wh_store_lock(store, "node.key", &lock, err);
    if (rc < 0)
        return rc;
    if (faccessat(store->dirfd, "node.key", F_OK, 0) < 0 && errno == ENOENT) {
        wh_random(fresh, sizeof(fresh));
        rc = wh_write_file(store->dirfd, "node.key", fresh, sizeof(fresh), 0600, err);
        explicit_bzero(fresh, sizeof(fresh));
        if (rc < 0)
            return rc;
    }
    rc = wh_read_file(store->dirfd, "node.key", WH_NODE_KEY_BYTES, &key, &n, err);
    if (rc == 0 && n != WH_NODE_KEY_BYTES)
        rc = wh_fail(err, -EBADMSG,
                     "'%s/node.key' has %zu bytes instead of %d; remove it, and code is compiled again.",
                     store->dir, n, WH_NODE_KEY_BYTES);
    if (rc < 0)
        return rc;
    memcpy(store->node_key, key, WH_NODE_KEY_BYTES);
    explicit_bzero(key, WH_NODE_KEY_BYTES);
    return 0;
}

static void sweep_temp(wh_store *store)
{
    int fd = openat(store->dirfd, "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    struct stat st;
    time_t now = time(NULL);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.' || fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (st.st_mtim.tv_sec + TEMP_AGE_S < now)
            (void)wh_rm_rf(fd, entry->d_name, NULL); /* the next one tries again */
    }
    if (dir != NULL)
        closedir(dir);
}

static int open_folders(wh_store *store, wh_err *err)
{
    int rc = wh_mkdir_p(store->dir, 0700, err);
    if (rc < 0)
        return rc;
    store->dirfd = open(store->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (store->dirfd < 0)
        return wh_fail(err, -errno, "open the store '%s'", store->dir);
    struct stat st;
    if (fstat(store->dirfd, &st) == 0 && (st.st_mode & 0077) != 0 && fchmod(store->dirfd, 0700) < 0)
        return wh_fail(err, -errno, "make the store '%s' private", store->dir);
    for (size_t i = 0; i < WH_ARRAY_LEN(folders); i++)
        if (mkdirat(store->dirfd, folders[i], 0700) < 0 && errno != EEXIST)
            return wh_fail(err, -errno, "make '%s/%s'", store->dir, folders[i]);
    return 0;
}

int wh_store_open(const char *dir, const char *prepare, wh_store **ret, wh_err *err)
{
    wh_store *store = wh_xnew(wh_store);
    *store = (wh_store){
        .magic = WH_STORE_MAGIC, .dir = wh_xstrdup(dir), .prepare = wh_xstrdup(prepare), .dirfd = -1};
    (void)pthread_mutex_init(&store->lock, NULL);
    int rc = open_folders(store, err);
    if (rc == 0)
        rc = wh_db_open(store, err);
    if (rc == 0)
        rc = load_node_key(store, err);
    if (rc < 0) {
        wh_store_close(store);
        return rc;
    }
    sweep_temp(store);
    *ret = store;
    return 0;
}

void wh_store_close(wh_store *store)
{
    if (store == NULL)
        return;
    wh_assert(store->magic == WH_STORE_MAGIC);
    wh_db_close(store);
    if (store->dirfd >= 0)
        close(store->dirfd);
    (void)pthread_mutex_destroy(&store->lock);
    explicit_bzero(store->node_key, sizeof(store->node_key));
    free(store->seen_code);
    free(store->identity);
    free(store->prepare);
    free(store->dir);
    store->magic = 0;
    free(store);
}

/* ---- image records ---- */

void wh_image_record_done(wh_image_record *record)
{
    free(record->digest);
    free(record->top);
    free(record->module);
    free(record->title);
    wh_image_config_done(&record->config);
    wh_strv_free(record->blobs);
    *record = (wh_image_record){0};
}

static json_t *list_json(char *const *list)
{
    json_t *array = json_array();
    for (size_t i = 0; i < wh_strv_len(list); i++)
        json_array_append_new(array, wh_json_string(list[i]));
    return array;
}

static char *record_doc(const wh_image_record *r)
{
    auto_json json_t *j = json_object();
    json_object_set_new(j, "title", wh_json_string(r->title));
    json_object_set_new(j, "workingDir", wh_json_string(r->config.working_dir));
    json_object_set_new(j, "user", wh_json_string(r->config.user));
    json_object_set_new(j, "stopSignal", wh_json_string(r->config.stop_signal));
    json_object_set_new(j, "entrypoint", list_json(r->config.entrypoint));
    json_object_set_new(j, "cmd", list_json(r->config.cmd));
    json_object_set_new(j, "env", list_json(r->config.env));
    json_object_set_new(j, "exposedPorts", list_json(r->config.exposed_ports));
    return wh_json_dump(j);
}

/* The blobs of an image, and the reference that names it. */
static int add_links(wh_store *store, const char *reference, const wh_image_record *r, wh_time now,
                     wh_err *err)
{
    int rc = 0;
    for (size_t i = 0; rc >= 0 && i < wh_strv_len(r->blobs); i++) {
        rc = wh_db_run(store, err, NULL, NULL, "UPDATE blob SET used=?1 WHERE digest=?2", "is", now,
                       r->blobs[i]);
        if (rc == 0) /* collected in between: the caller pulls again */
            return wh_fail(err, -EAGAIN, "blob %s went away during the pull.", r->blobs[i]);
        if (rc > 0)
            rc = wh_db_run(store, err, NULL, NULL,
                           "INSERT OR IGNORE INTO image_blob(image, digest) VALUES(?1, ?2)", "ss", r->digest,
                           r->blobs[i]);
    }
    if (rc >= 0)
        rc = wh_db_run(store, err, NULL, NULL,
                       "INSERT INTO ref(reference, image, top, pulled, used) VALUES(?1, ?2, ?3, ?4, ?4)"
                       " ON CONFLICT(reference) DO UPDATE SET image=?2, top=?3, pulled=?4, used=?4",
                       "sssi", reference, r->digest, r->top, now);
    return rc;
}

static int add_rows(wh_store *store, const char *reference, const wh_image_record *r, const char *doc,
                    wh_err *err)
{
    wh_time now = wh_real_now();
    int rc = add_links(store, reference, r, now, err);
    if (rc >= 0)
        rc = wh_db_run(
            store, err, NULL, NULL,
            "INSERT INTO image(digest, form, module, doc, bytes, pulled, used) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?6)"
            " ON CONFLICT(digest) DO UPDATE SET form=?2, module=?3, doc=?4, bytes=?5, used=?6",
            "sissii", r->digest, (int64_t)r->form, r->module, doc, (int64_t)r->bytes, now);
    return rc;
}

int wh_store_image_add(wh_store *store, const char *reference, const wh_image_record *r, wh_err *err)
{
    auto_free char *doc = record_doc(r);
    int rc = wh_db_begin(store, true, err);
    if (rc < 0)
        return rc;
    return wh_db_end(store, add_rows(store, reference, r, doc, err), err);
}

static wh_strv json_list(const json_t *j, const char *key)
{
    wh_strv list = NULL;
    const json_t *array = json_object_get(j, key);
    for (size_t i = 0; i < json_array_size(array); i++)
        wh_strv_push(&list, json_string_value(json_array_get(array, i)));
    return list;
}

static char *text_member(const json_t *j, const char *key)
{
    const char *text = wh_json_str(j, key);
    return text == NULL ? NULL : wh_xstrdup(text);
}

bool wh_reference_is_local(const char *reference)
{
    return wh_starts_with(reference, "./") || wh_starts_with(reference, "../") || reference[0] == '/' ||
           wh_starts_with(reference, "oci:") || wh_starts_with(reference, "oci-archive:") ||
           wh_ends_with(reference, ".wasm") || wh_ends_with(reference, ".wat");
}

int wh_reference_canonical(const char *reference, char **ret, wh_err *err)
{
    wh_ref ref;
    if (wh_reference_is_local(reference)) { /* the same file, wherever it is named from */
        char *path = realpath(reference, NULL);
        *ret = path != NULL ? path : wh_xstrdup(reference);
        return 0;
    }
    int rc = wh_ref_parse(reference, &ref, err);
    if (rc < 0)
        return rc;
    *ret = wh_ref_text(&ref);
    wh_ref_done(&ref);
    return 0;
}

static void name_image(wh_image *image, const char *reference)
{
    wh_ref ref;
    image->reference = wh_xstrdup(reference);
    if (wh_reference_is_local(reference) || wh_ref_parse(reference, &ref, NULL) < 0) {
        const char *slash = strrchr(reference, '/');
        image->image_id = wh_xasprintf("file@%s", image->digest);
        if (wh_ends_with(reference, ".wasm") ||
            wh_ends_with(reference, ".wat")) { /* two files may hold the same bytes */
            free(image->title);
            image->title = wh_xstrdup(slash == NULL ? reference : slash + 1);
        }
    } else {
        const char *slash = strrchr(ref.repository, '/');
        image->image_id = wh_xasprintf("%s/%s@%s", ref.host, ref.repository, image->digest);
        if (image->title == NULL)
            image->title = wh_xstrdup(slash == NULL ? ref.repository : slash + 1);
        wh_ref_done(&ref);
    }
    if (image->title == NULL)
        image->title = wh_xstrdup("main.wasm");
}

static int take_image(void *user, sqlite3_stmt *row)
{
    wh_image *image = user;
    auto_json json_t *j = NULL;
    const char *doc = (const char *)sqlite3_column_text(row, 3);
    if (doc == NULL || wh_json_parse(doc, strlen(doc), &j, NULL) < 0)
        return -EUCLEAN;
    image->digest = wh_db_text(row, 0);
    image->form = sqlite3_column_int(row, 1) == WH_IMAGE_ROOTFS ? WH_IMAGE_ROOTFS : WH_IMAGE_MODULE;
    image->module_digest = wh_db_text(row, 2);
    image->bytes = (uint64_t)sqlite3_column_int64(row, 4);
    image->title = text_member(j, "title");
    image->working_dir = text_member(j, "workingDir");
    image->user = text_member(j, "user");
    image->stop_signal = text_member(j, "stopSignal");
    image->entrypoint = json_list(j, "entrypoint");
    image->cmd = json_list(j, "cmd");
    image->env = json_list(j, "env");
    image->exposed_ports = json_list(j, "exposedPorts");
    return 0;
}

/* The database may know what somebody has removed by hand. */
static bool files_are_there(wh_store *store, wh_image *image)
{
    auto_free char *path = NULL;
    if (image->form == WH_IMAGE_ROOTFS)
        path = wh_store_rootfs_path(image->digest);
    else if (wh_digest_valid(image->module_digest))
        path = wh_store_blob_path(image->module_digest);
    if (path == NULL || faccessat(store->dirfd, path, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
        return false;
    if (image->form == WH_IMAGE_ROOTFS)
        image->rootfs = wh_path_join(store->dir, path);
    return true;
}

static int reuse_rows(wh_store *store, const char *reference, const wh_image_record *r, bool *ret_known,
                      wh_err *err)
{
    auto_image wh_image *image = wh_xnew(wh_image);
    wh_time now = wh_real_now();
    int rc = wh_db_run(store, err, take_image, image,
                       "SELECT digest, form, module, doc, bytes FROM image WHERE digest=?1", "s", r->digest);
    *ret_known = rc >= 0 && image->digest != NULL && files_are_there(store, image);
    if (!*ret_known)
        return rc == -EUCLEAN ? 0 : rc;
    rc = add_links(store, reference, r, now, err);
    if (rc >= 0)
        rc = wh_db_run(store, err, NULL, NULL, "UPDATE image SET used=?1 WHERE digest=?2", "is", now,
                       r->digest);
    return rc;
}

int wh_store_image_reuse(wh_store *store, const char *reference, const wh_image_record *r, wh_err *err)
{
    bool known = false;
    int rc = wh_db_begin(store, true, err);
    if (rc < 0)
        return rc;
    rc = wh_db_end(store, reuse_rows(store, reference, r, &known, err), err);
    return rc < 0 ? rc : known;
}

static int find_rows(wh_store *store, const char *name, wh_image *image, wh_err *err)
{
    wh_time now = wh_real_now();
    int rc = wh_db_run(
        store, err, take_image, image,
        "SELECT image.digest, form, module, doc, bytes FROM ref JOIN image ON image.digest = ref.image"
        " WHERE reference=?1",
        "s", name);
    if (rc == -EUCLEAN)
        return wh_fail(err, rc, "store '%s': what it knows of '%.100s' cannot be read.", store->dir, name);
    if (rc >= 0 && image->digest != NULL)
        rc = wh_db_run(store, err, NULL, NULL, "UPDATE ref SET used=?1 WHERE reference=?2 AND used<?3", "isi",
                       now, name, now - WH_STORE_TOUCH);
    if (rc >= 0 && image->digest != NULL)
        rc = wh_db_run(store, err, NULL, NULL, "UPDATE image SET used=?1 WHERE digest=?2 AND used<?3", "isi",
                       now, image->digest, now - WH_STORE_TOUCH);
    return rc;
}

int wh_image_find(wh_store *store, const char *reference, wh_image **ret, wh_err *err)
{
    auto_free char *name = NULL;
    auto_image wh_image *image = wh_xnew(wh_image);
    int rc = wh_reference_canonical(reference, &name, err);
    if (rc == 0)
        rc = wh_db_begin(store, true, err);
    if (rc < 0)
        return rc;
    rc = wh_db_end(store, find_rows(store, name, image, err), err);
    if (rc < 0)
        return rc;
    if (image->digest == NULL || !files_are_there(store, image))
        return wh_fail(err, -ENOENT, "image '%.150s' is not on this machine.", reference);
    name_image(image, reference);
    *ret = WH_TAKE(image);
    return 0;
}

void wh_image_free(wh_image *image)
{
    if (image == NULL)
        return;
    free(image->reference);
    free(image->digest);
    free(image->image_id);
    free(image->module_digest);
    free(image->title);
    free(image->rootfs);
    wh_strv_free(image->entrypoint);
    wh_strv_free(image->cmd);
    wh_strv_free(image->env);
    wh_strv_free(image->exposed_ports);
    free(image->working_dir);
    free(image->user);
    free(image->stop_signal);
    free(image);
}

/* ---- lists and leases ---- */

typedef struct row_list {
    wh_image_row *rows;
    size_t n, cap;
} row_list;

static int take_row(void *user, sqlite3_stmt *row)
{
    row_list *list = user;
    if (list->n == LIST_MAX)
        return -EFBIG;
    if (list->n == list->cap) {
        size_t cap = WH_MAX(list->cap * 2, (size_t)16);
        wh_image_row *grown = reallocarray(list->rows, cap, sizeof(*grown));
        if (grown == NULL)
            return -ENOMEM;
        list->rows = grown;
        list->cap = cap;
    }
    list->rows[list->n++] = (wh_image_row){.reference = wh_db_text(row, 0),
                                           .digest = wh_db_text(row, 1),
                                           .bytes = (uint64_t)sqlite3_column_int64(row, 2),
                                           .pulled = sqlite3_column_int64(row, 3),
                                           .used = sqlite3_column_int64(row, 4),
                                           .in_use = sqlite3_column_int(row, 5) != 0};
    return 0;
}

int wh_store_list(wh_store *store, wh_image_row **ret, size_t *ret_n, wh_err *err)
{
    row_list list = {0};
    int rc = wh_db_begin(store, true, err);
    if (rc < 0)
        return rc;
    rc = wh_db_run(
        store, err, take_row, &list,
        "SELECT reference, image.digest, image.bytes + ifnull((SELECT sum(code.bytes) FROM code WHERE"
        " code.module = image.module), 0), ref.pulled, ref.used,"
        " EXISTS(SELECT 1 FROM lease WHERE lease.image = image.digest)"
        " FROM ref JOIN image ON image.digest = ref.image ORDER BY reference",
        "");
    rc = wh_db_end(store, rc, err);
    if (rc < 0) {
        wh_image_rows_free(list.rows, list.n);
        return rc == -ENOMEM || rc == -EFBIG ? wh_fail(err, rc, "list the images of '%s'", store->dir) : rc;
    }
    *ret = list.rows;
    *ret_n = list.n;
    return 0;
}

void wh_image_rows_free(wh_image_row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(rows[i].reference);
        free(rows[i].digest);
    }
    free(rows);
}

int wh_store_lease(wh_store *store, const char *holder, const wh_image *image, wh_err *err)
{
    int rc = wh_db_begin(store, false, err);
    if (rc < 0)
        return rc;
    rc = wh_db_run(store, err, NULL, NULL, "UPDATE image SET used=?1 WHERE digest=?2", "is", wh_real_now(),
                   image->digest);
    if (rc == 0)
        rc = wh_fail(err, -ENOENT, "image '%.150s' is not on this machine any more.", image->reference);
    if (rc > 0)
        rc = wh_db_run(store, err, NULL, NULL, "INSERT OR IGNORE INTO lease(holder, image) VALUES(?1, ?2)",
                       "ss", holder, image->digest);
    return wh_db_end(store, rc, err);
}

int wh_store_release(wh_store *store, const char *holder, wh_err *err)
{
    int rc = wh_db_begin(store, false, err);
    if (rc < 0)
        return rc;
    rc = wh_db_run(store, err, NULL, NULL,
                   "UPDATE image SET used=?1 WHERE digest IN (SELECT image FROM lease WHERE holder=?2)", "is",
                   wh_real_now(), holder);
    if (rc >= 0)
        rc = wh_db_run(store, err, NULL, NULL, "DELETE FROM lease WHERE holder=?1", "s", holder);
    return wh_db_end(store, rc, err);
}

static int take_holder(void *user, sqlite3_stmt *row)
{
    wh_strv_push_take(user, wh_db_text(row, 0));
    return 0;
}

int wh_store_leases(wh_store *store, wh_strv *ret_holders, wh_err *err)
{
    auto_strv wh_strv holders = NULL;
    int rc = wh_db_begin(store, true, err);
    if (rc < 0)
        return rc;
    rc =
        wh_db_run(store, err, take_holder, &holders, "SELECT DISTINCT holder FROM lease ORDER BY holder", "");
    rc = wh_db_end(store, rc, err);
    if (rc == 0)
        *ret_holders = WH_TAKE(holders);
    return rc;
}

/* ---- removing by name ---- */

static int take_flag(void *user, sqlite3_stmt *row)
{
    *(bool *)user = sqlite3_column_int(row, 0) != 0;
    return 0;
}

static int remove_rows(wh_store *store, const char *name, const char *reference, wh_err *err)
{
    bool leased = false;
    int rc =
        wh_db_run(store, err, take_flag, &leased,
                  "SELECT EXISTS(SELECT 1 FROM ref JOIN lease ON lease.image = ref.image WHERE reference=?1)",
                  "s", name);
    if (rc >= 0 && leased)
        return wh_fail(err, -EBUSY, "image '%.150s' is used by a pod.", reference);
    if (rc >= 0)
        rc = wh_db_run(store, err, NULL, NULL, "DELETE FROM ref WHERE reference=?1", "s", name);
    return rc == 0 ? wh_fail(err, -ENOENT, "image '%.150s' is not on this machine.", reference) : rc;
}

int wh_store_remove(wh_store *store, const char *reference, wh_err *err)
{
    auto_free char *name = NULL;
    const wh_gc_policy unused_only = {.high_percent = 100, .low_percent = 100, .min_age = 0};
    uint64_t freed;
    int rc = wh_reference_canonical(reference, &name, err);
    if (rc == 0)
        rc = wh_db_begin(store, true, err);
    if (rc < 0)
        return rc;
    rc = wh_db_end(store, remove_rows(store, name, reference, err), err);
    return rc < 0 ? rc : wh_store_gc(store, &unused_only, &freed, err);
}
