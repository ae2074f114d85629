/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"
#include "prepare/wasm.h"

/* (module (import "env" "memory" (memory 2 9)) (import "wasi_snapshot_preview1" "fd_write" (func))
 *   (func (export "_start"))) with the type and function sections left out: the outline does not need them. */
static const uint8_t module[] = {
    0,   'a', 's', 'm', 1,   0,   0,   0,    2,   0x32, 2,   3,   'e', 'n', 'v', 6,   'm', 'e',
    'm', 'o', 'r', 'y', 2,   1,   2,   9,    22,  'w',  'a', 's', 'i', '_', 's', 'n', 'a', 'p',
    's', 'h', 'o', 't', '_', 'p', 'r', 'e',  'v', 'i',  'e', 'w', '1', 8,   'f', 'd', '_', 'w',
    'r', 'i', 't', 'e', 0,   0,   7,   0x0a, 1,   6,    '_', 's', 't', 'a', 'r', 't', 0,   0,
};

TEST(outline)
{
    wh_wasm_outline o;
    wh_err err = {0};
    CHECK_OK(wh_wasm_outline_parse(module, sizeof(module), &o, &err), &err);
    CHECK_INT(o.n_imports, ==, 2);
    CHECK_INT(o.imports[0].kind, ==, 'm');
    CHECK_INT(o.imports[1].kind, ==, 'f');
    CHECK(wh_str_eq(o.imports[1].name, WH_STR("fd_write")));
    CHECK(o.has_memory);
    CHECK_INT(o.memory_min, ==, 2);
    CHECK_INT(o.memory_max, ==, 9);
    CHECK(o.is_command);
    CHECK(!o.is_reactor);
    auto_buf wh_buf missing;
    wh_buf_init(&missing, 1000);
    CHECK_INT(wh_wasm_missing_imports(&o, &missing), ==, 1);
    CHECK_CONTAINS(wh_buf_str(&missing), "env.memory (memory from outside");
    wh_wasm_outline_done(&o);
}

TEST(every_cut_is_an_error_or_a_shorter_module)
{
    for (size_t n = 0; n < sizeof(module); n++) {
        wh_wasm_outline o;
        wh_err err = {0};
        auto_free uint8_t *copy = malloc(n + 1);
        memcpy(copy, module, n);
        int rc = wh_wasm_outline_parse(copy, n, &o, &err);
        bool whole = n == 8 || n == 8 + 2 + 0x32;
        if (whole) {
            CHECK_OK(rc, &err);
            wh_wasm_outline_done(&o);
        } else {
            CHECK_INT(rc, ==, n < 4 ? -EBADMSG : -ENODATA);
        }
    }
}

TEST(kinds_that_are_not_modules)
{
    wh_wasm_outline o;
    wh_err err = {0};
    CHECK_ERR(wh_wasm_outline_parse("\0asm\15\0\1\0", 8, &o, &err), -ENOTSUP, &err,
              "a component where a core module");
    CHECK_ERR(wh_wasm_outline_parse("\0asm\7\0\0\0", 8, &o, &err), -ENOTSUP, &err, "07 00 00 00");
    CHECK_ERR(wh_wasm_outline_parse("hello", 5, &o, &err), -EBADMSG, &err, "not Wasm");
}

TEST(counts_cannot_lie)
{
    static const uint8_t liar[] = {0, 'a', 's', 'm', 1, 0, 0, 0, 2, 5, 0xff, 0xff, 0xff, 0xff, 0x0f};
    static const uint8_t padded[] = {0, 'a', 's', 'm', 1, 0, 0, 0, 0x20, 0};
    static const uint8_t long_leb[] = {0, 'a', 's', 'm', 1, 0, 0, 0, 2, 0x81, 0x80, 0x80, 0x80, 0x80, 0x00};
    wh_wasm_outline o;
    CHECK_FAIL(wh_wasm_outline_parse(liar, sizeof(liar), &o, NULL), -EBADMSG);
    CHECK_FAIL(wh_wasm_outline_parse(padded, sizeof(padded), &o, NULL), -EBADMSG);
    CHECK_FAIL(wh_wasm_outline_parse(long_leb, sizeof(long_leb), &o, NULL), -EBADMSG);
}
