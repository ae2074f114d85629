/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/rest.h"

#include "base/file.h"
#include "base/record.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

static void shared_unref(wh_shared **table, int fd)
{
    wh_shared *s, *next;
    HASH_ITER(hh, *table, s, next)
    {
        if (s->fd != fd || --s->users > 0)
            continue;
        HASH_DEL(*table, s);
        close(s->fd);
        free(s);
    }
}

/* Files that can only be read are the same whoever opened them: code, programs, and the null device. */
static bool shared_key(int fd, wh_shared *ret)
{
    struct stat st;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || (flags & O_PATH) != 0 || fstat(fd, &st) < 0)
        return false;
    bool file = S_ISREG(st.st_mode) && (flags & O_ACCMODE) == O_RDONLY;
    if (!file && !S_ISCHR(st.st_mode))
        return false;
    ret->key.dev = st.st_dev;
    ret->key.ino = st.st_ino;
    ret->key.mode = flags & O_ACCMODE;
    return true;
}

/* The descriptor of the one open file, or -1: it is none that is shared. Takes `fd` over, unless it is `stay`. */
static int shared_ref(wh_shared **table, int fd, bool may_be_same)
{
    wh_shared key, *s;
    memset(&key, 0, sizeof(key));
    if (!shared_key(fd, &key))
        return -1;
    HASH_FIND(hh, *table, &key.key, sizeof(key.key), s);
    if (s == NULL) {
        s = wh_xnew(wh_shared);
        s->key = key.key;
        s->fd = fd;
        HASH_ADD(hh, *table, key, sizeof(s->key), s);
    } else if (!may_be_same || s->fd != fd) {
        close(fd);
    }
    s->users++;
    return s->fd;
}

/* ------------------------------------------------------------------ made of a message */

static int take_bytes(wh_rest_slot *slot, int fd, wh_err *err)
{
    size_t n;
    struct stat st;
    if (fstat(fd, &st) < 0 || st.st_size > WH_RECORD_BYTES_MAX)
        return wh_fail(err, -EFBIG, "sealed memory of more than %d bytes.", WH_RECORD_BYTES_MAX);
    slot->data = malloc(WH_MAX((size_t)st.st_size, (size_t)1));
    if (slot->data == NULL)
        return wh_fail(err, -ENOMEM, "keep %lld bytes", (long long)st.st_size);
    ssize_t got = pread(fd, slot->data, (size_t)st.st_size, 0);
    n = got < 0 ? 0 : (size_t)got;
    if (got != st.st_size)
        return wh_fail(err, got < 0 ? -errno : -EIO, "read sealed memory");
    slot->kind = WH_SLOT_BYTES;
    slot->n = (uint32_t)n;
    return 0;
}

/* "7:a:/path" */
static int take_path(wh_rest *rest, const wh_field *f, wh_err *err)
{
    wh_str text = f->value, index;
    uint64_t i;
    if (!wh_str_split(&text, ':', &index) || text.n < 4 || text.p[1] != ':' || text.p[2] != '/')
        return wh_fail(err, -EINVAL, "'open' is INDEX:FLAG:PATH.");
    auto_free char *number = wh_xstrndup(index.p, index.n);
    char flag = text.p[0];
    if (wh_parse_u64(number, rest->n_slots - 1, &i) < 0 || strchr("atd", flag) == NULL || flag == '\0' ||
        rest->slots[i].kind != 0 || text.n > 4096 || memchr(text.p, '\0', text.n) != NULL)
        return wh_fail(err, -EINVAL, "'open' %.32s: no such descriptor, flag or path.", number);
    rest->slots[i].kind = WH_SLOT_PATH;
    rest->slots[i].fd = (unsigned char)flag;
    rest->slots[i].data = wh_xstrndup(text.p + 2, text.n - 2);
    return 0;
}

static int take_slot(wh_rest *rest, wh_rest_slot *slot, int *fd, wh_err *err)
{
    int seals = slot->kind == 0 ? fcntl(*fd, F_GET_SEALS) : -1;
    if (slot->kind != 0)
        return 0;
    if (seals >= 0 && (seals & F_SEAL_WRITE) != 0)
        return take_bytes(slot, *fd, err);
    int shared = shared_ref(rest->shared, *fd, false);
    slot->kind = shared >= 0 ? WH_SLOT_SHARED : WH_SLOT_FD;
    slot->fd = shared >= 0 ? shared : *fd;
    *fd = -1;
    return 0;
}

int wh_rest_new(wh_shared **shared, const void *message, size_t n, int *fds, size_t n_fds, wh_rest **ret,
                wh_err *err)
{
    wh_rest *rest = wh_xnew(wh_rest);
    wh_record_iter it = wh_record_begin(message, n);
    auto_buf wh_buf kept;
    wh_field f;
    int rc = 0;
    rest->shared = shared;
    rest->slots = wh_xcalloc(n_fds, sizeof(*rest->slots));
    rest->n_slots = n_fds;
    wh_buf_init(&kept, WH_KEEPER_MESSAGE_MAX);
    while (rc == 0 && wh_record_next(&it, &f)) {
        if (wh_field_is(&f, "open")) {
            rc = take_path(rest, &f, err);
        } else if (!wh_field_is(&f, "op") && !wh_field_is(&f, "seq")) {
            auto_free char *key = wh_xstrndup(f.key.p, f.key.n);
            wh_record_put(&kept, key, f.value.p, f.value.n);
        }
    }
    for (size_t i = 0; rc == 0 && i < n_fds; i++)
        rc = take_slot(rest, &rest->slots[i], &fds[i], err);
    if (rc == 0 && kept.failed)
        rc = wh_fail(err, -ENOMEM, "keep a start");
    if (rc < 0) {
        wh_rest_free(rest);
        return rc;
    }
    rest->n = kept.len;
    rest->message = realloc(kept.p, kept.len + 1); /* 10,000 of them wait: no spare room */
    wh_assert(rest->message != NULL);
    kept.p = NULL;
    *ret = rest;
    return 0;
}

void wh_rest_free(wh_rest *rest)
{
    if (rest == NULL)
        return;
    for (size_t i = 0; i < rest->n_slots; i++) {
        wh_rest_slot *slot = &rest->slots[i];
        if (slot->kind == WH_SLOT_FD)
            close(slot->fd);
        else if (slot->kind == WH_SLOT_SHARED)
            shared_unref(rest->shared, slot->fd);
        free(slot->data);
    }
    free(rest->slots);
    free(rest->message);
    free(rest);
}

/* ------------------------------------------------------------------ opened for a start */

static int open_bytes(const wh_rest_slot *slot)
{
    auto_close int fd = memfd_create("wherry-kept", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    ssize_t n = pwrite(fd, slot->data, slot->n, 0);
    if (n < 0 || (uint32_t)n != slot->n)
        return n < 0 ? -errno : -EIO;
    return fcntl(fd, F_ADD_SEALS, SEALS) < 0 ? -errno : WH_TAKE_FD(fd);
}

static int open_path(const wh_rest_slot *slot)
{
    int flags = slot->fd == 'a'   ? O_WRONLY | O_CREAT | O_APPEND
                : slot->fd == 't' ? O_RDWR | O_CREAT | O_TRUNC
                                  : O_PATH | O_DIRECTORY;
    int fd = open(slot->data, flags | O_CLOEXEC | O_NOFOLLOW, slot->fd == 'a' ? 0640 : 0600);
    return fd < 0 ? -errno : fd;
}

int wh_rest_open(const wh_rest *rest, int fds[WH_KEEPER_FDS_MAX], int opened[WH_KEEPER_FDS_MAX],
                 size_t *ret_n_opened, wh_err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < rest->n_slots; i++) {
        const wh_rest_slot *slot = &rest->slots[i];
        bool fresh = slot->kind == WH_SLOT_BYTES || slot->kind == WH_SLOT_PATH;
        fds[i] = slot->kind == WH_SLOT_BYTES  ? open_bytes(slot)
                 : slot->kind == WH_SLOT_PATH ? open_path(slot)
                                              : slot->fd;
        if (fds[i] < 0) {
            while (n > 0)
                close(opened[--n]);
            return wh_fail(err, fds[i], "open '%.200s' again",
                           slot->kind == WH_SLOT_PATH ? slot->data : "the specification");
        }
        if (fresh)
            opened[n++] = fds[i];
    }
    *ret_n_opened = n;
    return 0;
}

/* ------------------------------------------------------------------ control groups */

void wh_rest_groups_remove(const wh_rest *rest)
{
    wh_record_iter it = wh_record_begin(rest->message, rest->n);
    auto_strv wh_strv dirs = NULL;
    wh_field f;
    while (wh_record_next(&it, &f)) {
        char *dir = wh_field_is(&f, "group_dir") ? wh_field_strdup(&f) : NULL;
        if (dir != NULL)
            wh_strv_push_take(&dirs, dir);
    }
    for (size_t i = wh_strv_len(dirs); dirs != NULL && i > 0; i--)
        (void)rmdir(dirs[i - 1]); /* one that another container of the pod uses stays */
}

static int write_setting(const wh_field *f, wh_err *err)
{
    auto_free char *path = wh_field_strdup(f);
    char *value = path == NULL ? NULL : strchr(path, '\n');
    if (value == NULL)
        return wh_fail(err, -EINVAL, "'group_set' is FILE, a line feed, VALUE.");
    *value++ = '\0';
    auto_close int fd = open(path, O_WRONLY | O_CLOEXEC);
    int rc = fd < 0 ? -errno : wh_write_all(fd, value, strlen(value));
    return rc < 0 ? wh_fail(err, rc, "write '%s' to '%s'", value, path) : 0;
}

int wh_rest_groups_make(const wh_rest *rest, wh_err *err)
{
    wh_record_iter it = wh_record_begin(rest->message, rest->n), settings = it;
    wh_field f;
    int rc = 0;
    while (rc == 0 && wh_record_next(&it, &f)) {
        auto_free char *dir = wh_field_is(&f, "group_dir") ? wh_field_strdup(&f) : NULL;
        if (dir != NULL && mkdir(dir, 0755) < 0 && errno != EEXIST)
            rc = wh_fail(err, -errno, "make control group '%s'", dir);
    }
    while (rc == 0 && wh_record_next(&settings, &f)) {
        if (wh_field_is(&f, "group_set"))
            rc = write_setting(&f, err);
    }
    return rc;
}

/* ------------------------------------------------------------------ over an upgrade */

static char *copy_bytes(wh_str bytes)
{
    char *copy = wh_xcalloc(1, bytes.n + 1);
    if (bytes.n > 0)
        memcpy(copy, bytes.p, bytes.n);
    return copy;
}

void wh_rest_put(const wh_rest *rest, wh_buf *out)
{
    auto_buf wh_buf b;
    wh_buf_init(&b, out->max);
    wh_record_put(&b, "message", rest->message, rest->n);
    for (size_t i = 0; i < rest->n_slots; i++) {
        const wh_rest_slot *slot = &rest->slots[i];
        wh_record_put_i64(&b, "slot", slot->kind);
        wh_record_put_i64(&b, "fd", slot->fd);
        if (slot->data != NULL)
            wh_record_put(&b, "data", slot->data, slot->kind == WH_SLOT_BYTES ? slot->n : strlen(slot->data));
    }
    wh_record_put(out, "rest", b.p, b.len);
    out->failed |= b.failed;
}

static int take_field(wh_rest *rest, const wh_field *f, wh_err *err)
{
    wh_rest_slot *slot = rest->n_slots == 0 ? NULL : &rest->slots[rest->n_slots - 1];
    int64_t v = 0;
    int rc = 0;
    if (wh_field_is(f, "message")) {
        free(rest->message);
        rest->message = copy_bytes(f->value);
        rest->n = f->value.n;
    } else if (wh_field_is(f, "slot")) {
        rc = rest->n_slots >= WH_KEEPER_FDS_MAX ? -EBADMSG
                                                : wh_field_i64(f, WH_SLOT_FD, WH_SLOT_PATH, &v, err);
        if (rc == 0)
            rest->slots[rest->n_slots++] = (wh_rest_slot){.kind = (unsigned)v};
    } else if (slot != NULL && wh_field_is(f, "fd")) {
        rc = wh_field_i64(f, 0, INT32_MAX, &v, err);
        slot->fd = (int)v;
        if (rc == 0 && slot->kind == WH_SLOT_SHARED && shared_ref(rest->shared, slot->fd, true) < 0)
            slot->kind = WH_SLOT_FD;
    } else if (slot != NULL && wh_field_is(f, "data")) {
        free(slot->data);
        slot->data = copy_bytes(f->value);
        slot->n = (uint32_t)f->value.n;
    }
    return rc < 0 ? wh_fail(err, rc, "'%.*s' of a dormant container", WH_STR_ARG(f->key)) : 0;
}

int wh_rest_take(wh_shared **shared, const void *data, size_t n, wh_rest **ret, wh_err *err)
{
    wh_rest *rest = wh_xnew(wh_rest);
    wh_field f;
    int rc = wh_record_check(data, n, err);
    rest->shared = shared;
    rest->slots = wh_xcalloc(WH_KEEPER_FDS_MAX, sizeof(*rest->slots));
    wh_record_iter it = wh_record_begin(data, rc < 0 ? 0 : n);
    while (rc == 0 && wh_record_next(&it, &f))
        rc = take_field(rest, &f, err);
    if (rc == 0 && rest->message == NULL)
        rc = wh_fail(err, -EBADMSG, "a dormant container has no message.");
    if (rc < 0) {
        wh_rest_free(rest);
        return rc;
    }
    wh_rest_slot *fit = realloc(rest->slots, WH_MAX(rest->n_slots, (size_t)1) * sizeof(*fit));
    rest->slots = fit != NULL ? fit : rest->slots;
    *ret = rest;
    return 0;
}

void wh_rest_each_fd(const wh_rest *rest, void (*fn)(int fd, bool on), bool on)
{
    for (size_t i = 0; i < rest->n_slots; i++) {
        if (rest->slots[i].kind == WH_SLOT_FD || rest->slots[i].kind == WH_SLOT_SHARED)
            fn(rest->slots[i].fd, on);
    }
}
