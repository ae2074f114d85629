/* SPDX-License-Identifier: Apache-2.0 */
/* Containers and connections. Requests are in request.c, the hand-over to a newer keeper in upgrade.c. */
#include "keeper/server.h"

#include "base/file.h"
#include "base/log.h"
#include "keeper/keeper.h"
#include "keeper/message.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#define SERVER_MAGIC 0x6b656570
#define REAP_WAIT_MAX (2 * WH_SEC)
#define REAP_POLL (20 * WH_MSEC)

struct wh_keeper_waiting {
    STAILQ_ENTRY(wh_keeper_waiting) link;
    size_t n;
    char data[];
};

/* ------------------------------------------------------------------ clients */

static void free_client(void *user)
{
    wh_keeper_client *client = user;
    struct wh_keeper_waiting *w;
    while ((w = STAILQ_FIRST(&client->backlog)) != NULL) {
        STAILQ_REMOVE_HEAD(&client->backlog, link);
        free(w);
    }
    free(client);
}

/* `wherry run` is gone, however: nothing of it may stay. */
static void end_with_client(wh_keeper_server *server)
{
    wh_kept *kept, *next;

    server->tied_to = NULL;
    HASH_ITER(hh, server->kept, kept, next)
    {
        if (kept->pidfd >= 0)
            (void)syscall(SYS_pidfd_send_signal, kept->pidfd, SIGKILL, NULL, 0);
    }
    wh_loop_stop(server->loop, 0);
}

void wh_keeper_client_close(wh_keeper_client *client)
{
    if (client->fd < 0)
        return;
    if (client->server->tied_to == client)
        end_with_client(client->server);
    wh_io_stop(&client->io);
    close(WH_TAKE_FD(client->fd));
    LIST_REMOVE(client, link);
    client->server->n_clients--;
    wh_loop_defer(client->server->loop, free_client, client);
}

void wh_keeper_client_send(wh_keeper_client *client, const wh_buf *message)
{
    if (client->fd < 0)
        return;
    int rc = message->failed ? -ENOBUFS : -EAGAIN;
    if (rc == -EAGAIN && STAILQ_EMPTY(&client->backlog))
        rc = wh_msg_send(client->fd, message->p, message->len, NULL, 0);
    if (rc == 0)
        return;
    struct wh_keeper_waiting *w = NULL;
    if (rc == -EAGAIN && client->backlog_bytes + message->len <= WH_KEEPER_BACKLOG_BYTES_MAX)
        w = malloc(sizeof(*w) + message->len);
    if (w == NULL) { /* it may connect again and list */
        wh_log(WARN, "client dropped: it does not take its messages", KV_INT("rc", rc));
        wh_keeper_client_close(client);
        return;
    }
    w->n = message->len;
    memcpy(w->data, message->p, message->len);
    STAILQ_INSERT_TAIL(&client->backlog, w, link);
    client->backlog_bytes += w->n;
    wh_io_set(&client->io, EPOLLIN | EPOLLOUT);
}

static void send_backlog(wh_keeper_client *client)
{
    struct wh_keeper_waiting *w;
    while ((w = STAILQ_FIRST(&client->backlog)) != NULL) {
        int rc = wh_msg_send(client->fd, w->data, w->n, NULL, 0);
        if (rc == -EAGAIN)
            return;
        if (rc < 0) {
            wh_keeper_client_close(client);
            return;
        }
        STAILQ_REMOVE_HEAD(&client->backlog, link);
        client->backlog_bytes -= w->n;
        free(w);
    }
    wh_io_set(&client->io, EPOLLIN);
}

static void on_client(wh_io *io, uint32_t ready)
{
    wh_keeper_client *client = io->user;
    wh_msg msg;
    if ((ready & EPOLLOUT) != 0)
        send_backlog(client);
    if (client->fd < 0 || (ready & ~(uint32_t)EPOLLOUT) == 0)
        return;
    int rc = wh_msg_recv(client->fd, &msg);
    if (rc == -EAGAIN)
        return;
    if (rc <= 0) {
        if (rc < 0)
            wh_log(WARN, "client dropped: malformed message", KV_INT("rc", rc));
        wh_keeper_client_close(client);
        return;
    }
    wh_keeper_request(client, msg.data, msg.n, msg.fds, msg.n_fds);
    wh_msg_close_fds(&msg);
}

wh_keeper_client *wh_keeper_client_add(wh_keeper_server *server, int fd)
{
    if (server->n_clients >= WH_KEEPER_CLIENTS_MAX)
        return NULL;
    wh_keeper_client *client = wh_xnew(wh_keeper_client);
    client->server = server;
    STAILQ_INIT(&client->backlog);
    if (wh_io_start(server->loop, &client->io, fd, EPOLLIN, on_client, client) < 0) {
        free(client);
        return NULL;
    }
    client->fd = fd;
    LIST_INSERT_HEAD(&server->clients, client, link);
    server->n_clients++;
    return client;
}

static void on_listen(wh_io *io, WH_UNUSED uint32_t ready)
{
    wh_keeper_server *server = io->user;
    struct ucred peer;
    socklen_t n = sizeof(peer);
    auto_close int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0 || peer.uid != geteuid()) {
        wh_log(WARN, "client refused: another user", KV_INT("uid", peer.uid));
        return;
    }
    if (wh_keeper_client_add(server, fd) != NULL)
        (void)WH_TAKE_FD(fd);
    else
        wh_log(WARN, "client refused: too many", KV_INT("clients", server->n_clients));
}

void wh_keeper_tell(wh_keeper_server *server, const wh_kept *kept, const char *what, const char *error)
{
    auto_buf wh_buf b;
    wh_keeper_client *client, *next;
    wh_buf_init(&b, WH_KEEPER_MESSAGE_MAX);
    wh_record_put_str(&b, "event", what);
    wh_kept_put(kept, &b);
    wh_record_put_str(&b, "error", error);
    for (client = LIST_FIRST(&server->clients); client != NULL; client = next) {
        next = LIST_NEXT(client, link);
        if (client->watching)
            wh_keeper_client_send(client, &b);
    }
}

/* ------------------------------------------------------------------ containers */

/* "op=running" and "op=idle" are all that a runner says. It is not trusted: lengths and numbers are checked, the rest
 * is ignored. */
static void take_message(wh_kept *kept, const wh_msg *msg)
{
    auto_free char *op = NULL, *note = NULL;
    int64_t start;
    if (wh_record_get_str(msg->data, msg->n, "op", &op, NULL) < 0)
        return;
    kept->idle_said |= wh_streq(op, "idle");
    if (kept->running > 0 || !wh_streq(op, "running") ||
        wh_record_get_i64(msg->data, msg->n, "start", 1, INT64_MAX, &start, NULL) < 0)
        return;
    if (wh_record_get_str(msg->data, msg->n, "sandbox", &note, NULL) == 0 && strlen(note) < 256 &&
        wh_utf8_valid(note, strlen(note))) {
        free(kept->note);
        kept->note = WH_TAKE(note);
    }
    kept->running = start;
    (void)wh_kept_save_running(kept->server->dir_fd, kept);
    wh_keeper_tell(kept->server, kept, "running", NULL);
}

static void drain_control(wh_kept *kept)
{
    wh_msg msg;
    /* A runner that floods us is read a little at a time. */
    for (int i = 0; kept->control >= 0 && i < 8; i++) {
        int rc = wh_msg_recv(kept->control, &msg);
        if (rc == -EAGAIN)
            return;
        if (rc == 1) {
            take_message(kept, &msg);
            wh_msg_close_fds(&msg);
            continue;
        }
        wh_io_stop(&kept->control_io);
        close(WH_TAKE_FD(kept->control));
    }
}

static void on_control(wh_io *io, WH_UNUSED uint32_t ready)
{
    drain_control(io->user);
}

static void on_ended(wh_kept *kept, int exit_code, int signo)
{
    drain_control(kept);
    wh_io_stop(&kept->pid_io);
    wh_io_stop(&kept->control_io);
    wh_timer_stop(&kept->reap_timer);
    if (kept->control >= 0)
        close(WH_TAKE_FD(kept->control));
    close(WH_TAKE_FD(kept->pidfd));
    if (kept->rest != NULL && kept->idle_said && !kept->ending && exit_code == 0) {
        (void)wh_keeper_go_dormant(kept);
        return;
    }
    wh_rest_free(WH_TAKE(kept->rest));
    kept->exited = true;
    kept->exit_code = exit_code;
    kept->signal = signo;
    kept->finished = wh_real_now();
    int rc = wh_kept_save_end(kept->server->dir_fd, kept);
    if (rc < 0)
        wh_log(ERROR, "exit not recorded on disk", KV_STR("id", kept->id), KV_INT("rc", rc));
    wh_keeper_tell(kept->server, kept, "exit", NULL);
}

/* linux/pidfd.h of 6.15. */
struct pidfd_info_ {
    uint64_t mask, cgroup_id;
    uint32_t pid, tgid, ppid, ids[8];
    int32_t exit_code;
};
#define PIDFD_INFO_EXIT_ (1U << 3)
#define PIDFD_GET_INFO_ _IOWR(0xFF, 11, struct pidfd_info_)

/* How somebody else's child ended: known once its parent took note, where the kernel is new enough. */
static bool end_of_stranger(const wh_kept *kept, int *ret_code, int *ret_signal)
{
    struct pidfd_info_ info = {.mask = PIDFD_INFO_EXIT_};
    if (ioctl(kept->pidfd, PIDFD_GET_INFO_, &info) < 0 || (info.mask & PIDFD_INFO_EXIT_) == 0)
        return false;
    *ret_signal = info.exit_code & 0x7f;
    *ret_code = *ret_signal != 0 ? -1 : (info.exit_code >> 8) & 0xff;
    return true;
}

static void on_reap_timer(wh_timer *timer)
{
    wh_kept *kept = timer->user;
    int code = -1, signo = 0;
    if (end_of_stranger(kept, &code, &signo) || wh_real_now() - kept->finished > REAP_WAIT_MAX)
        on_ended(kept, code, signo);
    else
        wh_timer_start(kept->server->loop, timer, REAP_POLL, on_reap_timer, kept);
}

static void on_pidfd(wh_io *io, WH_UNUSED uint32_t ready)
{
    wh_kept *kept = io->user;
    siginfo_t info = {.si_pid = 0};
    int code = -1, signo = 0;
    if (kept->child) {
        int rc = waitid(P_PIDFD, (id_t)kept->pidfd, &info, WEXITED | WNOHANG);
        if (rc == 0 && info.si_pid == 0)
            return;
        if (rc == 0 && info.si_code == CLD_EXITED)
            code = info.si_status;
        else if (rc == 0)
            signo = info.si_status;
        on_ended(kept, code, signo);
        return;
    }
    if (end_of_stranger(kept, &code, &signo)) {
        on_ended(kept, code, signo);
        return;
    }
    wh_io_stop(&kept->pid_io);
    kept->finished = wh_real_now(); /* until it is exited: since when we wait for its parent */
    wh_timer_start(kept->server->loop, &kept->reap_timer, REAP_POLL, on_reap_timer, kept);
}

int wh_keeper_server_watch(wh_kept *kept)
{
    wh_loop *loop = kept->server->loop;
    int rc = wh_io_start(loop, &kept->pid_io, kept->pidfd, EPOLLIN, on_pidfd, kept);
    if (rc == 0 && kept->control >= 0)
        rc = wh_io_start(loop, &kept->control_io, kept->control, EPOLLIN, on_control, kept);
    return rc;
}

int wh_keeper_server_adopt(wh_keeper_server *server, wh_kept *kept)
{
    kept->server = server;
    HASH_ADD_KEYPTR(hh, server->kept, kept->id, strlen(kept->id), kept);
    if (kept->dormant)
        wh_keeper_arm_again(kept);
    return kept->exited || kept->dormant ? 0 : wh_keeper_server_watch(kept);
}

void wh_keeper_server_remove(wh_keeper_server *server, wh_kept *kept)
{
    HASH_DEL(server->kept, kept);
    wh_kept_free(kept);
}

static void load_one(wh_keeper_server *server, const char *id)
{
    wh_kept *kept;
    wh_err err = {0};
    if (!wh_kept_id_ok(id))
        return;
    int rc = wh_kept_load(server->dir_fd, id, &server->held, &kept, &err);
    if (rc < 0) {
        wh_log(WARN, "state of a container is not usable", KV_STR("id", id), KV_ERR(&err));
        if (rc == -EBADMSG) /* its start was never answered */
            wh_kept_forget(server->dir_fd, id);
        return;
    }
    if (wh_keeper_server_adopt(server, kept) < 0)
        wh_log(ERROR, "container cannot be watched", KV_STR("id", id));
}

static int load_all(wh_keeper_server *server, wh_err *err)
{
    auto_close int copy = fcntl(server->dir_fd, F_DUPFD_CLOEXEC, 0);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (dir == NULL)
        return wh_fail(err, -errno, "list '%s/containers'", server->dir);
    (void)WH_TAKE_FD(copy);
    for (struct dirent *e; (e = readdir(dir)) != NULL;)
        load_one(server, e->d_name);
    closedir(dir);
    return 0;
}

/* ------------------------------------------------------------------ life */

static int open_socket(wh_keeper_server *server, wh_err *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int n = snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/keeper.sock", server->dir);
    if (n < 0 || (size_t)n >= sizeof(addr.sun_path))
        return wh_fail(err, -ENAMETOOLONG, "socket '%s/keeper.sock': the path may have %zu bytes.",
                       server->dir, sizeof(addr.sun_path) - 1);
    (void)unlink(addr.sun_path); /* we hold the lock: nobody listens there */
    server->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (server->listen_fd < 0 || fchmod(server->listen_fd, 0600) < 0 ||
        bind(server->listen_fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
        listen(server->listen_fd, 64) < 0)
        return wh_fail(err, -errno, "listen on '%s'", addr.sun_path);
    return 0;
}

static int open_dir(wh_keeper_server *server, wh_err *err)
{
    auto_free char *containers = wh_path_join(server->dir, "containers"),
                   *lock = wh_path_join(server->dir, "keeper.lock");
    int rc = wh_mkdir_p(containers, 0700, err);
    if (rc < 0)
        return rc;
    server->dir_fd = open(containers, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    server->lock_fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (server->dir_fd < 0 || server->lock_fd < 0)
        return wh_fail(err, -errno, "open '%s'", server->dir);
    if (flock(server->lock_fd, LOCK_EX | LOCK_NB) < 0)
        return wh_fail(err, -EALREADY, "another keeper has '%s'.", server->dir);
    /* Its pid is for people and scripts. */
    if (ftruncate(server->lock_fd, 0) < 0 || dprintf(server->lock_fd, "%d\n", (int)getpid()) < 0)
        return wh_fail(err, -errno, "write '%s'", lock);
    return 0;
}

wh_keeper_server *wh_keeper_server_alloc(wh_loop *loop, const char *dir)
{
    wh_keeper_server *server = wh_xnew(wh_keeper_server);
    server->magic = SERVER_MAGIC;
    server->loop = loop;
    server->dir = wh_xstrdup(dir);
    server->lock_fd = server->listen_fd = server->dir_fd = server->jail.mount_ns = -1;
    LIST_INIT(&server->clients);
    return server;
}

int wh_keeper_server_listen(wh_keeper_server *server, wh_err *err)
{
    int rc = wh_io_start(server->loop, &server->listen_io, server->listen_fd, EPOLLIN, on_listen, server);
    return rc < 0 ? wh_fail(err, rc, "watch the keeper's socket") : 0;
}

int wh_keeper_server_new(wh_loop *loop, const char *dir, const wh_jail *jail, wh_keeper_server **ret,
                         wh_err *err)
{
    wh_keeper_server *server = wh_keeper_server_alloc(loop, dir);
    server->jail = *jail;
    int rc = open_dir(server, err);
    if (rc == 0)
        rc = open_socket(server, err);
    if (rc == 0)
        rc = load_all(server, err);
    if (rc == 0)
        rc = wh_keeper_server_listen(server, err);
    if (rc < 0) {
        wh_keeper_server_free(server);
        return rc;
    }
    *ret = server;
    return 0;
}

void wh_keeper_server_free(wh_keeper_server *server)
{
    if (server == NULL)
        return;
    wh_assert(server->magic == SERVER_MAGIC);
    wh_kept *kept, *next;
    while (!LIST_EMPTY(&server->clients))
        wh_keeper_client_close(LIST_FIRST(&server->clients));
    HASH_ITER(hh, server->kept, kept, next)
    {
        wh_keeper_server_remove(server, kept);
    }
    wh_held_free_all(&server->held);
    wh_io_stop(&server->listen_io);
    if (server->listen_fd >= 0)
        close(server->listen_fd);
    if (server->lock_fd >= 0)
        close(server->lock_fd);
    if (server->dir_fd >= 0)
        close(server->dir_fd);
    free(server->dir);
    free(server);
}
