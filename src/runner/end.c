/* SPDX-License-Identifier: Apache-2.0 */
/* End records. They are written by a signal handler too, so by hand: no allocation, no stdio, one pwrite.
 * "whole" comes last: a record without it was cut off. */
#include "runner/spec.h"

#include "base/record.h"

#define END_BYTES_MAX 2048

typedef struct out {
    char bytes[END_BYTES_MAX];
    size_t n;
} out;

static void put(out *o, const char *key, const char *value, size_t n)
{
    size_t key_len = strlen(key);
    wh_assert(o->n + 1 + key_len + 4 + n <= sizeof(o->bytes));
    o->bytes[o->n++] = (char)key_len;
    memcpy(o->bytes + o->n, key, key_len);
    o->n += key_len;
    for (unsigned shift = 0; shift < 32; shift += 8)
        o->bytes[o->n++] = (char)(uint8_t)(n >> shift);
    memcpy(o->bytes + o->n, value, n);
    o->n += n;
}

static void put_number(out *o, const char *key, uint64_t value)
{
    char text[24];
    size_t at = sizeof(text);
    do {
        text[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    put(o, key, text + at, sizeof(text) - at);
}

int wh_end_record_write(int fd, const wh_end_record *end)
{
    out o = {.n = 0};
    put_number(&o, "exit_code", (uint64_t)(unsigned)end->exit_code);
    put(&o, "reason", end->reason, strnlen(end->reason, sizeof(end->reason) - 1));
    put(&o, "message", end->message, strnlen(end->message, sizeof(end->message) - 1));
    put_number(&o, "guest_start", (uint64_t)end->guest_start);
    put_number(&o, "end", (uint64_t)end->end);
    put_number(&o, "memory_bytes", end->memory_bytes);
    put(&o, "whole", "1", 1);
    ssize_t n;
    do {
        n = pwrite(fd, o.bytes, o.n, 0);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : (size_t)n == o.n ? 0 : -ENOSPC;
}

static int copy_string(const char *data, size_t n, const char *key, char *to, size_t size, wh_err *err)
{
    auto_free char *s = NULL;
    int rc = wh_record_get_str(data, n, key, &s, err);
    if (rc < 0)
        return rc;
    size_t len = strlen(s);
    if (len >= size)
        return wh_fail(err, -EBADMSG, "field '%s' has %zu bytes, at most %zu are allowed.", key, len,
                       size - 1);
    memcpy(to, s, len + 1);
    return 0;
}

static int parse(const char *data, size_t n, wh_end_record *end, wh_err *err)
{
    int64_t code = 0, start = 0, at = 0, memory = 0;
    int rc = wh_record_get_i64(data, n, "exit_code", 0, 255, &code, err);
    if (rc == 0)
        rc = wh_record_get_i64(data, n, "guest_start", 0, INT64_MAX, &start, err);
    if (rc == 0)
        rc = wh_record_get_i64(data, n, "end", 0, INT64_MAX, &at, err);
    if (rc == 0)
        rc = wh_record_get_i64(data, n, "memory_bytes", 0, INT64_MAX, &memory, err);
    if (rc == 0)
        rc = copy_string(data, n, "reason", end->reason, sizeof(end->reason), err);
    if (rc == 0)
        rc = copy_string(data, n, "message", end->message, sizeof(end->message), err);
    if (rc < 0)
        return wh_fail(err, -EBADMSG, "end record is malformed.");
    end->exit_code = (int)code;
    end->guest_start = start;
    end->end = at;
    end->memory_bytes = (uint64_t)memory;
    return 0;
}

int wh_end_record_read(int fd, wh_end_record *ret, wh_err *err)
{
    char data[END_BYTES_MAX + 1];
    wh_end_record end = {0};
    int64_t whole;
    ssize_t n = pread(fd, data, sizeof(data), 0);
    if (n < 0)
        return wh_fail(err, -errno, "read the end record");
    if (n > END_BYTES_MAX)
        return wh_fail(err, -EBADMSG, "end record has more than %d bytes.", END_BYTES_MAX);
    /* What was cut off anywhere lacks its last field, however it ends. */
    if (wh_record_get_i64(data, (size_t)n, "whole", 1, 1, &whole, NULL) < 0)
        return wh_fail(err, -ENODATA, "no whole end record.");
    if (wh_record_check(data, (size_t)n, NULL) < 0)
        return wh_fail(err, -EBADMSG, "end record is malformed.");
    int rc = parse(data, (size_t)n, &end, err);
    if (rc < 0)
        return rc;
    *ret = end;
    return 0;
}
