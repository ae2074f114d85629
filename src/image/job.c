/* SPDX-License-Identifier: Apache-2.0 */
/* Starting wherry-prepare, and other short programs: descriptors in, a record out, killed at a deadline. */
#include "base/file.h"
#include "base/record.h"
#include "image/store.h"
#include "prepare/prepare.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define IDENTIFY_DEADLINE (30 * WH_SEC)
#define CANCEL_CHECK_MS 100

typedef struct spawn_map { /* which of our descriptors becomes which of the child's */
    int from, to;
} spawn_map;

/* Puts copies of all descriptors above every target first, so that none is overwritten before it is moved. */
static int map_descriptors(posix_spawn_file_actions_t *actions, spawn_map *map, size_t n, int *copies)
{
    int top = 2;
    for (size_t i = 0; i < n; i++)
        top = WH_MAX(top, map[i].to);
    for (size_t i = 0; i < n; i++) {
        copies[i] = fcntl(map[i].from, F_DUPFD_CLOEXEC, top + 1);
        if (copies[i] < 0)
            return -errno;
        int rc = posix_spawn_file_actions_adddup2(actions, copies[i], map[i].to);
        if (rc != 0)
            return -rc;
    }
    return 0;
}

/* Signals as a fresh program expects them. */
static int fresh_signals(posix_spawnattr_t *attr)
{
    sigset_t none, usual;
    (void)sigemptyset(&none);
    (void)sigemptyset(&usual);
    (void)sigaddset(&usual, SIGPIPE);
    (void)sigaddset(&usual, SIGCHLD);
    (void)sigaddset(&usual, SIGTERM);
    (void)sigaddset(&usual, SIGINT);
    int rc = posix_spawnattr_setsigmask(attr, &none);
    if (rc == 0)
        rc = posix_spawnattr_setsigdefault(attr, &usual);
    if (rc == 0)
        rc = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    return rc;
}

static int spawn(const char *path, char *const *argv, spawn_map *map, size_t n, pid_t *ret, wh_err *err)
{
    char *const env[] = {(char[]){"PATH=/usr/bin:/bin"}, (char[]){"LC_ALL=C.UTF-8"}, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    auto_free int *copies = wh_xcalloc(n, sizeof(*copies));
    for (size_t i = 0; i < n; i++)
        copies[i] = -1;
    if (posix_spawn_file_actions_init(&actions) != 0)
        return wh_fail(err, -ENOMEM, "start '%s'", path);
    if (posix_spawnattr_init(&attr) != 0) {
        (void)posix_spawn_file_actions_destroy(&actions);
        return wh_fail(err, -ENOMEM, "start '%s'", path);
    }
    int rc = map_descriptors(&actions, map, n, copies);
    if (rc == 0)
        rc = -fresh_signals(&attr);
    if (rc == 0)
        rc = -posix_spawn(ret, path, &actions, &attr, argv, env);
    for (size_t i = 0; i < n; i++)
        if (copies[i] >= 0)
            close(copies[i]);
    (void)posix_spawnattr_destroy(&attr);
    (void)posix_spawn_file_actions_destroy(&actions);
    return rc < 0 ? wh_fail(err, rc, "start '%s'", path) : 0;
}

/* Waits for the child's end; kills it at the deadline or when cancelled. */
static int wait_child(pid_t pid, wh_time deadline, bool (*cancelled)(void *user), void *user, int *ret_status,
                      wh_err *err)
{
    int why = 0;
    wh_time end = wh_mono_now() + deadline;
    auto_close int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    while (pidfd >= 0 && why == 0) {
        struct pollfd p = {.fd = pidfd, .events = POLLIN};
        wh_time left = end - wh_mono_now();
        int ms = cancelled != NULL ? CANCEL_CHECK_MS : 1000;
        if (left <= 0)
            why = -ETIMEDOUT;
        else if (poll(&p, 1, (int)WH_MIN(left / WH_MSEC + 1, (wh_time)ms)) > 0)
            break;
        else if (cancelled != NULL && cancelled(user))
            why = -ECANCELED;
    }
    if (pidfd < 0)
        why = -errno;
    if (why < 0)
        (void)kill(pid, SIGKILL); /* ours, and not waited for yet: the number is still its own */
    while (waitpid(pid, ret_status, 0) < 0)
        if (errno != EINTR)
            return wh_fail(err, -errno, "wait for a child");
    if (why == -ETIMEDOUT)
        return wh_fail(err, why, "it took longer than %lld s.", (long long)(deadline / WH_SEC));
    return why < 0 ? wh_fail(err, why, "cancelled") : 0;
}

static int explain_end(int status, wh_err *err)
{
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
        return wh_fail(err, -EIO, "wherry-prepare made a system call that it must not make, and was killed.");
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU)
        return wh_fail(err, -EIO, "wherry-prepare used up its processor time on this input.");
    if (WIFSIGNALED(status))
        return wh_fail(err, -EIO, "wherry-prepare was ended by signal %d on this input.", WTERMSIG(status));
    return wh_fail(err, -EIO, "wherry-prepare left with code %d and no result.", WEXITSTATUS(status));
}

static int read_result(int fd, int status, wh_buf *ret, wh_err *err)
{
    auto_free char *data = NULL;
    auto_free char *verdict = NULL;
    auto_free char *message = NULL;
    size_t n = 0;
    int rc =
        lseek(fd, 0, SEEK_SET) < 0 ? -errno : wh_read_fd(fd, WH_PREPARE_RESULT_BYTES_MAX, &data, &n, NULL);
    if (rc < 0 || n == 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0 ||
        wh_record_check(data, n, NULL) < 0)
        return explain_end(status, err);
    rc = wh_record_get_str(data, n, "verdict", &verdict, err);
    if (rc == 0)
        rc = wh_record_get_str(data, n, "message", &message, err);
    if (rc < 0 || message == NULL)
        return explain_end(status, err);
    wh_buf_reset(ret);
    rc = wh_buf_append(ret, data, n);
    if (rc < 0)
        return wh_fail(err, rc, "keep a result");
    if (wh_streq(verdict, WH_VERDICT_OK))
        return 0;
    int code = wh_streq(verdict, WH_VERDICT_INTERNAL) ? -EIO : -EBADMSG;
    size_t end = strlen(message);
    message[end > 0 && message[end - 1] == '.' ? end - 1 : end] = '\0'; /* sentences close themselves */
    return wh_fail(err, code, "%.250s.", message);
}

int wh_prepare_run(wh_store *store, const wh_prepare_job *job, wh_buf *ret_record, wh_err *err)
{
    auto_close int result = memfd_create("prepare-result", MFD_CLOEXEC);
    auto_close int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    auto_free spawn_map *map = wh_xcalloc(job->n_layers + 5, sizeof(*map));
    auto_strv wh_strv argv = NULL;
    size_t n = 0;
    pid_t pid;
    int status = 0;
    if (result < 0 || null < 0)
        return wh_fail(err, -errno, "start '%s'", store->prepare);
    wh_strv_push(&argv, "wherry-prepare");
    for (const char *const *arg = job->args; *arg != NULL; arg++)
        wh_strv_push(&argv, *arg);
    map[n++] = (spawn_map){job->in >= 0 ? job->in : null, STDIN_FILENO};
    map[n++] = (spawn_map){null, STDOUT_FILENO};
    map[n++] = (spawn_map){job->out >= 0 ? job->out : null, WH_PREPARE_OUTPUT_FD};
    map[n++] = (spawn_map){result, WH_PREPARE_RESULT_FD};
    for (size_t i = 0; i < job->n_layers; i++)
        map[n++] = (spawn_map){job->layers[i], WH_PREPARE_LAYER_FD + (int)i};
    int rc = spawn(store->prepare, argv, map, n, &pid, err);
    if (rc == 0)
        rc = wait_child(pid, job->deadline, job->cancelled, job->user, &status, err);
    return rc == 0 ? read_result(result, status, ret_record, err) : rc;
}

int wh_tool_run(char *const *argv, wh_time deadline, wh_err *err)
{
    auto_close int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    auto_close int said = memfd_create("tool", MFD_CLOEXEC);
    pid_t pid;
    int status = 0;
    if (null < 0 || said < 0)
        return wh_fail(err, -errno, "start '%s'", argv[0]);
    spawn_map map[] = {{null, STDIN_FILENO}, {null, STDOUT_FILENO}, {said, STDERR_FILENO}};
    int rc = spawn(argv[0], argv, map, WH_ARRAY_LEN(map), &pid, err);
    if (rc == 0)
        rc = wait_child(pid, deadline, NULL, NULL, &status, err);
    if (rc < 0)
        return rc;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    char text[160] = "";
    ssize_t got = pread(said, text, sizeof(text) - 1, 0);
    text[WH_MAX(got, (ssize_t)0)] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return wh_fail(err, -EBADMSG, "%s: %s.",
                   strrchr(argv[0], '/') == NULL ? argv[0] : strrchr(argv[0], '/') + 1, text);
}

/* ---- what compiled code depends on ---- */

/* What decides whether an earlier answer still holds: the program's file, and the processor. */
static int identity_stamp(const wh_store *store, char **ret, wh_err *err)
{
    struct stat st;
    auto_free char *cpu = NULL;
    char digest[WH_DIGEST_TEXT_MAX];
    if (stat(store->prepare, &st) < 0)
        return wh_fail(err, -errno, "find '%s', which compiles modules", store->prepare);
    int rc = wh_read_file(AT_FDCWD, "/proc/cpuinfo", (size_t)4 << 20, &cpu, NULL, err);
    if (rc < 0)
        return rc;
    char *flags = strstr(cpu, "\nflags"); /* "Features" on other machines: then all of it counts */
    if (flags == NULL)
        flags = strstr(cpu, "\nFeatures");
    flags = flags == NULL ? cpu : flags + 1;
    rc = wh_digest_of(NULL, flags, strcspn(flags, "\n"), digest, err);
    if (rc < 0)
        return rc;
    *ret = wh_xasprintf("%s %llu %llu %lld %lld.%09ld %lld.%09ld %s", store->prepare,
                        (unsigned long long)st.st_dev, (unsigned long long)st.st_ino, (long long)st.st_size,
                        (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, (long long)st.st_ctim.tv_sec,
                        st.st_ctim.tv_nsec, digest);
    return 0;
}

static int ask_identity(const wh_store *store, char **ret, wh_err *err)
{
    auto_close int out = memfd_create("identity", MFD_CLOEXEC);
    auto_close int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    char *const argv[] = {(char[]){"wherry-prepare"}, (char[]){"identify"}, NULL};
    char text[256];
    pid_t pid;
    int status = 0;
    if (out < 0 || null < 0)
        return wh_fail(err, -errno, "start '%s'", store->prepare);
    spawn_map map[] = {{null, STDIN_FILENO}, {out, STDOUT_FILENO}};
    int rc = spawn(store->prepare, argv, map, WH_ARRAY_LEN(map), &pid, err);
    if (rc == 0)
        rc = wait_child(pid, IDENTIFY_DEADLINE, NULL, NULL, &status, err);
    if (rc < 0)
        return rc;
    ssize_t n = pread(out, text, sizeof(text) - 1, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || n <= 1)
        return wh_fail(err, -EIO, "'%s identify' does not work.", store->prepare);
    text[n] = '\0';
    text[strcspn(text, "\n")] = '\0';
    *ret = wh_xstrdup(text);
    return 0;
}

static int take_text(void *user, sqlite3_stmt *row)
{
    *(char **)user = wh_db_text(row, 0);
    return 0;
}

static int find_identity(wh_store *store, char **ret, wh_err *err)
{
    auto_free char *stamp = NULL;
    auto_free char *known = NULL;
    auto_free char *answer = NULL;
    int rc = identity_stamp(store, &stamp, err);
    if (rc == 0)
        rc = wh_db_begin(store, true, err);
    if (rc < 0)
        return rc;
    rc = wh_db_run(store, err, take_text, &known, "SELECT value FROM meta WHERE key='identity'", "");
    rc = wh_db_end(store, rc, err);
    if (rc < 0)
        return rc;
    size_t n = strlen(stamp);
    if (known != NULL && strncmp(known, stamp, n) == 0 && known[n] == '\n') {
        *ret = wh_xasprintf("%s %s", known + n + 1, strrchr(stamp, ' ') + 1);
        return 0;
    }
    rc = ask_identity(store, &answer, err);
    if (rc == 0)
        rc = wh_db_begin(store, true, err);
    if (rc < 0)
        return rc;
    auto_free char *value = wh_xasprintf("%s\n%s", stamp, answer);
    rc = wh_db_run(store, err, NULL, NULL, "INSERT OR REPLACE INTO meta(key, value) VALUES('identity', ?1)",
                   "s", value);
    rc = wh_db_end(store, rc, err);
    if (rc == 0)
        *ret = wh_xasprintf("%s %s", answer, strrchr(stamp, ' ') + 1);
    return rc;
}

int wh_prepare_identity(wh_store *store, char **ret, wh_err *err)
{
    struct stat st;
    auto_free char *fresh = NULL;
    if (stat(store->prepare, &st) < 0)
        return wh_fail(err, -errno, "find '%s', which compiles modules", store->prepare);
    (void)pthread_mutex_lock(&store->lock);
    const struct stat *old = &store->identity_of;
    bool same = store->identity != NULL && st.st_ino == old->st_ino && st.st_dev == old->st_dev &&
                st.st_size == old->st_size && st.st_ctim.tv_sec == old->st_ctim.tv_sec &&
                st.st_ctim.tv_nsec == old->st_ctim.tv_nsec;
    if (same)
        *ret = wh_xstrdup(store->identity);
    (void)pthread_mutex_unlock(&store->lock);
    if (same)
        return 0;
    int rc = find_identity(store, &fresh, err);
    if (rc < 0)
        return rc;
    *ret = wh_xstrdup(fresh);
    (void)pthread_mutex_lock(&store->lock);
    free(store->identity);
    store->identity = WH_TAKE(fresh);
    store->identity_of = st;
    (void)pthread_mutex_unlock(&store->lock);
    return 0;
}
