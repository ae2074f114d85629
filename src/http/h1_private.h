/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the HTTP/1 codec. */
#pragma once

#include "http/h1.h"

#include <endian.h>

enum {
    H1_START,      /* between two messages */
    H1_HEAD,       /* inside a head */
    H1_HEAD_CR,    /* after a CR inside a head */
    H1_BODY,       /* `left` bytes of a body of known length */
    H1_BODY_CLOSE, /* a body that lasts until the stream ends */
    H1_CHUNK_LINE, /* in a chunk-size line */
    H1_CHUNK_LINE_CR,
    H1_CHUNK_DATA,
    H1_CHUNK_DATA_CR, /* the CRLF behind a chunk */
    H1_CHUNK_DATA_LF,
    H1_TRAILERS,
    H1_TRAILERS_CR,
    H1_ENDING, /* END is due */
    H1_REFUSED,
};

/* Sets what the answer to a refused message is; always -EBADMSG. */
int wh_h1_refuse(wh_h1 *h, int status, const char *rule);
/* Bytes of memory that must follow what the two functions below parse, which reads words. */
#define H1_SLACK 16
/* Parses the head that h->head begins with into the public members, and decides how the body is framed. Either the
 * feeder found the head complete and its line ends sound, or nothing is known about it: then a refusal, of
 * whatever name, only says that it is not a whole and well-formed head. */
int wh_h1_parse_head(wh_h1 *h, size_t *ret_bytes);
/* The trailer section in h->tail. */
int wh_h1_parse_trailers(wh_h1 *h);
/* "1f;name=value" without CRLF. */
int wh_h1_parse_chunk_line(wh_h1 *h, const char *p, size_t n, uint64_t *ret_size);

/* Which alphabets a byte belongs to. */
#define H1_TOKEN 1u  /* RFC 9110 5.6.2: tchar */
#define H1_VALUE 2u  /* VCHAR, SP, HTAB, obs-text */
#define H1_HOST 4u   /* of host [":" port], brackets and percent-encoding included */
#define H1_TARGET 8u /* visible ASCII but '#' */
extern const uint8_t wh_h1_alphabet[256];
/* Of a byte of a field name in lower case; 0 for what is none. */
extern const char wh_h1_name_byte[256];

static inline bool wh_h1_is(char c, unsigned alphabet)
{
    return (wh_h1_alphabet[(unsigned char)c] & alphabet) != 0;
}

static inline bool wh_h1_str_is(wh_str s,
                                const char *lit) /* lit: a literal, so that this becomes a few words */
{
    size_t n = strlen(lit);
    return s.n == n && memcmp(s.p, lit, n) == 0;
}

static inline bool wh_h1_all(wh_str s, unsigned alphabet)
{
    unsigned common = alphabet;
    size_t i = 0;
    for (; s.n - i >= 4; i += 4) {
        const unsigned char *p = (const unsigned char *)s.p + i;
        common &= (unsigned)wh_h1_alphabet[p[0]] & wh_h1_alphabet[p[1]] & wh_h1_alphabet[p[2]] &
                  wh_h1_alphabet[p[3]];
    }
    for (; i < s.n; i++)
        common &= wh_h1_alphabet[(unsigned char)s.p[i]];
    return common != 0;
}

#define H1_EACH_BYTE(x) ((x)*0x0101010101010101u)

/* The high bit of each of the 8 bytes that is a control character or DEL; exact up to the first one. */
static inline uint64_t wh_h1_controls(const char *p)
{
    uint64_t w;
    memcpy(&w, p, sizeof(w));
    w = le64toh(w);
    uint64_t below_blank = w - H1_EACH_BYTE(0x20u);
    uint64_t delete = (w ^ H1_EACH_BYTE(0x7fu)) - H1_EACH_BYTE(0x01u);
    return (below_blank | delete) & ~w & H1_EACH_BYTE(0x80u);
}
