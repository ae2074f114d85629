/* SPDX-License-Identifier: Apache-2.0 */
/* The client side of TLS over OpenSSL: roots are given, the peer's name is always checked. */
#include "net/tls_client.h"

#include "net/internal.h"

#include <openssl/err.h>
#include <openssl/pem.h>

struct wh_tls_client {
    SSL_CTX *ctx; /* connections hold their own references */
};

static int add_roots(SSL_CTX *ctx, const char *pem, wh_err *err)
{
    auto_bio BIO *bio = BIO_new_mem_buf(pem, -1);
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    size_t count = 0;
    X509 *cert;
    while (bio != NULL && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        bool ok = X509_STORE_add_cert(store, cert) == 1;
        X509_free(cert);
        if (!ok)
            return wh_ssl_fail(err, -EBADMSG, "use a certificate authority");
        count++;
    }
    ERR_clear_error(); /* the end of the text is how the loop ends */
    return count > 0
               ? 0
               : wh_fail(err, -EBADMSG, "use certificate authorities: the text holds no PEM certificate");
}

static void client_free(wh_tls_client *client)
{
    if (client == NULL)
        return;
    SSL_CTX_free(client->ctx);
    free(client);
}

static int client_new(const char *ca_pem, wh_tls_client **ret, wh_err *err)
{
    auto_ssl_ctx SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (ctx == NULL || SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_cipher_list(ctx, "ECDHE+AESGCM:ECDHE+CHACHA20") != 1)
        return wh_ssl_fail(err, -EIO, "make a TLS context");
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    int r = add_roots(ctx, ca_pem, err);
    if (r < 0)
        return r;
    wh_tls_client *client = wh_xnew(wh_tls_client);
    client->ctx = WH_TAKE(ctx);
    *ret = client;
    return 0;
}

/* An address is looked for among the certificate's addresses, and never sent as a server name (RFC 6066 3). */
static bool expect_host(SSL *ssl, const char *host)
{
    if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1)
        return true;
    ERR_clear_error();
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    /* What the library's macro for this call does, without its cast that drops the const. */
    long named =
        SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, (void *)(uintptr_t)host);
    return SSL_set1_host(ssl, host) == 1 && named == 1;
}

static int client_connect(wh_tls_client *client, int fd, const char *host, wh_tls **ret, wh_err *err)
{
    static const unsigned char alpn[] = "\x08http/1.1";
    SSL *ssl = SSL_new(client->ctx);
    if (ssl == NULL || SSL_set_fd(ssl, fd) != 1 || !expect_host(ssl, host) ||
        SSL_set_alpn_protos(ssl, alpn, sizeof(alpn) - 1) != 0) {
        SSL_free(ssl);
        return wh_ssl_fail(err, -ENOMEM, "make a TLS connection");
    }
    SSL_set_connect_state(ssl);
    *ret = wh_tls_wrap(ssl);
    return 0;
}

/* A certificate that does not do is the usual reason, and OpenSSL keeps what is wrong with it apart from its errors. */
static int client_handshake(wh_tls *tls, wh_err *err)
{
    int r = wh_tls_handshake(tls, err);
    long verified = SSL_get_verify_result(wh_tls_unwrap(tls));
    if (r < 0 && r != -EAGAIN && verified != X509_V_OK)
        return wh_fail(err, r, "the server's certificate is refused: %s",
                       X509_verify_cert_error_string(verified));
    return r;
}

const wh_tls_client_ops wh_tls_client_openssl = {
    .client_new = client_new,
    .client_free = client_free,
    .connect = client_connect,
    .free = wh_tls_free,
    .handshake = client_handshake,
    .read = wh_tls_read,
    .write = wh_tls_write,
    .wants = wh_tls_wants,
    .shutdown = wh_tls_shutdown,
};
