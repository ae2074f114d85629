/* SPDX-License-Identifier: Apache-2.0 */
/* poll_oneoff, and every other wait. A wait ends at once when a signal comes: signals are held back between
 * the last look at the stop request and ppoll, which lets them in again, so that none slips through between
 * the two. */
#include "abi/wasi/private.h"

#include <signal.h>

bool wasi_interrupted(wasi_ctx *c)
{
    const wh_wasi_config *config = &c->w->config;

    if (config->interrupted == NULL || !config->interrupted(config->interrupted_user))
        return false;
    c->frame->exit_code = WASI_STOPPED_EXIT;
    return true;
}

static void hold_signals(sigset_t *old)
{
    sigset_t set;

    /* Faults are the engine's: blocked, they would end the process. */
    sigfillset(&set);
    sigdelset(&set, SIGSEGV);
    sigdelset(&set, SIGBUS);
    sigdelset(&set, SIGILL);
    sigdelset(&set, SIGFPE);
    pthread_sigmask(SIG_BLOCK, &set, old);
}

int wasi_wait(wasi_ctx *c, struct pollfd *fds, nfds_t n, wh_time deadline)
{
    bool watched = c->w->config.interrupted != NULL;
    sigset_t old;
    int rc;

    if (watched)
        hold_signals(&old);
    for (;;) {
        struct timespec ts = {0};
        if (wasi_interrupted(c)) {
            rc = WASI_EXIT;
            break;
        }
        if (deadline != WH_TIME_NEVER) {
            wh_time left = WH_MAX(deadline - wh_mono_now(), (wh_time)0);
            ts = (struct timespec){.tv_sec = left / WH_SEC, .tv_nsec = left % WH_SEC};
        }
        rc = ppoll(fds, n, deadline == WH_TIME_NEVER ? NULL : &ts, watched ? &old : NULL);
        if (rc >= 0 || errno != EINTR)
            break;
    }
    if (watched)
        pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}

int wasi_wait_for(wasi_ctx *c, int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    int rc = wasi_wait(c, &p, 1, WH_TIME_NEVER);
    return rc == WASI_EXIT ? rc : 0;
}

typedef struct subscription {
    uint64_t userdata;
    uint8_t type;
    uint32_t fd;
    int32_t slot;     /* in the pollset's fds; -1: ready without a wait, or a clock */
    wh_time deadline; /* of clocks; ours */
} subscription;

/* The deadline in our time of a timeout in the guest's; WH_TIME_NEVER when it is too far away to tell. */
static int deadline_of(const wasi_ctx *c, uint32_t id, uint64_t timeout, bool absolute, wh_time *ret)
{
    wh_time now = wh_mono_now(), base = now;

    if (id != WASI_CLOCK_REALTIME && id != WASI_CLOCK_MONOTONIC)
        return WASI_INVAL;
    if (absolute)
        base = id == WASI_CLOCK_MONOTONIC ? c->w->origin : now - wh_real_now();
    if (timeout > INT64_MAX || __builtin_add_overflow(base, (wh_time)timeout, ret))
        *ret = WH_TIME_NEVER;
    return 0;
}

static int get_clock(wasi_ctx *c, uint64_t at, subscription *ret)
{
    uint32_t id;
    uint64_t timeout, precision;
    uint16_t flags;

    if (c->call->p0) {
        uint64_t identifier;
        if (wasi_get_u64(c, at, &identifier) < 0)
            return WASI_TRAP;
        at += 8;
    }
    if (wasi_get_u32(c, at, &id) < 0)
        return WASI_TRAP;
    if (id > WASI_CLOCK_THREAD)
        return WASI_INVAL;
    if (wasi_get_u64(c, at + 8, &timeout) < 0 || wasi_get_u64(c, at + 16, &precision) < 0 ||
        wasi_get_u16(c, at + 24, &flags) < 0)
        return WASI_TRAP;
    if ((flags & ~1u) != 0)
        return WASI_INVAL;
    return deadline_of(c, id, timeout, (flags & 1) != 0, &ret->deadline);
}

static int get_subscription(wasi_ctx *c, uint64_t at, subscription *ret)
{
    if (wasi_get_u64(c, at, &ret->userdata) < 0 || wasi_get_u8(c, at + 8, &ret->type) < 0)
        return WASI_TRAP;
    if (ret->type == WASI_EVENT_CLOCK)
        return get_clock(c, at + 16, ret);
    return ret->type <= WASI_EVENT_WRITE ? wasi_get_u32(c, at + 16, &ret->fd) : WASI_INVAL;
}

static int put_event(wasi_ctx *c, uint64_t at, const subscription *s, int error, bool hangup)
{
    bool fd = s->type != WASI_EVENT_CLOCK;

    if (wasi_put_u64(c, at, s->userdata) < 0 || wasi_put_u16(c, at + 8, (uint16_t)error) < 0 ||
        wasi_put_u8(c, at + 10, s->type) < 0 || wasi_put_u64(c, at + 16, fd ? 1 : 0) < 0)
        return WASI_TRAP;
    return wasi_put_u16(c, at + 24, hangup ? 1 : 0);
}

/* What can be waited for: p->fd stays -1 where the answer is "ready" already. */
static int subscribe(wasi_ctx *c, const subscription *s, struct pollfd *p)
{
    bool read = s->type == WASI_EVENT_READ;
    wasi_fd *d = wasi_fd_get(c, (int32_t)s->fd);
    *p = (struct pollfd){.fd = -1, .events = read ? POLLIN : POLLOUT};
    if (d == NULL)
        return WASI_BADF;
    int rc = wasi_fd_resolve(d);
    if (rc != 0)
        return rc;
    switch ((wasi_kind)d->kind) {
    case KIND_STDIN:
    case KIND_STOP:
    case KIND_LISTENER:
        if (!read)
            return WASI_BADF;
        break;
    case KIND_STDOUT:
        if (read)
            return WASI_BADF;
        break;
    case KIND_FILE:
    case KIND_SOCKET:
        break;
    case KIND_FREE:
    case KIND_UNRESOLVED:
    case KIND_DIR:
    default:
        return WASI_BADF;
    }
    rc = wasi_fd_allows(d, RIGHT_POLL_FD_READWRITE);
    if (rc != 0)
        return rc;
    if (d->kind == KIND_STOP)
        atomic_store_explicit(&c->w->stop_claimed, true, memory_order_relaxed);
    if (!d->ready)
        p->fd = d->fd;
    return 0;
}

/* At its end, a regular file is ready to say so. */
static bool file_at_end(const wasi_ctx *c, const subscription *s)
{
    struct stat st;
    const wasi_fd *d = wasi_fd_get(c, (int32_t)s->fd);

    if (s->type != WASI_EVENT_READ || d == NULL || (d->kind == KIND_STDIN && c->w->config.read != NULL))
        return false;
    if (d->fd < 0)
        return true;
    off_t at = lseek(d->fd, 0, SEEK_CUR);
    return at >= 0 && fstat(d->fd, &st) == 0 && at >= st.st_size;
}

typedef struct pollset {
    struct pollfd *fds;
    nfds_t n_fds;
    subscription *subs;
    uint32_t n;
    wh_time deadline;
    bool ready; /* something is ready without a wait */
} pollset;

static int read_all(wasi_ctx *c, uint32_t at, pollset *set)
{
    const uint64_t stride = c->call->p0 ? 56 : 48;

    for (uint32_t i = 0; i < set->n; i++) {
        subscription *s = &set->subs[i];
        struct pollfd *p = &set->fds[set->n_fds];
        int rc = get_subscription(c, at + stride * i, s);
        s->slot = -1;
        if (rc == 0 && s->type != WASI_EVENT_CLOCK) {
            rc = subscribe(c, s, p);
            if (p->fd < 0)
                set->ready = true;
            else
                s->slot = (int32_t)set->n_fds++;
        } else if (rc == 0) {
            set->deadline = WH_MIN(set->deadline, s->deadline);
        }
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int write_events(wasi_ctx *c, uint32_t at, const pollset *set, uint32_t *ret_n)
{
    wh_time now = set->deadline == WH_TIME_NEVER ? 0 : wh_mono_now();
    uint32_t n = 0;

    for (uint32_t i = 0; i < set->n; i++) {
        const subscription *s = &set->subs[i];
        int revents = s->slot >= 0 ? set->fds[s->slot].revents : 0;
        if (s->type == WASI_EVENT_CLOCK ? s->deadline > now : (s->slot >= 0 && revents == 0))
            continue;
        bool hangup = s->slot >= 0 ? (revents & (POLLHUP | POLLERR)) != 0 : file_at_end(c, s);
        int error = (revents & POLLNVAL) != 0 ? WASI_BADF : WASI_SUCCESS;
        if (put_event(c, at + UINT64_C(32) * n++, s, error, hangup) < 0)
            return WASI_TRAP;
    }
    *ret_n = n;
    return 0;
}

static int poll_set(wasi_ctx *c, const wh_slot *a, struct pollfd *fds, subscription *subs)
{
    pollset set = {.fds = fds, .subs = subs, .n = (uint32_t)a[2].i32, .deadline = WH_TIME_NEVER};
    uint32_t n = 0;

    int rc = read_all(c, (uint32_t)a[0].i32, &set);
    if (rc != 0)
        return rc;
    while (n == 0) {
        rc = wasi_wait(c, set.fds, set.n_fds, set.ready ? 0 : set.deadline);
        if (rc < 0)
            return rc == WASI_EXIT ? rc : wasi_errno(errno);
        rc = write_events(c, (uint32_t)a[1].i32, &set, &n);
        if (rc != 0)
            return rc;
    }
    return wasi_ret_u32(c, (uint32_t)a[3].i32, n, "size");
}

int wasi_poll_oneoff(wasi_ctx *c, const wh_slot *a)
{
    struct pollfd few_fds[8];
    subscription few_subs[8];
    uint32_t n = (uint32_t)a[2].i32;

    if (n == 0)
        return WASI_INVAL; /* it would be for ever */
    if (n <= WH_ARRAY_LEN(few_fds))
        return poll_set(c, a, few_fds, few_subs);
    if (n > WH_GUEST_POLL_MAX)
        return WASI_NOMEM;
    struct pollfd *fds = malloc(n * sizeof(*fds));
    subscription *subs = malloc(n * sizeof(*subs));
    int rc = fds == NULL || subs == NULL ? WASI_NOMEM : poll_set(c, a, fds, subs);
    free(fds);
    free(subs);
    return rc;
}
