/* SPDX-License-Identifier: Apache-2.0 */
/* YAML as Kubernetes people write it, turned into JSON values. JSON is read too. */
#pragma once

#include "base/json.h"

/* Parses all documents of a file into *ret, a new array with one value each (empty documents are left out).
 *
 * Plain scalars are typed as kubectl does it (sigs.k8s.io/yaml, which is go-yaml v2): null, ~ and nothing are null;
 * true, yes, y, on, false, no, n, off in lower, Title or UPPER case are booleans; decimal, 0x, 0o, 0b and leading-zero
 * octal integers (with "_" anywhere) and decimal fractions with exponents are numbers; everything quoted or in a block
 * is a string, and so are timestamps. Keys become strings. "<<" merges, what stands beside it wins. Anchors may be
 * used, within the caps of base/limits.h; an alias is a copy. Infinity and NaN are refused: JSON has neither.
 *
 * -EFBIG past a cap, -EEXIST for a key that stands twice, -EBADMSG for everything else; the sentence has line and
 * column. */
int wh_yaml_parse(const char *data, size_t n, json_t **ret, wh_err *err);
