# SPDX-License-Identifier: Apache-2.0
"""Clients that take their time, or never end; and varnishtest scripts."""
import contextlib
import pathlib
import socket
import subprocess
import time

import pytest

from server import Server, need, statuses

SCRIPTS = sorted((pathlib.Path(__file__).parent / "vtc").glob("*.vtc"))


def test_slow_heads_do_not_keep_others_waiting():
    with Server("--head-ms", 500) as server:
        slow = [server.connect() for _ in range(200)]
        begin = time.monotonic()
        for s in slow:
            s.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n")
        for _ in range(10):
            answer, _ = server.talk(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            assert statuses(answer) == [200]
        for i, s in enumerate(slow):
            with s:
                s.settimeout(3)
                for _ in range(3 if i == 0 else 0):  # bytes win no time
                    time.sleep(0.1)
                    s.sendall(b"X: y\r\n")
                answer = b""
                while piece := s.recv(4096):
                    answer += piece
                assert statuses(answer) == [408]
        assert time.monotonic() - begin < 3


def test_endless_heads_and_extensions_end(server):
    for start in b"GET /", b"GET / HTTP/1.1\r\nX: ", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;":
        with server.connect() as s:
            sent = 0
            try:
                s.sendall(start)
                while sent < 64 << 20:
                    s.sendall(b"a" * 65536)
                    sent += 65536
            except (ConnectionResetError, BrokenPipeError):
                pass
            assert sent < 8 << 20, start


def test_a_client_that_leaves_in_the_middle(server):
    for path in b"/hold", b"/bytes?100000000", b"/slow?10000":
        with server.connect() as s:
            s.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: h\r\n\r\n")
            time.sleep(0.05)
    with server.connect() as s:
        s.sendall(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nabc")
        time.sleep(0.05)
        s.shutdown(socket.SHUT_WR)
        s.settimeout(3)
        while s.recv(4096):
            pass
    assert statuses(server.talk(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")[0]) == [200]


def test_tls_that_never_shakes_hands():
    with Server("--tls", "--head-ms", 300) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=3) as s:
            begin = time.monotonic()
            assert s.recv(10) == b""
            assert 0.2 < time.monotonic() - begin < 2
        with socket.create_connection(("127.0.0.1", server.port), timeout=3) as s:
            s.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")  # plain, to a TLS port
            with contextlib.suppress(ConnectionResetError):
                assert b"HTTP" not in s.recv(100)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_varnishtest(server, script):
    done = subprocess.run([need("varnishtest"), f"-Dport={server.port}", str(script)], capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
