/* SPDX-License-Identifier: Apache-2.0 */
/* The client side of TLS 1.2 and 1.3. It is reached through a table, so that the HTTP client does not pull OpenSSL into
 * programs that never speak https. Programs that do ignore SIGPIPE, as OpenSSL's writes do not suppress it. */
#pragma once

#include "net/tls.h"

typedef struct wh_tls_client wh_tls_client; /* the roots that are trusted */

typedef struct wh_tls_client_ops {
    /* -EBADMSG when `ca_pem` holds no certificate. */
    int (*client_new)(const char *ca_pem, wh_tls_client **ret, wh_err *err);
    void (*client_free)(wh_tls_client *client); /* connections may outlive it */
    /* A connection over a connected, non-blocking socket, which is borrowed. The peer must show a certificate for
     * `host` (a name, which is also sent, or an address) that leads to one of the roots. Offers http/1.1. */
    int (*connect)(wh_tls_client *client, int fd, const char *host, wh_tls **ret, wh_err *err);
    /* As wh_tls_*. An end of the stream that the peer did not announce is an error to `read`. */
    void (*free)(wh_tls *tls);
    int (*handshake)(wh_tls *tls, wh_err *err);
    ssize_t (*read)(wh_tls *tls, void *p, size_t n);
    ssize_t (*write)(wh_tls *tls, const void *p, size_t n);
    uint32_t (*wants)(const wh_tls *tls);
    void (*shutdown)(wh_tls *tls);
} wh_tls_client_ops;

extern const wh_tls_client_ops wh_tls_client_openssl;
