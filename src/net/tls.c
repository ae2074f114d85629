/* SPDX-License-Identifier: Apache-2.0 */
/* Server connections over OpenSSL with the socket as its BIO: the loop waits, OpenSSL reads and writes. */
#include "net/internal.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <sys/epoll.h>

#define TLS_MAGIC 0x77746c73u

struct wh_tls_server {
    const wh_tls_ops *ops; /* first: see wh_tls_ops_of */
    SSL_CTX *ctx;          /* connections hold their own references, so a swap leaves them alone */
};

struct wh_tls {
    unsigned magic;
    SSL *ssl;
    uint32_t wants;
    bool failed; /* after a fatal error nothing may touch the SSL object, not even a shutdown */
    bool has_peer;
    bool h2; /* is offered */
    wh_tls_peer peer;
};

static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                       unsigned in_len, void *user)
{
    static const unsigned char both[] = "\x02h2\x08http/1.1";
    const wh_tls *tls = SSL_get_app_data(ssl);
    (void)user;
    size_t skip = tls->h2 ? 0 : 3;
    unsigned char *chosen = NULL;
    if (SSL_select_next_proto(&chosen, out_len, both + skip, (unsigned)(sizeof(both) - 1 - skip), in,
                              in_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static int use_certificate(SSL_CTX *ctx, const wh_tls_server_options *o, wh_err *err)
{
    auto_bio BIO *bio = BIO_new_mem_buf(o->cert_pem, -1);
    if (bio == NULL)
        return wh_ssl_fail(err, -ENOMEM, "read a certificate");
    auto_x509 X509 *cert = NULL;
    auto_pkey EVP_PKEY *key = NULL;
    int r = wh_ssl_read_cert(bio, &cert, err);
    if (r == 0)
        r = wh_ssl_read_key(o->key_pem, &key, err);
    if (r < 0)
        return r;
    if (SSL_CTX_use_certificate(ctx, cert) != 1 || SSL_CTX_use_PrivateKey(ctx, key) != 1)
        return wh_ssl_fail(err, -EBADMSG, "use certificate and key");
    X509 *more;
    while ((more = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        if (SSL_CTX_add0_chain_cert(ctx, more) != 1) {
            X509_free(more);
            return wh_ssl_fail(err, -EBADMSG, "use the certificate's chain");
        }
    }
    ERR_clear_error(); /* the end of the file is how the loop ends */
    return 0;
}

static int use_client_ca(SSL_CTX *ctx, const char *pem, wh_err *err)
{
    auto_bio BIO *bio = BIO_new_mem_buf(pem, -1);
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    size_t count = 0;
    X509 *cert;
    while (bio != NULL && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        bool ok = X509_STORE_add_cert(store, cert) == 1 && SSL_CTX_add_client_CA(ctx, cert) == 1;
        X509_free(cert);
        if (!ok)
            return wh_ssl_fail(err, -EBADMSG, "use the client CA");
        count++;
    }
    ERR_clear_error();
    if (count == 0)
        return wh_fail(err, -EBADMSG, "use the client CA: the file holds no PEM certificate");
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_CLIENT_ONCE, NULL);
    if (X509_STORE_set_purpose(store, X509_PURPOSE_SSL_CLIENT) != 1)
        return wh_ssl_fail(err, -EIO, "use the client CA");
    return 0;
}

static int make_context(const wh_tls_server_options *o, SSL_CTX **ret, wh_err *err)
{
    static const unsigned char session_context[] = "wherry";
    auto_ssl_ctx SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (ctx == NULL || SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_session_id_context(ctx, session_context, sizeof(session_context) - 1) != 1)
        return wh_ssl_fail(err, -EIO, "make a TLS context");
    /* No tickets: a resumed session would carry a client certificate that was checked against an older CA. */
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    (void)SSL_CTX_set_num_tickets(ctx, 0);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_alpn_select_cb(ctx, choose_alpn, NULL);
    if (SSL_CTX_set_cipher_list(ctx, "ECDHE+AESGCM:ECDHE+CHACHA20") != 1)
        return wh_ssl_fail(err, -EIO, "choose TLS 1.2 ciphers");
    int r = use_certificate(ctx, o, err);
    if (r == 0 && o->client_ca_pem != NULL)
        r = use_client_ca(ctx, o->client_ca_pem, err);
    if (r == 0)
        *ret = WH_TAKE(ctx);
    return r;
}

int wh_tls_server_new(const wh_tls_server_options *options, wh_tls_server **ret, wh_err *err)
{
    SSL_CTX *ctx = NULL;
    int r = make_context(options, &ctx, err);
    if (r < 0)
        return r;
    static const wh_tls_ops ops = {.accept = wh_tls_accept,
                                   .free = wh_tls_free,
                                   .handshake = wh_tls_handshake,
                                   .read = wh_tls_read,
                                   .write = wh_tls_write,
                                   .wants = wh_tls_wants,
                                   .shutdown = wh_tls_shutdown,
                                   .peer_of = wh_tls_peer_of,
                                   .is_h2 = wh_tls_is_h2};
    wh_tls_server *server = wh_xnew(wh_tls_server);
    server->ops = &ops;
    server->ctx = ctx;
    *ret = server;
    return 0;
}

int wh_tls_server_set(wh_tls_server *server, const wh_tls_server_options *options, wh_err *err)
{
    SSL_CTX *ctx = NULL;
    int r = make_context(options, &ctx, err);
    if (r < 0)
        return r;
    SSL_CTX_free(server->ctx);
    server->ctx = ctx;
    return 0;
}

void wh_tls_server_free(wh_tls_server *server)
{
    if (server == NULL)
        return;
    SSL_CTX_free(server->ctx);
    free(server);
}

wh_tls *wh_tls_wrap(SSL *ssl)
{
    wh_tls *tls = wh_xnew(wh_tls);
    tls->magic = TLS_MAGIC;
    tls->ssl = ssl;
    tls->wants = EPOLLIN;
    (void)SSL_set_app_data(ssl, tls);
    return tls;
}

SSL *wh_tls_unwrap(const wh_tls *tls)
{
    return tls->ssl;
}

int wh_tls_accept(wh_tls_server *server, int fd, bool h2, wh_tls **ret, wh_err *err)
{
    SSL *ssl = SSL_new(server->ctx);
    if (ssl == NULL || SSL_set_fd(ssl, fd) != 1) {
        SSL_free(ssl);
        return wh_ssl_fail(err, -ENOMEM, "make a TLS connection");
    }
    SSL_set_accept_state(ssl);
    wh_tls *tls = wh_tls_wrap(ssl);
    tls->h2 = h2;
    *ret = tls;
    return 0;
}

void wh_tls_free(wh_tls *tls)
{
    if (tls == NULL)
        return;
    wh_assert(tls->magic == TLS_MAGIC);
    tls->magic = 0;
    SSL_free(tls->ssl);
    wh_tls_peer_done(&tls->peer);
    free(tls);
}

/* Turns OpenSSL's answer into ours; what the peer does wrong is -EPROTO. */
static int outcome(wh_tls *tls, int r, wh_err *err)
{
    int saved = errno;
    switch (SSL_get_error(tls->ssl, r)) {
    case SSL_ERROR_WANT_READ:
        tls->wants = EPOLLIN;
        return -EAGAIN;
    case SSL_ERROR_WANT_WRITE:
        tls->wants = EPOLLOUT;
        return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_SYSCALL:
        tls->failed = true;
        ERR_clear_error();
        return wh_fail(err, saved != 0 ? -saved : -ECONNRESET, "TLS connection");
    default:
        tls->failed = true;
        return wh_ssl_fail(err, -EPROTO, "TLS connection");
    }
}

static void learn_peer(wh_tls *tls)
{
    X509 *cert = SSL_get1_peer_certificate(tls->ssl);
    if (cert == NULL)
        return;
    if (SSL_get_verify_result(tls->ssl) == X509_V_OK) {
        wh_ssl_subject(cert, &tls->peer);
        tls->has_peer = true;
    }
    X509_free(cert);
}

int wh_tls_handshake(wh_tls *tls, wh_err *err)
{
    wh_assert(tls->magic == TLS_MAGIC);
    if (SSL_is_init_finished(tls->ssl))
        return 0;
    if (tls->failed)
        return wh_fail(err, -EPROTO, "TLS connection: it failed before");
    ERR_clear_error();
    errno = 0;
    int r = SSL_do_handshake(tls->ssl);
    if (r == 1) {
        learn_peer(tls);
        return 0;
    }
    r = outcome(tls, r, err);
    return r == 0 ? wh_fail(err, -ECONNRESET, "TLS connection: the peer left during the handshake") : r;
}

ssize_t wh_tls_read(wh_tls *tls, void *p, size_t n)
{
    int r = wh_tls_handshake(tls, NULL);
    if (r < 0)
        return r;
    if (tls->failed)
        return -EPROTO;
    ERR_clear_error();
    errno = 0;
    size_t got = 0;
    r = SSL_read_ex(tls->ssl, p, n, &got);
    return r == 1 ? (ssize_t)got : outcome(tls, r, NULL);
}

ssize_t wh_tls_write(wh_tls *tls, const void *p, size_t n)
{
    int r = wh_tls_handshake(tls, NULL);
    if (r < 0)
        return r;
    if (tls->failed)
        return -EPROTO;
    ERR_clear_error();
    errno = 0;
    size_t put = 0;
    r = SSL_write_ex(tls->ssl, p, n, &put);
    if (r == 1)
        return (ssize_t)put;
    r = outcome(tls, r, NULL);
    return r == 0 ? -EPIPE : r;
}

uint32_t wh_tls_wants(const wh_tls *tls)
{
    return tls->wants;
}

void wh_tls_shutdown(wh_tls *tls)
{
    if (tls->failed || !SSL_is_init_finished(tls->ssl))
        return;
    ERR_clear_error();
    (void)SSL_shutdown(tls->ssl);
    ERR_clear_error();
}

const wh_tls_peer *wh_tls_peer_of(const wh_tls *tls)
{
    return tls->has_peer ? &tls->peer : NULL;
}

bool wh_tls_is_h2(const wh_tls *tls)
{
    const unsigned char *name = NULL;
    unsigned n = 0;
    SSL_get0_alpn_selected(tls->ssl, &name, &n);
    return SSL_is_init_finished(tls->ssl) && n == 2 && memcmp(name, "h2", 2) == 0;
}
