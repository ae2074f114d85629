/* SPDX-License-Identifier: Apache-2.0 */
#include "node/log_stream.h"
#include "node/logread.h"

#define FOLLOW_EVERY (50 * WH_MSEC)
#define STREAM_BUFFER_MAX (512UL * 1024)

typedef struct log_stream {
    wh_loop *loop;
    wh_node *node;
    wh_http_exchange *x;
    wh_logread *reader;
    wh_timer timer;
    char *uid;
    size_t container;
    unsigned attempt;
    bool follow, blocked, last_round;
} log_stream;

static void stream_free(void *user)
{
    log_stream *s = user;

    wh_timer_stop(&s->timer);
    wh_logread_free(s->reader);
    free(s->uid);
    free(s);
}

static void finish(log_stream *s)
{
    wh_http_end(s->x);
    wh_timer_stop(&s->timer);
    wh_loop_defer(s->loop, stream_free, s);
}

/* No more lines will come: the container's run is over, or the pod is gone. */
static bool run_is_over(const log_stream *s)
{
    const wh_worker *w = wh_node_find(s->node, s->uid);

    if (w == NULL)
        return true;
    const wh_container_life *life = wh_lifecycle_container(wh_worker_lifecycle(w), s->container);
    return life->attempt != s->attempt ||
           (life->state != WH_CONTAINER_RUNNING && life->state != WH_CONTAINER_STARTING);
}

static void pump(log_stream *s);

static void pump_due(wh_timer *timer)
{
    pump(timer->user);
}

static void pump(log_stream *s)
{
    wh_err err = {0};
    int rc = 1;

    while (rc == 1 && !s->blocked) {
        auto_buf wh_buf out;
        wh_buf_init(&out, STREAM_BUFFER_MAX);
        bool over = run_is_over(s); /* asked before reading: what was written until then is read */
        rc = wh_logread_next(s->reader, &out, &err);
        int written = out.len > 0 ? wh_http_write(s->x, out.p, out.len) : 0;
        if (written == -EPIPE || written == -ENOBUFS) {
            finish(s);
            return;
        }
        s->blocked = written == -EAGAIN;
        if (rc < 0 || (rc == 0 && (!s->follow || over))) {
            finish(s);
            return;
        }
    }
    if (!s->blocked)
        wh_timer_start(s->loop, &s->timer, FOLLOW_EVERY, pump_due, s);
}

static void writable(wh_http_exchange *x, void *user)
{
    log_stream *s = user;

    (void)x;
    s->blocked = false;
    pump(s);
}

static void client_gone(wh_http_exchange *x, void *user)
{
    (void)x;
    finish(user);
}

/* ---- parameters ---- */

static bool flag(const wh_http_request *r, const char *name)
{
    const char *v = wh_http_param_get(r, name);

    return v != NULL && (wh_streq(v, "true") || wh_streq(v, "1"));
}

static int number(const wh_http_request *r, const char *name, int64_t *ret, wh_err *err)
{
    const char *v = wh_http_param_get(r, name);

    if (v == NULL || v[0] == '\0')
        return 0;
    return wh_parse_i64(v, 0, INT64_MAX, ret) < 0
               ? wh_fail(err, -EINVAL, "parameter %s is '%s'; it takes a number from 0 on.", name, v)
               : 0;
}

static int read_options(const wh_http_request *r, wh_logread_options *ret, wh_err *err)
{
    wh_logread_options o = {.tail_lines = -1, .limit_bytes = -1, .timestamps = flag(r, "timestamps")};
    const char *since = wh_http_param_get(r, "sinceTime");
    const char *stream = wh_http_param_get(r, "stream");
    int64_t seconds = -1;
    int rc = number(r, "tailLines", &o.tail_lines, err);

    rc = rc < 0 ? rc : number(r, "limitBytes", &o.limit_bytes, err);
    rc = rc < 0 ? rc : number(r, "sinceSeconds", &seconds, err);
    if (rc == 0 && seconds > 0 && seconds < INT64_MAX / WH_SEC)
        o.since = wh_real_now() - seconds * WH_SEC;
    if (rc == 0 && since != NULL && wh_rfc3339_parse(since, &o.since) < 0)
        rc = wh_fail(err, -EINVAL, "parameter sinceTime is '%s'; it takes a time like 2026-01-02T03:04:05Z.",
                     since);
    if (rc == 0 && stream != NULL && !wh_streq(stream, "All"))
        o.stream = wh_streq(stream, "Stderr") || wh_streq(stream, "stderr") ? "stderr" : "stdout";
    if (rc == 0)
        *ret = o;
    return rc;
}

/* Which run's log is meant; -ENOENT when there was no such run. */
static int pick_attempt(const wh_container_life *life, bool previous, unsigned *ret)
{
    bool now = life->state == WH_CONTAINER_RUNNING || life->state == WH_CONTAINER_STARTING;

    if (!now && !life->end.set)
        return -ENOENT;
    unsigned latest = now ? life->attempt : life->end.attempt;
    if (previous && life->state != WH_CONTAINER_WAITING) {
        if (latest == 0)
            return -ENOENT;
        latest--;
    }
    *ret = latest;
    return 0;
}

static void begin_stream(log_stream *s)
{
    static const wh_http_stream_callbacks callbacks = {.on_writable = writable, .on_gone = client_gone};

    wh_http_watch(s->x, &callbacks, s);
    wh_http_begin(s->x, 200, "text/plain");
    pump(s);
}

void wh_log_stream(wh_loop *loop, wh_node *node, wh_http_exchange *x, const char *ns, const char *pod,
                   const char *container)
{
    const wh_http_request *r = wh_http_request_of(x);
    wh_worker *w = wh_node_find_name(node, ns, pod);
    int index = w != NULL ? wh_pod_spec_find(wh_worker_spec(w), container) : -ENOENT;
    wh_logread_options options;
    unsigned attempt = 0;
    wh_err err = {0};

    if (index < 0) {
        wh_http_replyf(x, 404, "%s \"%s\" does not exist on this node\n", w == NULL ? "pod" : "container",
                       w == NULL ? pod : container);
        return;
    }
    if (read_options(r, &options, &err) < 0) {
        wh_http_replyf(x, 400, "%s\n", err.msg);
        return;
    }
    const wh_container_life *life = wh_lifecycle_container(wh_worker_lifecycle(w), (size_t)index);
    if (pick_attempt(life, flag(r, "previous"), &attempt) < 0) {
        wh_http_replyf(x, 400, "%scontainer \"%s\" in pod \"%s\" %s\n",
                       flag(r, "previous") ? "previous terminated " : "", container, pod,
                       flag(r, "previous") ? "not found" : "is waiting to start");
        return;
    }
    log_stream *s = wh_xnew(log_stream);
    *s = (log_stream){.loop = loop,
                      .node = node,
                      .x = x,
                      .uid = wh_xstrdup(wh_worker_spec(w)->uid),
                      .container = (size_t)index,
                      .attempt = attempt,
                      .follow = flag(r, "follow")};
    auto_free char *dir = wh_worker_log_dir(w, (size_t)index);
    int rc = wh_logread_open(dir, attempt, &options, &s->reader, &err);
    if (rc < 0) {
        wh_http_replyf(x, rc == -ENOENT ? 404 : 500, "%s\n", err.msg);
        stream_free(s);
        return;
    }
    begin_stream(s);
}
