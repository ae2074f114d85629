/* SPDX-License-Identifier: Apache-2.0 */
#include "node/kubelet.h"
#include "base/log.h"
#include "http/server.h"
#include "node/log_stream.h"
#include "node/stats.h"

#define SELF_SIGNED_LIFE (365 * 24 * WH_HOUR)

struct wh_kubelet {
    wh_loop *loop;
    wh_node *node;
    wh_auth *auth;
    wh_tls_server *tls;
    wh_http_server *server, *health;
    char *node_name, *client_ca;
    const char *(*not_ready)(void *user);
    void *user;
};

static void reply_json(wh_http_exchange *x, json_t *body)
{
    auto_free char *text = wh_json_dump(body);

    wh_http_reply(x, 200, "application/json", text, strlen(text));
    json_decref(body);
}

static void health(wh_kubelet *k, wh_http_exchange *x)
{
    const char *why = k->not_ready != NULL ? k->not_ready(k->user) : NULL;

    if (why == NULL)
        wh_http_reply(x, 200, "text/plain", "ok", 2);
    else
        wh_http_replyf(x, 500, "%s\n", why);
}

static void put_pod(void *user, wh_worker *w)
{
    json_array_append_new(user, wh_worker_pod(w));
}

static void pods(wh_kubelet *k, wh_http_exchange *x)
{
    json_t *items = json_array();

    wh_node_each(k->node, put_pod, items);
    reply_json(x, json_pack("{s:s, s:s, s:{}, s:o}", "kind", "PodList", "apiVersion", "v1", "metadata",
                            "items", items));
}

static void text_metrics(wh_http_exchange *x, int (*write)(wh_node *node, wh_buf *out), wh_node *node)
{
    auto_buf wh_buf out;

    wh_buf_init(&out, 16UL << 20);
    write(node, &out);
    wh_http_reply(x, 200, "text/plain; version=0.0.4; charset=utf-8", wh_buf_str(&out), out.len);
}

/* /containerLogs/NS/POD/CONTAINER */
static void container_logs(wh_kubelet *k, wh_http_exchange *x, const char *rest)
{
    wh_str left = wh_str_of(rest), parts[4];
    size_t n = 0;

    while (n < WH_ARRAY_LEN(parts) && wh_str_split(&left, '/', &parts[n]))
        n++;
    if (n != 3) {
        wh_http_replyf(x, 404, "the path is /containerLogs/NAMESPACE/POD/CONTAINER\n");
        return;
    }
    auto_free char *ns = wh_xstrndup(parts[0].p, parts[0].n);
    auto_free char *pod = wh_xstrndup(parts[1].p, parts[1].n);
    auto_free char *container = wh_xstrndup(parts[2].p, parts[2].n);
    wh_log_stream(k->loop, k->node, x, ns, pod, container);
}

static void configz(wh_kubelet *k, wh_http_exchange *x)
{
    reply_json(x, json_pack("{s:{s:s, s:s, s:s}}", "kubeletconfig", "kind", "KubeletConfiguration",
                            "apiVersion", "kubelet.config.k8s.io/v1beta1", "nodeName", k->node_name));
}

static void not_here(wh_http_exchange *x, const char *path)
{
    wh_http_replyf(x, 501, "%s: exec, attach and port-forward are not part of this version\n", path);
}

/* What an allowed caller gets. complexity: the table of paths. */
static void serve(wh_kubelet *k, wh_http_exchange *x)
{
    static const char logs[] = "/containerLogs/";
    const wh_http_request *r = wh_http_request_of(x);
    const char *path = r->path;
    bool get = wh_streq(r->method, "GET") || wh_streq(r->method, "HEAD");

    if (wh_starts_with(path, "/exec/") || wh_starts_with(path, "/attach/") ||
        wh_starts_with(path, "/portForward/") || wh_starts_with(path, "/run/"))
        not_here(x, path);
    else if (!get)
        wh_http_replyf(x, 405, "%s takes GET\n", path);
    else if (wh_starts_with(path, logs))
        container_logs(k, x, path + sizeof(logs) - 1);
    else if (wh_streq(path, "/pods") || wh_streq(path, "/pods/") || wh_starts_with(path, "/runningpods"))
        pods(k, x);
    else if (wh_streq(path, "/metrics"))
        text_metrics(x, wh_stats_metrics, k->node);
    else if (wh_streq(path, "/metrics/resource"))
        text_metrics(x, wh_stats_resource, k->node);
    else if (wh_streq(path, "/stats/summary"))
        reply_json(x, wh_stats_summary(k->node, k->node_name));
    else if (wh_starts_with(path, "/healthz"))
        health(k, x);
    else if (wh_streq(path, "/configz"))
        configz(k, x);
    else
        wh_http_replyf(x, 404, "404 page not found\n");
}

static void checked(wh_http_exchange *x, const wh_auth_answer *answer, void *user)
{
    if (answer->status == 200)
        serve(user, x);
    else
        wh_http_replyf(x, answer->status, "%s\n", answer->why);
}

static void handle(wh_http_exchange *x, const wh_http_request *request, void *user)
{
    wh_kubelet *k = user;
    const char *verb, *subresources[4];

    wh_auth_attributes(request->method, request->path, &verb, subresources);
    wh_auth_check(k->auth, x, verb, subresources, checked, k);
}

static void handle_health(wh_http_exchange *x, const wh_http_request *request, void *user)
{
    if (wh_streq(request->path, "/healthz"))
        health(user, x);
    else
        wh_http_replyf(x, 404, "only /healthz is here\n");
}

static int listen_http(wh_kubelet *k, const char *address, bool secure, wh_http_server **ret, wh_err *err)
{
    wh_addr addr;
    int fd = -1;
    int rc = wh_addr_parse(address, -1, &addr, err);

    rc = rc < 0 ? rc : wh_listen(&addr, 0, &fd, err);
    if (rc < 0)
        return rc;
    wh_http_server_options options = {.listen_fd = fd,
                                      .tls = secure ? k->tls : NULL,
                                      .handler = secure ? handle : handle_health,
                                      .user = k,
                                      .name = secure ? "kubelet" : "healthz"};
    rc = wh_http_server_start(k->loop, &options, ret, err);
    if (rc < 0)
        close(fd);
    return rc;
}

static int self_sign(const wh_kubelet_options *options, char **ret_cert, char **ret_key, wh_err *err)
{
    auto_free char *cn = wh_xasprintf("system:node:%s", options->node_name);
    int rc = wh_key_new(ret_key, err);

    return rc < 0 ? rc
                  : wh_cert_self_signed(*ret_key, cn, options->dns, options->ips, SELF_SIGNED_LIFE, ret_cert,
                                        err);
}

int wh_kubelet_start(wh_loop *loop, wh_node *node, wh_kube *kube, const wh_kubelet_options *options,
                     wh_kubelet **ret, wh_err *err)
{
    wh_kubelet *k = wh_xnew(wh_kubelet);
    auto_free char *cert = NULL;
    auto_free char *key = NULL;

    k->loop = loop;
    k->node = node;
    k->node_name = wh_xstrdup(options->node_name);
    k->client_ca = options->client_ca_pem != NULL ? wh_xstrdup(options->client_ca_pem) : NULL;
    k->not_ready = options->not_ready;
    k->user = options->user;
    k->auth = wh_auth_new(kube, options->node_name);
    int rc = self_sign(options, &cert, &key, err);
    if (rc == 0)
        rc = wh_tls_server_new(&(wh_tls_server_options){.cert_pem = cert,
                                                        .key_pem = key,
                                                        .client_ca_pem = options->client_ca_pem},
                               &k->tls, err);
    rc = rc < 0 ? rc : listen_http(k, options->listen, true, &k->server, err);
    if (rc == 0 && options->healthz != NULL)
        rc = listen_http(k, options->healthz, false, &k->health, err);
    if (rc < 0) {
        wh_kubelet_free(k);
        return wh_wrap(err, "serve the kubelet API");
    }
    *ret = k;
    return 0;
}

int wh_kubelet_set_certificate(wh_kubelet *k, const char *cert_pem, const char *key_pem, wh_err *err)
{
    return wh_tls_server_set(
        k->tls,
        &(wh_tls_server_options){.cert_pem = cert_pem, .key_pem = key_pem, .client_ca_pem = k->client_ca},
        err);
}

int wh_kubelet_port(const wh_kubelet *k)
{
    return wh_http_server_port(k->server);
}

void wh_kubelet_free(wh_kubelet *k)
{
    if (k == NULL)
        return;
    if (k->server != NULL)
        wh_http_server_free(k->server);
    if (k->health != NULL)
        wh_http_server_free(k->health);
    wh_auth_free(k->auth);
    wh_tls_server_free(k->tls);
    free(k->node_name);
    free(k->client_ca);
    free(k);
}
