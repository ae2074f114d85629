/* SPDX-License-Identifier: Apache-2.0 */
/* The few messages of rtnetlink(7) that a pod network needs; libmnl has no static archive and would save little. */
#include "node/network_internal.h"

#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sys/socket.h>

typedef union message {
    struct nlmsghdr head;
    char bytes[1024];
} message;

static void *begin(message *m, uint16_t type, uint16_t flags, size_t body)
{
    memset(m, 0, sizeof(*m));
    m->head.nlmsg_len = (uint32_t)NLMSG_LENGTH(body);
    m->head.nlmsg_type = type;
    m->head.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
    return NLMSG_DATA(&m->head);
}

static struct rtattr *put(message *m, uint16_t type, const void *data, size_t n)
{
    size_t at = NLMSG_ALIGN(m->head.nlmsg_len);
    wh_assert(at + RTA_SPACE(n) <= sizeof(*m));
    struct rtattr *attr = (void *)(m->bytes + at);
    attr->rta_type = type;
    attr->rta_len = (uint16_t)RTA_LENGTH(n);
    if (n > 0)
        memcpy(RTA_DATA(attr), data, n);
    m->head.nlmsg_len = (uint32_t)(at + RTA_SPACE(n));
    return attr;
}

static void end(message *m, struct rtattr *nest)
{
    nest->rta_len = (uint16_t)(m->bytes + m->head.nlmsg_len - (char *)nest);
}

static void put_u32(message *m, uint16_t type, uint32_t value)
{
    put(m, type, &value, sizeof(value));
}

static void put_ip(message *m, uint16_t type, const wh_addr *addr)
{
    if (addr->sa.sa_family == AF_INET)
        put(m, type, &addr->in4.sin_addr, 4);
    else
        put(m, type, &addr->in6.sin6_addr, 16);
}

/* Sends, and waits for the acknowledgement, which the kernel has written before send returns. `extra` gets the
 * messages before it. */
static int call(int nl, message *m, void (*extra)(void *user, struct nlmsghdr *h), void *user)
{
    if (send(nl, m, m->head.nlmsg_len, 0) < 0)
        return -errno;
    for (;;) {
        union {
            struct nlmsghdr head;
            char bytes[32768];
        } in __attribute__((uninitialized));
        ssize_t n = recv(nl, &in, sizeof(in), 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        unsigned left = (unsigned)n;
        for (struct nlmsghdr *h = &in.head; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
            const struct nlmsgerr *e = NLMSG_DATA(h);
            if (h->nlmsg_type == NLMSG_ERROR)
                return e->error;
            if (h->nlmsg_type == NLMSG_DONE)
                return 0;
            if (extra != NULL)
                extra(user, h);
        }
    }
}

int wh_link_open(int *ret_fd)
{
    const struct timeval patience = {.tv_sec = 5};
    auto_close int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0)
        return -errno;
    *ret_fd = WH_TAKE_FD(fd);
    return 0;
}

static void take_index(void *user, struct nlmsghdr *h)
{
    const struct ifinfomsg *info = NLMSG_DATA(h);
    if (h->nlmsg_type == RTM_NEWLINK)
        *(int *)user = info->ifi_index;
}

int wh_link_index(int nl, const char *name)
{
    message m;
    int index = -ENODEV;
    (void)begin(&m, RTM_GETLINK, 0, sizeof(struct ifinfomsg));
    put(&m, IFLA_IFNAME, name, strlen(name) + 1);
    int rc = call(nl, &m, take_index, &index);
    return rc < 0 ? rc : index;
}

int wh_link_up(int nl, const char *name)
{
    message m;
    struct ifinfomsg *info = begin(&m, RTM_NEWLINK, 0, sizeof(*info));
    info->ifi_flags = IFF_UP;
    info->ifi_change = IFF_UP;
    put(&m, IFLA_IFNAME, name, strlen(name) + 1);
    return call(nl, &m, NULL, NULL);
}

int wh_link_pair(int nl, const char *name, const char *peer, int namespace_fd)
{
    message m;
    (void)begin(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(struct ifinfomsg));
    put(&m, IFLA_IFNAME, name, strlen(name) + 1);
    struct rtattr *info = put(&m, IFLA_LINKINFO, NULL, 0);
    put(&m, IFLA_INFO_KIND, "veth", 4);
    struct rtattr *data = put(&m, IFLA_INFO_DATA, NULL, 0);
    const struct ifinfomsg none = {0};
    struct rtattr *other = put(&m, VETH_INFO_PEER, &none, sizeof(none));
    put(&m, IFLA_IFNAME, peer, strlen(peer) + 1);
    put_u32(&m, IFLA_NET_NS_FD, (uint32_t)namespace_fd);
    end(&m, other);
    end(&m, data);
    end(&m, info);
    return call(nl, &m, NULL, NULL);
}

int wh_link_address(int nl, const char *name, const wh_addr *addr, unsigned prefix)
{
    message m;
    int index = wh_link_index(nl, name);
    if (index < 0)
        return index;
    struct ifaddrmsg *info = begin(&m, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*info));
    info->ifa_family = (uint8_t)addr->sa.sa_family;
    info->ifa_prefixlen = (uint8_t)prefix;
    info->ifa_index = (unsigned)index;
    info->ifa_flags = IFA_F_NODAD | IFA_F_PERMANENT; /* nobody else is on this link */
    put_ip(&m, IFA_LOCAL, addr);
    put_ip(&m, IFA_ADDRESS, addr);
    return call(nl, &m, NULL, NULL);
}

static struct rtmsg *route_begin(message *m, uint16_t type, uint16_t flags, const wh_addr *dst,
                                 unsigned prefix)
{
    struct rtmsg *route = begin(m, type, flags, sizeof(*route));
    route->rtm_family = (uint8_t)dst->sa.sa_family;
    route->rtm_dst_len = (uint8_t)prefix;
    route->rtm_protocol = WH_NETWORK_PROTOCOL;
    if (prefix > 0)
        put_ip(m, RTA_DST, dst);
    return route;
}

int wh_link_route(int nl, const wh_route *r)
{
    message m;
    int index = wh_link_index(nl, r->link);
    if (index < 0)
        return index;
    struct rtmsg *route = route_begin(&m, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &r->dst, r->prefix);
    route->rtm_table = RT_TABLE_MAIN;
    route->rtm_type = RTN_UNICAST;
    route->rtm_scope = r->via == NULL && r->dst.sa.sa_family == AF_INET ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
    put_u32(&m, RTA_OIF, (uint32_t)index);
    if (r->via != NULL)
        put_ip(&m, RTA_GATEWAY, r->via);
    if (r->source != NULL)
        put_ip(&m, RTA_PREFSRC, r->source);
    return call(nl, &m, NULL, NULL);
}

int wh_link_local(int nl, const wh_addr *addr, bool add)
{
    message m;
    bool v4 = addr->sa.sa_family == AF_INET;
    struct rtmsg *route = route_begin(&m, add ? RTM_NEWROUTE : RTM_DELROUTE,
                                      add ? NLM_F_CREATE | NLM_F_EXCL : 0, addr, v4 ? 32 : 128);
    route->rtm_table = RT_TABLE_LOCAL;
    route->rtm_type = RTN_LOCAL;
    route->rtm_scope = v4 ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE;
    put_u32(&m, RTA_OIF, 1); /* lo, in every namespace */
    return call(nl, &m, NULL, NULL);
}

typedef struct dump {
    void (*each)(void *user, const wh_addr *addr);
    void *user;
} dump;

static void take_route(void *user, struct nlmsghdr *h)
{
    const dump *d = user;
    const struct rtmsg *route = NLMSG_DATA(h);
    bool v4 = route->rtm_family == AF_INET;
    if (h->nlmsg_type != RTM_NEWROUTE || route->rtm_protocol != WH_NETWORK_PROTOCOL ||
        route->rtm_table != RT_TABLE_LOCAL || route->rtm_dst_len != (v4 ? 32 : 128))
        return;
    unsigned left = (unsigned)RTM_PAYLOAD(h);
    for (struct rtattr *a = RTM_RTA(NLMSG_DATA(h)); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
        wh_addr addr = {.len = v4 ? sizeof(addr.in4) : sizeof(addr.in6)};
        if (a->rta_type != RTA_DST)
            continue;
        addr.sa.sa_family = route->rtm_family;
        if (v4)
            memcpy(&addr.in4.sin_addr, RTA_DATA(a), 4);
        else
            memcpy(&addr.in6.sin6_addr, RTA_DATA(a), 16);
        d->each(d->user, &addr);
    }
}

int wh_link_locals(int nl, void (*each)(void *user, const wh_addr *addr), void *user)
{
    static const uint8_t families[] = {AF_INET, AF_INET6};
    dump d = {each, user};
    for (size_t i = 0; i < WH_ARRAY_LEN(families); i++) {
        message m;
        struct rtmsg *route = begin(&m, RTM_GETROUTE, NLM_F_DUMP, sizeof(*route));
        route->rtm_family = families[i];
        int rc = call(nl, &m, take_route, &d);
        if (rc < 0)
            return rc;
    }
    return 0;
}
