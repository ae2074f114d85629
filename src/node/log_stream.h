/* SPDX-License-Identifier: Apache-2.0 */
/* A container's log as the answer to a request, with the kubelet's parameters: follow, previous, timestamps,
 * sinceSeconds, sinceTime, tailLines, limitBytes, stream. */
#pragma once

#include "http/server.h"
#include "node/node.h"

/* Answers the exchange, now or over time. */
void wh_log_stream(wh_loop *loop, wh_node *node, wh_http_exchange *x, const char *ns, const char *pod,
                   const char *container);
