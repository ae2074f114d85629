/* SPDX-License-Identifier: Apache-2.0 */
/* The seam: what we ask of a Wasm engine for core modules. src/abi/ is written against this page only, so
 * that guests behave the same on every engine. Slots have the layout of Wasmtime's raw values. */
#pragma once

#include "base/err.h"

typedef union wh_slot { /* 16 bytes, whatever the type */
    int32_t i32;
    int64_t i64;
    float f32;
    double f64;
    uint8_t v128[16];
} wh_slot;

/* Types as one character each: i = i32, I = i64, f = f32, F = f64, V = v128, r = a reference. A signature is
 * "(params)results": "(iiI)i". */

typedef enum {
    WH_CAP_DEADLINE = 1, /* a call can end at a tick */
    WH_CAP_COMPILE = 2,  /* this build can compile */
    WH_CAP_POOL = 4,
} wh_engine_cap;

/* How code was compiled, and therefore how it must be loaded. */
typedef enum {
    WH_PROFILE_POD,    /* no epoch checks: a deadline ends the process */
    WH_PROFILE_SHARED, /* epoch checks: a deadline ends the call */
} wh_profile;
#define WH_PROFILE_GC 0x10 /* or-ed in: garbage collection, exceptions, typed function references */
#define WH_PROFILE_CM 0x20 /* or-ed in: components (engine/component.h); `compile` then takes nothing else */
/* "pod", "shared", each alone and with "+gc" or "+cm"; NULL for no profile. */
const char *wh_profile_name(unsigned profile);
int wh_profile_parse(const char *name, unsigned *ret); /* -EINVAL */

/* What compiled code is tied to besides the CPU: engine version, profile and revision of our settings, as in
 * "48.0.8+pod+1". Part of a store's key; the engine also writes it into each file and loads no other. Known
 * without an engine at hand. */
const char *wh_engine_tag(unsigned profile); /* NULL for no profile */

typedef struct wh_engine_config {
    unsigned profile;
    uint64_t
        stack_bytes_max; /* of the guest; 0: 512 KiB; at most 2 MiB, and the calling thread must have it */
    uint32_t pool_slots; /* 0: memories are mapped on demand */
    uint64_t pool_memory_max;  /* of each slot */
    uint64_t memory_bytes_max; /* what a guest may grow to; a hint for reserving room. 0: no hint */
} wh_engine_config;

typedef enum {
    WH_END_OK,
    WH_END_EXIT,     /* the guest asked for its end: exit_code */
    WH_END_TRAP,     /* trap, msg */
    WH_END_DEADLINE, /* shared profile only */
} wh_end;

typedef enum {
    WH_TRAP_NONE,
    WH_TRAP_UNREACHABLE,
    WH_TRAP_STACK_OVERFLOW,
    WH_TRAP_MEMORY_BOUNDS,
    WH_TRAP_HEAP_MISALIGNED,
    WH_TRAP_TABLE_BOUNDS,
    WH_TRAP_INDIRECT_NULL,
    WH_TRAP_BAD_SIGNATURE,
    WH_TRAP_INTEGER_OVERFLOW,
    WH_TRAP_DIVISION_BY_ZERO,
    WH_TRAP_BAD_CONVERSION,
    WH_TRAP_NULL_REFERENCE,
    WH_TRAP_ARRAY_BOUNDS,
    WH_TRAP_CAST,
    WH_TRAP_OUT_OF_MEMORY, /* the engine could not allocate on the guest's behalf */
    WH_TRAP_EXCEPTION,     /* an uncaught Wasm exception */
    WH_TRAP_HOST,          /* a host function refused */
    WH_TRAP_OTHER,
} wh_trap;
const char *wh_trap_name(wh_trap trap); /* "unreachable", "call stack exhausted", ... for messages */

typedef struct wh_outcome {
    wh_end end;
    wh_trap trap;
    int exit_code;
    bool memory_refused; /* with any end but OK: a growth of memory or of a table had been refused before */
    char msg[1024];      /* the trap in words, and a symbolised backtrace, one frame a line */
} wh_outcome;

/* What a host function sees of its caller. The memory may grow whenever the guest runs: the frame is valid
 * for this one call, and until the host function itself calls back into the guest (then ask `memory` again).
 * mem is NULL when the guest exports no memory "memory". */
typedef struct wh_frame {
    uint8_t *mem;
    size_t mem_bytes;
    void *user;      /* the instance's */
    int exit_code;   /* set before returning WH_HOST_EXIT */
    const char *msg; /* static text, set before returning WH_HOST_TRAP */
} wh_frame;
typedef enum { WH_HOST_OK, WH_HOST_EXIT, WH_HOST_TRAP } wh_host_result;

/* Arguments come in io[0..], results go to io[0..]. Never longjmps. */
typedef wh_host_result (*wh_host_fn)(wh_frame *frame, wh_slot *io, void *env);
typedef struct wh_import {
    const char *module, *name, *sig;
    wh_host_fn fn;
    void *env; /* of the template, shared by all instances; often NULL */
} wh_import;

typedef struct wh_guest_limits {
    uint64_t memory_bytes_max; /* all linear memories together fail to grow past it; 0: 4 GiB */
    uint32_t table_elems_max;  /* of all tables together; 0: 1,000,000 */
    uint32_t start_ticks;      /* deadline of the start function, shared profile only; 0: none */
} wh_guest_limits;

typedef struct wh_engine wh_engine;
typedef struct wh_module wh_module;
typedef struct wh_template wh_template; /* a module with its imports resolved; outlives its instances */
typedef struct wh_instance wh_instance; /* one store: memory, globals, tables; dead after any end but OK */
typedef struct wh_func {                /* an export of an instance; valid as long as that */
    uint64_t opaque[2];
} wh_func;

typedef struct wh_type_names {
    const char *module; /* NULL for exports */
    const char *name;
    char kind;       /* 'f' function, 'm' memory, 't' table, 'g' global, 'e' tag */
    const char *sig; /* of functions, else NULL */
} wh_type_names;

typedef struct wh_engine_ops {
    const char *name;    /* "wasmtime" */
    const char *version; /* "48.0.8" */
    unsigned caps;       /* wh_engine_cap */

    /* Never aborts on a setting or a reservation that cannot be had: -EINVAL says which setting. One engine a
     * process is enough. It installs handlers for SIGSEGV, SIGILL, SIGFPE and SIGBUS that pass on what is not
     * a guest's: install others before. */
    int (*engine_new)(const wh_engine_config *config, wh_engine **ret, wh_err *err);
    void (*engine_free)(wh_engine *engine);
    /* Moves the deadline clock one tick; async-signal-safe, from any thread. */
    void (*tick)(wh_engine *engine);
    /* Optional: maps now what this thread's first call into a guest would map. */
    void (*thread_init)(void);

    /* Compiles to bytes for `load`; *ret is the caller's to free(). -ENOTSUP without WH_CAP_COMPILE, -EBADMSG
     * for what is not a valid module, with the engine's reason. */
    int (*compile)(wh_engine *engine, const void *wasm, size_t n, void **ret, size_t *ret_n, wh_err *err);
    /* Maps a compiled file, which must have been authenticated: it is native code. The descriptor stays the
     * caller's. -ESTALE for another version or other settings, -EBADMSG for what is no such file. */
    int (*load)(wh_engine *engine, int fd, wh_module **ret, wh_err *err);
    void (*unload)(wh_module *module);
    /* Where the file is mapped, code and data: what may be sealed. */
    void (*image)(const wh_module *module, const void **ret_base, size_t *ret_bytes);
    /* Calls `each` for every import, then every export; stops when it returns non-zero, and returns that. The
     * strings are valid for that one call; a NUL byte in a name shows as '?'. */
    int (*describe)(const wh_module *module, int (*each)(void *user, bool import, const wh_type_names *type),
                    void *user);

    /* Takes from `imports` what the module wants; each needs its exact signature. -ENOENT names all that are
     * missing at once (as many as fit, and how many more), with what was expected and what is offered under
     * that name. The table is borrowed until template_free. */
    int (*template_new)(wh_engine *engine, wh_module *module, const wh_import *imports, size_t n,
                        wh_template **ret, wh_err *err);
    void (*template_free)(wh_template *tmpl);

    /* Runs the start function. On -EFAULT the outcome says how that ended; -ENOMEM when the guest wants more
     * memory or table room than the limits (or the pool) give. */
    int (*instance_new)(wh_template *tmpl, const wh_guest_limits *limits, void *user, wh_instance **ret,
                        wh_outcome *outcome, wh_err *err);
    void (*instance_free)(wh_instance *instance);
    /* -ENOENT when there is no such export, -EINVAL when its signature differs (both in the sentence). A NULL
     * `sig` takes any. */
    int (*func)(wh_instance *instance, const char *name, const char *sig, wh_func *ret, wh_err *err);
    /* `io` holds n >= max(params, results) slots. deadline_ticks: 0 for none (and always so in the pod
     * profile); a call from inside a host function stays under the outer call's. The guest ends between the
     * (n-1)th and the nth tick. Only outcome->end is written when that is WH_END_OK. */
    wh_end (*call)(wh_instance *instance, const wh_func *func, wh_slot *io, size_t n, uint32_t deadline_ticks,
                   wh_outcome *outcome);
    int (*memory)(wh_instance *instance, uint8_t **ret_base,
                  size_t *ret_bytes); /* the exported "memory"; -ENOENT */
    uint64_t (*memory_peak)(
        const wh_instance *instance); /* bytes of all linear memories; they never shrink */
} wh_engine_ops;

extern const wh_engine_ops wh_engine_wasmtime;
