/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"

#include <stdio.h>

bool wh_str_eq(wh_str a, wh_str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool wh_ends_with(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

bool wh_str_split(wh_str *s, char sep, wh_str *ret_piece)
{
    if (s->p == NULL)
        return false;
    const char *hit = s->n == 0 ? NULL : memchr(s->p, sep, s->n);
    if (hit == NULL) {
        *ret_piece = *s;
        *s = (wh_str){NULL, 0};
        return true;
    }
    size_t len = (size_t)(hit - s->p);
    *ret_piece = (wh_str){s->p, len};
    *s = (wh_str){hit + 1, s->n - len - 1};
    return true;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

wh_str wh_str_trim(wh_str s)
{
    while (s.n > 0 && is_space(s.p[0])) {
        s.p++;
        s.n--;
    }
    while (s.n > 0 && is_space(s.p[s.n - 1]))
        s.n--;
    return s;
}

/* Takes digits off the front of *s. -EINVAL when there are none, -ERANGE past 64 bits. */
static int take_digits(const char **s, uint64_t *ret)
{
    const char *p = *s;
    uint64_t value = 0;
    bool over = false;
    if (*p < '0' || *p > '9')
        return -EINVAL;
    for (; *p >= '0' && *p <= '9'; p++) {
        over |= __builtin_mul_overflow(value, (uint64_t)10, &value);
        over |= __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value);
    }
    *s = p;
    if (over)
        return -ERANGE;
    *ret = value;
    return 0;
}

int wh_parse_u64(const char *s, uint64_t max, uint64_t *ret)
{
    uint64_t value = 0;
    if (s == NULL)
        return -EINVAL;
    int rc = take_digits(&s, &value);
    if (rc == -EINVAL || *s != '\0')
        return -EINVAL;
    if (rc < 0 || value > max)
        return -ERANGE;
    *ret = value;
    return 0;
}

int wh_parse_i64(const char *s, int64_t min, int64_t max, int64_t *ret)
{
    if (s == NULL)
        return -EINVAL;
    bool negative = *s == '-';
    uint64_t magnitude;
    int rc = wh_parse_u64(s + negative, negative ? (uint64_t)1 << 63 : INT64_MAX, &magnitude);
    if (rc < 0)
        return rc;
    int64_t value = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    if (value < min || value > max)
        return -ERANGE;
    *ret = value;
    return 0;
}

int wh_parse_bytes(const char *s, uint64_t *ret)
{
    static const struct {
        const char *suffix;
        uint64_t factor;
    } units[] = {
        {"", 1},
        {"Ki", 1ULL << 10},
        {"Mi", 1ULL << 20},
        {"Gi", 1ULL << 30},
        {"Ti", 1ULL << 40},
        {"Pi", 1ULL << 50},
        {"Ei", 1ULL << 60},
        {"k", 1000},
        {"M", 1000ULL * 1000},
        {"G", 1000ULL * 1000 * 1000},
        {"T", 1000ULL * 1000 * 1000 * 1000},
        {"P", 1000ULL * 1000 * 1000 * 1000 * 1000},
        {"E", 1000ULL * 1000 * 1000 * 1000 * 1000 * 1000},
    };
    uint64_t value = 0;
    if (s == NULL)
        return -EINVAL;
    int rc = take_digits(&s, &value);
    if (rc == -EINVAL)
        return rc;
    for (size_t i = 0; i < WH_ARRAY_LEN(units); i++) {
        if (strcmp(s, units[i].suffix) != 0)
            continue;
        if (rc < 0 || __builtin_mul_overflow(value, units[i].factor, &value))
            return -ERANGE;
        *ret = value;
        return 0;
    }
    return -EINVAL;
}

/* Takes a unit off the front of *s; 0 when there is none. */
static int64_t take_duration_unit(const char **s)
{
    static const struct {
        const char *name;
        int64_t ns;
    } units[] = {
        {"ns", 1},
        {"us", 1000},
        {"\xc2\xb5s", 1000}, /* U+00B5, micro sign */
        {"\xce\xbcs", 1000}, /* U+03BC, Greek mu */
        {"ms", 1000LL * 1000},
        {"s", 1000LL * 1000 * 1000},
        {"m", 60LL * 1000 * 1000 * 1000},
        {"h", 3600LL * 1000 * 1000 * 1000},
    };
    for (size_t i = 0; i < WH_ARRAY_LEN(units); i++) {
        if (wh_starts_with(*s, units[i].name)) {
            *s += strlen(units[i].name);
            return units[i].ns;
        }
    }
    return 0;
}

int wh_parse_duration(const char *s, int64_t *ret_ns)
{
    int64_t total = 0;
    bool over = false;
    if (s == NULL || *s == '\0')
        return -EINVAL;
    if (strcmp(s, "0") == 0) {
        *ret_ns = 0;
        return 0;
    }
    while (*s != '\0') {
        uint64_t value = 0;
        int64_t piece = 0;
        int rc = take_digits(&s, &value);
        if (rc == -EINVAL)
            return rc;
        int64_t unit = take_duration_unit(&s);
        if (unit == 0)
            return -EINVAL;
        over |= rc < 0;
        over |= __builtin_mul_overflow(value, unit, &piece);
        over |= __builtin_add_overflow(total, piece, &total);
    }
    if (over)
        return -ERANGE;
    *ret_ns = total;
    return 0;
}

size_t wh_strv_len(char *const *v)
{
    size_t n = 0;
    while (v != NULL && v[n] != NULL)
        n++;
    return n;
}

/* The vector's capacity is the next power of two of what it holds, so that it need not be stored. */
void wh_strv_push_take(wh_strv *v, char *s)
{
    wh_assert(s != NULL);
    size_t n = wh_strv_len(*v);
    if (n == 0 || ((n + 1) & n) == 0) {
        size_t cap = (n + 1) * 2;
        wh_strv grown = reallocarray(*v, cap, sizeof(char *));
        if (grown == NULL)
            wh_panic(__FILE__, __LINE__, __func__, "memory is available");
        *v = grown;
    }
    (*v)[n] = s;
    (*v)[n + 1] = NULL;
}

void wh_strv_push(wh_strv *v, const char *s)
{
    wh_strv_push_take(v, wh_xstrdup(s));
}

wh_strv wh_strv_copy(char *const *v)
{
    wh_strv copy = NULL;
    for (size_t i = 0; v != NULL && v[i] != NULL; i++)
        wh_strv_push(&copy, v[i]);
    return copy;
}

bool wh_strv_has(char *const *v, const char *s)
{
    for (size_t i = 0; v != NULL && v[i] != NULL; i++) {
        if (strcmp(v[i], s) == 0)
            return true;
    }
    return false;
}

void wh_strv_free(wh_strv v)
{
    for (size_t i = 0; v != NULL && v[i] != NULL; i++)
        free(v[i]);
    free(v);
}

/* How long the well-formed sequence at p is, 0 when there is none. Unicode 15, table 3-7. */
static size_t utf8_sequence(const unsigned char *p, size_t n)
{
    unsigned char c = p[0];
    unsigned char low = 0x80, high = 0xbf;
    size_t len;
    if (c < 0x80)
        return 1;
    if (c < 0xc2 || c > 0xf4)
        return 0;
    len = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    if (c == 0xe0)
        low = 0xa0;
    else if (c == 0xed)
        high = 0x9f;
    else if (c == 0xf0)
        low = 0x90;
    else if (c == 0xf4)
        high = 0x8f;
    if (n < len || p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    }
    return len;
}

size_t wh_utf8_length(const char *p, size_t n)
{
    return n == 0 ? 0 : utf8_sequence((const unsigned char *)p, n);
}

bool wh_utf8_valid(const char *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t len = wh_utf8_length(p + i, n - i);
        if (len == 0)
            return false;
        i += len;
    }
    return true;
}

void wh_hex(const void *data, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *p = data;
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[p[i] >> 4];
        out[2 * i + 1] = digits[p[i] & 15];
    }
    out[2 * n] = '\0';
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int wh_unhex(const char *s, size_t n, uint8_t *out)
{
    if (n % 2 != 0)
        return -EINVAL;
    for (size_t i = 0; i < n; i++) {
        if (hex_digit(s[i]) < 0)
            return -EINVAL;
    }
    for (size_t i = 0; i < n; i += 2)
        out[i / 2] = (uint8_t)(hex_digit(s[i]) << 4 | hex_digit(s[i + 1]));
    return 0;
}

char *wh_base64(const void *data, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *p = data;
    char *out = wh_xcalloc(n / 3 + 1, 4 + 1);
    char *o = out;
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)p[i] << 16;
        if (i + 1 < n)
            v |= (uint32_t)p[i + 1] << 8;
        if (i + 2 < n)
            v |= p[i + 2];
        *o++ = digits[v >> 18];
        *o++ = digits[v >> 12 & 63];
        *o++ = i + 1 < n ? digits[v >> 6 & 63] : '=';
        *o++ = i + 2 < n ? digits[v & 63] : '=';
    }
    *o = '\0';
    return out;
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int wh_unbase64(const char *s, size_t n, uint8_t **ret, size_t *ret_n)
{
    if (n % 4 != 0)
        return -EINVAL;
    size_t pad = 0;
    if (n > 0 && s[n - 1] == '=')
        pad = s[n - 2] == '=' ? 2 : 1;
    auto_free uint8_t *out = malloc(n / 4 * 3 + 1);
    if (out == NULL)
        return -ENOMEM;
    size_t len = 0;
    uint32_t v = 0;
    for (size_t i = 0; i < n - pad; i++) {
        int d = base64_digit(s[i]);
        if (d < 0)
            return -EINVAL;
        v = v << 6 | (uint32_t)d;
        if (i % 4 != 0)
            out[len++] = (uint8_t)(v >> (6 - 2 * (i % 4)));
    }
    /* The bits that padding leaves over must be zero: one value has one spelling. */
    if ((pad == 1 && (v & 3) != 0) || (pad == 2 && (v & 15) != 0))
        return -EINVAL;
    *ret = WH_TAKE(out);
    *ret_n = len;
    return 0;
}

const char *wh_human_bytes(uint64_t bytes, char out[16])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t unit = 0;
    uint64_t whole = bytes, rest = 0;
    while (whole >= 1024) {
        rest = whole % 1024;
        whole /= 1024;
        unit++;
    }
    unsigned tenth = (unsigned)(rest * 10 / 1024);
    if (unit == 0 || whole >= 100 || tenth == 0)
        (void)snprintf(out, 16, "%u %s", (unsigned)whole, units[unit]);
    else
        (void)snprintf(out, 16, "%u.%u %s", (unsigned)whole, tenth, units[unit]);
    return out;
}
