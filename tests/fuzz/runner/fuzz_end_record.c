/* SPDX-License-Identifier: Apache-2.0 */
/* End records come from a process that a guest may have taken over. */
#include "runner/spec.h"

#include <string.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static int fd = -1;
    wh_end_record end, again;
    wh_err err = {0};
    if (fd < 0)
        fd = memfd_create("end", MFD_CLOEXEC);
    if (ftruncate(fd, 0) < 0 || (n > 0 && pwrite(fd, data, n, 0) != (ssize_t)n))
        return 0;
    if (wh_end_record_read(fd, &end, &err) < 0)
        return 0;
    wh_assert(memchr(end.message, '\0', sizeof(end.message)) != NULL);
    wh_assert(memchr(end.reason, '\0', sizeof(end.reason)) != NULL);
    wh_assert(ftruncate(fd, 0) == 0);
    wh_assert(wh_end_record_write(fd, &end) == 0);
    wh_assert(wh_end_record_read(fd, &again, &err) == 0);
    wh_assert(again.exit_code == end.exit_code && again.end == end.end);
    return 0;
}
