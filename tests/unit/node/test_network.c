/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "harness.h"
#include "node/network.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>

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

static void map_id(const char *path, unsigned id)
{
    char text[64];
    auto_close int fd = open(path, O_WRONLY | O_CLOEXEC);
    (void)snprintf(text, sizeof(text), "0 %u 1", id);
    if (!wh_ends_with(path, "_map"))
        (void)snprintf(text, sizeof(text), "deny");
    CHECK_OK(wh_write_all(fd, text, strlen(text)), NULL);
}

/* A machine of our own: network and mounts. */
static void own_machine(void)
{
    const int flags = CLONE_NEWNET | CLONE_NEWNS;
    const unsigned uid = getuid(), gid = getgid();
    if (unshare(flags) < 0) {
        if (unshare(flags | CLONE_NEWUSER) < 0)
            SKIP("no namespaces can be had");
        map_id("/proc/self/uid_map", uid);
        map_id("/proc/self/setgroups", 0);
        map_id("/proc/self/gid_map", gid);
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

TEST(the_networks_of_the_cluster_are_open)
{
    rig r = {0};
    wh_err err = {0};
    char a[2][WH_ADDR_TEXT_MAX];
    wh_addr addresses[2];
    size_t n = 0;
    runner from_a;
    own_machine();
    wh_network_options o = shared_options();
    o.cluster_cidrs = "10.244.0.0/16, fd00::/16 ,";
    rig_start(&r, WH_NETWORK_SHARED, o);
    CHECK_INT(wh_network_mode_of(r.network), ==, WH_NETWORK_SHARED);
    add_pod(&r, "a", a);
    runner_init(&from_a, &r, "a");
    CHECK_INT(runner_connect(&from_a, &r, "10.243.1.1", 80), ==, -EACCES);
    CHECK_INT(runner_connect(&from_a, &r, "10.244.9.9", 80), !=,
              -EACCES); /* nobody is there, but it may ask */
    CHECK_INT(runner_connect(&from_a, &r, "fd00:9::1", 80), !=, -EACCES);
    const wh_netd_pod closed = {.id = "a", .closed = true};
    CHECK_OK(wh_network_pod_add(r.network, &closed, false, addresses, &n, &err), &err);
    CHECK_INT(runner_connect(&from_a, &r, "10.244.9.9", 80), ==, -EACCES);
    wh_netd_client_free(from_a.client);
    rig_done(&r);
    static const char *const wrong[] = {"10.244.0.0", "10.244.0.0/33", "x/8",
                                        "/8",         "10.0.0.0:80/8", "10.0.0.0/8/8"};
    for (size_t i = 0; i < WH_ARRAY_LEN(wrong); i++) {
        wh_network *network = NULL;
        wh_loop *loop = NULL;
        char *weaker = NULL;
        o.cluster_cidrs = wrong[i];
        o.netd_program = o.state_dir = "/tmp";
        CHECK_OK(wh_loop_new(&loop, &err), &err);
        CHECK_ERR(wh_network_new(loop, &o, &network, &weaker, &err), -EINVAL, &err, "network of the cluster");
        wh_loop_free(loop);
    }
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

/* Runs fn in the namespace, on a process of its own; its exit code. */
static pid_t elsewhere(const char *netns, int (*fn)(int ready), int *ret_ready)
{
    int ready[2];
    CHECK_OK(pipe(ready), NULL);
    pid_t pid = fork();
    if (pid == 0) {
        auto_close int ns = open(netns, O_RDONLY | O_CLOEXEC);
        close(ready[0]);
        _exit(ns < 0 || setns(ns, CLONE_NEWNET) < 0 ? 99 : fn(ready[1]));
    }
    close(ready[1]);
    *ret_ready = ready[0];
    return pid;
}

/* Takes two connections, and tells who came. */
static int server_b(int ready)
{
    wh_addr addr;
    int fd = -1;
    char text[WH_ADDR_TEXT_MAX] = "up";
    if (wh_addr_parse("192.168.50.2", 8080, &addr, NULL) < 0 || wh_listen(&addr, 0, &fd, NULL) < 0 ||
        write(ready, text, sizeof(text)) < 0)
        return 1;
    for (int i = 0; i < 2; i++) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 10000) != 1)
            return 2;
        int peer = accept(fd, NULL, NULL);
        if (peer < 0 || wh_socket_peer(peer, &addr) < 0)
            return 3;
        (void)wh_addr_ip(&addr, text);
        if (write(ready, text, sizeof(text)) < 0)
            return 4;
        close(peer);
    }
    return 0;
}

/* Calls a pod of the node. */
static int client_b(int ready)
{
    wh_addr addr;
    (void)ready;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (wh_addr_parse("10.244.3.2", 80, &addr, NULL) < 0 || connect(fd, &addr.sa, addr.len) < 0)
        return errno;
    return 0;
}

static void check_told(int ready, const char *expected)
{
    char text[WH_ADDR_TEXT_MAX];
    CHECK_INT(read(ready, text, sizeof(text)), ==, sizeof(text));
    CHECK_STR(text, expected);
}

static int wait_code(pid_t pid)
{
    int status = 0;
    CHECK_INT(waitpid(pid, &status, 0), ==, pid);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* A is this machine, B another one, as in a cluster and as outside of it. */
TEST(another_machine_and_pods)
{
    rig r = {0};
    wh_err err = {0};
    char a[2][WH_ADDR_TEXT_MAX];
    wh_egress_rule rule = {.prefix = 24};
    const wh_netd_pod open_pod = {.id = "a", .rules = &rule, .n_rules = 1};
    wh_addr addresses[2];
    size_t n = 0;
    runner from_a;
    int ready = -1, fds[2];
    own_machine();
    if (system(
            "mount -t tmpfs t /run && mkdir /run/netns && ip netns add B && "
            "ip link add w0 type veth peer name eth0 netns B && ip addr add 192.168.50.1/24 dev w0 && "
            "ip -n B addr add 192.168.50.2/24 dev eth0 && ip link set w0 up && ip -n B link set eth0 up && "
            "ip -n B link set lo up && ip -n B route add 10.244.3.0/24 via 192.168.50.1") != 0)
        SKIP("no named namespaces");
    bool nft = system("nft list tables >/dev/null 2>&1") == 0;
    wh_network_options o = shared_options();
    o.cluster_cidrs = "10.244.0.0/16, 192.168.50.0/24";
    rig_start(&r, WH_NETWORK_SHARED, o);
    add_pod(&r, "a", a);
    CHECK_OK(wh_addr_parse("192.168.50.0", 0, &rule.net, &err), &err);
    CHECK_OK(wh_network_pod_add(r.network, &open_pod, false, addresses, &n, &err), &err);
    CHECK_OK(wh_network_pod_listen(r.network, "a", 80, fds, &n, &err), &err);
    runner_init(&from_a, &r, "a");

    pid_t b = elsewhere("/run/netns/B", client_b, &ready);
    CHECK_INT(wait_code(b), ==, 0);
    check_from(fds[0], "192.168.50.2"); /* true source */
    close(ready);

    b = elsewhere("/run/netns/B", server_b, &ready);
    check_told(ready, "up");
    CHECK_INT(runner_connect(&from_a, &r, "192.168.50.2", 8080), ==, 0);
    close(from_a.fd);
    check_told(ready, "10.244.3.2"); /* in the cluster a pod is itself */
    if (nft) {
        wh_network_free(r.network);
        wh_loop *first = r.loop;
        o.cluster_cidrs = NULL;
        rig_start(&r, WH_NETWORK_SHARED, o);
        CHECK(r.weaker == NULL);
        CHECK_OK(wh_network_pod_add(r.network, &open_pod, false, addresses, &n, &err), &err);
        runner again;
        runner_init(&again, &r, "a");
        CHECK_INT(runner_connect(&again, &r, "192.168.50.2", 8080), ==, 0);
        close(again.fd);
        check_told(ready, "192.168.50.1"); /* outside it is the node */
        wh_netd_client_free(again.client);
        wh_netd_client_free(from_a.client);
        wh_loop_free(first);
        CHECK_INT(wait_code(b), ==, 0);
    } else {
        CHECK_CONTAINS(r.weaker, "'nft' set no rule");
        wh_netd_client_free(from_a.client);
        (void)kill(b, SIGKILL);
        (void)waitpid(b, NULL, 0);
    }
    close(ready);
    close(fds[0]);
    close(fds[1]);
    rig_done(&r);
}

/* What the namespace itself forbids and allows, to a process with no capability in it. */
static int sockets_inside(int ready)
{
    wh_addr addr;
    (void)ready;
    if (setresuid(65534, 65534, 65534) < 0)
        return 1;
    /* Data with the first packet would connect past connect(). */
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)wh_addr_parse("10.244.3.2", 81, &addr, NULL);
    if (sendto(fd, "x", 1, MSG_FASTOPEN | MSG_NOSIGNAL, &addr.sa, addr.len) >= 0 || errno != EOPNOTSUPP)
        return 2;
    (void)wh_addr_parse("10.244.3.2", 79, &addr, NULL);
    if (bind(fd, &addr.sa, addr.len) < 0)
        return 3;
    close(fd);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)wh_addr_parse("10.244.3.99", 79, &addr, NULL); /* nobody's */
    if (bind(fd, &addr.sa, addr.len) == 0 || errno != EADDRNOTAVAIL)
        return 4;
    close(fd);
    return socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP) >= 0 ? 5 : 0;
}

TEST(the_namespace_keeps_its_rules)
{
    rig r = {0};
    char a[2][WH_ADDR_TEXT_MAX];
    int ready = -1;
    own_machine();
    if (netd_uid == 0)
        SKIP("a second user is needed");
    rig_start(&r, WH_NETWORK_SHARED, shared_options());
    add_pod(&r, "a", a);
    auto_free char *netns = wh_path_join(r.dir, "netns");
    CHECK_INT(wait_code(elsewhere(netns, sockets_inside, &ready)), ==, 0);
    close(ready);
    rig_done(&r);
}
