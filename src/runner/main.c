/* SPDX-License-Identifier: Apache-2.0 */
/* wherry-runner: one container, from its spec on descriptor 3 to its end record. Started by the keeper, which
 * has already made namespaces, ids and limits, or directly by `wherry run`. The order of the steps is that of
 * the sandbox: lock what can be locked, load, lock the rest, and only then run the guest. What the guest is differs by
 * program: core.c runs modules, component.c components. */
#include "runner/body.h"

#include "base/file.h"
#include "base/record.h"

#include <stdio.h>
#include <sys/stat.h>

/* Tells the person who reads the container's log; the agent reads the end record. */
void wh_runner_say(const wh_runner *r, const char *what, const char *message)
{
    char text[1200];
    int n = snprintf(text, sizeof(text), "wherry: %s%s%s\n", what, what[0] == '\0' ? "" : ": ", message);
    size_t len = WH_MIN((size_t)n, sizeof(text) - 1);
    if (r->log != NULL)
        (void)wh_stop_log_write(r->log, 2, text, len);
    else
        (void)!write(STDERR_FILENO, text, len);
}

void wh_runner_fail(const wh_runner *r, const wh_err *err)
{
    wh_runner_say(r, "cannot start", err->msg);
    bool memory = err->code == -ENOMEM;
    wh_stop_end(memory ? WH_EXIT_KILLED : WH_EXIT_START_ERROR, memory ? "OutOfMemory" : "StartError",
                err->msg, 0);
}

static int read_spec(wh_runner *r, wh_err *err)
{
    struct stat st;
    if (fstat(WH_RUNSPEC_FD, &st) < 0)
        return wh_fail(err, -errno,
                       "wherry-runner is started by the node or by 'wherry run': no spec on descriptor %d",
                       WH_RUNSPEC_FD);
    if (st.st_size > WH_RECORD_BYTES_MAX)
        return wh_fail(err, -EFBIG, "the spec has %lld bytes, at most %d are allowed.", (long long)st.st_size,
                       WH_RECORD_BYTES_MAX);
    auto_free char *data = malloc((size_t)st.st_size + 1);
    if (data == NULL)
        return wh_fail(err, -ENOMEM, "read the spec");
    ssize_t n = pread(WH_RUNSPEC_FD, data, (size_t)st.st_size, 0);
    if (n != st.st_size)
        return wh_fail(err, n < 0 ? -errno : -EIO, "read the spec");
    close(WH_RUNSPEC_FD);
    return wh_runspec_read(data, (size_t)n, &r->spec, err);
}

void wh_runner_end(const wh_runner *r, const wh_outcome *outcome, uint64_t memory)
{
    char message[1024];
    int exit_code;
    switch (outcome->end) {
    case WH_END_OK:
        wh_stop_end(0, "Completed", "", memory);
    case WH_END_EXIT:
        exit_code = outcome->exit_code & 0xff; /* as a process's */
        wh_stop_end(exit_code, exit_code == 0 ? "Completed" : "Error", "", memory);
    case WH_END_DEADLINE:
        wh_stop_end(WH_EXIT_KILLED, "DeadlineExceeded", outcome->msg, memory);
    case WH_END_TRAP:
        break;
    }
    const char *reason = "Trap";
    int code = WH_EXIT_TRAP;
    if (outcome->trap == WH_TRAP_STACK_OVERFLOW) {
        reason = "StackOverflow";
    } else if (outcome->trap == WH_TRAP_OUT_OF_MEMORY || outcome->memory_refused) {
        /* A C or Rust program that gets no memory aborts, which is a trap like any other. */
        reason = "OutOfMemory";
        code = WH_EXIT_KILLED;
    }
    (void)snprintf(message, sizeof(message), "%s%.900s",
                   outcome->memory_refused ? "after its memory could not grow: " : "", outcome->msg);
    if (r->log != NULL) /* in the foreground whoever started us says it */
        wh_runner_say(r, "the guest was ended", message);
    wh_stop_end(code, reason, message, memory);
}

static int prepare(wh_runner *r, wh_err *err)
{
    int rc = read_spec(r, err);
    if (rc < 0)
        return rc;
    const wh_runspec *spec = r->spec;
    if (spec->log_fd >= 0)
        r->log = wh_runlog_new(spec->log_fd);
    wh_stop_setup(spec, r->log);
    rc = wh_sandbox_files(&r->box, spec->dirs, spec->n_dirs, spec->landlock_optional, err);
    if (rc == 0 && spec->control_fd < 0 && r->box.weaker_much && !r->box.off)
        wh_runner_say(r, "the sandbox is weaker than it should be", r->box.weaker);
    return rc;
}

int main(int argc, char **argv)
{
    static wh_runner r;
    wh_err err = {0};
    bool off = argc == 2 && wh_streq(argv[1], WH_RUNNER_NO_SANDBOX);
    int rc = wh_sandbox_begin(&r.box, wh_runner_takes_components, off, &err);
    if (rc == 0)
        rc = wh_stop_init(&err);
    if (rc == 0)
        rc = prepare(&r, &err);
    if (rc < 0)
        wh_runner_fail(&r, &err);
    wh_runner_body(&r);
}
