/* SPDX-License-Identifier: Apache-2.0 */
#include "link.h"
#include "engine/wasmtime/internal.h"

#include <string.h>

#define INSTANCES_MAX 4096

struct spec_store {
    wh_engine *engine;
    wasmtime_store_t *store;
    wasmtime_linker_t *linker;
    wh_shim_limits limits;
    wh_instance *instances[INSTANCES_MAX];
    size_t n_instances;
};

int spec_store_new(wh_engine *engine, spec_store **ret)
{
    spec_store *s = wh_xnew(spec_store);
    s->engine = engine;
    s->limits = (wh_shim_limits){.memory_bytes_max = 64ULL << 30, .table_elems_max = 1ULL << 32};
    s->store = wasmtime_store_new(engine->engine, NULL, NULL);
    wh_shim_store_limit(s->store, &s->limits);
    s->linker = wasmtime_linker_new(engine->engine);
    wasmtime_linker_allow_shadowing(s->linker, true);
    *ret = s;
    return 0;
}

void spec_store_free(spec_store *store)
{
    if (store == NULL)
        return;
    for (size_t i = 0; i < store->n_instances; i++)
        wh_engine_wasmtime.instance_free(store->instances[i]);
    wasmtime_linker_delete(store->linker);
    wasmtime_store_delete(store->store);
    free(store);
}

int spec_instantiate(spec_store *store, wh_module *module, wh_instance **ret, wh_outcome *outcome,
                     wh_err *err)
{
    wh_assert(store->n_instances < INSTANCES_MAX);
    wh_instance *instance = wh_xnew(wh_instance);
    *instance = (wh_instance){.magic = WH_INSTANCE_MAGIC,
                              .epochs = store->engine->epochs,
                              .ready = true,
                              .immortal = true,
                              .store = store->store,
                              .context = wasmtime_store_context(store->store)};
    store->instances[store->n_instances++] = instance;
    if (instance->epochs)
        wasmtime_context_set_epoch_deadline(instance->context, UINT64_C(1) << 62);
    wasm_trap_t *trap = NULL;
    wasmtime_error_t *error = wasmtime_linker_instantiate(store->linker, instance->context, module->module,
                                                          &instance->instance, &trap);
    if (trap != NULL) {
        wh_wasmtime_outcome(instance, trap, NULL, outcome);
        return wh_fail(err, -EFAULT, "trapped: %.200s", outcome->msg);
    }
    if (error != NULL) {
        char text[200];
        wh_wasmtime_error_text(error, text, sizeof(text));
        return wh_fail(err, -ENOENT, "does not link: %s", text);
    }
    *ret = instance;
    return 0;
}

int spec_register(spec_store *store, wh_instance *instance, const char *name, size_t n, wh_err *err)
{
    wasmtime_error_t *error =
        wasmtime_linker_define_instance(store->linker, instance->context, name, n, &instance->instance);
    if (error == NULL)
        return 0;
    char text[200];
    wh_wasmtime_error_text(error, text, sizeof(text));
    return wh_fail(err, -EINVAL, "register: %s", text);
}

int spec_func(wh_instance *instance, const char *name, size_t n, wh_func *ret, char sig[SPEC_SIG_BYTES])
{
    _Static_assert(SPEC_SIG_BYTES == WH_SIG_BYTES, "one length");
    wasmtime_extern_t item;
    if (!wasmtime_instance_export_get(instance->context, &instance->instance, name, n, &item))
        return -ENOENT;
    if (item.kind != WASMTIME_EXTERN_FUNC)
        return -EINVAL;
    wasm_functype_t *type = wasmtime_func_type(instance->context, &item.of.func);
    wh_wasmtime_sig(type, sig);
    wasm_functype_delete(type);
    memcpy(ret, &item.of.func, sizeof(*ret));
    return 0;
}

int spec_global(wh_instance *instance, const char *name, size_t n, wh_slot *ret)
{
    wasmtime_extern_t item;
    if (!wasmtime_instance_export_get(instance->context, &instance->instance, name, n, &item))
        return -ENOENT;
    if (item.kind != WASMTIME_EXTERN_GLOBAL)
        return -EINVAL;
    wasmtime_val_t value;
    wasmtime_global_get(instance->context, &item.of.global, &value);
    memset(ret, 0, sizeof(*ret));
    switch (value.kind) {
    case WASMTIME_I32:
    case WASMTIME_F32:
        ret->i32 = value.of.i32;
        break;
    case WASMTIME_I64:
    case WASMTIME_F64:
        ret->i64 = value.of.i64;
        break;
    case WASMTIME_V128:
        memcpy(ret->v128, value.of.v128, sizeof(ret->v128));
        break;
    case WASMTIME_EXTERNREF:
        if (!wasmtime_externref_is_null(&value.of.externref))
            ret->i32 = (int32_t)wasmtime_externref_to_raw(instance->context, &value.of.externref);
        break;
    case WASMTIME_FUNCREF:
        ret->i64 = wasmtime_funcref_is_null(&value.of.funcref) ? 0 : 1;
        break;
    default:
        return -ENOTSUP;
    }
    wasmtime_val_unroot(&value);
    return 0;
}

/* The number is kept as an address that is never followed; null would be a null reference in some places. */
static void *number_pointer(uint64_t number)
{
    return (void *)(uintptr_t)(number + 1);
}

wh_slot spec_externref(spec_store *store, uint64_t number)
{
    wasmtime_context_t *context = wasmtime_store_context(store->store);
    wasmtime_externref_t ref;
    wh_slot raw = {.i64 = 0};
    if (wasmtime_externref_new(context, number_pointer(number), NULL, &ref)) {
        raw.i32 = (int32_t)wasmtime_externref_to_raw(context, &ref);
        wasmtime_externref_unroot(&ref);
    }
    return raw;
}

bool spec_externref_is(spec_store *store, wh_slot raw, uint64_t number)
{
    wasmtime_context_t *context = wasmtime_store_context(store->store);
    if (raw.i32 == 0)
        return false;
    wasmtime_externref_t ref;
    wasmtime_externref_from_raw(context, (uint32_t)raw.i32, &ref);
    bool same = wasmtime_externref_data(context, &ref) == number_pointer(number);
    wasmtime_externref_unroot(&ref);
    return same;
}

bool spec_ref_is_null(wh_slot raw)
{
    return raw.i32 == 0;
}
