/* SPDX-License-Identifier: Apache-2.0 */
/* Making, saving and loading a lifecycle. */
#include "pod/lifecycle_state.h"

#include <stdio.h>

#define SAVED_VERSION 1

/* Messages come from guests and peers and go into JSON: what is not UTF-8 becomes '?'. */
void make_utf8(char *text)
{
    size_t n = strlen(text);
    for (size_t i = 0; i < n;) {
        size_t len = wh_utf8_length(text + i, n - i);
        if (len == 0)
            text[i] = '?';
        i += len == 0 ? 1 : len;
    }
}

void set_text(char **slot, const char *text)
{
    char *copy = text == NULL ? NULL : wh_xstrdup(text);
    if (copy != NULL)
        make_utf8(copy);
    free(*slot);
    *slot = copy;
}

void set_reason(char out[40], const char *reason)
{
    if (out != reason)
        snprintf(out, 40, "%s", reason == NULL ? "" : reason);
    make_utf8(out);
}

void set_end(wh_container_end *end, unsigned attempt, const wh_pod_end *from, wh_time now)
{
    set_text(&end->message, from->message);
    end->set = true;
    end->attempt = attempt;
    end->exit_code = from->lost ? 137 : from->exit_code;
    end->signal = from->signal;
    end->started = WH_MIN(from->started, now);
    end->finished = from->finished == 0 ? now : WH_MIN(from->finished, now);
    if (from->reason != NULL)
        set_reason(end->reason, from->reason);
    else if (from->lost)
        set_reason(end->reason, "ContainerStatusUnknown");
    else
        set_reason(end->reason, from->exit_code == 0 ? "Completed" : "Error");
}

void move_end(wh_container_end *to, wh_container_end *from)
{
    free(to->message);
    *to = *from;
    *from = (wh_container_end){0};
}

wh_lifecycle *lifecycle_alloc(const wh_pod_spec *spec, wh_time now)
{
    wh_lifecycle *lc = wh_xnew(wh_lifecycle);
    lc->magic = LIFECYCLE_MAGIC;
    lc->spec = spec;
    lc->n = spec->n_containers;
    lc->containers = wh_xcalloc(lc->n, sizeof(*lc->containers));
    lc->now = now;
    return lc;
}

wh_lifecycle *wh_lifecycle_new(const wh_pod_spec *spec, wh_time now)
{
    wh_lifecycle *lc = lifecycle_alloc(spec, now);
    for (size_t i = 0; i < lc->n; i++)
        set_reason(lc->containers[i].life.reason, spec->n_init > 0 ? "PodInitializing" : "ContainerCreating");
    lifecycle_show(lc, now);
    return lc;
}

void wh_lifecycle_free(wh_lifecycle *lc)
{
    if (lc == NULL)
        return;
    wh_assert(lc->magic == LIFECYCLE_MAGIC);
    for (size_t i = 0; i < lc->n; i++) {
        wh_container_life *life = &lc->containers[i].life;
        free(life->message);
        free(life->image_id);
        free(life->end.message);
        free(life->last.message);
    }
    for (size_t i = 0; i < WH_POD_CONDITIONS_MAX; i++)
        free(lc->conditions[i].message);
    free(lc->containers);
    free(lc->message);
    lc->magic = 0;
    free(lc);
}

/* ---- saving ---- */

static void put_int(json_t *o, const char *key, int64_t value)
{
    if (value != 0)
        json_object_set_new(o, key, json_integer(value));
}

static void put_str(json_t *o, const char *key, const char *value)
{
    if (value != NULL && *value != '\0')
        json_object_set_new(o, key, wh_json_string(value));
}

static void put_retry(json_t *o, const char *key, retry r)
{
    if (r.delay != 0)
        json_object_set_new(o, key, json_pack("[I,I]", (json_int_t)r.at, (json_int_t)r.delay));
}

static void put_end(json_t *o, const char *key, const wh_container_end *end)
{
    if (!end->set)
        return;
    json_t *e = json_object();
    put_int(e, "attempt", end->attempt);
    put_int(e, "code", end->exit_code);
    put_int(e, "signal", end->signal);
    put_str(e, "reason", end->reason);
    put_str(e, "message", end->message);
    put_int(e, "started", end->started);
    put_int(e, "finished", end->finished);
    json_object_set_new(o, key, e);
}

static json_t *save_container(const wh_lifecycle *lc, size_t i)
{
    const container *c = &lc->containers[i];
    json_t *o = json_object();
    put_str(o, "name", lc->spec->containers[i].name);
    put_int(o, "state", (int64_t)c->life.state);
    put_int(o, "attempt", c->life.attempt);
    put_int(o, "pid", c->life.pid);
    put_int(o, "started", c->life.started);
    put_str(o, "reason", c->life.reason);
    put_str(o, "message", c->life.message);
    put_str(o, "image_id", c->life.image_id);
    put_end(o, "end", &c->life.end);
    put_end(o, "last", &c->life.last);
    put_int(o, "image", (int64_t)c->image);
    put_retry(o, "image_retry", c->image_retry);
    put_retry(o, "start_retry", c->start_retry);
    put_int(o, "image_failed", c->image_failed);
    put_int(o, "restart_at", c->restart_at);
    put_int(o, "restart_delay", c->restart_delay);
    put_int(o, "start_asked", c->start_asked);
    put_int(o, "stop_wanted", c->stop_wanted);
    put_int(o, "stop_sent", c->stop_sent);
    put_int(o, "ran", c->ran);
    put_int(o, "renew", c->renew);
    put_int(o, "probed_started", c->probed_started);
    put_int(o, "probed_ready", c->probed_ready);
    put_int(o, "unhealthy", c->unhealthy);
    put_int(o, "unhealthy_grace", c->unhealthy_grace_s);
    return o;
}

static json_t *save_condition(const condition *c)
{
    json_t *o = json_object();
    put_int(o, "status", c->status);
    put_str(o, "reason", c->reason);
    put_str(o, "message", c->message);
    put_int(o, "since", c->since);
    return o;
}

json_t *wh_lifecycle_save(const wh_lifecycle *lc)
{
    json_t *o = json_object(), *containers = json_array(), *conditions = json_array();
    for (size_t i = 0; i < lc->n; i++)
        json_array_append_new(containers, save_container(lc, i));
    for (size_t i = 0; i < WH_POD_CONDITIONS_MAX; i++)
        json_array_append_new(conditions, save_condition(&lc->conditions[i]));
    put_int(o, "version", SAVED_VERSION);
    put_str(o, "uid", lc->spec->uid);
    put_int(o, "now", lc->now);
    put_int(o, "stage", (int64_t)lc->stage);
    put_int(o, "cause", (int64_t)lc->cause);
    put_int(o, "phase", (int64_t)lc->phase);
    put_retry(o, "volumes_retry", lc->volumes_retry);
    put_int(o, "volumes_once", lc->volumes_once);
    put_int(o, "initialized", lc->initialized);
    put_int(o, "deleted", lc->deleted);
    put_int(o, "kill_now", lc->kill_now);
    put_str(o, "reason", lc->reason);
    put_str(o, "message", lc->message);
    put_int(o, "start_time", lc->start_time);
    put_int(o, "stop_deadline", lc->stop_deadline);
    json_object_set_new(o, "containers", containers);
    json_object_set_new(o, "conditions", conditions);
    return o;
}

/* ---- loading ---- */

/* Times of the saved state are moved back by how far the clock was set back since; normally 0. */
typedef struct loading {
    wh_time now, shift;
} loading;

static wh_time get_time(const loading *l, const json_t *o, const char *key)
{
    wh_time t = wh_json_int(o, key, 0);
    return t == 0 || t == WH_TIME_NEVER ? t : t - l->shift;
}

static wh_time get_past(const loading *l, const json_t *o, const char *key)
{
    return WH_MIN(get_time(l, o, key), l->now);
}

static retry get_retry(const loading *l, const json_t *o, const char *key, wh_time max)
{
    const json_t *pair = json_object_get(o, key);
    retry r = {.at = json_integer_value(json_array_get(pair, 0)),
               .delay = json_integer_value(json_array_get(pair, 1))};
    r.delay = WH_MAX(WH_MIN(r.delay, max), (wh_time)0);
    r.at = r.at == 0 ? 0 : WH_MIN(r.at - l->shift, l->now + max);
    return r;
}

static void get_end(const loading *l, const json_t *o, const char *key, wh_container_end *end)
{
    const json_t *e = json_object_get(o, key);
    if (!json_is_object(e))
        return;
    end->set = true;
    end->attempt = (unsigned)wh_json_int(e, "attempt", 0);
    end->exit_code = (int)wh_json_int(e, "code", 0);
    end->signal = (int)wh_json_int(e, "signal", 0);
    end->started = get_past(l, e, "started");
    end->finished = get_past(l, e, "finished");
    set_reason(end->reason, wh_json_str(e, "reason"));
    set_text(&end->message, wh_json_str(e, "message"));
}

static int get_enum(const json_t *o, const char *key, int max)
{
    int64_t value = wh_json_int(o, key, 0);
    return value < 0 || value > max ? -1 : (int)value;
}

static int load_container(const loading *l, const json_t *o, container *c, wh_err *err)
{
    int state = get_enum(o, "state", WH_CONTAINER_ENDED), image = get_enum(o, "image", WORK_FAILED);
    if (state < 0 || image < 0)
        return wh_fail(err, -EBADMSG, "saved state of a container is out of range.");
    c->life.state = (wh_container_state)state;
    c->life.attempt = (unsigned)wh_json_int(o, "attempt", 0);
    c->life.pid = (pid_t)wh_json_int(o, "pid", 0);
    c->life.started = get_past(l, o, "started");
    set_reason(c->life.reason, wh_json_str(o, "reason"));
    set_text(&c->life.message, wh_json_str(o, "message"));
    set_text(&c->life.image_id, wh_json_str(o, "image_id"));
    get_end(l, o, "end", &c->life.end);
    get_end(l, o, "last", &c->life.last);
    /* The agent that had the image in its hands is gone: whatever starts asks for it again. */
    c->image = image == WORK_FAILED ? WORK_FAILED : WORK_NONE;
    c->image_retry = get_retry(l, o, "image_retry", IMAGE_DELAY_MAX);
    c->start_retry = get_retry(l, o, "start_retry", START_DELAY_MAX);
    c->image_failed = get_past(l, o, "image_failed");
    c->stop_wanted = get_past(l, o, "stop_wanted"); /* the request itself is sent again */
    c->restart_at = WH_MIN(get_time(l, o, "restart_at"), l->now + RESTART_DELAY_MAX);
    c->restart_delay = WH_MIN(wh_json_int(o, "restart_delay", 0), RESTART_DELAY_MAX);
    c->start_asked = get_past(l, o, "start_asked");
    c->ran = wh_json_int(o, "ran", 0) != 0;
    c->renew = wh_json_int(o, "renew", 0) != 0;
    c->probed_started = wh_json_int(o, "probed_started", 0) != 0;
    c->probed_ready = wh_json_int(o, "probed_ready", 0) != 0;
    c->unhealthy = wh_json_int(o, "unhealthy", 0) != 0;
    c->unhealthy_grace_s = WH_MAX(wh_json_int(o, "unhealthy_grace", 0), (int64_t)0);
    return 0;
}

static int load_pod(const loading *l, const json_t *o, wh_lifecycle *lc, wh_err *err)
{
    int stage_ = get_enum(o, "stage", STAGE_FINISHED), cause_ = get_enum(o, "cause", CAUSE_REJECT);
    int phase = get_enum(o, "phase", WH_PHASE_FAILED);
    if (stage_ < 0 || cause_ < 0 || phase < 0)
        return wh_fail(err, -EBADMSG, "saved state of a pod is out of range.");
    lc->stage = (stage)stage_;
    lc->cause = (cause)cause_;
    lc->phase = (wh_pod_phase)phase;
    lc->volumes_retry = get_retry(l, o, "volumes_retry", MOUNT_DELAY_MAX);
    lc->volumes_once = wh_json_int(o, "volumes_once", 0) != 0;
    lc->initialized = wh_json_int(o, "initialized", 0) != 0;
    lc->deleted = wh_json_int(o, "deleted", 0) != 0;
    lc->kill_now = wh_json_int(o, "kill_now", 0) != 0;
    set_reason(lc->reason, wh_json_str(o, "reason"));
    set_text(&lc->message, wh_json_str(o, "message"));
    lc->start_time = get_past(l, o, "start_time");
    lc->stop_deadline = get_time(l, o, "stop_deadline");
    for (size_t i = 0; i < WH_POD_CONDITIONS_MAX; i++) {
        const json_t *saved = json_array_get(json_object_get(o, "conditions"), i);
        condition *c = &lc->conditions[i];
        c->status = wh_json_int(saved, "status", 0) != 0;
        c->since = get_past(l, saved, "since");
        set_reason(c->reason, wh_json_str(saved, "reason"));
        set_text(&c->message, wh_json_str(saved, "message"));
    }
    return 0;
}

int wh_lifecycle_load(const wh_pod_spec *spec, const json_t *saved, wh_time now, wh_lifecycle **ret,
                      wh_err *err)
{
    const json_t *containers = json_object_get(saved, "containers");
    wh_time then = wh_json_int(saved, "now", 0);
    loading l = {.now = now, .shift = then > now ? then - now : 0};
    if (wh_json_int(saved, "version", 0) != SAVED_VERSION)
        return wh_fail(err, -EBADMSG, "saved state of pod '%s' is of another version.", spec->name);
    if (json_array_size(containers) != spec->n_containers || !wh_streq(wh_json_str(saved, "uid"), spec->uid))
        return wh_fail(err, -EBADMSG, "saved state of pod '%s' is of another pod.", spec->name);
    auto_lifecycle wh_lifecycle *lc = lifecycle_alloc(spec, now);
    int rc = load_pod(&l, saved, lc, err);
    for (size_t i = 0; rc == 0 && i < lc->n; i++) {
        const json_t *o = json_array_get(containers, i);
        if (!wh_streq(wh_json_str(o, "name"), spec->containers[i].name))
            return wh_fail(err, -EBADMSG, "saved state of pod '%s' is of other containers.", spec->name);
        rc = load_container(&l, o, &lc->containers[i], err);
    }
    if (rc < 0)
        return rc;
    lc->adopting = lc->stage != STAGE_FINISHED;
    lifecycle_show(lc, now);
    *ret = WH_TAKE(lc);
    return 0;
}
