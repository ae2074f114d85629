/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/server.h"

#include <poll.h>
#include <stdio.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif
#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78
#endif
#define BATCH 16 /* requests of one channel before others have their turn */
#define BACKLOG 1024
#define TIMEOUT_MS 30000

/* ------------------------------------------------------------------ answers */

static void on_channel(wh_io *io, uint32_t ready);

static void send_answer(netd_channel *channel, uint64_t token, wh_netd_answer *answer, int fd)
{
    answer->version = WH_NETD_VERSION;
    answer->token = token;
    size_t n = WH_NETD_ANSWER_BYTES(answer->n_addresses);
    int rc = STAILQ_EMPTY(&channel->unsent) ? wh_netd_send(channel->fd, answer, n, fd) : -EAGAIN;
    if (rc == -ETOOMANYREFS) { /* too many sockets wait for runners that do not read */
        answer->rc = rc;
        close(WH_TAKE_FD(fd));
        rc = wh_netd_send(channel->fd, answer, n, -1);
    }
    if (rc != -EAGAIN) { /* a channel that is broken is found by reading it */
        if (fd >= 0)
            close(fd);
        return;
    }
    netd_unsent *u = wh_xnew(netd_unsent);
    u->fd = fd;
    u->n = n;
    memcpy(&u->answer, answer, n);
    STAILQ_INSERT_TAIL(&channel->unsent, u, link);
    wh_io_set(&channel->io, EPOLLOUT);
}

static void send_error(netd_channel *channel, uint64_t token, int rc)
{
    wh_netd_answer answer __attribute__((uninitialized));
    memset(&answer, 0, WH_NETD_ANSWER_BYTES(0));
    answer.rc = rc;
    send_answer(channel, token, &answer, -1);
}

static void unsent_free(netd_unsent *u)
{
    if (u->fd >= 0)
        close(u->fd);
    free(u);
}

static void send_unsent(netd_channel *channel)
{
    netd_unsent *u;
    while ((u = STAILQ_FIRST(&channel->unsent)) != NULL) {
        int rc = wh_netd_send(channel->fd, &u->answer, u->n, u->fd);
        if (rc == -EAGAIN)
            return;
        STAILQ_REMOVE_HEAD(&channel->unsent, link);
        unsent_free(u);
    }
    wh_io_set(&channel->io, EPOLLIN);
}

/* ------------------------------------------------------------------ requests under way */

static netd_pending *pending_new(netd_channel *channel, uint64_t token)
{
    netd_pending *p = wh_xnew(netd_pending);
    p->channel = channel;
    p->token = token;
    p->fd = -1;
    LIST_INSERT_HEAD(&channel->pending, p, link);
    channel->n_pending++;
    channel->pod->n_pending++;
    return p;
}

void netd_pending_free(netd_pending *p)
{
    LIST_REMOVE(p, link);
    p->channel->n_pending--;
    p->channel->pod->n_pending--;
    wh_io_stop(&p->io);
    wh_timer_stop(&p->timer);
    netd_lookup_free(p->lookup);
    if (p->fd >= 0)
        close(p->fd);
    free(p->name);
    free(p);
}

void netd_pending_done(netd_pending *p, wh_netd_answer *answer)
{
    int fd = -1;
    wh_io_stop(&p->io);
    if (answer->rc == 0 && p->fd >= 0)
        fd = WH_TAKE_FD(p->fd);
    send_answer(p->channel, p->token, answer, fd);
    netd_pending_free(p);
}

static void pending_end(netd_pending *p, int rc)
{
    wh_netd_answer answer __attribute__((uninitialized));
    memset(&answer, 0, WH_NETD_ANSWER_BYTES(0));
    answer.rc = rc;
    netd_pending_done(p, &answer);
}

/* ------------------------------------------------------------------ sockets */

static int set(int fd, int level, int option)
{
    const int one = 1;
    return setsockopt(fd, level, option, &one, sizeof(one)) < 0 ? -errno : 0;
}

int netd_socket(const wh_addr *peer, const wh_addr *source, int type, int *ret_fd)
{
    auto_close int fd = socket(peer->sa.sa_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (source->len != 0) {
        int rc = 0;
        if (source->sa.sa_family == AF_INET6) /* the address is a route only, and on no device */
            rc = set(fd, IPPROTO_IPV6, IPV6_FREEBIND);
        if (rc == 0)
            rc = set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT);
        if (rc == 0 && bind(fd, &source->sa, source->len) < 0)
            rc = -errno;
        if (rc < 0)
            return rc;
    }
    *ret_fd = WH_TAKE_FD(fd);
    return 0;
}

int netd_listen(const wh_addr *addr, int backlog, bool both, int *ret_fd)
{
    auto_close int fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int rc = set(fd, SOL_SOCKET, SO_REUSEADDR);
    if (rc == 0 && addr->sa.sa_family == AF_INET6)
        rc = set(fd, IPPROTO_IPV6, IPV6_FREEBIND);
    if (rc == 0 && addr->sa.sa_family == AF_INET6) {
        const int only = !both;
        rc = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only)) < 0 ? -errno : 0;
    }
    if (rc == 0 && bind(fd, &addr->sa, addr->len) < 0)
        rc = -errno;
    if (rc == 0 && listen(fd, backlog == 0 ? BACKLOG : WH_MIN(backlog, WH_NETD_BACKLOG_MAX)) < 0)
        rc = -errno;
    if (rc == 0)
        *ret_fd = WH_TAKE_FD(fd);
    return rc;
}

/* ------------------------------------------------------------------ what is refused */

#define TOLD_MAX 10 /* a second */

void netd_refused(wh_netd_server *server, const netd_pod *pod, const char *target, const char *reason)
{
    wh_time now = wh_loop_now(server->loop);
    if (now - server->window >= WH_SEC) {
        server->window = now;
        server->told = 0;
    }
    if (server->control_fd < 0 || server->told >= TOLD_MAX) {
        server->left_out++;
        return;
    }
    auto_buf wh_buf b;
    wh_buf_init(&b, 4096);
    wh_record_put_str(&b, "event", "refused");
    wh_record_put_str(&b, "pod", pod->id);
    wh_record_put_str(&b, "target", target);
    wh_record_put_str(&b, "reason", reason);
    wh_record_put_i64(&b, "left_out", server->left_out);
    if (b.failed || wh_netd_send(server->control_fd, b.p, b.len, -1) < 0) {
        server->left_out++;
        return;
    }
    server->told++;
    server->left_out = 0;
}

static void refuse(netd_channel *channel, const wh_netd_request *request, int rc, const char *reason)
{
    char text[WH_ADDR_TEXT_MAX], target[WH_ADDR_TEXT_MAX + WH_NETD_NAME_MAX + 32];
    wh_addr addr;
    memcpy(&addr.in6, &request->address, sizeof(addr.in6));
    if (rc == -EACCES || rc == -EADDRNOTAVAIL) {
        (void)snprintf(target, sizeof(target), "%s%s%s%s", request->op == WH_NETD_LISTEN ? "listen " : "",
                       wh_addr_text(&addr, text), request->name[0] == '\0' ? "" : " ", request->name);
        netd_refused(channel->pod->server, channel->pod, target, reason);
    }
    send_error(channel, request->token, rc);
}

/* ------------------------------------------------------------------ requests */

static void take_listen(netd_channel *channel, const wh_netd_request *request)
{
    const char *reason = NULL;
    wh_addr addr;
    int fd = -1;
    int rc = wh_netd_policy_listen(&channel->pod->policy, &request->address, &addr, &reason);
    if (rc < 0) {
        refuse(channel, request, rc, reason);
        return;
    }
    rc = netd_listen(&addr, request->backlog, false, &fd);
    wh_netd_answer answer __attribute__((uninitialized));
    memset(&answer, 0, WH_NETD_ANSWER_BYTES(0));
    answer.rc = rc;
    send_answer(channel, request->token, &answer, fd);
}

static void on_connected(wh_io *io, uint32_t ready)
{
    (void)ready;
    netd_pending *p = io->user;
    int error = 0;
    socklen_t n = sizeof(error);
    if (getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0)
        error = errno;
    pending_end(p, -error);
}

static void on_timeout(wh_timer *timer)
{
    pending_end(timer->user, -ETIMEDOUT);
}

/* Within the machine a connection stands before connect returns, though the kernel says "in progress". */
static bool stands_already(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int error = 0;
    socklen_t n = sizeof(error);
    return poll(&p, 1, 0) == 1 && p.revents == POLLOUT &&
           getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) == 0 && error == 0;
}

static void wait_for(netd_channel *channel, const wh_netd_request *request, int fd)
{
    wh_netd_server *server = channel->pod->server;
    netd_pending *p = pending_new(channel, request->token);
    uint32_t ms =
        request->timeout_ms == 0 ? TIMEOUT_MS : WH_MIN(request->timeout_ms, (uint32_t)WH_NETD_TIMEOUT_MS_MAX);
    p->fd = fd;
    int rc = wh_io_start(server->loop, &p->io, fd, EPOLLOUT, on_connected, p);
    if (rc < 0) {
        pending_end(p, rc);
        return;
    }
    wh_timer_start(server->loop, &p->timer, ms * WH_MSEC, on_timeout, p);
}

static void take_connect(netd_channel *channel, const wh_netd_request *request)
{
    const char *reason = NULL;
    wh_addr peer, source;
    netd_pod *pod = channel->pod;
    bool tcp = request->op == WH_NETD_CONNECT;
    int rc =
        wh_netd_policy_connect(&pod->policy, &pod->server->world, &request->address, &peer, &source, &reason);
    if (rc < 0) {
        refuse(channel, request, rc, reason);
        return;
    }
    auto_close int fd = -1;
    rc = netd_socket(&peer, &source, tcp ? SOCK_STREAM : SOCK_DGRAM, &fd);
    if (rc == 0 && connect(fd, &peer.sa, peer.len) < 0)
        rc = -errno;
    if (rc == -EINPROGRESS && stands_already(fd))
        rc = 0;
    if (rc == -EINPROGRESS) {
        wait_for(channel, request, WH_TAKE_FD(fd));
        return;
    }
    if (rc < 0) {
        send_error(channel, request->token, rc);
        return;
    }
    wh_netd_answer answer __attribute__((uninitialized));
    memset(&answer, 0, WH_NETD_ANSWER_BYTES(0));
    send_answer(channel, request->token, &answer, WH_TAKE_FD(fd));
}

static void take_resolve(netd_channel *channel, const wh_netd_request *request)
{
    netd_pending *p = pending_new(channel, request->token);
    p->name = wh_xstrdup(request->name);
    netd_lookup_start(p);
}

void netd_channel_take(netd_channel *channel, const void *data, size_t n)
{
    wh_netd_request request;
    int rc = wh_netd_request_check(data, n);
    if (rc < 0) {
        uint64_t token = 0; /* as far as it came */
        if (n >= offsetof(wh_netd_request, token) + sizeof(token))
            memcpy(&token, (const char *)data + offsetof(wh_netd_request, token), sizeof(token));
        send_error(channel, token, rc);
        return;
    }
    memcpy(&request, data, sizeof(request));
    if (channel->n_pending >= WH_NETD_IN_FLIGHT_MAX || channel->pod->n_pending >= WH_NETD_SOCKETS_MAX) {
        send_error(channel, request.token, -EAGAIN);
        return;
    }
    switch ((wh_netd_op)request.op) {
    case WH_NETD_LISTEN:
        take_listen(channel, &request);
        break;
    case WH_NETD_CONNECT:
    case WH_NETD_UDP_CONNECT:
        take_connect(channel, &request);
        break;
    case WH_NETD_RESOLVE:
        take_resolve(channel, &request);
        break;
    }
}

/* ------------------------------------------------------------------ channels and pods */

void netd_channel_close(netd_channel *channel)
{
    netd_pending *p;
    netd_unsent *u;
    while ((p = LIST_FIRST(&channel->pending)) != NULL)
        netd_pending_free(p);
    while ((u = STAILQ_FIRST(&channel->unsent)) != NULL) {
        STAILQ_REMOVE_HEAD(&channel->unsent, link);
        unsent_free(u);
    }
    LIST_REMOVE(channel, link);
    channel->pod->n_channels--;
    channel->pod->server->n_channels--;
    wh_io_stop(&channel->io);
    close(channel->fd);
    free(channel);
}

static void on_channel(wh_io *io, uint32_t ready)
{
    netd_channel *channel = io->user;
    wh_netd_server *server = channel->pod->server;
    char data[sizeof(wh_netd_request) + 1] __attribute__((uninitialized));
    if ((ready & EPOLLOUT) != 0)
        send_unsent(channel);
    for (int i = 0; i < BATCH && STAILQ_EMPTY(&channel->unsent); i++) {
        size_t n = 0;
        int fd = -1;
        int rc = wh_netd_recv(channel->fd, data, sizeof(data), &n, &fd);
        if (fd >= 0) /* nobody was asked for one */
            close(fd);
        if (rc == -EAGAIN)
            return;
        if (rc == -EMSGSIZE) {
            send_error(channel, 0, -EMSGSIZE);
            continue;
        }
        if (rc <= 0) {
            netd_channel_close(channel);
            netd_maybe_end(server);
            return;
        }
        netd_channel_take(channel, data, n);
    }
    /* Nothing is read while answers wait, so a peer that is gone shows here only. */
    if ((ready & (EPOLLHUP | EPOLLERR)) != 0 && !STAILQ_EMPTY(&channel->unsent)) {
        netd_channel_close(channel);
        netd_maybe_end(server);
    }
}

int netd_channel_add(netd_pod *pod, int fd)
{
    if (pod->n_channels >= WH_NETD_CHANNELS_MAX)
        return -EMFILE;
    netd_channel *channel = wh_xnew(netd_channel);
    channel->pod = pod;
    channel->fd = fd;
    LIST_INIT(&channel->pending);
    STAILQ_INIT(&channel->unsent);
    int rc = wh_io_start(pod->server->loop, &channel->io, fd, EPOLLIN, on_channel, channel);
    if (rc < 0) {
        free(channel);
        return rc;
    }
    LIST_INSERT_HEAD(&pod->channels, channel, link);
    pod->n_channels++;
    pod->server->n_channels++;
    return 0;
}

void netd_pod_free(netd_pod *pod)
{
    netd_channel *channel;
    while ((channel = LIST_FIRST(&pod->channels)) != NULL)
        netd_channel_close(channel);
    wh_netd_policy_done(&pod->policy);
    free(pod->id);
    free(pod);
}
