/* SPDX-License-Identifier: Apache-2.0 */
#include "runner/invoke.h"

#include <math.h>
#include <stdio.h>

int wh_call_init(wh_call *call, const char *sig, wh_err *err)
{
    *call = (wh_call){.n_params = 0};
    const char *close = sig[0] == '(' ? strchr(sig, ')') : NULL;
    if (close == NULL)
        return wh_fail(err, -EINVAL, "signature '%s' is malformed.", sig);
    call->n_params = (size_t)(close - sig) - 1;
    call->n_results = strlen(close + 1);
    if (call->n_params > WH_INVOKE_SLOTS_MAX || call->n_results > WH_INVOKE_SLOTS_MAX)
        return wh_fail(err, -E2BIG, "more than %d parameters or results.", WH_INVOKE_SLOTS_MAX);
    for (const char *p = sig; *p != '\0'; p++) {
        if (strchr("()iIfFV", *p) == NULL)
            return wh_fail(err, -ENOTSUP, "signature '%s': only numbers can be given on a command line.",
                           sig);
    }
    memcpy(call->sig, sig, strlen(sig) + 1);
    return 0;
}

/* Signed or unsigned, as the type allows: 4294967295 is -1 of an i32. */
static int parse_int(const char *text, unsigned bits, uint64_t *ret)
{
    char *end;
    errno = 0;
    if (text[0] == '-') {
        long long v = strtoll(text, &end, 0);
        if (bits == 32 && (v < INT32_MIN || v > UINT32_MAX))
            return -ERANGE;
        *ret = (uint64_t)v;
    } else {
        *ret = strtoull(text, &end, 0);
        if (bits == 32 && *ret > UINT32_MAX)
            return -ERANGE;
    }
    return errno != 0 ? -errno : end == text || *end != '\0' ? -EINVAL : 0;
}

static int parse_value(char type, const char *text, wh_slot *ret)
{
    uint64_t bits = 0;
    char *end = NULL;
    int rc = 0;
    errno = 0;
    switch (type) {
    case 'i':
        rc = parse_int(text, 32, &bits);
        ret->i32 = (int32_t)(uint32_t)bits;
        return rc;
    case 'I':
        rc = parse_int(text, 64, &bits);
        ret->i64 = (int64_t)bits;
        return rc;
    case 'f':
        ret->f32 = strtof(text, &end);
        break;
    case 'F':
        ret->f64 = strtod(text, &end);
        break;
    default:
        return -ENOTSUP;
    }
    return end == text || *end != '\0' ? -EINVAL : 0;
}

static const char *type_name(char type)
{
    switch (type) {
    case 'i':
        return "i32";
    case 'I':
        return "i64";
    case 'f':
        return "f32";
    case 'F':
        return "f64";
    default:
        return "v128";
    }
}

int wh_call_args(wh_call *call, char *const *args, wh_err *err)
{
    size_t n = wh_strv_len(args);
    if (n != call->n_params)
        return wh_fail(err, -EINVAL, "the function takes %zu arguments, %zu were given.", call->n_params, n);
    for (size_t i = 0; i < n; i++) {
        char type = call->sig[1 + i];
        int rc = parse_value(type, args[i], &call->io[i]);
        if (rc < 0)
            return wh_fail(err, rc, "argument %zu: '%s' is no %s.", i + 1, args[i], type_name(type));
    }
    return 0;
}

static uint64_t bits_of(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof(bits));
    return bits;
}

/* The shortest decimal that reads back as the same number, without an exponent, as Rust prints it. */
static int print_float(wh_buf *out, double v, bool single)
{
    char text[32];
    int digits = 0;
    if (isnan(v))
        return wh_buf_puts(out, "NaN\n");
    if (isinf(v))
        return wh_buf_puts(out, v < 0 ? "-inf\n" : "inf\n");
    for (digits = 0; digits < 17; digits++) {
        (void)snprintf(text, sizeof(text), "%.*e", digits, v);
        double back = single ? (double)strtof(text, NULL) : strtod(text, NULL);
        /* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison,cert-exp42-c,cert-flp37-c): -0 and 0 differ
         * here. */
        if (bits_of(back) == bits_of(v))
            break;
    }
    const char *e = strchr(text, 'e');
    int exponent = e == NULL ? 0 : (int)strtol(e + 1, NULL, 10);
    if (digits - exponent >= 0)
        return wh_buf_printf(out, "%.*f\n", digits - exponent, v);
    /* A large number: its digits, then zeros. */
    for (const char *p = text; p < e; p++) {
        if (*p != '.')
            (void)wh_buf_putc(out, *p);
    }
    for (int i = digits; i < exponent; i++)
        (void)wh_buf_putc(out, '0');
    return wh_buf_putc(out, '\n');
}

static int print_v128(wh_buf *out, const uint8_t bytes[16])
{
    unsigned __int128 v;
    char text[48];
    size_t at = sizeof(text);
    memcpy(&v, bytes, sizeof(v));
    text[--at] = '\0';
    do {
        text[--at] = (char)('0' + (int)(v % 10));
        v /= 10;
    } while (v > 0);
    return wh_buf_printf(out, "%s\n", text + at);
}

int wh_call_print(const wh_call *call, wh_buf *out)
{
    const char *types = call->sig + 1 + call->n_params + 1;
    for (size_t i = 0; i < call->n_results; i++) {
        const wh_slot *v = &call->io[i];
        switch (types[i]) {
        case 'i':
            (void)wh_buf_printf(out, "%d\n", v->i32);
            break;
        case 'I':
            (void)wh_buf_printf(out, "%lld\n", (long long)v->i64);
            break;
        case 'f':
            (void)print_float(out, (double)v->f32, true);
            break;
        case 'F':
            (void)print_float(out, v->f64, false);
            break;
        default:
            (void)print_v128(out, v->v128);
            break;
        }
    }
    return out->failed ? -ENOBUFS : 0;
}
