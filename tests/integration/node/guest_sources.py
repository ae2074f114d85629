# SPDX-License-Identifier: Apache-2.0
"""C sources of small guests."""

TICKER = r"""
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    long delay = argc > 1 ? atol(argv[1]) : 100;
    for (long i = 0;; i++) {
        printf("tick %ld\n", i);
        fflush(stdout);
        usleep((useconds_t)delay * 1000);
    }
}
"""

EXIT = r"""
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        printf("arg %d: %s\n", i, argv[i]);
    fprintf(stderr, "on stderr\n");
    return argc > 1 ? atoi(argv[1]) : 0;
}
"""

ENV = r"""
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        printf("%s=%s\n", argv[i], getenv(argv[i]) ? getenv(argv[i]) : "(unset)");
    return 0;
}
"""

CAT = r"""
#include <errno.h>
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        FILE *f = fopen(argv[i], "r");
        char b[4096];
        size_t n;
        if (!f) {
            printf("%s: %s\n", argv[i], strerror(errno));
            continue;
        }
        while ((n = fread(b, 1, sizeof b, f)) > 0)
            fwrite(b, 1, n, stdout);
        fclose(f);
    }
    return 0;
}
"""

WRITE = r"""
#include <errno.h>
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv)
{
    FILE *f = fopen(argv[1], "a");
    if (!f) {
        printf("%s: %s\n", argv[1], strerror(errno));
        return 3;
    }
    fputs(argv[2], f);
    fclose(f);
    return 0;
}
"""

TRAP = r"""
static int deep(volatile int *p) { __builtin_trap(); return *p; }
int main(void) { int x = 1; return deep(&x); }
"""

LOOP = "int main(void) { for (volatile int i = 0;; i++) { } }\n"

# Without locals in memory: a C program's own stack in linear memory would end first, out of bounds.
STACK = r"""
__attribute__((noinline)) static int down(int n) { return n == -1 ? 0 : down(n + 1) + down(n + 2); }
int main(int argc, char **argv) { return down(argc); }
"""

MEMORY = r"""
#include <stdio.h>
#include <stdlib.h>
int main(void)
{
    for (int i = 0;; i++) {
        volatile char *p = malloc(1 << 20);
        if (!p) {
            fprintf(stderr, "no memory after %d MiB\n", i);
            abort();
        }
        for (int k = 0; k < 1 << 20; k += 4096)
            p[k] = 1;
    }
}
"""

GRACEFUL = r"""
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(void)
{
    struct pollfd p = {.fd = atoi(getenv("WHERRY_STOP_FD")), .events = POLLIN};
    char why[16] = {0};
    printf("waiting\n");
    fflush(stdout);
    if (poll(&p, 1, -1) != 1)
        return 2;
    ssize_t n = read(p.fd, why, sizeof why - 1);
    printf("asked to stop: %.*s", (int)n, why);
    fflush(stdout);
    return 7;
}
"""

STUBBORN = r"""
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(void)
{
    char c[8];
    int fd = atoi(getenv("WHERRY_STOP_FD"));
    printf("up\n");
    fflush(stdout);
    read(fd, c, sizeof c);
    printf("ignoring it\n");
    fflush(stdout);
    for (;;)
        usleep(100000);
}
"""

ADD = r"""
__attribute__((export_name("add"))) int add(int a, int b) { return a + b; }
int main(void) { return 0; }
"""

FLOOD = r"""
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv)
{
    long n = argc > 1 ? atol(argv[1]) : 1000;
    for (long i = 0; i < n; i++)
        printf("line %08ld %s\n", i, "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz");
    return 0;
}
"""
