/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/protocol.h"

#include <sys/socket.h>

/* CMSG_SPACE of one descriptor has room for two, by alignment. */
typedef union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
} control;

int wh_netd_send(int sock, const void *data, size_t n, int fd)
{
    control c = {0};
    struct iovec iov = {.iov_len = n};
    ssize_t sent;
    if (fd < 0) {
        do {
            sent = send(sock, data, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        } while (sent < 0 && errno == EINTR);
        return sent < 0 ? -errno : 0;
    }
    memcpy(&iov.iov_base, &data, sizeof(data)); /* sendmsg only reads */
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = CMSG_SPACE(sizeof(int))};
    struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(head), &fd, sizeof(int));
    do {
        sent = sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

int wh_netd_recv(int sock, void *data, size_t max, size_t *ret_n, int *ret_fd)
{
    control c __attribute__((uninitialized));
    struct iovec iov = {data, max};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c)};
    int fds[2] = {-1, -1};
    size_t n_fds = 0;
    ssize_t n;
    do {
        n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&msg); h != NULL; h = CMSG_NXTHDR(&msg, h)) {
        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
            continue;
        n_fds = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        wh_assert(n_fds <= WH_ARRAY_LEN(fds));
        memcpy(fds, CMSG_DATA(h), n_fds * sizeof(int));
    }
    if (n_fds > 1 || (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || n == 0) {
        for (size_t i = 0; i < n_fds; i++)
            close(fds[i]);
        return n == 0 && n_fds == 0 && (msg.msg_flags & MSG_TRUNC) == 0 ? 0 : -EMSGSIZE;
    }
    *ret_n = (size_t)n;
    *ret_fd = fds[0];
    return 1;
}
