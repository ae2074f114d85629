/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's end of netd: starts it or finds the one that runs, and says pods. */
#include "netd/protocol.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define HELLO_MS 10000 /* a process is started on a machine that may be busy */
#define ANSWER_MS 1000
#define END_MS 1000

struct wh_netd {
    wh_loop *loop;
    wh_netd_options options;
    char *socket_path;
    wh_child child; /* pid 0: another agent started it */
    wh_io io;
    int fd; /* -1 once it is gone */
    int64_t seq;
    char *buffer;
    bool serving; /* was started; before that a failure is the caller's answer */
    bool freed, telling;
};

static void take_event(wh_netd *netd, const void *data, size_t n)
{
    auto_free char *pod = NULL, *target = NULL, *reason = NULL;
    int64_t left_out = 0;
    if (wh_record_get_str(data, n, "pod", &pod, NULL) < 0 ||
        wh_record_get_str(data, n, "target", &target, NULL) < 0 ||
        wh_record_get_str(data, n, "reason", &reason, NULL) < 0)
        return;
    (void)wh_record_get_i64(data, n, "left_out", 0, INT64_MAX, &left_out, NULL);
    if (netd->options.on_refused != NULL && !netd->freed)
        netd->options.on_refused(netd->options.user, pod, target, reason, left_out);
}

static void tell_lost(void *user)
{
    wh_netd *netd = user;
    netd->telling = false;
    if (netd->freed)
        free(netd);
    else if (netd->options.on_lost != NULL)
        netd->options.on_lost(netd->options.user);
}

static void lose(wh_netd *netd)
{
    wh_io_stop(&netd->io);
    if (netd->fd >= 0)
        close(WH_TAKE_FD(netd->fd));
    if (!netd->serving)
        return;
    netd->serving = false;
    netd->telling = true;
    wh_loop_defer(netd->loop, tell_lost, netd);
}

/* One message: an answer with `seq` is 1, anything else -EAGAIN. */
static int take_message(wh_netd *netd, int64_t seq, size_t *ret_n, int *ret_fd)
{
    size_t n = 0;
    auto_close int fd = -1;
    int64_t got = -1;
    int rc = wh_netd_recv(netd->fd, netd->buffer, WH_NETD_MESSAGE_MAX, &n, &fd);
    if (rc <= 0)
        return rc == 0 ? -ENOTCONN : rc;
    if (wh_record_check(netd->buffer, n, NULL) < 0)
        return -EBADMSG;
    if (wh_record_get_i64(netd->buffer, n, "seq", 0, INT64_MAX, &got, NULL) < 0) {
        take_event(netd, netd->buffer, n);
        return -EINTR;
    }
    if (got != seq)
        return -EINTR; /* an answer that came too late */
    *ret_n = n;
    if (ret_fd != NULL)
        *ret_fd = WH_TAKE_FD(fd);
    return 1;
}

static void on_ready(wh_io *io, uint32_t ready)
{
    (void)ready;
    wh_netd *netd = io->user;
    int rc = -EINTR;
    for (int i = 0; i < 32 && rc == -EINTR && !netd->freed && netd->fd >= 0; i++) {
        size_t n;
        rc = take_message(netd, -1, &n, NULL);
    }
    if (rc != -EAGAIN && rc != -EINTR && !netd->freed)
        lose(netd);
}

static int wait_answer(wh_netd *netd, int64_t seq, int ms, size_t *ret_n, int *ret_fd)
{
    wh_time end = wh_mono_now() + ms * WH_MSEC;
    for (;;) {
        int rc = take_message(netd, seq, ret_n, ret_fd);
        if (rc != -EAGAIN && rc != -EINTR)
            return rc;
        wh_time left = end - wh_mono_now();
        if (left <= 0)
            return -ETIMEDOUT;
        struct pollfd p = {.fd = netd->fd, .events = POLLIN};
        if (rc == -EAGAIN && poll(&p, 1, (int)(left / WH_MSEC) + 1) < 0 && errno != EINTR)
            return -errno;
    }
}

/* Waits for the answer. ret_fd may be NULL. */
static int call(wh_netd *netd, wh_buf *b, int fd, int ms, int *ret_fd, wh_err *err)
{
    auto_free char *error = NULL;
    size_t n = 0;
    int64_t answered = 0, seq = ++netd->seq;
    wh_record_put_i64(b, "seq", seq);
    if (netd->fd < 0)
        return wh_fail(err, -ENOTCONN, "ask netd");
    if (b->failed || b->len > WH_NETD_MESSAGE_MAX)
        return wh_fail(err, -E2BIG, "ask netd: more than %lu bytes of rules.", WH_NETD_MESSAGE_MAX);
    int rc = wh_netd_send(netd->fd, b->p, b->len, fd);
    if (rc == 0)
        rc = wait_answer(netd, seq, ms, &n, ret_fd);
    if (rc < 0) {
        if (rc != -ETIMEDOUT)
            lose(netd);
        return wh_fail(err, rc, "ask netd");
    }
    rc = wh_record_get_i64(netd->buffer, n, "rc", INT32_MIN, 0, &answered, err);
    if (rc < 0 || answered == 0)
        return rc;
    if (wh_record_get_str(netd->buffer, n, "error", &error, NULL) < 0)
        return wh_fail(err, (int)answered, "netd");
    return wh_fail(err, (int)answered, "%.200s%s", error, strchr(error, ':') == NULL ? "." : "");
}

static void begin(wh_buf *b, const char *op, const char *id)
{
    wh_buf_init(b, WH_NETD_MESSAGE_MAX + 1024);
    wh_record_put_str(b, "op", op);
    wh_record_put_str(b, "id", id);
}

/* ------------------------------------------------------------------ starting */

static void on_child(wh_child *child, int code, int status)
{
    (void)code;
    (void)status;
    wh_child_done(child); /* the end of the channel says the same */
}

static void put_node(wh_buf *b, const wh_addr *addresses, size_t n)
{
    char text[WH_ADDR_TEXT_MAX];
    for (size_t i = 0; i < n; i++)
        wh_record_put_str(b, "node", wh_addr_text(&addresses[i], text));
}

static int hello(wh_netd *netd, int fd, wh_err *err)
{
    auto_buf wh_buf b;
    netd->fd = fd;
    begin(&b, "hello", NULL);
    wh_record_put_i64(&b, "version", WH_NETD_VERSION);
    put_node(&b, netd->options.node_addresses, netd->options.n_node_addresses);
    int rc = call(netd, &b, -1, HELLO_MS, NULL, err);
    if (rc == 0)
        rc = wh_io_start(netd->loop, &netd->io, netd->fd, EPOLLIN, on_ready, netd);
    return rc;
}

static int socket_address(const char *path, struct sockaddr_un *ret)
{
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    int n = snprintf(ret->sun_path, sizeof(ret->sun_path), "%s", path);
    return n < 0 || (size_t)n >= sizeof(ret->sun_path) ? -ENAMETOOLONG : 0;
}

/* The netd that an earlier agent left. It takes the newest agent only, so ours is the one that it hears. */
static int find_running(wh_netd *netd)
{
    struct sockaddr_un addr;
    int rc = socket_address(netd->socket_path, &addr);
    auto_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (rc < 0 || fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
        return rc < 0 ? rc : -errno;
    rc = hello(netd, WH_TAKE_FD(fd), NULL);
    if (rc < 0) {
        wh_io_stop(&netd->io);
        if (netd->fd >= 0)
            close(WH_TAKE_FD(netd->fd));
    }
    return rc;
}

static int open_listener(const char *path, int *ret, wh_err *err)
{
    struct sockaddr_un addr;
    int rc = socket_address(path, &addr);
    if (rc < 0)
        return wh_fail(err, rc, "socket '%s'", path);
    auto_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    (void)unlink(path); /* nobody answers there, as we have just seen */
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || chmod(path, 0600) < 0 ||
        listen(fd, 8) < 0)
        return wh_fail(err, -errno, "socket '%s'", path);
    *ret = WH_TAKE_FD(fd);
    return 0;
}

static int start_program(wh_netd *netd, wh_err *err)
{
    const wh_netd_options *o = &netd->options;
    auto_close int listener = -1;
    int pair[2];
    char uid[16], agent[16];
    char name[] = "wherry-netd", opt_uid[] = "--uid", opt_agent[] = "--agent", opt_ns[] = "--namespace",
         opt_ports[] = "--ports", opt_listener[] = "--listener";
    char *argv[9] = {name, opt_agent, agent}, *env[] = {NULL};
    size_t n = 3;
    (void)snprintf(agent, sizeof(agent), "%u", geteuid());
    (void)snprintf(uid, sizeof(uid), "%u", o->uid);
    if (geteuid() == 0 && o->uid != 0) {
        argv[n++] = opt_uid;
        argv[n++] = uid;
    }
    argv[n++] = o->namespace_fd >= 0 ? opt_ns : opt_ports;
    if (netd->socket_path != NULL) {
        int rc = open_listener(netd->socket_path, &listener, err);
        if (rc < 0)
            return rc;
        argv[n++] = opt_listener;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return wh_fail(err, -errno, "a channel to netd");
    const int fds[] = {-1, -1, STDERR_FILENO, pair[1], o->namespace_fd, listener};
    const wh_spawn spawn = {.path = o->program,
                            .argv = argv,
                            .env = env,
                            .fds = fds,
                            .n_fds = WH_ARRAY_LEN(fds),
                            .new_session = true};
    int rc = wh_child_start(netd->loop, &netd->child, &spawn, on_child, netd, err);
    close(pair[1]);
    if (rc < 0) {
        close(pair[0]);
        return rc;
    }
    return hello(netd, pair[0], err);
}

int wh_netd_start(wh_loop *loop, const wh_netd_options *options, wh_netd **ret, wh_err *err)
{
    wh_netd *netd = wh_xnew(wh_netd);
    *netd = (wh_netd){
        .loop = loop,
        .options = *options,
        .socket_path = options->socket_path == NULL ? NULL : wh_xstrdup(options->socket_path),
        .fd = -1,
        .buffer = wh_xcalloc(1, WH_NETD_MESSAGE_MAX),
    };
    int rc = netd->socket_path == NULL ? -ENOENT : find_running(netd);
    if (rc < 0)
        rc = start_program(netd, err);
    netd->options.node_addresses = NULL; /* the caller's, and said */
    if (rc < 0) {
        wh_netd_free(netd);
        return wh_wrap(err, "start '%s'", options->program);
    }
    netd->serving = true;
    *ret = netd;
    return 0;
}

/* It ends by itself when its channel does. One that does not is ended. */
static void end_child(wh_child *child)
{
    struct pollfd p = {.fd = child->pidfd, .events = POLLIN};
    siginfo_t info;
    if (poll(&p, 1, END_MS) == 0)
        (void)wh_child_kill(child, SIGKILL);
    (void)waitid(P_PIDFD, (id_t)child->pidfd, &info, WEXITED);
}

void wh_netd_free(wh_netd *netd)
{
    if (netd == NULL)
        return;
    netd->freed = true;
    wh_io_stop(&netd->io);
    if (netd->fd >= 0)
        close(WH_TAKE_FD(netd->fd));
    if (netd->child.pid != 0 && netd->socket_path == NULL)
        end_child(&netd->child);
    wh_child_done(&netd->child);
    free(WH_TAKE(netd->socket_path));
    free(WH_TAKE(netd->buffer));
    if (!netd->telling)
        free(netd);
}

/* ------------------------------------------------------------------ pods */

static void put_addr(wh_buf *out, const char *key, const wh_addr *addr)
{
    char text[WH_ADDR_TEXT_MAX];
    wh_record_put_str(out, key, wh_addr_text(addr, text));
}

void wh_netd_pod_write(wh_buf *out, const wh_netd_pod *pod)
{
    wh_record_put_str(out, "id", pod->id);
    for (size_t i = 0; i < pod->n_addresses; i++)
        put_addr(out, "address", &pod->addresses[i]);
    for (size_t i = 0; i < pod->n_ports; i++)
        wh_record_put_i64(out, "port", pod->ports[i]);
    wh_record_put_i64(out, "closed", pod->closed);
    wh_record_put_i64(out, "isolated", pod->isolated);
    for (size_t i = 0; i < pod->n_rules; i++) {
        const wh_egress_rule *rule = &pod->rules[i];
        auto_buf wh_buf b;
        wh_buf_init(&b, 1024);
        if (rule->host != NULL) {
            wh_record_put_str(&b, "host", rule->host);
        } else {
            put_addr(&b, "net", &rule->net);
            wh_record_put_i64(&b, "prefix", rule->prefix);
        }
        wh_record_put_i64(&b, "first", rule->port_first);
        wh_record_put_i64(&b, "last", rule->port_last);
        wh_record_put(out, "rule", b.p, b.len);
        out->failed |= b.failed;
    }
    wh_record_put_str(out, "resolv_conf", pod->resolv_conf);
    wh_record_put_str(out, "hosts", pod->hosts);
}

int wh_netd_node_set(wh_netd *netd, const wh_addr *addresses, size_t n, wh_err *err)
{
    auto_buf wh_buf b;
    begin(&b, "node", NULL);
    put_node(&b, addresses, n);
    return call(netd, &b, -1, ANSWER_MS, NULL, err);
}

int wh_netd_pod_set(wh_netd *netd, const wh_netd_pod *pod, wh_err *err)
{
    auto_buf wh_buf b;
    begin(&b, "pod", NULL);
    wh_netd_pod_write(&b, pod);
    return call(netd, &b, -1, ANSWER_MS, NULL, err);
}

int wh_netd_pod_remove(wh_netd *netd, const char *id, wh_err *err)
{
    auto_buf wh_buf b;
    begin(&b, "remove", id);
    return call(netd, &b, -1, ANSWER_MS, NULL, err);
}

int wh_netd_sweep(wh_netd *netd, wh_err *err)
{
    auto_buf wh_buf b;
    begin(&b, "sweep", NULL);
    return call(netd, &b, -1, ANSWER_MS, NULL, err);
}

int wh_netd_pod_channel(wh_netd *netd, const char *id, int *ret_fd, wh_err *err)
{
    auto_buf wh_buf b;
    int pair[2];
    begin(&b, "channel", id);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return wh_fail(err, -errno, "a channel to netd");
    int rc = call(netd, &b, pair[1], ANSWER_MS, NULL, err);
    close(pair[1]);
    if (rc < 0)
        close(pair[0]);
    else
        *ret_fd = pair[0];
    return rc;
}

int wh_netd_pod_listen(wh_netd *netd, const char *id, const wh_addr *address, int *ret_fd, wh_err *err)
{
    auto_buf wh_buf b;
    char text[WH_ADDR_TEXT_MAX];
    int fd = -1;
    begin(&b, "listen", id);
    if (address->sa.sa_family != AF_UNSPEC)
        wh_record_put_str(&b, "address", wh_addr_text(address, text));
    wh_record_put_i64(&b, "port",
                      wh_addr_port(address) != 0 ? wh_addr_port(address) : ntohs(address->in4.sin_port));
    int rc = call(netd, &b, -1, ANSWER_MS, &fd, err);
    if (rc == 0 && fd < 0)
        rc = wh_fail(err, -EPROTO, "netd sent no socket.");
    if (rc < 0)
        return rc;
    *ret_fd = fd;
    return 0;
}
