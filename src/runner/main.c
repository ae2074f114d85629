/* SPDX-License-Identifier: Apache-2.0 */
/* wherry-runner: one container, from its spec on descriptor 3 to its end record. Started by the keeper, which
 * has already made namespaces, ids and limits, or directly by `wherry run`. The order of the steps is that of
 * the sandbox: lock what can be locked, load, lock the rest, and only then run the guest. */
#include "runner/control.h"
#include "runner/invoke.h"
#include "runner/sandbox.h"
#include "runner/stop.h"

#include "base/file.h"
#include "base/record.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define SIG_MAX sizeof(((wh_call *)NULL)->sig)

typedef struct runner {
    wh_runspec *spec;
    wh_sandbox box;
    wh_runlog *log;
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

/* Tells the person who reads the container's log; the agent reads the end record. */
static void say(const runner *r, const char *what, const char *message)
{
    char text[1200];
    int n = snprintf(text, sizeof(text), "wherry: %s%s%s\n", what, what[0] == '\0' ? "" : ": ", message);
    size_t len = WH_MIN((size_t)n, sizeof(text) - 1);
    if (r->log != NULL)
        (void)wh_stop_log_write(r->log, 2, text, len);
    else
        (void)!write(STDERR_FILENO, text, len);
}

__attribute__((noreturn)) static void fail_start(const runner *r, const wh_err *err)
{
    say(r, "cannot start", err->msg);
    bool memory = err->code == -ENOMEM;
    wh_stop_end(memory ? WH_EXIT_KILLED : WH_EXIT_START_ERROR, memory ? "OutOfMemory" : "StartError",
                err->msg, 0);
}

static int read_spec(runner *r, wh_err *err)
{
    struct stat st;
    if (fstat(WH_RUNSPEC_FD, &st) < 0)
        return wh_fail(err, -errno,
                       "wherry-runner is started by the node or by 'wherry run': no spec on descriptor %d",
                       WH_RUNSPEC_FD);
    if (st.st_size > WH_RECORD_BYTES_MAX)
        return wh_fail(err, -EFBIG, "the spec has %lld bytes, at most %d are allowed.", (long long)st.st_size,
                       WH_RECORD_BYTES_MAX);
    auto_free char *data = malloc((size_t)st.st_size + 1);
    if (data == NULL)
        return wh_fail(err, -ENOMEM, "read the spec");
    ssize_t n = pread(WH_RUNSPEC_FD, data, (size_t)st.st_size, 0);
    if (n != st.st_size)
        return wh_fail(err, n < 0 ? -errno : -EIO, "read the spec");
    close(WH_RUNSPEC_FD);
    return wh_runspec_read(data, (size_t)n, &r->spec, err);
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
    if (r->log != NULL) {
        config.write = wh_stop_log_write;
        config.write_user = r->log;
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
    uint64_t memory = r->instance == NULL ? 0 : r->ops->memory_peak(r->instance);
    char message[1024];
    int exit_code;
    switch (outcome->end) {
    case WH_END_OK:
        wh_stop_end(0, "Completed", "", memory);
    case WH_END_EXIT:
        exit_code = outcome->exit_code & 0xff; /* as a process's */
        wh_stop_end(exit_code, exit_code == 0 ? "Completed" : "Error", "", memory);
    case WH_END_DEADLINE:
        wh_stop_end(WH_EXIT_KILLED, "DeadlineExceeded", outcome->msg, memory);
    case WH_END_TRAP:
        break;
    }
    const char *reason = "Trap";
    int code = WH_EXIT_TRAP;
    if (outcome->trap == WH_TRAP_STACK_OVERFLOW) {
        reason = "StackOverflow";
    } else if (outcome->trap == WH_TRAP_OUT_OF_MEMORY || outcome->memory_refused) {
        /* A C or Rust program that gets no memory aborts, which is a trap like any other. */
        reason = "OutOfMemory";
        code = WH_EXIT_KILLED;
    }
    (void)snprintf(message, sizeof(message), "%s%.900s",
                   outcome->memory_refused ? "after its memory could not grow: " : "", outcome->msg);
    if (r->log != NULL) /* in the foreground whoever started us says it */
        say(r, "the guest was ended", message);
    wh_stop_end(code, reason, message, memory);
}

static void call_guest(runner *r, const char *name, wh_call *call, wh_err *err)
{
    wh_func func;
    wh_outcome outcome = {0};
    int rc = r->ops->func(r->instance, name, call->sig, &func, err);
    if (rc < 0)
        fail_start(r, err);
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
    if (r->log != NULL)
        (void)wh_stop_log_write(r->log, 1, out.p, out.len);
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
        rc = wh_sandbox_lock(&r->box, &err);
    if (rc < 0) {
        (void)wh_wrap(&err, "%s", name);
        fail_start(r, &err);
    }
    wh_stop_guest(r->wasi, r->stop_pipe[1]);
    wh_stop_running(r->box.weaker);
    const wh_guest_limits limits = {.memory_bytes_max = r->spec->memory_bytes_max};
    rc = r->ops->instance_new(r->template, &limits, r->wasi, &r->instance, &outcome, &err);
    if (rc == -EFAULT)
        end_guest(r, &outcome);
    if (rc < 0)
        fail_start(r, &err);
    if (r->spec->invoke != NULL && r->has_initialize && !wh_streq(name, "_initialize"))
        call_guest(r, "_initialize", &initialize, &err);
    call_guest(r, name, &call, &err);
    print_results(r, &call);
    outcome.end = WH_END_OK;
    end_guest(r, &outcome);
}

static int prepare(runner *r, wh_err *err)
{
    int rc = read_spec(r, err);
    if (rc < 0)
        return rc;
    const wh_runspec *spec = r->spec;
    if (spec->log_fd >= 0)
        r->log = wh_runlog_new(spec->log_fd);
    wh_stop_setup(spec, r->log);
    rc = wh_sandbox_files(&r->box, spec->dirs, spec->n_dirs, spec->landlock_optional, err);
    if (rc < 0)
        return rc;
    if (spec->control_fd < 0 && r->box.weaker_much && !r->box.off)
        say(r, "the sandbox is weaker than it should be", r->box.weaker);
    rc = load_module(r, err);
    if (rc == 0)
        rc = make_wasi(r, err);
    if (rc < 0)
        return rc;
    size_t n;
    const wh_import *imports = wh_wasi_imports(&n);
    return r->ops->template_new(r->engine, r->module, imports, n, &r->template, err);
}

int main(int argc, char **argv)
{
    static runner r = {.stop_pipe = {-1, -1}};
    wh_err err = {0};
    bool off = argc == 2 && wh_streq(argv[1], WH_RUNNER_NO_SANDBOX);
    int rc = wh_sandbox_begin(&r.box, off, &err);
    if (rc == 0)
        rc = wh_stop_init(&err);
    if (rc == 0)
        rc = prepare(&r, &err);
    if (rc < 0)
        fail_start(&r, &err);
    run_guest(&r);
}
