/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests down to the pods in them; an accepted pod must live through its first steps and show a status. */
#include "base/yaml.h"
#include "pod/dns.h"
#include "pod/env.h"
#include "pod/manifest.h"
#include "pod/resources.h"
#include "pod/serve.h"
#include "pod/status.h"

static void use(json_t *object)
{
    auto_pod_spec wh_pod_spec *spec = NULL;
    auto_pod_actions wh_pod_actions actions = {0};
    wh_err err = {0};
    wh_assert(wh_pod_spec_parse(object, &spec, NULL, &err) == 0);
    auto_lifecycle wh_lifecycle *lc = wh_lifecycle_new(spec, WH_SEC);
    wh_lifecycle_step(lc, &(wh_pod_event){.type = WH_POD_ADMITTED}, WH_SEC, &actions);
    wh_lifecycle_step(lc, &(wh_pod_event){.type = WH_POD_VOLUMES_READY}, WH_SEC, &actions);
    for (size_t i = 0; i < spec->n_containers; i++) {
        auto_strv wh_strv env = NULL, argv = NULL;
        wh_lifecycle_step(lc, &(wh_pod_event){.type = WH_POD_IMAGE_READY, .container = i}, WH_SEC, &actions);
        if (wh_env_build(&(wh_env_input){.spec = spec, .container = i}, &env, &err) == 0)
            (void)wh_env_argv(&spec->containers[i], env, NULL, NULL, &argv, &err);
        (void)wh_container_cgroup_limits(spec, i);
        (void)wh_container_oom_score_adj(spec, i, 1 << 30);
    }
    (void)wh_pod_demand_of(spec);
    wh_pod_serve serve;
    if (wh_pod_serve_parse(spec, &serve, &err) < 0)
        wh_assert(err.msg[0] != '\0');
    auto_free char *names =
        wh_pod_resolv_conf(spec, &(wh_pod_dns){.resolv_conf = "nameserver 9.9.9.9\nsearch x\n"});
    auto_free char *hosts = wh_pod_hosts(spec, &(wh_pod_facts){.pod_ips = {"10.0.0.1"}});
    wh_assert(strchr(names, '\r') == NULL);
    wh_assert(strchr(hosts, '\r') == NULL);
    auto_json json_t *status = wh_status_pod(lc, NULL), *saved = wh_lifecycle_save(lc);
    auto_lifecycle wh_lifecycle *loaded = NULL;
    if (spec->uid != NULL)
        wh_assert(wh_lifecycle_load(spec, saved, WH_SEC, &loaded, &err) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    auto_manifest wh_manifest m = {0};
    wh_err err = {0};
    size_t i;
    json_t *object;
    if (n > 1 << 16)
        return 0;
    if (wh_manifest_parse((const char *)data, n, "fuzz", &m, &err) == 0) {
        json_array_foreach(m.pods, i, object)
        {
            use(object);
        }
        return 0;
    }
    auto_json json_t *documents = NULL;
    if (wh_yaml_parse((const char *)data, n, &documents, NULL) < 0)
        return 0;
    json_array_foreach(documents, i, object)
    {
        auto_pod_spec wh_pod_spec *spec = NULL;
        auto_buf wh_buf why = {0};
        wh_buf_init(&why, 1 << 16);
        if (wh_pod_spec_parse(object, &spec, &why, &err) < 0)
            wh_assert(err.msg[0] != '\0');
    }
    return 0;
}
