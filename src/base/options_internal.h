/* SPDX-License-Identifier: Apache-2.0 */
/* What options.c (parsing) and options_doc.c (what is written from the tables) share. */
#pragma once

#include "base/options.h"

typedef struct program_info {
    const char *name, *version, *summary;
    const wh_verb *verbs;
} program_info;

void doc_program_help(wh_buf *out, const program_info *program);
void doc_verb_help(wh_buf *out, const program_info *program, const wh_verb *verb);
void doc_manual(wh_buf *out, const program_info *program);
int doc_completion(wh_buf *out, const program_info *program, const char *shell); /* -EINVAL: no such shell */
