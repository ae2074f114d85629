/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever an API server says, the events that come out are in order: ADDED only for what was not there, MODIFIED and
 * DELETED only for what was. Lines that begin with '!' are ends of requests, with '#' pages of lists. */
#include "kube/reflector.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static size_t known;

static void on_event(wh_watch_kind kind, json_t *object, void *user)
{
    const wh_reflector *r = user;
    const char *name = wh_json_str(object, "metadata.name");
    wh_assert(name != NULL && name[0] != '\0');
    if (kind == WH_WATCH_ADDED)
        known++;
    else
        wh_assert(known > 0);
    if (kind == WH_WATCH_DELETED)
        known--;
    wh_assert(known == r->count);
}

static void end_of_request(wh_reflector *r, wh_str line)
{
    static const int statuses[] = {200, 200, 410, 422, 400, 403, 500, 0};
    static const int codes[] = {0, -ESTALE, -ECONNRESET, -EBADMSG};
    int status = statuses[(uint8_t)(line.n > 1 ? line.p[1] : 0) % 8];
    int code = codes[(uint8_t)(line.n > 2 ? line.p[2] : 0) % 4];
    (void)wh_reflect_end(r, status, code);
    char *query = wh_reflect_query(r, "metadata.name=a", NULL, 300);
    wh_assert(query[0] != '\0');
    free(query);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    wh_reflector r;
    wh_err err = {0};
    known = 0;
    wh_reflect_init(&r);
    r.on_event = on_event;
    r.user = &r;
    wh_str rest = {(const char *)data, n};
    wh_str line;
    while (wh_str_split(&rest, '\n', &line)) {
        if (line.n > 0 && line.p[0] == '!') {
            end_of_request(&r, line);
        } else if (line.n > 0 && line.p[0] == '#') {
            auto_json json_t *list = NULL;
            if (wh_json_parse(line.p + 1, line.n - 1, &list, &err) == 0)
                (void)wh_reflect_page(&r, list, &err);
        } else {
            int rc = wh_reflect_line(&r, line.p, line.n, &err);
            wh_assert(rc == 0 || err.code < 0);
        }
    }
    wh_assert(known == r.count);
    wh_reflect_done(&r);
    return 0;
}
