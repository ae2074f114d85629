/* SPDX-License-Identifier: Apache-2.0 */
/* Strings as (pointer, length), string vectors, and the conversions that C lacks safe forms of. */
#pragma once

#include "base/err.h"

#include <string.h>

typedef struct wh_str {
    const char *p;
    size_t n;
} wh_str;

#define WH_STR(lit) ((wh_str){(lit), sizeof(lit) - 1})
#define WH_STR_ARG(s) (int)(s).n, (s).p /* for "%.*s" */

static inline wh_str wh_str_of(const char *s)
{
    return (wh_str){s, s == NULL ? 0 : strlen(s)};
}

static inline bool wh_streq(const char *a, const char *b) /* NULL equals NULL only */
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static inline bool wh_starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool wh_str_eq(wh_str a, wh_str b);
bool wh_ends_with(const char *s, const char *suffix);
/* Takes what stands before `sep` off the front of *s; false when *s is exhausted. The last piece has no sep. */
bool wh_str_split(wh_str *s, char sep, wh_str *ret_piece);
wh_str wh_str_trim(wh_str s); /* ASCII white space, both ends */

/* Whole-string conversions: no leading space, no sign but '-' for i64, no trailing bytes; -EINVAL, -ERANGE. */
int wh_parse_u64(const char *s, uint64_t max, uint64_t *ret);
int wh_parse_i64(const char *s, int64_t min, int64_t max, int64_t *ret);
/* "64Mi", "1G", "512k", "100" to bytes, binary and decimal suffixes of Kubernetes without fractions. */
int wh_parse_bytes(const char *s, uint64_t *ret);
/* "250ms", "10s", "5m", "1h30m" to nanoseconds (Go's duration syntax, integers only). */
int wh_parse_duration(const char *s, int64_t *ret_ns);

/* A NULL-terminated vector of strings that owns them. NULL is an empty vector. */
typedef char **wh_strv;
size_t wh_strv_len(char *const *v);
void wh_strv_push(wh_strv *v, const char *s); /* copies */
void wh_strv_push_take(wh_strv *v, char *s);  /* takes over */
wh_strv wh_strv_copy(char *const *v);
bool wh_strv_has(char *const *v, const char *s);
void wh_strv_free(wh_strv v);
WH_DEFINE_CLEANUP(wh_cleanup_strv, wh_strv, wh_strv_free);
#define auto_strv __attribute__((cleanup(wh_cleanup_strv)))

bool wh_utf8_valid(const char *p, size_t n);
size_t wh_utf8_length(const char *p,
                      size_t n); /* bytes of the well-formed sequence at p; 0 when there is none */
/* Hex, lower case; `out` holds 2*n+1 bytes. */
void wh_hex(const void *data, size_t n, char *out);
int wh_unhex(const char *s, size_t n, uint8_t *out); /* n hex digits to n/2 bytes; -EINVAL */
/* Standard base64 with padding. Decoding accepts no white space; *ret is the caller's to free. */
char *wh_base64(const void *data, size_t n);
int wh_unbase64(const char *s, size_t n, uint8_t **ret, size_t *ret_n);
/* "1.5 MiB" for people; `out` holds at least 16 bytes. */
const char *wh_human_bytes(uint64_t bytes, char out[16]);
