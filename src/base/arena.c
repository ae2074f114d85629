/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>

#define CHUNK_BYTES ((size_t)4096)
#define ALIGN _Alignof(max_align_t)

struct wh_arena_chunk {
    wh_arena_chunk *next; /* older */
    size_t used, size;
    _Alignas(max_align_t) char data[];
};

void wh_arena_init(wh_arena *a, size_t max)
{
    *a = (wh_arena){.max = max};
}

void wh_arena_done(wh_arena *a)
{
    if (a == NULL)
        return;
    while (a->head != NULL) {
        wh_arena_chunk *chunk = a->head;
        a->head = chunk->next;
        free(chunk);
    }
    a->used = 0;
}

void wh_arena_reset(wh_arena *a)
{
    while (a->head != NULL && a->head->next != NULL) {
        wh_arena_chunk *chunk = a->head;
        a->head = chunk->next;
        free(chunk);
    }
    if (a->head != NULL)
        a->head->used = 0;
    a->used = 0;
}

void *wh_arena_try_alloc(wh_arena *a, size_t n)
{
    if (n > SIZE_MAX - ALIGN - sizeof(wh_arena_chunk))
        return NULL;
    size_t size = (WH_MAX(n, (size_t)1) + ALIGN - 1) / ALIGN * ALIGN;
    if (size > a->max - a->used)
        return NULL;
    wh_arena_chunk *chunk = a->head;
    if (chunk == NULL || size > chunk->size - chunk->used) {
        size_t room = WH_MAX(size, CHUNK_BYTES - sizeof(*chunk));
        chunk = malloc(sizeof(*chunk) + room);
        if (chunk == NULL)
            return NULL;
        *chunk = (wh_arena_chunk){.next = a->head, .size = room};
        a->head = chunk;
    }
    void *p = chunk->data + chunk->used;
    chunk->used += size;
    a->used += size;
    return memset(p, 0, size);
}

char *wh_arena_try_strndup(wh_arena *a, const char *s, size_t n)
{
    size_t len = strnlen(s, n);
    char *copy = wh_arena_try_alloc(a, len + 1);
    if (copy != NULL)
        memcpy(copy, s, len);
    return copy;
}

char *wh_arena_try_printf(wh_arena *a, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    char *text = n < 0 ? NULL : wh_arena_try_alloc(a, (size_t)n + 1);
    if (text != NULL)
        (void)vsnprintf(text, (size_t)n + 1, fmt, again);
    va_end(again);
    va_end(args);
    return text;
}
