/* SPDX-License-Identifier: Apache-2.0 */
#include "pods.h"

#include <signal.h>

TEST(quantities)
{
    static const struct {
        const char *text;
        int64_t units, millis;
    } good[] = {{"0", 0, 0},
                {"1", 1, 1000},
                {"100m", 1, 100},
                {"1.5", 2, 1500},
                {".5", 1, 500},
                {"5.", 5, 5000},
                {"1k", 1000, 1000000},
                {"1Ki", 1024, 1024000},
                {"64Mi", 64 << 20, (int64_t)(64 << 20) * 1000},
                {"1.5Gi", (int64_t)1536 << 20, ((int64_t)1536 << 20) * 1000},
                {"1e3", 1000, 1000000},
                {"1E3", 1000, 1000000},
                {"2e-3", 1, 2},
                {"12E", (int64_t)INT64_MAX, INT64_MAX},
                {"1E", (int64_t)1000000000000000000, INT64_MAX},
                {"100n", 1, 1},
                {"0.1n", 1, 1},
                {"1e1000", INT64_MAX, INT64_MAX},
                {"0e1000", 0, 0},
                {"1e-1000", 1, 1},
                {"+3", 3, 3000},
                {"-3", -3, -3000},
                {"000128974848", 128974848, 128974848000},
                {"9223372036854775807", INT64_MAX, INT64_MAX},
                {"99999999999999999999999999", INT64_MAX, INT64_MAX},
                {"1.0000000000000000000000000000001", 2, 1001}};
    for (size_t i = 0; i < WH_ARRAY_LEN(good); i++) {
        wh_quantity q = {0};
        wh_err err = {0};
        CHECK_OK(wh_quantity_parse(good[i].text, &q, &err), &err);
        CHECK(q.set);
        CHECK_INT(wh_quantity_units(q), ==, good[i].units);
        CHECK_INT(wh_quantity_millis(q), ==, good[i].millis);
    }
    static const char *const bad[] = {"",    ".",     "m",  "1mi",   "1 Gi", " 1",  "1 ",
                                      "--1", "1.2.3", "1e", "1e+-3", "0x10", "1KiB"};
    for (size_t i = 0; i < WH_ARRAY_LEN(bad); i++) {
        wh_quantity q = {0};
        wh_err err = {0};
        CHECK_ERR(wh_quantity_parse(bad[i], &q, &err), -EINVAL, &err, "is not a quantity");
        CHECK(!q.set);
    }
}

TEST(divisors)
{
    wh_quantity q = {0}, by = {0};
    CHECK_OK(wh_quantity_parse("1500m", &q, NULL), NULL);
    CHECK_INT(wh_quantity_divide(q, by), ==, 2);
    CHECK_OK(wh_quantity_parse("1m", &by, NULL), NULL);
    CHECK_INT(wh_quantity_divide(q, by), ==, 1500);
    CHECK_OK(wh_quantity_parse("64Mi", &q, NULL), NULL);
    CHECK_OK(wh_quantity_parse("1Mi", &by, NULL), NULL);
    CHECK_INT(wh_quantity_divide(q, by), ==, 64);
}

#define FULL                                                                                            \
    "spec:\n  restartPolicy: OnFailure\n  activeDeadlineSeconds: 60\n"                                  \
    "  terminationGracePeriodSeconds: 5\n"                                                              \
    "  hostname: front\n  nodeName: n1\n  serviceAccountName: bot\n  imagePullSecrets: [{name: reg}]\n" \
    "  securityContext: {runAsUser: 1000, fsGroup: 2000, runAsNonRoot: true}\n"                         \
    "  initContainers:\n"                                                                               \
    "  - {name: setup, image: a/b@sha256:00, command: [setup]}\n"                                       \
    "  - {name: log, image: 'a/log:latest', restartPolicy: Always}\n"                                   \
    "  containers:\n"                                                                                   \
    "  - name: main\n    image: a/b:1\n    command: [run, $(X)]\n    args: ['1']\n"                     \
    "    env: [{name: X, value: z}, {name: P, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]\n"    \
    "    envFrom: [{prefix: C_, configMapRef: {name: cm, optional: true}}]\n"                           \
    "    ports: [{containerPort: 80, name: http}]\n"                                                    \
    "    resources: {limits: {cpu: 500m, memory: 64Mi}, requests: {cpu: 0.1}}\n"                        \
    "    volumeMounts: [{name: data, mountPath: /data, subPath: in}, "                                  \
    "{name: cfg, mountPath: /etc/cfg, readOnly: true}]\n"                                               \
    "    terminationMessagePolicy: FallbackToLogsOnError\n    lifecycle: {stopSignal: SIGINT}\n"        \
    "    livenessProbe: {httpGet: {port: 80}}\n"                                                        \
    "    futureField: {kept: true}\n"                                                                   \
    "  volumes:\n  - {name: data, emptyDir: {medium: Memory, sizeLimit: 1Mi}}\n"                        \
    "  - {name: cfg, projected: {defaultMode: 256, sources: [{configMap: {name: cm, "                   \
    "items: [{key: a, path: d/a, mode: 292}]}}, "                                                       \
    "{serviceAccountToken: {path: token, expirationSeconds: 700}}, "                                    \
    "{downwardAPI: {items: [{path: l, fieldRef: {fieldPath: "                                           \
    "metadata.labels}}]}}]}}\n  - {name: none}\n"

TEST(a_pod_with_everything)
{
    auto_pod_spec wh_pod_spec *spec = pod(FULL);
    CHECK_STR(spec->name, "web");
    CHECK_STR(spec->namespace_, "shop");
    CHECK_INT(spec->restart, ==, WH_RESTART_ON_FAILURE);
    CHECK_INT(spec->active_deadline_s, ==, 60);
    CHECK_INT(spec->grace_s, ==, 5);
    CHECK_STR(spec->pull_secrets[0], "reg");
    CHECK_INT(spec->fs_group, ==, 2000);
    CHECK_INT(spec->n_containers, ==, 3);
    CHECK_INT(spec->n_init, ==, 2);
    const wh_container_spec *setup = &spec->containers[0], *log = &spec->containers[1],
                            *c = &spec->containers[2];
    CHECK_INT(setup->role, ==, WH_ROLE_INIT);
    CHECK_INT(setup->pull_policy, ==, WH_PULL_POLICY_IF_NOT_PRESENT);
    CHECK_INT(log->role, ==, WH_ROLE_SIDECAR);
    CHECK_INT(log->restart, ==, WH_RESTART_ALWAYS);
    CHECK_INT(log->pull_policy, ==, WH_PULL_POLICY_ALWAYS);
    CHECK_STR(c->command[1], "$(X)");
    CHECK(c->command[2] == NULL);
    CHECK_INT(c->env[1].kind, ==, WH_ENV_FIELD);
    CHECK_STR(c->env_from[0].prefix, "C_");
    CHECK_INT(c->ports[0].container_port, ==, 80);
    CHECK_STR(c->ports[0].protocol, "TCP");
    CHECK_INT(wh_quantity_millis(c->resources.limits.cpu), ==, 500);
    CHECK_INT(wh_quantity_millis(c->resources.requests.cpu), ==, 100);
    CHECK_INT(wh_quantity_units(c->resources.requests.memory), ==, 64 << 20);
    CHECK_STR(c->mounts[0].sub_path, "in");
    CHECK(c->mounts[1].read_only);
    CHECK_INT(c->mounts[1].volume_index, ==, 1);
    CHECK(c->termination_from_log);
    CHECK_INT(c->stop_signal, ==, SIGINT);
    CHECK_INT(c->run_as_user, ==, 1000);
    CHECK_INT(c->probes[WH_PROBE_LIVENESS].action, ==, WH_PROBE_HTTP);
    CHECK_INT(c->probes[WH_PROBE_LIVENESS].period, ==, 10 * WH_SEC);
    CHECK_INT(c->probes[WH_PROBE_READINESS].action, ==, WH_PROBE_NONE);
    CHECK_INT(wh_strv_len(spec->remarks), ==, 0);
    CHECK(spec->volumes[0].memory);
    CHECK_INT(wh_quantity_units(spec->volumes[0].size_limit), ==, 1 << 20);
    CHECK_INT(spec->volumes[1].n_sources, ==, 3);
    CHECK(spec->volumes[1].secret);
    CHECK_INT(spec->volumes[1].sources[0].items[0].mode, ==, 0444);
    CHECK_INT(spec->volumes[1].sources[1].token_seconds, ==, 700);
    CHECK_INT(spec->volumes[2].kind, ==, WH_VOLUME_EMPTY_DIR);
    CHECK(wh_json_bool(json_array_get(wh_json_at(spec->object, "spec.containers"), 0), "futureField.kept",
                       false));
    CHECK_INT(wh_pod_spec_find(spec, "main"), ==, 2);
    CHECK_FAIL(wh_pod_spec_find(spec, "nobody"), -ENOENT);
}

#define ONE "spec:\n  containers:\n  - name: c\n    image: i\n"

TEST(defaults)
{
    auto_pod_spec wh_pod_spec *spec = pod(ONE);
    auto_free char *hostname = wh_pod_hostname(spec);
    CHECK_STR(hostname, "web");
    CHECK_INT(spec->restart, ==, WH_RESTART_ALWAYS);
    CHECK_INT(spec->grace_s, ==, 30);
    CHECK_STR(spec->containers[0].termination_path, "/dev/termination-log");
    CHECK_INT(spec->containers[0].pull_policy, ==, WH_PULL_POLICY_ALWAYS);
    CHECK_INT(spec->containers[0].stop_signal, ==, SIGTERM);
    CHECK(spec->containers[0].command == NULL);
    CHECK(spec->service_links);
}

TEST(wrong_types_are_named_by_their_path)
{
    bad_pod(ONE "    env: [{name: A, value: '1'}, {name: B, value: '1'}, {name: C, value: 5}]\n", -EINVAL,
            "spec.containers[0].env[2].value: expected a string, found a number: put it in quotes.");
    bad_pod(ONE "    args: x\n", -EINVAL, "spec.containers[0].args: expected a list, found a string.");
    bad_pod(ONE "    args: [1]\n", -EINVAL,
            "spec.containers[0].args[0]: expected a string, "
            "found a number");
    bad_pod(ONE "    args: [~]\n", -EINVAL,
            "spec.containers[0].args[0]: expected a string, "
            "found null");
    bad_pod(ONE "    ports: [{containerPort: '80'}]\n", -EINVAL,
            "containerPort: expected a whole number, found a string");
    bad_pod(ONE "    ports: [{containerPort: 65536}]\n", -EINVAL, "65536 is not within 1 and 65535");
    bad_pod(ONE "    stdin: 'yes'\n", -EINVAL, "stdin: expected a boolean, found a string");
    bad_pod(ONE "    resources: {limits: {cpu: lots}}\n", -EINVAL,
            "resources.limits.cpu: 'lots' is not a quantity");
    bad_pod(ONE "    resources: {limits: {cpu: -1}}\n", -EINVAL, "below zero");
    bad_pod(ONE "    resources: {limits: {cpu: 1}, requests: {cpu: 2}}\n", -EINVAL,
            "requests.cpu: is above the limit");
    bad_pod("spec: 5\n", -EINVAL, "spec: expected an object, found a number");
    bad_pod("spec: {}\n", -EINVAL, "spec.containers: needs at least one container");
    bad_pod("spec:\n  containers: [{image: i}]\n", -EINVAL, "spec.containers[0].name: is required");
    bad_pod("spec:\n  containers: [{name: c}]\n", -EINVAL, "spec.containers[0].image: is required");
    bad_pod("spec:\n  containers: [{name: C_C, image: i}]\n", -EINVAL, "must be at most 63 of a-z");
    bad_pod("spec:\n  containers: [{name: c, image: i}, {name: c, image: i}]\n", -EINVAL,
            "the name 'c' is used twice");
    bad_pod("spec:\n  restartPolicy: Sometimes\n  containers: [{name: c, image: i}]\n", -EINVAL,
            "spec.restartPolicy: 'Sometimes' is none of Always, OnFailure, Never");
    bad_pod(ONE "    env: [{name: A=B, value: x}]\n", -EINVAL, "cannot be the name of a variable");
    bad_pod(ONE "    env: [{name: A, valueFrom: {fieldRef: {fieldPath: spec.secret}}}]\n", -EINVAL,
            "fieldPath: 'spec.secret' is not a field");
    bad_pod(ONE "    env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, "
                "containerName: d}}}]\n",
            -EINVAL, "the pod has no container 'd'");
    bad_pod(ONE "    securityContext: {runAsNonRoot: true, runAsUser: 0}\n", -EINVAL, "contradicts");
}

TEST(mounts_must_fit)
{
    bad_pod(ONE "    volumeMounts: [{name: data, mountPath: /d}]\n", -EINVAL,
            "spec.containers[0].volumeMounts[0].name: the pod has no volume 'data'; add it to spec.volumes.");
    static const char *const bad[] = {"d", "/a/../b", "/a:b", "/..", "/a//b", "/a/./b"};
    for (size_t i = 0; i < WH_ARRAY_LEN(bad); i++) {
        auto_free char *text = wh_xasprintf(
            ONE "    volumeMounts: [{name: v, mountPath: '%s'}]\n  volumes: [{name: v}]\n", bad[i]);
        bad_pod(text, -EINVAL, "mountPath: ");
    }
    static const char *const bad_sub[] = {"../x", "/x", "a/../b", "a//b", "."};
    for (size_t i = 0; i < WH_ARRAY_LEN(bad_sub); i++) {
        auto_free char *text = wh_xasprintf(
            ONE "    volumeMounts: [{name: v, mountPath: /v, subPath: '%s'}]\n  volumes: [{name: v}]\n",
            bad_sub[i]);
        bad_pod(text, -EINVAL, "subPath: ");
    }
    bad_pod(ONE "    volumeMounts: [{name: v, mountPath: /v}, {name: v, mountPath: /v}]\n"
                "  volumes: [{name: v}]\n",
            -EINVAL, "used twice");
    bad_pod(ONE "  volumes: [{name: v, configMap: {name: c, items: [{key: a, path: ../a}]}}]\n", -EINVAL,
            "without '..'");
    bad_pod(ONE "  volumes: [{name: v, emptyDir: {}, hostPath: {path: /x}}]\n", -EINVAL, "is of two kinds");
}

TEST(what_the_node_does_not_do_is_named_at_once)
{
    auto_buf wh_buf why = {0};
    wh_buf_init(&why, 8192);
    wh_err err = {0};
    wh_pod_spec *spec = NULL;
    auto_json json_t *object = yaml(
        POD_HEAD "spec:\n  hostPID: true\n  os: {name: windows}\n  containers:\n  - name: c\n    image: i\n"
                 "    securityContext: {privileged: true}\n    lifecycle: {preStop: {exec: {command: [x]}}}\n"
                 "  volumes: [{name: a, persistentVolumeClaim: {claimName: x}}, {name: b, nfs: {server: s, "
                 "path: /}}, "
                 "{name: h, hostPath: {path: /dev/null, type: CharDevice}}]\n");
    CHECK_FAIL(wh_pod_spec_parse(object, &spec, &why, &err), -EOPNOTSUPP);
    const char *text = wh_buf_str(&why);
    static const char *const parts[] = {"spec.hostPID",
                                        "spec.os.name (windows)",
                                        "spec.volumes[0].persistentVolumeClaim",
                                        "spec.volumes[1].nfs",
                                        "spec.volumes[2].hostPath.type",
                                        "spec.containers[0].securityContext.privileged",
                                        "spec.containers[0].lifecycle.preStop.exec",
                                        "run the pod on another node."};
    for (size_t i = 0; i < WH_ARRAY_LEN(parts); i++)
        CHECK_CONTAINS(text, parts[i]);
}

TEST(too_many_containers)
{
    auto_buf wh_buf b = {0};
    wh_buf_init(&b, 1 << 16);
    wh_buf_puts(&b, "spec:\n  containers:\n");
    for (int i = 0; i < WH_POD_CONTAINERS_MAX; i++)
        wh_buf_printf(&b, "  - {name: c%d, image: i}\n", i);
    auto_pod_spec wh_pod_spec *spec = pod(wh_buf_str(&b));
    CHECK_INT(spec->n_containers, ==, WH_POD_CONTAINERS_MAX);
    wh_buf_puts(&b, "  - {name: last, image: i}\n");
    bad_pod(wh_buf_str(&b), -EINVAL, "the limit is 64");
}

TEST(too_many_volumes)
{
    auto_buf wh_buf b = {0};
    wh_buf_init(&b, 1 << 16);
    wh_buf_puts(&b, ONE "  volumes:\n");
    for (int i = 0; i < WH_POD_VOLUMES_MAX; i++)
        wh_buf_printf(&b, "  - {name: v%d}\n", i);
    auto_pod_spec wh_pod_spec *spec = pod(wh_buf_str(&b));
    CHECK_INT(spec->n_volumes, ==, WH_POD_VOLUMES_MAX);
    wh_buf_puts(&b, "  - {name: last}\n");
    bad_pod(wh_buf_str(&b), -EINVAL, "spec.volumes: 65 entries; the limit is 64");
}

TEST(container_ids)
{
    auto_pod_spec wh_pod_spec *spec = pod(ONE);
    char id[WH_CONTAINER_ID_LEN];
    auto_free char *uid = NULL, *name = NULL;
    unsigned attempt = 0;
    CHECK_STR(wh_container_id(spec, 0, 3, id), "0a1b2c3d-0000-4000-8000-00000000000f.c.3");
    CHECK_OK(wh_container_id_parse(id, &uid, &name, &attempt), NULL);
    CHECK_STR(uid, spec->uid);
    CHECK_STR(name, "c");
    CHECK_INT(attempt, ==, 3);
    static const char *const bad[] = {
        "", "a", "a.b", "a..1", ".b.1", "a.b.", "a.b.x", "a.B.1", "a.b.99999999999", "../x.b.1"};
    for (size_t i = 0; i < WH_ARRAY_LEN(bad); i++)
        CHECK_FAIL(wh_container_id_parse(bad[i], &uid, &name, &attempt), -EINVAL);
}
