# SPDX-License-Identifier: Apache-2.0
"""What our HTTP/1 codec accepts, h11 accepts with the same heads, bodies and borders; we may be stricter, never laxer.

Inputs are the codec's case files and seeded mutations of them."""
import pathlib
import random
import re
import struct
import subprocess

import h11
import pytest

from common import BIN, ROOT

TOOL = BIN.parent / "tests" / "integration" / "http" / "h1-log"
MUTATIONS = 20000
PIECES = [b"\r\n", b"\n", b"\r", b" ", b"\t", b"\0", b":", b",", b";", b"=", b"0", b"1", b"5", b"f", b"+", b"-", b"\x7f",
          b"\x80", b"\x0b", b"\x0c", b"chunked", b"Content-Length: 3\r\n", b"Content-Length:3\r\n",
          b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding : chunked\r\n", b"transfer-encoding:\tchunked \r\n",
          b"0\r\n\r\n", b"3\r\nabc\r\n", b"3;a=b\r\nabc\r\n", b"Host: h\r\n", b"Connection: close\r\n", b"X: y\r\n",
          b" folded\r\n", b"HTTP/1.0", b"HTTP/1.1", b"GET / HTTP/1.1\r\n", b"HEAD", b"POST", b"\r\n\r\n", b"\"", b"\\"]


def unescape(text):
    out, i = bytearray(), 0
    names = {"r": 13, "n": 10, "t": 9, "0": 0, "\\": 92}
    while i < len(text):
        if text[i] != "\\":
            out += text[i].encode()
            i += 1
        elif text[i + 1] == "x":
            out.append(int(text[i + 2:i + 4], 16))
            i += 4
        else:
            out.append(names[text[i + 1]])
            i += 2
    return bytes(out)


def cases(name):
    text = (ROOT / "tests" / "codec" / name).read_text()
    inputs = [unescape(block.replace("\n", "")) for block in re.findall(r"^```http[^\n]*\n(.*?)^```", text, re.S | re.M)]
    assert len(inputs) > 40
    return inputs


def mutate(rng, inputs):
    data = bytearray(rng.choice(inputs))
    for _ in range(rng.choice((1, 1, 2, 3, 5))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(7)
        if kind == 0 and data:
            data[min(at, len(data) - 1)] = rng.randrange(256)
        elif kind == 1:
            del data[at:at + rng.choice((1, 1, 2, 8))]
        elif kind == 2:
            other = rng.choice(inputs)
            data[at:] = other[rng.randrange(len(other) + 1):]
        elif kind == 3 and data:
            lines = bytes(data).split(b"\r\n")
            lines.insert(rng.randrange(len(lines)), rng.choice(lines))
            data = bytearray(b"\r\n".join(lines))
        else:
            data[at:at] = rng.choice(PIECES)
    return bytes(data[:60000])


def ours(mode, inputs):
    """Per input: messages as (start, fields, body, offset behind it), an open head or None, and how it ended."""
    stream = b"".join(struct.pack("<I", len(data)) + data for data in inputs)
    output = subprocess.run([TOOL, mode], input=stream, capture_output=True, check=True, timeout=120).stdout.decode()
    results, messages, head = [], [], None
    raw = lambda word: b"" if word == "-" else bytes.fromhex(word)
    for line in output.splitlines():
        word, *rest = line.split(" ")
        if line == ".":
            results.append((messages, head, ending))
            messages, head = [], None
        elif word == "head":
            head = ((int(rest[0]), *rest[1:]), [])
        elif word == "field":
            head[1].append((raw(rest[0]), raw(rest[1])))
        elif word == "end":
            messages.append((head[0], head[1], raw(rest[1]), int(rest[0])))
            head = None
        else:
            ending = line
    assert len(results) == len(inputs)
    return results


def collect(connection, wanted, ended):
    """Reads one message: (start line event, body, whether it is complete)."""
    start, body = None, b""
    while True:
        event = connection.next_event()
        if isinstance(event, wanted):
            start = event
            if isinstance(event, h11.InformationalResponse):
                return start, b"", True
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return start, body, True
        elif event is h11.NEED_DATA and not ended:
            connection.receive_data(b"")
            ended = True
        else:
            return start, body, False


def compare_head(start, event):
    minor, *words = start[0]
    # h11 gives the one coding that it knows in lower case.
    assert list(event.headers) == [(n, v.lower() if n == b"transfer-encoding" else v) for n, v in start[1]]
    if isinstance(event, h11.Request):
        assert [event.method.hex(), event.target.hex()] == words
    else:
        assert [str(event.status_code)] == words
    assert minor == (0 if event.http_version == b"1.0" else 1)


def check_request(data, result):
    messages, open_head, _ = result
    at = 0
    for message in [*messages, *([open_head] if open_head else [])]:
        rest = data[at:]
        rest = rest[2:] if rest.startswith(b"\r\n") else rest  # RFC 9112 2.2: one empty line; h11 takes none
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        connection.receive_data(rest)
        if len(message) == 2:  # its body is refused, or not there yet
            compare_head(message, connection.next_event())
            return
        event, body, complete = collect(connection, h11.Request, True)
        compare_head(message, event)
        assert complete
        assert body == message[2]
        assert len(data) - len(connection.trailing_data[0]) == message[3]
        at = message[3]


def check_response(data, result, method):
    messages, _, _ = result
    at = 0
    connection = None
    for message in messages:
        if connection is None:
            connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
            connection.send(h11.Request(method=method, target="/", headers=[("Host", "h")]))
            connection.send(h11.EndOfMessage())
            connection.receive_data(data[at:])
        event, body, complete = collect(connection, (h11.Response, h11.InformationalResponse), False)
        compare_head(message, event)
        assert complete
        assert body == message[2]
        at = message[3]
        if not isinstance(event, h11.InformationalResponse):
            assert len(data) - len(connection.trailing_data[0]) == at
            connection = None


def is_about_trailer(problem, result):
    """A trailer that frames is dropped unread (RFC 9110 6.5.1); h11 reads it, and minds what it says."""
    chunked = any(name == b"transfer-encoding" for message in result[0] for name, _ in message[1])
    return chunked and re.search("Content-Length|Transfer-Encoding|Transfer Encodings", str(problem))


@pytest.fixture(scope="module", autouse=True)
def built():
    if not TOOL.exists():
        pytest.skip(f"{TOOL} is not built")


def run(mode, name, check):
    rng = random.Random(20261124)
    seeds = cases(name)
    good = [data for data, result in zip(seeds, ours(mode, seeds)) if result[0]]
    inputs = seeds + [mutate(rng, seeds if i % 4 == 0 else good) for i in range(MUTATIONS)]
    accepted = 0
    for data, result in zip(inputs, ours(mode, inputs)):
        try:
            check(data, result)
        except h11.RemoteProtocolError as problem:
            assert is_about_trailer(problem, result), f"{data!r}\nours: {result}\nh11: {problem!r}"
        except (AssertionError, AttributeError) as problem:
            raise AssertionError(f"{data!r}\nours: {result}\nh11: {problem!r}") from problem
        accepted += len(result[0])
    print(f"{mode}: {len(inputs)} inputs, {accepted} messages")
    assert accepted > MUTATIONS // 10, "the mutations hardly ever make a message"


def test_requests():
    run("request", "h1.md", check_request)


def test_responses():
    run("response", "h1-response.md", lambda data, result: check_response(data, result, "GET"))


def test_responses_to_head():
    run("response-head", "h1-response.md", lambda data, result: check_response(data, result, "HEAD"))
