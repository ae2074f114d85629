# SPDX-License-Identifier: Apache-2.0
"""Programs that the tests of this folder drive: image-tool, registries, other clients."""
import os
import pathlib
import shutil
import socket
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent.parent
BUILD = pathlib.Path(os.environ.get("WHERRY_BUILD", ROOT / "build" / "default"))
CACHE = pathlib.Path(os.environ.get("WHERRY_CACHE") or pathlib.Path.home() / ".cache" / "wherry")
TOOL = BUILD / "tests" / "integration" / "image" / "image-tool"
PREPARE = BUILD / "src" / "prepare" / "wherry-prepare"

HELLO = """(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (call $exit (i32.const {code}))))
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_port(port, proc):
    for _ in range(200):
        assert proc.poll() is None, "the registry ended"
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the registry does not listen")


def peer(name):
    """A pinned Go program, built once into the cache; skips when its modules cannot be had."""
    path = CACHE / "tools" / name
    if path.exists():
        return path
    package = {"crane": "github.com/google/go-containerregistry/cmd/crane",
               "registry": "github.com/google/go-containerregistry/cmd/registry",
               "oras": "oras.land/oras/cmd/oras"}[name]
    env = dict(os.environ, PATH=os.environ["PATH"] + ":/usr/local/go/bin")
    built = subprocess.run(["go", "build", "-o", str(path), package], cwd=ROOT / "tests" / "tools", env=env, check=False,
                           capture_output=True, text=True) if shutil.which("go", path=env["PATH"]) else None
    if built is None or built.returncode != 0:
        pytest.skip(f"{name} cannot be built from its Go modules here")
    return path


class Store:
    """One image store, driven through image-tool."""

    def __init__(self, path, prepare=PREPARE):
        self.path = pathlib.Path(path)
        self.prepare = prepare

    def command(self, *args):
        return [str(TOOL), str(self.path), str(self.prepare), *map(str, args)]

    def run(self, *args, env=None, timeout=120, cwd=None):
        return subprocess.run(self.command(*args), capture_output=True, text=True, check=False, timeout=timeout, cwd=cwd,
                              env={**os.environ, "HOME": "/nonexistent", **(env or {})})

    def ok(self, *args, **kw):
        done = self.run(*args, **kw)
        assert done.returncode == 0, done.stderr
        result = {}
        for line in done.stdout.splitlines():
            key, _, value = line.partition(" ")
            result.setdefault(key, value)
        return result

    def fails(self, *args, **kw):
        """The message of a failure; a crash is none."""
        done = self.run(*args, **kw)
        assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
        return done.stderr.strip()

    def temp_files(self):
        return list((self.path / "tmp").iterdir())


def run_server(argv, port, **kw):
    proc = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **kw)
    try:
        wait_port(port, proc)
    except BaseException:
        stop(proc)
        raise
    return proc


def stop(proc):
    proc.terminate()
    try:
        proc.wait(10)
    except subprocess.TimeoutExpired:
        proc.kill()
        proc.wait()
