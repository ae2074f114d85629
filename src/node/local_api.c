/* SPDX-License-Identifier: Apache-2.0 */
#include "node/local_api.h"
#include "http/server.h"
#include "node/log_stream.h"
#include "node/stats.h"

struct wh_local_api {
    wh_loop *loop;
    wh_node *node;
    wh_http_server *server;
    char *path;
};

static void reply_json(wh_http_exchange *x, int status, json_t *body)
{
    auto_free char *text = wh_json_dump(body);

    wh_http_reply(x, status, "application/json", text, strlen(text));
    json_decref(body);
}

static void reply_error(wh_http_exchange *x, int status, const char *sentence)
{
    reply_json(x, status, json_pack("{s:s}", "error", sentence));
}

static json_t *usage_of(const wh_worker *w)
{
    json_t *containers = json_object();
    const wh_pod_spec *spec = wh_worker_spec(w);
    wh_usage usage;

    for (size_t i = 0; i < spec->n_containers; i++)
        if (wh_worker_usage(w, i, &usage) == 0)
            json_object_set_new(containers, spec->containers[i].name,
                                json_pack("{s:I, s:I}", "cpuNanoseconds", (json_int_t)usage.cpu_ns,
                                          "memoryBytes", (json_int_t)usage.memory_bytes));
    return containers;
}

static json_t *describe(wh_worker *w, bool events)
{
    json_t *pod = json_pack("{s:o, s:s, s:s, s:o}", "pod", wh_worker_pod(w), "source", wh_worker_source(w),
                            "origin", wh_worker_origin(w), "usage", usage_of(w));

    if (wh_worker_is_dormant(w))
        json_object_set_new(pod, "dormant", json_true());
    if (events)
        json_object_set_new(pod, "events", wh_worker_events(w));
    return pod;
}

static void add_pod(void *user, wh_worker *w)
{
    json_array_append_new(user, describe(w, false));
}

static void list_pods(wh_local_api *api, wh_http_exchange *x)
{
    json_t *items = json_array();

    wh_node_each(api->node, add_pod, items);
    reply_json(x, 200, json_pack("{s:o}", "items", items));
}

static void metrics(wh_local_api *api, wh_http_exchange *x)
{
    auto_buf wh_buf out;

    wh_buf_init(&out, 16UL << 20);
    wh_stats_metrics(api->node, &out);
    wh_http_reply(x, 200, "text/plain; version=0.0.4", wh_buf_str(&out), out.len);
}

static void stop_pod(wh_local_api *api, wh_http_exchange *x, wh_worker *w)
{
    const char *text = wh_http_param_get(wh_http_request_of(x), "grace");
    int64_t grace = -1;

    if (text != NULL && wh_parse_i64(text, 0, 86400, &grace) < 0) {
        reply_error(x, 400, "parameter grace takes seconds from 0 to 86400");
        return;
    }
    if (wh_streq(wh_worker_source(w), "api")) {
        reply_error(x, 409, "this pod belongs to the cluster; delete it there: kubectl delete pod");
        return;
    }
    wh_node_delete(api->node, wh_worker_spec(w)->uid, grace, false);
    reply_json(x, 202, json_object());
}

/* /v1/pods/NS/NAME[/logs/CONTAINER] */
static void one_pod(wh_local_api *api, wh_http_exchange *x, const char *rest)
{
    const char *method = wh_http_request_of(x)->method;
    wh_str left = wh_str_of(rest), parts[4];
    size_t n = 0;

    while (n < WH_ARRAY_LEN(parts) && wh_str_split(&left, '/', &parts[n]))
        n++;
    auto_free char *ns = n > 0 ? wh_xstrndup(parts[0].p, parts[0].n) : NULL;
    auto_free char *name = n > 1 ? wh_xstrndup(parts[1].p, parts[1].n) : NULL;
    wh_worker *w = n >= 2 ? wh_node_find_name(api->node, ns, name) : NULL;
    if (w == NULL)
        reply_error(x, 404, "no such pod on this node");
    else if (n == 2 && wh_streq(method, "GET"))
        reply_json(x, 200, describe(w, true));
    else if (n == 2 && wh_streq(method, "DELETE"))
        stop_pod(api, x, w);
    else if (n == 4 && wh_str_eq(parts[2], WH_STR("logs")) && wh_streq(method, "GET")) {
        auto_free char *container = wh_xstrndup(parts[3].p, parts[3].n);
        wh_log_stream(api->loop, api->node, x, ns, name, container);
    } else
        reply_error(x, 405, "this cannot be done with a pod");
}

static void handle(wh_http_exchange *x, const wh_http_request *request, void *user)
{
    static const char pods[] = "/v1/pods";
    wh_local_api *api = user;
    bool get = wh_streq(request->method, "GET");

    if (get && wh_streq(request->path, "/healthz"))
        wh_http_reply(x, 200, "text/plain", "ok", 2);
    else if (get && wh_streq(request->path, "/metrics"))
        metrics(api, x);
    else if (get && wh_streq(request->path, pods))
        list_pods(api, x);
    else if (wh_starts_with(request->path, "/v1/pods/"))
        one_pod(api, x, request->path + sizeof(pods));
    else
        reply_error(x, 404, "no such path; see the local API in wherry(1)");
}

int wh_local_api_start(wh_loop *loop, wh_node *node, const char *socket_path, wh_local_api **ret, wh_err *err)
{
    auto_free char *text = wh_xasprintf("unix:%s", socket_path);
    wh_local_api *api = wh_xnew(wh_local_api);
    wh_addr addr;
    int fd = -1;
    int rc = wh_addr_parse(text, -1, &addr, err);

    api->loop = loop;
    api->node = node;
    api->path = wh_xstrdup(socket_path);
    rc = rc < 0 ? rc : wh_listen(&addr, 0600, &fd, err);
    if (rc == 0) {
        wh_http_server_options options = {.listen_fd = fd, .handler = handle, .user = api, .name = "local"};
        rc = wh_http_server_start(loop, &options, &api->server, err);
        if (rc < 0)
            close(fd);
    }
    if (rc < 0) {
        wh_local_api_free(api);
        return rc;
    }
    *ret = api;
    return 0;
}

void wh_local_api_free(wh_local_api *api)
{
    if (api == NULL)
        return;
    if (api->server != NULL) {
        wh_http_server_free(api->server);
        unlink(api->path);
    }
    free(api->path);
    free(api);
}
