/* SPDX-License-Identifier: Apache-2.0 */
/* What a pod's volumes remember. Private to volume*.c. */
#pragma once

#include "base/file.h"
#include "pod/volume.h"

/* A token that a projection holds; one per TOKEN source. */
typedef struct held_token {
    char *text;
    wh_time obtained, expires;
} held_token;

typedef struct volume {
    uint64_t written;   /* digest of what the atomic writer wrote last; 0: nothing yet */
    held_token *tokens; /* by source */
    bool made;
} volume;

struct wh_volumes {
    const wh_pod_spec *spec;
    char *root, *dir; /* <root>, <root>/<uid> */
    char *node_name, *host_ip, *pod_ips[2];
    wh_pod_facts facts; /* its strings are those above */
    const wh_resolver *resolver;
    int (*token)(void *user, const wh_pod_spec *spec, const char *audience, int64_t seconds, char **ret_token,
                 wh_time *ret_expires, wh_err *err);
    void *token_user;
    bool privileged;
    const char *weaker;
    uid_t uid;
    gid_t gid;
    volume *volumes; /* as many as the spec has */
};

/* One file of a volume; paths are relative and checked. */
typedef struct payload_file {
    char *path, *data;
    size_t n;
    int mode;
} payload_file;
typedef struct payload {
    payload_file *files;
    size_t n, cap, bytes;
} payload;
void payload_done(payload *p);
#define auto_payload __attribute__((cleanup(payload_done)))

/* volume_files.c */
int payload_collect(wh_volumes *v, size_t i, wh_time now, wh_time *next, payload *out, wh_err *err);
uint64_t payload_digest(const payload *p);
/* The kubelet's atomic writer: a new folder, a renamed link, and names that point through it. */
int payload_write(int dirfd, const payload *p, uid_t uid, gid_t gid, bool chown_files, wh_err *err);

/* Where volume i lies (hostPath: on the host). The caller frees. */
char *volume_path(const wh_volumes *v, size_t i);
