/* SPDX-License-Identifier: Apache-2.0 */
/* The feeder of the HTTP/1 codec: finds the borders of heads, chunks and trailers, one byte class at a time, so that
 * every split of the input gives the same events. What is inside is the matter of h1_parse.c. RFC 9112. */
#include "http/h1_private.h"

#define EAGER_BYTES \
    ((size_t)1024) /* a head that comes whole and is no longer is parsed without looking for its end first */

const wh_h1_limits wh_h1_limits_default = {
    .line_bytes = WH_HTTP_LINE_BYTES_MAX,
    .head_bytes = WH_HTTP_HEAD_BYTES_MAX,
    .fields = WH_HTTP_FIELDS_MAX,
    .body_bytes = WH_HTTP_BODY_BYTES_MAX,
};

const wh_h1_limits wh_h1_limits_response = {
    .line_bytes = WH_HTTP_LINE_BYTES_MAX,
    .head_bytes = WH_HTTP_HEAD_BYTES_MAX,
    .fields = WH_HTTP_FIELDS_MAX,
    .body_bytes = INT64_MAX,
};

void wh_h1_init(wh_h1 *h, const wh_h1_limits *limits)
{
    *h = (wh_h1){.limits = limits == NULL ? wh_h1_limits_default : *limits, .state = H1_START};
    wh_buf_init(&h->head, WH_MAX(h->limits.head_bytes, EAGER_BYTES) + H1_SLACK);
    wh_buf_init(&h->tail, WH_HTTP_TRAILER_BYTES_MAX + H1_SLACK);
}

void wh_h1_init_response(wh_h1 *h, const wh_h1_limits *limits)
{
    wh_h1_init(h, limits == NULL ? &wh_h1_limits_response : limits);
    h->response = true;
}

void wh_h1_asked_for(wh_h1 *h, wh_h1_asked asked)
{
    h->asked = asked;
}

void wh_h1_done(wh_h1 *h)
{
    wh_buf_done(&h->head);
    wh_buf_done(&h->tail);
    free(h->fields);
    free(h->trailers);
    h->fields = h->trailers = NULL;
    h->n_fields = h->n_trailers = h->fields_cap = h->trailers_cap = 0;
}

bool wh_h1_idle(const wh_h1 *h)
{
    return h->state == H1_START;
}

static void begin_message(wh_h1 *h)
{
    h->head.len = h->tail.len = 0;
    h->head.failed = h->tail.failed = false;
    h->n_fields = h->n_trailers = 0;
    h->chunked = h->has_length = h->until_close = h->keep_alive = h->expect_continue = h->upgrade = false;
    h->length = h->left = h->body_seen = 0;
    h->empty_lines = h->line_bytes = 0;
    h->in_line = true;
    h->state = H1_HEAD;
}

/* Bytes up to the next CR, LF or NUL. */
static size_t plain_span(const char *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        if (n - i >= sizeof(uint64_t)) {
            uint64_t controls = wh_h1_controls(p + i);
            if (controls == 0) {
                i += sizeof(uint64_t);
                continue;
            }
            i += (size_t)__builtin_ctzll(controls) / 8;
        }
        if (p[i] == '\r' || p[i] == '\n' || p[i] == '\0')
            return i;
        i++;
    }
    return n;
}

static void begin_body(wh_h1 *h)
{
    if (h->chunked)
        h->state = H1_CHUNK_LINE;
    else if (h->until_close)
        h->state = H1_BODY_CLOSE;
    else
        h->state = h->length > 0 ? H1_BODY : H1_ENDING;
    h->left = h->length;
}

/* The usual case: the whole of a small head is there, and nothing is wrong with it. Returns how long it is, and 0 when
 * it is not so: then the message is where it began, and the long way below says what is missing or wrong. */
static size_t try_whole_head(wh_h1 *h, const char *p, size_t n)
{
    n = WH_MIN(n, EAGER_BYTES);
    if (h->head.cap < EAGER_BYTES + H1_SLACK && wh_buf_reserve(&h->head, EAGER_BYTES + H1_SLACK) < 0)
        return 0; /* the long way says so */
    memcpy(h->head.p, p, n);
    h->head.p[n] = '\0';
    h->head.len = n;
    size_t bytes = 0;
    if (wh_h1_parse_head(h, &bytes) == 0 && bytes <= h->limits.line_bytes && bytes <= h->limits.head_bytes) {
        h->head.len = bytes;
        begin_body(h);
        return bytes;
    }
    h->status = 0;
    h->rule = NULL;
    begin_message(h);
    return 0;
}

/* Where the feeder is in a head: [from, at) is looked at, but not yet in h->head. Copying waits until the head is
 * complete or the input ends: one copy for a head that comes whole. */
typedef struct cursor {
    const char *from, *at, *end;
} cursor;

/* Text lengthens the line; it and line ends lengthen the head. */
static int check_sizes(wh_h1 *h, const cursor *k, size_t text)
{
    h->line_bytes += text;
    if (h->in_line && text > 0 && h->line_bytes > h->limits.line_bytes)
        return wh_h1_refuse(h, 414, "line-size");
    if (h->head.len + (size_t)(k->at - k->from) > h->limits.head_bytes)
        return wh_h1_refuse(h, 431, "head-size");
    return 0;
}

static int copy_head(wh_h1 *h, cursor *k)
{
    int r = wh_buf_append(&h->head, k->from, (size_t)(k->at - k->from));
    k->from = k->at;
    return r;
}

/* Behind a CRLF. Returns 1 when the head is complete. RFC 9112 2.2: one empty line before the request line is passed
 * over; a client that sends two is lost. */
static int end_head_line(wh_h1 *h, cursor *k)
{
    bool empty = h->line_bytes == 0;
    h->line_bytes = 0;
    if (empty && h->in_line) {
        if (h->response || h->empty_lines++ > 0)
            return wh_h1_refuse(h, 400, "empty-lines");
        wh_buf_reset(&h->head);
        k->from = k->at;
        return 0;
    }
    h->in_line = false;
    if (!empty)
        return 0;
    int r = copy_head(h, k);
    if (r == 0)
        r = wh_buf_reserve(&h->head, H1_SLACK);
    size_t bytes = 0;
    if (r == 0)
        r = wh_h1_parse_head(h, &bytes);
    if (r < 0)
        return r;
    wh_assert(bytes == h->head.len);
    begin_body(h);
    return 1;
}

/* The end of the text of a line: its CR, when it is one. */
static int feed_head_cr(wh_h1 *h, cursor *k, size_t text)
{
    k->at += text;
    int r = check_sizes(h, k, text);
    if (r < 0 || k->at == k->end)
        return r;
    if (*k->at != '\r')
        return wh_h1_refuse(h, 400, *k->at == '\n' ? "bare-lf" : "nul");
    k->at++;
    h->state = H1_HEAD_CR;
    return check_sizes(h, k, 0);
}

/* The LF that must follow a CR. */
static int feed_head_lf(wh_h1 *h, cursor *k)
{
    if (*k->at != '\n')
        return wh_h1_refuse(h, 400, "bare-cr");
    k->at++;
    h->state = H1_HEAD;
    int r = check_sizes(h, k, 0);
    return r < 0 ? r : end_head_line(h, k);
}

/* Returns 1 when the head is complete. */
static int feed_head(wh_h1 *h, const char *p, size_t n, size_t *used)
{
    cursor k = {p + *used, p + *used, p + n};
    int r = 0;
    while (r == 0 && k.at < k.end) {
        if (h->state == H1_HEAD_CR)
            r = feed_head_lf(h, &k);
        else
            r = feed_head_cr(h, &k, plain_span(k.at, (size_t)(k.end - k.at)));
    }
    if (r == 0)
        r = copy_head(h, &k);
    if (r >= 0)
        *used = (size_t)(k.at - p);
    return r;
}

/* The first bytes of a message. Returns 1 when its head is complete. */
static int feed_first(wh_h1 *h, const char *p, size_t n, size_t *used)
{
    begin_message(h);
    size_t bytes = try_whole_head(h, p + *used, n - *used);
    *used += bytes;
    return bytes > 0 ? 1 : feed_head(h, p, n, used);
}

static int end_chunk_line(wh_h1 *h)
{
    uint64_t size = 0;
    int r = wh_h1_parse_chunk_line(h, wh_buf_str(&h->tail), h->tail.len, &size);
    if (r < 0)
        return r;
    wh_buf_reset(&h->tail);
    if (size == 0) {
        h->state = H1_TRAILERS;
        return 0;
    }
    if (size > h->limits.body_bytes - h->body_seen)
        return wh_h1_refuse(h, 413, "body-size");
    h->body_seen += size;
    h->left = size;
    h->state = H1_CHUNK_DATA;
    return 0;
}

static int feed_chunk_line(wh_h1 *h, const char *p, size_t n, size_t *used)
{
    while (*used < n) {
        char c = p[*used];
        int r = 0;
        if (h->state == H1_CHUNK_LINE_CR) {
            r = c == '\n' ? end_chunk_line(h) : wh_h1_refuse(h, 400, "bare-cr");
            *used += r == 0;
            return r;
        }
        if (c == '\r')
            h->state = H1_CHUNK_LINE_CR;
        else if (c == '\n' || c == '\0')
            r = wh_h1_refuse(h, 400, c == '\n' ? "bare-lf" : "nul");
        else if (h->tail.len >= WH_HTTP_CHUNK_LINE_MAX)
            r = wh_h1_refuse(h, 400, "chunk-line-size");
        else
            r = wh_buf_putc(&h->tail, c);
        if (r < 0)
            return r;
        ++*used;
    }
    return 0;
}

/* Returns 1 when there were trailers to tell of. */
static int end_trailer_line(wh_h1 *h)
{
    const wh_buf *b = &h->tail;
    h->state = H1_TRAILERS;
    if (b->len != 2 && (b->len < 4 || memcmp(b->p + b->len - 4, "\r\n\r\n", 4) != 0))
        return 0; /* the line that just ended is not empty */
    int r = wh_buf_reserve(&h->tail, H1_SLACK);
    if (r == 0)
        r = wh_h1_parse_trailers(h);
    if (r < 0)
        return r;
    h->state = H1_ENDING;
    return h->n_trailers > 0;
}

static int feed_trailers(wh_h1 *h, const char *p, size_t n, size_t *used)
{
    while (*used < n && (h->state == H1_TRAILERS || h->state == H1_TRAILERS_CR)) {
        char c = p[*used];
        bool after_cr = h->state == H1_TRAILERS_CR;
        if (after_cr != (c == '\n') || c == '\0')
            return wh_h1_refuse(h, 400, c == '\0' ? "nul" : after_cr ? "bare-cr" : "bare-lf");
        if (h->tail.len >= WH_HTTP_TRAILER_BYTES_MAX)
            return wh_h1_refuse(h, 400, "trailer-size");
        int r = wh_buf_putc(&h->tail, c);
        if (r == 0 && c == '\n')
            r = end_trailer_line(h);
        else if (c == '\r')
            h->state = H1_TRAILERS_CR;
        if (r < 0)
            return r;
        ++*used;
        if (r > 0)
            return 1;
    }
    return 0;
}

static int feed_body_close(wh_h1 *h, const char *p, size_t n, size_t *used, wh_h1_event *event)
{
    size_t take = (size_t)WH_MIN((uint64_t)(n - *used), h->limits.body_bytes - h->body_seen);
    if (take == 0)
        return wh_h1_refuse(h, 413, "body-size");
    *event = (wh_h1_event){WH_H1_BODY, {p + *used, take}};
    *used += take;
    h->body_seen += take;
    return 0;
}

static void feed_body(wh_h1 *h, const char *p, size_t n, size_t *used, wh_h1_event *event)
{
    size_t take = (size_t)WH_MIN((uint64_t)(n - *used), h->left);
    *event = (wh_h1_event){WH_H1_BODY, {p + *used, take}};
    *used += take;
    h->left -= take;
    if (h->left == 0)
        h->state = h->chunked ? H1_CHUNK_DATA_CR : H1_ENDING;
}

/* The CRLF behind a chunk's data. */
static int feed_chunk_end(wh_h1 *h, char c)
{
    if (h->state == H1_CHUNK_DATA_CR) {
        if (c != '\r')
            return wh_h1_refuse(h, 400, "chunk-end");
        h->state = H1_CHUNK_DATA_LF;
        return 0;
    }
    if (c != '\n')
        return wh_h1_refuse(h, 400, "chunk-end");
    h->state = H1_CHUNK_LINE;
    return 0;
}

/* One step of the machine. 0: go on while bytes are left or *event is NONE. */
static int step(wh_h1 *h, const char *p, size_t n, size_t *used, wh_h1_event *event)
{
    int r = 0;
    switch (h->state) {
    case H1_START:
        r = feed_first(h, p, n, used);
        event->kind = r > 0 ? WH_H1_HEAD : WH_H1_NONE;
        return r;
    case H1_HEAD:
    case H1_HEAD_CR:
        r = feed_head(h, p, n, used);
        event->kind = r > 0 ? WH_H1_HEAD : WH_H1_NONE;
        return r;
    case H1_BODY_CLOSE:
        return feed_body_close(h, p, n, used, event);
    case H1_BODY:
    case H1_CHUNK_DATA:
        feed_body(h, p, n, used, event);
        return 0;
    case H1_CHUNK_LINE:
    case H1_CHUNK_LINE_CR:
        return feed_chunk_line(h, p, n, used);
    case H1_CHUNK_DATA_CR:
    case H1_CHUNK_DATA_LF:
        r = feed_chunk_end(h, p[*used]);
        *used += r == 0;
        return r;
    case H1_TRAILERS:
    case H1_TRAILERS_CR:
        r = feed_trailers(h, p, n, used);
        event->kind = r > 0 ? WH_H1_TRAILERS : WH_H1_NONE;
        return r;
    default:
        return -EBADMSG;
    }
}

int wh_h1_feed(wh_h1 *h, const void *p, size_t n, size_t *ret_used, wh_h1_event *ret_event)
{
    size_t used = 0;
    wh_h1_event event = {WH_H1_NONE, {NULL, 0}};
    if (h->state == H1_REFUSED)
        return -EBADMSG;
    while (used < n && h->state != H1_ENDING && event.kind == WH_H1_NONE) {
        int r = step(h, p, n, &used, &event);
        if (r < 0)
            return r;
    }
    if (event.kind == WH_H1_NONE && h->state == H1_ENDING) {
        event.kind = WH_H1_END;
        h->state = H1_START;
    }
    *ret_used = used;
    *ret_event = event;
    return 0;
}

int wh_h1_eof(wh_h1 *h, wh_h1_event *ret_event)
{
    wh_h1_event event = {WH_H1_NONE, {NULL, 0}};
    if (h->state == H1_REFUSED)
        return -EBADMSG;
    if (h->state == H1_BODY_CLOSE || h->state == H1_ENDING) {
        event.kind = WH_H1_END;
        h->state = H1_START;
    } else if (h->state != H1_START) {
        return wh_h1_refuse(h, 400, "truncated");
    }
    *ret_event = event;
    return 0;
}
