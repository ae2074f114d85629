/* SPDX-License-Identifier: Apache-2.0 */
#include "image/transport.h"

#include "base/limits.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>

#define REDIRECTS_MAX 10
#define CONNECT_TIMEOUT_S 15L
#define CALL_TIMEOUT_S 60L  /* of anything small */
#define STALL_TIMEOUT_S 30L /* no byte for so long ends a large transfer */
#define HEADER_VALUE_MAX WH_CHALLENGE_BYTES_MAX
#define URL_BYTES_MAX 8192

typedef enum { ADDRESS_PUBLIC, ADDRESS_LOOPBACK, ADDRESS_LINK_LOCAL, ADDRESS_NEVER } address_class;

struct wh_transport {
    CURL *curl;
    bool (*cancelled)(void *user);
    void *user;
    char *home, *ca_file;  /* the home's origin */
    unsigned home_classes; /* bit per address_class that the home was found at */
    bool dialling_home;
    bool refused; /* the guard refused an address */
    char refused_address[INET6_ADDRSTRLEN];
    /* Of the transfer under way: */
    const wh_call *call;
    wh_answer *answer;
    int sink_error;
    uint64_t sent;
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;

static void init_curl(void)
{
    CURLcode code = curl_global_init(CURL_GLOBAL_DEFAULT);
    wh_assert(code == CURLE_OK);
}

static address_class classify_v4(uint32_t address)
{
    if (address >> 24 == 127)
        return ADDRESS_LOOPBACK;
    if (address >> 16 == 0xa9fe) /* 169.254/16, where clouds keep their metadata */
        return ADDRESS_LINK_LOCAL;
    return address >> 24 == 0 || address >> 28 >= 0xe ? ADDRESS_NEVER : ADDRESS_PUBLIC;
}

static address_class classify(const struct sockaddr_storage *ss)
{
    if (ss->ss_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, ss, sizeof(in));
        return classify_v4(ntohl(in.sin_addr.s_addr));
    }
    if (ss->ss_family != AF_INET6)
        return ADDRESS_NEVER;
    struct sockaddr_in6 in6;
    memcpy(&in6, ss, sizeof(in6));
    const struct in6_addr *a = &in6.sin6_addr;
    if (IN6_IS_ADDR_V4MAPPED(a) ||
        memcmp(a, "\0\x64\xff\x9b\0\0\0\0\0\0\0\0", 12) == 0) { /* RFC 6052: NAT64 */
        uint32_t v4;
        memcpy(&v4, a->s6_addr + 12, sizeof(v4));
        return classify_v4(ntohl(v4));
    }
    if (IN6_IS_ADDR_LOOPBACK(a))
        return ADDRESS_LOOPBACK;
    bool metadata = memcmp(a, "\xfd\x00\x0e\xc2", 4) == 0; /* fd00:ec2::254 */
    if (IN6_IS_ADDR_LINKLOCAL(a) || metadata)
        return ADDRESS_LINK_LOCAL;
    return IN6_IS_ADDR_UNSPECIFIED(a) || IN6_IS_ADDR_MULTICAST(a) ? ADDRESS_NEVER : ADDRESS_PUBLIC;
}

static curl_socket_t open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *address)
{
    wh_transport *t = user;
    struct sockaddr_storage ss = {0};
    /* libcurl declares a short struct and gives room for a long one. */
    const char *raw = (const char *)address + offsetof(struct curl_sockaddr, addr);
    memcpy(&ss, raw, WH_MIN((size_t)address->addrlen, sizeof(ss)));
    address_class class = classify(&ss);
    unsigned bit = 1U << class;
    if (purpose == CURLSOCKTYPE_IPCXN && t->dialling_home)
        t->home_classes |= bit;
    else if (class != ADDRESS_PUBLIC && (class == ADDRESS_NEVER || (t->home_classes & bit) == 0)) {
        size_t at = ss.ss_family == AF_INET ? offsetof(struct sockaddr_in, sin_addr)
                                            : offsetof(struct sockaddr_in6, sin6_addr);
        if (inet_ntop(ss.ss_family, (const char *)&ss + at, t->refused_address, sizeof(t->refused_address)) ==
            NULL)
            memcpy(t->refused_address, "?", 2);
        t->refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static void keep_header(char **target, wh_str value)
{
    free(*target);
    *target = wh_xstrndup(value.p, value.n);
}

static int64_t parse_retry_after(const char *text)
{
    uint64_t seconds;
    if (wh_parse_u64(text, 1000000, &seconds) == 0)
        return (int64_t)seconds;
    time_t when = curl_getdate(text, NULL);
    if (when == (time_t)-1)
        return -1;
    int64_t wait = (int64_t)when - wh_real_now() / WH_SEC;
    return WH_MAX(wait, (int64_t)0);
}

static void keep_number(wh_answer *a, wh_str name, wh_str value)
{
    auto_free char *text = wh_xstrndup(value.p, value.n);
    uint64_t start;
    if (wh_str_eq(name, WH_STR("retry-after"))) {
        a->retry_after = parse_retry_after(text);
    } else if (wh_str_eq(name, WH_STR("content-range")) && strncasecmp(text, "bytes ", 6) == 0) {
        text[6 + strcspn(text + 6, "-")] = '\0';
        if (wh_parse_u64(text + 6, INT64_MAX, &start) == 0)
            a->range_start = (int64_t)start;
    }
}

static void keep_challenge(wh_answer *a, wh_str value)
{
    /* Several fields of that name are one list. */
    char *both = a->challenge == NULL ? wh_xstrndup(value.p, value.n)
                                      : wh_xasprintf("%s, %.*s", a->challenge, WH_STR_ARG(value));
    free(a->challenge);
    a->challenge = both;
}

static size_t on_header(char *data, size_t size, size_t n, void *user)
{
    wh_transport *t = user;
    wh_answer *a = t->answer;
    wh_str line = wh_str_trim((wh_str){data, size * n}), name;
    if (line.n >= 5 && memcmp(line.p, "HTTP/", 5) == 0) { /* another answer begins (100, for instance) */
        wh_buf body = a->body;
        a->body = (wh_buf){0};
        wh_answer_done(a);
        *a = (wh_answer){.retry_after = -1, .range_start = -1, .body = body};
        (void)curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &a->status);
        return size * n;
    }
    if (line.n > HEADER_VALUE_MAX || !wh_str_split(&line, ':', &name))
        return size * n;
    char lower[32];
    if (name.n >= sizeof(lower))
        return size * n;
    for (size_t i = 0; i < name.n; i++)
        lower[i] = name.p[i] >= 'A' && name.p[i] <= 'Z' ? (char)(name.p[i] + 32) : name.p[i];
    wh_str key = {lower, name.n}, value = wh_str_trim(line);
    if (wh_str_eq(key, WH_STR("content-type")))
        keep_header(&a->content_type, value);
    else if (wh_str_eq(key, WH_STR("location")))
        keep_header(&a->location, value);
    else if (wh_str_eq(key, WH_STR("docker-content-digest")))
        keep_header(&a->digest_hint, value);
    else if (wh_str_eq(key, WH_STR("www-authenticate")) &&
             (a->challenge == NULL || strlen(a->challenge) < HEADER_VALUE_MAX))
        keep_challenge(a, value);
    else
        keep_number(a, key, value);
    return size * n;
}

static size_t on_body(char *data, size_t size, size_t n, void *user)
{
    wh_transport *t = user;
    wh_answer *a = t->answer;
    size_t bytes = size * n;
    bool good = a->status == 200 || a->status == 206;
    if (good && t->call->on_data != NULL) {
        t->sink_error = t->call->on_data(t->call->user, a->status, data, bytes);
        return t->sink_error < 0 ? 0 : bytes;
    }
    if (!good) { /* the start of an error's body is enough */
        size_t room = a->body.max - a->body.len;
        (void)wh_buf_append(&a->body, data, WH_MIN(bytes, room));
        return bytes;
    }
    t->sink_error = wh_buf_append(&a->body, data, bytes) < 0 ? -EFBIG : 0;
    return t->sink_error < 0 ? 0 : bytes;
}

static size_t on_upload(char *data, size_t size, size_t n, void *user)
{
    wh_transport *t = user;
    ssize_t got = pread(t->call->body_fd, data, size * n, (off_t)t->sent);
    if (got < 0)
        return CURL_READFUNC_ABORT;
    t->sent += (uint64_t)got;
    return (size_t)got;
}

static int on_seek(void *user, curl_off_t offset, int origin)
{
    wh_transport *t = user;
    if (origin != SEEK_SET || offset < 0)
        return CURL_SEEKFUNC_FAIL;
    t->sent = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

static int on_progress(void *user, curl_off_t dltotal, curl_off_t dlnow, curl_off_t ultotal, curl_off_t ulnow)
{
    const wh_transport *t = user;
    (void)dltotal;
    (void)dlnow;
    (void)ultotal;
    (void)ulnow;
    return t->cancelled != NULL && t->cancelled(t->user) ? 1 : 0;
}

int wh_transport_new(bool (*cancelled)(void *user), void *user, wh_transport **ret, wh_err *err)
{
    (void)pthread_once(&curl_once, init_curl);
    CURL *curl = curl_easy_init();
    if (curl == NULL)
        return wh_fail(err, -ENOMEM, "start an HTTP client");
    wh_transport *t = wh_xnew(wh_transport);
    *t = (wh_transport){.curl = curl, .cancelled = cancelled, .user = user};
    *ret = t;
    return 0;
}

void wh_transport_free(wh_transport *t)
{
    if (t == NULL)
        return;
    curl_easy_cleanup(t->curl);
    free(t->home);
    free(t->ca_file);
    free(t);
}

void wh_transport_home(wh_transport *t, const char *base, const char *ca_file)
{
    free(t->home);
    free(t->ca_file);
    t->home = wh_url_origin(base);
    t->ca_file = ca_file == NULL ? NULL : wh_xstrdup(ca_file);
    t->home_classes = 0;
}

void wh_answer_done(wh_answer *a)
{
    free(a->content_type);
    free(a->challenge);
    free(a->location);
    free(a->digest_hint);
    wh_buf_done(&a->body);
    *a = (wh_answer){0};
}

static char *url_part(CURLU *u, CURLUPart part, unsigned flags)
{
    char *text = NULL;
    if (curl_url_get(u, part, &text, flags) != CURLUE_OK)
        return NULL;
    char *copy = wh_xstrdup(text);
    curl_free(text);
    return copy;
}

/* complexity: every part of an address may be absent. */
char *wh_url_origin(const char *url)
{
    CURLU *u = curl_url();
    if (u == NULL)
        return NULL;
    char *origin = NULL;
    if (strlen(url) <= URL_BYTES_MAX &&
        curl_url_set(u, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK) {
        auto_free char *scheme = url_part(u, CURLUPART_SCHEME, 0);
        auto_free char *host = url_part(u, CURLUPART_HOST, 0);
        auto_free char *port = url_part(u, CURLUPART_PORT, CURLU_NO_DEFAULT_PORT);
        auto_free char *user = url_part(u, CURLUPART_USER, 0);
        auto_free char *password = url_part(u, CURLUPART_PASSWORD, 0);
        bool web = wh_streq(scheme, "http") || wh_streq(scheme, "https");
        if (web && host != NULL && *host != '\0' && user == NULL && password == NULL)
            origin =
                wh_xasprintf("%s://%s%s%s", scheme, host, port == NULL ? "" : ":", port == NULL ? "" : port);
    }
    curl_url_cleanup(u);
    for (char *p = origin; p != NULL && *p != '\0'; p++)
        *p = *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p;
    return origin;
}

/* Where a redirect leads, made absolute. */
static char *resolve_url(const char *base, const char *location)
{
    CURLU *u = curl_url();
    char *result = NULL;
    if (u != NULL && curl_url_set(u, CURLUPART_URL, base, 0) == CURLUE_OK &&
        curl_url_set(u, CURLUPART_URL, location, 0) == CURLUE_OK)
        result = url_part(u, CURLUPART_URL, 0);
    curl_url_cleanup(u);
    return result;
}

#define SET(option, value) (void)curl_easy_setopt(t->curl, option, value)

static struct curl_slist *make_headers(const wh_call *call, bool with_secrets)
{
    struct curl_slist *list = NULL;
    const struct {
        const char *name, *value;
    } fields[] = {{"Accept", call->accept},
                  {"Content-Type", call->content_type},
                  {"Authorization", with_secrets ? call->authorization : NULL}};
    for (size_t i = 0; i < WH_ARRAY_LEN(fields); i++) {
        if (fields[i].value == NULL)
            continue;
        auto_free char *line = wh_xasprintf("%s: %s", fields[i].name, fields[i].value);
        list = curl_slist_append(list, line);
        explicit_bzero(line, strlen(line));
    }
    return curl_slist_append(list, "Expect:"); /* no waiting for 100 Continue */
}

static void set_body(wh_transport *t, const wh_call *call)
{
    const char *method = call->method == NULL ? "GET" : call->method;
    if (wh_streq(method, "HEAD")) {
        SET(CURLOPT_NOBODY, 1L);
        return;
    }
    if (call->upload) {
        SET(CURLOPT_UPLOAD, 1L);
        SET(CURLOPT_READFUNCTION, on_upload);
        SET(CURLOPT_READDATA, t);
        SET(CURLOPT_SEEKFUNCTION, on_seek);
        SET(CURLOPT_SEEKDATA, t);
        SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)call->body_fd_bytes);
    } else if (call->body != NULL || wh_streq(method, "POST")) {
        SET(CURLOPT_POSTFIELDS, call->body == NULL ? "" : (const char *)call->body);
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body_bytes);
    }
    SET(CURLOPT_CUSTOMREQUEST, method);
}

static void set_options(wh_transport *t, const wh_call *call, const char *url, struct curl_slist *headers)
{
    curl_easy_reset(t->curl);
    SET(CURLOPT_URL, url);
    SET(CURLOPT_HTTPHEADER, headers);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_PROXY, ""); /* not from the environment: the guard must see whom we dial */
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_USERAGENT, "wherry/" WH_VERSION);
    SET(CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S);
    SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
    SET(CURLOPT_LOW_SPEED_TIME, STALL_TIMEOUT_S);
    if (!call->stream)
        SET(CURLOPT_TIMEOUT, CALL_TIMEOUT_S);
    SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
    SET(CURLOPT_OPENSOCKETDATA, t);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, t);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, t);
    SET(CURLOPT_XFERINFOFUNCTION, on_progress);
    SET(CURLOPT_XFERINFODATA, t);
    SET(CURLOPT_NOPROGRESS, 0L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (t->ca_file != NULL) /* also for the token server, which is often certified by the same authority */
        SET(CURLOPT_CAINFO, t->ca_file);
    if (call->range_from > 0) { /* CURLOPT_RESUME_FROM would make an error of a server that ignores it */
        char range[32];
        (void)snprintf(range, sizeof(range), "%" PRIu64 "-", call->range_from);
        SET(CURLOPT_RANGE, range);
    }
    set_body(t, call);
}

/* An address for people: without its query, which may hold a signature. */
static int url_shown(const char *url)
{
    return (int)WH_MIN(strcspn(url, "?#"), (size_t)120);
}

static int explain(const wh_transport *t, CURLcode code, const char *url, wh_err *err)
{
    int n = url_shown(url);
    if (t->refused)
        return wh_fail(err, -EPERM, "%.*s leads to %s, where a registry elsewhere has no business.", n, url,
                       t->refused_address);
    if (t->sink_error < 0)
        return t->sink_error == -EFBIG && t->call->on_data == NULL
                   ? wh_fail(err, -EFBIG, "%.*s: the answer is longer than %zu bytes.", n, url,
                             t->call->body_max)
                   : t->sink_error;
    const char *why = curl_easy_strerror(code);
    switch ((int)code) {
    case CURLE_ABORTED_BY_CALLBACK:
        return wh_fail(err, -ECANCELED, "%.*s: cancelled.", n, url);
    case CURLE_SSL_CONNECT_ERROR: /* a connection that broke during the handshake looks the same */
        return wh_fail(err, -ECONNRESET, "%.*s: TLS: %s.", n, url, why);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return wh_fail(err, -EPROTO, "%.*s: TLS: %s.", n, url, why);
    case CURLE_COULDNT_RESOLVE_HOST:
        return wh_fail(err, -ENETUNREACH, "%.*s: its host name is not known.", n, url);
    case CURLE_COULDNT_CONNECT:
        return wh_fail(err, -ENETUNREACH, "%.*s: nobody answers there.", n, url);
    case CURLE_OPERATION_TIMEDOUT:
        return wh_fail(err, -ETIMEDOUT, "%.*s: no answer in time.", n, url);
    case CURLE_OUT_OF_MEMORY:
        return wh_fail(err, -ENOMEM, "%.*s", n, url);
    default:
        return wh_fail(err, -ECONNRESET, "%.*s: %s.", n, url, why);
    }
}

static int call_once(wh_transport *t, const wh_call *call, const char *url, bool with_secrets, wh_answer *a,
                     wh_err *err)
{
    auto_free char *origin = wh_url_origin(url);
    if (origin == NULL)
        return wh_fail(err, -EPERM, "'%.*s' is not a plain http or https address.", url_shown(url), url);
    wh_answer_done(a);
    a->retry_after = a->range_start = -1;
    wh_buf_init(&a->body, WH_MAX(call->body_max, (size_t)WH_REGISTRY_TEXT_BYTES_MAX));
    t->call = call;
    t->answer = a;
    t->sent = 0;
    t->sink_error = 0;
    t->refused = false;
    t->dialling_home = wh_streq(origin, t->home);
    struct curl_slist *headers = make_headers(call, with_secrets);
    set_options(t, call, url, headers);
    CURLcode code = curl_easy_perform(t->curl);
    (void)curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &a->status);
    curl_easy_reset(t->curl); /* forgets the header list before it goes */
    for (struct curl_slist *h = headers; h != NULL; h = h->next)
        explicit_bzero(h->data, strlen(h->data));
    curl_slist_free_all(headers);
    return code == CURLE_OK ? 0 : explain(t, code, url, err);
}

static bool is_redirect(long status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

int wh_transport_call(wh_transport *t, const wh_call *call, wh_answer *ret, wh_err *err)
{
    auto_free char *url = wh_xstrdup(call->url);
    auto_free char *first = wh_url_origin(call->url);
    bool with_secrets = true;
    wh_call now = *call;
    for (int hops = 0;; hops++) {
        int rc = call_once(t, &now, url, with_secrets, ret, err);
        if (rc < 0 || !is_redirect(ret->status) || ret->location == NULL)
            return rc;
        if (hops == REDIRECTS_MAX)
            return wh_fail(err, -ELOOP, "%.*s: more than %d redirects.", url_shown(call->url), call->url,
                           REDIRECTS_MAX);
        char *next = resolve_url(url, ret->location);
        auto_free char *origin = next == NULL ? NULL : wh_url_origin(next);
        bool downgrade = origin != NULL && wh_starts_with(url, "https:") && wh_starts_with(origin, "http:");
        free(url);
        url = next;
        if (origin == NULL || downgrade)
            return wh_fail(err, -EPERM, "%.*s redirects to an address that is not %s.", url_shown(call->url),
                           call->url, downgrade ? "https" : "a plain http or https address");
        with_secrets = with_secrets && wh_streq(origin, first); /* once left, they never come back */
        if (now.body != NULL && !with_secrets)
            return wh_fail(err, -EPERM, "%.*s redirects what we send to another host.", url_shown(call->url),
                           call->url);
    }
}
