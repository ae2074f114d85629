/* SPDX-License-Identifier: Apache-2.0 */
/* The codec's limits (at each and one past it), its writer and its helpers. What it says to bytes:
 * tests/codec/h1.md. */
#include "codec_log.h"

#include "harness.h"

/* What one feed of the text gives. */
static void expect(const char *text, const wh_h1_limits *limits, const char *last_line)
{
    codec_log l;
    codec_init(&l, limits);
    CHECK(codec_feed(&l, text, strlen(text)));
    codec_end(&l);
    const char *log = wh_buf_str(&l.out);
    size_t n = strlen(last_line);
    if (strlen(log) < n || strcmp(log + strlen(log) - n, last_line) != 0)
        wh_test_fail(__FILE__, __LINE__, "expected ... %s got %s", last_line, log);
    codec_done(&l);
}

static char *repeat(char c, size_t n)
{
    char *s = wh_xcalloc(1, n + 1);
    memset(s, c, n);
    return s;
}

TEST(request_line_limit)
{
    wh_h1_limits limits = wh_h1_limits_default;
    limits.line_bytes = 100;
    auto_free char *a = repeat('a', 100 - strlen("GET / HTTP/1.1"));
    auto_free char *at = wh_xasprintf("GET /%s HTTP/1.1\r\nHost: h\r\n\r\n", a);
    auto_free char *past = wh_xasprintf("GET /%sa HTTP/1.1\r\nHost: h\r\n\r\n", a);
    expect(at, &limits, "end\n");
    expect(past, &limits, "refuse 414 rule=line-size\n");
}

TEST(head_limit)
{
    auto_free char *a =
        repeat('a', WH_HTTP_HEAD_BYTES_MAX - strlen("GET / HTTP/1.1\r\nHost: h\r\nX: \r\n\r\n"));
    auto_free char *at = wh_xasprintf("GET / HTTP/1.1\r\nHost: h\r\nX: %s\r\n\r\n", a);
    auto_free char *past = wh_xasprintf("GET / HTTP/1.1\r\nHost: h\r\nX: %sa\r\n\r\n", a);
    CHECK_INT(strlen(at), ==, WH_HTTP_HEAD_BYTES_MAX);
    expect(at, NULL, "end\n");
    expect(past, NULL, "refuse 431 rule=head-size\n");
}

static char *with_fields(size_t n)
{
    wh_buf b;
    wh_buf_init(&b, 1UL << 20);
    (void)wh_buf_puts(&b, "GET / HTTP/1.1\r\nHost: h\r\n");
    for (size_t i = 1; i < n; i++)
        (void)wh_buf_puts(&b, "X: y\r\n");
    (void)wh_buf_puts(&b, "\r\n");
    return wh_buf_take(&b);
}

TEST(field_count_limit)
{
    auto_free char *at = with_fields(WH_HTTP_FIELDS_MAX);
    auto_free char *past = with_fields(WH_HTTP_FIELDS_MAX + 1);
    expect(at, NULL, "end\n");
    expect(past, NULL, "refuse 431 rule=field-count\n");
}

#define CHUNKED "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"

TEST(chunk_line_limit)
{
    auto_free char *a = repeat('a', WH_HTTP_CHUNK_LINE_MAX - 2);
    auto_free char *at = wh_xasprintf(CHUNKED "0;%s\r\n\r\n", a);
    auto_free char *past = wh_xasprintf(CHUNKED "0;%sa\r\n\r\n", a);
    expect(at, NULL, "end\n");
    expect(past, NULL, "refuse 400 rule=chunk-line-size\n");
}

TEST(trailer_limits)
{
    auto_free char *a = repeat('a', WH_HTTP_TRAILER_BYTES_MAX - strlen("X: \r\n\r\n"));
    auto_free char *at = wh_xasprintf(CHUNKED "0\r\nX: %s\r\n\r\n", a);
    auto_free char *past = wh_xasprintf(CHUNKED "0\r\nX: %sa\r\n\r\n", a);
    expect(at, NULL, "end\n");
    expect(past, NULL, "refuse 400 rule=trailer-size\n");
    auto_buf wh_buf many;
    wh_buf_init(&many, 1UL << 20);
    (void)wh_buf_puts(&many, CHUNKED "0\r\n");
    for (int i = 0; i < WH_HTTP_TRAILERS_MAX; i++)
        (void)wh_buf_puts(&many, "X: y\r\n");
    auto_free char *full = wh_xasprintf("%s\r\n", wh_buf_str(&many));
    auto_free char *over = wh_xasprintf("%sX: y\r\n\r\n", wh_buf_str(&many));
    expect(full, NULL, "end\n");
    expect(over, NULL, "refuse 400 rule=trailer-count\n");
}

TEST(body_limit)
{
    wh_h1_limits limits = wh_h1_limits_default;
    limits.body_bytes = 4;
    expect("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nabcd", &limits, "end\n");
    expect("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nabcde", &limits,
           "refuse 413 rule=body-size\n");
    expect(CHUNKED "3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n", &limits, "end\n");
    expect(CHUNKED "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", &limits, "refuse 413 rule=body-size\n");
}

TEST(fields_are_found_by_name_and_token)
{
    static const char text[] =
        "GET / HTTP/1.1\r\nHost: h\r\nAccept: a , B\r\nX: 1\r\nX: 2\r\nAccept: c\r\n\r\n";
    wh_h1 h;
    size_t used;
    wh_h1_event event;
    wh_h1_init(&h, NULL);
    CHECK_INT(wh_h1_feed(&h, text, sizeof(text) - 1, &used, &event), ==, 0);
    CHECK_INT(event.kind, ==, WH_H1_HEAD);
    CHECK(wh_str_eq(wh_h1_get(&h, "x"), WH_STR("1")));
    CHECK(wh_h1_get(&h, "y").p == NULL);
    CHECK(wh_h1_has_token(&h, "accept", "b"));
    CHECK(wh_h1_has_token(&h, "accept", "c"));
    CHECK(!wh_h1_has_token(&h, "accept", "d"));
    wh_h1_done(&h);
}

TEST(writer_refuses_what_the_reader_would)
{
    wh_buf b;
    wh_buf_init(&b, 1000);
    CHECK_INT(wh_h1_write_status(&b, 404), ==, 0);
    CHECK_INT(wh_h1_write_field(&b, "X-A", "b c"), ==, 0);
    CHECK_STR(wh_buf_str(&b), "HTTP/1.1 404 Not Found\r\nX-A: b c\r\n");
    CHECK_FAIL(wh_h1_write_status(&b, 99), -EINVAL);
    CHECK_FAIL(wh_h1_write_field(&b, "X A", "b"), -EINVAL);
    CHECK_FAIL(wh_h1_write_field(&b, "", "b"), -EINVAL);
    CHECK_FAIL(wh_h1_write_field(&b, "X", "b\r\nY: z"), -EINVAL);
    CHECK_FAIL(wh_h1_write_field(&b, "X", " b"), -EINVAL);
    CHECK_STR(wh_buf_str(&b), "HTTP/1.1 404 Not Found\r\nX-A: b c\r\n");
    wh_buf_done(&b);
}

TEST(writer_of_requests)
{
    wh_buf b;
    wh_buf_init(&b, 1000);
    CHECK_INT(wh_h1_write_request(&b, WH_STR("GET"), WH_STR("/a?b=c"), WH_STR("[::1]:80")), ==, 0);
    CHECK_STR(wh_buf_str(&b), "GET /a?b=c HTTP/1.1\r\nHost: [::1]:80\r\n");
    wh_buf_reset(&b);
    CHECK_INT(wh_h1_write_request(&b, WH_STR("OPTIONS"), WH_STR("*"), WH_STR("h")), ==, 0);
    CHECK_STR(wh_buf_str(&b), "OPTIONS * HTTP/1.1\r\nHost: h\r\n");
    wh_buf_reset(&b);
    static const struct {
        const char *method, *target, *host;
    } bad[] = {
        {"", "/", "h"},        {"G T", "/", "h"},         {"GET", "", "h"},          {"GET", "a", "h"},
        {"GET", "/a b", "h"},  {"GET", "/a#b", "h"},      {"GET", "/\xc3\xa4", "h"}, {"GET", "*", "h"},
        {"GET", "/", ""},      {"GET", "/", "h\r\nX: y"}, {"GET", "/", "u@h"},       {"CONNECT", "/", "h"},
        {"GET", "/\r\n", "h"},
    };
    for (size_t i = 0; i < WH_ARRAY_LEN(bad); i++) {
        CHECK_FAIL(wh_h1_write_request(&b, wh_str_of(bad[i].method), wh_str_of(bad[i].target),
                                       wh_str_of(bad[i].host)),
                   -EINVAL);
        CHECK_INT(b.len, ==, 0);
    }
    wh_buf_done(&b);
}

TEST(writer_of_chunks)
{
    wh_buf b;
    wh_buf_init(&b, 80);
    CHECK_INT(wh_h1_write_chunk(&b, "", 0), ==, 0);
    CHECK_INT(b.len, ==, 0);
    CHECK_INT(wh_h1_write_chunk(&b, "0123456789abcdefX", 17), ==, 0);
    const wh_h1_field good[] = {{WH_STR("X-Sum"), WH_STR("1")}, {WH_STR("Y"), WH_STR("")}};
    const wh_h1_field bad[] = {{WH_STR("X-Sum"), WH_STR("1")}, {WH_STR("Content-Length"), WH_STR("1")}};
    const wh_h1_field split[] = {{WH_STR("X"), WH_STR("1\r\nY: 2")}};
    size_t before = b.len;
    CHECK_FAIL(wh_h1_write_last_chunk(&b, bad, 2), -EINVAL);
    CHECK_FAIL(wh_h1_write_last_chunk(&b, split, 1), -EINVAL);
    CHECK_INT(b.len, ==, before);
    CHECK_INT(wh_h1_write_last_chunk(&b, good, 2), ==, 0);
    CHECK_STR(wh_buf_str(&b), "11\r\n0123456789abcdefX\r\n0\r\nX-Sum: 1\r\nY: \r\n\r\n");
    CHECK_FAIL(wh_h1_write_chunk(&b, "0123456789012345678901234567890123456789", 40), -ENOBUFS);
    wh_buf_done(&b);
}

TEST(writer_keeps_the_limits_of_trailers)
{
    wh_buf b;
    wh_buf_init(&b, 1UL << 20);
    wh_h1_field many[WH_HTTP_TRAILERS_MAX + 1];
    for (size_t i = 0; i < WH_ARRAY_LEN(many); i++)
        many[i] = (wh_h1_field){WH_STR("X"), WH_STR("y")};
    CHECK_INT(wh_h1_write_last_chunk(&b, many, WH_HTTP_TRAILERS_MAX), ==, 0);
    CHECK_FAIL(wh_h1_write_last_chunk(&b, many, WH_HTTP_TRAILERS_MAX + 1), -EINVAL);
    size_t most = WH_HTTP_TRAILER_BYTES_MAX - strlen("X: \r\n\r\n");
    auto_free char *text = repeat('a', most + 1);
    wh_h1_field large = {WH_STR("X"), {text, most}};
    CHECK_INT(wh_h1_write_last_chunk(&b, &large, 1), ==, 0);
    large.value.n++;
    CHECK_FAIL(wh_h1_write_last_chunk(&b, &large, 1), -EINVAL);
    wh_buf_done(&b);
}

/* A head that is parsed at once, and one that is a byte too long for that, are read alike. */
TEST(heads_around_the_eager_size)
{
    for (size_t n = 900; n < 1100; n++) {
        auto_free char *a = repeat('a', n);
        auto_free char *text = wh_xasprintf("GET / HTTP/1.1\r\nHost: h\r\nX: %s\r\n\r\n", a);
        auto_free char *bad = wh_xasprintf("GET / HTTP/1.1\r\nHost: h\r\nX: %s\x01\r\n\r\n", a);
        expect(text, NULL, "end\n");
        expect(bad, NULL, "refuse 400 rule=field-value\n");
    }
}

/* The limits hold for a head that comes whole too. */
TEST(small_limits_of_a_whole_head)
{
    wh_h1_limits limits = wh_h1_limits_default;
    limits.head_bytes = strlen("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    limits.line_bytes = strlen("GET / HTTP/1.1");
    limits.fields = 1;
    expect("GET / HTTP/1.1\r\nHost: h\r\n\r\n", &limits, "end\n");
    expect("GET / HTTP/1.1\r\nHost: hi\r\n\r\n", &limits, "refuse 431 rule=head-size\n");
    limits.head_bytes += 100;
    expect("GET /a HTTP/1.1\r\nHost: h\r\n\r\n", &limits, "refuse 414 rule=line-size\n");
    expect("GET / HTTP/1.1\r\nHost: h\r\nX: y\r\n\r\n", &limits, "refuse 431 rule=field-count\n");
}

TEST(response_until_close_keeps_its_limit)
{
    wh_h1_limits limits = wh_h1_limits_response;
    limits.body_bytes = 4;
    static const struct {
        const char *body, *last;
    } cases[] = {{"abcd", "body abcd\nend\n"}, {"abcde", "refuse 502 rule=body-size\n"}};
    for (size_t i = 0; i < WH_ARRAY_LEN(cases); i++) {
        codec_log l;
        codec_init_response(&l, &limits, WH_H1_ASKED_PLAIN, true);
        auto_free char *text = wh_xasprintf("HTTP/1.1 200 OK\r\n\r\n%s", cases[i].body);
        CHECK(codec_feed(&l, text, strlen(text)));
        codec_end(&l);
        CHECK_CONTAINS(wh_buf_str(&l.out), cases[i].last);
        codec_done(&l);
    }
}

TEST(percent_decoding)
{
    auto_free char *a = NULL;
    auto_free char *b = NULL;
    char *c = NULL;
    CHECK_INT(wh_percent_decode(WH_STR("a%20b%C3%a4+c"), false, &a), ==, 0);
    CHECK_STR(a, "a b\xc3\xa4+c");
    CHECK_INT(wh_percent_decode(WH_STR("a+b"), true, &b), ==, 0);
    CHECK_STR(b, "a b");
    CHECK_FAIL(wh_percent_decode(WH_STR("%0"), false, &c), -EBADMSG);
    CHECK_FAIL(wh_percent_decode(WH_STR("a%"), false, &c), -EBADMSG);
    CHECK_FAIL(wh_percent_decode(WH_STR("%0g"), false, &c), -EBADMSG);
    CHECK_FAIL(wh_percent_decode(WH_STR("%00"), false, &c), -EBADMSG);
    CHECK(c == NULL);
}
