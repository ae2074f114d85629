/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tls.h"

#include "harness.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>

TEST(self_signed_certificates_say_what_was_asked_for)
{
    auto_free char *key = NULL;
    auto_free char *cert = NULL;
    wh_err err = {0};
    char *dns[] = {(char[]){"node-1"}, NULL};
    char *ips[] = {(char[]){"10.0.0.1"}, (char[]){"fd00::1"}, NULL};
    CHECK_OK(wh_key_new(&key, &err), &err);
    CHECK_OK(wh_cert_self_signed(key, "node-1", dns, ips, 24 * WH_HOUR, &cert, &err), &err);
    wh_cert_info info;
    CHECK_OK(wh_cert_read(cert, &info, &err), &err);
    CHECK_STR(info.subject.cn, "node-1");
    CHECK_INT(wh_strv_len(info.dns), ==, 1);
    CHECK(wh_strv_has(info.dns, "node-1"));
    CHECK(wh_strv_has(info.ips, "10.0.0.1"));
    CHECK(wh_strv_has(info.ips, "fd00::1"));
    CHECK_INT(info.not_before, <, wh_real_now());
    CHECK_INT(info.not_after, >, wh_real_now() + 23 * WH_HOUR);
    wh_cert_info_done(&info);
    CHECK_OK(wh_cert_matches(cert, key, &err), &err);
    auto_free char *other = NULL;
    CHECK_OK(wh_key_new(&other, &err), &err);
    CHECK_FAIL(wh_cert_matches(cert, other, &err), -EBADMSG);
}

/* kubernetes.io/kube-apiserver-client-kubelet wants exactly one O, the CN, and no SANs. */
TEST(requests_have_the_exact_subject)
{
    auto_free char *key = NULL;
    auto_free char *csr = NULL;
    wh_err err = {0};
    CHECK_OK(wh_key_new(&key, &err), &err);
    CHECK_OK(wh_csr_new(key, "system:nodes", "system:node:n1", NULL, NULL, &csr, &err), &err);
    CHECK(wh_starts_with(csr, "-----BEGIN CERTIFICATE REQUEST-----\n"));
    BIO *bio = BIO_new_mem_buf(csr, -1);
    X509_REQ *req = PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL);
    CHECK(req != NULL);
    EVP_PKEY *pub = X509_REQ_get_pubkey(req);
    CHECK_INT(X509_REQ_verify(req, pub), ==, 1);
    char text[200];
    CHECK(X509_NAME_oneline(X509_REQ_get_subject_name(req), text, sizeof(text)) != NULL);
    CHECK_STR(text, "/O=system:nodes/CN=system:node:n1");
    CHECK_INT(X509_REQ_get_attr_count(req), <=, 0);
    EVP_PKEY_free(pub);
    X509_REQ_free(req);
    BIO_free(bio);
}

TEST(requests_carry_names)
{
    auto_free char *key = NULL;
    auto_free char *csr = NULL;
    wh_err err = {0};
    char *dns[] = {(char[]){"n1"}, NULL};
    char *ips[] = {(char[]){"10.0.0.1"}, NULL};
    CHECK_OK(wh_key_new(&key, &err), &err);
    CHECK_OK(wh_csr_new(key, "system:nodes", "system:node:n1", dns, ips, &csr, &err), &err);
    BIO *bio = BIO_new_mem_buf(csr, -1);
    X509_REQ *req = PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL);
    STACK_OF(X509_EXTENSION) *list = X509_REQ_get_extensions(req);
    CHECK_INT(sk_X509_EXTENSION_num(list), ==, 1);
    GENERAL_NAMES *names = X509V3_EXT_d2i(sk_X509_EXTENSION_value(list, 0));
    CHECK_INT(sk_GENERAL_NAME_num(names), ==, 2);
    GENERAL_NAMES_free(names);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    X509_REQ_free(req);
    BIO_free(bio);
    char *bad[] = {(char[]){"not an address"}, NULL};
    char *out = NULL;
    CHECK_FAIL(wh_csr_new(key, "o", "n", NULL, bad, &out, &err), -EINVAL);
    CHECK(out == NULL);
}

TEST(bad_pem_is_refused_with_a_sentence)
{
    wh_cert_info info;
    wh_err err = {0};
    CHECK_ERR(wh_cert_read("nonsense", &info, &err), -EBADMSG, &err, "read a PEM certificate");
    CHECK_FAIL(wh_cert_read("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &info, &err),
               -EBADMSG);
    CHECK_FAIL(wh_cert_matches("", "", &err), -EBADMSG);
    char *out = NULL;
    CHECK_FAIL(wh_csr_new("nonsense", "o", "n", NULL, NULL, &out, &err), -EBADMSG);
    CHECK(out == NULL);
}
