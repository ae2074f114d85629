/* SPDX-License-Identifier: Apache-2.0 */
/* v1.Container. */
#include "pod/spec_read.h"

#include <signal.h>

#define LIST_MAX \
    ((size_t)65536) /* entries of a list inside a container; its bytes are limited by the object's */

static void *new_list(reader *r, const at *place, size_t n, size_t size)
{
    void *list = n == 0 || r->rc < 0 ? NULL : calloc(n, size);
    if (n > 0 && r->rc == 0 && list == NULL)
        read_fail(r, place, "no memory for %zu entries", n);
    return list;
}

/* ---- environment ---- */

static bool known_resource(const char *resource)
{
    static const char *const known[] = {"limits.cpu",
                                        "limits.memory",
                                        "requests.cpu",
                                        "requests.memory",
                                        "limits.ephemeral-storage",
                                        "requests.ephemeral-storage"};
    for (size_t i = 0; i < WH_ARRAY_LEN(known); i++)
        if (strcmp(resource, known[i]) == 0)
            return true;
    return false;
}

static bool known_field(const char *path, bool in_file)
{
    static const char *const both[] = {"metadata.name", "metadata.namespace", "metadata.uid"};
    static const char *const env_only[] = {"spec.nodeName", "spec.serviceAccountName",
                                           "status.hostIP", "status.hostIPs",
                                           "status.podIP",  "status.podIPs"};
    for (size_t i = 0; i < WH_ARRAY_LEN(both); i++)
        if (strcmp(path, both[i]) == 0)
            return true;
    for (size_t i = 0; !in_file && i < WH_ARRAY_LEN(env_only); i++)
        if (strcmp(path, env_only[i]) == 0)
            return true;
    if (in_file && (strcmp(path, "metadata.labels") == 0 || strcmp(path, "metadata.annotations") == 0))
        return true;
    return (wh_starts_with(path, "metadata.labels['") || wh_starts_with(path, "metadata.annotations['")) &&
           wh_ends_with(path, "']");
}

void read_field_source(reader *r, const at *up, wh_field_source *ret, bool in_file)
{
    at field = read_object(r, up, "fieldRef"), resource = read_object(r, up, "resourceFieldRef");
    if (field.v != NULL) {
        at place = at_key(&field, "fieldPath");
        ret->field_path = read_required(r, &field, "fieldPath");
        if (r->rc == 0 && !known_field(ret->field_path, in_file))
            read_fail(r, &place, "'%.80s' is not a field that can be used here", ret->field_path);
        return;
    }
    if (resource.v == NULL) {
        read_fail(r, up, "neither fieldRef nor resourceFieldRef");
        return;
    }
    ret->container = read_str(r, &resource, "containerName", NULL);
    ret->resource = read_required(r, &resource, "resource");
    ret->divisor = read_quantity(r, &resource, "divisor");
    if (r->rc == 0 && !known_resource(ret->resource)) {
        at place = at_key(&resource, "resource");
        read_refuse(r, &place, ret->resource);
    }
}

static void read_key_ref(reader *r, const at *ref, wh_env_kind kind, wh_env_var *v)
{
    v->kind = kind;
    v->object = read_required(r, ref, "name");
    v->key = read_required(r, ref, "key");
    v->optional = read_bool(r, ref, "optional", false);
}

static bool valid_env_name(const char *name)
{
    for (const char *p = name; *p != '\0'; p++)
        if (*p < 0x20 || *p > 0x7e || *p == '=')
            return false;
    return *name != '\0';
}

static void read_env(reader *r, const at *item, wh_env_var *v)
{
    at from = read_object(r, item, "valueFrom");
    at config_map = read_object(r, &from, "configMapKeyRef"), secret = read_object(r, &from, "secretKeyRef");
    at file = read_object(r, &from, "fileKeyRef");
    v->name = read_required(r, item, "name");
    v->value = read_str(r, item, "value", "");
    if (r->rc == 0 && !valid_env_name(v->name)) {
        at place = at_key(item, "name");
        read_fail(r, &place, "'%.60s' cannot be the name of a variable", v->name);
    }
    if (from.v == NULL)
        return;
    if (*v->value != '\0')
        read_fail(r, item, "has value and valueFrom: leave one out");
    if (config_map.v != NULL)
        read_key_ref(r, &config_map, WH_ENV_CONFIG_MAP, v);
    else if (secret.v != NULL)
        read_key_ref(r, &secret, WH_ENV_SECRET, v);
    else if (file.v != NULL)
        read_refuse(r, &file, "variables from files");
    else {
        v->kind = WH_ENV_FIELD;
        read_field_source(r, &from, &v->field, false);
    }
}

static void read_env_from(reader *r, const at *item, wh_env_from *f)
{
    at config_map = read_object(r, item, "configMapRef"), secret = read_object(r, item, "secretRef");
    const at *ref = config_map.v != NULL ? &config_map : &secret;
    f->prefix = read_str(r, item, "prefix", "");
    f->kind = config_map.v != NULL ? WH_ENV_CONFIG_MAP : WH_ENV_SECRET;
    if (ref->v == NULL) {
        read_fail(r, item, "neither configMapRef nor secretRef");
        return;
    }
    f->object = read_required(r, ref, "name");
    f->optional = read_bool(r, ref, "optional", false);
}

static void read_environment(reader *r, const at *place, wh_container_spec *c)
{
    at env = read_list(r, place, "env", LIST_MAX), from = read_list(r, place, "envFrom", LIST_MAX);
    size_t n = json_array_size(env.v), n_from = json_array_size(from.v);
    c->env = new_list(r, &env, n, sizeof(*c->env));
    for (; c->env != NULL && c->n_env < n && r->rc == 0; c->n_env++) {
        at item = read_item(r, &env, c->n_env);
        read_env(r, &item, &c->env[c->n_env]);
    }
    c->env_from = new_list(r, &from, n_from, sizeof(*c->env_from));
    for (; c->env_from != NULL && c->n_env_from < n_from && r->rc == 0; c->n_env_from++) {
        at item = read_item(r, &from, c->n_env_from);
        read_env_from(r, &item, &c->env_from[c->n_env_from]);
    }
}

/* ---- ports, mounts ---- */

static void read_ports(reader *r, const at *place, wh_container_spec *c)
{
    static const char *const protocols[] = {"TCP", "UDP", "SCTP", NULL};
    at list = read_list(r, place, "ports", LIST_MAX);
    size_t n = json_array_size(list.v);
    c->ports = new_list(r, &list, n, sizeof(*c->ports));
    for (; c->ports != NULL && c->n_ports < n && r->rc == 0; c->n_ports++) {
        at item = read_item(r, &list, c->n_ports);
        wh_port *p = &c->ports[c->n_ports];
        p->name = read_str(r, &item, "name", NULL);
        p->host_ip = read_str(r, &item, "hostIP", NULL);
        p->protocol = protocols[read_word(r, &item, "protocol", protocols, 0)];
        p->container_port = (uint16_t)read_int(r, &item, "containerPort", 1, 65535, 0);
        p->host_port = (uint16_t)read_int(r, &item, "hostPort", 0, 65535, 0);
        if (p->container_port == 0) {
            at port = at_key(&item, "containerPort");
            read_fail(r, &port, "is required");
        }
    }
}

static void read_sub_path(reader *r, const at *item, const char *key, const char **ret)
{
    const char *s = read_str(r, item, key, NULL);
    at place = at_key(item, key);
    if (s == NULL || *s == '\0')
        return;
    if (!is_inner_path(s))
        read_fail(r, &place, "'%.80s' must be relative and without '..'", s);
    *ret = s;
}

static void read_mount(reader *r, const at *item, const wh_pod_spec *spec, wh_volume_mount *m)
{
    static const char *const propagations[] = {"None", "HostToContainer", "Bidirectional", NULL};
    at name = at_key(item, "name"), path = at_key(item, "mountPath"),
       propagation = at_key(item, "mountPropagation");
    m->volume = read_required(r, item, "name");
    m->mount_path = read_required(r, item, "mountPath");
    m->read_only = read_bool(r, item, "readOnly", false);
    read_sub_path(r, item, "subPath", &m->sub_path);
    read_sub_path(r, item, "subPathExpr", &m->sub_path_expr);
    if (r->rc == 0 && m->sub_path != NULL && m->sub_path_expr != NULL)
        read_fail(r, item, "has subPath and subPathExpr: leave one out");
    if (r->rc == 0 && !is_guest_path(m->mount_path))
        read_fail(r, &path, "'%.80s' must be absolute, without ':' and '..'", m->mount_path);
    if (read_word(r, item, "mountPropagation", propagations, 0) == 2)
        read_refuse(r, &propagation, "mounts that a guest makes");
    for (m->volume_index = 0; m->volume_index < spec->n_volumes; m->volume_index++)
        if (strcmp(spec->volumes[m->volume_index].name, m->volume) == 0)
            return;
    read_fail(r, &name, "the pod has no volume '%.80s'; add it to spec.volumes", m->volume);
}

static void read_mounts(reader *r, const at *place, const wh_pod_spec *spec, wh_container_spec *c)
{
    at list = read_list(r, place, "volumeMounts", 256),
       devices = read_list(r, place, "volumeDevices", LIST_MAX);
    size_t n = json_array_size(list.v);
    if (json_array_size(devices.v) > 0)
        read_refuse(r, &devices, "block devices");
    c->mounts = new_list(r, &list, n, sizeof(*c->mounts));
    for (; c->mounts != NULL && c->n_mounts < n && r->rc == 0; c->n_mounts++) {
        at item = read_item(r, &list, c->n_mounts);
        wh_volume_mount *m = &c->mounts[c->n_mounts];
        read_mount(r, &item, spec, m);
        for (size_t i = 0; i < c->n_mounts && r->rc == 0; i++)
            if (strcmp(c->mounts[i].mount_path, m->mount_path) == 0)
                read_fail(r, &item, "mountPath '%.80s' is used twice", m->mount_path);
    }
}

/* ---- restarts, signals, rights ---- */

static void read_rule(reader *r, const at *item, wh_restart_rule *rule)
{
    static const char *const operators[] = {"In", "NotIn", NULL};
    const char *action = read_required(r, item, "action");
    at codes = read_object(r, item, "exitCodes"), values = read_list(r, &codes, "values", 256), place;
    size_t n = json_array_size(values.v);
    if (r->rc == 0 && strcmp(action, "Restart") != 0) {
        place = at_key(item, "action");
        read_refuse(r, &place, action);
    }
    rule->not_in = read_word(r, &codes, "operator", operators, 0) == 1;
    rule->codes = new_list(r, &values, n, sizeof(*rule->codes));
    for (; rule->codes != NULL && rule->n_codes < n; rule->n_codes++) {
        place = at_index(&values, rule->n_codes);
        if (!json_is_integer(place.v))
            read_fail(r, &place, "expected a whole number");
        else
            rule->codes[rule->n_codes] = (int)json_integer_value(place.v);
    }
}

static void read_restarts(reader *r, const at *place, const wh_pod_spec *spec, wh_container_spec *c)
{
    static const char *const policies[] = {"Always", "OnFailure", "Never", NULL};
    static const wh_restart_policy values[] = {WH_RESTART_ALWAYS, WH_RESTART_ON_FAILURE, WH_RESTART_NEVER};
    int own = read_word(r, place, "restartPolicy", policies, -1);
    at rules = read_list(r, place, "restartPolicyRules", 64);
    size_t n = json_array_size(rules.v);
    c->restart = spec->restart;
    if (c->role == WH_ROLE_INIT && own == 0)
        c->role = WH_ROLE_SIDECAR;
    if (own >= 0)
        c->restart = values[own];
    else if (c->role == WH_ROLE_INIT && c->restart == WH_RESTART_ALWAYS)
        c->restart = WH_RESTART_ON_FAILURE;
    c->rules = new_list(r, &rules, n, sizeof(*c->rules));
    for (; c->rules != NULL && c->n_rules < n && r->rc == 0; c->n_rules++) {
        at item = read_item(r, &rules, c->n_rules);
        read_rule(r, &item, &c->rules[c->n_rules]);
    }
}

static int signal_number(const char *name)
{
    static const struct {
        const char *name;
        int number;
    } signals[] = {{"SIGTERM", SIGTERM}, {"SIGINT", SIGINT},   {"SIGQUIT", SIGQUIT}, {"SIGHUP", SIGHUP},
                   {"SIGKILL", SIGKILL}, {"SIGUSR1", SIGUSR1}, {"SIGUSR2", SIGUSR2}};
    for (size_t i = 0; i < WH_ARRAY_LEN(signals); i++)
        if (strcmp(name, signals[i].name) == 0)
            return signals[i].number;
    return 0;
}

static void read_hooks(reader *r, const at *place, wh_container_spec *c)
{
    static const char *const hooks[] = {"postStart", "preStop"};
    at lifecycle = read_object(r, place, "lifecycle");
    const char *signal_name = read_str(r, &lifecycle, "stopSignal", NULL);
    c->lifecycle = lifecycle.v;
    if (signal_name != NULL) {
        at stop = at_key(&lifecycle, "stopSignal");
        c->stop_signal = signal_number(signal_name);
        if (c->stop_signal == 0)
            read_refuse(r, &stop, signal_name);
    }
    for (size_t i = 0; i < WH_ARRAY_LEN(hooks); i++) {
        at hook = read_object(r, &lifecycle, hooks[i]), exec = read_object(r, &hook, "exec");
        at sleep = read_object(r, &hook, "sleep");
        bool sleeps = sleep.v != NULL && strcmp(hooks[i], "preStop") == 0;
        if (sleeps)
            c->pre_stop_sleep_s = read_int(r, &sleep, "seconds", 0, INT32_MAX, 0);
        if (exec.v != NULL)
            read_refuse(r, &exec, "hooks that run a command");
        else if (hook.v != NULL && !sleeps)
            read_remark(r, "container '%s': the %s hook is accepted, but is not run yet.", c->name, hooks[i]);
    }
    read_probe(r, place, "startupProbe", c, WH_PROBE_STARTUP);
    read_probe(r, place, "livenessProbe", c, WH_PROBE_LIVENESS);
    read_probe(r, place, "readinessProbe", c, WH_PROBE_READINESS);
}

static void read_security(reader *r, const at *place, const wh_pod_spec *spec, wh_container_spec *c)
{
    at security = read_object(r, place, "securityContext");
    at privileged = at_key(&security, "privileged"), windows = read_object(r, &security, "windowsOptions");
    at capabilities = read_object(r, &security, "capabilities"),
       add = read_list(r, &capabilities, "add", LIST_MAX);
    c->run_as_user = read_int(r, &security, "runAsUser", 0, INT32_MAX, spec->run_as_user);
    c->run_as_group = read_int(r, &security, "runAsGroup", 0, INT32_MAX, spec->run_as_group);
    c->read_only_root = read_bool(r, &security, "readOnlyRootFilesystem", false);
    bool non_root = read_bool(r, &security, "runAsNonRoot", spec->non_root);
    if (read_bool(r, &security, "privileged", false))
        read_refuse(r, &privileged, "a guest has no rights on the machine");
    if (windows.v != NULL)
        read_refuse(r, &windows, NULL);
    if (json_array_size(add.v) > 0)
        read_remark(r, "container '%s': added capabilities have no meaning for a WebAssembly guest.",
                    c->name);
    if (r->rc == 0 && non_root && c->run_as_user == 0) {
        at user = at_key(&security, "runAsUser");
        read_fail(r, &user, "0 contradicts runAsNonRoot");
    }
}

static void read_resource_pair(reader *r, const at *resources, const char *name, wh_quantity *request,
                               wh_quantity *limit)
{
    at requests = read_object(r, resources, "requests"), limits = read_object(r, resources, "limits");
    *request = read_quantity(r, &requests, name);
    *limit = read_quantity(r, &limits, name);
    if (!request->set)
        *request = *limit;
    if (limit->set && request->nano > limit->nano) {
        at place = at_key(&requests, name);
        read_fail(r, &place, "is above the limit");
    }
}

void read_resources(reader *r, const at *place, wh_resources *ret)
{
    at resources = read_object(r, place, "resources"), claims = read_list(r, &resources, "claims", LIST_MAX);
    read_resource_pair(r, &resources, "cpu", &ret->requests.cpu, &ret->limits.cpu);
    read_resource_pair(r, &resources, "memory", &ret->requests.memory, &ret->limits.memory);
    read_resource_pair(r, &resources, "ephemeral-storage", &ret->requests.ephemeral_storage,
                       &ret->limits.ephemeral_storage);
    if (json_array_size(claims.v) > 0)
        read_refuse(r, &claims, "devices");
}

/* ---- the container ---- */

/* Always for :latest and for no tag, as the API server defaults it. */
static wh_pull_policy_spec default_pull_policy(const char *image)
{
    const char *slash = strrchr(image, '/'), *name = slash == NULL ? image : slash + 1;
    const char *tag = strchr(name, ':');
    if (strchr(image, '@') != NULL)
        return WH_PULL_POLICY_IF_NOT_PRESENT;
    return tag == NULL || strcmp(tag, ":latest") == 0 ? WH_PULL_POLICY_ALWAYS : WH_PULL_POLICY_IF_NOT_PRESENT;
}

static void read_termination(reader *r, const at *place, wh_container_spec *c)
{
    static const char *const policies[] = {"File", "FallbackToLogsOnError", NULL};
    at path = at_key(place, "terminationMessagePath");
    c->termination_path = read_str(r, place, "terminationMessagePath", "/dev/termination-log");
    c->termination_from_log = read_word(r, place, "terminationMessagePolicy", policies, 0) == 1;
    if (*c->termination_path == '\0')
        c->termination_path = "/dev/termination-log";
    if (r->rc == 0 && (!is_guest_path(c->termination_path) || wh_ends_with(c->termination_path, "/")))
        read_fail(r, &path, "'%.80s' must be an absolute path of a file", c->termination_path);
}

void read_container(reader *r, const at *place, const wh_pod_spec *spec, wh_container_spec *c)
{
    static const char *const policies[] = {"Always", "IfNotPresent", "Never", NULL};
    static const wh_pull_policy_spec values[] = {WH_PULL_POLICY_ALWAYS, WH_PULL_POLICY_IF_NOT_PRESENT,
                                                 WH_PULL_POLICY_NEVER};
    c->stop_signal = SIGTERM;
    c->name = read_required(r, place, "name");
    c->image = read_required(r, place, "image");
    if (r->rc == 0 && !is_dns_label(c->name)) {
        at name = at_key(place, "name");
        read_fail(r, &name, "'%.80s' must be at most 63 of a-z, 0-9 and '-'", c->name);
    }
    c->command = read_strings(r, place, "command");
    c->args = read_strings(r, place, "args");
    c->working_dir = read_str(r, place, "workingDir", NULL);
    c->stdin_open = read_bool(r, place, "stdin", false);
    c->tty = read_bool(r, place, "tty", false);
    int policy = read_word(r, place, "imagePullPolicy", policies, -1);
    c->pull_policy = policy < 0 ? default_pull_policy(c->image) : values[policy];
    read_environment(r, place, c);
    read_ports(r, place, c);
    read_mounts(r, place, spec, c);
    read_resources(r, place, &c->resources);
    read_restarts(r, place, spec, c);
    read_hooks(r, place, c);
    read_security(r, place, spec, c);
    read_termination(r, place, c);
}

void free_container(wh_container_spec *c)
{
    for (size_t i = 0; i < c->n_rules; i++)
        free(c->rules[i].codes);
    free(c->rules);
    free(c->command);
    free(c->args);
    free(c->env);
    free(c->env_from);
    free(c->ports);
    free(c->mounts);
}
