/* SPDX-License-Identifier: Apache-2.0 */
/* Writes a JSON text of about 130 KB once, then checks and sums it up n times with a recursive reader. */
#include "kernels.h"

#define TEXT_MAX 160000

static char text[TEXT_MAX];
static uint32_t length;

static void put(const char *s)
{
    while (*s != '\0')
        text[length++] = *s++;
}

static void put_number(uint32_t x)
{
    char digits[12];
    int n = 0;
    do {
        digits[n++] = (char)('0' + x % 10);
        x /= 10;
    } while (x > 0);
    while (n > 0)
        text[length++] = digits[--n];
}

static void write_text(void)
{
    length = 0;
    put("[");
    for (uint32_t i = 0; i < 1500; i++) {
        put(i > 0 ? ",\n " : "\n ");
        put("{\"id\": ");
        put_number(i * 7919);
        put(", \"name\": \"pod-\\u00e9-");
        put_number(i);
        put("\", \"ready\": true, \"weights\": [1, 22, 333, ");
        put_number(i * i);
        put("], \"owner\": null}");
    }
    put("\n]");
    text[length] = '\0';
}

typedef struct reader {
    const char *p;
    uint64_t sum;
    int depth;
} reader;

static int value(reader *r);

static void space(reader *r)
{
    while (*r->p == ' ' || *r->p == '\n' || *r->p == '\t' || *r->p == '\r')
        r->p++;
}

static int string(reader *r)
{
    for (r->p++; *r->p != '"'; r->p++) {
        if (*r->p == '\0')
            return -1;
        if (*r->p == '\\')
            r->p++;
        r->sum = r->sum * 33 + (uint8_t)*r->p;
    }
    r->p++;
    return 0;
}

static int sequence(reader *r, char close, int pairs)
{
    r->p++;
    space(r);
    if (*r->p == close) {
        r->p++;
        return 0;
    }
    for (;;) {
        space(r);
        if (pairs) {
            if (*r->p != '"' || string(r) < 0)
                return -1;
            space(r);
            if (*r->p++ != ':')
                return -1;
        }
        if (value(r) < 0)
            return -1;
        space(r);
        if (*r->p == close)
            break;
        if (*r->p++ != ',')
            return -1;
    }
    r->p++;
    return 0;
}

static int word(reader *r, const char *s)
{
    while (*s != '\0') {
        if (*r->p++ != *s++)
            return -1;
    }
    r->sum++;
    return 0;
}

static int value(reader *r)
{
    int rc = -1;
    space(r);
    if (++r->depth > 64)
        return -1;
    switch (*r->p) {
    case '{':
        rc = sequence(r, '}', 1);
        break;
    case '[':
        rc = sequence(r, ']', 0);
        break;
    case '"':
        rc = string(r);
        break;
    case 't':
        rc = word(r, "true");
        break;
    case 'f':
        rc = word(r, "false");
        break;
    case 'n':
        rc = word(r, "null");
        break;
    default:
        if (*r->p >= '0' && *r->p <= '9') {
            uint64_t x = 0;
            while (*r->p >= '0' && *r->p <= '9')
                x = x * 10 + (uint64_t)(*r->p++ - '0');
            r->sum += x;
            rc = 0;
        }
        break;
    }
    r->depth--;
    return rc;
}

uint64_t kernel_json(uint32_t n)
{
    uint64_t sum = 0;
    write_text();
    for (uint32_t i = 0; i < n; i++) {
        reader r = {text, i, 0};
        if (value(&r) < 0)
            return 0;
        sum += r.sum;
    }
    return sum + length;
}
