/* SPDX-License-Identifier: Apache-2.0 */
/* TLS 1.2 and 1.3 on non-blocking sockets, server side, through OpenSSL. Offers http/1.1 by ALPN, and h2
 * where the server asks for it. A client
 * certificate is asked for when a CA is given and may stay away; one that does not verify ends the handshake.
 */
#pragma once

#include "base/clock.h"
#include "base/str.h"

#include <sys/types.h>

/* ---- certificates ---- */

/* Who a verified certificate names. */
typedef struct wh_tls_peer {
    char *cn;     /* common name; NULL when it has none */
    wh_strv orgs; /* organizations: groups, to Kubernetes */
} wh_tls_peer;
void wh_tls_peer_done(wh_tls_peer *peer);

typedef struct wh_cert_info {
    wh_tls_peer subject;
    wh_time not_before, not_after; /* real time */
    wh_strv dns, ips;              /* subject alternative names */
} wh_cert_info;
void wh_cert_info_done(wh_cert_info *info);
/* Of the first certificate in the PEM text. -EBADMSG. */
int wh_cert_read(const char *pem, wh_cert_info *ret, wh_err *err);
/* The certificate belongs to the private key. -EBADMSG. */
int wh_cert_matches(const char *cert_pem, const char *key_pem, wh_err *err);

/* A fresh P-256 key as PKCS#8 PEM; the caller wipes and frees it. */
int wh_key_new(char **ret_pem, wh_err *err);
/* A PKCS#10 request as PEM: subject O=org, CN=cn; SANs only when dns or ips hold something. */
int wh_csr_new(const char *key_pem, const char *org, const char *cn, char *const *dns, char *const *ips,
               char **ret_pem, wh_err *err);
/* A self-signed server certificate as PEM, valid for `lifetime` from an hour ago on. */
int wh_cert_self_signed(const char *key_pem, const char *cn, char *const *dns, char *const *ips,
                        wh_time lifetime, char **ret_pem, wh_err *err);

/* ---- server ---- */
typedef struct wh_tls_server wh_tls_server;
typedef struct wh_tls_server_options {
    const char *cert_pem;      /* certificate, then its chain */
    const char *key_pem;       /* PKCS#8, PKCS#1 or SEC1; unencrypted */
    const char *client_ca_pem; /* NULL: clients are not asked for a certificate */
} wh_tls_server_options;
int wh_tls_server_new(const wh_tls_server_options *options, wh_tls_server **ret, wh_err *err);
/* Swaps certificate, key and CA for new connections; old connections keep theirs. After a failure all is as before. */
int wh_tls_server_set(wh_tls_server *server, const wh_tls_server_options *options, wh_err *err);
void wh_tls_server_free(wh_tls_server *server); /* connections may outlive it */

/* ---- connections ---- */
typedef struct wh_tls wh_tls;
/* The descriptor is borrowed: non-blocking, and closed by its owner after wh_tls_free. `h2`: offer HTTP/2 first. */
int wh_tls_accept(wh_tls_server *server, int fd, bool h2, wh_tls **ret, wh_err *err);
void wh_tls_free(wh_tls *tls);
/* 0 when done, -EAGAIN (see wh_tls_wants), or a final error. Reads and writes also go on with it by themselves. */
int wh_tls_handshake(wh_tls *tls, wh_err *err);
/* Bytes, 0 at the peer's close_notify or end of stream, -EAGAIN, or a final error. */
ssize_t wh_tls_read(wh_tls *tls, void *p, size_t n);
ssize_t wh_tls_write(wh_tls *tls, const void *p, size_t n);
/* EPOLLIN or EPOLLOUT that the last -EAGAIN waits for; reading may wait for writing and the other way round. */
uint32_t wh_tls_wants(const wh_tls *tls);
void wh_tls_shutdown(wh_tls *tls); /* tries once to send close_notify */
/* The verified client certificate's subject; NULL when the client showed none. Borrowed. */
const wh_tls_peer *wh_tls_peer_of(const wh_tls *tls);
bool wh_tls_is_h2(const wh_tls *tls); /* the handshake is done and chose HTTP/2 */

/* The same as a table, which a wh_tls_server begins with: the HTTP server calls through it, so that a program which
 * never makes a wh_tls_server is linked without OpenSSL. */
typedef struct wh_tls_ops {
    int (*accept)(wh_tls_server *server, int fd, bool h2, wh_tls **ret, wh_err *err);
    void (*free)(wh_tls *tls);
    int (*handshake)(wh_tls *tls, wh_err *err);
    ssize_t (*read)(wh_tls *tls, void *p, size_t n);
    ssize_t (*write)(wh_tls *tls, const void *p, size_t n);
    uint32_t (*wants)(const wh_tls *tls);
    void (*shutdown)(wh_tls *tls);
    const wh_tls_peer *(*peer_of)(const wh_tls *tls);
    bool (*is_h2)(const wh_tls *tls);
} wh_tls_ops;

static inline const wh_tls_ops *wh_tls_ops_of(const wh_tls_server *server)
{
    return *(const wh_tls_ops *const *)(const void *)server;
}
