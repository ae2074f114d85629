/* SPDX-License-Identifier: Apache-2.0 */
/* Wasmtime behind the seam. */
#include "engine/wasmtime/internal.h"

#ifdef WASMTIME_FEATURE_COMPILER
#define CAP_COMPILE WH_CAP_COMPILE
#else
#define CAP_COMPILE 0
#endif

const wh_engine_ops wh_engine_wasmtime = {
    .name = "wasmtime",
    .version = WASMTIME_VERSION,
    .caps = WH_CAP_DEADLINE | WH_CAP_POOL | CAP_COMPILE,
    .engine_new = wh_wasmtime_engine_new,
    .engine_free = wh_wasmtime_engine_free,
    .tick = wh_wasmtime_tick,
    .thread_init = wh_shim_thread_init,
    .compile = wh_wasmtime_compile,
    .load = wh_wasmtime_load,
    .unload = wh_wasmtime_unload,
    .image = wh_wasmtime_image,
    .describe = wh_wasmtime_describe,
    .template_new = wh_wasmtime_template_new,
    .template_free = wh_wasmtime_template_free,
    .instance_new = wh_wasmtime_instance_new,
    .instance_free = wh_wasmtime_instance_free,
    .func = wh_wasmtime_func,
    .call = wh_wasmtime_call,
    .memory = wh_wasmtime_memory,
    .memory_peak = wh_wasmtime_memory_peak,
};
