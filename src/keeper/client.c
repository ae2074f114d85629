/* SPDX-License-Identifier: Apache-2.0 */
/* The keeper's client: requests go out in order, answers come back in order, events in between. */
#include "base/file.h"
#include "keeper/keeper.h"
#include "keeper/message.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define HELLO_WAIT_MS 5000
#define KEEPER_MAGIC 0x6b63

typedef struct pending { /* a request: first not sent yet, then not answered yet */
    STAILQ_ENTRY(pending) link;
    int64_t seq;
    wh_keeper_done done;
    void (*each)(void *user, const wh_keeper_event *event);
    void *user;
    char *data; /* NULL once sent */
    size_t n;
    int *fds; /* duplicates, while it waits for room */
    size_t n_fds;
} pending;
STAILQ_HEAD(pending_list, pending);

struct wh_keeper {
    uint32_t magic;
    wh_loop *loop;
    int fd;
    wh_io io;
    wh_keeper_callbacks callbacks;
    struct pending_list unsent, sent;
    int64_t seq;
    bool lost, in_callback, freed;
};

static void pending_free(pending *p)
{
    for (size_t i = 0; i < p->n_fds; i++)
        close(p->fds[i]);
    free(p->fds);
    free(p->data);
    free(p);
}

static void free_list(struct pending_list *list)
{
    pending *p;
    while ((p = STAILQ_FIRST(list)) != NULL) {
        STAILQ_REMOVE_HEAD(list, link);
        pending_free(p);
    }
}

static void keeper_delete(void *user)
{
    wh_keeper *keeper = user;
    free_list(&keeper->unsent);
    free_list(&keeper->sent);
    keeper->magic = 0;
    free(keeper);
}

void wh_keeper_free(wh_keeper *keeper)
{
    if (keeper == NULL)
        return;
    wh_assert(keeper->magic == KEEPER_MAGIC);
    wh_assert(!keeper->freed);
    keeper->freed = true;
    wh_io_stop(&keeper->io);
    close(WH_TAKE_FD(keeper->fd));
    wh_loop_defer(keeper->loop, keeper_delete, keeper);
}

/* What was asked gets no answer any more: whoever asked may have to find out from the next keeper. */
static void fail_pending(struct pending_list *list, const wh_err *err)
{
    pending *p;
    while ((p = STAILQ_FIRST(list)) != NULL) {
        STAILQ_REMOVE_HEAD(list, link);
        if (p->done != NULL)
            p->done(p->user, -ECONNRESET, 0, err->msg);
        pending_free(p);
    }
}

static void lose(wh_keeper *keeper, int rc)
{
    wh_err err = {0};
    if (keeper->lost)
        return;
    keeper->lost = true;
    wh_io_stop(&keeper->io);
    (void)wh_fail(&err, rc == 0 ? -ECONNRESET : rc, "the connection to the keeper is lost");
    fail_pending(&keeper->sent, &err);
    fail_pending(&keeper->unsent, &err);
    if (keeper->callbacks.on_lost != NULL)
        keeper->callbacks.on_lost(keeper->callbacks.user, &err);
}

/* ------------------------------------------------------------------ what comes in */

static int64_t number(const wh_msg *msg, const char *key, int64_t otherwise)
{
    int64_t v;
    return wh_record_get_i64(msg->data, msg->n, key, INT64_MIN, INT64_MAX, &v, NULL) < 0 ? otherwise : v;
}

static void take_event(const wh_msg *msg, void (*each)(void *user, const wh_keeper_event *), void *user)
{
    auto_free char *id = NULL, *note = NULL, *error = NULL;
    if (each == NULL || wh_record_get_str(msg->data, msg->n, "id", &id, NULL) < 0)
        return;
    (void)wh_record_get_str(msg->data, msg->n, "note", &note, NULL);
    (void)wh_record_get_str(msg->data, msg->n, "error", &error, NULL);
    const wh_keeper_event event = {
        .id = id,
        .exited = number(msg, "exited", 0) != 0,
        .dormant = number(msg, "dormant", 0) != 0,
        .held = number(msg, "held", 0) != 0,
        .rests = number(msg, "wakes", -1) >= 0,
        .wakes = (unsigned)number(msg, "wakes", 0),
        .pid = (pid_t)number(msg, "pid", 0),
        .exit_code = (int)number(msg, "exit_code", -1),
        .signal = (int)number(msg, "signal", 0),
        .started = number(msg, "started", 0),
        .running = number(msg, "running", 0),
        .finished = number(msg, "finished", 0),
        .note = note,
        .error = error,
    };
    each(user, &event);
}

static void take_answer(wh_keeper *keeper, const wh_msg *msg, int64_t seq)
{
    pending *p = STAILQ_FIRST(&keeper->sent);
    auto_free char *error = NULL;
    int64_t rc;
    if (p == NULL || p->seq != seq) {
        lose(keeper, -EPROTO);
        return;
    }
    if (wh_record_get_i64(msg->data, msg->n, "rc", INT32_MIN, 0, &rc, NULL) < 0) {
        take_event(msg, p->each, p->user);
        return;
    }
    STAILQ_REMOVE_HEAD(&keeper->sent, link);
    (void)wh_record_get_str(msg->data, msg->n, "error", &error, NULL);
    if (p->done != NULL)
        p->done(p->user, (int)rc, (pid_t)number(msg, "pid", 0), error);
    pending_free(p);
}

static void send_unsent(wh_keeper *keeper);

static void on_ready(wh_io *io, uint32_t ready)
{
    wh_keeper *keeper = io->user;
    wh_msg msg;
    if ((ready & EPOLLOUT) != 0)
        send_unsent(keeper);
    /* Several at a time, but not for ever: others wait on this loop. */
    for (int i = 0; i < 32 && !keeper->freed && !keeper->lost; i++) {
        int rc = wh_msg_recv(keeper->fd, &msg);
        if (rc == -EAGAIN)
            return;
        if (rc <= 0) {
            lose(keeper, rc);
            return;
        }
        wh_msg_close_fds(&msg); /* a keeper sends none */
        int64_t seq = number(&msg, "seq", -1);
        if (seq >= 0)
            take_answer(keeper, &msg, seq);
        else
            take_event(&msg, keeper->callbacks.on_event, keeper->callbacks.user);
    }
}

/* ------------------------------------------------------------------ what goes out */

static void send_unsent(wh_keeper *keeper)
{
    pending *p;
    while ((p = STAILQ_FIRST(&keeper->unsent)) != NULL) {
        int rc = wh_msg_send(keeper->fd, p->data, p->n, p->fds, p->n_fds);
        if (rc == -EAGAIN) {
            wh_io_set(&keeper->io, EPOLLIN | EPOLLOUT);
            return;
        }
        if (rc < 0) /* reading says the same, in a callback that may free us */
            break;
        STAILQ_REMOVE_HEAD(&keeper->unsent, link);
        STAILQ_INSERT_TAIL(&keeper->sent, p, link);
        for (size_t i = 0; i < p->n_fds; i++)
            close(p->fds[i]);
        p->n_fds = 0;
        free(WH_TAKE(p->data));
    }
    wh_io_set(&keeper->io, EPOLLIN);
}

static int queue_fds(pending *p, const int *fds, size_t n_fds)
{
    p->fds = n_fds == 0 ? NULL : wh_xcalloc(n_fds, sizeof(int));
    for (; p->n_fds < n_fds; p->n_fds++) {
        p->fds[p->n_fds] = fcntl(fds[p->n_fds], F_DUPFD_CLOEXEC, 3);
        if (p->fds[p->n_fds] < 0)
            return -errno;
    }
    return 0;
}

static int request(wh_keeper *keeper, wh_buf *b, const int *fds, size_t n_fds, pending *p, wh_err *err)
{
    wh_assert(keeper->magic == KEEPER_MAGIC);
    p->seq = ++keeper->seq;
    wh_record_put_i64(b, "seq", p->seq);
    int rc = keeper->lost                                                               ? -ENOTCONN
             : b->failed || b->len > WH_KEEPER_MESSAGE_MAX || n_fds > WH_KEEPER_FDS_MAX ? -EMSGSIZE
             : !STAILQ_EMPTY(&keeper->unsent)                                           ? -EAGAIN
                                                                                        : 0;
    if (rc == 0)
        rc = wh_msg_send(keeper->fd, b->p, b->len, fds, n_fds);
    if (rc == 0) {
        STAILQ_INSERT_TAIL(&keeper->sent, p, link);
        return 0;
    }
    if (rc == -EAGAIN) {
        rc = queue_fds(p, fds, n_fds);
        p->n = b->len;
        p->data = wh_buf_take(b);
    }
    if (rc < 0) {
        pending_free(p);
        return wh_fail(err, rc, "ask the keeper");
    }
    STAILQ_INSERT_TAIL(&keeper->unsent, p, link);
    wh_io_set(&keeper->io, EPOLLIN | EPOLLOUT);
    return 0;
}

static pending *pending_new(wh_keeper_done done, void *user)
{
    pending *p = wh_xnew(pending);
    p->done = done;
    p->user = user;
    return p;
}

static void begin(wh_buf *b, const char *op, const char *id)
{
    wh_buf_init(b, WH_KEEPER_MESSAGE_MAX);
    wh_record_put_str(b, "op", op);
    wh_record_put_str(b, "id", id);
}

static int request_start(wh_keeper *keeper, const char *op, const wh_keeper_start *start, wh_keeper_done done,
                         void *user, wh_err *err)
{
    auto_buf wh_buf b;
    int fds[WH_KEEPER_FDS_MAX];
    if (start->n_fds + 1 > WH_KEEPER_FDS_MAX)
        return wh_fail(err, -E2BIG, "start container '%s': %zu descriptors, %d are allowed.", start->id,
                       start->n_fds, WH_KEEPER_FDS_MAX - 1);
    begin(&b, op, start->id);
    wh_record_put_i64(&b, "uid", start->uid);
    wh_record_put_i64(&b, "gid", start->gid);
    for (size_t i = 0; i < start->n_groups; i++)
        wh_record_put_i64(&b, "group", start->groups[i]);
    for (char *const *p = start->cgroup_procs; p != NULL && *p != NULL; p++)
        wh_record_put_str(&b, "cgroup", *p);
    wh_record_put_i64(&b, "oom_score_adj", start->oom_score_adj);
    wh_record_put_i64(&b, "rlimit_data", (int64_t)start->rlimit_data);
    wh_record_put_i64(&b, "nofile", (int64_t)start->nofile);
    wh_record_put_i64(&b, "namespaces", start->namespaces);
    wh_record_put_i64(&b, "rest", start->rest);
    for (size_t i = 0; i < start->n_sockets; i++)
        wh_record_put_str(&b, "socket", start->sockets[i]);
    for (size_t i = 0; i < start->n_open; i++) {
        auto_free char *text =
            wh_xasprintf("%zu:%c:%s", start->open[i].index, start->open[i].how, start->open[i].path);
        wh_record_put_str(&b, "open", text);
    }
    for (char *const *p = start->group_dirs; p != NULL && *p != NULL; p++)
        wh_record_put_str(&b, "group_dir", *p);
    for (char *const *p = start->group_settings; p != NULL && *p != NULL; p++)
        wh_record_put_str(&b, "group_set", *p);
    memcpy(fds, start->fds, start->n_fds * sizeof(int));
    fds[start->n_fds] = start->exec_fd;
    return request(keeper, &b, fds, start->n_fds + 1, pending_new(done, user), err);
}

int wh_keeper_start_runner(wh_keeper *keeper, const wh_keeper_start *start, wh_keeper_done done, void *user,
                           wh_err *err)
{
    return request_start(keeper, "start", start, done, user, err);
}

int wh_keeper_dormant(wh_keeper *keeper, const wh_keeper_start *start, wh_keeper_done done, void *user,
                      wh_err *err)
{
    return request_start(keeper, "dormant", start, done, user, err);
}

int wh_keeper_hold(wh_keeper *keeper, const char *name, int fd, wh_keeper_done done, void *user, wh_err *err)
{
    auto_buf wh_buf b;
    begin(&b, "hold", NULL);
    wh_record_put_str(&b, "name", name);
    return request(keeper, &b, &fd, fd >= 0, pending_new(done, user), err);
}

int wh_keeper_drop(wh_keeper *keeper, const char *name, wh_keeper_done done, void *user, wh_err *err)
{
    auto_buf wh_buf b;
    begin(&b, "drop", NULL);
    wh_record_put_str(&b, "name", name);
    return request(keeper, &b, NULL, 0, pending_new(done, user), err);
}

int wh_keeper_signal(wh_keeper *keeper, const char *id, int signo, wh_keeper_done done, void *user,
                     wh_err *err)
{
    auto_buf wh_buf b;
    begin(&b, "signal", id);
    wh_record_put_i64(&b, "signal", signo);
    return request(keeper, &b, NULL, 0, pending_new(done, user), err);
}

int wh_keeper_send(wh_keeper *keeper, const char *id, const void *message, size_t n, const int *fds,
                   size_t n_fds, wh_keeper_done done, void *user, wh_err *err)
{
    auto_buf wh_buf b;
    begin(&b, "send", id);
    wh_record_put(&b, "message", message, n);
    return request(keeper, &b, fds, n_fds, pending_new(done, user), err);
}

int wh_keeper_reap(wh_keeper *keeper, const char *id, wh_keeper_done done, void *user, wh_err *err)
{
    auto_buf wh_buf b;
    begin(&b, "reap", id);
    return request(keeper, &b, NULL, 0, pending_new(done, user), err);
}

int wh_keeper_tie(wh_keeper *keeper, wh_keeper_done done, void *user, wh_err *err)
{
    auto_buf wh_buf b;
    begin(&b, "tie", NULL);
    return request(keeper, &b, NULL, 0, pending_new(done, user), err);
}

int wh_keeper_list(wh_keeper *keeper, void (*each)(void *user, const wh_keeper_event *), wh_keeper_done done,
                   void *user, wh_err *err)
{
    auto_buf wh_buf b;
    pending *p = pending_new(done, user);
    p->each = each;
    begin(&b, "list", NULL);
    return request(keeper, &b, NULL, 0, p, err);
}

int wh_keeper_upgrade(wh_keeper *keeper, int program_fd, wh_keeper_done done, void *user, wh_err *err)
{
    auto_buf wh_buf b;
    begin(&b, "upgrade", NULL);
    return request(keeper, &b, &program_fd, 1, pending_new(done, user), err);
}

/* ------------------------------------------------------------------ connecting */

static int try_connect(const char *dir, int *ret, wh_err *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int n = snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/keeper.sock", dir);
    if (n < 0 || (size_t)n >= sizeof(addr.sun_path))
        return wh_fail(err, -ENAMETOOLONG, "socket '%s/keeper.sock': the path may have %zu bytes.", dir,
                       sizeof(addr.sun_path) - 1);
    auto_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
        return wh_fail(err, -errno, "connect to the keeper at '%s'", addr.sun_path);
    *ret = WH_TAKE_FD(fd);
    return 0;
}

/* Runs `program --dir DIR --background`, which returns when it listens. Its log is DIR/keeper.log. */
static int start_program(const char *dir, const char *program, wh_err *err)
{
    auto_free char *log = wh_path_join(dir, "keeper.log");
    char dir_arg[] = "--dir", background[] = "--background", name[] = "wherry-keeper";
    auto_free char *dir_copy = wh_xstrdup(dir);
    char *argv[] = {name, dir_arg, dir_copy, background, NULL}, *env[] = {NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int status = 0, rc = wh_mkdir_p(dir, 0700, err);
    if (rc < 0)
        return rc;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 2, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    rc = posix_spawn(&pid, program, &actions, NULL, argv, env);
    posix_spawn_file_actions_destroy(&actions);
    if (rc != 0)
        return wh_fail(err, -rc, "start '%s'", program);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (status != 0)
        return wh_fail(err, -EIO, "'%s' did not start; '%s' says why.", program, log);
    return 0;
}

/* A keeper of another version is found here, and not by a request that it does not understand. */
static int hello(int fd, wh_err *err)
{
    auto_buf wh_buf b;
    auto_free char *error = NULL;
    int64_t rc64;
    wh_msg msg;
    begin(&b, "hello", NULL);
    wh_record_put_i64(&b, "version", WH_KEEPER_VERSION);
    wh_record_put_i64(&b, "seq", 0);
    int rc = wh_msg_send(fd, b.p, b.len, NULL, 0);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (rc == 0)
        rc = poll(&p, 1, HELLO_WAIT_MS) == 1 ? wh_msg_recv(fd, &msg) : -ETIMEDOUT;
    if (rc <= 0)
        return wh_fail(err, rc == 0 ? -ECONNRESET : rc, "greet the keeper");
    wh_msg_close_fds(&msg);
    rc = wh_record_get_i64(msg.data, msg.n, "rc", INT32_MIN, 0, &rc64, err);
    if (rc < 0)
        return rc;
    if (rc64 < 0 && wh_record_get_str(msg.data, msg.n, "error", &error, NULL) == 0)
        return wh_fail(err, (int)rc64, "%.200s", error);
    auto_buf wh_buf watch;
    begin(&watch, "watch", NULL);
    wh_record_put_i64(&watch, "seq", 0);
    rc = wh_msg_send(fd, watch.p, watch.len, NULL, 0);
    if (rc == 0)
        rc = poll(&p, 1, HELLO_WAIT_MS) == 1 ? wh_msg_recv(fd, &msg) : -ETIMEDOUT;
    return rc <= 0 ? wh_fail(err, rc == 0 ? -ECONNRESET : rc, "watch the keeper") : 0;
}

static int connect_once(const char *dir, const char *program, int *ret, wh_err *err)
{
    auto_close int fd = -1;
    int rc = try_connect(dir, &fd, err);
    if ((rc == -ENOENT || rc == -ECONNREFUSED) && program != NULL) {
        rc = start_program(dir, program, err);
        if (rc == 0)
            rc = try_connect(dir, &fd, err);
    }
    if (rc == 0)
        rc = hello(fd, err);
    if (rc == 0)
        *ret = WH_TAKE_FD(fd);
    return rc;
}

int wh_keeper_connect(wh_loop *loop, const char *dir, const char *program,
                      const wh_keeper_callbacks *callbacks, wh_keeper **ret, wh_err *err)
{
    auto_close int fd = -1;
    int rc = -ECONNRESET;
    /* A keeper that is dying may still take a connection, and reset it, or have its lock for a moment more. */
    for (int attempt = 0; attempt < 5 && (rc == -ECONNRESET || rc == -EPIPE || rc == -ECONNREFUSED);
         attempt++) {
        if (attempt > 1)
            (void)usleep(5000);
        rc = connect_once(dir, program, &fd, err);
    }
    if (rc < 0)
        return rc;
    wh_keeper *keeper = wh_xnew(wh_keeper);
    keeper->magic = KEEPER_MAGIC;
    keeper->loop = loop;
    keeper->callbacks = *callbacks;
    STAILQ_INIT(&keeper->unsent);
    STAILQ_INIT(&keeper->sent);
    rc = wh_io_start(loop, &keeper->io, fd, EPOLLIN, on_ready, keeper);
    if (rc < 0) {
        free(keeper);
        return wh_fail(err, rc, "watch the keeper's socket");
    }
    keeper->fd = WH_TAKE_FD(fd);
    *ret = keeper;
    return 0;
}
