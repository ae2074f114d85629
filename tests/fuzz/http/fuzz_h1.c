/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP/1 request codec: no split of the input changes its events. The first two bytes choose the splits. */
#include "../../unit/http/codec_log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void feed_pieces(codec_log *l, const char *p, size_t n, size_t piece)
{
    while (n > 0) {
        size_t take = WH_MIN(n, piece);
        wh_assert(codec_feed(l, p, take));
        p += take;
        n -= take;
    }
    codec_end(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 2 || n > 100000)
        return 0;
    const char *p = (const char *)data + 2;
    size_t len = n - 2;
    size_t cut = ((size_t)data[0] << 8 | data[1]) % (len + 1);
    wh_h1_limits limits = {.line_bytes = 200, .head_bytes = 1000, .fields = 10, .body_bytes = 5000};
    codec_log whole;
    codec_log bytes;
    codec_log parts;
    codec_init(&whole, &limits);
    codec_init(&bytes, &limits);
    codec_init(&parts, &limits);
    feed_pieces(&whole, p, len, SIZE_MAX);
    feed_pieces(&bytes, p, len, 1);
    wh_assert(codec_feed(&parts, p, cut));
    feed_pieces(&parts, p + cut, len - cut, 1 + data[0] % 17u);
    wh_assert(strcmp(wh_buf_str(&whole.out), wh_buf_str(&bytes.out)) == 0);
    wh_assert(strcmp(wh_buf_str(&whole.out), wh_buf_str(&parts.out)) == 0);
    codec_done(&whole);
    codec_done(&bytes);
    codec_done(&parts);
    return 0;
}
