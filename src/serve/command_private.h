/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by command.c (threads and the loop), command_guest.c (what runs a guest) and command_answer.c (what becomes of
 * its output). */
#pragma once

#include "abi/wasi/wasi.h"
#include "serve/cgi.h"
#include "serve/command.h"
#include "serve/ticker.h"

#include <pthread.h>
#include <sys/queue.h>

typedef enum { JOB_GATHERS, JOB_WAITS, JOB_RUNS, JOB_ENDED } job_state;

typedef struct job { /* a request and its guest */
    wh_serve_command *c;
    TAILQ_ENTRY(job) link;        /* c->waiting, c->running or c->ended */
    TAILQ_ENTRY(job) notice_link; /* c->notices */
    LIST_ENTRY(job) all_link;

    /* The loop's. */
    wh_serve_request *request;
    wh_http_exchange *x; /* NULL: the answer is over */
    wh_timer timer;      /* gathering first, then the deadline */
    wh_cgi_env env;
    wh_strv args;  /* WAGI */
    wh_buf answer; /* output whose answer has not begun */
    int status;
    bool begun, body_over;
    wh_time deadline;

    /* Under c->lock. */
    job_state state;
    wh_buf in, out;
    size_t in_at;     /* of `in` that the guest has read */
    bool in_end;      /* no more will come */
    bool in_paused;   /* reading the request pauses */
    bool held;        /* the client does not take what was written */
    bool noticed;     /* in c->notices */
    bool cancelled;   /* nobody wants the answer any more */
    bool blocked;     /* the guest waits: it does not count as running */
    unsigned out_age; /* ticks that output has waited */
    pthread_t thread;
    pthread_cond_t more; /* body came, output went, or it was cancelled */

    /* The guest's thread; the loop's once it ended. */
    wh_end end;
    int exit_code;
    char msg[400];
} job;
TAILQ_HEAD(job_list, job);

struct wh_serve_command {
    wh_loop *loop;
    wh_serve_command_config config;
    wh_ticker *ticker;
    uint32_t cpus, threads_max;
    LIST_HEAD(, job) all; /* the loop's */

    pthread_mutex_t lock;
    struct job_list waiting, running, ended, notices;
    pthread_cond_t work; /* idle threads wait here */
    pthread_cond_t gone; /* a thread ended */
    uint32_t n_running;  /* guests that do not wait */
    uint32_t threads, idle, woken;
    bool loop_owned, stalled, stop;
    uint64_t n_ended, n_ended_at_tick;
    int code;
};

/* command.c, under the lock */
void wh_command_notice(job *j);                 /* the loop must look at it: output, or room for the body */
void wh_command_need_loop(wh_serve_command *c); /* somebody must run the loop now */
void wh_command_block(job *j);                  /* the guest waits from here on */
void wh_command_unblock(job *j);

/* command_guest.c: on any thread, without the lock */
void wh_command_guest(job *j);

/* command_answer.c: on the loop, without the lock */
void wh_command_cancel(job *j); /* ends the guest as soon as can be */
void wh_command_output(job *j); /* takes its output on */
void wh_command_ended(job *j);  /* its guest is through: the rest, and the end */
void wh_command_answer_error(job *j, int status, const char *why);
void wh_command_answer_cut(job *j, const char *why);
