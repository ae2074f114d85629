/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/runlog.h"

#include <string.h>
#include <sys/uio.h>

#define LINES_PER_BATCH 64
#define PREFIX_MAX 64

struct wh_runlog {
    int fd;
    bool torn; /* the file ends inside a line, after a failed write */
    size_t waiting[2];
    char line[2][WH_RUNLOG_LINE_MAX]; /* untouched pages cost nothing */
    char full[PREFIX_MAX], partial[PREFIX_MAX];
    size_t prefix_len;
    struct iovec iov[LINES_PER_BATCH * 3 + 1];
    size_t n_iov;
    int error;
};

wh_runlog *wh_runlog_new(int fd)
{
    static wh_runlog the_log;
    the_log.fd = fd;
    return &the_log;
}

static void add(wh_runlog *log, const char *p, size_t n)
{
    if (n > 0)
        log->iov[log->n_iov++] = (struct iovec){(void *)(uintptr_t)p, n};
}

/* Writes what is gathered: one writev as a rule. */
static void send_batch(wh_runlog *log)
{
    struct iovec *at = log->iov;
    size_t left = log->n_iov;
    bool began = false;
    while (left > 0) {
        ssize_t n = writev(log->fd, at, (int)left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            log->error = n < 0 ? -errno : -EIO;
            log->torn |= began;
            break;
        }
        began = true;
        for (size_t done = (size_t)n; left > 0 && done >= at->iov_len; at++, left--)
            done -= at->iov_len, n -= (ssize_t)at->iov_len;
        if (left > 0) {
            at->iov_base = (char *)at->iov_base + n;
            at->iov_len -= (size_t)n;
        } else {
            log->torn = false;
        }
    }
    log->n_iov = 0;
}

/* One line of the file: what waited, then `n` bytes, then a line end. */
static void add_line(wh_runlog *log, size_t stream, const char *text, size_t n, bool full)
{
    if (log->n_iov + 5 > WH_ARRAY_LEN(log->iov))
        send_batch(log);
    if (log->n_iov == 0 && log->torn)
        add(log, "\n", 1);
    add(log, full ? log->full : log->partial, log->prefix_len);
    size_t waited = log->waiting[stream];
    add(log, log->line[stream], waited);
    add(log, text, n);
    /* The line end of a full line is there as a rule, behind its text. */
    if (!full || n == 0)
        add(log, "\n", 1);
    else
        log->iov[log->n_iov - 1].iov_len++;
    log->waiting[stream] = 0;
    if (waited > 0)
        send_batch(log); /* line[stream] is about to be used again */
}

static void make_prefixes(wh_runlog *log, size_t stream)
{
    wh_rfc3339(wh_real_now(), 9, log->full);
    size_t n = strlen(log->full);
    memcpy(log->full + n, stream == 0 ? " stdout F " : " stderr F ", 11);
    log->prefix_len = n + 10;
    memcpy(log->partial, log->full, log->prefix_len);
    log->partial[log->prefix_len - 2] = 'P';
}

int wh_runlog_write(void *user, int stream, const void *data, size_t n)
{
    wh_runlog *log = user;
    size_t s = stream == 1 ? 0 : 1;
    const char *p = data, *end = p + n;
    log->error = 0;
    make_prefixes(log, s);
    while (p < end) {
        size_t room = WH_RUNLOG_LINE_MAX - log->waiting[s];
        size_t look = WH_MIN((size_t)(end - p), room);
        const char *newline = memchr(p, '\n', look);
        if (newline != NULL) {
            add_line(log, s, p, (size_t)(newline - p), true);
            p = newline + 1;
        } else if (look == room && (size_t)(end - p) > room && p[room] == '\n') {
            add_line(log, s, p, room, true); /* exactly as long as allowed */
            p += room + 1;
        } else if (look == room && (size_t)(end - p) > room) {
            add_line(log, s, p, room, false);
            p += room;
        } else {
            memcpy(log->line[s] + log->waiting[s], p, look);
            log->waiting[s] += look;
            p += look;
        }
    }
    send_batch(log);
    return log->error < 0 ? log->error : (int)WH_MIN(n, (size_t)INT32_MAX);
}

void wh_runlog_flush(wh_runlog *log)
{
    for (size_t s = 0; s < 2; s++) {
        if (log->waiting[s] == 0)
            continue;
        make_prefixes(log, s);
        add_line(log, s, NULL, 0, false);
        send_batch(log);
    }
}

void wh_runlog_swap(wh_runlog *log, int fd)
{
    close(log->fd);
    log->fd = fd;
    log->torn = false;
}
