/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/held.h"

#include "base/limits.h"

wh_held *wh_held_find(wh_held *table, const char *name)
{
    wh_held *held;
    HASH_FIND_STR(table, name, held);
    return held;
}

static bool name_ok(const char *name)
{
    size_t n = strlen(name);
    return n > 0 && n <= WH_HELD_NAME_MAX &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-") == n;
}

int wh_held_add(wh_held **table, const char *name, int fd, wh_err *err)
{
    if (!name_ok(name))
        return wh_fail(err, -EINVAL, "the name of a held descriptor has 1 to %d of [A-Za-z0-9._:-].",
                       WH_HELD_NAME_MAX);
    if (wh_held_find(*table, name) != NULL)
        return wh_fail(err, -EEXIST, "a descriptor is held as '%s' already.", name);
    if (HASH_COUNT(*table) >= WH_KEEPER_HELD_MAX)
        return wh_fail(err, -EAGAIN, "hold '%s': the keeper holds %d descriptors, which is its limit.", name,
                       WH_KEEPER_HELD_MAX);
    wh_held *held = wh_xnew(wh_held);
    held->name = wh_xstrdup(name);
    held->fd = fd;
    HASH_ADD_KEYPTR(hh, *table, held->name, strlen(held->name), held);
    return 0;
}

static void held_free(wh_held **table, wh_held *held)
{
    HASH_DEL(*table, held);
    close(held->fd);
    free(held->name);
    free(held);
}

int wh_held_drop(wh_held **table, const char *name, wh_err *err)
{
    wh_held *held = wh_held_find(*table, name);
    if (held == NULL)
        return wh_fail(err, -ENOENT, "nothing is held as '%.191s'.", name);
    if (held->users > 0)
        return wh_fail(err, -EBUSY, "a container uses what is held as '%s'.", name);
    held_free(table, held);
    return 0;
}

void wh_held_free_all(wh_held **table)
{
    wh_held *held, *next;
    HASH_ITER(hh, *table, held, next)
    {
        held_free(table, held);
    }
}
