/* SPDX-License-Identifier: Apache-2.0 */
/* Two calls of the engine's crates that a static program without a file system cannot answer as they expect. The linker
 * sends them through the functions below (--wrap).
 *
 * The engine loads a component by a path only (upstream has no call that takes a descriptor, as it has for
 * modules), and maps that file, so that all instances share its clean pages. A runner has no paths: neither an own
 * root nor Landlock leaves /proc. So opening "/proc/self/fd/N" is answered with the descriptor N itself.
 *
 * The crate for random numbers looks getrandom up by name, finds nothing in a static program, and would read
 * /dev/urandom, which is not there either. */
#include "base/str.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/random.h>

#define OWN_DESCRIPTORS "/proc/self/fd/"

int __real_open64(const char *path, int flags, mode_t mode); /* NOLINT: the linker's names */
int __wrap_open64(const char *path, int flags, ...);         /* NOLINT */

int __wrap_open64(const char *path, int flags, ...) /* NOLINT */
{
    uint64_t fd;
    mode_t mode = 0;
    if (wh_starts_with(path, OWN_DESCRIPTORS) &&
        wh_parse_u64(path + strlen(OWN_DESCRIPTORS), INT32_MAX, &fd) == 0)
        return fcntl((int)fd, F_DUPFD_CLOEXEC, 3);
    if ((flags & (O_CREAT | O_TMPFILE)) != 0) {
        va_list args;
        va_start(args, flags);
        mode = va_arg(args, mode_t);
        va_end(args);
    }
    return __real_open64(path, flags, mode);
}

void *__real_dlsym(void *handle, const char *name); /* NOLINT */
void *__wrap_dlsym(void *handle, const char *name); /* NOLINT */

void *__wrap_dlsym(void *handle, const char *name) /* NOLINT */
{
    if (handle == RTLD_DEFAULT && wh_streq(name, "getrandom"))
        return (void *)getrandom;
    return __real_dlsym(handle, name);
}
