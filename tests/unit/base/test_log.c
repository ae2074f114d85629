/* SPDX-License-Identifier: Apache-2.0 */
/* The log and the metrics. */
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/metrics.h"
#include "harness.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>

static int out;

static void setup(wh_log_format format)
{
    char name[] = "/tmp/wh-log-XXXXXX";
    out = mkostemp(name, O_CLOEXEC | O_APPEND);
    CHECK(out >= 0);
    CHECK_OK(unlink(name), NULL);
    wh_log_setup("test", out, WH_LOG_INFO, format);
}

static char *written(void)
{
    char *text = NULL;
    wh_err err = {0};
    CHECK_OK((int)lseek(out, 0, SEEK_SET), NULL);
    CHECK_OK(wh_read_fd(out, 10 << 20, &text, NULL, &err), &err);
    return text;
}

TEST(text_lines)
{
    setup(WH_LOG_TEXT);
    wh_log(WARN, "pull failed", KV_STR("image", "a b\x1b[31m\n\"x\xff"), KV_INT("n", -3),
           KV_BOOL("again", true), KV_SECRET("token", "hunter2"), KV_STR("none", NULL),
           KV_STR("plain", "reg.io/x:1"));
    wh_log(DEBUG, "not shown");
    auto_free char *text = written();
    CHECK_CONTAINS(
        text,
        "Z WARN  pull failed image=\"a b\\x1b[31m\\n\\\"x\xef\xbf\xbd\" n=-3 again=true token=<7 bytes> "
        "none=- plain=reg.io/x:1\n");
    CHECK(strstr(text, "not shown") == NULL);
}

TEST(json_lines_are_valid_for_any_bytes)
{
    setup(WH_LOG_AUTO);
    char all[256];
    for (int i = 1; i < 256; i++)
        all[i - 1] = (char)i;
    all[255] = '\0';
    wh_log(ERROR, "all bytes", KV_STR("v", all), KV_INT("i", INT64_MIN), KV_SECRET("s", NULL));
    auto_free char *text = written();
    CHECK_INT(strcspn(text, "\n"), ==, strlen(text) - 1);
    wh_err err = {0};
    auto_json json_t *j = NULL;
    CHECK_OK(wh_json_parse(text, strlen(text), &j, &err), &err);
    CHECK_STR(wh_json_str(j, "msg"), "all bytes");
    CHECK_STR(wh_json_str(j, "level"), "error");
    CHECK_STR(wh_json_str(j, "program"), "test");
    CHECK(wh_json_int(j, "i", 0) == INT64_MIN);
}

/* Fewer lines than a site may say in a second. */
TEST(long_values_are_cut_and_stay_valid)
{
    wh_err err = {0};
    for (size_t n = 8040; n < 8540; n += 29) {
        setup(WH_LOG_JSON);
        char *value = wh_xcalloc(1, n + 1);
        memset(value, n % 2 ? '\n' : 'v', n);
        wh_log(ERROR, "long", KV_STR("a", "b"), KV_STR("v", value), KV_STR("w", value), KV_INT("x", 1));
        auto_free char *text = written();
        auto_json json_t *j = NULL;
        CHECK_OK(wh_json_parse(text, strlen(text), &j, &err), &err);
        CHECK_CONTAINS(wh_json_str(j, "v"), "...");
        CHECK_INT(strlen(text), <=, 8192);
        free(value);
        close(out);
    }
}

static void *talk(void *user)
{
    for (int i = 0; i < 400; i++)
        wh_log(INFO, "one site", KV_STR("who", user));
    return NULL;
}

TEST(a_site_says_twenty_lines_a_second)
{
    setup(WH_LOG_JSON);
    pthread_t threads[2];
    for (size_t i = 0; i < 2; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, talk, NULL), ==, 0);
    for (size_t i = 0; i < 2; i++)
        CHECK_INT(pthread_join(threads[i], NULL), ==, 0);
    auto_free char *text = written();
    size_t lines = 0;
    for (const char *p = text; *p != '\0'; p++)
        lines += *p == '\n';
    CHECK_INT(lines, >=, 20);
    CHECK_INT(lines, <=, 60);
    usleep(1100 * 1000);
    (void)talk(NULL);
    auto_free char *more = written();
    CHECK_CONTAINS(more, "\"suppressed\":");
}

static WH_METRIC(reads, WH_COUNTER, "test_reads_total", "Reads", "from,to");
static WH_METRIC(open_now, WH_GAUGE, "test_open", "Open\nnow", NULL);
static WH_METRIC(took, WH_HISTOGRAM, "test_took_seconds", "Time", "verb");

TEST(exposition)
{
    static const double buckets[] = {0.1, 1, 0};
    took.buckets = buckets;
    wh_metric_add(&reads, "b\nc", 1);
    wh_metric_add(&reads, "a\n\"\\\xff", 2.5);
    wh_metric_set(&open_now, NULL, 1e15);
    wh_metric_observe(&took, "get", 0.1);
    wh_metric_observe(&took, "get", 0.5);
    wh_metric_observe(&took, "get", 7);
    CHECK_INT(WH_COUNT_IF(1 == 1, "strange"), ==, true);
    auto_buf wh_buf b;
    wh_buf_init(&b, 10000);
    CHECK_OK(wh_metrics_write(&b), NULL);
    CHECK_STR(
        b.p,
        "# HELP test_open Open\\nnow\n# TYPE test_open gauge\ntest_open 1e+15\n"
        "# HELP test_reads_total Reads\n# TYPE test_reads_total counter\n"
        "test_reads_total{from=\"a\",to=\"\\\"\\\\\xef\xbf\xbd\"} 2.5\ntest_reads_total{from=\"b\",to=\"c\"} 1\n"
        "# HELP test_took_seconds Time\n# TYPE test_took_seconds histogram\n"
        "test_took_seconds_bucket{verb=\"get\",le=\"0.1\"} 1\n"
        "test_took_seconds_bucket{verb=\"get\",le=\"1\"} 2\n"
        "test_took_seconds_bucket{verb=\"get\",le=\"+Inf\"} 3\n"
        "test_took_seconds_sum{verb=\"get\"} 7.6\ntest_took_seconds_count{verb=\"get\"} 3\n"
        "# HELP wherry_odd_total Odd but legal events, by what was seen\n# TYPE wherry_odd_total counter\n"
        "wherry_odd_total{what=\"strange\"} 1\n");
    wh_metric_forget(&reads, "b\nc");
    CHECK_INT(wh_metric_get(&reads, "b\nc"), ==, 0);
    CHECK_INT(wh_metric_get(&took, "get"), ==, 3);
}

TEST(series_overflow_at_a_thousand)
{
    char label[16];
    for (int i = 0; i < 1005; i++) {
        (void)snprintf(label, sizeof(label), "%d\n", i);
        wh_metric_add(&reads, label, 1);
    }
    CHECK_INT(wh_metric_get(&reads, "999\n"), ==, 1);
    CHECK_INT(wh_metric_get(&reads, "1000\n"), ==, 0);
    CHECK_INT(wh_metric_get(&reads, "overflow"), ==, 5);
}

TEST(json_is_capped)
{
    wh_err err = {0};
    json_t *j = NULL;
    char deep[131];
    for (int n = 64; n <= 65; n++) {
        memset(deep, '[', (size_t)n);
        memset(deep + n, ']', (size_t)n);
        int rc = wh_json_parse(deep, 2 * (size_t)n, &j, &err);
        CHECK_INT(rc, ==, n == 64 ? 0 : -EBADMSG);
        if (rc == 0)
            json_decref(j);
    }
    CHECK_CONTAINS(err.msg, "deeper than 64");
    CHECK_ERR(wh_json_parse("{\"a\":1,\"a\":2}", 13, &j, &err), -EBADMSG, &err, "line 1, column");
    CHECK_FAIL(wh_json_parse("\"\\u0000\"", 8, &j, &err), -EBADMSG);
    CHECK_FAIL(wh_json_parse("", 0, &j, &err), -EBADMSG);
    CHECK_FAIL(wh_json_parse("{} x", 4, &j, &err), -EBADMSG);
    const char *text = "{\"a\":{\"b\":\"c\",\"n\":7,\"t\":true},\"s\":\"[[[\\\"\"}";
    CHECK_OK(wh_json_parse(text, strlen(text), &j, &err), &err);
    CHECK_STR(wh_json_str(j, "a.b"), "c");
    CHECK(wh_json_str(j, "a.b.c") == NULL);
    CHECK(wh_json_str(j, "a.x.c") == NULL);
    CHECK_INT(wh_json_int(j, "a.n", 1), ==, 7);
    CHECK_INT(wh_json_int(j, "a.b", 1), ==, 1);
    CHECK(wh_json_bool(j, "a.t", false));
    auto_free char *again = wh_json_dump(j);
    CHECK_STR(again, text);
    json_decref(j);
}
