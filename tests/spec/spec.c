/* SPDX-License-Identifier: Apache-2.0 */
/* spec PROFILE FOLDER SPECTEST.wasm EXPECTED [FILE.json]: runs the WebAssembly specification's test scripts,
 * as wabt's wast2json writes them, on the engine. Prints what failed and the counts; exit code 1 when
 * anything failed that EXPECTED does not name, 77 when there is nothing to run.
 *
 * EXPECTED has a line "PROFILE FOLDER/FILE[:LINE] reason" for each command that is known to answer otherwise;
 * PROFILE and LINE may be "*". A command that is named there and passes is a failure as well, unless its LINE
 * is "*". */
#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "link.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <sys/mman.h>

#define ops (&wh_engine_wasmtime)
#define SLOTS_MAX 1024
#define MODULES_MAX 4096
#define NAMES_MAX 256
#define EXPECTED_MAX 1024

typedef enum { PASS, FAIL, SKIPPED } verdict;

typedef struct expectation {
    char *profile, *file, *reason;
    int line; /* -1: any */
    bool used;
} expectation;

typedef struct run {
    wh_engine *engine;
    const char *profile, *folder, *area;
    int spectest_fd;
    expectation expected[EXPECTED_MAX];
    size_t n_expected;
    size_t passed, failed, skipped;
    size_t text; /* of the skipped: modules in the text format */
} run;

/* One file: a store, its modules in order, and their names. */
typedef struct script {
    run *r;
    const char *file;
    spec_store *store;
    wh_module *modules[MODULES_MAX];
    size_t n_modules;
    wh_instance *current;
    struct {
        char *name;
        wh_instance *instance;
    } named[NAMES_MAX];
    size_t n_named;
    wh_err why;
} script;

static uint64_t number(const char *s)
{
    return s[0] == '-' ? (uint64_t)strtoll(s, NULL, 10) : strtoull(s, NULL, 10);
}

/* {"type": "i32", "value": "1"}, or a vector with "lane_type" and a list. */
static int value_of(script *s, const json_t *j, wh_slot *ret)
{
    const char *type = wh_json_str(j, "type");
    json_t *value = json_object_get(j, "value");
    memset(ret, 0, sizeof(*ret));
    if (type == NULL)
        return -EINVAL;
    if (strcmp(type, "v128") == 0) {
        const char *lane = wh_json_str(j, "lane_type");
        if (lane == NULL)
            return -EINVAL;
        size_t width = strcmp(lane, "i8") == 0      ? 1
                       : strcmp(lane, "i16") == 0   ? 2
                       : strstr(lane, "32") != NULL ? 4
                                                    : 8;
        for (size_t i = 0; i < 16 / width; i++) {
            uint64_t bits = number(json_string_value(json_array_get(value, i)));
            memcpy(ret->v128 + i * width, &bits, width);
        }
        return 0;
    }
    const char *text = json_string_value(value);
    if (text == NULL || strcmp(text, "null") == 0)
        return 0;
    uint64_t bits = number(text);
    if (strcmp(type, "externref") == 0)
        *ret = spec_externref(s->store, bits);
    else if (strcmp(type, "i32") == 0 || strcmp(type, "f32") == 0)
        memcpy(ret, &bits, 4);
    else
        memcpy(ret, &bits, 8);
    return 0;
}

/* A floating-point number of `width` bytes against decimal bits or a class of NaN. */
static bool float_is(const void *got, size_t width, const char *want)
{
    uint64_t bits = 0;
    memcpy(&bits, got, width);
    uint64_t quiet = width == 4 ? 0x7fc00000ULL : 0x7ff8000000000000ULL;
    uint64_t sign = width == 4 ? 0x80000000ULL : 0x8000000000000000ULL;
    if (strcmp(want, "nan:canonical") == 0)
        return (bits & ~sign) == quiet;
    if (strcmp(want, "nan:arithmetic") == 0)
        return (bits & quiet) == quiet;
    uint64_t wanted = number(want);
    return memcmp(&bits, &wanted, width) == 0;
}

static bool vector_is(const wh_slot *got, const json_t *want)
{
    const char *lane = wh_json_str(want, "lane_type");
    json_t *values = json_object_get(want, "value");
    if (lane == NULL)
        return false;
    size_t width = strcmp(lane, "i8") == 0      ? 1
                   : strcmp(lane, "i16") == 0   ? 2
                   : strstr(lane, "32") != NULL ? 4
                                                : 8;
    for (size_t i = 0; i < 16 / width; i++) {
        const char *text = json_string_value(json_array_get(values, i));
        if (text == NULL || !float_is(got->v128 + i * width, width, text))
            return false;
    }
    return true;
}

static bool value_is(script *s, const wh_slot *got, const json_t *want)
{
    const char *type = wh_json_str(want, "type"), *text = wh_json_str(want, "value");
    if (type == NULL)
        return false;
    if (strcmp(type, "v128") == 0)
        return vector_is(got, want);
    if (strcmp(type, "i32") == 0 || strcmp(type, "f32") == 0)
        return text == NULL || float_is(got, 4, text);
    if (strcmp(type, "i64") == 0 || strcmp(type, "f64") == 0)
        return text == NULL || float_is(got, 8, text);
    if (strcmp(type, "refnull") == 0 || wh_streq(text, "null"))
        return strcmp(type, "funcref") == 0 ? got->i64 == 0 : spec_ref_is_null(*got);
    if (strcmp(type, "externref") == 0)
        return text == NULL ? !spec_ref_is_null(*got) : spec_externref_is(s->store, *got, number(text));
    return got->i64 != 0; /* any function */
}

static wh_instance *instance_named(script *s, const char *name)
{
    if (name == NULL)
        return s->current;
    for (size_t i = s->n_named; i-- > 0;) {
        if (strcmp(s->named[i].name, name) == 0)
            return s->named[i].instance;
    }
    return NULL;
}

static int slots_of(const char *sig)
{
    size_t params = strcspn(sig, ")") - 1, results = strlen(sig) - params - 2;
    return (int)WH_MAX(params, results);
}

/* Runs {"type": "invoke" or "get", "module", "field", "args"}; negative when that could not be tried. */
static int act(script *s, const json_t *action, wh_slot io[SLOTS_MAX], wh_outcome *outcome)
{
    wh_instance *instance = instance_named(s, wh_json_str(action, "module"));
    json_t *field = json_object_get(action, "field");
    if (instance == NULL || field == NULL)
        return wh_fail(&s->why, -ENOENT, "there is no such module.");
    const char *name = json_string_value(field);
    size_t n = json_string_length(field);
    outcome->end = WH_END_OK;
    if (wh_streq(wh_json_str(action, "type"), "get"))
        return spec_global(instance, name, n, io);
    wh_func func;
    char sig[SPEC_SIG_BYTES];
    int rc = spec_func(instance, name, n, &func, sig);
    if (rc < 0)
        return wh_fail(&s->why, rc, "no function '%s'", name);
    size_t i;
    json_t *arg;
    json_array_foreach(json_object_get(action, "args"), i, arg)
    {
        rc = i < SLOTS_MAX ? value_of(s, arg, &io[i]) : -E2BIG;
        if (rc < 0)
            return wh_fail(&s->why, rc, "argument %zu", i);
    }
    int slots = slots_of(sig);
    if (slots > SLOTS_MAX)
        return wh_fail(&s->why, -E2BIG, "call with %d slots", slots);
    ops->call(instance, &func, io, (size_t)slots, 0, outcome);
    return 0;
}

static int module_fd(script *s, const char *filename, int *ret_fd)
{
    auto_free char *path = wh_xasprintf("%s/%s", s->r->folder, filename);
    auto_free char *wasm = NULL;
    auto_free void *code = NULL;
    size_t n = 0, code_bytes = 0;
    int rc = wh_read_file(AT_FDCWD, path, WH_WASM_BYTES_MAX, &wasm, &n, &s->why);
    if (rc < 0)
        return rc;
    rc = ops->compile(s->r->engine, wasm, n, &code, &code_bytes, &s->why);
    if (rc < 0)
        return rc;
    int fd = memfd_create("module", MFD_CLOEXEC);
    rc = wh_write_all(fd, code, code_bytes);
    if (rc < 0) {
        close(fd);
        return wh_fail(&s->why, -EIO, "keep the compiled code");
    }
    *ret_fd = fd;
    return 0;
}

/* -EBADMSG does not compile, -ENOENT does not link, -EFAULT traps. */
static int instantiate(script *s, const char *filename, wh_instance **ret, wh_outcome *outcome)
{
    auto_close int fd = -1;
    int rc = module_fd(s, filename, &fd);
    if (rc < 0)
        return rc;
    wh_assert(s->n_modules < MODULES_MAX);
    wh_module **module = &s->modules[s->n_modules];
    rc = ops->load(s->r->engine, fd, module, &s->why);
    if (rc < 0)
        return wh_fail(&s->why, -EIO, "load what was compiled: %s", s->why.msg);
    s->n_modules++;
    return spec_instantiate(s->store, *module, ret, outcome, &s->why);
}

static verdict fail(script *s, const char *what)
{
    char had[sizeof(s->why.msg)];
    memcpy(had, s->why.msg, sizeof(had));
    wh_fail(&s->why, -EBADMSG, "%.60s: %.180s", what, had);
    return FAIL;
}

static verdict do_module(script *s, const json_t *command)
{
    wh_outcome outcome;
    const char *filename = wh_json_str(command, "filename"), *name = wh_json_str(command, "name");
    s->current = NULL;
    if (filename == NULL || instantiate(s, filename, &s->current, &outcome) < 0)
        return fail(s, "module");
    if (name != NULL && s->n_named < NAMES_MAX) {
        s->named[s->n_named].name = wh_xstrdup(name);
        s->named[s->n_named++].instance = s->current;
    }
    return PASS;
}

static verdict do_register(script *s, const json_t *command)
{
    json_t *as = json_object_get(command, "as");
    wh_instance *instance = instance_named(s, wh_json_str(command, "name"));
    if (instance == NULL || as == NULL)
        return fail(s, "register: no such module");
    if (spec_register(s->store, instance, json_string_value(as), json_string_length(as), &s->why) < 0)
        return fail(s, "register");
    return PASS;
}

static verdict do_return(script *s, const json_t *command)
{
    wh_slot io[SLOTS_MAX];
    wh_outcome outcome;
    if (act(s, json_object_get(command, "action"), io, &outcome) < 0)
        return fail(s, "action");
    if (outcome.end != WH_END_OK) {
        wh_fail(&s->why, -EFAULT, "%.200s", outcome.msg);
        return fail(s, "does not return");
    }
    if (wh_streq(wh_json_str(command, "type"), "action"))
        return PASS;
    size_t i;
    json_t *want;
    json_array_foreach(json_object_get(command, "expected"), i, want)
    {
        if (!value_is(s, &io[i], want)) {
            wh_fail(&s->why, -EINVAL, "result %zu is 0x%016llx.", i, (unsigned long long)io[i].i64);
            return fail(s, "other result");
        }
    }
    return PASS;
}

static bool trap_is(wh_trap trap, const char *text)
{
    static const struct {
        const char *text; /* how it begins in the scripts, longer ones first */
        wh_trap trap;
    } known[] = {
        {"out of bounds memory access", WH_TRAP_MEMORY_BOUNDS},
        {"out of bounds table access", WH_TRAP_TABLE_BOUNDS},
        {"integer divide by zero", WH_TRAP_DIVISION_BY_ZERO},
        {"integer overflow", WH_TRAP_INTEGER_OVERFLOW},
        {"invalid conversion", WH_TRAP_BAD_CONVERSION},
        {"null function reference", WH_TRAP_NULL_REFERENCE},
        {"null reference", WH_TRAP_NULL_REFERENCE},
        {"undefined", WH_TRAP_TABLE_BOUNDS},
        {"uninitialized", WH_TRAP_INDIRECT_NULL},
        {"indirect call", WH_TRAP_BAD_SIGNATURE},
        {"unreachable", WH_TRAP_UNREACHABLE},
        {"call stack exhausted", WH_TRAP_STACK_OVERFLOW},
    };
    for (size_t i = 0; text != NULL && i < WH_ARRAY_LEN(known); i++) {
        if (wh_starts_with(text, known[i].text))
            return trap == known[i].trap;
    }
    return false;
}

static verdict do_trap(script *s, const json_t *command)
{
    wh_slot io[SLOTS_MAX];
    wh_outcome outcome;
    if (act(s, json_object_get(command, "action"), io, &outcome) < 0)
        return fail(s, "action");
    if (outcome.end != WH_END_TRAP)
        return fail(s, "does not trap");
    bool exception = wh_streq(wh_json_str(command, "type"), "assert_exception");
    if (exception ? outcome.trap == WH_TRAP_EXCEPTION : trap_is(outcome.trap, wh_json_str(command, "text")))
        return PASS;
    wh_fail(&s->why, -EINVAL, "%s instead of %s.", wh_trap_name(outcome.trap), wh_json_str(command, "text"));
    return fail(s, "other trap");
}

/* Modules that must not compile, link or start. */
static verdict do_refused(script *s, const json_t *command)
{
    const char *type = wh_json_str(command, "type"), *filename = wh_json_str(command, "filename");
    if (!wh_streq(wh_json_str(command, "module_type"), "binary"))
        return SKIPPED;
    wh_outcome outcome = {0};
    wh_instance *instance = NULL;
    int rc = instantiate(s, filename, &instance, &outcome);
    if (rc == 0)
        return fail(s, "is accepted");
    if (strcmp(type, "assert_unlinkable") == 0)
        return rc == -ENOENT ? PASS : fail(s, "does not even compile");
    if (strcmp(type, "assert_uninstantiable") == 0) {
        if (rc == -EFAULT && trap_is(outcome.trap, wh_json_str(command, "text")))
            return PASS;
        return fail(s, "is refused otherwise");
    }
    return rc == -EBADMSG ? PASS : fail(s, "compiles, and is refused later");
}

static verdict run_command(script *s, const json_t *command)
{
    static const struct {
        const char *type;
        verdict (*fn)(script *s, const json_t *command);
    } commands[] = {
        {"module", do_module},
        {"register", do_register},
        {"action", do_return},
        {"assert_return", do_return},
        {"assert_trap", do_trap},
        {"assert_exhaustion", do_trap},
        {"assert_exception", do_trap},
        {"assert_invalid", do_refused},
        {"assert_malformed", do_refused},
        {"assert_unlinkable", do_refused},
        {"assert_uninstantiable", do_refused},
    };
    const char *type = wh_json_str(command, "type");
    s->why = (wh_err){0};
    for (size_t i = 0; i < WH_ARRAY_LEN(commands); i++) {
        if (wh_streq(commands[i].type, type))
            return commands[i].fn(s, command);
    }
    return fail(s, "a command of unknown type");
}

static expectation *expected(run *r, const char *file, int line)
{
    auto_free char *path = wh_xasprintf("%s/%s", r->area, file);
    for (size_t i = 0; i < r->n_expected; i++) {
        expectation *e = &r->expected[i];
        if ((strcmp(e->profile, "*") == 0 || strcmp(e->profile, r->profile) == 0) &&
            strcmp(e->file, path) == 0 && (e->line == -1 || e->line == line))
            return e;
    }
    return NULL;
}

static void count(script *s, const json_t *command, verdict v)
{
    run *r = s->r;
    int line = (int)wh_json_int(command, "line", 0);
    expectation *e = expected(r, s->file, line);
    if (e != NULL && v == FAIL) {
        e->used = true;
        r->skipped++;
        return;
    }
    if (e != NULL && v == PASS && e->line >= 0 && !e->used) {
        printf("%s %s/%s:%d: passes, though expected to differ: %s\n", r->profile, r->area, s->file, line,
               e->reason);
        r->failed++;
        return;
    }
    switch (v) {
    case PASS:
        r->passed++;
        break;
    case SKIPPED:
        r->skipped++;
        r->text++;
        break;
    case FAIL:
    default:
        r->failed++;
        printf("%s %s/%s:%d: %s: %s\n", r->profile, r->area, s->file, line, wh_json_str(command, "type"),
               s->why.msg);
        break;
    }
}

static int load_spectest(script *s)
{
    wh_outcome outcome;
    wh_instance *spectest = NULL;
    wh_module **module = &s->modules[s->n_modules];
    int rc = ops->load(s->r->engine, s->r->spectest_fd, module, &s->why);
    if (rc < 0)
        return rc;
    s->n_modules++;
    rc = spec_instantiate(s->store, *module, &spectest, &outcome, &s->why);
    return rc < 0 ? rc : spec_register(s->store, spectest, "spectest", 8, &s->why);
}

static int run_script(run *r, const char *file, wh_err *err)
{
    auto_free char *path = wh_xasprintf("%s/%s", r->folder, file);
    json_error_t parse;
    auto_json json_t *root = json_load_file(path, JSON_ALLOW_NUL, &parse);
    if (root == NULL)
        return wh_fail(err, -EBADMSG, "%s:%d: %s", path, parse.line, parse.text);
    script *s = wh_xnew(script);
    s->r = r;
    s->file = file;
    spec_store_new(r->engine, &s->store);
    int rc = load_spectest(s);
    if (rc < 0)
        *err = s->why;
    size_t i;
    json_t *command;
    json_array_foreach(json_object_get(root, "commands"), i, command)
    {
        if (rc == 0)
            count(s, command, run_command(s, command));
    }
    spec_store_free(s->store);
    for (i = 0; i < s->n_modules; i++)
        ops->unload(s->modules[i]);
    for (i = 0; i < s->n_named; i++)
        free(s->named[i].name);
    free(s);
    return rc;
}

static int read_expected(run *r, const char *path, wh_err *err)
{
    auto_free char *text = NULL;
    size_t n = 0;
    int rc = wh_read_file(AT_FDCWD, path, 1UL << 20, &text, &n, err);
    if (rc < 0)
        return rc;
    wh_str rest = {text, n}, line;
    while (wh_str_split(&rest, '\n', &line)) {
        wh_str profile, file;
        line = wh_str_trim(line);
        if (line.n == 0 || line.p[0] == '#')
            continue;
        if (r->n_expected == EXPECTED_MAX || !wh_str_split(&line, ' ', &profile) ||
            !wh_str_split(&line, ' ', &file))
            return wh_fail(err, -EBADMSG, "%s: line '%.*s' is not understood.", path, WH_STR_ARG(line));
        expectation *e = &r->expected[r->n_expected++];
        *e = (expectation){.profile = wh_xstrndup(profile.p, profile.n),
                           .file = wh_xstrndup(file.p, file.n),
                           .reason = wh_xstrndup(line.p, line.n),
                           .line = -1};
        char *colon = strrchr(e->file, ':');
        if (colon != NULL) {
            *colon = '\0';
            e->line = strcmp(colon + 1, "*") == 0 ? -1 : (int)strtol(colon + 1, NULL, 10);
        }
    }
    return 0;
}

static int by_json_name(const struct dirent *entry)
{
    return wh_ends_with(entry->d_name, ".json");
}

static int run_folder(run *r, const char *only, wh_err *err)
{
    struct dirent **entries = NULL;
    int n = scandir(r->folder, &entries, by_json_name, alphasort);
    if (n <= 0) {
        printf("no scripts in %s\n", r->folder);
        return 77;
    }
    int rc = 0;
    for (int i = 0; i < n; i++) {
        if (rc == 0 && (only == NULL || strcmp(only, entries[i]->d_name) == 0))
            rc = run_script(r, entries[i]->d_name, err);
        free(entries[i]);
    }
    free(entries);
    return rc;
}

static int set_up(run *r, const char *spectest, wh_err *err)
{
    wh_engine_config config = {0};
    if (wh_profile_parse(r->profile, &config.profile) < 0)
        return wh_fail(err, -EINVAL, "there is no profile '%s'.", r->profile);
    int rc = ops->engine_new(&config, &r->engine, err);
    if (rc < 0)
        return rc;
    script s = {.r = r};
    auto_free char *folder = wh_xstrdup(spectest);
    char *slash = strrchr(folder, '/');
    if (slash == NULL)
        return wh_fail(err, -EINVAL, "'%s' needs a folder.", spectest);
    *slash = '\0';
    const char *scripts = r->folder;
    r->folder = folder;
    rc = module_fd(&s, slash + 1, &r->spectest_fd);
    r->folder = scripts;
    if (rc < 0)
        *err = s.why;
    return rc;
}

/* ".../spectest/v2/testdata" is of the area "v2". */
static char *area_of(const char *folder)
{
    auto_free char *copy = wh_xstrdup(folder);
    char *slash = strrchr(copy, '/');
    if (slash != NULL && strcmp(slash, "/testdata") == 0)
        *slash = '\0';
    slash = strrchr(copy, '/');
    return wh_xstrdup(slash != NULL ? slash + 1 : copy);
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        (void)fputs("usage: spec PROFILE FOLDER SPECTEST.wasm EXPECTED [FILE.json]\n", stderr);
        return 2;
    }
    wh_err err = {0};
    auto_free char *area = area_of(argv[2]);
    run *r = wh_xnew(run);
    *r = (run){.profile = argv[1], .folder = argv[2], .area = area, .spectest_fd = -1};
    int rc = read_expected(r, argv[4], &err);
    if (rc == 0)
        rc = set_up(r, argv[3], &err);
    if (rc == 0)
        rc = run_folder(r, argc > 5 ? argv[5] : NULL, &err);
    if (rc < 0)
        (void)fprintf(stderr, "spec: %s\n", err.msg);
    printf("%s %s: %zu passed, %zu failed, %zu skipped (%zu of them text format)\n", r->profile, area,
           r->passed, r->failed, r->skipped, r->text);
    ops->engine_free(r->engine);
    for (size_t i = 0; i < r->n_expected; i++) {
        free(r->expected[i].profile);
        free(r->expected[i].file);
        free(r->expected[i].reason);
    }
    if (r->spectest_fd >= 0)
        close(r->spectest_fd);
    bool none = r->passed == 0;
    bool bad = rc < 0 || r->failed > 0;
    free(r);
    return bad ? 1 : rc == 77 || none ? 77 : 0;
}
