/* SPDX-License-Identifier: Apache-2.0 */
/* Parses credentials, and matches them against an image. */
#include "image/auth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    wh_credential *list = NULL;
    const wh_credential **fit = NULL;
    size_t n_list = 0, n_fit = 0;
    wh_ref ref;
    wh_err err = {0};
    if (wh_credentials_parse((const char *)data, n, &list, &n_list, &err) < 0) {
        wh_assert(n_list == 0);
        return 0;
    }
    wh_assert(wh_ref_parse("registry.example:5000/team/x:v1", &ref, NULL) == 0);
    wh_credentials_match(list, n_list, &ref, &fit, &n_fit);
    wh_assert(n_fit <= n_list);
    free((void *)fit);
    wh_ref_done(&ref);
    wh_credentials_free(list, n_list);
    return 0;
}
