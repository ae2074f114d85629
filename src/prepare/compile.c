/* SPDX-License-Identifier: Apache-2.0 */
/* From a module to native code, for one profile. */
#include "base/file.h"
#include "base/record.h"
#include "engine/engine.h"
#include "prepare/job.h"
#include "prepare/prepare.h"

#include <inttypes.h>
#include <stdio.h>

static const wh_engine_ops *const ops = &wh_engine_wasmtime;

static int compile_as(unsigned profile, const void *wasm, size_t n, void **ret, size_t *ret_n, wh_err *err)
{
    const wh_engine_config config = {.profile = profile};
    wh_engine *engine = NULL;
    int rc = ops->engine_new(&config, &engine, err);
    if (rc < 0)
        return rc;
    rc = ops->compile(engine, wasm, n, ret, ret_n, err);
    ops->engine_free(engine);
    return rc;
}

/* The engine names what a module needs in words like these. */
static bool lacks_proposal(const char *text)
{
    return strstr(text, "not enabled") != NULL || strstr(text, "is disabled") != NULL ||
           strstr(text, "requires") != NULL || strstr(text, "not supported") != NULL ||
           strstr(text, "unsupported") != NULL;
}

static void tell_failure(int rc, const wh_err *err, wh_buf *result)
{
    auto_free char *text = NULL;
    bool proposal = lacks_proposal(err->msg);
    if (rc != -EBADMSG) {
        wh_job_verdict(result, WH_VERDICT_INTERNAL, err->msg);
        return;
    }
    text = wh_xasprintf(
        "%s: %s", proposal ? "it needs something that is not offered" : "it is not valid Wasm", err->msg);
    wh_job_verdict(result, proposal ? WH_VERDICT_PROPOSAL : WH_VERDICT_INVALID, text);
}

/* False, with a verdict, when somebody else would have to offer what the module imports. */
static bool imports_are_offered(const wh_wasm_outline *outline, wh_buf *result)
{
    auto_buf wh_buf missing;
    wh_buf_init(&missing, 4096);
    size_t n = wh_wasm_missing_imports(outline, &missing);
    if (n == 0)
        return true;
    auto_free char *text = wh_xasprintf("it imports what nobody offers here (%zu of %zu imports): %s", n,
                                        outline->n_imports, wh_buf_str(&missing));
    wh_job_verdict(result, WH_VERDICT_IMPORTS, text);
    return false;
}

static void compile_module(unsigned profile, const void *wasm, size_t n, int out, wh_buf *result)
{
    wh_err err = {0}, plain = {0};
    void *code = NULL;
    size_t code_bytes = 0;
    int rc = compile_as(profile, wasm, n, &code, &code_bytes, &plain);
    /* Garbage collection costs every module that does not need it, so it is tried only behind a failure. */
    if (rc == -EBADMSG && (profile & WH_PROFILE_GC) == 0) {
        int with_gc = compile_as(profile | WH_PROFILE_GC, wasm, n, &code, &code_bytes, &err);
        if (with_gc == 0) {
            rc = 0;
            profile |= WH_PROFILE_GC;
        }
    }
    if (rc < 0) {
        tell_failure(rc, &plain, result);
        return;
    }
    rc = wh_write_all(out, code, code_bytes);
    free(code);
    if (rc < 0) {
        auto_free char *text = wh_xasprintf("write %zu bytes of code: %s", code_bytes, strerrordesc_np(-rc));
        wh_job_verdict(result, WH_VERDICT_INTERNAL, text);
        return;
    }
    wh_record_put_str(result, "profile", wh_profile_name(profile));
    wh_record_put_i64(result, "bytes", (int64_t)code_bytes);
    wh_job_verdict(result, WH_VERDICT_OK, "");
}

void wh_job_compile(unsigned profile, int in, int out, wh_buf *result)
{
    wh_wasm_outline outline = {0};
    size_t n;
    const void *wasm = wh_job_map_input(in, &n, result);
    if (wasm == NULL || !wh_job_outline(wasm, n, &outline, result))
        return;
    if (imports_are_offered(&outline, result))
        compile_module(profile, wasm, n, out, result);
    wh_wasm_outline_done(&outline);
}

/* Code of an empty module holds the version, every setting and the processor's features: a digest of it
 * changes when any of them does. FNV-1a; nobody gains by a collision. */
int wh_job_identify(void)
{
    static const uint8_t empty[] = {0, 'a', 's', 'm', 1, 0, 0, 0};
    static const unsigned profiles[] = {WH_PROFILE_POD, WH_PROFILE_SHARED};
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < WH_ARRAY_LEN(profiles); i++) {
        wh_err err = {0};
        auto_free void *code = NULL;
        size_t n = 0;
        if (compile_as(profiles[i], empty, sizeof(empty), &code, &n, &err) < 0) {
            (void)fprintf(stderr, "wherry-prepare: %s\n", err.msg);
            return 1;
        }
        for (size_t at = 0; at < n; at++)
            hash = (hash ^ ((const uint8_t *)code)[at]) * 0x100000001b3;
    }
    int printed = printf("%s %s r%d %016" PRIx64 "\n", ops->name, ops->version, WH_PREPARE_REVISION, hash);
    return printed > 0 && fflush(stdout) == 0 ? 0 : 1;
}
