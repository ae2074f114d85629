/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that is done to paths, with every path that is odd. */
#include "wasi.h"

static char buf[256];
static uint32_t n;

static const char *const paths[] = {
    "f",     "f/",      "f/.",     "f/..",     "f/x",       "d",          "d/",          "d/.",
    "d/..",  "d//",     "d/f",     "d//f",     "./d/./f",   "d/../f",     "d/../d/f",    ".",
    "./",    "..",      "../",     "../x",     "d/../..",   "d/../../x",  "/",           "/f",
    "//f",   "",        "missing", "missing/", "missing/x", "missing/..", "lf",          "lf/",
    "lf/x",  "ld",      "ld/",     "ld/f",     "ld/.",      "ld/..",      "dangling",    "dangling/",
    "loop",  "loop/x",  "up",      "up/",      "up/x",      "upfile",     "absolute",    "absolute/x",
    "d/up2", "d/up2/x", "chain",   "chain/f",  "\xc3\xa4",  "\xff",       "d/\xff/x",    "full",
    "full/", "full/x",  "a b",     "d/sub",    "d/sub/",    "d/sub/..",   "d/sub/../..", "d/sub/../../..",
};
#define PATHS (sizeof(paths) / sizeof(paths[0]))

static uint32_t len(const char *s)
{
    return (uint32_t)strlen(s);
}

static void make(const char *path, const char *text)
{
    uint32_t fd;
    if (w_path_open(ROOT, 0, path, len(path), CREAT | TRUNC, RW, 0, 0, &fd) == 0) {
        w_fd_write(fd, &(iov){(char *)text, len(text)}, 1, &n);
        w_fd_close(fd);
    }
}

static void tree(void)
{
    make("f", "file");
    w_path_create_directory(ROOT, S("d"));
    w_path_create_directory(ROOT, S("d/sub"));
    w_path_create_directory(ROOT, S("full"));
    make("d/f", "inner");
    make("full/x", "x");
    w_path_symlink(S("f"), ROOT, S("lf"));
    w_path_symlink(S("d"), ROOT, S("ld"));
    w_path_symlink(S("nowhere"), ROOT, S("dangling"));
    w_path_symlink(S("loop"), ROOT, S("loop"));
    w_path_symlink(S(".."), ROOT, S("up"));
    w_path_symlink(S("../outside"), ROOT, S("upfile"));
    w_path_symlink(S("../.."), ROOT, S("d/up2"));
    w_path_symlink(S("ld"), ROOT, S("chain"));
}

/* What a failing or a succeeding call left is put away, so that each call sees the same tree. */
static void again(void)
{
    static const char *const files[] = {
        "new",   "f",      "d/f",     "lf",  "ld",       "dangling", "loop",     "up",    "upfile",   "d/up2",
        "chain", "full/x", "missing", "a b", "\xc3\xa4", "nowhere",  "full/new", "d/new", "d/sub/new"};
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        w_path_unlink_file(ROOT, files[i], len(files[i]));
    w_path_remove_directory(ROOT, S("d/sub"));
    w_path_remove_directory(ROOT, S("d/new"));
    w_path_remove_directory(ROOT, S("d"));
    w_path_remove_directory(ROOT, S("full"));
    w_path_remove_directory(ROOT, S("new"));
    w_path_remove_directory(ROOT, S("missing"));
    w_path_remove_directory(ROOT, S("lf"));
    w_path_remove_directory(ROOT, S("a b"));
    w_path_remove_directory(ROOT, S("\xc3\xa4"));
    tree();
}

static void show(const char *call, const char *path, int rc)
{
    printf("%s '%s' = %d", call, path[0] == '\xff' || strstr(path, "\xff") ? "(not UTF-8)" : path, rc);
}

static void opens(const char *p)
{
    static const struct {
        const char *name;
        int dirflags, oflags;
        uint64_t rights;
    } how[] = {
        {"open r follow", FOLLOW, 0, READ},
        {"open r", 0, 0, READ},
        {"open rw", 0, 0, RW},
        {"open dir follow", FOLLOW, DIRECTORY, READ},
        {"open dir", 0, DIRECTORY, READ},
        {"open dir rw", FOLLOW, DIRECTORY, RW},
        {"open creat", 0, CREAT, RW},
        {"open creat follow", FOLLOW, CREAT, RW},
        {"open excl", FOLLOW, CREAT | EXCL, RW},
        {"open trunc", FOLLOW, TRUNC, WRITE},
        {"open trunc r", 0, TRUNC, READ},
        {"open dir creat", 0, DIRECTORY | CREAT, READ},
        {"open creat none", 0, CREAT, 0},
    };
    for (size_t i = 0; i < sizeof(how) / sizeof(how[0]); i++) {
        uint32_t fd = 0;
        int rc = w_path_open(ROOT, how[i].dirflags, p, len(p), how[i].oflags, how[i].rights, 0, 0, &fd);
        show(how[i].name, p, rc);
        if (rc == 0) {
            w_stat s = {0};
            w_fd_filestat_get(fd, &s);
            printf(" type %u size %llu", s.type, s.type == 4 ? s.size : 0);
            w_fd_close(fd);
        }
        printf("\n");
        if (rc == 0 && how[i].oflags != 0 && how[i].oflags != DIRECTORY)
            again();
    }
}

static void stats(const char *p)
{
    for (int flags = 0; flags < 2; flags++) {
        w_stat s = {0};
        int rc = w_path_filestat_get(ROOT, flags, p, len(p), &s);
        show(flags ? "stat follow" : "stat", p, rc);
        if (rc == 0)
            printf(" type %u size %llu", s.type, s.type == 3 ? 0 : s.size);
        printf("\n");
        show(flags ? "times follow" : "times", p,
             w_path_filestat_set_times(ROOT, flags, p, len(p), 5000, 6000, 5));
        rc = w_path_filestat_get(ROOT, flags, p, len(p), &s);
        printf(" mtim %llu\n", rc == 0 && s.mtim < 10000 ? s.mtim : 0);
    }
    memset(buf, 0, sizeof(buf));
    show("readlink", p, w_path_readlink(ROOT, p, len(p), buf, sizeof(buf) - 1, &n));
    printf(" '%s'\n", buf);
}

static void changes(const char *p)
{
    show("mkdir", p, w_path_create_directory(ROOT, p, len(p)));
    puts(""), again();
    show("rmdir", p, w_path_remove_directory(ROOT, p, len(p)));
    puts(""), again();
    show("unlink", p, w_path_unlink_file(ROOT, p, len(p)));
    puts(""), again();
    show("symlink at", p, w_path_symlink(S("target"), ROOT, p, len(p)));
    puts(""), again();
    show("link from", p, w_path_link(ROOT, 0, p, len(p), ROOT, S("new")));
    puts(""), again();
    show("link to", p, w_path_link(ROOT, 0, S("f"), ROOT, p, len(p)));
    puts(""), again();
    show("rename from", p, w_path_rename(ROOT, p, len(p), ROOT, S("new")));
    puts(""), again();
    show("rename to", p, w_path_rename(ROOT, S("f"), ROOT, p, len(p)));
    puts(""), again();
    show("rename dir to", p, w_path_rename(ROOT, S("d"), ROOT, p, len(p)));
    puts(""), again();
}

static void details(void)
{
    uint32_t fd = 0;
    char longname[300];
    T(w_path_link(ROOT, FOLLOW, S("lf"), ROOT, S("new")));
    T(w_path_symlink(S("/etc/passwd"), ROOT, S("new")));
    T(w_path_symlink(S(""), ROOT, S("new")));
    T(w_path_readlink(ROOT, S("lf"), buf, 0, &n));
    T(w_path_readlink(ROOT, S("upfile"), buf, 4, &n));
    printf("%u %.4s\n", n, buf);
    T(w_path_open(ROOT, 0, "f\0g", 3, 0, READ, 0, 0, &fd));
    T(w_path_filestat_get(ROOT, 0, "f\0g", 3, &(w_stat){0}));
    T(w_path_unlink_file(ROOT, "f\0g", 3));
    T(w_path_open(ROOT, 0, S("f"), 0, READ, 0, SYNC, &fd));
    T(w_path_open(ROOT, 0, S("f"), 0, READ, 0, DSYNC, &fd));
    T(w_path_open(ROOT, 0, S("f"), 0, READ, 0, RSYNC, &fd));
    T(w_path_open(ROOT, 0, S("f"), 0, READ, 0, NONBLOCK | APPEND, &fd));
    T(w_path_open(fd, 0, S("f"), 0, READ, 0, 0, &fd));
    T(w_path_open(0, 0, S("f"), 0, READ, 0, 0, &fd));
    T(w_path_open(77, 0, S("f"), 0, READ, 0, 0, &fd));
    T(w_path_unlink_file(fd, S("f")));
    T(w_path_unlink_file(77, S("f")));
    T(w_path_rename(ROOT, S("f"), 77, S("g")));
    T(w_path_link(ROOT, 0, S("f"), 77, S("g")));
    memset(longname, 'n', sizeof(longname));
    T(w_path_open(ROOT, 0, longname, 255, CREAT, RW, 0, 0, &fd));
    T(w_path_unlink_file(ROOT, longname, 255));
    T(w_path_open(ROOT, 0, longname, 256, CREAT, RW, 0, 0, &fd));
    T(w_path_create_directory(ROOT, longname, 256));
    T(w_path_filestat_get(ROOT, 0, longname, 256, &(w_stat){0}));
}

static void read_only(void)
{
    uint32_t fd = 0;
    T(w_path_open(RO, 0, S("f"), 0, READ, 0, 0, &fd));
    T(w_fd_write(fd, &(iov){buf, 1}, 1, &n));
    T(w_fd_filestat_set_size(fd, 0));
    T(w_fd_filestat_set_times(fd, 0, 0, 5));
    T(w_path_open(RO, 0, S("f"), 0, WRITE, 0, 0, &fd));
    T(w_path_open(RO, 0, S("f"), TRUNC, READ, 0, 0, &fd));
    T(w_path_open(RO, 0, S("f"), CREAT, READ, 0, 0, &fd));
    T(w_path_open(RO, 0, S("new"), CREAT, RW, 0, 0, &fd));
    T(w_path_create_directory(RO, S("new")));
    T(w_path_remove_directory(RO, S("d")));
    T(w_path_unlink_file(RO, S("f")));
    T(w_path_symlink(S("f"), RO, S("new")));
    T(w_path_link(RO, 0, S("f"), RO, S("new")));
    T(w_path_link(RO, 0, S("f"), ROOT, S("new")));
    T(w_path_link(ROOT, 0, S("f"), RO, S("new")));
    T(w_path_rename(RO, S("f"), ROOT, S("new")));
    T(w_path_rename(ROOT, S("f"), RO, S("new")));
    T(w_path_filestat_set_times(RO, 0, S("f"), 0, 0, 5));
    T(w_path_filestat_get(RO, 0, S("f"), &(w_stat){0}));
    T(w_path_open(RO, 0, S("d"), DIRECTORY, READ, 0, 0, &fd));
    T(w_path_open(fd, 0, S("x"), CREAT, RW, 0, 0, &fd));
    T(w_path_create_directory(fd, S("x")));
}

int main(void)
{
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    tree();
    for (size_t i = 0; i < PATHS; i++) {
        opens(paths[i]);
        stats(paths[i]);
        again();
        changes(paths[i]);
    }
    details();
    read_only();
    again();
    return 0;
}
