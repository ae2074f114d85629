/* SPDX-License-Identifier: Apache-2.0 */
/* From a guest's output to an answer. The head goes out when the guest ended, when its output is more than a buffer, or
 * when output has waited a while: so a quick guest that fails is a 500 whatever it printed, and a slow one streams. */
#include "serve/command_private.h"

#include <signal.h>
#include <stdio.h>

void wh_command_cancel(job *j)
{
    wh_serve_command *c = j->c;
    (void)pthread_mutex_lock(&c->lock);
    j->cancelled = true;
    (void)pthread_cond_broadcast(&j->more);
    if (j->state == JOB_RUNS && j->blocked)
        (void)pthread_kill(j->thread, SIGUSR2);
    (void)pthread_mutex_unlock(&c->lock);
}

static wh_http_exchange *take_exchange(job *j)
{
    return WH_TAKE(j->x);
}

void wh_command_answer_cut(job *j, const char *why)
{
    wh_http_exchange *x = take_exchange(j);
    wh_serve_answered(j->request, 0, why);
    wh_http_abort(x);
}

void wh_command_answer_error(job *j, int status, const char *why)
{
    if (j->begun) {
        wh_command_answer_cut(j, why);
        return;
    }
    (void)take_exchange(j);
    wh_serve_fail(j->request, status, why);
}

/* Writes to the client; what it does not take holds the guest's further output back. */
static void write_body(job *j, const void *p, size_t n)
{
    if (n == 0)
        return;
    int rc = wh_http_write(j->x, p, n);
    if (rc != -EAGAIN)
        return; /* a client that left is told by on_gone */
    (void)pthread_mutex_lock(&j->c->lock);
    j->held = true;
    (void)pthread_mutex_unlock(&j->c->lock);
}

typedef struct head { /* what is known of the answer before its body */
    int status;
    const char *type;
    int64_t length;
    size_t used; /* of j->answer */
} head;

static const char *env_of(const job *j, const char *name)
{
    size_t n = strlen(name);
    for (char *const *v = j->c->config.env; v != NULL && *v != NULL; v++)
        if (strncmp(*v, name, n) == 0 && (*v)[n] == '=')
            return *v + n + 1;
    return NULL;
}

/* As OpenFaaS's classic watchdog: what the function's settings say, else the request's own. */
static void put_stream_type(const job *j)
{
    const char *fixed = env_of(j, "content_type");
    wh_str type =
        fixed != NULL ? wh_str_of(fixed) : wh_http_field_get(wh_http_request_of(j->x), "content-type");
    if (type.n == 0 || wh_http_header_n(j->x, WH_STR("content-type"), type) < 0)
        (void)wh_http_header(j->x, "content-type", wh_cgi_guess_type(wh_buf_str(&j->answer), j->answer.len));
}

/* 1: the head is set; 0: more output is needed; else refused, and answered. */
static int wagi_head(job *j, bool end, head *ret)
{
    wh_cgi_head cgi;
    wh_err err = {0};
    ssize_t used = wh_cgi_head_parse(wh_buf_str(&j->answer), j->answer.len, end, &cgi, &err);
    if (used == 0)
        return 0;
    int rc = used < 0 ? (int)used : 0;
    if (rc == 0 && cgi.content_type.p != NULL)
        rc = wh_http_header_n(j->x, WH_STR("content-type"), cgi.content_type);
    for (size_t i = 0; rc == 0 && i < cgi.n_fields; i++)
        rc = wh_http_header_n(j->x, cgi.fields[i].name, cgi.fields[i].value);
    if (rc < 0) {
        wh_command_answer_error(j, 502,
                                err.msg[0] != '\0' ? err.msg : "a header field that is not a guest's");
        return rc;
    }
    *ret = (head){.status = cgi.status, .length = cgi.length, .used = (size_t)used};
    return 1;
}

static int find_head(job *j, bool end, head *ret)
{
    if (j->c->config.mode == WH_SERVE_WAGI)
        return wagi_head(j, end, ret);
    *ret = (head){.status = 200, .length = -1};
    put_stream_type(j);
    return 1;
}

static void begin_answer(job *j, const head *h)
{
    j->begun = true;
    j->status = h->status;
    (void)wh_http_header(j->x, "x-call-id", j->request->id);
    if (h->length >= 0)
        wh_http_begin_length(j->x, h->status, NULL, (uint64_t)h->length);
    else
        wh_http_begin(j->x, h->status, NULL);
    write_body(j, wh_buf_str(&j->answer) + h->used, j->answer.len - h->used);
    wh_buf_done(&j->answer);
}

/* The whole answer is there. */
static void answer_whole(job *j)
{
    head h;
    if (find_head(j, true, &h) != 1)
        return;
    size_t n = j->answer.len - h.used;
    bool head_only = wh_streq(wh_http_request_of(j->x)->method, "HEAD");
    if (h.length >= 0 && (uint64_t)h.length != n && !(head_only && n == 0)) {
        wh_command_answer_error(j, 502, "the body has not the length that 'Content-Length' says");
        return;
    }
    if (h.length >= 0 && head_only) {
        begin_answer(j, &h);
        wh_http_exchange *x = take_exchange(j);
        wh_serve_answered(j->request, h.status, NULL);
        wh_http_end(x);
        return;
    }
    (void)wh_http_header(j->x, "x-call-id", j->request->id);
    wh_http_exchange *x = take_exchange(j);
    wh_serve_answered(j->request, h.status, NULL);
    wh_http_reply(x, h.status, NULL, wh_buf_str(&j->answer) + h.used, n);
}

/* Moves the guest's output to us. False when there is none, or the client must take some first. */
static bool take_output(job *j, wh_buf *ret, bool end)
{
    wh_serve_command *c = j->c;
    (void)pthread_mutex_lock(&c->lock);
    bool some = j->out.len > 0 && (end || !j->held);
    if (some) {
        *ret = j->out;
        wh_buf_init(&j->out, ret->max);
        j->out_age = 0;
        (void)pthread_cond_broadcast(&j->more);
    }
    (void)pthread_mutex_unlock(&c->lock);
    return some;
}

/* Adds output to the answer; false when that ended it. */
static bool add_output(job *j, const wh_buf *out)
{
    if (j->begun) {
        write_body(j, out->p, out->len);
        return true;
    }
    if (wh_buf_append(&j->answer, out->p, out->len) == 0)
        return true;
    wh_command_answer_error(j, 500, "no memory for the answer");
    return false;
}

static void resume_body(job *j)
{
    bool resume = false;
    (void)pthread_mutex_lock(&j->c->lock);
    if (j->in_paused && j->in.len - j->in_at <= WH_SERVE_IN_BYTES_MAX / 2) {
        j->in_paused = false;
        resume = true;
    }
    (void)pthread_mutex_unlock(&j->c->lock);
    if (resume && j->x != NULL)
        wh_http_pause(j->x, false);
}

void wh_command_output(job *j)
{
    auto_buf wh_buf out = {0};
    head h;
    resume_body(j);
    if (j->x == NULL || !take_output(j, &out, false) || !add_output(j, &out))
        return;
    if (!j->begun && find_head(j, false, &h) == 1)
        begin_answer(j, &h);
    if (j->x == NULL) /* a head that cannot be sent */
        wh_command_cancel(j);
}

/* NULL: it ended well. */
static const char *failure_of(job *j, char text[64])
{
    switch (j->end) {
    case WH_END_OK:
        return NULL;
    case WH_END_EXIT:
        if (j->exit_code == 0)
            return NULL;
        (void)snprintf(text, 64, "the guest's exit code is %d", j->exit_code);
        return text;
    case WH_END_DEADLINE:
        return "the request's time is over";
    case WH_END_TRAP:
        break;
    }
    return j->msg;
}

void wh_command_ended(job *j)
{
    auto_buf wh_buf out = {0};
    char text[64];
    if (j->x == NULL)
        return;
    const char *failure = failure_of(j, text);
    if (failure != NULL) {
        wh_command_answer_error(j, j->end == WH_END_DEADLINE ? 504 : 500, failure);
        return;
    }
    if (take_output(j, &out, true) && !add_output(j, &out))
        return;
    if (!j->begun) {
        answer_whole(j);
        return;
    }
    wh_http_exchange *x = take_exchange(j);
    wh_serve_answered(j->request, j->status, NULL);
    wh_http_end(x);
}
