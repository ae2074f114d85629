/* SPDX-License-Identifier: Apache-2.0 */
/* $(VAR): the first line of the input is the text, the others are the environment. */
#include "base/buf.h"
#include "pod/env.h"

#define ROOM 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    wh_str rest = {(const char *)data, n}, line;
    auto_strv wh_strv env = NULL;
    auto_free char *text = NULL, *out = NULL, *strict = NULL;
    size_t lines = 0;
    while (lines++ < 64 && wh_str_split(&rest, '\n', &line)) {
        if (text == NULL)
            text = wh_xstrndup(line.p, line.n);
        else
            wh_strv_push_take(&env, wh_xstrndup(line.p, line.n));
    }
    if (text == NULL)
        return 0;
    if (wh_env_expand(text, env, ROOM, false, &out, NULL) == 0)
        wh_assert(strlen(out) <= ROOM);
    if (wh_env_expand(text, env, ROOM, true, &strict, NULL) == 0)
        wh_assert(wh_streq(strict, out));
    return 0;
}
