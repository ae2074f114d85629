/* SPDX-License-Identifier: Apache-2.0 */
/* Landlock: a process takes the file system, TCP and outside signals from itself, but for what it lists. By
 * system call, since no library of Debian 12 knows it; see landlock(7). */
#pragma once

#include "base/err.h"

typedef enum {
    WH_LANDLOCK_READ_ONLY,  /* read files, list folders */
    WH_LANDLOCK_READ_WRITE, /* make, write, rename and remove files, folders and links too, but no device
                               nodes */
} wh_landlock_access;

/* The version that the kernel knows, 1 or more; 0 where it has none, or where it is switched off. */
int wh_landlock_abi(void);
/* A rule set that takes away every right this kernel can take: files, TCP bind and connect, abstract Unix
 * sockets and signals outside. *ret is a descriptor, the caller's to close. -EOPNOTSUPP without Landlock. */
int wh_landlock_new(int *ret, wh_err *err);
/* Gives rights back below a folder, or for one file. `fd` may be O_PATH and stays the caller's. */
int wh_landlock_allow(int ruleset, int fd, wh_landlock_access access, wh_err *err);
/* Restricts the calling thread and what it starts, for ever; sets no_new_privs. Call it before there are
 * other threads. */
int wh_landlock_restrict(int ruleset, wh_err *err);
