/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"
#include "harness.h"
#include "loop/loop.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>

static wh_loop *new_loop(void)
{
    wh_loop *loop = NULL;
    wh_err err = {0};
    CHECK_OK(wh_loop_new(&loop, &err), &err);
    return loop;
}

typedef struct trace {
    wh_loop *loop;
    char text[64];
    size_t n;
} trace;

static trace seen;

static void note(const char *what)
{
    seen.n += (size_t)snprintf(seen.text + seen.n, sizeof(seen.text) - seen.n, "%s", what);
}

static void on_timer(wh_timer *timer)
{
    note(timer->user);
    if (wh_streq(timer->user, "c"))
        wh_loop_stop(timer->loop == NULL ? seen.loop : timer->loop, 5);
}

TEST(timers_run_in_order_of_time)
{
    seen.loop = new_loop();
    wh_timer a = {0}, b = {0}, c = {0}, d = {0};
    char na[] = "a", nb[] = "b", nc[] = "c", nd[] = "d";
    wh_timer_start(seen.loop, &c, 30 * WH_MSEC, on_timer, nc);
    wh_timer_start(seen.loop, &a, 1 * WH_MSEC, on_timer, na);
    wh_timer_start(seen.loop, &d, 5 * WH_MSEC, on_timer, nd);
    wh_timer_start(seen.loop, &b, WH_TIME_NEVER, on_timer, nb);
    wh_timer_start(seen.loop, &b, 10 * WH_MSEC, on_timer, nb);
    wh_timer_stop(&d);
    wh_time before = wh_mono_now();
    CHECK_INT(wh_loop_run(seen.loop), ==, 5);
    CHECK_INT(wh_mono_now() - before, >=, 29 * WH_MSEC);
    CHECK_STR(seen.text, "abc");
    CHECK(a.loop == NULL);
    wh_loop_free(seen.loop);
}

TEST(a_heap_of_many_timers_keeps_its_order)
{
    wh_loop *loop = new_loop();
    wh_rng rng = {42};
    wh_timer *timers = wh_xcalloc(2000, sizeof(*timers));
    for (size_t i = 0; i < 2000; i++)
        wh_timer_start(loop, &timers[i], (wh_time)wh_rng_below(&rng, 1000) * WH_SEC + WH_HOUR, on_timer,
                       NULL);
    for (size_t i = 0; i < 5000; i++) {
        wh_timer *t = &timers[wh_rng_below(&rng, 2000)];
        if (wh_rng_below(&rng, 2) == 0)
            wh_timer_stop(t);
        else
            wh_timer_start(loop, t, (wh_time)wh_rng_below(&rng, 1000) * WH_SEC + WH_HOUR, on_timer, NULL);
    }
    for (size_t i = 0; i < 2000; i++)
        wh_timer_stop(&timers[i]);
    wh_loop_free(loop);
    free(timers);
}

static wh_io first, second;
static int served;

static void stop_the_other(wh_io *io, uint32_t ready)
{
    CHECK(ready & EPOLLIN);
    served++;
    wh_io_stop(io == &first ? &second : &first);
    wh_io_stop(io);
}

TEST(a_waiting_event_of_a_stopped_descriptor_is_dropped)
{
    wh_loop *loop = new_loop();
    int a[2], b[2];
    CHECK_OK(pipe2(a, O_CLOEXEC), NULL);
    CHECK_OK(pipe2(b, O_CLOEXEC), NULL);
    CHECK_INT(write(a[1], "x", 1), ==, 1);
    CHECK_INT(write(b[1], "x", 1), ==, 1);
    CHECK_OK(wh_io_start(loop, &first, a[0], EPOLLIN, stop_the_other, NULL), NULL);
    CHECK_OK(wh_io_start(loop, &second, b[0], EPOLLIN, stop_the_other, NULL), NULL);
    CHECK_OK(wh_loop_once(loop, WH_SEC), NULL);
    CHECK_OK(wh_loop_once(loop, 0), NULL);
    CHECK_INT(served, ==, 1);
    wh_loop_free(loop);
}

TEST(starting_on_a_file_is_an_error)
{
    wh_loop *loop = new_loop();
    auto_close int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    wh_io io = {0};
    CHECK_FAIL(wh_io_start(loop, &io, fd, EPOLLIN, stop_the_other, NULL), -EPERM);
    CHECK(io.loop == NULL);
    wh_loop_free(loop);
}

static void defer_again(void *user)
{
    note("d");
    if (seen.n < 3)
        wh_loop_defer(user, defer_again, user);
}

TEST(what_is_deferred_while_deferred_waits_a_round)
{
    wh_loop *loop = new_loop();
    wh_loop_defer(loop, defer_again, loop);
    CHECK_INT(seen.n, ==, 0);
    CHECK_OK(wh_loop_once(loop, WH_TIME_NEVER), NULL);
    CHECK_STR(seen.text, "d");
    CHECK_OK(wh_loop_once(loop, WH_TIME_NEVER), NULL);
    CHECK_STR(seen.text, "dd");
    wh_loop_free(loop); /* which runs the last */
    CHECK_STR(seen.text, "ddd");
}

static int posted;

static void on_post(void *user)
{
    if (++posted == 4000)
        wh_loop_stop(user, 0);
}

static void *poster(void *user)
{
    for (int i = 0; i < 1000; i++)
        wh_loop_post(user, on_post, user);
    return NULL;
}

TEST(posts_of_four_threads_arrive)
{
    wh_loop *loop = new_loop();
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, poster, loop), ==, 0);
    CHECK_OK(wh_loop_run(loop), NULL);
    for (size_t i = 0; i < 4; i++)
        CHECK_INT(pthread_join(threads[i], NULL), ==, 0);
    CHECK_INT(posted, ==, 4000);
    wh_loop_free(loop);
}

static void on_signal(const struct signalfd_siginfo *info, void *user)
{
    CHECK_INT(info->ssi_signo, ==, SIGUSR1);
    wh_loop_stop(user, 9);
}

TEST(signals_come_through_the_loop)
{
    wh_loop *loop = new_loop();
    wh_err err = {0};
    CHECK_OK(wh_loop_signal(loop, SIGUSR1, on_signal, loop, &err), &err);
    CHECK_OK(raise(SIGUSR1), NULL);
    CHECK_INT(wh_loop_run(loop), ==, 9);
    wh_loop_free(loop);
}

TEST(a_loop_that_was_stopped_before_it_runs_does_not_run)
{
    wh_loop *loop = new_loop();
    wh_loop_stop(loop, 3);
    CHECK_INT(wh_loop_run(loop), ==, 3);
    wh_loop_free(loop);
}
