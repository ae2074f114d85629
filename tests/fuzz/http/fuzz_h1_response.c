/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP/1 response codec: no split of the input changes its events. The first byte chooses what was asked and
 * whether the stream ends, the second the splits. */
#include "../../unit/http/codec_log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void run(codec_log *l, const char *p, size_t n, size_t first, size_t piece, uint8_t how)
{
    const wh_h1_limits limits = {.line_bytes = 200, .head_bytes = 1000, .fields = 10, .body_bytes = 5000};
    codec_init_response(l, &limits, (wh_h1_asked)(how & 3), (how & 4) != 0);
    for (size_t take = WH_MIN(first, n); n > 0; take = WH_MIN(n, piece)) {
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
    codec_log whole;
    codec_log bytes;
    codec_log parts;
    run(&whole, p, len, SIZE_MAX, SIZE_MAX, data[0]);
    run(&bytes, p, len, 1, 1, data[0]);
    run(&parts, p, len, 1 + ((size_t)data[1] << 3 | data[0] >> 5) % (len + 1), 1 + data[1] % 17u, data[0]);
    wh_assert(strcmp(wh_buf_str(&whole.out), wh_buf_str(&bytes.out)) == 0);
    wh_assert(strcmp(wh_buf_str(&whole.out), wh_buf_str(&parts.out)) == 0);
    codec_done(&whole);
    codec_done(&bytes);
    codec_done(&parts);
    return 0;
}
