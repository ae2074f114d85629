/* SPDX-License-Identifier: Apache-2.0 */
/* Values of fields, resources and keys as text (kubelet: pkg/fieldpath, pkg/api/v1/resource). */
#include "base/limits.h"
#include "pod/env.h"

#define VALUE_BYTES_MAX (1UL << 20)

/* Go's %q for the bytes that labels and annotations can have. */
static void put_quoted(wh_buf *out, const char *s)
{
    static const char named[] = "abtnvfr"; /* 7 .. 13 */
    wh_buf_putc(out, '"');
    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            wh_buf_printf(out, "\\%c", c);
        else if (c >= 7 && c <= 13)
            wh_buf_printf(out, "\\%c", named[c - 7]);
        else if (c < 0x20 || c == 0x7f)
            wh_buf_printf(out, "\\x%02x", c);
        else
            wh_buf_putc(out, (char)c);
    }
    wh_buf_putc(out, '"');
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* All of a map: one `key="value"` a line, by key. */
static char *format_map(const json_t *map)
{
    auto_buf wh_buf out = {0};
    size_t n = 0;
    const char *key;
    json_t *value;
    const char **keys = wh_xcalloc(json_object_size(map) + 1, sizeof(*keys));
    json_object_foreach((json_t *)(uintptr_t)map, key, value) keys[n++] = key;
    qsort(keys, n, sizeof(*keys), compare_keys);
    wh_buf_init(&out, 2 * VALUE_BYTES_MAX);
    for (size_t i = 0; i < n; i++) {
        wh_buf_printf(&out, "%s%s=", i > 0 ? "\n" : "", keys[i]);
        put_quoted(&out, json_string_value(json_object_get(map, keys[i])));
    }
    free(keys);
    return wh_xstrdup(wh_buf_str(&out));
}

/* metadata.labels['key'] */
static char *map_entry(const json_t *map, const char *path)
{
    const char *from = strchr(path, '\'') + 1, *to = strrchr(path, '\'');
    auto_free char *key = to > from ? wh_xstrndup(from, (size_t)(to - from)) : wh_xstrdup("");
    const char *value = json_string_value(json_object_get(map, key));
    return wh_xstrdup(value == NULL ? "" : value);
}

static int known_or_wait(const char *value, const char *path, char **ret, wh_err *err)
{
    if (value == NULL)
        return wh_fail(err, -EAGAIN, "%s: is not known yet.", path);
    *ret = wh_xstrdup(value);
    return 0;
}

static int field_value(const wh_pod_spec *spec, const char *path, const wh_pod_facts *facts, char **ret,
                       wh_err *err)
{
    static const wh_pod_facts nothing = {0};
    const char *uid = spec->uid == NULL ? "" : spec->uid;
    const wh_pod_facts *f = facts == NULL ? &nothing : facts;
    auto_free char *pod_ips =
        f->pod_ips[1] == NULL ? NULL : wh_xasprintf("%s,%s", f->pod_ips[0], f->pod_ips[1]);
    const struct {
        const char *path, *value;
    } plain[] = {{"metadata.name", spec->name},
                 {"metadata.namespace", spec->namespace_},
                 {"metadata.uid", uid},
                 {"spec.nodeName", spec->node_name != NULL ? spec->node_name : f->node_name},
                 {"spec.serviceAccountName", spec->service_account},
                 {"status.hostIP", f->host_ip},
                 {"status.hostIPs", f->host_ip},
                 {"status.podIP", f->pod_ips[0]},
                 {"status.podIPs", pod_ips != NULL ? pod_ips : f->pod_ips[0]}};
    for (size_t i = 0; i < WH_ARRAY_LEN(plain); i++)
        if (strcmp(path, plain[i].path) == 0)
            return known_or_wait(plain[i].value, path, ret, err);
    if (strcmp(path, "metadata.labels") == 0)
        *ret = format_map(spec->labels);
    else if (strcmp(path, "metadata.annotations") == 0)
        *ret = format_map(spec->annotations);
    else if (wh_starts_with(path, "metadata.labels['"))
        *ret = map_entry(spec->labels, path);
    else if (wh_starts_with(path, "metadata.annotations['"))
        *ret = map_entry(spec->annotations, path);
    else
        return wh_fail(err, -EINVAL, "'%.80s': no such field.", path);
    return 0;
}

static wh_quantity of_millis(int64_t millis)
{
    return (wh_quantity){.nano = (wh_nano)millis * 1000000, .set = true};
}

static wh_quantity of_units(int64_t units)
{
    return (wh_quantity){.nano = (wh_nano)units * 1000000000, .set = true};
}

static int resource_value(const wh_container_spec *c, const wh_field_source *source,
                          const wh_pod_facts *facts, char **ret, wh_err *err)
{
    const wh_resources *r = &c->resources;
    const struct {
        const char *name;
        wh_quantity value, otherwise;
    } known[] = {{"limits.cpu", r->limits.cpu, of_millis(facts == NULL ? 0 : facts->cpu_millis)},
                 {"limits.memory", r->limits.memory, of_units(facts == NULL ? 0 : facts->memory_bytes)},
                 {"limits.ephemeral-storage", r->limits.ephemeral_storage,
                  of_units(facts == NULL ? 0 : facts->ephemeral_bytes)},
                 {"requests.cpu", r->requests.cpu, {0}},
                 {"requests.memory", r->requests.memory, {0}},
                 {"requests.ephemeral-storage", r->requests.ephemeral_storage, {0}}};
    for (size_t i = 0; i < WH_ARRAY_LEN(known); i++) {
        if (strcmp(source->resource, known[i].name) != 0)
            continue;
        wh_quantity q = known[i].value.nano > 0 ? known[i].value : known[i].otherwise;
        *ret = wh_xasprintf("%lld", (long long)wh_quantity_divide(q, source->divisor));
        return 0;
    }
    return wh_fail(err, -EINVAL, "'%.80s': no such resource.", source->resource);
}

int wh_field_value(const wh_pod_spec *spec, size_t container, const wh_field_source *source,
                   const wh_pod_facts *facts, char **ret, wh_err *err)
{
    if (source->field_path != NULL)
        return field_value(spec, source->field_path, facts, ret, err);
    int which = source->container == NULL ? (int)container : wh_pod_spec_find(spec, source->container);
    if (which < 0 || (size_t)which >= spec->n_containers)
        return wh_fail(err, -EINVAL, "the pod has no container '%.63s'.",
                       source->container == NULL ? "" : source->container);
    return resource_value(&spec->containers[which], source, facts, ret, err);
}

int wh_object_key(const json_t *object, const char *key, char **ret, size_t *ret_n, wh_err *err)
{
    static const char *const texts[] = {"stringData", "data"};
    /* An item of a list carries no kind; only Secrets have a type. */
    const char *kind = wh_json_str(object, "kind");
    bool secret = kind == NULL ? wh_json_str(object, "type") != NULL : strcmp(kind, "Secret") == 0;
    for (size_t i = secret ? 0 : 1; i < WH_ARRAY_LEN(texts); i++) {
        const json_t *value = json_object_get(json_object_get(object, texts[i]), key);
        if (!json_is_string(value) || (secret && i == 1))
            continue;
        *ret_n = json_string_length(value);
        *ret = wh_xstrndup(json_string_value(value), *ret_n);
        return 0;
    }
    const json_t *coded = json_object_get(json_object_get(object, secret ? "data" : "binaryData"), key);
    uint8_t *bytes = NULL;
    size_t n = 0;
    if (!json_is_string(coded))
        return wh_fail(err, -ENOENT, "no key '%.200s'.", key);
    if (wh_unbase64(json_string_value(coded), json_string_length(coded), &bytes, &n) < 0)
        return wh_fail(err, -EBADMSG, "key '%.200s' is not base64.", key);
    auto_free uint8_t *owned = bytes;
    char *text = malloc(n + 1);
    if (text == NULL)
        return wh_fail(err, -ENOMEM, "key '%.200s'", key);
    if (n > 0)
        memcpy(text, owned, n);
    text[n] = '\0';
    *ret = text;
    *ret_n = n;
    return 0;
}
