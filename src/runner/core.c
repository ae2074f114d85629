/* SPDX-License-Identifier: Apache-2.0 */
/* Core modules: run to their end with our own WASI, or served, an instance per request. */
#include "runner/body.h"
#include "runner/invoke.h"
#include "runner/serving.h"

#include "base/file.h"

#include <fcntl.h>
#include <stdio.h>

#define SIG_MAX sizeof(((wh_call *)NULL)->sig)

typedef struct runner {
    wh_runner *base;
    const wh_runspec *spec;
    wh_wasi *wasi;
    const wh_engine_ops *ops;
    wh_engine *engine;
    wh_module *module;
    wh_template *template;
    wh_instance *instance;
    int stop_pipe[2];
    char sig[SIG_MAX]; /* of the function that is called */
    bool has_start, has_initialize;
} runner;

const bool wh_runner_takes_components = false;

/* Instances come and go with requests: a pool of them costs microseconds each, where mappings made anew cost more. */
#define POOL_SLOTS_MAX 256

static bool serves(const runner *r)
{
    return r->spec->serve.mode != WH_RUNSPEC_COMMAND;
}

static uint32_t pool_slots(const wh_runspec *spec)
{
    uint32_t at_once = spec->serve.at_once > 0 ? spec->serve.at_once : WH_SERVE_AT_ONCE;
    return at_once <= POOL_SLOTS_MAX ? at_once : 0;
}

static int note_export(void *user, bool import, const wh_type_names *type)
{
    runner *r = user;
    if (import || type->kind != 'f')
        return 0;
    r->has_start |= wh_streq(type->name, "_start");
    r->has_initialize |= wh_streq(type->name, "_initialize");
    const char *wanted = r->spec->invoke == NULL ? "_start" : r->spec->invoke;
    if (wh_streq(type->name, wanted) && type->sig != NULL && strlen(type->sig) < sizeof(r->sig))
        memcpy(r->sig, type->sig, strlen(type->sig) + 1);
    return 0;
}

static int load_module(runner *r, wh_err *err)
{
    const wh_engine_config config = {
        .profile = r->spec->profile,
        .stack_bytes_max = r->spec->stack_bytes_max,
        .memory_bytes_max = r->spec->memory_bytes_max,
        .pool_slots = serves(r) ? pool_slots(r->spec) : 0,
        .pool_memory_max = serves(r) ? r->spec->memory_bytes_max : 0,
    };
    r->ops = &wh_engine_wasmtime;
    int rc = r->ops->engine_new(&config, &r->engine, err);
    if (rc == 0)
        rc = r->ops->load(r->engine, r->spec->code_fd, &r->module, err);
    if (rc < 0)
        return rc;
    close(r->spec->code_fd);
    (void)r->ops->describe(r->module, note_export, r);
    if (r->spec->invoke != NULL && r->sig[0] == '\0')
        return wh_fail(err, -ENOENT, "the module exports no function '%s'.", r->spec->invoke);
    if (r->spec->invoke == NULL && !r->has_start && r->has_initialize)
        return wh_fail(err, -ENOENT,
                       "the module is a library (it exports '_initialize' and no '_start'): name the "
                       "function to call, with --invoke.");
    if (r->spec->invoke == NULL && !r->has_start)
        return wh_fail(err, -ENOENT, "the module exports no '_start': it is no WASI command.");
    return 0;
}

static int add_preopens(runner *r, wh_err *err)
{
    const wh_runspec *spec = r->spec;
    int rc = 0, guest_fd;
    for (size_t i = 0; rc == 0 && i < spec->n_dirs; i++)
        rc = wh_wasi_preopen_dir(r->wasi, spec->dirs[i].fd, spec->dirs[i].guest_path, spec->dirs[i].read_only,
                                 err);
    for (size_t i = 0; rc == 0 && i < spec->n_listen; i++)
        rc = wh_wasi_preopen_listener(r->wasi, spec->listen_fds[i], &guest_fd, err);
    return rc;
}

/* The guest learns the number of its stop descriptor from its environment, which is fixed when the WASI
 * object is made: hence the number is computed here and checked afterwards. */
static int make_wasi(runner *r, wh_err *err)
{
    const wh_runspec *spec = r->spec;
    int expected = 3 + (int)spec->n_dirs + (int)spec->n_listen, guest_fd = -1;
    auto_strv wh_strv env = wh_strv_copy(spec->env);
    wh_strv_push_take(&env, wh_xasprintf("%s=%d", WH_STOP_FD_ENV, expected));
    wh_wasi_config config = {
        .args = spec->args,
        .env = env,
        .stdin_fd = STDIN_FILENO,
        .stdout_fd = STDOUT_FILENO,
        .stderr_fd = STDERR_FILENO,
        .trace_fd = spec->trace ? STDERR_FILENO : -1,
    };
    if (r->base->log != NULL) {
        config.write = wh_stop_log_write;
        config.write_user = r->base->log;
    }
    int rc = wh_wasi_new(&config, &r->wasi, err);
    if (rc == 0)
        rc = add_preopens(r, err);
    if (rc == 0 && pipe2(r->stop_pipe, O_CLOEXEC) < 0)
        rc = wh_fail(err, -errno, "make the stop descriptor");
    if (rc == 0)
        rc = wh_wasi_preopen_stop(r->wasi, r->stop_pipe[0], &guest_fd, err);
    if (rc == 0)
        wh_assert(guest_fd == expected);
    return rc;
}

__attribute__((noreturn)) static void end_guest(const runner *r, const wh_outcome *outcome)
{
    wh_runner_end(r->base, outcome, r->instance == NULL ? 0 : r->ops->memory_peak(r->instance));
}

static void call_guest(runner *r, const char *name, wh_call *call, wh_err *err)
{
    wh_func func;
    wh_outcome outcome = {0};
    int rc = r->ops->func(r->instance, name, call->sig, &func, err);
    if (rc < 0)
        wh_runner_fail(r->base, err);
    size_t slots = WH_MAX(call->n_params, call->n_results);
    if (r->ops->call(r->instance, &func, call->io, slots, 0, &outcome) != WH_END_OK)
        end_guest(r, &outcome);
}

static void print_results(runner *r, const wh_call *call)
{
    auto_buf wh_buf out;
    wh_buf_init(&out, 64UL * 1024);
    (void)wh_call_print(call, &out);
    if (out.len == 0)
        return;
    if (r->base->log != NULL)
        (void)wh_stop_log_write(r->base->log, 1, out.p, out.len);
    else
        (void)wh_write_all(STDOUT_FILENO, out.p, out.len);
}

__attribute__((noreturn)) static void run_guest(runner *r)
{
    wh_err err = {0};
    wh_outcome outcome = {0};
    wh_call call, initialize;
    wh_assert(r->spec != NULL);
    const char *name = r->spec->invoke == NULL ? "_start" : r->spec->invoke;
    int rc = wh_call_init(&call, r->sig, &err);
    if (rc == 0)
        rc = wh_call_init(&initialize, "()", &err);
    if (rc == 0 && r->spec->invoke != NULL)
        rc = wh_call_args(&call, r->spec->args + 1, &err);
    if (rc == 0)
        rc = wh_stop_deadline(r->spec->deadline, &err);
    if (rc == 0)
        rc = wh_sandbox_lock(&r->base->box, WH_SANDBOX_COMMAND, &err);
    if (rc < 0) {
        (void)wh_wrap(&err, "%s", name);
        wh_runner_fail(r->base, &err);
    }
    wh_stop_guest(r->wasi, r->stop_pipe[1]);
    wh_stop_running(r->base->box.weaker);
    const wh_guest_limits limits = {.memory_bytes_max = r->spec->memory_bytes_max};
    rc = r->ops->instance_new(r->template, &limits, r->wasi, &r->instance, &outcome, &err);
    if (rc == -EFAULT)
        end_guest(r, &outcome);
    if (rc < 0)
        wh_runner_fail(r->base, &err);
    if (r->spec->invoke != NULL && r->has_initialize && !wh_streq(name, "_initialize"))
        call_guest(r, "_initialize", &initialize, &err);
    call_guest(r, name, &call, &err);
    print_results(r, &call);
    outcome.end = WH_END_OK;
    end_guest(r, &outcome);
}

static int load(runner *r, wh_err *err)
{
    size_t n;
    const wh_import *imports = wh_wasi_imports(&n);
    if (r->spec->serve.mode == WH_RUNSPEC_HTTP)
        return wh_fail(err, -ENOEXEC, "components are served by wherry-runner-component.");
    int rc = load_module(r, err);
    if (rc == 0 && !serves(r))
        rc = make_wasi(r, err);
    return rc < 0 ? rc : r->ops->template_new(r->engine, r->module, imports, n, &r->template, err);
}

__attribute__((noreturn)) static void serve(runner *r)
{
    wh_err err = {0};
    static wh_serving serving;
    static wh_serve_dir dirs[WH_RUNSPEC_DIRS_MAX];
    wh_serve_command *command = NULL;
    const wh_runspec *spec = r->spec;
    for (size_t i = 0; i < spec->n_dirs; i++)
        dirs[i] = (wh_serve_dir){spec->dirs[i].guest_path, spec->dirs[i].fd, spec->dirs[i].read_only};
    const wh_serve_command_config config = {
        .mode = spec->serve.mode == WH_RUNSPEC_WAGI ? WH_SERVE_WAGI : WH_SERVE_STREAM,
        .ops = r->ops,
        .engine = r->engine,
        .template = r->template,
        .limits = wh_serving_limits(spec),
        .stack_bytes = spec->stack_bytes_max,
        .args = spec->args,
        .env = spec->env,
        .dirs = dirs,
        .n_dirs = spec->n_dirs,
        .write = wh_serving_write,
        .write_user = &serving,
        .trace_fd = spec->trace ? STDERR_FILENO : -1,
    };
    wh_serve_backend backend;
    int rc = wh_serving_init(&serving, r->base, &err);
    if (rc == 0)
        rc = wh_serve_command_new(serving.loop, &config, &command, &err);
    if (rc < 0)
        wh_runner_fail(r->base, &err);
    wh_serve_command_backend(command, &backend);
    wh_serving_begin(&serving, &backend, WH_SANDBOX_SERVE);
    (void)wh_serve_command_run(command); /* the callbacks of `serving` end the process */
    wh_runner_fail(r->base, &err);
}

void wh_runner_body(wh_runner *base)
{
    static runner r = {.stop_pipe = {-1, -1}};
    wh_err err = {0};
    r.base = base;
    r.spec = base->spec;
    if (load(&r, &err) < 0)
        wh_runner_fail(base, &err);
    if (serves(&r))
        serve(&r);
    run_guest(&r);
}
