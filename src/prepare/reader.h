/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the pieces that both Wasm binary formats are made of. Every function is false at what is no such piece,
 * or at the end, which `short_of_bytes` tells apart. */
#pragma once

#include "base/str.h"

typedef struct wh_wasm_reader {
    const uint8_t *p, *end;
    bool short_of_bytes;
} wh_wasm_reader;

bool wh_wasm_read_byte(wh_wasm_reader *r, uint8_t *ret);
/* LEB128, unsigned, of at most `bits` bits. */
bool wh_wasm_read_leb(wh_wasm_reader *r, unsigned bits, uint64_t *ret);
/* A length and so many bytes of UTF-8; borrowed. */
bool wh_wasm_read_name(wh_wasm_reader *r, wh_str *ret);

#define WH_WASM_NAMES_MAX 100000 /* imports, and exports, of a binary; the engines' own limit */
/* Room for `n` names, of which each takes at least `least` bytes of what is left: so the count cannot lie by much. The
 * array of the caller's type has `size` bytes an item; NULL when there is no such room. */
void *wh_wasm_make_names(const wh_wasm_reader *r, uint64_t n, size_t least, size_t size);
