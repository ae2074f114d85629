/* SPDX-License-Identifier: Apache-2.0 */
/* Commands, and what is around any component: arguments, standard streams, files, and code that does not load. */
#include "base/clock.h"
#include "component_rig.h"
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- commands ---- */

typedef struct run {
    wh_comp_rig rig;
    wh_comp_instance *i;
    wh_outcome outcome;
} run;

/* `path` goes to the environment, and is the first argument without its slash. */
static void run_up(run *r, const char *name, const char *path, int stdin_fd)
{
    static char app[] = "app", first[64], words[] = "two words", empty[] = "EMPTY=", variable[64];
    static char *const args[] = {app, first, words, NULL}, *const env[] = {variable, empty, NULL};
    (void)snprintf(first, sizeof(first), "%s", path + 1);
    (void)snprintf(variable, sizeof(variable), "PATH_INFO=%s", path);
    comp_init(&r->rig);
    r->rig.profile = WH_PROFILE_POD | WH_PROFILE_CM;
    r->rig.config.args = args;
    r->rig.config.env = env;
    r->rig.config.stdin_fd = stdin_fd;
    r->rig.config.deadline_ticks = 0;
    comp_load(&r->rig, name);
    CHECK_INT(wh_component_kind_of(r->rig.component), ==, WH_COMPONENT_COMMAND);
    r->i = comp_instance(&r->rig);
}

static void run_to_end(run *r)
{
    wh_err err = {0};
    bool never = false;
    CHECK_OK(wh_component_run(r->i->instance, &err), &err);
    r->i->state = WH_COMPONENT_PENDING;
    for (int n = 0; n < 2000 && r->i->state == WH_COMPONENT_PENDING; n++)
        comp_run(&r->i, 1, &never, 5);
    CHECK_INT(r->i->state, !=, WH_COMPONENT_PENDING);
    wh_component_outcome(r->i->instance, &r->outcome);
}

static void run_down(run *r)
{
    comp_free(r->i);
    comp_done(&r->rig);
}

static void check_hello(const char *name, const char *text)
{
    run r;
    run_up(&r, name, "/", -1);
    run_to_end(&r);
    /* A program returns, or it exits: then its instance is spent. */
    if (r.outcome.end == WH_END_EXIT)
        CHECK_INT(r.i->state, ==, WH_COMPONENT_DEAD);
    else
        CHECK_INT(r.i->state, ==, WH_COMPONENT_IDLE);
    CHECK(r.outcome.end == WH_END_OK || r.outcome.end == WH_END_EXIT);
    CHECK_INT(r.outcome.exit_code, ==, 0);
    CHECK_CONTAINS(wh_buf_str(&r.rig.output), text);
    run_down(&r);
}

TEST(a_command_runs)
{
    check_hello("command-p2", "Hello from Rust\n");
}

TEST(a_command_of_another_language_runs)
{
    check_hello("command-go", "Hello");
}

TEST(arguments_and_environment)
{
    run r;
    run_up(&r, "command-p2", "/env", -1);
    run_to_end(&r);
    CHECK_STR(wh_buf_str(&r.rig.output), "arg 0 app\narg 1 env\narg 2 two words\nEMPTY=\nPATH_INFO=/env\n");
    run_down(&r);
}

/* WASI 0.2 knows success and failure only: exit(3) is a failure. */
TEST(an_exit_code)
{
    run r;
    run_up(&r, "command-p2", "/exit", -1);
    run_to_end(&r);
    CHECK_INT(r.outcome.end, ==, WH_END_EXIT);
    CHECK_INT(r.outcome.exit_code, ==, 1);
    run_down(&r);
}

TEST(a_command_that_traps)
{
    run r;
    run_up(&r, "command-p2", "/trap", -1);
    run_to_end(&r);
    CHECK_INT(r.i->state, ==, WH_COMPONENT_DEAD);
    CHECK_INT(r.outcome.end, ==, WH_END_TRAP);
    CHECK_CONTAINS(r.outcome.msg, "unreachable code reached\n    0: ");
    CHECK_CONTAINS(wh_buf_str(&r.rig.output), "asked to trap");
    run_down(&r);
}

TEST(a_command_that_sleeps)
{
    run r;
    run_up(&r, "command-p2", "/sleep", -1);
    wh_time start = wh_mono_now();
    run_to_end(&r);
    CHECK_INT(wh_mono_now() - start, >=, 50 * WH_MSEC);
    CHECK_STR(wh_buf_str(&r.rig.output), "slept\n");
    run_down(&r);
}

TEST(standard_input_at_its_end)
{
    run r;
    run_up(&r, "command-p2", "/cat", -1);
    run_to_end(&r);
    CHECK_INT(r.outcome.end, ==, WH_END_OK);
    CHECK_STR(wh_buf_str(&r.rig.output), "");
    run_down(&r);
}

TEST(standard_input_of_a_pipe)
{
    run r;
    wh_err err = {0};
    bool never = false;
    int ends[2];
    CHECK_INT(pipe2(ends, O_CLOEXEC), ==, 0);
    run_up(&r, "command-p2", "/cat", ends[0]);
    CHECK_OK(wh_component_run(r.i->instance, &err), &err);
    CHECK(!comp_run(&r.i, 1, &never, 30));
    CHECK_INT(write(ends[1], "hello ", 6), ==, 6);
    CHECK(!comp_run(&r.i, 1, &never, 100));
    CHECK_INT(write(ends[1], "pipe\n", 5), ==, 5);
    (void)close(ends[1]);
    for (int n = 0; n < 1000 && r.i->state == WH_COMPONENT_PENDING; n++)
        comp_run(&r.i, 1, &never, 5);
    CHECK_STR(wh_buf_str(&r.rig.output), "hello pipe\n");
    run_down(&r);
    (void)close(ends[0]);
}

TEST(standard_input_of_a_file)
{
    run r;
    int fd = memfd_create("input", MFD_CLOEXEC);
    for (int n = 0; n < 10000; n++)
        CHECK_INT(dprintf(fd, "line %d\n", n), >, 0);
    CHECK_INT(lseek(fd, 0, SEEK_SET), ==, 0);
    run_up(&r, "command-p2", "/cat", fd);
    run_to_end(&r);
    CHECK_INT(r.rig.output.len, ==, 98890);
    CHECK_CONTAINS(wh_buf_str(&r.rig.output) + 98870, "line 9999\n");
    run_down(&r);
    (void)close(fd);
}

TEST(a_command_of_0_3)
{
    static const char *const paths[] = {"/", "/sleep", "/cat", "/fail"};
    static const char *const texts[] = {"Hello from 0.3\n", "slept\n", "the input", ""};
    for (size_t k = 0; k < WH_ARRAY_LEN(paths); k++) {
        run r;
        auto_close int fd = memfd_create("input", MFD_CLOEXEC);
        CHECK_INT(dprintf(fd, "the input"), ==, 9);
        CHECK_INT(lseek(fd, 0, SEEK_SET), ==, 0);
        run_up(&r, "command-p3", paths[k], fd);
        run_to_end(&r);
        CHECK_INT(r.i->state, ==, WH_COMPONENT_IDLE);
        CHECK_INT(r.outcome.end, ==, k < 3 ? WH_END_OK : WH_END_EXIT);
        CHECK_INT(r.outcome.exit_code, ==, k < 3 ? 0 : 1);
        CHECK_STR(wh_buf_str(&r.rig.output), texts[k]);
        run_down(&r);
    }
}

TEST(a_command_answers_no_requests)
{
    run r;
    wh_comp_client c;
    run_up(&r, "command-p2", "/", -1);
    client_init(&c);
    client_get(&c, r.i, "/");
    comp_finish(r.i, &c);
    CHECK_INT(c.heads, ==, 0);
    CHECK_STR(c.outcome.msg, "a command answers no requests");
    client_done(&c);
    run_down(&r);
}

TEST(a_service_is_no_command)
{
    wh_comp_rig rig;
    wh_err err = {0};
    comp_init(&rig);
    comp_load(&rig, "hello-p2");
    wh_comp_instance *i = comp_instance(&rig);
    CHECK_ERR(wh_component_run(i->instance, &err), -EINVAL, &err, "is no command");
    comp_free(i);
    comp_done(&rig);
}

/* ---- what is around a service ---- */

static void get(wh_comp_rig *rig, const char *path, char *ret, size_t bytes)
{
    wh_comp_client c;
    wh_comp_instance *i = comp_instance(rig);
    client_init(&c);
    client_get(&c, i, path);
    comp_finish(i, &c);
    CHECK_INT(c.outcome.end, ==, WH_END_OK);
    (void)snprintf(ret, bytes, "%s", wh_buf_str(&c.body));
    client_done(&c);
    comp_free(i);
}

static void check_files(const char *name)
{
    char folder[] = "/tmp/wherry-component-XXXXXX", text[512];
    wh_comp_rig rig;
    CHECK(mkdtemp(folder) != NULL);
    auto_close int base = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK_INT(mkdirat(base, "data", 0755), ==, 0);
    CHECK_INT(mkdirat(base, "config", 0755), ==, 0);
    auto_close int data = openat(base, "data", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    auto_close int config = openat(base, "config", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    auto_close int secret = openat(base, "secret", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    auto_close int setting = openat(config, "a", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK_INT(write(setting, "one", 3) + write(secret, "secret", 6), ==, 9);
    const wh_component_dir dirs[] = {{.fd = data, .guest_path = "/data"},
                                     {.fd = config, .guest_path = "/etc/app", .read_only = true}};
    comp_init(&rig);
    rig.config.dirs = dirs;
    rig.config.n_dirs = WH_ARRAY_LEN(dirs);
    comp_load(&rig, name);
    get(&rig, "/file?path=/etc/app/a", text, sizeof(text));
    CHECK_STR(text, "one\n");
    get(&rig, "/file?path=/data/new&write=text", text, sizeof(text));
    CHECK_STR(text, "written\n");
    get(&rig, "/file?path=/data/new", text, sizeof(text));
    CHECK_STR(text, "text\n");
    get(&rig, "/file?path=/data/", text, sizeof(text));
    CHECK_STR(text, "new\n");
    get(&rig, "/file?path=/etc/app/b&write=text", text, sizeof(text));
    CHECK_CONTAINS(text, "error: ");
    get(&rig, "/file?path=/data/../secret", text, sizeof(text));
    CHECK_CONTAINS(text, "error: ");
    get(&rig, "/file?path=/etc/passwd", text, sizeof(text));
    CHECK_CONTAINS(text, "error: ");
    CHECK_INT(symlinkat("../secret", data, "link"), ==, 0);
    get(&rig, "/file?path=/data/link", text, sizeof(text));
    CHECK_CONTAINS(text, "error: ");
    comp_done(&rig);
    (void)unlinkat(data, "link", 0), (void)unlinkat(data, "new", 0), (void)unlinkat(config, "a", 0);
    (void)unlinkat(base, "secret", 0), (void)unlinkat(base, "data", AT_REMOVEDIR);
    (void)unlinkat(base, "config", AT_REMOVEDIR), (void)rmdir(folder);
}

TEST(files_0_2)
{
    check_files("many-p2");
}

TEST(files_0_3)
{
    check_files("many-p3");
}

TEST(streams_random_and_clocks)
{
    static const char *const names[] = {"many-p2", "many-p3"};
    for (size_t k = 0; k < 2; k++) {
        char text[512], other[512];
        wh_comp_rig rig;
        comp_init(&rig);
        comp_load(&rig, names[k]);
        get(&rig, "/log", text, sizeof(text));
        CHECK_STR(text, "logged\n");
        CHECK_STR(wh_buf_str(&rig.output), "to stdout\nto stderr\n");
        get(&rig, "/random", text, sizeof(text));
        get(&rig, "/random", other, sizeof(other));
        CHECK(strcmp(text, other) != 0);
        long long seconds = 0, us = 0;
        get(&rig, "/clock?ms=30", text, sizeof(text));
        CHECK_INT(sscanf(text, "%lld %lld", &seconds, &us), ==, 2); /* NOLINT: our own guest's */
        CHECK_INT(seconds, >, 1700000000);
        CHECK_INT(us, >=, 30000);
        comp_done(&rig);
    }
}

TEST(without_a_network_sockets_are_denied)
{
    char text[512];
    wh_comp_rig rig;
    comp_init(&rig);
    comp_load(&rig, "many-p2");
    get(&rig, "/connect?to=127.0.0.1:9", text, sizeof(text));
    CHECK_CONTAINS(text, "error: PermissionDenied");
    get(&rig, "/resolve?name=example.com", text, sizeof(text));
    CHECK_CONTAINS(text, "error: ");
    comp_done(&rig);
}

/* ---- loading ---- */

static int load(unsigned profile, int fd, wh_err *err)
{
    wh_comp_rig rig;
    wh_component *component = NULL;
    comp_init(&rig);
    CHECK_OK(wh_engine_wasmtime.engine_new(&(wh_engine_config){.profile = profile}, &rig.engine, NULL), NULL);
    int rc = wh_component_load(rig.engine, fd, &rig.config, &component, err);
    CHECK(rc == 0 || component == NULL);
    wh_component_free(component);
    wh_engine_wasmtime.engine_free(rig.engine);
    wh_buf_done(&rig.output);
    (void)close(rig.event);
    return rc;
}

TEST(code_that_does_not_load)
{
    static const unsigned shared = WH_PROFILE_SHARED | WH_PROFILE_CM;
    wh_err err = {0};
    auto_close int http = comp_open("hello-p2"), unknown = comp_open("unknown-import"),
                   core = comp_open("traps.shared"), garbage = memfd_create("garbage", MFD_CLOEXEC);
    CHECK_OK(load(shared, http, &err), &err);
    CHECK_ERR(load(WH_PROFILE_SHARED, http, &err), -EINVAL, &err, "'shared' engine runs no components");
    CHECK_ERR(load(WH_PROFILE_POD | WH_PROFILE_CM, http, &err), -ESTALE, &err, "pod+cm");
    CHECK_ERR(load(shared, unknown, &err), -ENOENT, &err, "my:own/thing");
    CHECK_ERR(load(shared, core, &err), -EBADMSG, &err, "load the component");
    CHECK_ERR(load(shared, garbage, &err), -EBADMSG, &err, "load the component");
    CHECK_INT(write(garbage, "not code at all", 15), ==, 15);
    CHECK_ERR(load(shared, garbage, &err), -EBADMSG, &err, "load the component");
    CHECK_ERR(load(shared, -1, &err), -EBADF, &err, "load a compiled component");
}
