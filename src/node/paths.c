/* SPDX-License-Identifier: Apache-2.0 */
#include "node/paths.h"
#include "base/file.h"

#include <limits.h>
#include <stdio.h>

#ifndef WH_LIBEXECDIR
#define WH_LIBEXECDIR "/usr/local/libexec/wherry"
#endif

/* The folder of the running program; an installed one lies elsewhere than its helpers, a build tree has them
 * in rooms. */
static char *own_folder(void)
{
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

    if (n <= 0)
        return wh_xstrdup("/");
    path[n] = '\0';
    char *slash = strrchr(path, '/');
    return wh_xstrndup(path, slash > path ? (size_t)(slash - path) : 1);
}

static int find_program(const char *room, const char *variant, char **ret, wh_err *err)
{
    auto_free char *name = wh_xasprintf("wherry-%s%s", room, variant);
    auto_free char *folder = own_folder();
    const char *given = getenv("WHERRY_LIBEXEC");
    char *candidates[] = {
        given != NULL ? wh_path_join(given, name) : NULL,
        wh_path_join(folder, name),
        wh_xasprintf("%s/../%s/%s", folder, room, name),
        wh_path_join(WH_LIBEXECDIR, name),
    };
    int rc = -ENOENT;

    for (size_t i = 0; i < WH_ARRAY_LEN(candidates); i++) {
        if (rc < 0 && candidates[i] != NULL && access(candidates[i], X_OK) == 0) {
            *ret = WH_TAKE(candidates[i]);
            rc = 0;
        }
        free(candidates[i]);
    }
    return rc == 0 ? 0
                   : wh_fail(err, rc,
                             "find program '%s': not in '%s' nor in '" WH_LIBEXECDIR
                             "'; install it there or set WHERRY_LIBEXEC.",
                             name, folder);
}

static char *default_folder(const char *system, const char *variable, const char *below_home)
{
    const char *base = getenv(variable);
    const char *home = getenv("HOME");

    if (geteuid() == 0)
        return wh_xstrdup(system);
    if (base != NULL && base[0] == '/')
        return wh_path_join(base, "wherry");
    return wh_xasprintf("%s/%s/wherry", home != NULL ? home : "/tmp", below_home);
}

/* Makes the folder and its name absolute: sockets and other processes need it so. */
static int make_folder(char **path, mode_t mode, wh_err *err)
{
    int rc = wh_mkdir_p(*path, mode, err);

    if (rc < 0)
        return rc;
    char *full = realpath(*path, NULL);
    if (full == NULL)
        return wh_fail(err, -errno, "find folder '%s'", *path);
    free(*path);
    *path = full;
    return 0;
}

static int find_programs(wh_paths *p, wh_err *err)
{
    static const char *const variants[WH_RUNNERS] = {"", "-tls", "-component", "-component-tls"};
    int rc = find_program("keeper", "", &p->keeper, err);

    rc = rc < 0 ? rc : find_program("runner", "", &p->runner, err);
    rc = rc < 0 ? rc : find_program("prepare", "", &p->prepare, err);
    /* The others are asked for when a pod needs them. */
    for (size_t i = 0; rc == 0 && i < WH_RUNNERS; i++)
        (void)find_program("runner", variants[i], &p->runners[i], NULL);
    if (rc == 0)
        (void)find_program("netd", "", &p->netd, NULL);
    return rc;
}

int wh_paths_init(wh_paths *paths, const char *state, const char *run, const char *logs, wh_err *err)
{
    wh_paths p = {0};
    int rc;

    p.state = state != NULL ? wh_xstrdup(state)
                            : default_folder("/var/lib/wherry", "XDG_DATA_HOME", ".local/share");
    p.run = run != NULL ? wh_xstrdup(run) : default_folder("/run/wherry", "XDG_RUNTIME_DIR", ".local/run");
    rc = make_folder(&p.state, 0711, err);
    rc = rc < 0 ? rc : make_folder(&p.run, 0711, err);
    if (rc == 0)
        p.logs = logs != NULL                      ? wh_xstrdup(logs)
                 : geteuid() == 0 && state == NULL ? wh_xstrdup("/var/log/pods")
                                                   : wh_path_join(p.state, "logs");
    rc = rc < 0 ? rc : make_folder(&p.logs, 0755, err);
    if (rc == 0)
        p.images = wh_path_join(p.state, "images");
    rc = rc < 0 ? rc : find_programs(&p, err);
    if (rc < 0) {
        wh_paths_done(&p);
        return rc;
    }
    *paths = p;
    return 0;
}

void wh_paths_done(wh_paths *paths)
{
    free(paths->state);
    free(paths->images);
    free(paths->run);
    free(paths->logs);
    free(paths->keeper);
    free(paths->runner);
    free(paths->prepare);
    for (size_t i = 0; i < WH_RUNNERS; i++)
        free(paths->runners[i]);
    free(paths->netd);
    *paths = (wh_paths){0};
}
