/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors that outlive the containers that use them, by name: listening sockets of pods. As long as one is held,
 * what is queued in it is not lost, whoever of its users ends. */
#pragma once

#include "base/buf.h"

#define uthash_fatal(msg) wh_panic(__FILE__, __LINE__, __func__, msg)
#include <uthash.h>

#define WH_HELD_NAME_MAX 191

typedef struct wh_held {
    char *name;
    int fd;
    unsigned users; /* containers */
    UT_hash_handle hh;
} wh_held;

wh_held *wh_held_find(wh_held *table, const char *name); /* NULL: nothing */
/* The descriptor is taken over on success. -EINVAL (name), -EEXIST, -EAGAIN past WH_KEEPER_HELD_MAX. */
int wh_held_add(wh_held **table, const char *name, int fd, wh_err *err);
int wh_held_drop(wh_held **table, const char *name, wh_err *err); /* -ENOENT; -EBUSY: a container uses it */
void wh_held_free_all(wh_held **table);
