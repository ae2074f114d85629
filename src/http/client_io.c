/* SPDX-License-Identifier: Apache-2.0 */
/* One call on its connection: moves bytes between the socket, the codec and the caller until nothing can move,
 * then says what to wait for and for how long. */
#include "http/client_private.h"

#include <sys/socket.h>

#define PUMP_ROUNDS_MAX 32

/* ---- bytes ---- */

ssize_t client_conn_read(client_conn *c, void *p, size_t n)
{
    if (c->tls != NULL) {
        ssize_t r = c->client->tls_ops->read(c->tls, p, n);
        if (r == -EAGAIN)
            c->read_wants = c->client->tls_ops->wants(c->tls);
        return r;
    }
    ssize_t r = recv(c->fd, p, n, MSG_DONTWAIT);
    if (r >= 0)
        return r;
    return errno == EINTR ? -EAGAIN : -errno;
}

static ssize_t conn_write(client_conn *c, const void *p, size_t n)
{
    if (c->tls != NULL) {
        ssize_t r = c->client->tls_ops->write(c->tls, p, n);
        if (r == -EAGAIN)
            c->write_wants = c->client->tls_ops->wants(c->tls);
        return r;
    }
    ssize_t r = send(c->fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (r >= 0)
        return r;
    return errno == EINTR ? -EAGAIN : -errno;
}

size_t client_waiting(const wh_client_call *call)
{
    return call->out.len - call->out_off;
}

/* A server that takes no more may have answered all the same: that is read before anything is said to have failed. */
static void stop_writing(wh_client_call *call)
{
    call->write_failed = true;
    if (call->replayable && !call->got_bytes)
        call->out_off = call->out.len;
    else {
        wh_buf_reset(&call->out);
        call->out_off = 0;
    }
}

static void flush(wh_client_call *call)
{
    while (client_waiting(call) > 0) {
        ssize_t n = conn_write(call->conn, call->out.p + call->out_off, client_waiting(call));
        if (n == -EAGAIN)
            break;
        if (n < 0) {
            stop_writing(call);
            return;
        }
        call->out_off += (size_t)n;
        call->progress = true;
    }
    if (call->replayable) /* kept until the answer begins: there is only a head */
        return;
    if (client_waiting(call) == 0) {
        wh_buf_reset(&call->out);
        call->out_off = 0;
    } else if (call->out_off > call->out.len / 2) {
        wh_buf_consume(&call->out, call->out_off);
        call->out_off = 0;
    }
}

/* ---- the answer ---- */

static bool is_named_by_connection(const wh_h1 *h, wh_str name)
{
    char token[64];
    if (name.n >= sizeof(token))
        return false;
    memcpy(token, name.p, name.n);
    token[name.n] = '\0';
    return wh_h1_has_token(h, "connection", token);
}

/* Takes out what belongs to the connection. Content-Length and the like stay whatever Connection says. */
static size_t drop_hop_fields(wh_h1 *h)
{
    bool names = wh_h1_get(h, "connection").p != NULL;
    static const char *const kept[] = {"content-length", "content-type", "date", "set-cookie"};
    size_t n = 0;
    bool drop[WH_HTTP_FIELDS_MAX];
    wh_assert(h->n_fields <= WH_HTTP_FIELDS_MAX);
    for (size_t i = 0; i < h->n_fields; i++) {
        wh_str name = h->fields[i].name;
        drop[i] = wh_h1_is_hop_field(name) || (names && is_named_by_connection(h, name));
        for (size_t k = 0; k < WH_ARRAY_LEN(kept); k++)
            drop[i] = drop[i] && !wh_str_eq(name, wh_str_of(kept[k]));
    }
    for (size_t i = 0; i < h->n_fields; i++)
        if (!drop[i])
            h->fields[n++] = h->fields[i];
    return n;
}

static wh_client_error refusal_of(const wh_h1 *h)
{
    static const char *const large[] = {"head-size",    "line-size",     "field-count",
                                        "trailer-size", "trailer-count", "chunk-line-size"};
    for (size_t i = 0; i < WH_ARRAY_LEN(large); i++)
        if (strcmp(h->rule, large[i]) == 0)
            return WH_CLIENT_TOO_LARGE;
    return strcmp(h->rule, "truncated") == 0 ? WH_CLIENT_TERMINATED : WH_CLIENT_PROTOCOL;
}

static void fail_refused(wh_client_call *call)
{
    const wh_h1 *h = &call->conn->h1;
    wh_client_error error = refusal_of(h);
    if (error == WH_CLIENT_TERMINATED)
        client_say(call, "'%s' ended the connection before its answer was complete", call->host);
    else
        client_say(call, "the answer of '%s' is refused: %s", call->host, h->rule);
    client_finish(call, error, false);
}

static void on_answer(wh_client_call *call)
{
    wh_h1 *h = &call->conn->h1;
    if (h->code < 200) {
        if (++call->interim <= WH_HTTP_INTERIM_MAX)
            return;
        client_say(call, "the answer of '%s' is refused: more than %d interim answers", call->host,
                   WH_HTTP_INTERIM_MAX);
        client_finish(call, WH_CLIENT_PROTOCOL, false);
        return;
    }
    call->got_head = true;
    call->early = !call->request_ended || client_waiting(call) > 0;
    size_t n = drop_hop_fields(h);
    if (call->callbacks.on_head != NULL)
        call->callbacks.on_head(call, (unsigned)h->code, h->fields, n, call->user);
}

/* The answer is complete; whether another one may come on this connection is decided without any doubt left. */
static void on_answer_end(wh_client_call *call)
{
    const client_conn *c = call->conn;
    bool reuse =
        c->h1.keep_alive && !call->early && !call->write_failed && !c->hung_up && c->in_at == c->in_end;
    client_finish(call, WH_CLIENT_OK, reuse);
}

/* One event out of what was read. False: more bytes are needed, or the call is over. */
static bool parse_some(wh_client_call *call)
{
    client_conn *c = call->conn;
    size_t used = 0;
    wh_h1_event event;
    int r = wh_h1_feed(&c->h1, c->in + c->in_at, c->in_end - c->in_at, &used, &event);
    if (r == -EBADMSG) {
        fail_refused(call);
        return false;
    }
    if (r < 0) {
        client_say(call, "read the answer of '%s': no memory", call->host);
        client_finish(call, WH_CLIENT_NO_MEMORY, false);
        return false;
    }
    c->in_at += used;
    switch (event.kind) {
    case WH_H1_HEAD:
        on_answer(call);
        break;
    case WH_H1_BODY:
        if (call->callbacks.on_data != NULL)
            call->callbacks.on_data(call, event.data.p, event.data.n, call->user);
        break;
    case WH_H1_END:
        if (c->h1.code >= 200)
            on_answer_end(call);
        break;
    case WH_H1_TRAILERS:
    case WH_H1_NONE:
    default:
        break;
    }
    return !call->over && event.kind != WH_H1_NONE;
}

/* A kept connection may have died just when it was used again: what can be sent again is, once, on a fresh one. */
static bool try_again(wh_client_call *call)
{
    if (!call->conn->reused || call->got_bytes || !call->replayable)
        return false;
    client_conn_close(call->conn);
    call->out_off = 0;
    call->write_failed = false;
    client_connect(call);
    return true;
}

static void on_stream_end(wh_client_call *call, int rc)
{
    client_conn *c = call->conn;
    wh_h1_event event = {WH_H1_NONE, {NULL, 0}};
    if (try_again(call))
        return;
    if (rc < 0) {
        client_say(call, "the connection to '%s' broke: %s", call->host, strerror(-rc));
        client_finish(call, WH_CLIENT_TERMINATED, false);
    } else if (!call->got_bytes) {
        client_say(call, "'%s' ended the connection without an answer", call->host);
        client_finish(call, WH_CLIENT_TERMINATED, false);
    } else if (wh_h1_eof(&c->h1, &event) < 0) {
        fail_refused(call);
    } else if (event.kind == WH_H1_END && c->h1.code >= 200) {
        client_finish(call, WH_CLIENT_OK, false);
    } else {
        client_say(call, "'%s' ended the connection before its final answer", call->host);
        client_finish(call, WH_CLIENT_TERMINATED, false);
    }
}

static bool wants_read(const wh_client_call *call)
{
    return !(call->paused && call->got_head);
}

/* True when it may be worth another round. */
static bool read_some(wh_client_call *call)
{
    client_conn *c = call->conn;
    bool parsing = true; /* also with no bytes: the end of an answer without a body is an event of its own */
    while (parsing && wants_read(call)) {
        parsing = parse_some(call);
        if (call->over)
            return false;
    }
    if (!wants_read(call))
        return false;
    c->in_at = c->in_end = 0;
    ssize_t n = client_conn_read(c, c->in, CLIENT_READ_BYTES);
    if (n == -EAGAIN)
        return false;
    if (n <= 0) {
        on_stream_end(call, (int)n);
        return false;
    }
    c->in_end = (size_t)n;
    call->got_bytes = true;
    call->progress = call->progress || call->got_head; /* a head has one time, however slowly it comes */
    return true;
}

/* ---- waiting ---- */

static void on_timeout(wh_timer *timer)
{
    wh_client_call *call = timer->user;
    static const char *const what[] = {
        [TIMING_NOTHING] = "",
        [TIMING_CONNECT] = "the connection was not there",
        [TIMING_WRITE] = "the server took nothing",
        [TIMING_FIRST_BYTE] = "no answer came",
        [TIMING_READ] = "the answer did not go on",
    };
    client_say(call, "request to '%s' timed out: %s in time", call->host, what[call->timing]);
    client_finish(call, WH_CLIENT_TIMEOUT, false);
}

static client_timing timing_of(const wh_client_call *call)
{
    if (call->conn == NULL || call->conn->handshaking)
        return TIMING_CONNECT;
    if (client_waiting(call) > 0)
        return TIMING_WRITE;
    if (!call->request_ended && !call->write_failed)
        return TIMING_NOTHING; /* it is the caller's turn */
    if (!call->got_head)
        return TIMING_FIRST_BYTE;
    return call->paused ? TIMING_NOTHING : TIMING_READ;
}

void client_update_timer(wh_client_call *call)
{
    client_timing timing = timing_of(call);
    bool restart = timing != call->timing || (call->progress && timing != TIMING_CONNECT);
    call->progress = false;
    if (!restart)
        return;
    call->timing = timing;
    if (timing == TIMING_NOTHING) {
        wh_timer_stop(&call->timer);
        return;
    }
    wh_time time = timing == TIMING_CONNECT      ? call->connect_timeout
                   : timing == TIMING_FIRST_BYTE ? call->first_byte_timeout
                                                 : call->between_bytes_timeout;
    wh_timer_start(call->client->loop, &call->timer, time, on_timeout, call);
}

static void update_events(wh_client_call *call)
{
    client_conn *c = call->conn;
    if (c->hung_up)
        return;
    uint32_t events = 0;
    if (c->handshaking)
        events = c->client->tls_ops->wants(c->tls);
    else {
        if (wants_read(call))
            events |= c->read_wants;
        if (client_waiting(call) > 0)
            events |= c->write_wants;
    }
    wh_io_set(&c->io, events);
}

/* True when it is done. */
static bool shake_hands(wh_client_call *call)
{
    client_conn *c = call->conn;
    wh_err err = {0};
    if (!c->handshaking)
        return true;
    int r = c->client->tls_ops->handshake(c->tls, &err);
    if (r == -EAGAIN)
        return false;
    c->handshaking = false;
    if (r == 0)
        return true;
    client_say(call, "TLS with '%s': %s", call->host, err.msg);
    client_finish(call, WH_CLIENT_TLS, false);
    return false;
}

/* One round of writing and reading. False: nothing moves, or there is no connection under the call any more. */
static bool step(wh_client_call *call)
{
    flush(call);
    if (call->above && !call->write_failed && client_waiting(call) < CLIENT_LOW_BYTES) {
        call->above = false;
        if (call->callbacks.on_writable != NULL)
            call->callbacks.on_writable(call, call->user);
        if (call->over)
            return false;
    }
    return read_some(call);
}

void client_pump(wh_client_call *call)
{
    if (call->conn == NULL || call->failure != WH_CLIENT_OK)
        return;
    bool more = shake_hands(call);
    for (int rounds = 0; more && rounds < PUMP_ROUNDS_MAX; rounds++)
        more = step(call);
    if (call->over || call->conn == NULL) /* ended, or begun anew on another connection */
        return;
    update_events(call);
    client_update_timer(call);
    if (more)
        client_kick(call);
}

void client_on_io(wh_io *io, uint32_t ready)
{
    client_conn *c = io->user;
    wh_client_call *call = c->call;
    wh_assert(call != NULL);
    if ((ready & (EPOLLERR | EPOLLHUP)) != 0 && !wants_read(call)) {
        c->hung_up = true; /* level-triggered: it would be told again and again until the caller reads on */
        wh_io_stop(io);
    }
    client_pump(call);
}
