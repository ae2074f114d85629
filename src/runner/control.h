/* SPDX-License-Identifier: Apache-2.0 */
/* Messages on a runner's control socket: one record each, key "op" first, descriptors by SCM_RIGHTS.
 *
 *   to the runner:    op=log           new log file comes as a descriptor; lines go there from the next line
 *                     op=netd          a new channel of netd comes as a descriptor: the one before is dead
 *                     op=drain         what serves: accept no more, let open requests end, leave; grace=<ns>
 *   from the runner:  op=running       the guest's first instruction is next, or requests are accepted;
 *                                      start=<real ns>, sandbox=<what is weaker, if anything>
 *                     op=idle          what serves had no request for its idle time, accepts no more and ends with
 *                                      code 0 now: connections that came meanwhile wait in the listening socket
 *
 * A stop request is a signal (spec.stop_signal, SIGTERM or SIGINT): a guest that claimed its stop descriptor
 * reads "TERM\n" there, one that did not is ended with 128 + signal; what serves drains, and ends with code 0 when
 * its last request is over (whoever stops it kills it when the grace is over). SIGUSR1 says that a message waits. */
#pragma once

#define WH_CONTROL_BYTES_MAX 4096
