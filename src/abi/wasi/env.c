/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments, environment, clocks, random bytes, and the end of the process. */
#include "abi/wasi/private.h"

#include <sched.h>
#include <sys/random.h>
#include <time.h>

static int strings_get(wasi_ctx *c, const wasi_strings *s, uint32_t pointers, uint32_t buffer)
{
    const char *p = s->data;
    uint64_t at = pointers, to = buffer;

    for (uint32_t i = 0; i < s->count; i++) {
        size_t n = strlen(p) + 1;
        if (to > UINT32_MAX)
            return wasi_trap_bounds(c, to, n);
        if (wasi_put_u32(c, at, (uint32_t)to) < 0 || wasi_put_bytes(c, to, p, n) < 0)
            return WASI_TRAP;
        at += 4;
        to += n;
        p += n;
    }
    return WASI_SUCCESS;
}

static int strings_sizes(wasi_ctx *c, const wasi_strings *s, uint32_t count_at, uint32_t bytes_at)
{
    if (wasi_ret_u32(c, count_at, s->count, "size") < 0)
        return WASI_TRAP;
    return wasi_ret_u32(c, bytes_at, (uint32_t)s->bytes, "size");
}

int wasi_args_get(wasi_ctx *c, const wh_slot *a)
{
    return strings_get(c, &c->w->args, (uint32_t)a[0].i32, (uint32_t)a[1].i32);
}

int wasi_args_sizes_get(wasi_ctx *c, const wh_slot *a)
{
    return strings_sizes(c, &c->w->args, (uint32_t)a[0].i32, (uint32_t)a[1].i32);
}

int wasi_environ_get(wasi_ctx *c, const wh_slot *a)
{
    return strings_get(c, &c->w->env, (uint32_t)a[0].i32, (uint32_t)a[1].i32);
}

int wasi_environ_sizes_get(wasi_ctx *c, const wh_slot *a)
{
    return strings_sizes(c, &c->w->env, (uint32_t)a[0].i32, (uint32_t)a[1].i32);
}

int wasi_clock_res_get(wasi_ctx *c, const wh_slot *a)
{
    struct timespec ts;
    int32_t id = a[0].i32;

    /* The CPU clocks went away with preview 2; Wasmtime answers so, and libc knows it. */
    if (id != WASI_CLOCK_REALTIME && id != WASI_CLOCK_MONOTONIC)
        return WASI_BADF;
    if (clock_getres(id == WASI_CLOCK_REALTIME ? CLOCK_REALTIME : CLOCK_MONOTONIC, &ts) < 0)
        return wasi_errno(errno);
    uint64_t ns = (uint64_t)ts.tv_sec * WH_SEC + (uint64_t)ts.tv_nsec;
    return wasi_ret_u64(c, (uint32_t)a[1].i32, ns, "timestamp");
}

int wasi_clock_time_get(wasi_ctx *c, const wh_slot *a)
{
    wh_time now;

    if (a[0].i32 == WASI_CLOCK_REALTIME)
        now = wh_real_now();
    else if (a[0].i32 == WASI_CLOCK_MONOTONIC)
        now = wh_mono_now() - c->w->origin;
    else
        return WASI_BADF;
    return wasi_ret_u64(c, (uint32_t)a[2].i32, (uint64_t)now, "timestamp");
}

static int kernel_random(wasi_ctx *c, uint8_t *to, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t got = getrandom(to + done, n - done, 0);
        if (got < 0 && errno != EINTR)
            return wasi_errno(errno);
        if (got < 0 && wasi_interrupted(c))
            return WASI_EXIT;
        done += got > 0 ? (size_t)got : 0;
    }
    return WASI_SUCCESS;
}

int wasi_random_get(wasi_ctx *c, const wh_slot *a)
{
    wh_wasi *w = c->w;
    uint32_t at = (uint32_t)a[0].i32, n = (uint32_t)a[1].i32;

    if (n > WASI_HOST_COPY_MAX)
        return WASI_NOMEM;
    if (n == 0)
        return WASI_SUCCESS;
    if (wasi_check(c, at, n, 1) < 0)
        return WASI_TRAP;
    uint8_t *to = c->frame->mem + at;
    if (n > sizeof(w->random) / 4)
        return kernel_random(c, to, n);
    /* Guests that make keys of hash maps and names of requests ask often and for little: they share one
     * question to the kernel. What was given out is wiped at once. */
    if (n > w->random_left) {
        int rc = kernel_random(c, w->random, sizeof(w->random));
        if (rc != WASI_SUCCESS)
            return rc;
        w->random_left = sizeof(w->random);
    }
    w->random_left -= n;
    memcpy(to, w->random + w->random_left, n);
    explicit_bzero(w->random + w->random_left, n);
    return WASI_SUCCESS;
}

int wasi_sched_yield(wasi_ctx *c, const wh_slot *a)
{
    (void)a;
    if (wasi_interrupted(c))
        return WASI_EXIT;
    sched_yield();
    return WASI_SUCCESS;
}

int wasi_proc_exit(wasi_ctx *c, const wh_slot *a)
{
    /* As exit(3) has it, and so as a container's exit code. Wasmtime refuses 126 and above. */
    c->frame->exit_code = a[0].i32 & 0xff;
    return WASI_EXIT;
}

int wasi_proc_raise(wasi_ctx *c, const wh_slot *a)
{
    (void)c;
    (void)a;
    return WASI_NOTSUP;
}
