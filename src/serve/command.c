/* SPDX-License-Identifier: Apache-2.0 */
/* Threads, the loop that one of them has, and the jobs that they share. */
#include "serve/command_private.h"

#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#define STACK_BYTES_DEFAULT (512UL << 10) /* the engine's */
#define STACK_BYTES_HOST (256UL << 10)    /* for host functions below the guest, and ours above */
#define GATHER_TIME (50 * WH_MSEC)        /* for the body of a request, before its guest begins without */
#define GATHER_BYTES (WH_SERVE_IN_BYTES_MAX / 2)
#define IDLE_TIME (10 * WH_SEC)    /* then a thread without work ends */
#define OUT_AGE_MAX 2              /* ticks that output may wait for more */
#define IN_BYTES_SPARE (1UL << 20) /* that may come after a pause */

static void *thread_main(void *user);

/* ---- waking each other; under the lock ---- */

/* With every signal but ours blocked: the others belong to the first thread. */
static void make_thread(wh_serve_command *c)
{
    size_t guest = c->config.stack_bytes > 0 ? c->config.stack_bytes : STACK_BYTES_DEFAULT;
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t set, old;
    if (pthread_attr_init(&attr) != 0)
        return;
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    (void)pthread_attr_setstacksize(&attr, guest + STACK_BYTES_HOST + (size_t)PTHREAD_STACK_MIN);
    (void)sigfillset(&set);
    (void)sigdelset(&set, SIGUSR2);
    (void)sigdelset(&set, SIGSEGV);
    (void)sigdelset(&set, SIGBUS);
    (void)sigdelset(&set, SIGILL);
    (void)sigdelset(&set, SIGFPE);
    (void)pthread_sigmask(SIG_SETMASK, &set, &old);
    if (pthread_create(&thread, &attr, thread_main, c) == 0)
        c->threads++;
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    (void)pthread_attr_destroy(&attr);
}

static void wake_thread(wh_serve_command *c)
{
    if (c->idle > c->woken) {
        c->woken++;
        (void)pthread_cond_signal(&c->work);
    } else if (c->threads < c->threads_max && c->woken == 0 && !c->stop) {
        make_thread(c);
    }
}

static void nothing(WH_UNUSED void *user)
{
}

void wh_command_need_loop(wh_serve_command *c)
{
    if (!c->loop_owned)
        wake_thread(c);
}

void wh_command_notice(job *j)
{
    wh_serve_command *c = j->c;
    if (j->noticed)
        return;
    j->noticed = true;
    TAILQ_INSERT_TAIL(&c->notices, j, notice_link);
    if (c->loop_owned)
        wh_loop_post(c->loop, nothing, NULL);
    else
        wake_thread(c);
}

void wh_command_block(job *j)
{
    wh_serve_command *c = j->c;
    if (!j->blocked) {
        j->blocked = true;
        c->n_running--;
    }
    wh_command_need_loop(c);
    if (!TAILQ_EMPTY(&c->waiting) && c->n_running < c->cpus)
        wake_thread(c);
}

void wh_command_unblock(job *j)
{
    if (!j->blocked)
        return;
    j->blocked = false;
    j->c->n_running++;
}

/* On the ticker's thread: deadlines, output that waited long enough, and what stands still. */
static void on_tick(void *user)
{
    wh_serve_command *c = user;
    job *j;
    c->config.ops->tick(c->config.engine);
    (void)pthread_mutex_lock(&c->lock);
    TAILQ_FOREACH(j, &c->running, link)
    {
        if (j->out.len > 0 && ++j->out_age > OUT_AGE_MAX && !j->held)
            wh_command_notice(j);
    }
    if (!TAILQ_EMPTY(&c->running) || !TAILQ_EMPTY(&c->waiting))
        wh_command_need_loop(c);
    if (!TAILQ_EMPTY(&c->waiting) && c->n_ended == c->n_ended_at_tick) {
        c->stalled = true; /* guests compute for long: one more at a time shares the processors */
        wake_thread(c);
    }
    c->n_ended_at_tick = c->n_ended;
    (void)pthread_mutex_unlock(&c->lock);
}

/* ---- jobs; on the loop ---- */

static void job_free(job *j)
{
    wh_timer_stop(&j->timer);
    LIST_REMOVE(j, all_link);
    wh_cgi_env_done(&j->env);
    wh_strv_free(j->args);
    wh_buf_done(&j->answer);
    wh_buf_done(&j->in);
    wh_buf_done(&j->out);
    (void)pthread_cond_destroy(&j->more);
    free(j);
}

/* Neither answer nor guest is left. */
static void job_over(job *j)
{
    wh_assert(j->x == NULL);
    wh_serve_over(j->request);
    wh_ticker_release(j->c->ticker);
    job_free(j);
}

/* The answer is over without the guest: one that has not begun never will. */
static void drop_guest(job *j)
{
    wh_serve_command *c = j->c;
    (void)pthread_mutex_lock(&c->lock);
    bool idle = j->state == JOB_GATHERS || j->state == JOB_WAITS;
    if (j->state == JOB_WAITS)
        TAILQ_REMOVE(&c->waiting, j, link);
    (void)pthread_mutex_unlock(&c->lock);
    wh_timer_stop(&j->timer);
    if (idle)
        job_over(j);
    else
        wh_command_cancel(j);
}

static void on_deadline(wh_timer *timer)
{
    job *j = timer->user;
    if (j->x != NULL)
        wh_command_answer_error(j, 504, "the request's time is over");
    drop_guest(j);
}

/* The guest may begin. */
static void job_ready(job *j)
{
    wh_serve_command *c = j->c;
    wh_timer_start(c->loop, &j->timer, WH_MAX(j->deadline - wh_loop_now(c->loop), (wh_time)0), on_deadline,
                   j);
    (void)pthread_mutex_lock(&c->lock);
    wh_assert(j->state == JOB_GATHERS);
    j->state = JOB_WAITS;
    TAILQ_INSERT_TAIL(&c->waiting, j, link);
    /* This thread takes the first one itself when the round is over. */
    if (TAILQ_FIRST(&c->waiting) != j && c->n_running + 1 < c->cpus)
        wake_thread(c);
    (void)pthread_mutex_unlock(&c->lock);
}

static void on_gathered(wh_timer *timer)
{
    job_ready(timer->user);
}

static void on_gone(WH_UNUSED wh_http_exchange *x, void *user)
{
    job *j = user;
    wh_command_answer_cut(j, "the client left");
    drop_guest(j);
}

static void on_writable(WH_UNUSED wh_http_exchange *x, void *user)
{
    job *j = user;
    (void)pthread_mutex_lock(&j->c->lock);
    j->held = false;
    (void)pthread_mutex_unlock(&j->c->lock);
    wh_command_output(j);
}

static void on_data(wh_http_exchange *x, const void *p, size_t n, void *user)
{
    job *j = user;
    wh_serve_command *c = j->c;
    bool pause = false;
    if (j->body_over)
        return;
    (void)pthread_mutex_lock(&c->lock);
    if (n == 0)
        j->in_end = j->body_over = true;
    /* Past its room the body is cut, which the guest must not take for its end. */
    bool lost = n > 0 && wh_buf_append(&j->in, p, n) < 0;
    if (j->in.len - j->in_at >= WH_SERVE_IN_BYTES_MAX && !j->in_paused)
        pause = j->in_paused = true;
    bool ready = j->state == JOB_GATHERS && (j->in_end || j->in.len >= GATHER_BYTES);
    (void)pthread_cond_broadcast(&j->more);
    (void)pthread_mutex_unlock(&c->lock);
    if (lost) {
        wh_command_answer_error(j, 500, "no memory for the request's body");
        drop_guest(j);
        return;
    }
    if (pause)
        wh_http_pause(x, true);
    if (ready)
        job_ready(j);
}

static int job_new(wh_serve_command *c, wh_serve_request *request, job **ret)
{
    const wh_http_request *q = wh_http_request_of(request->x);
    job *j = wh_xnew(job);
    j->c = c;
    j->request = request;
    j->deadline = request->deadline;
    wh_buf_init(&j->in, WH_SERVE_IN_BYTES_MAX + IN_BYTES_SPARE);
    wh_buf_init(&j->out, WH_SERVE_OUT_BYTES_MAX);
    wh_buf_init(&j->answer, WH_SERVE_HEAD_BYTES_MAX + 2 * WH_SERVE_OUT_BYTES_MAX);
    wh_assert(pthread_cond_init(&j->more, NULL) == 0);
    LIST_INSERT_HEAD(&c->all, j, all_link);
    int rc = wh_cgi_env_init(&j->env, q, request->id, c->config.env);
    if (rc == 0 && c->config.mode == WH_SERVE_WAGI)
        rc = wh_cgi_args(q, &j->args);
    if (rc < 0) {
        job_free(j);
        return rc;
    }
    *ret = j;
    return 0;
}

static void begin(void *user, wh_serve_request *request)
{
    static const wh_http_stream_callbacks callbacks = {
        .on_writable = on_writable, .on_gone = on_gone, .on_data = on_data};
    wh_serve_command *c = user;
    job *j = NULL;
    int rc = job_new(c, request, &j);
    if (rc < 0) {
        wh_serve_fail(request, rc == -ENOBUFS ? 431 : 500, "make the guest's environment");
        wh_serve_over(request);
        return;
    }
    j->x = request->x;
    wh_ticker_hold(c->ticker);
    wh_http_watch(j->x, &callbacks, j);
    if (wh_http_request_of(j->x)->length == 0) {
        j->in_end = j->body_over = true;
        job_ready(j);
    } else {
        wh_timer_start(c->loop, &j->timer, WH_MIN(GATHER_TIME, c->config.limits.request_time), on_gathered,
                       j);
    }
}

/* ---- a thread's work ---- */

/* On the loop: what guests left for it. True when there was something. */
static bool look_at_guests(wh_serve_command *c)
{
    bool any = false;
    job *j;
    for (;;) {
        (void)pthread_mutex_lock(&c->lock);
        bool ended = false;
        j = TAILQ_FIRST(&c->notices);
        if (j != NULL) {
            TAILQ_REMOVE(&c->notices, j, notice_link);
            j->noticed = false;
        } else if ((j = TAILQ_FIRST(&c->ended)) != NULL) {
            TAILQ_REMOVE(&c->ended, j, link);
            ended = true;
        }
        (void)pthread_mutex_unlock(&c->lock);
        if (j == NULL)
            return any;
        any = true;
        if (ended) {
            wh_command_ended(j);
            job_over(j);
        } else {
            wh_command_output(j);
        }
    }
}

static bool may_begin(const wh_serve_command *c)
{
    return !TAILQ_EMPTY(&c->waiting) && (c->n_running < c->cpus || c->stalled);
}

/* Under the lock, which is let go meanwhile. */
static void run_loop(wh_serve_command *c)
{
    c->loop_owned = true;
    wh_time timeout =
        may_begin(c) || !TAILQ_EMPTY(&c->ended) || !TAILQ_EMPTY(&c->notices) ? 0 : WH_TIME_NEVER;
    (void)pthread_mutex_unlock(&c->lock);
    (void)look_at_guests(c);
    (void)wh_loop_once(c->loop, timeout);
    if (look_at_guests(c))
        (void)wh_loop_once(c->loop, 0); /* sends what that deferred, before a guest runs */
    (void)pthread_mutex_lock(&c->lock);
    c->loop_owned = false;
}

static void run_job(wh_serve_command *c)
{
    job *j = TAILQ_FIRST(&c->waiting);
    TAILQ_REMOVE(&c->waiting, j, link);
    TAILQ_INSERT_TAIL(&c->running, j, link);
    j->state = JOB_RUNS;
    j->thread = pthread_self();
    c->n_running++;
    c->stalled = false;
    (void)pthread_mutex_unlock(&c->lock);
    wh_command_guest(j);
    (void)pthread_mutex_lock(&c->lock);
    if (!j->blocked)
        c->n_running--;
    j->blocked = false;
    j->state = JOB_ENDED;
    TAILQ_REMOVE(&c->running, j, link);
    if (j->noticed) { /* its end says the same */
        TAILQ_REMOVE(&c->notices, j, notice_link);
        j->noticed = false;
    }
    TAILQ_INSERT_TAIL(&c->ended, j, link);
    c->n_ended++;
    if (c->loop_owned)
        wh_loop_post(c->loop, nothing, NULL);
}

/* Under the lock. False: this thread has been idle for long. */
static bool wait_for_work(wh_serve_command *c, bool first)
{
    struct timespec until;
    int rc = 0;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += IDLE_TIME / WH_SEC;
    c->idle++;
    while (c->woken == 0 && !c->stop && rc == 0)
        rc = first ? pthread_cond_wait(&c->work, &c->lock)
                   : pthread_cond_timedwait(&c->work, &c->lock, &until);
    c->idle--;
    if (c->woken > 0) {
        c->woken--;
        return true;
    }
    return rc == 0;
}

static void work(wh_serve_command *c, bool first)
{
    if (c->config.ops->thread_init != NULL)
        c->config.ops->thread_init();
    (void)pthread_mutex_lock(&c->lock);
    for (bool stay = true; stay && !c->stop;) {
        bool left = !TAILQ_EMPTY(&c->ended) || !TAILQ_EMPTY(&c->notices);
        bool begins = may_begin(c);
        if (!c->loop_owned && (left || !begins))
            run_loop(c);
        else if (begins)
            run_job(c);
        else
            stay = wait_for_work(c, first);
    }
    if (!first) {
        c->threads--;
        (void)pthread_cond_broadcast(&c->gone);
    }
    (void)pthread_mutex_unlock(&c->lock);
}

static void *thread_main(void *user)
{
    work(user, false);
    return NULL;
}

int wh_serve_command_run(wh_serve_command *c)
{
    work(c, true);
    return c->code;
}

void wh_serve_command_stop(wh_serve_command *c, int code)
{
    (void)pthread_mutex_lock(&c->lock);
    c->stop = true;
    c->code = code;
    (void)pthread_cond_broadcast(&c->work);
    if (c->loop_owned)
        wh_loop_post(c->loop, nothing, NULL);
    (void)pthread_mutex_unlock(&c->lock);
}

/* ---- the whole ---- */

static void *no_work(WH_UNUSED void *user)
{
    return NULL;
}

/* The C library prepares itself for threads with the first one, by system calls that a later filter forbids. */
static int first_thread(wh_err *err)
{
    pthread_t thread;
    int rc = pthread_create(&thread, NULL, no_work, NULL);
    if (rc != 0)
        return wh_fail(err, -rc, "make a thread");
    (void)pthread_join(thread, NULL);
    return 0;
}

static void on_interrupt(WH_UNUSED int signo)
{
}

static void init_conds(wh_serve_command *c)
{
    pthread_condattr_t attr;
    wh_assert(pthread_condattr_init(&attr) == 0);
    wh_assert(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    wh_assert(pthread_cond_init(&c->work, &attr) == 0);
    wh_assert(pthread_cond_init(&c->gone, NULL) == 0);
    (void)pthread_condattr_destroy(&attr);
    wh_assert(pthread_mutex_init(&c->lock, NULL) == 0);
}

int wh_serve_command_new(wh_loop *loop, const wh_serve_command_config *config, wh_serve_command **ret,
                         wh_err *err)
{
    const struct sigaction sa = {.sa_handler = on_interrupt}; /* no SA_RESTART: it is to end a wait */
    cpu_set_t cpus;
    if (sigaction(SIGUSR2, &sa, NULL) < 0)
        return wh_fail(err, -errno, "handle SIGUSR2");
    int rc = first_thread(err);
    if (rc < 0)
        return rc;
    wh_serve_command *c = wh_xnew(wh_serve_command);
    c->loop = loop;
    c->config = *config;
    if (c->config.limits.at_once == 0)
        c->config.limits.at_once = WH_SERVE_AT_ONCE;
    if (c->config.limits.request_time <= 0)
        c->config.limits.request_time = WH_MINUTE;
    c->cpus = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? (uint32_t)CPU_COUNT(&cpus) : 1;
    c->threads_max =
        c->config.limits.at_once; /* beside the first one: somebody always has time for the loop */
    TAILQ_INIT(&c->waiting);
    TAILQ_INIT(&c->running);
    TAILQ_INIT(&c->ended);
    TAILQ_INIT(&c->notices);
    LIST_INIT(&c->all);
    init_conds(c);
    c->ticker = wh_ticker_new(on_tick, c);
    *ret = c;
    return 0;
}

void wh_serve_command_backend(wh_serve_command *c, wh_serve_backend *ret)
{
    *ret = (wh_serve_backend){.user = c, .begin = begin};
}

uint32_t wh_serve_command_threads(wh_serve_command *c)
{
    (void)pthread_mutex_lock(&c->lock);
    uint32_t n = c->threads + 1;
    (void)pthread_mutex_unlock(&c->lock);
    return n;
}

/* Guests that compute end at their deadline, and are waited for. */
static void end_guests(wh_serve_command *c)
{
    job *j, *next;
    for (j = LIST_FIRST(&c->all); j != NULL; j = next) {
        next = LIST_NEXT(j, all_link);
        if (j->x != NULL)
            wh_command_answer_cut(j, "the server ended");
        drop_guest(j);
    }
    (void)pthread_mutex_lock(&c->lock);
    while (c->threads > 0)
        (void)pthread_cond_wait(&c->gone, &c->lock);
    (void)pthread_mutex_unlock(&c->lock);
    (void)look_at_guests(c);
}

void wh_serve_command_free(wh_serve_command *c)
{
    if (c == NULL)
        return;
    wh_serve_command_stop(c, c->code);
    end_guests(c);
    wh_ticker_free(c->ticker);
    (void)pthread_cond_destroy(&c->work);
    (void)pthread_cond_destroy(&c->gone);
    (void)pthread_mutex_destroy(&c->lock);
    free(c);
}
