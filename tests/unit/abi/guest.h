/* SPDX-License-Identifier: Apache-2.0 */
/* A guest without an engine: 64 KiB of memory, a WASI state, a folder of its own, and calls through the
 * import table. */
#pragma once

#include "abi/wasi/wasi.h"
#include "harness.h"

#define PAGE 65536u
#define TRAPPED (-1)
#define EXITED (-2)
#define MODULE "wasi_snapshot_preview1"

/* WASI's numbers, as a guest knows them. */
enum {
    OK = 0,
    E2BIG_ = 1,
    EACCES_ = 2,
    EAGAIN_ = 6,
    EBADF_ = 8,
    EEXIST_ = 20,
    EFBIG_ = 22,
    EILSEQ_ = 25,
    EINVAL_ = 28,
    EIO_ = 29,
    EISDIR_ = 31,
    ELOOP_ = 32,
    EMFILE_ = 33,
    ENAMETOOLONG_ = 37,
    ENOENT_ = 44,
    ENOMEM_ = 48,
    ENOSYS_ = 52,
    ENOTCONN_ = 53,
    ENOTDIR_ = 54,
    ENOTEMPTY_ = 55,
    ENOTSOCK_ = 57,
    ENOTSUP_ = 58,
    EPERM_ = 63,
    EPIPE_ = 64,
    EROFS_ = 69,
    ESPIPE_ = 70,
    EXDEV_ = 75,
    ENOTCAPABLE_ = 76,
};
enum { CREAT = 1, DIRECTORY = 2, EXCL = 4, TRUNC = 8 };
enum { APPEND = 1, DSYNC = 2, NONBLOCK = 4, RSYNC = 8, SYNC = 16 };
#define READ (1 << 1)
#define WRITE (1 << 6)
#define RW (READ | WRITE)
#define FOLLOW 1
#define DIR_FD 3

typedef struct guest {
    uint8_t *mem; /* exactly PAGE bytes, so that a sanitizer sees one past */
    wh_wasi *wasi;
    const char *module;
    wh_frame frame; /* of the last call */
    char dir[64];   /* the host's name of the guest's "/" */
    int dir_fd;
} guest;

/* config may be NULL: no arguments, no streams. Makes a temporary folder and preopens it as "/",
 * descriptor 3. */
guest *guest_new(const wh_wasi_config *config);
void guest_free(guest *g);
WH_DEFINE_CLEANUP(cleanup_guest, guest *, guest_free);
#define auto_guest __attribute__((cleanup(cleanup_guest))) guest

/* Calls an import; arguments by its signature. An errno, TRAPPED or EXITED. */
#define CALL(g, name, ...) guest_call((g), (name), (const int64_t[]){0, ##__VA_ARGS__})
int guest_call(guest *g, const char *name, const int64_t *args);

/* Memory. Paths go to 1000 and 5200, buffers to 20000, vectors to 100, results to 8 and 16. */
#define PATH_AT 1000
#define PATH2_AT 5200
#define BUF_AT 20000
#define IOV_AT 104
#define RET_AT 8
uint32_t guest_put(guest *g, uint32_t at, const char *s); /* without the NUL; its length */
uint32_t guest_u32(const guest *g, uint32_t at);
uint64_t guest_u64(const guest *g, uint32_t at);
void guest_set32(guest *g, uint32_t at, uint32_t value);
void guest_set64(guest *g, uint32_t at, uint64_t value);

/* Calls with their arguments in memory. */
int open_at(guest *g, int dirflags, const char *path, int oflags, int64_t rights, int fdflags, int *ret_fd);
int path_call(guest *g, const char *name, const char *path); /* (dir, path) */
int write_fd(guest *g, int fd, const char *s);               /* CHECKs that all went */
int read_fd(guest *g, int fd, uint32_t n, char *out, uint32_t *ret_n);

/* The host's side. */
void host_write(const guest *g, const char *path, const char *text);
char *host_read(const guest *g, const char *path); /* the caller's; NULL when absent */
void host_mkdir(const guest *g, const char *path);
void host_link(const guest *g, const char *target, const char *path);
bool host_exists(const guest *g, const char *path); /* without following */
