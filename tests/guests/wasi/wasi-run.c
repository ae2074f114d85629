/* SPDX-License-Identifier: Apache-2.0 */
/* Compiles and runs one WASI command in this process, on our own WASI: what the comparison with Wasmtime's
 * and the benchmarks start. No sandbox: for guests of ours only. */
#include "abi/wasi/wasi.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/str.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>

static const char usage[] =
    "usage: wasi-run [--dir HOST::GUEST] [--dir-ro HOST::GUEST] [--env NAME=VALUE] [--listen FD] [--stop FD]\n"
    "                [--invoke NAME] [--trace] [--no-openat2] GUEST.wasm [ARGUMENT...]\n";

static volatile sig_atomic_t stop_requested;

static void on_stop(int signo)
{
    (void)signo;
    stop_requested = 1;
}

static bool interrupted(void *user)
{
    (void)user;
    return stop_requested != 0;
}

typedef struct options {
    wh_strv dirs, ro_dirs, env;
    int listen_fd, stop_fd;
    bool trace;
    const char *invoke;
} options;

static int bad_usage(void)
{
    fputs(usage, stderr);
    return 2;
}

static int number(const char *s)
{
    uint64_t n;
    return wh_parse_u64(s, 1023, &n) == 0 ? (int)n : -1;
}

/* Returns the index of the guest, or -1. */
static int parse(int argc, char **argv, options *o)
{
    int i = 1;

    for (; i < argc && argv[i][0] == '-'; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (wh_streq(argv[i], "--trace")) {
            o->trace = true;
            continue;
        }
        if (wh_streq(argv[i], "--no-openat2")) {
            wh_wasi_force_path_fallback(true);
            continue;
        }
        if (value == NULL)
            return -1;
        if (wh_streq(argv[i], "--dir"))
            wh_strv_push(&o->dirs, value);
        else if (wh_streq(argv[i], "--dir-ro"))
            wh_strv_push(&o->ro_dirs, value);
        else if (wh_streq(argv[i], "--env"))
            wh_strv_push(&o->env, value);
        else if (wh_streq(argv[i], "--listen"))
            o->listen_fd = number(value);
        else if (wh_streq(argv[i], "--stop"))
            o->stop_fd = number(value);
        else if (wh_streq(argv[i], "--invoke"))
            o->invoke = value;
        else
            return -1;
        i++;
    }
    return i < argc ? i : -1;
}

static int preopen(wh_wasi *wasi, const char *spec, bool read_only, wh_err *err)
{
    const char *colons = strstr(spec, "::");
    if (colons == NULL)
        return wh_fail(err, -EINVAL, "preopen '%s': it must be HOST::GUEST.", spec);
    auto_free char *host = wh_xstrndup(spec, (size_t)(colons - spec));
    int fd = open(host, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? wh_fail(err, -errno, "open '%s'", host)
                  : wh_wasi_preopen_dir(wasi, fd, colons + 2, read_only, err);
}

static int make_wasi(const options *o, char **args, wh_wasi **ret, wh_err *err)
{
    wh_wasi_config config = {
        .args = args,
        .env = o->env,
        .stdin_fd = STDIN_FILENO,
        .stdout_fd = STDOUT_FILENO,
        .stderr_fd = STDERR_FILENO,
        .trace_fd = o->trace ? STDERR_FILENO : -1,
        .interrupted = interrupted,
    };
    wh_wasi *wasi;
    int rc = wh_wasi_new(&config, &wasi, err);
    if (rc < 0)
        return rc;
    for (char **dir = o->dirs; rc == 0 && dir != NULL && *dir != NULL; dir++)
        rc = preopen(wasi, *dir, false, err);
    for (char **dir = o->ro_dirs; rc == 0 && dir != NULL && *dir != NULL; dir++)
        rc = preopen(wasi, *dir, true, err);
    if (rc == 0 && o->listen_fd >= 0)
        rc = wh_wasi_preopen_listener(wasi, o->listen_fd, NULL, err);
    if (rc == 0 && o->stop_fd >= 0)
        rc = wh_wasi_preopen_stop(wasi, o->stop_fd, NULL, err);
    if (rc < 0) {
        wh_wasi_free(wasi);
        return rc;
    }
    *ret = wasi;
    return 0;
}

static int compiled(wh_engine *engine, const char *path, wh_module **ret, wh_err *err)
{
    auto_free char *wasm = NULL;
    auto_free void *code = NULL;
    size_t wasm_bytes, code_bytes;
    int rc = wh_read_file(AT_FDCWD, path, WH_WASM_BYTES_MAX, &wasm, &wasm_bytes, err);
    if (rc == 0)
        rc = wh_engine_wasmtime.compile(engine, wasm, wasm_bytes, &code, &code_bytes, err);
    if (rc < 0)
        return rc;
    auto_close int fd = memfd_create("guest", MFD_CLOEXEC);
    if (fd < 0)
        return wh_fail(err, -errno, "make a file for the compiled guest");
    rc = wh_write_all(fd, code, code_bytes);
    return rc < 0 ? wh_fail(err, rc, "write the compiled guest")
                  : wh_engine_wasmtime.load(engine, fd, ret, err);
}

/* The exit code. */
static int ended(wh_end end, const wh_outcome *outcome)
{
    if (end == WH_END_OK)
        return 0;
    if (end == WH_END_EXIT)
        return outcome->exit_code;
    fprintf(stderr, "trap: %s\n", outcome->msg);
    return 134;
}

static int run(wh_engine *engine, const char *path, const char *name, wh_wasi *wasi, wh_err *err)
{
    const wh_engine_ops *ops = &wh_engine_wasmtime;
    wh_module *module;
    wh_template *tmpl;
    wh_instance *instance;
    wh_func start;
    wh_outcome outcome = {0};
    wh_slot io[1] = {{0}};
    size_t n;
    const wh_import *imports = wh_wasi_imports(&n);
    int rc = compiled(engine, path, &module, err);
    if (rc == 0)
        rc = ops->template_new(engine, module, imports, n, &tmpl, err);
    if (rc == 0)
        rc = ops->instance_new(tmpl, NULL, wasi, &instance, &outcome, err);
    if (rc == 0)
        rc = ops->func(instance, name, "()", &start, err);
    if (rc == -EFAULT)
        return ended(outcome.end, &outcome);
    if (rc < 0)
        return rc;
    int code = ended(ops->call(instance, &start, io, 0, 0, &outcome), &outcome);
    ops->instance_free(instance);
    ops->template_free(tmpl);
    ops->unload(module);
    return code;
}

int main(int argc, char **argv)
{
    options o = {.listen_fd = -1, .stop_fd = -1, .invoke = "_start"};
    wh_engine_config config = {.profile = WH_PROFILE_POD};
    wh_engine *engine;
    wh_wasi *wasi;
    wh_err err = {0};
    struct sigaction stop = {.sa_handler = on_stop};

    int guest = parse(argc, argv, &o);
    if (guest < 0)
        return bad_usage();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    sigaction(SIGTERM, &stop, NULL);
    int rc = make_wasi(&o, argv + guest, &wasi, &err);
    if (rc == 0)
        rc = wh_engine_wasmtime.engine_new(&config, &engine, &err);
    if (rc == 0) {
        rc = run(engine, argv[guest], o.invoke, wasi, &err);
        wh_engine_wasmtime.engine_free(engine);
    }
    if (rc < 0)
        fprintf(stderr, "wasi-run: %s\n", err.msg);
    else
        wh_wasi_free(wasi);
    wh_strv_free(o.dirs);
    wh_strv_free(o.ro_dirs);
    wh_strv_free(o.env);
    return rc < 0 ? 125 : rc;
}
