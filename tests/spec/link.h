/* SPDX-License-Identifier: Apache-2.0 */
/* What the specification's scripts need and the seam has not: instances that share a store and import from
 * each other. Calls go through the seam. */
#pragma once

#include "engine/engine.h"

typedef struct spec_store spec_store;

int spec_store_new(wh_engine *engine, spec_store **ret);
/* Frees its instances too. */
void spec_store_free(spec_store *store);

/* *ret is the store's. -EFAULT: it trapped, see the outcome; -ENOENT: it does not link. */
int spec_instantiate(spec_store *store, wh_module *module, wh_instance **ret, wh_outcome *outcome,
                     wh_err *err);
/* From now on modules import from `instance` as `name`. */
int spec_register(spec_store *store, wh_instance *instance, const char *name, size_t n, wh_err *err);

/* An exported function with its signature; names may hold any byte. */
#define SPEC_SIG_BYTES 2008
int spec_func(wh_instance *instance, const char *name, size_t n, wh_func *ret, char sig[SPEC_SIG_BYTES]);
/* The value of an exported global. */
int spec_global(wh_instance *instance, const char *name, size_t n, wh_slot *ret);

/* External references that stand for a number, and back; a raw reference of 0 is null. */
wh_slot spec_externref(spec_store *store, uint64_t number);
bool spec_externref_is(spec_store *store, wh_slot raw, uint64_t number);
bool spec_ref_is_null(wh_slot raw);
