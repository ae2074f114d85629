/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP client over TLS, against our own TLS server on the other end of a socket pair. */
#include "client_world.h"

#include <signal.h>

typedef struct tls_peer {
    wh_tls_server *server;
    wh_tls *tls;
    wh_buf heard;
    char *ca; /* the server's own certificate, which is trusted */
} tls_peer;

static void make_certificate(char **key, char **cert, const char *dns, const char *ip, wh_time lifetime)
{
    wh_err err = {0};
    auto_strv wh_strv names = NULL;
    auto_strv wh_strv ips = NULL;
    if (dns != NULL)
        wh_strv_push(&names, dns);
    if (ip != NULL)
        wh_strv_push(&ips, ip);
    CHECK_OK(wh_key_new(key, &err), &err);
    CHECK_OK(wh_cert_self_signed(*key, "example", names, ips, lifetime, cert, &err), &err);
}

static void peer_open(tls_peer *peer, const char *dns, const char *ip, wh_time lifetime)
{
    wh_err err = {0};
    auto_free char *key = NULL;
    *peer = (tls_peer){0};
    make_certificate(&key, &peer->ca, dns, ip, lifetime);
    const wh_tls_server_options options = {.cert_pem = peer->ca, .key_pem = key};
    CHECK_OK(wh_tls_server_new(&options, &peer->server, &err), &err);
    wh_buf_init(&peer->heard, 1UL << 20);
}

static void peer_close(tls_peer *peer)
{
    wh_tls_free(peer->tls);
    wh_tls_server_free(peer->server);
    wh_buf_done(&peer->heard);
    free(peer->ca);
}

/* Lets both sides go on. */
static void go_on(world *w, tls_peer *peer, int times)
{
    char block[4096];
    for (int i = 0; i < times; i++) {
        rounds(w, 2);
        if (w->n_peers == 0)
            continue;
        if (peer->tls == NULL)
            CHECK_INT(wh_tls_accept(peer->server, w->peers[0], true, &peer->tls, NULL), ==, 0);
        ssize_t n = wh_tls_read(peer->tls, block, sizeof(block));
        if (n > 0)
            CHECK_INT(wh_buf_append(&peer->heard, block, (size_t)n), ==, 0);
    }
}

static void begin(world *w, seen *s, const char *ca, const char *authority)
{
    (void)signal(SIGPIPE,
                 SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL: every program with sockets ignores it */
    world_open(w, &(wh_client_options){.ca_pem = ca, .tls = &wh_tls_client_openssl});
    seen_init(s);
    wh_client_request request = a_request("GET", 0);
    request.scheme = WH_STR("https");
    request.authority = wh_str_of(authority);
    start(w, s, &request);
}

TEST(requests_over_tls)
{
    world w = {0};
    seen s;
    tls_peer peer;
    peer_open(&peer, "example.test", NULL, WH_HOUR);
    begin(&w, &s, peer.ca, "Example.test");
    go_on(&w, &peer, 10);
    CHECK_STR(wh_buf_str(&peer.heard), "GET /a?b HTTP/1.1\r\nHost: Example.test\r\n\r\n");
    CHECK(!wh_tls_is_h2(peer.tls)); /* which the server offered */
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
    CHECK_INT(wh_tls_write(peer.tls, answer, sizeof(answer) - 1), ==, sizeof(answer) - 1);
    go_on(&w, &peer, 4);
    CHECK_INT(s.dones, ==, 1);
    CHECK_STR(s.why, "");
    CHECK_STR(wh_buf_str(&s.body), "abc");
    CHECK_INT(wh_client_idle(w.client), ==, 1);
    /* And again on the same one. */
    seen second;
    seen_init(&second);
    wh_client_request request = a_request("GET", 0);
    request.scheme = WH_STR("https");
    start(&w, &second, &request);
    go_on(&w, &peer, 4);
    CHECK_INT(w.n_peers, ==, 1);
    CHECK_INT(wh_tls_write(peer.tls, answer, sizeof(answer) - 1), ==, sizeof(answer) - 1);
    go_on(&w, &peer, 4);
    CHECK_STR(wh_buf_str(&second.body), "abc");
    seen_free(&s);
    seen_free(&second);
    world_close(&w);
    peer_close(&peer);
}

TEST(an_address_in_the_certificate)
{
    world w = {0};
    seen s;
    tls_peer peer;
    peer_open(&peer, NULL, "::1", WH_HOUR);
    begin(&w, &s, peer.ca, "[::1]:8443");
    go_on(&w, &peer, 10);
    CHECK_CONTAINS(wh_buf_str(&peer.heard), "Host: [::1]:8443\r\n");
    seen_free(&s);
    world_close(&w);
    peer_close(&peer);
}

static void expect_refusal(tls_peer *peer, const char *ca, const char *authority, const char *why)
{
    world w = {0};
    seen s;
    begin(&w, &s, ca, authority);
    go_on(&w, peer, 10);
    CHECK_INT(s.dones, ==, 1);
    CHECK_INT(s.error, ==, WH_CLIENT_TLS);
    CHECK_CONTAINS(s.why, why);
    CHECK_INT(peer->heard.len, ==, 0);
    seen_free(&s);
    world_close(&w);
    wh_tls_free(WH_TAKE(peer->tls));
}

TEST(certificates_that_do_not_do)
{
    tls_peer peer;
    auto_free char *key = NULL;
    auto_free char *other = NULL;
    peer_open(&peer, "example.test", NULL, WH_HOUR);
    make_certificate(&key, &other, "example.test", NULL, WH_HOUR);
    expect_refusal(&peer, other, "example.test", "certificate");
    expect_refusal(&peer, peer.ca, "other.test", "hostname mismatch");
    expect_refusal(&peer, peer.ca, "example.test.evil", "hostname mismatch");
    expect_refusal(&peer, peer.ca, "127.0.0.1", "IP address mismatch");
    peer_close(&peer);
    peer_open(&peer, "example.test", NULL, WH_SEC - WH_HOUR); /* it began an hour ago */
    expect_refusal(&peer, peer.ca, "example.test", "expired");
    peer_close(&peer);
}

TEST(a_server_that_speaks_no_tls)
{
    world w = {0};
    seen s;
    tls_peer peer;
    peer_open(&peer, "example.test", NULL, WH_HOUR);
    begin(&w, &s, peer.ca, "example.test");
    rounds(&w, 4);
    say(&w, 0, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    rounds(&w, 4);
    CHECK_INT(s.error, ==, WH_CLIENT_TLS);
    CHECK_INT(s.dones, ==, 1);
    seen_free(&s);
    world_close(&w);
    peer_close(&peer);
}

/* An end that TLS did not announce may be an attacker's: a body that lasts until then is not complete. */
TEST(an_answer_that_is_cut_off)
{
    for (int announced = 0; announced < 2; announced++) {
        world w = {0};
        seen s;
        tls_peer peer;
        peer_open(&peer, "example.test", NULL, WH_HOUR);
        begin(&w, &s, peer.ca, "example.test");
        go_on(&w, &peer, 10);
        static const char answer[] = "HTTP/1.1 200 OK\r\n\r\nabc";
        CHECK_INT(wh_tls_write(peer.tls, answer, sizeof(answer) - 1), ==, sizeof(answer) - 1);
        if (announced)
            wh_tls_shutdown(peer.tls);
        world_hang_up(&w, 0);
        rounds(&w, 6);
        CHECK_STR(wh_buf_str(&s.body), "abc");
        CHECK_INT(s.error, ==, announced ? WH_CLIENT_OK : WH_CLIENT_TERMINATED);
        CHECK_INT(s.dones, ==, 1);
        seen_free(&s);
        world_close(&w);
        peer_close(&peer);
    }
}

TEST(a_handshake_that_never_ends)
{
    world w = {0};
    seen s;
    tls_peer peer;
    peer_open(&peer, "example.test", NULL, WH_HOUR);
    world_open(&w, &(wh_client_options){.ca_pem = peer.ca, .tls = &wh_tls_client_openssl});
    seen_init(&s);
    wh_client_request request = a_request("GET", 0);
    request.scheme = WH_STR("https");
    request.connect_timeout = 30 * WH_MSEC;
    start(&w, &s, &request);
    wh_time end = wh_mono_now() + 3 * WH_SEC;
    while (s.dones == 0 && wh_mono_now() < end)
        CHECK_INT(wh_loop_once(w.loop, WH_SEC), ==, 0);
    CHECK_INT(s.error, ==, WH_CLIENT_TIMEOUT);
    seen_free(&s);
    world_close(&w);
    peer_close(&peer);
}

TEST(roots_that_are_none)
{
    wh_loop *loop = NULL;
    wh_client *client = NULL;
    wh_err err = {0};
    CHECK_OK(wh_loop_new(&loop, &err), &err);
    const wh_client_options options = {.ca_pem = "nothing", .tls = &wh_tls_client_openssl};
    CHECK_ERR(wh_client_new(loop, &options, &client, &err), -EBADMSG, &err, "PEM");
    wh_loop_free(loop);
}
