/* SPDX-License-Identifier: Apache-2.0 */
/* Probes: parsed, driven by a virtual clock, and what their results do to a pod. */
#include "drive.h"

#include "pod/serve.h"

#define WITH(fields)                                                                                       \
    "spec:\n  containers:\n  - {name: c, image: 'a/b:1', ports: [{name: web, containerPort: 8080}]" fields \
    "}\n"

static const wh_probe_spec every_10 = {.action = WH_PROBE_TCP,
                                       .port = 80,
                                       .period = 10 * WH_SEC,
                                       .timeout = WH_SEC,
                                       .successes = 1,
                                       .failures = 3};

static void check_due(wh_probes *p, wh_time now, int kind, wh_time next)
{
    wh_time at;
    CHECK_INT(wh_probes_due(p, now, &at), ==, kind);
    CHECK_INT(at, ==, next);
}

TEST(probes_are_read_with_the_defaults_of_kubernetes)
{
    auto_pod_spec wh_pod_spec *spec = pod(WITH(
        ", readinessProbe: {httpGet: {path: /ok, port: web, httpHeaders: [{name: X, value: z}]}},"
        " livenessProbe: {tcpSocket: {port: 81, host: 10.0.0.1}, initialDelaySeconds: 5, periodSeconds: 2,"
        " timeoutSeconds: 3, failureThreshold: 4, terminationGracePeriodSeconds: 7}"));
    const wh_probe_spec *ready = &spec->containers[0].probes[WH_PROBE_READINESS],
                        *live = &spec->containers[0].probes[WH_PROBE_LIVENESS];
    CHECK_INT(ready->action, ==, WH_PROBE_HTTP);
    CHECK_STR(ready->path, "/ok");
    CHECK_INT(ready->port, ==, 8080);
    CHECK_INT(json_array_size(ready->headers), ==, 1);
    CHECK_INT(ready->initial_delay, ==, 0);
    CHECK_INT(ready->period, ==, 10 * WH_SEC);
    CHECK_INT(ready->timeout, ==, WH_SEC);
    CHECK_INT(ready->successes, ==, 1);
    CHECK_INT(ready->failures, ==, 3);
    CHECK_INT(ready->grace_s, ==, -1);
    CHECK_INT(live->action, ==, WH_PROBE_TCP);
    CHECK_STR(live->host, "10.0.0.1");
    CHECK_INT(live->port, ==, 81);
    CHECK_INT(live->initial_delay, ==, 5 * WH_SEC);
    CHECK_INT(live->period, ==, 2 * WH_SEC);
    CHECK_INT(live->timeout, ==, 3 * WH_SEC);
    CHECK_INT(live->failures, ==, 4);
    CHECK_INT(live->grace_s, ==, 7);
    CHECK_INT(spec->containers[0].probes[WH_PROBE_STARTUP].action, ==, WH_PROBE_NONE);
    CHECK_INT(wh_strv_len(spec->remarks), ==, 0);
}

TEST(probes_that_cannot_be_acted_on)
{
    auto_pod_spec wh_pod_spec *spec = pod(WITH(", livenessProbe: {exec: {command: [x]}}"));
    CHECK_INT(spec->containers[0].probes[WH_PROBE_LIVENESS].action, ==, WH_PROBE_NONE);
    CHECK_CONTAINS(spec->remarks[0], "no second process");
    auto_pod_spec wh_pod_spec *tls = pod(WITH(", livenessProbe: {httpGet: {port: 443, scheme: HTTPS}}"));
    CHECK_INT(tls->containers[0].probes[WH_PROBE_LIVENESS].action, ==, WH_PROBE_TCP);
    CHECK_CONTAINS(tls->remarks[0], "only connect");
    bad_pod(WITH(", livenessProbe: {httpGet: {port: none}}"), -EINVAL, "no port 'none'");
    bad_pod(WITH(", livenessProbe: {httpGet: {port: 0}}"), -EINVAL, "port");
    bad_pod(WITH(", livenessProbe: {httpGet: {port: 65536}}"), -EINVAL, "port");
    bad_pod(WITH(", livenessProbe: {periodSeconds: 1}"), -EINVAL, "one of httpGet");
    bad_pod(WITH(", livenessProbe: {tcpSocket: {port: 1}, successThreshold: 2}"), -EINVAL, "must be 1");
    bad_pod(WITH(", readinessProbe: {httpGet: {port: 1, path: \"/a\\r\\nX: y\"}}"), -EINVAL, "not a path");
    bad_pod(WITH(", readinessProbe: {httpGet: {port: 1, httpHeaders: [{name: \"a\\n\", value: b}]}}"),
            -EINVAL, "not a header");
}

TEST(readiness_follows_its_thresholds)
{
    wh_probe_spec specs[WH_PROBE_KINDS] = {[WH_PROBE_READINESS] = every_10};
    wh_probes p;
    specs[WH_PROBE_READINESS].initial_delay = 5 * WH_SEC;
    specs[WH_PROBE_READINESS].successes = 2;
    wh_probes_begin(&p, specs, false, false, false, T0, T0);
    check_due(&p, T0, -1, T0 + 5 * WH_SEC);
    wh_time now = T0 + 5 * WH_SEC;
    check_due(&p, now, WH_PROBE_READINESS, WH_TIME_NEVER);
    check_due(&p, now, -1, WH_TIME_NEVER); /* under way */
    CHECK(!wh_probes_result(&p, WH_PROBE_READINESS, true, now).changed);
    check_due(&p, now, -1, now + 10 * WH_SEC);
    now += 10 * WH_SEC;
    check_due(&p, now, WH_PROBE_READINESS, WH_TIME_NEVER);
    wh_probe_outcome out = wh_probes_result(&p, WH_PROBE_READINESS, true, now);
    CHECK(out.changed && out.good && !out.restart);
    for (int i = 0; i < 3; i++) {
        now += 10 * WH_SEC;
        check_due(&p, now, WH_PROBE_READINESS, WH_TIME_NEVER);
        out = wh_probes_result(&p, WH_PROBE_READINESS, false, now);
        CHECK_INT(out.changed, ==, i == 2);
        CHECK(!out.restart);
    }
    CHECK(!out.good);
}

TEST(startup_gates_the_others_and_liveness_restarts)
{
    const wh_probe_spec specs[WH_PROBE_KINDS] = {every_10, every_10, every_10};
    wh_probes p;
    wh_time now = T0;
    wh_probes_begin(&p, specs, false, false, false, T0, T0);
    for (int i = 0; i < 2; i++, now += 10 * WH_SEC) {
        check_due(&p, now, WH_PROBE_STARTUP, WH_TIME_NEVER);
        check_due(&p, now, -1, WH_TIME_NEVER);
        CHECK(!wh_probes_result(&p, WH_PROBE_STARTUP, false, now).changed);
    }
    check_due(&p, now, WH_PROBE_STARTUP, WH_TIME_NEVER);
    wh_probe_outcome out = wh_probes_result(&p, WH_PROBE_STARTUP, true, now);
    CHECK(out.changed && out.good);
    check_due(&p, now, WH_PROBE_LIVENESS, WH_TIME_NEVER);
    check_due(&p, now, WH_PROBE_READINESS, WH_TIME_NEVER);
    CHECK(
        !wh_probes_result(&p, WH_PROBE_LIVENESS, true, now).changed); /* it counts as alive from the start */
    CHECK(wh_probes_result(&p, WH_PROBE_READINESS, true, now).good);
    for (int i = 0; i < 3; i++) {
        now += 10 * WH_SEC;
        check_due(&p, now, WH_PROBE_LIVENESS, WH_TIME_NEVER);
        out = wh_probes_result(&p, WH_PROBE_LIVENESS, false, now);
        CHECK_INT(out.restart, ==, i == 2);
    }
    check_due(&p, now + WH_HOUR, -1, WH_TIME_NEVER); /* nothing before the next run */
    /* A late result of the run before is nothing to the next one. */
    wh_probes_begin(&p, specs, false, false, false, now, now);
    check_due(&p, now, WH_PROBE_STARTUP, WH_TIME_NEVER);
    for (int i = 0; i < 3; i++)
        out = wh_probes_result(&p, WH_PROBE_STARTUP, false, now);
    CHECK(out.restart);
}

TEST(a_pod_that_rests_is_probed_until_it_is_ready)
{
    const wh_probe_spec specs[WH_PROBE_KINDS] = {
        [WH_PROBE_LIVENESS] = every_10, [WH_PROBE_READINESS] = every_10};
    wh_probes p;
    wh_probes_begin(&p, specs, true, false, false, T0, T0);
    check_due(&p, T0, WH_PROBE_LIVENESS, WH_TIME_NEVER);
    check_due(&p, T0, WH_PROBE_READINESS, WH_TIME_NEVER);
    wh_probes_result(&p, WH_PROBE_LIVENESS, true, T0);
    CHECK(wh_probes_result(&p, WH_PROBE_READINESS, true, T0).good);
    check_due(&p, T0 + WH_HOUR, -1, WH_TIME_NEVER);
}

/* ---- what it does to a pod ---- */

static const char *probed(drive *d, wh_probe_kind kind, bool good, unsigned attempt)
{
    return step(d,
                (wh_pod_event){
                    .type = WH_POD_PROBED, .probe = kind, .good = good, .attempt = attempt, .grace_s = -1});
}

TEST(readiness_is_the_pods_condition)
{
    auto_drive drive d = {0};
    begin_running(&d, WITH(", readinessProbe: {tcpSocket: {port: 80}}"));
    CHECK(!life(&d, 0)->ready);
    CHECK(life(&d, 0)->healthy);
    CHECK(!condition(&d, "Ready").status);
    probed(&d, WH_PROBE_READINESS, true, 0);
    CHECK(d.status);
    CHECK(condition(&d, "Ready").status);
    reborn(&d);
    step(&d, (wh_pod_event){.type = WH_POD_ADOPT, .adopt = WH_ADOPT_RUNNING, .pid = 100, .started = d.now});
    simple(&d, WH_POD_ADOPTED);
    CHECK(condition(&d, "Ready").status); /* it stays ready over a restart of the agent */
    probed(&d, WH_PROBE_READINESS, false, 0);
    CHECK(!condition(&d, "Ready").status);
    probed(&d, WH_PROBE_READINESS, true, 7); /* of another run */
    CHECK(!condition(&d, "Ready").status);
}

TEST(a_container_that_is_not_alive_is_stopped_and_started_again)
{
    auto_drive drive d = {0};
    begin_running(&d, WITH(", livenessProbe: {tcpSocket: {port: 80}}"));
    CHECK(condition(&d, "Ready").status);
    step(&d, (wh_pod_event){.type = WH_POD_UNHEALTHY, .probe = WH_PROBE_LIVENESS, .message = "refused"});
    CHECK_STR(d.said, "Unhealthy!");
    CHECK_STR(probed(&d, WH_PROBE_LIVENESS, false, 0), "stop 0.0");
    CHECK_STR(d.said, "Killing");
    CHECK_STR(probed(&d, WH_PROBE_LIVENESS, false, 0), "");
    CHECK_STR(tick_at(&d, d.now + 30 * WH_SEC), "kill 0.0");
    CHECK_STR(exits(&d, 0, 0, 137), "start 0.1");
    CHECK_INT(life(&d, 0)->attempt, ==, 1);
    runs(&d, 0, 1);
    CHECK_STR(probed(&d, WH_PROBE_LIVENESS, false, 1), "stop 0.1");
    CHECK_STR(exits(&d, 0, 1, 143), "");
    CHECK_STR(life(&d, 0)->reason, "CrashLoopBackOff");
}

TEST(a_startup_probe_holds_readiness_back)
{
    auto_drive drive d = {0};
    begin_running(&d, WITH(", startupProbe: {tcpSocket: {port: 80}}"));
    CHECK(!condition(&d, "Ready").status);
    CHECK(!life(&d, 0)->healthy);
    probed(&d, WH_PROBE_STARTUP, true, 0);
    CHECK(condition(&d, "Ready").status);
    CHECK(life(&d, 0)->healthy);
}

/* ---- wherry.dev annotations ---- */

static int parse_serve(const char *annotations, wh_pod_serve *ret, wh_err *err)
{
    auto_free char *text = wh_xasprintf(
        "metadata:\n  name: web\n  namespace: shop\n  annotations: {%s}\n" ONE("Always"), annotations);
    auto_json json_t *object = yaml(text);
    auto_pod_spec wh_pod_spec *spec = NULL;
    CHECK_OK(wh_pod_spec_parse(object, &spec, NULL, err), err);
    int rc = wh_pod_serve_parse(spec, ret, err);
    ret->tls_secret = ret->egress = NULL; /* they point into the object */
    return rc;
}

TEST(annotations_say_how_a_pod_is_served)
{
    wh_pod_serve s = {0};
    wh_err err = {0};
    CHECK_OK(parse_serve("", &s, &err), &err);
    CHECK_INT(s.mode, ==, WH_POD_SERVE_AUTO);
    CHECK_INT(s.reuse, ==, 1);
    CHECK_INT(s.idle, ==, 0);
    CHECK_OK(parse_serve("wherry.dev/serve: wagi, wherry.dev/reuse: '128', wherry.dev/idle: 30s, "
                         "wherry.dev/concurrency: '8', wherry.dev/queue: '9', wherry.dev/queue-timeout: 2s, "
                         "wherry.dev/timeout: 1m, wherry.dev/network: isolated",
                         &s, &err),
             &err);
    CHECK_INT(s.mode, ==, WH_POD_SERVE_WAGI);
    CHECK_INT(s.reuse, ==, 128);
    CHECK_INT(s.idle, ==, 30 * WH_SEC);
    CHECK_INT(s.at_once, ==, 8);
    CHECK_INT(s.queue, ==, 9);
    CHECK_INT(s.queue_time, ==, 2 * WH_SEC);
    CHECK_INT(s.time, ==, WH_MINUTE);
    CHECK(s.isolated);
    CHECK_OK(parse_serve("wherry.dev/concurrency: '4096'", &s, &err), &err);
}

TEST(annotations_that_say_nothing_usable)
{
    static const char *const bad[] = {
        "wherry.dev/serve: http",         "wherry.dev/reuse: '0'",     "wherry.dev/reuse: many",
        "wherry.dev/idle: '30'",          "wherry.dev/idle: 10ms",     "wherry.dev/idle: 25h",
        "wherry.dev/concurrency: '4097'", "wherry.dev/queue: '65537'", "wherry.dev/network: none",
        "wherry.dev/timeout: -1s",
    };
    for (size_t i = 0; i < WH_ARRAY_LEN(bad); i++) {
        wh_pod_serve s = {.reuse = 77};
        wh_err err = {0};
        CHECK_ERR(parse_serve(bad[i], &s, &err), -EINVAL, &err, "annotation 'wherry.dev/");
        CHECK_INT(s.reuse, ==, 77);
    }
}
