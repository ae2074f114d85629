/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the case files of tests/codec: whole, at every split, byte by byte. Words behind ```http say what a response
 * answers (head, connect, upgrade) and that the stream ends behind it (eof). */
#include "codec_log.h"

#include "base/clock.h"
#include "base/file.h"
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>

#define RANDOM_SPLITS 200

typedef struct test_case {
    char *title;
    wh_buf input, expected;
    bool response, ends;
    wh_h1_asked asked;
} test_case;

static void unescape(wh_buf *out, wh_str line)
{
    for (size_t i = 0; i < line.n; i++) {
        char c = line.p[i];
        if (c != '\\') {
            (void)wh_buf_putc(out, c);
            continue;
        }
        CHECK(++i < line.n);
        uint8_t byte = 0;
        switch (line.p[i]) {
        case 'r':
            byte = '\r';
            break;
        case 'n':
            byte = '\n';
            break;
        case 't':
            byte = '\t';
            break;
        case '0':
            break;
        case '\\':
            byte = '\\';
            break;
        case 'x':
            CHECK(i + 2 < line.n && wh_unhex(line.p + i + 1, 2, &byte) == 0);
            i += 2;
            break;
        default:
            wh_test_fail(__FILE__, __LINE__, "unknown escape in: %.*s", WH_STR_ARG(line));
        }
        (void)wh_buf_putc(out, (char)byte);
    }
}

/* Feeds the pieces between the cuts and compares. */
static void run_cut(const test_case *c, const size_t *cuts, size_t n_cuts, const char *how)
{
    codec_log l;
    if (c->response)
        codec_init_response(&l, NULL, c->asked, c->ends);
    else
        codec_init(&l, NULL);
    size_t at = 0;
    for (size_t i = 0; i <= n_cuts; i++) {
        size_t to = i == n_cuts ? c->input.len : cuts[i];
        /* A copy of its own, so that a sanitizer sees a read past the piece. */
        auto_free char *piece = malloc(to - at + 1);
        CHECK(piece != NULL);
        memcpy(piece, c->input.p + at, to - at);
        if (!codec_feed(&l, piece, to - at))
            wh_test_fail(__FILE__, __LINE__, "%s (%s): the codec broke a promise", c->title, how);
        at = to;
    }
    codec_end(&l);
    if (strcmp(wh_buf_str(&l.out), wh_buf_str(&c->expected)) != 0)
        wh_test_fail(__FILE__, __LINE__, "%s (%s, first cut %zu)\n--- expected\n%s--- got\n%s", c->title, how,
                     n_cuts > 0 ? cuts[0] : 0, wh_buf_str(&c->expected), wh_buf_str(&l.out));
    codec_done(&l);
}

static void run_case(const test_case *c)
{
    size_t n = c->input.len;
    wh_rng rng = {n};
    run_cut(c, NULL, 0, "whole");
    for (size_t i = 1; i < n; i++)
        run_cut(c, &i, 1, "in two");
    for (int i = 0; i < RANDOM_SPLITS && n > 2; i++) {
        size_t a = 1 + wh_rng_below(&rng, n - 1);
        size_t b = 1 + wh_rng_below(&rng, n - 1);
        run_cut(c, (size_t[]){WH_MIN(a, b), WH_MAX(a, b)}, 2, "in three");
    }
    auto_free size_t *all = malloc(n * sizeof(*all));
    CHECK(all != NULL);
    for (size_t i = 1; i < n; i++)
        all[i - 1] = i;
    run_cut(c, all, n - 1, "byte by byte");
}

static void run_and_clear(test_case *c, size_t *count)
{
    if (c->title == NULL)
        return;
    if (c->input.len == 0 || c->expected.len == 0)
        wh_test_fail(__FILE__, __LINE__, "%s: a block is missing", c->title);
    run_case(c);
    ++*count;
    free(c->title);
    c->title = NULL;
    c->ends = false;
    c->asked = WH_H1_ASKED_PLAIN;
    wh_buf_reset(&c->input);
    wh_buf_reset(&c->expected);
}

static void read_words(test_case *c, wh_str words)
{
    wh_str word;
    while (wh_str_split(&words, ' ', &word)) {
        c->ends = c->ends || wh_str_eq(word, WH_STR("eof"));
        if (wh_str_eq(word, WH_STR("head")))
            c->asked = WH_H1_ASKED_HEAD;
        else if (wh_str_eq(word, WH_STR("connect")))
            c->asked = WH_H1_ASKED_CONNECT;
        else if (wh_str_eq(word, WH_STR("upgrade")))
            c->asked = WH_H1_ASKED_UPGRADE;
    }
}

static size_t run_file(const char *path, bool response)
{
    auto_free char *text = NULL;
    size_t n = 0;
    wh_err err = {0};
    CHECK_OK(wh_read_file(AT_FDCWD, path, 1UL << 20, &text, &n, &err), &err);
    test_case c = {.response = response};
    wh_buf_init(&c.input, 1UL << 20);
    wh_buf_init(&c.expected, 1UL << 20);
    enum { PROSE, INPUT, EVENTS } in = PROSE;
    wh_str rest = {text, n};
    wh_str line;
    size_t count = 0;
    while (wh_str_split(&rest, '\n', &line)) {
        if (in == PROSE && line.n > 3 && memcmp(line.p, "## ", 3) == 0) {
            run_and_clear(&c, &count);
            c.title = wh_xstrndup(line.p + 3, line.n - 3);
        } else if (line.n >= 3 && memcmp(line.p, "```", 3) == 0) {
            bool http = line.n >= 7 && memcmp(line.p, "```http", 7) == 0;
            in = in != PROSE ? PROSE : http ? INPUT : EVENTS;
            if (in == INPUT)
                read_words(&c, (wh_str){line.p + 7, line.n - 7});
        } else if (in == INPUT) {
            unescape(&c.input, line);
        } else if (in == EVENTS) {
            (void)wh_buf_printf(&c.expected, "%.*s\n", WH_STR_ARG(line));
        }
    }
    run_and_clear(&c, &count);
    wh_buf_done(&c.input);
    wh_buf_done(&c.expected);
    return count;
}

TEST_TIMEOUT(cases_of_h1_md, 120)
{
    CHECK_INT(run_file(CODEC_DIR "/h1.md", false), >=, 80);
}

TEST_TIMEOUT(cases_of_h1_response_md, 120)
{
    CHECK_INT(run_file(CODEC_DIR "/h1-response.md", true), >=, 40);
}
