/* SPDX-License-Identifier: Apache-2.0 */
/* What a complete head, trailer section or chunk-size line means (RFC 9112 sections 3, 5, 6, 7.1). */
#include "http/h1_private.h"

#include <strings.h>

int wh_h1_refuse(wh_h1 *h, int status, const char *rule)
{
    h->status = h->response ? 502 : status;
    h->rule = rule;
    h->state = H1_REFUSED;
    return -EBADMSG;
}

static bool str_is_nocase(wh_str s, const char *lit)
{
    size_t n = strlen(lit);
    return s.n == n && strncasecmp(s.p, lit, n) == 0;
}

/* ---- fields ---- */

static int grow_fields(wh_h1_field **list, size_t *cap)
{
    size_t room = *cap == 0 ? 16 : *cap * 2;
    wh_h1_field *grown = realloc(*list, room * sizeof(**list));
    if (grown == NULL)
        return -ENOMEM;
    *list = grown;
    *cap = room;
    return 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Says what is wrong with the name of the field line at p. */
static __attribute__((cold, noinline)) int refuse_name(wh_h1 *h, const char *p)
{
    const char *end = p + strcspn(p, "\r");
    if (is_blank(*p))
        return wh_h1_refuse(h, 400, "obs-fold");
    return wh_h1_refuse(h, 400, memchr(p, ':', (size_t)(end - p)) != NULL ? "field-name" : "field-colon");
}

/* The first control character but TAB, or DEL, at p or behind it. There is one: at least the buffer's NUL. */
static char *value_end(char *p)
{
    for (;;) {
        uint64_t controls = wh_h1_controls(p);
        if (controls == 0) {
            p += sizeof(controls);
            continue;
        }
        p += (size_t)__builtin_ctzll(controls) / 8;
        if (*p != '\t')
            return p;
        p++;
    }
}

/* One field line with its CRLF; *p moves behind it. Its name becomes lower case in place. */
static inline int parse_field(wh_h1 *h, char **p, wh_h1_field *ret)
{
    char *name = *p;
    size_t n = 0;
    for (char c; (c = wh_h1_name_byte[(unsigned char)name[n]]) != 0; n++)
        name[n] = c;
    if (name[n] != ':' || n == 0)
        return refuse_name(h, name);
    char *value = name + n + 1;
    char *end = value_end(value);
    if (end[0] != '\r' || end[1] != '\n')
        return wh_h1_refuse(h, 400, "field-value");
    *p = end + 2;
    while (is_blank(*value))
        value++;
    while (end > value && is_blank(end[-1]))
        end--;
    *ret = (wh_h1_field){{name, n}, {value, (size_t)(end - value)}};
    return 0;
}

/* The fields that decide how a message is read: which there are, which twice, and where in h->fields. */
enum { HOST = 1, LENGTH = 2, ENCODING = 4, EXPECT = 8, CONNECTION = 16, UPGRADE = 32 };

typedef struct special {
    unsigned seen, twice;
    unsigned host, length, encoding, expect;
} special;

static inline void note_special(special *s, wh_str name, unsigned at)
{
    unsigned which = 0;
    switch (name.n) {
    case 4:
        which = wh_h1_str_is(name, "host") ? HOST : 0;
        break;
    case 6:
        which = wh_h1_str_is(name, "expect") ? EXPECT : 0;
        break;
    case 7:
        which = wh_h1_str_is(name, "upgrade") ? UPGRADE : 0;
        break;
    case 10:
        which = wh_h1_str_is(name, "connection") ? CONNECTION : 0;
        break;
    case 14:
        which = wh_h1_str_is(name, "content-length") ? LENGTH : 0;
        break;
    case 17:
        which = wh_h1_str_is(name, "transfer-encoding") ? ENCODING : 0;
        break;
    default:
        break;
    }
    if (which == 0)
        return;
    s->twice |= s->seen & which;
    s->seen |= which;
    s->host = which == HOST ? at : s->host;
    s->length = which == LENGTH ? at : s->length;
    s->encoding = which == ENCODING ? at : s->encoding;
    s->expect = which == EXPECT ? at : s->expect;
}

/* Up to the empty line; *p moves behind it. */
static int parse_fields(wh_h1 *h, char **p, special *s)
{
    char *at = *p;
    while (*at != '\r') {
        if (h->n_fields == h->fields_cap && grow_fields(&h->fields, &h->fields_cap) < 0)
            return -ENOMEM;
        wh_h1_field *field = &h->fields[h->n_fields];
        int r = parse_field(h, &at, field);
        if (r < 0)
            return r;
        if (h->n_fields >= h->limits.fields)
            return wh_h1_refuse(h, 431, "field-count");
        note_special(s, field->name, (unsigned)h->n_fields++);
    }
    if (at[1] != '\n')
        return wh_h1_refuse(h, 400, "bare-cr");
    *p = at + 2;
    return 0;
}

int wh_h1_parse_trailers(wh_h1 *h)
{
    char *p = h->tail.p;
    while (*p != '\r') {
        wh_h1_field field;
        int r = parse_field(h, &p, &field);
        if (r < 0)
            return r;
        if (wh_h1_is_forbidden_trailer(field.name)) /* means nothing here and is dropped */
            continue;
        if (h->n_trailers >= WH_HTTP_TRAILERS_MAX)
            return wh_h1_refuse(h, 400, "trailer-count");
        if (h->n_trailers == h->trailers_cap && grow_fields(&h->trailers, &h->trailers_cap) < 0)
            return -ENOMEM;
        h->trailers[h->n_trailers++] = field;
    }
    return 0;
}

/* ---- the first line ---- */

static void split_query(wh_h1 *h, wh_str path)
{
    const char *mark = path.n <= 1 ? NULL : memchr(path.p, '?', path.n);
    h->path = path;
    h->query = WH_STR("");
    if (mark != NULL) {
        h->path.n = (size_t)(mark - path.p);
        h->query = (wh_str){mark + 1, path.n - h->path.n - 1};
    }
}

/* complexity: one grammar, four alternatives. RFC 9112 3.2; h->target is not empty and of its alphabet. *ret_authority
 * is what the target itself names, or {NULL, 0}. */
static int parse_target(wh_h1 *h, wh_str *ret_authority)
{
    wh_str t = h->target;
    *ret_authority = (wh_str){NULL, 0};
    h->path = h->query = WH_STR("");
    if (t.p[0] == '/' && !wh_h1_str_is(h->method, "CONNECT")) {
        split_query(h, t);
        return 0;
    }
    if (wh_h1_str_is(h->method, "CONNECT")) {
        if (!wh_h1_all(t, H1_HOST) || memchr(t.p, ':', t.n) == NULL)
            return wh_h1_refuse(h, 400, "target");
        *ret_authority = t;
        return 0;
    }
    if (wh_h1_str_is(t, "*")) {
        h->path = t;
        return wh_h1_str_is(h->method, "OPTIONS") ? 0 : wh_h1_refuse(h, 400, "target");
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
    if (n == 0 || !wh_h1_all(*ret_authority, H1_HOST))
        return wh_h1_refuse(h, 400, "target");
    split_query(h, (wh_str){rest.p + n, rest.n - n});
    if (h->path.n == 0)
        h->path = WH_STR("/");
    return 0;
}

/* Eight bytes at v, which may reach past the line, but not past the buffer. */
static int parse_version(wh_h1 *h, const char *v)
{
    if (memcmp(v, "HTTP/1.1", 8) == 0) {
        h->minor = 1;
        return 0;
    }
    if (memcmp(v, "HTTP/", 5) != 0 || v[6] != '.' || v[5] < '0' || v[5] > '9' || v[7] < '0' || v[7] > '9')
        return wh_h1_refuse(h, 400, "version");
    if (v[5] != '1')
        return wh_h1_refuse(h, 505, "version");
    h->minor = v[7] == '0' ? 0 : 1;
    return 0;
}

/* *p moves behind the line's CRLF. Reads no further than the line: a CR is of no alphabet. */
static int parse_request_line(wh_h1 *h, char **p, wh_str *ret_authority)
{
    char *at = *p;
    while (wh_h1_is(*at, H1_TOKEN))
        at++;
    if (*at != ' ' || at == *p)
        return wh_h1_refuse(h, 400, at[strcspn(at, " \r")] == ' ' ? "method" : "request-line");
    h->method = (wh_str){*p, (size_t)(at - *p)};
    const char *target = ++at;
    while (wh_h1_is(*at, H1_TARGET))
        at++;
    bool clean = *at == ' ';
    if (!clean) /* what is wrong with the line as a whole is said first */
        at += strcspn(at, " \r");
    if (*at != ' ' || at == target)
        return wh_h1_refuse(h, 400, "request-line");
    h->target = (wh_str){target, (size_t)(at - target)};
    at++;
    if (at[8] != '\r' || at[9] != '\n')
        return wh_h1_refuse(h, 400, "version");
    *p = at + 10;
    int r = parse_version(h, at);
    if (r == 0 && !clean)
        return wh_h1_refuse(h, 400, "target");
    return r < 0 ? r : parse_target(h, ret_authority);
}

/* RFC 9112 4. Some servers leave out the blank before an empty reason; nothing hides there. */
static int parse_status_line(wh_h1 *h, char **p)
{
    char *at = *p;
    int r = parse_version(h, at);
    if (r < 0)
        return r;
    h->code = 0;
    for (size_t i = 9; i < 12; i++) {
        if (at[8] != ' ' || at[i] < '0' || at[i] > '9')
            return wh_h1_refuse(h, 400, "status-line");
        h->code = h->code * 10 + (at[i] - '0');
    }
    if (h->code < 100 || (at[12] != ' ' && at[12] != '\r'))
        return wh_h1_refuse(h, 400, "status-line");
    at = value_end(at + 12);
    if (at[0] != '\r' || at[1] != '\n')
        return wh_h1_refuse(h, 400, "status-line");
    *p = at + 2;
    return 0;
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

static int check_host(wh_h1 *h, const special *s, wh_str authority)
{
    if ((s->twice & HOST) != 0)
        return wh_h1_refuse(h, 400, "dup-host");
    if ((s->seen & HOST) == 0)
        return h->minor == 0 ? 0 : wh_h1_refuse(h, 400, "no-host");
    wh_str host = h->fields[s->host].value;
    if (!wh_h1_all(host, H1_HOST))
        return wh_h1_refuse(h, 400, "host");
    if (authority.p != NULL && (authority.n != host.n || strncasecmp(authority.p, host.p, authority.n) != 0))
        return wh_h1_refuse(h, 400, "host-differs");
    return 0;
}

static int decide_framing(wh_h1 *h, const special *s)
{
    if ((s->seen & (LENGTH | ENCODING)) == 0)
        return 0;
    if ((s->seen & (LENGTH | ENCODING)) == (LENGTH | ENCODING))
        return wh_h1_refuse(h, 400, "length-and-encoding");
    if ((s->twice & LENGTH) != 0)
        return wh_h1_refuse(h, 400, "dup-content-length");
    if ((s->twice & ENCODING) != 0)
        return wh_h1_refuse(h, 400, "dup-transfer-encoding");
    if ((s->seen & LENGTH) != 0)
        return parse_length(h, h->fields[s->length].value);
    if (h->minor == 0)
        return wh_h1_refuse(h, 400, "encoding-in-http10");
    return parse_transfer_encoding(h, h->fields[s->encoding].value);
}

static void decide_keep_alive(wh_h1 *h, const special *s)
{
    h->keep_alive = h->minor == 1;
    if ((s->seen & CONNECTION) == 0)
        return;
    h->keep_alive = !wh_h1_has_token(h, "connection", "close") &&
                    (h->minor == 1 || wh_h1_has_token(h, "connection", "keep-alive"));
    h->upgrade = h->minor == 1 && (s->seen & UPGRADE) != 0 && wh_h1_has_token(h, "connection", "upgrade");
}

static int decide_request(wh_h1 *h, const special *s)
{
    if ((s->seen & EXPECT) == 0 || h->minor == 0)
        return 0;
    if (!str_is_nocase(h->fields[s->expect].value, "100-continue"))
        return wh_h1_refuse(h, 417, "expect");
    h->expect_continue = true;
    return 0;
}

/* RFC 9112 6.3: some answers have no body, whatever their fields say. */
static bool has_no_body(const wh_h1 *h)
{
    bool tunnel = h->asked == WH_H1_ASKED_CONNECT && h->code >= 200 && h->code < 300;
    return h->asked == WH_H1_ASKED_HEAD || h->code < 200 || h->code == 204 || h->code == 304 || tunnel;
}

static int decide_response(wh_h1 *h)
{
    bool says_body = h->chunked || h->length > 0;
    if (h->code == 101 && h->asked != WH_H1_ASKED_UPGRADE)
        return wh_h1_refuse(h, 400, "switching");
    if (h->code < 200 && says_body)
        return wh_h1_refuse(h, 400, "interim-body");
    if (has_no_body(h)) {
        /* A 204 that says otherwise leaves it open where the next answer begins; a tunnel has none. */
        if (h->asked == WH_H1_ASKED_CONNECT || (h->code == 204 && says_body))
            h->keep_alive = false;
        h->chunked = false;
        h->length = 0;
    } else if (!h->chunked && !h->has_length) {
        h->until_close = true;
        h->keep_alive = false;
    }
    return 0;
}

int wh_h1_parse_head(wh_h1 *h, size_t *ret_bytes)
{
    char *p = h->head.p;
    wh_str authority = {NULL, 0};
    int r = h->response ? parse_status_line(h, &p) : parse_request_line(h, &p, &authority);
    special s = {0};
    if (r == 0)
        r = parse_fields(h, &p, &s);
    if (r == 0 && !h->response)
        r = check_host(h, &s, authority);
    if (r == 0)
        r = decide_framing(h, &s);
    if (r < 0)
        return r;
    decide_keep_alive(h, &s);
    r = h->response ? decide_response(h) : decide_request(h, &s);
    if (r == 0)
        *ret_bytes = (size_t)(p - h->head.p);
    return r;
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
