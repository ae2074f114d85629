/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "harness.h"
#include "node/network.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/socket.h>

static uid_t netd_uid = 65534;

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
    o.netd_uid = netd_uid;
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
    auto_free char *netns = wh_path_join(r->dir, "netns");
    (void)umount2(netns, MNT_DETACH);
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

/* A machine of our own: network and mounts. */
static void own_machine(void)
{
    char map[64];
    int flags = CLONE_NEWNET | CLONE_NEWNS;
    (void)snprintf(map, sizeof(map), "0 %u 1", getuid());
    if (unshare(flags) < 0) {
        if (unshare(flags | CLONE_NEWUSER) < 0)
            SKIP("no namespaces can be had");
        auto_close int fd = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
        CHECK_OK(wh_write_all(fd, map, strlen(map)), NULL);
        netd_uid = 0; /* the only one there is */
    }
    if (system("mount --make-rprivate / && ip link set lo up") != 0)
        SKIP("mount and ip are needed");
}

static wh_network_options shared_options(void)
{
    wh_network_options o = {.prefix4 = 24, .prefix6 = 64};
    CHECK_OK(wh_addr_parse("10.244.3.0", 0, &o.cidr4, NULL), NULL);
    CHECK_OK(wh_addr_parse("fd00:7::", 0, &o.cidr6, NULL), NULL);
    return o;
}

static void add_pod(rig *r, const char *id, char text[2][WH_ADDR_TEXT_MAX])
{
    wh_err err = {0};
    wh_addr addresses[2];
    size_t n = 0;
    const wh_netd_pod pod = {.id = id};
    CHECK_OK(wh_network_pod_add(r->network, &pod, false, addresses, &n, &err), &err);
    CHECK_INT(n, ==, 2);
    (void)wh_addr_ip(&addresses[0], text[0]);
    (void)wh_addr_ip(&addresses[1], text[1]);
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

/* ------------------------------------------------------------------ the shared network */

typedef struct runner {
    wh_netd_client *client;
    int rc, fd, answers;
} runner;

static void on_answer(void *user, uint64_t token, const wh_netd_answer *answer, int fd)
{
    runner *r = user;
    (void)token;
    r->rc = answer->rc;
    r->fd = fd;
    r->answers++;
}

static void runner_init(runner *u, rig *r, const char *id)
{
    wh_err err = {0};
    int fd = -1;
    *u = (runner){.fd = -1};
    CHECK_OK(wh_network_pod_channel(r->network, id, &fd, &err), &err);
    CHECK_OK(wh_netd_client_new(r->loop, fd, on_answer, u, &u->client, &err), &err);
}

static int runner_connect(runner *u, rig *r, const char *host, int port)
{
    wh_addr addr;
    wh_netd_request request = {.op = WH_NETD_CONNECT, .timeout_ms = 5000};
    CHECK_OK(wh_addr_parse(host, port, &addr, NULL), NULL);
    memcpy(&request.address, &addr.in6, sizeof(addr.in6));
    int before = u->answers;
    CHECK_OK(wh_netd_client_ask(u->client, &request), NULL);
    while (u->answers == before)
        CHECK_OK(wh_loop_once(r->loop, WH_SEC), NULL);
    return u->rc;
}

/* Who the listener thinks it talks to. */
static void check_from(int listener, const char *text)
{
    wh_addr peer;
    char got[WH_ADDR_TEXT_MAX];
    auto_close int fd = accept(listener, NULL, NULL);
    CHECK_INT(fd, >=, 0);
    CHECK_OK(wh_socket_peer(fd, &peer), NULL);
    CHECK_STR(wh_addr_ip(&peer, got), text);
}

static int port_of(int fd)
{
    wh_addr addr;
    CHECK_OK(wh_socket_local(fd, &addr), NULL);
    return wh_addr_port(&addr);
}

TEST(pods_of_a_node_talk_and_share_ports)
{
    rig r = {0};
    wh_err err = {0};
    char a[2][WH_ADDR_TEXT_MAX], b[2][WH_ADDR_TEXT_MAX];
    int fds_a[2], fds_b[2];
    size_t n = 0;
    runner from_a;
    own_machine();
    rig_start(&r, WH_NETWORK_SHARED, shared_options());
    CHECK_INT(wh_network_mode_of(r.network), ==, WH_NETWORK_SHARED);
    add_pod(&r, "a", a);
    add_pod(&r, "b", b);
    CHECK_STR(a[0], "10.244.3.2");
    CHECK_STR(b[1], "fd00:7::3");
    CHECK_OK(wh_network_pod_listen(r.network, "a", 80, fds_a, &n, &err), &err);
    CHECK_INT(n, ==, 2);
    CHECK_OK(wh_network_pod_listen(r.network, "b", 80, fds_b, &n, &err), &err);
    runner_init(&from_a, &r, "a");
    for (int i = 0; i < 2; i++) {
        CHECK_INT(runner_connect(&from_a, &r, b[i], 80), ==, 0);
        check_from(fds_b[i], a[i]);
        close(from_a.fd);
        /* Loopback is the pod itself, also where another one listens on that port. */
        CHECK_INT(runner_connect(&from_a, &r, i == 0 ? "127.0.0.1" : "::1", 80), ==, 0);
        check_from(fds_a[i], a[i]);
        close(from_a.fd);
        check_reaches(&r, fds_b[i], b[i]); /* as a probe does */
        close(fds_a[i]);
        close(fds_b[i]);
    }
    wh_netd_client_free(from_a.client);
    rig_done(&r);
}

TEST(a_pod_and_a_process_of_the_node)
{
    rig r = {0};
    wh_err err = {0};
    char a[2][WH_ADDR_TEXT_MAX];
    wh_egress_rule rules[2] = {{.prefix = 32}, {.prefix = 128}};
    const wh_netd_pod open = {.id = "a", .rules = rules, .n_rules = 2};
    wh_addr addresses[2];
    size_t n = 0;
    runner from_a;
    own_machine();
    if (system("ip link add node0 type veth peer name far0 && ip addr add 192.168.50.1/24 dev node0 && "
               "ip addr add fd00:50::1/64 dev node0 nodad && ip link set node0 up && ip link set far0 up") !=
        0)
        SKIP("no veth");
    rig_start(&r, WH_NETWORK_SHARED, shared_options());
    add_pod(&r, "a", a);
    runner_init(&from_a, &r, "a");
    static const char *const node[] = {"192.168.50.1", "fd00:50::1"};
    for (int i = 0; i < 2; i++) {
        int listener = -1;
        wh_addr addr;
        CHECK_OK(wh_addr_parse(node[i], 0, &addr, &err), &err);
        CHECK_OK(wh_listen(&addr, 0, &listener, &err), &err);
        /* The node is closed to pods unless a rule names it. */
        CHECK_INT(runner_connect(&from_a, &r, node[i], port_of(listener)), ==, -EACCES);
        rules[i].net = addr;
        rules[1 - i].net = addr;
        rules[0].prefix = rules[1].prefix = i == 0 ? 32 : 128;
        CHECK_OK(wh_network_pod_add(r.network, &open, false, addresses, &n, &err), &err);
        CHECK_INT(runner_connect(&from_a, &r, node[i], port_of(listener)), ==, 0);
        check_from(listener, a[i]);
        close(from_a.fd);
        close(listener);
    }
    CHECK_INT(runner_connect(&from_a, &r, "169.254.7.1", 22), ==, -EACCES);
    wh_netd_client_free(from_a.client);
    rig_done(&r);
}

static size_t routes(const rig *r)
{
    auto_free char *line =
        wh_xasprintf("nsenter --net=%s/netns ip route show table local proto 119 | wc -l", r->dir);
    FILE *p = popen(line, "r");
    size_t n = 0;
    CHECK(p != NULL);
    CHECK_INT(fscanf(p, "%zu", &n), ==, 1);
    CHECK_INT(pclose(p), ==, 0);
    return n;
}

static void inside(const rig *r, const char *command)
{
    auto_free char *line = wh_xasprintf("nsenter --net=%s/netns %s", r->dir, command);
    CHECK_INT(system(line), ==, 0);
}

TEST(a_later_agent_finds_pods_and_repairs_routes)
{
    rig r = {0};
    wh_err err = {0};
    char a[2][WH_ADDR_TEXT_MAX], b[2][WH_ADDR_TEXT_MAX], again[2][WH_ADDR_TEXT_MAX];
    runner from_a;
    own_machine();
    rig_start(&r, WH_NETWORK_SHARED, shared_options());
    add_pod(&r, "a", a);
    add_pod(&r, "b", b);
    runner_init(&from_a, &r, "a");
    wh_loop *first = r.loop;
    wh_network_free(r.network);
    CHECK_INT(routes(&r), ==, 2);
    /* Behind our back: one removed, one added. */
    auto_free char *removed = wh_xasprintf("ip route del local %s dev lo proto 119", a[0]);
    inside(&r, removed);
    inside(&r, "ip route add local 10.244.3.77 dev lo proto 119");
    inside(&r, "ip route add local 10.99.0.1 dev lo"); /* not ours */
    rig_start(&r, WH_NETWORK_SHARED, shared_options());
    CHECK_INT(wh_network_mode_of(r.network), ==, WH_NETWORK_SHARED);
    add_pod(&r, "a", again);
    CHECK_STR(again[0], a[0]);
    CHECK_STR(again[1], a[1]);
    wh_network_adopt(r.network, (const char *const[]){"a"}, 1);
    CHECK_INT(routes(&r), ==, 1);
    inside(&r, "ip route show table local 10.99.0.1 | grep -q 10.99.0.1");
    add_pod(&r, "c", again); /* the freed address is not the next one */
    CHECK_STR(again[0], "10.244.3.4");
    /* The runner never noticed: its channel is netd's. */
    wh_addr addr;
    wh_netd_request request = {.op = WH_NETD_LISTEN};
    CHECK_OK(wh_addr_parse("0.0.0.0", 81, &addr, &err), &err);
    memcpy(&request.address, &addr.in6, sizeof(addr.in6));
    CHECK_OK(wh_netd_client_ask(from_a.client, &request), NULL);
    while (from_a.answers == 0)
        CHECK_OK(wh_loop_once(first, WH_SEC), NULL);
    CHECK_INT(from_a.rc, ==, 0);
    close(from_a.fd);
    wh_netd_client_free(from_a.client);
    wh_loop_free(first);
    CHECK_OK(wh_network_pod_remove(r.network, "a", &err), &err);
    rig_done(&r);
}

TEST(addresses_run_out_and_come_back)
{
    rig r = {0};
    wh_err err = {0};
    wh_addr addresses[2];
    size_t n = 0;
    own_machine();
    wh_network_options o = shared_options();
    o.cidr6 = (wh_addr){0};
    o.prefix4 = 29; /* .2 to .6 */
    rig_start(&r, WH_NETWORK_SHARED, o);
    char id[] = "p0";
    for (int i = 0; i < 5; i++, id[1]++) {
        const wh_netd_pod pod = {.id = id};
        CHECK_OK(wh_network_pod_add(r.network, &pod, false, addresses, &n, &err), &err);
        CHECK_INT(n, ==, 1);
    }
    const wh_netd_pod pod = {.id = id};
    CHECK_ERR(wh_network_pod_add(r.network, &pod, false, addresses, &n, &err), -EADDRNOTAVAIL, &err,
              "in use");
    CHECK_OK(wh_network_pod_remove(r.network, "p2", &err), &err);
    CHECK_OK(wh_network_pod_add(r.network, &pod, false, addresses, &n, &err), &err);
    CHECK_INT(ntohl(addresses[0].in4.sin_addr.s_addr) & 7, ==, 4);
    rig_done(&r);
}

TEST(a_cidr_without_room_is_refused)
{
    wh_network_options o = {.mode = WH_NETWORK_SHARED, .netd_program = "x", .prefix4 = 31};
    wh_loop *loop = NULL;
    wh_network *network = NULL;
    char *weaker = NULL, dir[] = "/tmp/wherry-network-XXXXXX";
    wh_err err = {0};
    CHECK(mkdtemp(dir) != NULL);
    o.state_dir = dir;
    CHECK_OK(wh_addr_parse("10.244.3.0", 0, &o.cidr4, &err), &err);
    CHECK_OK(wh_loop_new(&loop, &err), &err);
    CHECK_ERR(wh_network_new(loop, &o, &network, &weaker, &err), -EINVAL, &err, "CIDR");
    wh_loop_free(loop);
    CHECK_OK(wh_rm_rf(AT_FDCWD, dir, NULL), NULL);
}

TEST(without_namespaces_pods_are_on_the_host)
{
    rig r = {0};
    wh_err err = {0};
    wh_addr addresses[2];
    size_t n = 0;
    if (getuid() == 0 && setresuid(65534, 65534, 65534) < 0)
        SKIP("no other user");
    rig_start(&r, WH_NETWORK_SHARED, shared_options());
    CHECK_INT(wh_network_mode_of(r.network), ==, WH_NETWORK_HOST);
    CHECK_CONTAINS(r.weaker, "make a network namespace");
    const wh_netd_pod pod = {.id = "a"};
    CHECK_OK(wh_network_pod_add(r.network, &pod, false, addresses, &n, &err), &err);
    rig_done(&r);
}
