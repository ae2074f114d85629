/* SPDX-License-Identifier: Apache-2.0 */
/* The runner's spec: what is accepted can be written again and reads the same. */
#include "base/record.h"
#include "runner/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    auto_runspec wh_runspec *spec = NULL, *again = NULL;
    auto_buf wh_buf b;
    wh_err err = {0};
    if (wh_runspec_read(data, n, &spec, &err) < 0)
        return 0;
    wh_buf_init(&b, WH_RECORD_BYTES_MAX);
    if (wh_runspec_write(spec, &b, &err) < 0)
        return 0; /* defaults may make it longer than allowed */
    wh_assert(wh_runspec_read(b.p, b.len, &again, &err) == 0);
    wh_assert(wh_strv_len(again->args) == wh_strv_len(spec->args));
    wh_assert(again->n_dirs == spec->n_dirs);
    wh_assert(wh_streq(again->id, spec->id));
    return 0;
}
