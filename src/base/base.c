/* SPDX-License-Identifier: Apache-2.0 */
#include "base/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void wh_panic(const char *file, int line, const char *func, const char *what)
{
    char text[512];
    int n = snprintf(text, sizeof(text), "%s:%d: %s: assertion '%s' failed\n", file, line, func, what);
    if (n > 0) {
        size_t len = WH_MIN((size_t)n, sizeof(text) - 1);
        ssize_t written = write(STDERR_FILENO, text, len);
        (void)written; /* there is nobody left to tell */
    }
    abort();
}

static __attribute__((noreturn, cold)) void out_of_memory(const char *func)
{
    wh_panic(__FILE__, __LINE__, func, "memory is available");
}

void *wh_xcalloc(size_t count, size_t size)
{
    void *p = calloc(WH_MAX(count, (size_t)1), WH_MAX(size, (size_t)1));
    if (p == NULL)
        out_of_memory(__func__);
    return p;
}

char *wh_xstrdup(const char *s)
{
    return wh_xstrndup(s, strlen(s));
}

char *wh_xstrndup(const char *s, size_t n)
{
    size_t len = s == NULL ? 0 : strnlen(s, n);
    char *copy = malloc(len + 1);
    if (copy == NULL)
        out_of_memory(__func__);
    if (len > 0)
        memcpy(copy, s, len);
    copy[len] = '\0';
    return copy;
}

char *wh_xasprintf(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    char *text = NULL;
    int n = vasprintf(&text, fmt, args);
    va_end(args);
    if (n < 0 || text == NULL)
        out_of_memory(__func__);
    return text;
}
