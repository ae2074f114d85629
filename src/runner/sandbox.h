/* SPDX-License-Identifier: Apache-2.0 */
/* How a runner locks itself in, in the order of the calls. Everything binds the calling thread and what it
 * makes, so it stands before any thread; layers only narrow, so nothing here can be undone. */
#pragma once

#include "runner/spec.h"

/* What is to be locked in, from loose to strict: a component's runtime has threads, and opens a guest's directories by
 * path; what serves has threads and connections. */
typedef enum {
    WH_SANDBOX_COMMAND,   /* a core module that runs to its end */
    WH_SANDBOX_SERVE,     /* core modules behind HTTP */
    WH_SANDBOX_COMPONENT, /* a component, whatever it does */
} wh_sandbox_kind;

typedef struct wh_sandbox {
    bool off, component, files;
    int landlock_abi; /* 0: the kernel has none */
    char weaker
        [200]; /* what is missing, for people: "no Landlock, no pid namespace"; empty when all is there */
    bool weaker_much; /* files or system calls are open that should not be */
} wh_sandbox;

/* No dumps, no new privileges, and the filter for the time until the guest begins: the runner's first act. The program
 * says whether it is the one for components; the rest is known later. */
int wh_sandbox_begin(wh_sandbox *box, bool component, bool off, wh_err *err);
/* Landlock: these directories and nothing else; no TCP; signals and abstract sockets inside only. Where the
 * kernel has none: -EOPNOTSUPP, or a remark when `optional`. */
int wh_sandbox_files(wh_sandbox *box, const wh_runspec_dir *dirs, size_t n, bool optional, wh_err *err);
/* Seals our own code, refuses executable memory, and loads the filter for the time of the guest, for all threads. */
int wh_sandbox_lock(wh_sandbox *box, wh_sandbox_kind kind, wh_err *err);

/* The steps alone, for tests. */
int wh_sandbox_filter_load(bool component);
int wh_sandbox_filter_guest(wh_sandbox_kind kind, bool files);
