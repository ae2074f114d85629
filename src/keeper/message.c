/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/message.h"

#include <sys/socket.h>

typedef union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(WH_KEEPER_FDS_MAX * sizeof(int))];
} control;

static void take_fds(struct msghdr *msg, wh_msg *ret)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        wh_assert(ret->n_fds + n <= WH_KEEPER_FDS_MAX); /* the buffer has room for no more */
        memcpy(ret->fds + ret->n_fds, CMSG_DATA(c), n * sizeof(int));
        ret->n_fds += n;
    }
}

int wh_msg_recv(int sock, wh_msg *ret)
{
    static _Thread_local char data[WH_KEEPER_MESSAGE_MAX]; /* pages that no message reached cost nothing */
    control c __attribute__((uninitialized));
    struct iovec iov = {data, sizeof(data)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c)};
    ssize_t n;
    do {
        n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    ret->data = data;
    ret->n = (size_t)n;
    ret->n_fds = 0;
    take_fds(&msg, ret);
    int rc = n == 0 ? 0 : 1;
    if ((msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
        rc = -EMSGSIZE;
    else if (n > 0 && wh_record_check(data, (size_t)n, NULL) < 0)
        rc = -EBADMSG;
    if (rc <= 0)
        wh_msg_close_fds(ret);
    return rc;
}

void wh_msg_close_fds(wh_msg *msg)
{
    for (size_t i = 0; i < msg->n_fds; i++) {
        if (msg->fds[i] >= 0)
            close(msg->fds[i]);
    }
    msg->n_fds = 0;
}

int wh_msg_send(int sock, const void *data, size_t n, const int *fds, size_t n_fds)
{
    if (n > WH_KEEPER_MESSAGE_MAX || n == 0 || n_fds > WH_KEEPER_FDS_MAX)
        return -EMSGSIZE;
    control c __attribute__((uninitialized));
    struct iovec iov;
    iov.iov_len = n;
    memcpy(&iov.iov_base, &data, sizeof(data)); /* sendmsg only reads */
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n_fds > 0) {
        msg.msg_control = &c;
        msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        memset(&c, 0, msg.msg_controllen);
        struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(head), fds, n_fds * sizeof(int));
    }
    ssize_t sent;
    do {
        sent = sendmsg(sock, &msg, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}
