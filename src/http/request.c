/* SPDX-License-Identifier: Apache-2.0 */
/* A request as its handler sees it, the same for every protocol: strings with a NUL behind them, the path decoded. */
#include "http/server_private.h"

#include <strings.h>

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

/* Decodes into `out`, which holds raw.n + 1 bytes. An encoded slash is never a slash: refused, or left as it is. */
static int decode(wh_str raw, bool keep_slash, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < raw.n; i++) {
        char ch = raw.p[i];
        uint8_t byte = 0;
        if (ch == '%') {
            if (raw.n - i < 3 || wh_unhex(raw.p + i + 1, 2, &byte) < 0 || byte == 0)
                return -EBADMSG;
            if (byte == '/' && !keep_slash)
                return -EBADMSG;
            if (byte != '/') {
                ch = (char)byte;
                i += 2;
            }
        }
        out[n++] = ch;
    }
    out[n] = '\0';
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

static char *put(char **at, wh_str s)
{
    char *p = *at;
    if (s.n > 0)
        memcpy(p, s.p, s.n);
    p[s.n] = '\0';
    *at = p + s.n + 1;
    return p;
}

/* One meaning for each path: what decodes to a NUL or a dot segment is refused rather than interpreted. */
static int set_path(wh_http_exchange *x, const wh_http_head *head, char *at, bool streaming)
{
    wh_http_request *r = &x->request;
    if (!head->has_query && memchr(head->path.p, '%', head->path.n) == NULL) {
        r->path = r->target;
    } else {
        if (decode(head->path, streaming, at) < 0)
            return -EBADMSG;
        r->path = at;
    }
    if (r->path[0] != '/' && strcmp(r->path, "*") != 0)
        return -EBADMSG;
    return head->path.n > 1 && has_dot_segment(r->path) ? -EBADMSG : 0;
}

int wh_http_request_set(wh_http_exchange *x, const wh_http_head *head)
{
    const wh_http_conn *c = x->conn;
    bool streaming = c->server->options.streaming;
    wh_http_request *r = &x->request;
    size_t need = head->method.n + 2 * head->path.n + head->query.n + head->authority.n + 5;
    if (wh_buf_reserve(&x->text, need) < 0)
        return -ENOMEM;
    char *at = x->text.p;
    r->method = put(&at, head->method);
    r->authority = put(&at, head->authority);
    char *target = put(&at, head->path);
    r->target = target;
    r->query = "";
    if (head->has_query) {
        at[-1] = '?';
        r->query = put(&at, head->query);
    }
    int rc = set_path(x, head, at, streaming);
    if (rc == 0 && !streaming && head->query.n > 0)
        rc = decode_params(x, head->query);
    if (rc < 0)
        return rc;
    r->scheme = c->tls == NULL ? "http" : "https";
    r->version = head->version;
    r->length = head->length;
    r->fields = head->fields;
    r->n_fields = head->n_fields;
    r->body = "";
    r->peer = c->tls == NULL ? NULL : c->tls_ops->peer_of(c->tls);
    r->peer_addr = &c->peer_addr;
    r->is_unix = c->is_unix;
    r->is_tls = c->tls != NULL;
    r->peer_uid = c->peer_uid;
    r->peer_pid = c->peer_pid;
    return 0;
}

int wh_http_request_set_h1(wh_http_conn *c)
{
    const wh_h1 *h = &c->h1;
    wh_str authority = WH_STR("");
    for (size_t i = 0; i < h->n_fields && authority.n == 0; i++)
        if (h->fields[i].name.n == 4 && memcmp(h->fields[i].name.p, "host", 4) == 0)
            authority = h->fields[i].value;
    wh_http_head head = {.method = h->method,
                         .path = h->path,
                         .query = h->query,
                         .authority = authority,
                         .has_query = h->query.p > h->target.p && h->query.p <= h->target.p + h->target.n,
                         .fields = h->fields,
                         .n_fields = h->n_fields,
                         .version = 10 + h->minor,
                         .length = h->chunked ? -1 : (int64_t)h->length};
    return wh_http_request_set(&c->x, &head);
}

/* ---- life ---- */

void wh_http_exchange_init(wh_http_exchange *x, wh_http_conn *c)
{
    *x = (wh_http_exchange){.conn = c};
    wh_buf_init(&x->text, 4 * WH_HTTP_HEAD_BYTES_MAX);
    wh_buf_init(&x->body, c->server->options.body_bytes_max);
    wh_buf_init(&x->fields, WH_HTTP_HEAD_BYTES_MAX);
    wh_buf_init(&x->trailers, WH_HTTP_TRAILER_BYTES_MAX);
}

static void free_params(wh_http_exchange *x)
{
    for (size_t i = 0; i < x->request.n_params; i++) {
        free(x->params[i].name);
        free(x->params[i].value);
    }
    free(x->params);
    x->params = NULL;
    x->request.n_params = 0;
}

/* One large request must not cost its memory for as long as the connection idles. */
void wh_http_buf_give_back(wh_buf *b)
{
    if (b->len == 0 && !b->failed)
        return;
    if (b->cap <= HTTP_KEEP_BYTES) {
        wh_buf_reset(b);
        return;
    }
    size_t max = b->max;
    wh_buf_done(b);
    wh_buf_init(b, max);
}

void wh_http_exchange_reset(wh_http_exchange *x)
{
    if (x->params != NULL)
        free_params(x);
    wh_http_buf_give_back(&x->text);
    wh_http_buf_give_back(&x->body);
    wh_http_buf_give_back(&x->fields);
    wh_http_buf_give_back(&x->trailers);
    x->request.body_bytes = 0;
    x->callbacks = (wh_http_stream_callbacks){0};
    x->user = NULL;
    x->left = 0;
    x->active = x->begun = x->detached = x->has_left = x->chunked = x->no_body = x->close = false;
    x->gone = x->gone_due = x->above = x->paused = x->body_over = x->eof_told = x->continued = false;
    x->status = 0;
}

void wh_http_exchange_done(wh_http_exchange *x)
{
    free_params(x);
    wh_buf_done(&x->text);
    wh_buf_done(&x->body);
    wh_buf_done(&x->fields);
    wh_buf_done(&x->trailers);
}

/* ---- for handlers ---- */

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
