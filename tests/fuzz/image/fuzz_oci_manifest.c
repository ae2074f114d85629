/* SPDX-License-Identifier: Apache-2.0 */
/* The first byte chooses the Content-Type; then a manifest, and what we would do with it. */
#include "base/limits.h"
#include "image/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char *const types[] = {NULL, WH_TYPE_OCI_MANIFEST, WH_TYPE_DOCKER_MANIFEST, "text/plain"};
    wh_oci_manifest *m = NULL;
    wh_plan plan;
    wh_err err = {0};
    if (n == 0 || wh_oci_manifest_parse(types[data[0] % 4], (const char *)data + 1, n - 1, &m, &err) < 0)
        return 0;
    if (!m->is_index) {
        wh_assert(wh_digest_valid(m->config.digest));
        wh_assert(m->n_items <= WH_MANIFEST_LAYERS_MAX);
        if (wh_oci_manifest_plan(m, "r", &plan, &err) == 0)
            wh_assert(plan.layer < m->n_items);
    }
    wh_oci_manifest_free(m);
    return 0;
}
