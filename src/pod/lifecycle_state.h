/* SPDX-License-Identifier: Apache-2.0 */
/* What a lifecycle remembers. Private to the lifecycle's own files. */
#pragma once

#include "pod/lifecycle.h"

#define LIFECYCLE_MAGIC 0x6C696665u

#define RESTART_DELAY_MIN (10 * WH_SEC)
#define RESTART_DELAY_MAX (300 * WH_SEC)
#define RESTART_DELAY_FORGET (2 * RESTART_DELAY_MAX) /* a run this long is a clean one */
#define IMAGE_DELAY_MIN (10 * WH_SEC)
#define IMAGE_DELAY_MAX (300 * WH_SEC)
#define IMAGE_ERROR_SHOWN (5 * WH_SEC) /* before ErrImagePull reads ImagePullBackOff */
#define START_DELAY_MIN (2 * WH_SEC)
#define START_DELAY_MAX WH_MINUTE
#define MOUNT_DELAY_MIN (500 * WH_MSEC)
#define MOUNT_DELAY_MAX WH_MINUTE
#define MOUNT_WAIT_MIN (100 * WH_MSEC)
#define MOUNT_WAIT_MAX (2 * WH_SEC)
#define SIDECAR_GRACE_MIN (2 * WH_SEC) /* between a late stop and its kill */
#define KILL_AGAIN (10 * WH_SEC)

typedef enum { STAGE_NEW, STAGE_ACTIVE, STAGE_ENDING, STAGE_ENDED, STAGE_TORN_DOWN, STAGE_FINISHED } stage;
typedef enum {
    CAUSE_NONE,
    CAUSE_DONE,
    CAUSE_INIT_FAILED,
    CAUSE_DELETE,
    CAUSE_DEADLINE,
    CAUSE_EVICT,
    CAUSE_REJECT
} cause;
typedef enum { WORK_NONE, WORK_ASKED, WORK_READY, WORK_FAILED } work;

/* A thing that is tried again: later and later. */
typedef struct retry {
    wh_time at, delay;
} retry;

typedef struct container {
    wh_container_life life; /* what everyone may see */
    work image;
    retry image_retry, start_retry;
    wh_time image_failed;                               /* when; for the switch of reasons */
    wh_time restart_at;                                 /* not before */
    wh_time restart_delay;                              /* of the next restart; 0: none yet */
    wh_time start_asked;                                /* when START was last said */
    wh_time stop_wanted, stop_sent, kill_at, kill_sent; /* 0: not */
    unsigned strays; /* runners of other attempts that are still there: nothing is started beside them */
    bool ran;        /* the guest began at least once */
    bool renew;      /* its image changed while it ran */
    bool probed_started, probed_ready; /* what probes found out about this run */
    bool unhealthy;                    /* one that must succeed failed: it is being stopped */
    int64_t unhealthy_grace_s;
    bool seen; /* by the agent that adopts */
} container;

typedef struct condition {
    bool status;
    char reason[40];
    char *message;
    wh_time since;
} condition;

enum { COND_START, COND_INITIALIZED, COND_CONTAINERS_READY, COND_READY, COND_SCHEDULED, COND_DISRUPTION };

struct wh_lifecycle {
    unsigned magic;
    const wh_pod_spec *spec;
    container *containers;
    size_t n;
    stage stage;
    cause cause;
    wh_pod_phase phase; /* what is shown; final once stage is ENDED or later */
    work volumes;
    retry volumes_retry;
    bool volumes_once, initialized, adopting, deleted, kill_now, teardown_asked;
    char reason[40]; /* of the pod */
    char *message;
    wh_time start_time, stop_deadline;
    condition conditions[WH_POD_CONDITIONS_MAX];
    wh_time now;    /* of the last step */
    uint64_t shown; /* digest of what the last STATUS showed */
};

static inline bool is_alive(const container *c)
{
    return c->life.state == WH_CONTAINER_STARTING || c->life.state == WH_CONTAINER_RUNNING;
}

/* What its startup probe says; true without one. */
bool is_started(const wh_lifecycle *lc, size_t i);

void make_utf8(char *text);
void set_text(char **slot, const char *text);      /* NULL empties */
void set_reason(char out[40], const char *reason); /* NULL empties */
void set_end(wh_container_end *end, unsigned attempt, const wh_pod_end *from, wh_time now);
void move_end(wh_container_end *to, wh_container_end *from); /* from is empty afterwards */
wh_lifecycle *lifecycle_alloc(const wh_pod_spec *spec, wh_time now);

/* lifecycle_view.c: phase and conditions from the state; true when something that the status shows has
 * changed. */
bool lifecycle_show(wh_lifecycle *lc, wh_time now);
