/* SPDX-License-Identifier: Apache-2.0 */
/* One line per host call, as strace would write it: path_open(3, "a/b", O_CREAT, ...) = 5 <12 us>. */
#include "abi/wasi/private.h"

#include <stdarg.h>
#include <stdio.h>

#define SHOWN_BYTES 32
#define SHOWN_PATH_BYTES 512

typedef struct line {
    char text[2048];
    size_t n;
} line;

static WH_PRINTF(2, 3) void add(line *l, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    int n = vsnprintf(l->text + l->n, sizeof(l->text) - l->n, fmt, args);
    va_end(args);
    if (n > 0)
        l->n = WH_MIN(l->n + (size_t)n, sizeof(l->text) - 1);
}

/* Quoted, with everything that is not plain ASCII escaped, and "..." where it was cut. */
static void add_quoted(line *l, const uint8_t *p, size_t n, size_t max)
{
    add(l, "\"");
    for (size_t i = 0; i < n && i < max; i++) {
        if (p[i] == '\n')
            add(l, "\\n");
        else if (p[i] == '"' || p[i] == '\\')
            add(l, "\\%c", p[i]);
        else if (p[i] < 0x20 || p[i] >= 0x7f)
            add(l, "\\x%02x", p[i]);
        else
            add(l, "%c", p[i]);
    }
    add(l, n > max ? "\"..." : "\"");
}

static const char *const fdflag_words[] = {"APPEND", "DSYNC", "NONBLOCK", "RSYNC", "SYNC", NULL};
static const char *const oflag_words[] = {"CREAT", "DIRECTORY", "EXCL", "TRUNC", NULL};
static const char *const lookup_words[] = {"SYMLINK_FOLLOW", NULL};
static const char *const fst_words[] = {"ATIM", "ATIM_NOW", "MTIM", "MTIM_NOW", NULL};
static const char *const ri_words[] = {"PEEK", "WAITALL", NULL};
static const char *const sd_words[] = {"RD", "WR", NULL};
static const char *const right_words[] = {"FD_DATASYNC",
                                          "FD_READ",
                                          "FD_SEEK",
                                          "FD_FDSTAT_SET_FLAGS",
                                          "FD_SYNC",
                                          "FD_TELL",
                                          "FD_WRITE",
                                          "FD_ADVISE",
                                          "FD_ALLOCATE",
                                          "PATH_CREATE_DIRECTORY",
                                          "PATH_CREATE_FILE",
                                          "PATH_LINK_SOURCE",
                                          "PATH_LINK_TARGET",
                                          "PATH_OPEN",
                                          "FD_READDIR",
                                          "PATH_READLINK",
                                          "PATH_RENAME_SOURCE",
                                          "PATH_RENAME_TARGET",
                                          "PATH_FILESTAT_GET",
                                          "PATH_FILESTAT_SET_SIZE",
                                          "PATH_FILESTAT_SET_TIMES",
                                          "FD_FILESTAT_GET",
                                          "FD_FILESTAT_SET_SIZE",
                                          "FD_FILESTAT_SET_TIMES",
                                          "PATH_SYMLINK",
                                          "PATH_REMOVE_DIRECTORY",
                                          "PATH_UNLINK_FILE",
                                          "POLL_FD_READWRITE",
                                          "SOCK_SHUTDOWN",
                                          "SOCK_ACCEPT",
                                          NULL};
static const char *const clock_words[] = {"REALTIME", "MONOTONIC", "PROCESS_CPUTIME", "THREAD_CPUTIME", NULL};
static const char *const advice_words[] = {"NORMAL",   "SEQUENTIAL", "RANDOM", "WILLNEED",
                                           "DONTNEED", "NOREUSE",    NULL};
static const char *const whence_words[] = {"SET", "CUR", "END", NULL};
static const char *const whence_p0_words[] = {"CUR", "END", "SET", NULL};
#define RIGHTS_AS_WORDS 4

static void add_flags(line *l, uint64_t value, const char *const *words)
{
    const char *between = "";

    for (unsigned bit = 0; words[bit] != NULL; bit++) {
        if ((value >> bit & 1) != 0) {
            add(l, "%s%s", between, words[bit]);
            between = "|";
            value &= ~(UINT64_C(1) << bit);
        }
    }
    if (value != 0 || *between == '\0')
        add(l, "%s%#llx", between, (unsigned long long)value);
}

static void add_enum(line *l, int32_t value, const char *const *words)
{
    int32_t n = 0;
    while (words[n] != NULL && n != value)
        n++;
    if (words[n] != NULL)
        add(l, "%s", words[n]);
    else
        add(l, "%d", value);
}

static const uint8_t *guest_bytes(const wh_frame *f, uint64_t at, uint64_t n)
{
    return f->mem != NULL && at + n <= f->mem_bytes ? f->mem + at : NULL;
}

/* What the first buffer that is not empty holds: all of them would be a dump. */
static void add_buffers(line *l, const wh_frame *f, const wh_slot *vector, size_t bytes_max)
{
    uint32_t part[2] = {0, 0}, n = (uint32_t)vector[1].i32, i = 0;

    for (; i < n && i < WH_GUEST_IOVECS_MAX && part[1] == 0; i++) {
        const uint8_t *entry = guest_bytes(f, (uint32_t)vector[0].i32 + UINT64_C(8) * i, 8);
        if (entry == NULL) {
            add(l, "[?]");
            return;
        }
        memcpy(part, entry, sizeof(part));
    }
    const uint8_t *data = guest_bytes(f, part[0], part[1]);
    add(l, "[");
    if (data == NULL)
        add(l, "?");
    else if (n > 0)
        add_quoted(l, data, WH_MIN((size_t)part[1], bytes_max), SHOWN_BYTES);
    if (n > i)
        add(l, ", +%u", n - i);
    add(l, "]");
}

static void add_word(line *l, const wasi_ctx *c, char shape, const wh_slot *slot)
{
    switch (shape) {
    case 'C':
        add_enum(l, slot->i32, clock_words);
        break;
    case 'A':
        add_enum(l, slot->i32, advice_words);
        break;
    case 'W':
        add_enum(l, slot->i32, c->call->p0 ? whence_p0_words : whence_words);
        break;
    case 'O':
        add_flags(l, (uint32_t)slot->i32, oflag_words);
        break;
    case 'F':
        add_flags(l, (uint32_t)slot->i32, fdflag_words);
        break;
    case 'L':
        add_flags(l, (uint32_t)slot->i32, lookup_words);
        break;
    case 'T':
        add_flags(l, (uint32_t)slot->i32, fst_words);
        break;
    case 'I':
        add_flags(l, (uint32_t)slot->i32, ri_words);
        break;
    case 'H':
        add_flags(l, (uint32_t)slot->i32, sd_words);
        break;
    case 'R':
        if (__builtin_popcountll((uint64_t)slot->i64) <= RIGHTS_AS_WORDS)
            add_flags(l, (uint64_t)slot->i64, right_words);
        else
            add(l, "%#llx", (unsigned long long)slot->i64);
        break;
    default:
        add(l, "%d", slot->i32);
        break;
    }
}

static void add_argument(line *l, const wasi_ctx *c, const wh_slot *io, size_t i)
{
    const uint8_t *p;

    switch (c->call->shape[i]) {
    case 'p':
        p = guest_bytes(c->frame, (uint32_t)io[i].i32, (uint32_t)io[i + 1].i32);
        if (p == NULL)
            add(l, "?");
        else
            add_quoted(l, p, (uint32_t)io[i + 1].i32, SHOWN_PATH_BYTES);
        break;
    case 'v':
        add(l, "%#x[%u]", (uint32_t)io[i].i32, (uint32_t)io[i + 1].i32);
        break;
    case 'w':
        add_buffers(l, c->frame, &io[i], SIZE_MAX);
        break;
    case 'b':
        add(l, "%#x", (uint32_t)io[i].i32);
        break;
    case 'z':
        add(l, "%u", (uint32_t)io[i].i32);
        break;
    case 'q':
        add(l, "%llu", (unsigned long long)io[i].i64);
        break;
    case 'i':
        add(l, "%lld", (long long)io[i].i64);
        break;
    default:
        add_word(l, c, c->call->shape[i], &io[i]);
        break;
    }
}

/* The value that a call left behind its last pointer. */
static void add_result(line *l, const wasi_ctx *c, const wh_slot *io)
{
    const char *shape = c->call->shape;
    size_t n = strlen(shape);
    uint64_t wide;
    uint32_t narrow[2];
    if (c->call->result == '0') {
        add(l, "0");
        return;
    }
    size_t bytes = c->call->result == 'D' ? 8 : 4;
    const uint8_t *p = guest_bytes(c->frame, (uint32_t)io[n - 1].i32, bytes);
    const uint8_t *before = guest_bytes(c->frame, (uint32_t)io[n - 2].i32, 4);
    if (p == NULL) {
        add(l, "0");
        return;
    }
    if (c->call->result == 'D') {
        memcpy(&wide, p, 8);
        add(l, "%llu", (unsigned long long)wide);
        return;
    }
    memcpy(&narrow[0], p, 4);
    if (c->call->result == '2' && before != NULL) {
        memcpy(&narrow[1], before, 4);
        add(l, "%u strings, %u bytes", narrow[1], narrow[0]);
        return;
    }
    add(l, "%u", narrow[0]);
    if (shape[1] == 'v' && narrow[0] > 0) {
        add(l, " ");
        add_buffers(l, c->frame, &io[1], narrow[0]);
    }
}

wh_host_result wasi_traced(wasi_ctx *c, wh_slot *io)
{
    line l = {.n = 0};
    const char *shape = c->call->shape;

    add(&l, "%s(", c->call->name);
    for (size_t i = 0; shape[i] != '\0'; i++) {
        /* A string's or a vector's length was told with it. */
        if (shape[i] == 'l' || shape[i] == 'n')
            continue;
        if (shape[i + 1] == '\0' && c->call->result != '0' && c->call->result != '2')
            continue;
        add(&l, i > 0 ? ", " : "");
        add_argument(&l, c, io, i);
    }
    add(&l, ") = ");
    wh_time began = wh_mono_now();
    int rc = c->frame->mem == NULL ? wasi_trap_text(c, "missing required memory export") : wasi_run(c, io);
    wh_time took = wh_mono_now() - began;
    if (rc == WASI_TRAP)
        add(&l, "trap: %s", c->frame->msg);
    else if (rc == WASI_EXIT)
        add(&l, "? (ends with %d)", c->frame->exit_code);
    else if (rc != WASI_SUCCESS)
        add(&l, "%s", wasi_errno_name(rc));
    else
        add_result(&l, c, io);
    add(&l, " <%lld us>\n", (long long)(took / WH_USEC));
    l.text[l.n - 1] = '\n'; /* also where it was cut */
    (void)wh_write_all(c->w->config.trace_fd, l.text, l.n);
    if (rc < 0)
        return rc == WASI_EXIT ? WH_HOST_EXIT : WH_HOST_TRAP;
    io[0].i32 = rc;
    return WH_HOST_OK;
}
