/* SPDX-License-Identifier: Apache-2.0 */
#include "base/limits.h"
#include "pods.h"

static void gives(const char *text, const char *json)
{
    auto_json json_t *value = yaml(text);
    auto_free char *dump = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
    CHECK_STR(dump, json);
}

static void refused(const char *text, int code, const char *part)
{
    wh_err err = {0};
    json_t *documents = NULL;
    CHECK_ERR(wh_yaml_parse(text, strlen(text), &documents, &err), code, &err, part);
    CHECK(documents == NULL);
}

TEST(scalars_are_typed_as_kubectl_types_them)
{
    gives("[null, ~, Null]", "[null,null,null]");
    gives("a:\n", "{\"a\":null}");
    gives("[true, True, yes, on, y, no, OFF, n, False]",
          "[true,true,true,true,true,false,false,false,false]");
    gives("['true', \"no\", tRuE, yess]", "[\"true\",\"no\",\"tRuE\",\"yess\"]");
    gives("[1, -1, +7, 0x1F, 0o17, 017, 0b101, 1_000]", "[1,-1,7,31,15,15,5,1000]");
    gives("[089, 1.5, .5, 1e3, -2.5e-1]", "[89.0,1.5,0.5,1000.0,-0.25]");
    gives("[1.2.3, 1h, 10.0.0.1, 0x, '1']", "[\"1.2.3\",\"1h\",\"10.0.0.1\",\"0x\",\"1\"]");
    gives("[9223372036854775807, -9223372036854775808]", "[9223372036854775807,-9223372036854775808]");
    gives("a: 2026-01-02\n", "{\"a\":\"2026-01-02\"}");
    gives("a: 2026-01-02T03:04:05Z\n", "{\"a\":\"2026-01-02T03:04:05Z\"}");
    gives("[!!str 1, !!int '7', !!bool 'true']", "[\"1\",7,true]");
    gives("a: |\n  x\n  y\nb: >\n  x\n  y\n", "{\"a\":\"x\\ny\\n\",\"b\":\"x y\\n\"}");
}

TEST(keys_become_strings)
{
    gives("{1: a, true: b, 0x10: c, k: d}", "{\"1\":\"a\",\"16\":\"c\",\"k\":\"d\",\"true\":\"b\"}");
    refused("{~: a}", -EBADMSG, "null as a key");
    refused("{[1]: a}", -EBADMSG, "a key that is not a plain value");
}

TEST(several_documents)
{
    wh_err err = {0};
    auto_json json_t *documents = NULL;
    const char *text = "# head\n---\na: 1\n---\n---\nb: 2\n...\n";
    CHECK_OK(wh_yaml_parse(text, strlen(text), &documents, &err), &err);
    CHECK_INT(json_array_size(documents), ==, 2);
    auto_json json_t *none = NULL;
    CHECK_OK(wh_yaml_parse("", 0, &none, &err), &err);
    CHECK_INT(json_array_size(none), ==, 0);
}

TEST(json_is_read_too)
{
    gives("{\"a\": \"\\ud83d\\ude00\", \"b\": [1, 2.5, null]}",
          "{\"a\":\"\xF0\x9F\x98\x80\",\"b\":[1,2.5,null]}");
    gives("[{\"a\": 1}]", "[{\"a\":1}]");
}

TEST(anchors_are_copies)
{
    gives("a: &x {k: 1}\nb: *x\n", "{\"a\":{\"k\":1},\"b\":{\"k\":1}}");
    gives("base: &b {x: 1, z: 2}\nc: {<<: *b, z: 3}\n",
          "{\"base\":{\"x\":1,\"z\":2},\"c\":{\"x\":1,\"z\":3}}");
    gives("c: {<<: [{x: 1}, {x: 2, z: 2}]}\n", "{\"c\":{\"x\":1,\"z\":2}}");
    refused("a: &x [*x]\n", -EBADMSG, "an alias inside the value that it names");
    refused("a: *nobody\n", -EBADMSG, "line 1, column 4: an alias to an anchor that does not exist");
    refused("a: {<<: 1}\n", -EBADMSG, "'<<' wants a map");
}

TEST(mistakes_are_said_with_their_place)
{
    refused("a: 1\nb:\n  c: 2\n  c: 3\n", -EEXIST, "line 4, column 3: the key 'c' stands here twice.");
    refused("a: [1, 2\nb: 3\n", -EBADMSG, "line ");
    refused("a: .inf\n", -EBADMSG, "line 1, column 4: a number that JSON does not have");
    refused("a: \"\\0\"\n", -EBADMSG, "NUL");
    refused("a: !custom 1\n", -EBADMSG, "tag '!custom'");
    refused("%YAML 1.1\n%TAG !x! y\n---\na: 1\n", -EBADMSG, "byte 10: a %TAG directive");
    refused("# x\r%TAG !x! y\r---\ra: 1\r", -EBADMSG, "byte 4: a %TAG directive");
    gives("\xEF\xBB\xBF"
          "a: '%TAG'\n",
          "{\"a\":\"%TAG\"}");
    refused("a: !!int x\n", -EBADMSG, "does not have the type of its tag");
    refused("a: \xff\xfe\n", -EBADMSG, "line 1");
    refused("\tb: 1\n", -EBADMSG, "line 1");
}

static char *repeated(const char *head, const char *piece, size_t n)
{
    wh_buf b;
    wh_buf_init(&b, SIZE_MAX / 2);
    wh_buf_puts(&b, head);
    for (size_t i = 0; i < n; i++)
        wh_buf_puts(&b, piece);
    return wh_buf_take(&b);
}

TEST(a_file_that_is_too_large)
{
    wh_err err = {0};
    json_t *documents = NULL;
    auto_free char *large = repeated("a: ", "0123456789abcdef", (10UL << 20) / 16);
    CHECK_ERR(wh_yaml_parse(large, strlen(large), &documents, &err), -EFBIG, &err, "split the file");
    large[WH_YAML_BYTES_MAX] = '\0';
    CHECK_OK(wh_yaml_parse(large, WH_YAML_BYTES_MAX, &documents, &err), &err);
    json_decref(documents);
    documents = NULL;
    CHECK_FAIL(wh_yaml_parse(large, WH_YAML_BYTES_MAX + 1, &documents, &err), -EFBIG);
}

TEST(nesting_has_a_limit)
{
    auto_free char *at = repeated("", "[", WH_YAML_DEPTH_MAX),
                   *past = repeated("", "[", WH_YAML_DEPTH_MAX + 1);
    auto_free char *close = repeated("", "]", WH_YAML_DEPTH_MAX);
    auto_free char *good = wh_xasprintf("%s%s", at, close), *bad = wh_xasprintf("%s]%s", past, close);
    auto_json json_t *value = yaml(good);
    CHECK(json_is_array(value));
    refused(bad, -EFBIG, "nested deeper than 64");
}

TEST(a_bomb_of_aliases_is_refused_at_once)
{
    auto_buf wh_buf b = {0};
    wh_buf_init(&b, 1 << 16);
    wh_buf_puts(&b, "a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for (int i = 1; i < 9; i++)
        wh_buf_printf(&b, "a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n", i, i, i - 1, i - 1, i - 1,
                      i - 1, i - 1, i - 1, i - 1);
    refused(wh_buf_str(&b), -EFBIG, "more than");
}

TEST(aliases_and_values_have_limits)
{
    auto_free char *good = repeated("a: &a 1\nb: [0", ", *a", WH_YAML_ALIASES_MAX);
    auto_free char *bad = repeated("a: &a 1\nb: [0", ", *a", WH_YAML_ALIASES_MAX + 1);
    auto_free char *good_text = wh_xasprintf("%s]", good), *bad_text = wh_xasprintf("%s]", bad);
    auto_json json_t *value = yaml(good_text);
    CHECK_INT(json_array_size(json_object_get(value, "b")), ==, WH_YAML_ALIASES_MAX + 1);
    refused(bad_text, -EFBIG, "more than 64 aliases");
    auto_free char *many = repeated("- 1\n", "- 1\n", WH_YAML_NODES_MAX - 2);
    auto_json json_t *list = yaml(many);
    CHECK_INT(json_array_size(list), ==, WH_YAML_NODES_MAX - 1);
    auto_free char *more = wh_xasprintf("%s- 1\n", many);
    refused(more, -EFBIG, "more than 200000 values");
}
