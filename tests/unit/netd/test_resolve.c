/* SPDX-License-Identifier: Apache-2.0 */
/* Look-ups of pods against a name server of the test, which says what a case needs and keeps what it was asked. */
#include "netd/dns.h"
#include "rig.h"

#include <stdio.h>
#include <strings.h>

static const char *const pod_a[] = {"10.1.0.1", NULL};
static const char resolv_conf[] = "search prod.svc.cluster.local svc.cluster.local\nnameserver 10.1.255.53\n"
                                  "nameserver 10.1.255.54\noptions ndots:5 timeout:1 attempts:1\n";

typedef struct server {
    int udp, tcp;
    wh_io udp_io, tcp_io;
    char asked[1024]; /* "name/type " ... */
    int wrong_first;  /* answers that are not to the query, before the right one */
} server;

/* The name of the question as text. */
static size_t question(const uint8_t *q, size_t n, char *out, int *type)
{
    size_t at = 12, len = 0;
    while (at < n && q[at] != 0) {
        for (uint8_t i = 0; i < q[at]; i++)
            out[len++] = (char)q[at + 1 + i];
        out[len++] = '.';
        at += 1U + q[at];
    }
    out[len == 0 ? 0 : len - 1] = '\0';
    *type = q[at + 2];
    return at + 5;
}

/* Answers by the first label: a1 one address, many 20, gone NXDOMAIN, broken SERVFAIL, cut truncated over UDP, mute
 * nothing. A name with a search domain is NXDOMAIN but for "svc". */
static size_t answer(server *s, const uint8_t *q, size_t n, uint8_t *out, bool tcp)
{
    char name[256];
    int type = 0;
    size_t end = question(q, n, name, &type), at = end;
    (void)snprintf(s->asked + strlen(s->asked), sizeof(s->asked) - strlen(s->asked), "%s/%d ", name, type);
    bool svc = strcasecmp(name, "svc.prod.svc.cluster.local") == 0;
    bool searched = wh_ends_with(name, ".cluster.local") && !svc;
    if (wh_starts_with(name, "mute") && !searched)
        return 0;
    memcpy(out, q, end);
    out[2] = 0x81;
    out[3] = searched || wh_starts_with(name, "gone") ? 3 : wh_starts_with(name, "broken") ? 2 : 0;
    if (wh_starts_with(name, "cut") && !searched && !tcp)
        out[2] |= 2;
    int count = out[3] != 0 || type != 1 ? 0 : wh_starts_with(name, "many") ? 20 : 1;
    if ((out[2] & 2) != 0)
        count = 0;
    out[6] = 0;
    out[7] = (uint8_t)count;
    memset(out + 8, 0, 4);
    for (int i = 0; i < count; i++) {
        const uint8_t record[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 1, 7, (uint8_t)(i + 1)};
        memcpy(out + at, record, sizeof(record));
        at += sizeof(record);
    }
    return at;
}

static void on_udp(wh_io *io, uint32_t ready)
{
    (void)ready;
    server *s = io->user;
    wh_addr from = {.len = sizeof(from.in6)};
    uint8_t q[512], out[2048];
    ssize_t n = recvfrom(s->udp, q, sizeof(q), 0, &from.sa, &from.len);
    CHECK_INT(n, >, 12);
    size_t length = answer(s, q, (size_t)n, out, false);
    for (; s->wrong_first > 0 && length > 0; s->wrong_first--) {
        out[0] ^= 0xff; /* another id, an answer to another question, and a query */
        (void)sendto(s->udp, out, length, 0, &from.sa, from.len);
        out[0] ^= 0xff;
        out[13] ^= 1;
        (void)sendto(s->udp, out, length, 0, &from.sa, from.len);
        out[13] ^= 1;
        (void)sendto(s->udp, q, (size_t)n, 0, &from.sa, from.len);
    }
    if (length > 0)
        (void)sendto(s->udp, out, length, 0, &from.sa, from.len);
}

static void on_tcp(wh_io *io, uint32_t ready)
{
    (void)ready;
    server *s = io->user;
    uint8_t q[514], out[2050];
    auto_close int fd = accept(s->tcp, NULL, NULL);
    ssize_t n = recv(fd, q, 2, MSG_WAITALL);
    CHECK_INT(n, ==, 2);
    n = recv(fd, q + 2, (size_t)(q[0] << 8 | q[1]), MSG_WAITALL);
    size_t length = answer(s, q + 2, (size_t)n, out + 2, true);
    out[0] = (uint8_t)(length >> 8);
    out[1] = (uint8_t)length;
    CHECK_INT(send(fd, out, 1, 0), ==, 1); /* in pieces */
    CHECK_INT(send(fd, out + 1, length + 1, 0), ==, length + 1);
}

static void server_init(server *s, rig *r, const char *address)
{
    wh_addr addr;
    wh_err err = {0};
    *s = (server){0};
    CHECK_OK(wh_addr_parse(address, 53, &addr, &err), &err);
    s->udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK_OK(bind(s->udp, &addr.sa, addr.len), NULL);
    CHECK_OK(wh_listen(&addr, 0, &s->tcp, &err), &err);
    CHECK_OK(wh_io_start(r->loop, &s->udp_io, s->udp, EPOLLIN, on_udp, s), NULL);
    CHECK_OK(wh_io_start(r->loop, &s->tcp_io, s->tcp, EPOLLIN, on_tcp, s), NULL);
}

static void server_done(server *s)
{
    wh_io_stop(&s->udp_io);
    wh_io_stop(&s->tcp_io);
    close(s->udp);
    close(s->tcp);
}

static const char *first_ip(const caller *c, char out[WH_ADDR_TEXT_MAX])
{
    wh_addr addr;
    memcpy(&addr.in6, &c->answer.addresses[0], sizeof(addr.in6));
    return wh_addr_ip(&addr, out);
}

TEST(names_are_found_as_resolv_conf_says)
{
    rig r;
    caller a;
    server s;
    char ip[WH_ADDR_TEXT_MAX];
    rig_init(&r, NULL, -1);
    rig_pod(&r, "a", pod_a, &(wh_netd_pod){.resolv_conf = resolv_conf, .hosts = "10.1.9.9 db db.example\n"});
    server_init(&s, &r, "10.1.255.53");
    caller_init(&a, &r, "a");
    CHECK_INT(caller_ask(&a, WH_NETD_RESOLVE, NULL, "a1.example.org", NULL), ==, 0);
    CHECK_INT(a.answer.n_addresses, ==, 1);
    CHECK_STR(first_ip(&a, ip), "10.1.7.1");
    /* Fewer dots than ndots: the search list first. The pod has no IPv6 address, so none is asked for. */
    CHECK_STR(s.asked,
              "a1.example.org.prod.svc.cluster.local/1 a1.example.org.svc.cluster.local/1 a1.example.org/1 ");
    s.asked[0] = '\0';
    CHECK_INT(caller_ask(&a, WH_NETD_RESOLVE, NULL, "svc", NULL), ==, 0);
    CHECK_STR(s.asked, "svc.prod.svc.cluster.local/1 ");
    s.asked[0] = '\0';
    CHECK_INT(caller_ask(&a, WH_NETD_RESOLVE, NULL, "a1.example.org.", NULL), ==, 0);
    CHECK_STR(s.asked, "a1.example.org/1 ");
    CHECK_INT(caller_ask(&a, WH_NETD_RESOLVE, NULL, "gone.example.org", NULL), ==, -ENOENT);
    s.asked[0] = '\0';
    CHECK_INT(caller_ask(&a, WH_NETD_RESOLVE, NULL, "DB.example", NULL), ==, 0);
    CHECK_STR(first_ip(&a, ip), "10.1.9.9");
    CHECK_INT(caller_ask(&a, WH_NETD_RESOLVE, NULL, "localhost", NULL), ==, 0);
    CHECK_STR(first_ip(&a, ip), "127.0.0.1");
    CHECK_INT(caller_ask(&a, WH_NETD_RESOLVE, NULL, "10.1.2.3", NULL), ==, 0);
    CHECK_STR(first_ip(&a, ip), "10.1.2.3");
    CHECK_STR(s.asked, "");
    CHECK_INT(caller_ask(&a, WH_NETD_RESOLVE, NULL, "many.example.org.", NULL), ==, 0);
    CHECK_INT(a.answer.n_addresses, ==, WH_NETD_ADDRESSES_MAX);
    CHECK_INT(caller_ask(&a, WH_NETD_RESOLVE, NULL, "cut.example.org.", NULL), ==, 0); /* over TCP */
    CHECK_STR(first_ip(&a, ip), "10.1.7.1");
    caller_done(&a);
    server_done(&s);
    rig_done(&r);
}

TEST(forged_and_missing_answers)
{
    rig r;
    caller a;
    server s, second;
    rig_init(&r, NULL, -1);
    rig_pod(&r, "a", pod_a, &(wh_netd_pod){.resolv_conf = resolv_conf});
    server_init(&s, &r, "10.1.255.53");
    caller_init(&a, &r, "a");
    s.wrong_first = 3;
    CHECK_INT(caller_ask(&a, WH_NETD_RESOLVE, NULL, "a1.example.org.", NULL), ==, 0);
    CHECK_INT(caller_ask(&a, WH_NETD_RESOLVE, NULL, "broken.example.org.", NULL), ==,
              -EAGAIN); /* no second server */
    server_init(&second, &r, "10.1.255.54");
    wh_time before = wh_mono_now();
    CHECK_INT(caller_ask(&a, WH_NETD_RESOLVE, NULL, "mute.example.org.", NULL), ==, -EAGAIN);
    CHECK_INT(wh_mono_now() - before, >=, 2 * WH_SEC); /* a second for each server */
    CHECK_STR(second.asked, "mute.example.org/1 ");
    caller_done(&a);
    server_done(&s);
    server_done(&second);
    rig_done(&r);
}

TEST(a_rule_by_name_opens_what_the_name_led_to)
{
    rig r;
    caller a;
    server s;
    char host[] = "a1.example.org";
    wh_egress_rule rules[] = {{.host = host, .port_first = 80, .port_last = 80}};
    rig_init(&r, NULL, -1);
    rig_pod(&r, "a", pod_a,
            &(wh_netd_pod){.resolv_conf = resolv_conf, .rules = rules, .n_rules = 1, .closed = true});
    server_init(&s, &r, "10.1.255.53");
    caller_init(&a, &r, "a");
    CHECK_INT(caller_ask(&a, WH_NETD_CONNECT, "10.1.7.1:80", "a1.example.org", NULL), ==,
              -EACCES); /* not asked yet */
    CHECK_INT(caller_ask(&a, WH_NETD_RESOLVE, NULL, "many.example.org.", NULL), ==, 0);
    CHECK_INT(caller_ask(&a, WH_NETD_CONNECT, "10.1.7.1:80", "a1.example.org", NULL), ==,
              -EACCES); /* another name */
    CHECK_INT(caller_ask(&a, WH_NETD_RESOLVE, NULL, "A1.example.org", NULL), ==, 0);
    CHECK_INT(caller_ask(&a, WH_NETD_CONNECT, "10.1.7.1:80", NULL, NULL), ==,
              -ECONNREFUSED); /* let through */
    CHECK_INT(caller_ask(&a, WH_NETD_CONNECT, "10.1.7.1:81", NULL, NULL), ==, -EACCES);
    CHECK_INT(caller_ask(&a, WH_NETD_CONNECT, "10.1.7.2:80", NULL, NULL), ==, -EACCES);
    caller_done(&a);
    server_done(&s);
    rig_done(&r);
}

TEST(resolv_conf_is_read_as_everybody_does)
{
    wh_dns_conf c;
    char name[WH_NETD_NAME_MAX + 1];
    wh_dns_conf_read(
        "# comment\n; another\nnameserver fd00::a\r\nnameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver "
        "10.0.0.3\nnameserver x\ndomain old\nsearch a.b c.d. -\noptions rotate ndots:99 timeout:0\n",
        &c);
    CHECK_INT(c.n_servers, ==, 3);
    CHECK_INT(c.servers[0].sa.sa_family, ==, AF_INET6);
    CHECK_INT(c.n_search, ==, 3);
    CHECK_STR(c.search[1], "c.d");
    CHECK_INT(c.ndots, ==, 15);
    CHECK_INT(c.timeout_s, ==, 1);
    CHECK(wh_dns_candidate(&c, "x", 0, name));
    CHECK_STR(name, "x.a.b");
    CHECK(wh_dns_candidate(&c, "x", 3, name));
    CHECK_STR(name, "x");
    CHECK(!wh_dns_candidate(&c, "x", 4, name));
    c.ndots = 1;
    CHECK(wh_dns_candidate(&c, "x.y", 0, name));
    CHECK_STR(name, "x.y");
    CHECK(wh_dns_candidate(&c, "x.y", 1, name));
    CHECK_STR(name, "x.y.a.b");
    CHECK(wh_dns_candidate(&c, "x.", 0, name));
    CHECK_STR(name, "x");
    CHECK(!wh_dns_candidate(&c, "x.", 1, name));
    wh_dns_conf_done(&c);
    wh_dns_conf_read(NULL, &c);
    CHECK_INT(c.n_servers, ==, 0);
    CHECK_INT(c.ndots, ==, 1);
}
