/* SPDX-License-Identifier: Apache-2.0 */
/* A bounded queue of blocking jobs and the threads that run them; ends come back through wh_loop_post. */
#include "loop/loop.h"

#include <pthread.h>
#include <signal.h>
#include <sys/queue.h>

#define STACK_BYTES ((size_t)1024 * 1024)

typedef struct job {
    void (*run)(void *user);
    void (*done)(void *user, bool cancelled);
    void *user;
    bool cancelled;
    STAILQ_ENTRY(job) link;
} job;

struct wh_pool {
    wh_loop *loop;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    STAILQ_HEAD(, job) queue;
    size_t n_queued, queue_max;
    bool closing;
    size_t n_threads;
    pthread_t threads[];
};

static void finish_job(void *user)
{
    job *j = user;
    if (j->done != NULL)
        j->done(j->user, j->cancelled);
    free(j);
}

/* The next job, or NULL when the pool closes. */
static job *take_job(wh_pool *pool)
{
    (void)pthread_mutex_lock(&pool->lock);
    while (!pool->closing && STAILQ_EMPTY(&pool->queue))
        (void)pthread_cond_wait(&pool->wake, &pool->lock);
    job *j = NULL;
    if (!pool->closing) {
        j = STAILQ_FIRST(&pool->queue);
        STAILQ_REMOVE_HEAD(&pool->queue, link);
        pool->n_queued--;
    }
    (void)pthread_mutex_unlock(&pool->lock);
    return j;
}

static void *pool_thread(void *arg)
{
    wh_pool *pool = arg;
    for (job *j = take_job(pool); j != NULL; j = take_job(pool)) {
        j->run(j->user);
        wh_loop_post(pool->loop, finish_job, j);
    }
    return NULL;
}

/* Threads are born with all signals blocked: those are the loop's. */
static int start_threads(wh_pool *pool, size_t threads)
{
    sigset_t all, before;
    pthread_attr_t attr;
    int rc = -pthread_attr_init(&attr);
    if (rc < 0)
        return rc;
    (void)pthread_attr_setstacksize(&attr, STACK_BYTES);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    while (rc == 0 && pool->n_threads < threads) {
        rc = -pthread_create(&pool->threads[pool->n_threads], &attr, pool_thread, pool);
        if (rc == 0)
            pool->n_threads++;
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attr);
    return rc;
}

int wh_pool_new(wh_loop *loop, size_t threads, size_t queue_max, wh_pool **ret, wh_err *err)
{
    wh_assert(threads > 0);
    wh_pool *pool = wh_xcalloc(1, sizeof(wh_pool) + threads * sizeof(pthread_t));
    pool->loop = loop;
    pool->queue_max = queue_max;
    STAILQ_INIT(&pool->queue);
    wh_assert(pthread_mutex_init(&pool->lock, NULL) == 0);
    wh_assert(pthread_cond_init(&pool->wake, NULL) == 0);
    int rc = start_threads(pool, threads);
    if (rc < 0) {
        wh_pool_free(pool);
        return wh_fail(err, rc, "start %zu threads", threads);
    }
    *ret = pool;
    return 0;
}

void wh_pool_free(wh_pool *pool)
{
    if (pool == NULL)
        return;
    (void)pthread_mutex_lock(&pool->lock);
    pool->closing = true;
    (void)pthread_cond_broadcast(&pool->wake);
    (void)pthread_mutex_unlock(&pool->lock);
    for (size_t i = 0; i < pool->n_threads; i++)
        (void)pthread_join(pool->threads[i], NULL);
    while (!STAILQ_EMPTY(&pool->queue)) {
        job *j = STAILQ_FIRST(&pool->queue);
        STAILQ_REMOVE_HEAD(&pool->queue, link);
        j->cancelled = true;
        wh_loop_post(pool->loop, finish_job, j);
    }
    (void)pthread_cond_destroy(&pool->wake);
    (void)pthread_mutex_destroy(&pool->lock);
    free(pool);
}

int wh_pool_submit(wh_pool *pool, void (*run)(void *user), void (*done)(void *user, bool cancelled),
                   void *user)
{
    (void)pthread_mutex_lock(&pool->lock);
    bool full = pool->n_queued >= pool->queue_max;
    if (!full) {
        job *j = wh_xnew(job);
        j->run = run;
        j->done = done;
        j->user = user;
        STAILQ_INSERT_TAIL(&pool->queue, j, link);
        pool->n_queued++;
        (void)pthread_cond_signal(&pool->wake);
    }
    (void)pthread_mutex_unlock(&pool->lock);
    return full ? -EAGAIN : 0;
}
