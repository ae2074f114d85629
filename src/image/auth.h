/* SPDX-License-Identifier: Apache-2.0 */
/* Who we are to a registry: challenges, docker configs, and which credentials fit which image. Pure. */
#pragma once

#include "image/image.h"

typedef enum { WH_AUTH_NONE, WH_AUTH_BASIC, WH_AUTH_BEARER } wh_auth_scheme;
typedef struct wh_challenge {
    wh_auth_scheme scheme;
    char *realm, *service, *scope; /* NULL when absent */
} wh_challenge;

/* Reads the value of WWW-Authenticate (RFC 9110, 11.6.1). Of several challenges Bearer wins over Basic.
 * -EBADMSG when it is malformed or too long, -ENOTSUP when it holds neither scheme. */
int wh_challenge_parse(const char *value, wh_challenge *ret, wh_err *err);
void wh_challenge_done(wh_challenge *challenge);

/* The credentials of `list` that fit an image, in the order in which the kubelet tries them: keys sorted in
 * reverse, so that longer paths come first. Appends to *ret, an array of pointers into the list. */
void wh_credentials_match(const wh_credential *list, size_t n_list, const wh_ref *ref,
                          const wh_credential ***ret, size_t *ret_n);

/* What registries.yaml says of one host. */
typedef struct wh_registry_host {
    char *host;
    bool plain_http;
    char *ca_file;
    wh_strv mirrors; /* base addresses: "https://mirror.example/prefix" */
} wh_registry_host;
typedef struct wh_registries {
    wh_registry_host *hosts;
    size_t n_hosts;
} wh_registries;
/* registries:
 *   "registry.example:5000":
 *     plainHTTP: true
 *     caFile: /etc/wherry/registry.pem
 *     mirrors: ["http://127.0.0.1:5001"]
 * -EBADMSG names an unknown member. */
int wh_registries_parse(const char *data, size_t n, wh_registries *ret, wh_err *err);
void wh_registries_done(wh_registries *registries);
const wh_registry_host *wh_registries_find(const wh_registries *registries,
                                           const char *host); /* NULL: none */
