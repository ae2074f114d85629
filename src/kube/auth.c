/* SPDX-License-Identifier: Apache-2.0 */
/* Authentication and authorization of the kubelet API: who is it (certificate, TokenReview), may they
 * (SubjectAccessReview). */
#include "kube/auth.h"

#include "base/limits.h"

#include <openssl/sha.h>
#include <stdio.h>
#include <sys/queue.h>
#include <uthash.h>

#define TOKEN_TTL (2 * WH_MINUTE)
#define ALLOWED_TTL (5 * WH_MINUTE)
#define DENIED_TTL (30 * WH_SEC)
#define SUBRESOURCES_MAX 4
#define TOKEN_BYTES_MAX (16UL << 10)

typedef struct cached { /* of a token: who; of a right: yes or no */
    UT_hash_handle hh;
    wh_time expires; /* monotonic */
    bool yes;
    char *user;
    wh_strv groups;
    char key[];
} cached;

typedef struct check {
    LIST_ENTRY(check) link;
    wh_auth *auth;
    char *user, *token, *verb;
    wh_strv groups;
    char *subresources[SUBRESOURCES_MAX];
    size_t n_subresources, at;
    wh_kube_call *call;
    void (*done)(const wh_auth_answer *answer, void *user);
    void *done_user;
} check;

struct wh_auth {
    wh_kube *kube;
    char *node_name;
    cached *tokens, *rights;
    LIST_HEAD(, check) checks;
};

static void ask_right(check *c);

/* ---- caches ---- */

static void drop_cached(cached **cache, cached *e)
{
    HASH_DEL(*cache, e);
    free(e->user);
    wh_strv_free(e->groups);
    free(e);
}

static cached *cache_get(wh_auth *auth, cached **cache, const char *key)
{
    cached *e = NULL;
    HASH_FIND_STR(*cache, key, e);
    if (e == NULL || e->expires > wh_loop_now(wh_kube_loop(auth->kube)))
        return e;
    drop_cached(cache, e);
    return NULL;
}

static cached *cache_put(wh_auth *auth, cached **cache, const char *key, wh_time ttl, bool yes)
{
    cached *e = NULL;
    HASH_FIND_STR(*cache, key, e);
    if (e != NULL)
        drop_cached(cache, e);
    if (HASH_COUNT(*cache) >= WH_KUBE_AUTH_CACHE_MAX)
        drop_cached(cache, *cache); /* the oldest */
    size_t n = strlen(key) + 1;
    e = wh_xcalloc(1, sizeof(*e) + n);
    memcpy(e->key, key, n);
    e->yes = yes;
    e->expires = wh_loop_now(wh_kube_loop(auth->kube)) + ttl;
    HASH_ADD_STR(*cache, key, e);
    return e;
}

/* Tokens are kept by their digest only. */
static void token_key(const char *token, char out[2 * SHA256_DIGEST_LENGTH + 1])
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    (void)SHA256((const unsigned char *)token, strlen(token), digest);
    wh_hex(digest, sizeof(digest), out);
}

/* Lengths in front of the parts, as a user name may hold any separator. */
static char *right_key(const check *c, const char *subresource)
{
    wh_buf out;
    wh_buf_init(&out, 1UL << 20);
    (void)wh_buf_printf(&out, "%s %s %zu %s", c->verb, subresource, strlen(c->user), c->user);
    for (size_t i = 0; i < wh_strv_len(c->groups); i++)
        (void)wh_buf_printf(&out, " %zu %s", strlen(c->groups[i]), c->groups[i]);
    return wh_buf_take(&out);
}

/* ---- the end of a check ---- */

static void free_check(check *c)
{
    LIST_REMOVE(c, link);
    wh_kube_cancel(c->call);
    free(c->user);
    if (c->token != NULL)
        explicit_bzero(c->token, strlen(c->token));
    free(c->token);
    free(c->verb);
    wh_strv_free(c->groups);
    for (size_t i = 0; i < c->n_subresources; i++)
        free(c->subresources[i]);
    free(c);
}

static void finish(check *c, int status, const char *why)
{
    auto_free char *user = wh_xstrdup(c->user == NULL ? "" : c->user);
    wh_auth_answer answer = {.status = status, .user = user, .why = why};
    void (*done)(const wh_auth_answer *, void *) = c->done;
    void *done_user = c->done_user;
    free_check(c);
    done(&answer, done_user);
}

static void cannot_ask(check *c, const char *what, const wh_kube_result *result)
{
    char why[400];
    (void)snprintf(why, sizeof(why), "Cannot ask the API server for a %s: %s", what, result->err.msg);
    finish(c, 503, why);
}

/* ---- rights ---- */

static void next_right(check *c)
{
    c->at++;
    ask_right(c);
}

static void on_right(const wh_kube_result *result, void *user)
{
    check *c = user;
    c->call = NULL;
    if (result->class_ != WH_KUBE_OK) {
        cannot_ask(c, "SubjectAccessReview", result);
        return;
    }
    bool allowed = wh_json_bool(result->body, "status.allowed", false);
    auto_free char *key = right_key(c, c->subresources[c->at]);
    if (key != NULL)
        (void)cache_put(c->auth, &c->auth->rights, key, allowed ? ALLOWED_TTL : DENIED_TTL, allowed);
    if (allowed)
        finish(c, 200, "");
    else
        next_right(c);
}

static void deny(check *c)
{
    char why[512];
    (void)snprintf(why, sizeof(why),
                   "Forbidden (user=%.200s, verb=%s, resource=nodes, subresource(s)=[%s%s%s])", c->user,
                   c->verb, c->subresources[0], c->n_subresources > 1 ? " " : "",
                   c->n_subresources > 1 ? c->subresources[1] : "");
    finish(c, 403, why);
}

static void post_right(check *c)
{
    auto_json json_t *groups = json_array();
    for (size_t i = 0; i < wh_strv_len(c->groups); i++)
        (void)json_array_append_new(groups, json_string(c->groups[i]));
    auto_json json_t *body =
        json_pack("{s:s, s:s, s:{s:s, s:O, s:{s:s, s:s, s:s, s:s, s:s}}}", "apiVersion",
                  "authorization.k8s.io/v1", "kind", "SubjectAccessReview", "spec", "user", c->user, "groups",
                  groups, "resourceAttributes", "verb", c->verb, "version", "v1", "resource", "nodes",
                  "subresource", c->subresources[c->at], "name", c->auth->node_name);
    if (body == NULL) { /* a name that is no UTF-8 */
        finish(c, 403, "Forbidden: the caller's name is no valid text.");
        return;
    }
    wh_kube_request request = {.method = "POST",
                               .path = "/apis/authorization.k8s.io/v1/subjectaccessreviews",
                               .body = body,
                               .timeout = 10 * WH_SEC};
    c->call = wh_kube_do(c->auth->kube, &request, on_right, c);
}

/* Tries the subresources from c->at on, as far as the cache knows the answers. */
static void ask_right(check *c)
{
    for (; c->at < c->n_subresources; c->at++) {
        auto_free char *key = right_key(c, c->subresources[c->at]);
        const cached *known = key == NULL ? NULL : cache_get(c->auth, &c->auth->rights, key);
        if (known == NULL) {
            post_right(c);
            return;
        }
        if (known->yes) {
            finish(c, 200, "");
            return;
        }
    }
    deny(c);
}

/* ---- tokens ---- */

static void take_identity(check *c, const char *user, wh_strv groups)
{
    c->user = wh_xstrdup(user);
    c->groups = groups;
    ask_right(c);
}

static void on_token(const wh_kube_result *result, void *user)
{
    check *c = user;
    c->call = NULL;
    if (result->class_ != WH_KUBE_OK) {
        cannot_ask(c, "TokenReview", result);
        return;
    }
    char key[2 * SHA256_DIGEST_LENGTH + 1];
    token_key(c->token, key);
    const char *name = wh_json_str(result->body, "status.user.username");
    if (!wh_json_bool(result->body, "status.authenticated", false) || name == NULL || name[0] == '\0') {
        (void)cache_put(c->auth, &c->auth->tokens, key, DENIED_TTL, false);
        finish(c, 401, "Unauthorized");
        return;
    }
    wh_strv groups = NULL;
    size_t i;
    json_t *group;
    json_array_foreach(wh_json_at(result->body, "status.user.groups"), i, group)
    {
        if (json_is_string(group))
            wh_strv_push(&groups, json_string_value(group));
    }
    cached *e = cache_put(c->auth, &c->auth->tokens, key, TOKEN_TTL, true);
    e->user = wh_xstrdup(name);
    e->groups = wh_strv_copy(groups);
    take_identity(c, name, groups);
}

static void ask_token(check *c)
{
    char key[2 * SHA256_DIGEST_LENGTH + 1];
    token_key(c->token, key);
    const cached *known = cache_get(c->auth, &c->auth->tokens, key);
    if (known != NULL && known->yes) {
        take_identity(c, known->user, wh_strv_copy(known->groups));
        return;
    }
    if (known != NULL) {
        finish(c, 401, "Unauthorized");
        return;
    }
    auto_json json_t *body = json_pack("{s:s, s:s, s:{s:s}}", "apiVersion", "authentication.k8s.io/v1",
                                       "kind", "TokenReview", "spec", "token", c->token);
    if (body == NULL) {
        finish(c, 401, "Unauthorized");
        return;
    }
    wh_kube_request request = {.method = "POST",
                               .path = "/apis/authentication.k8s.io/v1/tokenreviews",
                               .body = body,
                               .timeout = 10 * WH_SEC};
    c->call = wh_kube_do(c->auth->kube, &request, on_token, c);
}

void wh_auth_check_caller(wh_auth *auth, const wh_auth_caller *caller, const char *verb,
                          const char *const *subresources,
                          void (*done)(const wh_auth_answer *answer, void *user), void *user)
{
    check *c = wh_xnew(check);
    c->auth = auth;
    c->verb = wh_xstrdup(verb);
    while (c->n_subresources < SUBRESOURCES_MAX && subresources[c->n_subresources] != NULL) {
        c->subresources[c->n_subresources] = wh_xstrdup(subresources[c->n_subresources]);
        c->n_subresources++;
    }
    wh_assert(c->n_subresources > 0);
    c->done = done;
    c->done_user = user;
    LIST_INSERT_HEAD(&auth->checks, c, link);
    if (caller->user != NULL && caller->user[0] != '\0') {
        take_identity(c, caller->user, wh_strv_copy(caller->groups));
    } else if (caller->token != NULL && strlen(caller->token) <= TOKEN_BYTES_MAX) {
        c->token = wh_xstrdup(caller->token);
        ask_token(c);
    } else {
        finish(c, 401, "Unauthorized");
    }
}

/* ---- callers of our HTTP server ---- */

typedef struct exchange_check {
    wh_http_exchange *x;
    void (*done)(wh_http_exchange *x, const wh_auth_answer *answer, void *user);
    void *user;
} exchange_check;

static void on_checked(const wh_auth_answer *answer, void *user)
{
    exchange_check e = *(exchange_check *)user;
    free(user);
    e.done(e.x, answer, e.user);
}

static const char *verb_of(const char *method)
{
    static const char *const table[][2] = {{"POST", "create"}, {"GET", "get"},     {"HEAD", "get"},
                                           {"PUT", "update"},  {"PATCH", "patch"}, {"DELETE", "delete"}};
    for (size_t i = 0; i < WH_ARRAY_LEN(table); i++)
        if (strcmp(method, table[i][0]) == 0)
            return table[i][1];
    return "unknown";
}

void wh_auth_check(wh_auth *auth, wh_http_exchange *x, const char *verb, const char *const *subresources,
                   void (*done)(wh_http_exchange *x, const wh_auth_answer *answer, void *user), void *user)
{
    const wh_http_request *request = wh_http_request_of(x);
    auto_strv wh_strv groups = NULL;
    auto_free char *token = NULL;
    wh_auth_caller caller = {0};
    wh_str bearer = wh_http_bearer(request);
    if (request->peer != NULL && request->peer->cn != NULL && request->peer->cn[0] != '\0') {
        groups = wh_strv_copy(request->peer->orgs);
        wh_strv_push(&groups, "system:authenticated");
        caller.user = request->peer->cn;
        caller.groups = groups;
    } else if (bearer.p != NULL) {
        token = wh_xstrndup(bearer.p, bearer.n);
        caller.token = token;
    }
    exchange_check *e = wh_xnew(exchange_check);
    *e = (exchange_check){x, done, user};
    wh_auth_check_caller(auth, &caller, verb == NULL ? verb_of(request->method) : verb, subresources,
                         on_checked, e);
}

static bool is_under(const char *path, const char *prefix)
{
    size_t n = strlen(prefix);
    return strncmp(path, prefix, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

void wh_auth_attributes(const char *method, const char *path, const char **ret_verb,
                        const char *ret_subresources[4])
{
    static const struct {
        const char *prefix, *subresource;
        bool then_proxy, create;
    } table[] = {
        {"/stats", "stats", false, false},
        {"/metrics", "metrics", false, false},
        {"/logs", "log", false, false},
        {"/spec", "spec", false, false},
        {"/checkpoint", "checkpoint", false, false},
        {"/pods", "pods", true, false},
        {"/runningpods", "pods", true, false},
        {"/healthz", "healthz", true, false},
        {"/configz", "configz", true, false},
        {"/statusz", "statusz", false, false},
        {"/flagz", "configz", true, false},
        {"/exec", "proxy", false, true},
        {"/attach", "proxy", false, true},
        {"/run", "proxy", false, true},
        {"/portForward", "proxy", false, true},
        {"/cri", "proxy", false, true},
    };
    *ret_verb = verb_of(method);
    ret_subresources[0] = "proxy";
    ret_subresources[1] = ret_subresources[2] = ret_subresources[3] = NULL;
    for (size_t i = 0; i < WH_ARRAY_LEN(table); i++) {
        if (!is_under(path, table[i].prefix))
            continue;
        ret_subresources[0] = table[i].subresource;
        if (table[i].then_proxy)
            ret_subresources[1] = "proxy";
        if (table[i].create)
            *ret_verb = "create";
        return;
    }
}

/* ---- life ---- */

wh_auth *wh_auth_new(wh_kube *kube, const char *node_name)
{
    wh_auth *auth = wh_xnew(wh_auth);
    auth->kube = kube;
    auth->node_name = wh_xstrdup(node_name);
    LIST_INIT(&auth->checks);
    return auth;
}

void wh_auth_use(wh_auth *auth, wh_kube *kube)
{
    auth->kube = kube;
}

void wh_auth_free(wh_auth *auth)
{
    if (auth == NULL)
        return;
    while (!LIST_EMPTY(&auth->checks)) {
        check *c = LIST_FIRST(&auth->checks);
        if (c->done == on_checked)
            free(c->done_user);
        free_check(c);
    }
    while (auth->tokens != NULL)
        drop_cached(&auth->tokens, auth->tokens);
    while (auth->rights != NULL)
        drop_cached(&auth->rights, auth->rights);
    free(auth->node_name);
    free(auth);
}
