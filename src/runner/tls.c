/* SPDX-License-Identifier: Apache-2.0 */
/* The files of a TLS secret. */
#include "runner/serving.h"

#include "base/file.h"
#include "base/limits.h"
#include "net/tls.h"
#include "net/tls_client.h"

int wh_runner_tls_server(const wh_runspec *spec, wh_tls_server **ret, wh_err *err)
{
    auto_free char *cert = NULL, *key = NULL;
    wh_tls_server_options options = {0};
    size_t n = 0;
    int rc = wh_read_fd(spec->serve.tls_cert_fd, WH_TLS_FILE_BYTES_MAX, &cert, &n, err);
    if (rc == 0)
        rc = wh_read_fd(spec->serve.tls_key_fd, WH_TLS_FILE_BYTES_MAX, &key, &n, err);
    if (rc == 0) {
        options.cert_pem = cert;
        options.key_pem = key;
        rc = wh_tls_server_new(&options, ret, err);
    }
    if (key != NULL)
        explicit_bzero(key, n);
    close(spec->serve.tls_cert_fd);
    close(spec->serve.tls_key_fd);
    return rc < 0 ? wh_wrap(err, "TLS certificate") : 0;
}

const struct wh_tls_client_ops *wh_runner_tls_client(void)
{
    return &wh_tls_client_openssl;
}
