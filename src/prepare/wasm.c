/* SPDX-License-Identifier: Apache-2.0 */
/* The binary format of WebAssembly 3.0, chapter 5, as far as imports and exports need it. */
#include "prepare/wasm.h"
#include "prepare/reader.h"

typedef wh_wasm_reader reader;

enum { SECTION_IMPORT = 2, SECTION_MEMORY = 5, SECTION_EXPORT = 7, SECTION_LAST = 13 };

/* A value type: one byte, or a reference with a heap type behind it. */
static bool skip_type(reader *r)
{
    uint8_t byte;
    uint64_t heap;
    if (!wh_wasm_read_byte(r, &byte))
        return false;
    return (byte != 0x63 && byte != 0x64) || wh_wasm_read_leb(r, 35, &heap);
}

static bool read_limits(reader *r, uint64_t *ret_min, uint64_t *ret_max)
{
    uint8_t flags;
    uint64_t page;
    if (!wh_wasm_read_byte(r, &flags) || flags > 0x0f)
        return false;
    unsigned bits = (flags & 4) != 0 ? 64 : 32;
    *ret_max = UINT64_MAX;
    if (!wh_wasm_read_leb(r, bits, ret_min) || ((flags & 1) != 0 && !wh_wasm_read_leb(r, bits, ret_max)))
        return false;
    return (flags & 8) == 0 || wh_wasm_read_leb(r, 32, &page);
}

static void keep_memory(wh_wasm_outline *o, uint64_t min, uint64_t max)
{
    if (o->has_memory)
        return;
    o->has_memory = true;
    o->memory_min = min;
    o->memory_max = max;
}

static bool read_import_kind(reader *r, wh_wasm_outline *o, char *ret)
{
    static const char letters[] = "ftmge";
    uint8_t kind, byte;
    uint64_t number, min, max;
    if (!wh_wasm_read_byte(r, &kind) || kind > 4)
        return false;
    *ret = letters[kind];
    switch (kind) {
    case 0:
        return wh_wasm_read_leb(r, 32, &number);
    case 1:
        return skip_type(r) && read_limits(r, &min, &max);
    case 2:
        if (!read_limits(r, &min, &max))
            return false;
        keep_memory(o, min, max);
        return true;
    case 3:
        return skip_type(r) && wh_wasm_read_byte(r, &byte);
    default:
        return wh_wasm_read_byte(r, &byte) && wh_wasm_read_leb(r, 32, &number);
    }
}

static bool read_imports(reader *r, wh_wasm_outline *o)
{
    uint64_t n;
    if (o->imports != NULL || !wh_wasm_read_leb(r, 32, &n))
        return false;
    o->imports = wh_wasm_make_names(r, n, 4, sizeof(*o->imports));
    if (o->imports == NULL)
        return false;
    for (; o->n_imports < n; o->n_imports++) {
        wh_wasm_name *item = &o->imports[o->n_imports];
        if (!wh_wasm_read_name(r, &item->module) || !wh_wasm_read_name(r, &item->name) ||
            !read_import_kind(r, o, &item->kind))
            return false;
    }
    return true;
}

static bool read_exports(reader *r, wh_wasm_outline *o)
{
    uint64_t n, index;
    uint8_t kind;
    if (o->exports != NULL || !wh_wasm_read_leb(r, 32, &n))
        return false;
    o->exports = wh_wasm_make_names(r, n, 3, sizeof(*o->exports));
    if (o->exports == NULL)
        return false;
    for (; o->n_exports < n; o->n_exports++) {
        wh_wasm_name *item = &o->exports[o->n_exports];
        if (!wh_wasm_read_name(r, &item->name) || !wh_wasm_read_byte(r, &kind) || kind > 4 ||
            !wh_wasm_read_leb(r, 32, &index))
            return false;
        item->kind = "ftmge"[kind];
        o->is_command |= kind == 0 && wh_str_eq(item->name, WH_STR("_start"));
        o->is_reactor |= kind == 0 && wh_str_eq(item->name, WH_STR("_initialize"));
    }
    return true;
}

static bool read_memories(reader *r, wh_wasm_outline *o)
{
    uint64_t n, min, max;
    if (!wh_wasm_read_leb(r, 32, &n))
        return false;
    if (n == 0)
        return true;
    if (!read_limits(r, &min, &max))
        return false;
    keep_memory(o, min, max);
    return true;
}

static bool read_section(uint8_t id, reader section, wh_wasm_outline *o)
{
    switch (id) {
    case SECTION_IMPORT:
        return read_imports(&section, o);
    case SECTION_EXPORT:
        return read_exports(&section, o);
    case SECTION_MEMORY:
        return read_memories(&section, o);
    default:
        return id <= SECTION_LAST;
    }
}

static int check_head(const uint8_t *p, size_t n, wh_err *err)
{
    if (n < 4 || memcmp(p, "\0asm", 4) != 0)
        return wh_fail(err, -EBADMSG, "not Wasm: it does not begin with 00 61 73 6d.");
    if (n < 8)
        return wh_fail(err, -ENODATA, "truncated: it ends within its first 8 bytes.");
    if (memcmp(p + 4, "\15\0\1\0", 4) == 0)
        return wh_fail(err, -ENOTSUP, "it is a component where a core module is wanted.");
    if (memcmp(p + 4, "\1\0\0\0", 4) != 0)
        return wh_fail(err, -ENOTSUP,
                       "Wasm version bytes %02x %02x %02x %02x are unknown; 01 00 00 00 is a module.", p[4],
                       p[5], p[6], p[7]);
    return 0;
}

static int read_sections(reader *r, const uint8_t *start, wh_wasm_outline *o, wh_err *err)
{
    while (r->p < r->end) {
        uint8_t id;
        uint64_t size;
        size_t at = (size_t)(r->p - start);
        if (!wh_wasm_read_byte(r, &id) || !wh_wasm_read_leb(r, 32, &size))
            return r->short_of_bytes
                       ? wh_fail(err, -ENODATA, "truncated: it ends in the head of a section at byte %zu.",
                                 at)
                       : wh_fail(err, -EBADMSG, "malformed: the section at byte %zu has no valid size.", at);
        size_t left = (size_t)(r->end - r->p);
        if (size > left)
            return wh_fail(err, -ENODATA, "truncated: section %u at byte %zu wants %llu bytes, %zu are left.",
                           id, at, (unsigned long long)size, left);
        if (!read_section(id, (reader){.p = r->p, .end = r->p + size}, o))
            return wh_fail(err, -EBADMSG, "malformed: section %u at byte %zu cannot be read.", id, at);
        r->p += size;
    }
    return 0;
}

int wh_wasm_outline_parse(const void *wasm, size_t n, wh_wasm_outline *ret, wh_err *err)
{
    wh_wasm_outline outline = {.memory_max = UINT64_MAX};
    const uint8_t *p = wasm;
    int rc = check_head(p, n, err);
    if (rc < 0)
        return rc;
    reader r = {.p = p + 8, .end = p + n};
    rc = read_sections(&r, p, &outline, err);
    if (rc < 0) {
        wh_wasm_outline_done(&outline);
        return rc;
    }
    *ret = outline;
    return 0;
}

void wh_wasm_outline_done(wh_wasm_outline *outline)
{
    free(outline->imports);
    free(outline->exports);
    *outline = (wh_wasm_outline){0};
}

/* The 46 functions of wasi_snapshot_preview1, sorted. */
static const char *const preview1[] = {
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_pwrite",
    "fd_read",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "fd_write",
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
    "poll_oneoff",
    "proc_exit",
    "proc_raise",
    "random_get",
    "sched_yield",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
};

static bool is_offered(const wh_wasm_name *import)
{
    if (import->kind != 'f')
        return false;
    if (!wh_str_eq(import->module, WH_STR("wasi_snapshot_preview1")) &&
        !wh_str_eq(import->module, WH_STR("wasi_unstable")))
        return false;
    for (size_t i = 0; i < WH_ARRAY_LEN(preview1); i++)
        if (wh_str_eq(import->name, wh_str_of(preview1[i])))
            return true;
    return false;
}

static bool begins(wh_str s, const char *prefix)
{
    size_t n = strlen(prefix);
    return s.n >= n && memcmp(s.p, prefix, n) == 0;
}

/* Who would offer an import that we do not, for people. */
static const char *whose(const wh_wasm_name *import)
{
    static const struct {
        const char *module, *name, *hint;
    } known[] = {
        {"env", "return_result", "a Suborbital runnable: only an app server offers it"},
        {"env", "proxy_", "a proxy-wasm filter: only a proxy offers it"},
        {"env", "emscripten_", "Emscripten's JavaScript: build with -sSTANDALONE_WASM"},
        {"env", "_embind", "Emscripten's JavaScript: build without embind"},
        {"env", "invoke_", "Emscripten's JavaScript exceptions: build with -fwasm-exceptions"},
        {"env", "memory", "memory from outside: build without --import-memory"},
        {"wbg", "", "a browser (wasm-bindgen): build for wasm32-wasip1"},
        {"__wbindgen", "", "a browser (wasm-bindgen): build for wasm32-wasip1"},
        {"gojs", "", "a browser (GOOS=js): build with GOOS=wasip1"},
        {"go", "", "a browser (GOOS=js): build with GOOS=wasip1"},
        {"wasi_ephemeral_nn", "", "WASI-NN"},
        {"wasi_snapshot_preview1", "sock_", "an extension of other runtimes (WasmEdge, WASIX)"},
        {"wasix", "", "WASIX"},
        {"wasi", "thread-spawn", "wasi-threads"},
        {"wasi:", "", "a component's world: this is the core of a component"},
        {"wasmtime_", "", "a profiling or test build"},
        {"asyncify", "", "asyncify"},
    };
    for (size_t i = 0; i < WH_ARRAY_LEN(known); i++)
        if (begins(import->module, known[i].module) && begins(import->name, known[i].name))
            return known[i].hint;
    return NULL;
}

void wh_wasm_put_clean(wh_buf *out, wh_str text)
{
    size_t n = WH_MIN(text.n, (size_t)80);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text.p[i];
        (void)wh_buf_putc(out, c < 0x20 || c >= 0x7f ? '?' : (char)c);
    }
}

size_t wh_wasm_missing_imports(const wh_wasm_outline *outline, wh_buf *out)
{
    size_t missing = 0;
    for (size_t i = 0; i < outline->n_imports; i++) {
        const wh_wasm_name *import = &outline->imports[i];
        if (is_offered(import))
            continue;
        missing++;
        (void)wh_buf_puts(out, out->len > 0 ? ", " : "");
        wh_wasm_put_clean(out, import->module);
        (void)wh_buf_putc(out, '.');
        wh_wasm_put_clean(out, import->name);
        const char *hint = whose(import);
        if (hint != NULL)
            (void)wh_buf_printf(out, " (%s)", hint);
    }
    return missing;
}
