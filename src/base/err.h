/* SPDX-License-Identifier: Apache-2.0 */
/* An error is a negative errno, and a sentence for the person who can act on it. */
#pragma once

#include "base/base.h"

/* Lives on the caller's stack, owns nothing. Start it as `wh_err err = {0}`. A NULL wh_err pointer is allowed
 * everywhere: then only the code comes back. */
typedef struct wh_err {
    int code; /* 0, or the negative errno that was returned */
    char msg[252];
} wh_err;

/* Sets the sentence and is the code, so that `return wh_fail(err, -ENOENT, "open '%s'", path);` works. Appends
 * ": strerror(code)" unless the format ends in '.' or ')' or already contains ": ". */
#define wh_fail(err, code_, ...)                  \
    ({                                            \
        int fail_code_ = (code_);                 \
        wh_fail_((err), fail_code_, __VA_ARGS__); \
        if (fail_code_ >= 0)                      \
            __builtin_unreachable();              \
        fail_code_;                               \
    })
void wh_fail_(wh_err *err, int code, const char *fmt, ...) WH_PRINTF(3, 4);

/* Puts context in front of the sentence ("context: sentence") and is err->code; call it on the way up. Without an
 * err it is the code of this thread's last failure without one. */
int wh_wrap(wh_err *err, const char *fmt, ...) WH_PRINTF(2, 3);
