/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics, declared once with unit and prose; one table makes the exposition and the manual. */
#pragma once

#include "base/buf.h"

typedef enum { WH_COUNTER, WH_GAUGE, WH_HISTOGRAM } wh_metric_kind;

#define WH_HISTOGRAM_BUCKETS_MAX 16

typedef struct wh_metric {
    const char *name; /* full name with unit suffix: "kubelet_running_pods", "..._seconds", "..._total" */
    const char *help;
    wh_metric_kind kind;
    const char *label;     /* label name, or NULL; several are written "a,b" */
    const double *buckets; /* of a histogram, ascending, ended by 0; NULL takes the default of 1 ms .. 60 s */
    struct wh_metric_series *series;
    struct wh_metric *next;
} wh_metric;

/* Defines a metric at file scope, which registers itself before main(). Write `static WH_METRIC(...)` unless a header
 * declares the variable. */
#define WH_METRIC(var, kind_, name_, help_, label_)                                         \
    wh_metric var = {.name = (name_), .help = (help_), .kind = (kind_), .label = (label_)}; \
    __attribute__((constructor)) static void register_##var(void)                           \
    {                                                                                       \
        wh_metric_register(&var);                                                           \
    }                                                                                       \
    struct wh_swallow_semicolon_

void wh_metric_register(wh_metric *m);
/* `label` is the value of the one label, or "a\nb" for several, or NULL. At most 1,000 series per metric; past that
 * the series "overflow" takes them. Thread-safe. */
void wh_metric_add(wh_metric *m, const char *label, double by);
void wh_metric_set(wh_metric *m, const char *label, double value);
void wh_metric_observe(wh_metric *m, const char *label, double value);
void wh_metric_forget(wh_metric *m, const char *label); /* drops the series */
double wh_metric_get(wh_metric *m,
                     const char *label); /* 0 when there is no such series; histograms: the count */

/* Text exposition format 0.0.4 of all registered metrics, sorted by name. */
int wh_metrics_write(wh_buf *out);
void wh_metric_label_escape(wh_buf *out, const char *value);

/* Counts the odd but legal; shows as wherry_odd_total{what="..."}. */
#define WH_COUNT_IF(cond, what_)            \
    ({                                      \
        bool count_if_ = (cond);            \
        if (__builtin_expect(count_if_, 0)) \
            wh_metric_odd(what_);           \
        count_if_;                          \
    })
void wh_metric_odd(const char *what);
