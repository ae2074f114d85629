/* SPDX-License-Identifier: Apache-2.0 */
/* The functions of wasi_snapshot_preview1 as they are imported, for guests that look at every answer. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define IMPORT(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name))) int w_##name

typedef struct iov {
    void *p;
    uint32_t n;
} iov;
typedef struct w_stat {
    uint64_t dev, ino;
    uint8_t type;
    uint64_t nlink, size, atim, mtim, ctim;
} w_stat;
typedef struct w_fdstat {
    uint8_t type;
    uint16_t flags;
    uint64_t base, inheriting;
} w_fdstat;
typedef struct w_dirent {
    uint64_t next, ino;
    uint32_t namlen;
    uint8_t type;
} w_dirent;
typedef struct w_sub {
    uint64_t userdata;
    uint8_t tag;
    union {
        struct {
            uint32_t id;
            uint64_t timeout, precision;
            uint16_t flags;
        } clock;
        uint32_t fd;
    } u;
} w_sub;
typedef struct w_event {
    uint64_t userdata;
    uint16_t error;
    uint8_t type;
    uint64_t nbytes;
    uint16_t flags;
} w_event;

IMPORT(args_get)(void *, void *);
IMPORT(args_sizes_get)(uint32_t *, uint32_t *);
IMPORT(environ_get)(void *, void *);
IMPORT(environ_sizes_get)(uint32_t *, uint32_t *);
IMPORT(clock_res_get)(uint32_t, uint64_t *);
IMPORT(clock_time_get)(uint32_t, uint64_t, uint64_t *);
IMPORT(fd_advise)(uint32_t, uint64_t, uint64_t, uint32_t);
IMPORT(fd_allocate)(uint32_t, uint64_t, uint64_t);
IMPORT(fd_close)(uint32_t);
IMPORT(fd_datasync)(uint32_t);
IMPORT(fd_fdstat_get)(uint32_t, w_fdstat *);
IMPORT(fd_fdstat_set_flags)(uint32_t, uint32_t);
IMPORT(fd_fdstat_set_rights)(uint32_t, uint64_t, uint64_t);
IMPORT(fd_filestat_get)(uint32_t, w_stat *);
IMPORT(fd_filestat_set_size)(uint32_t, uint64_t);
IMPORT(fd_filestat_set_times)(uint32_t, uint64_t, uint64_t, uint32_t);
IMPORT(fd_pread)(uint32_t, const iov *, uint32_t, uint64_t, uint32_t *);
IMPORT(fd_prestat_get)(uint32_t, uint32_t[2]);
IMPORT(fd_prestat_dir_name)(uint32_t, char *, uint32_t);
IMPORT(fd_pwrite)(uint32_t, const iov *, uint32_t, uint64_t, uint32_t *);
IMPORT(fd_read)(uint32_t, const iov *, uint32_t, uint32_t *);
IMPORT(fd_readdir)(uint32_t, void *, uint32_t, uint64_t, uint32_t *);
IMPORT(fd_renumber)(uint32_t, uint32_t);
IMPORT(fd_seek)(uint32_t, int64_t, uint32_t, uint64_t *);
IMPORT(fd_sync)(uint32_t);
IMPORT(fd_tell)(uint32_t, uint64_t *);
IMPORT(fd_write)(uint32_t, const iov *, uint32_t, uint32_t *);
IMPORT(path_create_directory)(uint32_t, const char *, uint32_t);
IMPORT(path_filestat_get)(uint32_t, uint32_t, const char *, uint32_t, w_stat *);
IMPORT(path_filestat_set_times)(uint32_t, uint32_t, const char *, uint32_t, uint64_t, uint64_t, uint32_t);
IMPORT(path_link)(uint32_t, uint32_t, const char *, uint32_t, uint32_t, const char *, uint32_t);
IMPORT(path_open)
(uint32_t, uint32_t, const char *, uint32_t, uint32_t, uint64_t, uint64_t, uint32_t, uint32_t *);
IMPORT(path_readlink)(uint32_t, const char *, uint32_t, char *, uint32_t, uint32_t *);
IMPORT(path_remove_directory)(uint32_t, const char *, uint32_t);
IMPORT(path_rename)(uint32_t, const char *, uint32_t, uint32_t, const char *, uint32_t);
IMPORT(path_symlink)(const char *, uint32_t, uint32_t, const char *, uint32_t);
IMPORT(path_unlink_file)(uint32_t, const char *, uint32_t);
IMPORT(poll_oneoff)(const w_sub *, w_event *, uint32_t, uint32_t *);
IMPORT(proc_raise)(uint32_t);
IMPORT(sched_yield)(void);
IMPORT(random_get)(void *, uint32_t);
IMPORT(sock_accept)(uint32_t, uint32_t, uint32_t *);
IMPORT(sock_recv)(uint32_t, const iov *, uint32_t, uint32_t, uint32_t *, uint16_t *);
IMPORT(sock_send)(uint32_t, const iov *, uint32_t, uint32_t, uint32_t *);
IMPORT(sock_shutdown)(uint32_t, uint32_t);

/* Prints the call and its answer, and is the answer. */
#define T(call) told(#call, (call))
static inline int told(const char *what, int rc)
{
    printf("%s = %d\n", what, rc);
    return rc;
}
#define S(s) (s), (uint32_t)(sizeof(s) - 1)

enum { CREAT = 1, DIRECTORY = 2, EXCL = 4, TRUNC = 8 };
enum { APPEND = 1, DSYNC = 2, NONBLOCK = 4, RSYNC = 8, SYNC = 16 };
enum { FOLLOW = 1 };
#define READ (UINT64_C(1) << 1)
#define WRITE (UINT64_C(1) << 6)
#define RW (READ | WRITE)
#define ROOT 3 /* "/" */
#define RO 4   /* "/ro", read-only */
