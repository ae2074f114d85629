/* SPDX-License-Identifier: Apache-2.0 */
#include "base/options.h"

#include "base/file.h"
#include "base/options_internal.h"

#include <stdio.h>

#define NAME_MAX_BYTES 48 /* longer names are no typing mistake of ours */
#define OUTPUT_BYTES_MAX ((size_t)4 << 20)

/* Levenshtein's distance; anything too long is far. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[NAME_MAX_BYTES + 1];
    size_t n = strlen(a), m = strlen(b);
    if (n > NAME_MAX_BYTES || m > NAME_MAX_BYTES)
        return SIZE_MAX;
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t above = row[j];
            size_t change = diagonal + (a[i - 1] != b[j - 1]);
            size_t shift = WH_MIN(above, row[j - 1]) + 1;
            row[j] = WH_MIN(change, shift);
            diagonal = above;
        }
    }
    return row[m];
}

/* Keeps the nearer of two names; only what is near enough to be meant counts. */
static void consider(const char *wanted, const char *name, const char **best, size_t *best_distance)
{
    size_t distance = edit_distance(wanted, name);
    size_t near = strlen(wanted) < 4 ? 1 : strlen(wanted) / 3 + 1;
    bool prefix = strlen(wanted) >= 2 && wh_starts_with(name, wanted);
    if (prefix && distance != SIZE_MAX)
        distance = 1;
    if (distance <= near && distance < *best_distance) {
        *best = name;
        *best_distance = distance;
    }
}

typedef struct parser {
    const wh_opt *options;
    int argc, at;
    char **argv;
    bool *help; /* where --help and -h are known though no table holds them; or NULL */
    wh_err *err;
} parser;

static int fail_unknown(const parser *p, const char *name)
{
    const char *best = NULL;
    size_t distance = SIZE_MAX;
    for (const wh_opt *opt = p->options; opt != NULL && opt->name != NULL; opt++)
        consider(name, opt->name, &best, &distance);
    if (best != NULL)
        return wh_fail(p->err, -EINVAL, "unknown option '--%s': did you mean '--%s'?", name, best);
    return wh_fail(p->err, -EINVAL, "unknown option '--%s'.", name);
}

/* Stores a value, or says what the option takes. */
static int store(const parser *p, const wh_opt *opt, const char *value)
{
    const char *takes = NULL;
    int rc = 0;
    switch (opt->kind) {
    case WH_OPT_FLAG:
        *(bool *)opt->target = true;
        break;
    case WH_OPT_STR:
        *(const char **)opt->target = value;
        break;
    case WH_OPT_LIST:
        wh_strv_push(opt->target, value);
        break;
    case WH_OPT_U64:
        takes = "a whole number";
        rc = wh_parse_u64(value, UINT64_MAX, opt->target);
        break;
    case WH_OPT_BYTES:
        takes = "a size such as 64Mi";
        rc = wh_parse_bytes(value, opt->target);
        break;
    case WH_OPT_DURATION:
        takes = "a duration such as 10s or 1h30m";
        rc = wh_parse_duration(value, opt->target);
        break;
    }
    if (rc < 0)
        return wh_fail(p->err, rc, "option '--%s' takes %s, not '%s'%s.", opt->name, takes, value,
                       rc == -ERANGE ? ", which is too large" : "");
    return 0;
}

static const wh_opt *find_long(const wh_opt *options, const char *name, size_t n)
{
    for (const wh_opt *opt = options; opt != NULL && opt->name != NULL; opt++) {
        if (strlen(opt->name) == n && memcmp(opt->name, name, n) == 0)
            return opt;
    }
    return NULL;
}

static const wh_opt *find_short(const wh_opt *options, char letter)
{
    for (const wh_opt *opt = options; opt != NULL && opt->name != NULL; opt++) {
        if (opt->letter == letter)
            return opt;
    }
    return NULL;
}

/* The next argument is the value. */
static int take_value(parser *p, const wh_opt *opt)
{
    if (p->at + 1 >= p->argc)
        return wh_fail(p->err, -EINVAL, "option '--%s' needs a value (%s)", opt->name,
                       opt->value == NULL ? "VALUE" : opt->value);
    return store(p, opt, p->argv[++p->at]);
}

static int parse_long(parser *p, const char *arg)
{
    const char *equals = strchr(arg, '=');
    size_t n = equals == NULL ? strlen(arg) : (size_t)(equals - arg);
    const wh_opt *opt = find_long(p->options, arg, n);
    if (opt == NULL && p->help != NULL && strcmp(arg, "help") == 0) {
        *p->help = true;
        return 0;
    }
    if (opt == NULL) {
        auto_free char *name = wh_xstrndup(arg, n);
        return fail_unknown(p, name);
    }
    if (opt->kind == WH_OPT_FLAG)
        return equals == NULL ? store(p, opt, NULL)
                              : wh_fail(p->err, -EINVAL, "option '--%s' takes no value.", opt->name);
    return equals == NULL ? take_value(p, opt) : store(p, opt, equals + 1);
}

/* -abc is -a -b -c while those are flags; the first that takes a value takes the rest. */
static int parse_short(parser *p, const char *arg)
{
    for (; *arg != '\0'; arg++) {
        const wh_opt *opt = find_short(p->options, *arg);
        if (opt == NULL && p->help != NULL && *arg == 'h') {
            *p->help = true;
            return 0;
        }
        if (opt == NULL)
            return wh_fail(p->err, -EINVAL, "unknown option '-%c'.", *arg);
        if (opt->kind != WH_OPT_FLAG)
            return arg[1] == '\0' ? take_value(p, opt) : store(p, opt, arg + 1);
        (void)store(p, opt, NULL);
    }
    return 0;
}

static int parse(parser *p, bool stop_at_operand, int *ret_operands)
{
    int n = 0;
    for (p->at = 1; p->at < p->argc; p->at++) {
        char *arg = p->argv[p->at];
        int rc = 0;
        if (strcmp(arg, "--") == 0) {
            p->at++;
            break;
        }
        if (wh_starts_with(arg, "--"))
            rc = parse_long(p, arg + 2);
        else if (arg[0] == '-' && arg[1] != '\0')
            rc = parse_short(p, arg + 1);
        else if (stop_at_operand)
            break;
        else
            p->argv[n++] = arg; /* n < at: never over what is still to read */
        if (rc < 0)
            return rc;
    }
    for (; p->at < p->argc; p->at++)
        p->argv[n++] = p->argv[p->at];
    if (n < p->argc)
        p->argv[n] = NULL;
    *ret_operands = n;
    return 0;
}

int wh_options_parse(const wh_opt *options, int argc, char **argv, bool stop_at_operand, int *ret_operands,
                     wh_err *err)
{
    parser p = {.options = options, .argc = argc, .argv = argv, .err = err};
    return parse(&p, stop_at_operand, ret_operands);
}

/* ---- verbs */

static int emit(wh_buf *out, int fd)
{
    bool ok = !out->failed && wh_write_all(fd, wh_buf_str(out), out->len) == 0;
    return ok ? 0 : 1;
}

static int usage_error(const program_info *program, const char *verb, const wh_err *err)
{
    (void)fprintf(stderr, "%s%s%s: %s\nTry '%s%s%s --help'.\n", program->name, verb == NULL ? "" : " ",
                  verb == NULL ? "" : verb, err->msg, program->name, verb == NULL ? "" : " ",
                  verb == NULL ? "" : verb);
    return 2;
}

/* The verb that the words begin with; *ret_words is how many it took. The longer name wins. */
static const wh_verb *find_verb(const wh_verb *verbs, int argc, char **argv, int *ret_words)
{
    auto_free char *two = argc > 1 ? wh_xasprintf("%s %s", argv[0], argv[1]) : NULL;
    const wh_verb *found = NULL;
    for (const wh_verb *verb = verbs; verb->name != NULL; verb++) {
        if (two != NULL && strcmp(verb->name, two) == 0) {
            *ret_words = 2;
            return verb;
        }
        if (argc > 0 && strcmp(verb->name, argv[0]) == 0) {
            *ret_words = 1;
            found = verb;
        }
    }
    return found;
}

/* Whether some verb is "word something". */
static bool is_group(const wh_verb *verbs, const char *word)
{
    size_t n = strlen(word);
    for (const wh_verb *verb = verbs; verb->name != NULL; verb++) {
        if (wh_starts_with(verb->name, word) && verb->name[n] == ' ')
            return true;
    }
    return false;
}

static int unknown_verb(const program_info *program, int argc, char **argv)
{
    bool group = is_group(program->verbs, argv[0]);
    bool two = group && argc > 1 && argv[1][0] != '-';
    auto_free char *wanted = two ? wh_xasprintf("%s %s", argv[0], argv[1]) : wh_xstrdup(argv[0]);
    const char *best = NULL;
    size_t distance = SIZE_MAX;
    if (group && !two) { /* the group alone: its first words, as a list */
        (void)fprintf(stderr, "%s %s: needs one of these:\n", program->name, argv[0]);
        size_t n = strlen(argv[0]);
        for (const wh_verb *verb = program->verbs; verb->name != NULL; verb++) {
            if (wh_starts_with(verb->name, argv[0]) && verb->name[n] == ' ')
                (void)fprintf(stderr, "  %s %-24s %s\n", program->name, verb->name, verb->summary);
        }
        return 2;
    }
    for (const wh_verb *verb = program->verbs; verb->name != NULL; verb++)
        consider(wanted, verb->name, &best, &distance);
    wh_err err = {0};
    if (wanted[0] == '-')
        wh_fail_(&err, -EINVAL, "unknown option '%s'.", wanted);
    else if (best != NULL)
        wh_fail_(&err, -EINVAL, "no command '%s': did you mean '%s'?", wanted, best);
    else
        wh_fail_(&err, -EINVAL, "no command '%s'.", wanted);
    return usage_error(program, NULL, &err);
}

static int help_main(const program_info *program, int argc, char **argv)
{
    auto_buf wh_buf out;
    int words;
    wh_buf_init(&out, OUTPUT_BYTES_MAX);
    const wh_verb *verb = find_verb(program->verbs, argc, argv, &words);
    if (argc > 0 && verb == NULL)
        return unknown_verb(program, argc, argv);
    if (verb == NULL)
        doc_program_help(&out, program);
    else
        doc_verb_help(&out, program, verb);
    return emit(&out, STDOUT_FILENO);
}

/* What every program knows without a table. False when argv is nothing of that. */
static bool builtin_main(const program_info *program, int argc, char **argv, int *ret_exit)
{
    auto_buf wh_buf out;
    wh_buf_init(&out, OUTPUT_BYTES_MAX);
    if (wh_streq(argv[0], "--help") || wh_streq(argv[0], "-h") || wh_streq(argv[0], "help")) {
        *ret_exit = help_main(program, argc - 1, argv + 1);
        return true;
    }
    if (wh_streq(argv[0], "--version") || wh_streq(argv[0], "-V")) {
        (void)wh_buf_printf(&out, "%s %s\n", program->name, program->version);
    } else if (wh_streq(argv[0], "manual")) {
        doc_manual(&out, program);
    } else if (wh_streq(argv[0], "completion")) {
        if (argc < 2 || doc_completion(&out, program, argv[1]) < 0) {
            (void)fprintf(stderr, "%s completion: name a shell: bash, zsh or fish.\n", program->name);
            *ret_exit = 2;
            return true;
        }
    } else {
        return false;
    }
    *ret_exit = emit(&out, STDOUT_FILENO);
    return true;
}

static int verb_main(const program_info *program, const wh_verb *verb, int argc, char **argv)
{
    wh_err err = {0};
    bool help = false;
    int operands = 0;
    parser p = {
        .options = verb->options == NULL ? NULL : verb->options(),
        .argc = argc,
        .argv = argv,
        .help = &help,
        .err = &err,
    };
    int rc = parse(&p, verb->stop_at_operand, &operands);
    if (help) {
        auto_buf wh_buf out;
        wh_buf_init(&out, OUTPUT_BYTES_MAX);
        doc_verb_help(&out, program, verb);
        return emit(&out, STDOUT_FILENO);
    }
    if (rc < 0)
        return usage_error(program, verb->name, &err);
    return verb->run(operands, argv);
}

int wh_verbs_main(const char *program, const char *version, const char *summary, const wh_verb *verbs,
                  int argc, char **argv)
{
    program_info info = {.name = program, .version = version, .summary = summary, .verbs = verbs};
    int code, words;
    if (argc < 2) {
        auto_buf wh_buf out;
        wh_buf_init(&out, OUTPUT_BYTES_MAX);
        doc_program_help(&out, &info);
        (void)emit(&out, STDERR_FILENO);
        return 2;
    }
    const wh_verb *verb = find_verb(verbs, argc - 1, argv + 1, &words);
    if (verb != NULL)
        return verb_main(&info, verb, argc - words, argv + words);
    if (builtin_main(&info, argc - 1, argv + 1, &code))
        return code;
    return unknown_verb(&info, argc - 1, argv + 1);
}
