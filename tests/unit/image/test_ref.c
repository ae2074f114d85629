/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"
#include "image/digest.h"
#include "image/image.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void check_text(const char *in, const char *out)
{
    wh_ref ref;
    wh_err err = {0};
    CHECK_OK(wh_ref_parse(in, &ref, &err), &err);
    auto_free char *text = wh_ref_text(&ref);
    CHECK_STR(text, out);
    wh_ref_done(&ref);
}

TEST(short_names_are_completed)
{
    check_text("nginx", "docker.io/library/nginx:latest");
    check_text("team/app", "docker.io/team/app:latest");
    check_text("docker.io/app:1", "docker.io/library/app:1");
    check_text("index.docker.io/app:1", "docker.io/library/app:1");
    check_text("localhost/app", "localhost/app:latest");
    check_text("registry:5000/app", "registry:5000/app:latest");
    check_text("r.example/a/b/c:v1.2_x-y", "r.example/a/b/c:v1.2_x-y");
    check_text("[::1]:5000/a", "[::1]:5000/a:latest");
}

TEST(digests)
{
    check_text("r.example/a@sha256:" HEX64, "r.example/a@sha256:" HEX64);
    check_text("r.example/a:v1@sha512:" HEX64 HEX64, "r.example/a:v1@sha512:" HEX64 HEX64);
    CHECK(wh_digest_valid("sha256:" HEX64));
    CHECK(!wh_digest_valid("sha256:" HEX64 "0"));
    CHECK(!wh_digest_valid("sha512:" HEX64));
    CHECK(!wh_digest_valid("md5:" HEX64));
    CHECK(!wh_digest_valid(NULL));
    char out[WH_DIGEST_TEXT_MAX];
    CHECK_OK(wh_digest_of(NULL, "abc", 3, out, NULL), NULL);
    CHECK_STR(out, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK_OK(wh_digest_of("sha512:" HEX64 HEX64, "abc", 3, out, NULL), NULL);
    CHECK(wh_starts_with(out, "sha512:ddaf35a193617abacc417349ae204131"));
}

TEST(api_hosts)
{
    wh_ref ref;
    CHECK_OK(wh_ref_parse("nginx", &ref, NULL), NULL);
    CHECK_STR(wh_ref_api_host(&ref), "registry-1.docker.io");
    wh_ref_done(&ref);
    CHECK_OK(wh_ref_parse("r.example:1/x", &ref, NULL), NULL);
    CHECK_STR(wh_ref_api_host(&ref), "r.example:1");
    wh_ref_done(&ref);
}

TEST(what_does_not_parse)
{
    static const char *const bad[] = {
        "",
        "UPPER",
        "a//b",
        "/a",
        "a/",
        "a:",
        "a:-x",
        "a:.x",
        "a b",
        "a@sha256:xyz",
        "a@md5:" HEX64,
        "-a",
        "a-",
        "a..b",
        "a___b",
        "a.-b",
        "r.example:0/a",
        "r.example:65536/a",
        "r.example:/a",
        "-r.example/a",
        "r..example/a",
        "[::1/a",
        "[]:1/a",
        "a@sha256:" HEX64 "@sha256:" HEX64,
        "a:b:c",
        "https://r.example/a",
        "r.example/A",
        "a\n",
        "r.example:5x/a",
        "a@sha256:0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef",
    };
    for (size_t i = 0; i < WH_ARRAY_LEN(bad); i++) {
        wh_ref ref;
        wh_err err = {0};
        if (wh_ref_parse(bad[i], &ref, &err) != -EINVAL)
            wh_test_fail(__FILE__, __LINE__, "'%s' parses", bad[i]);
        CHECK_CONTAINS(err.msg, "image reference");
    }
}

static int parse_lengths(size_t name, size_t tag)
{
    wh_ref ref;
    auto_free char *text = wh_xcalloc(1, name + tag + 2);
    memset(text, 'a', name);
    if (tag > 0) {
        text[name] = ':';
        memset(text + name + 1, 't', tag);
    }
    memcpy(text, "r.io/", 5);
    int rc = wh_ref_parse(text, &ref, NULL);
    if (rc == 0)
        wh_ref_done(&ref);
    return rc;
}

TEST(lengths_at_the_limit_and_one_past)
{
    CHECK_OK(parse_lengths(255, 0), NULL);
    CHECK_FAIL(parse_lengths(256, 0), -EINVAL);
    CHECK_OK(parse_lengths(20, 128), NULL);
    CHECK_FAIL(parse_lengths(20, 129), -EINVAL);
}
