/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests, indexes and image configs: what they say and what we make of it. Pure: bytes in, decisions out.
 * OCI image specification 1.1, Docker schema 2, and the CNCF Wasm OCI artifact layout. */
#pragma once

#include "image/digest.h"

#define WH_TYPE_OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define WH_TYPE_OCI_INDEX "application/vnd.oci.image.index.v1+json"
#define WH_TYPE_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define WH_TYPE_DOCKER_LIST "application/vnd.docker.distribution.manifest.list.v2+json"
#define WH_TYPE_WASM_CONFIG "application/vnd.wasm.config.v0+json"
#define WH_TYPE_WASM "application/wasm"
#define WH_TYPE_EMPTY "application/vnd.oci.empty.v1+json"

typedef struct wh_descriptor {
    char *media_type, *digest; /* never NULL; the digest is valid */
    uint64_t size;
    char *artifact_type, *os, *architecture; /* NULL when absent */
    char *title;                             /* annotation org.opencontainers.image.title */
    char *ref_name;                          /* annotation org.opencontainers.image.ref.name */
    bool attestation;                        /* belongs to another entry and is no image */
    bool compat;                             /* annotated as Wasm inside a Linux image */
} wh_descriptor;

typedef struct wh_oci_manifest {
    bool is_index;
    bool compat; /* annotated as Wasm inside a Linux image */
    char *media_type, *artifact_type, *title;
    wh_descriptor config; /* of a manifest */
    wh_descriptor *items; /* layers, or entries of an index */
    size_t n_items;
} wh_oci_manifest;

/* `content_type` is what the server said, or NULL; where the document has a mediaType, both must agree.
 * -EBADMSG with the field that is wrong, -EFBIG past a limit of base/limits.h. */
int wh_oci_manifest_parse(const char *content_type, const char *data, size_t n, wh_oci_manifest **ret,
                          wh_err *err);
void wh_oci_manifest_free(wh_oci_manifest *manifest);
WH_DEFINE_CLEANUP(wh_cleanup_oci_manifest, wh_oci_manifest *, wh_oci_manifest_free);
#define auto_oci_manifest __attribute__((cleanup(wh_cleanup_oci_manifest)))

/* The entry of an index that we run. `components`: whether this node runs components, which are then
 * preferred. -ENOENT lists what there was. */
int wh_oci_manifest_choose(const wh_oci_manifest *index, const char *reference, bool components,
                           size_t *ret_entry, wh_err *err);

typedef enum {
    WH_PLAN_MODULE, /* item `layer` is the binary */
    WH_PLAN_ROOTFS, /* all items are archives, applied in order */
    WH_PLAN_SNIFF,  /* item 0 is of no known type: its first bytes decide */
} wh_plan_kind;
typedef struct wh_plan {
    wh_plan_kind kind;
    size_t layer;
    bool by_type; /* a layer type says Wasm: the platform need not */
} wh_plan;

/* What to do with a manifest's layers. -ENOTSUP names what it is instead: a signature, a chart, an encrypted
 * layer. */
int wh_oci_manifest_plan(const wh_oci_manifest *manifest, const char *reference, wh_plan *ret, wh_err *err);

typedef enum {
    WH_BYTES_MODULE,
    WH_BYTES_COMPONENT,
    WH_BYTES_TAR,
    WH_BYTES_TEXT,
    WH_BYTES_REFUSED
} wh_bytes_kind;
/* What the first bytes of a file are (512 are enough). WH_BYTES_REFUSED comes with a sentence. */
wh_bytes_kind wh_bytes_sniff(const void *data, size_t n, wh_err *err);

typedef struct wh_image_config {
    char *os, *architecture, *working_dir, *user, *stop_signal; /* NULL when absent */
    wh_strv entrypoint, cmd, env, exposed_ports;
    wh_strv diff_ids;      /* valid digests */
    wh_strv layer_digests; /* of the CNCF layout */
    bool is_component;     /* says the CNCF layout */
} wh_image_config;
int wh_image_config_parse(const char *data, size_t n, wh_image_config *ret, wh_err *err);
void wh_image_config_done(wh_image_config *config);

/* Whether this platform is a Wasm one, in any of the spellings that exist. */
bool wh_platform_is_wasm(const char *os, const char *architecture);
/* Whether a manifest with this config may run: its platform, or a layer type or annotation that says Wasm;
 * and that layerDigests are those of the manifest. -ENOENT, -EBADMSG. */
int wh_image_config_check(const wh_image_config *config, const wh_oci_manifest *manifest, const wh_plan *plan,
                          const char *reference, wh_err *err);
