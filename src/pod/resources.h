/* SPDX-License-Identifier: Apache-2.0 */
/* What a pod's requests and limits mean to the kernel: the kubelet's numbers. */
#pragma once

#include "keeper/cgroup.h"
#include "pod/spec.h"

typedef enum { WH_QOS_GUARANTEED, WH_QOS_BURSTABLE, WH_QOS_BEST_EFFORT } wh_qos;
wh_qos wh_pod_qos(const wh_pod_spec *spec);
const char *wh_qos_name(wh_qos qos); /* "Guaranteed", "Burstable", "BestEffort" */

/* "kubepods/burstable/pod<uid>", and a container's below it. The caller frees. */
char *wh_pod_cgroup_path(const wh_pod_spec *spec);
char *wh_container_cgroup_path(const wh_pod_spec *spec, size_t container, unsigned attempt);
/* Limits of the pod's group (0 where a container has none) and of a container's. */
wh_cgroup_limits wh_pod_cgroup_limits(const wh_pod_spec *spec);
wh_cgroup_limits wh_container_cgroup_limits(const wh_pod_spec *spec, size_t container);
/* memory_bytes: the node's capacity. */
int wh_container_oom_score_adj(const wh_pod_spec *spec, size_t container, int64_t memory_bytes);
/* What the scheduler counts: the larger of all main containers with sidecars and the greediest moment of
 * initialisation, plus overhead. For the node's own admission. */
typedef struct wh_pod_demand {
    int64_t cpu_millis, memory_bytes, ephemeral_bytes;
} wh_pod_demand;
wh_pod_demand wh_pod_demand_of(const wh_pod_spec *spec);
