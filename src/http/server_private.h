/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the HTTP server: server.c listens, connection.c moves bytes, exchange.c answers. */
#pragma once

#include "http/server.h"

#include <sys/queue.h>

#define HTTP_CONN_MAGIC 0x77686363u
#define HTTP_HIGH_BYTES (64UL << 10) /* what waits for a client: above it writers should pause */
#define HTTP_LOW_BYTES (32UL << 10)  /* and below it they go on */
#define HTTP_READ_BYTES (16UL << 10)

typedef enum {
    HTTP_READING,  /* a request, or waiting for one */
    HTTP_HANDLING, /* an exchange is with its handler, or its answer is being sent */
    HTTP_UPGRADED, /* raw bytes both ways */
    HTTP_CLOSING,  /* the last bytes are being sent */
    HTTP_LINGER, /* we said our last word and wait for the client's end, so that it reads the answer before a reset */
    HTTP_DEAD, /* no descriptor any more; lives on only as long as its exchange is owned by a handler */
} wh_http_state;

struct wh_http_exchange {
    wh_http_request request;
    char *method, *path, *query;
    wh_http_param *params;
    wh_buf fields; /* of the answer */
    wh_http_stream_callbacks callbacks;
    void *user;
    bool active; /* owned by the handler */
    bool begun;  /* a streamed answer's head is out */
    bool chunked, no_body, close;
    bool gone, gone_due; /* the client left; the handler is still to be told */
    bool above;          /* a writer waits for on_writable */
    bool paused;
    int status;
};

typedef struct wh_http_conn {
    unsigned magic;
    LIST_ENTRY(wh_http_conn) link;
    wh_http_server *server; /* NULL when it is gone */
    wh_loop *loop;
    int fd;
    wh_io io;
    wh_timer timer;
    wh_tls *tls;
    wh_addr peer_addr;
    bool is_unix;
    uid_t peer_uid;
    pid_t peer_pid;
    wh_http_state state, timed_state;
    wh_h1 h1;
    wh_buf in, body, out;
    size_t out_off; /* bytes of out that were sent */
    uint32_t read_wants, write_wants;
    bool kicked, in_pump, progress, got_bytes, timing_head, reading_body, peer_eof, rdhup_seen;
    size_t lingered, requests;
    struct wh_http_exchange x;
} wh_http_conn;

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
};

/* connection.c */
void wh_http_conn_start(wh_http_server *server, int fd);
/* Cuts: closes the descriptor now; the memory goes when no exchange is owned any more. */
void wh_http_conn_break(wh_http_conn *c);
/* Looks at the connection again, soon, from the loop. */
void wh_http_conn_kick(wh_http_conn *c);
/* Answers a request that never became an exchange, and closes. */
void wh_http_conn_refuse(wh_http_conn *c, int status, const char *rule);
size_t wh_http_conn_waiting(const wh_http_conn *c); /* bytes to be sent */
void wh_http_conn_idle_close(wh_http_conn *c);      /* closes it when it is between two requests */

/* server.c */
void wh_http_server_conn_gone(wh_http_server *server);
void wh_http_count(const wh_http_conn *c, int status);

/* exchange.c */
/* Makes the exchange of the request in c->h1 and c->body; -EBADMSG when its target means nothing to us. */
int wh_http_exchange_begin(wh_http_conn *c);
void wh_http_exchange_done(struct wh_http_exchange *x);
