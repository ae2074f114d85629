/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a container's log: CRI lines of `N.log` and of its rotated forerunners `N.log.<time>`, oldest first,
 * across rotations that happen meanwhile. Used by the kubelet API and the local API alike. */
#pragma once

#include "base/buf.h"
#include "base/clock.h"

typedef struct wh_logread_options {
    int64_t tail_lines;  /* -1: all */
    int64_t limit_bytes; /* -1: none */
    wh_time since;       /* real time; 0: from the beginning */
    bool timestamps;     /* put the line's time in front */
    const char *stream;  /* "stdout" or "stderr" only; NULL: both */
} wh_logread_options;

typedef struct wh_logread wh_logread;

/* `dir` holds the container's logs, `attempt` is N. -ENOENT when there is none. */
int wh_logread_open(const char *dir, unsigned attempt, const wh_logread_options *options, wh_logread **ret,
                    wh_err *err);
void wh_logread_free(wh_logread *reader);
/* Appends up to about 64 KiB of output. 1: there is more at once; 0: at the end for now; -ENODATA: limit
 * reached. */
int wh_logread_next(wh_logread *reader, wh_buf *out, wh_err *err);

/* Makes room: renames N.log to N.log.<time> when it is larger than `max`, keeps at most `files` in all. 1
 * when it was rotated (the runner must be given a new file), else 0. */
int wh_logrotate(const char *dir, unsigned attempt, uint64_t max, unsigned files, wh_time now, wh_err *err);
