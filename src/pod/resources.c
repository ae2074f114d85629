/* SPDX-License-Identifier: Apache-2.0 */
/* kubelet: cm/helpers_linux.go, qos/policy.go; component-helpers/resource/helpers.go. */
#include "pod/resources.h"

#define SHARES_MIN 2
#define SHARES_MAX 262144
#define QUOTA_MIN_US 1000

/* Requests and limits of every container must be equal and there, or those of the pod itself where it has
 * some. */
static bool is_guaranteed(const wh_resources *r)
{
    return r->limits.cpu.set && r->limits.memory.set && r->limits.cpu.nano > 0 && r->limits.memory.nano > 0 &&
           r->requests.cpu.nano == r->limits.cpu.nano && r->requests.memory.nano == r->limits.memory.nano;
}

static bool asks_nothing(const wh_resources *r)
{
    return r->limits.cpu.nano == 0 && r->limits.memory.nano == 0 && r->requests.cpu.nano == 0 &&
           r->requests.memory.nano == 0;
}

wh_qos wh_pod_qos(const wh_pod_spec *spec)
{
    bool guaranteed = true, nothing = true;
    if (!asks_nothing(&spec->resources))
        return is_guaranteed(&spec->resources) ? WH_QOS_GUARANTEED : WH_QOS_BURSTABLE;
    for (size_t i = 0; i < spec->n_containers; i++) {
        guaranteed &= is_guaranteed(&spec->containers[i].resources);
        nothing &= asks_nothing(&spec->containers[i].resources);
    }
    if (nothing)
        return WH_QOS_BEST_EFFORT;
    return guaranteed ? WH_QOS_GUARANTEED : WH_QOS_BURSTABLE;
}

const char *wh_qos_name(wh_qos qos)
{
    static const char *const names[] = {"Guaranteed", "Burstable", "BestEffort"};
    return names[qos];
}

char *wh_pod_cgroup_path(const wh_pod_spec *spec)
{
    static const char *const folders[] = {"", "burstable/", "besteffort/"};
    return wh_xasprintf("kubepods/%spod%s", folders[wh_pod_qos(spec)], spec->uid == NULL ? "" : spec->uid);
}

char *wh_container_cgroup_path(const wh_pod_spec *spec, size_t container, unsigned attempt)
{
    auto_free char *pod = wh_pod_cgroup_path(spec);
    return wh_xasprintf("%s/%s.%u", pod, spec->containers[container].name, attempt);
}

static uint64_t shares(wh_quantity cpu)
{
    int64_t value = wh_quantity_millis(cpu) * 1024 / 1000;
    return (uint64_t)WH_MIN(WH_MAX(value, (int64_t)SHARES_MIN), (int64_t)SHARES_MAX);
}

static int64_t quota_us(wh_quantity cpu)
{
    int64_t millis = wh_quantity_millis(cpu);
    if (!cpu.set || millis <= 0)
        return 0;
    return WH_MAX(WH_MIN(millis, INT64_MAX / 100) * 100, (int64_t)QUOTA_MIN_US);
}

wh_cgroup_limits wh_container_cgroup_limits(const wh_pod_spec *spec, size_t container)
{
    const wh_resources *r = &spec->containers[container].resources;
    return (wh_cgroup_limits){.memory_max = (uint64_t)wh_quantity_units(r->limits.memory),
                              .cpu_shares = shares(r->requests.cpu),
                              .cpu_quota_us = quota_us(r->limits.cpu)};
}

/* A pod's group has a limit only where each of its containers has one. */
wh_cgroup_limits wh_pod_cgroup_limits(const wh_pod_spec *spec)
{
    const wh_resources *own = &spec->resources;
    bool all_memory = true, all_cpu = true;
    wh_quantity memory = {.set = true}, cpu = {.set = true}, request = {.set = true}, init_memory = {0},
                init_cpu = {0};
    for (size_t i = 0; i < spec->n_containers; i++) {
        const wh_resources *r = &spec->containers[i].resources;
        all_memory &= r->limits.memory.nano > 0;
        all_cpu &= r->limits.cpu.nano > 0;
        if (spec->containers[i].role == WH_ROLE_INIT) {
            init_memory.nano = WH_MAX(init_memory.nano, r->limits.memory.nano);
            init_cpu.nano = WH_MAX(init_cpu.nano, r->limits.cpu.nano);
            continue;
        }
        memory.nano += r->limits.memory.nano;
        cpu.nano += r->limits.cpu.nano;
        request.nano += r->requests.cpu.nano;
    }
    memory.nano = WH_MAX(memory.nano, init_memory.nano);
    cpu.nano = WH_MAX(cpu.nano, init_cpu.nano);
    if (own->limits.memory.set)
        memory = own->limits.memory;
    if (own->limits.cpu.set)
        cpu = own->limits.cpu;
    if (own->requests.cpu.set)
        request = own->requests.cpu;
    bool has_memory = all_memory || own->limits.memory.set, has_cpu = all_cpu || own->limits.cpu.set;
    return (wh_cgroup_limits){.memory_max = has_memory ? (uint64_t)wh_quantity_units(memory) : 0,
                              .cpu_shares = shares(request),
                              .cpu_quota_us = has_cpu ? quota_us(cpu) : 0};
}

int wh_container_oom_score_adj(const wh_pod_spec *spec, size_t container, int64_t memory_bytes)
{
    wh_qos qos = wh_pod_qos(spec);
    bool critical = wh_streq(spec->priority_class, "system-node-critical");
    if (qos == WH_QOS_GUARANTEED || critical)
        return -997;
    if (qos == WH_QOS_BEST_EFFORT || memory_bytes <= 0)
        return 1000;
    wh_nano request = wh_quantity_units(spec->containers[container].resources.requests.memory);
    int64_t adj = 1000 - (int64_t)(1000 * request / memory_bytes);
    return (int)WH_MIN(WH_MAX(adj, (int64_t)3), (int64_t)999);
}

/* ---- what the scheduler counts ---- */

static wh_nano larger(wh_nano a, wh_nano b)
{
    return a > b ? a : b;
}

/* One resource over a pod's life: `pick` takes it from a container. */
static wh_quantity demand(const wh_pod_spec *spec, wh_quantity (*pick)(const wh_resources *))
{
    wh_nano sidecars = 0, init = 0, mains = 0;
    for (size_t i = 0; i < spec->n_containers; i++) {
        wh_nano own = pick(&spec->containers[i].resources).nano;
        if (spec->containers[i].role == WH_ROLE_SIDECAR) {
            sidecars += own;
            init = larger(init, sidecars);
        } else if (spec->containers[i].role == WH_ROLE_INIT)
            init = larger(init, sidecars + own);
        else
            mains += own;
    }
    wh_quantity pod = pick(&spec->resources);
    return (wh_quantity){.nano = pod.set ? pod.nano : larger(init, sidecars + mains), .set = true};
}

static wh_quantity pick_cpu(const wh_resources *r)
{
    return r->requests.cpu;
}

static wh_quantity pick_memory(const wh_resources *r)
{
    return r->requests.memory;
}

static wh_quantity pick_ephemeral(const wh_resources *r)
{
    return r->requests.ephemeral_storage;
}

static wh_quantity overhead(const wh_pod_spec *spec, const char *resource)
{
    wh_quantity q = {0};
    const json_t *all = wh_json_at(spec->object, "spec.overhead");
    const char *text = json_string_value(json_object_get(all, resource));
    if (text != NULL)
        (void)wh_quantity_parse(text, &q, NULL);
    return q;
}

wh_pod_demand wh_pod_demand_of(const wh_pod_spec *spec)
{
    wh_quantity cpu = demand(spec, pick_cpu), memory = demand(spec, pick_memory);
    cpu.nano += overhead(spec, "cpu").nano;
    memory.nano += overhead(spec, "memory").nano;
    return (wh_pod_demand){.cpu_millis = wh_quantity_millis(cpu),
                           .memory_bytes = wh_quantity_units(memory),
                           .ephemeral_bytes = wh_quantity_units(demand(spec, pick_ephemeral))};
}
