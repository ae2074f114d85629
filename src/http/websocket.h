/* SPDX-License-Identifier: Apache-2.0 */
/* WebSocket frames (RFC 6455), strictly and without I/O: bytes in, events out, resumable at any byte. No extensions.
 * Refused with the close code that the other side is to be told: reserved bits and opcodes, masking on the wrong
 * side or missing on the other, lengths not in their shortest form, broken fragmentation, long or fragmented
 * control frames, text that is not UTF-8, unknown close codes. */
#pragma once

#include "base/buf.h"
#include "base/limits.h"

typedef enum {
    WH_WS_NONE, /* more bytes are needed */
    WH_WS_TEXT, /* a piece of a text message; may end inside a character */
    WH_WS_BINARY,
    WH_WS_PING, /* to be answered by a pong with the same data, unless closing */
    WH_WS_PONG,
    WH_WS_CLOSE, /* the other side sends no more; what follows is dropped */
} wh_ws_kind;

typedef struct wh_ws_event {
    wh_ws_kind kind;
    wh_str
        data; /* of a message: a piece, in the input; of control frames: all of it, valid until the next feed */
    bool last;     /* the message ends with this piece */
    unsigned code; /* CLOSE: 1000 ..., or 1005 when none was given; data is the reason */
} wh_ws_event;

typedef struct wh_ws {
    /* After a refusal. */
    unsigned code;    /* to close with: 1002, 1007, 1009 */
    const char *rule; /* "rsv", "opcode", "mask", ... */

    /* Private. */
    bool server;
    uint64_t message_max, message_bytes, left;
    unsigned state, opcode, message; /* opcode of the frame, and of the message that is open (0: none) */
    bool fin;
    unsigned empty_pieces;
    uint8_t header[14], mask[4], control[WH_WS_CONTROL_BYTES_MAX];
    size_t header_len, mask_at, control_len;
    uint8_t utf8_need, utf8_low, utf8_high; /* bytes missing of a character, bounds of the next one */
} wh_ws;

/* `server`: reads what clients send, which is masked. message_bytes_max 0: WH_WS_MESSAGE_BYTES_MAX. */
void wh_ws_init(wh_ws *w, bool server, uint64_t message_bytes_max);
/* Consumes up to n bytes and gives at most one event; masked data is unmasked where it lies. 0: an event, or NONE
 * and all n bytes were used. -EBADMSG: refused, see code and rule; every further feed is refused too. */
int wh_ws_feed(wh_ws *w, void *p, size_t n, size_t *ret_used, wh_ws_event *ret_event);

/* Appends one frame. `mask`: what a client must choose at random for each frame; NULL from a server. A message is one
 * frame of its kind, or a first one without `fin` and then frames with `more`, of which the last has it. -EINVAL for
 * control frames that are long or parts, and for other kinds. */
typedef struct wh_ws_frame {
    wh_ws_kind kind; /* TEXT, BINARY, PING, PONG */
    bool more;       /* continues a message; kind is TEXT or BINARY */
    bool fin;
    const uint8_t *mask; /* 4 bytes */
} wh_ws_frame;
int wh_ws_write(wh_buf *out, const wh_ws_frame *frame, const void *p, size_t n);
/* A close frame; code 1005: without one. -EINVAL for a code that may not be sent, or a reason that is long or no
 * UTF-8. */
int wh_ws_write_close(wh_buf *out, unsigned code, wh_str reason, const uint8_t *mask);
bool wh_ws_is_close_code(unsigned code); /* may stand in a close frame */
