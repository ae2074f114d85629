/* SPDX-License-Identifier: Apache-2.0 */
/* v1.PodStatus from a lifecycle. */
#pragma once

#include "pod/lifecycle.h"

/* The status object alone. `facts` may be NULL. New reference. */
json_t *wh_status_build(const wh_lifecycle *lc, const wh_pod_facts *facts);
/* Body of PATCH .../pods/<name>/status, application/strategic-merge-patch+json: metadata.uid and the status.
 * Addresses that differ from those in the pod's own object are replaced (they would merge). New reference. */
json_t *wh_status_patch(const wh_lifecycle *lc, const wh_pod_facts *facts);
/* The whole pod with its status, as `get -o json` shows it; managed fields left out. New reference. */
json_t *wh_status_pod(const wh_lifecycle *lc, const wh_pod_facts *facts);
/* The same body for a pod that could not even be parsed: phase Failed with reason and message. `object` is
 * what came. */
json_t *wh_status_patch_rejected(const json_t *object, const char *reason, const char *message, wh_time now);
