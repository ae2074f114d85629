/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"
#include "base/limits.h"
#include "harness.h"
#include "image/manifest.h"

#define D "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define DESC(type) "{\"mediaType\":\"" type "\",\"digest\":\"" D "\",\"size\":8}"
#define ENTRY(platform, more) \
    "{\"mediaType\":\"" WH_TYPE_OCI_MANIFEST "\",\"digest\":\"" D "\",\"size\":8" platform more "}"
#define OS(os, arch) ",\"platform\":{\"os\":\"" os "\",\"architecture\":\"" arch "\"}"

static wh_oci_manifest *parse(const char *text)
{
    wh_oci_manifest *m = NULL;
    wh_err err = {0};
    CHECK_OK(wh_oci_manifest_parse(NULL, text, strlen(text), &m, &err), &err);
    return m;
}

static void check_choice(const char *entries, bool components, int expected, const char *message)
{
    auto_free char *text = wh_xasprintf("{\"schemaVersion\":2,\"manifests\":[%s]}", entries);
    auto_oci_manifest wh_oci_manifest *m = parse(text);
    wh_err err = {0};
    size_t entry = 99;
    CHECK(m->is_index);
    int rc = wh_oci_manifest_choose(m, "r.example/x:v1", components, &entry, &err);
    if (expected >= 0) {
        CHECK_OK(rc, &err);
        CHECK_INT(entry, ==, expected);
    } else {
        CHECK_INT(rc, ==, expected);
        CHECK_STR(err.msg, message);
    }
}

TEST(platforms_in_order)
{
    check_choice(
        ENTRY(OS("linux", "amd64"), "") "," ENTRY(OS("linux", "wasm"), "") "," ENTRY(
            OS("wasi", "wasm32"), "") "," ENTRY(OS("WASI", "wasm"), "") "," ENTRY(OS("Wasip1", "wasm"), ""),
        false, 4, NULL);
    check_choice(ENTRY(OS("wasip2", "wasm"), "") "," ENTRY(OS("linux", "wasm"), ""), false, 1, NULL);
    check_choice(ENTRY(OS("wasip1", "wasm"), "") "," ENTRY(OS("wasip2", "wasm"), ""), true, 1, NULL);
    check_choice(ENTRY(OS("wasip2", "wasm"), ""), false, 0, NULL);
}

TEST(what_is_dropped_and_what_remains)
{
    check_choice(ENTRY(OS("unknown", "unknown"), "") "," ENTRY("", ",\"artifactType\":\"application/wasm\""),
                 false, 1, NULL);
    check_choice(
        ENTRY(OS("linux", "amd64"),
              ",\"annotations\":{\"module.wasm.image/variant\":\"compat-smart\"}") "," ENTRY(OS("linux",
                                                                                                "arm64"),
                                                                                             ""),
        false, 0, NULL);
    check_choice(ENTRY(OS("linux", "amd64"), ",\"annotations\":{\"run.oci.handler\":\"wasm\"}"), false, 0,
                 NULL);
    check_choice(ENTRY("", ""), false, 0, NULL);
    check_choice(
        ENTRY("", "") "," ENTRY(OS("wasi", "wasm"),
                                ",\"annotations\":{\"vnd.docker.reference.type\":\"attestation-manifest\"}"),
        false, 0, NULL);
    check_choice(
        ENTRY("", "") "," ENTRY("", ""), false, -ENOENT,
        "no Wasm image in r.example/x:v1: found an entry without platform, an entry without platform.");
    check_choice(ENTRY(OS("linux", "amd64"), "") "," ENTRY(OS("linux", "arm64"), ""), false, -ENOENT,
                 "no Wasm image in r.example/x:v1: found linux/amd64, linux/arm64.");
    check_choice("", false, -ENOENT, "no Wasm image in r.example/x:v1: found no entry at all.");
    check_choice(ENTRY("", ",\"artifactType\":\"application/vnd.dev.sigstore.bundle.v0.3+json\""), false,
                 -ENOTSUP, "r.example/x:v1 is a signature index, not an image.");
}

TEST(types_must_agree)
{
    wh_oci_manifest *m = NULL;
    wh_err err = {0};
    static const char manifest[] = "{\"schemaVersion\":2,\"mediaType\":\"" WH_TYPE_OCI_MANIFEST
                                   "\",\"config\":" DESC("a/b") ",\"layers\":[]}";
    CHECK_OK(wh_oci_manifest_parse(WH_TYPE_OCI_MANIFEST "; charset=utf-8", manifest, sizeof(manifest) - 1, &m,
                                   &err),
             &err);
    wh_oci_manifest_free(m);
    CHECK_OK(wh_oci_manifest_parse("application/json", manifest, sizeof(manifest) - 1, &m, &err), &err);
    wh_oci_manifest_free(m);
    CHECK_ERR(wh_oci_manifest_parse(WH_TYPE_DOCKER_MANIFEST, manifest, sizeof(manifest) - 1, &m, &err),
              -EBADMSG, &err, "do not agree");
    CHECK_ERR(wh_oci_manifest_parse(WH_TYPE_OCI_INDEX, manifest, sizeof(manifest) - 1, &m, &err), -EBADMSG,
              &err, "do not agree");
    static const char both[] = "{\"schemaVersion\":2,\"manifests\":[],\"layers\":[]}";
    CHECK_ERR(wh_oci_manifest_parse(NULL, both, sizeof(both) - 1, &m, &err), -EBADMSG, &err, "both");
}

static int parse_layers(size_t n, wh_err *err)
{
    auto_buf wh_buf text;
    wh_oci_manifest *m = NULL;
    wh_buf_init(&text, 1 << 20);
    (void)wh_buf_puts(&text, "{\"schemaVersion\":2,\"config\":" DESC("a/b") ",\"layers\":[");
    for (size_t i = 0; i < n; i++)
        (void)wh_buf_printf(&text, "%s" DESC("application/wasm"), i > 0 ? "," : "");
    (void)wh_buf_puts(&text, "]}");
    CHECK(!text.failed);
    int rc = wh_oci_manifest_parse(NULL, text.p, text.len, &m, err);
    wh_oci_manifest_free(m);
    return rc;
}

TEST(limits_at_and_one_past)
{
    wh_err err = {0};
    CHECK_OK(parse_layers(WH_MANIFEST_LAYERS_MAX, &err), &err);
    CHECK_ERR(parse_layers(WH_MANIFEST_LAYERS_MAX + 1, &err), -EFBIG, &err, "513");
    auto_free char *big = malloc(WH_MANIFEST_BYTES_MAX + 1);
    CHECK(big != NULL);
    memset(big, ' ', WH_MANIFEST_BYTES_MAX + 1);
    memcpy(big, "{}", 2);
    wh_oci_manifest *m = NULL;
    CHECK_ERR(wh_oci_manifest_parse(NULL, big, WH_MANIFEST_BYTES_MAX, &m, &err), -EBADMSG, &err,
              "schemaVersion");
    CHECK_ERR(wh_oci_manifest_parse(NULL, big, WH_MANIFEST_BYTES_MAX + 1, &m, &err), -EFBIG, &err,
              "are allowed");
}

static int plan(const char *config_type, const char *layers, wh_plan *ret, wh_err *err)
{
    auto_free char *text =
        wh_xasprintf("{\"schemaVersion\":2,\"config\":{\"mediaType\":\"%s\",\"digest\":\"" D
                     "\",\"size\":2},\"layers\":[%s]}",
                     config_type, layers);
    auto_oci_manifest wh_oci_manifest *m = parse(text);
    return wh_oci_manifest_plan(m, "REF", ret, err);
}

TEST(plans)
{
    wh_plan p = {0};
    wh_err err = {0};
    CHECK_OK(plan(WH_TYPE_WASM_CONFIG, DESC("application/wasm"), &p, &err), &err);
    CHECK_INT(p.kind, ==, WH_PLAN_MODULE);
    CHECK(p.by_type);
    CHECK_OK(plan("a/b", DESC("text/plain") "," DESC("x/y+wasm"), &p, &err), &err);
    CHECK_INT(p.kind, ==, WH_PLAN_MODULE);
    CHECK_INT(p.layer, ==, 1);
    CHECK_OK(plan("a/b",
                  DESC("application/vnd.oci.image.layer.v1.tar+zstd") "," DESC(
                      "application/vnd.docker.image.rootfs.diff.tar"),
                  &p, &err),
             &err);
    CHECK_INT(p.kind, ==, WH_PLAN_ROOTFS);
    CHECK(!p.by_type);
    CHECK_OK(plan("a/b", DESC("x/y"), &p, &err), &err);
    CHECK_INT(p.kind, ==, WH_PLAN_SNIFF);
    CHECK_ERR(plan("a/b", DESC("x/y") "," DESC("x/z"), &p, &err), -ENOTSUP, &err, "its layers are x/y, x/z");
    CHECK_ERR(plan("a/b", DESC("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"), &p, &err), -ENOTSUP,
              &err, "no key service");
    CHECK_ERR(plan("a/b", DESC("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), &p, &err),
              -ENOTSUP, &err, "foreign");
}

static wh_bytes_kind sniff(const char *data, size_t n, wh_err *err)
{
    return wh_bytes_sniff(data, n, err);
}

TEST(sniffing)
{
    wh_err err = {0};
    char tar[512] = {0};
    memcpy(tar + 257, "ustar", 5);
    CHECK_INT(sniff("\0asm\1\0\0\0", 8, &err), ==, WH_BYTES_MODULE);
    CHECK_INT(sniff("\0asm\15\0\1\0", 8, &err), ==, WH_BYTES_COMPONENT);
    CHECK_INT(sniff("\x1f\x8b", 2, &err), ==, WH_BYTES_TAR);
    CHECK_INT(sniff("\x28\xb5\x2f\xfd", 4, &err), ==, WH_BYTES_TAR);
    CHECK_INT(sniff(tar, 512, &err), ==, WH_BYTES_TAR);
    CHECK_INT(sniff(" \n(module)", 10, &err), ==, WH_BYTES_TEXT);
    CHECK_INT(sniff("\0asm\2\0\0\0", 8, &err), ==, WH_BYTES_REFUSED);
    CHECK_CONTAINS(err.msg, "02000000");
    CHECK_INT(sniff("\177ELF", 4, &err), ==, WH_BYTES_REFUSED);
    CHECK_CONTAINS(err.msg, "ELF");
    CHECK_INT(sniff("abcdefghij", 10, &err), ==, WH_BYTES_REFUSED);
    CHECK_CONTAINS(err.msg, "6162636465666768");
}

TEST(configs)
{
    static const char text[] =
        "{\"os\":\"wasi\",\"architecture\":\"wasm\",\"config\":{\"Entrypoint\":[\"/a\"],\"Cmd\":null,"
        "\"Env\":[\"A=b\"],\"ExposedPorts\":{\"80/tcp\":{}},\"User\":\"\"},\"rootfs\":{\"diff_ids\":[\"" D
        "\"]}}";
    wh_image_config c;
    wh_err err = {0};
    CHECK_OK(wh_image_config_parse(text, sizeof(text) - 1, &c, &err), &err);
    CHECK_STR(c.entrypoint[0], "/a");
    CHECK(c.cmd == NULL);
    CHECK(c.user == NULL);
    CHECK_STR(c.exposed_ports[0], "80/tcp");
    CHECK_STR(c.diff_ids[0], D);
    wh_image_config_done(&c);
    CHECK_ERR(wh_image_config_parse("{\"config\":{\"Env\":[1]}}", 22, &c, &err), -EBADMSG, &err, "'Env'");
    CHECK_ERR(wh_image_config_parse("{\"os\":1}", 8, &c, &err), -EBADMSG, &err, "'os'");
    CHECK_ERR(wh_image_config_parse("{\"rootfs\":{\"diff_ids\":[\"x\"]}}", 29, &c, &err), -EBADMSG, &err,
              "diff_ids");
}
