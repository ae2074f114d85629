/* SPDX-License-Identifier: Apache-2.0 */
#include "net/addr.h"

#include "harness.h"

static void parses(const char *text, int port, const char *expected)
{
    wh_addr addr;
    wh_err err = {0};
    char out[WH_ADDR_TEXT_MAX];
    CHECK_OK(wh_addr_parse(text, port, &addr, &err), &err);
    CHECK_STR(wh_addr_text(&addr, out), expected);
}

static void refuses(const char *text, const char *why)
{
    wh_addr addr;
    wh_err err = {0};
    CHECK_ERR(wh_addr_parse(text, -1, &addr, &err), -EINVAL, &err, why);
}

TEST(addresses_are_read_and_written)
{
    parses("127.0.0.1:80", -1, "127.0.0.1:80");
    parses("127.0.0.1", 10250, "127.0.0.1:10250");
    parses("[::1]:80", -1, "[::1]:80");
    parses("[fd00::1]", 7, "[fd00::1]:7");
    parses("fd00::1", 7, "[fd00::1]:7");
    parses(":80", -1, "[::]:80");
    parses("[::ffff:10.0.0.1]:5", -1, "10.0.0.1:5");
    parses("unix:/run/x.sock", -1, "unix:/run/x.sock");
}

TEST(what_is_no_address_is_refused)
{
    refuses("127.0.0.1", "a port is missing");
    refuses("127.0.0.1:", "no number from 0 to 65535");
    refuses("127.0.0.1:65536", "no number from 0 to 65535");
    refuses("127.0.0.1:-1", "no number");
    refuses("localhost:80", "names are not looked up");
    refuses("[::1", "needs a ']'");
    refuses("[::1]80", "needs a ']'");
    refuses("[127.0.0.1]:80", "is no IP address");
    refuses("unix:relative", "is absolute");
    char text[300] = "unix:/";
    memset(text + 6, 'a', 110);
    refuses(text, "less than 108 bytes");
    memset(text, '1', 200);
    text[200] = '\0';
    refuses(text, "expected IP:PORT");
}

TEST(global_unicast_is_what_the_api_server_accepts)
{
    static const struct {
        const char *ip;
        bool global;
    } table[] = {
        {"10.1.2.3", true},
        {"192.0.2.1", true},
        {"127.0.0.1", false},
        {"169.254.1.1", false},
        {"224.0.0.1", false},
        {"0.0.0.0", false},
        {"255.255.255.255", false},
        {"fd00::1", true},
        {"2001:db8::1", true},
        {"::1", false},
        {"fe80::1", false},
        {"ff02::1", false},
        {"::", false},
        {"::ffff:127.0.0.1", false},
    };
    for (size_t i = 0; i < WH_ARRAY_LEN(table); i++) {
        wh_addr addr;
        CHECK_OK(wh_addr_parse(table[i].ip, 1, &addr, NULL), NULL);
        if (wh_addr_is_global_unicast(&addr) != table[i].global)
            wh_test_fail(__FILE__, __LINE__, "%s", table[i].ip);
    }
}

TEST(the_node_has_an_address)
{
    wh_addr addr;
    wh_err err = {0};
    char ip[WH_ADDR_TEXT_MAX];
    CHECK_OK(wh_addr_of_node(AF_INET, &addr, &err), &err);
    CHECK(wh_addr_ip(&addr, ip)[0] != '\0');
    CHECK_INT(wh_addr_port(&addr), ==, 0);
}
