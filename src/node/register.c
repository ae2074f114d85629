/* SPDX-License-Identifier: Apache-2.0 */
/* Sources: kubernetes component-helpers (node status), KEP-589 (lease heartbeats), NodeRestriction for what a
 * node may say of itself. */
#include "node/register.h"
#include "base/file.h"
#include "base/log.h"
#include "kube/lease.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>

#define CHECK_EVERY (10 * WH_SEC)
#define SEND_EVERY (5 * WH_MINUTE)
#define KUBELET_VERSION "v1.37.0"

struct wh_register {
    wh_loop *loop;
    wh_node *node;
    wh_kube *kube;
    wh_register_options options;
    wh_lease *lease;
    wh_kube_call *call;
    wh_timer timer;
    wh_backoff backoff;
    char *uid;
    const char *why_not;
    bool created, was_ready;
    char *sent; /* conditions and the rest without heartbeat times, as last written */
    wh_time sent_at;
    char *ready_since;
};

static void check(wh_register *reg);

static json_t *condition(const char *type, bool status, const char *reason, const char *message,
                         const char *since, const char *now)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "type", type, "status", status ? "True" : "False",
                     "reason", reason, "message", message, "lastHeartbeatTime", now, "lastTransitionTime",
                     since);
}

static bool disk_is_full(const wh_register *reg)
{
    struct statvfs fs;

    (void)reg;
    if (statvfs("/var/lib", &fs) < 0 || fs.f_blocks == 0)
        return false;
    return fs.f_bavail * 100 / fs.f_blocks < 5;
}

static json_t *conditions(const wh_register *reg, const char *now)
{
    const char *since = reg->ready_since;
    bool ready = reg->why_not == NULL;
    bool full = disk_is_full(reg);

    return json_pack(
        "[o, o, o, o]",
        condition("MemoryPressure", false, "KubeletHasSufficientMemory",
                  "node has sufficient memory available", since, now),
        condition("DiskPressure", full, full ? "KubeletHasDiskPressure" : "KubeletHasNoDiskPressure",
                  full ? "less than 5 % of the disk is free" : "node has no disk pressure", since, now),
        condition("PIDPressure", false, "KubeletHasSufficientPID", "node has sufficient PID available", since,
                  now),
        condition("Ready", ready, ready ? "KubeletReady" : "KubeletNotReady",
                  ready ? "wherry is posting ready status" : reg->why_not, since, now));
}

static json_t *resources(const wh_register_options *o)
{
    auto_free char *cpu = wh_xasprintf("%lldm", (long long)o->cpu_millis);
    auto_free char *memory = wh_xasprintf("%lldKi", (long long)(o->memory_bytes / 1024));
    auto_free char *disk = wh_xasprintf("%lldKi", (long long)(o->ephemeral_bytes / 1024));
    auto_free char *pods = wh_xasprintf("%zu", o->max_pods);

    return json_pack("{s:s, s:s, s:s, s:s}", "cpu", cpu, "memory", memory, "ephemeral-storage", disk, "pods",
                     pods);
}

static char *first_line(const char *path)
{
    char *text = NULL;

    if (wh_read_file(AT_FDCWD, path, 4096, &text, NULL, NULL) < 0)
        return wh_xstrdup("");
    text[strcspn(text, "\n")] = '\0';
    return text;
}

static json_t *node_info(void)
{
    auto_free char *machine = first_line("/etc/machine-id");
    auto_free char *boot = first_line("/proc/sys/kernel/random/boot_id");
    struct utsname u = {0};

    uname(&u);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "machineID", machine, "systemUUID",
                     machine, "bootID", boot, "kernelVersion", u.release, "osImage", "Wherry " WH_VERSION,
                     "containerRuntimeVersion", "wherry://" WH_VERSION, "kubeletVersion", KUBELET_VERSION,
                     "kubeProxyVersion", "", "operatingSystem", "wasi", "architecture", "wasm32");
}

static json_t *addresses(const wh_register_options *o)
{
    return json_pack("[{s:s, s:s}, {s:s, s:s}]", "type", "InternalIP", "address", o->ip, "type", "Hostname",
                     "address", o->name);
}

static json_t *status_of(const wh_register *reg, const char *now)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:{s:{s:i}}, s:[]}", "capacity", resources(&reg->options),
                     "allocatable", resources(&reg->options), "addresses", addresses(&reg->options),
                     "conditions", conditions(reg, now), "nodeInfo", node_info(), "daemonEndpoints",
                     "kubeletEndpoint", "Port", reg->options.kubelet_port, "images");
}

static json_t *labels_of(const wh_register_options *o)
{
    json_t *labels = json_pack("{s:s, s:s, s:s, s:s, s:s}", "kubernetes.io/hostname", o->name,
                               "kubernetes.io/os", "wasi", "kubernetes.io/arch", "wasm32",
                               "beta.kubernetes.io/os", "wasi", "beta.kubernetes.io/arch", "wasm32");

    for (size_t i = 0; i < wh_strv_len(o->labels); i++) {
        const char *eq = strchr(o->labels[i], '=');
        auto_free char *key =
            wh_xstrndup(o->labels[i], eq != NULL ? (size_t)(eq - o->labels[i]) : strlen(o->labels[i]));
        json_object_set_new(labels, key, json_string(eq != NULL ? eq + 1 : ""));
    }
    return labels;
}

/* "key=value:Effect" or "key:Effect". */
static json_t *taints_of(const wh_register_options *o)
{
    json_t *taints = json_array();

    for (size_t i = 0; i < wh_strv_len(o->taints); i++) {
        wh_str rest = wh_str_of(o->taints[i]), left = {0}, key = {0};
        wh_str_split(&rest, ':', &left);
        wh_str_split(&left, '=', &key);
        json_t *taint = json_pack("{s:s%, s:s%}", "key", key.p, key.n, "effect", rest.p, rest.n);
        if (left.n > 0)
            json_object_set_new(taint, "value", json_stringn(left.p, left.n));
        json_array_append_new(taints, taint);
    }
    return taints;
}

static void check_due(wh_timer *timer)
{
    check(timer->user);
}

static void again(wh_register *reg, wh_time delay)
{
    wh_timer_start(reg->loop, &reg->timer, delay, check_due, reg);
}

static void node_known(wh_register *reg, const json_t *object)
{
    const char *uid = wh_json_str(object, "metadata.uid");

    reg->created = true;
    wh_node_set_pod_cidrs(reg->node, wh_json_at(object, "spec.podCIDRs"));
    wh_backoff_reset(&reg->backoff);
    if (uid != NULL && !wh_streq(uid, reg->uid)) {
        free(reg->uid);
        reg->uid = wh_xstrdup(uid);
        wh_lease_set_node_uid(reg->lease, uid);
    }
    again(reg, 0);
}

/* The object was there: our labels are put right, whatever else somebody gave it stays. */
static void patched(const wh_kube_result *result, void *user)
{
    wh_register *reg = user;

    reg->call = NULL;
    if (result->class_ == WH_KUBE_OK) {
        node_known(reg, result->body);
        return;
    }
    wh_log(WARN, "the Node object cannot be updated; trying again", KV_ERR(&result->err));
    again(reg, wh_backoff_next(&reg->backoff));
}

static void patch_labels(wh_register *reg)
{
    auto_json json_t *patch = json_pack("{s:{s:o}}", "metadata", "labels", labels_of(&reg->options));
    auto_free char *path = wh_kube_path("/api/v1/nodes/%s", reg->options.name);

    reg->call = wh_kube_do(
        reg->kube,
        &(wh_kube_request){.method = "PATCH", .path = path, .body = patch, .content_type = WH_KUBE_STRATEGIC},
        patched, reg);
}

static void created(const wh_kube_result *result, void *user)
{
    wh_register *reg = user;

    reg->call = NULL;
    if (result->class_ == WH_KUBE_OK) {
        wh_log(INFO, "node registered", KV_STR("node", reg->options.name));
        node_known(reg, result->body);
    } else if (result->class_ == WH_KUBE_CONFLICT) {
        patch_labels(reg);
    } else {
        wh_log(WARN, "the node cannot be registered; trying again", KV_ERR(&result->err));
        again(reg, wh_backoff_next(&reg->backoff));
    }
}

static void create(wh_register *reg)
{
    char now[WH_RFC3339_LEN];
    const wh_register_options *o = &reg->options;
    auto_json json_t *object = json_pack(
        "{s:s, s:s, s:{s:s, s:o, s:{s:s}}, s:{s:o}, s:o}", "apiVersion", "v1", "kind", "Node", "metadata",
        "name", o->name, "labels", labels_of(o), "annotations", "wherry.dev/version", WH_VERSION, "spec",
        "taints", taints_of(o), "status", status_of(reg, wh_rfc3339(wh_real_now(), 0, now)));

    reg->call =
        wh_kube_do(reg->kube, &(wh_kube_request){.method = "POST", .path = "/api/v1/nodes", .body = object},
                   created, reg);
}

static void status_written(const wh_kube_result *result, void *user)
{
    wh_register *reg = user;

    reg->call = NULL;
    if (result->class_ == WH_KUBE_OK) {
        wh_node_set_pod_cidrs(reg->node, wh_json_at(result->body, "spec.podCIDRs"));
        reg->sent_at = wh_mono_now();
        wh_backoff_reset(&reg->backoff);
        again(reg, CHECK_EVERY);
        return;
    }
    free(reg->sent);
    reg->sent = NULL;
    if (result->class_ == WH_KUBE_NOT_FOUND) /* somebody deleted the node: register again */
        reg->created = false;
    else
        wh_log(WARN, "the node's status cannot be written; trying again", KV_ERR(&result->err));
    again(reg, wh_backoff_next(&reg->backoff));
}

static void write_status(wh_register *reg)
{
    char now[WH_RFC3339_LEN];
    auto_json json_t *plain = status_of(reg, "");
    auto_free char *text = wh_json_dump(plain);

    if (wh_streq(text, reg->sent) && wh_mono_now() - reg->sent_at < SEND_EVERY) {
        again(reg, CHECK_EVERY);
        return;
    }
    free(reg->sent);
    reg->sent = WH_TAKE(text);
    json_t *status = status_of(reg, wh_rfc3339(wh_real_now(), 0, now));
    /* Addresses merge by type: ours replace whatever is there. */
    json_array_append_new(json_object_get(status, "addresses"), json_pack("{s:s}", "$patch", "replace"));
    auto_json json_t *patch = json_pack("{s:o}", "status", status);
    auto_free char *path = wh_kube_path("/api/v1/nodes/%s/status", reg->options.name);
    reg->call = wh_kube_do(
        reg->kube,
        &(wh_kube_request){.method = "PATCH", .path = path, .body = patch, .content_type = WH_KUBE_STRATEGIC},
        status_written, reg);
}

static void check(wh_register *reg)
{
    if (reg->call != NULL)
        return;
    if (!reg->created)
        create(reg);
    else
        write_status(reg);
}

void wh_register_set_ready(wh_register *reg, const char *why_not)
{
    char now[WH_RFC3339_LEN];

    if (wh_streq(reg->why_not, why_not))
        return;
    reg->why_not = why_not;
    free(reg->ready_since);
    reg->ready_since = wh_xstrdup(wh_rfc3339(wh_real_now(), 0, now));
    if (reg->call == NULL)
        again(reg, 0);
}

static void lease_failed(const wh_err *err, void *user)
{
    (void)user;
    wh_log(WARN, "the node's lease was not renewed; trying again", KV_ERR(err));
}

int wh_register_start(wh_loop *loop, wh_node *node, wh_kube *kube, const wh_register_options *options,
                      wh_register **ret, wh_err *err)
{
    wh_register *reg = wh_xnew(wh_register);
    char now[WH_RFC3339_LEN];
    uint64_t seed;

    (void)err;
    reg->loop = loop;
    reg->node = node;
    reg->kube = kube;
    reg->options = *options;
    reg->ready_since = wh_xstrdup(wh_rfc3339(wh_real_now(), 0, now));
    wh_random(&seed, sizeof(seed));
    wh_backoff_init(&reg->backoff, WH_SEC / 2, 30 * WH_SEC, seed);
    reg->lease =
        wh_lease_start(kube, &(wh_lease_options){.node_name = options->name, .on_error = lease_failed});
    check(reg);
    *ret = reg;
    return 0;
}

void wh_register_free(wh_register *reg)
{
    if (reg == NULL)
        return;
    wh_kube_cancel(reg->call);
    wh_timer_stop(&reg->timer);
    wh_lease_free(reg->lease);
    free(reg->uid);
    free(reg->sent);
    free(reg->ready_since);
    free(reg);
}

const char *wh_register_node_uid(const wh_register *reg)
{
    return reg->uid;
}
