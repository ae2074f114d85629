/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the core share; private to this room. */
#pragma once

#include "image/image.h"
#include "keeper/cgroup.h"
#include "keeper/keeper.h"
#include "node/db.h"
#include "node/network.h"
#include "node/node.h"
#include "pod/dns.h"
#include "pod/env.h"
#include "pod/resources.h"
#include "pod/serve.h"
#include "pod/status.h"
#include "pod/volume.h"
#include "runner/spec.h"

#include <pthread.h>
#include <sys/queue.h>
#define uthash_fatal(msg) wh_panic(__FILE__, __LINE__, __func__, msg)
#include <uthash.h>

#define WH_NODE_SOURCES_MAX 4
#define WH_WORKER_EVENTS_MAX 32
#define WH_WORKER_TOKENS_MAX 8
#define WH_SERVE_SOCKETS_MAX 4   /* of one container: two families, on the pod's address and on the host's */
#define WH_SERVE_PORT 8080       /* of a container that serves and declares none */
#define WH_NODE_UID_FIRST 200000 /* of pods that do not name their own */
#define WH_NODE_UID_COUNT 60000

struct wh_node {
    wh_loop *loop;
    wh_pool *pool;      /* local work: volumes, starts */
    wh_pool *pull_pool; /* may wait for a network */
    wh_node_config config;
    wh_pod_facts facts;
    wh_store *store;
    wh_nodedb *db; /* NULL when ephemeral */
    wh_cgroups *cgroups;
    wh_keeper *keeper;
    wh_keeper_callbacks keeper_callbacks;
    wh_timer keeper_retry;
    int runner_fds[WH_RUNNERS]; /* -1: this installation has none */
    wh_network *network;        /* NULL: until something needs it, or its addresses are known */
    wh_network_options network_options;
    wh_timer network_wait; /* for the cluster to give the node addresses for its pods */
    char *resolv_conf;     /* of the node */
    char *pods_dir;
    wh_worker *by_uid; /* uthash */
    struct {
        const char *source;
        wh_node_observer observer;
    } observers[WH_NODE_SOURCES_MAX];
    size_t n_observers;
    wh_objects *objects;
    json_t *local_objects; /* "Kind/ns/name" -> object */
    json_t *services;
    void (*ask_token)(void *user, wh_worker *w, const char *audience, int64_t seconds);
    void *token_user;
    wh_timer flush, housekeeping;
    bool flush_due;
    unsigned n_rounds;   /* of housekeeping */
    wh_time real_offset; /* real time at start minus monotonic: real time that never steps */
    uid_t next_uid;
    void (*ready)(void *user);
    void *ready_user;
    bool is_ready;
    bool freeing;
};

typedef struct wh_object_ref { /* a ConfigMap or Secret that the pod's spec names */
    const char *kind;          /* static */
    char *name;
    wh_worker *worker;
    wh_object_sub *sub; /* source "api" */
} wh_object_ref;

typedef struct wh_token {
    char *audience;
    char *token; /* NULL: asked for */
    wh_time expires;
} wh_token;

typedef struct wh_worker_container {
    wh_image *image;
    wh_code code; /* fd -1: none yet */
    wh_cgroup *cgroup;
    bool running_seen;
    bool listed;         /* the present keeper knows it */
    bool start_unknown;  /* the keeper died between our request and its answer */
    wh_time start_asked; /* monotonic */
    wh_run_report report;
    size_t n_held;  /* listening sockets that the keeper holds for it */
    bool dormant;   /* no process; a connection wakes it */
    unsigned wakes; /* so far, as the keeper counts */
    bool wakes_known;
    wh_time woken; /* real; 0: its guest runs */
    wh_probes probes;
    int64_t probed_attempt; /* that the probes are of; -1: none */
    wh_timer probe_timer;
    struct wh_probing *probing[WH_PROBE_KINDS];
    bool probing_busy;
    bool rests;   /* it was started so that it may go dormant */
    bool offline; /* known to use no network: it needs no channel of netd */
    struct wh_worker *worker;
} wh_worker_container;

struct wh_worker {
    UT_hash_handle hh;
    wh_node *node;
    char *uid;          /* key */
    const char *source; /* of the observer table */
    char *origin;
    wh_pod_spec *spec;
    TAILQ_HEAD(, wh_old_spec) old_specs; /* replaced ones that jobs may still read */
    wh_lifecycle *lc;
    wh_volumes *volumes;
    wh_worker_container *containers;
    wh_cgroup *cgroup;
    uid_t run_uid;
    gid_t run_gid;
    wh_pod_serve serve; /* as it was when the pod came; its strings are ours */
    wh_pod_facts facts; /* the node's, with the pod's own addresses */
    char *ips[2], *resolv_conf;
    wh_addr addresses[2];
    size_t n_addresses;
    bool networked; /* the network knows it */
    wh_timer tick, refresh;
    TAILQ_HEAD(, wh_job_item) jobs; /* those that touch volumes: one at a time */
    bool job_running;
    json_t *snapshot;     /* of the job that runs: wh_worker_snapshot */
    wh_resolver resolver; /* over that snapshot */
    size_t pulls_running;
    wh_object_ref *refs;
    size_t n_refs;
    pthread_mutex_t token_lock;
    wh_token tokens[WH_WORKER_TOKENS_MAX];
    json_t *events; /* array, newest last */
    bool dirty, gone, stepping, reap_queued;
    TAILQ_HEAD(, wh_queued_event) queue;
};

/* ---- worker.c ---- */
wh_worker *wh_worker_new(wh_node *node, const char *source, const char *origin, wh_pod_spec *spec,
                         const json_t *saved, wh_err *err);
void wh_worker_free(wh_worker *w);
/* Copies the event, runs the life cycle and acts; safe inside an action's answer. */
void wh_worker_post(wh_worker *w, const wh_pod_event *event);
void wh_worker_save(wh_worker *w);
void wh_node_flush_soon(wh_node *node);
void wh_worker_flush(wh_node *node); /* writes what is to be remembered, now */
int wh_worker_set_spec(wh_worker *w, wh_pod_spec *spec, wh_err *err);
wh_time wh_node_now(const wh_node *node);
const wh_node_observer *wh_node_observer_of(const wh_node *node, const char *source);
void wh_worker_maybe_free(wh_worker *w);

/* ---- jobs.c: what runs off the loop ---- */
void wh_worker_mount(wh_worker *w);
void wh_worker_pull(wh_worker *w, size_t container);
void wh_worker_start(wh_worker *w, size_t container, unsigned attempt);
/* An event about it for people: not of the life cycle. */
void wh_worker_say(wh_worker *w, size_t container, bool warning, const char *reason, const char *message);
void wh_worker_teardown(wh_worker *w);
void wh_worker_refresh(wh_worker *w);
void wh_worker_check_usage(wh_worker *w); /* evicts a pod whose emptyDir is larger than its limit */
/* Posts ADOPTED behind the ends that are being read. */
void wh_worker_adopted_later(wh_worker *w);
/* Reads end record and termination message, then posts EXITED (or ADOPT ended). The event is copied. */
void wh_worker_collect_end(wh_worker *w, size_t container, unsigned attempt, const wh_keeper_event *event,
                           bool adopt);

/* ---- refs.c ---- */
void wh_worker_subscribe(wh_worker *w);
void wh_worker_unsubscribe(wh_worker *w);
/* All objects of the pod as they are now, for a job: "Kind/name" -> object, null (absent); missing: unknown.
 * New reference. */
json_t *wh_worker_snapshot(wh_worker *w);
/* wh_resolver.get over the snapshot of the job that runs (user: the worker). */
int wh_snapshot_get(void *user, const char *kind, const char *namespace_, const char *name, json_t **ret,
                    wh_err *err);
int wh_worker_token_get(void *user, const wh_pod_spec *spec, const char *audience, int64_t seconds,
                        char **ret_token, wh_time *ret_expires, wh_err *err);

/* ---- start.c ---- */
typedef struct wh_start_plan { /* everything a keeper start needs, prepared off the loop */
    int fds[WH_KEEPER_FDS_MAX];
    size_t n_fds;
    wh_cgroup *cgroup;
    wh_strv cgroup_procs;
    int oom_score_adj;
    uint64_t rlimit_data;
    unsigned mode;                       /* wh_runspec_mode */
    int program, netd_fd;                /* borrowed; -1: none */
    char *sockets[WH_SERVE_SOCKETS_MAX]; /* names that the keeper holds */
    size_t n_sockets;
    bool rest;
    struct wh_keeper_open opens[3];
    char *paths[3]; /* of them */
    size_t n_opens;
    wh_strv group_dirs, group_settings; /* of one that may rest */
} wh_start_plan;
int wh_start_plan_make(wh_worker *w, size_t container, unsigned attempt, wh_start_plan *plan,
                       const char **ret_reason, wh_err *err);
void wh_start_plan_done(wh_start_plan *plan);
/* The number that the descriptor, which is taken over, has in the runner. */
int wh_start_plan_add(wh_start_plan *plan, int fd, const char *what, wh_err *err);
/* A fresh log file for a running container after a rotation. */
int wh_container_log_open(const wh_worker *w, size_t container, unsigned attempt, wh_err *err);
char *wh_container_end_path(const wh_worker *w, size_t container, unsigned attempt);

/* ---- address.c: the network of the node's pods ---- */
/* When the node begins; may leave it open until the cluster has said which addresses there are. */
int wh_node_network_begin(wh_node *node, wh_err *err);
/* Makes it when that has not happened yet. -EAGAIN: its addresses are still to come. */
int wh_node_network_get(wh_node *node, wh_err *err);
/* What the database knows has its addresses again, and what nobody knows loses them. */
void wh_node_network_adopt(wh_node *node);

/* ---- serve.c: the pod on the network, and how its containers serve ---- */
/* Reads the annotations and what the node knows of the pod; once. */
int wh_worker_serve_init(wh_worker *w, wh_err *err);
void wh_worker_serve_done(wh_worker *w);
/* Code that is shared by requests is compiled otherwise. */
unsigned wh_worker_code_profile(const wh_worker *w, size_t container);
/* Gives the pod its addresses, where the node has a network for pods. May be said again. */
int wh_worker_network_up(wh_worker *w, wh_err *err);
void wh_worker_network_down(wh_worker *w);
/* On the loop, before a start is prepared: mode, program, sockets (made and given to the keeper when it holds none yet)
 * and netd's channel. */
int wh_worker_serve_prepare(wh_worker *w, size_t container, wh_start_plan *plan, const char **ret_reason,
                            wh_err *err);
/* The serving part of the run specification: in the job pool. */
int wh_worker_serve_spec(wh_worker *w, size_t container, wh_runspec *spec, wh_start_plan *plan, wh_err *err);
/* netd was started anew, or the container was: its runner gets a new channel. */
void wh_worker_channel_renew(wh_worker *w, size_t container);
/* The keeper holds this name: true when it belongs to a pod of ours. */
bool wh_node_held(wh_node *node, const char *name);
void wh_worker_set_dormant(wh_worker *w, size_t container, const wh_keeper_event *event);

/* ---- probes.c ---- */
void wh_worker_probe(wh_worker *w);                        /* after each step: begins, goes on or ends */
void wh_worker_probe_wake(wh_worker *w, size_t container); /* it is no longer dormant */
void wh_worker_probe_done(wh_worker *w);

/* ---- housekeeping.c ---- */
void wh_node_housekeeping_start(wh_node *node);
