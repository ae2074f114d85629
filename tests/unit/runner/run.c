/* SPDX-License-Identifier: Apache-2.0 */
#include "run.h"

#include "base/record.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>

static uid_t as_uid;

void run_init(run *r, ...)
{
    va_list args;
    *r = (run){.control = -1, .pid = -1};
    if (getenv("WH_RUNNER") == NULL || getenv("WH_GUEST") == NULL || access(getenv("WH_GUEST"), R_OK) < 0)
        SKIP("no runner or no guest: WH_RUNNER and WH_GUEST name them");
    (void)snprintf(r->dir, sizeof(r->dir), "/tmp/wherry-test-runner-XXXXXX");
    CHECK(mkdtemp(r->dir) != NULL);
    CHECK(chmod(r->dir, 0777) == 0);
    r->spec.id = wh_xstrdup("test");
    r->spec.stop_signal = SIGTERM;
    wh_strv_push(&r->spec.args, "guest");
    va_start(args, r);
    for (const char *arg; (arg = va_arg(args, const char *)) != NULL;)
        wh_strv_push(&r->spec.args, arg);
    va_end(args);
    as_uid = 0;
}

void run_as(WH_UNUSED run *r, uid_t uid)
{
    as_uid = uid;
}

void run_dir(run *r, const char *host, const char *guest, bool read_only)
{
    if (r->spec.dirs == NULL)
        r->spec.dirs = wh_xcalloc(8, sizeof(*r->spec.dirs));
    int fd = open(host, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(fd >= 0);
    r->spec.dirs[r->spec.n_dirs++] = (wh_runspec_dir){wh_xstrdup(guest), fd, read_only};
}

static int open_in(const run *r, const char *name)
{
    char path[96];
    (void)snprintf(path, sizeof(path), "%s/%s", r->dir, name);
    int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    CHECK(fd >= 0);
    return fd;
}

/* In the child: descriptors to 0 .. n-1, all others closed, as a keeper does it. */
static void become(const int *fds, int n, bool no_sandbox)
{
    int high[64];
    for (int i = 0; i < n; i++)
        high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 64);
    for (int i = 0; i < n; i++)
        (void)dup3(high[i], i, 0);
    (void)close_range((unsigned)n, ~0U, 0);
    if (as_uid != 0 && (setgid(as_uid) < 0 || setuid(as_uid) < 0))
        _exit(126);
    execle(getenv("WH_RUNNER"), "wherry-runner", no_sandbox ? WH_RUNNER_NO_SANDBOX : NULL, NULL,
           (char *[]){NULL});
    _exit(127);
}

void run_start(run *r)
{
    wh_err err = {0};
    int pair[2], fds[32], n = 4;
    int out = open_in(r, "out"), null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int code = open(r->code == NULL ? getenv("WH_GUEST") : r->code, O_RDONLY | O_CLOEXEC);
    CHECK(code >= 0);
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    r->control = pair[0];
    fds[0] = null;
    fds[1] = fds[2] = out;
    fds[n] = code, r->spec.code_fd = n++;
    fds[n] = pair[1], r->spec.control_fd = n++;
    fds[n] = open_in(r, "end"), r->spec.end_fd = n++;
    r->spec.log_fd = -1;
    if (r->log_file)
        fds[n] = open_in(r, "log"), r->spec.log_fd = n++;
    for (size_t i = 0; i < r->spec.n_dirs; i++)
        fds[n] = r->spec.dirs[i].fd, r->spec.dirs[i].fd = n++;
    fds[WH_RUNSPEC_FD] = wh_runspec_memfd(&r->spec, &err);
    CHECK_OK(fds[WH_RUNSPEC_FD], &err);
    r->pid = fork();
    CHECK(r->pid >= 0);
    if (r->pid == 0)
        become(fds, n, r->no_sandbox);
    for (int i = 0; i < n; i++) {
        if (i != 2)
            close(fds[i]);
    }
}

void run_wait_running(run *r)
{
    char data[1024];
    struct pollfd p = {.fd = r->control, .events = POLLIN};
    CHECK_INT(poll(&p, 1, 20000), ==, 1);
    ssize_t n = recv(r->control, data, sizeof(data), 0);
    CHECK_INT(n, >, 0);
    auto_free char *op = NULL;
    CHECK_OK(wh_record_get_str(data, (size_t)n, "op", &op, NULL), NULL);
    CHECK_STR(op, "running");
}

void run_wait(run *r)
{
    wh_err err = {0};
    CHECK_INT(waitpid(r->pid, &r->status, 0), ==, r->pid);
    r->pid = -1;
    auto_close int fd = open_in(r, "end");
    r->end = (wh_end_record){0};
    int rc = wh_end_record_read(fd, &r->end, &err);
    CHECK(rc == 0 || rc == -ENODATA);
}

char *run_output(const run *r)
{
    char *text = NULL;
    wh_err err = {0};
    auto_close int fd = open_in(r, r->log_file ? "log" : "out");
    CHECK_OK(wh_read_fd(fd, 64UL << 20, &text, NULL, &err), &err);
    return text;
}

void run_done(run *r)
{
    if (r->pid > 0) {
        (void)kill(r->pid, SIGKILL);
        (void)waitpid(r->pid, NULL, 0);
    }
    if (r->control >= 0)
        close(r->control);
    for (size_t i = 0; i < r->spec.n_dirs; i++)
        free(r->spec.dirs[i].guest_path);
    free(r->spec.dirs);
    free(r->spec.id);
    free(r->spec.invoke);
    wh_strv_free(r->spec.args);
    wh_strv_free(r->spec.env);
    (void)wh_rm_rf(AT_FDCWD, r->dir, NULL);
}
