/* SPDX-License-Identifier: Apache-2.0 */
#include "base/landlock.h"

#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* The kernel's own header is that of the build machine and older than what may run here, so the interface
 * stands here in full: Linux include/uapi/linux/landlock.h, up to version 6. */
struct ruleset_attr {
    uint64_t handled_access_fs, handled_access_net, scoped;
};
struct path_beneath_attr {
    uint64_t allowed_access;
    int32_t parent_fd;
} __attribute__((packed));

#define CREATE_RULESET_VERSION 1U
#define RULE_PATH_BENEATH 1

enum {
    FS_EXECUTE = 1 << 0,
    FS_WRITE_FILE = 1 << 1,
    FS_READ_FILE = 1 << 2,
    FS_READ_DIR = 1 << 3,
    FS_REMOVE_DIR = 1 << 4,
    FS_REMOVE_FILE = 1 << 5,
    FS_MAKE_CHAR = 1 << 6,
    FS_MAKE_DIR = 1 << 7,
    FS_MAKE_REG = 1 << 8,
    FS_MAKE_SOCK = 1 << 9,
    FS_MAKE_FIFO = 1 << 10,
    FS_MAKE_BLOCK = 1 << 11,
    FS_MAKE_SYM = 1 << 12,
    FS_REFER = 1 << 13,     /* 2 */
    FS_TRUNCATE = 1 << 14,  /* 3 */
    FS_IOCTL_DEV = 1 << 15, /* 5 */
    NET_BIND_TCP = 1 << 0,  /* 4 */
    NET_CONNECT_TCP = 1 << 1,
    SCOPE_ABSTRACT_UNIX_SOCKET = 1 << 0, /* 6 */
    SCOPE_SIGNAL = 1 << 1,
};

#define FS_VERSION_1 ((uint64_t)(FS_REFER - 1))
#define FS_OF_A_FILE ((uint64_t)(FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV))
#define FS_READING ((uint64_t)(FS_READ_FILE | FS_READ_DIR))
#define FS_WRITING                                                                                          \
    ((uint64_t)(FS_WRITE_FILE | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_DIR | FS_MAKE_REG | FS_MAKE_SOCK | \
                FS_MAKE_FIFO | FS_MAKE_SYM | FS_REFER | FS_TRUNCATE))

int wh_landlock_abi(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, CREATE_RULESET_VERSION);
    return abi < 1 ? 0 : (int)abi;
}

static uint64_t fs_rights(int abi)
{
    uint64_t rights = FS_VERSION_1;
    if (abi >= 2)
        rights |= FS_REFER;
    if (abi >= 3)
        rights |= FS_TRUNCATE;
    if (abi >= 5)
        rights |= FS_IOCTL_DEV;
    return rights;
}

int wh_landlock_new(int *ret, wh_err *err)
{
    int abi = wh_landlock_abi();
    if (abi == 0)
        return wh_fail(err, -EOPNOTSUPP,
                       "this kernel has no Landlock, or it is not in the boot option lsm=.");
    struct ruleset_attr attr = {.handled_access_fs = fs_rights(abi)};
    size_t size = offsetof(struct ruleset_attr, handled_access_net);
    if (abi >= 4) {
        attr.handled_access_net = NET_BIND_TCP | NET_CONNECT_TCP;
        size = offsetof(struct ruleset_attr, scoped);
    }
    if (abi >= 6) {
        attr.scoped = SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL;
        size = sizeof(attr);
    }
    /* The kernel makes the descriptor close-on-exec. */
    long fd = syscall(SYS_landlock_create_ruleset, &attr, size, 0U);
    if (fd < 0)
        return wh_fail(err, -errno, "make a Landlock rule set");
    *ret = (int)fd;
    return 0;
}

int wh_landlock_allow(int ruleset, int fd, wh_landlock_access access, wh_err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return wh_fail(err, -errno, "Landlock rule for descriptor %d", fd);
    uint64_t rights = FS_READING | (access == WH_LANDLOCK_READ_WRITE ? FS_WRITING : 0);
    rights &= fs_rights(wh_landlock_abi());
    if (!S_ISDIR(st.st_mode))
        rights &= FS_OF_A_FILE;
    struct path_beneath_attr attr = {.allowed_access = rights, .parent_fd = fd};
    if (syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &attr, 0U) < 0)
        return wh_fail(err, -errno, "Landlock rule for descriptor %d", fd);
    return 0;
}

int wh_landlock_restrict(int ruleset, wh_err *err)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return wh_fail(err, -errno, "set no_new_privs");
    if (syscall(SYS_landlock_restrict_self, ruleset, 0U) < 0)
        return wh_fail(err, -errno, "enter the Landlock rule set");
    return 0;
}
