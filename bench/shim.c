/* SPDX-License-Identifier: Apache-2.0 */
/* What a request costs inside the engine, without HTTP and without a socket: the smallest service of wasi:http 0.2 and
 * 0.3, in a fresh instance each, and in one that serves 128. Least of many short rounds.
 *
 * shim [--quick]                    measures; the guests' code lies in $BENCH_DIR
 * shim CODE REUSE REQUESTS          does only that, for a profiler or for callgrind, which has room for a few
 * slots only */
#include "base/err.h"
#include "bench.h"
#include "engine/component.h"

#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#define DEADLINE_TICKS 1000

typedef struct one {
    unsigned status;
    size_t bytes;
    bool ended;
} one;

static atomic_bool woken;

static void on_head(void *user, unsigned status, WH_UNUSED const wh_component_field *fields,
                    WH_UNUSED size_t n)
{
    ((one *)user)->status = status;
}

static bool on_body(void *user, WH_UNUSED const void *p, size_t n)
{
    ((one *)user)->bytes += n;
    return true;
}

static void on_end(void *user, WH_UNUSED const wh_outcome *outcome,
                   WH_UNUSED const wh_component_field *trailers, WH_UNUSED size_t n)
{
    ((one *)user)->ended = true;
}

static void on_taken(WH_UNUSED void *user, WH_UNUSED size_t queued)
{
}

static void on_wake(WH_UNUSED void *user)
{
    atomic_store(&woken, true);
}

static int on_write(WH_UNUSED void *user, WH_UNUSED int stream, WH_UNUSED const void *p, WH_UNUSED size_t n)
{
    return 0;
}

static void must(int rc, const wh_err *err)
{
    if (rc < 0) {
        (void)fprintf(stderr, "shim: %s\n", err->msg);
        exit(1);
    }
}

static const wh_component_callbacks callbacks = {
    .on_head = on_head, .on_body = on_body, .on_end = on_end, .on_taken = on_taken, .wake = on_wake};
static const wh_component_config config = {.stdin_fd = -1,
                                           .write = on_write,
                                           .callbacks = &callbacks,
                                           .limits = {.memory_bytes_max = 64UL << 20},
                                           .deadline_ticks = DEADLINE_TICKS};

static void request(wh_component_instance *instance)
{
    static const wh_component_field fields[] = {{WH_STR("user-agent"), WH_STR("bench")},
                                                {WH_STR("accept"), WH_STR("*/*")}};
    static const wh_component_head head = {.method = WH_STR("GET"),
                                           .scheme = WH_STR("http"),
                                           .authority = WH_STR("127.0.0.1:8080"),
                                           .path_query = WH_STR("/"),
                                           .fields = fields,
                                           .n_fields = WH_ARRAY_LEN(fields)};
    wh_err err = {0};
    wh_component_call *call;
    one got = {0};
    must(wh_component_begin(instance, &head, &got, &call, &err), &err);
    for (int polls = 0; !got.ended && polls < 10000; polls++)
        (void)wh_component_poll(instance);
    if (got.status != 200 || got.bytes == 0) {
        (void)fprintf(stderr, "shim: status %u, %zu bytes\n", got.status, got.bytes);
        exit(1);
    }
}

static void requests(wh_component *component, unsigned reuse, int n)
{
    wh_err err = {0};
    for (int done = 0; done < n;) {
        wh_component_instance *instance;
        must(wh_component_instance_new(component, NULL, &instance, &err), &err);
        for (unsigned k = 0; k < reuse && done < n; k++, done++)
            request(instance);
        wh_component_instance_free(instance);
    }
}

static wh_component *load(const char *path, uint32_t slots, wh_engine **ret_engine)
{
    wh_err err = {0};
    wh_component *component;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        (void)fprintf(stderr, "shim: %s: %m\n", path);
        exit(77);
    }
    const wh_engine_config engine = {
        .profile = WH_PROFILE_SHARED | WH_PROFILE_CM, .pool_slots = slots, .pool_memory_max = 64UL << 20};
    must(wh_engine_wasmtime.engine_new(&engine, ret_engine, &err), &err);
    must(wh_component_load(*ret_engine, fd, &config, &component, &err), &err);
    must(wh_component_warm(component, &err), &err);
    (void)close(fd);
    return component;
}

static void measure(const char *folder, const char *version, int rounds)
{
    char path[PATH_MAX], name[64];
    wh_engine *engine;
    (void)snprintf(path, sizeof(path), "%s/../tests/unit/engine/hello-%s.cwasm", folder, version);
    wh_component *component = load(path, 64, &engine);
    requests(component, 1, 200);
    double fresh = BENCH_MIN_NS(rounds, 64, requests(component, 1, 64));
    double reused = BENCH_MIN_NS(rounds, 256, requests(component, 128, 256));
    bool p2 = strcmp(version, "p2") == 0;
    (void)snprintf(name, sizeof(name), "shim_hello_%s_fresh_us", version);
    bench_report(name, fresh / 1000, "us", NULL, 0, p2 ? 50 : 0);
    (void)snprintf(name, sizeof(name), "shim_hello_%s_reuse_us", version);
    bench_report(name, reused / 1000, "us", NULL, 0, p2 ? 15 : 0);
    wh_component_free(component);
    wh_engine_wasmtime.engine_free(engine);
}

int main(int argc, char **argv)
{
    const char *folder = getenv("BENCH_DIR");
    if (argc == 4) {
        wh_engine *engine;
        wh_component *component = load(argv[1], 4, &engine);
        requests(component, (unsigned)atoi(argv[2]), atoi(argv[3]));
        return 0;
    }
    if (folder == NULL) {
        (void)fprintf(stderr, "shim: BENCH_DIR is not set; start it by bench/run shim\n");
        return 2;
    }
    int rounds = bench_rounds(argc, argv, 400);
    measure(folder, "p2", rounds);
    measure(folder, "p3", rounds);
    return 0;
}
