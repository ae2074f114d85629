/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of HTTP/2: h2.c drives the session and counts what floods, h2_stream.c is one request and its
 * answer, h2_head.c makes a request of a header block. */
#pragma once

#include "http/server_private.h"

#include <nghttp2/nghttp2.h>

typedef struct h2_entry { /* a field in h2_block.text: name, NUL, value, NUL */
    uint32_t at, name_n, value_n;
} h2_entry;

typedef struct h2_block { /* a header block as it comes */
    wh_buf text;
    h2_entry *entries;
    size_t n, cap;
} h2_block;

struct wh_h2_stream {
    wh_http_exchange x;
    wh_h2 *h2;
    TAILQ_ENTRY(wh_h2_stream) link, due_link;
    int32_t id;
    bool due;
    bool closed;    /* the protocol is done with it */
    bool head_over; /* the request's head is complete */
    bool called;    /* the handler, or whoever answered instead */
    bool eof;       /* the request is complete */
    bool submitted, ended,
        deferred; /* of the answer: head given to the session; no more comes; the session waits */
    bool expect;  /* 100-continue */
    int refuse;   /* what is wrong with the request: a status, or 0 */
    const char *rule;
    wh_time moved; /* when the client last did its part */
    h2_block head, tail;
    wh_h1_field *fields, *trailers;
    size_t n_trailers;
    uint64_t body_seen;
    wh_buf in; /* of the body, received and not yet wanted */
    wh_buf out;
    size_t out_off;
};

typedef enum { H2_PING, H2_SETTINGS, H2_PRIORITY, H2_EMPTY_DATA, H2_WINDOW, H2_RESET, H2_FLOODS } h2_flood;

struct wh_h2 {
    wh_http_conn *conn;
    nghttp2_session *session;
    TAILQ_HEAD(, wh_h2_stream) streams;
    TAILQ_HEAD(wh_h2_due, wh_h2_stream) due;
    size_t n_streams;
    int32_t last_id;
    int32_t reset[16]; /* streams that the client reset last */
    size_t n_reset;
    bool in_head; /* a header block is incomplete */
    bool draining, told;
    wh_time second;
    uint32_t floods[H2_FLOODS];
};

/* ---- h2_head.c ---- */
/* 0, -ENOBUFS past `bytes` or `fields`, -ENOMEM. */
int wh_h2_block_add(h2_block *b, wh_str name, wh_str value, size_t bytes, size_t fields);
void wh_h2_block_done(h2_block *b);
/* Makes s->x.request; -EBADMSG with s->refuse and s->rule set. */
int wh_h2_head_read(wh_h2_stream *s);
void wh_h2_tail_read(wh_h2_stream *s);

/* ---- h2_stream.c ---- */
wh_h2_stream *wh_h2_stream_new(wh_h2 *h2, int32_t id);
void wh_h2_stream_due(wh_h2_stream *s);
/* Calls what is to be called; frees the stream when it is over. */
void wh_h2_stream_serve(wh_h2_stream *s);
void wh_h2_stream_data(wh_h2_stream *s, const void *p, size_t n);
/* The protocol is done with the stream, or the connection is gone. */
void wh_h2_stream_closed(wh_h2_stream *s);
/* The client is to do its part, and has not for so long. */
void wh_h2_stream_check(wh_h2_stream *s, wh_time now, wh_time time);
