/* SPDX-License-Identifier: Apache-2.0 */
#include "node/egress.h"

#include <arpa/inet.h>
#include <ctype.h>

void wh_egress_free(wh_egress_rule *rules, size_t n)
{
    for (size_t i = 0; rules != NULL && i < n; i++)
        free(rules[i].host);
    free(rules);
}

static int bad(const char *rule, wh_err *err)
{
    return wh_fail(err, -EINVAL,
                   "egress rule '%.80s': a rule is HOST, *.SUFFIX, ADDRESS or ADDRESS/BITS, with :PORT or "
                   ":FIRST-LAST behind it.",
                   rule);
}

static bool parse_ports(const char *text, wh_egress_rule *ret)
{
    auto_free char *copy = wh_xstrdup(text);
    char *dash = strchr(copy, '-');
    uint64_t first, last;
    if (dash != NULL)
        *dash = '\0';
    if (wh_parse_u64(copy, 65535, &first) < 0 || first == 0)
        return false;
    last = first;
    if (dash != NULL && (wh_parse_u64(dash + 1, 65535, &last) < 0 || last < first))
        return false;
    ret->port_first = (uint16_t)first;
    ret->port_last = (uint16_t)last;
    return true;
}

static bool parse_net(char *text, wh_egress_rule *ret)
{
    char *slash = strchr(text, '/');
    uint64_t bits;
    if (slash != NULL)
        *slash = '\0';
    if (inet_pton(AF_INET, text, &ret->net.in4.sin_addr) == 1) {
        ret->net.in4.sin_family = AF_INET;
        ret->net.len = sizeof(ret->net.in4);
        ret->prefix = 32;
    } else if (inet_pton(AF_INET6, text, &ret->net.in6.sin6_addr) == 1) {
        ret->net.in6.sin6_family = AF_INET6;
        ret->net.len = sizeof(ret->net.in6);
        ret->prefix = 128;
    } else {
        return false;
    }
    if (slash == NULL)
        return true;
    if (wh_parse_u64(slash + 1, ret->prefix, &bits) < 0)
        return false;
    ret->prefix = (unsigned)bits;
    return true;
}

static bool parse_host(const char *text, wh_egress_rule *ret)
{
    const char *name = wh_starts_with(text, "*.") ? text + 2 : text;
    bool letter = false;
    size_t n = strlen(name);
    if (n == 0 || n > WH_NETD_NAME_MAX || name[0] == '.' || name[0] == '-')
        return false;
    for (const char *p = name; *p != '\0'; p++) {
        letter |= isalpha((unsigned char)*p) != 0;
        if (!isalnum((unsigned char)*p) && *p != '-' && *p != '.' && *p != '_')
            return false;
    }
    if (!letter)
        return false; /* an address that is none */
    ret->host = wh_xstrdup(text);
    for (char *p = ret->host; *p != '\0'; p++)
        *p = (char)tolower((unsigned char)*p);
    return true;
}

static bool parse_rule(const char *text, wh_egress_rule *ret)
{
    auto_free char *copy = wh_xstrdup(text);
    char *place = copy, *port = NULL;
    if (copy[0] == '[') {
        char *end = strchr(copy, ']');
        if (end == NULL || (end[1] != '\0' && end[1] != ':'))
            return false;
        *end = '\0';
        place = copy + 1;
        port = end[1] == ':' ? end + 2 : NULL;
    } else if (strchr(copy, ':') == strrchr(copy, ':') && strchr(copy, ':') != NULL) {
        port = strchr(copy, ':');
        *port++ = '\0';
    }
    if (port != NULL && !parse_ports(port, ret))
        return false;
    auto_free char *host = wh_xstrdup(place);
    return parse_net(place, ret) || parse_host(host, ret);
}

int wh_egress_parse(const char *text, wh_egress_rule **ret, size_t *ret_n, wh_err *err)
{
    wh_str left = wh_str_of(text), piece;
    wh_egress_rule *rules = wh_xcalloc(WH_EGRESS_RULES_MAX, sizeof(*rules));
    size_t n = 0;
    int rc = 0;
    while (rc == 0 && !wh_streq(text, "none") && wh_str_split(&left, ',', &piece)) {
        wh_str trimmed = wh_str_trim(piece);
        auto_free char *rule = wh_xstrndup(trimmed.p, trimmed.n);
        if (n == WH_EGRESS_RULES_MAX)
            rc = wh_fail(err, -E2BIG, "more than %d egress rules.", WH_EGRESS_RULES_MAX);
        else if (!parse_rule(rule, &rules[n++]))
            rc = bad(rule, err);
    }
    if (rc < 0) {
        wh_egress_free(rules, n);
        return rc;
    }
    *ret = rules;
    *ret_n = n;
    return 0;
}
