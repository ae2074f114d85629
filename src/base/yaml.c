/* SPDX-License-Identifier: Apache-2.0 */
/* libyaml's events into jansson's values. The scalar rules are those of go-yaml v2 (resolve.go), which
 * kubectl uses. */
#include "base/yaml.h"

#include "base/limits.h"

#include <math.h>
#include <stdio.h>
#include <yaml.h>

#define TAG_PREFIX "tag:yaml.org,2002:"

typedef struct anchor {
    char *name;
    json_t *value; /* NULL while its node is still open: an alias to it would be a cycle */
    size_t nodes;
} anchor;

typedef struct parse {
    yaml_parser_t yaml;
    wh_err *err;
    anchor anchors[WH_YAML_ALIASES_MAX];
    size_t n_anchors, aliases, nodes, depth;
} parse;

static int fail_at(parse *p, int code, yaml_mark_t mark, const char *what)
{
    return wh_fail(p->err, code, "line %zu, column %zu: %s", mark.line + 1, mark.column + 1, what);
}

static int next_event(parse *p, yaml_event_t *event)
{
    if (yaml_parser_parse(&p->yaml, event))
        return 0;
    if (p->yaml.error == YAML_MEMORY_ERROR)
        return wh_fail(p->err, -ENOMEM, "read YAML");
    yaml_mark_t mark = p->yaml.error == YAML_READER_ERROR ? p->yaml.mark : p->yaml.problem_mark;
    return fail_at(p, -EBADMSG, mark, p->yaml.problem == NULL ? "not YAML" : p->yaml.problem);
}

static int count_nodes(parse *p, size_t n, yaml_mark_t mark)
{
    p->nodes += n;
    if (p->nodes > WH_YAML_NODES_MAX)
        return wh_fail(p->err, -EFBIG, "line %zu, column %zu: more than %d values, aliases expanded",
                       mark.line + 1, mark.column + 1, WH_YAML_NODES_MAX);
    return 0;
}

/* ---- scalars ---- */

static bool is_one_of(const char *s, const char *const *words)
{
    for (; *words != NULL; words++)
        if (strcmp(s, *words) == 0)
            return true;
    return false;
}

static json_t *resolve_word(const char *s)
{
    static const char *const yes[] = {"y",    "Y",    "yes", "Yes", "YES", "true",
                                      "True", "TRUE", "on",  "On",  "ON",  NULL};
    static const char *const no[] = {"n",     "N",     "no",  "No",  "NO",  "false",
                                     "False", "FALSE", "off", "Off", "OFF", NULL};
    static const char *const nothing[] = {"", "~", "null", "Null", "NULL", NULL};
    if (is_one_of(s, nothing))
        return json_null();
    if (is_one_of(s, yes))
        return json_true();
    return is_one_of(s, no) ? json_false() : NULL;
}

static bool is_infinite_or_nan(const char *s)
{
    static const char *const words[] = {".nan",  ".NaN",  ".NAN",  ".inf",  ".Inf",  ".INF", "+.inf",
                                        "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF", NULL};
    return is_one_of(s, words);
}

/* The value of a digit in any base up to 16; 99 when it is none. */
static unsigned digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0');
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10 : 99;
}

/* Takes "0x", "0b", "0o" or the "0" of an octal number off the front. */
static unsigned take_base(const char **s)
{
    char c;
    if ((*s)[0] != '0' || (*s)[1] == '\0')
        return 10;
    c = (char)((*s)[1] | 0x20);
    *s += c == 'x' || c == 'b' || c == 'o' ? 2 : 1;
    return c == 'x' ? 16 : c == 'b' ? 2 : 8;
}

/* Go's strconv.ParseInt with base 0, for digits without "_". False when it is none. */
static bool resolve_int(const char *s, json_t **ret)
{
    bool minus = *s == '-';
    uint64_t value = 0;
    if (*s == '-' || *s == '+')
        s++;
    unsigned base = take_base(&s);
    if (*s == '\0')
        return false;
    for (; *s != '\0'; s++) {
        unsigned digit = digit_value(*s);
        if (digit >= base || __builtin_mul_overflow(value, (uint64_t)base, &value) ||
            __builtin_add_overflow(value, (uint64_t)digit, &value))
            return false;
    }
    if (value > (uint64_t)INT64_MAX + (minus ? 1 : 0))
        *ret = json_real(minus ? -(double)value : (double)value);
    else
        *ret = json_integer(minus ? (json_int_t)(0 - value) : (json_int_t)value);
    return true;
}

/* [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)? */
static bool has_float_form(const char *s)
{
    size_t digits;
    if (*s == '-' || *s == '+')
        s++;
    digits = strspn(s, "0123456789");
    s += digits;
    if (*s == '.') {
        size_t fraction = strspn(++s, "0123456789");
        s += fraction;
        digits += fraction;
    }
    if (digits == 0)
        return false;
    if (*s == 'e' || *s == 'E') {
        s++;
        if (*s == '-' || *s == '+')
            s++;
        digits = strspn(s, "0123456789");
        s += digits;
    }
    return *s == '\0' && digits > 0;
}

/* The value of a plain scalar; NULL: it is a string. */
static json_t *resolve_plain(const char *s, size_t n)
{
    json_t *value = resolve_word(s);
    char plain[64]; /* no number needs more */
    size_t len = 0;
    if (value != NULL)
        return value;
    if (n >= sizeof(plain) || strchr("+-.0123456789", *s) == NULL)
        return NULL;
    for (const char *p = s; *p != '\0'; p++)
        if (*p != '_' || *s == '.')
            plain[len++] = *p;
    plain[len] = '\0';
    if (*s != '.' && resolve_int(plain, &value))
        return value;
    if (!has_float_form(plain))
        return NULL;
    double number = strtod(plain, NULL);
    return isfinite(number) ? json_real(number) : NULL;
}

/* What an explicit tag asks for; *ret_plain says that the plain rules hold. */
static int check_tag(parse *p, const yaml_event_t *event, bool *ret_plain, bool *ret_typed)
{
    const char *tag = (const char *)event->data.scalar.tag;
    static const char *const typed[] = {"int", "float", "bool", "null", NULL};
    *ret_typed = false;
    *ret_plain = tag == NULL && event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (tag == NULL || strcmp(tag, "!") == 0 || strcmp(tag, TAG_PREFIX "str") == 0)
        return 0;
    if (!wh_starts_with(tag, TAG_PREFIX) || !is_one_of(tag + strlen(TAG_PREFIX), typed))
        return wh_fail(p->err, -EBADMSG, "line %zu, column %zu: tag '%.60s': write the value without it",
                       event->start_mark.line + 1, event->start_mark.column + 1, tag);
    *ret_plain = *ret_typed = true;
    return 0;
}

static int scalar_value(parse *p, const yaml_event_t *event, json_t **ret)
{
    const char *s = (const char *)event->data.scalar.value;
    size_t n = event->data.scalar.length;
    bool plain, typed;
    int rc = check_tag(p, event, &plain, &typed);
    if (rc < 0)
        return rc;
    if (memchr(s, '\0', n) != NULL)
        return fail_at(p, -EBADMSG, event->start_mark, "a NUL byte in a string");
    if (plain && is_infinite_or_nan(s))
        return fail_at(p, -EBADMSG, event->start_mark, "a number that JSON does not have");
    json_t *value = plain ? resolve_plain(s, n) : NULL;
    if (value == NULL && typed)
        return fail_at(p, -EBADMSG, event->start_mark, "the value does not have the type of its tag");
    if (value == NULL)
        value = json_stringn(s, n);
    if (value == NULL)
        return fail_at(p, -EBADMSG, event->start_mark, "a string that is not UTF-8");
    *ret = value;
    return 0;
}

/* ---- anchors ---- */

/* Remembers an anchor; a second one of that name hides the first. *ret_slot is SIZE_MAX without an anchor. */
static int anchor_open(parse *p, const yaml_char_t *name, yaml_mark_t mark, size_t *ret_slot)
{
    *ret_slot = SIZE_MAX;
    if (name == NULL)
        return 0;
    if (p->n_anchors == WH_YAML_ALIASES_MAX)
        return wh_fail(p->err, -EFBIG, "line %zu, column %zu: more than %d anchors", mark.line + 1,
                       mark.column + 1, WH_YAML_ALIASES_MAX);
    p->anchors[p->n_anchors].name = wh_xstrdup((const char *)name);
    p->anchors[p->n_anchors].nodes = p->nodes;
    *ret_slot = p->n_anchors++;
    return 0;
}

static void anchor_close(parse *p, size_t slot, json_t *value)
{
    if (slot == SIZE_MAX)
        return;
    p->anchors[slot].value = json_incref(value);
    p->anchors[slot].nodes = p->nodes - p->anchors[slot].nodes;
}

static void anchors_clear(parse *p)
{
    for (size_t i = 0; i < p->n_anchors; i++) {
        free(p->anchors[i].name);
        json_decref(p->anchors[i].value);
        p->anchors[i] = (anchor){0};
    }
    p->n_anchors = p->aliases = 0;
}

static int alias_value(parse *p, const yaml_event_t *event, json_t **ret)
{
    const char *name = (const char *)event->data.alias.anchor;
    const anchor *found = NULL;
    for (size_t i = p->n_anchors; i > 0 && found == NULL; i--)
        if (strcmp(p->anchors[i - 1].name, name) == 0)
            found = &p->anchors[i - 1];
    if (found == NULL)
        return fail_at(p, -EBADMSG, event->start_mark, "an alias to an anchor that does not exist");
    if (found->value == NULL)
        return fail_at(p, -EBADMSG, event->start_mark, "an alias inside the value that it names");
    if (++p->aliases > WH_YAML_ALIASES_MAX)
        return wh_fail(p->err, -EFBIG, "line %zu, column %zu: more than %d aliases",
                       event->start_mark.line + 1, event->start_mark.column + 1, WH_YAML_ALIASES_MAX);
    int rc = count_nodes(p, found->nodes, event->start_mark);
    if (rc < 0)
        return rc;
    *ret = json_deep_copy(found->value);
    return *ret == NULL ? wh_fail(p->err, -ENOMEM, "read YAML") : 0;
}

/* ---- collections ---- */

static int node_value(parse *p, yaml_event_t *event, json_t **ret);

static int sequence_value(parse *p, json_t *array)
{
    for (;;) {
        yaml_event_t event;
        json_t *item = NULL;
        int rc = next_event(p, &event);
        if (rc < 0)
            return rc;
        if (event.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&event);
            return 0;
        }
        rc = node_value(p, &event, &item);
        yaml_event_delete(&event);
        if (rc < 0)
            return rc;
        if (json_array_append_new(array, item) < 0)
            return wh_fail(p->err, -ENOMEM, "read YAML");
    }
}

/* The key as JSON has it. "<<" without quotes is a merge. */
static int key_text(parse *p, const yaml_event_t *event, char **ret, bool *ret_merge)
{
    auto_json json_t *value = NULL;
    if (event->type != YAML_SCALAR_EVENT)
        return fail_at(p, -EBADMSG, event->start_mark, "a key that is not a plain value");
    int rc = scalar_value(p, event, &value);
    if (rc < 0)
        return rc;
    const char *raw = (const char *)event->data.scalar.value;
    *ret_merge = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && event->data.scalar.tag == NULL &&
                 strcmp(raw, "<<") == 0;
    if (json_is_null(value))
        return fail_at(p, -EBADMSG, event->start_mark, "null as a key");
    if (json_is_integer(value))
        *ret = wh_xasprintf("%lld", (long long)json_integer_value(value));
    else if (json_is_boolean(value))
        *ret = wh_xstrdup(json_is_true(value) ? "true" : "false");
    else
        *ret = wh_xstrdup(raw);
    return 0;
}

static int merge_into(parse *p, json_t *merged, json_t *value, yaml_mark_t mark)
{
    if (json_is_object(value))
        return json_object_update_missing(merged, value) < 0 ? wh_fail(p->err, -ENOMEM, "read YAML") : 0;
    size_t i;
    json_t *item;
    if (!json_is_array(value))
        return fail_at(p, -EBADMSG, mark, "'<<' wants a map or a list of maps");
    json_array_foreach(value, i, item)
    {
        if (!json_is_object(item))
            return fail_at(p, -EBADMSG, mark, "'<<' wants a map or a list of maps");
        if (json_object_update_missing(merged, item) < 0)
            return wh_fail(p->err, -ENOMEM, "read YAML");
    }
    return 0;
}

/* One "key: value" whose key is in `event`. */
static int mapping_pair(parse *p, yaml_event_t *event, json_t *object, json_t *merged)
{
    auto_free char *key = NULL;
    auto_json json_t *value = NULL;
    bool merge = false;
    yaml_mark_t mark = event->start_mark;
    yaml_event_t of_value;
    int rc = count_nodes(p, 1, mark);
    if (rc == 0)
        rc = key_text(p, event, &key, &merge);
    if (rc == 0)
        rc = next_event(p, &of_value);
    if (rc < 0)
        return rc;
    rc = node_value(p, &of_value, &value);
    yaml_event_delete(&of_value);
    if (rc < 0)
        return rc;
    if (merge)
        return merge_into(p, merged, value, mark);
    if (json_object_get(object, key) != NULL)
        return wh_fail(p->err, -EEXIST, "line %zu, column %zu: the key '%.100s' stands here twice.",
                       mark.line + 1, mark.column + 1, key);
    return json_object_set(object, key, value) < 0 ? fail_at(p, -EBADMSG, mark, "a key that is not UTF-8")
                                                   : 0;
}

static int mapping_value(parse *p, json_t *object)
{
    auto_json json_t *merged = json_object();
    for (;;) {
        yaml_event_t event;
        int rc = next_event(p, &event);
        if (rc < 0)
            return rc;
        if (event.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&event);
            return json_object_update_missing(object, merged) < 0 ? wh_fail(p->err, -ENOMEM, "read YAML") : 0;
        }
        rc = mapping_pair(p, &event, object, merged);
        yaml_event_delete(&event);
        if (rc < 0)
            return rc;
    }
}

static int collection_value(parse *p, bool sequence, yaml_mark_t mark, json_t **ret)
{
    auto_json json_t *value = sequence ? json_array() : json_object();
    if (value == NULL)
        return wh_fail(p->err, -ENOMEM, "read YAML");
    if (p->depth == WH_YAML_DEPTH_MAX)
        return wh_fail(p->err, -EFBIG, "line %zu, column %zu: nested deeper than %d", mark.line + 1,
                       mark.column + 1, WH_YAML_DEPTH_MAX);
    p->depth++;
    int rc = sequence ? sequence_value(p, value) : mapping_value(p, value);
    p->depth--;
    if (rc < 0)
        return rc;
    *ret = WH_TAKE(value);
    return 0;
}

/* The value that begins with `event`, which stays the caller's. */
static int node_value(parse *p, yaml_event_t *event, json_t **ret)
{
    size_t slot = SIZE_MAX;
    yaml_mark_t mark = event->start_mark;
    if (event->type == YAML_ALIAS_EVENT)
        return alias_value(p, event, ret);
    bool scalar = event->type == YAML_SCALAR_EVENT, sequence = event->type == YAML_SEQUENCE_START_EVENT;
    if (!scalar && !sequence && event->type != YAML_MAPPING_START_EVENT)
        return fail_at(p, -EBADMSG, mark, "a value was expected");
    const yaml_char_t *name = scalar     ? event->data.scalar.anchor
                              : sequence ? event->data.sequence_start.anchor
                                         : event->data.mapping_start.anchor;
    int rc = anchor_open(p, name, mark, &slot);
    if (rc == 0)
        rc = count_nodes(p, 1, mark);
    if (rc == 0)
        rc = scalar ? scalar_value(p, event, ret) : collection_value(p, sequence, mark, ret);
    if (rc == 0)
        anchor_close(p, slot, *ret);
    return rc;
}

static int parse_stream(parse *p, json_t *documents)
{
    for (;;) {
        yaml_event_t event;
        json_t *value = NULL;
        int rc = next_event(p, &event);
        if (rc < 0)
            return rc;
        yaml_event_type_t type = event.type;
        if (type == YAML_STREAM_START_EVENT || type == YAML_STREAM_END_EVENT ||
            type == YAML_DOCUMENT_START_EVENT || type == YAML_DOCUMENT_END_EVENT || type == YAML_NO_EVENT) {
            yaml_event_delete(&event);
            if (type == YAML_STREAM_END_EVENT || type == YAML_NO_EVENT)
                return 0;
            anchors_clear(p);
            continue;
        }
        rc = node_value(p, &event, &value);
        yaml_event_delete(&event);
        if (rc < 0)
            return rc;
        if (json_is_null(value))
            continue;
        if (json_array_append_new(documents, value) < 0)
            return wh_fail(p->err, -ENOMEM, "read YAML");
    }
}

/* Does a line begin here? Lines end with CR, LF, NEL, LS or PS; the first may begin with a byte order mark. */
static bool begins_line(const char *data, const char *p)
{
    return p == data || strchr("\n\r\x85\xa8\xa9\xbf", p[-1]) != NULL;
}

/* libyaml compares each %TAG line with all before it: a file of them takes minutes, and nobody writes one. */
static int refuse_tag_directives(const char *data, size_t n, wh_err *err)
{
    const char *end = data + n;
    for (const char *p = data; (p = memmem(p, (size_t)(end - p), "%TAG", 4)) != NULL; p++)
        if (begins_line(data, p))
            return wh_fail(err, -EBADMSG, "byte %zu: a %%TAG directive: write the values without tags",
                           (size_t)(p - data));
    return 0;
}

/* JSON has escapes that libyaml refuses (surrogate pairs): what begins like an object is tried as JSON first.
 */
static bool parse_json(const char *data, size_t n, json_t *documents)
{
    wh_str text = wh_str_trim((wh_str){data, n});
    json_t *value = NULL;
    if (text.n == 0 || text.p[0] != '{' || wh_json_parse(text.p, text.n, &value, NULL) < 0)
        return false;
    return json_array_append_new(documents, value) == 0;
}

int wh_yaml_parse(const char *data, size_t n, json_t **ret, wh_err *err)
{
    if (n > WH_YAML_BYTES_MAX)
        return wh_fail(err, -EFBIG, "%zu bytes of YAML; the limit is %lu: split the file.", n,
                       WH_YAML_BYTES_MAX);
    auto_json json_t *documents = json_array();
    if (documents == NULL)
        return wh_fail(err, -ENOMEM, "read YAML");
    if (!parse_json(data, n, documents)) {
        parse p = {.err = err};
        int rc = refuse_tag_directives(data, n, err);
        if (rc < 0)
            return rc;
        if (!yaml_parser_initialize(&p.yaml))
            return wh_fail(err, -ENOMEM, "read YAML");
        yaml_parser_set_encoding(&p.yaml, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&p.yaml, (const unsigned char *)data, n);
        rc = parse_stream(&p, documents);
        anchors_clear(&p);
        yaml_parser_delete(&p.yaml);
        if (rc < 0)
            return rc;
    }
    *ret = WH_TAKE(documents);
    return 0;
}
