#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Guests on our WASI while others act: clients connect, a stop is requested. Output is TAP."""
import argparse
import os
import signal
import socket
import subprocess
import sys
import time

import compare

PROMPT_SECONDS = 5.0


def start(command: list[str], fds: tuple[int, ...] = ()) -> subprocess.Popen:
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=fds)


def finish(process: subprocess.Popen) -> tuple[int, str]:
    try:
        out = process.communicate(timeout=60)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out


def echoes(runner: str, wasm: str) -> list[str]:
    problems = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = start([runner, "--listen", str(listener.fileno()), wasm, "serve"], (listener.fileno(),))
        for size in (1, 5000, 3_000_000):
            sent = os.urandom(size)
            with socket.create_connection(listener.getsockname(), timeout=30) as client:
                got = b""
                client.setblocking(False)
                rest = memoryview(sent)
                deadline = time.monotonic() + 30
                while len(got) < size and time.monotonic() < deadline:
                    try:
                        rest = rest[client.send(rest):] if rest else rest
                    except BlockingIOError:
                        pass
                    try:
                        got += client.recv(1 << 20)
                    except BlockingIOError:
                        time.sleep(0.0005)
                if got != sent:
                    problems.append(f"{len(got)} of {size} bytes came back, or others")
    code, _ = finish(process)
    return problems + ([f"exit code {code}"] if code != 0 else [])


def stopped(runner: str, wasm: str, what: str) -> list[str]:
    process = start([runner, wasm, what])
    process.stdout.readline()
    time.sleep(0.05)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)
    took = time.monotonic() - began
    code, _ = finish(process)
    return [f"exit code {code} after {took:.3f} s"] if code != 143 or took > PROMPT_SECONDS else []


def told(runner: str, wasm: str) -> list[str]:
    read_end, write_end = os.pipe()
    process = start([runner, "--stop", str(read_end), wasm, "stop"], (read_end,))
    os.close(read_end)
    process.stdout.readline()
    os.write(write_end, b"TERM\n")
    os.close(write_end)
    result = finish(process)
    return [f"{result}"] if result != (0, "TERM\n") else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--runner", required=True)
    runner = parser.parse_args().runner
    tap = compare.Tap()
    try:
        wasm = str(compare.build_c("live"))
        tap.tell("a server echoes to three clients", echoes(runner, wasm))
        tap.tell("a stop request ends a sleep", stopped(runner, wasm, "sleep"))
        tap.tell("a stop request ends a read", stopped(runner, wasm, "read"))
        tap.tell("the stop descriptor is polled and read", told(runner, wasm))
    except compare.Skip as why:
        tap.skip("live guests", str(why))
    print(f"1..{tap.n}")
    return 1 if tap.failed else 0


if __name__ == "__main__":
    sys.exit(main())
