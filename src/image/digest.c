/* SPDX-License-Identifier: Apache-2.0 */
#include "image/digest.h"

#include <openssl/evp.h>

#define READ_STEP ((size_t)256 * 1024)

struct wh_hash {
    EVP_MD_CTX *ctx;
    const char *prefix;
};

static bool is_lower_hex(const char *s, size_t n)
{
    return strlen(s) == n && strspn(s, "0123456789abcdef") == n;
}

bool wh_digest_valid(const char *text)
{
    if (text == NULL)
        return false;
    if (wh_starts_with(text, "sha256:"))
        return is_lower_hex(text + 7, 64);
    return wh_starts_with(text, "sha512:") && is_lower_hex(text + 7, 128);
}

const char *wh_digest_hex(const char *digest)
{
    wh_assert(wh_digest_valid(digest));
    return digest + 7;
}

int wh_hash_new(const char *like, wh_hash **ret, wh_err *err)
{
    bool big = like != NULL && wh_starts_with(like, "sha512:");
    if (like != NULL && !wh_digest_valid(like))
        return wh_fail(err, -EINVAL, "'%.150s' is not a sha256 or sha512 digest.", like);
    auto_hash wh_hash *hash = wh_xnew(wh_hash);
    hash->prefix = big ? "sha512:" : "sha256:";
    hash->ctx = EVP_MD_CTX_new();
    if (hash->ctx == NULL || EVP_DigestInit_ex(hash->ctx, big ? EVP_sha512() : EVP_sha256(), NULL) != 1)
        return wh_fail(err, -ENOMEM, "start a digest");
    *ret = WH_TAKE(hash);
    return 0;
}

void wh_hash_add(wh_hash *hash, const void *data, size_t n)
{
    int ok = EVP_DigestUpdate(hash->ctx, data, n);
    wh_assert(ok == 1);
}

void wh_hash_text(wh_hash *hash, char out[WH_DIGEST_TEXT_MAX])
{
    uint8_t raw[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    int ok = EVP_DigestFinal_ex(hash->ctx, raw, &n);
    wh_assert(ok == 1);
    wh_assert(n <= 64);
    memcpy(out, hash->prefix, 7);
    wh_hex(raw, n, out + 7);
}

void wh_hash_free(wh_hash *hash)
{
    if (hash == NULL)
        return;
    EVP_MD_CTX_free(hash->ctx);
    free(hash);
}

int wh_digest_of(const char *like, const void *data, size_t n, char out[WH_DIGEST_TEXT_MAX], wh_err *err)
{
    auto_hash wh_hash *hash = NULL;
    int rc = wh_hash_new(like, &hash, err);
    if (rc < 0)
        return rc;
    wh_hash_add(hash, data, n);
    wh_hash_text(hash, out);
    return 0;
}

int wh_digest_of_fd(const char *like, int fd, char out[WH_DIGEST_TEXT_MAX], wh_err *err)
{
    auto_hash wh_hash *hash = NULL;
    auto_free char *step = malloc(READ_STEP);
    int rc = wh_hash_new(like, &hash, err);
    if (rc < 0)
        return rc;
    if (step == NULL)
        return wh_fail(err, -ENOMEM, "compute a digest");
    for (off_t at = 0;;) {
        ssize_t n = pread(fd, step, READ_STEP, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return wh_fail(err, -errno, "read for a digest");
        if (n == 0)
            break;
        wh_hash_add(hash, step, (size_t)n);
        at += n;
    }
    wh_hash_text(hash, out);
    return 0;
}
