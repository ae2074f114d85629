/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest's environment and arguments are (kubelet: makeEnvironmentVariables;
 * third_party/forked/golang/expansion). */
#pragma once

#include "pod/spec.h"

typedef struct wh_env_input {
    const wh_pod_spec *spec;
    size_t container;
    const wh_pod_facts *facts;
    const wh_resolver *resolver; /* NULL: no ConfigMap or Secret exists */
    const json_t *services;      /* array of v1 Service objects of all namespaces, or NULL */
    char *const *image_env;      /* "NAME=value" of the image; what the pod says wins */
} wh_env_input;

/* "NAME=value" entries. -ENOENT: an object or key that is not optional does not exist
 * (CreateContainerConfigError, worth trying again); -EAGAIN: not known yet; -E2BIG past WH_ENV_BYTES_MAX;
 * -EINVAL: a value that cannot be one (a NUL byte). */
int wh_env_build(const wh_env_input *in, wh_strv *ret, wh_err *err);
/* argv: command or the image's entrypoint, then args or (without a command) the image's cmd, $(VAR) expanded
 * with `env`. May be empty. -E2BIG past WH_ENV_BYTES_MAX. */
int wh_env_argv(const wh_container_spec *container, char *const *env, char *const *entrypoint,
                char *const *cmd, wh_strv *ret, wh_err *err);
/* "$(NAME)" replaced from "NAME=value" entries (the last one of a name counts); "$$" is "$"; an unknown name
 * stays as written. With `strict` an unknown name is -EINVAL (subPathExpr). The caller frees. -E2BIG past
 * `max` bytes. */
int wh_env_expand(const char *text, char *const *env, size_t max, bool strict, char **ret, wh_err *err);
/* One field or resource of the pod as text, for env and for downwardAPI files. container: whose resources are
 * meant when the source names none. The caller frees. -EINVAL when the path is none of the known. */
int wh_field_value(const wh_pod_spec *spec, size_t container, const wh_field_source *source,
                   const wh_pod_facts *facts, char **ret, wh_err *err);
/* The bytes of one key of a ConfigMap (data, binaryData) or Secret (data, stringData). -ENOENT, -EBADMSG (bad
 * base64). The caller frees; NUL-terminated. */
int wh_object_key(const json_t *object, const char *key, char **ret, size_t *ret_n, wh_err *err);
