/* SPDX-License-Identifier: Apache-2.0 */
/* Included before each source by the cppcheck gate only, which sees no system header: its preprocessor fails
 * at an empty macro argument, LIST_HEAD(, x), and at the pairs of wh_log. */
#pragma once
#include "base/log.h"
#undef wh_log
#define wh_log(...) ((void)0)
#define LIST_HEAD(name, type)  \
    struct {                   \
        struct type *lh_first; \
    }
#define STAILQ_HEAD(name, type)               \
    struct {                                  \
        struct type *stqh_first, **stqh_last; \
    }
#define TAILQ_HEAD(name, type)              \
    struct {                                \
        struct type *tqh_first, **tqh_last; \
    }
