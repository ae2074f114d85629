/* SPDX-License-Identifier: Apache-2.0 */
/* The local API: HTTP on a unix socket (mode 0600), for the command line and for scripts:
 *
 *   GET    /healthz                              200 "ok"
 *   GET    /metrics                              text exposition
 *   GET    /v1/pods                              {"items": [{"pod": v1.Pod, "source", "usage"}]}
 *   GET    /v1/pods/NS/NAME                      {"pod", "source", "usage", "events"}
 *   GET    /v1/pods/NS/NAME/logs/CONTAINER       parameters of log_stream.h
 *   DELETE /v1/pods/NS/NAME?grace=SECONDS        202; pods of the API server are refused: 409
 *
 * Errors are {"error": sentence}. */
#pragma once

#include "node/node.h"

typedef struct wh_local_api wh_local_api;
int wh_local_api_start(wh_loop *loop, wh_node *node, const char *socket_path, wh_local_api **ret,
                       wh_err *err);
void wh_local_api_free(wh_local_api *api);
