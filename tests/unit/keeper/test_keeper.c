/* SPDX-License-Identifier: Apache-2.0 */
/* The real keeper with real runners. */
#include "harness.h"

#include "base/file.h"
#include "base/record.h"
#include "keeper/keeper.h"
#include "keeper/message.h"
#include "runner/spec.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define MANY 200

typedef struct seen {
    char id[WH_RUNSPEC_FD + 125];
    bool running, exited;
    int exit_code, signal;
    wh_time started, running_at;
    char note[256];
} seen;

typedef struct bench {
    char dir[64];
    wh_loop *loop;
    wh_keeper *keeper;
    seen seen[MANY + 8];
    size_t n_seen;
    bool lost;
    int done, failed, last_rc;
    pid_t last_pid;
    char last_error[256];
} bench;

static seen *seen_of(bench *b, const char *id)
{
    for (size_t i = 0; i < b->n_seen; i++) {
        if (strcmp(b->seen[i].id, id) == 0)
            return &b->seen[i];
    }
    CHECK(b->n_seen < WH_ARRAY_LEN(b->seen));
    b->seen[b->n_seen] = (seen){.exited = false};
    (void)snprintf(b->seen[b->n_seen].id, sizeof(b->seen[0].id), "%s", id);
    return &b->seen[b->n_seen++];
}

static void on_event(void *user, const wh_keeper_event *e)
{
    seen *s = seen_of(user, e->id);
    s->running |= e->running > 0;
    s->exited |= e->exited;
    s->exit_code = e->exit_code;
    s->signal = e->signal;
    s->started = e->started;
    s->running_at = e->running;
    (void)snprintf(s->note, sizeof(s->note), "%s", e->note == NULL ? "" : e->note);
}

static void on_lost(void *user, WH_UNUSED const wh_err *err)
{
    ((bench *)user)->lost = true;
}

static void on_done(void *user, int rc, pid_t pid, const char *error)
{
    bench *b = user;
    b->done++;
    b->failed += rc < 0;
    b->last_rc = rc;
    b->last_pid = pid;
    (void)snprintf(b->last_error, sizeof(b->last_error), "%s", error == NULL ? "" : error);
}

static void bench_connect(bench *b)
{
    wh_err err = {0};
    const wh_keeper_callbacks callbacks = {on_event, on_lost, b};
    b->lost = false;
    b->n_seen = 0;
    CHECK_OK(wh_keeper_connect(b->loop, b->dir, getenv("WH_KEEPER"), &callbacks, &b->keeper, &err), &err);
}

static void bench_init(bench *b)
{
    wh_err err = {0};
    memset(b, 0, sizeof(*b));
    if (getenv("WH_KEEPER") == NULL || getenv("WH_RUNNER") == NULL || getenv("WH_GUEST") == NULL ||
        access(getenv("WH_GUEST"), R_OK) < 0)
        SKIP("no keeper, runner or guest: WH_KEEPER, WH_RUNNER and WH_GUEST name them");
    (void)snprintf(b->dir, sizeof(b->dir), "/tmp/wherry-test-keeper-XXXXXX");
    CHECK(mkdtemp(b->dir) != NULL);
    CHECK_OK(wh_loop_new(&b->loop, &err), &err);
    bench_connect(b);
}

#define WAIT_FOR(b, cond)                             \
    do {                                              \
        wh_time until_ = wh_mono_now() + 20 * WH_SEC; \
        while (!(cond) && wh_mono_now() < until_)     \
            wh_loop_once((b)->loop, 50 * WH_MSEC);    \
        CHECK(cond);                                  \
    } while (0)

static pid_t keeper_pid(const bench *b)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct ucred peer;
    socklen_t n = sizeof(peer);
    (void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/keeper.sock", b->dir);
    auto_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    CHECK(connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
    CHECK(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0);
    return peer.pid;
}

static size_t still_running(const bench *b)
{
    size_t n = 0;
    for (size_t i = 0; i < b->n_seen; i++)
        n += !b->seen[i].exited;
    return n;
}

static bool alive(pid_t pid)
{
    char path[64];
    auto_free char *text = NULL;
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    return wh_read_file(AT_FDCWD, path, 4096, &text, NULL, NULL) == 0 && strstr(text, ") Z ") == NULL;
}

/* Runners first: they would outlive their keeper. A test that fails leaves its own behind. */
static void bench_done(bench *b)
{
    b->done = 0;
    CHECK_OK(wh_keeper_list(b->keeper, on_event, on_done, b, NULL), NULL);
    WAIT_FOR(b, b->done == 1);
    for (size_t i = 0; i < b->n_seen; i++)
        CHECK_OK(wh_keeper_signal(b->keeper, b->seen[i].id, SIGKILL, NULL, NULL, NULL), NULL);
    WAIT_FOR(b, still_running(b) == 0);
    (void)kill(keeper_pid(b), SIGKILL);
    wh_keeper_free(b->keeper);
    wh_loop_free(b->loop);
    (void)wh_rm_rf(AT_FDCWD, b->dir, NULL);
}

static int open_in(const bench *b, const char *id, const char *kind)
{
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/%s.%s", b->dir, id, kind);
    int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    CHECK(fd >= 0);
    return fd;
}

/* A sanitized runner is dynamic: an empty root has no loader for it. */
static bool namespaces(void)
{
    return getenv("WH_NO_NAMESPACES") == NULL;
}

/* Descriptors 0, 1, 2: nothing; 3 spec, 4 code, 5 end record, 6 log; 7 is the keeper's control socket. */
static int start_guest(bench *b, const char *id, uid_t uid, ...) __attribute__((sentinel));
static int start_guest(bench *b, const char *id, uid_t uid, ...)
{
    wh_err err = {0};
    va_list args;
    auto_free char *id_copy = wh_xstrdup(id);
    auto_strv wh_strv argv = NULL;
    wh_strv_push(&argv, "guest");
    va_start(args, uid);
    for (const char *arg; (arg = va_arg(args, const char *)) != NULL;)
        wh_strv_push(&argv, arg);
    va_end(args);
    const wh_runspec spec = {.id = id_copy,
                             .code_fd = 4,
                             .end_fd = 5,
                             .log_fd = 6,
                             .control_fd = 7,
                             .stop_signal = SIGTERM,
                             .args = argv};
    auto_close int null = open("/dev/null", O_RDWR | O_CLOEXEC),
                   code = open(getenv("WH_GUEST"), O_RDONLY | O_CLOEXEC);
    auto_close int end = open_in(b, id, "end"), log = open_in(b, id, "log");
    auto_close int memfd = wh_runspec_memfd(&spec, &err),
                   program = open(getenv("WH_RUNNER"), O_PATH | O_CLOEXEC);
    CHECK_OK(memfd, &err);
    const int fds[] = {null, null, null, memfd, code, end, log};
    const wh_keeper_start start = {.id = id,
                                   .uid = uid,
                                   .gid = uid == 0 ? getgid() : uid,
                                   .nofile = 256,
                                   .namespaces = namespaces(),
                                   .fds = fds,
                                   .n_fds = WH_ARRAY_LEN(fds),
                                   .exec_fd = program};
    return wh_keeper_start_runner(b->keeper, &start, on_done, b, &err);
}

static uid_t some_uid(void)
{
    return getuid() == 0 ? 165536 : getuid();
}

static char *log_of(const bench *b, const char *id)
{
    char *text = NULL;
    auto_close int fd = open_in(b, id, "log");
    CHECK_OK(wh_read_fd(fd, 1 << 24, &text, NULL, NULL), NULL);
    return text;
}

TEST(a_runner_is_started_runs_ends_and_is_reaped)
{
    bench b;
    bench_init(&b);
    CHECK_OK(start_guest(&b, "one", some_uid(), "exit", "5", NULL), NULL);
    WAIT_FOR(&b, seen_of(&b, "one")->exited);
    seen *s = seen_of(&b, "one");
    CHECK_INT(b.failed, ==, 0);
    CHECK_INT(b.last_pid, >, 0);
    CHECK(s->running);
    CHECK_INT(s->exit_code, ==, 5);
    CHECK_INT(s->signal, ==, 0);
    CHECK_INT(s->running_at, >=, s->started);
    if (getuid() == 0 && namespaces())
        CHECK_STR(s->note, "");
    CHECK_OK(wh_keeper_reap(b.keeper, "one", on_done, &b, NULL), NULL);
    WAIT_FOR(&b, b.done == 2);
    CHECK_INT(b.last_rc, ==, 0);
    CHECK_OK(wh_keeper_reap(b.keeper, "one", on_done, &b, NULL), NULL);
    WAIT_FOR(&b, b.done == 3);
    CHECK_INT(b.last_rc, ==, -ENOENT);
    bench_done(&b);
}

/* What the kernel says of a runner, seen from outside. */
static void check_status(pid_t pid, const char *field, const char *expected)
{
    char path[64];
    auto_free char *text = NULL;
    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    CHECK_OK(wh_read_file(AT_FDCWD, path, 1 << 16, &text, NULL, NULL), NULL);
    const char *at = strstr(text, field);
    CHECK(at != NULL);
    at += strlen(field);
    at += strspn(at, "\t ");
    auto_free char *value = wh_xstrndup(at, strcspn(at, "\n"));
    CHECK_STR(value, expected);
}

static bool same_namespace(pid_t pid, const char *name)
{
    char path[64], ours[64] = "", theirs[64] = "";
    (void)snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
    CHECK(readlink(path, ours, sizeof(ours) - 1) > 0);
    (void)snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, name);
    CHECK(readlink(path, theirs, sizeof(theirs) - 1) > 0);
    return strcmp(ours, theirs) == 0;
}

TEST(a_runner_has_nothing_but_what_it_was_given)
{
    bench b;
    char path[64], target[128], root[64];
    if (getuid() != 0)
        SKIP("needs root to look into another user's process");
    if (!namespaces())
        SKIP("a sanitized runner has no namespaces");
    bench_init(&b);
    CHECK_OK(start_guest(&b, "bare", some_uid(), "sleep", "100", NULL), NULL);
    WAIT_FOR(&b, seen_of(&b, "bare")->running);
    pid_t pid = b.last_pid;
    check_status(pid, "Uid:", "165536\t165536\t165536\t165536");
    check_status(pid, "Gid:", "165536\t165536\t165536\t165536");
    check_status(pid, "Groups:", "");
    check_status(pid, "CapPrm:", "0000000000000000");
    check_status(pid, "CapInh:", "0000000000000000");
    check_status(pid, "CapBnd:", "0000000000000000");
    check_status(pid, "NoNewPrivs:", "1");
    check_status(pid, "Seccomp:", "2");
    check_status(pid, "Seccomp_filters:", "2");
    check_status(pid, "Threads:", "1");
    CHECK_INT(getpriority(PRIO_PROCESS, (id_t)pid), ==, getpriority(PRIO_PROCESS, 0)); /* not the keeper's */
    CHECK(!same_namespace(pid, "mnt"));
    CHECK(!same_namespace(pid, "net"));
    CHECK(!same_namespace(pid, "pid"));
    CHECK(!same_namespace(pid, "ipc"));
    /* 0-2, log, end; control and its spare; the stop pipe; and the engine keeps the code, which it may map
     * again. */
    int n = 0, code = 0;
    for (int fd = 0; fd < 256; fd++) {
        (void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
        ssize_t len = readlink(path, target, sizeof(target) - 1);
        if (len < 0)
            continue;
        n++;
        target[len] = '\0';
        code += strstr(target, ".cwasm") != NULL;
        CHECK(strstr(target, "memfd") == NULL);
    }
    CHECK_INT(code, <=, 1);
    CHECK_INT(n, ==, 9 + code);
    (void)snprintf(root, sizeof(root), "/proc/%d/root/.", (int)pid);
    CHECK(access(root, F_OK) == 0);
    (void)snprintf(root, sizeof(root), "/proc/%d/root/etc", (int)pid);
    CHECK(access(root, F_OK) < 0);
    CHECK_OK(wh_keeper_signal(b.keeper, "bare", SIGKILL, on_done, &b, NULL), NULL);
    WAIT_FOR(&b, seen_of(&b, "bare")->exited);
    CHECK_INT(seen_of(&b, "bare")->signal, ==, SIGKILL);
    CHECK_INT(seen_of(&b, "bare")->exit_code, ==, -1);
    bench_done(&b);
}

TEST(what_cannot_be_started_is_answered_with_its_step)
{
    bench b;
    wh_err err = {0};
    bench_init(&b);
    auto_close int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    const int fds[] = {null, null, null};
    char missing[] = "/sys/fs/cgroup/none/cgroup.procs";
    char *cgroups[] = {missing, NULL};
    wh_keeper_start start = {.id = "bad",
                             .uid = some_uid(),
                             .gid = some_uid(),
                             .namespaces = true,
                             .fds = fds,
                             .n_fds = 3,
                             .exec_fd = null};
    CHECK_OK(wh_keeper_start_runner(b.keeper, &start, on_done, &b, &err), &err);
    WAIT_FOR(&b, b.done == 1);
    CHECK_INT(b.last_rc, ==, -EACCES);
    CHECK_CONTAINS(b.last_error, "execute its program");
    start.cgroup_procs = cgroups;
    CHECK_OK(wh_keeper_start_runner(b.keeper, &start, on_done, &b, &err), &err);
    WAIT_FOR(&b, b.done == 2);
    CHECK_INT(b.last_rc, ==, -ENOENT);
    CHECK_CONTAINS(b.last_error, "join its control groups");
    start.id = "../x";
    CHECK_OK(wh_keeper_start_runner(b.keeper, &start, on_done, &b, &err), &err);
    WAIT_FOR(&b, b.done == 3);
    CHECK_INT(b.last_rc, ==, -EINVAL);
    CHECK_OK(wh_keeper_signal(b.keeper, "none", SIGTERM, on_done, &b, &err), &err);
    WAIT_FOR(&b, b.done == 4);
    CHECK_INT(b.last_rc, ==, -ENOENT);
    CHECK_INT(b.n_seen, ==, 0);
    bench_done(&b);
}

TEST(an_id_is_taken_until_it_is_reaped)
{
    bench b;
    bench_init(&b);
    CHECK_OK(start_guest(&b, "twin", some_uid(), "sleep", "100", NULL), NULL);
    CHECK_OK(start_guest(&b, "twin", some_uid(), "hello", NULL), NULL);
    WAIT_FOR(&b, b.done == 2);
    CHECK_INT(b.last_rc, ==, -EEXIST);
    CHECK_OK(wh_keeper_reap(b.keeper, "twin", on_done, &b, NULL), NULL);
    WAIT_FOR(&b, b.done == 3);
    CHECK_INT(b.last_rc, ==, -EBUSY);
    CHECK_OK(wh_keeper_signal(b.keeper, "twin", SIGTERM, on_done, &b, NULL), NULL);
    WAIT_FOR(&b, seen_of(&b, "twin")->exited);
    CHECK_INT(seen_of(&b, "twin")->exit_code, ==, 143);
    bench_done(&b);
}

TEST(a_stop_right_after_the_start_is_not_lost)
{
    bench b;
    bench_init(&b);
    for (int i = 0; i < 20; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "s%d", i);
        CHECK_OK(start_guest(&b, id, some_uid(), "loop", NULL), NULL);
        CHECK_OK(wh_keeper_signal(b.keeper, id, SIGTERM, NULL, NULL, NULL), NULL);
        WAIT_FOR(&b, seen_of(&b, id)->exited);
        CHECK_INT(seen_of(&b, id)->exit_code, ==, 143);
    }
    bench_done(&b);
}

static void rotate(bench *b, const char *id, const char *kind)
{
    auto_buf wh_buf m;
    auto_close int fd = open_in(b, id, kind);
    int before = b->done;
    wh_buf_init(&m, 256);
    wh_record_put_str(&m, "op", "log");
    CHECK_OK(wh_keeper_send(b->keeper, id, m.p, m.len, &fd, 1, on_done, b, NULL), NULL);
    WAIT_FOR(b, b->done > before);
    CHECK_STR(b->last_error, "");
}

static bool log_moved(const bench *b, const char *id, const char *kind)
{
    char path[256];
    struct stat st;
    (void)snprintf(path, sizeof(path), "%s/%s.%s", b->dir, id, kind);
    return stat(path, &st) == 0 && st.st_size > 0;
}

TEST_TIMEOUT(runners_outlive_a_killed_keeper, 60)
{
    bench b;
    bench_init(&b);
    CHECK_OK(start_guest(&b, "stays", some_uid(), "stop", NULL), NULL);
    CHECK_OK(start_guest(&b, "goes", some_uid(), "loop", NULL), NULL);
    CHECK_OK(start_guest(&b, "ended", some_uid(), "exit", "9", NULL), NULL);
    WAIT_FOR(&b,
             seen_of(&b, "stays")->running && seen_of(&b, "goes")->running && seen_of(&b, "ended")->exited);
    usleep(50000);
    pid_t old = keeper_pid(&b);
    CHECK(kill(old, SIGKILL) == 0);
    WAIT_FOR(&b, b.lost);
    wh_keeper_free(b.keeper);
    b.done = 0;
    bench_connect(&b);
    CHECK(keeper_pid(&b) != old);
    CHECK_OK(wh_keeper_list(b.keeper, on_event, on_done, &b, NULL), NULL);
    WAIT_FOR(&b, b.done == 1);
    CHECK_INT(b.n_seen, ==, 3);
    CHECK(seen_of(&b, "stays")->running);
    CHECK(!seen_of(&b, "stays")->exited);
    CHECK(!seen_of(&b, "goes")->exited);
    CHECK(seen_of(&b, "ended")->exited);
    CHECK_INT(seen_of(&b, "ended")->exit_code, ==, 9);
    if (getuid() == 0)
        rotate(&b, "stays", "log2");
    CHECK_OK(wh_keeper_signal(b.keeper, "stays", SIGTERM, NULL, NULL, NULL), NULL);
    CHECK_OK(wh_keeper_signal(b.keeper, "goes", SIGKILL, NULL, NULL, NULL), NULL);
    WAIT_FOR(&b, seen_of(&b, "stays")->exited && seen_of(&b, "goes")->exited);
    /* Known, where the kernel tells; never wrong. */
    int code = seen_of(&b, "stays")->exit_code, signo = seen_of(&b, "goes")->signal;
    CHECK(code == 7 || code == -1);
    CHECK(signo == SIGKILL || signo == 0);
    wh_end_record end;
    auto_close int fd = open_in(&b, "stays", "end");
    CHECK_OK(wh_end_record_read(fd, &end, NULL), NULL);
    CHECK_INT(end.exit_code, ==, 7);
    if (getuid() == 0)
        CHECK(log_moved(&b, "stays", "log2"));
    bench_done(&b);
}

TEST(a_runner_that_ended_while_nobody_watched_is_known_to_have)
{
    bench b;
    bench_init(&b);
    CHECK_OK(start_guest(&b, "gone", some_uid(), "loop", NULL), NULL);
    WAIT_FOR(&b, seen_of(&b, "gone")->running);
    pid_t runner = b.last_pid;
    CHECK(kill(keeper_pid(&b), SIGKILL) == 0);
    WAIT_FOR(&b, b.lost);
    CHECK(kill(runner, SIGKILL) == 0);
    while (kill(runner, 0) == 0)
        usleep(10000);
    wh_keeper_free(b.keeper);
    b.done = 0;
    bench_connect(&b);
    CHECK_OK(wh_keeper_list(b.keeper, on_event, on_done, &b, NULL), NULL);
    WAIT_FOR(&b, b.done == 1);
    CHECK(seen_of(&b, "gone")->exited);
    CHECK_INT(seen_of(&b, "gone")->exit_code, ==, -1);
    bench_done(&b);
}

TEST(an_upgrade_keeps_runners_connections_and_sockets)
{
    bench b;
    bench_init(&b);
    CHECK_OK(start_guest(&b, "stays", some_uid(), "stop", NULL), NULL);
    WAIT_FOR(&b, seen_of(&b, "stays")->running);
    usleep(50000);
    pid_t pid = keeper_pid(&b);
    auto_close int program = open(getenv("WH_KEEPER"), O_RDONLY | O_CLOEXEC);
    auto_close int no_program = open("/dev/null", O_RDONLY | O_CLOEXEC);
    CHECK_OK(wh_keeper_upgrade(b.keeper, no_program, on_done, &b, NULL), NULL);
    WAIT_FOR(&b, b.done == 2);
    CHECK_INT(b.last_rc, ==, -EACCES);
    for (int i = 0; i < 3; i++) {
        CHECK_OK(wh_keeper_upgrade(b.keeper, program, on_done, &b, NULL), NULL);
        WAIT_FOR(&b, b.done == 3 + i);
        CHECK_INT(b.last_rc, ==, 0);
    }
    CHECK(!b.lost);
    CHECK_INT(keeper_pid(&b), ==, pid);
    rotate(&b, "stays", "log2");
    CHECK_OK(start_guest(&b, "after", some_uid(), "exit", "4", NULL), NULL);
    CHECK_OK(wh_keeper_signal(b.keeper, "stays", SIGTERM, NULL, NULL, NULL), NULL);
    WAIT_FOR(&b, seen_of(&b, "stays")->exited && seen_of(&b, "after")->exited);
    CHECK_INT(seen_of(&b, "stays")->exit_code, ==, 7);
    CHECK_INT(seen_of(&b, "after")->exit_code, ==, 4);
    CHECK(log_moved(&b, "stays", "log2"));
    auto_free char *log = log_of(&b, "after");
    CHECK_STR(log, "");
    bench_done(&b);
}

TEST(a_tied_keeper_ends_with_its_client_and_takes_all_along)
{
    bench b;
    bench_init(&b);
    CHECK_OK(start_guest(&b, "tied", some_uid(), "sleep", "100", NULL), NULL);
    WAIT_FOR(&b, seen_of(&b, "tied")->running);
    pid_t runner = b.last_pid, keeper = keeper_pid(&b);
    auto_close int program = open(getenv("WH_KEEPER"), O_RDONLY | O_CLOEXEC);
    CHECK_OK(wh_keeper_tie(b.keeper, on_done, &b, NULL), NULL);
    CHECK_OK(wh_keeper_upgrade(b.keeper, program, on_done, &b, NULL), NULL); /* the tie holds over it */
    WAIT_FOR(&b, b.done == 3);
    CHECK_INT(b.failed, ==, 0);
    CHECK(kill(runner, 0) == 0);
    wh_keeper_free(b.keeper);
    wh_loop_free(b.loop);
    for (int i = 0; i < 500 && (alive(runner) || alive(keeper)); i++)
        usleep(10000);
    CHECK(!alive(runner));
    CHECK(!alive(keeper));
    (void)wh_rm_rf(AT_FDCWD, b.dir, NULL);
}

TEST_TIMEOUT(many_start_at_once, 120)
{
    static bench b;
    bench_init(&b);
    for (int i = 0; i < MANY; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "m%d", i);
        CHECK_OK(start_guest(&b, id, some_uid(), "exit", "1", NULL), NULL);
    }
    WAIT_FOR(&b, b.done == MANY);
    CHECK_INT(b.failed, ==, 0);
    for (int i = 0; i < MANY; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "m%d", i);
        WAIT_FOR(&b, seen_of(&b, id)->exited);
        CHECK_INT(seen_of(&b, id)->exit_code, ==, 1);
    }
    bench_done(&b);
}

/* ------------------------------------------------------------------ the protocol, by hand */

static int raw_connect(const bench *b)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    (void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/keeper.sock", b->dir);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    CHECK(connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
    return fd;
}

static ssize_t answer_to(const bench *b, const void *data, size_t n, char *out, size_t size)
{
    auto_close int fd = raw_connect(b);
    int room = 1 << 20;
    CHECK(setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) == 0 || getuid() != 0);
    CHECK_INT(send(fd, data, n, MSG_NOSIGNAL), ==, n);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    CHECK_INT(poll(&p, 1, 10000), ==, 1);
    return recv(fd, out, size, 0);
}

TEST(malformed_messages_end_the_connection_and_nothing_else)
{
    static char big[300000];
    char out[4096];
    bench b;
    bench_init(&b);
    CHECK_INT(answer_to(&b, "garbage", 7, out, sizeof(out)), ==, 0);
    if (getuid() == 0)
        CHECK_INT(answer_to(&b, big, sizeof(big), out, sizeof(out)), ==, 0);
    auto_buf wh_buf m;
    wh_buf_init(&m, WH_KEEPER_MESSAGE_MAX);
    wh_record_put_str(&m, "op", "dance");
    wh_record_put_i64(&m, "seq", 7);
    ssize_t n = answer_to(&b, m.p, m.len, out, sizeof(out));
    int64_t v;
    CHECK_INT(n, >, 0);
    CHECK_OK(wh_record_get_i64(out, (size_t)n, "seq", 7, 7, &v, NULL), NULL);
    CHECK_OK(wh_record_get_i64(out, (size_t)n, "rc", -EOPNOTSUPP, -EOPNOTSUPP, &v, NULL), NULL);
    wh_buf_reset(&m);
    wh_record_put_str(&m, "op", "hello");
    wh_record_put_i64(&m, "version", 99);
    wh_record_put_i64(&m, "seq", 1);
    n = answer_to(&b, m.p, m.len, out, sizeof(out));
    CHECK_OK(wh_record_get_i64(out, (size_t)n, "rc", -EPROTO, -EPROTO, &v, NULL), NULL);
    CHECK_OK(start_guest(&b, "still", some_uid(), "exit", "0", NULL), NULL);
    WAIT_FOR(&b, seen_of(&b, "still")->exited);
    CHECK(!b.lost);
    bench_done(&b);
}

TEST(a_message_at_the_limit_is_taken)
{
    static char pad[WH_KEEPER_MESSAGE_MAX], out[4096];
    bench b;
    bench_init(&b);
    auto_buf wh_buf m;
    wh_buf_init(&m, WH_KEEPER_MESSAGE_MAX);
    wh_record_put_str(&m, "op", "list");
    wh_record_put_i64(&m, "seq", 3);
    wh_record_put(&m, "pad", pad, WH_KEEPER_MESSAGE_MAX - m.len - 8);
    CHECK_INT(m.len, ==, WH_KEEPER_MESSAGE_MAX);
    CHECK(!m.failed);
    CHECK_INT(answer_to(&b, m.p, m.len, out, sizeof(out)), >, 0);
    bench_done(&b);
}

TEST(other_users_are_refused)
{
    bench b;
    int status;
    if (getuid() != 0)
        SKIP("needs root to become another user");
    bench_init(&b);
    CHECK(chmod(b.dir, 0777) == 0);
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/keeper.sock", b.dir);
    CHECK(chmod(path, 0777) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        char c;
        if (setgid(65534) < 0 || setuid(65534) < 0)
            _exit(3);
        auto_close int fd = raw_connect(&b);
        _exit(recv(fd, &c, 1, 0) == 0 ? 0 : 1);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    bench_done(&b);
}

TEST(a_plain_user_has_a_keeper_too)
{
    int status;
    if (getuid() != 0)
        SKIP("the whole suite runs as a plain user");
    pid_t pid = fork();
    if (pid == 0) {
        bench b;
        if (setgid(65534) < 0 || setuid(65534) < 0)
            _exit(3);
        bench_init(&b);
        CHECK_OK(start_guest(&b, "rootless", 65534, "exit", "6", NULL), NULL);
        WAIT_FOR(&b, seen_of(&b, "rootless")->exited);
        CHECK_INT(seen_of(&b, "rootless")->exit_code, ==, 6);
        CHECK_OK(start_guest(&b, "other", 1234, "exit", "6", NULL), NULL);
        WAIT_FOR(&b, b.done == 2);
        CHECK_INT(b.last_rc, ==, -EPERM);
        CHECK_OK(start_guest(&b, "stays", 65534, "stop", NULL), NULL);
        WAIT_FOR(&b, seen_of(&b, "stays")->running);
        bench_done(&b);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status));
    CHECK_INT(WEXITSTATUS(status), ==, 0);
}
