/* SPDX-License-Identifier: Apache-2.0 */
/* An API server that does what a test says: our HTTP server on loopback, one handler, and what it saw. */
#pragma once

#include "http/server.h"
#include "kube/client.h"

#include "harness.h"

#include <stdio.h>

typedef struct fake {
    wh_loop *loop;
    wh_http_server *server;
    wh_kube *kube;
    wh_http_handler handler;
    void *user;
    int port, requests;
    char last[512], last_token[128]; /* "METHOD /path?query" */
} fake;

static void fake_handle(wh_http_exchange *x, const wh_http_request *r, void *user)
{
    fake *f = user;
    wh_str token = wh_http_bearer(r);
    f->requests++;
    (void)snprintf(f->last, sizeof(f->last), "%s %s%s%s", r->method, r->path, r->query[0] == '\0' ? "" : "?",
                   r->query);
    (void)snprintf(f->last_token, sizeof(f->last_token), "%.*s", WH_STR_ARG(token));
    f->handler(x, r, f->user);
}

/* port 0: any. */
static WH_UNUSED void fake_listen(fake *f, int port)
{
    wh_addr addr;
    wh_err err = {0};
    int fd = -1;
    CHECK_OK(wh_addr_parse("127.0.0.1", port, &addr, &err), &err);
    CHECK_OK(wh_listen(&addr, 0, &fd, &err), &err);
    wh_http_server_options o = {.listen_fd = fd, .handler = fake_handle, .user = f, .name = "fake"};
    CHECK_OK(wh_http_server_start(f->loop, &o, &f->server, &err), &err);
    f->port = wh_http_server_port(f->server);
}

static WH_UNUSED fake *fake_start(wh_http_handler handler, void *user, const wh_kubeconfig *with)
{
    fake *f = wh_xnew(fake);
    wh_err err = {0};
    CHECK_OK(wh_loop_new(&f->loop, &err), &err);
    f->handler = handler;
    f->user = user;
    fake_listen(f, 0);
    wh_kubeconfig config = {0};
    if (with != NULL)
        wh_kubeconfig_copy(with, &config);
    config.server = wh_xasprintf("http://127.0.0.1:%d", f->port);
    CHECK_OK(wh_kube_new(f->loop, &config, NULL, &f->kube, &err), &err);
    wh_kubeconfig_done(&config);
    return f;
}

static WH_UNUSED void fake_stop(fake *f)
{
    wh_kube_free(f->kube);
    wh_http_server_free(f->server);
    wh_loop_free(f->loop);
    free(f);
}

static WH_UNUSED void fake_spin(fake *f, wh_time time)
{
    wh_time end = wh_mono_now() + time;
    while (wh_mono_now() < end)
        CHECK_INT(wh_loop_once(f->loop, 5 * WH_MSEC), ==, 0);
}

/* Until *counter reaches value, or five seconds have passed. */
static WH_UNUSED void fake_until(fake *f, const int *counter, int value)
{
    wh_time end = wh_mono_now() + 8 * WH_SEC;
    while (*counter < value && wh_mono_now() < end)
        CHECK_INT(wh_loop_once(f->loop, 5 * WH_MSEC), ==, 0);
    CHECK_INT(*counter, >=, value);
}

static WH_UNUSED void fake_json(wh_http_exchange *x, int status, const char *json)
{
    wh_http_reply(x, status, "application/json", json, strlen(json));
}

static WH_UNUSED void fake_status(wh_http_exchange *x, int code, const char *reason, const char *message)
{
    auto_free char *json =
        wh_xasprintf("{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"status\":\"Failure\",\"reason\":\"%s\","
                     "\"message\":\"%s\",\"code\":%d}",
                     reason, message, code);
    fake_json(x, code, json);
}
