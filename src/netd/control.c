/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent says. Pods live on when it is gone: a channel of theirs needs nobody but us. */
#include "netd/server.h"

#include <sys/socket.h>

typedef struct request {
    const void *data;
    size_t n;
    int fd;     /* that came along; who takes it over sets -1 */
    int answer; /* that goes back; -1: none */
} request;

static bool is_pod(void *user, const wh_netd_ip *ip)
{
    wh_netd_server *server = user;
    netd_pod *pod = NULL;
    if (ip->family == 4)
        HASH_FIND(hh4, server->by_ip4, ip, sizeof(*ip), pod);
    else
        HASH_FIND(hh6, server->by_ip6, ip, sizeof(*ip), pod);
    return pod != NULL;
}

static int find(wh_netd_server *server, const request *r, netd_pod **ret, char **ret_id, wh_err *err)
{
    auto_free char *id = NULL;
    int rc = wh_record_get_str(r->data, r->n, "id", &id, err);
    if (rc < 0)
        return rc;
    HASH_FIND_STR(server->by_id, id, *ret);
    if (*ret == NULL && ret_id == NULL)
        return wh_fail(err, -ENOENT, "netd: no pod '%.64s'.", id);
    if (ret_id != NULL)
        *ret_id = WH_TAKE(id);
    return 0;
}

/* ------------------------------------------------------------------ pods */

static void unlink_addresses(wh_netd_server *server, netd_pod *pod)
{
    if (pod->policy.own4.family != 0)
        HASH_DELETE(hh4, server->by_ip4, pod);
    if (pod->policy.own6.family != 0)
        HASH_DELETE(hh6, server->by_ip6, pod);
}

static void forget(wh_netd_server *server, netd_pod *pod)
{
    unlink_addresses(server, pod);
    HASH_DEL(server->by_id, pod);
    netd_pod_free(pod);
}

/* NULL, or the pod that has one of these addresses. What an earlier agent said gives way: its pod has ended. */
static const netd_pod *holder(wh_netd_server *server, const wh_netd_policy *policy, const netd_pod *but)
{
    netd_pod *four = NULL, *six = NULL;
    if (policy->own4.family != 0)
        HASH_FIND(hh4, server->by_ip4, &policy->own4, sizeof(policy->own4), four);
    if (four != NULL && four != but && !four->said) {
        forget(server, four);
        four = NULL;
    }
    if (policy->own6.family != 0)
        HASH_FIND(hh6, server->by_ip6, &policy->own6, sizeof(policy->own6), six);
    if (six != NULL && six != but && !six->said) {
        forget(server, six);
        six = NULL;
    }
    return four != NULL && four != but ? four : six == but ? NULL : six;
}

static int do_pod(wh_netd_server *server, request *r, wh_err *err)
{
    auto_free char *id = NULL;
    netd_pod *pod = NULL;
    wh_netd_policy policy;
    int rc = find(server, r, &pod, &id, err);
    if (rc == 0 && pod == NULL && HASH_COUNT(server->by_id) >= WH_NETD_PODS_MAX)
        rc = wh_fail(err, -ENOSPC, "netd: it serves %d pods already.", WH_NETD_PODS_MAX);
    if (rc == 0)
        rc = wh_netd_policy_read(r->data, r->n, &policy, err);
    if (rc < 0)
        return rc;
    const netd_pod *other = holder(server, &policy, pod);
    if (other != NULL) {
        wh_netd_policy_done(&policy);
        return wh_fail(err, -EADDRINUSE, "netd: the address of pod '%.64s' is that of '%.64s'.", id,
                       other->id);
    }
    if (pod == NULL) {
        pod = wh_xnew(netd_pod);
        pod->server = server;
        pod->id = WH_TAKE(id);
        LIST_INIT(&pod->channels);
        HASH_ADD_KEYPTR(hh, server->by_id, pod->id, strlen(pod->id), pod);
    } else {
        unlink_addresses(server, pod);
        wh_netd_policy_done(&pod->policy);
    }
    pod->policy = policy;
    pod->said = true;
    if (policy.own4.family != 0)
        HASH_ADD(hh4, server->by_ip4, policy.own4, sizeof(policy.own4), pod);
    if (policy.own6.family != 0)
        HASH_ADD(hh6, server->by_ip6, policy.own6, sizeof(policy.own6), pod);
    return 0;
}

/* What an earlier agent said and this one does not know. */
static int do_sweep(wh_netd_server *server, request *r, wh_err *err)
{
    netd_pod *pod, *next;
    (void)r;
    (void)err;
    HASH_ITER(hh, server->by_id, pod, next)
    {
        if (!pod->said)
            forget(server, pod);
    }
    return 0;
}

static int do_remove(wh_netd_server *server, request *r, wh_err *err)
{
    netd_pod *pod = NULL;
    int rc = find(server, r, &pod, NULL, err);
    if (rc == 0)
        forget(server, pod);
    return rc;
}

static int do_channel(wh_netd_server *server, request *r, wh_err *err)
{
    netd_pod *pod = NULL;
    int type = 0;
    socklen_t n = sizeof(type);
    int rc = find(server, r, &pod, NULL, err);
    if (rc < 0)
        return rc;
    if (r->fd < 0 || getsockopt(r->fd, SOL_SOCKET, SO_TYPE, &type, &n) < 0 || type != SOCK_SEQPACKET)
        return wh_fail(err, -EINVAL, "netd: a channel is a seqpacket socket.");
    rc = netd_channel_add(pod, r->fd);
    if (rc < 0)
        return wh_fail(err, rc, "netd: a channel for pod '%.64s'", pod->id);
    r->fd = -1;
    return 0;
}

static int do_listen(wh_netd_server *server, request *r, wh_err *err)
{
    netd_pod *pod = NULL;
    auto_free char *text = NULL;
    int64_t port = 0;
    const char *reason = "";
    struct sockaddr_storage asked = {0};
    wh_addr addr;
    int rc = find(server, r, &pod, NULL, err);
    if (rc == 0)
        rc = wh_record_get_i64(r->data, r->n, "port", 0, UINT16_MAX, &port, err);
    if (rc < 0)
        return rc;
    bool named = wh_record_get_str(r->data, r->n, "address", &text, NULL) == 0;
    if (named && (wh_addr_parse(text, 0, &addr, err) < 0 || addr.sa.sa_family == AF_UNIX))
        return wh_fail(err, -EINVAL, "netd: '%.64s' is no IP address.", text);
    if (!named) {
        wh_netd_ip any = {.family = pod->policy.own4.family != 0 ? 4 : 6};
        wh_netd_ip_addr(&any, 0, &addr);
    }
    wh_addr_set_port(&addr, (uint16_t)port);
    memcpy(&asked, &addr.in6, sizeof(addr.in6));
    rc = wh_netd_policy_listen(&pod->policy, &asked, &addr, &reason);
    if (rc == 0)
        rc = netd_listen(&addr, 0, !named, &r->answer);
    if (rc == -EAFNOSUPPORT && !named) { /* a kernel without IPv6 */
        wh_netd_ip any = {.family = 4};
        wh_netd_ip_addr(&any, (uint16_t)port, &addr);
        rc = netd_listen(&addr, 0, false, &r->answer);
    }
    if (rc < 0) {
        char where[WH_ADDR_TEXT_MAX];
        return wh_fail(err, rc, "pod '%.64s' listens on %s%s%s", pod->id, wh_addr_text(&addr, where),
                       *reason != '\0' ? ", " : "", reason);
    }
    return 0;
}

/* All addresses of the node, anew. */
static int do_node(wh_netd_server *server, request *r, wh_err *err)
{
    wh_record_iter it = wh_record_begin(r->data, r->n);
    wh_field f;
    wh_netd_world world = {.is_pod = is_pod, .user = server};
    int rc = 0;
    while (rc == 0 && wh_record_next(&it, &f)) {
        struct sockaddr_storage raw = {0};
        wh_addr addr = {0};
        if (!wh_field_is(&f, "node"))
            continue;
        auto_free char *text = wh_field_strdup(&f);
        if (world.n_node == WH_NETD_NODE_ADDRESSES_MAX)
            return wh_fail(err, -E2BIG, "netd: a node has at most %d addresses.", WH_NETD_NODE_ADDRESSES_MAX);
        if (text == NULL || text[0] == '\0' || wh_addr_parse(text, 0, &addr, NULL) < 0)
            return wh_fail(err, -EBADMSG, "netd: an address of the node is malformed.");
        memcpy(&raw, &addr.in6, sizeof(addr.in6));
        rc = wh_netd_ip_of(&raw, &world.node[world.n_node]);
        world.n_node++;
    }
    if (rc < 0)
        return wh_fail(err, rc, "netd: an address of the node");
    server->world = world;
    return 0;
}

static int do_hello(wh_netd_server *server, request *r, wh_err *err)
{
    int64_t version = 0;
    int rc = wh_record_get_i64(r->data, r->n, "version", 1, INT32_MAX, &version, err);
    if (rc == 0 && version != WH_NETD_VERSION)
        rc = wh_fail(err, -EPROTO, "netd speaks version %d, the agent %d.", WH_NETD_VERSION, (int)version);
    if (rc == 0)
        rc = do_node(server, r, err);
    if (rc < 0)
        return rc;
    for (netd_pod *pod = server->by_id; pod != NULL; pod = pod->hh.next)
        pod->said = false;
    return 0;
}

/* ------------------------------------------------------------------ messages */

typedef struct verb {
    const char *name;
    int (*run)(wh_netd_server *server, request *r, wh_err *err);
} verb;

static const verb verbs[] = {
    {"hello", do_hello}, {"node", do_node},       {"pod", do_pod},       {"remove", do_remove},
    {"sweep", do_sweep}, {"channel", do_channel}, {"listen", do_listen},
};

void wh_netd_server_control(wh_netd_server *server, const void *data, size_t n, int fd)
{
    request r = {.data = data, .n = n, .fd = fd, .answer = -1};
    auto_free char *op = NULL;
    auto_buf wh_buf b;
    wh_err err = {0};
    int64_t seq = 0;
    int rc = wh_record_check(data, n, &err);
    if (rc == 0)
        rc = wh_record_get_str(data, n, "op", &op, &err);
    if (rc == 0)
        rc = wh_record_get_i64(data, n, "seq", 0, INT64_MAX, &seq, &err);
    if (rc == 0) {
        const verb *v = NULL;
        for (size_t i = 0; i < WH_ARRAY_LEN(verbs) && v == NULL; i++)
            v = wh_streq(verbs[i].name, op) ? &verbs[i] : NULL;
        rc = v == NULL ? wh_fail(&err, -ENOSYS, "netd does not know '%.32s'.", op) : v->run(server, &r, &err);
    }
    wh_buf_init(&b, 4096);
    wh_record_put_i64(&b, "seq", seq);
    wh_record_put_i64(&b, "rc", rc);
    wh_record_put_i64(&b, "version", WH_NETD_VERSION);
    wh_record_put_str(&b, "error", rc < 0 ? err.msg : NULL);
    if (server->control_fd >= 0)
        (void)wh_netd_send(server->control_fd, b.p, b.len,
                           r.answer); /* the agent waits for it, so there is room */
    if (r.fd >= 0)
        close(r.fd);
    if (r.answer >= 0)
        close(r.answer);
}

void netd_maybe_end(wh_netd_server *server)
{
    if (server->control_fd < 0 && (server->listener_fd < 0 || server->n_channels == 0))
        server->on_end(server->user);
}

static void drop_control(wh_netd_server *server)
{
    wh_io_stop(&server->control);
    if (server->control_fd >= 0)
        close(WH_TAKE_FD(server->control_fd));
}

static void on_control(wh_io *io, uint32_t ready)
{
    (void)ready;
    wh_netd_server *server = io->user;
    for (int i = 0; i < 64; i++) {
        size_t n = 0;
        int fd = -1;
        int rc = wh_netd_recv(server->control_fd, server->buffer, WH_NETD_MESSAGE_MAX, &n, &fd);
        if (rc == -EAGAIN)
            return;
        if (rc <= 0) {
            drop_control(server);
            netd_maybe_end(server);
            return;
        }
        wh_netd_server_control(server, server->buffer, n, fd);
    }
}

static int take_control(wh_netd_server *server, int fd)
{
    drop_control(server);
    int rc = wh_io_start(server->loop, &server->control, fd, EPOLLIN, on_control, server);
    if (rc < 0)
        close(fd);
    else
        server->control_fd = fd;
    return rc;
}

/* A later agent; there is one agent at a time, and the newest is it. */
static void on_listener(wh_io *io, uint32_t ready)
{
    (void)ready;
    wh_netd_server *server = io->user;
    struct ucred peer = {.uid = (uid_t)-1};
    socklen_t n = sizeof(peer);
    auto_close int fd = accept4(server->listener_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0)
        return;
    if (peer.uid == server->agent_uid)
        (void)take_control(server, WH_TAKE_FD(fd));
}

int wh_netd_server_new(wh_loop *loop, int control_fd, int listener_fd, uid_t agent_uid,
                       void (*on_end)(void *user), void *user, wh_netd_server **ret, wh_err *err)
{
    wh_netd_server *server = wh_xnew(wh_netd_server);
    *server = (wh_netd_server){
        .loop = loop,
        .control_fd = -1,
        .listener_fd = listener_fd,
        .agent_uid = agent_uid,
        .world = {.is_pod = is_pod, .user = server},
        .window = -WH_SEC,
        .buffer = wh_xcalloc(1, WH_NETD_MESSAGE_MAX),
        .on_end = on_end,
        .user = user,
    };
    int rc = take_control(server, control_fd);
    if (rc == 0 && listener_fd >= 0)
        rc = wh_io_start(loop, &server->listener, listener_fd, EPOLLIN, on_listener, server);
    if (rc < 0) {
        wh_netd_server_free(server);
        return wh_fail(err, rc, "netd: watch the control channel");
    }
    *ret = server;
    return 0;
}

void wh_netd_server_free(wh_netd_server *server)
{
    netd_pod *pod, *next;
    if (server == NULL)
        return;
    HASH_ITER(hh, server->by_id, pod, next)
    forget(server, pod);
    drop_control(server);
    wh_io_stop(&server->listener);
    if (server->listener_fd >= 0)
        close(server->listener_fd);
    free(server->buffer);
    free(server);
}
