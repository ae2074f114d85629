/* SPDX-License-Identifier: Apache-2.0 */
/* A function as a plain program of WASI preview 1. What it does stands in the last part of the path (or in the first
 * argument); a path that begins with /cgi/ gets CGI headers before the body. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static bool cgi;

static const char *env(const char *name)
{
    const char *value = getenv(name);
    return value != NULL ? value : "";
}

/* A number of the query: name=N. */
static long number(const char *name, long otherwise)
{
    const char *query = env("QUERY_STRING");
    if (*query == '\0')
        query = env("Http_Query");
    size_t n = strlen(name);
    for (const char *p = query; p != NULL && *p != '\0';
         p = strchr(p, '&') != NULL ? strchr(p, '&') + 1 : NULL)
        if (strncmp(p, name, n) == 0 && p[n] == '=')
            return atol(p + n + 1);
    return otherwise;
}

static void head(const char *more)
{
    if (cgi)
        printf("Content-Type: text/plain\n%s\n", more);
}

static int cat(void)
{
    static char buffer[65536];
    head("");
    fflush(stdout);
    for (;;) {
        ssize_t n = read(0, buffer, sizeof buffer);
        if (n <= 0)
            return n == 0 ? 0 : 1;
        for (ssize_t sent = 0; sent < n;) {
            ssize_t w = write(1, buffer + sent, (size_t)(n - sent));
            if (w <= 0)
                return 1;
            sent += w;
        }
    }
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int show(int argc, char **argv)
{
    head("");
    for (int i = 0; i < argc; i++)
        printf("arg %d %s\n", i, argv[i]);
    size_t n = 0;
    while (environ != NULL && environ[n] != NULL)
        n++;
    if (n > 0)
        qsort(environ, n, sizeof *environ, compare);
    for (size_t i = 0; i < n; i++)
        printf("%s\n", environ[i]);
    return 0;
}

/* The byte at i is i modulo 251. */
static int big(void)
{
    static unsigned char block[65536 + 251];
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (unsigned char)(i % 251);
    long bytes = number("bytes", 10 * 1024 * 1024);
    head("");
    for (long sent = 0; sent < bytes;) {
        size_t n = bytes - sent < 65536 ? (size_t)(bytes - sent) : 65536;
        if (fwrite(block + sent % 251, 1, n, stdout) != n)
            return 1;
        sent += (long)n;
    }
    return 0;
}

static int slow(void)
{
    head("");
    for (long i = 0; i < number("chunks", 3); i++) {
        printf("%ld\n", i);
        fflush(stdout);
        usleep((useconds_t)number("ms", 20) * 1000);
    }
    return 0;
}

static int greedy(void)
{
    char *volatile block; /* else the compiler sees that nobody uses it, and asks for nothing */
    while ((block = malloc(1 << 20)) != NULL)
        memset(block, 1, 1 << 20);
    head("");
    printf("refused\n");
    return 0;
}

static int raw(const char *answer)
{
    fputs(answer, stdout);
    return 0;
}

static int misbehave(const char *what)
{
    if (strcmp(what, "trap") == 0)
        __builtin_trap();
    if (strcmp(what, "trap-after") == 0) {
        head("");
        printf("half\n");
        fflush(stdout);
        __builtin_trap();
    }
    if (strcmp(what, "exit") == 0)
        return (int)number("code", 3);
    if (strcmp(what, "exit-after") == 0) {
        head("");
        printf("half\n");
        return (int)number("code", 3);
    }
    if (strcmp(what, "loop") == 0)
        for (volatile uint64_t n = 0;;)
            n++;
    return -1;
}

/* Heads that a host must not pass on, and one that it must read well. */
static int heads(const char *what)
{
    static const struct {
        const char *what, *answer;
    } heads[] = {
        {"bad-header", "this is no header\n\nbody\n"},
        {"no-header", "body without a head\n"},
        {"no-type", "X-Only: this\n\nbody\n"},
        {"no-output", ""},
        {"unfinished", "Content-Type: text/plain\nX-More: "},
        {"bare-cr", "Content-Type: text/plain\nX-Bad: a\rb\n\nbody\n"},
        {"forbidden", "Content-Type: text/plain\nTransfer-Encoding: chunked\nConnection: close\n\nbody\n"},
        {"bad-status", "Status: nine\nContent-Type: text/plain\n\nbody\n"},
        {"status", "Status: 404 Nothing here\nContent-Type: text/plain\n\nbody\n"},
        {"redirect", "Location: /elsewhere\n\n"},
        {"crlf", "Content-Type: text/plain\r\nX-Two: a\r\nX-Two: b\r\n\r\nbody\n"},
        {"length", "Content-Type: text/plain\nContent-Length: 5\n\nbody\n"},
        {"short-length", "Content-Type: text/plain\nContent-Length: 50\n\nbody\n"},
        {"long-length", "Content-Type: text/plain\nContent-Length: 2\n\nbody\n"},
    };
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        if (strcmp(what, heads[i].what) == 0)
            return raw(heads[i].answer);
    return -1;
}

int main(int argc, char **argv)
{
    const char *path = *env("PATH_INFO") != '\0' ? env("PATH_INFO") : env("Http_Path");
    const char *what = strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path;
    cgi = strncmp(path, "/cgi/", 5) == 0;
    int rc = misbehave(what);
    if (rc < 0)
        rc = heads(what);
    if (rc >= 0)
        return rc;
    if (strcmp(what, "cat") == 0)
        return cat();
    if (strcmp(what, "env") == 0)
        return show(argc, argv);
    if (strcmp(what, "big") == 0)
        return big();
    if (strcmp(what, "slow") == 0)
        return slow();
    if (strcmp(what, "alloc") == 0)
        return greedy();
    if (strcmp(what, "sleep") == 0)
        usleep((useconds_t)number("ms", 50) * 1000);
    if (strcmp(what, "log") == 0)
        fprintf(stderr, "to stderr\n");
    head("X-Language: C\n");
    printf("Hello from C\n");
    return 0;
}
