/* SPDX-License-Identifier: Apache-2.0 */
/* The alphabets of RFC 9110, the names of status codes, the classes of fields, and percent-encoding. */
#include "http/h1_private.h"

#include <strings.h>

/* Sixteen bytes a line; what is past ASCII (obs-text) may stand in values only. */
/* clang-format off */
const uint8_t wh_h1_alphabet[256] = {
     0,  0,  0,  0,  0,  0,  0,  0,  0,  2,  0,  0,  0,  0,  0,  0,
     0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
     2, 15, 10,  3, 15, 15, 15, 15, 14, 14, 15, 15, 10, 15, 15, 10, /*  !"#$%&'()*+,-./ */
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 14, 14, 10, 14, 10, 10, /* 0123456789:;<=>? */
    10, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, /* @ABCDEFGHIJKLMNO */
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 14, 10, 14, 11, 15, /* PQRSTUVWXYZ[\]^_ */
    11, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, /* `abcdefghijklmno */
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 10, 11, 10, 15,  0, /* pqrstuvwxyz{|}~ */
    [128 ... 255] = H1_VALUE,
};
const char wh_h1_name_byte[256] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, '!', 0, '#', '$', '%', '&', '\'', 0, 0, '*', '+', 0, '-', '.', 0,
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 0, 0, 0, 0, 0, 0,
    0, 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o',
    'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', 0, 0, 0, '^', '_',
    '`', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o',
    'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', 0, '|', 0, '~', 0,
};
/* clang-format on */

bool wh_h1_is_token(wh_str s)
{
    return s.n > 0 && wh_h1_all(s, H1_TOKEN);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

bool wh_h1_is_value(wh_str s)
{
    if (s.n > 0 && (is_blank(s.p[0]) || is_blank(s.p[s.n - 1])))
        return false;
    size_t i = 0;
    while (s.n - i >= sizeof(uint64_t) && wh_h1_controls(s.p + i) == 0)
        i += sizeof(uint64_t);
    return wh_h1_all((wh_str){s.p + i, s.n - i}, H1_VALUE); /* from the first TAB on, or the rest */
}

static bool is_one_of(wh_str name, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strlen(names[i]) == name.n && memcmp(names[i], name.p, name.n) == 0)
            return true;
    return false;
}

bool wh_h1_is_hop_field(wh_str name)
{
    static const char *const names[] = {"connection", "keep-alive",        "proxy-connection", "te",
                                        "trailer",    "transfer-encoding", "upgrade"};
    return is_one_of(name, names, WH_ARRAY_LEN(names));
}

bool wh_h1_is_forbidden_trailer(wh_str name)
{
    static const char *const names[] = {"transfer-encoding",
                                        "content-length",
                                        "host",
                                        "trailer",
                                        "connection",
                                        "te",
                                        "upgrade",
                                        "expect",
                                        "authorization",
                                        "content-encoding",
                                        "content-type",
                                        "content-range",
                                        "max-forwards",
                                        "cache-control",
                                        "range",
                                        "cookie",
                                        "proxy-authorization",
                                        "keep-alive",
                                        "proxy-connection",
                                        "set-cookie",
                                        "proxy-authenticate",
                                        "www-authenticate"};
    return is_one_of(name, names, WH_ARRAY_LEN(names));
}

const char *wh_h1_reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } table[] = {
        {100, "Continue"},
        {101, "Switching Protocols"},
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {426, "Upgrade Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < WH_ARRAY_LEN(table); i++)
        if (table[i].status == status)
            return table[i].reason;
    return "Unknown";
}

int wh_percent_decode(wh_str s, bool form, char **ret)
{
    auto_free char *out = malloc(s.n + 1);
    if (out == NULL)
        return -ENOMEM;
    size_t len = 0;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '%') {
            uint8_t byte;
            if (s.n - i < 3 || wh_unhex(s.p + i + 1, 2, &byte) < 0)
                return -EBADMSG;
            c = (char)byte;
            i += 2;
        } else if (c == '+' && form) {
            c = ' ';
        }
        if (c == '\0')
            return -EBADMSG;
        out[len++] = c;
    }
    out[len] = '\0';
    *ret = WH_TAKE(out);
    return 0;
}

wh_str wh_h1_get(const wh_h1 *h, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < h->n_fields; i++)
        if (h->fields[i].name.n == n && memcmp(h->fields[i].name.p, name, n) == 0)
            return h->fields[i].value;
    return (wh_str){NULL, 0};
}

bool wh_h1_has_token(const wh_h1 *h, const char *name, const char *token)
{
    size_t name_len = strlen(name);
    size_t token_len = strlen(token);
    for (size_t i = 0; i < h->n_fields; i++) {
        if (h->fields[i].name.n != name_len || memcmp(h->fields[i].name.p, name, name_len) != 0)
            continue;
        wh_str rest = h->fields[i].value;
        wh_str piece;
        while (wh_str_split(&rest, ',', &piece)) {
            piece = wh_str_trim(piece);
            if (piece.n == token_len && strncasecmp(piece.p, token, token_len) == 0)
                return true;
        }
    }
    return false;
}
