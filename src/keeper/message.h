/* SPDX-License-Identifier: Apache-2.0 */
/* One record with descriptors over a seqpacket socket: what both ends of the keeper's protocol share. */
#pragma once

#include "base/limits.h"
#include "base/record.h"

typedef struct wh_msg {
    const char *data; /* in the receive buffer: valid until the next wh_msg_recv */
    size_t n;
    int fds[WH_KEEPER_FDS_MAX];
    size_t n_fds;
} wh_msg;

/* Waits only when the socket does. Returns 1; 0 at the peer's end; -EAGAIN; -EMSGSIZE or -EBADMSG when the
 * message was too long, carried too many descriptors, or is no record: the peer is not to be trusted then.
 * Descriptors are ours. */
int wh_msg_recv(int sock, wh_msg *ret);
void wh_msg_close_fds(wh_msg *msg);
/* 0, -EAGAIN, -EMSGSIZE, or what sendmsg says. */
int wh_msg_send(int sock, const void *data, size_t n, const int *fds, size_t n_fds);
