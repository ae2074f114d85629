/* SPDX-License-Identifier: Apache-2.0 */
/* Errors, buffers, arenas, time, records. */
#include "base/arena.h"
#include "base/clock.h"
#include "base/record.h"
#include "harness.h"

TEST(a_failure_says_why)
{
    wh_err err = {0};
    CHECK_ERR(wh_fail(&err, -ENOENT, "open '%s'", "/x"), -ENOENT, &err,
              "open '/x': No such file or directory");
    CHECK_ERR(wh_fail(&err, -EINVAL, "a sentence."), -EINVAL, &err, "a sentence.");
    CHECK_STR(err.msg, "a sentence.");
    (void)wh_fail(&err, -EINVAL, "at once (say)");
    CHECK_STR(err.msg, "at once (say)");
    (void)wh_fail(&err, -EINVAL, "a: b");
    CHECK_STR(err.msg, "a: b");
    CHECK_INT(wh_wrap(&err, "load '%s'", "c"), ==, -EINVAL);
    CHECK_STR(err.msg, "load 'c': a: b");
    (void)wh_fail(&err, -EIO, "again: %s", err.msg);
    CHECK_STR(err.msg, "again: load 'c': a: b");
    CHECK_FAIL(wh_fail(NULL, -ENXIO, "nobody"), -ENXIO);
    CHECK_INT(wh_wrap(NULL, "nobody reads the code either"), ==, -ENXIO);
    errno = 7;
    (void)wh_fail(&err, -EIO, "keeps");
    CHECK_INT(errno, ==, 7);
}

TEST(long_sentences_are_cut)
{
    wh_err err = {0};
    char text[600];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    (void)wh_fail(&err, -EIO, "%s", text);
    CHECK_INT(strlen(err.msg), ==, sizeof(err.msg) - 1);
    (void)wh_wrap(&err, "%s", text);
    CHECK_INT(strlen(err.msg), ==, sizeof(err.msg) - 1);
    for (int n = 245; n <= 252; n++) {
        (void)wh_fail(&err, -EIO, "end.");
        (void)wh_wrap(&err, "%.*s", n, text);
        CHECK_INT(strlen(err.msg), <, sizeof(err.msg));
    }
}

TEST(a_buffer_stops_at_its_maximum)
{
    auto_buf wh_buf b;
    wh_buf_init(&b, 100);
    CHECK_STR(wh_buf_str(&b), "");
    char text[101];
    memset(text, 'y', sizeof(text));
    CHECK_OK(wh_buf_append(&b, text, 99), NULL);
    CHECK_OK(wh_buf_putc(&b, 'z'), NULL);
    CHECK_FAIL(wh_buf_putc(&b, 'z'), -ENOBUFS);
    CHECK(b.failed);
    CHECK_INT(b.len, ==, 100);
    CHECK_INT(b.p[100], ==, 0);
    CHECK(b.cap <= 101);
    wh_buf_reset(&b);
    CHECK_FAIL(wh_buf_append(&b, text, 101), -ENOBUFS);
    CHECK_FAIL(wh_buf_append(&b, text, 1), -ENOBUFS);
    CHECK(wh_buf_take(&b) == NULL);
    CHECK_OK(wh_buf_append(&b, text, 1), NULL); /* and may be used again */
}

TEST(printing_into_a_buffer)
{
    auto_buf wh_buf b;
    wh_buf_init(&b, 70);
    CHECK_OK(wh_buf_printf(&b, "%s-%d", "a", 5), NULL);
    CHECK_OK(wh_buf_printf(&b, "%62d", 1), NULL);
    CHECK_INT(b.len, ==, 65);
    CHECK_FAIL(wh_buf_printf(&b, "%6d", 1), -ENOBUFS);
    CHECK_INT(b.len, ==, 65);
    CHECK_INT(strlen(b.p), ==, 65);
    wh_buf_reset(&b);
    CHECK_OK(wh_buf_puts(&b, "hello world"), NULL);
    wh_buf_consume(&b, 6);
    CHECK_STR(b.p, "world");
    auto_free char *taken = wh_buf_take(&b);
    CHECK_STR(taken, "world");
    CHECK_INT(b.len, ==, 0);
    auto_free char *empty = wh_buf_take(&b);
    CHECK_STR(empty, "");
}

TEST(reserving_absurd_sizes)
{
    auto_buf wh_buf b;
    wh_buf_init(&b, SIZE_MAX);
    CHECK_OK(wh_buf_puts(&b, "x"), NULL);
    CHECK_FAIL(wh_buf_reserve(&b, SIZE_MAX), -ENOBUFS);
    CHECK_STR(b.p, "x");
}

TEST(an_arena_gives_zeroed_aligned_memory_up_to_its_maximum)
{
    wh_arena a;
    wh_arena_init(&a, 10000);
    CHECK_STR(wh_arena_try_printf(&a, "%d-%s", 7, "x"), "7-x");
    CHECK_STR(wh_arena_try_strndup(&a, "hello", 3), "hel");
    unsigned char *p = wh_arena_try_alloc(&a, 9000);
    CHECK(p != NULL);
    CHECK_INT((uintptr_t)p % _Alignof(max_align_t), ==, 0);
    for (size_t i = 0; i < 9000; i++)
        CHECK_INT(p[i], ==, 0);
    memset(p, 1, 9000);
    CHECK(wh_arena_try_alloc(&a, 1000) == NULL);
    CHECK(wh_arena_try_alloc(&a, SIZE_MAX - 8) == NULL);
    wh_arena_reset(&a);
    CHECK_INT(a.used, ==, 0);
    p = wh_arena_try_alloc(&a, 100);
    for (size_t i = 0; i < 100; i++)
        CHECK_INT(p[i], ==, 0);
    wh_arena_done(&a);
}

TEST(rfc3339_both_ways)
{
    char out[WH_RFC3339_LEN];
    wh_time t = 0;
    CHECK_STR(wh_rfc3339(0, 0, out), "1970-01-01T00:00:00Z");
    CHECK_STR(wh_rfc3339(-1, 9, out), "1969-12-31T23:59:59.999999999Z");
    CHECK_STR(wh_rfc3339(1709210096 * WH_SEC + 123456789, 6, out), "2024-02-29T12:34:56.123456Z");
    CHECK_OK(wh_rfc3339_parse("2024-02-29T12:34:56.123456789Z", &t), NULL);
    CHECK_INT(t, ==, 1709210096 * WH_SEC + 123456789);
    CHECK_OK(wh_rfc3339_parse("2024-02-29t14:34:56.5+02:00", &t), NULL);
    CHECK_INT(t, ==, 1709210096 * WH_SEC + 500000000);
    CHECK_OK(wh_rfc3339_parse("2016-12-31T23:59:60Z", &t), NULL);
    CHECK_STR(wh_rfc3339(t, 0, out), "2017-01-01T00:00:00Z");
    static const char *const bad[] = {"",
                                      "2024-02-30T00:00:00Z",
                                      "2023-02-29T00:00:00Z",
                                      "2024-13-01T00:00:00Z",
                                      "2024-01-01T24:00:00Z",
                                      "2024-01-01T00:00:00",
                                      "2024-01-01T00:00:00.Z",
                                      "2024-01-01T00:00:00.0000000001Z",
                                      "2024-01-01 00:00:00Z",
                                      "2024-01-01T00:00:00Zx",
                                      "2024-01-01T00:00:00+24:00",
                                      "9999-01-01T00:00:00Z",
                                      "24-01-01T00:00:00Z"};
    for (size_t i = 0; i < WH_ARRAY_LEN(bad); i++)
        CHECK_FAIL(wh_rfc3339_parse(bad[i], &t), -EINVAL);
    wh_rng rng = {1};
    for (int i = 0; i < 20000; i++) {
        wh_time real = (wh_time)(wh_rng_next(&rng)), back = 0;
        CHECK_OK(wh_rfc3339_parse(wh_rfc3339(real, 9, out), &back), NULL);
        CHECK_INT(back, ==, real);
    }
}

TEST(random_numbers_stay_below)
{
    wh_rng rng = {7};
    for (int i = 0; i < 1000; i++)
        CHECK_INT(wh_rng_below(&rng, 10), <, 10);
    uint8_t bytes[64] = {0}, zero[64] = {0};
    wh_random(bytes, sizeof(bytes));
    CHECK(memcmp(bytes, zero, sizeof(zero)) != 0);
}

TEST(a_record_comes_back)
{
    auto_buf wh_buf b;
    wh_err err = {0};
    wh_buf_init(&b, 1000);
    wh_record_put_str(&b, "name", "pod");
    wh_record_put_str(&b, "absent", NULL);
    wh_record_put_i64(&b, "uid", -5);
    wh_record_put(&b, "raw", "a\0b", 3);
    wh_record_put(&b, "empty", NULL, 0);
    CHECK(!b.failed);
    CHECK_OK(wh_record_check(b.p, b.len, &err), &err);
    auto_free char *name = NULL, *empty = NULL;
    int64_t uid = 0;
    CHECK_OK(wh_record_get_str(b.p, b.len, "name", &name, &err), &err);
    CHECK_STR(name, "pod");
    CHECK_OK(wh_record_get_str(b.p, b.len, "empty", &empty, &err), &err);
    CHECK_STR(empty, "");
    CHECK_OK(wh_record_get_i64(b.p, b.len, "uid", -10, 10, &uid, &err), &err);
    CHECK_INT(uid, ==, -5);
    char *raw = NULL;
    CHECK_ERR(wh_record_get_str(b.p, b.len, "raw", &raw, &err), -EBADMSG, &err, "'raw' holds a NUL");
    CHECK_ERR(wh_record_get_str(b.p, b.len, "absent", &raw, &err), -ENOENT, &err, "'absent' is missing");
    CHECK_ERR(wh_record_get_i64(b.p, b.len, "uid", 0, 10, &uid, &err), -EBADMSG, &err, "from 0 to 10");
    CHECK_ERR(wh_record_get_i64(b.p, b.len, "name", 0, 10, &uid, &err), -EBADMSG, &err, "'name'");
    CHECK_INT(uid, ==, -5);
    for (size_t n = 1; n < b.len; n++) { /* cut inside of a field, it is malformed */
        wh_record_iter it = wh_record_begin(b.p, n);
        wh_field field;
        while (wh_record_next(&it, &field))
            ;
        CHECK_INT(wh_record_check(b.p, n, NULL), ==, it.p == it.end ? 0 : -EBADMSG);
    }
}

TEST(malformed_records)
{
    static const struct {
        const char *p;
        size_t n;
    } bad[] = {
        {"\0\0\0\0\0", 5},
        {"\1A\0\0\0\0", 6},
        {"\1a\1\0\0\0", 6},
        {"\1a\xff\xff\xff\xff", 6},
        {"\1a\0\0\0", 5},
        {"\x21"
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\0\0\0\0",
         38},
    };
    for (size_t i = 0; i < WH_ARRAY_LEN(bad); i++)
        CHECK_FAIL(wh_record_check(bad[i].p, bad[i].n, NULL), -EBADMSG);
    CHECK_OK(wh_record_check(NULL, 0, NULL), NULL);
    char *big = calloc(1, WH_RECORD_BYTES_MAX + 1);
    CHECK_FAIL(wh_record_check(big, WH_RECORD_BYTES_MAX + 1, NULL), -EBADMSG);
    free(big);
}

TEST(a_record_that_is_too_large_marks_its_buffer)
{
    auto_buf wh_buf b;
    wh_buf_init(&b, 10);
    wh_record_put_str(&b, "a", "1234"); /* 1 + 1 + 4 + 4 */
    CHECK(!b.failed);
    wh_record_put_str(&b, "b", "");
    CHECK(b.failed);
    CHECK_INT(b.len, ==, 10);
}
