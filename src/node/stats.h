/* SPDX-License-Identifier: Apache-2.0 */
/* What a node says about its use of resources: /metrics/resource and /stats/summary of the kubelet.
 * Containers that run never report zero: metrics-server drops a pod that does. */
#pragma once

#include "base/buf.h"
#include "node/node.h"

/* All registered metrics, and those of this process and node. */
int wh_stats_metrics(wh_node *node, wh_buf *out);
int wh_stats_resource(wh_node *node, wh_buf *out);
json_t *wh_stats_summary(wh_node *node, const char *node_name); /* new reference */
