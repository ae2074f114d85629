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

/* ------------------------------------------------------------------ start */

typedef struct start {
    wh_launch launch;
    char *id;
    gid_t groups[WH_KEEPER_GROUPS_MAX];
    char *cgroups[WH_KEEPER_CGROUPS_MAX + 1];
    size_t n_cgroups;
    int fds[WH_KEEPER_FDS_MAX + 2];
} start;

static void start_done(start *s)
{
    free(s->id);
    for (size_t i = 0; i < s->n_cgroups; i++)
        free(s->cgroups[i]);
}

static int take_number(start *s, const wh_field *f, wh_err *err)
{
    wh_launch *l = &s->launch;
    int64_t v;
    int rc = -ENOENT;
    if (wh_field_is(f, "uid") && (rc = wh_field_i64(f, 0, UINT32_MAX - 1, &v, err)) == 0)
        l->uid = (uid_t)v;
    else if (wh_field_is(f, "gid") && (rc = wh_field_i64(f, 0, UINT32_MAX - 1, &v, err)) == 0)
        l->gid = (gid_t)v;
    else if (wh_field_is(f, "oom_score_adj") && (rc = wh_field_i64(f, -1000, 1000, &v, err)) == 0)
        l->oom_score_adj = (int)v;
    else if (wh_field_is(f, "rlimit_data") && (rc = wh_field_i64(f, 0, INT64_MAX, &v, err)) == 0)
        l->rlimit_data = (uint64_t)v;
    else if (wh_field_is(f, "nofile") && (rc = wh_field_i64(f, 0, 1 << 20, &v, err)) == 0)
        l->nofile = (uint64_t)v;
    else if (wh_field_is(f, "namespaces") && (rc = wh_field_i64(f, 0, 1, &v, err)) == 0)
        l->namespaces = v != 0;
    return rc == -ENOENT ? wh_fail(err, -EBADMSG, "start: field '%.*s' is not known.", WH_STR_ARG(f->key))
                         : rc;
}

static int take_field(start *s, const wh_field *f, wh_err *err)
{
    int64_t v;
    if (wh_field_is(f, "op") || wh_field_is(f, "seq"))
        return 0;
    if (wh_field_is(f, "id")) {
        free(s->id);
        s->id = wh_field_strdup(f);
        return s->id == NULL ? wh_fail(err, -EBADMSG, "'id' holds a NUL byte.") : 0;
    }
    if (wh_field_is(f, "group")) {
        if (s->launch.n_groups >= WH_KEEPER_GROUPS_MAX)
            return wh_fail(err, -E2BIG, "more than %d groups.", WH_KEEPER_GROUPS_MAX);
        int rc = wh_field_i64(f, 0, UINT32_MAX - 1, &v, err);
        if (rc == 0)
            s->groups[s->launch.n_groups++] = (gid_t)v;
        return rc;
    }
    if (wh_field_is(f, "cgroup")) {
        char *path = s->n_cgroups < WH_KEEPER_CGROUPS_MAX ? wh_field_strdup(f) : NULL;
        if (path == NULL)
            return wh_fail(err, -E2BIG, "more than %d control groups, or a NUL byte in one.",
                           WH_KEEPER_CGROUPS_MAX);
        s->cgroups[s->n_cgroups++] = path;
        return 0;
    }
    return take_number(s, f, err);
}

static int parse_start(request *r, start *s, wh_err *err)
{
    wh_record_iter it = wh_record_begin(r->data, r->n);
    wh_kept *kept;
    wh_field f;
    int rc = 0;
    while (rc == 0 && wh_record_next(&it, &f))
        rc = take_field(s, &f, err);
    if (rc < 0)
        return rc;
    if (s->id == NULL || !wh_kept_id_ok(s->id))
        return wh_fail(err, -EINVAL, "a container id has 1 to %d of [A-Za-z0-9._-] and begins with no dot.",
                       WH_KEEPER_ID_MAX);
    if (r->n_fds < 4)
        return wh_fail(err, -EINVAL, "start '%s': standard descriptors and program are required.", s->id);
    HASH_FIND_STR(r->server->kept, s->id, kept);
    if (kept != NULL)
        return wh_fail(err, -EEXIST, "container '%s' is there already%s.", s->id,
                       kept->exited ? ", and ended: reap it first" : "");
    if (HASH_COUNT(r->server->kept) >= WH_KEEPER_CONTAINERS_MAX)
        return wh_fail(err, -EAGAIN, "start '%s': the keeper has %d containers, which is its limit.", s->id,
                       WH_KEEPER_CONTAINERS_MAX);
    return 0;
}

static int launch(request *r, start *s, wh_kept *kept, wh_err *err)
{
    wh_launch *l = &s->launch;
    auto_close int theirs = -1;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return wh_fail(err, -errno, "make a control socket");
    kept->control = pair[0];
    theirs = pair[1];
    l->n_fds = r->n_fds - 1;
    memcpy(s->fds, r->fds, l->n_fds * sizeof(int));
    kept->control_in = (int)l->n_fds + 1;
    s->fds[l->n_fds++] = theirs;
    s->fds[l->n_fds++] = kept->control;
    l->fds = s->fds;
    l->exec_fd = r->fds[r->n_fds - 1];
    l->groups = s->groups;
    l->cgroup_procs = s->cgroups;
    kept->started = wh_real_now();
    return wh_launch_run(&r->server->jail, l, &kept->pid, &kept->pidfd, err);
}

static int on_start(request *r, wh_err *err)
{
    start s = {.id = NULL};
    wh_kept *kept = NULL;
    s.launch.uid = r->server->jail.outer_uid;
    s.launch.gid = getgid();
    s.launch.oom_score_adj = r->server->jail.oom_score_adj;
    int rc = parse_start(r, &s, err);
    if (rc == 0) {
        kept = wh_xnew(wh_kept);
        kept->pidfd = kept->control = kept->exit_code = -1;
        kept->child = true;
        kept->id = WH_TAKE(s.id);
        rc = launch(r, &s, kept, err);
    }
    start_done(&s);
    if (rc == 0 &&
        (rc = wh_kept_identify(kept->pidfd, kept->pid, kept->identity, sizeof(kept->identity))) < 0)
        rc = wh_fail(err, rc, "identify the process of container '%s'", kept->id);
    if (rc == 0)
        rc = wh_kept_save(r->server->dir_fd, kept, err);
    if (rc != 0) {
        if (kept != NULL && kept->pidfd >= 0) { /* running, but it could not be told to the next keeper */
            (void)syscall(SYS_pidfd_send_signal, kept->pidfd, SIGKILL, NULL, 0);
            wh_kept_forget(r->server->dir_fd, kept->id);
        }
        wh_kept_free(kept);
        return rc;
    }
    if ((rc = wh_keeper_server_adopt(r->server, kept)) < 0)
        return wh_fail(err, rc, "watch container '%s'", kept->id);
    wh_record_put_i64(&r->reply, "pid", kept->pid);
    wh_record_put_i64(&r->reply, "started", kept->started);
    return 0;
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
    return 0;
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
    HASH_DEL(r->server->kept, kept);
    wh_kept_free(kept);
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
    {"hello", on_hello}, {"start", on_start}, {"signal", on_signal},   {"send", on_send}, {"list", on_list},
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
