/* SPDX-License-Identifier: Apache-2.0 */
/* One lock guards all metrics: an update is a hash lookup and an addition. */
#include "base/metrics.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>

#define uthash_fatal(what) wh_panic(__FILE__, __LINE__, __func__, what)
#include <uthash.h>

#define SERIES_MAX 1000
#define OVERFLOW "overflow"

typedef struct wh_metric_series {
    UT_hash_handle hh;
    double value; /* of a histogram: the sum */
    uint64_t count;
    uint64_t buckets[WH_HISTOGRAM_BUCKETS_MAX];
    char label[];
} series;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static wh_metric *metrics;

static const double default_buckets[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                         0.5,   1,      2.5,   5,    10,    30,   60,  0};

static WH_METRIC(odd_total, WH_COUNTER, "wherry_odd_total", "Odd but legal events, by what was seen", "what");

static void register_locked(wh_metric *m)
{
    for (const wh_metric *at = metrics; at != NULL; at = at->next) {
        if (at == m)
            return;
    }
    m->next = metrics;
    metrics = m;
}

void wh_metric_register(wh_metric *m)
{
    (void)pthread_mutex_lock(&lock);
    register_locked(m);
    (void)pthread_mutex_unlock(&lock);
}

static series *find_locked(const wh_metric *m, const char *label)
{
    series *s;
    HASH_FIND(hh, m->series, label, strlen(label), s);
    return s;
}

static series *series_locked(wh_metric *m, const char *label)
{
    if (label == NULL)
        label = "";
    series *s = find_locked(m, label);
    if (s != NULL)
        return s;
    if (HASH_COUNT(m->series) >= SERIES_MAX) {
        label = OVERFLOW;
        s = find_locked(m, label);
        if (s != NULL)
            return s;
    }
    size_t n = strlen(label);
    s = wh_xcalloc(1, sizeof(*s) + n + 1);
    memcpy(s->label, label, n + 1);
    HASH_ADD_KEYPTR(hh, m->series, s->label, n, s);
    return s;
}

void wh_metric_add(wh_metric *m, const char *label, double by)
{
    (void)pthread_mutex_lock(&lock);
    series_locked(m, label)->value += by;
    (void)pthread_mutex_unlock(&lock);
}

void wh_metric_set(wh_metric *m, const char *label, double value)
{
    (void)pthread_mutex_lock(&lock);
    series_locked(m, label)->value = value;
    (void)pthread_mutex_unlock(&lock);
}

static const double *buckets_of(const wh_metric *m)
{
    return m->buckets != NULL ? m->buckets : default_buckets;
}

/* The list ends with 0, or at the maximum. */
static size_t bucket_count(const double *buckets)
{
    size_t n = 0;
    while (n < WH_HISTOGRAM_BUCKETS_MAX && (n == 0 || buckets[n] > buckets[n - 1]))
        n++;
    return n;
}

void wh_metric_observe(wh_metric *m, const char *label, double value)
{
    const double *buckets = buckets_of(m);
    size_t n = bucket_count(buckets);
    (void)pthread_mutex_lock(&lock);
    series *s = series_locked(m, label);
    s->value += value;
    s->count++;
    for (size_t i = 0; i < n; i++) {
        if (value <= buckets[i]) {
            s->buckets[i]++;
            break;
        }
    }
    (void)pthread_mutex_unlock(&lock);
}

void wh_metric_forget(wh_metric *m, const char *label)
{
    (void)pthread_mutex_lock(&lock);
    series *s = find_locked(m, label == NULL ? "" : label);
    if (s != NULL) {
        HASH_DELETE(hh, m->series, s);
        free(s);
    }
    (void)pthread_mutex_unlock(&lock);
}

double wh_metric_get(wh_metric *m, const char *label)
{
    (void)pthread_mutex_lock(&lock);
    const series *s = find_locked(m, label == NULL ? "" : label);
    double value = s == NULL ? 0 : m->kind == WH_HISTOGRAM ? (double)s->count : s->value;
    (void)pthread_mutex_unlock(&lock);
    return value;
}

void wh_metric_odd(const char *what)
{
    wh_metric_add(&odd_total, what, 1);
}

void wh_metric_label_escape(wh_buf *out, const char *value)
{
    size_t n = strlen(value);
    for (size_t i = 0; i < n;) {
        size_t len = wh_utf8_length(value + i, n - i);
        if (value[i] == '\\')
            (void)wh_buf_puts(out, "\\\\");
        else if (value[i] == '"')
            (void)wh_buf_puts(out, "\\\"");
        else if (value[i] == '\n')
            (void)wh_buf_puts(out, "\\n");
        else if (len == 0)
            (void)wh_buf_puts(out, "\xef\xbf\xbd"); /* the format is UTF-8 */
        else
            (void)wh_buf_append(out, value + i, len);
        i += len == 0 ? 1 : len;
    }
}

/* The shortest decimal that reads back the same, without a trailing ".0". */
static void put_double(wh_buf *out, double value)
{
    char text[40];
    if (isnan(value) || isinf(value)) {
        (void)wh_buf_puts(out, isnan(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(text, sizeof(text), "%.*g", digits, value);
        double back = strtod(text, NULL);
        if (!(back < value) && !(back > value))
            break;
    }
    (void)wh_buf_puts(out, text);
}

/* {a="x",b="y",le="0.1"}: names and values run in step; what has no value of its own gets "" or "overflow".
 */
static void put_labels(wh_buf *out, const wh_metric *m, const char *label, const char *le)
{
    if (m->label == NULL && le == NULL)
        return;
    const char *sep = "{";
    bool overflow = wh_streq(label, OVERFLOW);
    wh_str names = wh_str_of(m->label), name, values = wh_str_of(label), value;
    while (wh_str_split(&names, ',', &name)) {
        bool some = wh_str_split(&values, '\n', &value);
        auto_free char *text = wh_xstrndup(some       ? value.p
                                           : overflow ? OVERFLOW
                                                      : "",
                                           some ? value.n : SIZE_MAX);
        (void)wh_buf_printf(out, "%s%.*s=\"", sep, WH_STR_ARG(name));
        wh_metric_label_escape(out, text);
        (void)wh_buf_putc(out, '"');
        sep = ",";
    }
    if (le != NULL)
        (void)wh_buf_printf(out, "%sle=\"%s\"", sep, le);
    (void)wh_buf_putc(out, '}');
}

static void put_histogram(wh_buf *out, const wh_metric *m, const series *s)
{
    const double *buckets = buckets_of(m);
    size_t n = bucket_count(buckets);
    uint64_t total = 0;
    for (size_t i = 0; i < n; i++) {
        char le[40];
        (void)snprintf(le, sizeof(le), "%.15g", buckets[i]);
        total += s->buckets[i];
        (void)wh_buf_printf(out, "%s_bucket", m->name);
        put_labels(out, m, s->label, le);
        (void)wh_buf_printf(out, " %" PRIu64 "\n", total);
    }
    (void)wh_buf_printf(out, "%s_bucket", m->name);
    put_labels(out, m, s->label, "+Inf");
    (void)wh_buf_printf(out, " %" PRIu64 "\n%s_sum", s->count, m->name);
    put_labels(out, m, s->label, NULL);
    (void)wh_buf_putc(out, ' ');
    put_double(out, s->value);
    (void)wh_buf_printf(out, "\n%s_count", m->name);
    put_labels(out, m, s->label, NULL);
    (void)wh_buf_printf(out, " %" PRIu64 "\n", s->count);
}

static int by_label(const series *a, const series *b)
{
    return strcmp(a->label, b->label);
}

static void put_metric(wh_buf *out, wh_metric *m)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    if (m->label == NULL && m->kind != WH_HISTOGRAM)
        (void)series_locked(m, ""); /* without labels there is always a value, 0 at first */
    if (m->series == NULL)
        return;
    (void)wh_buf_printf(out, "# HELP %s ", m->name);
    for (const char *p = m->help; *p != '\0'; p++)
        (void)wh_buf_puts(out, *p == '\n' ? "\\n" : *p == '\\' ? "\\\\" : (char[]){*p, '\0'});
    (void)wh_buf_printf(out, "\n# TYPE %s %s\n", m->name, kinds[m->kind]);
    HASH_SORT(m->series, by_label);
    for (const series *s = m->series; s != NULL; s = s->hh.next) {
        if (m->kind == WH_HISTOGRAM) {
            put_histogram(out, m, s);
            continue;
        }
        (void)wh_buf_puts(out, m->name);
        put_labels(out, m, s->label, NULL);
        (void)wh_buf_putc(out, ' ');
        put_double(out, s->value);
        (void)wh_buf_putc(out, '\n');
    }
}

static int by_name(const void *a, const void *b)
{
    const wh_metric *const *x = a;
    const wh_metric *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

int wh_metrics_write(wh_buf *out)
{
    (void)pthread_mutex_lock(&lock);
    size_t n = 0, at = 0;
    for (const wh_metric *m = metrics; m != NULL; m = m->next)
        n++;
    wh_metric **sorted = wh_xcalloc(n, sizeof(wh_metric *));
    for (wh_metric *m = metrics; m != NULL; m = m->next)
        sorted[at++] = m;
    qsort(sorted, n, sizeof(wh_metric *), by_name);
    for (size_t i = 0; i < n; i++)
        put_metric(out, sorted[i]);
    free(sorted);
    (void)pthread_mutex_unlock(&lock);
    return out->failed ? -ENOBUFS : 0;
}
