/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/policy.h"

#include <ctype.h>

/* ------------------------------------------------------------------ addresses */

static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

int wh_netd_ip_of(const struct sockaddr_storage *addr, wh_netd_ip *ret)
{
    wh_addr a;
    memcpy(&a.in6, addr, sizeof(a.in6));
    if (addr->ss_family == AF_INET) {
        *ret = (wh_netd_ip){.family = 4};
        memcpy(ret->bytes, &a.in4.sin_addr, 4);
        return 0;
    }
    if (addr->ss_family != AF_INET6)
        return -EAFNOSUPPORT;
    if (a.in6.sin6_scope_id != 0)
        return -EINVAL;
    const uint8_t *p = a.in6.sin6_addr.s6_addr;
    bool v4 = memcmp(p, mapped, sizeof(mapped)) == 0;
    *ret = (wh_netd_ip){.family = v4 ? 4 : 6};
    memcpy(ret->bytes, v4 ? p + 12 : p, v4 ? 4 : 16);
    return 0;
}

bool wh_netd_ip_eq(const wh_netd_ip *a, const wh_netd_ip *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

bool wh_netd_ip_is_any(const wh_netd_ip *ip)
{
    static const uint8_t none[16];
    return memcmp(ip->bytes, none, sizeof(none)) == 0;
}

void wh_netd_ip_addr(const wh_netd_ip *ip, uint16_t port, wh_addr *ret)
{
    *ret = (wh_addr){0};
    if (ip->family == 4) {
        ret->in4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
        memcpy(&ret->in4.sin_addr, ip->bytes, 4);
        ret->len = sizeof(ret->in4);
    } else if (ip->family == 6) {
        ret->in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
        memcpy(&ret->in6.sin6_addr, ip->bytes, 16);
        ret->len = sizeof(ret->in6);
    }
}

bool wh_netd_ip_in(const wh_netd_ip *ip, const wh_netd_ip *net, unsigned prefix)
{
    if (ip->family != net->family || prefix > (ip->family == 4 ? 32U : 128U))
        return false;
    size_t whole = prefix / 8;
    if (memcmp(ip->bytes, net->bytes, whole) != 0)
        return false;
    unsigned rest = prefix % 8;
    uint8_t mask = (uint8_t)(0xff00U >> rest);
    return rest == 0 || ((ip->bytes[whole] ^ net->bytes[whole]) & mask) == 0;
}

typedef struct range {
    wh_netd_ip net;
    unsigned prefix;
    wh_netd_class class;
} range;

#define V4(a, b, c, d)         \
    {                          \
        4,                     \
        {                      \
            (a), (b), (c), (d) \
        }                      \
    }
/* In this order: the first that matches says it. IANA's special-purpose registries (RFC 6890), and what clouds use. */
static const range ranges[] = {
    {V4(169, 254, 169, 254), 32, WH_TARGET_METADATA},
    {V4(169, 254, 170, 2), 32, WH_TARGET_METADATA},   /* ECS tasks */
    {V4(169, 254, 170, 23), 32, WH_TARGET_METADATA},  /* EKS pod identity */
    {V4(100, 100, 100, 200), 32, WH_TARGET_METADATA}, /* Alibaba */
    {V4(168, 63, 129, 16), 32, WH_TARGET_METADATA},   /* Azure's wire server, a public address */
    {V4(192, 0, 0, 192), 32, WH_TARGET_METADATA},     /* Oracle */
    {{6, {0xfd, 0x00, 0x0e, 0xc2, [15] = 0}}, 32, WH_TARGET_METADATA},
    {V4(0, 0, 0, 0), 32, WH_TARGET_LOOPBACK}, /* the kernel connects there to itself */
    {V4(0, 0, 0, 0), 8, WH_TARGET_NEVER},
    {V4(127, 0, 0, 0), 8, WH_TARGET_LOOPBACK},
    {V4(169, 254, 0, 0), 16, WH_TARGET_LINK_LOCAL},
    {V4(10, 0, 0, 0), 8, WH_TARGET_PRIVATE},
    {V4(172, 16, 0, 0), 12, WH_TARGET_PRIVATE},
    {V4(192, 168, 0, 0), 16, WH_TARGET_PRIVATE},
    {V4(100, 64, 0, 0), 10, WH_TARGET_PRIVATE},
    {V4(192, 0, 0, 0), 24, WH_TARGET_PRIVATE},
    {V4(198, 18, 0, 0), 15, WH_TARGET_PRIVATE},
    {V4(224, 0, 0, 0), 3, WH_TARGET_NEVER}, /* multicast, reserved, broadcast */
    {{6, {[15] = 0}}, 128, WH_TARGET_LOOPBACK},
    {{6, {[15] = 1}}, 128, WH_TARGET_LOOPBACK},
    {{6, {[15] = 0}}, 96, WH_TARGET_NEVER}, /* IPv4-compatible: never in use */
    {{6, {0xfe, 0x80}}, 10, WH_TARGET_LINK_LOCAL},
    {{6, {0xfe, 0xc0}}, 10, WH_TARGET_PRIVATE},
    {{6, {0xfc}}, 7, WH_TARGET_PRIVATE},
    {{6, {0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}}, 48, WH_TARGET_PRIVATE}, /* local NAT64 */
    {{6, {0xff}}, 8, WH_TARGET_NEVER},
};

wh_netd_class wh_netd_classify(const wh_netd_ip *ip)
{
    static const range nat64 = {{6, {0x00, 0x64, 0xff, 0x9b}}, 96, 0},
                       six_to_four = {{6, {0x20, 0x02}}, 16, 0};
    wh_netd_ip inner = {.family = 4};
    if (wh_netd_ip_in(ip, &nat64.net, nat64.prefix)) {
        memcpy(inner.bytes, ip->bytes + 12, 4);
        return wh_netd_classify(&inner);
    }
    if (wh_netd_ip_in(ip, &six_to_four.net, six_to_four.prefix)) {
        memcpy(inner.bytes, ip->bytes + 2, 4);
        return wh_netd_classify(&inner);
    }
    for (size_t i = 0; i < WH_ARRAY_LEN(ranges); i++) {
        if (wh_netd_ip_in(ip, &ranges[i].net, ranges[i].prefix))
            return ranges[i].class;
    }
    return WH_TARGET_PUBLIC;
}

/* ------------------------------------------------------------------ names */

bool wh_netd_name_ok(const char *name)
{
    size_t label = 0, n = 0;
    for (; name[n] != '\0'; n++) {
        bool letter = isalnum((unsigned char)name[n]) || name[n] == '-' || name[n] == '_';
        if (name[n] == '.' ? label == 0 : !letter || label == 63)
            return false;
        label = name[n] == '.' ? 0 : label + 1;
    }
    return n > 0 && n <= WH_NETD_NAME_MAX;
}

/* Lower case, without the dot at the end. */
static char *plain_name(const char *name)
{
    char *copy = wh_xstrdup(name);
    size_t n = strlen(copy);
    if (n > 0 && copy[n - 1] == '.')
        copy[--n] = '\0';
    for (size_t i = 0; i < n; i++)
        copy[i] = (char)tolower((unsigned char)copy[i]);
    return copy;
}

/* "*.suffix" is any name below it, at any depth, and not the suffix itself. */
static bool host_matches(const char *host, const char *name)
{
    if (host[0] != '*')
        return wh_streq(host, name);
    return strlen(name) > strlen(host + 1) && wh_ends_with(name, host + 1);
}

void wh_netd_policy_learn(wh_netd_policy *policy, const char *name, const wh_netd_ip *ip)
{
    auto_free char *plain = plain_name(name);
    bool asked = false;
    for (size_t i = 0; i < policy->n_rules && !asked; i++)
        asked = policy->rules[i].host != NULL && host_matches(policy->rules[i].host, plain);
    if (!asked)
        return;
    for (size_t i = 0; i < policy->n_known; i++) {
        if (wh_netd_ip_eq(&policy->known[i].ip, ip) && wh_streq(policy->known[i].name, plain))
            return;
    }
    if (policy->known == NULL)
        policy->known = wh_xcalloc(WH_NETD_KNOWN_MAX, sizeof(*policy->known));
    wh_netd_known *slot = &policy->known[policy->next_known];
    free(slot->name);
    *slot = (wh_netd_known){*ip, WH_TAKE(plain)};
    policy->next_known = (policy->next_known + 1) % WH_NETD_KNOWN_MAX;
    policy->n_known =
        WH_MAX(policy->n_known, policy->next_known == 0 ? WH_NETD_KNOWN_MAX : policy->next_known);
}

/* ------------------------------------------------------------------ deciding */

static bool port_fits(const wh_egress_rule *rule, uint16_t port)
{
    return (rule->port_first == 0 && rule->port_last == 0) ||
           (port >= rule->port_first && port <= rule->port_last);
}

/* How narrow a rule must be to open this target: a wide one was not written with the node's own services in mind. */
static unsigned narrowest(wh_netd_class class, bool node, const wh_netd_ip *ip)
{
    unsigned whole = ip->family == 4 ? 32 : 128;
    if (node || class == WH_TARGET_METADATA)
        return whole;
    if (class == WH_TARGET_LOOPBACK)
        return ip->family == 4 ? 8 : 128;
    if (class == WH_TARGET_LINK_LOCAL)
        return ip->family == 4 ? 16 : 10;
    return 0;
}

static bool rule_opens(const wh_netd_policy *policy, const wh_egress_rule *rule, const wh_netd_ip *ip,
                       uint16_t port, unsigned prefix_min)
{
    wh_netd_ip net;
    if (!port_fits(rule, port))
        return false;
    if (rule->host == NULL) {
        struct sockaddr_storage raw = {0};
        memcpy(&raw, &rule->net.in6, sizeof(rule->net.in6));
        return rule->prefix >= prefix_min && wh_netd_ip_of(&raw, &net) == 0 &&
               wh_netd_ip_in(ip, &net, rule->prefix);
    }
    if (prefix_min > 0) /* a name server must not open the node */
        return false;
    for (size_t i = 0; i < policy->n_known; i++) {
        if (wh_netd_ip_eq(&policy->known[i].ip, ip) && host_matches(rule->host, policy->known[i].name))
            return true;
    }
    return false;
}

static const wh_netd_ip *own(const wh_netd_policy *policy, const wh_netd_ip *like)
{
    return like->family == 4 ? &policy->own4 : &policy->own6;
}

static bool has_own(const wh_netd_policy *policy)
{
    return policy->own4.family != 0 || policy->own6.family != 0;
}

static bool is_node(const wh_netd_world *world, const wh_netd_ip *ip)
{
    for (size_t i = 0; i < world->n_node; i++) {
        if (wh_netd_ip_eq(&world->node[i], ip))
            return true;
    }
    return false;
}

static const char *why_closed(wh_netd_class class, bool node)
{
    if (node)
        return "an address of the node";
    switch (class) {
    case WH_TARGET_PUBLIC:
        return "public addresses are closed";
    case WH_TARGET_PRIVATE:
        return "a private address";
    case WH_TARGET_LINK_LOCAL:
        return "a link-local address";
    case WH_TARGET_LOOPBACK:
        return "a loopback address of the node";
    case WH_TARGET_METADATA:
        return "a cloud's metadata address";
    case WH_TARGET_NEVER:
        break;
    }
    return "no address to connect to";
}

/* 0 or -EACCES for an address that is not the pod's own. */
static int judge(const wh_netd_policy *policy, const wh_netd_world *world, const wh_netd_ip *ip,
                 uint16_t port, const char **ret_reason)
{
    wh_netd_class class = wh_netd_classify(ip);
    bool node = is_node(world, ip), pod = !node && world->is_pod(world->user, ip);
    if (pod && !policy->isolated)
        return 0;
    if (class == WH_TARGET_PUBLIC && !node && !pod && !policy->closed)
        return 0;
    unsigned prefix_min = narrowest(class, node, ip);
    for (size_t i = 0; i < policy->n_rules && class != WH_TARGET_NEVER; i++) {
        if (rule_opens(policy, &policy->rules[i], ip, port, prefix_min))
            return 0;
    }
    *ret_reason = pod ? "a pod of this node" : why_closed(class, node);
    return -EACCES;
}

int wh_netd_policy_connect(const wh_netd_policy *policy, const wh_netd_world *world,
                           const struct sockaddr_storage *asked, wh_addr *ret, wh_addr *ret_source,
                           const char **ret_reason)
{
    wh_netd_ip ip;
    wh_addr copy;
    memcpy(&copy.in6, asked, sizeof(copy.in6));
    int rc = wh_netd_ip_of(asked, &ip);
    uint16_t port = (uint16_t)wh_addr_port(&copy);
    *ret_reason = "a malformed address";
    if (rc < 0 || port == 0)
        return rc < 0 ? rc : -EINVAL;
    const wh_netd_ip *mine = own(policy, &ip);
    bool lo = wh_netd_classify(&ip) == WH_TARGET_LOOPBACK;
    if (has_own(policy)) {
        *ret_reason = "the pod has no address of that family";
        if (mine->family == 0)
            return -ENETUNREACH;
        if (lo) /* inside a pod that is the pod itself: it has no loopback device of its own */
            ip = *mine;
    }
    rc = has_own(policy) && wh_netd_ip_eq(mine, &ip) ? 0 : judge(policy, world, &ip, port, ret_reason);
    if (rc < 0)
        return rc;
    wh_netd_ip_addr(&ip, port, ret);
    wh_netd_ip_addr(mine, 0, ret_source);
    return 0;
}

int wh_netd_policy_listen(const wh_netd_policy *policy, const struct sockaddr_storage *asked, wh_addr *ret,
                          const char **ret_reason)
{
    wh_netd_ip ip;
    wh_addr copy;
    memcpy(&copy.in6, asked, sizeof(copy.in6));
    int rc = wh_netd_ip_of(asked, &ip);
    uint16_t port = (uint16_t)wh_addr_port(&copy);
    *ret_reason = "a malformed address";
    if (rc < 0)
        return rc;
    bool open = policy->n_ports == 0;
    for (size_t i = 0; i < policy->n_ports && !open; i++)
        open = policy->ports[i] == port;
    *ret_reason = "no port of this pod";
    if (!open)
        return -EACCES;
    const wh_netd_ip *mine = own(policy, &ip);
    *ret_reason = "no address of this pod";
    if (has_own(policy)) {
        bool any = wh_netd_ip_is_any(&ip) || wh_netd_classify(&ip) == WH_TARGET_LOOPBACK;
        if (mine->family == 0 || (!any && !wh_netd_ip_eq(mine, &ip)))
            return -EADDRNOTAVAIL;
        ip = *mine;
    }
    wh_netd_ip_addr(&ip, port, ret);
    return 0;
}

/* ------------------------------------------------------------------ reading */

static int read_ip(const wh_field *f, wh_netd_ip *ret, wh_addr *ret_addr, wh_err *err)
{
    auto_free char *text = wh_field_strdup(f);
    struct sockaddr_storage raw = {0};
    wh_addr addr = {0};
    if (text == NULL || text[0] == '\0' || wh_addr_parse(text, 0, &addr, NULL) < 0 ||
        addr.sa.sa_family == AF_UNIX)
        return wh_fail(err, -EBADMSG, "netd: '%s' is no IP address.", text == NULL ? "" : text);
    memcpy(&raw, &addr.in6, sizeof(addr.in6));
    int rc = wh_netd_ip_of(&raw, ret);
    if (rc == 0 && ret_addr != NULL)
        *ret_addr = addr;
    return rc;
}

static int read_net(const void *p, size_t n, wh_egress_rule *rule, wh_err *err)
{
    wh_record_iter it = wh_record_begin(p, n);
    wh_field f;
    wh_netd_ip ip = {0};
    int64_t prefix = 0;
    int rc = 0;
    while (rc == 0 && wh_record_next(&it, &f)) {
        if (wh_field_is(&f, "net"))
            rc = read_ip(&f, &ip, &rule->net, err);
    }
    if (rc == 0 && ip.family == 0)
        rc = wh_fail(err, -EBADMSG, "netd: a rule without host and address.");
    if (rc == 0)
        rc = wh_record_get_i64(p, n, "prefix", 0, ip.family == 4 ? 32 : 128, &prefix, err);
    rule->prefix = (unsigned)prefix;
    return rc;
}

static int read_rule(const wh_field *field, wh_egress_rule *rule, wh_err *err)
{
    const void *p = field->value.p;
    size_t n = field->value.n;
    int64_t first = 0, last = 0;
    int rc = wh_record_check(p, n, err);
    if (rc == 0)
        rc = wh_record_get_i64(p, n, "first", 0, UINT16_MAX, &first, err);
    if (rc == 0)
        rc = wh_record_get_i64(p, n, "last", 0, UINT16_MAX, &last, err);
    if (rc == 0 && first > last)
        rc = wh_fail(err, -EBADMSG, "netd: a rule for the ports %d to %d.", (int)first, (int)last);
    if (rc < 0)
        return rc;
    rule->port_first = (uint16_t)first;
    rule->port_last = (uint16_t)last;
    auto_free char *host = NULL;
    if (wh_record_get_str(p, n, "host", &host, NULL) < 0)
        return read_net(p, n, rule, err);
    if (!wh_netd_name_ok(wh_starts_with(host, "*.") ? host + 2 : host))
        return wh_fail(err, -EBADMSG, "netd: a rule for the host '%.100s'; a name or *.name is expected.",
                       host);
    rule->host = plain_name(host);
    return 0;
}

static int read_address(const wh_field *f, wh_netd_policy *policy, wh_err *err)
{
    wh_netd_ip ip;
    int rc = read_ip(f, &ip, NULL, err);
    if (rc < 0)
        return rc;
    wh_netd_ip *slot = ip.family == 4 ? &policy->own4 : &policy->own6;
    if (slot->family != 0 || wh_netd_ip_is_any(&ip))
        return wh_fail(err, -EBADMSG, "netd: a pod has one address of a family.");
    *slot = ip;
    return 0;
}

static int read_text(const wh_field *f, char **ret, wh_err *err)
{
    char *text = f->value.n <= WH_NETD_TEXT_MAX ? wh_field_strdup(f) : NULL;
    if (text == NULL)
        return wh_fail(err, -EBADMSG, "netd: %.*s is no text of up to %lu bytes.", WH_STR_ARG(f->key),
                       WH_NETD_TEXT_MAX);
    free(*ret);
    *ret = text;
    return 0;
}

static int read_field(const wh_field *f, wh_netd_policy *policy, wh_err *err)
{
    int64_t number = 0;
    int rc = 0;
    if (wh_field_is(f, "address"))
        return read_address(f, policy, err);
    if (wh_field_is(f, "resolv_conf"))
        return read_text(f, &policy->resolv_conf, err);
    if (wh_field_is(f, "hosts"))
        return read_text(f, &policy->hosts, err);
    if (wh_field_is(f, "rule")) {
        if (policy->n_rules == WH_NETD_RULES_MAX)
            return wh_fail(err, -E2BIG, "netd: a pod has at most %d egress rules.", WH_NETD_RULES_MAX);
        return read_rule(f, &policy->rules[policy->n_rules++], err);
    }
    if (wh_field_is(f, "port")) {
        rc = wh_field_i64(f, 1, UINT16_MAX, &number, err);
        if (rc == 0 && policy->n_ports == WH_NETD_PORTS_MAX)
            rc = wh_fail(err, -E2BIG, "netd: a pod has at most %d ports.", WH_NETD_PORTS_MAX);
        if (rc == 0)
            policy->ports[policy->n_ports++] = (uint16_t)number;
        return rc;
    }
    bool *flag = wh_field_is(f, "closed")     ? &policy->closed
                 : wh_field_is(f, "isolated") ? &policy->isolated
                                              : NULL;
    if (flag != NULL && (rc = wh_field_i64(f, 0, 1, &number, err)) == 0)
        *flag = number != 0;
    return rc;
}

int wh_netd_policy_read(const void *record, size_t n, wh_netd_policy *ret, wh_err *err)
{
    wh_netd_policy policy = {0};
    wh_record_iter it = wh_record_begin(record, n);
    wh_field f;
    int rc = 0;
    size_t rules = 0, ports = 0;
    while (wh_record_next(&it, &f)) {
        rules += wh_field_is(&f, "rule");
        ports += wh_field_is(&f, "port");
    }
    policy.rules = wh_xcalloc(WH_MIN(rules, (size_t)WH_NETD_RULES_MAX), sizeof(*policy.rules));
    policy.ports = wh_xcalloc(WH_MIN(ports, (size_t)WH_NETD_PORTS_MAX), sizeof(*policy.ports));
    it = wh_record_begin(record, n);
    while (rc == 0 && wh_record_next(&it, &f))
        rc = read_field(&f, &policy, err);
    if (rc < 0) {
        wh_netd_policy_done(&policy);
        return rc;
    }
    *ret = policy;
    return 0;
}

void wh_netd_policy_done(wh_netd_policy *policy)
{
    for (size_t i = 0; i < policy->n_rules; i++)
        free(policy->rules[i].host);
    for (size_t i = 0; i < policy->n_known; i++)
        free(policy->known[i].name);
    free(policy->rules);
    free(policy->ports);
    free(policy->known);
    free(policy->resolv_conf);
    free(policy->hosts);
    *policy = (wh_netd_policy){0};
}

int wh_netd_request_check(const void *data, size_t n)
{
    wh_netd_request request;
    if (n != sizeof(request))
        return -EMSGSIZE;
    memcpy(&request, data, sizeof(request));
    if (request.version != WH_NETD_VERSION)
        return -EPROTO;
    if (request.op < WH_NETD_LISTEN || request.op > WH_NETD_RESOLVE)
        return -EINVAL;
    if (memchr(request.name, '\0', sizeof(request.name)) == NULL || request.backlog < 0)
        return -EINVAL;
    if (request.name[0] != '\0' && !wh_netd_name_ok(request.name))
        return -EINVAL;
    return request.op == WH_NETD_RESOLVE && request.name[0] == '\0' ? -EINVAL : 0;
}
