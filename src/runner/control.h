/* SPDX-License-Identifier: Apache-2.0 */
/* Messages on a runner's control socket: one record each, key "op" first, descriptors by SCM_RIGHTS.
 *
 *   to the runner:    op=log           new log file comes as a descriptor; lines go there from the next line
 * on from the runner:  op=running       the guest's first instruction is next; start=<real ns>, sandbox=<what
 * is weaker, if anything>
 *
 * A stop request is a signal (spec.stop_signal, SIGTERM or SIGINT): a guest that claimed its stop descriptor
 * reads "TERM\n" there, one that did not is ended with 128 + signal. SIGUSR1 says that a message waits. */
#pragma once

#define WH_CONTROL_BYTES_MAX 4096
