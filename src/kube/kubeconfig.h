/* SPDX-License-Identifier: Apache-2.0 */
/* A kubeconfig file: where the API server is and as whom we speak. YAML or JSON; inline data and files;
 * client certificate, token, token file. Not supported, and refused with that sentence: exec plugins, auth
 * providers, user name and password, impersonation, proxies. */
#pragma once

#include "base/str.h"

#define WH_KUBECONFIG_BYTES_MAX (1UL << 20)

typedef struct wh_kubeconfig {
    char *server;      /* "https://10.0.0.1:6443", without a trailing slash */
    char *ca_pem;      /* NULL: the system's */
    char *server_name; /* tls-server-name, or NULL */
    bool insecure;
    char *token;                /* or NULL */
    char *token_file;           /* absolute; read again every minute; wins over token */
    char *cert_pem, *key_pem;   /* contents, however they were given */
    char *cert_file, *key_file; /* where they came from, or NULL: read again when they change */
    char *namespace_;           /* of the context; NULL: "default" */
    char *user;                 /* the entry's name, for messages */
} wh_kubeconfig;
void wh_kubeconfig_done(wh_kubeconfig *config);

/* `context` NULL takes current-context. Relative file names stand beside the kubeconfig. */
int wh_kubeconfig_load(const char *path, const char *context, wh_kubeconfig *ret, wh_err *err);
int wh_kubeconfig_parse(const char *text, size_t n, const char *folder, const char *context,
                        wh_kubeconfig *ret, wh_err *err);
/* Deep copy. */
void wh_kubeconfig_copy(const wh_kubeconfig *from, wh_kubeconfig *ret);
