/* SPDX-License-Identifier: Apache-2.0 */
/* Taking an image into the store: manifest, choice, config, layers, tree. Where the bytes come from is a
 * wh_source. */
#include "base/file.h"
#include "base/limits.h"
#include "base/record.h"
#include "image/store.h"
#include "prepare/prepare.h"

#define COMPONENTS_SUPPORTED true
#define UNPACK_DEADLINE (5 * WH_MINUTE)

bool wh_pull_cancelled(void *pull_state)
{
    wh_pull_state *s = pull_state;
    const wh_pull_options *o = s->options;
    return o != NULL && o->progress != NULL && o->progress(o->user, s->done, s->total, s->reference);
}

/* ---- blobs ---- */

static bool same_size(const wh_descriptor *d, uint64_t bytes)
{
    return d->size == bytes;
}

/* The blob's bytes in the store, fetched when they are not there; one download per digest, whoever asks. */
static int get_blob(wh_pull_state *s, const wh_descriptor *d, int *ret, wh_err *err)
{
    auto_free char *temp = NULL;
    auto_close int lock = -1;
    auto_close int fd = -1;
    uint64_t bytes = 0;
    int rc = wh_store_blob_open(s->store, d->digest, &fd, &bytes, NULL);
    if (rc == -ENOENT)
        rc = wh_store_lock(s->store, wh_digest_hex(d->digest), &lock, err);
    if (rc == 0 && fd < 0)
        rc = wh_store_blob_open(s->store, d->digest, &fd, &bytes, NULL);
    if (rc == 0) {
        if (!same_size(d, bytes))
            return wh_fail(err, -EBADMSG, "blob %s has %llu bytes; its descriptor says %llu.", d->digest,
                           (unsigned long long)bytes, (unsigned long long)d->size);
        s->done += bytes;
        (void)wh_pull_cancelled(s);
        *ret = WH_TAKE_FD(fd);
        return 0;
    }
    if (rc != -ENOENT)
        return rc;
    auto_close int out = -1;
    rc = wh_store_temp(s->store, &temp, &out, err);
    if (rc < 0)
        return rc;
    rc = s->source->blob(s->source->user, d, out, err);
    if (rc == 0)
        rc = wh_store_blob_add(s->store, temp, out, d->digest, err);
    if (rc < 0) {
        (void)unlinkat(s->store->dirfd, temp, 0);
        return rc;
    }
    return wh_store_blob_open(s->store, d->digest, ret, &bytes, err);
}

/* ---- layers ---- */

int wh_module_head(int fd, const char *reference, wh_bytes_kind *ret, wh_err *err)
{
    uint8_t head[512];
    ssize_t n = pread(fd, head, sizeof(head), 0);
    if (n < 0)
        return wh_fail(err, -errno, "read a layer of %s", reference);
    *ret = wh_bytes_sniff(head, (size_t)n, err);
    if (*ret == WH_BYTES_REFUSED) {
        (void)wh_wrap(err, "%s", reference);
        return err == NULL ? -EBADMSG : err->code;
    }
    if (*ret == WH_BYTES_TEXT)
        return wh_fail(err, -EBADMSG,
                       "%s holds Wasm in text form; push the binary that wat2wasm makes of it.", reference);
    return 0;
}

static void note_module(const wh_buf *record, wh_image_record *r)
{
    wh_field field;
    size_t n = 0;
    auto_free char *found = NULL;
    int64_t bytes;
    wh_record_iter it = wh_record_begin(record->p, record->len);
    while (wh_record_next(&it, &field)) {
        if (!wh_field_is(&field, "module"))
            continue;
        free(found);
        found = wh_field_strdup(&field);
        n++;
    }
    if (wh_record_get_i64(record->p, record->len, "bytes", 0, INT64_MAX, &bytes, NULL) == 0)
        r->bytes += (uint64_t)bytes;
    /* A tree that says nothing and holds one module means that one. */
    if (n == 1 && found != NULL && r->config.entrypoint == NULL && r->config.cmd == NULL)
        wh_strv_push_take(&r->config.entrypoint, wh_xasprintf("/%s", found));
}

static int unpack_into(wh_pull_state *s, int dir, const int *fds, size_t n, bool plain, wh_buf *record,
                       wh_err *err)
{
    auto_free char *count = wh_xasprintf("%zu", n);
    const char *const args[] = {"unpack", count, plain ? "plain" : NULL, NULL};
    const wh_prepare_job job = {.args = args,
                                .in = -1,
                                .out = dir,
                                .layers = fds,
                                .n_layers = n,
                                .deadline = UNPACK_DEADLINE,
                                .cancelled = wh_pull_cancelled,
                                .user = s};
    if (geteuid() == 0 && fchown(dir, WH_PREPARE_UID, WH_PREPARE_UID) < 0 && errno != EPERM &&
        errno != EINVAL)
        return wh_fail(err, -errno, "give a folder to wherry-prepare");
    return wh_prepare_run(s->store, &job, record, err);
}

static int build_tree(wh_pull_state *s, const int *fds, size_t n, const char *place, wh_buf *record,
                      wh_err *err)
{
    auto_free char *temp = NULL;
    auto_close int dir = -1;
    int rc = wh_store_temp_dir(s->store, &temp, &dir, err);
    if (rc < 0)
        return rc;
    rc = unpack_into(s, dir, fds, n, false, record, err);
    if (rc == 0)
        rc = wh_store_place(s->store, temp, dir, place, err);
    if (rc < 0)
        (void)wh_rm_rf(s->store->dirfd, temp, NULL); /* swept later otherwise */
    return rc;
}

static int make_tree(wh_pull_state *s, const int *fds, size_t n, wh_image_record *r, wh_err *err)
{
    auto_free char *place = wh_store_rootfs_path(r->digest);
    auto_buf wh_buf record;
    wh_buf_init(&record, WH_PREPARE_RESULT_BYTES_MAX);
    int rc = build_tree(s, fds, n, place, &record, err);
    if (rc < 0) {
        (void)wh_wrap(err, "%s", s->reference);
        return rc;
    }
    note_module(&record, r);
    return 0;
}

static void close_all(int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

static int take_rootfs(wh_pull_state *s, const wh_oci_manifest *m, wh_image_record *r, wh_err *err)
{
    auto_free int *fds = wh_xcalloc(m->n_items, sizeof(*fds));
    int rc = 0;
    size_t n = 0;
    for (; rc == 0 && n < m->n_items; n++) {
        fds[n] = -1;
        rc = get_blob(s, &m->items[n], &fds[n], err);
        wh_strv_push(&r->blobs, m->items[n].digest);
    }
    r->form = WH_IMAGE_ROOTFS;
    if (rc == 0)
        rc = make_tree(s, fds, n, r, err);
    close_all(fds, n);
    return rc;
}

static int take_module(wh_pull_state *s, const wh_oci_manifest *m, size_t layer, wh_image_record *r,
                       wh_err *err)
{
    const wh_descriptor *d = &m->items[layer];
    auto_close int fd = -1;
    wh_bytes_kind kind;
    if (d->size > WH_WASM_BYTES_MAX)
        return wh_fail(err, -EFBIG, "%s: the module has %llu bytes; %lu are allowed.", s->reference,
                       (unsigned long long)d->size, WH_WASM_BYTES_MAX);
    int rc = get_blob(s, d, &fd, err);
    if (rc == 0)
        rc = wh_module_head(fd, s->reference, &kind, err);
    if (rc < 0)
        return rc;
    if (kind == WH_BYTES_TAR && m->n_items == 1)
        return take_rootfs(s, m, r, err);
    wh_strv_push(&r->blobs, d->digest);
    r->form = WH_IMAGE_MODULE;
    r->module = wh_xstrdup(d->digest);
    r->bytes += d->size;
    const char *title = d->title != NULL ? d->title : m->title;
    if (title != NULL && *title != '\0')
        r->title = wh_xstrdup(title);
    return 0;
}

/* ---- manifests ---- */

static bool is_known_config(const char *type)
{
    return wh_streq(type, "application/vnd.oci.image.config.v1+json") ||
           wh_streq(type, "application/vnd.docker.container.image.v1+json") ||
           wh_streq(type, WH_TYPE_WASM_CONFIG);
}

/* The config of a kind that we know; of any other nothing is expected. */
static int take_config(wh_pull_state *s, const wh_oci_manifest *m, const wh_plan *plan, wh_image_record *r,
                       wh_err *err)
{
    auto_close int fd = -1;
    auto_free char *text = NULL;
    size_t n;
    if (!is_known_config(m->config.media_type))
        return 0;
    if (m->config.size > WH_MANIFEST_BYTES_MAX)
        return wh_fail(err, -EFBIG, "%s: the config has %llu bytes; %lu are allowed.", s->reference,
                       (unsigned long long)m->config.size, WH_MANIFEST_BYTES_MAX);
    int rc = get_blob(s, &m->config, &fd, err);
    if (rc == 0)
        rc = wh_read_fd(fd, WH_MANIFEST_BYTES_MAX, &text, &n, err);
    if (rc == 0)
        rc = wh_image_config_parse(text, n, &r->config, err);
    if (rc < 0)
        return rc;
    wh_strv_push(&r->blobs, m->config.digest);
    return wh_image_config_check(&r->config, m, plan, s->reference, err);
}

static int take_layers(wh_pull_state *s, const wh_oci_manifest *m, const wh_plan *plan, wh_image_record *r,
                       wh_err *err)
{
    if (plan->kind == WH_PLAN_ROOTFS)
        return take_rootfs(s, m, r, err);
    return take_module(s, m, plan->kind == WH_PLAN_SNIFF ? 0 : plan->layer, r, err);
}

static void count_bytes(wh_pull_state *s, const wh_oci_manifest *m)
{
    s->done = 0;
    s->total = is_known_config(m->config.media_type) ? m->config.size : 0;
    for (size_t i = 0; i < m->n_items; i++)
        s->total += m->items[i].size;
}

static int take_manifest(wh_pull_state *s, const wh_oci_manifest *m, wh_image_record *r, wh_err *err)
{
    wh_plan plan;
    auto_close int lock = -1;
    auto_free char *name = wh_xasprintf("image-%s", wh_digest_hex(r->digest));
    int rc = wh_oci_manifest_plan(m, s->reference, &plan, err);
    if (rc == 0)
        rc = wh_store_lock(s->store, name, &lock,
                           err); /* until the database knows it: nobody else builds its tree */
    if (rc == 0)
        rc = wh_store_image_reuse(s->store, s->reference, r, err);
    if (rc != 0)
        return WH_MIN(rc, 0);
    count_bytes(s, m);
    rc = take_config(s, m, &plan, r, err);
    if (rc == 0)
        rc = take_layers(s, m, &plan, r, err);
    return rc == 0 ? wh_store_image_add(s->store, s->reference, r, err) : rc;
}

/* Fetches, keeps and parses one manifest. */
static int get_manifest(wh_pull_state *s, const char *name, wh_image_record *r, wh_oci_manifest **ret,
                        char digest[WH_DIGEST_TEXT_MAX], wh_err *err)
{
    auto_free char *type = NULL;
    auto_buf wh_buf body;
    wh_buf_init(&body, WH_MANIFEST_BYTES_MAX);
    int rc = s->source->manifest(s->source->user, name, &body, &type, digest, err);
    if (rc == 0)
        rc = wh_oci_manifest_parse(type, wh_buf_str(&body), body.len, ret, err);
    if (rc == 0)
        rc = wh_store_blob_put(s->store, digest, wh_buf_str(&body), body.len, err);
    if (rc == 0)
        wh_strv_push(&r->blobs, digest);
    return rc;
}

static int pull_once(wh_pull_state *s, const char *name, wh_err *err)
{
    wh_image_record r = {0};
    auto_oci_manifest wh_oci_manifest *top = NULL;
    auto_oci_manifest wh_oci_manifest *chosen = NULL;
    char digest[WH_DIGEST_TEXT_MAX];
    size_t entry;
    int rc = get_manifest(s, name, &r, &top, digest, err);
    if (rc == 0)
        r.top = wh_xstrdup(digest);
    if (rc == 0 && top->is_index) {
        rc = wh_oci_manifest_choose(top, s->reference, COMPONENTS_SUPPORTED, &entry, err);
        if (rc == 0)
            rc = get_manifest(s, top->items[entry].digest, &r, &chosen, digest, err);
        if (rc == 0 && chosen->is_index)
            rc = wh_fail(err, -EBADMSG, "%s: an index within an index is not supported.", s->reference);
        if (rc == 0)
            chosen->compat |= top->items[entry].compat;
    }
    if (rc == 0) {
        r.digest = wh_xstrdup(digest);
        rc = take_manifest(s, chosen == NULL ? top : chosen, &r, err);
    }
    wh_image_record_done(&r);
    return rc;
}

int wh_pull_from(wh_pull_state *s, const char *tag_or_digest, wh_err *err)
{
    int rc = -EAGAIN;
    for (int i = 0; i < 3 && rc == -EAGAIN; i++) /* a collector came in between */
        rc = pull_once(s, tag_or_digest, err);
    return rc;
}
