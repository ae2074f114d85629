/* SPDX-License-Identifier: Apache-2.0 */
#include "base/limits.h"
#include "image/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    wh_oci_manifest *m = NULL;
    wh_err err = {0};
    size_t entry;
    if (wh_oci_manifest_parse(WH_TYPE_OCI_INDEX, (const char *)data, n, &m, &err) < 0)
        return 0;
    wh_assert(m->is_index);
    wh_assert(m->n_items <= WH_INDEX_ENTRIES_MAX);
    for (int components = 0; components < 2; components++)
        if (wh_oci_manifest_choose(m, "r", components == 1, &entry, &err) == 0) {
            wh_assert(entry < m->n_items);
            wh_assert(!m->items[entry].attestation);
        }
    wh_oci_manifest_free(m);
    return 0;
}
