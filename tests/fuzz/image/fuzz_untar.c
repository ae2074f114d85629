/* SPDX-License-Identifier: Apache-2.0 */
/* Unpacks into a fresh folder beside one that must stay as it is. */
#include "base/file.h"
#include "prepare/unpack.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

static unsigned count_entries(const char *path)
{
    unsigned n = 0;
    DIR *dir = opendir(path);
    wh_assert(dir != NULL);
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static char top[] = "/tmp/wherry-untar-XXXXXX";
    static bool made;
    const wh_unpack_limits limits = {.bytes = 4 << 20, .entries = 200, .ratio = 50};
    wh_err err = {0};
    if (!made) {
        wh_assert(mkdtemp(top) != NULL);
        made = true;
    }
    auto_free char *root = wh_path_join(top, "root");
    wh_assert(mkdir(root, 0755) == 0);
    auto_close int dir = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    auto_close int fd = memfd_create("layer", MFD_CLOEXEC);
    wh_assert(dir >= 0);
    wh_assert(fd >= 0);
    wh_assert(wh_write_all(fd, data, n) == 0);
    auto_unpack wh_unpack *u = NULL;
    wh_assert(wh_unpack_new(dir, &limits, true, &u, &err) == 0);
    for (int layer = 0; layer < 2; layer++) {
        wh_assert(lseek(fd, 0, SEEK_SET) == 0);
        if (wh_unpack_layer(u, fd, &err) < 0)
            wh_assert(err.msg[0] != '\0');
    }
    wh_assert(wh_unpack_result(u).entries <= 201);
    wh_assert(count_entries(top) == 3); /* ".", "..", "root" */
    wh_assert(wh_rm_rf(AT_FDCWD, root, &err) == 0);
    return 0;
}
