/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for wherry-runner where the node's part of serving is tested: takes the same specification, answers HTTP on
 * the listening sockets that it got, one request a connection, and goes idle as a runner does.
 *
 *   /id     a number that is another one in each process    /hang   never an answer, and nothing else is taken
 *   /fail   500    /exit  ends with code 3 and no answer    else    the path */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char spec[1 << 20];
static size_t spec_n;
static volatile sig_atomic_t stopped;

/* The nth value of that key as a number; -1: there is none. */
static long long number(const char *key, int nth)
{
    for (size_t at = 0; at < spec_n;) {
        size_t k = (unsigned char)spec[at], n;
        uint32_t v;
        memcpy(&v, spec + at + 1 + k, 4);
        n = v;
        if (k == strlen(key) && memcmp(spec + at + 1, key, k) == 0 && nth-- == 0) {
            char text[24] = "";
            memcpy(text, spec + at + 5 + k, n < 23 ? n : 23);
            return atoll(text);
        }
        at += 5 + k + n;
    }
    return -1;
}

static size_t put(char *out, const char *key, const char *value)
{
    size_t k = strlen(key), v = strlen(value);
    const unsigned char size[4] = {(unsigned char)v, 0, 0, 0};
    out[0] = (char)k;
    memcpy(out + 1, key, k);
    memcpy(out + 1 + k, size, 4);
    memcpy(out + 5 + k, value, v);
    return 5 + k + v;
}

static long long now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (long long)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void tell(const char *op)
{
    char message[128], start[24];
    (void)snprintf(start, sizeof(start), "%lld", now(CLOCK_REALTIME));
    size_t n = put(message, "op", op);
    n += put(message + n, "start", start);
    (void)!send((int)number("control_fd", 0), message, n, MSG_NOSIGNAL);
}

static void on_stop(int signo)
{
    (void)signo;
    stopped = 1;
}

static void answer(int fd, long long id)
{
    char in[4096] = "", path[256] = "", body[300], out[600];
    size_t got = 0;
    ssize_t n;
    while (strstr(in, "\r\n\r\n") == NULL && got < sizeof(in) - 1 &&
           (n = read(fd, in + got, sizeof(in) - 1 - got)) > 0)
        got += (size_t)n;
    if (sscanf(in, "GET %255s", path) != 1)
        return;
    while (strcmp(path, "/hang") == 0)
        pause();
    if (strcmp(path, "/exit") == 0)
        _exit(3);
    dprintf((int)number("log_fd", 0), "2026-01-01T00:00:00.000000000Z stdout F %s\n", path);
    if (strcmp(path, "/id") == 0)
        (void)snprintf(body, sizeof(body), "%lld", id);
    else
        (void)snprintf(body, sizeof(body), "%s", path);
    int len = snprintf(out, sizeof(out), "HTTP/1.1 %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
                       strcmp(path, "/fail") == 0 ? "500 Oops" : "200 OK", strlen(body), body);
    (void)!send(fd, out, (size_t)len, MSG_NOSIGNAL);
}

int main(void)
{
    struct pollfd fds[8];
    nfds_t n = 0;
    ssize_t got = pread(3, spec, sizeof(spec), 0);
    spec_n = got < 0 ? 0 : (size_t)got;
    signal(SIGTERM, on_stop);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (number("serve", 0) <= 0)
        return 9;
    for (; n < 8 && number("listen", (int)n) >= 0; n++)
        fds[n] = (struct pollfd){.fd = (int)number("listen", (int)n), .events = POLLIN};
    long long idle = number("idle", 0), id = now(CLOCK_MONOTONIC);
    int wait = idle > 0 ? (int)(idle / 1000000) : -1;
    tell("running");
    for (;;) {
        int ready = stopped ? -1 : poll(fds, n, wait);
        if (stopped)
            return 0;
        if (ready == 0) {
            tell("idle");
            return 0;
        }
        for (nfds_t i = 0; ready > 0 && i < n; i++) {
            int fd = (fds[i].revents & POLLIN) != 0 ? accept(fds[i].fd, NULL, NULL) : -1;
            if (fd < 0)
                continue;
            answer(fd, id);
            close(fd);
        }
    }
}
