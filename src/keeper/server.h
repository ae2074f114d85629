/* SPDX-License-Identifier: Apache-2.0 */
/* The keeper's work: clients' requests, runners' ends. One loop, one thread. */
#pragma once

#include "keeper/held.h"
#include "keeper/launch.h"
#include "keeper/rest.h"
#include "keeper/state.h"

#include <sys/queue.h>

typedef struct wh_keeper_server wh_keeper_server;

/* Opens dir/keeper.sock and takes hold of what earlier keepers left in dir/containers. -EALREADY when another
 * one lives. */
int wh_keeper_server_new(wh_loop *loop, const char *dir, const wh_jail *jail, wh_keeper_server **ret,
                         wh_err *err);
/* Goes on where the keeper that executed us stopped: its memfd, which is taken over. */
int wh_keeper_server_resume(wh_loop *loop, const char *dir, int state_fd, wh_keeper_server **ret,
                            wh_err *err);
void wh_keeper_server_free(wh_keeper_server *server); /* runners live on */

/* ------------------------------------------------------------------ inside the room, and for tests */

typedef struct wh_keeper_client {
    wh_keeper_server *server;
    int fd; /* -1: closed, about to be freed */
    wh_io io;
    bool watching;
    STAILQ_HEAD(, wh_keeper_waiting) backlog;
    size_t backlog_bytes;
    LIST_ENTRY(wh_keeper_client) link;
} wh_keeper_client;

struct wh_keeper_server {
    uint32_t magic;
    wh_loop *loop;
    char *dir;
    wh_jail jail;
    int lock_fd, listen_fd, dir_fd;
    wh_io listen_io;
    wh_kept *kept;     /* by id */
    wh_held *held;     /* by name */
    wh_shared *shared; /* among those that rest */
    LIST_HEAD(, wh_keeper_client) clients;
    size_t n_clients;
    const wh_keeper_client *tied_to; /* whose end is ours and that of all runners; NULL: nobody's */
};

/* An empty one without descriptors, and its last step. */
wh_keeper_server *wh_keeper_server_alloc(wh_loop *loop, const char *dir);
int wh_keeper_server_listen(wh_keeper_server *server, wh_err *err);
/* A connection; the socket is taken over. NULL past WH_KEEPER_CLIENTS_MAX. */
wh_keeper_client *wh_keeper_client_add(wh_keeper_server *server, int fd);
void wh_keeper_client_close(wh_keeper_client *client);
void wh_keeper_client_send(wh_keeper_client *client, const wh_buf *message);
/* One request. Descriptors that are used up become -1; the rest stays the caller's. */
void wh_keeper_request(wh_keeper_client *client, const void *data, size_t n, int *fds, size_t n_fds);
/* Adds a container, and watches its process and socket, or those that wake it. */
int wh_keeper_server_adopt(wh_keeper_server *server, wh_kept *kept);
int wh_keeper_server_watch(wh_kept *kept); /* the process and the control socket */
void wh_keeper_tell(wh_keeper_server *server, const wh_kept *kept, const char *event, const char *error);
/* Takes a container off the table and frees it. */
void wh_keeper_server_remove(wh_keeper_server *server, wh_kept *kept);

/* start.c: a start message, now or when a dormant one wakes. Descriptors: the program is the last. */
int wh_keeper_start_message(wh_keeper_server *server, const void *data, size_t n, int *fds, size_t n_fds,
                            bool dormant, wh_kept **ret, wh_err *err);
int wh_keeper_start_again(wh_kept *kept, wh_err *err);

/* dormant.c */
int wh_keeper_go_dormant(wh_kept *kept); /* its process is gone, its sockets are watched */
void wh_keeper_arm_again(wh_kept *kept); /* after an upgrade */
void wh_keeper_end_dormant(wh_kept *kept);
/* Executes the program with all state. Returns only when that failed. */
int wh_keeper_server_exec(wh_keeper_server *server, int program_fd, const wh_keeper_client *asker,
                          int64_t seq, wh_err *err);
