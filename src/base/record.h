/* SPDX-License-Identifier: Apache-2.0 */
/* Records: the format in which our processes talk. A record is a sequence of fields; a field is a key of lower-case
 * letters, digits and '_' (1 to 32 bytes) and a value of any bytes:
 *
 *     u8 key length | key | u32 little-endian value length | value
 *
 * Fields repeat where a list is meant, and keep their order. There is no nesting: a value may itself be a record.
 * The whole format is this page, so that the keeper and the runner need no parser of a general format. */
#pragma once

#include "base/buf.h"

#define WH_RECORD_BYTES_MAX (1024 * 1024)

void wh_record_put(wh_buf *b, const char *key, const void *value, size_t n);
void wh_record_put_str(wh_buf *b, const char *key, const char *value); /* NULL puts nothing */
void wh_record_put_i64(wh_buf *b, const char *key, int64_t value);     /* decimal text */

typedef struct wh_record_iter {
    const char *p, *end;
} wh_record_iter;
typedef struct wh_field {
    wh_str key, value; /* borrowed from the record */
} wh_field;

/* A record that was not checked yet. -EBADMSG when it is malformed anywhere. */
int wh_record_check(const void *data, size_t n, wh_err *err);
wh_record_iter wh_record_begin(const void *data, size_t n);
bool wh_record_next(wh_record_iter *it,
                    wh_field *ret); /* false at the end, and at the first malformed byte */
bool wh_field_is(const wh_field *f, const char *key);

/* The first field of that key. Strings are copied and must hold no NUL. -ENOENT when absent, -EBADMSG when the value
 * has the wrong form or lies outside [min, max]. */
int wh_record_get_str(const void *data, size_t n, const char *key, char **ret, wh_err *err);
int wh_record_get_i64(const void *data, size_t n, const char *key, int64_t min, int64_t max, int64_t *ret,
                      wh_err *err);
int wh_field_i64(const wh_field *f, int64_t min, int64_t max, int64_t *ret, wh_err *err);
/* The value as a fresh C string; NULL when it holds a NUL byte. */
char *wh_field_strdup(const wh_field *f);
