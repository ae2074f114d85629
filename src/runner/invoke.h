/* SPDX-License-Identifier: Apache-2.0 */
/* Calls one exported function with arguments from text, and prints its results as `wasmtime run --invoke`
 * does. */
#pragma once

#include "base/buf.h"
#include "engine/engine.h"

#define WH_INVOKE_SLOTS_MAX 64

typedef struct wh_call {
    char sig[2 * WH_INVOKE_SLOTS_MAX + 3];
    size_t n_params, n_results;
    wh_slot io[WH_INVOKE_SLOTS_MAX];
} wh_call;

/* Splits "(iiI)i"; -E2BIG past WH_INVOKE_SLOTS_MAX, -ENOTSUP for reference types. */
int wh_call_init(wh_call *call, const char *sig, wh_err *err);
/* Numbers as C writes them: decimal, 0x, floats with inf and nan; exactly as many as the function takes. */
int wh_call_args(wh_call *call, char *const *args, wh_err *err);
/* One result a line. */
int wh_call_print(const wh_call *call, wh_buf *out);
