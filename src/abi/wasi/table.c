/* SPDX-License-Identifier: Apache-2.0 */
/* A guest's descriptors. Numbers are given out as Wasmtime does: the highest one that was closed, else the
 * next. */
#include "abi/wasi/private.h"

#include <fcntl.h>

static int strings_init(wasi_strings *s, char *const *v, size_t *room)
{
    size_t bytes = 0;

    for (char *const *p = v; p != NULL && *p != NULL; p++) {
        bytes += strlen(*p) + 1;
        s->count++;
    }
    if (bytes > *room)
        return -E2BIG;
    *room -= bytes;
    s->bytes = bytes;
    s->data = malloc(bytes + 1);
    if (s->data == NULL)
        return -ENOMEM;
    char *to = s->data;
    for (char *const *p = v; p != NULL && *p != NULL; p++) {
        size_t n = strlen(*p) + 1;
        memcpy(to, *p, n);
        to += n;
    }
    return 0;
}

/* Descriptors 0, 1 and 2. A terminal is a character device to the guest, everything else is unknown: libc
 * asks this to choose its buffering. */
static void add_stream(wh_wasi *w, uint8_t kind, uint8_t stream, int fd, bool ready)
{
    struct stat st;
    int32_t n = wasi_fd_reserve(w);
    wh_assert(n >= 0);
    wasi_fd *d = &w->fds[n];
    bool known = fd >= 0 && fstat(fd, &st) == 0;

    *d = (wasi_fd){
        .kind = kind,
        .stream = stream,
        .fd = fd,
        .borrowed = true,
        .readable = kind == KIND_STDIN,
        .writable = kind != KIND_STDIN,
        .ready = ready || !known || S_ISREG(st.st_mode),
        .filetype =
            known && S_ISCHR(st.st_mode) && isatty(fd) == 1 ? WASI_FILETYPE_CHAR : WASI_FILETYPE_UNKNOWN,
    };
}

int wh_wasi_new(const wh_wasi_config *config, wh_wasi **ret, wh_err *err)
{
    wh_wasi *w = calloc(1, sizeof(*w));
    size_t room = WH_ENV_BYTES_MAX;

    if (w == NULL)
        return wh_fail(err, -ENOMEM, "make the WASI state of a guest");
    w->self = w;
    w->magic = WASI_MAGIC;
    w->config = *config;
    w->config.args = w->config.env = NULL;
    w->origin = wh_mono_now();
    int rc = strings_init(&w->args, config->args, &room);
    if (rc == 0)
        rc = strings_init(&w->env, config->env, &room);
    if (rc < 0) {
        wh_wasi_free(w);
        return wh_fail(err, rc,
                       "take the guest's arguments and environment: more than %lu bytes, or no memory",
                       (unsigned long)WH_ENV_BYTES_MAX);
    }
    add_stream(w, KIND_STDIN, 0, config->read != NULL ? -1 : config->stdin_fd, false);
    add_stream(w, KIND_STDOUT, 1, config->stdout_fd, config->write != NULL);
    add_stream(w, KIND_STDOUT, 2, config->stderr_fd, config->write != NULL);
    *ret = w;
    return 0;
}

void wh_wasi_free(wh_wasi *w)
{
    if (w == NULL)
        return;
    wh_assert(w->magic == WASI_MAGIC);
    for (uint32_t i = 0; i < w->n_fds; i++)
        if (w->fds[i].kind != KIND_FREE)
            wasi_fd_shut(w, (int32_t)i);
    free(w->fds);
    free(w->args.data);
    free(w->env.data);
    explicit_bzero(w->random, sizeof(w->random));
    w->magic = 0;
    free(w);
}

static int32_t take_highest_free(wh_wasi *w)
{
    for (size_t i = WH_ARRAY_LEN(w->free); i-- > 0;) {
        if (w->free[i] != 0) {
            int bit = 63 - __builtin_clzll(w->free[i]);
            w->free[i] &= ~(UINT64_C(1) << bit);
            w->n_free--;
            return (int32_t)(64 * i) + bit;
        }
    }
    return -1;
}

int32_t wasi_fd_reserve(wh_wasi *w)
{
    if (w->n_free > 0)
        return take_highest_free(w);
    if (w->n_fds >= WH_GUEST_FDS_MAX)
        return -1;
    if (w->n_fds == w->cap_fds) {
        uint32_t cap = WH_MAX(8u, 2 * w->cap_fds);
        wasi_fd *fds = realloc(w->fds, cap * sizeof(*fds));
        if (fds == NULL)
            return -1;
        w->fds = fds;
        w->cap_fds = cap;
    }
    w->fds[w->n_fds] = (wasi_fd){.fd = -1};
    return (int32_t)w->n_fds++;
}

void wasi_fd_take(wh_wasi *w, int32_t n)
{
    uint32_t i = (uint32_t)n;

    wh_assert((w->free[i / 64] >> (i % 64) & 1) != 0);
    w->free[i / 64] &= ~(UINT64_C(1) << (i % 64));
    w->n_free--;
}

void wasi_fd_unreserve(wh_wasi *w, int32_t n)
{
    uint32_t i = (uint32_t)n;

    w->fds[i] = (wasi_fd){.fd = -1};
    w->free[i / 64] |= UINT64_C(1) << (i % 64);
    w->n_free++;
}

void wasi_fd_shut(wh_wasi *w, int32_t n)
{
    wasi_fd *d = &w->fds[n];

    if (d->list != NULL) {
        if (d->list->fd >= 0)
            close(d->list->fd);
        free(d->list);
    }
    free(d->preopen);
    if (d->fd >= 0 && !d->borrowed)
        close(d->fd);
    wasi_fd_unreserve(w, n);
}

int wasi_filetype_of(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
        return WASI_FILETYPE_REG;
    case S_IFDIR:
        return WASI_FILETYPE_DIR;
    case S_IFLNK:
        return WASI_FILETYPE_LINK;
    case S_IFCHR:
        return WASI_FILETYPE_CHAR;
    case S_IFBLK:
        return WASI_FILETYPE_BLOCK;
    default: /* no word for a FIFO, two for a socket and no way to tell which */
        return WASI_FILETYPE_UNKNOWN;
    }
}

int wasi_fd_resolve(wasi_fd *d)
{
    struct stat st;

    if (d->filetype != WASI_FILETYPE_UNRESOLVED)
        return 0;
    if (fstat(d->fd, &st) < 0)
        return wasi_errno(errno);
    d->filetype = (uint8_t)wasi_filetype_of(st.st_mode);
    d->ready = S_ISREG(st.st_mode);
    if (d->kind == KIND_UNRESOLVED)
        d->kind = S_ISDIR(st.st_mode) ? KIND_DIR : KIND_FILE;
    return 0;
}

int wasi_fd_allows(const wasi_fd *d, int right)
{
    return (d->dropped & WASI_RIGHT(right)) == 0 ? 0 : WASI_NOTCAPABLE;
}

static int fd_of_kind(const wasi_ctx *c, int32_t n, wasi_kind kind, int right, wasi_fd **ret)
{
    wasi_fd *d = wasi_fd_get(c, n);
    if (d == NULL)
        return WASI_BADF;
    if (d->kind == KIND_UNRESOLVED) {
        int rc = wasi_fd_resolve(d);
        if (rc != 0)
            return rc;
    }
    if (d->kind != kind)
        return WASI_BADF;
    *ret = d;
    return wasi_fd_allows(d, right);
}

int wasi_fd_file(const wasi_ctx *c, int32_t n, int right, wasi_fd **ret)
{
    return fd_of_kind(c, n, KIND_FILE, right, ret);
}

int wasi_fd_dir(const wasi_ctx *c, int32_t n, int right, wasi_fd **ret)
{
    return fd_of_kind(c, n, KIND_DIR, right, ret);
}

#define DIR_BASE                                                                                             \
    (WASI_RIGHT(RIGHT_PATH_CREATE_DIRECTORY) | WASI_RIGHT(RIGHT_PATH_CREATE_FILE) |                          \
     WASI_RIGHT(RIGHT_PATH_LINK_SOURCE) | WASI_RIGHT(RIGHT_PATH_LINK_TARGET) | WASI_RIGHT(RIGHT_PATH_OPEN) | \
     WASI_RIGHT(RIGHT_FD_READDIR) | WASI_RIGHT(RIGHT_PATH_READLINK) | WASI_RIGHT(RIGHT_PATH_RENAME_SOURCE) | \
     WASI_RIGHT(RIGHT_PATH_RENAME_TARGET) | WASI_RIGHT(RIGHT_PATH_SYMLINK) |                                 \
     WASI_RIGHT(RIGHT_PATH_REMOVE_DIRECTORY) | WASI_RIGHT(RIGHT_PATH_UNLINK_FILE) |                          \
     WASI_RIGHT(RIGHT_PATH_FILESTAT_GET) | WASI_RIGHT(RIGHT_PATH_FILESTAT_SET_TIMES) |                       \
     WASI_RIGHT(RIGHT_FD_FILESTAT_GET) | WASI_RIGHT(RIGHT_FD_FILESTAT_SET_TIMES))
#define DIR_INHERITING                                                                                  \
    (DIR_BASE | WASI_RIGHT(RIGHT_FD_DATASYNC) | WASI_RIGHT(RIGHT_FD_READ) | WASI_RIGHT(RIGHT_FD_SEEK) | \
     WASI_RIGHT(RIGHT_FD_FDSTAT_SET_FLAGS) | WASI_RIGHT(RIGHT_FD_SYNC) | WASI_RIGHT(RIGHT_FD_TELL) |    \
     WASI_RIGHT(RIGHT_FD_WRITE) | WASI_RIGHT(RIGHT_FD_ADVISE) | WASI_RIGHT(RIGHT_FD_ALLOCATE) |         \
     WASI_RIGHT(RIGHT_FD_FILESTAT_SET_SIZE) | WASI_RIGHT(RIGHT_POLL_FD_READWRITE))

/* Rights say what was asked for; what is allowed stands in `read_only` and in what the guest gave up.
 * wasi-libc masks what it asks for with a folder's inheriting rights, so these stay whole even where writing
 * will be refused: the refusal then comes from open, not from the first write. */
void wasi_fd_rights(const wasi_fd *d, uint64_t *ret_base, uint64_t *ret_inheriting)
{
    uint64_t base, inheriting;

    switch ((wasi_kind)d->kind) {
    case KIND_DIR:
        base = d->preopen != NULL
                   ? DIR_BASE
                   : WASI_RIGHTS_ALL &
                         ~(WASI_RIGHT(RIGHT_FD_SEEK) | WASI_RIGHT(RIGHT_FD_WRITE) |
                           WASI_RIGHT(RIGHT_FD_FILESTAT_SET_SIZE) | WASI_RIGHT(RIGHT_PATH_FILESTAT_SET_SIZE));
        inheriting = d->preopen != NULL ? DIR_INHERITING : WASI_RIGHTS_ALL;
        break;
    case KIND_FILE:
        base = WASI_RIGHTS_ALL;
        if (!d->readable)
            base &= ~(WASI_RIGHT(RIGHT_FD_READ) | WASI_RIGHT(RIGHT_FD_READDIR));
        if (!d->writable)
            base &= ~WASI_RIGHT(RIGHT_FD_WRITE);
        inheriting = base;
        break;
    case KIND_LISTENER:
        base = WASI_RIGHT(RIGHT_SOCK_ACCEPT) | WASI_RIGHT(RIGHT_POLL_FD_READWRITE) |
               WASI_RIGHT(RIGHT_FD_FDSTAT_SET_FLAGS) | WASI_RIGHT(RIGHT_FD_FILESTAT_GET);
        inheriting = WASI_RIGHTS_ALL;
        break;
    case KIND_SOCKET:
        base = WASI_RIGHT(RIGHT_FD_READ) | WASI_RIGHT(RIGHT_FD_WRITE) | WASI_RIGHT(RIGHT_POLL_FD_READWRITE) |
               WASI_RIGHT(RIGHT_FD_FDSTAT_SET_FLAGS) | WASI_RIGHT(RIGHT_FD_FILESTAT_GET) |
               WASI_RIGHT(RIGHT_SOCK_SHUTDOWN);
        inheriting = base;
        break;
    case KIND_STDOUT:
        base = inheriting = WASI_RIGHT(RIGHT_FD_WRITE);
        break;
    case KIND_STDIN:
    case KIND_STOP:
    case KIND_FREE:
    case KIND_UNRESOLVED:
    default:
        base = inheriting = WASI_RIGHT(RIGHT_FD_READ);
        break;
    }
    *ret_base = base & ~d->dropped;
    *ret_inheriting = inheriting & ~d->dropped_inheriting;
}

/* A preopen: taken over in every case. */
static int preopen(wh_wasi *w, const wasi_fd *entry, const char *what, int *ret_guest_fd, wh_err *err)
{
    int32_t n = wasi_fd_reserve(w);

    if (n < 0) {
        close(entry->fd);
        free(entry->preopen);
        return wh_fail(err, -EMFILE, "preopen %s: a guest has at most %d descriptors", what,
                       WH_GUEST_FDS_MAX);
    }
    w->fds[n] = *entry;
    if (ret_guest_fd != NULL)
        *ret_guest_fd = n;
    return 0;
}

int wh_wasi_preopen_dir(wh_wasi *w, int fd, const char *guest_path, bool read_only, wh_err *err)
{
    wasi_fd d = {
        .kind = KIND_DIR,
        .filetype = WASI_FILETYPE_DIR,
        .fd = fd,
        .path_only = true,
        .readable = true,
        .read_only = read_only,
        .preopen = wh_xstrdup(guest_path),
    };
    return preopen(w, &d, guest_path, NULL, err);
}

int wh_wasi_preopen_listener(wh_wasi *w, int fd, int *ret_guest_fd, wh_err *err)
{
    wasi_fd d = {.kind = KIND_LISTENER, .filetype = WASI_FILETYPE_STREAM, .fd = fd, .readable = true};
    int flags = fcntl(fd, F_GETFL);

    /* Waiting is ours, so that a stop request ends it; the kernel must not block where a client left again.
     */
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        int rc = -errno;
        close(fd);
        return wh_fail(err, rc, "preopen a listening socket");
    }
    return preopen(w, &d, "a listening socket", ret_guest_fd, err);
}

int wh_wasi_preopen_stop(wh_wasi *w, int fd, int *ret_guest_fd, wh_err *err)
{
    wasi_fd d = {.kind = KIND_STOP, .filetype = WASI_FILETYPE_UNKNOWN, .fd = fd, .readable = true};
    return preopen(w, &d, "the stop descriptor", ret_guest_fd, err);
}

bool wh_wasi_stop_claimed(const wh_wasi *w)
{
    return atomic_load_explicit(&w->stop_claimed, memory_order_relaxed);
}

void wh_wasi_force_path_fallback(bool on)
{
    wh_openat2_force_fallback(on);
}
