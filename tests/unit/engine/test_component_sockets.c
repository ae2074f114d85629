/* SPDX-License-Identifier: Apache-2.0 */
/* wasi:sockets over a C side that the tests play, with sockets on loopback. */
#include "base/clock.h"
#include "component_rig.h"
#include "harness.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#define WATCHES_MAX 16

typedef struct net {
    wh_comp_rig rig;
    wh_comp_client c;
    wh_comp_instance *i;
    wh_component_net ops;
    int rc;        /* of connect and resolve; 0: answer well */
    bool later;    /* answers come behind the call */
    uint64_t held; /* the token of such a question */
    unsigned connects, resolves, cancels, watched;
    char asked[64];
    struct {
        uint64_t token;
        struct pollfd p;
    } watches[WATCHES_MAX];
    size_t n_watches;
} net;

static int connected(const struct sockaddr *peer, socklen_t n)
{
    int fd = socket(peer->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(fd, >=, 0);
    if (connect(fd, peer, n) < 0) {
        int rc = -errno;
        (void)close(fd);
        return rc;
    }
    CHECK_INT(fcntl(fd, F_SETFL, O_NONBLOCK), ==, 0);
    return fd;
}

static int on_connect(void *user, uint64_t token, const struct sockaddr *peer, socklen_t n, bool datagrams)
{
    net *t = user;
    t->connects++;
    CHECK(!datagrams);
    if (t->rc < 0)
        return t->rc;
    t->held = token;
    if (t->later)
        return 0;
    int fd = connected(peer, n);
    wh_component_net_answer(t->rig.component, token, WH_MIN(fd, 0), fd, NULL, 0);
    return 0;
}

static int on_resolve(void *user, uint64_t token, wh_str name)
{
    net *t = user;
    t->resolves++;
    (void)snprintf(t->asked, sizeof(t->asked), "%.*s", WH_STR_ARG(name));
    struct sockaddr_storage found[2] = {0};
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    memcpy(&found[0], &v4, sizeof(v4));
    memcpy(&found[1], &v6, sizeof(v6));
    wh_component_net_answer(t->rig.component, token, t->rc, -1, found, t->rc == 0 ? 2 : 0);
    return 0;
}

static int on_watch(void *user, uint64_t token, int fd, bool read, bool write)
{
    net *t = user;
    CHECK_INT(t->n_watches, <, WATCHES_MAX);
    t->watched++;
    t->watches[t->n_watches].token = token;
    t->watches[t->n_watches++].p =
        (struct pollfd){.fd = fd, .events = (short)((read ? POLLIN : 0) | (write ? POLLOUT : 0))};
    return 0;
}

static void forget(net *t, size_t at)
{
    t->watches[at] = t->watches[--t->n_watches];
}

static void on_cancel(void *user, uint64_t token)
{
    net *t = user;
    t->cancels++;
    for (size_t k = 0; k < t->n_watches; k++) {
        if (t->watches[k].token == token) {
            forget(t, k);
            return;
        }
    }
}

static void net_up(net *t, bool offered)
{
    *t = (net){0};
    t->ops = (wh_component_net){
        .user = t, .connect = on_connect, .resolve = on_resolve, .watch = on_watch, .cancel = on_cancel};
    comp_init(&t->rig);
    t->rig.config.net = offered ? &t->ops : NULL;
    comp_load(&t->rig, "many-p2");
    t->i = comp_instance(&t->rig);
    client_init(&t->c);
}

static void net_down(net *t)
{
    client_done(&t->c);
    comp_free(t->i);
    CHECK_INT(t->n_watches, ==, 0); /* nobody waits behind the instance */
    comp_done(&t->rig);
}

/* The loop of the C side: polls the guest, and what it watches. */
static void run_until_end(net *t, int ms)
{
    wh_time end = wh_mono_now() + ms * WH_MSEC;
    while (!t->c.ended && wh_mono_now() < end) {
        (void)comp_run(&t->i, 1, &t->c.ended, 2);
        for (size_t k = 0; k < t->n_watches; k++) {
            if (poll(&t->watches[k].p, 1, 0) <= 0)
                continue;
            uint64_t token = t->watches[k].token;
            forget(t, k);
            wh_component_net_answer(t->rig.component, token, 0, -1, NULL, 0);
            break;
        }
    }
}

static void get(net *t, const char *path)
{
    client_get(&t->c, t->i, path);
    run_until_end(t, 10000);
    CHECK(t->c.ended);
    CHECK_INT(t->c.outcome.end, ==, WH_END_OK);
}

static int listener(uint16_t *ret_port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(bind(fd, (struct sockaddr *)&a, n), ==, 0);
    CHECK_INT(listen(fd, 8), ==, 0);
    CHECK_INT(getsockname(fd, (struct sockaddr *)&a, &n), ==, 0);
    *ret_port = ntohs(a.sin_port);
    return fd;
}

static void *answer_late(void *user)
{
    char got[16] = "";
    int fd = accept4(*(int *)user, NULL, NULL, SOCK_CLOEXEC);
    ssize_t n = read(fd, got, sizeof(got) - 1);
    (void)usleep(50000); /* so that the guest has to wait */
    (void)!write(fd, n == 5 ? "pong" : "what?", n == 5 ? 4 : 5);
    (void)close(fd);
    return NULL;
}

static void talk(net *t)
{
    uint16_t port;
    pthread_t peer;
    auto_close int fd = listener(&port);
    auto_free char *path = wh_xasprintf("/connect?to=127.0.0.1:%u", port);
    CHECK_INT(pthread_create(&peer, NULL, answer_late, &fd), ==, 0);
    client_get(&t->c, t->i, path);
    if (t->later) {
        run_until_end(t, 50);
        CHECK_INT(t->connects, ==, 1);
        struct sockaddr_in a = {
            .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        wh_component_net_answer(t->rig.component, t->held, 0, connected((struct sockaddr *)&a, sizeof(a)),
                                NULL, 0);
    }
    run_until_end(t, 10000);
    CHECK_STR(wh_buf_str(&t->c.body), "answered pong\n");
    CHECK_INT(t->connects, ==, 1);
    CHECK_INT(t->watched, >, 0);
    CHECK_INT(pthread_join(peer, NULL), ==, 0);
}

TEST(a_guest_talks_over_tcp)
{
    net t;
    net_up(&t, true);
    talk(&t);
    net_down(&t);
}

TEST(an_answer_that_comes_later)
{
    net t;
    net_up(&t, true);
    t.later = true;
    talk(&t);
    net_down(&t);
}

TEST(what_is_refused)
{
    static const struct {
        int rc;
        const char *text;
    } cases[] = {
        {-EACCES, "PermissionDenied"}, {-ECONNREFUSED, "ConnectionRefused"}, {-ETIMEDOUT, "TimedOut"}};
    for (size_t k = 0; k < WH_ARRAY_LEN(cases); k++) {
        net t;
        net_up(&t, true);
        t.rc = cases[k].rc;
        get(&t, "/connect?to=127.0.0.1:9");
        CHECK_CONTAINS(wh_buf_str(&t.c.body), cases[k].text);
        net_down(&t);
    }
}

TEST(without_a_network)
{
    net t;
    net_up(&t, false);
    get(&t, "/connect?to=127.0.0.1:9");
    CHECK_CONTAINS(wh_buf_str(&t.c.body), "PermissionDenied");
    net_down(&t);
}

TEST(freeing_takes_the_question_back)
{
    net t;
    net_up(&t, true);
    t.later = true;
    client_get(&t.c, t.i, "/connect?to=127.0.0.1:9");
    run_until_end(&t, 50);
    CHECK_INT(t.connects, ==, 1);
    comp_free(t.i);
    CHECK_INT(t.cancels, ==, 1);
    /* An answer that was under way: its descriptor is closed. */
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    wh_component_net_answer(t.rig.component, t.held, 0, fd, NULL, 0);
    CHECK_INT(fcntl(fd, F_GETFD), ==, -1);
    t.i = comp_instance(&t.rig);
    net_down(&t);
}

TEST(names)
{
    net t;
    net_up(&t, true);
    get(&t, "/resolve?name=db.example");
    CHECK_STR(t.asked, "db.example");
    CHECK_STR(wh_buf_str(&t.c.body), "127.0.0.1\n::1\n");
    net_down(&t);
    net_up(&t, true);
    get(&t, "/resolve?name=192.0.2.7");
    CHECK_STR(wh_buf_str(&t.c.body), "192.0.2.7\n");
    CHECK_INT(t.resolves, ==, 0);
    net_down(&t);
    net_up(&t, true);
    t.rc = -ENOENT;
    get(&t, "/resolve?name=no.example");
    CHECK_CONTAINS(wh_buf_str(&t.c.body), "error: ");
    net_down(&t);
}
