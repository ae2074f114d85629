/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "pod/volume.h"
#include "pods.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>

#define UID_TEXT "0a1b2c3d-0000-4000-8000-00000000000f"
#define NOW (1700000000 * WH_SEC)
#define TMPFS 0x01021994

typedef struct fixture {
    char root[64];
    json_t *objects;
    wh_resolver resolver;
    wh_pod_spec *spec;
    wh_volumes *v;
    unsigned tokens; /* how many were given */
    int token_rc;
} fixture;

static int token(void *user, const wh_pod_spec *spec, const char *audience, int64_t seconds, char **ret,
                 wh_time *expires, wh_err *err)
{
    fixture *f = user;
    if (f->token_rc < 0)
        return wh_fail(err, f->token_rc, "no token now.");
    *ret = wh_xasprintf("%s/%s/%u", spec->service_account, audience == NULL ? "" : audience, ++f->tokens);
    *expires = NOW + seconds * WH_SEC;
    return 0;
}

static void set_up(fixture *f, const char *rest, bool privileged)
{
    const wh_pod_facts facts = {.node_name = "n1", .memory_bytes = 1 << 28};
    snprintf(f->root, sizeof(f->root), "/tmp/wh-volume-XXXXXX");
    CHECK(mkdtemp(f->root) != NULL);
    if (f->objects == NULL)
        f->objects = yaml("- {kind: ConfigMap, metadata: {name: cm}, data: {a: one, "
                          "b: two}, binaryData: {raw: AAE=}}\n"
                          "- {kind: Secret, metadata: {name: s}, data: {pw: c2VjcmV0}}\n");
    f->resolver = (wh_resolver){.get = resolve, .user = f->objects};
    f->spec = pod(rest);
    f->v = wh_volumes_new(&(wh_volumes_config){.root = f->root,
                                               .facts = &facts,
                                               .resolver = &f->resolver,
                                               .token = token,
                                               .token_user = f,
                                               .privileged = privileged,
                                               .uid = privileged ? 4242 : getuid(),
                                               .gid = privileged ? 4343 : getgid()},
                          f->spec);
}

static void tear_down(fixture *f)
{
    wh_err err = {0};
    auto_strv wh_strv left = NULL;
    if (f->v == NULL)
        return;
    CHECK_OK(wh_volumes_teardown(f->root, f->spec->uid, &err), &err);
    CHECK_OK(wh_volumes_list(f->root, &left, &err), &err);
    CHECK_INT(wh_strv_len(left), ==, 0);
    CHECK_INT(rmdir(f->root), ==, 0);
    wh_volumes_free(f->v);
    wh_pod_spec_free(f->spec);
    json_decref(f->objects);
}
#define auto_fixture __attribute__((cleanup(tear_down)))

/* A mount namespace of this test's own, so that nothing here is seen outside. */
static void own_mounts(void)
{
    if (geteuid() != 0)
        SKIP("needs root");
    if (unshare(CLONE_NEWNS) < 0 || mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        SKIP("mount namespaces cannot be had here");
}

static void holds(fixture *f, const char *path, const char *text)
{
    auto_free char *full = wh_xasprintf("%s/" UID_TEXT "/%s", f->root, path), *data = NULL;
    wh_err err = {0};
    if (text == NULL) {
        CHECK(access(full, F_OK) < 0);
        return;
    }
    CHECK_OK(wh_read_file(AT_FDCWD, full, 1000, &data, NULL, &err), &err);
    CHECK_STR(data, text);
}

static struct stat stat_of(fixture *f, const char *path)
{
    auto_free char *full = wh_xasprintf("%s/" UID_TEXT "/%s", f->root, path);
    struct stat st;
    CHECK_INT(stat(full, &st), ==, 0);
    return st;
}

#define FILES                                                                                       \
    "spec:\n  containers:\n  - name: c\n    image: i\n    volumeMounts: [{name: cm, "               \
    "mountPath: /etc/cm}, {name: all, mountPath: /all}]\n"                                          \
    "  volumes:\n  - {name: cm, configMap: {name: cm, defaultMode: 256}}\n"                         \
    "  - {name: sec, secret: {secretName: s}}\n"                                                    \
    "  - name: all\n    projected:\n      sources:\n"                                               \
    "      - {configMap: {name: cm, items: [{key: a, path: deep/er/a, "                             \
    "mode: 511}, {key: b, path: deep/b}]}}\n"                                                       \
    "      - {secret: {name: none, optional: true}}\n"                                              \
    "      - {downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}, "       \
    "{path: cpu, resourceFieldRef: {containerName: c, resource: limits.memory, divisor: 1Mi}}]}}\n" \
    "      - {serviceAccountToken: {path: token, audience: vault, expirationSeconds: 1000}}\n"

static void check_files(bool privileged)
{
    auto_fixture fixture f = {0};
    wh_err err = {0};
    set_up(&f, FILES, privileged);
    CHECK_OK(wh_volumes_mount(f.v, NOW, &err), &err);
    holds(&f, "volumes/cm/a", "one");
    holds(&f, "volumes/cm/b", "two");
    CHECK_INT(stat_of(&f, "volumes/cm/raw").st_size, ==, 2);
    CHECK_INT(stat_of(&f, "volumes/cm/a").st_mode & 07777, ==, 0400);
    holds(&f, "secret/sec/pw", "secret");
    holds(&f, "secret/all/deep/er/a", "one");
    holds(&f, "secret/all/deep/b", "two");
    CHECK_INT(stat_of(&f, "secret/all/deep/er/a").st_mode & 07777, ==, 0777);
    holds(&f, "secret/all/labels", "app=\"web\"\ntier=\"front\"");
    holds(&f, "secret/all/cpu", "256");
    holds(&f, "secret/all/token", "default/vault/1");
    if (privileged) {
        struct statfs fs;
        auto_free char *secret = wh_xasprintf("%s/" UID_TEXT "/secret", f.root);
        CHECK_INT(statfs(secret, &fs), ==, 0);
        CHECK_INT(fs.f_type, ==, TMPFS);
        CHECK_INT(stat_of(&f, "volumes/cm/a").st_uid, ==, 4242);
        CHECK(wh_volumes_weaker(f.v) == NULL);
    } else
        CHECK(wh_volumes_weaker(f.v) != NULL);
}

TEST(files_of_objects)
{
    check_files(false);
}

TEST(files_of_objects_as_root)
{
    own_mounts();
    check_files(true);
}

TEST(a_refresh_is_atomic_and_only_when_something_changed)
{
    auto_fixture fixture f = {0};
    wh_err err = {0};
    wh_time next = 0;
    char before[256] = "", after[256] = "";
    set_up(&f, FILES, false);
    CHECK_OK(wh_volumes_mount(f.v, NOW, &err), &err);
    auto_free char *link = wh_xasprintf("%s/" UID_TEXT "/volumes/cm/..data", f.root);
    CHECK_INT(readlink(link, before, sizeof(before) - 1), >, 0);
    CHECK_OK(wh_volumes_refresh(f.v, NOW + WH_SEC, &next, &err), &err);
    CHECK_INT(next, ==, NOW + 800 * WH_SEC);
    CHECK_INT(readlink(link, after, sizeof(after) - 1), >, 0);
    CHECK_STR(after, before);
    json_t *data = json_object_get(json_array_get(f.objects, 0), "data");
    json_object_set_new(data, "a", json_string("changed"));
    json_object_del(data, "b");
    json_object_set_new(data, "new", json_string("file"));
    CHECK_FAIL(wh_volumes_refresh(f.v, NOW + WH_SEC, &next, &err),
               -ENOENT); /* an item's key is gone: that volume stays */
    holds(&f, "secret/all/deep/b", "two");
    holds(&f, "volumes/cm/a", "changed");
    holds(&f, "volumes/cm/b", NULL);
    holds(&f, "volumes/cm/new", "file");
    auto_free char *old = wh_xasprintf("volumes/cm/%s", before);
    holds(&f, old, NULL);
}

TEST(tokens_are_renewed_and_kept_while_they_hold)
{
    auto_fixture fixture f = {0};
    wh_err err = {0};
    wh_time next = 0;
    set_up(&f, FILES, false);
    f.token_rc = -EAGAIN;
    CHECK_ERR(wh_volumes_mount(f.v, NOW, &err), -EAGAIN, &err,
              "the token of service account default is not here yet");
    f.token_rc = 0;
    CHECK_OK(wh_volumes_mount(f.v, NOW, &err), &err);
    f.token_rc = -EIO;
    CHECK_OK(wh_volumes_refresh(f.v, NOW + 800 * WH_SEC, &next, &err), &err);
    CHECK_INT(next, ==, NOW + 810 * WH_SEC);
    holds(&f, "secret/all/token", "default/vault/1");
    CHECK_FAIL(wh_volumes_refresh(f.v, NOW + 1000 * WH_SEC, &next, &err), -EIO);
    f.token_rc = 0;
    CHECK_OK(wh_volumes_refresh(f.v, NOW + 900 * WH_SEC, &next, &err), &err);
    holds(&f, "secret/all/token", "default/vault/2");
}

TEST(what_is_missing_is_said)
{
    auto_fixture fixture f = {0};
    wh_err err = {0};
    set_up(&f,
           "spec:\n  containers: [{name: c, image: i}]\n"
           "  volumes: [{name: v, configMap: {name: none}}]\n",
           false);
    CHECK_ERR(wh_volumes_mount(f.v, NOW, &err), -ENOENT, &err,
              "volume 'v': configmap \"none\" not found in namespace shop: create it, "
              "or mark it as optional.");
    json_array_append_new(f.objects,
                          json_pack("{s:s, s:{s:s}}", "kind", "ConfigMap", "metadata", "name", "none"));
    CHECK_OK(wh_volumes_mount(f.v, NOW, &err), &err);
}

TEST(hostile_keys)
{
    static const char *const keys[] = {"..data", "a/b", "..", ".", "..2026"};
    for (size_t i = 0; i < WH_ARRAY_LEN(keys); i++) {
        auto_fixture fixture f = {.objects = json_pack("[{s:s, s:{s:s}, s:{s:s}}]", "kind", "ConfigMap",
                                                       "metadata", "name", "cm", "data", keys[i], "x")};
        wh_err err = {0};
        set_up(&f,
               "spec:\n  containers: [{name: c, image: i}]\n"
               "  volumes: [{name: v, configMap: {name: cm}}]\n",
               false);
        CHECK_ERR(wh_volumes_mount(f.v, NOW, &err), -EINVAL, &err, "cannot be a file's name");
    }
}

#define EMPTY                                                                                   \
    "spec:\n  securityContext: {fsGroup: 77}\n  containers:\n  - name: c\n    image: i\n"       \
    "    volumeMounts:\n"                                                                       \
    "    - {name: d, mountPath: /d}\n    - {name: m, mountPath: /m, readOnly: true}\n"          \
    "    - {name: d, mountPath: /sub, subPath: x/y}\n    - {name: d, mountPath: /expr, "        \
    "subPathExpr: 'p-$(NAME)'}\n"                                                               \
    "  volumes: [{name: d, emptyDir: {sizeLimit: 64Ki}}, {name: m, emptyDir: {medium: Memory, " \
    "sizeLimit: 1Mi}}]\n"

static void write_in(int dirfd, const char *name, size_t n)
{
    auto_close int fd = openat(dirfd, ".", O_RDONLY | O_CLOEXEC);
    auto_free char *data = wh_xcalloc(n, 1);
    CHECK_OK(wh_write_file(fd, name, data, n, 0644, NULL), NULL);
}

TEST(empty_folders)
{
    auto_fixture fixture f = {0};
    wh_err err = {0};
    wh_mount *mounts = NULL;
    size_t n = 0;
    uint64_t bytes = 0;
    char *env[] = {(char[]){"NAME=web"}, NULL};
    set_up(&f, EMPTY, false);
    CHECK_OK(wh_volumes_mount(f.v, NOW, &err), &err);
    CHECK_OK(wh_volumes_mount(f.v, NOW, &err), &err);
    CHECK_OK(wh_volumes_container(f.v, 0, env, &mounts, &n, &err), &err);
    CHECK_INT(n, ==, 5);
    CHECK_STR(mounts[0].guest_path, "/d");
    CHECK(!mounts[0].read_only);
    CHECK(mounts[1].read_only);
    CHECK_STR(mounts[4].guest_path, "/dev");
    CHECK_INT(faccessat(mounts[4].fd, "termination-log", W_OK, 0), ==, 0);
    CHECK_INT(stat_of(&f, "volumes/d/x/y").st_mode & S_IFMT, ==, S_IFDIR);
    CHECK_INT(stat_of(&f, "volumes/d/p-web").st_mode & S_IFMT, ==, S_IFDIR);
    CHECK_INT(stat_of(&f, "volumes/d").st_mode & 07777, ==, 02777);
    write_in(mounts[0].fd, "file", 32 << 10);
    CHECK_OK(wh_volumes_check_usage(f.v, &bytes, &err), &err);
    CHECK_INT(bytes, >=, 32 << 10);
    write_in(mounts[2].fd, "file", 64 << 10);
    CHECK_ERR(wh_volumes_check_usage(f.v, &bytes, &err), -EDQUOT, &err,
              "Usage of EmptyDir volume \"d\" exceeds the limit");
    wh_mounts_free(mounts, n);
    CHECK_ERR(wh_volumes_container(f.v, 0, NULL, &mounts, &n, &err), -EINVAL, &err,
              "no variable of that name");
}

TEST(locked_mounts)
{
    own_mounts();
    auto_fixture fixture f = {0};
    wh_err err = {0};
    wh_mount *mounts = NULL;
    size_t n = 0;
    char *env[] = {(char[]){"NAME=web"}, NULL};
    struct statfs fs;
    struct stat st;
    set_up(&f, EMPTY, true);
    CHECK_OK(wh_volumes_mount(f.v, NOW, &err), &err);
    CHECK_OK(wh_volumes_container(f.v, 0, env, &mounts, &n, &err), &err);
    CHECK_INT(fstatfs(mounts[0].fd, &fs), ==, 0);
    CHECK_INT(fs.f_flags & (ST_NOSUID | ST_NODEV | ST_NOEXEC | ST_RDONLY), ==,
              ST_NOSUID | ST_NODEV | ST_NOEXEC);
    CHECK_INT(fstatfs(mounts[1].fd, &fs), ==, 0);
    CHECK_INT(fs.f_type, ==, TMPFS);
    CHECK(fs.f_flags & ST_RDONLY);
    CHECK_INT(fs.f_blocks * (uint64_t)fs.f_bsize, ==, 1 << 20);
    CHECK_INT(openat(mounts[1].fd, "x", O_WRONLY | O_CREAT | O_CLOEXEC, 0600), ==, -1);
    CHECK_INT(errno, ==, EROFS);
    CHECK_INT(openat(mounts[0].fd, "..", O_PATH | O_CLOEXEC), >=, 0); /* the mount's own root */
    CHECK_INT(fstatat(mounts[0].fd, "..", &st, 0), ==, 0);
    CHECK_INT(st.st_gid, ==, 77);
    CHECK_INT(st.st_uid, ==, 4242);
    wh_mounts_free(mounts, n);
}

TEST(sub_paths_do_not_lead_out)
{
    auto_fixture fixture f = {0};
    wh_err err = {0};
    wh_mount *mounts = NULL;
    size_t n = 0;
    set_up(&f,
           "spec:\n  containers:\n  - name: c\n    image: i\n    volumeMounts: [{name: d, "
           "mountPath: /d, subPath: out/x}]\n"
           "  - name: g\n    image: i\n    volumeMounts: [{name: d, mountPath: /d, subPath: file}]\n"
           "  - name: h\n    image: i\n    volumeMounts: [{name: d, mountPath: /d, subPath: in/new}]\n"
           "  volumes: [{name: d}]\n",
           false);
    CHECK_OK(wh_volumes_mount(f.v, NOW, &err), &err);
    auto_free char *out = wh_xasprintf("%s/" UID_TEXT "/volumes/d/out", f.root);
    auto_free char *in = wh_xasprintf("%s/" UID_TEXT "/volumes/d/in", f.root);
    auto_free char *real = wh_xasprintf("%s/" UID_TEXT "/volumes/d/real", f.root);
    auto_free char *file = wh_xasprintf("%s/" UID_TEXT "/volumes/d/file", f.root);
    static const char *const targets[] = {"/tmp", "../../..", "/"};
    for (size_t i = 0; i < WH_ARRAY_LEN(targets); i++) {
        CHECK_INT(symlink(targets[i], out), ==, 0);
        CHECK_ERR(wh_volumes_container(f.v, 0, NULL, &mounts, &n, &err), -EACCES, &err,
                  "leads out of its volume");
        unlink(out);
    }
    close(open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    CHECK_ERR(wh_volumes_container(f.v, 1, NULL, &mounts, &n, &err), -ENOTDIR, &err,
              "single files cannot be mounted yet");
    CHECK_INT(mkdir(real, 0755), ==, 0);
    CHECK_INT(symlink("real", in), ==, 0);
    CHECK_OK(wh_volumes_container(f.v, 2, NULL, &mounts, &n, &err), &err);
    CHECK_INT(stat_of(&f, "volumes/d/real/new").st_mode & S_IFMT, ==, S_IFDIR);
    wh_mounts_free(mounts, n);
}

TEST(host_paths)
{
    auto_fixture fixture f = {0};
    wh_err err = {0};
    wh_mount *mounts = NULL;
    size_t n = 0;
    char dir[] = "/tmp/wh-host-XXXXXX";
    CHECK(mkdtemp(dir) != NULL);
    auto_free char *text = wh_xasprintf(
        "spec:\n  containers:\n  - {name: c, image: i, volumeMounts: [{name: h, mountPath: /h}]}\n"
        "  volumes: [{name: h, hostPath: {path: %s}}, {name: w, "
        "hostPath: {path: %s/new, type: DirectoryOrCreate}}]\n",
        dir, dir);
    set_up(&f, text, false);
    CHECK_OK(wh_volumes_mount(f.v, NOW, &err), &err);
    CHECK_OK(wh_volumes_container(f.v, 0, NULL, &mounts, &n, &err), &err);
    CHECK_INT(faccessat(mounts[0].fd, "new", F_OK, 0), ==, 0);
    wh_mounts_free(mounts, n);
    CHECK_OK(wh_volumes_teardown(f.root, UID_TEXT, &err), &err);
    auto_free char *made = wh_path_join(dir, "new");
    CHECK_INT(rmdir(made), ==, 0); /* what is the host's stays */
    CHECK_INT(rmdir(dir), ==, 0);
    wh_volumes *again = wh_volumes_new(&(wh_volumes_config){.root = f.root}, f.spec);
    CHECK_ERR(wh_volumes_mount(again, NOW, &err), -ENOENT, &err, "type DirectoryOrCreate makes it");
    wh_volumes_free(again);
}

TEST(termination_messages)
{
    auto_fixture fixture f = {0};
    wh_err err = {0};
    wh_mount *mounts = NULL;
    size_t n = 0;
    set_up(&f,
           "spec:\n  containers:\n"
           "  - {name: c, image: i, terminationMessagePolicy: FallbackToLogsOnError}\n"
           "  - {name: d, image: i, terminationMessagePath: /v/deep/log, "
           "volumeMounts: [{name: v, mountPath: /v/}]}\n"
           "  - {name: e, image: i, terminationMessagePath: /log}\n  volumes: [{name: v}]\n",
           false);
    CHECK_OK(wh_volumes_mount(f.v, NOW, &err), &err);
    for (size_t i = 0; i < 3; i++) {
        CHECK_OK(wh_volumes_container(f.v, i, NULL, &mounts, &n, &err), &err);
        CHECK_INT(n, ==, i == 2 ? 0 : 1);
        wh_mounts_free(mounts, n);
    }
    CHECK(wh_volumes_termination_message(f.v, 0, true, NULL) == NULL);
    auto_free char *log = wh_xasprintf("%s/" UID_TEXT "/x.log", f.root);
    auto_buf wh_buf text = {0};
    wh_buf_init(&text, 1 << 20);
    for (int i = 0; i < 100; i++)
        wh_buf_printf(&text, "2026-01-02T03:04:05.000000006Z stderr F line %d\n", i);
    wh_buf_puts(&text, "2026-01-02T03:04:05.000000006Z stderr P part");
    CHECK_OK(wh_write_file(AT_FDCWD, log, text.p, text.len, 0600, NULL), NULL);
    auto_free char *tail = wh_volumes_termination_message(f.v, 0, true, log);
    CHECK_CONTAINS(tail, "line 99\npart");
    CHECK_CONTAINS(tail, "line 30\n");
    CHECK(strstr(tail, "line 20\n") == NULL);
    CHECK(strstr(tail, "2026") == NULL);
    CHECK(wh_volumes_termination_message(f.v, 0, false, log) == NULL);
    auto_free char *own = wh_xasprintf("%s/" UID_TEXT "/termination/c/termination-log", f.root);
    CHECK_OK(wh_write_file(AT_FDCWD, own, "bad \xff end", 9, 0600, NULL), NULL);
    auto_free char *message = wh_volumes_termination_message(f.v, 0, true, log);
    CHECK_STR(message, "bad \xEF\xBF\xBD end");
    wh_volumes_termination_reset(f.v, 0);
    CHECK(wh_volumes_termination_message(f.v, 0, false, log) == NULL);
    auto_free char *deep = wh_xasprintf("%s/" UID_TEXT "/volumes/v/deep", f.root);
    auto_free char *inside = wh_path_join(deep, "log");
    CHECK_INT(symlink("/etc", deep), ==, 0);
    CHECK(wh_volumes_termination_message(f.v, 1, true, NULL) == NULL); /* a guest's link is not followed */
    unlink(deep);
    CHECK_INT(mkdir(deep, 0755), ==, 0);
    CHECK_OK(wh_write_file(AT_FDCWD, inside, "in a volume", 11, 0600, NULL), NULL);
    auto_free char *other = wh_volumes_termination_message(f.v, 1, false, NULL);
    CHECK_STR(other, "in a volume");
}

TEST(teardown_takes_only_uids)
{
    wh_err err = {0};
    CHECK_ERR(wh_volumes_teardown("/tmp", "..", &err), -EINVAL, &err, "is no uid");
    CHECK_FAIL(wh_volumes_teardown("/tmp", "", &err), -EINVAL);
    CHECK_FAIL(wh_volumes_teardown("/tmp", "a/b", &err), -EINVAL);
    CHECK_OK(wh_volumes_teardown("/tmp/wh-does-not-exist", "a", &err), &err);
}
