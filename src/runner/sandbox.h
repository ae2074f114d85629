/* SPDX-License-Identifier: Apache-2.0 */
/* How a runner locks itself in, in the order of the calls. Everything binds the calling thread and what it
 * makes, so it stands before any thread; layers only narrow, so nothing here can be undone. */
#pragma once

#include "runner/spec.h"

typedef struct wh_sandbox {
    bool off;
    int landlock_abi; /* 0: the kernel has none */
    char weaker
        [200]; /* what is missing, for people: "no Landlock, no pid namespace"; empty when all is there */
    bool weaker_much; /* files or system calls are open that should not be */
} wh_sandbox;

/* No dumps, no new privileges, and the filter for the time until the guest begins: the runner's first act. */
int wh_sandbox_begin(wh_sandbox *box, bool off, wh_err *err);
/* Landlock: these directories and nothing else; no TCP; signals and abstract sockets inside only. Where the
 * kernel has none: -EOPNOTSUPP, or a remark when `optional`. */
int wh_sandbox_files(wh_sandbox *box, const wh_runspec_dir *dirs, size_t n, bool optional, wh_err *err);
/* Seals our own code, refuses executable memory, and loads the filter for the time of the guest. */
int wh_sandbox_lock(wh_sandbox *box, wh_err *err);

/* The steps alone, for tests. */
int wh_sandbox_filter_load(void);
int wh_sandbox_filter_guest(void);
