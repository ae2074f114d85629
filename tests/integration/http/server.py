# SPDX-License-Identifier: Apache-2.0
"""The HTTP server under test (tests/tools/http_server), and what talks to it byte by byte."""
import contextlib
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from common import BIN, ROOT  # noqa: E402

PROGRAM = BIN.parent / "tests" / "tools" / "http_server"
CACHE = pathlib.Path(os.environ.get("WHERRY_CACHE", pathlib.Path.home() / ".cache" / "wherry"))


class Server:
    def __init__(self, *options):
        if not PROGRAM.exists():
            pytest.skip(f"{PROGRAM} is not built")
        self.tls = "--tls" in options
        self.stopped = False  # a test has seen its end
        self.sanitized = b"__asan_init" in PROGRAM.read_bytes()  # freed memory is kept then
        self.process = subprocess.Popen([PROGRAM, "--listen", "127.0.0.1:0", *map(str, options)],
                                        stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("listening on "), line
        self.port = int(line.split()[-1])
        self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.stopped:
            return
        alive = self.process.poll() is None
        self.process.terminate()
        code = self.process.wait(timeout=10)
        assert alive and code == 0, f"the server ended with {code}"

    def rss_kib(self):
        for line in open(f"/proc/{self.process.pid}/status", encoding="ascii"):
            if line.startswith("VmRSS"):
                return int(line.split()[1])
        raise AssertionError("no VmRSS")

    def connect(self, alpn=None, timeout=5):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self.tls:
            return s
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(alpn or ["h2"])
        return context.wrap_socket(s, server_hostname="localhost")

    def talk(self, data, timeout=5):
        """Sends all, half-closes nothing, reads until the server closes or nothing comes for half a second."""
        with self.connect() as s:
            s.sendall(data)
            s.settimeout(0.5)
            answer = b""
            end = time.monotonic() + timeout
            with contextlib.suppress(TimeoutError, ConnectionResetError):
                while time.monotonic() < end:
                    piece = s.recv(65536)
                    if not piece:
                        return answer, True
                    answer += piece
            return answer, False


def statuses(answer):
    """The status codes of the answers in a stream of HTTP/1 whose bodies are not chunked."""
    found = []
    while answer.startswith(b"HTTP/1.1 "):
        head, _, rest = answer.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        found.append(int(head[9:12]))
        answer = rest[int(fields.get(b"content-length", 0)):]
    return found


def need(name):
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name} here")
    return path


def go_tool(name, package):
    """A pinned Go program, built once into the cache; skips when its modules cannot be had."""
    path = CACHE / "tools" / name
    if path.exists():
        return path
    env = dict(os.environ, PATH=os.environ["PATH"] + ":/usr/local/go/bin")
    if shutil.which("go", path=env["PATH"]) is None:
        pytest.skip(f"no go to build {name}")
    built = subprocess.run(["go", "build", "-o", str(path), package], cwd=ROOT / "tests" / "tools", env=env, check=False,
                           capture_output=True, text=True)
    if built.returncode != 0:
        pytest.skip(f"{name} cannot be built from its Go modules here: {built.stderr[-300:]}")
    return path
