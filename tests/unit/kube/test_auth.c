/* SPDX-License-Identifier: Apache-2.0 */
/* Who may use the kubelet API: certificates and tokens, rights, caches. */
#include "fake.h"

#include "kube/auth.h"

typedef struct cluster {
    fake *f;
    wh_auth *auth;
    int tokens, rights, done, status;
    bool away;
    char user[128], why[400], last_spec[600];
} cluster;

static void handle(wh_http_exchange *x, const wh_http_request *r, void *user)
{
    cluster *c = user;
    auto_json json_t *body = NULL;
    if (c->away) {
        fake_status(x, 500, "InternalError", "away");
        return;
    }
    CHECK_OK(wh_json_parse(r->body, r->body_bytes, &body, NULL), NULL);
    if (strcmp(r->path, "/apis/authentication.k8s.io/v1/tokenreviews") == 0) {
        c->tokens++;
        bool good = wh_streq(wh_json_str(body, "spec.token"), "good");
        fake_json(
            x, 201,
            good ? "{\"status\":{\"authenticated\":true,\"user\":{\"username\":\"system:serviceaccount:a:b\","
                   "\"groups\":[\"g1\",\"g2\"]}}}"
                 : "{\"status\":{\"authenticated\":false}}");
        return;
    }
    CHECK_STR(r->path, "/apis/authorization.k8s.io/v1/subjectaccessreviews");
    c->rights++;
    auto_free char *spec = wh_json_dump(json_object_get(body, "spec"));
    (void)snprintf(c->last_spec, sizeof(c->last_spec), "%s", spec);
    const char *sub = wh_json_str(body, "spec.resourceAttributes.subresource");
    const char *who = wh_json_str(body, "spec.user");
    bool allowed = wh_streq(who, "admin") || (wh_streq(who, "reader") && wh_streq(sub, "proxy")) ||
                   wh_streq(who, "system:serviceaccount:a:b");
    fake_json(x, 201, allowed ? "{\"status\":{\"allowed\":true}}" : "{\"status\":{\"allowed\":false}}");
}

static cluster *start(void)
{
    cluster *c = wh_xnew(cluster);
    c->f = fake_start(handle, c, NULL);
    c->auth = wh_auth_new(c->f->kube, "n1");
    return c;
}

static void stop(cluster *c)
{
    wh_auth_free(c->auth);
    fake_stop(c->f);
    free(c);
}

static void on_done(const wh_auth_answer *answer, void *user)
{
    cluster *c = user;
    c->done++;
    c->status = answer->status;
    (void)snprintf(c->user, sizeof(c->user), "%s", answer->user);
    (void)snprintf(c->why, sizeof(c->why), "%s", answer->why);
}

static int check(cluster *c, const char *user, const char *token, const char *verb, const char *a,
                 const char *b)
{
    char *groups[] = {(char[]){"system:masters"}, (char[]){"system:authenticated"}, NULL};
    wh_auth_caller caller = {.user = user, .groups = user == NULL ? NULL : groups, .token = token};
    const char *subs[] = {a, b, NULL};
    c->done = 0;
    wh_auth_check_caller(c->auth, &caller, verb, subs, on_done, c);
    fake_until(c->f, &c->done, 1);
    return c->status;
}

TEST(rights_are_asked_and_kept)
{
    cluster *c = start();
    CHECK_INT(check(c, "admin", NULL, "get", "proxy", NULL), ==, 200);
    CHECK_CONTAINS(c->last_spec, "\"groups\":[\"system:masters\",\"system:authenticated\"]");
    CHECK_CONTAINS(c->last_spec, "\"verb\":\"get\"");
    CHECK_CONTAINS(c->last_spec, "\"resource\":\"nodes\"");
    CHECK_CONTAINS(c->last_spec, "\"name\":\"n1\"");
    CHECK_STR(c->user, "admin");
    CHECK_INT(check(c, "admin", NULL, "get", "proxy", NULL), ==, 200);
    CHECK_INT(c->rights, ==, 1);
    CHECK_INT(check(c, "admin", NULL, "create", "proxy", NULL), ==, 200);
    CHECK_INT(c->rights, ==, 2);
    CHECK_INT(check(c, "nobody", NULL, "get", "proxy", NULL), ==, 403);
    CHECK_CONTAINS(c->why, "user=nobody, verb=get, resource=nodes");
    CHECK_INT(check(c, "nobody", NULL, "get", "proxy", NULL), ==, 403);
    CHECK_INT(c->rights, ==, 3);
    stop(c);
}

TEST(a_finer_right_is_tried_first)
{
    cluster *c = start();
    CHECK_INT(check(c, "reader", NULL, "get", "pods", "proxy"), ==, 200);
    CHECK_INT(c->rights, ==, 2);
    CHECK_INT(check(c, "reader", NULL, "get", "pods", NULL), ==, 403);
    CHECK_INT(c->rights, ==, 2);
    stop(c);
}

TEST(tokens_are_reviewed_and_kept)
{
    cluster *c = start();
    CHECK_INT(check(c, NULL, "good", "get", "metrics", NULL), ==, 200);
    CHECK_STR(c->user, "system:serviceaccount:a:b");
    CHECK_CONTAINS(c->last_spec, "\"groups\":[\"g1\",\"g2\"]");
    CHECK_INT(check(c, NULL, "good", "get", "metrics", NULL), ==, 200);
    CHECK_INT(c->tokens, ==, 1);
    CHECK_INT(c->rights, ==, 1);
    CHECK_INT(check(c, NULL, "bad", "get", "metrics", NULL), ==, 401);
    CHECK_INT(check(c, NULL, "bad", "get", "metrics", NULL), ==, 401);
    CHECK_INT(c->tokens, ==, 2);
    stop(c);
}

TEST(nobody_is_nobody)
{
    cluster *c = start();
    CHECK_INT(check(c, NULL, NULL, "get", "proxy", NULL), ==, 401);
    CHECK_INT(check(c, "", NULL, "get", "proxy", NULL), ==, 401);
    CHECK_INT(c->f->requests, ==, 0);
    stop(c);
}

TEST(without_the_api_server_the_answer_is_503)
{
    cluster *c = start();
    c->away = true;
    CHECK_INT(check(c, "admin", NULL, "get", "proxy", NULL), ==, 503);
    CHECK_CONTAINS(c->why, "SubjectAccessReview");
    CHECK_INT(check(c, NULL, "good", "get", "proxy", NULL), ==, 503);
    CHECK_CONTAINS(c->why, "TokenReview");
    c->away = false;
    CHECK_INT(check(c, "admin", NULL, "get", "proxy", NULL), ==, 200);
    stop(c);
}

TEST(names_that_look_alike_are_not_mixed_up)
{
    cluster *c = start();
    CHECK_INT(check(c, "admin", NULL, "get", "proxy", NULL), ==, 200);
    CHECK_INT(check(c, "admin 5 admin", NULL, "get", "proxy", NULL), ==, 403);
    CHECK_INT(check(c, "\xff", NULL, "get", "proxy", NULL), ==, 403); /* no UTF-8, no JSON */
    stop(c);
}

TEST(pending_checks_end_with_their_owner)
{
    cluster *c = start();
    char *groups[] = {NULL};
    wh_auth_caller caller = {.user = "admin", .groups = groups};
    const char *subs[] = {"proxy", NULL};
    wh_auth_check_caller(c->auth, &caller, "get", subs, on_done, c);
    stop(c);
}

static void attributes(const char *method, const char *path, const char *verb, const char *first,
                       const char *second)
{
    const char *got_verb = NULL;
    const char *subs[4];
    wh_auth_attributes(method, path, &got_verb, subs);
    CHECK_STR(got_verb, verb);
    CHECK_STR(subs[0], first);
    if (second == NULL)
        CHECK(subs[1] == NULL);
    else
        CHECK_STR(subs[1], second);
}

TEST(paths_have_the_kubelets_attributes)
{
    attributes("GET", "/containerLogs/ns/pod/c", "get", "proxy", NULL);
    attributes("GET", "/exec/ns/pod/c", "create", "proxy", NULL);
    attributes("POST", "/attach/ns/pod/c", "create", "proxy", NULL);
    attributes("GET", "/portForward/ns/pod", "create", "proxy", NULL);
    attributes("GET", "/metrics/cadvisor", "get", "metrics", NULL);
    attributes("GET", "/metricsx", "get", "proxy", NULL);
    attributes("GET", "/stats/summary", "get", "stats", NULL);
    attributes("GET", "/pods", "get", "pods", "proxy");
    attributes("GET", "/runningpods/", "get", "pods", "proxy");
    attributes("GET", "/healthz/ping", "get", "healthz", "proxy");
    attributes("GET", "/configz", "get", "configz", "proxy");
    attributes("GET", "/logs/x", "get", "log", NULL);
    attributes("BREW", "/anything", "unknown", "proxy", NULL);
}
