/* SPDX-License-Identifier: Apache-2.0 */
/* One stream of HTTP/2: a request and its answer. Handlers are called from wh_h2_stream_serve only, never from inside
 * the library. */
#include "http/h2_private.h"

#include <stdio.h>

wh_h2_stream *wh_h2_stream_new(wh_h2 *h2, int32_t id)
{
    wh_h2_stream *s = wh_xnew(wh_h2_stream);
    s->h2 = h2;
    s->id = id;
    s->moved = wh_loop_now(h2->conn->loop);
    wh_http_exchange_init(&s->x, h2->conn);
    s->x.stream = s;
    wh_buf_init(&s->head.text, 2 * WH_HTTP_HEAD_BYTES_MAX + 2 * WH_HTTP_FIELDS_MAX + 16);
    wh_buf_init(&s->tail.text, WH_HTTP_TRAILER_BYTES_MAX);
    wh_buf_init(&s->in, 2 * WH_H2_STREAM_WINDOW);
    wh_buf_init(&s->out, WH_HTTP_REPLY_BYTES_MAX);
    TAILQ_INSERT_TAIL(&h2->streams, s, link);
    h2->n_streams++;
    return s;
}

static void free_stream(wh_h2_stream *s)
{
    wh_h2 *h2 = s->h2;
    if (s->due)
        TAILQ_REMOVE(&h2->due, s, due_link);
    TAILQ_REMOVE(&h2->streams, s, link);
    h2->n_streams--;
    wh_http_exchange_done(&s->x);
    wh_h2_block_done(&s->head);
    wh_h2_block_done(&s->tail);
    free(s->fields);
    free(s->trailers);
    wh_buf_done(&s->in);
    wh_buf_done(&s->out);
    free(s);
}

void wh_h2_stream_due(wh_h2_stream *s)
{
    if (s->due)
        return;
    s->due = true;
    TAILQ_INSERT_TAIL(&s->h2->due, s, due_link);
}

/* Gives the client room for as many bytes again. */
static void consume(wh_h2_stream *s, size_t n)
{
    nghttp2_session *session = s->h2->session;
    if (n == 0 || s->h2->conn->state == HTTP_DEAD)
        return;
    if (s->closed)
        (void)nghttp2_session_consume_connection(session, n);
    else
        (void)nghttp2_session_consume(session, s->id, n);
}

static void drop_input(wh_h2_stream *s)
{
    size_t n = s->in.len;
    wh_buf_reset(&s->in);
    consume(s, n);
}

void wh_h2_stream_closed(wh_h2_stream *s)
{
    wh_http_exchange *x = &s->x;
    s->closed = true;
    drop_input(s);
    x->gone_due = x->active && !x->gone;
    x->gone = x->detached = true;
    wh_h2_stream_due(s);
}

/* ---- the answer ---- */

static ssize_t read_answer(nghttp2_session *session, int32_t id, uint8_t *to, size_t room, uint32_t *flags,
                           nghttp2_data_source *source, void *user);

static nghttp2_nv pair(wh_str name, wh_str value)
{
    union {
        const char *in;
        uint8_t *out;
    } n = {name.p}, v = {value.p};
    return (nghttp2_nv){n.out, v.out, name.n, value.n, NGHTTP2_NV_FLAG_NONE};
}

/* The lines of `text` as pairs behind `nv`; names become lower case in place. */
static size_t lines_to_pairs(wh_buf *text, nghttp2_nv *nv, size_t max)
{
    size_t n = 0;
    char *p = text->p;
    char *end = p + text->len;
    while (text->len > 0 && p < end && n < max) {
        char *colon = memchr(p, ':', (size_t)(end - p));
        char *line_end = memchr(p, '\r', (size_t)(end - p));
        wh_assert(colon != NULL);
        wh_assert(line_end != NULL);
        for (char *q = p; q < colon; q++)
            if (*q >= 'A' && *q <= 'Z')
                *q = (char)(*q - 'A' + 'a');
        nv[n++] = pair((wh_str){p, (size_t)(colon - p)}, (wh_str){colon + 2, (size_t)(line_end - colon - 2)});
        p = line_end + 2;
    }
    return n;
}

static size_t count_lines(const wh_buf *text)
{
    size_t n = 0;
    for (size_t i = 0; i < text->len; i++)
        n += text->p[i] == '\n';
    return n;
}

static void submit(wh_h2_stream *s, int status, const char *content_type, int64_t length, bool end)
{
    wh_http_exchange *x = &s->x;
    char code[16];
    char digits[24];
    size_t lines = count_lines(&x->fields);
    auto_free nghttp2_nv *nv = wh_xcalloc(lines + 4, sizeof(*nv));
    size_t n = 0;
    (void)snprintf(code, sizeof(code), "%d", status);
    nv[n++] = pair(WH_STR(":status"), wh_str_of(code));
    n += lines_to_pairs(&x->fields, nv + n, lines);
    nv[n++] =
        pair(WH_STR("date"), (wh_str){wh_http_date_line(x->conn->loop) + 6, WH_HTTP_DATE_LINE_BYTES - 8});
    if (content_type != NULL && wh_h1_is_value(wh_str_of(content_type)))
        nv[n++] = pair(WH_STR("content-type"), wh_str_of(content_type));
    if (length >= 0 && status != 204 && status != 304) {
        (void)snprintf(digits, sizeof(digits), "%lld", (long long)length);
        nv[n++] = pair(WH_STR("content-length"), wh_str_of(digits));
    }
    nghttp2_data_provider provider = {.source.ptr = s, .read_callback = read_answer};
    s->submitted = true;
    s->ended = end;
    if (nghttp2_submit_response(s->h2->session, s->id, nv, n, end ? NULL : &provider) != 0)
        wh_h2_reset(x);
}

void wh_h2_begin(wh_http_exchange *x, int status, const char *content_type, int64_t length, bool end)
{
    submit(x->stream, status, content_type, length, end);
}

size_t wh_h2_waiting(const wh_http_exchange *x)
{
    return x->stream->out.len - x->stream->out_off;
}

static void resume(wh_h2_stream *s)
{
    if (s->deferred)
        (void)nghttp2_session_resume_data(s->h2->session, s->id);
    s->deferred = false;
}

int wh_h2_write(wh_http_exchange *x, const void *p, size_t n)
{
    wh_h2_stream *s = x->stream;
    if (s->out_off > s->out.len / 2) {
        wh_buf_consume(&s->out, s->out_off);
        s->out_off = 0;
    }
    if (wh_buf_append(&s->out, p, n) < 0) {
        wh_h2_reset(x);
        return -EPIPE;
    }
    resume(s);
    return 0;
}

void wh_h2_end(wh_http_exchange *x)
{
    x->stream->ended = true;
    resume(x->stream);
}

void wh_h2_info(wh_http_exchange *x, int status)
{
    char code[16];
    (void)snprintf(code, sizeof(code), "%d", status);
    nghttp2_nv nv = pair(WH_STR(":status"), wh_str_of(code));
    (void)nghttp2_submit_headers(x->stream->h2->session, NGHTTP2_FLAG_NONE, x->stream->id, NULL, &nv, 1,
                                 NULL);
    wh_http_conn_kick(x->conn);
}

void wh_h2_reset(wh_http_exchange *x)
{
    wh_h2_stream *s = x->stream;
    x->detached = x->gone = true;
    if (!s->closed)
        (void)nghttp2_submit_rst_stream(s->h2->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_INTERNAL_ERROR);
}

void wh_h2_continue(wh_http_exchange *x)
{
    const wh_h2_stream *s = x->stream;
    if (s->expect && !x->continued && !s->submitted && s->body_seen == 0 && !s->eof)
        wh_h2_info(x, 100);
    x->continued = true;
}

/* Breaks off what the handler may still own. */
static void cut(wh_h2_stream *s)
{
    s->x.gone_due = s->x.active && !s->x.gone;
    wh_h2_reset(&s->x);
    wh_h2_stream_due(s);
}

void wh_h2_touch(wh_http_exchange *x)
{
    wh_h2_stream_due(x->stream);
}

const wh_h1_field *wh_h2_trailers(const wh_http_exchange *x, size_t *ret_n)
{
    *ret_n = x->stream->n_trailers;
    return x->stream->trailers;
}

static int submit_trailers(wh_h2_stream *s)
{
    size_t lines = count_lines(&s->x.trailers);
    auto_free nghttp2_nv *nv = wh_xcalloc(lines + 1, sizeof(*nv));
    size_t n = lines_to_pairs(&s->x.trailers, nv, lines);
    return nghttp2_submit_trailer(s->h2->session, s->id, nv, n);
}

/* The library asks for the next piece of the answer. */
static ssize_t read_answer(nghttp2_session *session, int32_t id, uint8_t *to, size_t room, uint32_t *flags,
                           nghttp2_data_source *source, void *user)
{
    (void)session;
    (void)id;
    (void)user;
    wh_h2_stream *s = source->ptr;
    size_t n = WH_MIN(s->out.len - s->out_off, room);
    if (n > 0)
        memcpy(to, s->out.p + s->out_off, n);
    s->out_off += n;
    s->moved = wh_loop_now(s->h2->conn->loop);
    bool empty = s->out_off == s->out.len;
    if (empty) {
        wh_http_buf_give_back(&s->out);
        s->out_off = 0;
    }
    if (s->x.above)
        wh_h2_stream_due(s);
    if (empty && s->ended) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (s->x.trailers.len > 0 && submit_trailers(s) == 0)
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
    } else if (n == 0) {
        s->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    return (ssize_t)n;
}

/* ---- the request ---- */

static void refuse(wh_h2_stream *s, int status, const char *rule)
{
    wh_http_count_refused(rule);
    wh_http_count(s->x.conn, status);
    s->called = true;
    s->x.gone_due = s->x.active && !s->x.gone;
    s->x.gone = s->x.detached = true;
    drop_input(s);
    char text[128];
    int n = snprintf(text, sizeof(text), "%d %s: %s\n", status, wh_h1_reason(status), rule);
    wh_buf_reset(&s->x.fields);
    submit(s, status, "text/plain; charset=utf-8", n, false);
    (void)wh_buf_append(&s->out, text, (size_t)n);
    s->ended = true;
    resume(s);
}

void wh_h2_stream_data(wh_h2_stream *s, const void *p, size_t n)
{
    wh_http_conn *c = s->h2->conn;
    bool wanted = !s->closed && s->refuse == 0 && (!s->called || (s->x.active && !s->x.detached));
    s->moved = wh_loop_now(c->loop);
    s->body_seen += n;
    if (wanted && s->body_seen > c->server->options.body_bytes_max) {
        s->refuse = 413;
        s->rule = "body-size";
        wh_h2_stream_due(s);
        wanted = false;
    }
    bool whole = !c->server->options.streaming;
    if (wanted && wh_buf_append(whole ? &s->x.body : &s->in, p, n) < 0) {
        s->refuse = 503;
        s->rule = "memory";
        wanted = false;
    }
    if (!wanted || whole)
        consume(s, n);
    if (wanted)
        wh_h2_stream_due(s);
}

static void call_handler(wh_h2_stream *s)
{
    wh_http_conn *c = s->h2->conn;
    wh_http_exchange *x = &s->x;
    c->requests++;
    s->called = true;
    if (wh_h2_head_read(s) < 0) {
        refuse(s, s->refuse, s->rule);
        return;
    }
    x->request.body = wh_buf_str(&x->body);
    x->request.body_bytes = x->body.len;
    x->eof_told = x->body_over = !c->server->options.streaming;
    x->active = true;
    c->server->options.handler(x, &x->request, c->server->options.user);
}

/* Gives the handler what is there of the body that it wants. */
static void give_body(wh_h2_stream *s)
{
    wh_http_exchange *x = &s->x;
    if (!wh_http_wants_body(x))
        return;
    wh_h2_continue(x);
    if (s->in.len > 0) {
        size_t n = s->in.len;
        x->callbacks.on_data(x, s->in.p, n, x->user);
        if (s->in.len == n) { /* not dropped meanwhile */
            wh_buf_reset(&s->in);
            consume(s, n);
        }
    }
    if (s->eof && s->in.len == 0 && wh_http_wants_body(x)) {
        x->body_over = x->eof_told = true;
        x->callbacks.on_data(x, NULL, 0, x->user);
    }
}

static void begin_request(wh_h2_stream *s)
{
    if (s->refuse != 0) {
        refuse(s, s->refuse, s->rule);
        return;
    }
    if (s->head_over && (s->eof || s->h2->conn->server->options.streaming)) {
        call_handler(s);
    } else if (s->head_over) {
        wh_h2_continue(&s->x);
    }
}

/* The rest of a request turned out to be bad while its handler works. */
static void refuse_late(wh_h2_stream *s)
{
    if (!s->x.active || s->x.detached)
        return;
    if (s->x.begun)
        cut(s);
    else
        refuse(s, s->refuse, s->rule);
}

void wh_h2_stream_serve(wh_h2_stream *s)
{
    wh_http_exchange *x = &s->x;
    bool open = s->h2->conn->state != HTTP_DEAD && !s->closed;
    if (open && !s->called)
        begin_request(s);
    else if (open && s->refuse != 0)
        refuse_late(s);
    if (x->gone_due)
        wh_http_tell_gone(x);
    if (x->active && !x->detached)
        (void)wh_http_tell_writable(x, wh_h2_waiting(x));
    give_body(s);
    if (!x->active && s->called && s->in.len > 0)
        drop_input(s);
    if (s->closed && !x->active)
        free_stream(s);
}

void wh_h2_stream_check(wh_h2_stream *s, wh_time now, wh_time time)
{
    const wh_http_exchange *x = &s->x;
    bool ours = s->called && !wh_http_wants_body(x) && wh_h2_waiting(x) == 0;
    if (s->closed || ours || now - s->moved < time)
        return;
    if (s->submitted) {
        cut(s);
        return;
    }
    s->refuse = 408;
    s->rule = "timeout";
    wh_h2_stream_due(s);
}
