/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP client: libcurl's multi interface, told by our loop when sockets are ready and when time has
 * passed. libcurl allows none of its calls inside its callbacks, so adding and removing transfers waits for
 * the next turn of the loop. */
#include "http/fetch.h"

#include "base/limits.h"

#include <curl/curl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <strings.h>
#include <sys/queue.h>
#include <sys/socket.h>

#define FETCH_MAGIC 0x77666368u
#define FETCH_BODY_BYTES_DEFAULT (16UL << 20)
#define FETCH_REDIRECTS_MAX 10
#define FETCH_KEPT_MAX 64L

typedef enum { FETCH_WAITING, FETCH_RUNNING, FETCH_FINISHED } fetch_state;

struct wh_fetch {
    unsigned magic;
    LIST_ENTRY(wh_fetch) link;
    wh_fetcher *fetcher;
    CURL *easy;
    struct curl_slist *headers, *connect_to;
    wh_fetch_callbacks callbacks;
    void *user;
    fetch_state state;
    bool cancelled, follow, too_big;
    int redirects;
    wh_buf body;
    wh_time retry_after;
    char errbuf[CURL_ERROR_SIZE];
};

typedef struct fetch_socket {
    LIST_ENTRY(fetch_socket) link;
    wh_io io;
    wh_fetcher *fetcher;
} fetch_socket;

struct wh_fetcher {
    wh_loop *loop;
    CURLM *multi;
    wh_timer timer; /* libcurl's */
    wh_timer work;  /* ours: there is something to add, remove or finish */
    LIST_HEAD(, wh_fetch) fetches;
    LIST_HEAD(, fetch_socket) sockets;
};

static void schedule_work(wh_fetcher *f);

/* ---- sockets and time ---- */

static void on_socket_ready(wh_io *io, uint32_t ready)
{
    wh_fetcher *f = ((fetch_socket *)io->user)->fetcher;
    int what = 0;
    if ((ready & EPOLLIN) != 0)
        what |= CURL_CSELECT_IN;
    if ((ready & EPOLLOUT) != 0)
        what |= CURL_CSELECT_OUT;
    if ((ready & (EPOLLERR | EPOLLHUP)) != 0)
        what |= CURL_CSELECT_ERR | CURL_CSELECT_IN;
    int running;
    (void)curl_multi_socket_action(f->multi, io->fd, what, &running);
    schedule_work(f);
}

static void drop_socket(fetch_socket *s)
{
    wh_io_stop(&s->io);
    LIST_REMOVE(s, link);
    free(s);
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *socket_user)
{
    (void)easy;
    wh_fetcher *f = user;
    fetch_socket *s = socket_user;
    if (what == CURL_POLL_REMOVE) {
        if (s != NULL)
            drop_socket(s);
        (void)curl_multi_assign(f->multi, fd, NULL);
        return 0;
    }
    uint32_t events = 0;
    if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
        events |= EPOLLIN;
    if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
        events |= EPOLLOUT;
    if (s != NULL) {
        wh_io_set(&s->io, events);
        return 0;
    }
    s = wh_xnew(fetch_socket);
    s->fetcher = f;
    if (wh_io_start(f->loop, &s->io, fd, events, on_socket_ready, s) < 0) {
        free(s);
        return -1;
    }
    LIST_INSERT_HEAD(&f->sockets, s, link);
    (void)curl_multi_assign(f->multi, fd, s);
    return 0;
}

static void on_timer(wh_timer *timer)
{
    wh_fetcher *f = timer->user;
    int running;
    (void)curl_multi_socket_action(f->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    schedule_work(f);
}

static int on_curl_timer(CURLM *multi, long timeout_ms, void *user)
{
    (void)multi;
    wh_fetcher *f = user;
    if (timeout_ms < 0)
        wh_timer_stop(&f->timer);
    else
        wh_timer_start(f->loop, &f->timer, timeout_ms * WH_MSEC, on_timer, f);
    return 0;
}

/* ---- what comes back ---- */

/* RFC 9110 10.2.3: seconds, or a date. */
static wh_time parse_retry_after(wh_str v)
{
    char text[64];
    uint64_t seconds;
    if (v.n == 0 || v.n >= sizeof(text))
        return -1;
    memcpy(text, v.p, v.n);
    text[v.n] = '\0';
    if (wh_parse_u64(text, 24UL * 3600, &seconds) == 0)
        return (wh_time)seconds * WH_SEC;
    time_t at = curl_getdate(text, NULL);
    if (at < 0)
        return -1;
    wh_time wait = (wh_time)at * WH_SEC - wh_real_now();
    return WH_MIN(WH_MAX(wait, (wh_time)0), 24 * WH_HOUR);
}

static long status_of(CURL *easy)
{
    long status = 0;
    (void)curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

static size_t on_header(char *p, size_t size, size_t n, void *user)
{
    wh_fetch *f = user;
    size_t len = size * n;
    if (f->cancelled)
        return 0;
    wh_str line = wh_str_trim((wh_str){p, len});
    if (line.n > 12 && strncasecmp(line.p, "retry-after:", 12) == 0)
        f->retry_after = parse_retry_after(wh_str_trim((wh_str){line.p + 12, line.n - 12}));
    long status = status_of(f->easy);
    if (line.n == 0 && status >= 200 && f->callbacks.on_head != NULL)
        f->callbacks.on_head(f, (int)status, f->user);
    return f->cancelled ? 0 : len;
}

static size_t on_body(char *p, size_t size, size_t n, void *user)
{
    wh_fetch *f = user;
    size_t len = size * n;
    if (f->cancelled)
        return 0;
    if (f->callbacks.on_data != NULL) {
        f->callbacks.on_data(f, p, len, f->user);
        return f->cancelled ? 0 : len;
    }
    if (wh_buf_append(&f->body, p, len) == 0)
        return len;
    f->too_big = true;
    return 0;
}

/* complexity: a table, in the shape that the compiler checks. */
static int code_of(const wh_fetch *f, CURLcode code)
{
    long os_errno = 0;
    if (f->too_big)
        return -EFBIG;
    (void)curl_easy_getinfo(f->easy, CURLINFO_OS_ERRNO, &os_errno);
    /* libcurl's codes are many; what is not named here needs no distinction. */
    if (code == CURLE_COULDNT_CONNECT)
        return os_errno > 0 && os_errno < 4096 ? -(int)os_errno : -ECONNREFUSED;
    if (code == CURLE_OPERATION_TIMEDOUT)
        return -ETIMEDOUT;
    if (code == CURLE_COULDNT_RESOLVE_HOST)
        return -EHOSTUNREACH;
    if (code == CURLE_SSL_CONNECT_ERROR || code == CURLE_PEER_FAILED_VERIFICATION ||
        code == CURLE_SSL_CERTPROBLEM || code == CURLE_SSL_CACERT_BADFILE || code == CURLE_SSL_CIPHER ||
        code == CURLE_SSL_ISSUER_ERROR)
        return -EPROTO;
    if (code == CURLE_GOT_NOTHING || code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR ||
        code == CURLE_PARTIAL_FILE || code == CURLE_HTTP2 || code == CURLE_HTTP2_STREAM)
        return -ECONNRESET;
    if (code == CURLE_WEIRD_SERVER_REPLY || code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_URL_MALFORMAT)
        return -EBADMSG;
    return code == CURLE_OUT_OF_MEMORY ? -ENOMEM : -EIO;
}

static void free_fetch(wh_fetch *f)
{
    wh_assert(f->magic == FETCH_MAGIC);
    f->magic = 0;
    LIST_REMOVE(f, link);
    if (f->state == FETCH_RUNNING)
        (void)curl_multi_remove_handle(f->fetcher->multi, f->easy);
    curl_easy_cleanup(f->easy);
    curl_slist_free_all(f->headers);
    curl_slist_free_all(f->connect_to);
    wh_buf_done(&f->body);
    free(f);
}

static bool same_origin(const char *a, const char *b)
{
    CURLU *ua = curl_url();
    CURLU *ub = curl_url();
    bool same = ua != NULL && ub != NULL && curl_url_set(ua, CURLUPART_URL, a, 0) == CURLUE_OK &&
                curl_url_set(ub, CURLUPART_URL, b, 0) == CURLUE_OK;
    char *host_a = NULL;
    char *host_b = NULL;
    same = same && curl_url_get(ua, CURLUPART_HOST, &host_a, 0) == CURLUE_OK &&
           curl_url_get(ub, CURLUPART_HOST, &host_b, 0) == CURLUE_OK && strcasecmp(host_a, host_b) == 0;
    curl_free(host_a);
    curl_free(host_b);
    curl_url_cleanup(ua);
    curl_url_cleanup(ub);
    return same;
}

/* True when the transfer goes on with another URL. */
static bool redirect(wh_fetch *f, long status)
{
    char *to = NULL;
    const char *from = NULL;
    if (!f->follow || status < 300 || status > 399 || f->redirects >= FETCH_REDIRECTS_MAX)
        return false;
    (void)curl_easy_getinfo(f->easy, CURLINFO_REDIRECT_URL, &to);
    (void)curl_easy_getinfo(f->easy, CURLINFO_EFFECTIVE_URL, &from);
    if (to == NULL || from == NULL || !same_origin(from, to))
        return false;
    auto_free char *url = wh_xstrdup(to);
    f->redirects++;
    wh_buf_reset(&f->body);
    (void)curl_easy_setopt(f->easy, CURLOPT_URL, url);
    f->state = FETCH_WAITING;
    return true;
}

static void finish(wh_fetch *f, CURLcode code)
{
    wh_fetch_result result = {.status = (int)status_of(f->easy), .retry_after = f->retry_after};
    if (code == CURLE_OK && redirect(f, result.status))
        return;
    char *text = NULL;
    long connects = 0;
    const char *method = NULL;
    const char *url = "";
    (void)curl_easy_getinfo(f->easy, CURLINFO_EFFECTIVE_URL, &url);
    (void)curl_easy_getinfo(f->easy, CURLINFO_EFFECTIVE_METHOD, &method);
    if (code != CURLE_OK)
        (void)wh_fail(&result.err, code_of(f, code), "%s %s: %s", method == NULL ? "GET" : method, url,
                      f->too_big             ? "the answer is larger than allowed"
                      : f->errbuf[0] != '\0' ? f->errbuf
                                             : curl_easy_strerror(code));
    result.body = wh_buf_str(&f->body);
    result.body_bytes = f->body.len;
    (void)curl_easy_getinfo(f->easy, CURLINFO_CONTENT_TYPE, &text);
    result.content_type = text == NULL ? "" : text;
    text = NULL;
    (void)curl_easy_getinfo(f->easy, CURLINFO_REDIRECT_URL, &text);
    result.location = text == NULL ? "" : text;
    result.reused = curl_easy_getinfo(f->easy, CURLINFO_NUM_CONNECTS, &connects) == CURLE_OK && connects == 0;
    f->state = FETCH_FINISHED;
    f->callbacks.on_done(f, &result, f->user);
    free_fetch(f);
}

/* ---- work between libcurl's calls ---- */

static void take_messages(wh_fetcher *f)
{
    CURLMsg *msg;
    int left;
    while ((msg = curl_multi_info_read(f->multi, &left)) != NULL) {
        if (msg->msg != CURLMSG_DONE)
            continue;
        CURL *easy = msg->easy_handle;
        CURLcode code = msg->data.result;
        wh_fetch *fetch = NULL;
        (void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&fetch);
        (void)curl_multi_remove_handle(f->multi, easy);
        fetch->state = FETCH_FINISHED;
        if (fetch->cancelled)
            free_fetch(fetch);
        else
            finish(fetch, code);
    }
}

static void on_work(wh_timer *timer)
{
    wh_fetcher *f = timer->user;
    take_messages(f);
    wh_fetch *fetch = LIST_FIRST(&f->fetches);
    while (fetch != NULL) {
        wh_fetch *next = LIST_NEXT(fetch, link);
        if (fetch->cancelled) {
            free_fetch(fetch);
        } else if (fetch->state == FETCH_WAITING) {
            fetch->state = FETCH_RUNNING;
            wh_assert(curl_multi_add_handle(f->multi, fetch->easy) == CURLM_OK);
        }
        fetch = next;
    }
}

static void schedule_work(wh_fetcher *f)
{
    if (f->work.loop == NULL)
        wh_timer_start(f->loop, &f->work, 0, on_work, f);
}

/* ---- asking ---- */

static void set_blob(CURL *easy, CURLoption option, const char *pem)
{
    if (pem == NULL)
        return;
    struct curl_blob blob = {.data = (void *)(uintptr_t)pem, .len = strlen(pem), .flags = CURL_BLOB_COPY};
    (void)curl_easy_setopt(easy, option, &blob);
}

/* The certificate is checked against the URL's host, so another name to check means another URL that leads to the same
 * place. */
static int set_server_name(wh_fetch *f, const wh_fetch_request *r, wh_err *err)
{
    CURLU *url = curl_url();
    char *host = NULL;
    char *port = NULL;
    char *text = NULL;
    bool ok = url != NULL && curl_url_set(url, CURLUPART_URL, r->url, 0) == CURLUE_OK &&
              curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
              curl_url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
              curl_url_set(url, CURLUPART_HOST, r->tls.server_name, 0) == CURLUE_OK &&
              curl_url_get(url, CURLUPART_URL, &text, 0) == CURLUE_OK;
    if (ok) {
        auto_free char *to = wh_xasprintf("%s:%s:%s:%s", r->tls.server_name, port, host, port);
        f->connect_to = curl_slist_append(NULL, to);
        (void)curl_easy_setopt(f->easy, CURLOPT_CONNECT_TO, f->connect_to);
        (void)curl_easy_setopt(f->easy, CURLOPT_URL, text);
    }
    curl_free(host);
    curl_free(port);
    curl_free(text);
    curl_url_cleanup(url);
    return ok ? 0
              : wh_fail(err, -EINVAL, "fetch '%s': no URL, or '%s' is no host name", r->url,
                        r->tls.server_name);
}

static int set_tls(wh_fetch *f, const wh_fetch_request *r, wh_err *err)
{
    CURL *easy = f->easy;
    if (r->tls.ca_pem != NULL) {
        (void)curl_easy_setopt(easy, CURLOPT_CAPATH, NULL); /* else the system's CAs are trusted as well */
        set_blob(easy, CURLOPT_CAINFO_BLOB, r->tls.ca_pem);
    }
    set_blob(easy, CURLOPT_SSLCERT_BLOB, r->tls.cert_pem);
    set_blob(easy, CURLOPT_SSLKEY_BLOB, r->tls.key_pem);
    (void)curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (r->tls.insecure) {
        (void)curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
        (void)curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    return r->tls.server_name == NULL ? 0 : set_server_name(f, r, err);
}

/* A peer that vanished without a word must not look like one that has nothing to say. */
static int on_new_socket(void *user, curl_socket_t fd, curlsocktype purpose)
{
    (void)user;
    (void)purpose;
    unsigned timeout_ms = 20000;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
    return CURL_SOCKOPT_OK;
}

static long milliseconds(wh_time t, wh_time otherwise)
{
    if (t == WH_TIME_NEVER)
        return 0;
    t = t == 0 ? otherwise : t;
    return (long)WH_MAX(t / WH_MSEC, (wh_time)1);
}

static void set_connection(wh_fetch *f, const wh_fetch_request *r)
{
    CURL *easy = f->easy;
    (void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
                           r->http1 ? (long)CURL_HTTP_VERSION_1_1 : (long)CURL_HTTP_VERSION_2TLS);
    (void)curl_easy_setopt(easy, CURLOPT_PIPEWAIT, r->http1 || r->fresh ? 0L : 1L);
    (void)curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, 15L);
    (void)curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, 5L);
    (void)curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, on_new_socket);
    (void)curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, r->unix_socket);
    (void)curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, r->fresh ? 1L : 0L);
    (void)curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, r->fresh ? 1L : 0L);
    (void)curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, milliseconds(r->connect_timeout, 10 * WH_SEC));
    (void)curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, milliseconds(r->timeout, 30 * WH_SEC));
    if (r->stall_timeout > 0) {
        (void)curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
        (void)curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME,
                               (long)WH_MAX(r->stall_timeout / WH_SEC, (wh_time)1));
    }
}

static void set_message(wh_fetch *f, const wh_fetch_request *r)
{
    CURL *easy = f->easy;
    const char *method = r->method == NULL ? "GET" : r->method;
    for (size_t i = 0; r->headers != NULL && r->headers[i] != NULL; i++)
        f->headers = curl_slist_append(f->headers, r->headers[i]);
    f->headers = curl_slist_append(f->headers, "Expect:");
    bool has_body = r->body_bytes > 0 || strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 ||
                    strcmp(method, "PATCH") == 0;
    if (has_body) {
        (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body_bytes);
        (void)curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, r->body_bytes > 0 ? r->body : "");
    }
    if (strcmp(method, "HEAD") == 0)
        (void)curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    else if (strcmp(method, "GET") != 0 || has_body)
        (void)curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
    (void)curl_easy_setopt(easy, CURLOPT_HTTPHEADER, f->headers);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERDATA, f);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, f);
    (void)curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, f->errbuf);
    (void)curl_easy_setopt(easy, CURLOPT_PRIVATE, f);
}

int wh_fetch_start(wh_fetcher *fetcher, const wh_fetch_request *request, const wh_fetch_callbacks *callbacks,
                   void *user, wh_fetch **ret, wh_err *err)
{
    CURL *easy = curl_easy_init();
    if (easy == NULL)
        return wh_fail(err, -ENOMEM, "fetch '%s'", request->url);
    wh_fetch *f = wh_xnew(wh_fetch);
    f->magic = FETCH_MAGIC;
    f->fetcher = fetcher;
    f->easy = easy;
    f->callbacks = *callbacks;
    f->user = user;
    f->follow = request->follow;
    f->retry_after = -1;
    wh_buf_init(&f->body, request->body_bytes_max == 0 ? FETCH_BODY_BYTES_DEFAULT : request->body_bytes_max);
    LIST_INSERT_HEAD(&fetcher->fetches, f, link);
    int r = 0;
    if (curl_easy_setopt(easy, CURLOPT_URL, request->url) != CURLE_OK)
        r = wh_fail(err, -EINVAL, "fetch '%s': no URL", request->url);
    set_connection(f, request);
    set_message(f, request);
    if (r == 0)
        r = set_tls(f, request, err);
    if (r < 0) {
        f->state = FETCH_FINISHED;
        free_fetch(f);
        return r;
    }
    schedule_work(fetcher);
    *ret = f;
    return 0;
}

void wh_fetch_cancel(wh_fetch *fetch)
{
    if (fetch == NULL)
        return;
    wh_assert(fetch->magic == FETCH_MAGIC);
    if (fetch->state == FETCH_FINISHED)
        return;
    fetch->cancelled = true;
    schedule_work(fetch->fetcher);
}

/* ---- life ---- */

static void global_init(void)
{
    wh_assert(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
}

int wh_fetcher_new(wh_loop *loop, wh_fetcher **ret, wh_err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, global_init);
    CURLM *multi = curl_multi_init();
    if (multi == NULL)
        return wh_fail(err, -ENOMEM, "start the HTTP client");
    wh_fetcher *f = wh_xnew(wh_fetcher);
    f->loop = loop;
    f->multi = multi;
    LIST_INIT(&f->fetches);
    LIST_INIT(&f->sockets);
    (void)curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
    (void)curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, f);
    (void)curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
    (void)curl_multi_setopt(multi, CURLMOPT_TIMERDATA, f);
    (void)curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, FETCH_KEPT_MAX);
    *ret = f;
    return 0;
}

void wh_fetcher_free(wh_fetcher *fetcher)
{
    if (fetcher == NULL)
        return;
    while (!LIST_EMPTY(&fetcher->fetches))
        free_fetch(LIST_FIRST(&fetcher->fetches));
    (void)curl_multi_cleanup(fetcher->multi);
    while (!LIST_EMPTY(&fetcher->sockets))
        drop_socket(LIST_FIRST(&fetcher->sockets));
    wh_timer_stop(&fetcher->timer);
    wh_timer_stop(&fetcher->work);
    free(fetcher);
}
