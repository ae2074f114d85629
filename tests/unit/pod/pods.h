/* SPDX-License-Identifier: Apache-2.0 */
/* Pods from a few lines of YAML. */
#pragma once

#include "base/yaml.h"
#include "harness.h"
#include "pod/spec.h"

/* The only document of the text; new reference. */
static inline WH_UNUSED json_t *yaml(const char *text)
{
    wh_err err = {0};
    json_t *documents = NULL;
    CHECK_OK(wh_yaml_parse(text, strlen(text), &documents, &err), &err);
    CHECK_INT(json_array_size(documents), ==, 1);
    json_t *one = json_incref(json_array_get(documents, 0));
    json_decref(documents);
    return one;
}

#define POD_HEAD                                                             \
    "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n  namespace: shop\n" \
    "  uid: 0a1b2c3d-0000-4000-8000-00000000000f\n"                          \
    "  labels: {app: web, tier: front}\n"

/* POD_HEAD with the rest, which begins with "spec:\n". */
static inline WH_UNUSED wh_pod_spec *pod(const char *rest)
{
    wh_err err = {0};
    wh_pod_spec *spec = NULL;
    auto_free char *text = wh_xasprintf("%s%s", POD_HEAD, rest);
    auto_json json_t *object = yaml(text);
    CHECK_OK(wh_pod_spec_parse(object, &spec, NULL, &err), &err);
    return spec;
}

/* The same, refused with `code` and a sentence that contains `part`. */
static inline WH_UNUSED void bad_pod(const char *rest, int code, const char *part)
{
    wh_err err = {0};
    wh_pod_spec *spec = NULL;
    auto_free char *text = wh_xasprintf("%s%s", POD_HEAD, rest);
    auto_json json_t *object = yaml(text);
    CHECK_ERR(wh_pod_spec_parse(object, &spec, NULL, &err), code, &err, part);
    CHECK(spec == NULL);
}

/* A resolver over a list of objects; those whose name begins with "later" are not known yet. */
static inline WH_UNUSED int resolve(void *user, const char *kind, const char *namespace_, const char *name,
                                    json_t **ret, wh_err *err)
{
    size_t i;
    json_t *object;
    if (wh_starts_with(name, "later"))
        return wh_fail(err, -EAGAIN, "is not known yet.");
    json_array_foreach((json_t *)user, i, object)
    {
        if (wh_streq(wh_json_str(object, "kind"), kind) &&
            wh_streq(wh_json_str(object, "metadata.name"), name) && wh_streq(namespace_, "shop")) {
            *ret = json_incref(object);
            return 0;
        }
    }
    return wh_fail(err, -ENOENT, "nothing of that name.");
}
