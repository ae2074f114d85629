/* SPDX-License-Identifier: Apache-2.0 */
/* wherry-netd: see netd.h. Descriptor 3 is the agent's channel, 4 a network namespace, 5 a listener for later
 * agents. */
#include "base/log.h"
#include "base/options.h"
#include "netd/lock.h"
#include "netd/server.h"

#include <sys/resource.h>

#define FD_CONTROL 3
#define FD_NAMESPACE 4
#define FD_LISTENER 5

static uint64_t uid, agent = UINT32_MAX;
static bool in_namespace, listener, ports;

static const wh_opt options[] = {
    {"uid", 'u', WH_OPT_U64, &uid, "UID", "become this user and group"},
    {"agent", 'a', WH_OPT_U64, &agent, "UID", "user that later agents are of"},
    {"namespace", 'n', WH_OPT_FLAG, &in_namespace, NULL, "enter the network namespace of descriptor 4"},
    {"ports", 'p', WH_OPT_FLAG, &ports, NULL, "keep the right to bind ports under 1024"},
    {"listener", 'l', WH_OPT_FLAG, &listener, NULL, "take later agents from the socket of descriptor 5"},
    {0},
};

/* Each connect under way and each channel is a descriptor. */
static void raise_files(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        return;
    files.rlim_cur = files.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &files);
}

static void on_end(void *user)
{
    wh_loop_stop(user, 0);
}

static int serve(wh_err *err)
{
    wh_loop *loop = NULL;
    wh_netd_server *server = NULL;
    int rc = in_namespace ? wh_netd_enter(FD_NAMESPACE, err) : 0;
    close(FD_NAMESPACE);
    if (!listener)
        close(FD_LISTENER);
    raise_files();
    if (rc == 0)
        rc = wh_netd_drop((uid_t)uid, ports, err);
    if (rc == 0)
        rc = wh_loop_new(&loop, err);
    if (rc == 0)
        rc = wh_netd_server_new(loop, FD_CONTROL, listener ? FD_LISTENER : -1, (uid_t)agent, on_end, loop,
                                &server, err);
#ifndef WH_NETD_NO_FILTER /* sanitizers and coverage have files of their own */
    if (rc == 0)
        rc = wh_netd_lock(err);
#endif
    if (rc == 0)
        rc = wh_loop_run(loop);
    wh_netd_server_free(server);
    wh_loop_free(loop);
    return rc;
}

int main(int argc, char **argv)
{
    wh_err err = {0};
    int operands = 0;
    wh_log_setup("wherry-netd", STDERR_FILENO, WH_LOG_INFO, WH_LOG_AUTO);
    int rc = wh_options_parse(options, argc, argv, false, &operands, &err);
    if (rc == 0 && (operands > 0 || uid > UINT32_MAX || agent > UINT32_MAX))
        rc = wh_fail(&err, -EINVAL, "wherry-netd is started by the agent.");
    if (rc < 0) {
        wh_log(ERROR, "wrong usage", KV_ERR(&err));
        return 2;
    }
    rc = serve(&err);
    if (rc < 0)
        wh_log(ERROR, "netd ends", KV_ERR(&err));
    return rc < 0 ? 1 : 0;
}
