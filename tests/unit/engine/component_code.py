#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""component_code.py COMPILE GUESTS.py NAME PROFILE OUT: compiled code of a guest of tests/guests/http
or tests/guests/components.

"unknown-import" is made here: a component that imports what nobody offers.

Where the tools for that guest are missing OUT is empty, and the tests that want it say so and skip.
"""
import os
import pathlib
import subprocess
import sys


def name_of(text: str) -> bytes:
    return bytes([0, len(text)]) + text.encode()


def section(number: int, content: bytes) -> bytes:
    return bytes([number, len(content)]) + content


def unknown_import() -> bytes:
    """A command with one import too many."""
    core = (b"\0asm\1\0\0\0" + section(1, b"\1\x60\0\1\x7f") + section(3, b"\1\0") + section(7, b"\1\3run\0\0") +
            section(10, b"\1\4\0\x41\0\x0b"))
    return (b"\0asm\x0d\0\1\0" + section(1, core) +
            section(7, b"\3" + b"\x42\2\1\x40\0\1\0\4" + name_of("f") + b"\1\0" +  # an instance with a function
                    b"\x6a\0\0" + b"\x40\0\0\1") +  # a result, a function with that result
            section(10, b"\1" + name_of("my:own/thing") + b"\5\0") +
            section(2, b"\1\0\0\0") + section(6, b"\1\0\0\1\0\3run") +  # an instance of the core, its function
            section(8, b"\1\0\0\0\0\2") +  # lifted
            section(5, b"\1\1\1" + name_of("run") + b"\1\0") +
            section(11, b"\1" + name_of("wasi:cli/run@0.2.0") + b"\5\1\0"))


def own_crate(name: str) -> pathlib.Path | None:
    """A guest of tests/guests/components."""
    crate = pathlib.Path(__file__).resolve().parents[2] / "guests" / "components" / name
    if not crate.is_dir():
        return None
    cache = pathlib.Path(os.environ.get("WHERRY_CACHE") or pathlib.Path.home() / ".cache" / "wherry")
    target = cache / "target" / "component-guests"
    done = subprocess.run(["cargo", "build", "--quiet", "--locked", "--release", "--target", "wasm32-wasip2",
                           "--target-dir", str(target), "--manifest-path", str(crate / "Cargo.toml")],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        if any(words in done.stdout for words in ("can't find crate for", "failed to download")):
            raise FileNotFoundError(name)
        raise RuntimeError(done.stdout)
    return target / "wasm32-wasip2" / "release" / f"{name.replace('-', '_')}.wasm"


def shared_guest(guests: str, name: str) -> pathlib.Path:
    built = subprocess.run([sys.executable, guests, name], stdout=subprocess.PIPE, text=True, check=False)
    if built.returncode == 77:
        raise FileNotFoundError(name)
    built.check_returncode()
    return pathlib.Path(built.stdout.split()[-1])


def main() -> int:
    compile_tool, guests, name, profile, out = sys.argv[1:]
    try:
        if name == "unknown-import":
            wasm = pathlib.Path(out + ".wasm")
            wasm.write_bytes(unknown_import())
        else:
            wasm = own_crate(name) or shared_guest(guests, name)
    except FileNotFoundError:
        pathlib.Path(out).write_bytes(b"")
        return 0
    return subprocess.run([compile_tool, profile, str(wasm), out], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
