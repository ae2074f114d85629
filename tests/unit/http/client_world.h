/* SPDX-License-Identifier: Apache-2.0 */
/* An HTTP client whose connections are socket pairs: the tests are the server. */
#pragma once

#include "http/client.h"

#include "harness.h"

#include <fcntl.h>
#include <sys/socket.h>

#define PEERS_MAX 8

typedef struct world {
    wh_loop *loop;
    wh_client *client;
    int peers[PEERS_MAX]; /* server ends, in order */
    int n_peers;
    int connect_rc;   /* what connecting ends with */
    bool never;       /* connecting never ends */
    unsigned cancels; /* of connects */
    uint64_t last_token;
} world;

typedef struct seen { /* what one call said */
    wh_client_call *call;
    unsigned status, heads, dones, writables;
    wh_buf head, body, trailers;
    uint64_t body_bytes;
    bool keep_body;
    wh_client_error error;
    char why[200];
    /* What it does in its callbacks. */
    bool cancel_in_head, cancel_in_data, pause_in_head;
    void (*on_done)(struct seen *s);
    void *user;
} seen;

static inline void world_connect(void *user, uint64_t token, const char *host, uint16_t port, wh_time timeout)
{
    world *w = user;
    (void)host;
    (void)port;
    (void)timeout;
    w->last_token = token;
    if (w->never)
        return;
    if (w->connect_rc < 0) {
        wh_client_connected(w->client, token, w->connect_rc, -1);
        return;
    }
    int pair[2];
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), ==, 0);
    CHECK(w->n_peers < PEERS_MAX);
    w->peers[w->n_peers++] = pair[1];
    wh_client_connected(w->client, token, 0, pair[0]);
}

static inline void world_cancel(void *user, uint64_t token)
{
    world *w = user;
    CHECK_INT(token, <=, w->last_token);
    w->cancels++;
}

static inline void world_open(world *w, const wh_client_options *options)
{
    wh_err err = {0};
    wh_client_options o = options == NULL ? (wh_client_options){0} : *options;
    o.connector = (wh_client_connector){w, world_connect, world_cancel};
    CHECK_OK(wh_loop_new(&w->loop, &err), &err);
    CHECK_OK(wh_client_new(w->loop, &o, &w->client, &err), &err);
}

static inline void world_close(world *w)
{
    wh_client_free(w->client);
    wh_loop_free(w->loop);
    for (int i = 0; i < w->n_peers; i++)
        if (w->peers[i] >= 0)
            close(w->peers[i]);
}

static inline void rounds(world *w, int n)
{
    for (int i = 0; i < n; i++)
        CHECK_INT(wh_loop_once(w->loop, 0), ==, 0);
}

static inline void seen_head(wh_client_call *call, unsigned status, const wh_h1_field *fields, size_t n,
                             void *user)
{
    seen *s = user;
    CHECK(call == s->call);
    CHECK_INT(s->dones, ==, 0);
    CHECK_INT(s->heads++, ==, 0);
    s->status = status;
    for (size_t i = 0; i < n; i++)
        (void)wh_buf_printf(&s->head, "%.*s=%.*s\n", WH_STR_ARG(fields[i].name), WH_STR_ARG(fields[i].value));
    if (s->pause_in_head)
        wh_client_pause(call, true);
    if (s->cancel_in_head)
        wh_client_cancel(call);
}

static inline void seen_data(wh_client_call *call, const void *p, size_t n, void *user)
{
    seen *s = user;
    CHECK_INT(s->heads, ==, 1);
    CHECK_INT(s->dones, ==, 0);
    CHECK(!s->cancel_in_head);
    CHECK_INT(n, >, 0);
    s->body_bytes += n;
    if (s->keep_body)
        CHECK_INT(wh_buf_append(&s->body, p, n), ==, 0);
    if (s->cancel_in_data)
        wh_client_cancel(call);
}

static inline void seen_writable(wh_client_call *call, void *user)
{
    seen *s = user;
    (void)call;
    CHECK_INT(s->dones, ==, 0);
    s->writables++;
}

static inline void seen_done(wh_client_call *call, wh_client_error error, const char *why,
                             const wh_h1_field *trailers, size_t n, void *user)
{
    seen *s = user;
    (void)call;
    CHECK_INT(s->dones++, ==, 0);
    CHECK(!s->cancel_in_head && !s->cancel_in_data);
    CHECK_INT((error == WH_CLIENT_OK), ==, (why[0] == '\0'));
    s->error = error;
    size_t len = WH_MIN(strlen(why), sizeof(s->why) - 1);
    memcpy(s->why, why, len);
    s->why[len] = '\0';
    for (size_t i = 0; i < n; i++)
        (void)wh_buf_printf(&s->trailers, "%.*s=%.*s\n", WH_STR_ARG(trailers[i].name),
                            WH_STR_ARG(trailers[i].value));
    if (s->on_done != NULL)
        s->on_done(s);
}

static inline void seen_init(seen *s)
{
    *s = (seen){.keep_body = true};
    wh_buf_init(&s->head, 1UL << 20);
    wh_buf_init(&s->body, 16UL << 20);
    wh_buf_init(&s->trailers, 1UL << 20);
}

static inline void seen_free(seen *s)
{
    wh_buf_done(&s->head);
    wh_buf_done(&s->body);
    wh_buf_done(&s->trailers);
}

static const wh_client_callbacks seen_callbacks = {seen_head, seen_data, seen_writable, seen_done};

static inline wh_client_request a_request(const char *method, int64_t body_bytes)
{
    return (wh_client_request){.method = wh_str_of(method),
                               .scheme = WH_STR("http"),
                               .authority = WH_STR("example.test"),
                               .path_query = WH_STR("/a?b"),
                               .body_bytes = body_bytes};
}

static inline void start(world *w, seen *s, const wh_client_request *request)
{
    wh_err err = {0};
    CHECK_OK(wh_client_start(w->client, request, &seen_callbacks, s, &s->call, &err), &err);
    CHECK_INT(s->heads + s->dones, ==, 0);
}

static inline void say(world *w, int peer, const char *text)
{
    size_t n = strlen(text);
    CHECK_INT(send(w->peers[peer], text, n, MSG_NOSIGNAL), ==, (ssize_t)n);
}

/* All that the server has got by now. */
static inline char *hear(world *w, int peer)
{
    static char text[300000];
    size_t n = 0;
    ssize_t got;
    while ((got = recv(w->peers[peer], text + n, sizeof(text) - 1 - n, MSG_DONTWAIT)) > 0)
        n += (size_t)got;
    text[n] = '\0';
    return text;
}

/* What the server has not read by then would make it a reset. */
static inline void world_hang_up(world *w, int peer)
{
    (void)hear(w, peer);
    close(w->peers[peer]);
    w->peers[peer] = -1;
}
