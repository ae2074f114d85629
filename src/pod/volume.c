/* SPDX-License-Identifier: Apache-2.0 */
/* Makes and removes the volumes of a pod. */
#include "pod/volume.h"

#include "pod/volume_state.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>

#define USAGE_DEPTH_MAX 128
#define SECRET_TMPFS_BYTES "67108864" /* of one pod; an object has at most 1 MiB */

static char *copy_or_null(const char *s)
{
    return s == NULL ? NULL : wh_xstrdup(s);
}

static void free_facts(wh_volumes *v)
{
    free(v->node_name);
    free(v->host_ip);
    free(v->pod_ips[0]);
    free(v->pod_ips[1]);
}

void wh_volumes_set_facts(wh_volumes *v, const wh_pod_facts *facts)
{
    free_facts(v);
    v->facts = *facts;
    v->facts.node_name = v->node_name = copy_or_null(facts->node_name);
    v->facts.host_ip = v->host_ip = copy_or_null(facts->host_ip);
    for (size_t i = 0; i < WH_ARRAY_LEN(v->pod_ips); i++)
        v->facts.pod_ips[i] = v->pod_ips[i] = copy_or_null(facts->pod_ips[i]);
}

wh_volumes *wh_volumes_new(const wh_volumes_config *config, const wh_pod_spec *spec)
{
    wh_volumes *v = wh_xnew(wh_volumes);
    v->spec = spec;
    v->root = wh_xstrdup(config->root);
    v->dir = wh_path_join(config->root, spec->uid == NULL ? "" : spec->uid);
    if (config->facts != NULL)
        wh_volumes_set_facts(v, config->facts);
    v->resolver = config->resolver;
    v->token = config->token;
    v->token_user = config->token_user;
    v->privileged = config->privileged;
    v->uid = config->uid;
    v->gid = spec->fs_group >= 0 ? (gid_t)spec->fs_group : config->gid;
    v->volumes = wh_xcalloc(spec->n_volumes + 1, sizeof(*v->volumes));
    for (size_t i = 0; i < spec->n_volumes; i++)
        v->volumes[i].tokens = wh_xcalloc(spec->volumes[i].n_sources + 1, sizeof(held_token));
    if (!v->privileged)
        v->weaker =
            "without root, secrets and volumes of medium Memory are plain folders on disk, and mounts are not locked.";
    return v;
}

void wh_volumes_free(wh_volumes *volumes)
{
    if (volumes == NULL)
        return;
    for (size_t i = 0; i < volumes->spec->n_volumes; i++) {
        for (size_t k = 0; k < volumes->spec->volumes[i].n_sources; k++)
            free(volumes->volumes[i].tokens[k].text);
        free(volumes->volumes[i].tokens);
    }
    free(volumes->volumes);
    free(volumes->root);
    free(volumes->dir);
    free_facts(volumes);
    free(volumes);
}

/* Volumes of a pod cannot change; what may are its labels and annotations. */
void wh_volumes_set_spec(wh_volumes *volumes, const wh_pod_spec *spec)
{
    wh_assert(spec->n_volumes == volumes->spec->n_volumes);
    volumes->spec = spec;
}

const char *wh_volumes_weaker(const wh_volumes *volumes)
{
    return volumes->weaker;
}

char *volume_path(const wh_volumes *v, size_t i)
{
    const wh_volume_spec *spec = &v->spec->volumes[i];
    if (spec->kind == WH_VOLUME_HOST_PATH)
        return wh_xstrdup(spec->host_path);
    return wh_xasprintf("%s/%s/%s", v->dir,
                        spec->kind == WH_VOLUME_FILES && spec->secret ? "secret" : "volumes", spec->name);
}

/* ---- making ---- */

static bool is_mount_point(const char *path)
{
    struct stat st, parent;
    auto_free char *up = wh_path_join(path, "..");
    return stat(path, &st) == 0 && stat(up, &parent) == 0 && st.st_dev != parent.st_dev;
}

/* A tmpfs, or where that is not allowed a plain folder and a remark. */
static int make_tmpfs(wh_volumes *v, const char *path, const char *options, wh_err *err)
{
    int rc = wh_mkdir_p(path, 0755, err);
    if (rc < 0 || !v->privileged || is_mount_point(path))
        return rc;
    if (mount("wherry", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options) == 0)
        return 0;
    if (errno != EPERM && errno != EACCES)
        return wh_fail(err, -errno, "mount a tmpfs on '%s'", path);
    v->weaker = "this process may not mount: secrets and volumes of medium Memory are plain folders on disk.";
    return 0;
}

static int own_folder(const wh_volumes *v, const char *path, mode_t mode, wh_err *err)
{
    if (v->privileged && chown(path, v->uid, v->gid) < 0)
        return wh_fail(err, -errno, "give '%s' to %u:%u", path, (unsigned)v->uid, (unsigned)v->gid);
    if (chmod(path, mode) < 0)
        return wh_fail(err, -errno, "set the mode of '%s'", path);
    return 0;
}

static int make_empty_dir(wh_volumes *v, const wh_volume_spec *spec, const char *path, wh_err *err)
{
    int64_t size = wh_quantity_units(spec->size_limit);
    int rc;
    if (size <= 0)
        size = v->facts.memory_bytes / 2;
    if (spec->memory) {
        auto_free char *options = size > 0 ? wh_xasprintf("mode=0777,size=%lld", (long long)size)
                                           : wh_xstrdup("mode=0777,size=50%");
        rc = make_tmpfs(v, path, options, err);
    } else
        rc = wh_mkdir_p(path, 0755, err);
    /* As the kubelet does it: everyone in the pod may write; with fsGroup new files belong to that group. */
    return rc < 0 ? rc : own_folder(v, path, v->spec->fs_group >= 0 ? 02777 : 0777, err);
}

static int make_host_path(const wh_volume_spec *spec, wh_err *err)
{
    struct stat st;
    if (strcmp(spec->host_path_type, "DirectoryOrCreate") == 0)
        return wh_mkdir_p(spec->host_path, 0755, err);
    if (stat(spec->host_path, &st) < 0)
        return wh_fail(err, -errno, "volume '%s': hostPath '%.150s' (type DirectoryOrCreate makes it)",
                       spec->name, spec->host_path);
    if (!S_ISDIR(st.st_mode))
        return wh_fail(err, -ENOTDIR,
                       "volume '%s': hostPath '%.150s' is not a folder: single files cannot be mounted yet.",
                       spec->name, spec->host_path);
    return 0;
}

static int make_files(wh_volumes *v, size_t i, const char *path, wh_time now, wh_time *next, wh_err *err)
{
    auto_payload payload p = {0};
    int rc = payload_collect(v, i, now, next, &p, err);
    if (rc < 0)
        return rc;
    uint64_t digest = payload_digest(&p);
    if (v->volumes[i].written == digest)
        return 0;
    rc = wh_mkdir_p(path, 0755, err);
    if (rc < 0)
        return rc;
    auto_close int dirfd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dirfd < 0)
        return wh_fail(err, -errno, "open '%s'", path);
    if (fchmod(dirfd, 0755) < 0)
        return wh_fail(err, -errno, "set the mode of '%s'", path);
    rc = payload_write(dirfd, &p, v->uid, v->gid, v->privileged, err);
    if (rc < 0)
        return wh_wrap(err, "volume '%s'", v->spec->volumes[i].name);
    v->volumes[i].written = digest;
    return 0;
}

static int make_volume(wh_volumes *v, size_t i, wh_time now, wh_err *err)
{
    const wh_volume_spec *spec = &v->spec->volumes[i];
    auto_free char *path = volume_path(v, i);
    wh_time next = WH_TIME_NEVER;
    if (v->volumes[i].made)
        return 0;
    int rc = spec->kind == WH_VOLUME_EMPTY_DIR   ? make_empty_dir(v, spec, path, err)
             : spec->kind == WH_VOLUME_HOST_PATH ? make_host_path(spec, err)
                                                 : make_files(v, i, path, now, &next, err);
    v->volumes[i].made = rc == 0;
    return rc;
}

int wh_volumes_mount(wh_volumes *volumes, wh_time now, wh_err *err)
{
    bool any_secret = false;
    if (volumes->spec->uid == NULL)
        return wh_fail(err, -EINVAL, "pod '%s' has no uid.", volumes->spec->name);
    int rc = wh_mkdir_p(volumes->dir, 0700, err);
    for (size_t i = 0; i < volumes->spec->n_volumes; i++)
        any_secret |= volumes->spec->volumes[i].kind == WH_VOLUME_FILES && volumes->spec->volumes[i].secret;
    if (rc == 0 && any_secret) {
        auto_free char *path = wh_path_join(volumes->dir, "secret");
        rc = make_tmpfs(volumes, path, "mode=0700,size=" SECRET_TMPFS_BYTES, err);
    }
    for (size_t i = 0; i < volumes->spec->n_volumes && rc == 0; i++)
        rc = make_volume(volumes, i, now, err);
    return rc;
}

int wh_volumes_refresh(wh_volumes *volumes, wh_time now, wh_time *ret_next, wh_err *err)
{
    wh_time next = WH_TIME_NEVER;
    int first = 0;
    for (size_t i = 0; i < volumes->spec->n_volumes; i++) {
        if (volumes->spec->volumes[i].kind != WH_VOLUME_FILES || !volumes->volumes[i].made)
            continue;
        auto_free char *path = volume_path(volumes, i);
        int rc = make_files(volumes, i, path, now, &next, first == 0 ? err : NULL);
        if (first == 0)
            first = rc;
    }
    if (ret_next != NULL)
        *ret_next = next;
    return first;
}

/* ---- usage ---- */

static uint64_t usage_of(int dirfd, const char *name, unsigned depth)
{
    uint64_t bytes = 0;
    struct stat st;
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL) {
        if (fd >= 0)
            close(fd);
        return 0;
    }
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        bytes += (uint64_t)st.st_blocks * 512;
        if (S_ISDIR(st.st_mode) && depth < USAGE_DEPTH_MAX)
            bytes += usage_of(fd, entry->d_name, depth + 1);
    }
    closedir(dir);
    return bytes;
}

int wh_volumes_check_usage(wh_volumes *volumes, uint64_t *ret_bytes, wh_err *err)
{
    uint64_t total = 0;
    int rc = 0;
    for (size_t i = 0; i < volumes->spec->n_volumes; i++) {
        const wh_volume_spec *spec = &volumes->spec->volumes[i];
        int64_t limit = wh_quantity_units(spec->size_limit);
        auto_free char *path = volume_path(volumes, i);
        if (spec->kind != WH_VOLUME_EMPTY_DIR)
            continue;
        uint64_t bytes = usage_of(AT_FDCWD, path, 0);
        total += bytes;
        if (rc == 0 && limit > 0 && bytes > (uint64_t)limit)
            rc = wh_fail(err, -EDQUOT, "Usage of EmptyDir volume \"%s\" exceeds the limit \"%lld\".",
                         spec->name, (long long)limit);
    }
    if (ret_bytes != NULL)
        *ret_bytes = total;
    return rc;
}

/* ---- removing ---- */

static void unmount_all_in(const char *dir)
{
    DIR *d = opendir(dir);
    if (d == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(d)) != NULL;) {
        auto_free char *path = wh_path_join(dir, entry->d_name);
        if (entry->d_name[0] != '.')
            (void)umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
    }
    closedir(d);
}

int wh_volumes_teardown(const char *root, const char *uid, wh_err *err)
{
    if (*uid == '\0' || strchr(uid, '/') != NULL || *uid == '.')
        return wh_fail(err, -EINVAL, "'%.60s' is no uid.", uid);
    auto_free char *dir = wh_path_join(root, uid);
    auto_free char *volumes = wh_path_join(dir, "volumes"), *secret = wh_path_join(dir, "secret");
    auto_close int rootfd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (rootfd < 0)
        return errno == ENOENT ? 0 : wh_fail(err, -errno, "open '%s'", root);
    unmount_all_in(volumes);
    (void)umount2(secret, MNT_DETACH | UMOUNT_NOFOLLOW);
    return wh_rm_rf(rootfd, uid, err);
}

int wh_volumes_list(const char *root, wh_strv *ret, wh_err *err)
{
    auto_strv wh_strv list = NULL;
    DIR *d = opendir(root);
    if (d == NULL && errno != ENOENT)
        return wh_fail(err, -errno, "open '%s'", root);
    for (struct dirent *entry; d != NULL && (entry = readdir(d)) != NULL;)
        if (entry->d_name[0] != '.')
            wh_strv_push(&list, entry->d_name);
    if (d != NULL)
        closedir(d);
    *ret = WH_TAKE(list);
    return 0;
}
