/* SPDX-License-Identifier: Apache-2.0 */
/* The binary format of components (WebAssembly/component-model, Binary.md), as far as imports and exports need it. */
#include "prepare/component.h"
#include "prepare/prepare.h"
#include "prepare/reader.h"
#include "prepare/wasm.h"

enum { SECTION_IMPORT = 10, SECTION_EXPORT = 11, SECTION_LAST = 12 };
enum { SORT_CORE = 0, SORT_FUNC = 1, SORT_VALUE = 2, SORT_TYPE = 3, SORT_COMPONENT = 4, SORT_INSTANCE = 5 };

static const char sort_letters[] = "mfvtci";

bool wh_component_is(const void *wasm, size_t n)
{
    return n >= 8 && memcmp(wasm, "\0asm\15\0\1\0", 8) == 0;
}

/* A byte that says how the name is written, then the name. */
static bool read_extern_name(wh_wasm_reader *r, wh_str *ret)
{
    uint8_t how;
    return wh_wasm_read_byte(r, &how) && how <= 1 && wh_wasm_read_name(r, ret);
}

/* What a name stands for: the sort, and an index or a bound. */
static bool read_extern_desc(wh_wasm_reader *r, char *ret)
{
    uint8_t sort, byte;
    uint64_t index;
    if (!wh_wasm_read_byte(r, &sort) || sort > SORT_INSTANCE)
        return false;
    *ret = sort_letters[sort];
    switch (sort) {
    case SORT_CORE:
        return wh_wasm_read_byte(r, &byte) && byte == 0x11 && wh_wasm_read_leb(r, 32, &index);
    case SORT_VALUE: /* equal to a value, or of a type */
        return wh_wasm_read_byte(r, &byte) && byte <= 1 && wh_wasm_read_leb(r, 33, &index);
    case SORT_TYPE: /* equal to a type, or a new resource */
        return wh_wasm_read_byte(r, &byte) && byte <= 1 && (byte == 1 || wh_wasm_read_leb(r, 32, &index));
    default:
        return wh_wasm_read_leb(r, 32, &index);
    }
}

/* A component may have several sections of each kind. */
static bool grow(const wh_wasm_reader *r, uint64_t more, size_t least, wh_component_name **list, size_t n)
{
    if (n + more > WH_WASM_NAMES_MAX)
        return false;
    if (*list == NULL) {
        *list = wh_wasm_make_names(r, more, least, sizeof(**list));
        return *list != NULL;
    }
    if (more * least > (size_t)(r->end - r->p))
        return false;
    wh_component_name *bigger = reallocarray(*list, n + more + 1, sizeof(**list));
    if (bigger == NULL)
        return false;
    *list = bigger;
    return true;
}

static bool read_imports(wh_wasm_reader *r, wh_component_outline *o)
{
    uint64_t n;
    if (!wh_wasm_read_leb(r, 32, &n) || !grow(r, n, 4, &o->imports, o->n_imports))
        return false;
    for (; n > 0; n--) {
        wh_component_name item = {0};
        if (!read_extern_name(r, &item.name) || !read_extern_desc(r, &item.kind))
            return false;
        o->imports[o->n_imports++] = item;
    }
    return true;
}

static bool read_export(wh_wasm_reader *r, wh_component_name *ret)
{
    uint8_t sort, byte;
    uint64_t index;
    char kind;
    if (!read_extern_name(r, &ret->name) || !wh_wasm_read_byte(r, &sort) || sort > SORT_INSTANCE)
        return false;
    ret->kind = sort_letters[sort];
    if (sort == SORT_CORE && !wh_wasm_read_byte(r, &byte))
        return false;
    if (!wh_wasm_read_leb(r, 32, &index) || !wh_wasm_read_byte(r, &byte) || byte > 1)
        return false;
    return byte == 0 || read_extern_desc(r, &kind); /* a type that it is exported as */
}

static bool read_exports(wh_wasm_reader *r, wh_component_outline *o)
{
    uint64_t n;
    if (!wh_wasm_read_leb(r, 32, &n) || !grow(r, n, 5, &o->exports, o->n_exports))
        return false;
    for (; n > 0; n--) {
        wh_component_name item = {0};
        if (!read_export(r, &item))
            return false;
        o->exports[o->n_exports++] = item;
    }
    return true;
}

static int read_sections(wh_wasm_reader *r, const uint8_t *start, wh_component_outline *o, wh_err *err)
{
    while (r->p < r->end) {
        uint8_t id;
        uint64_t size;
        size_t at = (size_t)(r->p - start);
        if (!wh_wasm_read_byte(r, &id) || !wh_wasm_read_leb(r, 32, &size))
            return wh_fail(err, r->short_of_bytes ? -ENODATA : -EBADMSG,
                           "the component's section at byte %zu has no whole head.", at);
        size_t left = (size_t)(r->end - r->p);
        if (size > left)
            return wh_fail(
                err, -ENODATA,
                "truncated: section %u of the component, at byte %zu, wants %llu bytes, %zu are left.", id,
                at, (unsigned long long)size, left);
        wh_wasm_reader section = {.p = r->p, .end = r->p + size};
        bool good = id == SECTION_IMPORT   ? read_imports(&section, o)
                    : id == SECTION_EXPORT ? read_exports(&section, o)
                                           : id <= SECTION_LAST;
        if (!good)
            return wh_fail(err, -EBADMSG,
                           "malformed: section %u of the component, at byte %zu, cannot be read.", id, at);
        r->p += size;
    }
    return 0;
}

/* ---- interfaces ---- */

enum { V2 = 1, V3 = 2 };

/* What a component may import, and in which versions. engine/shim/src/component/ links them. */
static const struct {
    const char *name;
    int versions;
} offered[] = {
    {"wasi:cli/environment", V2 | V3},
    {"wasi:cli/exit", V2 | V3},
    {"wasi:cli/stderr", V2 | V3},
    {"wasi:cli/stdin", V2 | V3},
    {"wasi:cli/stdout", V2 | V3},
    {"wasi:cli/terminal-input", V2 | V3},
    {"wasi:cli/terminal-output", V2 | V3},
    {"wasi:cli/terminal-stderr", V2 | V3},
    {"wasi:cli/terminal-stdin", V2 | V3},
    {"wasi:cli/terminal-stdout", V2 | V3},
    {"wasi:cli/types", V3},
    {"wasi:clocks/monotonic-clock", V2 | V3},
    {"wasi:clocks/system-clock", V3},
    {"wasi:clocks/types", V3},
    {"wasi:clocks/wall-clock", V2},
    {"wasi:filesystem/preopens", V2 | V3},
    {"wasi:filesystem/types", V2 | V3},
    {"wasi:http/client", V3},
    {"wasi:http/outgoing-handler", V2},
    {"wasi:http/types", V2 | V3},
    {"wasi:io/error", V2},
    {"wasi:io/poll", V2},
    {"wasi:io/streams", V2},
    {"wasi:random/insecure", V2 | V3},
    {"wasi:random/insecure-seed", V2 | V3},
    {"wasi:random/random", V2 | V3},
    {"wasi:sockets/instance-network", V2},
    {"wasi:sockets/ip-name-lookup", V2 | V3},
    {"wasi:sockets/network", V2},
    {"wasi:sockets/tcp", V2},
    {"wasi:sockets/tcp-create-socket", V2},
    {"wasi:sockets/types", V3},
    {"wasi:sockets/udp", V2},
    {"wasi:sockets/udp-create-socket", V2},
};

static bool digits(wh_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    }
    return s.n > 0;
}

/* Cuts "package/interface@0.2.x" into name and version; releases only, since drafts differ in what they mean. */
static bool split_version(wh_str full, wh_str *ret_name, int *ret_version)
{
    const char *at = memchr(full.p, '@', full.n);
    if (at == NULL)
        return false;
    wh_str version = {at + 1, full.n - (size_t)(at + 1 - full.p)};
    if (version.n < 5 || memcmp(version.p, "0.", 2) != 0 || version.p[3] != '.' ||
        !digits((wh_str){version.p + 4, version.n - 4}))
        return false;
    *ret_version = version.p[2] == '2' ? V2 : version.p[2] == '3' ? V3 : 0;
    *ret_name = (wh_str){full.p, (size_t)(at - full.p)};
    return *ret_version != 0;
}

static bool is_named(const wh_component_name *item, const char *name, int versions)
{
    wh_str bare;
    int version;
    return item->kind == 'i' && split_version(item->name, &bare, &version) && (version & versions) != 0 &&
           wh_str_eq(bare, wh_str_of(name));
}

static bool is_offered(const wh_component_name *import)
{
    for (size_t i = 0; i < WH_ARRAY_LEN(offered); i++) {
        if (is_named(import, offered[i].name, offered[i].versions))
            return true;
    }
    return false;
}

static bool begins(wh_str s, const char *prefix)
{
    size_t n = strlen(prefix);
    return s.n >= n && memcmp(s.p, prefix, n) == 0;
}

/* The first that fits decides: what answers requests is no command, even when it exports `run` beside that. */
static const char *kind_of(const wh_component_outline *o)
{
    static const struct {
        const char *name, *kind;
        int versions;
    } known[] = {
        {"wasi:http/handler", WH_KIND_HTTP_P3, V3},
        {"wasi:http/incoming-handler", WH_KIND_HTTP_P2, V2},
        {"wasi:cli/run", WH_KIND_COMPONENT_COMMAND, V2 | V3},
    };
    for (size_t k = 0; k < WH_ARRAY_LEN(known); k++) {
        for (size_t i = 0; i < o->n_exports; i++) {
            if (is_named(&o->exports[i], known[k].name, known[k].versions))
                return known[k].kind;
        }
    }
    return NULL;
}

int wh_component_outline_parse(const void *wasm, size_t n, wh_component_outline *ret, wh_err *err)
{
    wh_component_outline outline = {0};
    const uint8_t *p = wasm;
    if (!wh_component_is(wasm, n))
        return wh_fail(err, -EBADMSG, "not a component.");
    wh_wasm_reader r = {.p = p + 8, .end = p + n};
    int rc = read_sections(&r, p, &outline, err);
    if (rc < 0) {
        wh_component_outline_done(&outline);
        return rc;
    }
    outline.kind = kind_of(&outline);
    for (size_t i = 0; i < outline.n_imports; i++) {
        const wh_component_name *import = &outline.imports[i];
        outline.egress |=
            is_named(import, "wasi:http/outgoing-handler", V2) || is_named(import, "wasi:http/client", V3);
        outline.sockets |= begins(import->name, "wasi:sockets/");
    }
    *ret = outline;
    return 0;
}

void wh_component_outline_done(wh_component_outline *outline)
{
    free(outline->imports);
    free(outline->exports);
    *outline = (wh_component_outline){0};
}

/* Who would offer an import that we do not, for people. */
static const char *whose(wh_str import)
{
    static const struct {
        const char *prefix, *hint;
    } known[] = {
        {"wasi:keyvalue/", "a draft"},
        {"wasi:messaging/", "a draft"},
        {"wasi:config/", "a draft"},
        {"wasi:blobstore/", "a draft"},
        {"wasi:nn/", "WASI-NN"},
        {"wasi:http/handler", "a middleware: compose it with the service behind it"},
        {"wasi:", "another version or a draft: 0.2.x and 0.3.x of WASI are offered"},
        {"fermyon:", "Spin"},
        {"spin:", "Spin"},
        {"wasmcloud:", "wasmCloud"},
        {"fastly:", "Fastly"},
    };
    for (size_t i = 0; i < WH_ARRAY_LEN(known); i++) {
        if (begins(import, known[i].prefix))
            return known[i].hint;
    }
    return NULL;
}

size_t wh_component_missing_imports(const wh_component_outline *outline, wh_buf *out)
{
    size_t missing = 0;
    for (size_t i = 0; i < outline->n_imports; i++) {
        const wh_component_name *import = &outline->imports[i];
        if (is_offered(import))
            continue;
        missing++;
        (void)wh_buf_puts(out, out->len > 0 ? ", " : "");
        wh_wasm_put_clean(out, import->name);
        const char *hint = whose(import->name);
        if (hint != NULL)
            (void)wh_buf_printf(out, " (%s)", hint);
    }
    return missing;
}
