/* SPDX-License-Identifier: Apache-2.0 */
/* The acting part of a watch: requests, lines, timers. What to do next is the reflector's to say. */
#include "kube/internal.h"
#include "kube/reflector.h"

#include "base/limits.h"

#define WATCH_DELAY_FIRST (800 * WH_MSEC)
#define WATCH_DELAY_MAX (30 * WH_SEC)
#define WATCH_FORBIDDEN_FIRST (300 * WH_MSEC)
#define WATCH_SECONDS_MIN 300
#define WATCH_SILENCE_MAX (150 * WH_SEC) /* bookmarks come every minute */
#define WATCH_HEAD_MAX (30 * WH_SEC)
#define WATCH_NUDGE_MAX (200 * WH_MSEC)
#define WATCH_ERROR_BYTES_MAX (64UL << 10)

struct wh_watch {
    wh_kube *kube;
    char *path, *field_selector, *label_selector;
    bool forbidden_is_transient, freed;
    int busy; /* depth of callbacks; a free inside waits for their end */
    wh_watch_callbacks callbacks;
    void *user;
    wh_reflector reflector;
    wh_fetch *fetch;
    wh_timer timer;
    wh_backoff backoff, forbidden;
    wh_kube_listener listener;
    wh_rng rng;
    wh_time contact;
    wh_time heard, silence_max; /* of the request under way: last byte, or its start */
    wh_time wait;               /* what the server asked for by Retry-After; -1: nothing */
    int status;                 /* of the request under way */
    int code;                   /* of its first bad line */
    wh_err err;
    wh_buf line, answer; /* a watch's unfinished line; anything else whole */
};

static void start_request(wh_watch *w);

static void free_watch(wh_watch *w)
{
    wh_kube_unlisten(&w->listener);
    wh_timer_stop(&w->timer);
    wh_fetch_cancel(w->fetch);
    wh_reflect_done(&w->reflector);
    wh_buf_done(&w->line);
    wh_buf_done(&w->answer);
    free(w->path);
    free(w->field_selector);
    free(w->label_selector);
    free(w);
}

static void enter(wh_watch *w)
{
    w->busy++;
}

/* False when the watch is gone. */
static bool leave(wh_watch *w)
{
    if (--w->busy > 0 || !w->freed)
        return !w->freed;
    free_watch(w);
    return false;
}

static void on_event(wh_watch_kind kind, json_t *object, void *user)
{
    wh_watch *w = user;
    if (!w->freed)
        w->callbacks.on_event(kind, object, w->user);
}

static void on_synced(void *user)
{
    wh_watch *w = user;
    if (!w->freed && w->callbacks.on_synced != NULL)
        w->callbacks.on_synced(w->user);
}

/* ---- bytes ---- */

static void on_head(wh_fetch *fetch, int status, void *user)
{
    (void)fetch;
    wh_watch *w = user;
    w->status = status;
    w->contact = w->heard = wh_loop_now(wh_kube_loop(w->kube));
    wh_kube_heard(w->kube, status);
}

static void take_line(wh_watch *w, const char *p, size_t n)
{
    wh_str line = wh_str_trim((wh_str){p, n});
    if (line.n == 0)
        return;
    int r = wh_reflect_line(&w->reflector, line.p, line.n, &w->err);
    if (r < 0)
        w->code = r;
    else
        wh_backoff_reset(&w->backoff);
}

/* Splits a stream into lines; a line that came whole is not copied. */
static void take_lines(wh_watch *w, const char *p, size_t n)
{
    while (n > 0 && w->code == 0 && !w->freed) {
        const char *end = memchr(p, '\n', n);
        size_t len = end == NULL ? n : (size_t)(end - p);
        if (w->line.len > 0 || end == NULL) {
            if (wh_buf_append(&w->line, p, len) < 0) {
                w->code = wh_fail(&w->err, -EFBIG, "watch '%s': a line has more than %lu bytes.", w->path,
                                  WH_KUBE_EVENT_BYTES_MAX);
                return;
            }
            if (end != NULL) {
                take_line(w, w->line.p, w->line.len);
                wh_buf_reset(&w->line);
            }
        } else {
            take_line(w, p, len);
        }
        p += len + (end != NULL);
        n -= len + (end != NULL);
    }
}

static void request_over(wh_watch *w, const wh_kube_result *result);

static void on_data(wh_fetch *fetch, const void *p, size_t n, void *user)
{
    (void)fetch;
    wh_watch *w = user;
    w->contact = w->heard = wh_loop_now(wh_kube_loop(w->kube));
    if (w->status != 200 || w->reflector.phase == WH_REFLECT_LIST) {
        (void)wh_buf_append(&w->answer, p, n);
        return;
    }
    enter(w);
    take_lines(w, p, n);
    if (!leave(w) || w->code == 0)
        return;
    /* A watch that said something wrong is over, whatever else it would say. */
    wh_kube_result result = {.class_ = w->code == -ESTALE ? WH_KUBE_GONE : WH_KUBE_TRANSIENT,
                             .status = w->status,
                             .reason = "",
                             .err = w->err,
                             .retry_after = -1};
    wh_fetch_cancel(WH_TAKE(w->fetch));
    request_over(w, &result);
}

static int take_page(wh_watch *w)
{
    auto_json json_t *list = NULL;
    int r = w->answer.failed
                ? wh_fail(&w->err, -EFBIG, "list '%s': the answer is larger than allowed.", w->path)
                : 0;
    if (r == 0)
        r = wh_json_parse(wh_buf_str(&w->answer), w->answer.len, &list, &w->err);
    if (r == 0)
        r = wh_reflect_page(&w->reflector, list, &w->err);
    if (r == 0)
        wh_backoff_reset(&w->backoff);
    return r;
}

static void on_done(wh_fetch *fetch, const wh_fetch_result *answer, void *user)
{
    (void)fetch;
    wh_watch *w = user;
    w->fetch = NULL;
    wh_kube_heard(w->kube, answer->status);
    auto_json json_t *body = NULL;
    if (w->status != 200 && w->answer.len > 0)
        (void)wh_json_parse(wh_buf_str(&w->answer), w->answer.len, &body, NULL);
    wh_kube_result result;
    wh_kube_result_make(&result, "GET", w->path, answer, body);
    w->code = answer->err.code;
    if (result.class_ == WH_KUBE_OK && w->reflector.phase == WH_REFLECT_LIST) {
        enter(w);
        w->code = take_page(w);
        if (!leave(w))
            return;
        if (w->code < 0) {
            result.class_ = WH_KUBE_TRANSIENT;
            result.err = w->err;
        }
    }
    request_over(w, &result);
}

/* ---- what next ---- */

static void on_timer(wh_timer *timer)
{
    start_request(timer->user);
}

static void request_over(wh_watch *w, const wh_kube_result *result)
{
    wh_reflect_next next = wh_reflect_end(&w->reflector, w->status, w->code);
    wh_time delay = 0;
    if (next == WH_REFLECT_LATER) {
        bool soon = w->forbidden_is_transient && result->class_ == WH_KUBE_FORBIDDEN;
        delay = wh_backoff_next(soon ? &w->forbidden : &w->backoff);
        if (result->retry_after > delay)
            delay = WH_MIN(result->retry_after, WATCH_DELAY_MAX);
    }
    if (result->class_ != WH_KUBE_FORBIDDEN)
        wh_backoff_reset(&w->forbidden);
    wh_timer_start(wh_kube_loop(w->kube), &w->timer, delay, on_timer, w);
    if (result->class_ == WH_KUBE_OK || w->callbacks.on_error == NULL)
        return;
    enter(w);
    w->callbacks.on_error(result, w->user);
    (void)leave(w);
}

/* A stream that says nothing for too long leads nowhere, whatever TCP believes. */
static void on_silence(wh_timer *timer)
{
    wh_watch *w = timer->user;
    wh_time limit = w->status == 0 ? WH_MIN(WATCH_HEAD_MAX, w->silence_max) : w->silence_max;
    wh_time left = w->heard + limit - wh_loop_now(wh_kube_loop(w->kube));
    if (left > 0) {
        wh_timer_start(wh_kube_loop(w->kube), &w->timer, left, on_silence, w);
        return;
    }
    wh_kube_result result = {
        .class_ = WH_KUBE_TRANSIENT, .status = w->status, .reason = "", .retry_after = -1};
    w->code = wh_fail(&result.err, -ETIMEDOUT, "watch '%s': no byte came for %d s; asking again.", w->path,
                      (int)(limit / WH_SEC));
    wh_fetch_cancel(WH_TAKE(w->fetch));
    request_over(w, &result);
}

static void start_request(wh_watch *w)
{
    static const wh_fetch_callbacks callbacks = {.on_head = on_head, .on_data = on_data, .on_done = on_done};
    unsigned seconds = WATCH_SECONDS_MIN + (unsigned)wh_rng_below(&w->rng, WATCH_SECONDS_MIN);
    auto_free char *query = wh_reflect_query(&w->reflector, w->field_selector, w->label_selector, seconds);
    auto_free char *path = wh_xasprintf("%s?%s", w->path, query);
    bool list = w->reflector.phase == WH_REFLECT_LIST;
    w->status = w->code = 0;
    w->err = (wh_err){0};
    wh_buf_done(&w->line);
    wh_buf_init(&w->line, WH_KUBE_EVENT_BYTES_MAX);
    wh_buf_done(&w->answer);
    wh_buf_init(&w->answer, list ? WH_KUBE_BODY_BYTES_MAX : WATCH_ERROR_BYTES_MAX);
    wh_time timeout = list ? 60 * WH_SEC : ((wh_time)seconds + 30) * WH_SEC;
    int r = wh_kube_stream(w->kube, path, timeout, &callbacks, w, &w->fetch, &w->err);
    if (r < 0) {
        wh_kube_result result = {.class_ = WH_KUBE_REFUSED, .reason = "", .err = w->err, .retry_after = -1};
        w->code = r;
        request_over(w, &result);
        return;
    }
    w->heard = wh_loop_now(wh_kube_loop(w->kube));
    wh_timer_start(wh_kube_loop(w->kube), &w->timer, WH_MIN(WATCH_HEAD_MAX, w->silence_max), on_silence, w);
}

static void on_reachable(wh_kube_listener *listener)
{
    wh_watch *w = listener->user;
    if (w->timer.loop == NULL || w->fetch != NULL)
        return;
    wh_backoff_reset(&w->backoff);
    wh_timer_start(wh_kube_loop(w->kube), &w->timer, (wh_time)wh_rng_below(&w->rng, WATCH_NUDGE_MAX),
                   on_timer, w);
}

/* ---- life ---- */

int wh_watch_start(wh_kube *kube, const wh_watch_options *options, const wh_watch_callbacks *callbacks,
                   void *user, wh_watch **ret, wh_err *err)
{
    if (options->path[0] != '/')
        return wh_fail(err, -EINVAL, "watch '%s': a path begins with '/'.", options->path);
    wh_watch *w = wh_xnew(wh_watch);
    w->kube = kube;
    w->path = wh_xstrdup(options->path);
    w->field_selector = options->field_selector == NULL ? NULL : wh_xstrdup(options->field_selector);
    w->label_selector = options->label_selector == NULL ? NULL : wh_xstrdup(options->label_selector);
    w->forbidden_is_transient = options->forbidden_is_transient;
    w->silence_max = options->silence_max > 0 ? options->silence_max : WATCH_SILENCE_MAX;
    w->callbacks = *callbacks;
    w->user = user;
    wh_reflect_init(&w->reflector);
    w->reflector.no_streaming_list = options->no_streaming_list;
    w->reflector.on_event = on_event;
    w->reflector.on_synced = on_synced;
    w->reflector.user = w;
    wh_buf_init(&w->line, WH_KUBE_EVENT_BYTES_MAX);
    wh_buf_init(&w->answer, WATCH_ERROR_BYTES_MAX);
    wh_random(&w->rng.state, sizeof(w->rng.state));
    wh_time first = options->first_delay > 0 ? options->first_delay : WATCH_DELAY_FIRST;
    wh_backoff_init(&w->backoff, first, WH_MAX(first, WATCH_DELAY_MAX), wh_rng_next(&w->rng));
    wh_backoff_init(&w->forbidden, WH_MIN(first, WATCH_FORBIDDEN_FIRST), WATCH_DELAY_MAX,
                    wh_rng_next(&w->rng));
    w->listener = (wh_kube_listener){.fn = on_reachable, .user = w};
    wh_kube_listen(kube, &w->listener);
    wh_timer_start(wh_kube_loop(kube), &w->timer, 0, on_timer, w);
    *ret = w;
    return 0;
}

void wh_watch_free(wh_watch *watch)
{
    if (watch == NULL)
        return;
    watch->freed = true;
    if (watch->busy == 0)
        free_watch(watch);
}

bool wh_watch_is_synced(const wh_watch *watch)
{
    return watch->reflector.synced;
}

json_t *wh_watch_find(const wh_watch *watch, const char *key)
{
    return wh_reflect_find(&watch->reflector, key);
}

size_t wh_watch_count(const wh_watch *watch)
{
    return watch->reflector.count;
}

void wh_watch_each(const wh_watch *watch, void (*fn)(const char *key, json_t *object, void *user), void *user)
{
    wh_reflect_each(&watch->reflector, fn, user);
}

wh_time wh_watch_last_contact(const wh_watch *watch)
{
    return watch->contact;
}
