/* SPDX-License-Identifier: Apache-2.0 */
/* A guest on its thread: standard input and output are buffers that the loop fills and empties. */
#include "serve/command_private.h"

#include <fcntl.h>
#include <stdio.h>

#define OUT_BYTES_NOTICE (WH_SERVE_OUT_BYTES_MAX / 2)

static ssize_t guest_read(void *user, void *data, size_t n)
{
    job *j = user;
    wh_serve_command *c = j->c;
    ssize_t got = 0;
    (void)pthread_mutex_lock(&c->lock);
    while (j->in_at == j->in.len && !j->in_end && !j->cancelled) {
        wh_command_block(j);
        (void)pthread_cond_wait(&j->more, &c->lock);
        wh_command_unblock(j);
    }
    if (j->cancelled) {
        got = -ECANCELED;
    } else {
        got = (ssize_t)WH_MIN(n, j->in.len - j->in_at);
        if (got > 0)
            memcpy(data, j->in.p + j->in_at, (size_t)got);
        j->in_at += (size_t)got;
        if (j->in_at == j->in.len) {
            wh_buf_reset(&j->in);
            j->in_at = 0;
        }
        if (j->in_paused && j->in.len - j->in_at <= WH_SERVE_IN_BYTES_MAX / 2)
            wh_command_notice(j);
    }
    (void)pthread_mutex_unlock(&c->lock);
    return got;
}

static int write_out(job *j, const char *p, size_t n)
{
    wh_serve_command *c = j->c;
    int rc = 0;
    (void)pthread_mutex_lock(&c->lock);
    while (rc == 0 && n > 0) {
        while (j->out.len >= WH_SERVE_OUT_BYTES_MAX && !j->cancelled) {
            wh_command_notice(j);
            wh_command_block(j);
            (void)pthread_cond_wait(&j->more, &c->lock);
            wh_command_unblock(j);
        }
        size_t room = j->out.len < WH_SERVE_OUT_BYTES_MAX ? WH_SERVE_OUT_BYTES_MAX - j->out.len : 0;
        size_t part = WH_MIN(n, room);
        rc = j->cancelled ? -ECANCELED : wh_buf_append(&j->out, p, part);
        p += part;
        n -= part;
    }
    if (j->out.len >= OUT_BYTES_NOTICE)
        wh_command_notice(j);
    (void)pthread_mutex_unlock(&c->lock);
    return rc;
}

static int guest_write(void *user, int stream, const void *data, size_t n)
{
    job *j = user;
    const wh_serve_command_config *config = &j->c->config;
    return stream == 1 ? write_out(j, data, n) : config->write(config->write_user, stream, data, n);
}

/* Asked before each wait of the guest. */
static bool guest_waits(void *user)
{
    job *j = user;
    (void)pthread_mutex_lock(&j->c->lock);
    wh_command_block(j);
    bool cancelled = j->cancelled;
    (void)pthread_mutex_unlock(&j->c->lock);
    return cancelled;
}

static int add_dirs(const wh_serve_command_config *config, wh_wasi *wasi, wh_err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < config->n_dirs; i++) {
        const wh_serve_dir *dir = &config->dirs[i];
        int fd = fcntl(dir->fd, F_DUPFD_CLOEXEC, 3);
        rc = fd < 0 ? wh_fail(err, -errno, "open directory '%s' for a request", dir->guest_path)
                    : wh_wasi_preopen_dir(wasi, fd, dir->guest_path, dir->read_only, err);
    }
    return rc;
}

static int make_wasi(job *j, wh_wasi **ret, wh_err *err)
{
    const wh_serve_command_config *config = &j->c->config;
    const wh_wasi_config wasi = {
        .args = j->args != NULL ? j->args : config->args,
        .env = j->env.v,
        .stdin_fd = -1,
        .stdout_fd = -1,
        .stderr_fd = -1,
        .write = guest_write,
        .write_user = j,
        .read = guest_read,
        .read_user = j,
        .trace_fd = config->trace_fd,
        .interrupted = guest_waits,
        .interrupted_user = j,
    };
    int rc = wh_wasi_new(&wasi, ret, err);
    return rc < 0 ? rc : add_dirs(config, *ret, err);
}

static void take_outcome(job *j, const wh_outcome *outcome)
{
    j->end = outcome->end;
    j->exit_code = outcome->exit_code;
    if (outcome->end == WH_END_TRAP)
        (void)snprintf(j->msg, sizeof(j->msg), "%s%.300s",
                       outcome->memory_refused ? "after its memory could not grow: " : "", outcome->msg);
}

static void call_start(job *j, wh_instance *instance)
{
    const wh_engine_ops *ops = j->c->config.ops;
    wh_err err = {0};
    wh_func func;
    wh_slot io[1];
    wh_outcome outcome;
    wh_time left = WH_MAX(j->deadline - wh_mono_now(), (wh_time)0);
    uint32_t ticks = (uint32_t)WH_MIN(left / WH_SERVE_TICK + 2, (wh_time)UINT32_MAX);
    int rc = ops->func(instance, "_start", "()", &func, &err);
    if (rc < 0) {
        j->end = WH_END_TRAP;
        (void)snprintf(j->msg, sizeof(j->msg), "%s", err.msg);
        return;
    }
    outcome.memory_refused = false;
    outcome.exit_code = 0;
    outcome.end = ops->call(instance, &func, io, 0, ticks, &outcome);
    take_outcome(j, &outcome);
}

void wh_command_guest(job *j)
{
    const wh_serve_command_config *config = &j->c->config;
    wh_err err = {0};
    wh_wasi *wasi = NULL;
    wh_instance *instance = NULL;
    wh_outcome outcome;
    const wh_guest_limits limits = {
        .memory_bytes_max = config->limits.memory_bytes,
        .start_ticks = (uint32_t)(WH_SEC / WH_SERVE_TICK),
    };
    int rc = make_wasi(j, &wasi, &err);
    if (rc == 0)
        rc = config->ops->instance_new(config->template, &limits, wasi, &instance, &outcome, &err);
    if (rc == 0) {
        call_start(j, instance);
        config->ops->instance_free(instance);
    } else {
        j->end = WH_END_TRAP;
        (void)snprintf(j->msg, sizeof(j->msg), "%s", err.msg);
    }
    wh_wasi_free(wasi);
}
