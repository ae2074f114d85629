/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's memory. A pointer out of bounds or not aligned to its type traps, in Wasmtime's words; address
 * 0 is an address like any other. */
#include "abi/wasi/private.h"

#include <stdio.h>

int wasi_trap_text(wasi_ctx *c, const char *text)
{
    c->frame->msg = text;
    return WASI_TRAP;
}

/* "In func .. at write size: " stands in front when a result could not be stored. */
static __attribute__((cold)) int trap_region(wasi_ctx *c, uint32_t align, uint64_t at, uint64_t n)
{
    char where[128] = "", what[48];

    if (at > UINT32_MAX)
        snprintf(what, sizeof(what), "Pointer overflow");
    else if (align > 0)
        snprintf(what, sizeof(what), "Pointer not aligned to %u", align);
    else
        snprintf(what, sizeof(what), "Pointer out of bounds");
    if (c->writing != NULL)
        snprintf(where, sizeof(where),
                 "In func %s::%s at write %s: ", c->call->p0 ? "wasi_unstable" : "wasi_snapshot_preview1",
                 c->call->name, c->writing);
    if (at > UINT32_MAX)
        snprintf(c->w->msg, sizeof(c->w->msg), "%s%s", where, what);
    else
        snprintf(c->w->msg, sizeof(c->w->msg), "%s%s: Region { start: %llu, len: %llu }", where, what,
                 (unsigned long long)at, (unsigned long long)n);
    return wasi_trap_text(c, c->w->msg);
}

int wasi_trap_bounds(wasi_ctx *c, uint64_t at, uint64_t n)
{
    return trap_region(c, 0, at, n);
}

int wasi_check(wasi_ctx *c, uint64_t at, uint64_t n, uint32_t align)
{
    uint64_t end;

    if (__builtin_expect(__builtin_add_overflow(at, n, &end) || end > c->frame->mem_bytes, 0))
        return trap_region(c, 0, at, n);
    if (__builtin_expect((at & (align - 1)) != 0, 0))
        return trap_region(c, align, at, n);
    return 0;
}

#define ACCESSORS(bits)                                                  \
    int wasi_get_u##bits(wasi_ctx *c, uint64_t at, uint##bits##_t *ret)  \
    {                                                                    \
        if (wasi_check(c, at, sizeof(*ret), sizeof(*ret)) < 0)           \
            return WASI_TRAP;                                            \
        memcpy(ret, c->frame->mem + at, sizeof(*ret));                   \
        return 0;                                                        \
    }                                                                    \
    int wasi_put_u##bits(wasi_ctx *c, uint64_t at, uint##bits##_t value) \
    {                                                                    \
        if (wasi_check(c, at, sizeof(value), sizeof(value)) < 0)         \
            return WASI_TRAP;                                            \
        memcpy(c->frame->mem + at, &value, sizeof(value));               \
        return 0;                                                        \
    }
ACCESSORS(8)
ACCESSORS(16)
ACCESSORS(32)
ACCESSORS(64)
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "WebAssembly is little-endian, and so is this file"
#endif

int wasi_put_bytes(wasi_ctx *c, uint64_t at, const void *data, size_t n)
{
    if (n == 0)
        return 0;
    if (wasi_check(c, at, n, 1) < 0)
        return WASI_TRAP;
    memcpy(c->frame->mem + at, data, n);
    return 0;
}

int wasi_ret_u32(wasi_ctx *c, uint32_t at, uint32_t value, const char *type)
{
    c->writing = type;
    return wasi_put_u32(c, at, value);
}

int wasi_ret_u64(wasi_ctx *c, uint32_t at, uint64_t value, const char *type)
{
    c->writing = type;
    return wasi_put_u64(c, at, value);
}

static bool is_ascii(const uint8_t *p, size_t n)
{
    uint8_t all = 0;
    for (size_t i = 0; i < n; i++)
        all |= p[i];
    return all < 0x80;
}

int wasi_get_path(wasi_ctx *c, uint32_t at, uint32_t n, int buffer, char **ret)
{
    char *path = c->w->path[buffer];

    if (n > WASI_HOST_COPY_MAX)
        return WASI_NOMEM;
    if (wasi_check(c, at, n, 1) < 0)
        return WASI_TRAP;
    const uint8_t *from = c->frame->mem + at;
    if (!is_ascii(from, n) && !wh_utf8_valid((const char *)from, n))
        return WASI_ILSEQ;
    if (memchr(from, '\0', n) != NULL)
        return WASI_INVAL;
    if (n == 0)
        return WASI_NOENT;
    if (n >= PATH_MAX)
        return WASI_NAMETOOLONG;
    memcpy(path, from, n);
    path[n] = '\0';
    *ret = path;
    return 0;
}

int wasi_get_iovecs(wasi_ctx *c, uint32_t at, uint32_t n, struct iovec **ret, int *ret_n)
{
    const wh_frame *frame = c->frame;
    struct iovec *iov = c->w->iov;
    int used = 0;

    if (n > WASI_HOST_COPY_MAX / 8)
        return WASI_NOMEM;
    for (uint64_t i = 0; i < n && used < WH_GUEST_IOVECS_MAX; i++) {
        uint64_t entry = at + 8 * i;
        uint32_t part[2];
        if (entry + 8 <= frame->mem_bytes && (entry & 3) == 0)
            memcpy(part, frame->mem + entry, sizeof(part));
        else if (used > 0)
            break; /* bad behind good ends this call early; the next call will be told */
        else if (wasi_get_u32(c, entry, &part[0]) < 0 || wasi_get_u32(c, entry + 4, &part[1]) < 0)
            return WASI_TRAP;
        if (part[1] == 0)
            continue;
        if ((uint64_t)part[0] + part[1] > frame->mem_bytes) {
            if (used > 0)
                break;
            return wasi_trap_bounds(c, part[0], part[1]);
        }
        iov[used++] = (struct iovec){frame->mem + part[0], part[1]};
    }
    *ret = iov;
    *ret_n = used;
    return 0;
}
