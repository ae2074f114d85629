/* SPDX-License-Identifier: Apache-2.0 */
/* What passes the check can be read to its end, and writes back the same bytes. */
#include "base/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    wh_err err = {0};
    auto_buf wh_buf copy;
    wh_buf_init(&copy, WH_RECORD_BYTES_MAX);
    bool good = wh_record_check(data, n, &err) == 0;
    wh_record_iter it = wh_record_begin(data, n);
    wh_field field;
    while (wh_record_next(&it, &field)) {
        int64_t number = 0;
        auto_free char *key = wh_xstrndup(field.key.p, field.key.n);
        auto_free char *text = wh_field_strdup(&field);
        if (wh_field_i64(&field, -1000, 1000, &number, &err) == 0) {
            wh_assert(number >= -1000);
            wh_assert(number <= 1000);
        }
        wh_record_put(&copy, key, field.value.p, field.value.n);
    }
    wh_assert(!good || it.p == it.end);
    if (good && n > 0) {
        wh_assert(copy.len == n);
        wh_assert(memcmp(copy.p, data, n) == 0);
    }
    return 0;
}
