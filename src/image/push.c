/* SPDX-License-Identifier: Apache-2.0 */
/* Pushing a module as a CNCF Wasm artifact: one layer. */
#include "image/remote.h"

#include "base/file.h"

#include <fcntl.h>
#include <sys/stat.h>

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

static int push_all(wh_store *store, const wh_remote *r, wh_registry *registry, int fd, const char *path,
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
    int rc = wh_module_head(fd, path, &kind, err);
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
    wh_remote r = {0};
    auto_registry wh_registry *registry = NULL;
    auto_free const wh_credential **credentials = NULL;
    auto_close int fd = open(wasm_path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return wh_fail(err, -errno, "open '%s'", wasm_path);
    int rc = wh_remote_load(reference, options, &r, err);
    if (rc < 0)
        return rc;
    auto_free char *base = wh_remote_base(&r, options);
    rc = wh_remote_open(&r, options, base, false, true, NULL, &credentials, &registry, err);
    if (rc == 0)
        rc = push_all(store, &r, registry, fd, wasm_path, ret_digest, err);
    wh_remote_done(&r);
    return rc;
}
