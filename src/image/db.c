/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "image/store.h"

#include <stdarg.h>

#define BUSY_MS 10000

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT NOT NULL);"
    "CREATE TABLE IF NOT EXISTS blob(digest TEXT PRIMARY KEY, bytes INTEGER NOT NULL, used INTEGER NOT NULL);"
    "CREATE TABLE IF NOT EXISTS image(digest TEXT PRIMARY KEY, form INTEGER NOT NULL, module TEXT, doc TEXT NOT NULL,"
    " bytes INTEGER NOT NULL, pulled INTEGER NOT NULL, used INTEGER NOT NULL);"
    "CREATE TABLE IF NOT EXISTS image_blob(image TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY(image, digest));"
    "CREATE TABLE IF NOT EXISTS ref(reference TEXT PRIMARY KEY, image TEXT NOT NULL, top TEXT NOT NULL,"
    " pulled INTEGER NOT NULL, used INTEGER NOT NULL);"
    "CREATE TABLE IF NOT EXISTS lease(holder TEXT NOT NULL, image TEXT NOT NULL, PRIMARY KEY(holder, image));"
    "CREATE TABLE IF NOT EXISTS program(image TEXT NOT NULL, path TEXT NOT NULL, module TEXT NOT NULL,"
    " PRIMARY KEY(image, path));"
    "CREATE TABLE IF NOT EXISTS code(key TEXT PRIMARY KEY, module TEXT NOT NULL, profile TEXT NOT NULL,"
    " flags INTEGER NOT NULL, mac BLOB NOT NULL, bytes INTEGER NOT NULL, used INTEGER NOT NULL);"
    "CREATE TABLE IF NOT EXISTS access(image TEXT NOT NULL, repository TEXT NOT NULL, fingerprint TEXT NOT NULL,"
    " PRIMARY KEY(image, repository, fingerprint));"
    "CREATE INDEX IF NOT EXISTS code_module ON code(module);"
    "CREATE INDEX IF NOT EXISTS image_blob_digest ON image_blob(digest);"
    "PRAGMA user_version=1;";

static int db_errno(int code)
{
    switch (code & 0xff) {
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return -EBUSY;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_READONLY:
        return -EROFS;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return -EUCLEAN;
    default:
        return -EIO;
    }
}

static int db_fail(const wh_store *store, int code, wh_err *err)
{
    return wh_fail(err, db_errno(code), "store '%s': database: %s.", store->dir,
                   store->db == NULL ? "no memory" : sqlite3_errmsg(store->db));
}

int wh_db_open(wh_store *store, wh_err *err)
{
    auto_free char *path = wh_path_join(store->dir, "store.db");
    int code = sqlite3_open_v2(path, &store->db,
                               SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX, NULL);
    if (code != SQLITE_OK)
        return db_fail(store, code, err);
    (void)sqlite3_busy_timeout(store->db, BUSY_MS);
    /* FULL: what a pull has answered is there after a power cut. */
    code = sqlite3_exec(store->db,
                        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA trusted_schema=OFF;", NULL,
                        NULL, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_exec(store->db, "BEGIN IMMEDIATE;", NULL, NULL, NULL);
    if (code != SQLITE_OK)
        return db_fail(store, code, err);
    code = sqlite3_exec(store->db, schema, NULL, NULL, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_exec(store->db, "COMMIT;", NULL, NULL, NULL);
    return code == SQLITE_OK ? 0 : db_fail(store, code, err);
}

static int bind_all(sqlite3_stmt *stmt, const char *types, va_list args)
{
    int code = SQLITE_OK;
    for (int i = 1; *types != '\0' && code == SQLITE_OK; i++, types++) {
        if (*types == 's') {
            code = sqlite3_bind_text(stmt, i, va_arg(args, const char *), -1, SQLITE_TRANSIENT);
        } else if (*types == 'i') {
            code = sqlite3_bind_int64(stmt, i, va_arg(args, int64_t));
        } else {
            wh_assert(*types == 'b');
            const void *data = va_arg(args, const void *);
            code = sqlite3_bind_blob64(stmt, i, data, va_arg(args, size_t), SQLITE_TRANSIENT);
        }
    }
    return code;
}

void wh_db_close(wh_store *store)
{
    for (size_t i = 0; i < store->n_statements; i++)
        (void)sqlite3_finalize(store->statements[i].stmt);
    store->n_statements = 0;
    (void)sqlite3_close(store->db);
    store->db = NULL;
}

/* The statement of this text, prepared once. */
static int get_statement(wh_store *store, const char *sql, sqlite3_stmt **ret)
{
    for (size_t i = 0; i < store->n_statements; i++) {
        if (store->statements[i].sql == sql) {
            *ret = store->statements[i].stmt;
            wh_assert(!sqlite3_stmt_busy(*ret));
            return SQLITE_OK;
        }
    }
    wh_assert(store->n_statements < WH_STATEMENTS_MAX);
    int code = sqlite3_prepare_v3(store->db, sql, -1, SQLITE_PREPARE_PERSISTENT, ret, NULL);
    if (code == SQLITE_OK)
        store->statements[store->n_statements++] = (wh_statement){sql, *ret};
    return code;
}

int wh_db_run(wh_store *store, wh_err *err, int (*each)(void *user, sqlite3_stmt *row), void *user,
              const char *sql, const char *types, ...)
{
    sqlite3_stmt *stmt = NULL;
    int code = get_statement(store, sql, &stmt);
    if (code != SQLITE_OK)
        return db_fail(store, code, err);
    va_list args;
    va_start(args, types);
    code = bind_all(stmt, types, args);
    va_end(args);
    int rc = 0;
    while (code == SQLITE_OK || code == SQLITE_ROW) {
        code = sqlite3_step(stmt);
        if (code == SQLITE_ROW && each != NULL)
            rc = each(user, stmt);
        if (rc < 0)
            break;
    }
    if (rc == 0 && code != SQLITE_DONE)
        rc = db_fail(store, code, err);
    int changes = sqlite3_changes(store->db);
    (void)sqlite3_reset(stmt);
    (void)sqlite3_clear_bindings(stmt);
    return rc < 0 ? rc : changes;
}

static int run_plain(wh_store *store, const char *sql)
{
    sqlite3_stmt *stmt = NULL;
    int code = get_statement(store, sql, &stmt);
    if (code != SQLITE_OK)
        return code;
    code = sqlite3_step(stmt);
    int reset = sqlite3_reset(stmt);
    return code == SQLITE_DONE ? reset : code;
}

int wh_db_begin(wh_store *store, bool durable, wh_err *err)
{
    static const char begin[] = "BEGIN IMMEDIATE";
    static const char full[] = "PRAGMA synchronous=FULL", normal[] = "PRAGMA synchronous=NORMAL";
    (void)pthread_mutex_lock(&store->lock);
    int code = run_plain(store, durable ? full : normal);
    if (code == SQLITE_OK)
        code = run_plain(store, begin);
    if (code == SQLITE_OK)
        return 0;
    int rc = db_fail(store, code, err);
    (void)pthread_mutex_unlock(&store->lock);
    return rc;
}

int wh_db_end(wh_store *store, int rc, wh_err *err)
{
    static const char commit[] = "COMMIT", rollback[] = "ROLLBACK";
    int code = rc < 0 ? SQLITE_ERROR : run_plain(store, commit);
    if (rc >= 0 && code != SQLITE_OK)
        rc = db_fail(store, code, err);
    if (rc < 0 && sqlite3_get_autocommit(store->db) == 0) /* some failures have rolled back already */
        (void)run_plain(store, rollback);
    (void)pthread_mutex_unlock(&store->lock);
    return WH_MIN(rc, 0);
}

char *wh_db_text(sqlite3_stmt *row, int column)
{
    const char *text = (const char *)sqlite3_column_text(row, column);
    return text == NULL ? NULL : wh_xstrdup(text);
}
