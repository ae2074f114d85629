/* SPDX-License-Identifier: Apache-2.0 */
/* Every case runs against the kernel and against our walk: they must answer the same. */
#include "base/file.h"
#include "harness.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>

static char top[64];

/* top/secret lies outside of top/root, which is what the cases try to reach it from. */
static int make_tree(void)
{
    wh_err err = {0};
    (void)snprintf(top, sizeof(top), "/tmp/wh-openat2-XXXXXX");
    CHECK(mkdtemp(top) != NULL);
    auto_close int fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK_OK(wh_write_file(fd, "secret", "s", 1, 0600, &err), &err);
    CHECK_OK(mkdirat(fd, "root", 0755), NULL);
    int root = openat(fd, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK_OK(mkdirat(root, "dir", 0755), NULL);
    CHECK_OK(mkdirat(root, "dir/sub", 0755), NULL);
    CHECK_OK(wh_write_file(root, "file", "f", 1, 0600, &err), &err);
    CHECK_OK(wh_write_file(root, "secret", "i", 1, 0600, &err), &err);
    CHECK_OK(wh_write_file(root, "dir/inner", "n", 1, 0600, &err), &err);
    static const char *const links[][2] = {
        {"to_file", "file"},         {"to_dir", "dir"},          {"up", ".."},
        {"to_secret", "../secret"},  {"abs", "/secret"},         {"self", "self"},
        {"dangling", "nowhere"},     {"dir/back", "../file"},    {"dir/out", "../../secret"},
        {"chain1", "chain2"},        {"chain2", "to_dir/back"},  {"to_dir_slash", "dir/"},
        {"proc", "/proc/self/root"}, {"to_file_slash", "file/"}, {"to_abs_dir", "/dir"},
    };
    for (size_t i = 0; i < WH_ARRAY_LEN(links); i++)
        CHECK_OK(symlinkat(links[i][1], root, links[i][0]), NULL);
    return root;
}

static void remove_tree(void)
{
    wh_err err = {0};
    CHECK_OK(wh_rm_rf(AT_FDCWD, top, &err), &err);
    CHECK_INT(access(top, F_OK), ==, -1);
}

static const char *const paths[] = {
    "file",
    "./file",
    "dir/inner",
    "dir/../file",
    "dir/sub/../../file",
    "..",
    "../secret",
    "dir/../../secret",
    "/",
    "/file",
    "/secret",
    "/../secret",
    "/../../secret",
    "to_file",
    "to_dir/inner",
    "to_dir/../file",
    "up",
    "up/secret",
    "up/root/file",
    "to_secret",
    "abs",
    "self",
    "self/x",
    "dangling",
    "dangling/x",
    "dir/back",
    "dir/out",
    "chain1",
    "to_dir_slash/inner",
    "to_dir_slash",
    "proc/etc/passwd",
    "file/",
    "file/.",
    "file/..",
    "dir/",
    "dir//",
    "dir/.",
    "dir/sub/..",
    ".",
    "./",
    "",
    "to_file/",
    "to_dir/",
    "to_file_slash",
    "nowhere",
    "nowhere/",
    "nowhere/..",
    "to_abs_dir/inner",
    "dir///inner",
    "to_dir/sub/../../to_dir/inner",
    "up/",
    "dir/sub/../..",
    "dir/sub/../../..",
    "abs/",
    "dangling/",
};

static bool same_file(int a, int b)
{
    struct stat x, y;
    CHECK_OK(fstat(a, &x), NULL);
    CHECK_OK(fstat(b, &y), NULL);
    return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static void compare(int root, const char *path, int flags, uint64_t resolve)
{
    wh_openat2_force_fallback(false);
    auto_close int kernel = wh_openat2(root, path, flags, 0600, resolve);
    if (kernel == -ENOSYS)
        SKIP("this kernel has no openat2");
    wh_openat2_force_fallback(true);
    auto_close int walk = wh_openat2(root, path, flags, 0600, resolve);
    bool same = kernel < 0 ? kernel == walk : walk >= 0 && same_file(kernel, walk);
    if (!same)
        wh_test_fail(__FILE__, __LINE__, "'%s' flags %o resolve %x: kernel %d, walk %d", path,
                     (unsigned)flags, (unsigned)resolve, kernel, walk);
    if (walk >= 0 && (flags & O_CLOEXEC) == 0)
        CHECK_INT(fcntl(walk, F_GETFD) & FD_CLOEXEC, ==, FD_CLOEXEC);
}

TEST(the_walk_answers_as_the_kernel)
{
    static const int flags[] = {O_RDONLY,
                                O_RDWR,
                                O_PATH,
                                O_PATH | O_NOFOLLOW,
                                O_RDONLY | O_NOFOLLOW,
                                O_RDONLY | O_DIRECTORY,
                                O_RDONLY | O_DIRECTORY | O_NOFOLLOW,
                                O_PATH | O_DIRECTORY};
    static const uint64_t resolves[] = {0,
                                        RESOLVE_BENEATH,
                                        RESOLVE_IN_ROOT,
                                        RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
                                        RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS,
                                        RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    int root = make_tree();
    for (size_t p = 0; p < WH_ARRAY_LEN(paths); p++) {
        for (size_t f = 0; f < WH_ARRAY_LEN(flags); f++) {
            for (size_t r = 0; r < WH_ARRAY_LEN(resolves); r++)
                compare(root, paths[p], flags[f], resolves[r]);
        }
    }
    close(root);
    remove_tree();
}

/* Creating changes the tree, so each way gets the same fresh one. */
TEST(creation_answers_as_the_kernel)
{
    static const char *const names[] = {"new", "dir/new", "../new",      "dangling", "to_secret", "new/",
                                        "dir", "dir/",    "file",        "to_file",  "/new",      "abs",
                                        ".",   "..",      "nowhere/new", "up/new",   "dangling/"};
    static const int flags[] = {O_CREAT | O_WRONLY, O_CREAT | O_EXCL | O_WRONLY,
                                O_CREAT | O_WRONLY | O_NOFOLLOW, O_CREAT | O_WRONLY | O_TRUNC};
    for (size_t f = 0; f < WH_ARRAY_LEN(flags); f++) {
        for (size_t p = 0; p < WH_ARRAY_LEN(names); p++) {
            for (int in_root = 0; in_root < 2; in_root++) {
                int codes[2];
                for (int way = 0; way < 2; way++) {
                    int root = make_tree();
                    wh_openat2_force_fallback(way == 1);
                    codes[way] = wh_openat2(root, names[p], flags[f], 0600,
                                            in_root ? RESOLVE_IN_ROOT : RESOLVE_BENEATH);
                    if (codes[way] >= 0) {
                        close(codes[way]);
                        codes[way] = 0;
                    }
                    auto_free char *outside = wh_path_join(top, "new");
                    CHECK_INT(access(outside, F_OK), ==, -1);
                    close(root);
                    remove_tree();
                }
                if (codes[0] != codes[1])
                    wh_test_fail(__FILE__, __LINE__, "create '%s' flags %o in_root %d: kernel %d, walk %d",
                                 names[p], (unsigned)flags[f], in_root, codes[0], codes[1]);
            }
        }
    }
}

TEST(the_walk_reaches_nothing_outside)
{
    int root = make_tree();
    wh_openat2_force_fallback(true);
    char c = 0;
    /* Inside of the root there is another "secret", which is the one that these find. */
    static const char *const inside[] = {"/secret",   "/../secret", "../secret", "abs",
                                         "to_secret", "up/secret",  "dir/out"};
    for (size_t i = 0; i < WH_ARRAY_LEN(inside); i++) {
        CHECK_INT(wh_openat2(root, inside[i], O_RDONLY, 0, RESOLVE_BENEATH), ==, -EXDEV);
        CHECK_INT(wh_openat2(root, inside[i], O_RDONLY, 0, 0), ==, -EXDEV);
        auto_close int fd = wh_openat2(root, inside[i], O_RDONLY, 0, RESOLVE_IN_ROOT);
        CHECK_INT(read(fd, &c, 1), ==, 1);
        CHECK_INT(c, ==, 'i');
    }
    CHECK_INT(wh_openat2(root, "self", O_RDONLY, 0, RESOLVE_BENEATH), ==, -ELOOP);
    CHECK_INT(wh_openat2(root, "file", O_RDONLY, 0, RESOLVE_NO_XDEV), ==, -EOPNOTSUPP);
    close(root);
    remove_tree();
}

TEST(forty_links_and_no_more)
{
    int root = make_tree();
    char name[16], target[16];
    for (int i = 0; i < 42; i++) {
        (void)snprintf(name, sizeof(name), "l%d", i);
        (void)snprintf(target, sizeof(target), i == 0 ? "file" : "l%d", i - 1);
        CHECK_OK(symlinkat(target, root, name), NULL);
    }
    for (int i = 38; i < 42; i++) {
        (void)snprintf(name, sizeof(name), "l%d", i);
        compare(root, name, O_RDONLY, RESOLVE_BENEATH);
    }
    CHECK_INT(wh_openat2(root, "l40", O_RDONLY, 0, RESOLVE_BENEATH), ==, -ELOOP);
    close(root);
    remove_tree();
}

TEST(long_names_and_paths)
{
    int root = make_tree();
    char name[6000];
    memset(name, 'a', sizeof(name));
    name[256] = '\0';
    compare(root, name, O_RDONLY, RESOLVE_BENEATH);
    memset(name, '/', sizeof(name));
    memcpy(name, "dir", 3);
    name[4095] = '\0';
    compare(root, name, O_RDONLY, RESOLVE_BENEATH);
    name[4095] = '/';
    name[4096] = '\0';
    compare(root, name, O_RDONLY, RESOLVE_BENEATH);
    close(root);
    remove_tree();
}
