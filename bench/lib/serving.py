# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of serving share: servers pinned to one core, load from the other, CPU time per request."""
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "guests" / "http"))
import guests  # noqa: E402

CACHE = guests.CACHE
WASMTIME = "48.0.8"
# What serving needs, and the pooling allocator; the rest of its command line is not measured.
WASMTIME_FEATURES = ("run,serve,compile,parallel-compilation,pooling-allocator,component-model-async,"
                     "threads,gc,gc-drc")
SERVER_CORE, LOAD_CORE = 0, 1
TICKS = os.sysconf("SC_CLK_TCK")


class Skip(Exception):
    """A peer, a tool or a right is missing here."""


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise Skip(f"no {name}")
    return path


def build_folder() -> pathlib.Path:
    return pathlib.Path(os.environ.get("BENCH_DIR") or ROOT / "build" / "default" / "bench").parent


def bench_program(name: str) -> str:
    """One that Meson builds from bench/."""
    path = build_folder() / "bench" / name
    if not path.is_file():
        raise Skip(f"no program {path}")
    return str(path)


@contextlib.contextmanager
def wherry_run() -> Iterator[Callable[..., list[str]]]:
    """run(port, *args) is the command `wherry run` that serves there; its store is gone at the end of the block."""
    wherry = build_folder() / "bin" / "wherry"
    if not wherry.is_file():
        raise Skip(f"no program {wherry}")
    folder = tempfile.mkdtemp(prefix="wherry-bench-")
    os.chmod(folder, 0o755)  # runners have users of their own
    try:
        yield lambda port, *args: [str(wherry), "run", "--root", folder, "--run-dir", f"{folder}/run",
                                   "--listen", f"127.0.0.1:{port}", *args]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def guest(name: str) -> str:
    try:
        return str(guests.build(name))
    except guests.Skip as why:
        raise Skip(str(why)) from why


def wasmtime() -> str:
    """The peer, built the first time as its own releases are, with link-time optimisation as we have it."""
    root = CACHE / "tools" / f"wasmtime-{WASMTIME}"
    path = root / "bin" / "wasmtime"
    if not path.is_file():
        if os.environ.get("WHERRY_BENCH_NO_BUILD"):
            raise Skip(f"no {path}")
        print(f"building wasmtime {WASMTIME}: this takes many minutes", file=sys.stderr)
        env = {**os.environ, "CARGO_PROFILE_RELEASE_LTO": "fat", "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "1",
               "CARGO_TARGET_DIR": str(CACHE / "target" / "wasmtime-cli")}
        done = subprocess.run([guests.need("cargo"), "install", "--quiet", "--locked", "--no-default-features",
                               "--features", WASMTIME_FEATURES, "--root", str(root), f"wasmtime-cli@={WASMTIME}"],
                              env=env, check=False)
        if done.returncode != 0:
            raise Skip(f"wasmtime-cli {WASMTIME} cannot be built here")
    return str(path)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def children(pid: int) -> list[int]:
    """The process and all below it."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError):
                text = pathlib.Path(f"/proc/{entry}/stat").read_text(encoding="ascii", errors="replace")
                parents.setdefault(int(text.rsplit(")", 1)[1].split()[1]), []).append(int(entry))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += parents.get(found[-1], [])
    return found


def cpu_seconds(pids: list[int]) -> float:
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            text = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
            total += sum(int(x) for x in text.rsplit(")", 1)[1].split()[11:13])
    return total / TICKS


def memory_kib(pids: list[int], field: str) -> int:
    """A sum over /proc/PID/status (VmRSS, VmHWM)."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            found = re.search(rf"^{field}:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii"),
                              re.MULTILINE)
            total += int(found.group(1)) if found else 0
    return total


class Server:
    """A server that runs until the end of the `with` block, on a core of its own."""

    def __init__(self, name: str, command: Callable[[int], list[str]], path: str = "/", core: int = SERVER_CORE):
        self.name, self.port, self.path = name, free_port(), path
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(["taskset", "-c", str(core), *command(self.port)], stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log, start_new_session=True)
        self.pids: list[int] = []

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-2000:]

    def ask(self, timeout: float = 5) -> tuple[int, bytes]:
        """Status and body of one GET."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as s:
            s.sendall(f"GET {self.path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
            data = b""
            while piece := s.recv(65536):
                data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]), body

    def __enter__(self) -> "Server":
        deadline = time.monotonic() + 60
        while True:
            if self.process.poll() is not None:
                raise Skip(f"{self.name} ended with {self.process.returncode}: {self.said()}")
            with contextlib.suppress(OSError, IndexError, ValueError):
                status, _ = self.ask()
                if status == 200:
                    break
            if time.monotonic() > deadline:
                self.__exit__(None, None, None)
                raise Skip(f"{self.name} does not answer {self.path} with 200: {self.said()}")
            time.sleep(0.02)
        self.pids = children(self.process.pid)
        return self

    def __exit__(self, *_) -> None:
        below = children(self.process.pid)
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            for pid in below:
                with contextlib.suppress(OSError):
                    os.kill(pid, 9)
            self.process.wait()
        self.log.close()

    def cpu(self) -> float:
        return cpu_seconds(self.pids)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"


class Load:
    """What one run of load found."""

    def __init__(self, requests: int, seconds: float, cpu: float, p50_us: float):
        self.rate, self.cpu_us, self.p50_us = requests / seconds, cpu * 1e6 / requests, p50_us


UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6}


def wrk(server: Server, seconds: float, connections: int = 64) -> Load:
    """Load from the other core for so long; anything but answers of 200 is a failure."""
    before = server.cpu()
    done = subprocess.run(["taskset", "-c", str(LOAD_CORE), tool("wrk"), "--latency", "-t1", f"-c{connections}",
                           f"-d{max(1, round(seconds))}s", server.url], text=True, capture_output=True, check=True)
    spent = server.cpu() - before
    out = done.stdout
    if "Socket errors" in out or "Non-2xx" in out:
        raise RuntimeError(f"{server.name}: {out}\n{server.said()}")
    requests, took, unit = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m),", out).groups()
    p50, p50_unit = re.search(r"50%\s+([\d.]+)(us|ms|s)", out).groups()
    took = float(took) * {"ms": 1e-3, "s": 1, "m": 60}[unit]
    return Load(int(requests), took, spent, float(p50) * UNITS[p50_unit])


def report(name: str, value: float, unit: str, peer: str = "", peer_value: float | None = None,
           goal: float | None = None, goal_of: str = "value", **more) -> None:
    line = {"name": name, "value": round(value, 3), "unit": unit}
    if peer_value is not None:
        line |= {"peer": peer, "peer_value": round(peer_value, 3), "ratio": round(value / peer_value, 3)}
    if goal is not None:
        line |= {"goal": goal, "goal_of": goal_of}
    print(json.dumps(line | more), flush=True)


def precompiled(wasm: str, flags: list[str]) -> str:
    """The peer's own compiled form, so that its start is not its compiler's."""
    out = pathlib.Path(tempfile.gettempdir()) / f"wherry-bench-{os.getpid()}-{pathlib.Path(wasm).stem}.cwasm"
    subprocess.run([wasmtime(), "compile", *flags, "-o", str(out), wasm], check=True)
    return str(out)


@contextlib.contextmanager
def skips(name: str) -> Iterator[None]:
    """Exit code 77 with the reason. An end from outside still ends what was started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    except Skip as why:
        print(f"{name}: {why}", file=sys.stderr)
        sys.exit(77)
