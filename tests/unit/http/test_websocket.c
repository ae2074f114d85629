/* SPDX-License-Identifier: Apache-2.0 */
/* WebSocket frames: those of RFC 6455 5.7, what must be refused, limits, and the writer against the reader. */
#include "websocket_log.h"

#include "harness.h"

#include "base/clock.h"

/* At once, byte by byte, and in threes. */
static void expect(bool server, uint64_t max, const void *input, size_t n, const char *events)
{
    static const size_t pieces[] = {SIZE_MAX, 1, 3};
    for (size_t i = 0; i < WH_ARRAY_LEN(pieces); i++) {
        ws_log l;
        ws_log_init(&l, server, max);
        CHECK(ws_log_feed(&l, input, n, pieces[i]));
        CHECK_STR(wh_buf_str(&l.out), events);
        ws_log_done(&l);
    }
}

#define FROM_SERVER(bytes, events) expect(false, 0, bytes, sizeof(bytes) - 1, events)
#define FROM_CLIENT(bytes, events) expect(true, 0, bytes, sizeof(bytes) - 1, events)

TEST(frames_of_the_rfc)
{
    FROM_SERVER("\x81\x05Hello", "text Hello\n");
    FROM_CLIENT("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", "text Hello\n");
    FROM_SERVER("\x01\x03Hel\x80\x02lo", "text Hello\n");
    FROM_SERVER("\x89\x05Hello", "ping Hello\n");
    FROM_CLIENT("\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", "pong Hello\n");
    FROM_SERVER("\x01\x03Hel\x89\x01!\x80\x02lo", "ping !\ntext Hello\n"); /* between pieces */
    FROM_SERVER("\x82\x00\x81\x00\x89\x00", "binary \ntext \nping \n");
    FROM_SERVER("\x01\x00\x00\x00\x80\x00", "text \n");
}

TEST(closing)
{
    FROM_SERVER("\x88\x00\x81\x05Hello", "close 1005 \n"); /* what follows is dropped */
    FROM_SERVER("\x88\x05\x03\xe8"
                "bye",
                "close 1000 bye\n");
    FROM_SERVER("\x88\x01\x03", "refuse 1002 close-size\n");
    FROM_SERVER("\x88\x02\x03\xed", "refuse 1002 close-code\n"); /* 1005 */
    FROM_SERVER("\x88\x02\x0b\xb7", "refuse 1002 close-code\n"); /* 2999 */
    FROM_SERVER("\x88\x02\x0b\xb8", "close 3000 \n");
    FROM_SERVER("\x88\x02\x13\x87", "close 4999 \n");
    FROM_SERVER("\x88\x02\x13\x88", "refuse 1002 close-code\n");
    FROM_SERVER("\x88\x03\x03\xe8\xff", "refuse 1007 utf-8\n");
}

TEST(what_is_refused)
{
    FROM_SERVER("\xc1\x00", "refuse 1002 rsv\n");
    FROM_SERVER("\x91\x00", "refuse 1002 rsv\n");
    FROM_SERVER("\x83\x00", "refuse 1002 opcode\n");
    FROM_SERVER("\x8b\x00", "refuse 1002 opcode\n");
    FROM_SERVER("\x81\x85", "refuse 1002 mask\n");
    FROM_CLIENT("\x81\x05", "refuse 1002 mask\n");
    FROM_SERVER("\x09\x00", "refuse 1002 control-fragment\n");
    FROM_SERVER("\x89\x7e\x00\x7d", "refuse 1002 control-size\n");
    FROM_SERVER("\x80\x00", "refuse 1002 continuation\n");
    FROM_SERVER("\x01\x01"
                "a\x81\x01"
                "b",
                "refuse 1002 interleaved\n");
    FROM_SERVER("\x82\x7e\x00\x7d", "refuse 1002 length\n"); /* 125 in two bytes */
    FROM_SERVER("\x82\x7f\x00\x00\x00\x00\x00\x00\xff\xff", "refuse 1002 length\n");
    FROM_SERVER("\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00", "refuse 1002 length\n");
    FROM_SERVER("\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", "refuse 1009 message-size\n");
}

TEST(text_is_utf8)
{
    FROM_SERVER("\x81\x0ck\xc3\xb6 \xe2\x82\xac \xf0\x9f\x98\x80",
                "text k\\xc3\\xb6 \\xe2\\x82\\xac \\xf0\\x9f\\x98\\x80\n");
    FROM_SERVER("\x01\x02"
                "a\xc3\x80\x01\xb6",
                "text a\\xc3\\xb6\n"); /* a character in two frames */
    static const struct {
        const char *bytes;
        size_t n;
    } bad[] = {{"\x80", 1},
               {"\xc3", 1},
               {"\xc0\xaf", 2},
               {"\xc1\xbf", 2},
               {"\xe0\x9f\xbf", 3},
               {"\xed\xa0\x80", 3},
               {"\xf0\x8f\xbf\xbf", 4},
               {"\xf4\x90\x80\x80", 4},
               {"\xf5\x80\x80\x80", 4},
               {"\xff", 1},
               {"a\xe2\x82", 3},
               {"0123456789012345\xff", 17}};
    for (size_t i = 0; i < WH_ARRAY_LEN(bad); i++) {
        wh_buf b;
        wh_buf_init(&b, 100);
        CHECK_INT(wh_ws_write(&b, &(wh_ws_frame){.kind = WH_WS_TEXT, .fin = true}, bad[i].bytes, bad[i].n),
                  ==, 0);
        expect(false, 0, b.p, b.len, "refuse 1007 utf-8\n");
        wh_buf_done(&b);
    }
    FROM_SERVER("\x82\x02\xff\x80", "binary \\xff\\x80\n");
}

TEST(limit_of_a_message)
{
    expect(false, 4,
           "\x82\x04"
           "abcd",
           6, "binary abcd\n");
    expect(false, 4,
           "\x82\x05"
           "abcde",
           7, "refuse 1009 message-size\n");
    expect(false, 4,
           "\x02\x03"
           "abc\x80\x01"
           "d\x82\x04"
           "abcd",
           14, "binary abcd\nbinary abcd\n");
    expect(false, 4,
           "\x02\x03"
           "abc\x80\x02"
           "de",
           9, "refuse 1009 message-size\n");
}

TEST(limit_of_control_frames)
{
    wh_buf b;
    wh_buf_init(&b, 1000);
    static char data[WH_WS_CONTROL_BYTES_MAX + 1];
    memset(data, 'a', sizeof(data));
    const wh_ws_frame ping = {.kind = WH_WS_PING, .fin = true};
    CHECK_INT(wh_ws_write(&b, &ping, data, WH_WS_CONTROL_BYTES_MAX), ==, 0);
    ws_log l;
    ws_log_init(&l, false, 0);
    CHECK(ws_log_feed(&l, b.p, b.len, SIZE_MAX));
    CHECK_INT(l.out.len, ==, WH_WS_CONTROL_BYTES_MAX + strlen("ping \n"));
    ws_log_done(&l);
    size_t before = b.len;
    CHECK_FAIL(wh_ws_write(&b, &ping, data, sizeof(data)), -EINVAL);
    CHECK_FAIL(wh_ws_write_close(&b, 1000, (wh_str){data, WH_WS_CONTROL_BYTES_MAX - 1}, NULL), -EINVAL);
    CHECK_INT(b.len, ==, before);
    CHECK_INT(wh_ws_write_close(&b, 1000, (wh_str){data, WH_WS_CONTROL_BYTES_MAX - 2}, NULL), ==, 0);
    wh_buf_done(&b);
}

TEST(limit_of_empty_pieces)
{
    for (size_t past = 0; past < 2; past++) {
        char input[2 * (WH_WS_EMPTY_PIECES_MAX + 2)];
        size_t n = WH_WS_EMPTY_PIECES_MAX + past;
        for (size_t i = 0; i < n; i++) {
            input[2 * i] = i == 0 ? '\x02' : '\x00';
            input[2 * i + 1] = '\0';
        }
        input[2 * n] = '\x80';
        input[2 * n + 1] = '\0';
        expect(false, 0, input, 2 * n + 2, past == 0 ? "binary \n" : "refuse 1002 empty-pieces\n");
    }
}

TEST(writer_refuses_what_the_reader_would)
{
    wh_buf b;
    wh_buf_init(&b, 1000);
    CHECK_FAIL(wh_ws_write(&b, &(wh_ws_frame){.kind = WH_WS_PING}, "", 0), -EINVAL);
    CHECK_FAIL(wh_ws_write(&b, &(wh_ws_frame){.kind = WH_WS_PONG, .fin = true, .more = true}, "", 0),
               -EINVAL);
    CHECK_FAIL(wh_ws_write(&b, &(wh_ws_frame){.kind = WH_WS_CLOSE, .fin = true}, "", 0), -EINVAL);
    CHECK_FAIL(wh_ws_write(&b, &(wh_ws_frame){.kind = WH_WS_NONE, .fin = true}, "", 0), -EINVAL);
    CHECK_FAIL(wh_ws_write_close(&b, 1006, WH_STR(""), NULL), -EINVAL);
    CHECK_FAIL(wh_ws_write_close(&b, 1005, WH_STR("x"), NULL), -EINVAL);
    CHECK_FAIL(wh_ws_write_close(&b, 1000, WH_STR("\xff"), NULL), -EINVAL);
    CHECK_INT(b.len, ==, 0);
    CHECK_INT(wh_ws_write_close(&b, 1005, WH_STR(""), NULL), ==, 0);
    CHECK_MEM(b.p, "\x88\x00", 2);
    wh_buf_done(&b);
}

/* Around each border of the length's form, masked and not, whole and in pieces. */
TEST(what_is_written_is_read)
{
    static const size_t sizes[] = {0, 1, 7, 8, 15, 16, 17, 125, 126, 127, 65535, 65536, 70001};
    static char data[70001];
    wh_rng rng = {1};
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (char)wh_rng_below(&rng, 256);
    for (size_t i = 0; i < WH_ARRAY_LEN(sizes); i++) {
        for (int masked = 0; masked < 2; masked++) {
            const uint8_t mask[4] = {0x12, 0xfe, 0x00, 0x9a};
            wh_buf b;
            wh_buf_init(&b, 1UL << 20);
            wh_ws_frame frame = {.kind = WH_WS_BINARY, .mask = masked ? mask : NULL};
            size_t half = sizes[i] / 3;
            CHECK_INT(wh_ws_write(&b, &frame, data, half), ==, 0);
            frame.more = frame.fin = true;
            CHECK_INT(wh_ws_write(&b, &frame, data + half, sizes[i] - half), ==, 0);
            frame.more = false;
            CHECK_INT(wh_ws_write(&b, &frame, data, sizes[i]), ==, 0);
            wh_ws w;
            wh_ws_init(&w, masked, 0);
            size_t got = 0;
            size_t messages = 0;
            for (size_t at = 0; at < b.len;) {
                size_t used = 0;
                wh_ws_event event;
                size_t n = WH_MIN(b.len - at, 1 + wh_rng_below(&rng, 5000));
                CHECK_INT(wh_ws_feed(&w, b.p + at, n, &used, &event), ==, 0);
                at += used;
                if (event.kind == WH_WS_NONE)
                    continue;
                CHECK_INT(event.kind, ==, WH_WS_BINARY);
                CHECK_MEM(event.data.p, data + got, event.data.n);
                got = event.last ? 0 : got + event.data.n;
                messages += event.last;
            }
            CHECK_INT(messages, ==, 2);
            wh_buf_done(&b);
        }
    }
}
