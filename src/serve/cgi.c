/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/cgi.h"

#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

#define SOFTWARE "wherry/" WH_VERSION
#define GUESS_BYTES 512

/* ---- the environment ---- */

static bool is_one_of(wh_str name, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strlen(list[i]) == name.n && strncasecmp(name.p, list[i], name.n) == 0)
            return true;
    return false;
}

/* Of this connection and not of the request; and "proxy". */
static bool is_left_out(wh_str name)
{
    static const char *const list[] = {"connection",     "keep-alive",        "te",
                                       "trailer",        "proxy-connection",  "upgrade",
                                       "http2-settings", "transfer-encoding", "proxy"};
    return is_one_of(name, list, WH_ARRAY_LEN(list));
}

static void put(wh_buf *b, const char *name, wh_str value)
{
    (void)wh_buf_puts(b, name);
    (void)wh_buf_putc(b, '=');
    (void)wh_buf_append(b, value.p, value.n);
    (void)wh_buf_append(b, "", 1);
}

static void put_text(wh_buf *b, const char *name, const char *value)
{
    put(b, name, wh_str_of(value));
}

/* "x-call-id" as X_CALL_ID, or as X_Call_Id. */
static void put_name(wh_buf *b, wh_str name, bool upper)
{
    bool first = true;
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        if (c >= 'a' && c <= 'z' && (upper || first))
            c = (char)(c - 'a' + 'A');
        first = c == '-';
        (void)wh_buf_putc(b, c == '-' ? '_' : c);
    }
}

static bool came_before(const wh_http_request *q, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (wh_str_eq(q->fields[k].name, q->fields[i].name))
            return true;
    return false;
}

static void put_values(wh_buf *b, const wh_http_request *q, size_t i)
{
    (void)wh_buf_putc(b, '=');
    (void)wh_buf_append(b, q->fields[i].value.p, q->fields[i].value.n);
    for (size_t k = i + 1; k < q->n_fields; k++) {
        if (!wh_str_eq(q->fields[k].name, q->fields[i].name))
            continue;
        (void)wh_buf_puts(b, wh_str_eq(q->fields[i].name, WH_STR("cookie")) ? "; " : ", ");
        (void)wh_buf_append(b, q->fields[k].value.p, q->fields[k].value.n);
    }
    (void)wh_buf_append(b, "", 1);
}

static void put_fields(wh_buf *b, const wh_http_request *q)
{
    for (size_t i = 0; i < q->n_fields; i++) {
        wh_str name = q->fields[i].name;
        if (is_left_out(name) || wh_str_eq(name, WH_STR("x-call-id")) || came_before(q, i))
            continue;
        /* CGI has names of their own for these two. */
        if (!wh_str_eq(name, WH_STR("content-length")) && !wh_str_eq(name, WH_STR("content-type"))) {
            (void)wh_buf_puts(b, "HTTP_");
            put_name(b, name, true);
            put_values(b, q, i);
        }
        if (wh_str_eq(name, WH_STR("host"))) /* below, under its own name */
            continue;
        (void)wh_buf_puts(b, "Http_");
        put_name(b, name, false);
        put_values(b, q, i);
    }
}

/* "[::1]:80" to "[::1]" and "80". */
static void split_authority(const char *authority, wh_str *ret_host, wh_str *ret_port)
{
    const char *after = strchr(authority, ']');
    const char *colon = strchr(after != NULL ? after : authority, ':');
    *ret_host = colon != NULL ? (wh_str){authority, (size_t)(colon - authority)} : wh_str_of(authority);
    *ret_port = colon != NULL ? wh_str_of(colon + 1) : (wh_str){NULL, 0};
}

static wh_str raw_path(const wh_http_request *q)
{
    wh_str path = wh_str_of(q->target);
    const char *mark = strchr(q->target, '?');
    if (mark != NULL)
        path.n = (size_t)(mark - q->target);
    return path;
}

static void put_server(wh_buf *b, const wh_http_request *q)
{
    wh_str host, port;
    split_authority(q->authority, &host, &port);
    put(b, "SERVER_NAME", host);
    put(b, "SERVER_PORT", port.n > 0 ? port : q->is_tls ? WH_STR("443") : WH_STR("80"));
    put_text(b, "SERVER_PROTOCOL",
             q->version == 20   ? "HTTP/2.0"
             : q->version == 10 ? "HTTP/1.0"
                                : "HTTP/1.1");
    put_text(b, "SERVER_SOFTWARE", SOFTWARE);
    put_text(b, "GATEWAY_INTERFACE", "CGI/1.1");
}

static void put_cgi(wh_buf *b, const wh_http_request *q)
{
    char ip[WH_ADDR_TEXT_MAX] = "", length[24] = "";
    if (q->peer_addr != NULL)
        (void)wh_addr_ip(q->peer_addr, ip);
    if (q->length >= 0)
        (void)snprintf(length, sizeof(length), "%" PRId64, q->length);
    put_text(b, "REQUEST_METHOD", q->method);
    put_text(b, "QUERY_STRING", q->query);
    put_text(b, "PATH_INFO", q->path);
    put_text(b, "PATH_TRANSLATED", q->path);
    put_text(b, "SCRIPT_NAME", "");
    put(b, "CONTENT_TYPE", wh_http_field_get(q, "content-type"));
    put_text(b, "CONTENT_LENGTH", length);
    put_server(b, q);
    put_text(b, "REMOTE_ADDR", ip);
    put_text(b, "REMOTE_HOST", ip);
    put_text(b, "REMOTE_USER", "");
    put_text(b, "AUTH_TYPE", "");
    put_text(b, "X_MATCHED_ROUTE", "/...");
    put(b, "X_RAW_PATH_INFO", raw_path(q));
    (void)wh_buf_printf(b, "X_FULL_URL=%s://%s%s", q->scheme, q->authority, q->target);
    (void)wh_buf_append(b, "", 1);
}

static void put_watchdog(wh_buf *b, const wh_http_request *q)
{
    put_text(b, "Http_Method", q->method);
    put_text(b, "Http_Path", q->path);
    put_text(b, "Http_Query", q->query);
    put_text(b, "Http_Host", q->authority);
    (void)wh_buf_printf(b, "Http_ContentLength=%" PRId64, q->length);
    (void)wh_buf_append(b, "", 1);
}

/* The strings of a blob, each behind the NUL of the one before. */
static int index_text(wh_cgi_env *env)
{
    size_t count = 0;
    const char *end = env->text.p + env->text.len;
    for (const char *p = env->text.p; p < end; p += strlen(p) + 1)
        count++;
    env->v = calloc(count + 1, sizeof(*env->v));
    if (env->v == NULL)
        return -ENOMEM;
    count = 0;
    for (char *p = env->text.p; p < end; p += strlen(p) + 1)
        env->v[count++] = p;
    return 0;
}

int wh_cgi_env_init(wh_cgi_env *env, const wh_http_request *q, const char *id, char *const *base)
{
    wh_buf *b = &env->text;
    env->v = NULL;
    wh_buf_init(b, WH_ENV_BYTES_MAX);
    for (; base != NULL && *base != NULL; base++)
        (void)wh_buf_append(b, *base, strlen(*base) + 1);
    put_cgi(b, q);
    put_watchdog(b, q);
    put_text(b, "HTTP_X_CALL_ID", id);
    put_text(b, "Http_X_Call_Id", id);
    put_fields(b, q);
    int rc = b->failed ? -ENOBUFS : index_text(env);
    if (rc < 0)
        wh_cgi_env_done(env);
    return rc;
}

void wh_cgi_env_done(wh_cgi_env *env)
{
    wh_buf_done(&env->text);
    free(env->v);
    env->v = NULL;
}

int wh_cgi_args(const wh_http_request *q, wh_strv *ret)
{
    wh_str query = wh_str_of(q->query), item;
    wh_strv args = NULL;
    wh_strv_push(&args, q->path);
    for (size_t n = 0; n < WH_HTTP_PARAMS_MAX && wh_str_split(&query, '&', &item); n++) {
        if (item.n > 0)
            wh_strv_push_take(&args, wh_xstrndup(item.p, item.n));
    }
    *ret = args;
    return 0;
}

/* ---- the answer ---- */

static int parse_status(wh_str value, int *ret, wh_err *err)
{
    bool digits = value.n >= 3;
    int status = 0;
    for (size_t i = 0; digits && i < 3; i++) {
        digits = value.p[i] >= '0' && value.p[i] <= '9';
        status = status * 10 + (value.p[i] - '0');
    }
    if (!digits || status < 200 || status > 599 || (value.n > 3 && value.p[3] != ' '))
        return wh_fail(err, -EBADMSG, "the status '%.*s' is none of 200 to 599.",
                       (int)WH_MIN(value.n, (size_t)40), value.p);
    if (*ret != 0)
        return wh_fail(err, -EBADMSG, "'Status' came twice.");
    *ret = status;
    return 0;
}

static int parse_length(wh_str value, int64_t *ret, wh_err *err)
{
    char text[24];
    uint64_t length;
    if (value.n >= sizeof(text))
        return wh_fail(err, -EBADMSG, "'Content-Length' is no number.");
    memcpy(text, value.p, value.n);
    text[value.n] = '\0';
    if (wh_parse_u64(text, INT64_MAX, &length) < 0)
        return wh_fail(err, -EBADMSG, "'Content-Length' is no number.");
    if (*ret >= 0)
        return wh_fail(err, -EBADMSG, "'Content-Length' came twice.");
    *ret = (int64_t)length;
    return 0;
}

static int take_field(wh_cgi_head *head, wh_str name, wh_str value, wh_err *err)
{
    static const char *const status[] = {"status"}, *const length[] = {"content-length"},
                             *const type[] = {"content-type"};
    if (is_one_of(name, status, 1))
        return parse_status(value, &head->status, err);
    if (is_one_of(name, length, 1))
        return parse_length(value, &head->length, err);
    if (is_one_of(name, type, 1)) {
        if (head->content_type.p != NULL)
            return wh_fail(err, -EBADMSG, "'Content-Type' came twice.");
        head->content_type = value;
        return 0;
    }
    if (is_left_out(name))
        return wh_fail(err, -EBADMSG, "the field '%.*s' is not a guest's to set.", WH_STR_ARG(name));
    if (head->n_fields >= WH_SERVE_FIELDS_MAX)
        return wh_fail(err, -EBADMSG, "more than %d header fields.", WH_SERVE_FIELDS_MAX);
    head->fields[head->n_fields++] = (wh_h1_field){name, value};
    return 0;
}

static int take_line(wh_cgi_head *head, wh_str line, wh_err *err)
{
    const char *colon = memchr(line.p, ':', line.n);
    if (colon == NULL)
        return wh_fail(err, -EBADMSG, "line '%.*s' of the header block has no colon.",
                       (int)WH_MIN(line.n, (size_t)60), line.p);
    wh_str name = {line.p, (size_t)(colon - line.p)};
    wh_str value = wh_str_trim((wh_str){colon + 1, line.n - name.n - 1});
    if (!wh_h1_is_token(name) || name.n > 256)
        return wh_fail(err, -EBADMSG, "a field's name is no token.");
    if (!wh_h1_is_value(value))
        return wh_fail(err, -EBADMSG, "the value of '%.*s' holds a control character.", WH_STR_ARG(name));
    return take_field(head, name, value, err);
}

static int check_head(wh_cgi_head *head, wh_err *err)
{
    static const char *const location[] = {"location"};
    bool located = false;
    for (size_t i = 0; i < head->n_fields; i++)
        located |= is_one_of(head->fields[i].name, location, 1);
    if (head->content_type.p == NULL && !located)
        return wh_fail(err, -EBADMSG, "neither 'Content-Type' nor 'Location' in the header block.");
    if (head->status == 0)
        head->status = located ? 302 : 200;
    return 0;
}

ssize_t wh_cgi_head_parse(const char *p, size_t n, bool end, wh_cgi_head *ret, wh_err *err)
{
    size_t at = 0;
    ret->status = 0;
    ret->length = -1;
    ret->content_type = (wh_str){NULL, 0};
    ret->n_fields = 0;
    for (;;) {
        const char *newline = memchr(p + at, '\n', n - at);
        if (newline == NULL)
            break;
        wh_str line = {p + at, (size_t)(newline - p) - at};
        at += line.n + 1;
        if (at > WH_SERVE_HEAD_BYTES_MAX)
            break;
        if (line.n > 0 && line.p[line.n - 1] == '\r')
            line.n--;
        int rc = line.n == 0 ? check_head(ret, err) : take_line(ret, line, err);
        if (rc < 0)
            return rc;
        if (line.n == 0)
            return (ssize_t)at;
    }
    if (n > WH_SERVE_HEAD_BYTES_MAX)
        return wh_fail(err, -EBADMSG, "the header block has more than %lu bytes.", WH_SERVE_HEAD_BYTES_MAX);
    if (end)
        return wh_fail(err, -EBADMSG, "the output ends before the empty line behind the header block.");
    return 0;
}

const char *wh_cgi_guess_type(const char *p, size_t n)
{
    size_t looked = WH_MIN(n, (size_t)GUESS_BYTES);
    /* A sequence that the limit cuts in two is whole in the text. */
    for (unsigned i = 0; i < 3 && looked > 0 && looked < n && ((unsigned char)p[looked] & 0xc0) == 0x80; i++)
        looked--;
    for (size_t i = 0; i < looked; i++)
        if (p[i] == '\0' || ((unsigned char)p[i] < 0x20 && strchr("\t\n\f\r\x1b", p[i]) == NULL))
            return "application/octet-stream";
    return wh_utf8_valid(p, looked) ? "text/plain; charset=utf-8" : "application/octet-stream";
}
