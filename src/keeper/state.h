/* SPDX-License-Identifier: Apache-2.0 */
/* What the keeper knows of each container, in memory and in one file per container, so that the next keeper
 * knows it too. A file is a record that only grows: what a container is, then that it runs, then how it
 * ended. */
#pragma once

#include "base/buf.h"
#include "keeper/held.h"
#include "loop/loop.h"

#define WH_KEEPER_ID_MAX 127

typedef struct wh_kept {
    char *id;
    pid_t pid;
    int pidfd;      /* -1 once it ended */
    int control;    /* our end of its control socket; -1: none, or lost */
    int control_in; /* the number of the spare of that end inside the runner */
    bool child;     /* ours: waitid tells its end */
    bool exited;
    int exit_code, signal; /* -1 and 0: nobody saw it */
    wh_time started, running, finished;
    char *note;
    char identity[48]; /* of the process: a pid may come again */
    wh_held **sockets; /* that it uses, in the order of their numbers in the runner */
    size_t n_sockets;
    int sockets_at;       /* the number of the first */
    struct wh_rest *rest; /* what it is started from again; NULL: it does not rest */
    bool dormant;
    bool idle_said, ending; /* its runner asked to rest; a signal was sent: then it does not */
    unsigned wakes;
    wh_time woken;       /* monotonic, the last time */
    wh_time retry_delay; /* of a wake that failed, or came too soon again */
    wh_io *listen_io;    /* one for each socket, while it is dormant */
    wh_io pid_io, control_io;
    wh_timer reap_timer; /* of a dormant one: when it is armed again */
    struct wh_keeper_server *server;
    UT_hash_handle hh;
} wh_kept;

/* 1 to WH_KEEPER_ID_MAX bytes of [A-Za-z0-9._-], no leading dot. */
bool wh_kept_id_ok(const char *id);
void wh_kept_free(wh_kept *kept);
/* Names the process behind a pidfd for as long as the machine runs. */
int wh_kept_identify(int pidfd, pid_t pid, char *out, size_t size);

/* Files of the folder `dirfd`. Saving replaces what was there. */
int wh_kept_save(int dirfd, const wh_kept *kept, wh_err *err);
int wh_kept_save_running(int dirfd, const wh_kept *kept);
int wh_kept_save_end(int dirfd, const wh_kept *kept);
void wh_kept_forget(int dirfd, const char *id);
/* Reads one file and takes hold of its process again: pidfd, control socket. A container whose process is
 * gone comes back as exited; a file that says nothing usable is -EBADMSG. */
int wh_kept_load(int dirfd, const char *id, wh_held **held, wh_kept **ret, wh_err *err);
/* Uses the sockets that the record names; of those that are not held it counts none. */
void wh_kept_use(wh_kept *kept, wh_held *held, const void *data, size_t n);

/* The fields of a record, of a file or of an upgrade's state: every one is checked. */
int wh_kept_parse(const void *data, size_t n, wh_kept *kept, wh_err *err);
/* All that a client may know, as an answer or an event. */
void wh_kept_put(const wh_kept *kept, wh_buf *out);
