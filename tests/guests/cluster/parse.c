/* SPDX-License-Identifier: Apache-2.0 */
/* The shell's parser: words stay as they are written, and are expanded each time that their command runs. */
#include "tree.h"

#include <stdio.h>
#include <string.h>

struct parser {
    const char *at;
    const char *error; /* where, or what was expected */
};

void *need(void *memory)
{
    if (memory == NULL) {
        fputs("sh: out of memory\n", stderr);
        exit(2);
    }
    return memory;
}

void text_add(struct text *text, const char *data, size_t len)
{
    if (text->len + len + 1 > text->room) {
        text->room = (text->len + len + 1) * 2;
        text->data = need(realloc(text->data, text->room));
    }
    memcpy(text->data + text->len, data, len);
    text->len += len;
    text->data[text->len] = '\0';
}

void text_add_char(struct text *text, char c)
{
    text_add(text, &c, 1);
}

char *text_take(struct text *text)
{
    char *data = text->data != NULL ? text->data : need(strdup(""));
    *text = (struct text){0};
    return data;
}

long number(const char *text)
{
    return strtol(text, NULL, 10);
}

/* ---- words as they are written ---- */

/* Past a parenthesis or brace that `at` stands behind, with whatever nests in it. NULL: it is never closed.
 */
static const char *skip_nested(const char *at, char open, char close)
{
    for (int depth = 1; *at != '\0';) {
        if (*at == '\'' || *at == '"' || *at == '\\' || *at == '`') {
            at = skip_quoted(at);
            if (at == NULL)
                return NULL;
            continue;
        }
        if (*at == open)
            depth++;
        else if (*at == close && --depth == 0)
            return at + 1;
        at++;
    }
    return NULL;
}

/* Past an expansion that starts with the dollar at `at`. */
const char *skip_dollar(const char *at)
{
    if (at[1] == '(')
        return skip_nested(at + 2, '(', ')');
    if (at[1] == '{')
        return skip_nested(at + 2, '{', '}');
    return at + 1;
}

/* Past what one of ' " \ ` starts. */
const char *skip_quoted(const char *at)
{
    char quote = *at++;
    if (quote == '\\')
        return *at != '\0' ? at + 1 : at;
    while (*at != '\0' && *at != quote) {
        if (*at == '\\' && quote != '\'' && at[1] != '\0')
            at += 2;
        else if (*at == '$' && quote == '"')
            at = skip_dollar(at);
        else
            at++;
        if (at == NULL)
            return NULL;
    }
    return *at == quote ? at + 1 : NULL;
}

static void skip_space(struct parser *p)
{
    for (;;) {
        if (*p->at == ' ' || *p->at == '\t')
            p->at++;
        else if (p->at[0] == '\\' && p->at[1] == '\n')
            p->at += 2;
        else if (*p->at == '#')
            p->at += strcspn(p->at, "\n");
        else
            return;
    }
}

static void skip_lines(struct parser *p)
{
    for (skip_space(p); *p->at == '\n'; skip_space(p))
        p->at++;
}

/* The word at the script's current place, not yet expanded; NULL when an operator or the end stands there. */
static char *read_word(struct parser *p)
{
    skip_space(p);
    const char *from = p->at, *at = from;
    while (at != NULL && *at != '\0' && strchr(" \t\n;&|<>()", *at) == NULL) {
        if (strchr("'\"\\`", *at) != NULL)
            at = skip_quoted(at);
        else if (*at == '$')
            at = skip_dollar(at);
        else
            at++;
    }
    if (at == NULL) {
        p->error = "a quote or bracket is never closed";
        p->at = from + strlen(from);
        return NULL;
    }
    p->at = at;
    return at > from ? need(strndup(from, (size_t)(at - from))) : NULL;
}

/* Whether the next word is the reserved one; if so it is consumed. */
static bool accept_word(struct parser *p, const char *word)
{
    skip_lines(p);
    size_t n = strlen(word);
    if (strncmp(p->at, word, n) != 0 || (p->at[n] != '\0' && strchr(" \t\n;&|<>()", p->at[n]) == NULL))
        return false;
    p->at += n;
    return true;
}

static void expect_word(struct parser *p, const char *word)
{
    if (p->error == NULL && !accept_word(p, word))
        p->error = word;
}

static bool accept_operator(struct parser *p, const char *operator)
{
    skip_space(p);
    size_t n = strlen(operator);
    if (strncmp(p->at, operator, n) != 0)
        return false;
    p->at += n;
    return true;
}

/* ---- the parser ---- */

static struct node *parse_list(struct parser *p);

static struct node *new_node(enum kind kind, struct node *a, struct node *b)
{
    struct node *node = need(calloc(1, sizeof *node));
    node->kind = kind;
    node->a = a;
    node->b = b;
    return node;
}

static void add_word(struct node *node, char *word)
{
    node->words = need(realloc(node->words, (node->n_words + 2) * sizeof *node->words));
    node->words[node->n_words++] = word;
    node->words[node->n_words] = NULL;
}

/* A redirection, when one stands here. */
static bool parse_redirect(struct parser *p, struct node *node)
{
    skip_space(p);
    const char *at = p->at;
    int fd = -1;
    if ((at[0] == '0' || at[0] == '1' || at[0] == '2') && (at[1] == '<' || at[1] == '>'))
        fd = *at++ - '0';
    bool both = at[0] == '&' && at[1] == '>';
    if (both)
        at++;
    if (*at != '<' && *at != '>')
        return false;
    struct redirect *redirect = need(calloc(1, sizeof *redirect));
    redirect->mode = *at++;
    redirect->fd = fd >= 0 ? fd : redirect->mode == '<' ? 0 : 1;
    if (*at == '>') {
        redirect->mode = 'a';
        at++;
    } else if (*at == '&') {
        redirect->mode = '&';
        at++;
    }
    p->at = at;
    redirect->word = read_word(p);
    if (redirect->word == NULL && p->error == NULL)
        p->error = "a redirection goes nowhere";
    struct redirect **end = &node->redirects;
    while (*end != NULL)
        end = &(*end)->next;
    *end = redirect;
    if (both) {
        redirect->next = need(calloc(1, sizeof *redirect));
        *redirect->next = (struct redirect){.fd = 2, .mode = '&', .word = need(strdup("1"))};
    }
    return true;
}

static struct node *parse_if(struct parser *p)
{
    struct node *node = new_node(IF, parse_list(p), NULL);
    expect_word(p, "then");
    node->b = parse_list(p);
    if (accept_word(p, "elif")) {
        node->c = parse_if(p);
        return node;
    }
    if (accept_word(p, "else"))
        node->c = parse_list(p);
    expect_word(p, "fi");
    return node;
}

static struct node *parse_loop(struct parser *p, enum kind kind)
{
    struct node *node = new_node(kind, parse_list(p), NULL);
    expect_word(p, "do");
    node->b = parse_list(p);
    expect_word(p, "done");
    return node;
}

static struct node *parse_for(struct parser *p)
{
    struct node *node = new_node(FOR, NULL, NULL);
    char *name = read_word(p);
    add_word(node, name != NULL ? name : need(strdup("_")));
    if (accept_word(p, "in")) {
        for (char *word; (word = read_word(p)) != NULL;)
            add_word(node, word);
    } else {
        add_word(node, need(strdup("\"$@\"")));
    }
    accept_operator(p, ";");
    expect_word(p, "do");
    node->b = parse_list(p);
    expect_word(p, "done");
    return node;
}

static struct node *parse_simple(struct parser *p)
{
    struct node *node = new_node(SIMPLE, NULL, NULL);
    for (;;) {
        if (parse_redirect(p, node))
            continue;
        char *word = read_word(p);
        if (word == NULL)
            break;
        add_word(node, word);
        if (strcmp(node->words[0], "[[") != 0 || strcmp(word, "]]") == 0)
            continue;
        /* Inside [[ ]] the operators are words. */
        for (skip_space(p); *p->at != '\0' && strchr("&|<>()", *p->at) != NULL; skip_space(p)) {
            size_t n = p->at[0] == p->at[1] ? 2 : 1;
            add_word(node, need(strndup(p->at, n)));
            p->at += n;
        }
    }
    if (node->n_words == 0 && node->redirects == NULL && p->error == NULL)
        p->error = *p->at != '\0' ? p->at : "the script ends where a command should stand";
    return node;
}

static struct node *parse_command(struct parser *p)
{
    struct node *node;
    if (accept_word(p, "!"))
        return new_node(NOT, parse_command(p), NULL);
    if (accept_word(p, "if"))
        node = parse_if(p);
    else if (accept_word(p, "while"))
        node = parse_loop(p, WHILE);
    else if (accept_word(p, "until"))
        node = parse_loop(p, UNTIL);
    else if (accept_word(p, "for"))
        node = parse_for(p);
    else if (accept_word(p, "{")) {
        node = new_node(GROUP, parse_list(p), NULL);
        expect_word(p, "}");
    } else if (accept_operator(p, "(")) {
        node = new_node(SUBSHELL, parse_list(p), NULL);
        if (!accept_operator(p, ")") && p->error == NULL)
            p->error = ")";
    } else {
        return parse_simple(p);
    }
    while (p->error == NULL && parse_redirect(p, node))
        ;
    return node;
}

static struct node *parse_pipeline(struct parser *p)
{
    struct node *node = parse_command(p);
    skip_space(p);
    if (p->error != NULL || p->at[0] != '|' || p->at[1] == '|')
        return node;
    p->at++;
    return new_node(PIPE, node, parse_pipeline(p));
}

static struct node *parse_and_or(struct parser *p)
{
    struct node *node = parse_pipeline(p);
    while (p->error == NULL) {
        enum kind kind = AND;
        if (accept_operator(p, "||"))
            kind = OR;
        else if (!accept_operator(p, "&&"))
            break;
        skip_lines(p);
        node = new_node(kind, node, parse_pipeline(p));
    }
    return node;
}

static bool list_ends(struct parser *p)
{
    static const char *const ends[] = {"then", "else", "elif", "fi", "do", "done", "}"};
    skip_lines(p);
    const char *at = p->at;
    if (*at == '\0' || *at == ')')
        return true;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (accept_word(p, ends[i])) {
            p->at = at;
            return true;
        }
    return false;
}

/* Commands up to the word that closes the list. What is sent to the background with & is skipped: nothing can
 * run beside us, and what scripts send there is what they do not wait for. */
static struct node *parse_list(struct parser *p)
{
    struct node *list = NULL;
    while (p->error == NULL && !list_ends(p)) {
        struct node *node = parse_and_or(p);
        skip_space(p);
        bool background = *p->at == '&';
        if (*p->at == ';' || *p->at == '&' || *p->at == '\n')
            p->at++;
        else if (!list_ends(p) && p->error == NULL)
            p->error = p->at;
        if (!background)
            list = list == NULL ? node : new_node(SEQUENCE, list, node);
    }
    return list;
}

struct node *parse_script(const char *script, const char **error)
{
    struct parser parser = {.at = script};
    struct node *tree = parse_list(&parser);
    if (parser.error == NULL && *parser.at != '\0')
        parser.error = parser.at;
    *error = parser.error;
    return tree;
}
