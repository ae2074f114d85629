/* SPDX-License-Identifier: Apache-2.0 */
/* Many small commands in one guest, chosen by argv[0] as BusyBox does: what the cluster tests and the
 * upstream end-to-end specs run in their containers. A command does what those need and no more. */
#include "shell.h"
#include "tree.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <regex.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static int fail(struct io *io, const char *command, const char *what)
{
    fprintf(io->err, "%s: %s: %s\n", command, what, strerror(errno));
    return 1;
}

/* Opens a file to read; "-" and none are the command's own input. */
static FILE *open_input(struct io *io, const char *command, const char *path)
{
    if (path == NULL || strcmp(path, "-") == 0)
        return io->in;
    FILE *file = fopen(path, "r");
    if (file == NULL)
        fail(io, command, path);
    return file;
}

static void close_input(struct io *io, FILE *file)
{
    if (file != io->in)
        fclose(file);
}

/* Whether options that come as letters hold one of them. Stops at the first word that is no option. */
static bool has_option(char **argv, char option)
{
    for (int i = 1; argv[i] != NULL && argv[i][0] == '-' && argv[i][1] != '\0'; i++)
        if (argv[i][1] != '-' && strchr(argv[i], option) != NULL)
            return true;
    return false;
}

static int first_operand(char **argv)
{
    int i = 1;
    while (argv[i] != NULL && argv[i][0] == '-' && argv[i][1] != '\0')
        i++;
    return i;
}

/* ---- text ---- */

static void put_escaped(const char *text, FILE *out)
{
    for (; *text != '\0'; text++) {
        if (text[0] != '\\' || text[1] == '\0') {
            fputc(*text, out);
            continue;
        }
        static const char names[] = "abfnrtv\\\"", values[] = "\a\b\f\n\r\t\v\\\"";
        const char *name = strchr(names, *++text);
        if (name != NULL) {
            fputc(values[name - names], out);
        } else if (*text == '0' || *text == 'x') {
            char *end;
            fputc((int)strtol(text + (*text == 'x'), &end, *text == 'x' ? 16 : 8), out);
            text = end - 1;
        } else {
            fputc('\\', out);
            fputc(*text, out);
        }
    }
}

static int run_echo(int argc, char **argv, struct io *io)
{
    int i = 1;
    bool newline = true, escapes = false;
    for (; i < argc && argv[i][0] == '-' && argv[i][1] != '\0' &&
           strspn(argv[i] + 1, "neE") == strlen(argv[i] + 1);
         i++) {
        newline = newline && strchr(argv[i], 'n') == NULL;
        escapes = escapes || strchr(argv[i], 'e') != NULL;
    }
    for (int first = i; i < argc; i++) {
        if (i > first)
            fputc(' ', io->out);
        if (escapes)
            put_escaped(argv[i], io->out);
        else
            fputs(argv[i], io->out);
    }
    if (newline)
        fputc('\n', io->out);
    return 0;
}

static int run_printf(int argc, char **argv, struct io *io)
{
    if (argc < 2)
        return 1;
    int next = 2;
    do {
        for (const char *at = argv[1]; *at != '\0'; at++) {
            char part[3] = {at[0], at[1], '\0'};
            if (*at == '\\' && at[1] != '\0') {
                put_escaped(part, io->out);
                at++;
            } else if (*at == '%' && at[1] != '\0') {
                size_t n = strspn(at + 1, "-+ 0123456789.");
                char spec[24], kind = at[1 + n];
                const char *value = next < argc && kind != '%' ? argv[next++] : "";
                snprintf(spec, sizeof spec, "%%%.*s%s", (int)(n < 16 ? n : 16), at + 1,
                         kind == 's' || kind == 'b' ? "s"
                         : kind == 'x'              ? "lx"
                         : kind == 'o'              ? "lo"
                                                    : "ld");
                if (kind == '%')
                    fputc('%', io->out);
                else if (kind == 'b')
                    put_escaped(value, io->out);
                else if (kind == 's')
                    fprintf(io->out, spec, value);
                else
                    fprintf(io->out, spec, strtol(value, NULL, 0));
                at += n + 1;
            } else {
                fputc(*at, io->out);
            }
        }
    } while (next < argc && next > 2);
    return 0;
}

static int run_cat(int argc, char **argv, struct io *io)
{
    int status = 0, i = first_operand(argv);
    do {
        FILE *file = open_input(io, "cat", argv[i]);
        char part[16384];
        if (file == NULL) {
            status = 1;
            continue;
        }
        for (size_t n; (n = fread(part, 1, sizeof part, file)) > 0;)
            fwrite(part, 1, n, io->out);
        if (ferror(file))
            status = fail(io, "cat", argv[i] != NULL ? argv[i] : "-");
        close_input(io, file);
    } while (++i < argc);
    return status;
}

/* The number of an option -n N, -nN or -N; `rest` is the first operand's place. */
static long count_option(char **argv, char letter, long otherwise, int *rest)
{
    int i = 1;
    for (; argv[i] != NULL && argv[i][0] == '-' && argv[i][1] != '\0'; i++) {
        const char *at = argv[i] + 1;
        if (*at == letter)
            at = at[1] != '\0' ? at + 1 : argv[i + 1] != NULL ? argv[++i] : "0";
        if (isdigit((unsigned char)*at) || *at == '+')
            otherwise = strtol(at, NULL, 10);
    }
    *rest = i;
    return otherwise;
}

static int run_head(int argc, char **argv, struct io *io)
{
    int at;
    (void)argc;
    bool bytes = has_option(argv, 'c');
    long count = count_option(argv, bytes ? 'c' : 'n', 10, &at);
    FILE *file = open_input(io, "head", argv[at]);
    if (file == NULL)
        return 1;
    for (int c; count > 0 && (c = fgetc(file)) != EOF;) {
        fputc(c, io->out);
        if (bytes || c == '\n')
            count--;
    }
    close_input(io, file);
    return 0;
}

/* Prints what comes to a file's end, for ever. */
static void follow(FILE *file, struct io *io)
{
    for (;;) {
        int c = fgetc(file);
        if (c != EOF) {
            fputc(c, io->out);
            continue;
        }
        fflush(io->out);
        clearerr(file);
        nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
    }
}

static int run_tail(int argc, char **argv, struct io *io)
{
    int at;
    (void)argc;
    bool forever = has_option(argv, 'f') || has_option(argv, 'F');
    long count = count_option(argv, 'n', 10, &at);
    if (forever && argv[at] != NULL && strcmp(argv[at], "/dev/null") == 0)
        for (;;)
            sleep(3600);
    FILE *file = open_input(io, "tail", argv[at]);
    if (file == NULL)
        return 1;
    char **lines = calloc((size_t)count + 1, sizeof *lines), *line = NULL;
    size_t room = 0, n = 0, keep = (size_t)count;
    while (lines != NULL && keep > 0 && getline(&line, &room, file) > 0) {
        free(lines[n % keep]);
        lines[n++ % keep] = line;
        line = NULL;
        room = 0;
    }
    for (size_t i = n > keep ? n - keep : 0; i < n; i++)
        fputs(lines[i % keep], io->out);
    if (forever)
        follow(file, io);
    close_input(io, file);
    return 0;
}

static int run_wc(int argc, char **argv, struct io *io)
{
    int at = first_operand(argv);
    (void)argc;
    FILE *file = open_input(io, "wc", argv[at]);
    if (file == NULL)
        return 1;
    unsigned long lines = 0, words = 0, bytes = 0;
    bool inside = false;
    for (int c; (c = fgetc(file)) != EOF; bytes++) {
        lines += c == '\n';
        words += !isspace(c) && !inside;
        inside = !isspace(c);
    }
    close_input(io, file);
    bool all = at == 1;
    if (all || has_option(argv, 'l'))
        fprintf(io->out, all ? "%lu " : "%lu", lines);
    if (all || has_option(argv, 'w'))
        fprintf(io->out, all ? "%lu " : "%lu", words);
    if (all || has_option(argv, 'c'))
        fprintf(io->out, "%lu", bytes);
    fprintf(io->out, argv[at] != NULL ? " %s\n" : "\n", argv[at]);
    return 0;
}

static int run_grep(int argc, char **argv, struct io *io)
{
    int at = first_operand(argv), flags = has_option(argv, 'E') ? REG_EXTENDED : 0;
    bool invert = has_option(argv, 'v'), quiet = has_option(argv, 'q'), counting = has_option(argv, 'c');
    regex_t regex;
    (void)argc;
    if (argv[at] == NULL ||
        regcomp(&regex, argv[at], flags | REG_NOSUB | (has_option(argv, 'i') ? REG_ICASE : 0)) != 0) {
        fputs("grep: give a pattern that is a regular expression\n", io->err);
        return 2;
    }
    FILE *file = open_input(io, "grep", argv[at + 1]);
    if (file == NULL)
        return 2;
    char *line = NULL;
    size_t room = 0;
    unsigned long found = 0;
    for (ssize_t n; (n = getline(&line, &room, file)) > 0;) {
        if (line[n - 1] == '\n')
            line[n - 1] = '\0';
        if ((regexec(&regex, line, 0, NULL, 0) == 0) == invert)
            continue;
        found++;
        if (!quiet && !counting)
            fprintf(io->out, "%s\n", line);
    }
    if (counting)
        fprintf(io->out, "%lu\n", found);
    free(line);
    regfree(&regex);
    close_input(io, file);
    return found > 0 ? 0 : 1;
}

static int compare_lines(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int run_sort(int argc, char **argv, struct io *io)
{
    (void)argc;
    FILE *file = open_input(io, "sort", argv[first_operand(argv)]);
    char **lines = NULL, *line = NULL;
    size_t n = 0, room = 0;
    if (file == NULL)
        return 1;
    while (getline(&line, &room, file) > 0) {
        lines = realloc(lines, (n + 1) * sizeof *lines);
        if (lines == NULL)
            return fail(io, "sort", "input");
        lines[n++] = line;
        line = NULL;
        room = 0;
    }
    qsort(lines, n, sizeof *lines, compare_lines);
    for (size_t i = 0; i < n; i++) {
        size_t k = has_option(argv, 'r') ? n - 1 - i : i;
        if (i == 0 || !has_option(argv, 'u') ||
            strcmp(lines[k], lines[has_option(argv, 'r') ? k + 1 : k - 1]) != 0)
            fprintf(io->out, lines[k][strlen(lines[k]) - 1] == '\n' ? "%s" : "%s\n", lines[k]);
    }
    close_input(io, file);
    return 0;
}

/* awk '{print $N}' alone. */
static int run_awk(int argc, char **argv, struct io *io)
{
    const char *dollar = argc > 1 ? strchr(argv[1], '$') : NULL;
    if (dollar == NULL || strstr(argv[1], "print") == NULL) {
        fputs("awk: only '{print $N}' is known here\n", io->err);
        return 2;
    }
    int wanted = (int)number(dollar + 1);
    FILE *file = open_input(io, "awk", argv[2]);
    char *line = NULL;
    size_t room = 0;
    while (file != NULL && getline(&line, &room, file) > 0) {
        char *rest = line, *word = NULL;
        line[strcspn(line, "\n")] = '\0';
        for (int i = 0; wanted > 0 && i < wanted; i++)
            word = strtok_r(i == 0 ? rest : NULL, " \t", &rest);
        fprintf(io->out, "%s\n", wanted == 0 ? line : word != NULL ? word : "");
    }
    free(line);
    if (file != NULL)
        close_input(io, file);
    return file != NULL ? 0 : 2;
}

static int run_hexdump(int argc, char **argv, struct io *io)
{
    (void)argc;
    FILE *file = open_input(io, "hexdump", argv[first_operand(argv)]);
    if (file == NULL)
        return 1;
    unsigned char row[16];
    size_t offset = 0;
    for (size_t n; (n = fread(row, 1, sizeof row, file)) > 0; offset += n) {
        fprintf(io->out, "%08zx ", offset);
        for (size_t i = 0; i < sizeof row; i++) {
            fputs(i == 8 ? "  " : " ", io->out);
            if (i < n)
                fprintf(io->out, "%02x", row[i]);
            else
                fputs("  ", io->out);
        }
        fputs("  |", io->out);
        for (size_t i = 0; i < n; i++)
            fputc(isprint(row[i]) ? row[i] : '.', io->out);
        fputs("|\n", io->out);
    }
    fprintf(io->out, "%08zx\n", offset);
    close_input(io, file);
    return 0;
}

static int run_seq(int argc, char **argv, struct io *io)
{
    long from = argc > 2 ? number(argv[1]) : 1, to = argc > 1 ? number(argv[argc > 2 ? argc - 1 : 1]) : 0;
    long step = argc > 3 ? number(argv[2]) : 1;
    for (long i = from; step != 0 && (step > 0 ? i <= to : i >= to); i += step)
        fprintf(io->out, "%ld\n", i);
    return 0;
}

static int run_yes(int argc, char **argv, struct io *io)
{
    for (;;)
        if (fprintf(io->out, "%s\n", argc > 1 ? argv[1] : "y") < 0)
            return 1;
}

/* ---- files ---- */

static int each_operand(char **argv, struct io *io, int (*act)(const char *path))
{
    int status = 0;
    bool force = has_option(argv, 'f') || has_option(argv, 'p');
    for (int i = first_operand(argv); argv[i] != NULL; i++)
        if (act(argv[i]) != 0 && !(force && (errno == ENOENT || errno == EEXIST)))
            status = fail(io, argv[0], argv[i]);
    return status;
}

static int touch_one(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT, 0644);
    if (fd < 0)
        return -1;
    int rc = futimens(fd, NULL);
    close(fd);
    return rc;
}

static int run_touch(int argc, char **argv, struct io *io)
{
    (void)argc;
    return each_operand(argv, io, touch_one);
}

static int remove_tree(const char *path)
{
    DIR *directory = opendir(path);
    if (directory == NULL)
        return unlink(path);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        char inner[1024];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        if (remove_tree(inner) != 0)
            break;
    }
    closedir(directory);
    return rmdir(path);
}

static int run_rm(int argc, char **argv, struct io *io)
{
    (void)argc;
    return each_operand(argv, io, has_option(argv, 'r') || has_option(argv, 'R') ? remove_tree : unlink);
}

static int make_directory(const char *path)
{
    return mkdir(path, 0755);
}

static int make_parents(const char *path)
{
    char part[1024];
    for (size_t i = 1; path[i] != '\0' && i < sizeof part; i++)
        if (path[i] == '/') {
            snprintf(part, sizeof part, "%.*s", (int)i, path);
            (void)mkdir(part, 0755);
        }
    return mkdir(path, 0755);
}

static int run_mkdir(int argc, char **argv, struct io *io)
{
    (void)argc;
    return each_operand(argv, io, has_option(argv, 'p') ? make_parents : make_directory);
}

static int run_rmdir(int argc, char **argv, struct io *io)
{
    (void)argc;
    return each_operand(argv, io, rmdir);
}

static int run_ls(int argc, char **argv, struct io *io)
{
    int i = first_operand(argv), status = 0;
    const char *here[] = {".", NULL};
    (void)argc;
    for (const char *const *path = argv[i] != NULL ? (const char *const *)(argv + i) : here; *path != NULL;
         path++) {
        struct dirent **entries;
        struct stat st;
        if (stat(*path, &st) == 0 && !S_ISDIR(st.st_mode)) {
            fprintf(io->out, "%s\n", *path);
            continue;
        }
        int n = scandir(*path, &entries, NULL, alphasort);
        if (n < 0) {
            status = fail(io, "ls", *path);
            continue;
        }
        for (int k = 0; k < n; k++) {
            if (entries[k]->d_name[0] != '.' || has_option(argv, 'a'))
                fprintf(io->out, "%s\n", entries[k]->d_name);
            free(entries[k]);
        }
        free(entries);
    }
    return status;
}

static int copy_file(const char *from, const char *to)
{
    FILE *in = fopen(from, "r"), *out = in != NULL ? fopen(to, "w") : NULL;
    char part[16384];
    for (size_t n; out != NULL && (n = fread(part, 1, sizeof part, in)) > 0;)
        fwrite(part, 1, n, out);
    int rc = out == NULL || ferror(in) || fclose(out) != 0 ? -1 : 0;
    if (in != NULL)
        fclose(in);
    return rc;
}

/* cp, mv and ln of one file, the second operand may be a directory. */
static int two_files(char **argv, struct io *io, int (*act)(const char *from, const char *to))
{
    int i = first_operand(argv);
    if (argv[i] == NULL || argv[i + 1] == NULL) {
        fprintf(io->err, "%s: give two paths\n", argv[0]);
        return 1;
    }
    char to[1024];
    struct stat st;
    const char *slash = strrchr(argv[i], '/');
    if (stat(argv[i + 1], &st) == 0 && S_ISDIR(st.st_mode))
        snprintf(to, sizeof to, "%s/%s", argv[i + 1], slash != NULL ? slash + 1 : argv[i]);
    else
        snprintf(to, sizeof to, "%s", argv[i + 1]);
    return act(argv[i], to) == 0 ? 0 : fail(io, argv[0], argv[i]);
}

static int run_cp(int argc, char **argv, struct io *io)
{
    (void)argc;
    return two_files(argv, io, copy_file);
}

static int run_mv(int argc, char **argv, struct io *io)
{
    (void)argc;
    return two_files(argv, io, rename);
}

static int run_ln(int argc, char **argv, struct io *io)
{
    (void)argc;
    return two_files(argv, io, has_option(argv, 's') ? symlink : link);
}

static int run_readlink(int argc, char **argv, struct io *io)
{
    char to[1024];
    ssize_t n = argc > 1 ? readlink(argv[argc - 1], to, sizeof to) : -1;
    if (n < 0)
        return 1;
    fprintf(io->out, "%.*s\n", (int)n, to);
    return 0;
}

/* stat -c with %n, %s, %F, %Y and %h. Preview 1 tells neither modes nor owners. */
static int run_stat(int argc, char **argv, struct io *io)
{
    const char *format = "%n %s %F";
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++)
        if (strcmp(argv[i], "-c") == 0 && i + 1 < argc)
            format = argv[++i];
        else if (strncmp(argv[i], "-c", 2) == 0)
            format = argv[i] + 2;
    struct stat st;
    if (i >= argc || stat(argv[i], &st) != 0)
        return fail(io, "stat", i < argc ? argv[i] : "");
    for (const char *at = format; *at != '\0'; at++) {
        if (at[0] != '%' || at[1] == '\0') {
            fputc(*at, io->out);
            continue;
        }
        switch (*++at) {
        case 'n':
            fputs(argv[i], io->out);
            break;
        case 's':
            fprintf(io->out, "%lld", (long long)st.st_size);
            break;
        case 'h':
            fprintf(io->out, "%llu", (unsigned long long)st.st_nlink);
            break;
        case 'Y':
            fprintf(io->out, "%lld", (long long)st.st_mtim.tv_sec);
            break;
        case 'F':
            fputs(S_ISDIR(st.st_mode)   ? "directory"
                  : S_ISREG(st.st_mode) ? "regular file"
                                        : "other",
                  io->out);
            break;
        default:
            fprintf(io->err, "stat: %%%c is not to be known in WASI preview 1\n", *at);
            return 1;
        }
    }
    fputc('\n', io->out);
    return 0;
}

/* ---- conditions ---- */

struct condition {
    char **words;
    int n, at;
    bool error;
};

static bool test_or(struct condition *c);

static const char *peek(const struct condition *c, int ahead)
{
    return c->at + ahead < c->n ? c->words[c->at + ahead] : NULL;
}

static bool test_file(char kind, const char *path)
{
    struct stat st;
    if ((kind == 'L' || kind == 'h' ? lstat : stat)(path, &st) != 0)
        return false;
    switch (kind) {
    case 'd':
        return S_ISDIR(st.st_mode);
    case 'f':
        return S_ISREG(st.st_mode);
    case 'L':
    case 'h':
        return S_ISLNK(st.st_mode);
    case 's':
        return st.st_size > 0;
    default:
        return true;
    }
}

static bool test_pair(const char *left, const char *op, const char *right, bool *known)
{
    static const char *const numbers[] = {"-eq", "-ne", "-lt", "-le", "-gt", "-ge"};
    *known = true;
    if (strcmp(op, "=") == 0 || strcmp(op, "==") == 0)
        return strcmp(left, right) == 0;
    if (strcmp(op, "!=") == 0)
        return strcmp(left, right) != 0;
    for (int i = 0; i < 6; i++)
        if (strcmp(op, numbers[i]) == 0) {
            long a = number(left), b = number(right);
            return (bool[]){a == b, a != b, a<b, a <= b, a> b, a >= b}[i];
        }
    *known = false;
    return false;
}

static bool test_primary(struct condition *c)
{
    const char *word = peek(c, 0), *next = peek(c, 1), *third = peek(c, 2);
    if (word == NULL) {
        c->error = true;
        return false;
    }
    if (next != NULL && third != NULL) {
        bool known, holds = test_pair(word, next, third, &known);
        if (known) {
            c->at += 3;
            return holds;
        }
    }
    if (strcmp(word, "!") == 0) {
        c->at++;
        return !test_primary(c);
    }
    if (strcmp(word, "(") == 0) {
        c->at++;
        bool holds = test_or(c);
        c->at++; /* the closing one */
        return holds;
    }
    if (word[0] == '-' && word[1] != '\0' && word[2] == '\0' && next != NULL) {
        c->at += 2;
        if (word[1] == 'z' || word[1] == 'n')
            return (*next == '\0') == (word[1] == 'z');
        if (word[1] == 't')
            return isatty((int)number(next));
        return test_file(word[1], next);
    }
    c->at++;
    return *word != '\0';
}

static bool accept(struct condition *c, const char *a, const char *b)
{
    const char *word = peek(c, 0);
    if (word == NULL || (strcmp(word, a) != 0 && strcmp(word, b) != 0))
        return false;
    c->at++;
    return true;
}

static bool test_and(struct condition *c)
{
    bool holds = test_primary(c);
    while (accept(c, "-a", "&&"))
        holds = test_primary(c) && holds;
    return holds;
}

static bool test_or(struct condition *c)
{
    bool holds = test_and(c);
    while (accept(c, "-o", "||"))
        holds = test_and(c) || holds;
    return holds;
}

static int run_condition(int argc, char **argv, struct io *io)
{
    struct condition c = {.words = argv + 1, .n = argc - 1};
    if (argv[0][0] == '[') {
        if (c.n == 0 || c.words[c.n - 1][0] != ']') {
            fprintf(io->err, "%s: the closing bracket is missing\n", argv[0]);
            return 2;
        }
        c.n--;
    }
    if (c.n == 0)
        return 1;
    bool holds = test_or(&c);
    if (c.error || c.at != c.n) {
        fprintf(io->err, "%s: no condition that is known here\n", argv[0]);
        return 2;
    }
    return holds ? 0 : 1;
}

/* ---- the system ---- */

static int run_true(int argc, char **argv, struct io *io)
{
    (void)argc, (void)argv, (void)io;
    return 0;
}

static int run_false(int argc, char **argv, struct io *io)
{
    (void)argc, (void)argv, (void)io;
    return 1;
}

static int run_env(int argc, char **argv, struct io *io)
{
    int i = 1;
    for (; i < argc && strchr(argv[i], '=') != NULL; i++)
        putenv(argv[i]);
    if (i < argc) {
        const struct applet *applet = applet_find(argv[i]);
        if (applet != NULL)
            return applet->run(argc - i, argv + i, io);
        fprintf(io->err, "env: %s: not found\n", argv[i]);
        return 127;
    }
    for (char **variable = environ; variable != NULL && *variable != NULL; variable++)
        fprintf(io->out, "%s\n", *variable);
    return 0;
}

static int run_printenv(int argc, char **argv, struct io *io)
{
    if (argc < 2)
        return run_env(1, argv, io);
    const char *value = getenv(argv[1]);
    if (value == NULL)
        return 1;
    fprintf(io->out, "%s\n", value);
    return 0;
}

static int run_sleep(int argc, char **argv, struct io *io)
{
    fflush(io->out);
    for (int i = 1; i < argc; i++) {
        char *end;
        double seconds = strcmp(argv[i], "infinity") == 0 ? 1e9 : strtod(argv[i], &end);
        if (seconds < 1e9)
            seconds *= *end == 'm' ? 60 : *end == 'h' ? 3600 : *end == 'd' ? 86400 : 1;
        struct timespec time = {.tv_sec = (time_t)seconds};
        time.tv_nsec = (long)((seconds - (double)time.tv_sec) * 1e9);
        nanosleep(&time, NULL);
    }
    return 0;
}

static int run_date(int argc, char **argv, struct io *io)
{
    const char *format =
        argc > 1 && argv[argc - 1][0] == '+' ? argv[argc - 1] + 1 : "%a %b %e %H:%M:%S UTC %Y";
    time_t now = time(NULL);
    struct tm parts;
    char text[128];
    if (strcmp(format, "%s") == 0)
        fprintf(io->out, "%lld\n", (long long)now);
    else if (strftime(text, sizeof text, format, gmtime_r(&now, &parts)) > 0)
        fprintf(io->out, "%s\n", text);
    return 0;
}

/* The first name of the line in /etc/hosts that has the short name, as `hostname -f` finds it. */
static bool full_name(const char *name, char *ret, size_t room)
{
    FILE *file = fopen("/etc/hosts", "r");
    char *line = NULL;
    size_t size = 0;
    bool found = false;
    while (file != NULL && !found && getline(&line, &size, file) > 0) {
        char *rest = line, *first = NULL;
        line[strcspn(line, "#\n")] = '\0';
        for (char *word = strtok_r(line, " \t", &rest); word != NULL && !found;
             word = strtok_r(NULL, " \t", &rest)) {
            if (word != line && first == NULL)
                first = word;
            found = first != NULL && strcmp(word, name) == 0;
        }
        if (found)
            snprintf(ret, room, "%s", first);
    }
    free(line);
    if (file != NULL)
        fclose(file);
    return found;
}

static int run_hostname(int argc, char **argv, struct io *io)
{
    char name[256] = "localhost", full[256];
    FILE *file = fopen("/etc/hostname", "r");
    const char *variable = getenv("HOSTNAME");
    (void)argc;
    if (file != NULL && fgets(name, sizeof name, file) != NULL)
        name[strcspn(name, "\n")] = '\0';
    else if (variable != NULL)
        snprintf(name, sizeof name, "%s", variable);
    if (file != NULL)
        fclose(file);
    fprintf(io->out, "%s\n", has_option(argv, 'f') && full_name(name, full, sizeof full) ? full : name);
    return 0;
}

static int run_pwd(int argc, char **argv, struct io *io)
{
    char path[1024];
    (void)argc, (void)argv;
    fprintf(io->out, "%s\n", getcwd(path, sizeof path) != NULL ? path : "/");
    return 0;
}

static int run_basename(int argc, char **argv, struct io *io)
{
    const char *slash = argc > 1 ? strrchr(argv[1], '/') : NULL;
    fprintf(io->out, "%s\n", slash != NULL && slash[1] != '\0' ? slash + 1 : argc > 1 ? argv[1] : "");
    return 0;
}

static int run_uname(int argc, char **argv, struct io *io)
{
    (void)argc;
    fputs(has_option(argv, 'm') ? "wasm32\n" : has_option(argv, 'a') ? "wasi 1 wasm32\n" : "wasi\n", io->out);
    return 0;
}

/* Uses up memory or time, for tests of limits: eat memory MIB, eat cpu SECONDS, eat stack. */
static int run_eat(int argc, char **argv, struct io *io)
{
    long amount = argc > 2 ? number(argv[2]) : 1;
    if (argc > 1 && strcmp(argv[1], "memory") == 0) {
        for (long i = 0; i < amount; i++) {
            char *block = malloc(1 << 20);
            if (block == NULL)
                return fail(io, "eat", "memory");
            memset(block, 1, 1 << 20);
        }
        fprintf(io->out, "ate %ld MiB\n", amount);
    } else if (argc > 1 && strcmp(argv[1], "cpu") == 0) {
        for (time_t end = time(NULL) + amount; time(NULL) < end;)
            ;
    } else if (argc > 1 && strcmp(argv[1], "trap") == 0) {
        __builtin_trap();
    }
    return 0;
}

static int run_network(int argc, char **argv, struct io *io)
{
    (void)argc;
    fprintf(io->err, "%s: WASI preview 1 has no sockets to connect\n", argv[0]);
    return 1;
}

static int run_users(int argc, char **argv, struct io *io)
{
    (void)argc;
    fprintf(io->err, "%s: WASI preview 1 has no users\n", argv[0]);
    return 1;
}

static int run_busybox(int argc, char **argv, struct io *io)
{
    const struct applet *applet = argc > 1 ? applet_find(argv[1]) : NULL;
    if (applet != NULL)
        return applet->run(argc - 1, argv + 1, io);
    fprintf(io->err, "busybox: give one of the commands that it holds\n");
    return 127;
}

static const struct applet applets[] = {
    {"[", run_condition},
    {"[[", run_condition},
    {"ash", shell_main},
    {"awk", run_awk},
    {"basename", run_basename},
    {"bash", shell_main},
    {"busybox", run_busybox},
    {"busybox.wasm", run_busybox},
    {"cat", run_cat},
    {"cp", run_cp},
    {"curl", run_network},
    {"date", run_date},
    {"eat", run_eat},
    {"echo", run_echo},
    {"env", run_env},
    {"false", run_false},
    {"grep", run_grep},
    {"head", run_head},
    {"hexdump", run_hexdump},
    {"hostname", run_hostname},
    {"id", run_users},
    {"ln", run_ln},
    {"ls", run_ls},
    {"mkdir", run_mkdir},
    {"mv", run_mv},
    {"nc", run_network},
    {"printenv", run_printenv},
    {"printf", run_printf},
    {"pwd", run_pwd},
    {"readlink", run_readlink},
    {"rm", run_rm},
    {"rmdir", run_rmdir},
    {"seq", run_seq},
    {"sh", shell_main},
    {"sleep", run_sleep},
    {"sort", run_sort},
    {"stat", run_stat},
    {"tail", run_tail},
    {"test", run_condition},
    {"touch", run_touch},
    {"true", run_true},
    {"uname", run_uname},
    {"wc", run_wc},
    {"wget", run_network},
    {"whoami", run_users},
    {"yes", run_yes},
};

const struct applet *applet_find(const char *name)
{
    const char *slash = strrchr(name, '/');
    if (slash != NULL)
        name = slash + 1;
    for (size_t i = 0; i < sizeof applets / sizeof *applets; i++)
        if (strcmp(applets[i].name, name) == 0)
            return &applets[i];
    return NULL;
}
