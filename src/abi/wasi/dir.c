/* SPDX-License-Identifier: Apache-2.0 */
/* fd_readdir. A cookie is the kernel's own position behind an entry: it stays good while others add and
 * remove entries, and costs no memory. What was read from the kernel is kept, since a guest comes back for
 * entries that it cut off. */
#include "abi/wasi/private.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>

#define DIRENT_BYTES 24

typedef struct kernel_dirent { /* linux_dirent64 */
    uint64_t ino;
    int64_t off; /* of the next entry */
    uint16_t reclen;
    uint8_t type;
    char name[];
} kernel_dirent;

static int list_fd(const wasi_fd *d)
{
    return d->list->fd >= 0 ? d->list->fd : d->fd;
}

static int list_open(wasi_fd *d)
{
    struct stat st;

    if (d->list != NULL)
        return 0;
    wasi_list *list = malloc(sizeof(*list));
    if (list == NULL)
        return WASI_NOMEM;
    list->fd = -1;
    list->len = 0;
    list->cookie = 0;
    if (d->path_only) {
        list->fd = wh_openat2(d->fd, ".", O_RDONLY | O_DIRECTORY, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
        if (list->fd < 0) {
            int rc = wasi_errno(-list->fd);
            free(list);
            return rc;
        }
    }
    list->ino = fstat(d->fd, &st) == 0 ? st.st_ino : 0;
    d->list = list;
    return 0;
}

/* Reads the next part; list->len is 0 at the end. */
static int list_fill(wasi_fd *d, uint64_t cookie)
{
    wasi_list *list = d->list;
    long n = syscall(SYS_getdents64, list_fd(d), list->data, sizeof(list->data));

    list->len = 0;
    list->cookie = cookie;
    if (n < 0)
        return wasi_errno(errno);
    d->listed = true;
    list->len = (size_t)n;
    return 0;
}

/* Where the entry behind `cookie` stands in what we hold: SIZE_MAX when it is not there. */
static size_t list_find(const wasi_list *list, uint64_t cookie)
{
    if (list->cookie == cookie)
        return 0;
    for (size_t at = 0; at < list->len;) {
        const kernel_dirent *e = (const void *)(list->data + at);
        at += e->reclen;
        if ((uint64_t)e->off == cookie)
            return at;
    }
    return SIZE_MAX;
}

static int list_seek(wasi_fd *d, uint64_t cookie, size_t *ret_at)
{
    wasi_list *list = d->list;

    *ret_at = 0;
    /* From the beginning means anew: the folder may have changed. */
    if (cookie != 0 && list->len > 0) {
        *ret_at = list_find(list, cookie);
        if (*ret_at != SIZE_MAX)
            return 0;
        *ret_at = 0;
    }
    if ((cookie != 0 || d->listed) && lseek(list_fd(d), (off_t)cookie, SEEK_SET) < 0)
        return wasi_errno(errno);
    return list_fill(d, cookie);
}

static uint8_t entry_type(const wasi_fd *d, const kernel_dirent *e)
{
    static const uint8_t types[] = {[DT_CHR] = WASI_FILETYPE_CHAR,
                                    [DT_DIR] = WASI_FILETYPE_DIR,
                                    [DT_BLK] = WASI_FILETYPE_BLOCK,
                                    [DT_REG] = WASI_FILETYPE_REG,
                                    [DT_LNK] = WASI_FILETYPE_LINK};
    struct stat st;

    if (e->type == DT_UNKNOWN && fstatat(list_fd(d), e->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return (uint8_t)wasi_filetype_of(st.st_mode);
    return e->type < WH_ARRAY_LEN(types) ? types[e->type] : WASI_FILETYPE_UNKNOWN;
}

/* Writes as much of the entry as fits; the guest knows a cut one by its length. */
static int put_entry(wasi_ctx *c, const wasi_fd *d, const kernel_dirent *e, uint32_t buf, uint32_t room,
                     uint32_t *used)
{
    uint8_t head[DIRENT_BYTES] = {0};
    size_t name_bytes = strlen(e->name);
    uint32_t namlen = (uint32_t)name_bytes;
    uint64_t next = (uint64_t)e->off;
    /* The folder above may be the host's: its number is nobody's business. */
    uint64_t ino = wh_streq(e->name, "..") ? d->list->ino : e->ino;

    if (!wh_utf8_valid(e->name, name_bytes))
        return WASI_ILSEQ;
    memcpy(head, &next, 8);
    memcpy(head + 8, &ino, 8);
    memcpy(head + 16, &namlen, 4);
    head[20] = entry_type(d, e);
    uint32_t n = WH_MIN(room - *used, (uint32_t)DIRENT_BYTES);
    if (wasi_put_bytes(c, (uint64_t)buf + *used, head, n) < 0)
        return WASI_TRAP;
    *used += n;
    n = WH_MIN(room - *used, namlen);
    if (wasi_put_bytes(c, (uint64_t)buf + *used, e->name, n) < 0)
        return WASI_TRAP;
    *used += n;
    return 0;
}

/* At the end a buffer is no longer of use; a preopen keeps its own, since it will be listed again. */
static void list_done(wasi_fd *d)
{
    if (d->list->len > 0 || d->list->fd >= 0)
        return;
    free(d->list);
    d->list = NULL;
}

int wasi_fd_readdir(wasi_ctx *c, const wh_slot *a)
{
    wasi_fd *d;
    size_t at;
    uint32_t buf = (uint32_t)a[1].i32, room = (uint32_t)a[2].i32, used = 0;
    uint64_t cookie = (uint64_t)a[3].i64;
    int rc = wasi_fd_dir(c, a[0].i32, RIGHT_FD_READDIR, &d);
    if (rc == 0)
        rc = list_open(d);
    if (rc == 0)
        rc = list_seek(d, cookie, &at);
    if (rc != 0)
        return rc;
    const wasi_list *list = d->list;
    while (used < room) {
        if (at >= list->len) {
            if (list->len == 0)
                break;
            rc = list_fill(d, cookie);
            at = 0;
            if (rc != 0)
                return used > 0 ? wasi_ret_u32(c, (uint32_t)a[4].i32, used, "size") : rc;
            continue;
        }
        const kernel_dirent *e = (const void *)(list->data + at);
        rc = put_entry(c, d, e, buf, room, &used);
        if (rc == WASI_TRAP || (rc != 0 && used == 0))
            return rc;
        if (rc != 0)
            break;
        at += e->reclen;
        cookie = (uint64_t)e->off;
    }
    list_done(d);
    return wasi_ret_u32(c, (uint32_t)a[4].i32, used, "size");
}
