/* SPDX-License-Identifier: Apache-2.0 */
/* The pods' namespace and its link to ours. What must happen inside happens on a thread of its own that enters and
 * ends: a socket goes on acting where it was opened, and a fork of the agent would be dear. */
#include "node/network_internal.h"

#include "base/buf.h"
#include "base/file.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/wait.h>

#ifndef NSFS_MAGIC
#define NSFS_MAGIC 0x6e736673
#endif

typedef struct visit {
    const char *path;
    int ns; /* -1: make one */
    int nl;
    int rc;
    const char *step;
} visit;

static int write_text(const char *path, const char *text)
{
    auto_close int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd < 0 ? -errno : wh_write_all(fd, text, strlen(text));
}

static int enter_or_make(visit *v)
{
    v->step = "enter the network namespace";
    if (v->ns >= 0)
        return setns(v->ns, CLONE_NEWNET) < 0 ? -errno : 0;
    v->step = "make a network namespace";
    if (unshare(CLONE_NEWNET) < 0)
        return -errno;
    v->ns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (v->ns < 0)
        return -errno;
    v->step = "mount the network namespace on a file";
    auto_close int file = open(v->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || mount("/proc/thread-self/ns/net", v->path, NULL, MS_BIND, NULL) < 0)
        return -errno;
    return 0;
}

static void *visit_main(void *arg)
{
    visit *v = arg;
    v->rc = enter_or_make(v);
    if (v->rc < 0)
        return NULL;
    v->step = "open netlink in the network namespace";
    v->rc = wh_link_open(&v->nl);
    if (v->rc == 0)
        v->rc = wh_link_up(v->nl, "lo");
    /* Every port is a pod's to use, netd has no capability; and no connection without connect. */
    v->step = "set net.ipv4.ip_unprivileged_port_start";
    if (v->rc == 0)
        v->rc = write_text("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    v->step = "set net.ipv4.tcp_fastopen";
    if (v->rc == 0)
        v->rc = write_text("/proc/sys/net/ipv4/tcp_fastopen", "0");
    return NULL;
}

/* A namespace, and not the plain file that a dead mount leaves. */
static int open_mounted(const char *path)
{
    struct statfs fs;
    auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstatfs(fd, &fs) < 0 || fs.f_type != NSFS_MAGIC)
        return -1;
    return WH_TAKE_FD(fd);
}

int wh_netns_open(const char *path, int *ret_ns, int *ret_nl, wh_err *err)
{
    visit v = {.path = path, .ns = open_mounted(path), .nl = -1};
    pthread_t thread;
    int rc = pthread_create(&thread, NULL, visit_main, &v);
    if (rc == 0)
        (void)pthread_join(thread, NULL);
    rc = rc != 0 ? -rc : v.rc;
    if (rc < 0) {
        if (v.ns >= 0)
            close(v.ns);
        if (v.nl >= 0)
            close(v.nl);
        return wh_fail(err, rc, "%s", v.step == NULL ? "start a thread" : v.step);
    }
    *ret_ns = v.ns;
    *ret_nl = v.nl;
    return 0;
}

/* ------------------------------------------------------------------ the way outside */

static wh_addr ip(const char *text)
{
    wh_addr addr = {0};
    wh_assert(wh_addr_parse(text, 0, &addr, NULL) == 0);
    return addr;
}

static int connect4(const wh_network_options *o, int nl, int pods)
{
    const wh_addr gateway = ip(WH_NETWORK_GATEWAY4), any = ip("0.0.0.0");
    const wh_route to_pods = {
        .dst = o->cidr4, .prefix = o->prefix4, .source = &gateway, .link = WH_NETWORK_LINK};
    const wh_route to_gateway = {.dst = gateway, .prefix = 32, .link = WH_NETWORK_PEER};
    const wh_route out = {.dst = any, .via = &gateway, .link = WH_NETWORK_PEER};
    int rc = wh_link_address(nl, WH_NETWORK_LINK, &gateway, 32);
    if (rc == 0)
        rc = wh_link_route(nl, &to_pods);
    if (rc == 0)
        rc = wh_link_route(pods, &to_gateway);
    return rc < 0 ? rc : wh_link_route(pods, &out);
}

/* Nobody answers neighbour solicitations for addresses that are routes only, so the prefix goes through the pods'
 * end. */
static int connect6(const wh_network_options *o, int nl, int pods)
{
    const wh_addr gateway = ip(WH_NETWORK_GATEWAY6), inside = ip("fe80::2"), any = ip("::");
    const wh_route to_pods = {.dst = o->cidr6, .prefix = o->prefix6, .via = &inside, .link = WH_NETWORK_LINK};
    const wh_route out = {.dst = any, .via = &gateway, .link = WH_NETWORK_PEER};
    int rc = wh_link_address(nl, WH_NETWORK_LINK, &gateway, 64);
    if (rc == 0)
        rc = wh_link_address(pods, WH_NETWORK_PEER, &inside, 64);
    if (rc == 0)
        rc = wh_link_route(nl, &to_pods);
    return rc < 0 ? rc : wh_link_route(pods, &out);
}

static void say(char **weaker, const char *what, int rc)
{
    char *text = wh_xasprintf("%s%s%s (%s)", *weaker == NULL ? "" : *weaker, *weaker == NULL ? "" : "; ",
                              what, strerror(-rc));
    free(*weaker);
    *weaker = text;
}

static void masquerade_family(wh_buf *b, const char *family, const wh_addr *cidr, unsigned prefix,
                              const char *cluster)
{
    char text[WH_ADDR_TEXT_MAX];
    if (cidr->len == 0)
        return;
    bool v6 = cidr->sa.sa_family == AF_INET6;
    (void)wh_addr_ip(cidr, text);
    /* A pod that goes through the node and back to a pod: the answer must come the same way. */
    (void)wh_buf_printf(
        b, "  %s saddr %s/%u iifname \"" WH_NETWORK_LINK "\" oifname \"" WH_NETWORK_LINK "\" masquerade\n",
        family, text, prefix);
    (void)wh_buf_printf(b, "  %s saddr %s/%u %s daddr %s/%u return\n", family, text, prefix, family, text,
                        prefix);
    wh_str rest = wh_str_of(cluster), item;
    while (cluster != NULL && wh_str_split(&rest, ',', &item)) {
        item = wh_str_trim(item);
        if (item.n > 0 && (memchr(item.p, ':', item.n) != NULL) == v6)
            (void)wh_buf_printf(b, "  %s saddr %s/%u %s daddr %.*s return\n", family, text, prefix, family,
                                WH_STR_ARG(item));
    }
    (void)wh_buf_printf(b, "  %s saddr %s/%u oifname != \"" WH_NETWORK_LINK "\" masquerade\n", family, text,
                        prefix);
}

static int run_nft(const char *rules, size_t n)
{
    char name[] = "nft", file[] = "-f", stdin_name[] = "-";
    char *argv[] = {name, file, stdin_name, NULL};
    int status = 0;
    pid_t pid;
    posix_spawn_file_actions_t actions;
    auto_close int feed = memfd_create("rules", MFD_CLOEXEC);
    if (feed < 0)
        return -errno;
    int rc = wh_write_all(feed, rules, n);
    if (rc < 0 || lseek(feed, 0, SEEK_SET) < 0)
        return rc < 0 ? rc : -errno;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, feed, STDIN_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    rc = -posix_spawnp(&pid, name, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (rc < 0)
        return rc;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

/* What leaves for outside the cluster leaves with the node's address. The table is ours and replaced as a whole. */
static void masquerade(const wh_network_options *o, char **weaker)
{
    auto_buf wh_buf b;
    wh_buf_init(&b, 16384);
    (void)wh_buf_puts(
        &b, "table inet wherry\ndelete table inet wherry\ntable inet wherry {\n chain postrouting {\n"
            "  type nat hook postrouting priority srcnat; policy accept;\n");
    masquerade_family(&b, "ip", &o->cidr4, o->prefix4, o->cluster_cidrs);
    masquerade_family(&b, "ip6", &o->cidr6, o->prefix6, o->cluster_cidrs);
    (void)wh_buf_puts(&b, " }\n}\n");
    /* The text becomes a program of another's: addresses and nothing else. */
    const char *cidrs = o->cluster_cidrs == NULL ? "" : o->cluster_cidrs;
    bool odd = strspn(cidrs, "0123456789abcdefABCDEF.:/, ") != strlen(cidrs);
    int rc = odd ? -EINVAL : b.failed ? -E2BIG : run_nft(b.p, b.len);
    if (rc < 0)
        say(weaker, "pods leave this node with their own addresses, since 'nft' set no rule", rc);
}

static void forward(const wh_network_options *o, char **weaker)
{
    int rc = o->cidr4.len == 0 ? 0 : write_text("/proc/sys/net/ipv4/ip_forward", "1");
    if (rc == 0 && o->cidr6.len != 0)
        rc = write_text("/proc/sys/net/ipv6/conf/all/forwarding", "1");
    if (rc < 0)
        say(weaker, "pods reach this node only, since forwarding cannot be switched on", rc);
}

int wh_netns_connect(const wh_network_options *o, int ns, int pods, char **ret_weaker, wh_err *err)
{
    auto_close int nl = -1;
    auto_free char *weaker = NULL;
    int rc = wh_link_open(&nl);
    if (rc < 0)
        return wh_fail(err, rc, "open netlink");
    /* The pair is there after a restart; one whose other end is in a namespace that is gone went with it. */
    if (wh_link_index(pods, WH_NETWORK_PEER) < 0)
        rc = wh_link_pair(nl, WH_NETWORK_LINK, WH_NETWORK_PEER, ns);
    if (rc == -EOPNOTSUPP) {
        say(ret_weaker, "pods reach each other only: this kernel has no veth", rc);
        return 0;
    }
    if (rc == 0)
        rc = wh_link_up(nl, WH_NETWORK_LINK);
    if (rc == 0)
        rc = wh_link_up(pods, WH_NETWORK_PEER);
    if (rc < 0)
        return wh_fail(err, rc, "link '" WH_NETWORK_LINK "' to the pods' namespace%s",
                       rc == -EEXIST ? ": it is there; 'ip link del " WH_NETWORK_LINK
                                       "' if no other agent uses it"
                                     : "");
    rc = o->cidr4.len == 0 ? 0 : connect4(o, nl, pods);
    if (rc < 0)
        return wh_fail(err, rc, "IPv4 routes of '" WH_NETWORK_LINK "'");
    rc = o->cidr6.len == 0 ? 0 : connect6(o, nl, pods);
    if (rc < 0)
        return wh_fail(err, rc, "IPv6 routes of '" WH_NETWORK_LINK "'");
    forward(o, &weaker);
    masquerade(o, &weaker);
    *ret_weaker = WH_TAKE(weaker);
    return 0;
}
