/* SPDX-License-Identifier: Apache-2.0 */
/* What a dormant container is made of: the start message, and its descriptors in the cheapest form that gives the same
 * again: sealed memory as its bytes, what a path leads to as that path, a file that many containers share once. */
#pragma once

#include "base/limits.h"
#include "keeper/held.h"

#include <sys/types.h>

typedef struct wh_shared { /* one open file for all containers that were given the same */
    struct {
        dev_t dev;
        ino_t ino;
        int mode; /* of access */
        int zero; /* keys are compared as bytes */
    } key;
    int fd;
    unsigned users;
    UT_hash_handle hh;
} wh_shared;

typedef struct wh_rest_slot {
    enum { WH_SLOT_FD = 1, WH_SLOT_SHARED, WH_SLOT_BYTES, WH_SLOT_PATH } kind;
    int fd;     /* FD, SHARED; of PATH how it is opened: 'a', 't' or 'd' */
    uint32_t n; /* BYTES */
    char *data; /* BYTES, PATH */
} wh_rest_slot;

typedef struct wh_rest {
    char *message; /* a record: the start's fields */
    size_t n;
    wh_rest_slot *slots; /* the descriptors that came with it, the program last */
    size_t n_slots;
    wh_shared **shared; /* the keeper's table */
} wh_rest;

/* Descriptors that are taken over become -1. `message` is copied; its fields `open` ("INDEX:FLAG:PATH") say which of
 * the descriptors a later start opens anew: 'a' to append, 't' emptied first, 'd' a folder. */
int wh_rest_new(wh_shared **shared, const void *message, size_t n, int *fds, size_t n_fds, wh_rest **ret,
                wh_err *err);
void wh_rest_free(wh_rest *rest);
/* The descriptors for one start. ret_opened lists those that were opened for it: the caller closes them. */
int wh_rest_open(const wh_rest *rest, int fds[WH_KEEPER_FDS_MAX], int opened[WH_KEEPER_FDS_MAX],
                 size_t *ret_n_opened, wh_err *err);

/* The control groups that the message names: taken away, innermost first (others may still use the outer ones), or made
 * again with their limits. */
void wh_rest_groups_remove(const wh_rest *rest);
int wh_rest_groups_make(const wh_rest *rest, wh_err *err);

/* For an upgrade: as a record, and back in the new program. */
void wh_rest_put(const wh_rest *rest, wh_buf *out);
int wh_rest_take(wh_shared **shared, const void *data, size_t n, wh_rest **ret, wh_err *err);
void wh_rest_each_fd(const wh_rest *rest, void (*fn)(int fd, bool on), bool on);
