/* SPDX-License-Identifier: Apache-2.0 */
/* Egress rules from text: "api.example.org:443, *.example.net, 10.0.0.0/8:5432, [fd00::/8]:80-90"; "none": nothing. */
#pragma once

#include "netd/netd.h"

#define WH_EGRESS_RULES_MAX 64

/* -EINVAL names the rule. *ret is the caller's: wh_egress_free. */
int wh_egress_parse(const char *text, wh_egress_rule **ret, size_t *ret_n, wh_err *err);
void wh_egress_free(wh_egress_rule *rules, size_t n);
