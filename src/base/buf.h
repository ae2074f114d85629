/* SPDX-License-Identifier: Apache-2.0 */
/* A byte buffer that grows up to a maximum it is born with. */
#pragma once

#include "base/str.h"

#include <stdarg.h>

typedef struct wh_buf {
    char *p; /* NUL-terminated behind `len` whenever not NULL */
    size_t len, cap, max;
    bool failed; /* an append did not fit; every later one is refused too */
} wh_buf;

#define auto_buf __attribute__((cleanup(wh_buf_done)))

void wh_buf_init(wh_buf *b, size_t max);
void wh_buf_done(wh_buf *b);
void wh_buf_reset(wh_buf *b); /* empties, keeps the memory */

/* All return 0, -ENOBUFS past `max`, or -ENOMEM; after a failure the content is what it was, and `failed` is set,
 * so that a writer may append many times and check once. */
int wh_buf_append(wh_buf *b, const void *data, size_t n);
int wh_buf_puts(wh_buf *b, const char *s);
int wh_buf_putc(wh_buf *b, char c);
int wh_buf_printf(wh_buf *b, const char *fmt, ...) WH_PRINTF(2, 3);
int wh_buf_vprintf(wh_buf *b, const char *fmt, va_list args) WH_PRINTF(2, 0);
int wh_buf_reserve(wh_buf *b, size_t n);  /* room for n more bytes at p + len */
void wh_buf_consume(wh_buf *b, size_t n); /* drops n bytes from the front */
/* Gives the string away (never NULL on success); the buffer is empty afterwards. NULL when it had failed. */
char *wh_buf_take(wh_buf *b);
/* The content, or "" when nothing was written. */
const char *wh_buf_str(const wh_buf *b);
