/* SPDX-License-Identifier: Apache-2.0 */
#include "guest.h"
#include "base/file.h"

#include <fcntl.h>
#include <stdio.h>

guest *guest_new(const wh_wasi_config *config)
{
    static const wh_wasi_config empty = {.stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .trace_fd = -1};
    wh_err err = {0};
    guest *g = wh_xnew(guest);

    g->module = MODULE;
    g->mem = calloc(1, PAGE);
    CHECK(g->mem != NULL);
    snprintf(g->dir, sizeof(g->dir), "/tmp/wh-wasi-XXXXXX");
    CHECK(mkdtemp(g->dir) != NULL);
    g->dir_fd = open(g->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    CHECK_OK(wh_wasi_new(config != NULL ? config : &empty, &g->wasi, &err), &err);
    CHECK_OK(wh_wasi_preopen_dir(g->wasi, dup(g->dir_fd), "/", false, &err), &err);
    return g;
}

void guest_free(guest *g)
{
    wh_err err = {0};

    wh_wasi_force_path_fallback(false);
    wh_wasi_free(g->wasi);
    close(g->dir_fd);
    CHECK_OK(wh_rm_rf(AT_FDCWD, g->dir, &err), &err);
    free(g->mem);
    free(g);
}

int guest_call(guest *g, const char *name, const int64_t *args)
{
    wh_slot io[16] = {{0}};
    size_t n, params = 0;
    const wh_import *imports = wh_wasi_imports(&n);

    for (size_t i = 0; i < n; i++) {
        const wh_import *import = &imports[i];
        if (!wh_streq(import->module, g->module) || !wh_streq(import->name, name))
            continue;
        for (const char *sig = import->sig + 1; *sig != ')'; sig++, params++) {
            if (*sig == 'i')
                io[params].i32 = (int32_t)args[params + 1];
            else
                io[params].i64 = args[params + 1];
        }
        g->frame = (wh_frame){.mem = g->mem, .mem_bytes = PAGE, .user = g->wasi};
        switch (import->fn(&g->frame, io, import->env)) {
        case WH_HOST_EXIT:
            return EXITED;
        case WH_HOST_TRAP:
            CHECK(g->frame.msg != NULL);
            return TRAPPED;
        case WH_HOST_OK:
        default:
            CHECK(io[0].i32 >= 0 && io[0].i32 <= ENOTCAPABLE_);
            return io[0].i32;
        }
    }
    CHECK_STR("no such import", name);
    return TRAPPED;
}

uint32_t guest_put(guest *g, uint32_t at, const char *s)
{
    uint32_t n = (uint32_t)strlen(s);
    CHECK(at + n <= PAGE);
    memcpy(g->mem + at, s, n);
    return n;
}

uint32_t guest_u32(const guest *g, uint32_t at)
{
    uint32_t v;
    memcpy(&v, g->mem + at, sizeof(v));
    return v;
}

uint64_t guest_u64(const guest *g, uint32_t at)
{
    uint64_t v;
    memcpy(&v, g->mem + at, sizeof(v));
    return v;
}

void guest_set32(guest *g, uint32_t at, uint32_t value)
{
    memcpy(g->mem + at, &value, sizeof(value));
}

void guest_set64(guest *g, uint32_t at, uint64_t value)
{
    memcpy(g->mem + at, &value, sizeof(value));
}

int open_at(guest *g, int dirflags, const char *path, int oflags, int64_t rights, int fdflags, int *ret_fd)
{
    uint32_t n = guest_put(g, PATH_AT, path);
    int rc = CALL(g, "path_open", DIR_FD, dirflags, PATH_AT, n, oflags, rights, 0, fdflags, RET_AT);
    if (rc == OK && ret_fd != NULL)
        *ret_fd = (int)guest_u32(g, RET_AT);
    return rc;
}

int path_call(guest *g, const char *name, const char *path)
{
    uint32_t n = guest_put(g, PATH_AT, path);
    return CALL(g, name, DIR_FD, PATH_AT, n);
}

int write_fd(guest *g, int fd, const char *s)
{
    uint32_t n = guest_put(g, BUF_AT, s);
    guest_set32(g, IOV_AT, BUF_AT);
    guest_set32(g, IOV_AT + 4, n);
    int rc = CALL(g, "fd_write", fd, IOV_AT, 1, RET_AT);
    if (rc == OK)
        CHECK_INT(guest_u32(g, RET_AT), ==, n);
    return rc;
}

int read_fd(guest *g, int fd, uint32_t n, char *out, uint32_t *ret_n)
{
    guest_set32(g, IOV_AT, BUF_AT);
    guest_set32(g, IOV_AT + 4, n);
    int rc = CALL(g, "fd_read", fd, IOV_AT, 1, RET_AT);
    if (rc == OK) {
        *ret_n = guest_u32(g, RET_AT);
        CHECK(*ret_n <= n);
        memcpy(out, g->mem + BUF_AT, *ret_n);
        out[*ret_n] = '\0';
    }
    return rc;
}

void host_write(const guest *g, const char *path, const char *text)
{
    int fd = openat(g->dir_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    CHECK(fd >= 0);
    CHECK_INT(wh_write_all(fd, text, strlen(text)), ==, 0);
    close(fd);
}

char *host_read(const guest *g, const char *path)
{
    char *data = NULL;
    return wh_read_file(g->dir_fd, path, 1 << 20, &data, NULL, NULL) < 0 ? NULL : data;
}

void host_mkdir(const guest *g, const char *path)
{
    CHECK_INT(mkdirat(g->dir_fd, path, 0755), ==, 0);
}

void host_link(const guest *g, const char *target, const char *path)
{
    CHECK_INT(symlinkat(target, g->dir_fd, path), ==, 0);
}

bool host_exists(const guest *g, const char *path)
{
    struct stat st;
    return fstatat(g->dir_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}
