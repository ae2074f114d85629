/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"
#include "node/egress.h"

#include "base/buf.h"

#include <stdio.h>

static wh_egress_rule *rules;
static size_t n;

static void parse(const char *text, size_t expected)
{
    wh_err err = {0};
    CHECK_OK(wh_egress_parse(text, &rules, &n, &err), &err);
    CHECK_INT(n, ==, expected);
}

TEST(rules_name_hosts_addresses_and_ports)
{
    char text[WH_ADDR_TEXT_MAX];
    parse("api.Example.org:443, *.example.net ,10.0.0.0/8:5432,[fd00::/8]:80-90, 192.0.2.1, ::1", 6);
    CHECK_STR(rules[0].host, "api.example.org");
    CHECK_INT(rules[0].port_first, ==, 443);
    CHECK_INT(rules[0].port_last, ==, 443);
    CHECK_STR(rules[1].host, "*.example.net");
    CHECK_INT(rules[1].port_first, ==, 0);
    CHECK(rules[2].host == NULL);
    CHECK_STR(wh_addr_ip(&rules[2].net, text), "10.0.0.0");
    CHECK_INT(rules[2].prefix, ==, 8);
    CHECK_INT(rules[2].port_first, ==, 5432);
    CHECK_STR(wh_addr_ip(&rules[3].net, text), "fd00::");
    CHECK_INT(rules[3].prefix, ==, 8);
    CHECK_INT(rules[3].port_last, ==, 90);
    CHECK_INT(rules[4].prefix, ==, 32);
    CHECK_INT(rules[5].prefix, ==, 128);
    wh_egress_free(rules, n);
    parse("none", 0);
    wh_egress_free(rules, n);
}

TEST(what_is_no_rule_is_named)
{
    static const char *const bad[] = {"",         "a b",          "10.0.0.0/33", "host:0",      "host:65536",
                                      "host:9-1", "*.",           "[::1",        "[::1]x",      "300.1.1.1",
                                      "-x.org",   "a.org,,b.org", "::/129",      "host:80:81:", "x/8"};
    for (size_t i = 0; i < WH_ARRAY_LEN(bad); i++) {
        wh_err err = {0};
        rules = NULL;
        int rc = wh_egress_parse(bad[i], &rules, &n, &err);
        if (rc != -EINVAL)
            (void)fprintf(stderr, "'%s' was taken\n", bad[i]);
        CHECK_INT(rc, ==, -EINVAL);
        CHECK_CONTAINS(err.msg, "egress rule '");
        CHECK(rules == NULL);
    }
}

TEST(the_number_of_rules_has_a_limit)
{
    auto_buf wh_buf text;
    wh_err err = {0};
    wh_buf_init(&text, 4096);
    for (int i = 0; i < WH_EGRESS_RULES_MAX; i++)
        wh_buf_printf(&text, "%sh%d.org", i > 0 ? "," : "", i);
    parse(wh_buf_str(&text), WH_EGRESS_RULES_MAX);
    wh_egress_free(rules, n);
    wh_buf_puts(&text, ",one.more");
    CHECK_FAIL(wh_egress_parse(wh_buf_str(&text), &rules, &n, &err), -E2BIG);
}
