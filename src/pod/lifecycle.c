/* SPDX-License-Identifier: Apache-2.0 */
/* Decides what happens to a pod. Each step takes one event into the state, then `decide` looks at the whole
 * state and says what is missing; an event never acts by itself. So a lost event costs time, not correctness.
 */
#include "pod/lifecycle_state.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>

#define MESSAGE_BYTES_MAX 2048

/* ---- actions ---- */

static wh_pod_action *act(wh_pod_actions *out, wh_pod_action_type type, size_t which)
{
    if (out->n == out->cap) {
        size_t cap = out->cap == 0 ? 8 : out->cap * 2;
        wh_pod_action *list = wh_xcalloc(cap, sizeof(*list));
        if (out->n > 0)
            memcpy(list, out->list, out->n * sizeof(*list));
        free(out->list);
        out->list = list;
        out->cap = cap;
    }
    wh_pod_action *a = &out->list[out->n++];
    *a = (wh_pod_action){.type = type, .container = which};
    return a;
}

static void act_on_runner(wh_pod_actions *out, wh_pod_action_type type, size_t which, unsigned attempt,
                          int signo)
{
    wh_pod_action *a = act(out, type, which);
    a->attempt = attempt;
    a->signal = signo;
}

static WH_PRINTF(5, 6) void tell(wh_pod_actions *out, size_t which, bool warning, const char *reason,
                                 const char *fmt, ...)
{
    char message[MESSAGE_BYTES_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    make_utf8(message); /* also what the cut left of its last character */
    wh_pod_action *a = act(out, WH_DO_EVENT, which);
    a->warning = warning;
    set_reason(a->reason, reason);
    a->message = wh_xstrdup(message);
}

static void actions_clear(wh_pod_actions *actions)
{
    for (size_t i = 0; i < actions->n; i++)
        free(actions->list[i].message);
    actions->n = 0;
    actions->next = WH_TIME_NEVER;
}

void wh_pod_actions_done(wh_pod_actions *actions)
{
    actions_clear(actions);
    free(actions->list);
    *actions = (wh_pod_actions){.next = WH_TIME_NEVER};
}

/* ---- retries ---- */

static void retry_later(retry *r, wh_time now, wh_time min, wh_time max)
{
    r->delay = r->delay == 0 ? min : WH_MIN(r->delay * 2, max);
    r->at = now + r->delay;
}

/* True when it may be tried; otherwise the next tick is no later than that moment. */
static bool is_due(wh_time at, wh_time now, wh_pod_actions *out)
{
    if (at <= now)
        return true;
    out->next = WH_MIN(out->next, at);
    return false;
}

/* ---- ends ---- */

static void begin_ending(wh_lifecycle *lc, cause why, int64_t grace_s, wh_time now)
{
    wh_time deadline = now + WH_MIN(WH_MAX(grace_s, 0), (int64_t)INT32_MAX) * WH_SEC;
    if (lc->stage > STAGE_ENDING)
        return;
    if (lc->stage < STAGE_ENDING) {
        lc->stage = STAGE_ENDING;
        lc->cause = why;
        lc->stop_deadline = deadline;
        return;
    }
    lc->stop_deadline = WH_MIN(lc->stop_deadline, deadline);
}

static bool matches_rule(const wh_container_spec *spec, int exit_code)
{
    for (size_t i = 0; i < spec->n_rules; i++) {
        bool in = false;
        for (size_t k = 0; k < spec->rules[i].n_codes; k++)
            in |= spec->rules[i].codes[k] == exit_code;
        if (in != spec->rules[i].not_in)
            return true;
    }
    return false;
}

static bool restarts(const wh_lifecycle *lc, size_t i)
{
    const wh_container_spec *spec = &lc->spec->containers[i];
    int code = lc->containers[i].life.end.exit_code;
    if (lc->stage > STAGE_ACTIVE)
        return false;
    if (lc->containers[i].renew)
        return true;
    if (spec->role == WH_ROLE_INIT && code == 0)
        return false;
    if (matches_rule(spec, code))
        return true;
    return spec->restart == WH_RESTART_ALWAYS || (spec->restart == WH_RESTART_ON_FAILURE && code != 0);
}

/* A run is over: what it was is kept, and the next one is planned or given up. */
static void run_over(wh_lifecycle *lc, size_t i, const wh_pod_end *end, wh_time now)
{
    container *c = &lc->containers[i];
    wh_container_life *life = &c->life;
    move_end(&life->last, &life->end);
    set_end(&life->end, life->attempt, end, now);
    life->pid = 0;
    life->started = 0;
    c->ran = true; /* also one that ended before its guest began: there is something to show */
    c->stop_wanted = c->stop_sent = c->kill_sent = c->kill_at = 0;
    c->probed_started = c->probed_ready = c->unhealthy = false;
    set_text(&life->message, NULL);
    if (!restarts(lc, i)) {
        life->state = WH_CONTAINER_ENDED;
        set_reason(life->reason, NULL);
        c->renew = false;
        return;
    }
    if (c->renew || life->end.finished - c->start_asked > RESTART_DELAY_FORGET)
        c->restart_delay = 0;
    c->restart_at = c->restart_delay == 0 ? 0 : WH_MIN(life->end.finished, now) + c->restart_delay;
    c->restart_delay =
        c->restart_delay == 0 ? RESTART_DELAY_MIN : WH_MIN(c->restart_delay * 2, RESTART_DELAY_MAX);
    c->renew = false;
    life->state = WH_CONTAINER_WAITING;
    life->attempt++;
    set_reason(life->reason, NULL);
    if (lc->spec->containers[i].pull_policy == WH_PULL_POLICY_ALWAYS && c->image == WORK_READY)
        c->image = WORK_NONE;
}

/* ---- events into the state ---- */

static void on_image(wh_lifecycle *lc, const wh_pod_event *e, wh_time now, wh_pod_actions *out)
{
    container *c = &lc->containers[e->container];
    const char *image = lc->spec->containers[e->container].image;
    if (c->image != WORK_ASKED)
        return;
    if (e->type == WH_POD_IMAGE_READY) {
        c->image = WORK_READY;
        c->image_retry = (retry){0};
        if (e->image_id != NULL)
            set_text(&c->life.image_id, e->image_id);
        if (!is_alive(c))
            set_text(&c->life.message, NULL);
        set_reason(c->life.reason, NULL);
        if (e->message != NULL)
            tell(out, e->container, false, "Pulled", "%s", e->message);
        return;
    }
    c->image = WORK_FAILED;
    c->image_failed = now;
    retry_later(&c->image_retry, now, IMAGE_DELAY_MIN, IMAGE_DELAY_MAX);
    set_reason(c->life.reason, e->reason == NULL ? "ErrImagePull" : e->reason);
    set_text(&c->life.message, e->message);
    tell(out, e->container, true, "Failed", "Failed to pull image \"%s\": %s", image,
         e->message == NULL ? "no reason given" : e->message);
}

static void on_start_answer(wh_lifecycle *lc, const wh_pod_event *e, wh_time now, wh_pod_actions *out)
{
    container *c = &lc->containers[e->container];
    if (c->life.state != WH_CONTAINER_STARTING || e->attempt != c->life.attempt) {
        if (e->type == WH_POD_STARTED) { /* nobody asked for it */
            c->strays++;
            act_on_runner(out, WH_DO_KILL, e->container, e->attempt, SIGKILL);
        }
        return;
    }
    if (e->type == WH_POD_STARTED) {
        c->life.pid = e->pid;
        c->start_retry = (retry){0};
        tell(out, e->container, false, "Created", "Created container %s",
             lc->spec->containers[e->container].name);
        return;
    }
    c->life.state = WH_CONTAINER_WAITING;
    c->stop_wanted = c->stop_sent = c->kill_sent = 0;
    retry_later(&c->start_retry, now, START_DELAY_MIN, START_DELAY_MAX);
    set_reason(c->life.reason, e->reason == NULL ? "CreateContainerError" : e->reason);
    set_text(&c->life.message, e->message);
    if (e->message != NULL)
        tell(out, e->container, true, "Failed", "Error: %s", e->message);
}

static void on_running(wh_lifecycle *lc, const wh_pod_event *e, wh_time now, wh_pod_actions *out)
{
    container *c = &lc->containers[e->container];
    if (c->life.state != WH_CONTAINER_STARTING || e->attempt != c->life.attempt)
        return;
    c->life.state = WH_CONTAINER_RUNNING;
    c->life.started = e->started == 0 ? now : WH_MIN(e->started, now);
    c->ran = true;
    if (e->pid != 0)
        c->life.pid = e->pid;
    set_reason(c->life.reason, NULL);
    set_text(&c->life.message, NULL);
    tell(out, e->container, false, "Started", "Started container %s",
         lc->spec->containers[e->container].name);
}

static void on_probe(wh_lifecycle *lc, const wh_pod_event *e, wh_pod_actions *out)
{
    container *c = &lc->containers[e->container];
    const wh_container_spec *spec = &lc->spec->containers[e->container];
    if (c->life.state != WH_CONTAINER_RUNNING || e->attempt != c->life.attempt || lc->stage > STAGE_ENDING)
        return;
    if (e->type == WH_POD_UNHEALTHY) {
        tell(out, e->container, true, "Unhealthy", "%s probe failed: %s", wh_probe_name(e->probe),
             e->message == NULL ? "" : e->message);
        return;
    }
    if (e->probe == WH_PROBE_READINESS)
        c->probed_ready = e->good;
    else if (e->probe == WH_PROBE_STARTUP)
        c->probed_started = e->good;
    if (e->good || e->probe == WH_PROBE_READINESS || c->unhealthy || lc->stage > STAGE_ACTIVE)
        return;
    c->unhealthy = true;
    c->unhealthy_grace_s = e->grace_s >= 0 ? e->grace_s : lc->spec->grace_s;
    tell(out, e->container, false, "Killing", "Container %s failed %s probe, will be restarted", spec->name,
         e->probe == WH_PROBE_STARTUP ? "startup" : "liveness");
}

static void on_exited(wh_lifecycle *lc, const wh_pod_event *e, wh_time now)
{
    container *c = &lc->containers[e->container];
    if (is_alive(c) && e->attempt == c->life.attempt)
        run_over(lc, e->container, &e->end, now);
    else if (c->strays > 0)
        c->strays--;
}

static void on_volumes(wh_lifecycle *lc, const wh_pod_event *e, wh_time now, wh_pod_actions *out)
{
    if (lc->volumes != WORK_ASKED)
        return;
    if (e->type == WH_POD_VOLUMES_READY) {
        lc->volumes = WORK_READY;
        lc->volumes_once = true;
        lc->volumes_retry = (retry){0};
        return;
    }
    lc->volumes = WORK_FAILED;
    /* Without a reason nothing failed: something that was asked for is not here yet. */
    retry_later(&lc->volumes_retry, now, e->reason != NULL ? MOUNT_DELAY_MIN : MOUNT_WAIT_MIN,
                e->reason != NULL ? MOUNT_DELAY_MAX : MOUNT_WAIT_MAX);
    if (e->reason != NULL)
        tell(out, WH_POD_ITSELF, true, e->reason, "%s",
             e->message == NULL ? "volumes cannot be made" : e->message);
}

static void on_delete(wh_lifecycle *lc, const wh_pod_event *e, wh_time now)
{
    lc->deleted = true;
    if (e->type == WH_POD_DELETE_NOW) {
        lc->kill_now = true;
        begin_ending(lc, CAUSE_DELETE, 0, now);
        return;
    }
    begin_ending(lc, CAUSE_DELETE, e->grace_s < 0 ? lc->spec->grace_s : e->grace_s, now);
}

static void on_evict(wh_lifecycle *lc, const wh_pod_event *e, wh_time now, wh_pod_actions *out)
{
    if (lc->stage >= STAGE_ENDED || lc->cause == CAUSE_EVICT)
        return;
    set_reason(lc->reason, e->reason == NULL ? "Evicted" : e->reason);
    set_text(&lc->message, e->message);
    begin_ending(lc, CAUSE_EVICT, e->grace_s < 0 ? lc->spec->grace_s : e->grace_s, now);
    lc->cause = CAUSE_EVICT;
    tell(out, WH_POD_ITSELF, true, lc->reason, "%s", e->message == NULL ? "evicted by the node" : e->message);
}

static void on_admission(wh_lifecycle *lc, const wh_pod_event *e, wh_time now, wh_pod_actions *out)
{
    if (lc->stage != STAGE_NEW)
        return;
    lc->start_time = now;
    if (e->type == WH_POD_ADMITTED) {
        lc->stage = STAGE_ACTIVE;
        for (size_t i = 0; lc->spec->remarks != NULL && lc->spec->remarks[i] != NULL; i++)
            tell(out, WH_POD_ITSELF, true, "NotSupportedYet", "%s", lc->spec->remarks[i]);
        return;
    }
    set_reason(lc->reason, e->reason == NULL ? "UnexpectedAdmissionError" : e->reason);
    set_text(&lc->message, e->message);
    tell(out, WH_POD_ITSELF, true, lc->reason, "%s", e->message == NULL ? "refused by the node" : e->message);
    begin_ending(lc, CAUSE_REJECT, 0, now);
}

/* What is failing may work now. A crashing container still waits: that is not about objects. */
static void on_retry(wh_lifecycle *lc, wh_time now)
{
    lc->volumes_retry.at = WH_MIN(lc->volumes_retry.at, now);
    for (size_t i = 0; i < lc->n; i++) {
        lc->containers[i].start_retry.at = WH_MIN(lc->containers[i].start_retry.at, now);
        lc->containers[i].image_retry.at = WH_MIN(lc->containers[i].image_retry.at, now);
    }
}

/* ---- adoption ---- */

/* A main container was found although we do not remember starting it: its init containers must have ended
 * well. */
static void assume_initialized(wh_lifecycle *lc)
{
    for (size_t i = 0; i < lc->spec->n_init; i++) {
        container *c = &lc->containers[i];
        if (lc->spec->containers[i].role != WH_ROLE_INIT || c->life.state != WH_CONTAINER_WAITING)
            continue;
        c->life.state = WH_CONTAINER_ENDED;
        c->ran = true;
        set_end(&c->life.end, c->life.attempt, &(wh_pod_end){.reason = "Completed"}, 0);
    }
    lc->initialized = true;
}

static void adopt_running(wh_lifecycle *lc, const wh_pod_event *e, wh_time now, wh_pod_actions *out)
{
    container *c = &lc->containers[e->container];
    bool unknown = c->life.state == WH_CONTAINER_WAITING && e->attempt >= c->life.attempt;
    bool ours = is_alive(c) && e->attempt == c->life.attempt;
    if (lc->stage >= STAGE_ENDED || (!unknown && !ours)) {
        if (lc->stage < STAGE_ENDED)
            c->strays++;
        act_on_runner(out, WH_DO_KILL, e->container, e->attempt, SIGKILL);
        return;
    }
    if (unknown && lc->spec->containers[e->container].role == WH_ROLE_MAIN)
        assume_initialized(lc);
    c->seen = true;
    c->life.attempt = e->attempt;
    c->life.pid = e->pid;
    bool began = e->started != 0 || c->life.state == WH_CONTAINER_RUNNING;
    if (c->life.state != WH_CONTAINER_RUNNING) {
        c->life.state = began ? WH_CONTAINER_RUNNING : WH_CONTAINER_STARTING;
        c->life.started = began ? WH_MIN(e->started, now) : 0;
        c->start_asked = c->start_asked == 0 ? now : c->start_asked;
        set_reason(c->life.reason, NULL);
        set_text(&c->life.message, NULL);
    }
    c->ran |= began;
}

static void adopt_ended(wh_lifecycle *lc, const wh_pod_event *e, wh_time now)
{
    container *c = &lc->containers[e->container];
    bool ours = is_alive(c) && e->attempt == c->life.attempt;
    bool unknown = c->life.state == WH_CONTAINER_WAITING && !c->life.end.set && e->attempt >= c->life.attempt;
    if (lc->stage >= STAGE_ENDED || (!ours && !unknown))
        return;
    if (unknown && lc->spec->containers[e->container].role == WH_ROLE_MAIN)
        assume_initialized(lc);
    c->life.attempt = e->attempt;
    run_over(lc, e->container, &e->end, now);
}

/* Everything that exists was reported; what we remember and nobody has is gone. */
static void on_adopted(wh_lifecycle *lc, wh_time now)
{
    const wh_pod_end lost = {.lost = true,
                             .exit_code = 137,
                             .reason = "ContainerStatusUnknown",
                             .message = "The container ended while nobody watched: how is not known.",
                             .finished = now};
    if (!lc->adopting)
        return;
    lc->adopting = false;
    lc->shown = 0; /* the last status may not have got out */
    for (size_t i = 0; i < lc->n; i++) {
        container *c = &lc->containers[i];
        if (!is_alive(c) || c->seen)
            continue;
        if (c->life.state == WH_CONTAINER_STARTING && c->life.pid == 0)
            c->life.state = WH_CONTAINER_WAITING; /* the START never happened: the same attempt again */
        else {
            wh_pod_end end = lost;
            end.started = c->life.started;
            run_over(lc, i, &end, now);
        }
    }
}

/* ---- decisions: one container ---- */

static const char *first_reason(const wh_lifecycle *lc)
{
    return lc->spec->n_init > 0 && !lc->initialized ? "PodInitializing" : "ContainerCreating";
}

static void want_image(wh_lifecycle *lc, size_t i, wh_time now, wh_pod_actions *out)
{
    container *c = &lc->containers[i];
    const char *image = lc->spec->containers[i].image;
    if (c->image == WORK_READY || c->image == WORK_ASKED)
        return;
    if (c->image == WORK_FAILED && !is_due(c->image_retry.at, now, out)) {
        bool pulled =
            strcmp(c->life.reason, "ErrImagePull") == 0 || strcmp(c->life.reason, "RegistryUnavailable") == 0;
        if (!pulled || !is_due(c->image_failed + IMAGE_ERROR_SHOWN, now, out))
            return;
        auto_free char *why = WH_TAKE(c->life.message);
        set_reason(c->life.reason, "ImagePullBackOff");
        c->life.message = wh_xasprintf("Back-off pulling image \"%s\": %s", image, why == NULL ? "" : why);
        tell(out, i, false, "BackOff", "Back-off pulling image \"%s\"", image);
        return;
    }
    c->image = WORK_ASKED;
    act(out, WH_DO_PULL, i);
}

static void show_crash_loop(const wh_lifecycle *lc, size_t i, wh_pod_actions *out)
{
    container *c = &lc->containers[i];
    const wh_pod_spec *spec = lc->spec;
    const char *name = spec->containers[i].name;
    if (strcmp(c->life.reason, "CrashLoopBackOff") == 0)
        return;
    wh_time wait = c->restart_at - WH_MIN(c->life.end.finished, c->restart_at);
    set_reason(c->life.reason, "CrashLoopBackOff");
    free(c->life.message);
    c->life.message = wh_xasprintf("back-off %llds restarting failed container=%s pod=%s_%s(%s)",
                                   (long long)(wait / WH_SEC), name, spec->name, spec->namespace_,
                                   spec->uid == NULL ? "" : spec->uid);
    tell(out, i, true, "BackOff", "Back-off restarting failed container %s in pod %s_%s(%s)", name,
         spec->name, spec->namespace_, spec->uid == NULL ? "" : spec->uid);
}

/* Starts a container that waits, as soon as everything it needs is there. */
static void want_running(wh_lifecycle *lc, size_t i, wh_time now, wh_pod_actions *out)
{
    container *c = &lc->containers[i];
    if (c->life.state != WH_CONTAINER_WAITING || c->strays > 0)
        return;
    if (!is_due(c->restart_at, now, out)) {
        show_crash_loop(lc, i, out);
        return;
    }
    want_image(lc, i, now, out);
    if (lc->volumes != WORK_READY || c->image != WORK_READY || !is_due(c->start_retry.at, now, out))
        return;
    c->life.state = WH_CONTAINER_STARTING;
    c->life.pid = 0;
    c->start_asked = now;
    set_reason(c->life.reason, first_reason(lc));
    set_text(&c->life.message, NULL);
    act_on_runner(out, WH_DO_START, i, c->life.attempt, 0);
}

/* Asks a runner to end, and kills it when `kill_at` has come. */
static void want_stopped(wh_lifecycle *lc, size_t i, wh_time kill_at, wh_time now, wh_pod_actions *out)
{
    container *c = &lc->containers[i];
    const wh_container_spec *spec = &lc->spec->containers[i];
    bool answered = c->life.state == WH_CONTAINER_RUNNING || c->life.pid != 0;
    if (!is_alive(c) || !answered)
        return; /* STARTED or START_FAILED is still to come */
    if (c->stop_wanted == 0) {
        c->stop_wanted = now;
        if (!c->unhealthy) /* of that one it was said already */
            tell(out, i, false, "Killing", "Stopping container %s", spec->name);
    }
    bool slept = lc->kill_now || is_due(c->stop_wanted + spec->pre_stop_sleep_s * WH_SEC, now, out);
    if (c->stop_sent == 0 && slept && !lc->kill_now && kill_at > now) {
        c->stop_sent = now;
        act_on_runner(out, WH_DO_STOP, i, c->life.attempt, spec->stop_signal);
    }
    c->kill_at = lc->kill_now ? now : kill_at;
    if (!is_due(c->kill_at, now, out))
        return;
    if (c->kill_sent != 0 && !is_due(c->kill_sent + KILL_AGAIN, now, out))
        return;
    c->kill_sent = now;
    act_on_runner(out, WH_DO_KILL, i, c->life.attempt, SIGKILL);
    out->next = WH_MIN(out->next, now + KILL_AGAIN);
}

/* ---- decisions: the pod ---- */

static void want_volumes(wh_lifecycle *lc, wh_time now, wh_pod_actions *out)
{
    if (lc->volumes == WORK_READY || lc->volumes == WORK_ASKED)
        return;
    if (lc->volumes == WORK_FAILED && !is_due(lc->volumes_retry.at, now, out))
        return;
    lc->volumes = WORK_ASKED;
    act(out, WH_DO_MOUNT, WH_POD_ITSELF);
}

/* Runs init containers one after the other and sidecars beside them. True when the main containers may start.
 */
static bool want_initialized(wh_lifecycle *lc, wh_time now, wh_pod_actions *out)
{
    for (size_t i = 0; i < lc->spec->n_init; i++) {
        const container *c = &lc->containers[i];
        bool sidecar = lc->spec->containers[i].role == WH_ROLE_SIDECAR;
        if (sidecar || !lc->initialized)
            want_running(lc, i, now, out);
        if (lc->initialized || (sidecar && is_started(lc, i)))
            continue;
        if (!sidecar && c->life.state == WH_CONTAINER_ENDED && c->life.end.exit_code == 0)
            continue;
        return false;
    }
    lc->initialized = true;
    return true;
}

/* Containers whose image changed while they ran, or whose probe failed, are stopped; they start again by themselves. */
static void want_renewed(wh_lifecycle *lc, wh_time now, wh_pod_actions *out)
{
    for (size_t i = 0; i < lc->n; i++) {
        container *c = &lc->containers[i];
        if ((!c->renew && !c->unhealthy) || !is_alive(c))
            continue;
        wh_time begun = c->stop_wanted == 0 ? now : c->stop_wanted;
        int64_t grace_s = c->unhealthy ? c->unhealthy_grace_s : lc->spec->grace_s;
        want_stopped(lc, i, begun + grace_s * WH_SEC, now, out);
    }
}

/* Is there nothing left to do? Begins the end then. */
static bool has_come_to_an_end(wh_lifecycle *lc, wh_time now)
{
    bool all_ended = true, init_failed = false;
    for (size_t i = 0; i < lc->n; i++) {
        const container *c = &lc->containers[i];
        if (lc->spec->containers[i].role == WH_ROLE_MAIN)
            all_ended &= c->life.state == WH_CONTAINER_ENDED;
        else if (lc->spec->containers[i].role == WH_ROLE_INIT && !lc->initialized)
            init_failed |= c->life.state == WH_CONTAINER_ENDED && c->life.end.exit_code != 0;
    }
    if (all_ended || init_failed)
        begin_ending(lc, init_failed ? CAUSE_INIT_FAILED : CAUSE_DONE, lc->spec->grace_s, now);
    return all_ended || init_failed;
}

static void decide_active(wh_lifecycle *lc, wh_time now, wh_pod_actions *out)
{
    if (has_come_to_an_end(lc, now))
        return;
    if (lc->spec->active_deadline_s > 0 &&
        is_due(lc->start_time + lc->spec->active_deadline_s * WH_SEC, now, out)) {
        set_reason(lc->reason, "DeadlineExceeded");
        set_text(&lc->message, "Pod was active on the node longer than the specified deadline");
        tell(out, WH_POD_ITSELF, true, "DeadlineExceeded", "%s", lc->message);
        begin_ending(lc, CAUSE_DEADLINE, lc->spec->grace_s, now);
        return;
    }
    want_volumes(lc, now, out);
    for (size_t i = 0; i < lc->n; i++) /* all images at once: a pull is what takes long */
        if (lc->containers[i].life.state == WH_CONTAINER_WAITING && lc->containers[i].restart_at <= now)
            want_image(lc, i, now, out);
    want_renewed(lc, now, out);
    bool initialized = want_initialized(lc, now, out);
    for (size_t i = lc->spec->n_init; i < lc->n && initialized; i++)
        want_running(lc, i, now, out);
}

static wh_pod_phase final_phase(const wh_lifecycle *lc)
{
    if (lc->cause != CAUSE_DONE && lc->cause != CAUSE_DELETE)
        return WH_PHASE_FAILED;
    for (size_t i = lc->spec->n_init; i < lc->n; i++)
        if (lc->containers[i].life.state != WH_CONTAINER_ENDED || lc->containers[i].life.end.exit_code != 0)
            return WH_PHASE_FAILED;
    return WH_PHASE_SUCCEEDED;
}

/* Nothing runs any more and nothing will: what waited is over too. */
static void close_containers(wh_lifecycle *lc, wh_time now)
{
    const wh_pod_end never = {.exit_code = 137,
                              .reason = "ContainerStatusUnknown",
                              .message = "The container could not be located when the pod was terminated",
                              .finished = now};
    for (size_t i = 0; i < lc->n; i++) {
        container *c = &lc->containers[i];
        if (c->life.state != WH_CONTAINER_WAITING || (!c->life.end.set && !lc->initialized))
            continue;
        if (c->life.end.set)
            c->life.attempt = c->life.end.attempt;
        else
            set_end(&c->life.end, c->life.attempt, &never, now);
        c->life.state = WH_CONTAINER_ENDED;
        set_reason(c->life.reason, NULL);
        set_text(&c->life.message, NULL);
    }
}

static void decide_ending(wh_lifecycle *lc, wh_time now, wh_pod_actions *out)
{
    bool late = lc->kill_now || lc->stop_deadline <= now, any = lc->volumes == WORK_ASKED;
    for (size_t i = 0; i < lc->n; i++) {
        any |= is_alive(&lc->containers[i]) || lc->containers[i].strays > 0;
        if (lc->spec->containers[i].role != WH_ROLE_SIDECAR)
            want_stopped(lc, i, lc->stop_deadline, now, out);
    }
    bool others = false;
    for (size_t i = 0; i < lc->n; i++)
        others |= lc->spec->containers[i].role != WH_ROLE_SIDECAR && is_alive(&lc->containers[i]);
    for (size_t i = lc->spec->n_init; i > 0 && (late || !others); i--) {
        container *c = &lc->containers[i - 1];
        if (lc->spec->containers[i - 1].role != WH_ROLE_SIDECAR || !is_alive(c))
            continue;
        wh_time begun = c->stop_wanted == 0 ? now : c->stop_wanted;
        want_stopped(lc, i - 1, WH_MAX(lc->stop_deadline, begun + SIDECAR_GRACE_MIN), now, out);
        others = true; /* the one before it waits */
    }
    if (any) {
        if (!late)
            is_due(lc->stop_deadline, now, out);
        return;
    }
    close_containers(lc, now);
    lc->phase = final_phase(lc);
    lc->stage = STAGE_ENDED;
}

static void decide(wh_lifecycle *lc, wh_time now, wh_pod_actions *out)
{
    if (lc->adopting)
        return;
    if (lc->stage == STAGE_ACTIVE)
        decide_active(lc, now, out);
    if (lc->stage == STAGE_ENDING)
        decide_ending(lc, now, out);
    if (lc->stage == STAGE_ENDED && !lc->teardown_asked) {
        lc->teardown_asked = true;
        act(out, WH_DO_TEARDOWN, WH_POD_ITSELF);
    }
}

/* What shows as the reason of a container that waits and has none of its own. */
static void fill_reasons(wh_lifecycle *lc)
{
    for (size_t i = 0; i < lc->n; i++) {
        wh_container_life *life = &lc->containers[i].life;
        bool waits = life->state == WH_CONTAINER_WAITING || life->state == WH_CONTAINER_STARTING;
        if (waits && (life->reason[0] == '\0' || strcmp(life->reason, "PodInitializing") == 0))
            set_reason(life->reason, first_reason(lc));
    }
}

static void take_event(wh_lifecycle *lc, const wh_pod_event *e, wh_time now, wh_pod_actions *out)
{
    switch (e->type) {
    case WH_POD_ADMITTED:
    case WH_POD_REJECTED:
        on_admission(lc, e, now, out);
        return;
    case WH_POD_VOLUMES_READY:
    case WH_POD_VOLUMES_FAILED:
        on_volumes(lc, e, now, out);
        return;
    case WH_POD_IMAGE_READY:
    case WH_POD_IMAGE_FAILED:
        on_image(lc, e, now, out);
        return;
    case WH_POD_STARTED:
    case WH_POD_START_FAILED:
        on_start_answer(lc, e, now, out);
        return;
    case WH_POD_RUNNING:
        on_running(lc, e, now, out);
        return;
    case WH_POD_EXITED:
        on_exited(lc, e, now);
        return;
    case WH_POD_PROBED:
    case WH_POD_UNHEALTHY:
        on_probe(lc, e, out);
        return;
    case WH_POD_DELETE:
    case WH_POD_DELETE_NOW:
        on_delete(lc, e, now);
        return;
    case WH_POD_EVICT:
        on_evict(lc, e, now, out);
        return;
    case WH_POD_ADOPT:
        if (e->adopt == WH_ADOPT_RUNNING)
            adopt_running(lc, e, now, out);
        else
            adopt_ended(lc, e, now);
        return;
    case WH_POD_ADOPTED:
        on_adopted(lc, now);
        return;
    case WH_POD_TORN_DOWN:
        if (lc->stage == STAGE_ENDED)
            lc->stage = STAGE_TORN_DOWN;
        return;
    case WH_POD_RETRY:
        on_retry(lc, now);
        return;
    case WH_POD_TICK:
    default:
        return;
    }
}

void wh_lifecycle_step(wh_lifecycle *lc, const wh_pod_event *event, wh_time now, wh_pod_actions *actions)
{
    wh_assert(lc->magic == LIFECYCLE_MAGIC);
    wh_assert(event->container < lc->n);
    actions_clear(actions);
    now = WH_MAX(now, lc->now);
    lc->now = now;
    take_event(lc, event, now, actions);
    decide(lc, now, actions);
    fill_reasons(lc);
    if (lifecycle_show(lc, now))
        act(actions, WH_DO_STATUS, WH_POD_ITSELF);
    if (lc->stage == STAGE_TORN_DOWN && lc->deleted && !lc->adopting) {
        lc->stage = STAGE_FINISHED;
        act(actions, WH_DO_FINISHED, WH_POD_ITSELF);
    }
}

int wh_lifecycle_set_spec(wh_lifecycle *lc, const wh_pod_spec *spec, wh_err *err)
{
    if (spec->n_containers != lc->n || spec->n_init != lc->spec->n_init ||
        !wh_streq(spec->uid, lc->spec->uid))
        return wh_fail(err, -EINVAL, "pod '%s': its containers cannot change.", spec->name);
    const json_t *old = wh_json_at(lc->spec->object, "spec.volumes"),
                 *new = wh_json_at(spec->object, "spec.volumes");
    if (spec->n_volumes != lc->spec->n_volumes || (old != NULL && !json_equal(old, new)))
        return wh_fail(err, -EINVAL, "pod '%s': its volumes cannot change.", spec->name);
    for (size_t i = 0; i < lc->n; i++)
        if (strcmp(spec->containers[i].name, lc->spec->containers[i].name) != 0 ||
            spec->containers[i].role != lc->spec->containers[i].role)
            return wh_fail(err, -EINVAL, "pod '%s': container '%s' cannot change.", spec->name,
                           lc->spec->containers[i].name);
    for (size_t i = 0; i < lc->n; i++) {
        container *c = &lc->containers[i];
        if (strcmp(spec->containers[i].image, lc->spec->containers[i].image) == 0)
            continue;
        c->image = WORK_NONE;
        c->image_retry = (retry){0};
        c->renew = is_alive(c);
    }
    lc->spec = spec;
    return 0;
}
