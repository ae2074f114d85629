/* SPDX-License-Identifier: Apache-2.0 */
/* Compiled code: content-addressed, authenticated, immutable. Whoever can change such a file can run native
 * code in a runner, so a file counts only with a MAC that this node's key made, over its bytes and everything
 * that we say of it. */
#include "base/file.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/record.h"
#include "engine/engine.h"
#include "image/store.h"
#include "prepare/prepare.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdio.h>

#define COMPILE_DEADLINE (10 * WH_MINUTE)
#define INSPECT_DEADLINE (60 * WH_SEC)
#define KEY_CHARS 64
#define MAC_BYTES 32
#define READ_STEP ((size_t)1 << 20)
#define FLAG_COMMAND 1
#define FLAG_REACTOR 2
#define FLAG_EGRESS 4
#define FLAG_SOCKETS 8
#define FLAG_KIND_SHIFT 4 /* wh_code_kind, from here on */
#define FALLBACK_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

typedef struct code_row {
    bool found;
    char *profile;
    int64_t flags, bytes;
    uint8_t mac[MAC_BYTES];
    size_t mac_bytes;
} code_row;

typedef struct code_key {
    char text[KEY_CHARS + 1];
    char *file;     /* "code/<key>.cwasm" */
    char *identity; /* of the compiler */
} code_key;

static const char *const kind_names[] = {
    [WH_CODE_MODULE] = WH_KIND_MODULE,   [WH_CODE_COMMAND] = WH_KIND_COMMAND,
    [WH_CODE_REACTOR] = WH_KIND_REACTOR, [WH_CODE_COMPONENT_COMMAND] = WH_KIND_COMPONENT_COMMAND,
    [WH_CODE_HTTP_P2] = WH_KIND_HTTP_P2, [WH_CODE_HTTP_P3] = WH_KIND_HTTP_P3,
};

const char *wh_code_kind_name(wh_code_kind kind)
{
    return (size_t)kind < WH_ARRAY_LEN(kind_names) ? kind_names[kind] : "unknown";
}

static void key_done(code_key *key)
{
    free(key->file);
    free(key->identity);
}

static int make_key(wh_store *store, const char *module, unsigned profile, code_key *ret, wh_err *err)
{
    char digest[WH_DIGEST_TEXT_MAX];
    code_key key = {0};
    int rc = wh_prepare_identity(store, &key.identity, err);
    if (rc < 0)
        return rc;
    auto_free char *text =
        wh_xasprintf("wherry code 2\n%s\n%s\n%s\n", module, wh_profile_name(profile), key.identity);
    rc = wh_digest_of(NULL, text, strlen(text), digest, err);
    if (rc < 0) {
        key_done(&key);
        return rc;
    }
    memcpy(key.text, wh_digest_hex(digest), KEY_CHARS + 1);
    key.file = wh_xasprintf("code/%s.cwasm", key.text);
    *ret = key;
    return 0;
}

/* ---- authentication ---- */

static int mac_file(EVP_MAC_CTX *ctx, int fd)
{
    auto_free uint8_t *step = malloc(READ_STEP);
    if (step == NULL)
        return -ENOMEM;
    for (off_t at = 0;;) {
        ssize_t n = pread(fd, step, READ_STEP, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return 0;
        if (EVP_MAC_update(ctx, step, (size_t)n) != 1)
            return -EIO;
        at += n;
    }
}

/* HMAC-SHA256 over what the row says, each with its length, and the file. */
static int compute_mac(const wh_store *store, const char *key, const char *profile, int64_t flags, int fd,
                       uint8_t mac[MAC_BYTES], wh_err *err)
{
    char name[] = "SHA256";
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name, 0),
                                 OSSL_PARAM_construct_end()};
    auto_free char *head =
        wh_xasprintf("%zu:%s,%zu:%s,%lld\n", strlen(key), key, strlen(profile), profile, (long long)flags);
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *ctx = hmac == NULL ? NULL : EVP_MAC_CTX_new(hmac);
    size_t n = 0;
    int rc = -EIO;
    if (ctx != NULL && EVP_MAC_init(ctx, store->node_key, WH_NODE_KEY_BYTES, params) == 1 &&
        EVP_MAC_update(ctx, (const uint8_t *)head, strlen(head)) == 1)
        rc = mac_file(ctx, fd);
    if (rc == 0 && (EVP_MAC_final(ctx, mac, &n, MAC_BYTES) != 1 || n != MAC_BYTES))
        rc = -EIO;
    EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(hmac);
    return rc < 0 ? wh_fail(err, rc, "authenticate '%s/code/%s.cwasm'", store->dir, key) : 0;
}

static wh_seen_code seen_of(const struct stat *st, const char *key)
{
    wh_seen_code seen = {.dev = st->st_dev,
                         .inode = st->st_ino,
                         .size = st->st_size,
                         .ctime_ns = (int64_t)st->st_ctim.tv_sec * WH_SEC + st->st_ctim.tv_nsec};
    memcpy(seen.key, key, KEY_CHARS + 1);
    return seen;
}

static bool was_seen(wh_store *store, const wh_seen_code *code)
{
    bool found = false;
    (void)pthread_mutex_lock(&store->lock);
    for (size_t i = 0; !found && i < store->n_seen_code; i++) {
        const wh_seen_code *s = &store->seen_code[i];
        found = s->inode == code->inode && s->dev == code->dev && s->size == code->size &&
                s->ctime_ns == code->ctime_ns && wh_streq(s->key, code->key);
    }
    (void)pthread_mutex_unlock(&store->lock);
    return found;
}

static void mark_seen(wh_store *store, const wh_seen_code *code)
{
    (void)pthread_mutex_lock(&store->lock);
    if (store->seen_code == NULL)
        store->seen_code = wh_xcalloc(WH_SEEN_CODE_MAX, sizeof(*store->seen_code));
    if (store->n_seen_code == WH_SEEN_CODE_MAX) /* full: start over, each costs one more hash */
        store->n_seen_code = 0;
    store->seen_code[store->n_seen_code++] = *code;
    (void)pthread_mutex_unlock(&store->lock);
}

/* ---- looking up ---- */

static int take_code(void *user, sqlite3_stmt *row)
{
    code_row *r = user;
    r->found = true;
    r->profile = wh_db_text(row, 0);
    r->flags = sqlite3_column_int64(row, 1);
    r->mac_bytes = (size_t)sqlite3_column_bytes(row, 2);
    r->bytes = sqlite3_column_int64(row, 3);
    if (r->mac_bytes == MAC_BYTES)
        memcpy(r->mac, sqlite3_column_blob(row, 2), MAC_BYTES);
    return 0;
}

static int read_row(wh_store *store, const char *key, code_row *ret, wh_err *err)
{
    wh_time now = wh_real_now();
    int rc = wh_db_begin(store, false, err);
    if (rc < 0)
        return rc;
    rc = wh_db_run(store, err, take_code, ret, "SELECT profile, flags, mac, bytes FROM code WHERE key=?1",
                   "s", key);
    if (rc >= 0 && ret->found)
        rc = wh_db_run(store, err, NULL, NULL, "UPDATE code SET used=?1 WHERE key=?2 AND used<?3", "isi", now,
                       key, now - WH_STORE_TOUCH);
    return wh_db_end(store, rc, err);
}

/* 0 when the file is what this node made; -EUCLEAN when it is anything else. */
static int verify(wh_store *store, const code_key *key, const code_row *row, int fd, wh_err *err)
{
    struct stat st;
    uint8_t mac[MAC_BYTES];
    if (fstat(fd, &st) < 0)
        return wh_fail(err, -errno, "look at '%s/%s'", store->dir, key->file);
    bool sound = S_ISREG(st.st_mode) && (st.st_mode & 0222) == 0 && st.st_size == row->bytes &&
                 row->mac_bytes == MAC_BYTES;
    if (!sound)
        return -EUCLEAN;
    wh_seen_code seen = seen_of(&st, key->text);
    if (was_seen(store, &seen))
        return 0;
    int rc = compute_mac(store, key->text, row->profile, row->flags, fd, mac, err);
    if (rc < 0)
        return rc;
    if (CRYPTO_memcmp(mac, row->mac, MAC_BYTES) != 0)
        return -EUCLEAN;
    mark_seen(store, &seen);
    return 0;
}

static void fill(wh_code *ret, int fd, unsigned profile, const char *module, int64_t flags, char *cached)
{
    *ret = (wh_code){.fd = fd,
                     .profile = profile,
                     .kind = (wh_code_kind)(flags >> FLAG_KIND_SHIFT),
                     .egress = (flags & FLAG_EGRESS) != 0,
                     .sockets = (flags & FLAG_SOCKETS) != 0,
                     .module_digest = wh_xstrdup(module),
                     .is_command = (flags & FLAG_COMMAND) != 0,
                     .is_reactor = (flags & FLAG_REACTOR) != 0,
                     .cached = cached};
}

/* 1: found and sound; 0: to be compiled, `ret_damaged` when something was there that must not be used. */
static int look_up(wh_store *store, const code_key *key, const char *module, wh_code *ret, bool *ret_damaged,
                   wh_err *err)
{
    code_row row = {0};
    unsigned profile;
    int rc = read_row(store, key->text, &row, err);
    if (rc == 0 && row.found) {
        auto_close int fd = openat(store->dirfd, key->file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0)
            rc = verify(store, key, &row, fd, err);
        else if (errno == ENOENT)
            row.found = false;
        else
            rc = -EUCLEAN;
        if (rc == 0 && row.found && wh_profile_parse(row.profile, &profile) < 0)
            rc = -EUCLEAN;
        if (rc == 0 && row.found)
            fill(ret, WH_TAKE_FD(fd), profile, module, row.flags, wh_xstrdup("hit"));
    }
    free(row.profile);
    if (rc == -EUCLEAN) {
        wh_log(WARN, "compiled code failed its authentication and is compiled again",
               KV_STR("key", key->text), KV_STR("module", module));
        *ret_damaged = true;
        return 0;
    }
    return rc < 0 ? rc : row.found;
}

/* ---- compiling ---- */

static int64_t record_flag(const wh_buf *record, const char *key)
{
    int64_t value = 0;
    return wh_record_get_i64(record->p, record->len, key, 0, 1, &value, NULL) == 0 ? value : 0;
}

static int64_t flags_of(const wh_buf *record)
{
    int64_t flags =
        record_flag(record, "command") * FLAG_COMMAND + record_flag(record, "reactor") * FLAG_REACTOR +
        record_flag(record, "egress") * FLAG_EGRESS + record_flag(record, "sockets") * FLAG_SOCKETS;
    auto_free char *kind = NULL;
    if (wh_record_get_str(record->p, record->len, "kind", &kind, NULL) < 0)
        return flags;
    for (size_t i = 0; i < WH_ARRAY_LEN(kind_names); i++) {
        if (wh_streq(kind, kind_names[i]))
            flags |= (int64_t)i << FLAG_KIND_SHIFT;
    }
    return flags;
}

static int keep_code(wh_store *store, const code_key *key, const char *module, const wh_buf *record,
                     const char *temp, int fd, wh_err *err)
{
    uint8_t mac[MAC_BYTES];
    struct stat st = {0};
    auto_free char *profile = NULL;
    int64_t flags = flags_of(record);
    int rc = wh_record_get_str(record->p, record->len, "profile", &profile, err);
    if (rc == 0)
        rc = compute_mac(store, key->text, profile, flags, fd, mac, err);
    if (rc == 0 && fstat(fd, &st) < 0)
        rc = wh_fail(err, -errno, "look at '%s/%s'", store->dir, temp);
    if (rc == 0)
        rc = wh_store_place(store, temp, fd, key->file, err);
    if (rc == 0)
        rc = wh_db_begin(store, true, err);
    if (rc < 0)
        return rc;
    rc = wh_db_run(store, err, NULL, NULL,
                   "INSERT OR REPLACE INTO code(key, module, profile, flags, mac, bytes, used)"
                   " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                   "sssibii", key->text, module, profile, flags, (const void *)mac, sizeof(mac),
                   (int64_t)st.st_size, wh_real_now());
    return wh_db_end(store, rc, err);
}

static int compile(wh_store *store, const code_key *key, const char *module, int wasm, unsigned profile,
                   wh_err *err)
{
    auto_free char *temp = NULL;
    auto_close int out = -1;
    auto_buf wh_buf record;
    const char *const args[] = {"compile", wh_profile_name(profile), NULL};
    int rc = wh_store_temp(store, &temp, &out, err);
    if (rc < 0)
        return rc;
    wh_buf_init(&record, WH_PREPARE_RESULT_BYTES_MAX);
    const wh_prepare_job job = {.args = args, .in = wasm, .out = out, .deadline = COMPILE_DEADLINE};
    rc = wh_prepare_run(store, &job, &record, err);
    if (rc == 0)
        rc = keep_code(store, key, module, &record, temp, out, err);
    if (rc < 0)
        (void)unlinkat(store->dirfd, temp, 0);
    return rc;
}

/* What is compiled has the digest that the code is kept under. */
static int check_wasm(int fd, const char *module, wh_err *err)
{
    char found[WH_DIGEST_TEXT_MAX];
    int rc = wh_digest_of_fd(module, fd, found, err);
    if (rc == 0 && strcmp(found, module) != 0)
        rc = wh_fail(err, -EUCLEAN, "module %s in the store is damaged; remove the image and pull it again.",
                     module);
    return rc;
}

static int get_code(wh_store *store, const char *module, int wasm, unsigned profile, wh_code *ret,
                    wh_err *err)
{
    code_key key;
    bool damaged = false;
    auto_close int lock = -1;
    int rc = make_key(store, module, profile, &key, err);
    if (rc < 0)
        return rc;
    rc = look_up(store, &key, module, ret, &damaged, err);
    if (rc == 0) {
        rc = wh_store_lock(store, key.text, &lock, err);
        if (rc == 0) /* somebody else may have compiled it meanwhile */
            rc = look_up(store, &key, module, ret, &damaged, err);
        wh_time start = wh_mono_now();
        if (rc == 0)
            rc = check_wasm(wasm, module, err);
        if (rc == 0)
            rc = compile(store, &key, module, wasm, profile, err);
        long long ms = (long long)((wh_mono_now() - start) / WH_MSEC);
        bool again;
        if (rc == 0 && lock >= 0)
            rc = look_up(store, &key, module, ret, &again, err);
        else if (rc == 1)
            ms = -1;
        if (rc == 1 && ms >= 0) {
            free(ret->cached);
            ret->cached =
                wh_xasprintf("compiled in %lld ms%s", ms, damaged ? " (what the store had was damaged)" : "");
        }
    }
    key_done(&key);
    if (rc == 0)
        return wh_fail(err, -EIO, "code that was just compiled is not in the store.");
    return WH_MIN(rc, 0);
}

/* ---- which module ---- */

/* The candidates for a program name, as a shell would look: absolute, with a slash from working_dir, else
 * PATH. */
static wh_strv candidates(const wh_image *image, const char *program)
{
    wh_strv list = NULL;
    const char *folder = image->working_dir == NULL ? "/" : image->working_dir;
    const char *path = FALLBACK_PATH;
    if (program[0] == '/') {
        wh_strv_push(&list, program);
        return list;
    }
    wh_strv_push_take(&list, wh_path_join(folder, program));
    if (strchr(program, '/') != NULL)
        return list;
    for (size_t i = 0; i < wh_strv_len(image->env); i++)
        if (wh_starts_with(image->env[i], "PATH="))
            path = image->env[i] + 5;
    for (wh_str rest = wh_str_of(path), part; wh_str_split(&rest, ':', &part);) {
        auto_free char *dir = wh_xstrndup(part.p, part.n);
        if (*dir == '/')
            wh_strv_push_take(&list, wh_path_join(dir, program));
    }
    return list;
}

static int open_program(const wh_image *image, const char *program, char **ret_path, int *ret_fd, wh_err *err)
{
    auto_close int root = open(image->rootfs, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return wh_fail(err, -errno, "open '%s'", image->rootfs);
    auto_strv wh_strv list = candidates(image, program);
    for (size_t i = 0; i < wh_strv_len(list); i++) {
        struct stat st;
        auto_close int fd = wh_openat2(root, list[i], O_RDONLY | O_NONBLOCK | O_NOCTTY, 0,
                                       RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
            continue;
        *ret_path = wh_xstrdup(list[i]);
        *ret_fd = WH_TAKE_FD(fd);
        return 0;
    }
    return wh_fail(err, -ENOENT, "'%.120s' is no file in the image's root file system (looked for %s%s).",
                   program, list[0], wh_strv_len(list) > 1 ? ", and in its PATH" : "");
}

static int take_module(void *user, sqlite3_stmt *row)
{
    *(char **)user = wh_db_text(row, 0);
    return 0;
}

/* The digest of a program in a tree; computed once, since trees do not change. */
static int program_digest(wh_store *store, const wh_image *image, const char *path, int fd, char **ret,
                          wh_err *err)
{
    auto_free char *known = NULL;
    char digest[WH_DIGEST_TEXT_MAX];
    int rc = wh_db_begin(store, false, err);
    if (rc < 0)
        return rc;
    rc = wh_db_run(store, err, take_module, &known, "SELECT module FROM program WHERE image=?1 AND path=?2",
                   "ss", image->digest, path);
    rc = wh_db_end(store, rc, err);
    if (rc == 0 && known != NULL) {
        *ret = WH_TAKE(known);
        return 0;
    }
    if (rc == 0)
        rc = wh_digest_of_fd(NULL, fd, digest, err);
    if (rc == 0)
        rc = wh_db_begin(store, false, err);
    if (rc < 0)
        return rc;
    rc = wh_db_run(store, err, NULL, NULL,
                   "INSERT OR REPLACE INTO program(image, path, module) VALUES(?1, ?2, ?3)", "sss",
                   image->digest, path, digest);
    rc = wh_db_end(store, rc, err);
    if (rc == 0)
        *ret = wh_xstrdup(digest);
    return rc;
}

/* The binary of an image, open, and its digest. */
static int open_module(wh_store *store, const wh_image *image, const char *program, char **ret_digest,
                       int *ret_fd, wh_err *err)
{
    auto_free char *path = NULL;
    uint64_t bytes;
    if (image->form == WH_IMAGE_MODULE) {
        int rc = wh_store_blob_open(store, image->module_digest, ret_fd, &bytes, err);
        if (rc == 0)
            *ret_digest = wh_xstrdup(image->module_digest);
        return rc;
    }
    if (program == NULL || *program == '\0')
        return wh_fail(err, -EINVAL,
                       "the image does not say what to run, and neither does the pod: give it a command.");
    int rc = open_program(image, program, &path, ret_fd, err);
    return rc < 0 ? rc : program_digest(store, image, path, *ret_fd, ret_digest, err);
}

int wh_image_code(wh_store *store, const wh_image *image, const char *program, unsigned profile, wh_code *ret,
                  wh_image_error *error)
{
    auto_free char *module = NULL;
    auto_close int wasm = -1;
    *error = (wh_image_error){0};
    int rc = open_module(store, image, program, &module, &wasm, &error->err);
    if (rc == 0)
        rc = get_code(store, module, wasm, profile, ret, &error->err);
    if (rc < 0) {
        (void)wh_wrap(&error->err, "%.100s",
                      image->form == WH_IMAGE_MODULE || program == NULL ? image->title : program);
        error->reason = "CreateContainerError";
    }
    return rc;
}

void wh_code_done(wh_code *code)
{
    if (code->fd >= 0)
        close(code->fd);
    free(code->module_digest);
    free(code->cached);
    *code = (wh_code){.fd = -1};
}

/* ---- inspecting ---- */

static void add_names(json_t *j, const wh_buf *record, const char *field_key, const char *name)
{
    wh_field field;
    json_t *list = json_array();
    wh_record_iter it = wh_record_begin(record->p, record->len);
    while (wh_record_next(&it, &field)) {
        if (!wh_field_is(&field, field_key) || field.value.n < 2)
            continue;
        static const struct {
            char letter;
            const char *word;
        } kinds[] = {{'f', "function"}, {'m', "memory"},   {'t', "table"},     {'g', "global"},
                     {'e', "tag"},      {'i', "instance"}, {'c', "component"}, {'v', "value"}};
        const char *word = "?";
        for (size_t i = 0; i < WH_ARRAY_LEN(kinds); i++)
            word = field.value.p[0] == kinds[i].letter ? kinds[i].word : word;
        json_t *item = json_pack("{s:s, s:s%}", "kind", word, "name", field.value.p + 2, field.value.n - 2);
        if (item != NULL)
            json_array_append_new(list, item);
    }
    json_object_set_new(j, name, list);
}

static json_t *strings(char *const *list)
{
    json_t *array = json_array();
    for (size_t i = 0; i < wh_strv_len(list); i++)
        json_array_append_new(array, wh_json_string(list[i]));
    return array;
}

static json_t *describe_image(const wh_image *image)
{
    json_t *j = json_object();
    json_object_set_new(j, "reference", wh_json_string(image->reference));
    json_object_set_new(j, "id", wh_json_string(image->image_id));
    json_object_set_new(j, "digest", wh_json_string(image->digest));
    json_object_set_new(j, "form", wh_json_string(image->form == WH_IMAGE_MODULE ? "module" : "rootfs"));
    json_object_set_new(j, "title", wh_json_string(image->title));
    json_object_set_new(j, "module", wh_json_string(image->module_digest));
    json_object_set_new(j, "bytes", json_integer((json_int_t)image->bytes));
    json_object_set_new(j, "entrypoint", strings(image->entrypoint));
    json_object_set_new(j, "cmd", strings(image->cmd));
    json_object_set_new(j, "env", strings(image->env));
    json_object_set_new(j, "exposedPorts", strings(image->exposed_ports));
    json_object_set_new(j, "workingDir", wh_json_string(image->working_dir));
    json_object_set_new(j, "user", wh_json_string(image->user));
    json_object_set_new(j, "stopSignal", wh_json_string(image->stop_signal));
    return j;
}

static void describe_module(json_t *j, const wh_buf *record)
{
    int64_t pages;
    auto_free char *missing = NULL;
    add_names(j, record, "import", "imports");
    add_names(j, record, "export", "exports");
    auto_free char *kind = NULL;
    if (wh_record_get_str(record->p, record->len, "kind", &kind, NULL) == 0)
        json_object_set_new(j, "kind", wh_json_string(kind));
    json_object_set_new(j, "command", json_boolean(record_flag(record, "command")));
    json_object_set_new(j, "reactor", json_boolean(record_flag(record, "reactor")));
    if (wh_record_get_i64(record->p, record->len, "memory_min", 0, INT64_MAX, &pages, NULL) == 0)
        json_object_set_new(j, "memoryMinPages", json_integer(pages));
    if (wh_record_get_i64(record->p, record->len, "memory_max", 0, INT64_MAX, &pages, NULL) == 0)
        json_object_set_new(j, "memoryMaxPages", json_integer(pages));
    if (wh_record_get_str(record->p, record->len, "missing", &missing, NULL) == 0)
        json_object_set_new(j, "missingImports", wh_json_string(missing));
}

int wh_image_inspect(wh_store *store, const char *reference, char **ret_json, wh_err *err)
{
    auto_image wh_image *image = NULL;
    auto_free char *module = NULL;
    auto_close int wasm = -1;
    auto_buf wh_buf record;
    wh_err why = {0};
    int rc = wh_image_find(store, reference, &image, err);
    if (rc < 0)
        return rc;
    wh_buf_init(&record, WH_PREPARE_RESULT_BYTES_MAX);
    auto_json json_t *j = describe_image(image);
    const char *program = image->entrypoint != NULL ? image->entrypoint[0]
                          : image->cmd != NULL      ? image->cmd[0]
                                                    : NULL;
    rc = open_module(store, image, program, &module, &wasm, &why);
    if (rc == 0) {
        const char *const args[] = {"inspect", NULL};
        const wh_prepare_job job = {.args = args, .in = wasm, .out = -1, .deadline = INSPECT_DEADLINE};
        json_object_set_new(j, "module", wh_json_string(module));
        rc = wh_prepare_run(store, &job, &record, &why);
    }
    if (rc == 0)
        describe_module(j, &record);
    else
        json_object_set_new(j, "problem", wh_json_string(why.msg));
    *ret_json = wh_json_dump(j);
    return 0;
}
