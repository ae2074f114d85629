/* SPDX-License-Identifier: Apache-2.0 */
/* A certificate that keeps itself alive: asks the cluster's signer by a CertificateSigningRequest, waits,
 * stores key and certificate atomically in one file, and does so again with a new key at 70 to 90 % of its
 * lifetime. One for the node's client identity (TLS bootstrap), one for its serving side. */
#pragma once

#include "kube/client.h"
#include "net/tls.h"

typedef enum {
    WH_CERT_CLIENT, /* kubernetes.io/kube-apiserver-client-kubelet */
    WH_CERT_SERVING, /* kubernetes.io/kubelet-serving: somebody has to approve it, so it may stay pending for long */
} wh_cert_kind;

typedef struct wh_cert wh_cert;
typedef struct wh_cert_options {
    wh_cert_kind kind;
    const char *node_name; /* CN=system:node:<name>, O=system:nodes */
    const char *file;      /* PEM of both, mode 0600: "/var/lib/wherry/pki/kubelet-client-current.pem" */
    char *const *dns;      /* SERVING: at least one of dns and ips */
    char *const *ips;
    /* A usable certificate: what the file held, or what was issued. Never called inside wh_cert_start. */
    void (*on_certificate)(const char *cert_pem, const char *key_pem, void *user);
    /* A try failed and goes on later; or the request waits for its approval (code -EINPROGRESS, once each).
     * May be NULL. */
    void (*on_error)(const wh_err *err, void *user);
    void *user;
    wh_time retry_first; /* 0: 1 s */
} wh_cert_options;

/* `kube` asks the signer: by the bootstrap token at first; give the node's own client as soon as it exists.
 * It may be NULL while the file holds a certificate that is good for now. */
int wh_cert_start(wh_loop *loop, wh_kube *kube, const wh_cert_options *options, wh_cert **ret, wh_err *err);
void wh_cert_use(wh_cert *cert, wh_kube *kube);
/* The serving certificate must name other addresses now: asks again when they differ from what it has. */
void wh_cert_set_names(wh_cert *cert, char *const *dns, char *const *ips);
void wh_cert_free(wh_cert *cert);
bool wh_cert_is_pending(const wh_cert *cert);    /* a request waits for approval */
wh_time wh_cert_not_after(const wh_cert *cert);  /* real time; 0: there is none */
wh_time wh_cert_rotates_at(const wh_cert *cert); /* real time; 0: unknown */

/* When to renew: between 70 and 90 % of the lifetime; `r` is random. Pure. */
wh_time wh_cert_rotation_time(wh_time not_before, wh_time not_after, uint64_t r);
/* Reads such a file; -ENOENT, -EBADMSG, -ETIME when it has expired at `now`. */
int wh_cert_file_load(const char *file, wh_time now, char **ret_cert_pem, char **ret_key_pem, wh_err *err);
