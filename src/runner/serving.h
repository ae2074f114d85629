/* SPDX-License-Identifier: Apache-2.0 */
/* What a runner that serves has around its backend: loop, sockets, log, stop and idleness. */
#pragma once

#include "engine/component.h"
#include "runner/body.h"
#include "serve/command.h"
#include "serve/serve.h"

#include <pthread.h>

typedef struct wh_serving {
    wh_runner *base;
    wh_loop *loop;
    wh_serve *serve;
    wh_tls_server *tls;
    int pipe[2]; /* signals, as bytes */
    wh_io io;
    pthread_mutex_t log_lock; /* guests write from several threads */
    bool stopping;
    /* A message that is not serving's own: a new channel of netd. Takes the descriptor; NULL: it is closed. */
    void (*on_channel)(void *user, int fd);
    void *user;
} wh_serving;

wh_serve_limits wh_serving_limits(const wh_runspec *spec);
/* Before the guest is loaded, since the sandbox allows less afterwards. */
int wh_serving_init(wh_serving *s, wh_runner *base, wh_err *err);
/* Opens the doors, loads the last lock and says op=running. Ends the process on a failure. */
void wh_serving_begin(wh_serving *s, const wh_serve_backend *backend, wh_sandbox_kind kind);
/* Output of guests, streams 1 and 2, to the container's log; `user` is the wh_serving. From any thread. */
int wh_serving_write(void *user, int stream, const void *p, size_t n);

/* tls.c, or no_tls.c in a program without OpenSSL (-ENOTSUP). */
int wh_runner_tls_server(const wh_runspec *spec, wh_tls_server **ret, wh_err *err);
const struct wh_tls_client_ops *wh_runner_tls_client(void); /* NULL: no https */
