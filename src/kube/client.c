/* SPDX-License-Identifier: Apache-2.0 */
/* Calls to the API server: credentials, rate limit, retries, and the watch over whether it answers at all. */
#include "kube/internal.h"

#include "base/file.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/metrics.h"
#include "http/h1.h"
#include "net/tls.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>

#define CALL_TRIES 5
#define CALL_RETRY_FIRST (200 * WH_MSEC)
#define CALL_RETRY_MAX (5 * WH_SEC)
#define CALL_RETRY_AFTER_MAX (60 * WH_SEC)
#define CREDENTIALS_PERIOD (60 * WH_SEC)
#define TOKEN_BYTES_MAX (64UL << 10)
#define PEM_BYTES_MAX (256UL << 10)
#define PROBE_PERIOD (800 * WH_MSEC)

static WH_METRIC(client_requests, WH_COUNTER, "rest_client_requests_total",
                 "Number of HTTP requests, partitioned by status code and method.", "code,method");

struct wh_kube_call {
    TAILQ_ENTRY(wh_kube_call) link;
    wh_kube *kube;
    char *method, *path, *body, *content_type;
    wh_time timeout;
    unsigned tries, tried;
    bool queued;  /* waits for its turn under the rate limit */
    bool renewed; /* credentials were read again after a 401 */
    void (*done)(const wh_kube_result *result, void *user);
    void *user;
    wh_fetch *fetch;
    wh_timer retry;
    wh_backoff backoff;
};
TAILQ_HEAD(call_list, wh_kube_call);

struct wh_kube {
    wh_loop *loop;
    wh_fetcher *fetcher;
    wh_kubeconfig config;
    char *user_agent;
    char *token; /* as used now */
    wh_time credentials_read;
    double qps, burst, tokens;
    wh_time refilled;
    struct call_list waiting, running;
    wh_timer turn;
    /* Reachability. */
    bool away;
    wh_timer probe;
    wh_fetch *probing;
    wh_rng rng;
    LIST_HEAD(, wh_kube_listener) listeners;
};

/* ---- back-off ---- */

void wh_backoff_init(wh_backoff *b, wh_time first, wh_time max, uint64_t seed)
{
    *b = (wh_backoff){.first = first, .max = max, .next = first, .rng = {seed}};
}

wh_time wh_backoff_next(wh_backoff *b)
{
    wh_time base = b->next;
    b->next = base > b->max / 2 ? b->max : base * 2;
    return base + (wh_time)wh_rng_below(&b->rng, (uint64_t)(base / 2) + 1);
}

void wh_backoff_reset(wh_backoff *b)
{
    b->next = b->first;
}

static uint64_t random_seed(void)
{
    uint64_t seed;
    wh_random(&seed, sizeof(seed));
    return seed;
}

/* ---- paths ---- */

static void put_escaped(wh_buf *out, const char *s)
{
    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     strchr("-._~", c) != NULL;
        (void)wh_buf_printf(out, plain ? "%c" : "%%%02X", c);
    }
}

char *wh_kube_path(const char *fmt, ...)
{
    wh_buf out;
    wh_buf_init(&out, 64UL << 10);
    va_list args;
    va_start(args, fmt);
    for (const char *p = fmt; *p != '\0'; p++) {
        if (*p != '%') {
            (void)wh_buf_putc(&out, *p);
            continue;
        }
        p++;
        if (*p == 's')
            put_escaped(&out, va_arg(args, const char *));
        else if (*p == 'd')
            (void)wh_buf_printf(&out, "%d", va_arg(args, int));
        else
            (void)wh_buf_putc(&out, '%');
        wh_assert(*p == 's' || *p == 'd' || *p == '%');
    }
    va_end(args);
    char *path = wh_buf_take(&out);
    wh_assert(path != NULL);
    return path;
}

/* ---- results ---- */

wh_kube_class wh_kube_classify(int status, int code)
{
    if (status >= 200 && status < 300 && code == 0)
        return WH_KUBE_OK;
    switch (status) {
    case 401:
        return WH_KUBE_UNAUTHORIZED;
    case 403:
        return WH_KUBE_FORBIDDEN;
    case 404:
        return WH_KUBE_NOT_FOUND;
    case 409:
        return WH_KUBE_CONFLICT;
    case 410:
        return WH_KUBE_GONE;
    case 408:
    case 429:
        return WH_KUBE_TRANSIENT;
    default:
        return status >= 300 && status < 500 ? WH_KUBE_REFUSED : WH_KUBE_TRANSIENT;
    }
}

static int code_of_class(wh_kube_class class_)
{
    switch (class_) {
    case WH_KUBE_NOT_FOUND:
        return -ENOENT;
    case WH_KUBE_CONFLICT:
        return -EEXIST;
    case WH_KUBE_GONE:
        return -ESTALE;
    case WH_KUBE_UNAUTHORIZED:
    case WH_KUBE_FORBIDDEN:
        return -EACCES;
    case WH_KUBE_REFUSED:
        return -EINVAL;
    case WH_KUBE_OK:
    case WH_KUBE_TRANSIENT:
    default:
        return -EAGAIN;
    }
}

void wh_kube_result_make(wh_kube_result *result, const char *method, const char *path,
                         const wh_fetch_result *answer, json_t *body)
{
    *result = (wh_kube_result){
        .class_ = wh_kube_classify(answer->status, answer->err.code),
        .status = answer->status,
        .body = body,
        .reason = "",
        .err = answer->err,
        .retry_after = answer->retry_after,
    };
    const char *message = body == NULL ? NULL : wh_json_str(body, "message");
    const char *reason = body == NULL ? NULL : wh_json_str(body, "reason");
    if (result->class_ != WH_KUBE_OK && reason != NULL)
        result->reason = reason;
    if (result->class_ == WH_KUBE_OK || answer->err.code != 0)
        return;
    int query = (int)strcspn(path, "?");
    (void)wh_fail(&result->err, code_of_class(result->class_), "%s %.*s: the API server answered %d %s%s%s",
                  method, query, path, answer->status, wh_h1_reason(answer->status),
                  message == NULL ? "" : ": ", message == NULL ? "" : message);
}

/* ---- credentials ---- */

static void wipe(char *secret)
{
    if (secret != NULL)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

static void read_token(wh_kube *kube)
{
    auto_free char *text = NULL;
    wh_err err = {0};
    if (kube->config.token_file == NULL) {
        if (kube->token == NULL && kube->config.token != NULL)
            kube->token = wh_xstrdup(kube->config.token);
        return;
    }
    if (wh_read_file(AT_FDCWD, kube->config.token_file, TOKEN_BYTES_MAX, &text, NULL, &err) < 0) {
        wh_log(WARN, "token file cannot be read; the old token stays in use", KV_ERR(&err));
        return;
    }
    wh_str token = wh_str_trim(wh_str_of(text));
    for (size_t i = 0; i < token.n; i++) {
        if (token.p[i] <= ' ' || token.p[i] > '~') {
            wh_log(WARN, "token file holds no token", KV_STR("file", kube->config.token_file));
            return;
        }
    }
    wipe(kube->token);
    kube->token = wh_xstrndup(token.p, token.n);
    explicit_bzero(text, strlen(text));
}

/* Both files or neither: a rotation may be half done when we look. */
static void read_certificate(wh_kube *kube)
{
    auto_free char *cert = NULL;
    auto_free char *key = NULL;
    if (kube->config.cert_file == NULL || kube->config.key_file == NULL)
        return;
    if (wh_read_file(AT_FDCWD, kube->config.cert_file, PEM_BYTES_MAX, &cert, NULL, NULL) < 0 ||
        wh_read_file(AT_FDCWD, kube->config.key_file, PEM_BYTES_MAX, &key, NULL, NULL) < 0 ||
        wh_cert_matches(cert, key, NULL) < 0)
        return;
    wh_kube_set_certificate(kube, cert, key);
    explicit_bzero(key, strlen(key));
}

static void refresh_credentials(wh_kube *kube, bool now)
{
    wh_time t = wh_loop_now(kube->loop);
    if (!now && kube->credentials_read != 0 && t - kube->credentials_read < CREDENTIALS_PERIOD)
        return;
    kube->credentials_read = t;
    read_token(kube);
    read_certificate(kube);
}

void wh_kube_set_certificate(wh_kube *kube, const char *cert_pem, const char *key_pem)
{
    if (wh_streq(kube->config.cert_pem, cert_pem) && wh_streq(kube->config.key_pem, key_pem))
        return;
    free(kube->config.cert_pem);
    wipe(kube->config.key_pem);
    kube->config.cert_pem = wh_xstrdup(cert_pem);
    kube->config.key_pem = wh_xstrdup(key_pem);
}

/* ---- requests ---- */

static int start_fetch(wh_kube *kube, wh_fetch_request *request, const char *path, const char *content_type,
                       const wh_fetch_callbacks *callbacks, void *user, wh_fetch **ret, wh_err *err)
{
    auto_free char *url = wh_xasprintf("%s%s", kube->config.server, path);
    auto_strv wh_strv headers = NULL;
    refresh_credentials(kube, false);
    wh_strv_push(&headers, "Accept: application/json");
    wh_strv_push_take(&headers, wh_xasprintf("User-Agent: %s", kube->user_agent));
    if (content_type != NULL)
        wh_strv_push_take(&headers, wh_xasprintf("Content-Type: %s", content_type));
    if (kube->token != NULL && kube->token[0] != '\0')
        wh_strv_push_take(&headers, wh_xasprintf("Authorization: Bearer %s", kube->token));
    request->url = url;
    request->headers = headers;
    request->tls = (wh_fetch_tls){
        .ca_pem = kube->config.ca_pem,
        .cert_pem = kube->config.cert_pem,
        .key_pem = kube->config.key_pem,
        .insecure = kube->config.insecure,
        .server_name = kube->config.server_name,
    };
    return wh_fetch_start(kube->fetcher, request, callbacks, user, ret, err);
}

int wh_kube_stream(wh_kube *kube, const char *path, wh_time timeout, const wh_fetch_callbacks *callbacks,
                   void *user, wh_fetch **ret, wh_err *err)
{
    wh_fetch_request request = {.timeout = timeout};
    return start_fetch(kube, &request, path, NULL, callbacks, user, ret, err);
}

static void free_call(wh_kube_call *call)
{
    TAILQ_REMOVE(call->queued ? &call->kube->waiting : &call->kube->running, call, link);
    wh_timer_stop(&call->retry);
    wh_fetch_cancel(call->fetch);
    free(call->method);
    free(call->path);
    free(call->body);
    free(call->content_type);
    free(call);
}

static void enqueue(wh_kube_call *call);

static void on_retry(wh_timer *timer)
{
    wh_kube_call *call = timer->user;
    TAILQ_REMOVE(&call->kube->running, call, link);
    enqueue(call);
}

/* A request that may have been carried out is said again only when twice is as good as once. */
static bool may_retry(const wh_kube_call *call, const wh_kube_result *result)
{
    bool repeatable = strcmp(call->method, "POST") != 0;
    if (result->class_ != WH_KUBE_TRANSIENT || call->tried >= call->tries)
        return false;
    if (result->status == 429 || result->retry_after >= 0)
        return true;
    if (result->status == 0 && (result->err.code == -ECONNREFUSED || result->err.code == -EHOSTUNREACH))
        return true;
    return repeatable && result->err.code != -EFBIG && result->err.code != -EPROTO;
}

static void end_call(wh_kube_call *call, const wh_kube_result *result)
{
    void (*done)(const wh_kube_result *, void *) = call->done;
    void *user = call->user;
    call->fetch = NULL;
    free_call(call);
    if (done != NULL)
        done(result, user);
}

static void on_answer(wh_fetch *fetch, const wh_fetch_result *answer, void *user)
{
    (void)fetch;
    wh_kube_call *call = user;
    wh_kube *kube = call->kube;
    call->fetch = NULL;
    auto_json json_t *body = NULL;
    if (answer->body_bytes > 0)
        (void)wh_json_parse(answer->body, answer->body_bytes, &body, NULL);
    wh_kube_result result;
    wh_kube_result_make(&result, call->method, call->path, answer, body);
    char label[32];
    (void)snprintf(label, sizeof(label), "%d\n%.16s", answer->status, call->method);
    wh_metric_add(&client_requests, label, 1);
    wh_kube_heard(kube, answer->status);
    wh_time wait = -1;
    if (result.class_ == WH_KUBE_UNAUTHORIZED && kube->config.token_file != NULL && !call->renewed) {
        call->renewed = true;
        refresh_credentials(kube, true);
        wait = 0;
    } else if (may_retry(call, &result)) {
        wait = wh_backoff_next(&call->backoff);
        if (result.retry_after >= 0)
            wait = WH_MIN(result.retry_after + wait / 4, CALL_RETRY_AFTER_MAX);
    }
    if (wait >= 0)
        wh_timer_start(kube->loop, &call->retry, wait, on_retry, call);
    else
        end_call(call, &result);
}

static void on_failed_start(wh_timer *timer)
{
    wh_kube_call *call = timer->user;
    wh_kube_result result = {.class_ = WH_KUBE_REFUSED, .reason = "", .retry_after = -1};
    (void)wh_fail(&result.err, -EINVAL, "%s %s: the request cannot be made with this kubeconfig.",
                  call->method, call->path);
    end_call(call, &result);
}

static void run_call(wh_kube_call *call)
{
    static const wh_fetch_callbacks callbacks = {.on_done = on_answer};
    wh_kube *kube = call->kube;
    call->queued = false;
    call->tried++;
    TAILQ_INSERT_TAIL(&kube->running, call, link);
    wh_fetch_request request = {
        .method = call->method,
        .body = call->body,
        .body_bytes = call->body == NULL ? 0 : strlen(call->body),
        .timeout = call->timeout,
        .body_bytes_max = WH_KUBE_BODY_BYTES_MAX,
    };
    if (start_fetch(kube, &request, call->path, call->content_type, &callbacks, call, &call->fetch, NULL) < 0)
        wh_timer_start(kube->loop, &call->retry, 0, on_failed_start, call);
}

/* ---- the rate limit: a bucket of tokens ---- */

static void run_waiting(wh_kube *kube);

static void on_turn(wh_timer *timer)
{
    run_waiting(timer->user);
}

static void run_waiting(wh_kube *kube)
{
    wh_time now = wh_mono_now();
    kube->tokens += (double)(now - kube->refilled) / (double)WH_SEC * kube->qps;
    kube->tokens = WH_MIN(kube->tokens, kube->burst);
    kube->refilled = now;
    while (!TAILQ_EMPTY(&kube->waiting) && kube->tokens >= 1) {
        wh_kube_call *call = TAILQ_FIRST(&kube->waiting);
        TAILQ_REMOVE(&kube->waiting, call, link);
        kube->tokens -= 1;
        run_call(call);
    }
    if (!TAILQ_EMPTY(&kube->waiting) && kube->turn.loop == NULL)
        wh_timer_start(kube->loop, &kube->turn,
                       (wh_time)((1 - kube->tokens) / kube->qps * (double)WH_SEC) + WH_USEC, on_turn, kube);
}

static void enqueue(wh_kube_call *call)
{
    call->queued = true;
    TAILQ_INSERT_TAIL(&call->kube->waiting, call, link);
    run_waiting(call->kube);
}

wh_kube_call *wh_kube_do(wh_kube *kube, const wh_kube_request *request,
                         void (*done)(const wh_kube_result *result, void *user), void *user)
{
    wh_kube_call *call = wh_xnew(wh_kube_call);
    call->kube = kube;
    call->method = wh_xstrdup(request->method == NULL ? "GET" : request->method);
    call->path = wh_xstrdup(request->path);
    if (request->body != NULL) {
        call->body = wh_json_dump(request->body);
        call->content_type = wh_xstrdup(request->content_type == NULL ? WH_KUBE_JSON : request->content_type);
    }
    call->timeout = request->timeout;
    call->tries = request->tries == 0 ? CALL_TRIES : request->tries;
    call->done = done;
    call->user = user;
    wh_backoff_init(&call->backoff, CALL_RETRY_FIRST, CALL_RETRY_MAX, wh_rng_next(&kube->rng));
    enqueue(call);
    return call;
}

void wh_kube_cancel(wh_kube_call *call)
{
    if (call != NULL)
        free_call(call);
}

/* ---- does it answer at all? ---- */

static void start_probe(wh_kube *kube);

static void on_probe_done(wh_fetch *fetch, const wh_fetch_result *answer, void *user)
{
    (void)fetch;
    wh_kube *kube = user;
    kube->probing = NULL;
    if (answer->status == 0 || answer->status >= 500)
        start_probe(kube);
    else
        wh_kube_heard(kube, answer->status);
}

static void on_probe(wh_timer *timer)
{
    static const wh_fetch_callbacks callbacks = {.on_done = on_probe_done};
    wh_kube *kube = timer->user;
    wh_fetch_request request = {.timeout = 5 * WH_SEC, .fresh = true, .body_bytes_max = 64UL << 10};
    if (start_fetch(kube, &request, "/readyz", NULL, &callbacks, kube, &kube->probing, NULL) < 0)
        start_probe(kube);
}

static void start_probe(wh_kube *kube)
{
    wh_time jitter = (wh_time)wh_rng_below(&kube->rng, (uint64_t)(PROBE_PERIOD / 2));
    wh_timer_start(kube->loop, &kube->probe, PROBE_PERIOD + jitter, on_probe, kube);
}

/* One prober per client notices the end of an outage within a second or so, and wakes everybody whose own back-off has
 * grown long by then. */
void wh_kube_heard(wh_kube *kube, int status)
{
    if (status == 0 && !kube->away) {
        kube->away = true;
        start_probe(kube);
    } else if (status != 0 && kube->away) {
        kube->away = false;
        wh_timer_stop(&kube->probe);
        wh_fetch_cancel(WH_TAKE(kube->probing));
        wh_kube_listener *listener = LIST_FIRST(&kube->listeners);
        while (listener != NULL) {
            wh_kube_listener *next = LIST_NEXT(listener, link);
            listener->fn(listener);
            listener = next;
        }
    }
}

void wh_kube_listen(wh_kube *kube, wh_kube_listener *listener)
{
    LIST_INSERT_HEAD(&kube->listeners, listener, link);
}

void wh_kube_unlisten(wh_kube_listener *listener)
{
    LIST_REMOVE(listener, link);
}

/* ---- life ---- */

int wh_kube_new(wh_loop *loop, const wh_kubeconfig *config, const wh_kube_options *options, wh_kube **ret,
                wh_err *err)
{
    wh_fetcher *fetcher = NULL;
    int r = wh_fetcher_new(loop, &fetcher, err);
    if (r < 0)
        return r;
    wh_kube *kube = wh_xnew(wh_kube);
    kube->loop = loop;
    kube->fetcher = fetcher;
    wh_kubeconfig_copy(config, &kube->config);
    const char *agent = options == NULL ? NULL : options->user_agent;
    kube->user_agent = wh_xstrdup(agent == NULL ? "wherry/" WH_VERSION : agent);
    kube->qps = options == NULL || options->qps <= 0 ? 50 : options->qps;
    kube->burst = options == NULL || options->burst <= 0 ? 100 : options->burst;
    kube->tokens = kube->burst;
    kube->refilled = wh_mono_now();
    kube->rng.state = random_seed();
    TAILQ_INIT(&kube->waiting);
    TAILQ_INIT(&kube->running);
    LIST_INIT(&kube->listeners);
    *ret = kube;
    return 0;
}

void wh_kube_free(wh_kube *kube)
{
    if (kube == NULL)
        return;
    wh_assert(LIST_EMPTY(&kube->listeners));
    while (!TAILQ_EMPTY(&kube->waiting))
        free_call(TAILQ_FIRST(&kube->waiting));
    while (!TAILQ_EMPTY(&kube->running))
        free_call(TAILQ_FIRST(&kube->running));
    wh_timer_stop(&kube->turn);
    wh_timer_stop(&kube->probe);
    wh_fetcher_free(kube->fetcher);
    wh_kubeconfig_done(&kube->config);
    wipe(kube->token);
    free(kube->user_agent);
    free(kube);
}

wh_loop *wh_kube_loop(const wh_kube *kube)
{
    return kube->loop;
}

const wh_kubeconfig *wh_kube_config(const wh_kube *kube)
{
    return &kube->config;
}
