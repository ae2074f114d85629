/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share: streaming requests with a client's credentials, and news about its
 * reachability. */
#pragma once

#include "kube/client.h"

#include <sys/queue.h>

/* Starts a GET whose answer is streamed. No rate limit and no retries: watches have their own. */
int wh_kube_stream(wh_kube *kube, const char *path, wh_time timeout, const wh_fetch_callbacks *callbacks,
                   void *user, wh_fetch **ret, wh_err *err);
/* Makes the result of an answer; `method` and `path` for its sentence. body is borrowed and may be NULL. */
void wh_kube_result_make(wh_kube_result *result, const char *method, const char *path,
                         const wh_fetch_result *answer, json_t *body);
/* What a stream learned counts as well: status 0 means that nobody answered. */
void wh_kube_heard(wh_kube *kube, int status);

/* Told once when the API server answers again after it did not. */
typedef struct wh_kube_listener {
    LIST_ENTRY(wh_kube_listener) link;
    void (*fn)(struct wh_kube_listener *listener);
    void *user;
} wh_kube_listener;
void wh_kube_listen(wh_kube *kube, wh_kube_listener *listener);
void wh_kube_unlisten(wh_kube_listener *listener);
