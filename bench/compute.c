/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels as native code (gcc -O2) and as a guest of the engine in the profiles `pod` and `shared`, side
 * by side: time of the guest over that of the native code, and the geometric mean. --list prints the kernels
 * with their sizes, for compute.py, which runs the same guest on Wasmtime as its makers ship it. */
#include "base/file.h"
#include "bench.h"
#include "engine/engine.h"
#include "kernels/kernels.h"

#include <fcntl.h>
#include <math.h>
#include <sys/mman.h>

#define ops (&wh_engine_wasmtime)
#define NATIVE "native, " BENCH_CC " -O2"

static const struct {
    const char *name;
    uint64_t (*fn)(uint32_t n);
    uint32_t n;
} kernels[] = {
    {"matmul", kernel_matmul, 2}, {"sha256", kernel_sha256, 8192}, {"nbody", kernel_nbody, 15000},
    {"sort", kernel_sort, 1},     {"json", kernel_json, 8},        {"interpreter", kernel_interpreter, 5000},
};
#define KERNELS WH_ARRAY_LEN(kernels)

static void must(int rc, const wh_err *err)
{
    if (rc >= 0)
        return;
    (void)fprintf(stderr, "compute: %s\n", err->msg);
    exit(1);
}

typedef struct guest {
    wh_engine *engine;
    wh_module *module;
    wh_template *tmpl;
    wh_instance *instance;
    wh_func fn[KERNELS];
} guest;

static guest make_guest(unsigned profile, const char *path)
{
    guest g;
    wh_err err = {0};
    wh_outcome outcome;
    auto_free char *wasm = NULL;
    auto_free void *code = NULL;
    size_t n = 0, code_bytes = 0;
    must(wh_read_file(AT_FDCWD, path, 1UL << 20, &wasm, &n, &err), &err);
    must(ops->engine_new(&(wh_engine_config){.profile = profile}, &g.engine, &err), &err);
    must(ops->compile(g.engine, wasm, n, &code, &code_bytes, &err), &err);
    auto_close int fd = memfd_create("code", MFD_CLOEXEC);
    must(wh_write_all(fd, code, code_bytes), &err);
    must(ops->load(g.engine, fd, &g.module, &err), &err);
    must(ops->template_new(g.engine, g.module, NULL, 0, &g.tmpl, &err), &err);
    must(ops->instance_new(g.tmpl, NULL, NULL, &g.instance, &outcome, &err), &err);
    for (size_t i = 0; i < KERNELS; i++) {
        auto_free char *name = wh_xasprintf("kernel_%s", kernels[i].name);
        must(ops->func(g.instance, name, "(i)I", &g.fn[i], &err), &err);
    }
    return g;
}

static void free_guest(guest *g)
{
    ops->instance_free(g->instance);
    ops->template_free(g->tmpl);
    ops->unload(g->module);
    ops->engine_free(g->engine);
}

static uint64_t call(guest *g, size_t i)
{
    wh_outcome outcome;
    wh_slot io[1] = {{.i32 = (int32_t)kernels[i].n}};
    if (ops->call(g->instance, &g->fn[i], io, 1, 0, &outcome) != WH_END_OK) {
        (void)fprintf(stderr, "compute: %s: %s\n", kernels[i].name, outcome.msg);
        exit(1);
    }
    return (uint64_t)io[0].i64;
}

static void least(double *least_ms, wh_time begin)
{
    double ms = (double)(wh_mono_now() - begin) / 1e6;
    if (*least_ms <= 0 || ms < *least_ms)
        *least_ms = ms;
}

static void list(void)
{
    for (size_t i = 0; i < KERNELS; i++)
        printf("%s %u %llu\n", kernels[i].name, kernels[i].n,
               (unsigned long long)kernels[i].fn(kernels[i].n));
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--list") == 0) {
        list();
        return 0;
    }
    const char *folder = getenv("BENCH_DIR");
    if (folder == NULL) {
        (void)fputs("compute: BENCH_DIR names no folder; start it with bench/run\n", stderr);
        return 2;
    }
    int rounds = bench_rounds(argc, argv, 100);
    auto_free char *path = wh_path_join(folder, "kernels.wasm");
    guest pod = make_guest(WH_PROFILE_POD, path), shared = make_guest(WH_PROFILE_SHARED, path);
    double log_pod = 0, log_shared = 0;
    for (size_t i = 0; i < KERNELS; i++) {
        double native_ms = 0, pod_ms = 0, shared_ms = 0;
        uint64_t want = kernels[i].fn(kernels[i].n);
        /* In turn, so that a busy moment of the machine hits all. */
        for (int round = 0; round < rounds; round++) {
            wh_time begin = wh_mono_now();
            bool same = kernels[i].fn(kernels[i].n) == want;
            least(&native_ms, begin);
            begin = wh_mono_now();
            same = call(&pod, i) == want && same;
            least(&pod_ms, begin);
            begin = wh_mono_now();
            same = call(&shared, i) == want && same;
            least(&shared_ms, begin);
            if (!same) {
                (void)fprintf(stderr, "compute: %s answers otherwise as a guest\n", kernels[i].name);
                return 1;
            }
        }
        auto_free char *name = wh_xasprintf("compute_%s_ms", kernels[i].name);
        auto_free char *shared_name = wh_xasprintf("compute_%s_shared_ms", kernels[i].name);
        bench_report(name, pod_ms, "ms", NATIVE, native_ms, 0);
        bench_report(shared_name, shared_ms, "ms", NATIVE, native_ms, 0);
        log_pod += log(pod_ms / native_ms);
        log_shared += log(shared_ms / native_ms);
    }
    bench_report("compute_geomean", exp(log_pod / KERNELS), "x", NATIVE, 1, 1.3);
    bench_report("compute_shared_geomean", exp(log_shared / KERNELS), "x", NATIVE, 1, 0);
    free_guest(&pod);
    free_guest(&shared);
    return 0;
}
