/* SPDX-License-Identifier: Apache-2.0 */
/* Kubeconfig files (k8s.io/client-go/tools/clientcmd/api/v1), as far as a node needs them. */
#include "kube/kubeconfig.h"

#include "base/file.h"
#include "base/yaml.h"

#include <fcntl.h>
#include <stdio.h>

#define PEM_BYTES_MAX (256UL << 10)

static void wipe(char *secret)
{
    if (secret != NULL)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

void wh_kubeconfig_done(wh_kubeconfig *config)
{
    free(config->server);
    free(config->ca_pem);
    free(config->server_name);
    wipe(config->token);
    free(config->token_file);
    free(config->cert_pem);
    wipe(config->key_pem);
    free(config->cert_file);
    free(config->key_file);
    free(config->namespace_);
    free(config->user);
    *config = (wh_kubeconfig){0};
}

static char *dup_or_null(const char *s)
{
    return s == NULL ? NULL : wh_xstrdup(s);
}

void wh_kubeconfig_copy(const wh_kubeconfig *from, wh_kubeconfig *ret)
{
    *ret = (wh_kubeconfig){
        .server = dup_or_null(from->server),
        .ca_pem = dup_or_null(from->ca_pem),
        .server_name = dup_or_null(from->server_name),
        .insecure = from->insecure,
        .token = dup_or_null(from->token),
        .token_file = dup_or_null(from->token_file),
        .cert_pem = dup_or_null(from->cert_pem),
        .key_pem = dup_or_null(from->key_pem),
        .cert_file = dup_or_null(from->cert_file),
        .key_file = dup_or_null(from->key_file),
        .namespace_ = dup_or_null(from->namespace_),
        .user = dup_or_null(from->user),
    };
}

/* The entry of that name in a list of {name, <what>: {...}}. */
static json_t *find_named(const json_t *root, const char *list, const char *what, const char *name)
{
    size_t i;
    json_t *entry;
    json_array_foreach(json_object_get(root, list), i, entry)
    {
        if (wh_streq(wh_json_str(entry, "name"), name))
            return json_object_get(entry, what);
    }
    return NULL;
}

static char *beside(const char *folder, const char *file)
{
    return file[0] == '/' ? wh_xstrdup(file) : wh_path_join(folder, file);
}

/* A PEM text given inline as base64 ("x-data") or as a file name ("x"); inline wins. Both absent leaves *ret NULL. */
static int read_pem(const json_t *entry, const char *name, const char *folder, char **ret, char **ret_file,
                    wh_err *err)
{
    char key[64];
    (void)snprintf(key, sizeof(key), "%s-data", name);
    const char *data = wh_json_str(entry, key);
    if (data != NULL && data[0] != '\0') {
        uint8_t *raw = NULL;
        size_t len = 0;
        if (wh_unbase64(data, strlen(data), &raw, &len) < 0)
            return wh_fail(err, -EBADMSG, "%s is no base64.", key);
        bool has_nul = memchr(raw, '\0', len) != NULL;
        *ret = has_nul ? NULL : wh_xstrndup((const char *)raw, len);
        explicit_bzero(raw, len);
        free(raw);
        return has_nul ? wh_fail(err, -EBADMSG, "%s holds no PEM text.", key) : 0;
    }
    const char *file = wh_json_str(entry, name);
    if (file == NULL || file[0] == '\0')
        return 0;
    auto_free char *path = beside(folder, file);
    int r = wh_read_file(AT_FDCWD, path, PEM_BYTES_MAX, ret, NULL, err);
    if (r < 0) {
        (void)wh_wrap(err, "%s", name);
        return r;
    }
    if (ret_file != NULL)
        *ret_file = WH_TAKE(path);
    return 0;
}

static int read_cluster(const json_t *cluster, const char *folder, wh_kubeconfig *c, wh_err *err)
{
    const char *server = wh_json_str(cluster, "server");
    if (server == NULL || (!wh_starts_with(server, "https://") && !wh_starts_with(server, "http://")))
        return wh_fail(err, -EBADMSG, "the cluster's server is no http or https URL: '%s'",
                       server == NULL ? "" : server);
    if (wh_json_str(cluster, "proxy-url") != NULL)
        return wh_fail(err, -EOPNOTSUPP, "the cluster asks for a proxy (proxy-url), which is not supported.");
    size_t n = strlen(server);
    while (n > 8 && server[n - 1] == '/')
        n--;
    c->server = wh_xstrndup(server, n);
    c->server_name = dup_or_null(wh_json_str(cluster, "tls-server-name"));
    c->insecure = wh_json_bool(cluster, "insecure-skip-tls-verify", false);
    int r = read_pem(cluster, "certificate-authority", folder, &c->ca_pem, NULL, err);
    if (r == 0 && c->insecure && c->ca_pem != NULL)
        return wh_fail(
            err, -EBADMSG,
            "the cluster has both certificate-authority and insecure-skip-tls-verify; remove one of them.");
    return r;
}

static int read_user(const json_t *user, const char *folder, wh_kubeconfig *c, wh_err *err)
{
    static const struct {
        const char *key, *what;
    } refused[] = {
        {"exec", "an exec plugin"},
        {"auth-provider", "an auth provider"},
        {"username", "user name and password"},
        {"as", "impersonation"},
    };
    for (size_t i = 0; i < WH_ARRAY_LEN(refused); i++) {
        json_t *value = json_object_get(user, refused[i].key);
        if (value != NULL && !json_is_null(value))
            return wh_fail(
                err, -EOPNOTSUPP,
                "user '%s' needs %s (%s), which is not supported; use a client certificate, token or "
                "tokenFile.",
                c->user, refused[i].what, refused[i].key);
    }
    c->token = dup_or_null(wh_json_str(user, "token"));
    const char *token_file = wh_json_str(user, "tokenFile");
    if (token_file != NULL && token_file[0] != '\0')
        c->token_file = beside(folder, token_file);
    int r = read_pem(user, "client-certificate", folder, &c->cert_pem, &c->cert_file, err);
    if (r == 0)
        r = read_pem(user, "client-key", folder, &c->key_pem, &c->key_file, err);
    if (r == 0 && (c->cert_pem == NULL) != (c->key_pem == NULL))
        r = wh_fail(err, -EBADMSG,
                    "user '%s' has a client certificate without its key, or the other way round.", c->user);
    return r;
}

/* A token goes into a header line; anything else in it is a mistake or worse. */
static int check_token(const wh_kubeconfig *c, wh_err *err)
{
    for (const char *p = c->token; p != NULL && *p != '\0'; p++)
        if (*p <= ' ' || *p > '~')
            return wh_fail(err, -EBADMSG, "the token of user '%s' holds blanks or control characters.",
                           c->user);
    return 0;
}

static int read_root(const json_t *root, const char *folder, const char *context_name, wh_kubeconfig *c,
                     wh_err *err)
{
    const char *name = context_name != NULL ? context_name : wh_json_str(root, "current-context");
    if (name == NULL || name[0] == '\0')
        return wh_fail(err, -EBADMSG, "no context is chosen: current-context is empty.");
    const json_t *context = find_named(root, "contexts", "context", name);
    if (context == NULL)
        return wh_fail(err, -ENOENT, "there is no context '%s'.", name);
    const char *cluster_name = wh_json_str(context, "cluster");
    const char *user_name = wh_json_str(context, "user");
    c->namespace_ = dup_or_null(wh_json_str(context, "namespace"));
    c->user = wh_xstrdup(user_name == NULL ? "" : user_name);
    const json_t *cluster = find_named(root, "clusters", "cluster", cluster_name);
    if (cluster == NULL)
        return wh_fail(err, -ENOENT, "context '%s' names cluster '%s', and there is none.", name,
                       cluster_name == NULL ? "" : cluster_name);
    const json_t *user =
        user_name == NULL || user_name[0] == '\0' ? NULL : find_named(root, "users", "user", user_name);
    if (user == NULL && c->user[0] != '\0')
        return wh_fail(err, -ENOENT, "context '%s' names user '%s', and there is none.", name, user_name);
    int r = read_cluster(cluster, folder, c, err);
    if (r == 0 && user != NULL)
        r = read_user(user, folder, c, err);
    return r == 0 ? check_token(c, err) : r;
}

int wh_kubeconfig_parse(const char *text, size_t n, const char *folder, const char *context,
                        wh_kubeconfig *ret, wh_err *err)
{
    if (n > WH_KUBECONFIG_BYTES_MAX)
        return wh_fail(err, -EFBIG, "a kubeconfig has at most %lu bytes, this one %zu.",
                       WH_KUBECONFIG_BYTES_MAX, n);
    auto_json json_t *documents = NULL;
    int r = wh_yaml_parse(text, n, &documents, err);
    if (r < 0)
        return r;
    const json_t *root = json_array_get(documents, 0);
    if (!json_is_object(root))
        return wh_fail(err, -EBADMSG, "expected a kubeconfig (kind: Config), found something else.");
    wh_kubeconfig config = {0};
    r = read_root(root, folder, context, &config, err);
    if (r < 0) {
        wh_kubeconfig_done(&config);
        return r;
    }
    *ret = config;
    return 0;
}

int wh_kubeconfig_load(const char *path, const char *context, wh_kubeconfig *ret, wh_err *err)
{
    auto_free char *text = NULL;
    size_t n = 0;
    int r = wh_read_file(AT_FDCWD, path, WH_KUBECONFIG_BYTES_MAX, &text, &n, err);
    if (r < 0)
        return r;
    const char *slash = strrchr(path, '/');
    auto_free char *folder = slash == NULL ? wh_xstrdup(".") : wh_xstrndup(path, (size_t)(slash - path) + 1);
    r = wh_kubeconfig_parse(text, n, folder, context, ret, err);
    explicit_bzero(text, n);
    if (r < 0)
        (void)wh_wrap(err, "kubeconfig '%s'", path);
    return r;
}
