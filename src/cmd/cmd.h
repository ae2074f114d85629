/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs of the command line, one file each. Each prints its own errors and returns an exit code. */
#pragma once

#include "base/options.h"

/* Prints "wherry: <sentence>" and is 1 (or `code`). */
int wh_cmd_fail(const wh_err *err);
int wh_cmd_usage(const char *fmt, ...) WH_PRINTF(1, 2); /* the same for wrong usage; 2 */

/* Where a verb finds state and sockets: common options of all verbs. */
typedef struct wh_cmd_dirs {
    const char *root; /* --root: state */
    const char *run;  /* --run: sockets */
} wh_cmd_dirs;
extern wh_cmd_dirs wh_cmd_dirs_given;
#define WH_CMD_DIR_OPTIONS                                             \
    {"root",     0,                                                    \
     WH_OPT_STR, &wh_cmd_dirs_given.root,                              \
     "DIR",      "Keep state there instead of in the default folder"}, \
    {                                                                  \
        "run-dir", 0, WH_OPT_STR, &wh_cmd_dirs_given.run, "DIR",       \
            "Keep sockets there instead of in the default folder"      \
    }

extern const wh_verb wh_cmd_run, wh_cmd_node, wh_cmd_ps, wh_cmd_logs, wh_cmd_describe, wh_cmd_stop,
    wh_cmd_top, wh_cmd_doctor, wh_cmd_image_pull, wh_cmd_image_push, wh_cmd_image_inspect, wh_cmd_image_ls,
    wh_cmd_image_rm, wh_cmd_image_compile, wh_cmd_image_gc;

/* `wherry run` of a manifest; see run_pods.c. */
typedef struct wh_run_pods_options {
    const char *manifest;
    bool keep, quiet, summary;
    int64_t timeout_ns;
} wh_run_pods_options;
int wh_run_pods(const wh_run_pods_options *options);
