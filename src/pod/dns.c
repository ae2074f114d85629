/* SPDX-License-Identifier: Apache-2.0 */
#include "pod/dns.h"

#include "base/buf.h"

#define SERVERS_MAX 3 /* resolv.conf(5) */
#define SEARCHES_MAX 32
#define OPTIONS_MAX 32
#define TEXT_MAX (64UL * 1024)

typedef struct resolv {
    wh_strv servers, searches, options;
} resolv;

/* Something that may stand in a line of such a file. */
static bool is_word(const char *text)
{
    if (text == NULL || *text == '\0' || strlen(text) > 253)
        return false;
    for (; *text != '\0'; text++)
        if ((unsigned char)*text <= ' ' || *text == 0x7f || *text == '#')
            return false;
    return true;
}

static void add(wh_strv *list, const char *word, size_t max)
{
    if (is_word(word) && wh_strv_len(*list) < max && !wh_strv_has(*list, word))
        wh_strv_push(list, word);
}

/* "ndots:5" beats an earlier "ndots:1". */
static void add_option(resolv *r, const char *option)
{
    size_t name = strcspn(option, ":");
    for (size_t i = 0; r->options != NULL && r->options[i] != NULL; i++) {
        if (strcspn(r->options[i], ":") == name && strncmp(r->options[i], option, name) == 0) {
            free(r->options[i]);
            r->options[i] = wh_xstrdup(option);
            return;
        }
    }
    add(&r->options, option, OPTIONS_MAX);
}

static void take_word(resolv *r, const char *key, const char *word, bool with_servers)
{
    if (wh_streq(key, "nameserver") && with_servers)
        add(&r->servers, word, SERVERS_MAX);
    else if (wh_streq(key, "search") || wh_streq(key, "domain"))
        add(&r->searches, word, SEARCHES_MAX);
    else if (wh_streq(key, "options") && with_servers)
        add_option(r, word);
}

static void take_line(resolv *r, wh_str line, bool with_servers)
{
    char key[16] = "";
    size_t i = 0;
    while (i < line.n) {
        while (i < line.n && (line.p[i] == ' ' || line.p[i] == '\t' || line.p[i] == '\r'))
            i++;
        size_t from = i;
        while (i < line.n && line.p[i] != ' ' && line.p[i] != '\t' && line.p[i] != '\r')
            i++;
        auto_free char *word = wh_xstrndup(line.p + from, i - from);
        if (key[0] == '\0' && i - from < sizeof(key))
            memcpy(key, word, strlen(word) + 1);
        else if (key[0] != '\0' && i > from)
            take_word(r, key, word, with_servers);
        if (key[0] == '\0')
            return;
    }
}

static void take_node(resolv *r, const wh_pod_dns *node, bool with_servers)
{
    wh_str text = wh_str_of(node->resolv_conf), line;
    while (text.n > 0 && wh_str_split(&text, '\n', &line))
        take_line(r, line, with_servers);
}

static void take_cluster(resolv *r, const wh_pod_spec *spec, const wh_pod_dns *node)
{
    const char *domain = node->domain != NULL ? node->domain : "cluster.local";
    auto_free char *own = wh_xasprintf("%s.svc.%s", spec->namespace_, domain);
    auto_free char *svc = wh_xasprintf("svc.%s", domain);
    for (char *const *s = node->servers; s != NULL && *s != NULL; s++)
        add(&r->servers, *s, SERVERS_MAX);
    add(&r->searches, own, SEARCHES_MAX);
    add(&r->searches, svc, SEARCHES_MAX);
    add(&r->searches, domain, SEARCHES_MAX);
    take_node(r, node, false);
    add_option(r, "ndots:5");
}

static void take_config(resolv *r, const json_t *config)
{
    const json_t *item;
    size_t i;
    json_array_foreach(json_object_get(config, "nameservers"), i, item)
    {
        add(&r->servers, json_string_value(item), SERVERS_MAX);
    }
    json_array_foreach(json_object_get(config, "searches"), i, item)
    {
        add(&r->searches, json_string_value(item), SEARCHES_MAX);
    }
    json_array_foreach(json_object_get(config, "options"), i, item)
    {
        const char *name = wh_json_str(item, "name"), *value = wh_json_str(item, "value");
        if (!is_word(name) || (value != NULL && *value != '\0' && !is_word(value)))
            continue;
        auto_free char *option =
            value != NULL && *value != '\0' ? wh_xasprintf("%s:%s", name, value) : wh_xstrdup(name);
        add_option(r, option);
    }
}

static void put_list(wh_buf *out, const char *key, char *const *list)
{
    if (list == NULL || list[0] == NULL)
        return;
    wh_buf_puts(out, key);
    for (; *list != NULL; list++)
        wh_buf_printf(out, " %s", *list);
    wh_buf_putc(out, '\n');
}

char *wh_pod_resolv_conf(const wh_pod_spec *spec, const wh_pod_dns *node)
{
    const char *policy = wh_json_str(spec->object, "spec.dnsPolicy");
    resolv r = {0};
    wh_buf out;
    bool cluster = policy == NULL || wh_streq(policy, "ClusterFirstWithHostNet") ||
                   (wh_streq(policy, "ClusterFirst") && !spec->host_network);
    if (cluster && policy == NULL && spec->host_network)
        cluster = false;
    if (cluster && wh_strv_len(node->servers) > 0)
        take_cluster(&r, spec, node);
    else if (!wh_streq(policy, "None"))
        take_node(&r, node, true);
    take_config(&r, wh_json_at(spec->object, "spec.dnsConfig"));
    wh_buf_init(&out, TEXT_MAX);
    for (size_t i = 0; r.servers != NULL && r.servers[i] != NULL; i++)
        wh_buf_printf(&out, "nameserver %s\n", r.servers[i]);
    put_list(&out, "search", r.searches);
    put_list(&out, "options", r.options);
    wh_strv_free(r.servers);
    wh_strv_free(r.searches);
    wh_strv_free(r.options);
    char *text = wh_buf_take(&out);
    return text != NULL ? text : wh_xstrdup("");
}

char *wh_pod_hosts(const wh_pod_spec *spec, const wh_pod_facts *facts)
{
    auto_free char *hostname = wh_pod_hostname(spec);
    const json_t *aliases = wh_json_at(spec->object, "spec.hostAliases"), *alias, *name;
    wh_buf text;
    size_t i, k;

    wh_buf_init(&text, TEXT_MAX);
    wh_buf_puts(&text, "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost\n");
    for (i = 0; i < WH_ARRAY_LEN(facts->pod_ips); i++)
        if (facts->pod_ips[i] != NULL)
            wh_buf_printf(&text, "%s\t%s\n", facts->pod_ips[i], hostname);
    json_array_foreach(aliases, i, alias)
    {
        if (!is_word(wh_json_str(alias, "ip")))
            continue;
        wh_buf_puts(&text, wh_json_str(alias, "ip"));
        json_array_foreach(json_object_get(alias, "hostnames"), k, name)
        {
            if (is_word(json_string_value(name)))
                wh_buf_printf(&text, "\t%s", json_string_value(name));
        }
        wh_buf_putc(&text, '\n');
    }
    char *result = wh_buf_take(&text);
    return result != NULL ? result : wh_xstrdup("");
}
