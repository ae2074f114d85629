/* SPDX-License-Identifier: Apache-2.0 */
/* Calls to a scripted API server: classes, retries, Retry-After, credentials, rate limit, paths. */
#include "fake.h"

#include "base/file.h"

#include <fcntl.h>

typedef struct script {
    int statuses[8]; /* one answer each; 0 ends the list: then 200 */
    int at, done;
    bool retry_after;
    wh_kube_class class_;
    int status, requests;
    wh_err err;
    char reason[64], value[64];
} script;

static void handle(wh_http_exchange *x, const wh_http_request *r, void *user)
{
    (void)r;
    script *s = user;
    int status = s->statuses[s->at];
    if (status == 0) {
        fake_json(x, 200, "{\"value\":\"yes\"}");
        return;
    }
    s->at++;
    if (status == 1) { /* no answer */
        wh_http_abort(x);
        return;
    }
    if (s->retry_after)
        (void)wh_http_header(x, "Retry-After", "0");
    fake_status(x, status, "SomeReason", "some message");
}

static void on_done(const wh_kube_result *result, void *user)
{
    script *s = user;
    s->done++;
    s->class_ = result->class_;
    s->status = result->status;
    s->err = result->err;
    (void)snprintf(s->reason, sizeof(s->reason), "%s", result->reason);
    const char *value = wh_json_str(result->body, "value");
    (void)snprintf(s->value, sizeof(s->value), "%s", value == NULL ? "" : value);
}

static script run(const char *method, script s)
{
    fake *f = fake_start(handle, &s, NULL);
    auto_json json_t *body = json_pack("{s:s}", "a", "b");
    wh_kube_request r = {
        .method = method, .path = "/api/v1/x?y=z", .body = strcmp(method, "GET") == 0 ? NULL : body};
    (void)wh_kube_do(f->kube, &r, on_done, &s);
    CHECK_INT(s.done, ==, 0);
    fake_until(f, &s.done, 1);
    s.requests = f->requests;
    fake_stop(f);
    return s;
}

TEST(an_answer_is_json)
{
    script s = run("GET", (script){0});
    CHECK_INT(s.class_, ==, WH_KUBE_OK);
    CHECK_STR(s.value, "yes");
    CHECK_INT(s.err.code, ==, 0);
}

TEST(refusals_are_classified_and_told)
{
    static const struct {
        int status;
        wh_kube_class class_;
        int code;
    } table[] = {
        {404, WH_KUBE_NOT_FOUND, -ENOENT}, {409, WH_KUBE_CONFLICT, -EEXIST},
        {410, WH_KUBE_GONE, -ESTALE},      {401, WH_KUBE_UNAUTHORIZED, -EACCES},
        {403, WH_KUBE_FORBIDDEN, -EACCES}, {422, WH_KUBE_REFUSED, -EINVAL},
    };
    for (size_t i = 0; i < WH_ARRAY_LEN(table); i++) {
        script s = run("GET", (script){.statuses = {table[i].status}});
        CHECK_INT(s.class_, ==, table[i].class_);
        CHECK_INT(s.err.code, ==, table[i].code);
        CHECK_INT(s.requests, ==, 1);
        CHECK_STR(s.reason, "SomeReason");
        CHECK_CONTAINS(s.err.msg, "GET /api/v1/x: the API server answered");
        CHECK_CONTAINS(s.err.msg, "some message");
    }
}

TEST(reads_are_tried_again)
{
    script s = run("GET", (script){.statuses = {500, 1, 503}});
    CHECK_INT(s.class_, ==, WH_KUBE_OK);
    CHECK_INT(s.requests, ==, 4);
}

TEST(tries_have_an_end)
{
    script s = run("GET", (script){.statuses = {500, 500, 500, 500, 500, 500, 500}, .retry_after = true});
    CHECK_INT(s.class_, ==, WH_KUBE_TRANSIENT);
    CHECK_INT(s.status, ==, 500);
    CHECK_INT(s.requests, ==, 5);
}

TEST(a_create_is_said_twice_only_when_asked_for)
{
    script s = run("POST", (script){.statuses = {500}});
    CHECK_INT(s.class_, ==, WH_KUBE_TRANSIENT);
    CHECK_INT(s.requests, ==, 1);
    s = run("POST", (script){.statuses = {1}});
    CHECK_INT(s.class_, ==, WH_KUBE_TRANSIENT);
    CHECK_INT(s.status, ==, 0);
    CHECK_INT(s.requests, ==, 1);
    s = run("POST", (script){.statuses = {429, 429}});
    CHECK_INT(s.class_, ==, WH_KUBE_OK);
    CHECK_INT(s.requests, ==, 3);
    s = run("POST", (script){.statuses = {503}, .retry_after = true});
    CHECK_INT(s.class_, ==, WH_KUBE_OK);
}

TEST(a_token_file_is_read_again)
{
    char file[] = "/tmp/wherry-token-XXXXXX";
    int fd = mkstemp(file);
    CHECK_INT(fd, >=, 0);
    CHECK_INT(write(fd, "first\n", 6), ==, 6);
    close(fd);
    script s = {0};
    wh_kubeconfig config = {.token_file = file, .token = (char[]){"ignored"}};
    fake *f = fake_start(handle, &s, &config);
    wh_kube_request r = {.path = "/x"};
    (void)wh_kube_do(f->kube, &r, on_done, &s);
    fake_until(f, &s.done, 1);
    CHECK_STR(f->last_token, "first");
    CHECK_OK(wh_write_file(AT_FDCWD, file, "second", 6, 0600, NULL), NULL);
    (void)wh_kube_do(f->kube, &r, on_done, &s);
    fake_until(f, &s.done, 2);
    CHECK_STR(f->last_token, "first");
    /* A refusal makes it look at once, and say it again. */
    s.statuses[0] = 401;
    (void)wh_kube_do(f->kube, &r, on_done, &s);
    fake_until(f, &s.done, 3);
    CHECK_INT(s.class_, ==, WH_KUBE_OK);
    CHECK_STR(f->last_token, "second");
    /* A file that went bad leaves the old token in use. */
    CHECK_OK(wh_write_file(AT_FDCWD, file, "a\nb", 3, 0600, NULL), NULL);
    s.statuses[1] = 401;
    (void)wh_kube_do(f->kube, &r, on_done, &s);
    fake_until(f, &s.done, 4);
    CHECK_STR(f->last_token, "second");
    fake_stop(f);
    (void)unlink(file);
}

TEST(a_cancelled_call_is_silent)
{
    script s = {0};
    fake *f = fake_start(handle, &s, NULL);
    wh_kube_request r = {.path = "/x"};
    wh_kube_cancel(wh_kube_do(f->kube, &r, on_done, &s));
    wh_kube_call *call = wh_kube_do(f->kube, &r, on_done, &s);
    fake_until(f, &f->requests, 1);
    wh_kube_cancel(call);
    fake_spin(f, 50 * WH_MSEC);
    CHECK_INT(s.done, ==, 0);
    (void)wh_kube_do(f->kube, &r, on_done, &s); /* under way at the end */
    fake_stop(f);
}

TEST(requests_are_limited_by_a_bucket)
{
    script s = {0};
    fake *f = fake_start(handle, &s, NULL);
    wh_kube *slow = NULL;
    wh_kube_options o = {.qps = 50, .burst = 5};
    CHECK_OK(wh_kube_new(f->loop, wh_kube_config(f->kube), &o, &slow, NULL), NULL);
    wh_kube_request r = {.path = "/x"};
    wh_time begin = wh_mono_now();
    for (int i = 0; i < 15; i++)
        (void)wh_kube_do(slow, &r, on_done, &s);
    fake_until(f, &s.done, 15);
    /* Ten beyond the burst, 50 a second. */
    CHECK_INT(wh_mono_now() - begin, >=, 190 * WH_MSEC);
    CHECK_INT(wh_mono_now() - begin, <, 2 * WH_SEC);
    wh_kube_free(slow);
    fake_stop(f);
}

TEST(paths_are_escaped)
{
    auto_free char *path = wh_kube_path("/api/v1/namespaces/%s/pods/%s?limit=%d%%", "a/b", "x y?", 5);
    CHECK_STR(path, "/api/v1/namespaces/a%2Fb/pods/x%20y%3F?limit=5%");
}

TEST(back_off_doubles_with_jitter_up_to_its_end)
{
    wh_backoff b;
    wh_backoff_init(&b, 800, 30000, 42);
    wh_time base = 800;
    for (int i = 0; i < 10; i++) {
        wh_time next = wh_backoff_next(&b);
        CHECK_INT(next, >=, base);
        CHECK_INT(next, <=, base + base / 2);
        base = WH_MIN(base * 2, (wh_time)30000);
    }
    wh_backoff_reset(&b);
    CHECK_INT(wh_backoff_next(&b), <=, 1200);
}
