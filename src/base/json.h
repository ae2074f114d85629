/* SPDX-License-Identifier: Apache-2.0 */
/* jansson with our caps: depth 64, no duplicate keys, no NUL in strings. Used by the agent and its tools, never by the
 * keeper or a runner. */
#pragma once

#include "base/buf.h"

#include <jansson.h>

#define WH_JSON_DEPTH_MAX 64

static inline WH_UNUSED void wh_cleanup_json(json_t **j)
{
    json_decref(*j);
}
#define auto_json __attribute__((cleanup(wh_cleanup_json)))

/* *ret is a new reference. -EBADMSG with line and column in the sentence. */
int wh_json_parse(const char *data, size_t n, json_t **ret, wh_err *err);
/* Member by dotted path ("metadata.name"); borrowed, NULL when absent anywhere on the way. */
json_t *wh_json_at(const json_t *j, const char *path);
const char *wh_json_str(const json_t *j, const char *path); /* NULL unless a string */
int64_t wh_json_int(const json_t *j, const char *path, int64_t otherwise);
bool wh_json_bool(const json_t *j, const char *path, bool otherwise);
/* Compact text; the caller's to free; never NULL for what we built ourselves. */
char *wh_json_dump(const json_t *j);
/* A string, or null when s is NULL. */
json_t *wh_json_string(const char *s);
