/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the HTTP/1 codec. */
#pragma once

#include "http/h1.h"

enum {
    H1_START,      /* between two messages */
    H1_HEAD,       /* inside a head */
    H1_HEAD_CR,    /* after a CR inside a head */
    H1_BODY,       /* `left` bytes of a body of known length */
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

/* Sets what the answer to a refused request is; always -EBADMSG. */
int wh_h1_refuse(wh_h1 *h, int status, const char *rule);
/* Parses h->head, which ends in CRLFCRLF, into the public members and decides how the body is framed. */
int wh_h1_parse_head(wh_h1 *h);
/* Parses the field lines in [p, p + n), each with its CRLF, appending to *fields. Names become lower case in place. */
int wh_h1_parse_fields(wh_h1 *h, char *p, size_t n, bool trailer);
/* "1f;name=value" without CRLF. */
int wh_h1_parse_chunk_line(wh_h1 *h, const char *p, size_t n, uint64_t *ret_size);

/* Which alphabets a byte belongs to. */
#define H1_TOKEN 1u /* RFC 9110 5.6.2: tchar */
#define H1_VALUE 2u /* VCHAR, SP, HTAB, obs-text */
#define H1_HOST 4u  /* of host [":" port], brackets and percent-encoding included */
extern const uint8_t wh_h1_alphabet[256];

static inline bool wh_h1_is(char c, unsigned alphabet)
{
    return (wh_h1_alphabet[(unsigned char)c] & alphabet) != 0;
}
