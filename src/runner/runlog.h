/* SPDX-License-Identifier: Apache-2.0 */
/* A container's log file in the CRI format, written by the runner itself: `<RFC 3339> stdout|stderr F|P
 * <text>`. Lines of the two streams are gathered apart; what is longer than 16 KiB goes out in pieces tagged
 * P. Kubernetes KEP-1864 and containerd's internal/cri/io/logger.go. */
#pragma once

#include "base/clock.h"

#define WH_RUNLOG_LINE_MAX (16UL * 1024) /* of one piece, as containerd has it */

typedef struct wh_runlog wh_runlog; /* one per process */

/* `fd` is taken over: opened O_APPEND, one writer. */
wh_runlog *wh_runlog_new(int fd);
/* Takes all bytes (a wh_wasi_write_fn): whole lines are in the file on return. `stream` is 1 or 2. Returns n,
 * or a negative errno when the file takes no more (the text is lost then, and the next line begins a new
 * one). */
int wh_runlog_write(void *log, int stream, const void *data, size_t n);
/* Puts out what waits for the end of its line, tagged P. Safe in a signal handler that did not interrupt a
 * write. */
void wh_runlog_flush(wh_runlog *log);
/* Later lines go to `fd`, which is taken over. Safe in the same handlers. */
void wh_runlog_swap(wh_runlog *log, int fd);
