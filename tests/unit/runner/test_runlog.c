/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include "base/buf.h"
#include "base/file.h"
#include "runner/runlog.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

static int log_fd;

static wh_runlog *new_log(void)
{
    log_fd = memfd_create("log", MFD_CLOEXEC);
    CHECK(log_fd >= 0);
    CHECK(fcntl(log_fd, F_SETFL, O_APPEND) == 0);
    return wh_runlog_new(fcntl(log_fd, F_DUPFD_CLOEXEC, 0));
}

static void check_lines(const char *expected)
{
    auto_free char *text = NULL;
    auto_buf wh_buf got;
    size_t n;
    CHECK(lseek(log_fd, 0, SEEK_SET) == 0);
    CHECK_OK(wh_read_fd(log_fd, 64UL << 20, &text, &n, NULL), NULL);
    wh_buf_init(&got, 64UL << 20);
    for (char *p = text, *end; *p != '\0';
         p = end + 1) { /* without the times, which all have 30 characters */
        end = strchr(p, '\n');
        CHECK(end != NULL);
        if (end - p < 31 || p[30] != ' ')
            CHECK_OK(wh_buf_append(&got, p, (size_t)(end - p) + 1), NULL);
        else
            CHECK_OK(wh_buf_append(&got, p + 31, (size_t)(end - p) - 30), NULL);
    }
    CHECK_STR(wh_buf_str(&got), expected);
}

static void put(wh_runlog *log, int stream, const char *text)
{
    CHECK_INT(wh_runlog_write(log, stream, text, strlen(text)), ==, strlen(text));
}

TEST(lines_are_gathered_per_stream)
{
    wh_runlog *log = new_log();
    put(log, 1, "one\ntwo");
    put(log, 2, "error\n");
    put(log, 1, " and a half\n\nlast");
    check_lines("stdout F one\nstderr F error\nstdout F two and a half\nstdout F \n");
    wh_runlog_flush(log);
    check_lines("stdout F one\nstderr F error\nstdout F two and a half\nstdout F \nstdout P last\n");
    wh_runlog_flush(log);
    put(log, 1, "x\n");
    check_lines(
        "stdout F one\nstderr F error\nstdout F two and a half\nstdout F \nstdout P last\nstdout F x\n");
}

/* A line of `n` bytes, in writes of `step`. */
static void check_length(size_t n, size_t step)
{
    wh_runlog *log = new_log();
    auto_buf wh_buf text, expected;
    wh_buf_init(&text, 1 << 20);
    wh_buf_init(&expected, 1 << 20);
    for (size_t i = 0; i < n; i++)
        CHECK_OK(wh_buf_putc(&text, (char)('a' + i % 26)), NULL);
    CHECK_OK(wh_buf_putc(&text, '\n'), NULL);
    for (size_t at = 0; at < text.len; at += step) {
        size_t part = WH_MIN(step, text.len - at);
        CHECK_INT(wh_runlog_write(log, 1, text.p + at, part), ==, part);
    }
    for (size_t at = 0; at < n || at == 0; at += WH_RUNLOG_LINE_MAX) {
        size_t part = WH_MIN(WH_RUNLOG_LINE_MAX, n - at);
        CHECK_OK(wh_buf_printf(&expected, "stdout %c ", at + part < n ? 'P' : 'F'), NULL);
        CHECK_OK(wh_buf_append(&expected, text.p + at, part), NULL);
        CHECK_OK(wh_buf_putc(&expected, '\n'), NULL);
    }
    check_lines(wh_buf_str(&expected));
}

TEST(long_lines_are_cut_at_16_kib)
{
    const size_t lengths[] = {1,
                              WH_RUNLOG_LINE_MAX - 1,
                              WH_RUNLOG_LINE_MAX,
                              WH_RUNLOG_LINE_MAX + 1,
                              2 * WH_RUNLOG_LINE_MAX,
                              2 * WH_RUNLOG_LINE_MAX + 1,
                              100000};
    const size_t steps[] = {1, 7, 4096, WH_RUNLOG_LINE_MAX, WH_RUNLOG_LINE_MAX + 1, 1 << 20};
    for (size_t i = 0; i < WH_ARRAY_LEN(lengths); i++) {
        for (size_t k = 0; k < WH_ARRAY_LEN(steps); k++)
            check_length(lengths[i], steps[k]);
    }
}

TEST(many_lines_in_one_write)
{
    wh_runlog *log = new_log();
    auto_buf wh_buf text, expected;
    wh_buf_init(&text, 1 << 20);
    wh_buf_init(&expected, 1 << 20);
    for (int i = 0; i < 1000; i++) {
        CHECK_OK(wh_buf_printf(&text, "%d\n", i), NULL);
        CHECK_OK(wh_buf_printf(&expected, "stderr F %d\n", i), NULL);
    }
    put(log, 2, wh_buf_str(&text));
    check_lines(wh_buf_str(&expected));
}

TEST(a_swap_is_between_lines)
{
    wh_runlog *log = new_log();
    int old = log_fd;
    put(log, 1, "old\nbegun");
    log_fd = memfd_create("log2", MFD_CLOEXEC);
    CHECK(fcntl(log_fd, F_SETFL, O_APPEND) == 0);
    wh_runlog_swap(log, fcntl(log_fd, F_DUPFD_CLOEXEC, 0));
    put(log, 1, " and ended\n");
    check_lines("stdout F begun and ended\n");
    close(log_fd);
    log_fd = old;
    check_lines("stdout F old\n");
}

TEST(a_full_disk_is_an_error_and_tears_one_line_only)
{
    const struct rlimit small = {140, RLIM_INFINITY}, none = {RLIM_INFINITY, RLIM_INFINITY};
    wh_runlog *log = new_log();
    signal(SIGXFSZ, SIG_IGN);
    put(log, 1, "before\n");
    CHECK(setrlimit(RLIMIT_FSIZE, &small) == 0);
    CHECK_INT(wh_runlog_write(log, 1, "one line of forty characters and more\n", 38), ==, 38);
    CHECK_INT(wh_runlog_write(log, 1, "another line that does not fit at all\n", 38), ==, -EFBIG);
    CHECK(setrlimit(RLIMIT_FSIZE, &none) == 0);
    put(log, 1, "after\n");
    auto_free char *text = NULL;
    CHECK(lseek(log_fd, 0, SEEK_SET) == 0);
    CHECK_OK(wh_read_fd(log_fd, 1 << 20, &text, NULL, NULL), NULL);
    CHECK_CONTAINS(text, "\n2");
    CHECK_CONTAINS(text, " stdout F after\n");
    CHECK(strstr(text, " stdout F after\n")[-30] == '2');
    CHECK(strstr(text, " stdout F after\n")[-31] == '\n');
}
