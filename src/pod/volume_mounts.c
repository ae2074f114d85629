/* SPDX-License-Identifier: Apache-2.0 */
/* The folders that one container sees, and its termination message. */
#include "pod/env.h"
#include "pod/spec_read.h"
#include "pod/volume_state.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/mount.h>

#define LOG_TAIL_BYTES ((off_t)32768)
#define LOG_MESSAGE_BYTES 2048
#define LOG_MESSAGE_LINES 80
#define SUB_PATH_MODE 0755

/* ---- folders ---- */

/* Makes what is missing of `path` below dirfd, never outside of it. */
static int make_below(const wh_volumes *v, int dirfd, const char *path)
{
    wh_str rest = wh_str_of(path), piece;
    auto_close int at_ = openat(dirfd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    size_t done = 0;
    while (at_ >= 0 && wh_str_split(&rest, '/', &piece)) {
        auto_free char *name = wh_xstrndup(piece.p, piece.n);
        bool made = mkdirat(at_, name, SUB_PATH_MODE) == 0;
        if (!made && errno != EEXIST)
            return -errno;
        if (made && v->privileged && fchownat(at_, name, v->uid, v->gid, AT_SYMLINK_NOFOLLOW) < 0)
            return -errno;
        done = (size_t)(piece.p - path) + piece.n;
        auto_free char *so_far = wh_xstrndup(path, done);
        int next = wh_openat2(dirfd, so_far, O_PATH | O_DIRECTORY | O_CLOEXEC, 0,
                              RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
        close(at_);
        at_ = -1;
        if (next < 0)
            return next;
        at_ = next;
    }
    return at_ < 0 ? -errno : WH_TAKE_FD(at_);
}

/* A folder inside a volume. Links in it may lead anywhere inside, and nowhere else. */
static int open_sub_path(const wh_volumes *v, int dirfd, const char *sub, bool may_make, wh_err *err)
{
    int fd = wh_openat2(dirfd, sub, O_PATH | O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
    struct stat st;
    if (fd == -ENOENT && may_make)
        fd = make_below(v, dirfd, sub);
    if (fd == -EXDEV || fd == -ELOOP)
        return wh_fail(err, -EACCES, "subPath '%.120s' leads out of its volume.", sub);
    if (fd < 0)
        return wh_fail(err, fd, "subPath '%.120s'", sub);
    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
        return fd;
    close(fd);
    return wh_fail(err, -ENOTDIR,
                   "subPath '%.120s' is a file: single files cannot be mounted yet; mount its folder.", sub);
}

/* The folder as a mount of its own that is tied to no path. */
static int clone_mount(int dirfd, bool read_only, bool recursive)
{
    unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC |
                                          (read_only ? MOUNT_ATTR_RDONLY : 0)};
    auto_close int tree = open_tree(dirfd, "", flags);
    if (tree < 0)
        return -errno;
    if (mount_setattr(tree, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr, sizeof(attr)) < 0)
        return -errno;
    return WH_TAKE_FD(tree);
}

/* Takes over dirfd: a container gets a locked mount of it, or the folder itself where that is not allowed. */
static int detach(wh_volumes *v, int dirfd, bool read_only, bool recursive)
{
    auto_close int folder = dirfd;
    int tree = v->privileged ? clone_mount(folder, read_only, recursive) : -EPERM;
    if (tree >= 0)
        return tree;
    if (v->privileged)
        v->weaker = "this process may not make mounts: those of containers are not locked by the kernel.";
    return WH_TAKE_FD(folder);
}

static int open_volume(const wh_volumes *v, size_t i, wh_err *err)
{
    auto_free char *path = volume_path(v, i);
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? wh_fail(err, -errno, "open '%s'", path) : fd;
}

static int sub_path_of(const wh_volume_mount *m, char *const *env, char **ret, wh_err *err)
{
    if (m->sub_path_expr == NULL) {
        *ret = m->sub_path == NULL ? NULL : wh_xstrdup(m->sub_path);
        return 0;
    }
    auto_free char *sub = NULL;
    int rc = wh_env_expand(m->sub_path_expr, env, 4096, true, &sub, err);
    if (rc < 0)
        return wh_wrap(err, "subPathExpr");
    if (!is_inner_path(sub))
        return wh_fail(err, -EINVAL, "subPathExpr: '%.120s' must be relative and without '..'.", sub);
    *ret = WH_TAKE(sub);
    return 0;
}

static int open_mount(wh_volumes *v, const wh_volume_mount *m, char *const *env, wh_mount *out, wh_err *err)
{
    const wh_volume_spec *spec = &v->spec->volumes[m->volume_index];
    auto_free char *sub = NULL;
    bool read_only = m->read_only || spec->kind == WH_VOLUME_FILES;
    int rc = sub_path_of(m, env, &sub, err);
    if (rc < 0)
        return rc;
    auto_close int dirfd = open_volume(v, m->volume_index, err);
    if (dirfd < 0)
        return dirfd;
    if (sub != NULL) {
        int inner = open_sub_path(v, dirfd, sub, spec->kind != WH_VOLUME_FILES, err);
        if (inner < 0)
            return inner;
        close(dirfd);
        dirfd = inner;
    }
    int fd = detach(v, WH_TAKE_FD(dirfd), read_only, spec->kind == WH_VOLUME_HOST_PATH);
    *out = (wh_mount){.guest_path = wh_xstrdup(m->mount_path), .fd = fd, .read_only = read_only};
    return 0;
}

/* ---- termination messages ---- */

/* The mount that holds the termination log, if any does; *ret_inside is where in it. */
static const wh_volume_mount *mount_of_log(const wh_container_spec *c, const char **ret_inside)
{
    const wh_volume_mount *best = NULL;
    size_t best_len = 0;
    for (size_t i = 0; i < c->n_mounts; i++) {
        size_t n = strlen(c->mounts[i].mount_path);
        while (n > 1 && c->mounts[i].mount_path[n - 1] == '/')
            n--;
        bool inside =
            strncmp(c->termination_path, c->mounts[i].mount_path, n) == 0 && c->termination_path[n] == '/';
        if (!inside || n <= best_len)
            continue;
        best = &c->mounts[i];
        best_len = n;
        *ret_inside = c->termination_path + n + 1;
    }
    return best;
}

/* Opens the folder of a container's own termination log, made when missing. */
static int open_log_folder(const wh_volumes *v, const wh_container_spec *c, wh_err *err)
{
    auto_free char *path = wh_xasprintf("%s/termination/%s", v->dir, c->name);
    const char *name = strrchr(c->termination_path, '/') + 1;
    int rc = wh_mkdir_p(path, 0755, err);
    if (rc < 0)
        return rc;
    auto_close int dirfd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dirfd < 0)
        return wh_fail(err, -errno, "open '%s'", path);
    auto_close int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    if (fd < 0 || (v->privileged && fchown(fd, v->uid, v->gid) < 0) || fchmod(fd, 0666) < 0)
        return wh_fail(err, -errno, "make '%s/%s'", path, name);
    return WH_TAKE_FD(dirfd);
}

static int open_log_mount(wh_volumes *v, const wh_container_spec *c, wh_mount *out, wh_err *err)
{
    const char *slash = strrchr(c->termination_path, '/');
    auto_close int dirfd = open_log_folder(v, c, err);
    if (dirfd < 0)
        return dirfd;
    int fd = detach(v, WH_TAKE_FD(dirfd), false, false);
    *out = (wh_mount){.guest_path = wh_xstrndup(c->termination_path, (size_t)(slash - c->termination_path)),
                      .fd = fd};
    return 0;
}

int wh_volumes_container(wh_volumes *volumes, size_t container, char *const *env, wh_mount **ret,
                         size_t *ret_n, wh_err *err)
{
    const wh_container_spec *c = &volumes->spec->containers[container];
    const char *inside = NULL;
    size_t n = 0;
    int rc = 0;
    wh_mount *mounts = wh_xcalloc(c->n_mounts + 1, sizeof(*mounts));
    for (size_t i = 0; i < c->n_mounts && rc == 0; i++) {
        rc = open_mount(volumes, &c->mounts[i], env, &mounts[n], err);
        if (rc < 0)
            wh_wrap(err, "mount '%s' at '%.80s'", c->mounts[i].volume, c->mounts[i].mount_path);
        else
            n++;
    }
    /* A log right below "/" has no folder of its own that could be mounted. */
    bool own_folder = strrchr(c->termination_path, '/') != c->termination_path;
    if (rc == 0 && own_folder && mount_of_log(c, &inside) == NULL) {
        rc = open_log_mount(volumes, c, &mounts[n], err);
        n += rc == 0;
    }
    if (rc < 0) {
        wh_mounts_free(mounts, n);
        return rc;
    }
    *ret = mounts;
    *ret_n = n;
    return 0;
}

void wh_mounts_free(wh_mount *mounts, size_t n)
{
    for (size_t i = 0; mounts != NULL && i < n; i++) {
        free(mounts[i].guest_path);
        if (mounts[i].fd >= 0)
            close(mounts[i].fd);
    }
    free(mounts);
}

/* Opens the termination log itself; -1 when it cannot be had. The guest may have put anything in its place.
 */
static int open_log(const wh_volumes *v, const wh_container_spec *c, int flags)
{
    const char *inside = NULL;
    const wh_volume_mount *m = mount_of_log(c, &inside);
    struct stat st;
    auto_close int dirfd = -1;
    auto_free char *sub = NULL;
    if (m == NULL) {
        auto_free char *path = wh_xasprintf("%s/termination/%s", v->dir, c->name);
        dirfd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        inside = strrchr(c->termination_path, '/') + 1;
    } else {
        dirfd = open_volume(v, m->volume_index, NULL);
        sub = m->sub_path == NULL ? NULL : wh_path_join(m->sub_path, inside);
        if (v->spec->volumes[m->volume_index].kind == WH_VOLUME_FILES || m->sub_path_expr != NULL)
            return -1;
    }
    if (dirfd < 0)
        return -1;
    auto_close int fd =
        wh_openat2(dirfd, sub == NULL ? inside : sub, flags | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC, 0,
                   RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return -1;
    return WH_TAKE_FD(fd);
}

/* The bytes as well-formed UTF-8: what is not becomes U+FFFD. NULL for nothing. */
static char *to_utf8(const char *data, size_t n, size_t max)
{
    auto_buf wh_buf out = {0};
    wh_buf_init(&out, max);
    for (size_t i = 0; i < n;) {
        size_t len = data[i] == '\0' ? 0 : wh_utf8_length(data + i, n - i);
        int rc = len > 0 ? wh_buf_append(&out, data + i, len) : wh_buf_puts(&out, "\xEF\xBF\xBD");
        if (rc < 0)
            break;
        i += len > 0 ? len : 1;
    }
    return out.len == 0 ? NULL : wh_xstrdup(wh_buf_str(&out));
}

/* The text of one line "<time> <stream> F|P <text>" of a log; a whole line ends with a newline. */
static void append_log_text(wh_str line, wh_buf *out)
{
    wh_str piece, rest = line;
    for (int i = 0; i < 2; i++)
        if (!wh_str_split(&rest, ' ', &piece))
            return;
    if (!wh_str_split(&rest, ' ', &piece) || rest.p == NULL)
        return;
    wh_buf_append(out, rest.p, rest.n);
    if (wh_str_eq(piece, WH_STR("F")))
        wh_buf_putc(out, '\n');
}

/* The last lines of a log, without times. */
static char *log_tail(const char *path)
{
    auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    auto_buf wh_buf text = {0};
    char raw[LOG_TAIL_BYTES + 1];
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return NULL;
    off_t from = st.st_size > LOG_TAIL_BYTES ? st.st_size - LOG_TAIL_BYTES : 0;
    ssize_t got = pread(fd, raw, LOG_TAIL_BYTES, from);
    if (got <= 0)
        return NULL;
    wh_str rest = {raw, (size_t)got}, line;
    wh_buf_init(&text, sizeof(raw));
    for (bool first = from > 0; wh_str_split(&rest, '\n', &line); first = false)
        if (!first && line.n > 0)
            append_log_text(line, &text);
    size_t begin = text.len, lines = 0;
    while (begin > 0 && text.len - begin < LOG_MESSAGE_BYTES) {
        lines += text.p[begin - 1] == '\n' && begin != text.len;
        if (lines == LOG_MESSAGE_LINES)
            break;
        begin--;
    }
    while (begin < text.len && ((unsigned char)text.p[begin] & 0xC0) == 0x80)
        begin++;
    return text.len == 0 ? NULL : to_utf8(text.p + begin, text.len - begin, 3 * LOG_MESSAGE_BYTES);
}

char *wh_volumes_termination_message(wh_volumes *volumes, size_t container, bool failed, const char *log_path)
{
    const wh_container_spec *c = &volumes->spec->containers[container];
    auto_close int fd = open_log(volumes, c, O_RDONLY);
    char data[WH_TERMINATION_MESSAGE_MAX];
    ssize_t n = fd < 0 ? 0 : pread(fd, data, sizeof(data), 0);
    if (n > 0)
        return to_utf8(data, (size_t)n, WH_TERMINATION_MESSAGE_MAX);
    return c->termination_from_log && failed && log_path != NULL ? log_tail(log_path) : NULL;
}

void wh_volumes_termination_reset(wh_volumes *volumes, size_t container)
{
    auto_close int fd = open_log(volumes, &volumes->spec->containers[container], O_WRONLY);
    if (fd >= 0 && ftruncate(fd, 0) < 0)
        return;
}
