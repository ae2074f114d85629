/* SPDX-License-Identifier: Apache-2.0 */
/* Components: wasi:cli commands run to their end, wasi:http services are served. */
#include "runner/body.h"
#include "runner/serving.h"

#include "base/file.h"
#include "base/limits.h"
#include "serve/component.h"
#include "serve/outside.h"

#include <signal.h>
#include <stdio.h>

typedef struct runner {
    wh_runner *base;
    const wh_runspec *spec;
    wh_serving serving; /* of a command only the loop and the log */
    wh_engine *engine;
    wh_component_dir dirs[WH_RUNSPEC_DIRS_MAX];
    wh_serve_component *served;
    wh_component *command;
    wh_component_instance *instance;
    wh_outside *outside; /* NULL: nothing is reached, no channel was given */
} runner;

const bool wh_runner_takes_components = true;

/* Instances come and go with requests. */
#define POOL_SLOTS_MAX 256

static bool serves(const runner *r)
{
    return r->spec->serve.mode == WH_RUNSPEC_HTTP;
}

static int make_engine(runner *r, wh_err *err)
{
    const wh_runspec *spec = r->spec;
    uint32_t at_once = spec->serve.at_once > 0 ? spec->serve.at_once : WH_SERVE_AT_ONCE;
    const wh_engine_config config = {
        .profile = spec->profile,
        .stack_bytes_max = spec->stack_bytes_max,
        .memory_bytes_max = spec->memory_bytes_max,
        .pool_slots = serves(r) && at_once <= POOL_SLOTS_MAX ? at_once : 0,
        .pool_memory_max = serves(r) ? spec->memory_bytes_max : 0,
    };
    if ((spec->profile & WH_PROFILE_CM) == 0)
        return wh_fail(err, -ENOEXEC, "the code is no component's: modules are run by wherry-runner.");
    if (spec->serve.mode == WH_RUNSPEC_WAGI || spec->serve.mode == WH_RUNSPEC_STREAM)
        return wh_fail(err, -ENOEXEC, "mode '%s' is for modules; a component serves by itself.",
                       wh_runspec_mode_name(spec->serve.mode));
    return wh_engine_wasmtime.engine_new(&config, &r->engine, err);
}

static void fill_config(runner *r, wh_component_config *config)
{
    const wh_runspec *spec = r->spec;
    for (size_t i = 0; i < spec->n_dirs; i++)
        r->dirs[i] = (wh_component_dir){spec->dirs[i].fd, spec->dirs[i].guest_path, spec->dirs[i].read_only};
    *config = (wh_component_config){
        .args = spec->args,
        .env = spec->env,
        .dirs = r->dirs,
        .n_dirs = spec->n_dirs,
        .stdin_fd = serves(r) ? -1 : STDIN_FILENO,
        .write = wh_serving_write,
        .write_user = &r->serving,
        .limits = {.memory_bytes_max = spec->memory_bytes_max},
        .net = r->outside == NULL ? NULL : wh_outside_net(r->outside),
        .egress = r->outside == NULL ? NULL : wh_outside_egress(r->outside),
    };
}

/* ---- the network ---- */

static void on_channel(void *user, int fd)
{
    runner *r = user;
    wh_err err = {0};
    if (wh_outside_channel(r->outside, fd, &err) < 0)
        wh_runner_say(r->base, "the guest makes no new connections", err.msg);
}

static int reach_out(runner *r, wh_err *err)
{
    const wh_runspec *spec = r->spec;
    auto_free char *roots = NULL;
    size_t n;
    int rc = 0;
    if (spec->ca_fd > 0) {
        rc = wh_read_fd(spec->ca_fd, WH_CA_BYTES_MAX, &roots, &n, err);
        close(spec->ca_fd);
    }
    if (spec->netd_fd <= 0 || rc < 0)
        return rc;
    const wh_outside_options options = {
        .netd_fd = spec->netd_fd, .ca_pem = roots, .tls = wh_runner_tls_client()};
    rc = wh_outside_new(r->serving.loop, &options, &r->outside, err);
    if (rc == 0) {
        r->serving.on_channel = on_channel;
        r->serving.user = r;
    }
    return rc;
}

/* ---- commands ---- */

static void on_wake(void *user);

static void ignore_head(WH_UNUSED void *user, WH_UNUSED unsigned status,
                        WH_UNUSED const wh_component_field *f, WH_UNUSED size_t n)
{
}

static const wh_component_callbacks command_callbacks = {.on_head = ignore_head, .wake = on_wake};

static void poll_command(void *user)
{
    runner *r = user;
    wh_outcome outcome = {0};
    if (wh_component_poll(r->instance) == WH_COMPONENT_PENDING)
        return;
    wh_component_outcome(r->instance, &outcome);
    (void)pthread_mutex_lock(&r->serving.log_lock); /* other threads are done with the log */
    wh_runner_end(r->base, &outcome, wh_component_instance_memory(r->instance));
}

static void on_wake(void *user)
{
    runner *r = user;
    wh_loop_post(r->serving.loop, poll_command, r);
}

static int load_command(runner *r, wh_err *err)
{
    static wh_component_config config;
    fill_config(r, &config);
    config.callbacks = &command_callbacks;
    int rc = wh_component_load(r->engine, r->spec->code_fd, &config, &r->command, err);
    if (rc == 0 && wh_component_kind_of(r->command) != WH_COMPONENT_COMMAND)
        rc = wh_fail(err, -ENOEXEC, "the component answers HTTP and is no command.");
    if (rc == 0 && r->outside != NULL)
        wh_outside_bind(r->outside, r->command);
    return rc < 0 ? rc : wh_component_warm(r->command, err);
}

__attribute__((noreturn)) static void run_command(runner *r)
{
    wh_err err = {0};
    int rc = wh_stop_deadline(r->spec->deadline, &err);
    if (rc == 0)
        rc = wh_sandbox_lock(&r->base->box, WH_SANDBOX_COMPONENT, &err);
    if (rc < 0)
        wh_runner_fail(r->base, &err);
    wh_stop_running(r->base->box.weaker);
    rc = wh_component_instance_new(r->command, r, &r->instance, &err);
    if (rc == 0)
        rc = wh_component_run(r->instance, &err);
    if (rc < 0)
        wh_runner_fail(r->base, &err);
    wh_loop_defer(r->serving.loop, poll_command, r);
    (void)wh_loop_run(r->serving.loop); /* poll_command ends the process */
    wh_runner_fail(r->base, &err);
}

/* ---- services ---- */

static int load_service(runner *r, wh_err *err)
{
    wh_serve_component_config config = {.limits = wh_serving_limits(r->spec)};
    fill_config(r, &config.component);
    int rc = wh_serve_component_new(r->serving.loop, r->engine, r->spec->code_fd, &config, &r->served, err);
    if (rc == 0 && r->outside != NULL)
        wh_outside_bind(r->outside, wh_serve_component_of(r->served));
    return rc;
}

__attribute__((noreturn)) static void serve(runner *r)
{
    wh_err err = {0};
    wh_serve_backend backend;
    wh_serve_component_backend(r->served, &backend);
    wh_serving_begin(&r->serving, &backend, WH_SANDBOX_COMPONENT);
    (void)wh_loop_run(r->serving.loop); /* the callbacks of `serving` end the process */
    wh_runner_fail(r->base, &err);
}

/* With our signals blocked, which the engine's threads inherit: they are for this thread. */
static int load(runner *r, wh_err *err)
{
    static const int ours[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGALRM, SIGUSR1};
    sigset_t set, old;
    (void)sigemptyset(&set);
    for (size_t i = 0; i < WH_ARRAY_LEN(ours); i++)
        (void)sigaddset(&set, ours[i]);
    (void)sigaddset(&set, r->spec->stop_signal);
    (void)pthread_sigmask(SIG_BLOCK, &set, &old);
    int rc = wh_serving_init(&r->serving, r->base, err);
    if (rc == 0)
        rc = reach_out(r, err);
    if (rc == 0)
        rc = make_engine(r, err);
    if (rc == 0)
        rc = serves(r) ? load_service(r, err) : load_command(r, err);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}

void wh_runner_body(wh_runner *base)
{
    static runner r;
    wh_err err = {0};
    r.base = base;
    r.spec = base->spec;
    if (load(&r, &err) < 0)
        wh_runner_fail(base, &err);
    close(r.spec->code_fd);
    if (serves(&r))
        serve(&r);
    run_command(&r);
}
