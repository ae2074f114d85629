/* SPDX-License-Identifier: Apache-2.0 */
#include "pod/spec_read.h"

#include <stdarg.h>
#include <stdio.h>

#define PATH_MAX_BYTES 512

at at_key(const at *up, const char *key)
{
    const json_t *v = up->v == NULL ? NULL : json_object_get(up->v, key);
    return (at){.up = up, .key = key, .v = json_is_null(v) ? NULL : v};
}

at at_index(const at *up, size_t index)
{
    const json_t *v = up->v == NULL ? NULL : json_array_get(up->v, index);
    return (at){.up = up, .index = index, .v = json_is_null(v) ? NULL : v};
}

void at_path(const at *place, wh_buf *out)
{
    if (place->up == NULL)
        return;
    at_path(place->up, out);
    if (place->key == NULL)
        wh_buf_printf(out, "[%zu]", place->index);
    else
        wh_buf_printf(out, "%s%s", out->len > 0 ? "." : "", place->key);
}

void read_fail(reader *r, const at *place, const char *fmt, ...)
{
    auto_buf wh_buf text = {0};
    va_list args;
    if (r->rc < 0)
        return;
    wh_buf_init(&text, PATH_MAX_BYTES + 1024);
    at_path(place, &text);
    if (text.len > 0)
        wh_buf_puts(&text, ": ");
    va_start(args, fmt);
    wh_buf_vprintf(&text, fmt, args);
    va_end(args);
    if (r->why != NULL)
        wh_buf_puts(r->why, wh_buf_str(&text));
    r->rc = wh_fail(r->err, -EINVAL, "%s.", wh_buf_str(&text));
}

void read_refuse(reader *r, const at *place, const char *what)
{
    if (r->refused.len > 0)
        wh_buf_puts(&r->refused, "; ");
    at_path(place, &r->refused);
    if (what != NULL)
        wh_buf_printf(&r->refused, " (%s)", what);
}

void read_remark(reader *r, const char *fmt, ...)
{
    auto_buf wh_buf text = {0};
    va_list args;
    if (r->rc < 0)
        return;
    wh_buf_init(&text, 1024);
    va_start(args, fmt);
    wh_buf_vprintf(&text, fmt, args);
    va_end(args);
    if (wh_strv_len(r->remarks) < 256 && !wh_strv_has(r->remarks, wh_buf_str(&text)))
        wh_strv_push(&r->remarks, wh_buf_str(&text));
}

static const char *type_name(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
    default:
        return "null";
    }
}

static void fail_type(reader *r, const at *place, const char *expected)
{
    const char *hint =
        strcmp(expected, "a string") == 0 && !json_is_object(place->v) && !json_is_array(place->v)
            ? ": put it in quotes"
            : "";
    read_fail(r, place, "expected %s, found %s%s", expected, type_name(place->v), hint);
}

const char *read_str(reader *r, const at *up, const char *key, const char *otherwise)
{
    at place = at_key(up, key);
    if (place.v == NULL || r->rc < 0)
        return otherwise;
    if (!json_is_string(place.v)) {
        fail_type(r, &place, "a string");
        return otherwise;
    }
    return json_string_value(place.v);
}

const char *read_required(reader *r, const at *up, const char *key)
{
    const char *s = read_str(r, up, key, "");
    if (*s == '\0') {
        at place = at_key(up, key);
        read_fail(r, &place, "is required");
    }
    return s;
}

bool read_bool(reader *r, const at *up, const char *key, bool otherwise)
{
    at place = at_key(up, key);
    if (place.v == NULL || r->rc < 0)
        return otherwise;
    if (!json_is_boolean(place.v)) {
        fail_type(r, &place, "a boolean");
        return otherwise;
    }
    return json_is_true(place.v);
}

int64_t read_int(reader *r, const at *up, const char *key, int64_t min, int64_t max, int64_t otherwise)
{
    at place = at_key(up, key);
    if (place.v == NULL || r->rc < 0)
        return otherwise;
    if (!json_is_integer(place.v)) {
        fail_type(r, &place, "a whole number");
        return otherwise;
    }
    int64_t value = json_integer_value(place.v);
    if (value < min || value > max) {
        read_fail(r, &place, "%lld is not within %lld and %lld", (long long)value, (long long)min,
                  (long long)max);
        return otherwise;
    }
    return value;
}

wh_quantity read_quantity(reader *r, const at *up, const char *key)
{
    at place = at_key(up, key);
    wh_quantity q = {0};
    wh_err err = {0};
    char number[64];
    const char *text = number;
    if (place.v == NULL || r->rc < 0)
        return q;
    if (json_is_string(place.v))
        text = json_string_value(place.v);
    else if (json_is_integer(place.v))
        snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(place.v));
    else if (json_is_real(place.v))
        snprintf(number, sizeof(number), "%.15g", json_real_value(place.v));
    else {
        fail_type(r, &place, "a quantity");
        return q;
    }
    if (wh_quantity_parse(text, &q, &err) < 0)
        read_fail(r, &place, "'%.40s' is not a quantity like 100m, 1.5 or 64Mi", text);
    else if (q.nano < 0)
        read_fail(r, &place, "'%.40s' is below zero", text);
    return q;
}

at read_object(reader *r, const at *up, const char *key)
{
    at place = at_key(up, key);
    if (place.v != NULL && !json_is_object(place.v)) {
        fail_type(r, &place, "an object");
        place.v = NULL;
    }
    return place;
}

at read_list(reader *r, const at *up, const char *key, size_t max)
{
    at place = at_key(up, key);
    if (place.v != NULL && !json_is_array(place.v)) {
        fail_type(r, &place, "a list");
        place.v = NULL;
    } else if (json_array_size(place.v) > max) {
        read_fail(r, &place, "%zu entries; the limit is %zu", json_array_size(place.v), max);
        place.v = NULL;
    }
    return place;
}

at read_item(reader *r, const at *list, size_t i)
{
    at place = at_index(list, i);
    if (place.v == NULL)
        read_fail(r, &place, "expected an object, found null");
    else if (!json_is_object(place.v)) {
        fail_type(r, &place, "an object");
        place.v = NULL;
    }
    return place;
}

const char **read_strings(reader *r, const at *up, const char *key)
{
    at list = read_list(r, up, key, SIZE_MAX);
    size_t n = json_array_size(list.v);
    if (n == 0 || r->rc < 0)
        return NULL;
    const char **strings = calloc(n + 1, sizeof(*strings));
    if (strings == NULL) {
        read_fail(r, &list, "no memory for %zu entries", n);
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        at item = at_index(&list, i);
        if (item.v == NULL)
            read_fail(r, &item, "expected a string, found null");
        else if (!json_is_string(item.v))
            fail_type(r, &item, "a string");
        strings[i] = json_is_string(item.v) ? json_string_value(item.v) : "";
    }
    return strings;
}

int read_word(reader *r, const at *up, const char *key, const char *const *words, int otherwise)
{
    at place = at_key(up, key);
    char list[256];
    size_t used = 0;
    const char *s = read_str(r, up, key, NULL);
    if (s == NULL)
        return otherwise;
    list[0] = '\0';
    for (int i = 0; words[i] != NULL; i++) {
        if (strcmp(s, words[i]) == 0)
            return i;
        int n = snprintf(list + used, sizeof(list) - used, "%s%s", i > 0 ? ", " : "", words[i]);
        used = n > 0 && (size_t)n < sizeof(list) - used ? used + (size_t)n : used;
    }
    read_fail(r, &place, "'%.60s' is none of %s", s, list);
    return otherwise;
}

const json_t *read_string_map(reader *r, const at *up, const char *key)
{
    at map = read_object(r, up, key);
    const char *name;
    json_t *value;
    /* jansson's iteration takes a pointer to non-const and does not write. */
    json_object_foreach((json_t *)(uintptr_t)map.v, name, value)
    {
        at place = {.up = &map, .key = name, .v = value};
        if (!json_is_string(value))
            fail_type(r, &place, "a string");
    }
    return map.v;
}

bool is_dns_label(const char *s)
{
    size_t n = strlen(s);
    return n > 0 && n <= 63 && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == n && s[0] != '-' &&
           s[n - 1] != '-';
}

bool is_dns_subdomain(const char *s)
{
    size_t n = strlen(s);
    if (n == 0 || n > 253 || strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-.") != n)
        return false;
    for (size_t i = 0; i < n; i++) {
        bool edge = i == 0 || s[i - 1] == '.' || i + 1 == n || s[i + 1] == '.';
        if (edge && (s[i] == '-' || s[i] == '.'))
            return false;
    }
    return true;
}

static bool is_inner(wh_str rest)
{
    wh_str piece;
    if (rest.n == 0)
        return false;
    while (wh_str_split(&rest, '/', &piece))
        if (piece.n == 0 || wh_str_eq(piece, WH_STR(".")) || wh_str_eq(piece, WH_STR("..")))
            return false;
    return true;
}

bool is_inner_path(const char *s)
{
    return is_inner(wh_str_of(s));
}

bool is_guest_path(const char *s)
{
    wh_str rest = wh_str_of(s);
    if (*s != '/' || strchr(s, ':') != NULL)
        return false;
    rest = (wh_str){rest.p + 1, rest.n - 1};
    if (rest.n > 0 && rest.p[rest.n - 1] == '/')
        rest.n--;
    return rest.n == 0 || is_inner(rest);
}
