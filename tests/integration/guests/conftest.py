# SPDX-License-Identifier: Apache-2.0
"""Servers for the guests: `wherry run --listen`, and `wasmtime serve` as a second opinion where it was built."""
import contextlib
import http.client
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

import pytest

from common import ROOT, WHERRY

sys.path.insert(0, str(ROOT / "tests" / "guests" / "http"))
import guests as builder  # noqa: E402

PEER = builder.CACHE / "tools" / "wasmtime-48.0.8" / "bin" / "wasmtime"
SIDES = ("wherry", "wasmtime serve")
START_SECONDS = 240  # the interpreter of Python alone takes a minute to compile on a busy machine


def guest(name):
    try:
        return builder.build(name)
    except builder.Skip as why:
        pytest.skip(f"{name}: {why}")


class Answer:
    def __init__(self, status, fields, body, whole):
        self.status, self.fields, self.body, self.whole = status, fields, body, whole

    def __getitem__(self, name):
        return next((value for key, value in self.fields if key.lower() == name), None)

    def __repr__(self):
        return f"{self.status} {self.body[:300]!r}{'' if self.whole else ' (broke off)'}"


class Server:
    def __init__(self, command, port):
        self.port = port
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=subprocess.STDOUT)
        end = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.said()}"
            assert time.monotonic() < end, f"no server within {START_SECONDS} s: {self.said()}"
            time.sleep(0.02)

    def said(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-4000:]

    def ask(self, target, body=None, method=None, fields=None, timeout=30):
        """One request on a connection of its own. A body that broke off is told, not raised."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method or ("GET" if body is None else "POST"), target, body, fields or {})
            try:
                response = connection.getresponse()
            except (http.client.BadStatusLine, ConnectionResetError):
                return Answer(0, [], b"", False)
            try:
                data, whole = response.read(), True
            except http.client.IncompleteRead as broken:
                data, whole = broken.partial, False
            except ConnectionResetError:
                data, whole = b"", False
            return Answer(response.status, response.getheaders(), data, whole)
        finally:
            connection.close()

    def connect(self, timeout=30):
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


@pytest.fixture(scope="session")
def servers(store):
    """servers(side, guest, *options) runs one for the session; options are of `wherry run`."""
    running = {}

    def get(side, name, *options):
        key = (side, name, options)
        if key in running and running[key].process.poll() is None:
            return running[key]
        wasm, port = guest(name), free_port()
        if side == "wherry":
            command = [WHERRY, "run", "--root", store, "--run-dir", f"{store}/run", "--listen", f"127.0.0.1:{port}",
                       *options, wasm]
        else:
            if not PEER.is_file():
                pytest.skip("no wasmtime serve was built here (bench/run hello builds it)")
            command = [PEER, "serve", "--addr", f"127.0.0.1:{port}", "-S", "cli", "-W", "timeout=2s", wasm]
        running[key] = Server(command, port)
        return running[key]

    yield get
    for server in running.values():
        server.stop()


@pytest.fixture(params=SIDES)
def side(request):
    return request.param


@pytest.fixture
def upstream():
    """A server of Python's own that guests may ask."""
    class Upstream:
        def __init__(self):
            self.listener = socket.create_server(("127.0.0.1", 0))
            self.port = self.listener.getsockname()[1]

        def answer_with(self, data):
            """Takes one request (head and a body of a known length), answers, closes; in a thread."""
            import threading

            def serve():
                with self.listener.accept()[0] as s:
                    s.settimeout(20)
                    got = b""
                    while b"\r\n\r\n" not in got:
                        got += s.recv(65536)
                    s.sendall(data)
            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            return thread

    u = Upstream()
    yield u
    u.listener.close()


def is_root():
    return os.geteuid() == 0


def resident_kib(pid):
    """Peak of a process and all below it."""
    total, todo = 0, [pid]
    while todo:
        one = todo.pop()
        with contextlib.suppress(OSError):
            for line in pathlib.Path(f"/proc/{one}/status").read_text(encoding="ascii").splitlines():
                if line.startswith("VmHWM:"):
                    total += int(line.split()[1])
            for task in pathlib.Path(f"/proc/{one}/task").iterdir():
                todo += [int(x) for x in (task / "children").read_text().split()]
    return total
