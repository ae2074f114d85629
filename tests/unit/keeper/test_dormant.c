/* SPDX-License-Identifier: Apache-2.0 */
/* Dormant containers: the real keeper with a small program in the runner's place. */
#include "harness.h"

#include "base/file.h"
#include "keeper/keeper.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#define HERD 1000

typedef struct bench {
    char dir[64];
    wh_loop *loop;
    wh_keeper *keeper;
    int listener, port;
    int running, exited, dormant, woken, failed_wakes; /* events so far */
    int held, listed;
    unsigned wakes;
    pid_t pid;
    int exit_code, signal, done, last_rc;
    char last_error[256];
    bool lost;
} bench;

static void on_event(void *user, const wh_keeper_event *e)
{
    bench *b = user;
    if (e->error != NULL) {
        b->failed_wakes++;
        (void)snprintf(b->last_error, sizeof(b->last_error), "%s", e->error);
        return;
    }
    b->wakes = e->wakes;
    if (e->exited) {
        b->exited++;
        b->exit_code = e->exit_code;
        b->signal = e->signal;
    } else if (e->dormant) {
        b->dormant++;
    } else if (e->running > 0) {
        b->running++;
    } else {
        b->woken++;
        b->pid = e->pid;
    }
}

static void on_listed(void *user, const wh_keeper_event *e)
{
    bench *b = user;
    if (e->held)
        b->held++;
    else
        b->listed++;
    if (!e->held)
        on_event(user, e);
}

static void on_lost(void *user, WH_UNUSED const wh_err *err)
{
    ((bench *)user)->lost = true;
}

static void on_done(void *user, int rc, pid_t pid, const char *error)
{
    bench *b = user;
    b->done++;
    b->last_rc = rc;
    if (pid > 0)
        b->pid = pid;
    if (error != NULL)
        (void)snprintf(b->last_error, sizeof(b->last_error), "%s", error);
}

#define WAIT_FOR(b, cond)                             \
    do {                                              \
        wh_time until_ = wh_mono_now() + 20 * WH_SEC; \
        while (!(cond) && wh_mono_now() < until_)     \
            wh_loop_once((b)->loop, 20 * WH_MSEC);    \
        CHECK(cond);                                  \
    } while (0)

static void bench_connect(bench *b)
{
    wh_err err = {0};
    const wh_keeper_callbacks callbacks = {on_event, on_lost, b};
    b->lost = false;
    CHECK_OK(wh_keeper_connect(b->loop, b->dir, getenv("WH_KEEPER"), &callbacks, &b->keeper, &err), &err);
}

static void ask(bench *b, int expected)
{
    int before = b->done;
    WAIT_FOR(b, b->done > before);
    if (b->last_rc != expected)
        (void)fprintf(stderr, "answer: %s\n", b->last_error);
    CHECK_INT(b->last_rc, ==, expected);
}

static void hold(bench *b, const char *name, int fd, int expected)
{
    CHECK_OK(wh_keeper_hold(b->keeper, name, fd, on_done, b, NULL), NULL);
    ask(b, expected);
}

static void bench_init(bench *b)
{
    wh_err err = {0};
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof(addr);
    memset(b, 0, sizeof(*b));
    if (getenv("WH_KEEPER") == NULL || getenv("WH_FAKE_RUNNER") == NULL)
        SKIP("no keeper or runner: WH_KEEPER and WH_FAKE_RUNNER name them");
    (void)snprintf(b->dir, sizeof(b->dir), "/tmp/wherry-test-dormant-XXXXXX");
    CHECK(mkdtemp(b->dir) != NULL);
    CHECK_OK(wh_loop_new(&b->loop, &err), &err);
    bench_connect(b);
    b->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    CHECK(bind(b->listener, (struct sockaddr *)&addr, sizeof(addr)) == 0);
    CHECK(listen(b->listener, 4096) == 0);
    CHECK(getsockname(b->listener, (struct sockaddr *)&addr, &n) == 0);
    b->port = ntohs(addr.sin_port);
    hold(b, "web:80", b->listener, 0);
    close(b->listener); /* the keeper's copy is the only one */
}

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

static bool alive(pid_t pid)
{
    char path[64];
    auto_free char *text = NULL;
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    return wh_read_file(AT_FDCWD, path, 4096, &text, NULL, NULL) == 0 && strstr(text, ") Z ") == NULL;
}

/* The keeper takes its runners along. */
static void bench_done(bench *b)
{
    pid_t keeper = keeper_pid(b);
    CHECK_OK(wh_keeper_tie(b->keeper, on_done, b, NULL), NULL);
    ask(b, 0);
    wh_keeper_free(b->keeper);
    wh_loop_free(b->loop);
    for (int i = 0; i < 500 && alive(keeper); i++)
        usleep(10000);
    (void)wh_rm_rf(AT_FDCWD, b->dir, NULL);
}

typedef struct how {
    const char *id;
    bool dormant, rest;
    char *const *cgroups, *const *dirs, *const *settings;
    const char *socket;
} how;

static int sealed(const char *text)
{
    int fd = memfd_create("spec", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(pwrite(fd, text, strlen(text), 0) == (ssize_t)strlen(text));
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0);
    return fd;
}

/* Descriptors 0, 1, 2: nothing; 3 spec, 4 log; 5 the socket, 6 the control socket. */
static void start(bench *b, how h, int expected)
{
    char path[128];
    wh_err err = {0};
    (void)snprintf(path, sizeof(path), "%s/log", b->dir);
    auto_close int null = open("/dev/null", O_RDWR | O_CLOEXEC),
                   log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600), memfd = sealed("5 6"),
                   program = open(getenv("WH_FAKE_RUNNER"), O_RDONLY | O_CLOEXEC);
    const int fds[] = {null, null, null, memfd, log};
    const char *sockets[] = {h.socket != NULL ? h.socket : "web:80"};
    const struct wh_keeper_open opens[] = {{4, 'a', path}};
    const wh_keeper_start start = {.id = h.id,
                                   .uid = getuid() == 0 ? 165536 : getuid(),
                                   .gid = getuid() == 0 ? 165536 : getgid(),
                                   .namespaces = getenv("WH_NO_NAMESPACES") == NULL,
                                   .nofile = 64,
                                   .fds = fds,
                                   .n_fds = WH_ARRAY_LEN(fds),
                                   .exec_fd = program,
                                   .cgroup_procs = h.cgroups,
                                   .sockets = sockets,
                                   .n_sockets = 1,
                                   .rest = h.rest,
                                   .open = opens,
                                   .n_open = 1,
                                   .group_dirs = h.dirs,
                                   .group_settings = h.settings};
    if (h.dormant)
        CHECK_OK(wh_keeper_dormant(b->keeper, &start, on_done, b, &err), &err);
    else
        CHECK_OK(wh_keeper_start_runner(b->keeper, &start, on_done, b, &err), &err);
    ask(b, expected);
}

static int dial(const bench *b, char what)
{
    struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)b->port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    const struct timeval wait = {.tv_sec = 20};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) == 0);
    CHECK(connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
    CHECK(write(fd, &what, 1) == 1);
    return fd;
}

/* One that the runner has taken and never ends. */
static int dial_stuck(const bench *b)
{
    char text[16];
    int fd = dial(b, 'w');
    CHECK_INT(read(fd, text, sizeof(text)), >, 0);
    return fd;
}

/* What the runner answers, -1 when the connection broke. In its own pid namespace it is always 1. */
static int answer(int fd)
{
    char text[16] = "";
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    return n > 0 ? atoi(text) : -1;
}

TEST(the_first_connection_wakes_and_idleness_rests)
{
    bench b;
    bench_init(&b);
    start(&b, (how){.id = "one", .dormant = true}, 0);
    usleep(50000);
    CHECK_INT(b.woken + b.running + b.exited, ==, 0);
    CHECK_INT(answer(dial(&b, 'h')), >, 0);
    WAIT_FOR(&b, b.woken == 1 && b.running == 1);
    CHECK_INT(b.wakes, ==, 1);
    pid_t first = b.pid;
    CHECK_INT(answer(dial(&b, 'h')), >, 0);
    CHECK_INT(answer(dial(&b, 'i')), >, 0);
    WAIT_FOR(&b, b.dormant == 1);
    CHECK_INT(b.exited, ==, 0);
    CHECK(!alive(first));
    /* Twice within a second: the second wake waits a little, and comes. */
    CHECK_INT(answer(dial(&b, 'h')), >, 0);
    WAIT_FOR(&b, b.woken == 2 && b.running == 2);
    CHECK_INT(b.wakes, ==, 2);
    CHECK(b.pid != first);
    bench_done(&b);
}

TEST_TIMEOUT(a_herd_starts_one_process, 60)
{
    static bench b;
    static int fds[HERD];
    struct rlimit files = {4096, 4096};
    bench_init(&b);
    (void)setrlimit(RLIMIT_NOFILE, &files);
    start(&b, (how){.id = "herd", .dormant = true}, 0);
    for (int i = 0; i < HERD; i++)
        fds[i] = dial(&b, 'h');
    for (int i = 0; i < HERD; i++)
        CHECK_INT(answer(fds[i]), >, 0);
    WAIT_FOR(&b, b.running == 1);
    usleep(50000);
    wh_loop_once(b.loop, 0);
    CHECK_INT(b.woken, ==, 1);
    CHECK_INT(b.wakes, ==, 1);
    bench_done(&b);
}

TEST(one_that_ran_from_the_beginning_rests_too)
{
    bench b;
    char path[128];
    auto_free char *log = NULL;
    bench_init(&b);
    start(&b, (how){.id = "rests", .rest = true}, 0);
    WAIT_FOR(&b, b.running == 1);
    CHECK_INT(answer(dial(&b, 'l')), >, 0);
    CHECK_INT(answer(dial(&b, 'i')), >, 0);
    WAIT_FOR(&b, b.dormant == 1);
    /* Its log was rotated meanwhile: the path counts, not the file of the start. */
    (void)snprintf(path, sizeof(path), "%s/log", b.dir);
    CHECK(unlink(path) == 0);
    CHECK_INT(answer(dial(&b, 'l')), >, 0);
    WAIT_FOR(&b, b.woken == 1);
    CHECK_OK(wh_read_file(AT_FDCWD, path, 4096, &log, NULL, NULL), NULL);
    CHECK_STR(log, "line\n");
    CHECK_INT(answer(dial(&b, 'x')), ==, -1);
    WAIT_FOR(&b, b.exited == 1);
    CHECK_INT(b.exit_code, ==, 7);
    bench_done(&b);
}

TEST(its_control_groups_go_and_come_with_it)
{
    bench b;
    char outer[128], inner[160], file[192], setting[256];
    struct stat st;
    bench_init(&b);
    (void)snprintf(outer, sizeof(outer), "%s/pod", b.dir);
    (void)snprintf(inner, sizeof(inner), "%s/c", outer);
    (void)snprintf(file, sizeof(file), "%s/limit", b.dir);
    (void)snprintf(setting, sizeof(setting), "%s\n512", file);
    CHECK(mkdir(outer, 0700) == 0);
    CHECK(mkdir(inner, 0700) == 0);
    auto_close int made = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(made >= 0);
    char *dirs[] = {outer, inner, NULL}, *settings[] = {setting, NULL};
    start(&b, (how){.id = "grouped", .rest = true, .dirs = dirs, .settings = settings}, 0);
    CHECK_INT(answer(dial(&b, 'i')), >, 0);
    WAIT_FOR(&b, b.dormant == 1);
    CHECK(stat(outer, &st) < 0);
    CHECK_INT(answer(dial(&b, 'h')), >, 0);
    CHECK(stat(inner, &st) == 0);
    CHECK(stat(file, &st) == 0 && st.st_size == 3);
    bench_done(&b);
}

TEST(one_that_may_not_rest_ends)
{
    bench b;
    bench_init(&b);
    start(&b, (how){.id = "ends"}, 0);
    CHECK_INT(answer(dial(&b, 'i')), >, 0);
    WAIT_FOR(&b, b.exited == 1);
    CHECK_INT(b.exit_code, ==, 0);
    CHECK_INT(b.dormant, ==, 0);
    bench_done(&b);
}

TEST_TIMEOUT(a_wake_that_fails_is_tried_again_and_nothing_is_lost, 60)
{
    bench b;
    char file[128];
    bench_init(&b);
    (void)snprintf(file, sizeof(file), "%s/procs", b.dir);
    char *cgroups[] = {file, NULL};
    start(&b, (how){.id = "late", .dormant = true, .cgroups = cgroups}, 0);
    int one = dial(&b, 'h'), two = dial(&b, 'h');
    WAIT_FOR(&b, b.failed_wakes >= 2);
    CHECK_CONTAINS(b.last_error, "join its control groups");
    CHECK_INT(b.woken, ==, 0);
    auto_close int made = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(made >= 0);
    WAIT_FOR(&b, b.running == 1);
    CHECK_INT(answer(one), >, 0);
    CHECK_INT(answer(two), >, 0);
    CHECK_INT(b.wakes, ==, 1);
    bench_done(&b);
}

TEST(a_killed_one_loses_no_queued_connection)
{
    bench b;
    static int fds[100];
    bench_init(&b);
    start(&b, (how){.id = "web.0", .dormant = true}, 0);
    int stuck = dial_stuck(&b);
    WAIT_FOR(&b, b.running == 1);
    for (size_t i = 0; i < WH_ARRAY_LEN(fds); i++)
        fds[i] = dial(&b, 'h');
    CHECK(kill(b.pid, SIGKILL) == 0);
    WAIT_FOR(&b, b.exited == 1);
    CHECK_INT(b.signal, ==, SIGKILL);
    CHECK_INT(answer(stuck), ==, -1);
    CHECK_OK(wh_keeper_reap(b.keeper, "web.0", on_done, &b, NULL), NULL);
    ask(&b, 0);
    start(&b, (how){.id = "web.1", .rest = true}, 0);
    for (size_t i = 0; i < WH_ARRAY_LEN(fds); i++)
        CHECK_INT(answer(fds[i]), >, 0);
    bench_done(&b);
}

TEST(a_signal_ends_a_dormant_one_and_beats_its_rest)
{
    bench b;
    bench_init(&b);
    start(&b, (how){.id = "quiet", .dormant = true}, 0);
    CHECK_OK(wh_keeper_drop(b.keeper, "web:80", on_done, &b, NULL), NULL);
    ask(&b, -EBUSY);
    CHECK_OK(wh_keeper_signal(b.keeper, "quiet", SIGTERM, on_done, &b, NULL), NULL);
    ask(&b, 0);
    WAIT_FOR(&b, b.exited == 1);
    CHECK_INT(b.exit_code, ==, 0);
    CHECK_OK(wh_keeper_reap(b.keeper, "quiet", on_done, &b, NULL), NULL);
    ask(&b, 0);
    start(&b, (how){.id = "stopped", .rest = true}, 0);
    WAIT_FOR(&b, b.running == 1);
    CHECK_OK(wh_keeper_signal(b.keeper, "stopped", SIGURG, on_done, &b, NULL), NULL); /* it ignores that */
    ask(&b, 0);
    CHECK_INT(answer(dial(&b, 'i')), >, 0);
    WAIT_FOR(&b, b.exited == 2);
    CHECK_INT(b.exit_code, ==, 0);
    CHECK_INT(b.dormant, ==, 0);
    CHECK_OK(wh_keeper_reap(b.keeper, "stopped", on_done, &b, NULL), NULL);
    ask(&b, 0);
    CHECK_OK(wh_keeper_drop(b.keeper, "web:80", on_done, &b, NULL), NULL);
    ask(&b, 0);
    hold(&b, "web:80", -1, -ENOENT);
    bench_done(&b);
}

TEST(what_is_held_has_a_name_of_its_own)
{
    bench b;
    bench_init(&b);
    auto_close int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    hold(&b, "web:80", -1, 0);
    hold(&b, "web:80", null, -EEXIST);
    hold(&b, "a/b", null, -EINVAL);
    hold(&b, "", null, -EINVAL);
    char name[193];
    memset(name, 'n', sizeof(name) - 1);
    name[192] = '\0';
    hold(&b, name, null, -EINVAL);
    name[191] = '\0';
    hold(&b, name, null, 0);
    start(&b, (how){.id = "x", .dormant = true, .socket = "other:80"}, -ENOENT);
    CHECK_CONTAINS(b.last_error, "is not held");
    CHECK_OK(wh_keeper_list(b.keeper, on_listed, on_done, &b, NULL), NULL);
    ask(&b, 0);
    CHECK_INT(b.held, ==, 2);
    CHECK_INT(b.listed, ==, 0);
    bench_done(&b);
}

TEST(an_upgrade_keeps_dormant_ones)
{
    bench b;
    bench_init(&b);
    start(&b, (how){.id = "sleeps", .dormant = true}, 0);
    start(&b, (how){.id = "also", .dormant = true, .socket = "web:80"}, 0);
    CHECK_OK(wh_keeper_signal(b.keeper, "also", SIGTERM, on_done, &b, NULL), NULL);
    ask(&b, 0);
    auto_close int program = open(getenv("WH_KEEPER"), O_RDONLY | O_CLOEXEC);
    for (int i = 0; i < 3; i++) {
        CHECK_OK(wh_keeper_upgrade(b.keeper, program, on_done, &b, NULL), NULL);
        ask(&b, 0);
    }
    CHECK_INT(answer(dial(&b, 'h')), >, 0);
    WAIT_FOR(&b, b.woken == 1 && b.running == 1);
    CHECK_OK(wh_keeper_upgrade(b.keeper, program, on_done, &b, NULL), NULL);
    ask(&b, 0);
    CHECK_INT(answer(dial(&b, 'i')), >, 0);
    WAIT_FOR(&b, b.dormant >= 1);
    CHECK_INT(answer(dial(&b, 'h')), >, 0);
    WAIT_FOR(&b, b.woken == 2);
    CHECK(!b.lost);
    bench_done(&b);
}

TEST(a_killed_keeper_gets_the_sockets_of_running_ones_back)
{
    bench b;
    if (getuid() != 0)
        SKIP("needs root to take descriptors out of a process");
    bench_init(&b);
    start(&b, (how){.id = "runs", .rest = true}, 0);
    WAIT_FOR(&b, b.running == 1);
    CHECK(kill(keeper_pid(&b), SIGKILL) == 0);
    WAIT_FOR(&b, b.lost);
    wh_keeper_free(b.keeper);
    bench_connect(&b);
    CHECK_OK(wh_keeper_list(b.keeper, on_listed, on_done, &b, NULL), NULL);
    ask(&b, 0);
    CHECK_INT(b.listed, ==, 1);
    CHECK_INT(b.held, ==, 1);
    int stuck = dial_stuck(&b), waits = dial(&b, 'h');
    CHECK_OK(wh_keeper_signal(b.keeper, "runs", SIGKILL, on_done, &b, NULL), NULL);
    ask(&b, 0);
    WAIT_FOR(&b, b.exited == 1);
    start(&b, (how){.id = "next", .rest = true}, 0);
    CHECK_INT(answer(stuck), ==, -1);
    CHECK_INT(answer(waits), >, 0);
    bench_done(&b);
}

TEST(a_killed_keeper_forgets_dormant_ones_and_says_so)
{
    bench b;
    bench_init(&b);
    start(&b, (how){.id = "sleeps", .dormant = true}, 0);
    CHECK(kill(keeper_pid(&b), SIGKILL) == 0);
    WAIT_FOR(&b, b.lost);
    wh_keeper_free(b.keeper);
    bench_connect(&b);
    CHECK_OK(wh_keeper_list(b.keeper, on_listed, on_done, &b, NULL), NULL);
    ask(&b, 0);
    CHECK_INT(b.held, ==, 0);
    CHECK_INT(b.exited, ==, 1);
    CHECK_INT(b.exit_code, ==, -1);
    bench_done(&b);
}
