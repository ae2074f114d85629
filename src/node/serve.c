/* SPDX-License-Identifier: Apache-2.0 */
/* A pod on the network, and how its containers serve: addresses, listening sockets that the keeper holds, the program
 * and the mode that fit the code. */
#include "node/internal.h"

#include "base/file.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/record.h"
#include "engine/engine.h"
#include "node/egress.h"
#include "runner/control.h"
#include "runner/spec.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#define NODE_ROOTS "/etc/ssl/certs/ca-certificates.crt"

static WH_METRIC(pods_dormant, WH_GAUGE, "wherry_pods_dormant",
                 "Containers without a process that a connection wakes.", NULL);
static WH_METRIC(wakes_total, WH_COUNTER, "wherry_wakes_total", "Dormant containers that a connection woke.",
                 NULL);
static const double wake_buckets[] = {0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 0};
static wh_metric wake_seconds = {.name = "wherry_wake_seconds",
                                 .help =
                                     "From the connection to a dormant container to its guest being ready.",
                                 .kind = WH_HISTOGRAM,
                                 .buckets = wake_buckets};

__attribute__((constructor)) static void register_wake_seconds(void)
{
    wh_metric_register(&wake_seconds);
}

/* ---- what the pod asks for ---- */

int wh_worker_serve_init(wh_worker *w, wh_err *err)
{
    const wh_node *node = w->node;
    wh_egress_rule *rules = NULL;
    size_t n = 0;
    int rc = wh_pod_serve_parse(w->spec, &w->serve, err);

    if (rc == 0 && w->serve.egress != NULL) {
        rc = wh_egress_parse(w->serve.egress, &rules, &n, err);
        wh_egress_free(rules, n);
        if (rc < 0)
            rc = wh_wrap(err, "annotation 'wherry.dev/egress'");
    }
    /* The object may be replaced by a newer one; these stay. */
    w->serve.tls_secret = rc == 0 && w->serve.tls_secret != NULL ? wh_xstrdup(w->serve.tls_secret) : NULL;
    w->serve.egress = rc == 0 && w->serve.egress != NULL ? wh_xstrdup(w->serve.egress) : NULL;
    if (rc < 0)
        return rc;
    const wh_pod_dns dns = {.resolv_conf = node->resolv_conf,
                            .servers = node->config.cluster_dns,
                            .domain = node->config.cluster_domain};
    w->facts = node->facts;
    /* Its own address is not known yet, also of a pod that an earlier agent started: better none than the node's. */
    if (node->config.network != NULL && node->config.network->mode == WH_NETWORK_SHARED &&
        !w->spec->host_network)
        w->facts.pod_ips[0] = NULL;
    w->resolv_conf = wh_pod_resolv_conf(w->spec, &dns);
    return 0;
}

void wh_worker_serve_done(wh_worker *w)
{
    free((void *)(uintptr_t)w->serve.tls_secret);
    free((void *)(uintptr_t)w->serve.egress);
    free(w->resolv_conf);
    free(w->ips[0]);
    free(w->ips[1]);
}

/* wherry.dev/serve is meant for the containers that have a port, or for the only one. */
static bool is_meant(const wh_worker *w, size_t container)
{
    const wh_container_spec *c = &w->spec->containers[container];
    size_t n_main = w->spec->n_containers - w->spec->n_init;

    return c->role == WH_ROLE_MAIN && (n_main == 1 || c->n_ports > 0);
}

unsigned wh_worker_code_profile(const wh_worker *w, size_t container)
{
    bool calls = w->serve.mode == WH_POD_SERVE_WAGI || w->serve.mode == WH_POD_SERVE_STREAM;

    return calls && is_meant(w, container) ? WH_PROFILE_SHARED : WH_PROFILE_POD;
}

static bool is_http(const wh_code *code)
{
    return code->kind == WH_CODE_HTTP_P2 || code->kind == WH_CODE_HTTP_P3;
}

static bool is_component(const wh_code *code)
{
    return is_http(code) || code->kind == WH_CODE_COMPONENT_COMMAND;
}

static bool wants_command(const wh_worker *w, bool meant)
{
    return meant && (w->serve.mode == WH_POD_SERVE_WAGI || w->serve.mode == WH_POD_SERVE_STREAM);
}

static int choose_mode(const wh_worker *w, size_t container, unsigned *ret, wh_err *err)
{
    const wh_code *code = &w->containers[container].code;
    const char *name = w->spec->containers[container].name;
    bool meant = is_meant(w, container);

    if (wants_command(w, meant)) {
        if (code->kind != WH_CODE_COMMAND)
            return wh_fail(
                err, -EINVAL,
                "annotation 'wherry.dev/serve' takes a WASI preview 1 command; container '%s' is '%s'.", name,
                wh_code_kind_name(code->kind));
        *ret = w->serve.mode == WH_POD_SERVE_WAGI ? WH_RUNSPEC_WAGI : WH_RUNSPEC_STREAM;
        return 0;
    }
    if (is_http(code) &&
        (w->spec->containers[container].role == WH_ROLE_INIT || (meant && w->serve.mode == WH_POD_SERVE_RUN)))
        return wh_fail(err, -EINVAL, "container '%s' is an HTTP component: it serves and does not end.",
                       name);
    *ret = is_http(code) ? WH_RUNSPEC_HTTP : WH_RUNSPEC_COMMAND;
    return 0;
}

static int choose_program(const wh_worker *w, size_t container, int *ret_fd, wh_err *err)
{
    static const char *const names[WH_RUNNERS] = {"wherry-runner", "wherry-runner-tls",
                                                  "wherry-runner-component", "wherry-runner-component-tls"};
    const wh_code *code = &w->containers[container].code;
    bool tls = w->serve.tls_secret != NULL && is_meant(w, container);
    size_t i = is_component(code) ? WH_RUNNER_COMPONENT : WH_RUNNER_CORE;

    if (tls || code->egress)
        i++;
    if (w->node->runner_fds[i] < 0 && !tls && i == WH_RUNNER_COMPONENT_TLS)
        i = WH_RUNNER_COMPONENT; /* outgoing https is refused there, plain http goes */
    if (w->node->runner_fds[i] < 0)
        return wh_fail(err, -ENOENT, "container '%s' needs the program '%s', which is not installed here.",
                       w->spec->containers[container].name, names[i]);
    *ret_fd = w->node->runner_fds[i];
    return 0;
}

/* ---- the network ---- */

static void set_address(wh_worker *w, size_t i, const wh_addr *addr)
{
    char text[WH_ADDR_TEXT_MAX];

    w->addresses[i] = *addr;
    free(w->ips[i]);
    w->ips[i] = wh_xstrdup(wh_addr_ip(addr, text));
}

static bool is_tcp(const wh_port *port)
{
    return port->protocol == NULL || wh_streq(port->protocol, "TCP");
}

/* The first TCP port, or the usual one. NULL ret_host: none wanted. */
static uint16_t port_of(const wh_container_spec *c, uint16_t *ret_host)
{
    for (size_t i = 0; i < c->n_ports; i++) {
        if (is_tcp(&c->ports[i])) {
            *ret_host = c->ports[i].host_port;
            return c->ports[i].container_port;
        }
    }
    *ret_host = 0;
    return WH_SERVE_PORT;
}

static int network_add(wh_worker *w, const char *id, bool on_host, wh_err *err)
{
    uint16_t host_port, ports[WH_POD_CONTAINERS_MAX];
    auto_free char *hosts = wh_pod_hosts(w->spec, &w->facts);
    wh_netd_pod pod = {
        .id = id, .closed = w->serve.egress != NULL, .resolv_conf = w->resolv_conf, .hosts = hosts};
    wh_addr addresses[2] = {{0}};
    size_t n = 0;
    wh_egress_rule *rules = NULL;
    int rc = w->serve.egress == NULL ? 0 : wh_egress_parse(w->serve.egress, &rules, &pod.n_rules, err);

    for (size_t i = w->spec->n_init; i < w->spec->n_containers; i++) {
        uint16_t port = port_of(&w->spec->containers[i], &host_port);
        ports[pod.n_ports++] = on_host ? host_port : port;
    }
    pod.ports = ports;
    pod.rules = rules;
    rc = rc < 0 ? rc
                : wh_network_pod_add(w->node->network, &pod, on_host || w->spec->host_network, addresses, &n,
                                     err);
    wh_egress_free(rules, pod.n_rules);
    if (rc < 0 || on_host)
        return rc;
    w->n_addresses = n;
    for (size_t i = 0; i < n; i++)
        set_address(w, i, &addresses[i]);
    return 0;
}

int wh_worker_network_up(wh_worker *w, wh_err *err)
{
    if (w->networked || (w->node->network == NULL && w->node->config.network == NULL))
        return 0;
    int rc = wh_node_network_get(w->node, err);
    rc = rc < 0 ? rc : network_add(w, w->uid, false, err);
    if (rc < 0)
        return rc;
    w->networked = true;
    /* On the host's addresses a pod is known by the node's own. */
    bool own = !w->spec->host_network && wh_network_mode_of(w->node->network) != WH_NETWORK_HOST;
    w->facts.pod_ips[0] = w->node->facts.pod_ips[0];
    for (size_t i = 0; own && i < w->n_addresses; i++)
        w->facts.pod_ips[i] = w->ips[i];
    wh_volumes_set_facts(w->volumes, &w->facts);
    return 0;
}

static void drop_done(void *user, int rc, pid_t pid, const char *error)
{
    (void)user;
    (void)pid;
    if (rc < 0 && rc != -ENOENT)
        wh_log(WARN, "a listening socket stays with the keeper", KV_STR("error", error));
}

static char *socket_name(const wh_worker *w, size_t container, size_t i)
{
    return wh_xasprintf("%s:%s:%zu", w->uid, w->spec->containers[container].name, i);
}

void wh_worker_network_down(wh_worker *w)
{
    auto_free char *host_id = wh_xasprintf("%s.host", w->uid);
    wh_err err = {0};

    for (size_t i = 0; i < w->spec->n_containers; i++) {
        for (size_t k = 0; k < w->containers[i].n_held && w->node->keeper != NULL; k++) {
            auto_free char *name = socket_name(w, i, k);
            (void)wh_keeper_drop(w->node->keeper, name, drop_done, NULL, NULL);
        }
        w->containers[i].n_held = 0;
    }
    if (w->networked) /* also what an earlier agent had made; mostly there is none */
        (void)wh_network_pod_remove(w->node->network, host_id, NULL);
    if (w->networked && wh_network_pod_remove(w->node->network, w->uid, &err) < 0)
        wh_log(WARN, "the network keeps a pod that ended", KV_STR("pod", w->spec->name), KV_ERR(&err));
    w->networked = false;
}

/* ---- sockets ---- */

/* Somebody else's hostPort, or the same port on the host's addresses. */
static const wh_worker *port_taken(const wh_worker *w, uint16_t port)
{
    wh_worker *other, *next;
    uint16_t host_port;

    HASH_ITER(hh, w->node->by_uid, other, next)
    {
        if (other == w || wh_lifecycle_terminal(other->lc))
            continue;
        bool on_host = other->spec->host_network || wh_network_mode_of(w->node->network) == WH_NETWORK_HOST;
        for (size_t i = 0; i < other->spec->n_containers; i++) {
            uint16_t own = port_of(&other->spec->containers[i], &host_port);
            bool serves = other->containers[i].n_held > 0;
            if (serves && (host_port == port || (on_host && own == port)))
                return other;
        }
    }
    return NULL;
}

static int listen_on(wh_worker *w, const char *id, uint16_t port, bool on_host, int fds[WH_SERVE_SOCKETS_MAX],
                     size_t *n, wh_err *err)
{
    size_t got = 0;
    int rc = wh_network_pod_listen(w->node->network, id, port, fds + *n, &got, err);

    if (rc == 0)
        *n += got;
    const wh_worker *other = rc == -EADDRINUSE && on_host ? port_taken(w, port) : NULL;
    if (other != NULL)
        rc = wh_fail(err, rc, "port %u of the host is in use by pod '%s/%s'.", port, other->spec->namespace_,
                     other->spec->name);
    else if (rc == -EADDRINUSE)
        rc = wh_fail(err, rc, "port %u%s is in use.", port, on_host ? " of the host" : " of the pod");
    return rc;
}

static void hold_done(void *user, int rc, pid_t pid, const char *error)
{
    (void)user;
    (void)pid;
    if (rc < 0)
        wh_log(WARN, "the keeper does not hold a listening socket", KV_STR("error", error));
}

static int make_sockets(wh_worker *w, size_t container, wh_err *err)
{
    uint16_t host_port, port = port_of(&w->spec->containers[container], &host_port);
    bool on_host = w->spec->host_network || wh_network_mode_of(w->node->network) == WH_NETWORK_HOST;
    auto_free char *host_id = wh_xasprintf("%s.host", w->uid);
    int fds[WH_SERVE_SOCKETS_MAX];
    size_t n = 0;
    int rc = listen_on(w, w->uid, port, on_host, fds, &n, err);

    if (rc == 0 && host_port != 0 && !w->spec->host_network && (!on_host || host_port != port)) {
        rc = network_add(w, host_id, true, err);
        rc = rc < 0 ? rc : listen_on(w, host_id, host_port, true, fds, &n, err);
    }
    for (size_t i = 0; i < n; i++) {
        auto_free char *name = socket_name(w, container, i);
        if (rc == 0)
            rc = wh_keeper_hold(w->node->keeper, name, fds[i], hold_done, NULL, err);
        close(fds[i]); /* sent, or copied until it is */
    }
    if (rc == 0)
        w->containers[container].n_held = n;
    return rc;
}

static int prepare_sockets(wh_worker *w, size_t container, wh_start_plan *plan, wh_err *err)
{
    wh_worker_container *c = &w->containers[container];
    int rc = 0;

    if (w->node->keeper == NULL)
        return wh_fail(err, -ENOTCONN, "the keeper is away; it is being started again.");
    if (c->n_held == 0)
        rc = make_sockets(w, container, err);
    for (size_t i = 0; rc == 0 && i < c->n_held; i++)
        plan->sockets[plan->n_sockets++] = socket_name(w, container, i);
    plan->rest = c->rests = w->serve.idle > 0 && is_meant(w, container);
    return rc;
}

int wh_worker_serve_prepare(wh_worker *w, size_t container, wh_start_plan *plan, const char **ret_reason,
                            wh_err *err)
{
    const wh_code *code = &w->containers[container].code;
    bool networks = code->egress || code->sockets;

    w->containers[container].offline = !networks;
    int rc = choose_mode(w, container, &plan->mode, err);

    *ret_reason = "CreateContainerConfigError";
    plan->netd_fd = -1;
    rc = rc < 0 ? rc : choose_program(w, container, &plan->program, err);
    if (rc < 0)
        return rc;
    *ret_reason = "CreateContainerError";
    if (plan->mode == WH_RUNSPEC_COMMAND && !networks)
        return 0;
    rc = wh_node_network_get(w->node, err);
    rc = rc < 0 ? rc : wh_worker_network_up(w, err);
    if (rc == 0 && networks)
        rc = wh_network_pod_channel(w->node->network, w->uid, &plan->netd_fd, err);
    if (rc < 0 || plan->mode == WH_RUNSPEC_COMMAND)
        return rc;
    return prepare_sockets(w, container, plan, err);
}

static void channel_sent(void *user, int rc, pid_t pid, const char *error)
{
    (void)user;
    (void)pid;
    if (rc < 0 && rc != -ENOENT && rc != -ENOTCONN)
        wh_log(WARN, "a runner was not given its new channel to the network", KV_STR("error", error));
}

void wh_worker_channel_renew(wh_worker *w, size_t container)
{
    const wh_container_life *life = wh_lifecycle_container(w->lc, container);
    char id[WH_CONTAINER_ID_LEN];
    auto_close int fd = -1;
    auto_buf wh_buf message;
    wh_err err = {0};

    if (!w->networked || w->containers[container].offline || w->containers[container].dormant ||
        life->state != WH_CONTAINER_RUNNING || w->node->keeper == NULL)
        return;
    wh_buf_init(&message, WH_CONTROL_BYTES_MAX);
    wh_record_put_str(&message, "op", "netd");
    int rc = wh_network_pod_channel(w->node->network, w->uid, &fd, &err);
    if (rc == 0)
        rc = wh_keeper_send(w->node->keeper, wh_container_id(w->spec, container, life->attempt, id),
                            message.p, message.len, &fd, 1, channel_sent, NULL, &err);
    if (rc < 0)
        wh_log(WARN, "a container stays without the network", KV_STR("pod", w->spec->name), KV_ERR(&err));
}

/* ---- the run specification ---- */

static int add_memory(wh_start_plan *plan, const void *data, size_t n, const char *what, wh_err *err)
{
    auto_close int fd = memfd_create("wherry-tls", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0 || wh_write_all(fd, data, n) < 0 || lseek(fd, 0, SEEK_SET) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
        return wh_fail(err, -errno, "hand over %s", what);
    return wh_start_plan_add(plan, WH_TAKE_FD(fd), what, err);
}

static int add_tls(wh_worker *w, wh_runspec *spec, wh_start_plan *plan, wh_err *err)
{
    static const char *const keys[] = {"tls.crt", "tls.key"};
    int *slots[] = {&spec->serve.tls_cert_fd, &spec->serve.tls_key_fd};
    auto_json json_t *secret = NULL;
    int rc = wh_snapshot_get(w, "Secret", w->spec->namespace_, w->serve.tls_secret, &secret, err);

    for (size_t i = 0; rc == 0 && i < WH_ARRAY_LEN(keys); i++) {
        char *text = NULL;
        size_t n = 0;
        rc = wh_object_key(secret, keys[i], &text, &n, err);
        if (rc == 0)
            rc = *slots[i] = add_memory(plan, text, n, keys[i], err);
        if (text != NULL)
            explicit_bzero(text, n);
        free(text);
        rc = rc < 0 ? rc : 0;
    }
    return rc < 0 ? wh_wrap(err, "annotation 'wherry.dev/tls-secret'") : 0;
}

int wh_worker_serve_spec(wh_worker *w, size_t container, wh_runspec *spec, wh_start_plan *plan, wh_err *err)
{
    const wh_code *code = &w->containers[container].code;
    const wh_pod_serve *s = &w->serve;
    int rc = 0;

    if (plan->netd_fd >= 0)
        rc = spec->netd_fd = wh_start_plan_add(plan, WH_TAKE_FD(plan->netd_fd), "netd's channel", err);
    if (rc >= 0 && code->egress && access(NODE_ROOTS, R_OK) == 0)
        rc = spec->ca_fd = wh_start_plan_add(plan, open(NODE_ROOTS, O_RDONLY | O_CLOEXEC), NODE_ROOTS, err);
    if (rc < 0 || plan->mode == WH_RUNSPEC_COMMAND)
        return rc < 0 ? rc : 0;
    spec->serve.mode = plan->mode;
    if (!is_meant(w, container))
        return 0;
    spec->serve.at_once = s->at_once;
    spec->serve.queue = s->queue;
    spec->serve.reuse = s->reuse;
    spec->serve.queue_time = s->queue_time;
    spec->serve.time = s->time;
    spec->serve.idle = s->idle;
    return s->tls_secret != NULL ? add_tls(w, spec, plan, err) : 0;
}

/* ---- dormant ones ---- */

bool wh_node_held(wh_node *node, const char *name)
{
    wh_str left = wh_str_of(name), uid, container;

    if (!wh_str_split(&left, ':', &uid) || !wh_str_split(&left, ':', &container))
        return false;
    auto_free char *key = wh_xstrndup(uid.p, uid.n);
    auto_free char *which = wh_xstrndup(container.p, container.n);
    wh_worker *w = wh_node_find(node, key);
    int index = w == NULL || wh_lifecycle_torn_down(w->lc) ? -ENOENT : wh_pod_spec_find(w->spec, which);
    if (index < 0)
        return false;
    w->containers[index].n_held++;
    return true;
}

bool wh_worker_is_dormant(const wh_worker *w)
{
    bool any = false;

    for (size_t i = w->spec->n_init; i < w->spec->n_containers; i++) {
        if (wh_lifecycle_container(w->lc, i)->state == WH_CONTAINER_RUNNING && !w->containers[i].dormant)
            return false;
        any |= w->containers[i].dormant;
    }
    return any;
}

/* A woken runner: how long it took, once, and a channel of the netd of today. */
static void note_wake(wh_worker *w, size_t container, const wh_keeper_event *event)
{
    wh_worker_container *c = &w->containers[container];

    if (event->running == 0) {
        c->woken = event->started;
        return;
    }
    if (c->woken == 0)
        return;
    if (event->running > c->woken)
        wh_metric_observe(&wake_seconds, NULL, (double)(event->running - c->woken) / (double)WH_SEC);
    c->woken = 0;
    if (!c->offline) /* the one it went to rest with may be of a netd that is gone */
        wh_worker_channel_renew(w, container);
}

void wh_worker_set_dormant(wh_worker *w, size_t container, const wh_keeper_event *event)
{
    wh_worker_container *c = &w->containers[container];

    c->rests = event->rests;
    if (event->wakes > c->wakes && c->wakes_known)
        wh_metric_add(&wakes_total, NULL, event->wakes - c->wakes);
    c->wakes = event->wakes;
    c->wakes_known = true;
    if (event->dormant != c->dormant)
        wh_metric_add(&pods_dormant, NULL, event->dormant ? 1 : -1);
    if (!event->dormant && !event->exited && event->wakes > 0)
        note_wake(w, container, event);
    bool wakes = c->dormant && !event->dormant && !event->exited;
    if (event->dormant && !c->dormant) { /* the keeper took it away: whoever starts makes it anew */
        wh_cgroup_free(w->cgroup);
        w->cgroup = NULL;
    }
    c->dormant = event->dormant;
    if (wakes)
        wh_worker_probe_wake(w, container);
}
