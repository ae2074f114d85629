/* SPDX-License-Identifier: Apache-2.0 */
#include "net/addr.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/stat.h>

static int parse_unix(const char *text, const char *path, wh_addr *ret, wh_err *err)
{
    if (path[0] != '/' || strlen(path) >= sizeof(ret->un.sun_path))
        return wh_fail(err, -EINVAL,
                       "address '%s': a unix socket's path is absolute and has less than %zu bytes", text,
                       sizeof(ret->un.sun_path));
    *ret = (wh_addr){.un.sun_family = AF_UNIX};
    memcpy(ret->un.sun_path, path, strlen(path) + 1);
    ret->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1);
    return 0;
}

static int parse_ip(const char *host, uint16_t port, wh_addr *ret)
{
    wh_addr addr = {0};
    if (host[0] == '\0' || inet_pton(AF_INET6, host, &addr.in6.sin6_addr) == 1) {
        addr.in6.sin6_family = AF_INET6; /* all zero: every address of both families */
        addr.in6.sin6_port = htons(port);
        addr.len = sizeof(addr.in6);
    } else {
        addr = (wh_addr){.in4.sin_family = AF_INET, .in4.sin_port = htons(port), .len = sizeof(addr.in4)};
        if (inet_pton(AF_INET, host, &addr.in4.sin_addr) != 1)
            return -EINVAL;
    }
    *ret = addr;
    return 0;
}

/* complexity: one grammar, with a sentence for each way to get it wrong. */
int wh_addr_parse(const char *text, int port, wh_addr *ret, wh_err *err)
{
    if (wh_starts_with(text, "unix:"))
        return parse_unix(text, text + 5, ret, err);
    char host[INET6_ADDRSTRLEN + 2];
    const char *colon = strrchr(text, ':');
    const char *end = text + strlen(text);
    bool bracketed = text[0] == '[';
    if (bracketed) {
        const char *close_at = strchr(text, ']');
        if (close_at == NULL || (close_at[1] != '\0' && close_at[1] != ':'))
            return wh_fail(err, -EINVAL, "address '%s': '[' needs a ']' before the port", text);
        end = close_at;
        colon = close_at[1] == ':' ? close_at + 1 : NULL;
    } else if (colon != NULL && strchr(text, ':') != colon) {
        colon = NULL; /* a bare IPv6 address */
    } else if (colon != NULL) {
        end = colon;
    }
    size_t len = (size_t)(end - text) - bracketed;
    uint64_t number = 0;
    if (len < sizeof(host)) {
        memcpy(host, text + bracketed, len);
        host[len] = '\0';
    } else {
        return wh_fail(err, -EINVAL, "address '%s': expected IP:PORT, [IPv6]:PORT or unix:/PATH", text);
    }
    if (colon != NULL && wh_parse_u64(colon + 1, UINT16_MAX, &number) < 0)
        return wh_fail(err, -EINVAL, "address '%s': the port is no number from 0 to 65535", text);
    if (colon == NULL && port < 0)
        return wh_fail(err, -EINVAL, "address '%s': a port is missing; write IP:PORT", text);
    uint16_t used = colon == NULL ? (uint16_t)port : (uint16_t)number;
    if ((bracketed && strchr(host, ':') == NULL) || parse_ip(host, used, ret) < 0)
        return wh_fail(err, -EINVAL, "address '%s': '%s' is no IP address (names are not looked up here)",
                       text, host);
    return 0;
}

const char *wh_addr_ip(const wh_addr *addr, char out[WH_ADDR_TEXT_MAX])
{
    out[0] = '\0';
    if (addr->sa.sa_family == AF_INET)
        (void)inet_ntop(AF_INET, &addr->in4.sin_addr, out, WH_ADDR_TEXT_MAX);
    else if (addr->sa.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&addr->in6.sin6_addr))
        (void)inet_ntop(AF_INET, addr->in6.sin6_addr.s6_addr + 12, out, WH_ADDR_TEXT_MAX);
    else if (addr->sa.sa_family == AF_INET6)
        (void)inet_ntop(AF_INET6, &addr->in6.sin6_addr, out, WH_ADDR_TEXT_MAX);
    return out;
}

const char *wh_addr_text(const wh_addr *addr, char out[WH_ADDR_TEXT_MAX])
{
    if (addr->sa.sa_family == AF_UNIX) {
        (void)snprintf(out, WH_ADDR_TEXT_MAX, "unix:%s", addr->un.sun_path);
        return out;
    }
    char ip[WH_ADDR_TEXT_MAX];
    bool v6 = strchr(wh_addr_ip(addr, ip), ':') != NULL;
    (void)snprintf(out, WH_ADDR_TEXT_MAX, v6 ? "[%.64s]:%d" : "%.64s:%d", ip, wh_addr_port(addr));
    return out;
}

int wh_addr_port(const wh_addr *addr)
{
    if (addr->sa.sa_family == AF_INET)
        return ntohs(addr->in4.sin_port);
    return addr->sa.sa_family == AF_INET6 ? ntohs(addr->in6.sin6_port) : 0;
}

void wh_addr_set_port(wh_addr *addr, uint16_t port)
{
    if (addr->sa.sa_family == AF_INET)
        addr->in4.sin_port = htons(port);
    else if (addr->sa.sa_family == AF_INET6)
        addr->in6.sin6_port = htons(port);
}

bool wh_addr_eq(const wh_addr *a, const wh_addr *b)
{
    char text_a[WH_ADDR_TEXT_MAX];
    char text_b[WH_ADDR_TEXT_MAX];
    return strcmp(wh_addr_text(a, text_a), wh_addr_text(b, text_b)) == 0;
}

static bool is_global_v4(uint32_t ip)
{
    return ip != 0 && ip != UINT32_MAX && ip >> 24 != 127 && ip >> 16 != 0xa9fe && ip >> 28 != 0xe;
}

bool wh_addr_is_global_unicast(const wh_addr *addr)
{
    if (addr->sa.sa_family == AF_INET)
        return is_global_v4(ntohl(addr->in4.sin_addr.s_addr));
    if (addr->sa.sa_family != AF_INET6)
        return false;
    const struct in6_addr *ip = &addr->in6.sin6_addr;
    if (IN6_IS_ADDR_V4MAPPED(ip))
        return is_global_v4(ntohl(ip->s6_addr32[3]));
    return !IN6_IS_ADDR_UNSPECIFIED(ip) && !IN6_IS_ADDR_LOOPBACK(ip) && !IN6_IS_ADDR_LINKLOCAL(ip) &&
           !IN6_IS_ADDR_MULTICAST(ip);
}

/* Connecting a datagram socket sends nothing, but makes the kernel choose route and source address. */
static int source_address(int family, wh_addr *ret)
{
    wh_addr far;
    int r = wh_addr_parse(family == AF_INET ? "192.0.2.1:9" : "[2001:db8::1]:9", -1, &far, NULL);
    if (r < 0)
        return r;
    auto_close int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, &far.sa, far.len) < 0)
        return -errno;
    return wh_socket_local(fd, ret);
}

static int first_address(int family, bool global, wh_addr *ret)
{
    struct ifaddrs *list;
    if (getifaddrs(&list) < 0)
        return -errno;
    int r = -EADDRNOTAVAIL;
    for (const struct ifaddrs *i = list; i != NULL && r < 0; i = i->ifa_next) {
        if (i->ifa_addr == NULL || i->ifa_addr->sa_family != family || (i->ifa_flags & IFF_UP) == 0)
            continue;
        wh_addr addr = {.len = family == AF_INET ? sizeof(addr.in4) : sizeof(addr.in6)};
        memcpy(&addr.sa, i->ifa_addr, addr.len);
        if (wh_addr_is_global_unicast(&addr) || !global) {
            *ret = addr;
            r = 0;
        }
    }
    freeifaddrs(list);
    return r;
}

int wh_addr_of_node(int family, wh_addr *ret, wh_err *err)
{
    wh_addr addr = {0};
    if ((source_address(family, &addr) < 0 || !wh_addr_is_global_unicast(&addr)) &&
        first_address(family, true, &addr) < 0 && first_address(family, false, &addr) < 0)
        return wh_fail(err, -EADDRNOTAVAIL, "find this machine's address: no interface that is up has one");
    wh_addr_set_port(&addr, 0);
    *ret = addr;
    return 0;
}

/* A socket file that nobody listens behind any more is in the way; one that answers belongs to somebody. */
static int clear_stale(const wh_addr *addr, wh_err *err)
{
    struct stat st;
    if (lstat(addr->un.sun_path, &st) < 0)
        return 0;
    if (!S_ISSOCK(st.st_mode))
        return wh_fail(err, -EEXIST, "listen on 'unix:%s': a file that is no socket is in the way",
                       addr->un.sun_path);
    auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return wh_fail(err, -errno, "make a socket");
    if (connect(fd, &addr->sa, addr->len) == 0 || errno == EAGAIN)
        return wh_fail(err, -EADDRINUSE, "listen on 'unix:%s': somebody listens there already",
                       addr->un.sun_path);
    (void)unlink(addr->un.sun_path);
    return 0;
}

int wh_listen(const wh_addr *addr, mode_t unix_mode, int *ret_fd, wh_err *err)
{
    char text[WH_ADDR_TEXT_MAX];
    (void)wh_addr_text(addr, text);
    bool is_unix = addr->sa.sa_family == AF_UNIX;
    int r = is_unix ? clear_stale(addr, err) : 0;
    if (r < 0)
        return r;
    auto_close int fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return wh_fail(err, -errno, "listen on '%s'", text);
    int on = 1;
    int off = 0;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (addr->sa.sa_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    if (bind(fd, &addr->sa, addr->len) < 0)
        return wh_fail(err, -errno, "listen on '%s'", text);
    if (is_unix && chmod(addr->un.sun_path, unix_mode) < 0)
        return wh_fail(err, -errno, "set the mode of '%s'", text);
    if (listen(fd, SOMAXCONN) < 0)
        return wh_fail(err, -errno, "listen on '%s'", text);
    *ret_fd = WH_TAKE_FD(fd);
    return 0;
}

int wh_socket_local(int fd, wh_addr *ret)
{
    wh_addr addr = {.len = sizeof(addr.un)};
    if (getsockname(fd, &addr.sa, &addr.len) < 0)
        return -errno;
    *ret = addr;
    return 0;
}

int wh_socket_peer(int fd, wh_addr *ret)
{
    wh_addr addr = {.len = sizeof(addr.un)};
    if (getpeername(fd, &addr.sa, &addr.len) < 0)
        return -errno;
    *ret = addr;
    return 0;
}
