/* SPDX-License-Identifier: Apache-2.0 */
/* A look-up: the pod's hosts file, then its name servers, one candidate of its search list after the other. Queries
 * leave from the pod's own address and a port of their own each, with an id from the kernel. */
#include "base/clock.h"
#include "netd/dns.h"
#include "netd/server.h"

#include <strings.h>

typedef struct query {
    netd_lookup *lookup;
    int type, fd; /* -1: answered, or not asked */
    bool tcp;
    wh_io io;
    uint8_t *data;
    size_t n;
    uint8_t *answer; /* over TCP: two bytes of length, then so many */
    size_t n_answer;
    bool sent;
} query;

struct netd_lookup {
    netd_pending *pending;
    wh_dns_conf conf;
    bool want4, want6;
    size_t candidate;
    unsigned attempt;
    bool failed; /* a server could not say */
    query queries[2];
    wh_timer timer;
    wh_netd_ip found[WH_NETD_ADDRESSES_MAX];
    size_t n_found;
};

static void try_server(netd_lookup *lookup);

static void query_done(query *q)
{
    wh_io_stop(&q->io);
    if (q->fd >= 0)
        close(WH_TAKE_FD(q->fd));
    wh_dns_free(WH_TAKE(q->data));
    free(WH_TAKE(q->answer));
    q->n_answer = 0;
    q->tcp = q->sent = false;
}

static void stop_queries(netd_lookup *lookup)
{
    wh_timer_stop(&lookup->timer);
    for (size_t i = 0; i < WH_ARRAY_LEN(lookup->queries); i++)
        query_done(&lookup->queries[i]);
}

void netd_lookup_free(netd_lookup *lookup)
{
    if (lookup == NULL)
        return;
    stop_queries(lookup);
    wh_dns_conf_done(&lookup->conf);
    free(lookup);
}

/* The pending request, this look-up and all are gone behind it. */
static void finish(netd_lookup *lookup, int rc)
{
    netd_pending *p = lookup->pending;
    wh_netd_answer answer = {.rc = rc};
    for (size_t i = 0; i < lookup->n_found && rc == 0; i++) {
        wh_addr addr;
        wh_netd_ip_addr(&lookup->found[i], 0, &addr);
        memcpy(&answer.addresses[answer.n_addresses++], &addr.in6, sizeof(addr.in6));
        wh_netd_policy_learn(&p->channel->pod->policy, p->name, &lookup->found[i]);
    }
    netd_pending_done(p, &answer);
}

/* ------------------------------------------------------------------ one query */

static void on_query(wh_io *io, uint32_t ready);

static int open_query(query *q, const wh_addr *server)
{
    wh_addr source;
    wh_netd_ip like = {.family = server->sa.sa_family == AF_INET ? 4 : 6};
    const wh_netd_policy *policy = &q->lookup->pending->channel->pod->policy;
    const wh_netd_ip *mine = like.family == 4 ? &policy->own4 : &policy->own6;
    if (mine->family == 0 && (policy->own4.family != 0 || policy->own6.family != 0))
        return -ENETUNREACH;
    wh_netd_ip_addr(mine, 0, &source);
    int rc = netd_socket(server, &source, q->tcp ? SOCK_STREAM : SOCK_DGRAM, &q->fd);
    if (rc == 0 && connect(q->fd, &server->sa, server->len) < 0 && errno != EINPROGRESS)
        rc = -errno;
    if (rc == 0 && !q->tcp && send(q->fd, q->data, q->n, MSG_NOSIGNAL) < 0)
        rc = -errno;
    if (rc == 0)
        rc = wh_io_start(q->lookup->pending->channel->pod->server->loop, &q->io, q->fd,
                         q->tcp ? EPOLLOUT : EPOLLIN, on_query, q);
    return rc;
}

static int start_query(query *q, const char *name, const wh_addr *server)
{
    uint16_t id;
    wh_random(&id, sizeof(id));
    int rc = wh_dns_query(name, q->type, id, &q->data, &q->n);
    return rc < 0 ? rc : open_query(q, server);
}

static const wh_addr *server_of(const netd_lookup *lookup)
{
    return &lookup->conf.servers[lookup->attempt % lookup->conf.n_servers];
}

/* What did not fit a datagram is asked for again. */
static int ask_by_tcp(query *q)
{
    wh_io_stop(&q->io);
    close(WH_TAKE_FD(q->fd));
    q->tcp = true;
    q->answer = malloc(2 + WH_DNS_MESSAGE_MAX);
    return q->answer == NULL ? -ENOMEM : open_query(q, server_of(q->lookup));
}

/* -EAGAIN: more is to come; else 0 with *ret_data and *ret_n, or an error. */
static int read_tcp(query *q, const uint8_t **ret_data, size_t *ret_n)
{
    if (!q->sent) { /* a query fits any socket's buffer */
        uint8_t head[2] = {(uint8_t)(q->n >> 8), (uint8_t)q->n};
        if (send(q->fd, head, sizeof(head), MSG_NOSIGNAL | MSG_MORE) != (ssize_t)sizeof(head) ||
            send(q->fd, q->data, q->n, MSG_NOSIGNAL) != (ssize_t)q->n)
            return -EPIPE;
        q->sent = true;
        wh_io_set(&q->io, EPOLLIN);
        return -EAGAIN;
    }
    size_t want = q->n_answer < 2 ? 2 : 2 + ((size_t)q->answer[0] << 8 | q->answer[1]);
    ssize_t n = recv(q->fd, q->answer + q->n_answer, want - q->n_answer, 0);
    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR) ? -EAGAIN : -ECONNRESET;
    q->n_answer += (size_t)n;
    if (q->n_answer < 2 || q->n_answer < 2 + ((size_t)q->answer[0] << 8 | q->answer[1]))
        return -EAGAIN;
    *ret_data = q->answer + 2;
    *ret_n = q->n_answer - 2;
    return 0;
}

static int read_udp(query *q, uint8_t *buffer, size_t size, const uint8_t **ret_data, size_t *ret_n)
{
    ssize_t n = recv(q->fd, buffer, size, 0);
    if (n < 0)
        return errno == EINTR ? -EAGAIN : -errno;
    *ret_data = buffer;
    *ret_n = (size_t)n;
    return 0;
}

/* ------------------------------------------------------------------ the way through the candidates */

static void next_candidate(netd_lookup *lookup)
{
    char name[WH_NETD_NAME_MAX + 1];
    lookup->candidate++;
    lookup->attempt = 0;
    if (wh_dns_candidate(&lookup->conf, lookup->pending->name, lookup->candidate, name))
        try_server(lookup);
    else
        finish(lookup, -ENOENT);
}

static void next_server(netd_lookup *lookup)
{
    lookup->attempt++;
    if (lookup->attempt < lookup->conf.attempts * lookup->conf.n_servers)
        try_server(lookup);
    else
        finish(lookup, -EAGAIN);
}

/* Both queries have ended. */
static void judge(netd_lookup *lookup)
{
    stop_queries(lookup);
    if (lookup->n_found > 0)
        finish(lookup, 0);
    else if (lookup->failed)
        next_server(lookup);
    else
        next_candidate(lookup);
}

static void query_ends(query *q, bool failed)
{
    netd_lookup *lookup = q->lookup;
    query_done(q);
    lookup->failed |= failed;
    if (lookup->queries[0].fd < 0 && lookup->queries[1].fd < 0)
        judge(lookup);
}

static void on_query(wh_io *io, uint32_t ready)
{
    (void)ready;
    query *q = io->user;
    netd_lookup *lookup = q->lookup;
    uint8_t buffer[1500] __attribute__((uninitialized));
    const uint8_t *data = NULL;
    size_t n = 0;
    int rc = q->tcp ? read_tcp(q, &data, &n) : read_udp(q, buffer, sizeof(buffer), &data, &n);
    if (rc == -EAGAIN)
        return;
    wh_dns_verdict verdict = rc < 0 ? WH_DNS_FAILED
                                    : wh_dns_answer(q->data, q->n, data, n, q->type, lookup->found,
                                                    WH_NETD_ADDRESSES_MAX, &lookup->n_found);
    if (verdict == WH_DNS_FOREIGN && !q->tcp)
        return;
    if (verdict == WH_DNS_TRUNCATED && !q->tcp && ask_by_tcp(q) == 0)
        return;
    query_ends(q, verdict != WH_DNS_ADDRESSES && verdict != WH_DNS_NO_NAME);
}

static void on_timeout(wh_timer *timer)
{
    netd_lookup *lookup = timer->user;
    lookup->failed = true;
    judge(lookup);
}

static void on_nothing_asked(wh_timer *timer)
{
    judge(timer->user);
}

static void try_server(netd_lookup *lookup)
{
    char name[WH_NETD_NAME_MAX + 1];
    wh_loop *loop = lookup->pending->channel->pod->server->loop;
    const bool want[] = {lookup->want4, lookup->want6};
    bool asked = false;
    lookup->failed = false;
    (void)wh_dns_candidate(&lookup->conf, lookup->pending->name, lookup->candidate, name);
    for (size_t i = 0; i < WH_ARRAY_LEN(want); i++) {
        query *q = &lookup->queries[i];
        if (!want[i] || name[0] == '\0')
            continue;
        if (start_query(q, name, server_of(lookup)) < 0) {
            query_done(q);
            lookup->failed = true;
        }
        asked |= q->fd >= 0;
    }
    /* Through the loop, so that a hundred servers that cannot be reached are no recursion. */
    if (asked)
        wh_timer_start(loop, &lookup->timer, lookup->conf.timeout_s * WH_SEC, on_timeout, lookup);
    else
        wh_timer_start(loop, &lookup->timer, 0, on_nothing_asked, lookup);
}

/* What needs no server. */
static bool find_here(netd_lookup *lookup)
{
    const netd_pending *p = lookup->pending;
    static const char local[] = "127.0.0.1 localhost\n::1 localhost\n";
    size_t n = strlen(p->name);
    auto_free char *literal = wh_xasprintf("%s %s", p->name, p->name); /* an address is its own hosts file */
    const char *const texts[] = {p->channel->pod->policy.hosts, literal, local};
    for (size_t i = 0; i < WH_ARRAY_LEN(texts) && lookup->n_found == 0; i++)
        lookup->n_found = wh_dns_hosts(texts[i], p->name, lookup->want4, lookup->want6, lookup->found,
                                       WH_NETD_ADDRESSES_MAX);
    if (lookup->n_found == 0 && n > 10 && strcasecmp(p->name + n - 10, ".localhost") == 0) /* RFC 6761 */
        lookup->n_found = wh_dns_hosts(local, "localhost", lookup->want4, lookup->want6, lookup->found,
                                       WH_NETD_ADDRESSES_MAX);
    return lookup->n_found > 0;
}

void netd_lookup_start(netd_pending *p)
{
    const wh_netd_policy *policy = &p->channel->pod->policy;
    bool host = policy->own4.family == 0 && policy->own6.family == 0;
    netd_lookup *lookup = wh_xnew(netd_lookup);
    lookup->pending = p;
    lookup->want4 = host || policy->own4.family != 0;
    lookup->want6 = host || policy->own6.family != 0;
    lookup->queries[0] = (query){.lookup = lookup, .type = WH_DNS_TYPE_A, .fd = -1};
    lookup->queries[1] = (query){.lookup = lookup, .type = WH_DNS_TYPE_AAAA, .fd = -1};
    p->lookup = lookup;
    if (find_here(lookup)) {
        finish(lookup, 0);
        return;
    }
    wh_dns_conf_read(policy->resolv_conf, &lookup->conf);
    if (lookup->conf.n_servers == 0)
        finish(lookup, -ENOENT);
    else
        try_server(lookup);
}
