/* SPDX-License-Identifier: Apache-2.0 */
/* A pod's /etc/resolv.conf and /etc/hosts, as the kubelet writes them (dns.go, kubelet_pods.go). Pure. */
#pragma once

#include "pod/spec.h"

typedef struct wh_pod_dns {  /* what the node knows */
    const char *resolv_conf; /* text of its own; NULL: none */
    char *const *servers;    /* of the cluster; NULL: ClusterFirst falls back to the node's */
    const char *domain;      /* "cluster.local" */
} wh_pod_dns;

/* By dnsPolicy and dnsConfig. The caller's to free; never NULL. */
char *wh_pod_resolv_conf(const wh_pod_spec *spec, const wh_pod_dns *node);
/* With the pod's own addresses and its hostAliases. The caller's to free; never NULL. */
char *wh_pod_hosts(const wh_pod_spec *spec, const wh_pod_facts *facts);
