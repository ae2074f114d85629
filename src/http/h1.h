/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.1 messages, strictly (RFC 9112, RFC 9110): bytes in, events out, resumable at any byte, no I/O; requests for
 * servers, responses for clients. What is ambiguous is refused: bare LF or CR, obs-fold, Content-Length beside
 * Transfer-Encoding, either of them twice, and so on. The writer of heads is as strict backwards. */
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
extern const wh_h1_limits wh_h1_limits_default;  /* of requests */
extern const wh_h1_limits wh_h1_limits_response; /* the same without a limit to the body */

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

typedef enum { /* what the answer to this request may be, beside the usual */
               WH_H1_ASKED_PLAIN,
               WH_H1_ASKED_HEAD,    /* no body */
               WH_H1_ASKED_CONNECT, /* 2xx has no body: the connection is a tunnel then */
               WH_H1_ASKED_UPGRADE, /* 101 is welcome */
} wh_h1_asked;

typedef struct wh_h1 {
    /* Of the current message, valid from HEAD to END; strings point into `head`. */
    wh_str method, target; /* requests */
    wh_str path,
        query; /* of the target, as sent; query without '?'; path "*" for OPTIONS *, "" for CONNECT */
    int code; /* responses: 100 to 999. Below 200 the message ends with its head, and another response follows */
    int minor; /* HTTP/1.minor: 0 or 1 */
    wh_h1_field *fields, *trailers;
    size_t n_fields, n_trailers;
    bool chunked, has_length, until_close, keep_alive, expect_continue, upgrade;
    uint64_t length;
    /* After a refusal. */
    int status;       /* the answer: 400, 413, 414, 417, 431, 501, 505; 502 when a response was refused */
    const char *rule; /* a name for tests, logs and metrics: "dup-content-length" */

    /* Private. */
    wh_h1_limits limits;
    wh_buf head, tail; /* one head; one chunk-size line or trailer section */
    uint64_t left, body_seen;
    unsigned state;
    size_t empty_lines, line_bytes, fields_cap, trailers_cap;
    bool in_line; /* the first line is not complete */
    bool response;
    wh_h1_asked asked;
} wh_h1;

void wh_h1_init(wh_h1 *h, const wh_h1_limits *limits);          /* requests; NULL: the defaults */
void wh_h1_init_response(wh_h1 *h, const wh_h1_limits *limits); /* responses; NULL: their defaults */
/* Between two messages: which request the next response answers; later ones too, until it is said again. */
void wh_h1_asked_for(wh_h1 *h, wh_h1_asked asked);
void wh_h1_done(wh_h1 *h);
/* Consumes up to n bytes and gives at most one event. 0: an event, or NONE and all n bytes were used.
 * -EBADMSG: refused, see status and rule; the connection must end, and every further feed is refused too.
 * -ENOMEM. */
int wh_h1_feed(wh_h1 *h, const void *p, size_t n, size_t *ret_used, wh_h1_event *ret_event);
/* The stream ended. 0 with END for a response whose body lasts until then, 0 with NONE between two messages, and
 * -EBADMSG (rule "truncated") elsewhere. */
int wh_h1_eof(wh_h1 *h, wh_h1_event *ret_event);
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

/* ---- writing ---- */

/* They append, or fail and append nothing: -EINVAL for what we would not accept ourselves, -ENOBUFS, -ENOMEM. A head is
 * its first line, its fields, and "\r\n". */
int wh_h1_write_status(wh_buf *out, int status);
/* "METHOD target HTTP/1.1" and the Host field. The target is a path with its query, or "*" with OPTIONS. */
int wh_h1_write_request(wh_buf *out, wh_str method, wh_str target, wh_str host);
int wh_h1_write_field(wh_buf *out, const char *name, const char *value);
int wh_h1_write_field_n(wh_buf *out, wh_str name, wh_str value);
/* One chunk with the n bytes; nothing for n == 0, which would end the body. */
int wh_h1_write_chunk(wh_buf *out, const void *p, size_t n);
/* The last chunk, the trailers and the empty line. -EINVAL also for a field that frames, routes or authenticates. */
int wh_h1_write_last_chunk(wh_buf *out, const wh_h1_field *trailers, size_t n);

/* Fields that belong to one connection (RFC 9110 7.6.1) and are never passed on: Connection, Keep-Alive,
 * Proxy-Connection, TE, Trailer, Transfer-Encoding, Upgrade. Lower-case name. */
bool wh_h1_is_hop_field(wh_str name);
/* What a trailer may not be (RFC 9110 6.5.1): a field that frames, routes, controls or authenticates. Lower case. */
bool wh_h1_is_forbidden_trailer(wh_str name);
