/* SPDX-License-Identifier: Apache-2.0 */
/* The deciding part of a watch: recorded lines and pages, and a seeded simulation against a model. */
#include "kube/reflector.h"

#include "harness.h"

#include <stdio.h>

typedef struct seen {
    wh_buf log;
    int synced;
} seen;

static void on_event(wh_watch_kind kind, json_t *object, void *user)
{
    seen *s = user;
    (void)wh_buf_printf(&s->log, "%c%s/%s ", "AMD"[kind], wh_json_str(object, "metadata.name"),
                        wh_json_str(object, "metadata.resourceVersion"));
}

static void on_synced(void *user)
{
    ((seen *)user)->synced++;
}

static void init(wh_reflector *r, seen *s)
{
    *s = (seen){0};
    wh_buf_init(&s->log, 1UL << 20);
    wh_reflect_init(r);
    r->on_event = on_event;
    r->on_synced = on_synced;
    r->user = s;
}

static void done(wh_reflector *r, seen *s)
{
    wh_reflect_done(r);
    wh_buf_done(&s->log);
}

static void expect_log(seen *s, const char *expected)
{
    CHECK_STR(wh_buf_str(&s->log), expected);
    wh_buf_reset(&s->log);
}

static void expect_query(wh_reflector *r, const char *expected)
{
    auto_free char *query = wh_reflect_query(r, "spec.nodeName=n", NULL, 300);
    CHECK_STR(query, expected);
}

static int line(wh_reflector *r, const char *type, const char *name, const char *uid, int version)
{
    auto_free char *text =
        wh_xasprintf("{\"type\":\"%s\",\"object\":{\"kind\":\"Pod\",\"metadata\":{\"name\":\"%s\","
                     "\"namespace\":\"d\",\"uid\":\"%s\",\"resourceVersion\":\"%d\"}}}",
                     type, name, uid, version);
    return wh_reflect_line(r, text, strlen(text), NULL);
}

static int mark(wh_reflector *r, int version, bool end)
{
    auto_free char *text = wh_xasprintf(
        "{\"type\":\"BOOKMARK\",\"object\":{\"kind\":\"Pod\",\"metadata\":{\"resourceVersion\":\"%d\"%s}}}",
        version, end ? ",\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}" : "");
    return wh_reflect_line(r, text, strlen(text), NULL);
}

static int error_line(wh_reflector *r, int code, const char *reason)
{
    auto_free char *text = wh_xasprintf(
        "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":%d,\"reason\":\"%s\"}}", code, reason);
    return wh_reflect_line(r, text, strlen(text), NULL);
}

static int page(wh_reflector *r, const char *text)
{
    auto_json json_t *list = NULL;
    CHECK_OK(wh_json_parse(text, strlen(text), &list, NULL), NULL);
    return wh_reflect_page(r, list, NULL);
}

#define STREAM_QUERY                                                                                       \
    "fieldSelector=spec.nodeName%3Dn&watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&" \
    "allowWatchBookmarks=true&timeoutSeconds=300"

TEST(a_streaming_list_goes_on_as_a_watch)
{
    wh_reflector r;
    seen s;
    init(&r, &s);
    expect_query(&r, STREAM_QUERY);
    CHECK_INT(line(&r, "ADDED", "a", "1", 5), ==, 0);
    CHECK_INT(line(&r, "ADDED", "b", "2", 6), ==, 0);
    CHECK_INT(s.synced, ==, 0);
    CHECK_INT(mark(&r, 9, true), ==, 0);
    CHECK_INT(s.synced, ==, 1);
    expect_log(&s, "Aa/5 Ab/6 ");
    CHECK_INT(line(&r, "MODIFIED", "a", "1", 10), ==, 0);
    CHECK_INT(line(&r, "DELETED", "b", "2", 11), ==, 0);
    expect_log(&s, "Ma/10 Db/11 ");
    CHECK_INT(mark(&r, 20, false), ==, 0);
    CHECK(wh_reflect_find(&r, "d/a") != NULL);
    CHECK(wh_reflect_find(&r, "d/b") == NULL);
    CHECK_INT(wh_reflect_end(&r, 200, 0), ==, WH_REFLECT_NOW);
    expect_query(&r, "fieldSelector=spec.nodeName%3Dn&watch=true&allowWatchBookmarks=true&resourceVersion=20&"
                     "timeoutSeconds=300");
    /* Nothing came at all: not in a loop. */
    CHECK_INT(wh_reflect_end(&r, 200, 0), ==, WH_REFLECT_LATER);
    done(&r, &s);
}

TEST(a_stale_version_means_a_new_list_and_tells_the_difference)
{
    wh_reflector r;
    seen s;
    init(&r, &s);
    expect_query(&r, STREAM_QUERY);
    (void)line(&r, "ADDED", "a", "1", 1);
    (void)line(&r, "ADDED", "b", "2", 2);
    (void)line(&r, "ADDED", "c", "3", 3);
    (void)line(&r, "ADDED", "e", "5", 3);
    (void)mark(&r, 4, true);
    wh_buf_reset(&s.log);
    CHECK_INT(error_line(&r, 410, "Expired"), ==, -ESTALE);
    CHECK_INT(wh_reflect_end(&r, 200, -ESTALE), ==, WH_REFLECT_NOW);
    expect_query(&r, STREAM_QUERY);
    (void)line(&r, "ADDED", "a", "1", 1);  /* the same */
    (void)line(&r, "ADDED", "b", "2", 7);  /* changed */
    (void)line(&r, "ADDED", "c", "33", 8); /* another of the same name */
    expect_log(&s, "Mb/7 Dc/3 Ac/8 ");
    (void)mark(&r, 9, true);
    expect_log(&s, "De/3 ");
    CHECK_INT(s.synced, ==, 2);
    /* 410 while listing is not answered in a loop. */
    CHECK_INT(wh_reflect_end(&r, 410, 0), ==, WH_REFLECT_NOW);
    CHECK_INT(wh_reflect_end(&r, 410, 0), ==, WH_REFLECT_LATER);
    done(&r, &s);
}

TEST(an_interrupted_list_forgets_nothing)
{
    wh_reflector r;
    seen s;
    init(&r, &s);
    expect_query(&r, STREAM_QUERY);
    (void)line(&r, "ADDED", "a", "1", 1);
    (void)line(&r, "ADDED", "b", "1", 1);
    CHECK_INT(wh_reflect_end(&r, 200, -ECONNRESET), ==, WH_REFLECT_LATER);
    expect_query(&r, STREAM_QUERY);
    (void)line(&r, "ADDED", "b", "1", 1);
    expect_log(&s, "Aa/1 Ab/1 ");
    (void)mark(&r, 2, true);
    expect_log(&s, "Da/1 ");
    done(&r, &s);
}

TEST(older_servers_get_list_and_watch)
{
    wh_reflector r;
    seen s;
    init(&r, &s);
    expect_query(&r, STREAM_QUERY);
    CHECK_INT(wh_reflect_end(&r, 422, 0), ==, WH_REFLECT_NOW);
    expect_query(&r, "fieldSelector=spec.nodeName%3Dn&limit=500&resourceVersion=0");
    CHECK_INT(
        page(&r,
             "{\"kind\":\"PodList\",\"apiVersion\":\"v1\",\"metadata\":{\"continue\":\"x y\"},\"items\":[{"
             "\"metadata\":{\"name\":\"a\",\"uid\":\"1\",\"resourceVersion\":\"3\"}}]}"),
        ==, 0);
    CHECK_INT(s.synced, ==, 0);
    CHECK_INT(wh_reflect_end(&r, 200, 0), ==, WH_REFLECT_NOW);
    expect_query(&r, "fieldSelector=spec.nodeName%3Dn&limit=500&continue=x%20y");
    CHECK_INT(page(&r, "{\"kind\":\"PodList\",\"metadata\":{\"resourceVersion\":\"12\"},\"items\":[]}"), ==,
              0);
    CHECK_INT(s.synced, ==, 1);
    expect_log(&s, "Aa/3 ");
    CHECK_STR(wh_json_str(wh_reflect_find(&r, "a"), "kind"), "Pod");
    CHECK_STR(wh_json_str(wh_reflect_find(&r, "a"), "apiVersion"), "v1");
    CHECK_INT(wh_reflect_end(&r, 200, 0), ==, WH_REFLECT_NOW);
    expect_query(&r, "fieldSelector=spec.nodeName%3Dn&watch=true&allowWatchBookmarks=true&resourceVersion=12&"
                     "timeoutSeconds=300");
    /* After 410 the cache's list will not do. */
    CHECK_INT(wh_reflect_end(&r, 410, 0), ==, WH_REFLECT_NOW);
    expect_query(&r, "fieldSelector=spec.nodeName%3Dn&limit=500");
    done(&r, &s);
}

TEST(what_is_no_event_is_refused)
{
    wh_reflector r;
    seen s;
    static const char *const bad[] = {"",
                                      "x",
                                      "[]",
                                      "{}",
                                      "{\"type\":\"ADDED\"}",
                                      "{\"type\":1,\"object\":{}}",
                                      "{\"type\":\"ADDED\",\"object\":{}}",
                                      "{\"type\":\"DELETED\",\"object\":{\"metadata\":{}}}",
                                      "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"\"}}}",
                                      "{\"type\":\"NEW\",\"object\":{\"metadata\":{\"name\":\"a\"}}}"};
    init(&r, &s);
    for (size_t i = 0; i < WH_ARRAY_LEN(bad); i++)
        CHECK_INT(wh_reflect_line(&r, bad[i], strlen(bad[i]), NULL), ==, -EBADMSG);
    CHECK_INT(error_line(&r, 500, "InternalError"), ==, -EAGAIN);
    CHECK_FAIL(page(&r, "{}"), -EBADMSG);
    CHECK_FAIL(page(&r, "{\"items\":[1]}"), -EBADMSG);
    expect_log(&s, "");
    done(&r, &s);
}

/* ---- the simulation: a model of the cluster, a flaky link, and what a watcher should know in the end ---- */

#define SIM_OBJECTS 8

typedef struct sim {
    wh_rng rng;
    int version, first_version; /* of now; the oldest that a watch may resume from */
    struct {
        int version, uid;
        bool alive;
    } objects[SIM_OBJECTS];
    struct {
        int object, version, uid;
        char kind;
    } history[4096];
    int known[SIM_OBJECTS]; /* what the events told: version, 0: absent */
    int known_uid[SIM_OBJECTS];
} sim;

static int to_int(const char *s)
{
    return (int)strtol(s, NULL, 10);
}

static void sim_event(wh_watch_kind kind, json_t *object, void *user)
{
    sim *s = user;
    int i = wh_json_str(object, "metadata.name")[0] - 'a';
    int uid = to_int(wh_json_str(object, "metadata.uid"));
    int version = to_int(wh_json_str(object, "metadata.resourceVersion"));
    if (kind == WH_WATCH_ADDED)
        CHECK_INT(s->known[i], ==, 0);
    else
        CHECK_INT(s->known[i], !=, 0);
    if (kind == WH_WATCH_MODIFIED)
        CHECK_INT(s->known_uid[i], ==, uid);
    s->known[i] = kind == WH_WATCH_DELETED ? 0 : version;
    s->known_uid[i] = uid;
}

static void sim_change(sim *s)
{
    int i = (int)wh_rng_below(&s->rng, SIM_OBJECTS);
    bool was = s->objects[i].alive;
    bool end = was && wh_rng_below(&s->rng, 3) == 0;
    s->version++;
    if (!was)
        s->objects[i].uid = s->version;
    s->objects[i].version = s->version;
    s->objects[i].alive = !end;
    s->history[s->version].object = i;
    s->history[s->version].version = s->version;
    s->history[s->version].uid = s->objects[i].uid;
    s->history[s->version].kind = end ? 'D' : was ? 'M' : 'A';
}

static int sim_send(wh_reflector *r, char kind, int object, int uid, int version)
{
    char name[2] = {(char)('a' + object), '\0'};
    char uid_text[16];
    (void)snprintf(uid_text, sizeof(uid_text), "%d", uid);
    return line(r, kind == 'A' ? "ADDED" : kind == 'M' ? "MODIFIED" : "DELETED", name, uid_text, version);
}

/* One request; it may be cut anywhere. Returns what wh_reflect_end gets. */
static int sim_request(sim *s, wh_reflector *r, bool calm)
{
    auto_free char *query = wh_reflect_query(r, NULL, NULL, 300);
    size_t budget = calm ? SIZE_MAX : wh_rng_below(&s->rng, 12);
    int from = s->version;
    if (r->phase == WH_REFLECT_STREAM) {
        for (int i = 0; i < SIM_OBJECTS; i++) {
            if (!s->objects[i].alive)
                continue;
            if (budget-- == 0)
                return -ECONNRESET;
            CHECK_INT(sim_send(r, 'A', i, s->objects[i].uid, s->objects[i].version), ==, 0);
        }
        if (budget-- == 0)
            return -ECONNRESET;
        CHECK_INT(mark(r, s->version, true), ==, 0);
    } else {
        const char *p = strstr(query, "resourceVersion=");
        CHECK(p != NULL);
        from = to_int(p + strlen("resourceVersion="));
        if (from < s->first_version)
            return error_line(r, 410, "Gone");
    }
    for (int v = from + 1; v <= s->version; v++) {
        if (budget-- == 0)
            return -ECONNRESET;
        CHECK_INT(sim_send(r, s->history[v].kind, s->history[v].object, s->history[v].uid, v), ==, 0);
    }
    return 0;
}

static void simulate(uint64_t seed)
{
    sim s = {.rng = {seed}};
    wh_reflector r;
    wh_reflect_init(&r);
    r.on_event = sim_event;
    r.user = &s;
    for (int round = 0; round < 100; round++) {
        for (uint64_t n = wh_rng_below(&s.rng, 10); n > 0; n--)
            sim_change(&s);
        if (wh_rng_below(&s.rng, 8) == 0)
            s.first_version = s.version; /* compaction */
        int code = sim_request(&s, &r, false);
        (void)wh_reflect_end(&r, 200, code);
    }
    for (int i = 0; i < 3; i++) {
        int code = sim_request(&s, &r, true);
        (void)wh_reflect_end(&r, 200, code);
    }
    for (int i = 0; i < SIM_OBJECTS; i++) {
        if (s.known[i] != (s.objects[i].alive ? s.objects[i].version : 0))
            wh_test_fail(__FILE__, __LINE__, "seed %llu: object %d is %d, known %d", (unsigned long long)seed,
                         i, s.objects[i].alive ? s.objects[i].version : 0, s.known[i]);
    }
    wh_reflect_done(&r);
}

TEST_TIMEOUT(a_flaky_link_changes_nothing_in_the_end, 60)
{
    for (uint64_t seed = 1; seed <= 200; seed++)
        simulate(seed);
}
