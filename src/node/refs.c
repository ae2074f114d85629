/* SPDX-License-Identifier: Apache-2.0 */
/* The ConfigMaps, Secrets and tokens that a pod refers to: subscribed on the loop, handed to jobs as a
 * snapshot. */
#include "base/log.h"
#include "node/internal.h"

static void ref_changed(wh_object_sub *sub, void *user)
{
    wh_object_ref *ref = user;
    wh_worker *w = ref->worker;

    (void)sub;
    wh_worker_post(w, &(wh_pod_event){.type = WH_POD_RETRY});
    wh_worker_refresh(w);
}

static void add_ref(wh_worker *w, const char *kind, const char *name)
{
    for (size_t i = 0; i < w->n_refs; i++)
        if (wh_streq(w->refs[i].kind, kind) && wh_streq(w->refs[i].name, name))
            return;
    w->refs[w->n_refs++] = (wh_object_ref){.kind = kind, .name = wh_xstrdup(name), .worker = w};
}

static size_t count_refs(const wh_pod_spec *spec)
{
    size_t n = 0;

    for (size_t i = 0; i < spec->n_containers; i++)
        n += spec->containers[i].n_env + spec->containers[i].n_env_from;
    for (size_t i = 0; i < spec->n_volumes; i++)
        n += spec->volumes[i].n_sources;
    for (size_t i = 0; spec->pull_secrets != NULL && spec->pull_secrets[i] != NULL; i++)
        n++;
    return n + 1; /* wherry.dev/tls-secret */
}

static const char *kind_of(wh_env_kind kind)
{
    return kind == WH_ENV_SECRET ? "Secret" : "ConfigMap";
}

static void collect_refs(wh_worker *w)
{
    const wh_pod_spec *spec = w->spec;

    for (size_t i = 0; i < spec->n_containers; i++) {
        const wh_container_spec *c = &spec->containers[i];
        for (size_t k = 0; k < c->n_env_from; k++)
            add_ref(w, kind_of(c->env_from[k].kind), c->env_from[k].object);
        for (size_t k = 0; k < c->n_env; k++)
            if (c->env[k].kind == WH_ENV_CONFIG_MAP || c->env[k].kind == WH_ENV_SECRET)
                add_ref(w, kind_of(c->env[k].kind), c->env[k].object);
    }
    for (size_t i = 0; i < spec->n_volumes; i++) {
        for (size_t k = 0; k < spec->volumes[i].n_sources; k++) {
            const wh_volume_source *s = &spec->volumes[i].sources[k];
            if (s->kind == WH_SOURCE_CONFIG_MAP || s->kind == WH_SOURCE_SECRET)
                add_ref(w, s->kind == WH_SOURCE_SECRET ? "Secret" : "ConfigMap", s->object);
        }
    }
    for (size_t i = 0; spec->pull_secrets != NULL && spec->pull_secrets[i] != NULL; i++)
        add_ref(w, "Secret", spec->pull_secrets[i]);
    if (w->serve.tls_secret != NULL)
        add_ref(w, "Secret", w->serve.tls_secret);
}

void wh_worker_subscribe(wh_worker *w)
{
    if (w->refs == NULL) {
        w->refs = wh_xcalloc(count_refs(w->spec) + 1, sizeof(*w->refs));
        collect_refs(w);
    }
    if (!wh_streq(w->source, "api") || w->node->objects == NULL)
        return;
    for (size_t i = 0; i < w->n_refs; i++) {
        wh_object_ref *ref = &w->refs[i];
        if (ref->sub == NULL)
            ref->sub = wh_object_subscribe(
                w->node->objects, wh_streq(ref->kind, "Secret") ? WH_OBJECT_SECRET : WH_OBJECT_CONFIGMAP,
                w->spec->namespace_, ref->name, ref_changed, ref);
    }
}

void wh_worker_unsubscribe(wh_worker *w)
{
    for (size_t i = 0; i < w->n_refs; i++) {
        wh_object_unsubscribe(w->refs[i].sub);
        free(w->refs[i].name);
    }
    free(w->refs);
    w->refs = NULL;
    w->n_refs = 0;
}

static char *local_key(const char *kind, const char *ns, const char *name)
{
    return wh_xasprintf("%s/%s/%s", kind, ns, name);
}

json_t *wh_worker_snapshot(wh_worker *w)
{
    json_t *snapshot = json_object();

    for (size_t i = 0; i < w->n_refs; i++) {
        const wh_object_ref *ref = &w->refs[i];
        auto_free char *key = local_key(ref->kind, w->spec->namespace_, ref->name);
        if (!wh_streq(w->source, "api")) {
            json_t *object = json_object_get(w->node->local_objects, key);
            json_object_set_new(snapshot, key, object != NULL ? json_deep_copy(object) : json_null());
            continue;
        }
        wh_object_state state = ref->sub == NULL ? WH_OBJECT_UNKNOWN : wh_object_state_of(ref->sub);
        if (state ==
            WH_OBJECT_PRESENT) /* a copy: the job's thread must not share reference counts with the loop */
            json_object_set_new(snapshot, key, json_deep_copy(wh_object_get(ref->sub)));
        else if (state == WH_OBJECT_ABSENT || state == WH_OBJECT_DENIED)
            json_object_set_new(snapshot, key, json_null());
    }
    return snapshot;
}

int wh_snapshot_get(void *user, const char *kind, const char *namespace_, const char *name, json_t **ret,
                    wh_err *err)
{
    const wh_worker *w = user;
    auto_free char *key = local_key(kind, namespace_, name);
    json_t *object = json_object_get(w->snapshot, key);

    if (object == NULL)
        return wh_fail(err, -EAGAIN, "%s '%s' is not known yet.", kind, name);
    if (json_is_null(object))
        return wh_fail(err, -ENOENT, "%s '%s' does not exist in namespace '%s'.", kind, name, namespace_);
    *ret = json_incref(object);
    return 0;
}

void wh_node_object_put(wh_node *node, const char *kind, const char *ns, const char *name, json_t *object)
{
    auto_free char *key = local_key(kind, ns, name);
    wh_worker *w, *next;

    if (object != NULL)
        json_object_set(node->local_objects, key, object);
    else
        json_object_del(node->local_objects, key);
    HASH_ITER(hh, node->by_uid, w, next)
    {
        for (size_t i = 0; !wh_streq(w->source, "api") && i < w->n_refs; i++) {
            if (wh_streq(w->refs[i].kind, kind) && wh_streq(w->refs[i].name, name) &&
                wh_streq(w->spec->namespace_, ns)) {
                wh_worker_post(w, &(wh_pod_event){.type = WH_POD_RETRY});
                wh_worker_refresh(w);
                break;
            }
        }
    }
}

void wh_node_use_objects(wh_node *node, wh_objects *objects)
{
    wh_worker *w, *next;

    node->objects = objects;
    HASH_ITER(hh, node->by_uid, w, next)
    wh_worker_subscribe(w);
}

void wh_node_drop_objects(wh_node *node)
{
    wh_worker *w, *next;

    node->objects = NULL;
    HASH_ITER(hh, node->by_uid, w, next)
    {
        for (size_t i = 0; i < w->n_refs; i++) {
            wh_object_unsubscribe(w->refs[i].sub);
            w->refs[i].sub = NULL;
        }
    }
}

/* ---- service account tokens ---- */

typedef struct token_question {
    wh_node *node;
    char *uid, *audience;
    int64_t seconds;
} token_question;

static void ask_token(void *user)
{
    token_question *q = user;
    wh_worker *w = wh_node_find(q->node, q->uid);

    if (w != NULL && q->node->ask_token != NULL)
        q->node->ask_token(q->node->token_user, w, q->audience[0] != '\0' ? q->audience : NULL, q->seconds);
    free(q->uid);
    free(q->audience);
    free(q);
}

/* From a job's thread: what is known, or -EAGAIN after the question was posted to the loop. */
int wh_worker_token_get(void *user, const wh_pod_spec *spec, const char *audience, int64_t seconds,
                        char **ret_token, wh_time *ret_expires, wh_err *err)
{
    wh_worker *w = user;
    const char *wanted = audience != NULL ? audience : "";
    wh_token *slot = NULL;
    bool ask = false;
    int rc = -EAGAIN;

    if (!wh_streq(w->source, "api"))
        return wh_fail(err, -EOPNOTSUPP, "a service account token needs an API server.");
    pthread_mutex_lock(&w->token_lock);
    for (size_t i = 0; slot == NULL && i < WH_WORKER_TOKENS_MAX; i++)
        if (w->tokens[i].audience == NULL || wh_streq(w->tokens[i].audience, wanted))
            slot = &w->tokens[i];
    if (slot != NULL && slot->audience == NULL) {
        slot->audience = wh_xstrdup(wanted);
        ask = true;
    } else if (slot != NULL && slot->token != NULL) {
        /* At 80 % of its life a new one is asked for, while this one still serves. */
        ask = wh_real_now() > slot->expires - seconds * WH_SEC / 5;
        *ret_token = wh_xstrdup(slot->token);
        *ret_expires = slot->expires;
        rc = 0;
    }
    pthread_mutex_unlock(&w->token_lock);
    if (slot == NULL)
        return wh_fail(err, -E2BIG, "more than %d token audiences in one pod.", WH_WORKER_TOKENS_MAX);
    if (ask) {
        token_question *q = wh_xnew(token_question);
        *q = (token_question){.node = w->node,
                              .uid = wh_xstrdup(spec->uid),
                              .audience = wh_xstrdup(wanted),
                              .seconds = seconds};
        wh_loop_post(w->node->loop, ask_token, q);
    }
    return rc == 0 ? 0 : wh_fail(err, rc, "the service account token is not there yet.");
}

void wh_node_set_token_source(wh_node *node,
                              void (*ask)(void *user, wh_worker *w, const char *audience, int64_t seconds),
                              void *user)
{
    node->ask_token = ask;
    node->token_user = user;
}

/* `token` NULL: it could not be had; asked again with the pod's next try. */
void wh_node_token(wh_node *node, const char *uid, const char *audience, const char *token, wh_time expires)
{
    wh_worker *w = wh_node_find(node, uid);
    const char *wanted = audience != NULL ? audience : "";

    if (w == NULL)
        return;
    pthread_mutex_lock(&w->token_lock);
    for (size_t i = 0; i < WH_WORKER_TOKENS_MAX; i++) {
        wh_token *slot = &w->tokens[i];
        if (!wh_streq(slot->audience, wanted))
            continue;
        if (token != NULL) {
            free(slot->token);
            slot->token = wh_xstrdup(token);
            slot->expires = expires;
        } else if (slot->token == NULL) {
            free(slot->audience);
            slot->audience = NULL;
        }
    }
    pthread_mutex_unlock(&w->token_lock);
    if (token == NULL)
        return;
    wh_worker_post(w, &(wh_pod_event){.type = WH_POD_RETRY});
    wh_worker_refresh(w);
}
