# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a store, modules, registries, clients."""
import subprocess

import pytest

from image_tools import HELLO, PREPARE, Store, TOOL, free_port, peer, run_server, stop


@pytest.fixture(scope="session", autouse=True)
def built():
    if not TOOL.exists() or not PREPARE.exists():
        pytest.skip(f"{TOOL} is not built")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def make_wasm(tmp_path):
    def make(code=0, name="hello.wasm", text=None):
        source = tmp_path / (name + ".wat")
        source.write_text(text or HELLO.format(code=code))
        target = tmp_path / name
        subprocess.run(["wat2wasm", "--enable-all", str(source), "-o", str(target)], check=True)
        return target
    return make


@pytest.fixture(scope="session")
def crane_registry():
    """go-containerregistry's registry in memory: its host:port."""
    port = free_port()
    proc = run_server([str(peer("registry")), "-port", str(port)], port)
    yield f"127.0.0.1:{port}"
    stop(proc)


@pytest.fixture
def crane():
    tool = peer("crane")

    def run(*args, **kw):
        return subprocess.run([str(tool), *map(str, args)], check=True, capture_output=True, text=True, **kw).stdout.strip()
    return run


@pytest.fixture
def oras(tmp_path):
    tool = peer("oras")

    def run(*args, **kw):
        kw.setdefault("cwd", tmp_path)
        return subprocess.run([str(tool), *map(str, args)], check=True, capture_output=True, text=True, **kw).stdout.strip()
    return run
