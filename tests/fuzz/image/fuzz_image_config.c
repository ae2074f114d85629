/* SPDX-License-Identifier: Apache-2.0 */
#include "image/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    wh_image_config config;
    wh_err err = {0};
    if (wh_image_config_parse((const char *)data, n, &config, &err) < 0)
        return 0;
    for (size_t i = 0; i < wh_strv_len(config.diff_ids); i++)
        wh_assert(wh_digest_valid(config.diff_ids[i]));
    wh_image_config_done(&config);
    return 0;
}
