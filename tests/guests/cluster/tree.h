/* SPDX-License-Identifier: Apache-2.0 */
/* What a script is after parsing; shared by parse.c and shell.c. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

enum kind { SIMPLE, PIPE, AND, OR, SEQUENCE, NOT, IF, WHILE, UNTIL, FOR, GROUP, SUBSHELL };

struct redirect {
    int fd;     /* 0, 1 or 2 */
    char mode;  /* '<' read, '>' write, 'a' append, '&' the same as another */
    char *word; /* a path, or the other's number */
    struct redirect *next;
};

struct node {
    enum kind kind;
    struct node *a, *b, *c;
    char **words; /* as written: expanded each time that the command runs */
    size_t n_words;
    struct redirect *redirects;
};

struct text { /* a growing string */
    char *data;
    size_t len, room;
};

/* The script's commands; NULL with *error NULL is an empty script. Nothing of a tree is ever freed: a guest
 * runs few. */
struct node *parse_script(const char *script, const char **error);

/* Past what one of ' " \ ` at `at` starts, or past the expansion at a dollar. NULL: it is never closed. */
const char *skip_quoted(const char *at);
const char *skip_dollar(const char *at);

/* Ends the guest where there is no memory. */
void *need(void *memory);

void text_add(struct text *text, const char *data, size_t len);
void text_add_char(struct text *text, char c);
/* The string, which is the caller's to free; the text is empty again. */
char *text_take(struct text *text);

/* A number, 0 when it is none. */
long number(const char *text);
