/* SPDX-License-Identifier: Apache-2.0 */
/* Kubernetes quantities: "100m", "1.5Gi", "2e3", "128974848". Exact down to a nano unit, as the API server
 * has them. */
#pragma once

#include "base/err.h"

typedef __int128 wh_nano; /* 10^-9 of a unit; finer parts are rounded up */

typedef struct wh_quantity {
    wh_nano nano;
    bool set; /* false: the field was absent */
} wh_quantity;

/* The full grammar of resource.Quantity: sign, digits with a fraction, and n u m k M G T P E, Ki Mi Gi Ti Pi
 * Ei, or an exponent. -EINVAL for another form. What exceeds 2^63-1 units is that number, as in Kubernetes.
 */
int wh_quantity_parse(const char *text, wh_quantity *ret, wh_err *err);
/* Whole units and thousandths, rounded up; clamped to the type. */
int64_t wh_quantity_units(wh_quantity q);
int64_t wh_quantity_millis(wh_quantity q);
/* q / divisor rounded up, as resourceFieldRef wants it; a divisor that is unset or zero counts as 1. */
int64_t wh_quantity_divide(wh_quantity q, wh_quantity divisor);
