/* SPDX-License-Identifier: Apache-2.0 */
/* The runner's end of a pod channel. Makes no system call that the runner's filter for the time of the guest
 * forbids. */
#include "netd/protocol.h"

struct wh_netd_client {
    wh_loop *loop;
    wh_io io;
    int fd; /* -1 once netd is gone */
    wh_netd_done done;
    void *user;
    uint64_t tokens[WH_NETD_IN_FLIGHT_MAX];
    size_t n_tokens;
    uint64_t lost[WH_NETD_IN_FLIGHT_MAX]; /* of an old channel, to be answered -ENOTCONN */
    size_t n_lost;
    bool freed, deferred;
};

static void answer_lost(void *user)
{
    wh_netd_client *client = user;
    client->deferred = false;
    while (client->n_lost > 0 && !client->freed) {
        wh_netd_answer answer = {.version = WH_NETD_VERSION, .rc = -ENOTCONN};
        answer.token = client->lost[--client->n_lost];
        client->done(client->user, answer.token, &answer, -1);
    }
    if (client->freed)
        free(client);
}

static void run_later(wh_netd_client *client)
{
    if (!client->deferred)
        wh_loop_defer(client->loop, answer_lost, client);
    client->deferred = true;
}

static void drop_channel(wh_netd_client *client)
{
    wh_io_stop(&client->io);
    if (client->fd >= 0)
        close(WH_TAKE_FD(client->fd));
    /* Both together are never more than one channel's: asking needs room in both. */
    while (client->n_tokens > 0)
        client->lost[client->n_lost++] = client->tokens[--client->n_tokens];
    if (client->n_lost > 0)
        run_later(client);
}

static bool take_token(wh_netd_client *client, uint64_t token)
{
    for (size_t i = 0; i < client->n_tokens; i++) {
        if (client->tokens[i] == token) {
            client->tokens[i] = client->tokens[--client->n_tokens];
            return true;
        }
    }
    return false;
}

/* netd is trusted more than a guest, but a wrong length is still no reason to read past the end. */
static bool answer_ok(const wh_netd_answer *answer, size_t n)
{
    return n >= WH_NETD_ANSWER_BYTES(0) && answer->version == WH_NETD_VERSION && answer->rc <= 0 &&
           answer->n_addresses <= WH_NETD_ADDRESSES_MAX && n == WH_NETD_ANSWER_BYTES(answer->n_addresses);
}

static void on_ready(wh_io *io, uint32_t ready)
{
    (void)ready;
    wh_netd_client *client = io->user;
    for (int i = 0; i < 16 && !client->freed && client->fd >= 0; i++) {
        wh_netd_answer answer __attribute__((uninitialized));
        size_t n = 0;
        int fd = -1;
        int rc = wh_netd_recv(client->fd, &answer, sizeof(answer), &n, &fd);
        if (rc == -EAGAIN)
            return;
        if (rc <= 0) {
            drop_channel(client);
            return;
        }
        if (!answer_ok(&answer, n) || !take_token(client, answer.token)) {
            if (fd >= 0)
                close(fd);
            continue;
        }
        client->done(client->user, answer.token, &answer, fd);
    }
}

int wh_netd_client_set(wh_netd_client *client, int fd, wh_err *err)
{
    drop_channel(client);
    int rc = wh_io_start(client->loop, &client->io, fd, EPOLLIN, on_ready, client);
    if (rc < 0) {
        close(fd);
        return wh_fail(err, rc, "watch the channel to netd");
    }
    client->fd = fd;
    return 0;
}

int wh_netd_client_new(wh_loop *loop, int fd, wh_netd_done done, void *user, wh_netd_client **ret,
                       wh_err *err)
{
    wh_netd_client *client = wh_xnew(wh_netd_client);
    *client = (wh_netd_client){.loop = loop, .fd = -1, .done = done, .user = user};
    int rc = wh_netd_client_set(client, fd, err);
    if (rc < 0) {
        free(client);
        return rc;
    }
    *ret = client;
    return 0;
}

void wh_netd_client_free(wh_netd_client *client)
{
    if (client == NULL)
        return;
    client->n_tokens = client->n_lost = 0;
    client->freed = true;
    drop_channel(client);
    run_later(client);
}

int wh_netd_client_ask(wh_netd_client *client, const wh_netd_request *request)
{
    if (client->fd < 0)
        return -ENOTCONN;
    if (client->n_tokens + client->n_lost >= WH_NETD_IN_FLIGHT_MAX)
        return -EAGAIN;
    wh_netd_request copy = *request;
    copy.version = WH_NETD_VERSION;
    int rc = wh_netd_send(client->fd, &copy, sizeof(copy), -1);
    if (rc == -EPIPE || rc == -ECONNRESET)
        return -ENOTCONN; /* reading says the same, in a callback */
    if (rc < 0)
        return rc;
    client->tokens[client->n_tokens++] = request->token;
    return 0;
}
