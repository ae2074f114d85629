/* SPDX-License-Identifier: Apache-2.0 */
/* resource.Quantity of Kubernetes (apimachinery/pkg/api/resource), in nano units of 128 bits. */
#include "pod/quantity.h"

#include "base/str.h"

#define NANO ((wh_nano)1000 * 1000 * 1000)
#define NANO_MAX ((wh_nano)INT64_MAX * NANO)
#define DIGITS_MAX 20 /* significant ones that count: 10^20 * 2^60 still fits 127 bits */

/* mantissa * 10^power10 * 2^power2 nano units, and maybe a little more. */
typedef struct scaled {
    wh_nano mantissa;
    int64_t power10;
    int power2;
    bool more;
} scaled;

static int parse_suffix(const char *s, scaled *q)
{
    static const struct {
        const char *text;
        int power10, power2;
    } suffixes[] = {{"", 0, 0},    {"n", -9, 0},  {"u", -6, 0},  {"m", -3, 0}, {"k", 3, 0},   {"M", 6, 0},
                    {"G", 9, 0},   {"T", 12, 0},  {"P", 15, 0},  {"E", 18, 0}, {"Ki", 0, 10}, {"Mi", 0, 20},
                    {"Gi", 0, 30}, {"Ti", 0, 40}, {"Pi", 0, 50}, {"Ei", 0, 60}};
    int64_t exponent = 0;
    for (size_t i = 0; i < WH_ARRAY_LEN(suffixes); i++) {
        if (strcmp(s, suffixes[i].text) == 0) {
            q->power10 += suffixes[i].power10;
            q->power2 = suffixes[i].power2;
            return 0;
        }
    }
    if (*s != 'e' && *s != 'E')
        return -EINVAL;
    s += s[1] == '+' && s[2] != '-' ? 2 : 1;
    if (wh_parse_i64(s, -1000, 1000, &exponent) < 0)
        return -EINVAL;
    q->power10 += exponent;
    return 0;
}

/* Digits with at most one point among them; *s ends behind them. */
static int parse_digits(const char **s, scaled *q)
{
    size_t digits = 0, significant = 0;
    bool point = false;
    for (; (**s >= '0' && **s <= '9') || (**s == '.' && !point); (*s)++) {
        if (**s == '.') {
            point = true;
            continue;
        }
        digits++;
        if (significant > 0 || **s != '0')
            significant++;
        if (significant <= DIGITS_MAX)
            q->mantissa = q->mantissa * 10 + (**s - '0');
        else
            q->more |= **s != '0';
        if (point && significant <= DIGITS_MAX)
            q->power10--;
        else if (!point && significant > DIGITS_MAX)
            q->power10++;
    }
    return digits > 0 ? 0 : -EINVAL;
}

static wh_nano scale(scaled q)
{
    wh_nano value = q.mantissa << q.power2;
    for (; q.power10 > 0 && value > 0 && value < NANO_MAX; q.power10--)
        value *= 10;
    for (; q.power10 < 0 && value > 0; q.power10++) {
        q.more |= value % 10 != 0;
        value /= 10;
    }
    if (q.more)
        value++;
    return value > NANO_MAX ? NANO_MAX : value;
}

int wh_quantity_parse(const char *text, wh_quantity *ret, wh_err *err)
{
    const char *s = text;
    scaled q = {.power10 = 9};
    bool minus = *s == '-';
    if (*s == '-' || *s == '+')
        s++;
    if (strlen(text) > 128 || parse_digits(&s, &q) < 0 || parse_suffix(s, &q) < 0)
        return wh_fail(err, -EINVAL, "'%.40s' is not a quantity like 100m, 1.5 or 64Mi.", text);
    wh_nano value = scale(q);
    *ret = (wh_quantity){.nano = minus ? -value : value, .set = true};
    return 0;
}

static int64_t ceil_divide(wh_nano value, wh_nano by)
{
    wh_nano result = value / by + (value % by > 0 ? 1 : 0);
    if (result > INT64_MAX)
        return INT64_MAX;
    return result < INT64_MIN ? INT64_MIN : (int64_t)result;
}

int64_t wh_quantity_units(wh_quantity q)
{
    return ceil_divide(q.nano, NANO);
}

int64_t wh_quantity_millis(wh_quantity q)
{
    return ceil_divide(q.nano, NANO / 1000);
}

int64_t wh_quantity_divide(wh_quantity q, wh_quantity divisor)
{
    return ceil_divide(q.nano, divisor.set && divisor.nano > 0 ? divisor.nano : NANO);
}
