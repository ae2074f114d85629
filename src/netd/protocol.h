/* SPDX-License-Identifier: Apache-2.0 */
/* What netd and its two clients share.
 *
 * Control channel: seqpacket, one record a message. Requests carry op and seq; answers repeat seq with rc and error.
 *
 *   hello    version, node (repeated)            -> version
 *   node     node (repeated): all its addresses, anew
 *   pod      id, address (0..2), port*, rule*, closed, isolated, resolv_conf, hosts: adds or replaces
 *   remove   id
 *   sweep    removes the pods that were not said since hello
 *   channel  id, with netd's end of a pod channel
 *   listen   id, address (without: of any family), port  -> the socket
 *
 * Unasked, without seq: event=refused with pod, target, reason, left_out. A rule is a record of host | net and
 * prefix, and first and last port. */
#pragma once

#include "base/limits.h"
#include "base/record.h"
#include "netd/netd.h"

/* Of an answer only what is used travels. */
#define WH_NETD_ANSWER_BYTES(n_addresses) \
    (offsetof(wh_netd_answer, addresses) + (n_addresses) * sizeof(struct sockaddr_storage))

/* One message, with a descriptor unless fd is -1; never waits. 0 or a negative errno. */
int wh_netd_send(int sock, const void *data, size_t n, int fd);
/* Never waits. 1; 0 at the peer's end; -EAGAIN; -EMSGSIZE when the message is longer than `max` or carries more than
 * one descriptor. *ret_fd is the caller's, -1 when none came. */
int wh_netd_recv(int sock, void *data, size_t max, size_t *ret_n, int *ret_fd);

/* The fields of a pod behind op and seq. */
void wh_netd_pod_write(wh_buf *out, const wh_netd_pod *pod);
