/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A sentence that closes itself, or that already has a cause behind a colon, needs no strerror. */
static bool wants_strerror(const char *fmt)
{
    size_t len = strlen(fmt);
    if (len == 0)
        return true;
    return fmt[len - 1] != '.' && fmt[len - 1] != ')' && strstr(fmt, ": ") == NULL;
}

/* Of the last failure that nobody wanted to read: wh_wrap has to return it all the same. */
static _Thread_local int unread_code = -EIO;

/* The arguments may point into err->msg, so everything is made aside first. */
void wh_fail_(wh_err *err, int code, const char *fmt, ...)
{
    wh_assert(code < 0);
    if (err == NULL) {
        unread_code = code;
        return;
    }
    int saved = errno;
    char text[sizeof(err->msg)];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (n < 0) {
        text[0] = '\0';
        n = 0;
    }
    if (wants_strerror(fmt) && (size_t)n < sizeof(text)) {
        errno = -code; /* "%m" is the thread-safe strerror */
        (void)snprintf(text + n, sizeof(text) - (size_t)n, n > 0 ? ": %m" : "%m");
    }
    memcpy(err->msg, text, sizeof(text));
    err->code = code;
    errno = saved;
}

int wh_wrap(wh_err *err, const char *fmt, ...)
{
    if (err == NULL)
        return unread_code;
    int saved = errno;
    char text[sizeof(err->msg)];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (n >= 0) {
        size_t len = WH_MIN((size_t)n, sizeof(text) - 1);
        size_t room = sizeof(text) - 1 - len;
        if (room > 2) {
            size_t rest = strnlen(err->msg, room - 2);
            memcpy(text + len, ": ", 2);
            memcpy(text + len + 2, err->msg, rest);
            text[len + 2 + rest] = '\0';
        }
        memcpy(err->msg, text, sizeof(text));
    }
    errno = saved;
    return err->code;
}
