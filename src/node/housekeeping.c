/* SPDX-License-Identifier: Apache-2.0 */
/* What a node does now and then: rotates logs, collects images, checks the size of emptyDirs. */
#include "base/log.h"
#include "base/record.h"
#include "node/internal.h"
#include "node/logread.h"
#include "runner/control.h"

#define LOG_CHECK_EVERY (10 * WH_SEC)
#define USAGE_CHECK_EVERY 3 /* log checks: half a minute */
#define IMAGE_GC_EVERY 30   /* log checks: five minutes */

static const wh_gc_policy gc_policy = {.high_percent = 85, .low_percent = 80, .min_age = 2 * WH_MINUTE};

typedef struct sent_log {
    int fd;
} sent_log;

static void log_sent(void *user, int rc, pid_t pid, const char *error)
{
    sent_log *sent = user;

    (void)pid;
    if (rc < 0)
        wh_log(WARN, "a runner was not given its new log file; it goes on in the old one",
               KV_STR("error", error));
    close(sent->fd);
    free(sent);
}

/* The runner changes over at the end of a line, so that none is lost or cut. */
static void hand_over(wh_worker *w, size_t container, unsigned attempt)
{
    char id[WH_CONTAINER_ID_LEN];
    auto_buf wh_buf message;
    wh_err err = {0};
    int fd = wh_container_log_open(w, container, attempt, &err);

    wh_buf_init(&message, WH_CONTROL_BYTES_MAX);
    wh_record_put_str(&message, "op", "log");
    if (fd < 0 || w->node->keeper == NULL) {
        wh_log(WARN, "a new log file cannot be opened", KV_ERR(&err));
        if (fd >= 0)
            close(fd);
        return;
    }
    sent_log *sent = wh_xnew(sent_log);
    sent->fd = fd;
    wh_container_id(w->spec, container, attempt, id);
    int rc = wh_keeper_send(w->node->keeper, id, message.p, message.len, &fd, 1, log_sent, sent, &err);
    if (rc < 0)
        log_sent(sent, rc, 0, err.msg);
}

static void rotate_logs(wh_worker *w)
{
    const wh_node_config *config = &w->node->config;
    wh_err err = {0};

    for (size_t i = 0; i < w->spec->n_containers; i++) {
        const wh_container_life *life = wh_lifecycle_container(w->lc, i);
        auto_free char *dir = wh_worker_log_dir(w, i);
        if (life->state != WH_CONTAINER_RUNNING || w->containers[i].dormant)
            continue;
        int rc = wh_logrotate(dir, life->attempt, config->log_bytes_max, config->log_files_max, wh_real_now(),
                              &err);
        if (rc > 0)
            hand_over(w, i, life->attempt);
        else if (rc < 0)
            wh_log(WARN, "a log was not rotated", KV_ERR(&err));
    }
}

static void run_gc(void *user)
{
    wh_node *node = user;
    uint64_t freed = 0;
    wh_err err = {0};

    if (wh_store_gc(node->store, &gc_policy, &freed, &err) < 0)
        wh_log(WARN, "image collection failed", KV_ERR(&err));
    else if (freed > 0)
        wh_log(INFO, "images collected", KV_INT("bytes", freed));
}

static void gc_done(void *user, bool cancelled)
{
    (void)user;
    (void)cancelled;
}

static void housekeeping(wh_timer *timer)
{
    wh_node *node = timer->user;
    wh_worker *w, *next;

    HASH_ITER(hh, node->by_uid, w, next)
    {
        rotate_logs(w);
        if (node->n_rounds % USAGE_CHECK_EVERY == 0)
            wh_worker_check_usage(w);
    }
    if (node->n_rounds++ % IMAGE_GC_EVERY == IMAGE_GC_EVERY - 1)
        wh_pool_submit(node->pull_pool, run_gc, gc_done, node);
    wh_timer_start(node->loop, &node->housekeeping, LOG_CHECK_EVERY, housekeeping, node);
}

void wh_node_housekeeping_start(wh_node *node)
{
    wh_timer_start(node->loop, &node->housekeeping, LOG_CHECK_EVERY, housekeeping, node);
}

uint64_t wh_node_image_bytes(wh_node *node)
{
    wh_image_row *rows = NULL;
    size_t n = 0;
    uint64_t sum = 0;

    if (wh_store_list(node->store, &rows, &n, NULL) < 0)
        return 0;
    for (size_t i = 0; i < n; i++)
        sum += rows[i].bytes;
    wh_image_rows_free(rows, n);
    return sum;
}
