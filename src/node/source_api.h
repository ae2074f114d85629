/* SPDX-License-Identifier: Apache-2.0 */
/* The API server as a source of pods: watches those bound to this node, writes their status, deletes what has
 * ended, asks for tokens, and knows the Services. */
#pragma once

#include "kube/client.h"
#include "kube/events.h"
#include "node/node.h"

typedef struct wh_source_api wh_source_api;
int wh_source_api_start(wh_loop *loop, wh_node *node, wh_kube *kube, wh_events *events, const char *node_name,
                        wh_source_api **ret, wh_err *err);
void wh_source_api_free(wh_source_api *api); /* pods stay */
bool wh_source_api_synced(const wh_source_api *api);
