/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP for registries: blocking, on one libcurl handle. Follows redirects itself, so that credentials never
 * reach another host, and checks each address when it is dialled. Retries are the caller's. */
#pragma once

#include "base/buf.h"
#include "base/clock.h"

typedef struct wh_transport wh_transport;

/* `cancelled` may be NULL; it is asked several times a second while a transfer runs. */
int wh_transport_new(bool (*cancelled)(void *user), void *user, wh_transport **ret, wh_err *err);
void wh_transport_free(wh_transport *t);
WH_DEFINE_CLEANUP(wh_cleanup_transport, wh_transport *, wh_transport_free);
#define auto_transport __attribute__((cleanup(wh_cleanup_transport)))

/* The host that the user named: requests to it may go anywhere. Every other host (a token server, the target
 * of a redirect) must not lead to a loopback or link-local address, unless the home host itself was found
 * there. `base` is "https://host[:port][/prefix]"; ca_file may be NULL. */
void wh_transport_home(wh_transport *t, const char *base, const char *ca_file);

typedef struct wh_call {
    const char *method; /* NULL: GET */
    const char *url;
    const char *accept, *content_type; /* or NULL */
    const char *authorization;         /* field value, or NULL; not sent on to another host */
    const void *body;                  /* sent; or, with `upload`, a file: */
    size_t body_bytes;
    bool upload;
    int body_fd; /* read from its start */
    uint64_t body_fd_bytes;
    uint64_t range_from; /* 0: all of it */
    bool stream;         /* a large body: no deadline, only a stall limit */
    /* Takes the body of a 200 or 206; a negative errno ends the transfer and is returned. `status` comes with
     * each piece. NULL: collected in wh_answer.body. */
    int (*on_data)(void *user, long status, const void *data, size_t n);
    void *user;
    size_t body_max; /* of a collected body */
} wh_call;

typedef struct wh_answer {
    long status;
    char *content_type, *challenge, *location, *digest_hint; /* NULL when absent */
    int64_t retry_after;                                     /* seconds; -1 when absent */
    int64_t range_start;                                     /* of Content-Range; -1 when absent */
    wh_buf body;                                             /* collected, or the start of an error's body */
} wh_answer;
void wh_answer_done(wh_answer *answer);
#define auto_answer __attribute__((cleanup(wh_answer_done)))

/* 0 with any HTTP status but followed redirects. -ECANCELED; -EPERM when a guard refused the address or the
 * redirect; -EPROTO for TLS; -EFBIG past body_max; -ENETUNREACH, -ETIMEDOUT, -ECONNRESET may be tried again.
 * The sentence never holds the query of an address. */
int wh_transport_call(wh_transport *t, const wh_call *call, wh_answer *ret, wh_err *err);

/* scheme://host[:port] of an address in lower case with the default port left out; NULL when it is not
 * http(s), or has a user or password in it. The caller's to free. */
char *wh_url_origin(const char *url);
