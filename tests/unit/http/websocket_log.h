/* SPDX-License-Identifier: Apache-2.0 */
/* Feeds the WebSocket codec and writes down what it says, for tests and fuzzing. A message is written when it is whole:
 * where its pieces break depends on the input's. */
#pragma once

#include "http/websocket.h"

typedef struct ws_log {
    wh_ws w;
    wh_buf out, message;
    bool refused;
} ws_log;

static inline void ws_log_init(ws_log *l, bool server, uint64_t message_max)
{
    *l = (ws_log){0};
    wh_ws_init(&l->w, server, message_max);
    wh_buf_init(&l->out, 64UL << 20);
    wh_buf_init(&l->message, 64UL << 20);
}

static inline void ws_log_done(ws_log *l)
{
    wh_buf_done(&l->out);
    wh_buf_done(&l->message);
}

static inline void ws_log_bytes(ws_log *l, const char *what, wh_str s)
{
    (void)wh_buf_puts(&l->out, what);
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c >= 0x20 && c < 0x7f)
            (void)wh_buf_putc(&l->out, (char)c);
        else
            (void)wh_buf_printf(&l->out, "\\x%02x", c);
    }
    (void)wh_buf_putc(&l->out, '\n');
}

static inline void ws_log_event(ws_log *l, const wh_ws_event *event)
{
    switch (event->kind) {
    case WH_WS_TEXT:
    case WH_WS_BINARY:
        (void)wh_buf_append(&l->message, event->data.p, event->data.n);
        if (event->last) {
            ws_log_bytes(l, event->kind == WH_WS_TEXT ? "text " : "binary ",
                         (wh_str){wh_buf_str(&l->message), l->message.len});
            wh_buf_reset(&l->message);
        }
        break;
    case WH_WS_PING:
        ws_log_bytes(l, "ping ", event->data);
        break;
    case WH_WS_PONG:
        ws_log_bytes(l, "pong ", event->data);
        break;
    case WH_WS_CLOSE:
        (void)wh_buf_printf(&l->out, "close %u", event->code);
        ws_log_bytes(l, " ", event->data);
        break;
    case WH_WS_NONE:
    default:
        break;
    }
}

/* In pieces of so many bytes, each in memory of its own. False when the codec broke one of its promises. */
static inline bool ws_log_feed(ws_log *l, const void *input, size_t n, size_t piece)
{
    const char *from = input;
    for (size_t at = 0; at < n && !l->refused; at += WH_MIN(piece, n - at)) {
        size_t len = WH_MIN(piece, n - at);
        auto_free char *copy = malloc(len);
        if (copy == NULL)
            return false;
        memcpy(copy, from + at, len);
        wh_ws_event event = {.kind = WH_WS_PING};
        for (size_t off = 0; event.kind != WH_WS_NONE;) {
            size_t used = SIZE_MAX;
            int r = wh_ws_feed(&l->w, copy + off, len - off, &used, &event);
            if (r < 0) {
                if (r != -EBADMSG || used != SIZE_MAX || l->w.rule == NULL)
                    return false;
                (void)wh_buf_printf(&l->out, "refuse %u %s\n", l->w.code, l->w.rule);
                l->refused = true;
                return wh_ws_feed(&l->w, copy, len, &used, &event) == -EBADMSG;
            }
            if (used > len - off || (event.kind == WH_WS_NONE && used != len - off))
                return false;
            off += used;
            ws_log_event(l, &event);
        }
    }
    return true;
}
