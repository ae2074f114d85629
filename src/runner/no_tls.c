/* SPDX-License-Identifier: Apache-2.0 */
/* A runner without OpenSSL: what an idle process of it would cost, most pods have no use for. */
#include "runner/serving.h"

int wh_runner_tls_server(WH_UNUSED const wh_runspec *spec, WH_UNUSED wh_tls_server **ret, wh_err *err)
{
    return wh_fail(err, -ENOTSUP, "this runner serves without TLS: start the -tls one.");
}

const struct wh_tls_client_ops *wh_runner_tls_client(void)
{
    return NULL;
}
