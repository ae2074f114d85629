/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the HTTP server: server.c listens, connection.c moves bytes,
 * connection_h1.c speaks HTTP/1, request.c reads what was asked,
 * exchange.c answers, h2.c speaks HTTP/2. */
#pragma once

#include "http/server.h"

#include <sys/queue.h>

#define HTTP_CONN_MAGIC 0x77686363u
#define HTTP_HIGH_BYTES (64UL << 10) /* what waits for a client: above it writers should pause */
#define HTTP_LOW_BYTES (32UL << 10)  /* and below it they go on */
#define HTTP_READ_BYTES (64UL << 10)
#define HTTP_KEEP_BYTES (16UL << 10) /* of a buffer that an idle connection keeps */
#define HTTP_COUNTS 8                /* different status codes that are counted before the metric is told */

typedef struct wh_http_conn wh_http_conn;
typedef struct wh_h2 wh_h2;
typedef struct wh_h2_stream wh_h2_stream;

typedef enum {
    HTTP_READING,  /* a request, or waiting for one */
    HTTP_HANDLING, /* an exchange is with its handler, or its answer is being sent */
    HTTP_UPGRADED, /* raw bytes both ways */
    HTTP_H2,       /* HTTP/2: exchanges belong to streams */
    HTTP_CLOSING,  /* the last bytes are being sent */
    HTTP_LINGER, /* we said our last word and wait for the client's end, so that it reads the answer before a reset */
    HTTP_DEAD, /* no descriptor any more; lives on only as long as an exchange is owned by a handler */
} wh_http_state;

/* What a connection waits for; each wait has its time. */
typedef enum {
    HTTP_NO_WAIT,
    HTTP_WAIT_HEAD,
    HTTP_WAIT_BODY,
    HTTP_WAIT_SEND,
    HTTP_WAIT_IDLE,
    HTTP_WAIT_STREAMS,
    HTTP_WAIT_LINGER
} wh_http_wait;

struct wh_http_exchange {
    wh_http_request request;
    wh_http_conn *conn;
    wh_h2_stream *stream; /* NULL: HTTP/1 */
    wh_buf text;          /* the strings of the request */
    wh_http_param *params;
    wh_buf body;             /* of a request that is read whole */
    wh_buf fields, trailers; /* of the answer, as lines */
    wh_http_stream_callbacks callbacks;
    void *user;
    uint64_t left; /* of a declared length: what is still to be written */
    bool active;   /* owned by the handler */
    bool begun;    /* the answer's head is out */
    bool detached; /* nothing more that the handler writes goes out */
    bool has_left; /* `left` means something */
    bool chunked, no_body, close;
    bool gone, gone_due; /* the client left; the handler is still to be told */
    bool above;          /* a writer waits for on_writable */
    bool paused;
    bool body_over; /* the request's body was read to its end */
    bool eof_told;
    bool continued; /* 100 was sent, or is not needed */
    int status;
};

struct wh_http_conn {
    unsigned magic;
    LIST_ENTRY(wh_http_conn) link;
    wh_http_server *server; /* NULL when it is gone */
    wh_loop *loop;
    int fd;
    wh_io io;
    wh_timer timer; /* runs late rather than being moved: `deadline` is what holds */
    wh_time deadline;
    wh_http_wait wait;
    const wh_tls_ops *tls_ops;
    wh_tls *tls;
    wh_addr peer_addr;
    bool is_unix;
    uid_t peer_uid;
    pid_t peer_pid;
    wh_http_state state;
    wh_h1 h1;
    wh_h2 *h2;
    wh_buf in;   /* what was read and not yet used, between two rounds */
    wh_str view; /* what is to be used next: in `in`, or in the server's read buffer during a round */
    wh_buf out;
    size_t out_off; /* bytes of out that were sent */
    bool chosen;    /* which protocol it speaks */
    bool kicked, in_pump, progress, dry, peer_eof, fin_seen, reading_body;
    size_t lingered, requests, waited_requests;
    struct wh_http_exchange x; /* of HTTP/1 */
};

typedef struct wh_http_status_count {
    int status;
    uint32_t n;
} wh_http_status_count;

struct wh_http_server {
    wh_loop *loop;
    wh_http_server_options options;
    char *name;
    int fd;
    wh_io io;
    wh_timer pause; /* of accepting, when descriptors ran out */
    bool is_unix, draining, accepting;
    int port;
    LIST_HEAD(, wh_http_conn) conns;
    size_t n_conns;
    wh_timer grace;
    void (*drained)(void *user);
    void *drained_user;
    wh_http_status_count counts[HTTP_COUNTS];
    wh_timer counting; /* the metric is told of `counts` from time to time */
    char *scratch;     /* HTTP_READ_BYTES, for the connection whose turn it is */
};

/* ---- connection.c ---- */
void wh_http_conn_start(wh_http_server *server, int fd);
/* Cuts: closes the descriptor now; the memory goes when no exchange is owned any more. */
void wh_http_conn_break(wh_http_conn *c);
/* Looks at the connection again, soon, from the loop. */
void wh_http_conn_kick(wh_http_conn *c);
/* Answers instead of a handler, and closes. An exchange that has one is told that its client is gone. */
void wh_http_conn_refuse(wh_http_conn *c, int status, const char *rule);
size_t wh_http_conn_waiting(const wh_http_conn *c); /* bytes to be sent */
void wh_http_conn_drain(wh_http_conn *c);           /* closes it as soon as no request is open */
/* Reads behind what is left of c->view; 1: there is more now; 0: not yet; -1: the connection broke. */
int wh_http_conn_read_more(wh_http_conn *c);
/* As read(2) on the plain bytes, with a negative errno. */
ssize_t wh_http_conn_read(wh_http_conn *c, void *p, size_t n);
/* Tells a handler that is due to hear it that its client left. */
void wh_http_tell_gone(wh_http_exchange *x);
/* Tells a writer that may go on; true when it did. */
bool wh_http_tell_writable(wh_http_exchange *x, size_t waiting);

/* ---- connection_h1.c ---- */
bool wh_http_h1_reading(wh_http_conn *c);
bool wh_http_h1_handling(wh_http_conn *c);
bool wh_http_h1_upgraded(wh_http_conn *c);
/* Takes what is at hand of a request's body that nobody wants. */
void wh_http_conn_skip_body(wh_http_conn *c);
/* Answers `Expect: 100-continue`, once, when that is still of use. */
void wh_http_conn_continue(wh_http_conn *c);

/* ---- server.c ---- */
void wh_http_server_conn_gone(wh_http_server *server);
void wh_http_count(const wh_http_conn *c, int status);
void wh_http_count_refused(const char *rule);

/* ---- request.c ---- */
typedef struct wh_http_head { /* borrowed */
    wh_str method, path, query, authority;
    bool has_query;
    const wh_h1_field *fields;
    size_t n_fields;
    int version;
    int64_t length;
} wh_http_head;
/* Fills x->request. -EBADMSG when the target means nothing to us. */
int wh_http_request_set(wh_http_exchange *x, const wh_http_head *head);
/* Of the request in c->h1, for c->x. */
int wh_http_request_set_h1(wh_http_conn *c);
void wh_http_exchange_init(wh_http_exchange *x, wh_http_conn *c);
/* For the next request; memory is kept up to HTTP_KEEP_BYTES a buffer. */
void wh_http_exchange_reset(wh_http_exchange *x);
void wh_http_exchange_done(wh_http_exchange *x);
void wh_http_buf_give_back(wh_buf *b);

/* ---- exchange.c ---- */
const char *wh_http_date_line(const wh_loop *loop); /* "Date: ...\r\n", WH_HTTP_DATE_LINE_BYTES of it */
#define WH_HTTP_DATE_LINE_BYTES 37
/* The handler waits for more of the request's body. */
static inline bool wh_http_wants_body(const wh_http_exchange *x)
{
    return x->active && !x->detached && x->callbacks.on_data != NULL && !x->paused && !x->eof_told;
}

/* ---- h2.c ---- */
int wh_h2_start(wh_http_conn *c); /* negative errno; c->h2 is set */
void wh_h2_free(wh_h2 *h2);       /* no stream is owned by a handler any more */
bool wh_h2_step(wh_http_conn *c); /* true when another step may be worth it */
wh_http_wait wh_h2_wait(const wh_http_conn *c);
void wh_h2_timeout(wh_http_conn *c);
void wh_h2_drain(wh_http_conn *c);
void wh_h2_dead(wh_http_conn *c); /* the connection is gone: tells handlers, forgets streams */
bool wh_h2_reap(wh_http_conn *c); /* of a dead connection; true when all exchanges are over */
bool wh_h2_wants_read(const wh_http_conn *c);
void wh_h2_begin(wh_http_exchange *x, int status, const char *content_type, int64_t length, bool end);
int wh_h2_write(wh_http_exchange *x, const void *p, size_t n);
void wh_h2_end(wh_http_exchange *x);
void wh_h2_info(wh_http_exchange *x, int status);
void wh_h2_continue(wh_http_exchange *x);
void wh_h2_reset(wh_http_exchange *x); /* the answer is not whole */
void wh_h2_touch(wh_http_exchange *x); /* something about its reading changed */
size_t wh_h2_waiting(const wh_http_exchange *x);
const wh_h1_field *wh_h2_trailers(const wh_http_exchange *x, size_t *ret_n);
