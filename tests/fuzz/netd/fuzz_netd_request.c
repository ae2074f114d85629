/* SPDX-License-Identifier: Apache-2.0 */
/* The request of a pod, byte by byte: checked, then judged by a pod's rules as netd does it. No socket is made. */
#include "netd/policy.h"

static bool is_pod(void *user, const wh_netd_ip *ip)
{
    (void)user;
    return ip->bytes[3] == 2;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const wh_netd_world world = {.is_pod = is_pod};
    char host[] = "*.example.org";
    wh_egress_rule rules[] = {{.host = host}, {.prefix = 8}};
    wh_netd_policy pods[] = {
        {.own4 = {4, {10, 1, 0, 1}}, .rules = rules, .n_rules = 1},
        {.own4 = {4, {10, 1, 0, 1}}, .own6 = {6, {0xfd, 1}}, .closed = true, .isolated = true},
        {.closed = true},
    };
    wh_netd_request request;
    wh_addr to, from;
    const char *reason = NULL;
    if (wh_netd_request_check(data, n) < 0)
        return 0;
    wh_assert(n == sizeof(request));
    memcpy(&request, data, n);
    for (size_t i = 0; i < WH_ARRAY_LEN(pods); i++) {
        int rc = wh_netd_policy_connect(&pods[i], &world, &request.address, &to, &from, &reason);
        wh_assert(rc <= 0);
        if (rc == 0 && i < 2) /* whatever was asked: from the pod's own address only */
            wh_assert(from.len != 0);
        rc = wh_netd_policy_listen(&pods[i], &request.address, &to, &reason);
        if (rc == 0 && i == 0)
            wh_assert(to.in4.sin_addr.s_addr == htonl(0x0a010001));
    }
    return 0;
}
