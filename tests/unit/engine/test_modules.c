/* SPDX-License-Identifier: Apache-2.0 */
/* Engines, compiled files, profiles, imports, and starting instances. */
#include "base/file.h"
#include "guests.h"
#include "harness.h"

#include <fcntl.h>
#include <sys/resource.h>

static const unsigned profiles[] = {WH_PROFILE_POD, WH_PROFILE_SHARED, WH_PROFILE_POD | WH_PROFILE_GC,
                                    WH_PROFILE_SHARED | WH_PROFILE_GC};

TEST(profiles_have_names_and_tags)
{
    for (size_t i = 0; i < WH_ARRAY_LEN(profiles); i++) {
        unsigned back = 99;
        CHECK_INT(wh_profile_parse(wh_profile_name(profiles[i]), &back), ==, 0);
        CHECK_INT(back, ==, profiles[i]);
        CHECK_CONTAINS(wh_engine_tag(profiles[i]), wh_profile_name(profiles[i]));
        CHECK_CONTAINS(wh_engine_tag(profiles[i]), ops->version);
    }
    unsigned untouched = 99;
    CHECK_INT(wh_profile_parse("fast", &untouched), ==, -EINVAL);
    CHECK_INT(wh_profile_parse(NULL, &untouched), ==, -EINVAL);
    CHECK_INT(untouched, ==, 99);
    CHECK(wh_profile_name(7) == NULL);
    CHECK(wh_engine_tag(7) == NULL);
}

TEST(a_bad_setting_is_an_error)
{
    wh_err err = {0};
    wh_engine *engine = NULL;
    CHECK_ERR(ops->engine_new(&(wh_engine_config){.profile = 7}, &engine, &err), -EINVAL, &err,
              "no code profile 7");
    CHECK_ERR(ops->engine_new(&(wh_engine_config){.stack_bytes_max = (2UL << 20) + 1}, &engine, &err),
              -EINVAL, &err, "at most");
    CHECK_ERR(ops->engine_new(&(wh_engine_config){.pool_slots = 100001}, &engine, &err), -EINVAL, &err,
              "pool");
    CHECK_ERR(
        ops->engine_new(&(wh_engine_config){.pool_slots = 1, .pool_memory_max = 5ULL << 30}, &engine, &err),
        -EINVAL, &err, "4 GiB");
    CHECK(engine == NULL);
    CHECK_OK(ops->engine_new(&(wh_engine_config){.stack_bytes_max = 2UL << 20}, &engine, &err), &err);
    ops->engine_free(engine);
    ops->engine_free(NULL);
}

TEST(a_pool_that_cannot_be_had_is_an_error)
{
    wh_err err = {0};
    wh_engine *engine = NULL;
    /* 100,000 slots of 6 GiB are more than the address space has. */
    CHECK_ERR(ops->engine_new(&(wh_engine_config){.pool_slots = 100000}, &engine, &err), -EINVAL, &err,
              "engine");
    CHECK(engine == NULL);
}

TEST(a_stack_that_the_process_has_not_is_an_error)
{
    wh_err err = {0};
    wh_engine *engine = NULL;
    struct rlimit limit;
    CHECK_INT(getrlimit(RLIMIT_STACK, &limit), ==, 0);
    limit.rlim_cur = 1UL << 20;
    CHECK_INT(setrlimit(RLIMIT_STACK, &limit), ==, 0);
    CHECK_ERR(ops->engine_new(&(wh_engine_config){.stack_bytes_max = 2UL << 20}, &engine, &err), -EINVAL,
              &err, "RLIMIT_STACK");
    CHECK_OK(ops->engine_new(&(wh_engine_config){0}, &engine, &err), &err);
    ops->engine_free(engine);
}

TEST(each_profile_loads_its_own_files_only)
{
    for (size_t made = 0; made < WH_ARRAY_LEN(profiles); made++) {
        wh_engine *maker = engine_of(profiles[made]);
        auto_close int fd = compiled(maker, "traps.wasm");
        ops->engine_free(maker);
        for (size_t loaded = 0; loaded < WH_ARRAY_LEN(profiles); loaded++) {
            wh_err err = {0};
            wh_module *module = NULL;
            wh_engine *engine = engine_of(profiles[loaded]);
            if (made == loaded) {
                CHECK_OK(ops->load(engine, fd, &module, &err), &err);
                ops->unload(module);
            } else {
                CHECK_ERR(ops->load(engine, fd, &module, &err), -ESTALE, &err, wh_engine_tag(profiles[made]));
                CHECK_CONTAINS(err.msg, wh_engine_tag(profiles[loaded]));
                CHECK(module == NULL);
            }
            ops->engine_free(engine);
        }
    }
}

TEST(settings_of_the_running_engine_do_not_tie_files)
{
    wh_err err = {0};
    wh_module *module = NULL;
    wh_engine *maker = engine_of(WH_PROFILE_SHARED), *engine = NULL;
    auto_close int fd = compiled(maker, "traps.wasm");
    const wh_engine_config config = {.profile = WH_PROFILE_SHARED,
                                     .stack_bytes_max = 1UL << 20,
                                     .pool_slots = 4,
                                     .pool_memory_max = 1UL << 30,
                                     .memory_bytes_max = 64UL << 20};
    CHECK_OK(ops->engine_new(&config, &engine, &err), &err);
    CHECK_OK(ops->load(engine, fd, &module, &err), &err);
    ops->unload(module);
    ops->engine_free(engine);
    ops->engine_free(maker);
}

TEST(a_file_of_another_version_is_refused)
{
    wh_err err = {0};
    wh_module *module = NULL;
    wh_engine *engine = engine_of(WH_PROFILE_POD);
    size_t n = 0;
    auto_free void *wasm = guest_bytes("traps.wasm", &n);
    auto_free void *code = NULL;
    size_t bytes = 0;
    CHECK_OK(ops->compile(engine, wasm, n, &code, &bytes, &err), &err);
    char *tag = memmem(code, bytes, wh_engine_tag(WH_PROFILE_POD), strlen(wh_engine_tag(WH_PROFILE_POD)));
    CHECK(tag != NULL);
    tag[5] = '7'; /* 48.0.7 */
    auto_close int fd = fd_of(code, bytes);
    CHECK_ERR(ops->load(engine, fd, &module, &err), -ESTALE, &err, "48.0.7+pod");
    ops->engine_free(engine);
}

TEST(damaged_files_are_refused)
{
    wh_err err = {0};
    wh_engine *engine = engine_of(WH_PROFILE_POD);
    size_t n = 0;
    auto_free void *wasm = guest_bytes("traps.wasm", &n);
    auto_free uint8_t *code = NULL;
    size_t bytes = 0;
    CHECK_OK(ops->compile(engine, wasm, n, (void **)&code, &bytes, &err), &err);
    uint8_t *tag = memmem(code, bytes, wh_engine_tag(WH_PROFILE_POD), strlen(wh_engine_tag(WH_PROFILE_POD)));
    CHECK(tag != NULL);
    /* Any bit of the identification, and of the tag with its length and format byte in front. */
    size_t from[] = {0, (size_t)(tag - code) - 2}, length[] = {7, 2 + strlen(wh_engine_tag(WH_PROFILE_POD))};
    for (size_t part = 0; part < 2; part++) {
        for (size_t bit = from[part] * 8; bit < (from[part] + length[part]) * 8; bit++) {
            wh_module *module = NULL;
            code[bit / 8] ^= (uint8_t)(1U << (bit % 8));
            int fd = fd_of(code, bytes);
            int rc = ops->load(engine, fd, &module, &err);
            CHECK(rc == -EBADMSG || rc == -ESTALE);
            CHECK(module == NULL);
            close(fd);
            code[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        }
    }
    /* Cut short anywhere in the head, and empty. */
    for (size_t cut = 0; cut < 256; cut += 16) {
        wh_module *module = NULL;
        int fd = fd_of(code, cut);
        CHECK_INT(ops->load(engine, fd, &module, &err), ==, -EBADMSG);
        close(fd);
    }
    wh_module *module = NULL;
    CHECK_ERR(ops->load(engine, -1, &module, &err), -EBADF, &err, "load");
    auto_close int plain = fd_of(wasm, n);
    CHECK_ERR(ops->load(engine, plain, &module, &err), -EBADMSG, &err, "load");
    ops->engine_free(engine);
}

TEST(what_is_no_module_does_not_compile)
{
    wh_err err = {0};
    void *code = NULL;
    size_t bytes = 0, n = 0;
    wh_engine *engine = engine_of(WH_PROFILE_POD);
    CHECK_ERR(ops->compile(engine, "hello, world", 12, &code, &bytes, &err), -EBADMSG, &err, "compile");
    CHECK_ERR(ops->compile(engine, "", 0, &code, &bytes, &err), -EBADMSG, &err, "compile");
    /* Proposals that the profile leaves out, by name. */
    auto_free void *throws = guest_bytes("exception.wasm", &n);
    CHECK_ERR(ops->compile(engine, throws, n, &code, &bytes, &err), -EBADMSG, &err, "exceptions");
    auto_free void *atomics = guest_bytes("atomics.wasm", &n);
    CHECK_ERR(ops->compile(engine, atomics, n, &code, &bytes, &err), -EBADMSG, &err, "threads");
    CHECK(code == NULL);
    ops->engine_free(engine);
}

TEST(missing_imports_are_named_all_at_once)
{
    wh_err err = {0};
    wh_module *module = NULL;
    wh_template *tmpl = NULL;
    wh_engine *engine = engine_of(WH_PROFILE_POD);
    auto_close int fd = compiled(engine, "missing.wasm");
    CHECK_OK(ops->load(engine, fd, &module, &err), &err);
    CHECK_ERR(ops->template_new(engine, module, host_imports, host_imports_n, &tmpl, &err), -ENOENT, &err,
              "missing imports: ");
    CHECK_CONTAINS(err.msg, "env.mix (i)i (offered: (iIfF)F)");
    CHECK_CONTAINS(err.msg, "wasi_snapshot_preview2.brew_tea (iI)F");
    CHECK_CONTAINS(err.msg, "memory env.memory");
    CHECK_CONTAINS(err.msg, "global env.base");
    CHECK(strstr(err.msg, "env.put") == NULL);
    CHECK(tmpl == NULL);
    /* What does not fit is counted. */
    ops->unload(module);
    auto_close int host = compiled(engine, "many_imports.wasm");
    CHECK_OK(ops->load(engine, host, &module, &err), &err);
    CHECK_ERR(ops->template_new(engine, module, NULL, 0, &tmpl, &err), -ENOENT, &err, "more.");
    CHECK_CONTAINS(err.msg, "a_module_with_a_long_name.function_number_01 ()");
    ops->unload(module);
    ops->engine_free(engine);
}

typedef struct seen {
    size_t imports, exports;
    bool put, memory, nul, stop_early;
} seen;

static int see(void *user, bool import, const wh_type_names *type)
{
    seen *s = user;
    *(import ? &s->imports : &s->exports) += 1;
    if (import && strcmp(type->name, "put") == 0)
        s->put = strcmp(type->module, "env") == 0 && type->kind == 'f' && strcmp(type->sig, "(ii)i") == 0;
    if (!import && strcmp(type->name, "memory") == 0)
        s->memory = type->module == NULL && type->kind == 'm' && type->sig == NULL;
    s->nul = s->nul || strcmp(type->name, "nul?name") == 0;
    return s->stop_early ? 17 : 0;
}

TEST(modules_describe_themselves)
{
    wh_rig rig = rig_up(WH_PROFILE_POD, "host.wasm", NULL, NULL);
    seen s = {0};
    CHECK_INT(ops->describe(rig.module, see, &s), ==, 0);
    CHECK_INT(s.imports, ==, 5);
    CHECK_INT(s.exports, ==, 10);
    CHECK(s.put);
    CHECK(s.memory);
    s = (seen){.stop_early = true};
    CHECK_INT(ops->describe(rig.module, see, &s), ==, 17);
    CHECK_INT(s.imports + s.exports, ==, 1);
    const void *base = NULL;
    size_t bytes = 0;
    ops->image(rig.module, &base, &bytes);
    CHECK(base != NULL);
    CHECK_INT(bytes, >, 0);
    rig_down(&rig);
    rig = rig_up(WH_PROFILE_POD, "traps.wasm", NULL, NULL);
    s = (seen){.stop_early = false};
    CHECK_INT(ops->describe(rig.module, see, &s), ==, 0);
    CHECK(s.nul);
    rig_down(&rig);
}

static int start(unsigned profile, const char *file, const wh_guest_limits *limits, void *user,
                 wh_outcome *outcome, wh_err *err)
{
    wh_module *module = NULL;
    wh_template *tmpl = NULL;
    wh_instance *instance = NULL;
    wh_engine *engine = engine_of(profile);
    auto_close int fd = compiled(engine, file);
    CHECK_OK(ops->load(engine, fd, &module, err), err);
    CHECK_OK(ops->template_new(engine, module, host_imports, host_imports_n, &tmpl, err), err);
    int rc = ops->instance_new(tmpl, limits, user, &instance, outcome, err);
    CHECK(rc == 0 || instance == NULL);
    ops->instance_free(instance);
    ops->template_free(tmpl);
    ops->unload(module);
    ops->engine_free(engine);
    return rc;
}

TEST(a_start_function_traps)
{
    wh_err err = {0};
    wh_outcome outcome;
    CHECK_ERR(start(WH_PROFILE_POD, "start_trap.wasm", NULL, NULL, &outcome, &err), -EFAULT, &err,
              "unreachable");
    CHECK_INT(outcome.end, ==, WH_END_TRAP);
    CHECK_INT(outcome.trap, ==, WH_TRAP_UNREACHABLE);
    CHECK_CONTAINS(outcome.msg, "boom");
}

TEST(a_start_function_calls_the_host_and_exits)
{
    wh_err err = {0};
    wh_outcome outcome;
    wh_host_log log = {0};
    CHECK_INT(start(WH_PROFILE_POD, "start_host.wasm", NULL, &log, &outcome, &err), ==, -EFAULT);
    CHECK_INT(outcome.end, ==, WH_END_EXIT);
    CHECK_INT(outcome.exit_code, ==, 7);
    CHECK_STR(log.put, "start"); /* the memory is known before the instance is */
}

TEST(a_guest_that_does_not_fit_is_not_started)
{
    wh_err err = {0};
    wh_outcome outcome;
    const wh_guest_limits below = {.memory_bytes_max = 99 * 65536}, exact = {.memory_bytes_max = 100 * 65536};
    CHECK_ERR(start(WH_PROFILE_POD, "big.wasm", &below, NULL, &outcome, &err), -ENOMEM, &err, "no room");
    CHECK(outcome.memory_refused);
    CHECK_INT(outcome.trap, ==, WH_TRAP_OUT_OF_MEMORY);
    CHECK_OK(start(WH_PROFILE_POD, "big.wasm", &exact, NULL, &outcome, &err), &err);
}

TEST(a_pool_reuses_its_slots_and_ends)
{
    wh_err err = {0};
    wh_outcome outcome;
    const wh_engine_config config = {
        .profile = WH_PROFILE_SHARED, .pool_slots = 2, .pool_memory_max = 16UL << 20};
    wh_engine *engine = NULL;
    wh_module *module = NULL;
    wh_template *tmpl = NULL;
    CHECK_OK(ops->engine_new(&config, &engine, &err), &err);
    auto_close int fd = compiled(engine, "traps.wasm");
    CHECK_OK(ops->load(engine, fd, &module, &err), &err);
    CHECK_OK(ops->template_new(engine, module, NULL, 0, &tmpl, &err), &err);
    wh_instance *instances[3] = {NULL};
    for (int round = 0; round < 1000; round++) {
        wh_slot io[1];
        for (size_t i = 0; i < 2; i++) {
            CHECK_OK(ops->instance_new(tmpl, NULL, NULL, &instances[i], &outcome, &err), &err);
            CHECK_INT(call(instances[i], "count", io, 1, &outcome), ==, WH_END_OK);
            CHECK_INT(io[0].i32, ==, 1);
        }
        if (round == 0)
            CHECK_INT(ops->instance_new(tmpl, NULL, NULL, &instances[2], &outcome, &err), ==, -ENOMEM);
        for (size_t i = 0; i < 2; i++)
            ops->instance_free(instances[i]);
    }
    /* The pool's own cap holds below the guest's limit. */
    CHECK_OK(ops->instance_new(tmpl, NULL, NULL, &instances[0], &outcome, &err), &err);
    wh_slot io[1] = {{.i32 = 300}};
    CHECK_INT(call(instances[0], "grow", io, 1, &outcome), ==, WH_END_OK);
    CHECK_INT(io[0].i32, ==, -1);
    ops->instance_free(instances[0]);
    ops->template_free(tmpl);
    ops->unload(module);
    ops->engine_free(engine);
}

TEST(many_instances_live_at_once)
{
    wh_err err = {0};
    wh_outcome outcome;
    wh_rig rig = rig_up(WH_PROFILE_POD, "traps.wasm", NULL, NULL);
    enum { N = 200 };
    wh_instance *instances[N];
    for (size_t i = 0; i < N; i++)
        CHECK_OK(ops->instance_new(rig.tmpl, NULL, NULL, &instances[i], &outcome, &err), &err);
    for (size_t i = 0; i < N; i++) {
        wh_slot io[1];
        CHECK_INT(call(instances[i], "count", io, 1, &outcome), ==, WH_END_OK);
        CHECK_INT(io[0].i32, ==, 1);
    }
    for (size_t i = 0; i < N; i++)
        ops->instance_free(instances[i]);
    rig_down(&rig);
}
