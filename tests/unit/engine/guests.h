/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine's tests share: guests from a folder, compiled in memory, and the host that they call. */
#pragma once

#include "engine/engine.h"

#define ops (&wh_engine_wasmtime)

typedef struct wh_rig {
    wh_engine *engine;
    wh_module *module;
    wh_template *tmpl;
    wh_instance *instance;
} wh_rig;

/* What the host functions of host.wat were told; the instance's user points here. */
typedef struct wh_host_log {
    char put[64];
    size_t mem_bytes;
    double mixed;
    wh_instance *instance; /* for "reenter" */
    wh_outcome nested;
} wh_host_log;
extern const wh_import host_imports[];
extern const size_t host_imports_n;

wh_engine *engine_of(unsigned profile);
/* Reads a file of the folder that $GUESTS names; the caller's to free. */
void *guest_bytes(const char *file, size_t *ret_n);
/* Compiles to a sealed descriptor. */
int compiled_bytes(wh_engine *engine, const void *wasm, size_t n);
int compiled(wh_engine *engine, const char *file);
int fd_of(const void *data, size_t n);

/* Engine, module, template and instance in one; each step must succeed. */
wh_rig rig_up(unsigned profile, const char *file, const wh_guest_limits *limits, void *user);
wh_rig rig_up_bytes(unsigned profile, const void *wasm, size_t n);
void rig_down(wh_rig *rig);
wh_func export_of(wh_instance *instance, const char *name, const char *sig);
/* Calls an export without deadline. */
wh_end call(wh_instance *instance, const char *name, wh_slot *io, size_t n, wh_outcome *outcome);
