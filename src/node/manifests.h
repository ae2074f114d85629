/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests as a source of pods: what each origin (a file) says is made so; its Jobs are worked off without a
 * controller manager. Serves the manifest folder of an agent and `wherry run`. */
#pragma once

#include "node/node.h"
#include "pod/manifest.h"

typedef struct wh_manifests wh_manifests;

/* source: "dir" or "run". changed (may be NULL) runs after something may have ended. */
wh_manifests *wh_manifests_new(wh_loop *loop, wh_node *node, const char *source, void (*changed)(void *user),
                               void *user);
void wh_manifests_free(wh_manifests *m); /* pods stay */

/* What `origin` says now; takes the manifest over, also on failure. Pods that it said before and does not any
 * more are deleted; a pod whose content changed is deleted and made anew when the old one is gone. The first
 * refusal is the result; everything else is applied all the same. */
int wh_manifests_apply(wh_manifests *m, const char *origin, wh_manifest *manifest, wh_err *err);
void wh_manifests_remove(wh_manifests *m, const char *origin);
void wh_manifests_drop_jobs(wh_manifests *m); /* no pod is made any more; those there are stay */
/* To be called from the source's observer. */
void wh_manifests_pod_changed(wh_manifests *m, wh_worker *w);
void wh_manifests_pod_gone(wh_manifests *m, wh_worker *w);

/* True when every pod and job has ended (and nothing waits). *ret_failed counts those that did not succeed.
 */
bool wh_manifests_ended(const wh_manifests *m, size_t *ret_failed);
