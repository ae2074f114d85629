/* SPDX-License-Identifier: Apache-2.0 */
/* Control groups of either hierarchy, chosen per controller when the agent starts. The root can be an
 * ordinary folder with proc/self/mountinfo, proc/self/cgroup and the mounts that they name (tests). Layout
 * and numbers: the kubelet's (kubepods/burstable/pod<uid>/<container>). */
#pragma once

#include "base/str.h"

typedef struct wh_cgroups wh_cgroups; /* the node's view */
typedef struct wh_cgroup wh_cgroup;   /* one group in every hierarchy that we use */

typedef struct wh_cgroup_limits {
    uint64_t memory_max;  /* bytes; 0: none */
    uint64_t cpu_shares;  /* as in v1, 2..262144; 0: default */
    int64_t cpu_quota_us; /* per 100 ms; 0: none */
    uint64_t pids_max;    /* 0: none */
} wh_cgroup_limits;

typedef struct wh_cgroup_usage {
    uint64_t cpu_ns, memory_bytes, working_set_bytes, kernel_bytes, oom_kills, pids;
} wh_cgroup_usage;

/* `root` is NULL for the machine's own mounts. `parent` is the group below which everything is made: "wherry"
 * below our own group, "/kubepods" below the mount. On v2 the processes of our own group move to its child
 * "agent" when they are in the way. A machine without any usable controller is fine: `missing` says so. */
int wh_cgroups_open(const char *root, const char *parent, wh_cgroups **ret, wh_err *err);
void wh_cgroups_free(wh_cgroups *cgroups);
const char *
wh_cgroups_describe(const wh_cgroups *cgroups); /* "v2: memory cpu pids" or "v1: ..."; for doctor and logs */
bool wh_cgroups_has(const wh_cgroups *cgroups, const char *controller);

/* `path` has no leading slash and no name that begins with a dot. A group that exists is taken over; limits
 * that are 0 stay as they are. wh_cgroup_set lifts those. */
int wh_cgroup_make(wh_cgroups *cgroups, const char *path, const wh_cgroup_limits *limits, wh_cgroup **ret,
                   wh_err *err);
int wh_cgroup_set(wh_cgroup *group, const wh_cgroup_limits *limits, wh_err *err);
char *const *wh_cgroup_procs(const wh_cgroup *group); /* files for wh_keeper_start.cgroup_procs */
/* How to make the group again as it is now, for whoever has no table of controllers (wh_keeper_start): folders in their
 * order, and "FILE\nVALUE". Both are added to. */
void wh_cgroup_recipe(const wh_cgroup *group, wh_strv *dirs, wh_strv *settings);
int wh_cgroup_usage_get(const wh_cgroup *group, wh_cgroup_usage *ret, wh_err *err);
int wh_cgroup_kill(wh_cgroup *group, wh_err *err);
int wh_cgroup_remove(wh_cgroup *group, wh_err *err); /* the folders; -EBUSY while a process is in it */
void wh_cgroup_free(wh_cgroup *group);               /* the object only */
/* Groups that exist below `path` (for taking over after a restart): names, the caller's to free. */
int wh_cgroups_children(wh_cgroups *cgroups, const char *path, wh_strv *ret, wh_err *err);
