/* SPDX-License-Identifier: Apache-2.0 */
/* One line of the input is one argument. */
#include "base/options.h"

#define ARGS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    bool flag = false, other = false;
    const char *text = NULL;
    auto_strv wh_strv list = NULL;
    uint64_t number = 0, bytes = 0;
    int64_t duration = 0;
    const wh_opt options[] = {
        {"flag", 'f', WH_OPT_FLAG, &flag, NULL, "Flag"},
        {"other-flag", 'o', WH_OPT_FLAG, &other, NULL, "Flag"},
        {"text", 't', WH_OPT_STR, &text, "TEXT", "Text"},
        {"list", 'l', WH_OPT_LIST, &list, "TEXT", "List"},
        {"number", 'n', WH_OPT_U64, &number, "N", "Number"},
        {"bytes", 'b', WH_OPT_BYTES, &bytes, "SIZE", "Bytes"},
        {"duration", 0, WH_OPT_DURATION, &duration, "TIME", "Duration"},
        {0},
    };
    auto_free char *copy = malloc(n + 1);
    wh_assert(copy != NULL);
    if (n > 0)
        memcpy(copy, data, n);
    copy[n] = '\0';
    char *argv[ARGS_MAX + 2] = {copy + n};
    int argc = 1, operands = -1;
    for (char *p = copy; p != NULL && argc <= ARGS_MAX; argc++) {
        argv[argc] = p;
        p = strchr(p, '\n');
        if (p != NULL)
            *p++ = '\0';
    }
    wh_err err = {0};
    int rc = wh_options_parse(options, argc, argv, n % 2 != 0, &operands, &err);
    if (rc < 0) {
        wh_assert(err.code == rc);
        wh_assert(err.msg[0] != '\0');
        return 0;
    }
    wh_assert(operands >= 0);
    wh_assert(operands < argc);
    for (int i = 0; i < operands; i++)
        wh_assert(argv[i] != NULL);
    wh_assert(argv[operands] == NULL);
    return 0;
}
