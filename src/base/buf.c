/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <stdio.h>

#define FIRST_CAP ((size_t)64)

void wh_buf_init(wh_buf *b, size_t max)
{
    *b = (wh_buf){.max = max};
}

void wh_buf_done(wh_buf *b)
{
    if (b == NULL)
        return;
    free(b->p);
    *b = (wh_buf){.max = b->max};
}

void wh_buf_reset(wh_buf *b)
{
    b->len = 0;
    b->failed = false;
    if (b->p != NULL)
        b->p[0] = '\0';
}

static int buf_fail(wh_buf *b, int code)
{
    b->failed = true;
    return code;
}

int wh_buf_reserve(wh_buf *b, size_t n)
{
    size_t need;
    if (b->failed)
        return -ENOBUFS;
    if (__builtin_add_overflow(b->len, n, &need) || need > b->max || need == SIZE_MAX)
        return buf_fail(b, -ENOBUFS);
    if (need < b->cap)
        return 0;
    size_t cap = WH_MAX(b->cap, FIRST_CAP);
    while (cap <= need && cap <= SIZE_MAX / 2)
        cap *= 2;
    if (cap <= need || (b->max < SIZE_MAX && cap > b->max + 1))
        cap = b->max + 1; /* need <= max, so it fits */
    char *grown = realloc(b->p, cap);
    if (grown == NULL)
        return buf_fail(b, -ENOMEM);
    b->p = grown;
    b->cap = cap;
    b->p[b->len] = '\0';
    return 0;
}

int wh_buf_append(wh_buf *b, const void *data, size_t n)
{
    int rc = wh_buf_reserve(b, n);
    if (rc < 0)
        return rc;
    if (n > 0)
        memcpy(b->p + b->len, data, n);
    b->len += n;
    b->p[b->len] = '\0';
    return 0;
}

int wh_buf_puts(wh_buf *b, const char *s)
{
    return wh_buf_append(b, s, strlen(s));
}

int wh_buf_putc(wh_buf *b, char c)
{
    return wh_buf_append(b, &c, 1);
}

int wh_buf_printf(wh_buf *b, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int rc = wh_buf_vprintf(b, fmt, args);
    va_end(args);
    return rc;
}

int wh_buf_vprintf(wh_buf *b, const char *fmt, va_list args)
{
    if (b->failed)
        return -ENOBUFS;
    va_list again;
    va_copy(again, args);
    size_t room = b->cap - b->len;
    int n = vsnprintf(room > 0 ? b->p + b->len : NULL, room, fmt, args);
    int rc = n < 0 ? buf_fail(b, -EINVAL) : 0;
    if (rc == 0 && ((size_t)n >= room || (size_t)n > b->max - b->len)) {
        if (room > 0)
            b->p[b->len] = '\0'; /* what the first try left behind */
        rc = wh_buf_reserve(b, (size_t)n);
        if (rc == 0)
            (void)vsnprintf(b->p + b->len, b->cap - b->len, fmt, again);
    }
    va_end(again);
    if (rc == 0)
        b->len += (size_t)n;
    return rc;
}

void wh_buf_consume(wh_buf *b, size_t n)
{
    wh_assert(n <= b->len);
    if (n == 0)
        return;
    b->len -= n;
    memmove(b->p, b->p + n, b->len);
    b->p[b->len] = '\0';
}

char *wh_buf_take(wh_buf *b)
{
    char *p = NULL;
    if (!b->failed)
        p = b->p != NULL ? WH_TAKE(b->p) : wh_xstrdup("");
    wh_buf_done(b);
    return p;
}

const char *wh_buf_str(const wh_buf *b)
{
    return b->p == NULL ? "" : b->p;
}
