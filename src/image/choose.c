/* SPDX-License-Identifier: Apache-2.0 */
/* Which entry of an index we run, and what a manifest's layers are. */
#include "image/manifest.h"

#include "base/buf.h"

#include <stdio.h>

#define LIST_BYTES_MAX 200 /* of what an error lists */

/* Every spelling of a Wasm platform that was seen in registries, the best first. */
static const struct {
    const char *os, *architecture;
    bool component;
} wasm_platforms[] = {
    {"wasip2", "wasm", true},   {"wasip1", "wasm", false},   {"wasi", "wasm", false},
    {"wasi", "wasm32", false},  {"wasip1", "wasm32", false}, {"linux", "wasm", false},
    {"linux", "wasm32", false},
};

#define RANK_NONE 1000U
#define RANK_BY_TYPE 100U
#define RANK_COMPAT 200U

static unsigned platform_rank(const char *os, const char *architecture, bool components)
{
    for (unsigned i = 0; os != NULL && architecture != NULL && i < WH_ARRAY_LEN(wasm_platforms); i++)
        if (strcasecmp(os, wasm_platforms[i].os) == 0 &&
            strcasecmp(architecture, wasm_platforms[i].architecture) == 0)
            return wasm_platforms[i].component && !components ? RANK_BY_TYPE - 1 : i;
    return RANK_NONE;
}

bool wh_platform_is_wasm(const char *os, const char *architecture)
{
    return platform_rank(os, architecture, true) != RANK_NONE;
}

static bool is_wasm_config_type(const char *type)
{
    return type != NULL &&
           (wh_streq(type, WH_TYPE_WASM) || wh_starts_with(type, "application/vnd.wasm.config.") ||
            wh_starts_with(type, "application/vnd.module.wasm.config.") ||
            wh_starts_with(type, "application/vnd.bytecodealliance.wasm."));
}

static unsigned entry_rank(const wh_descriptor *d, bool components)
{
    bool unknown = wh_streq(d->os, "unknown") && wh_streq(d->architecture, "unknown");
    if (d->attestation || unknown)
        return RANK_NONE;
    unsigned rank = platform_rank(d->os, d->architecture, components);
    if (rank != RANK_NONE)
        return rank;
    if (is_wasm_config_type(d->artifact_type))
        return RANK_BY_TYPE;
    return d->compat && wh_streq(d->os, "linux") ? RANK_COMPAT : RANK_NONE;
}

static bool is_signature_type(const char *type)
{
    static const char *const prefixes[] = {"application/vnd.dev.cosign.", "application/vnd.dev.sigstore.",
                                           "application/vnd.in-toto", "application/vnd.dsse."};
    for (size_t i = 0; type != NULL && i < WH_ARRAY_LEN(prefixes); i++)
        if (wh_starts_with(type, prefixes[i]))
            return true;
    return false;
}

static void list_platforms(const wh_oci_manifest *index, wh_buf *out)
{
    for (size_t i = 0; i < index->n_items && out->len < LIST_BYTES_MAX; i++) {
        const wh_descriptor *d = &index->items[i];
        if (d->attestation)
            continue;
        (void)wh_buf_puts(out, out->len > 0 ? ", " : "");
        if (d->os != NULL && d->architecture != NULL)
            (void)wh_buf_printf(out, "%.40s/%.40s", d->os, d->architecture);
        else
            (void)wh_buf_puts(out, "an entry without platform");
    }
}

static bool only_signatures(const wh_oci_manifest *index)
{
    size_t signatures = 0;
    for (size_t i = 0; i < index->n_items; i++)
        signatures += is_signature_type(index->items[i].artifact_type) ? 1 : 0;
    return signatures > 0 && signatures == index->n_items;
}

int wh_oci_manifest_choose(const wh_oci_manifest *index, const char *reference, bool components,
                           size_t *ret_entry, wh_err *err)
{
    wh_assert(index->is_index);
    auto_buf wh_buf found;
    unsigned best = RANK_NONE;
    size_t entry = 0, images = 0, last = 0;
    for (size_t i = 0; i < index->n_items; i++) {
        unsigned rank = entry_rank(&index->items[i], components);
        if (rank < best) {
            best = rank;
            entry = i;
        }
        images += index->items[i].attestation ? 0 : 1;
        last = index->items[i].attestation ? last : i;
    }
    if (only_signatures(index))
        return wh_fail(err, -ENOTSUP, "%s is a signature index, not an image.", reference);
    bool lone = images == 1 && index->items[last].os == NULL && index->items[last].architecture == NULL;
    if (best == RANK_NONE && lone) {
        *ret_entry = last;
        return 0;
    }
    if (best != RANK_NONE) {
        *ret_entry = entry;
        return 0;
    }
    wh_buf_init(&found, (size_t)2 * LIST_BYTES_MAX);
    list_platforms(index, &found);
    return wh_fail(err, -ENOENT, "no Wasm image in %s: found %s.", reference,
                   found.len > 0 ? wh_buf_str(&found) : "no entry at all");
}

static bool is_tar_type(const char *type)
{
    static const char *const types[] = {
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
    };
    for (size_t i = 0; i < WH_ARRAY_LEN(types); i++)
        if (wh_streq(type, types[i]))
            return true;
    return false;
}

static bool is_wasm_type(const char *type)
{
    return wh_streq(type, WH_TYPE_WASM) || wh_ends_with(type, "+wasm");
}

static bool is_foreign_type(const char *type)
{
    return strstr(type, "nondistributable") != NULL || strstr(type, "rootfs.foreign") != NULL;
}

/* What is no workload, or not one that this node can open. */
static int refuse_layer(const wh_descriptor *layer, const char *reference, wh_err *err)
{
    const char *type = layer->media_type;
    if (wh_ends_with(type, "+encrypted"))
        return wh_fail(err, -ENOTSUP,
                       "%s: layer %.20s is encrypted (%.90s) and no key service is configured.", reference,
                       layer->digest, type);
    if (is_foreign_type(type))
        return wh_fail(err, -ENOTSUP,
                       "%s: layer type '%.120s' must be fetched elsewhere, which is not supported.",
                       reference, type);
    if (is_signature_type(type))
        return wh_fail(err, -ENOTSUP, "%s is a signature or attestation (%.90s), not an image.", reference,
                       type);
    if (wh_starts_with(type, "application/vnd.cncf.helm."))
        return wh_fail(err, -ENOTSUP, "%s is a Helm chart, not an image.", reference);
    return 0;
}

static int refuse_spin(const wh_oci_manifest *m, const char *reference, wh_err *err)
{
    size_t components = 0;
    bool spin = false;
    for (size_t i = 0; i < m->n_items; i++) {
        spin |= wh_starts_with(m->items[i].media_type, "application/vnd.fermyon.spin.");
        components += is_wasm_type(m->items[i].media_type) ? 1 : 0;
    }
    if (!spin)
        return 0;
    return wh_fail(err, -ENOTSUP, "%s is a Spin application of %zu component%s: not supported.", reference,
                   components, components == 1 ? "" : "s");
}

static int refuse_several(const wh_oci_manifest *m, const char *reference, bool wasm_only, wh_err *err)
{
    auto_buf wh_buf list;
    wh_buf_init(&list, (size_t)4 * LIST_BYTES_MAX);
    for (size_t i = 0; i < m->n_items && list.len < LIST_BYTES_MAX; i++)
        if (!wasm_only || is_wasm_type(m->items[i].media_type))
            (void)wh_buf_printf(&list, "%s%.90s", list.len > 0 ? ", " : "",
                                wasm_only && m->items[i].title != NULL ? m->items[i].title
                                                                       : m->items[i].media_type);
    if (wasm_only)
        return wh_fail(err, -ENOTSUP, "%s holds several Wasm layers, and nothing says which one to run: %s.",
                       reference, wh_buf_str(&list));
    return wh_fail(err, -ENOTSUP, "%s holds no Wasm layer and no root file system: its layers are %s.",
                   reference, wh_buf_str(&list));
}

static int refuse_what_is_no_workload(const wh_oci_manifest *m, const char *reference, wh_err *err)
{
    if (is_signature_type(m->artifact_type) || is_signature_type(m->config.media_type))
        return wh_fail(err, -ENOTSUP, "%s is a signature or attestation, not an image.", reference);
    if (wh_starts_with(m->config.media_type, "application/vnd.cncf.helm."))
        return wh_fail(err, -ENOTSUP, "%s is a Helm chart, not an image.", reference);
    if (m->n_items == 0)
        return wh_fail(err, -ENOTSUP, "%s has no layers: it holds nothing to run.", reference);
    int rc = refuse_spin(m, reference, err);
    for (size_t i = 0; rc == 0 && i < m->n_items; i++)
        rc = refuse_layer(&m->items[i], reference, err);
    if (rc == 0 && wh_streq(m->config.media_type, WH_TYPE_WASM_CONFIG) && m->n_items != 1)
        rc = wh_fail(err, -EBADMSG, "%s: a Wasm artifact has exactly one layer; this one has %zu.", reference,
                     m->n_items);
    return rc;
}

int wh_oci_manifest_plan(const wh_oci_manifest *m, const char *reference, wh_plan *ret, wh_err *err)
{
    wh_assert(!m->is_index);
    size_t wasm = 0, tars = 0, layer = 0;
    int rc = refuse_what_is_no_workload(m, reference, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < m->n_items; i++) {
        bool is_wasm = is_wasm_type(m->items[i].media_type);
        layer = is_wasm && wasm == 0 ? i : layer;
        wasm += is_wasm ? 1 : 0;
        tars += is_tar_type(m->items[i].media_type) ? 1 : 0;
    }
    if (wasm > 1)
        return refuse_several(m, reference, true, err);
    bool says_wasm = is_wasm_config_type(m->config.media_type) || is_wasm_config_type(m->artifact_type);
    if (wasm == 1)
        *ret = (wh_plan){.kind = WH_PLAN_MODULE, .layer = layer, .by_type = true};
    else if (tars == m->n_items)
        *ret = (wh_plan){.kind = WH_PLAN_ROOTFS, .by_type = says_wasm};
    else if (m->n_items == 1)
        *ret = (wh_plan){.kind = WH_PLAN_SNIFF, .by_type = true};
    else
        return refuse_several(m, reference, false, err);
    return 0;
}

static bool begins(const uint8_t *p, size_t n, const char *magic, size_t len)
{
    return n >= len && memcmp(p, magic, len) == 0;
}

static bool looks_like_text(const uint8_t *p, size_t n)
{
    size_t i = 0;
    while (i < n && (p[i] == ' ' || p[i] == '\t' || p[i] == '\r' || p[i] == '\n'))
        i++;
    return begins(p + i, n - i, "(module", 7) || begins(p + i, n - i, "(component", 10) ||
           begins(p + i, n - i, ";;", 2);
}

static void describe_bytes(const uint8_t *p, size_t n, char out[64])
{
    char hex[17];
    wh_hex(p, WH_MIN(n, (size_t)8), hex);
    if (begins(p, n, "\177ELF", 4))
        (void)snprintf(out, 64, "an ELF file (native or precompiled code)");
    else if (begins(p, n, "#!", 2))
        (void)snprintf(out, 64, "a script");
    else if (begins(p, n, "PK\3\4", 4))
        (void)snprintf(out, 64, "a zip archive");
    else if (begins(p, n, "{", 1) || begins(p, n, "[", 1))
        (void)snprintf(out, 64, "JSON text");
    else if (n == 0)
        (void)snprintf(out, 64, "an empty file");
    else
        (void)snprintf(out, 64, "a file that begins %s", hex);
}

wh_bytes_kind wh_bytes_sniff(const void *data, size_t n, wh_err *err)
{
    const uint8_t *p = data;
    char what[64];
    if (begins(p, n, "\0asm\1\0\0\0", 8))
        return WH_BYTES_MODULE;
    if (begins(p, n, "\0asm\15\0\1\0", 8))
        return WH_BYTES_COMPONENT;
    if (begins(p, n, "\0asm", 4)) {
        wh_hex(p + 4, WH_MIN(n - 4, (size_t)4), what);
        wh_fail_(err, -ENOTSUP,
                 "Wasm version bytes %s are unknown; known are 01000000 (module) and 0d000100 (component).",
                 n < 8 ? "that are cut off" : what);
        return WH_BYTES_REFUSED;
    }
    if (begins(p, n, "\x1f\x8b", 2) || begins(p, n, "\x28\xb5\x2f\xfd", 4) ||
        (n >= 262 && memcmp(p + 257, "ustar", 5) == 0))
        return WH_BYTES_TAR;
    if (looks_like_text(p, n))
        return WH_BYTES_TEXT;
    describe_bytes(p, n, what);
    wh_fail_(err, -EBADMSG, "not Wasm but %s.", what);
    return WH_BYTES_REFUSED;
}

static int check_layer_digests(const wh_image_config *config, const wh_oci_manifest *m, const char *reference,
                               wh_err *err)
{
    size_t n = wh_strv_len(config->layer_digests);
    bool same = n == 0 || n == m->n_items;
    for (size_t i = 0; same && i < n; i++)
        same = wh_streq(config->layer_digests[i], m->items[i].digest);
    if (!same)
        return wh_fail(err, -EBADMSG, "%s: 'layerDigests' of its config are not the layers of its manifest.",
                       reference);
    return 0;
}

int wh_image_config_check(const wh_image_config *config, const wh_oci_manifest *m, const wh_plan *plan,
                          const char *reference, wh_err *err)
{
    int rc = check_layer_digests(config, m, reference, err);
    if (rc < 0 || plan->by_type || m->compat || wh_platform_is_wasm(config->os, config->architecture))
        return rc;
    return wh_fail(err, -ENOENT, "no Wasm image in %s: found %.40s/%.40s.", reference,
                   config->os == NULL ? "unknown" : config->os,
                   config->architecture == NULL ? "unknown" : config->architecture);
}
