/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the HTTP client: client.c has the calls and the connections that are kept, client_io.c moves
 * bytes. Everything that may still be pointed to in this turn of the loop is freed through wh_loop_defer. */
#pragma once

#include "http/client.h"

#include <sys/queue.h>

#define CLIENT_HIGH_BYTES (64UL << 10) /* what waits for the server: above it writers should pause */
#define CLIENT_LOW_BYTES (32UL << 10)  /* and below it they go on */
#define CLIENT_READ_BYTES (32UL << 10)

typedef struct client_conn {
    unsigned magic;
    wh_client *client;
    wh_client_call *call; /* NULL while it is kept */
    char *key;
    int fd; /* -1: closed, and about to be freed */
    wh_tls *tls;
    uint32_t read_wants, write_wants;
    bool handshaking, reused;
    bool hung_up; /* both directions are over: no longer watched, reading tells the rest */
    wh_io io;
    wh_timer idle_timer;
    wh_h1 h1;
    char *in; /* CLIENT_READ_BYTES, while in use; [in_at, in_end) is not parsed yet */
    size_t in_at, in_end;
    TAILQ_ENTRY(client_conn) link; /* in idle */
} client_conn;

typedef enum { TIMING_NOTHING, TIMING_CONNECT, TIMING_WRITE, TIMING_FIRST_BYTE, TIMING_READ } client_timing;

struct wh_client_call {
    unsigned magic;
    wh_client *client;
    client_conn *conn; /* NULL while there is none */
    wh_client_callbacks callbacks;
    void *user;
    char *key, *host;
    uint16_t port;
    bool https;
    wh_h1_asked asked;
    wh_time connect_timeout, first_byte_timeout, between_bytes_timeout;
    uint64_t token; /* of the connect that is under way; 0: none */
    int connect_rc; /* how it ended, with connected_fd */
    int connected_fd;
    wh_buf out; /* head and body of the request, framed; sent up to out_off */
    size_t out_off;
    bool chunked, request_ended, write_failed;
    bool
        replayable; /* without a body and idempotent: sent again when a kept connection turns out to be dead */
    uint64_t body_left;
    bool above, paused, progress;
    bool got_bytes, got_head, early;
    unsigned interim;
    wh_client_error failure; /* found inside a call of the user's: on_done is due */
    char why[160];
    client_timing timing;
    wh_timer timer;
    bool kicked;
    bool over; /* no callback any more; freed soon */
    LIST_ENTRY(wh_client_call) link;
};

struct wh_client {
    unsigned magic;
    wh_loop *loop;
    wh_client_connector connector;
    const wh_tls_client_ops *tls_ops;
    wh_tls_client *tls; /* NULL: https fails */
    size_t idle_max;
    wh_time idle_time;
    uint64_t last_token;
    size_t n_calls, n_idle;
    LIST_HEAD(, wh_client_call) calls;
    TAILQ_HEAD(client_idle, client_conn) idle; /* the freshest first */
};

/* client.c */
void client_kick(wh_client_call *call);
/* The call is over and its user told. Its connection is kept when `reuse`, else closed. */
void client_finish(wh_client_call *call, wh_client_error error, bool reuse);
void client_say(wh_client_call *call, const char *fmt, ...) WH_PRINTF(2, 3); /* why it failed */
void client_connect(wh_client_call *call);
void client_conn_close(client_conn *c);

/* client_io.c */
ssize_t client_conn_read(client_conn *c, void *p, size_t n);
void client_on_io(wh_io *io, uint32_t ready);
size_t client_waiting(const wh_client_call *call);
/* Goes on as far as it can; nothing when there is no connection yet. May run callbacks, and end the call. */
void client_pump(wh_client_call *call);
void client_update_timer(wh_client_call *call);
