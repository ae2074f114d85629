/* SPDX-License-Identifier: Apache-2.0 */
/* Services of wasi:http 0.2 and 0.3, each test with both where they behave alike. */
#include "base/clock.h"
#include "component_rig.h"
#include "harness.h"

static const char *const hello[] = {"hello-p2", "hello-p3"};
static const char *const many[] = {"many-p2", "many-p3"};

static void check_hello(const char *name, wh_component_kind kind)
{
    wh_comp_rig rig;
    wh_comp_client c;
    comp_init(&rig);
    comp_load(&rig, name);
    CHECK_INT(wh_component_kind_of(rig.component), ==, kind);
    wh_comp_instance *i = comp_instance(&rig);
    CHECK(wh_component_instance_free_slot(i->instance));
    client_init(&c);
    client_get(&c, i, "/");
    comp_finish(i, &c);
    CHECK_INT(c.outcome.end, ==, WH_END_OK);
    CHECK_STR(c.outcome.msg, "");
    CHECK_INT(c.status, ==, 200);
    CHECK_CONTAINS(wh_buf_str(&c.body), "ello");
    CHECK_INT(wh_component_instance_calls(i->instance), ==, 1);
    CHECK_INT(wh_component_instance_memory(i->instance), >=, 65536);
    client_done(&c);
    comp_free(i);
    comp_done(&rig);
}

TEST(hello_p2)
{
    check_hello(hello[0], WH_COMPONENT_HTTP_P2);
}

TEST(hello_p3)
{
    check_hello(hello[1], WH_COMPONENT_HTTP_P3);
}

/* ---- one request on a fresh instance ---- */

typedef struct one {
    wh_comp_rig rig;
    wh_comp_client c;
    wh_comp_instance *i;
} one;

static void one_up(one *o, size_t which)
{
    comp_init(&o->rig);
    comp_load(&o->rig, many[which]);
    o->i = comp_instance(&o->rig);
    client_init(&o->c);
}

static void one_down(one *o)
{
    client_done(&o->c);
    comp_free(o->i);
    comp_done(&o->rig);
}

/* Another fresh instance, and client. */
static void one_again(one *o)
{
    client_done(&o->c);
    comp_free(o->i);
    o->i = comp_instance(&o->rig);
    client_init(&o->c);
}

static void get(one *o, const char *path)
{
    client_get(&o->c, o->i, path);
    comp_finish(o->i, &o->c);
}

/* Pushes `bytes` of zeros in pieces of `step`, never more than the engine wants. */
static void push_all(one *o, uint64_t bytes, size_t step)
{
    static const char zeros[65536];
    size_t queued = 0;
    for (uint64_t sent = 0; sent < bytes && !o->c.ended;) {
        size_t n = (size_t)WH_MIN((uint64_t)step, bytes - sent);
        queued = wh_component_push(o->c.call, zeros, n);
        sent += n;
        size_t taken = o->c.taken;
        while (!o->c.ended && queued > 65536 && o->c.taken == taken) {
            bool never = false;
            comp_run(&o->i, 1, &never, 1);
        }
    }
    if (!o->c.ended)
        wh_component_push_end(o->c.call, NULL, 0);
}

#define EACH_VERSION(name_)         \
    static void do_##name_(one *o); \
    TEST(name_##_p2)                \
    {                               \
        one o;                      \
        one_up(&o, 0);              \
        do_##name_(&o);             \
        one_down(&o);               \
    }                               \
    TEST(name_##_p3)                \
    {                               \
        one o;                      \
        one_up(&o, 1);              \
        do_##name_(&o);             \
        one_down(&o);               \
    }                               \
    static void do_##name_(one *o)

EACH_VERSION(the_request_arrives_whole)
{
    static const char *const fields[] = {"x-one", "1", "accept", "a", "accept", "b", NULL};
    client_begin(&o->c, o->i, "PATCH", "/request?q=1", 0, fields);
    comp_finish(o->i, &o->c);
    CHECK_INT(o->c.status, ==, 200);
    const char *body = wh_buf_str(&o->c.body);
    CHECK_CONTAINS(body, "Patch");
    CHECK_CONTAINS(body, "/request?q=1");
    CHECK_CONTAINS(body, "pod.example:8080");
    CHECK_CONTAINS(body, "x-one: 1\n");
    CHECK_CONTAINS(body, "accept: a\n");
    CHECK_CONTAINS(body, "accept: b\n");
}

EACH_VERSION(a_body_comes_back_with_its_trailers)
{
    static const char *const fields[] = {"content-type", "text/x", NULL};
    const wh_component_field trailer = {WH_STR("x-sum"), WH_STR("12")};
    client_begin(&o->c, o->i, "POST", "/echo", -1, fields);
    wh_component_push(o->c.call, "hello ", 6);
    comp_poll(o->i);
    wh_component_push(o->c.call, "world\n", 6);
    wh_component_push_end(o->c.call, &trailer, 1);
    comp_finish(o->i, &o->c);
    CHECK_INT(o->c.outcome.end, ==, WH_END_OK);
    CHECK_STR(wh_buf_str(&o->c.body), "hello world\n");
    CHECK_STR(wh_buf_str(&o->c.trailers), "x-sum: 12\n");
    CHECK_CONTAINS(wh_buf_str(&o->c.fields), "content-type: text/x\n");
}

EACH_VERSION(trailers_of_the_guest)
{
    get(o, "/trailers");
    CHECK_STR(wh_buf_str(&o->c.body), "body\n");
    CHECK_CONTAINS(wh_buf_str(&o->c.trailers), "x-sum: 5\n");
    CHECK_CONTAINS(wh_buf_str(&o->c.trailers), "x-end: yes\n");
}

#define BIG (100UL << 20)

EACH_VERSION(a_hundred_megabytes_up)
{
    client_begin(&o->c, o->i, "POST", "/sink", -1, NULL);
    push_all(o, BIG, 50000);
    comp_finish(o->i, &o->c);
    CHECK_STR(wh_buf_str(&o->c.body), "104857600\n");
    CHECK_INT(wh_component_instance_memory(o->i->instance), <, 8 << 20);
}

EACH_VERSION(a_hundred_megabytes_down)
{
    get(o, "/big?mib=100");
    CHECK_INT(o->c.outcome.end, ==, WH_END_OK);
    CHECK_INT(o->c.body_bytes, ==, BIG);
    CHECK_INT(o->c.chunk_max, <=, 65536);
    CHECK_INT(wh_component_instance_memory(o->i->instance), <, 8 << 20);
}

EACH_VERSION(a_hundred_megabytes_both_ways)
{
    client_begin(&o->c, o->i, "POST", "/echo", BIG, NULL);
    push_all(o, BIG, 65536);
    comp_finish(o->i, &o->c);
    CHECK_INT(o->c.outcome.end, ==, WH_END_OK);
    CHECK_INT(o->c.body_bytes, ==, BIG);
    CHECK_INT(wh_component_instance_memory(o->i->instance), <, 8 << 20);
}

EACH_VERSION(a_body_through_no_memory_of_the_guest)
{
    client_begin(&o->c, o->i, "POST", "/splice", -1, NULL);
    push_all(o, 10 << 20, 65536);
    comp_finish(o->i, &o->c);
    CHECK_INT(o->c.outcome.end, ==, WH_END_OK);
    CHECK_INT(o->c.body_bytes, ==, 10 << 20);
}

EACH_VERSION(a_slow_client_stops_the_guest)
{
    bool never = false;
    o->c.pause = true;
    client_get(&o->c, o->i, "/big?mib=10&chunked=1");
    CHECK(!comp_run(&o->i, 1, &never, 100));
    CHECK_INT(o->c.body_bytes, >, 0);
    CHECK_INT(o->c.body_bytes, <=, 65536);
    unsigned polls = o->i->polls;
    CHECK(!comp_run(&o->i, 1, &never, 50));
    CHECK_INT(o->i->polls, ==, polls); /* nothing turns meanwhile */
    for (int n = 0; n < 3; n++) {
        uint64_t before = o->c.body_bytes;
        o->c.paused = false;
        wh_component_credit(o->c.call);
        CHECK(!comp_run(&o->i, 1, &never, 20));
        CHECK_INT(o->c.body_bytes, >, before);
        CHECK_INT(o->c.body_bytes, <=, before + 65536);
    }
    o->c.pause = o->c.paused = false;
    wh_component_credit(o->c.call);
    comp_finish(o->i, &o->c);
    CHECK_INT(o->c.body_bytes, ==, 10 << 20);
}

EACH_VERSION(a_guest_that_does_not_read_stops_the_client)
{
    size_t queued = 0;
    bool never = false;
    client_begin(&o->c, o->i, "POST", "/sleep?ms=100", -1, NULL);
    static const char zeros[65536];
    CHECK(!comp_run(&o->i, 1, &never, 10));
    for (int n = 0; n < 3; n++)
        queued = wh_component_push(o->c.call, zeros, sizeof(zeros));
    CHECK_INT(queued, ==, 3 * sizeof(zeros));
    comp_finish(o->i, &o->c);
    CHECK_STR(wh_buf_str(&o->c.body), "slept\n");
}

EACH_VERSION(a_client_that_leaves)
{
    bool never = false;
    o->c.pause = true;
    client_get(&o->c, o->i, "/big?mib=10&chunked=1");
    CHECK(!comp_run(&o->i, 1, &never, 50));
    wh_component_abort(o->c.call);
    CHECK(!wh_component_instance_free_slot(o->i->instance));
    for (int n = 0; n < 100 && o->i->state == WH_COMPONENT_PENDING; n++)
        comp_run(&o->i, 1, &never, 10);
    CHECK_INT(o->i->state, !=, WH_COMPONENT_PENDING);
    CHECK_INT(o->c.ends, ==, 0);
    CHECK_CONTAINS(wh_buf_str(&o->rig.output), "the client left after");
}

EACH_VERSION(a_client_that_leaves_in_its_request)
{
    bool never = false;
    client_begin(&o->c, o->i, "POST", "/sink", 1000, NULL);
    wh_component_push(o->c.call, "half", 4);
    CHECK(!comp_run(&o->i, 1, &never, 20));
    wh_component_abort(o->c.call);
    CHECK(!comp_run(&o->i, 1, &never, 50));
    CHECK_INT(o->c.ends, ==, 0);
    CHECK_INT(o->c.heads, ==, 0);
}

EACH_VERSION(freeing_at_any_moment)
{
    static const char *const paths[] = {"/big?mib=10", "/sleep?ms=1000", "/never", "/slow", "/loop", "/echo"};
    for (size_t k = 0; k < WH_ARRAY_LEN(paths); k++) {
        for (int ms = 0; ms < 30; ms += 10) {
            bool never = false;
            client_begin(&o->c, o->i, "POST", paths[k], -1, NULL);
            comp_run(&o->i, 1, &never, ms);
            one_again(o);
        }
    }
}

/* ---- ends ---- */

EACH_VERSION(a_guest_that_traps)
{
    get(o, "/trap");
    CHECK_INT(o->c.outcome.end, ==, WH_END_TRAP);
    CHECK_INT(o->c.outcome.trap, ==, WH_TRAP_UNREACHABLE);
    CHECK_INT(o->c.heads, ==, 0);
    CHECK_CONTAINS(o->c.outcome.msg, "unreachable code reached\n    0: ");
    CHECK_CONTAINS(wh_buf_str(&o->rig.output), "asked to trap");
    CHECK_INT(o->i->state, ==, WH_COMPONENT_DEAD);
    CHECK(!wh_component_instance_free_slot(o->i->instance));
    CHECK_INT(wh_component_poll(o->i->instance), ==, WH_COMPONENT_DEAD);
    one_again(o);
    get(o, "/hello"); /* the component lives on */
    CHECK_INT(o->c.status, ==, 200);
}

EACH_VERSION(a_guest_that_traps_in_its_answer)
{
    get(o, "/trap-after?bytes=10");
    CHECK_INT(o->c.status, ==, 200);
    CHECK_INT(o->c.outcome.end, ==, WH_END_TRAP);
    CHECK_INT(o->c.outcome.trap, ==, WH_TRAP_UNREACHABLE);
}

EACH_VERSION(other_traps)
{
    get(o, "/deep");
    CHECK_INT(o->c.outcome.trap, ==, WH_TRAP_STACK_OVERFLOW);
    one_again(o);
    get(o, "/memory");
    CHECK_INT(o->c.outcome.trap, ==, WH_TRAP_MEMORY_BOUNDS);
    one_again(o);
    get(o, "/exit?code=7");
    CHECK_INT(o->c.outcome.end, ==, WH_END_EXIT);
    CHECK_INT(o->i->state, ==, WH_COMPONENT_DEAD);
}

EACH_VERSION(a_guest_that_loops)
{
    wh_comp_client other;
    wh_comp_instance *both[2] = {o->i, comp_instance(&o->rig)};
    o->rig.config.deadline_ticks = 60;
    client_init(&other);
    client_get(&o->c, both[0], "/loop");
    wh_time start = wh_mono_now();
    unsigned served = 0;
    while (!o->c.ended && wh_mono_now() - start < 10 * WH_SEC) {
        client_get(&other, both[1], "/hello");
        CHECK(comp_run(both, 2, &other.ended, 5000));
        CHECK_INT(other.status, ==, 200);
        client_done(&other);
        client_init(&other);
        served++;
        if (!wh_component_instance_free_slot(both[1]->instance)) {
            bool never = false;
            comp_run(both, 2, &never, 1);
        }
    }
    CHECK_INT(o->c.outcome.end, ==, WH_END_DEADLINE);
    CHECK_CONTAINS(o->c.outcome.msg, "the deadline has passed\n    0: ");
    CHECK_INT(served, >, 20); /* each tick another's turn */
    CHECK_INT(both[0]->state, ==, WH_COMPONENT_DEAD);
    client_done(&other);
    comp_free(both[1]);
}

EACH_VERSION(a_guest_that_sleeps_has_no_deadline)
{
    o->rig.config.deadline_ticks = 4;
    get(o, "/sleep?ms=200");
    CHECK_STR(wh_buf_str(&o->c.body), "slept\n");
}

EACH_VERSION(a_guest_that_never_answers)
{
    bool never = false;
    client_get(&o->c, o->i, "/never");
    CHECK(!comp_run(&o->i, 1, &never, 100));
    unsigned polls = o->i->polls;
    CHECK(!comp_run(&o->i, 1, &never, 50));
    CHECK_INT(o->i->polls, ==, polls);
    CHECK_INT(o->i->state, ==, WH_COMPONENT_PENDING);
}

EACH_VERSION(a_guest_that_answers_with_an_error)
{
    get(o, "/error");
    CHECK_INT(o->c.heads, ==, 0);
    CHECK_INT(o->c.outcome.end, ==, WH_END_OK);
    CHECK_CONTAINS(o->c.outcome.msg, "ConnectionLimitReached");
}

TEST(a_guest_of_0_2_that_drops_its_answer)
{
    one o;
    one_up(&o, 0);
    get(&o, "/no-answer");
    CHECK_INT(o.c.heads, ==, 0);
    CHECK_INT(o.c.outcome.end, ==, WH_END_OK);
    CHECK_STR(o.c.outcome.msg, "the guest returned without an answer");
    one_down(&o);
}

EACH_VERSION(a_guest_that_allocates_without_end)
{
    get(o, "/alloc-forever");
    CHECK_INT(o->c.outcome.end, ==, WH_END_TRAP);
    CHECK(o->c.outcome.memory_refused);
    CHECK_INT(wh_component_instance_memory(o->i->instance), <=, 64 << 20);
}

EACH_VERSION(a_length_that_is_not_kept)
{
    get(o, "/lie?told=5&sent=10");
    CHECK_INT(o->c.body_bytes, <=, 5);
    CHECK(o->c.outcome.end != WH_END_OK || o->c.body_bytes == 5);
    one_again(o);
    get(o, "/lie?told=10&sent=5");
    CHECK_INT(o->c.outcome.end, ==, WH_END_TRAP);
    CHECK_INT(o->c.outcome.trap, ==, WH_TRAP_HOST);
    CHECK_CONTAINS(o->c.outcome.msg, "broke off");
}

EACH_VERSION(a_guest_that_writes_after_the_end)
{
    get(o, "/write-after-end");
    CHECK_INT(o->c.ends, ==, 1);
}

EACH_VERSION(bad_fields_are_refused)
{
    get(o, "/bad-fields");
    CHECK_INT(o->c.status, ==, 200);
    CHECK_CONTAINS(wh_buf_str(&o->c.body), "InvalidSyntax");
    CHECK_CONTAINS(wh_buf_str(&o->c.body), "Forbidden");
}

/* ---- many ---- */

TEST(sixty_four_asleep_at_once)
{
    enum { N = 64 };
    for (size_t which = 0; which < 2; which++) {
        wh_comp_rig rig;
        wh_comp_client c[N];
        wh_comp_instance *list[N];
        comp_init(&rig);
        comp_load(&rig, many[which]);
        wh_time start = wh_mono_now();
        for (size_t k = 0; k < N; k++) {
            list[k] = comp_instance(&rig);
            client_init(&c[k]);
            client_get(&c[k], list[k], "/sleep?ms=200");
        }
        for (size_t k = 0; k < N; k++)
            CHECK(comp_run(list, N, &c[k].ended, 10000));
        CHECK_INT(wh_mono_now() - start, <, 5 * WH_SEC);
        for (size_t k = 0; k < N; k++) {
            CHECK_STR(wh_buf_str(&c[k].body), "slept\n");
            client_done(&c[k]);
            comp_free(list[k]);
        }
        comp_done(&rig);
    }
}

EACH_VERSION(an_instance_that_is_used_again)
{
    bool never = false;
    for (unsigned n = 1; n <= 128; n++) {
        auto_free char *text = wh_xasprintf("%u\n", n);
        for (int tries = 0; !wh_component_instance_free_slot(o->i->instance) && tries < 100; tries++)
            comp_run(&o->i, 1, &never, 1);
        CHECK(wh_component_instance_free_slot(o->i->instance));
        get(o, "/count");
        CHECK_STR(wh_buf_str(&o->c.body), text);
        client_done(&o->c);
        client_init(&o->c);
    }
    CHECK_INT(wh_component_instance_calls(o->i->instance), ==, 128);
    CHECK_INT(wh_component_instance_memory(o->i->instance), <, 8 << 20);
}

TEST(one_instance_of_0_3_takes_several_calls)
{
    enum { N = 4 };
    wh_comp_rig rig;
    wh_comp_client c[N];
    comp_init(&rig);
    rig.config.calls_at_once = N;
    comp_load(&rig, many[1]);
    wh_comp_instance *i = comp_instance(&rig);
    wh_time start = wh_mono_now();
    for (size_t k = 0; k < N; k++) {
        CHECK(wh_component_instance_free_slot(i->instance));
        client_init(&c[k]);
        client_get(&c[k], i, "/sleep?ms=200");
    }
    CHECK(!wh_component_instance_free_slot(i->instance));
    for (size_t k = 0; k < N; k++) {
        CHECK(comp_run(&i, 1, &c[k].ended, 10000));
        CHECK_STR(wh_buf_str(&c[k].body), "slept\n");
        client_done(&c[k]);
    }
    CHECK_INT(wh_mono_now() - start, <, 700 * WH_MSEC); /* at once, not one after the other */
    comp_free(i);
    comp_done(&rig);
}
