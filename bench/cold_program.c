/* SPDX-License-Identifier: Apache-2.0 */
/* cold_program FILE.cwasm: what a cold start of a core module is, without any sandbox: engine, load,
 * template, instance, one call, end. Without an argument it ends at once: what the process alone costs. */
#include "engine/engine.h"

#include <fcntl.h>
#include <stdio.h>

#define ops (&wh_engine_wasmtime)

int main(int argc, char **argv)
{
    if (argc < 2)
        return 0;
    wh_err err = {0};
    wh_outcome outcome;
    wh_engine *engine;
    wh_module *module;
    wh_template *tmpl;
    wh_instance *instance;
    wh_func start;
    const wh_engine_config config = {.profile = WH_PROFILE_POD};
    auto_close int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
    if (fd < 0 || ops->engine_new(&config, &engine, &err) < 0 || ops->load(engine, fd, &module, &err) < 0 ||
        ops->template_new(engine, module, NULL, 0, &tmpl, &err) < 0 ||
        ops->instance_new(tmpl, NULL, NULL, &instance, &outcome, &err) < 0 ||
        ops->func(instance, "_start", "()", &start, &err) < 0) {
        (void)fprintf(stderr, "%s: %s\n", argv[1], err.msg);
        return 1;
    }
    return ops->call(instance, &start, NULL, 0, 0, &outcome) == WH_END_OK ? 0 : 1;
}
