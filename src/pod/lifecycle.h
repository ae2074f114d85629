/* SPDX-License-Identifier: Apache-2.0 */
/* The life of one pod as a pure state machine: (state, event, now) -> actions. No clock, no I/O. Its table of
 * transitions is in README.md; the rules are the kubelet's (kuberuntime_manager, KEP-753 for sidecars,
 * KEP-5307 for restart rules).
 *
 * The driver's part: after each step store wh_lifecycle_save (where the state must survive), then act on the
 * actions in their order, and send a TICK at `next`. Actions never wait for each other, except: STATUS before
 * FINISHED is written first. `now` is real time that never steps: wh_real_now() when the agent began plus
 * monotonic time since. */
#pragma once

#include "pod/spec.h"

#include <sys/types.h>

typedef struct wh_lifecycle wh_lifecycle;

typedef enum wh_pod_event_type {
    WH_POD_ADMITTED, /* the node takes it: begin */
    WH_POD_REJECTED, /* reason, message: Failed at once, nothing runs */
    WH_POD_VOLUMES_READY,
    WH_POD_VOLUMES_FAILED, /* reason ("FailedMount"), message; tried again with back-off */
    WH_POD_IMAGE_READY,    /* container, image_id, message (text of the Pulled event, or NULL: no event) */
    WH_POD_IMAGE_FAILED, /* container, reason ("ErrImagePull", "InvalidImageName", ...), message; tried again
                          */
    WH_POD_STARTED,      /* container, attempt, pid: the runner exists */
    WH_POD_START_FAILED, /* container, attempt, reason ("CreateContainerConfigError", ...), message: no runner
                            exists */
    WH_POD_RUNNING,      /* container, attempt, started: the guest's first instruction */
    WH_POD_EXITED,       /* container, attempt, end */
    WH_POD_PROBED, /* container, attempt, probe, good: what a probe found out now holds; not good for startup or
                      liveness: it is stopped (grace_s, or the pod's) and started again by its policy */
    WH_POD_UNHEALTHY,  /* container, attempt, probe, message: one failure, for people */
    WH_POD_DELETE,     /* grace_s (negative: the pod's own); again with another grace: the earlier end wins */
    WH_POD_DELETE_NOW, /* the object is gone already: kill at once */
    WH_POD_EVICT,      /* reason ("Evicted"), message; grace_s */
    WH_POD_ADOPT,      /* container, attempt, adopt, pid, started, end: what a new agent found; see below */
    WH_POD_ADOPTED,    /* every container that exists was reported: the missing ones are lost */
    WH_POD_TORN_DOWN,  /* answer to TEARDOWN: nothing of the pod is left on the node */
    WH_POD_RETRY, /* something that failed may work now (an object appeared): do not wait for the back-off */
    WH_POD_TICK,
} wh_pod_event_type;

typedef struct wh_pod_end {
    int exit_code;                /* as a container's: 0..255 */
    int signal;                   /* that killed the process, or 0 */
    const char *reason, *message; /* "Completed", "Error", "OOMKilled", ...; NULL reason: by exit code */
    wh_time started, finished;    /* real; started 0: never ran */
    bool lost;                    /* nobody knows how it ended: ContainerStatusUnknown, 137 */
} wh_pod_end;

typedef enum { WH_ADOPT_RUNNING, WH_ADOPT_ENDED } wh_adopt;

typedef struct wh_pod_event {
    wh_pod_event_type type;
    size_t container;
    unsigned attempt;
    const char *reason, *message, *image_id; /* borrowed for the call */
    pid_t pid;
    wh_time started;
    int64_t grace_s;
    wh_adopt adopt;
    wh_probe_kind probe;
    bool good;
    wh_pod_end end;
} wh_pod_event;

typedef enum wh_pod_action_type {
    WH_DO_MOUNT, /* prepare volumes; answer VOLUMES_READY or VOLUMES_FAILED */
    WH_DO_PULL,  /* container: image and code; answer IMAGE_READY or IMAGE_FAILED */
    WH_DO_START, /* container, attempt; answer STARTED or START_FAILED, then RUNNING, then EXITED */
    WH_DO_STOP,  /* container, attempt, signal: ask it to end; the kill comes as an action of its own when it
                    is late */
    WH_DO_KILL,  /* container, attempt: SIGKILL to all of it */
    WH_DO_TEARDOWN, /* nothing runs and nothing will: volumes, cgroups, leases, records; answer TORN_DOWN */
    WH_DO_STATUS,   /* the status changed */
    WH_DO_EVENT,    /* warning, reason, message; container or WH_POD_ITSELF */
    WH_DO_FINISHED, /* terminal, torn down and asked to go: delete the object with grace 0 (unless it is
                       gone), forget it */
} wh_pod_action_type;

#define WH_POD_ITSELF SIZE_MAX

typedef struct wh_pod_action {
    wh_pod_action_type type;
    size_t container;
    unsigned attempt;
    int signal;
    bool warning;
    char reason[40];
    char *message; /* owned by the list; NULL: none */
} wh_pod_action;

typedef struct wh_pod_actions {
    wh_pod_action *list;
    size_t n, cap;
    wh_time next; /* when the next TICK is due; WH_TIME_NEVER */
} wh_pod_actions;
void wh_pod_actions_done(wh_pod_actions *actions);
#define auto_pod_actions __attribute__((cleanup(wh_pod_actions_done)))

/* ---- life ---- */

/* The spec is borrowed and must outlive the object or be replaced by wh_lifecycle_set_spec. Nothing happens
 * before ADMITTED or REJECTED. */
wh_lifecycle *wh_lifecycle_new(const wh_pod_spec *spec, wh_time now);
void wh_lifecycle_free(wh_lifecycle *lc);
WH_DEFINE_CLEANUP(wh_cleanup_lifecycle, wh_lifecycle *, wh_lifecycle_free);
#define auto_lifecycle __attribute__((cleanup(wh_cleanup_lifecycle)))

/* Takes one event. `actions` is emptied first and filled. Events that come late (a container that is already
 * another attempt, an answer to something no longer wanted) are ignored, except that a runner nobody asked
 * for is killed. */
void wh_lifecycle_step(wh_lifecycle *lc, const wh_pod_event *event, wh_time now, wh_pod_actions *actions);

/* The object changed (labels, annotations, image, activeDeadlineSeconds); same uid and same containers by
 * name. -EINVAL when they differ: the old spec stays. Follow it with a TICK. A changed image restarts its
 * container. */
int wh_lifecycle_set_spec(wh_lifecycle *lc, const wh_pod_spec *spec, wh_err *err);

/* ---- surviving the agent ----
 * Everything that decides, as JSON. A loaded pod is `adopting`: it starts and stops nothing until ADOPTED.
 * The driver sends ADOPT for each of its containers that the keeper has (running or ended and not reaped),
 * then ADOPTED; the same for a new lifecycle whose state was lost: a running container is taken over as
 * found. A container that was being started and is not there is started with the same attempt; one that ran
 * and is not there is lost. */
json_t *wh_lifecycle_save(const wh_lifecycle *lc);
int wh_lifecycle_load(const wh_pod_spec *spec, const json_t *saved, wh_time now, wh_lifecycle **ret,
                      wh_err *err);

/* ---- what it is now ---- */

typedef enum { WH_PHASE_PENDING, WH_PHASE_RUNNING, WH_PHASE_SUCCEEDED, WH_PHASE_FAILED } wh_pod_phase;
const char *wh_pod_phase_name(wh_pod_phase phase);
wh_pod_phase wh_lifecycle_phase(const wh_lifecycle *lc);
bool wh_lifecycle_terminal(const wh_lifecycle *lc); /* Succeeded or Failed: final */
bool wh_lifecycle_finished(const wh_lifecycle *lc); /* FINISHED was said */
bool wh_lifecycle_stopping(const wh_lifecycle *lc); /* being deleted, evicted or ended by a deadline */
bool wh_lifecycle_torn_down(const wh_lifecycle *lc);
bool wh_lifecycle_adopting(const wh_lifecycle *lc);
const char *
wh_lifecycle_reason(const wh_lifecycle *lc); /* pod level: "DeadlineExceeded", "Evicted"; NULL: none */
const char *wh_lifecycle_message(const wh_lifecycle *lc);
wh_time wh_lifecycle_start_time(const wh_lifecycle *lc); /* 0 before admission */
const wh_pod_spec *wh_lifecycle_spec(const wh_lifecycle *lc);

typedef struct wh_container_end {
    bool set;
    unsigned attempt;
    int exit_code, signal;
    char reason[40];
    char *message; /* NULL: none */
    wh_time started, finished;
} wh_container_end;

typedef enum {
    WH_CONTAINER_WAITING,  /* no runner; `reason` says for what */
    WH_CONTAINER_STARTING, /* START was said; the guest has not begun */
    WH_CONTAINER_RUNNING,
    WH_CONTAINER_ENDED, /* and will not be started again */
} wh_container_state;

/* One container as the status shows it. Read-only. */
typedef struct wh_container_life {
    wh_container_state state;
    unsigned attempt; /* of the current runner, or of the next one; the restart count */
    pid_t pid;        /* 0: no runner */
    wh_time started;  /* of the current run */
    bool ready, stopping;
    bool healthy;    /* RUNNING, and its startup probe, if it has one, succeeded */
    char reason[40]; /* WAITING, STARTING */
    char *message;
    char *image_id;        /* NULL until the image is there */
    wh_container_end end;  /* of the most recent run that ended: what ENDED shows, else `lastState` */
    wh_container_end last; /* of the run before that: `lastState` when ENDED */
} wh_container_life;
const wh_container_life *wh_lifecycle_container(const wh_lifecycle *lc, size_t container);

typedef struct wh_pod_condition {
    const char *type;
    bool status;
    const char *reason, *message; /* NULL: none */
    wh_time since;                /* last change of status */
} wh_pod_condition;
#define WH_POD_CONDITIONS_MAX 6
size_t wh_lifecycle_conditions(const wh_lifecycle *lc, wh_pod_condition out[WH_POD_CONDITIONS_MAX]);
