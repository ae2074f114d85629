/* SPDX-License-Identifier: Apache-2.0 */
#include "node/source_dir.h"
#include "base/file.h"
#include "base/log.h"
#include "node/manifests.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/inotify.h>

#define RESCAN_EVERY (20 * WH_SEC)
#define SETTLE_TIME (50 * WH_MSEC) /* an editor's several writes are one change */
#define MANIFEST_FILES_MAX 10000

struct wh_source_dir {
    wh_loop *loop;
    wh_node *node;
    wh_manifests *manifests;
    char *dir;
    int inotify;
    wh_io io;
    wh_timer scan;
    json_t *seen; /* file name -> "inode.size.mtime" of what was applied */
};

static bool is_manifest(const char *name)
{
    return name[0] != '.' &&
           (wh_ends_with(name, ".yaml") || wh_ends_with(name, ".yml") || wh_ends_with(name, ".json"));
}

static void apply_file(wh_source_dir *s, const char *path)
{
    auto_free char *text = NULL;
    wh_manifest manifest = {0};
    size_t n = 0;
    wh_err err = {0};

    int rc = wh_read_file(AT_FDCWD, path, WH_YAML_BYTES_MAX, &text, &n, &err);
    rc = rc < 0 ? rc : wh_manifest_parse(text, n, path, &manifest, &err);
    rc = rc < 0 ? rc : wh_manifests_apply(s->manifests, path, &manifest, &err);
    if (rc < 0) /* what the file said before stays as it is */
        wh_log(ERROR, "a manifest is refused", KV_STR("file", path), KV_ERR(&err));
    else
        wh_log(INFO, "manifest applied", KV_STR("file", path));
}

/* Applies the file when it is new or another than last time. */
static void look_at(wh_source_dir *s, const char *name, json_t *now)
{
    auto_free char *path = wh_path_join(s->dir, name);
    struct stat st;

    if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
        return;
    auto_free char *mark =
        wh_xasprintf("%llu.%lld.%lld.%ld", (unsigned long long)st.st_ino, (long long)st.st_size,
                     (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    json_object_set_new(now, path, json_string(mark));
    if (!wh_streq(json_string_value(json_object_get(s->seen, path)), mark))
        apply_file(s, path);
}

static void scan(wh_source_dir *s)
{
    json_t *now, *mark;
    const char *path;
    size_t files = 0;
    DIR *d = opendir(s->dir);

    wh_timer_start(s->loop, &s->scan, RESCAN_EVERY, s->scan.fn, s);
    if (d == NULL) { /* a folder that is gone for a moment must not end its pods */
        wh_log(WARN, "the manifest folder cannot be read", KV_STR("dir", s->dir),
               KV_STR("error", strerror(errno)));
        return;
    }
    now = json_object();
    for (struct dirent *entry; (entry = readdir(d)) != NULL && files < MANIFEST_FILES_MAX;) {
        if (is_manifest(entry->d_name)) {
            look_at(s, entry->d_name, now);
            files++;
        }
    }
    closedir(d);
    json_object_foreach(s->seen, path, mark)
    {
        if (json_object_get(now, path) == NULL) {
            wh_log(INFO, "manifest removed", KV_STR("file", path));
            wh_manifests_remove(s->manifests, path);
        }
    }
    json_decref(s->seen);
    s->seen = now;
}

static void scan_due(wh_timer *timer)
{
    scan(timer->user);
}

static void folder_changed(wh_io *io, uint32_t ready)
{
    wh_source_dir *s = io->user;
    char events[4096];

    (void)ready;
    while (read(s->inotify, events, sizeof(events)) > 0) {
    }
    wh_timer_start(s->loop, &s->scan, SETTLE_TIME, scan_due, s);
}

static void on_status(void *user, wh_worker *w)
{
    wh_manifests_pod_changed(((wh_source_dir *)user)->manifests, w);
}

static void on_gone(void *user, wh_worker *w)
{
    wh_manifests_pod_gone(((wh_source_dir *)user)->manifests, w);
}

/* Files that were removed while no agent ran: their pods are of an origin that is not there. */
typedef struct orphan_sweep {
    wh_source_dir *s;
} orphan_sweep;

static void sweep_orphan(void *user, wh_worker *w)
{
    wh_source_dir *s = ((orphan_sweep *)user)->s;

    if (wh_streq(wh_worker_source(w), "dir") && json_object_get(s->seen, wh_worker_origin(w)) == NULL)
        wh_node_delete(s->node, wh_worker_spec(w)->uid, -1, false);
}

int wh_source_dir_start(wh_loop *loop, wh_node *node, const char *dir, wh_source_dir **ret, wh_err *err)
{
    wh_source_dir *s = wh_xnew(wh_source_dir);
    char *full = realpath(dir, NULL);

    if (full == NULL) {
        free(s);
        return wh_fail(err, -errno, "open manifest folder '%s'", dir);
    }
    s->loop = loop;
    s->node = node;
    s->dir = full;
    s->seen = json_object();
    s->scan.fn = scan_due;
    s->manifests = wh_manifests_new(loop, node, "dir", NULL, NULL);
    s->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (s->inotify < 0 ||
        inotify_add_watch(s->inotify, s->dir, IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE) < 0) {
        wh_log(WARN, "the manifest folder is looked at every 20 seconds only",
               KV_STR("error", strerror(errno)));
    } else {
        int rc = wh_io_start(loop, &s->io, s->inotify, EPOLLIN, folder_changed, s);
        if (rc < 0) {
            wh_source_dir_free(s);
            return wh_fail(err, rc, "watch '%s'", dir);
        }
    }
    wh_node_observe(node, "dir", &(wh_node_observer){.on_status = on_status, .on_gone = on_gone, .user = s});
    scan(s);
    wh_node_each(node, sweep_orphan, &(orphan_sweep){s});
    *ret = s;
    return 0;
}

void wh_source_dir_free(wh_source_dir *s)
{
    if (s == NULL)
        return;
    wh_io_stop(&s->io);
    wh_timer_stop(&s->scan);
    if (s->inotify >= 0)
        close(s->inotify);
    wh_manifests_free(s->manifests);
    json_decref(s->seen);
    free(s->dir);
    free(s);
}
