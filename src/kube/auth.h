/* SPDX-License-Identifier: Apache-2.0 */
/* Who may use the kubelet API. Identity: a client certificate that the client CA signed, else a bearer token
 * by TokenReview. Rights: SubjectAccessReview. Anonymous callers are refused. Answers are kept: tokens 2
 * minutes, allowed 5 minutes, denied 30 seconds. */
#pragma once

#include "http/server.h"
#include "kube/client.h"

typedef struct wh_auth wh_auth;
wh_auth *wh_auth_new(wh_kube *kube, const char *node_name);
void wh_auth_use(wh_auth *auth, wh_kube *kube);
void wh_auth_free(wh_auth *auth); /* pending checks get no answer */

typedef struct wh_auth_answer {
    int status;       /* 200; 401 who are you; 403 you may not; 503 the API server could not be asked */
    const char *user; /* never NULL */
    const char *why;  /* a sentence for the body of the answer */
} wh_auth_answer;

/* May the caller of this exchange do `verb` on nodes/<subresource>? Subresources are tried in order until one
 * is allowed, e.g. {"pods", "proxy", NULL} (KubeletFineGrainedAuthz). `verb` NULL: from the method. `done`
 * may run inside the call when the answer is known, and runs exactly once unless auth is freed. */
void wh_auth_check(wh_auth *auth, wh_http_exchange *x, const char *verb, const char *const *subresources,
                   void (*done)(wh_http_exchange *x, const wh_auth_answer *answer, void *user), void *user);
/* The same for known callers; group names NULL-terminated. */
typedef struct wh_auth_caller {
    const char *user;
    char *const *groups;
    const char *token; /* when user is NULL */
} wh_auth_caller;
void wh_auth_check_caller(wh_auth *auth, const wh_auth_caller *caller, const char *verb,
                          const char *const *subresources,
                          void (*done)(const wh_auth_answer *answer, void *user), void *user);

/* The subresources and the verb that a kubelet asks for a path ("/containerLogs/..", "/metrics"): kubelet's table, with
 * `create` for exec, attach, run and portForward whatever the method. Pure. */
void wh_auth_attributes(const char *method, const char *path, const char **ret_verb,
                        const char *ret_subresources[4]);
