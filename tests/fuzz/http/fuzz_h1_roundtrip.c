/* SPDX-License-Identifier: Apache-2.0 */
/* The writer of HTTP/1 heads and chunks against the reader: what it wrote, the reader accepts and gives back, and what
 * it refuses adds nothing. The input is lines: method, target, host, then name and value of each field, then one
 * chunk. */
#include "http/h1.h"

#include <strings.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define FIELDS_MAX 8

typedef struct message {
    wh_str method, target, host, body;
    wh_h1_field fields[FIELDS_MAX];
    size_t n_fields;
} message;

static bool next(wh_str *rest, wh_str *ret)
{
    return wh_str_split(rest, '\n', ret);
}

static bool is_framing(wh_str name)
{
    static const char *const names[] = {"host", "content-length", "transfer-encoding", "expect"};
    for (size_t i = 0; i < WH_ARRAY_LEN(names); i++)
        if (strlen(names[i]) == name.n && strncasecmp(names[i], name.p, name.n) == 0)
            return true;
    return false;
}

static bool write_message(wh_buf *out, message *m, wh_str rest)
{
    if (!next(&rest, &m->method) || !next(&rest, &m->target) || !next(&rest, &m->host))
        return false;
    if (wh_h1_write_request(out, m->method, m->target, m->host) < 0) {
        wh_assert(out->len == 0);
        return false;
    }
    wh_assert(wh_h1_write_field(out, "Transfer-Encoding", "chunked") == 0);
    wh_h1_field field;
    while (m->n_fields < FIELDS_MAX && next(&rest, &field.name) && next(&rest, &field.value)) {
        size_t before = out->len;
        if (is_framing(field.name)) /* whoever writes a message frames it himself */
            continue;
        if (wh_h1_write_field_n(out, field.name, field.value) == 0)
            m->fields[m->n_fields++] = field;
        else
            wh_assert(out->len == before);
    }
    m->body = rest;
    wh_assert(wh_buf_puts(out, "\r\n") == 0);
    wh_assert(wh_h1_write_chunk(out, rest.p, rest.n) == 0);
    if (wh_h1_write_last_chunk(out, m->fields, m->n_fields) < 0)
        wh_assert(wh_h1_write_last_chunk(out, NULL, 0) == 0);
    return true;
}

static void check_head(const wh_h1 *h, const message *m)
{
    wh_assert(wh_str_eq(h->method, m->method));
    wh_assert(wh_str_eq(h->target, m->target));
    wh_assert(wh_str_eq(wh_h1_get(h, "host"), m->host));
    wh_assert(h->chunked);
    wh_assert(h->n_fields == m->n_fields + 2);
    for (size_t i = 0; i < m->n_fields; i++) {
        const wh_h1_field *read = &h->fields[i + 2];
        wh_assert(read->name.n == m->fields[i].name.n);
        wh_assert(strncasecmp(read->name.p, m->fields[i].name.p, read->name.n) == 0);
        wh_assert(wh_str_eq(read->value, m->fields[i].value));
    }
}

static void read_back(const wh_buf *out, const message *m)
{
    wh_h1 h;
    wh_h1_init(&h, NULL);
    size_t at = 0;
    size_t body = 0;
    wh_h1_event event = {WH_H1_NONE, {NULL, 0}};
    while (event.kind != WH_H1_END) {
        size_t used = 0;
        wh_assert(wh_h1_feed(&h, out->p + at, out->len - at, &used, &event) == 0);
        wh_assert(event.kind != WH_H1_NONE);
        at += used;
        if (event.kind == WH_H1_HEAD)
            check_head(&h, m);
        if (event.kind == WH_H1_BODY) {
            wh_assert(memcmp(event.data.p, m->body.p + body, event.data.n) == 0);
            body += event.data.n;
        }
    }
    wh_assert(at == out->len);
    wh_assert(body == m->body.n);
    wh_h1_done(&h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n > 10000)
        return 0;
    message m = {0};
    wh_buf out;
    wh_buf_init(&out, 1UL << 20);
    if (write_message(&out, &m, (wh_str){(const char *)data, n}))
        read_back(&out, &m);
    wh_buf_done(&out);
    return 0;
}
