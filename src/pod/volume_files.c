/* SPDX-License-Identifier: Apache-2.0 */
/* ConfigMaps, Secrets, fields and tokens as files (kubelet: pkg/volume/util/atomic_writer.go). */
#include "pod/env.h"
#include "pod/spec_read.h"
#include "pod/volume_state.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>

#define PAYLOAD_BYTES_MAX ((size_t)16 << 20) /* of one volume; an object has at most 1 MiB */
#define PAYLOAD_FILES_MAX 65536
#define TOKEN_RENEW_PERCENT 80
#define TOKEN_RENEW_MAX (24 * WH_HOUR)
#define TOKEN_RETRY (10 * WH_SEC)

void payload_done(payload *p)
{
    for (size_t i = 0; i < p->n; i++) {
        free(p->files[i].path);
        if (p->files[i].data != NULL)
            explicit_bzero(p->files[i].data, p->files[i].n);
        free(p->files[i].data);
    }
    free(p->files);
    *p = (payload){0};
}

/* Takes over `data`. A path that is there already is replaced: later sources win. */
static int add_file(payload *p, const char *path, char *data, size_t n, int mode, wh_err *err)
{
    auto_free char *owned = data;
    if (p->n >= PAYLOAD_FILES_MAX || n > PAYLOAD_BYTES_MAX - p->bytes)
        return wh_fail(err, -EFBIG, "more than %d files or %zu bytes.", PAYLOAD_FILES_MAX, PAYLOAD_BYTES_MAX);
    payload_file *slot = NULL;
    for (size_t i = 0; i < p->n && slot == NULL; i++)
        if (strcmp(p->files[i].path, path) == 0)
            slot = &p->files[i];
    if (slot == NULL) {
        if (p->n == p->cap) {
            size_t cap = p->cap == 0 ? 16 : p->cap * 2;
            payload_file *files = reallocarray(p->files, cap, sizeof(*files));
            if (files == NULL)
                return wh_fail(err, -ENOMEM, "file '%.80s'", path);
            p->files = files;
            p->cap = cap;
        }
        slot = &p->files[p->n++];
        *slot = (payload_file){.path = wh_xstrdup(path)};
    }
    free(slot->data);
    slot->data = WH_TAKE(owned);
    slot->n = n;
    slot->mode = mode;
    p->bytes += n;
    return 0;
}

/* ---- sources ---- */

static bool is_file_name(const char *key)
{
    return is_inner_path(key) && strchr(key, '/') == NULL && !wh_starts_with(key, "..");
}

static int add_all_keys(payload *p, const json_t *object, int mode, wh_err *err)
{
    static const char *const members[] = {"data", "binaryData", "stringData"};
    const char *key;
    json_t *value;
    for (size_t i = 0; i < WH_ARRAY_LEN(members); i++) {
        json_object_foreach(json_object_get(object, members[i]), key, value)
        {
            char *data = NULL;
            size_t n = 0;
            if (!is_file_name(key))
                return wh_fail(err, -EINVAL, "key '%.80s' cannot be a file's name.", key);
            int rc = wh_object_key(object, key, &data, &n, err);
            if (rc == 0)
                rc = add_file(p, key, data, n, mode, err);
            if (rc < 0)
                return rc;
        }
    }
    return 0;
}

/* The object of a source; 0 and NULL when it is optional and not there. */
static int get_object(const wh_volumes *v, const wh_volume_source *s, const char *what, json_t **ret,
                      wh_err *err)
{
    const char *kind = s->kind == WH_SOURCE_SECRET ? "Secret" : "ConfigMap";
    const wh_resolver *resolver = v->resolver;
    wh_err why = {0};
    int rc = -ENOENT;
    if (resolver != NULL)
        rc = resolver->get(resolver->user, kind, v->spec->namespace_, s->object, ret, &why);
    if (rc == -ENOENT && s->optional)
        return 0;
    if (rc == -ENOENT)
        return wh_fail(err, rc, "%s \"%s\" not found in namespace %s: create it, or mark it as optional.",
                       what, s->object, v->spec->namespace_);
    if (rc < 0)
        return wh_fail(err, rc, "%s \"%s\": %s", what, s->object,
                       why.msg[0] == '\0' ? "is not known yet." : why.msg);
    return 0;
}

static int add_object(const wh_volumes *v, const wh_volume_spec *spec, const wh_volume_source *s, payload *p,
                      wh_err *err)
{
    auto_json json_t *object = NULL;
    const char *what = s->kind == WH_SOURCE_SECRET ? "secret" : "configmap";
    int rc = get_object(v, s, what, &object, err);
    if (rc < 0 || object == NULL)
        return rc;
    if (s->n_items == 0)
        return add_all_keys(p, object, spec->default_mode, err);
    for (size_t i = 0; i < s->n_items; i++) {
        const wh_volume_item *item = &s->items[i];
        char *data = NULL;
        size_t n = 0;
        rc = wh_object_key(object, item->key, &data, &n, err);
        if (rc == -ENOENT && s->optional)
            continue;
        if (rc < 0)
            return wh_wrap(err, "%s \"%s\"", what, s->object);
        rc = add_file(p, item->path, data, n, item->mode < 0 ? spec->default_mode : item->mode, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int add_fields(wh_volumes *v, const wh_volume_spec *spec, const wh_volume_source *s, payload *p,
                      wh_err *err)
{
    for (size_t i = 0; i < s->n_items; i++) {
        const wh_volume_item *item = &s->items[i];
        char *text = NULL;
        int rc = wh_field_value(v->spec, SIZE_MAX, &item->field, &v->facts, &text, err);
        if (rc == 0)
            rc = add_file(p, item->path, text, strlen(text), item->mode < 0 ? spec->default_mode : item->mode,
                          err);
        if (rc < 0)
            return wh_wrap(err, "file '%.80s'", item->path);
    }
    return 0;
}

static wh_time renew_at(const held_token *t)
{
    wh_time life = t->expires - t->obtained;
    return t->obtained + WH_MIN(life / 100 * TOKEN_RENEW_PERCENT, TOKEN_RENEW_MAX);
}

/* Gets a token, or a new one when it is time; one that still holds is kept when that fails. */
static int renew_token(wh_volumes *v, const wh_volume_source *s, held_token *held, wh_time now, wh_time *next,
                       wh_err *err)
{
    char *text = NULL;
    wh_time expires = 0;
    if (held->text != NULL && now < renew_at(held)) {
        *next = WH_MIN(*next, renew_at(held));
        return 0;
    }
    if (v->token == NULL)
        return wh_fail(err, -EOPNOTSUPP,
                       "service account tokens come from an API server, and there is none.");
    int rc = v->token(v->token_user, v->spec, s->token_audience, s->token_seconds, &text, &expires, err);
    if (rc < 0 && held->text != NULL && now < held->expires) {
        *next = WH_MIN(*next, now + TOKEN_RETRY);
        return 0;
    }
    if (rc < 0)
        return rc == -EAGAIN ? wh_fail(err, rc, "the token of service account %s is not here yet.",
                                       v->spec->service_account)
                             : wh_wrap(err, "token of service account %s", v->spec->service_account);
    free(held->text);
    *held = (held_token){.text = text, .obtained = now, .expires = expires};
    *next = WH_MIN(*next, renew_at(held));
    return 0;
}

static int add_token(wh_volumes *v, size_t i, size_t source, wh_time now, wh_time *next, payload *p,
                     wh_err *err)
{
    const wh_volume_spec *spec = &v->spec->volumes[i];
    const wh_volume_source *s = &spec->sources[source];
    held_token *held = &v->volumes[i].tokens[source];
    int rc = renew_token(v, s, held, now, next, err);
    if (rc < 0)
        return rc;
    return add_file(p, s->token_path, wh_xstrdup(held->text), strlen(held->text), spec->default_mode, err);
}

int payload_collect(wh_volumes *v, size_t i, wh_time now, wh_time *next, payload *out, wh_err *err)
{
    const wh_volume_spec *spec = &v->spec->volumes[i];
    int rc = 0;
    for (size_t k = 0; k < spec->n_sources && rc == 0; k++) {
        const wh_volume_source *s = &spec->sources[k];
        if (s->kind == WH_SOURCE_TOKEN)
            rc = add_token(v, i, k, now, next, out, err);
        else if (s->kind == WH_SOURCE_DOWNWARD)
            rc = add_fields(v, spec, s, out, err);
        else
            rc = add_object(v, spec, s, out, err);
    }
    return rc < 0 ? wh_wrap(err, "volume '%s'", spec->name) : 0;
}

uint64_t payload_digest(const payload *p)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < p->n; i++) {
        const payload_file *f = &p->files[i];
        for (const char *c = f->path; *c != '\0'; c++)
            h = (h ^ (unsigned char)*c) * 0x100000001B3u;
        h = (h ^ (uint64_t)f->mode ^ ((uint64_t)f->n << 16)) * 0x100000001B3u;
        for (size_t k = 0; k < f->n; k++)
            h = (h ^ (unsigned char)f->data[k]) * 0x100000001B3u;
    }
    return h == 0 ? 1 : h;
}

/* ---- the atomic writer ---- */

/* Makes the folders of `path` below dirfd and opens the last one; *ret_name is its last component. */
static int open_parent(int dirfd, const char *path, const char **ret_name)
{
    auto_close int at_ = openat(dirfd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    const char *rest = path, *slash;
    while (at_ >= 0 && (slash = strchr(rest, '/')) != NULL) {
        auto_free char *name = wh_xstrndup(rest, (size_t)(slash - rest));
        if (mkdirat(at_, name, 0755) < 0 && errno != EEXIST)
            return -errno;
        int next = openat(at_, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        close(at_);
        at_ = next;
        rest = slash + 1;
    }
    *ret_name = rest;
    return at_ < 0 ? -errno : WH_TAKE_FD(at_);
}

static int write_file(int dirfd, const payload_file *f, uid_t uid, gid_t gid, bool chown_files, wh_err *err)
{
    const char *name = NULL;
    auto_close int parent = open_parent(dirfd, f->path, &name);
    if (parent < 0)
        return wh_fail(err, parent, "make the folders of '%.120s'", f->path);
    auto_close int fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return wh_fail(err, -errno, "make '%.120s'", f->path);
    int rc = wh_write_all(fd, f->data, f->n);
    if (rc < 0)
        return wh_fail(err, rc, "write '%.120s'", f->path);
    if (chown_files && fchown(fd, uid, gid) < 0)
        return wh_fail(err, -errno, "give '%.120s' to %u:%u", f->path, (unsigned)uid, (unsigned)gid);
    if (fchmod(fd, (mode_t)f->mode) < 0)
        return wh_fail(err, -errno, "set the mode of '%.120s'", f->path);
    return 0;
}

static char *new_folder_name(void)
{
    wh_time now = wh_real_now();
    time_t seconds = (time_t)(now / WH_SEC);
    struct tm tm;
    char text[64];
    gmtime_r(&seconds, &tm);
    strftime(text, sizeof(text), "..%Y_%m_%d_%H_%M_%S", &tm);
    return wh_xasprintf("%s.%09lld", text, (long long)(now % WH_SEC));
}

static size_t first_component(const char *path)
{
    return strcspn(path, "/");
}

static bool has_name(const payload *p, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < p->n; i++)
        if (first_component(p->files[i].path) == n && memcmp(p->files[i].path, name, n) == 0)
            return true;
    return false;
}

static int link_names(int dirfd, const payload *p, wh_err *err)
{
    for (size_t i = 0; i < p->n; i++) {
        auto_free char *name = wh_xstrndup(p->files[i].path, first_component(p->files[i].path));
        auto_free char *target = wh_xasprintf("..data/%s", name);
        if (symlinkat(target, dirfd, name) < 0 && errno != EEXIST)
            return wh_fail(err, -errno, "link '%.120s'", name);
    }
    return 0;
}

/* Names that the payload no longer has, and folders of earlier writes. */
static void remove_stale(int dirfd, const payload *p, const char *current)
{
    int copy = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (dir == NULL) {
        if (copy >= 0)
            close(copy);
        return;
    }
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "..data") == 0 ||
            strcmp(name, current) == 0)
            continue;
        if (wh_starts_with(name, "..") || !has_name(p, name))
            (void)wh_rm_rf(dirfd, name, NULL);
    }
    closedir(dir);
}

int payload_write(int dirfd, const payload *p, uid_t uid, gid_t gid, bool chown_files, wh_err *err)
{
    auto_free char *name = new_folder_name();
    if (mkdirat(dirfd, name, 0755) < 0)
        return wh_fail(err, -errno, "make '%s'", name);
    auto_close int folder = openat(dirfd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int rc = folder < 0 ? wh_fail(err, -errno, "open '%s'", name) : 0;
    if (rc == 0 && fchmodat(dirfd, name, 0755, 0) < 0)
        rc = wh_fail(err, -errno, "set the mode of '%s'", name);
    for (size_t i = 0; i < p->n && rc == 0; i++)
        rc = write_file(folder, &p->files[i], uid, gid, chown_files, err);
    if (rc == 0) {
        (void)unlinkat(dirfd, "..data_tmp", 0);
        if (symlinkat(name, dirfd, "..data_tmp") < 0 || renameat(dirfd, "..data_tmp", dirfd, "..data") < 0)
            rc = wh_fail(err, -errno, "switch to '%s'", name);
    }
    if (rc < 0) {
        (void)wh_rm_rf(dirfd, name, NULL);
        return rc;
    }
    rc = link_names(dirfd, p, err);
    remove_stale(dirfd, p, name);
    return rc;
}
