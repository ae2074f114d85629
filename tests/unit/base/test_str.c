/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"
#include "harness.h"

TEST(numbers_are_whole_strings)
{
    uint64_t u = 7;
    CHECK_OK(wh_parse_u64("18446744073709551615", UINT64_MAX, &u), NULL);
    CHECK(u == UINT64_MAX);
    CHECK_FAIL(wh_parse_u64("18446744073709551616", UINT64_MAX, &u), -ERANGE);
    CHECK_FAIL(wh_parse_u64("11", 10, &u), -ERANGE);
    CHECK_OK(wh_parse_u64("10", 10, &u), NULL);
    static const char *const bad[] = {"", " 1", "1 ", "+1", "-1", "0x1", "1.0", "one"};
    for (size_t i = 0; i < WH_ARRAY_LEN(bad); i++)
        CHECK_FAIL(wh_parse_u64(bad[i], UINT64_MAX, &u), -EINVAL);
    CHECK_FAIL(wh_parse_u64(NULL, UINT64_MAX, &u), -EINVAL);
    CHECK_INT(u, ==, 10);
}

TEST(signed_numbers_reach_both_ends)
{
    int64_t i = 0;
    CHECK_OK(wh_parse_i64("-9223372036854775808", INT64_MIN, INT64_MAX, &i), NULL);
    CHECK(i == INT64_MIN);
    CHECK_FAIL(wh_parse_i64("-9223372036854775809", INT64_MIN, INT64_MAX, &i), -ERANGE);
    CHECK_FAIL(wh_parse_i64("9223372036854775808", INT64_MIN, INT64_MAX, &i), -ERANGE);
    CHECK_FAIL(wh_parse_i64("--1", INT64_MIN, INT64_MAX, &i), -EINVAL);
    CHECK_FAIL(wh_parse_i64("-", INT64_MIN, INT64_MAX, &i), -EINVAL);
    CHECK_FAIL(wh_parse_i64("-2", -1, 1, &i), -ERANGE);
}

TEST(sizes)
{
    uint64_t n = 0;
    CHECK_OK(wh_parse_bytes("64Mi", &n), NULL);
    CHECK_INT(n, ==, 64 << 20);
    CHECK_OK(wh_parse_bytes("1G", &n), NULL);
    CHECK_INT(n, ==, 1000000000);
    CHECK_OK(wh_parse_bytes("100", &n), NULL);
    CHECK_INT(n, ==, 100);
    CHECK_OK(wh_parse_bytes("15Ei", &n), NULL);
    CHECK_FAIL(wh_parse_bytes("16Ei", &n), -ERANGE);
    CHECK_FAIL(wh_parse_bytes("1.5Gi", &n), -EINVAL);
    CHECK_FAIL(wh_parse_bytes("Mi", &n), -EINVAL);
    CHECK_FAIL(wh_parse_bytes("1K", &n), -EINVAL);
    CHECK_FAIL(wh_parse_bytes("1Mib", &n), -EINVAL);
}

TEST(durations)
{
    int64_t ns = 0;
    CHECK_OK(wh_parse_duration("250ms", &ns), NULL);
    CHECK_INT(ns, ==, 250000000);
    CHECK_OK(wh_parse_duration("1h30m", &ns), NULL);
    CHECK_INT(ns, ==, INT64_C(5400000000000));
    CHECK_OK(wh_parse_duration("0", &ns), NULL);
    CHECK_INT(ns, ==, 0);
    CHECK_OK(wh_parse_duration("3\xc2\xb5s", &ns), NULL);
    CHECK_INT(ns, ==, 3000);
    CHECK_FAIL(wh_parse_duration("10", &ns), -EINVAL);
    CHECK_FAIL(wh_parse_duration("10x", &ns), -EINVAL);
    CHECK_FAIL(wh_parse_duration("s", &ns), -EINVAL);
    CHECK_FAIL(wh_parse_duration("", &ns), -EINVAL);
    CHECK_FAIL(wh_parse_duration("9223372036854775807s", &ns), -ERANGE);
    CHECK_FAIL(wh_parse_duration("2562047h9223372036s", &ns), -ERANGE);
}

TEST(split_gives_every_piece)
{
    wh_str rest = WH_STR("a,,b,"), piece;
    CHECK(wh_str_split(&rest, ',', &piece) && wh_str_eq(piece, WH_STR("a")));
    CHECK(wh_str_split(&rest, ',', &piece) && piece.n == 0);
    CHECK(wh_str_split(&rest, ',', &piece) && wh_str_eq(piece, WH_STR("b")));
    CHECK(wh_str_split(&rest, ',', &piece) && piece.n == 0);
    CHECK(!wh_str_split(&rest, ',', &piece));
    CHECK(wh_str_eq(wh_str_trim(WH_STR(" \t x y\n")), WH_STR("x y")));
    CHECK_INT(wh_str_trim(WH_STR("  ")).n, ==, 0);
}

TEST(string_vectors)
{
    auto_strv wh_strv v = NULL;
    CHECK_INT(wh_strv_len(v), ==, 0);
    for (int i = 0; i < 100; i++)
        wh_strv_push_take(&v, wh_xasprintf("%d", i));
    CHECK_INT(wh_strv_len(v), ==, 100);
    CHECK_STR(v[63], "63");
    auto_strv wh_strv copy = wh_strv_copy(v);
    CHECK(wh_strv_has(copy, "99"));
    CHECK(!wh_strv_has(copy, "100"));
    wh_strv_push(&copy, "100");
    CHECK(wh_strv_has(copy, "100"));
}

TEST(utf8_is_strict)
{
    static const char *const good[] = {
        "", "a", "\xc2\x80", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {
        "\x80",     "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
        "\xe2\x82", "a\xff"};
    for (size_t i = 0; i < WH_ARRAY_LEN(good); i++)
        CHECK(wh_utf8_valid(good[i], strlen(good[i])));
    for (size_t i = 0; i < WH_ARRAY_LEN(bad); i++)
        CHECK(!wh_utf8_valid(bad[i], strlen(bad[i])));
}

TEST(hex_both_ways)
{
    char text[7];
    uint8_t bytes[3];
    wh_hex("\x00\xab\xff", 3, text);
    CHECK_STR(text, "00abff");
    CHECK_OK(wh_unhex("00ABff", 6, bytes), NULL);
    CHECK_MEM(bytes, "\x00\xab\xff", 3);
    CHECK_FAIL(wh_unhex("abc", 3, bytes), -EINVAL);
    CHECK_FAIL(wh_unhex("0g", 2, bytes), -EINVAL);
}

TEST(base64_of_rfc_4648)
{
    static const char *const pairs[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < WH_ARRAY_LEN(pairs); i++) {
        auto_free char *text = wh_base64(pairs[i][0], strlen(pairs[i][0]));
        CHECK_STR(text, pairs[i][1]);
        auto_free uint8_t *data = NULL;
        size_t n = 99;
        CHECK_OK(wh_unbase64(text, strlen(text), &data, &n), NULL);
        CHECK_INT(n, ==, strlen(pairs[i][0]));
        CHECK_MEM(data, pairs[i][0], n);
    }
    static const char *const bad[] = {
        "Zg", "Zg=", "Z===", "====", "Zh==", "Zm9=", "Zm 8", "Zg==Zg==", "Zm9v\n"};
    for (size_t i = 0; i < WH_ARRAY_LEN(bad); i++) {
        uint8_t *data = NULL;
        size_t n;
        CHECK_FAIL(wh_unbase64(bad[i], strlen(bad[i]), &data, &n), -EINVAL);
        CHECK(data == NULL);
    }
}

TEST(bytes_for_people)
{
    char out[16];
    CHECK_STR(wh_human_bytes(0, out), "0 B");
    CHECK_STR(wh_human_bytes(1023, out), "1023 B");
    CHECK_STR(wh_human_bytes(1536 * 1024, out), "1.5 MiB");
    CHECK_STR(wh_human_bytes(UINT64_MAX, out), "15.9 EiB");
}
