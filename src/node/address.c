/* SPDX-License-Identifier: Apache-2.0 */
/* The network of the node's pods: made when its addresses are known, and put right after a restart of the agent. */
#include "node/internal.h"

#include "base/file.h"
#include "base/log.h"
#include "node/egress.h"

#define WAIT_FOR_CIDRS (10 * WH_SEC)

/* Channels of runners ended with the old netd. */
static void on_restart(void *user)
{
    wh_node *node = user;
    wh_worker *w, *next;

    HASH_ITER(hh, node->by_uid, w, next)
    {
        for (size_t i = 0; i < w->spec->n_containers; i++)
            wh_worker_channel_renew(w, i);
    }
}

static void on_refused(void *user, const char *pod, const char *target, const char *reason)
{
    auto_free char *message = wh_xasprintf("Connection to %s refused: %s", target, reason);
    wh_worker *w = wh_node_find(user, pod);

    if (w != NULL)
        wh_worker_say(w, WH_POD_ITSELF, true, "NetworkRefused", message);
}

static int make(wh_node *node, wh_err *err)
{
    auto_free char *state = wh_path_join(node->config.paths->run, "network");
    auto_free char *weaker = NULL;
    wh_network_options *o = &node->network_options;

    o->netd_program = node->config.paths->netd;
    o->state_dir = state;
    o->on_restart = on_restart;
    o->on_refused = on_refused;
    o->user = node;
    if (o->netd_program == NULL)
        return wh_fail(err, -ENOENT, "the program 'wherry-netd' is not installed: pods have no network.");
    int rc = wh_network_new(node->loop, o, &node->network, &weaker, err);
    o->state_dir = NULL;
    if (weaker != NULL)
        wh_log(WARN, "the pod network is weaker than it could be", KV_STR("why", weaker));
    return rc;
}

static bool lacks_addresses(const wh_node *node)
{
    const wh_network_options *o = &node->network_options;

    return o->mode == WH_NETWORK_SHARED && o->cidr4.len == 0 && o->cidr6.len == 0;
}

int wh_node_network_get(wh_node *node, wh_err *err)
{
    if (node->network != NULL)
        return 0;
    if (lacks_addresses(node))
        return wh_fail(err, -EAGAIN, "the cluster has not said yet which addresses this node's pods have.");
    return make(node, err);
}

/* Whoever waited for an address goes on. */
static void begin_with(wh_node *node)
{
    wh_worker *w, *next;
    wh_err err = {0};

    wh_timer_stop(&node->network_wait);
    if (make(node, &err) < 0) {
        wh_log(ERROR, "pods have no network", KV_ERR(&err));
        return;
    }
    if (node->is_ready)
        wh_node_network_adopt(node);
    HASH_ITER(hh, node->by_uid, w, next)
    {
        wh_worker_post(w, &(wh_pod_event){.type = WH_POD_RETRY});
    }
}

static void waited(wh_timer *timer)
{
    wh_node *node = timer->user;

    wh_log(
        WARN,
        "the cluster gives this node no podCIDR: its pods share the host's addresses; --pod-cidr gives them "
        "own ones");
    node->network_options.mode = WH_NETWORK_HOST;
    begin_with(node);
}

void wh_node_set_pod_cidrs(wh_node *node, const json_t *cidrs)
{
    wh_network_options *o = &node->network_options;
    const json_t *item;
    size_t i;

    if (node->network != NULL || !lacks_addresses(node))
        return;
    json_array_foreach(cidrs, i, item)
    {
        wh_egress_rule *rule = NULL; /* the same syntax */
        size_t n = 0;
        if (!json_is_string(item) || wh_egress_parse(json_string_value(item), &rule, &n, NULL) < 0)
            continue;
        if (n == 1 && rule->host == NULL && rule->net.sa.sa_family == AF_INET) {
            o->cidr4 = rule->net;
            o->prefix4 = rule->prefix;
        } else if (n == 1 && rule->host == NULL) {
            o->cidr6 = rule->net;
            o->prefix6 = rule->prefix;
        }
        wh_egress_free(rule, n);
    }
    if (!lacks_addresses(node))
        begin_with(node);
}

int wh_node_network_begin(wh_node *node, wh_err *err)
{
    if (node->config.network == NULL) { /* a foreground run: only what is served needs one */
        node->network_options =
            (wh_network_options){.mode = WH_NETWORK_HOST, .netd_uid = geteuid() == 0 ? 65534 : geteuid()};
        return wh_addr_parse("127.0.0.1", 0, &node->network_options.host_address, err);
    }
    node->network_options = *node->config.network;
    if (!lacks_addresses(node))
        return make(node, err);
    wh_timer_start(node->loop, &node->network_wait, WAIT_FOR_CIDRS, waited, node);
    return 0;
}

void wh_node_network_adopt(wh_node *node)
{
    wh_worker *w, *next;
    size_t n = 0;

    if (node->network == NULL)
        return;
    const char **ids = wh_xcalloc(HASH_COUNT(node->by_uid) + 1, sizeof(*ids));
    HASH_ITER(hh, node->by_uid, w, next)
    {
        wh_err err = {0};
        if (wh_lifecycle_torn_down(w->lc))
            continue;
        ids[n++] = w->uid;
        if (!wh_lifecycle_terminal(w->lc) && wh_lifecycle_start_time(w->lc) != 0 &&
            wh_worker_network_up(w, &err) < 0)
            wh_log(WARN, "a pod that runs lost its place in the network", KV_STR("pod", w->spec->name),
                   KV_ERR(&err));
    }
    wh_network_adopt(node->network, ids, n);
    free(ids);
}
