/* SPDX-License-Identifier: Apache-2.0 */
/* Places, the queue in front of them, idleness, drain, and the log of calls. */
#include "serve/serve.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/queue.h>

#define QUEUE_TIME_DEFAULT (5 * WH_SEC)
#define REQUEST_TIME_DEFAULT (60 * WH_SEC)
#define IDLE_GRACE (5 * WH_SEC) /* of a request that comes in the moment in which we leave */
#define RETRY_AFTER "1"         /* seconds */
#define LOG_LINES_PER_SECOND 50 /* about failed calls: a client can cause any number */
#define FREE_MAX 256            /* requests kept for the next ones */

typedef struct waiting {
    wh_serve_request r;
    TAILQ_ENTRY(waiting) link;
} waiting;
TAILQ_HEAD(waiting_list, waiting);

struct wh_serve {
    wh_loop *loop;
    wh_serve_config config;
    wh_serve_backend backend;
    wh_http_server **servers;
    size_t n_servers, n_draining;
    struct waiting_list queue, spare;
    uint32_t running, waiting, spares;
    wh_timer queue_timer, idle_timer;
    wh_time last; /* the last request came or ended then */
    bool begin_due, draining, idling, freed;
    wh_rng rng;
    wh_time log_window;
    uint32_t log_lines, log_left_out;
    wh_serve_stats stats;
};

/* ---- the log ---- */

static void log_line(wh_serve *s, const char *line)
{
    if (s->config.log != NULL)
        s->config.log(s->config.user, line);
}

/* Failures that clients can cause are bounded in number; what was left out is counted. */
static bool may_log(wh_serve *s)
{
    char line[96];
    wh_time now = wh_loop_now(s->loop);
    if (now - s->log_window >= WH_SEC) {
        if (s->log_left_out > 0) {
            (void)snprintf(line, sizeof(line), "wherry: %" PRIu32 " more calls failed and were not listed\n",
                           s->log_left_out);
            log_line(s, line);
        }
        s->log_window = now;
        s->log_lines = s->log_left_out = 0;
    }
    if (++s->log_lines <= LOG_LINES_PER_SECOND)
        return true;
    s->log_left_out++;
    return false;
}

static void log_call(wh_serve *s, const wh_serve_request *r, int status, const char *why)
{
    char line[1024], result[16];
    const wh_http_request *q = wh_http_request_of(r->x);
    bool failed = why != NULL || status >= 500;
    if (!s->config.access_log && (!failed || !may_log(s)))
        return;
    wh_time took = wh_mono_now() - r->began;
    (void)snprintf(result, sizeof(result), "%d", status);
    (void)snprintf(line, sizeof(line),
                   "wherry: call %s: %.32s %.256s: %s in %" PRId64 ".%03" PRId64 " ms%s%.480s", r->id,
                   q->method, q->target, status == 0 ? "cut" : result, took / WH_MSEC,
                   took % WH_MSEC / WH_USEC, why != NULL ? ": " : "", why != NULL ? why : "");
    /* One line, whatever a trap's text holds. */
    size_t n = strcspn(line, "\n");
    n = WH_MIN(n, sizeof(line) - 2);
    line[n] = '\n';
    line[n + 1] = '\0';
    log_line(s, line);
}

/* ---- requests ---- */

static bool id_is_good(wh_str id)
{
    if (id.n == 0 || id.n > WH_SERVE_ID_MAX)
        return false;
    for (size_t i = 0; i < id.n; i++) {
        char c = id.p[i];
        bool good = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
                    c == '_' || c == '.';
        if (!good)
            return false;
    }
    return true;
}

/* A UUID of version 4, as OpenFaaS has it. It names a call in logs, and is no secret. */
static void make_id(wh_serve *s, char out[WH_SERVE_ID_MAX + 1])
{
    static const char digits[] = "0123456789abcdef";
    uint64_t words[2] = {wh_rng_next(&s->rng), wh_rng_next(&s->rng)};
    uint8_t bytes[16];
    memcpy(bytes, words, sizeof(bytes));
    bytes[6] = (uint8_t)((bytes[6] & 0x0f) | 0x40);
    bytes[8] = (uint8_t)((bytes[8] & 0x3f) | 0x80);
    char *to = out;
    for (size_t i = 0; i < sizeof(bytes); i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *to++ = '-';
        *to++ = digits[bytes[i] >> 4];
        *to++ = digits[bytes[i] & 15];
    }
    *to = '\0';
}

static void set_id(wh_serve *s, wh_serve_request *r)
{
    wh_str id = wh_http_field_get(wh_http_request_of(r->x), "x-call-id");
    if (!id_is_good(id)) {
        make_id(s, r->id);
        return;
    }
    memcpy(r->id, id.p, id.n);
    r->id[id.n] = '\0';
}

static waiting *waiting_new(wh_serve *s, wh_http_exchange *x)
{
    waiting *w = TAILQ_FIRST(&s->spare);
    if (w != NULL) {
        TAILQ_REMOVE(&s->spare, w, link);
        s->spares--;
    } else {
        w = wh_xnew(waiting);
    }
    w->r.serve = s;
    w->r.x = x;
    w->r.user = NULL;
    w->r.began = wh_loop_now(s->loop);
    w->r.deadline = w->r.began + s->config.limits.request_time;
    set_id(s, &w->r);
    return w;
}

static void waiting_free(wh_serve *s, waiting *w)
{
    if (s->spares >= FREE_MAX) {
        free(w);
        return;
    }
    TAILQ_INSERT_HEAD(&s->spare, w, link);
    s->spares++;
}

static void reply_error(wh_serve_request *r, int status, const char *text)
{
    (void)wh_http_header(r->x, "X-Call-Id", r->id);
    wh_http_replyf(r->x, status, "%s Call %s.\n", text, r->id);
}

static const char *words_of(int status)
{
    switch (status) {
    case 502:
        return "The function's answer was not valid.";
    case 503:
        return "Too many requests are being answered; try again in a moment.";
    case 504:
        return "The function did not answer in time.";
    default:
        return "The function failed.";
    }
}

static void refuse(wh_serve *s, waiting *w, const char *why)
{
    s->stats.refused++;
    log_call(s, &w->r, 503, why);
    (void)wh_http_header(w->r.x, "Retry-After", RETRY_AFTER);
    reply_error(&w->r, 503, words_of(503));
    waiting_free(s, w);
}

static void take_place(wh_serve *s, waiting *w)
{
    s->running++;
    s->stats.requests++;
    s->backend.begin(s->backend.user, &w->r);
}

static void on_queue_time(wh_timer *timer)
{
    wh_serve *s = timer->user;
    waiting *w;
    while ((w = TAILQ_FIRST(&s->queue)) != NULL) {
        wh_time left = w->r.began + s->config.limits.queue_time - wh_loop_now(s->loop);
        if (left > 0) {
            wh_timer_start(s->loop, &s->queue_timer, left, on_queue_time, s);
            return;
        }
        TAILQ_REMOVE(&s->queue, w, link);
        s->waiting--;
        refuse(s, w, "waited too long for a place");
    }
}

static void on_waiting_gone(wh_http_exchange *x, void *user)
{
    waiting *w = user;
    wh_serve *s = w->r.serve;
    TAILQ_REMOVE(&s->queue, w, link);
    s->waiting--;
    waiting_free(s, w);
    wh_http_abort(x);
}

static void enqueue(wh_serve *s, waiting *w)
{
    static const wh_http_stream_callbacks callbacks = {.on_gone = on_waiting_gone};
    wh_http_watch(w->r.x, &callbacks, w);
    TAILQ_INSERT_TAIL(&s->queue, w, link);
    if (s->waiting++ == 0)
        wh_timer_start(s->loop, &s->queue_timer, s->config.limits.queue_time, on_queue_time, s);
}

static void on_request(wh_http_exchange *x, const wh_http_request *request, void *user)
{
    wh_serve *s = user;
    const wh_serve_limits *limits = &s->config.limits;
    s->last = wh_loop_now(s->loop);
    if (limits->body_bytes > 0 && request->length > 0 && (uint64_t)request->length > limits->body_bytes) {
        s->stats.refused++;
        wh_http_replyf(x, 413, "The body has %" PRId64 " bytes; at most %" PRIu64 " are taken.\n",
                       request->length, limits->body_bytes);
        return;
    }
    waiting *w = waiting_new(s, x);
    if (s->running < limits->at_once && s->waiting == 0)
        take_place(s, w);
    else if (s->waiting < limits->queue)
        enqueue(s, w);
    else
        refuse(s, w, "the queue is full");
}

static void begin_next(void *user)
{
    wh_serve *s = user;
    s->begin_due = false;
    while (!s->freed && s->waiting > 0 && s->running < s->config.limits.at_once) {
        waiting *w = TAILQ_FIRST(&s->queue);
        TAILQ_REMOVE(&s->queue, w, link);
        s->waiting--;
        wh_http_watch(w->r.x, NULL, NULL);
        take_place(s, w);
    }
}

void wh_serve_answered(wh_serve_request *r, int status, const char *why)
{
    wh_serve *s = r->serve;
    wh_assert(r->x != NULL);
    if (status == 0 || status >= 500)
        s->stats.failed++;
    log_call(s, r, status, why);
    r->x = NULL;
}

void wh_serve_fail(wh_serve_request *r, int status, const char *why)
{
    wh_http_exchange *x = r->x;
    wh_serve_answered(r, status, why);
    r->x = x;
    reply_error(r, status, words_of(status));
    r->x = NULL;
}

void wh_serve_over(wh_serve_request *r)
{
    wh_serve *s = r->serve;
    wh_assert(r->x == NULL);
    wh_assert(s->running > 0);
    s->running--;
    s->last = wh_loop_now(s->loop);
    waiting_free(s, WH_CONTAINER_OF(r, waiting, r));
    if (s->waiting > 0 && !s->begin_due) {
        s->begin_due = true;
        wh_loop_defer(s->loop, begin_next, s);
    }
}

/* ---- idleness and the end ---- */

static void on_server_drained(void *user)
{
    wh_serve *s = user;
    if (--s->n_draining > 0)
        return;
    if (s->draining && s->config.on_drained != NULL)
        s->config.on_drained(s->config.user);
    else if (s->idling && s->config.on_idle != NULL)
        s->config.on_idle(s->config.user);
}

static void drain_servers(wh_serve *s, wh_time grace)
{
    s->n_draining = s->n_servers;
    for (size_t i = 0; i < s->n_servers; i++)
        wh_http_server_drain(s->servers[i], grace, on_server_drained, s);
}

static void on_idle_time(wh_timer *timer)
{
    wh_serve *s = timer->user;
    wh_time left = s->last + s->config.limits.idle_time - wh_loop_now(s->loop);
    if (s->running > 0 || s->waiting > 0)
        left = s->config.limits.idle_time;
    if (left > 0) {
        wh_timer_start(s->loop, &s->idle_timer, left, on_idle_time, s);
        return;
    }
    s->idling = true;
    drain_servers(s, IDLE_GRACE);
}

void wh_serve_drain(wh_serve *s, wh_time grace)
{
    if (s->draining)
        return;
    s->draining = true;
    wh_timer_stop(&s->idle_timer);
    if (!s->idling) /* else what it began says that it is drained */
        drain_servers(s, grace);
}

static void set_defaults(wh_serve_limits *limits)
{
    limits->at_once = limits->at_once > 0 ? limits->at_once : WH_SERVE_AT_ONCE;
    limits->queue = limits->queue > 0 ? limits->queue : WH_SERVE_QUEUE;
    limits->queue_time = limits->queue_time > 0 ? limits->queue_time : QUEUE_TIME_DEFAULT;
    limits->request_time = limits->request_time > 0 ? limits->request_time : REQUEST_TIME_DEFAULT;
}

static int start_servers(wh_serve *s, const int *fds, size_t n, wh_err *err)
{
    wh_http_server_options options = {
        .tls = s->config.tls,
        .handler = on_request,
        .user = s,
        .name = "serve",
        .body_bytes_max = s->config.limits.body_bytes > 0 ? s->config.limits.body_bytes : UINT64_MAX,
        .streaming = true,
        .h2 = true,
        /* A guest may stream slowly: what bounds an answer is the request's own time. */
        .body_timeout = s->config.limits.request_time,
    };
    s->servers = wh_xcalloc(n, sizeof(*s->servers));
    for (size_t i = 0; i < n; i++) {
        options.listen_fd = fds[i];
        int rc = wh_http_server_start(s->loop, &options, &s->servers[i], err);
        if (rc < 0)
            return rc;
        s->n_servers++;
    }
    return 0;
}

int wh_serve_start(wh_loop *loop, const wh_serve_config *config, const wh_serve_backend *backend,
                   wh_serve **ret, wh_err *err)
{
    wh_serve *s = wh_xnew(wh_serve);
    s->loop = loop;
    s->config = *config;
    s->config.listen_fds = NULL;
    s->backend = *backend;
    s->last = wh_loop_now(loop);
    wh_random(&s->rng, sizeof(s->rng));
    TAILQ_INIT(&s->queue);
    TAILQ_INIT(&s->spare);
    set_defaults(&s->config.limits);
    int rc = start_servers(s, config->listen_fds, config->n_listen, err);
    if (rc < 0) {
        wh_serve_free(s);
        return rc;
    }
    if (s->config.limits.idle_time > 0)
        wh_timer_start(loop, &s->idle_timer, s->config.limits.idle_time, on_idle_time, s);
    *ret = s;
    return 0;
}

static void free_serve(void *user)
{
    wh_serve *s = user;
    waiting *w;
    while ((w = TAILQ_FIRST(&s->spare)) != NULL) {
        TAILQ_REMOVE(&s->spare, w, link);
        free(w);
    }
    free(s->servers);
    free(s);
}

void wh_serve_free(wh_serve *s)
{
    waiting *w;
    if (s == NULL)
        return;
    wh_assert(s->running == 0);
    s->freed = true;
    wh_timer_stop(&s->queue_timer);
    wh_timer_stop(&s->idle_timer);
    while ((w = TAILQ_FIRST(&s->queue)) != NULL) {
        TAILQ_REMOVE(&s->queue, w, link);
        wh_http_abort(w->r.x);
        free(w);
    }
    s->waiting = 0;
    for (size_t i = 0; i < s->n_servers; i++)
        wh_http_server_free(s->servers[i]);
    wh_loop_defer(s->loop, free_serve, s); /* behind what the servers and begin_next deferred */
}

void wh_serve_stats_get(const wh_serve *s, wh_serve_stats *ret)
{
    *ret = s->stats;
    ret->running = s->running;
    ret->waiting = s->waiting;
}

int wh_serve_port(const wh_serve *s)
{
    return s->n_servers > 0 ? wh_http_server_port(s->servers[0]) : 0;
}
