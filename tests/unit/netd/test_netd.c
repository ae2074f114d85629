/* SPDX-License-Identifier: Apache-2.0 */
/* wherry-netd as its clients see it: the program itself, in a network namespace of the test. */
#include "base/file.h"
#include "netd/protocol.h"
#include "rig.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

static const char *const pod_a[] = {"10.1.0.1", NULL}, *const pod_b[] = {"10.1.0.2", NULL};

static void check_local(int fd, const char *text)
{
    wh_addr addr;
    char out[WH_ADDR_TEXT_MAX];
    CHECK_OK(wh_socket_local(fd, &addr), NULL);
    CHECK_STR(wh_addr_ip(&addr, out), text);
}

static int local_port(int fd)
{
    wh_addr addr;
    CHECK_OK(wh_socket_local(fd, &addr), NULL);
    return wh_addr_port(&addr);
}

TEST(two_pods_talk_on_the_same_port)
{
    rig r;
    caller a, b;
    int listener_a = -1, listener_b = -1, fd = -1;
    char text[64];
    rig_init(&r, NULL, -1);
    rig_pod(&r, "a", pod_a, NULL);
    rig_pod(&r, "b", pod_b, NULL);
    caller_init(&a, &r, "a");
    caller_init(&b, &r, "b");
    CHECK_INT(caller_ask(&a, WH_NETD_LISTEN, "0.0.0.0:0", NULL, &listener_a), ==, 0);
    check_local(listener_a, "10.1.0.1");
    int port = local_port(listener_a);
    (void)snprintf(text, sizeof(text), "127.0.0.1:%d", port); /* the pod itself */
    CHECK_INT(caller_ask(&b, WH_NETD_LISTEN, text, NULL, &listener_b), ==, 0);
    check_local(listener_b, "10.1.0.2");
    CHECK_INT(local_port(listener_b), ==, port);

    (void)snprintf(text, sizeof(text), "10.1.0.2:%d", port);
    CHECK_INT(caller_ask(&a, WH_NETD_CONNECT, text, NULL, &fd), ==, 0);
    check_local(fd, "10.1.0.1");
    auto_close int accepted = accept(listener_b, NULL, NULL);
    CHECK_INT(accepted, >=, 0);
    CHECK_INT(write(fd, "hi", 2), ==, 2);
    char got[2];
    CHECK_INT(read(accepted, got, 2), ==, 2);
    close(fd);
    (void)snprintf(text, sizeof(text), "127.0.0.1:%d", port);
    CHECK_INT(caller_ask(&a, WH_NETD_CONNECT, text, NULL, &fd), ==, 0);
    auto_close int own = accept(listener_a, NULL, NULL);
    CHECK_INT(own, >=, 0); /* and not b's */
    close(fd);
    close(listener_a);
    close(listener_b);
    caller_done(&a);
    caller_done(&b);
    rig_done(&r);
}

TEST(a_foreign_address_does_not_exist)
{
    rig r;
    caller a;
    const uint16_t ports[] = {8080};
    rig_init(&r, NULL, -1);
    rig_pod(&r, "a", pod_a, &(wh_netd_pod){.ports = ports, .n_ports = 1});
    rig_pod(&r, "b", pod_b, NULL);
    caller_init(&a, &r, "a");
    /* A pod's, one that nobody has, the node's, and another family: the same answer. */
    CHECK_INT(caller_ask(&a, WH_NETD_LISTEN, "10.1.0.2:8080", NULL, NULL), ==, -EADDRNOTAVAIL);
    CHECK_INT(caller_ask(&a, WH_NETD_LISTEN, "10.9.9.9:8080", NULL, NULL), ==, -EADDRNOTAVAIL);
    CHECK_INT(caller_ask(&a, WH_NETD_LISTEN, "10.1.255.1:8080", NULL, NULL), ==, -EADDRNOTAVAIL);
    CHECK_INT(caller_ask(&a, WH_NETD_LISTEN, "[::]:8080", NULL, NULL), ==, -EADDRNOTAVAIL);
    CHECK_INT(caller_ask(&a, WH_NETD_LISTEN, "0.0.0.0:8081", NULL, NULL), ==, -EACCES);
    CHECK_INT(caller_ask(&a, WH_NETD_LISTEN, "0.0.0.0:8080", NULL, NULL), ==, 0);
    CHECK_INT(caller_ask(&a, WH_NETD_CONNECT, "[2001:db8::1]:80", NULL, NULL), ==, -ENETUNREACH);
    caller_done(&a);
    rig_done(&r);
}

TEST(what_is_refused_is_told)
{
    rig r;
    caller a;
    rig_init(&r, NULL, -1);
    rig_pod(&r, "a", pod_a, NULL);
    caller_init(&a, &r, "a");
    CHECK_INT(caller_ask(&a, WH_NETD_CONNECT, "169.254.169.254:80", "metadata.internal", NULL), ==, -EACCES);
    while (r.refused == 0)
        CHECK_OK(wh_loop_once(r.loop, WH_SEC), NULL);
    /* The node got an address of the public kind. */
    wh_addr node;
    wh_err err = {0};
    CHECK_OK(wh_addr_parse("8.8.8.8", 0, &node, &err), &err);
    CHECK_INT(caller_ask(&a, WH_NETD_CONNECT, "8.8.8.8:53", NULL, NULL), ==, -ENETUNREACH);
    CHECK_OK(wh_netd_node_set(r.netd, &node, 1, &err), &err);
    CHECK_INT(caller_ask(&a, WH_NETD_CONNECT, "8.8.8.8:53", NULL, NULL), ==, -EACCES);
    while (r.refused == 1)
        CHECK_OK(wh_loop_once(r.loop, WH_SEC), NULL);
    CHECK_STR(r.target, "8.8.8.8:53");
    CHECK_INT(caller_ask(&a, WH_NETD_CONNECT, "169.254.169.254:80", "metadata.internal", NULL), ==, -EACCES);
    while (r.refused == 2)
        CHECK_OK(wh_loop_once(r.loop, WH_SEC), NULL);
    CHECK_STR(r.target, "169.254.169.254:80 metadata.internal");
    CHECK_CONTAINS(r.reason, "metadata");
    for (int i = 0; i < 50; i++)
        CHECK_INT(caller_ask(&a, WH_NETD_CONNECT, "10.0.0.1:80", NULL, NULL), ==, -EACCES);
    while (wh_loop_once(r.loop, 50 * WH_MSEC) == 0 && r.refused < 10)
        ;
    CHECK_INT(r.refused, <=, 11); /* ten a second, and the counter comes with the next one */
    caller_done(&a);
    rig_done(&r);
}

TEST(one_slow_target_delays_nobody)
{
    rig r;
    caller a, b;
    wh_addr rule_net = {0};
    wh_err err = {0};
    CHECK_OK(wh_addr_parse("10.1.0.3", 0, &rule_net, &err), &err);
    rig_init(&r, NULL, -1);
    rig_pod(&r, "a", pod_a, NULL);
    rig_pod(&r, "b", pod_b, NULL);
    rig_pod(&r, "silent", (const char *const[]){"10.1.0.3", NULL}, NULL);
    caller_init(&a, &r, "a");
    caller_init(&b, &r, "b");
    /* A listener whose queue is full drops what comes: a target that never answers. */
    auto_close int full = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_OK(bind(full, &rule_net.sa, rule_net.len), NULL);
    CHECK_OK(listen(full, 0), NULL);
    char text[64];
    (void)snprintf(text, sizeof(text), "10.1.0.3:%d", local_port(full));
    CHECK_INT(caller_ask(&a, WH_NETD_CONNECT, text, NULL, NULL), ==, 0);
    for (int i = 0; i < WH_NETD_IN_FLIGHT_MAX; i++)
        caller_send(&a, WH_NETD_CONNECT, text, NULL, 400);
    /* Others are served at once, also on ... */
    wh_time before = wh_mono_now();
    CHECK_INT(caller_ask(&b, WH_NETD_LISTEN, "0.0.0.0:0", NULL, NULL), ==, 0);
    CHECK_INT(wh_mono_now() - before, <, 300 * WH_MSEC);
    /* ... and past the limit the client says so. */
    wh_netd_request request = {.op = WH_NETD_LISTEN, .token = 1};
    CHECK_INT(wh_netd_client_ask(a.client, &request), ==, -EAGAIN);
    caller_wait(&a, 1 + WH_NETD_IN_FLIGHT_MAX, 5 * WH_SEC);
    CHECK_INT(a.answer.rc, ==, -ETIMEDOUT);
    caller_done(&a);
    caller_done(&b);
    rig_done(&r);
}

TEST(no_descriptor_is_left_behind)
{
    rig r;
    caller a;
    rig_init(&r, NULL, -1);
    rig_pod(&r, "a", pod_a, NULL);
    pid_t pid = netd_pid();
    int before = count_fds(pid), ours = count_fds(getpid());
    caller_init(&a, &r, "a");
    for (int i = 0; i < 100; i++) {
        CHECK_INT(caller_ask(&a, WH_NETD_LISTEN, "0.0.0.0:0", NULL, NULL), ==, 0);
        CHECK_INT(caller_ask(&a, WH_NETD_CONNECT, "10.1.0.1:1", NULL, NULL), ==, -ECONNREFUSED);
        CHECK_INT(caller_ask(&a, WH_NETD_UDP_CONNECT, "10.1.0.1:53", NULL, NULL), ==, 0);
        CHECK_INT(caller_ask(&a, WH_NETD_LISTEN, "10.9.9.9:1", NULL, NULL), ==, -EADDRNOTAVAIL);
    }
    CHECK_INT(count_fds(pid), ==, before + 1);
    caller_done(&a);
    while (count_fds(pid) > before)
        CHECK_OK(wh_loop_once(r.loop, WH_MSEC), NULL);
    CHECK_INT(count_fds(getpid()), ==, ours);
    rig_done(&r);
}

/* What a runner that was taken over may send. */
TEST(malformed_requests_are_answered)
{
    rig r;
    wh_err err = {0};
    int fd = -1;
    rig_init(&r, NULL, -1);
    rig_pod(&r, "a", pod_a, NULL);
    CHECK_OK(wh_netd_pod_channel(r.netd, "a", &fd, &err), &err);
    const struct {
        wh_netd_request request;
        size_t n;
        int rc;
    } cases[] = {
        {{.version = WH_NETD_VERSION, .op = WH_NETD_LISTEN}, 1, -EMSGSIZE},
        {{.version = WH_NETD_VERSION, .op = WH_NETD_LISTEN}, sizeof(wh_netd_request) - 1, -EMSGSIZE},
        {{.version = WH_NETD_VERSION, .op = WH_NETD_LISTEN}, sizeof(wh_netd_request) + 1, -EMSGSIZE},
        {{.version = WH_NETD_VERSION, .op = WH_NETD_LISTEN}, 4000, -EMSGSIZE},
        {{.version = WH_NETD_VERSION + 1, .op = WH_NETD_LISTEN}, sizeof(wh_netd_request), -EPROTO},
        {{.version = WH_NETD_VERSION, .op = 0}, sizeof(wh_netd_request), -EINVAL},
        {{.version = WH_NETD_VERSION, .op = 5}, sizeof(wh_netd_request), -EINVAL},
        {{.version = WH_NETD_VERSION, .op = WH_NETD_LISTEN}, sizeof(wh_netd_request), -EAFNOSUPPORT},
        {{.version = WH_NETD_VERSION, .op = WH_NETD_CONNECT, .address.ss_family = AF_UNIX},
         sizeof(wh_netd_request),
         -EAFNOSUPPORT},
        {{.version = WH_NETD_VERSION, .op = WH_NETD_CONNECT, .address.ss_family = AF_INET},
         sizeof(wh_netd_request),
         -EINVAL},
        {{.version = WH_NETD_VERSION, .op = WH_NETD_RESOLVE}, sizeof(wh_netd_request), -EINVAL},
        {{.version = WH_NETD_VERSION, .op = WH_NETD_RESOLVE, .name = "a..b"},
         sizeof(wh_netd_request),
         -EINVAL},
        {{.version = WH_NETD_VERSION, .op = WH_NETD_LISTEN, .backlog = -1}, sizeof(wh_netd_request), -EINVAL},
    };
    char bytes[4096] = {0};
    for (size_t i = 0; i < WH_ARRAY_LEN(cases); i++) {
        wh_netd_answer answer = {0};
        memcpy(bytes, &cases[i].request, sizeof(cases[i].request));
        CHECK_INT(send(fd, bytes, cases[i].n, 0), ==, cases[i].n);
        struct pollfd p = {.fd = fd, .events = POLLIN};
        CHECK_INT(poll(&p, 1, 5000), ==, 1);
        CHECK_INT(recv(fd, &answer, sizeof(answer), 0), ==, WH_NETD_ANSWER_BYTES(0));
        CHECK_INT(answer.rc, ==, cases[i].rc);
    }
    /* A name without an end. */
    wh_netd_request endless = {.version = WH_NETD_VERSION, .op = WH_NETD_RESOLVE};
    memset(endless.name, 'a', sizeof(endless.name));
    wh_netd_answer answer = {0};
    CHECK_INT(send(fd, &endless, sizeof(endless), 0), ==, sizeof(endless));
    struct pollfd p = {.fd = fd, .events = POLLIN};
    CHECK_INT(poll(&p, 1, 5000), ==, 1);
    CHECK_INT(recv(fd, &answer, sizeof(answer), 0), >, 0);
    CHECK_INT(answer.rc, ==, -EINVAL);
    close(fd);
    rig_done(&r);
}

/* A peer that asks and never reads: it is not read any more, and netd serves others. */
TEST(who_does_not_read_is_not_served)
{
    rig r;
    caller b;
    wh_err err = {0};
    int fd = -1, sent = 0;
    rig_init(&r, NULL, -1);
    rig_pod(&r, "a", pod_a, NULL);
    rig_pod(&r, "b", pod_b, NULL);
    CHECK_OK(wh_netd_pod_channel(r.netd, "a", &fd, &err), &err);
    const wh_netd_request request = {.version = WH_NETD_VERSION, .op = WH_NETD_RESOLVE, .name = "localhost"};
    for (int i = 0; i < 100000; i++) {
        if (send(fd, &request, sizeof(request), MSG_DONTWAIT) < 0) {
            struct pollfd p = {.fd = fd, .events = POLLOUT};
            if (poll(&p, 1, 100) == 0)
                break;
        } else {
            sent++;
        }
    }
    CHECK_INT(sent, <, 100000);
    caller_init(&b, &r, "b");
    CHECK_INT(caller_ask(&b, WH_NETD_LISTEN, "0.0.0.0:0", NULL, NULL), ==, 0);
    /* Its copy of that socket is closed before it takes the next request. */
    CHECK_INT(caller_ask(&b, WH_NETD_LISTEN, "10.9.9.9:1", NULL, NULL), ==, -EADDRNOTAVAIL);
    pid_t pid = netd_pid();
    int before = count_fds(pid);
    close(fd);
    for (int i = 0; i < 100 && count_fds(pid) == before; i++)
        CHECK_OK(wh_loop_once(r.loop, 20 * WH_MSEC), NULL);
    CHECK_INT(count_fds(pid), ==, before - 1);
    caller_done(&b);
    rig_done(&r);
}

TEST(killed_under_load_sockets_live_on)
{
    rig r, again;
    caller a;
    int listener = -1, fd = -1;
    char text[64];
    rig_init(&r, NULL, -1);
    rig_pod(&r, "a", pod_a, NULL);
    caller_init(&a, &r, "a");
    CHECK_INT(caller_ask(&a, WH_NETD_LISTEN, "0.0.0.0:0", NULL, &listener), ==, 0);
    (void)snprintf(text, sizeof(text), "10.1.0.1:%d", local_port(listener));
    CHECK_INT(caller_ask(&a, WH_NETD_CONNECT, text, NULL, &fd), ==, 0);
    for (int i = 0; i < 32; i++)
        caller_send(&a, WH_NETD_CONNECT, text, NULL, 0);
    CHECK_OK(kill(netd_pid(), SIGKILL), NULL);
    caller_wait(&a, 34, 5 * WH_SEC); /* each is answered, one way or the other */
    CHECK_INT(a.answers, ==, 34);
    while (r.lost == 0)
        CHECK_OK(wh_loop_once(r.loop, WH_SEC), NULL);
    wh_netd_request request = {.op = WH_NETD_LISTEN, .token = 1};
    CHECK_INT(wh_netd_client_ask(a.client, &request), ==, -ENOTCONN);
    auto_close int accepted = accept(listener, NULL, NULL);
    CHECK_INT(write(fd, "hi", 2), ==, 2);
    char got[2];
    CHECK_INT(read(accepted, got, 2), ==, 2);
    /* Another one, and the runner's new channel. */
    wh_err err = {0};
    int channel = -1;
    rig_init(&again, NULL, -1);
    rig_pod(&again, "a", pod_a, NULL);
    CHECK_OK(wh_netd_pod_channel(again.netd, "a", &channel, &err), &err);
    CHECK_OK(wh_netd_client_set(a.client, channel, &err), &err);
    CHECK_INT(caller_ask(&a, WH_NETD_CONNECT, text, NULL, NULL), ==, 0);
    close(fd);
    close(listener);
    caller_done(&a);
    rig_done(&r);
    rig_done(&again);
}

TEST(outlives_its_agent_and_serves_the_next)
{
    rig first, second;
    caller a;
    char dir[] = "/tmp/wherry-netd-XXXXXX", path[64];
    CHECK(mkdtemp(dir) != NULL);
    (void)snprintf(path, sizeof(path), "%s/s", dir);
    rig_init(&first, path, -1);
    pid_t pid = netd_pid();
    rig_pod(&first, "a", pod_a, NULL);
    rig_pod(&first, "old", pod_b, NULL);
    caller_init(&a, &first, "a");
    wh_netd_free(first.netd);
    CHECK_INT(caller_ask(&a, WH_NETD_LISTEN, "0.0.0.0:0", NULL, NULL), ==, 0); /* nobody is there but it */
    rig_init(&second, path, -1);
    CHECK_INT(netd_pid(), ==, pid);
    rig_pod(&second, "a", pod_a, NULL);
    wh_err err = {0};
    rig_pod(&second, "new", (const char *const[]){"10.1.0.2", NULL}, NULL); /* "old" had it, and has ended */
    CHECK_OK(wh_netd_sweep(second.netd, &err), &err);
    CHECK_ERR(wh_netd_pod_remove(second.netd, "old", &err), -ENOENT, &err, "no pod 'old'");
    CHECK_INT(caller_ask(&a, WH_NETD_LISTEN, "0.0.0.0:0", NULL, NULL), ==, 0);
    wh_netd_free(second.netd);
    CHECK_OK(kill(pid, 0), NULL);
    caller_done(&a);
    wh_loop_free(first.loop); /* the channel is closed now: neither agent nor pod is left */
    wh_loop_free(second.loop);
    int status = 0;
    for (int i = 0; i < 500 && waitpid(pid, &status, WNOHANG) == 0; i++)
        usleep(10000);
    CHECK(WIFEXITED(status));
    CHECK_INT(WEXITSTATUS(status), ==, 0);
    (void)unlink(path);
    (void)rmdir(dir);
}

TEST(pods_are_replaced_removed_and_kept_apart)
{
    rig r;
    caller a;
    wh_err err = {0};
    int fd = -1;
    rig_init(&r, NULL, -1);
    rig_pod(&r, "a", pod_a, NULL);
    caller_init(&a, &r, "a");
    wh_addr addr = {0};
    CHECK_OK(wh_addr_parse("10.1.0.1", 0, &addr, NULL), NULL);
    const wh_netd_pod thief = {.id = "thief", .addresses = &addr, .n_addresses = 1};
    CHECK_ERR(wh_netd_pod_set(r.netd, &thief, &err), -EADDRINUSE, &err, "is that of 'a'");
    rig_pod(&r, "a", (const char *const[]){"10.1.0.9", NULL}, NULL); /* the channel stays */
    CHECK_INT(caller_ask(&a, WH_NETD_LISTEN, "0.0.0.0:0", NULL, &fd), ==, 0);
    check_local(fd, "10.1.0.9");
    close(fd);
    rig_pod(&r, "b", pod_a, NULL); /* that address is free again */
    CHECK_OK(wh_netd_pod_remove(r.netd, "a", &err), &err);
    CHECK_ERR(wh_netd_pod_remove(r.netd, "a", &err), -ENOENT, &err, "no pod 'a'");
    CHECK_ERR(wh_netd_pod_channel(r.netd, "a", &fd, &err), -ENOENT, &err, "no pod 'a'");
    wh_netd_request request = {.op = WH_NETD_LISTEN, .token = 1};
    while (wh_netd_client_ask(a.client, &request) == 0)
        caller_wait(&a, a.answers + 1, WH_SEC);
    CHECK_INT(wh_netd_client_ask(a.client, &request), ==, -ENOTCONN);
    caller_done(&a);
    rig_done(&r);
}

TEST(the_agent_gets_listeners)
{
    rig r;
    wh_err err = {0};
    wh_addr addr = {.in4 = {.sin_family = AF_UNSPEC}};
    int fd = -1, both = -1;
    char text[WH_ADDR_TEXT_MAX];
    rig_init(&r, NULL, -1);
    rig_pod(&r, "a", pod_a, NULL);
    rig_pod(&r, "host", NULL, NULL);
    CHECK_OK(wh_netd_pod_listen(r.netd, "a", &addr, &fd, &err), &err);
    check_local(fd, "10.1.0.1");
    CHECK_OK(wh_netd_pod_listen(r.netd, "host", &addr, &both, &err), &err);
    CHECK_OK(wh_socket_local(both, &addr), NULL);
    CHECK_CONTAINS("[::] 0.0.0.0", wh_addr_ip(&addr, text));
    int port = wh_addr_port(&addr), second = -1;
    CHECK_OK(wh_addr_parse("0.0.0.0", port, &addr, &err), &err);
    CHECK_ERR(wh_netd_pod_listen(r.netd, "host", &addr, &second, &err), -EADDRINUSE, &err,
              "listens on 0.0.0.0:");
    close(fd);
    close(both);
    rig_done(&r);
}

TEST(the_channels_of_a_pod_have_a_limit)
{
    rig r;
    wh_err err = {0};
    int fds[WH_NETD_CHANNELS_MAX], one = -1;
    rig_init(&r, NULL, -1);
    rig_pod(&r, "a", pod_a, NULL);
    for (size_t i = 0; i < WH_ARRAY_LEN(fds); i++)
        CHECK_OK(wh_netd_pod_channel(r.netd, "a", &fds[i], &err), &err);
    CHECK_ERR(wh_netd_pod_channel(r.netd, "a", &one, &err), -EMFILE, &err, "channel");
    for (size_t i = 0; i < WH_ARRAY_LEN(fds); i++)
        close(fds[i]);
    rig_done(&r);
}

TEST(ipv6_is_the_same)
{
    rig r;
    caller a, b;
    int listener = -1, fd = -1;
    char text[64];
    rig_init(&r, NULL, -1);
    rig_pod(&r, "a", (const char *const[]){"10.1.0.1", "fd00:1::a", NULL}, NULL);
    rig_pod(&r, "b", (const char *const[]){"10.1.0.2", "fd00:1::b", NULL}, NULL);
    caller_init(&a, &r, "a");
    caller_init(&b, &r, "b");
    CHECK_INT(caller_ask(&a, WH_NETD_LISTEN, "[::]:0", NULL, &listener), ==, 0);
    check_local(listener, "fd00:1::a");
    (void)snprintf(text, sizeof(text), "[fd00:1::a]:%d", local_port(listener));
    CHECK_INT(caller_ask(&b, WH_NETD_CONNECT, text, NULL, &fd), ==, 0);
    check_local(fd, "fd00:1::b");
    close(fd);
    (void)snprintf(text, sizeof(text), "[::1]:%d", local_port(listener));
    CHECK_INT(caller_ask(&a, WH_NETD_CONNECT, text, NULL, NULL), ==, 0);
    CHECK_INT(caller_ask(&b, WH_NETD_CONNECT, text, NULL, NULL), ==, -ECONNREFUSED); /* b's own */
    CHECK_INT(caller_ask(&a, WH_NETD_LISTEN, "[fd00:1::b]:0", NULL, NULL), ==, -EADDRNOTAVAIL);
    CHECK_INT(caller_ask(&a, WH_NETD_CONNECT, "[fd00:2::1]:80", NULL, NULL), ==, -EACCES);
    CHECK_INT(caller_ask(&a, WH_NETD_CONNECT, "[::ffff:10.1.255.1]:80", NULL, NULL), ==,
              -EACCES); /* the node */
    close(listener);
    caller_done(&a);
    caller_done(&b);
    rig_done(&r);
}

static int64_t status_of(pid_t pid, const char *key, int base)
{
    char path[64];
    auto_free char *text = NULL;
    wh_err err = {0};
    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    CHECK_OK(wh_read_file(AT_FDCWD, path, 65536, &text, NULL, &err), &err);
    const char *at = strstr(text, key);
    CHECK(at != NULL);
    return strtoll(at + strlen(key), NULL, base);
}

TEST(it_has_given_up_what_it_was_started_with)
{
    rig r;
    caller a;
    rig_init(&r, NULL, -1);
    rig_pod(&r, "host", NULL, NULL);
    caller_init(&a, &r, "host");
    pid_t pid = netd_pid();
    /* On the host's network: low ports, and nothing else. */
    CHECK_INT(status_of(pid, "CapEff:", 16) & ~(1 << 10), ==, 0);
    CHECK_INT(status_of(pid, "CapPrm:", 16) & ~(1 << 10), ==, 0);
    CHECK_INT(status_of(pid, "CapInh:", 16), ==, 0);
    CHECK_INT(status_of(pid, "CapBnd:", 16) & (1 << 21), ==, 0);
    CHECK_INT(status_of(pid, "NoNewPrivs:", 10), ==, 1);
    if (getenv("WH_NETD_NO_FILTER") == NULL)
        CHECK_INT(status_of(pid, "Seccomp:", 10), ==, 2);
    CHECK_INT(caller_ask(&a, WH_NETD_LISTEN, "127.0.0.1:80", NULL, NULL), ==, 0);
    caller_done(&a);
    rig_done(&r);
    /* In the pods' namespace: nothing at all. */
    auto_close int ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    rig_init(&r, NULL, ns);
    pid = netd_pid();
    CHECK_INT(status_of(pid, "CapEff:", 16), ==, 0);
    CHECK_INT(status_of(pid, "CapPrm:", 16), ==, 0);
    rig_done(&r);
}

/* What a runner could misuse is never handed over: each socket listens, or has its peer. */
TEST(sockets_are_connected_or_listen)
{
    rig r;
    caller a;
    int fd = -1, on = 0;
    socklen_t n = sizeof(on);
    wh_addr addr;
    rig_init(&r, NULL, -1);
    rig_pod(&r, "a", pod_a, NULL);
    caller_init(&a, &r, "a");
    CHECK_INT(caller_ask(&a, WH_NETD_LISTEN, "0.0.0.0:80", NULL, &fd), ==, 0);
    CHECK_OK(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &n), NULL);
    CHECK_INT(on, ==, 1);
    int peer = -1;
    CHECK_INT(caller_ask(&a, WH_NETD_CONNECT, "10.1.0.1:80", NULL, &peer), ==, 0);
    CHECK_OK(wh_socket_peer(peer, &addr), NULL);
    close(peer);
    close(fd);
    CHECK_INT(caller_ask(&a, WH_NETD_UDP_CONNECT, "10.1.0.1:53", NULL, &peer), ==, 0);
    CHECK_OK(wh_socket_peer(peer, &addr), NULL);
    close(peer);
    CHECK_INT(caller_ask(&a, WH_NETD_CONNECT, "10.1.0.1:80", NULL, &peer), ==, -ECONNREFUSED);
    CHECK_INT(peer, ==, -1);
    CHECK_INT(caller_ask(&a, WH_NETD_UDP_CONNECT, "224.0.0.1:53", NULL, &peer), ==, -EACCES);
    CHECK_INT(peer, ==, -1);
    caller_done(&a);
    rig_done(&r);
}

/* 64 requests of each of 128 channels fill a pod's share, and not netd's. */
TEST(what_a_pod_has_under_way_is_limited)
{
    enum { CHANNELS = WH_NETD_SOCKETS_MAX / WH_NETD_IN_FLIGHT_MAX };
    static caller c[CHANNELS + 1];
    rig r;
    caller b;
    rig_init(&r, NULL, -1);
    rig_pod(&r, "a", pod_a, &(wh_netd_pod){.resolv_conf = "nameserver 10.1.255.9\n"});
    rig_pod(&r, "b", pod_b, NULL);
    wh_addr silent;
    auto_close int nobody =
        socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0); /* takes queries and never answers */
    CHECK_OK(wh_addr_parse("10.1.255.9", 53, &silent, NULL), NULL);
    CHECK_OK(bind(nobody, &silent.sa, silent.len), NULL);
    for (int i = 0; i < CHANNELS; i++) {
        caller_init(&c[i], &r, "a");
        for (int k = 0; k < WH_NETD_IN_FLIGHT_MAX; k++)
            caller_send(&c[i], WH_NETD_RESOLVE, NULL, "a.example", 0);
    }
    caller_init(&c[CHANNELS], &r, "a");
    wh_loop_once(r.loop, 50 * WH_MSEC);
    CHECK_INT(caller_ask(&c[CHANNELS], WH_NETD_RESOLVE, NULL, "a.example", NULL), ==, -EAGAIN);
    caller_init(&b, &r, "b");
    CHECK_INT(caller_ask(&b, WH_NETD_LISTEN, "0.0.0.0:0", NULL, NULL), ==, 0);
    for (int i = 0; i <= CHANNELS; i++)
        caller_done(&c[i]);
    caller_done(&b);
    rig_done(&r);
}

/* A socket that nobody answers on, as a netd of another version or one that was stopped leaves. */
TEST(a_dead_socket_is_replaced)
{
    rig r;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    char dir[] = "/tmp/wherry-netd-XXXXXX";
    CHECK(mkdtemp(dir) != NULL);
    (void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/s", dir);
    int old = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    CHECK_OK(bind(old, (struct sockaddr *)&addr, sizeof(addr)), NULL);
    CHECK_OK(listen(old, 1), NULL);
    pid_t pid = fork();
    if (pid == 0) { /* takes the call and hangs up */
        int fd = accept(old, NULL, NULL);
        char byte;
        (void)!read(fd, &byte, 1);
        _exit(0);
    }
    close(old);
    rig_init(&r, addr.sun_path, -1);
    CHECK_INT(waitpid(pid, NULL, 0), ==, pid);
    rig_pod(&r, "a", pod_a, NULL);
    for (int i = 0; i < 5; i++)
        CHECK_OK(wh_loop_once(r.loop, 10 * WH_MSEC), NULL);
    CHECK_INT(r.lost, ==, 0);
    rig_done(&r);
    (void)unlink(addr.sun_path);
    (void)rmdir(dir);
}
