/* SPDX-License-Identifier: Apache-2.0 */
/* What measuring programs share. A result is one JSON line on standard output. */
#pragma once

#include "base/clock.h"

#include <stdio.h>
#include <string.h>

/* A value beside what it is compared with: `peer_value` 0 when there is no peer. `goal` is what it should
 * reach, 0 for none. */
static inline WH_UNUSED void bench_report(const char *name, double value, const char *unit, const char *peer,
                                          double peer_value, double goal)
{
    printf("{\"name\": \"%s\", \"value\": %.4g, \"unit\": \"%s\"", name, value, unit);
    if (peer != NULL && peer_value > 0)
        printf(", \"peer\": \"%s\", \"peer_value\": %.4g, \"ratio\": %.3g", peer, peer_value,
               value / peer_value);
    if (goal > 0)
        printf(", \"goal\": %.4g", goal);
    printf("}\n");
    (void)fflush(stdout);
}

/* --quick takes a tenth of the rounds. */
static inline WH_UNUSED int bench_rounds(int argc, char **argv, int rounds)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--quick") == 0)
            return rounds / 10 > 0 ? rounds / 10 : 1;
    }
    return rounds;
}

/* Nanoseconds of one of `n` things that `body` does, the least of `rounds`: what else the machine does only
 * adds. */
#define BENCH_MIN_NS(rounds, n, body)                                      \
    ({                                                                     \
        double least_ = 0;                                                 \
        for (int round_ = 0; round_ < (rounds); round_++) {                \
            wh_time begin_ = wh_mono_now();                                \
            body;                                                          \
            double took_ = (double)(wh_mono_now() - begin_) / (double)(n); \
            if (round_ == 0 || took_ < least_)                             \
                least_ = took_;                                            \
        }                                                                  \
        least_;                                                            \
    })
