/* SPDX-License-Identifier: Apache-2.0 */
/* The writer of HTTP/1 heads and chunks: the reader's strictness backwards. RFC 9112. */
#include "http/h1_private.h"

/* Where n more bytes can be put; NULL when there is no room. */
static inline char *room_for(wh_buf *out, size_t n, int *ret)
{
    *ret = out->cap - out->len > n && !out->failed ? 0 : wh_buf_reserve(out, n);
    return *ret < 0 ? NULL : out->p + out->len;
}

static inline char *put(char *to, wh_str s)
{
    if (s.n > 0)
        memcpy(to, s.p, s.n);
    return to + s.n;
}

static inline int end_at(wh_buf *out, char *end)
{
    *end = '\0';
    out->len = (size_t)(end - out->p);
    return 0;
}

int wh_h1_write_status(wh_buf *out, int status)
{
    if (status < 100 || status > 999)
        return -EINVAL;
    wh_str reason = wh_str_of(wh_h1_reason(status));
    int r;
    char *to = room_for(out, 15 + reason.n, &r);
    if (to == NULL)
        return r;
    to = put(to, WH_STR("HTTP/1.1 "));
    *to++ = (char)('0' + status / 100);
    *to++ = (char)('0' + status / 10 % 10);
    *to++ = (char)('0' + status % 10);
    *to++ = ' ';
    to = put(put(to, reason), WH_STR("\r\n"));
    return end_at(out, to);
}

int wh_h1_write_request(wh_buf *out, wh_str method, wh_str target, wh_str host)
{
    bool path = target.n > 0 && target.p[0] == '/' && !wh_h1_str_is(method, "CONNECT");
    bool asterisk = wh_h1_str_is(target, "*") && wh_h1_str_is(method, "OPTIONS");
    if (method.n > WH_HTTP_LINE_BYTES_MAX || target.n > WH_HTTP_LINE_BYTES_MAX ||
        host.n > WH_HTTP_LINE_BYTES_MAX || !wh_h1_is_token(method) || (!path && !asterisk) ||
        !wh_h1_all(target, H1_TARGET) || host.n == 0 || !wh_h1_all(host, H1_HOST))
        return -EINVAL;
    const wh_str proto = WH_STR(" HTTP/1.1\r\nHost: ");
    int r;
    char *to = room_for(out, method.n + target.n + proto.n + host.n + 3, &r);
    if (to == NULL)
        return r;
    to = put(put(to, method), WH_STR(" "));
    to = put(put(put(to, target), proto), host);
    return end_at(out, put(to, WH_STR("\r\n")));
}

int wh_h1_write_field_n(wh_buf *out, wh_str name, wh_str value)
{
    if (name.n > WH_HTTP_HEAD_BYTES_MAX || value.n > WH_HTTP_HEAD_BYTES_MAX || !wh_h1_is_token(name) ||
        !wh_h1_is_value(value))
        return -EINVAL;
    int r;
    char *to = room_for(out, name.n + value.n + 4, &r);
    if (to == NULL)
        return r;
    to = put(put(to, name), WH_STR(": "));
    return end_at(out, put(put(to, value), WH_STR("\r\n")));
}

int wh_h1_write_field(wh_buf *out, const char *name, const char *value)
{
    return wh_h1_write_field_n(out, wh_str_of(name), wh_str_of(value));
}

int wh_h1_write_chunk(wh_buf *out, const void *p, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    char line[16 + 2];
    size_t at = sizeof(line);
    if (n == 0)
        return 0;
    line[--at] = '\n';
    line[--at] = '\r';
    for (size_t rest = n; rest > 0; rest >>= 4)
        line[--at] = hex[rest & 15];
    const wh_str size = {line + at, sizeof(line) - at};
    size_t bytes;
    if (__builtin_add_overflow(n, size.n + 2, &bytes))
        return -ENOBUFS;
    int r;
    char *to = room_for(out, bytes, &r);
    if (to == NULL)
        return r;
    to = put(put(to, size), (wh_str){p, n});
    return end_at(out, put(to, WH_STR("\r\n")));
}

static bool may_trail(const wh_h1_field *field)
{
    char lower[32];
    if (!wh_h1_is_token(field->name) || !wh_h1_is_value(field->value))
        return false;
    if (field->name.n > sizeof(lower)) /* longer than any that is forbidden */
        return true;
    for (size_t i = 0; i < field->name.n; i++)
        lower[i] = wh_h1_name_byte[(unsigned char)field->name.p[i]];
    return !wh_h1_is_forbidden_trailer((wh_str){lower, field->name.n});
}

int wh_h1_write_last_chunk(wh_buf *out, const wh_h1_field *trailers, size_t n)
{
    if (n > WH_HTTP_TRAILERS_MAX)
        return -EINVAL;
    size_t bytes = 5;
    for (size_t i = 0; i < n; i++) {
        if (!may_trail(&trailers[i]))
            return -EINVAL;
        bytes += trailers[i].name.n + trailers[i].value.n + 4;
    }
    if (bytes - 3 > WH_HTTP_TRAILER_BYTES_MAX)
        return -EINVAL;
    int r = wh_buf_reserve(out, bytes);
    if (r == 0)
        r = wh_buf_append(out, "0\r\n", 3);
    for (size_t i = 0; r == 0 && i < n; i++)
        r = wh_h1_write_field_n(out, trailers[i].name, trailers[i].value);
    return r < 0 ? r : wh_buf_append(out, "\r\n", 2);
}
