/* SPDX-License-Identifier: Apache-2.0 */
/* One connection of the HTTP server: moves bytes between socket, codec and exchange until nothing can move,
 * then says what to wait for. Nothing here runs inside a call of a handler: those only kick. */
#include "http/server_private.h"

#include "base/log.h"
#include "base/metrics.h"

#include <netinet/tcp.h>

#define PUMP_ROUNDS_MAX 64
#define LINGER_BYTES_MAX (256UL << 10)
#define LINGER_TIME (2 * WH_SEC)

static WH_METRIC(
    refused_total, WH_COUNTER, "wherry_http_refused_total",
    "Requests that our own HTTP servers refused before any handler saw them, by the rule they broke.",
    "rule");

static void pump(wh_http_conn *c);

/* ---- bytes ---- */

static ssize_t conn_read(wh_http_conn *c, void *p, size_t n)
{
    if (c->tls != NULL) {
        ssize_t r = wh_tls_read(c->tls, p, n);
        if (r == -EAGAIN)
            c->read_wants = wh_tls_wants(c->tls);
        return r;
    }
    ssize_t r = read(c->fd, p, n);
    if (r >= 0)
        return r;
    return errno == EINTR ? -EAGAIN : -errno;
}

static ssize_t conn_write(wh_http_conn *c, const void *p, size_t n)
{
    if (c->tls != NULL) {
        ssize_t r = wh_tls_write(c->tls, p, n);
        if (r == -EAGAIN)
            c->write_wants = wh_tls_wants(c->tls);
        return r;
    }
    ssize_t r = send(c->fd, p, n, MSG_NOSIGNAL);
    if (r >= 0)
        return r;
    return errno == EINTR ? -EAGAIN : -errno;
}

size_t wh_http_conn_waiting(const wh_http_conn *c)
{
    return c->out.len - c->out_off;
}

static int flush(wh_http_conn *c)
{
    while (wh_http_conn_waiting(c) > 0) {
        ssize_t n = conn_write(c, c->out.p + c->out_off, wh_http_conn_waiting(c));
        if (n == -EAGAIN)
            break;
        if (n < 0)
            return (int)n;
        c->out_off += (size_t)n;
        c->progress = true;
    }
    if (c->out_off == c->out.len) {
        wh_buf_reset(&c->out);
        c->out_off = 0;
    } else if (c->out_off > c->out.len / 2) {
        wh_buf_consume(&c->out, c->out_off);
        c->out_off = 0;
    }
    return 0;
}

/* ---- life ---- */

static void free_conn(wh_http_conn *c)
{
    wh_assert(c->magic == HTTP_CONN_MAGIC);
    c->magic = 0;
    wh_h1_done(&c->h1);
    wh_buf_done(&c->in);
    wh_buf_done(&c->body);
    wh_buf_done(&c->out);
    wh_http_exchange_done(&c->x);
    wh_tls_free(c->tls);
    free(c);
}

static void tell_gone(wh_http_conn *c)
{
    c->x.gone_due = false;
    if (c->x.active && c->x.callbacks.on_gone != NULL)
        c->x.callbacks.on_gone(&c->x, c->x.user);
}

static void on_kick(void *user)
{
    wh_http_conn *c = user;
    wh_assert(c->magic == HTTP_CONN_MAGIC);
    c->kicked = false;
    if (c->state != HTTP_DEAD) {
        pump(c);
        return;
    }
    if (c->x.gone_due)
        tell_gone(c);
    if (!c->x.active && !c->kicked)
        free_conn(c);
}

void wh_http_conn_kick(wh_http_conn *c)
{
    if (c->kicked || c->in_pump)
        return;
    c->kicked = true;
    wh_loop_defer(c->loop, on_kick, c);
}

void wh_http_conn_break(wh_http_conn *c)
{
    if (c->state == HTTP_DEAD)
        return;
    c->state = HTTP_DEAD;
    wh_io_stop(&c->io);
    wh_timer_stop(&c->timer);
    close(c->fd);
    c->fd = -1;
    if (c->server != NULL) {
        LIST_REMOVE(c, link);
        wh_http_server *server = c->server;
        c->server = NULL;
        wh_http_server_conn_gone(server);
    }
    c->x.gone_due = c->x.active && !c->x.gone;
    c->x.gone = true;
    c->in_pump = false;
    wh_http_conn_kick(c);
}

void wh_http_conn_idle_close(wh_http_conn *c)
{
    if (c->state == HTTP_READING && c->in.len == 0 && wh_h1_idle(&c->h1) && wh_http_conn_waiting(c) == 0)
        wh_http_conn_break(c);
}

void wh_http_conn_refuse(wh_http_conn *c, int status, const char *rule)
{
    wh_metric_add(&refused_total, rule, 1);
    wh_http_count(c, status);
    auto_buf wh_buf text;
    wh_buf_init(&text, 1024);
    (void)wh_buf_printf(&text, "%d %s: %s\n", status, wh_h1_reason(status), rule);
    (void)wh_h1_write_status(&c->out, status);
    (void)wh_buf_printf(
        &c->out,
        "Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
        text.len, wh_buf_str(&text));
    c->state = HTTP_CLOSING;
}

/* ---- one step in each state; true when it may be worth another ---- */

static bool read_more(wh_http_conn *c)
{
    char scratch[HTTP_READ_BYTES] __attribute__((uninitialized));
    ssize_t n = c->peer_eof ? 0 : conn_read(c, scratch, sizeof(scratch));
    if (n == -EAGAIN)
        return false;
    if (n <= 0) {
        /* Nobody waits for an answer to half a request. */
        wh_http_conn_break(c);
        return false;
    }
    c->got_bytes = true;
    c->progress = true;
    if (wh_buf_append(&c->in, scratch, (size_t)n) < 0) {
        wh_http_conn_break(c);
        return false;
    }
    return true;
}

static void finish_request(wh_http_conn *c)
{
    c->requests++;
    c->reading_body = false;
    if (wh_http_exchange_begin(c) < 0) {
        wh_http_conn_refuse(c, 400, "path");
        return;
    }
    c->state = HTTP_HANDLING;
    c->server->options.handler(&c->x, &c->x.request, c->server->options.user);
}

static void begin_body(wh_http_conn *c)
{
    wh_buf_reset(&c->body);
    c->reading_body = c->h1.chunked || c->h1.length > 0;
    if (c->h1.expect_continue && c->reading_body)
        (void)wh_buf_puts(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
}

static bool parse_some(wh_http_conn *c)
{
    size_t used = 0;
    wh_h1_event event;
    int r = wh_h1_feed(&c->h1, wh_buf_str(&c->in), c->in.len, &used, &event);
    if (r == -EBADMSG) {
        wh_http_conn_refuse(c, c->h1.status, c->h1.rule);
        return true;
    }
    if (r < 0) {
        wh_http_conn_refuse(c, 503, "memory");
        return true;
    }
    if (event.kind == WH_H1_HEAD)
        begin_body(c);
    else if (event.kind == WH_H1_BODY && wh_buf_append(&c->body, event.data.p, event.data.n) < 0)
        wh_http_conn_refuse(c, 503, "memory");
    wh_buf_consume(&c->in, used);
    if (event.kind == WH_H1_END)
        finish_request(c);
    return event.kind != WH_H1_NONE || read_more(c);
}

/* The client half-closed or left while its answer is being made: tell the handler, and go on writing. */
static void notice_eof(wh_http_conn *c)
{
    c->rdhup_seen = true;
    if (c->x.active && !c->x.gone) {
        c->x.gone = true;
        tell_gone(c);
    }
}

/* One large request must not cost its memory for as long as the connection idles. */
static void give_back(wh_buf *b)
{
    if (b->cap <= HTTP_HIGH_BYTES)
        return;
    size_t max = b->max;
    wh_buf_done(b);
    wh_buf_init(b, max);
}

static bool step_handling(wh_http_conn *c)
{
    if (c->x.active) {
        if (c->x.above && wh_http_conn_waiting(c) < HTTP_LOW_BYTES) {
            c->x.above = false;
            if (c->x.callbacks.on_writable != NULL) {
                c->x.callbacks.on_writable(&c->x, c->x.user);
                return true;
            }
        }
        return false;
    }
    if (wh_http_conn_waiting(c) > 0)
        return false; /* the next request waits until this answer is out */
    bool close = c->x.close;
    wh_http_exchange_done(&c->x);
    give_back(&c->body);
    give_back(&c->out);
    c->got_bytes = c->in.len > 0;
    c->state = close || c->rdhup_seen ? HTTP_CLOSING : HTTP_READING;
    return true;
}

static bool step_upgraded(wh_http_conn *c)
{
    if (!c->x.active) {
        c->state = HTTP_CLOSING;
        return true;
    }
    if (c->x.above && wh_http_conn_waiting(c) < HTTP_LOW_BYTES) {
        c->x.above = false;
        if (c->x.callbacks.on_writable != NULL) {
            c->x.callbacks.on_writable(&c->x, c->x.user);
            return true;
        }
    }
    if (c->x.paused || c->peer_eof)
        return false;
    char scratch[HTTP_READ_BYTES] __attribute__((uninitialized));
    ssize_t n = (ssize_t)WH_MIN(c->in.len, sizeof(scratch));
    if (n > 0) { /* what came right behind the request */
        memcpy(scratch, c->in.p, (size_t)n);
        wh_buf_consume(&c->in, (size_t)n);
    } else {
        n = conn_read(c, scratch, sizeof(scratch));
    }
    if (n == -EAGAIN)
        return false;
    if (n < 0) {
        wh_http_conn_break(c);
        return false;
    }
    c->peer_eof = n == 0;
    if (c->x.callbacks.on_data != NULL)
        c->x.callbacks.on_data(&c->x, scratch, (size_t)n, c->x.user);
    return true;
}

static bool step_closing(wh_http_conn *c)
{
    if (wh_http_conn_waiting(c) > 0)
        return false;
    if (c->tls != NULL)
        wh_tls_shutdown(c->tls);
    (void)shutdown(c->fd, SHUT_WR);
    c->state = HTTP_LINGER;
    return true;
}

static bool step_linger(wh_http_conn *c)
{
    char scratch[HTTP_READ_BYTES] __attribute__((uninitialized));
    /* Past TLS: what comes is only thrown away. */
    ssize_t n = read(c->fd, scratch, sizeof(scratch));
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    c->lingered += n > 0 ? (size_t)n : 0;
    if (n <= 0 || c->lingered > LINGER_BYTES_MAX)
        wh_http_conn_break(c);
    return c->state != HTTP_DEAD;
}

static bool step(wh_http_conn *c)
{
    switch (c->state) {
    case HTTP_READING:
        return parse_some(c);
    case HTTP_HANDLING:
        return step_handling(c);
    case HTTP_UPGRADED:
        return step_upgraded(c);
    case HTTP_CLOSING:
        return step_closing(c);
    case HTTP_LINGER:
        return step_linger(c);
    case HTTP_DEAD:
    default:
        return false;
    }
}

/* ---- waiting ---- */

static void on_timeout(wh_timer *timer)
{
    wh_http_conn *c = timer->user;
    bool in_request =
        c->state == HTTP_READING && c->got_bytes && (c->tls == NULL || wh_tls_handshake(c->tls, NULL) == 0);
    if (!in_request) {
        wh_http_conn_break(c);
        return;
    }
    wh_http_conn_refuse(c, 408, "timeout");
    pump(c);
}

static wh_time timeout_of(const wh_http_conn *c)
{
    const wh_http_server_options *o = &c->server->options;
    if (c->state == HTTP_LINGER)
        return LINGER_TIME;
    if (wh_http_conn_waiting(c) > 0)
        return o->body_timeout;
    if (c->state == HTTP_READING) {
        if (c->reading_body)
            return o->body_timeout;
        return c->got_bytes || c->requests == 0 ? o->head_timeout : o->idle_timeout;
    }
    return WH_TIME_NEVER;
}

/* A head has one deadline from its first byte on; bodies and answers have one between two signs of progress. */
static void update_timer(wh_http_conn *c)
{
    wh_time timeout = timeout_of(c);
    bool head = c->state == HTTP_READING && !c->reading_body && wh_http_conn_waiting(c) == 0;
    if (timeout == WH_TIME_NEVER) {
        wh_timer_stop(&c->timer);
        c->timed_state = HTTP_DEAD;
        return;
    }
    bool restart = c->timer.loop == NULL || c->timed_state != c->state || (c->progress && !head);
    if (head && c->got_bytes && !c->timing_head)
        restart = true;
    c->timing_head = head && c->got_bytes;
    c->timed_state = c->state;
    if (restart)
        wh_timer_start(c->loop, &c->timer, timeout, on_timeout, c);
}

static void update_events(wh_http_conn *c)
{
    uint32_t events = 0;
    bool wants_read = c->state == HTTP_READING || c->state == HTTP_LINGER ||
                      (c->state == HTTP_UPGRADED && !c->x.paused && !c->peer_eof);
    if (wants_read)
        events |= c->tls != NULL && c->state != HTTP_LINGER ? c->read_wants : EPOLLIN;
    if (wh_http_conn_waiting(c) > 0)
        events |= c->tls != NULL ? c->write_wants : EPOLLOUT;
    if (c->state == HTTP_HANDLING && !c->rdhup_seen)
        events |= EPOLLRDHUP;
    wh_io_set(&c->io, events);
}

static void pump(wh_http_conn *c)
{
    int rounds = 0;
    c->in_pump = true;
    c->progress = false;
    bool more = true;
    while (more && c->state != HTTP_DEAD && rounds++ < PUMP_ROUNDS_MAX) {
        if (flush(c) < 0) {
            wh_http_conn_break(c);
            return;
        }
        more = step(c);
        if (c->state == HTTP_DEAD)
            return;
    }
    c->in_pump = false;
    update_events(c);
    update_timer(c);
    if (more)
        wh_http_conn_kick(c);
}

static void on_io(wh_io *io, uint32_t ready)
{
    wh_http_conn *c = io->user;
    bool reads = c->state == HTTP_READING || (c->state == HTTP_UPGRADED && !c->x.paused && !c->peer_eof);
    if ((ready & (EPOLLERR | EPOLLHUP)) != 0 && !reads) { /* who reads learns of it by reading */
        wh_http_conn_break(c);
        return;
    }
    if ((ready & EPOLLRDHUP) != 0 && c->state == HTTP_HANDLING)
        notice_eof(c);
    pump(c);
}

void wh_http_conn_start(wh_http_server *server, int fd)
{
    wh_http_conn *c = wh_xnew(wh_http_conn);
    c->magic = HTTP_CONN_MAGIC;
    c->server = server;
    c->loop = server->loop;
    c->fd = fd;
    c->is_unix = server->is_unix;
    c->peer_uid = (uid_t)-1;
    c->read_wants = EPOLLIN;
    c->write_wants = EPOLLOUT;
    c->timed_state = HTTP_DEAD;
    wh_h1_limits limits = wh_h1_limits_default;
    limits.body_bytes = server->options.body_bytes_max;
    wh_h1_init(&c->h1, &limits);
    wh_buf_init(&c->in, WH_HTTP_HEAD_BYTES_MAX + HTTP_READ_BYTES);
    wh_buf_init(&c->body, server->options.body_bytes_max);
    wh_buf_init(&c->out, WH_HTTP_REPLY_BYTES_MAX + WH_HTTP_HEAD_BYTES_MAX);
    LIST_INSERT_HEAD(&server->conns, c, link);
    (void)wh_socket_peer(fd, &c->peer_addr);
    if (c->is_unix) {
        struct ucred cred;
        socklen_t len = sizeof(cred);
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0) {
            c->peer_uid = cred.uid;
            c->peer_pid = cred.pid;
        }
    } else {
        int on = 1;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    }
    int r = server->options.tls == NULL ? 0 : wh_tls_accept(server->options.tls, fd, &c->tls, NULL);
    if (r == 0)
        r = wh_io_start(c->loop, &c->io, fd, EPOLLIN, on_io, c);
    if (r < 0)
        wh_http_conn_break(c);
    else
        update_timer(c);
}
