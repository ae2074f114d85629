/* SPDX-License-Identifier: Apache-2.0 */
/* The event recorder, and beside it the heartbeat: both write small objects and must survive a server that is away. */
#include "fake.h"

#include "kube/events.h"
#include "kube/lease.h"

typedef struct cluster {
    fake *f;
    int posts, patches, puts, gets, refuse_next;
    json_t *last, *lease;
    bool away, forget;
    int renewed, errors;
} cluster;

static void take_lease(cluster *c, wh_http_exchange *x, const wh_http_request *r, const json_t *body)
{
    if (strcmp(r->method, "GET") == 0) {
        c->gets++;
        if (c->lease == NULL) {
            fake_status(x, 404, "NotFound", "no lease");
            return;
        }
    } else {
        c->puts++;
        if (strcmp(r->method, "PUT") == 0 && !wh_streq(wh_json_str(body, "metadata.resourceVersion"),
                                                       wh_json_str(c->lease, "metadata.resourceVersion"))) {
            fake_status(x, 409, "Conflict", "somebody else wrote");
            return;
        }
        json_decref(c->lease);
        c->lease = json_deep_copy(body);
        char version[16];
        (void)snprintf(version, sizeof(version), "%d", c->puts);
        (void)json_object_set_new(json_object_get(c->lease, "metadata"), "resourceVersion",
                                  json_string(version));
    }
    auto_free char *text = wh_json_dump(c->lease);
    fake_json(x, 200, text);
}

static void handle(wh_http_exchange *x, const wh_http_request *r, void *user)
{
    cluster *c = user;
    auto_json json_t *body = NULL;
    if (strcmp(r->path, "/readyz") == 0 || c->away) {
        wh_http_replyf(x, c->away ? 500 : 200, "x");
        return;
    }
    (void)wh_json_parse(r->body, r->body_bytes, &body, NULL);
    if (strstr(r->path, "/leases") != NULL) {
        take_lease(c, x, r, body);
        return;
    }
    json_decref(c->last);
    c->last = json_incref(body);
    if (strcmp(r->method, "POST") == 0) {
        c->posts++;
        if (c->refuse_next > 0) {
            c->refuse_next--;
            fake_status(x, 403, "Forbidden", "namespace is being terminated");
            return;
        }
        fake_json(x, 201, r->body);
        return;
    }
    c->patches++;
    if (c->forget) {
        c->forget = false;
        fake_status(x, 404, "NotFound", "expired");
        return;
    }
    fake_json(x, 200, "{}");
}

static cluster *start(void)
{
    cluster *c = wh_xnew(cluster);
    c->f = fake_start(handle, c, NULL);
    return c;
}

static void stop(cluster *c)
{
    fake_stop(c->f);
    json_decref(c->last);
    json_decref(c->lease);
    free(c);
}

TEST(an_event_has_what_describe_shows)
{
    cluster *c = start();
    wh_events *ev = wh_events_new(c->f->loop, c->f->kube, "kubelet", "n1");
    wh_event_pod(ev, "ns", "p", "uid-1", "app", WH_EVENT_WARNING, "Failed", "no import '%s'", "env.x");
    fake_until(c->f, &c->posts, 1);
    CHECK_STR(wh_json_str(c->last, "involvedObject.kind"), "Pod");
    CHECK_STR(wh_json_str(c->last, "involvedObject.apiVersion"), "v1");
    CHECK_STR(wh_json_str(c->last, "involvedObject.namespace"), "ns");
    CHECK_STR(wh_json_str(c->last, "involvedObject.name"), "p");
    CHECK_STR(wh_json_str(c->last, "involvedObject.uid"), "uid-1");
    CHECK_STR(wh_json_str(c->last, "involvedObject.fieldPath"), "spec.containers{app}");
    CHECK_STR(wh_json_str(c->last, "metadata.namespace"), "ns");
    CHECK(wh_starts_with(wh_json_str(c->last, "metadata.name"), "p."));
    CHECK_STR(wh_json_str(c->last, "reason"), "Failed");
    CHECK_STR(wh_json_str(c->last, "message"), "no import 'env.x'");
    CHECK_STR(wh_json_str(c->last, "type"), "Warning");
    CHECK_STR(wh_json_str(c->last, "source.component"), "kubelet");
    CHECK_STR(wh_json_str(c->last, "source.host"), "n1");
    CHECK_INT(wh_json_int(c->last, "count", 0), ==, 1);
    CHECK(wh_json_str(c->last, "firstTimestamp") != NULL);
    wh_event_object node = {.api_version = "v1", .kind = "Node", .name = "n1", .uid = "n1"};
    wh_event(ev, &node, WH_EVENT_NORMAL, "Starting", "Starting kubelet.");
    fake_until(c->f, &c->posts, 2);
    CHECK_STR(wh_json_str(c->last, "metadata.namespace"), "default");
    CHECK(wh_json_at(c->last, "involvedObject.namespace") == NULL);
    wh_events_free(ev);
    stop(c);
}

TEST(repeats_are_counted)
{
    cluster *c = start();
    wh_events *ev = wh_events_new(c->f->loop, c->f->kube, "kubelet", "n1");
    for (int i = 0; i < 3; i++) {
        wh_event_pod(ev, "ns", "p", "u", NULL, WH_EVENT_NORMAL, "BackOff", "again");
        fake_spin(c->f, 30 * WH_MSEC);
    }
    fake_until(c->f, &c->patches, 2);
    CHECK_INT(c->posts, ==, 1);
    CHECK_INT(wh_json_int(c->last, "count", 0), ==, 3);
    /* The server forgets events after an hour. */
    c->forget = true;
    wh_event_pod(ev, "ns", "p", "u", NULL, WH_EVENT_NORMAL, "BackOff", "again");
    fake_until(c->f, &c->posts, 2);
    CHECK_INT(wh_json_int(c->last, "count", 0), ==, 4);
    wh_events_free(ev);
    stop(c);
}

TEST(floods_become_one_event_and_then_stop)
{
    cluster *c = start();
    wh_events *ev = wh_events_new(c->f->loop, c->f->kube, "kubelet", "n1");
    for (int i = 0; i < 40; i++) {
        wh_event_pod(ev, "ns", "p", "u", NULL, WH_EVENT_NORMAL, "Noise", "number %d", i);
        fake_spin(c->f, 2 * WH_MSEC);
    }
    fake_spin(c->f, 100 * WH_MSEC);
    CHECK_INT(c->posts, ==, 11); /* ten of their own, one for all that came after */
    CHECK_CONTAINS(wh_json_str(c->last, "message"), "(combined from similar events): number 24");
    CHECK_INT(wh_events_dropped(ev), ==, 15);
    wh_event_pod(ev, "ns", "other", "v", NULL, WH_EVENT_NORMAL, "Noise", "not a flood");
    fake_until(c->f, &c->posts, 12);
    wh_events_free(ev);
    stop(c);
}

TEST(refused_events_are_dropped_and_the_queue_has_an_end)
{
    cluster *c = start();
    wh_events *ev = wh_events_new(c->f->loop, NULL, "kubelet", "n1");
    for (int i = 0; i < WH_KUBE_EVENTS_WAITING_MAX + 5; i++) {
        char uid[16];
        (void)snprintf(uid, sizeof(uid), "%d", i);
        wh_event_pod(ev, "ns", "p", uid, NULL, WH_EVENT_NORMAL, "Started", "x");
    }
    CHECK_INT(wh_events_waiting(ev), ==, WH_KUBE_EVENTS_WAITING_MAX);
    CHECK_INT(wh_events_dropped(ev), ==, 5);
    c->refuse_next = 3;
    wh_events_use(ev, c->f->kube);
    fake_until(c->f, &c->posts, 10);
    CHECK_INT(wh_events_dropped(ev), ==, 8);
    wh_events_free(ev); /* with calls under way */
    stop(c);
}

TEST(messages_are_cut_at_whole_characters)
{
    cluster *c = start();
    wh_events *ev = wh_events_new(c->f->loop, c->f->kube, "kubelet", "n1");
    char text[2000];
    for (size_t i = 0; i < sizeof(text) - 1; i++)
        text[i] = i % 2 == 0 ? '\xc3' : '\xa4';
    text[sizeof(text) - 1] = '\0';
    wh_event_pod(ev, "ns", "p", "u", NULL, WH_EVENT_NORMAL, "Long", "x%s", text);
    fake_until(c->f, &c->posts, 1);
    CHECK_INT(strlen(wh_json_str(c->last, "message")), ==, 1023);
    wh_events_free(ev);
    stop(c);
}

static void on_renewed(void *user)
{
    ((cluster *)user)->renewed++;
}

static void on_lease_error(const wh_err *err, void *user)
{
    CHECK(err->msg[0] != '\0');
    ((cluster *)user)->errors++;
}

TEST(the_lease_is_made_and_renewed)
{
    cluster *c = start();
    wh_lease_options o = {.node_name = "n1",
                          .node_uid = "uid-n1",
                          .interval = 40 * WH_MSEC,
                          .on_renewed = on_renewed,
                          .on_error = on_lease_error,
                          .user = c};
    wh_lease *lease = wh_lease_start(c->f->kube, &o);
    fake_until(c->f, &c->renewed, 3);
    CHECK_INT(c->gets, ==, 1);
    CHECK_STR(wh_json_str(c->lease, "spec.holderIdentity"), "n1");
    CHECK_INT(wh_json_int(c->lease, "spec.leaseDurationSeconds", 0), ==, 40);
    CHECK_INT(strlen(wh_json_str(c->lease, "spec.renewTime")), ==, strlen("2026-01-02T03:04:05.123456Z"));
    const json_t *owner = json_array_get(wh_json_at(c->lease, "metadata.ownerReferences"), 0);
    CHECK_STR(wh_json_str(owner, "uid"), "uid-n1");
    CHECK_INT(wh_lease_renewed_at(lease), >, 0);
    /* Somebody else wrote it: read, and go on. */
    (void)json_object_set_new(json_object_get(c->lease, "metadata"), "resourceVersion", json_string("other"));
    int before = c->renewed;
    fake_until(c->f, &c->renewed, before + 2);
    CHECK_INT(c->gets, ==, 2);
    CHECK_INT(c->errors, ==, 0);
    c->away = true;
    fake_until(c->f, &c->errors, 1);
    c->away = false;
    before = c->renewed;
    fake_until(c->f, &c->renewed, before + 1);
    wh_lease_free(lease);
    stop(c);
}
