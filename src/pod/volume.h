/* SPDX-License-Identifier: Apache-2.0 */
/* The volumes of one pod on disk. Everything lies below <root>/<uid>: volumes/<name>, secret/ (one tmpfs for
 * all that is secret), termination/<container>. Functions block on local disk only; call them from the job
 * pool, one at a time for a pod. */
#pragma once

#include "pod/spec.h"

typedef struct wh_volumes wh_volumes;

typedef struct wh_volumes_config {
    const char *root;            /* "/var/lib/wherry/pods"; exists */
    const wh_pod_facts *facts;   /* copied */
    const wh_resolver *resolver; /* borrowed; may be called from the thread that mounts or refreshes */
    /* A service account token of the pod; *ret_token is ours to free. -EAGAIN: asked for, not there yet.
     * NULL: none can be had, and pods that want one fail with that reason. */
    int (*token)(void *user, const wh_pod_spec *spec, const char *audience, int64_t seconds, char **ret_token,
                 wh_time *ret_expires, wh_err *err);
    void *token_user;
    bool privileged; /* may mount (root): tmpfs, detached mounts; false: plain folders, wh_volumes_weaker says
                        what that means */
    uid_t uid;       /* of the pod's runners: owner of emptyDirs and files */
    gid_t gid;       /* fsGroup of the spec wins over it */
} wh_volumes_config;

/* Keeps a reference to nothing but the spec, which is borrowed. An object for a pod that was mounted before
 * (agent restart) is made the same way: mounting again repairs and completes. */
wh_volumes *wh_volumes_new(const wh_volumes_config *config, const wh_pod_spec *spec);
void wh_volumes_free(wh_volumes *volumes); /* the object only */
/* What is known of the pod's addresses now; not while one of the functions below runs. */
void wh_volumes_set_facts(wh_volumes *volumes, const wh_pod_facts *facts);
void wh_volumes_set_spec(wh_volumes *volumes, const wh_pod_spec *spec);
const char *wh_volumes_weaker(const wh_volumes *volumes); /* NULL, or one sentence to log once per node */

/* Makes all volumes of the pod; may be called again. -EAGAIN and -ENOENT: something is not there yet, try
 * again; the sentence says what. `now` is real time. */
int wh_volumes_mount(wh_volumes *volumes, wh_time now, wh_err *err);
/* Writes what changed in ConfigMaps, Secrets, labels and tokens, atomically per volume. *ret_next (may be
 * NULL) is when a token must be renewed, or WH_TIME_NEVER. The first failure is the result; the other volumes
 * are refreshed all the same. */
int wh_volumes_refresh(wh_volumes *volumes, wh_time now, wh_time *ret_next, wh_err *err);
/* -EDQUOT when an emptyDir is larger than its sizeLimit (the pod is to be evicted with the sentence as
 * message). */
int wh_volumes_check_usage(wh_volumes *volumes, uint64_t *ret_bytes, wh_err *err);

typedef struct wh_mount {
    char *guest_path;
    int fd; /* directory: a detached mount (nosuid, nodev, noexec, maybe read-only), or O_PATH */
    bool read_only;
} wh_mount;
/* The directories of one container, its termination log's included, in the order of volumeMounts. `env` is
 * for subPathExpr. -ENOTDIR: a subPath or hostPath that is a file (cannot be mounted yet). */
int wh_volumes_container(wh_volumes *volumes, size_t container, char *const *env, wh_mount **ret,
                         size_t *ret_n, wh_err *err);
void wh_mounts_free(wh_mount *mounts, size_t n);

/* The termination message after an end: the file, or the tail of the log (80 lines, 2048 bytes) when the
 * container asks for that, failed, and wrote none. log_path may be NULL. Valid UTF-8; NULL: none. The caller
 * frees. */
char *wh_volumes_termination_message(wh_volumes *volumes, size_t container, bool failed,
                                     const char *log_path);
/* Empties the termination log before a container starts again. */
void wh_volumes_termination_reset(wh_volumes *volumes, size_t container);

/* Unmounts and removes everything of that pod. Needs no object: also for what an earlier agent left. */
int wh_volumes_teardown(const char *root, const char *uid, wh_err *err);
/* Uids that have a folder below root. */
int wh_volumes_list(const char *root, wh_strv *ret, wh_err *err);
