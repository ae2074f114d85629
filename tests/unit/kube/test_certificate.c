/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates from a stub of the cluster's signers: bootstrap, approval, refusal, rotation, restarts. */
#include "fake.h"

#include "base/file.h"
#include "kube/certificate.h"

#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

typedef struct signer {
    fake *f;
    EVP_PKEY *key;
    X509 *ca;
    char *issued; /* PEM, for the last request */
    char *request;
    char signer_name[128], usages[128];
    int posts, polls, given, errors;
    bool approve, deny, lose;
    long seconds; /* of the certificates' lifetime */
    char *cert_pem, *key_pem;
    wh_err err;
    char folder[64], *file;
    wh_cert *cert;
} signer;

static char *to_pem(X509 *cert)
{
    BIO *bio = BIO_new(BIO_s_mem());
    CHECK_INT(PEM_write_bio_X509(bio, cert), ==, 1);
    char *data = NULL;
    long n = BIO_get_mem_data(bio, &data);
    char *pem = wh_xstrndup(data, (size_t)n);
    BIO_free(bio);
    return pem;
}

static char *sign(signer *s, const char *csr)
{
    BIO *bio = BIO_new_mem_buf(csr, -1);
    X509_REQ *req = PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL);
    CHECK(req != NULL);
    BIO_free(bio);
    X509 *cert = X509_new();
    EVP_PKEY *pub = X509_REQ_get_pubkey(req);
    (void)X509_set_version(cert, X509_VERSION_3);
    (void)ASN1_INTEGER_set(X509_get_serialNumber(cert), 5);
    (void)X509_set_subject_name(cert, X509_REQ_get_subject_name(req));
    (void)X509_set_issuer_name(cert, X509_get_subject_name(s->ca));
    (void)X509_gmtime_adj(X509_getm_notBefore(cert), 0);
    (void)X509_gmtime_adj(X509_getm_notAfter(cert), s->seconds);
    (void)X509_set_pubkey(cert, pub);
    STACK_OF(X509_EXTENSION) *list = X509_REQ_get_extensions(req);
    for (int i = 0; i < sk_X509_EXTENSION_num(list); i++)
        (void)X509_add_ext(cert, sk_X509_EXTENSION_value(list, i), -1);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    CHECK_INT(X509_sign(cert, s->key, EVP_sha256()), >, 0);
    char *pem = to_pem(cert);
    X509_free(cert);
    EVP_PKEY_free(pub);
    X509_REQ_free(req);
    return pem;
}

static void take_request(signer *s, const wh_http_request *r)
{
    auto_json json_t *body = NULL;
    uint8_t *raw = NULL;
    size_t n = 0;
    CHECK_OK(wh_json_parse(r->body, r->body_bytes, &body, NULL), NULL);
    const char *encoded = wh_json_str(body, "spec.request");
    CHECK(encoded != NULL);
    CHECK_OK(wh_unbase64(encoded, strlen(encoded), &raw, &n), NULL);
    free(s->request);
    s->request = wh_xstrndup((const char *)raw, n);
    free(raw);
    (void)snprintf(s->signer_name, sizeof(s->signer_name), "%s", wh_json_str(body, "spec.signerName"));
    auto_free char *usages = wh_json_dump(wh_json_at(body, "spec.usages"));
    (void)snprintf(s->usages, sizeof(s->usages), "%s", usages);
    s->posts++;
}

static void handle(wh_http_exchange *x, const wh_http_request *r, void *user)
{
    signer *s = user;
    CHECK(wh_starts_with(r->path, "/apis/certificates.k8s.io/v1/certificatesigningrequests"));
    if (strcmp(r->method, "POST") == 0) {
        take_request(s, r);
        auto_free char *json = wh_xasprintf("{\"metadata\":{\"name\":\"csr-%d\"}}", s->posts);
        fake_json(x, 201, json);
        return;
    }
    s->polls++;
    if (s->lose) {
        s->lose = false;
        fake_status(x, 404, "NotFound", "gone");
    } else if (s->deny) {
        s->deny = false;
        fake_json(x, 200, "{\"status\":{\"conditions\":[{\"type\":\"Denied\",\"message\":\"not you\"}]}}");
    } else if (s->approve) {
        auto_free char *pem = sign(s, s->request);
        auto_free char *encoded = wh_base64(pem, strlen(pem));
        auto_free char *json = wh_xasprintf(
            "{\"status\":{\"conditions\":[{\"type\":\"Approved\"}],\"certificate\":\"%s\"}}", encoded);
        fake_json(x, 200, json);
    } else {
        fake_json(x, 200, "{\"status\":{}}");
    }
}

static void on_certificate(const char *cert_pem, const char *key_pem, void *user)
{
    signer *s = user;
    free(s->cert_pem);
    free(s->key_pem);
    s->cert_pem = wh_xstrdup(cert_pem);
    s->key_pem = wh_xstrdup(key_pem);
    CHECK_OK(wh_cert_matches(cert_pem, key_pem, NULL), NULL);
    s->given++;
}

static void on_error(const wh_err *err, void *user)
{
    signer *s = user;
    s->err = *err;
    s->errors++;
}

static signer *start(void)
{
    signer *s = wh_xnew(signer);
    s->f = fake_start(handle, s, NULL);
    s->seconds = 3600;
    s->key = EVP_EC_gen("P-256");
    s->ca = X509_new();
    (void)X509_NAME_add_entry_by_NID(X509_get_subject_name(s->ca), NID_commonName, MBSTRING_UTF8,
                                     (const unsigned char *)"ca", -1, -1, 0);
    (void)snprintf(s->folder, sizeof(s->folder), "/tmp/wherry-cert-XXXXXX");
    CHECK(mkdtemp(s->folder) != NULL);
    s->file = wh_path_join(s->folder, "pki/current.pem");
    return s;
}

static void open_cert(signer *s, wh_cert_kind kind, const char *ip)
{
    char *ips[] = {(char *)(uintptr_t)ip, NULL};
    wh_cert_options o = {.kind = kind,
                         .node_name = "n1",
                         .file = s->file,
                         .ips = ip == NULL ? NULL : ips,
                         .on_certificate = on_certificate,
                         .on_error = on_error,
                         .user = s,
                         .retry_first = 30 * WH_MSEC};
    wh_err err = {0};
    CHECK_OK(wh_cert_start(s->f->loop, s->f->kube, &o, &s->cert, &err), &err);
    CHECK_INT(s->given, ==, 0);
}

static void stop(signer *s)
{
    wh_cert_free(s->cert);
    fake_stop(s->f);
    CHECK_OK(wh_rm_rf(AT_FDCWD, s->folder, NULL), NULL);
    EVP_PKEY_free(s->key);
    X509_free(s->ca);
    free(s->issued);
    free(s->request);
    free(s->cert_pem);
    free(s->key_pem);
    free(s->file);
    free(s);
}

TEST(bootstrap_gives_an_identity)
{
    signer *s = start();
    s->approve = true;
    open_cert(s, WH_CERT_CLIENT, NULL);
    fake_until(s->f, &s->given, 1);
    CHECK_STR(s->signer_name, "kubernetes.io/kube-apiserver-client-kubelet");
    CHECK_STR(s->usages, "[\"digital signature\",\"client auth\"]");
    wh_cert_info info;
    CHECK_OK(wh_cert_read(s->cert_pem, &info, NULL), NULL);
    CHECK_STR(info.subject.cn, "system:node:n1");
    CHECK_INT(wh_strv_len(info.subject.orgs), ==, 1);
    CHECK(wh_strv_has(info.subject.orgs, "system:nodes"));
    CHECK_INT(wh_strv_len(info.dns) + wh_strv_len(info.ips), ==, 0);
    CHECK_INT(wh_cert_not_after(s->cert), ==, info.not_after);
    wh_cert_info_done(&info);
    struct stat st;
    CHECK_INT(stat(s->file, &st), ==, 0);
    CHECK_INT(st.st_mode & 0777, ==, 0600);
    /* A restart takes the file and asks nobody. */
    wh_cert_free(s->cert);
    s->given = 0;
    int posts = s->posts;
    open_cert(s, WH_CERT_CLIENT, NULL);
    fake_until(s->f, &s->given, 1);
    fake_spin(s->f, 50 * WH_MSEC);
    CHECK_INT(s->posts, ==, posts);
    stop(s);
}

TEST(a_serving_certificate_waits_for_its_approval_also_over_a_restart)
{
    signer *s = start();
    open_cert(s, WH_CERT_SERVING, "10.0.0.1");
    fake_until(s->f, &s->polls, 2);
    CHECK_STR(s->signer_name, "kubernetes.io/kubelet-serving");
    CHECK_STR(s->usages, "[\"digital signature\",\"server auth\"]");
    CHECK_INT(s->given, ==, 0);
    wh_cert_free(s->cert);
    s->approve = true;
    open_cert(s, WH_CERT_SERVING, "10.0.0.1");
    fake_until(s->f, &s->given, 1);
    CHECK_INT(s->posts, ==, 1); /* the same request */
    wh_cert_info info;
    CHECK_OK(wh_cert_read(s->cert_pem, &info, NULL), NULL);
    CHECK(wh_strv_has(info.ips, "10.0.0.1"));
    wh_cert_info_done(&info);
    auto_free char *pending = wh_xasprintf("%s.pending", s->file);
    CHECK_INT(access(pending, F_OK), ==, -1);
    stop(s);
}

TEST_TIMEOUT(waiting_for_approval_is_told_once, 40)
{
    signer *s = start();
    open_cert(s, WH_CERT_SERVING, "10.0.0.1");
    fake_until(s->f, &s->errors, 1);
    CHECK_INT(s->err.code, ==, -EINPROGRESS);
    CHECK_CONTAINS(s->err.msg, "kubectl certificate approve csr-1");
    CHECK(wh_cert_is_pending(s->cert));
    stop(s);
}

TEST(refused_and_lost_requests_are_made_anew)
{
    signer *s = start();
    s->deny = true;
    open_cert(s, WH_CERT_CLIENT, NULL);
    fake_until(s->f, &s->errors, 1);
    CHECK_INT(s->err.code, ==, -EACCES);
    CHECK_CONTAINS(s->err.msg, "not you");
    s->lose = true;
    fake_until(s->f, &s->errors, 2);
    CHECK_INT(s->err.code, ==, -ENOENT);
    s->approve = true;
    fake_until(s->f, &s->given, 1);
    CHECK_INT(s->posts, ==, 3);
    stop(s);
}

TEST_TIMEOUT(it_rotates_in_time_with_a_new_key, 40)
{
    signer *s = start();
    s->approve = true;
    s->seconds = 3;
    open_cert(s, WH_CERT_CLIENT, NULL);
    fake_until(s->f, &s->given, 1);
    auto_free char *old_key = wh_xstrdup(s->key_pem);
    s->seconds = 3600;
    fake_until(s->f, &s->given, 2);
    CHECK(strstr(s->key_pem, old_key) == NULL);
    CHECK_INT(wh_cert_not_after(s->cert), >, wh_real_now() + 50 * WH_MINUTE);
    stop(s);
}

TEST(other_addresses_mean_another_certificate)
{
    signer *s = start();
    char *ips[] = {(char[]){"10.0.0.2"}, NULL};
    s->approve = true;
    open_cert(s, WH_CERT_SERVING, "10.0.0.1");
    fake_until(s->f, &s->given, 1);
    wh_cert_set_names(s->cert, NULL, ips);
    fake_until(s->f, &s->given, 2);
    wh_cert_info info;
    CHECK_OK(wh_cert_read(s->cert_pem, &info, NULL), NULL);
    CHECK(wh_strv_has(info.ips, "10.0.0.2"));
    wh_cert_info_done(&info);
    wh_cert_set_names(s->cert, NULL, ips);
    fake_spin(s->f, 50 * WH_MSEC);
    CHECK_INT(s->posts, ==, 2);
    stop(s);
}

TEST(a_certificate_that_is_over_at_once_is_no_loop)
{
    signer *s = start();
    s->approve = true;
    s->seconds = -10;
    open_cert(s, WH_CERT_CLIENT, NULL);
    fake_spin(s->f, 700 * WH_MSEC);
    CHECK_INT(s->given, ==, 0);
    CHECK_INT(s->posts, >=, 1);
    CHECK_INT(s->posts, <=, 6);
    CHECK_CONTAINS(s->err.msg, "has expired or is for another");
    stop(s);
}

TEST(renewal_lies_between_70_and_90_percent)
{
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t r = i * 0x9e3779b97f4a7c15u;
        wh_time at = wh_cert_rotation_time(1000 * WH_SEC, 2000 * WH_SEC, r);
        CHECK_INT(at, >=, 1700 * WH_SEC);
        CHECK_INT(at, <=, 1900 * WH_SEC);
    }
    CHECK_INT(wh_cert_rotation_time(10, 5, 7), ==, 10);
    CHECK_INT(wh_cert_rotation_time(0, INT64_MAX, UINT64_MAX), >, 0);
}

TEST(certificate_files_are_checked)
{
    signer *s = start();
    wh_err err = {0};
    char *cert = NULL;
    char *key = NULL;
    CHECK_FAIL(wh_cert_file_load(s->file, 0, &cert, &key, &err), -ENOENT);
    s->approve = true;
    open_cert(s, WH_CERT_CLIENT, NULL);
    fake_until(s->f, &s->given, 1);
    CHECK_ERR(wh_cert_file_load(s->file, wh_real_now() + 2 * WH_HOUR, &cert, &key, &err), -ETIME, &err,
              "it expired at");
    CHECK_OK(wh_write_file(AT_FDCWD, s->file, s->cert_pem, strlen(s->cert_pem) / 2, 0600, &err), &err);
    CHECK_ERR(wh_cert_file_load(s->file, 0, &cert, &key, &err), -EBADMSG, &err, s->file);
    CHECK(cert == NULL && key == NULL);
    stop(s);
}
