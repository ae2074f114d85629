/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.1 on a connection of the server (RFC 9112): requests one after the other, each answered before the next one is
 * looked at. One function for each state makes one step, and is true when another may be worth it. */
#include "http/server_private.h"

static int feed(wh_http_conn *c, wh_h1_event *event)
{
    size_t used = 0;
    int r = wh_h1_feed(&c->h1, c->view.p, c->view.n, &used, event);
    if (r == 0)
        c->view = (wh_str){c->view.p + used, c->view.n - used};
    return r;
}

static void refuse_feed(wh_http_conn *c, int r)
{
    if (r == -EBADMSG)
        wh_http_conn_refuse(c, c->h1.status, c->h1.rule);
    else
        wh_http_conn_refuse(c, 503, "memory");
}

void wh_http_conn_skip_body(wh_http_conn *c)
{
    wh_http_exchange *x = &c->x;
    while (!x->body_over && c->view.n > 0) {
        wh_h1_event event;
        if (feed(c, &event) < 0) {
            c->view.n = 0;
            return;
        }
        x->body_over = event.kind == WH_H1_END;
    }
}

static void call_handler(wh_http_conn *c)
{
    wh_http_exchange *x = &c->x;
    c->requests++;
    c->reading_body = false;
    x->close = !c->h1.keep_alive || c->server->draining || c->requests >= WH_HTTP_REQUESTS_MAX;
    int r = wh_http_request_set_h1(c);
    if (r < 0) {
        wh_http_conn_refuse(c, r == -EBADMSG ? 400 : 503, r == -EBADMSG ? "path" : "memory");
        return;
    }
    x->request.body = wh_buf_str(&x->body);
    x->request.body_bytes = x->body.len;
    x->active = true;
    c->state = HTTP_HANDLING;
    c->server->options.handler(x, &x->request, c->server->options.user);
}

void wh_http_conn_continue(wh_http_conn *c)
{
    wh_http_exchange *x = &c->x;
    if (!x->continued && !x->begun && c->h1.expect_continue && c->view.n == 0)
        (void)wh_buf_puts(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
    x->continued = true;
}

/* The head is there. */
static void begin_request(wh_http_conn *c)
{
    bool has_body = c->h1.chunked || c->h1.length > 0;
    if (!has_body) { /* its end takes no bytes */
        wh_h1_event event;
        int r = feed(c, &event);
        wh_assert(r == 0);
        wh_assert(event.kind == WH_H1_END);
        c->x.body_over = true;
    }
    if (c->server->options.streaming || !has_body) {
        c->x.eof_told = !c->server->options.streaming;
        call_handler(c);
        return;
    }
    c->reading_body = true;
    wh_http_conn_continue(c);
}

/* Unless the first line is whole and names no version, as in a broken preface of HTTP/2. */
static bool looks_like_http1(wh_str s)
{
    const char *end = memchr(s.p, '\n', s.n);
    size_t n = end == NULL ? 0 : (size_t)(end - s.p);
    return n <= 1 || memmem(s.p, n, "HTTP/", 5) != NULL;
}

/* Which protocol the first bytes speak; false while they do not say. RFC 9113 3.3, 3.4. */
static bool choose_protocol(wh_http_conn *c)
{
    bool h2 = false;
    if (c->server->options.h2 && c->tls != NULL) {
        h2 = c->tls_ops->is_h2(c->tls);
    } else if (c->server->options.h2) {
        size_t n = WH_MIN(c->view.n, (size_t)4);
        bool same = memcmp(c->view.p, "PRI ", n) == 0;
        if (same && n < 4)
            return false;
        h2 = same;
        if (!h2 && !looks_like_http1(c->view)) { /* no answer that we know would be understood */
            wh_http_count_refused("not-http");
            c->state = HTTP_CLOSING;
            return true;
        }
    }
    c->chosen = true;
    if (!h2)
        return true;
    int r = wh_h2_start(c);
    if (r < 0)
        wh_http_conn_break(c);
    else
        c->state = HTTP_H2;
    return true;
}

bool wh_http_h1_reading(wh_http_conn *c)
{
    if (!c->chosen) {
        if (c->view.n == 0 || !choose_protocol(c))
            return wh_http_conn_read_more(c) > 0;
        if (c->state != HTTP_READING)
            return c->state != HTTP_DEAD;
    }
    if (c->view.n == 0 && wh_h1_idle(&c->h1))
        return wh_http_conn_read_more(c) > 0;
    wh_h1_event event;
    int r = feed(c, &event);
    if (r < 0) {
        refuse_feed(c, r);
        return true;
    }
    switch (event.kind) {
    case WH_H1_HEAD:
        begin_request(c);
        return true;
    case WH_H1_BODY:
        if (wh_buf_append(&c->x.body, event.data.p, event.data.n) < 0)
            wh_http_conn_refuse(c, 503, "memory");
        return true;
    case WH_H1_END:
        c->x.body_over = c->x.eof_told = true;
        call_handler(c);
        return true;
    case WH_H1_TRAILERS:
        return true;
    case WH_H1_NONE:
    default:
        return wh_http_conn_read_more(c) > 0;
    }
}

/* The client half-closed or left while its answer is being made: tell the handler, and go on writing. */
static bool notice_eof(wh_http_conn *c)
{
    if (!c->fin_seen || !c->x.body_over || c->x.gone)
        return false;
    c->x.gone = true;
    wh_http_tell_gone(&c->x);
    return true;
}

/* Gives a handler the next piece of the body that it wants. */
static bool step_body(wh_http_conn *c)
{
    wh_http_exchange *x = &c->x;
    if (x->body_over) {
        x->eof_told = true;
        x->callbacks.on_data(x, NULL, 0, x->user);
        return true;
    }
    wh_http_conn_continue(c);
    wh_h1_event event;
    int r = feed(c, &event);
    if (r < 0) {
        refuse_feed(c, r);
        return true;
    }
    if (event.kind == WH_H1_NONE)
        return wh_http_conn_read_more(c) > 0;
    if (event.kind == WH_H1_BODY && event.data.n > 0)
        x->callbacks.on_data(x, event.data.p, event.data.n, x->user);
    else if (event.kind == WH_H1_END)
        x->body_over = true;
    return true;
}

/* The answer is out, or being sent. */
static bool step_answered(wh_http_conn *c)
{
    if (wh_http_conn_waiting(c) > 0)
        return false; /* the next request waits until this answer is out */
    if (!c->x.body_over)
        wh_http_conn_skip_body(c);
    bool close = c->x.close || !c->x.body_over;
    wh_http_exchange_reset(&c->x);
    wh_http_buf_give_back(&c->out);
    c->state = close ? HTTP_CLOSING : HTTP_READING;
    return close || c->view.n > 0 || !c->dry;
}

bool wh_http_h1_handling(wh_http_conn *c)
{
    if (!c->x.active)
        return step_answered(c);
    if (notice_eof(c) || wh_http_tell_writable(&c->x, wh_http_conn_waiting(c)))
        return true;
    return wh_http_wants_body(&c->x) && step_body(c);
}

bool wh_http_h1_upgraded(wh_http_conn *c)
{
    wh_http_exchange *x = &c->x;
    if (!x->active) {
        c->state = HTTP_CLOSING;
        return true;
    }
    if (wh_http_tell_writable(x, wh_http_conn_waiting(c)))
        return true;
    if (x->paused || c->peer_eof)
        return false;
    wh_str data = c->view; /* what came right behind the request */
    if (data.n == 0 && c->dry)
        return false;
    if (data.n == 0) {
        ssize_t n = wh_http_conn_read(c, c->server->scratch, HTTP_READ_BYTES);
        if (n == -EAGAIN)
            return false;
        if (n < 0) {
            wh_http_conn_break(c);
            return false;
        }
        data = (wh_str){c->server->scratch, (size_t)n};
        c->peer_eof = n == 0;
    }
    c->view.n = 0;
    if (x->callbacks.on_data != NULL)
        x->callbacks.on_data(x, data.p, data.n, x->user);
    return true;
}
