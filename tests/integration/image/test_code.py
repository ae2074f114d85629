# SPDX-License-Identifier: Apache-2.0
"""Compiled code: once per key, authenticated, whole or not at all; and what is said of modules that cannot run."""
import json
import os
import pathlib
import shutil
import signal
import sqlite3
import stat
import subprocess
import textwrap
import time

import pytest

from image_tools import PREPARE, TOOL, Store


def code_files(store):
    return sorted((store.path / "code").iterdir())


def counting_prepare(tmp_path, delay=0.0):
    """A prepare that notes each call, then is the real one."""
    log, script = tmp_path / "calls", tmp_path / "prepare.sh"
    script.write_text(f"#!/bin/sh\necho \"$1\" >>{log}\nsleep {delay}\nexec {PREPARE} \"$@\"\n")
    script.chmod(0o755)
    log.touch()
    return script, lambda: log.read_text().split()


def test_a_hit_starts_no_process(make_wasm, tmp_path):
    script, calls = counting_prepare(tmp_path)
    store = Store(tmp_path / "store", script)
    wasm = make_wasm()
    store.ok("pull", wasm)
    assert calls() == []
    assert store.ok("code", wasm)["cached"].startswith("compiled")
    assert calls() == ["identify", "compile"]
    assert store.ok("code", wasm)["cached"] == "hit"
    assert calls() == ["identify", "compile"]
    store.ok("code", wasm, "x", "shared")
    assert calls() == ["identify", "compile", "compile"]
    file = code_files(store)[0]
    assert stat.S_IMODE(file.stat().st_mode) == 0o444
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o700
    assert stat.S_IMODE((store.path / "node.key").stat().st_mode) == 0o600


def test_two_at_once_compile_once(make_wasm, tmp_path):
    script, calls = counting_prepare(tmp_path, 0.3)
    store = Store(tmp_path / "store", script)
    wasm = make_wasm()
    store.ok("pull", wasm)
    running = [subprocess.Popen(store.command("code", wasm), stdout=subprocess.PIPE, text=True) for _ in range(4)]
    outputs = [p.communicate(timeout=60)[0] for p in running]
    assert [p.returncode for p in running] == [0] * 4
    assert calls().count("compile") == 1
    assert sum("cached hit" in o for o in outputs) == 3
    assert store.temp_files() == []


@pytest.mark.parametrize("where", ["first", "middle", "last", "longer", "shorter", "writable", "link", "gone", "row", "mac"])
def test_tampered_code_is_compiled_again(store, make_wasm, tmp_path, where):
    wasm = make_wasm()
    store.ok("pull", wasm)
    store.ok("code", wasm)
    file = code_files(store)[0]
    data = bytearray(file.read_bytes())
    original = bytes(data)
    if where in ("first", "middle", "last"):
        at = {"first": 0, "middle": len(data) // 2, "last": len(data) - 1}[where]
        data[at] ^= 1
    elif where == "longer":
        data += b"\0"
    elif where == "shorter":
        data = data[:-1]
    if where == "gone":
        file.unlink()
    elif where == "link":
        shutil.copy(file, tmp_path / "copy")
        file.unlink()
        file.symlink_to(tmp_path / "copy")
    elif where in ("row", "mac"):
        with sqlite3.connect(store.path / "store.db") as db:
            db.execute("UPDATE code SET flags=0" if where == "row" else "UPDATE code SET mac=x'00'")
        db.close()
    else:
        file.chmod(0o644)
        file.write_bytes(data)
        file.chmod(0o644 if where == "writable" else 0o444)
    done = store.run("code", wasm)
    assert done.returncode == 0 and "cached compiled" in done.stdout, (done.stdout, done.stderr)
    assert ("failed its authentication" in done.stderr) == (where != "gone"), done.stderr
    assert code_files(store)[0].read_bytes() == original
    assert not code_files(store)[0].is_symlink()
    assert store.ok("code", wasm)["cached"] == "hit"


def test_code_of_another_node_is_worth_nothing(store, make_wasm, tmp_path):
    wasm = make_wasm()
    store.ok("pull", wasm)
    store.ok("code", wasm)
    (store.path / "node.key").write_bytes(bytes(32))
    assert store.ok("code", wasm)["cached"].startswith("compiled")
    (store.path / "node.key").write_bytes(bytes(31))
    assert "node.key" in store.fails("code", wasm)


def test_a_new_compiler_is_a_miss(make_wasm, tmp_path):
    script, calls = counting_prepare(tmp_path)
    store = Store(tmp_path / "store", script)
    wasm = make_wasm()
    store.ok("pull", wasm)
    store.ok("code", wasm)
    script.write_text(script.read_text().replace(
        "exec", 'if [ "$1" = identify ]; then echo wasmtime 99.0.0 r1 0; exit; fi\nexec'))
    assert store.ok("code", wasm)["cached"].startswith("compiled")
    assert len(code_files(store)) == 2


def test_killed_at_any_moment(make_wasm, tmp_path):
    """kill -9 while pulling and compiling: what is there afterwards is whole, and the next one succeeds."""
    wasm = make_wasm()
    seen = set()

    def start(store):
        return subprocess.Popen(["sh", "-c", f"{' '.join(store.command('pull', wasm))} && exec "
                                             f"{' '.join(store.command('code', wasm))}"],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)

    began = time.monotonic()
    start(Store(tmp_path / "whole")).wait()
    whole = time.monotonic() - began
    for i in range(25):
        store = Store(tmp_path / f"store{i}")
        proc = start(store)
        time.sleep(whole * i / 22)
        os.killpg(proc.pid, signal.SIGKILL)
        proc.wait()
        done = store.run("find", wasm)
        assert done.returncode in (0, 1), done.stderr
        seen.add((done.returncode, len(code_files(store)) if (store.path / "code").exists() else 0))
        assert store.ok("pull", wasm)["form"] == "module"
        assert store.ok("code", wasm)["command"] == "1"
        assert store.ok("code", wasm)["cached"] == "hit"
    assert len(seen) > 1, f"every kill came at the same stage: {seen}"


def test_a_killed_compiler_is_an_image_error(make_wasm, tmp_path):
    script = tmp_path / "prepare.sh"
    script.write_text(f"#!/bin/sh\n[ $1 = identify ] && exec {PREPARE} identify\nkill -SEGV $$\n")
    script.chmod(0o755)
    store = Store(tmp_path / "store", script)
    wasm = make_wasm()
    store.ok("pull", wasm)
    message = store.fails("code", wasm)
    assert message.startswith("CreateContainerError: ") and "signal 11" in message, message
    assert code_files(store) == [] and store.temp_files() == []


def in_mount_namespace(body, tmp_path):
    """Runs a Python body as root of an own mount namespace."""
    if os.geteuid() != 0:
        pytest.skip("needs root for a mount namespace")
    script = tmp_path / "body.py"
    script.write_text(textwrap.dedent(body))
    done = subprocess.run(["unshare", "--mount", "--propagation", "private", "/usr/bin/python3", str(script), str(TOOL),
                           str(PREPARE), str(tmp_path)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_full_disk(make_wasm, tmp_path):
    wasm = make_wasm()
    in_mount_namespace(f"""
        import os, pathlib, subprocess, sys
        tool, prepare, folder = sys.argv[1:4]
        disk = pathlib.Path(folder) / "disk"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)], check=True)
        filler = disk / "filler"
        filler.touch()
        def run(*args):
            return subprocess.run([tool, str(disk / "store"), prepare, *args], capture_output=True, text=True)
        assert run("pull", "{wasm}").returncode == 0
        def fill(spare):
            with open(filler, "r+b", buffering=0) as f:
                try:
                    while True:
                        f.seek(0, 2); assert f.write(bytes(4096)) == 4096
                except (OSError, AssertionError):
                    pass
            os.truncate(filler, filler.stat().st_size - spare)
        messages = []
        for spare in (0, 4096, 8192, 12288, 16384):
            fill(spare)
            done = run("code", "{wasm}")
            assert done.returncode in (0, 1), done
            if done.returncode == 1:
                messages.append(done.stderr)
                assert "No space left" in done.stderr or "full" in done.stderr, done.stderr
            assert list((disk / "store/tmp").iterdir()) == [], spare
        assert messages, "the disk was never full"
        filler.unlink()
        done = run("code", "{wasm}")
        assert done.returncode == 0, done.stderr
        assert "cached hit" in run("code", "{wasm}").stdout
        """, tmp_path)


# ---- what modules are told ----

@pytest.mark.parametrize("data,text", [
    (b"", "an empty file"),
    (b"\x7fELF" + bytes(60), "an ELF file"),
    (b"#!/bin/sh\n", "a script"),
    (b"PK\3\4" + bytes(20), "a zip archive"),
    (b"\0asm\1\0\0", "cut off"),
    (b"\0asm\2\0\0\0", "version"),
])
def test_files_that_are_no_modules(store, tmp_path, data, text):
    path = tmp_path / "x.wasm"
    path.write_bytes(data)
    message = store.fails("pull", path)
    assert message.startswith("ErrImagePull: ") and text in message, message


def code_message(store, tmp_path, data):
    path = tmp_path / "x.wasm"
    path.write_bytes(data)
    store.ok("pull", path)
    message = store.fails("code", path)
    assert message.startswith("CreateContainerError: x.wasm: "), message
    assert store.temp_files() == [] and code_files(store) == []
    return message


def test_truncated_component_and_garbage(store, tmp_path, make_wasm):
    wasm = make_wasm().read_bytes()
    assert "truncated" in code_message(store, tmp_path, wasm[:-3])
    assert "component" in code_message(store, tmp_path, b"\0asm\x0d\0\1\0" + wasm[8:])
    assert "it exports nothing; wanted is wasi:cli/run" in code_message(store, tmp_path, b"\0asm\x0d\0\1\0")
    assert "malformed" in code_message(store, tmp_path, wasm[:8] + b"\x02\x01\x7f")
    body = bytearray(wasm)
    body[-1] = 0xff
    assert "not valid Wasm" in code_message(store, tmp_path, bytes(body))


def test_all_missing_imports_are_listed(store, make_wasm):
    wasm = make_wasm(text="""(module
      (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "sock_open" (func))
      (import "env" "return_result" (func (param i32 i32 i32)))
      (import "wbg" "__wbg_log" (func))
      (import "odd" "na\\07me" (func))
      (import "env" "memory" (memory 1))
      (func (export "_start")))""")
    store.ok("pull", wasm)
    message = store.fails("code", wasm)
    for part in ("5 of 6 imports", "wasi_snapshot_preview1.sock_open", "env.return_result (a Suborbital", "wbg.__wbg_log (a browser"):
        assert part in message or part in json.loads(store.run("inspect", wasm).stdout)["missingImports"], (part, message)
    assert "fd_write" not in message and "\x07" not in message


def test_garbage_collection_is_found_by_trying(store, tmp_path):
    """(module (type (func)) (type (struct)) (func (export "_start") (drop (struct.new 1))))"""
    wasm = tmp_path / "gc.wasm"
    wasm.write_bytes(b"\0asm\1\0\0\0" + b"\1\6\2\x60\0\0\x5f\0" + b"\3\2\1\0" + b"\7\x0a\1\6_start\0\0"
                     + b"\x0a\x08\1\6\0\xfb\0\1\x1a\x0b")
    store.ok("pull", wasm)
    assert store.ok("code", wasm)["profile"] == "pod+gc"
    assert store.ok("code", wasm)["cached"] == "hit"
    assert store.ok("code", wasm, "x", "shared")["profile"] == "shared+gc"


def test_inspect(store, make_wasm):
    wasm = make_wasm()
    store.ok("pull", wasm)
    seen = json.loads(store.run("inspect", wasm).stdout)
    assert seen["imports"] == [{"kind": "function", "name": "wasi_snapshot_preview1.proc_exit"}]
    assert {"kind": "function", "name": "_start"} in seen["exports"]
    assert seen["command"] is True and seen["memoryMinPages"] == 1


# ---- housekeeping ----

def test_leases_removal_and_collection(store, make_wasm, tmp_path):
    a, b = make_wasm(code=1, name="a.wasm"), make_wasm(code=2, name="b.wasm")
    for wasm in (a, b):
        store.ok("pull", wasm)
        store.ok("code", wasm)
    store.ok("lease", "pod-1", a)
    store.ok("lease", "pod-1", a)
    assert store.ok("leases")["holder"] == "pod-1"
    assert "is used by a pod" in store.fails("rm", a)
    assert int(store.ok("gc", "0", "0", "0")["freed"]) > 0
    listed = store.run("ls").stdout.splitlines()
    assert len(listed) == 1 and listed[0].startswith(str(a)) and listed[0].endswith("used")
    assert store.ok("code", a)["cached"] == "hit", "a lease keeps the code too"
    assert "is not on this machine" in store.fails("find", b)
    store.ok("release", "pod-1")
    store.ok("rm", a)
    assert store.run("ls").stdout == ""
    assert "is not on this machine" in store.fails("rm", a)


def test_collection_spares_the_young(store, make_wasm):
    wasm = make_wasm()
    store.ok("pull", wasm)
    assert store.ok("gc", "120", "0", "0")["freed"] == "0"
    assert store.ok("find", wasm)["form"] == "module"


def test_what_a_crash_left_is_collected(store, make_wasm):
    wasm = make_wasm()
    store.ok("pull", wasm)
    store.ok("code", wasm)
    with sqlite3.connect(store.path / "store.db") as db:
        for table in ("code", "blob", "image", "ref", "image_blob"):
            db.execute(f"DELETE FROM {table}")
    db.close()
    tree = store.path / "rootfs" / ("sha256-" + "0" * 64)
    tree.mkdir()
    store.ok("gc", "0")
    assert code_files(store) and tree.exists(), "a young file may be about to count"
    time.sleep(2.1)
    store.ok("gc", "0", "85", "80", "1")
    assert code_files(store) == [] and not tree.exists()
    assert list((store.path / "blobs/sha256").iterdir()) == []
    assert list((store.path / "locks").iterdir()) == []


def test_text_modules(store, tmp_path):
    wat = tmp_path / "t.wat"
    wat.write_text('(module (func (export "_start")))')
    assert store.ok("pull", wat)["title"] == "t.wat"
    assert store.ok("code", wat)["command"] == "1"
    wat.write_text("(module (func")
    message = store.fails("pull", wat)
    assert message.startswith("ErrImagePull: ") and "t.wat" in message, message
    assert store.temp_files() == []


def test_as_a_plain_user(make_wasm, tmp_path):
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs root and setpriv to become a plain user")
    folder = pathlib.Path("/tmp") / f"wherry-plain-{os.getpid()}"
    folder.mkdir()
    try:
        os.chown(folder, 65534, 65534)
        shutil.copy(make_wasm(), folder / "hello.wasm")
        for program in (TOOL, PREPARE):
            shutil.copy(program, folder)
        def run(*args):
            return subprocess.run(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
                                   str(folder / TOOL.name), str(folder / "store"), str(folder / PREPARE.name), *args],
                                  capture_output=True, text=True, check=False)
        assert run("pull", str(folder / "hello.wasm")).returncode == 0
        done = run("code", str(folder / "hello.wasm"))
        assert "cached compiled" in done.stdout, done.stderr
    finally:
        shutil.rmtree(folder)
