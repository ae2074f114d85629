/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP/1 codec, N times: `h1 parse N` reads the request that h2load sends, `h1 respond N` writes the head of a
 * small answer, `h1 response N` reads such an answer as a client. Run under callgrind by bench/instructions/check,
 * which takes the difference between N and 2N. */
#include "http/h1.h"

#include <stdio.h>

static const char request[] =
    "GET / HTTP/1.1\r\nHost: 127.0.0.1:37621\r\nuser-agent: h2load nghttp2/1.52.0\r\n\r\n";
static const char answer[] =
    "HTTP/1.1 200 OK\r\nDate: Tue, 24 Nov 2026 04:20:00 GMT\r\nContent-Type: text/plain\r\n"
    "Content-Length: 13\r\n\r\nhello, world\n";

/* One feed per event, as a server does it. */
static uint64_t feed(wh_h1 *h, const char *p, size_t n)
{
    wh_h1_event event;
    size_t used = 0;
    uint64_t events = 0;
    do {
        size_t took = 0;
        wh_assert(wh_h1_feed(h, p + used, n - used, &took, &event) == 0);
        used += took;
        events++;
    } while (event.kind != WH_H1_END);
    wh_assert(used == n);
    return events;
}

static uint64_t respond(wh_buf *out)
{
    wh_buf_reset(out);
    wh_assert(wh_h1_write_status(out, 200) == 0);
    wh_assert(wh_h1_write_field(out, "Date", "Tue, 24 Nov 2026 04:20:00 GMT") == 0);
    wh_assert(wh_h1_write_field(out, "Content-Type", "text/plain") == 0);
    wh_assert(wh_h1_write_field(out, "Content-Length", "13") == 0);
    wh_assert(wh_buf_append(out, "\r\n", 2) == 0);
    return out->len;
}

int main(int argc, char **argv)
{
    uint64_t n = 0;
    if (argc != 3 || wh_parse_u64(argv[2], UINT32_MAX, &n) < 0) {
        (void)fprintf(stderr, "usage: h1 parse|respond|response N\n");
        return 2;
    }
    uint64_t sum = 0;
    wh_h1 h;
    wh_buf out;
    wh_buf_init(&out, 4096);
    bool writes = wh_streq(argv[1], "respond");
    bool parses = wh_streq(argv[1], "parse");
    if (parses)
        wh_h1_init(&h, NULL);
    else
        wh_h1_init_response(&h, NULL);
    for (uint64_t i = 0; i < n; i++) {
        if (writes)
            sum += respond(&out);
        else
            sum += parses ? feed(&h, request, sizeof(request) - 1) : feed(&h, answer, sizeof(answer) - 1);
    }
    (void)printf("%llu\n", (unsigned long long)sum);
    wh_buf_done(&out);
    wh_h1_done(&h);
    return 0;
}
