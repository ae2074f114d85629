/* SPDX-License-Identifier: Apache-2.0 */
/* The listening side of the HTTP server: accepts, counts, drains. */
#include "http/server_private.h"

#include "base/log.h"
#include "base/metrics.h"

#include <signal.h>
#include <stdio.h>

#define ACCEPT_BATCH 64
#define ACCEPT_PAUSE (100 * WH_MSEC)
#define COUNTING_TIME (100 * WH_MSEC)

static WH_METRIC(requests_total, WH_COUNTER, "wherry_http_requests_total",
                 "Requests that our own HTTP servers answered, by server and status code.", "server,code");
static WH_METRIC(
    refused_total, WH_COUNTER, "wherry_http_refused_total",
    "Requests that our own HTTP servers refused before any handler saw them, by the rule they broke.",
    "rule");
static WH_METRIC(connections, WH_GAUGE, "wherry_http_connections",
                 "Open connections of our own HTTP servers.", "server");

static void on_accept(wh_io *io, uint32_t ready);

static void tell_count(const wh_http_server *s, wh_http_status_count *count)
{
    if (count->n == 0)
        return;
    char label[128];
    (void)snprintf(label, sizeof(label), "%.64s\n%d", s->name, count->status);
    wh_metric_add(&requests_total, label, (double)count->n);
    count->n = 0;
}

static void tell_counts(wh_http_server *s)
{
    for (size_t i = 0; i < WH_ARRAY_LEN(s->counts); i++)
        tell_count(s, &s->counts[i]);
}

static void on_counting(wh_timer *timer)
{
    tell_counts(timer->user);
}

/* A metric costs a lock and a search: many answers share one. */
void wh_http_count(const wh_http_conn *c, int status)
{
    wh_http_server *s = c->server;
    if (s == NULL)
        return;
    size_t i = 0;
    while (i < WH_ARRAY_LEN(s->counts) - 1 && s->counts[i].n > 0 && s->counts[i].status != status)
        i++;
    if (s->counts[i].status != status)
        tell_count(s, &s->counts[i]);
    s->counts[i].status = status;
    s->counts[i].n++;
    if (s->counting.loop == NULL)
        wh_timer_start(s->loop, &s->counting, COUNTING_TIME, on_counting, s);
}

void wh_http_count_refused(const char *rule)
{
    wh_metric_add(&refused_total, rule, 1);
}

static void stop_accepting(wh_http_server *s)
{
    if (s->accepting)
        wh_io_stop(&s->io);
    s->accepting = false;
}

static void start_accepting(wh_http_server *s)
{
    if (s->accepting || s->draining || s->fd < 0 || s->n_conns >= s->options.connections_max)
        return;
    s->accepting = wh_io_start(s->loop, &s->io, s->fd, EPOLLIN, on_accept, s) == 0;
}

static void on_pause_over(wh_timer *timer)
{
    start_accepting(timer->user);
}

static void on_accept(wh_io *io, uint32_t ready)
{
    (void)ready;
    wh_http_server *s = io->user;
    for (int i = 0; i < ACCEPT_BATCH && s->accepting; i++) {
        int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            s->n_conns++;
            wh_metric_set(&connections, s->name, (double)s->n_conns);
            if (s->n_conns >= s->options.connections_max)
                stop_accepting(s);
            wh_http_conn_start(s, fd);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            wh_log(WARN, "cannot accept connections for a moment", KV_STR("server", s->name),
                   KV_INT("errno", errno));
            stop_accepting(s);
            wh_timer_start(s->loop, &s->pause, ACCEPT_PAUSE, on_pause_over, s);
        }
        if (errno != ECONNABORTED && errno != EINTR)
            return;
    }
}

static void tell_drained(void *user)
{
    wh_http_server *s = user;
    void (*done)(void *) = s->drained;
    s->drained = NULL;
    if (done != NULL)
        done(s->drained_user);
}

void wh_http_server_conn_gone(wh_http_server *server)
{
    wh_assert(server->n_conns > 0);
    server->n_conns--;
    wh_metric_set(&connections, server->name, (double)server->n_conns);
    if (server->draining && server->n_conns == 0 && server->drained != NULL) {
        wh_timer_stop(&server->grace);
        wh_loop_defer(server->loop, tell_drained, server);
    }
    start_accepting(server);
}

static wh_time or_default(wh_time value, wh_time otherwise)
{
    return value == 0 ? otherwise : value;
}

int wh_http_server_start(wh_loop *loop, const wh_http_server_options *options, wh_http_server **ret,
                         wh_err *err)
{
    wh_addr local;
    int r = wh_socket_local(options->listen_fd, &local);
    if (r < 0)
        return wh_fail(err, r, "serve HTTP on descriptor %d", options->listen_fd);
    /* A client that leaves is a write error here, not a signal. */
    (void)signal(SIGPIPE, SIG_IGN);
    wh_http_server *s = wh_xnew(wh_http_server);
    s->loop = loop;
    s->options = *options;
    s->options.body_bytes_max =
        options->body_bytes_max == 0 ? WH_HTTP_BODY_BYTES_MAX : options->body_bytes_max;
    s->options.connections_max =
        options->connections_max == 0 ? WH_HTTP_CONNECTIONS_MAX : options->connections_max;
    s->options.head_timeout = or_default(options->head_timeout, 10 * WH_SEC);
    s->options.body_timeout = or_default(options->body_timeout, 60 * WH_SEC);
    s->options.idle_timeout = or_default(options->idle_timeout, 60 * WH_SEC);
    s->name = wh_xstrdup(options->name == NULL ? "http" : options->name);
    s->fd = options->listen_fd;
    s->is_unix = local.sa.sa_family == AF_UNIX;
    s->port = wh_addr_port(&local);
    LIST_INIT(&s->conns);
    s->scratch = malloc(HTTP_READ_BYTES);
    r = s->scratch == NULL ? -ENOMEM : wh_io_start(loop, &s->io, s->fd, EPOLLIN, on_accept, s);
    if (r < 0) {
        free(s->scratch);
        free(s->name);
        free(s);
        return wh_fail(err, r, "serve HTTP on descriptor %d", options->listen_fd);
    }
    s->accepting = true;
    *ret = s;
    return 0;
}

static void close_listener(wh_http_server *s)
{
    stop_accepting(s);
    wh_timer_stop(&s->pause);
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

static void break_all(wh_http_server *s)
{
    wh_http_conn *c = LIST_FIRST(&s->conns);
    while (c != NULL) {
        wh_http_conn *next = LIST_NEXT(c, link);
        wh_http_conn_break(c);
        c = next;
    }
}

static void on_grace_over(wh_timer *timer)
{
    break_all(timer->user);
}

void wh_http_server_drain(wh_http_server *server, wh_time grace, void (*done)(void *user), void *user)
{
    wh_assert(!server->draining);
    server->draining = true;
    server->drained = done;
    server->drained_user = user;
    close_listener(server);
    if (server->n_conns == 0) {
        wh_loop_defer(server->loop, tell_drained, server);
        return;
    }
    wh_timer_start(server->loop, &server->grace, grace, on_grace_over, server);
    wh_http_conn *c = LIST_FIRST(&server->conns);
    while (c != NULL) {
        wh_http_conn *next = LIST_NEXT(c, link);
        wh_http_conn_drain(c);
        c = next;
    }
}

static void free_server(void *user)
{
    wh_http_server *s = user;
    free(s->scratch);
    free(s->name);
    free(s);
}

void wh_http_server_free(wh_http_server *server)
{
    if (server == NULL)
        return;
    server->draining = true;
    server->drained = NULL;
    close_listener(server);
    break_all(server);
    wh_timer_stop(&server->grace);
    wh_timer_stop(&server->counting);
    tell_counts(server);
    wh_metric_forget(&connections, server->name);
    /* A tell_drained may be waiting; it runs before this. */
    wh_loop_defer(server->loop, free_server, server);
}

size_t wh_http_server_connections(const wh_http_server *server)
{
    return server->n_conns;
}

int wh_http_server_port(const wh_http_server *server)
{
    return server->port;
}
