/* SPDX-License-Identifier: Apache-2.0 */
/* v1.Pod (API reference of Kubernetes 1.37). */
#include "pod/spec.h"

#include "pod/spec_read.h"

#include <stdio.h>

#define REFUSED_BYTES_MAX 8192

static void read_metadata(reader *r, const at *root, wh_pod_spec *spec)
{
    at metadata = read_object(r, root, "metadata");
    at name = at_key(&metadata, "name"), namespace_ = at_key(&metadata, "namespace"),
       uid = at_key(&metadata, "uid");
    if (metadata.v == NULL) {
        read_fail(r, &metadata, "is required");
        return;
    }
    spec->name = read_required(r, &metadata, "name");
    spec->namespace_ = read_str(r, &metadata, "namespace", "default");
    spec->uid = read_str(r, &metadata, "uid", NULL);
    spec->generation = read_int(r, &metadata, "generation", 0, INT64_MAX, 0);
    spec->labels = read_string_map(r, &metadata, "labels");
    spec->annotations = read_string_map(r, &metadata, "annotations");
    if (r->rc < 0)
        return;
    if (!is_dns_subdomain(spec->name))
        read_fail(r, &name, "'%.80s' must be at most 253 of a-z, 0-9, '-' and '.'", spec->name);
    if (!is_dns_label(spec->namespace_))
        read_fail(r, &namespace_, "'%.80s' must be at most 63 of a-z, 0-9 and '-'", spec->namespace_);
    if (spec->uid != NULL && (!is_dns_label(spec->uid) || strlen(spec->uid) > 40))
        read_fail(r, &uid, "'%.80s' must be at most 40 of a-z, 0-9 and '-'", spec->uid);
}

/* What would change how the pod behaves if it were ignored. */
static void read_unsupported(reader *r, const at *pod)
{
    static const struct {
        const char *key, *what;
    } flags[] = {{"hostPID", "a guest does not see processes"},
                 {"hostIPC", "a guest has no System V objects"},
                 {"shareProcessNamespace", "a guest does not see processes"}};
    static const struct {
        const char *key, *what;
    } lists[] = {{"resourceClaims", "devices"}, {"ephemeralContainers", "debugging containers"}};
    at os = read_object(r, pod, "os"), os_name = at_key(&os, "name");
    for (size_t i = 0; i < WH_ARRAY_LEN(flags); i++) {
        at place = at_key(pod, flags[i].key);
        if (read_bool(r, pod, flags[i].key, false))
            read_refuse(r, &place, flags[i].what);
    }
    for (size_t i = 0; i < WH_ARRAY_LEN(lists); i++) {
        at place = read_list(r, pod, lists[i].key, SIZE_MAX);
        if (json_array_size(place.v) > 0 && i == 0)
            read_refuse(r, &place, lists[i].what);
        else if (json_array_size(place.v) > 0)
            read_remark(r, "%s are accepted, but not run yet.", lists[i].what);
    }
    if (wh_streq(read_str(r, &os, "name", NULL), "windows"))
        read_refuse(r, &os_name, "windows");
}

static void read_pod_security(reader *r, const at *pod, wh_pod_spec *spec)
{
    at security = read_object(r, pod, "securityContext"),
       sysctls = read_list(r, &security, "sysctls", SIZE_MAX);
    at windows = read_object(r, &security, "windowsOptions");
    spec->run_as_user = read_int(r, &security, "runAsUser", 0, INT32_MAX, -1);
    spec->run_as_group = read_int(r, &security, "runAsGroup", 0, INT32_MAX, -1);
    spec->fs_group = read_int(r, &security, "fsGroup", 0, INT32_MAX, -1);
    spec->non_root = read_bool(r, &security, "runAsNonRoot", false);
    if (json_array_size(sysctls.v) > 0)
        read_refuse(r, &sysctls, "kernel settings");
    if (windows.v != NULL)
        read_refuse(r, &windows, NULL);
}

/* The `name` of each object in a list. */
static const char **read_names(reader *r, const at *up, const char *key, const char *member)
{
    at list = read_list(r, up, key, 256);
    size_t n = json_array_size(list.v);
    if (n == 0 || r->rc < 0)
        return NULL;
    const char **names = wh_xcalloc(n + 1, sizeof(*names));
    for (size_t i = 0; i < n; i++) {
        at item = read_item(r, &list, i);
        names[i] = read_str(r, &item, member, "");
    }
    return names;
}

static void read_pod_fields(reader *r, const at *pod, wh_pod_spec *spec)
{
    static const char *const policies[] = {"Always", "OnFailure", "Never", NULL};
    static const wh_restart_policy values[] = {WH_RESTART_ALWAYS, WH_RESTART_ON_FAILURE, WH_RESTART_NEVER};
    spec->restart = values[read_word(r, pod, "restartPolicy", policies, 0)];
    spec->active_deadline_s = read_int(r, pod, "activeDeadlineSeconds", 1, INT32_MAX, 0);
    spec->grace_s = read_int(r, pod, "terminationGracePeriodSeconds", 0, INT32_MAX, 30);
    spec->hostname = read_str(r, pod, "hostname", NULL);
    spec->subdomain = read_str(r, pod, "subdomain", NULL);
    spec->hostname_override = read_str(r, pod, "hostnameOverride", NULL);
    spec->node_name = read_str(r, pod, "nodeName", NULL);
    spec->service_account = read_str(r, pod, "serviceAccountName", "default");
    spec->priority_class = read_str(r, pod, "priorityClassName", NULL);
    spec->host_network = read_bool(r, pod, "hostNetwork", false);
    spec->service_links = read_bool(r, pod, "enableServiceLinks", true);
    spec->pull_secrets = read_names(r, pod, "imagePullSecrets", "name");
    spec->readiness_gates = read_names(r, pod, "readinessGates", "conditionType");
    read_pod_security(r, pod, spec);
    read_resources(r, pod, &spec->resources);
}

static void read_volumes(reader *r, const at *pod, wh_pod_spec *spec)
{
    at list = read_list(r, pod, "volumes", WH_POD_VOLUMES_MAX);
    size_t n = json_array_size(list.v);
    spec->volumes = wh_xcalloc(n + 1, sizeof(*spec->volumes));
    for (; spec->n_volumes < n && r->rc == 0; spec->n_volumes++) {
        at item = read_item(r, &list, spec->n_volumes);
        wh_volume_spec *v = &spec->volumes[spec->n_volumes];
        v->name = "";
        read_volume(r, &item, v);
        for (size_t i = 0; i < spec->n_volumes; i++)
            if (strcmp(spec->volumes[i].name, v->name) == 0)
                read_fail(r, &item, "the name '%.80s' is used twice", v->name);
    }
}

static void read_containers(reader *r, const at *pod, wh_pod_spec *spec)
{
    at init = read_list(r, pod, "initContainers", WH_POD_CONTAINERS_MAX);
    at list = read_list(r, pod, "containers", WH_POD_CONTAINERS_MAX);
    size_t n_init = json_array_size(init.v), n = n_init + json_array_size(list.v);
    if (json_array_size(list.v) == 0 || n > WH_POD_CONTAINERS_MAX)
        read_fail(r, &list,
                  n > 0 && n_init < n ? "%zu containers; the limit is %d" : "needs at least one container", n,
                  WH_POD_CONTAINERS_MAX);
    if (r->rc < 0)
        return;
    spec->n_init = n_init;
    spec->containers = wh_xcalloc(n, sizeof(*spec->containers));
    for (; spec->n_containers < n && r->rc == 0; spec->n_containers++) {
        size_t at_ = spec->n_containers;
        wh_container_spec *c = &spec->containers[at_];
        at item = at_ < n_init ? read_item(r, &init, at_) : read_item(r, &list, at_ - n_init);
        c->role = at_ < n_init ? WH_ROLE_INIT : WH_ROLE_MAIN;
        read_container(r, &item, spec, c);
        for (size_t i = 0; i < at_ && r->rc == 0; i++)
            if (strcmp(spec->containers[i].name, c->name) == 0)
                read_fail(r, &item, "the name '%.80s' is used twice", c->name);
    }
}

/* The containers that resourceFieldRef names must exist. */
static void check_field_containers(reader *r, const at *root, const wh_pod_spec *spec)
{
    for (size_t i = 0; i < spec->n_containers && r->rc == 0; i++) {
        const wh_container_spec *c = &spec->containers[i];
        for (size_t k = 0; k < c->n_env; k++)
            if (c->env[k].field.container != NULL && wh_pod_spec_find(spec, c->env[k].field.container) < 0)
                read_fail(r, root, "container '%s', variable '%.60s': the pod has no container '%.63s'",
                          c->name, c->env[k].name, c->env[k].field.container);
    }
}

static void read_pod(reader *r, wh_pod_spec *spec)
{
    at root = {.v = spec->object}, kind = at_key(&root, "kind");
    if (!json_is_object(spec->object)) {
        read_fail(r, &root, "expected a Pod object");
        return;
    }
    const char *kind_text = read_str(r, &root, "kind", "Pod");
    if (r->rc == 0 && strcmp(kind_text, "Pod") != 0)
        read_fail(r, &kind, "expected Pod, found '%.60s'", kind_text);
    read_metadata(r, &root, spec);
    at pod = read_object(r, &root, "spec");
    if (pod.v == NULL) {
        read_fail(r, &pod, "is required");
        return;
    }
    read_unsupported(r, &pod);
    read_pod_fields(r, &pod, spec);
    read_volumes(r, &pod, spec);
    read_containers(r, &pod, spec);
    check_field_containers(r, &root, spec);
}

int wh_pod_spec_parse(json_t *object, wh_pod_spec **ret, wh_buf *why, wh_err *err)
{
    auto_pod_spec wh_pod_spec *spec = wh_xnew(wh_pod_spec);
    reader r = {.err = err, .why = why};
    wh_buf_init(&r.refused, REFUSED_BYTES_MAX);
    spec->object = json_incref(object);
    read_pod(&r, spec);
    spec->remarks = r.remarks;
    if (r.rc == 0 && r.refused.len > 0) {
        static const char lead[] = "this node does not have",
                          out[] = "take them out, or run the pod on another node.";
        if (why != NULL)
            wh_buf_printf(why, "%s: %s: %s", lead, wh_buf_str(&r.refused), out);
        r.rc = wh_fail(err, -EOPNOTSUPP, "%s: %s: %s", lead, wh_buf_str(&r.refused), out);
    }
    wh_buf_done(&r.refused);
    if (r.rc < 0)
        return r.rc;
    *ret = WH_TAKE(spec);
    return 0;
}

void wh_pod_spec_free(wh_pod_spec *spec)
{
    if (spec == NULL)
        return;
    for (size_t i = 0; spec->containers != NULL && i < spec->n_containers; i++)
        free_container(&spec->containers[i]);
    for (size_t i = 0; spec->volumes != NULL && i < spec->n_volumes; i++)
        free_volume(&spec->volumes[i]);
    free(spec->containers);
    free(spec->volumes);
    free(spec->pull_secrets);
    free(spec->readiness_gates);
    wh_strv_free(spec->remarks);
    json_decref(spec->object);
    free(spec);
}

int wh_pod_spec_find(const wh_pod_spec *spec, const char *container)
{
    for (size_t i = 0; i < spec->n_containers; i++)
        if (strcmp(spec->containers[i].name, container) == 0)
            return (int)i;
    return -ENOENT;
}

char *wh_pod_hostname(const wh_pod_spec *spec)
{
    const char *name = spec->hostname_override != NULL ? spec->hostname_override
                       : spec->hostname != NULL        ? spec->hostname
                                                       : spec->name;
    size_t n = strlen(name);
    if (n > 63 && spec->hostname_override == NULL)
        n = 63;
    while (n > 0 && n < strlen(name) && (name[n - 1] == '-' || name[n - 1] == '.'))
        n--;
    return wh_xstrndup(name, n);
}

const char *wh_container_id(const wh_pod_spec *spec, size_t container, unsigned attempt,
                            char out[WH_CONTAINER_ID_LEN])
{
    snprintf(out, WH_CONTAINER_ID_LEN, "%s.%s.%u", spec->uid == NULL ? "" : spec->uid,
             spec->containers[container].name, attempt);
    return out;
}

int wh_container_id_parse(const char *id, char **ret_uid, char **ret_container, unsigned *ret_attempt)
{
    const char *dot = strchr(id, '.'), *last = strrchr(id, '.');
    uint64_t attempt;
    if (dot == NULL || last == dot || dot == id || wh_parse_u64(last + 1, UINT32_MAX, &attempt) < 0)
        return -EINVAL;
    auto_free char *container = wh_xstrndup(dot + 1, (size_t)(last - dot - 1));
    auto_free char *uid = wh_xstrndup(id, (size_t)(dot - id));
    if (!is_dns_label(container) || !is_dns_label(uid))
        return -EINVAL;
    *ret_uid = WH_TAKE(uid);
    *ret_container = WH_TAKE(container);
    *ret_attempt = (unsigned)attempt;
    return 0;
}
