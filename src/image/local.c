/* SPDX-License-Identifier: Apache-2.0 */
/* Images without a registry: a module, its text form, an OCI layout folder, a tar of one. */
#include "base/file.h"
#include "base/limits.h"
#include "image/store.h"
#include "prepare/prepare.h"

#include <fcntl.h>
#include <linux/openat2.h>

#define COPY_STEP ((size_t)256 * 1024)
#define WAT2WASM "/usr/bin/wat2wasm"
#define WAT_DEADLINE (60 * WH_SEC)
#define UNPACK_DEADLINE (5 * WH_MINUTE)

/* ---- one module ---- */

/* Copies a file into the store and hashes on the way, so that what is hashed is what is kept. */
static int copy_in(int in, int out, uint64_t max, char digest[WH_DIGEST_TEXT_MAX], uint64_t *ret_bytes,
                   wh_err *err)
{
    auto_hash wh_hash *hash = NULL;
    auto_free char *step = malloc(COPY_STEP);
    uint64_t total = 0;
    int rc = wh_hash_new(NULL, &hash, err);
    if (rc < 0)
        return rc;
    if (step == NULL)
        return wh_fail(err, -ENOMEM, "copy");
    for (;;) {
        ssize_t n = read(in, step, COPY_STEP);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return wh_fail(err, -errno, "read");
        if (n == 0)
            break;
        total += (uint64_t)n;
        if (total > max)
            return wh_fail(err, -EFBIG, "it has more than %llu bytes.", (unsigned long long)max);
        wh_hash_add(hash, step, (size_t)n);
        rc = wh_write_all(out, step, (size_t)n);
        if (rc < 0)
            return wh_fail(err, rc, "write to the store");
    }
    wh_hash_text(hash, digest);
    *ret_bytes = total;
    return 0;
}

static int check_head(int fd, wh_err *err)
{
    uint8_t head[512];
    ssize_t n = pread(fd, head, sizeof(head), 0);
    if (n < 0)
        return wh_fail(err, -errno, "read");
    wh_bytes_kind kind = wh_bytes_sniff(head, (size_t)n, err);
    if (kind == WH_BYTES_REFUSED)
        return err == NULL ? -EBADMSG : err->code;
    if (kind == WH_BYTES_TEXT)
        return wh_fail(err, -EBADMSG, "it holds Wasm in text form; name it .wat, or use wat2wasm.");
    if (kind == WH_BYTES_TAR)
        return wh_fail(err, -EBADMSG, "it is an archive; 'oci-archive:FILE' reads one in OCI layout.");
    return 0;
}

/* Keeps a copy, unless the store has these bytes already: every pod of a local file comes by here. */
static int keep_blob(wh_store *store, const char *temp, int fd, const char *digest, uint64_t bytes,
                     wh_err *err)
{
    int have = -1;
    uint64_t have_bytes = 0;
    int rc = wh_store_blob_open(store, digest, &have, &have_bytes, NULL);
    if (rc < 0 || have_bytes != bytes) {
        if (rc == 0)
            close(have);
        return wh_store_blob_add(store, temp, fd, digest, err);
    }
    close(have);
    return unlinkat(store->dirfd, temp, 0) < 0 ? wh_fail(err, -errno, "remove '%s/%s'", store->dir, temp) : 0;
}

static int add_module(wh_store *store, int in, const char *reference, const char *path, wh_err *err)
{
    auto_free char *temp = NULL;
    auto_close int out = -1;
    wh_image_record r = {.form = WH_IMAGE_MODULE};
    char digest[WH_DIGEST_TEXT_MAX];
    const char *slash = strrchr(path, '/');
    int rc = wh_store_temp(store, &temp, &out, err);
    if (rc < 0)
        return rc;
    rc = copy_in(in, out, WH_WASM_BYTES_MAX, digest, &r.bytes, err);
    if (rc == 0)
        rc = check_head(out, err);
    if (rc == 0)
        rc = keep_blob(store, temp, out, digest, r.bytes, err);
    if (rc < 0) {
        (void)unlinkat(store->dirfd, temp, 0);
        return rc;
    }
    r.digest = wh_xstrdup(digest);
    r.top = wh_xstrdup(digest);
    r.module = wh_xstrdup(digest);
    r.title = wh_xstrdup(slash == NULL ? path : slash + 1);
    wh_strv_push(&r.blobs, digest);
    rc = wh_store_image_add(store, reference, &r, err);
    wh_image_record_done(&r);
    return rc;
}

static int pull_wasm(wh_store *store, const char *reference, wh_err *err)
{
    auto_close int fd = open(reference, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return wh_fail(err, -errno, "open '%.150s'", reference);
    int rc = add_module(store, fd, reference, reference, err);
    if (rc < 0)
        (void)wh_wrap(err, "'%.120s'", reference);
    return rc;
}

static int pull_wat(wh_store *store, const char *reference, wh_err *err)
{
    auto_free char *temp = NULL;
    auto_close int fd = -1;
    if (access(reference, R_OK) < 0)
        return wh_fail(err, -errno, "open '%.150s'", reference);
    if (access(WAT2WASM, X_OK) < 0)
        return wh_fail(err, -ENOTSUP,
                       "'%.120s' is Wasm in text form, and wat2wasm is not installed; install the package "
                       "wabt, or give a .wasm file.",
                       reference);
    int rc = wh_store_temp(store, &temp, &fd, err);
    if (rc < 0)
        return rc;
    auto_free char *out = wh_path_join(store->dir, temp);
    auto_free char *out_absolute = realpath(out, NULL);
    auto_free char *in = realpath(reference, NULL);
    if (in == NULL || out_absolute == NULL)
        return wh_fail(err, -errno, "open '%.150s'", reference);
    char *const argv[] = {
        (char[]){WAT2WASM}, (char[]){"--enable-all"}, in, (char[]){"-o"}, out_absolute, NULL};
    rc = wh_tool_run(argv, WAT_DEADLINE, err);
    if (rc == 0) {
        auto_close int made = open(out_absolute, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        rc = made < 0 ? wh_fail(err, -errno, "open what wat2wasm made")
                      : add_module(store, made, reference, reference, err);
    }
    (void)unlinkat(store->dirfd, temp, 0);
    if (rc < 0)
        (void)wh_wrap(err, "'%.120s'", reference);
    return rc;
}

/* ---- OCI layout ---- */

typedef struct layout {
    int dir;
    const char *tag; /* or NULL */
    wh_pull_state *state;
} layout;

static int open_layout_blob(const layout *l, const char *digest, wh_err *err)
{
    auto_free char *path = wh_store_blob_path(digest);
    int fd =
        wh_openat2(l->dir, path, O_RDONLY | O_NOCTTY | O_NONBLOCK, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
    struct stat st;
    if (fd < 0)
        return wh_fail(err, fd, "open %s", path);
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return wh_fail(err, -EBADMSG, "%s is not a file.", path);
    }
    return fd;
}

/* The entry of index.json that carries the tag, or the only one. */
static int pick_entry(const layout *l, const wh_oci_manifest *index, size_t *ret, wh_err *err)
{
    size_t found = 0;
    for (size_t i = 0; i < index->n_items; i++) {
        const char *name = index->items[i].ref_name;
        const char *colon = name == NULL ? NULL : strrchr(name, ':');
        bool same = wh_streq(name, l->tag) ||
                    (colon != NULL && strchr(colon, '/') == NULL && wh_streq(colon + 1, l->tag));
        if (l->tag != NULL ? same : true) {
            *ret = i;
            found++;
        }
    }
    if (found == 1)
        return 0;
    if (l->tag != NULL && found == 0)
        return wh_fail(err, -ENOENT, "its index.json has no entry named '%.80s'.", l->tag);
    return wh_fail(err, -ENOENT, "its index.json has %zu entries%s; name one behind a ':'.", found,
                   l->tag == NULL ? "" : " of that name");
}

static int layout_root(const layout *l, char digest[WH_DIGEST_TEXT_MAX], char **ret_type, wh_err *err)
{
    auto_free char *marker = NULL;
    auto_free char *text = NULL;
    auto_oci_manifest wh_oci_manifest *index = NULL;
    size_t n, entry = 0;
    if (wh_read_file(l->dir, "oci-layout", 4096, &marker, NULL, NULL) < 0)
        return wh_fail(err, -EBADMSG, "it holds no file 'oci-layout'.");
    int rc = wh_read_file(l->dir, "index.json", WH_MANIFEST_BYTES_MAX, &text, &n, err);
    if (rc == 0)
        rc = wh_oci_manifest_parse(WH_TYPE_OCI_INDEX, text, n, &index, err);
    if (rc == 0)
        rc = pick_entry(l, index, &entry, err);
    if (rc < 0)
        return rc;
    wh_assert(index != NULL);
    memcpy(digest, index->items[entry].digest, strlen(index->items[entry].digest) + 1);
    *ret_type = wh_xstrdup(index->items[entry].media_type);
    return 0;
}

static int layout_manifest(void *user, const char *name, wh_buf *ret_body, char **ret_type,
                           char digest[WH_DIGEST_TEXT_MAX], wh_err *err)
{
    const layout *l = user;
    char wanted[WH_DIGEST_TEXT_MAX] = "";
    auto_free char *type = NULL;
    auto_free char *text = NULL;
    size_t n;
    int rc = 0;
    if (wh_digest_valid(name))
        memcpy(wanted, name, strlen(name) + 1);
    else
        rc = layout_root(l, wanted, &type, err);
    if (rc < 0)
        return rc;
    auto_close int fd = open_layout_blob(l, wanted, err);
    if (fd < 0)
        return fd;
    rc = wh_read_fd(fd, WH_MANIFEST_BYTES_MAX, &text, &n, err);
    if (rc == 0)
        rc = wh_digest_of(wanted, text, n, digest, err);
    if (rc < 0)
        return rc;
    if (strcmp(digest, wanted) != 0)
        return wh_fail(err, -EBADMSG, "manifest %s has the digest %s.", wanted, digest);
    wh_buf_reset(ret_body);
    rc = wh_buf_append(ret_body, text, n);
    if (rc == 0)
        *ret_type = WH_TAKE(type);
    return rc;
}

static int layout_blob(void *user, const wh_descriptor *blob, int out, wh_err *err)
{
    const layout *l = user;
    auto_close int in = open_layout_blob(l, blob->digest, err);
    char found[WH_DIGEST_TEXT_MAX];
    uint64_t bytes;
    if (in < 0)
        return in;
    char sha256[WH_DIGEST_TEXT_MAX];
    int rc = copy_in(in, out, blob->size, sha256, &bytes, err);
    if (rc == 0)
        rc = wh_digest_of_fd(blob->digest, out, found, err);
    if (rc < 0)
        return rc;
    if (bytes != blob->size || strcmp(found, blob->digest) != 0)
        return wh_fail(err, -EBADMSG, "blob %s: its %llu bytes have the digest %s.", blob->digest,
                       (unsigned long long)bytes, found);
    l->state->done += bytes;
    return wh_pull_cancelled(l->state) ? wh_fail(err, -ECANCELED, "cancelled.") : 0;
}

static int pull_layout(wh_store *store, int dir, const char *tag, const char *reference,
                       const wh_pull_options *options, wh_err *err)
{
    wh_pull_state state = {.store = store, .reference = reference, .options = options};
    layout l = {.dir = dir, .tag = tag, .state = &state};
    const wh_source source = {.manifest = layout_manifest, .blob = layout_blob, .user = &l};
    state.source = &source;
    int rc = wh_pull_from(&state, "", err);
    if (rc < 0)
        (void)wh_wrap(err, "'%.120s'", reference);
    return rc;
}

static int pull_archive(wh_store *store, const char *path, const char *tag, const char *reference,
                        const wh_pull_options *options, wh_err *err)
{
    auto_free char *temp = NULL;
    auto_close int dir = -1;
    auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    auto_buf wh_buf record;
    wh_buf_init(&record, WH_PREPARE_RESULT_BYTES_MAX);
    if (fd < 0)
        return wh_fail(err, -errno, "open '%.150s'", path);
    int rc = wh_store_temp_dir(store, &temp, &dir, err);
    if (rc < 0)
        return rc;
    const char *const args[] = {"unpack", "1", "plain", NULL};
    const wh_prepare_job job = {
        .args = args, .in = -1, .out = dir, .layers = &fd, .n_layers = 1, .deadline = UNPACK_DEADLINE};
    if (geteuid() == 0 && fchown(dir, WH_PREPARE_UID, WH_PREPARE_UID) < 0 && errno != EPERM &&
        errno != EINVAL)
        rc = wh_fail(err, -errno, "give a folder to wherry-prepare");
    if (rc == 0 && (rc = wh_prepare_run(store, &job, &record, err)) < 0)
        (void)wh_wrap(err, "'%.120s'", path);
    if (rc == 0)
        rc = pull_layout(store, dir, tag, reference, options, err);
    (void)wh_rm_rf(store->dirfd, temp, NULL); /* swept later otherwise */
    return rc;
}

/* "PATH[:TAG]": a tag has no slash, and the path alone must not exist under the whole name. */
static void split_tag(const char *text, char **ret_path, const char **ret_tag)
{
    const char *colon = strrchr(text, ':');
    bool whole = colon == NULL || strchr(colon, '/') != NULL || access(text, F_OK) == 0;
    *ret_path = whole ? wh_xstrdup(text) : wh_xstrndup(text, (size_t)(colon - text));
    *ret_tag = whole ? NULL : colon + 1;
}

int wh_pull_local(wh_store *store, const char *reference, const wh_pull_options *options, wh_err *err)
{
    auto_free char *path = NULL;
    const char *tag;
    if (wh_starts_with(reference, "oci:")) {
        split_tag(reference + 4, &path, &tag);
        auto_close int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0)
            return wh_fail(err, -errno, "open '%.150s'", path);
        return pull_layout(store, dir, tag, reference, options, err);
    }
    if (wh_starts_with(reference, "oci-archive:")) {
        split_tag(reference + 12, &path, &tag);
        return pull_archive(store, path, tag, reference, options, err);
    }
    return wh_ends_with(reference, ".wat") ? pull_wat(store, reference, err)
                                           : pull_wasm(store, reference, err);
}
