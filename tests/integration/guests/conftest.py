# SPDX-License-Identifier: Apache-2.0
"""Servers for the guests: `wherry run --listen`, and `wasmtime serve` as a second opinion where it was built."""
import contextlib
import http.client
import http.server
import socket
import subprocess
import sys
import tempfile
import threading
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


class Upstream(http.server.BaseHTTPRequestHandler):
    """What guests may ask: answers by path."""
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            data = b""
            while n := int(self.rfile.readline(), 16):
                data += self.rfile.read(n)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def send(self, status, data, fields=()):
        self.send_response(status)
        for name, value in fields:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(data)

    def do_GET(self):
        self.server.seen.append((self.command, self.path, dict(self.headers.items())))
        if self.path.startswith("/big"):
            self.send(200, bytes(i % 251 for i in range(int(self.path.split("=")[1]))))
        elif self.path == "/never":
            self.server.over.wait(30)
            self.close_connection = True
        elif self.path == "/cut":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"half")
            self.close_connection = True
        elif self.path == "/redirect":
            self.send(302, b"", [("Location", "/hello")])
        elif self.path == "/garbage":
            self.wfile.write(b"this is not HTTP\r\n\r\n")
            self.close_connection = True
        else:
            self.send(200, b"upstream\n")

    def do_POST(self):
        data = self.body()
        self.server.seen.append((self.command, self.path, dict(self.headers.items())))
        self.send(200, data)


@pytest.fixture(scope="session")
def upstream():
    """A server of Python's own; `seen` is what it was asked."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    server.daemon_threads = True
    server.seen, server.over = [], threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    thread.join()
