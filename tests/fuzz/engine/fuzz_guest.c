/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a guest: compiled, loaded, described, linked, started under small limits, and each function
 * that takes and gives nothing called under a deadline. */
#include "engine/engine.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>

#define ops (&wh_engine_wasmtime)
#define CALLS_MAX 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static wh_engine *engine;

static void on_alarm(int signo)
{
    (void)signo;
    ops->tick(engine);
}

static void set_up(void)
{
    wh_err err = {0};
    if (ops->engine_new(&(wh_engine_config){.profile = WH_PROFILE_SHARED | WH_PROFILE_GC}, &engine, &err) < 0)
        abort();
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    const struct itimerval each = {.it_interval.tv_usec = 2000, .it_value.tv_usec = 2000};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &each, NULL);
}

static wh_host_result answer(wh_frame *frame, wh_slot *io, void *env)
{
    (void)env;
    if (frame->mem != NULL && frame->mem_bytes > 0)
        frame->mem[(uint32_t)io[0].i32 % frame->mem_bytes] ^= 1;
    return WH_HOST_OK;
}

static const wh_import imports[] = {
    {"env", "put", "(ii)i", answer, NULL},   {"env", "mix", "(iIfF)F", answer, NULL},
    {"env", "exit", "(i)", answer, NULL},    {"env", "refuse", "()", answer, NULL},
    {"env", "reenter", "(i)", answer, NULL},
};

typedef struct names {
    char *name[CALLS_MAX];
    size_t n;
} names;

static int see(void *user, bool import, const wh_type_names *type)
{
    names *found = user;
    if ((type->kind == 'f') != (type->sig != NULL) || import != (type->module != NULL))
        abort();
    if (!import && type->sig != NULL && strcmp(type->sig, "()") == 0 && found->n < CALLS_MAX)
        found->name[found->n++] = wh_xstrdup(type->name);
    return 0;
}

static void run(wh_template *tmpl, const names *found)
{
    wh_err err = {0};
    wh_outcome outcome;
    const wh_guest_limits limits = {
        .memory_bytes_max = 4UL << 20, .table_elems_max = 10000, .start_ticks = 2};
    for (size_t i = 0; i < found->n; i++) {
        wh_instance *instance = NULL;
        wh_func func;
        if (ops->instance_new(tmpl, &limits, NULL, &instance, &outcome, &err) < 0)
            return;
        if (ops->func(instance, found->name[i], "()", &func, &err) == 0)
            ops->call(instance, &func, NULL, 0, 2, &outcome);
        if (ops->memory_peak(instance) > limits.memory_bytes_max)
            abort();
        ops->instance_free(instance);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    wh_err err = {0};
    auto_free void *code = NULL;
    size_t code_bytes = 0;
    if (engine == NULL)
        set_up();
    if (ops->compile(engine, data, n, &code, &code_bytes, &err) < 0)
        return 0;
    auto_close int fd = memfd_create("code", MFD_CLOEXEC);
    if (fd < 0 || write(fd, code, code_bytes) != (ssize_t)code_bytes)
        return 0;
    wh_module *module = NULL;
    if (ops->load(engine, fd, &module, &err) < 0)
        abort(); /* what was compiled a moment ago */
    names found = {.n = 0};
    wh_template *tmpl = NULL;
    ops->describe(module, see, &found);
    if (ops->template_new(engine, module, imports, WH_ARRAY_LEN(imports), &tmpl, &err) == 0) {
        run(tmpl, &found);
        ops->template_free(tmpl);
    }
    for (size_t i = 0; i < found.n; i++)
        free(found.name[i]);
    ops->unload(module);
    return 0;
}
