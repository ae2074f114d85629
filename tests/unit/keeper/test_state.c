/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include "base/file.h"
#include "base/record.h"
#include "keeper/state.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static char dir[64];
static int dirfd_;

static void open_dir(void)
{
    (void)snprintf(dir, sizeof(dir), "/tmp/wherry-test-state-XXXXXX");
    CHECK(mkdtemp(dir) != NULL);
    dirfd_ = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(dirfd_ >= 0);
}

static wh_kept *sample(pid_t pid)
{
    wh_kept *kept = wh_xnew(wh_kept);
    kept->id = wh_xstrdup("c1");
    kept->pid = pid;
    kept->control = kept->control_in = kept->exit_code = -1;
    kept->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    CHECK(kept->pidfd >= 0);
    kept->started = 1000;
    CHECK_OK(wh_kept_identify(kept->pidfd, pid, kept->identity, sizeof(kept->identity)), NULL);
    return kept;
}

static wh_held *held; /* a process per test: nothing is left in it */

TEST(ids_are_names_of_files)
{
    char id[WH_KEEPER_ID_MAX + 2];
    CHECK(wh_kept_id_ok("a"));
    CHECK(wh_kept_id_ok("pod-1_web.0"));
    CHECK(!wh_kept_id_ok(""));
    CHECK(!wh_kept_id_ok(".hidden"));
    CHECK(!wh_kept_id_ok("a/b"));
    CHECK(!wh_kept_id_ok("a b"));
    CHECK(!wh_kept_id_ok("\xc3\xa4"));
    memset(id, 'x', sizeof(id));
    id[WH_KEEPER_ID_MAX] = '\0';
    CHECK(wh_kept_id_ok(id));
    id[WH_KEEPER_ID_MAX] = 'x';
    id[WH_KEEPER_ID_MAX + 1] = '\0';
    CHECK(!wh_kept_id_ok(id));
}

TEST(a_living_process_is_found_again)
{
    wh_err err = {0};
    wh_kept *got;
    open_dir();
    wh_kept *kept = sample(getpid());
    CHECK_OK(wh_kept_save(dirfd_, kept, &err), &err);
    kept->running = 2000;
    kept->note = wh_xstrdup("no Landlock");
    CHECK_OK(wh_kept_save_running(dirfd_, kept), NULL);
    CHECK_OK(wh_kept_load(dirfd_, "c1", &held, &got, &err), &err);
    CHECK(!got->exited);
    CHECK(got->pidfd >= 0);
    CHECK(!got->child);
    CHECK_INT(got->pid, ==, getpid());
    CHECK_INT(got->started, ==, 1000);
    CHECK_INT(got->running, ==, 2000);
    CHECK_STR(got->note, "no Landlock");
    wh_kept_free(got);
    wh_kept_free(kept);
    CHECK_OK(wh_rm_rf(AT_FDCWD, dir, NULL), NULL);
}

TEST(another_process_with_the_same_number_is_not_taken)
{
    wh_err err = {0};
    wh_kept *got;
    open_dir();
    wh_kept *kept = sample(getpid());
    kept->identity[strlen(kept->identity) - 1] ^= 1;
    CHECK_OK(wh_kept_save(dirfd_, kept, &err), &err);
    CHECK_OK(wh_kept_load(dirfd_, "c1", &held, &got, &err), &err);
    CHECK(got->exited);
    CHECK_INT(got->exit_code, ==, -1);
    CHECK_INT(got->finished, >, 0);
    wh_time finished = got->finished;
    wh_kept_free(got);
    CHECK_OK(wh_kept_load(dirfd_, "c1", &held, &got, &err), &err);
    CHECK_INT(got->finished, ==, finished); /* written down, not found out again */
    wh_kept_free(got);
    wh_kept_free(kept);
    CHECK_OK(wh_rm_rf(AT_FDCWD, dir, NULL), NULL);
}

TEST(an_end_is_kept)
{
    wh_err err = {0};
    wh_kept *got;
    open_dir();
    wh_kept *kept = sample(getpid());
    CHECK_OK(wh_kept_save(dirfd_, kept, &err), &err);
    kept->exit_code = 3;
    kept->finished = 5000;
    CHECK_OK(wh_kept_save_end(dirfd_, kept), NULL);
    CHECK_OK(wh_kept_load(dirfd_, "c1", &held, &got, &err), &err);
    CHECK(got->exited);
    CHECK_INT(got->exit_code, ==, 3);
    CHECK_INT(got->finished, ==, 5000);
    wh_kept_free(got);
    wh_kept_forget(dirfd_, "c1");
    CHECK_FAIL(wh_kept_load(dirfd_, "c1", &held, &got, &err), -ENOENT);
    wh_kept_free(kept);
    CHECK_OK(wh_rm_rf(AT_FDCWD, dir, NULL), NULL);
}

TEST(a_file_cut_off_anywhere_is_refused_or_true)
{
    wh_err err = {0};
    wh_kept *got;
    char *data;
    size_t n;
    open_dir();
    wh_kept *kept = sample(getpid());
    CHECK_OK(wh_kept_save(dirfd_, kept, &err), &err);
    CHECK_OK(wh_read_file(dirfd_, "c1", 4096, &data, &n, NULL), NULL);
    for (size_t cut = 0; cut < n; cut++) {
        CHECK_OK(wh_write_file(dirfd_, "c1", data, cut, 0600, NULL), NULL);
        int rc = wh_kept_load(dirfd_, "c1", &held, &got, &err);
        CHECK(rc == 0 || rc == -EBADMSG);
        if (rc == 0) {
            CHECK_INT(got->pid, ==, getpid());
            wh_kept_free(got);
        }
    }
    CHECK_OK(wh_write_file(dirfd_, "other", data, n, 0600, NULL), NULL);
    CHECK_FAIL(wh_kept_load(dirfd_, "other", &held, &got, &err), -EBADMSG);
    free(data);
    wh_kept_free(kept);
    CHECK_OK(wh_rm_rf(AT_FDCWD, dir, NULL), NULL);
}
