/* SPDX-License-Identifier: Apache-2.0 */
/* Instances: a store of its own each, limits, and calls. */
#include "base/buf.h"
#include "engine/wasmtime/internal.h"

#define MEMORY_BYTES_MAX (4ULL << 30)
#define TABLE_ELEMS_MAX 1000000
#define NO_DEADLINE (UINT64_C(1) << 62) /* is added to the clock, which must not wrap */

_Static_assert(sizeof(wh_slot) == sizeof(wasmtime_val_raw_t), "slots are Wasmtime's raw values");
_Static_assert(_Alignof(wh_slot) >= _Alignof(wasmtime_val_raw_t), "slots are Wasmtime's raw values");
_Static_assert(sizeof(wh_func) == sizeof(wasmtime_func_t), "a function is Wasmtime's handle");
_Static_assert(_Alignof(wh_func) >= _Alignof(wasmtime_func_t), "a function is Wasmtime's handle");

_Thread_local wh_instance *wh_wasmtime_running;

static void find_memory(wh_instance *instance)
{
    wasmtime_extern_t item;
    if (!wasmtime_instance_export_get(instance->context, &instance->instance, "memory", 6, &item))
        return;
    if (item.kind == WASMTIME_EXTERN_MEMORY) {
        instance->memory = item.of.memory;
        instance->has_memory = true;
        instance->seen_bytes = UINT64_MAX; /* nothing was seen yet */
    }
    wasmtime_extern_delete(&item);
}

static void set_deadline(wh_instance *instance, uint32_t ticks)
{
    wasmtime_context_set_epoch_deadline(instance->context, ticks > 0 ? ticks : NO_DEADLINE);
}

/* A start that failed: either the guest ended in it, or there was no room for the guest. */
static int start_failed(wh_instance *instance, wasm_trap_t *trap, wasmtime_error_t *error,
                        wh_outcome *outcome, wh_err *err)
{
    bool ran = trap != NULL || instance->ending != WH_HOST_OK;
    wh_wasmtime_outcome(instance, trap, error, outcome);
    if (ran || outcome->trap == WH_TRAP_EXCEPTION)
        return wh_fail(err, -EFAULT, "the guest's start function did not return: %.160s", outcome->msg);
    if (outcome->memory_refused || outcome->trap == WH_TRAP_OUT_OF_MEMORY) {
        outcome->trap = WH_TRAP_OUT_OF_MEMORY;
        return wh_fail(err, -ENOMEM,
                       "no room for the guest within %llu bytes of memory and %llu table elements: %.120s",
                       (unsigned long long)instance->limits.memory_bytes_max,
                       (unsigned long long)instance->limits.table_elems_max, outcome->msg);
    }
    return wh_fail(err, -ENOMEM, "instantiate the guest: %.200s", outcome->msg);
}

int wh_wasmtime_instance_new(wh_template *tmpl, const wh_guest_limits *limits, void *user, wh_instance **ret,
                             wh_outcome *outcome, wh_err *err)
{
    wh_assert(tmpl->magic == WH_TEMPLATE_MAGIC);
    wh_instance *instance = wh_xnew(wh_instance);
    *instance =
        (wh_instance){.magic = WH_INSTANCE_MAGIC,
                      .epochs = tmpl->engine->epochs,
                      .owns_store = true,
                      .user = user,
                      .limits = {.memory_bytes_max = MEMORY_BYTES_MAX, .table_elems_max = TABLE_ELEMS_MAX}};
    uint32_t start_ticks = 0;
    if (limits != NULL) {
        if (limits->memory_bytes_max > 0)
            instance->limits.memory_bytes_max = limits->memory_bytes_max;
        if (limits->table_elems_max > 0)
            instance->limits.table_elems_max = limits->table_elems_max;
        start_ticks = limits->start_ticks;
    }
    instance->store = wasmtime_store_new(tmpl->engine->engine, instance, NULL);
    instance->context = wasmtime_store_context(instance->store);
    wh_shim_store_limit(instance->store, &instance->limits);
    if (instance->epochs)
        set_deadline(instance, start_ticks);
    outcome->end = WH_END_OK;
    wasm_trap_t *trap = NULL;
    wh_instance *outer = wh_wasmtime_running;
    wh_wasmtime_running = instance;
    instance->depth = 1;
    wasmtime_error_t *error =
        wasmtime_instance_pre_instantiate(tmpl->pre, instance->context, &instance->instance, &trap);
    instance->depth = 0;
    wh_wasmtime_running = outer;
    if (error != NULL || trap != NULL) {
        int rc = start_failed(instance, trap, error, outcome, err);
        wh_wasmtime_instance_free(instance);
        return rc;
    }
    find_memory(instance);
    instance->ready = true;
    *ret = instance;
    return 0;
}

void wh_wasmtime_instance_free(wh_instance *instance)
{
    if (instance == NULL)
        return;
    wh_assert(instance->magic == WH_INSTANCE_MAGIC);
    wh_assert(instance->depth == 0);
    if (instance->owns_store)
        wasmtime_store_delete(instance->store);
    instance->magic = 0;
    free(instance);
}

int wh_wasmtime_func(wh_instance *instance, const char *name, const char *sig, wh_func *ret, wh_err *err)
{
    wh_assert(instance->magic == WH_INSTANCE_MAGIC);
    wasmtime_extern_t item;
    if (!wasmtime_instance_export_get(instance->context, &instance->instance, name, strlen(name), &item))
        return wh_fail(err, -ENOENT, "the module exports no '%.60s'.", name);
    if (item.kind != WASMTIME_EXTERN_FUNC) {
        wasmtime_extern_delete(&item);
        return wh_fail(err, -ENOENT, "the module's export '%.60s' is no function.", name);
    }
    if (sig != NULL) {
        char found[WH_SIG_BYTES];
        wasm_functype_t *type = wasmtime_func_type(instance->context, &item.of.func);
        wh_wasmtime_sig(type, found);
        wasm_functype_delete(type);
        if (strcmp(found, sig) != 0)
            return wh_fail(err, -EINVAL, "the module's export '%.60s' is %.60s where %.60s is wanted.", name,
                           found, sig);
    }
    memcpy(ret, &item.of.func, sizeof(*ret));
    return 0;
}

wh_end wh_wasmtime_call(wh_instance *instance, const wh_func *func, wh_slot *io, size_t n,
                        uint32_t deadline_ticks, wh_outcome *outcome)
{
    if (__builtin_expect(instance->dead, 0)) {
        *outcome =
            (wh_outcome){.end = WH_END_TRAP, .trap = WH_TRAP_OTHER, .msg = "the guest has ended already"};
        return WH_END_TRAP;
    }
    if (instance->epochs && instance->depth == 0)
        set_deadline(instance, deadline_ticks);
    wasm_trap_t *trap = NULL;
    wasmtime_func_t handle;
    memcpy(&handle, func, sizeof(handle));
    wh_instance *outer = wh_wasmtime_running;
    wh_wasmtime_running = instance;
    instance->depth++;
    wasmtime_error_t *error =
        wasmtime_func_call_unchecked(instance->context, &handle, (wasmtime_val_raw_t *)io, n, &trap);
    instance->depth--;
    wh_wasmtime_running = outer;
    if (__builtin_expect(error == NULL && trap == NULL, 1)) {
        outcome->end = WH_END_OK;
        return WH_END_OK;
    }
    return wh_wasmtime_outcome(instance, trap, error, outcome);
}

int wh_wasmtime_memory(wh_instance *instance, uint8_t **ret_base, size_t *ret_bytes)
{
    if (!instance->has_memory)
        return -ENOENT;
    wh_wasmtime_see_memory(instance);
    *ret_base = instance->mem;
    *ret_bytes = instance->mem_bytes;
    return 0;
}

uint64_t wh_wasmtime_memory_peak(const wh_instance *instance)
{
    return instance->limits.memory_bytes;
}
