/* SPDX-License-Identifier: Apache-2.0 */
/* poll_oneoff over clocks and descriptors, alone and mixed. */
#include "base/clock.h"
#include "base/limits.h"
#include "guest.h"

#include <fcntl.h>
#include <stdio.h>

#define SUBS 2048
#define EVENTS 8192
#define MS (UINT64_C(1000) * 1000)

static void sub_clock(guest *g, uint32_t i, uint32_t id, uint64_t timeout, uint32_t flags)
{
    uint32_t at = SUBS + 48 * i;
    memset(g->mem + at, 0, 48);
    guest_set64(g, at, 1000 + i);
    guest_set32(g, at + 16, id);
    guest_set64(g, at + 24, timeout);
    guest_set32(g, at + 40, flags);
}

static void sub_fd(guest *g, uint32_t i, bool write, int fd)
{
    uint32_t at = SUBS + 48 * i;
    memset(g->mem + at, 0, 48);
    guest_set64(g, at, 1000 + i);
    g->mem[at + 8] = write ? 2 : 1;
    guest_set32(g, at + 16, (uint32_t)fd);
}

static int poll_all(guest *g, uint32_t n)
{
    return CALL(g, "poll_oneoff", SUBS, EVENTS, n, RET_AT);
}

static uint64_t event_of(const guest *g, uint32_t i)
{
    return guest_u64(g, EVENTS + 32 * i);
}

static bool hung_up(const guest *g, uint32_t i)
{
    return g->mem[EVENTS + 32 * i + 24] == 1;
}

TEST(clocks_wait_as_long_as_told)
{
    auto_guest *g = guest_new(NULL);
    for (uint32_t id = 0; id < 2; id++) {
        wh_time began = wh_mono_now();
        sub_clock(g, 0, id, 20 * MS, 0);
        CHECK_INT(poll_all(g, 1), ==, OK);
        CHECK_INT(wh_mono_now() - began, >=, 20 * WH_MSEC);
        CHECK_INT(guest_u32(g, RET_AT), ==, 1);
        CHECK_INT(event_of(g, 0), ==, 1000);
        CHECK_INT(guest_u32(g, EVENTS + 8), ==, 0); /* no error, type clock */
    }
    wh_time began = wh_mono_now();
    CHECK_INT(CALL(g, "clock_time_get", 1, 0, 8), ==, OK);
    sub_clock(g, 0, 1, guest_u64(g, 8) + 20 * MS, 1);
    CHECK_INT(poll_all(g, 1), ==, OK);
    CHECK_INT(wh_mono_now() - began, >=, 19 * WH_MSEC);
    began = wh_mono_now();
    CHECK_INT(CALL(g, "clock_time_get", 0, 0, 8), ==, OK);
    sub_clock(g, 0, 0, guest_u64(g, 8) + 20 * MS, 1);
    CHECK_INT(poll_all(g, 1), ==, OK);
    CHECK_INT(wh_mono_now() - began, >=, 19 * WH_MSEC);
    sub_clock(g, 0, 0, 5, 1); /* long ago */
    sub_clock(g, 1, 1, UINT64_MAX, 0);
    sub_clock(g, 2, 1, 0, 0);
    CHECK_INT(poll_all(g, 3), ==, OK);
    CHECK_INT(guest_u32(g, RET_AT), ==, 2);
    CHECK_INT(event_of(g, 1), ==, 1002);
}

TEST(what_cannot_be_waited_for)
{
    auto_guest *g = guest_new(NULL);
    CHECK_INT(poll_all(g, 0), ==, EINVAL_);
    sub_clock(g, 0, 2, 0, 0);
    CHECK_INT(poll_all(g, 1), ==, EINVAL_);
    sub_clock(g, 0, 9, 0, 0);
    CHECK_INT(poll_all(g, 1), ==, EINVAL_);
    sub_clock(g, 0, 0, 0, 2);
    CHECK_INT(poll_all(g, 1), ==, EINVAL_);
    sub_fd(g, 0, false, 0);
    g->mem[SUBS + 8] = 3;
    CHECK_INT(poll_all(g, 1), ==, EINVAL_);
    struct {
        bool write;
        int fd;
    } bad[] = {{false, 1}, {true, 0}, {false, DIR_FD}, {true, DIR_FD}, {false, 77}, {true, -1}};
    for (size_t i = 0; i < WH_ARRAY_LEN(bad); i++) {
        sub_fd(g, 0, bad[i].write, bad[i].fd);
        CHECK_INT(poll_all(g, 1), ==, EBADF_);
    }
    sub_clock(g, 0, 0, 0, 0);
    CHECK_INT(CALL(g, "poll_oneoff", SUBS, 65532, 1, RET_AT), ==, TRAPPED);
    CHECK_INT(CALL(g, "poll_oneoff", 65500, EVENTS, 1, RET_AT), ==, TRAPPED);
    CHECK_INT(CALL(g, "poll_oneoff", SUBS, EVENTS, 1, 2), ==, TRAPPED);
}

TEST(subscriptions_have_a_limit)
{
    auto_guest *g = guest_new(NULL);
    memset(g->mem, 0, PAGE);
    CHECK_INT(CALL(g, "poll_oneoff", 0, 0, WH_GUEST_POLL_MAX + 1, 0), ==, ENOMEM_);
    CHECK_INT(CALL(g, "poll_oneoff", 0, 0, WH_GUEST_POLL_MAX, 0), ==,
              TRAPPED); /* they do not fit in a page */
    CHECK_INT(CALL(g, "poll_oneoff", 0, 0, 1000, 60000), ==, OK);
    CHECK_INT(guest_u32(g, 60000), ==, 1000);
}

TEST(files_are_ready_and_say_when_they_end)
{
    auto_guest *g = guest_new(NULL);
    char text[8];
    uint32_t n;
    int fd;
    host_write(g, "f", "x");
    CHECK_INT(open_at(g, 0, "f", 0, RW, 0, &fd), ==, OK);
    sub_fd(g, 0, false, fd);
    sub_fd(g, 1, true, fd);
    sub_clock(g, 2, 1, 60000 * MS, 0);
    CHECK_INT(poll_all(g, 3), ==, OK);
    CHECK_INT(guest_u32(g, RET_AT), ==, 2);
    CHECK(!hung_up(g, 0));
    CHECK_INT(g->mem[EVENTS + 10], ==, 1);
    CHECK_INT(g->mem[EVENTS + 32 + 10], ==, 2);
    CHECK_INT(guest_u64(g, EVENTS + 16), ==, 1);
    CHECK_INT(read_fd(g, fd, 4, text, &n), ==, OK);
    CHECK_INT(poll_all(g, 3), ==, OK);
    CHECK(hung_up(g, 0));
    CHECK(!hung_up(g, 1));
}

TEST(streams_and_clocks_mix)
{
    int in[2], out[2];
    CHECK_INT(pipe2(in, O_CLOEXEC), ==, 0);
    CHECK_INT(pipe2(out, O_CLOEXEC | O_NONBLOCK), ==, 0);
    wh_wasi_config config = {.stdin_fd = in[0], .stdout_fd = out[1], .stderr_fd = -1, .trace_fd = -1};
    auto_guest *g = guest_new(&config);
    sub_fd(g, 0, false, 0);
    sub_clock(g, 1, 1, 20 * MS, 0);
    CHECK_INT(poll_all(g, 2), ==, OK);
    CHECK_INT(guest_u32(g, RET_AT), ==, 1);
    CHECK_INT(event_of(g, 0), ==, 1001);
    CHECK_INT(write(in[1], "x", 1), ==, 1);
    sub_clock(g, 1, 1, 60000 * MS, 0);
    CHECK_INT(poll_all(g, 2), ==, OK);
    CHECK_INT(event_of(g, 0), ==, 1000);
    CHECK(!hung_up(g, 0));
    close(in[1]);
    CHECK_INT(poll_all(g, 2), ==, OK);
    CHECK(hung_up(g, 0));
    sub_fd(g, 0, true, 1);
    CHECK_INT(poll_all(g, 1), ==, OK);
    char full[4096] = {0};
    while (write(out[1], full, sizeof(full)) > 0)
        ;
    sub_clock(g, 1, 1, 10 * MS, 0);
    CHECK_INT(poll_all(g, 2), ==, OK);
    CHECK_INT(event_of(g, 0), ==, 1001);
    sub_fd(g, 0, true, 2); /* goes nowhere: always ready */
    CHECK_INT(poll_all(g, 1), ==, OK);
}

TEST(many_subscriptions_of_one_descriptor)
{
    int in[2];
    CHECK_INT(pipe2(in, O_CLOEXEC), ==, 0);
    wh_wasi_config config = {.stdin_fd = in[0], .stdout_fd = -1, .stderr_fd = -1, .trace_fd = -1};
    auto_guest *g = guest_new(&config);
    CHECK_INT(write(in[1], "x", 1), ==, 1);
    for (uint32_t i = 0; i < 100; i++)
        sub_fd(g, i, false, 0);
    CHECK_INT(poll_all(g, 100), ==, OK);
    CHECK_INT(guest_u32(g, RET_AT), ==, 100);
    CHECK_INT(event_of(g, 99), ==, 1099);
}

TEST(polling_the_stop_descriptor_claims_it)
{
    auto_guest *g = guest_new(NULL);
    wh_err err = {0};
    int stop[2], fd;
    CHECK_INT(pipe2(stop, O_CLOEXEC), ==, 0);
    CHECK_OK(wh_wasi_preopen_stop(g->wasi, stop[0], &fd, &err), &err);
    sub_fd(g, 0, false, fd);
    sub_clock(g, 1, 1, 1 * MS, 0);
    CHECK_INT(poll_all(g, 2), ==, OK);
    CHECK_INT(event_of(g, 0), ==, 1001);
    CHECK(wh_wasi_stop_claimed(g->wasi));
    CHECK_INT(write(stop[1], "TERM\n", 5), ==, 5);
    CHECK_INT(poll_all(g, 1), ==, OK);
    CHECK_INT(event_of(g, 0), ==, 1000);
}

TEST(subscriptions_of_the_first_wasi)
{
    auto_guest *g = guest_new(NULL);
    g->module = "wasi_unstable";
    memset(g->mem + SUBS, 0, 112);
    guest_set64(g, SUBS, 7);
    guest_set64(g, SUBS + 16, 99); /* an identifier, of no use */
    guest_set32(g, SUBS + 24, 1);
    guest_set64(g, SUBS + 32, 1 * MS);
    guest_set64(g, SUBS + 56, 8);
    g->mem[SUBS + 56 + 8] = 2;
    guest_set32(g, SUBS + 56 + 16, 1);
    CHECK_INT(poll_all(g, 2), ==, OK);
    CHECK_INT(guest_u32(g, RET_AT), ==, 1);
    CHECK_INT(event_of(g, 0), ==, 8);
    CHECK_INT(poll_all(g, 1), ==, OK);
    CHECK_INT(event_of(g, 0), ==, 7);
}
