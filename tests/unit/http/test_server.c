/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP server against raw clients on loopback and unix sockets: framing, limits, timeouts, streams,
 * upgrades, drain. */
#include "http/server.h"

#include "harness.h"

#include <fcntl.h>
#include <stdio.h>

typedef struct fixture {
    wh_loop *loop;
    wh_http_server *server;
    wh_addr addr;
    int calls;
    wh_http_exchange *held;
    int gone, writable, drained;
    size_t streamed;
    wh_buf data; /* of upgraded connections */
    bool data_eof;
} fixture;

static void on_gone(wh_http_exchange *x, void *user)
{
    (void)x;
    ((fixture *)user)->gone++;
}

static void on_writable(wh_http_exchange *x, void *user)
{
    (void)x;
    ((fixture *)user)->writable++;
}

static void on_data(wh_http_exchange *x, const void *p, size_t n, void *user)
{
    fixture *f = user;
    if (n == 0) {
        f->data_eof = true;
        wh_http_end(x);
        return;
    }
    (void)wh_buf_append(&f->data, p, n);
    CHECK_INT(wh_http_write(x, p, n), ==, 0);
}

static const wh_http_stream_callbacks callbacks = {
    .on_gone = on_gone, .on_writable = on_writable, .on_data = on_data};

static void handle(wh_http_exchange *x, const wh_http_request *r, void *user)
{
    fixture *f = user;
    f->calls++;
    if (strcmp(r->path, "/hold") == 0) {
        wh_http_watch(x, &callbacks, f);
        f->held = x;
    } else if (strcmp(r->path, "/stream") == 0) {
        wh_http_watch(x, &callbacks, f);
        wh_http_begin(x, 200, "text/plain");
        f->held = x;
    } else if (strcmp(r->path, "/upgrade") == 0) {
        wh_http_watch(x, &callbacks, f);
        wh_http_upgrade(x, "echo");
    } else if (strcmp(r->path, "/echo") == 0) {
        CHECK_INT(wh_http_header(x, "X-Method", r->method), ==, 0);
        wh_http_reply(x, 200, "text/plain", r->body, r->body_bytes);
    } else if (strcmp(r->path, "/none") == 0) {
        wh_http_reply(x, 204, NULL, NULL, 0);
    } else {
        const char *q = wh_http_param_get(r, "q");
        wh_http_replyf(x, 200, "path=%s q=%s uid=%d", r->path, q == NULL ? "-" : q, (int)r->peer_uid);
    }
}

static fixture *start_on(const char *address, const wh_http_server_options *tune)
{
    fixture *f = wh_xnew(fixture);
    wh_err err = {0};
    wh_addr addr;
    int fd = -1;
    wh_buf_init(&f->data, 1UL << 20);
    CHECK_OK(wh_loop_new(&f->loop, &err), &err);
    CHECK_OK(wh_addr_parse(address, -1, &addr, &err), &err);
    CHECK_OK(wh_listen(&addr, 0600, &fd, &err), &err);
    CHECK_OK(wh_socket_local(fd, &f->addr), NULL);
    wh_http_server_options o = tune == NULL ? (wh_http_server_options){0} : *tune;
    o.listen_fd = fd;
    o.handler = handle;
    o.user = f;
    o.name = "test";
    CHECK_OK(wh_http_server_start(f->loop, &o, &f->server, &err), &err);
    return f;
}

static fixture *start(void)
{
    return start_on("127.0.0.1:0", NULL);
}

static void stop(fixture *f)
{
    wh_http_server_free(f->server);
    wh_loop_free(f->loop);
    wh_buf_done(&f->data);
    free(f);
}

static int dial(fixture *f)
{
    int fd = socket(f->addr.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(connect(fd, &f->addr.sa, f->addr.len), ==, 0);
    CHECK_INT(fcntl(fd, F_SETFL, O_NONBLOCK), ==, 0);
    return fd;
}

static void spin(fixture *f, wh_time time)
{
    wh_time end = wh_mono_now() + time;
    while (wh_mono_now() < end)
        CHECK_INT(wh_loop_once(f->loop, 5 * WH_MSEC), ==, 0);
}

/* Reads until `until` was seen ("": until the end) or two seconds have passed. */
static char *receive(fixture *f, int fd, const char *until)
{
    wh_buf b;
    wh_buf_init(&b, 32UL << 20);
    (void)wh_buf_puts(&b, "");
    wh_time end = wh_mono_now() + 3 * WH_SEC;
    while (wh_mono_now() < end) {
        char chunk[4096];
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n == 0 || (n < 0 && errno != EAGAIN))
            break;
        if (n > 0)
            CHECK_INT(wh_buf_append(&b, chunk, (size_t)n), ==, 0);
        if (until[0] != '\0' && b.len > 0 && strstr(b.p, until) != NULL)
            break;
        if (n < 0)
            CHECK_INT(wh_loop_once(f->loop, 5 * WH_MSEC), ==, 0);
    }
    char *s = wh_buf_take(&b);
    return s == NULL ? wh_xstrdup("") : s;
}

static void say(int fd, const char *text)
{
    CHECK_INT(write(fd, text, strlen(text)), ==, (ssize_t)strlen(text));
}

/* A client that says `text` and is answered with `a` and `b` somewhere in the answer. */
static void ask(const char *text, const char *a, const char *b)
{
    fixture *f = start();
    int fd = dial(f);
    say(fd, text);
    auto_free char *answer = receive(f, fd, "");
    CHECK_CONTAINS(answer, a);
    CHECK_CONTAINS(answer, b);
    close(fd);
    stop(f);
}

TEST(answers_and_keeps_the_connection)
{
    fixture *f = start();
    int fd = dial(f);
    for (int i = 0; i < 3; i++) {
        say(fd, "GET /a%20b?q=1%202&q=3 HTTP/1.1\r\nHost: h\r\n\r\n");
        auto_free char *answer = receive(f, fd, "uid=");
        CHECK_CONTAINS(answer, "HTTP/1.1 200 OK\r\n");
        CHECK_CONTAINS(answer, "Content-Length: 22\r\n");
        CHECK_CONTAINS(answer, "path=/a b q=1 2 uid=-1");
    }
    CHECK_INT(wh_http_server_connections(f->server), ==, 1);
    CHECK_INT(f->calls, ==, 3);
    close(fd);
    spin(f, 30 * WH_MSEC);
    CHECK_INT(wh_http_server_connections(f->server), ==, 0);
    stop(f);
}

TEST(pipelined_requests_are_answered_in_order)
{
    ask("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\noneGET /two HTTP/1.1\r\nHost: h\r\nConnection: "
        "close\r\n\r\n",
        "\r\n\r\noneHTTP/1.1 200 OK", "path=/two");
}

TEST(close_is_honoured_both_ways)
{
    ask("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "Connection: close\r\n", "path=/");
    ask("GET / HTTP/1.0\r\n\r\n", "Connection: close\r\n", "path=/");
}

TEST(bad_requests_are_refused_and_the_rest_is_not_read)
{
    ask("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n", "no-host");
    ask("GET /a/../b HTTP/1.1\r\nHost: h\r\n\r\nGET /x HTTP/1.1\r\nHost: h\r\n\r\n",
        "HTTP/1.1 400 Bad Request\r\n", "400 Bad Request: path\n");
    ask("GET /a%2fb HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 400", "Connection: close");
    ask("GET /%00 HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 400", "Connection: close");
    ask("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8388609\r\n\r\n", "HTTP/1.1 413", "body-size");
}

TEST(expect_continue_is_answered)
{
    fixture *f = start();
    int fd = dial(f);
    say(fd, "POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    auto_free char *first = receive(f, fd, "\r\n\r\n");
    CHECK_STR(first, "HTTP/1.1 100 Continue\r\n\r\n");
    say(fd, "ok");
    auto_free char *answer = receive(f, fd, "\r\n\r\nok");
    CHECK_CONTAINS(answer, "X-Method: POST\r\n");
    close(fd);
    stop(f);
}

TEST(head_and_204_have_no_body)
{
    ask("HEAD /echo HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK\r\n",
        "Content-Length: 0\r\n");
    fixture *f = start();
    int fd = dial(f);
    say(fd, "GET /none HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    auto_free char *answer = receive(f, fd, "");
    CHECK_CONTAINS(answer, "HTTP/1.1 204 No Content\r\n");
    CHECK(strstr(answer, "Content-Length") == NULL);
    close(fd);
    stop(f);
}

TEST(unix_clients_are_known_by_uid)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "unix:/tmp/wherry-test-http-%d", (int)getpid());
    fixture *f = start_on(path, NULL);
    int fd = dial(f);
    auto_free char *want = wh_xasprintf("uid=%d", (int)getuid());
    say(fd, "GET / HTTP/1.1\r\nHost: local\r\n\r\n");
    auto_free char *answer = receive(f, fd, "uid=");
    CHECK_CONTAINS(answer, want);
    /* A second listener finds the first one alive. */
    int other = -1;
    wh_err err = {0};
    CHECK_ERR(wh_listen(&f->addr, 0600, &other, &err), -EADDRINUSE, &err, "listens there already");
    close(fd);
    stop(f);
    /* A dead one's file is replaced. */
    f = start_on(path, NULL);
    stop(f);
    (void)unlink(path + 5);
}

TEST(slow_heads_and_idle_connections_end)
{
    wh_http_server_options tune = {
        .head_timeout = 150 * WH_MSEC, .idle_timeout = 100 * WH_MSEC, .body_timeout = 150 * WH_MSEC};
    fixture *f = start_on("127.0.0.1:0", &tune);
    int fd = dial(f);
    wh_time begin = wh_mono_now();
    say(fd, "GET / HT");
    spin(f, 100 * WH_MSEC);
    say(fd, "TP/1.1\r\n"); /* does not win more time */
    auto_free char *answer = receive(f, fd, "");
    CHECK_CONTAINS(answer, "HTTP/1.1 408 Request Timeout\r\n");
    CHECK_INT(wh_mono_now() - begin, <, 700 * WH_MSEC);
    close(fd);
    fd = dial(f);
    say(fd, "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab");
    auto_free char *body = receive(f, fd, "");
    CHECK_CONTAINS(body, "HTTP/1.1 408 Request Timeout\r\n");
    close(fd);
    fd = dial(f);
    say(fd, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    auto_free char *idle = receive(f, fd, "");
    CHECK_CONTAINS(idle, "HTTP/1.1 200 OK\r\n");
    CHECK(strstr(idle, "408") == NULL);
    close(fd);
    stop(f);
}

TEST(streams_are_chunked_and_wait_for_slow_clients)
{
    fixture *f = start();
    int fd = dial(f);
    say(fd, "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
    spin(f, 30 * WH_MSEC);
    CHECK(f->held != NULL);
    CHECK_INT(wh_http_write(f->held, "hello", 5), ==, 0);
    auto_free char *first = receive(f, fd, "5\r\nhello\r\n");
    CHECK_CONTAINS(first, "Transfer-Encoding: chunked\r\n");
    /* Nobody reads: the kernel's buffers fill, then ours, and the limit holds. */
    static char block[32768];
    memset(block, 'x', sizeof(block));
    int r = 0;
    size_t sent = 0;
    bool told = false;
    for (int i = 0; i < 4000 && r != -ENOBUFS; i++) {
        r = wh_http_write(f->held, block, sizeof(block));
        told = told || r == -EAGAIN;
        sent += r == -ENOBUFS ? 0 : sizeof(block);
        CHECK_INT(wh_loop_once(f->loop, 0), ==, 0);
    }
    CHECK_INT(r, ==, -ENOBUFS);
    CHECK(told);
    CHECK_INT(f->writable, ==, 0);
    size_t got = 0;
    wh_time end = wh_mono_now() + 5 * WH_SEC;
    while (got < sent && wh_mono_now() < end) {
        static char sink[65536];
        ssize_t n = read(fd, sink, sizeof(sink));
        got += n > 0 ? (size_t)n : 0;
        CHECK_INT(wh_loop_once(f->loop, 0), ==, 0);
    }
    CHECK_INT(got, >=, sent);
    CHECK_INT(f->writable, ==, 1);
    wh_http_end(f->held);
    auto_free char *rest = receive(f, fd, "0\r\n\r\n");
    CHECK_CONTAINS(rest, "0\r\n\r\n");
    say(fd, "GET /next HTTP/1.1\r\nHost: h\r\n\r\n");
    auto_free char *next = receive(f, fd, "path=/next");
    CHECK_CONTAINS(next, "path=/next");
    close(fd);
    stop(f);
}

TEST(a_client_that_leaves_is_told)
{
    fixture *f = start();
    int fd = dial(f);
    say(fd, "GET /hold HTTP/1.1\r\nHost: h\r\n\r\n");
    spin(f, 30 * WH_MSEC);
    CHECK(f->held != NULL);
    close(fd);
    spin(f, 50 * WH_MSEC);
    CHECK_INT(f->gone, ==, 1);
    CHECK(wh_http_is_gone(f->held));
    wh_http_replyf(f->held, 200, "to nobody");
    spin(f, 30 * WH_MSEC);
    CHECK_INT(wh_http_server_connections(f->server), ==, 0);
    stop(f);
}

TEST(an_exchange_outlives_its_server)
{
    fixture *f = start();
    int fd = dial(f);
    say(fd, "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
    spin(f, 30 * WH_MSEC);
    wh_http_server_free(f->server);
    f->server = NULL;
    spin(f, 20 * WH_MSEC);
    CHECK_INT(f->gone, ==, 1);
    CHECK_FAIL(wh_http_write(f->held, "x", 1), -EPIPE);
    wh_http_end(f->held);
    close(fd);
    stop(f);
}

TEST(abort_shows_that_the_answer_is_not_whole)
{
    fixture *f = start();
    int fd = dial(f);
    say(fd, "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
    spin(f, 30 * WH_MSEC);
    (void)wh_http_write(f->held, "half", 4);
    spin(f, 30 * WH_MSEC);
    wh_http_abort(f->held);
    auto_free char *answer = receive(f, fd, "");
    CHECK_CONTAINS(answer, "4\r\nhalf\r\n");
    CHECK(strstr(answer, "0\r\n\r\n") == NULL);
    close(fd);
    stop(f);
}

TEST(http_1_0_streams_end_with_the_connection)
{
    fixture *f = start();
    int fd = dial(f);
    say(fd, "GET /stream HTTP/1.0\r\n\r\n");
    spin(f, 30 * WH_MSEC);
    (void)wh_http_write(f->held, "plain", 5);
    wh_http_end(f->held);
    auto_free char *answer = receive(f, fd, "");
    CHECK_CONTAINS(answer, "Connection: close\r\n\r\nplain");
    CHECK(strstr(answer, "chunked") == NULL);
    close(fd);
    stop(f);
}

TEST(an_upgraded_connection_is_raw_both_ways)
{
    fixture *f = start();
    int fd = dial(f);
    /* Bytes may come right behind the request. */
    say(fd, "GET /upgrade HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly ");
    auto_free char *answer = receive(f, fd, "early ");
    CHECK_CONTAINS(answer, "HTTP/1.1 101 Switching Protocols\r\n");
    CHECK_CONTAINS(answer, "Connection: Upgrade\r\nUpgrade: echo\r\n\r\nearly ");
    say(fd, "GET / HTTP/1.1\r\n\r\n");
    auto_free char *echo = receive(f, fd, "\r\n\r\n");
    CHECK_STR(echo, "GET / HTTP/1.1\r\n\r\n");
    CHECK_INT(shutdown(fd, SHUT_WR), ==, 0);
    auto_free char *rest = receive(f, fd, "");
    CHECK_STR(rest, "");
    CHECK(f->data_eof);
    close(fd);
    stop(f);
}

static void on_drained(void *user)
{
    ((fixture *)user)->drained++;
}

TEST(drain_lets_answers_end_and_cuts_the_rest)
{
    fixture *f = start();
    int idle = dial(f);
    say(idle, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    auto_free char *first = receive(f, idle, "path=");
    CHECK_CONTAINS(first, "200 OK");
    int busy = dial(f);
    say(busy, "GET /hold HTTP/1.1\r\nHost: h\r\n\r\n");
    spin(f, 30 * WH_MSEC);
    wh_http_server_drain(f->server, 10 * WH_SEC, on_drained, f);
    auto_free char *closed = receive(f, idle, "");
    CHECK_STR(closed, "");
    CHECK_INT(f->drained, ==, 0);
    wh_http_replyf(f->held, 200, "last");
    auto_free char *last = receive(f, busy, "");
    CHECK_CONTAINS(last, "Connection: close\r\n");
    CHECK_CONTAINS(last, "last");
    close(busy);
    spin(f, 50 * WH_MSEC);
    CHECK_INT(f->drained, ==, 1);
    close(idle);
    stop(f);

    f = start();
    busy = dial(f);
    say(busy, "GET /hold HTTP/1.1\r\nHost: h\r\n\r\n");
    spin(f, 30 * WH_MSEC);
    wh_http_server_drain(f->server, 50 * WH_MSEC, on_drained, f);
    spin(f, 150 * WH_MSEC);
    CHECK_INT(f->drained, ==, 1);
    CHECK_INT(f->gone, ==, 1);
    wh_http_end(f->held);
    close(busy);
    stop(f);
}

TEST(accepting_pauses_at_the_limit)
{
    wh_http_server_options tune = {.connections_max = 2};
    fixture *f = start_on("127.0.0.1:0", &tune);
    int a = dial(f);
    int b = dial(f);
    int c = dial(f);
    spin(f, 30 * WH_MSEC);
    CHECK_INT(wh_http_server_connections(f->server), ==, 2);
    close(a);
    say(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    auto_free char *answer = receive(f, c, "path=");
    CHECK_CONTAINS(answer, "200 OK");
    close(b);
    close(c);
    stop(f);
}

TEST(a_query_has_a_limit)
{
    wh_buf b;
    wh_buf_init(&b, 1UL << 20);
    (void)wh_buf_puts(&b, "GET /?a");
    for (int i = 1; i < WH_HTTP_PARAMS_MAX; i++)
        (void)wh_buf_puts(&b, "&a");
    auto_free char *at = wh_xasprintf("%s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", wh_buf_str(&b));
    auto_free char *past =
        wh_xasprintf("%s&a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", wh_buf_str(&b));
    ask(at, "200 OK", "path=/");
    ask(past, "400 Bad Request", "path");
    wh_buf_done(&b);
}

/* ---- streaming: the handler runs at the head ---- */

typedef struct stream {
    fixture *f;
    int heads, eofs, replies;
    bool want, answer_early, hold;
    int64_t length;
    size_t n_trailers;
    char target[64], authority[64];
    int version;
} stream;

static void on_stream_data(wh_http_exchange *x, const void *p, size_t n, void *user)
{
    stream *s = user;
    if (n > 0) {
        (void)wh_buf_append(&s->f->data, p, n);
        return;
    }
    s->eofs++;
    (void)wh_http_trailers(x, &s->n_trailers);
    if (s->hold)
        return;
    wh_http_reply(x, 200, "text/plain", wh_buf_str(&s->f->data), s->f->data.len);
}

static void on_stream_gone(wh_http_exchange *x, void *user)
{
    stream *s = user;
    s->f->gone++;
    if (s->want)
        wh_http_end(x);
}

static void handle_stream(wh_http_exchange *x, const wh_http_request *r, void *user)
{
    static const wh_http_stream_callbacks with_data = {.on_data = on_stream_data, .on_gone = on_stream_gone};
    stream *s = user;
    s->heads++;
    s->length = r->length;
    s->version = r->version;
    (void)snprintf(s->target, sizeof(s->target), "%s", r->target);
    (void)snprintf(s->authority, sizeof(s->authority), "%s", r->authority);
    s->f->held = x;
    if (s->answer_early)
        wh_http_replyf(x, 200, "early");
    else if (s->want)
        wh_http_watch(x, &with_data, s);
}

static fixture *start_stream(stream *s, const wh_http_server_options *tune)
{
    fixture *f = wh_xnew(fixture);
    wh_err err = {0};
    wh_addr addr;
    int fd = -1;
    wh_buf_init(&f->data, 1UL << 20);
    CHECK_OK(wh_loop_new(&f->loop, &err), &err);
    CHECK_OK(wh_addr_parse("127.0.0.1:0", -1, &addr, &err), &err);
    CHECK_OK(wh_listen(&addr, 0600, &fd, &err), &err);
    CHECK_OK(wh_socket_local(fd, &f->addr), NULL);
    wh_http_server_options o = tune == NULL ? (wh_http_server_options){0} : *tune;
    o.listen_fd = fd;
    o.handler = handle_stream;
    o.user = s;
    o.streaming = true;
    s->f = f;
    CHECK_OK(wh_http_server_start(f->loop, &o, &f->server, &err), &err);
    return f;
}

TEST(a_streamed_request_begins_at_its_head)
{
    stream s = {.want = true};
    fixture *f = start_stream(&s, NULL);
    int fd = dial(f);
    say(fd, "POST /a%2Fb/c?d=%zz&e HTTP/1.1\r\nHost: h:80\r\nTransfer-Encoding: chunked\r\n\r\n");
    spin(f, 20 * WH_MSEC);
    CHECK_INT(s.heads, ==, 1);
    CHECK_INT(s.length, ==, -1);
    CHECK_INT(s.version, ==, 11);
    CHECK_STR(s.target, "/a%2Fb/c?d=%zz&e");
    CHECK_STR(s.authority, "h:80");
    CHECK_STR(wh_http_request_of(f->held)->path, "/a%2Fb/c");
    CHECK_STR(wh_http_request_of(f->held)->query, "d=%zz&e");
    say(fd, "3\r\none\r\n");
    spin(f, 20 * WH_MSEC);
    CHECK_STR(wh_buf_str(&f->data), "one");
    CHECK_INT(s.eofs, ==, 0);
    say(fd,
        "3;x=y\r\ntwo\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\nGET /next HTTP/1.1\r\nHost: h\r\n\r\n");
    auto_free char *answer = receive(f, fd, "onetwoHTTP/1.1 200 OK");
    CHECK_CONTAINS(answer, "\r\n\r\nonetwoHTTP/1.1 200 OK");
    CHECK(strstr(answer, "close") == NULL);
    CHECK_INT(s.n_trailers, ==, 0); /* of the second request; the first had one */
    CHECK_INT(s.heads, ==, 2);
    CHECK_INT(s.eofs, ==, 2);
    CHECK_INT(s.length, ==, 0);
    close(fd);
    stop(f);
}

TEST(trailers_pass_both_ways)
{
    stream s = {.want = true, .hold = true};
    fixture *f = start_stream(&s, NULL);
    int fd = dial(f);
    say(fd, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 17\r\n\r\n");
    spin(f, 20 * WH_MSEC);
    CHECK_INT(s.eofs, ==, 1);
    size_t n = 0;
    const wh_h1_field *trailers = wh_http_trailers(f->held, &n);
    CHECK_INT(n, ==, 1);
    CHECK(wh_str_eq(trailers[0].name, WH_STR("x-sum")));
    CHECK(wh_str_eq(trailers[0].value, WH_STR("17")));
    wh_http_info(f->held, 103);
    wh_http_begin(f->held, 200, NULL);
    CHECK_INT(wh_http_write(f->held, "x", 1), ==, 0);
    CHECK_FAIL(wh_http_trailer(f->held, WH_STR("Content-Length"), WH_STR("1")), -EINVAL);
    CHECK_FAIL(wh_http_trailer(f->held, WH_STR("a b"), WH_STR("1")), -EINVAL);
    CHECK_FAIL(wh_http_trailer(f->held, WH_STR("a"), WH_STR("1\r\nb: 2")), -EINVAL);
    CHECK_INT(wh_http_trailer(f->held, WH_STR("X-Done"), WH_STR("yes")), ==, 0);
    wh_http_end(f->held);
    auto_free char *answer = receive(f, fd, "X-Done: yes\r\n\r\n");
    CHECK_CONTAINS(answer, "HTTP/1.1 103 ");
    CHECK_CONTAINS(answer, "1\r\nx\r\n0\r\nX-Done: yes\r\n\r\n");
    close(fd);
    stop(f);
}

TEST(a_declared_length_holds_or_the_answer_breaks)
{
    static const char get[] = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    stream s = {.hold = true};
    fixture *f = start_stream(&s, NULL);
    int fd = dial(f);
    say(fd, get);
    spin(f, 20 * WH_MSEC);
    wh_http_begin_length(f->held, 200, NULL, 5);
    CHECK_INT(wh_http_write(f->held, "hello", 5), ==, 0);
    wh_http_end(f->held);
    auto_free char *whole = receive(f, fd, "hello");
    CHECK_CONTAINS(whole, "Content-Length: 5\r\n\r\nhello");
    say(fd, get);
    spin(f, 20 * WH_MSEC);
    wh_http_begin_length(f->held, 200, NULL, 5);
    CHECK_INT(wh_http_write(f->held, "hell", 4), ==, 0);
    CHECK_FAIL(wh_http_write(f->held, "oh", 2), -EPIPE);
    CHECK_FAIL(wh_http_write(f->held, "o", 1), -EPIPE);
    wh_http_end(f->held);
    auto_free char *more = receive(f, fd, "");
    CHECK(strstr(more, "hello") == NULL);
    close(fd);
    fd = dial(f);
    say(fd, get);
    spin(f, 20 * WH_MSEC);
    wh_http_begin_length(f->held, 200, NULL, 5);
    CHECK_INT(wh_http_write(f->held, "hell", 4), ==, 0);
    spin(f, 20 * WH_MSEC);
    wh_http_end(f->held);
    auto_free char *less = receive(f, fd, "");
    CHECK_CONTAINS(less, "Content-Length: 5\r\n\r\nhell");
    spin(f, 20 * WH_MSEC);
    CHECK_INT(wh_http_server_connections(f->server), ==, 0);
    close(fd);
    stop(f);
}

TEST(continue_is_sent_when_the_body_is_wanted)
{
    stream s = {0};
    fixture *f = start_stream(&s, NULL);
    int fd = dial(f);
    say(fd, "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    spin(f, 40 * WH_MSEC);
    char byte;
    CHECK_FAIL(recv(fd, &byte, 1, MSG_PEEK) < 0 ? -errno : 0, -EAGAIN);
    static const wh_http_stream_callbacks with_data = {.on_data = on_stream_data};
    wh_http_watch(f->held, &with_data, &s);
    auto_free char *first = receive(f, fd, "\r\n\r\n");
    CHECK_STR(first, "HTTP/1.1 100 Continue\r\n\r\n");
    say(fd, "ok");
    auto_free char *answer = receive(f, fd, "\r\n\r\nok");
    CHECK_CONTAINS(answer, "\r\n\r\nok");
    close(fd);
    stop(f);
}

TEST(an_early_answer_ends_the_connection)
{
    stream s = {.answer_early = true};
    fixture *f = start_stream(&s, NULL);
    int fd = dial(f);
    say(fd, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\nGET /smuggled");
    auto_free char *answer = receive(f, fd, "");
    CHECK_CONTAINS(answer, "Connection: close\r\n");
    CHECK_CONTAINS(answer, "early");
    CHECK_INT(s.heads, ==, 1);
    close(fd);
    /* A body that is there already costs nothing to pass over. */
    fd = dial(f);
    say(fd, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nokGET / HTTP/1.1\r\nHost: h\r\n\r\n");
    auto_free char *two = receive(f, fd, "earlyHTTP/1.1 200 OK");
    CHECK_CONTAINS(two, "earlyHTTP/1.1 200 OK");
    CHECK(strstr(two, "close") == NULL);
    close(fd);
    stop(f);
}

TEST(a_paused_body_stops_the_client)
{
    wh_http_server_options tune = {.body_bytes_max = UINT64_MAX};
    stream s = {.want = true};
    fixture *f = start_stream(&s, &tune);
    int fd = dial(f);
    say(fd, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n");
    spin(f, 20 * WH_MSEC);
    wh_http_pause(f->held, true);
    static char block[65536];
    size_t sent = 0;
    ssize_t r = 0;
    wh_time end = wh_mono_now() + 5 * WH_SEC;
    int quiet = 0;
    while (quiet < 20 && wh_mono_now() < end) {
        r = write(fd, block, sizeof(block));
        sent += r > 0 ? (size_t)r : 0;
        quiet = r > 0 ? 0 : quiet + 1;
        CHECK_INT(wh_loop_once(f->loop, WH_MSEC), ==, 0);
    }
    CHECK_INT(quiet, ==, 20);
    CHECK_INT(f->data.len, ==, 0);
    CHECK_INT(sent, <, 64UL << 20);
    wh_http_pause(f->held, false);
    spin(f, 50 * WH_MSEC);
    CHECK_INT(f->data.len, >, 0);
    close(fd);
    spin(f, 50 * WH_MSEC);
    CHECK_INT(f->gone, ==, 1);
    stop(f);
}

static void on_stuttering_data(wh_http_exchange *x, const void *p, size_t n, void *user)
{
    on_stream_data(x, p, n, user);
    if (n > 0)
        wh_http_pause(x, true);
}

/* What was read and could not be given away is kept, and given once. */
TEST(a_body_that_stutters_comes_whole)
{
    static const wh_http_stream_callbacks stuttering = {.on_data = on_stuttering_data};
    stream s = {.hold = true};
    fixture *f = start_stream(&s, NULL);
    int fd = dial(f);
    say(fd, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    spin(f, 20 * WH_MSEC);
    wh_http_watch(f->held, &stuttering, &s);
    wh_buf sent, all;
    wh_buf_init(&sent, 1UL << 20);
    wh_buf_init(&all, 1UL << 20);
    for (unsigned i = 0; i < 20000; i++) {
        (void)wh_buf_printf(&all, "%x.", i);
        (void)wh_buf_printf(&sent, "%x\r\n%x.\r\n", (unsigned)snprintf(NULL, 0, "%x.", i), i);
    }
    (void)wh_buf_puts(&sent, "0\r\n\r\n");
    size_t off = 0;
    wh_time end = wh_mono_now() + 20 * WH_SEC;
    while (s.eofs == 0 && wh_mono_now() < end) {
        ssize_t n = write(fd, sent.p + off, WH_MIN(sent.len - off, (size_t)70001));
        off += n > 0 ? (size_t)n : 0;
        CHECK_INT(wh_loop_once(f->loop, 0), ==, 0);
        wh_http_pause(f->held, false);
    }
    CHECK_INT(s.eofs, ==, 1);
    CHECK_STR(wh_buf_str(&f->data), wh_buf_str(&all));
    wh_http_replyf(f->held, 200, "done");
    auto_free char *answer = receive(f, fd, "done");
    CHECK_CONTAINS(answer, "200 OK");
    wh_buf_done(&sent);
    wh_buf_done(&all);
    close(fd);
    stop(f);
}

TEST(a_bad_or_late_body_is_refused_while_the_handler_reads)
{
    wh_http_server_options tune = {.body_timeout = 60 * WH_MSEC, .body_bytes_max = 10};
    stream s = {.want = true};
    fixture *f = start_stream(&s, &tune);
    int fd = dial(f);
    say(fd, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\n");
    auto_free char *bad = receive(f, fd, "");
    CHECK_CONTAINS(bad, "HTTP/1.1 400 Bad Request\r\n");
    CHECK_INT(f->gone, ==, 1);
    close(fd);
    fd = dial(f);
    say(fd, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nab");
    auto_free char *late = receive(f, fd, "");
    CHECK_CONTAINS(late, "HTTP/1.1 408 Request Timeout\r\n");
    CHECK_INT(f->gone, ==, 2);
    close(fd);
    fd = dial(f);
    say(fd, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n1\r\nx\r\n");
    auto_free char *large = receive(f, fd, "");
    CHECK_CONTAINS(large, "HTTP/1.1 413 ");
    CHECK_INT(f->gone, ==, 3);
    close(fd);
    stop(f);
}

TEST(a_connection_has_so_many_requests)
{
    fixture *f = start();
    int fd = dial(f);
    for (int i = 1; i <= WH_HTTP_REQUESTS_MAX; i++) {
        say(fd, "GET /none HTTP/1.1\r\nHost: h\r\n\r\n");
        auto_free char *answer = receive(f, fd, "\r\n\r\n");
        bool last = i == WH_HTTP_REQUESTS_MAX;
        CHECK((strstr(answer, "Connection: close") != NULL) == last);
    }
    auto_free char *end = receive(f, fd, "");
    CHECK_STR(end, "");
    close(fd);
    stop(f);
}
