/* SPDX-License-Identifier: Apache-2.0 */
#include "pod/serve.h"

#define PREFIX "wherry.dev/"
#define AT_ONCE_MAX 4096
#define QUEUE_MAX 65536
#define REUSE_MAX 1000000
#define TIME_MAX (24 * WH_HOUR)

static const char *annotation(const wh_pod_spec *spec, const char *name)
{
    auto_free char *key = wh_xasprintf(PREFIX "%s", name);
    return json_string_value(json_object_get(spec->annotations, key));
}

static int bad(const char *name, const char *value, const char *expected, wh_err *err)
{
    return wh_fail(err, -EINVAL, "annotation '" PREFIX "%s' is '%.60s'; it is %s.", name, value, expected);
}

static int read_mode(const wh_pod_spec *spec, wh_pod_serve_mode *ret, wh_err *err)
{
    static const struct {
        const char *word;
        wh_pod_serve_mode mode;
    } modes[] = {{"wagi", WH_POD_SERVE_WAGI}, {"stream", WH_POD_SERVE_STREAM}, {"run", WH_POD_SERVE_RUN}};
    const char *value = annotation(spec, "serve");
    if (value == NULL)
        return 0;
    for (size_t i = 0; i < WH_ARRAY_LEN(modes); i++) {
        if (wh_streq(value, modes[i].word)) {
            *ret = modes[i].mode;
            return 0;
        }
    }
    return bad("serve", value, "wagi, stream or run", err);
}

static int read_number(const wh_pod_spec *spec, const char *name, uint32_t max, uint32_t *ret, wh_err *err)
{
    const char *value = annotation(spec, name);
    uint64_t v;
    if (value == NULL)
        return 0;
    if (wh_parse_u64(value, max, &v) < 0 || v == 0) {
        auto_free char *expected = wh_xasprintf("a number from 1 to %u", max);
        return bad(name, value, expected, err);
    }
    *ret = (uint32_t)v;
    return 0;
}

static int read_time(const wh_pod_spec *spec, const char *name, wh_time *ret, wh_err *err)
{
    const char *value = annotation(spec, name);
    int64_t v;
    if (value == NULL)
        return 0;
    if (wh_parse_duration(value, &v) < 0 || v < WH_SEC || v > TIME_MAX)
        return bad(name, value, "a duration from 1s to 24h, like 30s", err);
    *ret = v;
    return 0;
}

int wh_pod_serve_parse(const wh_pod_spec *spec, wh_pod_serve *ret, wh_err *err)
{
    wh_pod_serve s = {.reuse = 1};
    const char *network = annotation(spec, "network");
    int rc = read_mode(spec, &s.mode, err);
    rc = rc < 0 ? rc : read_number(spec, "reuse", REUSE_MAX, &s.reuse, err);
    rc = rc < 0 ? rc : read_number(spec, "concurrency", AT_ONCE_MAX, &s.at_once, err);
    rc = rc < 0 ? rc : read_number(spec, "queue", QUEUE_MAX, &s.queue, err);
    rc = rc < 0 ? rc : read_time(spec, "idle", &s.idle, err);
    rc = rc < 0 ? rc : read_time(spec, "queue-timeout", &s.queue_time, err);
    rc = rc < 0 ? rc : read_time(spec, "timeout", &s.time, err);
    if (rc == 0 && network != NULL && !wh_streq(network, "isolated") && !wh_streq(network, "shared"))
        rc = bad("network", network, "shared or isolated", err);
    if (rc < 0)
        return rc;
    s.isolated = wh_streq(network, "isolated");
    s.tls_secret = annotation(spec, "tls-secret");
    s.egress = annotation(spec, "egress");
    *ret = s;
    return 0;
}
