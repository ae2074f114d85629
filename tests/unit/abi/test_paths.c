/* SPDX-License-Identifier: Apache-2.0 */
/* Paths: every path_ function, what it refuses, and that nothing leads out of the folder, with openat2 and
 * without. */
#include "base/file.h"
#include "guest.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>

static int two_paths(guest *g, const char *name, const char *from, const char *to)
{
    uint32_t n = guest_put(g, PATH_AT, from), m = guest_put(g, PATH2_AT, to);
    if (wh_streq(name, "path_rename"))
        return CALL(g, name, DIR_FD, PATH_AT, n, DIR_FD, PATH2_AT, m);
    if (wh_streq(name, "path_link"))
        return CALL(g, name, DIR_FD, 0, PATH_AT, n, DIR_FD, PATH2_AT, m);
    return CALL(g, name, PATH_AT, n, DIR_FD, PATH2_AT, m); /* path_symlink: text, then where */
}

static int stat_path(guest *g, int flags, const char *path)
{
    uint32_t n = guest_put(g, PATH_AT, path);
    return CALL(g, "path_filestat_get", DIR_FD, flags, PATH_AT, n, 200);
}

static int readlink_path(guest *g, const char *path, uint32_t room, char *out)
{
    uint32_t n = guest_put(g, PATH_AT, path);
    int rc = CALL(g, "path_readlink", DIR_FD, PATH_AT, n, BUF_AT, room, RET_AT);
    if (rc == OK) {
        memcpy(out, g->mem + BUF_AT, guest_u32(g, RET_AT));
        out[guest_u32(g, RET_AT)] = '\0';
    }
    return rc;
}

static int times_path(guest *g, int flags, const char *path, int fst)
{
    uint32_t n = guest_put(g, PATH_AT, path);
    return CALL(g, "path_filestat_set_times", DIR_FD, flags, PATH_AT, n, INT64_C(1000), INT64_C(2000), fst);
}

TEST(open_flags)
{
    auto_guest *g = guest_new(NULL);
    int fd;
    CHECK_INT(open_at(g, 0, "f", 0, READ, 0, &fd), ==, ENOENT_);
    CHECK_INT(open_at(g, 0, "f", EXCL, READ, 0, &fd), ==, ENOENT_); /* means nothing alone */
    CHECK_INT(open_at(g, 0, "f", CREAT | EXCL, RW, 0, &fd), ==, OK);
    CHECK_INT(write_fd(g, fd, "text"), ==, OK);
    CHECK_INT(open_at(g, 0, "f", CREAT | EXCL, RW, 0, &fd), ==, EEXIST_);
    CHECK_INT(open_at(g, 0, "f", CREAT, 0, 0, &fd), ==, OK);
    CHECK_INT(open_at(g, 0, "f", TRUNC, READ, 0, &fd), ==, OK); /* truncating is writing */
    CHECK_INT(stat_path(g, 0, "f"), ==, OK);
    CHECK_INT(guest_u64(g, 232), ==, 0);
    CHECK_INT(open_at(g, 0, "f", DIRECTORY, READ, 0, &fd), ==, ENOTDIR_);
    CHECK_INT(open_at(g, 0, "d", DIRECTORY | CREAT, READ, 0, &fd), ==, EINVAL_);
    CHECK_INT(open_at(g, 0, "f", DIRECTORY | TRUNC, READ, 0, &fd), ==, EINVAL_);
    CHECK_INT(open_at(g, 0, "f", DIRECTORY | EXCL, READ, 0, &fd), ==, EINVAL_);
    CHECK_INT(open_at(g, 0, "f", 0, READ, SYNC, &fd), ==, ENOTSUP_);
    CHECK_INT(open_at(g, 0, "f", 0, READ, DSYNC, &fd), ==, ENOTSUP_);
    CHECK_INT(open_at(g, 0, "f", 0, READ, RSYNC, &fd), ==, ENOTSUP_);
    CHECK_INT(open_at(g, 0, ".", 0, RW, 0, &fd), ==, EISDIR_);
    CHECK_INT(open_at(g, 0, "f/x", 0, READ, 0, &fd), ==, ENOTDIR_);
    CHECK_INT(open_at(g, 0, "", 0, READ, 0, &fd), ==, ENOENT_);
    CHECK_INT(open_at(g, 0, "f\xff", 0, READ, 0, &fd), ==, EILSEQ_);
    guest_put(g, PATH_AT, "a");
    g->mem[PATH_AT + 1] = 0;
    CHECK_INT(CALL(g, "path_open", DIR_FD, 0, PATH_AT, 2, 0, 0, 0, 0, RET_AT), ==, EINVAL_);
    CHECK_INT(open_at(g, 0, "\xc3\xa4", CREAT, RW, 0, &fd), ==, OK);
}

TEST(open_links)
{
    auto_guest *g = guest_new(NULL);
    int fd;
    host_write(g, "f", "x");
    host_mkdir(g, "d");
    host_link(g, "f", "lf");
    host_link(g, "d", "ld");
    host_link(g, "loop", "loop");
    CHECK_INT(open_at(g, FOLLOW, "lf", 0, READ, 0, &fd), ==, OK);
    CHECK_INT(open_at(g, 0, "lf", 0, READ, 0, &fd), ==, ELOOP_);
    CHECK_INT(open_at(g, FOLLOW, "ld", DIRECTORY, READ, 0, &fd), ==, OK);
    CHECK_INT(open_at(g, 0, "ld", DIRECTORY, READ, 0, &fd), ==, ELOOP_);
    CHECK_INT(open_at(g, FOLLOW, "loop", 0, READ, 0, &fd), ==, ELOOP_);
    CHECK_INT(open_at(g, 0, "ld/../f", 0, READ, 0, &fd), ==, OK);
}

TEST(folders_are_made_and_removed)
{
    auto_guest *g = guest_new(NULL);
    host_write(g, "f", "x");
    host_mkdir(g, "full");
    host_write(g, "full/x", "");
    host_link(g, "full", "link");
    CHECK_INT(path_call(g, "path_create_directory", "d"), ==, OK);
    CHECK_INT(path_call(g, "path_create_directory", "d"), ==, EEXIST_);
    CHECK_INT(path_call(g, "path_create_directory", "d/e//"), ==, OK);
    CHECK_INT(path_call(g, "path_create_directory", "x/y"), ==, ENOENT_);
    CHECK_INT(path_call(g, "path_create_directory", "f/y"), ==, ENOTDIR_);
    CHECK_INT(path_call(g, "path_create_directory", ""), ==, ENOENT_);
    CHECK_INT(path_call(g, "path_remove_directory", "f"), ==, ENOTDIR_);
    CHECK_INT(path_call(g, "path_remove_directory", "f/"), ==, ENOTDIR_);
    CHECK_INT(path_call(g, "path_remove_directory", "link/"), ==, ENOTDIR_);
    CHECK_INT(path_call(g, "path_remove_directory", "full"), ==, ENOTEMPTY_);
    CHECK_INT(path_call(g, "path_remove_directory", "d/e/"), ==, OK);
    CHECK_INT(path_call(g, "path_remove_directory", "d"), ==, OK);
    CHECK_INT(path_call(g, "path_remove_directory", "d"), ==, ENOENT_);
    CHECK_INT(path_call(g, "path_remove_directory", "."), ==, EINVAL_);
}

TEST(unlink)
{
    auto_guest *g = guest_new(NULL);
    host_write(g, "f", "x");
    host_mkdir(g, "d");
    host_link(g, "d", "link");
    CHECK_INT(path_call(g, "path_unlink_file", "d"), ==, EISDIR_);
    CHECK_INT(path_call(g, "path_unlink_file", "d/"), ==, EISDIR_);
    CHECK_INT(path_call(g, "path_unlink_file", "f/"), ==, ENOTDIR_);
    CHECK(host_exists(g, "f"));
    CHECK_INT(path_call(g, "path_unlink_file", "link/"), ==, EISDIR_);
    CHECK_INT(path_call(g, "path_unlink_file", "link"), ==, OK);
    CHECK(host_exists(g, "d"));
    CHECK_INT(path_call(g, "path_unlink_file", "f"), ==, OK);
    CHECK_INT(path_call(g, "path_unlink_file", "f"), ==, ENOENT_);
}

TEST(stat_follows_when_told)
{
    auto_guest *g = guest_new(NULL);
    host_write(g, "f", "12345");
    host_mkdir(g, "d");
    host_link(g, "f", "link");
    host_link(g, "nowhere", "dangling");
    CHECK_INT(stat_path(g, 0, "link"), ==, OK);
    CHECK_INT(g->mem[216], ==, 7);
    CHECK_INT(guest_u64(g, 232), ==, 1);
    CHECK_INT(stat_path(g, FOLLOW, "link"), ==, OK);
    CHECK_INT(g->mem[216], ==, 4);
    CHECK_INT(stat_path(g, FOLLOW, "dangling"), ==, ENOENT_);
    CHECK_INT(stat_path(g, 0, "dangling"), ==, OK);
    CHECK_INT(stat_path(g, 0, "d/../f"), ==, OK);
    CHECK_INT(stat_path(g, 0, "f/"), ==, ENOTDIR_);
    CHECK_INT(stat_path(g, 0, "d/"), ==, OK);
    CHECK_INT(stat_path(g, 0, "."), ==, OK);
    CHECK_INT(stat_path(g, 0, ""), ==, ENOENT_);
}

TEST(times_of_paths)
{
    auto_guest *g = guest_new(NULL);
    host_write(g, "f", "x");
    host_mkdir(g, "d");
    host_link(g, "f", "link");
    CHECK_INT(times_path(g, 0, "f", 5), ==, OK);
    CHECK_INT(stat_path(g, 0, "f"), ==, OK);
    CHECK_INT(guest_u64(g, 240), ==, 1000);
    CHECK_INT(guest_u64(g, 248), ==, 2000);
    CHECK_INT(times_path(g, FOLLOW, "link", 1 | 8), ==, OK);
    CHECK_INT(stat_path(g, 0, "f"), ==, OK);
    CHECK_INT(guest_u64(g, 248), >, 2000);
    CHECK_INT(times_path(g, 0, "link", 5), ==, OK);
    CHECK_INT(stat_path(g, 0, "link"), ==, OK);
    CHECK_INT(guest_u64(g, 248), ==, 2000);
    CHECK_INT(times_path(g, FOLLOW, "d", 5), ==, OK);
    CHECK_INT(times_path(g, FOLLOW, "missing", 5), ==, ENOENT_);
    CHECK_INT(times_path(g, 0, "f", 3), ==, EINVAL_);
}

TEST(links)
{
    auto_guest *g = guest_new(NULL);
    char text[64];
    host_write(g, "f", "x");
    host_mkdir(g, "d");
    CHECK_INT(two_paths(g, "path_symlink", "f", "s"), ==, OK);
    CHECK_INT(two_paths(g, "path_symlink", "f", "s"), ==, EEXIST_);
    CHECK_INT(two_paths(g, "path_symlink", "/etc/passwd", "t"), ==, EPERM_);
    CHECK_INT(two_paths(g, "path_symlink", "", "t"), ==, ENOENT_);
    CHECK_INT(two_paths(g, "path_symlink", "../up", "d/t"), ==,
              OK); /* a text; following it is another matter */
    CHECK_INT(readlink_path(g, "s", 64, text), ==, OK);
    CHECK_STR(text, "f");
    CHECK_INT(readlink_path(g, "d/t", 3, text), ==, OK); /* cut */
    CHECK_STR(text, "../");
    CHECK_INT(readlink_path(g, "f", 64, text), ==, EINVAL_);
    CHECK_INT(readlink_path(g, "x", 64, text), ==, ENOENT_);
    host_link(g, "/etc/passwd", "abs");
    CHECK_INT(readlink_path(g, "abs", 64, text), ==, EPERM_);
    host_link(g, "\xff", "bad");
    CHECK_INT(readlink_path(g, "bad", 64, text), ==, EILSEQ_);
    CHECK_INT(two_paths(g, "path_link", "f", "h"), ==, OK);
    CHECK_INT(two_paths(g, "path_link", "f", "h"), ==, EEXIST_);
    CHECK_INT(two_paths(g, "path_link", "d", "hd"), ==, EPERM_);
    CHECK_INT(two_paths(g, "path_link", "f/", "h2"), ==, ENOTDIR_);
    CHECK_INT(two_paths(g, "path_link", "s", "hs"), ==, OK); /* of the link itself */
    CHECK_INT(stat_path(g, 0, "hs"), ==, OK);
    CHECK_INT(g->mem[216], ==, 7);
    guest_put(g, PATH_AT, "s");
    guest_put(g, PATH2_AT, "h3");
    CHECK_INT(CALL(g, "path_link", DIR_FD, FOLLOW, PATH_AT, 1, DIR_FD, PATH2_AT, 2), ==, EINVAL_);
}

TEST(rename_moves_files_and_folders)
{
    auto_guest *g = guest_new(NULL);
    host_write(g, "f", "x");
    host_mkdir(g, "d");
    host_mkdir(g, "e");
    host_write(g, "e/x", "");
    host_link(g, "d", "link");
    CHECK_INT(two_paths(g, "path_rename", "f", "g"), ==, OK);
    CHECK_INT(two_paths(g, "path_rename", "f", "g"), ==, ENOENT_);
    CHECK_INT(two_paths(g, "path_rename", "g/", "h"), ==, ENOTDIR_);
    CHECK_INT(two_paths(g, "path_rename", "link/", "h"), ==, ENOTDIR_);
    CHECK_INT(two_paths(g, "path_rename", "g", "d"), ==, EISDIR_);
    CHECK_INT(two_paths(g, "path_rename", "d", "g"), ==, ENOTDIR_);
    CHECK_INT(two_paths(g, "path_rename", "d", "e"), ==, ENOTEMPTY_);
    CHECK_INT(two_paths(g, "path_rename", "d", "d/sub"), ==, EINVAL_);
    CHECK_INT(two_paths(g, "path_rename", "d/", "moved/"), ==, OK);
    CHECK(host_exists(g, "moved"));
    CHECK_INT(two_paths(g, "path_rename", ".", "x"), >, OK);
    CHECK_INT(two_paths(g, "path_rename", "g", "e/../moved/g"), ==, OK);
    CHECK(host_exists(g, "moved/g"));
}

TEST(a_read_only_folder_stays_as_it_is)
{
    auto_guest *g = guest_new(NULL);
    char path[128];
    wh_err err = {0};
    int fd;
    host_mkdir(g, "ro");
    host_write(g, "ro/f", "x");
    host_write(g, "free", "x");
    snprintf(path, sizeof(path), "%s/ro", g->dir);
    CHECK_OK(wh_wasi_preopen_dir(g->wasi, open(path, O_PATH | O_DIRECTORY | O_CLOEXEC), "/ro", true, &err),
             &err);
    guest_put(g, PATH_AT, "f");
    guest_put(g, PATH2_AT, "n");
#define RO_OPEN(oflags, rights) CALL(g, "path_open", 4, 0, PATH_AT, 1, (oflags), (rights), 0, 0, RET_AT)
    CHECK_INT(RO_OPEN(0, READ), ==, OK);
    fd = (int)guest_u32(g, RET_AT);
    CHECK_INT(RO_OPEN(0, WRITE), ==, EPERM_);
    CHECK_INT(RO_OPEN(CREAT, 0), ==, EPERM_);
    CHECK_INT(RO_OPEN(TRUNC, 0), ==, EPERM_);
    CHECK_INT(write_fd(g, fd, "y"), ==, EBADF_);
    CHECK_INT(CALL(g, "fd_filestat_set_size", fd, 0), ==, EPERM_);
    CHECK_INT(CALL(g, "fd_filestat_set_times", fd, 0, 0, 5), ==, EPERM_);
    CHECK_INT(CALL(g, "fd_allocate", fd, 0, 10), ==, EPERM_);
    guest_put(g, PATH_AT, "f");
    CHECK_INT(CALL(g, "path_unlink_file", 4, PATH_AT, 1), ==, EPERM_);
    CHECK_INT(CALL(g, "path_remove_directory", 4, PATH_AT, 1), ==, EPERM_);
    CHECK_INT(CALL(g, "path_create_directory", 4, PATH2_AT, 1), ==, EPERM_);
    CHECK_INT(CALL(g, "path_symlink", PATH_AT, 1, 4, PATH2_AT, 1), ==, EPERM_);
    CHECK_INT(CALL(g, "path_rename", 4, PATH_AT, 1, 4, PATH2_AT, 1), ==, EPERM_);
    CHECK_INT(CALL(g, "path_filestat_set_times", 4, 0, PATH_AT, 1, 0, 0, 5), ==, EPERM_);
    /* Nor can a second name outside it give the right to write. */
    CHECK_INT(CALL(g, "path_link", 4, 0, PATH_AT, 1, DIR_FD, PATH2_AT, 1), ==, EPERM_);
    CHECK_INT(CALL(g, "path_rename", 4, PATH_AT, 1, DIR_FD, PATH2_AT, 1), ==, EPERM_);
    guest_put(g, PATH_AT, "free");
    CHECK_INT(CALL(g, "path_link", DIR_FD, 0, PATH_AT, 4, 4, PATH2_AT, 1), ==, EPERM_);
    CHECK_INT(CALL(g, "path_rename", DIR_FD, PATH_AT, 4, 4, PATH2_AT, 1), ==, EPERM_);
    /* A folder opened beneath it is no way around. */
    guest_put(g, PATH_AT, ".");
    CHECK_INT(CALL(g, "path_open", 4, 0, PATH_AT, 1, DIRECTORY, INT64_C(0), 0, 0, RET_AT), ==, OK);
    fd = (int)guest_u32(g, RET_AT);
    guest_put(g, PATH_AT, "f");
    CHECK_INT(CALL(g, "path_open", fd, 0, PATH_AT, 1, TRUNC, INT64_C(0), 0, 0, RET_AT), ==, EPERM_);
    CHECK_INT(CALL(g, "path_unlink_file", fd, PATH_AT, 1), ==, EPERM_);
}

/* The guest's folder becomes "jail" inside another one that holds "secret" and "prison" (an empty folder). */
static guest *jailed(bool fallback)
{
    guest *g = guest_new(NULL);
    char path[128];
    wh_err err = {0};

    host_mkdir(g, "jail");
    host_mkdir(g, "prison");
    host_mkdir(g, "jail/d");
    host_write(g, "secret", "the secret");
    host_write(g, "jail/f", "x");
    snprintf(path, sizeof(path), "%s/jail", g->dir);
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_OK(wh_wasi_preopen_dir(g->wasi, fd, "/jail", false, &err), &err);
    CHECK_INT(CALL(g, "fd_renumber", 4, DIR_FD), ==, OK);
    host_link(g, "../secret", "jail/up");
    host_link(g, "../../secret", "jail/d/up2");
    host_link(g, "..", "jail/parent");
    host_link(g, g->dir, "jail/absolute");
    host_link(g, "/etc/passwd", "jail/passwd");
    host_link(g, "/proc/self/root", "jail/magic");
    host_link(g, "d", "jail/inside");
    host_link(g, "parent", "jail/chain");
    wh_wasi_force_path_fallback(fallback);
    return g;
}

static const char *const ways_out[] = {
    "..",
    "../",
    "../secret",
    "./../secret",
    "d/../../secret",
    "d/../..",
    "inside/../../secret",
    "/",
    "/etc/passwd",
    "//etc/passwd",
    "up",
    "d/up2",
    "inside/up2",
    "parent/secret",
    "parent/../x",
    "chain/secret",
    "chain/prison",
    "absolute/secret",
    "passwd",
    "magic/etc/passwd",
    "d/../parent/secret",
    "absolute/",
    "parent/",
    "chain/.",
    "chain/..",
    "magic/",
    "parent/jail/f",
    "d/./../../jail/f",
};

static void no_way_out(bool fallback)
{
    auto_guest *g = jailed(fallback);
    char text[256];
    int fd;

    for (size_t i = 0; i < WH_ARRAY_LEN(ways_out); i++) {
        const char *way = ways_out[i];
        fprintf(stderr, "# %s\n", way);
        CHECK_INT(open_at(g, FOLLOW, way, 0, READ, 0, &fd), ==, EPERM_);
        CHECK_INT(open_at(g, FOLLOW, way, DIRECTORY, READ, 0, &fd), ==, EPERM_);
        CHECK_INT(open_at(g, FOLLOW, way, CREAT, RW, 0, &fd), >, OK);
        CHECK_INT(open_at(g, FOLLOW, way, TRUNC, RW, 0, &fd), >, OK);
        CHECK_INT(stat_path(g, FOLLOW, way), ==, EPERM_);
        CHECK_INT(times_path(g, FOLLOW, way, 5), ==, EPERM_);
        CHECK_INT(path_call(g, "path_create_directory", way), >, OK);
        CHECK_INT(path_call(g, "path_remove_directory", way), >, OK);
        snprintf(text, sizeof(text), "%s/new", way);
        CHECK_INT(path_call(g, "path_create_directory", text), >, OK);
        CHECK_INT(two_paths(g, "path_rename", "f", text), >, OK);
        CHECK_INT(two_paths(g, "path_link", "f", text), >, OK);
        CHECK_INT(two_paths(g, "path_symlink", "f", text), >, OK);
        CHECK_INT(path_call(g, "path_unlink_file", text), >, OK);
        snprintf(text, sizeof(text), "%s/../secret", way);
        CHECK_INT(two_paths(g, "path_link", text, "stolen"), >, OK);
        CHECK_INT(two_paths(g, "path_rename", text, "stolen"), >, OK);
        CHECK_INT(readlink_path(g, text, 64, text), >, OK);
    }
    wh_wasi_force_path_fallback(false);
    auto_free char *secret = host_read(g, "secret");
    CHECK_STR(secret, "the secret");
    CHECK(host_exists(g, "prison"));
    CHECK(host_exists(g, "jail/f"));
    CHECK(!host_exists(g, "new"));
    CHECK(!host_exists(g, "jail/stolen"));
}

TEST(nothing_leads_out)
{
    no_way_out(false);
}

TEST(nothing_leads_out_without_openat2)
{
    no_way_out(true);
}

static void links_themselves_can_be_named(bool fallback)
{
    auto_guest *g = jailed(fallback);
    char text[64];
    CHECK_INT(stat_path(g, 0, "up"), ==, OK);
    CHECK_INT(g->mem[216], ==, 7);
    CHECK_INT(readlink_path(g, "up", 64, text), ==, OK);
    CHECK_STR(text, "../secret");
    CHECK_INT(two_paths(g, "path_rename", "up", "d/up"), ==, OK);
    CHECK_INT(two_paths(g, "path_link", "d/up", "hard"), ==, OK);
    CHECK_INT(stat_path(g, FOLLOW, "hard"), ==, EPERM_);
    CHECK_INT(path_call(g, "path_unlink_file", "hard"), ==, OK);
    CHECK_INT(path_call(g, "path_unlink_file", "passwd"), ==, OK);
    CHECK(host_exists(g, "secret"));
}

TEST(links_that_lead_out_can_be_named)
{
    links_themselves_can_be_named(false);
    links_themselves_can_be_named(true);
}

static void long_names(bool fallback)
{
    auto_guest *g = guest_new(NULL);
    char name[4200];
    int fd;
    wh_wasi_force_path_fallback(fallback);
    memset(name, 'n', sizeof(name));
    name[255] = '\0';
    CHECK_INT(open_at(g, 0, name, CREAT, RW, 0, &fd), ==, OK);
    name[255] = 'n';
    name[256] = '\0';
    CHECK_INT(open_at(g, 0, name, CREAT, RW, 0, &fd), ==, ENAMETOOLONG_);
    CHECK_INT(path_call(g, "path_create_directory", name), ==, ENAMETOOLONG_);
    for (size_t i = 0; i < 4095; i += 2)
        memcpy(name + i, "./", 2);
    name[4095] = '\0'; /* the longest */
    CHECK_INT(open_at(g, 0, name, 0, READ, 0, &fd), ==, OK);
    name[4095] = '.';
    name[4096] = '\0';
    CHECK_INT(open_at(g, 0, name, 0, READ, 0, &fd), ==, ENAMETOOLONG_);
    CHECK_INT(stat_path(g, 0, name), ==, ENAMETOOLONG_);
}

TEST(names_have_limits)
{
    long_names(false);
    long_names(true);
}

typedef struct race {
    guest *g;
    atomic_bool stop;
} race;

/* Swaps a folder and a link that leads out, and moves the folder that the walk stands in, as fast as it can.
 */
static void *swap(void *arg)
{
    race *r = arg;
    int dir = r->g->dir_fd;

    while (!atomic_load(&r->stop)) {
        (void)renameat2(dir, "jail/a/b", dir, "jail/evil", RENAME_EXCHANGE);
        (void)renameat(dir, "jail/a", dir, "prison/a");
        (void)renameat(dir, "prison/a", dir, "jail/a");
    }
    return NULL;
}

static void race_out(bool fallback)
{
    static const char *const paths[] = {"a/b/secret",       "a/b/../../../secret",
                                        "evil/secret",      "a/b/c/../../../secret",
                                        "a/../a/../secret", "a/../../secret"};
    auto_guest *g = jailed(fallback);
    race r = {.g = g};
    pthread_t thread;
    char text[64];
    uint32_t n;
    int fd, opened = 0;
    host_mkdir(g, "jail/a");
    host_mkdir(g, "jail/a/b");
    host_mkdir(g, "jail/a/b/c");
    host_write(g, "jail/a/b/secret", "ours");
    host_link(g, "..", "jail/evil");
    CHECK_INT(pthread_create(&thread, NULL, swap, &r), ==, 0);
    for (int i = 0; i < 20000; i++) {
        if (open_at(g, FOLLOW, paths[(size_t)i % WH_ARRAY_LEN(paths)], 0, READ, 0, &fd) != OK)
            continue;
        CHECK_INT(read_fd(g, fd, 63, text, &n), ==, OK);
        CHECK_STR(text, "ours");
        CHECK_INT(CALL(g, "fd_close", fd), ==, OK);
        opened++;
    }
    atomic_store(&r.stop, true);
    pthread_join(thread, NULL);
    CHECK_INT(opened, >, 0);
}

TEST_TIMEOUT(renames_elsewhere_open_no_way, 120)
{
    race_out(false);
}

TEST_TIMEOUT(renames_elsewhere_open_no_way_without_openat2, 120)
{
    race_out(true);
}
