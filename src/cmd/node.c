/* SPDX-License-Identifier: Apache-2.0 */
/* wherry node: the agent. */
#include "base/file.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "net/addr.h"
#include "node/cluster.h"
#include "node/egress.h"
#include "node/local_api.h"
#include "node/source_dir.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/un.h>

static struct {
    const char *manifests, *kubeconfig, *bootstrap, *name, *ip, *logs, *listen, *healthz, *client_ca,
        *log_level, *log_format, *cgroup, *auth_file, *registries, *network, *cluster_cidrs, *cluster_domain;
    uint64_t max_pods, api_qps, log_bytes, log_files;
    wh_strv labels, taints, pod_cidrs, cluster_dns;
} opt = {.listen = ":10250",
         .healthz = "127.0.0.1:10248",
         .log_level = "info",
         .log_format = "auto",
         .cgroup = "wherry",
         .max_pods = 1000,
         .api_qps = 250,
         .log_bytes = 10UL << 20,
         .log_files = 5};

static const wh_opt options[] = {
    {"manifests", 0, WH_OPT_STR, &opt.manifests, "DIR",
     "Run the pods of the manifests in this folder, and follow it"},
    {"kubeconfig", 0, WH_OPT_STR, &opt.kubeconfig, "FILE",
     "Join the cluster with the node identity in this file"},
    {"bootstrap-kubeconfig", 0, WH_OPT_STR, &opt.bootstrap, "FILE", "Join the cluster by TLS bootstrap"},
    {"name", 0, WH_OPT_STR, &opt.name, "NAME", "Name of the node; the host's by default"},
    {"node-ip", 0, WH_OPT_STR, &opt.ip, "ADDRESS",
     "Address of the node; that of the default route by default"},
    {"listen", 0, WH_OPT_STR, &opt.listen, "ADDR:PORT", "Where the kubelet API listens (:10250)"},
    {"healthz", 0, WH_OPT_STR, &opt.healthz, "ADDR:PORT",
     "Where the plain health check listens (127.0.0.1:10248); \"\" for none"},
    {"client-ca-file", 0, WH_OPT_STR, &opt.client_ca, "FILE",
     "Who signs callers of the kubelet API; the cluster's CA by default"},
    {"label", 0, WH_OPT_LIST, &opt.labels, "KEY=VALUE", "Label the node"},
    {"taint", 0, WH_OPT_LIST, &opt.taints, "KEY=VALUE:EFFECT",
     "Taint the node when it is registered; \"none\" leaves out the usual one"},
    {"kube-api-qps", 0, WH_OPT_U64, &opt.api_qps, "N",
     "Send the API server at most so many requests a second, twice that in a burst (250)"},
    {"max-pods", 0, WH_OPT_U64, &opt.max_pods, "N", "Take at most so many pods (1000)"},
    {"cgroup", 0, WH_OPT_STR, &opt.cgroup, "NAME", "Parent control group (wherry); \"\" for none"},
    {"network", 0, WH_OPT_STR, &opt.network, "shared|host",
     "Give pods addresses of their own in one shared namespace, or the host's (shared for root, else host)"},
    {"pod-cidr", 0, WH_OPT_LIST, &opt.pod_cidrs, "CIDR",
     "Addresses of pods, one range a family (the Node's podCIDRs; without a cluster 10.88.0.0/16)"},
    {"cluster-cidr", 0, WH_OPT_STR, &opt.cluster_cidrs, "CIDR[,CIDR...]",
     "Networks of the cluster's pods and Services: open to pods, which keep their addresses there"},
    {"cluster-dns", 0, WH_OPT_LIST, &opt.cluster_dns, "ADDRESS", "DNS server of the cluster, for pods"},
    {"cluster-domain", 0, WH_OPT_STR, &opt.cluster_domain, "DOMAIN",
     "DNS domain of the cluster (cluster.local)"},
    {"auth-file", 0, WH_OPT_STR, &opt.auth_file, "FILE",
     "Registry credentials of the node: a docker configuration"},
    {"registries", 0, WH_OPT_STR, &opt.registries, "FILE",
     "Mirrors, private CAs and plain-HTTP hosts (/etc/wherry/registries.yaml)"},
    {"log-dir", 0, WH_OPT_STR, &opt.logs, "DIR", "Containers' logs go there (/var/log/pods)"},
    {"log-max-size", 0, WH_OPT_BYTES, &opt.log_bytes, "BYTES", "Rotate a log that is larger (10Mi)"},
    {"log-max-files", 0, WH_OPT_U64, &opt.log_files, "N", "Keep so many files of a log (5)"},
    {"log-level", 0, WH_OPT_STR, &opt.log_level, "error|warn|info|debug", "What to log (info)"},
    {"log-format", 0, WH_OPT_STR, &opt.log_format, "auto|text|json",
     "How to log; auto is text on a terminal"},
    WH_CMD_DIR_OPTIONS,
    {0},
};

static const wh_opt *node_options(void)
{
    return options;
}

typedef struct agent {
    wh_loop *loop;
    wh_paths paths;
    wh_node *node;
    wh_source_dir *dir;
    wh_cluster *cluster;
    wh_local_api *api;
    wh_timer watchdog;
    char *ip, *name;
    int failed;
} agent;

/* systemd's readiness protocol: a datagram to the socket it names. */
static void notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un un = {.sun_family = AF_UNIX};

    if (path == NULL || strlen(path) >= sizeof(un.sun_path) || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(un.sun_path, path, strlen(path));
    if (un.sun_path[0] == '@')
        un.sun_path[0] = '\0';
    auto_close int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&un,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path))) < 0)
        wh_log(DEBUG, "systemd was not told", KV_STR("error", strerror(errno)));
}

static void watchdog(wh_timer *timer)
{
    agent *a = timer->user;
    uint64_t usec = 0;
    const char *text = getenv("WATCHDOG_USEC");

    if (text == NULL || wh_parse_u64(text, UINT64_MAX / 1000, &usec) < 0 || usec == 0)
        return;
    notify("WATCHDOG=1");
    wh_timer_start(a->loop, &a->watchdog, (wh_time)(usec / 2) * WH_USEC, watchdog, a);
}

static void stop(const struct signalfd_siginfo *info, void *user)
{
    agent *a = user;

    wh_log(INFO, "stopping; pods run on", KV_STR("signal", strsignal((int)info->ssi_signo)));
    notify("STOPPING=1");
    wh_loop_stop(a->loop, 0);
}

/* What the machine has; all of it may be promised to pods but a reserve. */
static void fill_capacity(wh_node_config *config, const char *state)
{
    struct sysinfo info = {0};
    struct statvfs fs = {0};

    sysinfo(&info);
    statvfs(state, &fs);
    config->cpu_millis = sysconf(_SC_NPROCESSORS_ONLN) * 1000;
    config->memory_bytes = (int64_t)info.totalram * info.mem_unit - (int64_t)(100UL << 20);
    config->ephemeral_bytes = (int64_t)(fs.f_blocks * fs.f_frsize / 10 * 9);
}

static char *host_name(void)
{
    char name[65] = "localhost";

    gethostname(name, sizeof(name) - 1);
    for (char *p = name; *p != '\0'; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p - 'A' + 'a');
    return wh_xstrdup(name);
}

static void wherry_taint(wh_strv *taints)
{
    if (wh_strv_len(*taints) == 0)
        wh_strv_push(taints, "kubernetes.io/arch=wasm32:NoSchedule");
    else if (wh_strv_has(*taints, "none")) {
        wh_strv_free(*taints);
        *taints = NULL;
    }
}

static int join(agent *a, const wh_node_config *config, wh_err *err)
{
    wherry_taint(&opt.taints);
    wh_cluster_options cluster = {.kubeconfig = opt.kubeconfig,
                                  .bootstrap_kubeconfig = opt.bootstrap,
                                  .state_dir = a->paths.state,
                                  .listen = opt.listen,
                                  .healthz = opt.healthz[0] != '\0' ? opt.healthz : NULL,
                                  .api_qps = opt.api_qps,
                                  .client_ca_file = opt.client_ca,
                                  .node = {.name = a->name,
                                           .ip = a->ip,
                                           .labels = opt.labels,
                                           .taints = opt.taints,
                                           .max_pods = config->max_pods,
                                           .cpu_millis = config->cpu_millis,
                                           .memory_bytes = config->memory_bytes,
                                           .ephemeral_bytes = config->ephemeral_bytes}};
    return wh_cluster_start(a->loop, a->node, &cluster, &a->cluster, err);
}

static wh_node_config node_config;
static wh_network_options network_options;

/* The keeper has told what runs: now pods may come. */
static void begin_sources(void *user)
{
    agent *a = user;
    auto_free char *socket_path = wh_path_join(a->paths.run, "wherry.sock");
    wh_err err = {0};
    int rc = wh_local_api_start(a->loop, a->node, socket_path, &a->api, &err);

    if (rc == 0 && opt.manifests != NULL)
        rc = wh_source_dir_start(a->loop, a->node, opt.manifests, &a->dir, &err);
    if (rc == 0 && (opt.kubeconfig != NULL || opt.bootstrap != NULL))
        rc = join(a, &node_config, &err);
    if (rc < 0) {
        wh_log(ERROR, "the agent cannot begin", KV_ERR(&err));
        a->failed = 1;
        wh_loop_stop(a->loop, 1);
        return;
    }
    wh_log(INFO, "wherry is ready", KV_STR("node", a->name), KV_STR("socket", socket_path));
    notify("READY=1");
    watchdog(&a->watchdog);
}

static int add_cidr(wh_network_options *network, const char *cidr, wh_err *err)
{
    wh_egress_rule *rule = NULL; /* the same syntax */
    size_t n = 0;
    int rc = wh_egress_parse(cidr, &rule, &n, err);

    if (rc < 0 || n != 1 || rule->host != NULL || rule->port_first != 0) {
        rc = wh_fail(err, -EINVAL, "--pod-cidr takes a range like 10.88.0.0/16, not '%s'.", cidr);
    } else if (rule->net.sa.sa_family == AF_INET) {
        network->cidr4 = rule->net;
        network->prefix4 = rule->prefix;
    } else {
        network->cidr6 = rule->net;
        network->prefix6 = rule->prefix;
    }
    wh_egress_free(rule, n);
    return rc;
}

/* One range a family. Without one a range for container tools on one machine: networks of homes and offices rarely
 * lie there. */
static int fill_network(wh_network_options *network, wh_err *err)
{
    const char *mode = opt.network != NULL ? opt.network : geteuid() == 0 ? "shared" : "host";
    char usual[] = "10.88.0.0/16";
    char *const defaults[] = {usual, NULL};

    if (!wh_streq(mode, "shared") && !wh_streq(mode, "host"))
        return wh_fail(err, -EINVAL, "--network takes shared or host, not '%s'.", mode);
    network->mode = wh_streq(mode, "shared") ? WH_NETWORK_SHARED : WH_NETWORK_HOST;
    network->netd_uid = geteuid() == 0 ? 65534 : geteuid();
    network->cluster_cidrs = opt.cluster_cidrs;
    if (opt.pod_cidrs == NULL && (opt.kubeconfig != NULL || opt.bootstrap != NULL))
        return 0; /* the cluster gives them */
    for (char *const *cidr = opt.pod_cidrs != NULL ? opt.pod_cidrs : defaults; *cidr != NULL; cidr++) {
        int rc = add_cidr(network, *cidr, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* One agent per state folder. */
static int take_lock(const agent *a, wh_err *err)
{
    auto_free char *path = wh_path_join(a->paths.run, "agent.lock");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0)
        return wh_fail(err, -errno, "open '%s'", path);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        close(fd);
        return wh_fail(err, -EBUSY, "another agent holds '%s'; stop it, or use --run-dir and --root.", path);
    }
    return fd; /* held as long as we live */
}

static int setup(agent *a, wh_err *err)
{
    wh_log_level level;
    wh_addr addr;
    char text[WH_ADDR_TEXT_MAX];

    if (wh_log_level_parse(opt.log_level, &level) < 0)
        return wh_fail(err, -EINVAL, "--log-level takes error, warn, info or debug, not '%s'.",
                       opt.log_level);
    wh_log_setup("wherry", STDERR_FILENO, level,
                 wh_streq(opt.log_format, "json")   ? WH_LOG_JSON
                 : wh_streq(opt.log_format, "text") ? WH_LOG_TEXT
                                                    : WH_LOG_AUTO);
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){.rlim_cur = 1UL << 18, .rlim_max = 1UL << 18});
    int rc = wh_paths_init(&a->paths, wh_cmd_dirs_given.root, wh_cmd_dirs_given.run, opt.logs, err);
    rc = rc < 0 ? rc : take_lock(a, err);
    if (rc < 0)
        return rc;
    a->name = opt.name != NULL ? wh_xstrdup(opt.name) : host_name();
    if (opt.ip != NULL)
        a->ip = wh_xstrdup(opt.ip);
    else if (wh_addr_of_node(AF_INET, &addr, NULL) == 0)
        a->ip = wh_xstrdup(wh_addr_ip(&addr, text));
    else
        a->ip = wh_xstrdup("127.0.0.1");
    node_config = (wh_node_config){.name = a->name,
                                   .paths = &a->paths,
                                   .node_ip = a->ip,
                                   .cgroup_parent = opt.cgroup[0] != '\0' ? opt.cgroup : NULL,
                                   .max_pods = (size_t)opt.max_pods,
                                   .own_uids = geteuid() == 0,
                                   .auth_file = opt.auth_file,
                                   .registries = opt.registries,
                                   .network = &network_options,
                                   .cluster_dns = opt.cluster_dns,
                                   .cluster_domain = opt.cluster_domain,
                                   .log_bytes_max = opt.log_bytes,
                                   .log_files_max = (unsigned)opt.log_files};
    fill_capacity(&node_config, a->paths.state);
    return fill_network(&network_options, err);
}

static int node(int argc, char **argv)
{
    agent a = {0};
    wh_err err = {0};

    if (argc > 0)
        return wh_cmd_usage("node: takes no arguments, found '%s'", argv[0]);
    if (opt.manifests == NULL && opt.kubeconfig == NULL && opt.bootstrap == NULL)
        return wh_cmd_usage(
            "node: where do pods come from? Give --manifests, --kubeconfig or --bootstrap-kubeconfig");
    int rc = setup(&a, &err);
    rc = rc < 0 ? rc : wh_loop_new(&a.loop, &err);
    rc = rc < 0 ? rc : wh_loop_signal(a.loop, SIGTERM, stop, &a, &err);
    rc = rc < 0 ? rc : wh_loop_signal(a.loop, SIGINT, stop, &a, &err);
    rc = rc < 0 ? rc : wh_node_new(a.loop, &node_config, begin_sources, &a, &a.node, &err);
    if (rc < 0)
        return wh_cmd_fail(&err);
    a.watchdog.user = &a;
    signal(SIGPIPE, SIG_IGN);
    int code = wh_loop_run(a.loop);
    wh_timer_stop(&a.watchdog);
    wh_local_api_free(a.api);
    wh_cluster_free(a.cluster);
    wh_source_dir_free(a.dir);
    wh_node_free(a.node);
    wh_loop_free(a.loop);
    wh_paths_done(&a.paths);
    free(a.ip);
    free(a.name);
    return a.failed != 0 ? a.failed : code;
}

const wh_verb wh_cmd_node = {
    .name = "node",
    .args = "",
    .summary = "Be a node: run the pods of a cluster or of a folder of manifests",
    .detail =
        "The agent may be stopped, killed and upgraded at any time: pods run on, and the next agent takes them\n"
        "over. It needs root for pods with uids, namespaces and control groups of their own; a plain user's\n"
        "agent runs pods under that user's uid.",
    .options = node_options,
    .run = node,
};
