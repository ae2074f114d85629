/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/dns.h"

#include <ares.h>
#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <strings.h>

#define HEADER 12

/* ------------------------------------------------------------------ resolv.conf, hosts */

/* The next word of the line, or an empty one. */
static wh_str word(wh_str *line)
{
    while (line->n > 0 && isspace((unsigned char)line->p[0]))
        line->p++, line->n--;
    wh_str w = {line->p, 0};
    while (line->n > 0 && !isspace((unsigned char)line->p[0]))
        line->p++, line->n--, w.n++;
    return w;
}

static bool word_is(wh_str w, const char *text)
{
    return wh_str_eq(w, wh_str_of(text));
}

/* "ndots:5"; out of range is the border, as glibc does it. */
static void read_option(wh_str w, const char *name, unsigned max, unsigned *ret)
{
    size_t n = strlen(name);
    if (w.n <= n || strncmp(w.p, name, n) != 0)
        return;
    auto_free char *text = wh_xstrndup(w.p + n, w.n - n);
    uint64_t value = 0;
    int rc = wh_parse_u64(text, UINT32_MAX, &value);
    if (rc == 0 || rc == -ERANGE)
        *ret = rc == 0 ? (unsigned)WH_MIN(value, (uint64_t)max) : max;
}

static void read_search(wh_str line, wh_dns_conf *conf)
{
    for (; conf->n_search > 0; conf->n_search--) /* the last line wins */
        free(conf->search[conf->n_search - 1]);
    for (wh_str w = word(&line); w.n > 0 && conf->n_search < WH_DNS_SEARCH_MAX; w = word(&line)) {
        auto_free char *name = wh_xstrndup(w.p, w.n);
        if (w.n > 1 && name[w.n - 1] == '.')
            name[w.n - 1] = '\0';
        if (wh_netd_name_ok(name))
            conf->search[conf->n_search++] = WH_TAKE(name);
    }
}

static void read_server(wh_str line, wh_dns_conf *conf)
{
    wh_str w = word(&line);
    wh_addr addr = {0};
    if (conf->n_servers == WH_DNS_SERVERS_MAX || w.n == 0 || w.n >= WH_ADDR_TEXT_MAX)
        return;
    auto_free char *text = wh_xstrndup(w.p, w.n);
    if (text[0] != ':' || text[1] == ':') /* ":53" would be any address */
        if (wh_addr_parse(text, 53, &addr, NULL) == 0 && addr.sa.sa_family != AF_UNIX &&
            wh_addr_port(&addr) != 0)
            conf->servers[conf->n_servers++] = addr;
}

void wh_dns_conf_read(const char *text, wh_dns_conf *ret)
{
    *ret = (wh_dns_conf){.ndots = 1, .timeout_s = 5, .attempts = 2};
    wh_str rest = wh_str_of(text), line;
    while (text != NULL && wh_str_split(&rest, '\n', &line)) {
        wh_str key = word(&line);
        if (word_is(key, "nameserver")) {
            read_server(line, ret);
        } else if (word_is(key, "search") || word_is(key, "domain")) {
            read_search(line, ret);
        } else if (word_is(key, "options")) {
            for (wh_str w = word(&line); w.n > 0; w = word(&line)) {
                read_option(w, "ndots:", 15, &ret->ndots);
                read_option(w, "timeout:", 30, &ret->timeout_s);
                read_option(w, "attempts:", 5, &ret->attempts);
            }
        }
    }
    ret->timeout_s = WH_MAX(ret->timeout_s, 1U);
    ret->attempts = WH_MAX(ret->attempts, 1U);
}

void wh_dns_conf_done(wh_dns_conf *conf)
{
    for (size_t i = 0; i < conf->n_search; i++)
        free(conf->search[i]);
    conf->n_search = 0;
}

bool wh_dns_candidate(const wh_dns_conf *conf, const char *name, size_t i, char out[WH_NETD_NAME_MAX + 1])
{
    size_t n = strlen(name), dots = 0;
    for (size_t k = 0; k < n; k++)
        dots += name[k] == '.';
    bool absolute = name[n - 1] == '.', first = absolute || dots >= conf->ndots;
    size_t as_is = first ? 0 : conf->n_search, searched = first ? i - 1 : i;
    if (i > (absolute ? 0 : conf->n_search))
        return false;
    int written = i == as_is ? snprintf(out, WH_NETD_NAME_MAX + 1, "%.*s", (int)(n - absolute), name)
                             : snprintf(out, WH_NETD_NAME_MAX + 1, "%s.%s", name, conf->search[searched]);
    if (written > WH_NETD_NAME_MAX) /* a name that cannot be: the server would say so too */
        out[0] = '\0';
    return true;
}

static bool same_name(wh_str w, const char *name)
{
    size_t n = strlen(name);
    n -= n > 0 && name[n - 1] == '.';
    return w.n == n && strncasecmp(w.p, name, n) == 0;
}

static bool read_ip(wh_str w, wh_netd_ip *ret)
{
    char text[INET6_ADDRSTRLEN];
    *ret = (wh_netd_ip){0};
    if (w.n >= sizeof(text))
        return false;
    memcpy(text, w.p, w.n);
    text[w.n] = '\0';
    ret->family = strchr(text, ':') == NULL ? 4 : 6;
    return inet_pton(ret->family == 4 ? AF_INET : AF_INET6, text, ret->bytes) == 1;
}

size_t wh_dns_hosts(const char *text, const char *name, bool want4, bool want6, wh_netd_ip *out, size_t max)
{
    wh_str rest = wh_str_of(text), line;
    size_t n = 0;
    while (text != NULL && n < max && wh_str_split(&rest, '\n', &line)) {
        wh_netd_ip ip;
        const char *comment = line.n > 0 ? memchr(line.p, '#', line.n) : NULL;
        if (comment != NULL)
            line.n = (size_t)(comment - line.p);
        if (!read_ip(word(&line), &ip) || !(ip.family == 4 ? want4 : want6))
            continue;
        bool found = false;
        for (wh_str w = word(&line); w.n > 0 && !found; w = word(&line))
            found = same_name(w, name);
        if (found)
            out[n++] = ip;
    }
    return n;
}

/* ------------------------------------------------------------------ messages */

int wh_dns_query(const char *name, int type, uint16_t id, uint8_t **ret, size_t *ret_n)
{
    unsigned char *query = NULL;
    int n = 0;
    int rc = ares_create_query(name, 1 /* IN */, type, id, 1, &query, &n, 0);
    if (rc != ARES_SUCCESS)
        return rc == ARES_ENOMEM ? -ENOMEM : -EINVAL;
    *ret = query;
    *ret_n = (size_t)n;
    return 0;
}

void wh_dns_free(uint8_t *query)
{
    if (query != NULL)
        ares_free_string(query);
}

/* The answer repeats the question; whoever cannot see the query must guess name, id and our port. Names may come
 * back in other case. */
static bool same_question(const uint8_t *query, size_t query_n, const uint8_t *data, size_t n)
{
    if (n < query_n || query_n <= HEADER || memcmp(query, data, 2) != 0 ||
        memcmp(query + 4, data + 4, 2) != 0)
        return false;
    for (size_t i = HEADER; i < query_n; i++) {
        if (tolower(query[i]) != tolower(data[i]))
            return false;
    }
    return true;
}

static wh_dns_verdict take_addresses(const uint8_t *data, size_t n, int type, wh_netd_ip *out, size_t max,
                                     size_t *n_out)
{
    struct ares_addrttl a[WH_NETD_ADDRESSES_MAX];
    struct ares_addr6ttl aaaa[WH_NETD_ADDRESSES_MAX];
    int count = WH_NETD_ADDRESSES_MAX;
    int rc = type == WH_DNS_TYPE_A ? ares_parse_a_reply(data, (int)n, NULL, a, &count)
                                   : ares_parse_aaaa_reply(data, (int)n, NULL, aaaa, &count);
    if (rc == ARES_ENODATA)
        return WH_DNS_ADDRESSES;
    if (rc != ARES_SUCCESS)
        return WH_DNS_FAILED;
    for (int i = 0; i < count && *n_out < max; i++) {
        wh_netd_ip ip = {.family = type == WH_DNS_TYPE_A ? 4 : 6};
        if (ip.family == 4)
            memcpy(ip.bytes, &a[i].ipaddr, 4);
        else
            memcpy(ip.bytes, &aaaa[i].ip6addr, 16);
        out[(*n_out)++] = ip;
    }
    return WH_DNS_ADDRESSES;
}

wh_dns_verdict wh_dns_answer(const uint8_t *query, size_t query_n, const uint8_t *data, size_t n, int type,
                             wh_netd_ip *out, size_t max, size_t *n_out)
{
    if (n > WH_DNS_MESSAGE_MAX || !same_question(query, query_n, data, n) || (data[2] & 0xf8) != 0x80)
        return WH_DNS_FOREIGN;
    if ((data[2] & 0x02) != 0)
        return WH_DNS_TRUNCATED;
    switch (data[3] & 0x0f) {
    case 0:
        return take_addresses(data, n, type, out, max, n_out);
    case 3:
        return WH_DNS_NO_NAME;
    default:
        return WH_DNS_FAILED;
    }
}
