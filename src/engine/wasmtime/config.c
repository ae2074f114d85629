/* SPDX-License-Identifier: Apache-2.0 */
/* Engines. One function makes a profile's settings, for whoever compiles and whoever loads: Wasmtime compares
 * them one by one. A change to what is recorded in compiled files moves the number in engine.c. */
#include "engine/wasmtime/internal.h"

#include "base/str.h"

#include <sys/resource.h>

/* The engine refuses stacks above its fiber size, which this build cannot change. */
#define STACK_BYTES_DEFAULT (512UL << 10)
#define STACK_BYTES_MAX (2UL << 20)
#define STACK_BYTES_HOST (256UL << 10) /* left for host functions below a guest that used all of its own */

#define MEMORY_RESERVATION (4ULL << 30)
/* A wrong bounds check in generated code can reach 32 bits plus a 32-bit offset; on both sides of each
 * memory. */
#define MEMORY_GUARD (2ULL << 30)

/* Slots keep what a small guest touches; more would be cleared by hand at each reuse. */
#define POOL_KEEP_RESIDENT (64UL << 10)
#define POOL_TABLES_PER_MODULE 4
/* A component is made of modules: the program's own, an adapter and two that tie them together. */
#define POOL_MODULES_PER_COMPONENT 8
#define POOL_MEMORIES_PER_COMPONENT 2
#ifdef WASMTIME_FEATURE_ASYNC
#define POOL_STACKS_PER_COMPONENT 4
#endif
#define POOL_TABLE_ELEMS 65536
#define POOL_INSTANCE_BYTES (1UL << 20)
#define POOL_SLOTS_MAX 100000

static int check(const wh_engine_config *config, wh_err *err)
{
    if (wh_profile_name(config->profile) == NULL)
        return wh_fail(err, -EINVAL, "there is no code profile %u.", config->profile);
    if (config->stack_bytes_max > STACK_BYTES_MAX)
        return wh_fail(err, -EINVAL, "a guest stack of %llu bytes was asked for; at most %lu are possible.",
                       (unsigned long long)config->stack_bytes_max, STACK_BYTES_MAX);
    struct rlimit stack;
    uint64_t wanted =
        (config->stack_bytes_max > 0 ? config->stack_bytes_max : STACK_BYTES_DEFAULT) + STACK_BYTES_HOST;
    if (getrlimit(RLIMIT_STACK, &stack) == 0 && stack.rlim_cur != RLIM_INFINITY && stack.rlim_cur < wanted)
        return wh_fail(err, -EINVAL,
                       "a guest stack of %llu bytes needs a process stack of %llu; RLIMIT_STACK is %llu.",
                       (unsigned long long)(wanted - STACK_BYTES_HOST), (unsigned long long)wanted,
                       (unsigned long long)stack.rlim_cur);
    if (config->pool_slots > POOL_SLOTS_MAX)
        return wh_fail(err, -EINVAL, "a pool of %u instances was asked for; at most %d are possible.",
                       config->pool_slots, POOL_SLOTS_MAX);
    if (config->pool_memory_max > MEMORY_RESERVATION)
        return wh_fail(err, -EINVAL,
                       "pool memories of %llu bytes were asked for; at most 4 GiB are possible.",
                       (unsigned long long)config->pool_memory_max);
    return 0;
}

#ifdef WASMTIME_FEATURE_COMPONENT_MODEL
static void set_components(wasm_config_t *c, bool on)
{
    wasmtime_config_wasm_component_model_set(c, on);
    wasmtime_config_wasm_component_model_async_set(c, on); /* 0.3 is built on it */
    wasmtime_config_concurrency_support_set(c, on);
    /* Not finished upstream, or needed by no guest that we know. */
    wasmtime_config_wasm_component_model_more_async_builtins_set(c, false);
    wasmtime_config_wasm_component_model_async_stackful_set(c, false);
    wasmtime_config_wasm_component_model_map_set(c, false);
}
#endif

static void set_features(wasm_config_t *c, unsigned profile)
{
    bool gc = (profile & WH_PROFILE_GC) != 0;
    wasmtime_config_wasm_simd_set(c, true);
    wasmtime_config_wasm_relaxed_simd_set(c, true);
    wasmtime_config_wasm_bulk_memory_set(c, true);
    wasmtime_config_wasm_multi_value_set(c, true);
    wasmtime_config_wasm_multi_memory_set(c, true);
    wasmtime_config_wasm_reference_types_set(c, true);
    wasmtime_config_wasm_tail_call_set(c, true);
    wasmtime_config_gc_support_set(c, gc);
    wasmtime_config_wasm_function_references_set(c, gc);
    wasmtime_config_wasm_gc_set(c, gc);
    wasmtime_config_wasm_exceptions_set(c, gc);
    /* Without security support upstream, or of no use to guests of 32-bit interfaces. */
    wasmtime_config_wasm_threads_set(c, false);
    wasmtime_config_shared_memory_set(c, false);
    wasmtime_config_wasm_memory64_set(c, false);
    wasmtime_config_wasm_wide_arithmetic_set(c, false);
    wasmtime_config_wasm_custom_page_sizes_set(c, false);
#ifdef WASMTIME_FEATURE_COMPONENT_MODEL
    set_components(c, (profile & WH_PROFILE_CM) != 0);
#endif
#ifdef WASMTIME_FEATURE_COMPILER
    wasmtime_config_wasm_stack_switching_set(c, false);
    wasmtime_config_strategy_set(c, WASMTIME_STRATEGY_CRANELIFT);
    wasmtime_config_cranelift_opt_level_set(c, WASMTIME_OPT_LEVEL_SPEED);
#endif
#ifdef WASMTIME_FEATURE_PARALLEL_COMPILATION
    wasmtime_config_parallel_compilation_set(c, false);
#endif
}

static void set_pool(wasm_config_t *c, const wh_engine_config *config)
{
    uint32_t slots = config->pool_slots;
    bool components = (config->profile & WH_PROFILE_CM) != 0;
    uint32_t modules = components ? slots * POOL_MODULES_PER_COMPONENT : slots;
    wasmtime_pooling_allocation_config_t *pool = wasmtime_pooling_allocation_config_new();
    wasmtime_pooling_allocation_config_total_core_instances_set(pool, modules);
    wasmtime_pooling_allocation_config_total_memories_set(
        pool, components ? slots * POOL_MEMORIES_PER_COMPONENT : slots);
    wasmtime_pooling_allocation_config_total_tables_set(pool, slots * POOL_TABLES_PER_MODULE);
    wasmtime_pooling_allocation_config_total_gc_heaps_set(pool,
                                                          (config->profile & WH_PROFILE_GC) != 0 ? slots : 0);
    wasmtime_pooling_allocation_config_total_component_instances_set(pool, components ? slots : 0);
#ifdef WASMTIME_FEATURE_ASYNC
    wasmtime_pooling_allocation_config_total_stacks_set(pool,
                                                        components ? slots * POOL_STACKS_PER_COMPONENT : 0);
#endif
    wasmtime_pooling_allocation_config_max_tables_per_module_set(pool, POOL_TABLES_PER_MODULE);
    wasmtime_pooling_allocation_config_table_elements_set(pool, POOL_TABLE_ELEMS);
    wasmtime_pooling_allocation_config_max_core_instance_size_set(pool, POOL_INSTANCE_BYTES);
    if (config->pool_memory_max > 0)
        wasmtime_pooling_allocation_config_max_memory_size_set(pool, config->pool_memory_max);
    wasmtime_pooling_allocation_config_linear_memory_keep_resident_set(pool, POOL_KEEP_RESIDENT);
    wasmtime_pooling_allocation_config_table_keep_resident_set(pool, POOL_KEEP_RESIDENT);
    wasmtime_pooling_allocation_strategy_set(c, pool);
    wasmtime_pooling_allocation_config_delete(pool);
}

static wasm_config_t *make_config(const wh_engine_config *config)
{
    wasm_config_t *c = wasm_config_new();
    set_features(c, config->profile);
    wasmtime_config_consume_fuel_set(c, false);
    wasmtime_config_epoch_interruption_set(c, (config->profile & WH_PROFILE_SHARED) != 0);
    wasmtime_config_max_wasm_stack_set(c, config->stack_bytes_max > 0 ? config->stack_bytes_max
                                                                      : STACK_BYTES_DEFAULT);
    wasmtime_config_signals_based_traps_set(c, true);
    wasmtime_config_memory_init_cow_set(c, true);
    wasmtime_config_memory_may_move_set(c, true);
    wasmtime_config_memory_reservation_set(c, MEMORY_RESERVATION);
    wasmtime_config_memory_guard_size_set(c, MEMORY_GUARD);
    if (config->memory_bytes_max > 0 && config->memory_bytes_max < MEMORY_RESERVATION)
        wasmtime_config_memory_reservation_for_growth_set(c, config->memory_bytes_max);
    wasmtime_config_debug_info_set(c, false);
    wasmtime_config_native_unwind_info_set(
        c, false); /* nothing unwinds through a guest; saves registering each file */
    if (config->pool_slots > 0)
        set_pool(c, config);
    return c;
}

int wh_wasmtime_engine_new(const wh_engine_config *config, wh_engine **ret, wh_err *err)
{
    int rc = check(config, err);
    if (rc < 0)
        return rc;
    const char *tag = wh_engine_tag(config->profile);
    wh_assert(wh_starts_with(tag, WASMTIME_VERSION "+"));
    /* Line numbers come from sections that the guest's author wrote: read where one guest has the process to
     * itself. */
    bool lines = (config->profile & WH_PROFILE_SHARED) == 0;
    char text[160] = "";
    const wh_shim_message message = {text, sizeof(text)};
    wasm_engine_t *engine = NULL;
    if (wh_shim_engine_new(make_config(config), tag, strlen(tag), lines, &engine, &message) < 0)
        return wh_fail(err, -EINVAL, "make a '%s' engine: %s", wh_profile_name(config->profile), text);
    wh_engine *e = wh_xnew(wh_engine);
    *e = (wh_engine){.magic = WH_ENGINE_MAGIC,
                     .profile = config->profile,
                     .epochs = (config->profile & WH_PROFILE_SHARED) != 0,
                     .engine = engine};
    *ret = e;
    return 0;
}

void wh_wasmtime_engine_free(wh_engine *engine)
{
    if (engine == NULL)
        return;
    wh_assert(engine->magic == WH_ENGINE_MAGIC);
    wasm_engine_delete(engine->engine);
    engine->magic = 0;
    free(engine);
}

void wh_wasmtime_tick(wh_engine *engine)
{
    wasmtime_engine_increment_epoch(engine->engine);
}
