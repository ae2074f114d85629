/* SPDX-License-Identifier: Apache-2.0 */
/* Templates: a module whose imports were found in a table of host functions, so that an instance costs
 * microseconds. */
#include "base/buf.h"
#include "engine/wasmtime/internal.h"

#define MISSING_BYTES 200 /* of the list of missing imports, so that a wh_err holds it */

static bool name_is(const wasm_name_t *name, const char *s)
{
    return name->size == strlen(s) && memcmp(name->data, s, name->size) == 0;
}

/* The memory of a guest that is still in its start function: its instance is not known yet. */
static void find_memory(wasmtime_caller_t *caller, wasmtime_context_t *context, wh_frame *frame)
{
    wasmtime_extern_t item;
    if (!wasmtime_caller_export_get(caller, "memory", 6, &item))
        return;
    if (item.kind == WASMTIME_EXTERN_MEMORY) {
        frame->mem = wasmtime_memory_data(context, &item.of.memory);
        frame->mem_bytes = wasmtime_memory_data_size(context, &item.of.memory);
    }
    wasmtime_extern_delete(&item);
}

/* Every call of a guest into the host. */
static wasm_trap_t *host_call(void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *io, size_t n)
{
    (void)n;
    const wh_import_env *import = env;
    wh_instance *instance = wh_wasmtime_running;
    wh_frame frame = {.user = instance->user};
    if (instance->has_memory) {
        wh_wasmtime_see_memory(instance);
        frame.mem = instance->mem;
        frame.mem_bytes = instance->mem_bytes;
    } else if (!instance->ready) {
        find_memory(caller, instance->context, &frame);
    }
    wh_host_result result = import->fn(&frame, (wh_slot *)io, import->env);
    if (__builtin_expect(result == WH_HOST_OK, 1))
        return NULL;
    instance->ending = result;
    instance->exit_code = frame.exit_code;
    instance->ending_msg = frame.msg;
    return wasmtime_trap_new("", 0); /* what it says is in the instance */
}

static const wh_import *find(const wh_import *imports, size_t n, const wasm_name_t *module,
                             const wasm_name_t *name)
{
    for (size_t i = 0; i < n; i++) {
        if (name_is(name, imports[i].name) && name_is(module, imports[i].module))
            return &imports[i];
    }
    return NULL;
}

/* What a table offers for one import; NULL, and a line in `missing`, when it offers nothing that fits. */
static const wh_import *offer(const wasm_importtype_t *it, const wh_import *imports, size_t n,
                              wh_buf *missing)
{
    const wasm_name_t *module = wasm_importtype_module(it), *name = wasm_importtype_name(it);
    const wasm_externtype_t *type = wasm_importtype_type(it);
    char sig[WH_SIG_BYTES] = "";
    const char *what = "";
    wasm_externkind_t kind = wasm_externtype_kind(type);
    const wh_import *found = NULL;
    if (kind == WASM_EXTERN_FUNC) {
        wh_wasmtime_sig(wasm_externtype_as_functype_const(type), sig);
        found = find(imports, n, module, name);
    } else {
        what = kind == WASM_EXTERN_MEMORY   ? "memory "
               : kind == WASM_EXTERN_TABLE  ? "table "
               : kind == WASM_EXTERN_GLOBAL ? "global "
                                            : "tag ";
    }
    if (found != NULL && strcmp(found->sig, sig) == 0)
        return found;
    wh_buf_printf(missing, "%s%s%.*s.%.*s%s%.40s", missing->len > 0 ? ", " : "", what,
                  (int)WH_MIN(module->size, 40UL), module->data, (int)WH_MIN(name->size, 60UL), name->data,
                  sig[0] != '\0' ? " " : "", sig);
    if (found != NULL)
        wh_buf_printf(missing, " (offered: %s)", found->sig);
    return NULL;
}

/* Finds every import and defines it; the sentence names all that are missing, or as many as fit. */
static int resolve(wasmtime_linker_t *linker, const wasm_importtype_vec_t *wanted, const wh_import *imports,
                   size_t n, wh_import_env *envs, wh_err *err)
{
    auto_buf wh_buf missing;
    wh_buf_init(&missing, MISSING_BYTES);
    size_t unfit = 0, untold = 0;
    for (size_t i = 0; i < wanted->size; i++) {
        const wasm_importtype_t *it = wanted->data[i];
        size_t told = missing.len;
        const wh_import *import = offer(it, imports, n, &missing);
        if (import == NULL) {
            unfit++;
            if (missing.failed && told == missing.len)
                untold++;
            continue;
        }
        envs[i] = (wh_import_env){.fn = import->fn, .env = import->env};
        const wasm_name_t *module = wasm_importtype_module(it), *name = wasm_importtype_name(it);
        wasmtime_error_t *error = wasmtime_linker_define_func_unchecked(
            linker, module->data, module->size, name->data, name->size,
            wasm_externtype_as_functype_const(wasm_importtype_type(it)), host_call, &envs[i], NULL);
        if (error != NULL) {
            char text[160];
            wh_wasmtime_error_text(error, text, sizeof(text));
            return wh_fail(err, -EINVAL, "define import %s.%s: %s", import->module, import->name, text);
        }
    }
    if (unfit == 0)
        return 0;
    if (untold > 0)
        return wh_fail(err, -ENOENT, "missing imports: %s, and %zu more.", wh_buf_str(&missing), untold);
    return wh_fail(err, -ENOENT, "missing imports: %s.", wh_buf_str(&missing));
}

int wh_wasmtime_template_new(wh_engine *engine, wh_module *module, const wh_import *imports, size_t n,
                             wh_template **ret, wh_err *err)
{
    wh_assert(engine->magic == WH_ENGINE_MAGIC);
    wh_assert(module->magic == WH_MODULE_MAGIC);
    wasm_importtype_vec_t wanted;
    wasmtime_module_imports(module->module, &wanted);
    wasmtime_linker_t *linker = wasmtime_linker_new(engine->engine);
    wasmtime_linker_allow_shadowing(linker, true); /* a module may import one function twice */
    wh_template *t = wh_xnew(wh_template);
    t->magic = WH_TEMPLATE_MAGIC;
    t->engine = engine;
    int rc = 0;
    if (wanted.size > 0) {
        t->envs = calloc(wanted.size, sizeof(*t->envs));
        if (t->envs == NULL)
            rc = wh_fail(err, -ENOMEM, "resolve %zu imports", wanted.size);
    }
    if (rc == 0)
        rc = resolve(linker, &wanted, imports, n, t->envs, err);
    if (rc == 0) {
        wasmtime_error_t *error = wasmtime_linker_instantiate_pre(linker, module->module, &t->pre);
        if (error != NULL) {
            char text[200];
            wh_wasmtime_error_text(error, text, sizeof(text));
            rc = wh_fail(err, -EINVAL, "link module: %s", text);
        }
    }
    wasmtime_linker_delete(linker);
    wasm_importtype_vec_delete(&wanted);
    if (rc < 0) {
        wh_wasmtime_template_free(t);
        return rc;
    }
    *ret = t;
    return 0;
}

void wh_wasmtime_template_free(wh_template *tmpl)
{
    if (tmpl == NULL)
        return;
    wh_assert(tmpl->magic == WH_TEMPLATE_MAGIC);
    if (tmpl->pre != NULL)
        wasmtime_instance_pre_delete(tmpl->pre);
    free(tmpl->envs);
    tmpl->magic = 0;
    free(tmpl);
}
