/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/ticker.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#define STACK_BYTES (64UL << 10)
#define TICKS_KEPT 100 /* that it goes on without a guest: steady requests need not wake it */

struct wh_ticker {
    void (*tick)(void *user);
    void *user;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t more;
    atomic_uint held;
    atomic_bool asleep; /* the thread waits for a hold, or is not there yet */
    bool made, stop;    /* under the lock */
};

static bool wait_for_hold(wh_ticker *t)
{
    (void)pthread_mutex_lock(&t->lock);
    atomic_store(&t->asleep, true);
    while (!t->stop && atomic_load(&t->held) == 0)
        (void)pthread_cond_wait(&t->more, &t->lock);
    atomic_store(&t->asleep, false);
    bool stop = t->stop;
    (void)pthread_mutex_unlock(&t->lock);
    return !stop;
}

static void *run(void *user)
{
    wh_ticker *t = user;
    const struct timespec tick = {.tv_nsec = WH_SERVE_TICK};
    unsigned unheld = 0;
    while (unheld < TICKS_KEPT || wait_for_hold(t)) {
        (void)nanosleep(&tick, NULL);
        t->tick(t->user);
        unheld = atomic_load(&t->held) > 0 ? 0 : unheld + 1;
        (void)pthread_mutex_lock(&t->lock);
        bool stop = t->stop;
        (void)pthread_mutex_unlock(&t->lock);
        if (stop)
            break;
    }
    return NULL;
}

/* With every signal blocked: they are for the threads that serve. Without a thread no deadline is kept; the next hold
 * tries again. */
static bool make_thread(wh_ticker *t)
{
    pthread_attr_t attr;
    sigset_t all, old;
    (void)sigfillset(&all);
    if (pthread_attr_init(&attr) != 0)
        return false;
    (void)pthread_attr_setstacksize(&attr, WH_MAX(STACK_BYTES, (size_t)PTHREAD_STACK_MIN));
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&t->thread, &attr, run, t);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    (void)pthread_attr_destroy(&attr);
    return rc == 0;
}

wh_ticker *wh_ticker_new(void (*tick)(void *user), void *user)
{
    wh_ticker *t = wh_xnew(wh_ticker);
    t->tick = tick;
    t->user = user;
    wh_assert(pthread_mutex_init(&t->lock, NULL) == 0);
    wh_assert(pthread_cond_init(&t->more, NULL) == 0);
    atomic_init(&t->held, 0);
    atomic_init(&t->asleep, true);
    return t;
}

void wh_ticker_hold(wh_ticker *t)
{
    (void)atomic_fetch_add(&t->held, 1);
    if (!atomic_load(&t->asleep))
        return;
    (void)pthread_mutex_lock(&t->lock);
    if (t->made)
        (void)pthread_cond_signal(&t->more);
    else if (make_thread(t))
        t->made = true;
    if (t->made)
        atomic_store(&t->asleep, false);
    (void)pthread_mutex_unlock(&t->lock);
}

void wh_ticker_release(wh_ticker *t)
{
    (void)atomic_fetch_sub(&t->held, 1);
}

void wh_ticker_free(wh_ticker *t)
{
    if (t == NULL)
        return;
    (void)pthread_mutex_lock(&t->lock);
    t->stop = true;
    bool made = t->made;
    (void)pthread_cond_signal(&t->more);
    (void)pthread_mutex_unlock(&t->lock);
    if (made)
        (void)pthread_join(t->thread, NULL);
    (void)pthread_cond_destroy(&t->more);
    (void)pthread_mutex_destroy(&t->lock);
    free(t);
}
