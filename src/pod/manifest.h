/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests on one machine: Pods, ConfigMaps, Secrets and Jobs from a file, and what a Job means without a
 * controller manager. */
#pragma once

#include "pod/lifecycle.h"

typedef struct wh_manifest {
    json_t *pods, *config_maps, *secrets, *jobs; /* arrays of objects; names and namespaces are there */
} wh_manifest;

/* Reads YAML or JSON, also kind List. Defaults that an API server would add are added: namespace, uid (made
 * from origin, namespace, name and content: the same file gives the same uid). `origin` names the file in
 * messages. Every document of another kind is refused by kind; each pod and job template is parsed once to
 * say early what is wrong with it. */
int wh_manifest_parse(const char *data, size_t n, const char *origin, wh_manifest *ret, wh_err *err);
void wh_manifest_done(wh_manifest *manifest);
#define auto_manifest __attribute__((cleanup(wh_manifest_done)))
/* Borrowed, or NULL. kind: "ConfigMap", "Secret", "Pod", "Job". */
json_t *wh_manifest_find(const wh_manifest *manifest, const char *kind, const char *namespace_,
                         const char *name);
/* wh_resolver.get over a manifest (user). */
int wh_manifest_resolve(void *user, const char *kind, const char *namespace_, const char *name, json_t **ret,
                        wh_err *err);
/* A uid in the form of a UUID, the same for the same text. `out` holds 37 bytes. */
const char *wh_manifest_uid(const char *text, size_t n, char out[37]);

/* ---- jobs ---- */

typedef struct wh_job {
    json_t *object; /* owned reference */
    const char *name, *namespace_, *uid;
    int64_t parallelism, completions;         /* completions -1: any success ends it (a work queue) */
    int64_t backoff_limit, active_deadline_s; /* deadline 0: none */
    bool indexed, suspend;
} wh_job;
int wh_job_parse(json_t *object, wh_job **ret, wh_err *err);
void wh_job_free(wh_job *job);
WH_DEFINE_CLEANUP(wh_cleanup_job, wh_job *, wh_job_free);
#define auto_job __attribute__((cleanup(wh_cleanup_job)))

/* One pod that the job has or had. Finished pods stay in the list: they are the job's memory. */
typedef struct wh_job_pod {
    int64_t serial; /* counts up: the suffix of its name */
    int64_t index;  /* completion index; -1 when not indexed */
    wh_pod_phase phase;
    bool stopping;     /* was asked to go, and stays so: its end is no failure */
    unsigned restarts; /* of its containers: counted as failures with restartPolicy OnFailure */
    wh_time finished;  /* when it became Succeeded or Failed */
} wh_job_pod;

typedef enum { WH_JOB_ACTIVE, WH_JOB_SUSPENDED, WH_JOB_COMPLETE, WH_JOB_FAILED } wh_job_state;
typedef struct wh_job_decision {
    wh_job_state state;
    const char *reason; /* FAILED: "BackoffLimitExceeded", "DeadlineExceeded"; static */
    int64_t *start;     /* completion indexes (or -1) of pods to make now */
    size_t n_start;
    size_t *stop; /* positions in `pods` of those to delete */
    size_t n_stop;
    int64_t active, succeeded, failed;
    wh_time next; /* decide again then, or when a pod changes */
} wh_job_decision;
void wh_job_decision_done(wh_job_decision *decision);

/* What to do now. Pure. COMPLETE and FAILED are said while pods may still be stopping. */
void wh_job_decide(const wh_job *job, const wh_job_pod *pods, size_t n, wh_time started, wh_time now,
                   wh_job_decision *ret);
/* A pod of the job: template, name "<job>-<serial>" or "<job>-<index>-<serial>", labels, completion index as
 * annotation, environment and host name. New reference. */
json_t *wh_job_pod_object(const wh_job *job, int64_t index, int64_t serial);
