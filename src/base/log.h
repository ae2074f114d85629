/* SPDX-License-Identifier: Apache-2.0 */
/* Structured log: a constant message and typed pairs. Text on a terminal, one JSON object a line elsewhere,
 * and journal priorities ("<3>") when JOURNAL_STREAM is set. At most 20 lines per call site and second; what
 * was left out is counted and said with the next line of that site. Libraries never log above DEBUG: whoever
 * stops an error logs it, once. */
#pragma once

#include "base/clock.h"
#include "base/str.h"

typedef enum { WH_LOG_ERROR, WH_LOG_WARN, WH_LOG_INFO, WH_LOG_DEBUG } wh_log_level;
typedef enum { WH_LOG_AUTO, WH_LOG_TEXT, WH_LOG_JSON } wh_log_format;

typedef struct wh_kv {
    const char *key;
    enum { WH_KV_STR, WH_KV_INT, WH_KV_BOOL, WH_KV_SECRET } kind;
    const char *s;
    int64_t i;
} wh_kv;

#define KV_STR(k, v) ((wh_kv){.key = (k), .kind = WH_KV_STR, .s = (v)})
#define KV_INT(k, v) ((wh_kv){.key = (k), .kind = WH_KV_INT, .i = (int64_t)(v)})
#define KV_BOOL(k, v) ((wh_kv){.key = (k), .kind = WH_KV_BOOL, .i = (v)})
#define KV_SECRET(k, v) ((wh_kv){.key = (k), .kind = WH_KV_SECRET, .s = (v)}) /* prints its length only */
#define KV_ERR(e) ((wh_kv){.key = "error", .kind = WH_KV_STR, .s = (e)->msg})

typedef struct wh_log_site { /* one per call site, static */
    wh_time window;
    uint32_t count, suppressed;
} wh_log_site;

/* `program` is borrowed for ever. fd is where lines go (2 as a rule). */
void wh_log_setup(const char *program, int fd, wh_log_level level, wh_log_format format);
wh_log_level wh_log_level_get(void);
int wh_log_level_parse(const char *s, wh_log_level *ret);

#define wh_log(level, message, ...)                                                                   \
    do {                                                                                              \
        static wh_log_site site_;                                                                     \
        if (WH_LOG_##level <= wh_log_level_get())                                                     \
            wh_log_(&site_, WH_LOG_##level, message, (const wh_kv[]){__VA_ARGS__ __VA_OPT__(, ){0}}); \
    } while (0)
void wh_log_(wh_log_site *site, wh_log_level level, const char *message, const wh_kv *pairs);
