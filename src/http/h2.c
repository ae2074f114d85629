/* SPDX-License-Identifier: Apache-2.0 */
/* A connection that speaks HTTP/2 (RFC 9113): libnghttp2 gets bytes and gives bytes, and never sees a socket. Here are
 * the session, its limits against floods, and its end. */
#include "http/h2_private.h"

#include <strings.h>

static wh_h2_stream *stream_of(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

/* ---- floods ---- */

static void end_session(wh_h2 *h2, uint32_t code, const char *rule)
{
    wh_http_count_refused(rule);
    (void)nghttp2_session_terminate_session(h2->session, code);
}

/* What a client may do, but not all day. */
static void count_flood(wh_h2 *h2, h2_flood kind)
{
    wh_time second = wh_loop_now(h2->conn->loop) / WH_SEC;
    if (second != h2->second) {
        memset(h2->floods, 0, sizeof(h2->floods));
        h2->second = second;
    }
    uint32_t max = kind == H2_WINDOW ? WH_H2_WINDOWS_PER_SECOND : WH_H2_FLOOD_PER_SECOND;
    if (++h2->floods[kind] == max + 1)
        end_session(h2, NGHTTP2_ENHANCE_YOUR_CALM, "h2-flood");
}

static void allow_windows(wh_h2 *h2)
{
    h2->floods[H2_WINDOW] -= WH_MIN(h2->floods[H2_WINDOW], (uint32_t)10);
}

static void count_frame(wh_h2 *h2, const nghttp2_frame *frame)
{
    switch (frame->hd.type) {
    case NGHTTP2_PING:
        count_flood(h2, H2_PING);
        break;
    case NGHTTP2_SETTINGS:
        count_flood(h2, H2_SETTINGS);
        break;
    case NGHTTP2_PRIORITY:
        count_flood(h2, H2_PRIORITY);
        break;
    case NGHTTP2_WINDOW_UPDATE:
        count_flood(h2, H2_WINDOW);
        break;
    case NGHTTP2_DATA:
        if (frame->hd.length == frame->data.padlen && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0)
            count_flood(h2, H2_EMPTY_DATA);
        break;
    default:
        break;
    }
}

/* ---- what the library tells; no handler is called from here ---- */

/* RFC 9113 5.1: behind its own RST_STREAM a client sends nothing more. */
static bool was_reset(const wh_h2 *h2, int32_t id)
{
    for (size_t i = 0; i < WH_ARRAY_LEN(h2->reset); i++)
        if (h2->reset[i] == id)
            return id != 0;
    return false;
}

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *user)
{
    wh_h2 *h2 = user;
    if (hd->type != NGHTTP2_CONTINUATION)
        h2->in_head = hd->type == NGHTTP2_HEADERS && (hd->flags & NGHTTP2_FLAG_END_HEADERS) == 0;
    /* RFC 9113 5.1.1: identifiers only grow. The library passes over a block for a stream that it does not know. */
    if (hd->type == NGHTTP2_HEADERS && hd->stream_id % 2 == 1 && hd->stream_id < h2->last_id &&
        nghttp2_session_find_stream(session, hd->stream_id) == NULL)
        end_session(h2, NGHTTP2_PROTOCOL_ERROR, "h2-stream-id");
    if ((hd->type == NGHTTP2_DATA || hd->type == NGHTTP2_HEADERS) && was_reset(h2, hd->stream_id))
        end_session(h2, NGHTTP2_STREAM_CLOSED, "h2-stream-closed");
    return 0;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    wh_h2 *h2 = user;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    h2->last_id = WH_MAX(h2->last_id, frame->hd.stream_id);
    /* Streams that the client reset count as long as a handler works for them. */
    if (h2->n_streams >= WH_H2_STREAMS_MAX) {
        (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                        NGHTTP2_REFUSED_STREAM);
        return 0;
    }
    wh_h2_stream *s = wh_h2_stream_new(h2, frame->hd.stream_id);
    (void)nghttp2_session_set_stream_user_data(session, s->id, s);
    return 0;
}

static void add_field(wh_h2_stream *s, wh_str name, wh_str value)
{
    int r = wh_h2_block_add(&s->head, name, value, WH_HTTP_HEAD_BYTES_MAX, WH_HTTP_FIELDS_MAX + 4);
    if (r < 0) {
        s->refuse = r == -ENOBUFS ? 431 : 503;
        s->rule = r == -ENOBUFS ? "head-size" : "memory";
    }
    if (!wh_str_eq(name, WH_STR("expect")))
        return;
    s->expect = value.n == 12 && strncasecmp(value.p, "100-continue", 12) == 0;
    if (!s->expect && s->refuse == 0) {
        s->refuse = 417;
        s->rule = "expect";
    }
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_n,
                     const uint8_t *value, size_t value_n, uint8_t flags, void *user)
{
    (void)flags;
    (void)user;
    wh_h2_stream *s = stream_of(session, frame->hd.stream_id);
    if (s == NULL || s->refuse != 0)
        return 0;
    wh_str n = {(const char *)name, name_n};
    wh_str v = {(const char *)value, value_n};
    if (!s->head_over)
        add_field(s, n, v);
    else if (wh_h2_block_add(&s->tail, n, v, WH_HTTP_TRAILER_BYTES_MAX, WH_HTTP_TRAILERS_MAX) < 0) {
        s->refuse = 400;
        s->rule = "trailer-size";
    }
    return 0;
}

/* What the library would pass over is refused: the stream ends with PROTOCOL_ERROR. */
static int on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                             size_t name_n, const uint8_t *value, size_t value_n, uint8_t flags, void *user)
{
    (void)session;
    (void)frame;
    (void)name;
    (void)name_n;
    (void)value;
    (void)value_n;
    (void)flags;
    (void)user;
    wh_http_count_refused("h2-field");
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    wh_h2 *h2 = user;
    count_frame(h2, frame);
    if (frame->hd.type == NGHTTP2_HEADERS)
        h2->in_head = false;
    if (frame->hd.type == NGHTTP2_RST_STREAM)
        h2->reset[h2->n_reset++ % WH_ARRAY_LEN(h2->reset)] = frame->hd.stream_id;
    if (frame->hd.type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK) != 0 && h2->draining &&
        !h2->told) {
        /* What was sent before the client knew of our leaving has arrived by now. */
        h2->told = true;
        (void)nghttp2_submit_goaway(session, NGHTTP2_FLAG_NONE,
                                    nghttp2_session_get_last_proc_stream_id(session), NGHTTP2_NO_ERROR, NULL,
                                    0);
    }
    wh_h2_stream *s = stream_of(session, frame->hd.stream_id);
    if (s == NULL || (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA))
        return 0;
    if (frame->hd.type == NGHTTP2_HEADERS && s->head_over)
        wh_h2_tail_read(s);
    s->head_over = true;
    s->eof = s->eof || (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    s->moved = wh_loop_now(h2->conn->loop);
    wh_h2_stream_due(s);
    return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t n,
                         void *user)
{
    (void)flags;
    (void)user;
    wh_h2_stream *s = stream_of(session, id);
    if (s == NULL)
        (void)nghttp2_session_consume(session, id, n);
    else
        wh_h2_stream_data(s, data, n);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    (void)code;
    (void)user;
    wh_h2_stream *s = stream_of(session, id);
    if (s != NULL) {
        (void)nghttp2_session_set_stream_user_data(session, id, NULL);
        wh_h2_stream_closed(s);
    }
    return 0;
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    wh_h2 *h2 = user;
    if (frame->hd.type == NGHTTP2_DATA)
        allow_windows(h2);
    /* Behind the notice, never before it: its answer says that the notice was read. */
    if (frame->hd.type == NGHTTP2_GOAWAY && h2->draining && !h2->told)
        (void)nghttp2_submit_ping(session, NGHTTP2_FLAG_NONE, NULL);
    /* Errors that the client provokes cost as much as those that it makes itself. */
    if (frame->hd.type == NGHTTP2_RST_STREAM && frame->rst_stream.error_code != NGHTTP2_NO_ERROR)
        count_flood(h2, H2_RESET);
    bool ends = (frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS) &&
                (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    /* RFC 9113 8.1: the answer is complete, and nobody reads the rest of the request. */
    if (ends && nghttp2_session_get_stream_remote_close(session, frame->hd.stream_id) == 0)
        (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
    return 0;
}

/* ---- life ---- */

static int make_session(wh_h2 *h2)
{
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    if (nghttp2_session_callbacks_new(&callbacks) != 0)
        return -ENOMEM;
    if (nghttp2_option_new(&option) != 0) {
        nghttp2_session_callbacks_del(callbacks);
        return -ENOMEM;
    }
    nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks, on_invalid_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_stream_reset_rate_limit(option, WH_H2_RESETS_MAX, WH_H2_RESETS_PER_SECOND);
    nghttp2_option_set_max_continuations(option, WH_H2_CONTINUATIONS_MAX);
    nghttp2_option_set_peer_max_concurrent_streams(option, WH_H2_STREAMS_MAX);
    int r = nghttp2_session_server_new2(&h2->session, callbacks, h2, option);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return r == 0 ? 0 : -ENOMEM;
}

int wh_h2_start(wh_http_conn *c)
{
    static const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, WH_H2_STREAMS_MAX},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WH_H2_STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, WH_HTTP_HEAD_BYTES_MAX},
    };
    wh_h2 *h2 = wh_xnew(wh_h2);
    h2->conn = c;
    TAILQ_INIT(&h2->streams);
    TAILQ_INIT(&h2->due);
    int r = make_session(h2);
    if (r == 0 &&
        (nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, settings, WH_ARRAY_LEN(settings)) != 0 ||
         nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, 0, WH_H2_CONNECTION_WINDOW) !=
             0))
        r = -ENOMEM;
    if (r < 0) {
        wh_h2_free(h2);
        return r;
    }
    c->h2 = h2;
    return 0;
}

void wh_h2_free(wh_h2 *h2)
{
    if (h2 == NULL)
        return;
    wh_assert(TAILQ_EMPTY(&h2->streams));
    nghttp2_session_del(h2->session);
    free(h2);
}

static bool serve_due(wh_h2 *h2)
{
    bool any = false;
    /* Only what is due now: what becomes due meanwhile may be its own consequence. */
    wh_h2_stream *last = TAILQ_LAST(&h2->due, wh_h2_due);
    wh_h2_stream *s = NULL;
    while (s != last && (s = TAILQ_FIRST(&h2->due)) != NULL) {
        TAILQ_REMOVE(&h2->due, s, due_link);
        s->due = false;
        any = true;
        bool is_last = s == last;
        wh_h2_stream_serve(s);
        if (is_last)
            break;
    }
    return any;
}

static bool feed(wh_http_conn *c)
{
    union {
        const char *text;
        const uint8_t *bytes;
    } p = {c->view.p};
    if (c->view.n == 0)
        return false;
    ssize_t n = nghttp2_session_mem_recv(c->h2->session, p.bytes, c->view.n);
    if (n < 0) {
        if (n == NGHTTP2_ERR_NOMEM) {
            wh_http_conn_break(c);
            return false;
        }
        /* A bad preface, or a flood that the library stopped. */
        end_session(c->h2,
                    n == NGHTTP2_ERR_BAD_CLIENT_MAGIC ? NGHTTP2_PROTOCOL_ERROR : NGHTTP2_ENHANCE_YOUR_CALM,
                    "h2-session");
        c->view.n = 0;
        return true;
    }
    c->view = (wh_str){c->view.p + n, c->view.n - (size_t)n};
    return true;
}

static bool collect(wh_http_conn *c)
{
    bool any = false;
    while (wh_http_conn_waiting(c) < HTTP_HIGH_BYTES) {
        const uint8_t *data = NULL;
        ssize_t n = nghttp2_session_mem_send(c->h2->session, &data);
        if (n == 0)
            break;
        if (n < 0 || wh_buf_append(&c->out, data, (size_t)n) < 0) {
            wh_http_conn_break(c);
            return false;
        }
        any = true;
    }
    return any;
}

bool wh_h2_wants_read(const wh_http_conn *c)
{
    return wh_http_conn_waiting(c) < HTTP_HIGH_BYTES && nghttp2_session_want_read(c->h2->session) != 0;
}

bool wh_h2_step(wh_http_conn *c)
{
    wh_h2 *h2 = c->h2;
    bool moved = false;
    if (wh_h2_wants_read(c)) {
        if (c->view.n == 0 && wh_http_conn_read_more(c) < 0)
            return false;
        moved = feed(c);
    }
    if (c->state != HTTP_DEAD)
        moved = serve_due(h2) || moved;
    if (c->state != HTTP_DEAD)
        moved = collect(c) || moved;
    if (c->state == HTTP_DEAD)
        return false;
    if (!moved && wh_http_conn_waiting(c) == 0 && nghttp2_session_want_read(h2->session) == 0 &&
        nghttp2_session_want_write(h2->session) == 0) {
        c->state = HTTP_CLOSING;
        return true;
    }
    return moved;
}

wh_http_wait wh_h2_wait(const wh_http_conn *c)
{
    if (wh_http_conn_waiting(c) > 0)
        return HTTP_WAIT_SEND;
    if (c->h2->in_head || (c->h2->n_streams == 0 && c->requests == 0))
        return HTTP_WAIT_HEAD;
    return c->h2->n_streams == 0 ? HTTP_WAIT_IDLE : HTTP_WAIT_STREAMS;
}

void wh_h2_timeout(wh_http_conn *c)
{
    wh_h2 *h2 = c->h2;
    wh_time now = wh_loop_now(c->loop);
    if (wh_http_conn_waiting(c) > 0) {
        wh_http_conn_break(c);
    } else if (h2->in_head) {
        end_session(h2, NGHTTP2_ENHANCE_YOUR_CALM, "timeout");
    } else if (h2->n_streams == 0) {
        (void)nghttp2_session_terminate_session(h2->session, NGHTTP2_NO_ERROR);
    } else {
        wh_h2_stream *s;
        TAILQ_FOREACH(s, &h2->streams, link)
        wh_h2_stream_check(s, now, c->server->options.body_timeout);
    }
}

void wh_h2_drain(wh_http_conn *c)
{
    wh_h2 *h2 = c->h2;
    h2->draining = true;
    (void)nghttp2_submit_shutdown_notice(h2->session);
    wh_http_conn_kick(c);
}

void wh_h2_dead(wh_http_conn *c)
{
    wh_h2_stream *s;
    TAILQ_FOREACH(s, &c->h2->streams, link)
    {
        if (!s->closed)
            wh_h2_stream_closed(s);
    }
}

bool wh_h2_reap(wh_http_conn *c)
{
    while (serve_due(c->h2))
        ;
    return TAILQ_EMPTY(&c->h2->streams);
}
