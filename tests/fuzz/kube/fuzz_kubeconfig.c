/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/kubeconfig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    wh_kubeconfig config = {0};
    wh_err err = {0};
    int r = wh_kubeconfig_parse((const char *)data, n, "/nonexistent", NULL, &config, &err);
    wh_assert(r <= 0);
    if (r < 0) {
        wh_assert(err.code == r && err.msg[0] != '\0');
        return 0;
    }
    wh_assert(config.server != NULL && config.user != NULL);
    wh_assert((config.cert_pem == NULL) == (config.key_pem == NULL));
    wh_kubeconfig_done(&config);
    return 0;
}
