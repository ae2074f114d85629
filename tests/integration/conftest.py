# SPDX-License-Identifier: Apache-2.0
"""Fixtures: guests compiled from C, a store for the session, `wherry run`, a node of one's own."""
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

from common import WHERRY, Node


@pytest.fixture(scope="session")
def guests():
    """Compiles C guests: guests(name, source) is the path of name.wasm."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="wherry-guests-"))
    folder.chmod(0o755)

    def compile_guest(name, source):
        wasm = folder / f"{name}.wasm"
        if not wasm.exists():
            c = folder / f"{name}.c"
            c.write_text(source)
            subprocess.run(["clang", "--target=wasm32-wasi", "-Os", "-s", "-o", wasm, c], check=True)
        return wasm

    yield compile_guest
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def store():
    """One state folder for the whole session: images compile once."""
    folder = tempfile.mkdtemp(prefix="wherry-store-")
    os.chmod(folder, 0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def run(store):
    """run(*args) is `wherry run ...` to its end."""

    def call(*args, timeout=60, **kwargs):
        command = [WHERRY, "run", "--root", store, "--run-dir", f"{store}/run", *map(str, args)]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **kwargs)

    return call


@pytest.fixture
def node(tmp_path):
    folder = tempfile.mkdtemp(prefix="wherry-node-")
    os.chmod(folder, 0o755)
    n = Node(folder)
    yield n
    if n.process is not None:
        n.stop()
    shutil.rmtree(folder, ignore_errors=True)
