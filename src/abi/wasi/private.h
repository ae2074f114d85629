/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share: a guest's descriptor table, access to its memory, the list of calls.
 */
#pragma once

#include "abi/wasi/wasi.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/limits.h"

#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/uio.h>

/* Errors as the guest sees them, in the order of the specification. */
enum {
    WASI_SUCCESS = 0,
    WASI_2BIG,
    WASI_ACCES,
    WASI_ADDRINUSE,
    WASI_ADDRNOTAVAIL,
    WASI_AFNOSUPPORT,
    WASI_AGAIN,
    WASI_ALREADY,
    WASI_BADF,
    WASI_BADMSG,
    WASI_BUSY,
    WASI_CANCELED,
    WASI_CHILD,
    WASI_CONNABORTED,
    WASI_CONNREFUSED,
    WASI_CONNRESET,
    WASI_DEADLK,
    WASI_DESTADDRREQ,
    WASI_DOM,
    WASI_DQUOT,
    WASI_EXIST,
    WASI_FAULT,
    WASI_FBIG,
    WASI_HOSTUNREACH,
    WASI_IDRM,
    WASI_ILSEQ,
    WASI_INPROGRESS,
    WASI_INTR,
    WASI_INVAL,
    WASI_IO,
    WASI_ISCONN,
    WASI_ISDIR,
    WASI_LOOP,
    WASI_MFILE,
    WASI_MLINK,
    WASI_MSGSIZE,
    WASI_MULTIHOP,
    WASI_NAMETOOLONG,
    WASI_NETDOWN,
    WASI_NETRESET,
    WASI_NETUNREACH,
    WASI_NFILE,
    WASI_NOBUFS,
    WASI_NODEV,
    WASI_NOENT,
    WASI_NOEXEC,
    WASI_NOLCK,
    WASI_NOLINK,
    WASI_NOMEM,
    WASI_NOMSG,
    WASI_NOPROTOOPT,
    WASI_NOSPC,
    WASI_NOSYS,
    WASI_NOTCONN,
    WASI_NOTDIR,
    WASI_NOTEMPTY,
    WASI_NOTRECOVERABLE,
    WASI_NOTSOCK,
    WASI_NOTSUP,
    WASI_NOTTY,
    WASI_NXIO,
    WASI_OVERFLOW,
    WASI_OWNERDEAD,
    WASI_PERM,
    WASI_PIPE,
    WASI_PROTO,
    WASI_PROTONOSUPPORT,
    WASI_PROTOTYPE,
    WASI_RANGE,
    WASI_ROFS,
    WASI_SPIPE,
    WASI_SRCH,
    WASI_STALE,
    WASI_TIMEDOUT,
    WASI_TXTBSY,
    WASI_XDEV,
    WASI_NOTCAPABLE,
    WASI_ERRNO_END,
};

/* What a call returns: a WASI errno, or one of these. */
#define WASI_TRAP (-1)                             /* the frame says why */
#define WASI_EXIT (-2)                             /* the frame has the code */
#define WASI_STOPPED_EXIT (128 + 15 /* SIGTERM */) /* of a guest that a stop request ended */

enum {
    WASI_FILETYPE_UNKNOWN,
    WASI_FILETYPE_BLOCK,
    WASI_FILETYPE_CHAR,
    WASI_FILETYPE_DIR,
    WASI_FILETYPE_REG,
    WASI_FILETYPE_DGRAM,
    WASI_FILETYPE_STREAM,
    WASI_FILETYPE_LINK,
};
#define WASI_FILETYPE_UNRESOLVED 255

enum {
    WASI_FDFLAG_APPEND = 1,
    WASI_FDFLAG_DSYNC = 2,
    WASI_FDFLAG_NONBLOCK = 4,
    WASI_FDFLAG_RSYNC = 8,
    WASI_FDFLAG_SYNC = 16
};
enum { WASI_OFLAG_CREAT = 1, WASI_OFLAG_DIRECTORY = 2, WASI_OFLAG_EXCL = 4, WASI_OFLAG_TRUNC = 8 };
enum { WASI_LOOKUP_FOLLOW = 1 };
enum { WASI_CLOCK_REALTIME, WASI_CLOCK_MONOTONIC, WASI_CLOCK_PROCESS, WASI_CLOCK_THREAD };
enum { WASI_EVENT_CLOCK, WASI_EVENT_READ, WASI_EVENT_WRITE };

#define WASI_RIGHT(n) (UINT64_C(1) << (n))
enum {
    RIGHT_FD_DATASYNC,
    RIGHT_FD_READ,
    RIGHT_FD_SEEK,
    RIGHT_FD_FDSTAT_SET_FLAGS,
    RIGHT_FD_SYNC,
    RIGHT_FD_TELL,
    RIGHT_FD_WRITE,
    RIGHT_FD_ADVISE,
    RIGHT_FD_ALLOCATE,
    RIGHT_PATH_CREATE_DIRECTORY,
    RIGHT_PATH_CREATE_FILE,
    RIGHT_PATH_LINK_SOURCE,
    RIGHT_PATH_LINK_TARGET,
    RIGHT_PATH_OPEN,
    RIGHT_FD_READDIR,
    RIGHT_PATH_READLINK,
    RIGHT_PATH_RENAME_SOURCE,
    RIGHT_PATH_RENAME_TARGET,
    RIGHT_PATH_FILESTAT_GET,
    RIGHT_PATH_FILESTAT_SET_SIZE,
    RIGHT_PATH_FILESTAT_SET_TIMES,
    RIGHT_FD_FILESTAT_GET,
    RIGHT_FD_FILESTAT_SET_SIZE,
    RIGHT_FD_FILESTAT_SET_TIMES,
    RIGHT_PATH_SYMLINK,
    RIGHT_PATH_REMOVE_DIRECTORY,
    RIGHT_PATH_UNLINK_FILE,
    RIGHT_POLL_FD_READWRITE,
    RIGHT_SOCK_SHUTDOWN,
    RIGHT_SOCK_ACCEPT,
    RIGHT_END,
};
#define WASI_RIGHTS_ALL (WASI_RIGHT(RIGHT_END) - 1)

typedef enum {
    KIND_FREE,
    KIND_STDIN,
    KIND_STDOUT,     /* streams 1 and 2 */
    KIND_UNRESOLVED, /* opened by path for reading: a file or a folder, nobody had to know yet */
    KIND_DIR,
    KIND_FILE, /* anything else that a path leads to */
    KIND_LISTENER,
    KIND_SOCKET,
    KIND_STOP,
} wasi_kind;

#define WASI_LIST_BYTES 16384
/* A part of a folder, as getdents64 gave it. */
typedef struct wasi_list {
    int fd;          /* -1: the descriptor's own */
    uint64_t ino;    /* of the folder */
    uint64_t cookie; /* where data[0] stands in the folder */
    size_t len;
    _Alignas(8) char data[WASI_LIST_BYTES];
} wasi_list;

typedef struct wasi_fd {
    uint8_t kind;     /* wasi_kind */
    uint8_t filetype; /* WASI_FILETYPE_*; UNRESOLVED until somebody asks */
    uint8_t stream;   /* of KIND_STDOUT: 1 or 2 */
    bool borrowed;    /* the host's descriptor is not ours to close */
    bool path_only;   /* may be O_PATH: open "." to list it */
    bool readable, writable, read_only;
    bool append, nonblock;
    bool listed;      /* the folder's position is not its beginning any more */
    bool ready;       /* reading and writing never wait: a regular file, or no descriptor at all */
    int fd;           /* the host's; -1: reads nothing and swallows everything */
    uint64_t dropped; /* rights that the guest gave up */
    uint64_t dropped_inheriting;
    char *preopen; /* the guest's path, or NULL */
    wasi_list *list;
} wasi_fd;

typedef struct wasi_strings { /* arguments or environment: strings with their NULs, one behind the other */
    char *data;
    size_t bytes;
    uint32_t count;
} wasi_strings;

#define WASI_PATH_BYTES (PATH_MAX + 1) /* room for a slash that path_rename puts back */
#define WASI_MAGIC 0x69736157u

struct wh_wasi {
    wh_wasi
        *self; /* the instance's user data may be this struct, or anything that begins with a pointer to it */
    uint32_t magic;
    wasi_fd *fds;
    uint32_t n_fds, cap_fds; /* descriptors below n_fds are in use or in `free` */
    uint32_t n_free;
    uint64_t free[WH_GUEST_FDS_MAX / 64];
    wasi_strings args, env;
    wh_wasi_config config; /* without args and env */
    wh_time origin;        /* where the guest's monotonic clock begins */
    atomic_bool stop_claimed;
    uint8_t random[512]; /* from the kernel; the first random_left bytes are still to be given out */
    uint32_t random_left;
    char msg[256]; /* of the last trap */
    char path[2][WASI_PATH_BYTES];
    struct iovec iov[WH_GUEST_IOVECS_MAX];
};

typedef struct wasi_call wasi_call;
typedef struct wasi_ctx { /* one host call */
    wh_wasi *w;
    wh_frame *frame;
    const wasi_call *call;
    const char *writing; /* type of the result that is being stored, for the words of a trap */
} wasi_ctx;
typedef int (*wasi_call_fn)(wasi_ctx *c, const wh_slot *a);

struct wasi_call {
    const char *name;
    /* One character per parameter, for checks and traces: f descriptor, p path and l its length, v and w
     * vectors of buffers to read into and to write from, n their count, b pointer, z size, q u64, i s64, x
     * exit code, and enums and flags: C clock, A advice, W whence, O oflags, F fdflags, L lookupflags, R
     * rights, T fstflags, G signal, I riflags, S siflags, H sdflags. */
    const char *shape;
    char result; /* 'd' u32, 'D' u64 at the last parameter; '2' two u32; '0' nothing */
    bool p0;     /* as wasi_unstable had it */
    wasi_call_fn fn;
};

/* name, signature, shape, result */
#define WASI_CALLS(X)                                        \
    X(args_get, "(ii)i", "bb", '0')                          \
    X(args_sizes_get, "(ii)i", "bb", '2')                    \
    X(environ_get, "(ii)i", "bb", '0')                       \
    X(environ_sizes_get, "(ii)i", "bb", '2')                 \
    X(clock_res_get, "(ii)i", "Cb", 'D')                     \
    X(clock_time_get, "(iIi)i", "Cqb", 'D')                  \
    X(fd_advise, "(iIIi)i", "fqqA", '0')                     \
    X(fd_allocate, "(iII)i", "fqq", '0')                     \
    X(fd_close, "(i)i", "f", '0')                            \
    X(fd_datasync, "(i)i", "f", '0')                         \
    X(fd_fdstat_get, "(ii)i", "fb", '0')                     \
    X(fd_fdstat_set_flags, "(ii)i", "fF", '0')               \
    X(fd_fdstat_set_rights, "(iII)i", "fRR", '0')            \
    X(fd_filestat_get, "(ii)i", "fb", '0')                   \
    X(fd_filestat_set_size, "(iI)i", "fq", '0')              \
    X(fd_filestat_set_times, "(iIIi)i", "fqqT", '0')         \
    X(fd_pread, "(iiiIi)i", "fvnqb", 'd')                    \
    X(fd_prestat_get, "(ii)i", "fb", '0')                    \
    X(fd_prestat_dir_name, "(iii)i", "fbz", '0')             \
    X(fd_pwrite, "(iiiIi)i", "fwnqb", 'd')                   \
    X(fd_read, "(iiii)i", "fvnb", 'd')                       \
    X(fd_readdir, "(iiiIi)i", "fbzqb", 'd')                  \
    X(fd_renumber, "(ii)i", "ff", '0')                       \
    X(fd_seek, "(iIii)i", "fiWb", 'D')                       \
    X(fd_sync, "(i)i", "f", '0')                             \
    X(fd_tell, "(ii)i", "fb", 'D')                           \
    X(fd_write, "(iiii)i", "fwnb", 'd')                      \
    X(path_create_directory, "(iii)i", "fpl", '0')           \
    X(path_filestat_get, "(iiiii)i", "fLplb", '0')           \
    X(path_filestat_set_times, "(iiiiIIi)i", "fLplqqT", '0') \
    X(path_link, "(iiiiiii)i", "fLplfpl", '0')               \
    X(path_open, "(iiiiiIIii)i", "fLplORRFb", 'd')           \
    X(path_readlink, "(iiiiii)i", "fplbzb", 'd')             \
    X(path_remove_directory, "(iii)i", "fpl", '0')           \
    X(path_rename, "(iiiiii)i", "fplfpl", '0')               \
    X(path_symlink, "(iiiii)i", "plfpl", '0')                \
    X(path_unlink_file, "(iii)i", "fpl", '0')                \
    X(poll_oneoff, "(iiii)i", "bbzb", 'd')                   \
    X(proc_exit, "(i)", "x", '0')                            \
    X(proc_raise, "(i)i", "G", '0')                          \
    X(sched_yield, "()i", "", '0')                           \
    X(random_get, "(ii)i", "bz", '0')                        \
    X(sock_accept, "(iii)i", "fFb", 'd')                     \
    X(sock_recv, "(iiiiii)i", "fvnIbb", '0')                 \
    X(sock_send, "(iiiii)i", "fwnSb", 'd')                   \
    X(sock_shutdown, "(ii)i", "fH", '0')

#define WASI_DECLARE(name, sig, shape, result) int wasi_##name(wasi_ctx *c, const wh_slot *a);
WASI_CALLS(WASI_DECLARE)
#undef WASI_DECLARE

/* errno.c */
int wasi_errno(int host_errno);        /* positive errno */
const char *wasi_errno_name(int wasi); /* "ENOENT" */

/* memory.c: the guest's memory. Addresses are 64 bits wide so that sums of guest numbers do not wrap. */
int wasi_trap_text(wasi_ctx *c, const char *text);
int wasi_trap_bounds(wasi_ctx *c, uint64_t at, uint64_t n);
int wasi_check(wasi_ctx *c, uint64_t at, uint64_t n, uint32_t align); /* 0 or WASI_TRAP */
int wasi_get_u8(wasi_ctx *c, uint64_t at, uint8_t *ret);
int wasi_get_u16(wasi_ctx *c, uint64_t at, uint16_t *ret);
int wasi_get_u32(wasi_ctx *c, uint64_t at, uint32_t *ret);
int wasi_get_u64(wasi_ctx *c, uint64_t at, uint64_t *ret);
int wasi_put_u8(wasi_ctx *c, uint64_t at, uint8_t value);
int wasi_put_u16(wasi_ctx *c, uint64_t at, uint16_t value);
int wasi_put_u32(wasi_ctx *c, uint64_t at, uint32_t value);
int wasi_put_u64(wasi_ctx *c, uint64_t at, uint64_t value);
int wasi_put_bytes(wasi_ctx *c, uint64_t at, const void *data, size_t n);
/* Results at the border: a trap names the type. */
int wasi_ret_u32(wasi_ctx *c, uint32_t at, uint32_t value, const char *type);
int wasi_ret_u64(wasi_ctx *c, uint32_t at, uint64_t value, const char *type);
/* Copies a path into buffer 0 or 1 of the guest's. ILSEQ, INVAL (a NUL inside), NAMETOOLONG, NOMEM. */
int wasi_get_path(wasi_ctx *c, uint32_t at, uint32_t n, int buffer, char **ret);
/* The guest's vector of buffers as ours, without empty ones and cut at WH_GUEST_IOVECS_MAX: calls may be
 * short. */
int wasi_get_iovecs(wasi_ctx *c, uint32_t at, uint32_t n, struct iovec **ret, int *ret_n);
#define WASI_HOST_COPY_MAX (128u << 20) /* what one call may make us copy: Wasmtime's figure */

/* table.c: descriptors */
static inline wasi_fd *wasi_fd_get(const wasi_ctx *c, int32_t n)
{
    uint32_t i = (uint32_t)n;
    return i < c->w->n_fds && c->w->fds[i].kind != KIND_FREE ? &c->w->fds[i] : NULL;
}
/* Makes room for one more: its number, or -1 at the limit. The entry is zeroed but for fd = -1, and taken
 * when its kind is set. */
int32_t wasi_fd_reserve(wh_wasi *w);
void wasi_fd_unreserve(wh_wasi *w, int32_t n);
void wasi_fd_take(wh_wasi *w, int32_t n); /* a number that is free */
void wasi_fd_shut(wh_wasi *w, int32_t n);
/* KIND_UNRESOLVED becomes KIND_DIR or KIND_FILE, and the file type is known. */
int wasi_fd_resolve(wasi_fd *d);
int wasi_filetype_of(mode_t mode);
/* The descriptor as a file or a folder; BADF when it is something else, NOTCAPABLE when the right is gone. */
int wasi_fd_file(const wasi_ctx *c, int32_t n, int right, wasi_fd **ret);
int wasi_fd_dir(const wasi_ctx *c, int32_t n, int right, wasi_fd **ret);
int wasi_fd_allows(const wasi_fd *d, int right); /* 0 or NOTCAPABLE */
void wasi_fd_rights(const wasi_fd *d, uint64_t *ret_base, uint64_t *ret_inheriting);

/* poll.c: waits until one of fds is ready (its revents tell) or the deadline has come, in our monotonic time.
 * Returns the number of ready ones, 0 at the deadline, WASI_EXIT, or -1 and errno. */
int wasi_wait(wasi_ctx *c, struct pollfd *fds, nfds_t n, wh_time deadline);
int wasi_wait_for(wasi_ctx *c, int fd, short events); /* 0 or WASI_EXIT */
bool wasi_interrupted(wasi_ctx *c);                   /* true: return WASI_EXIT; the frame has the code */

/* fdio.c: shared with sockets. 0, a negative errno, or WASI_ENDED: a stop request came. */
#define WASI_ENDED (-4095)
int wasi_read_waiting(wasi_ctx *c, const wasi_fd *d, const struct iovec *iov, int n, size_t *ret);
int wasi_write_waiting(wasi_ctx *c, const wasi_fd *d, const struct iovec *iov, int n, size_t *ret);

/* stat.c */
struct stat;
int wasi_ret_filestat(wasi_ctx *c, uint32_t at, const struct stat *st);
int wasi_times(const wh_slot *atim, const wh_slot *mtim, uint32_t flags, struct timespec ret[2]);
/* Times of the object that a descriptor stands for, also an O_PATH one. 0 or an errno of WASI. */
int wasi_set_times(int fd, const struct timespec times[2]);

/* trace.c */
wh_host_result wasi_traced(wasi_ctx *c, wh_slot *io);
/* call.c */
int wasi_run(wasi_ctx *c, const wh_slot *io);
