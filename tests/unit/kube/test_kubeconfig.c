/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/kubeconfig.h"

#include "base/file.h"
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>

#define HEAD                                                                                                          \
    "apiVersion: v1\nkind: Config\ncurrent-context: main\ncontexts:\n- name: main\n  context: {cluster: c, user: u, " \
    "namespace: ns}\n- name: other\n  context: {cluster: d, user: \"\"}\nclusters:\n"                                 \
    "- name: c\n  cluster: {server: 'https://10.0.0.1:6443/', certificate-authority-data: Q0EK}\n"                    \
    "- name: d\n  cluster: {server: 'http://127.0.0.1:8080', insecure-skip-tls-verify: true}\nusers:\n"

static int parse(const char *text, const char *context, wh_kubeconfig *ret, wh_err *err)
{
    return wh_kubeconfig_parse(text, strlen(text), "/nowhere", context, ret, err);
}

static void refuse(const char *text, int code, const char *why)
{
    wh_kubeconfig c = {0};
    wh_err err = {0};
    CHECK_ERR(parse(text, NULL, &c, &err), code, &err, why);
    CHECK(c.server == NULL);
}

TEST(inline_data_and_contexts)
{
    wh_kubeconfig c;
    wh_err err = {0};
    CHECK_OK(parse(HEAD
                   "- name: u\n  user: {token: abc, client-certificate-data: Qwo=, client-key-data: Swo=}\n",
                   NULL, &c, &err),
             &err);
    CHECK_STR(c.server, "https://10.0.0.1:6443");
    CHECK_STR(c.ca_pem, "CA\n");
    CHECK_STR(c.token, "abc");
    CHECK_STR(c.cert_pem, "C\n");
    CHECK_STR(c.key_pem, "K\n");
    CHECK_STR(c.namespace_, "ns");
    CHECK_STR(c.user, "u");
    CHECK(!c.insecure);
    wh_kubeconfig copy;
    wh_kubeconfig_copy(&c, &copy);
    wh_kubeconfig_done(&c);
    CHECK_STR(copy.server, "https://10.0.0.1:6443");
    wh_kubeconfig_done(&copy);
    CHECK_OK(parse(HEAD "- name: u\n  user: {}\n", "other", &c, &err), &err);
    CHECK_STR(c.server, "http://127.0.0.1:8080");
    CHECK(c.insecure);
    CHECK(c.namespace_ == NULL);
    wh_kubeconfig_done(&c);
}

TEST(files_stand_beside_it)
{
    char folder[] = "/tmp/wherry-kubeconfig-XXXXXX";
    CHECK(mkdtemp(folder) != NULL);
    auto_free char *config = wh_path_join(folder, "config");
    auto_free char *cert = wh_path_join(folder, "cert.pem");
    auto_free char *key = wh_path_join(folder, "key.pem");
    static const char text[] =
        HEAD "- name: u\n  user: {tokenFile: tok, client-certificate: cert.pem, client-key: key.pem}\n";
    wh_err err = {0};
    wh_kubeconfig c = {0};
    CHECK_OK(wh_write_file(AT_FDCWD, config, text, sizeof(text) - 1, 0600, &err), &err);
    CHECK_ERR(wh_kubeconfig_load(config, NULL, &c, &err), -ENOENT, &err, "client-certificate");
    CHECK_CONTAINS(err.msg, config);
    CHECK_OK(wh_write_file(AT_FDCWD, cert, "CERT", 4, 0600, &err), &err);
    CHECK_OK(wh_write_file(AT_FDCWD, key, "KEY", 3, 0600, &err), &err);
    CHECK_OK(wh_kubeconfig_load(config, NULL, &c, &err), &err);
    CHECK_STR(c.cert_pem, "CERT");
    CHECK_STR(c.key_pem, "KEY");
    CHECK_STR(c.cert_file, cert);
    auto_free char *token = wh_path_join(folder, "tok");
    CHECK_STR(c.token_file, token);
    wh_kubeconfig_done(&c);
    CHECK_OK(wh_rm_rf(AT_FDCWD, folder, NULL), NULL);
}

TEST(what_is_not_supported_is_said)
{
    refuse(HEAD "- name: u\n  user: {exec: {command: aws}}\n", -EOPNOTSUPP, "exec plugin");
    refuse(HEAD "- name: u\n  user: {auth-provider: {name: gcp}}\n", -EOPNOTSUPP, "auth provider");
    refuse(HEAD "- name: u\n  user: {username: a, password: b}\n", -EOPNOTSUPP, "user name and password");
    refuse(HEAD "- name: u\n  user: {as: root}\n", -EOPNOTSUPP, "impersonation");
    refuse(
        "current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\nclusters: [{name: c, cluster: {server: "
        "'https://h', proxy-url: 'http://p'}}]\n",
        -EOPNOTSUPP, "proxy");
}

TEST(what_is_wrong_is_named)
{
    refuse("", -EBADMSG, "expected a kubeconfig");
    refuse("- a\n", -EBADMSG, "expected a kubeconfig");
    refuse("a: [", -EBADMSG, "");
    refuse("contexts: []\n", -EBADMSG, "no context is chosen");
    refuse("current-context: x\n", -ENOENT, "no context 'x'");
    refuse("current-context: x\ncontexts: [{name: x, context: {cluster: c}}]\n", -ENOENT,
           "names cluster 'c'");
    refuse(HEAD "- name: v\n  user: {}\n", -ENOENT, "names user 'u'");
    refuse(HEAD "- name: u\n  user: {client-certificate-data: '*'}\n", -EBADMSG, "no base64");
    refuse(HEAD "- name: u\n  user: {client-certificate-data: Qwo=}\n", -EBADMSG, "without its key");
    refuse(HEAD "- name: u\n  user: {client-certificate-data: AAAA, client-key-data: AAAA}\n", -EBADMSG,
           "no PEM text");
    refuse(HEAD "- name: u\n  user: {token: \"a\\r\\nX: y\"}\n", -EBADMSG, "blanks or control characters");
    refuse(
        "current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\nclusters: [{name: c, cluster: {server: "
        "'ftp://h'}}]\n",
        -EBADMSG, "no http or https URL");
    refuse(
        "current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\nclusters: [{name: c, cluster: {server: "
        "'https://h', insecure-skip-tls-verify: true, certificate-authority-data: Q0EK}}]\n",
        -EBADMSG, "remove one of them");
}

TEST(it_has_a_size_limit)
{
    auto_free char *text = malloc(WH_KUBECONFIG_BYTES_MAX + 1);
    CHECK(text != NULL);
    memset(text, '#', WH_KUBECONFIG_BYTES_MAX + 1);
    wh_kubeconfig c = {0};
    wh_err err = {0};
    CHECK_FAIL(wh_kubeconfig_parse(text, WH_KUBECONFIG_BYTES_MAX, "/", NULL, &c, &err), -EBADMSG);
    CHECK_FAIL(wh_kubeconfig_parse(text, WH_KUBECONFIG_BYTES_MAX + 1, "/", NULL, &c, &err), -EFBIG);
}
