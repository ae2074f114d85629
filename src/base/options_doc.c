/* SPDX-License-Identifier: Apache-2.0 */
/* What is written from the tables of options and verbs: --help, the manual in mdoc(7), the completions of
 * three shells. */
#include "base/options_internal.h"

#define WIDTH 80
#define LEFT_MAX 28 /* a longer left column puts its text on the next line */

static const wh_opt *options_of(const wh_verb *verb)
{
    static const wh_opt none[] = {{0}};
    return verb->options == NULL ? none : verb->options();
}

/* ---- help */

/* Words of `text` from column `indent` on, which is where the cursor stands. */
static void put_wrapped(wh_buf *out, const char *text, size_t indent)
{
    size_t column = indent;
    wh_str rest = wh_str_of(text), word;
    while (wh_str_split(&rest, ' ', &word)) {
        if (word.n == 0)
            continue;
        if (column > indent && column + 1 + word.n > WIDTH) {
            (void)wh_buf_printf(out, "\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            (void)wh_buf_putc(out, ' ');
            column++;
        }
        (void)wh_buf_append(out, word.p, word.n);
        column += word.n;
    }
    (void)wh_buf_putc(out, '\n');
}

static void put_two_columns(wh_buf *out, const char *left, size_t left_width, const char *right)
{
    size_t n = strlen(left);
    (void)wh_buf_printf(out, "  %s", left);
    if (n > left_width)
        (void)wh_buf_printf(out, "\n%*s", (int)left_width + 4, "");
    else
        (void)wh_buf_printf(out, "%*s", (int)(left_width - n) + 2, "");
    put_wrapped(out, right, left_width + 4);
}

static char *option_left(const wh_opt *opt)
{
    char letter[] = {'-', opt->letter, ',', ' ', '\0'};
    return wh_xasprintf("%s--%s%s%s", opt->letter != 0 ? letter : "    ", opt->name,
                        opt->value == NULL ? "" : " ", opt->value == NULL ? "" : opt->value);
}

static void put_options(wh_buf *out, const wh_opt *options)
{
    size_t width = strlen("-h, --help");
    for (const wh_opt *opt = options; opt->name != NULL; opt++) {
        auto_free char *left = option_left(opt);
        if (strlen(left) <= LEFT_MAX)
            width = WH_MAX(width, strlen(left));
    }
    (void)wh_buf_puts(out, "\nOptions:\n");
    for (const wh_opt *opt = options; opt->name != NULL; opt++) {
        auto_free char *left = option_left(opt);
        put_two_columns(out, left, width, opt->help);
    }
    put_two_columns(out, "-h, --help", width, "Show this help");
}

static void put_paragraphs(wh_buf *out, const char *text)
{
    while (*text != '\0') {
        const char *end = strstr(text, "\n\n");
        size_t n = end == NULL ? strlen(text) : (size_t)(end - text);
        auto_free char *paragraph = wh_xstrndup(text, n);
        for (char *p = paragraph; *p != '\0'; p++)
            *p = *p == '\n' ? ' ' : *p;
        (void)wh_buf_putc(out, '\n');
        put_wrapped(out, paragraph, 0);
        text += n + strspn(text + n, "\n");
    }
}

void doc_verb_help(wh_buf *out, const program_info *program, const wh_verb *verb)
{
    bool args = verb->args != NULL && *verb->args != '\0';
    (void)wh_buf_printf(out, "Usage: %s %s [OPTIONS]%s%s\n\n", program->name, verb->name, args ? " " : "",
                        args ? verb->args : "");
    put_wrapped(out, verb->summary, 0);
    if (verb->detail != NULL)
        put_paragraphs(out, verb->detail);
    put_options(out, options_of(verb));
}

void doc_program_help(wh_buf *out, const program_info *program)
{
    size_t width = 0;
    for (const wh_verb *verb = program->verbs; verb->name != NULL; verb++)
        width = WH_MAX(width, strlen(verb->name));
    (void)wh_buf_printf(out, "Usage: %s COMMAND [OPTIONS] [ARGUMENTS]\n\n", program->name);
    put_wrapped(out, program->summary, 0);
    (void)wh_buf_puts(out, "\nCommands:\n");
    for (const wh_verb *verb = program->verbs; verb->name != NULL; verb++)
        put_two_columns(out, verb->name, WH_MIN(width, (size_t)LEFT_MAX), verb->summary);
    (void)wh_buf_puts(out, "\nOptions:\n");
    put_two_columns(out, "-h, --help", 13, "Show this help");
    put_two_columns(out, "-V, --version", 13, "Show the version");
    (void)wh_buf_printf(out, "\n'%s help COMMAND' tells more about one of them.\n", program->name);
}

/* ---- manual, mdoc(7) */

static void put_roff_word(wh_buf *out, wh_str word, bool line_start)
{
    if (line_start && (word.p[0] == '.' || word.p[0] == '\''))
        (void)wh_buf_puts(out, "\\&");
    for (size_t i = 0; i < word.n; i++)
        if (word.p[i] == '\\')
            (void)wh_buf_puts(out, "\\e");
        else
            (void)wh_buf_putc(out, word.p[i]);
}

/* Text that roff takes as it is: no line is a request, no backslash an escape. A new sentence begins a line,
 * by which roff knows that it is one. */
static void put_roff(wh_buf *out, const char *text)
{
    size_t column = 0;
    char last = ' ';
    for (text += strspn(text, " \n"); *text != '\0';) {
        wh_str word = {text, strcspn(text, " \n")};
        bool sentence = strchr(".!?", last) != NULL && word.p[0] >= 'A' && word.p[0] <= 'Z';
        bool begins = column == 0 || sentence || column + 1 + word.n > WIDTH;
        if (column > 0)
            (void)wh_buf_putc(out, begins ? '\n' : ' ');
        put_roff_word(out, word, begins);
        column = begins ? word.n : column + 1 + word.n;
        last = word.p[word.n - 1];
        text += word.n;
        size_t gap = strspn(text, " \n");
        if (text[gap] != '\0' && memmem(text, gap, "\n\n", 2) != NULL) {
            (void)wh_buf_puts(out, "\n.Pp\n");
            column = 0;
        }
        text += gap;
    }
    (void)wh_buf_putc(out, '\n');
}

/* Arguments of a macro: each in quotes, so that no word of them is taken for a macro. */
static void put_macro(wh_buf *out, const char *macro, const char *text)
{
    (void)wh_buf_printf(out, "%s \"", macro);
    for (; *text != '\0'; text++)
        (void)wh_buf_puts(out, *text == '\\' ? "\\e" : *text == '"' ? "\"\"" : (char[]){*text, '\0'});
    (void)wh_buf_putc(out, '"');
}

static void put_manual_option(wh_buf *out, const wh_opt *opt)
{
    (void)wh_buf_puts(out, ".It");
    if (opt->letter != 0)
        (void)wh_buf_printf(out, " Fl %c ,", opt->letter);
    (void)wh_buf_printf(out, " Fl \\-%s", opt->name);
    if (opt->value != NULL)
        put_macro(out, " Ar", opt->value);
    (void)wh_buf_putc(out, '\n');
    put_roff(out, opt->help);
}

static void put_manual_verb(wh_buf *out, const wh_verb *verb)
{
    const wh_opt *options = options_of(verb);
    put_macro(out, ".It Cm", verb->name);
    (void)wh_buf_puts(out, options->name == NULL ? "" : " Oo Ar options Oc");
    if (verb->args != NULL && *verb->args != '\0')
        put_macro(out, " Ar", verb->args);
    (void)wh_buf_putc(out, '\n');
    put_roff(out, verb->summary);
    if (verb->detail != NULL) {
        (void)wh_buf_puts(out, ".Pp\n");
        put_roff(out, verb->detail);
    }
    if (options->name == NULL)
        return;
    (void)wh_buf_puts(out, ".Bl -tag -width Ds\n");
    for (const wh_opt *opt = options; opt->name != NULL; opt++)
        put_manual_option(out, opt);
    (void)wh_buf_puts(out, ".El\n");
}

void doc_manual(wh_buf *out, const program_info *program)
{
    (void)wh_buf_puts(out, ".Dd $Mdocdate$\n.Dt ");
    for (const char *p = program->name; *p != '\0'; p++)
        (void)wh_buf_putc(out, *p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p);
    (void)wh_buf_printf(out, " 1\n.Os\n.Sh NAME\n.Nm %s\n", program->name);
    put_macro(out, ".Nd", program->summary);
    (void)wh_buf_puts(
        out, "\n.Sh SYNOPSIS\n.Nm\n.Ar command\n.Op Ar options\n.Op Ar arguments\n.Sh DESCRIPTION\n");
    put_roff(out, program->summary);
    (void)wh_buf_puts(out, ".Sh COMMANDS\n.Bl -tag -width Ds\n");
    for (const wh_verb *verb = program->verbs; verb->name != NULL; verb++)
        put_manual_verb(out, verb);
    (void)wh_buf_puts(out,
                      ".El\n.Sh EXIT STATUS\n0 on success, 2 for wrong usage, another number on failure.\n");
}

/* ---- completions */

static bool is_file(const wh_opt *opt)
{
    return opt->value != NULL && strstr(opt->value, "FILE") != NULL;
}

static bool is_dir(const wh_opt *opt)
{
    return opt->value != NULL && strstr(opt->value, "DIR") != NULL;
}

static bool is_choice(const wh_opt *opt)
{
    return opt->value != NULL && strchr(opt->value, '|') != NULL;
}

/* "a|b|c" as words. */
static char *choices(const wh_opt *opt)
{
    char *words = wh_xstrdup(opt->value);
    for (char *p = words; *p != '\0'; p++)
        *p = *p == '|' ? ' ' : *p;
    return words;
}

/* Inside single quotes of any shell. `more` are further bytes that need a backslash there. */
static void put_shell(wh_buf *out, const char *text, const char *more)
{
    for (; *text != '\0'; text++) {
        if (*text == '\'')
            (void)wh_buf_puts(out, "'\\''");
        else if (strchr(more, *text) != NULL)
            (void)wh_buf_printf(out, "\\%c", *text);
        else
            (void)wh_buf_putc(out, *text);
    }
}

/* A name that may be part of a shell function's. */
static char *function_name(const char *name)
{
    char *copy = wh_xstrdup(name);
    for (char *p = copy; *p != '\0'; p++)
        *p = (*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') ? *p : '_';
    return copy;
}

static void put_bash_verb(wh_buf *out, const wh_verb *verb)
{
    (void)wh_buf_printf(out, "    '%s')\n        case \"$prev\" in\n", verb->name);
    for (const wh_opt *opt = options_of(verb); opt->name != NULL; opt++) {
        if (opt->kind == WH_OPT_FLAG)
            continue;
        (void)wh_buf_printf(out, "        --%s", opt->name);
        if (opt->letter != 0)
            (void)wh_buf_printf(out, "|-%c", opt->letter);
        if (is_choice(opt)) {
            auto_free char *words = choices(opt);
            (void)wh_buf_printf(out, ") COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return ;;\n", words);
        } else {
            (void)wh_buf_printf(out, ") COMPREPLY=(%s); return ;;\n",
                                is_dir(opt)    ? "$(compgen -d -- \"$cur\")"
                                : is_file(opt) ? "$(compgen -f -- \"$cur\")"
                                               : "");
        }
    }
    (void)wh_buf_puts(out, "        esac\n        options='--help");
    for (const wh_opt *opt = options_of(verb); opt->name != NULL; opt++)
        (void)wh_buf_printf(out, " --%s", opt->name);
    (void)wh_buf_puts(out, "' ;;\n");
}

static void put_bash(wh_buf *out, const program_info *program)
{
    auto_free char *fn = function_name(program->name);
    (void)wh_buf_printf(out, "# bash completion for %s\n_%s()\n{\n", program->name, fn);
    (void)wh_buf_puts(out,
                      "    local cur=\"${COMP_WORDS[COMP_CWORD]}\" prev=\"${COMP_WORDS[COMP_CWORD-1]}\"\n"
                      "    local verb=\"${COMP_WORDS[1]}\" options='--help' words=''\n"
                      "    COMPREPLY=()\n"
                      "    case \"${COMP_WORDS[1]} ${COMP_WORDS[2]}\" in\n");
    bool groups = false;
    for (const wh_verb *verb = program->verbs; verb->name != NULL; verb++) {
        if (strchr(verb->name, ' ') != NULL) {
            (void)wh_buf_printf(out, "%s'%s'", groups ? "|" : "    ", verb->name);
            groups = true;
        }
    }
    if (groups)
        (void)wh_buf_puts(out,
                          ") [ \"$COMP_CWORD\" -gt 2 ] && verb=\"${COMP_WORDS[1]} ${COMP_WORDS[2]}\" ;;\n");
    (void)wh_buf_puts(
        out,
        "    esac\n"
        "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        COMPREPLY=($(compgen -W 'help --help --version");
    for (const wh_verb *verb = program->verbs; verb->name != NULL; verb++)
        (void)wh_buf_printf(out, " %.*s", (int)strcspn(verb->name, " "), verb->name);
    (void)wh_buf_puts(out, "' -- \"$cur\"))\n        return\n    fi\n    case \"$verb\" in\n");
    for (const wh_verb *verb = program->verbs; verb->name != NULL; verb++)
        put_bash_verb(out, verb);
    (void)wh_buf_puts(out, "    *)\n        case \"$verb\" in\n");
    for (const wh_verb *verb = program->verbs; verb->name != NULL; verb++) {
        const char *space = strchr(verb->name, ' ');
        if (space != NULL)
            (void)wh_buf_printf(out, "        '%.*s') words=\"$words %s\" ;;&\n", (int)(space - verb->name),
                                verb->name, space + 1);
    }
    (void)wh_buf_printf(out,
                        "        esac ;;\n    esac\n    case \"$cur\" in\n"
                        "    -*) COMPREPLY=($(compgen -W \"$options\" -- \"$cur\")) ;;\n"
                        "    *) if [ -n \"$words\" ]; then COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
                        "       else COMPREPLY=($(compgen -f -- \"$cur\")); fi ;;\n"
                        "    esac\n}\ncomplete -o filenames -F _%s %s\n",
                        fn, program->name);
}

static void put_zsh_verb(wh_buf *out, const wh_verb *verb)
{
    (void)wh_buf_printf(out, "  '%s')\n    _arguments -S \\\n", verb->name);
    for (const wh_opt *opt = options_of(verb); opt->name != NULL; opt++) {
        (void)wh_buf_printf(out, "      '%s--%s%s[", opt->kind == WH_OPT_LIST ? "*" : "", opt->name,
                            opt->kind == WH_OPT_FLAG ? "" : "=");
        put_shell(out, opt->help, "[]\\");
        (void)wh_buf_puts(out, "]");
        if (is_choice(opt)) {
            auto_free char *words = choices(opt);
            (void)wh_buf_printf(out, ":value:(%s)", words);
        } else if (opt->kind != WH_OPT_FLAG) {
            (void)wh_buf_printf(out, ":value:%s", is_dir(opt) ? "_files -/" : is_file(opt) ? "_files" : "");
        }
        (void)wh_buf_puts(out, "' \\\n");
    }
    (void)wh_buf_puts(out, "      '--help[Show this help]' '*:file:_files' ;;\n");
}

static void put_zsh(wh_buf *out, const program_info *program)
{
    auto_free char *fn = function_name(program->name);
    (void)wh_buf_printf(out, "#compdef %s\n_%s() {\n  local -a verbs\n  verbs=(\n", program->name, fn);
    for (const wh_verb *verb = program->verbs; verb->name != NULL; verb++) {
        (void)wh_buf_printf(out, "    '%s:", verb->name);
        put_shell(out, verb->summary, "\\");
        (void)wh_buf_puts(out, "'\n");
    }
    (void)wh_buf_puts(out,
                      "  )\n  if (( CURRENT == 2 )); then\n    _describe command verbs\n    return\n  fi\n"
                      "  local verb=\"$words[2]\"\n"
                      "  if (( CURRENT > 3 )) && (( ${verbs[(I)$words[2] $words[3]:*]} )); then\n"
                      "    verb=\"$words[2] $words[3]\"\n    shift words\n    (( CURRENT-- ))\n  fi\n"
                      "  shift words\n  (( CURRENT-- ))\n  case \"$verb\" in\n");
    for (const wh_verb *verb = program->verbs; verb->name != NULL; verb++)
        put_zsh_verb(out, verb);
    (void)wh_buf_printf(out, "  *) _files ;;\n  esac\n}\ncompdef _%s %s\n", fn, program->name);
}

/* The condition under which fish offers what belongs to a verb. */
static char *fish_condition(const char *verb)
{
    wh_str rest = wh_str_of(verb), first;
    (void)wh_str_split(&rest, ' ', &first);
    if (rest.p == NULL)
        return wh_xasprintf("__fish_seen_subcommand_from %s", verb);
    return wh_xasprintf("__fish_seen_subcommand_from %.*s; and __fish_seen_subcommand_from %.*s",
                        WH_STR_ARG(first), WH_STR_ARG(rest));
}

static void put_fish_verb(wh_buf *out, const program_info *program, const wh_verb *verb)
{
    wh_str rest = wh_str_of(verb->name), first;
    (void)wh_str_split(&rest, ' ', &first);
    auto_free char *condition = fish_condition(verb->name);
    if (rest.p == NULL)
        (void)wh_buf_printf(out, "complete -c %s -n __fish_use_subcommand -a '%s' -d '", program->name,
                            verb->name);
    else
        (void)wh_buf_printf(out,
                            "complete -c %s -n __fish_use_subcommand -a '%.*s'\n"
                            "complete -c %s -n '__fish_seen_subcommand_from %.*s' -a '%.*s' -d '",
                            program->name, WH_STR_ARG(first), program->name, WH_STR_ARG(first),
                            WH_STR_ARG(rest));
    put_shell(out, verb->summary, "\\");
    (void)wh_buf_puts(out, "'\n");
    for (const wh_opt *opt = options_of(verb); opt->name != NULL; opt++) {
        (void)wh_buf_printf(out, "complete -c %s -n '%s' -l %s", program->name, condition, opt->name);
        if (opt->letter != 0)
            (void)wh_buf_printf(out, " -s %c", opt->letter);
        if (is_choice(opt)) {
            auto_free char *words = choices(opt);
            (void)wh_buf_printf(out, " -x -a '%s'", words);
        } else if (opt->kind != WH_OPT_FLAG) {
            (void)wh_buf_puts(out, is_file(opt) || is_dir(opt) ? " -r -F" : " -x");
        }
        (void)wh_buf_puts(out, " -d '");
        put_shell(out, opt->help, "\\");
        (void)wh_buf_puts(out, "'\n");
    }
}

int doc_completion(wh_buf *out, const program_info *program, const char *shell)
{
    if (wh_streq(shell, "bash")) {
        put_bash(out, program);
    } else if (wh_streq(shell, "zsh")) {
        put_zsh(out, program);
    } else if (wh_streq(shell, "fish")) {
        (void)wh_buf_printf(out, "# fish completion for %s\n", program->name);
        for (const wh_verb *verb = program->verbs; verb->name != NULL; verb++)
            put_fish_verb(out, program, verb);
    } else {
        return -EINVAL;
    }
    return 0;
}
