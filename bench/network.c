/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses of pods, all that a pod needs of the network (its address, and netd's knowledge of it), and sockets that
 * netd makes, beside what a process pays that makes its own. All in namespaces of our own. Needs ip (iproute2). */
#include "base/file.h"
#include "bench.h"
#include "netd/protocol.h"
#include "node/network_internal.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>

#define PODS 1000

static void must(int rc, const char *what, const wh_err *err)
{
    if (rc >= 0)
        return;
    (void)fprintf(stderr, "network: %s: %s\n", what, err != NULL ? err->msg : strerror(-rc));
    exit(1);
}

static void own_machine(void)
{
    if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        system("ip link set lo up") != 0) {
        (void)fprintf(stderr, "network: namespaces of its own and ip are needed\n");
        exit(77);
    }
}

static wh_network *make_network(wh_loop *loop, const char *dir, const char *program)
{
    wh_network *network = NULL;
    wh_err err = {0};
    auto_free char *weaker = NULL;
    wh_network_options o = {.mode = WH_NETWORK_SHARED,
                            .prefix4 = 16,
                            .netd_program = program,
                            .netd_uid = 65534,
                            .state_dir = dir};
    must(wh_addr_parse("10.244.0.0", 0, &o.cidr4, &err), "address", &err);
    must(wh_network_new(loop, &o, &network, &weaker, &err), "network", &err);
    if (wh_network_mode_of(network) != WH_NETWORK_SHARED) {
        (void)fprintf(stderr, "network: %s\n", weaker);
        exit(77);
    }
    return network;
}

static void add(wh_network *network, const char *id, wh_addr *ret)
{
    wh_err err = {0};
    wh_addr addresses[2];
    size_t n = 0;
    const wh_netd_pod pod = {.id = id};
    must(wh_network_pod_add(network, &pod, false, addresses, &n, &err), "add a pod", &err);
    if (ret != NULL)
        *ret = addresses[0];
}

/* Address, route and netd's knowledge of it: all that a pod needs. */
static void add_pods(wh_network *network, bool add_them)
{
    char id[32];
    wh_err err = {0};
    for (int i = 0; i < PODS; i++) {
        (void)snprintf(id, sizeof(id), "pod-%d", i);
        if (add_them)
            add(network, id, NULL);
        else
            must(wh_network_pod_remove(network, id, &err), "remove a pod", &err);
    }
}

/* Milliseconds for PODS addresses: chosen, written down, and in the kernel. */
static double add_addresses(const char *dir)
{
    wh_err err = {0};
    wh_addresses *table = NULL;
    wh_network_options o = {.prefix4 = 16};
    char id[32];
    int nl = -1;
    auto_free char *path = wh_path_join(dir, "bench");
    must(wh_addr_parse("10.245.0.0", 0, &o.cidr4, &err), "address", &err);
    must(wh_link_open(&nl), "netlink", NULL);
    must(wh_addresses_open(path, &o, &table, &err), "table", &err);
    wh_time begin = wh_mono_now();
    for (int i = 0; i < PODS; i++) {
        wh_addr addresses[2];
        size_t n = 0;
        (void)snprintf(id, sizeof(id), "pod-%d", i);
        must(wh_addresses_take(table, id, addresses, &n, &err), "take", &err);
        must(wh_link_local(nl, &addresses[0], true), "route", NULL);
    }
    double took = (double)(wh_mono_now() - begin) / WH_MSEC;
    for (int i = 0; i < PODS; i++) {
        wh_addr addresses[2];
        size_t n = 0;
        (void)snprintf(id, sizeof(id), "pod-%d", i);
        must(wh_addresses_take(table, id, addresses, &n, &err), "take", &err);
        must(wh_link_local(nl, &addresses[0], false), "route", NULL);
        wh_addresses_give(table, id);
    }
    wh_addresses_free(table);
    close(nl);
    return took;
}

static int ask(int channel, const wh_netd_request *request)
{
    wh_netd_answer answer;
    size_t n = 0;
    int fd = -1, rc = wh_netd_send(channel, request, sizeof(*request), -1);
    struct pollfd p = {.fd = channel, .events = POLLIN};
    while (rc == 0 || rc == -EAGAIN) {
        (void)poll(&p, 1, 1000);
        rc = wh_netd_recv(channel, &answer, sizeof(answer), &n, &fd);
    }
    must(rc == 1 ? answer.rc : rc, "ask netd", NULL);
    return fd;
}

static void drain(int listener)
{
    int fd = accept(listener, NULL, NULL);
    if (fd >= 0)
        close(fd);
}

static int connect_self(const wh_addr *peer)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(connect(fd, &peer->sa, peer->len), "connect", NULL);
    return fd;
}

int main(int argc, char **argv)
{
    int rounds = bench_rounds(argc, argv, 2000), fds[2], channel = -1;
    const char *bench_dir = getenv("BENCH_DIR");
    char dir[] = "/tmp/wherry-bench-XXXXXX";
    wh_loop *loop = NULL;
    wh_err err = {0};
    wh_addr a, b;
    size_t n = 0;
    own_machine();
    must(mkdtemp(dir) == NULL ? -errno : 0, "a folder", NULL);
    auto_free char *program = wh_xasprintf("%s/../src/netd/wherry-netd", bench_dir == NULL ? "." : bench_dir);
    must(wh_loop_new(&loop, &err), "loop", &err);
    wh_network *network = make_network(loop, dir, program);
    add(network, "a", &a); /* starts netd */
    add(network, "b", &b);

    double whole = 0, addresses = 0;
    for (int i = 0; i < WH_MAX(rounds / 400, 3); i++) {
        wh_time begin = wh_mono_now();
        add_pods(network, true);
        double took = (double)(wh_mono_now() - begin) / WH_MSEC;
        whole = i == 0 || took < whole ? took : whole;
        add_pods(network, false);
        took = add_addresses(dir);
        addresses = i == 0 || took < addresses ? took : addresses;
    }
    bench_report("pod_address_1000_ms", addresses, "ms", NULL, 0, 20);
    bench_report("pod_network_1000_ms", whole, "ms", NULL, 0, 0);

    must(wh_network_pod_listen(network, "b", 80, fds, &n, &err), "listen", &err);
    must(wh_network_pod_channel(network, "a", &channel, &err), "channel", &err);
    wh_netd_request request = {.version = WH_NETD_VERSION, .op = WH_NETD_CONNECT};
    wh_addr_set_port(&b, 80);
    memcpy(&request.address, &b.in4, sizeof(b.in4));
    double brokered = 0;
    for (int i = 0; i < rounds; i++) {
        wh_time begin = wh_mono_now();
        int fd = ask(channel, &request);
        double took = (double)(wh_mono_now() - begin);
        brokered = i == 0 || took < brokered ? took : brokered;
        close(fd);
        drain(fds[0]);
    }
    wh_addr local = {0};
    must(wh_addr_parse("127.0.0.1", 0, &local, &err), "address", &err);
    auto_close int listener = -1;
    must(wh_listen(&local, 0, &listener, &err), "listen", &err);
    must(wh_socket_local(listener, &local), "address", NULL);
    double direct = 0;
    for (int i = 0; i < rounds; i++) {
        wh_time begin = wh_mono_now();
        int fd = connect_self(&local);
        double took = (double)(wh_mono_now() - begin);
        direct = i == 0 || took < direct ? took : direct;
        close(fd);
        drain(listener);
    }
    bench_report("netd_connect_us", brokered / 1000, "us", "own socket", direct / 1000, 40);
    close(channel);
    close(fds[0]);
    wh_network_free(network);
    wh_loop_free(loop);
    auto_free char *mounted = wh_path_join(dir, "netns");
    (void)umount2(mounted, MNT_DETACH);
    (void)wh_rm_rf(AT_FDCWD, dir, NULL);
    return 0;
}
