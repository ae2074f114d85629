/* SPDX-License-Identifier: Apache-2.0 */
/* Hierarchies: which there are, and the files of one group in each. Documentation/admin-guide/cgroup-v1 and
 * cgroup-v2.rst; numbers as the kubelet's (KEP-2254 for cpu.weight). */
#include "keeper/cgroup_internal.h"

#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#define FILE_BYTES_MAX (1UL << 20)
#define DEPTH_MAX 8

static const char *const controllers[] = {"memory", "cpu", "cpuacct", "pids"};

/* ------------------------------------------------------------------ small files */

static int read_text(const char *dir, const char *file, char **ret)
{
    auto_free char *path = wh_path_join(dir, file);
    return wh_read_file(AT_FDCWD, path, FILE_BYTES_MAX, ret, NULL, NULL);
}

static int write_text(const char *dir, const char *file, const char *text)
{
    auto_free char *path = wh_path_join(dir, file);
    auto_close int fd = open(path, O_WRONLY | O_CLOEXEC | O_TRUNC);
    return fd < 0 ? -errno : wh_write_all(fd, text, strlen(text));
}

static int write_u64(const char *dir, const char *file, uint64_t value)
{
    char text[24];
    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    return write_text(dir, file, text);
}

/* One number, or 0 where there is no such file. */
static uint64_t read_u64(const char *dir, const char *file)
{
    auto_free char *text = NULL;
    return read_text(dir, file, &text) < 0 ? 0 : strtoull(text, NULL, 10);
}

/* The number behind `key ` at the beginning of a line. */
static uint64_t read_key(const char *dir, const char *file, const char *key)
{
    auto_free char *text = NULL;
    size_t n = strlen(key);
    if (read_text(dir, file, &text) < 0)
        return 0;
    for (const char *p = text; p != NULL && *p != '\0'; p = strchr(p, '\n'), p = p == NULL ? NULL : p + 1) {
        if (strncmp(p, key, n) == 0 && p[n] == ' ')
            return strtoull(p + n + 1, NULL, 10);
    }
    return 0;
}

/* ------------------------------------------------------------------ which hierarchies there are */

static unsigned bit_of(wh_str name)
{
    for (unsigned i = 0; i < WH_ARRAY_LEN(controllers); i++) {
        if (wh_str_eq(name, wh_str_of(controllers[i])))
            return 1U << i;
    }
    return 0;
}

static unsigned bits_of(wh_str list, char sep)
{
    unsigned bits = 0;
    wh_str name;
    while (wh_str_split(&list, sep, &name))
        bits |= bit_of(wh_str_trim(name));
    return bits;
}

/* Our own place in a hierarchy, from /proc/self/cgroup: "4:memory:/a/b", "0::/c". NULL when it has none. */
static char *own_path(const char *self, bool v2, unsigned bits)
{
    wh_str text = wh_str_of(self), line;
    while (wh_str_split(&text, '\n', &line)) {
        wh_str id, list;
        if (!wh_str_split(&line, ':', &id) || !wh_str_split(&line, ':', &list))
            continue;
        if (v2 ? wh_str_eq(id, WH_STR("0")) : (bits_of(list, ',') & bits) != 0)
            return wh_xstrndup(line.p, line.n);
    }
    return NULL;
}

/* One line of mountinfo: "36 35 0:30 /root /mount opts ... - type source superopts". */
typedef struct mount_line {
    wh_str root, point, type, super;
} mount_line;

static bool parse_mount(wh_str line, mount_line *ret)
{
    wh_str fields[6], word;
    for (size_t i = 0; i < WH_ARRAY_LEN(fields); i++) {
        if (!wh_str_split(&line, ' ', &fields[i]))
            return false;
    }
    while (wh_str_split(&line, ' ', &word)) {
        if (!wh_str_eq(word, WH_STR("-")))
            continue;
        ret->root = fields[3];
        ret->point = fields[4];
        return wh_str_split(&line, ' ', &ret->type) && wh_str_split(&line, ' ', &word) &&
               wh_str_split(&line, ' ', &ret->super);
    }
    return false;
}

static void add_hierarchy(wh_cgroups *c, const mount_line *m, const char *self)
{
    bool v2 = wh_str_eq(m->type, WH_STR("cgroup2"));
    unsigned bits = v2 ? 0 : bits_of(m->super, ',');
    auto_free char *point = wh_xasprintf("%s%.*s", c->root, WH_STR_ARG(m->point));
    auto_free char *available = NULL;
    if (v2 && read_text(point, "cgroup.controllers", &available) == 0)
        bits = bits_of(wh_str_trim(wh_str_of(available)), ' ');
    if (v2 && (bits & bit_of(WH_STR("cpu"))) != 0)
        bits |= bit_of(WH_STR("cpuacct")); /* cpu.stat */
    bits &= ~c->bits;
    if (bits == 0 || c->n >= WH_ARRAY_LEN(c->h))
        return;
    auto_free char *own = own_path(self, v2, bits);
    /* A mount may show a part of the hierarchy only: what it shows begins at its root. */
    const char *below = own == NULL ? "" : own;
    size_t root_n = m->root.n == 1 ? 0 : m->root.n;
    if (root_n > 0 && strncmp(below, m->root.p, root_n) == 0)
        below += root_n;
    if (c->parent[0] == '/')
        below = "";
    hierarchy *h = &c->h[c->n++];
    h->v2 = v2;
    h->bits = bits;
    auto_free char *own_dir = wh_xasprintf("%s%s", point, wh_streq(below, "/") ? "" : below);
    h->base = wh_path_join(own_dir, c->parent[0] == '/' ? c->parent + 1 : c->parent);
    h->own = WH_TAKE(own_dir);
    c->bits |= bits;
}

static void describe(wh_cgroups *c)
{
    wh_buf b;
    wh_buf_init(&b, 512);
    for (int v2 = 1; v2 >= 0; v2--) {
        bool first = true;
        for (unsigned i = 0; i < WH_ARRAY_LEN(controllers); i++) {
            for (size_t k = 0; k < c->n; k++) {
                if (c->h[k].v2 != (v2 == 1) || (c->h[k].bits & 1U << i) == 0)
                    continue;
                (void)wh_buf_printf(&b, "%s%s%s", b.len > 0 && first ? "; " : "",
                                    first ? v2 ? "v2: " : "v1: " : " ", controllers[i]);
                first = false;
            }
        }
    }
    for (unsigned i = 0; i < WH_ARRAY_LEN(controllers); i++) {
        if ((c->bits & 1U << i) == 0)
            (void)wh_buf_printf(&b, "%smissing: %s", b.len > 0 ? "; " : "", controllers[i]);
    }
    c->description = wh_buf_take(&b);
}

int wh_cgroups_open(const char *root, const char *parent, wh_cgroups **ret, wh_err *err)
{
    wh_cgroups *c = wh_xnew(wh_cgroups);
    c->root = wh_xstrdup(root == NULL ? "" : root);
    c->parent = wh_xstrdup(parent);
    auto_free char *mounts_path = wh_xasprintf("%s/proc/self/mountinfo", c->root);
    auto_free char *self_path = wh_xasprintf("%s/proc/self/cgroup", c->root);
    auto_free char *mounts = NULL, *self = NULL;
    int rc = wh_read_file(AT_FDCWD, mounts_path, FILE_BYTES_MAX, &mounts, NULL, err);
    if (rc == 0)
        rc = wh_read_file(AT_FDCWD, self_path, FILE_BYTES_MAX, &self, NULL, err);
    if (rc < 0) {
        wh_cgroups_free(c);
        return wh_wrap(err, "look for control groups");
    }
    for (int v2 = 1; v2 >= 0; v2--) {
        wh_str text = wh_str_of(mounts), line;
        mount_line m;
        while (wh_str_split(&text, '\n', &line)) {
            if (parse_mount(line, &m) && wh_str_eq(m.type, wh_str_of(v2 ? "cgroup2" : "cgroup")))
                add_hierarchy(c, &m, self);
        }
    }
    describe(c);
    *ret = c;
    return 0;
}

void wh_cgroups_free(wh_cgroups *c)
{
    if (c == NULL)
        return;
    for (size_t i = 0; i < c->n; i++) {
        free(c->h[i].base);
        free(c->h[i].own);
    }
    free(c->root);
    free(c->parent);
    free(c->description);
    free(c);
}

const char *wh_cgroups_describe(const wh_cgroups *c)
{
    return c->description;
}

bool wh_cgroups_has(const wh_cgroups *c, const char *controller)
{
    return (c->bits & bit_of(wh_str_of(controller))) != 0;
}

/* ------------------------------------------------------------------ limits */

static int set_memory_v1(const char *dir, uint64_t max)
{
    char text[24];
    (void)snprintf(text, sizeof(text), "%lld", max == 0 ? -1LL : (long long)max);
    /* Memory with swap is never below memory: which one goes first depends on where the limit comes from. */
    int rc = write_text(dir, "memory.limit_in_bytes", text);
    int with_swap = write_text(dir, "memory.memsw.limit_in_bytes", text);
    if (rc < 0)
        rc = write_text(dir, "memory.limit_in_bytes", text);
    return rc < 0 ? rc : with_swap == -ENOENT || with_swap == -EACCES ? 0 : with_swap;
}

static int set_memory_v2(const char *dir, uint64_t max)
{
    int rc = max == 0 ? write_text(dir, "memory.max", "max") : write_u64(dir, "memory.max", max);
    if (rc < 0)
        return rc;
    (void)write_text(dir, "memory.swap.max", max == 0 ? "max" : "0"); /* absent without swap accounting */
    (void)write_text(dir, "memory.oom.group", "1");
    return 0;
}

static int set_cpu(const hierarchy *h, const char *dir, const wh_cgroup_limits *l, bool fresh)
{
    char text[48];
    uint64_t shares =
        l->cpu_shares == 0 ? 1024 : WH_MIN(WH_MAX(l->cpu_shares, (uint64_t)2), (uint64_t)262144);
    if (h->v2) {
        int rc = write_u64(dir, "cpu.weight", 1 + (shares - 2) * 9999 / 262142);
        if (rc < 0 || (l->cpu_quota_us <= 0 && fresh))
            return rc;
        if (l->cpu_quota_us <= 0)
            return write_text(dir, "cpu.max", "max 100000");
        (void)snprintf(text, sizeof(text), "%lld 100000", (long long)l->cpu_quota_us);
        return write_text(dir, "cpu.max", text);
    }
    (void)snprintf(text, sizeof(text), "%lld", l->cpu_quota_us <= 0 ? -1LL : (long long)l->cpu_quota_us);
    int rc = write_u64(dir, "cpu.shares", shares);
    if (rc < 0 || (l->cpu_quota_us <= 0 && fresh))
        return rc;
    rc = write_text(dir, "cpu.cfs_quota_us", text);
    return rc == -ENOENT && l->cpu_quota_us <= 0 ? 0 : rc; /* a kernel without CFS bandwidth */
}

static int set_pids(const char *dir, uint64_t max)
{
    return max == 0 ? write_text(dir, "pids.max", "max") : write_u64(dir, "pids.max", max);
}

/* `fresh` groups are without limits already: what is not asked for is not written. complexity: three
 * controllers, each asked for or not. */
static int apply(const wh_cgroup *g, const wh_cgroup_limits *l, bool fresh, wh_err *err)
{
    for (size_t i = 0; i < g->cgroups->n; i++) {
        const hierarchy *h = &g->cgroups->h[i];
        const char *dir = g->dirs[i];
        int rc = 0;
        if ((h->bits & BIT_MEMORY) != 0 && (l->memory_max > 0 || !fresh))
            rc = h->v2 ? set_memory_v2(dir, l->memory_max) : set_memory_v1(dir, l->memory_max);
        if (rc == 0 && (h->bits & BIT_CPU) != 0 && (l->cpu_shares > 0 || l->cpu_quota_us > 0 || !fresh))
            rc = set_cpu(h, dir, l, fresh);
        if (rc == 0 && (h->bits & BIT_PIDS) != 0 && (l->pids_max > 0 || !fresh))
            rc = set_pids(dir, l->pids_max);
        if (rc < 0)
            return wh_fail(err, rc, "set the limits of '%s'", dir);
    }
    return 0;
}

int wh_cgroup_set(wh_cgroup *group, const wh_cgroup_limits *limits, wh_err *err)
{
    return apply(group, limits, false, err);
}

/* ------------------------------------------------------------------ groups */

static wh_cgroup *group_alloc(wh_cgroups *c, const char *path)
{
    wh_cgroup *g = wh_xnew(wh_cgroup);
    g->cgroups = c;
    for (size_t i = 0; i < c->n; i++) {
        g->dirs[i] = wh_path_join(c->h[i].base, path);
        /* A runner has one thread when it joins. The kernel moves one thread at once, and a whole process (v1 or v2)
         * only after a grace period: 4 to 30 ms. */
        g->procs[i] = wh_path_join(g->dirs[i], c->h[i].v2 ? "cgroup.procs" : "tasks");
    }
    return g;
}

static bool path_ok(const char *path)
{
    wh_str rest = wh_str_of(path), part;
    size_t depth = 0;
    if (path[0] == '/')
        return false;
    while (wh_str_split(&rest, '/', &part)) {
        if (part.n == 0 || part.n > 200 || part.p[0] == '.' || ++depth > DEPTH_MAX)
            return false;
    }
    return depth > 0;
}

/* A v2 group hands out controllers or holds processes, never both: what runs in ours moves to a leaf beside.
 * */
static int move_into_leaf(const char *dir)
{
    auto_free char *leaf = wh_path_join(dir, "agent"), *procs = NULL;
    if (mkdir(leaf, 0755) < 0 && errno != EEXIST)
        return -errno;
    int rc = read_text(dir, "cgroup.procs", &procs);
    wh_str text = wh_str_of(procs), line;
    while (rc == 0 && wh_str_split(&text, '\n', &line)) {
        auto_free char *pid = wh_xstrndup(line.p, line.n);
        if (line.n > 0)
            (void)write_text(leaf, "cgroup.procs", pid);
    }
    return rc;
}

static int enable_controllers(const hierarchy *h, const char *dir)
{
    wh_buf b;
    wh_buf_init(&b, 128);
    for (unsigned i = 0; i < WH_ARRAY_LEN(controllers); i++) {
        if ((h->bits & 1U << i) != 0 && i != CPUACCT)
            (void)wh_buf_printf(&b, "%s+%s", b.len > 0 ? " " : "", controllers[i]);
    }
    int rc = write_text(dir, "cgroup.subtree_control", wh_buf_str(&b));
    if (rc == -EBUSY && wh_streq(dir, h->own)) {
        rc = move_into_leaf(dir);
        if (rc == 0)
            rc = write_text(dir, "cgroup.subtree_control", wh_buf_str(&b));
    }
    wh_buf_done(&b);
    return rc;
}

/* Each level from the mount down to the group: on v2 controllers reach a group only when all above pass them
 * on. */
static int make_levels(const hierarchy *h, const char *dir, wh_err *err)
{
    auto_free char *path = wh_xstrdup(dir);
    if (!h->v2 || access(dir, F_OK) == 0) /* as a rule only the last level is missing */
        return mkdir(dir, 0755) == 0 || errno == EEXIST ? 0 : wh_mkdir_p(dir, 0755, err);
    for (char *p = path + strlen(h->own);; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char end = *p;
        *p = '\0';
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
            return wh_fail(err, -errno, "make control group '%s'", path);
        int rc = end == '\0' ? 0 : enable_controllers(h, path);
        if (rc < 0)
            return wh_fail(err, rc, "pass controllers on in '%s'", path);
        if (end == '\0')
            return 0;
        *p = end;
    }
}

int wh_cgroup_make(wh_cgroups *c, const char *path, const wh_cgroup_limits *limits, wh_cgroup **ret,
                   wh_err *err)
{
    if (!path_ok(path))
        return wh_fail(err, -EINVAL, "control group '%s': names without '.', up to %d levels.", path,
                       DEPTH_MAX);
    wh_cgroup *g = group_alloc(c, path);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < c->n; i++)
        rc = make_levels(&c->h[i], g->dirs[i], err);
    if (rc == 0)
        rc = apply(g, limits, true, err);
    if (rc < 0) {
        (void)wh_cgroup_remove(g, NULL);
        wh_cgroup_free(g);
        return rc;
    }
    *ret = g;
    return 0;
}

/* Controllers that a folder of the second hierarchy passes on: "memory pids" is set as "+memory +pids". */
static char *as_request(const char *names)
{
    wh_str left = wh_str_of(names), name;
    wh_buf b;
    wh_buf_init(&b, 256);
    while (wh_str_split(&left, ' ', &name))
        (void)wh_buf_printf(&b, "%s+%.*s", b.len > 0 ? " " : "", WH_STR_ARG(name));
    return wh_buf_take(&b);
}

static void add_setting(const char *dir, const char *file, wh_strv *settings)
{
    auto_free char *value = NULL, *request = NULL;
    if (read_text(dir, file, &value) < 0)
        return;
    value[strcspn(value, "\n")] = '\0';
    bool passes_on = strcmp(file, "cgroup.subtree_control") == 0;
    if (passes_on && value[0] != '\0')
        request = as_request(value);
    /* What is not limited needs no word; the first hierarchy says it with a number that no machine has. */
    if (value[0] == '\0' || wh_starts_with(value, "max") || strcmp(value, "-1") == 0 || strlen(value) > 250 ||
        strtoull(value, NULL, 10) > 1ULL << 60)
        return;
    wh_strv_push_take(settings, wh_xasprintf("%s/%s\n%s", dir, file, passes_on ? request : value));
}

void wh_cgroup_recipe(const wh_cgroup *group, wh_strv *dirs, wh_strv *settings)
{
    static const char *const first[] = {"memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "cpu.shares",
                                        "cpu.cfs_quota_us", "pids.max"};
    static const char *const second[] = {"cgroup.subtree_control",
                                         "memory.max",
                                         "memory.swap.max",
                                         "memory.oom.group",
                                         "cpu.weight",
                                         "cpu.max",
                                         "pids.max"};
    for (size_t i = 0; i < group->cgroups->n; i++) {
        bool v2 = group->cgroups->h[i].v2;
        wh_strv_push(dirs, group->dirs[i]);
        for (size_t k = 0; k < (v2 ? WH_ARRAY_LEN(second) : WH_ARRAY_LEN(first)); k++)
            add_setting(group->dirs[i], v2 ? second[k] : first[k], settings);
    }
}

char *const *wh_cgroup_procs(const wh_cgroup *group)
{
    return group->procs;
}

int wh_cgroup_usage_get(const wh_cgroup *group, wh_cgroup_usage *ret, wh_err *err)
{
    wh_cgroup_usage u = {0};
    for (size_t i = 0; i < group->cgroups->n; i++) {
        const hierarchy *h = &group->cgroups->h[i];
        const char *dir = group->dirs[i];
        struct stat st;
        if (stat(dir, &st) < 0)
            return wh_fail(err, -errno, "control group '%s'", dir);
        if ((h->bits & BIT_CPUACCT) != 0)
            u.cpu_ns =
                h->v2 ? read_key(dir, "cpu.stat", "usage_usec") * 1000 : read_u64(dir, "cpuacct.usage");
        if ((h->bits & BIT_PIDS) != 0)
            u.pids = read_u64(dir, "pids.current");
        if ((h->bits & BIT_MEMORY) == 0)
            continue;
        u.memory_bytes = read_u64(dir, h->v2 ? "memory.current" : "memory.usage_in_bytes");
        u.kernel_bytes =
            h->v2 ? read_key(dir, "memory.stat", "kernel") : read_u64(dir, "memory.kmem.usage_in_bytes");
        u.oom_kills = read_key(dir, h->v2 ? "memory.events" : "memory.oom_control", "oom_kill");
        uint64_t inactive = read_key(dir, "memory.stat", h->v2 ? "inactive_file" : "total_inactive_file");
        u.working_set_bytes = u.memory_bytes > inactive ? u.memory_bytes - inactive : 0;
    }
    *ret = u;
    return 0;
}

/* Every process of the group and of those below it. */
static size_t kill_tree(const char *dir, int depth)
{
    auto_free char *procs = NULL;
    size_t n = 0;
    if (read_text(dir, "cgroup.procs", &procs) == 0) {
        for (char *p = procs, *end; *p != '\0'; p = end + 1) {
            long pid = strtol(p, &end, 10);
            if (end == p || *end != '\n')
                break;
            n += pid > 1 && kill((pid_t)pid, SIGKILL) == 0;
        }
    }
    DIR *d = depth > 0 ? opendir(dir) : NULL;
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        auto_free char *sub = wh_path_join(dir, e->d_name);
        if (e->d_name[0] != '.' && e->d_type == DT_DIR)
            n += kill_tree(sub, depth - 1);
    }
    if (d != NULL)
        closedir(d);
    return n;
}

int wh_cgroup_kill(wh_cgroup *group, WH_UNUSED wh_err *err)
{
    for (size_t i = 0; i < group->cgroups->n; i++) {
        if (!group->cgroups->h[i].v2)
            continue;
        (void)write_text(group->dirs[i], "cgroup.freeze", "0"); /* a frozen one would stay so */
        if (write_text(group->dirs[i], "cgroup.kill", "1") == 0)
            return 0;
    }
    /* A process may fork while we read: again until nobody is left, but not for ever. */
    for (int round = 0; round < 8 && group->cgroups->n > 0 && kill_tree(group->dirs[0], DEPTH_MAX) > 0;
         round++)
        ;
    return 0;
}

int wh_cgroup_remove(wh_cgroup *group, wh_err *err)
{
    int rc = 0;
    for (size_t i = 0; i < group->cgroups->n; i++) {
        if (rmdir(group->dirs[i]) < 0 && errno != ENOENT)
            rc = wh_fail(err, -errno, "remove control group '%s'", group->dirs[i]);
    }
    return rc;
}

void wh_cgroup_free(wh_cgroup *group)
{
    if (group == NULL)
        return;
    for (size_t i = 0; i < WH_ARRAY_LEN(group->dirs); i++) {
        free(group->dirs[i]);
        free(group->procs[i]);
    }
    free(group);
}

int wh_cgroups_children(wh_cgroups *c, const char *path, wh_strv *ret, wh_err *err)
{
    auto_strv wh_strv names = NULL;
    for (size_t i = 0; i < c->n; i++) {
        auto_free char *dir = wh_path_join(c->h[i].base, path);
        DIR *d = opendir(dir);
        if (d == NULL && errno != ENOENT)
            return wh_fail(err, -errno, "list control group '%s'", dir);
        for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
            if (e->d_name[0] != '.' && e->d_type == DT_DIR && !wh_strv_has(names, e->d_name))
                wh_strv_push(&names, e->d_name);
        }
        if (d != NULL)
            closedir(d);
    }
    *ret = WH_TAKE(names);
    return 0;
}
