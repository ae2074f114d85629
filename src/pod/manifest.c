/* SPDX-License-Identifier: Apache-2.0 */
/* Files of Kubernetes objects, for a machine without an API server. */
#include "pod/manifest.h"

#include "base/yaml.h"
#include "pod/spec_read.h"

#include <stdio.h>

#define LIST_DEPTH_MAX 4 /* of List objects inside List objects */

typedef struct kind {
    const char *name, *api_version;
    size_t offset; /* of its array in wh_manifest */
} kind;

static const kind kinds[] = {{"Pod", "v1", offsetof(wh_manifest, pods)},
                             {"ConfigMap", "v1", offsetof(wh_manifest, config_maps)},
                             {"Secret", "v1", offsetof(wh_manifest, secrets)},
                             {"Job", "batch/v1", offsetof(wh_manifest, jobs)}};

static json_t *list_of(const wh_manifest *m, const kind *k)
{
    return *(json_t *const *)(const void *)((const char *)m + k->offset);
}

static const kind *find_kind(const char *name)
{
    for (size_t i = 0; i < WH_ARRAY_LEN(kinds); i++)
        if (wh_streq(name, kinds[i].name))
            return &kinds[i];
    return NULL;
}

/* FNV-1a of 128 bits: names a file's content, guards nothing. */
const char *wh_manifest_uid(const char *text, size_t n, char out[37])
{
    const unsigned __int128 prime = ((unsigned __int128)1 << 88) + 0x13B;
    unsigned __int128 h = ((unsigned __int128)0x6C62272E07BB0142u << 64) | 0x62B821756295C58Du;
    uint8_t bytes[16];
    char hex[33];
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)text[i]) * prime;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(h >> (8 * (15 - i)));
    bytes[6] = (uint8_t)((bytes[6] & 0x0F) | 0x80); /* version 8: made by a rule of one's own */
    bytes[8] = (uint8_t)((bytes[8] & 0x3F) | 0x80);
    wh_hex(bytes, sizeof(bytes), hex);
    snprintf(out, 37, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
    return out;
}

static void add_defaults(json_t *object, const char *origin)
{
    json_t *metadata = json_object_get(object, "metadata");
    char uid[37];
    if (json_object_get(metadata, "namespace") == NULL)
        json_object_set_new(metadata, "namespace", json_string("default"));
    if (json_object_get(metadata, "uid") != NULL)
        return;
    auto_free char *content = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);
    auto_free char *text = wh_xasprintf("%s\n%s", origin, content == NULL ? "" : content);
    json_object_set_new(metadata, "uid", json_string(wh_manifest_uid(text, strlen(text), uid)));
}

/* Parses what will be run, so that a mistake is said when the file is read. */
static int check_content(json_t *object, const kind *k, wh_err *err)
{
    if (strcmp(k->name, "Pod") == 0) {
        auto_pod_spec wh_pod_spec *spec = NULL;
        return wh_pod_spec_parse(object, &spec, NULL, err);
    }
    if (strcmp(k->name, "Job") == 0) {
        auto_job wh_job *job = NULL;
        auto_pod_spec wh_pod_spec *spec = NULL;
        int rc = wh_job_parse(object, &job, err);
        if (rc < 0)
            return rc;
        auto_json json_t *pod = wh_job_pod_object(job, job->indexed ? 0 : -1, 0);
        rc = wh_pod_spec_parse(pod, &spec, NULL, err);
        return rc < 0 ? wh_wrap(err, "the pod of its template") : 0;
    }
    reader r = {.err = err};
    at root = {.v = object};
    (void)read_string_map(&r, &root, "data");
    (void)read_string_map(&r, &root, "stringData");
    (void)read_string_map(&r, &root, "binaryData");
    return r.rc;
}

static int add_object(wh_manifest *m, json_t *object, const char *origin, wh_err *err)
{
    const char *kind_name = wh_json_str(object, "kind"), *version = wh_json_str(object, "apiVersion");
    const kind *k = find_kind(kind_name);
    if (kind_name == NULL || version == NULL)
        return wh_fail(err, -EINVAL, "an object needs apiVersion and kind.");
    if (k == NULL || strcmp(version, k->api_version) != 0)
        return wh_fail(
            err, -EOPNOTSUPP,
            "%.80s %.80s: on one machine there are Pod, ConfigMap, Secret (v1) and Job (batch/v1); the rest is "
            "for a cluster.",
            version, kind_name);
    reader r = {.err = err};
    at root = {.v = object}, metadata = read_object(&r, &root, "metadata");
    const char *name = read_required(&r, &metadata, "name");
    at name_place = at_key(&metadata, "name");
    (void)read_str(&r, &metadata, "namespace", NULL);
    if (r.rc == 0 && !is_dns_subdomain(name))
        read_fail(&r, &name_place, "'%.80s' must be at most 253 of a-z, 0-9, '-' and '.'", name);
    if (r.rc < 0)
        return wh_wrap(err, "%s", kind_name);
    add_defaults(object, origin);
    if (wh_manifest_find(m, kind_name, wh_json_str(object, "metadata.namespace"), name) != NULL)
        return wh_fail(err, -EEXIST, "%s '%.120s' stands here twice.", kind_name, name);
    int rc = check_content(object, k, err);
    if (rc < 0)
        return wh_wrap(err, "%s '%.100s'", kind_name, name);
    return json_array_append(list_of(m, k), object) < 0 ? wh_fail(err, -ENOMEM, "read the manifest") : 0;
}

static int add_any(wh_manifest *m, json_t *object, const char *origin, size_t depth, wh_err *err)
{
    size_t i;
    json_t *item;
    if (!json_is_object(object))
        return wh_fail(err, -EINVAL, "a document that is not an object.");
    if (!wh_streq(wh_json_str(object, "kind"), "List"))
        return add_object(m, object, origin, err);
    if (depth == LIST_DEPTH_MAX)
        return wh_fail(err, -EINVAL, "a List inside a List inside a List.");
    json_array_foreach(json_object_get(object, "items"), i, item)
    {
        int rc = add_any(m, item, origin, depth + 1, err);
        if (rc < 0)
            return wh_wrap(err, "items[%zu]", i);
    }
    return 0;
}

int wh_manifest_parse(const char *data, size_t n, const char *origin, wh_manifest *ret, wh_err *err)
{
    auto_json json_t *documents = NULL;
    auto_manifest wh_manifest m = {
        .pods = json_array(), .config_maps = json_array(), .secrets = json_array(), .jobs = json_array()};
    size_t i;
    json_t *document;
    int rc = wh_yaml_parse(data, n, &documents, err);
    if (rc < 0)
        return wh_wrap(err, "%s", origin);
    json_array_foreach(documents, i, document)
    {
        rc = add_any(&m, document, origin, 0, err);
        if (rc < 0)
            return json_array_size(documents) > 1 ? wh_wrap(err, "%s: document %zu", origin, i + 1)
                                                  : wh_wrap(err, "%s", origin);
    }
    *ret = m;
    m = (wh_manifest){0};
    return 0;
}

void wh_manifest_done(wh_manifest *manifest)
{
    json_decref(manifest->pods);
    json_decref(manifest->config_maps);
    json_decref(manifest->secrets);
    json_decref(manifest->jobs);
    *manifest = (wh_manifest){0};
}

json_t *wh_manifest_find(const wh_manifest *manifest, const char *kind_name, const char *namespace_,
                         const char *name)
{
    const kind *k = find_kind(kind_name);
    size_t i;
    json_t *object;
    if (k == NULL)
        return NULL;
    json_array_foreach(list_of(manifest, k), i, object)
    {
        if (wh_streq(wh_json_str(object, "metadata.name"), name) &&
            wh_streq(wh_json_str(object, "metadata.namespace"), namespace_))
            return object;
    }
    return NULL;
}

int wh_manifest_resolve(void *user, const char *kind_name, const char *namespace_, const char *name,
                        json_t **ret, wh_err *err)
{
    json_t *object = wh_manifest_find(user, kind_name, namespace_, name);
    if (object == NULL)
        return wh_fail(err, -ENOENT, "%s %s/%s is not in the manifest.", kind_name, namespace_, name);
    *ret = json_incref(object);
    return 0;
}
