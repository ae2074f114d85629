/* SPDX-License-Identifier: Apache-2.0 */
/* Digests: "sha256:" and 64 hex digits, or "sha512:" and 128, lower case. Other algorithms are refused. */
#pragma once

#include "base/str.h"

#define WH_DIGEST_TEXT_MAX 136 /* "sha512:" + 128 + NUL */

/* True when `text` has one of the two forms. */
bool wh_digest_valid(const char *text);
/* The hex digits of a valid digest. */
const char *wh_digest_hex(const char *digest);

typedef struct wh_hash wh_hash; /* a running digest */
/* By the algorithm of the digest `like`; NULL: sha256. */
int wh_hash_new(const char *like, wh_hash **ret, wh_err *err);
void wh_hash_add(wh_hash *hash, const void *data, size_t n);
/* Writes the text form; the hash can only be freed afterwards. */
void wh_hash_text(wh_hash *hash, char out[WH_DIGEST_TEXT_MAX]);
void wh_hash_free(wh_hash *hash);
WH_DEFINE_CLEANUP(wh_cleanup_hash, wh_hash *, wh_hash_free);
#define auto_hash __attribute__((cleanup(wh_cleanup_hash)))

/* The digest of bytes in memory, by the algorithm of `like`. */
int wh_digest_of(const char *like, const void *data, size_t n, char out[WH_DIGEST_TEXT_MAX], wh_err *err);
/* The digest of a file from its first byte; the descriptor's position does not matter and stays. */
int wh_digest_of_fd(const char *like, int fd, char out[WH_DIGEST_TEXT_MAX], wh_err *err);
