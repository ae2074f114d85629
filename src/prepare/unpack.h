/* SPDX-License-Identifier: Apache-2.0 */
/* Image layers become a tree: OCI image specification, "layer.md". Read by libarchive, written by our own
 * code, so that no name of an archive leads anywhere but below the folder. */
#pragma once

#include "base/str.h"

typedef struct wh_unpack wh_unpack;

typedef struct wh_unpack_limits {
    uint64_t bytes, entries; /* of all layers together */
    uint64_t ratio;          /* unpacked per packed byte of a layer, past a first MiB */
} wh_unpack_limits;

/* `root` is an open folder, borrowed; `whiteouts`: names that begin with ".wh." take files of lower layers
 * away. */
int wh_unpack_new(int root, const wh_unpack_limits *limits, bool whiteouts, wh_unpack **ret, wh_err *err);
void wh_unpack_free(wh_unpack *u);
WH_DEFINE_CLEANUP(wh_cleanup_unpack, wh_unpack *, wh_unpack_free);
#define auto_unpack __attribute__((cleanup(wh_cleanup_unpack)))

/* Applies the next layer: a tar, plain or with gzip or zstd. Files become 0444 or 0555, folders 0755.
 * -EBADMSG damaged; -EPERM for what a layer must not hold: absolute names, "..", a way through a link,
 * devices; -EFBIG past a limit; others come from the file system. */
int wh_unpack_layer(wh_unpack *u, int layer_fd, wh_err *err);

typedef struct wh_unpack_totals {
    uint64_t entries, bytes;
    char *const *modules; /* files that begin like Wasm, 256 at most; borrowed */
} wh_unpack_totals;
wh_unpack_totals wh_unpack_result(const wh_unpack *u);
