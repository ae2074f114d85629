/* SPDX-License-Identifier: Apache-2.0 */
/* Calls in and out, traps, exits, deadlines and limits. */
#include "base/clock.h"
#include "guests.h"
#include "harness.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>

/* Arrays, casts and references, which wat2wasm cannot write: "bounds", "cast", "huge" and "null". */
static const uint8_t gc_wasm[] = {
    0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00,       /* magic, version */
    0x01, 0x07, 0x02, 0x5e, 0x7f, 0x01, 0x60, 0x00, 0x00, /* types: array of mutable i32; function ()->() */
    0x03, 0x05, 0x04, 0x01, 0x01, 0x01, 0x01,             /* four functions of type 1 */
    0x07, 0x1f, 0x04,                                     /* exports */
    0x06, 'b',  'o',  'u',  'n',  'd',  's',  0x00, 0x00, /**/
    0x04, 'c',  'a',  's',  't',  0x00, 0x01,             /**/
    0x04, 'h',  'u',  'g',  'e',  0x00, 0x02,             /**/
    0x04, 'n',  'u',  'l',  'l',  0x00, 0x03,             /**/
    0x0a, 0x28, 0x04,                                     /* code */
    0x0d, 0x00, 0x41, 0x00, 0xfb, 0x07, 0x00, 0x41, 0x05, /* array.get 5 of array.new_default 0 */
    0xfb, 0x0b, 0x00, 0x1a, 0x0b,                         /**/
    0x08, 0x00, 0xd0, 0x6e, 0xfb, 0x16, 0x00, 0x1a, 0x0b, /* ref.cast (ref 0) of null */
    0x08, 0x00, 0x41, 0x7f, 0xfb, 0x07, 0x00, 0x1a, 0x0b, /* array.new_default of 4 Gi elements */
    0x06, 0x00, 0xd0, 0x01, 0x14, 0x01, 0x0b,             /* call_ref of null */
};

typedef struct trap_case {
    const char *name;
    wh_trap trap;
    const char *text;
} trap_case;

static void check_traps(unsigned profile)
{
    static const trap_case cases[] = {
        {"unreachable", WH_TRAP_UNREACHABLE, "unreachable code reached"},
        {"memory_bounds", WH_TRAP_MEMORY_BOUNDS, "memory access out of bounds"},
        {"table_bounds", WH_TRAP_TABLE_BOUNDS, "table access out of bounds"},
        {"indirect_null", WH_TRAP_INDIRECT_NULL, "indirect call to null"},
        {"bad_signature", WH_TRAP_BAD_SIGNATURE, "signature mismatch"},
        {"integer_overflow", WH_TRAP_INTEGER_OVERFLOW, "integer overflow"},
        {"division_by_zero", WH_TRAP_DIVISION_BY_ZERO, "division by zero"},
        {"bad_conversion", WH_TRAP_BAD_CONVERSION, "invalid conversion to integer"},
        {"stack_overflow", WH_TRAP_STACK_OVERFLOW, "call stack exhausted"},
    };
    wh_rig rig = rig_up(profile, "traps.wasm", NULL, NULL);
    for (size_t i = 0; i < WH_ARRAY_LEN(cases); i++) {
        wh_err err = {0};
        wh_outcome outcome;
        wh_instance *instance = NULL;
        wh_slot io[1] = {{.i64 = 0}};
        CHECK_OK(ops->instance_new(rig.tmpl, NULL, NULL, &instance, &outcome, &err), &err);
        CHECK_INT(call(instance, cases[i].name, io, 0, &outcome), ==, WH_END_TRAP);
        CHECK_INT(outcome.end, ==, WH_END_TRAP);
        CHECK_INT(outcome.trap, ==, cases[i].trap);
        CHECK(!outcome.memory_refused);
        CHECK_CONTAINS(outcome.msg, cases[i].text);
        CHECK(wh_trap_name(outcome.trap) != NULL);
        /* A trapped instance is over. */
        CHECK_INT(call(instance, "nop", io, 0, &outcome), ==, WH_END_TRAP);
        CHECK_CONTAINS(outcome.msg, "ended already");
        ops->instance_free(instance);
    }
    rig_down(&rig);
}

TEST(traps_of_the_pod_profile)
{
    check_traps(WH_PROFILE_POD);
}

TEST(traps_of_the_shared_profile)
{
    check_traps(WH_PROFILE_SHARED);
}

TEST(traps_of_garbage_collected_guests)
{
    static const trap_case cases[] = {
        {"bounds", WH_TRAP_ARRAY_BOUNDS, "array access out of bounds"},
        {"cast", WH_TRAP_CAST, "cast failure"},
        {"huge", WH_TRAP_OUT_OF_MEMORY, "out of memory"},
        {"null", WH_TRAP_NULL_REFERENCE, "null reference"},
    };
    for (size_t i = 0; i < WH_ARRAY_LEN(cases); i++) {
        wh_outcome outcome;
        wh_rig rig = rig_up_bytes(WH_PROFILE_POD | WH_PROFILE_GC, gc_wasm, sizeof(gc_wasm));
        CHECK_INT(call(rig.instance, cases[i].name, NULL, 0, &outcome), ==, WH_END_TRAP);
        CHECK_INT(outcome.trap, ==, cases[i].trap);
        CHECK_CONTAINS(outcome.msg, cases[i].text);
        rig_down(&rig);
    }
}

TEST(uncaught_exception)
{
    wh_outcome outcome;
    wh_rig rig = rig_up(WH_PROFILE_POD | WH_PROFILE_GC, "exception.wasm", NULL, NULL);
    CHECK_INT(call(rig.instance, "throw", NULL, 0, &outcome), ==, WH_END_TRAP);
    CHECK_INT(outcome.trap, ==, WH_TRAP_EXCEPTION);
    CHECK_CONTAINS(outcome.msg, "uncaught exception");
    rig_down(&rig);
}

TEST(backtrace_names_functions_innermost_first)
{
    wh_outcome outcome;
    wh_rig rig = rig_up(WH_PROFILE_POD, "traps.wasm", NULL, NULL);
    CHECK_INT(call(rig.instance, "unreachable", NULL, 0, &outcome), ==, WH_END_TRAP);
    const char *inner = strstr(outcome.msg, "inner"), *outer = strstr(outcome.msg, "outer");
    CHECK(inner != NULL);
    CHECK(outer != NULL);
    CHECK(inner < outer);
    rig_down(&rig);
    /* The deepest backtrace fits, and ends. */
    rig = rig_up(WH_PROFILE_POD, "traps.wasm", NULL, NULL);
    CHECK_INT(call(rig.instance, "stack_overflow", NULL, 0, &outcome), ==, WH_END_TRAP);
    CHECK_CONTAINS(outcome.msg, "recurse");
    CHECK_INT(strlen(outcome.msg), <, sizeof(outcome.msg));
    rig_down(&rig);
}

TEST(backtrace_has_lines_where_the_guest_has_the_process_to_itself)
{
    wh_outcome outcome;
    wh_slot io[1];
    auto_free char *path = wh_xasprintf("%s/lines.wasm", getenv("GUESTS"));
    if (access(path, R_OK) != 0)
        SKIP("no clang that makes a guest with debug information");
    wh_rig rig = rig_up(WH_PROFILE_POD, "lines.wasm", NULL, NULL);
    CHECK_INT(call(rig.instance, "go", io, 1, &outcome), ==, WH_END_TRAP);
    CHECK_CONTAINS(outcome.msg, "guests/lines.c:1");
    CHECK_CONTAINS(outcome.msg, "lines.c:17:");
    rig_down(&rig);
    rig = rig_up(WH_PROFILE_SHARED, "lines.wasm", NULL, NULL);
    CHECK_INT(call(rig.instance, "go", io, 1, &outcome), ==, WH_END_TRAP);
    CHECK_CONTAINS(outcome.msg, "inner");
    CHECK(strstr(outcome.msg, "lines.c") == NULL);
    rig_down(&rig);
}

TEST(arguments_and_results)
{
    wh_outcome outcome;
    wh_rig rig = rig_up(WH_PROFILE_POD, "traps.wasm", NULL, NULL);
    wh_slot io[4] = {{.i64 = INT64_MAX}, {.i64 = 2}};
    CHECK_INT(call(rig.instance, "add", io, 2, &outcome), ==, WH_END_OK);
    CHECK_INT(io[0].i64, ==, INT64_MIN + 1);
    io[0].i32 = -5;
    io[1].i64 = 1LL << 40;
    io[2].f32 = 1.5F;
    io[3].f64 = -2.25;
    CHECK_INT(call(rig.instance, "swap", io, 4, &outcome), ==, WH_END_OK);
    CHECK(io[0].f64 < -2.2 && io[0].f64 > -2.3);
    CHECK(io[1].f32 > 1.4F && io[1].f32 < 1.6F);
    CHECK_INT(io[2].i64, ==, 1LL << 40);
    CHECK_INT(io[3].i32, ==, -5);
    io[0].i32 = 0x01020304;
    CHECK_INT(call(rig.instance, "vector", io, 1, &outcome), ==, WH_END_OK);
    for (size_t i = 0; i < 16; i++)
        CHECK_INT(io[0].v128[i], ==, 4 - i % 4);
    rig_down(&rig);
}

TEST(exports_are_found_by_name_and_signature)
{
    wh_err err = {0};
    wh_func func;
    wh_rig rig = rig_up(WH_PROFILE_POD, "traps.wasm", NULL, NULL);
    CHECK_OK(ops->func(rig.instance, "swap", "(iIfF)FfIi", &func, &err), &err);
    CHECK_OK(ops->func(rig.instance, "vector", "(i)V", &func, &err), &err);
    CHECK_ERR(ops->func(rig.instance, "add", "(ii)i", &func, &err), -EINVAL, &err,
              "(II)I where (ii)i is wanted");
    CHECK_ERR(ops->func(rig.instance, "absent", "()", &func, &err), -ENOENT, &err, "absent");
    CHECK_ERR(ops->func(rig.instance, "memory", "()", &func, &err), -ENOENT, &err, "no function");
    rig_down(&rig);
}

TEST(an_instance_is_called_again_and_keeps_its_state)
{
    wh_outcome outcome;
    wh_rig rig = rig_up(WH_PROFILE_POD, "traps.wasm", NULL, NULL);
    wh_func count = export_of(rig.instance, "count", "()i");
    for (int i = 1; i <= 1000; i++) {
        wh_slot io[1];
        CHECK_INT(ops->call(rig.instance, &count, io, 1, 0, &outcome), ==, WH_END_OK);
        CHECK_INT(io[0].i32, ==, i);
    }
    /* A fresh instance of the same template starts over. */
    wh_err err = {0};
    wh_instance *second = NULL;
    wh_slot io[1];
    CHECK_OK(ops->instance_new(rig.tmpl, NULL, NULL, &second, &outcome, &err), &err);
    CHECK_INT(call(second, "count", io, 1, &outcome), ==, WH_END_OK);
    CHECK_INT(io[0].i32, ==, 1);
    ops->instance_free(second);
    rig_down(&rig);
}

TEST(the_host_sees_memory_and_user)
{
    wh_outcome outcome;
    wh_host_log log = {0};
    wh_rig rig = rig_up(WH_PROFILE_POD, "host.wasm", NULL, &log);
    wh_slot io[4];
    CHECK_INT(call(rig.instance, "greet", io, 1, &outcome), ==, WH_END_OK);
    CHECK_STR(log.put, "hello");
    CHECK_INT(io[0].i32, ==, 105);
    CHECK_INT(log.mem_bytes, ==, 65536);
    CHECK_INT(call(rig.instance, "mixed", io, 1, &outcome), ==, WH_END_OK);
    CHECK_INT((int)log.mixed, ==, 10);
    CHECK_INT((int)io[0].f64, ==, 100);
    /* What was grown a moment ago is in the frame. */
    CHECK_INT(call(rig.instance, "grow_and_greet", io, 1, &outcome), ==, WH_END_OK);
    CHECK_STR(log.put, "!");
    CHECK_INT(log.mem_bytes, ==, 3 * 65536);
    uint8_t *base = NULL;
    size_t bytes = 0;
    CHECK_INT(ops->memory(rig.instance, &base, &bytes), ==, 0);
    CHECK_INT(bytes, ==, 3 * 65536);
    CHECK_MEM(base + 16, "hello", 5);
    CHECK_INT(ops->memory_peak(rig.instance), ==, 3 * 65536);
    rig_down(&rig);
}

TEST(the_host_ends_the_guest)
{
    wh_outcome outcome;
    wh_host_log log = {0};
    wh_rig rig = rig_up(WH_PROFILE_POD, "host.wasm", NULL, &log);
    CHECK_INT(call(rig.instance, "quit", NULL, 0, &outcome), ==, WH_END_EXIT);
    CHECK_INT(outcome.exit_code, ==, 42);
    CHECK_STR(outcome.msg, "");
    rig_down(&rig);
    rig = rig_up(WH_PROFILE_POD, "host.wasm", NULL, &log);
    CHECK_INT(call(rig.instance, "refused", NULL, 0, &outcome), ==, WH_END_TRAP);
    CHECK_INT(outcome.trap, ==, WH_TRAP_HOST);
    CHECK_CONTAINS(outcome.msg, "no such thing here");
    CHECK_CONTAINS(outcome.msg, "<wasm function 8>");
    rig_down(&rig);
}

TEST(the_host_calls_back)
{
    wh_outcome outcome;
    wh_host_log log = {0};
    for (unsigned profile = WH_PROFILE_POD; profile <= WH_PROFILE_SHARED; profile++) {
        wh_rig rig = rig_up(profile, "host.wasm", NULL, &log);
        log.instance = rig.instance;
        wh_slot io[1] = {{.i32 = 0}};
        CHECK_INT(call(rig.instance, "nested", io, 1, &outcome), ==, WH_END_OK);
        CHECK_INT(io[0].i32, ==, 77);
        io[0].i32 = 1;
        CHECK_INT(call(rig.instance, "nested", io, 1, &outcome), ==, WH_END_TRAP);
        CHECK_INT(log.nested.trap, ==, WH_TRAP_UNREACHABLE);
        CHECK_INT(outcome.trap, ==, WH_TRAP_HOST);
        rig_down(&rig);
        rig = rig_up(profile, "host.wasm", NULL, &log);
        log.instance = rig.instance;
        io[0].i32 = 2;
        CHECK_INT(call(rig.instance, "nested", io, 1, &outcome), ==, WH_END_EXIT);
        CHECK_INT(outcome.exit_code, ==, 42);
        rig_down(&rig);
    }
}

TEST(calls_survive_a_million_crossings)
{
    wh_outcome outcome;
    wh_host_log log = {0};
    wh_rig rig = rig_up(WH_PROFILE_POD, "host.wasm", NULL, &log);
    wh_func greet = export_of(rig.instance, "greet", "()i");
    for (int i = 0; i < 1000000; i++) {
        wh_slot io[1];
        if (ops->call(rig.instance, &greet, io, 1, 0, &outcome) != WH_END_OK)
            CHECK_STR(outcome.msg, "");
    }
    CHECK_STR(log.put, "hello");
    rig_down(&rig);
}

static wh_engine *ticking;

static void on_alarm(int signo)
{
    (void)signo;
    ops->tick(ticking);
}

/* The clock of deadlines: a tick each 10 ms, from a signal handler, as a single-threaded runner does it. */
static void start_ticking(wh_engine *engine)
{
    ticking = engine;
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    CHECK_INT(sigaction(SIGALRM, &action, NULL), ==, 0);
    const struct itimerval each = {.it_interval.tv_usec = 10000, .it_value.tv_usec = 10000};
    CHECK_INT(setitimer(ITIMER_REAL, &each, NULL), ==, 0);
}

static void stop_ticking(void)
{
    const struct itimerval never = {.it_value.tv_sec = 0};
    CHECK_INT(setitimer(ITIMER_REAL, &never, NULL), ==, 0);
}

TEST(a_deadline_ends_a_loop)
{
    wh_outcome outcome;
    wh_rig rig = rig_up(WH_PROFILE_SHARED, "traps.wasm", NULL, NULL);
    wh_func loop = export_of(rig.instance, "loop", "()"), nop = export_of(rig.instance, "nop", "()");
    start_ticking(rig.engine);
    /* Neither an old clock nor a call without deadline ends anything. */
    CHECK_INT(ops->call(rig.instance, &nop, NULL, 0, 1, &outcome), ==, WH_END_OK);
    wh_time begin = wh_mono_now();
    while (wh_mono_now() - begin < 50 * WH_MSEC)
        CHECK_INT(ops->call(rig.instance, &nop, NULL, 0, 0, &outcome), ==, WH_END_OK);
    begin = wh_mono_now();
    CHECK_INT(ops->call(rig.instance, &loop, NULL, 0, 5, &outcome), ==, WH_END_DEADLINE);
    wh_time took = wh_mono_now() - begin;
    stop_ticking();
    CHECK_INT(outcome.end, ==, WH_END_DEADLINE);
    CHECK_CONTAINS(outcome.msg, "deadline");
    CHECK_INT(took, >=, 39 * WH_MSEC);
    CHECK_INT(took, <, 2 * WH_SEC); /* the machine may be busy */
    rig_down(&rig);
}

TEST(a_deadline_holds_for_nested_calls)
{
    wh_outcome outcome;
    wh_host_log log = {0};
    wh_rig rig = rig_up(WH_PROFILE_SHARED, "host.wasm", NULL, &log);
    log.instance = rig.instance;
    wh_func func = export_of(rig.instance, "nested_then_loop", "()");
    start_ticking(rig.engine);
    /* The inner call asks for no deadline; the outer one's still stands when it is over. */
    CHECK_INT(ops->call(rig.instance, &func, NULL, 0, 3, &outcome), ==, WH_END_DEADLINE);
    CHECK_INT(log.nested.end, ==, WH_END_OK);
    stop_ticking();
    rig_down(&rig);
}

TEST(a_start_function_has_a_deadline)
{
    wh_err err = {0};
    wh_outcome outcome;
    wh_module *module = NULL;
    wh_template *tmpl = NULL;
    wh_instance *instance = NULL;
    wh_engine *engine = engine_of(WH_PROFILE_SHARED);
    auto_close int fd = compiled(engine, "start_loop.wasm");
    CHECK_OK(ops->load(engine, fd, &module, &err), &err);
    CHECK_OK(ops->template_new(engine, module, NULL, 0, &tmpl, &err), &err);
    start_ticking(engine);
    const wh_guest_limits limits = {.start_ticks = 3};
    CHECK_ERR(ops->instance_new(tmpl, &limits, NULL, &instance, &outcome, &err), -EFAULT, &err, "deadline");
    CHECK_INT(outcome.end, ==, WH_END_DEADLINE);
    stop_ticking();
    ops->template_free(tmpl);
    ops->unload(module);
    ops->engine_free(engine);
}

static void *tick_thread(void *arg)
{
    atomic_bool *stop = arg;
    while (!atomic_load(stop)) {
        usleep(5000);
        ops->tick(ticking);
    }
    return NULL;
}

TEST(another_thread_may_tick)
{
    wh_outcome outcome;
    wh_rig rig = rig_up(WH_PROFILE_SHARED, "traps.wasm", NULL, NULL);
    ticking = rig.engine;
    atomic_bool stop = false;
    pthread_t thread;
    CHECK_INT(pthread_create(&thread, NULL, tick_thread, &stop), ==, 0);
    wh_func loop = export_of(rig.instance, "loop", "()");
    CHECK_INT(ops->call(rig.instance, &loop, NULL, 0, 4, &outcome), ==, WH_END_DEADLINE);
    atomic_store(&stop, true);
    CHECK_INT(pthread_join(thread, NULL), ==, 0);
    rig_down(&rig);
}

TEST(memory_grows_to_its_limit_and_not_past_it)
{
    wh_outcome outcome;
    const wh_guest_limits limits = {.memory_bytes_max = 10 * 65536, .table_elems_max = 100};
    wh_rig rig = rig_up(WH_PROFILE_POD, "traps.wasm", &limits, NULL);
    wh_slot io[1] = {{.i32 = 9}};
    CHECK_INT(call(rig.instance, "grow", io, 1, &outcome), ==, WH_END_OK);
    CHECK_INT(io[0].i32, ==, 1);
    io[0].i32 = 1;
    CHECK_INT(call(rig.instance, "grow", io, 1, &outcome), ==, WH_END_OK);
    CHECK_INT(io[0].i32, ==, -1);
    CHECK_INT(ops->memory_peak(rig.instance), ==, 10 * 65536);
    io[0].i32 = 96;
    CHECK_INT(call(rig.instance, "grow_table", io, 1, &outcome), ==, WH_END_OK);
    CHECK_INT(io[0].i32, ==, 4);
    io[0].i32 = 1;
    CHECK_INT(call(rig.instance, "grow_table", io, 1, &outcome), ==, WH_END_OK);
    CHECK_INT(io[0].i32, ==, -1);
    rig_down(&rig);
}

TEST(an_abort_after_a_refused_growth_is_marked)
{
    wh_outcome outcome;
    const wh_guest_limits limits = {.memory_bytes_max = 10 * 65536};
    wh_rig rig = rig_up(WH_PROFILE_POD, "traps.wasm", &limits, NULL);
    CHECK_INT(call(rig.instance, "grow_then_abort", NULL, 0, &outcome), ==, WH_END_TRAP);
    CHECK_INT(outcome.trap, ==, WH_TRAP_UNREACHABLE);
    CHECK(outcome.memory_refused);
    rig_down(&rig);
    rig = rig_up(WH_PROFILE_POD, "traps.wasm", NULL, NULL);
    CHECK_INT(call(rig.instance, "grow_then_abort", NULL, 0, &outcome), ==, WH_END_TRAP);
    CHECK(!outcome.memory_refused);
    rig_down(&rig);
}

TEST(the_limit_is_for_all_memories_together)
{
    wh_outcome outcome;
    const wh_guest_limits limits = {.memory_bytes_max = 10 * 65536};
    wh_rig rig = rig_up(WH_PROFILE_POD, "two_memories.wasm", &limits, NULL);
    wh_slot io[1] = {{.i32 = 5}};
    CHECK_INT(call(rig.instance, "grow_a", io, 1, &outcome), ==, WH_END_OK);
    CHECK_INT(io[0].i32, ==, 1);
    io[0].i32 = 4;
    CHECK_INT(call(rig.instance, "grow_b", io, 1, &outcome), ==, WH_END_OK);
    CHECK_INT(io[0].i32, ==, -1);
    io[0].i32 = 3;
    CHECK_INT(call(rig.instance, "grow_b", io, 1, &outcome), ==, WH_END_OK);
    CHECK_INT(io[0].i32, ==, 1);
    CHECK_INT(ops->memory_peak(rig.instance), ==, 10 * 65536);
    rig_down(&rig);
}

TEST(tail_calls_take_no_stack)
{
    wh_outcome outcome;
    wh_rig rig = rig_up(WH_PROFILE_POD, "tail_call.wasm", NULL, NULL);
    wh_slot io[1] = {{.i64 = 10000000}};
    CHECK_INT(call(rig.instance, "down", io, 1, &outcome), ==, WH_END_OK);
    CHECK_INT(io[0].i64, ==, 99);
    rig_down(&rig);
}
