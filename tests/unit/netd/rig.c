/* SPDX-License-Identifier: Apache-2.0 */
#include "rig.h"

#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>

static void on_lost(void *user)
{
    ((rig *)user)->lost++;
}

static void on_refused(void *user, const char *pod, const char *target, const char *reason, int64_t left_out)
{
    rig *r = user;
    (void)pod;
    r->refused += 1 + (int)left_out;
    (void)snprintf(r->target, sizeof(r->target), "%s", target);
    (void)snprintf(r->reason, sizeof(r->reason), "%s", reason);
}

static void write_text(const char *path, const char *text)
{
    auto_close int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || wh_write_all(fd, text, strlen(text)) < 0)
        SKIP("user namespaces are closed here");
}

/* A network of our own, in which all of 10.1.0.0/16 and fd00:1::/64 is local. */
static uid_t own_namespace(void)
{
    static bool done;
    static uid_t uid;
    char map[64];
    if (done)
        return uid;
    uid = getuid() == 0 ? 65534 : 0;
    (void)snprintf(map, sizeof(map), "0 %u 1", getuid());
    if (unshare(CLONE_NEWNET) < 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
            SKIP("no network namespace can be had");
        write_text("/proc/self/uid_map", map);
        uid = 0;
    }
    if (system("ip link set lo up && ip route add local 10.1.0.0/16 dev lo && "
               "ip -6 route add local fd00:1::/64 dev lo") != 0)
        SKIP("ip (iproute2) does not work here");
    done = true;
    return uid;
}

void rig_init(rig *r, const char *socket_path, int namespace_fd)
{
    wh_err err = {0};
    wh_addr node[2] = {0};
    const char *program = getenv("WH_NETD");
    if (program == NULL)
        SKIP("WH_NETD is the program");
    *r = (rig){0};
    CHECK_OK(wh_addr_parse("10.1.255.1", 0, &node[0], &err), &err);
    CHECK_OK(wh_addr_parse("169.254.7.1", 0, &node[1], &err), &err);
    CHECK_OK(wh_loop_new(&r->loop, &err), &err);
    const wh_netd_options options = {
        .program = program,
        .namespace_fd = namespace_fd,
        .uid = own_namespace(),
        .socket_path = socket_path,
        .node_addresses = node,
        .n_node_addresses = 2,
        .on_lost = on_lost,
        .on_refused = on_refused,
        .user = r,
    };
    CHECK_OK(wh_netd_start(r->loop, &options, &r->netd, &err), &err);
}

void rig_done(rig *r)
{
    wh_netd_free(r->netd);
    wh_loop_free(r->loop);
}

void rig_pod(rig *r, const char *id, const char *const *addresses, const wh_netd_pod *rest)
{
    wh_err err = {0};
    wh_addr list[2];
    wh_netd_pod pod = rest == NULL ? (wh_netd_pod){0} : *rest;
    pod.id = id;
    pod.addresses = list;
    for (; addresses != NULL && addresses[pod.n_addresses] != NULL; pod.n_addresses++)
        CHECK_OK(wh_addr_parse(addresses[pod.n_addresses], 0, &list[pod.n_addresses], &err), &err);
    CHECK_OK(wh_netd_pod_set(r->netd, &pod, &err), &err);
}

static void on_answer(void *user, uint64_t token, const wh_netd_answer *answer, int fd)
{
    caller *c = user;
    (void)token;
    c->answers++;
    c->answer = *answer;
    if (c->fd >= 0)
        close(c->fd);
    c->fd = fd;
}

void caller_init(caller *c, rig *r, const char *id)
{
    wh_err err = {0};
    int fd = -1;
    *c = (caller){.rig = r, .fd = -1};
    CHECK_OK(wh_netd_pod_channel(r->netd, id, &fd, &err), &err);
    CHECK_OK(wh_netd_client_new(r->loop, fd, on_answer, c, &c->client, &err), &err);
}

void caller_done(caller *c)
{
    wh_netd_client_free(c->client);
    if (c->fd >= 0)
        close(c->fd);
}

void caller_send(caller *c, wh_netd_op op, const char *address, const char *name, uint32_t timeout_ms)
{
    static uint64_t token;
    wh_addr addr = {0};
    wh_err err = {0};
    wh_netd_request request = {.op = op, .token = ++token, .timeout_ms = timeout_ms};
    if (address != NULL) {
        CHECK_OK(wh_addr_parse(address, 0, &addr, &err), &err);
        memcpy(&request.address, &addr.in6, sizeof(addr.in6));
    }
    if (name != NULL)
        (void)snprintf(request.name, sizeof(request.name), "%s", name);
    CHECK_OK(wh_netd_client_ask(c->client, &request), NULL);
}

void caller_wait(caller *c, int answers, wh_time most)
{
    wh_time end = wh_mono_now() + most;
    while (c->answers < answers && wh_mono_now() < end)
        CHECK_OK(wh_loop_once(c->rig->loop, 10 * WH_MSEC), NULL);
    CHECK_INT(c->answers, >=, answers);
}

int caller_ask(caller *c, wh_netd_op op, const char *address, const char *name, int *ret_fd)
{
    int before = c->answers;
    caller_send(c, op, address, name, 0);
    caller_wait(c, before + 1, 20 * WH_SEC);
    if (ret_fd != NULL) {
        *ret_fd = WH_TAKE_FD(c->fd);
    } else if (c->fd >= 0) {
        close(WH_TAKE_FD(c->fd));
    }
    return c->answer.rc;
}

int count_fds(pid_t pid)
{
    char path[64];
    int n = 0;
    (void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    if (dir == NULL)
        return -errno;
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n - 2;
}

pid_t netd_pid(void)
{
    char path[64];
    auto_free char *text = NULL;
    wh_err err = {0};
    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
    CHECK_OK(wh_read_file(AT_FDCWD, path, 4096, &text, NULL, &err), &err);
    return (pid_t)strtol(text, NULL, 10);
}
