/* SPDX-License-Identifier: Apache-2.0 */
#include "pod/probe.h"

#include <string.h>

const char *wh_probe_name(wh_probe_kind kind)
{
    static const char *const names[WH_PROBE_KINDS] = {"Startup", "Liveness", "Readiness"};
    return names[kind];
}

static bool has(const wh_probes *p, wh_probe_kind kind)
{
    return p->specs != NULL && p->specs[kind].action != WH_PROBE_NONE;
}

void wh_probes_begin(wh_probes *p, const wh_probe_spec *specs, bool rests, bool started, bool ready,
                     wh_time began, wh_time now)
{
    memset(p, 0, sizeof(*p));
    p->specs = specs;
    p->rests = rests;
    p->began = began;
    for (int kind = 0; kind < WH_PROBE_KINDS; kind++)
        p->each[kind].next = WH_MAX(began + specs[kind].initial_delay, now);
    p->each[WH_PROBE_STARTUP].good = started || !has(p, WH_PROBE_STARTUP);
    p->each[WH_PROBE_STARTUP].over = p->each[WH_PROBE_STARTUP].good;
    p->each[WH_PROBE_LIVENESS].good = true;
    p->each[WH_PROBE_READINESS].good = ready || !has(p, WH_PROBE_READINESS);
    p->each[WH_PROBE_READINESS].over = ready && rests;
}

void wh_probes_end(wh_probes *p)
{
    p->specs = NULL;
}

int wh_probes_due(wh_probes *p, wh_time now, wh_time *ret_next)
{
    *ret_next = WH_TIME_NEVER;
    for (int kind = 0; kind < WH_PROBE_KINDS; kind++) {
        if (!has(p, (wh_probe_kind)kind) || p->each[kind].under_way || p->each[kind].over)
            continue;
        if (kind != WH_PROBE_STARTUP && !p->each[WH_PROBE_STARTUP].good)
            continue; /* begins with the startup probe's success */
        if (p->each[kind].next <= now) {
            p->each[kind].under_way = true;
            return kind;
        }
        *ret_next = WH_MIN(*ret_next, p->each[kind].next);
    }
    return -1;
}

wh_probe_outcome wh_probes_result(wh_probes *p, wh_probe_kind kind, bool success, wh_time now)
{
    wh_probe_outcome out = {.good = p->each[kind].good};
    if (p->specs == NULL || p->each[kind].over)
        return out;
    const wh_probe_spec *spec = &p->specs[kind];
    p->each[kind].under_way = false;
    wh_time next = p->each[kind].next + spec->period;
    p->each[kind].next = next > now ? next : now + spec->period; /* what was missed is not made up for */
    p->each[kind].successes = success ? p->each[kind].successes + 1 : 0;
    p->each[kind].failures = success ? 0 : p->each[kind].failures + 1;
    if (p->each[kind].successes < spec->successes && p->each[kind].failures < spec->failures)
        return out;
    out.changed = p->each[kind].good != success;
    out.good = p->each[kind].good = success;
    if (success && (kind == WH_PROBE_STARTUP || p->rests))
        p->each[kind].over = true;
    if (success &&
        kind == WH_PROBE_STARTUP) { /* the others are due at once, as far as their own delay allows */
        p->each[WH_PROBE_LIVENESS].next = WH_MAX(p->began + p->specs[WH_PROBE_LIVENESS].initial_delay, now);
        p->each[WH_PROBE_READINESS].next = WH_MAX(p->began + p->specs[WH_PROBE_READINESS].initial_delay, now);
    }
    out.restart = !success && kind != WH_PROBE_READINESS;
    if (out.restart)
        p->specs = NULL; /* the next run begins anew */
    return out;
}
