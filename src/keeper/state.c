/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/state.h"

#include "base/file.h"
#include "base/limits.h"
#include "base/record.h"
#include "keeper/rest.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#define PID_FS_MAGIC_ 0x50494446 /* linux/magic.h of 6.9 */
#define FILE_BYTES_MAX (16UL * 1024)

bool wh_kept_id_ok(const char *id)
{
    size_t n = strlen(id);
    if (n == 0 || n > WH_KEEPER_ID_MAX || id[0] == '.')
        return false;
    return strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

void wh_kept_free(wh_kept *kept)
{
    if (kept == NULL)
        return;
    wh_io_stop(&kept->pid_io);
    wh_io_stop(&kept->control_io);
    wh_timer_stop(&kept->reap_timer);
    if (kept->pidfd >= 0)
        close(kept->pidfd);
    if (kept->control >= 0)
        close(kept->control);
    for (size_t i = 0; i < kept->n_sockets; i++) {
        if (kept->listen_io != NULL)
            wh_io_stop(&kept->listen_io[i]);
        kept->sockets[i]->users--;
    }
    free(kept->sockets);
    free(kept->listen_io);
    wh_rest_free(kept->rest);
    free(kept->id);
    free(kept->note);
    free(kept);
}

/* The boot, since both names of a process begin anew with it. */
static const char *boot_id(void)
{
    static char id[17];
    auto_free char *text = NULL;
    if (id[0] == '\0' &&
        wh_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &text, NULL, NULL) == 0)
        (void)snprintf(id, sizeof(id), "%.8s", text);
    return id;
}

/* Field 22 of /proc/PID/stat, in clock ticks since boot. */
static int start_ticks(pid_t pid, unsigned long long *ret)
{
    char path[32];
    auto_free char *text = NULL;
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    int rc = wh_read_file(AT_FDCWD, path, 4096, &text, NULL, NULL);
    const char *p = rc < 0 ? NULL : strrchr(text, ')'); /* the name before it may hold anything */
    for (int field = 2; p != NULL && field < 22; field++)
        p = strchr(p + 1, ' ');
    if (p == NULL)
        return rc < 0 ? rc : -EBADMSG;
    *ret = strtoull(p + 1, NULL, 10);
    return 0;
}

int wh_kept_identify(int pidfd, pid_t pid, char *out, size_t size)
{
    struct statfs fs;
    struct stat st;
    if (fstatfs(pidfd, &fs) == 0 && fs.f_type == PID_FS_MAGIC_ && fstat(pidfd, &st) == 0) {
        (void)snprintf(out, size, "%s:pidfs:%llu", boot_id(), (unsigned long long)st.st_ino);
        return 0;
    }
    unsigned long long ticks;
    int rc = start_ticks(pid, &ticks);
    if (rc == 0)
        (void)snprintf(out, size, "%s:start:%llu", boot_id(), ticks);
    return rc;
}

void wh_kept_put(const wh_kept *kept, wh_buf *out)
{
    wh_record_put_str(out, "id", kept->id);
    wh_record_put_i64(out, "pid", kept->pid);
    wh_record_put_i64(out, "exited", kept->exited);
    wh_record_put_i64(out, "started", kept->started);
    if (kept->running > 0)
        wh_record_put_i64(out, "running", kept->running);
    wh_record_put_str(out, "note", kept->note);
    if (kept->rest != NULL || kept->dormant) {
        wh_record_put_i64(out, "dormant", kept->dormant);
        wh_record_put_i64(out, "wakes", kept->wakes);
    }
    if (kept->exited) {
        wh_record_put_i64(out, "exit_code", kept->exit_code);
        wh_record_put_i64(out, "signal", kept->signal);
        wh_record_put_i64(out, "finished", kept->finished);
    }
}

/* Appends in one write: a reader sees the fields of all earlier ones whole. */
static int append(int dirfd, const char *id, int flags, const wh_buf *b)
{
    if (b->failed)
        return -ENOBUFS;
    auto_close int fd = openat(dirfd, id, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
    return fd < 0 ? -errno : wh_write_all(fd, b->p, b->len);
}

int wh_kept_save(int dirfd, const wh_kept *kept, wh_err *err)
{
    auto_buf wh_buf b;
    wh_buf_init(&b, FILE_BYTES_MAX);
    wh_record_put_str(&b, "identity", kept->identity);
    wh_record_put_i64(&b, "control_in", kept->control_in);
    wh_record_put_i64(&b, "sockets_at", kept->sockets_at);
    for (size_t i = 0; i < kept->n_sockets; i++)
        wh_record_put_str(&b, "socket", kept->sockets[i]->name);
    wh_kept_put(kept, &b);
    char fresh[WH_KEEPER_ID_MAX + 2];
    (void)snprintf(fresh, sizeof(fresh), ".%s", kept->id);
    int rc = append(dirfd, kept->wakes > 0 ? fresh : kept->id, O_CREAT | O_TRUNC, &b);
    if (rc == 0 && kept->wakes > 0 && renameat(dirfd, fresh, dirfd, kept->id) < 0)
        rc = -errno;
    return rc < 0 ? wh_fail(err, rc, "write the state of container '%s'", kept->id) : 0;
}

int wh_kept_save_running(int dirfd, const wh_kept *kept)
{
    auto_buf wh_buf b;
    wh_buf_init(&b, FILE_BYTES_MAX);
    wh_record_put_i64(&b, "running", kept->running);
    wh_record_put_str(&b, "note", kept->note);
    return append(dirfd, kept->id, 0, &b);
}

int wh_kept_save_end(int dirfd, const wh_kept *kept)
{
    auto_buf wh_buf b;
    wh_buf_init(&b, FILE_BYTES_MAX);
    wh_record_put_i64(&b, "exit_code", kept->exit_code);
    wh_record_put_i64(&b, "signal", kept->signal);
    wh_record_put_i64(&b, "finished", kept->finished);
    wh_record_put_i64(&b, "exited", 1);
    return append(dirfd, kept->id, 0, &b);
}

void wh_kept_forget(int dirfd, const char *id)
{
    (void)unlinkat(dirfd, id, 0);
}

static int take_text(const wh_field *f, wh_kept *kept, wh_err *err)
{
    auto_free char *text = wh_field_strdup(f);
    if (text == NULL)
        return wh_fail(err, -EBADMSG, "field '%.*s' holds a NUL byte.", WH_STR_ARG(f->key));
    if (wh_field_is(f, "identity")) {
        if (strlen(text) >= sizeof(kept->identity))
            return wh_fail(err, -EBADMSG, "'identity' is too long.");
        memcpy(kept->identity, text, strlen(text) + 1);
        return 0;
    }
    char **to = wh_field_is(f, "id") ? &kept->id : &kept->note;
    free(*to);
    *to = WH_TAKE(text);
    return 0;
}

static int take_number(const wh_field *f, wh_kept *kept, wh_err *err)
{
    const struct {
        const char *key;
        int64_t min, max;
        int *to;
        wh_time *to_time;
    } numbers[] = {
        {"pid", 0, INT32_MAX, &kept->pid, NULL},           {"control_in", -1, 65535, &kept->control_in, NULL},
        {"exit_code", -1, 255, &kept->exit_code, NULL},    {"signal", 0, 64, &kept->signal, NULL},
        {"pidfd", -1, INT32_MAX, &kept->pidfd, NULL},      {"control", -1, INT32_MAX, &kept->control, NULL},
        {"started", 0, INT64_MAX, NULL, &kept->started},   {"running", 0, INT64_MAX, NULL, &kept->running},
        {"finished", 0, INT64_MAX, NULL, &kept->finished}, {"sockets_at", 0, 65535, &kept->sockets_at, NULL},
    };
    int64_t v;
    for (size_t i = 0; i < WH_ARRAY_LEN(numbers); i++) {
        if (!wh_field_is(f, numbers[i].key))
            continue;
        int rc = wh_field_i64(f, numbers[i].min, numbers[i].max, &v, err);
        if (rc < 0)
            return rc;
        if (numbers[i].to != NULL)
            *numbers[i].to = (int)v;
        else
            *numbers[i].to_time = v;
        return 0;
    }
    const struct {
        const char *key;
        bool *to;
    } flags[] = {{"exited", &kept->exited},
                 {"child", &kept->child},
                 {"dormant", &kept->dormant},
                 {"idle_said", &kept->idle_said},
                 {"ending", &kept->ending}};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < WH_ARRAY_LEN(flags); i++) {
        if (wh_field_is(f, flags[i].key) && (rc = wh_field_i64(f, 0, 1, &v, err)) == 0)
            *flags[i].to = v != 0;
    }
    if (wh_field_is(f, "wakes") && (rc = wh_field_i64(f, 0, UINT32_MAX, &v, err)) == 0)
        kept->wakes = (unsigned)v;
    return rc; /* others are a newer keeper's: not ours to refuse */
}

void wh_kept_use(wh_kept *kept, wh_held *held, const void *data, size_t n)
{
    wh_record_iter it = wh_record_begin(data, n);
    wh_field f;
    kept->sockets = wh_xcalloc(WH_KEEPER_SOCKETS_MAX, sizeof(*kept->sockets));
    while (kept->n_sockets < WH_KEEPER_SOCKETS_MAX && wh_record_next(&it, &f)) {
        auto_free char *name = wh_field_is(&f, "socket") ? wh_field_strdup(&f) : NULL;
        wh_held *h = name == NULL ? NULL : wh_held_find(held, name);
        if (h == NULL)
            continue;
        h->users++;
        kept->sockets[kept->n_sockets++] = h;
    }
}

int wh_kept_parse(const void *data, size_t n, wh_kept *kept, wh_err *err)
{
    wh_record_iter it = wh_record_begin(data, n);
    wh_field f;
    int rc = 0;
    while (rc == 0 && wh_record_next(&it, &f)) {
        if (wh_field_is(&f, "id") || wh_field_is(&f, "identity") || wh_field_is(&f, "note"))
            rc = take_text(&f, kept, err);
        else
            rc = take_number(&f, kept, err);
    }
    if (rc < 0)
        return rc;
    if (kept->id == NULL || !wh_kept_id_ok(kept->id) || (kept->pid <= 0 && !kept->dormant && !kept->exited))
        return wh_fail(err, -EBADMSG, "'id' and 'pid' are required.");
    return 0;
}

/* The same process, or none. Its control socket: our end died with the last keeper, but the runner holds a
 * spare of it. */
static void take_hold(wh_kept *kept)
{
    char identity[sizeof(kept->identity)] = "";
    auto_close int pidfd = kept->dormant ? -1 : (int)syscall(SYS_pidfd_open, kept->pid, 0);
    if (pidfd >= 0 && wh_kept_identify(pidfd, kept->pid, identity, sizeof(identity)) == 0 &&
        wh_streq(identity, kept->identity)) {
        kept->pidfd = WH_TAKE_FD(pidfd);
        if (kept->control_in >= 0)
            kept->control = (int)syscall(SYS_pidfd_getfd, kept->pidfd, kept->control_in, 0);
        return;
    }
    kept->exited = true;
    kept->exit_code = -1;
    kept->signal = 0;
    kept->finished = wh_real_now();
}

/* The sockets that it uses died with the last keeper, unless the runner has them. */
static void take_sockets(wh_kept *kept, wh_held **held, const char *data, size_t n)
{
    wh_record_iter it = wh_record_begin(data, n);
    wh_field f;
    int number = kept->sockets_at;
    while (kept->pidfd >= 0 && wh_record_next(&it, &f)) {
        if (!wh_field_is(&f, "socket"))
            continue;
        auto_free char *name = wh_field_strdup(&f);
        auto_close int fd = (int)syscall(SYS_pidfd_getfd, kept->pidfd, number++, 0);
        if (fd >= 0 && name != NULL && wh_held_add(held, name, fd, NULL) == 0)
            (void)WH_TAKE_FD(fd);
    }
    wh_kept_use(kept, *held, data, n);
}

int wh_kept_load(int dirfd, const char *id, wh_held **held, wh_kept **ret, wh_err *err)
{
    auto_free char *data = NULL;
    size_t n;
    int rc = wh_read_file(dirfd, id, FILE_BYTES_MAX, &data, &n, err);
    if (rc < 0)
        return rc;
    wh_kept *kept = wh_xnew(wh_kept);
    kept->pidfd = kept->control = kept->control_in = kept->exit_code = -1;
    rc = wh_kept_parse(data, n, kept, err);
    if (rc == 0 && !wh_streq(kept->id, id))
        rc = wh_fail(err, -EBADMSG, "it names container '%s'.", kept->id);
    kept->pidfd = kept->control = -1; /* numbers of another process, if a file held any */
    if (rc < 0) {
        wh_kept_free(kept);
        return wh_wrap(err, "state of container '%s'", id);
    }
    if (!kept->exited) {
        take_hold(kept);
        if (kept->exited)
            (void)wh_kept_save_end(dirfd, kept);
        take_sockets(kept, held, data, n);
    }
    kept->dormant = false; /* its sockets and what it was made of are gone */
    *ret = kept;
    return 0;
}
