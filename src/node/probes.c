/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the probes that pod/probe.c says are due: a connection, or a GET over HTTP/1.1 of which the status line
 * counts. */
#include "node/internal.h"

#include "base/metrics.h"

#include <stdio.h>

#define REQUEST_MAX (16UL * 1024)

static WH_METRIC(probe_total, WH_COUNTER, "prober_probe_total", "Probes that were run, by kind and result.",
                 "probe_type,result");

typedef struct wh_probing { /* one that is under way */
    wh_worker *w;
    size_t container;
    unsigned attempt;
    wh_probe_kind kind;
    int fd;
    wh_io io;
    wh_timer timeout;
    wh_buf out;
    size_t sent, got;
    char in[64]; /* the status line's beginning */
} wh_probing;

static void schedule(wh_worker *w, size_t container);

static void probing_free(void *user)
{
    wh_probing *p = user;
    wh_buf_done(&p->out);
    free(p);
}

static void probing_end(wh_probing *p)
{
    wh_io_stop(&p->io);
    wh_timer_stop(&p->timeout);
    if (p->fd >= 0)
        close(WH_TAKE_FD(p->fd));
    p->w->containers[p->container].probing[p->kind] = NULL;
    wh_loop_defer(p->w->node->loop, probing_free, p);
}

/* `why` is NULL for a success. */
static void finish(wh_probing *p, const char *why)
{
    wh_worker *w = p->w;
    size_t container = p->container;
    wh_worker_container *c = &w->containers[container];
    const wh_probe_spec *spec = &w->spec->containers[container].probes[p->kind];
    wh_pod_event event = {.type = WH_POD_PROBED,
                          .container = container,
                          .attempt = p->attempt,
                          .probe = p->kind,
                          .grace_s = spec->grace_s};
    char label[64];

    (void)snprintf(label, sizeof(label), "%s\n%s", wh_probe_name(p->kind),
                   why == NULL ? "successful" : "failed");
    wh_metric_add(&probe_total, label, 1);
    wh_probe_outcome out = wh_probes_result(&c->probes, p->kind, why == NULL, wh_node_now(w->node));
    probing_end(p);
    if (why != NULL) {
        wh_pod_event unhealthy = event;
        unhealthy.type = WH_POD_UNHEALTHY;
        unhealthy.message = why;
        wh_worker_post(w, &unhealthy);
    }
    event.good = out.good;
    if (out.changed || out.restart)
        wh_worker_post(w, &event);
    if (!w->gone)
        schedule(w, container);
}

static void on_timeout(wh_timer *timer)
{
    wh_probing *p = timer->user;
    const wh_probe_spec *spec = &p->w->spec->containers[p->container].probes[p->kind];
    char why[64];

    (void)snprintf(why, sizeof(why), "no answer within %llds", (long long)(spec->timeout / WH_SEC));
    finish(p, why);
}

static void check_status(wh_probing *p)
{
    char why[96], digits[4] = "";
    uint64_t status = 0;

    p->in[WH_MIN(p->got, sizeof(p->in) - 1)] = '\0';
    if (sscanf(p->in, "HTTP/1.%*1[01] %3[0-9]", digits) != 1 || wh_parse_u64(digits, 999, &status) < 0)
        finish(p, "HTTP probe failed: the answer is not HTTP/1.1");
    else if (status >= 200 && status < 400)
        finish(p, NULL);
    else {
        (void)snprintf(why, sizeof(why), "HTTP probe failed with statuscode: %d", (int)status);
        finish(p, why);
    }
}

static void on_readable(wh_probing *p)
{
    ssize_t n = read(p->fd, p->in + p->got, sizeof(p->in) - 1 - p->got);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0) {
        finish(p, strerror(errno));
        return;
    }
    p->got += (size_t)n;
    if (n == 0 || p->got == sizeof(p->in) - 1 || memchr(p->in, '\n', p->got) != NULL)
        check_status(p);
}

static void on_io(wh_io *io, uint32_t ready)
{
    wh_probing *p = io->user;
    int error = 0;
    socklen_t size = sizeof(error);

    if (p->sent < p->out.len || p->out.len == 0) {
        if (getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 || error != 0) {
            finish(p, strerror(error != 0 ? error : errno));
            return;
        }
        if (p->out.len == 0) { /* a connection is all that was asked */
            finish(p, NULL);
            return;
        }
        ssize_t n = send(p->fd, p->out.p + p->sent, p->out.len - p->sent, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            finish(p, strerror(errno));
            return;
        }
        p->sent += n > 0 ? (size_t)n : 0;
        if (p->sent == p->out.len)
            wh_io_set(io, EPOLLIN);
        return;
    }
    if ((ready & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
        on_readable(p);
}

static void write_request(wh_probing *p, const wh_probe_spec *spec, const wh_addr *peer)
{
    const json_t *header;
    const char *host = NULL;
    char text[WH_ADDR_TEXT_MAX];
    size_t i;

    json_array_foreach(spec->headers, i, header)
    {
        if (strcasecmp(wh_json_str(header, "name"), "host") == 0)
            host = wh_json_str(header, "value");
    }
    wh_buf_printf(&p->out, "GET %s%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: kube-probe/1.37\r\n",
                  spec->path[0] == '/' ? "" : "/", spec->path,
                  host != NULL ? host : wh_addr_text(peer, text));
    json_array_foreach(spec->headers, i, header)
    {
        if (strcasecmp(wh_json_str(header, "name"), "host") != 0)
            wh_buf_printf(&p->out, "%s: %s\r\n", wh_json_str(header, "name"),
                          wh_json_str(header, "value") != NULL ? wh_json_str(header, "value") : "");
    }
    wh_buf_puts(&p->out, "Accept: */*\r\nConnection: close\r\n\r\n");
}

static int target(const wh_worker *w, const wh_probe_spec *spec, wh_addr *ret, wh_err *err)
{
    const char *ip = spec->host != NULL ? spec->host : w->node->config.node_ip;
    int rc = 0;

    if (spec->host == NULL && w->n_addresses > 0)
        *ret = w->addresses[0];
    else
        rc = wh_addr_parse(ip != NULL ? ip : "127.0.0.1", 1, ret, err);
    if (rc == 0)
        wh_addr_set_port(ret, spec->port);
    return rc;
}

static int dial(const wh_worker *w, const wh_addr *peer, int *ret_fd, wh_err *err)
{
    if (w->node->network != NULL)
        return wh_network_dial(w->node->network, peer, ret_fd, err);
    auto_close int fd = socket(peer->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || (connect(fd, &peer->sa, peer->len) < 0 && errno != EINPROGRESS))
        return wh_fail(err, -errno, "connect to the container");
    *ret_fd = WH_TAKE_FD(fd);
    return 0;
}

static void begin(wh_worker *w, size_t container, wh_probe_kind kind)
{
    const wh_probe_spec *spec = &w->spec->containers[container].probes[kind];
    wh_probing *p = wh_xnew(wh_probing);
    wh_addr peer = {0};
    wh_err err = {0};

    *p = (wh_probing){.w = w,
                      .container = container,
                      .kind = kind,
                      .attempt = (unsigned)w->containers[container].probed_attempt,
                      .fd = -1};
    wh_buf_init(&p->out, REQUEST_MAX);
    w->containers[container].probing[kind] = p;
    int rc = target(w, spec, &peer, &err);
    if (rc == 0 && spec->action == WH_PROBE_HTTP)
        write_request(p, spec, &peer);
    if (rc == 0 && p->out.failed)
        rc = wh_fail(&err, -EFBIG, "the request of the probe is longer than %lu bytes.", REQUEST_MAX);
    rc = rc < 0 ? rc : dial(w, &peer, &p->fd, &err);
    rc = rc < 0 ? rc : wh_io_start(w->node->loop, &p->io, p->fd, EPOLLOUT, on_io, p);
    if (rc < 0)
        finish(p, err.msg);
    else
        wh_timer_start(w->node->loop, &p->timeout, spec->timeout, on_timeout, p);
}

static void on_due(wh_timer *timer)
{
    wh_worker_container *c = timer->user;
    schedule(c->worker, (size_t)(c - c->worker->containers));
}

/* Starts what is due; comes again when more is. */
static void schedule(wh_worker *w, size_t container)
{
    wh_worker_container *c = &w->containers[container];
    wh_time now = wh_node_now(w->node), next;
    int kind;

    if (c->dormant || c->probing_busy)
        return;
    c->probing_busy = true; /* a probe that fails at once comes here again */
    while ((kind = wh_probes_due(&c->probes, now, &next)) >= 0 && !w->gone)
        begin(w, container, (wh_probe_kind)kind);
    c->probing_busy = false;
    c->worker = w;
    if (next == WH_TIME_NEVER || w->gone)
        wh_timer_stop(&c->probe_timer);
    else
        wh_timer_start(w->node->loop, &c->probe_timer, WH_MAX(next - now, WH_MSEC), on_due, c);
}

static void cancel(wh_worker *w, size_t container)
{
    wh_worker_container *c = &w->containers[container];

    wh_probes_end(&c->probes);
    wh_timer_stop(&c->probe_timer);
    for (int kind = 0; kind < WH_PROBE_KINDS; kind++)
        if (c->probing[kind] != NULL)
            probing_end(c->probing[kind]);
    c->probed_attempt = -1;
}

static bool has_probes(const wh_container_spec *c)
{
    return c->role != WH_ROLE_INIT && (c->probes[WH_PROBE_STARTUP].action != WH_PROBE_NONE ||
                                       c->probes[WH_PROBE_LIVENESS].action != WH_PROBE_NONE ||
                                       c->probes[WH_PROBE_READINESS].action != WH_PROBE_NONE);
}

void wh_worker_probe(wh_worker *w)
{
    for (size_t i = 0; i < w->spec->n_containers; i++) {
        wh_worker_container *c = &w->containers[i];
        const wh_container_spec *spec = &w->spec->containers[i];
        const wh_container_life *life = wh_lifecycle_container(w->lc, i);
        bool runs = life->state == WH_CONTAINER_RUNNING && !life->stopping && !wh_lifecycle_adopting(w->lc);
        if (!has_probes(spec))
            continue;
        if (c->probed_attempt >= 0 && (!runs || c->probed_attempt != (int64_t)life->attempt))
            cancel(w, i);
        if (!runs || c->probed_attempt >= 0)
            continue;
        c->probed_attempt = life->attempt;
        /* Ready without a probe's word is ready only in name: it is found out again. */
        wh_probes_begin(&c->probes, spec->probes, c->rests, life->healthy, life->ready, life->started,
                        wh_node_now(w->node));
        schedule(w, i);
    }
}

void wh_worker_probe_wake(wh_worker *w, size_t container)
{
    if (w->containers[container].probed_attempt >= 0)
        schedule(w, container);
}

void wh_worker_probe_done(wh_worker *w)
{
    for (size_t i = 0; w->spec != NULL && i < w->spec->n_containers; i++)
        cancel(w, i);
}
