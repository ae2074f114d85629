/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/client.h"
#include "base/file.h"
#include "cmd/cmd.h"
#include "http/fetch.h"

#include <signal.h>
#include <stdio.h>

typedef struct call {
    wh_loop *loop;
    json_t *body;
    int status, rc;
    wh_err err;
    bool stream;
    wh_buf refusal; /* of a stream: an error's text */
} call;

static char *socket_path(void)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");

    if (wh_cmd_dirs_given.run != NULL)
        return wh_path_join(wh_cmd_dirs_given.run, "wherry.sock");
    if (geteuid() == 0)
        return wh_xstrdup("/run/wherry/wherry.sock");
    if (runtime != NULL && runtime[0] == '/')
        return wh_path_join(runtime, "wherry/wherry.sock");
    const char *home = getenv("HOME");
    return wh_xasprintf("%s/.local/run/wherry/wherry.sock", home != NULL ? home : "/tmp");
}

static void take_answer(call *c, const wh_fetch_result *result)
{
    json_t *body = NULL;

    c->status = result->status;
    c->rc = result->err.code;
    c->err = result->err;
    if (c->rc < 0 || c->stream)
        return;
    c->rc = wh_json_parse(result->body, result->body_bytes, &body, &c->err);
    if (c->rc == 0 && c->status >= 400) {
        const char *said = wh_json_str(body, "error");
        c->rc = wh_fail(&c->err, c->status == 404 ? -ENOENT : -EINVAL, "%s.",
                        said != NULL ? said : "the agent refused");
    }
    if (c->rc == 0)
        c->body = json_incref(body);
    json_decref(body);
}

static void done(wh_fetch *fetch, const wh_fetch_result *result, void *user)
{
    call *c = user;

    (void)fetch;
    take_answer(c, result);
    wh_loop_stop(c->loop, 0);
}

static void head(wh_fetch *fetch, int status, void *user)
{
    (void)fetch;
    ((call *)user)->status = status;
}

static void data(wh_fetch *fetch, const void *p, size_t n, void *user)
{
    call *c = user;

    (void)fetch;
    if (c->status >= 400)
        wh_buf_append(&c->refusal, p, n);
    else if (wh_write_all(STDOUT_FILENO, p, n) < 0)
        wh_loop_stop(c->loop, 0); /* nobody reads any more */
}

static void interrupted(const struct signalfd_siginfo *info, void *user)
{
    (void)info;
    wh_loop_stop(user, 0);
}

static int run(call *c, const char *method, const char *path, wh_err *err)
{
    auto_free char *socket = socket_path();
    auto_free char *url = wh_xasprintf("http://wherry%s", path);
    wh_fetcher *fetcher = NULL;
    wh_fetch *fetch = NULL;
    wh_fetch_callbacks callbacks = {
        .on_done = done, .on_head = c->stream ? head : NULL, .on_data = c->stream ? data : NULL};
    wh_fetch_request request = {.method = method,
                                .url = url,
                                .unix_socket = socket,
                                .timeout = c->stream ? WH_TIME_NEVER : 30 * WH_SEC,
                                .body_bytes_max = 256UL << 20};
    int rc;

    if (access(socket, F_OK) < 0)
        return wh_fail(
            err, -ENOENT,
            "no agent answers at '%s'; start one with 'wherry node', or name its folder with --run-dir.",
            socket);
    rc = wh_loop_new(&c->loop, err);
    rc = rc < 0 ? rc : wh_fetcher_new(c->loop, &fetcher, err);
    if (rc == 0 && c->stream)
        rc = wh_loop_signal(c->loop, SIGINT, interrupted, c->loop, err);
    rc = rc < 0 ? rc : wh_fetch_start(fetcher, &request, &callbacks, c, &fetch, err);
    if (rc == 0) {
        wh_loop_run(c->loop);
        rc = c->rc;
        if (rc < 0 && err != NULL)
            *err = c->err;
        if (rc == -ECONNREFUSED || rc == -EACCES)
            wh_wrap(err, "ask the agent at '%s'", socket);
    }
    if (fetcher != NULL)
        wh_fetcher_free(fetcher);
    wh_loop_free(c->loop);
    return rc;
}

int wh_client_call(const char *method, const char *path, json_t **ret_body, wh_err *err)
{
    call c = {0};
    int rc = run(&c, method, path, err);

    if (rc < 0) {
        json_decref(c.body);
        return rc;
    }
    if (c.body == NULL)
        return wh_fail(err, -EIO, "the agent gave no answer");
    *ret_body = c.body;
    return 0;
}

int wh_client_stream(const char *path, wh_err *err)
{
    call c = {.stream = true};

    wh_buf_init(&c.refusal, 64 * 1024);
    int rc = run(&c, "GET", path, err);
    if (rc == 0 && c.status >= 400) {
        const char *text = wh_buf_str(&c.refusal);
        rc = wh_fail(err, -EINVAL, "%.*s.", (int)strcspn(text, "\n"), text);
    }
    wh_buf_done(&c.refusal);
    return rc;
}

char *wh_client_pod_path(const char *pod, const char *suffix)
{
    if (strchr(pod, '/') != NULL)
        return wh_xasprintf("/v1/pods/%s%s", pod, suffix);
    return wh_xasprintf("/v1/pods/default/%s%s", pod, suffix);
}
