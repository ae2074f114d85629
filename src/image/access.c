/* SPDX-License-Identifier: Apache-2.0 */
/* Whose credentials pulled an image. An image that needed some is given to another pod only when it has the
 * same ones, or when the registry takes its own: the kubelet's KubeletEnsureSecretPulledImages with
 * NeverVerifyPreloadedImages. */
#include "image/remote.h"

#include <openssl/evp.h>

/* A credential as the database keeps it: nothing can be learned from it without the node's key. */
static int fingerprint(const wh_store *store, const wh_credential *c, char out[65], wh_err *err)
{
    uint8_t mac[32];
    size_t n = 0;
    const char *user = c->username == NULL ? "" : c->username,
               *password = c->password == NULL ? "" : c->password;
    auto_free char *text = wh_xasprintf("credential %zu:%s %zu:%s %s", strlen(user), user, strlen(password),
                                        password, c->identity_token == NULL ? "" : c->identity_token);
    const unsigned char *done =
        EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, store->node_key, WH_NODE_KEY_BYTES,
                  (const unsigned char *)text, strlen(text), mac, sizeof(mac), &n);
    explicit_bzero(text, strlen(text));
    if (done == NULL || n != sizeof(mac))
        return wh_fail(err, -EIO, "compute the fingerprint of a credential.");
    wh_hex(mac, n, out);
    return 0;
}

int wh_access_add(wh_store *store, const wh_ref *ref, const char *digest, const wh_credential *credential,
                  wh_err *err)
{
    char print[65] = "";
    auto_free char *repository = wh_xasprintf("%s/%s", ref->host, ref->repository);
    int rc = credential == NULL ? 0 : fingerprint(store, credential, print, err);
    if (rc == 0)
        rc = wh_db_begin(store, true, err);
    if (rc < 0)
        return rc;
    rc = wh_db_run(store, err, NULL, NULL,
                   "INSERT OR IGNORE INTO access(image, repository, fingerprint) VALUES(?1, ?2, ?3)", "sss",
                   digest, repository, print);
    return wh_db_end(store, rc, err);
}

static int take_print(void *user, sqlite3_stmt *row)
{
    wh_strv_push_take(user, wh_db_text(row, 0));
    return 0;
}

int wh_access_check(wh_store *store, const wh_ref *ref, const char *digest,
                    const wh_credential *const *credentials, size_t n, bool *ret, wh_err *err)
{
    auto_strv wh_strv prints = NULL;
    auto_free char *repository = wh_xasprintf("%s/%s", ref->host, ref->repository);
    int rc = wh_db_begin(store, true, err);
    if (rc < 0)
        return rc;
    rc = wh_db_run(store, err, take_print, &prints,
                   "SELECT fingerprint FROM access WHERE image=?1 AND repository=?2", "ss", digest,
                   repository);
    rc = wh_db_end(store, rc, err);
    /* Nobody pulled it over the network: somebody who owns the machine put it there. */
    bool allowed = wh_strv_len(prints) == 0 || wh_strv_has(prints, "");
    for (size_t i = 0; rc == 0 && !allowed && i < n; i++) {
        char print[65];
        rc = fingerprint(store, credentials[i], print, err);
        allowed = rc == 0 && wh_strv_has(prints, print);
    }
    if (rc == 0)
        *ret = allowed;
    return rc;
}
