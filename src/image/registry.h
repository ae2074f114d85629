/* SPDX-License-Identifier: Apache-2.0 */
/* One repository of one registry, over the OCI distribution protocol 1.1: authentication, retries,
 * resumption, verification. Blocking; for one thread. */
#pragma once

#include "base/buf.h"
#include "image/auth.h"
#include "image/manifest.h"

typedef struct wh_registry wh_registry;

typedef struct wh_registry_options {
    const wh_ref *ref; /* borrowed as long as the registry */
    const char *base;  /* "https://host[:port][/prefix]": the registry itself, or a mirror of it */
    const char *ca_file;
    const wh_credential *const *credentials; /* tried in order; borrowed */
    size_t n_credentials;
    bool push; /* ask for the right to push as well */
    bool (*cancelled)(void *user);
    void *user;
} wh_registry_options;
int wh_registry_new(const wh_registry_options *options, wh_registry **ret, wh_err *err);
void wh_registry_free(wh_registry *registry);
WH_DEFINE_CLEANUP(wh_cleanup_registry, wh_registry *, wh_registry_free);
#define auto_registry __attribute__((cleanup(wh_cleanup_registry)))

/* Where a reference's registry is spoken to: plain HTTP where it is configured, and for loopback hosts unless `tls`. */
char *wh_registry_base(const wh_ref *ref, bool plain_http, bool tls);

/* A manifest or index by tag or digest; its bytes have the digest in `ret_digest`, which is the one asked for
 * when that was a digest. The buffer is the caller's. -ENOENT unknown, -EACCES refused, -EBADMSG for the
 * wrong bytes. */
int wh_registry_manifest(wh_registry *registry, const char *tag_or_digest, wh_buf *ret_body,
                         char **ret_content_type, char ret_digest[WH_DIGEST_TEXT_MAX], wh_err *err);

/* Where a blob goes. `write` is called with each piece in order; `restart` drops everything written so far.
 */
typedef struct wh_blob_sink {
    int (*write)(void *user, const void *data, size_t n, wh_err *err);
    int (*restart)(void *user, wh_err *err);
    void *user;
} wh_blob_sink;
/* Streams a blob and compares its size and digest; what was written may be used only after 0. */
int wh_registry_blob(wh_registry *registry, const wh_descriptor *blob, const wh_blob_sink *sink, wh_err *err);

/* Pushing. A blob that the registry has is not sent again. */
int wh_registry_push_blob(wh_registry *registry, const char *digest, int fd, uint64_t bytes, wh_err *err);
int wh_registry_push_manifest(wh_registry *registry, const char *tag_or_digest, const char *media_type,
                              const void *data, size_t n, wh_err *err);

/* True when the last failure means that the registry could not be reached or is unwell, rather than that it
 * said no. */
bool wh_registry_unavailable(const wh_registry *registry);
/* The credential that the last answer took; NULL when it wanted none. */
const wh_credential *wh_registry_credential(const wh_registry *registry);
