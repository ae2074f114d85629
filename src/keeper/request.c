/* SPDX-License-Identifier: Apache-2.0 */
/* The requests of the keeper's protocol (keeper.h), one function each. */
#include "keeper/keeper.h"
#include "keeper/message.h"
#include "keeper/server.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>

typedef struct request {
    wh_keeper_server *server;
    wh_keeper_client *client;
    const void *data;
    size_t n;
    int *fds;
    size_t n_fds;
    int64_t seq;
    wh_buf reply; /* fields beside seq, rc and error */
} request;

static int find(const request *r, wh_kept **ret, wh_err *err)
{
    auto_free char *id = NULL;
    wh_kept *kept;
    int rc = wh_record_get_str(r->data, r->n, "id", &id, err);
    if (rc < 0)
        return rc;
    HASH_FIND_STR(r->server->kept, id, kept);
    if (kept == NULL)
        return wh_fail(err, -ENOENT, "container '%.127s' is not known to the keeper.", id);
    *ret = kept;
    return 0;
}

static int on_hello(request *r, wh_err *err)
{
    const wh_jail *jail = &r->server->jail;
    int64_t version;
    int rc = wh_record_get_i64(r->data, r->n, "version", 1, INT32_MAX, &version, err);
    if (rc < 0)
        return rc;
    if (version != WH_KEEPER_VERSION)
        return wh_fail(err, -EPROTO, "the keeper speaks version %d, the client %lld: upgrade the older one.",
                       WH_KEEPER_VERSION, (long long)version);
    wh_record_put_i64(&r->reply, "version", WH_KEEPER_VERSION);
    wh_record_put_i64(&r->reply, "pid", getpid());
    wh_record_put_str(&r->reply, "build", WH_VERSION);
    wh_record_put_str(&r->reply, "namespaces", !jail->namespaces ? "none" : jail->user_ns ? "user" : "own");
    wh_record_put_i64(&r->reply, "containers", HASH_COUNT(r->server->kept));
    return 0;
}

static int start(request *r, bool dormant, wh_err *err)
{
    wh_kept *kept = NULL;
    int rc = wh_keeper_start_message(r->server, r->data, r->n, r->fds, r->n_fds, dormant, &kept, err);
    if (rc < 0)
        return rc;
    wh_record_put_i64(&r->reply, "pid", kept->pid);
    wh_record_put_i64(&r->reply, "started", kept->started);
    return 0;
}

static int on_start(request *r, wh_err *err)
{
    return start(r, false, err);
}

static int on_dormant(request *r, wh_err *err)
{
    return start(r, true, err);
}

/* ------------------------------------------------------------------ the others */

static int on_signal(request *r, wh_err *err)
{
    wh_kept *kept = NULL;
    int64_t signo = 0;
    int rc = find(r, &kept, err);
    if (rc == 0)
        rc = wh_record_get_i64(r->data, r->n, "signal", 1, 64, &signo, err);
    if (rc < 0)
        return rc;
    if (kept->dormant) {
        wh_keeper_end_dormant(kept);
        return 0;
    }
    kept->ending = true; /* also when it asks to rest at this moment */
    if (kept->exited || syscall(SYS_pidfd_send_signal, kept->pidfd, (int)signo, NULL, 0) < 0)
        return wh_fail(err, kept->exited ? -ESRCH : -errno, "signal %d to container '%s'", (int)signo,
                       kept->id);
    return 0;
}

static int on_send(request *r, wh_err *err)
{
    wh_record_iter it = wh_record_begin(r->data, r->n);
    wh_field f, message = {.value = {NULL, 0}};
    wh_kept *kept;
    int rc = find(r, &kept, err);
    if (rc < 0)
        return rc;
    while (wh_record_next(&it, &f)) {
        if (wh_field_is(&f, "message"))
            message = f;
    }
    if (message.value.n == 0 || message.value.n > WH_KEEPER_SEND_BYTES_MAX)
        return wh_fail(err, -EMSGSIZE, "a message to a runner has 1 to %d bytes.", WH_KEEPER_SEND_BYTES_MAX);
    if (kept->exited || kept->control < 0)
        return wh_fail(err, -ENOTCONN, "container '%s' has no control socket%s.", kept->id,
                       kept->exited ? " any more" : " since the keeper was started anew");
    rc = wh_msg_send(kept->control, message.value.p, message.value.n, r->fds, r->n_fds);
    if (rc == 0 && syscall(SYS_pidfd_send_signal, kept->pidfd, SIGUSR1, NULL, 0) < 0)
        rc = -errno;
    return rc < 0 ? wh_fail(err, rc, "message to container '%s'", kept->id) : 0;
}

static int on_list(request *r, WH_UNUSED wh_err *err)
{
    wh_kept *kept, *next;
    HASH_ITER(hh, r->server->kept, kept, next)
    {
        auto_buf wh_buf b;
        wh_buf_init(&b, WH_KEEPER_MESSAGE_MAX);
        wh_record_put_i64(&b, "seq", r->seq);
        wh_kept_put(kept, &b);
        wh_keeper_client_send(r->client, &b);
    }
    wh_held *held, *next_held;
    HASH_ITER(hh, r->server->held, held, next_held)
    {
        auto_buf wh_buf b;
        wh_buf_init(&b, WH_KEEPER_MESSAGE_MAX);
        wh_record_put_i64(&b, "seq", r->seq);
        wh_record_put_str(&b, "id", held->name);
        wh_record_put_i64(&b, "held", 1);
        wh_keeper_client_send(r->client, &b);
    }
    return 0;
}

static int on_hold(request *r, wh_err *err)
{
    auto_free char *name = NULL;
    int rc = wh_record_get_str(r->data, r->n, "name", &name, err);
    if (rc < 0)
        return rc;
    if (r->n_fds == 0)
        return wh_held_find(r->server->held, name) != NULL
                   ? 0
                   : wh_fail(err, -ENOENT, "nothing is held as '%.191s'.", name);
    rc = wh_held_add(&r->server->held, name, r->fds[0], err);
    if (rc == 0)
        r->fds[0] = -1;
    return rc;
}

static int on_drop(request *r, wh_err *err)
{
    auto_free char *name = NULL;
    int rc = wh_record_get_str(r->data, r->n, "name", &name, err);
    return rc < 0 ? rc : wh_held_drop(&r->server->held, name, err);
}

static int on_reap(request *r, wh_err *err)
{
    wh_kept *kept;
    int rc = find(r, &kept, err);
    if (rc < 0)
        return rc;
    if (!kept->exited)
        return wh_fail(err, -EBUSY, "container '%s' runs.", kept->id);
    wh_kept_forget(r->server->dir_fd, kept->id);
    wh_keeper_server_remove(r->server, kept);
    return 0;
}

static int on_watch(request *r, WH_UNUSED wh_err *err)
{
    r->client->watching = true;
    return 0;
}

static int on_tie(request *r, WH_UNUSED wh_err *err)
{
    r->server->tied_to = r->client;
    return 0;
}

static int on_upgrade(request *r, wh_err *err)
{
    if (r->n_fds != 1)
        return wh_fail(err, -EINVAL, "upgrade: the descriptor of the new program is required.");
    return wh_keeper_server_exec(r->server, r->fds[0], r->client, r->seq, err);
}

static const struct {
    const char *op;
    int (*fn)(request *r, wh_err *err);
} requests[] = {
    {"hello", on_hello}, {"start", on_start}, {"dormant", on_dormant}, {"signal", on_signal},
    {"send", on_send},   {"list", on_list},   {"hold", on_hold},       {"drop", on_drop},
    {"reap", on_reap},   {"watch", on_watch}, {"upgrade", on_upgrade}, {"tie", on_tie},
};

static int dispatch(request *r, wh_err *err)
{
    auto_free char *op = NULL;
    int rc = wh_record_get_i64(r->data, r->n, "seq", 0, INT64_MAX, &r->seq, err);
    if (rc == 0)
        rc = wh_record_get_str(r->data, r->n, "op", &op, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < WH_ARRAY_LEN(requests); i++) {
        if (wh_streq(op, requests[i].op))
            return requests[i].fn(r, err);
    }
    return wh_fail(err, -EOPNOTSUPP, "operation '%.32s' is not known to this keeper (" WH_VERSION ").", op);
}

void wh_keeper_request(wh_keeper_client *client, const void *data, size_t n, int *fds, size_t n_fds)
{
    request r = {
        .server = client->server, .client = client, .data = data, .n = n, .fds = fds, .n_fds = n_fds};
    wh_err err = {0};
    auto_buf wh_buf answer;
    wh_buf_init(&r.reply, WH_KEEPER_MESSAGE_MAX / 2);
    wh_buf_init(&answer, WH_KEEPER_MESSAGE_MAX);
    int rc = dispatch(&r, &err);
    wh_record_put_i64(&answer, "seq", r.seq);
    wh_record_put_i64(&answer, "rc", rc);
    wh_record_put_str(&answer, "error", rc < 0 ? err.msg : NULL);
    if (rc == 0 && r.reply.len > 0)
        (void)wh_buf_append(&answer, r.reply.p, r.reply.len);
    wh_keeper_client_send(client, &answer);
    wh_buf_done(&r.reply);
}
