/* SPDX-License-Identifier: Apache-2.0 */
/* Exchanges over HTTP/2 against libnghttp2's own client: who owns what when streams, connections and servers end. */
#include "http/server.h"

#include "harness.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>

#define STREAMS 4

typedef struct fixture {
    wh_loop *loop;
    wh_http_server *server;
    wh_addr addr;
    wh_http_exchange *held[STREAMS];
    int heads, gone, eofs, writable, drained;
    wh_buf data;

    int fd;
    nghttp2_session *client;
    int status[2 * STREAMS + 2];
    size_t bytes;
    uint32_t closed[2 * STREAMS + 2]; /* error code + 1 */
    bool goaway;
    wh_buf body; /* what the client sends */
    bool body_ends;
} fixture;

/* ---- the server's side ---- */

static void on_data(wh_http_exchange *x, const void *p, size_t n, void *user)
{
    (void)x;
    fixture *f = user;
    f->eofs += n == 0;
    (void)wh_buf_append(&f->data, p, n);
}

static void on_gone(wh_http_exchange *x, void *user)
{
    fixture *f = user;
    CHECK(wh_http_is_gone(x));
    f->gone++;
}

static void on_writable(wh_http_exchange *x, void *user)
{
    (void)x;
    ((fixture *)user)->writable++;
}

static void handle(wh_http_exchange *x, const wh_http_request *r, void *user)
{
    static const wh_http_stream_callbacks callbacks = {
        .on_data = on_data, .on_gone = on_gone, .on_writable = on_writable};
    fixture *f = user;
    CHECK_INT(r->version, ==, 20);
    CHECK_STR(r->authority, "h");
    f->held[f->heads++] = x;
    wh_http_watch(x, &callbacks, f);
}

/* ---- the client's side ---- */

static int client_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    (void)session;
    fixture *f = user;
    f->goaway = f->goaway || frame->hd.type == NGHTTP2_GOAWAY;
    return 0;
}

static int client_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                         size_t name_n, const uint8_t *value, size_t value_n, uint8_t flags, void *user)
{
    (void)session;
    (void)flags;
    fixture *f = user;
    if (name_n == 7 && memcmp(name, ":status", 7) == 0 && value_n == 3)
        f->status[frame->hd.stream_id] = (value[0] - '0') * 100 + (value[1] - '0') * 10 + value[2] - '0';
    return 0;
}

static int client_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t n,
                       void *user)
{
    (void)session;
    (void)flags;
    (void)id;
    (void)data;
    ((fixture *)user)->bytes += n;
    return 0;
}

static int client_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    (void)session;
    ((fixture *)user)->closed[id] = code + 1;
    return 0;
}

static ssize_t client_body(nghttp2_session *session, int32_t id, uint8_t *to, size_t room, uint32_t *flags,
                           nghttp2_data_source *source, void *user)
{
    (void)session;
    (void)id;
    (void)user;
    fixture *f = source->ptr;
    size_t n = WH_MIN(room, f->body.len);
    memcpy(to, wh_buf_str(&f->body), n);
    wh_buf_consume(&f->body, n);
    if (f->body.len == 0 && f->body_ends)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    else if (n == 0)
        return NGHTTP2_ERR_DEFERRED;
    return (ssize_t)n;
}

static void turn(fixture *f, int turns)
{
    for (int i = 0; i < turns; i++) {
        const uint8_t *out = NULL;
        ssize_t n;
        while ((n = nghttp2_session_mem_send(f->client, &out)) > 0)
            CHECK_INT(send(f->fd, out, (size_t)n, MSG_NOSIGNAL), ==, n);
        CHECK_INT(wh_loop_once(f->loop, WH_MSEC), ==, 0);
        static uint8_t in[65536];
        while ((n = read(f->fd, in, sizeof(in))) > 0)
            CHECK_INT(nghttp2_session_mem_recv(f->client, in, (size_t)n), ==, n);
    }
}

static fixture *start(const wh_http_server_options *tune)
{
    fixture *f = wh_xnew(fixture);
    wh_err err = {0};
    wh_addr addr;
    int fd = -1;
    CHECK_OK(wh_loop_new(&f->loop, &err), &err);
    CHECK_OK(wh_addr_parse("127.0.0.1:0", -1, &addr, &err), &err);
    CHECK_OK(wh_listen(&addr, 0600, &fd, &err), &err);
    CHECK_OK(wh_socket_local(fd, &f->addr), NULL);
    wh_http_server_options o = tune == NULL ? (wh_http_server_options){.streaming = true} : *tune;
    o.listen_fd = fd;
    o.handler = handle;
    o.user = f;
    o.h2 = true;
    CHECK_OK(wh_http_server_start(f->loop, &o, &f->server, &err), &err);
    wh_buf_init(&f->data, 4UL << 20);
    wh_buf_init(&f->body, 4UL << 20);
    f->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(connect(f->fd, &f->addr.sa, f->addr.len), ==, 0);
    CHECK_INT(fcntl(f->fd, F_SETFL, O_NONBLOCK), ==, 0);
    int on = 1;
    CHECK_INT(setsockopt(f->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), ==, 0);
    nghttp2_session_callbacks *callbacks = NULL;
    CHECK_INT(nghttp2_session_callbacks_new(&callbacks), ==, 0);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, client_frame);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, client_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, client_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, client_close);
    CHECK_INT(nghttp2_session_client_new(&f->client, callbacks, f), ==, 0);
    nghttp2_session_callbacks_del(callbacks);
    CHECK_INT(nghttp2_submit_settings(f->client, NGHTTP2_FLAG_NONE, NULL, 0), ==, 0);
    return f;
}

static void stop(fixture *f)
{
    wh_http_server_free(f->server);
    for (int i = 0; i < 4; i++)
        CHECK_INT(wh_loop_once(f->loop, 0), ==, 0);
    wh_loop_free(f->loop);
    nghttp2_session_del(f->client);
    close(f->fd);
    wh_buf_done(&f->data);
    wh_buf_done(&f->body);
    free(f);
}

static void ask(fixture *f, bool body)
{
    static char text[][16] = {":method", "POST", ":scheme", "http", ":authority", "h", ":path", "/a"};
    nghttp2_nv nv[4];
    for (size_t i = 0; i < 4; i++)
        nv[i] = (nghttp2_nv){(uint8_t *)text[2 * i], (uint8_t *)text[2 * i + 1], strlen(text[2 * i]),
                             strlen(text[2 * i + 1]), NGHTTP2_NV_FLAG_NONE};
    nghttp2_data_provider provider = {.source.ptr = f, .read_callback = client_body};
    CHECK_INT(nghttp2_submit_request(f->client, NULL, nv, 4, body ? &provider : NULL, NULL), >, 0);
}

/* ---- tests ---- */

TEST(a_stream_that_the_client_resets_is_told_once)
{
    fixture *f = start(NULL);
    ask(f, false);
    ask(f, false);
    turn(f, 10);
    CHECK_INT(f->heads, ==, 2);
    CHECK_INT(f->eofs, ==, 2);
    CHECK_INT(nghttp2_submit_rst_stream(f->client, NGHTTP2_FLAG_NONE, 1, NGHTTP2_CANCEL), ==, 0);
    turn(f, 10);
    CHECK_INT(f->gone, ==, 1);
    wh_http_begin(f->held[0], 200, NULL);
    CHECK_FAIL(wh_http_write(f->held[0], "x", 1), -EPIPE);
    wh_http_end(f->held[0]);
    wh_http_replyf(f->held[1], 200, "other");
    turn(f, 10);
    CHECK_INT(f->status[1], ==, 0);
    CHECK_INT(f->status[3], ==, 200);
    CHECK_INT(f->bytes, ==, 5);
    CHECK_INT(f->gone, ==, 1);
    stop(f);
}

TEST(exchanges_outlive_their_server)
{
    fixture *f = start(NULL);
    ask(f, false);
    ask(f, true);
    turn(f, 10);
    wh_http_begin(f->held[0], 200, NULL);
    wh_http_server_free(f->server);
    f->server = NULL;
    turn(f, 3);
    CHECK_INT(f->gone, ==, 2);
    CHECK_FAIL(wh_http_write(f->held[0], "x", 1), -EPIPE);
    wh_http_end(f->held[0]);
    wh_http_abort(f->held[1]);
    stop(f);
}

TEST(what_is_not_whole_is_reset)
{
    fixture *f = start(NULL);
    for (int i = 0; i < 3; i++)
        ask(f, false);
    turn(f, 10);
    wh_http_begin_length(f->held[0], 200, NULL, 5);
    CHECK_INT(wh_http_write(f->held[0], "four", 4), ==, 0);
    turn(f, 5);
    wh_http_end(f->held[0]);
    wh_http_abort(f->held[1]);
    wh_http_begin(f->held[2], 200, NULL);
    CHECK_INT(wh_http_write(f->held[2], "four", 4), ==, 0);
    wh_http_end(f->held[2]);
    turn(f, 10);
    CHECK_INT(f->closed[1], ==, NGHTTP2_INTERNAL_ERROR + 1);
    CHECK_INT(f->closed[3], ==, NGHTTP2_INTERNAL_ERROR + 1);
    CHECK_INT(f->closed[5], ==, NGHTTP2_NO_ERROR + 1);
    CHECK_INT(f->bytes, ==, 8);
    CHECK_INT(wh_http_server_connections(f->server), ==, 1);
    stop(f);
}

TEST(a_paused_body_stays_within_one_window)
{
    fixture *f = start(NULL);
    for (int i = 0; i < 200000; i++)
        (void)wh_buf_putc(&f->body, (char)('a' + i % 26));
    f->body_ends = true;
    ask(f, true);
    turn(f, 1);
    while (f->heads == 0)
        turn(f, 1);
    wh_http_pause(f->held[0], true);
    size_t before = f->data.len;
    turn(f, 30);
    CHECK_INT(f->data.len, ==, before);
    CHECK_INT(f->body.len, >=, 200000 - WH_H2_STREAM_WINDOW - before);
    wh_http_pause(f->held[0], false);
    turn(f, 60);
    CHECK_INT(f->data.len, ==, 200000);
    CHECK_INT(f->eofs, ==, 1);
    for (size_t i = 0; i < f->data.len; i++)
        CHECK_INT(f->data.p[i], ==, (char)('a' + i % 26));
    wh_http_replyf(f->held[0], 200, "ok");
    turn(f, 5);
    CHECK_INT(f->status[1], ==, 200);
    stop(f);
}

TEST(a_writer_waits_for_the_window)
{
    fixture *f = start(NULL);
    ask(f, false);
    turn(f, 10);
    static const char block[16384];
    wh_http_begin(f->held[0], 200, NULL);
    int r = 0;
    size_t written = 0;
    for (int i = 0; i < 100 && r != -ENOBUFS; i++) {
        r = wh_http_write(f->held[0], block, sizeof(block));
        written += r == -ENOBUFS ? 0 : sizeof(block);
    }
    CHECK_INT(r, ==, -ENOBUFS);
    CHECK_INT(written, ==, WH_HTTP_STREAM_BYTES_MAX);
    CHECK_INT(f->writable, ==, 0);
    turn(f, 100);
    CHECK_INT(f->bytes, ==, written);
    CHECK_INT(f->writable, ==, 1);
    wh_http_end(f->held[0]);
    turn(f, 10);
    CHECK_INT(f->closed[1], ==, NGHTTP2_NO_ERROR + 1);
    stop(f);
}

TEST(an_early_answer_ends_its_stream_without_an_error)
{
    fixture *f = start(NULL);
    ask(f, true);
    ask(f, false);
    turn(f, 10);
    wh_http_replyf(f->held[0], 403, "no");
    turn(f, 10);
    CHECK_INT(f->status[1], ==, 403);
    CHECK_INT(f->closed[1], ==, NGHTTP2_NO_ERROR + 1);
    wh_http_replyf(f->held[1], 200, "yes");
    turn(f, 10);
    CHECK_INT(f->status[3], ==, 200);
    stop(f);
}

static void on_drained(void *user)
{
    ((fixture *)user)->drained++;
}

TEST(a_drain_waits_for_streams)
{
    fixture *f = start(NULL);
    ask(f, false);
    turn(f, 10);
    wh_http_server_drain(f->server, 10 * WH_SEC, on_drained, f);
    turn(f, 10);
    CHECK(f->goaway);
    CHECK_INT(f->drained, ==, 0);
    wh_http_replyf(f->held[0], 200, "last");
    turn(f, 10);
    CHECK_INT(f->status[1], ==, 200);
    close(f->fd);
    f->fd = -1;
    for (int i = 0; i < 10; i++)
        CHECK_INT(wh_loop_once(f->loop, WH_MSEC), ==, 0);
    CHECK_INT(f->drained, ==, 1);
    stop(f);
}

TEST(a_whole_body_has_its_limit)
{
    wh_http_server_options tune = {.body_bytes_max = 10};
    fixture *f = start(&tune);
    (void)wh_buf_puts(&f->body, "0123456789");
    f->body_ends = true;
    ask(f, true);
    turn(f, 10);
    CHECK_INT(f->heads, ==, 1);
    CHECK_STR(wh_http_request_of(f->held[0])->body, "0123456789");
    wh_http_replyf(f->held[0], 200, "ok");
    (void)wh_buf_puts(&f->body, "0123456789x");
    ask(f, true);
    turn(f, 10);
    CHECK_INT(f->heads, ==, 1);
    CHECK_INT(f->status[1], ==, 200);
    CHECK_INT(f->status[3], ==, 413);
    stop(f);
}
