/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/options.h"
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>

static bool verbose, quiet;
static const char *file = "default";
static wh_strv env;
static uint64_t count = 1, memory;
static int64_t timeout_ns;

static const wh_opt table[] = {
    {"verbose", 'v', WH_OPT_FLAG, &verbose, NULL, "Say more"},
    {"quiet", 'q', WH_OPT_FLAG, &quiet, NULL, "Say less"},
    {"file", 'f', WH_OPT_STR, &file, "FILE",
     "Read FILE, of which a long text tells so much that it has to be wrapped"},
    {"env", 'e', WH_OPT_LIST, &env, "NAME=VALUE", "Set a variable of the guest's environment"},
    {"count", 0, WH_OPT_U64, &count, "N", "How often"},
    {"memory", 'm', WH_OPT_BYTES, &memory, "SIZE", "Memory of the guest"},
    {"timeout", 0, WH_OPT_DURATION, &timeout_ns, "TIME", "Stop after TIME"},
    {"color", 0, WH_OPT_STR, &file, "auto|always|never", "Use colours"},
    {0},
};

#define ARGS(...)               \
    (char *[])                  \
    {                           \
        arg0, __VA_ARGS__, NULL \
    }
static char arg0[] = "prog";

static wh_strv words; /* owns what argv, which options reorder, only borrows */
static char *args[32];

static int parse(const char *line, bool stop, wh_strv *ret_argv, wh_err *err)
{
    wh_str rest = wh_str_of(line), word;
    int argc = 0, operands = -1;
    args[argc++] = arg0;
    while (wh_str_split(&rest, ' ', &word)) {
        args[argc] = wh_xstrndup(word.p, word.n);
        wh_strv_push_take(&words, args[argc++]);
    }
    args[argc] = NULL;
    int rc = wh_options_parse(table, argc, args, stop, &operands, err);
    *ret_argv = args;
    return rc < 0 ? rc : operands;
}

TEST(every_kind_of_option)
{
    wh_strv argv;
    wh_err err = {0};
    int n =
        parse("a -vq --file=x --env A=1 -eB=2 b --count 7 -m64Mi --timeout 1m30s -- -c", false, &argv, &err);
    CHECK_INT(n, ==, 3);
    CHECK_STR(argv[0], "a");
    CHECK_STR(argv[1], "b");
    CHECK_STR(argv[2], "-c");
    CHECK(argv[3] == NULL);
    CHECK(verbose && quiet);
    CHECK_STR(file, "x");
    CHECK_STR(env[0], "A=1");
    CHECK_STR(env[1], "B=2");
    CHECK_INT(count, ==, 7);
    CHECK_INT(memory, ==, 64 << 20);
    CHECK_INT(timeout_ns, ==, INT64_C(90000000000));
}

TEST(a_guests_arguments_are_left_alone)
{
    wh_strv argv;
    wh_err err = {0};
    CHECK_INT(parse("-v app.wasm -q --help -- x", true, &argv, &err), ==, 5);
    CHECK_STR(argv[0], "app.wasm");
    CHECK_STR(argv[3], "--");
    CHECK(!quiet);
    CHECK_INT(parse("-", true, &argv, &err), ==, 1);
    CHECK_STR(argv[0], "-");
}

TEST(wrong_options_are_explained)
{
    wh_strv argv;
    wh_err err = {0};
    CHECK_ERR(parse("--memry 5", false, &argv, &err), -EINVAL, &err,
              "unknown option '--memry': did you mean '--memory'?");
    CHECK_ERR(parse("--xyzzy", false, &argv, &err), -EINVAL, &err, "unknown option '--xyzzy'.");
    CHECK_ERR(parse("--time=1s", false, &argv, &err), -EINVAL, &err, "did you mean '--timeout'?");
    CHECK_ERR(parse("-z", false, &argv, &err), -EINVAL, &err, "unknown option '-z'.");
    CHECK_ERR(parse("--verbose=1", false, &argv, &err), -EINVAL, &err, "'--verbose' takes no value.");
    CHECK_ERR(parse("--memory", false, &argv, &err), -EINVAL, &err, "'--memory' needs a value (SIZE)");
    CHECK_ERR(parse("--memory big", false, &argv, &err), -EINVAL, &err, "a size such as 64Mi, not 'big'.");
    CHECK_ERR(parse("--timeout 5", false, &argv, &err), -EINVAL, &err, "a duration such as 10s");
    CHECK_ERR(parse("--count 99999999999999999999", false, &argv, &err), -ERANGE, &err, "too large");
    CHECK_ERR(parse("--help", false, &argv, &err), -EINVAL, &err, "unknown option '--help'.");
}

static const wh_opt *options(void)
{
    return table;
}

static int ran_argc;
static char *ran_first;

static int run(int argc, char **argv)
{
    ran_argc = argc;
    ran_first = argv[0];
    return 33;
}

static const wh_verb verbs[] = {
    {"run", "FILE.wasm [ARG...]", "Run a module", "First paragraph.\n\n.Second 'one' \\ here.", options, run,
     true},
    {"image pull", "NAME", "Fetch an image", NULL, NULL, run, false},
    {"image list", "", "List images", NULL, NULL, run, false},
    {0},
};

static int main_of(int argc, char **argv, char **ret_out)
{
    char name[] = "/tmp/wh-options-XXXXXX";
    int fd = mkostemp(name, O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_OK(unlink(name), NULL);
    CHECK_OK(dup2(fd, 1), NULL);
    CHECK_OK(dup2(fd, 2), NULL);
    int code = wh_verbs_main("wherry", "1.2.3", "Runs WebAssembly", verbs, argc, argv);
    (void)fflush(NULL);
    CHECK_OK((int)lseek(fd, 0, SEEK_SET), NULL);
    CHECK_OK(wh_read_fd(fd, 1 << 20, ret_out, NULL, NULL), NULL);
    wh_strv_push_take(&words, *ret_out);
    close(fd);
    return code;
}

#define MAIN(ret, ...) \
    main_of((int)WH_ARRAY_LEN(((const char *[]){"p", __VA_ARGS__})), ARGS(__VA_ARGS__), (ret))

TEST(verbs_run)
{
    char *text = NULL;
    char run_[] = "run", v[] = "-v", app[] = "app.wasm", q[] = "-q", image[] = "image", pull[] = "pull",
         x[] = "x";
    CHECK_INT(MAIN(&text, run_, v, app, q), ==, 33);
    CHECK_INT(ran_argc, ==, 2);
    CHECK_STR(ran_first, "app.wasm");
    CHECK(verbose && !quiet);
    CHECK_INT(MAIN(&text, image, pull, x), ==, 33);
    CHECK_INT(ran_argc, ==, 1);
    CHECK_STR(ran_first, "x");
}

TEST(wrong_verbs_are_explained)
{
    char *text = NULL;
    char rum[] = "rum", image[] = "image", pul[] = "pul", bad[] = "--bad", run_[] = "run",
         verb[] = "--verbos";
    CHECK_INT(MAIN(&text, rum), ==, 2);
    CHECK_CONTAINS(text, "no command 'rum': did you mean 'run'?");
    CHECK_INT(MAIN(&text, image, pul), ==, 2);
    CHECK_CONTAINS(text, "did you mean 'image pull'?");
    CHECK_INT(MAIN(&text, image), ==, 2);
    CHECK_CONTAINS(text, "image list");
    CHECK_INT(MAIN(&text, bad), ==, 2);
    CHECK_CONTAINS(text, "unknown option '--bad'.");
    CHECK_INT(MAIN(&text, run_, verb), ==, 2);
    CHECK_CONTAINS(
        text, "wherry run: unknown option '--verbos': did you mean '--verbose'?\nTry 'wherry run --help'.");
    CHECK_INT(main_of(1, (char *[]){arg0, NULL}, &text), ==, 2);
    CHECK_CONTAINS(text, "Usage: wherry COMMAND");
}

TEST(help_fits_the_page)
{
    char *text = NULL;
    char run_[] = "run", help[] = "--help", h[] = "help", version[] = "--version";
    CHECK_INT(MAIN(&text, run_, help), ==, 0);
    CHECK_CONTAINS(text, "Usage: wherry run [OPTIONS] FILE.wasm [ARG...]\n\nRun a module\n");
    CHECK_CONTAINS(text, "  -f, --file FILE ");
    CHECK_CONTAINS(text, "      --count N ");
    wh_str rest = wh_str_of(text), line;
    while (wh_str_split(&rest, '\n', &line))
        CHECK_INT(line.n, <=, 80);
    char *again = NULL;
    CHECK_INT(MAIN(&again, h, run_), ==, 0);
    CHECK_STR(again, text);
    CHECK_INT(MAIN(&text, help), ==, 0);
    CHECK_CONTAINS(text, "  image pull  Fetch an image\n");
    CHECK_INT(MAIN(&text, version), ==, 0);
    CHECK_STR(text, "wherry 1.2.3\n");
}

/* A shell itself says whether it can read what was written for it. */
static void check_with(char *shell)
{
    char *text = NULL;
    char completion[] = "completion";
    CHECK_INT(MAIN(&text, completion, shell), ==, 0);
    CHECK_CONTAINS(text, "memory");
    char path[] = "/tmp/wh-completion-XXXXXX";
    auto_close int fd = mkostemp(path, O_CLOEXEC);
    CHECK_OK(wh_write_all(fd, text, strlen(text)), NULL);
    auto_free char *line = wh_xasprintf("command -v %s >/dev/null || exit 77; %s -n %s", shell, shell, path);
    int status = system(line);
    CHECK_OK(unlink(path), NULL);
    if (status == 77 << 8)
        SKIP("this shell is not installed");
    CHECK_INT(status, ==, 0);
}

TEST(completion_of_bash)
{
    char shell[] = "bash";
    check_with(shell);
}

/* What bash would offer for a line whose last word is being typed. */
static void check_offer(const char *line, const char *expected)
{
    char *text = NULL, *offer = NULL;
    char completion[] = "completion", bash[] = "bash";
    CHECK_INT(MAIN(&text, completion, bash), ==, 0);
    char path[] = "/tmp/wh-completion-XXXXXX";
    auto_close int fd = mkostemp(path, O_CLOEXEC);
    CHECK_OK(wh_write_all(fd, text, strlen(text)), NULL);
    auto_free char *command =
        wh_xasprintf("bash -c 'source %s; COMP_WORDS=(%s); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); "
                     "_wherry; echo ${COMPREPLY[*]}'",
                     path, line);
    FILE *pipe = popen(command, "re");
    CHECK(pipe != NULL);
    int rc = wh_read_fd(fileno(pipe), 10000, &offer, NULL, NULL);
    CHECK_INT(pclose(pipe), ==, 0);
    CHECK_OK(unlink(path), NULL);
    CHECK_OK(rc, NULL);
    wh_strv_push_take(&words, offer);
    CHECK_STR(offer, expected);
}

TEST(what_bash_offers)
{
    check_offer("wherry ru", "run\n");
    check_offer("wherry run --me", "--memory\n");
    check_offer("wherry run --color a", "auto always\n");
    check_offer("wherry run -f /etc/hostn", "/etc/hostname\n");
    check_offer("wherry image p", "pull\n");
    check_offer("wherry image pull --h", "--help\n");
    check_offer("wherry run /etc/hostn", "/etc/hostname\n");
}

TEST(completion_of_zsh)
{
    char shell[] = "zsh";
    check_with(shell);
}

TEST(completion_of_fish)
{
    char shell[] = "fish";
    check_with(shell);
}

TEST(the_manual)
{
    char *text = NULL;
    char manual[] = "manual";
    CHECK_INT(MAIN(&text, manual), ==, 0);
    CHECK_CONTAINS(text, ".Dt WHERRY 1\n");
    CHECK_CONTAINS(text, "\n.Pp\n\\&.Second 'one' \\e here.\n");
    CHECK_CONTAINS(text, ".It Cm \"image pull\" Ar \"NAME\"\n");
}

TEST(the_manual_pleases_mandoc)
{
    char *text = NULL, *words_of_it = NULL;
    char manual[] = "manual", path[] = "/tmp/wh-manual-XXXXXX";
    CHECK_INT(MAIN(&text, manual), ==, 0);
    auto_close int fd = mkostemp(path, O_CLOEXEC);
    CHECK_OK(wh_write_all(fd, text, strlen(text)), NULL);
    auto_free char *line = wh_xasprintf("command -v mandoc >/dev/null || exit 77; mandoc -Tlint %s", path);
    FILE *pipe = popen(line, "re");
    CHECK(pipe != NULL);
    int rc = wh_read_fd(fileno(pipe), 10000, &words_of_it, NULL, NULL);
    int status = pclose(pipe);
    CHECK_OK(unlink(path), NULL);
    CHECK_OK(rc, NULL);
    wh_strv_push_take(&words, words_of_it);
    if (status == 77 << 8)
        SKIP("mandoc is not installed");
    CHECK_STR(words_of_it, "");
}
