/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to the keeper, and the files that it reads back. An input is a record; the fields named "message"
 * of it are requests, or the whole is one. No descriptors come along, so nothing is started. */
#include "base/file.h"
#include "base/log.h"
#include "base/record.h"
#include "keeper/server.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>

static wh_loop *loop;
static wh_keeper_server *server;

static void init(void)
{
    static char dir[] = "/tmp/wherry-fuzz-keeper-XXXXXX";
    const wh_jail jail = {.mount_ns = -1};
    wh_err err = {0};
    wh_log_setup("fuzz", open("/dev/null", O_WRONLY | O_CLOEXEC), WH_LOG_ERROR, WH_LOG_TEXT);
    wh_assert(mkdtemp(dir) != NULL);
    wh_assert(wh_loop_new(&loop, &err) == 0);
    wh_assert(wh_keeper_server_new(loop, dir, &jail, &server, &err) == 0);
    (void)wh_rm_rf(AT_FDCWD, dir, NULL);
}

/* What a wake would open or make for real. */
static bool names_a_path(const void *data, size_t n)
{
    wh_record_iter it = wh_record_begin(data, n);
    wh_field f;
    bool any = false;
    while (wh_record_next(&it, &f))
        any |= wh_field_is(&f, "open");
    return any;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    int pair[2];
    wh_record_iter it = wh_record_begin(data, n);
    wh_field f;
    if (server == NULL)
        init();
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return 0;
    wh_keeper_client *client = wh_keeper_client_add(server, pair[0]);
    wh_assert(client != NULL);
    wh_keeper_request(client, data, n, NULL, 0);
    while (wh_record_next(&it, &f)) {
        if (wh_field_is(&f, "message"))
            wh_keeper_request(client, f.value.p, f.value.n, NULL, 0);
    }
    wh_keeper_client_close(client);
    close(pair[1]);
    wh_kept *kept = wh_xnew(wh_kept);
    kept->pidfd = kept->control = -1;
    (void)wh_kept_parse(data, n, kept, NULL);
    kept->pidfd = kept->control = -1;
    wh_kept_free(kept);
    /* As the start of a container that may rest: kept, made ready again, and thrown away. */
    wh_shared *shared = NULL;
    wh_rest *rest;
    int fds[5], open_fds[WH_KEEPER_FDS_MAX], opened[WH_KEEPER_FDS_MAX];
    size_t n_opened = 0;
    for (size_t i = 0; i < WH_ARRAY_LEN(fds); i++)
        fds[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (wh_record_check(data, n, NULL) == 0 && !names_a_path(data, n) &&
        wh_rest_new(&shared, data, n, fds, WH_ARRAY_LEN(fds), &rest, NULL) == 0) {
        auto_buf wh_buf state;
        wh_buf_init(&state, 1 << 20);
        wh_rest_put(rest, &state);
        if (wh_rest_open(rest, open_fds, opened, &n_opened, NULL) == 0)
            while (n_opened > 0)
                close(opened[--n_opened]);
        wh_rest_free(rest);
    }
    wh_assert(shared == NULL);
    for (size_t i = 0; i < WH_ARRAY_LEN(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    wh_loop_once(loop, 0);
    return 0;
}
