/* SPDX-License-Identifier: Apache-2.0 */
/* wherry image ...: the store, without an agent. */
#include "image/image.h"
#include "base/file.h"
#include "base/json.h"
#include "cmd/cmd.h"
#include "engine/engine.h"
#include "node/paths.h"

#include <stdio.h>
#include <sys/ioctl.h>

static struct {
    const char *auth_file, *output;
    bool plain_http, quiet, shared, force;
    int64_t max_age;
    uint64_t high, low;
} opt = {.output = "table", .high = 85, .low = 80};

#define REGISTRY_OPTIONS                                                                                     \
    {"auth-file", 0, WH_OPT_STR, &opt.auth_file, "FILE", "Take credentials from this docker configuration"}, \
        {"plain-http", 0, WH_OPT_FLAG, &opt.plain_http, NULL, "Allow a registry without TLS"},               \
    {                                                                                                        \
        "quiet", 'q', WH_OPT_FLAG, &opt.quiet, NULL, "Print no progress"                                     \
    }

static const wh_opt pull_table[] = {REGISTRY_OPTIONS, WH_CMD_DIR_OPTIONS, {0}};
static const wh_opt plain_table[] = {WH_CMD_DIR_OPTIONS, {0}};
static const wh_opt list_table[] = {
    {"output", 'o', WH_OPT_STR, &opt.output, "table|json", "How to print"}, WH_CMD_DIR_OPTIONS, {0}};
static const wh_opt compile_table[] = {{"shared", 0, WH_OPT_FLAG, &opt.shared, NULL,
                                        "Compile with deadline checks, as functions and filters use"},
                                       REGISTRY_OPTIONS,
                                       WH_CMD_DIR_OPTIONS,
                                       {0}};
static const wh_opt gc_table[] = {
    {"max-age", 0, WH_OPT_DURATION, &opt.max_age, "TIME", "Remove what was not used for so long, e.g. 720h"},
    {"high", 0, WH_OPT_U64, &opt.high, "PERCENT", "Begin when the disk is fuller than this (85)"},
    {"low", 0, WH_OPT_U64, &opt.low, "PERCENT", "Stop when it is down to this (80)"},
    WH_CMD_DIR_OPTIONS,
    {0}};

static const wh_opt *pull_options(void)
{
    return pull_table;
}

static const wh_opt *plain_options(void)
{
    return plain_table;
}

static const wh_opt *list_options(void)
{
    return list_table;
}

static const wh_opt *compile_options(void)
{
    return compile_table;
}

static const wh_opt *gc_options(void)
{
    return gc_table;
}

static int open_store(wh_store **ret, wh_err *err)
{
    wh_paths paths = {0};
    int rc = wh_paths_init(&paths, wh_cmd_dirs_given.root, wh_cmd_dirs_given.run, NULL, err);

    if (rc < 0)
        return rc;
    rc = wh_store_open(paths.images, paths.prepare, ret, err);
    wh_paths_done(&paths);
    return rc;
}

/* One line on a terminal, rewritten at most ten times a second. */
static bool show_progress(void *user, uint64_t done, uint64_t total, const char *what)
{
    static wh_time last;
    char a[16], b[16];
    wh_time now = wh_mono_now();

    (void)user;
    if (opt.quiet || !isatty(STDERR_FILENO) || (now - last < 100 * WH_MSEC && done != total))
        return false;
    last = now;
    fprintf(stderr, "\r\033[K%s %s of %s", what, wh_human_bytes(done, a), wh_human_bytes(total, b));
    if (done == total)
        fputs("\r\033[K", stderr);
    return false;
}

static int pull_image(wh_store *store, const char *reference, wh_pull_policy policy, wh_image **ret,
                      wh_err *err)
{
    wh_pull_options pull = {.policy = policy,
                            .auth_file = opt.auth_file,
                            .plain_http = opt.plain_http,
                            .progress = show_progress};
    wh_image_error failure = {0};
    int rc = wh_image_pull(store, reference, &pull, ret, &failure);

    if (rc < 0)
        *err = failure.err;
    return rc;
}

static int pull(int argc, char **argv)
{
    wh_err err = {0};
    wh_store *store = NULL;

    if (argc < 1)
        return wh_cmd_usage("image pull: which image?");
    if (open_store(&store, &err) < 0)
        return wh_cmd_fail(&err);
    int code = 0;
    for (int i = 0; code == 0 && i < argc; i++) {
        auto_image wh_image *image = NULL;
        if (pull_image(store, argv[i], WH_PULL_ALWAYS, &image, &err) < 0)
            code = wh_cmd_fail(&err);
        else
            printf("%s\n", image->image_id);
    }
    wh_store_close(store);
    return code;
}

static int push(int argc, char **argv)
{
    wh_err err = {0};
    wh_store *store = NULL;
    auto_free char *digest = NULL;
    wh_pull_options options = {
        .auth_file = opt.auth_file, .plain_http = opt.plain_http, .progress = show_progress};

    if (argc != 2)
        return wh_cmd_usage("image push: takes FILE.wasm and REFERENCE");
    if (open_store(&store, &err) < 0 || wh_image_push(store, argv[0], argv[1], &options, &digest, &err) < 0)
        return wh_cmd_fail(&err);
    printf("%s@%s\n", argv[1], digest);
    wh_store_close(store);
    return 0;
}

static int inspect(int argc, char **argv)
{
    wh_err err = {0};
    wh_store *store = NULL;
    auto_free char *text = NULL;
    auto_json json_t *body = NULL;

    if (argc != 1)
        return wh_cmd_usage("image inspect: takes one image or file");
    if (open_store(&store, &err) < 0 || wh_image_inspect(store, argv[0], &text, &err) < 0)
        return wh_cmd_fail(&err);
    wh_store_close(store);
    if (wh_json_parse(text, strlen(text), &body, &err) < 0)
        return wh_cmd_fail(&err);
    char *pretty = json_dumps(body, JSON_INDENT(2));
    puts(pretty != NULL ? pretty : text);
    free(pretty);
    return 0;
}

static void print_rows(const wh_image_row *rows, size_t n)
{
    char size[16], time[WH_RFC3339_LEN];

    printf("%-50s %-21s %10s  %-20s %s\n", "IMAGE", "DIGEST", "SIZE", "USED", "");
    for (size_t i = 0; i < n; i++)
        printf("%-50s %-21.19s %10s  %-20s %s\n", rows[i].reference, rows[i].digest,
               wh_human_bytes(rows[i].bytes, size), wh_rfc3339(rows[i].used, 0, time),
               rows[i].in_use ? "in use" : "");
}

static void print_rows_json(const wh_image_row *rows, size_t n)
{
    char pulled[WH_RFC3339_LEN], used[WH_RFC3339_LEN];
    auto_json json_t *list = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:I, s:s, s:s, s:b}", "reference", rows[i].reference,
                                        "digest", rows[i].digest, "bytes", (json_int_t)rows[i].bytes,
                                        "pulled", wh_rfc3339(rows[i].pulled, 0, pulled), "used",
                                        wh_rfc3339(rows[i].used, 0, used), "inUse", rows[i].in_use));
    auto_free char *text = wh_json_dump(list);
    puts(text);
}

static int list(int argc, char **argv)
{
    wh_err err = {0};
    wh_store *store = NULL;
    wh_image_row *rows = NULL;
    size_t n = 0;

    (void)argv;
    if (argc != 0)
        return wh_cmd_usage("image ls: takes no arguments");
    if (open_store(&store, &err) < 0 || wh_store_list(store, &rows, &n, &err) < 0)
        return wh_cmd_fail(&err);
    if (wh_streq(opt.output, "json"))
        print_rows_json(rows, n);
    else
        print_rows(rows, n);
    wh_image_rows_free(rows, n);
    wh_store_close(store);
    return 0;
}

static int remove_images(int argc, char **argv)
{
    wh_err err = {0};
    wh_store *store = NULL;

    if (argc < 1)
        return wh_cmd_usage("image rm: which image?");
    if (open_store(&store, &err) < 0)
        return wh_cmd_fail(&err);
    int code = 0;
    for (int i = 0; i < argc; i++)
        if (wh_store_remove(store, argv[i], &err) < 0)
            code = wh_cmd_fail(&err);
    wh_store_close(store);
    return code;
}

static int compile(int argc, char **argv)
{
    wh_err err = {0};
    wh_store *store = NULL;
    wh_code code = {.fd = -1};
    wh_image_error failure = {0};
    auto_image wh_image *image = NULL;

    if (argc < 1 || argc > 2)
        return wh_cmd_usage(
            "image compile: takes one image or file, and for an image with several modules the program");
    if (open_store(&store, &err) < 0 || pull_image(store, argv[0], WH_PULL_IF_NOT_PRESENT, &image, &err) < 0)
        return wh_cmd_fail(&err);
    if (wh_image_code(store, image, argc > 1 ? argv[1] : NULL,
                      opt.shared ? WH_PROFILE_SHARED : WH_PROFILE_POD, &code, &failure) < 0)
        return wh_cmd_fail(&failure.err);
    printf("%s %s (%s)\n", code.module_digest, wh_profile_name(code.profile), code.cached);
    wh_code_done(&code);
    wh_store_close(store);
    return 0;
}

static int collect(int argc, char **argv)
{
    wh_err err = {0};
    wh_store *store = NULL;
    uint64_t freed = 0;
    char size[16];
    wh_gc_policy policy = {.min_age = 2 * WH_MINUTE, .max_age = opt.max_age};

    (void)argv;
    if (argc != 0)
        return wh_cmd_usage("image gc: takes no arguments");
    if (opt.high > 100 || opt.low > opt.high)
        return wh_cmd_usage("image gc: --low %d and --high %d must be percentages, low first", (int)opt.low,
                            (int)opt.high);
    policy.high_percent = (unsigned)opt.high;
    policy.low_percent = (unsigned)opt.low;
    if (open_store(&store, &err) < 0 || wh_store_gc(store, &policy, &freed, &err) < 0)
        return wh_cmd_fail(&err);
    printf("freed %s\n", wh_human_bytes(freed, size));
    wh_store_close(store);
    return 0;
}

const wh_verb wh_cmd_image_pull = {
    .name = "image pull",
    .args = "IMAGE...",
    .summary = "Fetch images into the store",
    .detail = "IMAGE is a registry reference, oci:FOLDER[:TAG], oci-archive:FILE[:TAG], or a\n"
              ".wasm or .wat file.",
    .options = pull_options,
    .run = pull};
const wh_verb wh_cmd_image_push = {.name = "image push",
                                   .args = "FILE.wasm REFERENCE",
                                   .summary = "Push a module to a registry as a Wasm artifact",
                                   .options = pull_options,
                                   .run = push};
const wh_verb wh_cmd_image_inspect = {.name = "image inspect",
                                      .args = "IMAGE|FILE",
                                      .summary = "Show an image's manifest, imports and exports as JSON",
                                      .options = plain_options,
                                      .run = inspect};
const wh_verb wh_cmd_image_ls = {.name = "image ls",
                                 .args = "",
                                 .summary = "List the images of the store",
                                 .options = list_options,
                                 .run = list};
const wh_verb wh_cmd_image_rm = {.name = "image rm",
                                 .args = "IMAGE...",
                                 .summary = "Remove images that no pod uses",
                                 .options = plain_options,
                                 .run = remove_images};
const wh_verb wh_cmd_image_compile = {.name = "image compile",
                                      .args = "IMAGE|FILE [PROGRAM]",
                                      .summary = "Compile an image's module ahead of its first start",
                                      .options = compile_options,
                                      .run = compile};
const wh_verb wh_cmd_image_gc = {.name = "image gc",
                                 .args = "",
                                 .summary = "Remove unused images by age and disk pressure",
                                 .options = gc_options,
                                 .run = collect};
