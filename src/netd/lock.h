/* SPDX-License-Identifier: Apache-2.0 */
/* How netd gives up what it was started with. */
#pragma once

#include "base/err.h"

#include <sys/types.h>

/* Enters the network namespace; needs what the agent had. */
int wh_netd_enter(int namespace_fd, wh_err *err);
/* Ids (0: kept), capabilities, new privileges, dumps. `ports` keeps the right to bind ports under 1024, if it is
 * there: in a namespace that is not the pods' alone no sysctl gives it. */
int wh_netd_drop(uid_t uid, bool ports, wh_err *err);
/* System calls: sockets of IPv4 and IPv6, the loop and memory; no file, no process. Anything else ends the process. */
int wh_netd_lock(wh_err *err);
