/* SPDX-License-Identifier: Apache-2.0 */
/* WASI preview 1 for one guest, as an import table for any engine: 46 functions over a table of descriptors.
 * Source: the wasi_snapshot_preview1 witx documents; where they are silent, what Wasmtime does. */
#pragma once

#include "base/buf.h"
#include "engine/engine.h"

typedef struct wh_wasi wh_wasi;

/* A log stream's writer: takes all n bytes, or blocks until it can; a negative errno becomes the guest's
 * errno. */
typedef int (*wh_wasi_write_fn)(void *user, int stream, const void *data, size_t n);
/* Standard input's source: up to n bytes, 0 at its end; blocks until there is one, or a negative errno. */
typedef ssize_t (*wh_wasi_read_fn)(void *user, void *data, size_t n);

typedef struct wh_wasi_config {
    char *const *args; /* argv; copied */
    char *const *env;  /* NAME=VALUE; copied */
    int stdin_fd;      /* -1: always at its end. Descriptors stay the caller's and must outlive the wh_wasi */
    int stdout_fd, stderr_fd;
    /* When set, streams 1 and 2 go here instead of to a descriptor. */
    wh_wasi_write_fn write;
    void *write_user;
    /* When set, stream 0 comes from here instead of from stdin_fd; a poll finds it readable. -ECANCELED of either
     * function ends the guest as `interrupted` does. */
    wh_wasi_read_fn read;
    void *read_user;
    /* Where --trace lines go, or -1. One line per call: name(arguments) = result <microseconds>. */
    int trace_fd;
    /* Asked before each wait, and again whenever a signal ended one; true ends the guest with WH_HOST_EXIT
     * and code 143 (128 + SIGTERM; who asked may put another in its place). Set by a signal handler, it is
     * never seen too late: signals are held back between the question and the wait. NULL: never. */
    bool (*interrupted)(void *user);
    void *interrupted_user;
} wh_wasi_config;

/* SIGPIPE and SIGXFSZ must be ignored by the process, so that they reach the guest as errors. */
int wh_wasi_new(const wh_wasi_config *config, wh_wasi **ret, wh_err *err);
void wh_wasi_free(wh_wasi *wasi);

/* Preopens. Each becomes the next descriptor from 3 on; directories first, then sockets and the stop
 * descriptor, since libc looks for preopens from 3 until the first descriptor that is none. The fd is taken
 * over, also on failure. A folder's may be O_PATH; a listener becomes non-blocking. `read_only` refuses with
 * EPERM whatever would change something beneath (the kernel should too: a read-only mount, Landlock). */
int wh_wasi_preopen_dir(wh_wasi *wasi, int fd, const char *guest_path, bool read_only, wh_err *err);
int wh_wasi_preopen_listener(wh_wasi *wasi, int fd, int *ret_guest_fd, wh_err *err);
/* A descriptor that becomes readable when `fd` does, and reads what `fd` reads ("TERM\n", then its end). The
 * first time a guest polls or reads it, it has said that it ends by itself: wh_wasi_stop_claimed. */
int wh_wasi_preopen_stop(wh_wasi *wasi, int fd, int *ret_guest_fd, wh_err *err);
bool wh_wasi_stop_claimed(const wh_wasi *wasi);

/* The import table of the modules "wasi_snapshot_preview1" and "wasi_unstable". The instance's `user` must be a
 * `wh_wasi *`, or point to a struct whose first member is one. Static. */
const wh_import *wh_wasi_imports(size_t *ret_n);

/* Restricts paths by hand where the kernel has no openat2: for tests. */
void wh_wasi_force_path_fallback(bool on);
