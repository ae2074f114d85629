/* SPDX-License-Identifier: Apache-2.0 */
/* Timers in a binary min-heap of pointers. */
#include "loop/internal.h"

static void heap_put(wh_loop *loop, size_t slot, wh_timer *timer)
{
    loop->heap[slot] = timer;
    timer->slot = slot;
}

static void sift_up(wh_loop *loop, size_t slot, wh_timer *timer)
{
    while (slot > 0) {
        size_t parent = (slot - 1) / 2;
        if (loop->heap[parent]->at <= timer->at)
            break;
        heap_put(loop, slot, loop->heap[parent]);
        slot = parent;
    }
    heap_put(loop, slot, timer);
}

static void sift_down(wh_loop *loop, size_t slot, wh_timer *timer)
{
    for (;;) {
        size_t child = 2 * slot + 1;
        if (child >= loop->n_timers)
            break;
        if (child + 1 < loop->n_timers && loop->heap[child + 1]->at < loop->heap[child]->at)
            child++;
        if (timer->at <= loop->heap[child]->at)
            break;
        heap_put(loop, slot, loop->heap[child]);
        slot = child;
    }
    heap_put(loop, slot, timer);
}

static void heap_settle(wh_loop *loop, size_t slot, wh_timer *timer)
{
    if (slot > 0 && timer->at < loop->heap[(slot - 1) / 2]->at)
        sift_up(loop, slot, timer);
    else
        sift_down(loop, slot, timer);
}

void wh_timer_start(wh_loop *loop, wh_timer *timer, wh_time delay, void (*fn)(wh_timer *), void *user)
{
    wh_assert(loop->magic == WH_LOOP_MAGIC);
    wh_assert(timer->loop == NULL || timer->loop == loop);
    /* Past loop->now in any case, so that a timer started by a timer waits for the next round. */
    wh_time now = WH_MAX(wh_mono_now(), loop->now + 1);
    if (__builtin_add_overflow(now, WH_MAX(delay, (wh_time)0), &timer->at))
        timer->at = WH_TIME_NEVER;
    timer->fn = fn;
    timer->user = user;
    if (timer->loop != NULL) {
        heap_settle(loop, timer->slot, timer);
        return;
    }
    if (loop->n_timers == loop->cap_timers) {
        size_t cap = WH_MAX(loop->cap_timers * 2, (size_t)16);
        wh_timer **grown = reallocarray(loop->heap, cap, sizeof(*grown));
        if (grown == NULL)
            wh_panic(__FILE__, __LINE__, __func__, "memory is available");
        loop->heap = grown;
        loop->cap_timers = cap;
    }
    timer->loop = loop;
    sift_up(loop, loop->n_timers++, timer);
}

void wh_timer_stop(wh_timer *timer)
{
    wh_loop *loop = timer->loop;
    if (loop == NULL)
        return;
    wh_assert(timer->slot < loop->n_timers);
    wh_assert(loop->heap[timer->slot] == timer);
    wh_timer *last = loop->heap[--loop->n_timers];
    if (last != timer)
        heap_settle(loop, timer->slot, last);
    timer->loop = NULL;
}

wh_time loop_timers_next(const wh_loop *loop)
{
    return loop->n_timers == 0 ? WH_TIME_NEVER : loop->heap[0]->at;
}

void loop_timers_run(wh_loop *loop)
{
    while (loop->n_timers > 0 && loop->heap[0]->at <= loop->now) {
        wh_timer *timer = loop->heap[0];
        wh_timer_stop(timer);
        timer->fn(timer);
    }
}
