/* SPDX-License-Identifier: Apache-2.0 */
/* Moves the deadline clock of guests while some run, on a thread that is made when it is first needed. */
#pragma once

#include "base/clock.h"

#define WH_SERVE_TICK (10 * WH_MSEC)

typedef struct wh_ticker wh_ticker;

/* `tick` runs on the ticker's thread each WH_SERVE_TICK, from the first hold to a second after the last release. */
wh_ticker *wh_ticker_new(void (*tick)(void *user), void *user);
void wh_ticker_hold(wh_ticker *ticker);    /* a guest begins; cheap while it ticks */
void wh_ticker_release(wh_ticker *ticker); /* and ended */
void wh_ticker_free(wh_ticker *ticker);    /* waits for its thread */
