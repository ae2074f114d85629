/* SPDX-License-Identifier: Apache-2.0 */
/* YAML: what is accepted must be JSON that can be written and read again. */
#include "base/limits.h"
#include "base/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    auto_json json_t *documents = NULL, *again = NULL;
    wh_err err = {0};
    int rc = wh_yaml_parse((const char *)data, n, &documents, &err);
    if (rc < 0) {
        wh_assert(documents == NULL);
        wh_assert(err.msg[0] != '\0');
        return 0;
    }
    auto_free char *text = wh_json_dump(documents);
    wh_assert(text != NULL);
    /* One level more than a document may have: the list around it. */
    again = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    wh_assert(again != NULL);
    return 0;
}
