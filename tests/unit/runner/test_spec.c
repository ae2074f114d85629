/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include "base/limits.h"
#include "base/record.h"
#include "runner/spec.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>

static char id[] = "c1";
static char *args[] = {(char[]){"prog"}, (char[]){"a b"}, (char[]){""}, NULL};
static char *env[] = {(char[]){"A=1"}, NULL};

static wh_runspec sample(void)
{
    return (wh_runspec){.id = id,
                        .name = NULL,
                        .code_fd = 4,
                        .log_fd = -1,
                        .control_fd = 9,
                        .end_fd = 5,
                        .stop_signal = SIGINT,
                        .args = args,
                        .env = env};
}

TEST(a_spec_reads_as_it_was_written)
{
    wh_err err = {0};
    wh_runspec_dir dirs[] = {{(char[]){"/data"}, 6, true}, {(char[]){"/out"}, 7, false}};
    int listen[] = {8};
    wh_runspec spec = {.id = (char[]){"c1"},
                       .name = (char[]){"web"},
                       .profile = 16,
                       .code_fd = 4,
                       .log_fd = 10,
                       .control_fd = 9,
                       .end_fd = 5,
                       .stop_signal = SIGINT,
                       .trace = true,
                       .landlock_optional = true,
                       .memory_bytes_max = 1 << 20,
                       .stack_bytes_max = 4096,
                       .deadline = 5 * WH_SEC,
                       .invoke = (char[]){"add"},
                       .args = args,
                       .env = env,
                       .dirs = dirs,
                       .n_dirs = 2,
                       .listen_fds = listen,
                       .n_listen = 1,
                       .serve = {.mode = WH_RUNSPEC_STREAM,
                                 .at_once = 7,
                                 .queue = 9,
                                 .reuse = 3,
                                 .queue_time = WH_SEC,
                                 .time = 2 * WH_SEC,
                                 .idle = 30 * WH_SEC,
                                 .body_bytes_max = 1ULL << 33,
                                 .tls_cert_fd = 11,
                                 .tls_key_fd = 12,
                                 .access_log = true},
                       .netd_fd = 13,
                       .ca_fd = 14};
    auto_buf wh_buf b;
    auto_runspec wh_runspec *got = NULL;
    wh_buf_init(&b, WH_RECORD_BYTES_MAX);
    CHECK_OK(wh_runspec_write(&spec, &b, &err), &err);
    CHECK_OK(wh_runspec_read(b.p, b.len, &got, &err), &err);
    CHECK_STR(got->id, "c1");
    CHECK_STR(got->name, "web");
    CHECK_STR(got->invoke, "add");
    CHECK_INT(got->profile, ==, 16);
    CHECK_INT(got->code_fd, ==, 4);
    CHECK_INT(got->log_fd, ==, 10);
    CHECK_INT(got->control_fd, ==, 9);
    CHECK_INT(got->end_fd, ==, 5);
    CHECK_INT(got->stop_signal, ==, SIGINT);
    CHECK(got->trace && got->landlock_optional);
    CHECK_INT(got->memory_bytes_max, ==, 1 << 20);
    CHECK_INT(got->stack_bytes_max, ==, 4096);
    CHECK_INT(got->deadline, ==, 5 * WH_SEC);
    CHECK_INT(wh_strv_len(got->args), ==, 3);
    CHECK_STR(got->args[1], "a b");
    CHECK_STR(got->args[2], "");
    CHECK_STR(got->env[0], "A=1");
    CHECK_INT(got->n_dirs, ==, 2);
    CHECK_STR(got->dirs[1].guest_path, "/out");
    CHECK(got->dirs[0].read_only && !got->dirs[1].read_only);
    CHECK_INT(got->n_listen, ==, 1);
    CHECK_INT(got->listen_fds[0], ==, 8);
    CHECK_INT(got->serve.mode, ==, WH_RUNSPEC_STREAM);
    CHECK_INT(got->serve.at_once, ==, 7);
    CHECK_INT(got->serve.queue, ==, 9);
    CHECK_INT(got->serve.reuse, ==, 3);
    CHECK_INT(got->serve.queue_time, ==, WH_SEC);
    CHECK_INT(got->serve.time, ==, 2 * WH_SEC);
    CHECK_INT(got->serve.idle, ==, 30 * WH_SEC);
    CHECK_INT(got->serve.body_bytes_max, ==, 1ULL << 33);
    CHECK_INT(got->serve.tls_cert_fd, ==, 11);
    CHECK_INT(got->serve.tls_key_fd, ==, 12);
    CHECK(got->serve.access_log);
    CHECK_INT(got->netd_fd, ==, 13);
    CHECK_INT(got->ca_fd, ==, 14);
}

TEST(a_memfd_is_sealed)
{
    wh_err err = {0};
    wh_runspec spec = sample();
    auto_close int fd = wh_runspec_memfd(&spec, &err);
    CHECK_OK(fd, &err);
    CHECK_INT(fcntl(fd, F_GET_SEALS) & F_SEAL_WRITE, ==, F_SEAL_WRITE);
    CHECK(pwrite(fd, "x", 1, 0) < 0);
}

/* A good spec with one more field. */
static int with(const char *key, const char *value, wh_err *err)
{
    auto_buf wh_buf b;
    auto_runspec wh_runspec *got = NULL;
    wh_runspec spec = sample();
    wh_buf_init(&b, WH_RECORD_BYTES_MAX);
    CHECK_OK(wh_runspec_write(&spec, &b, err), err);
    wh_record_put_str(&b, key, value);
    int rc = wh_runspec_read(b.p, b.len, &got, err);
    CHECK((rc == 0) == (got != NULL));
    return rc;
}

TEST(each_field_is_checked)
{
    wh_err err = {0};
    CHECK_OK(with("stack_bytes_max", "2097152", &err), &err);
    CHECK_ERR(with("stack_bytes_max", "2097153", &err), -EBADMSG, &err, "stack_bytes_max");
    CHECK_ERR(with("code_fd", "-1", &err), -EBADMSG, &err, "code_fd");
    CHECK_ERR(with("code_fd", "65536", &err), -EBADMSG, &err, "code_fd");
    CHECK_ERR(with("stop_signal", "65", &err), -EBADMSG, &err, "stop_signal");
    CHECK_ERR(with("trace", "2", &err), -EBADMSG, &err, "trace");
    CHECK_ERR(with("future", "1", &err), -EBADMSG, &err, "'future' is not known");
    CHECK_ERR(with("dir", "x", &err), -EBADMSG, &err, "directory 0");
    CHECK_ERR(with("listen", "a", &err), -EBADMSG, &err, "listen");
    CHECK_OK(with("at_once", "4096", &err), &err);
    CHECK_ERR(with("at_once", "4097", &err), -EBADMSG, &err, "at_once");
    CHECK_OK(with("queue", "65536", &err), &err);
    CHECK_ERR(with("queue", "65537", &err), -EBADMSG, &err, "queue");
    CHECK_ERR(with("serve", "4", &err), -EBADMSG, &err, "serve");
    CHECK_ERR(with("serve", "1", &err), -EBADMSG, &err, "listening socket");
    CHECK_ERR(with("tls_cert_fd", "9", &err), -EBADMSG, &err, "together");
}

TEST(modes_have_names)
{
    CHECK_STR(wh_runspec_mode_name(WH_RUNSPEC_COMMAND), "command");
    CHECK_STR(wh_runspec_mode_name(WH_RUNSPEC_HTTP), "http");
    CHECK(wh_runspec_mode_name(WH_RUNSPEC_HTTP + 1) == NULL);
}

TEST(what_is_required_is_missed)
{
    wh_err err = {0};
    wh_runspec *got = NULL;
    auto_buf wh_buf b;
    wh_buf_init(&b, 4096);
    CHECK_ERR(wh_runspec_read("", 0, &got, &err), -ENOENT, &err, "version");
    wh_record_put_i64(&b, "version", 2);
    CHECK_ERR(wh_runspec_read(b.p, b.len, &got, &err), -EBADMSG, &err, "version");
    wh_buf_reset(&b);
    wh_record_put_i64(&b, "version", 1);
    CHECK_ERR(wh_runspec_read(b.p, b.len, &got, &err), -EBADMSG, &err, "required");
    CHECK(got == NULL);
}

static int with_dirs(size_t n, wh_err *err)
{
    auto_buf wh_buf b;
    auto_runspec wh_runspec *got = NULL;
    static wh_runspec_dir dirs[WH_RUNSPEC_DIRS_MAX + 1];
    static char path[] = "/d";
    wh_runspec spec = sample();
    for (size_t i = 0; i < n; i++)
        dirs[i] = (wh_runspec_dir){path, 6, true};
    spec.dirs = dirs;
    spec.n_dirs = n;
    wh_buf_init(&b, WH_RECORD_BYTES_MAX);
    int rc = wh_runspec_write(&spec, &b, err);
    return rc < 0 ? rc : wh_runspec_read(b.p, b.len, &got, err);
}

TEST(lists_end_at_their_limits)
{
    wh_err err = {0};
    CHECK_OK(with_dirs(WH_RUNSPEC_DIRS_MAX, &err), &err);
    CHECK_FAIL(with_dirs(WH_RUNSPEC_DIRS_MAX + 1, &err), -E2BIG);
    auto_buf wh_buf b;
    wh_runspec *got = NULL;
    wh_buf_init(&b, WH_RECORD_BYTES_MAX);
    wh_record_put_i64(&b, "version", 1);
    for (int i = 0; i <= WH_RUNSPEC_ARGS_MAX; i++)
        wh_record_put_str(&b, "arg", "");
    CHECK_ERR(wh_runspec_read(b.p, b.len, &got, &err), -EBADMSG, &err, "more than");
}

TEST(a_long_environment_is_refused_by_its_writer)
{
    wh_err err = {0};
    wh_runspec spec = sample();
    auto_buf wh_buf b;
    auto_free char *big = malloc(WH_RECORD_BYTES_MAX);
    CHECK(big != NULL);
    memset(big, 'x', WH_RECORD_BYTES_MAX - 1);
    big[WH_RECORD_BYTES_MAX - 1] = '\0';
    char *big_env[] = {big, NULL};
    spec.env = big_env;
    wh_buf_init(&b, WH_RECORD_BYTES_MAX);
    CHECK_FAIL(wh_runspec_write(&spec, &b, &err), -E2BIG);
}

/* ------------------------------------------------------------------ end records */

static int end_fd(void)
{
    int fd = memfd_create("end", MFD_CLOEXEC);
    CHECK(fd >= 0);
    return fd;
}

TEST(an_end_record_reads_as_it_was_written)
{
    wh_err err = {0};
    wh_end_record end = {
        .exit_code = 134, .reason = "Trap", .guest_start = 5, .end = INT64_MAX, .memory_bytes = 65536};
    wh_end_record got;
    auto_close int fd = end_fd();
    memset(end.message, 'm', sizeof(end.message) - 1);
    CHECK_OK(wh_end_record_write(fd, &end), NULL);
    CHECK_OK(wh_end_record_read(fd, &got, &err), &err);
    CHECK_INT(got.exit_code, ==, 134);
    CHECK_STR(got.reason, "Trap");
    CHECK_STR(got.message, end.message);
    CHECK_INT(got.guest_start, ==, 5);
    CHECK_INT(got.end, ==, INT64_MAX);
    CHECK_INT(got.memory_bytes, ==, 65536);
}

TEST(an_end_record_that_was_cut_off_is_none)
{
    wh_err err = {0};
    const wh_end_record end = {.exit_code = 0, .reason = "Completed"};
    wh_end_record got = {.exit_code = 77};
    auto_close int whole = end_fd();
    char bytes[4096];
    CHECK_OK(wh_end_record_write(whole, &end), NULL);
    ssize_t n = pread(whole, bytes, sizeof(bytes), 0);
    for (ssize_t cut = 0; cut < n; cut++) {
        auto_close int fd = end_fd();
        CHECK_INT(pwrite(fd, bytes, (size_t)cut, 0), ==, cut);
        CHECK_FAIL(wh_end_record_read(fd, &got, &err), -ENODATA);
    }
    CHECK_INT(got.exit_code, ==, 77);
    auto_close int longer = end_fd();
    CHECK_INT(pwrite(longer, bytes, (size_t)n, 0), ==, n);
    CHECK_INT(pwrite(longer, "junk", 4, n), ==, 4);
    CHECK_FAIL(wh_end_record_read(longer, &got, &err), -EBADMSG);
    CHECK(ftruncate(longer, 1 << 20) == 0);
    CHECK_FAIL(wh_end_record_read(longer, &got, &err), -EBADMSG);
}
