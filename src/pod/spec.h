/* SPDX-License-Identifier: Apache-2.0 */
/* A pod as asked for: one parse of a Kubernetes v1 Pod. Immutable once made, safe to read from any thread. */
#pragma once

#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "pod/probe.h"
#include "pod/quantity.h"

typedef enum { WH_RESTART_ALWAYS, WH_RESTART_ON_FAILURE, WH_RESTART_NEVER } wh_restart_policy;
typedef enum { WH_ROLE_INIT, WH_ROLE_SIDECAR, WH_ROLE_MAIN } wh_container_role;
typedef enum {
    WH_PULL_POLICY_ALWAYS,
    WH_PULL_POLICY_IF_NOT_PRESENT,
    WH_PULL_POLICY_NEVER
} wh_pull_policy_spec;

/* metadata.* / spec.* / status.* of the pod, or a container's resource: where env and downwardAPI take values
 * from. */
typedef struct wh_field_source {
    const char *field_path; /* fieldRef; NULL: a resourceFieldRef */
    const char *container;  /* resourceFieldRef: NULL is the container itself */
    const char *resource;   /* "limits.cpu" */
    wh_quantity divisor;
} wh_field_source;

typedef enum { WH_ENV_VALUE, WH_ENV_FIELD, WH_ENV_CONFIG_MAP, WH_ENV_SECRET } wh_env_kind;
typedef struct wh_env_var {
    const char *name;
    wh_env_kind kind;
    const char *value;     /* VALUE; "" when absent */
    wh_field_source field; /* FIELD */
    const char *object, *key;
    bool optional;
} wh_env_var;
typedef struct wh_env_from {
    wh_env_kind kind; /* CONFIG_MAP or SECRET */
    const char *prefix, *object;
    bool optional;
} wh_env_from;

typedef struct wh_port {
    const char *name, *protocol, *host_ip; /* name and host_ip may be NULL */
    uint16_t container_port, host_port;    /* 0: unset */
} wh_port;

typedef struct wh_volume_mount {
    const char *volume;        /* name of the volume; always one that the pod has */
    size_t volume_index;       /* in wh_pod_spec.volumes */
    const char *mount_path;    /* absolute */
    const char *sub_path;      /* NULL: the whole volume */
    const char *sub_path_expr; /* the same with $(VAR) inside */
    bool read_only;
} wh_volume_mount;

typedef struct wh_resources {
    struct {
        wh_quantity cpu, memory, ephemeral_storage;
    } requests, limits; /* requests default to limits, as the API server does it */
} wh_resources;

/* One entry of restartPolicyRules: the end of a container with (In) or without (NotIn) one of these codes
 * restarts it. */
typedef struct wh_restart_rule {
    bool not_in;
    int *codes;
    size_t n_codes;
} wh_restart_rule;

typedef struct wh_container_spec {
    const char *name, *image;
    wh_container_role role;
    const char **command,
        **args; /* NULL-terminated or NULL; "absent" and "empty" are the same, as in Kubernetes */
    const char *working_dir; /* NULL: the image's */
    wh_env_var *env;
    size_t n_env;
    wh_env_from *env_from;
    size_t n_env_from;
    wh_port *ports;
    size_t n_ports;
    wh_volume_mount *mounts;
    size_t n_mounts;
    wh_resources resources;
    wh_pull_policy_spec pull_policy;
    wh_restart_policy
        restart; /* what holds for this container: role, its own restartPolicy, and the pod's are merged */
    wh_restart_rule *rules;
    size_t n_rules;
    const char *termination_path; /* "/dev/termination-log" */
    bool termination_from_log;    /* FallbackToLogsOnError */
    int stop_signal;              /* SIGTERM unless lifecycle.stopSignal says otherwise; 0: the image's */
    int64_t pre_stop_sleep_s;     /* preStop.sleep: the stop request waits for so long; 0: it does not */
    int64_t run_as_user, run_as_group; /* -1: unset */
    bool read_only_root, stdin_open, tty;
    const json_t *lifecycle;              /* kept as written; NULL: none */
    wh_probe_spec probes[WH_PROBE_KINDS]; /* by wh_probe_kind */
} wh_container_spec;

typedef enum { WH_VOLUME_EMPTY_DIR, WH_VOLUME_HOST_PATH, WH_VOLUME_FILES } wh_volume_kind;
typedef enum { WH_SOURCE_CONFIG_MAP, WH_SOURCE_SECRET, WH_SOURCE_DOWNWARD, WH_SOURCE_TOKEN } wh_source_kind;
typedef struct wh_volume_item {
    const char *key;       /* CONFIG_MAP, SECRET */
    wh_field_source field; /* DOWNWARD */
    const char *path;      /* relative, never with ".." */
    int mode;              /* -1: the volume's */
} wh_volume_item;
typedef struct wh_volume_source {
    wh_source_kind kind;
    const char *object; /* CONFIG_MAP, SECRET */
    bool optional;
    wh_volume_item *items; /* none: all keys */
    size_t n_items;
    const char *token_path, *token_audience; /* TOKEN; audience NULL: the API server's */
    int64_t token_seconds;
} wh_volume_source;
typedef struct wh_volume_spec {
    const char *name;
    wh_volume_kind kind;
    bool memory;            /* EMPTY_DIR of medium Memory */
    wh_quantity size_limit; /* EMPTY_DIR */
    const char *host_path;  /* HOST_PATH, absolute */
    const char
        *host_path_type; /* "", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket", ... */
    int default_mode;    /* FILES */
    bool secret;         /* FILES that hold a Secret or a token: kept on tmpfs */
    wh_volume_source *sources; /* FILES: configMap, secret, downwardAPI have one, projected any number */
    size_t n_sources;
} wh_volume_spec;

typedef struct wh_pod_spec {
    json_t *object; /* the whole pod, unknown fields included; every `const char *` here points into it */
    const char *name, *namespace_, *uid; /* uid NULL when the object has none yet */
    int64_t generation;                  /* 0: none */
    const json_t *labels, *annotations;  /* objects of strings, or NULL */
    wh_container_spec *containers;       /* init containers and sidecars in their order, then the main ones */
    size_t n_containers, n_init;         /* n_init: how many of them are init containers or sidecars */
    wh_volume_spec *volumes;
    size_t n_volumes;
    wh_restart_policy restart;
    int64_t active_deadline_s; /* 0: none */
    int64_t grace_s;           /* terminationGracePeriodSeconds; 30 */
    const char *hostname, *subdomain, *hostname_override, *node_name, *service_account, *priority_class;
    bool host_network, service_links, non_root;
    int64_t run_as_user, run_as_group, fs_group; /* -1: unset */
    const char **pull_secrets;                   /* NULL-terminated or NULL */
    const char **readiness_gates;                /* condition types; NULL-terminated or NULL */
    wh_resources resources;                      /* pod-level ones */
    wh_strv remarks; /* sentences: what was accepted and is not acted on (hooks): one event each */
} wh_pod_spec;

/* Takes a reference to `object`; on success the spec owns it. -EINVAL: a field is missing or has the wrong
 * type or form; the sentence names its path. -EOPNOTSUPP: the pod asks for things that this node does not do;
 * all of them are named. `why` takes the same sentence without the length limit of wh_err; may be NULL. */
int wh_pod_spec_parse(json_t *object, wh_pod_spec **ret, wh_buf *why, wh_err *err);
void wh_pod_spec_free(wh_pod_spec *spec);
WH_DEFINE_CLEANUP(wh_cleanup_pod_spec, wh_pod_spec *, wh_pod_spec_free);
#define auto_pod_spec __attribute__((cleanup(wh_cleanup_pod_spec)))

/* Index of a container by name, or -ENOENT. */
int wh_pod_spec_find(const wh_pod_spec *spec, const char *container);
/* The name that the guest's machine has: hostnameOverride, hostname, or the pod's name, cut at 63 bytes. */
char *wh_pod_hostname(const wh_pod_spec *spec);

/* A container's id for the keeper and the status: "<uid>.<container>.<attempt>"; the same after a restart of
 * the agent. */
#define WH_CONTAINER_ID_LEN 128
const char *wh_container_id(const wh_pod_spec *spec, size_t container, unsigned attempt,
                            char out[WH_CONTAINER_ID_LEN]);
/* Takes it apart again; -EINVAL when it is none of ours. The strings are the caller's to free. */
int wh_container_id_parse(const char *id, char **ret_uid, char **ret_container, unsigned *ret_attempt);

/* What the node knows about a pod besides its spec: for the environment, downwardAPI files and the status. */
typedef struct wh_pod_facts {
    const char *node_name, *host_ip; /* IPs NULL while unknown */
    const char *pod_ips[2];          /* one a family; the first is status.podIP */
    int64_t cpu_millis, memory_bytes,
        ephemeral_bytes; /* the node's allocatable: what a missing limit means */
} wh_pod_facts;

/* Where ConfigMaps, Secrets come from: the API server's cache or the manifest. 0 and a new reference;
 * -ENOENT: there is none; -EAGAIN: not known yet, ask again soon. Never blocks. */
typedef struct wh_resolver {
    int (*get)(void *user, const char *kind, const char *namespace_, const char *name, json_t **ret,
               wh_err *err);
    void *user;
} wh_resolver;
