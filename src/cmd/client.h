/* SPDX-License-Identifier: Apache-2.0 */
/* Talks to the agent's local API. */
#pragma once

#include "base/json.h"

/* One call; *ret_body is the answer's JSON (new reference). -ENOENT when no agent is there, with the way out;
 * other failures carry the agent's own sentence. */
int wh_client_call(const char *method, const char *path, json_t **ret_body, wh_err *err);
/* Streams an answer to standard output until it ends or the user interrupts. */
int wh_client_stream(const char *path, wh_err *err);
/* "NAME" or "NAMESPACE/NAME" to "/v1/pods/NAMESPACE/NAME<suffix>"; the caller's to free. */
char *wh_client_pod_path(const char *pod, const char *suffix);
