/* SPDX-License-Identifier: Apache-2.0 */
/* One table describes a command's options and verbs; parsing, --help, the man page and the completions of bash, zsh and
 * fish come from it. */
#pragma once

#include "base/buf.h"

typedef enum {
    WH_OPT_FLAG,     /* bool */
    WH_OPT_STR,      /* const char *, the last one wins */
    WH_OPT_LIST,     /* wh_strv, each one appended */
    WH_OPT_U64,      /* uint64_t */
    WH_OPT_BYTES,    /* uint64_t, "64Mi" */
    WH_OPT_DURATION, /* int64_t nanoseconds, "10s" */
} wh_opt_kind;

typedef struct wh_opt {
    const char *name; /* long name without "--" */
    char letter;      /* short name, or 0 */
    wh_opt_kind kind;
    void *target; /* of the kind's type; holds the default before parsing */
    const char *
        value; /* what stands for the value in help: "FILE"; NULL for flags. Completion: FILE, DIR, or "a|b|c" */
    const char *help; /* one sentence without a full stop */
} wh_opt;             /* a table ends with {0} */

typedef struct wh_verb {
    const char *name;               /* "run"; two words for "image pull" */
    const char *args;               /* "FILE.wasm [ARG...]" */
    const char *summary;            /* one line */
    const char *detail;             /* further paragraphs for the man page, or NULL */
    const wh_opt *(*options)(void); /* the verb's table; NULL when it has none */
    int (*run)(int argc,
               char **argv); /* argv[0] is the first argument behind the options; returns the exit code */
    bool stop_at_operand;    /* options end at the first operand: what follows belongs to a guest */
} wh_verb;                   /* a table ends with {0} */

/* Parses argv[1..]: --name VALUE, --name=VALUE, -n VALUE, -abc, "--" ends. Moves the operands to argv[0],
 * argv[1] ... and sets *ret_operands. `stop_at_operand` leaves everything behind the first operand untouched.
 * On failure the sentence names the option and what it takes, and suggests the nearest name for an unknown
 * one. */
int wh_options_parse(const wh_opt *options, int argc, char **argv, bool stop_at_operand, int *ret_operands,
                     wh_err *err);

/* Runs the verb that argv names; knows --help (any verb), --version, "help VERB", and the hidden verbs "completion
 * bash|zsh|fish" and "manual" (mdoc). Returns the exit code: 2 for wrong usage. */
int wh_verbs_main(const char *program, const char *version, const char *summary, const wh_verb *verbs,
                  int argc, char **argv);
