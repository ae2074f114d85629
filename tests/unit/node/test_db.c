/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include "base/file.h"
#include "node/db.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

static char dir[] = "/tmp/wherry-db-XXXXXX";

static int put(wh_nodedb *db, const char *uid, int version)
{
    auto_json json_t *object = json_pack("{s:s}", "name", uid);
    auto_json json_t *state = json_pack("{s:i}", "version", version);
    wh_nodedb_pod pod = {.uid = uid, .source = "run", .origin = "f", .object = object, .state = state};

    return wh_nodedb_pod_put(db, &pod, NULL);
}

typedef struct seen {
    char uids[256];
    int64_t last_version;
} seen;

static int note(void *user, const wh_nodedb_pod *pod)
{
    seen *s = user;
    size_t n = strlen(s->uids);

    snprintf(s->uids + n, sizeof(s->uids) - n, "%s ", pod->uid);
    s->last_version = wh_json_int(pod->state, "version", -1);
    CHECK_STR(wh_json_str(pod->object, "name"), pod->uid);
    CHECK_STR(pod->source, "run");
    return 0;
}

TEST(pods_come_back_in_their_order)
{
    wh_nodedb *db = NULL;
    wh_err err = {0};
    seen s = {0};

    CHECK(mkdtemp(dir) != NULL);
    CHECK_OK(wh_nodedb_open(dir, &db, &err), &err);
    CHECK_INT(put(db, "b", 1), ==, 0);
    CHECK_INT(put(db, "a", 1), ==, 0);
    CHECK_INT(put(db, "c", 1), ==, 0);
    CHECK_INT(put(db, "b", 2), ==, 0); /* news of a known one keeps its place */
    CHECK_INT(wh_nodedb_pod_forget(db, "a", &err), ==, 0);
    auto_json json_t *state = json_pack("{s:i}", "version", 9);
    CHECK_INT(wh_nodedb_pod_state(db, "c", state, &err), ==, 0);
    CHECK_OK(wh_nodedb_commit(db, &err), &err);
    wh_nodedb_close(db);

    CHECK_OK(wh_nodedb_open(dir, &db, &err), &err);
    CHECK_OK(wh_nodedb_pods(db, note, &s, &err), &err);
    CHECK_STR(s.uids, "b c ");
    CHECK_INT(s.last_version, ==, 9);
    wh_nodedb_close(db);
    wh_rm_rf(AT_FDCWD, dir, NULL);
}

/* What was committed survives kill -9; what was not is not half there. */
TEST(a_killed_writer_leaves_whole_commits)
{
    wh_nodedb *db = NULL;
    wh_err err = {0};
    seen s = {0};
    char byte;
    int ready[2];

    CHECK(mkdtemp(dir) != NULL);
    CHECK_INT(pipe(ready), ==, 0);
    pid_t pid = fork();
    if (pid == 0) {
        if (wh_nodedb_open(dir, &db, NULL) < 0 || put(db, "kept", 1) < 0 || wh_nodedb_commit(db, NULL) < 0 ||
            put(db, "lost", 1) < 0 || write(ready[1], "", 1) != 1)
            _exit(1);
        pause();
    }
    CHECK_INT(read(ready[0], &byte, 1), ==, 1);
    CHECK_INT(kill(pid, SIGKILL), ==, 0);
    CHECK_INT(waitpid(pid, NULL, 0), ==, pid);
    CHECK_OK(wh_nodedb_open(dir, &db, &err), &err);
    CHECK_OK(wh_nodedb_pods(db, note, &s, &err), &err);
    CHECK_STR(s.uids, "kept ");
    wh_nodedb_close(db);
    wh_rm_rf(AT_FDCWD, dir, NULL);
}

TEST(a_folder_that_is_none_is_an_error_with_its_name)
{
    wh_nodedb *db = NULL;
    wh_err err = {0};

    CHECK_ERR(wh_nodedb_open("/nonexistent", &db, &err), -EIO, &err, "/nonexistent");
    CHECK(db == NULL);
}
