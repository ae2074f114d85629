/* SPDX-License-Identifier: Apache-2.0 */
/* What every file needs: scope-owned cleanup, moves, assertions that stay on, allocation that cannot fail. */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define WH_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define WH_MIN(a, b)                       \
    ({                                     \
        __typeof__(a) min_a_ = (a);        \
        __typeof__(b) min_b_ = (b);        \
        min_a_ < min_b_ ? min_a_ : min_b_; \
    })
#define WH_MAX(a, b)                       \
    ({                                     \
        __typeof__(a) max_a_ = (a);        \
        __typeof__(b) max_b_ = (b);        \
        max_a_ > max_b_ ? max_a_ : max_b_; \
    })
#define WH_CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr) - (offsetof(type, member))))

#define WH_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#define WH_UNUSED __attribute__((unused))
#define WH_MUST_CHECK __attribute__((warn_unused_result))

/* Moves a pointer out of its owner, which becomes NULL. */
#define WH_TAKE(p)                     \
    ({                                 \
        __typeof__(p) *take_ = &(p);   \
        __typeof__(p) taken_ = *take_; \
        *take_ = NULL;                 \
        taken_;                        \
    })
/* Moves a descriptor out of its owner, which becomes -1. */
#define WH_TAKE_FD(fd)       \
    ({                       \
        int *take_ = &(fd);  \
        int taken_ = *take_; \
        *take_ = -1;         \
        taken_;              \
    })

/* Assertions are for our own mistakes only, one condition each, and stay on in releases. */
#define wh_assert(cond)                                    \
    do {                                                   \
        if (__builtin_expect(!(cond), 0))                  \
            wh_panic(__FILE__, __LINE__, __func__, #cond); \
    } while (0)

/* Says what broke on standard error and aborts. */
__attribute__((noreturn, cold)) void wh_panic(const char *file, int line, const char *func, const char *what);

/* Small, fixed-size allocations: zeroed, and never NULL (the process ends instead). A size that input
 * controls goes through malloc and a checked error. */
void *wh_xcalloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull));
#define wh_xnew(type) ((type *)wh_xcalloc(1, sizeof(type)))
char *wh_xstrdup(const char *s) __attribute__((malloc, returns_nonnull, nonnull));
char *wh_xstrndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull));
char *wh_xasprintf(const char *fmt, ...) WH_PRINTF(1, 2) __attribute__((malloc, returns_nonnull));

static inline void wh_cleanup_free(void *p)
{
    free(*(void **)p);
}

static inline void wh_cleanup_close(const int *fd)
{
    if (*fd >= 0) {
        int saved = errno;
        close(*fd);
        errno = saved;
    }
}

#define auto_free __attribute__((cleanup(wh_cleanup_free)))
#define auto_close __attribute__((cleanup(wh_cleanup_close)))

/* Defines `static void name(type *p)` that frees *p: for `auto_x` macros beside each type. */
#define WH_DEFINE_CLEANUP(name, type, func)    \
    static inline WH_UNUSED void name(type *p) \
    {                                          \
        if (*p != NULL)                        \
            func(*p);                          \
    }                                          \
    struct wh_swallow_semicolon_
