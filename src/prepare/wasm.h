/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the outline of a core module: sections, imports, exports. No validation: the engine does that. */
#pragma once

#include "base/buf.h"

typedef struct wh_wasm_name {
    wh_str module, name; /* borrowed from the binary; module is empty for exports */
    char kind;           /* 'f' function, 't' table, 'm' memory, 'g' global, 'e' tag */
} wh_wasm_name;

typedef struct wh_wasm_outline {
    wh_wasm_name *imports, *exports;
    size_t n_imports, n_exports;
    uint64_t memory_min, memory_max; /* pages of the first memory; max UINT64_MAX: none */
    bool has_memory, is_command, is_reactor;
} wh_wasm_outline;

/* -EBADMSG: not a module, or malformed; -ENODATA: it ends too early; -ENOTSUP: a component, or an unknown
 * version; -EFBIG: more imports or exports than anyone needs. */
int wh_wasm_outline_parse(const void *wasm, size_t n, wh_wasm_outline *ret, wh_err *err);
void wh_wasm_outline_done(wh_wasm_outline *outline);

/* What of the imports nobody offers, one per line with what would offer it, into `out`. Returns how many. */
size_t wh_wasm_missing_imports(const wh_wasm_outline *outline, wh_buf *out);

/* A name that a stranger chose, for people: printable, and not endless. */
void wh_wasm_put_clean(wh_buf *out, wh_str text);
