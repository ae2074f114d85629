/* SPDX-License-Identifier: Apache-2.0 */
#include "prepare/component.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    wh_component_outline outline;
    wh_err err = {0};
    if (wh_component_outline_parse(data, n, &outline, &err) < 0) {
        wh_assert(err.msg[0] != '\0');
        return 0;
    }
    auto_buf wh_buf missing;
    wh_buf_init(&missing, 4096);
    wh_assert(wh_component_missing_imports(&outline, &missing) <= outline.n_imports);
    for (size_t i = 0; i < missing.len; i++)
        wh_assert((unsigned char)missing.p[i] >= 0x20);
    wh_component_outline_done(&outline);
    return 0;
}
