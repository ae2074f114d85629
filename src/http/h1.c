/* SPDX-License-Identifier: Apache-2.0 */
/* The feeder of the HTTP/1 request codec: finds the borders of heads, chunks and trailers, one byte class at a time, so
 * that every split of the input gives the same events. What is inside is the matter of h1_parse.c. RFC 9112. */
#include "http/h1_private.h"

const wh_h1_limits wh_h1_limits_default = {
    .line_bytes = WH_HTTP_LINE_BYTES_MAX,
    .head_bytes = WH_HTTP_HEAD_BYTES_MAX,
    .fields = WH_HTTP_FIELDS_MAX,
    .body_bytes = WH_HTTP_BODY_BYTES_MAX,
};

void wh_h1_init(wh_h1 *h, const wh_h1_limits *limits)
{
    *h = (wh_h1){.limits = limits == NULL ? wh_h1_limits_default : *limits, .state = H1_START};
    wh_buf_init(&h->head, h->limits.head_bytes);
    wh_buf_init(&h->tail, WH_HTTP_TRAILER_BYTES_MAX);
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
    wh_buf_reset(&h->head);
    wh_buf_reset(&h->tail);
    h->method = h->target = h->path = h->query = (wh_str){NULL, 0};
    h->n_fields = h->n_trailers = 0;
    h->chunked = h->has_length = h->keep_alive = h->expect_continue = h->upgrade = false;
    h->length = h->left = h->body_seen = 0;
    h->empty_lines = 0;
    h->in_line = true;
    h->state = H1_HEAD;
}

/* Bytes up to the next CR, LF or NUL. Eight at a time as long as none of them is a control character below 0x0e. */
static size_t plain_span(const char *p, size_t n)
{
    size_t i = 0;
    for (; i + sizeof(uint64_t) <= n; i += sizeof(uint64_t)) {
        uint64_t w;
        memcpy(&w, p + i, sizeof(w));
        if (((w - 0x0e0e0e0e0e0e0e0eu) & ~w & 0x8080808080808080u) != 0)
            break;
    }
    while (i < n && p[i] != '\r' && p[i] != '\n' && p[i] != '\0')
        i++;
    return i;
}

/* The line that just ended is empty: the head, or the trailer section, is complete. */
static bool ends_section(const wh_buf *b)
{
    return b->len == 2 || (b->len >= 4 && memcmp(b->p + b->len - 4, "\r\n\r\n", 4) == 0);
}

/* `text` of the n bytes are no line end. */
static int append_head(wh_h1 *h, const char *p, size_t n, size_t text)
{
    if (h->in_line && text > 0 && h->head.len + text > h->limits.line_bytes)
        return wh_h1_refuse(h, 414, "line-size");
    int r = wh_buf_append(&h->head, p, n);
    return r == -ENOBUFS ? wh_h1_refuse(h, 431, "head-size") : r;
}

/* RFC 9112 2.2: one empty line before the request line is passed over; a client that sends two is lost. */
static int end_head_line(wh_h1 *h)
{
    if (h->head.len == 2) {
        if (h->empty_lines++ > 0)
            return wh_h1_refuse(h, 400, "empty-lines");
        wh_buf_reset(&h->head);
        return 0;
    }
    h->in_line = false;
    if (!ends_section(&h->head))
        return 0;
    int r = wh_h1_parse_head(h);
    if (r < 0)
        return r;
    h->left = h->length;
    h->state = h->chunked ? H1_CHUNK_LINE : h->left > 0 ? H1_BODY : H1_ENDING;
    return 1;
}

/* The LF that must follow a CR. */
static int feed_head_lf(wh_h1 *h, const char *at)
{
    if (*at != '\n')
        return wh_h1_refuse(h, 400, "bare-cr");
    h->state = H1_HEAD;
    int r = append_head(h, at, 1, 0);
    return r < 0 ? r : end_head_line(h);
}

/* Text up to a line end, with the line end when it is there whole, or one CR. */
static int feed_head_text(wh_h1 *h, const char *at, size_t n, size_t *ret_took)
{
    size_t text = plain_span(at, n);
    bool line = n - text >= 2 && at[text] == '\r' && at[text + 1] == '\n';
    *ret_took = line ? text + 2 : text;
    if (text == 0 && !line) {
        if (*at != '\r')
            return wh_h1_refuse(h, 400, *at == '\n' ? "bare-lf" : "nul");
        h->state = H1_HEAD_CR;
        *ret_took = 1;
    }
    int r = append_head(h, at, *ret_took, text);
    return r < 0 || !line ? r : end_head_line(h);
}

/* Returns 1 when the head is complete. */
static int feed_head(wh_h1 *h, const char *p, size_t n, size_t *used)
{
    while (*used < n) {
        size_t took = 1;
        int r = h->state == H1_HEAD_CR ? feed_head_lf(h, p + *used)
                                       : feed_head_text(h, p + *used, n - *used, &took);
        if (r < 0)
            return r;
        *used += took;
        if (r > 0)
            return 1;
    }
    return 0;
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
    h->state = H1_TRAILERS;
    if (!ends_section(&h->tail))
        return 0;
    int r = wh_h1_parse_fields(h, h->tail.p, h->tail.len - 2, true);
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
        int r = wh_buf_putc(&h->tail, c);
        if (r == -ENOBUFS)
            return wh_h1_refuse(h, 400, "trailer-size");
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
        begin_message(h);
        return 0;
    case H1_HEAD:
    case H1_HEAD_CR:
        r = feed_head(h, p, n, used);
        event->kind = r > 0 ? WH_H1_HEAD : WH_H1_NONE;
        return r;
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
    while (event.kind == WH_H1_NONE && h->state != H1_ENDING && used < n) {
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
