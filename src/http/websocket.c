/* SPDX-License-Identifier: Apache-2.0 */
#include "http/websocket.h"

enum { WS_HEADER, WS_DATA, WS_CONTROL, WS_CLOSED, WS_REFUSED };
enum { OP_MORE = 0, OP_TEXT = 1, OP_BINARY = 2, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 };

#define FIN 0x80u
#define RSV 0x70u
#define MASKED 0x80u

void wh_ws_init(wh_ws *w, bool server, uint64_t message_bytes_max)
{
    *w = (wh_ws){.server = server,
                 .message_max = message_bytes_max == 0 ? WH_WS_MESSAGE_BYTES_MAX : message_bytes_max};
}

static int refuse(wh_ws *w, unsigned code, const char *rule)
{
    w->code = code;
    w->rule = rule;
    w->state = WS_REFUSED;
    return -EBADMSG;
}

/* ---- UTF-8, in pieces ---- */

/* The byte that begins a character says how many follow, and between what the second one is (RFC 3629 4). */
static bool utf8_begin(wh_ws *w, uint8_t c)
{
    w->utf8_low = 0x80;
    w->utf8_high = 0xbf;
    if (c < 0xc2 || c > 0xf4)
        return false;
    w->utf8_need = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
    if (c == 0xe0)
        w->utf8_low = 0xa0; /* shorter forms */
    else if (c == 0xed)
        w->utf8_high = 0x9f; /* surrogates */
    else if (c == 0xf0)
        w->utf8_low = 0x90;
    else if (c == 0xf4)
        w->utf8_high = 0x8f; /* past U+10FFFF */
    return true;
}

static bool utf8_goes_on(wh_ws *w, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t word;
        while (w->utf8_need == 0 && n - i > sizeof(word)) {
            memcpy(&word, p + i, sizeof(word));
            if ((word & 0x8080808080808080u) != 0)
                break;
            i += sizeof(word);
        }
        if (w->utf8_need == 0) {
            if (p[i] >= 0x80 && !utf8_begin(w, p[i]))
                return false;
            continue;
        }
        if (p[i] < w->utf8_low || p[i] > w->utf8_high)
            return false;
        w->utf8_low = 0x80;
        w->utf8_high = 0xbf;
        w->utf8_need--;
    }
    return true;
}

/* ---- frames ---- */

static void unmask(wh_ws *w, uint8_t *p, size_t n)
{
    size_t i = 0;
    if (n >= 16) {
        uint8_t turned[8];
        for (size_t k = 0; k < sizeof(turned); k++)
            turned[k] = w->mask[(w->mask_at + k) & 3];
        uint64_t mask;
        memcpy(&mask, turned, sizeof(mask));
        for (; n - i >= sizeof(mask); i += sizeof(mask)) {
            uint64_t word;
            memcpy(&word, p + i, sizeof(word));
            word ^= mask;
            memcpy(p + i, &word, sizeof(word));
        }
    }
    for (; i < n; i++)
        p[i] ^= w->mask[(w->mask_at + i) & 3];
    w->mask_at += n;
}

/* How long the header is, as far as its first two bytes tell. */
static size_t header_size(const wh_ws *w)
{
    if (w->header_len < 2)
        return 2;
    unsigned len = w->header[1] & 0x7fu;
    return 2 + (len == 126 ? 2u : len == 127 ? 8u : 0u) + ((w->header[1] & MASKED) != 0 ? 4u : 0u);
}

/* Said as soon as the first two bytes are there: nothing waits for the rest of what is refused anyway. */
static int check_beginning(wh_ws *w)
{
    unsigned first = w->header[0];
    unsigned len = w->header[1] & 0x7fu;
    w->opcode = first & 0x0fu;
    w->fin = (first & FIN) != 0;
    if ((first & RSV) != 0)
        return refuse(w, 1002, "rsv");
    if (((w->header[1] & MASKED) != 0) != w->server)
        return refuse(w, 1002, "mask");
    if (w->opcode >= OP_CLOSE) {
        if (w->opcode > OP_PONG)
            return refuse(w, 1002, "opcode");
        if (!w->fin)
            return refuse(w, 1002, "control-fragment");
        return len > WH_WS_CONTROL_BYTES_MAX ? refuse(w, 1002, "control-size") : 0;
    }
    if (w->opcode > OP_BINARY)
        return refuse(w, 1002, "opcode");
    if ((w->opcode == OP_MORE) != (w->message != 0))
        return refuse(w, 1002, w->opcode == OP_MORE ? "continuation" : "interleaved");
    return 0;
}

static int read_length(wh_ws *w, const uint8_t **at)
{
    unsigned len = w->header[1] & 0x7fu;
    size_t bytes = len == 126 ? 2 : len == 127 ? 8 : 0;
    w->left = len;
    if (bytes == 0)
        return 0;
    w->left = 0;
    for (size_t i = 0; i < bytes; i++)
        w->left = w->left << 8 | *(*at)++;
    if (w->left > INT64_MAX || w->left < (bytes == 2 ? 126u : 65536u))
        return refuse(w, 1002, "length");
    return 0;
}

static int begin_frame(wh_ws *w)
{
    const uint8_t *at = w->header + 2;
    int r = read_length(w, &at);
    if (r < 0)
        return r;
    memset(w->mask, 0, sizeof(w->mask));
    if (w->server)
        memcpy(w->mask, at, sizeof(w->mask));
    w->mask_at = 0;
    w->header_len = 0;
    if (w->opcode >= OP_CLOSE) {
        w->control_len = 0;
        w->state = WS_CONTROL;
        return 0;
    }
    if (w->opcode != OP_MORE) {
        w->message = w->opcode;
        w->message_bytes = 0;
        w->empty_pieces = 0;
        w->utf8_need = 0;
    }
    if (w->left > w->message_max - w->message_bytes)
        return refuse(w, 1009, "message-size");
    if (w->left == 0 && !w->fin && ++w->empty_pieces > WH_WS_EMPTY_PIECES_MAX)
        return refuse(w, 1002, "empty-pieces");
    w->message_bytes += w->left;
    w->state = WS_DATA;
    return 0;
}

static int feed_header(wh_ws *w, const uint8_t *p, size_t n, size_t *used)
{
    while (*used < n) {
        w->header[w->header_len++] = p[(*used)++];
        int r = w->header_len == 2 ? check_beginning(w) : 0;
        if (r == 0 && w->header_len >= 2 && w->header_len == header_size(w))
            return begin_frame(w);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Also for the end of an empty frame, when it ends its message. */
static int feed_data(wh_ws *w, uint8_t *p, size_t n, size_t *used, wh_ws_event *event)
{
    size_t take = (size_t)WH_MIN((uint64_t)(n - *used), w->left);
    uint8_t *data = p + *used;
    if (take > 0 && w->server)
        unmask(w, data, take);
    if (w->message == OP_TEXT && !utf8_goes_on(w, data, take))
        return refuse(w, 1007, "utf-8");
    *used += take;
    w->left -= take;
    bool last = w->left == 0 && w->fin;
    if (last && w->message == OP_TEXT && w->utf8_need > 0)
        return refuse(w, 1007, "utf-8");
    if (take > 0 || last) {
        *event = (wh_ws_event){.kind = w->message == OP_TEXT ? WH_WS_TEXT : WH_WS_BINARY,
                               .data = {(const char *)data, take},
                               .last = last};
    }
    if (w->left == 0)
        w->state = WS_HEADER;
    if (last)
        w->message = 0;
    return 0;
}

bool wh_ws_is_close_code(unsigned code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

static int end_close(wh_ws *w, wh_ws_event *event)
{
    *event = (wh_ws_event){.kind = WH_WS_CLOSE, .code = 1005};
    w->state = WS_CLOSED;
    if (w->control_len == 0)
        return 0;
    if (w->control_len == 1)
        return refuse(w, 1002, "close-size");
    event->code = (unsigned)w->control[0] << 8 | w->control[1];
    event->data = (wh_str){(const char *)w->control + 2, w->control_len - 2};
    if (!wh_ws_is_close_code(event->code))
        return refuse(w, 1002, "close-code");
    return wh_utf8_valid(event->data.p, event->data.n) ? 0 : refuse(w, 1007, "utf-8");
}

static int feed_control(wh_ws *w, const uint8_t *p, size_t n, size_t *used, wh_ws_event *event)
{
    size_t take = (size_t)WH_MIN((uint64_t)(n - *used), w->left);
    if (take > 0)
        memcpy(w->control + w->control_len, p + *used, take);
    w->control_len += take;
    *used += take;
    w->left -= take;
    if (w->left > 0)
        return 0;
    w->state = WS_HEADER;
    if (w->server)
        unmask(w, w->control, w->control_len);
    if (w->opcode == OP_CLOSE)
        return end_close(w, event);
    *event = (wh_ws_event){.kind = w->opcode == OP_PING ? WH_WS_PING : WH_WS_PONG,
                           .data = {(const char *)w->control, w->control_len}};
    return 0;
}

int wh_ws_feed(wh_ws *w, void *p, size_t n, size_t *ret_used, wh_ws_event *ret_event)
{
    size_t used = 0;
    wh_ws_event event = {.kind = WH_WS_NONE};
    int r = w->state == WS_REFUSED ? -EBADMSG : 0;
    if (w->state == WS_CLOSED)
        used = n;
    /* A frame without data ends right behind its header, also where the input does. */
    while (r == 0 && event.kind == WH_WS_NONE && w->state != WS_CLOSED &&
           (used < n || (w->state != WS_HEADER && w->left == 0))) {
        if (w->state == WS_HEADER)
            r = feed_header(w, p, n, &used);
        else if (w->state == WS_DATA)
            r = feed_data(w, p, n, &used, &event);
        else
            r = feed_control(w, p, n, &used, &event);
    }
    if (r < 0)
        return r;
    *ret_used = used;
    *ret_event = event;
    return 0;
}

/* ---- writing ---- */

static int write_frame(wh_buf *out, unsigned first, const uint8_t *mask, const void *p, size_t n)
{
    uint8_t header[14];
    size_t len = 2;
    size_t bytes = n < 126 ? 0 : n < 65536 ? 2 : 8;
    header[0] = (uint8_t)first;
    header[1] = (uint8_t)((mask != NULL ? MASKED : 0) | (bytes == 0 ? n : bytes == 2 ? 126u : 127u));
    for (size_t i = bytes; i > 0; i--)
        header[len++] = (uint8_t)((uint64_t)n >> (8 * (i - 1)));
    if (mask != NULL) {
        memcpy(header + len, mask, 4);
        len += 4;
    }
    size_t total;
    if (__builtin_add_overflow(n, len, &total))
        return -ENOBUFS;
    int r = wh_buf_reserve(out, total);
    if (r == 0)
        r = wh_buf_append(out, header, len);
    size_t at = out->len;
    if (r == 0)
        r = wh_buf_append(out, p, n);
    if (r == 0 && mask != NULL)
        for (size_t i = 0; i < n; i++)
            out->p[at + i] = (char)((uint8_t)out->p[at + i] ^ mask[i & 3]);
    return r;
}

int wh_ws_write(wh_buf *out, const wh_ws_frame *frame, const void *p, size_t n)
{
    unsigned opcode = frame->kind == WH_WS_TEXT     ? OP_TEXT
                      : frame->kind == WH_WS_BINARY ? OP_BINARY
                      : frame->kind == WH_WS_PING   ? OP_PING
                                                    : OP_PONG;
    if (frame->kind == WH_WS_NONE || frame->kind == WH_WS_CLOSE)
        return -EINVAL;
    if (opcode >= OP_CLOSE && (n > WH_WS_CONTROL_BYTES_MAX || !frame->fin || frame->more))
        return -EINVAL;
    if (frame->more)
        opcode = OP_MORE;
    return write_frame(out, (frame->fin ? FIN : 0) | opcode, frame->mask, p, n);
}

int wh_ws_write_close(wh_buf *out, unsigned code, wh_str reason, const uint8_t *mask)
{
    uint8_t data[WH_WS_CONTROL_BYTES_MAX];
    if (code == 1005)
        return reason.n > 0 ? -EINVAL : write_frame(out, FIN | OP_CLOSE, mask, NULL, 0);
    if (!wh_ws_is_close_code(code) || reason.n > sizeof(data) - 2 || !wh_utf8_valid(reason.p, reason.n))
        return -EINVAL;
    data[0] = (uint8_t)(code >> 8);
    data[1] = (uint8_t)code;
    if (reason.n > 0)
        memcpy(data + 2, reason.p, reason.n);
    return write_frame(out, FIN | OP_CLOSE, mask, data, reason.n + 2);
}
