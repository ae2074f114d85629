/* SPDX-License-Identifier: Apache-2.0 */
/* How a runner ends, from wherever it is: stop requests, the deadline, and messages on the control socket
 * arrive as signals, also inside a guest's endless loop. The handlers write the end record themselves and
 * leave. State is one per process, since handlers have no other. */
#pragma once

#include "abi/wasi/wasi.h"
#include "runner/runlog.h"
#include "runner/spec.h"

/* Installs the handlers and unblocks their signals: whoever starts a runner in a pid namespace blocks them
 * until here, since the kernel drops what such a process does not handle. */
int wh_stop_init(wh_err *err);
/* What the spec says. The log is NULL where lines go to descriptors 1 and 2. */
void wh_stop_setup(const wh_runspec *spec, wh_runlog *log);
/* From here on a stop request goes to a guest that claimed its stop descriptor: "TERM\n" and the end on
 * `pipe_fd`. */
void wh_stop_guest(const wh_wasi *wasi, int pipe_fd);
/* The deadline counts from here. */
int wh_stop_deadline(wh_time deadline, wh_err *err);
/* Notes the time of the guest's first instruction and says it on the control socket. */
void wh_stop_running(const char *weaker);

/* What serves: from here on stop requests and messages become bytes on `pipe_fd` (the signal's number; SIGUSR1: a
 * message waits), for its loop. */
void wh_stop_serving(int pipe_fd);
/* Reads the messages that wait. True when one asked to drain. The log must not be written meanwhile. */
bool wh_stop_messages(wh_time *ret_grace, int *ret_netd_fd);
/* Says op=idle and ends the process with code 0, without an end record: the container goes on without it. */
__attribute__((noreturn)) void wh_stop_idle(void);

/* The guest's writes to its log, in a section that the handlers respect (a wh_wasi_write_fn). */
int wh_stop_log_write(void *user, int stream, const void *data, size_t n);

/* Flushes the log, writes the end record and ends the process with its exit code. */
__attribute__((noreturn)) void wh_stop_end(int exit_code, const char *reason, const char *message,
                                           uint64_t memory_bytes);
