/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of one request: many allocations, freed at once. */
#pragma once

#include "base/str.h"

typedef struct wh_arena_chunk wh_arena_chunk;
typedef struct wh_arena {
    wh_arena_chunk *head;
    size_t used, max; /* bytes handed out; bytes allowed */
} wh_arena;

void wh_arena_init(wh_arena *a, size_t max);
void wh_arena_done(wh_arena *a);
void wh_arena_reset(wh_arena *a); /* frees all but the first chunk */

/* NULL past `max` or without memory. Aligned for any type, zeroed. */
void *wh_arena_try_alloc(wh_arena *a, size_t n);
char *wh_arena_try_strndup(wh_arena *a, const char *s, size_t n);
char *wh_arena_try_printf(wh_arena *a, const char *fmt, ...) WH_PRINTF(2, 3);
