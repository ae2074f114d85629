/* SPDX-License-Identifier: Apache-2.0 */
/* The C face of the shim (src/lib.rs): what Wasmtime's C API lacks. A call that can fail returns 0 or -1 and
 * leaves a sentence in `message`; none of them panics or aborts on a bad input. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wasmtime.h>

/* Where a sentence goes: `bytes` writable bytes, always terminated. */
typedef struct wh_shim_message {
    char *text;
    size_t bytes;
} wh_shim_message;

/* What a store may take, and has taken, of all its memories and tables together. */
typedef struct wh_shim_limits {
    uint64_t memory_bytes_max, table_elems_max;
    uint64_t memory_bytes, table_elems;
    uint64_t refused; /* growths that were refused for want of room */
} wh_shim_limits;

/* Consumes `config`, also on failure. `version` (UTF-8, at most 255 bytes) tags the files that the engine
 * writes and is the only tag that it loads. `lines`: file names and line numbers in backtraces, from the
 * guest's DWARF sections. */
int wh_shim_engine_new(wasm_config_t *config, const char *version, size_t version_bytes, bool lines,
                       wasm_engine_t **ret, const wh_shim_message *message);

/* Maps a compiled file, which is trusted. Consumes `fd`, also on failure. */
int wh_shim_module_load_fd(const wasm_engine_t *engine, int fd, wasmtime_module_t **ret,
                           const wh_shim_message *message);

/* wh_component_load of engine/component.h, with `epochs`: the profile has deadlines. Consumes `fd`, also on
 * failure. 0, or a negative errno; the sentence is in `message`. In the set `components` only. */
struct wh_component;
struct wh_component_config;
int wh_shim_component_load(const wasm_engine_t *engine, int fd, const struct wh_component_config *config,
                           bool epochs, struct wh_component **ret, const wh_shim_message *message);

/* Puts a store under `limits`, which outlive it. */
void wh_shim_store_limit(wasmtime_store_t *store, wh_shim_limits *limits);

/* Maps now what the first call into a guest on this thread would map. */
void wh_shim_thread_init(void);

#ifdef WASMTIME_FEATURE_COMPILER
/* *ret is freed by wasm_byte_vec_delete. */
int wh_shim_precompile(const wasm_engine_t *engine, const uint8_t *wasm, size_t n, wasm_byte_vec_t *ret,
                       const wh_shim_message *message);
int wh_shim_precompile_component(const wasm_engine_t *engine, const uint8_t *wasm, size_t n,
                                 wasm_byte_vec_t *ret, const wh_shim_message *message);
#endif
