/* SPDX-License-Identifier: Apache-2.0 */
/* The environment of a container (kubelet_pods.go makeEnvironmentVariables, envvars.go) and its arguments. */
#include "pod/env.h"

#include <ctype.h>
#include <stdio.h>
#include <uthash.h>

typedef struct var {
    char *name, *value;
    UT_hash_handle hh;
} var;

typedef struct table {
    var *vars; /* in the order in which names came first */
    size_t bytes;
} table;

static void table_done(table *t)
{
    var *v, *next;
    HASH_ITER(hh, t->vars, v, next)
    {
        HASH_DEL(t->vars, v);
        free(v->name);
        free(v->value);
        free(v);
    }
}
#define auto_table __attribute__((cleanup(table_done)))

static const char *lookup(const table *t, const char *name, size_t n)
{
    var *v = NULL;
    HASH_FIND(hh, t->vars, name, n, v);
    return v == NULL ? NULL : v->value;
}

/* Takes over `value`; what was there is replaced. */
static int put_take(table *t, const char *name, char *value, wh_err *err)
{
    size_t n = strlen(name);
    var *v = NULL;
    HASH_FIND(hh, t->vars, name, n, v);
    if (v != NULL) {
        t->bytes -= strlen(v->value);
        free(v->value);
    } else {
        v = wh_xnew(var);
        v->name = wh_xstrdup(name);
        HASH_ADD_KEYPTR(hh, t->vars, v->name, n, v);
        t->bytes += n + 2;
    }
    v->value = value;
    t->bytes += strlen(value);
    if (t->bytes > WH_ENV_BYTES_MAX)
        return wh_fail(err, -E2BIG, "the environment is larger than %lu bytes.", WH_ENV_BYTES_MAX);
    return 0;
}

/* ---- $(VAR) ---- */

typedef struct scope {
    const table *first, *second; /* either may be NULL */
} scope;

static const char *scope_find(const scope *s, const char *name, size_t n)
{
    const char *value = s->first == NULL ? NULL : lookup(s->first, name, n);
    return value == NULL && s->second != NULL ? lookup(s->second, name, n) : value;
}

/* What follows a '$' at `p`: appends its meaning and returns where to go on. NULL: an unknown name in strict
 * mode. */
static const char *expand_one(const char *p, const scope *s, bool strict, wh_buf *out)
{
    if (p[1] == '$') {
        wh_buf_putc(out, '$');
        return p + 2;
    }
    const char *end = p[1] == '(' ? strchr(p + 2, ')') : NULL;
    if (end == NULL) {
        wh_buf_putc(out, '$');
        return p + 1;
    }
    const char *value = scope_find(s, p + 2, (size_t)(end - p - 2));
    if (value == NULL && strict)
        return NULL;
    if (value != NULL)
        wh_buf_puts(out, value);
    else
        wh_buf_append(out, p, (size_t)(end + 1 - p));
    return end + 1;
}

static int expand(const char *text, const scope *s, size_t max, bool strict, char **ret, wh_err *err)
{
    auto_buf wh_buf out = {0};
    wh_buf_init(&out, max);
    for (const char *p = text; *p != '\0';) {
        size_t plain = strcspn(p, "$");
        wh_buf_append(&out, p, plain);
        p += plain;
        if (*p == '\0')
            break;
        const char *next = expand_one(p, s, strict, &out);
        if (next == NULL)
            return wh_fail(err, -EINVAL, "'%.120s': no variable of that name.", p);
        p = next;
    }
    if (out.failed)
        return wh_fail(err, -E2BIG, "'%.60s' expands to more than %zu bytes.", text, max);
    *ret = wh_xstrdup(wh_buf_str(&out));
    return 0;
}

static int read_table(table *t, char *const *env, wh_err *err)
{
    int rc = 0;
    for (size_t i = 0; env != NULL && env[i] != NULL && rc == 0; i++) {
        const char *equals = strchr(env[i], '=');
        if (equals == NULL || equals == env[i])
            continue;
        auto_free char *name = wh_xstrndup(env[i], (size_t)(equals - env[i]));
        rc = put_take(t, name, wh_xstrdup(equals + 1), err);
    }
    return rc;
}

int wh_env_expand(const char *text, char *const *env, size_t max, bool strict, char **ret, wh_err *err)
{
    auto_table table t = {0};
    int rc = read_table(&t, env, err);
    return rc < 0 ? rc : expand(text, &(scope){.first = &t}, max, strict, ret, err);
}

/* ---- service variables ---- */

static char *service_prefix(const char *name)
{
    char *s = wh_xstrdup(name);
    for (char *p = s; *p != '\0'; p++)
        *p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
    return s;
}

static char *lower_case(const char *text)
{
    char *s = wh_xstrdup(text);
    for (char *p = s; *p != '\0'; p++)
        *p = (char)tolower((unsigned char)*p);
    return s;
}

/* <S>_PORT_<n>_<PROTO> and its parts, <S>_SERVICE_PORT_<NAME>, and for the first port <S>_SERVICE_PORT and <S>_PORT. */
static int put_service_port(table *t, const char *prefix, const char *ip, const json_t *port, bool first)
{
    const char *protocol = wh_json_str(port, "protocol"), *name = wh_json_str(port, "name");
    auto_free char *upper = service_prefix(protocol == NULL ? "TCP" : protocol), *lower = lower_case(upper);
    auto_free char *number =
        wh_xasprintf("%lld", (long long)json_integer_value(json_object_get(port, "port")));
    auto_free char *base = wh_xasprintf("%s_PORT_%s_%s", prefix, number, upper), *port_name = NULL;
    char url[600];
    snprintf(url, sizeof(url), strchr(ip, ':') != NULL ? "%s://[%s]:%s" : "%s://%s:%s", lower, ip, number);
    if (name != NULL && *name != '\0')
        port_name = service_prefix(name);
    const struct {
        bool wanted;
        const char *key, *suffix, *value;
    } rows[] = {{port_name != NULL, prefix, "_SERVICE_PORT_", number},
                {true, base, "", url},
                {true, base, "_PROTO", lower},
                {true, base, "_PORT", number},
                {true, base, "_ADDR", ip},
                {first, prefix, "_SERVICE_PORT", number},
                {first, prefix, "_PORT", url}};
    for (size_t i = 0; i < WH_ARRAY_LEN(rows); i++) {
        auto_free char *key =
            wh_xasprintf("%s%s%s", rows[i].key, rows[i].suffix, i == 0 && port_name != NULL ? port_name : "");
        int rc = rows[i].wanted ? put_take(t, key, wh_xstrdup(rows[i].value), NULL) : 0;
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int put_service(table *t, const json_t *service)
{
    const char *name = wh_json_str(service, "metadata.name"), *ip = wh_json_str(service, "spec.clusterIP");
    const json_t *ports = wh_json_at(service, "spec.ports"), *port;
    size_t i;
    char key[300];
    if (name == NULL || ip == NULL || *ip == '\0' || strcmp(ip, "None") == 0 || strlen(name) > 253)
        return 0;
    auto_free char *prefix = service_prefix(name);
    snprintf(key, sizeof(key), "%s_SERVICE_HOST", prefix);
    int rc = put_take(t, key, wh_xstrdup(ip), NULL);
    json_array_foreach(ports, i, port)
    {
        if (rc == 0)
            rc = put_service_port(t, prefix, ip, port, i == 0);
    }
    return rc;
}

/* default/kubernetes always, unless the pod's namespace has a service of that name; the namespace's own if
 * links are on. */
static int put_services(table *t, const wh_pod_spec *spec, const json_t *services)
{
    size_t i;
    const json_t *service;
    int rc = 0;
    for (int pass = 0; pass < 2; pass++) {
        json_array_foreach(services, i, service)
        {
            const char *name = wh_json_str(service, "metadata.name");
            const char *namespace_ = wh_json_str(service, "metadata.namespace");
            bool master = wh_streq(namespace_, "default") && wh_streq(name, "kubernetes");
            bool own = spec->service_links && wh_streq(namespace_, spec->namespace_);
            if (rc == 0 && (pass == 0 ? master : own))
                rc = put_service(t, service);
        }
    }
    return rc;
}

/* ---- what the pod says ---- */

static const char *kind_name(wh_env_kind kind)
{
    return kind == WH_ENV_SECRET ? "Secret" : "ConfigMap";
}

/* 0 and the object, or 0 and NULL when it is optional and not there. */
static int get_object(const wh_env_input *in, wh_env_kind kind, const char *name, bool optional, json_t **ret,
                      wh_err *err)
{
    const char *what = kind_name(kind);
    wh_err why = {0};
    int rc = in->resolver == NULL
                 ? -ENOENT
                 : in->resolver->get(in->resolver->user, what, in->spec->namespace_, name, ret, &why);
    if (rc == -ENOENT && optional)
        return 0;
    if (rc == -ENOENT)
        return wh_fail(err, rc,
                       "%s \"%s\" not found in namespace %s: create it, or mark the reference as optional.",
                       kind == WH_ENV_SECRET ? "secret" : "configmap", name, in->spec->namespace_);
    if (rc < 0)
        return wh_fail(err, rc, "%s \"%s\": %s.", what, name,
                       why.msg[0] == '\0' ? "is not known yet" : why.msg);
    return 0;
}

static int put_bytes(table *t, const char *name, char *value, size_t n, wh_err *err)
{
    if (memchr(value, '\0', n) != NULL) {
        free(value);
        return wh_fail(err, -EINVAL, "variable %.80s: its value has a NUL byte, which no variable can hold.",
                       name);
    }
    return put_take(t, name, value, err);
}

static bool valid_name(const char *name)
{
    for (const char *p = name; *p != '\0'; p++)
        if (*p < 0x20 || *p > 0x7e || *p == '=')
            return false;
    return *name != '\0';
}

static int put_member(table *t, const wh_env_from *from, const json_t *object, const char *key, wh_err *err)
{
    auto_free char *name = wh_xasprintf("%s%s", from->prefix, key);
    char *value = NULL;
    size_t n = 0;
    if (!valid_name(name))
        return 0; /* the kubelet leaves such keys out too */
    int rc = wh_object_key(object, key, &value, &n, err);
    return rc < 0 ? wh_wrap(err, "%s \"%s\"", kind_name(from->kind), from->object)
                  : put_bytes(t, name, value, n, err);
}

static int put_all_of(table *t, const wh_env_input *in, const wh_env_from *from, wh_err *err)
{
    static const char *const members[] = {"data", "binaryData", "stringData"};
    auto_json json_t *object = NULL;
    const char *key;
    json_t *value;
    int rc = get_object(in, from->kind, from->object, from->optional, &object, err);
    if (rc < 0 || object == NULL)
        return rc;
    for (size_t i = 0; i < WH_ARRAY_LEN(members); i++) {
        if (i == 1 ||
            (i == 2 && from->kind != WH_ENV_SECRET)) /* binary data never goes into an environment */
            continue;
        json_object_foreach(json_object_get(object, members[i]), key, value)
        {
            if (rc == 0)
                rc = put_member(t, from, object, key, err);
        }
    }
    return rc;
}

static int put_key(table *t, const wh_env_input *in, const wh_env_var *v, wh_err *err)
{
    auto_json json_t *object = NULL;
    char *value = NULL;
    size_t n = 0;
    int rc = get_object(in, v->kind, v->object, v->optional, &object, err);
    if (rc < 0 || object == NULL)
        return rc;
    rc = wh_object_key(object, v->key, &value, &n, err);
    if (rc == -ENOENT && v->optional)
        return 0;
    if (rc == -ENOENT)
        return wh_fail(err, rc,
                       "couldn't find key %.80s in %s %s/%s: add it, or mark the reference as optional.",
                       v->key, kind_name(v->kind), in->spec->namespace_, v->object);
    if (rc < 0)
        return wh_wrap(err, "%s \"%s\"", kind_name(v->kind), v->object);
    return put_bytes(t, v->name, value, n, err);
}

static int put_variable(table *t, const table *services, const wh_env_input *in, const wh_env_var *v,
                        wh_err *err)
{
    char *value = NULL;
    int rc;
    switch (v->kind) {
    case WH_ENV_CONFIG_MAP:
    case WH_ENV_SECRET:
        return put_key(t, in, v, err);
    case WH_ENV_FIELD:
        rc = wh_field_value(in->spec, in->container, &v->field, in->facts, &value, err);
        break;
    case WH_ENV_VALUE:
    default:
        rc = expand(v->value, &(scope){.first = t, .second = services}, WH_ENV_BYTES_MAX, false, &value, err);
        break;
    }
    if (rc < 0)
        return wh_wrap(err, "variable %.80s", v->name);
    return put_take(t, v->name, value, err);
}

static wh_strv to_strv(const table *image, const table *own, const table *services)
{
    const table *const tables[] = {image, own, services};
    wh_strv list = NULL; /* grown by wh_strv_push_take alone: callers add to it */
    for (size_t i = 0; i < WH_ARRAY_LEN(tables); i++) {
        for (const var *v = tables[i]->vars; v != NULL; v = v->hh.next) {
            size_t len = strlen(v->name);
            bool hidden = i != 1 && lookup(own, v->name, len) != NULL;
            hidden |= i == 0 && lookup(services, v->name, len) != NULL;
            if (!hidden)
                wh_strv_push_take(&list, wh_xasprintf("%s=%s", v->name, v->value));
        }
    }
    return list;
}

int wh_env_build(const wh_env_input *in, wh_strv *ret, wh_err *err)
{
    auto_table table image = {0}, own = {0}, services = {0};
    const wh_container_spec *c = &in->spec->containers[in->container];
    int rc = read_table(&image, in->image_env, err);
    if (rc == 0 && put_services(&services, in->spec, in->services) < 0)
        rc = wh_fail(
            err, -E2BIG,
            "the variables of all services are larger than %lu bytes: set enableServiceLinks to false.",
            WH_ENV_BYTES_MAX);
    for (size_t i = 0; i < c->n_env_from && rc == 0; i++)
        rc = put_all_of(&own, in, &c->env_from[i], err);
    for (size_t i = 0; i < c->n_env && rc == 0; i++)
        rc = put_variable(&own, &services, in, &c->env[i], err);
    if (rc < 0)
        return rc;
    if (image.bytes + own.bytes + services.bytes > WH_ENV_BYTES_MAX)
        return wh_fail(err, -E2BIG, "the environment is larger than %lu bytes.", WH_ENV_BYTES_MAX);
    *ret = to_strv(&image, &own, &services);
    return 0;
}

/* ---- arguments ---- */

/* Appends the list to argv, expanded unless `s` is NULL; *bytes is what all of it has. */
static int append_args(wh_strv *argv, const char *const *list, const scope *s, size_t *bytes, wh_err *err)
{
    for (size_t i = 0; list != NULL && list[i] != NULL; i++) {
        char *arg = s == NULL ? wh_xstrdup(list[i]) : NULL;
        int rc = s == NULL ? 0 : expand(list[i], s, WH_ENV_BYTES_MAX, false, &arg, err);
        if (rc < 0)
            return rc;
        wh_strv_push_take(argv, arg);
        *bytes += strlen(arg) + 1;
        if (*bytes > WH_ENV_BYTES_MAX)
            return wh_fail(err, -E2BIG, "the arguments are larger than %lu bytes.", WH_ENV_BYTES_MAX);
    }
    return 0;
}

int wh_env_argv(const wh_container_spec *container, char *const *env, char *const *entrypoint,
                char *const *cmd, wh_strv *ret, wh_err *err)
{
    auto_table table t = {0};
    bool own = container->command != NULL;
    const char *const *first = own ? container->command : (const char *const *)entrypoint;
    const char *const *rest = container->args != NULL ? container->args
                              : own                   ? NULL
                                                      : (const char *const *)cmd;
    /* The image's own words are taken as they are: only the pod's are templates. */
    const scope templates = {.first = &t};
    size_t bytes = 0;
    int rc = read_table(&t, env, err);
    if (rc < 0)
        return rc;
    auto_strv wh_strv argv = NULL;
    rc = append_args(&argv, first, own ? &templates : NULL, &bytes, err);
    if (rc == 0)
        rc = append_args(&argv, rest, container->args != NULL ? &templates : NULL, &bytes, err);
    if (rc < 0)
        return rc;
    *ret = WH_TAKE(argv);
    return 0;
}
