/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP client against servers that behave, dawdle, break off and lie. */
#include "client_world.h"

#include <sys/resource.h>

#define OK_3 "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"

/* One request, answered with `answer`; then the server hangs up when `ends`. */
static void answer(world *w, seen *s, const char *method, const char *text, bool ends)
{
    wh_client_request request = a_request(method, 0);
    int peer = w->n_peers;
    start(w, s, &request);
    rounds(w, 4);
    if (peer == w->n_peers)
        peer--;
    say(w, peer, text);
    if (ends)
        world_hang_up(w, peer);
    rounds(w, 6);
}

static void expect_answer(const char *text, bool ends, wh_client_error error, const char *why)
{
    world w = {0};
    seen s;
    world_open(&w, NULL);
    seen_init(&s);
    answer(&w, &s, "POST", text, ends);
    CHECK_INT(s.dones, ==, 1);
    CHECK_INT(s.error, ==, error);
    CHECK_CONTAINS(s.why, why);
    CHECK_INT(wh_client_idle(w.client), ==, 0);
    seen_free(&s);
    world_close(&w);
}

TEST(a_request_and_its_answer)
{
    world w = {0};
    seen s;
    world_open(&w, NULL);
    seen_init(&s);
    wh_client_request request = a_request("GET", 0);
    const wh_h1_field fields[] = {{WH_STR("accept"), WH_STR("a, b")}, {WH_STR("X-Empty"), WH_STR("")}};
    request.fields = fields;
    request.n_fields = 2;
    start(&w, &s, &request);
    rounds(&w, 4);
    CHECK_STR(hear(&w, 0), "GET /a?b HTTP/1.1\r\nHost: example.test\r\naccept: a, b\r\nX-Empty: \r\n\r\n");
    say(&w, 0,
        "HTTP/1.1 201 Created\r\nContent-Length: 3\r\nConnection: X-Hop\r\nX-Hop: 1\r\n"
        "Keep-Alive: 2\r\nX: y\r\n\r\nab");
    rounds(&w, 2);
    CHECK_INT(s.status, ==, 201);
    CHECK_STR(wh_buf_str(&s.head), "content-length=3\nx=y\n");
    CHECK_INT(s.dones, ==, 0);
    say(&w, 0, "c");
    rounds(&w, 2);
    CHECK_STR(wh_buf_str(&s.body), "abc");
    CHECK_INT(s.dones, ==, 1);
    CHECK_INT(s.error, ==, WH_CLIENT_OK);
    CHECK_INT(wh_client_idle(w.client), ==, 1);
    seen_free(&s);
    world_close(&w);
}

TEST(a_kept_connection_is_used_again)
{
    world w = {0};
    seen s;
    world_open(&w, NULL);
    for (int i = 0; i < 3; i++) {
        seen_init(&s);
        answer(&w, &s, i == 1 ? "HEAD" : "GET",
               i == 1 ? "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" : OK_3, false);
        CHECK_INT(s.error, ==, WH_CLIENT_OK);
        CHECK_INT(s.dones, ==, 1);
        CHECK_INT(s.body_bytes, ==, i == 1 ? 0 : 3);
        CHECK_INT(w.n_peers, ==, 1);
        seen_free(&s);
    }
    /* Another port is another server. */
    wh_client_request request = a_request("GET", 0);
    request.authority = WH_STR("example.test:81");
    seen_init(&s);
    start(&w, &s, &request);
    rounds(&w, 4);
    CHECK_INT(w.n_peers, ==, 2);
    wh_client_cancel(s.call);
    seen_free(&s);
    world_close(&w);
}

TEST(connections_that_are_not_used_again)
{
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc", OK_3 "x",
        "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 204 X\r\nContent-Length: 3\r\n\r\n",
        OK_3 "HTTP/1.1 200 OK\r\n\r\n"};
    for (size_t i = 0; i < WH_ARRAY_LEN(answers); i++) {
        world w = {0};
        seen s;
        world_open(&w, NULL);
        seen_init(&s);
        answer(&w, &s, "GET", answers[i], false);
        CHECK_INT(s.dones, ==, 1);
        CHECK_INT(s.error, ==, WH_CLIENT_OK);
        CHECK_INT(wh_client_idle(w.client), ==, 0);
        seen_free(&s);
        world_close(&w);
    }
}

TEST(a_kept_connection_that_dies_or_talks_is_given_up)
{
    for (int how = 0; how < 2; how++) {
        world w = {0};
        seen s;
        world_open(&w, NULL);
        seen_init(&s);
        answer(&w, &s, "GET", OK_3, false);
        CHECK_INT(wh_client_idle(w.client), ==, 1);
        if (how == 0)
            world_hang_up(&w, 0);
        else
            say(&w, 0,
                "HTTP/1.1 200 OK\r\n\r\n"); /* an answer to nothing, that the next request must not get */
        rounds(&w, 2);
        CHECK_INT(wh_client_idle(w.client), ==, 0);
        seen_free(&s);
        world_close(&w);
    }
}

/* The loop has not seen the end yet when the connection is taken. */
TEST(a_kept_connection_is_looked_at_before_it_is_used)
{
    world w = {0};
    seen s;
    world_open(&w, NULL);
    seen_init(&s);
    answer(&w, &s, "GET", OK_3, false);
    say(&w, 0, "HTTP/1.1 200 OK\r\n\r\nsmuggled");
    wh_client_request request = a_request("POST", 0);
    seen second;
    seen_init(&second);
    start(&w, &second, &request);
    rounds(&w, 4);
    CHECK_INT(w.n_peers, ==, 2);
    CHECK_INT(second.heads, ==, 0);
    seen_free(&s);
    seen_free(&second);
    world_close(&w);
}

/* The server hangs up on a kept connection after the next request is on its way. */
static void die_after_reuse(const char *method, bool again)
{
    world w = {0};
    seen s;
    world_open(&w, NULL);
    seen_init(&s);
    answer(&w, &s, "GET", OK_3, false);
    (void)hear(&w, 0);
    seen second;
    seen_init(&second);
    wh_client_request request = a_request(method, 0);
    start(&w, &second, &request);
    rounds(&w, 4);
    CHECK_CONTAINS(hear(&w, 0), method);
    world_hang_up(&w, 0);
    rounds(&w, 6);
    if (again) {
        CHECK_INT(w.n_peers, ==, 2);
        CHECK_CONTAINS(hear(&w, 1), "Host: example.test\r\n\r\n");
        world_hang_up(&w, 1); /* a fresh connection that does the same is an error */
        rounds(&w, 6);
        CHECK_INT(w.n_peers, ==, 2);
    } else {
        CHECK_INT(w.n_peers, ==, 1);
    }
    CHECK_INT(second.dones, ==, 1);
    CHECK_INT(second.error, ==, WH_CLIENT_TERMINATED);
    seen_free(&s);
    seen_free(&second);
    world_close(&w);
}

TEST(only_what_is_idempotent_is_sent_again)
{
    die_after_reuse("GET", true);
    die_after_reuse("DELETE", true);
    die_after_reuse("POST", false);
    die_after_reuse("PATCH", false);
}

TEST(answers_that_break_off)
{
    expect_answer("", true, WH_CLIENT_TERMINATED, "without an answer");
    expect_answer("HTTP/1.1 200", true, WH_CLIENT_TERMINATED, "complete");
    expect_answer("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", true, WH_CLIENT_TERMINATED, "complete");
    expect_answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", true,
                  WH_CLIENT_TERMINATED, "complete");
    expect_answer("HTTP/1.1 100 Continue\r\n\r\n", true, WH_CLIENT_TERMINATED, "final");
    expect_answer("HTTP/1.1 200 OK\r\n\r\nabc", true, WH_CLIENT_OK, "");
}

TEST(answers_with_doubtful_framing)
{
    expect_answer("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", false,
                  WH_CLIENT_PROTOCOL, "length-and-encoding");
    expect_answer("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", false,
                  WH_CLIENT_PROTOCOL, "dup-content-length");
    expect_answer("HTTP/1.1 200 OK\nContent-Length: 3\n\nabc", false, WH_CLIENT_PROTOCOL, "bare-lf");
    expect_answer("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", false, WH_CLIENT_PROTOCOL, "obs-fold");
    expect_answer("HTTP/1.1 101 S\r\nUpgrade: x\r\n\r\n", false, WH_CLIENT_PROTOCOL, "switching");
    expect_answer("SSH-2.0-OpenSSH\r\n\r\n", false, WH_CLIENT_PROTOCOL, "version");
}

TEST(limits_of_an_answer)
{
    static char head[WH_HTTP_HEAD_BYTES_MAX + 100];
    static const char begin[] = "HTTP/1.1 204 X\r\nA: ";
    for (int past = 0; past < 2; past++) {
        size_t n = WH_HTTP_HEAD_BYTES_MAX + (size_t)past;
        memset(head, 'a', n);
        memcpy(head, begin, sizeof(begin) - 1);
        memcpy(head + n - 4, "\r\n\r\n", 5);
        world w = {0};
        seen s;
        world_open(&w, NULL);
        seen_init(&s);
        answer(&w, &s, "GET", head, false);
        CHECK_INT(s.dones, ==, 1);
        CHECK_INT(s.error, ==, past == 0 ? WH_CLIENT_OK : WH_CLIENT_TOO_LARGE);
        seen_free(&s);
        world_close(&w);
    }
}

TEST(limit_of_interim_answers)
{
    for (int past = 0; past < 2; past++) {
        wh_buf text;
        wh_buf_init(&text, 10000);
        for (int i = 0; i < WH_HTTP_INTERIM_MAX + past; i++)
            (void)wh_buf_puts(&text, "HTTP/1.1 103 E\r\nLink: a\r\n\r\n");
        (void)wh_buf_puts(&text, OK_3);
        world w = {0};
        seen s;
        world_open(&w, NULL);
        seen_init(&s);
        answer(&w, &s, "GET", wh_buf_str(&text), false);
        CHECK_INT(s.dones, ==, 1);
        CHECK_INT(s.heads, ==, past == 0);
        CHECK_INT(s.error, ==, past == 0 ? WH_CLIENT_OK : WH_CLIENT_PROTOCOL);
        seen_free(&s);
        wh_buf_done(&text);
        world_close(&w);
    }
}

TEST(connecting_fails)
{
    static const struct {
        int rc;
        wh_client_error error;
    } cases[] = {{-EACCES, WH_CLIENT_DENIED},     {-ENOENT, WH_CLIENT_DNS},
                 {-EAGAIN, WH_CLIENT_DNS},        {-ECONNREFUSED, WH_CLIENT_REFUSED},
                 {-ETIMEDOUT, WH_CLIENT_TIMEOUT}, {-EHOSTUNREACH, WH_CLIENT_REFUSED}};
    for (size_t i = 0; i < WH_ARRAY_LEN(cases); i++) {
        world w = {.connect_rc = cases[i].rc};
        seen s;
        world_open(&w, NULL);
        seen_init(&s);
        wh_client_request request = a_request("GET", 0);
        start(&w, &s, &request);
        rounds(&w, 2);
        CHECK_INT(s.dones, ==, 1);
        CHECK_INT(s.error, ==, cases[i].error);
        CHECK_CONTAINS(s.why, "example.test");
        seen_free(&s);
        world_close(&w);
    }
}

static void wait_done(world *w, const seen *s)
{
    wh_time end = wh_mono_now() + 5 * WH_SEC;
    while (s->dones == 0 && wh_mono_now() < end)
        CHECK_INT(wh_loop_once(w->loop, WH_SEC), ==, 0);
    CHECK_INT(s->dones, ==, 1);
}

TEST(timeouts)
{
    enum { CONNECT, FIRST_BYTE, DRIP, READ, WRITE, N };
    for (int how = 0; how < N; how++) {
        world w = {.never = how == CONNECT};
        seen s;
        world_open(&w, NULL);
        seen_init(&s);
        wh_client_request request = a_request("PUT", how == WRITE ? -1 : 0);
        request.connect_timeout = how == CONNECT ? 20 * WH_MSEC : WH_MINUTE;
        request.first_byte_timeout = how == FIRST_BYTE || how == DRIP ? 60 * WH_MSEC : WH_MINUTE;
        request.between_bytes_timeout = how == READ || how == WRITE ? 20 * WH_MSEC : WH_MINUTE;
        start(&w, &s, &request);
        rounds(&w, 4);
        wh_time end = wh_mono_now() + 3 * WH_SEC;
        for (int i = 0; how == DRIP && s.dones == 0 && wh_mono_now() < end; i++) {
            say(&w, 0, i == 0 ? "HTTP/1.1 200 OK\r\nA: " : "b");
            CHECK_INT(wh_loop_once(w.loop, 10 * WH_MSEC), ==, 0);
        }
        if (how == READ)
            say(&w, 0, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na");
        static char block[100000];
        while (how == WRITE && wh_client_write(s.call, block, sizeof(block)) != -ENOBUFS)
            rounds(&w, 1);
        wait_done(&w, &s);
        CHECK_INT(s.error, ==, WH_CLIENT_TIMEOUT);
        CHECK_CONTAINS(s.why, how == CONNECT ? "connection was not there"
                              : how == READ  ? "did not go on"
                              : how == WRITE ? "took nothing"
                                             : "no answer");
        CHECK_INT(w.cancels, ==, how == CONNECT);
        seen_free(&s);
        world_close(&w);
    }
}

TEST(a_body_of_declared_length)
{
    world w = {0};
    seen s;
    world_open(&w, NULL);
    seen_init(&s);
    wh_client_request request = a_request("POST", 5);
    start(&w, &s, &request);
    CHECK_INT(wh_client_write(s.call, "abc", 3), ==, 0); /* before there is a connection */
    CHECK_FAIL(wh_client_write(s.call, "def", 3), -EMSGSIZE);
    rounds(&w, 3);
    CHECK_INT(wh_client_write(s.call, "de", 2), ==, 0);
    const wh_h1_field trailer = {WH_STR("x"), WH_STR("y")};
    CHECK_FAIL(wh_client_end(s.call, &trailer, 1), -EINVAL);
    CHECK_INT(wh_client_end(s.call, NULL, 0), ==, 0);
    CHECK_FAIL(wh_client_write(s.call, "f", 1), -EPIPE);
    rounds(&w, 3);
    CHECK_STR(hear(&w, 0), "POST /a?b HTTP/1.1\r\nHost: example.test\r\nContent-Length: 5\r\n\r\nabcde");
    say(&w, 0, OK_3);
    rounds(&w, 3);
    CHECK_INT(s.error, ==, WH_CLIENT_OK);
    CHECK_INT(s.dones, ==, 1);
    CHECK_INT(wh_client_idle(w.client), ==, 1);
    seen_free(&s);
    world_close(&w);
}

TEST(a_body_that_ends_short)
{
    world w = {0};
    seen s;
    world_open(&w, NULL);
    seen_init(&s);
    wh_client_request request = a_request("POST", 5);
    start(&w, &s, &request);
    rounds(&w, 3);
    CHECK_INT(wh_client_write(s.call, "abc", 3), ==, 0);
    CHECK_INT(wh_client_end(s.call, NULL, 0), ==, 0);
    CHECK_INT(s.dones, ==, 0);
    rounds(&w, 3);
    CHECK_INT(s.dones, ==, 1);
    CHECK_INT(s.error, ==, WH_CLIENT_TERMINATED);
    CHECK_CONTAINS(s.why, "2 bytes short");
    seen_free(&s);
    world_close(&w);
}

TEST(a_chunked_body_and_trailers_both_ways)
{
    world w = {0};
    seen s;
    world_open(&w, NULL);
    seen_init(&s);
    wh_client_request request = a_request("POST", -1);
    start(&w, &s, &request);
    CHECK_INT(wh_client_write(s.call, "hello", 5), ==, 0);
    CHECK_INT(wh_client_write(s.call, "", 0), ==, 0);
    const wh_h1_field bad = {WH_STR("Content-Length"), WH_STR("1")};
    const wh_h1_field good = {WH_STR("X-Sum"), WH_STR("1")};
    CHECK_FAIL(wh_client_end(s.call, &bad, 1), -EINVAL);
    CHECK_INT(wh_client_end(s.call, &good, 1), ==, 0);
    rounds(&w, 4);
    CHECK_STR(hear(&w, 0), "POST /a?b HTTP/1.1\r\nHost: example.test\r\nTransfer-Encoding: chunked\r\n\r\n"
                           "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n");
    say(&w, 0,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nGrpc-Status: 0\r\n\r\n");
    rounds(&w, 4);
    CHECK_STR(wh_buf_str(&s.trailers), "grpc-status=0\n");
    CHECK_STR(wh_buf_str(&s.head), "");
    CHECK_INT(wh_client_idle(w.client), ==, 1);
    seen_free(&s);
    world_close(&w);
}

TEST(an_early_answer_ends_the_connection)
{
    for (int closes = 0; closes < 2; closes++) {
        world w = {0};
        seen s;
        world_open(&w, NULL);
        seen_init(&s);
        wh_client_request request = a_request("POST", -1);
        start(&w, &s, &request);
        CHECK_INT(wh_client_write(s.call, "hello", 5), ==, 0);
        rounds(&w, 3);
        say(&w, 0, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nabc");
        if (closes)
            world_hang_up(&w, 0);
        /* Writing fails by now where the server closed, but its answer is what counts. */
        (void)wh_client_write(s.call, "more", 4);
        rounds(&w, 4);
        CHECK_INT(s.status, ==, 413);
        CHECK_INT(s.error, ==, WH_CLIENT_OK);
        CHECK_INT(s.dones, ==, 1);
        CHECK_INT(wh_client_idle(w.client), ==, 0);
        seen_free(&s);
        world_close(&w);
    }
}

TEST(writing_waits_for_a_slow_server)
{
    world w = {0};
    seen s;
    world_open(&w, NULL);
    seen_init(&s);
    wh_client_request request = a_request("POST", -1);
    start(&w, &s, &request);
    static char block[10000];
    int r = 0;
    size_t taken = 0;
    while (r == 0) {
        r = wh_client_write(s.call, block, sizeof(block));
        taken += sizeof(block);
        rounds(&w, 2);
    }
    CHECK_INT(r, ==, -EAGAIN);
    CHECK_INT(s.writables, ==, 0);
    CHECK_INT(taken, <, 2UL << 20); /* a socket's buffers and the high mark */
    size_t before = taken;
    while ((r = wh_client_write(s.call, block, sizeof(block))) == -EAGAIN)
        taken += sizeof(block);
    CHECK_INT(r, ==, -ENOBUFS);
    CHECK_INT(taken - before, <=, WH_HTTP_STREAM_BYTES_MAX);
    CHECK_INT(taken - before, >, WH_HTTP_STREAM_BYTES_MAX - (100UL << 10));
    CHECK_INT(wh_client_end(s.call, NULL, 0), ==, 0);
    for (int i = 0; i < 2000 && s.writables == 0; i++) {
        (void)hear(&w, 0);
        rounds(&w, 2);
    }
    CHECK_INT(s.writables, ==, 1);
    wh_client_cancel(s.call);
    seen_free(&s);
    world_close(&w);
}

/* While the caller pauses, the server is held up by what a socket takes. */
TEST(reading_pauses)
{
    world w = {0};
    seen s;
    world_open(&w, NULL);
    seen_init(&s);
    s.keep_body = false;
    s.pause_in_head = true;
    wh_client_request request = a_request("GET", 0);
    start(&w, &s, &request);
    rounds(&w, 3);
    say(&w, 0, "HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\nxx");
    static char block[10000];
    size_t sent = 2;
    for (int i = 0; i < 2000; i++) {
        ssize_t n = send(w.peers[0], block, WH_MIN(sizeof(block), 8000000 - sent), MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        rounds(&w, 1);
    }
    CHECK_INT(s.heads, ==, 1);
    CHECK_INT(s.body_bytes, ==, 0);
    CHECK_INT(sent, <, 2000000);
    wh_client_pause(s.call, false);
    for (int i = 0; i < 20000 && s.dones == 0; i++) {
        ssize_t n = sent == 8000000
                        ? 0
                        : send(w.peers[0], block, WH_MIN(sizeof(block), 8000000 - sent), MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        rounds(&w, 1);
    }
    CHECK_INT(s.body_bytes, ==, 8000000);
    CHECK_INT(s.error, ==, WH_CLIENT_OK);
    seen_free(&s);
    world_close(&w);
}

/* The server is gone while the caller pauses: the loop sleeps, and all is read later. */
TEST(a_hang_up_while_paused)
{
    world w = {0};
    seen s;
    world_open(&w, NULL);
    seen_init(&s);
    s.pause_in_head = true;
    wh_client_request request = a_request("GET", 0);
    start(&w, &s, &request);
    rounds(&w, 3);
    say(&w, 0, "HTTP/1.1 200 OK\r\n\r\nabc");
    rounds(&w, 3);
    say(&w, 0, "def");
    world_hang_up(&w, 0);
    rounds(&w, 3);
    wh_time began = wh_mono_now();
    for (int i = 0; i < 5; i++)
        CHECK_INT(wh_loop_once(w.loop, 20 * WH_MSEC), ==, 0);
    CHECK_INT(wh_mono_now() - began, >=, 60 * WH_MSEC);
    CHECK_INT(s.dones, ==, 0);
    wh_client_pause(s.call, false);
    rounds(&w, 6);
    CHECK_STR(wh_buf_str(&s.body), "abcdef");
    CHECK_INT(s.error, ==, WH_CLIENT_OK);
    seen_free(&s);
    world_close(&w);
}

TEST(cancelling_at_any_moment)
{
    static const char *const steps[] = {
        "HTTP/1.1 200", " OK\r\nTransfer-Encoding: chunked\r\n", "\r\n", "3\r\nab", "c\r\n", "0\r\n",
        "X: y\r\n\r\n"};
    for (int when = 0; when < 40; when++) {
        world w = {.never = when == 39};
        seen s;
        world_open(&w, NULL);
        seen_init(&s);
        wh_client_request request = a_request("POST", -1);
        start(&w, &s, &request);
        (void)wh_client_write(s.call, "abc", 3);
        for (int i = 0; i < when && s.dones == 0; i++) {
            if (i == 5)
                (void)wh_client_end(s.call, NULL, 0);
            if (i > 6 && i % 4 == 0 && (size_t)(i / 4 - 2) < WH_ARRAY_LEN(steps) && w.n_peers > 0)
                say(&w, 0, steps[i / 4 - 2]);
            rounds(&w, 1);
        }
        unsigned dones = s.dones;
        if (dones == 0)
            wh_client_cancel(s.call);
        rounds(&w, 3);
        CHECK_INT(s.dones, ==, dones);
        CHECK_INT(w.cancels, ==, when == 39);
        seen_free(&s);
        world_close(&w);
    }
}

TEST(cancelling_in_a_callback)
{
    for (int how = 0; how < 2; how++) {
        world w = {0};
        seen s;
        world_open(&w, NULL);
        seen_init(&s);
        s.cancel_in_head = how == 0;
        s.cancel_in_data = how == 1;
        answer(&w, &s, "GET", OK_3, true);
        CHECK_INT(s.heads, ==, 1);
        CHECK_INT(s.dones, ==, 0);
        seen_free(&s);
        world_close(&w);
    }
}

static void start_next(seen *s)
{
    seen *next = s->user;
    world *w = next->user;
    wh_client_request request = a_request("GET", 0);
    start(w, next, &request);
}

TEST(a_request_from_within_on_done)
{
    world w = {0};
    seen s;
    seen next;
    world_open(&w, NULL);
    seen_init(&s);
    seen_init(&next);
    s.on_done = start_next;
    s.user = &next;
    next.user = &w;
    answer(&w, &s, "GET", OK_3, false);
    rounds(&w, 3);
    CHECK_INT(w.n_peers, ==, 1);
    say(&w, 0, OK_3);
    rounds(&w, 3);
    CHECK_INT(next.dones, ==, 1);
    CHECK_INT(next.error, ==, WH_CLIENT_OK);
    seen_free(&s);
    seen_free(&next);
    world_close(&w);
}

TEST(what_cannot_be_sent_is_refused)
{
    static const char *const names[] = {"Host",    "content-length", "Transfer-Encoding", "connection", "TE",
                                        "upgrade", "expect",         "keep-alive",        "a b",        "",
                                        "x\r\ny"};
    world w = {0};
    seen s;
    wh_err err = {0};
    world_open(&w, NULL);
    seen_init(&s);
    for (size_t i = 0; i < WH_ARRAY_LEN(names); i++) {
        const wh_h1_field field = {wh_str_of(names[i]), WH_STR("v")};
        wh_client_request request = a_request("GET", 0);
        request.fields = &field;
        request.n_fields = 1;
        CHECK_ERR(wh_client_start(w.client, &request, &seen_callbacks, &s, &s.call, &err), -EINVAL, &err,
                  "field");
    }
    static const char *const authorities[] = {"",    "u@h",  "h:0", "h:65536", "h:x",
                                              "::1", "[::1", "a b", "h\r\n",   ":80"};
    for (size_t i = 0; i < WH_ARRAY_LEN(authorities); i++) {
        wh_client_request request = a_request("GET", 0);
        request.authority = wh_str_of(authorities[i]);
        CHECK_FAIL(wh_client_start(w.client, &request, &seen_callbacks, &s, &s.call, NULL), -EINVAL);
    }
    wh_client_request request = a_request("GET", 0);
    request.scheme = WH_STR("ftp");
    CHECK_ERR(wh_client_start(w.client, &request, &seen_callbacks, &s, &s.call, &err), -EINVAL, &err, "ftp");
    request = a_request("CONNECT", 0);
    CHECK_FAIL(wh_client_start(w.client, &request, &seen_callbacks, &s, &s.call, NULL), -EINVAL);
    request = a_request("GET", 0);
    request.path_query = WH_STR("/a b");
    CHECK_FAIL(wh_client_start(w.client, &request, &seen_callbacks, &s, &s.call, NULL), -EINVAL);
    CHECK_INT(w.n_peers, ==, 0);
    seen_free(&s);
    world_close(&w);
}

TEST(limit_of_open_calls)
{
    world w = {.never = true};
    seen s;
    wh_err err = {0};
    world_open(&w, NULL);
    seen_init(&s);
    wh_client_request request = a_request("GET", 0);
    for (int i = 0; i < WH_HTTP_CLIENT_CALLS_MAX; i++)
        start(&w, &s, &request);
    CHECK_ERR(wh_client_start(w.client, &request, &seen_callbacks, &s, &s.call, &err), -EAGAIN, &err,
              "under way");
    seen_free(&s);
    world_close(&w);
    CHECK_INT(w.cancels, ==, WH_HTTP_CLIENT_CALLS_MAX);
}

TEST(kept_connections_have_a_limit_and_a_time)
{
    world w = {0};
    seen s[3];
    world_open(&w, &(wh_client_options){.idle_max = 2, .idle_time = 30 * WH_MSEC});
    wh_client_request request = a_request("GET", 0);
    for (int i = 0; i < 3; i++) {
        seen_init(&s[i]);
        start(&w, &s[i], &request);
    }
    rounds(&w, 3);
    for (int i = 0; i < 3; i++) {
        say(&w, i, OK_3);
        rounds(&w, 3);
        CHECK_INT(s[i].dones, ==, 1);
        CHECK_INT(wh_client_idle(w.client), ==, WH_MIN(i + 1, 2));
        seen_free(&s[i]);
    }
    wh_time end = wh_mono_now() + 3 * WH_SEC;
    while (wh_client_idle(w.client) > 0 && wh_mono_now() < end)
        CHECK_INT(wh_loop_once(w.loop, 50 * WH_MSEC), ==, 0);
    CHECK_INT(wh_client_idle(w.client), ==, 0);
    world_close(&w);
}

TEST(https_without_roots)
{
    world w = {0};
    seen s;
    world_open(&w, NULL);
    seen_init(&s);
    wh_client_request request = a_request("GET", 0);
    request.scheme = WH_STR("https");
    start(&w, &s, &request);
    rounds(&w, 2);
    CHECK_INT(s.error, ==, WH_CLIENT_TLS);
    CHECK_INT(w.n_peers, ==, 0);
    seen_free(&s);
    world_close(&w);
}

static long peak_kib(void)
{
    struct rusage usage;
    CHECK_INT(getrusage(RUSAGE_SELF, &usage), ==, 0);
    return usage.ru_maxrss;
}

/* 100 MB through an echo: memory stays flat. */
TEST_TIMEOUT(a_hundred_megabytes_both_ways, 120)
{
    const uint64_t total = 100UL * 1000 * 1000;
    world w = {0};
    seen s;
    world_open(&w, NULL);
    seen_init(&s);
    s.keep_body = false;
    wh_client_request request = a_request("POST", (int64_t)total);
    start(&w, &s, &request);
    rounds(&w, 3);
    CHECK_CONTAINS(hear(&w, 0), "\r\n\r\n");
    say(&w, 0, "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
    static char block[32768];
    static char echo[32768];
    size_t held = 0;
    uint64_t written = 0;
    bool may_write = true;
    long before = peak_kib();
    while (s.dones == 0) {
        unsigned writables = s.writables;
        for (int i = 0; i < 8 && may_write && written < total; i++) {
            size_t n = (size_t)WH_MIN(total - written, (uint64_t)sizeof(block));
            int r = wh_client_write(s.call, block, n);
            CHECK(r == 0 || r == -EAGAIN);
            written += n;
            may_write = r == 0;
        }
        if (written == total)
            (void)wh_client_end(s.call, NULL, 0);
        for (int i = 0; i < 8; i++) {
            if (held == 0) {
                ssize_t n = recv(w.peers[0], echo, sizeof(echo), MSG_DONTWAIT);
                held = n > 0 ? (size_t)n : 0;
            }
            ssize_t n = held == 0 ? 0 : send(w.peers[0], echo, held, MSG_NOSIGNAL | MSG_DONTWAIT);
            held -= n > 0 ? (size_t)n : 0;
        }
        rounds(&w, 1);
        may_write = may_write || s.writables > writables;
    }
    CHECK_INT(s.error, ==, WH_CLIENT_OK);
    CHECK_INT(s.body_bytes, ==, total);
    CHECK_INT(peak_kib() - before, <, 4096);
    seen_free(&s);
    world_close(&w);
}
