/* SPDX-License-Identifier: Apache-2.0 */
/* What a lifecycle looks like from outside: phase and conditions as the kubelet computes them
 * (kubelet_pods.go getPhase, status/generate.go). */
#include "pod/lifecycle_state.h"

#include <stdio.h>

#define LIST_BYTES_MAX 1024 /* of container names in a condition's message */

static const char *const condition_types[] = {
    "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready", "PodScheduled",
    "DisruptionTarget"};

/* ---- phase ---- */

static wh_pod_phase current_phase(const wh_lifecycle *lc)
{
    if (lc->stage >= STAGE_ENDED || lc->phase == WH_PHASE_RUNNING || !lc->initialized)
        return lc->phase;
    for (size_t i = lc->spec->n_init; i < lc->n; i++)
        if (!lc->containers[i].ran)
            return WH_PHASE_PENDING;
    return WH_PHASE_RUNNING;
}

/* ---- conditions ---- */

static void list_name(char out[LIST_BYTES_MAX], const char *name)
{
    size_t used = strlen(out);
    snprintf(out + used, LIST_BYTES_MAX - used, "%s%s", used > 0 ? " " : "", name);
}

static void set_condition(wh_lifecycle *lc, int which, bool status, const char *reason, const char *message,
                          wh_time now)
{
    condition *c = &lc->conditions[which];
    if (c->since == 0 || c->status != status)
        c->since = now;
    c->status = status;
    set_reason(c->reason, reason);
    if (!wh_streq(c->message, message))
        set_text(&c->message, message);
}

static bool container_ready(const wh_lifecycle *lc, size_t i)
{
    const container *c = &lc->containers[i];
    if (lc->spec->containers[i].role == WH_ROLE_INIT)
        return c->life.state == WH_CONTAINER_ENDED && c->life.end.exit_code == 0;
    if (c->life.state != WH_CONTAINER_RUNNING || lc->stage >= STAGE_ENDED || !is_started(lc, i))
        return false;
    return c->probed_ready || lc->spec->containers[i].probes[WH_PROBE_READINESS].action == WH_PROBE_NONE;
}

bool is_started(const wh_lifecycle *lc, size_t i)
{
    const container *c = &lc->containers[i];
    return c->life.state == WH_CONTAINER_RUNNING &&
           (c->probed_started || lc->spec->containers[i].probes[WH_PROBE_STARTUP].action == WH_PROBE_NONE);
}

static void show_initialized(wh_lifecycle *lc, wh_time now)
{
    char names[LIST_BYTES_MAX] = "", message[LIST_BYTES_MAX + 64];
    if (lc->initialized || lc->spec->n_init == 0) {
        set_condition(lc, COND_INITIALIZED, true, lc->phase == WH_PHASE_SUCCEEDED ? "PodCompleted" : NULL,
                      NULL, now);
        return;
    }
    for (size_t i = 0; i < lc->spec->n_init; i++)
        if (!container_ready(lc, i))
            list_name(names, lc->spec->containers[i].name);
    snprintf(message, sizeof(message), "containers with incomplete status: [%s]", names);
    set_condition(lc, COND_INITIALIZED, false, "ContainersNotInitialized", message, now);
}

/* The first readiness gate that the pod's own object does not show as true; NULL: none. */
static const char *closed_gate(const wh_lifecycle *lc)
{
    const char **gates = lc->spec->readiness_gates;
    const json_t *conditions = wh_json_at(lc->spec->object, "status.conditions"), *item;
    size_t k;
    for (size_t i = 0; gates != NULL && gates[i] != NULL; i++) {
        bool open = false;
        json_array_foreach(conditions, k, item)
        {
            if (wh_streq(wh_json_str(item, "type"), gates[i]))
                open = wh_streq(wh_json_str(item, "status"), "True");
        }
        if (!open)
            return gates[i];
    }
    return NULL;
}

static void show_ready(wh_lifecycle *lc, wh_time now)
{
    char names[LIST_BYTES_MAX] = "", message[LIST_BYTES_MAX + 64];
    bool all = true;
    if (lc->stage >= STAGE_ENDED) {
        const char *reason = lc->phase == WH_PHASE_SUCCEEDED ? "PodCompleted" : "PodFailed";
        set_condition(lc, COND_CONTAINERS_READY, false, reason, NULL, now);
        set_condition(lc, COND_READY, false, reason, NULL, now);
        return;
    }
    for (size_t i = 0; i < lc->n; i++) {
        if (lc->spec->containers[i].role == WH_ROLE_INIT || container_ready(lc, i))
            continue;
        all = false;
        list_name(names, lc->spec->containers[i].name);
    }
    snprintf(message, sizeof(message), "containers with unready status: [%s]", names);
    set_condition(lc, COND_CONTAINERS_READY, all, all ? NULL : "ContainersNotReady", all ? NULL : message,
                  now);
    const char *gate = closed_gate(lc);
    if (!all || gate == NULL) {
        set_condition(lc, COND_READY, all, all ? NULL : "ContainersNotReady", all ? NULL : message, now);
        return;
    }
    snprintf(message, sizeof(message), "the readiness gate '%.200s' is not true", gate);
    set_condition(lc, COND_READY, false, "ReadinessGatesNotReady", message, now);
}

static void show_conditions(wh_lifecycle *lc, wh_time now)
{
    bool may_start = lc->volumes_once && lc->stage < STAGE_ENDED;
    set_condition(lc, COND_SCHEDULED, true, NULL, NULL, now);
    set_condition(lc, COND_START, may_start, NULL, NULL, now);
    show_initialized(lc, now);
    show_ready(lc, now);
    if (lc->cause == CAUSE_EVICT)
        set_condition(lc, COND_DISRUPTION, true, "TerminationByKubelet", lc->message, now);
}

/* ---- has it changed? ---- */

static void mix(uint64_t *h, const void *data, size_t n)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < n; i++)
        *h = (*h ^ p[i]) * 0x100000001B3u;
}

static void mix_int(uint64_t *h, int64_t value)
{
    mix(h, &value, sizeof(value));
}

static void mix_str(uint64_t *h, const char *s)
{
    mix(h, s == NULL ? "" : s, s == NULL ? 1 : strlen(s) + 1);
}

static void mix_end(uint64_t *h, const wh_container_end *end)
{
    mix_int(h, end->set);
    mix_int(h, end->attempt);
    mix_int(h, end->exit_code);
    mix_str(h, end->reason);
    mix_str(h, end->message);
    mix_int(h, end->finished);
}

static uint64_t digest(const wh_lifecycle *lc)
{
    uint64_t h = 0xCBF29CE484222325u;
    mix_int(&h, (int64_t)lc->phase);
    mix_int(&h, lc->spec->generation);
    mix_str(&h, lc->reason);
    mix_str(&h, lc->message);
    mix_int(&h, lc->start_time);
    for (size_t i = 0; i < lc->n; i++) {
        const wh_container_life *life = &lc->containers[i].life;
        mix_int(&h, (int64_t)life->state);
        mix_int(&h, life->attempt);
        mix_int(&h, life->started);
        mix_int(&h, life->ready);
        mix_int(&h, life->healthy);
        mix_str(&h, life->reason);
        mix_str(&h, life->message);
        mix_str(&h, life->image_id);
        mix_end(&h, &life->end);
        mix_end(&h, &life->last);
    }
    for (size_t i = 0; i < WH_POD_CONDITIONS_MAX; i++) {
        mix_int(&h, lc->conditions[i].status);
        mix_int(&h, lc->conditions[i].since);
        mix_str(&h, lc->conditions[i].reason);
        mix_str(&h, lc->conditions[i].message);
    }
    return h;
}

bool lifecycle_show(wh_lifecycle *lc, wh_time now)
{
    for (size_t i = 0; i < lc->n; i++) {
        lc->containers[i].life.ready = container_ready(lc, i);
        lc->containers[i].life.healthy = is_started(lc, i);
        lc->containers[i].life.stopping =
            lc->containers[i].stop_wanted != 0 || lc->containers[i].kill_sent != 0;
    }
    lc->phase = current_phase(lc);
    show_conditions(lc, now);
    uint64_t h = digest(lc);
    bool changed = h != lc->shown;
    lc->shown = h;
    return changed;
}

/* ---- reading ---- */

const char *wh_pod_phase_name(wh_pod_phase phase)
{
    static const char *const names[] = {"Pending", "Running", "Succeeded", "Failed"};
    return names[phase];
}

wh_pod_phase wh_lifecycle_phase(const wh_lifecycle *lc)
{
    return lc->phase;
}

bool wh_lifecycle_terminal(const wh_lifecycle *lc)
{
    return lc->stage >= STAGE_ENDED;
}

bool wh_lifecycle_finished(const wh_lifecycle *lc)
{
    return lc->stage == STAGE_FINISHED;
}

bool wh_lifecycle_stopping(const wh_lifecycle *lc)
{
    return lc->stage == STAGE_ENDING || (lc->deleted && lc->stage != STAGE_FINISHED);
}

bool wh_lifecycle_torn_down(const wh_lifecycle *lc)
{
    return lc->stage >= STAGE_TORN_DOWN;
}

bool wh_lifecycle_adopting(const wh_lifecycle *lc)
{
    return lc->adopting;
}

const char *wh_lifecycle_reason(const wh_lifecycle *lc)
{
    return lc->reason[0] == '\0' || lc->stage < STAGE_ENDED ? NULL : lc->reason;
}

const char *wh_lifecycle_message(const wh_lifecycle *lc)
{
    return lc->stage < STAGE_ENDED ? NULL : lc->message;
}

wh_time wh_lifecycle_start_time(const wh_lifecycle *lc)
{
    return lc->start_time;
}

const wh_pod_spec *wh_lifecycle_spec(const wh_lifecycle *lc)
{
    return lc->spec;
}

const wh_container_life *wh_lifecycle_container(const wh_lifecycle *lc, size_t container_)
{
    wh_assert(container_ < lc->n);
    return &lc->containers[container_].life;
}

size_t wh_lifecycle_conditions(const wh_lifecycle *lc, wh_pod_condition out[WH_POD_CONDITIONS_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < WH_POD_CONDITIONS_MAX; i++) {
        const condition *c = &lc->conditions[i];
        if (c->since == 0)
            continue;
        out[n++] = (wh_pod_condition){.type = condition_types[i],
                                      .status = c->status,
                                      .reason = c->reason[0] == '\0' ? NULL : c->reason,
                                      .message = c->message,
                                      .since = c->since};
    }
    return n;
}
