/* SPDX-License-Identifier: Apache-2.0 */
/* The import table, and the way of a call: check what enums and flags came in, run, trace. */
#include "abi/wasi/private.h"

#include <stdio.h>

#define MODULE_P1 "wasi_snapshot_preview1"
#define MODULE_P0 "wasi_unstable"

typedef struct enumeration { /* of the specification: how many values, or which bits */
    char shape;
    bool flags;
    uint64_t max; /* greatest value, or all flags */
    uint64_t repr_max;
    const char *name;
} enumeration;

static const enumeration enumerations[] = {
    {'A', false, 5, UINT8_MAX, "Advice"},      {'C', false, 3, UINT32_MAX, "Clockid"},
    {'W', false, 2, UINT8_MAX, "Whence"},      {'G', false, 30, UINT8_MAX, "Signal"},
    {'O', true, 15, UINT16_MAX, "Oflags"},     {'F', true, 31, UINT16_MAX, "Fdflags"},
    {'L', true, 1, UINT32_MAX, "Lookupflags"}, {'T', true, 15, UINT16_MAX, "Fstflags"},
    {'I', true, 3, UINT16_MAX, "Riflags"},     {'S', true, UINT16_MAX, UINT16_MAX, "u16"},
    {'H', true, 3, UINT8_MAX, "Sdflags"},      {'R', true, WASI_RIGHTS_ALL, UINT64_MAX, "Rights"},
};

static __attribute__((cold)) int trap_argument(wasi_ctx *c, const enumeration *e, int64_t value)
{
    bool over = value > 0 && (uint64_t)value > e->repr_max;
    char why[64];

    if (value < 0 || over)
        snprintf(why, sizeof(why), "Int conversion error: TryFromIntError(%s)",
                 over ? "PosOverflow" : "NegOverflow");
    else
        snprintf(why, sizeof(why), "Invalid %s value %s", e->flags ? "flag" : "enum", e->name);
    snprintf(c->w->msg, sizeof(c->w->msg), "In func %s::%s at convert %s: %s",
             c->call->p0 ? MODULE_P0 : MODULE_P1, c->call->name, e->name, why);
    return wasi_trap_text(c, c->w->msg);
}

static int check_argument(wasi_ctx *c, char shape, const wh_slot *slot)
{
    for (size_t i = 0; i < WH_ARRAY_LEN(enumerations); i++) {
        const enumeration *e = &enumerations[i];
        if (e->shape != shape)
            continue;
        int64_t value = shape == 'R' ? slot->i64 : slot->i32;
        if (value < 0 || (e->flags ? ((uint64_t)value & ~e->max) != 0 : (uint64_t)value > e->max))
            return trap_argument(c, e, value);
    }
    return 0;
}

int wasi_run(wasi_ctx *c, const wh_slot *io)
{
    const wasi_call *call = c->call;

    /* Small letters pass unchecked: most calls have nothing else. */
    for (size_t i = 0; call->shape[i] != '\0'; i++)
        if (call->shape[i] < 'a' && check_argument(c, call->shape[i], &io[i]) < 0)
            return WASI_TRAP;
    return call->fn(c, io);
}

static wh_host_result dispatch(wh_frame *frame, wh_slot *io, void *env)
{
    wasi_ctx c = {.w = *(wh_wasi **)frame->user, .frame = frame, .call = env};

    if (c.w->config.trace_fd >= 0)
        return wasi_traced(&c, io);
    int rc = frame->mem == NULL ? wasi_trap_text(&c, "missing required memory export") : wasi_run(&c, io);
    if (__builtin_expect(rc < 0, 0))
        return rc == WASI_EXIT ? WH_HOST_EXIT : WH_HOST_TRAP;
    io[0].i32 = rc;
    return WH_HOST_OK;
}

#define INDEX(name, sig, shape, result) CALL_##name,
enum { WASI_CALLS(INDEX) CALL_END };
#undef INDEX

/* Not const only because an import's `env` is not. */
static wasi_call calls[2][CALL_END] = {
#define CALL(name, sig, shape, result) {#name, shape, result, false, wasi_##name},
    {WASI_CALLS(CALL)},
#undef CALL
#define CALL(name, sig, shape, result) {#name, shape, result, true, wasi_##name},
    {WASI_CALLS(CALL)},
#undef CALL
};

static const wh_import imports[] = {
#define IMPORT(name, sig, shape, result) {MODULE_P1, #name, sig, dispatch, &calls[0][CALL_##name]},
    WASI_CALLS(IMPORT)
#undef IMPORT
#define IMPORT(name, sig, shape, result) {MODULE_P0, #name, sig, dispatch, &calls[1][CALL_##name]},
        WASI_CALLS(IMPORT)
#undef IMPORT
};

const wh_import *wh_wasi_imports(size_t *ret_n)
{
    *ret_n = WH_ARRAY_LEN(imports);
    return imports;
}
