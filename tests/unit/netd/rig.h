/* SPDX-License-Identifier: Apache-2.0 */
/* A netd with pods, and a runner's end that waits for its answers. */
#pragma once

#include "harness.h"
#include "netd/netd.h"

#include <sys/socket.h>

typedef struct rig {
    wh_loop *loop;
    wh_netd *netd;
    int lost;
    int refused;
    char target[256], reason[128];
} rig;

typedef struct caller {
    rig *rig;
    wh_netd_client *client;
    int answers;
    wh_netd_answer answer; /* the last one */
    int fd;
} caller;

void rig_init(rig *r, const char *socket_path, int namespace_fd);
void rig_done(rig *r);
/* `addresses` of "10.1.0.1" form, ended by NULL. */
void rig_pod(rig *r, const char *id, const char *const *addresses, const wh_netd_pod *rest);
void caller_init(caller *c, rig *r, const char *id);
void caller_done(caller *c);
/* Asks and waits; *ret_fd (may be NULL) gets the socket or -1. Returns the answer's rc. */
int caller_ask(caller *c, wh_netd_op op, const char *address, const char *name, int *ret_fd);
void caller_send(caller *c, wh_netd_op op, const char *address, const char *name, uint32_t timeout_ms);
void caller_wait(caller *c, int answers, wh_time most);
int count_fds(pid_t pid);
/* The one netd below us; its loop must not have ended. */
pid_t netd_pid(void);
