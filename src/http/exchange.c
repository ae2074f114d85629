/* SPDX-License-Identifier: Apache-2.0 */
/* The answer as a handler writes it. What HTTP/1 makes of it stands here too; HTTP/2 has its own file. */
#include "http/server_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <strings.h>
#include <time.h>

#define DATE_TIME (100 * WH_MSEC)

static wh_http_conn *conn_of(wh_http_exchange *x)
{
    wh_assert(x->conn->magic == HTTP_CONN_MAGIC);
    return x->conn;
}

/* The handler said its last word. */
static void finish(wh_http_exchange *x)
{
    wh_http_conn *c = conn_of(x);
    if (!x->detached)
        wh_http_count(c, x->status);
    x->active = false;
    x->gone_due = false;
    if (x->stream != NULL)
        wh_h2_touch(x);
    wh_http_conn_kick(c);
}

const char *wh_http_date_line(const wh_loop *loop)
{
    static _Thread_local char text[48];
    static _Thread_local int64_t second;
    static _Thread_local wh_time fresh;
    static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    if (wh_loop_now(loop) < fresh) /* real time is asked for a few times a second */
        return text;
    fresh = wh_loop_now(loop) + DATE_TIME;
    time_t now = (time_t)(wh_real_now() / WH_SEC);
    if (now != second) {
        struct tm tm;
        (void)gmtime_r(&now, &tm);
        (void)snprintf(text, sizeof(text), "Date: %s, %02d %s %04d %02d:%02d:%02d GMT\r\n", days[tm.tm_wday],
                       tm.tm_mday, months[tm.tm_mon], (tm.tm_year + 1900) % 10000, tm.tm_hour, tm.tm_min,
                       tm.tm_sec);
        second = now;
    }
    return text;
}

/* ---- fields ---- */

static bool is_one_of(wh_str name, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strlen(names[i]) == name.n && strncasecmp(name.p, names[i], name.n) == 0)
            return true;
    return false;
}

static int put_line(wh_buf *out, wh_str name, wh_str value)
{
    int r = wh_h1_write_field_n(out, name, value);
    if (r < 0)
        out->failed = false; /* what is there is whole, and goes out */
    return r;
}

int wh_http_header_n(wh_http_exchange *x, wh_str name, wh_str value)
{
    static const char *const ours[] = {"date",    "connection", "content-length",  "transfer-encoding",
                                       "upgrade", "keep-alive", "proxy-connection"};
    wh_assert(x->active);
    if (is_one_of(name, ours, WH_ARRAY_LEN(ours)))
        return -EINVAL;
    return put_line(&x->fields, name, value);
}

int wh_http_header(wh_http_exchange *x, const char *name, const char *value)
{
    return wh_http_header_n(x, wh_str_of(name), wh_str_of(value));
}

int wh_http_trailer(wh_http_exchange *x, wh_str name, wh_str value)
{
    char text[64];
    size_t n = WH_MIN(name.n, sizeof(text));
    wh_assert(x->active);
    for (size_t i = 0; i < n; i++)
        text[i] = name.p[i] >= 'A' && name.p[i] <= 'Z' ? (char)(name.p[i] - 'A' + 'a') : name.p[i];
    if (wh_h1_is_forbidden_trailer((wh_str){text, n}))
        return -EINVAL;
    return put_line(&x->trailers, name, value);
}

const wh_h1_field *wh_http_trailers(const wh_http_exchange *x, size_t *ret_n)
{
    if (x->stream != NULL)
        return wh_h2_trailers(x, ret_n);
    bool there = x->body_over && x->conn->state != HTTP_UPGRADED;
    *ret_n = there ? x->conn->h1.n_trailers : 0;
    return there ? x->conn->h1.trailers : NULL;
}

/* ---- heads ---- */

static bool is_head(const wh_http_exchange *x)
{
    return x->request.method[0] == 'H' && strcmp(x->request.method, "HEAD") == 0;
}

static bool status_has_no_body(int status)
{
    return status < 200 || status == 204 || status == 304;
}

static char *put(char *to, const char *p, size_t n)
{
    memcpy(to, p, n);
    return to + n;
}
#define PUT_TEXT(to, text) put(to, text, sizeof(text) - 1)

static char *put_length(char *to, uint64_t n)
{
    char digits[24] __attribute__((uninitialized));
    char *end = digits + sizeof(digits);
    char *p = end;
    do {
        *--p = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    to = PUT_TEXT(to, "Content-Length: ");
    to = put(to, p, (size_t)(end - p));
    return PUT_TEXT(to, "\r\n");
}

/* What the connection and the body's end depend on, and the end of the head. */
static char *put_framing(char *to, const wh_http_exchange *x, int64_t length)
{
    if (x->close)
        to = PUT_TEXT(to, "Connection: close\r\n");
    else if (x->conn->h1.minor == 0)
        to = PUT_TEXT(to, "Connection: keep-alive\r\n");
    if (x->chunked)
        to = PUT_TEXT(to, "Transfer-Encoding: chunked\r\n");
    else if (length >= 0 && !status_has_no_body(x->status))
        to = put_length(to, (uint64_t)length);
    return PUT_TEXT(to, "\r\n");
}

/* What we write ourselves, all lines together, and 200's status line. */
#define HEAD_BYTES_MAX 192

/* length: of the body, or -1 when it is not known beforehand. The head, and the body when it is here, are written
 * in one go. */
static void put_head(wh_http_exchange *x, const char *content_type, int64_t length, wh_str body)
{
    wh_http_conn *c = conn_of(x);
    wh_buf *out = &c->out;
    size_t type_n = content_type == NULL ? 0 : strlen(content_type);
    if (type_n > 0 && !wh_h1_is_value((wh_str){content_type, type_n}))
        type_n = 0;
    bool usual = x->status == 200;
    if ((!usual && wh_h1_write_status(out, x->status) < 0) ||
        wh_buf_reserve(out, HEAD_BYTES_MAX + x->fields.len + type_n + body.n) < 0)
        return;
    char *to = out->p + out->len;
    if (usual)
        to = PUT_TEXT(to, "HTTP/1.1 200 OK\r\n");
    to = put(to, wh_http_date_line(c->loop), WH_HTTP_DATE_LINE_BYTES);
    if (x->fields.len > 0)
        to = put(to, x->fields.p, x->fields.len);
    if (type_n > 0) {
        to = PUT_TEXT(to, "Content-Type: ");
        to = put(to, content_type, type_n);
        to = PUT_TEXT(to, "\r\n");
    }
    to = put_framing(to, x, length);
    if (body.n > 0)
        to = put(to, body.p, body.n);
    *to = '\0';
    out->len = (size_t)(to - out->p);
}

/* What could not be written whole must not look whole. */
static void check_output(wh_http_conn *c)
{
    if (c->out.failed)
        wh_http_conn_break(c);
}

/* body: the whole one of an answer that does not stream, or {NULL, 0}. */
static void begin_h1(wh_http_exchange *x, const char *content_type, int64_t length, bool whole, wh_str body)
{
    wh_http_conn *c = x->conn;
    if (!x->body_over && whole)
        wh_http_conn_skip_body(c);
    if (!x->body_over && (whole || x->callbacks.on_data == NULL))
        x->close = true; /* what is left of the request is not worth reading */
    bool unframed = length < 0 && !x->no_body;
    x->chunked = unframed && c->h1.minor > 0;
    if (unframed && !x->chunked)
        x->close = true;
    if (c->server != NULL && c->server->draining)
        x->close = true;
    put_head(x, content_type, length, x->no_body ? (wh_str){NULL, 0} : body);
    check_output(c);
}

/* Who answers while it reads wants the body that the client holds back. */
static void ask_for_body(wh_http_exchange *x)
{
    if (x->callbacks.on_data == NULL)
        return;
    if (x->stream != NULL)
        wh_h2_continue(x);
    else
        wh_http_conn_continue(x->conn);
}

/* Decides how the answer is framed, and writes its head. `whole`: the body follows at once. */
static void begin(wh_http_exchange *x, int status, const char *content_type, int64_t length, bool whole,
                  wh_str body)
{
    wh_assert(x->active);
    wh_assert(!x->begun);
    wh_assert(status >= 200);
    wh_assert(status <= 999);
    if (!whole && !x->detached)
        ask_for_body(x);
    x->begun = true;
    x->status = status;
    x->no_body = is_head(x) || status_has_no_body(status);
    if (x->detached)
        return;
    if (!whole && length >= 0 && !x->no_body) {
        x->has_left = true;
        x->left = (uint64_t)length;
    }
    if (x->stream != NULL)
        wh_h2_begin(x, status, content_type, length, whole && (x->no_body || length == 0));
    else
        begin_h1(x, content_type, length, whole, body);
}

void wh_http_info(wh_http_exchange *x, int status)
{
    wh_assert(x->active);
    wh_assert(!x->begun);
    wh_assert(status > 101 && status < 200);
    if (x->detached)
        return;
    if (x->stream != NULL) {
        wh_h2_info(x, status);
        return;
    }
    if (x->conn->h1.minor == 0)
        return;
    (void)wh_h1_write_status(&x->conn->out, status);
    (void)wh_buf_puts(&x->conn->out, "\r\n");
    check_output(x->conn);
    wh_http_conn_kick(x->conn);
}

/* ---- whole answers ---- */

void wh_http_reply(wh_http_exchange *x, int status, const char *content_type, const void *body, size_t n)
{
    begin(x, status, content_type, (int64_t)n, true, (wh_str){body, n});
    if (x->stream != NULL && !x->detached && !x->no_body && n > 0)
        (void)wh_h2_write(x, body, n);
    if (x->stream != NULL && !x->detached)
        wh_h2_end(x);
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

/* ---- streamed answers ---- */

void wh_http_watch(wh_http_exchange *x, const wh_http_stream_callbacks *callbacks, void *user)
{
    wh_assert(x->active);
    bool wanted = wh_http_wants_body(x);
    x->callbacks = callbacks != NULL ? *callbacks : (wh_http_stream_callbacks){0};
    x->user = user;
    if (!wanted && wh_http_wants_body(x)) {
        if (x->stream != NULL)
            wh_h2_touch(x);
        wh_http_conn_kick(x->conn);
    }
}

void wh_http_begin(wh_http_exchange *x, int status, const char *content_type)
{
    begin(x, status, content_type, -1, false, (wh_str){NULL, 0});
    if (!x->detached)
        wh_http_conn_kick(x->conn);
}

void wh_http_begin_length(wh_http_exchange *x, int status, const char *content_type, uint64_t bytes)
{
    wh_assert(bytes <= INT64_MAX);
    begin(x, status, content_type, (int64_t)bytes, false, (wh_str){NULL, 0});
    if (!x->detached)
        wh_http_conn_kick(x->conn);
}

/* Breaks off an answer that its handler still owns. */
static void cut(wh_http_exchange *x)
{
    if (x->detached)
        return;
    if (x->stream != NULL)
        wh_h2_reset(x);
    else
        wh_http_conn_break(x->conn);
}

static int write_h1(wh_http_conn *c, const wh_http_exchange *x, const void *p, size_t n)
{
    if (x->chunked)
        (void)wh_buf_printf(&c->out, "%zx\r\n", n);
    (void)wh_buf_append(&c->out, p, n);
    if (x->chunked)
        (void)wh_buf_append(&c->out, "\r\n", 2);
    if (c->out.failed) {
        wh_http_conn_break(c);
        return -EPIPE;
    }
    return 0;
}

int wh_http_write(wh_http_exchange *x, const void *p, size_t n)
{
    wh_http_conn *c = conn_of(x);
    wh_assert(x->active);
    wh_assert(x->begun);
    if (x->detached)
        return -EPIPE;
    if (n == 0 || x->no_body)
        return 0;
    size_t waiting = x->stream != NULL ? wh_h2_waiting(x) : wh_http_conn_waiting(c);
    if (n > WH_HTTP_STREAM_BYTES_MAX || waiting > WH_HTTP_STREAM_BYTES_MAX - n)
        return -ENOBUFS;
    if (x->has_left && n > x->left) { /* more than was declared cannot be told from the next answer */
        cut(x);
        return -EPIPE;
    }
    x->left -= x->has_left ? n : 0;
    int r = x->stream != NULL ? wh_h2_write(x, p, n) : write_h1(c, x, p, n);
    if (r < 0)
        return r;
    wh_http_conn_kick(c);
    if (waiting + n <= HTTP_HIGH_BYTES)
        return 0;
    x->above = true;
    return -EAGAIN;
}

static void end_h1(wh_http_exchange *x)
{
    wh_http_conn *c = x->conn;
    if (!x->chunked)
        return;
    (void)wh_buf_append(&c->out, "0\r\n", 3);
    if (x->trailers.len > 0)
        (void)wh_buf_append(&c->out, x->trailers.p, x->trailers.len);
    (void)wh_buf_append(&c->out, "\r\n", 2);
    check_output(c);
}

void wh_http_end(wh_http_exchange *x)
{
    wh_assert(x->active);
    /* An answer that never began, or is too short, must not look whole. */
    if (!x->begun || (x->has_left && x->left > 0)) {
        wh_http_abort(x);
        return;
    }
    if (!x->detached) {
        if (x->stream != NULL)
            wh_h2_end(x);
        else
            end_h1(x);
    }
    finish(x);
}

void wh_http_abort(wh_http_exchange *x)
{
    wh_http_conn *c = conn_of(x);
    wh_assert(x->active);
    x->active = false;
    x->gone_due = false;
    cut(x);
    if (x->stream != NULL)
        wh_h2_touch(x);
    wh_http_conn_kick(c);
}

bool wh_http_is_gone(const wh_http_exchange *x)
{
    return x->gone;
}

void wh_http_upgrade(wh_http_exchange *x, const char *protocol)
{
    wh_http_conn *c = conn_of(x);
    wh_assert(x->active);
    wh_assert(!x->begun);
    x->begun = true;
    x->status = 101;
    x->close = true;
    if (x->detached)
        return;
    if (x->stream != NULL) { /* RFC 9113 8.6: there is no such thing */
        wh_h2_reset(x);
        return;
    }
    (void)wh_h1_write_status(&c->out, 101);
    (void)wh_buf_append(&c->out, wh_buf_str(&x->fields), x->fields.len);
    (void)wh_buf_puts(&c->out, "Connection: Upgrade\r\n");
    if (put_line(&c->out, WH_STR("Upgrade"), wh_str_of(protocol)) < 0 || wh_buf_puts(&c->out, "\r\n") < 0) {
        wh_http_conn_break(c);
        return;
    }
    c->state = HTTP_UPGRADED;
    x->eof_told = false;
    wh_http_conn_kick(c);
}

void wh_http_pause(wh_http_exchange *x, bool paused)
{
    wh_http_conn *c = conn_of(x);
    x->paused = paused;
    if (paused || x->detached)
        return;
    if (x->stream != NULL)
        wh_h2_touch(x);
    wh_http_conn_kick(c);
}
