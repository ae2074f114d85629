/* SPDX-License-Identifier: Apache-2.0 */
/* An epoll loop: descriptors, timers, deferred calls, other threads, signals, children, blocking jobs. One
 * loop a thread. A callback never runs inside the call that caused it; what a callback frees it frees through
 * wh_loop_defer. */
#pragma once

#include "base/clock.h"

#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/types.h>

typedef struct wh_loop wh_loop;

int wh_loop_new(wh_loop **ret, wh_err *err);
void wh_loop_free(wh_loop *loop); /* nothing may be registered any more but defers, which run */
/* Runs until wh_loop_stop; returns its code. */
int wh_loop_run(wh_loop *loop);
void wh_loop_stop(wh_loop *loop, int code);
/* One round: waits at most timeout (WH_TIME_NEVER: until something happens), dispatches what is ready. */
int wh_loop_once(wh_loop *loop, wh_time timeout);
/* Monotonic time at the beginning of this round. */
wh_time wh_loop_now(const wh_loop *loop);

/* Runs fn after the current callbacks, in order. */
void wh_loop_defer(wh_loop *loop, void (*fn)(void *user), void *user);
/* The same from any thread. */
void wh_loop_post(wh_loop *loop, void (*fn)(void *user), void *user);

/* A descriptor that is watched. Embedded in its owner, zeroed at first; does not own the descriptor. `events`
 * are EPOLLIN, EPOLLOUT, EPOLLRDHUP; level-triggered. */
typedef struct wh_io {
    wh_loop *loop; /* NULL while stopped */
    int fd;
    uint32_t events;
    void (*fn)(struct wh_io *io, uint32_t ready);
    void *user;
} wh_io;
int wh_io_start(wh_loop *loop, wh_io *io, int fd, uint32_t events, void (*fn)(wh_io *, uint32_t), void *user);
void wh_io_set(wh_io *io, uint32_t events);
void wh_io_stop(
    wh_io *io); /* may be called in a callback, also for a descriptor whose event is already waiting */

/* A one-shot timer, embedded in its owner, zeroed at first. Starting it again moves it. */
typedef struct wh_timer {
    wh_loop *loop; /* NULL while stopped */
    wh_time at;
    size_t slot;
    void (*fn)(struct wh_timer *timer);
    void *user;
} wh_timer;
void wh_timer_start(wh_loop *loop, wh_timer *timer, wh_time delay, void (*fn)(wh_timer *), void *user);
void wh_timer_stop(wh_timer *timer);

/* Blocks the signal for this thread and calls fn for each. Call before threads are made. */
int wh_loop_signal(wh_loop *loop, int signo, void (*fn)(const struct signalfd_siginfo *info, void *user),
                   void *user, wh_err *err);

/* A child process, watched by pidfd. `fn` gets the status as waitid reports it: code CLD_EXITED with the exit
 * code, or CLD_KILLED/CLD_DUMPED with the signal. The pidfd stays valid until wh_child_done. */
typedef struct wh_child {
    wh_io io;
    int pidfd;
    pid_t pid;
    void (*fn)(struct wh_child *child, int code, int status);
    void *user;
} wh_child;
typedef struct wh_spawn {
    const char *path; /* executable; looked up in PATH when it has no slash */
    char *const *argv;
    char *const *env; /* NULL: ours */
    const int *fds;   /* become 0, 1, ... n_fds-1 of the child; all others are closed */
    size_t n_fds;
    bool new_session;
    int death_signal; /* sent when we end; 0: none */
} wh_spawn;
/* vfork semantics: cheap at any size of this process. A failing exec is an error here, not an exit there. */
int wh_child_start(wh_loop *loop, wh_child *child, const wh_spawn *spawn,
                   void (*fn)(wh_child *, int code, int status), void *user, wh_err *err);
int wh_child_kill(wh_child *child, int signo);
void wh_child_done(wh_child *child); /* stops watching; does not kill */

/* Blocking work on a few threads. `run` on one of them, then `done` on the loop. */
typedef struct wh_pool wh_pool;
int wh_pool_new(wh_loop *loop, size_t threads, size_t queue_max, wh_pool **ret, wh_err *err);
void wh_pool_free(wh_pool *pool); /* waits for what runs; what had not begun is done with `cancelled` */
/* -EAGAIN when the queue is full. */
int wh_pool_submit(wh_pool *pool, void (*run)(void *user), void (*done)(void *user, bool cancelled),
                   void *user);
