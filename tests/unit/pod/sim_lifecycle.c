/* SPDX-License-Identifier: Apache-2.0 */
/* A seeded world around the pod life cycle: containers that crash, pulls that fail, agents that die. Virtual
 * time only. What must never happen is checked after each step by a model of its own; that the checks can
 * fail is shown by breaking the world on purpose. One seed replays one run: `sim_lifecycle SEED`. */
#include "pod/lifecycle.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>

#define STEPS_TOTAL 100000
#define STEPS_PER_POD 1500
#define QUEUE_MAX 256
#define CONTAINERS_MAX 8
#define BEGIN (1700000000 * WH_SEC)

typedef enum { BREAK_NOTHING, BREAK_EXIT_TOO_EARLY, BREAK_CLOCK, BREAK_KILLS, BREAK_STATE } breakage;

typedef struct pending {
    wh_time at;
    wh_pod_event event;
    bool by_agent; /* dies with the agent */
} pending;

/* One container as it really is, and what the model expects of its restarts. */
typedef struct runner {
    bool exists, began, acknowledged;
    unsigned attempt, generation;
    wh_time start, exit_at;
    int exit_code;
    bool restarted, ok_once;
    wh_time model_delay, earliest, start_before;
    bool reported; /* the agent has not reaped it */
    wh_pod_end end;
} runner;

typedef struct sim {
    wh_rng rng;
    breakage broken;
    wh_pod_spec *spec;
    wh_lifecycle *lc;
    wh_pod_actions actions;
    pending queue[QUEUE_MAX];
    size_t n_queue;
    runner runners[CONTAINERS_MAX];
    wh_time now, tick, deleted_at;
    size_t steps, agent_deaths, restarts;
    bool admitted, torn_down, finished, terminal, want_delete;
    wh_pod_phase final;
    char failure[200];
} sim;

static bool chance(sim *s, unsigned percent)
{
    return wh_rng_below(&s->rng, 100) < percent;
}

static wh_time between(sim *s, wh_time min, wh_time max)
{
    return min + (wh_time)wh_rng_below(&s->rng, (uint64_t)(max - min + 1));
}

static WH_PRINTF(2, 3) void fail(sim *s, const char *fmt, ...)
{
    va_list args;
    if (s->failure[0] != '\0')
        return;
    va_start(args, fmt);
    vsnprintf(s->failure, sizeof(s->failure), fmt, args);
    va_end(args);
}

/* ---- the pod ---- */

static json_t *random_container(sim *s, const char *kind, size_t i, bool init)
{
    static const char *const policies[] = {"Always", "IfNotPresent"};
    char name[16];
    snprintf(name, sizeof(name), "%s%zu", kind, i);
    json_t *c = json_pack("{s:s, s:s, s:s}", "name", name, "image", "example/app:1", "imagePullPolicy",
                          policies[wh_rng_below(&s->rng, 2)]);
    if (init && chance(s, 40))
        json_object_set_new(c, "restartPolicy", json_string("Always"));
    if (!init && chance(s, 15)) {
        json_object_set_new(c, "restartPolicy", json_string("Never"));
        json_object_set_new(c, "restartPolicyRules",
                            json_pack("[{s:s, s:{s:s, s:[i, i]}}]", "action", "Restart", "exitCodes",
                                      "operator", "In", "values", 1, 42));
    }
    return c;
}

static void make_pod(sim *s)
{
    static const char *const policies[] = {"Always", "OnFailure", "Never"};
    wh_err err = {0};
    json_t *init = json_array(), *containers = json_array();
    size_t n_init = wh_rng_below(&s->rng, 4), n = 1 + wh_rng_below(&s->rng, 3);
    for (size_t i = 0; i < n_init; i++)
        json_array_append_new(init, random_container(s, "init", i, true));
    for (size_t i = 0; i < n; i++)
        json_array_append_new(containers, random_container(s, "main", i, false));
    json_t *pod = json_pack("{s:s, s:o, s:o, s:I}", "restartPolicy", policies[wh_rng_below(&s->rng, 3)],
                            "initContainers", init, "containers", containers, "terminationGracePeriodSeconds",
                            (json_int_t)wh_rng_below(&s->rng, 60));
    if (chance(s, 15))
        json_object_set_new(pod, "activeDeadlineSeconds", json_integer((json_int_t)between(s, 1, 900)));
    json_t *object = json_pack("{s:{s:s, s:s}, s:o}", "metadata", "name", "sim", "uid",
                               "00000000-0000-4000-8000-000000000001", "spec", pod);
    if (wh_pod_spec_parse(object, &s->spec, NULL, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        abort();
    }
    json_decref(object);
}

/* ---- the world ---- */

static void push(sim *s, wh_time at, bool by_agent, wh_pod_event event)
{
    if (s->n_queue == QUEUE_MAX) {
        fail(s, "the queue is full: a storm of actions");
        return;
    }
    s->queue[s->n_queue++] = (pending){.at = at, .event = event, .by_agent = by_agent};
}

static void plan_exit(sim *s, size_t i)
{
    static const int codes[] = {0, 0, 0, 1, 1, 2, 42, 137};
    runner *r = &s->runners[i];
    bool init = s->spec->containers[i].role == WH_ROLE_INIT;
    wh_time life = chance(s, 60) ? between(s, 0, 20 * WH_SEC) : between(s, WH_MINUTE, 25 * WH_MINUTE);
    r->exit_code = codes[wh_rng_below(&s->rng, init ? 5 : WH_ARRAY_LEN(codes))];
    r->exit_at = s->now + life;
}

static void model_start(sim *s, size_t i, unsigned attempt)
{
    const wh_container_spec *spec = &s->spec->containers[i];
    runner *r = &s->runners[i];
    if (r->exists)
        fail(s, "container %zu: START of attempt %u while attempt %u exists", i, attempt, r->attempt);
    if (s->terminal)
        fail(s, "container %zu: START in a pod that is over", i);
    if (s->now < r->earliest)
        fail(s, "container %zu: restarted %" PRId64 " ms before its back-off", i,
             (int64_t)((r->earliest - s->now) / WH_MSEC));
    if (r->restarted && spec->restart == WH_RESTART_NEVER && spec->n_rules == 0 && attempt > 0)
        fail(s, "container %zu: restarted although its policy is Never", i);
    for (size_t k = 0; spec->role == WH_ROLE_MAIN && k < s->spec->n_init; k++)
        if (s->spec->containers[k].role == WH_ROLE_INIT && !s->runners[k].ok_once)
            fail(s, "container %zu: started before init container %zu was done", i, k);
}

/* The kubelet's rule, written down a second time: at once, then 10 s doubling to 300 s, forgotten after 10
 * min. */
static void model_exit(sim *s, size_t i, wh_time finished)
{
    runner *r = &s->runners[i];
    if (finished - r->start_before > 10 * WH_MINUTE)
        r->model_delay = 0;
    r->earliest = finished + r->model_delay;
    r->model_delay = r->model_delay == 0 ? 10 * WH_SEC : WH_MIN(2 * r->model_delay, 300 * WH_SEC);
    r->restarted = true;
    s->restarts++;
}

static void end_runner(sim *s, size_t i, int code, bool known)
{
    runner *r = &s->runners[i];
    r->exists = s->broken == BREAK_EXIT_TOO_EARLY && r->exists;
    r->exit_at = 0;
    r->end = (wh_pod_end){
        .exit_code = code, .started = r->began ? r->start : 0, .finished = s->now, .lost = !known};
    r->reported = true;
    if (code == 0)
        r->ok_once = true;
    model_exit(s, i, s->now);
    push(s, s->now + between(s, 0, 50 * WH_MSEC), true,
         (wh_pod_event){.type = WH_POD_EXITED, .container = i, .attempt = r->attempt, .end = r->end});
}

static void do_start(sim *s, const wh_pod_action *a)
{
    runner *r = &s->runners[a->container];
    wh_time at = s->now + between(s, 0, 200 * WH_MSEC);
    wh_pod_event e = {.container = a->container, .attempt = a->attempt, .pid = 1000 + (pid_t)a->container};
    model_start(s, a->container, a->attempt);
    r->start_before = s->now;
    if (chance(s, 8)) {
        e.type = WH_POD_START_FAILED;
        e.reason = "CreateContainerConfigError";
        e.message = "configmap \"x\" not found";
        push(s, at, true, e);
        return;
    }
    unsigned generation = r->generation + 1;
    *r = (runner){.exists = true,
                  .attempt = a->attempt,
                  .start = s->now,
                  .generation = generation,
                  .ok_once = r->ok_once,
                  .restarted = r->restarted,
                  .model_delay = r->model_delay,
                  .earliest = r->earliest,
                  .start_before = r->start_before};
    e.type = WH_POD_STARTED;
    push(s, at, true, e);
    plan_exit(s, a->container);
    r->exit_at = WH_MAX(r->exit_at, at + WH_MSEC);
    r->began = true;
    e.type = WH_POD_RUNNING;
    e.started = s->now;
    push(s, at + WH_MSEC, true, e);
}

static void do_stop(sim *s, const wh_pod_action *a)
{
    runner *r = &s->runners[a->container];
    if (!r->exists || r->attempt != a->attempt || s->broken == BREAK_KILLS)
        return;
    if (a->type == WH_DO_KILL) {
        r->exit_at = s->now + between(s, 0, 100 * WH_MSEC);
        r->exit_code = 137;
    } else if (chance(s, 70)) {
        r->exit_at = s->now + between(s, 0, 40 * WH_SEC);
        r->exit_code = chance(s, 50) ? 0 : 143;
    }
}

static void answer_maybe(sim *s, wh_pod_event_type good, wh_pod_event_type bad, size_t i, wh_time slowest)
{
    wh_pod_event e = {.type = chance(s, 75) ? good : bad, .container = i, .image_id = "example/app@sha256:0"};
    e.reason = good == WH_POD_IMAGE_READY ? "ErrImagePull" : "FailedMount";
    e.message = e.type == good ? NULL : "it does not answer";
    push(s, s->now + between(s, 0, slowest), true, e);
}

static void on_status(sim *s)
{
    if (!wh_lifecycle_terminal(s->lc)) {
        if (s->terminal)
            fail(s, "a terminal phase was left");
        return;
    }
    for (size_t i = 0; i < s->spec->n_containers; i++)
        if (s->runners[i].exists)
            fail(s, "terminal while container %zu runs", i);
    if (s->terminal && s->final != wh_lifecycle_phase(s->lc))
        fail(s, "a terminal phase changed");
    s->terminal = true;
    s->final = wh_lifecycle_phase(s->lc);
    if (s->final != WH_PHASE_SUCCEEDED && s->final != WH_PHASE_FAILED)
        fail(s, "terminal, but %s", wh_pod_phase_name(s->final));
}

static void on_action(sim *s, const wh_pod_action *a)
{
    switch (a->type) {
    case WH_DO_MOUNT:
        answer_maybe(s, WH_POD_VOLUMES_READY, WH_POD_VOLUMES_FAILED, 0, 2 * WH_SEC);
        break;
    case WH_DO_PULL:
        answer_maybe(s, WH_POD_IMAGE_READY, WH_POD_IMAGE_FAILED, a->container,
                     chance(s, 20) ? WH_HOUR : WH_SEC);
        break;
    case WH_DO_START:
        do_start(s, a);
        break;
    case WH_DO_STOP:
    case WH_DO_KILL:
        do_stop(s, a);
        break;
    case WH_DO_TEARDOWN:
        for (size_t i = 0; i < s->spec->n_containers; i++)
            if (s->runners[i].exists)
                fail(s, "TEARDOWN while container %zu runs", i);
        s->torn_down = true;
        push(s, s->now + between(s, 0, WH_SEC), true, (wh_pod_event){.type = WH_POD_TORN_DOWN});
        break;
    case WH_DO_FINISHED:
        if (!s->torn_down || s->deleted_at == 0)
            fail(s, "FINISHED without teardown and delete");
        s->finished = true;
        break;
    case WH_DO_STATUS:
        on_status(s);
        break;
    case WH_DO_EVENT:
    default:
        break;
    }
}

static void step(sim *s, const wh_pod_event *e)
{
    wh_time told = s->now;
    if (s->broken == BREAK_CLOCK) /* ten times too fast */
        told = BEGIN + (s->now - BEGIN) * 10;
    s->steps++;
    wh_lifecycle_step(s->lc, e, told, &s->actions);
    s->tick = s->actions.next;
    if (s->broken == BREAK_CLOCK && s->tick != WH_TIME_NEVER)
        s->tick = BEGIN + (s->tick - BEGIN) / 10;
    for (size_t i = 0; i < s->actions.n; i++)
        on_action(s, &s->actions.list[i]);
    if (wh_lifecycle_terminal(s->lc))
        on_status(s);
}

/* ---- agent deaths ---- */

static void drop_agent_events(sim *s)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->n_queue; i++)
        if (!s->queue[i].by_agent)
            s->queue[kept++] = s->queue[i];
    s->n_queue = kept;
}

static void report_runner(sim *s, size_t i)
{
    runner *r = &s->runners[i];
    wh_pod_event e = {.type = WH_POD_ADOPT,
                      .container = i,
                      .attempt = r->attempt,
                      .pid = 1000 + (pid_t)i,
                      .started = r->began ? r->start : 0};
    if (r->exists) {
        e.adopt = WH_ADOPT_RUNNING;
        step(s, &e);
    } else if (r->reported &&
               (!r->acknowledged || chance(s, 80))) { /* else: the record was lost with a keeper */
        e.adopt = WH_ADOPT_ENDED;
        e.end = r->end;
        step(s, &e);
    }
}

static void kill_agent(sim *s)
{
    wh_err err = {0};
    wh_lifecycle *next = NULL;
    auto_json json_t *saved = wh_lifecycle_save(s->lc);
    auto_free char *text = wh_json_dump(saved);
    auto_json json_t *loaded = NULL;
    s->agent_deaths++;
    drop_agent_events(s);
    if (s->broken == BREAK_STATE) { /* an agent that forgets what it ran */
        wh_lifecycle_free(s->lc);
        s->lc = wh_lifecycle_new(s->spec, s->now);
        s->admitted = false;
        push(s, s->now, false, (wh_pod_event){.type = WH_POD_ADMITTED});
        return;
    }
    s->now += between(s, 0, 2 * WH_MINUTE);
    for (size_t i = 0; i < s->spec->n_containers; i++)
        if (s->runners[i].exists && s->runners[i].exit_at <= s->now)
            end_runner(s, i, s->runners[i].exit_code, true);
    drop_agent_events(s);
    if (wh_json_parse(text, strlen(text), &loaded, &err) < 0 ||
        wh_lifecycle_load(s->spec, loaded, s->now, &next, &err) < 0) {
        fail(s, "load: %s", err.msg);
        return;
    }
    auto_json json_t *again = wh_lifecycle_save(next);
    if (json_integer_value(json_object_get(again, "stage")) !=
        json_integer_value(json_object_get(saved, "stage")))
        fail(s, "the stage changed over save and load");
    wh_lifecycle_free(s->lc);
    s->lc = next;
    for (size_t i = 0; i < s->spec->n_containers; i++)
        report_runner(s, i);
    step(s, &(wh_pod_event){.type = WH_POD_ADOPTED});
}

/* ---- the run ---- */

static void delete_pod(sim *s)
{
    wh_pod_event e = {.type = chance(s, 20) ? WH_POD_DELETE_NOW : WH_POD_DELETE};
    e.grace_s = chance(s, 50) ? -1 : (int64_t)wh_rng_below(&s->rng, 50);
    if (s->deleted_at == 0)
        s->deleted_at = s->now;
    step(s, &e);
}

static void something_happens(sim *s)
{
    uint64_t dice = wh_rng_below(&s->rng, 1000);
    if (dice < 25)
        kill_agent(s);
    else if (dice < 30 || (s->deleted_at != 0 && dice < 60))
        delete_pod(s);
    else if (dice < 34)
        step(s, &(wh_pod_event){.type = WH_POD_EVICT,
                                .grace_s = (int64_t)wh_rng_below(&s->rng, 30),
                                .message = "the node was low on memory"});
    else if (dice < 60)
        step(s, &(wh_pod_event){.type = WH_POD_RETRY});
    else if (dice < 100)
        step(s, &(wh_pod_event){.type = WH_POD_TICK});
}

/* The earliest of: queued events, exits, the tick. False when nothing will ever happen again. */
static bool advance(sim *s)
{
    size_t which = SIZE_MAX, dying = SIZE_MAX;
    wh_time at = s->tick;
    for (size_t i = 0; i < s->n_queue; i++)
        if (s->queue[i].at < at || (which == SIZE_MAX && s->queue[i].at <= at)) {
            at = s->queue[i].at;
            which = i;
        }
    for (size_t i = 0; i < s->spec->n_containers; i++)
        if (s->runners[i].exists && s->runners[i].exit_at != 0 && s->runners[i].exit_at < at) {
            at = s->runners[i].exit_at;
            dying = i;
        }
    if (at == WH_TIME_NEVER)
        return false;
    s->now = WH_MAX(s->now, at);
    if (dying != SIZE_MAX) {
        end_runner(s, dying, s->runners[dying].exit_code, !chance(s, 3));
        return true;
    }
    if (which == SIZE_MAX) {
        s->tick = WH_TIME_NEVER;
        step(s, &(wh_pod_event){.type = WH_POD_TICK});
        return true;
    }
    wh_pod_event e = s->queue[which].event;
    s->queue[which] = s->queue[--s->n_queue];
    if (e.type == WH_POD_STARTED)
        s->runners[e.container].acknowledged = true;
    if (e.type == WH_POD_EXITED)
        s->runners[e.container].reported = s->runners[e.container].attempt != e.attempt;
    step(s, &e);
    return true;
}

static void run_pod(sim *s)
{
    s->now = BEGIN;
    s->tick = WH_TIME_NEVER;
    make_pod(s);
    s->lc = wh_lifecycle_new(s->spec, s->now);
    step(s, &(wh_pod_event){.type = WH_POD_ADMITTED});
    while (!s->finished && s->failure[0] == '\0') {
        if (s->steps > STEPS_PER_POD && s->deleted_at == 0)
            delete_pod(s);
        else if (chance(s, 30))
            something_happens(s);
        if (!advance(s) && s->failure[0] == '\0') {
            if (s->deleted_at != 0 && !s->finished)
                fail(s, "nothing will happen any more, and the pod was asked to go");
            else if (s->deleted_at == 0 && !s->terminal)
                fail(s, "nothing will happen any more, and the pod is not over");
            else if (!s->finished)
                delete_pod(s);
        }
        if (s->deleted_at != 0 && s->now - s->deleted_at > 10 * WH_MINUTE)
            fail(s, "deleted ten minutes ago and still there");
    }
}

static void done(sim *s)
{
    wh_pod_actions_done(&s->actions);
    wh_lifecycle_free(s->lc);
    wh_pod_spec_free(s->spec);
}

static bool run_seed(uint64_t seed, breakage broken, size_t *steps, size_t *deaths, size_t *restarts,
                     bool loud)
{
    sim s = {.rng.state = seed, .broken = broken};
    run_pod(&s);
    *steps += s.steps;
    *deaths += s.agent_deaths;
    *restarts += s.restarts;
    bool ok = s.failure[0] == '\0';
    if (!ok && loud)
        fprintf(stderr, "# seed %" PRIu64 ", step %zu: %s\n", seed, s.steps, s.failure);
    done(&s);
    return ok;
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"nothing", "an exit that is reported too early",
                                        "a clock that runs away", "kills that do nothing",
                                        "an agent that forgets"};
    size_t steps = 0, deaths = 0, restarts = 0, unused = 0, pods = 0;
    bool ok = true;
    if (argc == 2)
        return run_seed(strtoull(argv[1], NULL, 10), BREAK_NOTHING, &steps, &deaths, &restarts, true) ? 0 : 1;
    printf("1..5\n");
    for (uint64_t seed = 1; ok && steps < STEPS_TOTAL; seed++, pods++)
        ok = run_seed(seed, BREAK_NOTHING, &steps, &deaths, &restarts, true);
    printf("%s 1 - %zu pods, %zu steps, %zu agent deaths, %zu ends of containers\n", ok ? "ok" : "not ok",
           pods, steps, deaths, restarts);
    for (int b = BREAK_EXIT_TOO_EARLY; b <= BREAK_STATE; b++) {
        bool found = false;
        for (uint64_t seed = 1; !found && seed < 200; seed++)
            found = !run_seed(seed, (breakage)b, &unused, &unused, &unused, false);
        printf("%s %d - notices %s\n", found ? "ok" : "not ok", b + 1, names[b]);
        ok &= found;
    }
    return ok ? 0 : 1;
}
