/* SPDX-License-Identifier: Apache-2.0 */
/* compile PROFILE IN.wasm OUT: compiles a test guest at build time, for programs that only load. */
#include "base/file.h"
#include "base/limits.h"
#include "engine/engine.h"

#include <fcntl.h>
#include <stdio.h>

static int compile(const char *profile, const char *in, const char *out, wh_err *err)
{
    wh_engine_config config = {0};
    if (wh_profile_parse(profile, &config.profile) < 0)
        return wh_fail(err, -EINVAL, "there is no profile '%s'.", profile);
    auto_free char *wasm = NULL;
    size_t n = 0;
    int rc = wh_read_file(AT_FDCWD, in, WH_WASM_BYTES_MAX, &wasm, &n, err);
    if (rc < 0)
        return rc;
    wh_engine *engine = NULL;
    rc = wh_engine_wasmtime.engine_new(&config, &engine, err);
    if (rc < 0)
        return rc;
    auto_free void *code = NULL;
    size_t code_bytes = 0;
    rc = wh_engine_wasmtime.compile(engine, wasm, n, &code, &code_bytes, err);
    wh_engine_wasmtime.engine_free(engine);
    return rc < 0 ? rc : wh_write_file(AT_FDCWD, out, code, code_bytes, 0644, err);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        (void)fputs("usage: compile PROFILE IN.wasm OUT\n", stderr);
        return 2;
    }
    wh_err err = {0};
    if (compile(argv[1], argv[2], argv[3], &err) < 0) {
        (void)fprintf(stderr, "compile %s: %s\n", argv[2], err.msg);
        return 1;
    }
    return 0;
}
