/* SPDX-License-Identifier: Apache-2.0 */
/* Steps a lifecycle by hand: every step notes its actions as one line of text. */
#pragma once

#include "pod/lifecycle.h"
#include "pods.h"

#include <stdio.h>

#define T0 (1700000000 * WH_SEC)

typedef struct drive {
    wh_pod_spec *spec;
    wh_lifecycle *lc;
    wh_pod_actions actions;
    wh_time now;
    char did[2048];  /* actions of the last step, without STATUS and EVENT: "pull 0, start 0.1" */
    char said[2048]; /* its events: "BackOff!, Started" (! is a warning) */
    bool status;
} drive;

static inline void append(char *out, size_t size, const char *fmt, ...) WH_PRINTF(3, 4);
static inline void append(char *out, size_t size, const char *fmt, ...)
{
    size_t used = strlen(out);
    va_list args;
    if (used > 0)
        used += (size_t)snprintf(out + used, size - used, ", ");
    va_start(args, fmt);
    vsnprintf(out + used, size - used, fmt, args);
    va_end(args);
}

static inline void note_action(drive *d, const wh_pod_action *a)
{
    static const char *const names[] = {"mount",    "pull",   "start", "stop",    "kill",
                                        "teardown", "status", "event", "finished"};
    if (a->type == WH_DO_STATUS)
        d->status = true;
    else if (a->type == WH_DO_EVENT)
        append(d->said, sizeof(d->said), "%s%s", a->reason, a->warning ? "!" : "");
    else if (a->type == WH_DO_PULL)
        append(d->did, sizeof(d->did), "pull %zu", a->container);
    else if (a->type == WH_DO_START || a->type == WH_DO_STOP || a->type == WH_DO_KILL)
        append(d->did, sizeof(d->did), "%s %zu.%u", names[a->type], a->container, a->attempt);
    else
        append(d->did, sizeof(d->did), "%s", names[a->type]);
}

static inline const char *step(drive *d, wh_pod_event e)
{
    d->did[0] = d->said[0] = '\0';
    d->status = false;
    wh_lifecycle_step(d->lc, &e, d->now, &d->actions);
    for (size_t i = 0; i < d->actions.n; i++)
        note_action(d, &d->actions.list[i]);
    return d->did;
}

static inline WH_UNUSED const char *tick_at(drive *d, wh_time now)
{
    d->now = now;
    return step(d, (wh_pod_event){.type = WH_POD_TICK});
}

static inline WH_UNUSED const char *simple(drive *d, wh_pod_event_type type)
{
    return step(d, (wh_pod_event){.type = type});
}

static inline WH_UNUSED const char *image(drive *d, size_t i)
{
    return step(d, (wh_pod_event){.type = WH_POD_IMAGE_READY, .container = i, .image_id = "a/b@sha256:00"});
}

static inline WH_UNUSED void started(drive *d, size_t i, unsigned attempt)
{
    step(d,
         (wh_pod_event){.type = WH_POD_STARTED, .container = i, .attempt = attempt, .pid = 100 + (pid_t)i});
}

/* The runner exists and the guest runs; what the second step did. */
static inline WH_UNUSED const char *runs(drive *d, size_t i, unsigned attempt)
{
    started(d, i, attempt);
    return step(
        d, (wh_pod_event){.type = WH_POD_RUNNING, .container = i, .attempt = attempt, .started = d->now});
}

static inline WH_UNUSED const char *exits(drive *d, size_t i, unsigned attempt, int code)
{
    const wh_container_life *life = wh_lifecycle_container(d->lc, i);
    return step(d, (wh_pod_event){.type = WH_POD_EXITED,
                                  .container = i,
                                  .attempt = attempt,
                                  .end = {.exit_code = code, .started = life->started, .finished = d->now}});
}

static inline WH_UNUSED void begin(drive *d, const char *rest)
{
    d->spec = pod(rest);
    d->now = T0;
    d->lc = wh_lifecycle_new(d->spec, d->now);
    simple(d, WH_POD_ADMITTED);
}

static inline void drive_done(drive *d)
{
    wh_pod_actions_done(&d->actions);
    wh_lifecycle_free(d->lc);
    wh_pod_spec_free(d->spec);
}
#define auto_drive __attribute__((cleanup(drive_done)))

/* Dies and comes back: state through text, nothing adopted yet. */
static inline WH_UNUSED void reborn(drive *d)
{
    wh_err err = {0};
    auto_json json_t *saved = wh_lifecycle_save(d->lc), *loaded = NULL;
    auto_free char *text = wh_json_dump(saved);
    CHECK_OK(wh_json_parse(text, strlen(text), &loaded, &err), &err);
    wh_lifecycle_free(d->lc);
    d->lc = NULL;
    CHECK_OK(wh_lifecycle_load(d->spec, loaded, d->now, &d->lc, &err), &err);
    CHECK(wh_lifecycle_adopting(d->lc));
}

#define ONE(policy) "spec:\n  restartPolicy: " policy "\n  containers:\n  - {name: c, image: 'a/b:1'}\n"

static inline WH_UNUSED void begin_running(drive *d, const char *rest)
{
    begin(d, rest);
    simple(d, WH_POD_VOLUMES_READY);
    CHECK_STR(image(d, 0), "start 0.0");
    runs(d, 0, 0);
}

static inline WH_UNUSED const wh_container_life *life(const drive *d, size_t i)
{
    return wh_lifecycle_container(d->lc, i);
}

static inline WH_UNUSED wh_pod_condition condition(const drive *d, const char *type)
{
    wh_pod_condition all[WH_POD_CONDITIONS_MAX];
    size_t n = wh_lifecycle_conditions(d->lc, all);
    for (size_t i = 0; i < n; i++)
        if (strcmp(all[i].type, type) == 0)
            return all[i];
    return (wh_pod_condition){0};
}
