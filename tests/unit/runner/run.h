/* SPDX-License-Identifier: Apache-2.0 */
/* Starts the real runner on the test guest, as a foreground command or with a log file. */
#pragma once

#include "harness.h"

#include "base/file.h"
#include "runner/spec.h"

#include <sys/types.h>

typedef struct run {
    char dir[64]; /* a fresh folder: log, end, out */
    pid_t pid;
    wh_runspec spec; /* fill in before run_start; the descriptors are set there */
    int control;     /* our end */
    bool log_file;   /* CRI log to dir/log, else plain bytes to dir/out */
    bool no_sandbox;
    const char *code; /* NULL: the test guest */
    int status;
    wh_end_record end;
} run;

/* Skips the test where there is no guest or no engine. `verb` and what follows become the arguments, ended by
 * NULL. */
void run_init(run *r, ...) __attribute__((sentinel));
/* Preopens a host folder. */
void run_dir(run *r, const char *host, const char *guest, bool read_only);
void run_start(run *r);
/* Waits for "op=running" on the control socket. */
void run_wait_running(run *r);
/* Waits for the process and reads the end record (-ENODATA when there is none: all zero then). */
void run_wait(run *r);
char *run_output(const run *r); /* of dir/out or dir/log; the caller's to free */
void run_done(run *r);
/* What setuid does for `run_start`: the runner gives up root first. */
void run_as(run *r, uid_t uid);
