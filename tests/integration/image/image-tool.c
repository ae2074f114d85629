/* SPDX-License-Identifier: Apache-2.0 */
/* Drives the image library for tests/integration/image: one verb per call, results as lines on standard
 * output, errors as "reason: sentence" on standard error with exit code 1.
 *
 *     image-tool STORE PREPARE [OPTION]... VERB ARG...
 *
 * Options: --auth FILE, --registries FILE, --plain, --policy always|missing|never.
 *
 * Verbs: pull REF; find REF; code REF [PROGRAM [PROFILE]]; hits REF N (average time of N look-ups); push FILE REF; ls;
 * rm REF; gc [MIN_AGE_S [HIGH LOW [STRAY_AGE_S]]]; lease HOLDER REF; release HOLDER; leases; inspect REF. */
#include "base/log.h"
#include "engine/engine.h"
#include "image/image.h"

#include <stdio.h>

static wh_store *store;
static wh_pull_options options = {.policy = WH_PULL_IF_NOT_PRESENT};

static int complain(const wh_err *err)
{
    (void)fprintf(stderr, "%d: %s\n", err->code, err->msg);
    return 1;
}

static int complain_reason(const wh_image_error *error)
{
    (void)fprintf(stderr, "%s: %s\n", error->reason == NULL ? "?" : error->reason, error->err.msg);
    return 1;
}

static void print_list(const char *name, char *const *list)
{
    for (size_t i = 0; i < wh_strv_len(list); i++)
        (void)printf("%s %s\n", name, list[i]);
}

static void print_image(const wh_image *image)
{
    (void)printf("digest %s\nid %s\nform %s\nmodule %s\ntitle %s\nrootfs %s\nbytes %llu\n", image->digest,
                 image->image_id, image->form == WH_IMAGE_MODULE ? "module" : "rootfs",
                 image->module_digest == NULL ? "-" : image->module_digest, image->title,
                 image->rootfs == NULL ? "-" : image->rootfs, (unsigned long long)image->bytes);
    print_list("entrypoint", image->entrypoint);
    print_list("cmd", image->cmd);
    print_list("env", image->env);
    print_list("port", image->exposed_ports);
    if (image->working_dir != NULL)
        (void)printf("workdir %s\n", image->working_dir);
}

static int pull(const char *reference, wh_image **ret)
{
    wh_image_error error = {0};
    return wh_image_pull(store, reference, &options, ret, &error) < 0 ? complain_reason(&error) : 0;
}

static int do_pull(char **args)
{
    auto_image wh_image *image = NULL;
    int rc = pull(args[0], &image);
    if (rc == 0)
        print_image(image);
    return rc;
}

static int do_find(char **args)
{
    wh_err err = {0};
    auto_image wh_image *image = NULL;
    if (wh_image_find(store, args[0], &image, &err) < 0)
        return complain(&err);
    print_image(image);
    return 0;
}

static int do_code(char **args)
{
    wh_image_error error = {0};
    wh_err err = {0};
    auto_image wh_image *image = NULL;
    wh_code code = {.fd = -1};
    unsigned profile = WH_PROFILE_POD;
    const char *program = args[1];
    if (wh_image_find(store, args[0], &image, &err) < 0)
        return complain(&err);
    if (program != NULL && args[2] != NULL && wh_profile_parse(args[2], &profile) < 0)
        return 2;
    if (program == NULL && image->entrypoint != NULL)
        program = image->entrypoint[0];
    if (wh_image_code(store, image, program, profile, &code, &error) < 0)
        return complain_reason(&error);
    (void)printf("cached %s\nprofile %s\nmodule %s\ncommand %d\nreactor %d\n", code.cached,
                 wh_profile_name(code.profile), code.module_digest, code.is_command, code.is_reactor);
    wh_code_done(&code);
    return 0;
}

/* What the start of a pod costs that has its image and its code here. */
static int do_hits(char **args)
{
    wh_image_error error = {0};
    wh_err err = {0};
    uint64_t n;
    if (wh_parse_u64(args[1], 1000000, &n) < 0 || n == 0)
        return 2;
    wh_time start = wh_mono_now();
    for (uint64_t i = 0; i < n; i++) {
        auto_image wh_image *image = NULL;
        wh_code code = {.fd = -1};
        if (wh_image_find(store, args[0], &image, &err) < 0)
            return complain(&err);
        if (wh_image_code(store, image, NULL, WH_PROFILE_POD, &code, &error) < 0)
            return complain_reason(&error);
        wh_code_done(&code);
    }
    (void)printf("us %lld\n", (long long)((wh_mono_now() - start) / WH_USEC / (wh_time)n));
    return 0;
}

static int do_push(char **args)
{
    wh_err err = {0};
    auto_free char *digest = NULL;
    if (wh_image_push(store, args[0], args[1], &options, &digest, &err) < 0)
        return complain(&err);
    (void)printf("digest %s\n", digest);
    return 0;
}

static int do_ls(char **args)
{
    wh_err err = {0};
    wh_image_row *rows = NULL;
    size_t n = 0;
    (void)args;
    if (wh_store_list(store, &rows, &n, &err) < 0)
        return complain(&err);
    for (size_t i = 0; i < n; i++)
        (void)printf("%s %s %llu %s\n", rows[i].reference, rows[i].digest, (unsigned long long)rows[i].bytes,
                     rows[i].in_use ? "used" : "free");
    wh_image_rows_free(rows, n);
    return 0;
}

static int do_rm(char **args)
{
    wh_err err = {0};
    return wh_store_remove(store, args[0], &err) < 0 ? complain(&err) : 0;
}

static int do_gc(char **args)
{
    wh_err err = {0};
    wh_gc_policy policy = {.high_percent = 85, .low_percent = 80, .min_age = 2 * WH_MINUTE};
    uint64_t number, freed;
    if (args[0] != NULL && wh_parse_u64(args[0], 1000000, &number) == 0)
        policy.min_age = (wh_time)number * WH_SEC;
    if (args[0] != NULL && args[1] != NULL && args[2] != NULL) {
        if (wh_parse_u64(args[1], 100, &number) == 0)
            policy.high_percent = (unsigned)number;
        if (wh_parse_u64(args[2], 100, &number) == 0)
            policy.low_percent = (unsigned)number;
    }
    if (args[0] != NULL && args[1] != NULL && args[2] != NULL && args[3] != NULL &&
        wh_parse_u64(args[3], 1000000, &number) == 0)
        policy.stray_age = (wh_time)number * WH_SEC;
    if (wh_store_gc(store, &policy, &freed, &err) < 0)
        return complain(&err);
    (void)printf("freed %llu\n", (unsigned long long)freed);
    return 0;
}

static int do_lease(char **args)
{
    wh_err err = {0};
    auto_image wh_image *image = NULL;
    if (wh_image_find(store, args[1], &image, &err) < 0 || wh_store_lease(store, args[0], image, &err) < 0)
        return complain(&err);
    return 0;
}

static int do_release(char **args)
{
    wh_err err = {0};
    return wh_store_release(store, args[0], &err) < 0 ? complain(&err) : 0;
}

static int do_leases(char **args)
{
    wh_err err = {0};
    auto_strv wh_strv holders = NULL;
    (void)args;
    if (wh_store_leases(store, &holders, &err) < 0)
        return complain(&err);
    print_list("holder", holders);
    return 0;
}

static int do_inspect(char **args)
{
    wh_err err = {0};
    auto_free char *json = NULL;
    if (wh_image_inspect(store, args[0], &json, &err) < 0)
        return complain(&err);
    (void)puts(json);
    return 0;
}

static const struct {
    const char *name;
    int least;
    int (*run)(char **args);
} verbs[] = {
    {"pull", 1, do_pull},   {"find", 1, do_find},       {"code", 1, do_code},     {"hits", 2, do_hits},
    {"push", 2, do_push},   {"ls", 0, do_ls},           {"rm", 1, do_rm},         {"gc", 0, do_gc},
    {"lease", 2, do_lease}, {"release", 1, do_release}, {"leases", 0, do_leases}, {"inspect", 1, do_inspect},
};

static void read_files(wh_pull_options *o, const char *name, const char *value)
{
    if (wh_streq(name, "--auth"))
        o->auth_file = value;
    else if (wh_streq(name, "--registries"))
        o->registries = value;
    else if (wh_streq(value, "always"))
        o->policy = WH_PULL_ALWAYS;
    else if (wh_streq(value, "never"))
        o->policy = WH_PULL_NEVER;
}

int main(int argc, char **argv)
{
    wh_err err = {0};
    int at = 3;
    wh_log_setup("image-tool", 2, WH_LOG_INFO, WH_LOG_TEXT);
    for (; at < argc && wh_starts_with(argv[at], "--"); at++) {
        if (wh_streq(argv[at], "--plain"))
            options.plain_http = true;
        else if (at + 1 < argc) {
            read_files(&options, argv[at], argv[at + 1]);
            at++;
        }
    }
    if (at >= argc)
        return 2;
    if (wh_store_open(argv[1], argv[2], &store, &err) < 0)
        return complain(&err);
    int rc = 2;
    for (size_t i = 0; i < WH_ARRAY_LEN(verbs); i++)
        if (wh_streq(argv[at], verbs[i].name) && argc - at > verbs[i].least)
            rc = verbs[i].run(argv + at + 1);
    wh_store_close(store);
    return rc;
}
