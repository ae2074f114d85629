/* SPDX-License-Identifier: Apache-2.0 */
/* cwasm IN.wasm OUT.cwasm: compiles a guest for the tests, in the pod profile. */
#include "base/file.h"
#include "engine/engine.h"

#include <fcntl.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    const wh_engine_config config = {.profile = WH_PROFILE_POD};
    const wh_engine_ops *ops = &wh_engine_wasmtime;
    auto_free char *wasm = NULL;
    auto_free void *code = NULL;
    wh_engine *engine = NULL;
    wh_err err = {0};
    size_t n = 0, n_code = 0;
    int rc = argc == 3 ? wh_read_file(AT_FDCWD, argv[1], 64UL << 20, &wasm, &n, &err) : -EINVAL;
    if (rc == 0)
        rc = ops->engine_new(&config, &engine, &err);
    if (rc == 0)
        rc = ops->compile(engine, wasm, n, &code, &n_code, &err);
    if (rc == 0)
        rc = wh_write_file(AT_FDCWD, argv[2], code, n_code, 0644, &err);
    if (rc < 0)
        fprintf(stderr, "cwasm: %s\n", err.msg);
    ops->engine_free(engine);
    return rc < 0 ? 1 : 0;
}
