/* SPDX-License-Identifier: Apache-2.0 */
/* WebSocket frames: no split of the input changes its events. The first byte chooses the side and the splits. */
#include "../../unit/http/websocket_log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1 || n > 20000)
        return 0;
    const size_t pieces[] = {SIZE_MAX, 1, 2 + (data[0] >> 1) % 30u};
    ws_log logs[WH_ARRAY_LEN(pieces)];
    for (size_t i = 0; i < WH_ARRAY_LEN(pieces); i++) {
        ws_log_init(&logs[i], (data[0] & 1) != 0, 500);
        wh_assert(ws_log_feed(&logs[i], data + 1, n - 1, pieces[i]));
        wh_assert(strcmp(wh_buf_str(&logs[i].out), wh_buf_str(&logs[0].out)) == 0);
    }
    for (size_t i = 0; i < WH_ARRAY_LEN(pieces); i++)
        ws_log_done(&logs[i]);
    return 0;
}
