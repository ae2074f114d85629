/* SPDX-License-Identifier: Apache-2.0 */
/* v1.PodStatus (API reference of Kubernetes 1.37) and the patch that the node sends. */
#include "pod/status.h"

#include "pod/resources.h"

#define MESSAGES_BYTES_MAX \
    ((size_t)12 * 1024) /* termination messages of a pod together, as the kubelet has it */

/* A member, or with `nulls` an explicit null: a patch that leaves a field out would keep the old value. */
static void put_str(json_t *o, const char *key, const char *value, bool nulls)
{
    if (value != NULL)
        json_object_set_new(o, key, wh_json_string(value));
    else if (nulls)
        json_object_set_new(o, key, json_null());
}

static void put_time(json_t *o, const char *key, wh_time t)
{
    char text[WH_RFC3339_LEN];
    if (t > 0)
        json_object_set_new(o, key, json_string(wh_rfc3339(t, 0, text)));
}

/* Cut to `max` bytes at the border of a character. */
static char *cut(const char *text, size_t max)
{
    size_t n = strlen(text);
    if (n > max)
        for (n = max; n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80;)
            n--;
    return wh_xstrndup(text, n);
}

/* ---- containers ---- */

static json_t *container_id(const wh_pod_spec *spec, size_t i, unsigned attempt)
{
    char id[WH_CONTAINER_ID_LEN];
    auto_free char *text = wh_xasprintf("wasm://%s", wh_container_id(spec, i, attempt, id));
    return wh_json_string(text);
}

static json_t *terminated(const wh_pod_spec *spec, size_t i, const wh_container_end *end)
{
    json_t *o = json_object();
    json_object_set_new(o, "exitCode", json_integer(end->exit_code));
    if (end->signal != 0)
        json_object_set_new(o, "signal", json_integer(end->signal));
    put_str(o, "reason", end->reason, false);
    if (end->message != NULL) {
        size_t max = WH_MIN(MESSAGES_BYTES_MAX / spec->n_containers, (size_t)WH_TERMINATION_MESSAGE_MAX);
        auto_free char *message = cut(end->message, max);
        put_str(o, "message", message, false);
    }
    put_time(o, "startedAt", end->started);
    put_time(o, "finishedAt", end->finished);
    json_object_set_new(o, "containerID", container_id(spec, i, end->attempt));
    return json_pack("{s:o}", "terminated", o);
}

static json_t *container_state(const wh_pod_spec *spec, size_t i, const wh_container_life *life)
{
    json_t *o = json_object();
    if (life->state == WH_CONTAINER_ENDED) {
        json_decref(o);
        return terminated(spec, i, &life->end);
    }
    if (life->state == WH_CONTAINER_RUNNING) {
        put_time(o, "startedAt", life->started);
        return json_pack("{s:o}", "running", o);
    }
    put_str(o, "reason", life->reason, false);
    put_str(o, "message", life->message, false);
    return json_pack("{s:o}", "waiting", o);
}

static json_t *mount_list(const wh_container_spec *c)
{
    json_t *list = json_array();
    for (size_t i = 0; i < c->n_mounts; i++) {
        json_t *m =
            json_pack("{s:s, s:s}", "name", c->mounts[i].volume, "mountPath", c->mounts[i].mount_path);
        if (c->mounts[i].read_only)
            json_object_set_new(m, "readOnly", json_true());
        json_array_append_new(list, m);
    }
    return list;
}

/* As written in the pod: what was asked for is what was given. */
static void put_resources(json_t *o, const wh_pod_spec *spec, size_t i)
{
    const json_t *list =
        wh_json_at(spec->object, i < spec->n_init ? "spec.initContainers" : "spec.containers");
    json_t *resources =
        wh_json_at(json_array_get(list, i < spec->n_init ? i : i - spec->n_init), "resources");
    json_t *requests = json_object_get(resources, "requests");
    if (json_is_object(resources))
        json_object_set(o, "resources", resources);
    if (json_is_object(requests))
        json_object_set(o, "allocatedResources", requests);
}

static json_t *container_status(const wh_lifecycle *lc, size_t i)
{
    const wh_pod_spec *spec = wh_lifecycle_spec(lc);
    const wh_container_spec *c = &spec->containers[i];
    const wh_container_life *life = wh_lifecycle_container(lc, i);
    bool running = life->state == WH_CONTAINER_RUNNING, ended = life->state == WH_CONTAINER_ENDED;
    json_t *o = json_object();
    put_str(o, "name", c->name, false);
    put_str(o, "image", c->image, false);
    put_str(o, "imageID", life->image_id == NULL ? "" : life->image_id, false);
    if (running)
        json_object_set_new(o, "containerID", container_id(spec, i, life->attempt));
    else if (life->end.set)
        json_object_set_new(o, "containerID", container_id(spec, i, life->end.attempt));
    json_object_set_new(o, "ready", json_boolean(life->ready));
    json_object_set_new(o, "started", json_boolean(life->healthy));
    json_object_set_new(o, "restartCount", json_integer(life->attempt));
    json_object_set_new(o, "state", container_state(spec, i, life));
    const wh_container_end *last = ended ? &life->last : &life->end;
    json_object_set_new(o, "lastState", last->set ? terminated(spec, i, last) : json_object());
    if (c->n_mounts > 0)
        json_object_set_new(o, "volumeMounts", mount_list(c));
    if (running)
        put_resources(o, spec, i);
    return o;
}

/* ---- the pod ---- */

static json_t *condition_list(const wh_lifecycle *lc, bool nulls)
{
    wh_pod_condition conditions[WH_POD_CONDITIONS_MAX];
    size_t n = wh_lifecycle_conditions(lc, conditions);
    int64_t generation = wh_lifecycle_spec(lc)->generation;
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_t *o = json_object();
        put_str(o, "type", conditions[i].type, false);
        put_str(o, "status", conditions[i].status ? "True" : "False", false);
        put_str(o, "reason", conditions[i].reason, nulls);
        put_str(o, "message", conditions[i].message, nulls);
        put_time(o, "lastTransitionTime", conditions[i].since);
        if (generation > 0)
            json_object_set_new(o, "observedGeneration", json_integer(generation));
        json_array_append_new(list, o);
    }
    return list;
}

/* podIPs and hostIPs merge by address: one that the server has and that is no longer true must be replaced.
 */
static void put_addresses(json_t *status, const char *one, const char *many, const char *const addresses[2],
                          const json_t *old, bool patch)
{
    const json_t *had = json_object_get(json_object_get(old, "status"), many);
    json_t *list = json_array();
    size_t n = 0;
    bool same = true;
    for (; n < 2 && addresses[n] != NULL; n++) {
        const char *before = json_string_value(json_object_get(json_array_get(had, n), "ip"));
        same = same && wh_streq(before, addresses[n]);
        json_array_append_new(list, json_pack("{s:s}", "ip", addresses[n]));
    }
    if (n == 0) {
        json_decref(list);
        return;
    }
    if (patch && json_array_size(had) > 0 && (!same || json_array_size(had) != n))
        json_array_insert_new(list, 0, json_pack("{s:s}", "$patch", "replace"));
    put_str(status, one, addresses[0], false);
    json_object_set_new(status, many, list);
}

static json_t *build(const wh_lifecycle *lc, const wh_pod_facts *facts, bool patch)
{
    const wh_pod_spec *spec = wh_lifecycle_spec(lc);
    json_t *status = json_object(), *init = json_array(), *containers = json_array();
    for (size_t i = 0; i < spec->n_containers; i++)
        json_array_append_new(i < spec->n_init ? init : containers, container_status(lc, i));
    if (spec->generation > 0)
        json_object_set_new(status, "observedGeneration", json_integer(spec->generation));
    put_str(status, "phase", wh_pod_phase_name(wh_lifecycle_phase(lc)), false);
    put_str(status, "reason", wh_lifecycle_reason(lc), patch);
    put_str(status, "message", wh_lifecycle_message(lc), patch);
    put_time(status, "startTime", wh_lifecycle_start_time(lc));
    if (facts != NULL) {
        const char *const host_ips[2] = {facts->host_ip, NULL};
        put_addresses(status, "hostIP", "hostIPs", host_ips, spec->object, patch);
        put_addresses(status, "podIP", "podIPs", facts->pod_ips, spec->object, patch);
    }
    put_str(status, "qosClass", wh_qos_name(wh_pod_qos(spec)), false);
    json_object_set_new(status, "conditions", condition_list(lc, patch));
    if (spec->n_init > 0)
        json_object_set(status, "initContainerStatuses", init);
    json_decref(init);
    json_object_set_new(status, "containerStatuses", containers);
    return status;
}

json_t *wh_status_build(const wh_lifecycle *lc, const wh_pod_facts *facts)
{
    return build(lc, facts, false);
}

json_t *wh_status_patch(const wh_lifecycle *lc, const wh_pod_facts *facts)
{
    json_t *patch = json_pack("{s:{}, s:o}", "metadata", "status", build(lc, facts, true));
    put_str(json_object_get(patch, "metadata"), "uid", wh_lifecycle_spec(lc)->uid, false);
    return patch;
}

json_t *wh_status_pod(const wh_lifecycle *lc, const wh_pod_facts *facts)
{
    json_t *pod = json_deep_copy(wh_lifecycle_spec(lc)->object);
    json_t *metadata = json_object_get(pod, "metadata");
    json_object_set_new(pod, "apiVersion", json_string("v1"));
    json_object_set_new(pod, "kind", json_string("Pod"));
    json_object_del(metadata, "managedFields");
    if (json_object_get(metadata, "namespace") == NULL)
        put_str(metadata, "namespace", wh_lifecycle_spec(lc)->namespace_, false);
    json_object_set_new(pod, "status", build(lc, facts, false));
    return pod;
}

json_t *wh_status_patch_rejected(const json_t *object, const char *reason, const char *message, wh_time now)
{
    static const char *const types[] = {"Initialized", "ContainersReady", "Ready"};
    json_t *patch =
        json_pack("{s:{}, s:{s:s, s:s}}", "metadata", "status", "phase", "Failed", "reason", reason);
    json_t *status = json_object_get(patch, "status"), *conditions = json_array();
    put_str(json_object_get(patch, "metadata"), "uid", wh_json_str(object, "metadata.uid"), false);
    put_str(status, "message", message, false);
    put_time(status, "startTime", now);
    for (size_t i = 0; i < WH_ARRAY_LEN(types); i++) {
        json_t *c = json_pack("{s:s, s:s, s:s}", "type", types[i], "status", "False", "reason", "PodFailed");
        put_time(c, "lastTransitionTime", now);
        json_array_append_new(conditions, c);
    }
    json_object_set_new(status, "conditions", conditions);
    return patch;
}
