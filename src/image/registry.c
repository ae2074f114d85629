/* SPDX-License-Identifier: Apache-2.0 */
/* The distribution protocol. Tokens: distribution's "Token Authentication Specification" and "OAuth2 Token
 * Authentication". */
#include "image/registry.h"

#include "base/json.h"
#include "base/limits.h"
#include "image/transport.h"

#include <stdio.h>
#include <time.h>

#define ATTEMPTS_MAX 5
#define BACKOFF_FIRST (250 * WH_MSEC)
#define RETRY_AFTER_MAX_S 30 /* a longer wait is the caller's back-off */
#define TOKEN_LIFE_DEFAULT_S 60
#define ACCEPT \
    WH_TYPE_OCI_MANIFEST ", " WH_TYPE_OCI_INDEX ", " WH_TYPE_DOCKER_MANIFEST ", " WH_TYPE_DOCKER_LIST

struct wh_registry {
    wh_registry_options options;
    char *base;
    wh_transport *transport;
    size_t credential;   /* the one in use, as an index */
    char *authorization; /* field value that the registry took or gave */
    wh_time token_until; /* monotonic; 0: no end (Basic) */
    bool unavailable;
    wh_rng rng;
};

static void wipe(char **secret)
{
    if (*secret != NULL)
        explicit_bzero(*secret, strlen(*secret));
    free(*secret);
    *secret = NULL;
}

char *wh_registry_base(const wh_ref *ref, bool plain_http, bool tls)
{
    const char *host = wh_ref_api_host(ref);
    size_t n = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
    bool loopback = (n == 9 && strncasecmp(host, "localhost", n) == 0) || wh_starts_with(host, "[::1]") ||
                    (wh_starts_with(host, "127.") && strspn(host, "0123456789.") == n);
    return wh_xasprintf("%s://%s", plain_http || (loopback && !tls) ? "http" : "https", host);
}

int wh_registry_new(const wh_registry_options *options, wh_registry **ret, wh_err *err)
{
    auto_registry wh_registry *r = wh_xnew(wh_registry);
    r->options = *options;
    r->base = wh_xstrdup(options->base);
    wh_random(&r->rng.state, sizeof(r->rng.state));
    auto_free char *origin = wh_url_origin(options->base);
    if (origin == NULL)
        return wh_fail(err, -EINVAL, "'%.120s' is not an address of a registry.", options->base);
    int rc = wh_transport_new(options->cancelled, options->user, &r->transport, err);
    if (rc < 0)
        return rc;
    wh_transport_home(r->transport, options->base, options->ca_file);
    *ret = WH_TAKE(r);
    return 0;
}

void wh_registry_free(wh_registry *r)
{
    if (r == NULL)
        return;
    wh_transport_free(r->transport);
    wipe(&r->authorization);
    free(r->base);
    free(r);
}

bool wh_registry_unavailable(const wh_registry *r)
{
    return r->unavailable;
}

static const wh_credential *current_credential(const wh_registry *r)
{
    return r->credential < r->options.n_credentials ? r->options.credentials[r->credential] : NULL;
}

const wh_credential *wh_registry_credential(const wh_registry *r)
{
    return r->authorization == NULL ? NULL : current_credential(r);
}

static char *basic_authorization(const wh_credential *c)
{
    auto_free char *pair = wh_xasprintf("%s:%s", c->username, c->password == NULL ? "" : c->password);
    auto_free char *encoded = wh_base64(pair, strlen(pair));
    char *value = wh_xasprintf("Basic %s", encoded);
    explicit_bzero(pair, strlen(pair));
    explicit_bzero(encoded, strlen(encoded));
    return value;
}

/* Form encoding of RFC 3986's unreserved characters. */
static void put_encoded(wh_buf *b, const char *name, const char *value)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    (void)wh_buf_printf(b, "%s%s=", b->len > 0 ? "&" : "", name);
    for (const char *p = value; *p != '\0'; p++) {
        if (strchr(plain, *p) != NULL)
            (void)wh_buf_putc(b, *p);
        else
            (void)wh_buf_printf(b, "%%%02X", (unsigned)(unsigned char)*p);
    }
}

/* The answer's own words, made harmless for a log line. */
static void registry_words(const wh_answer *a, char out[160])
{
    auto_json json_t *j = NULL;
    out[0] = '\0';
    if (a->body.len == 0 || wh_json_parse(a->body.p, a->body.len, &j, NULL) < 0)
        return;
    const json_t *first = json_array_get(json_object_get(j, "errors"), 0);
    const char *code = wh_json_str(first, "code"), *message = wh_json_str(first, "message");
    if (first == NULL) {
        code = wh_json_str(j, "error");
        message = wh_json_str(j, "error_description");
    }
    if (code == NULL && message == NULL)
        return;
    (void)snprintf(out, 160, ": %.40s%s%.100s", code == NULL ? "" : code,
                   code != NULL && message != NULL ? ": " : "", message == NULL ? "" : message);
    for (char *p = out; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f)
            *p = '?';
}

static int explain_status(wh_registry *r, const wh_answer *a, const char *what, wh_err *err)
{
    char words[160];
    registry_words(a, words);
    switch (a->status) {
    case 401:
        return wh_fail(err, -EACCES, "%s: the registry wants credentials (401%s); %s.", what, words,
                       r->options.n_credentials > 0 ? "those that fit its name were not taken"
                                                    : "there are none for it");
    case 403:
        return wh_fail(err, -EACCES, "%s: the registry refuses (403%s).", what, words);
    case 404:
        return wh_fail(err, -ENOENT, "%s: the registry does not have it (404%s).", what, words);
    case 429:
        r->unavailable = true;
        return wh_fail(err, -EBUSY, "%s: the registry is asked too often (429%s).", what, words);
    default:
        r->unavailable = a->status >= 500;
        return wh_fail(err, -EIO, "%s: the registry answers %ld%s.", what, a->status, words);
    }
}

/* ---- tokens ---- */

/* The scope that we ask for ourselves: what the challenge says is only used when it says nothing about us. */
static char *own_scope(const wh_registry *r)
{
    return wh_xasprintf("repository:%s:%s", r->options.ref->repository,
                        r->options.push ? "pull,push" : "pull");
}

static int take_token(wh_registry *r, const wh_answer *a, wh_err *err)
{
    auto_json json_t *j = NULL;
    int rc = wh_json_parse(a->body.p == NULL ? "" : a->body.p, a->body.len, &j, NULL);
    const char *token = rc < 0 ? NULL : wh_json_str(j, "token");
    if (rc == 0 && (token == NULL || *token == '\0'))
        token = wh_json_str(j, "access_token");
    if (token == NULL || *token == '\0' || strpbrk(token, "\r\n") != NULL)
        return wh_fail(err, -EBADMSG, "the token server's answer holds no token.");
    int64_t life = wh_json_int(j, "expires_in", TOKEN_LIFE_DEFAULT_S);
    life = WH_MIN(WH_MAX(life, (int64_t)TOKEN_LIFE_DEFAULT_S), (int64_t)86400);
    wipe(&r->authorization);
    r->authorization = wh_xasprintf("Bearer %s", token);
    r->token_until = wh_mono_now() + life * WH_SEC / 10 * 8;
    return 0;
}

/* The realm is the registry's to name, so it is input: https unless the registry itself is plain; where it
 * leads is checked when it is dialled. */
static int check_realm(const wh_registry *r, const char *realm, wh_err *err)
{
    auto_free char *origin = wh_url_origin(realm);
    bool plain_ok = wh_starts_with(r->base, "http:");
    if (origin == NULL || (wh_starts_with(origin, "http:") && !plain_ok))
        return wh_fail(err, -EPERM, "the registry names a token server that is not https: '%.*s'.",
                       (int)WH_MIN(strcspn(realm, "?#@"), (size_t)100), realm);
    return 0;
}

static int ask_token(wh_registry *r, const wh_challenge *c, wh_err *err)
{
    auto_answer wh_answer answer = {0};
    auto_buf wh_buf query;
    auto_free char *scope = own_scope(r);
    auto_free char *basic = NULL;
    const wh_credential *credential = current_credential(r);
    int rc = check_realm(r, c->realm, err);
    if (rc < 0)
        return rc;
    wh_buf_init(&query, (size_t)4 * WH_CHALLENGE_BYTES_MAX);
    if (c->service != NULL)
        put_encoded(&query, "service", c->service);
    put_encoded(&query, "scope", scope);
    wh_call call = {.body_max = WH_REGISTRY_TEXT_BYTES_MAX, .accept = "application/json"};
    auto_free char *url = NULL;
    if (credential != NULL && credential->identity_token != NULL) {
        put_encoded(&query, "grant_type", "refresh_token");
        put_encoded(&query, "client_id", "wherry");
        put_encoded(&query, "refresh_token", credential->identity_token);
        url = wh_xstrdup(c->realm);
        call.method = "POST";
        call.content_type = "application/x-www-form-urlencoded";
        call.body = wh_buf_str(&query);
        call.body_bytes = query.len;
    } else {
        url = wh_xasprintf("%s%c%s", c->realm, strchr(c->realm, '?') == NULL ? '?' : '&', wh_buf_str(&query));
        if (credential != NULL && credential->username != NULL)
            call.authorization = basic = basic_authorization(credential);
    }
    if (query.failed)
        return wh_fail(err, -EBADMSG, "the registry's challenge is too long.");
    call.url = url;
    rc = wh_transport_call(r->transport, &call, &answer, err);
    if (query.p != NULL)
        explicit_bzero(query.p, query.len);
    wipe(&basic);
    if (rc < 0)
        (void)wh_wrap(err, "token server");
    else if (answer.status != 200)
        rc = explain_status(r, &answer, "token server", err);
    else
        rc = take_token(r, &answer, err);
    return rc;
}

/* Answers a 401. -EACCES when there is nothing (more) to answer with. */
static int answer_challenge(wh_registry *r, const wh_answer *a, wh_err *err)
{
    wh_challenge c = {0};
    const wh_credential *credential = current_credential(r);
    if (a->challenge == NULL)
        return wh_fail(err, -EACCES, "the registry answers 401 and does not say what it wants.");
    int rc = wh_challenge_parse(a->challenge, &c, err);
    if (rc < 0)
        return rc;
    if (c.scheme == WH_AUTH_BEARER) {
        rc = ask_token(r, &c, err);
    } else if (credential != NULL && credential->username != NULL) {
        wipe(&r->authorization);
        r->authorization = basic_authorization(credential);
        r->token_until = 0;
    } else {
        rc = wh_fail(err, -EACCES, "the registry wants a user and a password, and there are none for it.");
    }
    wh_challenge_done(&c);
    return rc;
}

/* ---- calls ---- */

static bool may_retry(int rc, long status)
{
    if (rc < 0)
        return rc == -ENETUNREACH || rc == -ETIMEDOUT || rc == -ECONNRESET;
    return status == 429 || (status >= 500 && status != 501);
}

/* Sleeps in small steps, so that a cancelled pull ends. */
static int wait_before_retry(wh_registry *r, int attempt, int64_t retry_after, wh_err *err)
{
    wh_time wait = BACKOFF_FIRST << attempt;
    wait += (wh_time)wh_rng_below(&r->rng, (uint64_t)wait / 4);
    if (retry_after >= 0)
        wait = retry_after * WH_SEC;
    for (wh_time end = wh_mono_now() + wait; wh_mono_now() < end;) {
        if (r->options.cancelled != NULL && r->options.cancelled(r->options.user))
            return wh_fail(err, -ECANCELED, "cancelled while waiting for the registry.");
        wh_time step = WH_MAX(WH_MIN(end - wh_mono_now(), 100 * WH_MSEC), (wh_time)0);
        struct timespec ts = {.tv_sec = (time_t)(step / WH_SEC), .tv_nsec = (long)(step % WH_SEC)};
        (void)nanosleep(&ts, NULL);
    }
    return 0;
}

/* One request with authentication: a 401 is answered once, and then the next credential has its turn. */
static int call_authorized(wh_registry *r, wh_call *call, wh_answer *a, wh_err *err)
{
    bool answered = false;
    for (;;) {
        if (r->token_until != 0 && wh_mono_now() >= r->token_until) {
            wipe(&r->authorization);
            r->token_until = 0;
        }
        call->authorization = r->authorization;
        int rc = wh_transport_call(r->transport, call, a, err);
        if (rc < 0)
            return rc;
        if (a->status != 401 && a->status != 403)
            return 0;
        if (a->status == 401 && !answered) {
            answered = true;
            rc = answer_challenge(r, a, err);
            if (rc == 0)
                continue;
            if (rc != -EACCES)
                return rc;
        }
        if (r->credential + 1 >= r->options.n_credentials)
            return 0; /* the caller explains the status */
        r->credential++;
        wipe(&r->authorization);
        answered = false;
    }
}

/* The same, with retries: for calls whose repetition does no harm. */
static int call_patiently(wh_registry *r, wh_call *call, wh_answer *a, wh_err *err)
{
    r->unavailable = false;
    for (int attempt = 0;; attempt++) {
        int rc = call_authorized(r, call, a, err);
        if (!may_retry(rc, a->status) || attempt + 1 >= ATTEMPTS_MAX || a->retry_after > RETRY_AFTER_MAX_S) {
            r->unavailable = rc == -ENETUNREACH || rc == -ETIMEDOUT || rc == -ECONNRESET;
            return rc;
        }
        rc = wait_before_retry(r, attempt, rc < 0 ? -1 : a->retry_after, err);
        if (rc < 0)
            return rc;
    }
}

static char *make_url(const wh_registry *r, const char *kind, const char *name)
{
    return wh_xasprintf("%s/v2/%s/%s/%s", r->base, r->options.ref->repository, kind, name);
}

int wh_registry_manifest(wh_registry *r, const char *tag_or_digest, wh_buf *ret_body, char **ret_content_type,
                         char ret_digest[WH_DIGEST_TEXT_MAX], wh_err *err)
{
    auto_answer wh_answer answer = {0};
    auto_free char *url = make_url(r, "manifests", tag_or_digest);
    auto_free char *what = wh_xasprintf("manifest %.100s", tag_or_digest);
    const char *wanted = wh_digest_valid(tag_or_digest) ? tag_or_digest : NULL;
    char found[WH_DIGEST_TEXT_MAX];
    wh_call call = {.url = url, .accept = ACCEPT, .body_max = WH_MANIFEST_BYTES_MAX};
    int rc = call_patiently(r, &call, &answer, err);
    if (rc < 0)
        return rc;
    if (answer.status != 200)
        return explain_status(r, &answer, what, err);
    rc = wh_digest_of(wanted, wh_buf_str(&answer.body), answer.body.len, found, err);
    if (rc < 0)
        return rc;
    if (wanted != NULL && strcmp(wanted, found) != 0)
        return wh_fail(err, -EBADMSG, "manifest: asked for %s, got bytes of %s.", wanted, found);
    memcpy(ret_digest, found, sizeof(found));
    *ret_content_type = WH_TAKE(answer.content_type);
    wh_buf_done(ret_body);
    *ret_body = answer.body;
    answer.body = (wh_buf){0};
    return 0;
}

typedef struct blob_state {
    const wh_descriptor *blob;
    const wh_blob_sink *sink;
    wh_hash *hash;
    uint64_t done;       /* bytes written and hashed */
    uint64_t asked_from; /* where this answer should begin */
    const wh_answer *answer;
    bool answer_began;
    wh_err *err;
} blob_state;

static int blob_restart(blob_state *s)
{
    wh_hash_free(WH_TAKE(s->hash));
    s->done = 0;
    int rc = wh_hash_new(s->blob->digest, &s->hash, s->err);
    return rc < 0 ? rc : s->sink->restart(s->sink->user, s->err);
}

/* A server that ignores Range answers 200: then everything comes again. */
static int blob_begin(blob_state *s, long status)
{
    s->answer_began = true;
    if (status == 206 && s->answer->range_start != (int64_t)s->asked_from)
        return wh_fail(s->err, -EBADMSG, "blob %.20s: the registry sent another range than asked for.",
                       s->blob->digest);
    return status == 200 && s->done > 0 ? blob_restart(s) : 0;
}

static int blob_data(void *user, long status, const void *data, size_t n)
{
    blob_state *s = user;
    int rc = s->answer_began ? 0 : blob_begin(s, status);
    if (rc < 0)
        return rc;
    if (n > s->blob->size - s->done)
        return wh_fail(s->err, -EBADMSG, "blob %.20s is longer than the %llu bytes of its descriptor.",
                       s->blob->digest, (unsigned long long)s->blob->size);
    wh_hash_add(s->hash, data, n);
    s->done += n;
    return s->sink->write(s->sink->user, data, n, s->err);
}

static int blob_attempt(wh_registry *r, blob_state *s, const char *url, wh_answer *answer)
{
    wh_call call = {.url = url, .stream = true, .on_data = blob_data, .user = s, .range_from = s->done};
    s->asked_from = s->done;
    s->answer_began = false;
    s->answer = answer;
    int rc = call_authorized(r, &call, answer, s->err);
    if (rc == 0 && answer->status == 416) /* our part is not part of it: begin again */
        rc = blob_restart(s) < 0
                 ? -EIO
                 : wh_fail(s->err, -ECONNRESET, "blob %.20s: the registry lost its place.", s->blob->digest);
    else if (rc == 0 && answer->status != 200 && answer->status != 206)
        return 0;
    else if (rc == 0 && s->done < s->blob->size)
        rc = wh_fail(s->err, -ECONNRESET, "blob %.20s ends after %llu of %llu bytes.", s->blob->digest,
                     (unsigned long long)s->done, (unsigned long long)s->blob->size);
    return rc;
}

static int blob_verify(const blob_state *s)
{
    char found[WH_DIGEST_TEXT_MAX];
    wh_hash_text(s->hash, found);
    if (strcmp(found, s->blob->digest) != 0)
        return wh_fail(s->err, -EBADMSG, "blob %s: its bytes have the digest %s.", s->blob->digest, found);
    return 0;
}

int wh_registry_blob(wh_registry *r, const wh_descriptor *blob, const wh_blob_sink *sink, wh_err *err)
{
    auto_answer wh_answer answer = {0};
    auto_free char *url = make_url(r, "blobs", blob->digest);
    blob_state s = {.blob = blob, .sink = sink, .err = err};
    int rc = wh_hash_new(blob->digest, &s.hash, err);
    r->unavailable = false;
    uint64_t before = 0;
    for (int attempt = 0; rc == 0; attempt++) {
        rc = blob_attempt(r, &s, url, &answer);
        if (s.done > before) { /* progress earns new patience */
            before = s.done;
            attempt = 0;
        }
        if (!may_retry(rc, answer.status) || attempt + 1 >= ATTEMPTS_MAX ||
            answer.retry_after > RETRY_AFTER_MAX_S)
            break;
        rc = wait_before_retry(r, attempt, rc < 0 ? -1 : answer.retry_after, err);
    }
    r->unavailable = may_retry(rc, rc < 0 ? 0 : answer.status);
    if (rc == 0 && answer.status != 200 && answer.status != 206) {
        auto_free char *what = wh_xasprintf("blob %.20s", blob->digest);
        rc = explain_status(r, &answer, what, err);
    }
    if (rc == 0)
        rc = blob_verify(&s);
    wh_hash_free(s.hash);
    return rc;
}

/* ---- pushing ---- */

static int push_location(wh_registry *r, const wh_answer *a, const char *digest, char **ret, wh_err *err)
{
    if (a->location == NULL)
        return wh_fail(err, -EBADMSG, "the registry began an upload and did not say where.");
    auto_free char *origin = wh_url_origin(r->base);
    char glue = strchr(a->location, '?') == NULL ? '?' : '&';
    bool absolute = a->location[0] != '/';
    *ret = wh_xasprintf("%s%s%cdigest=%.6s%%3A%s", absolute ? "" : origin, a->location, glue, digest,
                        wh_digest_hex(digest));
    return 0;
}

int wh_registry_push_blob(wh_registry *r, const char *digest, int fd, uint64_t bytes, wh_err *err)
{
    auto_answer wh_answer answer = {0};
    auto_free char *head = make_url(r, "blobs", digest);
    wh_call call = {.method = "HEAD", .url = head};
    int rc = call_patiently(r, &call, &answer, err);
    if (rc < 0 || answer.status == 200)
        return rc;
    auto_free char *begin = wh_xasprintf("%s/v2/%s/blobs/uploads/", r->base, r->options.ref->repository);
    call = (wh_call){.method = "POST", .url = begin};
    rc = call_patiently(r, &call, &answer, err);
    if (rc < 0)
        return rc;
    if (answer.status != 202)
        return explain_status(r, &answer, "begin an upload", err);
    auto_free char *where = NULL;
    rc = push_location(r, &answer, digest, &where, err);
    if (rc < 0)
        return rc;
    call = (wh_call){.method = "PUT",
                     .url = where,
                     .content_type = "application/octet-stream",
                     .upload = true,
                     .body_fd = fd,
                     .body_fd_bytes = bytes,
                     .stream = true};
    rc = call_authorized(r, &call, &answer, err);
    if (rc < 0)
        return rc;
    return answer.status == 201 ? 0 : explain_status(r, &answer, "upload", err);
}

int wh_registry_push_manifest(wh_registry *r, const char *tag_or_digest, const char *media_type,
                              const void *data, size_t n, wh_err *err)
{
    auto_answer wh_answer answer = {0};
    auto_free char *url = make_url(r, "manifests", tag_or_digest);
    wh_call call = {.method = "PUT", .url = url, .content_type = media_type, .body = data, .body_bytes = n};
    int rc = call_patiently(r, &call, &answer, err);
    if (rc < 0)
        return rc;
    return answer.status == 201 ? 0 : explain_status(r, &answer, "push the manifest", err);
}
