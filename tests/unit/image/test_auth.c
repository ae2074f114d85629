/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"
#include "image/auth.h"

#include <stdio.h>

TEST(bearer_challenge)
{
    wh_challenge c;
    wh_err err = {0};
    CHECK_OK(wh_challenge_parse(
                 "Bearer realm=\"https://a/t\",service=\"s \\\"q\\\"\", scope=\"repository:x:pull,push\"", &c,
                 &err),
             &err);
    CHECK_INT(c.scheme, ==, WH_AUTH_BEARER);
    CHECK_STR(c.realm, "https://a/t");
    CHECK_STR(c.service, "s \"q\"");
    CHECK_STR(c.scope, "repository:x:pull,push");
    wh_challenge_done(&c);
}

TEST(bearer_wins_over_basic_and_unknown_ones)
{
    static const char *const forms[] = {
        "Basic realm=\"b\", Bearer realm=\"https://a/t\",service=s",
        "bearer realm = \"https://a/t\" , service=s, basic realm=x",
        "Negotiate, Digest nonce=\"x\", Bearer service=s,realm=\"https://a/t\"",
        ",, Bearer realm=\"https://a/t\",,service=s,",
    };
    for (size_t i = 0; i < WH_ARRAY_LEN(forms); i++) {
        wh_challenge c;
        wh_err err = {0};
        CHECK_OK(wh_challenge_parse(forms[i], &c, &err), &err);
        CHECK_INT(c.scheme, ==, WH_AUTH_BEARER);
        CHECK_STR(c.realm, "https://a/t");
        CHECK_STR(c.service, "s");
        wh_challenge_done(&c);
    }
}

TEST(bad_challenges)
{
    wh_challenge c;
    wh_err err = {0};
    CHECK_ERR(wh_challenge_parse("Negotiate", &c, &err), -ENOTSUP, &err, "Negotiate");
    CHECK_ERR(wh_challenge_parse("", &c, &err), -ENOTSUP, &err, "asks for");
    CHECK_ERR(wh_challenge_parse("Bearer service=x", &c, &err), -EBADMSG, &err, "malformed");
    CHECK_ERR(wh_challenge_parse("Bearer realm=\"x", &c, &err), -EBADMSG, &err, "malformed");
    CHECK_ERR(wh_challenge_parse("Bearer realm=\"x\\", &c, &err), -EBADMSG, &err, "malformed");
    CHECK_ERR(wh_challenge_parse("Bearer realm=\"a\nb\"", &c, &err), -EBADMSG, &err, "malformed");
    CHECK_ERR(wh_challenge_parse("Bearer realm=x y", &c, &err), -EBADMSG, &err, "malformed");
    CHECK_ERR(wh_challenge_parse("Bearer =x", &c, &err), -EBADMSG, &err, "malformed");
}

static void parse(const char *json, wh_credential **list, size_t *n)
{
    wh_err err = {0};
    CHECK_OK(wh_credentials_parse(json, strlen(json), list, n, &err), &err);
}

TEST(docker_configs)
{
    wh_credential *list = NULL;
    size_t n = 0;
    parse(
        "{\"auths\":{\"a.example\":{\"auth\":\"dTpwOnE=\"},\"b.example\":{\"username\":\"x\",\"password\":\"y\"}}}",
        &list, &n);
    parse("{\"c.example\":{\"identitytoken\":\"t\",\"auth\":\"\"}}", &list, &n);
    parse("{\"auths\":null}", &list, &n);
    parse("{\"credsStore\":\"x\"}", &list, &n);
    CHECK_INT(n, ==, 3);
    CHECK_STR(list[0].username, "u");
    CHECK_STR(list[0].password, "p:q");
    CHECK_STR(list[1].password, "y");
    CHECK_STR(list[2].identity_token, "t");
    CHECK(list[2].username == NULL);
    wh_credentials_free(list, n);
}

TEST(a_bad_docker_config_leaves_the_list_and_tells_no_secret)
{
    static const char *const bad[] = {
        "[]",
        "{",
        "{\"auths\":[]}",
        "{\"auths\":{\"a\":1}}",
        "{\"auths\":{\"a\":{\"auth\":\"c2VjcmV0\"}}}",
        "{\"auths\":{\"b\":{\"username\":\"secret\"},\"a\":{\"auth\":\"!secret\"}}}",
        "{\"auths\":{\"a\":{\"password\":\"secret\",\"password\":\"secret\"}}}"};
    wh_credential *list = NULL;
    size_t n = 0;
    for (size_t i = 0; i < WH_ARRAY_LEN(bad); i++) {
        wh_err err = {0};
        CHECK_ERR(wh_credentials_parse(bad[i], strlen(bad[i]), &list, &n, &err), -EBADMSG, &err,
                  "docker config");
        CHECK(strstr(err.msg, "secret") == NULL);
    }
    CHECK_INT(n, ==, 0);
    CHECK(list == NULL);
}

/* The keys that fit, in order, as "a b c". */
static void check_match(const char *const *keys, size_t n_keys, const char *image, const char *expected)
{
    wh_ref ref;
    char text[512] = "";
    wh_credential *list = wh_xcalloc(n_keys, sizeof(*list));
    const wh_credential **fit = NULL;
    size_t n_fit = 0;
    for (size_t i = 0; i < n_keys; i++)
        list[i].key = wh_xstrdup(keys[i]);
    CHECK_OK(wh_ref_parse(image, &ref, NULL), NULL);
    wh_credentials_match(list, n_keys, &ref, &fit, &n_fit);
    for (size_t i = 0; i < n_fit; i++) {
        size_t at = strlen(text);
        (void)snprintf(text + at, sizeof(text) - at, "%s%s", at > 0 ? " " : "", fit[i]->key);
    }
    CHECK_STR(text, expected);
    free((void *)fit);
    wh_ref_done(&ref);
    wh_credentials_free(list, n_keys);
}

#define MATCH(image, expected, ...)                                                                     \
    check_match((const char *const[]){__VA_ARGS__}, WH_ARRAY_LEN(((const char *const[]){__VA_ARGS__})), \
                image, expected)

TEST(keys_match_as_the_kubelet_does)
{
    MATCH("r.example/team/x", "r.example/team r.example", "r.example", "r.example/team", "r.example/other");
    MATCH("r.example/team/x", "https://r.example/v2/team http://r.example/v1/", "http://r.example/v1/",
          "https://r.example/v2/team");
    MATCH("a.r.example/x", "*.r.example", "*.r.example", "*.example", "*.*.*.example", "b.r.example");
    MATCH("a.r.example/x", "*.*.example", "*.*.example");
    MATCH("prefix-a.r.example/x", "prefix-*.r.example", "prefix-*.r.example");
    MATCH("r.example:5000/x", "r.example:5000", "r.example", "r.example:5000", "r.example:5001");
    MATCH("r.example/teamwork/x", "r.example/team", "r.example/team");
    MATCH("nginx", "https://index.docker.io/v1/", "https://index.docker.io/v1/", "r.example");
    MATCH("nginx", "docker.io", "https://index.docker.io/v1/", "docker.io");
    MATCH("r.example/x", "", "https://index.docker.io/v1/");
}

TEST(registries)
{
    static const char text[] = "registries:\n  \"r.example:5000\":\n    plainHTTP: true\n    caFile: /x.pem\n"
                               "    mirrors: [\"http://m.example/p/\"]\n  other: {}\n";
    wh_registries r;
    wh_err err = {0};
    CHECK_OK(wh_registries_parse(text, sizeof(text) - 1, &r, &err), &err);
    const wh_registry_host *host = wh_registries_find(&r, "R.example:5000");
    CHECK(host != NULL);
    CHECK(host->plain_http);
    CHECK_STR(host->ca_file, "/x.pem");
    CHECK_STR(host->mirrors[0], "http://m.example/p");
    CHECK(wh_registries_find(&r, "r.example") == NULL);
    wh_registries_done(&r);
    static const char bad[] = "registries:\n  x:\n    skipVerify: true\n";
    CHECK_ERR(wh_registries_parse(bad, sizeof(bad) - 1, &r, &err), -EBADMSG, &err, "skipVerify");
}
