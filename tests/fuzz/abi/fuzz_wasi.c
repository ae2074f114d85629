/* SPDX-License-Identifier: Apache-2.0 */
/* The input is a program of host calls: which function, with which arguments, and bytes to put into the
 * guest's memory. They run against a folder in memory. Whatever they do, nothing outside the folder and the
 * memory may change, no descriptor may be lost, and every answer is one that the specification has. */
#include "abi/wasi/wasi.h"
#include "base/file.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define MEM_BYTES 4096
#define CALLS_MAX 200
#define POKE 255
#define WASI_ERRNO_MAX 76

typedef struct input {
    const uint8_t *p, *end;
} input;

static int top = -1; /* holds "secret" and, for each run, "jail" */

static uint64_t take(input *in, size_t bytes)
{
    uint64_t v = 0;
    for (size_t i = 0; i < bytes && in->p < in->end; i++)
        v |= (uint64_t)*in->p++ << (8 * i);
    return v;
}

/* One byte chooses: a small number, a place in memory, a power of two, or bytes that follow. */
static uint64_t argument(input *in, size_t bytes)
{
    uint64_t tag = take(in, 1);
    if (tag < 64)
        return tag;
    if (tag < 128)
        return (tag - 64) * 64;
    if (tag < 192)
        return UINT64_C(1) << (tag - 128);
    return take(in, bytes);
}

static unsigned asked;

/* A wait gets one question before and one after the timer's signal: the second ends it. */
static bool interrupted(void *user)
{
    (void)user;
    return ++asked > 1;
}

static void on_alarm(int signo)
{
    (void)signo;
}

static void set_up(void)
{
    char path[] = "/dev/shm/wh-fuzz-XXXXXX";
    const struct rlimit file_size = {1 << 20, 1 << 20};
    const struct itimerval every = {{0, 2000}, {0, 2000}};
    struct sigaction action = {.sa_handler = on_alarm};

    if (mkdtemp(path) == NULL)
        abort();
    top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int fd = openat(top, "secret", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (top < 0 || wh_write_all(fd, "secret", 6) < 0)
        abort();
    close(fd);
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    sigaction(SIGALRM, &action, NULL);
    setrlimit(RLIMIT_FSIZE, &file_size);
    setitimer(ITIMER_REAL, &every, NULL);
}

__attribute__((destructor)) static void tear_down(void)
{
    char path[64], link[64];

    if (top < 0)
        return;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", top);
    ssize_t n = readlink(link, path, sizeof(path) - 1);
    if (n > 0) {
        path[n] = '\0';
        (void)wh_rm_rf(AT_FDCWD, path, NULL);
    }
}

static wh_wasi *make_guest(bool read_only)
{
    char *args[] = {(char[]){"fuzz"}, (char[]){"argument"}, NULL};
    wh_wasi_config config = {.args = args,
                             .env = args,
                             .stdin_fd = -1,
                             .stdout_fd = -1,
                             .stderr_fd = -1,
                             .trace_fd = -1,
                             .interrupted = interrupted};
    wh_wasi *wasi;
    if (mkdirat(top, "jail", 0700) < 0 || mkdirat(top, "jail/d", 0700) < 0 ||
        symlinkat("../secret", top, "jail/l") < 0 || symlinkat("..", top, "jail/d/u") < 0)
        abort();
    if (wh_wasi_new(&config, &wasi, NULL) < 0)
        abort();
    int fd = openat(top, "jail", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (wh_wasi_preopen_dir(wasi, fd, "/", read_only, NULL) < 0)
        abort();
    return wasi;
}

static void fill(uint8_t *mem)
{
    static const char *const words[] = {
        "f",  "d",        "d/f",        "l",      "..",  "../secret", "d/../../secret",
        "d/", "d/u/jail", "d/u/secret", "/etc/x", "f/x", ".",         "d/l"};

    memset(mem, 0, MEM_BYTES);
    for (size_t i = 0; i < WH_ARRAY_LEN(words); i++)
        memcpy(mem + 1024 + 64 * i, words[i], strlen(words[i]));
    for (uint32_t i = 0; i < 8; i++) { /* vectors of buffers, and clocks that have come */
        uint32_t vector[2] = {2048 + 64 * i, i};
        memcpy(mem + 512 + 8 * i, vector, sizeof(vector));
    }
}

static void call(wh_wasi *wasi, uint8_t *mem, const wh_import *import, input *in)
{
    wh_slot io[16] = {{0}};
    size_t n = 0;
    wh_frame frame = {.mem = mem, .mem_bytes = MEM_BYTES, .user = wasi};

    for (const char *sig = import->sig + 1; *sig != ')'; sig++, n++) {
        if (*sig == 'i')
            io[n].i32 = (int32_t)argument(in, 4);
        else
            io[n].i64 = (int64_t)argument(in, 8);
    }
    asked = 0;
    switch (import->fn(&frame, io, import->env)) {
    case WH_HOST_OK:
        if (io[0].i32 < 0 || io[0].i32 > WASI_ERRNO_MAX)
            abort();
        break;
    case WH_HOST_TRAP: /* a real guest would be gone; here more can be tried */
        if (frame.msg == NULL || frame.msg[0] == '\0')
            abort();
        break;
    case WH_HOST_EXIT:
    default:
        break;
    }
}

static void check_outside(int lowest)
{
    char *secret = NULL;
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    if (fd != lowest)
        abort();
    close(fd);
    if (wh_read_file(top, "secret", 64, &secret, NULL, NULL) < 0 || strcmp(secret, "secret") != 0)
        abort();
    free(secret);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    input in = {data, data + n};
    size_t n_imports;
    const wh_import *imports = wh_wasi_imports(&n_imports);

    if (top < 0)
        set_up();
    int lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(lowest);
    uint64_t flags = take(&in, 1);
    wh_wasi_force_path_fallback((flags & 1) != 0);
    wh_wasi *wasi = make_guest((flags & 2) != 0);
    uint8_t *mem = malloc(MEM_BYTES);
    if (mem == NULL)
        abort();
    fill(mem);
    for (int i = 0; i < CALLS_MAX && in.p < in.end; i++) {
        uint64_t op = take(&in, 1);
        if (op == POKE) {
            uint64_t at = take(&in, 2) % MEM_BYTES;
            mem[at] = (uint8_t)take(&in, 1);
        } else {
            call(wasi, mem, &imports[op % n_imports], &in);
        }
    }
    free(mem);
    wh_wasi_free(wasi);
    wh_wasi_force_path_fallback(false);
    check_outside(lowest);
    if (wh_rm_rf(top, "jail", NULL) < 0)
        abort();
    return 0;
}
