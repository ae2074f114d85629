/* SPDX-License-Identifier: Apache-2.0 */
/* One keeper executes the next: the same process, so its children stay its children. What it knows goes
 * through a memfd, its descriptors through the exec. */
#include "base/file.h"
#include "base/log.h"
#include "base/record.h"
#include "keeper/message.h"
#include "keeper/server.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define STATE_BYTES_MAX (512UL << 20)
#define KEPT_BYTES_MAX (4UL << 20)

static void keep_fd(int fd, bool keep)
{
    if (fd >= 0)
        (void)fcntl(fd, F_SETFD, keep ? 0 : FD_CLOEXEC);
}

static void keep_all(const wh_keeper_server *server, bool keep)
{
    wh_keeper_client *client;
    keep_fd(server->lock_fd, keep);
    keep_fd(server->listen_fd, keep);
    keep_fd(server->dir_fd, keep);
    keep_fd(server->jail.mount_ns, keep);
    for (const wh_kept *kept = server->kept; kept != NULL; kept = kept->hh.next) {
        keep_fd(kept->pidfd, keep);
        keep_fd(kept->control, keep);
        if (kept->rest != NULL)
            wh_rest_each_fd(kept->rest, keep_fd, keep);
    }
    for (const wh_held *held = server->held; held != NULL; held = held->hh.next)
        keep_fd(held->fd, keep);
    LIST_FOREACH(client, &server->clients, link)
    {
        keep_fd(client->fd, keep && STAILQ_EMPTY(&client->backlog));
    }
}

static void put_kept(wh_buf *out, const wh_kept *kept)
{
    auto_buf wh_buf b;
    wh_buf_init(&b, KEPT_BYTES_MAX);
    wh_record_put_str(&b, "identity", kept->identity);
    wh_record_put_i64(&b, "control_in", kept->control_in);
    wh_record_put_i64(&b, "control", kept->control);
    wh_record_put_i64(&b, "pidfd", kept->pidfd);
    wh_record_put_i64(&b, "child", kept->child);
    wh_record_put_i64(&b, "idle_said", kept->idle_said);
    wh_record_put_i64(&b, "ending", kept->ending);
    wh_record_put_i64(&b, "sockets_at", kept->sockets_at);
    for (size_t i = 0; i < kept->n_sockets; i++)
        wh_record_put_str(&b, "socket", kept->sockets[i]->name);
    if (kept->rest != NULL)
        wh_rest_put(kept->rest, &b);
    wh_kept_put(kept, &b);
    wh_record_put(out, "kept", b.p, b.len);
    out->failed |= b.failed;
}

static void put_client(wh_buf *out, const wh_keeper_client *client, const wh_keeper_client *asker,
                       int64_t seq)
{
    auto_buf wh_buf b;
    wh_buf_init(&b, WH_RECORD_BYTES_MAX);
    wh_record_put_i64(&b, "fd", client->fd);
    wh_record_put_i64(&b, "watching", client->watching);
    wh_record_put_i64(&b, "tied", client->server->tied_to == client);
    if (client == asker)
        wh_record_put_i64(&b, "answer", seq);
    wh_record_put(out, "client", b.p, b.len);
}

static void put_state(const wh_keeper_server *server, const wh_keeper_client *asker, int64_t seq, wh_buf *out)
{
    wh_keeper_client *client;
    wh_record_put_i64(out, "lock_fd", server->lock_fd);
    wh_record_put_i64(out, "listen_fd", server->listen_fd);
    wh_record_put_i64(out, "dir_fd", server->dir_fd);
    wh_record_put_i64(out, "mount_ns", server->jail.mount_ns);
    wh_record_put_i64(out, "namespaces", server->jail.namespaces);
    wh_record_put_i64(out, "user_ns", server->jail.user_ns);
    wh_record_put_i64(out, "outer_uid", server->jail.outer_uid);
    wh_record_put_i64(out, "oom_score_adj", server->jail.oom_score_adj);
    wh_record_put_i64(out, "raised", server->jail.raised);
    for (const wh_held *held = server->held; held != NULL; held = held->hh.next) {
        wh_record_put_str(out, "held", held->name);
        wh_record_put_i64(out, "held_fd", held->fd);
    }
    for (const wh_kept *kept = server->kept; kept != NULL; kept = kept->hh.next)
        put_kept(out, kept);
    LIST_FOREACH(client, &server->clients, link)
    {
        if (STAILQ_EMPTY(&client->backlog))
            put_client(out, client, asker, seq);
    }
}

int wh_keeper_server_exec(wh_keeper_server *server, int program_fd, const wh_keeper_client *asker,
                          int64_t seq, wh_err *err)
{
    auto_buf wh_buf state;
    char number[16];
    wh_buf_init(&state, STATE_BYTES_MAX);
    put_state(server, asker, seq, &state);
    auto_close int fd = memfd_create("wherry-keeper", MFD_CLOEXEC);
    int rc = fd < 0 ? -errno : state.failed ? -ENOBUFS : wh_write_all(fd, state.p, state.len);
    if (rc < 0)
        return wh_fail(err, rc, "upgrade: write down the keeper's state");
    (void)snprintf(number, sizeof(number), "%d", fd);
    auto_strv wh_strv argv = NULL;
    wh_strv_push(&argv, "wherry-keeper");
    wh_strv_push(&argv, "--dir");
    wh_strv_push(&argv, server->dir);
    wh_strv_push(&argv, "--state");
    wh_strv_push(&argv, number);
    keep_fd(fd, true);
    keep_all(server, true);
    (void)syscall(SYS_execveat, program_fd, "", argv, environ, AT_EMPTY_PATH);
    rc = -errno;
    keep_all(server, false);
    return wh_fail(err, rc, "upgrade: execute the new keeper");
}

/* ------------------------------------------------------------------ in the new program */

static int take_rest(wh_keeper_server *server, const wh_field *of, wh_kept *kept, wh_err *err)
{
    wh_record_iter it = wh_record_begin(of->value.p, of->value.n);
    wh_field f;
    int rc = 0;
    while (rc == 0 && kept->rest == NULL && wh_record_next(&it, &f)) {
        if (wh_field_is(&f, "rest"))
            rc = wh_rest_take(&server->shared, f.value.p, f.value.n, &kept->rest, err);
    }
    return rc;
}

static int take_kept(wh_keeper_server *server, const wh_field *f, wh_err *err)
{
    wh_kept *kept = wh_xnew(wh_kept);
    kept->pidfd = kept->control = kept->control_in = kept->exit_code = -1;
    int rc = wh_kept_parse(f->value.p, f->value.n, kept, err);
    if (rc < 0) {
        kept->pidfd = kept->control = -1;
        wh_kept_free(kept);
        return rc;
    }
    keep_fd(kept->pidfd, false);
    keep_fd(kept->control, false);
    wh_kept_use(kept, server->held, f->value.p, f->value.n);
    if (take_rest(server, f, kept, err) < 0) {
        wh_kept_free(kept);
        return err->code;
    }
    rc = wh_keeper_server_adopt(server, kept);
    return rc < 0 ? wh_fail(err, rc, "watch container '%s'", kept->id) : 0;
}

static int take_held(wh_keeper_server *server, wh_str name, const wh_field *f, wh_err *err)
{
    auto_free char *text = wh_xstrndup(name.p, name.n);
    int64_t fd = -1;
    int rc = wh_field_i64(f, 0, INT32_MAX, &fd, err);
    return rc < 0 ? rc : wh_held_add(&server->held, text, (int)fd, err);
}

static int take_client(wh_keeper_server *server, const wh_field *f, wh_err *err)
{
    int64_t fd, watching = 0, tied = 0, seq;
    int rc = wh_record_get_i64(f->value.p, f->value.n, "fd", 0, INT32_MAX, &fd, err);
    if (rc == 0)
        rc = wh_record_get_i64(f->value.p, f->value.n, "watching", 0, 1, &watching, err);
    if (rc < 0)
        return rc;
    (void)wh_record_get_i64(f->value.p, f->value.n, "tied", 0, 1, &tied,
                            NULL); /* absent from an older keeper's */
    keep_fd((int)fd, false);
    wh_keeper_client *client = wh_keeper_client_add(server, (int)fd);
    if (client == NULL) {
        close((int)fd);
        return 0;
    }
    client->watching = watching != 0;
    if (tied != 0)
        server->tied_to = client;
    if (wh_record_get_i64(f->value.p, f->value.n, "answer", 0, INT64_MAX, &seq, NULL) == 0) {
        auto_buf wh_buf b;
        wh_buf_init(&b, WH_KEEPER_MESSAGE_MAX);
        wh_record_put_i64(&b, "seq", seq);
        wh_record_put_i64(&b, "rc", 0);
        wh_record_put_str(&b, "build", WH_VERSION);
        wh_keeper_client_send(client, &b);
    }
    return 0;
}

static int take_state(wh_keeper_server *server, const char *data, size_t n, wh_err *err)
{
    int64_t v[8];
    const char *keys[8] = {"lock_fd",    "listen_fd", "dir_fd",    "mount_ns",
                           "namespaces", "user_ns",   "outer_uid", "oom_score_adj"};
    for (size_t i = 0; i < WH_ARRAY_LEN(keys); i++) {
        int rc = wh_record_get_i64(data, n, keys[i], -1000, UINT32_MAX, &v[i], err);
        if (rc < 0)
            return rc;
    }
    int64_t raised = 0; /* absent from an older keeper's */
    (void)wh_record_get_i64(data, n, "raised", 0, 1, &raised, NULL);
    server->lock_fd = (int)v[0];
    server->listen_fd = (int)v[1];
    server->dir_fd = (int)v[2];
    server->jail = (wh_jail){.mount_ns = (int)v[3],
                             .namespaces = v[4] != 0,
                             .user_ns = v[5] != 0,
                             .raised = raised != 0,
                             .outer_uid = (uid_t)v[6],
                             .oom_score_adj = (int)v[7]};
    wh_record_iter it = wh_record_begin(data, n);
    wh_str held = {NULL, 0};
    wh_field f;
    int rc = 0;
    while (rc == 0 && wh_record_next(&it, &f)) {
        if (wh_field_is(&f, "held"))
            held = f.value;
        else if (wh_field_is(&f, "held_fd"))
            rc = take_held(server, held, &f, err);
        else if (wh_field_is(&f, "kept"))
            rc = take_kept(server, &f, err);
        else if (wh_field_is(&f, "client"))
            rc = take_client(server, &f, err);
    }
    return rc;
}

int wh_keeper_server_resume(wh_loop *loop, const char *dir, int state_fd, wh_keeper_server **ret, wh_err *err)
{
    auto_free char *data = NULL;
    auto_close int fd = state_fd;
    size_t n;
    if (lseek(fd, 0, SEEK_SET) < 0)
        return wh_fail(err, -errno, "read the earlier keeper's state");
    int rc = wh_read_fd(fd, STATE_BYTES_MAX, &data, &n, err);
    if (rc < 0)
        return rc;
    wh_keeper_server *server = wh_keeper_server_alloc(loop, dir);
    rc = take_state(server, data, n, err);
    keep_all(server, false);
    if (rc == 0)
        rc = wh_keeper_server_listen(server, err);
    if (rc < 0) {
        wh_keeper_server_free(server);
        return wh_wrap(err, "take over from the earlier keeper");
    }
    *ret = server;
    return 0;
}
