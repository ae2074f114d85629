#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Bodies of 100 MB through a component that reads and writes each byte, there and back on one connection: bytes of
body by the server's CPU time, and what its memory grew to. The peer is `wasmtime serve`, in alternating runs; the
best counts."""
import os
import pathlib
import socket
import sys
import threading
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "lib"))
import serving  # noqa: E402

QUICK = "--quick" in sys.argv
ROUNDS, BODIES = (1, 3) if QUICK else (4, 10)
MB = 1_000_000
BYTES = 100 * MB
PEER_SERVE = ["-O", "pooling-allocator=y", "-W", "timeout=60s"]


def send(sock: socket.socket, left: int) -> None:
    piece = memoryview(bytes(256 * 1024))
    while left > 0:
        left -= sock.send(piece[:min(left, len(piece))])


def receive(sock: socket.socket, expected: int) -> None:
    """The body of one chunked answer (or one that says its length): counted, not kept."""
    stream = sock.makefile("rb", buffering=1 << 20)
    status = stream.readline()
    if b" 200 " not in status:
        raise RuntimeError(f"answered {status!r}")
    length, chunked = None, False
    while (line := stream.readline().lower()) not in (b"\r\n", b""):
        if line.startswith(b"content-length:"):
            length = int(line.split(b":")[1])
        chunked = chunked or (line.startswith(b"transfer-encoding:") and b"chunked" in line)
    block, got = bytearray(1 << 20), 0
    while True:
        n = int(stream.readline(), 16) if chunked else (length or 0)
        left = n
        while left > 0:
            k = stream.readinto(memoryview(block)[:min(left, len(block))])
            if not k:
                raise RuntimeError(f"the answer broke off after {got} bytes")
            left -= k
            got += k
        if chunked:
            stream.readline()
        if n == 0 or not chunked:
            break
    if got != expected:
        raise RuntimeError(f"{got} of {expected} bytes came back")


def exchange(server: serving.Server, size: int) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=120) as sock:
        sock.sendall(f"POST {server.path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {size}\r\n\r\n".encode())
        sender = threading.Thread(target=send, args=(sock, size))
        sender.start()
        receive(sock, size)
        sender.join()


def measure(run: Callable[..., list[str]], version: str) -> None:
    wasm = serving.guest(f"many-{version}")
    compiled = serving.precompiled(wasm, ["-W", "epoch-interruption=y"])
    peer = serving.wasmtime()

    def ours(port: int) -> list[str]:
        return run(port, wasm)

    def theirs(port: int) -> list[str]:
        return [peer, "serve", "--addr", f"127.0.0.1:{port}", "-S", "cli", "--allow-precompiled", *PEER_SERVE, compiled]

    best: dict[str, float] = {}
    peak: dict[str, int] = {}
    grown: dict[str, int] = {}
    try:
        for _ in range(ROUNDS):
            for name, command in (("ours", ours), ("peer", theirs)):
                with serving.Server(name, command, "/echo") as server:
                    exchange(server, MB)
                    small = serving.memory_kib(server.pids, "VmHWM")
                    before = server.cpu()
                    for _ in range(BODIES):
                        exchange(server, BYTES)
                    rate = BODIES * BYTES / (server.cpu() - before) / 1e9
                    peak[name] = serving.memory_kib(server.pids, "VmHWM")
                    grown[name] = peak[name] - small
                best[name] = max(rate, best.get(name, 0))
    finally:
        pathlib.Path(compiled).unlink(missing_ok=True)
    name = "echo" if version == "p2" else f"echo_{version}"
    label = f"wasmtime serve {serving.WASMTIME}"
    serving.report(f"{name}_gb_per_s", best["ours"], "GB per CPU second", label, best["peer"], 1.0)
    serving.report(f"{name}_peak_mib", peak["ours"] / 1024, "MiB", label, peak["peer"] / 1024,
                   grown_mib=round(grown["ours"] / 1024, 2), peer_grown_mib=round(grown["peer"] / 1024, 2))


# The client is on the other core, its two directions share it.
os.sched_setaffinity(0, {serving.LOAD_CORE})
with serving.skips("echo"), serving.wherry_run() as wherry:
    for v in ("p2", "p3"):
        measure(wherry, v)
