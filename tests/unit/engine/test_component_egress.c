/* SPDX-License-Identifier: Apache-2.0 */
/* Outgoing requests of a component, to a C side that the tests play. */
#include "base/clock.h"
#include "component_rig.h"
#include "harness.h"

#include <stdio.h>

static const char *const many[] = {"many-p2", "many-p3"};

typedef struct upstream {
    wh_egress_error answer; /* of begin */
    uint64_t id;
    unsigned begun, body_ends, cancelled;
    char line[256];
    wh_buf fields;
    wh_time connect_timeout;
    int64_t told_bytes;
    uint64_t body_bytes, consumed;
    size_t chunk_max;
    bool pause, paused;
} upstream;

typedef struct out {
    wh_comp_rig rig;
    wh_comp_client c;
    wh_comp_instance *i;
    upstream up;
    wh_component_egress ops;
} out;

static wh_egress_error begin(void *user, uint64_t id, const wh_component_head *head, wh_time connect_timeout,
                             wh_time first_byte_timeout, wh_time between_bytes_timeout)
{
    upstream *up = user;
    up->begun++;
    up->id = id;
    up->connect_timeout = connect_timeout;
    up->told_bytes = head->body_bytes;
    CHECK_INT(connect_timeout, ==, first_byte_timeout);
    CHECK_INT(connect_timeout, ==, between_bytes_timeout);
    (void)snprintf(up->line, sizeof(up->line), "%.*s %.*s://%.*s%.*s", WH_STR_ARG(head->method),
                   WH_STR_ARG(head->scheme), WH_STR_ARG(head->authority), WH_STR_ARG(head->path_query));
    for (size_t i = 0; i < head->n_fields; i++)
        (void)wh_buf_printf(&up->fields, "%.*s: %.*s\n", WH_STR_ARG(head->fields[i].name),
                            WH_STR_ARG(head->fields[i].value));
    return up->answer;
}

static bool body(void *user, uint64_t id, const void *p, size_t n)
{
    upstream *up = user;
    CHECK(p != NULL);
    CHECK_INT(id, ==, up->id);
    CHECK_INT(up->body_ends + up->cancelled, ==, 0);
    CHECK(!up->paused);
    up->body_bytes += n;
    up->chunk_max = WH_MAX(up->chunk_max, n);
    up->paused = up->pause;
    return !up->pause;
}

static void body_end(void *user, uint64_t id, const wh_component_field *trailers, size_t n)
{
    upstream *up = user;
    (void)trailers, (void)n;
    CHECK_INT(id, ==, up->id);
    CHECK_INT(up->cancelled, ==, 0);
    up->body_ends++;
}

static void consumed(void *user, uint64_t id, size_t n)
{
    upstream *up = user;
    CHECK_INT(id, ==, up->id);
    up->consumed += n;
}

static void cancel(void *user, uint64_t id)
{
    upstream *up = user;
    CHECK_INT(id, ==, up->id);
    up->cancelled++;
}

static void out_up(out *o, size_t which, bool offered)
{
    o->up = (upstream){0};
    wh_buf_init(&o->up.fields, 4096);
    o->ops = (wh_component_egress){.user = &o->up,
                                   .begin = begin,
                                   .body = body,
                                   .body_end = body_end,
                                   .consumed = consumed,
                                   .cancel = cancel};
    comp_init(&o->rig);
    o->rig.config.egress = offered ? &o->ops : NULL;
    comp_load(&o->rig, many[which]);
    o->i = comp_instance(&o->rig);
    client_init(&o->c);
}

static void out_down(out *o)
{
    client_done(&o->c);
    comp_free(o->i);
    comp_done(&o->rig);
    wh_buf_done(&o->up.fields);
}

#define EACH_VERSION(name_)         \
    static void do_##name_(out *o); \
    TEST(name_##_p2)                \
    {                               \
        out o;                      \
        out_up(&o, 0, true);        \
        do_##name_(&o);             \
        out_down(&o);               \
    }                               \
    TEST(name_##_p3)                \
    {                               \
        out o;                      \
        out_up(&o, 1, true);        \
        do_##name_(&o);             \
        out_down(&o);               \
    }                               \
    static void do_##name_(out *o)

static const char *const url[] = {"x-url", "https://api.example:8443/v1/x?y=1", NULL};

/* Asks, until the request is with the C side; its body, where there is one, is the test's. */
static void ask(out *o, const char *method, const char *path, int64_t body_bytes)
{
    client_begin(&o->c, o->i, method, path, body_bytes, url);
    for (int n = 0; n < 200 && o->up.begun == 0 && !o->c.ended; n++) {
        bool never = false;
        comp_run(&o->i, 1, &never, 10);
    }
    CHECK_INT(o->up.begun, ==, 1);
}

static void run_for(out *o, int ms)
{
    bool never = false;
    comp_run(&o->i, 1, &never, ms);
}

EACH_VERSION(a_request_goes_out_and_its_answer_comes_back)
{
    const wh_component_field field = {WH_STR("content-type"), WH_STR("text/x")};
    ask(o, "GET", "/outgoing?timeout=1500", 0);
    CHECK_STR(o->up.line, "GET https://api.example:8443/v1/x?y=1");
    CHECK_CONTAINS(wh_buf_str(&o->up.fields), "x-from: guest\n");
    CHECK(strstr(wh_buf_str(&o->up.fields), "host:") == NULL);
    CHECK_INT(o->up.connect_timeout, ==, 1500 * WH_MSEC);
    run_for(o, 20);
    CHECK_INT(o->up.body_ends, ==, 1);
    CHECK_INT(o->up.body_bytes, ==, 0);
    wh_component_egress_head(o->rig.component, o->up.id, 201, &field, 1);
    run_for(o, 20);
    CHECK_INT(o->c.heads, ==, 1);
    CHECK_CONTAINS(wh_buf_str(&o->c.fields), "x-upstream-status: 201\n");
    wh_component_egress_body(o->rig.component, o->up.id, "abc", 3);
    run_for(o, 20);
    CHECK_STR(wh_buf_str(&o->c.body), "abc");
    CHECK_INT(o->up.consumed, ==, 3);
    wh_component_egress_body(o->rig.component, o->up.id, "def", 3);
    wh_component_egress_end(o->rig.component, o->up.id, WH_EGRESS_OK, NULL, 0);
    comp_finish(o->i, &o->c);
    CHECK_STR(wh_buf_str(&o->c.body), "abcdef");
    CHECK_INT(o->c.outcome.end, ==, WH_END_OK);
    CHECK_INT(o->up.cancelled, ==, 0);
}

EACH_VERSION(what_is_refused_at_once)
{
    o->up.answer = WH_EGRESS_DENIED;
    ask(o, "GET", "/outgoing", 0);
    comp_finish(o->i, &o->c);
    CHECK_INT(o->c.status, ==, 502);
    CHECK_CONTAINS(wh_buf_str(&o->c.body), "HttpRequestDenied");
    CHECK_INT(o->up.cancelled + o->up.body_ends, ==, 0);
}

TEST(without_egress_all_is_denied)
{
    for (size_t which = 0; which < 2; which++) {
        out o;
        out_up(&o, which, false);
        client_begin(&o.c, o.i, "GET", "/outgoing", 0, url);
        comp_finish(o.i, &o.c);
        CHECK_CONTAINS(wh_buf_str(&o.c.body), "HttpRequestDenied");
        CHECK_INT(o.up.begun, ==, 0);
        out_down(&o);
    }
}

static void check_error(out *o, wh_egress_error error, const char *name)
{
    comp_free(o->i);
    client_done(&o->c);
    o->i = comp_instance(&o->rig);
    client_init(&o->c);
    o->up.begun = o->up.body_ends = 0;
    ask(o, "GET", "/outgoing", 0);
    wh_component_egress_end(o->rig.component, o->up.id, error, NULL, 0);
    comp_finish(o->i, &o->c);
    CHECK_INT(o->c.status, ==, 502);
    CHECK_CONTAINS(wh_buf_str(&o->c.body), name);
    CHECK_INT(o->up.cancelled, ==, 0);
}

EACH_VERSION(every_error_has_its_name)
{
    check_error(o, WH_EGRESS_DENIED, "HttpRequestDenied");
    check_error(o, WH_EGRESS_DNS, "DnsError");
    check_error(o, WH_EGRESS_REFUSED, "ConnectionRefused");
    check_error(o, WH_EGRESS_TIMEOUT, "ConnectionTimeout");
    check_error(o, WH_EGRESS_TLS, "TlsProtocolError");
    check_error(o, WH_EGRESS_TERMINATED, "ConnectionTerminated");
    check_error(o, WH_EGRESS_PROTOCOL, "HttpProtocolError");
    check_error(o, WH_EGRESS_TOO_LARGE, "HttpResponseBodySize");
    check_error(o, WH_EGRESS_INTERNAL, "InternalError");
    check_error(o, WH_EGRESS_OK, "HttpResponseIncomplete"); /* an end without a head */
}

EACH_VERSION(an_answer_that_breaks_off)
{
    ask(o, "GET", "/outgoing", 0);
    wh_component_egress_head(o->rig.component, o->up.id, 200, NULL, 0);
    wh_component_egress_body(o->rig.component, o->up.id, "abc", 3);
    run_for(o, 20);
    wh_component_egress_end(o->rig.component, o->up.id, WH_EGRESS_TERMINATED, NULL, 0);
    comp_finish(o->i, &o->c);
    CHECK_CONTAINS(wh_buf_str(&o->c.body), "abc");
    CHECK_CONTAINS(wh_buf_str(&o->c.body), "broke off");
}

#define BIG (20UL << 20)

EACH_VERSION(a_large_body_goes_up_with_credit)
{
    static const char zeros[65536];
    o->up.pause = true;
    ask(o, "POST", "/outgoing", -1);
    for (uint64_t sent = 0; sent < BIG; sent += sizeof(zeros)) {
        size_t queued = wh_component_push(o->c.call, zeros, sizeof(zeros));
        for (int n = 0; queued > sizeof(zeros) && n < 10000; n++) {
            size_t taken = o->c.taken;
            run_for(o, 1);
            if (o->up.paused) {
                o->up.paused = false;
                wh_component_egress_credit(o->rig.component, o->up.id);
            }
            if (o->c.taken != taken)
                queued = o->c.waiting;
        }
    }
    CHECK_INT(o->up.body_ends, ==, 0);
    o->up.pause = o->up.paused = false;
    wh_component_egress_credit(o->rig.component, o->up.id);
    wh_component_push_end(o->c.call, NULL, 0);
    for (int n = 0; n < 1000 && o->up.body_ends == 0; n++)
        run_for(o, 10);
    CHECK_INT(o->up.body_bytes, ==, BIG);
    CHECK_INT(o->up.chunk_max, <=, 65536);
    wh_component_egress_head(o->rig.component, o->up.id, 200, NULL, 0);
    wh_component_egress_end(o->rig.component, o->up.id, WH_EGRESS_OK, NULL, 0);
    comp_finish(o->i, &o->c);
    CHECK_INT(o->c.outcome.end, ==, WH_END_OK);
    CHECK_INT(wh_component_instance_memory(o->i->instance), <, 8 << 20);
}

EACH_VERSION(a_large_answer_comes_down)
{
    static const char zeros[65536];
    ask(o, "GET", "/outgoing", 0);
    wh_component_egress_head(o->rig.component, o->up.id, 200, NULL, 0);
    for (uint64_t sent = 0; sent < BIG; sent += sizeof(zeros)) {
        for (int n = 0; sent - o->up.consumed > 4 * sizeof(zeros) && n < 10000; n++)
            run_for(o, 1);
        wh_component_egress_body(o->rig.component, o->up.id, zeros, sizeof(zeros));
    }
    wh_component_egress_end(o->rig.component, o->up.id, WH_EGRESS_OK, NULL, 0);
    comp_finish(o->i, &o->c);
    CHECK_INT(o->c.outcome.end, ==, WH_END_OK);
    CHECK_INT(o->c.body_bytes, ==, BIG);
    CHECK_INT(wh_component_instance_memory(o->i->instance), <, 8 << 20);
}

EACH_VERSION(freeing_the_instance_cancels)
{
    ask(o, "GET", "/outgoing", 0);
    run_for(o, 10);
    comp_free(o->i);
    CHECK_INT(o->up.cancelled, ==, 1);
    /* Answers that were under way find nobody. */
    wh_component_egress_head(o->rig.component, o->up.id, 200, NULL, 0);
    wh_component_egress_body(o->rig.component, o->up.id, "x", 1);
    wh_component_egress_credit(o->rig.component, o->up.id);
    wh_component_egress_end(o->rig.component, o->up.id, WH_EGRESS_OK, NULL, 0);
    o->i = comp_instance(&o->rig);
}

EACH_VERSION(freeing_in_the_answer_cancels)
{
    ask(o, "GET", "/outgoing", 0);
    wh_component_egress_head(o->rig.component, o->up.id, 200, NULL, 0);
    wh_component_egress_body(o->rig.component, o->up.id, "abc", 3);
    run_for(o, 20);
    comp_free(o->i);
    CHECK_INT(o->up.cancelled, ==, 1);
    o->i = comp_instance(&o->rig);
}

/* The client leaves, so the guest's writes fail, so it ends and lets its own request go. */
EACH_VERSION(a_client_that_leaves_cancels)
{
    ask(o, "GET", "/outgoing", 0);
    wh_component_egress_head(o->rig.component, o->up.id, 200, NULL, 0);
    wh_component_egress_body(o->rig.component, o->up.id, "abc", 3);
    run_for(o, 20);
    CHECK_INT(o->c.heads, ==, 1);
    wh_component_abort(o->c.call);
    for (int n = 0; n < 50 && o->up.cancelled == 0; n++) {
        wh_component_egress_body(o->rig.component, o->up.id, "more", 4);
        run_for(o, 10);
    }
    CHECK_INT(o->up.cancelled, ==, 1);
}

/* The other side may answer and be done before it has the whole request. */
EACH_VERSION(an_answer_before_the_request_is_whole)
{
    ask(o, "POST", "/outgoing", -1);
    wh_component_push(o->c.call, "half", 4);
    run_for(o, 20);
    wh_component_egress_head(o->rig.component, o->up.id, 413, NULL, 0);
    wh_component_egress_end(o->rig.component, o->up.id, WH_EGRESS_OK, NULL, 0);
    run_for(o, 20);
    if (!o->c.ended) {
        wh_component_push(o->c.call, "other half", 10);
        wh_component_push_end(o->c.call, NULL, 0);
    }
    comp_finish(o->i, &o->c);
    CHECK_INT(o->c.outcome.end, ==, WH_END_OK);
    CHECK_CONTAINS(wh_buf_str(&o->c.fields), "x-upstream-status: 413\n");
    CHECK_INT(o->up.cancelled, ==, 0);
}
