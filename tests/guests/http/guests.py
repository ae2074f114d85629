#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the guests that answer HTTP and says where they are.

    guests.py NAME...     builds these where needed, prints a path a line
    guests.py --list      prints the names with what each is

A guest is built once for its sources, its lock file and its tools' versions, and kept in ${WHERRY_CACHE}/guests. What
this machine has no tools for is a Skip with its reason: exit code 77.
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


NO_NETWORK = ("failed to download", "Could not resolve host", "getaddrinfo", "Temporary failure in name resolution")
NO_LIBC = ("unable to find", "file not found")


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


def rust(target: str, package: str | None = None) -> Callable[[str, pathlib.Path], None]:
    def make(name: str, out: pathlib.Path) -> None:
        name = package or name
        folder = CACHE / "target" / "http-guests"
        run([need("cargo"), "build", "--quiet", "--locked", "--release", "--target", target, "--package", name,
             "--target-dir", str(folder), "--manifest-path", str(HERE / "rust" / "Cargo.toml")],
            ("can't find crate for `core`", "can't find crate for `std`", *NO_NETWORK))
        built = folder / target / "release"
        library = built / f"{name.replace('-', '_')}.wasm"
        shutil.copy(library if library.is_file() else built / f"{name}.wasm", out)
    return make


def rust_guest(name: str, what: str, target: str = "wasm32-wasip2") -> tuple[str, Guest]:
    return name, Guest(what, ("rust/Cargo.toml", "rust/Cargo.lock", f"rust/{name}", "rust/shared"), rust(target))


def wit_tool() -> str:
    folder = CACHE / "target" / "wit-tool"
    run([need("cargo"), "build", "--quiet", "--locked", "--target-dir", str(folder), "--manifest-path",
         str(HERE / "wit-tool" / "Cargo.toml")], NO_NETWORK)
    return str(folder / "debug" / "wit-tool")


def wit(tool: str, version: str, folder: pathlib.Path) -> str:
    """Our world beside WASI's packages of that patch version."""
    folder.mkdir(parents=True)
    (folder / "world.wit").write_text((HERE / "wit" / "world.wit").read_text().replace("VERSION", version))
    run([tool, "wit", version, str(folder / "deps")])
    return str(folder)


def c_component(version: str) -> Callable[[str, pathlib.Path], None]:
    def make(_name: str, out: pathlib.Path) -> None:
        tool, here = wit_tool(), out.parent
        run([tool, "c", wit(tool, version, here / "wit"), "service", str(here)])
        run([need("clang"), "--target=wasm32-wasi", "-Os", "-s", "-mexec-model=reactor", f"-I{here}", "-o",
             str(here / "core"), str(HERE / "c" / "guest.c"), str(here / "service.c"),
             str(here / "service_component_type.o")], NO_LIBC)
        run([tool, "new", str(here / "core"), str(out), "reactor"])
    return make


def go_component(version: str) -> Callable[[str, pathlib.Path], None]:
    def make(_name: str, out: pathlib.Path) -> None:
        tool, here = wit_tool(), out.parent
        folder = here / "go"
        run([tool, "go", wit(tool, version, here / "wit"), "service", str(folder)])
        # The runtime of the bindings comes with the generator; its own name need not be resolved.
        shutil.copytree(pathlib.Path(run([tool, "go-runtime"]).strip()) / "wit", folder / "pkg" / "wit")
        (folder / "pkg" / "go.mod").write_text("module go.bytecodealliance.org/pkg\n\ngo 1.26\n")
        (folder / "go.mod").write_text("module wit_component\n\ngo 1.26\n\n"
                                       "require go.bytecodealliance.org/pkg v0.4.0\n\n"
                                       "replace go.bytecodealliance.org/pkg => ./pkg\n")
        handler = folder / "export_wasi_http_incoming_handler"
        handler.mkdir(exist_ok=True)
        shutil.copy(HERE / "go" / "guest.go", handler)
        run([need("go"), "build", "-trimpath", "-buildmode=c-shared", "-ldflags=-s -w -checklinkname=0", "-o",
             str(here / "core"), "."], ("requires go >=",), cwd=folder,
            env={**os.environ, "GOOS": "wasip1", "GOARCH": "wasm", "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"})
        run([tool, "new", str(here / "core"), str(out), "reactor", str(here / "wit"), "service"])
    return make


def js_component(version: str) -> Callable[[str, pathlib.Path], None]:
    def make(_name: str, out: pathlib.Path) -> None:
        tool, source = wit_tool(), HERE / "js"
        digest = hashlib.sha256((source / "package-lock.json").read_bytes()).hexdigest()[:16]
        packages = CACHE / "tools" / f"componentize-js-{digest}"
        if not (packages / "done").exists():
            shutil.rmtree(packages, ignore_errors=True)
            packages.mkdir(parents=True)
            for file in ("package.json", "package-lock.json"):
                shutil.copy(source / file, packages)
            # Not `ci`: it stumbles over optional packages of other platforms that the lock file leaves out.
            run([need("npm"), "install", "--no-audit", "--no-fund"],
                ("ENOTFOUND", "EAI_AGAIN", "ETIMEDOUT"), cwd=packages)
            (packages / "done").touch()
        shutil.copy(source / "build.mjs", packages)
        run([need("node"), "build.mjs", str(source / "guest.js"), wit(tool, version, out.parent / "wit"), "service",
             str(out)], cwd=packages)
    return make


def python_component(version: str) -> Callable[[str, pathlib.Path], None]:
    def make(_name: str, out: pathlib.Path) -> None:
        tool = wit_tool()
        venv = CACHE / "tools" / COMPONENTIZE_PY.replace("==", "-")
        if not (venv / "done").exists():
            run([sys.executable, "-m", "venv", str(venv)])
            run([str(venv / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", "--no-deps",
                 COMPONENTIZE_PY], ("No matching distribution",))
            (venv / "done").touch()
        shutil.copy(HERE / "python" / "app.py", out.parent)
        run([str(venv / "bin" / "componentize-py"), "-d", wit(tool, version, out.parent / "wit"), "-w", "service",
             "componentize", "app", "-o", str(out)], cwd=out.parent)
    return make


def c_function(name: str, out: pathlib.Path) -> None:
    source = HERE / "p1" / "c" / f"{name.removesuffix('-c')}.c"
    run([need("clang"), "--target=wasm32-wasi", "-Os", "-s", "-o", str(out), str(source)], NO_LIBC)


def go_function(_name: str, out: pathlib.Path) -> None:
    run([need("go"), "build", "-trimpath", "-ldflags=-s -w", "-o", str(out), "."], cwd=HERE / "p1" / "go",
        env={**os.environ, "GOOS": "wasip1", "GOARCH": "wasm"})


def go_command(name: str, out: pathlib.Path) -> None:
    go_function(name, out.parent / "core")
    run([wit_tool(), "new", str(out.parent / "core"), str(out), "command"])


def as_function(_name: str, out: pathlib.Path) -> None:
    packages = CACHE / "tools" / ASSEMBLYSCRIPT.replace("@", "-")
    if not (packages / "done").exists():
        run([need("npm"), "install", "--no-audit", "--no-fund", "--prefix", str(packages), ASSEMBLYSCRIPT],
            ("ENOTFOUND", "EAI_AGAIN", "ETIMEDOUT"))
        (packages / "done").touch()
    shutil.copy(HERE / "p1" / "as" / "main.ts", out.parent)
    run([str(packages / "node_modules" / ".bin" / "asc"), "main.ts", "-O3", "--use", "abort=", "-o", str(out)],
        cwd=out.parent)


ASSEMBLYSCRIPT = "assemblyscript@0.28.20"
COMPONENTIZE_PY = "componentize-py==0.25.1"
WIT = ("wit", "wit-tool/Cargo.toml", "wit-tool/Cargo.lock", "wit-tool/src")

# Five patch versions of WASI 0.2, as guests in the wild have them.
GUESTS: dict[str, Guest] = dict((
    rust_guest("hello-p2", "wasi:http 0.2.12 in Rust: the smallest answer"),
    rust_guest("hello-p3", "wasi:http 0.3.2 in Rust: the smallest answer"),
    rust_guest("many-p2", "wasi:http 0.2.12 in Rust: does by path what a test asks for"),
    rust_guest("many-p3", "wasi:http 0.3.2 in Rust: the same"),
    ("c-p2", Guest("wasi:http 0.2.3 in C: hello and /echo", ("c", *WIT), c_component("0.2.3"))),
    ("go-p2", Guest("wasi:http 0.2.6 in Go: hello and /echo", ("go", *WIT), go_component("0.2.6"))),
    ("js-p2", Guest("wasi:http 0.2.10 in JavaScript: hello and /echo", ("js", *WIT), js_component("0.2.10"))),
    ("python-p2", Guest("wasi:http 0.2.8 in Python: hello and /echo", ("python", *WIT), python_component("0.2.8"),
                        COMPONENTIZE_PY)),
    ("hello-c", Guest("WASI preview 1 in C: the smallest CGI function", ("p1/c/hello.c",), c_function)),
    ("function-c", Guest("WASI preview 1 in C: does by path what a test asks for", ("p1/c/function.c",), c_function)),
    rust_guest("function-rust", "WASI preview 1 in Rust: hello, cat, env, exit, trap, sleep", "wasm32-wasip1"),
    ("command-p2", Guest("wasi:cli/run 0.2 in Rust: the same program as a component",
                         ("rust/Cargo.toml", "rust/Cargo.lock", "rust/function-rust"),
                         rust("wasm32-wasip2", "function-rust"))),
    ("command-go", Guest("wasi:cli/run 0.2 in Go, by an adapter", ("p1/go", *WIT), go_command)),
    ("function-go", Guest("WASI preview 1 in Go: the same", ("p1/go",), go_function)),
    ("function-as", Guest("WASI preview 1 in AssemblyScript: hello, cat, env, exit, trap", ("p1/as",), as_function,
                          ASSEMBLYSCRIPT)),
))


def files(names: tuple[str, ...]) -> Iterator[pathlib.Path]:
    for name in names:
        path = HERE / name
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (file for file in found if file.is_file() and file.parent.name != "__pycache__")


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
