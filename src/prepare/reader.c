/* SPDX-License-Identifier: Apache-2.0 */
/* WebAssembly 3.0, 5.2 (values): bytes, LEB128, names. */
#include "prepare/reader.h"

bool wh_wasm_read_byte(wh_wasm_reader *r, uint8_t *ret)
{
    if (r->p >= r->end) {
        r->short_of_bytes = true;
        return false;
    }
    *ret = *r->p++;
    return true;
}

bool wh_wasm_read_leb(wh_wasm_reader *r, unsigned bits, uint64_t *ret)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < bits; shift += 7) {
        uint8_t byte;
        if (!wh_wasm_read_byte(r, &byte))
            return false;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            *ret = value;
            return shift + 7 <= bits || byte >> (bits - shift) == 0;
        }
    }
    return false;
}

bool wh_wasm_read_name(wh_wasm_reader *r, wh_str *ret)
{
    uint64_t n;
    if (!wh_wasm_read_leb(r, 32, &n))
        return false;
    if (n > (size_t)(r->end - r->p)) {
        r->short_of_bytes = true;
        return false;
    }
    *ret = (wh_str){(const char *)r->p, (size_t)n};
    r->p += n;
    return wh_utf8_valid(ret->p, ret->n);
}

void *wh_wasm_make_names(const wh_wasm_reader *r, uint64_t n, size_t least, size_t size)
{
    if (n > WH_WASM_NAMES_MAX || n * least > (size_t)(r->end - r->p))
        return NULL;
    return calloc(n + 1, size);
}
