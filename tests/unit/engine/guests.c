/* SPDX-License-Identifier: Apache-2.0 */
#include "guests.h"
#include "base/file.h"
#include "base/limits.h"
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

static wh_host_result put(wh_frame *frame, wh_slot *io, void *env)
{
    (void)env;
    wh_host_log *log = frame->user;
    uint32_t at = (uint32_t)io[0].i32, n = (uint32_t)io[1].i32;
    log->mem_bytes = frame->mem_bytes;
    if (frame->mem == NULL || n >= sizeof(log->put) || at > frame->mem_bytes || n > frame->mem_bytes - at) {
        frame->msg = "put: out of bounds";
        return WH_HOST_TRAP;
    }
    memcpy(log->put, frame->mem + at, n);
    log->put[n] = '\0';
    io[0].i32 = (int32_t)n + 100;
    return WH_HOST_OK;
}

static wh_host_result mix(wh_frame *frame, wh_slot *io, void *env)
{
    wh_host_log *log = frame->user;
    log->mixed = (double)io[0].i32 + (double)io[1].i64 + (double)io[2].f32 + io[3].f64;
    io[0].f64 = log->mixed * *(const double *)env;
    return WH_HOST_OK;
}

static wh_host_result quit(wh_frame *frame, wh_slot *io, void *env)
{
    (void)env;
    frame->exit_code = io[0].i32;
    return WH_HOST_EXIT;
}

static wh_host_result refuse(wh_frame *frame, wh_slot *io, void *env)
{
    (void)io, (void)env;
    frame->msg = "no such thing here";
    return WH_HOST_TRAP;
}

/* 0: calls "inner" of the guest that is calling; 1: "inner_trap"; 2: "quit". */
static wh_host_result reenter(wh_frame *frame, wh_slot *io, void *env)
{
    (void)env;
    wh_host_log *log = frame->user;
    static const char *const names[] = {"inner", "inner_trap", "quit"};
    wh_slot args[1] = {{.i32 = 77}};
    int which = io[0].i32;
    switch (call(log->instance, names[which], args, 1, &log->nested)) {
    case WH_END_EXIT:
        frame->exit_code = log->nested.exit_code;
        return WH_HOST_EXIT;
    case WH_END_TRAP:
    case WH_END_DEADLINE:
        frame->msg = "the nested call trapped";
        return WH_HOST_TRAP;
    case WH_END_OK:
    default:
        return WH_HOST_OK;
    }
}

static double factor = 10;
const wh_import host_imports[] = {
    {"env", "put", "(ii)i", put, NULL},       {"env", "mix", "(iIfF)F", mix, &factor},
    {"env", "exit", "(i)", quit, NULL},       {"env", "refuse", "()", refuse, NULL},
    {"env", "reenter", "(i)", reenter, NULL}, {"env", "unused", "(V)V", refuse, NULL},
};
const size_t host_imports_n = WH_ARRAY_LEN(host_imports);

wh_engine *engine_of(unsigned profile)
{
    wh_err err = {0};
    wh_engine_config config = {.profile = profile};
    wh_engine *engine = NULL;
    CHECK_OK(ops->engine_new(&config, &engine, &err), &err);
    return engine;
}

void *guest_bytes(const char *file, size_t *ret_n)
{
    wh_err err = {0};
    const char *folder = getenv("GUESTS");
    CHECK(folder != NULL);
    auto_free char *path = wh_path_join(folder, file);
    char *data = NULL;
    CHECK_OK(wh_read_file(AT_FDCWD, path, WH_WASM_BYTES_MAX, &data, ret_n, &err), &err);
    return data;
}

int fd_of(const void *data, size_t n)
{
    int fd = memfd_create("guest", MFD_CLOEXEC);
    CHECK_INT(fd, >=, 0);
    CHECK_INT(wh_write_all(fd, data, n), ==, 0);
    return fd;
}

int compiled_bytes(wh_engine *engine, const void *wasm, size_t n)
{
    wh_err err = {0};
    auto_free void *code = NULL;
    size_t code_bytes = 0;
    CHECK_OK(ops->compile(engine, wasm, n, &code, &code_bytes, &err), &err);
    return fd_of(code, code_bytes);
}

int compiled(wh_engine *engine, const char *file)
{
    size_t n = 0;
    auto_free void *wasm = guest_bytes(file, &n);
    return compiled_bytes(engine, wasm, n);
}

static wh_rig rig_up_fd(wh_engine *engine, int fd, const wh_guest_limits *limits, void *user)
{
    wh_err err = {0};
    wh_outcome outcome;
    wh_rig rig = {.engine = engine};
    CHECK_OK(ops->load(engine, fd, &rig.module, &err), &err);
    close(fd);
    CHECK_OK(ops->template_new(engine, rig.module, host_imports, host_imports_n, &rig.tmpl, &err), &err);
    CHECK_OK(ops->instance_new(rig.tmpl, limits, user, &rig.instance, &outcome, &err), &err);
    return rig;
}

wh_rig rig_up(unsigned profile, const char *file, const wh_guest_limits *limits, void *user)
{
    wh_engine *engine = engine_of(profile);
    return rig_up_fd(engine, compiled(engine, file), limits, user);
}

wh_rig rig_up_bytes(unsigned profile, const void *wasm, size_t n)
{
    wh_engine *engine = engine_of(profile);
    return rig_up_fd(engine, compiled_bytes(engine, wasm, n), NULL, NULL);
}

void rig_down(wh_rig *rig)
{
    ops->instance_free(rig->instance);
    ops->template_free(rig->tmpl);
    ops->unload(rig->module);
    ops->engine_free(rig->engine);
    *rig = (wh_rig){0};
}

wh_func export_of(wh_instance *instance, const char *name, const char *sig)
{
    wh_err err = {0};
    wh_func func = {{0}};
    CHECK_OK(ops->func(instance, name, sig, &func, &err), &err);
    return func;
}

wh_end call(wh_instance *instance, const char *name, wh_slot *io, size_t n, wh_outcome *outcome)
{
    wh_func func = export_of(instance, name, NULL);
    return ops->call(instance, &func, io, n, 0, outcome);
}
