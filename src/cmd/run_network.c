/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/run_network.h"

#include "base/file.h"
#include "base/limits.h"
#include "node/egress.h"

#include <fcntl.h>
#include <stdio.h>

#define POD "run"

static void on_lost(WH_UNUSED void *user)
{
    fprintf(stderr, "wherry: wherry-netd ended: the guest makes no new connections any more\n");
}

static void on_refused(WH_UNUSED void *user, WH_UNUSED const char *pod, const char *target,
                       const char *reason, int64_t left_out)
{
    fprintf(stderr, "wherry: the guest may not reach %s: %s\n", target, reason);
    if (left_out > 0)
        fprintf(stderr, "wherry: and %lld more\n", (long long)left_out);
}

/* A file that is not there means no names; one that is too large as well. */
static char *read_text(const char *path)
{
    char *text = NULL;
    size_t n;
    return wh_read_file(AT_FDCWD, path, WH_NETD_TEXT_MAX, &text, &n, NULL) < 0 ? NULL : text;
}

int wh_run_network_start(wh_run_network *net, wh_loop *loop, const wh_paths *paths, const char *egress,
                         int *ret_fd, wh_err *err)
{
    const wh_netd_options options = {.program = paths->netd,
                                     .namespace_fd = -1,
                                     .uid = geteuid(),
                                     .on_lost = on_lost,
                                     .on_refused = on_refused};
    wh_netd_pod pod = {.id = POD, .closed = egress != NULL};
    int rc = 0;
    if (paths->netd == NULL)
        return wh_fail(err, -ENOENT,
                       "wherry-netd, which makes connections for guests, is not installed beside us.");
    if (egress != NULL && !wh_streq(egress, "none"))
        rc = wh_egress_parse(egress, &net->rules, &pod.n_rules, err);
    if (rc < 0)
        return wh_wrap(err, "--egress");
    pod.rules = net->rules;
    pod.resolv_conf = net->resolv_conf = read_text("/etc/resolv.conf");
    pod.hosts = net->hosts = read_text("/etc/hosts");
    rc = wh_netd_start(loop, &options, &net->netd, err);
    if (rc == 0)
        rc = wh_netd_pod_set(net->netd, &pod, err);
    if (rc == 0)
        rc = wh_netd_pod_channel(net->netd, POD, ret_fd, err);
    return rc < 0 ? wh_wrap(err, "start the guest's network") : 0;
}

void wh_run_network_done(wh_run_network *net)
{
    wh_netd_free(net->netd);
    free(net->resolv_conf);
    free(net->hosts);
}
