/* SPDX-License-Identifier: Apache-2.0 */
/* What parses can be written, and parses again to the same value. */
#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    wh_err err = {0};
    auto_json json_t *j = NULL;
    if (wh_json_parse((const char *)data, n, &j, &err) < 0) {
        wh_assert(err.code == -EBADMSG);
        return 0;
    }
    (void)wh_json_at(j, "a.b.c");
    (void)wh_json_str(j, "a");
    (void)wh_json_int(j, "n", 0);
    auto_free char *text = wh_json_dump(j);
    auto_json json_t *again = NULL;
    wh_assert(wh_json_parse(text, strlen(text), &again, &err) == 0);
    auto_free char *second = wh_json_dump(again);
    wh_assert(strcmp(text, second) == 0); /* the text, since a real number may lose its last digit once */
    return 0;
}
