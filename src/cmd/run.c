/* SPDX-License-Identifier: Apache-2.0 */
/* wherry run: one module or component in the foreground, as the user's own process, confined to what the command line
 * grants, run to its end or served; or the objects of a manifest (run_pods.c). */
#include "base/file.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/run_network.h"
#include "engine/engine.h"
#include "image/image.h"
#include "loop/loop.h"
#include "net/addr.h"
#include "node/paths.h"
#include "runner/spec.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define RUN_FDS_MAX 64
#define LISTEN_DEFAULT "127.0.0.1:8080"

static struct {
    wh_strv dirs, env, listen;
    const char *invoke, *policy, *workdir, *serve, *egress, *tls_cert, *tls_key;
    uint64_t memory, stack, reuse, concurrency, queue, body;
    int64_t timeout;
    bool trace, no_sandbox, keep, quiet, summary, inherit_env, shared, plain_http, access_log;
} opt = {.policy = "missing"};

static const wh_opt options[] = {
    {"dir", 'd', WH_OPT_LIST, &opt.dirs, "HOST[::GUEST][:ro]",
     "Give the guest a folder, under the name GUEST"},
    {"env", 'e', WH_OPT_LIST, &opt.env, "NAME[=VALUE]", "Set a variable; without a value, pass ours on"},
    {"inherit-env", 0, WH_OPT_FLAG, &opt.inherit_env, NULL, "Pass all of our variables on"},
    {"invoke", 0, WH_OPT_STR, &opt.invoke, "FUNCTION",
     "Call this export instead of _start and print its results"},
    {"listen", 'l', WH_OPT_LIST, &opt.listen, "ADDR:PORT",
     "Serve HTTP there (" LISTEN_DEFAULT "); a plain module gets the socket: WHERRY_LISTEN_FD is its number"},
    {"serve", 0, WH_OPT_STR, &opt.serve, "wagi|stream",
     "Serve with a WASI command, a fresh instance per request: CGI style, or body in and body out"},
    {"reuse", 0, WH_OPT_U64, &opt.reuse, "N",
     "Serving: let an instance of a component answer N requests (1)"},
    {"concurrency", 0, WH_OPT_U64, &opt.concurrency, "N",
     "Serving: requests at once (64); more of them wait"},
    {"queue", 0, WH_OPT_U64, &opt.queue, "N", "Serving: requests that wait (128); more of them are refused"},
    {"max-body", 0, WH_OPT_BYTES, &opt.body, "BYTES", "Serving: refuse request bodies above this"},
    {"access-log", 0, WH_OPT_FLAG, &opt.access_log, NULL, "Serving: print one line per request"},
    {"tls-cert", 0, WH_OPT_STR, &opt.tls_cert, "FILE", "Serving: with TLS, by this certificate (PEM)"},
    {"tls-key", 0, WH_OPT_STR, &opt.tls_key, "FILE", "Serving: and its private key"},
    {"egress", 0, WH_OPT_STR, &opt.egress, "RULES",
     "What a component may reach: none, or HOST:PORT, ADDRESS/BITS:PORT, ... (public addresses)"},
    {"memory", 'm', WH_OPT_BYTES, &opt.memory, "BYTES", "Let the guest's memory grow up to this, e.g. 64Mi"},
    {"stack", 0, WH_OPT_BYTES, &opt.stack, "BYTES", "Size of the guest's stack (512Ki)"},
    {"timeout", 't', WH_OPT_DURATION, &opt.timeout, "TIME",
     "End the guest after this time, e.g. 30s; serving: each request"},
    {"trace", 0, WH_OPT_FLAG, &opt.trace, NULL, "Print each host call with arguments, result and time"},
    {"shared", 0, WH_OPT_FLAG, &opt.shared, NULL,
     "Use code with deadline checks, as functions and filters do"},
    {"pull", 0, WH_OPT_STR, &opt.policy, "always|missing|never", "When to ask the registry for an image"},
    {"plain-http", 0, WH_OPT_FLAG, &opt.plain_http, NULL, "Allow a registry without TLS"},
    {"no-sandbox", 0, WH_OPT_FLAG, &opt.no_sandbox, NULL, "Leave out the process sandbox, for debugging"},
    {"keep", 0, WH_OPT_FLAG, &opt.keep, NULL, "Manifest: keep state and logs, and say where"},
    {"quiet", 'q', WH_OPT_FLAG, &opt.quiet, NULL, "Manifest: print the containers' output only"},
    {"summary", 0, WH_OPT_FLAG, &opt.summary, NULL,
     "Manifest: end with a table of what ran, start times and memory"},
    WH_CMD_DIR_OPTIONS,
    {0},
};

static const wh_opt *run_options(void)
{
    return options;
}

/* Descriptors of the runner, by their number there. */
typedef struct fd_table {
    int fds[RUN_FDS_MAX];
    int n;
} fd_table;

static int table_add(fd_table *table, int fd, wh_err *err)
{
    if (table->n >= RUN_FDS_MAX)
        return wh_fail(err, -E2BIG, "at most %d folders and sockets can be given to a guest.",
                       RUN_FDS_MAX - 8);
    table->fds[table->n] = fd;
    return table->n++;
}

/* HOST[::GUEST][:ro]; the guest's name is the host's by default. */
static int add_dir(wh_runspec *spec, fd_table *table, const char *text, wh_err *err)
{
    auto_free char *host = wh_xstrdup(text);
    bool read_only = wh_ends_with(host, ":ro");
    int rc;

    if (read_only)
        host[strlen(host) - 3] = '\0';
    char *separator = strstr(host, "::");
    const char *guest = host;
    if (separator != NULL) {
        *separator = '\0';
        guest = separator + 2;
    }
    int fd = open(host, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return wh_fail(err, -errno, "open folder '%s' of --dir %s", host, text);
    rc = table_add(table, fd, err);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    spec->dirs[spec->n_dirs++] =
        (wh_runspec_dir){.guest_path = wh_xstrdup(guest), .fd = rc, .read_only = read_only};
    return 0;
}

static int add_listener(wh_runspec *spec, fd_table *table, const char *text, wh_err *err)
{
    bool serves = spec->serve.mode != WH_RUNSPEC_COMMAND;
    char shown[WH_ADDR_TEXT_MAX];
    wh_addr addr;
    int fd = -1;
    int rc = wh_addr_parse(text, -1, &addr, err);

    rc = rc < 0 ? rc : wh_listen(&addr, 0600, &fd, err);
    if (rc < 0)
        return wh_wrap(err, "--listen %s", text);
    if (!serves)
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    else if (wh_socket_local(fd, &addr) == 0)
        fprintf(stderr, "wherry: serving on %s%s\n",
                addr.sa.sa_family == AF_UNIX  ? ""
                : spec->serve.tls_cert_fd > 0 ? "https://"
                                              : "http://",
                wh_addr_text(&addr, shown));
    rc = table_add(table, fd, err);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    spec->listen_fds[spec->n_listen++] = rc;
    return 0;
}

static int add_env(wh_runspec *spec, char *const *ours)
{
    if (opt.inherit_env)
        for (size_t i = 0; ours[i] != NULL; i++)
            wh_strv_push(&spec->env, ours[i]);
    for (size_t i = 0; i < wh_strv_len(opt.env); i++) {
        const char *value = strchr(opt.env[i], '=') != NULL ? NULL : getenv(opt.env[i]);
        if (strchr(opt.env[i], '=') != NULL)
            wh_strv_push(&spec->env, opt.env[i]);
        else if (value != NULL)
            wh_strv_push_take(&spec->env, wh_xasprintf("%s=%s", opt.env[i], value));
        else
            return wh_cmd_usage("--env %s: no such variable here; use NAME=VALUE", opt.env[i]);
    }
    return 0;
}

static wh_child runner;
static int runner_code, runner_status;

static void runner_ended(wh_child *child, int code, int status)
{
    runner_code = code;
    runner_status = status;
    wh_loop_stop(child->user, 0);
}

static void forward_signal(const struct signalfd_siginfo *info, void *user)
{
    (void)user;
    wh_child_kill(&runner, (int)info->ssi_signo);
}

static int run_program(wh_loop *loop, const char *program, const char *name, const fd_table *table,
                       wh_err *err)
{
    const int forwarded[] = {SIGINT, SIGTERM, SIGHUP};
    char *argv[] = {wh_xasprintf("wherry: %s", name), NULL, NULL};
    char no_sandbox[] = WH_RUNNER_NO_SANDBOX;
    char *env[] = {NULL};
    wh_spawn spawn = {.path = program,
                      .argv = argv,
                      .env = env,
                      .fds = table->fds,
                      .n_fds = (size_t)table->n,
                      .death_signal = SIGKILL};
    int rc = 0;

    if (opt.no_sandbox)
        argv[1] = no_sandbox;
    for (size_t i = 0; rc == 0 && i < WH_ARRAY_LEN(forwarded); i++)
        rc = wh_loop_signal(loop, forwarded[i], forward_signal, NULL, err);
    rc = rc < 0 ? rc : wh_child_start(loop, &runner, &spawn, runner_ended, loop, err);
    free(argv[0]);
    if (rc < 0)
        return rc;
    wh_loop_run(loop);
    wh_child_done(&runner);
    return 0;
}

/* Says how it ended when that was not the guest's own exit, and is the exit code. */
static int report_end(int end_fd)
{
    wh_end_record end;
    wh_err err = {0};

    if (wh_end_record_read(end_fd, &end, &err) < 0) {
        if (runner_code == CLD_EXITED)
            return runner_status;
        fprintf(stderr, "wherry: the runner was killed by signal %d (%s)\n", runner_status,
                strsignal(runner_status));
        return 128 + runner_status;
    }
    bool silent = strcmp(end.reason, "Completed") == 0 || strcmp(end.reason, "Error") == 0 ||
                  strcmp(end.reason, "Stopped") == 0;
    if (!silent)
        fprintf(stderr, "wherry: %s: %s\n", end.reason, end.message);
    return end.exit_code;
}

static wh_pull_policy pull_policy(void)
{
    if (wh_streq(opt.policy, "always"))
        return WH_PULL_ALWAYS;
    return wh_streq(opt.policy, "never") ? WH_PULL_NEVER : WH_PULL_IF_NOT_PRESENT;
}

/* argv as a container has it: the image's entrypoint, then our arguments or its own. A single module's argv[0] is its
 * title. */
static wh_strv make_argv(const wh_image *image, int argc, char **argv)
{
    wh_strv args = wh_strv_copy(image->entrypoint);

    if (args == NULL && image->form == WH_IMAGE_MODULE)
        wh_strv_push(&args, image->title != NULL ? image->title : argv[0]);
    for (int i = 1; i < argc; i++)
        wh_strv_push(&args, argv[i]);
    for (size_t i = 0; argc == 1 && i < wh_strv_len(image->cmd); i++)
        wh_strv_push(&args, image->cmd[i]);
    return args;
}

static int load_code(const wh_paths *paths, int argc, char **argv, wh_code *ret, wh_image **ret_image,
                     wh_strv *ret_argv, wh_err *err)
{
    wh_pull_options pull = {.policy = pull_policy(), .plain_http = opt.plain_http};
    wh_image_error failure = {0};
    auto_image wh_image *image = NULL;
    auto_strv wh_strv args = NULL;
    wh_store *store = NULL;
    int rc = wh_store_open(paths->images, paths->prepare, &store, err);

    if (rc < 0)
        return rc;
    rc = wh_image_pull(store, argv[0], &pull, &image, &failure);
    if (rc == 0) {
        args = make_argv(image, argc, argv);
        rc = wh_image_code(store, image, args != NULL ? args[0] : NULL,
                           opt.shared || opt.serve != NULL ? WH_PROFILE_SHARED : WH_PROFILE_POD, ret,
                           &failure);
    }
    wh_store_close(store);
    if (rc < 0) {
        *err = failure.err;
        return rc;
    }
    *ret_image = WH_TAKE(image);
    *ret_argv = WH_TAKE(args);
    return 0;
}

/* What an image brings besides its module: its files as "/", read-only, and its environment, which --env overrides. */
static int add_image(wh_runspec *spec, fd_table *table, const wh_image *image, wh_err *err)
{
    for (size_t i = 0; i < wh_strv_len(image->env); i++)
        wh_strv_push(&spec->env, image->env[i]);
    if (image->rootfs == NULL)
        return 0;
    auto_free char *dir = wh_xasprintf("%s::/:ro", image->rootfs);
    return add_dir(spec, table, dir, err);
}

static int add_file(fd_table *table, const char *path, int *ret, wh_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return wh_fail(err, -errno, "open '%s'", path);
    int rc = table_add(table, fd, err);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    *ret = rc;
    return 0;
}

/* Whether and how the guest is served: as the code is, and --serve says. */
static int fill_serve(wh_runspec *spec, fd_table *table, const wh_code *code, wh_err *err)
{
    wh_runspec_serve *to = &spec->serve;
    bool http = code->kind == WH_CODE_HTTP_P2 || code->kind == WH_CODE_HTTP_P3;
    int rc = 0;

    if (opt.serve != NULL && code->kind != WH_CODE_COMMAND)
        return wh_fail(err, -EINVAL, "--serve %s takes a WASI command, and this is a %s.", opt.serve,
                       wh_code_kind_name(code->kind));
    if (http)
        to->mode = WH_RUNSPEC_HTTP;
    else if (opt.serve != NULL)
        to->mode = wh_streq(opt.serve, "wagi") ? WH_RUNSPEC_WAGI : WH_RUNSPEC_STREAM;
    if (to->mode == WH_RUNSPEC_COMMAND)
        return 0;
    to->at_once = (unsigned)opt.concurrency;
    to->queue = (unsigned)opt.queue;
    to->reuse = (unsigned)opt.reuse;
    to->time = opt.timeout;
    to->body_bytes_max = opt.body;
    to->access_log = opt.access_log;
    spec->deadline = 0;
    if (opt.tls_cert != NULL)
        rc = add_file(table, opt.tls_cert, &to->tls_cert_fd, err);
    return rc == 0 && opt.tls_key != NULL ? add_file(table, opt.tls_key, &to->tls_key_fd, err) : rc;
}

/* Roots for https, where Debian, Fedora and Alpine have them. */
static int add_roots(wh_runspec *spec, fd_table *table, wh_err *err)
{
    static const char *const files[] = {"/etc/ssl/certs/ca-certificates.crt",
                                        "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"};
    for (size_t i = 0; i < WH_ARRAY_LEN(files); i++)
        if (access(files[i], R_OK) == 0)
            return add_file(table, files[i], &spec->ca_fd, err);
    return 0;
}

static int add_network(wh_runspec *spec, fd_table *table, const wh_code *code, wh_run_network *net,
                       wh_loop *loop, const wh_paths *paths, wh_err *err)
{
    int fd = -1;
    if (!code->egress && !code->sockets)
        return 0;
    int rc = wh_run_network_start(net, loop, paths, opt.egress, &fd, err);
    if (rc == 0)
        rc = table_add(table, fd, err);
    if (rc < 0)
        return rc;
    spec->netd_fd = rc;
    return code->egress ? add_roots(spec, table, err) : 0;
}

static const char *runner_of(const wh_paths *paths, const wh_code *code, const wh_runspec *spec)
{
    bool tls = spec->serve.tls_cert_fd > 0 || spec->ca_fd > 0;
    if ((code->profile & WH_PROFILE_CM) != 0)
        return paths->runners[tls ? WH_RUNNER_COMPONENT_TLS : WH_RUNNER_COMPONENT];
    return paths->runners[tls ? WH_RUNNER_CORE_TLS : WH_RUNNER_CORE];
}

/* Fills what the command line says about the guest; descriptors go into the table in the order of their
 * numbers. */
static int fill_spec(wh_runspec *spec, fd_table *table, const wh_code *code, const wh_image *image,
                     int end_fd, wh_err *err)
{
    int rc = 0;

    spec->profile = code->profile;
    spec->code_fd = table_add(table, fcntl(code->fd, F_DUPFD_CLOEXEC, 3), err);
    spec->end_fd = table_add(table, end_fd, err);
    spec->log_fd = spec->control_fd = -1;
    spec->stop_signal = SIGTERM;
    spec->trace = opt.trace;
    spec->landlock_optional = true;
    spec->memory_bytes_max = opt.memory;
    spec->stack_bytes_max = opt.stack;
    spec->deadline = opt.timeout;
    spec->invoke = opt.invoke != NULL ? wh_xstrdup(opt.invoke) : NULL;
    spec->dirs = wh_xcalloc(RUN_FDS_MAX, sizeof(*spec->dirs));
    spec->listen_fds = wh_xcalloc(RUN_FDS_MAX, sizeof(*spec->listen_fds));
    rc = fill_serve(spec, table, code, err);
    bool serves = spec->serve.mode != WH_RUNSPEC_COMMAND;
    rc = rc < 0 ? rc : add_image(spec, table, image, err);
    for (size_t i = 0; rc == 0 && i < wh_strv_len(opt.dirs); i++)
        rc = add_dir(spec, table, opt.dirs[i], err);
    for (size_t i = 0; rc == 0 && i < wh_strv_len(opt.listen); i++)
        rc = add_listener(spec, table, opt.listen[i], err);
    if (rc == 0 && serves && spec->n_listen == 0)
        rc = add_listener(spec, table, LISTEN_DEFAULT, err);
    if (!serves && spec->n_listen > 0) { /* sockets follow the folders, which libc looks for from 3 on */
        wh_strv_push_take(&spec->env, wh_xasprintf("LISTEN_FDS=%zu", spec->n_listen));
        wh_strv_push_take(&spec->env, wh_xasprintf("WHERRY_LISTEN_FD=%zu", 3 + spec->n_dirs));
    }
    return rc;
}

static int run_module(int argc, char **argv)
{
    wh_err err = {0};
    wh_paths paths = {0};
    wh_code code = {.fd = -1};
    auto_image wh_image *image = NULL;
    auto_runspec wh_runspec *spec = wh_xnew(wh_runspec);
    int end_fd = memfd_create("end", MFD_CLOEXEC);
    fd_table table = {.fds = {0, 1, 2, -1}, .n = 4};
    wh_run_network net = {0};
    wh_loop *loop = NULL;

    if (end_fd < 0) {
        wh_fail(&err, -errno, "memfd_create");
        return wh_cmd_fail(&err);
    }
    if (wh_paths_init(&paths, wh_cmd_dirs_given.root, wh_cmd_dirs_given.run, NULL, &err) < 0 ||
        load_code(&paths, argc, argv, &code, &image, &spec->args, &err) < 0 ||
        fill_spec(spec, &table, &code, image, end_fd, &err) < 0 || wh_loop_new(&loop, &err) < 0 ||
        add_network(spec, &table, &code, &net, loop, &paths, &err) < 0)
        return wh_cmd_fail(&err);
    const char *program = runner_of(&paths, &code, spec);
    if (program == NULL) {
        wh_fail(&err, -ENOENT, "this installation has no runner for %s%s.", wh_code_kind_name(code.kind),
                spec->serve.tls_cert_fd > 0 || spec->ca_fd > 0 ? " with TLS" : "");
        return wh_cmd_fail(&err);
    }
    int rc = add_env(spec, environ);
    if (rc != 0)
        return rc;
    spec->id = wh_xstrdup("run");
    spec->name = wh_xstrdup(image->title != NULL ? image->title : argv[0]);
    table.fds[WH_RUNSPEC_FD] = wh_runspec_memfd(spec, &err);
    if (table.fds[WH_RUNSPEC_FD] < 0 || run_program(loop, program, spec->name, &table, &err) < 0)
        return wh_cmd_fail(&err);
    wh_run_network_done(&net);
    wh_loop_free(loop);
    wh_code_done(&code);
    wh_paths_done(&paths);
    return report_end(end_fd);
}

static bool is_manifest(const char *name)
{
    return wh_ends_with(name, ".yaml") || wh_ends_with(name, ".yml") || wh_ends_with(name, ".json") ||
           strcmp(name, "-") == 0;
}

static int run(int argc, char **argv)
{
    if (argc < 1)
        return wh_cmd_usage("run: which module, image or manifest? See 'wherry run --help'");
    if (!wh_streq(opt.policy, "always") && !wh_streq(opt.policy, "missing") && !wh_streq(opt.policy, "never"))
        return wh_cmd_usage("--pull takes always, missing or never, not '%s'", opt.policy);
    if (opt.serve != NULL && !wh_streq(opt.serve, "wagi") && !wh_streq(opt.serve, "stream"))
        return wh_cmd_usage("--serve takes wagi or stream, not '%s'", opt.serve);
    if ((opt.tls_cert == NULL) != (opt.tls_key == NULL))
        return wh_cmd_usage("--tls-cert and --tls-key come together");
    if (opt.concurrency > WH_RUNSPEC_AT_ONCE_MAX || opt.queue > WH_RUNSPEC_QUEUE_MAX || opt.reuse > INT32_MAX)
        return wh_cmd_usage("--concurrency takes up to %d, --queue up to %d", WH_RUNSPEC_AT_ONCE_MAX,
                            WH_RUNSPEC_QUEUE_MAX);
    if (!is_manifest(argv[0]))
        return run_module(argc, argv);
    if (argc > 1)
        return wh_cmd_usage("run: a manifest takes no arguments, found '%s'", argv[1]);
    wh_run_pods_options pods = {.manifest = argv[0],
                                .keep = opt.keep,
                                .quiet = opt.quiet,
                                .summary = opt.summary,
                                .timeout_ns = opt.timeout};
    return wh_run_pods(&pods);
}

const wh_verb wh_cmd_run = {
    .name = "run",
    .args = "FILE.wasm|IMAGE|MANIFEST.yaml [ARG...]",
    .summary = "Run a module, an image or the pods of a manifest in the foreground",
    .detail =
        "A module sees nothing of the machine but what --dir, --env and --listen give it. Its exit code becomes\n"
        "ours; a trap is 134, memory that cannot be had 137, a stop by signal 128 plus its number.\n\n"
        "A component that answers HTTP (wasi:http) is served until Ctrl-C, and so is a WASI command with --serve:\n"
        "each request gets a fresh instance.\n\n"
        "A manifest (YAML or JSON, several documents) may hold Pods, ConfigMaps, Secrets and Jobs. Output is\n"
        "prefixed by container; Ctrl-C ends everything gracefully, a second one at once.",
    .options = run_options,
    .run = run,
    .stop_at_operand = true,
};
