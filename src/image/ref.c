/* SPDX-License-Identifier: Apache-2.0 */
/* Image references: [host[:port]/]path[:tag][@digest], as the distribution specification and Docker read
 * them. */
#include "image/digest.h"
#include "image/image.h"

#include <ctype.h>

#define NAME_MAX_BYTES 255 /* host and path together */
#define TAG_MAX_BYTES 128
#define DEFAULT_HOST "docker.io"
#define DIGITS_AND_LETTERS "abcdefghijklmnopqrstuvwxyz0123456789"

static int refuse(wh_err *err, const char *text, const char *why)
{
    return wh_fail(err, -EINVAL, "image reference '%.120s': %s", text, why);
}

/* The first part of a name is a host only when it cannot be a path on the default registry. */
static bool looks_like_host(const char *s, size_t n)
{
    return memchr(s, '.', n) != NULL || memchr(s, ':', n) != NULL ||
           (n == 9 && memcmp(s, "localhost", n) == 0);
}

/* complexity: one grammar, read from left to right. */
static bool host_valid(const char *host)
{
    const char *port = strrchr(host, ':');
    size_t n = port == NULL ? strlen(host) : (size_t)(port - host);
    if (host[0] == '[') {
        const char *end = strchr(host, ']');
        if (end == NULL || end - host < 3 || (end[1] != '\0' && end[1] != ':'))
            return false;
        if (strspn(host + 1, "0123456789abcdefABCDEF:.") != (size_t)(end - host) - 1)
            return false;
        port = end[1] == ':' ? end + 1 : NULL;
        n = 0;
    }
    for (size_t i = 0; i < n; i++) {
        bool edge = i == 0 || i + 1 == n || host[i - 1] == '.' || host[i + 1] == '.';
        if (!isalnum((unsigned char)host[i]) && (edge || (host[i] != '-' && host[i] != '.')))
            return false;
    }
    uint64_t number;
    return (n > 0 || host[0] == '[') &&
           (port == NULL || (wh_parse_u64(port + 1, 65535, &number) == 0 && number > 0));
}

/* One component: letters and digits, joined by ".", "_", "__" or any number of dashes. */
static bool component_valid(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n) {
        size_t word = strspn(s + i, DIGITS_AND_LETTERS);
        if (word == 0 || i + word > n)
            return false;
        i += word;
        if (i == n)
            return true;
        size_t dashes = strspn(s + i, "-");
        if (dashes > 0)
            i += dashes;
        else if (s[i] == '.')
            i++;
        else if (s[i] == '_')
            i += s[i + 1] == '_' ? 2 : 1;
        else
            return false;
    }
    return false;
}

static bool path_valid(const char *path)
{
    for (const char *p = path;;) {
        size_t n = strcspn(p, "/");
        if (!component_valid(p, n))
            return false;
        if (p[n] == '\0')
            return true;
        p += n + 1;
    }
}

static bool tag_valid(const char *tag)
{
    size_t n = strlen(tag);
    if (n == 0 || n > TAG_MAX_BYTES || tag[0] == '.' || tag[0] == '-')
        return false;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)tag[i]) && strchr("_.-", tag[i]) == NULL)
            return false;
    return true;
}

/* Cuts "@digest" and ":tag" off the end of `name`. */
static int split_tail(const char *text, char *name, wh_ref *ref, wh_err *err)
{
    char *at = strchr(name, '@');
    if (at != NULL) {
        *at = '\0';
        if (!wh_digest_valid(at + 1))
            return refuse(err, text, "behind '@' stands no sha256 or sha512 digest in lower-case hex.");
        ref->digest = wh_xstrdup(at + 1);
    }
    char *slash = strrchr(name, '/');
    char *colon = strrchr(slash == NULL ? name : slash, ':');
    if (colon != NULL) {
        *colon = '\0';
        if (!tag_valid(colon + 1))
            return refuse(err, text, "the tag is not of letters, digits, '_', '.' and '-', 128 at most.");
        ref->tag = wh_xstrdup(colon + 1);
    }
    return 0;
}

static int split_name(const char *text, const char *name, wh_ref *ref, wh_err *err)
{
    const char *slash = strchr(name, '/');
    bool has_host = slash != NULL && looks_like_host(name, (size_t)(slash - name));
    const char *path = has_host ? slash + 1 : name;
    ref->host = has_host ? wh_xstrndup(name, (size_t)(slash - name)) : wh_xstrdup(DEFAULT_HOST);
    if (!host_valid(ref->host))
        return refuse(err, text, "the part before the first '/' is not a host name with an optional port.");
    if (wh_streq(ref->host, "index.docker.io")) {
        free(ref->host);
        ref->host = wh_xstrdup(DEFAULT_HOST);
    }
    if (!path_valid(path))
        return refuse(err, text,
                      "a name is of lower-case letters, digits and the separators '.', '_', '-', '/'.");
    bool official = wh_streq(ref->host, DEFAULT_HOST) && strchr(path, '/') == NULL;
    ref->repository = official ? wh_xasprintf("library/%s", path) : wh_xstrdup(path);
    if (strlen(ref->host) + 1 + strlen(ref->repository) > NAME_MAX_BYTES)
        return refuse(err, text, "the name is longer than 255 characters.");
    return 0;
}

int wh_ref_parse(const char *text, wh_ref *ret, wh_err *err)
{
    wh_ref ref = {0};
    if (strlen(text) > NAME_MAX_BYTES + 1 + TAG_MAX_BYTES + WH_DIGEST_TEXT_MAX)
        return refuse(err, text, "it is too long.");
    if (*text == '\0')
        return refuse(err, text, "it is empty.");
    auto_free char *name = wh_xstrdup(text);
    int rc = split_tail(text, name, &ref, err);
    if (rc == 0)
        rc = split_name(text, name, &ref, err);
    if (rc < 0) {
        wh_ref_done(&ref);
        return rc;
    }
    if (ref.tag == NULL && ref.digest == NULL)
        ref.tag = wh_xstrdup("latest");
    *ret = ref;
    return 0;
}

void wh_ref_done(wh_ref *ref)
{
    free(ref->host);
    free(ref->repository);
    free(ref->tag);
    free(ref->digest);
    *ref = (wh_ref){0};
}

char *wh_ref_text(const wh_ref *ref)
{
    return wh_xasprintf("%s/%s%s%s%s%s", ref->host, ref->repository, ref->tag == NULL ? "" : ":",
                        ref->tag == NULL ? "" : ref->tag, ref->digest == NULL ? "" : "@",
                        ref->digest == NULL ? "" : ref->digest);
}

const char *wh_ref_api_host(const wh_ref *ref)
{
    return wh_streq(ref->host, DEFAULT_HOST) ? "registry-1.docker.io" : ref->host;
}
