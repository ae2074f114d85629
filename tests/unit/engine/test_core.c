/* SPDX-License-Identifier: Apache-2.0 */
/* The set without a compiler loads what the other made at build time, each profile's file under that profile
 * only. */
#include "base/file.h"
#include "engine/engine.h"
#include "harness.h"

#include <fcntl.h>

#define ops (&wh_engine_wasmtime)

static const unsigned profiles[] = {WH_PROFILE_POD, WH_PROFILE_SHARED, WH_PROFILE_POD | WH_PROFILE_GC,
                                    WH_PROFILE_SHARED | WH_PROFILE_GC};

static int open_code(unsigned profile)
{
    const char *folder = getenv("GUESTS");
    CHECK(folder != NULL);
    auto_free char *path = wh_xasprintf("%s/traps.%s.cwasm", folder, wh_profile_name(profile));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK_INT(fd, >=, 0);
    return fd;
}

TEST(this_set_has_no_compiler)
{
    wh_err err = {0};
    wh_engine *engine = NULL;
    void *code = NULL;
    size_t bytes = 0;
    CHECK_INT(ops->caps & WH_CAP_COMPILE, ==, 0);
    CHECK_OK(ops->engine_new(&(wh_engine_config){0}, &engine, &err), &err);
    CHECK_ERR(ops->compile(engine, "\0asm\1\0\0\0", 8, &code, &bytes, &err), -ENOTSUP, &err, "only loads");
    ops->engine_free(engine);
}

TEST(every_profile_loads_and_runs_its_own)
{
    for (size_t made = 0; made < WH_ARRAY_LEN(profiles); made++) {
        auto_close int fd = open_code(profiles[made]);
        for (size_t loaded = 0; loaded < WH_ARRAY_LEN(profiles); loaded++) {
            wh_err err = {0};
            wh_outcome outcome;
            wh_engine *engine = NULL;
            wh_module *module = NULL;
            CHECK_OK(ops->engine_new(&(wh_engine_config){.profile = profiles[loaded]}, &engine, &err), &err);
            if (made != loaded) {
                CHECK_ERR(ops->load(engine, fd, &module, &err), -ESTALE, &err, wh_engine_tag(profiles[made]));
                ops->engine_free(engine);
                continue;
            }
            wh_template *tmpl = NULL;
            wh_instance *instance = NULL;
            wh_func add;
            CHECK_OK(ops->load(engine, fd, &module, &err), &err);
            CHECK_OK(ops->template_new(engine, module, NULL, 0, &tmpl, &err), &err);
            CHECK_OK(ops->instance_new(tmpl, NULL, NULL, &instance, &outcome, &err), &err);
            CHECK_OK(ops->func(instance, "add", "(II)I", &add, &err), &err);
            wh_slot io[2] = {{.i64 = 40}, {.i64 = 2}};
            CHECK_INT(ops->call(instance, &add, io, 2, 0, &outcome), ==, WH_END_OK);
            CHECK_INT(io[0].i64, ==, 42);
            ops->instance_free(instance);
            ops->template_free(tmpl);
            ops->unload(module);
            ops->engine_free(engine);
        }
    }
}
