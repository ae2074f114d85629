# SPDX-License-Identifier: Apache-2.0
"""HTTP/2: h2spec, floods, and what would be smuggled if it were passed on as HTTP/1."""
import re
import subprocess
import time

import pytest

from server import Server, go_tool

h2connection = pytest.importorskip("h2.connection")
h2config = pytest.importorskip("h2.config")
h2events = pytest.importorskip("h2.events")
frames = pytest.importorskip("hyperframe.frame")
hpack = pytest.importorskip("hpack")

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
ENHANCE_YOUR_CALM, PROTOCOL_ERROR, REFUSED_STREAM, CANCEL = 11, 1, 7, 8


@pytest.mark.parametrize("options", [[], ["--tls"]], ids=["plain", "tls"])
def test_h2spec(options):
    """All 146 cases. The path answers when the request is complete, as the cases expect."""
    tool = go_tool("h2spec-2.2.1", "github.com/summerwind/h2spec/cmd/h2spec")
    with Server(*options) as server:
        extra = ["-t", "-k"] if server.tls else []
        done = subprocess.run([tool, "-S", "-P", "/sink", "-h", "127.0.0.1", "-p", str(server.port), *extra],
                              capture_output=True, text=True, timeout=180, check=False)
    assert re.search(r"^146 tests, 146 passed, 0 skipped, 0 failed$", done.stdout, re.M), done.stdout[-3000:]


class Client:
    """A client that breaks what it likes: frames by hand, answers through h2."""

    def __init__(self, server):
        self.socket = server.connect()
        config = h2config.H2Configuration(client_side=True, validate_outbound_headers=False,
                                          normalize_outbound_headers=False, validate_inbound_headers=False)
        self.h2 = h2connection.H2Connection(config=config)
        self.h2.initiate_connection()
        self.encoder = hpack.Encoder()
        self.flush()
        self.events = []

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def raw(self, *parts):
        try:
            self.socket.sendall(b"".join(p if isinstance(p, bytes) else p.serialize() for p in parts))
        except OSError:
            pass  # the server may have had enough already

    def headers(self, stream, fields, end=True):
        flags = ["END_HEADERS"] + (["END_STREAM"] if end else [])
        self.raw(frames.HeadersFrame(stream, self.encoder.encode(fields), flags=flags))

    def read(self, until, seconds=3):
        """Raw frames until one for which until(frame) is true; None at the end of the connection."""
        self.socket.settimeout(seconds)
        end = time.monotonic() + seconds
        buffer = getattr(self, "left", b"")
        while time.monotonic() < end:
            while len(buffer) >= 9:
                frame, length = frames.Frame.parse_frame_header(memoryview(buffer[:9]))
                if len(buffer) < 9 + length:
                    break
                frame.parse_body(memoryview(buffer[9:9 + length]))
                buffer = buffer[9 + length:]
                if until(frame):
                    self.left = buffer
                    return frame
            try:
                piece = self.socket.recv(65536)
            except (TimeoutError, ConnectionResetError):
                self.left = buffer
                return None
            if not piece:
                return None
            buffer += piece
        return None


def goaway(frame):
    return isinstance(frame, frames.GoAwayFrame)


def reset(frame):
    return isinstance(frame, frames.RstStreamFrame)


GET = [(":method", "GET"), (":scheme", "http"), (":authority", "h"), (":path", "/head")]


def status_of(client, frame):
    del client
    return dict(hpack.Decoder().decode(frame.data)).get(":status")


def test_floods_end_the_connection(server):
    settings = frames.SettingsFrame(0).serialize()
    floods = {
        "ping": frames.PingFrame(0, b"12345678").serialize() * 101,
        "settings": settings * 101,
        "priority": frames.PriorityFrame(1, depends_on=0, stream_weight=3).serialize() * 101,
        "empty data": None,
        "continuation": None,
    }
    for name, data in floods.items():
        client = Client(server)
        if name == "empty data":
            client.headers(1, [*GET[:3], (":path", "/sink")], end=False)
            data = frames.DataFrame(1, b"").serialize() * 101
        elif name == "continuation":
            block = client.encoder.encode([*GET, ("x", "y" * 100)])
            data = frames.HeadersFrame(1, block[:1]).serialize() + b"".join(
                frames.ContinuationFrame(1, block[i:i + 1]).serialize() for i in range(1, 12))
        client.raw(data)
        frame = client.read(goaway)
        assert frame is not None and frame.error_code in (ENHANCE_YOUR_CALM, 2), name
        assert client.read(lambda _: False) is None
        client.socket.close()
    # At the limit nothing happens. (One SETTINGS and its answer were sent to begin with.)
    client = Client(server)
    client.raw(frames.PingFrame(0, b"12345678").serialize() * 99)
    client.headers(1, GET)
    assert client.read(lambda f: isinstance(f, frames.DataFrame)) is not None


def test_rapid_reset(server):
    client = Client(server)
    hold = [*GET[:3], (":path", "/hold")]
    stream, frame = 1, None
    for _ in range(40):
        burst = b""
        for _ in range(50):
            burst += frames.HeadersFrame(stream, client.encoder.encode(hold), flags=["END_HEADERS", "END_STREAM"]).serialize()
            burst += frames.RstStreamFrame(stream, CANCEL).serialize()
            stream += 2
        client.raw(burst)
    frame = client.read(goaway)
    assert frame is not None and frame.error_code in (ENHANCE_YOUR_CALM, 2)
    assert server.talk(b"GET /head HTTP/1.1\r\nHost: h\r\n\r\n")[0].startswith(b"HTTP/1.1 200")


def test_streams_at_once(server):
    client = Client(server)
    for i in range(129):
        client.headers(2 * i + 1, [*GET[:3], (":path", "/hold")])
    frame = client.read(reset)
    assert frame is not None and frame.error_code == REFUSED_STREAM and frame.stream_id == 257


BAD = {
    "upper case": [*GET, ("X-Upper", "a")],
    "CR LF in a value": [*GET, ("x", "a\r\nb: c")],
    "NUL in a value": [*GET, ("x", "a\0b")],
    "blank in a name": [*GET, ("x y", "a")],
    "colon in a name": [*GET, ("x:y", "a")],
    "connection": [*GET, ("connection", "close")],
    "keep-alive": [*GET, ("keep-alive", "1")],
    "proxy-connection": [*GET, ("proxy-connection", "close")],
    "transfer-encoding": [*GET, ("transfer-encoding", "chunked")],
    "upgrade": [*GET, ("upgrade", "websocket")],
    "te": [*GET, ("te", "gzip")],
    "second pseudo-field": [*GET, (":path", "/other")],
    "late pseudo-field": [*GET[:3], ("x", "y"), (":path", "/head")],
    "empty path": [*GET[:3], (":path", "")],
    "blank in the path": [*GET[:3], (":path", "/a b")],
    "fragment": [*GET[:3], (":path", "/a#b")],
    "relative path": [*GET[:3], (":path", "a")],
    "dot segments": [*GET[:3], (":path", "/a/../b")],
    "blank in the method": [(":method", "GET /x"), *GET[1:]],
    "host differs": [*GET, ("host", "other")],
    "two hosts": [*GET, ("host", "h"), ("host", "h")],
    "userinfo": [*GET[:2], (":authority", "u@h"), GET[3]],
    "length that differs": [*GET, ("content-length", "5")],
    "two lengths": [*GET, ("content-length", "0"), ("content-length", "0")],
}


@pytest.mark.parametrize("name", BAD)
def test_what_would_be_smuggled(server, name):
    client = Client(server)
    client.headers(1, BAD[name])
    frame = client.read(lambda f: reset(f) or isinstance(f, frames.HeadersFrame))
    assert frame is not None
    if reset(frame):
        assert frame.error_code == PROTOCOL_ERROR
    else:
        assert status_of(client, frame) == "400"


@pytest.mark.parametrize("fields,status", [
    ([*GET, *[("x", "y")] * 101], "431"),
    ([*GET, *[("x", "y" * 8000)] * 9], "431"),
    ([*GET[:3], (":path", "/" + "a" * 16400)], "414"),
    ([*GET, ("expect", "200-ok")], "417"),
    ([*GET, *[("x", "y")] * 99], "200"),
])
def test_limits(server, fields, status):
    client = Client(server)
    block = client.encoder.encode(fields)
    pieces = [block[i:i + 16000] for i in range(0, len(block), 16000)]
    client.raw(frames.HeadersFrame(1, pieces[0], flags=["END_STREAM"] + (["END_HEADERS"] if len(pieces) == 1 else [])))
    for i, piece in enumerate(pieces[1:], 2):
        client.raw(frames.ContinuationFrame(1, piece, flags=["END_HEADERS"] if i == len(pieces) else []))
    frame = client.read(lambda f: isinstance(f, frames.HeadersFrame) or goaway(f))
    assert isinstance(frame, frames.HeadersFrame), frame
    assert status_of(client, frame) == status


def test_cookies_and_a_body_come_as_in_http1(server):
    client = Client(server)
    client.headers(1, [(":method", "POST"), *GET[1:3], (":path", "/echo"), ("cookie", "a=1"), ("cookie", "b=2")], end=False)
    client.raw(frames.DataFrame(1, b"hello"))
    assert client.read(lambda f: isinstance(f, frames.DataFrame) and bytes(f.data) == b"hello") is not None
    client.raw(frames.HeadersFrame(1, client.encoder.encode([("x-sum", "5")]),
                                   flags=["END_HEADERS", "END_STREAM"]))
    last = client.read(lambda f: isinstance(f, frames.HeadersFrame))
    assert last is not None and "END_STREAM" in last.flags


def test_a_slow_header_block_and_an_idle_connection_end():
    with Server("--head-ms", 300, "--idle-ms", 300) as server:
        client = Client(server)
        client.raw(frames.HeadersFrame(1, client.encoder.encode(GET), flags=["END_STREAM"]))
        frame = client.read(goaway)
        assert frame is not None and frame.error_code == ENHANCE_YOUR_CALM
        client = Client(server)
        client.headers(1, GET)
        frame = client.read(goaway)
        assert frame is not None and frame.error_code == 0


def test_a_body_that_does_not_come_ends_its_stream_only():
    with Server("--body-ms", 300) as server:
        client = Client(server)
        client.headers(1, [(":method", "POST"), *GET[1:3], (":path", "/sink")], end=False)
        frame = client.read(lambda f: isinstance(f, frames.HeadersFrame))
        assert frame is not None and status_of(client, frame) == "408"
        client.headers(3, GET)
        assert client.read(lambda f: isinstance(f, frames.HeadersFrame) and f.stream_id == 3) is not None


def test_drain_says_goaway_twice(server):
    client = Client(server)
    client.headers(1, [*GET[:3], (":path", "/slow?600")])
    time.sleep(0.2)
    server.process.terminate()
    first = client.read(goaway)
    assert first.last_stream_id == 2**31 - 1 and first.error_code == 0
    ping = client.read(lambda f: isinstance(f, frames.PingFrame))
    client.headers(3, GET)  # was on its way
    client.raw(frames.PingFrame(0, ping.opaque_data, flags=["ACK"]))
    seen = {}

    def note(frame):
        if goaway(frame):
            seen["last"] = frame.last_stream_id
        elif isinstance(frame, frames.HeadersFrame):
            seen[frame.stream_id] = True
        return 1 in seen and 3 in seen and "last" in seen

    assert client.read(note) is not None, seen
    assert seen["last"] == 3
    assert server.process.wait(timeout=5) == 0
    server.stopped = True


def test_windows_hold_an_answer_back(server):
    client = Client(server)
    client.headers(1, [*GET[:3], (":path", "/bytes?100000")])
    got = 0

    def count(frame):
        nonlocal got
        got += len(frame.data) if isinstance(frame, frames.DataFrame) else 0
        return isinstance(frame, frames.DataFrame) and "END_STREAM" in frame.flags

    assert client.read(count, seconds=0.5) is None
    assert got == 65535
    client.raw(frames.WindowUpdateFrame(1, 50000), frames.WindowUpdateFrame(0, 50000))
    assert client.read(count) is not None
    assert got == 100000
