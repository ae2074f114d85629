/* SPDX-License-Identifier: Apache-2.0 */
/* Both hierarchies on a tree of plain files, and whatever this machine has for real. */
#include "harness.h"

#include "base/file.h"
#include "keeper/cgroup.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>

static char root[64];

static void put(const char *path, const char *text)
{
    auto_free char *full = wh_path_join(root, path), *dir = wh_xstrdup(full);
    *strrchr(dir, '/') = '\0';
    CHECK_OK(wh_mkdir_p(dir, 0755, NULL), NULL);
    CHECK_OK(wh_write_file(AT_FDCWD, full, text, strlen(text), 0644, NULL), NULL);
}

static void check_file(const char *path, const char *expected)
{
    auto_free char *full = wh_path_join(root, path), *text = NULL;
    CHECK_OK(wh_read_file(AT_FDCWD, full, 4096, &text, NULL, NULL), NULL);
    CHECK_STR(text, expected);
}

static void fake_root(const char *mounts, const char *self)
{
    (void)snprintf(root, sizeof(root), "/tmp/wherry-test-cgroup-XXXXXX");
    CHECK(mkdtemp(root) != NULL);
    put("proc/self/mountinfo", mounts);
    put("proc/self/cgroup", self);
}

/* The kernel makes these with the folder. */
static void fake_group(const char *dir, const char *const *files)
{
    for (; *files != NULL; files++) {
        auto_free char *path = wh_path_join(dir, *files);
        put(path, "");
    }
}

static const char *const v1_memory[] = {"memory.limit_in_bytes", "memory.memsw.limit_in_bytes",
                                        "cgroup.procs", NULL};
static const char *const v1_cpu[] = {"cpu.shares", "cpu.cfs_quota_us", "cgroup.procs", NULL};
static const char *const v1_pids[] = {"pids.max", "cgroup.procs", NULL};
static const char *const v2_files[] = {
    "memory.max", "memory.swap.max", "memory.oom.group", "cpu.weight",    "cpu.max",
    "pids.max",   "cgroup.procs",    "cgroup.kill",      "cgroup.freeze", NULL};

#define V1_MOUNTS                                                            \
    "30 24 0:25 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"               \
    "31 24 0:26 / /cg/memory rw,nosuid shared:7 - cgroup cgroup rw,memory\n" \
    "32 24 0:27 / /cg/pids rw - cgroup cgroup rw,pids\n"
#define V1_SELF "4:memory:/own\n3:pids:/\n2:cpu,cpuacct:/\n0::/\n"

TEST(v1_hierarchies_are_chosen_per_controller)
{
    wh_err err = {0};
    wh_cgroups *c;
    wh_cgroup *g;
    const wh_cgroup_limits limits = {
        .memory_max = 1 << 26, .cpu_shares = 512, .cpu_quota_us = 50000, .pids_max = 64};
    fake_root(V1_MOUNTS "33 24 0:28 / /cg/unified rw - cgroup2 cgroup2 rw\n", V1_SELF);
    put("cg/unified/cgroup.controllers", "\n");
    fake_group("cg/memory/own/wherry/pod1", v1_memory);
    fake_group("cg/cpu/wherry/pod1", v1_cpu);
    fake_group("cg/pids/wherry/pod1", v1_pids);
    CHECK_OK(wh_cgroups_open(root, "wherry", &c, &err), &err);
    CHECK_STR(wh_cgroups_describe(c), "v1: memory cpu cpuacct pids");
    CHECK(wh_cgroups_has(c, "memory"));
    CHECK(!wh_cgroups_has(c, "hugetlb"));
    CHECK_OK(wh_cgroup_make(c, "pod1", &limits, &g, &err), &err);
    check_file("cg/memory/own/wherry/pod1/memory.limit_in_bytes", "67108864");
    check_file("cg/memory/own/wherry/pod1/memory.memsw.limit_in_bytes", "67108864");
    check_file("cg/cpu/wherry/pod1/cpu.shares", "512");
    check_file("cg/cpu/wherry/pod1/cpu.cfs_quota_us", "50000");
    check_file("cg/pids/wherry/pod1/pids.max", "64");
    CHECK_INT(wh_strv_len(wh_cgroup_procs(g)), ==, 3);
    CHECK_OK(wh_cgroup_set(g, &(wh_cgroup_limits){.cpu_shares = 100}, &err), &err);
    check_file("cg/memory/own/wherry/pod1/memory.limit_in_bytes", "-1");
    check_file("cg/cpu/wherry/pod1/cpu.cfs_quota_us", "-1");
    check_file("cg/pids/wherry/pod1/pids.max", "max");
    wh_cgroup_free(g);
    wh_cgroups_free(c);
    CHECK_OK(wh_rm_rf(AT_FDCWD, root, NULL), NULL);
}

TEST(v2_passes_controllers_down_and_numbers_are_the_kubelets)
{
    wh_err err = {0};
    wh_cgroups *c;
    wh_cgroup *g;
    const wh_cgroup_limits limits = {
        .memory_max = 1 << 26, .cpu_shares = 1024, .cpu_quota_us = 20000, .pids_max = 9};
    fake_root("33 24 0:28 / /cg rw - cgroup2 cgroup2 rw\n", "0::/system.slice/wherry.service\n");
    put("cg/cgroup.controllers", "cpuset cpu io memory hugetlb pids\n");
    put("cg/cgroup.subtree_control", "");
    put("cg/kubepods/cgroup.subtree_control", "");
    CHECK_OK(wh_mkdir_p(root, 0755, NULL), NULL);
    CHECK_OK(wh_cgroups_open(root, "/kubepods", &c, &err), &err);
    CHECK_STR(wh_cgroups_describe(c), "v2: memory cpu cpuacct pids");
    put("cg/kubepods/pod1/cgroup.subtree_control", "");
    fake_group("cg/kubepods/pod1/c", v2_files);
    CHECK_OK(wh_cgroup_make(c, "pod1/c", &limits, &g, &err), &err);
    check_file("cg/kubepods/pod1/c/memory.max", "67108864");
    check_file("cg/kubepods/pod1/c/memory.swap.max", "0");
    check_file("cg/kubepods/pod1/c/memory.oom.group", "1");
    check_file("cg/kubepods/pod1/c/cpu.weight", "39");
    check_file("cg/kubepods/pod1/c/cpu.max", "20000 100000");
    check_file("cg/kubepods/pod1/c/pids.max", "9");
    put("cg/kubepods/pod1/c/memory.current", "5000\n");
    put("cg/kubepods/pod1/c/memory.stat", "anon 1\nkernel 77\ninactive_file 1000\n");
    put("cg/kubepods/pod1/c/memory.events", "low 0\nhigh 0\nmax 4\noom 2\noom_kill 1\n");
    put("cg/kubepods/pod1/c/cpu.stat", "usage_usec 12\nuser_usec 10\n");
    put("cg/kubepods/pod1/c/pids.current", "3\n");
    wh_cgroup_usage u;
    CHECK_OK(wh_cgroup_usage_get(g, &u, &err), &err);
    CHECK_INT(u.memory_bytes, ==, 5000);
    CHECK_INT(u.working_set_bytes, ==, 4000);
    CHECK_INT(u.kernel_bytes, ==, 77);
    CHECK_INT(u.oom_kills, ==, 1);
    CHECK_INT(u.cpu_ns, ==, 12000);
    CHECK_INT(u.pids, ==, 3);
    CHECK_OK(wh_cgroup_kill(g, &err), &err);
    check_file("cg/kubepods/pod1/c/cgroup.kill", "1");
    auto_strv wh_strv names = NULL;
    CHECK_OK(wh_cgroups_children(c, "pod1", &names, &err), &err);
    CHECK_INT(wh_strv_len(names), ==, 1);
    CHECK_STR(names[0], "c");
    wh_cgroup_free(g);
    wh_cgroups_free(c);
    CHECK_OK(wh_rm_rf(AT_FDCWD, root, NULL), NULL);
}

TEST(v2_levels_that_do_not_exist_are_made)
{
    wh_err err = {0};
    wh_cgroups *c;
    wh_cgroup *g;
    fake_root("33 24 0:28 / /cg rw - cgroup2 cgroup2 rw\n", "0::/me\n");
    put("cg/cgroup.controllers", "memory\n");
    put("cg/me/cgroup.subtree_control", "");
    CHECK_OK(wh_cgroups_open(root, "wherry", &c, &err), &err);
    CHECK_STR(wh_cgroups_describe(c), "v2: memory; missing: cpu; missing: cpuacct; missing: pids");
    put("cg/me/wherry/cgroup.subtree_control", "");
    CHECK_OK(wh_cgroup_make(c, "a", &(wh_cgroup_limits){0}, &g, &err), &err);
    check_file("cg/me/cgroup.subtree_control", "+memory");
    check_file("cg/me/wherry/cgroup.subtree_control", "+memory");
    auto_free char *made = wh_path_join(root, "cg/me/wherry/a");
    CHECK(access(made, F_OK) == 0);
    CHECK_OK(wh_cgroup_remove(g, &err), &err);
    CHECK(access(made, F_OK) < 0);
    wh_cgroup_free(g);
    wh_cgroups_free(c);
    CHECK_OK(wh_rm_rf(AT_FDCWD, root, NULL), NULL);
}

TEST(a_machine_without_groups_says_so)
{
    wh_err err = {0};
    wh_cgroups *c;
    wh_cgroup *g;
    wh_cgroup_usage u;
    fake_root("1 1 0:1 / / rw - ext4 /dev/vda rw\nnonsense\n", "0::/\n");
    CHECK_OK(wh_cgroups_open(root, "wherry", &c, &err), &err);
    CHECK_STR(wh_cgroups_describe(c), "missing: memory; missing: cpu; missing: cpuacct; missing: pids");
    CHECK_OK(wh_cgroup_make(c, "pod", &(wh_cgroup_limits){.memory_max = 1}, &g, &err), &err);
    CHECK(wh_cgroup_procs(g)[0] == NULL);
    CHECK_OK(wh_cgroup_usage_get(g, &u, &err), &err);
    CHECK_OK(wh_cgroup_kill(g, &err), &err);
    CHECK_OK(wh_cgroup_remove(g, &err), &err);
    wh_cgroup_free(g);
    CHECK_FAIL(wh_cgroup_make(c, "../x", &(wh_cgroup_limits){0}, &g, NULL), -EINVAL);
    CHECK_FAIL(wh_cgroup_make(c, "/x", &(wh_cgroup_limits){0}, &g, NULL), -EINVAL);
    CHECK_FAIL(wh_cgroup_make(c, "a//b", &(wh_cgroup_limits){0}, &g, NULL), -EINVAL);
    CHECK_FAIL(wh_cgroup_make(c, "a/b/c/d/e/f/g/h/i", &(wh_cgroup_limits){0}, &g, NULL), -EINVAL);
    wh_cgroups_free(c);
    CHECK_OK(wh_rm_rf(AT_FDCWD, root, NULL), NULL);
}

/* ------------------------------------------------------------------ for real */

static wh_cgroups *real_groups(char parent[32])
{
    wh_err err = {0};
    wh_cgroups *c;
    (void)snprintf(parent, 32, "wherry-test-%d", (int)getpid());
    if (getuid() != 0)
        SKIP("needs root to make control groups");
    CHECK_OK(wh_cgroups_open(NULL, parent, &c, &err), &err);
    if (!wh_cgroups_has(c, "memory") || !wh_cgroups_has(c, "pids"))
        SKIP("this machine has no memory or no pids controller");
    return c;
}

/* The groups and their parents. */
static void remove_all(wh_cgroups *c, wh_cgroup *g)
{
    for (int i = 0; i < 200 && wh_cgroup_remove(g, NULL) == -EBUSY; i++)
        usleep(20000);
    for (char *const *p = wh_cgroup_procs(g); *p != NULL; p++) {
        auto_free char *dir = wh_xstrdup(*p);
        *strrchr(dir, '/') = '\0';
        CHECK(access(dir, F_OK) < 0);
        *strrchr(dir, '/') = '\0';
        CHECK(rmdir(dir) == 0);
    }
    wh_cgroup_free(g);
    wh_cgroups_free(c);
}

static void join(const wh_cgroup *g)
{
    for (char *const *p = wh_cgroup_procs(g); *p != NULL; p++) {
        int fd = open(*p, O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, "0", 1) != 1)
            _exit(9);
        close(fd);
    }
}

TEST_TIMEOUT(a_process_past_its_memory_is_killed_and_counted, 60)
{
    char parent[32];
    wh_err err = {0};
    wh_cgroup *g;
    wh_cgroup_usage u;
    int status;
    wh_cgroups *c = real_groups(parent);
    CHECK_OK(wh_cgroup_make(c, "oom", &(wh_cgroup_limits){.memory_max = 32 << 20, .pids_max = 10}, &g, &err),
             &err);
    pid_t pid = fork();
    if (pid == 0) {
        join(g);
        char *p = mmap(NULL, 128 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (size_t i = 0; p != MAP_FAILED && i < 128 << 20; i += 4096)
            p[i] = 1;
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFSIGNALED(status));
    CHECK_INT(WTERMSIG(status), ==, SIGKILL);
    CHECK_OK(wh_cgroup_usage_get(g, &u, &err), &err);
    CHECK_INT(u.oom_kills, ==, 1);
    CHECK_INT(u.pids, ==, 0);
    CHECK_OK(wh_cgroup_set(g, &(wh_cgroup_limits){.memory_max = 64 << 20}, &err), &err);
    CHECK_OK(wh_cgroup_set(g, &(wh_cgroup_limits){.memory_max = 16 << 20}, &err), &err);
    remove_all(c, g);
}

TEST(a_group_is_counted_killed_and_removed)
{
    char parent[32];
    wh_err err = {0};
    wh_cgroup *g;
    wh_cgroup_usage u;
    int status, failed[2];
    wh_cgroups *c = real_groups(parent);
    CHECK_OK(wh_cgroup_make(c, "kill", &(wh_cgroup_limits){.pids_max = 4, .cpu_shares = 512}, &g, &err),
             &err);
    CHECK(pipe(failed) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        join(g);
        char made = 0;
        for (pid_t child = 1; child > 0 && made < 10; made++) {
            child = fork();
            if (child == 0)
                for (;;)
                    pause();
            if (child < 0)
                break;
        }
        (void)!write(failed[1], &made, 1);
        for (;;)
            pause();
    }
    char made = 0;
    CHECK(read(failed[0], &made, 1) == 1);
    CHECK_INT(made, ==, 3);
    CHECK_OK(wh_cgroup_usage_get(g, &u, &err), &err);
    CHECK_INT(u.pids, ==, 4);
    CHECK_INT(u.memory_bytes, >, 0);
    CHECK_INT(u.cpu_ns, >, 0);
    CHECK_FAIL(wh_cgroup_remove(g, NULL), -EBUSY);
    CHECK_OK(wh_cgroup_kill(g, &err), &err);
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFSIGNALED(status));
    remove_all(c, g);
}

TEST(a_recipe_makes_a_group_again)
{
    char parent[64];
    wh_err err = {0};
    wh_cgroup *g, *same;
    auto_strv wh_strv dirs = NULL, settings = NULL, again = NULL;
    wh_cgroups *c = real_groups(parent);
    const wh_cgroup_limits limits = {.pids_max = 7, .cpu_shares = 512};
    CHECK_OK(wh_cgroup_make(c, "again", &limits, &g, &err), &err);
    wh_cgroup_recipe(g, &dirs, &settings);
    CHECK_OK(wh_cgroup_remove(g, &err), &err);
    for (size_t i = 0; i < wh_strv_len(dirs); i++)
        CHECK(mkdir(dirs[i], 0755) == 0);
    for (size_t i = 0; i < wh_strv_len(settings); i++) {
        auto_free char *path = wh_xstrdup(settings[i]);
        char *value = strchr(path, '\n');
        CHECK(value != NULL);
        *value++ = '\0';
        auto_close int fd = open(path, O_WRONLY | O_CLOEXEC);
        CHECK(write(fd, value, strlen(value)) == (ssize_t)strlen(value));
    }
    CHECK_OK(wh_cgroup_make(c, "again", &(wh_cgroup_limits){0}, &same, &err), &err);
    wh_strv_free(WH_TAKE(dirs));
    wh_cgroup_recipe(same, &dirs, &again);
    CHECK_INT(wh_strv_len(again), ==, wh_strv_len(settings));
    for (size_t i = 0; i < wh_strv_len(again); i++)
        CHECK_STR(again[i], settings[i]);
    wh_cgroup_free(g);
    remove_all(c, same);
}
