/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

/* jansson's own limit on depth is 2048, each level some hundred bytes of stack; ours is counted before it
 * begins. What is not well-formed is jansson's to refuse: this only has to see no fewer brackets than it. */
static bool too_deep(const char *data, size_t n)
{
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        char c = data[i];
        if (in_string && c == '\\')
            i++;
        else if (c == '"')
            in_string = !in_string;
        else if (!in_string && (c == '[' || c == '{') && ++depth > WH_JSON_DEPTH_MAX)
            return true;
        else if (!in_string && (c == ']' || c == '}') && depth > 0)
            depth--;
    }
    return false;
}

int wh_json_parse(const char *data, size_t n, json_t **ret, wh_err *err)
{
    json_error_t fault;
    if (too_deep(data, n))
        return wh_fail(err, -EBADMSG, "JSON is nested deeper than %d levels.", WH_JSON_DEPTH_MAX);
    json_t *j = json_loadb(n == 0 ? "" : data, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &fault);
    if (j == NULL)
        return wh_fail(err, -EBADMSG, "JSON line %d, column %d: %s", fault.line, fault.column, fault.text);
    *ret = j;
    return 0;
}

json_t *wh_json_at(const json_t *j, const char *path)
{
    wh_str rest = wh_str_of(path), piece;
    const json_t *at = j;
    while (at != NULL && wh_str_split(&rest, '.', &piece)) {
        if (!json_is_object(at))
            return NULL;
        at = json_object_getn(at, piece.p, piece.n);
    }
    return (json_t *)(uintptr_t)at; /* as strchr does: what was const is the caller's to know */
}

const char *wh_json_str(const json_t *j, const char *path)
{
    return json_string_value(wh_json_at(j, path));
}

int64_t wh_json_int(const json_t *j, const char *path, int64_t otherwise)
{
    const json_t *value = wh_json_at(j, path);
    return json_is_integer(value) ? (int64_t)json_integer_value(value) : otherwise;
}

bool wh_json_bool(const json_t *j, const char *path, bool otherwise)
{
    const json_t *value = wh_json_at(j, path);
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

char *wh_json_dump(const json_t *j)
{
    char *text = json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY);
    wh_assert(text != NULL);
    return text;
}

json_t *wh_json_string(const char *s)
{
    return s == NULL ? json_null() : json_string(s);
}
