/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>

static char top[64];

static int make_top(void)
{
    (void)snprintf(top, sizeof(top), "/tmp/wh-file-XXXXXX");
    CHECK(mkdtemp(top) != NULL);
    int fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(fd >= 0);
    return fd;
}

TEST(read_file_stops_at_the_limit)
{
    auto_free char *data = NULL;
    size_t len = 77;
    wh_err err = {0};
    CHECK_ERR(wh_read_file(AT_FDCWD, "/proc/version", 4, &data, &len, &err), -EFBIG, &err,
              "read '/proc/version'");
    CHECK(data == NULL);
    CHECK_INT(len, ==, 77);
    CHECK_ERR(wh_read_file(AT_FDCWD, "/nonexistent", 4, &data, &len, &err), -ENOENT, &err,
              "open '/nonexistent'");
    CHECK_ERR(wh_read_file(AT_FDCWD, "/", 4, &data, &len, &err), -EISDIR, &err, "directory");
    CHECK_OK(wh_read_file(AT_FDCWD, "/dev/null", 0, &data, &len, &err), &err);
    CHECK_STR(data, "");
    CHECK_INT(len, ==, 0);
}

TEST(a_written_file_comes_back)
{
    wh_err err = {0};
    struct stat st;
    auto_close int dir = make_top();
    static char data[100001];
    memset(data, 'q', sizeof(data));
    CHECK_OK(wh_write_file(dir, "f", data, sizeof(data), 0640, &err), &err);
    CHECK_OK(wh_write_file(dir, "f", data, sizeof(data) - 1, 0604, &err), &err);
    CHECK_OK(fstatat(dir, "f", &st, 0), NULL);
    CHECK_INT(st.st_mode & 07777, ==, 0604);
    auto_free char *back = NULL;
    size_t n = 0;
    CHECK_OK(wh_read_file(dir, "f", sizeof(data) - 1, &back, &n, &err), &err);
    CHECK_INT(n, ==, sizeof(data) - 1);
    CHECK_MEM(back, data, n);
    CHECK_FAIL(wh_read_file(dir, "f", sizeof(data) - 2, &back, &n, &err), -EFBIG);
    CHECK_ERR(wh_write_file(dir, "no/f", "", 0, 0600, &err), -ENOENT, &err, "write 'no/f': open its folder");
    CHECK_FAIL(wh_write_file(dir, "x/", "", 0, 0600, &err), -EISDIR);
    CHECK_OK(mkdirat(dir, "d", 0755), NULL);
    CHECK_ERR(wh_write_file(dir, "d", "", 0, 0600, &err), -EISDIR, &err, "write 'd'");
    CHECK_OK(unlinkat(dir, "f", 0), NULL);
    CHECK_OK(unlinkat(dir, "d", AT_REMOVEDIR), NULL);
    CHECK_OK(rmdir(top), NULL); /* no temporary file is left */
}

TEST(folders_with_their_parents)
{
    wh_err err = {0};
    auto_close int dir = make_top();
    auto_free char *deep = wh_path_join(top, "a//b/c/");
    CHECK_OK(wh_mkdir_p(deep, 0755, &err), &err);
    CHECK_OK(wh_mkdir_p(deep, 0755, &err), &err);
    CHECK_OK(wh_mkdir_p("/", 0755, &err), &err);
    CHECK_OK(wh_write_file(dir, "a/f", "", 0, 0600, &err), &err);
    auto_free char *under = wh_path_join(top, "a/f/x");
    CHECK_FAIL(wh_mkdir_p(under, 0755, &err), -ENOTDIR);
    CHECK_FAIL(wh_mkdir_p("", 0755, &err), -ENOENT);
    CHECK_OK(wh_rm_rf(AT_FDCWD, top, &err), &err);
}

TEST(removal_follows_no_link)
{
    wh_err err = {0};
    auto_close int dir = make_top();
    CHECK_OK(mkdirat(dir, "keep", 0755), NULL);
    CHECK_OK(wh_write_file(dir, "keep/me", "", 0, 0600, &err), &err);
    CHECK_OK(mkdirat(dir, "tree", 0755), NULL);
    CHECK_OK(symlinkat("../keep", dir, "tree/link"), NULL);
    CHECK_OK(symlinkat("keep", dir, "link"), NULL);
    CHECK_OK(wh_rm_rf(dir, "tree", &err), &err);
    CHECK_OK(wh_rm_rf(dir, "link/", &err), &err);
    CHECK_OK(wh_rm_rf(dir, "link", &err), &err);
    CHECK_OK(wh_rm_rf(dir, "nothing", &err), &err);
    CHECK_OK(faccessat(dir, "keep/me", F_OK, 0), NULL);
    CHECK_INT(faccessat(dir, "tree", F_OK, 0), ==, -1);
    CHECK_OK(wh_rm_rf(AT_FDCWD, top, &err), &err);
}

/* Deeper than there may be descriptors, with a folder that nobody may enter, and many files. */
TEST(removal_of_deep_and_wide_trees)
{
    wh_err err = {0};
    auto_close int dir = make_top();
    int at = dup(dir);
    for (int i = 0; i < 1500; i++) {
        CHECK_OK(mkdirat(at, "d", 0755), NULL);
        CHECK_OK(mkdirat(at, "e", 0755), NULL);
        int next = openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        CHECK(next >= 0);
        close(at);
        at = next;
    }
    for (int i = 0; i < 3000; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "f%d", i);
        close(openat(dir, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    }
    CHECK_OK(mkdirat(dir, "closed", 0), NULL);
    close(at);
    CHECK_OK(wh_rm_rf(AT_FDCWD, top, &err), &err);
    CHECK_INT(access(top, F_OK), ==, -1);
}

TEST(paths_are_joined_by_one_slash)
{
    static const char *const cases[][3] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"a//", "/b", "a/b"},
                                           {"/", "b", "/b"},  {"", "b", "b"},     {"/a", "", "/a/"}};
    for (size_t i = 0; i < WH_ARRAY_LEN(cases); i++) {
        auto_free char *joined = wh_path_join(cases[i][0], cases[i][1]);
        CHECK_STR(joined, cases[i][2]);
    }
}
