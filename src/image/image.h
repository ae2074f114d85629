/* SPDX-License-Identifier: Apache-2.0 */
/* Images: from a reference to a verified Wasm module on disk, compiled. Everything here blocks and is safe to
 * call from several threads and several processes on one store; the agent calls it from its job pool. */
#pragma once

#include "base/clock.h"
#include "base/str.h"

/* ---- references ---- */
typedef struct wh_ref {
    char *host;       /* "docker.io", "127.0.0.1:5000"; API host by wh_ref_api_host */
    char *repository; /* "library/x" */
    char *tag;        /* NULL when only a digest was given; "latest" when neither */
    char *digest;     /* "sha256:..." or NULL; decides when set */
} wh_ref;
int wh_ref_parse(const char *text, wh_ref *ret, wh_err *err); /* -EINVAL */
void wh_ref_done(wh_ref *ref);
char *wh_ref_text(const wh_ref *ref);           /* canonical; the caller's to free */
const char *wh_ref_api_host(const wh_ref *ref); /* borrowed; "registry-1.docker.io" for docker.io */

/* ---- the store ---- */
typedef struct wh_store wh_store;
/* Opens or makes the store below `dir` (mode 0700). `prepare` is the path of wherry-prepare. */
int wh_store_open(const char *dir, const char *prepare, wh_store **ret, wh_err *err);
void wh_store_close(wh_store *store);

typedef struct wh_credential {
    char *key; /* as in a docker config: "registry.example:5000/team" */
    char *username, *password, *identity_token;
} wh_credential;
/* Parses .dockerconfigjson or .dockercfg and appends; -EBADMSG. */
int wh_credentials_parse(const char *json, size_t n, wh_credential **list, size_t *n_list, wh_err *err);
void wh_credentials_free(wh_credential *list, size_t n_list);

typedef enum { WH_PULL_ALWAYS, WH_PULL_IF_NOT_PRESENT, WH_PULL_NEVER } wh_pull_policy;
typedef struct wh_pull_options {
    wh_pull_policy policy;
    const wh_credential *credentials; /* of the pod, tried before the node's own file */
    size_t n_credentials;
    const char *auth_file; /* the node's docker config, or NULL: ~/.docker/config.json */
    const char
        *registries; /* /etc/wherry/registries.yaml: mirrors, CA files, plain-HTTP hosts; NULL: that path */
    bool plain_http; /* allow http for this host; loopback is http anyway, unless it has a CA file */
    /* May be called from the pulling thread at any time; done and total bytes of all blobs. true cancels. */
    bool (*progress)(void *user, uint64_t done, uint64_t total, const char *what);
    void *user;
} wh_pull_options;

typedef enum { WH_IMAGE_MODULE, WH_IMAGE_ROOTFS } wh_image_form;
typedef struct wh_image {
    char *reference; /* as asked for */
    char *digest;    /* of the chosen platform's manifest */
    char *image_id;  /* "<repository>@<digest>"; for a local file "file@sha256:..." */
    wh_image_form form;
    char *module_digest; /* of the Wasm binary; form MODULE */
    char *title;         /* argv[0] of form MODULE */
    char *rootfs;        /* unpacked tree, read-only; form ROOTFS, else NULL */
    wh_strv entrypoint, cmd, env, exposed_ports;
    char *working_dir, *user, *stop_signal; /* NULL where unset */
    uint64_t bytes;
} wh_image;
void wh_image_free(wh_image *image);
WH_DEFINE_CLEANUP(wh_cleanup_image, wh_image *, wh_image_free);
#define auto_image __attribute__((cleanup(wh_cleanup_image)))

/* What went wrong, in the kubelet's words; static strings: "InvalidImageName", "ErrImagePull",
 * "ErrImageNeverPull", "RegistryUnavailable", "CreateContainerError". */
typedef struct wh_image_error {
    wh_err err;
    const char *reason;
} wh_image_error;

/* From a registry, or from the store where policy allows. References that name a local source are accepted
 * too: "oci:DIR[:TAG]", "oci-archive:FILE.tar[:TAG]", and paths that begin with "./", "/" or end in .wasm or
 * .wat. */
int wh_image_pull(wh_store *store, const char *reference, const wh_pull_options *options, wh_image **ret,
                  wh_image_error *error);
int wh_image_find(wh_store *store, const char *reference, wh_image **ret,
                  wh_err *err); /* -ENOENT; no network */
int wh_image_push(wh_store *store, const char *wasm_path, const char *reference,
                  const wh_pull_options *options, char **ret_digest, wh_err *err);

/* ---- code ---- */
typedef enum {                            /* what it is for, by its exports */
               WH_CODE_MODULE,            /* a core module with neither _start nor _initialize */
               WH_CODE_COMMAND,           /* _start */
               WH_CODE_REACTOR,           /* _initialize */
               WH_CODE_COMPONENT_COMMAND, /* a component: wasi:cli/run */
               WH_CODE_HTTP_P2,           /* a component: wasi:http/incoming-handler@0.2 */
               WH_CODE_HTTP_P3,           /* a component: wasi:http/handler@0.3 */
} wh_code_kind;
const char *
wh_code_kind_name(wh_code_kind kind); /* "module", "command", "component-command", "http-p2", ... */

typedef struct wh_code {
    int fd; /* compiled module: authenticated, read-only, held open: never changes. The caller's to close */
    unsigned profile; /* what it was compiled as; +gc when the module needs it, +cm for components, and then
                         shared when it answers HTTP */
    wh_code_kind kind;
    bool egress;  /* a component that imports outgoing HTTP */
    bool sockets; /* a component that imports something of wasi:sockets */
    char *module_digest;
    bool is_command; /* exports _start */
    bool is_reactor; /* exports _initialize */
    char *cached;    /* "hit" or "compiled in 340 ms" */
} wh_code;
void wh_code_done(wh_code *code);
/* The compiled module of an image. `program` is argv[0] (looked up in a rootfs: absolute, working_dir, PATH
 * of the image); ignored by form MODULE. Compiles in a wherry-prepare process unless the store has it; one
 * compile per key, whoever asks. reason: "CreateContainerError" with the cause: not Wasm, truncated, a
 * component that exports nothing to run, which proposal, which imports. */
int wh_image_code(wh_store *store, const wh_image *image, const char *program, unsigned profile, wh_code *ret,
                  wh_image_error *error);

/* ---- housekeeping ---- */
typedef struct wh_image_row {
    char *reference, *digest;
    uint64_t bytes;
    wh_time pulled, used; /* real time */
    bool in_use;
} wh_image_row;
int wh_store_list(wh_store *store, wh_image_row **ret, size_t *ret_n, wh_err *err);
void wh_image_rows_free(wh_image_row *rows, size_t n);
int wh_store_remove(wh_store *store, const char *reference, wh_err *err); /* -EBUSY while leased */
/* A lease keeps an image, its blobs and its code: the holder is a pod uid. Survives restarts until released.
 */
int wh_store_lease(wh_store *store, const char *holder, const wh_image *image, wh_err *err);
int wh_store_release(wh_store *store, const char *holder, wh_err *err);
int wh_store_leases(wh_store *store, wh_strv *ret_holders, wh_err *err);
typedef struct wh_gc_policy {
    unsigned high_percent, low_percent; /* of the file system; 85, 80 */
    wh_time min_age;                    /* 2 minutes */
    wh_time max_age;                    /* unused for so long goes anyway; 0: never */
    wh_time stray_age;                  /* of files that a crash left and nothing names; 0: an hour */
} wh_gc_policy;
int wh_store_gc(wh_store *store, const wh_gc_policy *policy, uint64_t *ret_freed, wh_err *err);
/* Human description of a module or manifest for `wherry image inspect`, as JSON text. */
int wh_image_inspect(wh_store *store, const char *reference, char **ret_json, wh_err *err);
