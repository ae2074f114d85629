/* SPDX-License-Identifier: Apache-2.0 */
#include "node/cluster.h"
#include "base/file.h"
#include "base/log.h"
#include "kube/certificate.h"
#include "kube/events.h"
#include "node/kubelet.h"
#include "node/source_api.h"

#include <fcntl.h>

struct wh_cluster {
    wh_loop *loop;
    wh_node *node;
    wh_cluster_options options;
    wh_kubeconfig config; /* of the node */
    wh_kube *bootstrap;   /* until there is a certificate */
    wh_kube *kube;
    wh_cert *client, *serving;
    wh_events *events;
    wh_objects *objects;
    wh_register *reg;
    wh_source_api *source;
    wh_kubelet *kubelet;
    wh_strv dns, ips;
};

static const char *not_ready(void *user)
{
    const wh_cluster *c = user;

    return c->source != NULL && wh_source_api_synced(c->source) ? NULL
                                                                : "the pods of this node are not known yet";
}

static void serving_certificate(const char *cert_pem, const char *key_pem, void *user)
{
    wh_cluster *c = user;
    wh_err err = {0};

    if (wh_kubelet_set_certificate(c->kubelet, cert_pem, key_pem, &err) < 0)
        wh_log(ERROR, "the new serving certificate cannot be used; the old one stays", KV_ERR(&err));
    else
        wh_log(INFO, "the kubelet API serves with the cluster's certificate");
}

static void certificate_waits(const wh_err *err, void *user)
{
    (void)user;
    if (err->code == -EINPROGRESS)
        wh_log(
            INFO,
            "the serving certificate waits for approval (kubectl certificate approve); logs and metrics wait with it");
    else
        wh_log(WARN, "a certificate was not issued; trying again", KV_ERR(err));
}

static int start_kubelet(wh_cluster *c, wh_err *err)
{
    auto_free char *ca = NULL;
    const char *ca_pem = c->config.ca_pem;

    if (c->options.client_ca_file != NULL) {
        int rc = wh_read_file(AT_FDCWD, c->options.client_ca_file, 1UL << 20, &ca, NULL, err);
        if (rc < 0)
            return rc;
        ca_pem = ca;
    }
    return wh_kubelet_start(c->loop, c->node, c->kube,
                            &(wh_kubelet_options){.node_name = c->options.node.name,
                                                  .listen = c->options.listen,
                                                  .healthz = c->options.healthz,
                                                  .client_ca_pem = ca_pem,
                                                  .dns = c->dns,
                                                  .ips = c->ips,
                                                  .not_ready = not_ready,
                                                  .user = c},
                            &c->kubelet, err);
}

/* With an identity everything else begins. */
static int join(wh_cluster *c, wh_err *err)
{
    auto_free char *file = wh_xasprintf("%s/pki/kubelet-server-current.pem", c->options.state_dir);
    wh_cert_options serving = {.kind = WH_CERT_SERVING,
                               .node_name = c->options.node.name,
                               .file = file,
                               .dns = c->dns,
                               .ips = c->ips,
                               .on_certificate = serving_certificate,
                               .on_error = certificate_waits,
                               .user = c};
    int rc;

    c->events = wh_events_new(c->loop, c->kube, "kubelet", c->options.node.name);
    c->objects = wh_objects_new(c->kube);
    wh_node_use_objects(c->node, c->objects);
    rc = start_kubelet(c, err);
    c->options.node.kubelet_port = rc == 0 ? wh_kubelet_port(c->kubelet) : 0;
    rc = rc < 0 ? rc : wh_register_start(c->loop, c->node, c->kube, &c->options.node, &c->reg, err);
    rc = rc < 0 ? rc
                : wh_source_api_start(c->loop, c->node, c->kube, c->events, c->options.node.name, &c->source,
                                      err);
    rc = rc < 0 ? rc : wh_cert_start(c->loop, c->kube, &serving, &c->serving, err);
    return rc;
}

/* The kubelet's 50 requests a second would be what the start of a hundred pods waits for. */
static int new_kube(wh_cluster *c, wh_err *err)
{
    double qps = (double)c->options.api_qps;
    const wh_kube_options rate = {.qps = qps, .burst = 2 * qps};

    return wh_kube_new(c->loop, &c->config, &rate, &c->kube, err);
}

static void client_certificate(const char *cert_pem, const char *key_pem, void *user)
{
    wh_cluster *c = user;
    wh_err err = {0};

    if (c->kube != NULL) {
        wh_kube_set_certificate(c->kube, cert_pem, key_pem);
        wh_log(INFO, "the node's client certificate was renewed");
        return;
    }
    c->config.cert_pem = wh_xstrdup(cert_pem);
    c->config.key_pem = wh_xstrdup(key_pem);
    if (new_kube(c, &err) < 0 || join(c, &err) < 0) {
        wh_log(ERROR, "joining the cluster failed", KV_ERR(&err));
        wh_loop_stop(c->loop, 1);
        return;
    }
    wh_cert_use(c->client, c->kube);
}

static void client_waits(const wh_err *err, void *user)
{
    (void)user;
    wh_log(WARN, "the node has no client certificate yet; trying again", KV_ERR(err));
}

/* The bootstrap file says where and whom to trust; its token is for the first certificate only. */
static int bootstrap(wh_cluster *c, wh_err *err)
{
    wh_kubeconfig first = {0};
    int rc = wh_kubeconfig_load(c->options.bootstrap_kubeconfig, NULL, &first, err);

    if (rc < 0)
        return rc;
    wh_kubeconfig_copy(&first, &c->config);
    free(WH_TAKE(c->config.token));
    free(WH_TAKE(c->config.token_file));
    rc = wh_kube_new(c->loop, &first, NULL, &c->bootstrap, err);
    wh_kubeconfig_done(&first);
    return rc;
}

static int start_client_certificate(wh_cluster *c, wh_err *err)
{
    auto_free char *file = wh_xasprintf("%s/pki/kubelet-client-current.pem", c->options.state_dir);
    wh_cert_options options = {.kind = WH_CERT_CLIENT,
                               .node_name = c->options.node.name,
                               .file = file,
                               .on_certificate = client_certificate,
                               .on_error = client_waits,
                               .user = c};

    return wh_cert_start(c->loop, c->bootstrap, &options, &c->client, err);
}

int wh_cluster_start(wh_loop *loop, wh_node *node, const wh_cluster_options *options, wh_cluster **ret,
                     wh_err *err)
{
    wh_cluster *c = wh_xnew(wh_cluster);
    auto_free char *pki = wh_path_join(options->state_dir, "pki");
    int rc = wh_mkdir_p(pki, 0700, err);

    c->loop = loop;
    c->node = node;
    c->options = *options;
    wh_strv_push(&c->dns, options->node.name);
    wh_strv_push(&c->ips, options->node.ip);
    if (rc == 0 && options->kubeconfig != NULL) {
        rc = wh_kubeconfig_load(options->kubeconfig, NULL, &c->config, err);
        rc = rc < 0 ? rc : new_kube(c, err);
        rc = rc < 0 ? rc : join(c, err);
    } else if (rc == 0) {
        rc = bootstrap(c, err);
        rc = rc < 0 ? rc : start_client_certificate(c, err);
    }
    if (rc < 0) {
        wh_cluster_free(c);
        return rc;
    }
    *ret = c;
    return 0;
}

void wh_cluster_free(wh_cluster *c)
{
    if (c == NULL)
        return;
    wh_cert_free(c->serving);
    wh_cert_free(c->client);
    wh_source_api_free(c->source);
    wh_register_free(c->reg);
    wh_kubelet_free(c->kubelet);
    wh_node_drop_objects(c->node);
    wh_objects_free(c->objects);
    wh_events_free(c->events);
    wh_kube_free(c->kube);
    wh_kube_free(c->bootstrap);
    wh_kubeconfig_done(&c->config);
    wh_strv_free(c->dns);
    wh_strv_free(c->ips);
    free(c);
}
