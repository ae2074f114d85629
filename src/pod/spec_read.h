/* SPDX-License-Identifier: Apache-2.0 */
/* Typed access to JSON with paths in messages. The first error stays and everything after it reads as absent,
 * so that a parser is a list of fields and one check at its end. Private to this room. */
#pragma once

#include "base/buf.h"
#include "pod/spec.h"

/* A place in the object; lives on the stack of whoever reads there. JSON's null is the same as absent (v ==
 * NULL). */
typedef struct at {
    const struct at *up;
    const char *key; /* NULL: an array item */
    size_t index;
    const json_t *v;
} at;

typedef struct reader {
    int rc;
    wh_err *err;
    wh_buf *why;    /* NULL or takes the whole sentence */
    wh_buf refused; /* "path (what)" joined by "; " */
    wh_strv remarks;
} reader;

at at_key(const at *up, const char *key);
at at_index(const at *up, size_t index);
void at_path(const at *place, wh_buf *out);

/* Sets the first error: "<path>: <what>". */
void read_fail(reader *r, const at *place, const char *fmt, ...) WH_PRINTF(3, 4);
/* Adds to the list of what this node does not do. `what` may be NULL. */
void read_refuse(reader *r, const at *place, const char *what);
void read_remark(reader *r, const char *fmt, ...) WH_PRINTF(2, 3);

const char *read_str(reader *r, const at *up, const char *key, const char *otherwise);
const char *read_required(reader *r, const at *up,
                          const char *key); /* a string that is not empty; "" after an error */
bool read_bool(reader *r, const at *up, const char *key, bool otherwise);
int64_t read_int(reader *r, const at *up, const char *key, int64_t min, int64_t max, int64_t otherwise);
wh_quantity read_quantity(reader *r, const at *up, const char *key);
/* The object or list at `key`; its v is NULL when absent or of another type (which is an error). */
at read_object(reader *r, const at *up, const char *key);
at read_list(reader *r, const at *up, const char *key, size_t max);
/* Item of a list that must be an object. */
at read_item(reader *r, const at *list, size_t i);
/* A list of strings, NULL-terminated; NULL when absent or empty. The vector is the caller's, its strings are
 * not. */
const char **read_strings(reader *r, const at *up, const char *key);
/* One of the words; otherwise an error that lists them. The index, or `otherwise` when absent. */
int read_word(reader *r, const at *up, const char *key, const char *const *words, int otherwise);
/* Is an object of strings, or absent. */
const json_t *read_string_map(reader *r, const at *up, const char *key);

bool is_dns_label(const char *s);     /* RFC 1123: at most 63 of a-z 0-9 and inner '-' */
bool is_dns_subdomain(const char *s); /* labels joined by '.', at most 253 */
/* Relative, without "." and ".." components and empty ones. */
bool is_inner_path(const char *s);
/* Absolute, otherwise the same; one '/' at the end is fine, ':' is not. */
bool is_guest_path(const char *s);

/* spec_container.c, spec_probe.c, spec_volume.c */
void read_probe(reader *r, const at *place, const char *key, wh_container_spec *c, wh_probe_kind kind);
void read_container(reader *r, const at *place, const wh_pod_spec *spec, wh_container_spec *c);
void free_container(wh_container_spec *c);
void read_volume(reader *r, const at *place, wh_volume_spec *v);
void free_volume(wh_volume_spec *v);
void read_field_source(reader *r, const at *up, wh_field_source *ret, bool in_file);
void read_resources(reader *r, const at *place, wh_resources *ret);
