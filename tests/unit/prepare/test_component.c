/* SPDX-License-Identifier: Apache-2.0 */
/* Outlines of components, written out by the byte. */
#include "base/base.h"
#include "harness.h"
#include "prepare/component.h"
#include "prepare/prepare.h"
#include "prepare/reader.h"

#define PREAMBLE "\0asm\15\0\1\0"

typedef struct bytes {
    uint8_t p[4096];
    size_t n;
} bytes;

static void put(bytes *b, const void *p, size_t n)
{
    CHECK_INT(b->n + n, <=, sizeof(b->p));
    memcpy(b->p + b->n, p, n);
    b->n += n;
}

static void put_byte(bytes *b, uint8_t byte)
{
    put(b, &byte, 1);
}

/* Names of instances; `with_type` for exports. */
static void put_names(bytes *b, uint8_t id, const char *const *names, size_t n)
{
    bytes s = {.n = 0};
    put_byte(&s, (uint8_t)n);
    for (size_t i = 0; i < n; i++) {
        put_byte(&s, 0);
        put_byte(&s, (uint8_t)strlen(names[i]));
        put(&s, names[i], strlen(names[i]));
        put_byte(&s, 5); /* an instance, of type or index 0 */
        put_byte(&s, 0);
        if (id == 11)
            put_byte(&s, 0); /* no type beside it */
    }
    CHECK_INT(s.n, <, 16384);
    put_byte(b, id);
    put_byte(b, (uint8_t)(0x80 | (s.n & 0x7f)));
    put_byte(b, (uint8_t)(s.n >> 7));
    put(b, s.p, s.n);
}

static bytes component(const char *const *imports, size_t n_imports, const char *const *exports,
                       size_t n_exports)
{
    bytes b = {.n = 0};
    put(&b, PREAMBLE, 8);
    if (n_imports > 0)
        put_names(&b, 10, imports, n_imports);
    if (n_exports > 0)
        put_names(&b, 11, exports, n_exports);
    return b;
}

static const char *kind_with(const char *export)
{
    wh_component_outline o;
    wh_err err = {0};
    bytes b = component(NULL, 0, &export, 1);
    CHECK_OK(wh_component_outline_parse(b.p, b.n, &o, &err), &err);
    const char *kind = o.kind;
    wh_component_outline_done(&o);
    return kind;
}

TEST(kinds_by_export)
{
    CHECK_STR(kind_with("wasi:http/incoming-handler@0.2.0"), WH_KIND_HTTP_P2);
    CHECK_STR(kind_with("wasi:http/incoming-handler@0.2.12"), WH_KIND_HTTP_P2);
    CHECK_STR(kind_with("wasi:http/handler@0.3.0"), WH_KIND_HTTP_P3);
    CHECK_STR(kind_with("wasi:cli/run@0.2.6"), WH_KIND_COMPONENT_COMMAND);
    CHECK_STR(kind_with("wasi:cli/run@0.3.1"), WH_KIND_COMPONENT_COMMAND);
    CHECK(kind_with("wasi:http/incoming-handler@0.3.0") == NULL);
    CHECK(kind_with("wasi:http/handler@0.2.0") == NULL);
    CHECK(kind_with("wasi:http/handler@0.3.0-rc-2026-01-06") == NULL);
    CHECK(kind_with("wasi:http/handler@0.4.0") == NULL);
    CHECK(kind_with("wasi:http/handler@0.3.") == NULL);
    CHECK(kind_with("wasi:http/handler") == NULL);
    CHECK(kind_with("run") == NULL);
    CHECK(kind_with("@") == NULL);
}

TEST(what_serves_is_no_command)
{
    static const char *const exports[] = {"wasi:cli/run@0.2.0", "wasi:http/incoming-handler@0.2.3"};
    wh_component_outline o;
    wh_err err = {0};
    bytes b = component(NULL, 0, exports, 2);
    CHECK_OK(wh_component_outline_parse(b.p, b.n, &o, &err), &err);
    CHECK_STR(o.kind, WH_KIND_HTTP_P2);
    CHECK_INT(o.n_exports, ==, 2);
    CHECK_INT(o.exports[1].kind, ==, 'i');
    wh_component_outline_done(&o);
}

TEST(every_missing_import_is_named)
{
    static const char *const imports[] = {"wasi:io/streams@0.2.3",
                                          "wasi:keyvalue/store@0.2.0-draft2",
                                          "wasi:http/outgoing-handler@0.2.9",
                                          "wasi:sockets/tcp@0.2.0",
                                          "wasi:io/streams@0.3.0",
                                          "fermyon:spin/llm@2.0.0",
                                          "wasi:cli/environment@0.2.0-rc",
                                          "my:own/thing"};
    wh_component_outline o;
    wh_err err = {0};
    auto_buf wh_buf names;
    wh_buf_init(&names, 4096);
    bytes b = component(imports, WH_ARRAY_LEN(imports), NULL, 0);
    CHECK_OK(wh_component_outline_parse(b.p, b.n, &o, &err), &err);
    CHECK(o.egress);
    CHECK(o.sockets);
    CHECK(o.kind == NULL);
    CHECK_INT(wh_component_missing_imports(&o, &names), ==, 5);
    CHECK_STR(
        wh_buf_str(&names),
        "wasi:keyvalue/store@0.2.0-draft2 (a draft), wasi:io/streams@0.3.0 (another version or a draft: 0.2.x and "
        "0.3.x of WASI are offered), fermyon:spin/llm@2.0.0 (Spin), wasi:cli/environment@0.2.0-rc (another version "
        "or a draft: 0.2.x and 0.3.x of WASI are offered), my:own/thing");
    wh_component_outline_done(&o);
}

TEST(sections_may_come_in_pieces)
{
    static const char *const one[] = {"wasi:io/error@0.2.0"}, *const two[] = {"wasi:io/poll@0.2.0"};
    wh_component_outline o;
    wh_err err = {0};
    bytes b = component(one, 1, NULL, 0);
    put(&b, "\0\1x", 3); /* a custom section between them */
    put_names(&b, 10, two, 1);
    CHECK_OK(wh_component_outline_parse(b.p, b.n, &o, &err), &err);
    CHECK_INT(o.n_imports, ==, 2);
    CHECK(wh_str_eq(o.imports[1].name, WH_STR("wasi:io/poll@0.2.0")));
    CHECK(!o.egress && !o.sockets);
    wh_component_outline_done(&o);
}

TEST(all_sorts_of_imports)
{
    /* a core module, a function, a value, an equal type, a resource, a component */
    static const uint8_t section[] = {10, 34, 6, 0, 1,   'm', 0, 0x11, 3, 0,   1,   'f',
                                      1,  0,  0, 1, 'v', 2,   1, 0x73, 0, 1,   't', 3,
                                      0,  2,  0, 1, 'r', 3,   1, 0,    1, 'c', 4,   0};
    bytes b = {.n = 0};
    wh_component_outline o;
    wh_err err = {0};
    put(&b, PREAMBLE, 8);
    put(&b, section, sizeof(section));
    CHECK_OK(wh_component_outline_parse(b.p, b.n, &o, &err), &err);
    CHECK_INT(o.n_imports, ==, 6);
    for (size_t i = 0; i < 6; i++)
        CHECK_INT(o.imports[i].kind, ==, "mfvttc"[i]);
    wh_component_outline_done(&o);
}

TEST(every_cut_is_an_error_or_a_shorter_component)
{
    static const char *const imports[] = {"wasi:io/streams@0.2.3"}, *const exports[] = {"wasi:cli/run@0.2.0"};
    bytes b = component(imports, 1, exports, 1);
    size_t first = component(imports, 1, NULL, 0).n;
    for (size_t n = 0; n <= b.n; n++) {
        wh_component_outline o;
        auto_free uint8_t *copy = malloc(n + 1);
        memcpy(copy, b.p, n);
        int rc = wh_component_outline_parse(copy, n, &o, NULL);
        bool whole = n == 8 || n == first || n == b.n;
        CHECK_INT(rc, ==, whole ? 0 : n < 8 ? -EBADMSG : -ENODATA);
        if (rc == 0)
            wh_component_outline_done(&o);
    }
}

/* A component with n imports of functions named "", five bytes each. */
static int parse_imports(uint32_t n)
{
    size_t content = 3 + (size_t)n * 5;
    auto_free uint8_t *wasm = calloc(1, 8 + 5 + content);
    uint8_t *p = wasm;
    memcpy(p, PREAMBLE, 8);
    p += 8;
    *p++ = 10;
    for (int k = 0; k < 4; k++)
        *p++ = (uint8_t)((content >> (7 * k) & 0x7f) | (k < 3 ? 0x80 : 0));
    for (int k = 0; k < 3; k++)
        *p++ = (uint8_t)((n >> (7 * k) & 0x7f) | (k < 2 ? 0x80 : 0));
    for (uint32_t i = 0; i < n; i++, p += 5)
        memcpy(p, "\0\1f\1\0", 5);
    wh_component_outline o;
    int rc = wh_component_outline_parse(wasm, (size_t)(p - wasm), &o, NULL);
    if (rc == 0) {
        CHECK_INT(o.n_imports, ==, n);
        wh_component_outline_done(&o);
    }
    return rc;
}

TEST(a_limit_of_names)
{
    CHECK_INT(parse_imports(WH_WASM_NAMES_MAX), ==, 0);
    CHECK_INT(parse_imports(WH_WASM_NAMES_MAX + 1), ==, -EBADMSG);
}

TEST(what_is_malformed)
{
    static const struct {
        const char *bytes;
        size_t n;
    } bad[] = {
        {"\12\5\377\377\377\377\17", 7}, /* a count without names */
        {"\12\6\1\3\1a\5\0", 8},         /* names are written in two ways */
        {"\12\6\1\0\1a\6\0", 8},         /* there is no such sort */
        {"\12\6\1\0\1\377\5\0", 8},      /* no UTF-8 */
        {"\12\6\1\0\1a\0\1", 8},         /* a core thing that is no module */
        {"\13\7\1\0\1a\5\0\2", 9},       /* an optional is there or not */
        {"\15\0", 2},                    /* no such section */
        {"\12\6\1\0\1a\3\2", 8},         /* no such bound */
        {"\12\4\1\0\1a", 6},             /* cut inside its section */
    };
    for (size_t i = 0; i < WH_ARRAY_LEN(bad); i++) {
        bytes b = {.n = 0};
        wh_component_outline o;
        wh_err err = {0};
        put(&b, PREAMBLE, 8);
        put(&b, bad[i].bytes, bad[i].n);
        CHECK_ERR(wh_component_outline_parse(b.p, b.n, &o, &err), -EBADMSG, &err, "malformed");
    }
}
