/* SPDX-License-Identifier: Apache-2.0 */
/* What a complete head, trailer section or chunk-size line means (RFC 9112 sections 3, 5, 6, 7.1). */
#include "http/h1_private.h"

#include <strings.h>

int wh_h1_refuse(wh_h1 *h, int status, const char *rule)
{
    h->status = status;
    h->rule = rule;
    h->state = H1_REFUSED;
    return -EBADMSG;
}

static bool str_is(wh_str s, const char *lit)
{
    size_t n = strlen(lit);
    return s.n == n && memcmp(s.p, lit, n) == 0;
}

static bool str_is_nocase(wh_str s, const char *lit)
{
    size_t n = strlen(lit);
    return s.n == n && strncasecmp(s.p, lit, n) == 0;
}

/* ---- fields ---- */

static int push_field(wh_h1 *h, bool trailer, wh_str name, wh_str value)
{
    wh_h1_field **list = trailer ? &h->trailers : &h->fields;
    size_t *count = trailer ? &h->n_trailers : &h->n_fields;
    size_t max = trailer ? WH_HTTP_TRAILERS_MAX : h->limits.fields;
    if (*count >= max)
        return trailer ? wh_h1_refuse(h, 400, "trailer-count") : wh_h1_refuse(h, 431, "field-count");
    size_t *cap = trailer ? &h->trailers_cap : &h->fields_cap;
    if (*count == *cap) {
        size_t room = *cap == 0 ? 16 : *cap * 2;
        wh_h1_field *grown = realloc(*list, room * sizeof(**list));
        if (grown == NULL)
            return -ENOMEM;
        *list = grown;
        *cap = room;
    }
    (*list)[(*count)++] = (wh_h1_field){name, value};
    return 0;
}

/* RFC 9110 6.5.1: what frames, routes or authenticates means nothing in a trailer and is dropped. */
static bool is_forbidden_trailer(wh_str name)
{
    static const char *const names[] = {"transfer-encoding",
                                        "content-length",
                                        "host",
                                        "trailer",
                                        "connection",
                                        "te",
                                        "upgrade",
                                        "expect",
                                        "authorization",
                                        "content-encoding",
                                        "content-type",
                                        "content-range",
                                        "max-forwards",
                                        "cache-control",
                                        "range",
                                        "cookie",
                                        "proxy-authorization"};
    for (size_t i = 0; i < WH_ARRAY_LEN(names); i++)
        if (str_is(name, names[i]))
            return true;
    return false;
}

/* complexity: one grammar, read from left to right. */
static int parse_field(wh_h1 *h, char *p, size_t n, bool trailer)
{
    if (n == 0 || p[0] == ' ' || p[0] == '\t')
        return wh_h1_refuse(h, 400, "obs-fold");
    char *colon = memchr(p, ':', n);
    if (colon == NULL)
        return wh_h1_refuse(h, 400, "field-colon");
    wh_str name = {p, (size_t)(colon - p)};
    if (!wh_h1_is_token(name))
        return wh_h1_refuse(h, 400, "field-name");
    for (size_t i = 0; i < name.n; i++)
        if (p[i] >= 'A' && p[i] <= 'Z')
            p[i] = (char)(p[i] - 'A' + 'a');
    wh_str value = {colon + 1, n - name.n - 1};
    for (size_t i = 0; i < value.n; i++)
        if (!wh_h1_is(value.p[i], H1_VALUE))
            return wh_h1_refuse(h, 400, "field-value");
    while (value.n > 0 && (value.p[0] == ' ' || value.p[0] == '\t'))
        value = (wh_str){value.p + 1, value.n - 1};
    while (value.n > 0 && (value.p[value.n - 1] == ' ' || value.p[value.n - 1] == '\t'))
        value.n--;
    if (trailer && is_forbidden_trailer(name))
        return 0;
    return push_field(h, trailer, name, value);
}

int wh_h1_parse_fields(wh_h1 *h, char *p, size_t n, bool trailer)
{
    while (n > 0) {
        char *end = memchr(p, '\r', n); /* the feeder let no CR in but before LF */
        wh_assert(end != NULL);
        int r = parse_field(h, p, (size_t)(end - p), trailer);
        if (r < 0)
            return r;
        n -= (size_t)(end - p) + 2;
        p = end + 2;
    }
    return 0;
}

/* ---- the request line ---- */

static bool is_authority(wh_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!wh_h1_is(s.p[i], H1_HOST))
            return false;
    return true;
}

static void split_query(wh_h1 *h, wh_str path)
{
    const char *mark = path.n == 0 ? NULL : memchr(path.p, '?', path.n);
    h->path = path;
    h->query = WH_STR("");
    if (mark != NULL) {
        h->path.n = (size_t)(mark - path.p);
        h->query = (wh_str){mark + 1, path.n - h->path.n - 1};
    }
}

/* complexity: one grammar, four alternatives. RFC 9112 3.2. *ret_authority is what the target itself names,
 * or {NULL, 0}. */
static int parse_target(wh_h1 *h, wh_str *ret_authority)
{
    wh_str t = h->target;
    for (size_t i = 0; i < t.n; i++) {
        unsigned char c = (unsigned char)t.p[i];
        if (c <= 0x20 || c >= 0x7f || c == '#')
            return wh_h1_refuse(h, 400, "target");
    }
    *ret_authority = (wh_str){NULL, 0};
    h->path = h->query = WH_STR("");
    if (str_is(h->method, "CONNECT")) {
        if (t.n == 0 || !is_authority(t) || memchr(t.p, ':', t.n) == NULL)
            return wh_h1_refuse(h, 400, "target");
        *ret_authority = t;
        return 0;
    }
    if (str_is(t, "*")) {
        h->path = t;
        return str_is(h->method, "OPTIONS") ? 0 : wh_h1_refuse(h, 400, "target");
    }
    if (t.n > 0 && t.p[0] == '/') {
        split_query(h, t);
        return 0;
    }
    size_t skip = t.n > 7 && strncasecmp(t.p, "http://", 7) == 0    ? 7
                  : t.n > 8 && strncasecmp(t.p, "https://", 8) == 0 ? 8
                                                                    : 0;
    if (skip == 0)
        return wh_h1_refuse(h, 400, "target");
    wh_str rest = {t.p + skip, t.n - skip};
    size_t n = 0;
    while (n < rest.n && rest.p[n] != '/' && rest.p[n] != '?')
        n++;
    *ret_authority = (wh_str){rest.p, n};
    if (n == 0 || !is_authority(*ret_authority))
        return wh_h1_refuse(h, 400, "target");
    split_query(h, (wh_str){rest.p + n, rest.n - n});
    if (h->path.n == 0)
        h->path = WH_STR("/");
    return 0;
}

static int parse_version(wh_h1 *h, wh_str v)
{
    if (v.n != 8 || memcmp(v.p, "HTTP/", 5) != 0 || v.p[6] != '.' || v.p[5] < '0' || v.p[5] > '9' ||
        v.p[7] < '0' || v.p[7] > '9')
        return wh_h1_refuse(h, 400, "version");
    if (v.p[5] != '1')
        return wh_h1_refuse(h, 505, "version");
    h->minor = v.p[7] == '0' ? 0 : 1;
    return 0;
}

static int parse_request_line(wh_h1 *h, wh_str line, wh_str *ret_authority)
{
    const char *first = line.n == 0 ? NULL : memchr(line.p, ' ', line.n);
    if (first == NULL)
        return wh_h1_refuse(h, 400, "request-line");
    h->method = (wh_str){line.p, (size_t)(first - line.p)};
    if (!wh_h1_is_token(h->method))
        return wh_h1_refuse(h, 400, "method");
    wh_str rest = {first + 1, line.n - h->method.n - 1};
    const char *second = rest.n == 0 ? NULL : memchr(rest.p, ' ', rest.n);
    if (second == NULL || second == rest.p)
        return wh_h1_refuse(h, 400, "request-line");
    h->target = (wh_str){rest.p, (size_t)(second - rest.p)};
    int r = parse_version(h, (wh_str){second + 1, rest.n - h->target.n - 1});
    return r < 0 ? r : parse_target(h, ret_authority);
}

/* ---- framing ---- */

static int parse_length(wh_h1 *h, wh_str v)
{
    uint64_t length = 0;
    if (v.n == 0 || v.n > 19)
        return wh_h1_refuse(h, 400, "content-length");
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] < '0' || v.p[i] > '9')
            return wh_h1_refuse(h, 400, "content-length");
        length = length * 10 + (uint64_t)(v.p[i] - '0');
    }
    if (length > INT64_MAX)
        return wh_h1_refuse(h, 400, "content-length");
    if (length > h->limits.body_bytes)
        return wh_h1_refuse(h, 413, "body-size");
    h->has_length = true;
    h->length = length;
    return 0;
}

/* RFC 9112 6.1 and 6.3: chunked must be the last coding, once; other codings before it are well formed but not ours. */
static int parse_transfer_encoding(wh_h1 *h, wh_str v)
{
    wh_str rest = v;
    wh_str piece;
    size_t codings = 0;
    size_t chunked = 0;
    bool last_is_chunked = false;
    while (wh_str_split(&rest, ',', &piece)) {
        piece = wh_str_trim(piece);
        if (!wh_h1_is_token(piece))
            return wh_h1_refuse(h, 400, "transfer-encoding");
        last_is_chunked = str_is_nocase(piece, "chunked");
        chunked += last_is_chunked;
        codings++;
    }
    if (!last_is_chunked || chunked != 1)
        return wh_h1_refuse(h, 400, "transfer-encoding");
    if (codings > 1)
        return wh_h1_refuse(h, 501, "transfer-coding");
    h->chunked = true;
    return 0;
}

typedef struct special {
    wh_str host, length, encoding, expect;
    unsigned hosts, lengths, encodings;
} special;

static void find_special(const wh_h1 *h, special *s)
{
    for (size_t i = 0; i < h->n_fields; i++) {
        wh_str name = h->fields[i].name;
        if (str_is(name, "host")) {
            s->host = h->fields[i].value;
            s->hosts++;
        } else if (str_is(name, "content-length")) {
            s->length = h->fields[i].value;
            s->lengths++;
        } else if (str_is(name, "transfer-encoding")) {
            s->encoding = h->fields[i].value;
            s->encodings++;
        } else if (str_is(name, "expect")) {
            s->expect = h->fields[i].value;
        }
    }
}

static int check_host(wh_h1 *h, const special *s, wh_str authority)
{
    if (s->hosts > 1)
        return wh_h1_refuse(h, 400, "dup-host");
    if (s->hosts == 0)
        return h->minor == 0 ? 0 : wh_h1_refuse(h, 400, "no-host");
    if (!is_authority(s->host))
        return wh_h1_refuse(h, 400, "host");
    if (authority.p != NULL &&
        (authority.n != s->host.n || strncasecmp(authority.p, s->host.p, authority.n) != 0))
        return wh_h1_refuse(h, 400, "host-differs");
    return 0;
}

static int decide_framing(wh_h1 *h, const special *s)
{
    if (s->lengths > 0 && s->encodings > 0)
        return wh_h1_refuse(h, 400, "length-and-encoding");
    if (s->lengths > 1)
        return wh_h1_refuse(h, 400, "dup-content-length");
    if (s->encodings > 1)
        return wh_h1_refuse(h, 400, "dup-transfer-encoding");
    if (s->encodings == 1)
        return h->minor == 0 ? wh_h1_refuse(h, 400, "encoding-in-http10")
                             : parse_transfer_encoding(h, s->encoding);
    return s->lengths == 1 ? parse_length(h, s->length) : 0;
}

int wh_h1_parse_head(wh_h1 *h)
{
    char *line_end = memchr(h->head.p, '\r', h->head.len);
    wh_assert(line_end != NULL);
    size_t line = (size_t)(line_end - h->head.p);
    wh_str authority;
    int r = parse_request_line(h, (wh_str){h->head.p, line}, &authority);
    if (r < 0)
        return r;
    /* Without the request line's and the last CRLF. */
    r = wh_h1_parse_fields(h, line_end + 2, h->head.len - line - 4, false);
    if (r < 0)
        return r;
    special s = {0};
    find_special(h, &s);
    r = check_host(h, &s, authority);
    if (r == 0)
        r = decide_framing(h, &s);
    if (r < 0)
        return r;
    if (s.expect.p != NULL && h->minor == 1) {
        if (!str_is_nocase(s.expect, "100-continue"))
            return wh_h1_refuse(h, 417, "expect");
        h->expect_continue = true;
    }
    h->keep_alive = h->minor == 1 ? !wh_h1_has_token(h, "connection", "close")
                                  : wh_h1_has_token(h, "connection", "keep-alive") &&
                                        !wh_h1_has_token(h, "connection", "close");
    h->upgrade =
        h->minor == 1 && wh_h1_get(h, "upgrade").p != NULL && wh_h1_has_token(h, "connection", "upgrade");
    return 0;
}

/* ---- chunks ---- */

static size_t quoted_length(const char *p, size_t n) /* of the quoted-string at p, 0 when malformed */
{
    for (size_t i = 1; i < n; i++) {
        if (p[i] == '"')
            return i + 1;
        if (p[i] == '\\' && ++i == n)
            return 0;
        if (!wh_h1_is(p[i], H1_VALUE))
            return 0;
    }
    return 0;
}

/* RFC 9112 7.1.1 without its "bad whitespace": extensions are checked, so that nothing hides in them, and dropped. */
static bool are_extensions(const char *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        if (p[i++] != ';')
            return false;
        size_t start = i;
        while (i < n && wh_h1_is(p[i], H1_TOKEN))
            i++;
        if (i == start)
            return false;
        if (i == n || p[i] != '=')
            continue;
        start = ++i;
        if (i < n && p[i] == '"')
            i += quoted_length(p + i, n - i);
        else
            while (i < n && wh_h1_is(p[i], H1_TOKEN))
                i++;
        if (i == start)
            return false;
    }
    return true;
}

int wh_h1_parse_chunk_line(wh_h1 *h, const char *p, size_t n, uint64_t *ret_size)
{
    uint64_t size = 0;
    size_t i = 0;
    for (; i < n; i++) {
        char c = p[i];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                                : 16;
        if (digit == 16)
            break;
        if (i == 16)
            return wh_h1_refuse(h, 400, "chunk-size");
        size = size << 4 | digit;
    }
    if (i == 0 || size > INT64_MAX)
        return wh_h1_refuse(h, 400, "chunk-size");
    if (!are_extensions(p + i, n - i))
        return wh_h1_refuse(h, 400, "chunk-extension");
    *ret_size = size;
    return 0;
}
