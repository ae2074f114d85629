/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the store: files and database. Private to this room.
 *
 *     store.db             what is where, who uses it (SQLite, WAL)
 *     node.key             authenticates compiled code; 0600
 *     blobs/<alg>/<hex>    as received, verified, 0444
 *     rootfs/<alg>-<hex>/  unpacked trees, by the digest of their manifest
 *     code/<key>.cwasm     compiled modules, 0444, authenticated by a row of the database
 *     locks/               one file per thing that only one may make at a time
 *     tmp/                 what is being made
 *
 * A file is in its place only when it is whole and on the disk, and it counts only once the database says so.
 */
#pragma once

#include "base/json.h"
#include "image/image.h"
#include "image/manifest.h"

#include <pthread.h>
#include <sqlite3.h>
#include <sys/stat.h>

#define WH_STORE_MAGIC 0x73746f72U
#define WH_NODE_KEY_BYTES 32
#define WH_STORE_GRACE (2 * WH_MINUTE) /* what was touched so recently belongs to a pull under way */

#define WH_STORE_TOUCH (30 * WH_SEC) /* a use is written down only when the last one is older */

typedef struct wh_seen_code { /* a code file that was authenticated in this process */
    uint64_t dev, inode;
    int64_t size, ctime_ns;
    char key[65];
} wh_seen_code;
#define WH_SEEN_CODE_MAX 4096

#define WH_STATEMENTS_MAX 64
typedef struct wh_statement { /* a prepared statement, kept under the address of its text */
    const char *sql;
    sqlite3_stmt *stmt;
} wh_statement;

struct wh_store {
    unsigned magic;
    char *dir, *prepare;
    int dirfd;
    sqlite3 *db;
    wh_statement statements[WH_STATEMENTS_MAX];
    size_t n_statements;
    pthread_mutex_t lock; /* of everything below, and of a transaction */
    uint8_t node_key[WH_NODE_KEY_BYTES];
    char *identity; /* of the compiler; NULL until it was asked, or when its file changed */
    struct stat identity_of;
    wh_seen_code *seen_code;
    size_t n_seen_code;
};

/* ---- database (db.c) ---- */
int wh_db_open(wh_store *store, wh_err *err);
void wh_db_close(wh_store *store);
/* One statement; `sql` must live as long as the program. `types` has a letter per argument: s string (may be
 * NULL), i int64_t, b const void * and size_t. `each` sees every row and may be NULL; a
 * negative value from it ends the statement and is returned. Returns the number of rows changed, or a negative
 * errno. The caller holds the lock, or nobody else has the store. */
int wh_db_run(wh_store *store, wh_err *err, int (*each)(void *user, sqlite3_stmt *row), void *user,
              const char *sql, const char *types, ...);
/* Takes the lock and begins a transaction for writing; wh_db_end ends both: commits when rc is 0, rolls back
 * otherwise, and returns rc or the commit's own failure. Without `durable` a power cut may lose it, never anything
 * else. */
int wh_db_begin(wh_store *store, bool durable, wh_err *err);
int wh_db_end(wh_store *store, int rc, wh_err *err);
char *wh_db_text(sqlite3_stmt *row, int column); /* copied; NULL for null */

/* ---- files (blob.c) ---- */
/* A new file in tmp/, open for reading and writing; *ret_name is relative to the store. */
int wh_store_temp(wh_store *store, char **ret_name, int *ret_fd, wh_err *err);
int wh_store_temp_dir(wh_store *store, char **ret_name, int *ret_fd, wh_err *err);
/* Makes a whole file durable and read-only, and moves it to its place. */
int wh_store_place(wh_store *store, const char *temp, int fd, const char *place, wh_err *err);
char *wh_store_blob_path(const char *digest);
char *wh_store_rootfs_path(const char *digest);
/* Opens a blob and marks it as used now, so that nothing collects it; -ENOENT. */
int wh_store_blob_open(wh_store *store, const char *digest, int *ret, uint64_t *ret_bytes, wh_err *err);
/* Places a file of tmp/ whose digest was verified. */
int wh_store_blob_add(wh_store *store, const char *temp, int fd, const char *digest, wh_err *err);
int wh_store_blob_put(wh_store *store, const char *digest, const void *data, size_t n, wh_err *err);
/* Waits until nobody else makes the thing `name`; the lock ends with the descriptor. */
int wh_store_lock(wh_store *store, const char *name, int *ret, wh_err *err);

/* ---- images (store.c) ---- */
/* What the database keeps of an image, beside its digest. */
typedef struct wh_image_record {
    char *digest; /* of the chosen manifest, or of a lone binary */
    char *top;    /* of what the reference named: the index, or the same */
    char *module; /* form MODULE */
    char *title;
    wh_image_form form;
    wh_image_config config;
    uint64_t bytes;
    wh_strv blobs; /* digests of everything that belongs to it */
} wh_image_record;
void wh_image_record_done(wh_image_record *record);
int wh_store_image_add(wh_store *store, const char *reference, const wh_image_record *record, wh_err *err);
/* 1 when the store has the image of record->digest whole: then the reference names it from now on. 0 when it
 * has not. */
int wh_store_image_reuse(wh_store *store, const char *reference, const wh_image_record *record, wh_err *err);
bool wh_reference_is_local(const char *reference);
/* The name under which the database knows a reference; -EINVAL. The caller's to free. */
int wh_reference_canonical(const char *reference, char **ret, wh_err *err);

/* ---- prepare (job.c) ---- */
typedef struct wh_prepare_job {
    const char *const *args; /* NULL-terminated, without the program's name */
    int in;                  /* descriptor 0, or -1 */
    int out;                 /* descriptor 3, or -1 */
    const int *layers;       /* descriptors from 5 on */
    size_t n_layers;
    wh_time deadline; /* from now */
    bool (*cancelled)(void *user);
    void *user;
} wh_prepare_job;
/* Runs one wherry-prepare to its end. *ret_record is checked and has a verdict; a verdict other than "ok" is
 * -EBADMSG with its message. -ETIMEDOUT, -ECANCELED; -EIO when it died. */
int wh_prepare_run(wh_store *store, const wh_prepare_job *job, wh_buf *ret_record, wh_err *err);
/* Asks what compiled code depends on: engine, version, settings. Cached, also across processes. */
int wh_prepare_identity(wh_store *store, char **ret, wh_err *err);
/* Runs a program of the system on two files of tmp/: wat2wasm. */
int wh_tool_run(char *const *argv, wh_time deadline, wh_err *err);

/* ---- pulling ---- */
typedef struct wh_source { /* where an image comes from: a registry, a folder */
    int (*manifest)(void *user, const char *tag_or_digest, wh_buf *ret_body, char **ret_type,
                    char digest[WH_DIGEST_TEXT_MAX], wh_err *err);
    int (*blob)(void *user, const wh_descriptor *blob, int fd,
                wh_err *err); /* appends to an empty file, verified */
    void *user;
} wh_source;
typedef struct wh_pull_state {
    wh_store *store;
    const char *reference;
    const wh_pull_options *options;
    const wh_source *source;
    uint64_t done, total;
    const wh_credential *credential; /* that the registry took; NULL: it wanted none */
} wh_pull_state;
bool wh_pull_cancelled(void *pull_state); /* reports progress too */
/* Takes the image that `tag_or_digest` names at the source into the store. */
int wh_pull_from(wh_pull_state *state, const char *tag_or_digest, wh_err *err);
/* What a layer's first bytes are; -EBADMSG for what is neither Wasm nor an archive. */
int wh_module_head(int fd, const char *reference, wh_bytes_kind *ret, wh_err *err);
int wh_pull_local(wh_store *store, const char *reference, const wh_pull_options *options, wh_err *err);
