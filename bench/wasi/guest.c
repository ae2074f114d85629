/* SPDX-License-Identifier: Apache-2.0 */
/* The guest of bench/wasi.py: does each kind of work a number of times and prints how long it took, by its
 * own clock. */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FILES 500
#define BIG (8 << 20)

static char buf[1 << 20];
static unsigned long sink;

static uint64_t now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void set_up(void)
{
    char name[64];
    int fd = open("/big", O_CREAT | O_RDWR, 0644);
    if (fd < 0)
        fail("/big");
    for (int i = 0; i < BIG; i += (int)sizeof(buf))
        if (write(fd, buf, sizeof(buf)) != (ssize_t)sizeof(buf))
            fail("write");
    close(fd);
    mkdir("/dir", 0755);
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof(name), "/dir/file-%d", i);
        fd = open(name, O_CREAT | O_RDWR, 0644);
        if (fd < 0 || write(fd, "content", 7) != 7)
            fail(name);
        close(fd);
    }
}

static void read_blocks(size_t block, int times)
{
    int fd = open("/big", O_RDONLY);
    for (int i = 0; i < times; i++) {
        ssize_t n = read(fd, buf, block);
        if (n < (ssize_t)block)
            lseek(fd, 0, SEEK_SET);
        sink += (unsigned char)buf[0];
    }
    close(fd);
}

static void write_blocks(size_t block, int times)
{
    int fd = open("/out", O_CREAT | O_WRONLY | O_TRUNC, 0644);
    for (int i = 0; i < times; i++) {
        if (write(fd, buf, block) != (ssize_t)block)
            fail("/out");
        if (i % 256 == 255)
            lseek(fd, 0, SEEK_SET);
    }
    close(fd);
}

static void append_lines(int times)
{
    int fd = open("/log", O_CREAT | O_WRONLY | O_TRUNC | O_APPEND, 0644);
    for (int i = 0; i < times; i++)
        if (write(fd, "a line of a log, neither long nor short\n", 40) != 40)
            fail("/log");
    close(fd);
}

static void open_read_close(int times)
{
    char name[64];
    for (int i = 0; i < times; i++) {
        snprintf(name, sizeof(name), "/dir/file-%d", i % FILES);
        int fd = open(name, O_RDONLY);
        if (fd < 0 || read(fd, buf, 100) != 7)
            fail(name);
        close(fd);
    }
}

static void walk(int times)
{
    struct stat st;
    for (int i = 0; i < times; i++) {
        DIR *dir = opendir("/dir");
        if (dir == NULL)
            fail("/dir");
        for (struct dirent *e; (e = readdir(dir)) != NULL;) {
            if (e->d_name[0] == '.')
                continue; /* ".." of a descriptor is outside */
            if (fstatat(dirfd(dir), e->d_name, &st, 0) < 0)
                fail(e->d_name);
            sink += (unsigned long)st.st_size;
        }
        closedir(dir);
    }
}

static void stat_paths(int times)
{
    struct stat st;
    for (int i = 0; i < times; i++)
        if (stat("/dir/file-7", &st) < 0)
            fail("stat");
}

static void rename_files(int times)
{
    for (int i = 0; i < times; i++)
        if (rename("/dir/file-1", "/dir/moved") < 0 || rename("/dir/moved", "/dir/file-1") < 0)
            fail("rename");
}

static void clocks(int times)
{
    struct timespec ts;
    for (int i = 0; i < times; i++) {
        clock_gettime(CLOCK_MONOTONIC, &ts);
        sink += (unsigned long)ts.tv_nsec;
    }
}

static void polls(int times)
{
    int fd = open("/big", O_RDONLY);
    for (int i = 0; i < times; i++) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 0) < 0)
            fail("poll");
    }
    close(fd);
}

static void sleeps(int times)
{
    for (int i = 0; i < times; i++)
        usleep(100);
}

static void random_bytes(int times)
{
    for (int i = 0; i < times; i++)
        if (getentropy(buf, 32) < 0)
            fail("getentropy");
}

static void lines(int times)
{
    for (int i = 0; i < times; i++)
        if (write(2, "a line of a log, neither long nor short\n", 40) != 40)
            fail("standard error");
}

/* The smallest of several short rounds: on a busy machine a long one is never left alone. */
#define MEASURE(name, call)                             \
    do {                                                \
        uint64_t least = UINT64_MAX;                    \
        for (int round = 0; round < rounds; round++) {  \
            uint64_t began = now();                     \
            call;                                       \
            uint64_t took = now() - began;              \
            least = took < least ? took : least;        \
        }                                               \
        printf("%s %.4f\n", name, (double)least / 1e6); \
    } while (0)

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 1;
    set_up();
    MEASURE("wasi_read_4k", read_blocks(4096, 1000));
    MEASURE("wasi_read_64k", read_blocks(65536, 100));
    MEASURE("wasi_read_1m", read_blocks(1 << 20, 8));
    MEASURE("wasi_write_4k", write_blocks(4096, 1000));
    MEASURE("wasi_write_64k", write_blocks(65536, 50));
    MEASURE("wasi_append", append_lines(1000));
    MEASURE("wasi_open_read_close", open_read_close(300));
    MEASURE("wasi_walk", walk(1));
    MEASURE("wasi_stat", stat_paths(500));
    MEASURE("wasi_rename", rename_files(100));
    MEASURE("wasi_clock", clocks(20000));
    MEASURE("wasi_poll", polls(500));
    MEASURE("wasi_sleep_100us", sleeps(5));
    MEASURE("wasi_random_32", random_bytes(5000));
    MEASURE("wasi_stderr_line", lines(1000));
    return sink == 1;
}
