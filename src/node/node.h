/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's core: a set of pods, each driven through its life cycle on this machine. Where pods come from
 * and who hears of their changes is plugged in: the API server, a folder of manifests, the local API, `wherry
 * run`. */
#pragma once

#include "kube/objects.h"
#include "loop/loop.h"
#include "node/network.h"
#include "node/paths.h"
#include "pod/lifecycle.h"

typedef struct wh_node wh_node;
typedef struct wh_worker wh_worker; /* one pod on this node */

typedef struct wh_node_config {
    const char *name;          /* of the node */
    const wh_paths *paths;     /* borrowed */
    const char *node_ip;       /* what pods have as their address until they get their own; may be NULL */
    const char *cgroup_parent; /* "wherry"; NULL: no cgroups */
    size_t max_pods;           /* 0: no limit */
    int64_t cpu_millis, memory_bytes, ephemeral_bytes; /* allocatable */
    bool own_uids;                                     /* root only: each pod gets a uid of its own */
    bool ephemeral;        /* `wherry run`: remembers nothing, and the keeper ends with us */
    const char *auth_file; /* docker config of the node, or NULL */
    const char *registries;
    /* Copied. NULL: pods are on the host's loopback, when one serves. SHARED without addresses: those of
     * wh_node_set_pod_cidrs, or the host's when none come. */
    const wh_network_options *network;
    char *const *cluster_dns;   /* servers of the cluster; NULL: none */
    const char *cluster_domain; /* NULL: "cluster.local" */
    uint64_t log_bytes_max;     /* of one log file; 10 MiB */
    unsigned log_files_max;     /* 5 */
} wh_node_config;

/* Who hears of a pod. All may be NULL. Called on the loop; `w` stays valid until on_gone returns. */
typedef struct wh_node_observer {
    void (*on_status)(void *user, wh_worker *w);
    /* container: NULL for the pod itself */
    void (*on_event)(void *user, wh_worker *w, const char *container, bool warning, const char *reason,
                     const char *message);
    /* Terminal, torn down, and asked to go: the object may be deleted. Answer with wh_node_forget. NULL:
     * forgotten. */
    void (*on_finished)(void *user, wh_worker *w);
    void (*on_gone)(void *user, wh_worker *w);
    void *user;
} wh_node_observer;

/* Opens store, database, cgroups; connects the keeper and takes over what runs. `ready` runs once when that
 * is done. */
int wh_node_new(wh_loop *loop, const wh_node_config *config, void (*ready)(void *user), void *user,
                wh_node **ret, wh_err *err);
/* Lets go of everything; pods run on (unless ephemeral). */
void wh_node_free(wh_node *node);
/* One observer per source: "api", "dir", "run". */
void wh_node_observe(wh_node *node, const char *source, const wh_node_observer *observer);

/* ---- pods in ---- */
/* Takes a pod, or news of one (same uid). -EINVAL and -EOPNOTSUPP: it cannot be run here, `why` (may be NULL)
 * takes the whole sentence; -EEXIST: the same name with another uid is still here. */
int wh_node_put(wh_node *node, const char *source, const char *origin, json_t *object, wh_buf *why,
                wh_worker **ret, wh_err *err);
/* grace_s < 0: the pod's own. now: the object is gone already. Unknown uids are fine. */
void wh_node_delete(wh_node *node, const char *uid, int64_t grace_s, bool now);
/* The object is gone: the pod may be forgotten (answer to on_finished). */
void wh_node_forget(wh_node *node, const char *uid);
wh_worker *wh_node_find(const wh_node *node, const char *uid);
wh_worker *wh_node_find_name(const wh_node *node, const char *ns, const char *name);
size_t wh_node_count(const wh_node *node);
void wh_node_each(wh_node *node, void (*fn)(void *user, wh_worker *w), void *user);

/* ---- objects ---- */
/* ConfigMaps and Secrets of pods of source "api" come from here; of the others from wh_node_object_put. */
void wh_node_use_objects(wh_node *node, wh_objects *objects);
void wh_node_drop_objects(wh_node *node); /* before they are freed */
/* object NULL removes it. */
void wh_node_object_put(wh_node *node, const char *kind, const char *ns, const char *name, json_t *object);
/* Services of the cluster, for environment variables: array, or NULL while unknown (pods of source "api"
 * wait). */
void wh_node_set_services(wh_node *node, json_t *services);
/* Where service account tokens come from (source "api"): asked on the loop, answered by wh_node_token. */
void wh_node_set_token_source(wh_node *node,
                              void (*ask)(void *user, wh_worker *w, const char *audience, int64_t seconds),
                              void *user);
void wh_node_token(wh_node *node, const char *uid, const char *audience, const char *token, wh_time expires);

/* ---- network ---- */
/* spec.podCIDRs of the Node object; NULL: it has none (yet). Ignored once the network stands. */
void wh_node_set_pod_cidrs(wh_node *node, const json_t *cidrs);

/* ---- one pod ---- */
const wh_pod_spec *wh_worker_spec(const wh_worker *w);
const wh_lifecycle *wh_worker_lifecycle(const wh_worker *w);
const char *wh_worker_source(const wh_worker *w);
const char *wh_worker_origin(const wh_worker *w);
json_t *wh_worker_status_patch(const wh_worker *w); /* new reference */
json_t *wh_worker_pod(const wh_worker *w);          /* the whole object with status; new reference */
bool wh_worker_is_dormant(const wh_worker *w); /* no container of it has a process; a connection wakes it */
json_t *wh_worker_events(const wh_worker *w);  /* the last ones, for `describe`; new reference */
char *wh_worker_log_dir(const wh_worker *w, size_t container); /* the caller's to free */

typedef struct wh_usage { /* of a container, or of a pod as their sum */
    uint64_t cpu_ns, memory_bytes, working_set_bytes;
    wh_time started; /* real */
} wh_usage;
int wh_worker_usage(const wh_worker *w, size_t container, wh_usage *ret); /* -ENOENT: it does not run */
typedef struct wh_run_report {                                            /* of a container's last run */
    wh_time start_ns;      /* from the decision to start to the guest's first instruction; 0: never */
    uint64_t memory_bytes; /* linear memory at its end, 0 while it runs */
} wh_run_report;
wh_run_report wh_worker_report(const wh_worker *w, size_t container);
uint64_t wh_node_image_bytes(wh_node *node);
