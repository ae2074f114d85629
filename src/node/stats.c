/* SPDX-License-Identifier: Apache-2.0 */
#include "node/stats.h"
#include "base/file.h"
#include "base/metrics.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

typedef struct machine { /* of the whole machine, from /proc */
    double cpu_seconds;
    uint64_t memory_total, memory_available;
} machine;

static uint64_t meminfo(const char *text, const char *key)
{
    const char *at = strstr(text, key);

    return at != NULL ? strtoull(at + strlen(key), NULL, 10) * 1024 : 0;
}

static machine read_machine(void)
{
    machine m = {0};
    auto_free char *stat = NULL;
    auto_free char *mem = NULL;
    unsigned long long user, nice, sys, idle, iowait, irq, softirq;

    if (wh_read_file(AT_FDCWD, "/proc/stat", 1UL << 20, &stat, NULL, NULL) == 0 &&
        /* NOLINTNEXTLINE(cert-err34-c): the kernel's own numbers. */
        sscanf(stat, "cpu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &sys, &idle, &iowait, &irq,
               &softirq) == 7)
        m.cpu_seconds = (double)(user + nice + sys + irq + softirq) / (double)sysconf(_SC_CLK_TCK);
    if (wh_read_file(AT_FDCWD, "/proc/meminfo", 64 * 1024, &mem, NULL, NULL) == 0) {
        m.memory_total = meminfo(mem, "MemTotal:");
        m.memory_available = meminfo(mem, "MemAvailable:");
    }
    return m;
}

/* At least one of each for what runs. */
static wh_usage usage_of(const wh_worker *w, size_t container, bool *ret_running)
{
    wh_usage u = {0};

    *ret_running = wh_worker_usage(w, container, &u) == 0;
    if (*ret_running) {
        u.cpu_ns = WH_MAX(u.cpu_ns, (uint64_t)1);
        u.memory_bytes = WH_MAX(u.memory_bytes, (uint64_t)4096);
        u.working_set_bytes = WH_MAX(u.working_set_bytes, (uint64_t)4096);
    }
    return u;
}

/* ---- text ---- */

typedef struct text_pass {
    wh_buf *out;
    enum { CONTAINER_CPU, CONTAINER_MEMORY, CONTAINER_START, POD_CPU, POD_MEMORY } what;
} text_pass;

static void put_labels(wh_buf *out, const wh_pod_spec *spec, const char *container)
{
    wh_buf_putc(out, '{');
    if (container != NULL) {
        wh_buf_puts(out, "container=\"");
        wh_metric_label_escape(out, container);
        wh_buf_puts(out, "\",");
    }
    wh_buf_puts(out, "namespace=\"");
    wh_metric_label_escape(out, spec->namespace_);
    wh_buf_puts(out, "\",pod=\"");
    wh_metric_label_escape(out, spec->name);
    wh_buf_puts(out, "\"} ");
}

static void put_container(const text_pass *pass, const wh_pod_spec *spec, size_t i, const wh_usage *u)
{
    const char *names[] = {"container_cpu_usage_seconds_total", "container_memory_working_set_bytes",
                           "container_start_time_seconds"};
    double value = pass->what == CONTAINER_CPU      ? (double)u->cpu_ns / 1e9
                   : pass->what == CONTAINER_MEMORY ? (double)u->working_set_bytes
                                                    : (double)u->started / 1e9;

    wh_buf_puts(pass->out, names[pass->what]);
    put_labels(pass->out, spec, spec->containers[i].name);
    wh_buf_printf(pass->out, "%.9g %lld\n", value, (long long)(wh_real_now() / WH_MSEC));
}

static void put_pod(void *user, wh_worker *w)
{
    const text_pass *pass = user;
    const wh_pod_spec *spec = wh_worker_spec(w);
    wh_usage sum = {0};
    bool any = false, running;

    for (size_t i = 0; i < spec->n_containers; i++) {
        wh_usage u = usage_of(w, i, &running);
        if (!running)
            continue;
        any = true;
        sum.cpu_ns += u.cpu_ns;
        sum.working_set_bytes += u.working_set_bytes;
        if (pass->what <= CONTAINER_START)
            put_container(pass, spec, i, &u);
    }
    if (!any || pass->what <= CONTAINER_START)
        return;
    wh_buf_puts(pass->out,
                pass->what == POD_CPU ? "pod_cpu_usage_seconds_total" : "pod_memory_working_set_bytes");
    put_labels(pass->out, spec, NULL);
    wh_buf_printf(pass->out, "%.9g %lld\n",
                  pass->what == POD_CPU ? (double)sum.cpu_ns / 1e9 : (double)sum.working_set_bytes,
                  (long long)(wh_real_now() / WH_MSEC));
}

int wh_stats_resource(wh_node *node, wh_buf *out)
{
    static const char *const heads[] = {
        "# HELP container_cpu_usage_seconds_total Cumulative cpu time consumed by the container in core-seconds\n"
        "# TYPE container_cpu_usage_seconds_total counter\n",
        "# HELP container_memory_working_set_bytes Current working set of the container in bytes\n"
        "# TYPE container_memory_working_set_bytes gauge\n",
        "# HELP container_start_time_seconds Start time of the container since unix epoch in seconds\n"
        "# TYPE container_start_time_seconds gauge\n",
        "# HELP pod_cpu_usage_seconds_total Cumulative cpu time consumed by the pod in core-seconds\n"
        "# TYPE pod_cpu_usage_seconds_total counter\n",
        "# HELP pod_memory_working_set_bytes Current working set of the pod in bytes\n"
        "# TYPE pod_memory_working_set_bytes gauge\n"};
    machine m = read_machine();
    long long now = wh_real_now() / WH_MSEC;

    wh_buf_printf(
        out,
        "# HELP node_cpu_usage_seconds_total Cumulative cpu time consumed by the node in core-seconds\n"
        "# TYPE node_cpu_usage_seconds_total counter\nnode_cpu_usage_seconds_total %.9g %lld\n"
        "# HELP node_memory_working_set_bytes Current working set of the node in bytes\n"
        "# TYPE node_memory_working_set_bytes gauge\nnode_memory_working_set_bytes %llu %lld\n",
        m.cpu_seconds, now, (unsigned long long)(m.memory_total - m.memory_available), now);
    for (unsigned what = CONTAINER_CPU; what <= POD_MEMORY; what++) {
        text_pass pass = {.out = out};
        pass.what = what;
        wh_buf_puts(out, heads[what]);
        wh_node_each(node, put_pod, &pass);
    }
    wh_buf_puts(
        out,
        "# HELP resource_scrape_error 1 if there was an error while getting container metrics, 0 otherwise\n"
        "# TYPE resource_scrape_error gauge\nresource_scrape_error 0\n");
    return out->failed ? -ENOBUFS : 0;
}

/* ---- of the agent itself ---- */

static void count_running(void *user, wh_worker *w)
{
    for (size_t i = 0; i < wh_worker_spec(w)->n_containers; i++)
        *(size_t *)user += wh_lifecycle_container(wh_worker_lifecycle(w), i)->state == WH_CONTAINER_RUNNING;
}

int wh_stats_metrics(wh_node *node, wh_buf *out)
{
    struct rusage usage = {0};
    auto_free char *statm = NULL;
    unsigned long long pages = 0, resident = 0;
    size_t running = 0;

    wh_metrics_write(out);
    wh_node_each(node, count_running, &running);
    getrusage(RUSAGE_SELF, &usage);
    if (wh_read_file(AT_FDCWD, "/proc/self/statm", 256, &statm, NULL, NULL) == 0)
        sscanf(statm, "%llu %llu", &pages, &resident); /* NOLINT(cert-err34-c): the kernel's own numbers. */
    double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    wh_buf_printf(out,
                  "# HELP kubelet_running_containers Containers that run on this node.\n"
                  "# TYPE kubelet_running_containers gauge\n"
                  "kubelet_running_containers{container_state=\"running\"} %zu\n"
                  "# HELP process_cpu_seconds_total CPU time of the agent.\n"
                  "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total %.6f\n"
                  "# HELP process_resident_memory_bytes Resident memory of the agent.\n"
                  "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes %llu\n"
                  "# HELP wherry_build_info Version of this program.\n"
                  "# TYPE wherry_build_info gauge\nwherry_build_info{version=\"" WH_VERSION "\"} 1\n",
                  running, cpu, resident * (unsigned long long)sysconf(_SC_PAGESIZE));
    return out->failed ? -ENOBUFS : 0;
}

/* ---- summary ---- */

static json_t *cpu_json(const char *time, uint64_t ns)
{
    return json_pack("{s:s, s:I}", "time", time, "usageCoreNanoSeconds", (json_int_t)ns);
}

static json_t *memory_json(const char *time, uint64_t usage, uint64_t working_set)
{
    return json_pack("{s:s, s:I, s:I}", "time", time, "usageBytes", (json_int_t)usage, "workingSetBytes",
                     (json_int_t)working_set);
}

static void summarize_pod(void *user, wh_worker *w)
{
    const wh_pod_spec *spec = wh_worker_spec(w);
    json_t *containers = json_array();
    char now[WH_RFC3339_LEN], started[WH_RFC3339_LEN];
    wh_usage sum = {0};
    bool running;

    wh_rfc3339(wh_real_now(), 0, now);
    for (size_t i = 0; i < spec->n_containers; i++) {
        wh_usage u = usage_of(w, i, &running);
        if (!running)
            continue;
        sum.cpu_ns += u.cpu_ns;
        sum.memory_bytes += u.memory_bytes;
        sum.working_set_bytes += u.working_set_bytes;
        json_array_append_new(containers,
                              json_pack("{s:s, s:s, s:o, s:o}", "name", spec->containers[i].name, "startTime",
                                        wh_rfc3339(u.started, 0, started), "cpu", cpu_json(now, u.cpu_ns),
                                        "memory", memory_json(now, u.memory_bytes, u.working_set_bytes)));
    }
    wh_rfc3339(wh_lifecycle_start_time(wh_worker_lifecycle(w)), 0, started);
    json_array_append_new(user,
                          json_pack("{s:{s:s, s:s, s:s}, s:s, s:o, s:o, s:o}", "podRef", "name", spec->name,
                                    "namespace", spec->namespace_, "uid", spec->uid, "startTime", started,
                                    "containers", containers, "cpu", cpu_json(now, sum.cpu_ns), "memory",
                                    memory_json(now, sum.memory_bytes, sum.working_set_bytes)));
}

json_t *wh_stats_summary(wh_node *node, const char *node_name)
{
    machine m = read_machine();
    json_t *pods = json_array();
    char now[WH_RFC3339_LEN];
    struct statvfs fs = {0};
    uint64_t used = m.memory_total - m.memory_available;

    wh_rfc3339(wh_real_now(), 0, now);
    wh_node_each(node, summarize_pod, pods);
    statvfs("/var/lib", &fs);
    json_t *disk = json_pack("{s:s, s:I, s:I, s:I}", "time", now, "availableBytes",
                             (json_int_t)(fs.f_bavail * fs.f_frsize), "capacityBytes",
                             (json_int_t)(fs.f_blocks * fs.f_frsize), "usedBytes",
                             (json_int_t)((fs.f_blocks - fs.f_bfree) * fs.f_frsize));
    return json_pack("{s:{s:s, s:o, s:{s:s, s:I, s:I, s:I}, s:o}, s:o}", "node", "nodeName", node_name, "cpu",
                     cpu_json(now, (uint64_t)(m.cpu_seconds * 1e9)), "memory", "time", now, "availableBytes",
                     (json_int_t)m.memory_available, "usageBytes", (json_int_t)used, "workingSetBytes",
                     (json_int_t)used, "fs", disk, "pods", pods);
}
