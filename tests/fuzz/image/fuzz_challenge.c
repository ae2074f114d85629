/* SPDX-License-Identifier: Apache-2.0 */
#include "image/auth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    wh_challenge c;
    wh_err err = {0};
    auto_free char *text = wh_xstrndup((const char *)data, n);
    if (wh_challenge_parse(text, &c, &err) < 0) {
        wh_assert(err.msg[0] != '\0');
        return 0;
    }
    wh_assert(c.scheme != WH_AUTH_NONE);
    if (c.scheme == WH_AUTH_BEARER)
        wh_assert(c.realm != NULL);
    wh_challenge_done(&c);
    return 0;
}
