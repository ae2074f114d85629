/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of components share: a component of $GUESTS with the C side around it, clients that keep what
 * they got, and a clock that ticks. */
#pragma once

#include "base/buf.h"
#include "engine/component.h"

#include <pthread.h>
#include <stdatomic.h>

#define TICK_MS 5

typedef struct wh_comp_rig {
    wh_engine *engine;
    wh_component *component;
    unsigned profile; /* shared+cm, unless the test says otherwise */
    wh_component_config config;
    wh_component_callbacks callbacks;
    pthread_t ticker;
    atomic_bool stop;
    int event;     /* somebody was woken */
    wh_buf output; /* of all guests' standard streams */
} wh_comp_rig;

typedef struct wh_comp_instance {
    wh_comp_rig *rig;
    wh_component_instance *instance;
    atomic_bool woken;
    wh_component_state state;
    unsigned polls;
} wh_comp_instance;

typedef struct wh_comp_client {
    wh_component_call *call;
    unsigned status;
    wh_buf fields, body, trailers; /* "name: value\n"; the body up to KEEP_BYTES */
    uint64_t body_bytes;           /* all of it */
    size_t chunk_max;
    size_t taken;   /* calls of on_taken */
    size_t waiting; /* what it said last */
    bool pause;     /* on_body says so */
    bool paused;
    bool ended;
    unsigned heads, ends;
    wh_outcome outcome;
} wh_comp_client;

/* NAME.cwasm, with the rig's configuration as it stands: set members of config between _init and _load. The test skips
 * when there is no such guest on this machine. */
void comp_init(wh_comp_rig *rig);
void comp_load(wh_comp_rig *rig, const char *name);
void comp_done(wh_comp_rig *rig);

int comp_open(const char *name); /* the code of a guest */

wh_comp_instance *comp_instance(wh_comp_rig *rig);
void comp_free(wh_comp_instance *i);

void client_init(wh_comp_client *client);
void client_done(wh_comp_client *client);
/* body_bytes as in wh_component_head. `fields` is a NULL-terminated list of names and values, or NULL. */
void client_begin(wh_comp_client *client, wh_comp_instance *i, const char *method, const char *path,
                  int64_t body_bytes, const char *const *fields);
void client_get(wh_comp_client *client, wh_comp_instance *i, const char *path);

/* Polls whoever was woken until `*done` or for `ms`; false then. */
bool comp_run(wh_comp_instance **list, size_t n, const bool *done, int ms);
/* Until the client's call has ended; fails the test when it does not in 20 s. */
void comp_finish(wh_comp_instance *i, wh_comp_client *client);
/* One poll, as the C side would do it: when it was woken. */
void comp_poll(wh_comp_instance *i);
