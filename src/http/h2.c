/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2 is not spoken yet. */
#include "http/server_private.h"

int wh_h2_start(wh_http_conn *c)
{
    (void)c;
    return -EPROTONOSUPPORT;
}
void wh_h2_free(wh_h2 *h2)
{
    (void)h2;
}
bool wh_h2_step(wh_http_conn *c)
{
    (void)c;
    return false;
}
wh_http_wait wh_h2_wait(const wh_http_conn *c)
{
    (void)c;
    return HTTP_NO_WAIT;
}
void wh_h2_timeout(wh_http_conn *c)
{
    (void)c;
}
void wh_h2_drain(wh_http_conn *c)
{
    (void)c;
}
void wh_h2_dead(wh_http_conn *c)
{
    (void)c;
}
bool wh_h2_reap(wh_http_conn *c)
{
    (void)c;
    return true;
}
bool wh_h2_wants_read(const wh_http_conn *c)
{
    (void)c;
    return false;
}
void wh_h2_begin(wh_http_exchange *x, int status, const char *t, int64_t l, bool e)
{
    (void)x;
    (void)status;
    (void)t;
    (void)l;
    (void)e;
}
int wh_h2_write(wh_http_exchange *x, const void *p, size_t n)
{
    (void)x;
    (void)p;
    (void)n;
    return -EPIPE;
}
void wh_h2_end(wh_http_exchange *x)
{
    (void)x;
}
void wh_h2_info(wh_http_exchange *x, int status)
{
    (void)x;
    (void)status;
}
void wh_h2_reset(wh_http_exchange *x)
{
    (void)x;
}
void wh_h2_touch(wh_http_exchange *x)
{
    (void)x;
}
size_t wh_h2_waiting(const wh_http_exchange *x)
{
    (void)x;
    return 0;
}
const wh_h1_field *wh_h2_trailers(const wh_http_exchange *x, size_t *n)
{
    (void)x;
    *n = 0;
    return NULL;
}
