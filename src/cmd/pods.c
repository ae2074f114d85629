/* SPDX-License-Identifier: Apache-2.0 */
/* wherry ps, top, describe, stop, logs: what an agent on this machine runs. */
#include "base/clock.h"
#include "cmd/client.h"
#include "cmd/cmd.h"

#include <stdio.h>

static struct {
    const char *output, *since, *container;
    bool follow, previous, timestamps, watch;
    int64_t grace;
    uint64_t tail;
} opt = {.output = "table", .grace = -1, .tail = UINT64_MAX};

static const wh_opt ps_table[] = {
    {"output", 'o', WH_OPT_STR, &opt.output, "table|json", "How to print"}, WH_CMD_DIR_OPTIONS, {0}};
static const wh_opt stop_table[] = {{"grace", 'g', WH_OPT_DURATION, &opt.grace, "TIME",
                                     "Kill after this time instead of the pod's own, e.g. 5s"},
                                    WH_CMD_DIR_OPTIONS,
                                    {0}};
static const wh_opt logs_table[] = {
    {"follow", 'f', WH_OPT_FLAG, &opt.follow, NULL, "Go on as lines come"},
    {"previous", 'p', WH_OPT_FLAG, &opt.previous, NULL, "Show the run before the present one"},
    {"tail", 'n', WH_OPT_U64, &opt.tail, "LINES", "Show the last lines only"},
    {"since", 's', WH_OPT_STR, &opt.since, "TIME",
     "Show what is newer: a duration like 5m, or 2026-01-02T03:04:05Z"},
    {"timestamps", 0, WH_OPT_FLAG, &opt.timestamps, NULL, "Put its time in front of each line"},
    {"container", 'c', WH_OPT_STR, &opt.container, "NAME",
     "Which container; needed when the pod has several"},
    WH_CMD_DIR_OPTIONS,
    {0}};

static const wh_opt *ps_options(void)
{
    return ps_table;
}

static const wh_opt *stop_options(void)
{
    return stop_table;
}

static const wh_opt *logs_options(void)
{
    return logs_table;
}

/* "3m", "2d": the age of a time. */
static const char *age(const char *rfc3339, char out[16])
{
    wh_time at;

    if (rfc3339 == NULL || wh_rfc3339_parse(rfc3339, &at) < 0)
        return "-";
    int64_t s = (wh_real_now() - at) / WH_SEC;
    if (s < 120)
        snprintf(out, 16, "%llds", (long long)s);
    else if (s < 7200)
        snprintf(out, 16, "%lldm", (long long)(s / 60));
    else if (s < 2 * 86400)
        snprintf(out, 16, "%lldh", (long long)(s / 3600));
    else
        snprintf(out, 16, "%lldd", (long long)(s / 86400));
    return out;
}

static int print_json(const json_t *body)
{
    char *text = json_dumps(body, JSON_INDENT(2));

    if (text == NULL)
        return 1;
    puts(text);
    free(text);
    return 0;
}

/* What kubectl shows as STATUS: the first container's reason where there is one, else the phase. */
static const char *status_word(const json_t *pod)
{
    const json_t *list = wh_json_at(pod, "status.containerStatuses"), *c;
    const char *phase = wh_json_str(pod, "status.phase");
    size_t i;

    if (wh_json_str(pod, "status.reason") != NULL)
        return wh_json_str(pod, "status.reason");
    json_array_foreach(list, i, c)
    {
        const char *reason = wh_json_str(c, "state.waiting.reason");
        if (reason == NULL)
            reason = wh_json_str(c, "state.terminated.reason");
        if (reason != NULL)
            return reason;
    }
    return phase != NULL ? phase : "Unknown";
}

static void print_pod_row(const json_t *entry)
{
    const json_t *pod = json_object_get(entry, "pod");
    const json_t *list = wh_json_at(pod, "status.containerStatuses"), *c;
    size_t i, ready = 0;
    int64_t restarts = 0;
    char text[16], counts[32];

    json_array_foreach(list, i, c)
    {
        ready += wh_json_bool(c, "ready", false);
        restarts += wh_json_int(c, "restartCount", 0);
    }
    snprintf(counts, sizeof(counts), "%zu/%zu", ready, json_array_size(list));
    printf("%-16s %-36s %-7s %-20s %8lld  %-6s %s\n", wh_json_str(pod, "metadata.namespace"),
           wh_json_str(pod, "metadata.name"), counts,
           wh_json_bool(entry, "dormant", false) ? "Dormant" : status_word(pod), (long long)restarts,
           age(wh_json_str(pod, "status.startTime"), text), wh_json_str(entry, "source"));
}

static int ps(int argc, char **argv)
{
    auto_json json_t *body = NULL;
    json_t *entry;
    wh_err err = {0};
    size_t i;

    (void)argv;
    if (argc != 0)
        return wh_cmd_usage("ps: takes no arguments");
    if (wh_client_call("GET", "/v1/pods", &body, &err) < 0)
        return wh_cmd_fail(&err);
    if (wh_streq(opt.output, "json"))
        return print_json(json_object_get(body, "items"));
    printf("%-16s %-36s %-7s %-20s %8s  %-6s %s\n", "NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE",
           "SOURCE");
    json_array_foreach(json_object_get(body, "items"), i, entry) print_pod_row(entry);
    return 0;
}

static int top(int argc, char **argv)
{
    auto_json json_t *body = NULL;
    json_t *entry, *usage;
    wh_err err = {0};
    const char *container;
    char memory[16];
    size_t i;

    (void)argv;
    if (argc != 0)
        return wh_cmd_usage("top: takes no arguments");
    if (wh_client_call("GET", "/v1/pods", &body, &err) < 0)
        return wh_cmd_fail(&err);
    if (wh_streq(opt.output, "json"))
        return print_json(json_object_get(body, "items"));
    printf("%-16s %-36s %-20s %12s %10s\n", "NAMESPACE", "NAME", "CONTAINER", "CPU", "MEMORY");
    json_array_foreach(json_object_get(body, "items"), i, entry)
    {
        json_object_foreach(json_object_get(entry, "usage"), container, usage)
            printf("%-16s %-36s %-20s %10.3f s %10s\n", wh_json_str(entry, "pod.metadata.namespace"),
                   wh_json_str(entry, "pod.metadata.name"), container,
                   (double)wh_json_int(usage, "cpuNanoseconds", 0) / 1e9,
                   wh_human_bytes((uint64_t)wh_json_int(usage, "memoryBytes", 0), memory));
    }
    return 0;
}

static void describe_container(const json_t *c)
{
    const char *states[] = {"waiting", "running", "terminated"};

    printf("  %s:\n    Image:      %s\n    Image ID:   %s\n    Restarts:   %lld\n", wh_json_str(c, "name"),
           wh_json_str(c, "image"), wh_json_str(c, "imageID") != NULL ? wh_json_str(c, "imageID") : "",
           (long long)wh_json_int(c, "restartCount", 0));
    for (size_t i = 0; i < WH_ARRAY_LEN(states); i++) {
        const json_t *state = json_object_get(json_object_get(c, "state"), states[i]);
        if (state == NULL)
            continue;
        printf("    State:      %s", states[i]);
        if (wh_json_str(state, "reason") != NULL)
            printf(" (%s)", wh_json_str(state, "reason"));
        if (json_object_get(state, "exitCode") != NULL)
            printf(", exit code %lld", (long long)wh_json_int(state, "exitCode", 0));
        putchar('\n');
        if (wh_json_str(state, "message") != NULL)
            printf("    Message:    %s\n", wh_json_str(state, "message"));
    }
}

static void describe_events(const json_t *events)
{
    const json_t *e;
    size_t i;

    puts("Events:");
    json_array_foreach(events, i, e)
        printf("  %-20s %-8s %-20s %s\n", wh_json_str(e, "time"), wh_json_str(e, "type"),
               wh_json_str(e, "reason"), wh_json_str(e, "message"));
    if (json_array_size(events) == 0)
        puts("  none");
}

static int describe(int argc, char **argv)
{
    auto_json json_t *body = NULL;
    wh_err err = {0};
    const json_t *c;
    size_t i;

    if (argc != 1)
        return wh_cmd_usage("describe: takes one pod, NAME or NAMESPACE/NAME");
    auto_free char *path = wh_client_pod_path(argv[0], "");
    if (wh_client_call("GET", path, &body, &err) < 0)
        return wh_cmd_fail(&err);
    if (wh_streq(opt.output, "json"))
        return print_json(body);
    const json_t *pod = json_object_get(body, "pod");
    printf("Name:         %s\nNamespace:    %s\nUID:          %s\nSource:       %s %s\nStatus:       %s\n",
           wh_json_str(pod, "metadata.name"), wh_json_str(pod, "metadata.namespace"),
           wh_json_str(pod, "metadata.uid"), wh_json_str(body, "source"), wh_json_str(body, "origin"),
           wh_json_str(pod, "status.phase"));
    if (wh_json_str(pod, "status.message") != NULL)
        printf("Reason:       %s: %s\n", wh_json_str(pod, "status.reason"),
               wh_json_str(pod, "status.message"));
    puts("Containers:");
    json_array_foreach(wh_json_at(pod, "status.initContainerStatuses"), i, c) describe_container(c);
    json_array_foreach(wh_json_at(pod, "status.containerStatuses"), i, c) describe_container(c);
    describe_events(json_object_get(body, "events"));
    return 0;
}

static int stop(int argc, char **argv)
{
    wh_err err = {0};

    if (argc < 1)
        return wh_cmd_usage("stop: which pod?");
    for (int i = 0; i < argc; i++) {
        auto_json json_t *body = NULL;
        auto_free char *suffix =
            opt.grace >= 0 ? wh_xasprintf("?grace=%lld", (long long)(opt.grace / WH_SEC)) : wh_xstrdup("");
        auto_free char *path = wh_client_pod_path(argv[i], suffix);
        if (wh_client_call("DELETE", path, &body, &err) < 0)
            return wh_cmd_fail(&err);
        printf("%s is stopping\n", argv[i]);
    }
    return 0;
}

/* The only container, or the one that was named. */
static int pick_container(const char *pod, char **ret, wh_err *err)
{
    auto_json json_t *body = NULL;
    auto_free char *path = wh_client_pod_path(pod, "");

    if (opt.container != NULL) {
        *ret = wh_xstrdup(opt.container);
        return 0;
    }
    int rc = wh_client_call("GET", path, &body, err);
    if (rc < 0)
        return rc;
    const json_t *containers = wh_json_at(body, "pod.spec.containers");
    if (json_array_size(containers) != 1)
        return wh_fail(err, -EINVAL, "pod '%s' has %zu containers; name one with --container.", pod,
                       json_array_size(containers));
    *ret = wh_xstrdup(wh_json_str(json_array_get(containers, 0), "name"));
    return 0;
}

static int put_since(wh_buf *query, wh_err *err)
{
    int64_t ns = 0;

    if (opt.since == NULL)
        return 0;
    if (wh_parse_duration(opt.since, &ns) == 0)
        return wh_buf_printf(query, "&sinceSeconds=%lld", (long long)WH_MAX((int64_t)1, ns / WH_SEC));
    if (wh_rfc3339_parse(opt.since, &ns) == 0)
        return wh_buf_printf(query, "&sinceTime=%s", opt.since);
    return wh_fail(err, -EINVAL,
                   "--since takes a duration like 5m or a time like 2026-01-02T03:04:05Z, not '%s'.",
                   opt.since);
}

static int logs(int argc, char **argv)
{
    auto_free char *container = NULL;
    auto_buf wh_buf query;
    wh_err err = {0};

    if (argc != 1)
        return wh_cmd_usage("logs: takes one pod, NAME or NAMESPACE/NAME");
    if (pick_container(argv[0], &container, &err) < 0)
        return wh_cmd_fail(&err);
    wh_buf_init(&query, 1024);
    wh_buf_printf(&query, "/logs/%s?follow=%d&previous=%d&timestamps=%d", container, opt.follow, opt.previous,
                  opt.timestamps);
    if (opt.tail != UINT64_MAX)
        wh_buf_printf(&query, "&tailLines=%llu", (unsigned long long)opt.tail);
    if (put_since(&query, &err) < 0)
        return wh_cmd_fail(&err);
    auto_free char *path = wh_client_pod_path(argv[0], wh_buf_str(&query));
    return wh_client_stream(path, &err) < 0 ? wh_cmd_fail(&err) : 0;
}

const wh_verb wh_cmd_ps = {.name = "ps",
                           .args = "",
                           .summary = "List the pods of the agent on this machine",
                           .options = ps_options,
                           .run = ps};
const wh_verb wh_cmd_top = {.name = "top",
                            .args = "",
                            .summary = "Show what running containers use",
                            .options = ps_options,
                            .run = top};
const wh_verb wh_cmd_describe = {.name = "describe",
                                 .args = "[NAMESPACE/]POD",
                                 .summary = "Show one pod: containers, states, events",
                                 .options = ps_options,
                                 .run = describe};
const wh_verb wh_cmd_stop = {.name = "stop",
                             .args = "[NAMESPACE/]POD...",
                             .summary = "Stop pods gracefully",
                             .options = stop_options,
                             .run = stop};
const wh_verb wh_cmd_logs = {.name = "logs",
                             .args = "[NAMESPACE/]POD",
                             .summary = "Print a container's log",
                             .options = logs_options,
                             .run = logs};
