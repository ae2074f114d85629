/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/internal.h"

#include <signal.h>
#include <sys/eventfd.h>

void loop_calls_push(loop_calls *calls, void (*fn)(void *user), void *user)
{
    if (calls->n == calls->cap) {
        size_t cap = WH_MAX(calls->cap * 2, (size_t)16);
        loop_call *grown = reallocarray(calls->p, cap, sizeof(*grown));
        if (grown == NULL)
            wh_panic(__FILE__, __LINE__, __func__, "memory is available");
        calls->p = grown;
        calls->cap = cap;
    }
    calls->p[calls->n++] = (loop_call){fn, user};
}

static int io_add(wh_loop *loop, wh_io *io, int fd, uint32_t events, void (*fn)(wh_io *, uint32_t),
                  void *user)
{
    wh_assert(loop->magic == WH_LOOP_MAGIC);
    wh_assert(io->loop == NULL);
    struct epoll_event event = {.events = events, .data.ptr = io};
    if (epoll_ctl(loop->epfd, EPOLL_CTL_ADD, fd, &event) < 0)
        return -errno;
    *io = (wh_io){.loop = loop, .fd = fd, .events = events, .fn = fn, .user = user};
    return 0;
}

static void io_remove(wh_io *io)
{
    wh_loop *loop = io->loop;
    /* Fails only when the owner closed the descriptor first, which took it out as well. */
    (void)epoll_ctl(loop->epfd, EPOLL_CTL_DEL, io->fd, NULL);
    for (int i = loop->at_ready + 1; i < loop->n_ready; i++) {
        if (loop->ready[i].data.ptr == io)
            loop->ready[i].data.ptr = NULL;
    }
    io->loop = NULL;
}

int wh_io_start(wh_loop *loop, wh_io *io, int fd, uint32_t events, void (*fn)(wh_io *, uint32_t), void *user)
{
    int rc = io_add(loop, io, fd, events, fn, user);
    if (rc == 0)
        loop->n_ios++;
    return rc;
}

void wh_io_set(wh_io *io, uint32_t events)
{
    wh_assert(io->loop != NULL);
    if (events == io->events)
        return;
    struct epoll_event event = {.events = events, .data.ptr = io};
    wh_assert(epoll_ctl(io->loop->epfd, EPOLL_CTL_MOD, io->fd, &event) == 0);
    io->events = events;
}

void wh_io_stop(wh_io *io)
{
    if (io->loop == NULL)
        return;
    wh_assert(io->loop->n_ios > 0);
    io->loop->n_ios--;
    io_remove(io);
}

static void on_post(wh_io *io, uint32_t ready)
{
    (void)ready;
    wh_loop *loop = io->user;
    uint64_t count;
    ssize_t n = read(io->fd, &count, sizeof(count));
    (void)n; /* EAGAIN is as good: what was posted is in the list */
    (void)pthread_mutex_lock(&loop->post_lock);
    loop_calls calls = loop->posted;
    loop->posted = (loop_calls){0};
    (void)pthread_mutex_unlock(&loop->post_lock);
    for (size_t i = 0; i < calls.n; i++)
        calls.p[i].fn(calls.p[i].user);
    free(calls.p);
}

int wh_loop_new(wh_loop **ret, wh_err *err)
{
    wh_loop *loop = wh_xnew(wh_loop);
    loop->magic = WH_LOOP_MAGIC;
    loop->now = wh_mono_now();
    wh_assert(pthread_mutex_init(&loop->post_lock, NULL) == 0);
    loop->epfd = epoll_create1(EPOLL_CLOEXEC);
    auto_close int wake = loop->epfd < 0 ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = wake < 0 ? -errno : io_add(loop, &loop->post_io, wake, EPOLLIN, on_post, loop);
    if (rc < 0) {
        if (loop->epfd >= 0)
            close(loop->epfd);
        (void)pthread_mutex_destroy(&loop->post_lock);
        free(loop);
        return wh_fail(err, rc, "start an event loop");
    }
    (void)WH_TAKE_FD(wake);
    *ret = loop;
    return 0;
}

/* Runs what is deferred now; what that defers waits for the next round. */
static void run_deferred(wh_loop *loop)
{
    if (loop->deferred.n == 0)
        return;
    loop_calls calls = loop->deferred;
    loop->deferred = (loop_calls){0};
    for (size_t i = 0; i < calls.n; i++)
        calls.p[i].fn(calls.p[i].user);
    if (loop->deferred.p == NULL) { /* keep the memory for the next round */
        calls.n = 0;
        loop->deferred = calls;
    } else {
        free(calls.p);
    }
}

void wh_loop_free(wh_loop *loop)
{
    if (loop == NULL)
        return;
    wh_assert(loop->magic == WH_LOOP_MAGIC);
    do {
        on_post(&loop->post_io, EPOLLIN);
        run_deferred(loop);
    } while (loop->deferred.n > 0 || loop->posted.n > 0);
    wh_assert(loop->n_ios == 0);
    wh_assert(loop->n_timers == 0);
    while (loop->signals != NULL) {
        loop_signal *sig = loop->signals;
        loop->signals = sig->next;
        io_remove(&sig->io);
        close(sig->io.fd);
        free(sig);
    }
    io_remove(&loop->post_io);
    close(loop->post_io.fd);
    close(loop->epfd);
    (void)pthread_mutex_destroy(&loop->post_lock);
    free(loop->heap);
    free(loop->deferred.p);
    free(loop->posted.p);
    loop->magic = 0;
    free(loop);
}

/* Milliseconds for epoll_wait, rounded up so that a timer is due when it returns. */
static int wait_ms(const wh_loop *loop, wh_time timeout)
{
    if (loop->deferred.n > 0 || timeout <= 0)
        return 0;
    wh_time next = loop_timers_next(loop);
    if (next != WH_TIME_NEVER)
        timeout = WH_MIN(timeout, WH_MAX(next - wh_mono_now(), (wh_time)0));
    if (timeout == WH_TIME_NEVER)
        return -1;
    wh_time ms = timeout / WH_MSEC + (timeout % WH_MSEC != 0);
    return (int)WH_MIN(ms, (wh_time)INT32_MAX);
}

int wh_loop_once(wh_loop *loop, wh_time timeout)
{
    wh_assert(loop->magic == WH_LOOP_MAGIC);
    int n = epoll_wait(loop->epfd, loop->ready, WH_LOOP_BATCH, wait_ms(loop, timeout));
    if (n < 0 && errno != EINTR)
        return -errno;
    loop->now = wh_mono_now();
    loop->n_ready = WH_MAX(n, 0);
    for (loop->at_ready = 0; loop->at_ready < loop->n_ready; loop->at_ready++) {
        const struct epoll_event *event = &loop->ready[loop->at_ready];
        wh_io *io = event->data.ptr;
        if (io != NULL)
            io->fn(io, event->events);
    }
    loop->n_ready = 0;
    loop_timers_run(loop);
    run_deferred(loop);
    return 0;
}

int wh_loop_run(wh_loop *loop)
{
    while (!loop->stopped) {
        int rc = wh_loop_once(loop, WH_TIME_NEVER);
        if (rc < 0)
            return rc;
    }
    loop->stopped = false; /* only now: who stops the loop before it runs means it */
    return loop->code;
}

void wh_loop_stop(wh_loop *loop, int code)
{
    loop->stopped = true;
    loop->code = code;
}

wh_time wh_loop_now(const wh_loop *loop)
{
    return loop->now;
}

void wh_loop_defer(wh_loop *loop, void (*fn)(void *user), void *user)
{
    wh_assert(loop->magic == WH_LOOP_MAGIC);
    loop_calls_push(&loop->deferred, fn, user);
}

void wh_loop_post(wh_loop *loop, void (*fn)(void *user), void *user)
{
    wh_assert(loop->magic == WH_LOOP_MAGIC);
    (void)pthread_mutex_lock(&loop->post_lock);
    loop_calls_push(&loop->posted, fn, user);
    uint64_t one = 1;
    /* Under the lock, so that the loop is not freed between; EAGAIN means that it is awake already. */
    ssize_t n = write(loop->post_io.fd, &one, sizeof(one));
    (void)n;
    (void)pthread_mutex_unlock(&loop->post_lock);
}

static void on_signal(wh_io *io, uint32_t ready)
{
    (void)ready;
    const loop_signal *sig = io->user;
    struct signalfd_siginfo info;
    while (read(io->fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        sig->fn(&info, sig->user);
}

int wh_loop_signal(wh_loop *loop, int signo, void (*fn)(const struct signalfd_siginfo *info, void *user),
                   void *user, wh_err *err)
{
    for (loop_signal *sig = loop->signals; sig != NULL; sig = sig->next) {
        if (sig->signo == signo) {
            sig->fn = fn;
            sig->user = user;
            return 0;
        }
    }
    sigset_t set;
    (void)sigemptyset(&set);
    if (sigaddset(&set, signo) < 0)
        return wh_fail(err, -errno, "watch signal %d", signo);
    int rc = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (rc != 0)
        return wh_fail(err, -rc, "block signal %d", signo);
    auto_close int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return wh_fail(err, -errno, "watch signal %d", signo);
    loop_signal *sig = wh_xnew(loop_signal);
    rc = io_add(loop, &sig->io, fd, EPOLLIN, on_signal, sig);
    if (rc < 0) {
        free(sig);
        return wh_fail(err, rc, "watch signal %d", signo);
    }
    (void)WH_TAKE_FD(fd);
    sig->signo = signo;
    sig->fn = fn;
    sig->user = user;
    sig->next = loop->signals;
    loop->signals = sig;
    return 0;
}
