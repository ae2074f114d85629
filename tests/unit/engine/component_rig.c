/* SPDX-License-Identifier: Apache-2.0 */
#include "component_rig.h"
#include "base/clock.h"
#include "harness.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define KEEP_BYTES (1UL << 20)

static void add_fields(wh_buf *out, const wh_component_field *fields, size_t n)
{
    for (size_t i = 0; i < n; i++)
        (void)wh_buf_printf(out, "%.*s: %.*s\n", WH_STR_ARG(fields[i].name), WH_STR_ARG(fields[i].value));
}

static void on_head(void *user, unsigned status, const wh_component_field *fields, size_t n)
{
    wh_comp_client *c = user;
    CHECK(!c->ended);
    c->status = status;
    c->heads++;
    add_fields(&c->fields, fields, n);
}

static bool on_body(void *user, const void *p, size_t n)
{
    wh_comp_client *c = user;
    CHECK(!c->ended);
    CHECK(!c->paused);
    CHECK_INT(n, >, 0);
    c->body_bytes += n;
    c->chunk_max = WH_MAX(c->chunk_max, n);
    if (c->body.len < KEEP_BYTES)
        (void)wh_buf_append(&c->body, p, WH_MIN(n, KEEP_BYTES - c->body.len));
    c->paused = c->pause;
    return !c->pause;
}

static void on_end(void *user, const wh_outcome *outcome, const wh_component_field *trailers, size_t n)
{
    wh_comp_client *c = user;
    c->ends++;
    c->ended = true;
    c->call = NULL;
    c->outcome = *outcome;
    add_fields(&c->trailers, trailers, n);
}

static void on_taken(void *user, size_t queued)
{
    wh_comp_client *c = user;
    CHECK(!c->ended);
    c->taken++;
    c->waiting = queued;
}

static void on_wake(void *user)
{
    wh_comp_instance *i = user;
    uint64_t one = 1;
    atomic_store(&i->woken, true);
    (void)!write(i->rig->event, &one, sizeof(one));
}

static int on_write(void *user, int stream, const void *p, size_t n)
{
    wh_comp_rig *rig = user;
    CHECK(stream == 1 || stream == 2);
    (void)wh_buf_append(&rig->output, p, n);
    return 0;
}

static void *tick(void *user)
{
    wh_comp_rig *rig = user;
    const struct timespec pause = {.tv_nsec = TICK_MS * 1000000L};
    while (!atomic_load(&rig->stop)) {
        (void)nanosleep(&pause, NULL);
        wh_engine_wasmtime.tick(rig->engine);
    }
    return NULL;
}

void comp_init(wh_comp_rig *rig)
{
    *rig = (wh_comp_rig){.profile = WH_PROFILE_SHARED | WH_PROFILE_CM,
                         .event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    CHECK_INT(rig->event, >=, 0);
    wh_buf_init(&rig->output, KEEP_BYTES);
    rig->callbacks = (wh_component_callbacks){
        .on_head = on_head, .on_body = on_body, .on_end = on_end, .on_taken = on_taken, .wake = on_wake};
    rig->config = (wh_component_config){.stdin_fd = -1,
                                        .write = on_write,
                                        .write_user = rig,
                                        .callbacks = &rig->callbacks,
                                        .limits = {.memory_bytes_max = 64UL << 20},
                                        .deadline_ticks = 400};
}

int comp_open(const char *name)
{
    const char *folder = getenv("GUESTS");
    struct stat st;
    CHECK(folder != NULL);
    auto_free char *path = wh_xasprintf("%s/%s.cwasm", folder, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size == 0)
        SKIP("this machine has no tools to build the guest");
    return fd;
}

void comp_load(wh_comp_rig *rig, const char *name)
{
    wh_err err = {0};
    auto_close int fd = comp_open(name);
    const wh_engine_config config = {
        .profile = rig->profile, .pool_slots = 100, .pool_memory_max = 128UL << 20};
    CHECK_OK(wh_engine_wasmtime.engine_new(&config, &rig->engine, &err), &err);
    CHECK_OK(wh_component_load(rig->engine, fd, &rig->config, &rig->component, &err), &err);
    CHECK_OK(wh_component_warm(rig->component, &err), &err);
    CHECK_INT(pthread_create(&rig->ticker, NULL, tick, rig), ==, 0);
}

void comp_done(wh_comp_rig *rig)
{
    atomic_store(&rig->stop, true);
    (void)pthread_join(rig->ticker, NULL);
    wh_component_free(rig->component);
    wh_engine_wasmtime.engine_free(rig->engine);
    wh_buf_done(&rig->output);
    (void)close(rig->event);
}

wh_comp_instance *comp_instance(wh_comp_rig *rig)
{
    wh_err err = {0};
    wh_comp_instance *i = wh_xnew(wh_comp_instance);
    *i = (wh_comp_instance){.rig = rig};
    CHECK_OK(wh_component_instance_new(rig->component, i, &i->instance, &err), &err);
    return i;
}

void comp_free(wh_comp_instance *i)
{
    wh_component_instance_free(i->instance);
    free(i);
}

void client_init(wh_comp_client *client)
{
    *client = (wh_comp_client){0};
    wh_buf_init(&client->fields, KEEP_BYTES);
    wh_buf_init(&client->body, KEEP_BYTES);
    wh_buf_init(&client->trailers, KEEP_BYTES);
}

void client_done(wh_comp_client *client)
{
    wh_buf_done(&client->fields);
    wh_buf_done(&client->body);
    wh_buf_done(&client->trailers);
}

void client_begin(wh_comp_client *client, wh_comp_instance *i, const char *method, const char *path,
                  int64_t body_bytes, const char *const *fields)
{
    wh_err err = {0};
    wh_component_field list[16];
    size_t n = 0;
    for (; fields != NULL && fields[2 * n] != NULL; n++) {
        CHECK_INT(n, <, WH_ARRAY_LEN(list));
        list[n] = (wh_component_field){wh_str_of(fields[2 * n]), wh_str_of(fields[2 * n + 1])};
    }
    const wh_component_head head = {.method = wh_str_of(method),
                                    .scheme = WH_STR("http"),
                                    .authority = WH_STR("pod.example:8080"),
                                    .path_query = wh_str_of(path),
                                    .fields = list,
                                    .n_fields = n,
                                    .body_bytes = body_bytes};
    CHECK_OK(wh_component_begin(i->instance, &head, client, &client->call, &err), &err);
}

void client_get(wh_comp_client *client, wh_comp_instance *i, const char *path)
{
    client_begin(client, i, "GET", path, 0, NULL);
}

void comp_poll(wh_comp_instance *i)
{
    if (i->state == WH_COMPONENT_DEAD || !atomic_exchange(&i->woken, false))
        return;
    i->polls++;
    i->state = wh_component_poll(i->instance);
}

bool comp_run(wh_comp_instance **list, size_t n, const bool *done, int ms)
{
    wh_time end = wh_mono_now() + ms * WH_MSEC;
    while (!*done) {
        for (size_t k = 0; k < n; k++)
            comp_poll(list[k]);
        wh_time left = end - wh_mono_now();
        if (*done || left <= 0)
            break;
        struct pollfd p = {.fd = list[0]->rig->event, .events = POLLIN};
        (void)poll(&p, 1, (int)WH_MIN(left / WH_MSEC + 1, (wh_time)1000));
        uint64_t count;
        (void)!read(p.fd, &count, sizeof(count));
    }
    return *done;
}

void comp_finish(wh_comp_instance *i, wh_comp_client *client)
{
    CHECK(comp_run(&i, 1, &client->ended, 20000));
    CHECK_INT(client->ends, ==, 1);
}
