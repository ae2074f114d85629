/* SPDX-License-Identifier: Apache-2.0 */
/* CRI log format: "<RFC3339Nano> stdout|stderr F|P <text>"; a line of several P parts ends with its F part.
 */
#include "node/logread.h"
#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

#define CHUNK_BYTES (64 * 1024)
#define LINE_BYTES_MAX (64 * 1024) /* a CRI line holds at most 16 KiB of text */
#define ROTATED_FILES_MAX 64

struct wh_logread {
    char *dir;
    char *current; /* path of N.log */
    wh_strv older; /* rotated files still to read, oldest first */
    size_t next_older;
    wh_logread_options options;
    char *stream;
    int fd;
    bool fd_is_current;
    ino_t inode;
    wh_buf pending; /* bytes read and not yet cut into lines */
    int64_t skip_lines;
    int64_t left_bytes;
    bool in_line; /* the last part written was a P */
    bool drained; /* read to its end once more after its successor had content */
};

typedef struct log_line {
    wh_str time, stream, text;
    bool partial;
} log_line;

static bool parse_line(wh_str raw, log_line *ret)
{
    wh_str tag;
    log_line line;

    if (!wh_str_split(&raw, ' ', &line.time) || !wh_str_split(&raw, ' ', &line.stream) ||
        !wh_str_split(&raw, ' ', &tag))
        return false;
    line.partial = tag.n > 0 && tag.p[0] == 'P';
    line.text = raw;
    *ret = line;
    return true;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The rotated files of one attempt; their names sort by time. */
static int list_rotated(const char *dir, unsigned attempt, wh_strv *ret, wh_err *err)
{
    auto_free char *prefix = wh_xasprintf("%u.log.", attempt);
    auto_strv wh_strv names = NULL;
    DIR *d = opendir(dir);

    if (d == NULL)
        return wh_fail(err, -errno, "open log folder '%s'", dir);
    for (struct dirent *entry; (entry = readdir(d)) != NULL && wh_strv_len(names) < ROTATED_FILES_MAX;)
        if (wh_starts_with(entry->d_name, prefix))
            wh_strv_push_take(&names, wh_path_join(dir, entry->d_name));
    closedir(d);
    if (names != NULL)
        qsort(names, wh_strv_len(names), sizeof(*names), compare_names);
    *ret = WH_TAKE(names);
    return 0;
}

static int open_log(wh_logread *r, const char *path, bool current)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return -EINVAL;
    }
    if (r->fd >= 0)
        close(r->fd);
    r->fd = fd;
    r->fd_is_current = current;
    r->inode = st.st_ino;
    return 0;
}

/* Goes to the next file: 1, or 0 when there is none for now. */
static int advance(wh_logread *r)
{
    struct stat st;

    while (r->older != NULL && r->older[r->next_older] != NULL) {
        if (open_log(r, r->older[r->next_older++], false) == 0)
            return 1;
    }
    if (stat(r->current, &st) < 0)
        return 0;
    if (r->fd >= 0 && ((r->fd_is_current && st.st_ino == r->inode) || st.st_size == 0))
        return 0; /* still the file we read, or the runner has not gone over to the new one */
    if (r->fd >= 0 && !r->drained) {
        r->drained = true; /* the old file is complete now: read what came since */
        return 1;
    }
    r->drained = false;
    return open_log(r, r->current, true) == 0;
}

static bool wanted(const wh_logread *r, const log_line *line)
{
    char text[WH_RFC3339_LEN + 8];
    wh_time at;

    if (r->stream != NULL && !wh_str_eq(line->stream, wh_str_of(r->stream)))
        return false;
    if (r->options.since == 0)
        return true;
    if (line->time.n >= sizeof(text))
        return true;
    memcpy(text, line->time.p, line->time.n);
    text[line->time.n] = '\0';
    return wh_rfc3339_parse(text, &at) < 0 || at >= r->options.since;
}

/* Writes one CRI line the way the caller asked for it; -ENODATA when the byte limit is reached. */
static int put_line(wh_logread *r, const log_line *line, wh_buf *out)
{
    size_t before = out->len;

    if (r->options.timestamps && !r->in_line) {
        wh_buf_append(out, line->time.p, line->time.n);
        wh_buf_putc(out, ' ');
    }
    wh_buf_append(out, line->text.p, line->text.n);
    if (!line->partial)
        wh_buf_putc(out, '\n');
    r->in_line = line->partial;
    if (r->options.limit_bytes < 0)
        return 0;
    size_t written = out->len - before;
    if ((int64_t)written >= r->left_bytes) {
        out->len = before + (size_t)r->left_bytes;
        out->p[out->len] = '\0';
        r->left_bytes = 0;
        return -ENODATA;
    }
    r->left_bytes -= (int64_t)written;
    return 0;
}

static int take_lines(wh_logread *r, wh_buf *out)
{
    size_t used = 0;
    int rc = 0;

    while (rc == 0 && used < r->pending.len) {
        const char *start = r->pending.p + used;
        const char *end = memchr(start, '\n', r->pending.len - used);
        log_line line;
        if (end == NULL)
            break;
        used += (size_t)(end - start) + 1;
        if (!parse_line((wh_str){start, (size_t)(end - start)}, &line) || !wanted(r, &line))
            continue;
        if (r->skip_lines > 0) {
            if (!line.partial)
                r->skip_lines--;
            continue;
        }
        rc = put_line(r, &line, out);
    }
    wh_buf_consume(&r->pending, used);
    if (rc == 0 && r->pending.len > LINE_BYTES_MAX)
        wh_buf_reset(&r->pending); /* not a line of ours: drop it rather than grow */
    return rc;
}

static int count_lines(wh_logread *r, int64_t *ret, wh_err *err)
{
    wh_buf scratch;
    int64_t lines = 0;
    int rc;

    wh_buf_init(&scratch, 4 * CHUNK_BYTES);
    do {
        wh_buf_reset(&scratch);
        bool timestamps = r->options.timestamps;
        r->options.timestamps = false;
        rc = wh_logread_next(r, &scratch, err);
        r->options.timestamps = timestamps;
        for (size_t i = 0; i < scratch.len; i++)
            lines += scratch.p[i] == '\n';
    } while (rc == 1);
    wh_buf_done(&scratch);
    *ret = lines;
    return rc;
}

static int reader_new(const char *dir, unsigned attempt, const wh_logread_options *options, wh_logread **ret,
                      wh_err *err)
{
    wh_logread *r = wh_xnew(wh_logread);
    int rc;

    r->fd = -1;
    r->dir = wh_xstrdup(dir);
    r->current = wh_xasprintf("%s/%u.log", dir, attempt);
    r->options = *options;
    r->stream = options->stream != NULL ? wh_xstrdup(options->stream) : NULL;
    r->left_bytes = options->limit_bytes;
    wh_buf_init(&r->pending, 2 * LINE_BYTES_MAX + CHUNK_BYTES);
    rc = list_rotated(dir, attempt, &r->older, err);
    if (rc == 0 && advance(r) == 0)
        rc = wh_fail(err, -ENOENT, "no log at '%s'", r->current);
    if (rc < 0) {
        wh_logread_free(r);
        return rc;
    }
    *ret = r;
    return 0;
}

int wh_logread_open(const char *dir, unsigned attempt, const wh_logread_options *options, wh_logread **ret,
                    wh_err *err)
{
    wh_logread_options all = *options;
    wh_logread *r = NULL;
    int64_t lines = 0;

    if (options->tail_lines >= 0) { /* a first pass counts what a second one skips */
        all.limit_bytes = -1;
        int rc = reader_new(dir, attempt, &all, &r, err);
        if (rc < 0)
            return rc;
        rc = count_lines(r, &lines, err);
        wh_logread_free(r);
        if (rc < 0)
            return rc;
    }
    int rc = reader_new(dir, attempt, options, &r, err);
    if (rc < 0)
        return rc;
    if (options->tail_lines >= 0)
        r->skip_lines = WH_MAX((int64_t)0, lines - options->tail_lines);
    *ret = r;
    return 0;
}

void wh_logread_free(wh_logread *r)
{
    if (r == NULL)
        return;
    if (r->fd >= 0)
        close(r->fd);
    wh_buf_done(&r->pending);
    wh_strv_free(r->older);
    free(r->stream);
    free(r->current);
    free(r->dir);
    free(r);
}

int wh_logread_next(wh_logread *r, wh_buf *out, wh_err *err)
{
    size_t begin = out->len;

    if (r->options.limit_bytes == 0 || (r->options.limit_bytes > 0 && r->left_bytes == 0))
        return -ENODATA;
    while (out->len - begin < CHUNK_BYTES) {
        int rc = wh_buf_reserve(&r->pending, CHUNK_BYTES / 4);
        if (rc < 0)
            return wh_fail(err, rc, "read log '%s'", r->current);
        ssize_t n = read(r->fd, r->pending.p + r->pending.len, CHUNK_BYTES / 4);
        if (n < 0)
            return wh_fail(err, -errno, "read log '%s'", r->current);
        if (n == 0) {
            if (advance(r) == 0)
                return 0;
            continue;
        }
        r->pending.len += (size_t)n;
        r->pending.p[r->pending.len] = '\0';
        rc = take_lines(r, out);
        if (rc < 0)
            return rc;
        if (out->failed)
            return wh_fail(err, -ENOBUFS, "read log '%s'", r->current);
    }
    return 1;
}

int wh_logrotate(const char *dir, unsigned attempt, uint64_t max, unsigned files, wh_time now, wh_err *err)
{
    auto_free char *path = wh_xasprintf("%s/%u.log", dir, attempt);
    auto_free char *target = wh_xasprintf("%s.%020lld", path, (long long)now);
    auto_strv wh_strv older = NULL;
    struct stat st;
    int rc;

    if (stat(path, &st) < 0)
        return errno == ENOENT ? 0 : wh_fail(err, -errno, "stat '%s'", path);
    if ((uint64_t)st.st_size <= max)
        return 0;
    if (rename(path, target) < 0)
        return wh_fail(err, -errno, "rotate '%s'", path);
    rc = list_rotated(dir, attempt, &older, err);
    if (rc < 0)
        return rc;
    size_t keep = files > 1 ? files - 1 : 1;
    for (size_t i = 0; i + keep < wh_strv_len(older); i++)
        if (unlink(older[i]) < 0 && errno != ENOENT)
            return wh_fail(err, -errno, "remove old log '%s'", older[i]);
    return 1;
}
