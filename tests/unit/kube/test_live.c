/* SPDX-License-Identifier: Apache-2.0 */
/* The room against a real control plane, when BOOTSTRAP_KUBECONFIG names one: for example by
 * `go run ./cmd/cluster PATH/test_kube_live` in tests/cluster. Skipped elsewhere. */
#include "base/file.h"
#include "harness.h"
#include "kube/auth.h"
#include "kube/certificate.h"
#include "kube/events.h"
#include "kube/lease.h"
#include "kube/objects.h"
#include "kube/watch.h"

#include <fcntl.h>
#include <stdio.h>

#define NODE "live-kube"

typedef struct live {
    wh_loop *loop;
    wh_kube *bootstrap, *kube;
    wh_kubeconfig config;
    wh_cert *client, *serving;
    char folder[64];
    int identities, servings, renewed, synced, answers, allowed, objects, pods;
    wh_kube_result last;
    char *last_uid;
    wh_err err;
} live;

static void until(live *l, const int *counter, int value, int seconds, const char *what)
{
    wh_time end = wh_mono_now() + seconds * WH_SEC;
    wh_time begin = wh_mono_now();
    while (*counter < value && wh_mono_now() < end)
        CHECK_INT(wh_loop_once(l->loop, 20 * WH_MSEC), ==, 0);
    if (*counter < value)
        wh_test_fail(__FILE__, __LINE__, "no %s: %s", what, l->err.msg);
    (void)fprintf(stderr, "# %s after %d ms\n", what, (int)((wh_mono_now() - begin) / WH_MSEC));
}

static void on_error(const wh_err *err, void *user)
{
    ((live *)user)->err = *err;
    (void)fprintf(stderr, "# %s\n", err->msg);
}

static void on_result_error(const wh_kube_result *result, void *user)
{
    on_error(&result->err, user);
}

static void on_identity(const char *cert_pem, const char *key_pem, void *user)
{
    live *l = user;
    l->identities++;
    if (l->kube != NULL) {
        wh_kube_set_certificate(l->kube, cert_pem, key_pem);
        return;
    }
    wh_kubeconfig config;
    wh_kubeconfig_copy(&l->config, &config);
    free(config.token);
    config.token = NULL;
    config.cert_pem = wh_xstrdup(cert_pem);
    config.key_pem = wh_xstrdup(key_pem);
    CHECK_OK(wh_kube_new(l->loop, &config, NULL, &l->kube, NULL), NULL);
    wh_kubeconfig_done(&config);
}

static void on_serving(const char *cert_pem, const char *key_pem, void *user)
{
    (void)cert_pem;
    (void)key_pem;
    ((live *)user)->servings++;
}

static void on_answer(const wh_kube_result *result, void *user)
{
    live *l = user;
    l->answers++;
    l->last = *result;
    l->err = result->err;
    const char *uid = wh_json_str(result->body, "metadata.uid");
    free(l->last_uid);
    l->last_uid = uid == NULL ? NULL : wh_xstrdup(uid);
}

static void on_pod(wh_watch_kind kind, json_t *object, void *user)
{
    (void)kind;
    CHECK(wh_json_str(object, "metadata.uid") != NULL);
    ((live *)user)->pods++;
}

static void on_synced(void *user)
{
    ((live *)user)->synced++;
}

static void on_renewed(void *user)
{
    ((live *)user)->renewed++;
}

static void on_object(wh_object_sub *sub, void *user)
{
    live *l = user;
    (void)fprintf(stderr, "# object: state %d, %s\n", (int)wh_object_state_of(sub), wh_object_why(sub));
    l->objects++;
}

static void on_right(const wh_auth_answer *answer, void *user)
{
    live *l = user;
    l->allowed = answer->status;
    (void)fprintf(stderr, "# right: %d %s\n", answer->status, answer->why);
    l->answers++;
}

static void bootstrap(live *l, const char *path)
{
    wh_err err = {0};
    CHECK_OK(wh_loop_new(&l->loop, &err), &err);
    CHECK_OK(wh_kubeconfig_load(path, NULL, &l->config, &err), &err);
    CHECK_OK(wh_kube_new(l->loop, &l->config, NULL, &l->bootstrap, &err), &err);
    (void)snprintf(l->folder, sizeof(l->folder), "/tmp/wherry-live-XXXXXX");
    CHECK(mkdtemp(l->folder) != NULL);
    auto_free char *file = wh_path_join(l->folder, "client.pem");
    wh_cert_options o = {.kind = WH_CERT_CLIENT,
                         .node_name = NODE,
                         .file = file,
                         .on_certificate = on_identity,
                         .on_error = on_error,
                         .user = l};
    CHECK_OK(wh_cert_start(l->loop, l->bootstrap, &o, &l->client, &err), &err);
    until(l, &l->identities, 1, 20, "identity");
    wh_cert_use(l->client, l->kube);
}

static void register_node(live *l)
{
    auto_json json_t *node = json_pack("{s:s, s:s, s:{s:s, s:{s:s, s:s, s:s}}}", "apiVersion", "v1", "kind",
                                       "Node", "metadata", "name", NODE, "labels", "kubernetes.io/hostname",
                                       NODE, "kubernetes.io/os", "wasi", "kubernetes.io/arch", "wasm32");
    wh_kube_request create = {.method = "POST", .path = "/api/v1/nodes", .body = node};
    (void)wh_kube_do(l->kube, &create, on_answer, l);
    until(l, &l->answers, 1, 10, "node");
    CHECK_INT(l->last.class_, ==, WH_KUBE_OK);
}

static void read_what_is_not_ours(live *l)
{
    wh_kube_request nodes = {.path = "/api/v1/nodes"};
    l->answers = 0;
    (void)wh_kube_do(l->kube, &nodes, on_answer, l);
    until(l, &l->answers, 1, 10, "refusal");
    CHECK_INT(l->last.class_, ==, WH_KUBE_FORBIDDEN);
    CHECK_CONTAINS(l->err.msg, "403 Forbidden");
}

static void watch_pods(live *l)
{
    static const wh_watch_callbacks callbacks = {on_pod, on_synced, on_result_error};
    wh_watch *streamed = NULL;
    wh_watch *listed = NULL;
    wh_watch_options o = {.path = "/api/v1/pods", .field_selector = "spec.nodeName=" NODE};
    CHECK_OK(wh_watch_start(l->kube, &o, &callbacks, l, &streamed, NULL), NULL);
    o.no_streaming_list = true;
    CHECK_OK(wh_watch_start(l->kube, &o, &callbacks, l, &listed, NULL), NULL);
    until(l, &l->synced, 2, 10, "synced watches");
    wh_watch *services = NULL;
    CHECK_OK(wh_watch_start(l->kube, &(wh_watch_options){.path = "/api/v1/services"}, &callbacks, l,
                            &services, NULL),
             NULL);
    until(l, &l->synced, 3, 10, "services");
    CHECK(wh_watch_find(services, "default/kubernetes") != NULL);
    CHECK_STR(wh_json_str(wh_watch_find(services, "default/kubernetes"), "kind"), "Service");
    int before = l->pods;
    auto_json json_t *pod = json_pack(
        "{s:s, s:s, s:{s:s, s:s, s:{s:s, s:s, s:s, s:s}, s:[{s:s, s:s, s:s, s:s, s:b}]}, s:{s:s, s:[{s:s, s:s}]}}",
        "apiVersion", "v1", "kind", "Pod", "metadata", "name", "static-" NODE, "namespace", "default",
        "annotations", "kubernetes.io/config.mirror", "h", "kubernetes.io/config.hash", "h",
        "kubernetes.io/config.seen", "2026-01-01T00:00:00Z", "kubernetes.io/config.source", "file",
        "ownerReferences", "apiVersion", "v1", "kind", "Node", "name", NODE, "uid", l->last_uid, "controller",
        1, "spec", "nodeName", NODE, "containers", "name", "c", "image", "i");
    CHECK(pod != NULL);
    wh_kube_request create = {.method = "POST", .path = "/api/v1/namespaces/default/pods", .body = pod};
    l->answers = 0;
    (void)wh_kube_do(l->kube, &create, on_answer, l);
    until(l, &l->answers, 1, 10, "mirror pod");
    CHECK_INT(l->last.class_, ==, WH_KUBE_OK);
    until(l, &l->pods, before + 2, 10, "pod in both watches");
    auto_json json_t *patch = json_pack("{s:{s:s, s:s}}", "status", "phase", "Running", "message", "live");
    wh_kube_request status = {.method = "PATCH",
                              .path = "/api/v1/namespaces/default/pods/static-" NODE "/status",
                              .content_type = WH_KUBE_STRATEGIC,
                              .body = patch};
    l->answers = 0;
    (void)wh_kube_do(l->kube, &status, on_answer, l);
    until(l, &l->answers, 1, 10, "status");
    CHECK_INT(l->last.class_, ==, WH_KUBE_OK);
    until(l, &l->pods, before + 4, 10, "status in both watches");
    wh_watch_free(streamed);
    wh_watch_free(listed);
    wh_watch_free(services);
}

static void watch_objects(live *l)
{
    wh_objects *objects = wh_objects_new(l->kube);
    wh_object_sub *sub =
        wh_object_subscribe(objects, WH_OBJECT_SECRET, "kube-system", "bootstrap-token-wherry", on_object, l);
    until(l, &l->objects, 1, 30, "refused secret");
    CHECK_INT(wh_object_state_of(sub), ==, WH_OBJECT_DENIED);
    CHECK_CONTAINS(wh_object_why(sub), "is forbidden: User \"system:node:" NODE "\" cannot watch");
    wh_object_unsubscribe(sub);
    wh_objects_free(objects);
}

/* More than one connection carries: a server allows 100 streams or so on each. */
static void watch_many(live *l)
{
    static const wh_watch_callbacks callbacks = {on_pod, on_synced, on_result_error};
    static wh_watch *watches[300];
    wh_watch_options o = {.path = "/api/v1/services", .field_selector = "metadata.name=kubernetes"};
    l->synced = 0;
    for (size_t i = 0; i < WH_ARRAY_LEN(watches); i++)
        CHECK_OK(wh_watch_start(l->kube, &o, &callbacks, l, &watches[i], NULL), NULL);
    until(l, &l->synced, WH_ARRAY_LEN(watches), 30, "300 watches");
    l->answers = 0;
    wh_kube_request ready = {.path = "/readyz"};
    (void)wh_kube_do(l->kube, &ready, on_answer, l);
    until(l, &l->answers, 1, 10, "a request beside them");
    for (size_t i = 0; i < WH_ARRAY_LEN(watches); i++)
        wh_watch_free(watches[i]);
}

static void check_rights(live *l)
{
    wh_auth *auth = wh_auth_new(l->kube, NODE);
    char *groups[] = {(char[]){"system:masters"}, NULL};
    char *none[] = {NULL};
    const char *subs[] = {"proxy", NULL};
    wh_auth_caller admin = {.user = "root", .groups = groups};
    wh_auth_caller nobody = {.user = "nobody", .groups = none};
    wh_auth_caller token = {.token = "nonsense"};
    l->answers = 0;
    wh_auth_check_caller(auth, &admin, "create", subs, on_right, l);
    until(l, &l->answers, 1, 10, "right of an administrator");
    CHECK_INT(l->allowed, ==, 200);
    wh_auth_check_caller(auth, &nobody, "create", subs, on_right, l);
    until(l, &l->answers, 2, 10, "right of nobody");
    CHECK_INT(l->allowed, ==, 403);
    wh_auth_check_caller(auth, &token, "create", subs, on_right, l);
    until(l, &l->answers, 3, 10, "review of a bad token");
    CHECK_INT(l->allowed, ==, 401);
    wh_auth_free(auth);
}

static void record_events(live *l)
{
    wh_events *ev = wh_events_new(l->loop, l->kube, "kubelet", NODE);
    wh_event_object node = {.api_version = "v1", .kind = "Node", .name = NODE, .uid = NODE};
    for (int i = 0; i < 3; i++) {
        wh_event(ev, &node, WH_EVENT_NORMAL, "Starting", "Starting live test.");
        wh_time end = wh_mono_now() + 300 * WH_MSEC;
        while (wh_mono_now() < end)
            CHECK_INT(wh_loop_once(l->loop, 20 * WH_MSEC), ==, 0);
    }
    CHECK_INT(wh_events_waiting(ev), ==, 0);
    CHECK_INT(wh_events_dropped(ev), ==, 0);
    wh_events_free(ev);
}

TEST_TIMEOUT(a_real_control_plane, 120)
{
    const char *path = getenv("BOOTSTRAP_KUBECONFIG");
    if (path == NULL)
        SKIP("no control plane: BOOTSTRAP_KUBECONFIG is not set");
    live l = {0};
    bootstrap(&l, path);
    register_node(&l);
    wh_lease_options lease_options = {.node_name = NODE,
                                      .node_uid = l.last_uid,
                                      .interval = 500 * WH_MSEC,
                                      .on_renewed = on_renewed,
                                      .on_error = on_error,
                                      .user = &l};
    wh_lease *lease = wh_lease_start(l.kube, &lease_options);
    until(&l, &l.renewed, 3, 20, "lease");
    char *ips[] = {(char[]){"10.1.2.3"}, NULL};
    auto_free char *file = wh_path_join(l.folder, "serving.pem");
    wh_cert_options o = {.kind = WH_CERT_SERVING,
                         .node_name = NODE,
                         .file = file,
                         .ips = ips,
                         .on_certificate = on_serving,
                         .on_error = on_error,
                         .user = &l};
    CHECK_OK(wh_cert_start(l.loop, l.kube, &o, &l.serving, NULL), NULL);
    watch_pods(&l);
    record_events(&l);
    watch_many(&l);
    read_what_is_not_ours(&l);
    check_rights(&l);
    until(&l, &l.servings, 1, 30, "serving certificate");
    watch_objects(&l);
    wh_lease_free(lease);
    wh_cert_free(l.client);
    wh_cert_free(l.serving);
    wh_kube_free(l.kube);
    wh_kube_free(l.bootstrap);
    wh_loop_free(l.loop);
    wh_kubeconfig_done(&l.config);
    free(l.last_uid);
    CHECK_OK(wh_rm_rf(AT_FDCWD, l.folder, NULL), NULL);
}
