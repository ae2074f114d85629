/* SPDX-License-Identifier: Apache-2.0 */
/* What a prepare process takes from itself before it looks at its input. */
#pragma once

#include "base/err.h"

typedef struct wh_prepare_sandbox {
    int out_dir;           /* a folder that may be written, or -1 */
    uint64_t memory_bytes; /* of address space; 0: no limit */
    uint64_t file_bytes;   /* of one written file */
    unsigned cpu_seconds;
} wh_prepare_sandbox;

/* Limits, own uid when root, Landlock where the kernel has it, and a system-call filter that kills. */
int wh_prepare_enter(const wh_prepare_sandbox *sandbox, wh_err *err);
