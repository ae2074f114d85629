/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP client against our own server: plain, TLS, unix sockets, streams, limits, cancels. */
#include "http/fetch.h"
#include "http/server.h"

#include "harness.h"

#include <stdio.h>

typedef struct fixture {
    wh_loop *loop;
    wh_fetcher *fetcher;
    wh_http_server *server;
    wh_tls_server *tls;
    char *cert, *key, *url;
    wh_http_exchange *held;
    char seen_agent[64];
    /* Of the last fetch. */
    wh_fetch *fetch;
    int done, heads, status;
    bool cancel_in_data;
    wh_err err;
    wh_buf body;
    wh_time retry_after;
    bool reused;
} fixture;

static void handle(wh_http_exchange *x, const wh_http_request *r, void *user)
{
    fixture *f = user;
    wh_str agent = wh_http_field_get(r, "user-agent");
    (void)snprintf(f->seen_agent, sizeof(f->seen_agent), "%.*s", WH_STR_ARG(agent));
    if (strcmp(r->path, "/echo") == 0) {
        auto_free char *text = wh_xasprintf("%s:%s", r->method, r->body);
        wh_http_reply(x, 200, "text/plain", text, strlen(text));
    } else if (strcmp(r->path, "/busy") == 0) {
        (void)wh_http_header(x, "Retry-After", "7");
        wh_http_replyf(x, 429, "later");
    } else if (strcmp(r->path, "/stream") == 0) {
        wh_http_begin(x, 200, "text/plain");
        f->held = x;
    } else if (strcmp(r->path, "/hold") == 0) {
        f->held = x;
    } else if (strcmp(r->path, "/broken") == 0) {
        wh_http_begin(x, 200, "text/plain");
        (void)wh_http_write(x, "half", 4);
        f->held = x;
    } else if (strcmp(r->path, "/here") == 0) {
        (void)wh_http_header(x, "Location", "/echo");
        wh_http_replyf(x, 302, "moved");
    } else if (strcmp(r->path, "/away") == 0) {
        (void)wh_http_header(x, "Location", "http://192.0.2.1/");
        wh_http_replyf(x, 302, "moved");
    } else {
        static char big[100000];
        memset(big, 'x', sizeof(big));
        wh_http_reply(x, 200, "text/plain", big, sizeof(big));
    }
}

static fixture *start(const char *address, bool tls)
{
    fixture *f = wh_xnew(fixture);
    wh_err err = {0};
    wh_addr addr;
    char *ips[] = {(char[]){"127.0.0.1"}, NULL};
    char *dns[] = {(char[]){"fake.test"}, NULL};
    int fd = -1;
    wh_buf_init(&f->body, 1UL << 20);
    CHECK_OK(wh_loop_new(&f->loop, &err), &err);
    CHECK_OK(wh_fetcher_new(f->loop, &f->fetcher, &err), &err);
    CHECK_OK(wh_addr_parse(address, -1, &addr, &err), &err);
    CHECK_OK(wh_listen(&addr, 0600, &fd, &err), &err);
    if (tls) {
        CHECK_OK(wh_key_new(&f->key, &err), &err);
        CHECK_OK(wh_cert_self_signed(f->key, "fake", dns, ips, WH_HOUR, &f->cert, &err), &err);
        wh_tls_server_options o = {.cert_pem = f->cert, .key_pem = f->key};
        CHECK_OK(wh_tls_server_new(&o, &f->tls, &err), &err);
    }
    wh_http_server_options o = {.listen_fd = fd, .handler = handle, .user = f, .tls = f->tls};
    CHECK_OK(wh_http_server_start(f->loop, &o, &f->server, &err), &err);
    f->url = wh_xasprintf("%s://127.0.0.1:%d", tls ? "https" : "http", wh_http_server_port(f->server));
    return f;
}

static void stop(fixture *f)
{
    wh_fetcher_free(f->fetcher);
    wh_http_server_free(f->server);
    wh_tls_server_free(f->tls);
    wh_loop_free(f->loop);
    wh_buf_done(&f->body);
    free(f->cert);
    free(f->key);
    free(f->url);
    free(f);
}

static void on_head(wh_fetch *fetch, int status, void *user)
{
    (void)fetch;
    fixture *f = user;
    f->heads++;
    f->status = status;
}

static void on_data(wh_fetch *fetch, const void *p, size_t n, void *user)
{
    fixture *f = user;
    (void)wh_buf_append(&f->body, p, n);
    if (f->cancel_in_data)
        wh_fetch_cancel(fetch);
}

static void on_done(wh_fetch *fetch, const wh_fetch_result *result, void *user)
{
    fixture *f = user;
    CHECK(fetch == f->fetch);
    f->done++;
    f->status = result->status;
    f->err = result->err;
    f->retry_after = result->retry_after;
    f->reused = result->reused;
    if (result->body_bytes > 0)
        (void)wh_buf_append(&f->body, result->body, result->body_bytes);
    f->fetch = NULL;
    wh_fetch_cancel(fetch); /* does nothing here */
}

static void spin_until(fixture *f, const int *counter, int value)
{
    wh_time end = wh_mono_now() + 5 * WH_SEC;
    while (*counter < value && wh_mono_now() < end)
        CHECK_INT(wh_loop_once(f->loop, 10 * WH_MSEC), ==, 0);
}

static void spin(fixture *f, wh_time time)
{
    wh_time end = wh_mono_now() + time;
    while (wh_mono_now() < end)
        CHECK_INT(wh_loop_once(f->loop, 5 * WH_MSEC), ==, 0);
}

static void begin(fixture *f, wh_fetch_request *r, const char *path, bool stream)
{
    wh_fetch_callbacks callbacks = {
        .on_head = on_head, .on_data = stream ? on_data : NULL, .on_done = on_done};
    auto_free char *url = wh_xasprintf("%s%s", f->url, path);
    wh_err err = {0};
    if (r->url == NULL)
        r->url = url;
    wh_buf_reset(&f->body);
    f->done = f->heads = f->status = 0;
    f->err = (wh_err){0};
    CHECK_OK(wh_fetch_start(f->fetcher, r, &callbacks, f, &f->fetch, &err), &err);
    CHECK_INT(f->done, ==, 0);
    r->url = NULL;
}

static void run(fixture *f, wh_fetch_request *r, const char *path)
{
    begin(f, r, path, false);
    spin_until(f, &f->done, 1);
    CHECK_INT(f->done, ==, 1);
}

TEST(methods_bodies_and_kept_connections)
{
    fixture *f = start("127.0.0.1:0", false);
    static const char *const methods[] = {"POST", "PUT", "PATCH", "DELETE"};
    char *headers[] = {(char[]){"User-Agent: test/1"}, NULL};
    wh_fetch_request get = {.headers = headers};
    run(f, &get, "/echo");
    CHECK_INT(f->status, ==, 200);
    CHECK_INT(f->err.code, ==, 0);
    CHECK_STR(wh_buf_str(&f->body), "GET:");
    CHECK_STR(f->seen_agent, "test/1");
    CHECK(!f->reused);
    for (size_t i = 0; i < WH_ARRAY_LEN(methods); i++) {
        wh_fetch_request r = {.method = methods[i], .body = "abc", .body_bytes = 3};
        run(f, &r, "/echo");
        auto_free char *want = wh_xasprintf("%s:abc", methods[i]);
        CHECK_STR(wh_buf_str(&f->body), want);
        CHECK(f->reused);
    }
    wh_fetch_request empty = {.method = "POST"};
    run(f, &empty, "/echo");
    CHECK_STR(wh_buf_str(&f->body), "POST:");
    stop(f);
}

TEST(retry_after_is_read)
{
    fixture *f = start("127.0.0.1:0", false);
    wh_fetch_request r = {0};
    run(f, &r, "/busy");
    CHECK_INT(f->status, ==, 429);
    CHECK_INT(f->retry_after, ==, 7 * WH_SEC);
    run(f, &r, "/echo");
    CHECK_INT(f->retry_after, ==, -1);
    stop(f);
}

TEST(an_answer_has_a_limit)
{
    fixture *f = start("127.0.0.1:0", false);
    wh_fetch_request at = {.body_bytes_max = 100000};
    run(f, &at, "/big");
    CHECK_INT(f->err.code, ==, 0);
    wh_fetch_request past = {.body_bytes_max = 99999};
    run(f, &past, "/big");
    CHECK_ERR(f->err.code, -EFBIG, &f->err, "larger than allowed");
    stop(f);
}

TEST(nobody_there)
{
    fixture *f = start("127.0.0.1:0", false);
    wh_fetch_request r = {.url = "http://127.0.0.1:1/x"};
    run(f, &r, "");
    CHECK_INT(f->status, ==, 0);
    CHECK_ERR(f->err.code, -ECONNREFUSED, &f->err, "GET http://127.0.0.1:1/x: ");
    wh_fetch *fetch = NULL;
    wh_err err = {0};
    wh_fetch_callbacks callbacks = {.on_done = on_done};
    wh_fetch_request file = {.url = "file:///etc/passwd"};
    f->fetch = NULL;
    f->done = 0;
    if (wh_fetch_start(f->fetcher, &file, &callbacks, f, &fetch, &err) == 0) {
        f->fetch = fetch;
        spin_until(f, &f->done, 1);
        CHECK_INT(f->err.code, <, 0);
        CHECK_INT(f->body.len, ==, 0);
    }
    stop(f);
}

TEST(streams_come_as_they_are_written)
{
    fixture *f = start("127.0.0.1:0", false);
    wh_fetch_request r = {.timeout = WH_TIME_NEVER};
    begin(f, &r, "/stream", true);
    spin_until(f, &f->heads, 1);
    CHECK_INT(f->status, ==, 200);
    CHECK_INT(wh_http_write(f->held, "one", 3), ==, 0);
    spin(f, 50 * WH_MSEC);
    CHECK_STR(wh_buf_str(&f->body), "one");
    CHECK_INT(f->done, ==, 0);
    wh_http_end(f->held);
    spin_until(f, &f->done, 1);
    CHECK_INT(f->err.code, ==, 0);
    stop(f);
}

TEST(a_broken_chunk_is_an_error)
{
    fixture *f = start("127.0.0.1:0", false);
    wh_fetch_request r = {0};
    begin(f, &r, "/broken", true);
    spin_until(f, &f->heads, 1);
    spin(f, 30 * WH_MSEC);
    wh_http_abort(f->held);
    spin_until(f, &f->done, 1);
    CHECK_INT(f->status, ==, 200);
    CHECK_INT(f->err.code, ==, -ECONNRESET);
    CHECK_STR(wh_buf_str(&f->body), "half");
    stop(f);
}

TEST(cancel_means_silence)
{
    fixture *f = start("127.0.0.1:0", false);
    wh_fetch_request r = {.timeout = WH_TIME_NEVER};
    begin(f, &r, "/stream", true);
    wh_fetch_cancel(f->fetch); /* at once */
    spin(f, 30 * WH_MSEC);
    CHECK_INT(f->heads, ==, 0);
    begin(f, &r, "/stream", true);
    spin_until(f, &f->heads, 1);
    f->cancel_in_data = true;
    (void)wh_http_write(f->held, "x", 1);
    spin(f, 50 * WH_MSEC);
    CHECK_STR(wh_buf_str(&f->body), "x");
    CHECK_INT(f->done, ==, 0);
    CHECK(wh_http_is_gone(f->held));
    wh_http_end(f->held);
    begin(f, &r, "/hold", true); /* still under way when the client goes */
    spin(f, 30 * WH_MSEC);
    wh_http_exchange *held = f->held;
    wh_fetcher_free(f->fetcher);
    f->fetcher = NULL;
    spin(f, 30 * WH_MSEC);
    wh_http_replyf(held, 200, "late");
    CHECK_INT(f->done, ==, 0);
    stop(f);
}

TEST(time_is_up)
{
    fixture *f = start("127.0.0.1:0", false);
    wh_fetch_request r = {.timeout = 100 * WH_MSEC};
    run(f, &r, "/hold");
    CHECK_INT(f->err.code, ==, -ETIMEDOUT);
    spin(f, 20 * WH_MSEC);
    wh_http_end(f->held);
    stop(f);
}

TEST(redirects_stay_within_the_host)
{
    fixture *f = start("127.0.0.1:0", false);
    wh_fetch_request r = {0};
    run(f, &r, "/here");
    CHECK_INT(f->status, ==, 302);
    r.follow = true;
    run(f, &r, "/here");
    CHECK_INT(f->status, ==, 200);
    CHECK_STR(wh_buf_str(&f->body), "GET:");
    run(f, &r, "/away");
    CHECK_INT(f->status, ==, 302);
    stop(f);
}

TEST(tls_servers_are_checked)
{
    fixture *f = start("127.0.0.1:0", true);
    wh_fetch_request r = {.tls.ca_pem = f->cert};
    run(f, &r, "/echo");
    CHECK_INT(f->err.code, ==, 0);
    CHECK_INT(f->status, ==, 200);
    wh_fetch_request system_ca = {0};
    run(f, &system_ca, "/echo");
    CHECK_INT(f->err.code, ==, -EPROTO);
    CHECK_INT(f->status, ==, 0);
    wh_fetch_request insecure = {.tls.insecure = true};
    run(f, &insecure, "/echo");
    CHECK_INT(f->status, ==, 200);
    wh_fetch_request named = {.tls = {.ca_pem = f->cert, .server_name = "fake.test"}};
    run(f, &named, "/echo");
    CHECK_INT(f->status, ==, 200);
    wh_fetch_request misnamed = {.tls = {.ca_pem = f->cert, .server_name = "other.test"}};
    run(f, &misnamed, "/echo");
    CHECK_INT(f->err.code, ==, -EPROTO);
    stop(f);
}

TEST(unix_sockets)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "unix:/tmp/wherry-test-fetch-%d", (int)getpid());
    fixture *f = start(path, false);
    wh_fetch_request r = {.unix_socket = path + 5, .url = "http://local/echo"};
    run(f, &r, "");
    CHECK_INT(f->status, ==, 200);
    stop(f);
    (void)unlink(path + 5);
}
