/* SPDX-License-Identifier: Apache-2.0 */
/* The pods of this node, by name: who has which addresses, which netd serves it, and what is said again to a netd
 * that was started again. */
#include "node/network_internal.h"

#include "base/file.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/metrics.h"

#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#define uthash_fatal(msg) wh_panic(__FILE__, __LINE__, __func__, msg)
#include <uthash.h>

#define RETRY_FIRST (50 * WH_MSEC)
#define RETRY_MAX (5 * WH_SEC)
#define WATCH (15 * WH_SEC)
#define CLUSTER_MAX 16 /* networks */

static WH_METRIC(refused, WH_COUNTER, "wherry_network_refused_total",
                 "Connections and listeners that netd refused to pods.", NULL);
static WH_METRIC(restarts, WH_COUNTER, "wherry_netd_restarts_total", "Times that netd was started again.",
                 NULL);

typedef struct side { /* a namespace with its netd; started with its first pod */
    wh_network *network;
    const char *socket_name;
    int namespace_fd; /* -1: ours */
    wh_netd *netd;
    wh_timer retry;
    wh_time delay;
    wh_timer watch; /* of the node's addresses, which netd keeps pods from */
    wh_addr said[WH_NETD_NODE_ADDRESSES_MAX];
    size_t n_said;
} side;

typedef struct pod {
    UT_hash_handle hh;
    char *id;
    side *side;
    wh_addr addresses[2]; /* its own; none on the host's */
    size_t n_addresses;
    wh_netd_pod said; /* owns what it points to */
} pod;

struct wh_network {
    wh_loop *loop;
    wh_network_options options;
    char *netd_program, *state_dir;
    side host, shared;
    pod *pods;
    wh_egress_rule cluster[CLUSTER_MAX]; /* its networks, open to pods */
    size_t n_cluster;
    int netlink; /* in the pods' namespace; -1: HOST mode */
    wh_addresses *addresses;
};

/* ------------------------------------------------------------------ what is said of a pod */

static void said_done(wh_netd_pod *said)
{
    for (size_t i = 0; i < said->n_rules; i++)
        free(said->rules[i].host);
    void *owned[4];
    memcpy(&owned[0], &said->ports, sizeof(void *));
    memcpy(&owned[1], &said->rules, sizeof(void *));
    memcpy(&owned[2], &said->resolv_conf, sizeof(void *));
    memcpy(&owned[3], &said->hosts, sizeof(void *));
    for (size_t i = 0; i < WH_ARRAY_LEN(owned); i++)
        free(owned[i]);
    *said = (wh_netd_pod){0};
}

static void said_copy(const wh_network *network, wh_netd_pod *to, const wh_netd_pod *from)
{
    size_t more = from->closed ? 0 : network->n_cluster;
    uint16_t *ports = wh_xcalloc(from->n_ports, sizeof(*ports));
    wh_egress_rule *rules = wh_xcalloc(from->n_rules + more, sizeof(*rules));
    if (from->n_ports > 0)
        memcpy(ports, from->ports, from->n_ports * sizeof(*ports));
    for (size_t i = 0; i < from->n_rules; i++) {
        rules[i] = from->rules[i];
        rules[i].host = from->rules[i].host == NULL ? NULL : wh_xstrdup(from->rules[i].host);
    }
    if (more > 0)
        memcpy(rules + from->n_rules, network->cluster, more * sizeof(*rules));
    *to = *from;
    to->n_rules += more;
    to->id = NULL;
    to->addresses = NULL;
    to->n_addresses = 0;
    to->ports = ports;
    to->rules = rules;
    to->resolv_conf = from->resolv_conf == NULL ? NULL : wh_xstrdup(from->resolv_conf);
    to->hosts = from->hosts == NULL ? NULL : wh_xstrdup(from->hosts);
}

static int say(pod *p, wh_err *err)
{
    if (p->side->netd == NULL)
        return wh_fail(err, -ENOTCONN, "netd is being started again.");
    p->said.id = p->id;
    p->said.addresses = p->addresses;
    p->said.n_addresses = p->n_addresses;
    return wh_netd_pod_set(p->side->netd, &p->said, err);
}

/* ------------------------------------------------------------------ netd */

static size_t node_addresses(wh_addr out[WH_NETD_NODE_ADDRESSES_MAX])
{
    struct ifaddrs *list = NULL;
    size_t n = 0;
    if (getifaddrs(&list) < 0)
        return 0;
    for (const struct ifaddrs *i = list; i != NULL && n < WH_NETD_NODE_ADDRESSES_MAX; i = i->ifa_next) {
        if (i->ifa_addr == NULL || (i->ifa_flags & IFF_LOOPBACK) != 0)
            continue;
        wh_addr addr = {0};
        if (i->ifa_addr->sa_family == AF_INET)
            addr.len = sizeof(addr.in4);
        else if (i->ifa_addr->sa_family == AF_INET6)
            addr.len = sizeof(addr.in6);
        else
            continue;
        memcpy(&addr.sa, i->ifa_addr, addr.len);
        if (addr.sa.sa_family == AF_INET6)
            addr.in6.sin6_scope_id = 0;
        out[n++] = addr;
    }
    freeifaddrs(list);
    return n;
}

static void on_lost(void *user);

static void on_refused(void *user, const char *id, const char *target, const char *reason, int64_t left_out)
{
    const side *s = user;
    const wh_network_options *o = &s->network->options;
    wh_metric_add(&refused, NULL, 1 + (double)left_out);
    wh_log(WARN, "a pod's network access was refused", KV_STR("pod", id), KV_STR("target", target),
           KV_STR("reason", reason), KV_INT("left_out", left_out));
    if (o->on_refused != NULL)
        o->on_refused(o->user, id, target, reason);
}

static void on_watch(wh_timer *timer)
{
    side *s = timer->user;
    wh_addr now[WH_NETD_NODE_ADDRESSES_MAX];
    wh_err err = {0};
    size_t n = node_addresses(now);
    if (s->netd == NULL)
        return;
    bool same = n == s->n_said && (n == 0 || memcmp(now, s->said, n * sizeof(now[0])) == 0);
    if (!same && wh_netd_node_set(s->netd, now, n, &err) < 0) {
        wh_log(WARN, "netd does not know the node's new addresses", KV_ERR(&err));
    } else if (!same) {
        memcpy(s->said, now, n * sizeof(now[0]));
        s->n_said = n;
    }
    wh_timer_start(s->network->loop, &s->watch, WATCH, on_watch, s);
}

static int side_start(side *s, wh_err *err)
{
    wh_network *network = s->network;
    auto_free char *socket = wh_path_join(network->state_dir, s->socket_name);
    s->n_said = node_addresses(s->said);
    const wh_netd_options options = {
        .program = network->netd_program,
        .namespace_fd = s->namespace_fd,
        .uid = network->options.netd_uid,
        .socket_path = socket,
        .node_addresses = s->said,
        .n_node_addresses = s->n_said,
        .on_lost = on_lost,
        .on_refused = on_refused,
        .user = s,
    };
    int rc = s->netd != NULL ? 0 : wh_netd_start(network->loop, &options, &s->netd, err);
    if (rc == 0)
        wh_timer_start(network->loop, &s->watch, WATCH, on_watch, s);
    for (pod *p = network->pods; p != NULL && rc == 0; p = p->hh.next) {
        if (p->side == s)
            rc = say(p, err);
    }
    return rc;
}

static void on_retry(wh_timer *timer)
{
    side *s = timer->user;
    wh_err err = {0};
    wh_netd_free(WH_TAKE(s->netd));
    if (side_start(s, &err) < 0) {
        wh_log(ERROR, "netd did not start", KV_ERR(&err));
        wh_netd_free(WH_TAKE(s->netd));
        s->delay = WH_MIN(s->delay * 2, RETRY_MAX);
        wh_timer_start(s->network->loop, &s->retry, s->delay, on_retry, s);
        return;
    }
    s->delay = RETRY_FIRST;
    wh_metric_add(&restarts, NULL, 1);
    wh_log(INFO, "netd was started again");
    if (s->network->options.on_restart != NULL)
        s->network->options.on_restart(s->network->options.user);
}

static void on_lost(void *user)
{
    side *s = user;
    wh_log(ERROR, "netd ended; open connections live on", KV_STR("socket", s->socket_name));
    wh_timer_start(s->network->loop, &s->retry, s->delay, on_retry, s);
}

static int side_ready(side *s, wh_err *err)
{
    if (s->retry.loop != NULL)
        return wh_fail(err, -EAGAIN, "netd is being started again.");
    return s->netd != NULL ? 0 : side_start(s, err);
}

/* ------------------------------------------------------------------ the network */

static void side_init(side *s, wh_network *network, const char *socket_name)
{
    *s = (side){.network = network, .socket_name = socket_name, .namespace_fd = -1, .delay = RETRY_FIRST};
}

static int read_cluster(wh_network *network, const char *cidrs, wh_err *err)
{
    wh_str rest = wh_str_of(cidrs), item;
    while (cidrs != NULL && wh_str_split(&rest, ',', &item)) {
        wh_egress_rule rule = {0};
        wh_str host, text = wh_str_trim(item);
        uint64_t prefix = 0;
        if (text.n == 0)
            continue;
        bool ok = wh_str_split(&text, '/', &host) && host.n > 0 && network->n_cluster < CLUSTER_MAX;
        auto_free char *ip = wh_xstrndup(ok ? host.p : "", ok ? host.n : 0);
        auto_free char *bits = wh_xstrndup(text.n == 0 ? "" : text.p, text.n);
        ok = ok && wh_addr_parse(ip, 0, &rule.net, NULL) == 0 && wh_addr_port(&rule.net) == 0 &&
             wh_parse_u64(bits, rule.net.sa.sa_family == AF_INET ? 32 : 128, &prefix) == 0;
        if (!ok)
            return wh_fail(err, -EINVAL,
                           "'%.*s' is no network of the cluster; up to %d like 10.244.0.0/16 are.",
                           WH_STR_ARG(item), CLUSTER_MAX);
        rule.prefix = (unsigned)prefix;
        network->cluster[network->n_cluster++] = rule;
    }
    return 0;
}

/* -EINVAL is the caller's mistake; for all else there is the host's network. */
static int shared_start(wh_network *network, char **ret_weaker, wh_err *err)
{
    auto_free char *table = wh_path_join(network->state_dir, "addresses");
    auto_free char *path = wh_path_join(network->state_dir, "netns");
    int rc = wh_addresses_open(table, &network->options, &network->addresses, err);
    if (rc == 0)
        rc = wh_netns_open(path, &network->shared.namespace_fd, &network->netlink, err);
    if (rc == 0)
        rc = wh_netns_connect(&network->options, network->shared.namespace_fd, network->netlink, ret_weaker,
                              err);
    return rc;
}

static void shared_stop(wh_network *network)
{
    wh_addresses_free(WH_TAKE(network->addresses));
    if (network->shared.namespace_fd >= 0)
        close(WH_TAKE_FD(network->shared.namespace_fd));
    if (network->netlink >= 0)
        close(WH_TAKE_FD(network->netlink));
}

int wh_network_new(wh_loop *loop, const wh_network_options *options, wh_network **ret, char **ret_weaker,
                   wh_err *err)
{
    int rc = wh_mkdir_p(options->state_dir, 0700, err);
    if (rc < 0)
        return rc;
    wh_network *network = wh_xnew(wh_network);
    *network = (wh_network){
        .loop = loop,
        .options = *options,
        .netd_program = wh_xstrdup(options->netd_program),
        .state_dir = wh_xstrdup(options->state_dir),
        .netlink = -1,
    };
    side_init(&network->host, network, "netd-host.sock");
    side_init(&network->shared, network, "netd.sock");
    char *weaker = NULL;
    wh_err why = {0};
    rc = read_cluster(network, options->cluster_cidrs, err);
    if (rc < 0) {
        wh_network_free(network);
        return rc;
    }
    rc = options->mode == WH_NETWORK_SHARED ? shared_start(network, &weaker, &why) : 0;
    network->options.cluster_cidrs = NULL; /* the caller's */
    if (rc == -EINVAL && network->addresses == NULL) {
        wh_network_free(network);
        return wh_fail(err, rc, "%s", why.msg);
    }
    if (rc < 0) {
        shared_stop(network);
        network->options.mode = WH_NETWORK_HOST;
        free(weaker);
        weaker = wh_xasprintf("pods have no addresses of their own: %s", why.msg);
    }
    *ret = network;
    *ret_weaker = weaker;
    return 0;
}

static void pod_free(pod *p)
{
    said_done(&p->said);
    free(p->id);
    free(p);
}

static void side_done(side *s)
{
    wh_timer_stop(&s->retry);
    wh_timer_stop(&s->watch);
    wh_netd_free(s->netd);
}

void wh_network_free(wh_network *network)
{
    pod *p, *next;
    if (network == NULL)
        return;
    side_done(&network->host);
    side_done(&network->shared);
    shared_stop(network);
    HASH_ITER(hh, network->pods, p, next)
    {
        HASH_DEL(network->pods, p);
        pod_free(p);
    }
    free(network->netd_program);
    free(network->state_dir);
    free(network);
}

wh_network_mode wh_network_mode_of(const wh_network *network)
{
    return network->options.mode;
}

/* ------------------------------------------------------------------ pods */

/* What a pod on the host's addresses is known by. */
static size_t host_addresses(const wh_network *network, wh_addr out[2])
{
    size_t n = 0;
    if (network->options.host_address.len != 0) {
        out[0] = network->options.host_address;
        wh_addr_set_port(&out[0], 0);
        return 1;
    }
    static const int families[] = {AF_INET, AF_INET6};
    for (size_t i = 0; i < WH_ARRAY_LEN(families); i++) {
        wh_addr addr;
        if (wh_addr_of_node(families[i], &addr, NULL) == 0 &&
            (wh_addr_is_global_unicast(&addr) || (n == 0 && families[i] == AF_INET))) {
            wh_addr_set_port(&addr, 0);
            out[n++] = addr;
        }
    }
    if (n == 0)
        (void)wh_addr_parse("127.0.0.1", 0, &out[n++], NULL);
    return n;
}

static pod *find(const wh_network *network, const char *id)
{
    pod *p;
    HASH_FIND_STR(network->pods, id, p);
    return p;
}

static int find_ready(wh_network *network, const char *id, pod **ret, wh_err *err)
{
    pod *p = find(network, id);
    if (p == NULL)
        return wh_fail(err, -ENOENT, "the network knows no pod '%.64s'.", id);
    int rc = side_ready(p->side, err);
    if (rc == 0)
        *ret = p;
    return rc;
}

/* Routes that are there already are ours: the table says whose an address is. */
static int give_addresses(wh_network *network, pod *p, wh_err *err)
{
    int rc = wh_addresses_take(network->addresses, p->id, p->addresses, &p->n_addresses, err);
    for (size_t i = 0; i < p->n_addresses && rc == 0; i++) {
        rc = wh_link_local(network->netlink, &p->addresses[i], true);
        rc = rc == -EEXIST ? 0 : rc;
        if (rc < 0)
            (void)wh_fail(err, rc, "a local route for the pod's address");
    }
    return rc;
}

static void take_addresses(wh_network *network, pod *p)
{
    for (size_t i = 0; i < p->n_addresses; i++)
        (void)wh_link_local(network->netlink, &p->addresses[i], false);
    if (p->n_addresses > 0)
        wh_addresses_give(network->addresses, p->id);
    p->n_addresses = 0;
}

static pod *pod_new(wh_network *network, const char *id, bool host_network)
{
    pod *p = wh_xnew(pod);
    p->id = wh_xstrdup(id);
    p->side = host_network || network->options.mode == WH_NETWORK_HOST ? &network->host : &network->shared;
    return p;
}

int wh_network_pod_add(wh_network *network, const wh_netd_pod *given, bool host_network,
                       wh_addr ret_addresses[2], size_t *ret_n, wh_err *err)
{
    pod *p = find(network, given->id);
    bool new = p == NULL;
    if (new)
        p = pod_new(network, given->id, host_network);
    said_done(&p->said);
    said_copy(network, &p->said, given);
    if (p->side == &network->host && p->said.resolv_conf == NULL) {
        char *text = NULL;
        if (wh_read_file(AT_FDCWD, "/etc/resolv.conf", WH_NETD_TEXT_MAX, &text, NULL, NULL) == 0)
            p->said.resolv_conf = text;
    }
    int rc = side_ready(p->side, err);
    if (rc == 0 && new && p->side == &network->shared)
        rc = give_addresses(network, p, err);
    if (rc == 0)
        rc = say(p, err);
    if (rc < 0) {
        if (new) {
            take_addresses(network, p);
            pod_free(p);
        }
        return wh_wrap(err, "network of pod '%.64s'", given->id);
    }
    if (new)
        HASH_ADD_KEYPTR(hh, network->pods, p->id, strlen(p->id), p);
    *ret_n = p->n_addresses;
    memcpy(ret_addresses, p->addresses, sizeof(p->addresses));
    if (p->side == &network->host)
        *ret_n = host_addresses(network, ret_addresses);
    return 0;
}

int wh_network_pod_remove(wh_network *network, const char *id, wh_err *err)
{
    pod *p = find(network, id);
    if (p == NULL)
        return wh_fail(err, -ENOENT, "the network knows no pod '%.64s'.", id);
    HASH_DEL(network->pods, p);
    int rc = p->side->netd == NULL ? 0 : wh_netd_pod_remove(p->side->netd, id, err);
    take_addresses(network, p);
    pod_free(p);
    return rc == -ENOTCONN ? 0 : rc; /* a netd that is gone serves nobody */
}

int wh_network_pod_channel(wh_network *network, const char *id, int *ret_fd, wh_err *err)
{
    pod *p = NULL;
    int rc = find_ready(network, id, &p, err);
    return rc < 0 || p == NULL ? rc : wh_netd_pod_channel(p->side->netd, id, ret_fd, err);
}

int wh_network_pod_listen(wh_network *network, const char *id, uint16_t port, int ret_fds[2], size_t *ret_n,
                          wh_err *err)
{
    pod *p = NULL;
    wh_addr where[2];
    size_t n = 0, done = 0;
    int fds[2] = {-1, -1};
    int rc = find_ready(network, id, &p, err);
    if (rc < 0 || p == NULL)
        return rc;
    for (; n < p->n_addresses; n++)
        where[n] = p->addresses[n];
    if (n == 0 && network->options.host_address.len != 0)
        where[n++] = network->options.host_address;
    if (n == 0)
        where[n++] = (wh_addr){.in4 = {.sin_family = AF_UNSPEC}};
    for (; done < n && rc == 0; done++) {
        wh_addr_set_port(&where[done], port);
        if (where[done].sa.sa_family == AF_UNSPEC)
            where[done].in4.sin_port = htons(port);
        rc = wh_netd_pod_listen(p->side->netd, id, &where[done], &fds[done], err);
    }
    if (rc < 0) {
        for (size_t i = 0; i < done; i++) {
            if (fds[i] >= 0)
                close(fds[i]);
        }
        return rc;
    }
    memcpy(ret_fds, fds, sizeof(fds));
    *ret_n = n;
    return 0;
}

int wh_network_dial(wh_network *network, const wh_addr *peer, int *ret_fd, wh_err *err)
{
    (void)network;
    char text[WH_ADDR_TEXT_MAX];
    auto_close int fd = socket(peer->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || (connect(fd, &peer->sa, peer->len) < 0 && errno != EINPROGRESS))
        return wh_fail(err, -errno, "connect to %s", wh_addr_text(peer, text));
    *ret_fd = WH_TAKE_FD(fd);
    return 0;
}

/* ------------------------------------------------------------------ after a restart */

typedef struct strays {
    const wh_network *network;
    wh_addr *found;
    size_t n, cap;
} strays;

static void find_stray(void *user, const wh_addr *addr)
{
    strays *s = user;
    if (wh_addresses_has(s->network->addresses, addr))
        return;
    if (s->n == s->cap) {
        size_t cap = WH_MAX(s->cap * 2, (size_t)16);
        wh_addr *grown = reallocarray(s->found, cap, sizeof(*grown));
        if (grown == NULL)
            return; /* it is found the next time */
        s->found = grown;
        s->cap = cap;
    }
    s->found[s->n++] = *addr;
}

static void restore(void *user, const wh_addr *addr)
{
    const wh_network *network = user;
    (void)wh_link_local(network->netlink, addr, true);
}

typedef struct wanted {
    const char *const *ids;
    size_t n;
} wanted;

static int compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool is_wanted(void *user, const char *id)
{
    const wanted *w = user;
    return bsearch(&id, w->ids, w->n, sizeof(*w->ids), compare) != NULL;
}

/* Table and routes: what is not wanted goes, what is missing comes back. */
static void adopt_shared(wh_network *network, const wanted *w)
{
    strays s = {.network = network};
    wanted mine = *w;
    wh_addresses_sweep(network->addresses, is_wanted, &mine);
    int rc = wh_link_locals(network->netlink, find_stray, &s);
    if (rc < 0)
        wh_log(ERROR, "the pods' routes cannot be read", KV_STR("error", strerror(-rc)));
    for (size_t i = 0; i < s.n; i++)
        (void)wh_link_local(network->netlink, &s.found[i], false);
    free(s.found);
    wh_addresses_each(network->addresses, restore, network);
}

void wh_network_adopt(wh_network *network, const char *const *ids, size_t n)
{
    wh_err err = {0};
    const char **sorted = wh_xcalloc(n, sizeof(*sorted));
    if (n > 0) {
        memcpy(sorted, ids, n * sizeof(*sorted));
        qsort(sorted, n, sizeof(*sorted), compare);
    }
    wanted w = {sorted, n};
    pod *p, *next;
    HASH_ITER(hh, network->pods, p, next)
    {
        if (!is_wanted(&w, p->id))
            (void)wh_network_pod_remove(network, p->id, NULL);
    }
    if (network->addresses != NULL)
        adopt_shared(network, &w);
    side *const sides[] = {&network->host, &network->shared};
    bool all_said = true;
    for (size_t i = 0; i < n; i++)
        all_said &= find(network, ids[i]) != NULL;
    for (size_t i = 0; i < WH_ARRAY_LEN(sides) && all_said; i++) {
        if (sides[i]->netd != NULL && wh_netd_sweep(sides[i]->netd, &err) < 0)
            wh_log(WARN, "netd keeps pods that are gone", KV_ERR(&err));
    }
    free(sorted);
}
