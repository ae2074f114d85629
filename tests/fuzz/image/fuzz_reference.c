/* SPDX-License-Identifier: Apache-2.0 */
/* A reference that parses prints as one that parses to the same. */
#include "image/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    wh_ref ref, again;
    wh_err err = {0};
    auto_free char *text = wh_xstrndup((const char *)data, n);
    if (wh_ref_parse(text, &ref, &err) < 0) {
        wh_assert(err.msg[0] != '\0');
        return 0;
    }
    auto_free char *printed = wh_ref_text(&ref);
    wh_assert(wh_ref_parse(printed, &again, NULL) == 0);
    auto_free char *twice = wh_ref_text(&again);
    wh_assert(strcmp(printed, twice) == 0);
    wh_ref_done(&ref);
    wh_ref_done(&again);
    return 0;
}
