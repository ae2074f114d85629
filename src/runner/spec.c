/* SPDX-License-Identifier: Apache-2.0 */
/* The runner's spec as a record. A directory is a record inside it. */
#include "runner/spec.h"

#include "base/limits.h"
#include "base/record.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>

#define FD_MAX 65535

static int put_dirs(const wh_runspec *spec, wh_buf *out, wh_err *err)
{
    if (spec->n_dirs > WH_RUNSPEC_DIRS_MAX)
        return wh_fail(err, -E2BIG, "%zu directories: a container takes at most %d.", spec->n_dirs,
                       WH_RUNSPEC_DIRS_MAX);
    for (size_t i = 0; i < spec->n_dirs; i++) {
        auto_buf wh_buf dir;
        wh_buf_init(&dir, WH_RECORD_BYTES_MAX);
        wh_record_put_str(&dir, "path", spec->dirs[i].guest_path);
        wh_record_put_i64(&dir, "fd", spec->dirs[i].fd);
        wh_record_put_i64(&dir, "read_only", spec->dirs[i].read_only);
        if (dir.failed)
            return wh_fail(err, -E2BIG, "the path of directory %zu is too long.", i);
        wh_record_put(out, "dir", dir.p, dir.len);
    }
    return 0;
}

static int put_strings(wh_buf *out, const char *key, char *const *v, wh_err *err)
{
    if (wh_strv_len(v) > WH_RUNSPEC_ARGS_MAX)
        return wh_fail(err, -E2BIG, "more than %d values of '%s'.", WH_RUNSPEC_ARGS_MAX, key);
    for (; v != NULL && *v != NULL; v++)
        wh_record_put_str(out, key, *v);
    return 0;
}

const char *wh_runspec_mode_name(unsigned mode)
{
    static const char *const names[] = {"command", "wagi", "stream", "http"};
    return mode < WH_ARRAY_LEN(names) ? names[mode] : NULL;
}

static void put_unless_0(wh_buf *out, const char *key, int64_t value)
{
    if (value != 0)
        wh_record_put_i64(out, key, value);
}

static void put_serve(const wh_runspec *spec, wh_buf *out)
{
    const wh_runspec_serve *serve = &spec->serve;
    put_unless_0(out, "netd_fd", spec->netd_fd);
    put_unless_0(out, "ca_fd", spec->ca_fd);
    put_unless_0(out, "serve", serve->mode);
    put_unless_0(out, "at_once", serve->at_once);
    put_unless_0(out, "queue", serve->queue);
    put_unless_0(out, "reuse", serve->reuse);
    put_unless_0(out, "queue_time", serve->queue_time);
    put_unless_0(out, "request_time", serve->time);
    put_unless_0(out, "idle", serve->idle);
    put_unless_0(out, "body_bytes_max", (int64_t)serve->body_bytes_max);
    put_unless_0(out, "tls_cert_fd", serve->tls_cert_fd);
    put_unless_0(out, "tls_key_fd", serve->tls_key_fd);
    put_unless_0(out, "access_log", serve->access_log);
}

int wh_runspec_write(const wh_runspec *spec, wh_buf *out, wh_err *err)
{
    wh_record_put_i64(out, "version", WH_RUNSPEC_VERSION);
    wh_record_put_str(out, "id", spec->id);
    wh_record_put_str(out, "name", spec->name);
    wh_record_put_i64(out, "profile", spec->profile);
    wh_record_put_i64(out, "code_fd", spec->code_fd);
    wh_record_put_i64(out, "log_fd", spec->log_fd);
    wh_record_put_i64(out, "control_fd", spec->control_fd);
    wh_record_put_i64(out, "end_fd", spec->end_fd);
    wh_record_put_i64(out, "stop_signal", spec->stop_signal);
    wh_record_put_i64(out, "trace", spec->trace);
    wh_record_put_i64(out, "landlock_optional", spec->landlock_optional);
    wh_record_put_i64(out, "memory_bytes_max", (int64_t)spec->memory_bytes_max);
    wh_record_put_i64(out, "stack_bytes_max", (int64_t)spec->stack_bytes_max);
    wh_record_put_i64(out, "deadline", spec->deadline);
    wh_record_put_str(out, "invoke", spec->invoke);
    int rc = put_strings(out, "arg", spec->args, err);
    if (rc == 0)
        rc = put_strings(out, "env", spec->env, err);
    if (rc == 0)
        rc = put_dirs(spec, out, err);
    if (rc < 0)
        return rc;
    if (spec->n_listen > WH_KEEPER_FDS_MAX)
        return wh_fail(err, -E2BIG, "%zu listening sockets: at most %d are allowed.", spec->n_listen,
                       WH_KEEPER_FDS_MAX);
    for (size_t i = 0; i < spec->n_listen; i++)
        wh_record_put_i64(out, "listen", spec->listen_fds[i]);
    put_serve(spec, out);
    if (out->failed || out->len > WH_RECORD_BYTES_MAX)
        return wh_fail(err, -E2BIG, "arguments and environment take more than %d bytes.",
                       WH_RECORD_BYTES_MAX);
    return 0;
}

int wh_runspec_memfd(const wh_runspec *spec, wh_err *err)
{
    auto_buf wh_buf out;
    wh_buf_init(&out, WH_RECORD_BYTES_MAX);
    int rc = wh_runspec_write(spec, &out, err);
    if (rc < 0)
        return rc;
    auto_close int fd = memfd_create("wherry-spec", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return wh_fail(err, -errno, "make the spec of container '%s'", spec->id);
    ssize_t n = pwrite(fd, out.p, out.len, 0);
    if (n < 0 || (size_t)n != out.len)
        return wh_fail(err, n < 0 ? -errno : -EIO, "write the spec of container '%s'", spec->id);
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
        return wh_fail(err, -errno, "seal the spec of container '%s'", spec->id);
    return WH_TAKE_FD(fd);
}

void wh_runspec_free(wh_runspec *spec)
{
    if (spec == NULL)
        return;
    for (size_t i = 0; i < spec->n_dirs; i++)
        free(spec->dirs[i].guest_path);
    free(spec->dirs);
    free(spec->listen_fds);
    free(spec->id);
    free(spec->name);
    free(spec->invoke);
    wh_strv_free(spec->args);
    wh_strv_free(spec->env);
    free(spec);
}

/* Scalars of the record, by name. */
typedef struct number {
    const char *key;
    int64_t min, max;
    enum { TO_INT, TO_UNSIGNED, TO_U64, TO_BOOL, TO_TIME } type;
    size_t offset;
} number;

static const number numbers[] = {
    {"profile", 0, 255, TO_UNSIGNED, offsetof(wh_runspec, profile)},
    {"code_fd", 0, FD_MAX, TO_INT, offsetof(wh_runspec, code_fd)},
    {"log_fd", -1, FD_MAX, TO_INT, offsetof(wh_runspec, log_fd)},
    {"control_fd", -1, FD_MAX, TO_INT, offsetof(wh_runspec, control_fd)},
    {"end_fd", -1, FD_MAX, TO_INT, offsetof(wh_runspec, end_fd)},
    {"stop_signal", 1, 64, TO_INT, offsetof(wh_runspec, stop_signal)},
    {"trace", 0, 1, TO_BOOL, offsetof(wh_runspec, trace)},
    {"landlock_optional", 0, 1, TO_BOOL, offsetof(wh_runspec, landlock_optional)},
    {"memory_bytes_max", 0, INT64_MAX, TO_U64, offsetof(wh_runspec, memory_bytes_max)},
    {"stack_bytes_max", 0, WH_RUNSPEC_STACK_MAX, TO_U64, offsetof(wh_runspec, stack_bytes_max)},
    {"deadline", 0, INT64_MAX, TO_TIME, offsetof(wh_runspec, deadline)},
    {"netd_fd", 0, FD_MAX, TO_INT, offsetof(wh_runspec, netd_fd)},
    {"ca_fd", 0, FD_MAX, TO_INT, offsetof(wh_runspec, ca_fd)},
    {"serve", 0, WH_RUNSPEC_HTTP, TO_UNSIGNED, offsetof(wh_runspec, serve.mode)},
    {"at_once", 0, WH_RUNSPEC_AT_ONCE_MAX, TO_UNSIGNED, offsetof(wh_runspec, serve.at_once)},
    {"queue", 0, WH_RUNSPEC_QUEUE_MAX, TO_UNSIGNED, offsetof(wh_runspec, serve.queue)},
    {"reuse", 0, INT32_MAX, TO_UNSIGNED, offsetof(wh_runspec, serve.reuse)},
    {"queue_time", 0, INT64_MAX, TO_TIME, offsetof(wh_runspec, serve.queue_time)},
    {"request_time", 0, INT64_MAX, TO_TIME, offsetof(wh_runspec, serve.time)},
    {"idle", 0, INT64_MAX, TO_TIME, offsetof(wh_runspec, serve.idle)},
    {"body_bytes_max", 0, INT64_MAX, TO_U64, offsetof(wh_runspec, serve.body_bytes_max)},
    {"tls_cert_fd", 0, FD_MAX, TO_INT, offsetof(wh_runspec, serve.tls_cert_fd)},
    {"tls_key_fd", 0, FD_MAX, TO_INT, offsetof(wh_runspec, serve.tls_key_fd)},
    {"access_log", 0, 1, TO_BOOL, offsetof(wh_runspec, serve.access_log)},
};

static int take_number(wh_runspec *spec, const wh_field *f, bool *ret_known, wh_err *err)
{
    for (size_t i = 0; i < WH_ARRAY_LEN(numbers); i++) {
        const number *n = &numbers[i];
        int64_t v;
        if (!wh_field_is(f, n->key))
            continue;
        int rc = wh_field_i64(f, n->min, n->max, &v, err);
        if (rc < 0)
            return rc;
        *ret_known = true;
        void *at = (char *)spec + n->offset;
        switch (n->type) {
        case TO_INT:
        case TO_UNSIGNED:
            *(int *)at = (int)v;
            break;
        case TO_BOOL:
            *(bool *)at = v != 0;
            break;
        case TO_U64:
        case TO_TIME:
            *(int64_t *)at = v;
            break;
        }
        return 0;
    }
    return 0;
}

static int take_string(const wh_field *f, char **ret, wh_err *err)
{
    char *s = wh_field_strdup(f);
    if (s == NULL)
        return wh_fail(err, -EBADMSG, "field '%.*s' holds a NUL byte.", WH_STR_ARG(f->key));
    free(*ret);
    *ret = s;
    return 0;
}

/* Grows by doubling: wh_strv_push would look for the end each time, and the count is the sender's. */
typedef struct strings {
    char **v;
    size_t n, cap;
} strings;

static int push_string(strings *to, const wh_field *f, wh_err *err)
{
    auto_free char *s = NULL;
    int rc = take_string(f, &s, err);
    if (rc < 0)
        return rc;
    if (to->n >= WH_RUNSPEC_ARGS_MAX)
        return wh_fail(err, -EBADMSG, "more than %d values of '%.*s'.", WH_RUNSPEC_ARGS_MAX,
                       WH_STR_ARG(f->key));
    if (to->n + 1 >= to->cap) {
        size_t cap = WH_MAX((size_t)16, to->cap * 2);
        char **grown = reallocarray(to->v, cap, sizeof(*grown));
        if (grown == NULL)
            return wh_fail(err, -ENOMEM, "read arguments and environment");
        to->v = grown;
        to->cap = cap;
    }
    to->v[to->n++] = WH_TAKE(s);
    to->v[to->n] = NULL;
    return 0;
}

static int push_dir(wh_runspec *spec, const wh_field *f, wh_err *err)
{
    auto_free char *path = NULL;
    int64_t fd = -1, read_only = 0;
    if (spec->n_dirs >= WH_RUNSPEC_DIRS_MAX)
        return wh_fail(err, -EBADMSG, "more than %d directories.", WH_RUNSPEC_DIRS_MAX);
    int rc = wh_record_get_str(f->value.p, f->value.n, "path", &path, err);
    if (rc == 0)
        rc = wh_record_get_i64(f->value.p, f->value.n, "fd", 0, FD_MAX, &fd, err);
    if (rc == 0)
        rc = wh_record_get_i64(f->value.p, f->value.n, "read_only", 0, 1, &read_only, err);
    if (rc < 0)
        return wh_fail(err, -EBADMSG, "directory %zu: 'path', 'fd' and 'read_only' are required.",
                       spec->n_dirs);
    if (path[0] != '/' && !wh_streq(path, "."))
        return wh_fail(err, -EBADMSG, "directory '%s' must be an absolute path.", path);
    if (spec->dirs == NULL)
        spec->dirs = wh_xcalloc(WH_RUNSPEC_DIRS_MAX, sizeof(*spec->dirs));
    spec->dirs[spec->n_dirs++] = (wh_runspec_dir){WH_TAKE(path), (int)fd, read_only != 0};
    return 0;
}

static int push_listener(wh_runspec *spec, const wh_field *f, wh_err *err)
{
    int64_t fd;
    int rc = wh_field_i64(f, 0, FD_MAX, &fd, err);
    if (rc < 0)
        return rc;
    if (spec->n_listen >= WH_KEEPER_FDS_MAX)
        return wh_fail(err, -EBADMSG, "more than %d listening sockets.", WH_KEEPER_FDS_MAX);
    if (spec->listen_fds == NULL)
        spec->listen_fds = wh_xcalloc(WH_KEEPER_FDS_MAX, sizeof(*spec->listen_fds));
    spec->listen_fds[spec->n_listen++] = (int)fd;
    return 0;
}

typedef struct reading {
    wh_runspec *spec;
    strings args, env;
} reading;

static int take_field(reading *r, const wh_field *f, wh_err *err)
{
    bool known = false;
    if (wh_field_is(f, "arg"))
        return push_string(&r->args, f, err);
    if (wh_field_is(f, "env"))
        return push_string(&r->env, f, err);
    if (wh_field_is(f, "dir"))
        return push_dir(r->spec, f, err);
    if (wh_field_is(f, "listen"))
        return push_listener(r->spec, f, err);
    if (wh_field_is(f, "id"))
        return take_string(f, &r->spec->id, err);
    if (wh_field_is(f, "name"))
        return take_string(f, &r->spec->name, err);
    if (wh_field_is(f, "invoke"))
        return take_string(f, &r->spec->invoke, err);
    if (wh_field_is(f, "version"))
        return 0;
    int rc = take_number(r->spec, f, &known, err);
    /* A newer agent may ask for something that matters: not knowing it is not the same as doing it. */
    if (rc == 0 && !known)
        return wh_fail(err, -EBADMSG, "field '%.*s' is not known to this runner (" WH_VERSION ").",
                       WH_STR_ARG(f->key));
    return rc;
}

int wh_runspec_read(const void *data, size_t n, wh_runspec **ret, wh_err *err)
{
    int64_t version;
    int rc = wh_record_check(data, n, err);
    if (rc == 0)
        rc = wh_record_get_i64(data, n, "version", WH_RUNSPEC_VERSION, WH_RUNSPEC_VERSION, &version, err);
    if (rc < 0)
        return wh_wrap(err, "spec");
    auto_runspec wh_runspec *spec = wh_xnew(wh_runspec);
    spec->code_fd = spec->log_fd = spec->control_fd = spec->end_fd = -1;
    spec->stop_signal = SIGTERM;
    reading r = {.spec = spec};
    wh_record_iter it = wh_record_begin(data, n);
    wh_field field;
    while (rc == 0 && wh_record_next(&it, &field))
        rc = take_field(&r, &field, err);
    spec->args = r.args.v;
    spec->env = r.env.v;
    if (rc < 0)
        return wh_wrap(err, "spec");
    if (spec->id == NULL || spec->code_fd < 0 || r.args.n == 0)
        return wh_fail(err, -EBADMSG, "spec: 'id', 'code_fd' and one 'arg' are required.");
    if (spec->serve.mode != WH_RUNSPEC_COMMAND && spec->n_listen == 0)
        return wh_fail(err, -EBADMSG, "spec: what serves needs a listening socket.");
    if ((spec->serve.tls_cert_fd == 0) != (spec->serve.tls_key_fd == 0))
        return wh_fail(err, -EBADMSG, "spec: a certificate and its key come together.");
    *ret = WH_TAKE(spec);
    return 0;
}
