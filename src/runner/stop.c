/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/stop.h"

#include "base/file.h"
#include "base/record.h"
#include "runner/control.h"

#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>

static struct stop {
    int end_fd, control_fd, pipe_fd;
    int serving_fd; /* what serves: signals become bytes here */
    wh_runlog *log;
    const wh_wasi *wasi;
    wh_end_record record;
    char deadline_message[96];
    volatile sig_atomic_t busy;         /* inside the log: handlers leave a note instead */
    volatile sig_atomic_t pending_stop; /* a signal number */
    volatile sig_atomic_t pending_deadline, pending_message;
    volatile sig_atomic_t unclaimed; /* a stop that waits for the guest to claim its descriptor */
    struct itimerval deadline_left;  /* of the deadline, while the timer measures that wait */
    bool told;
    bool drain; /* a message asked for it */
    int64_t drain_grace;
    int netd_fd; /* a new channel that nobody has taken yet */
} stop = {.end_fd = -1, .control_fd = -1, .pipe_fd = -1, .serving_fd = -1, .netd_fd = -1};

/* Everything here may run in a handler that interrupted any code but the log's. */
__attribute__((noreturn)) static void end_now(int exit_code, const char *reason, const char *message,
                                              uint64_t memory_bytes)
{
    if (stop.log != NULL)
        wh_runlog_flush(stop.log);
    stop.record.exit_code = exit_code;
    stop.record.end = wh_real_now();
    stop.record.memory_bytes = memory_bytes;
    size_t n = strnlen(reason, sizeof(stop.record.reason) - 1);
    memcpy(stop.record.reason, reason, n);
    stop.record.reason[n] = '\0';
    n = strnlen(message, sizeof(stop.record.message) - 1);
    memcpy(stop.record.message, message, n);
    stop.record.message[n] = '\0';
    if (stop.end_fd >= 0)
        (void)wh_end_record_write(stop.end_fd, &stop.record);
    _exit(exit_code);
}

static const char *stop_message(int signo)
{
    switch (signo) {
    case SIGTERM:
        return "ended by SIGTERM";
    case SIGINT:
        return "ended by SIGINT";
    case SIGQUIT:
        return "ended by SIGQUIT";
    case SIGHUP:
        return "ended by SIGHUP";
    default:
        return "ended by its stop signal";
    }
}

/* A guest that just began may be about to claim its stop descriptor: it gets a moment for that. One that had
 * the time to and did not ends at once. */
#define CLAIM_WAIT_USEC 100000
#define JUST_BEGAN WH_SEC

static void tell_guest(void)
{
    if (stop.told)
        return;
    stop.told = true;
    (void)wh_write_all(stop.pipe_fd, "TERM\n", 5);
    close(WH_TAKE_FD(stop.pipe_fd));
}

static void act_on_stop(int signo)
{
    const struct itimerval wait = {.it_value = {.tv_usec = CLAIM_WAIT_USEC}};
    bool claimed = stop.wasi != NULL && wh_wasi_stop_claimed(stop.wasi);
    bool young = stop.wasi != NULL && wh_real_now() - stop.record.guest_start < JUST_BEGAN;

    if (!claimed && (!young || stop.unclaimed != 0))
        end_now(128 + signo, "Stopped", stop_message(signo), 0);
    tell_guest();
    if (claimed)
        return;
    stop.unclaimed = signo;
    if (setitimer(ITIMER_REAL, &wait, &stop.deadline_left) < 0)
        end_now(128 + signo, "Stopped", stop_message(signo), 0);
}

/* The wait for a claim is over; the deadline, if there is one, counts on. */
static void act_on_claim_wait(void)
{
    int signo = stop.unclaimed;

    if (!wh_wasi_stop_claimed(stop.wasi))
        end_now(128 + signo, "Stopped", stop_message(signo), 0);
    stop.unclaimed = 0;
    (void)setitimer(ITIMER_REAL, &stop.deadline_left, NULL);
}

static void act_on_alarm(void)
{
    if (stop.unclaimed != 0)
        act_on_claim_wait();
    else
        end_now(WH_EXIT_KILLED, "DeadlineExceeded", stop.deadline_message, 0);
}

/* The one before, which nobody took, or -1. */
static int swap_netd(int fd)
{
    int old = stop.netd_fd;
    stop.netd_fd = fd;
    return old;
}

static void take_message(const char *data, size_t n, const int *fds, size_t n_fds)
{
    wh_record_iter it = wh_record_begin(data, n);
    wh_field op;
    bool has_op = wh_record_next(&it, &op) && wh_field_is(&op, "op");
    bool is_log = has_op && wh_str_eq(op.value, WH_STR("log"));
    bool is_netd = has_op && wh_str_eq(op.value, WH_STR("netd"));
    if (has_op && wh_str_eq(op.value, WH_STR("drain")) &&
        wh_record_get_i64(data, n, "grace", 0, INT64_MAX, &stop.drain_grace, NULL) == 0)
        stop.drain = true;
    for (size_t i = 0; i < n_fds; i++) {
        if (i == 0 && is_log && stop.log != NULL)
            wh_runlog_swap(stop.log, fds[i]);
        else
            close(i == 0 && is_netd ? swap_netd(fds[i]) : fds[i]);
    }
}

static void drain_control(void)
{
    char data[WH_CONTROL_BYTES_MAX];
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(4 * sizeof(int))];
    } control;
    while (stop.control_fd >= 0) {
        struct iovec iov = {data, sizeof(data)};
        struct msghdr msg = {
            .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
        ssize_t n = recvmsg(stop.control_fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        int fds[4];
        size_t n_fds = 0;
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
            n_fds = WH_MIN((c->cmsg_len - CMSG_LEN(0)) / sizeof(int), WH_ARRAY_LEN(fds));
            memcpy(fds, CMSG_DATA(c), n_fds * sizeof(int));
        }
        take_message(data, (size_t)n, fds, n_fds);
    }
}

/* True: the loop of what serves acts on it. */
static bool pass_on(int signo)
{
    const unsigned char byte = (unsigned char)signo;
    if (stop.serving_fd < 0)
        return false;
    (void)!write(stop.serving_fd, &byte, 1); /* full: enough is said already */
    return true;
}

static void on_stop(int signo)
{
    int saved = errno;
    if (pass_on(signo)) {
        errno = saved;
        return;
    }
    if (stop.busy)
        stop.pending_stop = signo;
    else
        act_on_stop(signo);
    errno = saved;
}

static void on_deadline(WH_UNUSED int signo)
{
    int saved = errno;
    if (stop.busy)
        stop.pending_deadline = 1;
    else
        act_on_alarm();
    errno = saved;
}

static void on_message(int signo)
{
    int saved = errno;
    if (pass_on(signo)) {
        errno = saved;
        return;
    }
    if (stop.busy || stop.control_fd < 0)
        stop.pending_message = 1;
    else
        drain_control();
    errno = saved;
}

/* Handlers wait for each other, so that none sees another's half-done work. Waits of the guest return EINTR:
 * no SA_RESTART, so that a poll sees a claimed stop at once. */
static int handle(int signo, void (*fn)(int))
{
    struct sigaction sa = {.sa_handler = fn};
    sigaddset(&sa.sa_mask, SIGTERM);
    sigaddset(&sa.sa_mask, SIGINT);
    sigaddset(&sa.sa_mask, SIGQUIT);
    sigaddset(&sa.sa_mask, SIGHUP);
    sigaddset(&sa.sa_mask, SIGALRM);
    sigaddset(&sa.sa_mask, SIGUSR1);
    return sigaction(signo, &sa, NULL);
}

int wh_stop_init(wh_err *err)
{
    sigset_t none;
    sigemptyset(&none);
    signal(SIGPIPE, SIG_IGN); /* a closed standard output is the guest's EPIPE, a full quota its EFBIG */
    signal(SIGXFSZ, SIG_IGN);
    if (handle(SIGTERM, on_stop) < 0 || handle(SIGINT, on_stop) < 0 || handle(SIGQUIT, on_stop) < 0 ||
        handle(SIGHUP, on_stop) < 0 || handle(SIGALRM, on_deadline) < 0 || handle(SIGUSR1, on_message) < 0 ||
        sigprocmask(SIG_SETMASK, &none, NULL) < 0)
        return wh_fail(err, -errno, "install signal handlers");
    return 0;
}

void wh_stop_setup(const wh_runspec *spec, wh_runlog *log)
{
    stop.end_fd = spec->end_fd;
    stop.control_fd = spec->control_fd;
    stop.log = log;
    int signo = spec->stop_signal;
    /* Faults are the engine's, SIGALRM and SIGUSR1 ours. */
    bool reserved = signo == SIGSEGV || signo == SIGILL || signo == SIGFPE || signo == SIGBUS ||
                    signo == SIGALRM || signo == SIGUSR1 || signo == SIGKILL || signo == SIGSTOP ||
                    signo == SIGABRT || signo == SIGSYS;
    if (!reserved)
        (void)handle(signo, on_stop);
    if (stop.pending_message) { /* it came before the descriptor was known */
        stop.pending_message = 0;
        drain_control();
    }
}

void wh_stop_guest(const wh_wasi *wasi, int pipe_fd)
{
    stop.pipe_fd = pipe_fd;
    stop.wasi = wasi;
}

void wh_stop_serving(int pipe_fd)
{
    stop.serving_fd = pipe_fd;
}

bool wh_stop_messages(wh_time *ret_grace, int *ret_netd_fd)
{
    drain_control();
    *ret_netd_fd = WH_TAKE_FD(stop.netd_fd);
    *ret_grace = stop.drain_grace;
    return stop.drain;
}

static void say_op(const char *op, const char *weaker)
{
    auto_buf wh_buf b;
    if (stop.control_fd < 0)
        return;
    wh_buf_init(&b, WH_CONTROL_BYTES_MAX);
    wh_record_put_str(&b, "op", op);
    wh_record_put_i64(&b, "start", stop.record.guest_start);
    wh_record_put_str(&b, "sandbox", weaker == NULL || weaker[0] == '\0' ? NULL : weaker);
    (void)!write(stop.control_fd, b.p, b.len); /* nobody listens: nobody is told */
}

void wh_stop_idle(void)
{
    sigset_t all;
    sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, NULL);
    if (stop.log != NULL)
        wh_runlog_flush(stop.log);
    say_op("idle", NULL);
    _exit(0);
}

int wh_stop_deadline(wh_time deadline, wh_err *err)
{
    if (deadline <= 0)
        return 0;
    (void)snprintf(stop.deadline_message, sizeof(stop.deadline_message),
                   "ran longer than its deadline of %lld.%03lld s", (long long)(deadline / WH_SEC),
                   (long long)(deadline % WH_SEC / WH_MSEC));
    struct itimerval timer = {
        .it_value = {.tv_sec = deadline / WH_SEC, .tv_usec = deadline % WH_SEC / WH_USEC}};
    if (timer.it_value.tv_sec == 0 && timer.it_value.tv_usec == 0)
        timer.it_value.tv_usec = 1;
    if (setitimer(ITIMER_REAL, &timer, NULL) < 0)
        return wh_fail(err, -errno, "set the deadline");
    return 0;
}

void wh_stop_running(const char *weaker)
{
    stop.record.guest_start = wh_real_now();
    say_op("running", weaker);
}

int wh_stop_log_write(void *user, int stream, const void *data, size_t n)
{
    stop.busy = 1;
    int rc = wh_runlog_write(user, stream, data, n);
    stop.busy = 0;
    while (stop.pending_message) {
        stop.busy = 1;
        stop.pending_message = 0;
        drain_control();
        stop.busy = 0;
    }
    if (stop.pending_deadline) {
        stop.pending_deadline = 0;
        act_on_alarm();
    }
    if (stop.pending_stop) {
        int signo = stop.pending_stop;
        stop.pending_stop = 0;
        act_on_stop(signo);
    }
    return rc;
}

void wh_stop_end(int exit_code, const char *reason, const char *message, uint64_t memory_bytes)
{
    sigset_t all;
    sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, NULL);
    end_now(exit_code, reason, message, memory_bytes);
}
