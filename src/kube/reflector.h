/* SPDX-License-Identifier: Apache-2.0 */
/* The deciding part of a watch: no clock, no I/O. It says what to ask for next, takes what came back, and keeps the
 * objects. Private to this room; its header is there for tests and fuzzing. */
#pragma once

#include "kube/watch.h"

typedef enum {
    WH_REFLECT_STREAM, /* watch with sendInitialEvents */
    WH_REFLECT_LIST,   /* a page of a list */
    WH_REFLECT_WATCH,  /* changes since the last resource version */
} wh_reflect_phase;

typedef struct wh_reflect_entry wh_reflect_entry;

typedef struct wh_reflector {
    wh_reflect_phase phase;
    char *version;   /* last resource version; NULL: none */
    char *next_page; /* continue token of a list */
    wh_reflect_entry *entries;
    size_t count;
    uint64_t round; /* of listing: entries that a complete list did not touch are gone */
    bool synced, no_streaming_list;
    bool refreshed; /* something usable came since the last wh_reflect_begin */
    void (*on_event)(wh_watch_kind kind, json_t *object, void *user);
    void (*on_synced)(void *user);
    void *user;
} wh_reflector;

void wh_reflect_init(wh_reflector *r);
void wh_reflect_done(wh_reflector *r);

/* The query (without '?') of the next request; the caller's to free. `seconds` limits a watch on the server's side. */
char *wh_reflect_query(wh_reflector *r, const char *field_selector, const char *label_selector,
                       unsigned seconds);

/* One line of a watch. 0; -ESTALE: the version is too old, begin anew; -EAGAIN: the server said ERROR
 * otherwise; -EBADMSG: no watch event; -EFBIG: too many objects. err says which. */
int wh_reflect_line(wh_reflector *r, const char *line, size_t n, wh_err *err);
/* A page of a list. 0, -EBADMSG, -EFBIG. */
int wh_reflect_page(wh_reflector *r, const json_t *list, wh_err *err);

typedef enum {
    WH_REFLECT_NOW,   /* ask again at once: the watch ended in order */
    WH_REFLECT_LATER, /* after the back-off */
} wh_reflect_next;
/* A request ended: HTTP status, or 0; code as of wh_reflect_line or of the transport (0: in order). Chooses
 * the phase. */
wh_reflect_next wh_reflect_end(wh_reflector *r, int status, int code);

json_t *wh_reflect_find(const wh_reflector *r, const char *key);
void wh_reflect_each(const wh_reflector *r, void (*fn)(const char *key, json_t *object, void *user),
                     void *user);
