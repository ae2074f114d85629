/* SPDX-License-Identifier: Apache-2.0 */
/* From a header block to a request (RFC 9113 8.2, 8.3). The library has checked names, values, and which pseudo-fields
 * there are; what would be ambiguous as HTTP/1 is refused here, in the words of HTTP/1. */
#include "http/h1_private.h"
#include "http/h2_private.h"

#include <strings.h>

int wh_h2_block_add(h2_block *b, wh_str name, wh_str value, size_t bytes, size_t fields)
{
    if (b->n >= fields || name.n + value.n + 2 > bytes - WH_MIN(bytes, b->text.len))
        return -ENOBUFS;
    if (b->n == b->cap) {
        size_t cap = WH_MAX(b->cap * 2, (size_t)16);
        h2_entry *grown = reallocarray(b->entries, cap, sizeof(*grown));
        if (grown == NULL)
            return -ENOMEM;
        b->entries = grown;
        b->cap = cap;
    }
    h2_entry entry = {(uint32_t)b->text.len, (uint32_t)name.n, (uint32_t)value.n};
    int r = wh_buf_reserve(&b->text, name.n + value.n + 2);
    if (r < 0)
        return r;
    (void)wh_buf_append(&b->text, name.p, name.n);
    (void)wh_buf_putc(&b->text, '\0');
    (void)wh_buf_append(&b->text, value.p, value.n);
    (void)wh_buf_putc(&b->text, '\0');
    b->entries[b->n++] = entry;
    return 0;
}

void wh_h2_block_done(h2_block *b)
{
    wh_buf_done(&b->text);
    free(b->entries);
    b->entries = NULL;
    b->n = b->cap = 0;
}

static wh_h1_field entry_field(const h2_block *b, size_t i)
{
    const h2_entry *e = &b->entries[i];
    wh_str value = {b->text.p + e->at + e->name_n + 1, e->value_n};
    while (value.n > 0 && (value.p[0] == ' ' || value.p[0] == '\t'))
        value = (wh_str){value.p + 1, value.n - 1};
    while (value.n > 0 && (value.p[value.n - 1] == ' ' || value.p[value.n - 1] == '\t'))
        value.n--;
    return (wh_h1_field){{b->text.p + e->at, e->name_n}, value};
}

static int refuse(wh_h2_stream *s, int status, const char *rule)
{
    s->refuse = status;
    s->rule = rule;
    return -EBADMSG;
}

/* RFC 9113 8.2.3: the crumbs of a cookie are one field to whoever reads HTTP/1. Behind the block's other text. */
static int join_cookies(wh_h2_stream *s, size_t *count)
{
    wh_buf *text = &s->head.text;
    size_t start = text->len;
    size_t first = SIZE_MAX;
    size_t kept = 0;
    for (size_t i = 0; i < *count; i++) {
        wh_h1_field f = s->fields[i];
        if (!wh_str_eq(f.name, WH_STR("cookie"))) {
            s->fields[kept++] = f;
            continue;
        }
        if (first == SIZE_MAX) {
            first = kept;
            s->fields[kept++] = f;
        } else {
            (void)wh_buf_puts(text, "; ");
        }
        (void)wh_buf_append(text, f.value.p, f.value.n);
    }
    if (text->failed)
        return -ENOMEM;
    if (first != SIZE_MAX)
        s->fields[first].value = (wh_str){text->p + start, text->len - start};
    *count = kept;
    return 0;
}

typedef struct special {
    wh_str method, path, authority, host, length;
    size_t hosts;
} special;

/* Splits pseudo-fields from fields; s->fields gets the latter. */
static size_t sort_fields(wh_h2_stream *s, special *ret)
{
    size_t count = 0;
    for (size_t i = 0; i < s->head.n; i++) {
        wh_h1_field f = entry_field(&s->head, i);
        if (wh_str_eq(f.name, WH_STR(":method")))
            ret->method = f.value;
        else if (wh_str_eq(f.name, WH_STR(":path")))
            ret->path = f.value;
        else if (wh_str_eq(f.name, WH_STR(":authority")))
            ret->authority = f.value;
        if (f.name.p[0] == ':')
            continue;
        if (wh_str_eq(f.name, WH_STR("content-length")))
            ret->length = f.value;
        if (wh_str_eq(f.name, WH_STR("host"))) {
            ret->host = f.value;
            ret->hosts++;
        }
        s->fields[count++] = f;
    }
    return count;
}

static int check_authority(wh_h2_stream *s, special *sp)
{
    if (sp->hosts > 1)
        return refuse(s, 400, "dup-host");
    if (sp->hosts == 1 && sp->authority.p != NULL &&
        (sp->host.n != sp->authority.n || strncasecmp(sp->host.p, sp->authority.p, sp->host.n) != 0))
        return refuse(s, 400, "host-differs");
    if (sp->authority.p == NULL)
        sp->authority = sp->host;
    for (size_t i = 0; i < sp->authority.n; i++)
        if (!wh_h1_is(sp->authority.p[i], H1_HOST))
            return refuse(s, 400, "host");
    return 0;
}

static int check_target(wh_h2_stream *s, const special *sp)
{
    if (!wh_h1_is_token(sp->method))
        return refuse(s, 400, "method");
    if (sp->path.n > WH_HTTP_LINE_BYTES_MAX)
        return refuse(s, 414, "line-size");
    for (size_t i = 0; i < sp->path.n; i++) {
        unsigned char c = (unsigned char)sp->path.p[i];
        if (c <= 0x20 || c >= 0x7f || c == '#')
            return refuse(s, 400, "target");
    }
    bool star = wh_str_eq(sp->path, WH_STR("*"));
    if (star ? !wh_str_eq(sp->method, WH_STR("OPTIONS")) : sp->path.n == 0 || sp->path.p[0] != '/')
        return refuse(s, 400, "target");
    return 0;
}

static int read_length(wh_h2_stream *s, wh_str value, int64_t *ret)
{
    uint64_t length = 0;
    auto_free char *text = wh_xstrndup(value.p, value.n);
    if (wh_parse_u64(text, INT64_MAX, &length) < 0)
        return refuse(s, 400, "content-length");
    if (length > s->x.conn->server->options.body_bytes_max)
        return refuse(s, 413, "body-size");
    *ret = (int64_t)length;
    return 0;
}

int wh_h2_head_read(wh_h2_stream *s)
{
    /* Room for the cookies first: afterwards nothing may move. */
    if (wh_buf_reserve(&s->head.text, s->head.text.len + 2 * s->head.n) < 0)
        return refuse(s, 503, "memory");
    special sp = {0};
    s->fields = wh_xcalloc(s->head.n + 1, sizeof(*s->fields));
    size_t count = sort_fields(s, &sp);
    if (join_cookies(s, &count) < 0)
        return refuse(s, 503, "memory");
    int r = check_target(s, &sp);
    if (r == 0)
        r = check_authority(s, &sp);
    if (r < 0)
        return r;
    int64_t length = s->eof ? 0 : -1;
    if (sp.length.p != NULL && read_length(s, sp.length, &length) < 0)
        return -EBADMSG;
    wh_assert(sp.path.p != NULL); /* or check_target had refused it */
    const char *mark = memchr(sp.path.p, '?', sp.path.n);
    size_t path_n = mark == NULL ? sp.path.n : (size_t)(mark - sp.path.p);
    wh_http_head head = {.method = sp.method,
                         .path = {sp.path.p, path_n},
                         .query = mark == NULL ? WH_STR("") : (wh_str){mark + 1, sp.path.n - path_n - 1},
                         .has_query = mark != NULL,
                         .authority = sp.authority.p == NULL ? WH_STR("") : sp.authority,
                         .fields = s->fields,
                         .n_fields = count,
                         .version = 20,
                         .length = length};
    r = wh_http_request_set(&s->x, &head);
    return r == 0 ? 0 : refuse(s, r == -EBADMSG ? 400 : 503, r == -EBADMSG ? "path" : "memory");
}

void wh_h2_tail_read(wh_h2_stream *s)
{
    s->trailers = wh_xcalloc(s->tail.n + 1, sizeof(*s->trailers));
    s->n_trailers = 0;
    for (size_t i = 0; i < s->tail.n; i++) {
        wh_h1_field f = entry_field(&s->tail, i);
        if (!wh_h1_is_forbidden_trailer(f.name))
            s->trailers[s->n_trailers++] = f;
    }
}
