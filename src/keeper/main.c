/* SPDX-License-Identifier: Apache-2.0 */
/* wherry-keeper: starts runners and keeps what an agent must not lose. Small on purpose: the cost of making a
 * process grows with its maker. */
#include "base/limits.h"
#include "base/log.h"
#include "base/options.h"
#include "keeper/server.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>

static const char *dir;
static uint64_t state = UINT64_MAX;
static bool background;

static const wh_opt options[] = {
    {"dir", 'd', WH_OPT_STR, &dir, "DIR", "folder of its socket and of one state file per container"},
    {"background", 'b', WH_OPT_FLAG, &background, NULL, "return when it listens"},
    {"state", 0, WH_OPT_U64, &state, "FD", "what the keeper before left; given by that one only"},
    {0},
};

/* Runners begin with this mask too: what reaches one before its handlers stand must wait, since the first
 * process of a pid namespace loses what it does not handle. */
static void block_signals(void)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGSYS, SIGABRT, SIGTRAP};
    sigset_t set;
    sigfillset(&set);
    for (size_t i = 0; i < WH_ARRAY_LEN(faults); i++)
        sigdelset(&set, faults[i]);
    (void)sigprocmask(SIG_SETMASK, &set, NULL);
}

/* Two descriptors for each container that runs, some more for one that rests. Whoever may not raise the hard limit
 * takes what there is. */
static void raise_limits(void)
{
    const rlim_t wanted = 8 * WH_KEEPER_CONTAINERS_MAX + 1024;
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        return;
    const rlim_t hard = WH_MAX(wanted, files.rlim_max);
    const struct rlimit more = {wanted, hard};
    if (setrlimit(RLIMIT_NOFILE, &more) == 0)
        return;
    files.rlim_cur = files.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &files);
}

/* The parent waits for one byte, so that whoever started us may connect when we return. */
static int into_background(int *ret_ready, wh_err *err)
{
    int ready[2];
    char byte;
    if (pipe2(ready, O_CLOEXEC) < 0)
        return wh_fail(err, -errno, "go into the background");
    pid_t pid = fork();
    if (pid < 0)
        return wh_fail(err, -errno, "go into the background");
    if (pid > 0) {
        close(ready[1]);
        _exit(read(ready[0], &byte, 1) == 1 ? 0 : 1);
    }
    close(ready[0]);
    (void)setsid();
    *ret_ready = ready[1];
    return 0;
}

static void on_terminate(WH_UNUSED const struct signalfd_siginfo *info, void *user)
{
    wh_loop_stop(user, 0);
}

static int serve(wh_loop *loop, wh_err *err)
{
    wh_keeper_server *server;
    wh_jail jail;
    wh_err why = {0};
    auto_close int ready = -1;
    int rc = state == UINT64_MAX && background ? into_background(&ready, err) : 0;
    if (rc == 0)
        rc = wh_loop_signal(loop, SIGTERM, on_terminate, loop, err);
    if (rc == 0)
        rc = wh_loop_signal(loop, SIGINT, on_terminate, loop, err);
    if (rc == 0 && state != UINT64_MAX) {
        rc = wh_keeper_server_resume(loop, dir, (int)state, &server, err);
    } else if (rc == 0) {
        rc = wh_jail_init(&jail, &why);
        if (rc < 0)
            *err = why;
        else if (!jail.namespaces)
            wh_log(WARN, "runners get no namespaces of their own", KV_ERR(&why));
        if (rc == 0)
            rc = wh_keeper_server_new(loop, dir, &jail, &server, err);
    }
    if (ready >= 0 && (rc == 0 || rc == -EALREADY))
        (void)!write(ready, "", 1);
    if (rc != 0)
        return rc;
    rc = wh_loop_run(loop);
    wh_keeper_server_free(server);
    return rc;
}

int main(int argc, char **argv)
{
    wh_loop *loop = NULL;
    wh_err err = {0};
    int operands = 0;
    wh_log_setup("wherry-keeper", STDERR_FILENO, WH_LOG_INFO, WH_LOG_AUTO);
    int rc = wh_options_parse(options, argc, argv, false, &operands, &err);
    if (rc == 0 && (dir == NULL || operands > 0))
        rc = wh_fail(&err, -EINVAL, "usage: wherry-keeper --dir DIR [--background].");
    if (rc < 0) {
        wh_log(ERROR, "wrong usage", KV_ERR(&err));
        return 2;
    }
    block_signals();
    raise_limits();
    rc = wh_loop_new(&loop, &err);
    if (rc == 0)
        rc = serve(loop, &err);
    if (rc == -EALREADY)
        return 0; /* somebody was faster: the job is done */
    if (rc < 0)
        wh_log(ERROR, "the keeper ends", KV_ERR(&err));
    wh_loop_free(loop);
    return rc < 0 ? 1 : 0;
}
