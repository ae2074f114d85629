# SPDX-License-Identifier: Apache-2.0
"""Requests that two parties could read differently get one answer, and nothing behind them is read as a request."""
import pytest

from server import statuses

NEXT = b"GET /head HTTP/1.1\r\nHost: h\r\n\r\n"


def head(*lines, start=b"POST /sink HTTP/1.1", host=b"Host: h"):
    return b"\r\n".join([start, *([host] if host else []), *lines]) + b"\r\n\r\n"


CHUNKED = b"Transfer-Encoding: chunked"
REFUSED = {
    "length and chunked": (400, head(b"Content-Length: 4", CHUNKED) + b"0\r\n\r\n"),
    "two different lengths": (400, head(b"Content-Length: 4", b"Content-Length: 5") + b"abcd"),
    "two equal lengths": (400, head(b"Content-Length: 4", b"Content-Length: 4") + b"abcd"),
    "a list of lengths": (400, head(b"Content-Length: 4, 4") + b"abcd"),
    "a signed length": (400, head(b"Content-Length: +4") + b"abcd"),
    "a length past 63 bits": (400, head(b"Content-Length: 9223372036854775808")),
    "chunked in HTTP/1.0": (400, head(CHUNKED, start=b"POST /sink HTTP/1.0") + b"0\r\n\r\n"),
    "chunked is not last": ((400, 501), head(b"Transfer-Encoding: chunked, identity") + b"0\r\n\r\n"),
    "an unknown coding": ((400, 501), head(b"Transfer-Encoding: xchunked") + b"0\r\n\r\n"),
    "gzip, chunked": (501, head(b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n"),
    "chunked twice": (400, head(b"Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n"),
    "two codings": (400, head(CHUNKED, CHUNKED) + b"0\r\n\r\n"),
    "blank before the colon": (400, head(b"Transfer-Encoding : chunked") + b"0\r\n\r\n"),
    "blank before the first field": (400, head(start=b"GET /sink HTTP/1.1\r\n X: y")),
    "bare LF in the head": (400, b"GET /sink HTTP/1.1\nHost: h\n\n"),
    "bare LF behind a field": (400, b"GET /sink HTTP/1.1\r\nHost: h\nX: y\r\n\r\n"),
    "bare LF behind a chunk size": (400, head(CHUNKED) + b"1\nx\r\n0\r\n\r\n"),
    "bare LF in a chunk extension": (400, head(CHUNKED) + b"1;a\nb\r\nx\r\n0\r\n\r\n"),
    "chunk size 0x1": (400, head(CHUNKED) + b"0x1\r\nx\r\n0\r\n\r\n"),
    "chunk size of 17 digits": (400, head(CHUNKED) + b"00000000000000001\r\nx\r\n0\r\n\r\n"),
    "a chunk longer than it says": (400, head(CHUNKED) + b"1\r\nxy\r\n0\r\n\r\n"),
    "obs-fold": (400, head(b"X: a", b" b")),
    "NUL in a value": (400, head(b"X: a\0b")),
    "bare CR in a value": (400, head(b"X: a\rTransfer-Encoding: chunked")),
    "two hosts": (400, head(b"Host: i")),
    "no host": (400, head(host=None)),
    "a target that differs from the host": (400, head(start=b"GET http://other/ HTTP/1.1")),
    "an empty field name": (400, head(b": x")),
    "two blanks in the request line": (400, head(start=b"GET  / HTTP/1.1")),
    "a blank before the version": (400, head(start=b"GET /  HTTP/1.1")),
    "a tab in the request line": (400, head(start=b"GET\t/ HTTP/1.1")),
    "two empty lines before it": (400, b"\r\n\r\n" + NEXT),
    "HTTP/9.9": (505, head(start=b"GET / HTTP/9.9")),
    "HTTP/2.0": (505, head(start=b"GET / HTTP/2.0")),
    "a fragment": (400, head(start=b"GET /a#b HTTP/1.1")),
    "a byte past ASCII in the target": (400, head(start=b"GET /\xc3\xa9 HTTP/1.1")),
    "an unknown expectation": (417, head(b"Expect: 200-ok", b"Content-Length: 0")),
    "dot segments": (400, head(start=b"GET /a/../b HTTP/1.1")),
    "encoded dot segments": (400, head(start=b"GET /a/%2e%2E/b HTTP/1.1")),
    "an encoded NUL": (400, head(start=b"GET /a%00 HTTP/1.1")),
    "CONNECT": (400, head(start=b"CONNECT h:80 HTTP/1.1", host=b"Host: h:80")),
    "a request line of more than 16 KiB": (414, head(start=b"GET /" + b"a" * 16400 + b" HTTP/1.1")),
    "a head of more than 64 KiB": (431, head(*[b"X: " + b"a" * 8000] * 9)),
    "101 fields": (431, head(*[b"X: y"] * 100)),
    "33 trailers": (400, head(CHUNKED) + b"0\r\n" + b"X: y\r\n" * 33 + b"\r\n"),
    "trailers of more than 8 KiB": (400, head(CHUNKED) + b"0\r\n" + b"X: " + b"y" * 8200 + b"\r\n\r\n"),
    "a chunk line without end": (400, head(CHUNKED) + b"1;" + b"a" * 300),
}
ACCEPTED = {
    "a chunk extension": (head(CHUNKED) + b'1;a=b;c="d e"\r\nx\r\n0\r\n\r\n', b"1 bytes were read\n"),
    "one empty line before it": (b"\r\n" + NEXT, b"GET http h /head 11 0\n"),
    "HTTP/1.2": (head(start=b"GET /head HTTP/1.2"), b"GET http h /head 11 0\n"),
    "an absolute target": (head(start=b"GET http://h/head?a=b HTTP/1.1"), b"GET http h /head?a=b 11 0\n"),
    "100 fields": (head(*[b"X: y"] * 99, b"Content-Length: 0")[:-2].replace(b"X: y\r\n", b"", 1) + b"\r\n",
                   b"0 bytes were read\n"),
    "a length": (head(b"Content-Length: 2") + b"ok", b"2 bytes were read\n"),
    "trailers": (head(CHUNKED) + b"2\r\nok\r\n0\r\nX: y\r\n\r\n", b"2 bytes were read\n"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(server, name):
    status, request = REFUSED[name]
    answer, closed = server.talk(request + NEXT)
    found = statuses(answer)
    assert len(found) == 1, answer
    assert found[0] in (status if isinstance(status, tuple) else (status,)), answer
    assert b"Connection: close\r\n" in answer
    assert closed


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(server, name):
    request, body = ACCEPTED[name]
    answer, closed = server.talk(request + NEXT)
    assert statuses(answer) == [200, 200], answer
    assert body in answer
    assert not closed


def test_upgrade_to_h2c_is_passed_over(server):
    answer, _ = server.talk(head(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk",
                                 start=b"GET /head HTTP/1.1"))
    assert statuses(answer) == [200]
