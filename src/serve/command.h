/* SPDX-License-Identifier: Apache-2.0 */
/* Serves with WASI preview 1 commands: an instance per request, body on standard input, answer on standard output
 * (cgi.h). A guest runs synchronously, so it holds a thread; who serves is any of a few threads, of which one at a time
 * has the loop. A guest that ends quickly runs on the thread that read its request, and no other one is woken; when it
 * waits, or computes for longer than a tick, another thread takes the loop over. */
#pragma once

#include "engine/engine.h"
#include "serve/serve.h"

typedef struct wh_serve_command wh_serve_command;

typedef struct wh_serve_dir { /* a preopened directory; borrowed */
    const char *guest_path;
    int fd;
    bool read_only;
} wh_serve_dir;

typedef struct wh_serve_command_config { /* all it points to must outlive the object */
    wh_serve_mode mode;                  /* WAGI or STREAM */
    const wh_engine_ops *ops;
    wh_engine *engine; /* of the shared profile */
    wh_template *template;
    wh_serve_limits limits;
    uint64_t stack_bytes;           /* of a guest; 0: the engine's default */
    char *const *args, *const *env; /* STREAM: argv; WAGI has the path and the query there */
    const wh_serve_dir *dirs;
    size_t n_dirs;
    /* Standard error of guests, whole writes, from any thread. */
    int (*write)(void *user, int stream, const void *p, size_t n);
    void *write_user;
    int trace_fd; /* -1: none */
} wh_serve_command_config;

/* Takes SIGUSR2, which ends the waits of guests whose time is over. */
int wh_serve_command_new(wh_loop *loop, const wh_serve_command_config *config, wh_serve_command **ret,
                         wh_err *err);
void wh_serve_command_backend(wh_serve_command *c, wh_serve_backend *ret);
/* Runs the loop and the guests, instead of wh_loop_run, until wh_serve_command_stop: returns its code. */
int wh_serve_command_run(wh_serve_command *c);
void wh_serve_command_stop(wh_serve_command *c, int code);
void wh_serve_command_free(wh_serve_command *c);        /* after _run; what still runs is ended */
uint32_t wh_serve_command_threads(wh_serve_command *c); /* there are, for tests */
