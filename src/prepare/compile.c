/* SPDX-License-Identifier: Apache-2.0 */
/* From a module or component to native code, for one profile. */
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

static void tell_missing(size_t missing, size_t all, const wh_buf *names, wh_buf *result)
{
    auto_free char *text = wh_xasprintf("it imports what nobody offers here (%zu of %zu imports): %s",
                                        missing, all, wh_buf_str(names));
    wh_job_verdict(result, WH_VERDICT_IMPORTS, text);
}

/* False, with a verdict, when somebody else would have to offer what the module imports. */
static bool imports_are_offered(const wh_wasm_outline *outline, wh_buf *result)
{
    auto_buf wh_buf missing;
    wh_buf_init(&missing, 4096);
    size_t n = wh_wasm_missing_imports(outline, &missing);
    if (n == 0)
        return true;
    tell_missing(n, outline->n_imports, &missing, result);
    return false;
}

static void write_code(unsigned profile, const void *code, size_t code_bytes, int out, wh_buf *result)
{
    int rc = wh_write_all(out, code, code_bytes);
    if (rc < 0) {
        auto_free char *text = wh_xasprintf("write %zu bytes of code: %s", code_bytes, strerrordesc_np(-rc));
        wh_job_verdict(result, WH_VERDICT_INTERNAL, text);
        return;
    }
    wh_record_put_str(result, "profile", wh_profile_name(profile));
    wh_record_put_i64(result, "bytes", (int64_t)code_bytes);
    wh_job_verdict(result, WH_VERDICT_OK, "");
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
    write_code(profile, code, code_bytes, out, result);
    free(code);
}

/* What answers requests shares its process with other requests, whoever asks; a command has it to itself. */
static unsigned component_profile(unsigned asked, const char *kind)
{
    bool command = wh_streq(kind, WH_KIND_COMPONENT_COMMAND);
    return WH_PROFILE_CM | (command && (asked & WH_PROFILE_SHARED) == 0 ? WH_PROFILE_POD : WH_PROFILE_SHARED);
}

static bool component_can_run(const wh_component_outline *outline, wh_buf *result)
{
    auto_buf wh_buf names;
    wh_buf_init(&names, 4096);
    size_t missing = wh_component_missing_imports(outline, &names);
    if (missing > 0) {
        tell_missing(missing, outline->n_imports, &names, result);
        return false;
    }
    if (outline->kind != NULL)
        return true;
    for (size_t i = 0; i < outline->n_exports; i++) {
        (void)wh_buf_puts(&names, i > 0 ? ", " : "");
        wh_wasm_put_clean(&names, outline->exports[i].name);
    }
    auto_free char *text =
        wh_xasprintf("it is a component that nothing here calls: it exports %s; wanted is wasi:cli/run, "
                     "wasi:http/incoming-handler@0.2 or wasi:http/handler@0.3.",
                     outline->n_exports > 0 ? wh_buf_str(&names) : "nothing");
    wh_job_verdict(result, WH_VERDICT_COMPONENT, text);
    return false;
}

static void compile_component(unsigned asked, const void *wasm, size_t n, int out, wh_buf *result)
{
    wh_component_outline outline = {0};
    wh_err err = {0};
    auto_free void *code = NULL;
    size_t code_bytes = 0;
    if (!wh_job_component(wasm, n, &outline, result))
        return;
    if (component_can_run(&outline, result)) {
        unsigned profile = component_profile(asked, outline.kind);
        int rc = compile_as(profile, wasm, n, &code, &code_bytes, &err);
        if (rc < 0)
            tell_failure(rc, &err, result);
        else
            write_code(profile, code, code_bytes, out, result);
    }
    wh_component_outline_done(&outline);
}

void wh_job_compile(unsigned profile, int in, int out, wh_buf *result)
{
    wh_wasm_outline outline = {0};
    size_t n;
    const void *wasm = wh_job_map_input(in, &n, result);
    if (wasm == NULL)
        return;
    if (wh_component_is(wasm, n)) {
        compile_component(profile, wasm, n, out, result);
        return;
    }
    if (!wh_job_outline(wasm, n, &outline, result))
        return;
    if (imports_are_offered(&outline, result))
        compile_module(profile, wasm, n, out, result);
    wh_wasm_outline_done(&outline);
}

/* Code of an empty module or component holds the version, every setting and the processor's features: a digest of it
 * changes when any of them does. FNV-1a; nobody gains by a collision. */
int wh_job_identify(void)
{
    static const uint8_t empty[][8] = {{0, 'a', 's', 'm', 1, 0, 0, 0}, {0, 'a', 's', 'm', 13, 0, 1, 0}};
    static const unsigned profiles[] = {WH_PROFILE_POD, WH_PROFILE_SHARED, WH_PROFILE_POD | WH_PROFILE_CM,
                                        WH_PROFILE_SHARED | WH_PROFILE_CM};
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < WH_ARRAY_LEN(profiles); i++) {
        wh_err err = {0};
        auto_free void *code = NULL;
        size_t n = 0;
        bool component = (profiles[i] & WH_PROFILE_CM) != 0;
        if (compile_as(profiles[i], empty[component], sizeof(empty[0]), &code, &n, &err) < 0) {
            (void)fprintf(stderr, "wherry-prepare: %s\n", err.msg);
            return 1;
        }
        for (size_t at = 0; at < n; at++)
            hash = (hash ^ ((const uint8_t *)code)[at]) * 0x100000001b3;
    }
    int printed = printf("%s %s r%d %016" PRIx64 "\n", ops->name, ops->version, WH_PREPARE_REVISION, hash);
    return printed > 0 && fflush(stdout) == 0 ? 0 : 1;
}
