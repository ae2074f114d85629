/* SPDX-License-Identifier: Apache-2.0 */
/* Standard input, output and error, the stop descriptor, and the trace. */
#include "base/clock.h"
#include "guest.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

typedef struct sink {
    char text[256];
    size_t n;
    int last_stream, rc;
    size_t fail_after; /* bytes */
} sink;

static int take(void *user, int stream, const void *data, size_t n)
{
    sink *s = user;
    if (s->rc != 0 && s->n >= s->fail_after)
        return s->rc;
    CHECK_INT(s->n + n, <, sizeof(s->text));
    memcpy(s->text + s->n, data, n);
    s->n += n;
    s->last_stream = stream;
    return 0;
}

static wh_wasi_config config_with(int in, int out)
{
    return (wh_wasi_config){.stdin_fd = in, .stdout_fd = out, .stderr_fd = out, .trace_fd = -1};
}

TEST(without_descriptors_input_is_at_its_end_and_output_goes_nowhere)
{
    auto_guest *g = guest_new(NULL);
    char text[8];
    uint32_t n = 9;
    CHECK_INT(read_fd(g, 0, 4, text, &n), ==, OK);
    CHECK_INT(n, ==, 0);
    CHECK_INT(write_fd(g, 1, "x"), ==, OK);
    CHECK_INT(write_fd(g, 2, "x"), ==, OK);
}

TEST(streams_have_one_direction_and_no_position)
{
    auto_guest *g = guest_new(NULL);
    char text[8];
    uint32_t n;
    CHECK_INT(read_fd(g, 1, 4, text, &n), ==, EBADF_);
    CHECK_INT(write_fd(g, 0, "x"), ==, EBADF_);
    for (int fd = 0; fd < 3; fd++) {
        CHECK_INT(CALL(g, "fd_seek", fd, 0, 0, 8), ==, ESPIPE_);
        CHECK_INT(CALL(g, "fd_tell", fd, 8), ==, ESPIPE_);
    }
    CHECK_INT(CALL(g, "fd_pread", 0, IOV_AT, 0, 0, RET_AT), ==, ESPIPE_);
    CHECK_INT(CALL(g, "fd_pread", 1, IOV_AT, 0, 0, RET_AT), ==, EBADF_);
    CHECK_INT(CALL(g, "fd_pwrite", 1, IOV_AT, 0, 0, RET_AT), ==, ESPIPE_);
    CHECK_INT(CALL(g, "fd_pwrite", 0, IOV_AT, 0, 0, RET_AT), ==, EBADF_);
    CHECK_INT(CALL(g, "fd_filestat_set_size", 1, 0), ==, EBADF_);
    CHECK_INT(CALL(g, "fd_allocate", 1, 0, 1), ==, EBADF_);
    CHECK_INT(CALL(g, "fd_advise", 1, 0, 1, 0), ==, EBADF_);
    CHECK_INT(CALL(g, "fd_close", 1), ==, OK);
    CHECK_INT(write_fd(g, 1, "x"), ==, EBADF_);
}

TEST(a_writer_takes_the_output)
{
    sink s = {.n = 0};
    wh_wasi_config config = config_with(-1, -1);
    config.write = take;
    config.write_user = &s;
    auto_guest *g = guest_new(&config);
    guest_put(g, BUF_AT, "abcdef");
    guest_set32(g, IOV_AT, BUF_AT);
    guest_set32(g, IOV_AT + 4, 2);
    guest_set32(g, IOV_AT + 8, BUF_AT + 2);
    guest_set32(g, IOV_AT + 12, 4);
    CHECK_INT(CALL(g, "fd_write", 1, IOV_AT, 2, RET_AT), ==, OK);
    CHECK_INT(guest_u32(g, RET_AT), ==, 6);
    CHECK_MEM(s.text, "abcdef", 6);
    CHECK_INT(s.last_stream, ==, 1);
    CHECK_INT(write_fd(g, 2, "!"), ==, OK);
    CHECK_INT(s.last_stream, ==, 2);
    /* What it refuses, the guest is told; what it took before counts. */
    s.rc = -EPIPE;
    CHECK_INT(write_fd(g, 1, "x"), ==, EPIPE_);
    s.fail_after = s.n + 2;
    guest_set32(g, IOV_AT, BUF_AT);
    guest_set32(g, IOV_AT + 4, 2);
    CHECK_INT(CALL(g, "fd_write", 1, IOV_AT, 2, RET_AT), ==, OK);
    CHECK_INT(guest_u32(g, RET_AT), ==, 2);
}

TEST(pipes_are_read_and_written)
{
    int in[2], out[2];
    char text[64];
    uint32_t n;
    CHECK_INT(pipe2(in, O_CLOEXEC), ==, 0);
    CHECK_INT(pipe2(out, O_CLOEXEC), ==, 0);
    wh_wasi_config config = config_with(in[0], out[1]);
    auto_guest *g = guest_new(&config);
    CHECK_INT(write(in[1], "input", 5), ==, 5);
    CHECK_INT(read_fd(g, 0, 63, text, &n), ==, OK);
    CHECK_STR(text, "input");
    close(in[1]);
    CHECK_INT(read_fd(g, 0, 63, text, &n), ==, OK);
    CHECK_INT(n, ==, 0);
    CHECK_INT(write_fd(g, 1, "out"), ==, OK);
    CHECK_INT(write_fd(g, 2, "err"), ==, OK);
    CHECK_INT(read(out[0], text, 63), ==, 6);
    CHECK_MEM(text, "outerr", 6);
    signal(SIGPIPE, SIG_IGN);
    close(out[0]);
    CHECK_INT(write_fd(g, 1, "x"), ==, EPIPE_);
}

TEST(a_full_non_blocking_pipe_is_waited_for)
{
    int out[2];
    CHECK_INT(pipe2(out, O_CLOEXEC | O_NONBLOCK), ==, 0);
    CHECK_INT(fcntl(out[1], F_SETPIPE_SZ, 4096), ==, 4096);
    wh_wasi_config config = config_with(-1, out[1]);
    auto_guest *g = guest_new(&config);
    pid_t pid = fork();
    if (pid == 0) {
        char sunk[1000];
        for (size_t all = 0; all < 30000;) {
            usleep(200);
            ssize_t n = read(out[0], sunk, sizeof(sunk));
            all += n > 0 ? (size_t)n : 0;
        }
        _exit(0);
    }
    guest_set32(g, IOV_AT, BUF_AT);
    guest_set32(g, IOV_AT + 4, 30000);
    CHECK_INT(CALL(g, "fd_write", 1, IOV_AT, 1, RET_AT), ==, OK);
    CHECK_INT(guest_u32(g, RET_AT), ==, 30000);
    kill(pid, SIGKILL);
}

static volatile sig_atomic_t stopped;

static void on_signal(int signo)
{
    (void)signo;
    stopped = 1;
}

static bool is_stopped(void *user)
{
    (void)user;
    return stopped != 0;
}

static void *signal_soon(void *arg)
{
    usleep(20000);
    pthread_kill(*(pthread_t *)arg, SIGUSR1);
    return NULL;
}

/* Runs `call` while a signal comes that asks for the guest's end. */
#define CHECK_INTERRUPTED(g, call)                                                   \
    do {                                                                             \
        pthread_t self = pthread_self(), thread;                                     \
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART}; \
        wh_time began = wh_mono_now();                                               \
        stopped = 0;                                                                 \
        CHECK_INT(sigaction(SIGUSR1, &action, NULL), ==, 0);                         \
        CHECK_INT(pthread_create(&thread, NULL, signal_soon, &self), ==, 0);         \
        CHECK_INT(call, ==, EXITED);                                                 \
        CHECK_INT((g)->frame.exit_code, ==, 143);                                    \
        CHECK_INT(wh_mono_now() - began, <, 5 * WH_SEC);                             \
        pthread_join(thread, NULL);                                                  \
    } while (0)

TEST(a_stop_request_ends_a_read_and_a_sleep)
{
    int in[2];
    char text[8];
    uint32_t n;
    CHECK_INT(pipe2(in, O_CLOEXEC), ==, 0);
    wh_wasi_config config = config_with(in[0], -1);
    config.interrupted = is_stopped;
    auto_guest *g = guest_new(&config);
    CHECK_INTERRUPTED(g, read_fd(g, 0, 4, text, &n));
    memset(g->mem + 400, 0, 48);
    guest_set32(g, 416, 1);                         /* monotonic */
    guest_set64(g, 424, UINT64_C(60) * 1000000000); /* a minute */
    CHECK_INTERRUPTED(g, CALL(g, "poll_oneoff", 400, 500, 1, RET_AT));
    stopped = 1; /* and one that came before is not missed */
    CHECK_INT(read_fd(g, 0, 4, text, &n), ==, EXITED);
    CHECK_INT(CALL(g, "sched_yield"), ==, EXITED);
    stopped = 0;
}

TEST(the_stop_descriptor_says_term)
{
    auto_guest *g = guest_new(NULL);
    wh_err err = {0};
    char text[16];
    uint32_t n;
    int stop[2], fd;
    CHECK_INT(pipe2(stop, O_CLOEXEC), ==, 0);
    CHECK_OK(wh_wasi_preopen_stop(g->wasi, stop[0], &fd, &err), &err);
    CHECK_INT(fd, ==, 4);
    CHECK(!wh_wasi_stop_claimed(g->wasi));
    CHECK_INT(CALL(g, "fd_prestat_get", fd, 200), ==, EBADF_);
    CHECK(!wh_wasi_stop_claimed(g->wasi));
    CHECK_INT(write(stop[1], "TERM\n", 5), ==, 5);
    close(stop[1]);
    CHECK_INT(read_fd(g, fd, 15, text, &n), ==, OK);
    CHECK_STR(text, "TERM\n");
    CHECK(wh_wasi_stop_claimed(g->wasi));
    CHECK_INT(read_fd(g, fd, 15, text, &n), ==, OK);
    CHECK_INT(n, ==, 0);
    CHECK_INT(write_fd(g, fd, "x"), ==, EBADF_);
    CHECK_INT(CALL(g, "fd_seek", fd, 0, 0, 8), ==, ESPIPE_);
}

TEST(fifos_in_a_folder_can_be_non_blocking)
{
    auto_guest *g = guest_new(NULL);
    char path[128], text[8];
    uint32_t n;
    int fd;
    snprintf(path, sizeof(path), "%s/fifo", g->dir);
    CHECK_INT(mkfifo(path, 0600), ==, 0);
    CHECK_INT(open_at(g, 0, "fifo", 0, READ, NONBLOCK, &fd), ==, OK);
    int out = open(path, O_WRONLY | O_CLOEXEC);
    CHECK_INT(read_fd(g, fd, 4, text, &n), ==, EAGAIN_);
    CHECK_INT(write(out, "abc", 3), ==, 3);
    CHECK_INT(read_fd(g, fd, 4, text, &n), ==, OK);
    CHECK_STR(text, "abc");
    CHECK_INT(CALL(g, "fd_fdstat_get", fd, 200), ==, OK);
    CHECK_INT(g->mem[200], ==, 0);
    CHECK_INT(CALL(g, "fd_tell", fd, 8), ==, ESPIPE_);
    /* The flag can change on the way; the host's does not. */
    int later;
    close(open(path, O_RDWR | O_CLOEXEC));
    CHECK_INT(open_at(g, 0, "fifo", 0, READ, 0, &later), ==, OK);
    CHECK_INT(CALL(g, "fd_fdstat_set_flags", later, NONBLOCK), ==, OK);
    CHECK_INT(read_fd(g, later, 4, text, &n), ==, EAGAIN_);
    CHECK_INT(CALL(g, "fd_fdstat_set_flags", fd, 0), ==, OK);
    CHECK_INT(write(out, "de", 2), ==, 2);
    CHECK_INT(read_fd(g, fd, 4, text, &n), ==, OK);
    CHECK_STR(text, "de");
    int writer;
    CHECK_INT(open_at(g, 0, "fifo", 0, WRITE, 0, &writer), ==, OK);
    CHECK_INT(CALL(g, "fd_fdstat_set_flags", writer, NONBLOCK), ==, OK);
    int rc = OK;
    guest_set32(g, IOV_AT, BUF_AT);
    guest_set32(g, IOV_AT + 4, 4096);
    for (int i = 0; i < 100 && rc == OK; i++)
        rc = CALL(g, "fd_write", writer, IOV_AT, 1, RET_AT);
    CHECK_INT(rc, ==, EAGAIN_);
    close(out);
}

TEST(the_trace_reads_like_straces)
{
    static char buf[16384];
    int out[2], fd;
    CHECK_INT(pipe2(out, O_CLOEXEC | O_NONBLOCK), ==, 0);
    wh_wasi_config config = config_with(-1, -1);
    config.trace_fd = out[1];
    auto_guest *g = guest_new(&config);
    CHECK_INT(open_at(g, FOLLOW, "a \"name\"\n", CREAT | TRUNC, RW, APPEND, &fd), ==, OK);
    CHECK_INT(write_fd(g, fd, "hello\x01"), ==, OK);
    CHECK_INT(CALL(g, "fd_seek", fd, -1, 2, 8), ==, OK);
    uint32_t n;
    char text[8];
    CHECK_INT(read_fd(g, fd, 4, text, &n), ==, OK);
    CHECK_INT(CALL(g, "path_unlink_file", 99, PATH_AT, 1), ==, EBADF_);
    CHECK_INT(CALL(g, "clock_time_get", 1, 0, 3), ==, TRAPPED);
    CHECK_INT(CALL(g, "args_sizes_get", 0, 4), ==, OK);
    CHECK_INT(CALL(g, "proc_exit", 3), ==, EXITED);
    CHECK_INT(CALL(g, "fd_fdstat_set_rights", fd, 0, 2), ==, OK);
    CHECK_INT(CALL(g, "path_open", 3, 0, -1, -1, 0, -1, 0, 0, 0), ==, TRAPPED);
    CHECK_INT(read(out[0], buf, sizeof(buf) - 1), >, 0);
    CHECK_CONTAINS(
        buf,
        "path_open(3, SYMLINK_FOLLOW, \"a \\\"name\\\"\\n\", CREAT|TRUNC, FD_READ|FD_WRITE, 0, APPEND) = 4 <");
    CHECK_CONTAINS(buf, "\nfd_write(4, [\"hello\\x01\"]) = 6 <");
    CHECK_CONTAINS(buf, "\nfd_seek(4, -1, END) = 5 <");
    CHECK_CONTAINS(buf, "\nfd_read(4, 0x68[1]) = 1 [\"\\x01\"] <");
    CHECK_CONTAINS(buf, "\npath_unlink_file(99, \"a\") = EBADF <");
    CHECK_CONTAINS(
        buf,
        "\nclock_time_get(MONOTONIC, 0) = trap: In func wasi_snapshot_preview1::clock_time_get at write ");
    CHECK_CONTAINS(buf, "\nargs_sizes_get(0, 0x4) = 0 strings, 0 bytes <");
    CHECK_CONTAINS(buf, "\nproc_exit(3) = ? (ends with 3) <");
    CHECK_CONTAINS(buf, "\nfd_fdstat_set_rights(4, 0, FD_READ) = 0 <");
    CHECK_CONTAINS(buf, "path_open(3, 0, ?, 0, ");
}
