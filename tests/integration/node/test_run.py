# SPDX-License-Identifier: Apache-2.0
"""wherry run of one module: what a user sees."""
import os
import shutil
import signal
import subprocess
import time

import pytest

import guest_sources as src
from common import WHERRY


def test_arguments_streams_and_exit_code(run, guests):
    r = run(guests("exit", src.EXIT), 7, "two words", "--help")
    assert r.returncode == 7
    assert r.stdout == "arg 1: 7\narg 2: two words\narg 3: --help\n"
    assert r.stderr == "on stderr\n"


def test_environment_is_what_was_given(run, guests):
    env = {**os.environ, "SECRET": "hidden", "PASSED": "on"}
    r = run("--env", "A=1", "--env", "PASSED", guests("env", src.ENV), "A", "PASSED", "SECRET", env=env)
    assert r.stdout == "A=1\nPASSED=on\nSECRET=(unset)\n"


def test_folders_are_what_was_given(run, guests, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("hello\n")
    (tmp_path / "secret.txt").write_text("no\n")
    (tmp_path / "in" / "link").symlink_to("../secret.txt")
    cat = guests("cat", src.CAT)
    r = run("--dir", f"{tmp_path / 'in'}::/data", cat, "/data/a.txt", "/data/../secret.txt", "/data/link", "/etc/passwd")
    lines = r.stdout.splitlines()
    assert lines[0] == "hello"
    assert len(lines) == 4
    for line in lines[1:]:
        assert "no" not in line.split(":")[0].split("/") and ": " in line, line
    assert "root:" not in r.stdout


def test_read_only_folder(run, guests, tmp_path):
    write = guests("write", src.WRITE)
    assert run("--dir", f"{tmp_path}::/d:ro", write, "/d/x", "text").returncode == 3
    assert not (tmp_path / "x").exists()
    assert run("--dir", f"{tmp_path}::/d", write, "/d/x", "text").returncode == 0
    assert (tmp_path / "x").read_text() == "text"


def test_invoke(run, guests):
    r = run("--invoke", "add", guests("add", src.ADD), 40, 2)
    assert (r.returncode, r.stdout.strip()) == (0, "42")


def test_trap_is_134_and_says_where(run, guests):
    r = run(guests("trap", src.TRAP))
    assert r.returncode == 134
    assert "unreachable" in r.stderr


def test_deadline(run, guests):
    began = time.monotonic()
    r = run("--timeout", "300ms", guests("loop", src.LOOP))
    assert r.returncode == 137
    assert "DeadlineExceeded" in r.stderr
    assert time.monotonic() - began < 10


def test_stack_overflow_has_its_own_reason(run, guests):
    r = run(guests("stack", src.STACK))
    assert r.returncode == 134
    assert "StackOverflow" in r.stderr


def test_memory_limit_is_137(run, guests):
    r = run("--memory", "8Mi", guests("memory", src.MEMORY))
    assert "no memory after" in r.stderr
    assert r.returncode == 137
    assert "OutOfMemory" in r.stderr


def test_stop_without_handler(store, guests):
    p = subprocess.Popen([WHERRY, "run", "--root", store, guests("loop", src.LOOP)])
    time.sleep(0.7)
    p.send_signal(signal.SIGTERM)
    assert p.wait(10) == 143


def test_stop_with_handler(store, guests):
    p = subprocess.Popen([WHERRY, "run", "--root", store, guests("graceful", src.GRACEFUL)], stdout=subprocess.PIPE,
                         text=True)
    assert p.stdout.readline() == "waiting\n"
    p.send_signal(signal.SIGTERM)
    assert p.stdout.read() == "asked to stop: TERM\n"
    assert p.wait(10) == 7


def test_trace(run, guests, tmp_path):
    (tmp_path / "f").write_text("x\n")
    r = run("--trace", "--dir", f"{tmp_path}::/d", guests("cat", src.CAT), "/d/f")
    calls = [line for line in r.stderr.splitlines() if line.startswith("path_open(")]
    assert calls and '"f"' in calls[0] and "<" in calls[0]


def test_stdin(run, guests):
    source = '#include <stdio.h>\nint main(void) { int c; while ((c = getchar()) != EOF) putchar(c); return 0; }\n'
    assert run(guests("echo", source), input="over\nand out").stdout == "over\nand out"


@pytest.mark.parametrize("content,words", [
    (b"", ["not Wasm"]),
    (b"#!/bin/sh\n", ["not Wasm"]),
    (b"\0asm\x01\0\0", []),
    (b"\0asm\x0d\0\x01\0", ["component"]),
])
def test_what_is_no_module_is_said(run, tmp_path, content, words):
    bad = tmp_path / "bad.wasm"
    bad.write_bytes(content)
    r = run(bad)
    assert r.returncode == 1
    assert str(bad) in r.stderr or "bad.wasm" in r.stderr
    for word in words:
        assert word.lower() in r.stderr.lower(), r.stderr


def test_truncated_module(run, guests, tmp_path):
    whole = guests("exit", src.EXIT).read_bytes()
    cut = tmp_path / "cut.wasm"
    cut.write_bytes(whole[:len(whole) // 2])
    r = run(cut)
    assert r.returncode == 1
    assert r.stderr.startswith("wherry: ")


def test_missing_imports_are_named(run, tmp_path):
    wat = tmp_path / "refused.wat"
    wat.write_text('(module (import "env" "open_socket" (func (param i32) (result i32)))'
                   ' (import "wasi_snapshot_preview1" "sock_open" (func)) (memory (export "memory") 1) (func (export "_start")))')
    r = run(wat)
    assert r.returncode == 1
    assert "env.open_socket" in r.stderr and "sock_open" in r.stderr


def test_absent_file(run):
    r = run("/nonexistent/app.wasm")
    assert r.returncode == 1
    assert "/nonexistent/app.wasm" in r.stderr


def test_wrong_usage(run):
    assert run("--memroy", "1Mi", "x.wasm").returncode == 2
    assert "--memory" in run("--memroy", "1Mi", "x.wasm").stderr
    assert run().returncode == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_as_a_plain_user(guests, tmp_path):
    if not shutil.which("setpriv"):
        pytest.skip("setpriv is not installed")
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    for parent in [tmp_path, *tmp_path.parents][:3]:
        parent.chmod(0o755)
    r = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", WHERRY, "run", "--root",
                        home / "state", guests("exit", src.EXIT), "5"], capture_output=True, text=True, timeout=60,
                       check=False, env={"HOME": str(home), "PATH": os.environ["PATH"]})
    assert r.returncode == 5, r.stderr
    assert "arg 1: 5" in r.stdout
