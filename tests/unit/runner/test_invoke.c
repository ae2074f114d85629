/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include "runner/invoke.h"

#include <math.h>

static char *arg(const char *s)
{
    static char texts[8][64];
    static size_t n;
    char *to = texts[n++ % 8];
    (void)strncpy(to, s, 63);
    return to;
}

static void check_args(const char *sig, const char *a, int code)
{
    wh_call call;
    wh_err err = {0};
    char *args[] = {arg(a), NULL};
    CHECK_OK(wh_call_init(&call, sig, &err), &err);
    CHECK_FAIL(wh_call_args(&call, args, &err), code);
}

TEST(integers_have_the_range_of_their_type)
{
    check_args("(i)", "2147483647", 0);
    check_args("(i)", "4294967295", 0);
    check_args("(i)", "4294967296", -ERANGE);
    check_args("(i)", "-2147483648", 0);
    check_args("(i)", "-2147483649", -ERANGE);
    check_args("(i)", "0xff", 0);
    check_args("(i)", "", -EINVAL);
    check_args("(i)", "1x", -EINVAL);
    check_args("(I)", "18446744073709551615", 0);
    check_args("(I)", "18446744073709551616", -ERANGE);
    check_args("(I)", "-9223372036854775808", 0);
    check_args("(I)", "-9223372036854775809", -ERANGE);
    check_args("(f)", "1.5", 0);
    check_args("(F)", "inf", 0);
    check_args("(F)", "nan", 0);
    check_args("(F)", "1.5.", -EINVAL);
    check_args("(V)", "1", -ENOTSUP);
}

TEST(signatures_are_checked)
{
    wh_call call;
    wh_err err = {0};
    char sig[2 * WH_INVOKE_SLOTS_MAX + 8] = "(";
    CHECK_FAIL(wh_call_init(&call, "i", &err), -EINVAL);
    CHECK_FAIL(wh_call_init(&call, "", &err), -EINVAL);
    CHECK_FAIL(wh_call_init(&call, "(r)", &err), -ENOTSUP);
    memset(sig + 1, 'i', WH_INVOKE_SLOTS_MAX + 1);
    sig[WH_INVOKE_SLOTS_MAX + 1] = ')';
    CHECK_OK(wh_call_init(&call, sig, &err), &err);
    sig[WH_INVOKE_SLOTS_MAX + 1] = 'i';
    sig[WH_INVOKE_SLOTS_MAX + 2] = ')';
    CHECK_FAIL(wh_call_init(&call, sig, &err), -E2BIG);
}

static void check_print(const char *sig, wh_slot value, const char *expected)
{
    wh_call call;
    wh_err err = {0};
    auto_buf wh_buf out;
    wh_buf_init(&out, 4096);
    CHECK_OK(wh_call_init(&call, sig, &err), &err);
    call.io[0] = value;
    CHECK_OK(wh_call_print(&call, &out), NULL);
    CHECK_STR(wh_buf_str(&out), expected);
}

TEST(results_are_printed_as_wasmtime_prints_them)
{
    check_print("()i", (wh_slot){.i32 = -5}, "-5\n");
    check_print("()I", (wh_slot){.i64 = INT64_MIN}, "-9223372036854775808\n");
    check_print("()F", (wh_slot){.f64 = 2.5}, "2.5\n");
    check_print("()F", (wh_slot){.f64 = 3}, "3\n");
    check_print("()F", (wh_slot){.f64 = 0.1}, "0.1\n");
    check_print("()F", (wh_slot){.f64 = 1e21}, "1000000000000000000000\n");
    check_print("()F", (wh_slot){.f64 = 12345.678}, "12345.678\n");
    check_print("()F", (wh_slot){.f64 = 1e-7}, "0.0000001\n");
    check_print("()F", (wh_slot){.f64 = -0.0}, "-0\n");
    check_print("()F", (wh_slot){.f64 = (double)INFINITY}, "inf\n");
    check_print("()F", (wh_slot){.f64 = -(double)INFINITY}, "-inf\n");
    check_print("()F", (wh_slot){.f64 = (double)NAN}, "NaN\n");
    check_print("()f", (wh_slot){.f32 = 0.1f}, "0.1\n");
    check_print("()f", (wh_slot){.f32 = 16777216.0f}, "16777216\n");
    check_print("()V", (wh_slot){.v128 = {[15] = 0x80}}, "170141183460469231731687303715884105728\n");
}

TEST(arguments_are_counted)
{
    wh_call call;
    wh_err err = {0};
    char *args[] = {arg("1"), NULL};
    CHECK_OK(wh_call_init(&call, "(ii)i", &err), &err);
    CHECK_ERR(wh_call_args(&call, args, &err), -EINVAL, &err, "takes 2 arguments, 1 were given");
}
