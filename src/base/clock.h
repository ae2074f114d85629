/* SPDX-License-Identifier: Apache-2.0 */
/* Time is nanoseconds in a signed 64-bit integer. What decides takes `now` as an argument; what acts asks here. */
#pragma once

#include "base/err.h"

typedef int64_t wh_time;

#define WH_USEC ((wh_time)1000)
#define WH_MSEC ((wh_time)1000 * 1000)
#define WH_SEC ((wh_time)1000 * 1000 * 1000)
#define WH_MINUTE (60 * WH_SEC)
#define WH_HOUR (60 * WH_MINUTE)
#define WH_TIME_NEVER INT64_MAX

wh_time wh_mono_now(void); /* CLOCK_MONOTONIC */
wh_time wh_real_now(void); /* CLOCK_REALTIME, since 1970 */

#define WH_RFC3339_LEN 36
/* RFC 3339 in UTC with `digits` (0, 6 or 9) fraction digits: "2026-01-02T03:04:05Z". */
const char *wh_rfc3339(wh_time real, int digits, char out[WH_RFC3339_LEN]);
/* Accepts any offset and 0 to 9 fraction digits; -EINVAL. */
int wh_rfc3339_parse(const char *s, wh_time *ret);

/* Random bytes from the kernel; cannot fail after boot. */
void wh_random(void *out, size_t n);
/* A small seeded generator for tests, jitter and simulations (splitmix64); not for secrets. */
typedef struct wh_rng {
    uint64_t state;
} wh_rng;
uint64_t wh_rng_next(wh_rng *rng);
uint64_t wh_rng_below(wh_rng *rng, uint64_t bound); /* 0 .. bound-1; bound > 0 */
