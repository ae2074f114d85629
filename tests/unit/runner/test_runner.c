/* SPDX-License-Identifier: Apache-2.0 */
/* The real program on a real guest. */
#include "run.h"

#include "base/record.h"
#include "base/str.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>

static void finish(run *r)
{
    run_start(r);
    run_wait(r);
    if (!WIFEXITED(r->status))
        wh_test_fail(__FILE__, __LINE__, "the runner was killed by signal %d", WTERMSIG(r->status));
    CHECK_INT(WEXITSTATUS(r->status), ==, r->end.exit_code);
}

TEST(a_command_runs_to_its_end)
{
    run r;
    run_init(&r, "hello", NULL);
    finish(&r);
    auto_free char *out = run_output(&r);
    CHECK_STR(out, "hello\n");
    CHECK_INT(r.end.exit_code, ==, 0);
    CHECK_STR(r.end.reason, "Completed");
    CHECK_INT(r.end.guest_start, >, 0);
    CHECK_INT(r.end.end, >=, r.end.guest_start);
    CHECK_INT(r.end.memory_bytes, >=, 65536);
    run_done(&r);
}

TEST(the_exit_code_is_the_guests)
{
    run r;
    run_init(&r, "exit", "42", NULL);
    finish(&r);
    CHECK_INT(r.end.exit_code, ==, 42);
    CHECK_STR(r.end.reason, "Error");
    run_done(&r);
}

static void check_end(const char *verb, int code, const char *reason, const char *message)
{
    run r;
    run_init(&r, verb, NULL);
    r.log_file = true;
    finish(&r);
    CHECK_INT(r.end.exit_code, ==, code);
    CHECK_STR(r.end.reason, reason);
    CHECK_CONTAINS(r.end.message, message);
    auto_free char *out = run_output(&r);
    CHECK_CONTAINS(out, "wherry: the guest was ended");
    run_done(&r);
}

TEST(each_trap_is_named)
{
    check_end("trap", 134, "Trap", "unreachable");
    check_end("bounds", 134, "Trap", "out of bounds");
    check_end("stack", 134, "StackOverflow", "stack");
}

TEST(memory_ends_at_its_limit)
{
    run r;
    run_init(&r, "grow", NULL);
    r.spec.memory_bytes_max = 32UL << 20;
    finish(&r);
    CHECK_INT(r.end.exit_code, ==, 3);
    CHECK_INT(r.end.memory_bytes, <=, 32 << 20);
    CHECK_INT(r.end.memory_bytes, >, 24 << 20);
    run_done(&r);
}

TEST(a_trap_after_a_refused_growth_is_out_of_memory)
{
    run r;
    run_init(&r, "grow-abort", NULL);
    r.spec.memory_bytes_max = 16UL << 20;
    finish(&r);
    CHECK_INT(r.end.exit_code, ==, 137);
    CHECK_STR(r.end.reason, "OutOfMemory");
    CHECK_CONTAINS(r.end.message, "memory could not grow");
    run_done(&r);
}

TEST(a_guest_that_does_not_fit_its_limit_is_out_of_memory)
{
    run r;
    run_init(&r, "hello", NULL);
    r.spec.memory_bytes_max = 65536;
    finish(&r);
    CHECK_INT(r.end.exit_code, ==, 137);
    CHECK_STR(r.end.reason, "OutOfMemory");
    run_done(&r);
}

TEST(the_deadline_ends_an_endless_loop)
{
    run r;
    run_init(&r, "loop", NULL);
    r.spec.deadline = 300 * WH_MSEC;
    wh_time before = wh_mono_now();
    finish(&r);
    wh_time took = wh_mono_now() - before;
    CHECK_INT(r.end.exit_code, ==, 137);
    CHECK_STR(r.end.reason, "DeadlineExceeded");
    CHECK_CONTAINS(r.end.message, "0.300 s");
    CHECK_INT(took, >=, 300 * WH_MSEC);
    CHECK_INT(took, <, 5 * WH_SEC);
    run_done(&r);
}

static void check_stop(const char *verb, const char *arg, int signo)
{
    run r;
    run_init(&r, verb, arg, NULL);
    run_start(&r);
    run_wait_running(&r);
    usleep(20000);
    CHECK(kill(r.pid, signo) == 0);
    run_wait(&r);
    CHECK(WIFEXITED(r.status));
    CHECK_INT(WEXITSTATUS(r.status), ==, 128 + signo);
    CHECK_INT(r.end.exit_code, ==, 128 + signo);
    CHECK_STR(r.end.reason, "Stopped");
    run_done(&r);
}

TEST(a_stop_ends_a_tight_loop_and_a_sleep)
{
    check_stop("loop", NULL, SIGTERM);
    check_stop("loop", NULL, SIGINT);
    check_stop("sleep", "100", SIGTERM);
}

TEST(a_guest_that_claimed_its_stop_ends_by_itself)
{
    run r;
    run_init(&r, "stop", NULL);
    run_start(&r);
    run_wait_running(&r);
    usleep(100000);
    CHECK(kill(r.pid, SIGTERM) == 0);
    run_wait(&r);
    auto_free char *out = run_output(&r);
    CHECK_STR(out, "waiting\ngot 5 TERM\n");
    CHECK_INT(r.end.exit_code, ==, 7);
    CHECK_STR(r.end.reason, "Error");
    run_done(&r);
}

TEST(a_kill_leaves_no_end_record)
{
    run r;
    run_init(&r, "loop", NULL);
    run_start(&r);
    run_wait_running(&r);
    CHECK(kill(r.pid, SIGKILL) == 0);
    run_wait(&r);
    CHECK(WIFSIGNALED(r.status));
    CHECK_STR(r.end.reason, "");
    run_done(&r);
}

TEST(the_log_has_the_cri_format)
{
    run r;
    run_init(&r, "log", "2", NULL);
    r.log_file = true;
    finish(&r);
    auto_free char *log = run_output(&r);
    auto_free char *copy = wh_xstrdup(log);
    char *second = strchr(copy, '\n');
    CHECK(second != NULL);
    *second++ = '\0';
    CHECK_CONTAINS(copy, "Z stdout F line 000000");
    CHECK_CONTAINS(second, "Z stderr F line 000001\n");
    CHECK_INT(strlen("2026-01-02T03:04:05.123456789Z"), ==, strchr(copy, ' ') - copy);
    run_done(&r);
}

TEST(an_unfinished_line_is_there_at_the_end)
{
    run r;
    run_init(&r, "partial", NULL);
    r.log_file = true;
    finish(&r);
    auto_free char *log = run_output(&r);
    CHECK_CONTAINS(log, " stdout P no end\n");
    run_done(&r);
    run_init(&r, "partial-loop", NULL);
    r.log_file = true;
    run_start(&r);
    run_wait_running(&r);
    usleep(100000);
    CHECK(kill(r.pid, SIGTERM) == 0);
    run_wait(&r);
    auto_free char *stopped = run_output(&r);
    CHECK_CONTAINS(stopped, " stdout P no end\n");
    run_done(&r);
}

static void send_log(run *r, const char *path)
{
    auto_buf wh_buf b;
    char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = {0};
    auto_close int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    wh_buf_init(&b, 256);
    wh_record_put_str(&b, "op", "log");
    struct iovec iov = {b.p, b.len};
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    *c = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(c), &fd, sizeof(fd));
    CHECK_INT(sendmsg(r->control, &msg, MSG_NOSIGNAL), ==, b.len);
    CHECK(kill(r->pid, SIGUSR1) == 0);
}

#define LOG_LINES 60000
#define LOG_FILES 20

TEST_TIMEOUT(rotation_under_load_loses_no_line, 120)
{
    static bool seen[LOG_LINES];
    char path[128], lines[16];
    size_t files_with_lines = 0, total = 0;
    run r;
    (void)snprintf(lines, sizeof(lines), "%d", LOG_LINES);
    run_init(&r, "log", lines, NULL);
    r.log_file = true;
    run_start(&r);
    run_wait_running(&r);
    for (int i = 0; i < LOG_FILES; i++) {
        usleep(2000);
        (void)snprintf(path, sizeof(path), "%s/log.%d", r.dir, i);
        siginfo_t info = {.si_pid = 0};
        if (waitid(P_PID, (id_t)r.pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid != 0)
            break;
        send_log(&r, path);
    }
    run_wait(&r);
    CHECK_INT(r.end.exit_code, ==, 0);
    for (int i = -1; i < LOG_FILES; i++) {
        (void)snprintf(path, sizeof(path), i < 0 ? "%s/log" : "%s/log.%d", r.dir, i);
        FILE *f = fopen(path, "re");
        char line[128];
        long number;
        files_with_lines += f != NULL;
        while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
            const char *text = strstr(line, " F line ");
            CHECK(text != NULL);
            CHECK_INT(sscanf(text, " F line %ld\n", &number), ==, 1);
            CHECK(number >= 0 && number < LOG_LINES && !seen[number]);
            seen[number] = true;
            total++;
        }
        if (f != NULL)
            fclose(f);
    }
    CHECK_INT(total, ==, LOG_LINES);
    CHECK_INT(files_with_lines, >, 2);
    run_done(&r);
}

TEST(the_environment_is_the_containers)
{
    run r;
    run_init(&r, "env", NULL);
    setenv("SECRET_OF_THE_NODE", "x", 1);
    wh_strv_push(&r.spec.env, "A=1");
    wh_strv_push(&r.spec.env, "B=two words");
    finish(&r);
    auto_free char *out = run_output(&r);
    CHECK_STR(out, "A=1\nB=two words\nWHERRY_STOP_FD=3\n");
    run_done(&r);
}

TEST(directories_are_all_that_a_guest_sees)
{
    char host[96];
    run r;
    run_init(&r, "read", "/data/file", NULL);
    (void)snprintf(host, sizeof(host), "%s/data", r.dir);
    CHECK_OK(wh_mkdir_p(host, 0755, NULL), NULL);
    auto_close int dirfd = open(host, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK_OK(wh_write_file(dirfd, "file", "content\n", 8, 0644, NULL), NULL);
    run_dir(&r, host, "/data", true);
    finish(&r);
    auto_free char *out = run_output(&r);
    CHECK_STR(out, "content\n");
    run_done(&r);
}

static void check_refused(const char *verb, const char *path, bool read_only, bool allowed)
{
    char host[96];
    run r;
    run_init(&r, verb, path, NULL);
    (void)snprintf(host, sizeof(host), "%s/data", r.dir);
    CHECK_OK(wh_mkdir_p(host, 0755, NULL), NULL);
    auto_close int dirfd = open(host, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK_OK(wh_write_file(dirfd, "../secret", "secret\n", 7, 0644, NULL), NULL);
    CHECK(symlinkat("../secret", dirfd, "link") == 0);
    run_dir(&r, host, "/data", read_only);
    finish(&r);
    auto_free char *out = run_output(&r);
    CHECK_INT(r.end.exit_code, ==, allowed ? 0 : 1);
    CHECK(strstr(out, "secret\n") == NULL);
    run_done(&r);
}

TEST(paths_do_not_leave_their_directory)
{
    check_refused("read", "/data/../secret", true, false);
    check_refused("read", "/data/link", true, false);
    check_refused("read", "/etc/passwd", true, false);
    check_refused("write", "/data/new", true, false);
    check_refused("write", "/data/new", false, true);
    check_refused("write", "/data/../new", false, false);
}

static void check_invoke(const char *function, const char *a, const char *b, int code, const char *out)
{
    run r;
    run_init(&r, a, b, NULL);
    r.spec.invoke = wh_xstrdup(function);
    finish(&r);
    auto_free char *text = run_output(&r);
    CHECK_INT(r.end.exit_code, ==, code);
    CHECK_CONTAINS(text, out);
    if (code == 128)
        CHECK_STR(r.end.reason, "StartError");
    run_done(&r);
}

TEST(invoke_calls_one_function)
{
    check_invoke("add", "40", "2", 0, "42\n");
    check_invoke("add", "-1", "0x10", 0, "15\n");
    check_invoke("half", "5", NULL, 0, "2.5\n");
    check_invoke("add", "40", NULL, 128, "takes 2 arguments, 1 were given");
    check_invoke("add", "40", "x", 128, "'x' is no i32");
    check_invoke("nothing", NULL, NULL, 128, "exports no function 'nothing'");
}

TEST(what_cannot_start_says_why)
{
    run r;
    run_init(&r, "hello", NULL);
    r.code = "/dev/null";
    finish(&r);
    CHECK_INT(r.end.exit_code, ==, 128);
    CHECK_STR(r.end.reason, "StartError");
    CHECK_INT(r.end.guest_start, ==, 0);
    CHECK(r.end.message[0] != '\0');
    run_done(&r);
}

TEST(a_plain_user_runs_it_too)
{
    run r;
    run_init(&r, "hello", NULL);
    if (getuid() != 0)
        SKIP("this suite is a plain user already");
    run_as(&r, 65534);
    finish(&r);
    auto_free char *out = run_output(&r);
    CHECK_STR(out, "hello\n");
    run_done(&r);
}

TEST(without_the_sandbox_it_runs_when_asked)
{
    run r;
    run_init(&r, "hello", NULL);
    r.no_sandbox = true;
    finish(&r);
    CHECK_INT(r.end.exit_code, ==, 0);
    run_done(&r);
}
