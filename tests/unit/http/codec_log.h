/* SPDX-License-Identifier: Apache-2.0 */
/* Feeds the HTTP/1 codec and writes down what it says, for case files and fuzzing. */
#pragma once

#include "http/h1.h"

typedef struct codec_log {
    wh_h1 h;
    wh_buf out;
    bool in_body, refused;
    bool ends; /* the stream ends behind the input */
    size_t events;
} codec_log;

static inline void codec_escape(wh_buf *out, wh_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c >= 0x20 && c < 0x7f)
            (void)wh_buf_putc(out, (char)c);
        else
            (void)wh_buf_printf(out, "\\x%02x", c);
    }
}

static inline void codec_fields(codec_log *l, const char *what, const wh_h1_field *fields, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        (void)wh_buf_printf(&l->out, "%s ", what);
        codec_escape(&l->out, fields[i].name);
        (void)wh_buf_putc(&l->out, '=');
        codec_escape(&l->out, fields[i].value);
        (void)wh_buf_putc(&l->out, '\n');
    }
}

static inline void codec_response_head(codec_log *l)
{
    const wh_h1 *h = &l->h;
    (void)wh_buf_printf(&l->out, "head %d 1.%d %s%s%s%s", h->code, h->minor, h->keep_alive ? "keep" : "close",
                        h->chunked ? " chunked" : "", h->until_close ? " until-close" : "",
                        h->upgrade ? " upgrade" : "");
    if (h->length > 0)
        (void)wh_buf_printf(&l->out, " length=%llu", (unsigned long long)h->length);
    (void)wh_buf_putc(&l->out, '\n');
    codec_fields(l, "field", h->fields, h->n_fields);
}

static inline void codec_head(codec_log *l)
{
    const wh_h1 *h = &l->h;
    (void)wh_buf_printf(&l->out, "head %.*s ", WH_STR_ARG(h->method));
    codec_escape(&l->out, h->target);
    (void)wh_buf_printf(&l->out, " path=%.*s query=%.*s 1.%d %s%s%s%s\n", WH_STR_ARG(h->path),
                        WH_STR_ARG(h->query), h->minor, h->keep_alive ? "keep" : "close",
                        h->chunked ? " chunked" : "", h->upgrade ? " upgrade" : "",
                        h->expect_continue ? " continue" : "");
    codec_fields(l, "field", h->fields, h->n_fields);
}

static inline void codec_event(codec_log *l, const wh_h1_event *event)
{
    if (l->in_body && event->kind != WH_H1_BODY && event->kind != WH_H1_NONE) {
        (void)wh_buf_putc(&l->out, '\n');
        l->in_body = false;
    }
    switch (event->kind) {
    case WH_H1_HEAD:
        if (l->h.response)
            codec_response_head(l);
        else
            codec_head(l);
        break;
    case WH_H1_BODY:
        if (!l->in_body)
            (void)wh_buf_puts(&l->out, "body ");
        l->in_body = true;
        codec_escape(&l->out, event->data);
        break;
    case WH_H1_TRAILERS:
        codec_fields(l, "trailer", l->h.trailers, l->h.n_trailers);
        break;
    case WH_H1_END:
        (void)wh_buf_puts(&l->out, "end\n");
        break;
    case WH_H1_NONE:
    default:
        break;
    }
}

static inline void codec_init(codec_log *l, const wh_h1_limits *limits)
{
    *l = (codec_log){0};
    wh_h1_init(&l->h, limits);
    wh_buf_init(&l->out, 64UL << 20);
}

static inline void codec_init_response(codec_log *l, const wh_h1_limits *limits, wh_h1_asked asked, bool ends)
{
    *l = (codec_log){.ends = ends};
    wh_h1_init_response(&l->h, limits);
    wh_h1_asked_for(&l->h, asked);
    wh_buf_init(&l->out, 64UL << 20);
}

static inline void codec_done(codec_log *l)
{
    wh_h1_done(&l->h);
    wh_buf_done(&l->out);
}

static inline void codec_refused(codec_log *l)
{
    if (l->in_body)
        (void)wh_buf_putc(&l->out, '\n');
    l->in_body = false;
    (void)wh_buf_printf(&l->out, "refuse %d rule=%s\n", l->h.status, l->h.rule);
    l->refused = true;
}

/* Returns false when the codec broke one of its own promises. */
static inline bool codec_feed(codec_log *l, const char *p, size_t n)
{
    while (!l->refused) {
        size_t used = SIZE_MAX;
        wh_h1_event event = {WH_H1_NONE, {NULL, 0}};
        int r = wh_h1_feed(&l->h, p, n, &used, &event);
        if (r < 0) {
            if (used != SIZE_MAX || r != -EBADMSG || l->h.status < 400 || l->h.rule == NULL)
                return false;
            codec_refused(l);
            return wh_h1_feed(&l->h, p, n, &used, &event) == -EBADMSG;
        }
        if (used > n || (event.kind == WH_H1_NONE && used != n))
            return false;
        l->events++;
        codec_event(l, &event);
        p += used;
        n -= used;
        if (event.kind == WH_H1_NONE)
            break;
    }
    return true;
}

static inline void codec_end(codec_log *l)
{
    wh_h1_event event = {WH_H1_NONE, {NULL, 0}};
    if (l->ends && !l->refused) {
        if (wh_h1_eof(&l->h, &event) < 0)
            codec_refused(l);
        else
            codec_event(l, &event);
    }
    if (l->in_body)
        (void)wh_buf_putc(&l->out, '\n');
    l->in_body = false;
    if (!l->refused && !wh_h1_idle(&l->h))
        (void)wh_buf_puts(&l->out, "more\n");
}
