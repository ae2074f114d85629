/* SPDX-License-Identifier: Apache-2.0 */
/* openat2(2), and its walk by component for kernels and sandboxes that answer ENOSYS. The walk holds a
 * descriptor for each folder on the way, so that ".." is a step back on its own stack and never the kernel's
 * "..", which a rename elsewhere could lead out of the tree; and it reads links through the descriptor that
 * it checked, so that nothing changes between. */
#include "base/file.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sys/syscall.h>

#define LINKS_MAX 40 /* as the kernel's MAXSYMLINKS */
#define DEPTH_MAX 128
#define RETRIES_MAX 128
#define WALK_KNOWS (RESOLVE_BENEATH | RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)

static bool forced_fallback;

void wh_openat2_force_fallback(bool on)
{
    __atomic_store_n(&forced_fallback, on, __ATOMIC_RELAXED);
}

typedef struct walk {
    int fds[DEPTH_MAX]; /* fds[0] is the root and not ours */
    size_t depth;       /* of the folder that we stand in */
    int links;
    uint64_t resolve;
    char rest[2 * PATH_MAX]; /* what is still to walk */
} walk;

static void walk_pop_to(walk *w, size_t depth)
{
    while (w->depth > depth)
        close(w->fds[w->depth--]);
}

/* Takes the next component off w->rest. `ret_last` tells that nothing but slashes follows, `ret_slash`
 * whether any do. */
static int walk_next(walk *w, char name[NAME_MAX + 1], bool *ret_last, bool *ret_slash)
{
    const char *p = w->rest + strspn(w->rest, "/");
    size_t n = strcspn(p, "/");
    if (n > NAME_MAX)
        return -ENAMETOOLONG;
    memcpy(name, p, n);
    name[n] = '\0';
    size_t slashes = strspn(p + n, "/");
    *ret_slash = slashes > 0;
    *ret_last = p[n + slashes] == '\0';
    memmove(w->rest, p + n, strlen(p + n) + 1);
    return 0;
}

/* An absolute path, or link, begins at the root again, or is refused. */
static int walk_absolute(walk *w)
{
    if ((w->resolve & RESOLVE_IN_ROOT) == 0)
        return -EXDEV;
    walk_pop_to(w, 0);
    return 0;
}

static int walk_up(walk *w)
{
    if (w->depth > 0) {
        walk_pop_to(w, w->depth - 1);
        return 0;
    }
    return (w->resolve & RESOLVE_IN_ROOT) != 0 ? 0 : -EXDEV;
}

/* Puts what the link `fd` says in front of the rest. */
static int walk_link(walk *w, int fd)
{
    char target[PATH_MAX];
    if ((w->resolve & RESOLVE_NO_SYMLINKS) != 0 || ++w->links > LINKS_MAX)
        return -ELOOP;
    ssize_t n = readlinkat(fd, "", target, sizeof(target));
    if (n < 0)
        return -errno;
    if (n == 0)
        return -ENOENT;
    size_t len = (size_t)n, rest = strlen(w->rest) + 1;
    if (len >= sizeof(target) || len + rest > sizeof(w->rest))
        return -ENAMETOOLONG;
    memmove(w->rest + len, w->rest, rest);
    memcpy(w->rest, target, len);
    return target[0] == '/' ? walk_absolute(w) : 0;
}

/* Steps into a component that is not the last one. */
static int walk_into(walk *w, const char *name)
{
    struct stat st;
    auto_close int fd = openat(w->fds[w->depth], name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (S_ISLNK(st.st_mode))
        return walk_link(w, fd);
    if (!S_ISDIR(st.st_mode))
        return -ENOTDIR;
    if (w->depth + 1 >= DEPTH_MAX)
        return -ENAMETOOLONG;
    w->fds[++w->depth] = WH_TAKE_FD(fd);
    return 0;
}

/* The path ends at the folder that we stand in. */
static int walk_open_here(const walk *w, int flags, mode_t mode)
{
    if ((flags & O_CREAT) != 0)
        return (flags & O_EXCL) != 0 ? -EEXIST : -EISDIR;
    int fd = openat(w->fds[w->depth], ".", flags & ~O_NOFOLLOW, mode);
    return fd < 0 ? -errno : fd;
}

/* If the last component is a link, puts its text in front of the rest and answers 1; 0 when it is none, or
 * not there. */
static int walk_follow_last(walk *w, const char *name)
{
    struct stat st;
    auto_close int fd = openat(w->fds[w->depth], name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISLNK(st.st_mode))
        return 0;
    int rc = walk_link(w, fd);
    return rc < 0 ? rc : 1;
}

/* Opens what is not a link, or is one that may be opened itself. O_NOFOLLOW whatever was asked: a link that
 * appeared just now is not to be followed by the kernel. */
static int walk_open_name(const walk *w, const char *name, int flags, mode_t mode, bool link_ok)
{
    struct stat st;
    auto_close int fd = openat(w->fds[w->depth], name, flags | O_NOFOLLOW, mode);
    if (fd < 0)
        return -errno;
    if ((flags & O_PATH) != 0 && !link_ok) { /* which opens links in spite of O_NOFOLLOW */
        if (fstat(fd, &st) < 0)
            return -errno;
        if (S_ISLNK(st.st_mode))
            return -EAGAIN;
    }
    if (fd == 0) { /* 0 says "go on" to our caller: it must not be that one */
        int moved = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        return moved < 0 ? -errno : moved;
    }
    return WH_TAKE_FD(fd);
}

/* Opens the last component. 0 means that it was a link, whose text is now in front of the rest. */
static int walk_open_last(walk *w, const char *name, int flags, mode_t mode, bool slash)
{
    bool exclusive = (flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL);
    bool follow = slash || (flags & O_NOFOLLOW) == 0;
    if (slash && (flags & O_CREAT) != 0)
        return -EISDIR;
    if (slash)
        flags |= O_DIRECTORY;
    if (follow && !exclusive) {
        int rc = walk_follow_last(w, name);
        if (rc != 0)
            return rc < 0 ? rc : 0;
    }
    return walk_open_name(w, name, flags, mode, !follow);
}

static int walk_run(walk *w, int flags, mode_t mode)
{
    char name[NAME_MAX + 1];
    if (w->rest[0] == '/') {
        int rc = walk_absolute(w);
        if (rc < 0)
            return rc;
    }
    for (;;) {
        bool last, slash;
        int rc = walk_next(w, name, &last, &slash);
        if (rc < 0)
            return rc;
        if (name[0] == '\0')
            return walk_open_here(w, flags, mode);
        if (wh_streq(name, "."))
            rc = 0;
        else if (wh_streq(name, ".."))
            rc = walk_up(w);
        else if (!last)
            rc = walk_into(w, name);
        else {
            rc = walk_open_last(w, name, flags, mode, slash);
            if (rc != 0)
                return rc;
        }
        if (rc < 0)
            return rc;
    }
}

static int openat2_walk(int dirfd, const char *path, int flags, mode_t mode, uint64_t resolve)
{
    if ((resolve & ~(uint64_t)WALK_KNOWS) != 0)
        return -EOPNOTSUPP;
    if (*path == '\0')
        return -ENOENT;
    if (strlen(path) >= PATH_MAX)
        return -ENAMETOOLONG;
    auto_close int root = openat(dirfd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return -errno;
    int rc = -EAGAIN;
    for (int i = 0; i < RETRIES_MAX && rc == -EAGAIN; i++) {
        walk *w = wh_xnew(walk);
        w->fds[0] = root;
        w->resolve = resolve;
        memcpy(w->rest, path, strlen(path) + 1);
        rc = walk_run(w, flags, mode);
        walk_pop_to(w, 0);
        free(w);
    }
    return rc;
}

int wh_openat2(int dirfd, const char *path, int flags, mode_t mode, uint64_t resolve)
{
    if ((resolve & RESOLVE_IN_ROOT) == 0)
        resolve |= RESOLVE_BENEATH;
    flags |= O_CLOEXEC;
    if ((flags & O_CREAT) == 0 && (flags & O_TMPFILE) != O_TMPFILE)
        mode = 0;
    struct open_how how = {.flags = (uint64_t)(unsigned)flags, .mode = mode & 07777, .resolve = resolve};
    if (__atomic_load_n(&forced_fallback, __ATOMIC_RELAXED))
        return openat2_walk(dirfd, path, flags, mode, resolve);
    for (int i = 0; i < RETRIES_MAX; i++) {
        long fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
        if (fd >= 0)
            return (int)fd;
        if (errno == ENOSYS)
            return openat2_walk(dirfd, path, flags, mode, resolve);
        if (errno != EAGAIN && errno != EINTR)
            return -errno;
    }
    return -EAGAIN;
}
