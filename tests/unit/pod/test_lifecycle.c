/* SPDX-License-Identifier: Apache-2.0 */
/* The table of src/pod/README.md, row by row. */
#include "drive.h"

#include <signal.h>

#define PHASE(d, p) CHECK_STR(wh_pod_phase_name(wh_lifecycle_phase((d)->lc)), p)

TEST(a_pod_from_admission_to_success)
{
    auto_drive drive d = {0};
    begin(&d, ONE("Never"));
    CHECK_STR(d.did, "mount, pull 0");
    CHECK(d.status);
    CHECK_STR(life(&d, 0)->reason, "ContainerCreating");
    CHECK_STR(image(&d, 0), "");
    CHECK_STR(simple(&d, WH_POD_VOLUMES_READY), "start 0.0");
    PHASE(&d, "Pending");
    started(&d, 0, 0);
    CHECK_STR(d.said, "Created");
    d.now += WH_SEC;
    step(&d, (wh_pod_event){.type = WH_POD_RUNNING, .started = d.now});
    CHECK_STR(d.said, "Started");
    PHASE(&d, "Running");
    CHECK(condition(&d, "Ready").status);
    CHECK_INT(condition(&d, "Ready").since, ==, d.now);
    d.now += WH_SEC;
    CHECK_STR(exits(&d, 0, 0, 0), "teardown");
    PHASE(&d, "Succeeded");
    CHECK(!condition(&d, "Ready").status);
    CHECK_STR(condition(&d, "Ready").reason, "PodCompleted");
    CHECK_STR(life(&d, 0)->end.reason, "Completed");
    CHECK_STR(simple(&d, WH_POD_TORN_DOWN), "");
    CHECK(wh_lifecycle_torn_down(d.lc));
    CHECK(!wh_lifecycle_finished(d.lc));
    CHECK_STR(step(&d, (wh_pod_event){.type = WH_POD_DELETE, .grace_s = -1}), "finished");
    PHASE(&d, "Succeeded");
}

TEST(a_refused_pod)
{
    auto_drive drive d = {.spec = pod(ONE("Always")), .now = T0};
    d.lc = wh_lifecycle_new(d.spec, d.now);
    step(&d, (wh_pod_event){.type = WH_POD_REJECTED, .reason = "OutOfcpu", .message = "no room"});
    CHECK_STR(d.did, "teardown");
    CHECK_STR(d.said, "OutOfcpu!");
    PHASE(&d, "Failed");
    CHECK_STR(wh_lifecycle_reason(d.lc), "OutOfcpu");
    CHECK_STR(wh_lifecycle_message(d.lc), "no room");
}

TEST(restart_policies)
{
    static const struct {
        const char *spec;
        int code;
        const char *did, *phase;
    } rows[] = {{ONE("Never"), 0, "teardown", "Succeeded"},     {ONE("Never"), 1, "teardown", "Failed"},
                {ONE("OnFailure"), 0, "teardown", "Succeeded"}, {ONE("OnFailure"), 1, "start 0.1", "Running"},
                {ONE("Always"), 0, "start 0.1", "Running"},     {ONE("Always"), 1, "start 0.1", "Running"}};
    for (size_t i = 0; i < WH_ARRAY_LEN(rows); i++) {
        auto_drive drive d = {0};
        begin_running(&d, rows[i].spec);
        CHECK_STR(exits(&d, 0, 0, rows[i].code), rows[i].did);
        PHASE(&d, rows[i].phase);
    }
}

TEST(rules_restart_by_exit_code)
{
    auto_drive drive d = {0};
    begin_running(&d, "spec:\n  restartPolicy: Never\n  containers:\n  - name: c\n    image: 'a/b:1'\n"
                      "    restartPolicyRules: [{action: Restart, exitCodes: {operator: In, "
                      "values: [42]}}]\n");
    CHECK_STR(exits(&d, 0, 0, 42), "start 0.1");
    runs(&d, 0, 1);
    CHECK_STR(exits(&d, 0, 1, 41), "teardown");
    PHASE(&d, "Failed");
}

TEST(back_off_doubles_to_five_minutes_and_is_forgotten)
{
    static const int waits[] = {0, 10, 20, 40, 80, 160, 300, 300};
    auto_drive drive d = {0};
    unsigned attempt = 0;
    begin_running(&d, ONE("Always"));
    for (size_t i = 0; i < WH_ARRAY_LEN(waits); i++, attempt++) {
        wh_time ended = d.now += WH_SEC;
        exits(&d, 0, attempt, 1);
        if (waits[i] > 0) {
            CHECK_STR(d.did, "");
            CHECK_STR(d.said, "BackOff!");
            CHECK_STR(life(&d, 0)->reason, "CrashLoopBackOff");
            CHECK_INT(d.actions.next, ==, ended + waits[i] * WH_SEC);
            CHECK_STR(tick_at(&d, ended + waits[i] * WH_SEC - 1), "");
            CHECK_STR(d.said, "");
            tick_at(&d, ended + waits[i] * WH_SEC);
        }
        CHECK_INT(d.actions.n, >, 0);
        CHECK_CONTAINS(d.did, "start 0.");
        runs(&d, 0, attempt + 1);
    }
    d.now += 601 * WH_SEC;
    CHECK_STR(exits(&d, 0, attempt, 1), "start 0.9"); /* a clean run: back to the beginning */
    CHECK_INT(life(&d, 0)->attempt, ==, 8 + 1);
    PHASE(&d, "Running");
}

TEST(back_off_names_the_container)
{
    auto_drive drive d = {0};
    begin_running(&d, ONE("Always"));
    exits(&d, 0, 0, 1);
    runs(&d, 0, 1);
    exits(&d, 0, 1, 1);
    CHECK_CONTAINS(life(&d, 0)->message, "back-off 10s restarting failed container=c pod=web_shop(");
}

TEST(images_are_tried_again)
{
    auto_drive drive d = {0};
    begin(&d, ONE("Always"));
    step(&d, (wh_pod_event){.type = WH_POD_IMAGE_FAILED, .reason = "ErrImagePull", .message = "no such tag"});
    CHECK_STR(d.did, "");
    CHECK_STR(d.said, "Failed!");
    CHECK_STR(life(&d, 0)->reason, "ErrImagePull");
    CHECK_STR(life(&d, 0)->message, "no such tag");
    CHECK_INT(d.actions.next, ==, T0 + 5 * WH_SEC);
    tick_at(&d, T0 + 5 * WH_SEC);
    CHECK_STR(life(&d, 0)->reason, "ImagePullBackOff");
    CHECK_CONTAINS(life(&d, 0)->message, "no such tag");
    CHECK_STR(d.said, "BackOff");
    CHECK_INT(d.actions.next, ==, T0 + 10 * WH_SEC);
    CHECK_STR(tick_at(&d, T0 + 10 * WH_SEC), "pull 0");
    step(&d, (wh_pod_event){.type = WH_POD_IMAGE_FAILED, .reason = "InvalidImageName", .message = "x"});
    CHECK_INT(d.actions.next, ==, T0 + 30 * WH_SEC);
    CHECK_STR(simple(&d, WH_POD_RETRY), "pull 0"); /* somebody says that it may work now */
    CHECK_STR(image(&d, 0), "");
    CHECK_STR(simple(&d, WH_POD_VOLUMES_READY), "start 0.0");
    PHASE(&d, "Pending");
}

TEST(volumes_and_starts_are_tried_again)
{
    auto_drive drive d = {0};
    begin(&d, ONE("Never"));
    image(&d, 0);
    step(&d, (wh_pod_event){.type = WH_POD_VOLUMES_FAILED, .reason = "FailedMount", .message = "configmap"});
    CHECK_STR(d.said, "FailedMount!");
    CHECK_INT(d.actions.next, ==, T0 + 500 * WH_MSEC);
    step(&d, (wh_pod_event){.type = WH_POD_VOLUMES_FAILED}); /* a stray answer */
    CHECK_STR(tick_at(&d, T0 + 500 * WH_MSEC), "mount");
    step(&d, (wh_pod_event){.type = WH_POD_VOLUMES_FAILED}); /* no reason: no event, and tried again soon */
    CHECK_STR(d.said, "");
    CHECK_INT(d.actions.next, ==, T0 + 1500 * WH_MSEC);
    CHECK_STR(tick_at(&d, T0 + 1500 * WH_MSEC), "mount");
    step(&d, (wh_pod_event){.type = WH_POD_VOLUMES_FAILED});
    CHECK_INT(d.actions.next, ==, T0 + 3500 * WH_MSEC); /* never later than two seconds */
    CHECK_STR(simple(&d, WH_POD_RETRY), "mount");
    CHECK_STR(simple(&d, WH_POD_VOLUMES_READY), "start 0.0");
    step(&d, (wh_pod_event){
                 .type = WH_POD_START_FAILED, .reason = "CreateContainerConfigError", .message = "no key"});
    CHECK_STR(d.said, "Failed!");
    CHECK_STR(life(&d, 0)->reason, "CreateContainerConfigError");
    CHECK_INT(d.actions.next, ==, d.now + 2 * WH_SEC);
    CHECK_STR(tick_at(&d, d.now + 2 * WH_SEC), "start 0.0"); /* no restart is counted */
    PHASE(&d, "Pending");
}

#define INIT                                                                                     \
    "spec:\n  restartPolicy: Never\n  terminationGracePeriodSeconds: 10\n  initContainers:\n"    \
    "  - {name: one, image: 'a/b:1'}\n  - {name: side, image: 'a/b:1', restartPolicy: Always}\n" \
    "  - {name: two, image: 'a/b:1'}\n  containers:\n  - {name: m, image: 'a/b:1'}\n"            \
    "  - {name: o, image: 'a/b:1'}\n"

static void begin_init(drive *d)
{
    begin(d, INIT);
    CHECK_STR(d->did, "mount, pull 0, pull 1, pull 2, pull 3, pull 4");
    simple(d, WH_POD_VOLUMES_READY);
    for (size_t i = 4; i > 0; i--)
        CHECK_STR(image(d, i), "");
    CHECK_STR(image(d, 0), "start 0.0");
    CHECK_STR(life(d, 3)->reason, "PodInitializing");
    runs(d, 0, 0);
}

TEST(init_containers_run_in_order_and_sidecars_stay)
{
    auto_drive drive d = {0};
    begin_init(&d);
    CHECK_CONTAINS(condition(&d, "Initialized").message, "[one side two]");
    CHECK_STR(exits(&d, 0, 0, 0), "start 1.0");
    CHECK_STR(runs(&d, 1, 0), "start 2.0");
    CHECK_STR(exits(&d, 1, 0, 7), "start 1.1"); /* a sidecar comes back while others wait for it no more */
    runs(&d, 2, 0);
    CHECK_STR(runs(&d, 1, 1), "");
    PHASE(&d, "Pending");
    CHECK_STR(exits(&d, 2, 0, 0), "start 3.0, start 4.0");
    CHECK(condition(&d, "Initialized").status);
    runs(&d, 3, 0);
    PHASE(&d, "Pending");
    runs(&d, 4, 0);
    PHASE(&d, "Running");
    CHECK_STR(exits(&d, 3, 0, 0), "");
    CHECK_STR(exits(&d, 4, 0, 0), "stop 1.1"); /* the main ones are done: now the sidecar may go */
    PHASE(&d, "Running");
    CHECK_STR(tick_at(&d, d.now + 10 * WH_SEC), "kill 1.1");
    CHECK_STR(exits(&d, 1, 1, 137), "teardown");
    PHASE(&d, "Succeeded");
}

TEST(a_failing_init_container_fails_the_pod)
{
    auto_drive drive d = {0};
    begin_init(&d);
    exits(&d, 0, 0, 0);
    runs(&d, 1, 0);
    runs(&d, 2, 0);
    CHECK_STR(exits(&d, 2, 0, 3), "stop 1.0");
    PHASE(&d, "Pending"); /* never terminal while the sidecar runs */
    CHECK_STR(exits(&d, 1, 0, 0), "teardown");
    PHASE(&d, "Failed");
    CHECK_INT(life(&d, 3)->state, ==, WH_CONTAINER_WAITING);
    CHECK_STR(life(&d, 3)->reason, "PodInitializing");
}

TEST(deletion_asks_then_kills)
{
    auto_drive drive d = {0};
    begin_running(&d, ONE("Always"));
    CHECK_STR(step(&d, (wh_pod_event){.type = WH_POD_DELETE, .grace_s = -1}), "stop 0.0");
    CHECK_STR(d.said, "Killing");
    CHECK_INT(d.actions.list[1].signal, ==, SIGTERM);
    CHECK_INT(d.actions.next, ==, d.now + 30 * WH_SEC);
    CHECK(wh_lifecycle_stopping(d.lc));
    PHASE(&d, "Running");
    CHECK_STR(step(&d, (wh_pod_event){.type = WH_POD_DELETE, .grace_s = 60}),
              ""); /* a later end changes nothing */
    CHECK_STR(step(&d, (wh_pod_event){.type = WH_POD_DELETE, .grace_s = 5}), "");
    CHECK_INT(d.actions.next, ==, T0 + 5 * WH_SEC);
    CHECK_STR(tick_at(&d, T0 + 5 * WH_SEC), "kill 0.0");
    CHECK_STR(exits(&d, 0, 0, 137), "teardown");
    PHASE(&d, "Failed");
    CHECK_STR(simple(&d, WH_POD_TORN_DOWN), "finished");
    CHECK(wh_lifecycle_finished(d.lc));
}

#define HOOKED \
    "spec:\n  containers:\n  - {name: c, image: 'a/b:1', lifecycle: {preStop: {sleep: {seconds: 3}}}}\n"

TEST(a_sleeping_hook_delays_the_request_but_not_the_kill)
{
    auto_drive drive d = {0};
    begin_running(&d, HOOKED);
    CHECK_STR(step(&d, (wh_pod_event){.type = WH_POD_DELETE, .grace_s = 10}), "");
    CHECK_STR(d.said, "Killing");
    CHECK(wh_lifecycle_stopping(d.lc));
    CHECK_INT(d.actions.next, ==, T0 + 3 * WH_SEC);
    CHECK_STR(tick_at(&d, T0 + 3 * WH_SEC), "stop 0.0");
    CHECK_STR(d.said, "");
    CHECK_STR(tick_at(&d, T0 + 10 * WH_SEC), "kill 0.0");

    auto_drive drive hurried = {0};
    begin_running(&hurried, HOOKED);
    CHECK_STR(step(&hurried, (wh_pod_event){.type = WH_POD_DELETE, .grace_s = 1}), "");
    CHECK_STR(tick_at(&hurried, T0 + WH_SEC), "kill 0.0");
}

TEST(a_kill_that_does_not_work_is_said_again)
{
    auto_drive drive d = {0};
    begin_running(&d, ONE("Always"));
    CHECK_STR(simple(&d, WH_POD_DELETE_NOW), "kill 0.0");
    CHECK_STR(tick_at(&d, d.now + WH_SEC), "");
    CHECK_STR(tick_at(&d, T0 + 10 * WH_SEC), "kill 0.0");
}

TEST(deletion_while_starting_waits_for_the_answer)
{
    auto_drive drive d = {0};
    begin(&d, ONE("Always"));
    simple(&d, WH_POD_VOLUMES_READY);
    CHECK_STR(image(&d, 0), "start 0.0");
    CHECK_STR(step(&d, (wh_pod_event){.type = WH_POD_DELETE, .grace_s = 5}), "");
    started(&d, 0, 0);
    CHECK_STR(d.did, "stop 0.0");
    CHECK_STR(exits(&d, 0, 0, 143), "teardown");
    PHASE(&d, "Failed");
}

TEST(deletion_before_anything_ran)
{
    auto_drive drive d = {0};
    begin(&d, ONE("Always"));
    CHECK_STR(simple(&d, WH_POD_DELETE_NOW), ""); /* the mount is under way */
    CHECK_STR(simple(&d, WH_POD_VOLUMES_READY), "teardown");
    PHASE(&d, "Failed");
    CHECK_STR(simple(&d, WH_POD_TORN_DOWN), "finished");
    CHECK_STR(image(&d, 0), "");
}

TEST(sidecars_stop_last_and_in_reverse)
{
    auto_drive drive d = {0};
    begin(&d, "spec:\n  terminationGracePeriodSeconds: 10\n  initContainers:\n"
              "  - {name: a, image: 'a/b:1', restartPolicy: Always}\n  - {name: b, image: 'a/b:1', "
              "restartPolicy: Always}\n"
              "  containers:\n  - {name: m, image: 'a/b:1'}\n");
    simple(&d, WH_POD_VOLUMES_READY);
    for (size_t i = 3; i > 0; i--)
        image(&d, i - 1);
    CHECK_STR(runs(&d, 0, 0), "start 1.0");
    CHECK_STR(runs(&d, 1, 0), "start 2.0");
    runs(&d, 2, 0);
    CHECK_STR(step(&d, (wh_pod_event){.type = WH_POD_DELETE, .grace_s = 10}), "stop 2.0");
    d.now += WH_SEC;
    CHECK_STR(exits(&d, 2, 0, 0), "stop 1.0");
    CHECK_STR(tick_at(&d, T0 + 10 * WH_SEC),
              "kill 1.0, stop 0.0"); /* late: all at once, with two seconds for the rest */
    CHECK_STR(exits(&d, 1, 0, 137), "");
    CHECK_STR(tick_at(&d, T0 + 12 * WH_SEC), "kill 0.0");
    CHECK_STR(exits(&d, 0, 0, 137), "teardown");
    PHASE(&d, "Succeeded");
}

TEST(an_active_deadline)
{
    auto_drive drive d = {0};
    begin_running(&d, "spec:\n  activeDeadlineSeconds: 60\n  terminationGracePeriodSeconds: 3\n"
                      "  containers:\n  - {name: c, image: 'a/b:1'}\n");
    CHECK_INT(d.actions.next, ==, T0 + 60 * WH_SEC);
    CHECK_STR(tick_at(&d, T0 + 60 * WH_SEC), "stop 0.0");
    CHECK_STR(exits(&d, 0, 0, 0), "teardown");
    PHASE(&d, "Failed");
    CHECK_STR(wh_lifecycle_reason(d.lc), "DeadlineExceeded");
}

TEST(eviction)
{
    auto_drive drive d = {0};
    begin_running(&d, ONE("Always"));
    CHECK_STR(
        step(&d,
             (wh_pod_event){.type = WH_POD_EVICT, .message = "The node was low on memory.", .grace_s = 0}),
        "kill 0.0");
    CHECK(wh_lifecycle_reason(d.lc) == NULL);
    exits(&d, 0, 0, 137);
    PHASE(&d, "Failed");
    CHECK_STR(wh_lifecycle_reason(d.lc), "Evicted");
    CHECK_STR(condition(&d, "DisruptionTarget").reason, "TerminationByKubelet");
    simple(&d, WH_POD_TORN_DOWN);
    CHECK(!wh_lifecycle_finished(d.lc)); /* the object stays until somebody deletes it */
}

TEST(messages_are_made_utf8)
{
    auto_drive drive d = {0};
    begin(&d, ONE("Always"));
    step(&d, (wh_pod_event){.type = WH_POD_IMAGE_FAILED, .reason = "Err\xff", .message = "a\xffz \xC3\xA9"});
    CHECK_STR(life(&d, 0)->message, "a?z \xC3\xA9");
    CHECK_STR(life(&d, 0)->reason, "Err?");
    CHECK_CONTAINS(d.actions.list[0].message, "a?z \xC3\xA9");
    reborn(&d);
    CHECK_STR(life(&d, 0)->message, "a?z \xC3\xA9");
}

TEST(strangers_are_killed)
{
    auto_drive drive d = {0};
    begin_running(&d, ONE("Always"));
    CHECK_STR(step(&d, (wh_pod_event){.type = WH_POD_STARTED, .attempt = 7, .pid = 9}), "kill 0.7");
    CHECK_STR(exits(&d, 0, 0, 1), ""); /* nothing is started beside it */
    CHECK_STR(exits(&d, 0, 7, 137), "start 0.1");
    CHECK_STR(exits(&d, 0, 0, 1), ""); /* told twice */
}

TEST(a_new_agent_takes_over_what_runs)
{
    auto_drive drive d = {0};
    begin_running(&d, ONE("Always"));
    d.now += WH_MINUTE;
    reborn(&d);
    CHECK_STR(tick_at(&d, d.now), "");
    step(&d, (wh_pod_event){.type = WH_POD_ADOPT, .adopt = WH_ADOPT_RUNNING, .pid = 100, .started = T0});
    CHECK_STR(simple(&d, WH_POD_ADOPTED), "mount");
    CHECK(d.status);
    CHECK_INT(life(&d, 0)->state, ==, WH_CONTAINER_RUNNING);
    CHECK_INT(life(&d, 0)->started, ==, T0);
    CHECK_INT(condition(&d, "Ready").since, ==, T0);
    CHECK_STR(simple(&d, WH_POD_VOLUMES_READY), "");
    CHECK_STR(exits(&d, 0, 0, 1), "pull 0"); /* the image was in the hands of the old agent */
    CHECK_STR(image(&d, 0), "start 0.1");
}

TEST(a_new_agent_learns_of_ends_and_losses)
{
    auto_drive drive d = {0};
    begin_running(&d, ONE("Never"));
    reborn(&d);
    step(&d, (wh_pod_event){
                 .type = WH_POD_ADOPT, .adopt = WH_ADOPT_ENDED, .end = {.exit_code = 0, .finished = T0 + 1}});
    CHECK_STR(simple(&d, WH_POD_ADOPTED), "teardown");
    PHASE(&d, "Succeeded");
    auto_drive drive lost = {0};
    begin_running(&lost, ONE("Never"));
    reborn(&lost);
    CHECK_STR(simple(&lost, WH_POD_ADOPTED), "teardown");
    PHASE(&lost, "Failed");
    CHECK_STR(life(&lost, 0)->end.reason, "ContainerStatusUnknown");
    CHECK_INT(life(&lost, 0)->end.exit_code, ==, 137);
}

TEST(a_start_that_never_happened_is_said_again)
{
    auto_drive drive d = {0};
    begin(&d, ONE("Never"));
    simple(&d, WH_POD_VOLUMES_READY);
    CHECK_STR(image(&d, 0), "start 0.0");
    reborn(&d);
    CHECK_STR(simple(&d, WH_POD_ADOPTED), "mount, pull 0");
    simple(&d, WH_POD_VOLUMES_READY);
    CHECK_STR(image(&d, 0), "start 0.0");
}

TEST(deletion_survives_the_agent)
{
    auto_drive drive d = {0};
    begin_running(&d, ONE("Always"));
    step(&d, (wh_pod_event){.type = WH_POD_DELETE, .grace_s = 20});
    d.now += 5 * WH_SEC;
    reborn(&d);
    step(&d, (wh_pod_event){.type = WH_POD_ADOPT, .adopt = WH_ADOPT_RUNNING, .pid = 100, .started = T0});
    CHECK_STR(simple(&d, WH_POD_ADOPTED), "stop 0.0");
    CHECK_INT(d.actions.next, ==, T0 + 20 * WH_SEC);
    CHECK_STR(exits(&d, 0, 0, 0), "teardown");
    reborn(&d);
    CHECK_STR(simple(&d, WH_POD_ADOPTED), "teardown");
    CHECK_STR(simple(&d, WH_POD_TORN_DOWN), "finished");
}

TEST(a_pod_whose_state_was_lost)
{
    auto_drive drive d = {.spec = pod(INIT), .now = T0};
    d.lc = wh_lifecycle_new(d.spec, d.now);
    step(&d, (wh_pod_event){
                 .type = WH_POD_ADOPT, .container = 3, .attempt = 4, .pid = 9, .started = T0 - WH_HOUR});
    CHECK_STR(simple(&d, WH_POD_ADMITTED), "mount, pull 1, pull 4");
    CHECK_INT(life(&d, 3)->attempt, ==, 4);
    CHECK_INT(life(&d, 0)->state, ==, WH_CONTAINER_ENDED);
    CHECK(condition(&d, "Initialized").status);
    CHECK_STR(step(&d, (wh_pod_event){.type = WH_POD_ADOPT, .container = 3, .attempt = 2, .pid = 8}),
              "kill 3.2");
}

TEST(a_clock_that_was_set_back)
{
    auto_drive drive d = {0};
    begin_running(&d, ONE("Always"));
    exits(&d, 0, 0, 1);
    runs(&d, 0, 1);
    exits(&d, 0, 1, 1);
    CHECK_INT(d.actions.next, ==, T0 + 10 * WH_SEC);
    d.now = T0 - WH_HOUR;
    reborn(&d);
    simple(&d, WH_POD_ADOPTED);
    CHECK_INT(d.actions.next, ==, d.now + 10 * WH_SEC);
    CHECK_STR(tick_at(&d, d.now - WH_HOUR), ""); /* and within one agent time never goes back */
}

TEST(bad_saved_state_is_refused)
{
    static const char *const bad[] = {
        "{}",
        "{\"version\":1}",
        "{\"version\":2,\"uid\":\"x\"}",
        "{\"version\":1,\"uid\":\"0a1b2c3d-0000-4000-8000-00000000000f\",\"stage\":99,"
        "\"containers\":[{\"name\":\"c\"}]}",
        "{\"version\":1,\"uid\":\"0a1b2c3d-0000-4000-8000-00000000000f\","
        "\"containers\":[{\"name\":\"d\"}]}",
        "{\"version\":1,\"uid\":\"0a1b2c3d-0000-4000-8000-00000000000f\","
        "\"containers\":[{\"name\":\"c\",\"state\":17}]}"};
    auto_pod_spec wh_pod_spec *spec = pod(ONE("Always"));
    for (size_t i = 0; i < WH_ARRAY_LEN(bad); i++) {
        wh_err err = {0};
        wh_lifecycle *lc = NULL;
        auto_json json_t *saved = yaml(bad[i]);
        CHECK_ERR(wh_lifecycle_load(spec, saved, T0, &lc, &err), -EBADMSG, &err, "saved state");
        CHECK(lc == NULL);
    }
}

TEST(a_changed_image_restarts_the_container)
{
    auto_drive drive d = {0};
    wh_err err = {0};
    begin_running(&d, ONE("Never"));
    wh_pod_spec *next = pod("spec:\n  restartPolicy: Never\n  containers:\n"
                            "  - {name: c, image: 'a/b:2'}\n");
    CHECK_OK(wh_lifecycle_set_spec(d.lc, next, &err), &err);
    wh_pod_spec_free(d.spec);
    d.spec = next;
    CHECK_STR(tick_at(&d, d.now), "stop 0.0");
    CHECK_STR(exits(&d, 0, 0, 143), "pull 0");
    CHECK_STR(image(&d, 0), "start 0.1");
    PHASE(&d, "Running");
    auto_pod_spec wh_pod_spec *other = pod("spec:\n  containers:\n  - {name: d, image: x}\n");
    CHECK_ERR(wh_lifecycle_set_spec(d.lc, other, &err), -EINVAL, &err, "container 'c' cannot change");
    auto_pod_spec wh_pod_spec *more = pod(ONE("Never") "  volumes: [{name: v}]\n");
    CHECK_ERR(wh_lifecycle_set_spec(d.lc, more, &err), -EINVAL, &err, "its volumes cannot change");
}

TEST(readiness_gates)
{
    auto_drive drive d = {0};
    begin_running(&d, "spec:\n  readinessGates: [{conditionType: example.com/up}]\n"
                      "  containers:\n  - {name: c, image: 'a/b:1'}\n");
    CHECK(condition(&d, "ContainersReady").status);
    CHECK(!condition(&d, "Ready").status);
    CHECK_STR(condition(&d, "Ready").reason, "ReadinessGatesNotReady");
}
