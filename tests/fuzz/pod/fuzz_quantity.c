/* SPDX-License-Identifier: Apache-2.0 */
/* Quantities: the parts agree with each other whatever was read. */
#include "pod/quantity.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    wh_quantity q = {0};
    auto_free char *text = wh_xstrndup((const char *)data, n);
    if (wh_quantity_parse(text, &q, NULL) < 0) {
        wh_assert(!q.set);
        return 0;
    }
    int64_t units = wh_quantity_units(q), millis = wh_quantity_millis(q);
    wh_assert(q.nano >= 0 ? units >= 0 : units <= 0);
    wh_assert(units > INT64_MAX / 1000 || units < INT64_MIN / 1000 || units >= millis / 1000);
    wh_assert(wh_quantity_divide(q, (wh_quantity){0}) == units);
    return 0;
}
