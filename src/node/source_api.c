/* SPDX-License-Identifier: Apache-2.0 */
#include "node/source_api.h"
#include "base/log.h"
#include "base/metrics.h"
#include "kube/watch.h"
#include "pod/status.h"

#define uthash_fatal(msg) wh_panic(__FILE__, __LINE__, __func__, msg)
#include <uthash.h>

#define STATUS_DELAY (5 * WH_MSEC) /* started and running are one patch */
#define PENDING_DELAY WH_SEC       /* a pod that runs in a moment need not be said to be pending */
#define SERVICES_WAIT (5 * WH_SEC) /* pods do not wait longer for the first list of Services */

static WH_METRIC(status_patches, WH_COUNTER, "wherry_pod_status_patches_total", "Status patches, by result.",
                 "result");

typedef struct api_pod { /* what is on its way to the API server about one pod */
    UT_hash_handle hh;
    wh_source_api *api;
    char *uid, *ns, *name;
    wh_kube_call *call;
    wh_timer timer;
    wh_backoff backoff;
    char *sent; /* the last status that the server has */
    char *sending;
    bool dirty, finished, deleting, object_gone, forgotten;
    bool unhurried; /* the timer is that of a pod that is pending */
} api_pod;

struct wh_source_api {
    wh_loop *loop;
    wh_node *node;
    wh_kube *kube;
    wh_events *events;
    wh_watch *pods, *services;
    api_pod *by_uid;
    wh_timer services_timer;
    bool services_known, syncing_done;
    json_t *rejected; /* uid -> true: refused pods whose status is written */
};

static void pump(api_pod *p);
static void pod_event(wh_watch_kind kind, json_t *object, void *user);

/* ---- status out ---- */

static api_pod *find(const wh_source_api *api, const char *uid)
{
    api_pod *p = NULL;

    HASH_FIND_STR(api->by_uid, uid, p);
    return p;
}

static api_pod *find_or_add(wh_source_api *api, const wh_worker *w)
{
    const wh_pod_spec *spec = wh_worker_spec(w);
    api_pod *p = find(api, spec->uid);
    uint64_t seed;

    if (p != NULL)
        return p;
    p = wh_xnew(api_pod);
    p->api = api;
    p->uid = wh_xstrdup(spec->uid);
    p->ns = wh_xstrdup(spec->namespace_);
    p->name = wh_xstrdup(spec->name);
    wh_random(&seed, sizeof(seed));
    wh_backoff_init(&p->backoff, WH_SEC / 2, 30 * WH_SEC, seed);
    HASH_ADD_KEYPTR(hh, api->by_uid, p->uid, strlen(p->uid), p);
    return p;
}

static void api_pod_free(api_pod *p)
{
    HASH_DEL(p->api->by_uid, p);
    wh_kube_cancel(p->call);
    wh_timer_stop(&p->timer);
    free(p->sent);
    free(p->sending);
    free(p->uid);
    free(p->ns);
    free(p->name);
    free(p);
}

static void pump_due(wh_timer *timer)
{
    api_pod *p = timer->user;

    p->unhurried = false;
    pump(p);
}

static void again(api_pod *p, wh_time delay)
{
    wh_timer_start(p->api->loop, &p->timer, delay, pump_due, p);
}

static void status_written(const wh_kube_result *result, void *user)
{
    api_pod *p = user;

    p->call = NULL;
    wh_metric_add(&status_patches, result->class_ == WH_KUBE_OK ? "ok" : "failed", 1);
    if (result->class_ == WH_KUBE_OK) {
        free(p->sent);
        p->sent = WH_TAKE(p->sending);
        wh_backoff_reset(&p->backoff);
        pump(p);
        return;
    }
    free(WH_TAKE(p->sending));
    if (result->class_ == WH_KUBE_NOT_FOUND) {
        p->object_gone = true;
        wh_node_delete(p->api->node, p->uid, 0, true);
    } else if (result->class_ == WH_KUBE_REFUSED) {
        wh_log(ERROR, "the API server refuses a pod's status", KV_STR("pod", p->name), KV_ERR(&result->err));
        return; /* saying the same again does not help; the next change is sent */
    } else {
        p->dirty = true;
    }
    again(p, wh_backoff_next(&p->backoff));
}

/* True when a patch is on its way. */
static bool send_status(api_pod *p)
{
    wh_worker *w = wh_node_find(p->api->node, p->uid);

    p->dirty = false;
    if (w == NULL || p->object_gone)
        return false;
    auto_json json_t *patch = wh_worker_status_patch(w);
    auto_free char *text = wh_json_dump(patch);
    if (wh_streq(text, p->sent))
        return false;
    auto_free char *path = wh_kube_path("/api/v1/namespaces/%s/pods/%s/status", p->ns, p->name);
    wh_kube_request request = {
        .method = "PATCH", .path = path, .body = patch, .content_type = WH_KUBE_STRATEGIC};
    p->sending = WH_TAKE(text);
    p->call = wh_kube_do(p->api->kube, &request, status_written, p);
    return true;
}

static void deleted(const wh_kube_result *result, void *user)
{
    api_pod *p = user;
    wh_source_api *api = p->api;

    p->call = NULL;
    p->deleting = false;
    if (result->class_ == WH_KUBE_OK || result->class_ == WH_KUBE_NOT_FOUND ||
        result->class_ == WH_KUBE_CONFLICT) {
        wh_node_forget(api->node, p->uid); /* frees p in on_gone */
        return;
    }
    wh_log(WARN, "a finished pod cannot be deleted yet", KV_STR("pod", p->name), KV_ERR(&result->err));
    again(p, wh_backoff_next(&p->backoff));
}

static json_t *delete_options(const char *uid)
{
    return json_pack("{s:s, s:s, s:i, s:{s:s}}", "kind", "DeleteOptions", "apiVersion", "v1",
                     "gracePeriodSeconds", 0, "preconditions", "uid", uid);
}

/* Does the next thing for the pod: write its status, then delete it. One call at a time. */
static void pump(api_pod *p)
{
    if (p->call != NULL || (p->dirty && send_status(p)))
        return;
    if (!p->finished)
        return;
    if (p->object_gone) {
        wh_node_forget(p->api->node, p->uid);
        return;
    }
    auto_json json_t *body = delete_options(p->uid);
    auto_free char *path = wh_kube_path("/api/v1/namespaces/%s/pods/%s", p->ns, p->name);
    p->deleting = true;
    p->call = wh_kube_do(p->api->kube, &(wh_kube_request){.method = "DELETE", .path = path, .body = body},
                         deleted, p);
}

static void on_status(void *user, wh_worker *w)
{
    api_pod *p = find_or_add(user, w);

    p->dirty = true;
    bool pending = wh_lifecycle_phase(wh_worker_lifecycle(w)) == WH_PHASE_PENDING;
    if (p->call != NULL || (p->timer.loop != NULL && (pending || !p->unhurried)))
        return;
    p->unhurried = pending;
    again(p, pending ? PENDING_DELAY : STATUS_DELAY);
}

static void on_finished(void *user, wh_worker *w)
{
    api_pod *p = find_or_add(user, w);

    p->finished = true;
    if (p->call == NULL)
        again(p, 0);
}

static void on_event(void *user, wh_worker *w, const char *container, bool warning, const char *reason,
                     const char *message)
{
    wh_source_api *api = user;
    const wh_pod_spec *spec = wh_worker_spec(w);

    wh_event_pod(api->events, spec->namespace_, spec->name, spec->uid, container,
                 warning ? WH_EVENT_WARNING : WH_EVENT_NORMAL, reason, "%s", message);
}

/* ---- pods in ---- */

static void write_only(const wh_kube_result *result, void *user)
{
    if (result->class_ != WH_KUBE_OK && result->class_ != WH_KUBE_NOT_FOUND)
        wh_log(WARN, user, KV_ERR(&result->err));
}

/* A pod that cannot be run here: says so in its status, once, and in an event. */
static void reject(wh_source_api *api, json_t *object, const char *reason, const char *message)
{
    static char failed[] = "the status of a refused pod cannot be written";
    const char *ns = wh_json_str(object, "metadata.namespace"), *name = wh_json_str(object, "metadata.name");
    const char *uid = wh_json_str(object, "metadata.uid");

    if (json_object_get(api->rejected, uid) != NULL)
        return;
    json_object_set_new(api->rejected, uid, json_true());
    auto_json json_t *patch = wh_status_patch_rejected(object, reason, message, wh_real_now());
    auto_free char *path = wh_kube_path("/api/v1/namespaces/%s/pods/%s/status", ns, name);
    wh_kube_do(
        api->kube,
        &(wh_kube_request){.method = "PATCH", .path = path, .body = patch, .content_type = WH_KUBE_STRATEGIC},
        write_only, failed);
    wh_event_pod(api->events, ns, name, uid, NULL, WH_EVENT_WARNING, reason, "%s", message);
}

/* Nothing of it runs here: it may go. */
static void delete_unknown(wh_source_api *api, const json_t *object)
{
    static char failed[] = "a pod that does not run here cannot be deleted";
    auto_json json_t *body = delete_options(wh_json_str(object, "metadata.uid"));
    auto_free char *path =
        wh_kube_path("/api/v1/namespaces/%s/pods/%s", wh_json_str(object, "metadata.namespace"),
                     wh_json_str(object, "metadata.name"));

    wh_kube_do(api->kube, &(wh_kube_request){.method = "DELETE", .path = path, .body = body}, write_only,
               failed);
}

static bool is_over(const json_t *object)
{
    const char *phase = wh_json_str(object, "status.phase");

    return wh_streq(phase, "Succeeded") || wh_streq(phase, "Failed");
}

/* A pod of which this agent has said nothing: an earlier one may have died before it could write what it knew. */
static void catch_up(wh_source_api *api, wh_worker *w)
{
    if (find(api, wh_worker_spec(w)->uid) != NULL)
        return;
    on_status(api, w);
    if (wh_lifecycle_finished(wh_worker_lifecycle(w)))
        on_finished(api, w);
}

/* complexity: one decision; each case is one line. */
static void take_pod(wh_source_api *api, json_t *object)
{
    const char *uid = wh_json_str(object, "metadata.uid");
    bool going = wh_json_str(object, "metadata.deletionTimestamp") != NULL;
    auto_buf wh_buf why;
    wh_worker *w = uid != NULL ? wh_node_find(api->node, uid) : NULL;
    wh_err err = {0};

    wh_buf_init(&why, 64 * 1024);
    if (uid == NULL)
        return;
    if (w == NULL && going) {
        delete_unknown(api, object);
        return;
    }
    if (w == NULL && (is_over(object) || json_object_get(api->rejected, uid) != NULL))
        return;
    int rc = wh_node_put(api->node, "api", "", object, &why, &w, &err);
    if (rc == -EINVAL || rc == -EOPNOTSUPP) {
        if (wh_node_find(api->node, uid) == NULL)
            reject(api, object, rc == -EINVAL ? "InvalidPodSpec" : "UnsupportedPodSpec",
                   why.len > 0 ? wh_buf_str(&why) : err.msg);
        return;
    }
    if (rc < 0 && rc != -EEXIST) /* EEXIST: taken when the earlier one is gone */
        wh_log(ERROR, "a pod cannot be taken now", KV_STR("pod", wh_json_str(object, "metadata.name")),
               KV_ERR(&err));
    if (rc == 0 && w != NULL)
        catch_up(api, w);
    if (rc == 0 && going)
        wh_node_delete(api->node, uid, wh_json_int(object, "metadata.deletionGracePeriodSeconds", -1), false);
}

static void pod_event(wh_watch_kind kind, json_t *object, void *user)
{
    wh_source_api *api = user;
    const char *uid = wh_json_str(object, "metadata.uid");

    if (!api->services_known || uid == NULL)
        return; /* all of them are looked at when the Services are known */
    if (kind != WH_WATCH_DELETED) {
        take_pod(api, object);
        return;
    }
    api_pod *p = find(api, uid);
    if (p != NULL)
        p->object_gone = true;
    json_object_del(api->rejected, uid);
    wh_node_delete(api->node, uid, 0, true);
    if (p != NULL && p->finished && p->call == NULL)
        again(p, 0);
}

static void take_each(const char *key, json_t *object, void *user)
{
    (void)key;
    take_pod(user, object);
}

static void sweep(void *user, wh_worker *w)
{
    wh_source_api *api = user;
    const wh_pod_spec *spec = wh_worker_spec(w);
    auto_free char *key = wh_xasprintf("%s/%s", spec->namespace_, spec->name);

    if (!wh_streq(wh_worker_source(w), "api"))
        return;
    const json_t *object = wh_watch_find(api->pods, key);
    if (object != NULL && wh_streq(wh_json_str(object, "metadata.uid"), spec->uid))
        return;
    find_or_add(api, w)->object_gone = true;
    wh_node_delete(api->node, spec->uid, 0, true);
}

static void look_at_all(void *user)
{
    wh_source_api *api = user;

    if (!api->services_known || !wh_watch_is_synced(api->pods))
        return;
    wh_node_each(api->node, sweep, api);
    wh_watch_each(api->pods, take_each, api);
}

static void pods_synced(void *user)
{
    look_at_all(user);
}

static void watch_failed(const wh_kube_result *result, void *user)
{
    (void)user;
    wh_log(WARN, "watching the API server failed; trying again", KV_ERR(&result->err));
}

/* A pod of the same name may wait for this one. */
static void on_gone(void *user, wh_worker *w)
{
    wh_source_api *api = user;
    api_pod *p = find(api, wh_worker_spec(w)->uid);

    if (p != NULL)
        api_pod_free(p);
    wh_loop_defer(api->loop, look_at_all, api);
}

/* ---- services ---- */

static void add_service(const char *key, json_t *object, void *user)
{
    (void)key;
    json_array_append(user, object);
}

static void services_changed(wh_source_api *api)
{
    auto_json json_t *list = json_array();

    wh_watch_each(api->services, add_service, list);
    wh_node_set_services(api->node, list);
}

static void services_synced(void *user)
{
    wh_source_api *api = user;

    services_changed(api);
    if (api->services_known)
        return;
    api->services_known = true;
    wh_timer_stop(&api->services_timer);
    look_at_all(api);
}

static void service_event(wh_watch_kind kind, json_t *object, void *user)
{
    wh_source_api *api = user;

    (void)kind;
    (void)object;
    if (api->services_known)
        services_changed(api);
}

static void services_late(wh_timer *timer)
{
    wh_source_api *api = timer->user;

    wh_log(WARN, "the list of Services does not come; pods start without their variables");
    api->services_known = true;
    look_at_all(api);
}

/* ---- tokens ---- */

typedef struct token_call {
    wh_source_api *api;
    char *uid, *audience;
} token_call;

static void token_answer(const wh_kube_result *result, void *user)
{
    token_call *t = user;
    const char *token = result->class_ == WH_KUBE_OK ? wh_json_str(result->body, "status.token") : NULL;
    const char *expires = token != NULL ? wh_json_str(result->body, "status.expirationTimestamp") : NULL;
    wh_time at = wh_real_now() + WH_HOUR;

    if (token == NULL)
        wh_log(WARN, "a service account token was not issued", KV_ERR(&result->err));
    if (expires != NULL)
        wh_rfc3339_parse(expires, &at);
    wh_node_token(t->api->node, t->uid, t->audience, token, at);
    free(t->uid);
    free(t->audience);
    free(t);
}

static void ask_token(void *user, wh_worker *w, const char *audience, int64_t seconds)
{
    wh_source_api *api = user;
    const wh_pod_spec *spec = wh_worker_spec(w);
    token_call *t = wh_xnew(token_call);
    auto_free char *path = wh_kube_path("/api/v1/namespaces/%s/serviceaccounts/%s/token", spec->namespace_,
                                        spec->service_account != NULL ? spec->service_account : "default");
    auto_json json_t *body =
        json_pack("{s:s, s:s, s:{s:I, s:{s:s, s:s, s:s, s:s}}}", "kind", "TokenRequest", "apiVersion",
                  "authentication.k8s.io/v1", "spec", "expirationSeconds", (json_int_t)seconds,
                  "boundObjectRef", "kind", "Pod", "apiVersion", "v1", "name", spec->name, "uid", spec->uid);

    if (audience != NULL)
        json_object_set_new(json_object_get(body, "spec"), "audiences", json_pack("[s]", audience));
    *t = (token_call){
        .api = api, .uid = wh_xstrdup(spec->uid), .audience = audience != NULL ? wh_xstrdup(audience) : NULL};
    wh_kube_do(api->kube, &(wh_kube_request){.method = "POST", .path = path, .body = body}, token_answer, t);
}

/* ---- beginning and end ---- */

int wh_source_api_start(wh_loop *loop, wh_node *node, wh_kube *kube, wh_events *events, const char *node_name,
                        wh_source_api **ret, wh_err *err)
{
    static const wh_watch_callbacks pod_callbacks = {pod_event, pods_synced, watch_failed};
    static const wh_watch_callbacks service_callbacks = {service_event, services_synced, watch_failed};
    wh_source_api *api = wh_xnew(wh_source_api);
    auto_free char *selector = wh_xasprintf("spec.nodeName=%s", node_name);

    api->loop = loop;
    api->node = node;
    api->kube = kube;
    api->events = events;
    api->rejected = json_object();
    wh_node_observe(node, "api",
                    &(wh_node_observer){.on_status = on_status,
                                        .on_event = on_event,
                                        .on_finished = on_finished,
                                        .on_gone = on_gone,
                                        .user = api});
    wh_node_set_token_source(node, ask_token, api);
    wh_timer_start(loop, &api->services_timer, SERVICES_WAIT, services_late, api);
    int rc = wh_watch_start(kube, &(wh_watch_options){.path = "/api/v1/services"}, &service_callbacks, api,
                            &api->services, err);
    rc = rc < 0
             ? rc
             : wh_watch_start(kube, &(wh_watch_options){.path = "/api/v1/pods", .field_selector = selector},
                              &pod_callbacks, api, &api->pods, err);
    if (rc < 0) {
        wh_source_api_free(api);
        return rc;
    }
    *ret = api;
    return 0;
}

bool wh_source_api_synced(const wh_source_api *api)
{
    return api->pods != NULL && wh_watch_is_synced(api->pods);
}

void wh_source_api_free(wh_source_api *api)
{
    api_pod *p, *next;

    if (api == NULL)
        return;
    wh_timer_stop(&api->services_timer);
    if (api->pods != NULL)
        wh_watch_free(api->pods);
    if (api->services != NULL)
        wh_watch_free(api->services);
    HASH_ITER(hh, api->by_uid, p, next)
    api_pod_free(p);
    json_decref(api->rejected);
    free(api);
}
