/* SPDX-License-Identifier: Apache-2.0 */
/* What a WASI preview 1 command learns of a request, and how its output becomes an answer. No I/O.
 * Environment: RFC 3875 and WAGI's docs/environment_variables.md, and the names of OpenFaaS's classic watchdog; both
 * families in both modes, so that both kinds of module run. Answer of wagi: RFC 3875 6. */
#pragma once

#include "http/server.h"

typedef struct wh_cgi_env {
    wh_buf text;
    char **v; /* NULL-terminated, into text */
} wh_cgi_env;

/* `base` comes first and wins, so that no header of a client can replace what the pod has set. Fields of the
 * connection are left out, and "Proxy" is, which many programs would take for a setting (CVE-2016-5385). `id` is told
 * as X-Call-Id. -ENOBUFS past WH_ENV_BYTES_MAX, -ENOMEM. */
int wh_cgi_env_init(wh_cgi_env *env, const wh_http_request *request, const char *id, char *const *base);
void wh_cgi_env_done(wh_cgi_env *env);

/* Arguments of a wagi command: the path, then the query's items. -ENOMEM. */
int wh_cgi_args(const wh_http_request *request, wh_strv *ret);

typedef struct wh_cgi_head {
    int status;
    int64_t length; /* Content-Length; -1: none */
    wh_str content_type;
    wh_h1_field fields[WH_SERVE_FIELDS_MAX]; /* the others */
    size_t n_fields;
} wh_cgi_head;

/* Reads the header block at the beginning of n bytes of output; `end`: no more will come. Returns its length with the
 * empty line, 0 when more is needed, or -EBADMSG with what is wrong. The strings of *ret point into p. */
ssize_t wh_cgi_head_parse(const char *p, size_t n, bool end, wh_cgi_head *ret, wh_err *err);

/* A type for an answer that names none: what the first bytes look like. */
const char *wh_cgi_guess_type(const char *p, size_t n);
