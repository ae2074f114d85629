/* SPDX-License-Identifier: Apache-2.0 */
/* Keys, requests and certificates: X.509 (RFC 5280), PKCS#10 (RFC 2986), P-256 and SHA-256 throughout. */
#include "net/internal.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <time.h>

int wh_ssl_fail(wh_err *err, int code, const char *what)
{
    unsigned long e = ERR_get_error();
    const char *reason = e == 0 ? NULL : ERR_reason_error_string(e);
    ERR_clear_error();
    return wh_fail(err, code, "%s: %s", what, reason == NULL ? "refused by OpenSSL" : reason);
}

/* Keys here never have pass phrases; without this OpenSSL would ask on the terminal. */
static int no_passphrase(char *buf, int size, int rwflag, void *user)
{
    (void)buf;
    (void)size;
    (void)rwflag;
    (void)user;
    return -1;
}

int wh_ssl_read_cert(BIO *bio, X509 **ret, wh_err *err)
{
    X509 *cert = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL);
    if (cert == NULL)
        return wh_ssl_fail(err, -EBADMSG, "read a PEM certificate");
    *ret = cert;
    return 0;
}

int wh_ssl_read_key(const char *pem, EVP_PKEY **ret, wh_err *err)
{
    auto_bio BIO *bio = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *key = bio == NULL ? NULL : PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
    if (key == NULL)
        return wh_ssl_fail(err, -EBADMSG, "read a PEM private key");
    *ret = key;
    return 0;
}

/* The entry as UTF-8; NULL when it holds a NUL byte: "admin\0.example" must not pass as "admin". */
static char *name_entry(const X509_NAME_ENTRY *entry)
{
    unsigned char *text = NULL;
    int n = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(entry));
    if (n < 0) {
        ERR_clear_error();
        return NULL;
    }
    char *ret = memchr(text, '\0', (size_t)n) != NULL ? NULL : wh_xstrndup((const char *)text, (size_t)n);
    OPENSSL_free(text);
    return ret;
}

void wh_ssl_subject(const X509 *cert, wh_tls_peer *ret)
{
    *ret = (wh_tls_peer){0};
    const X509_NAME *name = X509_get_subject_name(cert);
    for (int i = 0; i < X509_NAME_entry_count(name); i++) {
        const X509_NAME_ENTRY *entry = X509_NAME_get_entry(name, i);
        int nid = OBJ_obj2nid(X509_NAME_ENTRY_get_object(entry));
        if (nid != NID_commonName && nid != NID_organizationName)
            continue;
        char *text = name_entry(entry);
        if (text == NULL)
            continue;
        if (nid == NID_organizationName) {
            wh_strv_push_take(&ret->orgs, text);
        } else {
            free(ret->cn); /* the last one, as Go's crypto/x509 has it */
            ret->cn = text;
        }
    }
}

void wh_tls_peer_done(wh_tls_peer *peer)
{
    free(peer->cn);
    wh_strv_free(peer->orgs);
    *peer = (wh_tls_peer){0};
}

void wh_cert_info_done(wh_cert_info *info)
{
    wh_tls_peer_done(&info->subject);
    wh_strv_free(info->dns);
    wh_strv_free(info->ips);
    *info = (wh_cert_info){0};
}

static int time_of(const ASN1_TIME *t, wh_time *ret)
{
    struct tm tm = {0};
    if (ASN1_TIME_to_tm(t, &tm) != 1)
        return -EBADMSG;
    int64_t seconds = (int64_t)timegm(&tm);
    /* Certificates "for ever" end in 9999; nanoseconds end in 2262. */
    *ret = seconds > INT64_MAX / WH_SEC ? INT64_MAX : seconds * WH_SEC;
    return 0;
}

static void read_names(const X509 *cert, wh_cert_info *info)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; names != NULL && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type == GEN_DNS) {
            const char *text = (const char *)ASN1_STRING_get0_data(name->d.dNSName);
            size_t n = (size_t)ASN1_STRING_length(name->d.dNSName);
            if (memchr(text, '\0', n) == NULL)
                wh_strv_push_take(&info->dns, wh_xstrndup(text, n));
        } else if (name->type == GEN_IPADD) {
            int n = ASN1_STRING_length(name->d.iPAddress);
            char text[INET6_ADDRSTRLEN];
            if ((n == 4 || n == 16) &&
                inet_ntop(n == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(name->d.iPAddress), text,
                          sizeof(text)) != NULL)
                wh_strv_push(&info->ips, text);
        }
    }
    GENERAL_NAMES_free(names);
    ERR_clear_error();
}

int wh_cert_read(const char *pem, wh_cert_info *ret, wh_err *err)
{
    auto_bio BIO *bio = BIO_new_mem_buf(pem, -1);
    if (bio == NULL)
        return wh_ssl_fail(err, -ENOMEM, "read a certificate");
    auto_x509 X509 *cert = NULL;
    int r = wh_ssl_read_cert(bio, &cert, err);
    if (r < 0)
        return r;
    wh_cert_info info = {0};
    if (time_of(X509_get0_notBefore(cert), &info.not_before) < 0 ||
        time_of(X509_get0_notAfter(cert), &info.not_after) < 0)
        return wh_fail(err, -EBADMSG, "read a certificate: its dates are malformed");
    wh_ssl_subject(cert, &info.subject);
    read_names(cert, &info);
    *ret = info;
    return 0;
}

int wh_cert_matches(const char *cert_pem, const char *key_pem, wh_err *err)
{
    auto_bio BIO *bio = BIO_new_mem_buf(cert_pem, -1);
    if (bio == NULL)
        return wh_ssl_fail(err, -ENOMEM, "read a certificate");
    auto_x509 X509 *cert = NULL;
    auto_pkey EVP_PKEY *key = NULL;
    int r = wh_ssl_read_cert(bio, &cert, err);
    if (r == 0)
        r = wh_ssl_read_key(key_pem, &key, err);
    if (r < 0)
        return r;
    if (X509_check_private_key(cert, key) != 1)
        return wh_ssl_fail(err, -EBADMSG, "compare certificate and private key");
    return 0;
}

/* Takes what was written to a memory BIO as a string. */
static char *bio_text(BIO *bio)
{
    char *data = NULL;
    long n = BIO_get_mem_data(bio, &data);
    return wh_xstrndup(data, (size_t)n);
}

int wh_key_new(char **ret_pem, wh_err *err)
{
    auto_pkey EVP_PKEY *key = EVP_EC_gen("P-256");
    auto_bio BIO *bio = BIO_new(BIO_s_secmem());
    if (key == NULL || bio == NULL || PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1)
        return wh_ssl_fail(err, -EIO, "make a P-256 key");
    *ret_pem = bio_text(bio);
    return 0;
}

static X509_NAME *make_name(const char *org, const char *cn)
{
    X509_NAME *name = X509_NAME_new();
    bool ok = name != NULL;
    if (ok && org != NULL)
        ok = X509_NAME_add_entry_by_NID(name, NID_organizationName, MBSTRING_UTF8, (const unsigned char *)org,
                                        -1, -1, 0) == 1;
    if (ok && cn != NULL)
        ok = X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8, (const unsigned char *)cn, -1,
                                        -1, 0) == 1;
    if (ok)
        return name;
    X509_NAME_free(name);
    return NULL;
}

static bool push_name(GENERAL_NAMES *names, int type, const char *text)
{
    GENERAL_NAME *name = a2i_GENERAL_NAME(NULL, NULL, NULL, type, text, 0);
    if (name != NULL && sk_GENERAL_NAME_push(names, name) > 0)
        return true;
    GENERAL_NAME_free(name);
    return false;
}

static GENERAL_NAMES *make_names(char *const *dns, char *const *ips)
{
    GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
    bool ok = names != NULL;
    for (size_t i = 0; ok && i < wh_strv_len(dns); i++)
        ok = push_name(names, GEN_DNS, dns[i]);
    for (size_t i = 0; ok && i < wh_strv_len(ips); i++)
        ok = push_name(names, GEN_IPADD, ips[i]);
    if (ok)
        return names;
    GENERAL_NAMES_free(names);
    return NULL;
}

static bool add_request_names(X509_REQ *req, char *const *dns, char *const *ips)
{
    GENERAL_NAMES *names = make_names(dns, ips);
    X509_EXTENSION *ext = names == NULL ? NULL : X509V3_EXT_i2d(NID_subject_alt_name, 0, names);
    GENERAL_NAMES_free(names);
    STACK_OF(X509_EXTENSION) *list = sk_X509_EXTENSION_new_null();
    bool ok = ext != NULL && list != NULL && sk_X509_EXTENSION_push(list, ext) > 0;
    if (!ok)
        X509_EXTENSION_free(ext);
    ok = ok && X509_REQ_add_extensions(req, list) == 1;
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    return ok;
}

int wh_csr_new(const char *key_pem, const char *org, const char *cn, char *const *dns, char *const *ips,
               char **ret_pem, wh_err *err)
{
    auto_pkey EVP_PKEY *key = NULL;
    int r = wh_ssl_read_key(key_pem, &key, err);
    if (r < 0)
        return r;
    auto_x509_req X509_REQ *req = X509_REQ_new();
    auto_x509_name X509_NAME *name = make_name(org, cn);
    auto_bio BIO *bio = BIO_new(BIO_s_mem());
    bool ok = req != NULL && name != NULL && bio != NULL &&
              X509_REQ_set_version(req, X509_REQ_VERSION_1) == 1 &&
              X509_REQ_set_subject_name(req, name) == 1 && X509_REQ_set_pubkey(req, key) == 1;
    if (ok && wh_strv_len(dns) + wh_strv_len(ips) > 0)
        ok = add_request_names(req, dns, ips);
    if (!ok || X509_REQ_sign(req, key, EVP_sha256()) <= 0 || PEM_write_bio_X509_REQ(bio, req) != 1)
        return wh_ssl_fail(err, -EINVAL, "make a certificate request");
    *ret_pem = bio_text(bio);
    return 0;
}

static bool add_extension(X509 *cert, int nid, const char *value)
{
    X509_EXTENSION *ext = X509V3_EXT_nconf_nid(NULL, NULL, nid, value);
    bool ok = ext != NULL && X509_add_ext(cert, ext, -1) == 1;
    X509_EXTENSION_free(ext);
    return ok;
}

static bool add_names(X509 *cert, char *const *dns, char *const *ips)
{
    GENERAL_NAMES *names = make_names(dns, ips);
    bool ok =
        names != NULL && X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) == 1;
    GENERAL_NAMES_free(names);
    return ok;
}

static bool fill_self_signed(X509 *cert, EVP_PKEY *key, const X509_NAME *name, wh_time lifetime)
{
    unsigned char serial[16];
    wh_random(serial, sizeof(serial));
    serial[0] &= 0x7f;
    BIGNUM *number = BN_bin2bn(serial, sizeof(serial), NULL);
    bool ok = number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) != NULL;
    BN_free(number);
    return ok && X509_set_version(cert, X509_VERSION_3) == 1 && X509_set_subject_name(cert, name) == 1 &&
           X509_set_issuer_name(cert, name) == 1 && X509_set_pubkey(cert, key) == 1 &&
           X509_gmtime_adj(X509_getm_notBefore(cert), -3600) != NULL &&
           X509_gmtime_adj(X509_getm_notAfter(cert), (long)(lifetime / WH_SEC)) != NULL &&
           add_extension(cert, NID_basic_constraints, "critical,CA:FALSE") &&
           add_extension(cert, NID_key_usage, "critical,digitalSignature") &&
           add_extension(cert, NID_ext_key_usage, "serverAuth");
}

int wh_cert_self_signed(const char *key_pem, const char *cn, char *const *dns, char *const *ips,
                        wh_time lifetime, char **ret_pem, wh_err *err)
{
    auto_pkey EVP_PKEY *key = NULL;
    int r = wh_ssl_read_key(key_pem, &key, err);
    if (r < 0)
        return r;
    auto_x509 X509 *cert = X509_new();
    auto_x509_name X509_NAME *name = make_name(NULL, cn);
    auto_bio BIO *bio = BIO_new(BIO_s_mem());
    bool ok = cert != NULL && name != NULL && bio != NULL && fill_self_signed(cert, key, name, lifetime);
    if (ok && wh_strv_len(dns) + wh_strv_len(ips) > 0)
        ok = add_names(cert, dns, ips);
    if (!ok || X509_sign(cert, key, EVP_sha256()) <= 0 || PEM_write_bio_X509(bio, cert) != 1)
        return wh_ssl_fail(err, -EINVAL, "make a self-signed certificate");
    *ret_pem = bio_text(bio);
    return 0;
}
