/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include "base/file.h"
#include "node/logread.h"

#include <fcntl.h>
#include <stdio.h>

static char dir[] = "/tmp/wherry-logread-XXXXXX";
static const wh_logread_options all = {.tail_lines = -1, .limit_bytes = -1};

static void put(const char *name, const char *text)
{
    auto_free char *path = wh_path_join(dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

    CHECK(fd >= 0);
    CHECK_INT(wh_write_all(fd, text, strlen(text)), ==, 0);
    close(fd);
}

static void setup(void)
{
    CHECK(mkdtemp(dir) != NULL);
}

static void cleanup(void)
{
    wh_rm_rf(AT_FDCWD, dir, NULL);
}

/* Everything there is now, as one string. */
static char *read_all(const wh_logread_options *options)
{
    auto_buf wh_buf out;
    wh_logread *r = NULL;
    wh_err err = {0};
    int rc = 1;

    wh_buf_init(&out, 1 << 20);
    CHECK_OK(wh_logread_open(dir, 0, options, &r, &err), &err);
    while (rc == 1)
        rc = wh_logread_next(r, &out, &err);
    CHECK(rc == 0 || rc == -ENODATA);
    wh_logread_free(r);
    return wh_buf_take(&out);
}

#define T1 "2026-01-02T03:04:05.000000001Z "
#define T2 "2026-01-02T03:04:06.000000001Z "
#define T3 "2026-01-02T03:04:07.000000001Z "

TEST(text_of_both_streams_in_order)
{
    setup();
    put("0.log", T1 "stdout F one\n" T2 "stderr F two\n" T3 "stdout P thr\n" T3 "stdout F ee\n");
    auto_free char *text = read_all(&all);
    CHECK_STR(text, "one\ntwo\nthree\n");
    wh_logread_options only = all;
    only.stream = "stderr";
    auto_free char *err = read_all(&only);
    CHECK_STR(err, "two\n");
    cleanup();
}

TEST(timestamps_stand_once_before_a_line_of_several_parts)
{
    setup();
    put("0.log", T1 "stdout P a\n" T2 "stdout F b\n" T3 "stdout F c\n");
    wh_logread_options with = all;
    with.timestamps = true;
    auto_free char *text = read_all(&with);
    CHECK_STR(text, T1 "ab\n" T3 "c\n");
    cleanup();
}

TEST(tail_since_and_limit)
{
    setup();
    put("0.log", T1 "stdout F one\n" T2 "stdout F two\n" T3 "stdout F three\n");
    wh_logread_options o = all;
    o.tail_lines = 2;
    auto_free char *tail = read_all(&o);
    CHECK_STR(tail, "two\nthree\n");
    o.tail_lines = 0;
    auto_free char *none = read_all(&o);
    CHECK_STR(none, "");
    o = all;
    CHECK_INT(wh_rfc3339_parse("2026-01-02T03:04:06Z", &o.since), ==, 0);
    auto_free char *since = read_all(&o);
    CHECK_STR(since, "two\nthree\n");
    o = all;
    o.limit_bytes = 5;
    auto_free char *limited = read_all(&o);
    CHECK_STR(limited, "one\nt");
    cleanup();
}

TEST(foreign_lines_are_left_out)
{
    setup();
    put("0.log", "garbage\n\n" T1 "stdout F good\n"
                 "x y\n");
    auto_free char *text = read_all(&all);
    CHECK_STR(text, "good\n");
    cleanup();
}

TEST(rotated_files_come_first_oldest_first)
{
    setup();
    put("0.log.00000000000000000001", T1 "stdout F one\n");
    put("0.log.00000000000000000002", T2 "stdout F two\n");
    put("0.log", T3 "stdout F three\n");
    auto_free char *text = read_all(&all);
    CHECK_STR(text, "one\ntwo\nthree\n");
    cleanup();
}

TEST(a_reader_follows_across_a_rotation_without_losing_what_the_writer_still_sends)
{
    auto_buf wh_buf out;
    wh_logread *r = NULL;
    wh_err err = {0};

    setup();
    auto_free char *path = wh_path_join(dir, "0.log");
    put("0.log", T1 "stdout F one\n");
    int old = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    wh_buf_init(&out, 4096);
    CHECK_OK(wh_logread_open(dir, 0, &all, &r, &err), &err);
    CHECK_INT(wh_logread_next(r, &out, &err), ==, 0);
    CHECK_STR(wh_buf_str(&out), "one\n");

    CHECK_INT(wh_logrotate(dir, 0, 5, 5, 77, &err), ==, 1);
    put("0.log", ""); /* the new file is there, and empty */
    CHECK_INT(wh_logread_next(r, &out, &err), ==, 0);
    const char late[] = T2 "stdout F two, into the old file\n";
    CHECK_INT(wh_write_all(old, late, strlen(late)), ==, 0);
    put("0.log", T3 "stdout F three\n");
    CHECK_INT(wh_logread_next(r, &out, &err), ==, 0);
    CHECK_STR(wh_buf_str(&out), "one\ntwo, into the old file\nthree\n");
    close(old);
    wh_logread_free(r);
    cleanup();
}

TEST(rotation_keeps_so_many_files)
{
    wh_err err = {0};
    struct stat st;

    setup();
    for (int i = 1; i <= 6; i++) {
        put("0.log", T1 "stdout F something\n");
        CHECK_INT(wh_logrotate(dir, 0, 5, 3, i, &err), ==, 1);
    }
    CHECK_INT(wh_logrotate(dir, 0, 5, 3, 9, &err), ==, 0); /* nothing there */
    auto_free char *gone = wh_path_join(dir, "0.log.00000000000000000004");
    auto_free char *kept = wh_path_join(dir, "0.log.00000000000000000005");
    CHECK_INT(stat(gone, &st), <, 0);
    CHECK_INT(stat(kept, &st), ==, 0);
    put("0.log", "x");
    CHECK_INT(wh_logrotate(dir, 0, 5, 3, 10, &err), ==, 0); /* not larger than the limit */
    cleanup();
}

TEST(no_log_is_an_error_that_names_the_file)
{
    wh_logread *r = NULL;
    wh_err err = {0};

    setup();
    CHECK_ERR(wh_logread_open(dir, 3, &all, &r, &err), -ENOENT, &err, "3.log");
    CHECK(r == NULL);
    cleanup();
}
