# SPDX-License-Identifier: Apache-2.0
"""examples/queue-worker with a real Redis: killed at random, it loses and repeats nothing."""
import contextlib
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import time

import pytest

from common import ROOT, WHERRY, wait_for

EXAMPLE = ROOT / "examples" / "queue-worker"
CACHE = pathlib.Path(os.environ.get("WHERRY_CACHE") or pathlib.Path.home() / ".cache" / "wherry")
JOBS = 2000
KILLS = 25


@pytest.fixture(scope="module")
def component():
    cargo = shutil.which("cargo", path=f"{os.environ['PATH']}:{pathlib.Path.home()}/.cargo/bin")
    if cargo is None:
        pytest.skip("no cargo")
    target = CACHE / "target" / "examples"
    done = subprocess.run([cargo, "build", "--quiet", "--locked", "--release", "--target", "wasm32-wasip2", "--manifest-path",
                           EXAMPLE / "Cargo.toml"], env={**os.environ, "CARGO_TARGET_DIR": str(target)},
                          capture_output=True, text=True, timeout=600, check=False)
    if "may not be installed" in done.stderr:
        pytest.skip("no Rust for components (rustup target add wasm32-wasip2)")
    assert done.returncode == 0, done.stderr
    return target / "wasm32-wasip2" / "release" / "queue-worker.wasm"


class Redis:
    def __init__(self, folder):
        server = shutil.which("redis-server")
        if server is None or shutil.which("redis-cli") is None:
            pytest.skip("no redis-server")
        with socket.create_server(("127.0.0.1", 0)) as s:
            self.port = s.getsockname()[1]
        self.process = subprocess.Popen([server, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir",
                                         str(folder)], stdout=subprocess.DEVNULL)
        wait_for(lambda: self.ask("PING") == "PONG", what="Redis answers")

    def ask(self, *words, text=None):
        command = ["redis-cli", "-p", str(self.port), *words]
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=30, check=False).stdout.strip()

    def fill(self, n):
        self.ask(text="".join(f'RPUSH jobs "{i} job number {i} of many"\n' for i in range(n)))
        assert self.ask("LLEN", "jobs") == str(n)

    def results(self):
        lines = self.ask("HGETALL", "results").splitlines()
        return dict(zip(lines[::2], lines[1::2]))


@pytest.fixture
def redis(tmp_path):
    server = Redis(tmp_path)
    yield server
    server.process.kill()
    server.process.wait()


class Worker:
    """`wherry run`; its whole process group is one to be killed."""

    def __init__(self, name, redis, component, folder, egress=None, work_ms=0):
        command = [WHERRY, "run", "--root", folder / "store", "--run-dir", folder / "run", "--egress",
                   egress or f"127.0.0.1:{redis.port}", "--env", f"REDIS=127.0.0.1:{redis.port}", "--env",
                   f"WORKER={name}", "--env", f"WORK_MS={work_ms}", component]
        self.process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        text=True, start_new_session=True)

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def end(self, seconds=60):
        out, _ = self.process.communicate(timeout=seconds)
        return self.process.returncode, out


def expected(n):
    return {str(i): f"MANY OF {i} NUMBER JOB" for i in range(n)}


def test_a_queue_is_worked_off(redis, component, tmp_path):
    redis.fill(100)
    code, out = Worker("one", redis, component, tmp_path).end()
    assert (code, out) == (0, "one: 100 jobs finished, 0 left to others\n")
    assert redis.results() == expected(100)


def test_killed_at_random_it_loses_and_repeats_nothing(redis, component, tmp_path):
    chance = random.Random(20)
    Worker("first", redis, component, tmp_path).end()  # compiles, so that the others start at once
    redis.fill(JOBS)
    n = 3
    workers = [Worker(f"w{i}", redis, component, tmp_path, work_ms=5) for i in range(n)]
    kills = 0
    end = time.monotonic() + 240
    while time.monotonic() < end and (kills < KILLS or any(w.process.poll() is None for w in workers)):
        time.sleep(chance.uniform(0.01, 0.12))
        i = chance.randrange(len(workers))
        if kills < KILLS:
            workers[i].kill()
            kills += 1
            workers[i] = Worker(f"w{n}", redis, component, tmp_path, work_ms=5)
            n += 1
            left = int(redis.ask("LLEN", "jobs"))
    assert kills == KILLS and left > 0, "the killing went on behind the work"
    for worker in workers:
        code, out = worker.end()
        assert code == 0, out
    assert redis.results() == expected(JOBS)
    assert redis.ask("GET", "done") == str(JOBS)
    assert redis.ask("LLEN", "jobs") == "0"
    assert [key for key in redis.ask("KEYS", "taken:*").split()] == []


def test_without_the_grant_it_says_so(redis, component, tmp_path):
    redis.fill(1)
    code, out = Worker("none", redis, component, tmp_path, egress="127.0.0.1:1").end()
    assert code == 1 and "connect to redis" in out, out
    assert redis.ask("LLEN", "jobs") == "1"
