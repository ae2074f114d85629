/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of an engine without having one: the names of profiles and traps, and the tag of compiled
 * code. */
#include "engine/engine.h"
#include "base/str.h"

/* The settings of wasmtime/config.c are part of what compiled code depends on: a change there moves the last
 * number. */
#define TAG(profile) "48.0.8+" profile "+1"

static const struct {
    unsigned profile;
    const char *name, *tag;
} profiles[] = {
    {WH_PROFILE_POD, "pod", TAG("pod")},
    {WH_PROFILE_SHARED, "shared", TAG("shared")},
    {WH_PROFILE_POD | WH_PROFILE_GC, "pod+gc", TAG("pod+gc")},
    {WH_PROFILE_SHARED | WH_PROFILE_GC, "shared+gc", TAG("shared+gc")},
    {WH_PROFILE_POD | WH_PROFILE_CM, "pod+cm", TAG("pod+cm")},
    {WH_PROFILE_SHARED | WH_PROFILE_CM, "shared+cm", TAG("shared+cm")},
};

const char *wh_profile_name(unsigned profile)
{
    for (size_t i = 0; i < WH_ARRAY_LEN(profiles); i++) {
        if (profiles[i].profile == profile)
            return profiles[i].name;
    }
    return NULL;
}

int wh_profile_parse(const char *name, unsigned *ret)
{
    for (size_t i = 0; i < WH_ARRAY_LEN(profiles); i++) {
        if (wh_streq(profiles[i].name, name)) {
            *ret = profiles[i].profile;
            return 0;
        }
    }
    return -EINVAL;
}

const char *wh_engine_tag(unsigned profile)
{
    for (size_t i = 0; i < WH_ARRAY_LEN(profiles); i++) {
        if (profiles[i].profile == profile)
            return profiles[i].tag;
    }
    return NULL;
}

const char *wh_trap_name(wh_trap trap)
{
    static const char *const names[] = {
        [WH_TRAP_NONE] = "no trap",
        [WH_TRAP_UNREACHABLE] = "unreachable code reached",
        [WH_TRAP_STACK_OVERFLOW] = "call stack exhausted",
        [WH_TRAP_MEMORY_BOUNDS] = "memory access out of bounds",
        [WH_TRAP_HEAP_MISALIGNED] = "misaligned atomic access",
        [WH_TRAP_TABLE_BOUNDS] = "table access out of bounds",
        [WH_TRAP_INDIRECT_NULL] = "indirect call to null",
        [WH_TRAP_BAD_SIGNATURE] = "indirect call signature mismatch",
        [WH_TRAP_INTEGER_OVERFLOW] = "integer overflow",
        [WH_TRAP_DIVISION_BY_ZERO] = "integer division by zero",
        [WH_TRAP_BAD_CONVERSION] = "invalid conversion to integer",
        [WH_TRAP_NULL_REFERENCE] = "null reference",
        [WH_TRAP_ARRAY_BOUNDS] = "array access out of bounds",
        [WH_TRAP_CAST] = "cast failure",
        [WH_TRAP_OUT_OF_MEMORY] = "out of memory",
        [WH_TRAP_EXCEPTION] = "uncaught exception",
        [WH_TRAP_HOST] = "refused by the host",
        [WH_TRAP_OTHER] = "trap",
    };
    return (size_t)trap < WH_ARRAY_LEN(names) ? names[trap] : "trap";
}
