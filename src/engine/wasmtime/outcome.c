/* SPDX-License-Identifier: Apache-2.0 */
/* How a call ended, in our words: trap codes, exits, and the backtrace out of the engine's text. */
#include "base/str.h"
#include "engine/wasmtime/internal.h"

#include <stdio.h>

static const wh_trap traps[] = {
    [WASMTIME_TRAP_CODE_STACK_OVERFLOW] = WH_TRAP_STACK_OVERFLOW,
    [WASMTIME_TRAP_CODE_MEMORY_OUT_OF_BOUNDS] = WH_TRAP_MEMORY_BOUNDS,
    [WASMTIME_TRAP_CODE_HEAP_MISALIGNED] = WH_TRAP_HEAP_MISALIGNED,
    [WASMTIME_TRAP_CODE_TABLE_OUT_OF_BOUNDS] = WH_TRAP_TABLE_BOUNDS,
    [WASMTIME_TRAP_CODE_INDIRECT_CALL_TO_NULL] = WH_TRAP_INDIRECT_NULL,
    [WASMTIME_TRAP_CODE_BAD_SIGNATURE] = WH_TRAP_BAD_SIGNATURE,
    [WASMTIME_TRAP_CODE_INTEGER_OVERFLOW] = WH_TRAP_INTEGER_OVERFLOW,
    [WASMTIME_TRAP_CODE_INTEGER_DIVISION_BY_ZERO] = WH_TRAP_DIVISION_BY_ZERO,
    [WASMTIME_TRAP_CODE_BAD_CONVERSION_TO_INTEGER] = WH_TRAP_BAD_CONVERSION,
    [WASMTIME_TRAP_CODE_UNREACHABLE_CODE_REACHED] = WH_TRAP_UNREACHABLE,
    [WASMTIME_TRAP_CODE_NULL_REFERENCE] = WH_TRAP_NULL_REFERENCE,
    [WASMTIME_TRAP_CODE_ARRAY_OUT_OF_BOUNDS] = WH_TRAP_ARRAY_BOUNDS,
    [WASMTIME_TRAP_CODE_ALLOCATION_TOO_LARGE] = WH_TRAP_OUT_OF_MEMORY,
    [WASMTIME_TRAP_CODE_CAST_FAILURE] = WH_TRAP_CAST,
    [WASMTIME_TRAP_CODE_UNCAUGHT_EXCEPTION] = WH_TRAP_EXCEPTION,
};

/* The engine's text: "error while executing at wasm backtrace:\n<frames>\n\nCaused by:\n    <cause>", or the
 * cause only. */
#define BACKTRACE "wasm backtrace:\n"
#define CAUSE "Caused by:\n"

/* A guest's author chose the names in it: nothing but printable text and line ends goes on. */
static size_t append_clean(char *out, size_t bytes, size_t at, const char *text, size_t n)
{
    for (size_t i = 0; i < n && at + 1 < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        out[at] = text[i];
        if ((c < 0x20 && c != '\n') || c == 0x7f)
            out[at] = '?';
        at++;
    }
    out[at] = '\0';
    return at;
}

/* Cuts a UTF-8 sequence that was left half at the end. */
static void cut_half_character(char *s)
{
    size_t n = strlen(s), back = 0;
    while (back < 4 && back < n && ((unsigned char)s[n - 1 - back] & 0xc0) == 0x80)
        back++;
    if (back < n && !wh_utf8_valid(s + n - 1 - back, back + 1))
        s[n - 1 - back] = '\0';
}

static wh_str find_text(wh_str in, const char *what)
{
    const char *p = memmem(in.p, in.n, what, strlen(what));
    if (p == NULL)
        return (wh_str){NULL, 0};
    p += strlen(what);
    return (wh_str){p, in.n - (size_t)(p - in.p)};
}

static wh_str frames_of(wh_str text)
{
    wh_str frames = find_text(text, BACKTRACE);
    if (frames.p == NULL)
        return frames;
    const char *end = memmem(frames.p, frames.n, "\n\n", 2);
    if (end != NULL)
        frames.n = (size_t)(end - frames.p);
    while (frames.n > 0 && (frames.p[frames.n - 1] == '\n' || frames.p[frames.n - 1] == '\0'))
        frames.n--;
    return frames;
}

/* What stands behind the last "Caused by", or the whole when there is none. */
static wh_str cause_of(wh_str text)
{
    wh_str cause = find_text(text, CAUSE);
    if (cause.p == NULL)
        cause = text;
    while (cause.n > 0 && (cause.p[cause.n - 1] == '\n' || cause.p[cause.n - 1] == '\0'))
        cause.n--;
    return wh_str_trim(cause);
}

void wh_wasmtime_error_text(wasmtime_error_t *error, char *out, size_t bytes)
{
    wasm_name_t text;
    wasmtime_error_message(error, &text);
    wh_str whole = {text.data, text.size};
    size_t n = append_clean(out, bytes, 0, whole.p, whole.n);
    for (size_t i = 0; i < n; i++) { /* one line */
        if (out[i] == '\n')
            out[i] = ' ';
    }
    cut_half_character(out);
    wasm_byte_vec_delete(&text);
    wasmtime_error_delete(error);
}

/* The trap or the reason in front, then the frames, a line each. */
static void write_message(wh_outcome *outcome, const char *reason, wh_str text)
{
    size_t at = append_clean(outcome->msg, sizeof(outcome->msg), 0, reason, strlen(reason));
    wh_str frames = frames_of(text);
    if (frames.n > 0) {
        at = append_clean(outcome->msg, sizeof(outcome->msg), at, "\n", 1);
        append_clean(outcome->msg, sizeof(outcome->msg), at, frames.p, frames.n);
    }
    cut_half_character(outcome->msg);
}

static bool text_has(wh_str text, const char *what)
{
    return memmem(text.p, text.n, what, strlen(what)) != NULL;
}

/* What ended the guest when it was no instruction: the engine has only words for it. */
static wh_trap trap_of_text(wh_str text)
{
    if (text_has(text, "thrown Wasm exception") || text_has(text, "uncaught exception"))
        return WH_TRAP_EXCEPTION;
    if (text_has(text, "GC heap out of memory") || text_has(text, "memory limit") ||
        text_has(text, "out of memory"))
        return WH_TRAP_OUT_OF_MEMORY;
    return WH_TRAP_OTHER;
}

static void describe_trap(wh_outcome *outcome, const wasm_trap_t *trap, wh_str text)
{
    wasmtime_trap_code_t code;
    outcome->end = WH_END_TRAP;
    if (trap != NULL && wasmtime_trap_code(trap, &code)) {
        if (code == WASMTIME_TRAP_CODE_INTERRUPT) {
            outcome->end = WH_END_DEADLINE;
            write_message(outcome, "the deadline has passed", text);
            return;
        }
        outcome->trap =
            code < WH_ARRAY_LEN(traps) && traps[code] != WH_TRAP_NONE ? traps[code] : WH_TRAP_OTHER;
    } else {
        outcome->trap = trap_of_text(text);
    }
    if (outcome->trap != WH_TRAP_OTHER) {
        write_message(outcome, wh_trap_name(outcome->trap), text);
        return;
    }
    wh_str cause = cause_of(text);
    char reason[256];
    (void)snprintf(reason, sizeof(reason), "%.*s", (int)WH_MIN(cause.n, sizeof(reason) - 1), cause.p);
    write_message(outcome, reason, text);
}

wh_end wh_wasmtime_outcome(wh_instance *instance, wasm_trap_t *trap, wasmtime_error_t *error,
                           wh_outcome *outcome)
{
    wasm_name_t text;
    if (trap != NULL)
        wasm_trap_message(trap, &text);
    else
        wasmtime_error_message(error, &text);
    wh_str whole = {text.data, text.size};
    *outcome = (wh_outcome){.memory_refused = instance->limits.refused > 0};
    switch (instance->ending) {
    case WH_HOST_EXIT:
        outcome->end = WH_END_EXIT;
        outcome->exit_code = instance->exit_code;
        break;
    case WH_HOST_TRAP:
        outcome->end = WH_END_TRAP;
        outcome->trap = WH_TRAP_HOST;
        write_message(
            outcome, instance->ending_msg != NULL ? instance->ending_msg : wh_trap_name(WH_TRAP_HOST), whole);
        break;
    case WH_HOST_OK:
    default:
        describe_trap(outcome, trap, whole);
        break;
    }
    instance->ending = WH_HOST_OK;
    instance->ending_msg = NULL;
    instance->dead = !instance->immortal;
    wasm_byte_vec_delete(&text);
    if (trap != NULL)
        wasm_trap_delete(trap);
    if (error != NULL)
        wasmtime_error_delete(error);
    return outcome->end;
}
