/* SPDX-License-Identifier: Apache-2.0 */
/* What a component reaches beyond its process: sockets, names and outgoing HTTP requests, all over one channel of netd,
 * which knows the pod's addresses and its egress policy. Makes no socket itself. */
#pragma once

#include "engine/component.h"
#include "http/client.h"

typedef struct wh_outside wh_outside;

typedef struct wh_outside_options {
    int netd_fd;        /* the pod channel, taken over, also on failure */
    const char *ca_pem; /* roots for outgoing https; NULL: it fails with a TLS error */
    const wh_tls_client_ops *tls;
} wh_outside_options;

int wh_outside_new(wh_loop *loop, const wh_outside_options *options, wh_outside **ret, wh_err *err);
void wh_outside_free(wh_outside *o); /* after the component */
/* For the component's configuration; valid as long as `o`. */
const wh_component_net *wh_outside_net(const wh_outside *o);
const wh_component_egress *wh_outside_egress(const wh_outside *o);
/* Where answers go; before the component's first instance. */
void wh_outside_bind(wh_outside *o, wh_component *component);
/* A new netd has come; what was asked of the old one is answered -ENOTCONN. `fd` is taken over. */
int wh_outside_channel(wh_outside *o, int fd, wh_err *err);
