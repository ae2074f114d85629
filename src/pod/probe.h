/* SPDX-License-Identifier: Apache-2.0 */
/* Probes: what a pod asks for, and when one is due and what its results mean, as a pure state machine (the kubelet's
 * prober/worker.go). No clock, no I/O: the driver runs a probe that is due and says how it went. */
#pragma once

#include "base/clock.h"

#include <jansson.h>

typedef enum { WH_PROBE_STARTUP, WH_PROBE_LIVENESS, WH_PROBE_READINESS } wh_probe_kind;
#define WH_PROBE_KINDS 3
const char *wh_probe_name(wh_probe_kind kind); /* "Startup", "Liveness", "Readiness" */

typedef enum {
    WH_PROBE_NONE,
    WH_PROBE_HTTP,
    WH_PROBE_TCP,
} wh_probe_action;

typedef struct wh_probe_spec {
    wh_probe_action action; /* NONE: there is no such probe, or one that is not acted on (a remark says so) */
    bool https;
    const char *host, *path; /* host NULL: the pod's own address; path begins with '/' */
    uint16_t port;
    const json_t *headers; /* [{name, value}], checked; or NULL */
    wh_time initial_delay, period, timeout;
    unsigned successes, failures; /* thresholds */
    int64_t grace_s;              /* of the restart; -1: the pod's */
} wh_probe_spec;

/* The probes of one run of a container. */
typedef struct wh_probes {
    const wh_probe_spec *specs; /* WH_PROBE_KINDS of them; NULL: nothing runs */
    bool rests; /* it may go dormant: probing ends with the first success, or it never rested */
    wh_time began;
    struct {
        wh_time next;
        unsigned successes, failures; /* in a row */
        bool under_way, good, over;
    } each[WH_PROBE_KINDS];
} wh_probes;

typedef struct wh_probe_outcome {
    bool changed; /* `good` did */
    bool good;    /* started; alive; ready */
    bool restart; /* startup or liveness failed for good: the container is to be started again */
} wh_probe_outcome;

/* A run began. `started` and `ready`: what an earlier agent had found out. */
void wh_probes_begin(wh_probes *probes, const wh_probe_spec *specs, bool rests, bool started, bool ready,
                     wh_time began, wh_time now);
void wh_probes_end(wh_probes *probes);
/* The next one that is due at `now` and not under way, which it is then: its kind, or -1 and the time to ask again. */
int wh_probes_due(wh_probes *probes, wh_time now, wh_time *ret_next);
wh_probe_outcome wh_probes_result(wh_probes *probes, wh_probe_kind kind, bool success, wh_time now);
