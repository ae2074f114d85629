/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets and config maps by name: one watch each, shared, and only while somebody holds it. */
#include "fake.h"

#include "kube/objects.h"

typedef struct cluster {
    fake *f;
    wh_http_exchange *stream;
    int streams, changes, gone;
    bool forbidden;
    char query[512], path[256];
    wh_object_sub *unsubscribe_in_change;
} cluster;

static void on_gone(wh_http_exchange *x, void *user)
{
    cluster *c = user;
    c->gone++;
    wh_http_end(x);
    if (c->stream == x)
        c->stream = NULL;
}

static void handle(wh_http_exchange *x, const wh_http_request *r, void *user)
{
    static const wh_http_stream_callbacks callbacks = {.on_gone = on_gone};
    cluster *c = user;
    if (c->forbidden) {
        fake_status(x, 403, "Forbidden", "no relationship found between node and this object");
        return;
    }
    (void)snprintf(c->query, sizeof(c->query), "%s", r->query);
    (void)snprintf(c->path, sizeof(c->path), "%s", r->path);
    wh_http_watch(x, &callbacks, c);
    wh_http_begin(x, 200, "application/json");
    c->stream = x;
    c->streams++;
}

static void say(cluster *c, const char *type, int version)
{
    auto_free char *text =
        wh_xasprintf("{\"type\":\"%s\",\"object\":{\"metadata\":{\"name\":\"s\",\"namespace\":\"ns\","
                     "\"uid\":\"u\",\"resourceVersion\":\"%d\"},\"data\":{\"v\":\"%d\"}}}\n",
                     type, version, version);
    CHECK_INT(wh_http_write(c->stream, text, strlen(text)), ==, 0);
}

static void say_end(cluster *c)
{
    static const char text[] =
        "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"9\",\"annotations\":{"
        "\"k8s.io/initial-events-end\":\"true\"}}}}\n";
    CHECK_INT(wh_http_write(c->stream, text, sizeof(text) - 1), ==, 0);
}

static void changed(wh_object_sub *sub, void *user)
{
    cluster *c = user;
    c->changes++;
    if (c->unsubscribe_in_change == sub)
        wh_object_unsubscribe(sub);
}

static cluster *start(void)
{
    cluster *c = wh_xnew(cluster);
    c->f = fake_start(handle, c, NULL);
    return c;
}

static void stop(cluster *c)
{
    fake_spin(c->f, 50 * WH_MSEC);
    fake_stop(c->f);
    free(c);
}

TEST(one_watch_for_all_who_ask)
{
    cluster *c = start();
    wh_objects *objects = wh_objects_new(c->f->kube);
    wh_object_sub *a = wh_object_subscribe(objects, WH_OBJECT_SECRET, "ns", "s", changed, c);
    wh_object_sub *b = wh_object_subscribe(objects, WH_OBJECT_SECRET, "ns", "s", changed, c);
    CHECK_INT(wh_object_state_of(a), ==, WH_OBJECT_UNKNOWN);
    fake_until(c->f, &c->streams, 1);
    CHECK_STR(c->path, "/api/v1/namespaces/ns/secrets");
    CHECK_CONTAINS(c->query, "fieldSelector=metadata.name%3Ds");
    say(c, "ADDED", 1);
    fake_until(c->f, &c->changes, 2);
    CHECK_INT(wh_object_state_of(a), ==, WH_OBJECT_PRESENT);
    CHECK_STR(wh_json_str(wh_object_get(b), "data.v"), "1");
    say_end(c);
    say(c, "MODIFIED", 10);
    fake_until(c->f, &c->changes, 4);
    CHECK_STR(wh_json_str(wh_object_get(b), "data.v"), "10");
    wh_object_unsubscribe(a);
    /* Known already: told all the same, but later. */
    a = wh_object_subscribe(objects, WH_OBJECT_SECRET, "ns", "s", changed, c);
    CHECK_INT(c->changes, ==, 4);
    fake_until(c->f, &c->changes, 5);
    CHECK_INT(c->streams, ==, 1);
    say(c, "DELETED", 11);
    fake_until(c->f, &c->changes, 7);
    CHECK_INT(wh_object_state_of(a), ==, WH_OBJECT_ABSENT);
    CHECK(wh_object_get(a) == NULL);
    wh_object_unsubscribe(a);
    wh_object_unsubscribe(b);
    fake_until(c->f, &c->gone, 1);
    wh_objects_free(objects);
    stop(c);
}

TEST(absent_objects_are_known_to_be_absent)
{
    cluster *c = start();
    wh_objects *objects = wh_objects_new(c->f->kube);
    wh_object_sub *a = wh_object_subscribe(objects, WH_OBJECT_CONFIGMAP, "ns", "s", changed, c);
    fake_until(c->f, &c->streams, 1);
    CHECK_STR(c->path, "/api/v1/namespaces/ns/configmaps");
    say_end(c);
    fake_until(c->f, &c->changes, 1);
    CHECK_INT(wh_object_state_of(a), ==, WH_OBJECT_ABSENT);
    CHECK_STR(wh_object_why(a), "not found");
    c->unsubscribe_in_change = a;
    say(c, "ADDED", 10);
    fake_until(c->f, &c->changes, 2);
    wh_objects_free(objects);
    stop(c);
}

TEST(forbidden_is_not_the_last_word)
{
    cluster *c = start();
    c->forbidden = true;
    wh_objects *objects = wh_objects_new(c->f->kube);
    wh_object_sub *a = wh_object_subscribe(objects, WH_OBJECT_SECRET, "ns", "s", changed, c);
    fake_until(c->f, &c->f->requests, 2);
    CHECK_INT(wh_object_state_of(a), ==, WH_OBJECT_UNKNOWN);
    CHECK_CONTAINS(wh_object_why(a), "no relationship found");
    c->forbidden = false;
    fake_until(c->f, &c->streams, 1);
    say(c, "ADDED", 1);
    fake_until(c->f, &c->changes, 1);
    CHECK_INT(wh_object_state_of(a), ==, WH_OBJECT_PRESENT);
    wh_object_unsubscribe(a);
    wh_objects_free(objects);
    stop(c);
}
