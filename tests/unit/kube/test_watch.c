/* SPDX-License-Identifier: Apache-2.0 */
/* Watches against a scripted API server: streaming lists, the classic way, 410, broken streams, outages. */
#include "fake.h"

#include "kube/watch.h"

typedef struct script {
    fake *f;
    wh_http_exchange *stream; /* of the last watch that was accepted */
    int streams, lists, synced, errors, events;
    bool old_server, forbidden, stale;
    wh_buf log;
    char stream_query[512];
    wh_watch *watch;
    bool free_in_event;
} script;

static void send_text(script *s, const char *text)
{
    CHECK_INT(wh_http_write(s->stream, text, strlen(text)), ==, 0);
}

static void send_object(script *s, const char *type, const char *name, int version)
{
    auto_free char *text =
        wh_xasprintf("{\"type\":\"%s\",\"object\":{\"kind\":\"Pod\",\"metadata\":{\"name\":\"%s\","
                     "\"namespace\":\"d\",\"uid\":\"u%s\",\"resourceVersion\":\"%d\"}}}\n",
                     type, name, name, version);
    send_text(s, text);
}

static void send_mark(script *s, int version, bool end)
{
    auto_free char *text = wh_xasprintf(
        "{\"type\":\"BOOKMARK\",\"object\":{\"kind\":\"Pod\",\"metadata\":{\"resourceVersion\":\"%d\"%s}}}\n",
        version, end ? ",\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}" : "");
    send_text(s, text);
}

static void handle(wh_http_exchange *x, const wh_http_request *r, void *user)
{
    script *s = user;
    if (strcmp(r->path, "/readyz") == 0) {
        wh_http_replyf(x, 200, "ok");
        return;
    }
    if (s->forbidden) {
        fake_status(x, 403, "Forbidden", "no relationship found");
        return;
    }
    if (wh_http_param_get(r, "sendInitialEvents") != NULL && s->old_server) {
        fake_status(x, 422, "Invalid", "sendInitialEvents is forbidden");
        return;
    }
    if (wh_http_param_get(r, "watch") == NULL) {
        s->lists++;
        bool second = wh_http_param_get(r, "continue") != NULL;
        fake_json(
            x, 200,
            second
                ? "{\"kind\":\"PodList\",\"metadata\":{\"resourceVersion\":\"7\"},\"items\":[{\"metadata\":{"
                  "\"name\":\"b\",\"uid\":\"ub\",\"resourceVersion\":\"2\"}}]}"
                : "{\"kind\":\"PodList\",\"metadata\":{\"continue\":\"more\"},\"items\":[{\"metadata\":{"
                  "\"name\":\"a\",\"uid\":\"ua\",\"resourceVersion\":\"1\"}}]}");
        return;
    }
    if (s->stale && wh_http_param_get(r, "sendInitialEvents") == NULL) {
        fake_status(x, 410, "Expired", "too old resource version");
        return;
    }
    (void)snprintf(s->stream_query, sizeof(s->stream_query), "%s", r->query);
    wh_http_begin(x, 200, "application/json");
    s->stream = x;
    s->streams++;
}

static void on_event(wh_watch_kind kind, json_t *object, void *user)
{
    script *s = user;
    s->events++;
    (void)wh_buf_printf(&s->log, "%c%s/%s ", "AMD"[kind], wh_json_str(object, "metadata.name"),
                        wh_json_str(object, "metadata.resourceVersion"));
    if (s->free_in_event)
        wh_watch_free(WH_TAKE(s->watch));
}

static void on_synced(void *user)
{
    ((script *)user)->synced++;
}

static void on_error(const wh_kube_result *result, void *user)
{
    CHECK(result->err.msg[0] != '\0');
    ((script *)user)->errors++;
}

static wh_time silence_max;

static script *start(bool old_server, bool forbidden)
{
    static const wh_watch_callbacks callbacks = {on_event, on_synced, on_error};
    script *s = wh_xnew(script);
    s->old_server = old_server;
    s->forbidden = forbidden;
    wh_buf_init(&s->log, 1UL << 20);
    s->f = fake_start(handle, s, NULL);
    wh_watch_options o = {.path = "/api/v1/pods",
                          .field_selector = "spec.nodeName=n",
                          .first_delay = 50 * WH_MSEC,
                          .silence_max = silence_max,
                          .forbidden_is_transient = forbidden};
    CHECK_OK(wh_watch_start(s->f->kube, &o, &callbacks, s, &s->watch, NULL), NULL);
    return s;
}

static void stop(script *s)
{
    wh_watch_free(s->watch);
    fake_spin(s->f, 20 * WH_MSEC);
    if (s->stream != NULL)
        wh_http_end(s->stream);
    fake_stop(s->f);
    wh_buf_done(&s->log);
    free(s);
}

static void expect_log(script *s, const char *expected)
{
    CHECK_STR(wh_buf_str(&s->log), expected);
    wh_buf_reset(&s->log);
}

TEST(a_streaming_list_then_changes)
{
    script *s = start(false, false);
    fake_until(s->f, &s->streams, 1);
    CHECK_CONTAINS(s->stream_query, "sendInitialEvents=true");
    CHECK_CONTAINS(s->stream_query, "fieldSelector=spec.nodeName%3Dn");
    send_object(s, "ADDED", "a", 1);
    send_mark(s, 5, true);
    fake_until(s->f, &s->synced, 1);
    expect_log(s, "Aa/1 ");
    CHECK(wh_watch_is_synced(s->watch));
    CHECK(wh_watch_find(s->watch, "d/a") != NULL);
    CHECK_INT(wh_watch_count(s->watch), ==, 1);
    CHECK_INT(wh_watch_last_contact(s->watch), >, 0);
    /* Lines may be cut anywhere. */
    send_text(s, "{\"type\":\"MODIFIED\",\"object\":{\"metadata\":{\"name\":\"a\",\"name");
    fake_spin(s->f, 20 * WH_MSEC);
    send_text(s, "space\":\"d\",\"uid\":\"ua\",\"resourceVersion\":\"6\"}}}\n\n{\"type\":");
    fake_until(s->f, &s->events, 2);
    expect_log(s, "Ma/6 ");
    stop(s);
}

TEST(an_old_server_is_listed_page_by_page)
{
    script *s = start(true, false);
    fake_until(s->f, &s->streams, 1);
    CHECK_INT(s->lists, ==, 2);
    CHECK_INT(s->synced, ==, 1);
    CHECK_CONTAINS(s->stream_query, "resourceVersion=7");
    expect_log(s, "Aa/1 Ab/2 ");
    CHECK_INT(s->errors, ==, 1); /* the 422 is told, once */
    stop(s);
}

TEST(a_broken_stream_is_resumed)
{
    script *s = start(false, false);
    fake_until(s->f, &s->streams, 1);
    send_object(s, "ADDED", "a", 1);
    send_mark(s, 5, true);
    send_object(s, "MODIFIED", "a", 6);
    send_text(s, "{\"type\":\"MODIF"); /* half a line, then half a chunk */
    fake_until(s->f, &s->events, 2);
    fake_spin(s->f, 20 * WH_MSEC);
    wh_http_abort(WH_TAKE(s->stream));
    fake_until(s->f, &s->streams, 2);
    CHECK_CONTAINS(s->stream_query, "resourceVersion=6");
    CHECK(strstr(s->stream_query, "sendInitialEvents") == NULL);
    expect_log(s, "Aa/1 Ma/6 ");
    CHECK_INT(s->synced, ==, 1);
    CHECK_INT(s->errors, ==, 1);
    stop(s);
}

TEST(gone_means_listing_again)
{
    script *s = start(false, false);
    fake_until(s->f, &s->streams, 1);
    send_object(s, "ADDED", "a", 1);
    send_object(s, "ADDED", "b", 2);
    send_mark(s, 5, true);
    fake_until(s->f, &s->synced, 1);
    wh_buf_reset(&s->log);
    send_text(
        s,
        "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":410,\"reason\":\"Expired\",\"message\":"
        "\"too old\"}}\n");
    wh_http_exchange *first = s->stream;
    fake_until(s->f, &s->streams, 2);
    CHECK_CONTAINS(s->stream_query, "sendInitialEvents=true");
    send_object(s, "ADDED", "b", 9);
    send_mark(s, 10, true);
    fake_until(s->f, &s->synced, 2);
    expect_log(s, "Mb/9 Da/1 ");
    wh_http_end(first);
    /* And by status: the server is back from a backup, say. */
    s->stale = true;
    wh_http_end(WH_TAKE(s->stream));
    fake_until(s->f, &s->streams, 3);
    CHECK_CONTAINS(s->stream_query, "sendInitialEvents=true");
    stop(s);
}

TEST(nonsense_ends_the_stream_and_not_the_watch)
{
    script *s = start(false, false);
    fake_until(s->f, &s->streams, 1);
    send_mark(s, 5, true);
    send_text(s, "this is no JSON\n");
    wh_http_exchange *first = s->stream;
    fake_until(s->f, &s->streams, 2);
    CHECK_INT(s->errors, ==, 1);
    wh_http_end(first);
    stop(s);
}

TEST_TIMEOUT(an_outage_is_survived, 60)
{
    script *s = start(false, false);
    fake_until(s->f, &s->streams, 1);
    send_object(s, "ADDED", "a", 1);
    send_mark(s, 5, true);
    fake_until(s->f, &s->synced, 1);
    int port = s->f->port;
    wh_http_server_free(s->f->server);
    wh_http_abort(WH_TAKE(s->stream));
    /* Long enough for the back-off to have grown past what we wait at the end. */
    fake_spin(s->f, 5 * WH_SEC);
    CHECK_INT(s->errors, >=, 3);
    CHECK_INT(s->streams, ==, 1);
    fake_listen(s->f, port);
    wh_time back = wh_mono_now();
    fake_until(s->f, &s->streams, 2);
    CHECK_INT(wh_mono_now() - back, <, 2 * WH_SEC);
    CHECK_CONTAINS(s->stream_query, "resourceVersion=5");
    expect_log(s, "Aa/1 ");
    CHECK_INT(wh_watch_count(s->watch), ==, 1);
    stop(s);
}

TEST(silence_ends_a_stream)
{
    silence_max = 200 * WH_MSEC;
    script *s = start(false, false);
    fake_until(s->f, &s->streams, 1);
    wh_http_exchange *first = s->stream;
    for (int i = 0; i < 4; i++) { /* a word now and then is enough */
        send_mark(s, 5 + i, true);
        fake_spin(s->f, 100 * WH_MSEC);
    }
    CHECK_INT(s->streams, ==, 1);
    fake_until(s->f, &s->streams, 2);
    CHECK_INT(s->errors, ==, 1);
    CHECK_CONTAINS(s->stream_query, "resourceVersion=8");
    wh_http_end(first);
    stop(s);
}

TEST(a_fresh_pods_secret_may_be_forbidden_for_a_moment)
{
    script *s = start(false, true);
    fake_until(s->f, &s->errors, 2);
    s->forbidden = false;
    fake_until(s->f, &s->streams, 1);
    stop(s);
}

TEST(a_watch_may_be_freed_by_its_own_event)
{
    script *s = start(false, false);
    fake_until(s->f, &s->streams, 1);
    s->free_in_event = true;
    send_object(s, "ADDED", "a", 1);
    send_object(s, "ADDED", "b", 2);
    send_mark(s, 5, true);
    fake_until(s->f, &s->events, 1);
    fake_spin(s->f, 50 * WH_MSEC);
    CHECK_INT(s->events, ==, 1);
    CHECK_INT(s->synced, ==, 0);
    stop(s);
}
