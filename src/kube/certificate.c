/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates from the cluster's signers (certificates.k8s.io/v1): key, request, wait, store, and again in time. */
#include "kube/certificate.h"

#include "base/file.h"

#include <fcntl.h>

#define FILE_BYTES_MAX (256UL << 10)
#define POLL_FIRST (50 * WH_MSEC)
#define POLL_MAX (20 * WH_SEC)
#define POLL_MAX_AT_FIRST (2 * WH_SEC) /* within a minute: somebody may be sitting there and approving */
#define PENDING_AFTER (5 * WH_SEC)     /* from then on a wait for approval is worth a word */
#define RETRY_MAX (5 * WH_MINUTE)
#define CHECK_PERIOD WH_MINUTE /* the real clock may be set at any time */

typedef enum { CERT_IDLE, CERT_POSTING, CERT_POLLING } cert_state;

struct wh_cert {
    wh_loop *loop;
    wh_kube *kube;
    wh_cert_kind kind;
    char *node_name, *file, *pending_file;
    wh_strv dns, ips;
    void (*on_certificate)(const char *cert_pem, const char *key_pem, void *user);
    void (*on_error)(const wh_err *err, void *user);
    void *user;

    char *cert_pem, *key_pem;
    wh_time not_after, rotates_at; /* real time */
    cert_state state;
    char *new_key, *csr_name;
    wh_time asked_at; /* monotonic */
    bool told_pending, tell;
    wh_kube_call *call;
    wh_timer timer;
    wh_backoff poll, retry;
};

static void step(wh_cert *c);

static void wipe(char *secret)
{
    if (secret != NULL)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

static void complain(const wh_cert *c, const wh_err *err)
{
    if (c->on_error != NULL)
        c->on_error(err, c->user);
}

wh_time wh_cert_rotation_time(wh_time not_before, wh_time not_after, uint64_t r)
{
    wh_time lifetime = WH_MAX(not_after - not_before, (wh_time)0);
    wh_time spread = lifetime / 5;
    return not_before + lifetime / 10 * 7 + (wh_time)(r % ((uint64_t)spread + 1));
}

/* ---- the file ---- */

/* Certificates and key stand in one file in either order; each reader takes what is its own. */
int wh_cert_file_load(const char *file, wh_time now, char **ret_cert_pem, char **ret_key_pem, wh_err *err)
{
    auto_free char *text = NULL;
    size_t n = 0;
    int r = wh_read_file(AT_FDCWD, file, FILE_BYTES_MAX, &text, &n, err);
    if (r < 0)
        return r;
    wh_cert_info info = {0};
    r = wh_cert_read(text, &info, err);
    if (r == 0)
        r = wh_cert_matches(text, text, err);
    if (r < 0) {
        explicit_bzero(text, n);
        (void)wh_wrap(err, "certificate file '%s'", file);
        return r;
    }
    wh_time not_after = info.not_after;
    wh_cert_info_done(&info);
    if (not_after <= now) {
        char when[WH_RFC3339_LEN];
        explicit_bzero(text, n);
        return wh_fail(err, -ETIME, "certificate file '%s': it expired at %s.", file,
                       wh_rfc3339(not_after, 0, when));
    }
    *ret_key_pem = wh_xstrndup(text, n);
    *ret_cert_pem = WH_TAKE(text);
    return 0;
}

static void take_certificate(wh_cert *c, char *cert_pem, char *key_pem)
{
    wh_cert_info info = {0};
    uint64_t r;
    wh_random(&r, sizeof(r));
    if (wh_cert_read(cert_pem, &info, NULL) == 0) {
        c->not_after = info.not_after;
        c->rotates_at = wh_cert_rotation_time(info.not_before, info.not_after, r);
    }
    wh_cert_info_done(&info);
    wipe(c->cert_pem);
    wipe(c->key_pem);
    c->cert_pem = cert_pem;
    c->key_pem = key_pem;
    c->tell = true;
}

static bool same_set(char *const *a, char *const *b)
{
    if (wh_strv_len(a) != wh_strv_len(b))
        return false;
    for (size_t i = 0; i < wh_strv_len(a); i++)
        if (!wh_strv_has(b, a[i]))
            return false;
    return true;
}

/* The certificate is for this node and these names, and good for now. */
static bool fits(const wh_cert *c, const char *cert_pem)
{
    wh_cert_info info = {0};
    if (cert_pem == NULL || wh_cert_read(cert_pem, &info, NULL) < 0)
        return false;
    auto_free char *cn = wh_xasprintf("system:node:%s", c->node_name);
    bool fit = wh_streq(info.subject.cn, cn) && info.not_after > wh_real_now() &&
               (c->kind == WH_CERT_CLIENT || (same_set(info.dns, c->dns) && same_set(info.ips, c->ips)));
    wh_cert_info_done(&info);
    return fit;
}

/* A request that was not answered yet survives a restart: "csr NAME" and the key. */
static void save_pending(const wh_cert *c)
{
    auto_free char *text = wh_xasprintf("csr %s\n%s", c->csr_name, c->new_key);
    wh_err err = {0};
    if (wh_write_file(AT_FDCWD, c->pending_file, text, strlen(text), 0600, &err) < 0)
        complain(c, &err);
    explicit_bzero(text, strlen(text));
}

static void load_pending(wh_cert *c)
{
    auto_free char *text = NULL;
    size_t n = 0;
    if (wh_read_file(AT_FDCWD, c->pending_file, FILE_BYTES_MAX, &text, &n, NULL) < 0)
        return;
    wh_str rest = {text, n};
    wh_str line;
    if (wh_starts_with(text, "csr ") && wh_str_split(&rest, '\n', &line) && line.n > 4) {
        c->csr_name = wh_xstrndup(line.p + 4, line.n - 4);
        c->new_key = wh_xstrndup(rest.p, rest.n);
        c->state = CERT_POLLING;
        c->asked_at = wh_loop_now(c->loop);
    }
    explicit_bzero(text, n);
}

static void forget_pending(wh_cert *c)
{
    wh_kube_cancel(WH_TAKE(c->call));
    wipe(WH_TAKE(c->new_key));
    free(WH_TAKE(c->csr_name));
    (void)unlink(c->pending_file);
    c->state = CERT_IDLE;
    c->told_pending = false;
    wh_backoff_reset(&c->poll);
}

/* ---- asking ---- */

static void on_timer(wh_timer *timer)
{
    step(timer->user);
}

static void later(wh_cert *c, wh_time delay)
{
    wh_timer_start(c->loop, &c->timer, delay, on_timer, c);
}

static void poll_later(wh_cert *c)
{
    bool early = wh_loop_now(c->loop) - c->asked_at < WH_MINUTE;
    wh_time delay = wh_backoff_next(&c->poll);
    later(c, early ? WH_MIN(delay, POLL_MAX_AT_FIRST) : delay);
}

static void failed(wh_cert *c, const wh_err *err)
{
    forget_pending(c);
    later(c, wh_backoff_next(&c->retry));
    complain(c, err);
}

static int install(wh_cert *c, const char *encoded, wh_err *err)
{
    uint8_t *raw = NULL;
    size_t n = 0;
    if (wh_unbase64(encoded, strlen(encoded), &raw, &n) < 0)
        return wh_fail(err, -EBADMSG, "the issued certificate is no base64.");
    auto_free char *cert = memchr(raw, '\0', n) != NULL ? wh_xstrdup("") : wh_xstrndup((const char *)raw, n);
    free(raw);
    int r = wh_cert_matches(cert, c->new_key, err);
    if (r < 0) {
        (void)wh_wrap(err, "the issued certificate");
        return r;
    }
    if (!fits(c, cert))
        return wh_fail(err, -EBADMSG,
                       "the issued certificate has expired or is for another node or address.");
    auto_free char *both = wh_xasprintf("%s%s%s", cert, wh_ends_with(cert, "\n") ? "" : "\n", c->new_key);
    r = wh_write_file(AT_FDCWD, c->file, both, strlen(both), 0600, err);
    explicit_bzero(both, strlen(both));
    if (r < 0)
        return r;
    take_certificate(c, WH_TAKE(cert), WH_TAKE(c->new_key));
    forget_pending(c);
    wh_backoff_reset(&c->retry);
    return 0;
}

/* The message of the condition Denied or Failed, or NULL. */
static const char *verdict(const json_t *csr)
{
    size_t i;
    json_t *condition;
    json_array_foreach(wh_json_at(csr, "status.conditions"), i, condition)
    {
        const char *type = wh_json_str(condition, "type");
        const char *message = wh_json_str(condition, "message");
        if (wh_streq(type, "Denied") || wh_streq(type, "Failed"))
            return message == NULL || message[0] == '\0' ? type : message;
    }
    return NULL;
}

static void tell_pending(wh_cert *c)
{
    if (c->told_pending || wh_loop_now(c->loop) - c->asked_at < PENDING_AFTER)
        return;
    c->told_pending = true;
    wh_err err = {0};
    (void)wh_fail(&err, -EINPROGRESS,
                  "certificate request '%s' waits for approval: kubectl certificate approve %s", c->csr_name,
                  c->csr_name);
    complain(c, &err);
}

static void on_polled(const wh_kube_result *result, void *user)
{
    wh_cert *c = user;
    wh_err err = {0};
    c->call = NULL;
    if (result->class_ == WH_KUBE_NOT_FOUND) {
        (void)wh_fail(&err, -ENOENT, "certificate request '%s' is gone; asking anew.", c->csr_name);
        failed(c, &err);
        return;
    }
    if (result->class_ != WH_KUBE_OK) {
        poll_later(c);
        complain(c, &result->err);
        return;
    }
    const char *no = verdict(result->body);
    const char *encoded = wh_json_str(result->body, "status.certificate");
    if (no != NULL) {
        (void)wh_fail(&err, -EACCES, "certificate request '%s' was refused: %s", c->csr_name, no);
        failed(c, &err);
    } else if (encoded == NULL || encoded[0] == '\0') {
        poll_later(c);
        tell_pending(c);
    } else if (install(c, encoded, &err) < 0) {
        failed(c, &err);
    } else {
        step(c);
    }
}

static void on_posted(const wh_kube_result *result, void *user)
{
    wh_cert *c = user;
    c->call = NULL;
    const char *name = wh_json_str(result->body, "metadata.name");
    if (result->class_ != WH_KUBE_OK || name == NULL) {
        wh_err err = result->err;
        if (err.code == 0)
            (void)wh_fail(&err, -EBADMSG, "ask for a certificate: the answer has no name.");
        failed(c, &err);
        return;
    }
    c->csr_name = wh_xstrdup(name);
    c->state = CERT_POLLING;
    c->asked_at = wh_loop_now(c->loop);
    save_pending(c);
    poll_later(c);
}

static int make_request(wh_cert *c, json_t **ret, wh_err *err)
{
    bool client = c->kind == WH_CERT_CLIENT;
    auto_free char *csr = NULL;
    auto_free char *cn = wh_xasprintf("system:node:%s", c->node_name);
    int r = wh_key_new(&c->new_key, err);
    if (r == 0)
        r = wh_csr_new(c->new_key, "system:nodes", cn, client ? NULL : c->dns, client ? NULL : c->ips, &csr,
                       err);
    if (r < 0)
        return r;
    wh_assert(csr != NULL);
    auto_free char *encoded = wh_base64(csr, strlen(csr));
    *ret = json_pack("{s:s, s:s, s:{s:s}, s:{s:s, s:s, s:[s, s]}}", "apiVersion", "certificates.k8s.io/v1",
                     "kind", "CertificateSigningRequest", "metadata", "generateName", "csr-", "spec",
                     "request", encoded, "signerName",
                     client ? "kubernetes.io/kube-apiserver-client-kubelet" : "kubernetes.io/kubelet-serving",
                     "usages", "digital signature", client ? "client auth" : "server auth");
    wh_assert(*ret != NULL);
    return 0;
}

static void post(wh_cert *c)
{
    auto_json json_t *body = NULL;
    wh_err err = {0};
    if (make_request(c, &body, &err) < 0) {
        failed(c, &err);
        return;
    }
    c->state = CERT_POSTING;
    wh_kube_request request = {
        .method = "POST", .path = "/apis/certificates.k8s.io/v1/certificatesigningrequests", .body = body};
    c->call = wh_kube_do(c->kube, &request, on_posted, c);
}

static void poll_request(wh_cert *c)
{
    auto_free char *path =
        wh_kube_path("/apis/certificates.k8s.io/v1/certificatesigningrequests/%s", c->csr_name);
    wh_kube_request request = {.path = path, .tries = 1};
    c->call = wh_kube_do(c->kube, &request, on_polled, c);
}

/* Says what there is to say, and decides what is due. */
static void step(wh_cert *c)
{
    if (c->tell) {
        c->tell = false;
        /* Before the callback, which may free us, so that nothing is left to do after it. */
        later(c, 0);
        c->on_certificate(c->cert_pem, c->key_pem, c->user);
        return;
    }
    bool due = wh_real_now() >= c->rotates_at || !fits(c, c->cert_pem);
    if (c->call != NULL)
        return;
    if (c->state == CERT_IDLE && !due) {
        later(c, WH_MIN(WH_MAX(c->rotates_at - wh_real_now(), (wh_time)0) + WH_MSEC, CHECK_PERIOD));
        return;
    }
    if (c->kube == NULL)
        return; /* until wh_cert_use */
    if (c->state == CERT_POLLING)
        poll_request(c);
    else
        post(c);
}

/* ---- life ---- */

int wh_cert_start(wh_loop *loop, wh_kube *kube, const wh_cert_options *options, wh_cert **ret, wh_err *err)
{
    if (options->kind == WH_CERT_SERVING && wh_strv_len(options->dns) + wh_strv_len(options->ips) == 0)
        return wh_fail(err, -EINVAL, "a serving certificate needs a name or an address.");
    const char *slash = strrchr(options->file, '/');
    if (slash != NULL && slash != options->file) {
        auto_free char *folder = wh_xstrndup(options->file, (size_t)(slash - options->file));
        int r = wh_mkdir_p(folder, 0700, err);
        if (r < 0)
            return r;
    }
    wh_cert *c = wh_xnew(wh_cert);
    c->loop = loop;
    c->kube = kube;
    c->kind = options->kind;
    c->node_name = wh_xstrdup(options->node_name);
    c->file = wh_xstrdup(options->file);
    c->pending_file = wh_xasprintf("%s.pending", options->file);
    c->dns = wh_strv_copy(options->dns);
    c->ips = wh_strv_copy(options->ips);
    c->on_certificate = options->on_certificate;
    c->on_error = options->on_error;
    c->user = options->user;
    uint64_t seed;
    wh_random(&seed, sizeof(seed));
    wh_backoff_init(&c->poll, POLL_FIRST, POLL_MAX, seed);
    wh_backoff_init(&c->retry, options->retry_first > 0 ? options->retry_first : WH_SEC, RETRY_MAX, seed + 1);
    char *cert = NULL;
    char *key = NULL;
    if (wh_cert_file_load(c->file, wh_real_now(), &cert, &key, NULL) == 0)
        take_certificate(c, cert, key);
    load_pending(c);
    later(c, 0);
    *ret = c;
    return 0;
}

void wh_cert_use(wh_cert *cert, wh_kube *kube)
{
    if (cert->call != NULL) {
        wh_kube_cancel(WH_TAKE(cert->call));
        if (cert->state == CERT_POSTING)
            forget_pending(cert);
    }
    cert->kube = kube;
    later(cert, 0);
}

void wh_cert_set_names(wh_cert *cert, char *const *dns, char *const *ips)
{
    if (same_set(cert->dns, dns) && same_set(cert->ips, ips))
        return;
    wh_strv_free(cert->dns);
    wh_strv_free(cert->ips);
    cert->dns = wh_strv_copy(dns);
    cert->ips = wh_strv_copy(ips);
    forget_pending(cert);
    later(cert, 0);
}

void wh_cert_free(wh_cert *cert)
{
    if (cert == NULL)
        return;
    wh_kube_cancel(cert->call);
    wh_timer_stop(&cert->timer);
    wipe(cert->cert_pem);
    wipe(cert->key_pem);
    wipe(cert->new_key);
    free(cert->csr_name);
    free(cert->node_name);
    free(cert->file);
    free(cert->pending_file);
    wh_strv_free(cert->dns);
    wh_strv_free(cert->ips);
    free(cert);
}

bool wh_cert_is_pending(const wh_cert *cert)
{
    return cert->state == CERT_POLLING && cert->told_pending;
}

wh_time wh_cert_not_after(const wh_cert *cert)
{
    return cert->not_after;
}

wh_time wh_cert_rotates_at(const wh_cert *cert)
{
    return cert->rotates_at;
}
