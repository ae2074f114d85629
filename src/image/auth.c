/* SPDX-License-Identifier: Apache-2.0 */
#include "image/auth.h"

#include "base/buf.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/yaml.h"

#include <ctype.h>
#include <fnmatch.h>
#include <stdlib.h>

static bool is_token_char(char c)
{
    return isalnum((unsigned char)c) || (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static const char *skip_space(const char *p)
{
    return p + strspn(p, " \t");
}

static size_t token_length(const char *p)
{
    size_t n = 0;
    while (is_token_char(p[n]))
        n++;
    return n;
}

/* A token or a quoted string at p; returns what follows, or NULL when it is malformed. */
static const char *read_value(const char *p, char **ret)
{
    if (*p != '"') {
        size_t n = token_length(p);
        if (n == 0)
            return NULL;
        *ret = wh_xstrndup(p, n);
        return p + n;
    }
    auto_buf wh_buf text;
    wh_buf_init(&text, WH_CHALLENGE_BYTES_MAX);
    for (p++; *p != '"'; p++) {
        if (*p == '\\')
            p++;
        if (*p == '\0' || (unsigned char)*p < 0x20)
            return NULL;
        (void)wh_buf_putc(&text, *p);
    }
    *ret = wh_xstrdup(wh_buf_str(&text));
    return p + 1;
}

static void keep_parameter(wh_challenge *c, const char *name, size_t n, char *value)
{
    char **target = NULL;
    if (n == 5 && strncasecmp(name, "realm", n) == 0)
        target = &c->realm;
    else if (n == 7 && strncasecmp(name, "service", n) == 0)
        target = &c->service;
    else if (n == 5 && strncasecmp(name, "scope", n) == 0)
        target = &c->scope;
    if (target != NULL && *target == NULL)
        *target = value;
    else
        free(value);
}

/* Parameters up to the next scheme. Returns where that begins, or NULL when something is malformed. */
static const char *read_parameters(const char *p, wh_challenge *c)
{
    for (;;) {
        p += strspn(p, " \t,");
        size_t n = token_length(p);
        if (n == 0)
            return *p == '\0' ? p : NULL;
        const char *equals = skip_space(p + n);
        if (*equals != '=')
            return p; /* a scheme */
        char *value = NULL;
        const char *next = read_value(skip_space(equals + 1), &value);
        if (next == NULL)
            return NULL;
        keep_parameter(c, p, n, value);
        p = skip_space(next);
        if (*p != '\0' && *p != ',')
            return NULL;
    }
}

/* complexity: schemes and refusals of one list. */
int wh_challenge_parse(const char *value, wh_challenge *ret, wh_err *err)
{
    wh_challenge best = {0};
    if (strlen(value) > WH_CHALLENGE_BYTES_MAX)
        return wh_fail(err, -EBADMSG, "WWW-Authenticate is longer than %d bytes.", WH_CHALLENGE_BYTES_MAX);
    const char *p = value + strspn(value, " \t,");
    while (p != NULL && *p != '\0') {
        wh_challenge c = {0};
        size_t n = token_length(p);
        if (n == 6 && strncasecmp(p, "Bearer", n) == 0)
            c.scheme = WH_AUTH_BEARER;
        else if (n == 5 && strncasecmp(p, "Basic", n) == 0)
            c.scheme = WH_AUTH_BASIC;
        p = n == 0 ? NULL : read_parameters(p + n, &c);
        bool better = p != NULL && c.scheme > best.scheme;
        wh_challenge_done(better ? &best : &c);
        if (better)
            best = c;
    }
    if (p != NULL && best.scheme != WH_AUTH_NONE && (best.scheme != WH_AUTH_BEARER || best.realm != NULL)) {
        *ret = best;
        return 0;
    }
    bool unknown = p != NULL && best.scheme == WH_AUTH_NONE;
    wh_challenge_done(&best);
    if (unknown)
        return wh_fail(err, -ENOTSUP, "the registry asks for '%.60s'; Basic and Bearer are known.", value);
    return wh_fail(err, -EBADMSG, "WWW-Authenticate is malformed: '%.80s'.", value);
}

void wh_challenge_done(wh_challenge *c)
{
    free(c->realm);
    free(c->service);
    free(c->scope);
    *c = (wh_challenge){0};
}

/* "user:password" in base64, with or without line feeds and padding NULs that some tools add. */
static int decode_auth(const char *auth, wh_credential *c, wh_err *err)
{
    uint8_t *raw = NULL;
    size_t n = 0;
    if (wh_unbase64(auth, strlen(auth), &raw, &n) < 0)
        return wh_fail(err, -EBADMSG, "docker config: 'auth' of '%.80s' is not base64.", c->key);
    auto_free char *text = wh_xstrndup((const char *)raw, n);
    explicit_bzero(raw, n);
    free(raw);
    char *colon = strchr(text, ':');
    if (colon == NULL)
        return wh_fail(err, -EBADMSG, "docker config: 'auth' of '%.80s' holds no 'user:password'.", c->key);
    *colon = '\0';
    free(c->username);
    free(c->password);
    c->username = wh_xstrdup(text);
    c->password = wh_xstrdup(colon + 1);
    explicit_bzero(colon + 1, strlen(colon + 1));
    return 0;
}

static char *copy_or_null(const char *s)
{
    return s == NULL || *s == '\0' ? NULL : wh_xstrdup(s);
}

static void wipe(char *secret)
{
    if (secret != NULL)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

static void credential_done(wh_credential *c)
{
    free(c->key);
    free(c->username);
    wipe(c->password);
    wipe(c->identity_token);
    *c = (wh_credential){0};
}

static int credential_parse(const char *key, const json_t *j, wh_credential *c, wh_err *err)
{
    if (!json_is_object(j))
        return wh_fail(err, -EBADMSG, "docker config: '%.80s' is not an object.", key);
    c->key = wh_xstrdup(key);
    c->username = copy_or_null(wh_json_str(j, "username"));
    c->password = copy_or_null(wh_json_str(j, "password"));
    c->identity_token = copy_or_null(wh_json_str(j, "identitytoken"));
    const char *auth = wh_json_str(j, "auth");
    return auth != NULL && *auth != '\0' ? decode_auth(auth, c, err) : 0;
}

int wh_credentials_parse(const char *data, size_t n, wh_credential **list, size_t *n_list, wh_err *err)
{
    auto_json json_t *j = NULL;
    if (n > WH_DOCKER_CONFIG_BYTES_MAX)
        return wh_fail(err, -EFBIG, "docker config: %zu bytes; %lu are allowed.", n,
                       WH_DOCKER_CONFIG_BYTES_MAX);
    int rc =
        wh_json_parse(data, n, &j, NULL); /* jansson quotes the text near an error: it may be a password */
    if (rc < 0 || !json_is_object(j))
        return wh_fail(err, -EBADMSG, "docker config: it is not a JSON object.");
    json_t *auths = json_object_get(j, "auths"), *value;
    /* A .dockercfg is the inner map; a config.json without "auths" has members that are no objects with
     * credentials. */
    bool modern = auths != NULL || json_object_get(j, "credHelpers") != NULL ||
                  json_object_get(j, "credsStore") != NULL;
    json_t *map = modern ? auths : j;
    const char *key;
    if (map == NULL || json_is_null(map))
        return 0;
    if (!json_is_object(map))
        return wh_fail(err, -EBADMSG, "docker config: 'auths' is not an object.");
    size_t count = *n_list;
    wh_credential *grown = calloc(count + json_object_size(map) + 1, sizeof(*grown));
    if (grown == NULL)
        return wh_fail(err, -ENOMEM, "docker config");
    if (count > 0)
        memcpy(grown, *list, count * sizeof(*grown));
    rc = 0;
    json_object_foreach(map, key, value)
    {
        rc = credential_parse(key, value, &grown[count++], err);
        if (rc < 0)
            break;
    }
    if (rc < 0) {
        for (size_t i = *n_list; i < count; i++)
            credential_done(&grown[i]);
        free(grown);
        return rc;
    }
    free(*list);
    *list = grown;
    *n_list = count;
    return 0;
}

void wh_credentials_free(wh_credential *list, size_t n_list)
{
    for (size_t i = 0; i < n_list; i++)
        credential_done(&list[i]);
    free(list);
}

/* A key without its scheme and API version: "https://index.docker.io/v1/" is "index.docker.io". */
static char *normal_key(const char *key)
{
    if (strncasecmp(key, "https://", 8) == 0)
        key += 8;
    else if (strncasecmp(key, "http://", 7) == 0)
        key += 7;
    const char *slash = strchr(key, '/');
    size_t host = slash == NULL ? strlen(key) : (size_t)(slash - key);
    const char *path = slash == NULL ? "" : slash;
    if (wh_streq(path, "/v1") || wh_streq(path, "/v2") || wh_starts_with(path, "/v1/") ||
        wh_starts_with(path, "/v2/"))
        path += 3;
    size_t n = strlen(path);
    while (n > 0 && path[n - 1] == '/')
        n--;
    return wh_xasprintf("%.*s%.*s", (int)host, key, (int)n, path);
}

static bool hosts_match(wh_str pattern, wh_str host)
{
    wh_str pattern_part, host_part;
    for (;;) {
        bool more_pattern = wh_str_split(&pattern, '.', &pattern_part);
        bool more_host = wh_str_split(&host, '.', &host_part);
        if (!more_pattern || !more_host)
            return more_pattern == more_host;
        auto_free char *glob = wh_xstrndup(pattern_part.p, pattern_part.n);
        auto_free char *text = wh_xstrndup(host_part.p, host_part.n);
        if (fnmatch(glob, text, FNM_NOESCAPE) != 0)
            return false;
    }
}

static bool key_matches(const char *key, const wh_ref *ref)
{
    const char *slash = strchr(key, '/');
    wh_str name = {key, slash == NULL ? strlen(key) : (size_t)(slash - key)};
    const char *path = slash == NULL ? "" : slash + 1;
    wh_str host = wh_str_of(ref->host);
    wh_str name_host, ref_host;
    (void)wh_str_split(&name, ':', &name_host);
    (void)wh_str_split(&host, ':', &ref_host);
    if (!wh_str_eq(name, host)) /* what stays behind the colon: the port */
        return false;
    return hosts_match(name_host, ref_host) && wh_starts_with(ref->repository, path);
}

typedef struct match {
    char *key;
    const wh_credential *credential;
    size_t order;
} match;

static int compare_matches(const void *a, const void *b)
{
    const match *x = a, *y = b;
    int by_key = strcmp(y->key, x->key);
    if (by_key != 0)
        return by_key;
    return x->order < y->order ? -1 : 1;
}

void wh_credentials_match(const wh_credential *list, size_t n_list, const wh_ref *ref,
                          const wh_credential ***ret, size_t *ret_n)
{
    auto_free match *matches = wh_xcalloc(n_list, sizeof(*matches));
    size_t n = 0;
    bool standard = wh_streq(ref->host, "docker.io");
    for (int pass = 0; pass < (standard ? 2 : 1) && n == 0; pass++) {
        for (size_t i = 0; i < n_list; i++) {
            char *key = normal_key(list[i].key);
            bool fits = pass == 0 ? key_matches(key, ref) : wh_streq(key, "index.docker.io");
            if (fits)
                matches[n++] = (match){key, &list[i], i};
            else
                free(key);
        }
    }
    if (n > 1)
        qsort(matches, n, sizeof(*matches), compare_matches);
    const wh_credential **grown = wh_xcalloc(*ret_n + n, sizeof(*grown));
    for (size_t i = 0; i < *ret_n; i++)
        grown[i] = (*ret)[i];
    for (size_t i = 0; i < n; i++) {
        grown[*ret_n + i] = matches[i].credential;
        free(matches[i].key);
    }
    free((void *)*ret);
    *ret = grown;
    *ret_n += n;
}

static int parse_mirrors(const json_t *list, wh_registry_host *host, wh_err *err)
{
    if (list == NULL || json_is_null(list))
        return 0;
    if (!json_is_array(list) || json_array_size(list) > 16)
        return wh_fail(err, -EBADMSG, "'mirrors' of '%.80s' is not a list of at most 16 addresses.",
                       host->host);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *url = json_string_value(json_array_get(list, i));
        if (url == NULL || (!wh_starts_with(url, "http://") && !wh_starts_with(url, "https://")))
            return wh_fail(err, -EBADMSG, "a mirror of '%.80s' is not an http:// or https:// address.",
                           host->host);
        size_t n = strlen(url);
        while (n > 0 && url[n - 1] == '/')
            n--;
        wh_strv_push_take(&host->mirrors, wh_xstrndup(url, n));
    }
    return 0;
}

static int parse_host(const char *name, json_t *j, wh_registry_host *host, wh_err *err)
{
    const char *key;
    json_t *value;
    host->host = wh_xstrdup(name);
    if (json_is_null(j))
        return 0;
    if (!json_is_object(j))
        return wh_fail(err, -EBADMSG, "'%.80s' is not an object.", name);
    json_object_foreach(j, key, value)
    {
        bool known = wh_streq(key, "plainHTTP") || wh_streq(key, "caFile") || wh_streq(key, "mirrors");
        if (!known)
            return wh_fail(err, -EBADMSG,
                           "'%.80s' has an unknown member '%.40s'; there are plainHTTP, caFile, mirrors.",
                           name, key);
    }
    host->plain_http = wh_json_bool(j, "plainHTTP", false);
    host->ca_file = copy_or_null(wh_json_str(j, "caFile"));
    return parse_mirrors(json_object_get(j, "mirrors"), host, err);
}

static int parse_hosts(json_t *documents, wh_registries *ret, wh_err *err)
{
    const char *key;
    json_t *value;
    if (json_array_size(documents) == 0)
        return 0;
    json_t *map = json_object_get(json_array_get(documents, 0), "registries");
    if (json_array_size(documents) != 1 || !json_is_object(map))
        return wh_fail(err, -EBADMSG, "it is not one document with an object 'registries'.");
    ret->hosts = wh_xcalloc(json_object_size(map), sizeof(*ret->hosts));
    json_object_foreach(map, key, value)
    {
        int rc = parse_host(key, value, &ret->hosts[ret->n_hosts++], err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int wh_registries_parse(const char *data, size_t n, wh_registries *ret, wh_err *err)
{
    auto_json json_t *documents = NULL;
    wh_registries registries = {0};
    int rc = wh_yaml_parse(data, n, &documents, err);
    if (rc == 0)
        rc = parse_hosts(documents, &registries, err);
    if (rc < 0) {
        wh_registries_done(&registries);
        return rc;
    }
    *ret = registries;
    return 0;
}

void wh_registries_done(wh_registries *registries)
{
    for (size_t i = 0; i < registries->n_hosts; i++) {
        free(registries->hosts[i].host);
        free(registries->hosts[i].ca_file);
        wh_strv_free(registries->hosts[i].mirrors);
    }
    free(registries->hosts);
    *registries = (wh_registries){0};
}

const wh_registry_host *wh_registries_find(const wh_registries *registries, const char *host)
{
    for (size_t i = 0; i < registries->n_hosts; i++)
        if (strcasecmp(registries->hosts[i].host, host) == 0)
            return &registries->hosts[i];
    return NULL;
}
