/* SPDX-License-Identifier: Apache-2.0 */
/* The guest of the runner's tests: one verb per behaviour. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

__attribute__((export_name("add"))) int add(int a, int b)
{
    return a + b;
}

__attribute__((export_name("half"))) double half(double a)
{
    return a / 2;
}

/* Without locals in memory, so that the engine's stack ends and not the one in the guest's memory. */
static volatile int enough;
__attribute__((noinline)) static int deep(int n)
{
    if (enough)
        return n;
    int below = deep(n + 1);
    return enough ? below : below + n;
}

static int run_log(long lines)
{
    char line[64];
    for (long i = 0; i < lines; i++) {
        int n = snprintf(line, sizeof(line), "line %06ld\n", i);
        if (write(i % 2 == 0 ? 1 : 2, line, (size_t)n) != n)
            return 1;
    }
    return 0;
}

static int run_grow(void)
{
    size_t total = 0;
    static char *volatile p;
    for (; (p = malloc(1 << 20)) != NULL; total++)
        memset(p, 1, 1 << 20);
    printf("%zu MiB\n", total);
    return 3;
}

static int run_abort_on_grow(void)
{
    static char *volatile p;
    for (;;) {
        if ((p = malloc(1 << 20)) == NULL)
            __builtin_trap();
        memset(p, 1, 1 << 20);
    }
}

static int run_stop(void)
{
    char text[16] = "";
    int fd = atoi(getenv("WHERRY_STOP_FD"));
    puts("waiting");
    fflush(stdout);
    ssize_t n = read(fd, text, sizeof(text) - 1);
    printf("got %zd %s", n, text);
    return n == 5 && read(fd, text, 1) == 0 ? 7 : 8;
}

static int run_read(const char *path)
{
    char text[256];
    int fd = open(path, O_RDONLY);
    if (fd < 0) {
        printf("open %s: %s\n", path, strerror(errno));
        return 1;
    }
    ssize_t n = read(fd, text, sizeof(text));
    fwrite(text, 1, n < 0 ? 0 : (size_t)n, stdout);
    return 0;
}

static int run_write(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || write(fd, "written\n", 8) != 8) {
        printf("write %s: %s\n", path, strerror(errno));
        return 1;
    }
    return 0;
}

static int run_env(void)
{
    for (char **p = environ; *p != NULL; p++)
        puts(*p);
    return 0;
}

int main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "hello";
    if (strcmp(verb, "hello") == 0)
        puts("hello");
    else if (strcmp(verb, "exit") == 0)
        return atoi(argv[2]);
    else if (strcmp(verb, "partial") == 0)
        return write(1, "no end", 6) == 6 ? 0 : 1;
    else if (strcmp(verb, "loop") == 0)
        for (volatile long i = 0;; i++)
            ;
    else if (strcmp(verb, "partial-loop") == 0) {
        (void)!write(1, "no end", 6);
        for (volatile long i = 0;; i++)
            ;
    } else if (strcmp(verb, "sleep") == 0) {
        struct timespec t = {.tv_sec = atoi(argv[2])};
        puts("sleeping");
        fflush(stdout);
        nanosleep(&t, NULL);
    } else if (strcmp(verb, "trap") == 0)
        __builtin_trap();
    else if (strcmp(verb, "bounds") == 0)
        return *(volatile char *)0xfffffff0;
    else if (strcmp(verb, "divide") == 0)
        return 1 / (argc - 2);
    else if (strcmp(verb, "stack") == 0)
        return deep(argc);
    else if (strcmp(verb, "grow") == 0)
        return run_grow();
    else if (strcmp(verb, "grow-abort") == 0)
        return run_abort_on_grow();
    else if (strcmp(verb, "stop") == 0)
        return run_stop();
    else if (strcmp(verb, "log") == 0)
        return run_log(atol(argv[2]));
    else if (strcmp(verb, "read") == 0)
        return run_read(argv[2]);
    else if (strcmp(verb, "write") == 0)
        return run_write(argv[2]);
    else if (strcmp(verb, "env") == 0)
        return run_env();
    else
        return 99;
    return 0;
}
