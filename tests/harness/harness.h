/* SPDX-License-Identifier: Apache-2.0 */
/* Unit tests: TEST(name) { CHECK(...); }. A process per test, in the order of the file; TAP on standard
 * output, the rest on standard error. A check that fails says both operands and ends its test. `test_x
 * [NAME...]` runs some, --list names them,
 * --no-fork NAME runs one inside a debugger, --fail-alloc runs each again with its 1st, 2nd, ... allocation
 * failing. */
#pragma once

#include "base/err.h"

#include <inttypes.h>
#include <string.h>

typedef struct wh_test {
    const char *name;
    const char *file;
    void (*fn)(void);
    int line;
    int timeout_sec;
} wh_test;

#define TEST_TIMEOUT(name_, seconds_)                                                                       \
    static void test_##name_(void);                                                                         \
    static const wh_test descriptor_##name_ = {                                                             \
        .name = #name_, .file = __FILE__, .fn = test_##name_, .line = __LINE__, .timeout_sec = (seconds_)}; \
    __attribute__((used, section("wh_tests"))) static const wh_test *const entry_##name_ =                  \
        &descriptor_##name_;                                                                                \
    static void test_##name_(void)
#define TEST(name_) TEST_TIMEOUT(name_, 30)

/* Ends the test as skipped, or failed. */
__attribute__((noreturn)) void wh_test_skip(const char *file, int line, const char *reason);
__attribute__((noreturn)) void wh_test_fail(const char *file, int line, const char *fmt, ...) WH_PRINTF(3, 4);
/* For tests that handle failing allocations themselves: the nth malloc, calloc or realloc from now on fails,
 * once. */
void wh_test_fail_alloc(uint64_t nth);

#define SKIP(reason) wh_test_skip(__FILE__, __LINE__, (reason))

#define CHECK(cond)                                        \
    do {                                                   \
        if (!(cond))                                       \
            wh_test_fail(__FILE__, __LINE__, "%s", #cond); \
    } while (0)

/* Integers of any type, as signed 64 bits. */
#define CHECK_INT(a, op, b)                                                                               \
    do {                                                                                                  \
        int64_t check_a_ = (int64_t)(a), check_b_ = (int64_t)(b);                                         \
        if (!(check_a_ op check_b_))                                                                      \
            wh_test_fail(__FILE__, __LINE__, "%s %s %s: %" PRId64 " and %" PRId64, #a, #op, #b, check_a_, \
                         check_b_);                                                                       \
    } while (0)

#define CHECK_STR(a, b) wh_test_check_str(__FILE__, __LINE__, #a, (a), (b))
void wh_test_check_str(const char *file, int line, const char *what, const char *a, const char *b);

#define CHECK_CONTAINS(haystack, needle) \
    wh_test_check_contains(__FILE__, __LINE__, #haystack, (haystack), (needle))
void wh_test_check_contains(const char *file, int line, const char *what, const char *haystack,
                            const char *needle);

#define CHECK_MEM(a, b, n) wh_test_check_mem(__FILE__, __LINE__, #a, (a), (b), (n))
void wh_test_check_mem(const char *file, int line, const char *what, const void *a, const void *b, size_t n);

/* The call answers 0 or more; the sentence of `err` (may be NULL) says why not. */
#define CHECK_OK(call, err) wh_test_check_ok(__FILE__, __LINE__, #call, (int64_t)(call), (err))
void wh_test_check_ok(const char *file, int line, const char *what, int64_t rc, const wh_err *err);

/* The call fails with exactly this code. */
#define CHECK_FAIL(call, code) CHECK_INT(call, ==, code)

/* The call, which gets `err`, fails with this code and a sentence that contains `text`. */
#define CHECK_ERR(call, expected, err, text)  \
    do {                                      \
        CHECK_INT(call, ==, expected);        \
        CHECK_INT((err)->code, ==, expected); \
        CHECK_CONTAINS((err)->msg, text);     \
    } while (0)
