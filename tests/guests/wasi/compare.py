#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs each guest on our WASI and on Wasmtime's own, and compares output, exit code and the tree it leaves.

The guests are C, Rust, Go and AssemblyScript programs that call every function and meet every error they can, and print
what they see. A difference is a failure unless it stands below with its reason; a reason that is no longer needed is a
failure too. Tools that cannot be had skip their guest, visibly. Output is TAP.
"""
import argparse
import difflib
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("WHERRY_CACHE") or pathlib.Path.home() / ".cache" / "wherry")
WHEEL = "wasmtime==48.0.0"
ASSEMBLYSCRIPT = "assemblyscript@0.28.20"
INPUT = b"line one\nline two\n"

# guest, our line, Wasmtime's line, why they differ.
EXPECTED = [
    ("fds", r"w_fd_allocate\(fd, 0, 100\) = 0", r"w_fd_allocate\(fd, 0, 100\) = 58",
     "Wasmtime has no fd_allocate any more; POSIX has posix_fallocate, and so have we"),
    ("fds", r"w_fd_fdstat_set_rights\(fd, READ, 0\) = 0", r"w_fd_fdstat_set_rights\(fd, READ, 0\) = 58",
     "the specification lets rights be given up; Wasmtime's preview 2 below has none"),
    ("fds", r"w_fd_filestat_set_times\(fd, 3000, 4000, 5\) = 0", r"w_fd_filestat_set_times\(fd, 3000, 4000, 5\) = 8",
     "Wasmtime's preopens are O_PATH, on which futimens fails; utimensat does not"),
    ("fds", r"filestat 3: 0, type 3 .* atim 3000 mtim 4000", r"filestat 3: 0, type 3 .* atim 0 mtim 0",
     "the same"),
    ("fds", r"fdstat [67]: 0, type 3 flags 0 base 3fb7ffbb inheriting 3fffffff",
     r"fdstat [67]: 0, type 3 flags 0 base 3fb7ffbb inheriting 3fb7ffbb",
     "wasi-libc asks for no right that a folder does not inherit: without FD_WRITE, openat beneath it could not write"),
    ("paths", r"stat '(f|lf|dangling)/\.?' = (54|44)", r"stat '(f|lf|dangling)/\.?' = 0 type .*",
     "Wasmtime overlooks the slash behind a single name; POSIX follows the link and asks for a folder"),
    ("paths", r"stat 'ld/\.?' = 0 type 3 .*", r"stat 'ld/\.?' = 0 type 7 .*", "the same"),
    ("paths", r"stat 'up/' = 63", r"stat 'up/' = 0 type 7 .*", "the same"),
    ("paths", r"times 'ld/\.?' = 0 mtim 6000", r"times 'ld/\.?' = 0 mtim 0",
     "the same: the line prints the stat behind it"),
    ("paths", r"rmdir '\S+/' = \d+", r"rmdir '\S+/' = (28|44|63)",
     "Wasmtime makes rmdir(\"dir/.\") of a slash, which is always EINVAL; POSIX lets a folder have one"),
]
TRAPS_EXPECTED = {
    14: "the buffer is checked before the read; Wasmtime reads first and reports what it read",
    15: "the buffer is checked before the descriptor; Wasmtime does it the other way round",
    41: "the engine's words, not WASI's",
    42: "the engine's words, not WASI's",
}


class Skip(Exception):
    pass


def need(tool: str) -> str:
    path = shutil.which(tool)
    if path is None:
        raise Skip(f"no {tool}")
    return path


def run(command: list[str], reason: str, **options) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    if done.returncode != 0:
        raise Skip(f"{reason}: {done.stdout.strip().splitlines()[-1:]}")


def slot(name: str, *sources: pathlib.Path, tool: str = "") -> pathlib.Path:
    """Where the compiled guest of these sources is kept."""
    digest = hashlib.sha256(tool.encode())
    for source in sorted(sources):
        digest.update(source.read_bytes())
    folder = CACHE / "guests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"wasi-{name}-{digest.hexdigest()[:16]}.wasm"


def build_c(name: str) -> pathlib.Path:
    source = HERE / "c" / f"{name}.c"
    wasm = slot(name, source, HERE / "c" / "wasi.h")
    if not wasm.is_file():
        partial = wasm.with_suffix(".partial")
        done = subprocess.run([need("clang"), "--target=wasm32-wasi", "-O1", "-Wall", "-Wno-format", "-o", str(partial),
                               str(source)], text=True, capture_output=True, check=False)
        if done.returncode != 0:
            if "unable to find" in done.stderr or "file not found" in done.stderr:
                raise Skip("clang has no wasi-libc")
            raise RuntimeError(done.stderr)
        partial.rename(wasm)
    return wasm


def build_rust() -> pathlib.Path:
    wasm = slot("rust", HERE / "rust" / "Cargo.toml", HERE / "rust" / "src" / "main.rs")
    if not wasm.is_file():
        with tempfile.TemporaryDirectory() as target:
            run([need("cargo"), "build", "--locked", "--release", "--target", "wasm32-wasip1", "--target-dir", target,
                 "--manifest-path", str(HERE / "rust" / "Cargo.toml")], "no Rust for wasm32-wasip1")
            shutil.move(f"{target}/wasm32-wasip1/release/wasi-guest.wasm", wasm)
    return wasm


def build_go() -> pathlib.Path:
    wasm = slot("go", HERE / "go" / "main.go", HERE / "go" / "go.mod")
    if not wasm.is_file():
        run([need("go"), "build", "-ldflags=-s -w", "-o", str(wasm), "."], "no Go for wasip1", cwd=HERE / "go",
            env={**os.environ, "GOOS": "wasip1", "GOARCH": "wasm"})
    return wasm


def build_assemblyscript() -> pathlib.Path:
    wasm = slot("as", HERE / "as" / "main.ts", tool=ASSEMBLYSCRIPT)
    if not wasm.is_file():
        with tempfile.TemporaryDirectory() as packages:
            run([need("npm"), "install", "--silent", "--no-audit", "--no-fund", "--prefix", packages, ASSEMBLYSCRIPT],
                "no AssemblyScript")
            source = pathlib.Path(packages) / "main.ts"
            shutil.copy(HERE / "as" / "main.ts", source)
            run([f"{packages}/node_modules/.bin/asc", "main.ts", "-O3", "--use", "abort=", "-o", "out.wasm"],
                "AssemblyScript failed", cwd=packages)
            shutil.move(f"{packages}/out.wasm", wasm)
    return wasm


def peer_python() -> str:
    """A Python that has the wheel: this one, the cached one, or a new one."""
    for python in (sys.executable, str(CACHE / "venv" / "bin" / "python")):
        probe = "import wasmtime; assert wasmtime.__version__ == '%s'" % WHEEL.split("==")[1]
        if pathlib.Path(python).exists() and subprocess.run([python, "-c", probe], capture_output=True).returncode == 0:
            return python
    run([sys.executable, "-m", "venv", str(CACHE / "venv")], "no venv")
    python = str(CACHE / "venv" / "bin" / "python")
    run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", WHEEL], f"no {WHEEL}")
    return python


def tree(root: pathlib.Path) -> list[str]:
    found = []
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            what = "-> " + os.readlink(path)
        elif path.is_dir():
            what = "folder"
        else:
            what = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        found.append(f"{path.relative_to(root)} {what}")
    return found


def run_one(command: list[str], wasm: pathlib.Path, arguments: list[str]) -> dict:
    with tempfile.TemporaryDirectory() as folder_name:
        folder = pathlib.Path(folder_name)
        (folder / "root").mkdir()
        (folder / "ro" / "d").mkdir(parents=True)
        (folder / "ro" / "f").write_text("content\n")
        done = subprocess.run(
            [*command, "--dir", f"{folder}/root::/", "--dir-ro", f"{folder}/ro::/ro", "--env", "A=1",
             "--env", "B=two words", str(wasm), *arguments], input=INPUT, capture_output=True, timeout=300, check=False)
        return {"code": done.returncode, "out": done.stdout.decode(errors="replace"),
                "err": done.stderr.decode(errors="replace"), "tree": tree(folder)}


def unexpected(guest: str, ours: str, theirs: str, used: set[int]) -> list[str]:
    """Lines that differ without a reason."""
    bad = []
    mine, other = ours.splitlines(), theirs.splitlines()
    for kind, i, i_end, j, j_end in difflib.SequenceMatcher(None, mine, other, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        pairs = list(zip(mine[i:i_end], other[j:j_end]))
        bad += [f"only ours: {line}" for line in mine[i + len(pairs):i_end]]
        bad += [f"only Wasmtime's: {line}" for line in other[j + len(pairs):j_end]]
        for a, b in pairs:
            known = [k for k, (name, x, y, _) in enumerate(EXPECTED)
                     if name == guest and re.fullmatch(x, a) and re.fullmatch(y, b)]
            used.update(known)
            if not known:
                bad.append(f"ours: {a} | Wasmtime's: {b}")
    return bad


class Tap:
    def __init__(self) -> None:
        self.n = self.failed = 0

    def tell(self, name: str, problems: list[str]) -> None:
        self.n += 1
        self.failed += 1 if problems else 0
        print(f"{'not ok' if problems else 'ok'} {self.n} {name}", flush=True)
        for line in problems[:40]:
            print(f"# {line}", flush=True)

    def skip(self, name: str, why: str) -> None:
        self.n += 1
        print(f"ok {self.n} {name} # SKIP {why}", flush=True)


def compare_guest(name: str, wasm: pathlib.Path, ours: list[str], peer: list[str]) -> list[str]:
    used: set[int] = set()
    a, b = run_one(ours, wasm, ["one", "two three"]), run_one(peer, wasm, ["one", "two three"])
    problems = unexpected(name, a["out"], b["out"], used) + unexpected(name, a["err"], b["err"], used)
    if a["code"] != b["code"]:
        problems.append(f"exit code: ours {a['code']}, Wasmtime's {b['code']}")
    if a["out"].count("\n") < 5:
        problems.append(f"it said hardly anything: {a['out']!r} {a['err']!r}")
    problems += [f"tree: {line}" for line in difflib.unified_diff(a["tree"], b["tree"], lineterm="", n=0)]
    problems += [f"this difference is gone: {e[1]}" for k, e in enumerate(EXPECTED) if e[0] == name and k not in used]
    return problems


def compare_traps(wasm: pathlib.Path, ours: list[str], peer: list[str]) -> list[str]:
    def words(result: dict) -> str:
        trap = [line for line in result["err"].splitlines() if line.startswith("trap: ")]
        return f"{result['code']} {trap[:1]}"

    problems = []
    for case in range(int(run_one(ours, wasm, [])["out"])):
        a, b = (words(run_one(command, wasm, [str(case)])) for command in (ours, peer))
        if not a.startswith("134"):
            problems.append(f"case {case} did not trap: {a}")
        if (a != b) != (case in TRAPS_EXPECTED):
            problems.append(f"case {case}: ours {a}, Wasmtime's {b}")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--runner", required=True, help="wasi-run, or another command with its options")
    a = parser.parse_args()
    tap = Tap()
    try:
        peer = [peer_python(), str(HERE / "peer.py")]
    except Skip as why:
        tap.skip("all guests", str(why))
        print("1..1")
        return 0
    guests = {name: (lambda name=name: build_c(name)) for name in ("fds", "paths", "misc")}
    guests |= {"rust": build_rust, "go": build_go, "assemblyscript": build_assemblyscript}
    for name, build in guests.items():
        try:
            tap.tell(name, compare_guest(name, build(), [a.runner], peer))
        except Skip as why:
            tap.skip(name, str(why))
    try:
        tap.tell("paths without openat2", compare_guest("paths", build_c("paths"), [a.runner, "--no-openat2"], peer))
    except Skip as why:
        tap.skip("paths without openat2", str(why))
    try:
        tap.tell("traps", compare_traps(build_c("traps"), [a.runner], peer))
    except Skip as why:
        tap.skip("traps", str(why))
    print(f"1..{tap.n}")
    return 1 if tap.failed else 0


if __name__ == "__main__":
    sys.exit(main())
