/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP server with handlers that do by path what a test or a bench asks:
 *   http_server --listen ADDRESS [--tls] [--h1] [--head-ms N] [--body-ms N] [--idle-ms N] [--body-bytes N]
 * It says "listening on PORT", and ends by SIGTERM after a graceful drain of at most two seconds. */
#include "http/server.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

static const char hello[] = "Hello, world!\n";

typedef struct job {
    wh_http_exchange *x;
    wh_loop *loop;
    wh_timer timer;
    uint64_t left, seen;
    bool ended;
} job;

static void free_job(void *user)
{
    free(user);
}

static void end_job(job *j, void (*end)(wh_http_exchange *x))
{
    if (j->ended)
        return;
    j->ended = true;
    wh_timer_stop(&j->timer);
    end(j->x);
    wh_loop_defer(j->loop, free_job, j);
}

static void on_gone(wh_http_exchange *x, void *user)
{
    (void)x;
    end_job(user, wh_http_abort);
}

/* ---- /echo: what comes goes out again, and the trailers behind it ---- */

static void echo_writable(wh_http_exchange *x, void *user)
{
    (void)user;
    wh_http_pause(x, false);
}

static void echo_data(wh_http_exchange *x, const void *p, size_t n, void *user)
{
    if (n > 0) {
        if (wh_http_write(x, p, n) == -EAGAIN)
            wh_http_pause(x, true);
        return;
    }
    size_t count = 0;
    const wh_h1_field *trailers = wh_http_trailers(x, &count);
    for (size_t i = 0; i < count; i++)
        (void)wh_http_trailer(x, trailers[i].name, trailers[i].value);
    end_job(user, wh_http_end);
}

/* ---- /sink: reads all, answers with the number of bytes ---- */

static void answered(wh_http_exchange *x)
{
    (void)x;
}

static void sink_data(wh_http_exchange *x, const void *p, size_t n, void *user)
{
    (void)p;
    job *j = user;
    j->seen += n;
    if (n > 0)
        return;
    wh_http_replyf(x, 200, "%" PRIu64 " bytes were read\n", j->seen);
    end_job(j, answered);
}

/* ---- /bytes?N: as many bytes ---- */

static void bytes_writable(wh_http_exchange *x, void *user)
{
    static const char block[16384] = {'.'};
    job *j = user;
    while (j->left > 0) {
        size_t n = (size_t)WH_MIN(j->left, (uint64_t)sizeof(block));
        int r = wh_http_write(x, block, n);
        if (r == -EPIPE || r == -ENOBUFS)
            return;
        j->left -= n;
        if (r == -EAGAIN)
            return;
    }
    end_job(j, wh_http_end);
}

/* ---- /slow?MS: answers later ---- */

static void slow_over(wh_timer *timer)
{
    job *j = timer->user;
    wh_http_reply(j->x, 200, "text/plain", hello, sizeof(hello) - 1);
    end_job(j, answered);
}

static uint64_t number(const wh_http_request *r)
{
    uint64_t n = 0;
    return wh_parse_u64(r->query, INT64_MAX, &n) < 0 ? 0 : n;
}

static void handle(wh_http_exchange *x, const wh_http_request *r, void *user)
{
    if (strcmp(r->path, "/") == 0 || strcmp(r->path, "/static") == 0) {
        wh_http_reply(x, 200, "text/plain", hello, sizeof(hello) - 1);
        return;
    }
    if (strcmp(r->path, "/head") == 0) {
        wh_http_replyf(x, 200, "%s %s %s %s %d %lld\n", r->method, r->scheme, r->authority, r->target,
                       r->version, (long long)r->length);
        return;
    }
    job *j = wh_xnew(job);
    j->x = x;
    j->loop = user;
    wh_http_stream_callbacks callbacks = {.on_gone = on_gone};
    if (strcmp(r->path, "/echo") == 0) {
        callbacks.on_data = echo_data;
        callbacks.on_writable = echo_writable;
        wh_http_watch(x, &callbacks, j);
        wh_http_begin(x, 200, "application/octet-stream");
    } else if (strcmp(r->path, "/sink") == 0) {
        callbacks.on_data = sink_data;
        wh_http_watch(x, &callbacks, j);
    } else if (strcmp(r->path, "/bytes") == 0) {
        callbacks.on_writable = bytes_writable;
        wh_http_watch(x, &callbacks, j);
        j->left = number(r);
        wh_http_begin_length(x, 200, "application/octet-stream", j->left);
        bytes_writable(x, j);
    } else if (strcmp(r->path, "/slow") == 0) {
        wh_http_watch(x, &callbacks, j);
        wh_timer_start(j->loop, &j->timer, (wh_time)number(r) * WH_MSEC, slow_over, j);
    } else if (strcmp(r->path, "/trailers") == 0) {
        wh_http_info(x, 103);
        wh_http_begin(x, 200, "text/plain");
        (void)wh_http_write(x, hello, sizeof(hello) - 1);
        (void)wh_http_trailer(x, WH_STR("X-Sum"), WH_STR("14"));
        end_job(j, wh_http_end);
    } else if (strcmp(r->path, "/short") == 0) {
        wh_http_begin_length(x, 200, "text/plain", sizeof(hello));
        (void)wh_http_write(x, hello, sizeof(hello) - 1);
        end_job(j, wh_http_end);
    } else if (strcmp(r->path, "/hold") == 0) {
        wh_http_watch(x, &callbacks, j);
    } else {
        wh_http_replyf(x, 404, "there is no %s\n", r->path);
        end_job(j, answered);
    }
}

/* ---- the program ---- */

typedef struct program {
    wh_loop *loop;
    wh_http_server *server;
} program;

static void on_drained(void *user)
{
    program *p = user;
    wh_loop_stop(p->loop, 0);
}

static void on_term(const struct signalfd_siginfo *info, void *user)
{
    (void)info;
    program *p = user;
    wh_http_server_drain(p->server, 2 * WH_SEC, on_drained, p);
}

static int make_tls(wh_tls_server **ret, wh_err *err)
{
    auto_free char *key = NULL;
    auto_free char *cert = NULL;
    char *dns[] = {(char[]){"localhost"}, NULL};
    char *ips[] = {(char[]){"127.0.0.1"}, NULL};
    int r = wh_key_new(&key, err);
    if (r == 0)
        r = wh_cert_self_signed(key, "localhost", dns, ips, WH_HOUR, &cert, err);
    if (r == 0)
        r = wh_tls_server_new(&(wh_tls_server_options){.cert_pem = cert, .key_pem = key}, ret, err);
    return r;
}

static int read_options(int argc, char **argv, const char **ret_listen, bool *ret_tls,
                        wh_http_server_options *o)
{
    for (int i = 1; i < argc; i++) {
        uint64_t n = 0;
        if (strcmp(argv[i], "--tls") == 0) {
            *ret_tls = true;
            continue;
        }
        if (strcmp(argv[i], "--h1") == 0) {
            o->h2 = false;
            continue;
        }
        if (i + 1 == argc)
            return -EINVAL;
        const char *name = argv[i++];
        if (strcmp(name, "--listen") == 0) {
            *ret_listen = argv[i];
            continue;
        }
        if (wh_parse_u64(argv[i], INT64_MAX, &n) < 0)
            return -EINVAL;
        if (strcmp(name, "--head-ms") == 0)
            o->head_timeout = (wh_time)n * WH_MSEC;
        else if (strcmp(name, "--body-ms") == 0)
            o->body_timeout = (wh_time)n * WH_MSEC;
        else if (strcmp(name, "--idle-ms") == 0)
            o->idle_timeout = (wh_time)n * WH_MSEC;
        else if (strcmp(name, "--body-bytes") == 0)
            o->body_bytes_max = n;
        else
            return -EINVAL;
    }
    return 0;
}

static int run(const char *listen, bool tls, wh_http_server_options *o, wh_err *err)
{
    program p = {0};
    wh_addr addr;
    int r = wh_loop_new(&p.loop, err);
    if (r == 0)
        r = wh_addr_parse(listen, -1, &addr, err);
    if (r == 0)
        r = wh_listen(&addr, 0600, &o->listen_fd, err);
    if (r == 0 && tls)
        r = make_tls(&o->tls, err);
    o->user = p.loop;
    if (r == 0)
        r = wh_http_server_start(p.loop, o, &p.server, err);
    if (r == 0)
        r = wh_loop_signal(p.loop, SIGTERM, on_term, &p, err);
    if (r == 0) {
        printf("listening on %d\n", wh_http_server_port(p.server));
        (void)fflush(stdout);
        r = wh_loop_run(p.loop);
    }
    wh_http_server_free(p.server);
    wh_loop_free(p.loop);
    wh_tls_server_free(o->tls);
    return r;
}

int main(int argc, char **argv)
{
    const char *listen = "127.0.0.1:0";
    bool tls = false;
    wh_err err = {0};
    wh_http_server_options o = {
        .handler = handle, .name = "test", .streaming = true, .h2 = true, .body_bytes_max = UINT64_MAX};
    if (read_options(argc, argv, &listen, &tls, &o) < 0) {
        (void)fprintf(stderr, "http_server: see the head of tests/tools/http_server.c for its options\n");
        return 2;
    }
    if (run(listen, tls, &o, &err) < 0) {
        (void)fprintf(stderr, "http_server: %s\n", err.msg);
        return 1;
    }
    return 0;
}
