/* SPDX-License-Identifier: Apache-2.0 */
/* A small POSIX shell for a guest without processes: every command is a function in the same program, a pipe
 * is a buffer, and a subshell shares the variables of its parent. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

struct io {
    FILE *in, *out, *err;
};

/* Runs a command whose name is argv[0], and returns its exit code. */
typedef int applet_fn(int argc, char **argv, struct io *io);

struct applet {
    const char *name;
    applet_fn *run;
};

/* The commands that are not part of the shell itself: applets.c. NULL when there is none of that name; a path
 * counts as its last part. */
const struct applet *applet_find(const char *name);

/* Runs a script: args[0] is $0, what follows is $1 and on. Returns its exit code. */
int shell_run(const char *script, char **args, struct io *io);

/* The `sh` command: -c SCRIPT [NAME [ARG...]], a script file, or lines from its input. */
int shell_main(int argc, char **argv, struct io *io);
