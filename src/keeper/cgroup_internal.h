/* SPDX-License-Identifier: Apache-2.0 */
/* Inside src/keeper/cgroup.c. */
#pragma once

#include "base/buf.h"
#include "keeper/cgroup.h"

enum { MEMORY, CPU, CPUACCT, PIDS };
#define BIT_MEMORY (1U << MEMORY)
#define BIT_CPU (1U << CPU)
#define BIT_CPUACCT (1U << CPUACCT)
#define BIT_PIDS (1U << PIDS)
#define HIERARCHIES_MAX 5

typedef struct hierarchy {
    bool v2;
    unsigned bits; /* controllers that we use here, and nowhere else */
    char *own;     /* our own group, or the mount for an absolute parent */
    char *base;    /* own/parent: all that is ours */
} hierarchy;

struct wh_cgroups {
    char *root, *parent, *description;
    unsigned bits;
    hierarchy h[HIERARCHIES_MAX];
    size_t n;
};

struct wh_cgroup {
    wh_cgroups *cgroups;
    char *dirs[HIERARCHIES_MAX];
    char *procs[HIERARCHIES_MAX + 1]; /* ended by NULL */
};
