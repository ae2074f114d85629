/* SPDX-License-Identifier: Apache-2.0 */
/* The heartbeat (KEP-589): one small object that the node writes and the node life cycle controller reads. */
#include "kube/lease.h"

#define LEASE_RETRY_FIRST (500 * WH_MSEC)

struct wh_lease {
    wh_kube *kube;
    char *node_name, *node_uid, *path;
    wh_time duration, interval, renewed;
    void (*on_renewed)(void *user);
    void (*on_error)(const wh_err *err, void *user);
    void *user;
    json_t *object; /* as last seen; NULL: to be read */
    bool absent;    /* to be made */
    wh_kube_call *call;
    wh_timer timer;
    wh_backoff backoff;
};

#define LEASES "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"

static void renew(wh_lease *lease);

static void on_timer(wh_timer *timer)
{
    renew(timer->user);
}

static void later(wh_lease *lease, wh_time delay)
{
    wh_timer_start(wh_kube_loop(lease->kube), &lease->timer, delay, on_timer, lease);
}

static void forget_object(wh_lease *lease)
{
    json_decref(lease->object);
    lease->object = NULL;
}

static void on_written(const wh_kube_result *result, void *user)
{
    wh_lease *lease = user;
    lease->call = NULL;
    if (result->class_ == WH_KUBE_OK && json_is_object(result->body)) {
        forget_object(lease);
        lease->object = json_incref(result->body);
        lease->absent = false;
        lease->renewed = wh_loop_now(wh_kube_loop(lease->kube));
        wh_backoff_reset(&lease->backoff);
        later(lease, lease->interval);
        if (lease->on_renewed != NULL)
            lease->on_renewed(lease->user);
        return;
    }
    /* Somebody else wrote it, or it is gone: read it before the next try. */
    bool changed = result->class_ == WH_KUBE_CONFLICT || result->class_ == WH_KUBE_NOT_FOUND;
    if (result->class_ != WH_KUBE_TRANSIENT) {
        forget_object(lease);
        lease->absent = false;
    }
    later(lease, changed && lease->backoff.next == lease->backoff.first
                     ? wh_backoff_next(&lease->backoff) / 10
                     : wh_backoff_next(&lease->backoff));
    if (!changed && lease->on_error != NULL)
        lease->on_error(&result->err, lease->user);
}

static void on_read(const wh_kube_result *result, void *user)
{
    wh_lease *lease = user;
    lease->call = NULL;
    if (result->class_ == WH_KUBE_OK && json_is_object(result->body)) {
        lease->object = json_incref(result->body);
        renew(lease);
    } else if (result->class_ == WH_KUBE_NOT_FOUND) {
        lease->absent = true;
        renew(lease);
    } else {
        later(lease, wh_backoff_next(&lease->backoff));
        if (lease->on_error != NULL)
            lease->on_error(&result->err, lease->user);
    }
}

static void set_spec(const wh_lease *lease, json_t *object)
{
    char now[WH_RFC3339_LEN];
    json_t *spec = json_object_get(object, "spec");
    if (!json_is_object(spec)) {
        spec = json_object();
        (void)json_object_set_new(object, "spec", spec);
    }
    (void)json_object_set_new(spec, "holderIdentity", json_string(lease->node_name));
    (void)json_object_set_new(spec, "leaseDurationSeconds", json_integer(lease->duration / WH_SEC));
    (void)json_object_set_new(spec, "renewTime", json_string(wh_rfc3339(wh_real_now(), 6, now)));
    if (lease->node_uid == NULL || wh_json_at(object, "metadata.ownerReferences") != NULL)
        return;
    json_t *owner = json_pack("[{s:s, s:s, s:s, s:s}]", "apiVersion", "v1", "kind", "Node", "name",
                              lease->node_name, "uid", lease->node_uid);
    wh_assert(owner != NULL);
    (void)json_object_set_new(json_object_get(object, "metadata"), "ownerReferences", owner);
}

static void renew(wh_lease *lease)
{
    wh_time timeout = WH_MIN(lease->interval, 10 * WH_SEC);
    if (lease->call != NULL)
        return;
    if (lease->object == NULL && !lease->absent) {
        wh_kube_request read = {.path = lease->path, .tries = 1, .timeout = timeout};
        lease->call = wh_kube_do(lease->kube, &read, on_read, lease);
        return;
    }
    auto_json json_t *object =
        lease->absent
            ? json_pack("{s:s, s:s, s:{s:s, s:s}}", "apiVersion", "coordination.k8s.io/v1", "kind", "Lease",
                        "metadata", "name", lease->node_name, "namespace", "kube-node-lease")
            : json_deep_copy(lease->object);
    wh_assert(object != NULL);
    set_spec(lease, object);
    wh_kube_request write = {.method = lease->absent ? "POST" : "PUT",
                             .path = lease->absent ? LEASES : lease->path,
                             .body = object,
                             .tries = 1,
                             .timeout = timeout};
    lease->call = wh_kube_do(lease->kube, &write, on_written, lease);
}

wh_lease *wh_lease_start(wh_kube *kube, const wh_lease_options *options)
{
    wh_lease *lease = wh_xnew(wh_lease);
    lease->kube = kube;
    lease->node_name = wh_xstrdup(options->node_name);
    lease->node_uid = options->node_uid == NULL ? NULL : wh_xstrdup(options->node_uid);
    lease->path = wh_kube_path(LEASES "/%s", options->node_name);
    lease->duration = options->duration == 0 ? 40 * WH_SEC : options->duration;
    lease->interval = options->interval == 0 ? lease->duration / 4 : options->interval;
    lease->on_renewed = options->on_renewed;
    lease->on_error = options->on_error;
    lease->user = options->user;
    uint64_t seed;
    wh_random(&seed, sizeof(seed));
    wh_backoff_init(&lease->backoff, LEASE_RETRY_FIRST, WH_MAX(lease->interval / 3, LEASE_RETRY_FIRST), seed);
    later(lease, 0);
    return lease;
}

void wh_lease_set_node_uid(wh_lease *lease, const char *uid)
{
    if (wh_streq(lease->node_uid, uid))
        return;
    free(lease->node_uid);
    lease->node_uid = uid == NULL ? NULL : wh_xstrdup(uid);
}

wh_time wh_lease_renewed_at(const wh_lease *lease)
{
    return lease->renewed;
}

void wh_lease_free(wh_lease *lease)
{
    if (lease == NULL)
        return;
    wh_kube_cancel(lease->call);
    wh_timer_stop(&lease->timer);
    forget_object(lease);
    free(lease->node_name);
    free(lease->node_uid);
    free(lease->path);
    free(lease);
}
