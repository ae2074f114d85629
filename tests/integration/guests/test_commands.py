# SPDX-License-Identifier: Apache-2.0
"""Components of wasi:cli run as commands, in Rust and, by an adapter, in Go."""
import subprocess

import pytest

import guests as builder  # tests/guests/http, which conftest.py puts on the path
from common import WHERRY

COMMANDS = {"command-p2": "Rust", "command-go": "Go"}


@pytest.fixture(params=COMMANDS)
def command(request, store):
    try:
        wasm = builder.build(request.param)
    except builder.Skip as why:
        pytest.skip(str(why))

    def call(*args, path="", **options):
        line = [WHERRY, "run", "--root", store, "--run-dir", f"{store}/run", "--env", f"PATH_INFO={path}", wasm, *args]
        return subprocess.run([str(x) for x in line], capture_output=True, timeout=120, check=False, **options)

    call.language = COMMANDS[request.param]
    return call


def test_prints_and_ends(command):
    done = command()
    assert (done.returncode, done.stdout) == (0, f"Hello from {command.language}\n".encode()), done.stderr


def test_exit_code(command):
    """wasi:cli 0.2 knows good and bad only; the guest asks for 3."""
    assert command(path="/exit").returncode == 1


def test_a_trap_is_told(command):
    done = command(path="/trap")
    assert done.returncode not in (0, 3) and b"asked to trap" in done.stderr + done.stdout


def test_standard_input(command):
    data = bytes(i % 251 for i in range(200_000))
    done = command(path="/cat", input=data)
    assert (done.returncode, done.stdout) == (0, data), done.stderr


def test_arguments_and_environment(command):
    lines = command("one", "two three", path="/x/env").stdout.decode().splitlines()
    assert [line.split(" ", 2)[2] for line in lines if line.startswith("arg ")][1:] == ["one", "two three"]
    assert "PATH_INFO=/x/env" in lines


def test_sleeps(command):
    assert command(path="/sleep").stdout == b"slept\n"
