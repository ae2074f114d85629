/* SPDX-License-Identifier: Apache-2.0 */
/* Files and folders, with limits and without surprises. Every descriptor is close-on-exec. */
#pragma once

#include "base/str.h"

#include <sys/stat.h>

/* Reads a whole file. Fails with -EFBIG past `max` bytes; *ret_data is NUL-terminated and the caller's to free;
 * ret_len may be NULL. */
int wh_read_file(int dirfd, const char *path, size_t max, char **ret_data, size_t *ret_len, wh_err *err);
int wh_read_fd(int fd, size_t max, char **ret_data, size_t *ret_len, wh_err *err);
/* Writes all bytes, going on after EINTR and short writes. */
int wh_write_all(int fd, const void *data, size_t n);
/* Replaces `path` atomically: temporary name beside it, fsync, chmod, rename, fsync of the folder. */
int wh_write_file(int dirfd, const char *path, const void *data, size_t n, mode_t mode, wh_err *err);
/* Makes the folder and its missing parents. An existing folder is fine, with whatever mode it has. */
int wh_mkdir_p(const char *path, mode_t mode, wh_err *err);
/* Removes a file or a whole tree without following links or leaving its file system's tree; absent is fine. */
int wh_rm_rf(int dirfd, const char *path, wh_err *err);
/* a + "/" + b without a doubled slash; never NULL. */
char *wh_path_join(const char *a, const char *b) __attribute__((malloc, returns_nonnull));
/* Opens `path` below `dirfd`, where no component may leave it: openat2 with `resolve` (RESOLVE_*), or a walk by
 * component where the kernel answers ENOSYS (it knows BENEATH, IN_ROOT, NO_SYMLINKS, NO_MAGICLINKS; -EOPNOTSUPP for
 * others). RESOLVE_BENEATH is added unless RESOLVE_IN_ROOT is asked for. Returns the descriptor or a negative errno. */
int wh_openat2(int dirfd, const char *path, int flags, mode_t mode, uint64_t resolve);
/* For tests: answers as on a kernel without openat2. */
void wh_openat2_force_fallback(bool on);
