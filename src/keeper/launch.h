/* SPDX-License-Identifier: Apache-2.0 */
/* Makes a sandboxed process: namespaces, groups, ids, limits, descriptors, exec. What is the same for all of
 * them is made once when the keeper starts: it moves into an empty network namespace, drops its bounding set,
 * which children inherit, and keeps a mount namespace that holds nothing but an empty read-only root, into
 * which each child goes. */
#pragma once

#include "base/str.h"

#include <sys/types.h>

typedef struct wh_jail {
    bool namespaces;   /* this kernel and these rights allow them */
    bool user_ns;      /* they are inside a user namespace of ours: ids are ours only */
    uid_t outer_uid;   /* who we were before */
    int mount_ns;      /* the empty root; -1 without namespaces */
    bool raised;       /* we run with a better priority than runners shall */
    int oom_score_adj; /* our own: children need not write the same */
} wh_jail;

/* Once, in a process with one thread. For lack of rights it does not fail: namespaces is false then, and the
 * sentence may say why. */
int wh_jail_init(wh_jail *jail, wh_err *err);

typedef struct wh_launch {
    uid_t uid;
    gid_t gid;
    const gid_t *groups;
    size_t n_groups;
    char *const *cgroup_procs;
    int oom_score_adj;
    uint64_t rlimit_data, nofile; /* 0: as they are */
    bool namespaces;
    const int *fds; /* become 0 .. n_fds-1 */
    size_t n_fds;
    int exec_fd;
} wh_launch;

/* Returns when the new program runs; the sentence names the step that failed. */
int wh_launch_run(const wh_jail *jail, const wh_launch *launch, pid_t *ret_pid, int *ret_pidfd, wh_err *err);
