/* SPDX-License-Identifier: Apache-2.0 */
/* RFC 3339 by the civil calendar algorithms of Howard Hinnant: no time zone database, no locale, no globals.
 */
#include "base/clock.h"

#include <stdio.h>
#include <sys/random.h>
#include <time.h>

static wh_time clock_now(clockid_t id)
{
    struct timespec ts;
    wh_assert(clock_gettime(id, &ts) == 0);
    return (wh_time)ts.tv_sec * WH_SEC + ts.tv_nsec;
}

wh_time wh_mono_now(void)
{
    return clock_now(CLOCK_MONOTONIC);
}

wh_time wh_real_now(void)
{
    return clock_now(CLOCK_REALTIME);
}

/* Days since 1970-01-01. */
static int64_t days_from_civil(int64_t y, int64_t m, int64_t d)
{
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t yoe = y - era * 400;
    int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    int64_t doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    return era * 146097 + doe - 719468;
}

static void civil_from_days(int64_t days, int *y, int *m, int *d)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t doe = days - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    *d = (int)(doy - (153 * mp + 2) / 5 + 1);
    *m = (int)(mp < 10 ? mp + 3 : mp - 9);
    *y = (int)(yoe + era * 400 + (*m <= 2));
}

const char *wh_rfc3339(wh_time real, int digits, char out[WH_RFC3339_LEN])
{
    int64_t sec = real / WH_SEC, ns = real % WH_SEC;
    if (ns < 0) {
        ns += WH_SEC;
        sec--;
    }
    int64_t days = sec / 86400, rest = sec % 86400;
    if (rest < 0) {
        rest += 86400;
        days--;
    }
    int y, m, d;
    civil_from_days(days, &y, &m, &d);
    int h = (int)(rest / 3600), min = (int)(rest / 60 % 60), s = (int)(rest % 60);
    int n = snprintf(out, WH_RFC3339_LEN, "%04d-%02d-%02dT%02d:%02d:%02d", y, m, d, h, min, s);
    wh_assert(n == 19); /* 64 bits of nanoseconds end in the year 2262 */
    if (digits == 6)
        (void)snprintf(out + n, WH_RFC3339_LEN - 19, ".%06dZ", (int)(ns / 1000));
    else if (digits == 9)
        (void)snprintf(out + n, WH_RFC3339_LEN - 19, ".%09dZ", (int)ns);
    else
        (void)snprintf(out + n, WH_RFC3339_LEN - 19, "Z");
    return out;
}

/* Takes exactly n digits with a value in [min, max]. */
static bool take_number(const char **s, int n, int min, int max, int *ret)
{
    int value = 0;
    for (int i = 0; i < n; i++) {
        char c = (*s)[i];
        if (c < '0' || c > '9')
            return false;
        value = value * 10 + (c - '0');
    }
    *s += n;
    *ret = value;
    return value >= min && value <= max;
}

static bool take_char(const char **s, char upper)
{
    char lower = upper >= 'A' && upper <= 'Z' ? (char)(upper + ('a' - 'A')) : upper;
    if (**s != upper && **s != lower)
        return false;
    ++*s;
    return true;
}

static bool take_fraction(const char **s, int64_t *ret_ns)
{
    int64_t unit = WH_SEC, ns = 0;
    if (!take_char(s, '.'))
        return true;
    for (; **s >= '0' && **s <= '9'; ++*s) {
        unit /= 10;
        if (unit == 0)
            return false;
        ns += unit * (**s - '0');
    }
    *ret_ns = ns;
    return unit < WH_SEC;
}

static bool take_offset(const char **s, int64_t *ret_sec)
{
    int h, m;
    if (take_char(s, 'Z'))
        return true;
    int64_t sign = **s == '-' ? -1 : 1;
    if (**s != '-' && **s != '+')
        return false;
    ++*s;
    if (!take_number(s, 2, 0, 23, &h) || !take_char(s, ':') || !take_number(s, 2, 0, 59, &m))
        return false;
    *ret_sec = sign * (h * 3600 + m * 60);
    return true;
}

static int days_of_month(int y, int m)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    return days[m - 1] + (m == 2 && leap);
}

static bool take_date(const char **s, int64_t *ret_days)
{
    int y, m, d;
    if (!take_number(s, 4, 0, 9999, &y) || !take_char(s, '-') || !take_number(s, 2, 1, 12, &m) ||
        !take_char(s, '-') || !take_number(s, 2, 1, days_of_month(y, m), &d))
        return false;
    *ret_days = days_from_civil(y, m, d);
    return true;
}

static bool take_time(const char **s, int64_t *ret_sec)
{
    int h, m, sec;
    if (!take_number(s, 2, 0, 23, &h) || !take_char(s, ':') || !take_number(s, 2, 0, 59, &m) ||
        !take_char(s, ':'))
        return false;
    if (!take_number(s, 2, 0, 60, &sec)) /* 60: a leap second is the next minute's first */
        return false;
    *ret_sec = h * 3600 + m * 60 + sec;
    return true;
}

int wh_rfc3339_parse(const char *s, wh_time *ret)
{
    int64_t days, sec, ns = 0, offset = 0, total;
    if (s == NULL || !take_date(&s, &days) || !take_char(&s, 'T') || !take_time(&s, &sec))
        return -EINVAL;
    if (!take_fraction(&s, &ns) || !take_offset(&s, &offset) || *s != '\0')
        return -EINVAL;
    int64_t since = days * 86400 + sec - offset;
    if (__builtin_mul_overflow(since, WH_SEC, &total) || __builtin_add_overflow(total, ns, &total))
        return -EINVAL;
    *ret = total;
    return 0;
}

void wh_random(void *out, size_t n)
{
    char *p = out;
    while (n > 0) {
        ssize_t got = getrandom(p, n, 0);
        if (got < 0 && errno == EINTR)
            continue;
        wh_assert(got > 0);
        p += got;
        n -= (size_t)got;
    }
}

uint64_t wh_rng_next(wh_rng *rng)
{
    uint64_t z = rng->state += 0x9e3779b97f4a7c15ULL;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    return z ^ z >> 31;
}

/* Rejection keeps the result even: what lies above the last whole multiple of `bound` is drawn again. */
uint64_t wh_rng_below(wh_rng *rng, uint64_t bound)
{
    wh_assert(bound > 0);
    uint64_t floor = (0 - bound) % bound;
    for (;;) {
        uint64_t value = wh_rng_next(rng);
        if (value >= floor)
            return value % bound;
    }
}
