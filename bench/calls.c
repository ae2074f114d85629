/* SPDX-License-Identifier: Apache-2.0 */
/* What it costs to cross the border between host and guest, to make an instance, and to start cold. Beside it
 * what Wasmtime's checked calls cost in the same program, and an empty process. */
#include "base/file.h"
#include "bench.h"
#include "engine/wasmtime/internal.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define ops (&wh_engine_wasmtime)

static wh_host_result one(wh_frame *frame, wh_slot *io, void *env)
{
    (void)frame, (void)env;
    io[0].i64++;
    return WH_HOST_OK;
}

static wh_host_result five(wh_frame *frame, wh_slot *io, void *env)
{
    (void)frame, (void)env;
    io[0].i32 += io[4].i32;
    return WH_HOST_OK;
}

static const wh_import imports[] = {{"env", "one", "(I)I", one, NULL},
                                    {"env", "five", "(iiiii)i", five, NULL}};

static void must(int rc, const wh_err *err)
{
    if (rc >= 0)
        return;
    (void)fprintf(stderr, "calls: %s\n", err->msg);
    exit(1);
}

typedef struct rig {
    wh_engine *engine;
    wh_module *module;
    wh_template *tmpl;
} rig;

static rig make_rig(const wh_engine_config *config, const char *path)
{
    rig r;
    wh_err err = {0};
    auto_free char *wasm = NULL;
    auto_free void *code = NULL;
    size_t n = 0, code_bytes = 0;
    must(wh_read_file(AT_FDCWD, path, 1UL << 20, &wasm, &n, &err), &err);
    must(ops->engine_new(config, &r.engine, &err), &err);
    must(ops->compile(r.engine, wasm, n, &code, &code_bytes, &err), &err);
    auto_close int fd = memfd_create("code", MFD_CLOEXEC);
    must(wh_write_all(fd, code, code_bytes), &err);
    must(ops->load(r.engine, fd, &r.module, &err), &err);
    must(ops->template_new(r.engine, r.module, imports, WH_ARRAY_LEN(imports), &r.tmpl, &err), &err);
    return r;
}

static void free_rig(rig *r)
{
    ops->template_free(r->tmpl);
    ops->unload(r->module);
    ops->engine_free(r->engine);
}

/* The same calls with Wasmtime's checked, boxed values. */
static double boxed_call_ns(wh_instance *instance, const char *name, size_t n_args, size_t n_results,
                            int rounds)
{
    wasmtime_extern_t item;
    wasmtime_val_t args[2] = {{.kind = WASMTIME_I64, .of.i64 = 1}, {.kind = WASMTIME_I64, .of.i64 = 2}},
                   results[1];
    if (!wasmtime_instance_export_get(instance->context, &instance->instance, name, strlen(name), &item))
        return 0;
    return BENCH_MIN_NS(rounds, 2000, {
        for (int i = 0; i < 2000; i++) {
            wasm_trap_t *trap = NULL;
            wasmtime_func_call(instance->context, &item.of.func, args, n_args, results, n_results, &trap);
        }
    });
}

static void measure_calls(const char *path, unsigned profile, int rounds)
{
    wh_err err = {0};
    wh_outcome outcome;
    wh_instance *instance;
    wh_func nop, add, out_one, out_five;
    wh_slot io[2] = {{.i64 = 1}, {.i64 = 2}};
    rig r = make_rig(&(wh_engine_config){.profile = profile}, path);
    must(ops->instance_new(r.tmpl, NULL, NULL, &instance, &outcome, &err), &err);
    must(ops->func(instance, "nop", "()", &nop, &err), &err);
    must(ops->func(instance, "add", "(II)I", &add, &err), &err);
    must(ops->func(instance, "out_one", "(i)", &out_one, &err), &err);
    must(ops->func(instance, "out_five", "(i)", &out_five, &err), &err);
    double ns = BENCH_MIN_NS(rounds, 2000, {
        for (int i = 0; i < 2000; i++)
            ops->call(instance, &nop, io, 0, 1000, &outcome);
    });
    bool pod = profile == WH_PROFILE_POD;
    const char *boxed = "wasmtime_func_call";
    double peer = pod ? boxed_call_ns(instance, "nop", 0, 0, rounds) : 0;
    bench_report(pod ? "call_in_ns" : "call_in_shared_ns", ns, "ns", boxed, peer, 25);
    ns = BENCH_MIN_NS(rounds, 2000, {
        for (int i = 0; i < 2000; i++)
            ops->call(instance, &add, io, 2, 1000, &outcome);
    });
    peer = pod ? boxed_call_ns(instance, "add", 2, 1, rounds) : 0;
    bench_report(pod ? "call_in_i64_i64_ns" : "call_in_shared_i64_i64_ns", ns, "ns", boxed, peer, 25);
    ns = BENCH_MIN_NS(rounds, 10000, {
        io[0].i32 = 10000;
        ops->call(instance, &out_one, io, 1, 1000, &outcome);
    });
    bench_report(pod ? "call_out_ns" : "call_out_shared_ns", ns, "ns", NULL, 0, 10);
    ns = BENCH_MIN_NS(rounds, 10000, {
        io[0].i32 = 10000;
        ops->call(instance, &out_five, io, 1, 1000, &outcome);
    });
    bench_report(pod ? "call_out_five_ns" : "call_out_five_shared_ns", ns, "ns", NULL, 0, 0);
    ops->instance_free(instance);
    free_rig(&r);
}

static double instance_us(const char *path, const wh_engine_config *config, bool call, int rounds)
{
    wh_err err = {0};
    wh_outcome outcome;
    wh_func nop;
    rig r = make_rig(config, path);
    double ns = BENCH_MIN_NS(rounds, 50, {
        for (int i = 0; i < 50; i++) {
            wh_instance *instance;
            must(ops->instance_new(r.tmpl, NULL, NULL, &instance, &outcome, &err), &err);
            if (call) {
                must(ops->func(instance, "nop", NULL, &nop, &err), &err);
                ops->call(instance, &nop, NULL, 0, 1000, &outcome);
            }
            ops->instance_free(instance);
        }
    });
    free_rig(&r);
    return ns / 1000;
}

static void measure_instances(const char *path, int rounds)
{
    const wh_engine_config pool = {
        .profile = WH_PROFILE_SHARED, .pool_slots = 64, .pool_memory_max = 64UL << 20};
    const wh_engine_config demand = {.profile = WH_PROFILE_SHARED};
    double pooled = instance_us(path, &pool, false, rounds),
           mapped = instance_us(path, &demand, false, rounds);
    bench_report("instance_us", pooled, "us", "mapped on demand", mapped, 5);
    bench_report("instance_and_call_us", instance_us(path, &pool, true, rounds), "us", "mapped on demand",
                 instance_us(path, &demand, true, rounds), 0);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

#define STARTS_MAX 1000

/* Spawn to wait; the median and the least. */
static void starts(char *const *argv, int n, double *ret_median, double *ret_least)
{
    static double ms[STARTS_MAX];
    for (int i = 0; i < n; i++) {
        wh_time begin = wh_mono_now();
        pid_t pid;
        int status = 0;
        if (posix_spawn(&pid, argv[0], NULL, NULL, argv, environ) != 0 || waitpid(pid, &status, 0) != pid ||
            status != 0) {
            (void)fprintf(stderr, "calls: %s did not run (status %d)\n", argv[0], status);
            exit(1);
        }
        ms[i] = (double)(wh_mono_now() - begin) / 1e6;
    }
    qsort(ms, (size_t)n, sizeof(ms[0]), by_value);
    *ret_median = ms[n / 2];
    *ret_least = ms[0];
}

static void measure_starts(char *program, char *code, int n)
{
    double median, least, empty_median, empty_least;
    starts((char *[]){program, NULL}, n, &empty_median, &empty_least);
    starts((char *[]){program, code, NULL}, n, &median, &least);
    bench_report("cold_start_ms", median, "ms", "the same process, doing nothing", empty_median, 1);
    bench_report("cold_start_least_ms", least, "ms", "the same process, doing nothing", empty_least, 0);
}

int main(int argc, char **argv)
{
    const char *folder = getenv("BENCH_DIR");
    if (folder == NULL) {
        (void)fputs("calls: BENCH_DIR names no folder; start it with bench/run\n", stderr);
        return 2;
    }
    auto_free char *calls = wh_path_join(folder, "calls.wasm"), *code = wh_path_join(folder, "once.cwasm"),
                   *program = wh_path_join(folder, "cold_program");
    measure_calls(calls, WH_PROFILE_POD, bench_rounds(argc, argv, 2000));
    measure_calls(calls, WH_PROFILE_SHARED, bench_rounds(argc, argv, 2000));
    measure_instances(calls, bench_rounds(argc, argv, 1000));
    measure_starts(program, code, bench_rounds(argc, argv, STARTS_MAX / 2));
    return 0;
}
