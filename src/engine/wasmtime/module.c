/* SPDX-License-Identifier: Apache-2.0 */
/* Modules: compiling, loading compiled files, and what a module imports and exports. */
#include "base/str.h"
#include "engine/wasmtime/internal.h"

#include <fcntl.h>

#define MESSAGE_BYTES 224 /* fits a wh_err with a few words in front */

#ifdef WASMTIME_FEATURE_COMPILER
int wh_wasmtime_compile(wh_engine *engine, const void *wasm, size_t n, void **ret, size_t *ret_n, wh_err *err)
{
    wh_assert(engine->magic == WH_ENGINE_MAGIC);
    char text[MESSAGE_BYTES] = "";
    const wh_shim_message message = {text, sizeof(text)};
    wasm_byte_vec_t code = {0};
    bool component = (engine->profile & WH_PROFILE_CM) != 0;
    if ((component ? wh_shim_precompile_component : wh_shim_precompile)(engine->engine, wasm, n, &code,
                                                                        &message) < 0)
        return wh_fail(err, -EBADMSG, "compile: %s", text);
    void *copy = malloc(code.size);
    if (copy != NULL) {
        memcpy(copy, code.data, code.size);
        *ret = copy;
        *ret_n = code.size;
    }
    size_t size = code.size;
    wasm_byte_vec_delete(&code);
    return copy != NULL ? 0 : wh_fail(err, -ENOMEM, "compile: no memory for %zu bytes of code", size);
}
#else
int wh_wasmtime_compile(wh_engine *engine, const void *wasm, size_t n, void **ret, size_t *ret_n, wh_err *err)
{
    (void)engine, (void)wasm, (void)n, (void)ret, (void)ret_n;
    return wh_fail(err, -ENOTSUP, "this program only loads compiled modules.");
}
#endif

/* The engine's words for code that was made for others: another version, profile or CPU. */
bool wh_wasmtime_says_stale(const char *text)
{
    return strstr(text, "was compiled") != NULL || strstr(text, "compilation settings of module") != NULL;
}

int wh_wasmtime_load(wh_engine *engine, int fd, wh_module **ret, wh_err *err)
{
    wh_assert(engine->magic == WH_ENGINE_MAGIC);
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0); /* the shim consumes one */
    if (own < 0)
        return wh_fail(err, -errno, "load compiled code");
    char text[MESSAGE_BYTES] = "";
    const wh_shim_message message = {text, sizeof(text)};
    wasmtime_module_t *module = NULL;
    if (wh_shim_module_load_fd(engine->engine, own, &module, &message) < 0) {
        if (wh_wasmtime_says_stale(text))
            return wh_fail(err, -ESTALE, "compiled code is not for this engine (%s): %s",
                           wh_engine_tag(engine->profile), text);
        return wh_fail(err, -EBADMSG, "load compiled code: %s", text);
    }
    wh_module *m = wh_xnew(wh_module);
    *m = (wh_module){.magic = WH_MODULE_MAGIC, .module = module};
    *ret = m;
    return 0;
}

void wh_wasmtime_unload(wh_module *module)
{
    if (module == NULL)
        return;
    wh_assert(module->magic == WH_MODULE_MAGIC);
    wasmtime_module_delete(module->module);
    module->magic = 0;
    free(module);
}

void wh_wasmtime_image(const wh_module *module, const void **ret_base, size_t *ret_bytes)
{
    void *start, *end;
    wasmtime_module_image_range(module->module, &start, &end);
    *ret_base = start;
    *ret_bytes = (size_t)((const char *)end - (const char *)start);
}

/* wasm_valtype_kind aborts on vectors and newer references, so the parallel form of the type is asked. */
static char type_letter(const wasm_valtype_t *type)
{
    wasmtime_valtype_t v;
    wasmtime_valtype_new(type, &v);
    char letter = "iIfFVr"[WH_MIN(v.kind, WASMTIME_VALTYPE_KIND_REF)];
    wasmtime_valtype_delete(&v);
    return letter;
}

void wh_wasmtime_sig(const wasm_functype_t *type, char out[WH_SIG_BYTES])
{
    size_t at = 0;
    out[at++] = '(';
    const wasm_valtype_vec_t *params = wasm_functype_params(type);
    for (size_t i = 0; i < params->size && at < WH_SIG_BYTES / 2; i++)
        out[at++] = type_letter(params->data[i]);
    out[at++] = ')';
    const wasm_valtype_vec_t *results = wasm_functype_results(type);
    for (size_t i = 0; i < results->size && at < WH_SIG_BYTES - 1; i++)
        out[at++] = type_letter(results->data[i]);
    out[at] = '\0';
}

/* A C string of a name, NUL bytes shown; the caller's to free. */
static char *name_dup(const wasm_name_t *name)
{
    char *s = malloc(name->size + 1);
    if (s == NULL)
        return NULL;
    for (size_t i = 0; i < name->size; i++) {
        s[i] = name->data[i];
        if (s[i] == '\0')
            s[i] = '?';
    }
    s[name->size] = '\0';
    return s;
}

static char kind_letter(const wasm_externtype_t *type)
{
    static const char letters[] = {'f', 'g', 't', 'm', 'e'}; /* WASM_EXTERN_FUNC .. TABLE, MEMORY, tags */
    wasm_externkind_t kind = wasm_externtype_kind(type);
    wh_assert(kind < WH_ARRAY_LEN(letters));
    return letters[kind];
}

typedef int (*each_fn)(void *user, bool import, const wh_type_names *type);

static int describe_one(const wasm_name_t *module, const wasm_name_t *name, const wasm_externtype_t *type,
                        each_fn each, void *user)
{
    char sig[WH_SIG_BYTES];
    char *module_text = module != NULL ? name_dup(module) : NULL, *name_text = name_dup(name);
    int rc = -ENOMEM;
    if (name_text != NULL && (module == NULL || module_text != NULL)) {
        wh_type_names names = {.module = module_text, .name = name_text, .kind = kind_letter(type)};
        if (names.kind == 'f') {
            wh_wasmtime_sig(wasm_externtype_as_functype_const(type), sig);
            names.sig = sig;
        }
        rc = each(user, module != NULL, &names);
    }
    free(module_text);
    free(name_text);
    return rc;
}

int wh_wasmtime_describe(const wh_module *module, each_fn each, void *user)
{
    wh_assert(module->magic == WH_MODULE_MAGIC);
    int rc = 0;
    wasm_importtype_vec_t imports;
    wasmtime_module_imports(module->module, &imports);
    for (size_t i = 0; i < imports.size && rc == 0; i++) {
        const wasm_importtype_t *it = imports.data[i];
        rc = describe_one(wasm_importtype_module(it), wasm_importtype_name(it), wasm_importtype_type(it),
                          each, user);
    }
    wasm_importtype_vec_delete(&imports);
    if (rc != 0)
        return rc;
    wasm_exporttype_vec_t exports;
    wasmtime_module_exports(module->module, &exports);
    for (size_t i = 0; i < exports.size && rc == 0; i++) {
        const wasm_exporttype_t *et = exports.data[i];
        rc = describe_one(NULL, wasm_exporttype_name(et), wasm_exporttype_type(et), each, user);
    }
    wasm_exporttype_vec_delete(&exports);
    return rc;
}
