/* SPDX-License-Identifier: Apache-2.0 */
/* The kubelet API on port 10250, behind client certificates or TokenReview plus SubjectAccessReview, and a
 * plain /healthz on loopback. */
#pragma once

#include "kube/auth.h"
#include "node/node.h"

typedef struct wh_kubelet wh_kubelet;
typedef struct wh_kubelet_options {
    const char *node_name;
    const char *listen;  /* "0.0.0.0:10250" */
    const char *healthz; /* "127.0.0.1:10248"; NULL: none */
    const char *client_ca_pem;
    char *const *dns; /* names for the self-signed certificate until the cluster has signed one */
    char *const *ips;
    const char *(*not_ready)(void *user); /* why /healthz should fail; NULL when well */
    void *user;
} wh_kubelet_options;

int wh_kubelet_start(wh_loop *loop, wh_node *node, wh_kube *kube, const wh_kubelet_options *options,
                     wh_kubelet **ret, wh_err *err);
/* The cluster's certificate, for new connections. */
int wh_kubelet_set_certificate(wh_kubelet *kubelet, const char *cert_pem, const char *key_pem, wh_err *err);
int wh_kubelet_port(const wh_kubelet *kubelet);
void wh_kubelet_free(wh_kubelet *kubelet);
