/* SPDX-License-Identifier: Apache-2.0 */
/* A start message becomes a process, now or when a connection wakes what rests. */
#include "keeper/keeper.h"
#include "keeper/message.h"
#include "keeper/server.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>

typedef struct start {
    wh_launch launch;
    char *id;
    gid_t groups[WH_KEEPER_GROUPS_MAX];
    char *cgroups[WH_KEEPER_CGROUPS_MAX + 1];
    size_t n_cgroups;
    int fds[WH_KEEPER_FDS_MAX + WH_KEEPER_SOCKETS_MAX + 2];
    size_t n_sockets;
    bool rest;
} start;

static void start_done(start *s)
{
    free(s->id);
    for (size_t i = 0; i < s->n_cgroups; i++)
        free(s->cgroups[i]);
}

static int take_number(start *s, const wh_field *f, wh_err *err)
{
    enum { UID, GID, OOM, DATA, NOFILE, NAMESPACES, REST };
    static const struct {
        const char *key;
        int64_t min, max;
    } numbers[] = {
        [UID] = {"uid", 0, UINT32_MAX - 1},
        [GID] = {"gid", 0, UINT32_MAX - 1},
        [OOM] = {"oom_score_adj", -1000, 1000},
        [DATA] = {"rlimit_data", 0, INT64_MAX},
        [NOFILE] = {"nofile", 0, 1 << 20},
        [NAMESPACES] = {"namespaces", 0, 1},
        [REST] = {"rest", 0, 1},
    };
    wh_launch *l = &s->launch;
    int64_t v = 0;
    size_t i = 0;
    while (i < WH_ARRAY_LEN(numbers) && !wh_field_is(f, numbers[i].key))
        i++;
    if (i == WH_ARRAY_LEN(numbers))
        return wh_fail(err, -EBADMSG, "start: field '%.*s' is not known.", WH_STR_ARG(f->key));
    int rc = wh_field_i64(f, numbers[i].min, numbers[i].max, &v, err);
    if (rc < 0)
        return rc;
    if (i == UID)
        l->uid = (uid_t)v;
    else if (i == GID)
        l->gid = (gid_t)v;
    else if (i == OOM)
        l->oom_score_adj = (int)v;
    else if (i == NAMESPACES)
        l->namespaces = v != 0;
    else if (i == REST)
        s->rest = v != 0;
    else
        *(i == DATA ? &l->rlimit_data : &l->nofile) = (uint64_t)v;
    return 0;
}

static int take_field(start *s, const wh_field *f, wh_err *err)
{
    static const char *const elsewhere[] = {"op", "seq", "open", "group_dir",
                                            "group_set"}; /* read where they count */
    int64_t v;
    for (size_t i = 0; i < WH_ARRAY_LEN(elsewhere); i++) {
        if (wh_field_is(f, elsewhere[i]))
            return 0;
    }
    if (wh_field_is(f, "socket")) {
        if (s->n_sockets++ >= WH_KEEPER_SOCKETS_MAX)
            return wh_fail(err, -E2BIG, "more than %d sockets.", WH_KEEPER_SOCKETS_MAX);
        return 0;
    }
    if (wh_field_is(f, "id")) {
        free(s->id);
        s->id = wh_field_strdup(f);
        return s->id == NULL ? wh_fail(err, -EBADMSG, "'id' holds a NUL byte.") : 0;
    }
    if (wh_field_is(f, "group")) {
        if (s->launch.n_groups >= WH_KEEPER_GROUPS_MAX)
            return wh_fail(err, -E2BIG, "more than %d groups.", WH_KEEPER_GROUPS_MAX);
        int rc = wh_field_i64(f, 0, UINT32_MAX - 1, &v, err);
        if (rc == 0)
            s->groups[s->launch.n_groups++] = (gid_t)v;
        return rc;
    }
    if (wh_field_is(f, "cgroup")) {
        char *path = s->n_cgroups < WH_KEEPER_CGROUPS_MAX ? wh_field_strdup(f) : NULL;
        if (path == NULL)
            return wh_fail(err, -E2BIG, "more than %d control groups, or a NUL byte in one.",
                           WH_KEEPER_CGROUPS_MAX);
        s->cgroups[s->n_cgroups++] = path;
        return 0;
    }
    return take_number(s, f, err);
}

static int parse(const wh_keeper_server *server, const void *data, size_t n, start *s, wh_err *err)
{
    wh_record_iter it = wh_record_begin(data, n);
    wh_field f;
    int rc = 0;
    *s = (start){.launch = {.uid = server->jail.outer_uid,
                            .gid = getgid(),
                            .oom_score_adj = server->jail.oom_score_adj}};
    while (rc == 0 && wh_record_next(&it, &f))
        rc = take_field(s, &f, err);
    if (rc < 0)
        return rc;
    if (s->id == NULL || !wh_kept_id_ok(s->id))
        return wh_fail(err, -EINVAL, "a container id has 1 to %d of [A-Za-z0-9._-] and begins with no dot.",
                       WH_KEEPER_ID_MAX);
    return 0;
}

static int check_new(const wh_keeper_server *server, const start *s, size_t n_fds, bool dormant, wh_err *err)
{
    wh_kept *kept;
    if (n_fds < 4)
        return wh_fail(err, -EINVAL, "start '%s': standard descriptors and program are required.", s->id);
    if (dormant && s->n_sockets == 0)
        return wh_fail(err, -EINVAL, "container '%s' has no socket that could wake it.", s->id);
    HASH_FIND_STR(server->kept, s->id, kept);
    if (kept != NULL)
        return wh_fail(err, -EEXIST, "container '%s' is there already%s.", s->id,
                       kept->exited ? ", and ended: reap it first" : "");
    if (HASH_COUNT(server->kept) >= WH_KEEPER_CONTAINERS_MAX)
        return wh_fail(err, -EAGAIN, "start '%s': the keeper has %d containers, which is its limit.", s->id,
                       WH_KEEPER_CONTAINERS_MAX);
    return 0;
}

/* The process, with its descriptors: those of the message without the program, the sockets, its control socket and
 * the spare of ours. */
static int launch(wh_keeper_server *server, start *s, const int *fds, size_t n_fds, wh_kept *kept,
                  wh_err *err)
{
    wh_launch *l = &s->launch;
    auto_close int theirs = -1;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return wh_fail(err, -errno, "make a control socket");
    kept->control = pair[0];
    theirs = pair[1];
    l->n_fds = n_fds - 1;
    memcpy(s->fds, fds, l->n_fds * sizeof(int));
    kept->sockets_at = (int)l->n_fds;
    for (size_t i = 0; i < kept->n_sockets; i++)
        s->fds[l->n_fds++] = kept->sockets[i]->fd;
    kept->control_in = (int)l->n_fds + 1;
    s->fds[l->n_fds++] = theirs;
    s->fds[l->n_fds++] = kept->control;
    l->fds = s->fds;
    l->exec_fd = fds[n_fds - 1];
    l->groups = s->groups;
    l->cgroup_procs = s->cgroups;
    kept->started = wh_real_now();
    int rc = wh_launch_run(&server->jail, l, &kept->pid, &kept->pidfd, err);
    if (rc < 0)
        close(WH_TAKE_FD(kept->control));
    return rc;
}

/* What a later keeper needs to know of it. A process that cannot be told is ended again. */
static int record(const wh_keeper_server *server, wh_kept *kept, wh_err *err)
{
    int rc = kept->pidfd < 0
                 ? 0
                 : wh_kept_identify(kept->pidfd, kept->pid, kept->identity, sizeof(kept->identity));
    if (rc < 0)
        rc = wh_fail(err, rc, "identify the process of container '%s'", kept->id);
    if (rc == 0)
        rc = wh_kept_save(server->dir_fd, kept, err);
    if (rc < 0 && kept->pidfd >= 0)
        (void)syscall(SYS_pidfd_send_signal, kept->pidfd, SIGKILL, NULL, 0);
    return rc;
}

static int make(wh_keeper_server *server, start *s, const void *data, size_t n, int *fds, size_t n_fds,
                bool dormant, wh_kept *kept, wh_err *err)
{
    int copies[WH_KEEPER_FDS_MAX], rc = 0;
    memcpy(copies, fds, n_fds * sizeof(int));
    wh_kept_use(kept, server->held, data, n);
    if (kept->n_sockets != s->n_sockets)
        return wh_fail(err, -ENOENT, "a socket of container '%s' is not held.", kept->id);
    if (!dormant)
        rc = launch(server, s, copies, n_fds, kept, err);
    if (rc == 0 && (dormant || s->rest))
        rc = wh_rest_new(&server->shared, data, n, fds, n_fds, &kept->rest, err);
    if (rc < 0 && kept->pidfd >= 0)
        (void)syscall(SYS_pidfd_send_signal, kept->pidfd, SIGKILL, NULL, 0);
    return rc < 0 ? rc : record(server, kept, err);
}

int wh_keeper_start_message(wh_keeper_server *server, const void *data, size_t n, int *fds, size_t n_fds,
                            bool dormant, wh_kept **ret, wh_err *err)
{
    start s;
    wh_kept *kept = NULL;
    int rc = parse(server, data, n, &s, err);
    if (rc == 0)
        rc = check_new(server, &s, n_fds, dormant, err);
    if (rc == 0) {
        kept = wh_xnew(wh_kept);
        kept->pidfd = kept->control = kept->exit_code = -1;
        kept->child = true;
        kept->dormant = dormant;
        kept->id = WH_TAKE(s.id);
        rc = make(server, &s, data, n, fds, n_fds, dormant, kept, err);
        if (rc < 0)
            wh_kept_forget(server->dir_fd, kept->id);
    }
    start_done(&s);
    if (rc < 0) {
        wh_kept_free(kept);
        return rc;
    }
    wh_assert(kept != NULL);
    rc = wh_keeper_server_adopt(server, kept);
    if (rc < 0)
        return wh_fail(err, rc, "watch container '%s'", kept->id);
    *ret = kept;
    return 0;
}

int wh_keeper_start_again(wh_kept *kept, wh_err *err)
{
    start s;
    int fds[WH_KEEPER_FDS_MAX], opened[WH_KEEPER_FDS_MAX];
    size_t n_opened = 0;
    int rc = parse(kept->server, kept->rest->message, kept->rest->n, &s, err);
    if (rc == 0)
        rc = wh_rest_groups_make(kept->rest, err);
    if (rc == 0)
        rc = wh_rest_open(kept->rest, fds, opened, &n_opened, err);
    if (rc == 0)
        rc = launch(kept->server, &s, fds, kept->rest->n_slots, kept, err);
    while (n_opened > 0)
        close(opened[--n_opened]);
    start_done(&s);
    return rc < 0 ? rc : record(kept->server, kept, err);
}
