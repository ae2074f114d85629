/* SPDX-License-Identifier: Apache-2.0 */
/* A request as its handler sees it, and the answer as the handler writes it. */
#include "http/server_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <strings.h>
#include <time.h>

static wh_http_conn *conn_of(wh_http_exchange *x)
{
    wh_http_conn *c = WH_CONTAINER_OF(x, wh_http_conn, x);
    wh_assert(c->magic == HTTP_CONN_MAGIC);
    return c;
}

/* ---- the request ---- */

static bool has_dot_segment(const char *path)
{
    for (const char *p = path; (p = strstr(p, "/.")) != NULL; p++) {
        const char *q = p + 2;
        q += *q == '.';
        if (*q == '/' || *q == '\0')
            return true;
    }
    return false;
}

/* One meaning for each path: what decodes to a slash, a NUL or a dot segment is refused rather than interpreted. */
static int decode_path(wh_str raw, char **ret)
{
    for (size_t i = 0; i + 2 < raw.n; i++)
        if (strncasecmp(raw.p + i, "%2f", 3) == 0)
            return -EBADMSG;
    auto_free char *path = NULL;
    int r = wh_percent_decode(raw, false, &path);
    if (r < 0)
        return r;
    if ((path[0] != '/' && strcmp(path, "*") != 0) || has_dot_segment(path))
        return -EBADMSG;
    *ret = WH_TAKE(path);
    return 0;
}

static int decode_params(wh_http_exchange *x, wh_str query)
{
    size_t count = 0;
    wh_str rest = query;
    wh_str piece;
    while (wh_str_split(&rest, '&', &piece))
        count += piece.n > 0;
    if (count > WH_HTTP_PARAMS_MAX)
        return -EBADMSG;
    x->params = wh_xcalloc(count + 1, sizeof(*x->params));
    x->request.params = x->params;
    rest = query;
    while (wh_str_split(&rest, '&', &piece)) {
        if (piece.n == 0)
            continue;
        const char *equals = memchr(piece.p, '=', piece.n);
        size_t n = equals == NULL ? piece.n : (size_t)(equals - piece.p);
        wh_str value = equals == NULL ? WH_STR("") : (wh_str){equals + 1, piece.n - n - 1};
        wh_http_param *param = &x->params[x->request.n_params];
        int r = wh_percent_decode((wh_str){piece.p, n}, true, &param->name);
        if (r == 0)
            r = wh_percent_decode(value, true, &param->value);
        if (r < 0) {
            free(param->name);
            param->name = NULL;
            return r;
        }
        x->request.n_params++;
    }
    return 0;
}

int wh_http_exchange_begin(wh_http_conn *c)
{
    wh_http_exchange *x = &c->x;
    const wh_h1 *h = &c->h1;
    bool draining = c->server->draining;
    *x = (wh_http_exchange){.close = !h->keep_alive || draining || c->requests >= WH_HTTP_REQUESTS_MAX};
    wh_buf_init(&x->fields, WH_HTTP_HEAD_BYTES_MAX);
    int r = decode_path(h->path, &x->path);
    if (r == 0)
        r = decode_params(x, h->query);
    if (r < 0) {
        wh_http_exchange_done(x);
        return -EBADMSG;
    }
    x->method = wh_xstrndup(h->method.p, h->method.n);
    x->query = wh_xstrndup(h->query.p, h->query.n);
    x->request.method = x->method;
    x->request.path = x->path;
    x->request.query = x->query;
    x->request.fields = h->fields;
    x->request.n_fields = h->n_fields;
    x->request.body = wh_buf_str(&c->body);
    x->request.body_bytes = c->body.len;
    x->request.peer = c->tls == NULL ? NULL : wh_tls_peer_of(c->tls);
    x->request.peer_addr = &c->peer_addr;
    x->request.is_unix = c->is_unix;
    x->request.is_tls = c->tls != NULL;
    x->request.peer_uid = c->peer_uid;
    x->request.peer_pid = c->peer_pid;
    x->active = true;
    return 0;
}

void wh_http_exchange_done(wh_http_exchange *x)
{
    for (size_t i = 0; i < x->request.n_params; i++) {
        free(x->params[i].name);
        free(x->params[i].value);
    }
    free(x->params);
    free(x->method);
    free(x->path);
    free(x->query);
    wh_buf_done(&x->fields);
    *x = (wh_http_exchange){0};
}

const wh_http_request *wh_http_request_of(const wh_http_exchange *x)
{
    return &x->request;
}

const char *wh_http_param_get(const wh_http_request *request, const char *name)
{
    for (size_t i = 0; i < request->n_params; i++)
        if (strcmp(request->params[i].name, name) == 0)
            return request->params[i].value;
    return NULL;
}

wh_str wh_http_field_get(const wh_http_request *request, const char *name)
{
    for (size_t i = 0; i < request->n_fields; i++)
        if (wh_str_eq(request->fields[i].name, wh_str_of(name)))
            return request->fields[i].value;
    return (wh_str){NULL, 0};
}

wh_str wh_http_bearer(const wh_http_request *request)
{
    wh_str v = wh_http_field_get(request, "authorization");
    if (v.n <= 7 || strncasecmp(v.p, "bearer ", 7) != 0)
        return (wh_str){NULL, 0};
    wh_str token = wh_str_trim((wh_str){v.p + 7, v.n - 7});
    return token.n == 0 ? (wh_str){NULL, 0} : token;
}

/* ---- the answer ---- */

static void finish(wh_http_exchange *x)
{
    wh_http_conn *c = conn_of(x);
    wh_http_count(c, x->status);
    x->active = false;
    x->gone_due = false;
    wh_http_conn_kick(c);
}

static const char *http_date(void)
{
    static _Thread_local char text[40];
    static _Thread_local int64_t second;
    static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t now = (time_t)(wh_real_now() / WH_SEC);
    if (now != second) {
        struct tm tm;
        (void)gmtime_r(&now, &tm);
        (void)snprintf(text, sizeof(text), "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday],
                       tm.tm_mday, months[tm.tm_mon], (tm.tm_year + 1900) % 10000, tm.tm_hour, tm.tm_min,
                       tm.tm_sec);
        second = now;
    }
    return text;
}

int wh_http_header(wh_http_exchange *x, const char *name, const char *value)
{
    static const char *const ours[] = {"date", "connection", "content-length", "transfer-encoding",
                                       "upgrade"};
    wh_assert(x->active);
    for (size_t i = 0; i < WH_ARRAY_LEN(ours); i++)
        if (strcasecmp(name, ours[i]) == 0)
            return -EINVAL;
    return wh_h1_write_field(&x->fields, name, value);
}

static bool has_no_body(const wh_http_exchange *x, int status)
{
    return strcmp(x->method, "HEAD") == 0 || status < 200 || status == 204 || status == 304;
}

/* Everything of a head but what frames the body and the empty line. */
static void put_head(wh_http_exchange *x, int status, const char *content_type)
{
    wh_http_conn *c = conn_of(x);
    x->status = status;
    x->close = x->close || (c->server != NULL && c->server->draining);
    (void)wh_h1_write_status(&c->out, status);
    (void)wh_buf_append(&c->out, wh_buf_str(&x->fields), x->fields.len);
    (void)wh_buf_printf(&c->out, "Date: %s\r\n", http_date());
    if (content_type != NULL)
        (void)wh_h1_write_field(&c->out, "Content-Type", content_type);
    if (x->close)
        (void)wh_buf_puts(&c->out, "Connection: close\r\n");
    else if (c->h1.minor == 0)
        (void)wh_buf_puts(&c->out, "Connection: keep-alive\r\n");
}

/* What could not be written whole must not look whole. */
static void check_output(wh_http_conn *c)
{
    if (c->out.failed)
        wh_http_conn_break(c);
}

void wh_http_reply(wh_http_exchange *x, int status, const char *content_type, const void *body, size_t n)
{
    wh_http_conn *c = conn_of(x);
    wh_assert(x->active && !x->begun);
    if (c->state != HTTP_DEAD) {
        put_head(x, status, content_type);
        if (status >= 200 && status != 204 && status != 304)
            (void)wh_buf_printf(&c->out, "Content-Length: %zu\r\n", n);
        (void)wh_buf_puts(&c->out, "\r\n");
        if (!has_no_body(x, status) && n > 0)
            (void)wh_buf_append(&c->out, body, n);
        check_output(c);
    }
    finish(x);
}

void wh_http_replyf(wh_http_exchange *x, int status, const char *fmt, ...)
{
    auto_buf wh_buf text;
    wh_buf_init(&text, 64UL << 10);
    va_list args;
    va_start(args, fmt);
    (void)wh_buf_vprintf(&text, fmt, args);
    va_end(args);
    wh_http_reply(x, status, "text/plain; charset=utf-8", wh_buf_str(&text), text.len);
}

void wh_http_watch(wh_http_exchange *x, const wh_http_stream_callbacks *callbacks, void *user)
{
    wh_assert(x->active);
    x->callbacks = *callbacks;
    x->user = user;
}

void wh_http_begin(wh_http_exchange *x, int status, const char *content_type)
{
    wh_http_conn *c = conn_of(x);
    wh_assert(x->active && !x->begun);
    x->begun = true;
    if (c->state == HTTP_DEAD)
        return;
    x->no_body = has_no_body(x, status);
    x->chunked = !x->no_body && c->h1.minor > 0;
    x->close = x->close || (!x->no_body && !x->chunked);
    put_head(x, status, content_type);
    (void)wh_buf_puts(&c->out, x->chunked ? "Transfer-Encoding: chunked\r\n\r\n" : "\r\n");
    check_output(c);
    wh_http_conn_kick(c);
}

int wh_http_write(wh_http_exchange *x, const void *p, size_t n)
{
    wh_http_conn *c = conn_of(x);
    wh_assert(x->active && x->begun);
    if (c->state == HTTP_DEAD)
        return -EPIPE;
    if (n == 0 || x->no_body)
        return 0;
    if (n > WH_HTTP_STREAM_BYTES_MAX || wh_http_conn_waiting(c) > WH_HTTP_STREAM_BYTES_MAX - n)
        return -ENOBUFS;
    if (x->chunked)
        (void)wh_buf_printf(&c->out, "%zx\r\n", n);
    (void)wh_buf_append(&c->out, p, n);
    if (x->chunked)
        (void)wh_buf_puts(&c->out, "\r\n");
    if (c->out.failed) {
        wh_http_conn_break(c);
        return -EPIPE;
    }
    wh_http_conn_kick(c);
    if (wh_http_conn_waiting(c) <= HTTP_HIGH_BYTES)
        return 0;
    x->above = true;
    return -EAGAIN;
}

void wh_http_end(wh_http_exchange *x)
{
    wh_http_conn *c = conn_of(x);
    wh_assert(x->active);
    if (!x->begun) { /* there is no answer that could end */
        wh_http_abort(x);
        return;
    }
    if (c->state != HTTP_DEAD && x->chunked) {
        (void)wh_buf_puts(&c->out, "0\r\n\r\n");
        check_output(c);
    }
    finish(x);
}

void wh_http_abort(wh_http_exchange *x)
{
    wh_assert(x->active);
    x->active = false;
    wh_http_conn *c = conn_of(x);
    if (c->state == HTTP_DEAD)
        wh_http_conn_kick(c);
    else
        wh_http_conn_break(c);
}

bool wh_http_is_gone(const wh_http_exchange *x)
{
    return x->gone;
}

void wh_http_upgrade(wh_http_exchange *x, const char *protocol)
{
    wh_http_conn *c = conn_of(x);
    wh_assert(x->active && !x->begun);
    x->begun = true;
    x->status = 101;
    x->close = true;
    if (c->state == HTTP_DEAD)
        return;
    (void)wh_h1_write_status(&c->out, 101);
    (void)wh_buf_append(&c->out, wh_buf_str(&x->fields), x->fields.len);
    (void)wh_buf_puts(&c->out, "Connection: Upgrade\r\n");
    if (wh_h1_write_field(&c->out, "Upgrade", protocol) < 0 || wh_buf_puts(&c->out, "\r\n") < 0) {
        wh_http_conn_break(c);
        return;
    }
    c->state = HTTP_UPGRADED;
    wh_http_conn_kick(c);
}

void wh_http_pause(wh_http_exchange *x, bool paused)
{
    wh_http_conn *c = conn_of(x);
    x->paused = paused;
    if (!paused && c->state != HTTP_DEAD)
        wh_http_conn_kick(c);
}
