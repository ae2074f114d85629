/* SPDX-License-Identifier: Apache-2.0 */
/* A folder of manifests: files added, changed and removed are followed, by inotify and by a look every 20
 * seconds. Names that begin with a dot, and what does not end in .yaml, .yml or .json, are left alone. */
#pragma once

#include "node/node.h"

typedef struct wh_source_dir wh_source_dir;
int wh_source_dir_start(wh_loop *loop, wh_node *node, const char *dir, wh_source_dir **ret, wh_err *err);
void wh_source_dir_free(wh_source_dir *source); /* pods stay */
