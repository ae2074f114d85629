/* SPDX-License-Identifier: Apache-2.0 */
/* Things that happen while others act: serves echoes, sleeps, reads, or waits for the stop descriptor. */
#include "wasi.h"

#define PASSED 3 /* the listener or the stop descriptor: no folder is preopened */

static char buf[4096];
static uint32_t n;

static int serve(void)
{
    uint16_t flags;
    for (int clients = 0; clients < 3; clients++) {
        uint32_t fd;
        int rc = w_sock_accept(PASSED, 0, &fd);
        if (rc != 0)
            return rc;
        for (;;) {
            rc = w_sock_recv(fd, &(iov){buf, sizeof(buf)}, 1, 0, &n, &flags);
            if (rc != 0 || n == 0)
                break;
            uint32_t all = n;
            for (uint32_t done = 0; done < all; done += n) {
                rc = w_sock_send(fd, &(iov){buf + done, all - done}, 1, 0, &n);
                if (rc != 0)
                    return rc;
            }
        }
        w_fd_close(fd);
    }
    return 0;
}

static int wait_for_stop(void)
{
    w_sub subs[2] = {{.userdata = 1, .tag = 1, .u.fd = PASSED},
                     {.userdata = 2, .tag = 0, .u.clock = {.id = 1, .timeout = 60000000000ull}}};
    w_event events[2];
    printf("ready\n");
    fflush(stdout);
    if (w_poll_oneoff(subs, events, 2, &n) != 0 || events[0].userdata != 1)
        return 1;
    if (w_fd_read(PASSED, &(iov){buf, sizeof(buf)}, 1, &n) != 0)
        return 2;
    printf("%.*s", (int)n, buf);
    return 0;
}

static int sleep_long(void)
{
    w_sub sub = {.tag = 0, .u.clock = {.id = 1, .timeout = 60000000000ull}};
    w_event event;
    printf("ready\n");
    fflush(stdout);
    return w_poll_oneoff(&sub, &event, 1, &n);
}

static int read_long(void)
{
    printf("ready\n");
    fflush(stdout);
    return w_fd_read(0, &(iov){buf, sizeof(buf)}, 1, &n);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "serve") == 0)
        return serve();
    if (strcmp(what, "stop") == 0)
        return wait_for_stop();
    if (strcmp(what, "sleep") == 0)
        return sleep_long();
    if (strcmp(what, "read") == 0)
        return read_long();
    return 99;
}
