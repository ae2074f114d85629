/* SPDX-License-Identifier: Apache-2.0 */
/* Who has which address. A pod has one number, which both its addresses end in. The file is a journal, "+ NUMBER ID"
 * and "- ID", written anew when it is opened: it must survive the agent, not the machine, so nothing is synced. */
#include "node/network_internal.h"

#include "base/buf.h"
#include "base/file.h"

#include <fcntl.h>
#include <stdio.h>
#define uthash_fatal(msg) wh_panic(__FILE__, __LINE__, __func__, msg)
#include <uthash.h>

#define FIRST 2 /* ".1" is what people take for a gateway */
#define FILE_BYTES_MAX (64UL << 20)

typedef struct entry {
    UT_hash_handle hh;
    char *id;
    uint32_t number;
} entry;

struct wh_addresses {
    wh_addr base4, base6; /* len 0: none */
    uint32_t end;         /* past the last number */
    uint32_t next;
    uint8_t *used; /* a bit each */
    entry *by_id;
    int fd;
};

static bool is_used(const wh_addresses *t, uint32_t number)
{
    return (t->used[number / 8] >> (number % 8) & 1) != 0;
}

static void address_of(const wh_addr *base, uint32_t number, wh_addr *ret)
{
    *ret = *base;
    if (base->sa.sa_family == AF_INET) {
        ret->in4.sin_addr.s_addr = htonl(ntohl(base->in4.sin_addr.s_addr) + number);
    } else {
        uint32_t low = ntohl(base->in6.sin6_addr.s6_addr32[3]); /* host bits are 0, so nothing carries */
        ret->in6.sin6_addr.s6_addr32[3] = htonl(low + number);
    }
}

static entry *add(wh_addresses *t, const char *id, uint32_t number)
{
    entry *e = wh_xnew(entry);
    e->id = wh_xstrdup(id);
    e->number = number;
    t->used[number / 8] |= (uint8_t)(1U << (number % 8));
    HASH_ADD_KEYPTR(hh, t->by_id, e->id, strlen(e->id), e);
    return e;
}

static void drop(wh_addresses *t, entry *e)
{
    t->used[e->number / 8] &= (uint8_t) ~(1U << (e->number % 8));
    HASH_DEL(t->by_id, e);
    free(e->id);
    free(e);
}

static void note(const wh_addresses *t, const char *text)
{
    if (t->fd >= 0) /* a full disk costs a pod its address after the next start of the agent */
        (void)wh_write_all(t->fd, text, strlen(text));
}

static void read_line(wh_addresses *t, wh_str line)
{
    wh_str kind = {0}, digits = {0};
    entry *e;
    uint64_t number = 0;
    (void)wh_str_split(&line, ' ', &kind);
    bool adds = wh_str_eq(kind, WH_STR("+"));
    if (adds)
        (void)wh_str_split(&line, ' ', &digits);
    if (line.n == 0)
        return;
    auto_free char *id = wh_xstrndup(line.p, line.n);
    auto_free char *text = wh_xstrndup(digits.n == 0 ? "" : digits.p, digits.n);
    HASH_FIND_STR(t->by_id, id, e);
    if (!adds && e != NULL && wh_str_eq(kind, WH_STR("-")))
        drop(t, e);
    if (!adds || e != NULL || wh_parse_u64(text, t->end - 1, &number) < 0 || number < FIRST)
        return;
    if (is_used(t, (uint32_t)number))
        return;
    add(t, id, (uint32_t)number);
    t->next = number + 1 < t->end ? (uint32_t)number + 1 : FIRST;
}

static int rewrite(wh_addresses *t, const char *path, wh_err *err)
{
    auto_buf wh_buf b;
    wh_buf_init(&b, FILE_BYTES_MAX);
    for (const entry *e = t->by_id; e != NULL; e = e->hh.next)
        (void)wh_buf_printf(&b, "+ %u %s\n", e->number, e->id);
    int rc = wh_write_file(AT_FDCWD, path, wh_buf_str(&b), b.len, 0600, err);
    if (rc < 0)
        return rc;
    t->fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    return t->fd < 0 ? wh_fail(err, -errno, "open '%s'", path) : 0;
}

/* Numbers that fit below a prefix, without the last, which is a broadcast address to some. */
static uint32_t room(const wh_addr *cidr, unsigned prefix)
{
    unsigned bits = cidr->len == 0 ? 32 : (cidr->sa.sa_family == AF_INET ? 32U : 128U) - prefix;
    return bits >= 16 ? WH_NETWORK_PODS_MAX : bits == 0 ? 0 : (1U << bits) - 1;
}

/* The network's address: host bits cleared. */
static wh_addr base_of(const wh_addr *cidr, unsigned prefix)
{
    wh_addr base = *cidr;
    if (cidr->len == 0)
        return base;
    bool v4 = cidr->sa.sa_family == AF_INET;
    uint8_t *p = v4 ? (uint8_t *)&base.in4.sin_addr : base.in6.sin6_addr.s6_addr;
    for (unsigned bit = prefix; bit < (v4 ? 32U : 128U); bit++)
        p[bit / 8] &= (uint8_t) ~(0x80U >> (bit % 8));
    wh_addr_set_port(&base, 0);
    return base;
}

int wh_addresses_open(const char *path, const wh_network_options *o, wh_addresses **ret, wh_err *err)
{
    auto_free char *text = NULL;
    size_t n = 0;
    wh_addresses *t = wh_xnew(wh_addresses);
    *t = (wh_addresses){.base4 = base_of(&o->cidr4, o->prefix4),
                        .base6 = base_of(&o->cidr6, o->prefix6),
                        .end = WH_MIN(room(&o->cidr4, o->prefix4), room(&o->cidr6, o->prefix6)),
                        .next = FIRST,
                        .fd = -1};
    t->used = wh_xcalloc(WH_NETWORK_PODS_MAX / 8, 1);
    if (t->end <= FIRST || (o->cidr4.len == 0 && o->cidr6.len == 0)) {
        wh_addresses_free(t);
        return wh_fail(err, -EINVAL,
                       "the pods' network needs a CIDR with room for addresses, like 10.244.0.0/24.");
    }
    if (wh_read_file(AT_FDCWD, path, FILE_BYTES_MAX, &text, &n, NULL) == 0) {
        wh_str rest = {text, n}, line;
        while (wh_str_split(&rest, '\n', &line))
            read_line(t, line);
    }
    int rc = rewrite(t, path, err);
    if (rc < 0)
        wh_addresses_free(t);
    else
        *ret = t;
    return rc;
}

void wh_addresses_free(wh_addresses *t)
{
    entry *e, *next;
    if (t == NULL)
        return;
    HASH_ITER(hh, t->by_id, e, next)
    drop(t, e);
    if (t->fd >= 0)
        close(t->fd);
    free(t->used);
    free(t);
}

static void addresses_of(const wh_addresses *t, uint32_t number, wh_addr ret[2], size_t *ret_n)
{
    size_t n = 0;
    if (t->base4.len != 0)
        address_of(&t->base4, number, &ret[n++]);
    if (t->base6.len != 0)
        address_of(&t->base6, number, &ret[n++]);
    *ret_n = n;
}

int wh_addresses_take(wh_addresses *t, const char *id, wh_addr ret[2], size_t *ret_n, wh_err *err)
{
    entry *e;
    if (*id == '\0' || strpbrk(id, " \n") != NULL)
        return wh_fail(err, -EINVAL, "'%.64s' is no id of a pod.", id);
    HASH_FIND_STR(t->by_id, id, e);
    /* The one that was given back last comes last: connections to it may still be under way. */
    for (uint32_t tries = 0; e == NULL && tries < t->end; tries++) {
        uint32_t number = t->next;
        t->next = number + 1 < t->end ? number + 1 : FIRST;
        if (is_used(t, number))
            continue;
        e = add(t, id, number);
        auto_free char *line = wh_xasprintf("+ %u %s\n", number, id);
        note(t, line);
    }
    if (e == NULL)
        return wh_fail(err, -EADDRNOTAVAIL, "all %u addresses of the pods' network are in use.",
                       t->end - FIRST);
    addresses_of(t, e->number, ret, ret_n);
    return 0;
}

void wh_addresses_give(wh_addresses *t, const char *id)
{
    entry *e;
    HASH_FIND_STR(t->by_id, id, e);
    if (e == NULL)
        return;
    auto_free char *line = wh_xasprintf("- %s\n", id);
    drop(t, e);
    note(t, line);
}

bool wh_addresses_has(const wh_addresses *t, const wh_addr *addr)
{
    bool v4 = addr->sa.sa_family == AF_INET;
    const wh_addr *base = v4 ? &t->base4 : &t->base6;
    wh_addr same;
    if (base->len == 0)
        return false;
    uint32_t number = v4 ? ntohl(addr->in4.sin_addr.s_addr) - ntohl(base->in4.sin_addr.s_addr)
                         : ntohl(addr->in6.sin6_addr.s6_addr32[3]) - ntohl(base->in6.sin6_addr.s6_addr32[3]);
    if (number >= t->end || !is_used(t, number))
        return false;
    address_of(base, number, &same);
    return v4 ? same.in4.sin_addr.s_addr == addr->in4.sin_addr.s_addr
              : memcmp(&same.in6.sin6_addr, &addr->in6.sin6_addr, 16) == 0;
}

void wh_addresses_sweep(wh_addresses *t, bool (*keep)(void *user, const char *id), void *user)
{
    entry *e, *next;
    HASH_ITER(hh, t->by_id, e, next)
    {
        if (!keep(user, e->id))
            wh_addresses_give(t, e->id);
    }
}

void wh_addresses_each(const wh_addresses *t, void (*each)(void *user, const wh_addr *addr), void *user)
{
    for (const entry *e = t->by_id; e != NULL; e = e->hh.next) {
        wh_addr addresses[2];
        size_t n = 0;
        addresses_of(t, e->number, addresses, &n);
        for (size_t i = 0; i < n; i++)
            each(user, &addresses[i]);
    }
}
