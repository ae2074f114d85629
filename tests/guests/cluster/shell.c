/* SPDX-License-Identifier: Apache-2.0 */
/* The shell: what walks a script's tree. Left out: here-documents, functions, case, job control and signals,
 * which a guest of WASI preview 1 does not have; `trap` is accepted and never fires. */
#include "shell.h"

#include "tree.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

struct shell {
    char **args; /* $0, $1, ... */
    int n_args;
    int status;
    int loops;    /* nesting */
    int breaking; /* loops to leave; negative: to go on with the next turn of */
    int guarded;  /* inside what is tested: set -e does not count there */
    bool exiting, exit_on_error;
};

static int run_node(struct shell *sh, const struct node *node, struct io *io);

static int run_node(struct shell *sh, const struct node *node, struct io *io);

/* ---- expansion ---- */

struct fields {
    char **words;
    size_t n;
    struct text current;
    bool started; /* the current word counts even if it is empty */
};

static void end_field(struct fields *fields)
{
    if (!fields->started && fields->current.len == 0)
        return;
    fields->words = need(realloc(fields->words, (fields->n + 2) * sizeof *fields->words));
    fields->words[fields->n++] = text_take(&fields->current);
    fields->words[fields->n] = NULL;
    fields->started = false;
}

/* Adds an expansion's result, which unquoted is split at white space. */
static void add_value(struct fields *fields, const char *value, bool quoted)
{
    if (quoted) {
        text_add(&fields->current, value, strlen(value));
        return;
    }
    for (; *value != '\0'; value++) {
        if (isspace((unsigned char)*value))
            end_field(fields);
        else
            text_add_char(&fields->current, *value);
    }
}

static char *expand_one(struct shell *sh, const char *word, struct io *io);

/* What a script prints, without the newlines at its end. */
static char *capture(struct shell *sh, const char *script, size_t len, struct io *io)
{
    char *source = need(strndup(script, len)), *data = NULL;
    size_t size = 0;
    struct io inner = {.in = io->in, .out = need(open_memstream(&data, &size)), .err = io->err};
    struct shell child = {.args = sh->args, .n_args = sh->n_args};
    const char *error;
    struct node *tree = parse_script(source, &error);
    if (error != NULL)
        fprintf(io->err, "sh: syntax error in $(): %s\n", error);
    else
        run_node(&child, tree, &inner);
    sh->status = error != NULL ? 2 : child.status;
    fclose(inner.out);
    free(source);
    while (size > 0 && data[size - 1] == '\n')
        data[--size] = '\0';
    return data;
}

static long arithmetic(struct shell *sh, const char **at, int level, struct io *io);

static long arithmetic_value(struct shell *sh, const char **at, struct io *io)
{
    while (isspace((unsigned char)**at))
        (*at)++;
    if (**at == '(') {
        (*at)++;
        long value = arithmetic(sh, at, 0, io);
        if (**at == ')')
            (*at)++;
        return value;
    }
    if (**at == '-' || **at == '!') {
        bool negate = *(*at)++ == '-';
        long value = arithmetic_value(sh, at, io);
        return negate ? -value : !value;
    }
    if (isalpha((unsigned char)**at) || **at == '_') {
        const char *from = *at;
        while (isalnum((unsigned char)**at) || **at == '_')
            (*at)++;
        char *name = need(strndup(from, (size_t)(*at - from)));
        const char *value = getenv(name);
        free(name);
        return value != NULL ? strtol(value, NULL, 0) : 0;
    }
    return strtol(*at, (char **)at, 0);
}

/* Binary operators, the loosest first. */
static long arithmetic(struct shell *sh, const char **at, int level, struct io *io)
{
    static const char *const levels[] = {"==!=", "< > <=>=", "+ - ", "* / % "};
    if (level == 4)
        return arithmetic_value(sh, at, io);
    long left = arithmetic(sh, at, level + 1, io);
    for (;;) {
        while (isspace((unsigned char)**at))
            (*at)++;
        char op[3] = {**at, **at != '\0' && (*at)[1] == '=' ? '=' : ' ', '\0'};
        if (**at == '\0' || strchr("=!<>+-*/%", op[0]) == NULL || strstr(levels[level], op) == NULL)
            return left;
        *at += op[1] == '=' ? 2 : 1;
        long right = arithmetic(sh, at, level + 1, io);
        switch (op[0]) {
        case '+':
            left += right;
            break;
        case '-':
            left -= right;
            break;
        case '*':
            left *= right;
            break;
        case '/':
            left = right != 0 ? left / right : 0;
            break;
        case '%':
            left = right != 0 ? left % right : 0;
            break;
        case '<':
            left = op[1] == '=' ? left <= right : left < right;
            break;
        case '>':
            left = op[1] == '=' ? left >= right : left > right;
            break;
        case '=':
            left = left == right;
            break;
        default:
            left = left != right;
            break;
        }
    }
}

static void add_number(struct fields *fields, long value)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%ld", value);
    text_add(&fields->current, digits, strlen(digits));
}

static const char *positional(struct shell *sh, int i)
{
    return i < sh->n_args ? sh->args[i] : NULL;
}

/* ${NAME}, ${#NAME}, ${NAME:-word}, := :? :+ and the forms without colon. `inner` is what the braces hold. */
static void expand_braces(struct shell *sh, char *inner, bool quoted, struct fields *fields, struct io *io)
{
    bool length = inner[0] == '#' && inner[1] != '\0';
    char *name = inner + length;
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789");
    char *operator= name + n;
    bool empty_counts = *operator== ':';
    char kind = empty_counts        ? operator[1] : * operator;
    const char *word = kind != '\0' ? operator+ 1 + empty_counts : operator;
    *operator= '\0';
    const char *value = isdigit((unsigned char)*name) ? positional(sh, (int)number(name)) : getenv(name);
    bool unset = value == NULL || (empty_counts && *value == '\0');
    char *other = kind != '\0' && unset != (kind == '+') ? expand_one(sh, word, io) : NULL;
    if (length) {
        add_number(fields, value != NULL ? (long)strlen(value) : 0);
    } else if (kind == '?' && unset) {
        fprintf(io->err, "sh: %s: %s\n", name, *other != '\0' ? other : "parameter null or not set");
        sh->status = 2;
        sh->exiting = true;
    } else if (other != NULL) {
        if (kind == '=')
            setenv(name, other, 1);
        add_value(fields, other, quoted);
    } else if (value != NULL && kind != '+') {
        add_value(fields, value, quoted);
    }
    free(other);
}

static void expand_all_args(struct shell *sh, bool quoted, bool joined, struct fields *fields)
{
    for (int i = 1; i < sh->n_args; i++) {
        if (i > 1 && joined && quoted)
            text_add_char(&fields->current, ' ');
        else if (i > 1)
            end_field(fields);
        add_value(fields, sh->args[i], quoted);
        fields->started = quoted;
    }
}

/* The expansion at the dollar at `at`; returns what stands behind it. */
static const char *expand_dollar(struct shell *sh, const char *at, bool quoted, struct fields *fields,
                                 struct io *io)
{
    const char *end = skip_dollar(at);
    if (strncmp(at, "$((", 3) == 0 && end != NULL && end[-2] == ')') {
        char *inner = need(strndup(at + 3, (size_t)(end - at) - 5)), *plain = expand_one(sh, inner, io);
        const char *p = plain;
        add_number(fields, arithmetic(sh, &p, 0, io));
        free(inner);
        free(plain);
        return end;
    }
    if (at[1] == '(') {
        char *value = capture(sh, at + 2, (size_t)(end - at) - 3, io);
        add_value(fields, value, quoted);
        free(value);
        return end;
    }
    if (at[1] == '{') {
        char *inner = need(strndup(at + 2, (size_t)(end - at) - 3));
        expand_braces(sh, inner, quoted, fields, io);
        free(inner);
        return end;
    }
    char c = at[1];
    if (c == '?' || c == '#' || c == '$') {
        add_number(fields, c == '?' ? sh->status : c == '#' ? sh->n_args - 1 : 1);
        return at + 2;
    }
    if (c == '@' || c == '*') {
        expand_all_args(sh, quoted, c == '*', fields);
        return at + 2;
    }
    if (isdigit((unsigned char)c)) {
        const char *value = positional(sh, c - '0');
        add_value(fields, value != NULL ? value : "", quoted);
        return at + 2;
    }
    size_t n = 0;
    while (isalnum((unsigned char)at[1 + n]) || at[1 + n] == '_')
        n++;
    if (n == 0) {
        text_add_char(&fields->current, '$');
        return at + 1;
    }
    char *name = need(strndup(at + 1, n));
    const char *value = getenv(name);
    if (value != NULL)
        add_value(fields, value, quoted);
    free(name);
    return at + 1 + n;
}

static const char *expand_backquote(struct shell *sh, const char *at, bool quoted, struct fields *fields,
                                    struct io *io)
{
    const char *end = skip_quoted(at);
    char *value = capture(sh, at + 1, (size_t)(end - at) - 2, io);
    add_value(fields, value, quoted);
    free(value);
    return end;
}

static const char *expand_double(struct shell *sh, const char *at, struct fields *fields, struct io *io)
{
    fields->started = true;
    while (*at != '"') {
        if (*at == '$') {
            at = expand_dollar(sh, at, true, fields, io);
        } else if (*at == '`') {
            at = expand_backquote(sh, at, true, fields, io);
        } else {
            if (*at == '\\' && strchr("$`\"\\", at[1]) != NULL)
                at++;
            text_add_char(&fields->current, *at++);
        }
    }
    return at + 1;
}

static void expand_word(struct shell *sh, const char *at, struct fields *fields, struct io *io)
{
    if (at[0] == '~' && (at[1] == '/' || at[1] == '\0')) {
        const char *home = getenv("HOME");
        add_value(fields, home != NULL ? home : "/", true);
        at++;
    }
    while (*at != '\0') {
        if (*at == '\'') {
            const char *end = skip_quoted(at);
            fields->started = true;
            text_add(&fields->current, at + 1, (size_t)(end - at) - 2);
            at = end;
        } else if (*at == '"') {
            at = expand_double(sh, at + 1, fields, io);
        } else if (*at == '$') {
            at = expand_dollar(sh, at, false, fields, io);
        } else if (*at == '`') {
            at = expand_backquote(sh, at, false, fields, io);
        } else {
            if (*at == '\\' && at[1] != '\0')
                at++;
            text_add_char(&fields->current, *at++);
        }
    }
    end_field(fields);
}

static void free_words(char **words)
{
    for (size_t i = 0; words != NULL && words[i] != NULL; i++)
        free(words[i]);
    free(words);
}

/* A word that stays one, such as an assignment's value or a file's name. */
static char *expand_one(struct shell *sh, const char *word, struct io *io)
{
    struct fields fields = {0};
    expand_word(sh, word, &fields, io);
    struct text text = {0};
    for (size_t i = 0; i < fields.n; i++) {
        if (i > 0)
            text_add_char(&text, ' ');
        text_add(&text, fields.words[i], strlen(fields.words[i]));
    }
    free_words(fields.words);
    return text_take(&text);
}

/* ---- running ---- */

static FILE **stream_of(struct io *io, int fd)
{
    return fd == 0 ? &io->in : fd == 1 ? &io->out : &io->err;
}

static FILE *open_target(struct redirect *redirect, const char *path, struct io *io, bool *ret_owned)
{
    *ret_owned = false;
    if (strcmp(path, "/dev/stdout") == 0 || strcmp(path, "/proc/1/fd/1") == 0)
        return io->out;
    if (strcmp(path, "/dev/stderr") == 0 || strcmp(path, "/proc/1/fd/2") == 0)
        return io->err;
    *ret_owned = true;
    if (strcmp(path, "/dev/null") == 0) {
        static char nothing[1];
        /* A guest may have no /dev: what goes there is dropped, and nothing comes from it. */
        FILE *file = redirect->mode == '<' ? fmemopen(nothing, 1, "r") : fmemopen(NULL, 4096, "w");
        if (file != NULL && redirect->mode == '<')
            (void)fgetc(file);
        return file;
    }
    return fopen(path, redirect->mode == '<' ? "r" : redirect->mode == 'a' ? "a" : "w");
}

/* Applies the redirections to a copy of io. What was opened is listed for closing. */
static bool apply_redirects(struct shell *sh, struct redirect *redirect, struct io *io, FILE **opened,
                            size_t *n_opened)
{
    for (; redirect != NULL; redirect = redirect->next) {
        char *word = expand_one(sh, redirect->word, io);
        if (redirect->mode == '&') {
            *stream_of(io, redirect->fd) = *stream_of(io, (int)number(word));
            free(word);
            continue;
        }
        bool owned;
        FILE *file = *n_opened < 8 ? open_target(redirect, word, io, &owned) : NULL;
        if (file == NULL) {
            fprintf(io->err, "%s: can't %s %s: %s\n", sh->args[0], redirect->mode == '<' ? "open" : "create",
                    word, strerror(errno));
            free(word);
            return false;
        }
        free(word);
        if (owned)
            opened[(*n_opened)++] = file;
        *stream_of(io, redirect->fd) = file;
    }
    return true;
}

static bool is_assignment(const char *word)
{
    size_t n = 0;
    while (isalnum((unsigned char)word[n]) || word[n] == '_')
        n++;
    return n > 0 && word[n] == '=' && !isdigit((unsigned char)word[0]);
}

/* Sets NAME=value, and returns NAME=<what it was> or NAME for a restore. */
static char *assign(struct shell *sh, const char *word, struct io *io)
{
    const char *sign = strchr(word, '=');
    char *name = need(strndup(word, (size_t)(sign - word))), *value = expand_one(sh, sign + 1, io);
    const char *old = getenv(name);
    struct text saved = {0};
    text_add(&saved, name, strlen(name));
    if (old != NULL) {
        text_add_char(&saved, '=');
        text_add(&saved, old, strlen(old));
    }
    setenv(name, value, 1);
    free(name);
    free(value);
    return text_take(&saved);
}

static void restore(char *saved)
{
    char *sign = strchr(saved, '=');
    if (sign == NULL) {
        unsetenv(saved);
    } else {
        *sign = '\0';
        setenv(saved, sign + 1, 1);
    }
    free(saved);
}

static int builtin_read(int argc, char **argv, struct io *io)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t n = getline(&line, &room, io->in);
    int first = argc > 1 && strcmp(argv[1], "-r") == 0 ? 2 : 1;
    char *rest = n > 0 ? line : NULL;
    if (n > 0 && line[n - 1] == '\n')
        line[n - 1] = '\0';
    for (int i = first; i < argc; i++) {
        if (rest != NULL)
            rest += strspn(rest, " \t");
        size_t len = rest == NULL ? 0 : i == argc - 1 ? strlen(rest) : strcspn(rest, " \t");
        char *word = need(strndup(rest != NULL ? rest : "", len));
        setenv(argv[i], word, 1);
        free(word);
        if (rest != NULL)
            rest += len;
    }
    free(line);
    return n > 0 ? 0 : 1;
}

static int builtin_set(struct shell *sh, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (argv[i][0] == '-' || argv[i][0] == '+')
            sh->exit_on_error = strchr(argv[i], 'e') != NULL ? argv[i][0] == '-' : sh->exit_on_error;
    return 0;
}

static int builtin_export(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        char *sign = strchr(argv[i], '=');
        if (sign == NULL)
            continue;
        *sign = '\0';
        setenv(argv[i], sign + 1, 1);
    }
    return 0;
}

static int builtin_unset(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        unsetenv(argv[i]);
    return 0;
}

static int builtin_cd(int argc, char **argv, struct io *io)
{
    const char *home = getenv("HOME"), *to = argc > 1 ? argv[1] : home != NULL ? home : "/";
    if (chdir(to) == 0)
        return 0;
    fprintf(io->err, "cd: %s: %s\n", to, strerror(errno));
    return 1;
}

static int leave_loop(struct shell *sh, int argc, char **argv, int sign)
{
    int levels = argc > 1 ? (int)number(argv[1]) : 1;
    sh->breaking = sign * (levels < sh->loops ? levels : sh->loops);
    return 0;
}

/* What changes the shell itself. */
static bool run_builtin(struct shell *sh, int argc, char **argv, struct io *io, int *ret)
{
    const char *name = argv[0];
    if (strcmp(name, "exit") == 0 || strcmp(name, "return") == 0) {
        sh->exiting = true;
        *ret = argc > 1 ? (int)number(argv[1]) & 255 : sh->status;
    } else if (strcmp(name, "break") == 0) {
        *ret = leave_loop(sh, argc, argv, 1);
    } else if (strcmp(name, "continue") == 0) {
        *ret = leave_loop(sh, argc, argv, -1);
    } else if (strcmp(name, "shift") == 0) {
        *ret = sh->n_args > 1 ? 0 : 1;
        if (sh->n_args > 1)
            memmove(sh->args + 1, sh->args + 2, (size_t)(--sh->n_args - 1) * sizeof *sh->args);
    } else if (strcmp(name, "cd") == 0) {
        *ret = builtin_cd(argc, argv, io);
    } else if (strcmp(name, "export") == 0 || strcmp(name, "local") == 0 || strcmp(name, "readonly") == 0) {
        *ret = builtin_export(argc, argv);
    } else if (strcmp(name, "unset") == 0) {
        *ret = builtin_unset(argc, argv);
    } else if (strcmp(name, "set") == 0) {
        *ret = builtin_set(sh, argc, argv);
    } else if (strcmp(name, "read") == 0) {
        *ret = builtin_read(argc, argv, io);
    } else if (strcmp(name, ":") == 0 || strcmp(name, "trap") == 0 || strcmp(name, "wait") == 0) {
        *ret = 0;
    } else {
        return false;
    }
    return true;
}

static int run_words(struct shell *sh, int argc, char **argv, struct io *io)
{
    int status;
    if (run_builtin(sh, argc, argv, io, &status))
        return status;
    if (strcmp(argv[0], "exec") == 0 && argc > 1) {
        sh->exiting = true;
        return run_words(sh, argc - 1, argv + 1, io);
    }
    if (strcmp(argv[0], "command") == 0 && argc > 1 && argv[1][0] != '-')
        return run_words(sh, argc - 1, argv + 1, io);
    if (strcmp(argv[0], "eval") == 0 && argc > 1)
        return shell_run(argv[1], sh->args, io);
    const struct applet *applet = applet_find(argv[0]);
    if (applet != NULL)
        return applet->run(argc, argv, io);
    fprintf(io->err, "sh: %s: not found\n", argv[0]);
    return 127;
}

static int run_simple(struct shell *sh, const struct node *node, struct io *io)
{
    char *saved[32];
    size_t n_saved = 0, first = 0;
    struct fields fields = {0};
    while (first < node->n_words && is_assignment(node->words[first]))
        first++;
    for (size_t i = first; i < node->n_words; i++)
        expand_word(sh, node->words[i], &fields, io);
    int status = 0;
    if (fields.n == 0)
        sh->status = 0;
    for (size_t i = 0; i < first && n_saved < 32; i++)
        saved[n_saved++] = assign(sh, node->words[i], io);
    if (fields.n > 0 && !sh->exiting)
        status = run_words(sh, (int)fields.n, fields.words, io);
    else
        status = sh->status; /* of a $() in an assignment, or of what a ${:?} ended with */
    while (n_saved > 0)
        if (fields.n > 0)
            restore(saved[--n_saved]);
        else
            free(saved[--n_saved]);
    free_words(fields.words);
    return status;
}

static int run_pipe(struct shell *sh, const struct node *node, struct io *io)
{
    char *data = NULL;
    size_t size = 0;
    struct io left = {.in = io->in, .out = need(open_memstream(&data, &size)), .err = io->err};
    run_node(sh, node->a, &left);
    sh->exiting = false; /* each side is a subshell */
    fclose(left.out);
    struct io right = {.out = io->out, .err = io->err};
    right.in = need(fmemopen(size > 0 ? data : (char[1]){0}, size > 0 ? size : 1, "r"));
    if (size == 0)
        (void)fgetc(right.in);
    int status = run_node(sh, node->b, &right);
    sh->exiting = false;
    fclose(right.in);
    free(data);
    return status;
}

/* Runs what only decides something. */
static int run_test(struct shell *sh, const struct node *node, struct io *io)
{
    sh->guarded++;
    int status = run_node(sh, node, io);
    sh->guarded--;
    return status;
}

/* Whether the loop goes on after its body. */
static bool loop_goes_on(struct shell *sh)
{
    if (sh->exiting)
        return false;
    if (sh->breaking > 0) {
        sh->breaking--;
        return false;
    }
    if (sh->breaking < 0)
        return ++sh->breaking == 0;
    return true;
}

static int run_loop(struct shell *sh, const struct node *node, struct io *io)
{
    int status = 0;
    sh->loops++;
    if (node->kind == FOR) {
        struct fields fields = {0};
        for (size_t i = 1; i < node->n_words; i++)
            expand_word(sh, node->words[i], &fields, io);
        for (size_t i = 0; i < fields.n; i++) {
            setenv(node->words[0], fields.words[i], 1);
            status = run_node(sh, node->b, io);
            if (!loop_goes_on(sh))
                break;
        }
        free_words(fields.words);
    } else {
        while ((run_test(sh, node->a, io) == 0) == (node->kind == WHILE) && !sh->exiting) {
            status = run_node(sh, node->b, io);
            if (!loop_goes_on(sh))
                break;
        }
    }
    sh->loops--;
    return sh->exiting ? sh->status : status;
}

static int run_inner(struct shell *sh, const struct node *node, struct io *io)
{
    int status;
    switch (node->kind) {
    case SIMPLE:
        return run_simple(sh, node, io);
    case PIPE:
        return run_pipe(sh, node, io);
    case NOT:
        return !run_test(sh, node->a, io);
    case SEQUENCE:
        status = run_node(sh, node->a, io);
        return sh->exiting || sh->breaking != 0 ? status : run_node(sh, node->b, io);
    case AND:
    case OR:
        status = run_test(sh, node->a, io);
        if (sh->exiting || sh->breaking != 0 || (status == 0) != (node->kind == AND))
            return status;
        return run_node(sh, node->b, io);
    case IF:
        status = run_test(sh, node->a, io);
        if (sh->exiting)
            return status;
        return status == 0 ? run_node(sh, node->b, io) : run_node(sh, node->c, io);
    case GROUP:
        return run_node(sh, node->a, io);
    case SUBSHELL:
        status = run_node(sh, node->a, io);
        sh->exiting = false;
        return status;
    case WHILE:
    case UNTIL:
    case FOR:
        return run_loop(sh, node, io);
    }
    return 2;
}

static int run_node(struct shell *sh, const struct node *node, struct io *outer)
{
    if (node == NULL || sh->exiting)
        return sh->exiting ? sh->status : 0;
    struct io io = *outer;
    FILE *opened[8];
    size_t n_opened = 0;
    int status = 1;
    if (apply_redirects(sh, node->redirects, &io, opened, &n_opened))
        status = run_inner(sh, node, &io);
    while (n_opened > 0)
        fclose(opened[--n_opened]);
    fflush(io.out);
    sh->status = status;
    if (status != 0 && sh->exit_on_error && sh->guarded == 0 && node->kind == SIMPLE)
        sh->exiting = true;
    return status;
}

int shell_run(const char *script, char **args, struct io *io)
{
    struct shell sh = {.args = args};
    const char *error;
    while (args[sh.n_args] != NULL)
        sh.n_args++;
    struct node *tree = parse_script(script, &error);
    if (error != NULL) {
        fprintf(io->err, "sh: syntax error near: %.60s\n", error);
        return 2;
    }
    return run_node(&sh, tree, io);
}

/* Reads all of a stream; the caller frees it. */
static char *read_all(FILE *in)
{
    struct text text = {0};
    char part[4096];
    for (size_t n; (n = fread(part, 1, sizeof part, in)) > 0;)
        text_add(&text, part, n);
    return text_take(&text);
}

int shell_main(int argc, char **argv, struct io *io)
{
    int i = 1;
    bool command = false;
    for (; i < argc && argv[i][0] == '-'; i++)
        command = command || strchr(argv[i], 'c') != NULL;
    if (command && i < argc) {
        char **args = argv + i + 1;
        return shell_run(argv[i], *args != NULL ? args : (char *[]){argv[0], NULL}, io);
    }
    FILE *in = i < argc ? fopen(argv[i], "r") : io->in;
    if (in == NULL) {
        fprintf(io->err, "sh: %s: %s\n", argv[i], strerror(errno));
        return 127;
    }
    char *script = read_all(in);
    int status = shell_run(script, i < argc ? argv + i : argv, io);
    free(script);
    if (in != io->in)
        fclose(in);
    return status;
}
