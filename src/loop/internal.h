/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share. */
#pragma once

#include "loop/loop.h"

#include <pthread.h>

#define WH_LOOP_MAGIC 0x77684c70U
#define WH_LOOP_BATCH 256 /* descriptors that one round serves */

typedef struct loop_call {
    void (*fn)(void *user);
    void *user;
} loop_call;

typedef struct loop_calls {
    loop_call *p;
    size_t n, cap;
} loop_calls;

typedef struct loop_signal {
    wh_io io;
    int signo;
    void (*fn)(const struct signalfd_siginfo *info, void *user);
    void *user;
    struct loop_signal *next;
} loop_signal;

struct wh_loop {
    uint32_t magic;
    int epfd;
    wh_time now;
    bool stopped;
    int code;

    size_t n_ios; /* started by others */
    struct epoll_event ready[WH_LOOP_BATCH];
    int n_ready, at_ready; /* events of this round; the one that is being served */

    wh_timer **heap; /* by time; a timer knows its slot */
    size_t n_timers, cap_timers;

    loop_calls deferred;
    wh_io post_io; /* an eventfd */
    pthread_mutex_t post_lock;
    loop_calls posted;

    loop_signal *signals;
};

void loop_calls_push(loop_calls *calls, void (*fn)(void *user), void *user);

/* The time of the first timer, or WH_TIME_NEVER; and running all that are due at loop->now. */
wh_time loop_timers_next(const wh_loop *loop);
void loop_timers_run(wh_loop *loop);
