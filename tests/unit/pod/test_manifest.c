/* SPDX-License-Identifier: Apache-2.0 */
#include "pod/manifest.h"
#include "pods.h"

#define T0 (1700000000 * WH_SEC)
#define POD                                            \
    "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n" \
    "spec: {containers: [{name: c, image: i}]}\n"
#define JOB(more)                                                                \
    "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j, uid: u}\nspec: {" more \
    "template: {metadata: {labels: {x: z}}, spec: {restartPolicy: Never, "       \
    "containers: [{name: c, image: i}]}}}\n"

static void refused(const char *text, int code, const char *part)
{
    wh_err err = {0};
    wh_manifest m = {0};
    CHECK_ERR(wh_manifest_parse(text, strlen(text), "f.yaml", &m, &err), code, &err, part);
    CHECK(m.pods == NULL);
}

TEST(documents_of_a_file)
{
    auto_manifest wh_manifest m = {0}, again = {0};
    wh_err err = {0};
    const char *text =
        POD "---\napiVersion: v1\nkind: List\nitems:\n"
            "- {apiVersion: v1, kind: ConfigMap, metadata: {name: cm, namespace: ns}, data: {k: v}}\n"
            "- {apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {k: v}}\n---\n" JOB("");
    CHECK_OK(wh_manifest_parse(text, strlen(text), "f.yaml", &m, &err), &err);
    CHECK_INT(json_array_size(m.pods), ==, 1);
    CHECK_INT(json_array_size(m.jobs), ==, 1);
    json_t *pod_ = wh_manifest_find(&m, "Pod", "default", "a"), *found = NULL;
    CHECK_INT(strlen(wh_json_str(pod_, "metadata.uid")), ==, 36);
    CHECK_OK(wh_manifest_parse(text, strlen(text), "f.yaml", &again, &err), &err);
    CHECK_STR(wh_json_str(wh_manifest_find(&again, "Pod", "default", "a"), "metadata.uid"),
              wh_json_str(pod_, "metadata.uid"));
    CHECK_OK(wh_manifest_resolve(&m, "ConfigMap", "ns", "cm", &found, &err), &err);
    CHECK_STR(wh_json_str(found, "data.k"), "v");
    json_decref(found);
    CHECK_FAIL(wh_manifest_resolve(&m, "ConfigMap", "default", "cm", &found, &err), -ENOENT);
    CHECK_FAIL(wh_manifest_resolve(&m, "Deployment", "default", "cm", &found, &err), -ENOENT);
}

TEST(what_is_refused)
{
    refused("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n", -EOPNOTSUPP,
            "f.yaml: apps/v1 Deployment: on one machine");
    refused(POD "---\n" POD, -EEXIST, "document 2: Pod 'a' stands here twice");
    refused("kind: Pod\n", -EINVAL, "needs apiVersion and kind");
    refused("- 1\n", -EINVAL, "not an object");
    refused("apiVersion: v1\nkind: Pod\nmetadata: {}\n", -EINVAL, "metadata.name: is required");
    refused("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: 1}\n", -EINVAL,
            "data.a: expected a string");
    refused("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c}]}\n", -EINVAL,
            "f.yaml: Pod 'a': spec.containers[0].image: is required");
    refused("a: [\n", -EBADMSG, "f.yaml: line ");
    refused(JOB("podFailurePolicy: {}, "), -EOPNOTSUPP, "spec.podFailurePolicy");
    refused(JOB("completionMode: Indexed, "), -EINVAL, "spec.completions: is required");
    refused("apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\n"
            "spec: {template: {spec: {containers: [{name: c, image: i}]}}}\n",
            -EINVAL, "a job needs OnFailure or Never");
    refused("apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\n"
            "spec: {template: {spec: {restartPolicy: Never, containers: []}}}\n",
            -EINVAL, "the pod of its template: spec.containers");
}

static wh_job *job(const char *text)
{
    wh_err err = {0};
    wh_job *j = NULL;
    auto_json json_t *object = yaml(text);
    CHECK_OK(wh_job_parse(object, &j, &err), &err);
    return j;
}

static wh_job_pod is(wh_pod_phase phase, int64_t index)
{
    return (wh_job_pod){.phase = phase, .index = index, .finished = phase >= WH_PHASE_SUCCEEDED ? T0 : 0};
}

static void decides(const wh_job *j, const wh_job_pod *pods, size_t n, wh_time now, wh_job_state state,
                    size_t start, size_t stop)
{
    wh_job_decision d = {0};
    wh_job_decide(j, pods, n, T0, now, &d);
    CHECK_INT(d.state, ==, state);
    CHECK_INT(d.n_start, ==, start);
    CHECK_INT(d.n_stop, ==, stop);
    wh_job_decision_done(&d);
}

TEST(a_job_of_one)
{
    auto_job wh_job *j = job(JOB(""));
    wh_job_pod running = is(WH_PHASE_RUNNING, -1), done = is(WH_PHASE_SUCCEEDED, -1),
               failed = is(WH_PHASE_FAILED, -1);
    decides(j, NULL, 0, T0, WH_JOB_ACTIVE, 1, 0);
    decides(j, &running, 1, T0, WH_JOB_ACTIVE, 0, 0);
    decides(j, &done, 1, T0, WH_JOB_COMPLETE, 0, 0);
    decides(j, &failed, 1, T0 + 9 * WH_SEC, WH_JOB_ACTIVE, 0, 0);
    decides(j, &failed, 1, T0 + 10 * WH_SEC, WH_JOB_ACTIVE, 1, 0);
}

TEST(failures_are_counted_and_waited_for)
{
    auto_job wh_job *j = job(JOB("backoffLimit: 2, "));
    wh_job_pod pods[3] = {is(WH_PHASE_FAILED, -1), is(WH_PHASE_FAILED, -1), is(WH_PHASE_FAILED, -1)};
    decides(j, pods, 2, T0 + 19 * WH_SEC, WH_JOB_ACTIVE, 0, 0);
    decides(j, pods, 2, T0 + 20 * WH_SEC, WH_JOB_ACTIVE, 1, 0);
    decides(j, pods, 3, T0 + WH_HOUR, WH_JOB_FAILED, 0, 0);
    pods[2] = is(WH_PHASE_RUNNING, -1);
    pods[2].restarts = 2;
    decides(j, pods, 3, T0, WH_JOB_FAILED, 0, 1);
    pods[2].stopping = true;
    pods[2].phase = WH_PHASE_FAILED;
    decides(j, pods, 3, T0 + WH_HOUR, WH_JOB_ACTIVE, 1, 0);
}

TEST(parallel_and_indexed)
{
    auto_job wh_job *j = job(JOB("completions: 5, parallelism: 3, completionMode: Indexed, "));
    wh_job_pod pods[] = {is(WH_PHASE_SUCCEEDED, 0), is(WH_PHASE_SUCCEEDED, 0), is(WH_PHASE_RUNNING, 2),
                         is(WH_PHASE_SUCCEEDED, 99)};
    wh_job_decision d = {0};
    wh_job_decide(j, pods, 4, T0, T0, &d);
    CHECK_INT(d.succeeded, ==, 1);
    CHECK_INT(d.n_start, ==, 2);
    CHECK_INT(d.start[0], ==, 1);
    CHECK_INT(d.start[1], ==, 3);
    wh_job_decision_done(&d);
    auto_job wh_job *wide = job(JOB("completions: 2, parallelism: 9, "));
    wh_job_pod many[] = {is(WH_PHASE_RUNNING, -1), is(WH_PHASE_RUNNING, -1), is(WH_PHASE_PENDING, -1)};
    decides(wide, NULL, 0, T0, WH_JOB_ACTIVE, 2, 0);
    decides(wide, many, 3, T0, WH_JOB_ACTIVE, 0, 1);
}

TEST(a_work_queue)
{
    auto_job wh_job *j = job(JOB("parallelism: 2, "));
    wh_job_pod pods[] = {is(WH_PHASE_SUCCEEDED, -1), is(WH_PHASE_RUNNING, -1)};
    decides(j, NULL, 0, T0, WH_JOB_ACTIVE, 2, 0);
    decides(j, pods, 2, T0, WH_JOB_ACTIVE, 0, 0);
    decides(j, pods, 1, T0, WH_JOB_COMPLETE, 0, 0);
}

TEST(suspend_and_deadline)
{
    auto_job wh_job *s = job(JOB("suspend: true, ")), *j = job(JOB("activeDeadlineSeconds: 10, "));
    wh_job_pod running = is(WH_PHASE_RUNNING, -1);
    decides(s, NULL, 0, T0, WH_JOB_SUSPENDED, 0, 0);
    decides(s, &running, 1, T0, WH_JOB_SUSPENDED, 0, 1);
    decides(j, &running, 1, T0 + 10 * WH_SEC - 1, WH_JOB_ACTIVE, 0, 0);
    decides(j, &running, 1, T0 + 10 * WH_SEC, WH_JOB_FAILED, 0, 1);
}

TEST(pods_of_a_job)
{
    auto_job wh_job *j = job(JOB("completions: 5, completionMode: Indexed, "));
    auto_json json_t *object = wh_job_pod_object(j, 3, 7);
    auto_pod_spec wh_pod_spec *spec = NULL;
    wh_err err = {0};
    CHECK_OK(wh_pod_spec_parse(object, &spec, NULL, &err), &err);
    CHECK_STR(spec->name, "j-3-7");
    CHECK_STR(spec->hostname, "j-3");
    CHECK_STR(spec->containers[0].env[0].name, "JOB_COMPLETION_INDEX");
    CHECK_STR(spec->containers[0].env[0].value, "3");
    CHECK_STR(json_string_value(json_object_get(spec->labels, "x")), "z");
    CHECK_STR(json_string_value(json_object_get(spec->labels, "job-name")), "j");
    CHECK(wh_json_at(j->object, "spec.template.metadata.uid") == NULL);
    auto_json json_t *plain = wh_job_pod_object(j, -1, 0);
    CHECK_STR(wh_json_str(plain, "metadata.name"), "j-0");
}
