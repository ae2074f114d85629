/* SPDX-License-Identifier: Apache-2.0 */
/* What can be said of a module without an engine. */
#include "base/limits.h"
#include "base/record.h"
#include "prepare/job.h"
#include "prepare/prepare.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

void wh_job_verdict(wh_buf *result, const char *verdict, const char *message)
{
    wh_record_put_str(result, "verdict", verdict);
    wh_record_put_str(result, "message", message);
}

const void *wh_job_map_input(int fd, size_t *ret_n, wh_buf *result)
{
    struct stat st;
    char text[128];
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        wh_job_verdict(result, WH_VERDICT_INTERNAL, "the input is not a file.");
        return NULL;
    }
    if (st.st_size == 0) {
        wh_job_verdict(result, WH_VERDICT_NOT_WASM, "not Wasm but an empty file.");
        return NULL;
    }
    if ((uint64_t)st.st_size > WH_WASM_BYTES_MAX) {
        (void)snprintf(text, sizeof(text), "too large: %lld bytes; %lu are allowed.", (long long)st.st_size,
                       WH_WASM_BYTES_MAX);
        wh_job_verdict(result, WH_VERDICT_TOO_LARGE, text);
        return NULL;
    }
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) {
        wh_job_verdict(result, WH_VERDICT_INTERNAL, "the input cannot be mapped.");
        return NULL;
    }
    *ret_n = (size_t)st.st_size;
    return p;
}

static const char *verdict_of(int rc, const void *wasm, size_t n)
{
    const uint8_t *p = wasm;
    bool magic = n >= 4 && memcmp(p, "\0asm", 4) == 0;
    if (rc == -ENODATA)
        return WH_VERDICT_TRUNCATED;
    if (rc == -ENOTSUP)
        return WH_VERDICT_NOT_WASM;
    return magic ? WH_VERDICT_INVALID : WH_VERDICT_NOT_WASM;
}

static void put_names(wh_buf *result, const char *key, const wh_wasm_name *names, size_t n)
{
    char text[512];
    for (size_t i = 0; i < WH_MIN(n, (size_t)WH_PREPARE_NAMES_MAX); i++) {
        if (names[i].module.n + names[i].name.n > sizeof(text) - 8)
            continue;
        int len = snprintf(text, sizeof(text), "%c %.*s%s%.*s", names[i].kind, WH_STR_ARG(names[i].module),
                           names[i].module.p == NULL ? "" : ".", WH_STR_ARG(names[i].name));
        wh_record_put(result, key, text, (size_t)WH_MAX(len, 0));
    }
}

bool wh_job_outline(const void *wasm, size_t n, wh_wasm_outline *ret, wh_buf *result)
{
    wh_err err = {0};
    int rc = wh_wasm_outline_parse(wasm, n, ret, &err);
    if (rc < 0) {
        wh_job_verdict(result, verdict_of(rc, wasm, n), err.msg);
        return false;
    }
    wh_record_put_str(result, "kind",
                      ret->is_command   ? WH_KIND_COMMAND
                      : ret->is_reactor ? WH_KIND_REACTOR
                                        : WH_KIND_MODULE);
    wh_record_put_i64(result, "command", ret->is_command);
    wh_record_put_i64(result, "reactor", ret->is_reactor);
    return true;
}

bool wh_job_component(const void *wasm, size_t n, wh_component_outline *ret, wh_buf *result)
{
    wh_err err = {0};
    int rc = wh_component_outline_parse(wasm, n, ret, &err);
    if (rc < 0) {
        wh_job_verdict(result, verdict_of(rc, wasm, n), err.msg);
        return false;
    }
    if (ret->kind != NULL)
        wh_record_put_str(result, "kind", ret->kind);
    if (ret->egress)
        wh_record_put_i64(result, "egress", 1);
    if (ret->sockets)
        wh_record_put_i64(result, "sockets", 1);
    return true;
}

static void put_component_names(wh_buf *result, const char *key, const wh_component_name *names, size_t n)
{
    char text[512];
    for (size_t i = 0; i < WH_MIN(n, (size_t)WH_PREPARE_NAMES_MAX); i++) {
        if (names[i].name.n > sizeof(text) - 8)
            continue;
        int len = snprintf(text, sizeof(text), "%c %.*s", names[i].kind, WH_STR_ARG(names[i].name));
        wh_record_put(result, key, text, (size_t)WH_MAX(len, 0));
    }
}

static void inspect_component(const void *wasm, size_t n, wh_buf *result)
{
    wh_component_outline outline = {0};
    if (!wh_job_component(wasm, n, &outline, result))
        return;
    put_component_names(result, "import", outline.imports, outline.n_imports);
    put_component_names(result, "export", outline.exports, outline.n_exports);
    auto_buf wh_buf missing;
    wh_buf_init(&missing, 4096);
    if (wh_component_missing_imports(&outline, &missing) > 0)
        wh_record_put_str(result, "missing", wh_buf_str(&missing));
    wh_job_verdict(result, WH_VERDICT_OK, "");
    wh_component_outline_done(&outline);
}

void wh_job_inspect(int in, wh_buf *result)
{
    wh_wasm_outline outline = {0};
    size_t n;
    const void *wasm = wh_job_map_input(in, &n, result);
    if (wasm == NULL)
        return;
    if (wh_component_is(wasm, n)) {
        inspect_component(wasm, n, result);
        return;
    }
    if (!wh_job_outline(wasm, n, &outline, result))
        return;
    if (outline.has_memory) {
        wh_record_put_i64(result, "memory_min", (int64_t)WH_MIN(outline.memory_min, (uint64_t)INT64_MAX));
        if (outline.memory_max != UINT64_MAX)
            wh_record_put_i64(result, "memory_max", (int64_t)WH_MIN(outline.memory_max, (uint64_t)INT64_MAX));
    }
    put_names(result, "import", outline.imports, outline.n_imports);
    put_names(result, "export", outline.exports, outline.n_exports);
    auto_buf wh_buf missing;
    wh_buf_init(&missing, 4096);
    if (wh_wasm_missing_imports(&outline, &missing) > 0)
        wh_record_put_str(result, "missing", wh_buf_str(&missing));
    wh_job_verdict(result, WH_VERDICT_OK, "");
    wh_wasm_outline_done(&outline);
}
