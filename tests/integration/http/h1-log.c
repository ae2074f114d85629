/* SPDX-License-Identifier: Apache-2.0 */
/* Says what the HTTP/1 codec makes of each input, for a comparison with another implementation:
 *   h1-log request|response|response-head
 * Standard input: records of a 4-byte little-endian length and so many bytes. For each: its messages, how it ends,
 * ".". */
#include "http/h1.h"

#include <stdio.h>

#define INPUT_BYTES_MAX 65536

typedef struct log_state {
    wh_h1 h;
    size_t at;   /* consumed of the input */
    wh_buf body; /* of the current message */
} log_state;

static void print_hex(wh_str s)
{
    static char hex[2 * INPUT_BYTES_MAX + 1];
    wh_hex(s.p, s.n, hex);
    (void)printf(" %s", s.n > 0 ? hex : "-");
}

static void print_head(const wh_h1 *h)
{
    (void)printf("head %d", h->minor);
    if (h->response) {
        (void)printf(" %d", h->code);
    } else {
        print_hex(h->method);
        print_hex(h->target);
    }
    (void)printf("\n");
    for (size_t i = 0; i < h->n_fields; i++) {
        (void)printf("field");
        print_hex(h->fields[i].name);
        print_hex(h->fields[i].value);
        (void)printf("\n");
    }
}

static void print_event(log_state *s, const wh_h1_event *event)
{
    if (event->kind == WH_H1_HEAD)
        print_head(&s->h);
    else if (event->kind == WH_H1_BODY)
        wh_assert(wh_buf_append(&s->body, event->data.p, event->data.n) == 0);
    if (event->kind != WH_H1_END)
        return;
    (void)printf("end %zu", s->at);
    print_hex((wh_str){wh_buf_str(&s->body), s->body.len});
    (void)printf("\n");
    wh_buf_reset(&s->body);
}

static void run(const char *mode, const char *p, size_t n)
{
    log_state s = {.at = 0};
    wh_buf_init(&s.body, INPUT_BYTES_MAX);
    if (wh_streq(mode, "request")) {
        wh_h1_init(&s.h, NULL);
    } else {
        wh_h1_init_response(&s.h, NULL);
        wh_h1_asked_for(&s.h, wh_streq(mode, "response-head") ? WH_H1_ASKED_HEAD : WH_H1_ASKED_PLAIN);
    }
    wh_h1_event event = {WH_H1_END, {NULL, 0}};
    int r = 0;
    while (r == 0 && event.kind != WH_H1_NONE) {
        size_t used = 0;
        r = wh_h1_feed(&s.h, p + s.at, n - s.at, &used, &event);
        s.at += r == 0 ? used : 0;
        if (r == 0)
            print_event(&s, &event);
    }
    if (r == 0 && s.h.response) { /* a body may last until the input ends */
        r = wh_h1_eof(&s.h, &event);
        if (r == 0)
            print_event(&s, &event);
    }
    (void)printf("%s\n.\n", r < 0 ? s.h.rule : wh_h1_idle(&s.h) ? "idle" : "more");
    wh_buf_done(&s.body);
    wh_h1_done(&s.h);
}

int main(int argc, char **argv)
{
    unsigned char length[4];
    if (argc != 2) {
        (void)fprintf(stderr, "usage: h1-log request|response|response-head < RECORDS\n");
        return 2;
    }
    while (fread(length, 1, sizeof(length), stdin) == sizeof(length)) {
        size_t n = (size_t)length[0] | (size_t)length[1] << 8 | (size_t)length[2] << 16;
        wh_assert(n <= INPUT_BYTES_MAX);
        auto_free char *input = malloc(n + 1);
        wh_assert(input != NULL);
        wh_assert(fread(input, 1, n, stdin) == n);
        run(argv[1], input, n);
    }
    return 0;
}
