/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share. Nobody else includes it, but for tests/spec, which links
 * instances, and bench/calls, which measures what lies below. */
#pragma once

#include "engine/engine.h"
#include "engine/shim/shim.h"

#define WH_ENGINE_MAGIC 0x656e6731u
#define WH_MODULE_MAGIC 0x6d6f6431u
#define WH_TEMPLATE_MAGIC 0x746d7031u
#define WH_INSTANCE_MAGIC 0x696e7331u

struct wh_engine {
    uint32_t magic;
    unsigned profile;
    bool epochs; /* the profile has deadlines */
    wasm_engine_t *engine;
};

struct wh_module {
    uint32_t magic;
    wasmtime_module_t *module;
};

/* One import of a template: what Wasmtime hands back to host_call. */
typedef struct wh_import_env {
    wh_host_fn fn;
    void *env;
} wh_import_env;

struct wh_template {
    uint32_t magic;
    wh_engine *engine; /* borrowed */
    wasmtime_instance_pre_t *pre;
    wh_import_env *envs;
};

struct wh_instance {
    uint32_t magic;
    bool epochs;
    bool ready; /* the start function is over: `memory` is known */
    bool has_memory;
    bool dead;       /* ended by anything but a return */
    bool immortal;   /* tests/spec calls on after a trap */
    bool owns_store; /* always, but in tests/spec */
    uint32_t depth;  /* calls into the guest that are under way */
    wasmtime_store_t *store;
    wasmtime_context_t *context;
    wasmtime_instance_t instance;
    wasmtime_memory_t memory;
    /* The memory as it was when the limiter had counted `seen_bytes`: it changes by growth only, which the
     * limiter sees first. Asking the engine at every call would cost as much as the call. */
    uint8_t *mem;
    size_t mem_bytes;
    uint64_t seen_bytes;
    void *user;
    wh_shim_limits limits;
    /* Why a host function ended the guest, until the call that it interrupts has returned. */
    wh_host_result ending;
    int exit_code;
    const char *ending_msg;
};

/* config.c */
int wh_wasmtime_engine_new(const wh_engine_config *config, wh_engine **ret, wh_err *err);
void wh_wasmtime_engine_free(wh_engine *engine);
void wh_wasmtime_tick(wh_engine *engine);

/* module.c */
int wh_wasmtime_compile(wh_engine *engine, const void *wasm, size_t n, void **ret, size_t *ret_n,
                        wh_err *err);
int wh_wasmtime_load(wh_engine *engine, int fd, wh_module **ret, wh_err *err);
void wh_wasmtime_unload(wh_module *module);
void wh_wasmtime_image(const wh_module *module, const void **ret_base, size_t *ret_bytes);
int wh_wasmtime_describe(const wh_module *module,
                         int (*each)(void *user, bool import, const wh_type_names *type), void *user);
/* Whether the engine's words are about code that was made for others: another version, profile or CPU. */
bool wh_wasmtime_says_stale(const char *text);
/* "(iiI)i" of a function type. 1,000 parameters and 1,000 results are the most that a module can have. */
#define WH_SIG_BYTES 2008
void wh_wasmtime_sig(const wasm_functype_t *type, char out[WH_SIG_BYTES]);

/* template.c */
int wh_wasmtime_template_new(wh_engine *engine, wh_module *module, const wh_import *imports, size_t n,
                             wh_template **ret, wh_err *err);
void wh_wasmtime_template_free(wh_template *tmpl);

/* instance.c */
int wh_wasmtime_instance_new(wh_template *tmpl, const wh_guest_limits *limits, void *user, wh_instance **ret,
                             wh_outcome *outcome, wh_err *err);
void wh_wasmtime_instance_free(wh_instance *instance);
int wh_wasmtime_func(wh_instance *instance, const char *name, const char *sig, wh_func *ret, wh_err *err);
wh_end wh_wasmtime_call(wh_instance *instance, const wh_func *func, wh_slot *io, size_t n,
                        uint32_t deadline_ticks, wh_outcome *outcome);
int wh_wasmtime_memory(wh_instance *instance, uint8_t **ret_base, size_t *ret_bytes);
uint64_t wh_wasmtime_memory_peak(const wh_instance *instance);

/* The instance whose guest runs on this thread; asking the engine for it costs a fifth of a host call. */
extern _Thread_local wh_instance *wh_wasmtime_running;

/* After this mem and mem_bytes are true, until the guest runs again. */
static inline void wh_wasmtime_see_memory(wh_instance *instance)
{
    if (__builtin_expect(instance->seen_bytes == instance->limits.memory_bytes, 1))
        return;
    instance->mem = wasmtime_memory_data(instance->context, &instance->memory);
    instance->mem_bytes = wasmtime_memory_data_size(instance->context, &instance->memory);
    instance->seen_bytes = instance->limits.memory_bytes;
}

/* outcome.c: says how a call ended. Consumes trap and error, of which at least one is set. */
wh_end wh_wasmtime_outcome(wh_instance *instance, wasm_trap_t *trap, wasmtime_error_t *error,
                           wh_outcome *outcome);
/* The sentence of an error, without its backtrace, cut to fit. Consumes it. */
void wh_wasmtime_error_text(wasmtime_error_t *error, char *out, size_t bytes);
