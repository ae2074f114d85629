/* SPDX-License-Identifier: Apache-2.0 */
/* The keeper's client and protocol. The keeper starts runners, holds their pidfds and control sockets, and
 * keeps exit records until they are reaped. It knows nothing of Kubernetes, HTTP or Wasm.
 *
 * Unix seqpacket socket, mode 0600; peers other than its own uid are refused. A message is one record with
 * descriptors by SCM_RIGHTS; requests carry op and seq, answers repeat seq with rc (0 or negative errno) and
 * error (a sentence):
 *
 *   hello   version               -> version, pid, build, namespaces ("own", "user", "none"), containers
 *   start   id, then wh_keeper_start's fields, descriptors with the program last  -> pid, started (real ns)
 *   signal  id, signal            a dormant one ends by any signal, with code 0
 *   hold    name, one descriptor -> it is kept under that name until `drop`, whoever of its users ends; without a
 *           descriptor: 0 when the name is held, else -ENOENT
 *   drop    name                  -EBUSY: a container uses it
 *   dormant id, then start's fields: starts nothing; the first connection on one of its sockets does
 *   send    id, message, descriptors   to the runner's control socket, then SIGUSR1; -ENOTCONN without one
 *   list                          -> one answer per container and per held name without rc, then one with rc
 *   reap    id                    forgets a container that ended; -EBUSY before that
 *   watch                         -> from now on events: event=running | exit | dormant | woken, fields as in
 *                                 wh_keeper_event
 *   tie                           when this connection ends, so do all runners and the keeper (`wherry run`)
 *   upgrade descriptor of the new program   executes it; state, descriptors and connections are kept
 *
 * A start with `rest` is kept as what it was made of. When its runner says op=idle (runner/control.h) and ends with
 * code 0 it becomes dormant: no process, its sockets watched. The first connection starts it again; it is disarmed
 * before that, so one process starts however many connections come, and they all wait in the socket's queue. A wake
 * that fails is tried again, later and later, and told as `dormant` with `error`.
 *
 * A keeper that was killed leaves its runners running. The next one finds them by a file per container, names
 * them by something that no later process has (inode of the pidfd, or start time and boot), and gets the
 * control socket back from the runner, which holds a spare of the keeper's end as descriptor n_fds + 1. How a
 * runner ended that is not the keeper's child is known since Linux 6.15; otherwise exit_code is -1, and the
 * end record (runner/spec.h) says it. Sockets of running ones are taken back out of
 * them; dormant ones are told as ended (code -1). One case is left over: a keeper killed between making a process and
 * writing its file. That start was not answered, so whoever asked must clean up its control group.
 */
#pragma once

#include "loop/loop.h"

#define WH_KEEPER_VERSION 1
#define WH_KEEPER_GROUPS_MAX 64       /* supplementary groups of a runner */
#define WH_KEEPER_CGROUPS_MAX 16      /* hierarchies that it joins */
#define WH_KEEPER_SEND_BYTES_MAX 4096 /* one message to a runner */

typedef struct wh_keeper wh_keeper; /* a connection */

typedef struct wh_keeper_start {
    const char *id; /* up to 127 bytes of [A-Za-z0-9._-] */
    uid_t uid;      /* of the runner; equal to the keeper's own in rootless mode */
    gid_t gid;
    const gid_t *groups;
    size_t n_groups;
    char *const *cgroup_procs; /* files that the child writes itself into, one per hierarchy */
    int oom_score_adj;
    uint64_t rlimit_data; /* 0: none; set where no memory cgroup can be had */
    uint64_t nofile;
    bool namespaces; /* mount, pid and ipc of its own, empty root, the shared empty network namespace */
    const int *fds;  /* become 0 .. n_fds-1 of the runner; the keeper adds the control socket as
                                  n_fds, and as n_fds + 1 a spare that is no business of the runner */
    size_t n_fds;    /* up to WH_KEEPER_FDS_MAX - 1 */
    int exec_fd;     /* the runner's program */
    /* Names that are held (wh_keeper_hold): behind fds, before the control socket, whose number they move. */
    const char *const *sockets;
    size_t n_sockets;
    bool rest; /* it may go dormant */
    /* Descriptors among fds that a wake opens anew instead of keeping them: the index, how ('a' to append, 't' emptied
     * first, 'd' a folder), and what. */
    const struct wh_keeper_open {
        size_t index;
        char how;
        const char *path;
    } * open;
    size_t n_open;
    /* Control groups that are taken away while it is dormant, and made again (wh_cgroup_recipe); may be NULL. */
    char *const *group_dirs, *const *group_settings;
} wh_keeper_start;

typedef struct wh_keeper_event {
    const char *id;
    bool exited;    /* else: the guest begins */
    bool dormant;   /* no process; its sockets are watched */
    bool held;      /* of a list: `id` is the name of a descriptor that is held */
    bool rests;     /* it was started with `rest` */
    unsigned wakes; /* so far */
    pid_t pid;
    int exit_code;                      /* of the process, or -1 */
    int signal;                         /* that killed it, or 0 */
    wh_time started, running, finished; /* real time; 0 where it has not happened */
    const char *note;                   /* the runner's sandbox remark, or NULL */
    const char *error;                  /* dormant: why a wake failed; NULL: none did */
} wh_keeper_event;

/* What a keeper says. Called on the loop. After on_lost the connection is dead: free it, connect again, list.
 * */
typedef struct wh_keeper_callbacks {
    void (*on_event)(void *user, const wh_keeper_event *event);
    void (*on_lost)(void *user, const wh_err *err);
    void *user;
} wh_keeper_callbacks;

/* Connects, and starts the program when nobody listens and `program` is not NULL (it goes into the background
 * with its own session; its state folder is `dir`, the socket dir/keeper.sock). */
int wh_keeper_connect(wh_loop *loop, const char *dir, const char *program,
                      const wh_keeper_callbacks *callbacks, wh_keeper **ret, wh_err *err);
void wh_keeper_free(wh_keeper *keeper);

/* Answers come to `done` on the loop, in order; never inside the call. What a lost connection leaves unanswered gets
 * -ECONNRESET before on_lost: it may have been done all the same, which the next keeper's list tells. Descriptors stay
 * the caller's. */
typedef void (*wh_keeper_done)(void *user, int rc, pid_t pid, const char *error);
int wh_keeper_start_runner(wh_keeper *keeper, const wh_keeper_start *start, wh_keeper_done done, void *user,
                           wh_err *err);
/* The same, but nothing is started before a connection comes. */
int wh_keeper_dormant(wh_keeper *keeper, const wh_keeper_start *start, wh_keeper_done done, void *user,
                      wh_err *err);
/* fd -1 asks whether something is held under that name (-ENOENT). */
int wh_keeper_hold(wh_keeper *keeper, const char *name, int fd, wh_keeper_done done, void *user, wh_err *err);
int wh_keeper_drop(wh_keeper *keeper, const char *name, wh_keeper_done done, void *user, wh_err *err);
int wh_keeper_signal(wh_keeper *keeper, const char *id, int signo, wh_keeper_done done, void *user,
                     wh_err *err);
int wh_keeper_send(wh_keeper *keeper, const char *id, const void *message, size_t n, const int *fds,
                   size_t n_fds, wh_keeper_done done, void *user, wh_err *err);
int wh_keeper_reap(wh_keeper *keeper, const char *id, wh_keeper_done done, void *user, wh_err *err);
/* Each container comes as an event (running ones too), then `done`. */
int wh_keeper_list(wh_keeper *keeper, void (*each)(void *user, const wh_keeper_event *), wh_keeper_done done,
                   void *user, wh_err *err);
int wh_keeper_tie(wh_keeper *keeper, wh_keeper_done done, void *user, wh_err *err);
int wh_keeper_upgrade(wh_keeper *keeper, int program_fd, wh_keeper_done done, void *user, wh_err *err);
