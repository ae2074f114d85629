/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "harness.h"
#include "node/network.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

typedef struct rig {
    wh_loop *loop;
    wh_network *network;
    char dir[32];
    char *weaker;
    int restarts;
} rig;

static void on_restart(void *user)
{
    ((rig *)user)->restarts++;
}

static void rig_start(rig *r, wh_network_mode mode, wh_network_options o)
{
    wh_err err = {0};
    o.mode = mode;
    o.netd_program = getenv("WH_NETD");
    o.netd_uid = 65534;
    o.state_dir = r->dir;
    o.on_restart = on_restart;
    o.user = r;
    if (o.netd_program == NULL)
        SKIP("WH_NETD is the program");
    if (r->dir[0] == '\0') {
        (void)snprintf(r->dir, sizeof(r->dir), "/tmp/wherry-network-XXXXXX");
        CHECK(mkdtemp(r->dir) != NULL);
        o.state_dir = r->dir;
    }
    CHECK_OK(wh_loop_new(&r->loop, &err), &err);
    CHECK_OK(wh_network_new(r->loop, &o, &r->network, &r->weaker, &err), &err);
}

static void rig_stop(rig *r)
{
    wh_network_free(r->network);
    wh_loop_free(r->loop);
    free(WH_TAKE(r->weaker));
}

static void rig_done(rig *r)
{
    rig_stop(r);
    CHECK_OK(wh_rm_rf(AT_FDCWD, r->dir, NULL), NULL);
}

/* Connects from here and accepts there; the blocking end. */
static void check_reaches(rig *r, int listener, const char *host)
{
    wh_addr addr;
    wh_err err = {0};
    int port, fd = -1;
    CHECK_OK(wh_socket_local(listener, &addr), NULL);
    port = wh_addr_port(&addr);
    CHECK_OK(wh_addr_parse(host, port, &addr, &err), &err);
    CHECK_OK(wh_network_dial(r->network, &addr, &fd, &err), &err);
    int accepted = -1;
    for (int i = 0; i < 100 && accepted < 0; i++) {
        accepted = accept(listener, NULL, NULL);
        usleep(1000);
    }
    CHECK_INT(accepted, >=, 0);
    close(accepted);
    close(fd);
}

TEST(on_the_host_a_pod_has_the_nodes_address)
{
    rig r = {0};
    wh_err err = {0};
    wh_addr addresses[2];
    size_t n = 0;
    int fds[2];
    rig_start(&r, WH_NETWORK_HOST, (wh_network_options){0});
    CHECK(r.weaker == NULL);
    const wh_netd_pod pod = {.id = "a"};
    CHECK_OK(wh_network_pod_add(r.network, &pod, false, addresses, &n, &err), &err);
    CHECK_INT(n, >=, 1);
    CHECK_OK(wh_network_pod_listen(r.network, "a", 0, fds, &n, &err), &err);
    CHECK_INT(n, ==, 1);
    check_reaches(&r, fds[0], "127.0.0.1");
    close(fds[0]);
    CHECK_ERR(wh_network_pod_listen(r.network, "b", 0, fds, &n, &err), -ENOENT, &err, "no pod 'b'");
    CHECK_OK(wh_network_pod_remove(r.network, "a", &err), &err);
    CHECK_ERR(wh_network_pod_remove(r.network, "a", &err), -ENOENT, &err, "no pod 'a'");
    rig_done(&r);
}

TEST(a_host_address_is_the_only_one)
{
    rig r = {0};
    wh_err err = {0};
    wh_network_options o = {0};
    wh_addr addresses[2], local;
    char text[WH_ADDR_TEXT_MAX];
    size_t n = 0;
    int fds[2];
    CHECK_OK(wh_addr_parse("127.0.0.1", 0, &o.host_address, &err), &err);
    rig_start(&r, WH_NETWORK_HOST, o);
    const wh_netd_pod pod = {.id = "a"};
    CHECK_OK(wh_network_pod_add(r.network, &pod, false, addresses, &n, &err), &err);
    CHECK_INT(n, ==, 1);
    CHECK_STR(wh_addr_ip(&addresses[0], text), "127.0.0.1");
    CHECK_OK(wh_network_pod_listen(r.network, "a", 0, fds, &n, &err), &err);
    CHECK_OK(wh_socket_local(fds[0], &local), NULL);
    CHECK_STR(wh_addr_ip(&local, text), "127.0.0.1");
    close(fds[0]);
    rig_done(&r);
}

static pid_t child(void)
{
    char path[64];
    auto_free char *text = NULL;
    wh_err err = {0};
    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
    CHECK_OK(wh_read_file(AT_FDCWD, path, 4096, &text, NULL, &err), &err);
    return (pid_t)strtol(text, NULL, 10);
}

TEST(a_netd_that_was_killed_is_started_again_and_told)
{
    rig r = {0};
    wh_err err = {0};
    wh_addr addresses[2];
    size_t n = 0;
    int fd = -1;
    rig_start(&r, WH_NETWORK_HOST, (wh_network_options){0});
    const wh_netd_pod pod = {.id = "a"};
    CHECK_OK(wh_network_pod_add(r.network, &pod, false, addresses, &n, &err), &err);
    CHECK_OK(kill(child(), SIGKILL), NULL);
    wh_time begin = wh_mono_now();
    while (r.restarts == 0)
        CHECK_OK(wh_loop_once(r.loop, WH_SEC), NULL);
    CHECK_INT(wh_mono_now() - begin, <, 5 * WH_SEC);
    CHECK_OK(wh_network_pod_channel(r.network, "a", &fd, &err), &err); /* it knows the pod */
    close(fd);
    rig_done(&r);
}
