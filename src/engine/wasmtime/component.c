/* SPDX-License-Identifier: Apache-2.0 */
/* The one call of engine/component.h that needs the engine's inside; the shim implements the others itself. */
#include "engine/component.h"
#include "engine/wasmtime/internal.h"

#include <fcntl.h>

#define MESSAGE_BYTES 224 /* fits a wh_err with a few words in front */

int wh_component_load(wh_engine *engine, int fd, const wh_component_config *config, wh_component **ret,
                      wh_err *err)
{
    wh_assert(engine->magic == WH_ENGINE_MAGIC);
    wh_assert(config->callbacks != NULL);
    if ((engine->profile & WH_PROFILE_CM) == 0)
        return wh_fail(err, -EINVAL, "a '%s' engine runs no components; 'shared+cm' and 'pod+cm' do.",
                       wh_profile_name(engine->profile));
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0); /* the shim consumes one */
    if (own < 0)
        return wh_fail(err, -errno, "load a compiled component");
    char text[MESSAGE_BYTES] = "";
    const wh_shim_message message = {text, sizeof(text)};
    int rc = wh_shim_component_load(engine->engine, own, config, engine->epochs, ret, &message);
    if (rc == 0)
        return 0;
    for (char *p = text; *p != '\0'; p++) { /* a guest's author chose the names in it */
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' ';
    }
    if (rc == -EBADMSG && wh_wasmtime_says_stale(text))
        return wh_fail(err, -ESTALE, "the compiled component is not for this engine (%s): %s",
                       wh_engine_tag(engine->profile), text);
    return wh_fail(err, rc < 0 ? rc : -EFAULT, "load the component: %s", text);
}
