/* SPDX-License-Identifier: Apache-2.0 */
/* wherry-prepare: the only process that parses what strangers made. One job, then it leaves. Whoever starts
 * it hands over descriptors, gets a record (base/record.h) back, and kills it at a deadline.
 *
 *     wherry-prepare identify                what compiled code depends on, as one line on standard output
 *     wherry-prepare compile PROFILE         0: the module; OUTPUT: the code; RESULT
 *     wherry-prepare inspect                 0: the module; RESULT
 *     wherry-prepare unpack LAYERS [plain]   OUTPUT: an empty folder; RESULT; LAYER_FIRST..: the archives, in
 * order
 */
#pragma once

#define WH_PREPARE_OUTPUT_FD 3
#define WH_PREPARE_RESULT_FD 4
#define WH_PREPARE_LAYER_FD 5 /* the first of them */

/* The uid and gid that a prepare process of root takes on: in no password file, and nobody else's. */
#define WH_PREPARE_UID 64970

/* Bumped when the same module would compile to something that older runners could not use. */
#define WH_PREPARE_REVISION 1

/* Fields of the result record. "verdict" and "message" are always there. */
#define WH_VERDICT_OK "ok"
#define WH_VERDICT_NOT_WASM "not_wasm"
#define WH_VERDICT_TRUNCATED "truncated"
#define WH_VERDICT_COMPONENT "component" /* a component that exports nothing to run */
#define WH_VERDICT_PROPOSAL "proposal"   /* needs something that this engine has switched off */
#define WH_VERDICT_INVALID "invalid"     /* the engine refused it */
#define WH_VERDICT_TOO_LARGE "too_large"
#define WH_VERDICT_IMPORTS "imports" /* nobody offers some of its imports */
#define WH_VERDICT_ARCHIVE "archive" /* a layer is damaged, or does what a layer must not */
#define WH_VERDICT_INTERNAL "internal"

/* "kind": what it is for. */
#define WH_KIND_MODULE "module"   /* a core module that exports neither _start nor _initialize */
#define WH_KIND_COMMAND "command" /* _start */
#define WH_KIND_REACTOR "reactor" /* _initialize */
#define WH_KIND_COMPONENT_COMMAND "component-command" /* wasi:cli/run */
#define WH_KIND_HTTP_P2 "http-p2"                     /* wasi:http/incoming-handler@0.2 */
#define WH_KIND_HTTP_P3 "http-p3"                     /* wasi:http/handler@0.3 */

/* Further fields: "profile", "kind", "command", "reactor" (0 or 1), "egress", "sockets" (1: a component that imports
 * outgoing HTTP, or wasi:sockets), "import" and "export" (repeated: "f module.name", "m memory",
 * "i package/interface"), "memory_min", "memory_max" (pages), "module" (repeated: paths of Wasm files in an
 * unpacked tree), "files", "bytes". */
#define WH_PREPARE_RESULT_BYTES_MAX (1UL << 20)
#define WH_PREPARE_NAMES_MAX 4096 /* imports and exports that are listed */
