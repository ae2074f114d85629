/* SPDX-License-Identifier: Apache-2.0 */
/* Pulling from a registry: who may, from where, and what the kubelet calls it when it fails. */
#include "image/remote.h"

#include "base/file.h"
#include "base/limits.h"

#include <fcntl.h>

#define REGISTRIES_FILE "/etc/wherry/registries.yaml"

/* ---- configuration ---- */

static int load_optional(const char *path, bool required, size_t max, char **ret, size_t *ret_n, wh_err *err)
{
    wh_err quiet = {0};
    int rc = wh_read_file(AT_FDCWD, path, max, ret, ret_n, required ? err : &quiet);
    if (rc == -ENOENT && !required)
        return 0;
    return rc < 0 && !required ? wh_fail(err, rc, "%s", quiet.msg) : rc;
}

static int load_files(const wh_pull_options *o, wh_remote *r, wh_err *err)
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

int wh_remote_load(const char *reference, const wh_pull_options *options, wh_remote *ret, wh_err *err)
{
    wh_remote r = {0};
    int rc = wh_ref_parse(reference, &r.ref, err);
    if (rc == 0)
        rc = load_files(options, &r, err);
    if (rc < 0) {
        wh_remote_done(&r);
        return rc;
    }
    *ret = r;
    return 0;
}

void wh_remote_done(wh_remote *r)
{
    wh_ref_done(&r->ref);
    wh_registries_done(&r->registries);
    wh_credentials_free(r->file_list, r->n_file_list);
}

/* A mirror is another host: its credentials are those of its own name. */
static wh_ref mirror_ref(const wh_remote *r, const char *base)
{
    const char *host = strstr(base, "://");
    wh_assert(host != NULL);
    host += 3;
    return (wh_ref){.host = wh_xstrndup(host, strcspn(host, "/")),
                    .repository = wh_xstrdup(r->ref.repository)};
}

int wh_remote_open(const wh_remote *r, const wh_pull_options *o, const char *base, bool mirror, bool push,
                   wh_pull_state *state, const wh_credential ***ret_credentials, wh_registry **ret,
                   wh_err *err)
{
    wh_ref named = {0};
    const wh_credential **list = NULL;
    size_t n = 0;
    if (mirror)
        named = mirror_ref(r, base);
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

void wh_remote_credentials(const wh_remote *r, const wh_pull_options *o, const wh_credential ***ret,
                           size_t *ret_n)
{
    const wh_registry_host *host = wh_registries_find(&r->registries, r->ref.host);
    wh_credentials_match(o->credentials, o->n_credentials, &r->ref, ret, ret_n);
    wh_credentials_match(r->file_list, r->n_file_list, &r->ref, ret, ret_n);
    for (size_t i = 0; host != NULL && i < wh_strv_len(host->mirrors); i++) {
        wh_ref named = mirror_ref(r, host->mirrors[i]);
        wh_credentials_match(o->credentials, o->n_credentials, &named, ret, ret_n);
        wh_credentials_match(r->file_list, r->n_file_list, &named, ret, ret_n);
        wh_ref_done(&named);
    }
}

char *wh_remote_base(const wh_remote *r, const wh_pull_options *options)
{
    const wh_registry_host *host = wh_registries_find(&r->registries, r->ref.host);
    bool plain = options->plain_http || (host != NULL && host->plain_http);
    return wh_registry_base(&r->ref, plain, host != NULL && host->ca_file != NULL);
}

/* ---- a registry as a source ---- */

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

/* One attempt at one address. */
static int pull_at(wh_pull_state *s, const wh_remote *r, const char *base, bool mirror, bool *ret_unavailable,
                   wh_err *err)
{
    auto_registry wh_registry *registry = NULL;
    auto_free const wh_credential **credentials = NULL;
    int rc = wh_remote_open(r, s->options, base, mirror, false, s, &credentials, &registry, err);
    if (rc < 0)
        return rc;
    registry_source source = {.registry = registry, .state = s, .fd = -1};
    const wh_source from = {.manifest = source_manifest, .blob = source_blob, .user = &source};
    s->source = &from; /* cppcheck-suppress autoVariables; until the end of this attempt */
    rc = wh_pull_from(s, r->ref.digest != NULL ? r->ref.digest : r->ref.tag, err);
    s->source = NULL;
    s->credential = wh_registry_credential(registry);
    *ret_unavailable = rc < 0 && wh_registry_unavailable(registry);
    return rc;
}

static int pull_remote(wh_pull_state *s, const wh_remote *r, bool *ret_unavailable, wh_err *err)
{
    const wh_registry_host *host = wh_registries_find(&r->registries, r->ref.host);
    size_t n = host == NULL ? 0 : wh_strv_len(host->mirrors);
    int rc = -ENOENT;
    for (size_t i = 0; i < n && rc < 0 && rc != -ECANCELED; i++)
        rc = pull_at(s, r, host->mirrors[i], true, ret_unavailable, err);
    if (rc == 0 || rc == -ECANCELED)
        return rc;
    auto_free char *base = wh_remote_base(r, s->options);
    return pull_at(s, r, base, false, ret_unavailable, err);
}

static int fail(wh_image_error *error, const char *reason)
{
    error->reason = reason;
    return error->err.code;
}

static int pull_into_store(wh_store *store, const wh_remote *r, const char *name,
                           const wh_pull_options *options, wh_image **ret, wh_image_error *error)
{
    bool unavailable = false;
    wh_pull_state state = {.store = store, .reference = name, .options = options};
    int rc = pull_remote(&state, r, &unavailable, &error->err);
    if (rc == 0)
        rc = wh_image_find(store, name, ret, &error->err);
    if (rc == 0 && (rc = wh_access_add(store, &r->ref, (*ret)->digest, state.credential, &error->err)) < 0)
        wh_image_free(WH_TAKE(*ret));
    return rc < 0 ? fail(error, unavailable ? "RegistryUnavailable" : "ErrImagePull") : 0;
}

/* 1: the store has it, and this pod may have it. 0: the registry has to be asked. */
static int find_allowed(wh_store *store, const wh_remote *r, const char *name, const wh_pull_options *options,
                        wh_image **ret, wh_err *err)
{
    auto_image wh_image *image = NULL;
    auto_free const wh_credential **credentials = NULL;
    size_t n = 0;
    bool allowed = false;
    bool never = options->policy == WH_PULL_NEVER;
    int rc = wh_image_find(store, name, &image, err);
    if (rc == -ENOENT && !never)
        return 0;
    if (rc == -ENOENT)
        return wh_fail(err, rc, "image '%.150s' is not on this machine, and its pull policy is Never.", name);
    if (rc < 0)
        return rc;
    wh_remote_credentials(r, options, &credentials, &n);
    rc = wh_access_check(store, &r->ref, image->digest, credentials, n, &allowed, err);
    if (rc == 0 && !allowed && never)
        return wh_fail(
            err, -EACCES,
            "image '%.120s' is here, but was pulled with credentials that this pod does not have, and its "
            "pull policy is Never.",
            name);
    if (rc == 0 && allowed)
        *ret = WH_TAKE(image);
    return rc < 0 ? rc : allowed;
}

static int pull_named(wh_store *store, const char *name, const wh_pull_options *options, wh_image **ret,
                      wh_image_error *error)
{
    wh_remote r;
    bool never = options->policy == WH_PULL_NEVER;
    int rc = wh_remote_load(name, options, &r, &error->err);
    if (rc < 0)
        return fail(error, "ErrImagePull");
    if (options->policy != WH_PULL_ALWAYS)
        rc = find_allowed(store, &r, name, options, ret, &error->err);
    if (rc < 0)
        rc = fail(error, never ? "ErrImageNeverPull" : "ErrImagePull");
    else if (rc == 0)
        rc = pull_into_store(store, &r, name, options, ret, error);
    wh_remote_done(&r);
    return WH_MIN(rc, 0);
}

static int pull_file(wh_store *store, const char *name, const wh_pull_options *options, wh_image **ret,
                     wh_image_error *error)
{
    bool never = options->policy == WH_PULL_NEVER;
    int rc = never ? 0 : wh_pull_local(store, name, options, &error->err);
    if (rc == 0)
        rc = wh_image_find(store, name, ret, &error->err);
    return rc < 0 ? fail(error, never ? "ErrImageNeverPull" : "ErrImagePull") : 0;
}

int wh_image_pull(wh_store *store, const char *reference, const wh_pull_options *options, wh_image **ret,
                  wh_image_error *error)
{
    auto_free char *name = NULL;
    auto_image wh_image *image = NULL;
    *error = (wh_image_error){0};
    if (wh_reference_canonical(reference, &name, &error->err) < 0)
        return fail(error, "InvalidImageName");
    int rc = wh_reference_is_local(reference) ? pull_file(store, name, options, &image, error)
                                              : pull_named(store, name, options, &image, error);
    if (rc < 0)
        return rc;
    wh_assert(image != NULL);
    free(image->reference);
    image->reference = wh_xstrdup(reference); /* as the user wrote it */
    *ret = WH_TAKE(image);
    return 0;
}
