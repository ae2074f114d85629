/* SPDX-License-Identifier: Apache-2.0 */
#include "base/limits.h"
#include "pod/env.h"
#include "pods.h"

static json_t *objects(void)
{
    return yaml("- {apiVersion: v1, kind: ConfigMap, metadata: {name: cm, "
                "namespace: shop}, data: {a: '1', b-c: two, bad=key: x}}\n"
                "- {apiVersion: v1, kind: Secret, metadata: {name: s, "
                "namespace: shop}, data: {pw: '/v8=', nul: YQBi, bad: '%'}}\n");
}

static const char *env_of(wh_strv env, const char *name)
{
    size_t n = strlen(name);
    const char *found = NULL;
    for (size_t i = 0; env[i] != NULL; i++)
        if (strncmp(env[i], name, n) == 0 && env[i][n] == '=') {
            CHECK(found == NULL);
            found = env[i] + n + 1;
        }
    return found;
}

static wh_strv build(const char *rest, const json_t *services, char *const *image_env)
{
    auto_json json_t *list = objects();
    auto_pod_spec wh_pod_spec *spec = pod(rest);
    const wh_resolver resolver = {.get = resolve, .user = list};
    const wh_pod_facts facts = {.node_name = "n1",
                                .host_ip = "10.0.0.1",
                                .pod_ips = {"10.1.0.2"},
                                .cpu_millis = 4000,
                                .memory_bytes = 1 << 30,
                                .ephemeral_bytes = 5};
    wh_strv env = NULL;
    wh_err err = {0};
    CHECK_OK(wh_env_build(&(wh_env_input){.spec = spec,
                                          .facts = &facts,
                                          .resolver = &resolver,
                                          .services = services,
                                          .image_env = image_env},
                          &env, &err),
             &err);
    return env;
}

static void refused(const char *rest, int code, const char *part)
{
    auto_json json_t *list = objects();
    auto_pod_spec wh_pod_spec *spec = pod(rest);
    const wh_resolver resolver = {.get = resolve, .user = list};
    wh_strv env = NULL;
    wh_err err = {0};
    CHECK_ERR(wh_env_build(&(wh_env_input){.spec = spec, .resolver = &resolver}, &env, &err), code, &err,
              part);
    CHECK(env == NULL);
}

#define ENV(list)                                                                              \
    "spec:\n  containers:\n  - name: c\n    image: i\n    resources: {limits: {cpu: 1500m}}\n" \
    "    env: " list "\n"

TEST(expansion)
{
    char *env[] = {(char[]){"A=1"}, (char[]){"B=$(A)"}, (char[]){"A=2"}, (char[]){"odd"}, NULL};
    static const struct {
        const char *text, *result;
    } rows[] = {{"", ""},         {"x$(A)y", "x2y"},   {"$(B)", "$(A)"}, {"$$(A)", "$(A)"},
                {"$$$(A)", "$2"}, {"$(NO)", "$(NO)"},  {"$(A", "$(A"},   {"$A", "$A"},
                {"$", "$"},       {"$$", "$"},         {"$()", "$()"},   {"$(A)$(A)", "22"},
                {"a$", "a$"},     {"$(odd)", "$(odd)"}};
    for (size_t i = 0; i < WH_ARRAY_LEN(rows); i++) {
        auto_free char *out = NULL;
        wh_err err = {0};
        CHECK_OK(wh_env_expand(rows[i].text, env, 100, false, &out, &err), &err);
        CHECK_STR(out, rows[i].result);
    }
    char *out = NULL;
    wh_err err = {0};
    CHECK_ERR(wh_env_expand("$(NO)", env, 100, true, &out, &err), -EINVAL, &err, "no variable of that name");
    CHECK_ERR(wh_env_expand("$(A)$(A)x", env, 2, false, &out, &err), -E2BIG, &err,
              "expands to more than 2 bytes");
    CHECK(out == NULL);
}

TEST(order_and_references)
{
    char *image[] = {(char[]){"PATH=/bin"}, (char[]){"A=image"}, NULL};
    auto_strv wh_strv env =
        build("spec:\n  containers:\n  - name: c\n    image: i\n    resources: {limits: {cpu: 1500m}}\n"
              "    envFrom: [{prefix: P_, configMapRef: {name: cm}}, {configMapRef: {name: none, "
              "optional: true}}, "
              "{configMapRef: {name: cm}}]\n"
              "    env:\n    - {name: A, value: 'pre $(P_a)'}\n    - {name: B, value: '$(A)/$(LATER)'}\n"
              "    - {name: LATER, value: x}\n    - {name: K, valueFrom: {configMapKeyRef: {name: cm, "
              "key: b-c}}}\n"
              "    - {name: O, valueFrom: {secretKeyRef: {name: cm, key: zz, optional: true}}}\n"
              "    - {name: S, valueFrom: {secretKeyRef: {name: s, key: pw}}}\n"
              "    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}\n"
              "    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}\n"
              "    - {name: L, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['tier']\"}}}\n"
              "    - {name: NL, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['no']\"}}}\n"
              "    - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}\n"
              "    - {name: MCPU, valueFrom: {resourceFieldRef: {resource: requests.cpu, divisor: 1m}}}\n"
              "    - {name: MEM, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}\n",
              NULL, image);
    static const struct {
        const char *name, *value;
    } rows[] = {{"PATH", "/bin"},        {"P_a", "1"},   {"P_b-c", "two"},
                {"b-c", "two"},          {"a", "1"},     {"A", "pre 1"},
                {"B", "pre 1/$(LATER)"}, {"LATER", "x"}, {"K", "two"},
                {"S", "\xfe\xff"},       {"NODE", "n1"}, {"IP", "10.1.0.2"},
                {"L", "front"},          {"NL", ""},     {"CPU", "2"},
                {"MCPU", "1500"},        {"MEM", "1024"}};
    for (size_t i = 0; i < WH_ARRAY_LEN(rows); i++)
        CHECK_STR(env_of(env, rows[i].name), rows[i].value);
    CHECK(env_of(env, "O") == NULL);
    CHECK_INT(wh_strv_len(env), ==, WH_ARRAY_LEN(rows));
}

TEST(what_is_missing)
{
    refused(ENV("[{name: A, valueFrom: {configMapKeyRef: {name: cm, key: zz}}}]"), -ENOENT,
            "couldn't find key zz in ConfigMap shop/cm");
    refused(ENV("[{name: A, valueFrom: {configMapKeyRef: {name: none, key: zz}}}]"), -ENOENT,
            "configmap \"none\" not found");
    refused(ENV("[{name: A, valueFrom: {secretKeyRef: {name: later, "
                "key: zz, optional: true}}}]"),
            -EAGAIN, "not known yet");
    refused(ENV("[{name: A, valueFrom: {secretKeyRef: {name: s, key: nul}}}]"), -EINVAL, "NUL byte");
    refused(ENV("[{name: A, valueFrom: {secretKeyRef: {name: s, key: bad}}}]"), -EBADMSG, "not base64");
    refused(ENV("[{name: A, "
                "valueFrom: {fieldRef: {fieldPath: status.podIP}}}]"),
            -EAGAIN, "not known yet");
}

TEST(an_environment_has_a_size)
{
    auto_buf wh_buf b = {0};
    wh_buf_init(&b, 1 << 16);
    wh_buf_puts(&b, "[{name: A0, value: 0123456789abcdef0123456789abcdef0123456789abcdef}");
    for (int i = 1; i < 30; i++)
        wh_buf_printf(&b, ", {name: A%d, value: '$(A%d)$(A%d)'}", i, i - 1, i - 1);
    auto_free char *text = wh_xasprintf(ENV("%s]"), wh_buf_str(&b));
    refused(text, -E2BIG, "larger than 1048576 bytes");
}

TEST(service_variables)
{
    auto_json json_t *services =
        yaml("- {metadata: {name: kubernetes, namespace: default}, spec: {clusterIP: 10.0.0.1, "
             "ports: [{name: https, port: 443}]}}\n"
             "- {metadata: {name: red-db, namespace: shop}, spec: {clusterIP: 10.0.0.9, "
             "ports: [{port: 1, protocol: UDP}, {port: 2}]}}\n"
             "- {metadata: {name: headless, namespace: shop}, spec: {clusterIP: None, ports: [{port: 1}]}}\n"
             "- {metadata: {name: other, namespace: elsewhere}, spec: {clusterIP: 10.0.0.8, "
             "ports: [{port: 1}]}}\n");
    auto_strv wh_strv env =
        build(ENV("[{name: U, value: '$(RED_DB_SERVICE_HOST)'}, {name: KUBERNETES_PORT, value: mine}]"),
              services, NULL);
    static const struct {
        const char *name, *value;
    } rows[] = {{"U", "10.0.0.9"},
                {"KUBERNETES_PORT", "mine"},
                {"KUBERNETES_SERVICE_HOST", "10.0.0.1"},
                {"KUBERNETES_SERVICE_PORT", "443"},
                {"KUBERNETES_SERVICE_PORT_HTTPS", "443"},
                {"KUBERNETES_PORT_443_TCP", "tcp://10.0.0.1:443"},
                {"KUBERNETES_PORT_443_TCP_PROTO", "tcp"},
                {"KUBERNETES_PORT_443_TCP_PORT", "443"},
                {"KUBERNETES_PORT_443_TCP_ADDR", "10.0.0.1"},
                {"RED_DB_PORT", "udp://10.0.0.9:1"},
                {"RED_DB_PORT_2_TCP_ADDR", "10.0.0.9"}};
    for (size_t i = 0; i < WH_ARRAY_LEN(rows); i++)
        CHECK_STR(env_of(env, rows[i].name), rows[i].value);
    CHECK(env_of(env, "HEADLESS_SERVICE_HOST") == NULL);
    CHECK(env_of(env, "OTHER_SERVICE_HOST") == NULL);
    auto_strv wh_strv alone =
        build("spec:\n  enableServiceLinks: false\n  containers: [{name: c, image: i}]\n", services, NULL);
    CHECK(env_of(alone, "RED_DB_SERVICE_HOST") == NULL);
    CHECK_STR(env_of(alone, "KUBERNETES_SERVICE_HOST"), "10.0.0.1");
}

TEST(arguments)
{
    char *entry[] = {(char[]){"entry"}, (char[]){"$$(A)"}, NULL}, *cmd[] = {(char[]){"cmd"}, NULL};
    char *env[] = {(char[]){"A=1"}, NULL};
    static const struct {
        const char *rest, *result;
    } rows[] = {{"", "entry|$$(A)|cmd"},
                {", args: [x$(A)]", "entry|$$(A)|x1"},
                {", command: ['$(A)']", "1"},
                {", command: [run], args: ['$$(A)', '$(NO)']", "run|$(A)|$(NO)"}};
    for (size_t i = 0; i < WH_ARRAY_LEN(rows); i++) {
        auto_free char *text = wh_xasprintf("spec: {containers: [{name: c, image: i%s}]}\n", rows[i].rest);
        auto_pod_spec wh_pod_spec *spec = pod(text);
        auto_strv wh_strv argv = NULL;
        auto_buf wh_buf joined = {0};
        wh_err err = {0};
        wh_buf_init(&joined, 1000);
        CHECK_OK(wh_env_argv(&spec->containers[0], env, entry, cmd, &argv, &err), &err);
        for (size_t k = 0; argv[k] != NULL; k++)
            wh_buf_printf(&joined, "%s%s", k > 0 ? "|" : "", argv[k]);
        CHECK_STR(wh_buf_str(&joined), rows[i].result);
    }
    auto_pod_spec wh_pod_spec *spec = pod("spec: {containers: [{name: c, image: i}]}\n");
    auto_strv wh_strv argv = NULL;
    CHECK_OK(wh_env_argv(&spec->containers[0], NULL, NULL, NULL, &argv, NULL), NULL);
    CHECK_INT(wh_strv_len(argv), ==, 0);
}

TEST(maps_as_text)
{
    auto_pod_spec wh_pod_spec *spec =
        pod("  annotations: {b: \"l1\\nl2\", a: 'q\"\\'}\nspec: {containers: [{name: c, image: i}]}\n");
    auto_free char *labels = NULL, *annotations = NULL;
    const wh_field_source l = {.field_path = "metadata.labels"}, a = {.field_path = "metadata.annotations"};
    CHECK_OK(wh_field_value(spec, 0, &l, NULL, &labels, NULL), NULL);
    CHECK_OK(wh_field_value(spec, 0, &a, NULL, &annotations, NULL), NULL);
    CHECK_STR(labels, "app=\"web\"\ntier=\"front\"");
    CHECK_STR(annotations, "a=\"q\\\"\\\\\"\nb=\"l1\\nl2\"");
}
