/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files that speak to OpenSSL. */
#pragma once

#include "net/tls.h"

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#define DEFINE_SSL_CLEANUP(name, type, func)              \
    static inline WH_UNUSED void cleanup_##name(type **p) \
    {                                                     \
        func(*p);                                         \
    }                                                     \
    struct wh_swallow_semicolon_

DEFINE_SSL_CLEANUP(bio, BIO, BIO_free_all);
DEFINE_SSL_CLEANUP(x509, X509, X509_free);
DEFINE_SSL_CLEANUP(x509_req, X509_REQ, X509_REQ_free);
DEFINE_SSL_CLEANUP(x509_name, X509_NAME, X509_NAME_free);
DEFINE_SSL_CLEANUP(pkey, EVP_PKEY, EVP_PKEY_free);
DEFINE_SSL_CLEANUP(ssl_ctx, SSL_CTX, SSL_CTX_free);
#define auto_bio __attribute__((cleanup(cleanup_bio)))
#define auto_x509 __attribute__((cleanup(cleanup_x509)))
#define auto_x509_req __attribute__((cleanup(cleanup_x509_req)))
#define auto_x509_name __attribute__((cleanup(cleanup_x509_name)))
#define auto_pkey __attribute__((cleanup(cleanup_pkey)))
#define auto_ssl_ctx __attribute__((cleanup(cleanup_ssl_ctx)))

/* Fails with what OpenSSL's error queue says first, and empties the queue. */
int wh_ssl_fail(wh_err *err, int code, const char *what);
int wh_ssl_read_cert(BIO *bio, X509 **ret, wh_err *err); /* the next PEM certificate; -EBADMSG */
int wh_ssl_read_key(const char *pem, EVP_PKEY **ret, wh_err *err);
void wh_ssl_subject(const X509 *cert, wh_tls_peer *ret);
wh_tls *wh_tls_wrap(SSL *ssl);         /* takes it over, accepting or connecting state set */
SSL *wh_tls_unwrap(const wh_tls *tls); /* borrowed */
