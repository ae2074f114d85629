/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the outline of a component: what it imports and exports at the top, and what it is for. No validation:
 * the engine does that. */
#pragma once

#include "base/buf.h"

typedef struct wh_component_name {
    wh_str name; /* "wasi:http/types@0.2.3"; borrowed from the binary */
    char kind;   /* 'i' instance, 'f' function, 't' type, 'm' core module, 'c' component, 'v' value */
} wh_component_name;

typedef struct wh_component_outline {
    wh_component_name *imports, *exports;
    size_t n_imports, n_exports;
    const char *kind;     /* WH_KIND_* of prepare.h by its exports; NULL: nothing here runs it */
    bool egress, sockets; /* imports outgoing HTTP, or anything of wasi:sockets */
} wh_component_outline;

/* Whether the bytes begin as a component's. */
bool wh_component_is(const void *wasm, size_t n);
/* -EBADMSG: malformed; -ENODATA: it ends too early. */
int wh_component_outline_parse(const void *wasm, size_t n, wh_component_outline *ret, wh_err *err);
void wh_component_outline_done(wh_component_outline *outline);

/* What of the imports nobody offers, into `out`. Returns how many. */
size_t wh_component_missing_imports(const wh_component_outline *outline, wh_buf *out);
