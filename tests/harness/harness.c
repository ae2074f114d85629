/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define EXIT_SKIP 77
#define SIGNALLED 256
#define ALLOC_ROUNDS_MAX 2000

extern const wh_test *const __start_wh_tests[];
extern const wh_test *const __stop_wh_tests[];

/* What a test leaves for its parent, in memory that both share. */
static struct shared {
    char reason[256];
    bool alloc_failed; /* the chosen allocation was reached */
} * shared;

static bool forked;
static uint64_t alloc_countdown; /* 0: none fails */

/* ---- failing allocations: the linker leads malloc, calloc and realloc of all our objects here (--wrap) */

void *__real_malloc(size_t n);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_reallocarray(void *p, size_t count, size_t size);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_reallocarray(void *p, size_t count, size_t size);

static bool alloc_fails(void)
{
    uint64_t left = __atomic_load_n(&alloc_countdown, __ATOMIC_RELAXED);
    if (left == 0 || __atomic_sub_fetch(&alloc_countdown, 1, __ATOMIC_RELAXED) != 0)
        return false;
    if (shared != NULL)
        shared->alloc_failed = true;
    errno = ENOMEM;
    return true;
}

void *__wrap_malloc(size_t n)
{
    return alloc_fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return alloc_fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    return alloc_fails() ? NULL : __real_realloc(p, n);
}

void *__wrap_reallocarray(void *p, size_t count, size_t size)
{
    return alloc_fails() ? NULL : __real_reallocarray(p, count, size);
}

void wh_test_fail_alloc(uint64_t nth)
{
    __atomic_store_n(&alloc_countdown, nth, __ATOMIC_RELAXED);
}

/* ---- checks */

static __attribute__((noreturn)) void end_test(int code)
{
    (void)fflush(NULL);
    _exit(code);
}

void wh_test_skip(const char *file, int line, const char *reason)
{
    (void)snprintf(shared->reason, sizeof(shared->reason), "%s", reason);
    if (!forked)
        (void)fprintf(stderr, "# %s:%d: skipped: %s\n", file, line, reason);
    end_test(EXIT_SKIP);
}

void wh_test_fail(const char *file, int line, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)fprintf(stderr, "# %s:%d: check failed: ", file, line);
    (void)vfprintf(stderr, fmt, args);
    (void)fprintf(stderr, "\n");
    va_end(args);
    end_test(1);
}

static const char *shown(const char *s)
{
    return s == NULL ? "(null)" : s;
}

void wh_test_check_str(const char *file, int line, const char *what, const char *a, const char *b)
{
    if (a == b || (a != NULL && b != NULL && strcmp(a, b) == 0))
        return;
    wh_test_fail(file, line, "%s\n#   is       \"%.2000s\"\n#   expected \"%.2000s\"", what, shown(a),
                 shown(b));
}

void wh_test_check_contains(const char *file, int line, const char *what, const char *haystack,
                            const char *needle)
{
    if (haystack != NULL && strstr(haystack, needle) != NULL)
        return;
    wh_test_fail(file, line, "%s\n#   is           \"%.2000s\"\n#   must contain \"%s\"", what,
                 shown(haystack), needle);
}

void wh_test_check_mem(const char *file, int line, const char *what, const void *a, const void *b, size_t n)
{
    const unsigned char *x = a, *y = b;
    for (size_t i = 0; i < n; i++) {
        if (x[i] != y[i])
            wh_test_fail(file, line, "%s: byte %zu of %zu is %02x, expected %02x", what, i, n, x[i], y[i]);
    }
}

void wh_test_check_ok(const char *file, int line, const char *what, int64_t rc, const wh_err *err)
{
    if (rc >= 0)
        return;
    wh_test_fail(file, line, "%s: %" PRId64 " (%s): %s", what, rc, strerror((int)-rc),
                 err == NULL ? "no sentence" : err->msg);
}

/* ---- running */

static __attribute__((noreturn)) void run_here(const wh_test *test, uint64_t fail_nth)
{
    wh_test_fail_alloc(fail_nth);
    test->fn();
    wh_test_fail_alloc(0);
    exit(0); /* and not _exit: leak checkers run at exit */
}

static int64_t now_ms(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Waits for the test's end; false after its time. */
static bool wait_for(pid_t pid, int timeout_sec, siginfo_t *ret)
{
    auto_close int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    int64_t end = now_ms() + (int64_t)timeout_sec * 1000;
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    for (;;) {
        int64_t left = end - now_ms();
        int n = left <= 0 ? 0 : poll(&p, 1, (int)left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        /* Not reaped yet: its process group must not get a new owner before it is cleaned up. */
        return waitid(P_PID, (id_t)pid, ret, WEXITED | WNOWAIT) == 0;
    }
}

/* Runs the test in a process group of its own. Answers its exit code, or 128 + signal, or -1 for a timeout.
 */
static int run_forked(const wh_test *test, uint64_t fail_nth, bool quiet)
{
    memset(shared, 0, sizeof(*shared));
    (void)fflush(NULL);
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid < 0) {
        perror("# fork");
        exit(1);
    }
    if (pid == 0) {
        forked = true;
        (void)setpgid(0, 0);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        (void)dup2(STDERR_FILENO, STDOUT_FILENO); /* standard output is TAP */
        if (quiet && freopen("/dev/null", "w", stderr) == NULL)
            _exit(1);
        run_here(test, fail_nth);
    }
    (void)setpgid(pid, pid); /* both sides do it, so that it is done before either goes on */
    siginfo_t info = {0};
    bool ended = wait_for(pid, test->timeout_sec, &info);
    (void)kill(-pid, SIGKILL); /* what the test left behind, or the test */
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    if (!ended)
        return -1;
    return info.si_code == CLD_EXITED ? info.si_status : SIGNALLED + info.si_status;
}

/* A failing allocation may be reported by any failing check or by wh_panic, which is what wh_x... calls
 * promise; what may not happen is another signal (a NULL that nobody looked at), or an endless wait. */
static bool survives_failing_allocs(const wh_test *test)
{
    for (uint64_t nth = 1; nth <= ALLOC_ROUNDS_MAX; nth++) {
        int code = run_forked(test, nth, true);
        bool crashed = code == -1 || (code > SIGNALLED && code != SIGNALLED + SIGABRT);
        if (crashed) {
            (void)fprintf(stderr, "# %s: allocation %" PRIu64 " failing: ended with %d\n", test->name, nth,
                          code);
            return false;
        }
        if (!shared->alloc_failed)
            return true;
    }
    return true;
}

static int by_line(const void *a, const void *b)
{
    const wh_test *const *x = a;
    const wh_test *const *y = b;
    return ((*x)->line > (*y)->line) - ((*x)->line < (*y)->line);
}

static bool report(size_t number, const wh_test *test, int code)
{
    if (code == EXIT_SKIP)
        (void)printf("ok %zu - %s # SKIP %s\n", number, test->name, shared->reason);
    else if (code == 0)
        (void)printf("ok %zu - %s\n", number, test->name);
    else
        (void)printf("not ok %zu - %s\n", number, test->name);
    if (code == -1)
        (void)fprintf(stderr, "# %s:%d: %s: not done after %d s\n", test->file, test->line, test->name,
                      test->timeout_sec);
    else if (code > SIGNALLED)
        (void)fprintf(stderr, "# %s:%d: %s: ended by signal %d (%s)\n", test->file, test->line, test->name,
                      code - SIGNALLED, strsignal(code - SIGNALLED));
    else if (code > 1 && code != EXIT_SKIP)
        (void)fprintf(stderr, "# %s:%d: %s: exit code %d\n", test->file, test->line, test->name, code);
    (void)fflush(stdout);
    return code == 0 || code == EXIT_SKIP;
}

static bool wanted(const wh_test *test, int n, char **names)
{
    for (int i = 0; i < n; i++) {
        if (strcmp(names[i], test->name) == 0)
            return true;
    }
    return n == 0;
}

int main(int argc, char **argv)
{
    size_t all = (size_t)(__stop_wh_tests - __start_wh_tests), n = 0, failed = 0;
    const wh_test **tests = __real_calloc(all + 1, sizeof(*tests));
    bool list = false, no_fork = false, fail_alloc = false;
    int at = 1;
    for (; at < argc && argv[at][0] == '-'; at++) {
        list |= strcmp(argv[at], "--list") == 0;
        no_fork |= strcmp(argv[at], "--no-fork") == 0;
        fail_alloc |= strcmp(argv[at], "--fail-alloc") == 0;
    }
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (tests == NULL || shared == MAP_FAILED)
        return 1;
    for (size_t i = 0; i < all; i++) {
        if (wanted(__start_wh_tests[i], argc - at, argv + at))
            tests[n++] = __start_wh_tests[i];
    }
    qsort(tests, n, sizeof(*tests), by_line);
    if (n == 0) {
        (void)fprintf(stderr, "# no such test\n");
        return 1;
    }
    if (no_fork)
        run_here(tests[0], 0);
    if (!list)
        (void)printf("1..%zu\n", n);
    for (size_t i = 0; i < n; i++) {
        if (list) {
            (void)printf("%s\n", tests[i]->name);
            continue;
        }
        int code = run_forked(tests[i], 0, false);
        if (code == 0 && fail_alloc && !survives_failing_allocs(tests[i]))
            code = 1;
        failed += !report(i + 1, tests[i], code);
    }
    free(tests);
    return failed > 0;
}
