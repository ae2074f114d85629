/* SPDX-License-Identifier: Apache-2.0 */
/* A line is made on the stack and leaves by one write(2), so that lines of many threads and processes do not
 * mix. A line that would be too long loses the tail of its longest values, never its form. */
#include "base/log.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>

#define LINE_MAX_BYTES 8192
#define TAIL_BYTES 160 /* kept free for what closes a line: "suppressed", brackets, newline */
#define SITE_LINES_MAX 20

static struct {
    const char *program;
    int fd;
    wh_log_level level;
    bool json, journal;
} config = {.program = "wherry", .fd = STDERR_FILENO, .level = WH_LOG_INFO};
static pthread_mutex_t sites_lock = PTHREAD_MUTEX_INITIALIZER;

static const char *const level_names[] = {"error", "warn", "info", "debug"};

/* systemd says with JOURNAL_STREAM=device:inode which stream is its own; another descriptor may lead
 * elsewhere. */
static bool is_journal(int fd)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat st;
    char mine[48];
    if (stream == NULL || fstat(fd, &st) < 0)
        return false;
    (void)snprintf(mine, sizeof(mine), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    return strcmp(mine, stream) == 0;
}

void wh_log_setup(const char *program, int fd, wh_log_level level, wh_log_format format)
{
    config.program = program;
    config.fd = fd;
    config.level = level;
    config.journal = is_journal(fd);
    config.json = format == WH_LOG_JSON || (format == WH_LOG_AUTO && !config.journal && !isatty(fd));
}

wh_log_level wh_log_level_get(void)
{
    return config.level;
}

int wh_log_level_parse(const char *s, wh_log_level *ret)
{
    for (size_t i = 0; i < WH_ARRAY_LEN(level_names); i++) {
        if (wh_streq(s, level_names[i])) {
            *ret = (wh_log_level)i;
            return 0;
        }
    }
    return -EINVAL;
}

typedef struct line {
    char p[LINE_MAX_BYTES];
    size_t n, limit;
} line;

/* Appends all of it or nothing. */
static bool put(line *l, const char *s, size_t n)
{
    if (n > l->limit - l->n)
        return false;
    memcpy(l->p + l->n, s, n);
    l->n += n;
    return true;
}

static bool puts_(line *l, const char *s)
{
    return put(l, s, strlen(s));
}

/* The escape for a byte that may not stand as it is inside quotes; NULL when it may. */
static const char *escape(unsigned char c, bool json, char out[8])
{
    switch (c) {
    case '"':
        return "\\\"";
    case '\\':
        return "\\\\";
    case '\n':
        return "\\n";
    case '\t':
        return "\\t";
    case '\r':
        return "\\r";
    default:
        if (c >= 0x20 && c != 0x7f)
            return NULL;
        (void)snprintf(out, 8, json ? "\\u%04x" : "\\x%02x", c);
        return out;
    }
}

/* C1 controls (U+0080..U+009F) steer terminals as the C0 ones do. */
static bool is_c1(const char *p, size_t len)
{
    return len == 2 && (unsigned char)p[0] == 0xc2 && (unsigned char)p[1] < 0xa0;
}

static void put_escaped(line *l, const char *s, size_t max)
{
    size_t n = strlen(s);
    size_t start = l->n;
    for (size_t i = 0; i < n;) {
        char text[8];
        const char *esc = escape((unsigned char)s[i], config.json, text);
        size_t len = wh_utf8_length(s + i, n - i);
        bool fits;
        if (esc != NULL)
            fits = puts_(l, esc);
        else if (len == 0 || is_c1(s + i, len))
            fits = puts_(l, "\xef\xbf\xbd"); /* U+FFFD */
        else
            fits = put(l, s + i, len);
        if (!fits || l->n - start > max) {
            l->limit += 3; /* out of TAIL_BYTES */
            (void)puts_(l, "...");
            return;
        }
        i += len == 0 ? 1 : len;
    }
}

static bool is_plain(const char *s)
{
    if (*s == '\0')
        return false;
    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;
        if (c <= 0x20 || c >= 0x7f || c == '"' || c == '\\' || c == '=')
            return false;
    }
    return true;
}

static void put_quoted(line *l, const char *s)
{
    size_t room = l->limit - l->n;
    (void)puts_(l, "\"");
    put_escaped(l, s, room);
    l->limit++; /* out of TAIL_BYTES, as room may have run out */
    (void)puts_(l, "\"");
}

static void put_value(line *l, const wh_kv *kv)
{
    char text[40] = "";
    switch (kv->kind) {
    case WH_KV_STR:
        if (kv->s == NULL)
            (void)puts_(l, config.json ? "null" : "-");
        else if (!config.json && is_plain(kv->s))
            put_escaped(l, kv->s, l->limit - l->n);
        else
            put_quoted(l, kv->s);
        return;
    case WH_KV_INT:
        (void)snprintf(text, sizeof(text), "%" PRId64, kv->i);
        break;
    case WH_KV_BOOL:
        (void)snprintf(text, sizeof(text), "%s", kv->i != 0 ? "true" : "false");
        break;
    case WH_KV_SECRET:
        (void)snprintf(text, sizeof(text), config.json ? "\"<%zu bytes>\"" : "<%zu bytes>",
                       kv->s == NULL ? (size_t)0 : strlen(kv->s));
        break;
    }
    (void)puts_(l, text);
}

static void put_pair(line *l, const wh_kv *kv)
{
    /* A pair that has no room for its key and a short value is left out as a whole. */
    if (l->limit - l->n < 2 * strlen(kv->key) + 48)
        return;
    (void)puts_(l, config.json ? "," : " ");
    if (config.json) {
        put_quoted(l, kv->key);
        (void)puts_(l, ":");
    } else {
        (void)puts_(l, kv->key);
        (void)puts_(l, "=");
    }
    put_value(l, kv);
}

static void put_head(line *l, wh_log_level level, const char *message)
{
    static const char *const padded[] = {"ERROR ", "WARN  ", "INFO  ", "DEBUG "};
    static const char *const priorities[] = {"<3>", "<4>", "<6>", "<7>"};
    char stamp[WH_RFC3339_LEN];
    (void)wh_rfc3339(wh_real_now(), 6, stamp);
    if (config.json) {
        (void)puts_(l, "{\"time\":\"");
        (void)puts_(l, stamp);
        (void)puts_(l, "\",\"level\":\"");
        (void)puts_(l, level_names[level]);
        (void)puts_(l, "\",\"program\":");
        put_quoted(l, config.program);
        (void)puts_(l, ",\"msg\":");
        put_quoted(l, message);
        return;
    }
    if (config.journal) { /* the journal has its own time and level */
        (void)puts_(l, priorities[level]);
    } else {
        (void)puts_(l, stamp);
        (void)puts_(l, " ");
        (void)puts_(l, padded[level]);
    }
    put_escaped(l, message, LINE_MAX_BYTES / 2);
}

/* Whether the site may speak now; *ret_suppressed is what it had to swallow before. */
static bool site_admit(wh_log_site *site, uint32_t *ret_suppressed)
{
    bool admitted = true;
    wh_time now = wh_mono_now();
    (void)pthread_mutex_lock(&sites_lock);
    if (site->window == 0 || now - site->window >= WH_SEC) {
        site->window = now;
        site->count = 0;
    }
    if (++site->count > SITE_LINES_MAX) {
        site->suppressed++;
        admitted = false;
    } else {
        *ret_suppressed = site->suppressed;
        site->suppressed = 0;
    }
    (void)pthread_mutex_unlock(&sites_lock);
    return admitted;
}

void wh_log_(wh_log_site *site, wh_log_level level, const char *message, const wh_kv *pairs)
{
    uint32_t suppressed = 0;
    if (!site_admit(site, &suppressed))
        return;
    int saved = errno;
    line l;
    l.n = 0;
    l.limit = sizeof(l.p) - TAIL_BYTES;
    put_head(&l, level, message);
    for (const wh_kv *kv = pairs; kv->key != NULL; kv++)
        put_pair(&l, kv);
    l.limit = sizeof(l.p);
    if (suppressed > 0)
        put_pair(&l, &KV_INT("suppressed", suppressed));
    (void)puts_(&l, config.json ? "}\n" : "\n");
    ssize_t written;
    do {
        written = write(config.fd, l.p, l.n);
    } while (written < 0 && errno == EINTR); /* a log that is gone is nobody's error */
    errno = saved;
}
