/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for a runner: its specification (descriptor 3) is "SOCKET CONTROL", the numbers of its listening socket and
 * of its control socket. It answers each connection with its pid and does what the client's byte asks: 'h' nothing,
 * 'i' goes idle, 'x' ends with code 7, 'k' kills itself, 'w' waits for good after its answer, 'l' writes a line to
 * descriptor 4. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static size_t put(char *out, const char *key, const char *value)
{
    size_t k = strlen(key), v = strlen(value);
    out[0] = (char)k;
    memcpy(out + 1, key, k);
    const unsigned char size[4] = {(unsigned char)v, 0, 0, 0};
    memcpy(out + 1 + k, size, 4);
    memcpy(out + 5 + k, value, v);
    return 5 + k + v;
}

static void tell(int control, const char *op)
{
    char message[128], start[24];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    (void)snprintf(start, sizeof(start), "%lld", (long long)now.tv_sec * 1000000000 + now.tv_nsec);
    size_t n = put(message, "op", op);
    n += put(message + n, "start", start);
    (void)!send(control, message, n, MSG_NOSIGNAL);
}

int main(void)
{
    char spec[64] = "", c;
    int listener, control;
    ssize_t n = pread(3, spec, sizeof(spec) - 1, 0);
    if (n <= 0 || sscanf(spec, "%d %d", &listener, &control) != 2)
        return 9;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    tell(control, "running");
    for (;;) {
        struct pollfd p = {.fd = listener, .events = POLLIN};
        int fd = poll(&p, 1, -1) == 1 ? accept(listener, NULL, NULL) : -1;
        if (fd < 0)
            continue;
        c = 'h';
        n = read(fd, &c, 1);
        if (c == 'x')
            return 7;
        if (c == 'k')
            raise(SIGKILL);
        if (c == 'l')
            dprintf(4, "line\n");
        dprintf(fd, "%d\n", (int)getpid());
        while (c == 'w')
            pause();
        close(fd);
        if (c == 'i') {
            tell(control, "idle");
            return 0;
        }
    }
}
