/* SPDX-License-Identifier: Apache-2.0 */
#include "pods.h"

#include "pod/dns.h"

#define NODE "# ours\nnameserver 9.9.9.9\nsearch corp.example\noptions ndots:1 edns0\n"
#define POD(fields) "spec:\n" fields "  containers: [{name: c, image: 'a/b:1'}]\n"

static char server[] = "10.96.0.10";
static char *const servers[] = {server, NULL};
static const wh_pod_dns node = {.resolv_conf = NODE, .servers = servers, .domain = "cluster.local"};

static void check(const char *fields, const wh_pod_dns *dns, const char *expected)
{
    auto_pod_spec wh_pod_spec *spec = pod(fields);
    auto_free char *text = wh_pod_resolv_conf(spec, dns);
    CHECK_STR(text, expected);
}

#define CLUSTER                                                                             \
    "nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local " \
    "corp.example\noptions ndots:5\n"
#define DEFAULT "nameserver 9.9.9.9\nsearch corp.example\noptions ndots:1 edns0\n"

TEST(a_policy_chooses_where_names_come_from)
{
    const wh_pod_dns no_cluster = {.resolv_conf = NODE};
    check(POD(""), &node, CLUSTER);
    check(POD("  dnsPolicy: ClusterFirst\n"), &node, CLUSTER);
    check(POD("  dnsPolicy: ClusterFirst\n  hostNetwork: true\n"), &node, DEFAULT);
    check(POD("  dnsPolicy: ClusterFirstWithHostNet\n  hostNetwork: true\n"), &node, CLUSTER);
    check(POD("  dnsPolicy: Default\n"), &node, DEFAULT);
    check(POD("  dnsPolicy: ClusterFirst\n"), &no_cluster, DEFAULT);
    check(POD("  dnsPolicy: None\n  dnsConfig: {nameservers: [1.1.1.1]}\n"), &node, "nameserver 1.1.1.1\n");
}

TEST(a_config_is_added_and_its_options_win)
{
    check(POD("  dnsConfig: {nameservers: [1.1.1.1, 10.96.0.10], searches: [my.example], "
              "options: [{name: ndots, value: '2'}, {name: single-request}]}\n"),
          &node,
          "nameserver 10.96.0.10\nnameserver 1.1.1.1\nsearch shop.svc.cluster.local svc.cluster.local "
          "cluster.local corp.example my.example\noptions ndots:2 single-request\n");
}

TEST(what_could_break_a_line_is_left_out)
{
    check(POD("  dnsPolicy: None\n  dnsConfig: {nameservers: [\"1.1.1.1\\nnameserver 6.6.6.6\", 2.2.2.2], "
              "searches: [\"a b\"], options: [{name: \"x\\n\", value: y1}]}\n"),
          &node, "nameserver 2.2.2.2\n");
    check(POD("  dnsPolicy: None\n  dnsConfig: {nameservers: [1.1.1.1, 1.1.1.2, 1.1.1.3, 1.1.1.4]}\n"), &node,
          "nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\n");
}

TEST(hosts_hold_both_addresses_and_aliases)
{
    auto_pod_spec wh_pod_spec *spec = pod(POD(
        "  hostAliases: [{ip: 10.0.0.9, hostnames: [db, db.example]}, {ip: \"1.1.1.1\\n\", hostnames: [x]}]\n"));
    const wh_pod_facts facts = {.pod_ips = {"10.88.0.2", "fd00::2"}};
    auto_free char *text = wh_pod_hosts(spec, &facts);
    CHECK_STR(text, "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost\n"
                    "10.88.0.2\tweb\nfd00::2\tweb\n10.0.0.9\tdb\tdb.example\n");
}
