/* SPDX-License-Identifier: Apache-2.0 */
/* livenessProbe, readinessProbe, startupProbe. */
#include "pod/spec_read.h"

static uint16_t read_port(reader *r, const at *action, const wh_container_spec *c)
{
    at port = at_key(action, "port");
    if (json_is_integer(port.v))
        return (uint16_t)read_int(r, action, "port", 1, 65535, 0);
    const char *name = read_required(r, action, "port");
    for (size_t i = 0; i < c->n_ports; i++)
        if (wh_streq(c->ports[i].name, name))
            return c->ports[i].container_port;
    if (r->rc == 0)
        read_fail(r, &port, "the container has no port '%s'", name);
    return 0;
}

/* Tokens and text of a request that we write ourselves: nothing that could end a line. */
static bool is_plain(const char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            return false;
    return true;
}

static void read_headers(reader *r, const at *http, wh_probe_spec *p)
{
    at headers = read_list(r, http, "httpHeaders", 64);
    for (size_t i = 0; r->rc == 0 && i < json_array_size(headers.v); i++) {
        at item = read_item(r, &headers, i);
        const char *name = read_required(r, &item, "name"), *value = read_str(r, &item, "value", "");
        if (r->rc == 0 && (!is_plain(name) || !is_plain(value) || strpbrk(name, " :") != NULL))
            read_fail(r, &item, "not a header");
    }
    p->headers = headers.v;
}

static void read_http(reader *r, const at *http, const wh_container_spec *c, wh_probe_spec *p)
{
    static const char *const schemes[] = {"HTTP", "HTTPS", NULL};
    at path = at_key(http, "path");
    p->action = WH_PROBE_HTTP;
    p->https = read_word(r, http, "scheme", schemes, 0) == 1;
    p->path = read_str(r, http, "path", "/");
    p->host = read_str(r, http, "host", NULL);
    p->port = read_port(r, http, c);
    if (p->path[0] == '\0')
        p->path = "/";
    if (r->rc == 0 && (!is_plain(p->path) || strchr(p->path, ' ') != NULL))
        read_fail(r, &path, "not a path");
    if (r->rc == 0 && p->host != NULL && (!is_plain(p->host) || strpbrk(p->host, " /") != NULL))
        read_fail(r, http, "host: not a host");
    read_headers(r, http, p);
    if (p->https) {
        p->action = WH_PROBE_TCP;
        read_remark(r, "container '%s': HTTPS probes only connect: their answer is not looked at yet.",
                    c->name);
    }
}

void read_probe(reader *r, const at *place, const char *key, wh_container_spec *c, wh_probe_kind kind)
{
    wh_probe_spec *p = &c->probes[kind];
    at probe = read_object(r, place, key), http = read_object(r, &probe, "httpGet"),
       tcp = read_object(r, &probe, "tcpSocket"), exec = read_object(r, &probe, "exec"),
       grpc = read_object(r, &probe, "grpc");
    if (probe.v == NULL)
        return;
    p->initial_delay = read_int(r, &probe, "initialDelaySeconds", 0, INT32_MAX, 0) * WH_SEC;
    /* 0 is the same as absent: the API server fills in the defaults. */
    p->period = WH_MAX(read_int(r, &probe, "periodSeconds", 0, INT32_MAX, 10), (int64_t)0) * WH_SEC;
    p->timeout = WH_MAX(read_int(r, &probe, "timeoutSeconds", 0, INT32_MAX, 1), (int64_t)0) * WH_SEC;
    p->period = p->period == 0 ? 10 * WH_SEC : p->period;
    p->timeout = p->timeout == 0 ? WH_SEC : p->timeout;
    p->successes = (unsigned)WH_MAX(read_int(r, &probe, "successThreshold", 0, INT32_MAX, 1), (int64_t)1);
    p->failures = (unsigned)read_int(r, &probe, "failureThreshold", 0, INT32_MAX, 3);
    p->failures = p->failures == 0 ? 3 : p->failures;
    p->grace_s = read_int(r, &probe, "terminationGracePeriodSeconds", 1, INT32_MAX, -1);
    if (r->rc == 0 && kind != WH_PROBE_READINESS && p->successes != 1)
        read_fail(r, &probe, "successThreshold of this probe must be 1");
    if (http.v != NULL) {
        read_http(r, &http, c, p);
    } else if (tcp.v != NULL) {
        p->action = WH_PROBE_TCP;
        p->host = read_str(r, &tcp, "host", NULL);
        p->port = read_port(r, &tcp, c);
    } else if (exec.v != NULL || grpc.v != NULL) {
        read_remark(r, "container '%s': the %s of kind %s is accepted, but is not run: %s", c->name, key,
                    exec.v != NULL ? "exec" : "grpc",
                    exec.v != NULL ? "a WebAssembly guest has no second process. Use httpGet or tcpSocket."
                                   : "use httpGet or tcpSocket.");
    } else if (r->rc == 0) {
        read_fail(r, &probe, "one of httpGet, tcpSocket, grpc, exec is required");
    }
}
