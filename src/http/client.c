/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP client: what its user calls, the life of a call, and the connections that are kept for the next one. */
#include "http/client_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

#define CLIENT_MAGIC 0x7768636cu
#define CALL_MAGIC 0x77686361u
#define CONN_MAGIC 0x7768636eu
#define IDLE_MAX 16
#define IDLE_TIME (15 * WH_SEC)
#define CONNECT_TIMEOUT (30 * WH_SEC)
#define BYTES_TIMEOUT (60 * WH_SEC)

/* ---- connections ---- */

static void free_conn(void *user)
{
    client_conn *c = user;
    wh_assert(c->magic == CONN_MAGIC);
    c->magic = 0;
    wh_h1_done(&c->h1);
    free(c->in);
    free(c->key);
    free(c);
}

void client_conn_close(client_conn *c)
{
    wh_assert(c->magic == CONN_MAGIC);
    wh_assert(c->fd >= 0);
    wh_client *client = c->client;
    if (c->call == NULL) {
        TAILQ_REMOVE(&client->idle, c, link);
        client->n_idle--;
    } else {
        c->call->conn = NULL;
        c->call = NULL;
    }
    wh_io_stop(&c->io);
    wh_timer_stop(&c->idle_timer);
    if (c->tls != NULL) {
        client->tls_ops->shutdown(c->tls);
        client->tls_ops->free(c->tls);
        c->tls = NULL;
    }
    close(c->fd);
    c->fd = -1;
    wh_loop_defer(client->loop, free_conn, c);
}

static void on_idle_timeout(wh_timer *timer)
{
    client_conn_close(timer->user);
}

/* An end, or bytes that nobody asked for: either way it is of no use any more. TLS may have something to say that is
 * none of these (a session ticket). */
static bool is_still_idle(client_conn *c)
{
    char byte;
    return client_conn_read(c, &byte, 1) == -EAGAIN;
}

static void on_idle_io(wh_io *io, uint32_t ready)
{
    client_conn *c = io->user;
    if ((ready & (EPOLLERR | EPOLLHUP)) != 0 || !is_still_idle(c))
        client_conn_close(c);
}

/* The call is done with its connection, which waits for another one. */
static void keep_conn(client_conn *c)
{
    wh_client *client = c->client;
    c->call->conn = NULL;
    c->call = NULL;
    free(WH_TAKE(c->in));
    c->in_at = c->in_end = 0;
    c->io.fn = on_idle_io;
    wh_io_set(&c->io, EPOLLIN);
    wh_timer_start(client->loop, &c->idle_timer, client->idle_time, on_idle_timeout, c);
    TAILQ_INSERT_HEAD(&client->idle, c, link);
    if (++client->n_idle > client->idle_max)
        client_conn_close(TAILQ_LAST(&client->idle, client_idle));
}

/* A kept connection to the same server that still lives. */
static client_conn *take_idle(wh_client *client, const char *key)
{
    client_conn *c = TAILQ_FIRST(&client->idle);
    while (c != NULL) {
        client_conn *after = TAILQ_NEXT(c, link);
        if (strcmp(c->key, key) == 0) {
            if (is_still_idle(c)) {
                TAILQ_REMOVE(&client->idle, c, link);
                client->n_idle--;
                wh_timer_stop(&c->idle_timer);
                return c;
            }
            client_conn_close(c);
        }
        c = after;
    }
    return NULL;
}

static void use_conn(wh_client_call *call, client_conn *c)
{
    c->call = call;
    call->conn = c;
    c->io.fn = client_on_io;
    c->in = c->in == NULL ? malloc(CLIENT_READ_BYTES) : c->in;
    wh_h1_asked_for(&c->h1, call->asked);
    client_kick(call);
}

static client_conn *conn_new(wh_client *client, int fd)
{
    client_conn *c = wh_xnew(client_conn);
    c->magic = CONN_MAGIC;
    c->client = client;
    c->fd = fd;
    c->read_wants = EPOLLIN;
    c->write_wants = EPOLLOUT;
    wh_h1_init_response(&c->h1, NULL);
    return c;
}

/* ---- the life of a call ---- */

static void free_call(void *user)
{
    wh_client_call *call = user;
    wh_assert(call->magic == CALL_MAGIC);
    call->magic = 0;
    wh_buf_done(&call->out);
    free(call->key);
    free(call->host);
    free(call);
}

/* No callback follows, and nothing of the loop points to it but deferred calls, which see that it is over. */
static void end_call(wh_client_call *call)
{
    wh_client *client = call->client;
    call->over = true;
    wh_timer_stop(&call->timer);
    if (call->conn != NULL)
        client_conn_close(call->conn);
    if (call->connected_fd >= 0)
        close(WH_TAKE_FD(call->connected_fd));
    if (call->token != 0) {
        uint64_t token = call->token;
        call->token = 0;
        client->connector.cancel(client->connector.user, token);
    }
    LIST_REMOVE(call, link);
    client->n_calls--;
    wh_loop_defer(client->loop, free_call, call);
}

void client_say(wh_client_call *call, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(call->why, sizeof(call->why), fmt, args);
    va_end(args);
}

void client_finish(wh_client_call *call, wh_client_error error, bool reuse)
{
    const wh_h1_field *trailers = NULL;
    size_t n = 0;
    if (error == WH_CLIENT_OK) {
        trailers = call->conn->h1.trailers;
        n = call->conn->h1.n_trailers;
        call->why[0] = '\0';
    }
    if (reuse)
        keep_conn(call->conn); /* nothing is read on it before the callback has seen the trailers */
    end_call(call);
    call->callbacks.on_done(call, error, call->why, trailers, n, call->user);
}

static wh_client_error connect_error(int rc)
{
    switch (rc) {
    case -EACCES:
    case -EPERM:
        return WH_CLIENT_DENIED;
    case -ENOENT:
    case -EAGAIN:
        return WH_CLIENT_DNS;
    case -ETIMEDOUT:
        return WH_CLIENT_TIMEOUT;
    case -ENOMEM:
        return WH_CLIENT_NO_MEMORY;
    default:
        return WH_CLIENT_REFUSED;
    }
}

/* A socket is there, or it is clear that there will be none. */
static void begin_connection(wh_client_call *call)
{
    wh_client *client = call->client;
    if (call->connect_rc < 0) {
        if (call->why[0] == '\0')
            client_say(call, "connect to '%s' port %u: %s", call->host, call->port,
                       strerror(-call->connect_rc));
        client_finish(call, connect_error(call->connect_rc), false);
        return;
    }
    client_conn *c = conn_new(client, WH_TAKE_FD(call->connected_fd));
    c->key = wh_xstrdup(call->key);
    use_conn(call, c);
    wh_err err = {0};
    int r = wh_io_start(client->loop, &c->io, c->fd, 0, client_on_io, c);
    if (r < 0 || c->in == NULL) {
        client_say(call, "connect to '%s' port %u: no memory or watch for the connection", call->host,
                   call->port);
        client_finish(call, WH_CLIENT_NO_MEMORY, false);
        return;
    }
    if (call->https) {
        if (client->tls_ops->connect(client->tls, c->fd, call->host, &c->tls, &err) < 0) {
            client_say(call, "%s", err.msg);
            client_finish(call, WH_CLIENT_TLS, false);
            return;
        }
        c->handshaking = true;
    }
    client_pump(call);
}

static void on_kick(void *user)
{
    wh_client_call *call = user;
    wh_assert(call->magic == CALL_MAGIC);
    call->kicked = false;
    if (call->over)
        return;
    if (call->failure != WH_CLIENT_OK)
        client_finish(call, call->failure, false);
    else if (call->conn == NULL && call->token == 0)
        begin_connection(call);
    else
        client_pump(call);
}

void client_kick(wh_client_call *call)
{
    if (call->kicked || call->over)
        return;
    call->kicked = true;
    wh_loop_defer(call->client->loop, on_kick, call);
}

void client_connect(wh_client_call *call)
{
    wh_client *client = call->client;
    call->token = ++client->last_token;
    client_update_timer(call);
    client->connector.connect(client->connector.user, call->token, call->host, call->port,
                              call->connect_timeout);
}

void wh_client_connected(wh_client *client, uint64_t token, int rc, int fd)
{
    wh_assert(client->magic == CLIENT_MAGIC);
    wh_client_call *call;
    LIST_FOREACH(call, &client->calls, link)
    if (call->token == token)
        break;
    if (call == NULL || token == 0) { /* cancelled while the answer was under way */
        if (fd >= 0)
            close(fd);
        return;
    }
    call->token = 0;
    call->connect_rc = rc < 0 ? rc : fd < 0 ? -EIO : 0;
    call->connected_fd = fd;
    client_kick(call);
}

/* ---- starting a call ---- */

static char *lower_case(wh_str name)
{
    char *copy = wh_xstrndup(name.p, name.n);
    for (char *p = copy; *p != '\0'; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p - 'A' + 'a');
    return copy;
}

/* "[v6]" loses its brackets; a colon anywhere else is no host. */
static bool strip_brackets(wh_str *host)
{
    bool open = host->n > 0 && host->p[0] == '[';
    if (host->n < 3 || !open || host->p[host->n - 1] != ']')
        return host->n > 0 && memchr(host->p, ':', host->n) == NULL && memchr(host->p, ']', host->n) == NULL;
    *host = (wh_str){host->p + 1, host->n - 2};
    return true;
}

/* "host", "host:port", "[v6]", "[v6]:port". */
static int parse_authority(wh_client_call *call, wh_str authority)
{
    const char *colon = authority.n == 0 ? NULL : memrchr(authority.p, ':', authority.n);
    const char *bracket = authority.n == 0 ? NULL : memrchr(authority.p, ']', authority.n);
    call->port = call->https ? 443 : 80;
    wh_str host = authority;
    if (colon != NULL && (bracket == NULL || colon > bracket)) {
        host.n = (size_t)(colon - authority.p);
        auto_free char *text = wh_xstrndup(colon + 1, WH_MIN(authority.n - host.n - 1, (size_t)6));
        uint64_t port = 0;
        if (wh_parse_u64(text, UINT16_MAX, &port) < 0 || port == 0)
            return -EINVAL;
        call->port = (uint16_t)port;
    }
    if (!strip_brackets(&host) || host.n > 253)
        return -EINVAL;
    call->host = lower_case(host);
    call->key = wh_xasprintf("%s %s %u", call->https ? "https" : "http", call->host, call->port);
    return 0;
}

static bool is_ours(wh_str name)
{
    char lower[32];
    if (name.n >= sizeof(lower))
        return false;
    for (size_t i = 0; i < name.n; i++)
        lower[i] = (char)(name.p[i] >= 'A' && name.p[i] <= 'Z' ? name.p[i] - 'A' + 'a' : name.p[i]);
    lower[name.n] = '\0';
    return wh_h1_is_hop_field((wh_str){lower, name.n}) || strcmp(lower, "host") == 0 ||
           strcmp(lower, "content-length") == 0 || strcmp(lower, "expect") == 0;
}

static int write_framing(wh_client_call *call, const wh_client_request *request)
{
    if (request->body_bytes < 0) {
        call->chunked = true;
        return wh_h1_write_field(&call->out, "Transfer-Encoding", "chunked");
    }
    call->body_left = (uint64_t)request->body_bytes;
    call->request_ended = request->body_bytes == 0;
    /* Methods that mean something by their body say that it is empty (RFC 9110 8.6). */
    static const char *const with_body[] = {"POST", "PUT", "PATCH"};
    bool says_length = request->body_bytes > 0;
    for (size_t i = 0; i < WH_ARRAY_LEN(with_body); i++)
        says_length = says_length || wh_str_eq(request->method, wh_str_of(with_body[i]));
    return says_length ? wh_buf_printf(&call->out, "Content-Length: %llu\r\n",
                                       (unsigned long long)request->body_bytes)
                       : 0;
}

static int write_head(wh_client_call *call, const wh_client_request *request, wh_err *err)
{
    auto_free char *target =
        wh_xasprintf("%s%.*s", request->path_query.n == 0 || request->path_query.p[0] == '?' ? "/" : "",
                     WH_STR_ARG(request->path_query));
    int r = wh_h1_write_request(&call->out, request->method, wh_str_of(target), request->authority);
    if (r < 0)
        return wh_fail(err, r, "send '%.*s %.60s' to '%.*s': method, path or host cannot be sent",
                       WH_STR_ARG(request->method), target, WH_STR_ARG(request->authority));
    for (size_t i = 0; i < request->n_fields; i++) {
        const wh_h1_field *field = &request->fields[i];
        r = is_ours(field->name) ? -EINVAL : wh_h1_write_field_n(&call->out, field->name, field->value);
        if (r < 0)
            return wh_fail(err, r, "send a request: the field '%.*s' cannot be sent",
                           (int)WH_MIN(field->name.n, (size_t)60), field->name.p);
    }
    r = write_framing(call, request);
    if (r == 0)
        r = wh_buf_append(&call->out, "\r\n", 2);
    if (r == 0 && call->out.len > WH_HTTP_HEAD_BYTES_MAX)
        r = -ENOBUFS;
    return r < 0 ? wh_fail(err, r, "send a request: its head is too large") : 0;
}

static bool is_idempotent(wh_str method) /* RFC 9110 9.2.2, of those that need no body */
{
    static const char *const names[] = {"GET", "HEAD", "OPTIONS", "TRACE", "DELETE", "PUT"};
    for (size_t i = 0; i < WH_ARRAY_LEN(names); i++)
        if (wh_str_eq(method, wh_str_of(names[i])))
            return true;
    return false;
}

static int prepare(wh_client_call *call, const wh_client_request *request, wh_err *err)
{
    call->https = wh_str_eq(request->scheme, WH_STR("https"));
    if (!call->https && !wh_str_eq(request->scheme, WH_STR("http")))
        return wh_fail(err, -EINVAL, "send a request: scheme '%.*s' is neither http nor https",
                       (int)WH_MIN(request->scheme.n, (size_t)60), request->scheme.p);
    if (parse_authority(call, request->authority) < 0)
        return wh_fail(err, -EINVAL, "send a request: '%.*s' is no host and port",
                       (int)WH_MIN(request->authority.n, (size_t)120), request->authority.p);
    int r = write_head(call, request, err);
    if (r < 0)
        return r;
    call->asked = wh_str_eq(request->method, WH_STR("HEAD")) ? WH_H1_ASKED_HEAD : WH_H1_ASKED_PLAIN;
    call->replayable = request->body_bytes == 0 && is_idempotent(request->method);
    call->connect_timeout = request->connect_timeout > 0 ? request->connect_timeout : CONNECT_TIMEOUT;
    call->first_byte_timeout = request->first_byte_timeout > 0 ? request->first_byte_timeout : BYTES_TIMEOUT;
    call->between_bytes_timeout =
        request->between_bytes_timeout > 0 ? request->between_bytes_timeout : BYTES_TIMEOUT;
    return 0;
}

int wh_client_start(wh_client *client, const wh_client_request *request, const wh_client_callbacks *callbacks,
                    void *user, wh_client_call **ret, wh_err *err)
{
    wh_assert(client->magic == CLIENT_MAGIC);
    wh_assert(callbacks->on_done != NULL);
    if (client->n_calls >= WH_HTTP_CLIENT_CALLS_MAX)
        return wh_fail(err, -EAGAIN, "send a request: %d are under way already; wait for some to end",
                       WH_HTTP_CLIENT_CALLS_MAX);
    wh_client_call *call = wh_xnew(wh_client_call);
    call->magic = CALL_MAGIC;
    call->client = client;
    call->callbacks = *callbacks;
    call->user = user;
    call->connected_fd = -1;
    wh_buf_init(&call->out,
                WH_HTTP_HEAD_BYTES_MAX + 2 * WH_HTTP_STREAM_BYTES_MAX + WH_HTTP_TRAILER_BYTES_MAX);
    int r = prepare(call, request, err);
    if (r < 0) {
        free_call(call);
        return r;
    }
    LIST_INSERT_HEAD(&client->calls, call, link);
    client->n_calls++;
    *ret = call;
    if (call->https && client->tls == NULL) {
        call->failure = WH_CLIENT_TLS;
        client_say(call, "connect to '%s': no certificate authority is configured for https", call->host);
        client_kick(call);
        return 0;
    }
    client_conn *kept = take_idle(client, call->key);
    if (kept != NULL) {
        kept->reused = true;
        use_conn(call, kept);
        if (kept->in == NULL) {
            call->failure = WH_CLIENT_NO_MEMORY;
            client_say(call, "connect to '%s': no memory for the connection", call->host);
        }
    } else {
        client_connect(call);
    }
    return 0;
}

/* ---- the request's body ---- */

int wh_client_write(wh_client_call *call, const void *p, size_t n)
{
    wh_assert(call->magic == CALL_MAGIC);
    if (call->over || call->request_ended || call->write_failed || call->failure != WH_CLIENT_OK)
        return -EPIPE;
    if (!call->chunked && n > call->body_left)
        return -EMSGSIZE;
    if (n > WH_HTTP_STREAM_BYTES_MAX - WH_MIN(client_waiting(call), WH_HTTP_STREAM_BYTES_MAX))
        return -ENOBUFS;
    int r = call->chunked ? wh_h1_write_chunk(&call->out, p, n) : wh_buf_append(&call->out, p, n);
    if (r < 0) {
        call->out.failed = false;
        return -ENOBUFS;
    }
    if (!call->chunked)
        call->body_left -= n;
    client_kick(call);
    if (client_waiting(call) <= CLIENT_HIGH_BYTES)
        return 0;
    call->above = true;
    return -EAGAIN;
}

int wh_client_end(wh_client_call *call, const wh_h1_field *trailers, size_t n)
{
    wh_assert(call->magic == CALL_MAGIC);
    if (n > 0 && !call->chunked)
        return -EINVAL;
    if (call->over || call->request_ended || call->write_failed || call->failure != WH_CLIENT_OK)
        return 0;
    if (call->chunked) {
        int r = wh_h1_write_last_chunk(&call->out, trailers, n);
        if (r < 0) {
            call->out.failed = false;
            return r == -EINVAL ? r : -ENOBUFS;
        }
    } else if (call->body_left > 0) {
        call->failure = WH_CLIENT_TERMINATED;
        client_say(call, "the request's body ended %llu bytes short of its length",
                   (unsigned long long)call->body_left);
    }
    call->request_ended = true;
    client_kick(call);
    return 0;
}

/* ---- the rest ---- */

void wh_client_pause(wh_client_call *call, bool paused)
{
    wh_assert(call->magic == CALL_MAGIC);
    if (call->paused == paused)
        return;
    call->paused = paused;
    client_kick(call);
}

void wh_client_cancel(wh_client_call *call)
{
    wh_assert(call->magic == CALL_MAGIC);
    if (!call->over)
        end_call(call);
}

size_t wh_client_idle(const wh_client *client)
{
    return client->n_idle;
}

int wh_client_new(wh_loop *loop, const wh_client_options *options, wh_client **ret, wh_err *err)
{
    wh_client *client = wh_xnew(wh_client);
    client->magic = CLIENT_MAGIC;
    client->loop = loop;
    client->connector = options->connector;
    client->idle_max = options->idle_max > 0 ? options->idle_max : IDLE_MAX;
    client->idle_time = options->idle_time > 0 ? options->idle_time : IDLE_TIME;
    LIST_INIT(&client->calls);
    TAILQ_INIT(&client->idle);
    if (options->ca_pem != NULL && options->tls != NULL) {
        client->tls_ops = options->tls;
        int r = options->tls->client_new(options->ca_pem, &client->tls, err);
        if (r < 0) {
            free(client);
            return r;
        }
    }
    *ret = client;
    return 0;
}

static void free_client(void *user)
{
    free(user);
}

void wh_client_free(wh_client *client)
{
    if (client == NULL)
        return;
    wh_assert(client->magic == CLIENT_MAGIC);
    while (!LIST_EMPTY(&client->calls))
        end_call(LIST_FIRST(&client->calls));
    while (!TAILQ_EMPTY(&client->idle))
        client_conn_close(TAILQ_FIRST(&client->idle));
    if (client->tls != NULL)
        client->tls_ops->client_free(client->tls);
    client->magic = 0;
    wh_loop_defer(client->loop, free_client, client); /* behind what its calls and connections wait for */
}
