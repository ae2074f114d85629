/* SPDX-License-Identifier: Apache-2.0 */
/* Limits at the limit and one past; what hostile archives do is in tests/integration/image. */
#include "base/file.h"
#include "harness.h"
#include "prepare/unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

/* A tar of `files` files of `bytes` bytes each. */
static int make_tar(int files, size_t bytes, bool gzip)
{
    int fd = memfd_create("tar", MFD_CLOEXEC);
    struct archive *a = archive_write_new();
    auto_free char *data = wh_xcalloc(1, bytes);
    CHECK_INT(archive_write_set_format_ustar(a), ==, ARCHIVE_OK);
    if (gzip)
        CHECK_INT(archive_write_add_filter_gzip(a), ==, ARCHIVE_OK);
    CHECK_INT(archive_write_open_fd(a, fd), ==, ARCHIVE_OK);
    for (int i = 0; i < files; i++) {
        char name[32];
        struct archive_entry *entry = archive_entry_new();
        (void)snprintf(name, sizeof(name), "f%d", i);
        archive_entry_set_pathname(entry, name);
        archive_entry_set_size(entry, (int64_t)bytes);
        archive_entry_set_filetype(entry, AE_IFREG);
        archive_entry_set_perm(entry, 04755);
        CHECK_INT(archive_write_header(a, entry), ==, ARCHIVE_OK);
        CHECK_INT(archive_write_data(a, data, bytes), ==, bytes);
        archive_entry_free(entry);
    }
    CHECK_INT(archive_write_free(a), ==, ARCHIVE_OK);
    CHECK_INT(lseek(fd, 0, SEEK_SET), ==, 0);
    return fd;
}

static int unpack(int files, size_t bytes, bool gzip, wh_unpack_limits limits, wh_err *err)
{
    char folder[] = "/tmp/wherry-unpack-XXXXXX";
    CHECK(mkdtemp(folder) != NULL);
    auto_close int root = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    auto_close int layer = make_tar(files, bytes, gzip);
    auto_unpack wh_unpack *u = NULL;
    CHECK_OK(wh_unpack_new(root, &limits, true, &u, err), err);
    int rc = wh_unpack_layer(u, layer, err);
    struct stat st;
    if (rc == 0) {
        CHECK_INT(fstatat(root, "f0", &st, 0), ==, 0);
        CHECK_INT(st.st_mode & 07777, ==, 0555);
    }
    CHECK_OK(wh_rm_rf(AT_FDCWD, folder, NULL), NULL);
    return rc;
}

TEST(limits_at_and_one_past)
{
    wh_err err = {0};
    const wh_unpack_limits limits = {.bytes = 4000, .entries = 4, .ratio = 1000};
    CHECK_OK(unpack(4, 1000, false, limits, &err), &err);
    CHECK_ERR(unpack(5, 1, false, limits, &err), -EFBIG, &err, "more than 4 files");
    CHECK_ERR(unpack(4, 1001, false, limits, &err), -EFBIG, &err, "more than 4000 bytes");
    CHECK_ERR(unpack(1, 5000, false, limits, &err), -EFBIG, &err, "longer than 4000");
}

TEST(ratio_counts_past_a_first_mebibyte)
{
    wh_err err = {0};
    const wh_unpack_limits limits = {.bytes = 1 << 30, .entries = 10, .ratio = 50};
    CHECK_OK(unpack(1, 900 << 10, true, limits, &err), &err);
    CHECK_ERR(unpack(1, 8 << 20, true, limits, &err), -EFBIG, &err, "50 times its size");
    CHECK_OK(unpack(1, 8 << 20, false, limits, &err), &err);
}
