/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"
#include "netd/policy.h"

#include <stdio.h>

static wh_netd_ip ip_of(const char *text)
{
    wh_addr addr = {0};
    struct sockaddr_storage raw = {0};
    wh_netd_ip ip;
    CHECK_OK(wh_addr_parse(text, 0, &addr, NULL), NULL);
    memcpy(&raw, &addr.in6, sizeof(addr.in6));
    CHECK_OK(wh_netd_ip_of(&raw, &ip), NULL);
    return ip;
}

TEST(addresses_have_a_class)
{
    static const struct {
        const char *text;
        wh_netd_class class;
    } cases[] = {
        {"8.8.8.8", WH_TARGET_PUBLIC},
        {"2600::1", WH_TARGET_PUBLIC},
        {"10.255.255.255", WH_TARGET_PRIVATE},
        {"11.0.0.0", WH_TARGET_PUBLIC},
        {"172.15.255.255", WH_TARGET_PUBLIC},
        {"172.16.0.0", WH_TARGET_PRIVATE},
        {"172.31.255.255", WH_TARGET_PRIVATE},
        {"172.32.0.0", WH_TARGET_PUBLIC},
        {"192.168.1.1", WH_TARGET_PRIVATE},
        {"100.64.0.1", WH_TARGET_PRIVATE},
        {"100.100.100.200", WH_TARGET_METADATA},
        {"169.254.169.254", WH_TARGET_METADATA},
        {"169.254.1.1", WH_TARGET_LINK_LOCAL},
        {"168.63.129.16", WH_TARGET_METADATA},
        {"127.0.0.1", WH_TARGET_LOOPBACK},
        {"127.255.0.1", WH_TARGET_LOOPBACK},
        {"0.0.0.0", WH_TARGET_LOOPBACK},
        {"0.1.2.3", WH_TARGET_NEVER},
        {"224.0.0.1", WH_TARGET_NEVER},
        {"255.255.255.255", WH_TARGET_NEVER},
        {"::1", WH_TARGET_LOOPBACK},
        {"::", WH_TARGET_LOOPBACK},
        {"::7f00:1", WH_TARGET_NEVER},
        {"::ffff:127.0.0.1", WH_TARGET_LOOPBACK},
        {"::ffff:169.254.169.254", WH_TARGET_METADATA},
        {"64:ff9b::a9fe:a9fe", WH_TARGET_METADATA},
        {"64:ff9b::808:808", WH_TARGET_PUBLIC},
        {"2002:a00:1::1", WH_TARGET_PRIVATE},
        {"fd00:ec2::254", WH_TARGET_METADATA},
        {"fd12::1", WH_TARGET_PRIVATE},
        {"fe80::1", WH_TARGET_LINK_LOCAL},
        {"ff02::1", WH_TARGET_NEVER},
    };
    for (size_t i = 0; i < WH_ARRAY_LEN(cases); i++) {
        wh_netd_ip ip = ip_of(cases[i].text);
        if (wh_netd_classify(&ip) != cases[i].class)
            wh_test_fail(__FILE__, __LINE__, "%s is of class %d", cases[i].text, (int)wh_netd_classify(&ip));
    }
}

static bool is_pod(void *user, const wh_netd_ip *ip)
{
    const wh_netd_ip *pod = user;
    return wh_netd_ip_eq(pod, ip);
}

/* Through the record, as netd gets it. */
static void policy_of(const wh_netd_pod *pod, wh_netd_policy *ret)
{
    auto_buf wh_buf b;
    wh_err err = {0};
    wh_buf_init(&b, WH_NETD_MESSAGE_MAX);
    wh_netd_pod_write(&b, pod);
    CHECK_OK(wh_netd_policy_read(b.p, b.len, ret, &err), &err);
}

static int try(const wh_netd_policy *policy, const char *target)
{
    static wh_netd_ip peer;
    wh_addr addr, to, from;
    struct sockaddr_storage asked = {0};
    const char *reason = NULL;
    peer = ip_of("10.1.0.2");
    wh_netd_world world = {.is_pod = is_pod, .user = &peer, .n_node = 1};
    world.node[0] = ip_of("10.200.0.1");
    CHECK_OK(wh_addr_parse(target, 0, &addr, NULL), NULL);
    memcpy(&asked, &addr.in6, sizeof(addr.in6));
    int rc = wh_netd_policy_connect(policy, &world, &asked, &to, &from, &reason);
    CHECK(rc == 0 || reason != NULL);
    return rc;
}

static wh_egress_rule rule(const char *net, unsigned prefix, uint16_t first, uint16_t last)
{
    wh_egress_rule r = {.prefix = prefix, .port_first = first, .port_last = last};
    CHECK_OK(wh_addr_parse(net, 0, &r.net, NULL), NULL);
    return r;
}

TEST(what_is_open_by_default)
{
    wh_netd_policy p;
    const wh_addr own = {.len = sizeof(own.in4),
                         .in4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x0a010001)}};
    policy_of(&(wh_netd_pod){.id = "a", .addresses = &own, .n_addresses = 1}, &p);
    CHECK_INT(try(&p, "8.8.8.8:53"), ==, 0);
    CHECK_INT(try(&p, "10.1.0.1:80"), ==, 0);  /* itself */
    CHECK_INT(try(&p, "127.0.0.1:80"), ==, 0); /* itself */
    CHECK_INT(try(&p, "10.1.0.2:80"), ==, 0);  /* a pod of the node */
    CHECK_INT(try(&p, "10.1.0.3:80"), ==, -EACCES);
    CHECK_INT(try(&p, "10.200.0.1:10250"), ==, -EACCES);
    CHECK_INT(try(&p, "169.254.169.254:80"), ==, -EACCES);
    CHECK_INT(try(&p, "224.0.0.1:80"), ==, -EACCES);
    CHECK_INT(try(&p, "8.8.8.8:0"), ==, -EINVAL);
    wh_netd_policy_done(&p);
    policy_of(
        &(wh_netd_pod){.id = "a", .addresses = &own, .n_addresses = 1, .closed = true, .isolated = true}, &p);
    CHECK_INT(try(&p, "8.8.8.8:53"), ==, -EACCES);
    CHECK_INT(try(&p, "10.1.0.2:80"), ==, -EACCES);
    CHECK_INT(try(&p, "10.1.0.1:80"), ==, 0);
    wh_netd_policy_done(&p);
    policy_of(&(wh_netd_pod){.id = "host"}, &p); /* on the host's addresses loopback is the node's */
    CHECK_INT(try(&p, "127.0.0.1:22"), ==, -EACCES);
    CHECK_INT(try(&p, "[::1]:22"), ==, -EACCES);
    wh_netd_policy_done(&p);
}

TEST(a_wide_rule_does_not_open_the_node)
{
    wh_netd_policy p;
    wh_egress_rule wide[] = {rule("0.0.0.0", 0, 0, 0), rule("::", 0, 0, 0)};
    policy_of(&(wh_netd_pod){.id = "a", .rules = wide, .n_rules = 2}, &p);
    CHECK_INT(try(&p, "10.9.9.9:80"), ==, 0);
    CHECK_INT(try(&p, "[fd12::1]:80"), ==, 0);
    CHECK_INT(try(&p, "10.200.0.1:80"), ==, -EACCES);
    CHECK_INT(try(&p, "169.254.169.254:80"), ==, -EACCES);
    CHECK_INT(try(&p, "169.254.3.4:80"), ==, -EACCES);
    CHECK_INT(try(&p, "127.0.0.1:80"), ==, -EACCES);
    CHECK_INT(try(&p, "[::1]:80"), ==, -EACCES);
    CHECK_INT(try(&p, "224.0.0.1:80"), ==, -EACCES);
    wh_netd_policy_done(&p);
    wh_egress_rule exact[] = {rule("10.200.0.1", 32, 6443, 6443), rule("169.254.169.254", 32, 0, 0),
                              rule("127.0.0.0", 8, 6379, 6380), rule("224.0.0.0", 4, 0, 0)};
    policy_of(&(wh_netd_pod){.id = "a", .rules = exact, .n_rules = 4}, &p);
    CHECK_INT(try(&p, "10.200.0.1:6443"), ==, 0);
    CHECK_INT(try(&p, "10.200.0.1:6444"), ==, -EACCES);
    CHECK_INT(try(&p, "169.254.169.254:80"), ==, 0);
    CHECK_INT(try(&p, "127.0.0.1:6379"), ==, 0);
    CHECK_INT(try(&p, "127.0.0.1:6381"), ==, -EACCES);
    CHECK_INT(try(&p, "224.0.0.1:80"), ==, -EACCES);
    wh_netd_policy_done(&p);
}

TEST(names_lead_to_private_addresses_and_no_further)
{
    wh_netd_policy p;
    char host[] = "*.Example.org";
    wh_egress_rule rules[] = {{.host = host}};
    policy_of(&(wh_netd_pod){.id = "a", .rules = rules, .n_rules = 1, .closed = true}, &p);
    const char *const yielded[] = {"10.7.7.7", "8.8.4.4", "10.200.0.1", "169.254.169.254", "127.0.0.1"};
    for (size_t i = 0; i < WH_ARRAY_LEN(yielded); i++) {
        wh_netd_ip ip = ip_of(yielded[i]);
        wh_netd_policy_learn(&p, "a.b.example.ORG.", &ip);
    }
    wh_netd_ip other = ip_of("10.8.8.8");
    wh_netd_policy_learn(&p, "example.org", &other); /* not below it */
    wh_netd_policy_learn(&p, "badexample.org", &other);
    CHECK_INT(p.n_known, ==, 5);
    CHECK_INT(try(&p, "10.7.7.7:80"), ==, 0);
    CHECK_INT(try(&p, "8.8.4.4:80"), ==, 0);
    CHECK_INT(try(&p, "10.8.8.8:80"), ==, -EACCES);
    CHECK_INT(try(&p, "10.200.0.1:80"), ==, -EACCES);
    CHECK_INT(try(&p, "169.254.169.254:80"), ==, -EACCES);
    CHECK_INT(try(&p, "127.0.0.1:80"), ==, -EACCES);
    /* The oldest goes. */
    for (unsigned i = 0; i < WH_NETD_KNOWN_MAX; i++) {
        char text[32];
        (void)snprintf(text, sizeof(text), "10.6.0.%u", i);
        wh_netd_ip ip = ip_of(text);
        wh_netd_policy_learn(&p, "a.example.org", &ip);
        CHECK_INT(p.n_known, <=, WH_NETD_KNOWN_MAX);
    }
    CHECK_INT(try(&p, "10.7.7.7:80"), ==, -EACCES);
    CHECK_INT(try(&p, "10.6.0.0:80"), ==, 0);
    wh_netd_policy_done(&p);
}

TEST(rules_and_ports_have_a_limit)
{
    static wh_egress_rule rules[WH_NETD_RULES_MAX + 1];
    static uint16_t ports[WH_NETD_PORTS_MAX + 1];
    wh_netd_policy p;
    for (size_t i = 0; i < WH_ARRAY_LEN(rules); i++)
        rules[i] = rule("10.0.0.0", 8, 0, 0);
    for (size_t i = 0; i < WH_ARRAY_LEN(ports); i++)
        ports[i] = (uint16_t)(i + 1);
    for (size_t over = 0; over <= 2; over++) {
        auto_buf wh_buf b;
        wh_err err = {0};
        wh_buf_init(&b, WH_NETD_MESSAGE_MAX);
        wh_netd_pod_write(&b, &(wh_netd_pod){.id = "a",
                                             .rules = rules,
                                             .n_rules = WH_NETD_RULES_MAX + (over == 1),
                                             .ports = ports,
                                             .n_ports = WH_NETD_PORTS_MAX + (over == 2)});
        CHECK(!b.failed);
        CHECK_INT(wh_netd_policy_read(b.p, b.len, &p, &err), ==, over == 0 ? 0 : -E2BIG);
        if (over == 0)
            wh_netd_policy_done(&p);
    }
}

TEST(names)
{
    char text[WH_NETD_NAME_MAX + 2];
    CHECK(wh_netd_name_ok("a"));
    CHECK(wh_netd_name_ok("_sip._tcp.Example.org."));
    CHECK(!wh_netd_name_ok(""));
    CHECK(!wh_netd_name_ok("."));
    CHECK(!wh_netd_name_ok("a..b"));
    CHECK(!wh_netd_name_ok(".a"));
    CHECK(!wh_netd_name_ok("a b"));
    CHECK(!wh_netd_name_ok("a/b"));
    for (size_t i = 0; i < sizeof(text) - 1; i++)
        text[i] = i % 64 == 63 ? '.' : 'a';
    text[WH_NETD_NAME_MAX + 1] = '\0';
    CHECK(!wh_netd_name_ok(text)); /* 254 bytes */
    text[WH_NETD_NAME_MAX] = '\0';
    CHECK(wh_netd_name_ok(text));
    memset(text, 'a', 64);
    CHECK(!wh_netd_name_ok(text)); /* a label of 64 */
}
