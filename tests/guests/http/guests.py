#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the guests that answer HTTP and says where they are.

    guests.py NAME...     builds these where needed, prints a path a line
    guests.py --list      prints the names with what each is

A guest is built once for its sources, its lock file and its tools' versions, and kept in ${WHERRY_CACHE}/guests. What this
machine has no tools for is a Skip with its reason: exit code 77.
"""
import argparse
import dataclasses
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("WHERRY_CACHE") or pathlib.Path.home() / ".cache" / "wherry")
MINUTES = 60


class Skip(Exception):
    """The tools for it cannot be had here."""


@dataclasses.dataclass(frozen=True)
class Guest:
    what: str
    sources: tuple[str, ...]  # below HERE; folders count with all files in them
    make: Callable[[str, pathlib.Path], None]  # name, output
    tools: str = ""  # versions that are not in a lock file


def need(tool: str) -> str:
    path = shutil.which(tool) or shutil.which(tool, path=f"{pathlib.Path.home()}/.cargo/bin:/usr/local/go/bin")
    if path is None:
        raise Skip(f"no {tool}")
    return path


def run(command: list[str], absent: tuple[str, ...] = (), **options) -> str:
    """Runs a tool. What it says with one of the words in `absent` means that something is not installed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                          timeout=20 * MINUTES, **options)
    if done.returncode != 0:
        for words in absent:
            if words in done.stdout:
                raise Skip(f"{pathlib.Path(command[0]).name}: {words}")
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-4000:]}")
    return done.stdout


NO_NETWORK = ("failed to download", "Could not resolve host", "getaddrinfo", "Temporary failure in name resolution")


def rust(target: str) -> Callable[[str, pathlib.Path], None]:
    def make(name: str, out: pathlib.Path) -> None:
        folder = CACHE / "target" / "http-guests"
        run([need("cargo"), "build", "--quiet", "--locked", "--release", "--target", target, "--package", name,
             "--target-dir", str(folder), "--manifest-path", str(HERE / "rust" / "Cargo.toml")],
            ("can't find crate for `core`", "can't find crate for `std`", *NO_NETWORK))
        built = folder / target / "release"
        found = [built / f"{stem}.wasm" for stem in (name, name.replace("-", "_")) if (built / f"{stem}.wasm").is_file()]
        shutil.copy(found[0], out)
    return make


def rust_guest(name: str, what: str, target: str = "wasm32-wasip2") -> tuple[str, Guest]:
    return name, Guest(what, ("rust/Cargo.toml", "rust/Cargo.lock", f"rust/{name}", "rust/shared"), rust(target))


GUESTS: dict[str, Guest] = dict((
    rust_guest("hello-p2", "wasi:http 0.2.12 in Rust: the smallest answer"),
    rust_guest("hello-p3", "wasi:http 0.3.2 in Rust: the smallest answer"),
    rust_guest("many-p2", "wasi:http 0.2.12 in Rust: does by path what a test asks for"),
    rust_guest("many-p3", "wasi:http 0.3.2 in Rust: the same"),
))


def files(names: tuple[str, ...]) -> Iterator[pathlib.Path]:
    for name in names:
        path = HERE / name
        yield from sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def slot(name: str) -> pathlib.Path:
    guest = GUESTS[name]
    digest = hashlib.sha256(guest.tools.encode())
    for path in files(guest.sources):
        digest.update(f"\0{path.relative_to(HERE)}\0".encode() + path.read_bytes())
    return CACHE / "guests" / f"http-{name}-{digest.hexdigest()[:16]}.wasm"


def build(name: str) -> pathlib.Path:
    """The compiled guest, made now if it is not there."""
    wasm = slot(name)
    if wasm.is_file():
        return wasm
    wasm.parent.mkdir(parents=True, exist_ok=True)
    with open(wasm.parent / ".http.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not wasm.is_file():
            with tempfile.TemporaryDirectory(dir=wasm.parent) as folder:
                partial = pathlib.Path(folder) / "guest.wasm"
                GUESTS[name].make(name, partial)
                partial.rename(wasm)
    return wasm


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--list", action="store_true", help="what there is")
    parser.add_argument("names", nargs="*", metavar="NAME", help="all: each of them")
    asked = parser.parse_args()
    if asked.list:
        print("\n".join(f"{name:16} {guest.what}" for name, guest in GUESTS.items()))
        return 0
    rc = 0
    for name in list(GUESTS) if asked.names == ["all"] else asked.names:
        if name not in GUESTS:
            print(f"there is no guest '{name}'; there are: {' '.join(GUESTS)}", file=sys.stderr)
            return 2
        try:
            print(build(name))
        except Skip as why:
            print(f"{name} is skipped: {why}", file=sys.stderr)
            rc = 77
    return rc


if __name__ == "__main__":
    sys.exit(main())
