/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that decides how a registry is spoken to: configuration, credentials, mirrors. Private to this room. */
#pragma once

#include "image/registry.h"
#include "image/store.h"

typedef struct wh_remote {
    wh_ref ref;
    wh_registries registries;
    wh_credential *file_list; /* of the node's own file */
    size_t n_file_list;
} wh_remote;

int wh_remote_load(const char *reference, const wh_pull_options *options, wh_remote *ret, wh_err *err);
void wh_remote_done(wh_remote *remote);
/* The registry's own address; the caller's to free. */
char *wh_remote_base(const wh_remote *remote, const wh_pull_options *options);
/* Opens the registry at `base`, which is a mirror's address or the registry's own. *ret_credentials must live
 * as long as the registry, and is the caller's to free; `state` may be NULL. */
int wh_remote_open(const wh_remote *remote, const wh_pull_options *options, const char *base, bool mirror,
                   bool push, wh_pull_state *state, const wh_credential ***ret_credentials, wh_registry **ret,
                   wh_err *err);

/* Every credential that fits the reference, or a mirror of its registry; the array is the caller's to free. */
void wh_remote_credentials(const wh_remote *remote, const wh_pull_options *options,
                           const wh_credential ***ret, size_t *ret_n);

/* ---- who may use what was pulled (access.c) ---- */
/* Writes down that this credential, or none at all, was enough for an image. */
int wh_access_add(wh_store *store, const wh_ref *ref, const char *digest, const wh_credential *credential,
                  wh_err *err);
/* Whether one of these is known to be enough; *ret is false when the registry has to be asked. */
int wh_access_check(wh_store *store, const wh_ref *ref, const char *digest,
                    const wh_credential *const *credentials, size_t n, bool *ret, wh_err *err);
