/* SPDX-License-Identifier: Apache-2.0 */
/* wasi:http services. An instance is polled when something happened for it: the client sent or took bytes, a timer or
 * another thread of the engine woke it. An answer that is whole when the guest's first poll returns goes out in one
 * piece, with its length. */
#include "serve/component.h"

#include "engine/component.h"
#include "serve/ticker.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <strings.h>
#include <sys/queue.h>

#define IN_BYTES_HIGH (64UL << 10) /* wh_component_push says so */
#define IDLE_INSTANCE_TIME (2 * WH_SEC)
#define WHOLE_BYTES_MAX (32UL << 10) /* an answer that is gathered before its head goes out */
#define STRETCH_TICKS_MAX (30 * WH_SEC / WH_SERVE_TICK) /* guest code without a wait */

typedef struct place { /* an instance and what we know of it */
    wh_serve_component *owner;
    wh_component_instance *instance;
    TAILQ_ENTRY(place) link; /* owner->places */
    TAILQ_ENTRY(place) ready_link;
    bool ready; /* in owner->ready; under the lock */
    bool polling, spent;
    uint32_t open; /* calls without their end */
    wh_time idle_since;
} place;
TAILQ_HEAD(place_list, place);

typedef struct call {
    place *at;
    wh_serve_request *request;
    wh_http_exchange *x; /* NULL: the answer is over */
    wh_component_call *call;
    wh_timer timer;
    LIST_ENTRY(call) link;
    uint64_t received;
    int status; /* 0: no head yet */
    int64_t length;
    wh_buf body; /* gathered while the head is held back */
    bool begun, paused, body_over, held, head_only;
} call;

struct wh_serve_component {
    wh_loop *loop;
    wh_serve_component_config config;
    wh_engine *engine;
    wh_component *component;
    wh_ticker *ticker;
    struct place_list places; /* that may be used again, and those in use; the last one used first */
    LIST_HEAD(, call) calls;
    pthread_mutex_t lock;
    struct place_list ready; /* to be polled */
    bool run_due;            /* run_ready is on its way; under the lock */
    bool running;            /* run_ready is at work; under the lock */
    wh_timer idle_timer;
    /* The head of a request, for the length of a call. */
    wh_component_field fields[WH_HTTP_FIELDS_MAX];
};

static void run_ready(void *user);

/* ---- instances ---- */

/* From any thread. */
static void mark_ready(place *p)
{
    wh_serve_component *c = p->owner;
    bool post = false;
    (void)pthread_mutex_lock(&c->lock);
    if (!p->ready) {
        p->ready = true;
        TAILQ_INSERT_TAIL(&c->ready, p, ready_link);
        post = !c->run_due && !c->running;
        c->run_due |= post;
    }
    (void)pthread_mutex_unlock(&c->lock);
    if (post)
        wh_loop_post(c->loop, run_ready, c);
}

static void on_wake(void *instance_user)
{
    mark_ready(instance_user);
}

static void place_free(place *p)
{
    wh_serve_component *c = p->owner;
    (void)pthread_mutex_lock(&c->lock);
    if (p->ready)
        TAILQ_REMOVE(&c->ready, p, ready_link);
    p->ready = true; /* a late wake finds nothing to do */
    (void)pthread_mutex_unlock(&c->lock);
    TAILQ_REMOVE(&c->places, p, link);
    wh_component_instance_free(p->instance);
    free(p);
}

static void on_idle_instances(wh_timer *timer)
{
    wh_serve_component *c = timer->user;
    place *p, *next;
    bool left = false;
    for (p = TAILQ_FIRST(&c->places); p != NULL; p = next) {
        next = TAILQ_NEXT(p, link);
        if (p->open > 0)
            continue;
        if (wh_loop_now(c->loop) - p->idle_since >= IDLE_INSTANCE_TIME)
            place_free(p);
        else
            left = true;
    }
    if (left)
        wh_timer_start(c->loop, &c->idle_timer, IDLE_INSTANCE_TIME, on_idle_instances, c);
}

static int place_get(wh_serve_component *c, place **ret, wh_err *err)
{
    uint32_t reuse = c->config.limits.reuse;
    place *p;
    TAILQ_FOREACH(p, &c->places, link)
    {
        if (reuse > 1 && !p->spent && wh_component_instance_calls(p->instance) < reuse &&
            wh_component_instance_free_slot(p->instance)) {
            *ret = p;
            return 0;
        }
    }
    p = wh_xnew(place);
    p->owner = c;
    int rc = wh_component_instance_new(c->component, p, &p->instance, err);
    if (rc < 0) {
        free(p);
        return rc;
    }
    TAILQ_INSERT_HEAD(&c->places, p, link);
    *ret = p;
    return 0;
}

/* After a poll, or when its last call is gone: kept for another request, or not. */
static void place_rest(place *p)
{
    wh_serve_component *c = p->owner;
    if (p->polling || p->open > 0)
        return;
    if (p->spent || c->config.limits.reuse <= 1 ||
        wh_component_instance_calls(p->instance) >= c->config.limits.reuse) {
        place_free(p);
        return;
    }
    p->idle_since = wh_loop_now(c->loop);
    if (c->idle_timer.loop == NULL)
        wh_timer_start(c->loop, &c->idle_timer, IDLE_INSTANCE_TIME, on_idle_instances, c);
}

static void flush_calls(place *p);

/* Wakes that come meanwhile need no post: whoever set this looks at the list afterwards. */
static bool set_running(wh_serve_component *c, bool running)
{
    (void)pthread_mutex_lock(&c->lock);
    bool was = c->running;
    c->running = running;
    bool due = !running && !TAILQ_EMPTY(&c->ready) && !c->run_due;
    c->run_due |= due;
    (void)pthread_mutex_unlock(&c->lock);
    if (due)
        wh_loop_defer(c->loop, run_ready, c);
    return was;
}

static void poll_place(place *p)
{
    wh_serve_component *c = p->owner;
    bool was = set_running(c, true);
    p->polling = true;
    wh_component_state state = wh_component_poll(p->instance);
    if (state == WH_COMPONENT_DEAD)
        p->spent = true;
    else
        flush_calls(p);
    p->polling = false;
    place_rest(p);
    if (!was)
        (void)set_running(c, false);
}

/* Polls what is ready now; what becomes ready meanwhile waits for the next round of the loop, so that a guest which
 * wakes itself does not starve the others. */
static void run_ready(void *user)
{
    wh_serve_component *c = user;
    size_t n = 0;
    place *p;
    (void)pthread_mutex_lock(&c->lock);
    c->run_due = false;
    c->running = true;
    TAILQ_FOREACH(p, &c->ready, ready_link) n++;
    for (; n > 0 && (p = TAILQ_FIRST(&c->ready)) != NULL; n--) {
        TAILQ_REMOVE(&c->ready, p, ready_link);
        p->ready = false;
        (void)pthread_mutex_unlock(&c->lock);
        poll_place(p);
        (void)pthread_mutex_lock(&c->lock);
    }
    (void)pthread_mutex_unlock(&c->lock);
    (void)set_running(c, false);
}

/* ---- calls ---- */

static void call_free(call *k)
{
    wh_timer_stop(&k->timer);
    LIST_REMOVE(k, link);
    wh_buf_done(&k->body);
    free(k);
}

/* The guest is through with the call, or was made to be. */
static void call_over(call *k)
{
    place *p = k->at;
    wh_assert(k->x == NULL);
    p->open--;
    wh_ticker_release(p->owner->ticker);
    wh_serve_over(k->request);
    call_free(k);
    place_rest(p);
}

static void answer_cut(call *k, const char *why)
{
    wh_http_exchange *x = WH_TAKE(k->x);
    wh_serve_answered(k->request, 0, why);
    wh_http_abort(x);
}

static void answer_error(call *k, int status, const char *why)
{
    k->x = NULL;
    wh_serve_fail(k->request, status, why);
}

/* An error, however far the answer is. */
static void answer_broken(call *k, int status, const char *why)
{
    if (k->begun)
        answer_cut(k, why);
    else
        answer_error(k, status, why);
}

/* Ends the guest's part at once: the instance is spent. */
static void drop_guest(call *k)
{
    k->at->spent = true;
    if (k->call != NULL)
        wh_component_abort(WH_TAKE(k->call));
    call_over(k);
}

static void on_deadline(wh_timer *timer)
{
    call *k = timer->user;
    if (k->x != NULL)
        answer_broken(k, 504, "the request's time is over");
    drop_guest(k);
}

static void on_gone(WH_UNUSED wh_http_exchange *x, void *user)
{
    call *k = user;
    answer_cut(k, "the client left");
    drop_guest(k);
}

static void on_writable(WH_UNUSED wh_http_exchange *x, void *user)
{
    call *k = user;
    if (!k->held)
        return;
    k->held = false;
    if (k->call == NULL)
        return;
    wh_component_credit(k->call);
    mark_ready(k->at);
}

static void push_end(call *k)
{
    size_t n = 0;
    const wh_h1_field *trailers = wh_http_trailers(k->x, &n);
    wh_component_field fields[WH_HTTP_TRAILERS_MAX];
    n = WH_MIN(n, WH_ARRAY_LEN(fields));
    for (size_t i = 0; i < n; i++)
        fields[i] = (wh_component_field){trailers[i].name, trailers[i].value};
    k->body_over = true;
    wh_component_push_end(k->call, fields, n);
}

static void on_data(wh_http_exchange *x, const void *p, size_t n, void *user)
{
    call *k = user;
    if (k->call == NULL || k->body_over)
        return;
    if (n == 0) {
        push_end(k);
    } else if (wh_component_push(k->call, p, n) > IN_BYTES_HIGH && !k->paused) {
        k->paused = true;
        wh_http_pause(x, true);
    }
    mark_ready(k->at);
}

static void on_taken(void *user, size_t queued)
{
    call *k = user;
    if (k->paused && k->x != NULL && queued <= IN_BYTES_HIGH / 2) {
        k->paused = false;
        wh_http_pause(k->x, false);
    }
}

/* ---- the answer ---- */

static bool is_of_connection(wh_str name)
{
    static const char *const list[] = {"connection", "keep-alive",        "proxy-connection",
                                       "te",         "transfer-encoding", "upgrade",
                                       "host",       "http2-settings"};
    for (size_t i = 0; i < WH_ARRAY_LEN(list); i++)
        if (strlen(list[i]) == name.n && strncasecmp(list[i], name.p, name.n) == 0)
            return true;
    return false;
}

/* What the server says itself: the date, and which trailers will follow, which a guest may announce. */
static bool is_ours(wh_str name)
{
    return (name.n == 4 && strncasecmp(name.p, "date", 4) == 0) ||
           (name.n == 7 && strncasecmp(name.p, "trailer", 7) == 0);
}

static int take_length(call *k, wh_str value)
{
    char text[24];
    uint64_t length;
    if (value.n == 0 || value.n >= sizeof(text))
        return -EINVAL;
    memcpy(text, value.p, value.n);
    text[value.n] = '\0';
    if (wh_parse_u64(text, INT64_MAX, &length) < 0 || (k->length >= 0 && (uint64_t)k->length != length))
        return -EINVAL;
    k->length = (int64_t)length;
    return 0;
}

static int take_fields(call *k, const wh_component_field *fields, size_t n)
{
    if (n > WH_SERVE_FIELDS_MAX)
        return -E2BIG;
    for (size_t i = 0; i < n; i++) {
        wh_str name = fields[i].name, value = fields[i].value;
        int rc = 0;
        if (!wh_h1_is_token(name) || !wh_h1_is_value(value) || is_of_connection(name))
            return -EINVAL;
        if (name.n == 14 && strncasecmp(name.p, "content-length", 14) == 0)
            rc = take_length(k, value);
        else if (!is_ours(name))
            rc = wh_http_header_n(k->x, name, value);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* The guest's answer cannot be sent: the client learns that, and the guest is ended once it is out of the poll. */
static void refuse_answer(call *k, const char *why)
{
    answer_broken(k, 502, why);
    k->at->spent = true;
}

static void on_head(void *user, unsigned status, const wh_component_field *fields, size_t n)
{
    call *k = user;
    if (k->x == NULL)
        return;
    if (status < 200) {
        if (status >= 102) /* 100 and 101 are ours */
            wh_http_info(k->x, (int)status);
        return;
    }
    if (status > 599 || take_fields(k, fields, n) < 0) {
        refuse_answer(k, "the answer's head holds what a head must not hold");
        return;
    }
    k->status = (int)status;
}

static void begin_answer(call *k)
{
    k->begun = true;
    if (k->length >= 0)
        wh_http_begin_length(k->x, k->status, NULL, (uint64_t)k->length);
    else
        wh_http_begin(k->x, k->status, NULL);
}

/* Writes, and says whether the guest may go on. */
static bool write_answer(call *k, const void *p, size_t n)
{
    int rc = n == 0 ? 0 : wh_http_write(k->x, p, n);
    if (rc == 0)
        return true;
    k->held = rc == -EAGAIN;
    return rc != -EAGAIN; /* a client that left is told by on_gone */
}

/* Sends what was gathered: the answer goes on later. */
static bool flush_answer(call *k)
{
    begin_answer(k);
    bool more = write_answer(k, k->body.p, k->body.len);
    wh_buf_done(&k->body);
    return more;
}

static bool on_body(void *user, const void *p, size_t n)
{
    call *k = user;
    if (k->x == NULL || k->status == 0)
        return true;
    if (k->begun)
        return write_answer(k, p, n);
    if (k->body.len + n <= WHOLE_BYTES_MAX)
        return wh_buf_append(&k->body, p, n) == 0;
    bool more = flush_answer(k);
    return write_answer(k, p, n) && more;
}

/* A poll is over: what waits for more is no longer held back. */
static void flush_calls(place *p)
{
    call *k, *next;
    if (p->open == 0)
        return;
    for (k = LIST_FIRST(&p->owner->calls); k != NULL; k = next) {
        next = LIST_NEXT(k, link);
        if (k->at != p)
            continue;
        if (k->x == NULL && k->call != NULL) { /* its answer was refused */
            drop_guest(k);
            continue;
        }
        if (k->status != 0 && !k->begun && k->x != NULL && !flush_answer(k))
            continue;
    }
}

static void end_answer(call *k, const wh_component_field *trailers, size_t n)
{
    bool whole = !k->begun && n == 0;
    if (whole && k->length >= 0 && k->length != (int64_t)k->body.len && !k->head_only) {
        refuse_answer(k, "the answer's body has not the length that its head says");
        return;
    }
    if (!k->begun && (!whole || (k->head_only && k->length >= 0))) {
        whole = false;
        (void)flush_answer(k);
    }
    for (size_t i = 0; i < n; i++)
        (void)wh_http_trailer(k->x, trailers[i].name, trailers[i].value);
    wh_http_exchange *x = WH_TAKE(k->x);
    wh_serve_answered(k->request, k->status, NULL);
    if (whole)
        wh_http_reply(x, k->status, NULL, k->body.p, k->body.len);
    else
        wh_http_end(x);
}

static void on_end(void *user, const wh_outcome *outcome, const wh_component_field *trailers, size_t n)
{
    call *k = user;
    k->call = NULL;
    if (k->x != NULL && outcome->end == WH_END_OK && k->status != 0)
        end_answer(k, trailers, n);
    else if (k->x != NULL && outcome->end == WH_END_OK)
        answer_error(k, 500, "the component gave no answer");
    else if (k->x != NULL && outcome->end == WH_END_DEADLINE)
        answer_broken(k, 504, outcome->msg);
    else if (k->x != NULL)
        answer_broken(k, 500, outcome->msg[0] != '\0' ? outcome->msg : "the component exited");
    call_over(k);
}

/* ---- the beginning ---- */

static size_t request_fields(wh_serve_component *c, const wh_http_request *q)
{
    size_t n = 0;
    for (size_t i = 0; i < q->n_fields && n < WH_ARRAY_LEN(c->fields); i++) {
        wh_str name = q->fields[i].name;
        if (!is_of_connection(name) || (name.n == 4 && memcmp(name.p, "host", 4) == 0))
            c->fields[n++] = (wh_component_field){name, q->fields[i].value};
    }
    return n;
}

static int call_begin(call *k, wh_err *err)
{
    wh_serve_component *c = k->at->owner;
    const wh_http_request *q = wh_http_request_of(k->x);
    wh_component_head head = {
        .method = wh_str_of(q->method),
        .scheme = wh_str_of(q->scheme),
        .authority = wh_str_of(q->authority),
        .path_query = wh_str_of(q->target),
        .fields = c->fields,
        .n_fields = request_fields(c, q),
        .body_bytes = q->length,
    };
    int rc = wh_component_begin(k->at->instance, &head, k, &k->call, err);
    if (rc == 0 && q->length == 0) {
        k->body_over = true;
        wh_component_push_end(k->call, NULL, 0);
    }
    return rc;
}

static void begin(void *user, wh_serve_request *request)
{
    static const wh_http_stream_callbacks callbacks = {
        .on_writable = on_writable, .on_gone = on_gone, .on_data = on_data};
    wh_serve_component *c = user;
    wh_err err = {0};
    place *p;
    int rc = place_get(c, &p, &err);
    if (rc < 0) {
        wh_serve_fail(request, rc == -ENOMEM ? 503 : 500, err.msg);
        wh_serve_over(request);
        return;
    }
    call *k = wh_xnew(call);
    k->at = p;
    k->request = request;
    k->x = request->x;
    k->length = -1;
    k->head_only = strcmp(wh_http_request_of(k->x)->method, "HEAD") == 0;
    wh_buf_init(&k->body, WHOLE_BYTES_MAX + 1);
    LIST_INSERT_HEAD(&c->calls, k, link);
    p->open++;
    wh_ticker_hold(c->ticker);
    rc = call_begin(k, &err);
    if (rc < 0) {
        answer_error(k, rc == -EINVAL ? 400 : 500, err.msg);
        call_over(k);
        return;
    }
    wh_http_watch(k->x, &callbacks, k);
    wh_timer_start(c->loop, &k->timer, WH_MAX(request->deadline - wh_loop_now(c->loop), (wh_time)0),
                   on_deadline, k);
    poll_place(p);
}

/* ---- the whole ---- */

static void tick(void *user)
{
    wh_serve_component *c = user;
    wh_engine_wasmtime.tick(c->engine);
}

static const wh_component_callbacks component_callbacks = {
    .on_head = on_head,
    .on_body = on_body,
    .on_end = on_end,
    .on_taken = on_taken,
    .wake = on_wake,
};

int wh_serve_component_new(wh_loop *loop, wh_engine *engine, int code_fd,
                           const wh_serve_component_config *config, wh_serve_component **ret, wh_err *err)
{
    wh_serve_component *c = wh_xnew(wh_serve_component);
    wh_component_config *to = &c->config.component;
    c->loop = loop;
    c->engine = engine;
    c->config = *config;
    to->callbacks = &component_callbacks;
    to->limits.memory_bytes_max = config->limits.memory_bytes;
    wh_time time = config->limits.request_time > 0 ? config->limits.request_time : WH_MINUTE;
    to->deadline_ticks = (uint32_t)WH_MIN(time / WH_SERVE_TICK + 2, (wh_time)STRETCH_TICKS_MAX);
    TAILQ_INIT(&c->places);
    TAILQ_INIT(&c->ready);
    LIST_INIT(&c->calls);
    wh_assert(pthread_mutex_init(&c->lock, NULL) == 0);
    int rc = wh_component_load(engine, code_fd, to, &c->component, err);
    if (rc == 0 && wh_component_kind_of(c->component) == WH_COMPONENT_COMMAND)
        rc = wh_fail(err, -ENOEXEC, "the component is a command: it answers no HTTP.");
    if (rc == 0)
        rc = wh_component_warm(c->component, err);
    if (rc < 0) {
        wh_component_free(c->component);
        (void)pthread_mutex_destroy(&c->lock);
        free(c);
        return rc;
    }
    c->ticker = wh_ticker_new(tick, c);
    *ret = c;
    return 0;
}

static void free_component(void *user)
{
    wh_serve_component *c = user;
    wh_component_free(c->component);
    (void)pthread_mutex_destroy(&c->lock);
    free(c);
}

void wh_serve_component_free(wh_serve_component *c)
{
    call *k;
    place *p;
    if (c == NULL)
        return;
    while ((k = LIST_FIRST(&c->calls)) != NULL) {
        if (k->x != NULL)
            answer_cut(k, "the server ended");
        drop_guest(k);
    }
    while ((p = TAILQ_FIRST(&c->places)) != NULL)
        place_free(p);
    wh_timer_stop(&c->idle_timer);
    wh_ticker_free(c->ticker);
    (void)pthread_mutex_lock(&c->lock);
    c->running = true; /* nothing is posted any more */
    (void)pthread_mutex_unlock(&c->lock);
    wh_loop_post(c->loop, free_component, c); /* behind what was posted before */
}

void wh_serve_component_backend(wh_serve_component *c, wh_serve_backend *ret)
{
    *ret = (wh_serve_backend){.user = c, .begin = begin};
}

wh_component *wh_serve_component_of(wh_serve_component *c)
{
    return c->component;
}
