/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments, environment, clocks, random bytes, polling, folders' entries. */
#include "wasi.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
static uint32_t n;

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list(const char *path)
{
    char *names[2000];
    int count = 0;
    DIR *dir = opendir(path);
    if (dir == NULL) {
        printf("opendir %s: %s\n", path, strerror(errno));
        return;
    }
    for (struct dirent *e; (e = readdir(dir)) != NULL && count < 2000;) {
        char text[300];
        snprintf(text, sizeof(text), "%s:%d", e->d_name, e->d_type);
        names[count++] = strdup(text);
    }
    closedir(dir);
    qsort(names, (size_t)count, sizeof(names[0]), by_name);
    printf("%s has %d entries:", path, count);
    for (int i = 0; i < count; i++)
        printf(" %s", names[i]);
    printf("\n");
}

static void folders(void)
{
    char name[64];
    mkdir("/many", 0755);
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof(name), "/many/entry-%d", i);
        close(open(name, O_CREAT | O_WRONLY, 0644));
    }
    symlink("many", "/link");
    list("/many");
    list("/");
    list("/missing");
    list("/link");
    static char big[65536];
    for (uint32_t room = 0; room < 60; room += 10)
        printf("readdir %u: %d, %u\n", room, w_fd_readdir(ROOT, big, room, 0, &n), n);
    T(w_fd_readdir(0, big, 100, 0, &n));
    T(w_fd_readdir(99, big, 100, 0, &n));
}

static void poll_one(const char *what, const w_sub *subs, uint32_t count)
{
    w_event events[4];
    memset(events, 0, sizeof(events));
    n = 0;
    int rc = w_poll_oneoff(subs, events, count, &n);
    printf("poll %s: %d, %u events", what, rc, n);
    for (uint32_t i = 0; rc == 0 && i < n; i++)
        printf(" [%llu error %u type %u flags %u]", events[i].userdata, events[i].error, events[i].type,
               events[i].flags);
    printf("\n");
}

static w_sub clock_sub(uint32_t id, uint64_t timeout, int flags)
{
    return (w_sub){.userdata = 1, .tag = 0, .u.clock = {.id = id, .timeout = timeout, .flags = flags}};
}

static w_sub fd_sub(int tag, uint32_t fd)
{
    return (w_sub){.userdata = 2, .tag = tag, .u.fd = fd};
}

static void polls(void)
{
    uint32_t fd = 0;
    uint64_t now, then;
    w_sub subs[3];
    w_path_open(ROOT, 0, S("pollfile"), CREAT, RW, 0, 0, &fd);
    poll_one("nothing", subs, 0);
    for (uint32_t id = 0; id < 5; id++) {
        subs[0] = clock_sub(id, 1000000, 0);
        subs[1] = clock_sub(id, 3600000000000ull, 0);
        poll_one("relative", subs, 2);
        subs[0] = clock_sub(id, 1, 1);
        poll_one("absolute past", subs, 1);
    }
    subs[0] = clock_sub(1, 1000, 2);
    poll_one("bad flags", subs, 2);
    w_clock_time_get(1, 0, &now);
    subs[0] = clock_sub(1, now + 20000000, 1);
    poll_one("absolute", subs, 1);
    w_clock_time_get(1, 0, &then);
    printf("waited %d\n", then - now >= 20000000);
    for (int tag = 1; tag < 4; tag++) {
        for (uint32_t i = 0; i < 3; i++) {
            subs[0] = fd_sub(tag, i);
            subs[1] = clock_sub(1, 0, 0);
            if (!(tag == 1 && i == 0) && !(tag == 2 && i > 0))
                poll_one("stream", subs, 1);
        }
        subs[0] = fd_sub(tag, fd);
        poll_one("file", subs, 1);
        subs[0] = fd_sub(tag, ROOT);
        poll_one("folder", subs, 1);
        subs[0] = fd_sub(tag, 99);
        poll_one("nobody", subs, 1);
    }
    w_fd_write(fd, &(iov){"x", 1}, 1, &n);
    subs[0] = fd_sub(1, fd);
    poll_one("file at its end", subs, 1);
    uint64_t at;
    w_fd_seek(fd, 0, 0, &at);
    poll_one("file before its end", subs, 1);
    T(w_fd_close(fd));
}

static void environment(int argc, char **argv)
{
    uint32_t a = 0, b = 0;
    for (int i = 0; i < argc; i++)
        printf("arg %d: '%s'\n", i, i == 0 ? "-" : argv[i]);
    for (char **e = environ; *e != NULL; e++)
        printf("env '%s'\n", *e);
    T(w_environ_sizes_get(&a, &b));
    printf("%u %u\n", a, b);
}

static void clocks(void)
{
    uint64_t t = 0;
    for (uint32_t id = 0; id < 4; id++) {
        printf("clock %u: res %d", id, w_clock_res_get(id, &t));
        printf(" time %d", w_clock_time_get(id, 0, &t));
        printf(" sane %d\n", id == 0 ? t / 1000000000 > 1700000000 : t < 60000000000ull);
    }
    struct timespec ts = {.tv_nsec = 1000000};
    printf("nanosleep %d\n", nanosleep(&ts, NULL));
}

static void rest(void)
{
    static char random[2][4096];
    T(w_random_get(random[0], sizeof(random[0])));
    T(w_random_get(random[1], sizeof(random[1])));
    printf("differ %d\n", memcmp(random[0], random[1], sizeof(random[0])) != 0);
    T(w_random_get(random[0], 0));
    T(w_sched_yield());
    for (uint32_t s = 0; s < 31; s++)
        T(w_proc_raise(s));
    uint16_t flags;
    T(w_sock_recv(1, &(iov){random[0], 1}, 1, 0, &n, &flags));
    T(w_sock_send(1, &(iov){random[0], 1}, 1, 0, &n));
    T(w_sock_accept(ROOT, 0, &n));
    T(w_sock_accept(99, 0, &n));
    T(w_sock_recv(99, &(iov){random[0], 1}, 1, 0, &n, &flags));
    T(w_sock_send(99, &(iov){random[0], 1}, 1, 0, &n));
    T(w_sock_shutdown(99, 1));
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    environment(argc, argv);
    clocks();
    polls();
    folders();
    rest();
    fflush(stdout);
    _exit(42);
}
