/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "harness.h"
#include "loop/loop.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

static wh_loop *loop;
static int got_code, got_status;

static void on_end(wh_child *child, int code, int status)
{
    got_code = code;
    got_status = status;
    CHECK_INT(wh_child_kill(child, 0), ==, -ESRCH);
    wh_child_done(child);
    wh_loop_stop(loop, 0);
}

static void start(wh_child *child, const wh_spawn *spawn)
{
    wh_err err = {0};
    if (loop == NULL)
        CHECK_OK(wh_loop_new(&loop, &err), &err);
    CHECK_OK(wh_child_start(loop, child, spawn, on_end, NULL, &err), &err);
}

static void finish(void)
{
    CHECK_OK(wh_loop_run(loop), NULL);
    wh_loop_free(loop);
}

static char *sh(char *script, char *argv[4])
{
    static char name[] = "sh", dash_c[] = "-c";
    argv[0] = name;
    argv[1] = dash_c;
    argv[2] = script;
    argv[3] = NULL;
    return name;
}

TEST(exit_codes_arrive)
{
    char script[] = "exit 42", *argv[4];
    wh_child child = {0};
    start(&child, &(wh_spawn){.path = sh(script, argv), .argv = argv});
    CHECK_INT(child.pid, >, 0);
    finish();
    CHECK_INT(got_code, ==, CLD_EXITED);
    CHECK_INT(got_status, ==, 42);
}

TEST(signals_arrive)
{
    char script[] = "sleep 100", *argv[4];
    wh_child child = {0};
    start(&child,
          &(wh_spawn){.path = sh(script, argv), .argv = argv, .new_session = true, .death_signal = SIGKILL});
    CHECK_INT(getsid(child.pid), ==, child.pid);
    CHECK_OK(wh_child_kill(&child, SIGTERM), NULL);
    finish();
    CHECK_INT(got_code, ==, CLD_KILLED);
    CHECK_INT(got_status, ==, SIGTERM);
}

TEST(a_failing_exec_is_an_error_here)
{
    wh_err err = {0};
    wh_child child = {0};
    char name[] = "x", *argv[] = {name, NULL};
    CHECK_OK(wh_loop_new(&loop, &err), &err);
    CHECK_ERR(
        wh_child_start(loop, &child, &(wh_spawn){.path = "/nonexistent/x", .argv = argv}, on_end, NULL, &err),
        -ENOENT, &err, "start '/nonexistent/x'");
    CHECK_ERR(
        wh_child_start(loop, &child, &(wh_spawn){.path = "/proc/version", .argv = argv}, on_end, NULL, &err),
        -EACCES, &err, "start '/proc/version'");
    CHECK_ERR(wh_child_start(loop, &child, &(wh_spawn){.path = "no-such-program-at-all", .argv = argv},
                             on_end, NULL, &err),
              -ENOENT, &err, "no-such-program-at-all");
    int fds[] = {0, 4000};
    CHECK_FAIL(wh_child_start(loop, &child, &(wh_spawn){.path = "sh", .argv = argv, .fds = fds, .n_fds = 2},
                              on_end, NULL, &err),
               -EBADF);
    CHECK_CONTAINS(err.msg, "hand descriptors to");
    CHECK_INT(waitpid(-1, NULL, WNOHANG), ==, -1); /* no zombie is left */
    CHECK_INT(errno, ==, ECHILD);
    wh_child_done(&child);
    wh_loop_free(loop);
}

/* Swapped descriptors are what naive placing overwrites. */
TEST(descriptors_are_placed_and_all_others_closed)
{
    int out[2], swap_a[2];
    auto_close int keep = open("/dev/null", O_RDONLY); /* without close-on-exec, on purpose */
    CHECK(keep >= 3);
    CHECK_OK(pipe2(out, O_CLOEXEC), NULL);
    CHECK_OK(pipe2(swap_a, O_CLOEXEC), NULL);
    CHECK_INT(write(swap_a[1], "hi\n", 3), ==, 3);
    close(swap_a[1]);
    int fds[] = {-1, out[1], 2, 1, swap_a[0], 0};
    char script[] = "read x <&4; echo $x; ls /proc/self/fd | wc -l", *argv[4];
    wh_child child = {0};
    start(&child, &(wh_spawn){.path = sh(script, argv), .argv = argv, .fds = fds, .n_fds = 6});
    close(out[1]);
    finish();
    wh_err err = {0};
    auto_free char *text = NULL;
    CHECK_OK(wh_read_fd(out[0], 1000, &text, NULL, &err), &err);
    CHECK_STR(text, "hi\n7\n"); /* ours, and the folder that ls reads */
    CHECK_INT(got_status, ==, 0);
}

TEST(the_child_has_no_signal_blocked_or_ignored)
{
    int out[2];
    sigset_t set;
    CHECK_OK(pipe2(out, O_CLOEXEC), NULL);
    (void)sigfillset(&set);
    CHECK_OK(sigprocmask(SIG_BLOCK, &set, NULL), NULL);
    CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    int fds[] = {-1, out[1], 2};
    /* Signals 32 and 33 are the C library's own: whoever started us may have left them ignored for good. */
    char script[] = "grep -E 'Sig(Blk|Ign)' /proc/self/status | cut -f2", *argv[4];
    wh_child child = {0};
    start(&child, &(wh_spawn){.path = sh(script, argv), .argv = argv, .fds = fds, .n_fds = 3});
    close(out[1]);
    finish();
    auto_free char *text = NULL;
    CHECK_OK(wh_read_fd(out[0], 1000, &text, NULL, NULL), NULL);
    const uint64_t reserved = 3ULL << 31;
    CHECK_INT(strtoull(text, NULL, 16) & ~reserved, ==, 0);
    CHECK_INT(strtoull(strchr(text, '\n') + 1, NULL, 16) & ~reserved, ==, 0);
    CHECK(signal(SIGPIPE, SIG_DFL) == SIG_IGN); /* ours is what it was */
}

TEST(the_environment_is_what_was_given)
{
    char script[] = "test \"$A\" = b && test -z \"$HOME\"", *argv[4];
    char pair[] = "A=b", *env[] = {pair, NULL};
    wh_child child = {0};
    start(&child, &(wh_spawn){.path = sh(script, argv), .argv = argv, .env = env});
    finish();
    CHECK_INT(got_status, ==, 0);
}

static int ran, ended, cancelled_jobs;

static void run(void *user)
{
    (void)user;
    usleep(1000);
    __atomic_add_fetch(&ran, 1, __ATOMIC_RELAXED);
}

static void done(void *user, bool cancelled)
{
    ended++;
    cancelled_jobs += cancelled;
    if (ended == 20 && user != NULL)
        wh_loop_stop(user, 0);
}

TEST(jobs_run_and_end_on_the_loop)
{
    wh_err err = {0};
    wh_pool *pool = NULL;
    CHECK_OK(wh_loop_new(&loop, &err), &err);
    CHECK_OK(wh_pool_new(loop, 3, 100, &pool, &err), &err);
    for (int i = 0; i < 20; i++)
        CHECK_OK(wh_pool_submit(pool, run, done, loop), NULL);
    CHECK_INT(ended, ==, 0);
    CHECK_OK(wh_loop_run(loop), NULL);
    CHECK_INT(ran, ==, 20);
    CHECK_INT(cancelled_jobs, ==, 0);
    wh_pool_free(pool);
    wh_loop_free(loop);
}

TEST(a_full_queue_refuses_and_a_freed_pool_cancels)
{
    wh_err err = {0};
    wh_pool *pool = NULL;
    CHECK_OK(wh_loop_new(&loop, &err), &err);
    CHECK_OK(wh_pool_new(loop, 1, 4, &pool, &err), &err);
    int accepted = 0;
    while (wh_pool_submit(pool, run, done, NULL) == 0)
        accepted++;
    CHECK_INT(accepted, >=, 4);
    CHECK_FAIL(wh_pool_submit(pool, run, done, NULL), -EAGAIN);
    wh_pool_free(pool);
    CHECK_INT(ended, ==, 0); /* never inside of the call */
    wh_loop_free(loop);
    CHECK_INT(ended, ==, accepted);
    CHECK_INT(ran + cancelled_jobs, ==, accepted);
    CHECK_INT(cancelled_jobs, >, 0);
}
