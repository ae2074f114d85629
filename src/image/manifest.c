/* SPDX-License-Identifier: Apache-2.0 */
/* Reading manifests, indexes and configs. Choosing among what they offer is in choose.c. */
#include "image/manifest.h"

#include "base/json.h"
#include "base/limits.h"

#define TYPE_BYTES_MAX 255
#define TEXT_BYTES_MAX 65536 /* any other string that we keep */
#define CONFIG_LIST_MAX 4096 /* arguments, variables, ports, layers of a config */

/* A string member, copied. -ENOENT when it is absent or null. */
static int get_text(const json_t *j, const char *key, size_t max, char **ret, wh_err *err)
{
    const json_t *value = json_object_get(j, key);
    if (value == NULL || json_is_null(value))
        return -ENOENT;
    if (!json_is_string(value))
        return wh_fail(err, -EBADMSG, "'%s' is not a string.", key);
    if (json_string_length(value) > max)
        return wh_fail(err, -EFBIG, "'%s' has %zu bytes; %zu are allowed.", key, json_string_length(value),
                       max);
    *ret = wh_xstrdup(json_string_value(value));
    return 0;
}

/* The same, where absence is fine. */
static int get_optional(const json_t *j, const char *key, size_t max, char **ret, wh_err *err)
{
    int rc = get_text(j, key, max, ret, err);
    return rc == -ENOENT ? 0 : rc;
}

static bool annotation_is(const json_t *notes, const char *key, const char *value)
{
    const char *text = json_string_value(json_object_get(notes, key));
    return text != NULL && strcmp(text, value) == 0;
}

static bool says_compat(const json_t *notes)
{
    return annotation_is(notes, "module.wasm.image/variant", "compat") ||
           annotation_is(notes, "module.wasm.image/variant", "compat-smart") ||
           annotation_is(notes, "run.oci.handler", "wasm");
}

static void descriptor_done(wh_descriptor *d)
{
    free(d->media_type);
    free(d->digest);
    free(d->artifact_type);
    free(d->os);
    free(d->architecture);
    free(d->title);
    free(d->ref_name);
    *d = (wh_descriptor){0};
}

static int descriptor_notes(const json_t *j, wh_descriptor *d, wh_err *err)
{
    const json_t *notes = json_object_get(j, "annotations");
    if (notes == NULL || json_is_null(notes))
        return 0;
    if (!json_is_object(notes))
        return wh_fail(err, -EBADMSG, "'annotations' is not an object.");
    d->attestation = json_object_get(notes, "vnd.docker.reference.type") != NULL;
    d->compat = says_compat(notes);
    int rc = get_optional(notes, "org.opencontainers.image.title", TEXT_BYTES_MAX, &d->title, err);
    if (rc == 0)
        rc = get_optional(notes, "org.opencontainers.image.ref.name", TYPE_BYTES_MAX, &d->ref_name, err);
    return rc;
}

static int descriptor_platform(const json_t *j, wh_descriptor *d, wh_err *err)
{
    const json_t *platform = json_object_get(j, "platform");
    if (platform == NULL || json_is_null(platform))
        return 0;
    int rc = get_optional(platform, "os", TYPE_BYTES_MAX, &d->os, err);
    if (rc == 0)
        rc = get_optional(platform, "architecture", TYPE_BYTES_MAX, &d->architecture, err);
    return rc;
}

static int descriptor_parse(const json_t *j, wh_descriptor *d, wh_err *err)
{
    if (!json_is_object(j))
        return wh_fail(err, -EBADMSG, "it is not an object.");
    int rc = get_text(j, "mediaType", TYPE_BYTES_MAX, &d->media_type, err);
    if (rc == -ENOENT)
        return wh_fail(err, -EBADMSG, "'mediaType' is missing.");
    if (rc == 0)
        rc = get_text(j, "digest", TYPE_BYTES_MAX, &d->digest, err);
    if (rc == -ENOENT || (rc == 0 && !wh_digest_valid(d->digest)))
        return wh_fail(err, -EBADMSG, "'digest' is not a sha256 or sha512 digest: '%.80s'.",
                       d->digest == NULL ? "" : d->digest);
    if (rc < 0)
        return rc;
    const json_t *size = json_object_get(j, "size");
    if (!json_is_integer(size) || json_integer_value(size) < 0)
        return wh_fail(err, -EBADMSG, "'size' is not a number of bytes.");
    d->size = (uint64_t)json_integer_value(size);
    rc = get_optional(j, "artifactType", TYPE_BYTES_MAX, &d->artifact_type, err);
    if (rc == 0)
        rc = descriptor_platform(j, d, err);
    return rc == 0 ? descriptor_notes(j, d, err) : rc;
}

static bool same_type(const char *content_type, const char *media_type)
{
    size_t n = strcspn(content_type, "; \t");
    return strlen(media_type) == n && strncasecmp(content_type, media_type, n) == 0;
}

static bool is_index_type(const char *type)
{
    return same_type(type, WH_TYPE_OCI_INDEX) || same_type(type, WH_TYPE_DOCKER_LIST);
}

static bool is_manifest_type(const char *type)
{
    return same_type(type, WH_TYPE_OCI_MANIFEST) || same_type(type, WH_TYPE_DOCKER_MANIFEST);
}

static bool is_known_type(const char *type)
{
    return is_index_type(type) || is_manifest_type(type);
}

static int check_schema(const json_t *j, const char *content_type, wh_err *err)
{
    const json_t *version = json_object_get(j, "schemaVersion");
    json_int_t number = json_is_integer(version) ? json_integer_value(version) : 0;
    if (number == 1 || (content_type != NULL && strstr(content_type, "distribution.manifest.v1") != NULL))
        return wh_fail(err, -ENOTSUP,
                       "it is a Docker schema 1 manifest, which is not supported; push the image again with "
                       "a current tool.");
    return number == 2 ? 0 : wh_fail(err, -EBADMSG, "'schemaVersion' is not 2.");
}

/* Content-Type and mediaType decide together; without both, the members tell. */
static int decide_type(const json_t *j, const char *content_type, wh_oci_manifest *m, wh_err *err)
{
    int rc = check_schema(j, content_type, err);
    if (rc == 0)
        rc = get_optional(j, "mediaType", TYPE_BYTES_MAX, &m->media_type, err);
    if (rc < 0)
        return rc;
    bool typed = content_type != NULL && is_known_type(content_type);
    if (typed && m->media_type != NULL && !same_type(content_type, m->media_type))
        return wh_fail(err, -EBADMSG,
                       "the server's Content-Type '%.60s' and 'mediaType' '%.80s' do not agree.",
                       content_type, m->media_type);
    if (m->media_type == NULL && typed)
        m->media_type = wh_xstrndup(content_type, strcspn(content_type, "; \t"));
    bool has_entries = json_object_get(j, "manifests") != NULL;
    if (has_entries && json_object_get(j, "layers") != NULL)
        return wh_fail(err, -EBADMSG, "it has both 'manifests' and 'layers'.");
    if (m->media_type == NULL)
        m->media_type = wh_xstrdup(has_entries ? WH_TYPE_OCI_INDEX : WH_TYPE_OCI_MANIFEST);
    if (!is_known_type(m->media_type))
        return wh_fail(err, -ENOTSUP,
                       "its type is '%.120s'; accepted are OCI and Docker schema 2 manifests and indexes.",
                       m->media_type);
    m->is_index = is_index_type(m->media_type);
    return 0;
}

static int parse_items(const json_t *j, wh_oci_manifest *m, wh_err *err)
{
    const char *key = m->is_index ? "manifests" : "layers";
    size_t max = m->is_index ? WH_INDEX_ENTRIES_MAX : WH_MANIFEST_LAYERS_MAX;
    const json_t *list = json_object_get(j, key);
    if (!json_is_array(list))
        return wh_fail(err, -EBADMSG, "'%s' is not a list.", key);
    size_t n = json_array_size(list);
    if (n > max)
        return wh_fail(err, -EFBIG, "'%s' has %zu entries; %zu are allowed.", key, n, max);
    m->items = wh_xcalloc(n, sizeof(*m->items));
    for (size_t i = 0; i < n; i++) {
        int rc = descriptor_parse(json_array_get(list, i), &m->items[m->n_items++], err);
        if (rc < 0) {
            (void)wh_wrap(err, "%s[%zu]", key, i);
            return rc;
        }
    }
    return 0;
}

static int parse_config_and_notes(const json_t *j, wh_oci_manifest *m, wh_err *err)
{
    int rc = get_optional(j, "artifactType", TYPE_BYTES_MAX, &m->artifact_type, err);
    const json_t *notes = json_object_get(j, "annotations");
    m->compat = says_compat(notes);
    if (rc == 0)
        rc = get_optional(notes, "org.opencontainers.image.title", TEXT_BYTES_MAX, &m->title, err);
    if (rc < 0 || m->is_index)
        return rc;
    rc = descriptor_parse(json_object_get(j, "config"), &m->config, err);
    if (rc < 0)
        (void)wh_wrap(err, "config");
    return rc;
}

int wh_oci_manifest_parse(const char *content_type, const char *data, size_t n, wh_oci_manifest **ret,
                          wh_err *err)
{
    auto_json json_t *j = NULL;
    if (n > WH_MANIFEST_BYTES_MAX)
        return wh_fail(err, -EFBIG, "manifest: %zu bytes; %lu are allowed.", n, WH_MANIFEST_BYTES_MAX);
    int rc = wh_json_parse(data, n, &j, err);
    if (rc < 0) {
        (void)wh_wrap(err, "manifest");
        return rc;
    }
    if (!json_is_object(j))
        return wh_fail(err, -EBADMSG, "manifest: it is not a JSON object.");
    auto_oci_manifest wh_oci_manifest *m = wh_xnew(wh_oci_manifest);
    rc = decide_type(j, content_type, m, err);
    if (rc == 0)
        rc = parse_config_and_notes(j, m, err);
    if (rc == 0)
        rc = parse_items(j, m, err);
    if (rc < 0) {
        (void)wh_wrap(err, "manifest");
        return rc;
    }
    *ret = WH_TAKE(m);
    return 0;
}

void wh_oci_manifest_free(wh_oci_manifest *m)
{
    if (m == NULL)
        return;
    for (size_t i = 0; i < m->n_items; i++)
        descriptor_done(&m->items[i]);
    descriptor_done(&m->config);
    free(m->items);
    free(m->media_type);
    free(m->artifact_type);
    free(m->title);
    free(m);
}

/* A list of strings; absent and null are an empty one. */
static int get_list(const json_t *j, const char *key, wh_strv *ret, wh_err *err)
{
    const json_t *list = json_object_get(j, key);
    if (list == NULL || json_is_null(list))
        return 0;
    if (!json_is_array(list))
        return wh_fail(err, -EBADMSG, "'%s' is not a list.", key);
    if (json_array_size(list) > CONFIG_LIST_MAX)
        return wh_fail(err, -EFBIG, "'%s' has %zu entries; %d are allowed.", key, json_array_size(list),
                       CONFIG_LIST_MAX);
    size_t total = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (text == NULL)
            return wh_fail(err, -EBADMSG, "'%s' holds something that is not a string.", key);
        total += strlen(text) + 1;
        if (total > WH_ENV_BYTES_MAX)
            return wh_fail(err, -EFBIG, "'%s' has more than %lu bytes.", key, WH_ENV_BYTES_MAX);
        wh_strv_push(ret, text);
    }
    return 0;
}

static int get_keys(const json_t *j, const char *key, wh_strv *ret, wh_err *err)
{
    json_t *object = json_object_get(j, key);
    const char *name;
    json_t *value;
    if (object == NULL || json_is_null(object))
        return 0;
    if (!json_is_object(object) || json_object_size(object) > CONFIG_LIST_MAX)
        return wh_fail(err, -EBADMSG, "'%s' is not an object of at most %d members.", key, CONFIG_LIST_MAX);
    json_object_foreach(object, name, value) wh_strv_push(ret, name);
    return 0;
}

static int parse_run_config(const json_t *run, wh_image_config *c, wh_err *err)
{
    if (run == NULL || json_is_null(run))
        return 0;
    if (!json_is_object(run))
        return wh_fail(err, -EBADMSG, "'config' is not an object.");
    int rc = get_list(run, "Entrypoint", &c->entrypoint, err);
    if (rc == 0)
        rc = get_list(run, "Cmd", &c->cmd, err);
    if (rc == 0)
        rc = get_list(run, "Env", &c->env, err);
    if (rc == 0)
        rc = get_keys(run, "ExposedPorts", &c->exposed_ports, err);
    if (rc == 0)
        rc = get_optional(run, "WorkingDir", 4096, &c->working_dir, err);
    if (rc == 0)
        rc = get_optional(run, "User", TYPE_BYTES_MAX, &c->user, err);
    if (rc == 0)
        rc = get_optional(run, "StopSignal", 32, &c->stop_signal, err);
    return rc;
}

static int check_digests(const wh_strv list, const char *key, wh_err *err)
{
    for (size_t i = 0; i < wh_strv_len(list); i++)
        if (!wh_digest_valid(list[i]))
            return wh_fail(err, -EBADMSG, "'%s' holds '%.80s', which is no sha256 or sha512 digest.", key,
                           list[i]);
    return 0;
}

/* An empty string means the same as an absent one. */
static void drop_empty(char **text)
{
    if (*text != NULL && **text == '\0') {
        free(*text);
        *text = NULL;
    }
}

static int config_fill(const json_t *j, wh_image_config *c, wh_err *err)
{
    if (!json_is_object(j))
        return wh_fail(err, -EBADMSG, "it is not a JSON object.");
    int rc = get_optional(j, "os", TYPE_BYTES_MAX, &c->os, err);
    if (rc == 0)
        rc = get_optional(j, "architecture", TYPE_BYTES_MAX, &c->architecture, err);
    if (rc == 0)
        rc = parse_run_config(json_object_get(j, "config"), c, err);
    if (rc == 0)
        rc = get_list(json_object_get(j, "rootfs"), "diff_ids", &c->diff_ids, err);
    if (rc == 0)
        rc = check_digests(c->diff_ids, "diff_ids", err);
    if (rc == 0)
        rc = get_list(j, "layerDigests", &c->layer_digests, err);
    c->is_component = json_is_object(json_object_get(j, "component"));
    drop_empty(&c->os);
    drop_empty(&c->architecture);
    drop_empty(&c->working_dir);
    drop_empty(&c->user);
    drop_empty(&c->stop_signal);
    return rc;
}

int wh_image_config_parse(const char *data, size_t n, wh_image_config *ret, wh_err *err)
{
    auto_json json_t *j = NULL;
    wh_image_config config = {0};
    if (n > WH_MANIFEST_BYTES_MAX)
        return wh_fail(err, -EFBIG, "image config: %zu bytes; %lu are allowed.", n, WH_MANIFEST_BYTES_MAX);
    int rc = wh_json_parse(data, n, &j, err);
    if (rc == 0)
        rc = config_fill(j, &config, err);
    if (rc < 0) {
        wh_image_config_done(&config);
        (void)wh_wrap(err, "image config");
        return rc;
    }
    *ret = config;
    return 0;
}

void wh_image_config_done(wh_image_config *c)
{
    free(c->os);
    free(c->architecture);
    free(c->working_dir);
    free(c->user);
    free(c->stop_signal);
    wh_strv_free(c->entrypoint);
    wh_strv_free(c->cmd);
    wh_strv_free(c->env);
    wh_strv_free(c->exposed_ports);
    wh_strv_free(c->diff_ids);
    wh_strv_free(c->layer_digests);
    *c = (wh_image_config){0};
}
