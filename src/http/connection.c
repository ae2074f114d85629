/* SPDX-License-Identifier: Apache-2.0 */
/* One connection of the HTTP server: moves bytes between socket, codec and exchange until nothing can move,
 * then says what to wait for. Nothing here runs inside a call of a handler: those only kick. */
#include "http/server_private.h"

#include <netinet/tcp.h>

#define PUMP_ROUNDS_MAX 64
#define LINGER_BYTES_MAX (256UL << 10)
#define LINGER_TIME (2 * WH_SEC)

static void pump(wh_http_conn *c);

/* ---- bytes ---- */

/* The loop tells of changes only (EPOLLET): `dry` says that there is nothing to be read until it does. */
ssize_t wh_http_conn_read(wh_http_conn *c, void *p, size_t n)
{
    ssize_t r;
    if (c->tls != NULL)
        return c->tls_ops->read(c->tls, p, n);
    do
        r = recv(c->fd, p, n, 0);
    while (r < 0 && errno == EINTR);
    c->dry = r < 0 || ((size_t)r < n && !c->fin_seen);
    return r < 0 ? -errno : r;
}

static ssize_t conn_write(wh_http_conn *c, const void *p, size_t n)
{
    ssize_t r;
    if (c->tls != NULL)
        return c->tls_ops->write(c->tls, p, n);
    do
        r = send(c->fd, p, n, MSG_NOSIGNAL);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r;
}

size_t wh_http_conn_waiting(const wh_http_conn *c)
{
    return c->out.len - c->out_off;
}

static int flush(wh_http_conn *c)
{
    if (c->out.len == 0)
        return 0;
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

int wh_http_conn_read_more(wh_http_conn *c)
{
    char *scratch = c->server->scratch;
    size_t kept = c->view.n;
    wh_assert(kept < HTTP_READ_BYTES);
    if (c->dry && !c->peer_eof)
        return 0;
    if (kept > 0)
        memmove(scratch, c->view.p, kept);
    ssize_t n = c->peer_eof ? 0 : wh_http_conn_read(c, scratch + kept, HTTP_READ_BYTES - kept);
    if (kept > 0)
        c->view.p = scratch;
    if (n == -EAGAIN)
        return 0;
    if (n <= 0) { /* nobody waits for an answer to half a request */
        wh_http_conn_break(c);
        return -1;
    }
    c->progress = true;
    c->view = (wh_str){scratch, kept + (size_t)n};
    return 1;
}

/* The server's read buffer serves the next connection: what this one did not use yet moves to its own. */
static int stash(wh_http_conn *c)
{
    const char *p = c->view.p;
    int r = 0;
    if (c->view.n == 0) {
        wh_http_buf_give_back(&c->in);
    } else if (c->in.len > 0 && p >= c->in.p && p < c->in.p + c->in.len) {
        wh_buf_consume(&c->in, (size_t)(p - c->in.p));
    } else {
        wh_buf_reset(&c->in); /* what was there is used up */
        r = wh_buf_append(&c->in, p, c->view.n);
    }
    c->view = (wh_str){wh_buf_str(&c->in), c->in.len};
    return r;
}

/* ---- life ---- */

static void free_conn(wh_http_conn *c)
{
    wh_assert(c->magic == HTTP_CONN_MAGIC);
    c->magic = 0;
    wh_h1_done(&c->h1);
    wh_buf_done(&c->in);
    wh_buf_done(&c->out);
    wh_http_exchange_done(&c->x);
    wh_h2_free(c->h2);
    if (c->tls != NULL)
        c->tls_ops->free(c->tls);
    free(c);
}

void wh_http_tell_gone(wh_http_exchange *x)
{
    x->gone_due = false;
    if (x->active && x->callbacks.on_gone != NULL)
        x->callbacks.on_gone(x, x->user);
}

bool wh_http_tell_writable(wh_http_exchange *x, size_t waiting)
{
    if (!x->active || !x->above || waiting >= HTTP_LOW_BYTES)
        return false;
    x->above = false;
    if (x->callbacks.on_writable == NULL)
        return false;
    x->callbacks.on_writable(x, x->user);
    return true;
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
        wh_http_tell_gone(&c->x);
    bool over = c->h2 == NULL || wh_h2_reap(c);
    if (over && !c->x.active && !c->kicked)
        free_conn(c);
}

void wh_http_conn_kick(wh_http_conn *c)
{
    if (c->kicked || c->in_pump)
        return;
    c->kicked = true;
    wh_loop_defer(c->loop, on_kick, c);
}

/* The handler still owns the exchange, and nothing of what it says goes out any more. */
static void detach(wh_http_exchange *x)
{
    x->gone_due = x->active && !x->gone;
    x->gone = x->detached = true;
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
    detach(&c->x);
    if (c->h2 != NULL)
        wh_h2_dead(c);
    c->in_pump = false;
    wh_http_conn_kick(c);
}

void wh_http_conn_drain(wh_http_conn *c)
{
    if (c->state == HTTP_H2)
        wh_h2_drain(c);
    else if (c->state == HTTP_READING && c->view.n == 0 && wh_h1_idle(&c->h1) && wh_http_conn_waiting(c) == 0)
        wh_http_conn_break(c);
}

void wh_http_conn_refuse(wh_http_conn *c, int status, const char *rule)
{
    wh_http_count_refused(rule);
    if (c->x.active && c->x.begun) { /* half an answer and a refusal would read like one answer */
        wh_http_conn_break(c);
        return;
    }
    wh_http_count(c, status);
    detach(&c->x);
    auto_buf wh_buf text;
    wh_buf_init(&text, 1024);
    (void)wh_buf_printf(&text, "%d %s: %s\n", status, wh_h1_reason(status), rule);
    (void)wh_h1_write_status(&c->out, status);
    (void)wh_buf_printf(&c->out,
                        "%.*sContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
                        "Content-Length: %zu\r\n\r\n%s",
                        WH_HTTP_DATE_LINE_BYTES, wh_http_date_line(c->loop), text.len, wh_buf_str(&text));
    c->state = HTTP_CLOSING;
}

/* ---- steps ---- */

static bool step_closing(wh_http_conn *c)
{
    if (wh_http_conn_waiting(c) > 0)
        return false;
    if (c->tls != NULL)
        c->tls_ops->shutdown(c->tls);
    (void)shutdown(c->fd, SHUT_WR);
    c->view.n = 0;
    c->state = HTTP_LINGER;
    return true;
}

static bool step_linger(wh_http_conn *c)
{
    /* Past TLS: what comes is only thrown away. */
    ssize_t n = recv(c->fd, c->server->scratch, HTTP_READ_BYTES, 0);
    if (n < 0 && errno == EINTR)
        return true;
    if (n < 0 && errno == EAGAIN)
        return false;
    c->lingered += n > 0 ? (size_t)n : 0;
    if (n <= 0 || c->lingered > LINGER_BYTES_MAX)
        wh_http_conn_break(c);
    return c->state != HTTP_DEAD;
}

/* One step in each state; true when it may be worth another. */
static bool step(wh_http_conn *c)
{
    if (c->x.gone_due)
        wh_http_tell_gone(&c->x);
    switch (c->state) {
    case HTTP_READING:
        return wh_http_h1_reading(c);
    case HTTP_HANDLING:
        return wh_http_h1_handling(c);
    case HTTP_UPGRADED:
        return wh_http_h1_upgraded(c);
    case HTTP_H2:
        return wh_h2_step(c);
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

static void on_timeout(wh_timer *timer);

static bool is_in_head(const wh_http_conn *c)
{
    return c->state == HTTP_READING && !c->reading_body && !wh_h1_idle(&c->h1);
}

static wh_http_wait wait_of(const wh_http_conn *c)
{
    if (c->state == HTTP_LINGER)
        return HTTP_WAIT_LINGER;
    if (c->state == HTTP_H2)
        return wh_h2_wait(c);
    if (wh_http_conn_waiting(c) > 0)
        return HTTP_WAIT_SEND;
    if (c->state == HTTP_READING) {
        if (c->reading_body)
            return HTTP_WAIT_BODY;
        return is_in_head(c) || c->requests == 0 ? HTTP_WAIT_HEAD : HTTP_WAIT_IDLE;
    }
    return c->state == HTTP_HANDLING && wh_http_wants_body(&c->x) ? HTTP_WAIT_BODY : HTTP_NO_WAIT;
}

static wh_time time_of(const wh_http_conn *c, wh_http_wait wait)
{
    const wh_http_server_options *o = &c->server->options;
    switch (wait) {
    case HTTP_WAIT_HEAD:
        return o->head_timeout;
    case HTTP_WAIT_BODY:
    case HTTP_WAIT_SEND:
    case HTTP_WAIT_STREAMS:
        return o->body_timeout;
    case HTTP_WAIT_IDLE:
        return o->idle_timeout;
    case HTTP_WAIT_LINGER:
        return LINGER_TIME;
    case HTTP_NO_WAIT:
    default:
        return WH_TIME_NEVER;
    }
}

/* A head has one deadline from its first byte on; bodies and answers have one between two signs of progress; streams
 * are looked at from time to time. */
static void update_timer(wh_http_conn *c)
{
    wh_http_wait wait = wait_of(c);
    bool fixed = wait == HTTP_WAIT_HEAD || wait == HTTP_WAIT_STREAMS;
    bool another = c->requests != c->waited_requests && wait != HTTP_WAIT_STREAMS;
    bool again = wait != c->wait || another || (c->progress && !fixed);
    c->wait = wait;
    c->waited_requests = c->requests;
    if (!again)
        return;
    wh_time time = time_of(c, wait);
    wh_time now = wh_loop_now(c->loop);
    c->deadline = time > WH_TIME_NEVER - now ? WH_TIME_NEVER : now + time;
    if (c->deadline != WH_TIME_NEVER && (c->timer.loop == NULL || c->deadline < c->timer.at))
        wh_timer_start(c->loop, &c->timer, c->deadline - now, on_timeout, c);
}

static void on_timeout(wh_timer *timer)
{
    wh_http_conn *c = timer->user;
    wh_time now = wh_loop_now(c->loop);
    if (c->deadline > now) { /* it was put off since the timer began */
        if (c->deadline != WH_TIME_NEVER)
            wh_timer_start(c->loop, &c->timer, c->deadline - now, on_timeout, c);
        return;
    }
    bool in_request = wh_http_conn_waiting(c) == 0 &&
                      (is_in_head(c) || c->reading_body || (c->state == HTTP_HANDLING && !c->x.begun));
    c->deadline = WH_TIME_NEVER;
    c->wait = HTTP_NO_WAIT;
    if (c->state == HTTP_H2)
        wh_h2_timeout(c);
    else if (in_request)
        wh_http_conn_refuse(c, 408, "timeout");
    else
        wh_http_conn_break(c);
    if (c->state != HTTP_DEAD)
        pump(c);
}

static bool wants_read(const wh_http_conn *c)
{
    switch (c->state) {
    case HTTP_READING:
    case HTTP_LINGER:
        return true;
    case HTTP_HANDLING:
        return wh_http_wants_body(&c->x);
    case HTTP_UPGRADED:
        return !c->x.paused && !c->peer_eof;
    case HTTP_H2:
        return wh_h2_wants_read(c);
    case HTTP_CLOSING:
    case HTTP_DEAD:
    default:
        return false;
    }
}

static void pump(wh_http_conn *c)
{
    int rounds = 0;
    c->in_pump = true;
    c->progress = false;
    bool more = true;
    while (more && rounds++ < PUMP_ROUNDS_MAX) {
        if (flush(c) < 0) {
            wh_http_conn_break(c);
            return;
        }
        bool blocked = wh_http_conn_waiting(c) > 0;
        more = step(c);
        if (c->state == HTTP_DEAD)
            return;
        more = more || (!blocked && wh_http_conn_waiting(c) > 0);
    }
    c->in_pump = false;
    if (stash(c) < 0) {
        wh_http_conn_break(c);
        return;
    }
    update_timer(c);
    if (more)
        wh_http_conn_kick(c);
}

static void on_io(wh_io *io, uint32_t ready)
{
    wh_http_conn *c = io->user;
    if ((ready & (EPOLLERR | EPOLLHUP)) != 0 && !wants_read(c)) { /* who reads learns of it by reading */
        wh_http_conn_break(c);
        return;
    }
    if ((ready & ~(uint32_t)EPOLLOUT) != 0)
        c->dry = false;
    if ((ready & EPOLLRDHUP) != 0)
        c->fin_seen = true;
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
    c->deadline = WH_TIME_NEVER;
    wh_http_exchange_init(&c->x, c);
    wh_h1_limits limits = wh_h1_limits_default;
    limits.body_bytes = server->options.body_bytes_max;
    wh_h1_init(&c->h1, &limits);
    wh_buf_init(&c->in, HTTP_READ_BYTES);
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
    int r = 0;
    if (server->options.tls != NULL) {
        c->tls_ops = wh_tls_ops_of(server->options.tls);
        r = c->tls_ops->accept(server->options.tls, fd, server->options.h2, &c->tls, NULL);
    }
    if (r == 0)
        r = wh_io_start(c->loop, &c->io, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, on_io, c);
    if (r < 0)
        wh_http_conn_break(c);
    else
        update_timer(c);
}
