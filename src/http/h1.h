/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.1 requests, strictly (RFC 9112, RFC 9110): bytes in, events out, resumable at any byte, no I/O. What
 * is ambiguous is refused: bare LF or CR, obs-fold, Content-Length beside Transfer-Encoding, either of them
 * twice, and so on. The writer of response heads is as strict backwards. */
#pragma once

#include "base/buf.h"
#include "base/limits.h"

typedef struct wh_h1_field {
    wh_str name;  /* lower case */
    wh_str value; /* without surrounding blanks */
} wh_h1_field;

typedef struct wh_h1_limits {
    size_t line_bytes;   /* request line: 414 */
    size_t head_bytes;   /* all of the head: 431 */
    size_t fields;       /* 431 */
    uint64_t body_bytes; /* 413; applies to a declared length at once, to chunks as they come */
} wh_h1_limits;
extern const wh_h1_limits wh_h1_limits_default;

typedef enum {
    WH_H1_NONE,     /* more bytes are needed */
    WH_H1_HEAD,     /* method, target and fields are there */
    WH_H1_BODY,     /* event.data */
    WH_H1_TRAILERS, /* trailer fields are there: only when there were any */
    WH_H1_END,      /* the message ends here; the next feed begins the next one */
} wh_h1_kind;

typedef struct wh_h1_event {
    wh_h1_kind kind;
    wh_str data; /* BODY: borrowed from the input */
} wh_h1_event;

typedef struct wh_h1 {
    /* Of the current message, valid from HEAD to END; strings point into `head`. */
    wh_str method, target;
    wh_str path,
        query; /* of the target, as sent; query without '?'; path "*" for OPTIONS *, "" for CONNECT */
    int minor; /* HTTP/1.minor: 0 or 1 */
    wh_h1_field *fields, *trailers;
    size_t n_fields, n_trailers;
    bool chunked, has_length, keep_alive, expect_continue, upgrade;
    uint64_t length;
    /* After a refusal. */
    int status;       /* the answer: 400, 413, 414, 417, 431, 501, 505 */
    const char *rule; /* a name for tests, logs and metrics: "dup-content-length" */

    /* Private. */
    wh_h1_limits limits;
    wh_buf head, tail; /* one head; one chunk-size line or trailer section */
    uint64_t left, body_seen;
    unsigned state;
    size_t empty_lines, fields_cap, trailers_cap;
    bool in_line; /* the request line is not complete */
} wh_h1;

void wh_h1_init(wh_h1 *h, const wh_h1_limits *limits); /* NULL: the defaults */
void wh_h1_done(wh_h1 *h);
/* Consumes up to n bytes and gives at most one event. 0: an event, or NONE and all n bytes were used.
 * -EBADMSG: refused, see status and rule; the connection must end, and every further feed is refused too.
 * -ENOMEM. */
int wh_h1_feed(wh_h1 *h, const void *p, size_t n, size_t *ret_used, wh_h1_event *ret_event);
/* True between two messages: an end of the stream is clean here. */
bool wh_h1_idle(const wh_h1 *h);

/* The field's value (first one; names are lower case), or {NULL, 0}. */
wh_str wh_h1_get(const wh_h1 *h, const char *name);
/* The comma-separated list of all fields of that name holds the token, case-insensitively. */
bool wh_h1_has_token(const wh_h1 *h, const char *name, const char *token);

bool wh_h1_is_token(wh_str s);        /* RFC 9110 5.6.2 */
bool wh_h1_is_value(wh_str s);        /* VCHAR, SP, HTAB, obs-text; no surrounding blanks */
const char *wh_h1_reason(int status); /* "Not Found"; "Unknown" for others */
/* Percent-decodes. -EBADMSG for a malformed escape or a NUL; '+' is a space only when `form`. *ret is the caller's. */
int wh_percent_decode(wh_str s, bool form, char **ret);

/* Appends a head: status line and fields. -EINVAL for a field that we would not accept ourselves, and writes
 * nothing. */
int wh_h1_write_status(wh_buf *out, int status);
int wh_h1_write_field(wh_buf *out, const char *name, const char *value);
