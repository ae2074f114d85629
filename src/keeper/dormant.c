/* SPDX-License-Identifier: Apache-2.0 */
/* Containers without a process: their sockets are watched, the first connection starts a process again. It is disarmed
 * before that, so however many connections come, one process starts; it takes them all from the socket's queue. */
#include "base/log.h"
#include "keeper/server.h"

#define RETRY_MIN (100 * WH_MSEC)
#define RETRY_MAX (10 * WH_SEC)
#define TOO_SOON WH_SEC /* from a wake to the next rest: nobody's idle time is that short */

static void arm(wh_kept *kept);

static void disarm(wh_kept *kept)
{
    wh_timer_stop(&kept->reap_timer);
    for (size_t i = 0; kept->listen_io != NULL && i < kept->n_sockets; i++)
        wh_io_stop(&kept->listen_io[i]);
    free(WH_TAKE(kept->listen_io));
}

static void on_retry(wh_timer *timer)
{
    arm(timer->user);
}

static void arm_later(wh_kept *kept)
{
    kept->retry_delay =
        kept->retry_delay == 0 ? RETRY_MIN : WH_MIN(kept->retry_delay * 2, (wh_time)RETRY_MAX);
    wh_timer_start(kept->server->loop, &kept->reap_timer, kept->retry_delay, on_retry, kept);
}

static void wake(void *user)
{
    wh_kept *kept = user;
    wh_keeper_server *server = kept->server;
    wh_err err = {0};
    kept->wakes++;
    kept->running = 0;
    kept->woken = wh_mono_now();
    kept->exit_code = -1;
    kept->idle_said = kept->ending = false;
    kept->dormant = false;
    int rc = wh_keeper_start_again(kept, &err);
    if (rc == 0 || kept->pidfd >= 0) { /* one that could not be recorded was killed: its end is told */
        wh_keeper_tell(server, kept, "woken", NULL);
        if ((rc = wh_keeper_server_watch(kept)) < 0)
            wh_log(ERROR, "a woken container cannot be watched", KV_STR("id", kept->id), KV_INT("rc", rc));
        return;
    }
    kept->wakes--;
    kept->pid = 0;
    kept->dormant = true;
    wh_log(WARN, "a container could not be woken; its connections wait", KV_STR("id", kept->id),
           KV_ERR(&err));
    arm_later(kept);
    wh_keeper_tell(server, kept, "dormant", err.msg);
}

static void on_connection(wh_io *io, WH_UNUSED uint32_t ready)
{
    wh_kept *kept = io->user;
    disarm(kept);
    wake(kept);
}

static void arm(wh_kept *kept)
{
    int rc = 0;
    kept->listen_io = wh_xcalloc(kept->n_sockets, sizeof(*kept->listen_io));
    for (size_t i = 0; rc == 0 && i < kept->n_sockets; i++)
        rc = wh_io_start(kept->server->loop, &kept->listen_io[i], kept->sockets[i]->fd, EPOLLIN,
                         on_connection, kept);
    if (rc == 0)
        return;
    wh_log(ERROR, "a socket cannot be watched", KV_STR("id", kept->id), KV_INT("rc", rc));
    disarm(kept);
    arm_later(kept);
}

void wh_keeper_arm_again(wh_kept *kept)
{
    arm(kept);
}

int wh_keeper_go_dormant(wh_kept *kept)
{
    wh_err err = {0};
    kept->dormant = true;
    kept->pid = 0;
    wh_rest_groups_remove(kept->rest); /* a group of memory costs more than all the rest of it */
    if (kept->woken != 0 && wh_mono_now() - kept->woken < TOO_SOON)
        arm_later(kept);
    else {
        kept->retry_delay = 0;
        arm(kept);
    }
    int rc = wh_kept_save(kept->server->dir_fd, kept, &err);
    if (rc < 0)
        wh_log(ERROR, "a dormant container is not recorded on disk", KV_STR("id", kept->id), KV_ERR(&err));
    wh_keeper_tell(kept->server, kept, "dormant", NULL);
    return 0;
}

void wh_keeper_end_dormant(wh_kept *kept)
{
    disarm(kept);
    wh_rest_free(WH_TAKE(kept->rest));
    kept->dormant = false;
    kept->exited = true;
    kept->exit_code = 0; /* as it said when it went to rest */
    kept->signal = 0;
    kept->finished = wh_real_now();
    int rc = wh_kept_save_end(kept->server->dir_fd, kept);
    if (rc < 0)
        wh_log(ERROR, "exit not recorded on disk", KV_STR("id", kept->id), KV_INT("rc", rc));
    wh_keeper_tell(kept->server, kept, "exit", NULL);
}
