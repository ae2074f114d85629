/* SPDX-License-Identifier: Apache-2.0 */
/* What an agent must remember: its pods, with the state of their life cycles. One SQLite file in WAL mode;
 * everyone may read it with sqlite3. Writes are durable after wh_nodedb_commit. */
#pragma once

#include "base/json.h"

typedef struct wh_nodedb wh_nodedb;

typedef struct wh_nodedb_pod {
    const char *uid, *source; /* "api", "dir", "run" */
    const char *origin;       /* of dir: the file's path; else "" */
    json_t *object;           /* v1.Pod as it came */
    json_t *state;            /* wh_lifecycle_save, with the worker's own */
} wh_nodedb_pod;

int wh_nodedb_open(const char *dir, wh_nodedb **ret, wh_err *err);
void wh_nodedb_close(wh_nodedb *db);
int wh_nodedb_pod_put(wh_nodedb *db, const wh_nodedb_pod *pod, wh_err *err);
int wh_nodedb_pod_state(wh_nodedb *db, const char *uid, const json_t *state, wh_err *err);
int wh_nodedb_pod_forget(wh_nodedb *db, const char *uid, wh_err *err);
/* Calls `each` for every pod, in the order in which they came. */
int wh_nodedb_pods(wh_nodedb *db, int (*each)(void *user, const wh_nodedb_pod *pod), void *user, wh_err *err);
/* Writes gather in one transaction, which this makes durable; nothing to do is fine. */
int wh_nodedb_commit(wh_nodedb *db, wh_err *err);
