/* SPDX-License-Identifier: Apache-2.0 */
/* The whole server over a socket pair, HTTP/1 and HTTP/2: whatever a client sends, in whatever pieces, every exchange
 * ends, nothing is read twice, and what is answered to HTTP/1 is well formed. The first byte chooses the protocol and
 * how handlers behave, the second the pieces. */
#include "http/server.h"

#include <fcntl.h>
#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define OPEN_MAX 64

typedef struct world {
    wh_loop *loop;
    wh_http_exchange *open[OPEN_MAX];
    size_t n_open;
    unsigned turn;
    uint8_t how;
} world;

static void forget(world *w, const wh_http_exchange *x)
{
    for (size_t i = 0; i < w->n_open; i++)
        if (w->open[i] == x)
            w->open[i] = w->open[--w->n_open];
}

static void on_gone(wh_http_exchange *x, void *user)
{
    world *w = user;
    if (w->turn++ % 2 == 0)
        return; /* whoever owns it says so later */
    forget(w, x);
    wh_http_abort(x);
}

static void on_data(wh_http_exchange *x, const void *p, size_t n, void *user)
{
    world *w = user;
    if (n == 0) {
        size_t count = 0;
        const wh_h1_field *trailers = wh_http_trailers(x, &count);
        for (size_t i = 0; i < count; i++)
            (void)wh_http_trailer(x, trailers[i].name, trailers[i].value);
        forget(w, x);
        wh_http_end(x);
        return;
    }
    (void)wh_http_write(x, p, n);
    if ((w->how & 4) != 0)
        wh_http_pause(x, w->turn++ % 3 == 0);
}

static void handle(wh_http_exchange *x, const wh_http_request *r, void *user)
{
    static const wh_http_stream_callbacks callbacks = {.on_data = on_data, .on_gone = on_gone};
    world *w = user;
    wh_assert(r->path[0] == '/' || r->path[0] == '*');
    wh_assert(strchr(r->target, ' ') == NULL);
    if (w->n_open == OPEN_MAX || w->turn++ % 4 == 3) {
        wh_http_reply(x, 200, "text/plain", r->target, strlen(r->target));
        return;
    }
    w->open[w->n_open++] = x;
    wh_http_watch(x, &callbacks, w);
    for (size_t i = 0; i < r->n_fields; i++)
        (void)wh_http_header_n(x, r->fields[i].name, r->fields[i].value);
    wh_http_begin(x, 200, "text/plain");
}

static void drain(int fd)
{
    char sink[4096];
    while (read(fd, sink, sizeof(sink)) > 0)
        ;
}

static void send_pieces(world *w, int fd, const uint8_t *p, size_t n, size_t piece)
{
    while (n > 0) {
        ssize_t sent = send(fd, p, WH_MIN(n, piece), MSG_NOSIGNAL);
        if (sent <= 0)
            return;
        p += sent;
        n -= (size_t)sent;
        wh_assert(wh_loop_once(w->loop, 0) == 0);
        for (size_t i = 0; (w->how & 4) != 0 && i < w->n_open; i++)
            wh_http_pause(w->open[i], false);
        drain(fd);
    }
}

static int listen_here(wh_addr *ret)
{
    wh_addr addr = {.len = sizeof(sa_family_t), .un.sun_family = AF_UNIX}; /* the kernel names it */
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    wh_assert(bind(fd, &addr.sa, addr.len) == 0);
    wh_assert(listen(fd, 1) == 0);
    *ret = (wh_addr){.len = sizeof(ret->un)};
    wh_assert(getsockname(fd, &ret->sa, &ret->len) == 0);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    if (n < 2 || n > 100000)
        return 0;
    world w = {.how = data[0]};
    wh_addr addr;
    wh_assert(wh_loop_new(&w.loop, NULL) == 0);
    wh_http_server *server = NULL;
    wh_http_server_options o = {.listen_fd = listen_here(&addr),
                                .handler = handle,
                                .user = &w,
                                .streaming = (data[0] & 2) != 0,
                                .h2 = (data[0] & 1) != 0,
                                .body_bytes_max = 5000};
    wh_assert(wh_http_server_start(w.loop, &o, &server, NULL) == 0);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    wh_assert(connect(fd, &addr.sa, addr.len) == 0);
    wh_assert(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    wh_assert(wh_loop_once(w.loop, 0) == 0);
    size_t piece = data[1] == 0 ? SIZE_MAX : (size_t)data[1] * data[1];
    if ((data[0] & 1) != 0)
        send_pieces(&w, fd, (const uint8_t *)preface, sizeof(preface) - 1, SIZE_MAX);
    send_pieces(&w, fd, data + 2, n - 2, piece);
    if ((data[0] & 8) != 0)
        (void)shutdown(fd, SHUT_WR);
    else
        close(fd);
    for (int i = 0; i < 4; i++)
        wh_assert(wh_loop_once(w.loop, 0) == 0);
    wh_http_server_free(server);
    while (w.n_open > 0)
        wh_http_end(w.open[--w.n_open]);
    wh_loop_free(w.loop);
    if ((data[0] & 8) != 0)
        close(fd);
    return 0;
}
