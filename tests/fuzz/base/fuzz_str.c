/* SPDX-License-Identifier: Apache-2.0 */
/* The parsers of strings: what they accept comes back the same when it is written and parsed again. */
#include "base/clock.h"
#include "base/str.h"

#include <inttypes.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void numbers(const char *s)
{
    char out[WH_RFC3339_LEN];
    uint64_t u = 0;
    int64_t i = 0, again = 0;
    if (wh_parse_u64(s, UINT64_MAX, &u) == 0) {
        (void)snprintf(out, sizeof(out), "%" PRIu64, u);
        wh_assert(strcmp(s + strspn(s, "0") - (u == 0), out) == 0);
    }
    if (wh_parse_i64(s, INT64_MIN, INT64_MAX, &i) == 0) {
        (void)snprintf(out, sizeof(out), "%" PRId64, i);
        wh_assert(wh_parse_i64(out, INT64_MIN, INT64_MAX, &again) == 0);
        wh_assert(again == i);
    }
    (void)wh_parse_bytes(s, &u);
    if (wh_parse_duration(s, &i) == 0)
        wh_assert(i >= 0);
    if (wh_rfc3339_parse(s, &i) == 0) {
        wh_assert(wh_rfc3339_parse(wh_rfc3339(i, 9, out), &again) == 0);
        wh_assert(again == i);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *p = (const char *)data;
    auto_free char *s = malloc(n + 1);
    wh_assert(s != NULL);
    if (n > 0)
        memcpy(s, data, n);
    s[n] = '\0';
    numbers(s);
    (void)wh_utf8_valid(p, n);
    auto_free uint8_t *raw = NULL;
    size_t raw_n = 0;
    if (wh_unbase64(p, n, &raw, &raw_n) == 0) {
        auto_free char *text = wh_base64(raw, raw_n);
        wh_assert(strlen(text) == n);
        wh_assert(n == 0 || memcmp(text, data, n) == 0);
    }
    auto_free uint8_t *bytes = malloc(n / 2 + 1);
    (void)wh_unhex(p, n, bytes);
    wh_str rest = {s, n}, piece;
    size_t total = 0, pieces = 0;
    while (wh_str_split(&rest, ',', &piece)) {
        total += piece.n;
        pieces++;
        (void)wh_str_trim(piece);
    }
    wh_assert(total + pieces - 1 == n);
    return 0;
}
