/* SPDX-License-Identifier: Apache-2.0 */
/* v1.Volume: those that a Wasm node makes by itself. */
#include "pod/spec_read.h"

#define ITEMS_MAX 4096

static void *new_items(reader *r, const at *place, size_t n, size_t size)
{
    void *list = n == 0 || r->rc < 0 ? NULL : calloc(n, size);
    if (n > 0 && r->rc == 0 && list == NULL)
        read_fail(r, place, "no memory for %zu entries", n);
    return list;
}

static void read_item_path(reader *r, const at *item, const char **ret)
{
    at place = at_key(item, "path");
    *ret = read_required(r, item, "path");
    if (r->rc == 0 && (!is_inner_path(*ret) || wh_starts_with(*ret, "..")))
        read_fail(r, &place, "'%.80s' must be relative and without '..'", *ret);
}

static void read_items(reader *r, const at *up, wh_volume_source *s)
{
    at list = read_list(r, up, "items", ITEMS_MAX);
    size_t n = json_array_size(list.v);
    s->items = new_items(r, &list, n, sizeof(*s->items));
    for (; s->items != NULL && s->n_items < n && r->rc == 0; s->n_items++) {
        at item = read_item(r, &list, s->n_items);
        wh_volume_item *i = &s->items[s->n_items];
        i->mode = (int)read_int(r, &item, "mode", 0, 0777, -1);
        read_item_path(r, &item, &i->path);
        if (s->kind == WH_SOURCE_DOWNWARD)
            read_field_source(r, &item, &i->field, true);
        else
            i->key = read_required(r, &item, "key");
    }
}

/* name_key differs between a volume (secretName) and a projection (name). */
static void read_source(reader *r, const at *place, wh_source_kind kind, const char *name_key,
                        wh_volume_source *s)
{
    s->kind = kind;
    if (kind == WH_SOURCE_TOKEN) {
        s->token_audience = read_str(r, place, "audience", NULL);
        s->token_seconds = read_int(r, place, "expirationSeconds", 600, (int64_t)1 << 32, 3600);
        read_item_path(r, place, &s->token_path);
        return;
    }
    if (kind != WH_SOURCE_DOWNWARD) {
        s->object = read_required(r, place, name_key);
        s->optional = read_bool(r, place, "optional", false);
    }
    read_items(r, place, s);
}

static void read_single(reader *r, const at *place, wh_source_kind kind, const char *name_key,
                        wh_volume_spec *v)
{
    v->kind = WH_VOLUME_FILES;
    v->secret = kind == WH_SOURCE_SECRET;
    v->default_mode = (int)read_int(r, place, "defaultMode", 0, 0777, 0644);
    v->sources = wh_xnew(wh_volume_source);
    v->n_sources = 1;
    read_source(r, place, kind, name_key, v->sources);
}

static void read_projection(reader *r, const at *item, wh_volume_spec *v, wh_volume_source *s)
{
    static const struct {
        const char *key;
        wh_source_kind kind;
    } kinds[] = {{"configMap", WH_SOURCE_CONFIG_MAP},
                 {"secret", WH_SOURCE_SECRET},
                 {"downwardAPI", WH_SOURCE_DOWNWARD},
                 {"serviceAccountToken", WH_SOURCE_TOKEN}};
    const char *key;
    json_t *value;
    for (size_t i = 0; i < WH_ARRAY_LEN(kinds); i++) {
        at place = read_object(r, item, kinds[i].key);
        if (place.v == NULL)
            continue;
        v->secret |= kinds[i].kind == WH_SOURCE_SECRET || kinds[i].kind == WH_SOURCE_TOKEN;
        read_source(r, &place, kinds[i].kind, "name", s);
        return;
    }
    json_object_foreach((json_t *)(uintptr_t)item->v, key, value)
    {
        at place = at_key(item, key);
        read_refuse(r, &place, NULL);
    }
}

static void read_projected(reader *r, const at *place, wh_volume_spec *v)
{
    at list = read_list(r, place, "sources", 256);
    size_t n = json_array_size(list.v);
    v->kind = WH_VOLUME_FILES;
    v->default_mode = (int)read_int(r, place, "defaultMode", 0, 0777, 0644);
    v->sources = new_items(r, &list, n, sizeof(*v->sources));
    for (; v->sources != NULL && v->n_sources < n && r->rc == 0; v->n_sources++) {
        at item = read_item(r, &list, v->n_sources);
        read_projection(r, &item, v, &v->sources[v->n_sources]);
    }
}

static void read_empty_dir(reader *r, const at *place, wh_volume_spec *v)
{
    at medium_place = at_key(place, "medium");
    const char *medium = read_str(r, place, "medium", "");
    v->kind = WH_VOLUME_EMPTY_DIR;
    v->memory = strcmp(medium, "Memory") == 0;
    v->size_limit = read_quantity(r, place, "sizeLimit");
    if (*medium != '\0' && !v->memory)
        read_refuse(r, &medium_place, medium);
}

static void read_host_path(reader *r, const at *place, wh_volume_spec *v)
{
    static const char *const types[] = {
        "",           "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket",
        "CharDevice", "BlockDevice",       NULL};
    at path = at_key(place, "path"), type = at_key(place, "type");
    v->kind = WH_VOLUME_HOST_PATH;
    v->host_path = read_required(r, place, "path");
    int which = read_word(r, place, "type", types, 0);
    v->host_path_type = types[which];
    if (which > 2)
        read_refuse(r, &type, "single files of the host");
    if (r->rc == 0 &&
        (*v->host_path != '/' || strstr(v->host_path, "/../") != NULL || wh_ends_with(v->host_path, "/..")))
        read_fail(r, &path, "'%.80s' must be absolute and without '..'", v->host_path);
}

void read_volume(reader *r, const at *place, wh_volume_spec *v)
{
    const char *key;
    json_t *value;
    at source;
    bool found = false;
    v->name = read_required(r, place, "name");
    if (r->rc == 0 && !is_dns_label(v->name)) {
        at name = at_key(place, "name");
        read_fail(r, &name, "'%.80s' must be at most 63 of a-z, 0-9 and '-'", v->name);
    }
    json_object_foreach((json_t *)(uintptr_t)place->v, key, value)
    {
        if (strcmp(key, "name") == 0 || json_is_null(value) || r->rc < 0)
            continue;
        if (found) {
            read_fail(r, place, "is of two kinds: leave one out");
            return;
        }
        found = true;
        source = read_object(r, place, key);
        if (strcmp(key, "emptyDir") == 0)
            read_empty_dir(r, &source, v);
        else if (strcmp(key, "hostPath") == 0)
            read_host_path(r, &source, v);
        else if (strcmp(key, "configMap") == 0)
            read_single(r, &source, WH_SOURCE_CONFIG_MAP, "name", v);
        else if (strcmp(key, "secret") == 0)
            read_single(r, &source, WH_SOURCE_SECRET, "secretName", v);
        else if (strcmp(key, "downwardAPI") == 0)
            read_single(r, &source, WH_SOURCE_DOWNWARD, NULL, v);
        else if (strcmp(key, "projected") == 0)
            read_projected(r, &source, v);
        else
            read_refuse(r, &source, "this kind of volume");
    }
}

void free_volume(wh_volume_spec *v)
{
    for (size_t i = 0; i < v->n_sources; i++)
        free(v->sources[i].items);
    free(v->sources);
}
