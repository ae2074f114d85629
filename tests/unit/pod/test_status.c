/* SPDX-License-Identifier: Apache-2.0 */
#include "drive.h"
#include "pod/resources.h"
#include "pod/status.h"

static const wh_pod_facts facts = {.host_ip = "10.0.0.1", .pod_ips = {"10.1.0.2"}};

static json_t *first(const json_t *status, const char *list)
{
    return json_array_get(wh_json_at(status, list), 0);
}

static const json_t *find_condition(const json_t *status, const char *type)
{
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(status, "conditions"), i, c)
    {
        if (wh_streq(wh_json_str(c, "type"), type))
            return c;
    }
    return NULL;
}

#define POD                                                                                    \
    "  generation: 3\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - name: c\n" \
    "    image: 'a/b:1'\n"                                                                     \
    "    resources: {requests: {cpu: 100m}}\n    volumeMounts: [{name: v, "                    \
    "mountPath: /v, readOnly: true}]\n"                                                        \
    "  volumes: [{name: v}]\n"

TEST(a_waiting_and_a_running_pod)
{
    auto_drive drive d = {0};
    begin(&d, POD);
    auto_json json_t *waiting = wh_status_build(d.lc, &facts);
    CHECK_STR(wh_json_str(waiting, "phase"), "Pending");
    CHECK_STR(wh_json_str(waiting, "qosClass"), "Burstable");
    CHECK_INT(wh_json_int(waiting, "observedGeneration", 0), ==, 3);
    CHECK_STR(wh_json_str(waiting, "startTime"), "2023-11-14T22:13:20Z");
    CHECK_STR(wh_json_str(first(waiting, "podIPs"), "ip"), "10.1.0.2");
    const json_t *c = first(waiting, "containerStatuses");
    CHECK_STR(wh_json_str(c, "state.waiting.reason"), "ContainerCreating");
    CHECK_STR(wh_json_str(c, "imageID"), "");
    CHECK(json_object_get(c, "containerID") == NULL);
    CHECK(json_object_size(wh_json_at(c, "lastState")) == 0);
    CHECK(wh_json_str(waiting, "reason") == NULL);
    simple(&d, WH_POD_VOLUMES_READY);
    image(&d, 0);
    runs(&d, 0, 0);
    auto_json json_t *running = wh_status_build(d.lc, &facts);
    c = first(running, "containerStatuses");
    CHECK_STR(wh_json_str(running, "phase"), "Running");
    CHECK_STR(wh_json_str(c, "containerID"), "wasm://0a1b2c3d-0000-4000-8000-00000000000f.c.0");
    CHECK_STR(wh_json_str(c, "imageID"), "a/b@sha256:00");
    CHECK_STR(wh_json_str(c, "state.running.startedAt"), "2023-11-14T22:13:20Z");
    CHECK(wh_json_bool(c, "ready", false));
    CHECK(wh_json_bool(c, "started", false));
    CHECK_STR(wh_json_str(c, "allocatedResources.cpu"), "100m");
    CHECK_STR(wh_json_str(first(c, "volumeMounts"), "mountPath"), "/v");
    const json_t *ready = find_condition(running, "Ready");
    CHECK_STR(wh_json_str(ready, "status"), "True");
    CHECK_INT(wh_json_int(ready, "observedGeneration", 0), ==, 3);
    CHECK(json_object_get(ready, "reason") == NULL);
}

TEST(a_crash_and_an_end)
{
    auto_drive drive d = {0};
    begin_running(&d, POD);
    step(&d, (wh_pod_event){.type = WH_POD_EXITED,
                            .end = {.exit_code = 137,
                                    .signal = 9,
                                    .reason = "OOMKilled",
                                    .message = "out of memory",
                                    .started = T0,
                                    .finished = T0}});
    runs(&d, 0, 1);
    exits(&d, 0, 1, 1);
    auto_json json_t *status = wh_status_build(d.lc, NULL);
    const json_t *c = first(status, "containerStatuses");
    CHECK_STR(wh_json_str(c, "state.waiting.reason"), "CrashLoopBackOff");
    CHECK_INT(wh_json_int(c, "restartCount", 0), ==, 2);
    CHECK_STR(wh_json_str(c, "lastState.terminated.reason"), "Error");
    CHECK_INT(wh_json_int(c, "lastState.terminated.exitCode", 0), ==, 1);
    CHECK_STR(wh_json_str(c, "lastState.terminated.containerID"),
              "wasm://0a1b2c3d-0000-4000-8000-00000000000f.c.1");
    CHECK(json_object_get(status, "podIP") == NULL);
    step(&d, (wh_pod_event){.type = WH_POD_DELETE, .grace_s = 1});
    auto_json json_t *over = wh_status_build(d.lc, NULL);
    c = first(over, "containerStatuses");
    CHECK_STR(wh_json_str(over, "phase"), "Failed");
    CHECK_INT(wh_json_int(c, "state.terminated.exitCode", 0), ==, 1);
    CHECK_STR(wh_json_str(c, "lastState.terminated.reason"), "OOMKilled");
    CHECK_INT(wh_json_int(c, "lastState.terminated.signal", 0), ==, 9);
    CHECK_INT(wh_json_int(c, "restartCount", 0), ==, 1);
    CHECK_STR(wh_json_str(find_condition(over, "Ready"), "reason"), "PodFailed");
}

TEST(a_patch_replaces_what_would_merge)
{
    auto_drive drive d = {0};
    begin(&d, "status: {podIPs: [{ip: 10.9.9.9}], hostIPs: [{ip: 10.0.0.1}]}\n" ONE("Always"));
    auto_json json_t *patch = wh_status_patch(d.lc, &facts);
    CHECK_STR(wh_json_str(patch, "metadata.uid"), "0a1b2c3d-0000-4000-8000-00000000000f");
    CHECK_STR(wh_json_str(first(patch, "status.podIPs"), "$patch"), "replace");
    CHECK_STR(wh_json_str(first(patch, "status.hostIPs"), "ip"), "10.0.0.1");
    CHECK(json_is_null(json_object_get(wh_json_at(patch, "status"), "reason")));
    const json_t *scheduled = find_condition(wh_json_at(patch, "status"), "PodScheduled");
    CHECK(json_is_null(json_object_get(scheduled, "reason")));
}

TEST(the_whole_pod)
{
    auto_drive drive d = {0};
    begin(&d, "  managedFields: [{}]\n" ONE("Always"));
    auto_json json_t *whole = wh_status_pod(d.lc, &facts);
    CHECK_STR(wh_json_str(whole, "kind"), "Pod");
    CHECK_STR(wh_json_str(whole, "status.phase"), "Pending");
    CHECK(json_object_get(json_object_get(whole, "metadata"), "managedFields") == NULL);
    CHECK(wh_json_at(d.spec->object, "status") == NULL);
}

TEST(init_containers_have_a_list_of_their_own)
{
    auto_drive drive d = {0};
    begin(&d, "spec:\n  restartPolicy: Never\n  initContainers: [{name: i, image: 'x:1'}]\n"
              "  containers: [{name: c, image: 'x:1'}]\n");
    simple(&d, WH_POD_VOLUMES_READY);
    image(&d, 0);
    runs(&d, 0, 0);
    exits(&d, 0, 0, 0);
    auto_json json_t *status = wh_status_build(d.lc, NULL);
    const json_t *i = first(status, "initContainerStatuses");
    CHECK_STR(wh_json_str(i, "state.terminated.reason"), "Completed");
    CHECK(wh_json_bool(i, "ready", false));
    CHECK(!wh_json_bool(i, "started", true));
    CHECK_STR(wh_json_str(first(status, "containerStatuses"), "name"), "c");
}

TEST(long_messages_are_cut)
{
    auto_drive drive d = {0};
    auto_buf wh_buf b = {0};
    wh_buf_init(&b, 20000);
    wh_buf_putc(&b, 'x');
    for (int i = 0; i < 4000; i++)
        wh_buf_puts(&b, "\xC3\xA9");
    begin_running(&d, ONE("Never"));
    step(&d, (wh_pod_event){.type = WH_POD_EXITED, .end = {.exit_code = 1, .message = wh_buf_str(&b)}});
    auto_json json_t *status = wh_status_build(d.lc, NULL);
    const char *message = wh_json_str(first(status, "containerStatuses"), "state.terminated.message");
    CHECK_INT(strlen(message), ==, 4095);
}

TEST(a_pod_that_could_not_be_read)
{
    auto_json json_t *object = yaml("metadata: {name: x, uid: u-1}\n");
    auto_json json_t *patch = wh_status_patch_rejected(object, "PodUnsupported", "no nfs", T0);
    CHECK_STR(wh_json_str(patch, "metadata.uid"), "u-1");
    CHECK_STR(wh_json_str(patch, "status.phase"), "Failed");
    CHECK_STR(wh_json_str(patch, "status.message"), "no nfs");
}

/* ---- resources ---- */

static void classed(const char *containers, wh_qos qos, int adj)
{
    auto_free char *text = wh_xasprintf("spec: {containers: [%s]}\n", containers);
    auto_pod_spec wh_pod_spec *spec = pod(text);
    CHECK_INT(wh_pod_qos(spec), ==, qos);
    CHECK_INT(wh_container_oom_score_adj(spec, 0, (int64_t)1 << 30), ==, adj);
}

TEST(classes_of_service)
{
    classed("{name: a, image: i}", WH_QOS_BEST_EFFORT, 1000);
    classed("{name: a, image: i, resources: {limits: {cpu: 1, memory: 1Gi}}}", WH_QOS_GUARANTEED, -997);
    classed("{name: a, image: i, resources: {limits: {memory: 512Mi}}}", WH_QOS_BURSTABLE, 500);
    classed("{name: a, image: i, resources: {limits: {cpu: 1, memory: 1Gi}}}, {name: b, image: i}",
            WH_QOS_BURSTABLE, 3);
    classed("{name: a, image: i, resources: {requests: {cpu: 1m}}}", WH_QOS_BURSTABLE, 999);
}

TEST(groups_and_limits)
{
    auto_pod_spec wh_pod_spec *spec =
        pod("spec:\n  overhead: {cpu: 10m}\n  initContainers:\n"
            "  - {name: i, image: i, resources: {requests: {cpu: 2, memory: 1Ki}}}\n"
            "  - {name: s, image: i, restartPolicy: Always, resources: {requests: {cpu: 100m, "
            "memory: 1Ki}}}\n"
            "  containers:\n  - {name: a, image: i, resources: {limits: {cpu: 500m, memory: 64Mi}}}\n"
            "  - {name: b, image: i}\n");
    auto_free char *path = wh_pod_cgroup_path(spec), *own = wh_container_cgroup_path(spec, 2, 1);
    CHECK_STR(path, "kubepods/burstable/pod0a1b2c3d-0000-4000-8000-00000000000f");
    CHECK_CONTAINS(own, "/a.1");
    wh_cgroup_limits a = wh_container_cgroup_limits(spec, 2), b = wh_container_cgroup_limits(spec, 3);
    CHECK_INT(a.memory_max, ==, 64 << 20);
    CHECK_INT(a.cpu_quota_us, ==, 50000);
    CHECK_INT(a.cpu_shares, ==, 512);
    CHECK_INT(b.memory_max, ==, 0);
    CHECK_INT(b.cpu_quota_us, ==, 0);
    CHECK_INT(b.cpu_shares, ==, 2);
    wh_cgroup_limits all = wh_pod_cgroup_limits(spec);
    CHECK_INT(all.memory_max, ==, 0);
    wh_pod_demand demand = wh_pod_demand_of(spec);
    CHECK_INT(demand.cpu_millis, ==, 2010);
    CHECK_INT(demand.memory_bytes, ==, (64 << 20) + 1024);
}
