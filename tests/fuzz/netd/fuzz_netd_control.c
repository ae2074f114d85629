/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's messages. An input is a record; the fields named "message" of it are messages, or the whole is one. */
#include "base/log.h"
#include "netd/server.h"

#include <fcntl.h>
#include <sys/socket.h>

static wh_loop *loop;

static void on_end(void *user)
{
    (void)user;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    int pair[2];
    wh_netd_server *server = NULL;
    wh_record_iter it = wh_record_begin(data, n);
    wh_field f;
    if (loop == NULL)
        wh_assert(wh_loop_new(&loop, NULL) == 0);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return 0;
    wh_assert(wh_netd_server_new(loop, pair[0], -1, 0, on_end, NULL, &server, NULL) == 0);
    wh_netd_server_control(server, data, n, -1);
    while (wh_record_next(&it, &f)) {
        if (wh_field_is(&f, "message"))
            wh_netd_server_control(server, f.value.p, f.value.n, -1);
    }
    wh_netd_server_free(server);
    close(pair[1]);
    return 0;
}
