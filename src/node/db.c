/* SPDX-License-Identifier: Apache-2.0 */
#include "node/db.h"
#include "base/file.h"
#include "base/log.h"

#include <sqlite3.h>

struct wh_nodedb {
    sqlite3 *sql;
    sqlite3_stmt *put, *state, *forget;
    bool in_transaction;
};

static const char schema[] = "PRAGMA journal_mode=WAL;"
                             "PRAGMA synchronous=FULL;"
                             "CREATE TABLE IF NOT EXISTS pods ("
                             "  seq INTEGER PRIMARY KEY AUTOINCREMENT,"
                             "  uid TEXT NOT NULL UNIQUE,"
                             "  source TEXT NOT NULL,"
                             "  origin TEXT NOT NULL,"
                             "  object TEXT NOT NULL," /* v1.Pod, JSON */
                             "  state TEXT NOT NULL);" /* life cycle, JSON */
                             "PRAGMA user_version=1;";

static int db_fail(wh_nodedb *db, wh_err *err, const char *what)
{
    int code = sqlite3_extended_errcode(db->sql) & 0xff;

    return wh_fail(err, code == SQLITE_FULL ? -ENOSPC : -EIO, "%s: %s.", what, sqlite3_errmsg(db->sql));
}

int wh_nodedb_open(const char *dir, wh_nodedb **ret, wh_err *err)
{
    auto_free char *path = wh_path_join(dir, "node.db");
    wh_nodedb *db = wh_xnew(wh_nodedb);

    if (sqlite3_open_v2(path, &db->sql, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK ||
        sqlite3_busy_timeout(db->sql, 5000) != SQLITE_OK ||
        sqlite3_exec(db->sql, schema, NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(db->sql,
                           "INSERT INTO pods (uid, source, origin, object, state) VALUES (?1,?2,?3,?4,?5) "
                           "ON CONFLICT (uid) DO UPDATE SET object=?4, state=?5",
                           -1, &db->put, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(db->sql, "UPDATE pods SET state=?2 WHERE uid=?1", -1, &db->state, NULL) !=
            SQLITE_OK ||
        sqlite3_prepare_v2(db->sql, "DELETE FROM pods WHERE uid=?1", -1, &db->forget, NULL) != SQLITE_OK) {
        int rc = wh_fail(err, -EIO, "open database '%s': %s.", path, sqlite3_errmsg(db->sql));
        wh_nodedb_close(db);
        return rc;
    }
    *ret = db;
    return 0;
}

void wh_nodedb_close(wh_nodedb *db)
{
    if (db == NULL)
        return;
    if (db->sql != NULL)
        wh_nodedb_commit(db, NULL);
    sqlite3_finalize(db->put);
    sqlite3_finalize(db->state);
    sqlite3_finalize(db->forget);
    sqlite3_close(db->sql);
    free(db);
}

/* Runs a statement whose texts were bound; they may be freed afterwards. */
static int run(wh_nodedb *db, sqlite3_stmt *stmt, wh_err *err, const char *what)
{
    if (!db->in_transaction && sqlite3_exec(db->sql, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK)
        return db_fail(db, err, what);
    db->in_transaction = true;
    int step = sqlite3_step(stmt);

    sqlite3_reset(stmt);
    sqlite3_clear_bindings(stmt);
    return step == SQLITE_DONE ? 0 : db_fail(db, err, what);
}

int wh_nodedb_pod_put(wh_nodedb *db, const wh_nodedb_pod *pod, wh_err *err)
{
    auto_free char *object = wh_json_dump(pod->object);
    auto_free char *state = wh_json_dump(pod->state);

    sqlite3_bind_text(db->put, 1, pod->uid, -1, SQLITE_STATIC);
    sqlite3_bind_text(db->put, 2, pod->source, -1, SQLITE_STATIC);
    sqlite3_bind_text(db->put, 3, pod->origin, -1, SQLITE_STATIC);
    sqlite3_bind_text(db->put, 4, object, -1, SQLITE_STATIC);
    sqlite3_bind_text(db->put, 5, state, -1, SQLITE_STATIC);
    return run(db, db->put, err, "remember pod");
}

int wh_nodedb_pod_state(wh_nodedb *db, const char *uid, const json_t *state, wh_err *err)
{
    auto_free char *text = wh_json_dump(state);

    sqlite3_bind_text(db->state, 1, uid, -1, SQLITE_STATIC);
    sqlite3_bind_text(db->state, 2, text, -1, SQLITE_STATIC);
    return run(db, db->state, err, "remember state of pod");
}

int wh_nodedb_pod_forget(wh_nodedb *db, const char *uid, wh_err *err)
{
    sqlite3_bind_text(db->forget, 1, uid, -1, SQLITE_STATIC);
    return run(db, db->forget, err, "forget pod");
}

/* A row that is damaged is skipped and said: one bad row must not keep a node from starting. */
static int row_to_pod(sqlite3_stmt *stmt, int (*each)(void *user, const wh_nodedb_pod *pod), void *user)
{
    auto_json json_t *object = NULL;
    auto_json json_t *state = NULL;
    wh_err bad = {0};
    const char *texts[5];

    for (int i = 0; i < 5; i++)
        texts[i] = (const char *)sqlite3_column_text(stmt, i);
    if (texts[0] == NULL || texts[3] == NULL || texts[4] == NULL ||
        wh_json_parse(texts[3], strlen(texts[3]), &object, &bad) < 0 ||
        wh_json_parse(texts[4], strlen(texts[4]), &state, &bad) < 0) {
        wh_log(ERROR, "damaged row in the database is left out", KV_STR("pod", texts[0]), KV_ERR(&bad));
        return 0;
    }
    wh_nodedb_pod pod = {
        .uid = texts[0], .source = texts[1], .origin = texts[2], .object = object, .state = state};
    return each(user, &pod);
}

int wh_nodedb_pods(wh_nodedb *db, int (*each)(void *user, const wh_nodedb_pod *pod), void *user, wh_err *err)
{
    sqlite3_stmt *stmt = NULL;
    int step, rc = 0;

    if (sqlite3_prepare_v2(db->sql, "SELECT uid, source, origin, object, state FROM pods ORDER BY seq", -1,
                           &stmt, NULL) != SQLITE_OK)
        return db_fail(db, err, "read pods");
    while (rc == 0 && (step = sqlite3_step(stmt)) == SQLITE_ROW)
        rc = row_to_pod(stmt, each, user);
    if (rc == 0 && step != SQLITE_DONE)
        rc = db_fail(db, err, "read pods");
    sqlite3_finalize(stmt);
    return rc;
}

int wh_nodedb_commit(wh_nodedb *db, wh_err *err)
{
    if (!db->in_transaction)
        return 0;
    if (sqlite3_exec(db->sql, "COMMIT", NULL, NULL, NULL) != SQLITE_OK) /* stays open: tried again */
        return db_fail(db, err, "make the state of pods durable");
    db->in_transaction = false;
    return 0;
}
