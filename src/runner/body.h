/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of a runner program share. */
#pragma once

#include "engine/engine.h"
#include "runner/sandbox.h"
#include "runner/stop.h"

typedef struct wh_runner {
    wh_runspec *spec;
    wh_sandbox box;
    wh_runlog *log; /* NULL: plain bytes to descriptors 1 and 2 */
} wh_runner;

/* main.c */
/* Tells the person who reads the container's log; the agent reads the end record. */
void wh_runner_say(const wh_runner *r, const char *what, const char *message);
__attribute__((noreturn)) void wh_runner_fail(const wh_runner *r, const wh_err *err); /* it never ran */
__attribute__((noreturn)) void wh_runner_end(const wh_runner *r, const wh_outcome *outcome, uint64_t memory);

/* core.c, or component.c: from the first lock to the end. */
extern const bool wh_runner_takes_components;
__attribute__((noreturn)) void wh_runner_body(wh_runner *r);
