/* SPDX-License-Identifier: Apache-2.0 */
/* Where things lie: state, run time, logs, and the programs beside ours. */
#pragma once

#include "base/err.h"

/* The runner's builds. */
enum { WH_RUNNER_CORE, WH_RUNNER_CORE_TLS, WH_RUNNER_COMPONENT, WH_RUNNER_COMPONENT_TLS, WH_RUNNERS };

typedef struct wh_paths {
    char *state;                     /* /var/lib/wherry: database, volumes */
    char *images;                    /* /var/lib/wherry/images: the store */
    char *run;                       /* /run/wherry: sockets, what a reboot may forget */
    char *logs;                      /* /var/log/pods */
    char *keeper, *runner, *prepare; /* programs */
    char *runners[WH_RUNNERS];       /* runner is the first; NULL: this installation has none */
    char *netd;                      /* NULL: none */
} wh_paths;

/* NULL takes the default: of the system for root, below XDG_DATA_HOME and XDG_RUNTIME_DIR for others. Makes
 * the folders. -ENOENT names a program that is not found, and where it was looked for. */
int wh_paths_init(wh_paths *paths, const char *state, const char *run, const char *logs, wh_err *err);
void wh_paths_done(wh_paths *paths);
