/* SPDX-License-Identifier: Apache-2.0 */
/* Taking an image into the store: manifest, choice, config, layers, tree. Where the bytes come from is a
 * wh_source. */
#include "base/file.h"
#include "base/limits.h"
#include "base/record.h"
#include "image/registry.h"
#include "image/store.h"
#include "prepare/prepare.h"

#include <fcntl.h>

#define COMPONENTS_SUPPORTED false
#define UNPACK_DEADLINE (5 * WH_MINUTE)
#define REGISTRIES_FILE "/etc/wherry/registries.yaml"

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

static int check_module_head(int fd, const char *reference, wh_bytes_kind *ret, wh_err *err)
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
        rc = check_module_head(fd, s->reference, &kind, err);
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

/* ---- from a registry ---- */

typedef struct registry_source {
    wh_registry *registry;
    wh_pull_state *state;
    int fd;
    uint64_t before; /* progress behind this blob */
} registry_source;

static int source_manifest(void *user, const char *name, wh_buf *ret_body, char **ret_type,
                           char digest[WH_DIGEST_TEXT_MAX], wh_err *err)
{
    const registry_source *r = user;
    return wh_registry_manifest(r->registry, name, ret_body, ret_type, digest, err);
}

static int sink_write(void *user, const void *data, size_t n, wh_err *err)
{
    registry_source *r = user;
    int rc = wh_write_all(r->fd, data, n);
    r->state->done += n;
    return rc < 0 ? wh_fail(err, rc, "write to the store") : 0;
}

static int sink_restart(void *user, wh_err *err)
{
    registry_source *r = user;
    r->state->done = r->before;
    if (ftruncate(r->fd, 0) < 0 || lseek(r->fd, 0, SEEK_SET) < 0)
        return wh_fail(err, -errno, "write to the store");
    return 0;
}

static int source_blob(void *user, const wh_descriptor *blob, int fd, wh_err *err)
{
    registry_source *r = user;
    r->fd = fd;
    r->before = r->state->done;
    const wh_blob_sink sink = {.write = sink_write, .restart = sink_restart, .user = r};
    return wh_registry_blob(r->registry, blob, &sink, err);
}

typedef struct remote { /* everything that decides how a registry is spoken to */
    wh_ref ref;
    wh_registries registries;
    wh_credential *file_list;
    size_t n_file_list;
} remote;

static int load_optional(const char *path, bool required, size_t max, char **ret, size_t *ret_n, wh_err *err)
{
    wh_err quiet = {0};
    int rc = wh_read_file(AT_FDCWD, path, max, ret, ret_n, required ? err : &quiet);
    if (rc == -ENOENT && !required)
        return 0;
    return rc < 0 && !required ? wh_fail(err, rc, "%s", quiet.msg) : rc;
}

static int load_remote(const wh_pull_options *o, remote *r, wh_err *err)
{
    auto_free char *text = NULL;
    auto_free char *auth = NULL;
    auto_free char *standard = NULL;
    size_t n = 0, n_auth = 0;
    const char *home = getenv("HOME");
    if (home != NULL)
        standard = wh_path_join(home, ".docker/config.json");
    int rc = load_optional(o->registries == NULL ? REGISTRIES_FILE : o->registries, o->registries != NULL,
                           (size_t)1 << 20, &text, &n, err);
    if (rc == 0 && text != NULL && (rc = wh_registries_parse(text, n, &r->registries, err)) < 0)
        (void)wh_wrap(err, "%s", o->registries == NULL ? REGISTRIES_FILE : o->registries);
    const char *file = o->auth_file == NULL ? standard : o->auth_file;
    if (rc == 0 && file != NULL)
        rc = load_optional(file, o->auth_file != NULL, WH_DOCKER_CONFIG_BYTES_MAX, &auth, &n_auth, err);
    if (rc == 0 && auth != NULL) {
        rc = wh_credentials_parse(auth, n_auth, &r->file_list, &r->n_file_list, err);
        explicit_bzero(auth, n_auth);
    }
    return rc;
}

static void remote_done(remote *r)
{
    wh_ref_done(&r->ref);
    wh_registries_done(&r->registries);
    wh_credentials_free(r->file_list, r->n_file_list);
}

/* A mirror is another host: its credentials are those of its own name. */
static int mirror_ref(const remote *r, const char *base, wh_ref *ret)
{
    const char *host = strstr(base, "://");
    wh_assert(host != NULL);
    host += 3;
    *ret =
        (wh_ref){.host = wh_xstrndup(host, strcspn(host, "/")), .repository = wh_xstrdup(r->ref.repository)};
    return 0;
}

static int open_registry(const remote *r, const wh_pull_options *o, const char *base, bool mirror, bool push,
                         wh_pull_state *state, const wh_credential ***ret_credentials, wh_registry **ret,
                         wh_err *err)
{
    wh_ref named = {0};
    const wh_credential **list = NULL;
    size_t n = 0;
    if (mirror)
        (void)mirror_ref(r, base, &named);
    const wh_ref *whose = mirror ? &named : &r->ref;
    wh_credentials_match(o->credentials, o->n_credentials, whose, &list, &n);
    wh_credentials_match(r->file_list, r->n_file_list, whose, &list, &n);
    const wh_registry_host *host = wh_registries_find(&r->registries, whose->host);
    const wh_registry_options options = {
        .ref = &r->ref,
        .base = base,
        .ca_file = host == NULL ? NULL : host->ca_file,
        .credentials = list,
        .n_credentials = n,
        .push = push,
        .cancelled = state == NULL ? NULL : wh_pull_cancelled,
        .user = state,
    };
    int rc = wh_registry_new(&options, ret, err);
    wh_ref_done(&named);
    *ret_credentials = list;
    return rc;
}

/* One attempt at one address. */
static int pull_at(wh_pull_state *s, const remote *r, const char *base, bool mirror, bool *ret_unavailable,
                   wh_err *err)
{
    auto_registry wh_registry *registry = NULL;
    auto_free const wh_credential **credentials = NULL;
    int rc = open_registry(r, s->options, base, mirror, false, s, &credentials, &registry, err);
    if (rc < 0)
        return rc;
    registry_source source = {.registry = registry, .state = s, .fd = -1};
    const wh_source from = {.manifest = source_manifest, .blob = source_blob, .user = &source};
    s->source = &from; /* cppcheck-suppress autoVariables; until the end of this attempt */
    rc = wh_pull_from(s, r->ref.digest != NULL ? r->ref.digest : r->ref.tag, err);
    s->source = NULL;
    *ret_unavailable = rc < 0 && wh_registry_unavailable(registry);
    return rc;
}

static int pull_remote(wh_pull_state *s, const remote *r, bool *ret_unavailable, wh_err *err)
{
    const wh_registry_host *host = wh_registries_find(&r->registries, r->ref.host);
    size_t n = host == NULL ? 0 : wh_strv_len(host->mirrors);
    int rc = -ENOENT;
    for (size_t i = 0; i < n && rc < 0 && rc != -ECANCELED; i++)
        rc = pull_at(s, r, host->mirrors[i], true, ret_unavailable, err);
    if (rc == 0 || rc == -ECANCELED)
        return rc;
    auto_free char *base =
        wh_registry_base(&r->ref, s->options->plain_http || (host != NULL && host->plain_http));
    return pull_at(s, r, base, false, ret_unavailable, err);
}

static int fail(wh_image_error *error, const char *reason)
{
    error->reason = reason;
    return error->err.code;
}

static int pull_into_store(wh_store *store, const char *name, const wh_pull_options *options,
                           wh_image_error *error)
{
    remote r = {0};
    bool unavailable = false;
    wh_pull_state state = {.store = store, .reference = name, .options = options};
    int rc = wh_ref_parse(name, &r.ref, &error->err);
    if (rc < 0)
        return fail(error, "InvalidImageName");
    rc = load_remote(options, &r, &error->err);
    if (rc == 0)
        rc = pull_remote(&state, &r, &unavailable, &error->err);
    remote_done(&r);
    return rc < 0 ? fail(error, unavailable ? "RegistryUnavailable" : "ErrImagePull") : 0;
}

int wh_image_pull(wh_store *store, const char *reference, const wh_pull_options *options, wh_image **ret,
                  wh_image_error *error)
{
    auto_free char *name = NULL;
    *error = (wh_image_error){0};
    bool local = wh_reference_is_local(reference);
    if (wh_reference_canonical(reference, &name, &error->err) < 0)
        return fail(error, "InvalidImageName");
    if (options->policy != WH_PULL_ALWAYS && (!local || options->policy == WH_PULL_NEVER)) {
        int rc = wh_image_find(store, reference, ret, &error->err);
        if (rc == 0 || (rc != -ENOENT && options->policy != WH_PULL_NEVER))
            return rc == 0 ? 0 : fail(error, "ErrImagePull");
        if (options->policy == WH_PULL_NEVER) {
            (void)wh_fail(&error->err, rc,
                          "image '%.150s' is not on this machine, and its pull policy is Never.", reference);
            return fail(error, "ErrImageNeverPull");
        }
    }
    error->err = (wh_err){0};
    int rc = local ? wh_pull_local(store, name, options, &error->err)
                   : pull_into_store(store, name, options, error);
    if (rc < 0)
        return error->reason == NULL ? fail(error, "ErrImagePull") : rc;
    rc = wh_image_find(store, reference, ret, &error->err);
    return rc < 0 ? fail(error, "ErrImagePull") : 0;
}

/* ---- pushing: the CNCF Wasm artifact, one layer ---- */

static int describe_artifact(const char *digest, uint64_t bytes, const char *title, char **ret_config,
                             char **ret_manifest, wh_err *err)
{
    char config_digest[WH_DIGEST_TEXT_MAX];
    auto_free char *config =
        wh_xasprintf("{\"created\":\"1970-01-01T00:00:00Z\",\"architecture\":\"wasm\",\"os\":\"wasip1\","
                     "\"layerDigests\":[\"%s\"]}",
                     digest);
    int rc = wh_digest_of(NULL, config, strlen(config), config_digest, err);
    if (rc < 0)
        return rc;
    auto_json json_t *m = json_pack(
        "{s:i, s:s, s:{s:s, s:s, s:I}, s:[{s:s, s:s, s:I, s:{s:s}}]}", "schemaVersion", 2, "mediaType",
        WH_TYPE_OCI_MANIFEST, "config", "mediaType", WH_TYPE_WASM_CONFIG, "digest", config_digest, "size",
        (json_int_t)strlen(config), "layers", "mediaType", WH_TYPE_WASM, "digest", digest, "size",
        (json_int_t)bytes, "annotations", "org.opencontainers.image.title", title);
    if (m == NULL)
        return wh_fail(err, -EINVAL, "the file's name is not valid UTF-8.");
    *ret_manifest = wh_json_dump(m);
    *ret_config = WH_TAKE(config);
    return 0;
}

static int push_text(wh_store *store, wh_registry *registry, const char *text, wh_err *err)
{
    auto_free char *temp = NULL;
    auto_close int fd = -1;
    char digest[WH_DIGEST_TEXT_MAX];
    int rc = wh_store_temp(store, &temp, &fd, err);
    if (rc < 0)
        return rc;
    (void)unlinkat(store->dirfd, temp, 0); /* nobody but us needs its name */
    rc = wh_write_all(fd, text, strlen(text));
    if (rc < 0)
        return wh_fail(err, rc, "write to the store");
    rc = wh_digest_of(NULL, text, strlen(text), digest, err);
    return rc < 0 ? rc : wh_registry_push_blob(registry, digest, fd, strlen(text), err);
}

static int push_all(wh_store *store, const remote *r, wh_registry *registry, int fd, const char *path,
                    char **ret_digest, wh_err *err)
{
    char digest[WH_DIGEST_TEXT_MAX], manifest_digest[WH_DIGEST_TEXT_MAX];
    auto_free char *config = NULL;
    auto_free char *manifest = NULL;
    const char *slash = strrchr(path, '/');
    struct stat st;
    wh_bytes_kind kind;
    if (fstat(fd, &st) < 0)
        return wh_fail(err, -errno, "look at '%s'", path);
    int rc = check_module_head(fd, path, &kind, err);
    if (rc == 0 && kind != WH_BYTES_MODULE && kind != WH_BYTES_COMPONENT)
        rc = wh_fail(err, -EBADMSG, "'%s' is not a Wasm binary.", path);
    if (rc == 0)
        rc = wh_digest_of_fd(NULL, fd, digest, err);
    if (rc == 0)
        rc = describe_artifact(digest, (uint64_t)st.st_size, slash == NULL ? path : slash + 1, &config,
                               &manifest, err);
    if (rc == 0)
        rc = wh_digest_of(NULL, manifest, strlen(manifest), manifest_digest, err);
    if (rc == 0)
        rc = wh_registry_push_blob(registry, digest, fd, (uint64_t)st.st_size, err);
    if (rc == 0)
        rc = push_text(store, registry, config, err);
    if (rc == 0)
        rc = wh_registry_push_manifest(registry, r->ref.tag != NULL ? r->ref.tag : manifest_digest,
                                       WH_TYPE_OCI_MANIFEST, manifest, strlen(manifest), err);
    if (rc == 0)
        *ret_digest = wh_xstrdup(manifest_digest);
    return rc;
}

int wh_image_push(wh_store *store, const char *wasm_path, const char *reference,
                  const wh_pull_options *options, char **ret_digest, wh_err *err)
{
    remote r = {0};
    auto_registry wh_registry *registry = NULL;
    auto_free const wh_credential **credentials = NULL;
    auto_close int fd = open(wasm_path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return wh_fail(err, -errno, "open '%s'", wasm_path);
    int rc = wh_ref_parse(reference, &r.ref, err);
    if (rc == 0)
        rc = load_remote(options, &r, err);
    if (rc == 0) {
        const wh_registry_host *host = wh_registries_find(&r.registries, r.ref.host);
        auto_free char *base =
            wh_registry_base(&r.ref, options->plain_http || (host != NULL && host->plain_http));
        rc = open_registry(&r, options, base, false, true, NULL, &credentials, &registry, err);
    }
    if (rc == 0)
        rc = push_all(store, &r, registry, fd, wasm_path, ret_digest, err);
    remote_done(&r);
    return rc;
}
