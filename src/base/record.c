/* SPDX-License-Identifier: Apache-2.0 */
#include "base/record.h"

#include <inttypes.h>
#include <stdio.h>

#define KEY_MAX 32

static bool key_ok(const char *key, size_t n)
{
    if (n == 0 || n > KEY_MAX)
        return false;
    for (size_t i = 0; i < n; i++) {
        char c = key[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '_')
            return false;
    }
    return true;
}

void wh_record_put(wh_buf *b, const char *key, const void *value, size_t n)
{
    size_t key_len = strlen(key);
    wh_assert(key_ok(key, key_len));
    if (n > UINT32_MAX || wh_buf_reserve(b, 1 + key_len + 4 + n) < 0) {
        b->failed = true;
        return;
    }
    uint8_t size[4] = {(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), (uint8_t)(n >> 24)};
    (void)wh_buf_putc(b, (char)key_len); /* the room is reserved */
    (void)wh_buf_append(b, key, key_len);
    (void)wh_buf_append(b, size, sizeof(size));
    (void)wh_buf_append(b, value, n);
}

void wh_record_put_str(wh_buf *b, const char *key, const char *value)
{
    if (value != NULL)
        wh_record_put(b, key, value, strlen(value));
}

void wh_record_put_i64(wh_buf *b, const char *key, int64_t value)
{
    char text[24];
    int n = snprintf(text, sizeof(text), "%" PRId64, value);
    wh_record_put(b, key, text, (size_t)n);
}

wh_record_iter wh_record_begin(const void *data, size_t n)
{
    const char *p = n == 0 ? "" : data;
    return (wh_record_iter){p, p + n};
}

bool wh_record_next(wh_record_iter *it, wh_field *ret)
{
    size_t left = (size_t)(it->end - it->p);
    if (left < 1)
        return false;
    size_t key_len = (uint8_t)it->p[0];
    if (left < 1 + key_len + 4 || !key_ok(it->p + 1, key_len))
        return false;
    const char *size = it->p + 1 + key_len;
    size_t n = (size_t)(uint8_t)size[0] | (size_t)(uint8_t)size[1] << 8 | (size_t)(uint8_t)size[2] << 16 |
               (size_t)(uint8_t)size[3] << 24;
    if (n > left - 1 - key_len - 4)
        return false;
    ret->key = (wh_str){it->p + 1, key_len};
    ret->value = (wh_str){size + 4, n};
    it->p = size + 4 + n;
    return true;
}

int wh_record_check(const void *data, size_t n, wh_err *err)
{
    if (n > WH_RECORD_BYTES_MAX)
        return wh_fail(err, -EBADMSG, "record of %zu bytes: at most %d are allowed", n, WH_RECORD_BYTES_MAX);
    wh_record_iter it = wh_record_begin(data, n);
    const char *start = it.p;
    wh_field field;
    while (wh_record_next(&it, &field))
        ;
    if (it.p != it.end)
        return wh_fail(err, -EBADMSG, "record is malformed at byte %zu of %zu.", (size_t)(it.p - start), n);
    return 0;
}

bool wh_field_is(const wh_field *f, const char *key)
{
    return wh_str_eq(f->key, wh_str_of(key));
}

char *wh_field_strdup(const wh_field *f)
{
    if (memchr(f->value.p, '\0', f->value.n) != NULL)
        return NULL;
    return wh_xstrndup(f->value.p, f->value.n);
}

int wh_field_i64(const wh_field *f, int64_t min, int64_t max, int64_t *ret, wh_err *err)
{
    char text[24] = "";
    int rc = -EINVAL;
    if (f->value.n < sizeof(text) && f->value.n > 0) {
        memcpy(text, f->value.p, f->value.n);
        if (strlen(text) == f->value.n)
            rc = wh_parse_i64(text, min, max, ret);
    }
    if (rc < 0)
        return wh_fail(err, -EBADMSG, "field '%.*s' must be a number from %" PRId64 " to %" PRId64 ".",
                       WH_STR_ARG(f->key), min, max);
    return 0;
}

static int find_field(const void *data, size_t n, const char *key, wh_field *ret, wh_err *err)
{
    wh_record_iter it = wh_record_begin(data, n);
    wh_field field;
    while (wh_record_next(&it, &field)) {
        if (wh_field_is(&field, key)) {
            *ret = field;
            return 0;
        }
    }
    return wh_fail(err, -ENOENT, "field '%s' is missing.", key);
}

int wh_record_get_str(const void *data, size_t n, const char *key, char **ret, wh_err *err)
{
    wh_field field;
    int rc = find_field(data, n, key, &field, err);
    if (rc < 0)
        return rc;
    char *text = wh_field_strdup(&field);
    if (text == NULL)
        return wh_fail(err, -EBADMSG, "field '%s' holds a NUL byte.", key);
    *ret = text;
    return 0;
}

int wh_record_get_i64(const void *data, size_t n, const char *key, int64_t min, int64_t max, int64_t *ret,
                      wh_err *err)
{
    wh_field field;
    int rc = find_field(data, n, key, &field, err);
    return rc < 0 ? rc : wh_field_i64(&field, min, max, ret, err);
}
