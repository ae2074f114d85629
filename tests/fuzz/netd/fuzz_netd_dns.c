/* SPDX-License-Identifier: Apache-2.0 */
/* What a name server sends, and a pod's resolv.conf and hosts file. */
#include "netd/dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char name[WH_NETD_NAME_MAX + 1];
    wh_netd_ip found[WH_NETD_ADDRESSES_MAX];
    wh_dns_conf conf;
    static const int types[] = {WH_DNS_TYPE_A, WH_DNS_TYPE_AAAA};
    for (size_t i = 0; i < WH_ARRAY_LEN(types); i++) {
        uint8_t *query = NULL;
        size_t query_n = 0, n_found = 0;
        wh_assert(wh_dns_query("a1.example.org", types[i], 0x1234, &query, &query_n) == 0);
        (void)wh_dns_answer(query, query_n, data, n, types[i], found, WH_ARRAY_LEN(found), &n_found);
        wh_assert(n_found <= WH_ARRAY_LEN(found));
        wh_dns_free(query);
    }
    char *text = wh_xstrndup((const char *)data, n);
    wh_dns_conf_read(text, &conf);
    wh_assert(conf.n_servers <= WH_DNS_SERVERS_MAX);
    for (size_t i = 0; wh_dns_candidate(&conf, "a1.example", i, name); i++)
        wh_assert(name[0] == '\0' || wh_netd_name_ok(name));
    wh_assert(wh_dns_hosts(text, "x", true, true, found, WH_ARRAY_LEN(found)) <= WH_ARRAY_LEN(found));
    wh_dns_conf_done(&conf);
    free(text);
    return 0;
}
