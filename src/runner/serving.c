/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/serving.h"

#include "base/file.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

/* Whoever stops us knows the grace and kills us after it. */
#define DRAIN_TIME WH_HOUR

wh_serve_limits wh_serving_limits(const wh_runspec *spec)
{
    const wh_runspec_serve *from = &spec->serve;
    return (wh_serve_limits){
        .at_once = from->at_once,
        .queue = from->queue,
        .queue_time = from->queue_time,
        .request_time = from->time,
        .reuse = from->reuse,
        .idle_time = from->idle,
        .memory_bytes = spec->memory_bytes_max,
        .body_bytes = from->body_bytes_max,
    };
}

int wh_serving_write(void *user, int stream, const void *p, size_t n)
{
    wh_serving *s = user;
    int rc;
    (void)pthread_mutex_lock(&s->log_lock);
    if (s->base->log != NULL)
        rc = wh_stop_log_write(s->base->log, stream, p, n);
    else
        rc = wh_write_all(stream, p, n);
    (void)pthread_mutex_unlock(&s->log_lock);
    return rc;
}

static void log_line(void *user, const char *line)
{
    (void)wh_serving_write(user, STDERR_FILENO, line, strlen(line));
}

/* From here on no guest's line comes between. */
static void lock_log(wh_serving *s)
{
    (void)pthread_mutex_lock(&s->log_lock);
}

static void on_idle(void *user)
{
    lock_log(user);
    wh_stop_idle();
}

static void on_drained(void *user)
{
    lock_log(user);
    wh_stop_end(0, "Completed", "", 0);
}

static void drain(wh_serving *s, wh_time grace)
{
    if (s->stopping)
        return;
    s->stopping = true;
    wh_serve_drain(s->serve, grace);
}

static void on_byte(wh_serving *s, int signo)
{
    wh_time grace;
    if (signo == SIGUSR1) {
        lock_log(s);
        int channel = -1;
        bool asked = wh_stop_messages(&grace, &channel);
        (void)pthread_mutex_unlock(&s->log_lock);
        if (channel >= 0 && s->on_channel != NULL)
            s->on_channel(s->user, channel);
        else if (channel >= 0)
            close(channel);
        if (asked)
            drain(s, grace);
    } else if (s->stopping) { /* asked twice: now */
        lock_log(s);
        wh_stop_end(128 + signo, "Stopped", "ended by a second stop request", 0);
    } else {
        drain(s, DRAIN_TIME);
    }
}

static void on_signals(wh_io *io, WH_UNUSED uint32_t ready)
{
    wh_serving *s = io->user;
    unsigned char bytes[64];
    ssize_t n = read(io->fd, bytes, sizeof(bytes));
    for (ssize_t i = 0; i < n; i++)
        on_byte(s, bytes[i]);
}

int wh_serving_init(wh_serving *s, wh_runner *base, wh_err *err)
{
    s->base = base;
    wh_assert(pthread_mutex_init(&s->log_lock, NULL) == 0);
    if (pipe2(s->pipe, O_CLOEXEC | O_NONBLOCK) < 0)
        return wh_fail(err, -errno, "make a pipe for signals");
    int rc = wh_loop_new(&s->loop, err);
    if (rc == 0)
        rc = wh_io_start(s->loop, &s->io, s->pipe[0], EPOLLIN, on_signals, s);
    if (rc == 0 && base->spec->serve.tls_cert_fd > 0)
        rc = wh_runner_tls_server(base->spec, &s->tls, err);
    return rc;
}

void wh_serving_begin(wh_serving *s, const wh_serve_backend *backend, wh_sandbox_kind kind)
{
    wh_err err = {0};
    const wh_runspec *spec = s->base->spec;
    const wh_serve_config config = {
        .limits = wh_serving_limits(spec),
        .listen_fds = spec->listen_fds,
        .n_listen = spec->n_listen,
        .tls = s->tls,
        .on_idle = on_idle,
        .on_drained = on_drained,
        .log = log_line,
        .user = s,
        .access_log = spec->serve.access_log,
    };
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < spec->n_listen; i++) {
        int flags = fcntl(spec->listen_fds[i], F_GETFL);
        if (flags < 0 || fcntl(spec->listen_fds[i], F_SETFL, flags | O_NONBLOCK) < 0)
            rc = wh_fail(&err, -errno, "prepare listening socket %zu", i);
    }
    if (rc == 0)
        rc = wh_serve_start(s->loop, &config, backend, &s->serve, &err);
    if (rc == 0)
        rc = wh_sandbox_lock(&s->base->box, kind, &err);
    if (rc < 0)
        wh_runner_fail(s->base, &err);
    wh_stop_serving(s->pipe[1]);
    wh_stop_running(s->base->box.weaker);
}
