/* SPDX-License-Identifier: Apache-2.0 */
/* Egress rules: text of an annotation. */
#include "node/egress.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    wh_egress_rule *rules;
    size_t n_rules;
    wh_err err = {0};
    auto_free char *text = wh_xstrndup((const char *)data, n);
    if (wh_egress_parse(text, &rules, &n_rules, &err) < 0) {
        wh_assert(err.msg[0] != '\0');
        return 0;
    }
    wh_assert(n_rules <= WH_EGRESS_RULES_MAX);
    for (size_t i = 0; i < n_rules; i++) {
        wh_assert(rules[i].host != NULL || rules[i].net.len > 0);
        wh_assert(rules[i].port_first <= rules[i].port_last);
    }
    wh_egress_free(rules, n_rules);
    return 0;
}
