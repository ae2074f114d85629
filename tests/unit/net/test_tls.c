/* SPDX-License-Identifier: Apache-2.0 */
/* TLS connections against OpenSSL's own client, over a socket pair: handshake, identity, data, swaps, refusals. */
#include "net/tls.h"

#include "harness.h"

#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <sys/socket.h>

typedef struct authority {
    EVP_PKEY *key;
    X509 *cert;
    char *pem;
} authority;

static char *to_pem(X509 *cert)
{
    BIO *bio = BIO_new(BIO_s_mem());
    CHECK_INT(PEM_write_bio_X509(bio, cert), ==, 1);
    char *data = NULL;
    long n = BIO_get_mem_data(bio, &data);
    char *pem = wh_xstrndup(data, (size_t)n);
    BIO_free(bio);
    return pem;
}

static void add_ext(X509 *cert, int nid, const char *value)
{
    X509_EXTENSION *ext = X509V3_EXT_nconf_nid(NULL, NULL, nid, value);
    CHECK(ext != NULL);
    CHECK_INT(X509_add_ext(cert, ext, -1), ==, 1);
    X509_EXTENSION_free(ext);
}

static X509 *issue(const authority *by, EVP_PKEY *key, const char *org, const unsigned char *cn, int cn_len,
                   const char *usage, long end)
{
    X509 *cert = X509_new();
    X509_NAME *name = X509_get_subject_name(cert);
    CHECK_INT(X509_set_version(cert, X509_VERSION_3), ==, 1);
    CHECK_INT(ASN1_INTEGER_set(X509_get_serialNumber(cert), 7), ==, 1);
    if (org != NULL)
        CHECK_INT(X509_NAME_add_entry_by_NID(name, NID_organizationName, MBSTRING_UTF8,
                                             (const unsigned char *)org, -1, -1, 0),
                  ==, 1);
    CHECK_INT(X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8, cn, cn_len, -1, 0), ==, 1);
    CHECK(X509_gmtime_adj(X509_getm_notBefore(cert), -3600) != NULL);
    CHECK(X509_gmtime_adj(X509_getm_notAfter(cert), end) != NULL);
    CHECK_INT(X509_set_pubkey(cert, key), ==, 1);
    CHECK_INT(X509_set_issuer_name(cert, by == NULL ? name : X509_get_subject_name(by->cert)), ==, 1);
    add_ext(cert, NID_basic_constraints, by == NULL ? "critical,CA:TRUE" : "critical,CA:FALSE");
    if (usage != NULL)
        add_ext(cert, NID_ext_key_usage, usage);
    CHECK_INT(X509_sign(cert, by == NULL ? key : by->key, EVP_sha256()), >, 0);
    return cert;
}

static authority make_ca(const char *cn)
{
    authority ca = {.key = EVP_EC_gen("P-256")};
    ca.cert = issue(NULL, ca.key, NULL, (const unsigned char *)cn, -1, NULL, 3600);
    ca.pem = to_pem(ca.cert);
    return ca;
}

static void free_ca(authority *ca)
{
    EVP_PKEY_free(ca->key);
    X509_free(ca->cert);
    free(ca->pem);
}

typedef struct pair {
    wh_tls_server *server;
    wh_tls *tls;
    SSL_CTX *client_ctx;
    SSL *client;
    int fds[2];
} pair;

static wh_tls_server *make_server(const char *client_ca)
{
    auto_free char *key = NULL;
    auto_free char *cert = NULL;
    wh_tls_server *server = NULL;
    wh_err err = {0};
    CHECK_OK(wh_key_new(&key, &err), &err);
    CHECK_OK(wh_cert_self_signed(key, "server-1", NULL, NULL, WH_HOUR, &cert, &err), &err);
    wh_tls_server_options o = {.cert_pem = cert, .key_pem = key, .client_ca_pem = client_ca};
    CHECK_OK(wh_tls_server_new(&o, &server, &err), &err);
    return server;
}

static pair make_pair(const char *client_ca, X509 *client_cert, EVP_PKEY *client_key)
{
    pair p = {.server = make_server(client_ca), .fds = {-1, -1}};
    (void)signal(SIGPIPE, SIG_IGN);
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, p.fds), ==, 0);
    CHECK_OK(wh_tls_accept(p.server, p.fds[0], false, &p.tls, NULL), NULL);
    p.client_ctx = SSL_CTX_new(TLS_client_method());
    if (client_cert != NULL) {
        CHECK_INT(SSL_CTX_use_certificate(p.client_ctx, client_cert), ==, 1);
        CHECK_INT(SSL_CTX_use_PrivateKey(p.client_ctx, client_key), ==, 1);
    }
    p.client = SSL_new(p.client_ctx);
    SSL_set_fd(p.client, p.fds[1]);
    SSL_set_connect_state(p.client);
    return p;
}

static void free_pair(pair *p)
{
    wh_tls_free(p->tls);
    wh_tls_server_free(p->server);
    SSL_free(p->client);
    SSL_CTX_free(p->client_ctx);
    close(p->fds[0]);
    close(p->fds[1]);
}

/* Lets both sides talk; the server's result. */
static int shake(pair *p)
{
    int r = -EAGAIN;
    wh_err err = {0};
    for (int i = 0; i < 20 && r == -EAGAIN; i++) {
        (void)SSL_do_handshake(p->client);
        r = wh_tls_handshake(p->tls, &err);
    }
    (void)SSL_do_handshake(p->client);
    return r;
}

TEST(data_passes_and_ends)
{
    pair p = make_pair(NULL, NULL, NULL);
    CHECK_INT(shake(&p), ==, 0);
    CHECK(wh_tls_peer_of(p.tls) == NULL);
    char buf[64] = "";
    CHECK_INT(wh_tls_read(p.tls, buf, sizeof(buf)), ==, -EAGAIN);
    CHECK_INT(SSL_write(p.client, "ping", 4), ==, 4);
    CHECK_INT(wh_tls_read(p.tls, buf, sizeof(buf)), ==, 4);
    CHECK_MEM(buf, "ping", 4);
    CHECK_INT(wh_tls_write(p.tls, "pong", 4), ==, 4);
    CHECK_INT(SSL_read(p.client, buf, sizeof(buf)), ==, 4);
    CHECK_MEM(buf, "pong", 4);
    (void)SSL_shutdown(p.client);
    CHECK_INT(wh_tls_read(p.tls, buf, sizeof(buf)), ==, 0);
    wh_tls_shutdown(p.tls);
    free_pair(&p);
}

TEST(alpn_offers_http_1_1)
{
    pair p = make_pair(NULL, NULL, NULL);
    CHECK_INT(SSL_set_alpn_protos(p.client, (const unsigned char *)"\x02h2\x08http/1.1", 12), ==, 0);
    CHECK_INT(shake(&p), ==, 0);
    const unsigned char *chosen = NULL;
    unsigned n = 0;
    SSL_get0_alpn_selected(p.client, &chosen, &n);
    CHECK_INT(n, ==, 8);
    CHECK_MEM(chosen, "http/1.1", 8);
    free_pair(&p);
}

TEST(old_tls_is_refused)
{
    pair p = make_pair(NULL, NULL, NULL);
    (void)SSL_set_min_proto_version(p.client, TLS1_VERSION);
    (void)SSL_set_max_proto_version(p.client, TLS1_1_VERSION);
    SSL_set_security_level(p.client, 0);
    CHECK_INT(shake(&p), <, 0);
    free_pair(&p);
}

TEST(a_client_certificate_names_its_owner)
{
    authority ca = make_ca("client-ca");
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = issue(&ca, key, "system:masters", (const unsigned char *)"admin", -1, "clientAuth", 3600);
    pair p = make_pair(ca.pem, cert, key);
    CHECK_INT(shake(&p), ==, 0);
    const wh_tls_peer *peer = wh_tls_peer_of(p.tls);
    CHECK(peer != NULL);
    CHECK_STR(peer->cn, "admin");
    CHECK(wh_strv_has(peer->orgs, "system:masters"));
    free_pair(&p);
    X509_free(cert);
    EVP_PKEY_free(key);
    free_ca(&ca);
}

TEST(a_client_may_stay_without_a_certificate)
{
    authority ca = make_ca("client-ca");
    pair p = make_pair(ca.pem, NULL, NULL);
    CHECK_INT(shake(&p), ==, 0);
    CHECK(wh_tls_peer_of(p.tls) == NULL);
    free_pair(&p);
    free_ca(&ca);
}

static void refuse_client(const authority *trusted, const authority *issuer, const char *usage, long end)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = issue(issuer, key, "system:masters", (const unsigned char *)"admin", -1, usage, end);
    pair p = make_pair(trusted->pem, cert, key);
    CHECK_INT(shake(&p), <, 0);
    CHECK(wh_tls_peer_of(p.tls) == NULL);
    char buf[8];
    CHECK_INT(wh_tls_read(p.tls, buf, sizeof(buf)), <, 0);
    CHECK_INT(wh_tls_write(p.tls, "x", 1), <, 0);
    wh_tls_shutdown(p.tls);
    free_pair(&p);
    X509_free(cert);
    EVP_PKEY_free(key);
}

TEST(certificates_of_others_are_refused)
{
    authority ca = make_ca("client-ca");
    authority other = make_ca("client-ca"); /* the same name, another key */
    refuse_client(&ca, &other, "clientAuth", 3600);
    refuse_client(&ca, &ca, "serverAuth", 3600);
    refuse_client(&ca, &ca, "clientAuth", -60);
    free_ca(&ca);
    free_ca(&other);
}

TEST(a_nul_in_a_name_makes_it_no_name)
{
    authority ca = make_ca("client-ca");
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = issue(&ca, key, NULL, (const unsigned char *)"admin\0.evil", 11, "clientAuth", 3600);
    pair p = make_pair(ca.pem, cert, key);
    CHECK_INT(shake(&p), ==, 0);
    const wh_tls_peer *peer = wh_tls_peer_of(p.tls);
    CHECK(peer == NULL || peer->cn == NULL);
    free_pair(&p);
    X509_free(cert);
    EVP_PKEY_free(key);
    free_ca(&ca);
}

static void server_cn(pair *p, char *out, size_t n)
{
    X509 *cert = SSL_get1_peer_certificate(p->client);
    CHECK(cert != NULL);
    CHECK_INT(X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, out, (int)n), >, 0);
    X509_free(cert);
}

TEST(a_swap_is_for_new_connections)
{
    pair p = make_pair(NULL, NULL, NULL);
    auto_free char *key = NULL;
    auto_free char *cert = NULL;
    wh_err err = {0};
    CHECK_INT(shake(&p), ==, 0);
    CHECK_OK(wh_key_new(&key, &err), &err);
    CHECK_OK(wh_cert_self_signed(key, "server-2", NULL, NULL, WH_HOUR, &cert, &err), &err);
    wh_tls_server_options bad = {.cert_pem = cert, .key_pem = "nonsense"};
    CHECK_FAIL(wh_tls_server_set(p.server, &bad, &err), -EBADMSG);
    wh_tls_server_options good = {.cert_pem = cert, .key_pem = key};
    CHECK_OK(wh_tls_server_set(p.server, &good, &err), &err);
    CHECK_INT(wh_tls_write(p.tls, "still", 5), ==, 5);
    char cn[64];
    server_cn(&p, cn, sizeof(cn));
    CHECK_STR(cn, "server-1");

    wh_tls_free(p.tls);
    SSL_free(p.client);
    close(p.fds[0]);
    close(p.fds[1]);
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, p.fds), ==, 0);
    CHECK_OK(wh_tls_accept(p.server, p.fds[0], false, &p.tls, NULL), NULL);
    p.client = SSL_new(p.client_ctx);
    SSL_set_fd(p.client, p.fds[1]);
    SSL_set_connect_state(p.client);
    CHECK_INT(shake(&p), ==, 0);
    server_cn(&p, cn, sizeof(cn));
    CHECK_STR(cn, "server-2");
    free_pair(&p);
}

TEST(garbage_ends_the_handshake)
{
    pair p = make_pair(NULL, NULL, NULL);
    CHECK_INT(write(p.fds[1], "GET / HTTP/1.1\r\n\r\n", 18), ==, 18);
    wh_err err = {0};
    CHECK_ERR(wh_tls_handshake(p.tls, &err), -EPROTO, &err, "TLS connection");
    CHECK_INT(wh_tls_handshake(p.tls, &err), <, 0);
    free_pair(&p);
    p = make_pair(NULL, NULL, NULL);
    CHECK_INT(shutdown(p.fds[1], SHUT_WR), ==, 0);
    CHECK_INT(wh_tls_handshake(p.tls, &err), <, 0);
    free_pair(&p);
}

TEST(alpn_offers_http2_where_it_is_wanted)
{
    static const struct {
        const unsigned char *offer;
        unsigned n;
        bool h2, ok, want_h2;
    } cases[] = {
        {(const unsigned char *)"\x02h2\x08http/1.1", 12, true, true, true},
        {(const unsigned char *)"\x08http/1.1\x02h2", 12, true, true, true}, /* our order counts */
        {(const unsigned char *)"\x02h2\x08http/1.1", 12, false, true, false},
        {(const unsigned char *)"\x08http/1.1", 9, true, true, false},
        {(const unsigned char *)"\x02h2", 3, false, false, false},
        {NULL, 0, true, true, false},
    };
    for (size_t i = 0; i < WH_ARRAY_LEN(cases); i++) {
        pair p = make_pair(NULL, NULL, NULL);
        wh_tls_free(p.tls);
        CHECK_OK(wh_tls_accept(p.server, p.fds[0], cases[i].h2, &p.tls, NULL), NULL);
        if (cases[i].n > 0)
            CHECK_INT(SSL_set_alpn_protos(p.client, cases[i].offer, cases[i].n), ==, 0);
        CHECK(!wh_tls_is_h2(p.tls));
        CHECK((shake(&p) == 0) == cases[i].ok);
        CHECK(wh_tls_is_h2(p.tls) == cases[i].want_h2);
        CHECK(wh_tls_ops_of(p.server)->is_h2(p.tls) == cases[i].want_h2);
        free_pair(&p);
    }
}
